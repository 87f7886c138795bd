"""Data sets from the Hub, through the real ``datasets`` library: one process asks a Hub for all of them, then none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from clipfiles import clip, parquet, store
from hubserver import HubServer
from PIL import Image as Picture

RAIN = """---
license: cc-by-4.0
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train-*}
  - {split: test, path: small/test-*}
---
"""
MNIST = """---
configs:
- config_name: mnist
  data_files:
  - {split: train, path: mnist/train-*}
  - {split: test, path: mnist/test-*}
---
"""
PROGRAM = """
import json
import datasets, huggingface_hub, stzoo
from stzoo import errors
from stzoo.data import open_data
from stzoo.fields import Video
from stzoo.spec import Task
from stzoo.requirements import Requirements
task = Task("clips", inputs=(Video("video"),), outputs=(Video("video"),))
needs = Requirements(channels=1)
opened, refused = [], []
for source, split, streaming in (
    ("acme/rain", None, False),
    ("acme/rain?revision=main&frames=6", "test", True),
    ("acme/films?frames=6&stride=3", "train", False),
    ("acme/films", None, True),
):
    examples = open_data(source, task, split, requirements=needs, streaming=streaming)
    shapes = [item["video"].shape for item in examples]
    opened.append([examples.split, examples.license, len(shapes), shapes[0]])
for source, split in (
    ("acme/rain", "extra"), ("acme/rain?config=large", None), ("acme/rian", None), ("acme/rain?revision=v9", None),
    ("acme/rain?config=small&video=label", None),
):
    try:
        refused.append(str(open_data(source, task, split, requirements=needs)[0]))
    except errors.StzooError as problem:
        refused.append(f"{type(problem).__name__} {problem}")
videos = stzoo.dataset("moving-mnist", "test", digits="hub", size=3)
digits = [len(videos), videos.digits.shape, int(videos.digits.sum()), videos[0]["video"].shape]
huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
offline = len(open_data("acme/rain", task))
print(json.dumps({"opened": opened, "refused": refused, "digits": digits, "offline": offline}))
"""
DIGITS = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found."""
    tmp_path = tmp_path_factory.mktemp("data")
    films: dict[str, bytes | Path] = {f"train/{number}.mp4": store(tmp_path / f"{number}.mp4") for number in range(2)}
    rain: dict[str, bytes | Path] = {"README.md": RAIN.encode()}
    mnist: dict[str, bytes | Path] = {"README.md": MNIST.encode()}
    pictures, frames = datasets.List(datasets.Image()), [Picture.fromarray(frame[0]) for frame in clip()]
    for split, number, digits in (("train", 3, 255 - DIGITS), ("test", 2, DIGITS)):
        path = tmp_path / f"{split}.parquet"
        rain[f"small/{split}-0.parquet"] = parquet(path, "film", [frames] * number, pictures, label=[1] * number)
        path = tmp_path / f"digits-{split}.parquet"
        mnist[f"mnist/{split}-0.parquet"] = parquet(
            path, "image", list(map(Picture.fromarray, digits)), datasets.Image()
        )
    with HubServer(tmp_path / "hub") as hub:
        for name, files in {"acme/rain": rain, "acme/films": films, "ylecun/mnist": mnist}.items():
            hub.put(name, files, repo_type="dataset")
        environment = os.environ | hub.env(tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_data_sets_on_the_hub(found: dict[str, Any]) -> None:
    assert found["opened"] == [
        ["test", "cc-by-4.0", 2, [12, 1, 16, 24]],
        ["test", "cc-by-4.0", 4, [6, 1, 16, 24]],
        ["train", "", 6, [6, 1, 16, 24]],
        ["train", "", 2, [12, 1, 16, 24]],
    ]
    assert found["offline"] == 2, "what was downloaded needs no Hub"


def test_what_the_hub_does_not_have(found: dict[str, Any]) -> None:
    for line, words in zip(
        found["refused"],
        (
            "SplitMissing the data set 'acme/rain' has no split 'extra'. Splits: train, test",
            "DatasetError acme/rain cannot be opened (ValueError: BuilderConfig 'large' not found",
            "UnknownDataset there is no folder acme/rian, and no such data set on the Hub (datasets.exceptions.DatasetNotFoundError:",
            "DatasetError acme/rain cannot be opened (datasets.exceptions.DatasetNotFoundError: Revision 'v9' doesn't exist",
            "DatasetError acme/rain: example 0: video: shape () is not a clip",
        ),
        strict=True,
    ):
        assert line.startswith(words), line


def test_moving_mnist_from_digits_on_the_hub(found: dict[str, Any]) -> None:
    assert found["digits"] == [3, [40, 28, 28], DIGITS.sum(), [20, 1, 64, 64]]
