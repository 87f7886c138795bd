"""Datasets from the Hub, through the real ``datasets`` library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from hubserver import HubServer

CARD = """---
configs:
- config_name: mnist
  data_files:
  - {split: train, path: mnist/train-*}
  - {split: test, path: mnist/test-*}
---
"""
PROGRAM = """
import stzoo
videos = stzoo.dataset("moving-mnist", "test", digits="hub", size=3)
print(len(videos), videos.digits.shape, int(videos.digits.sum()), videos[0]["video"].shape)
"""


def test_moving_mnist_from_digits_on_the_hub(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image
    from PIL import Image as Picture

    digits = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    files: dict[str, bytes | Path] = {"README.md": CARD.encode()}
    for split, part in (("train", 255 - digits), ("test", digits)):
        table = Dataset.from_dict(
            {"image": [Picture.fromarray(digit) for digit in part]}, features=Features(image=Image())
        )
        table.to_parquet(str(tmp_path / split))
        files[f"mnist/{split}-00000-of-00001.parquet"] = tmp_path / split
    with HubServer(tmp_path / "hub") as hub:
        hub.put("ylecun/mnist", files, repo_type="dataset")
        environment = os.environ | hub.env(tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"3 (40, 28, 28) {digits.sum()} (20, 1, 64, 64)"
