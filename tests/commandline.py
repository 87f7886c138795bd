"""What the tests of the command line share: fixtures, a plugin with a task of its own, a small model, clips.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

import stzoo
from stzoo import media, registry
from stzoo.cli import main
from stzoo.requirements import Requirements

Cli = Callable[..., tuple[int, str, str]]
"""Runs a command in this process; returns exit code, stdout and stderr."""
Install = Callable[[str, str], Path]
"""Makes a plugin, named as its package, that this process finds as if it were installed; returns where it is."""

TINY = {"hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2, "in_shape": (4, 1, 16, 16)}

TOY = """
from stzoo import Architecture, Model, Measurement, Pipeline, Requirements, Task, Weights, hookimpl
from stzoo.fields import Choice, Image, Number

@hookimpl
def stzoo_tasks():
    yield Task(
        name="comparison",
        description="Compare a picture with another",
        inputs=(Image("picture", "One"), Image("other_one", "100% of another")),
        outputs=(Image("difference"), Image("map"), Number("score")),
        options=(
            Choice("norm", "Which norm", "l1", choices=("l1", "l2")),
            Number("format", "Clashes", default=1, minimum=0),
        ),
        pipeline="toy:Compare",
    )

@hookimpl
def stzoo_architectures():
    yield Architecture("subtraction", "comparison", "toy:build", defaults={"gain": 1.0}, description="Subtracts")

@hookimpl
def stzoo_models():
    numbers = Measurement("pairs", "error", 9.0, "published"), Measurement("pairs", "error", 12.5)
    common = {"architecture": "subtraction", "metrics": numbers}
    yield Model("subtraction-pairs", weights=Weights("toy/pairs", size=2_500_000), license="cc-by-nc-4.0",
                parameters=1_200_000, description="Ein schönes Modell", command="train it",
                requirements=Requirements(channels=1, multiple=4), **common)
    yield Model("subtraction-empty", **common)

class Compare(Pipeline):
    def forward(self, module, batch, options):
        difference = (batch["picture"] - batch["other_one"]).abs() * options["format"]
        score = (difference if options["norm"] == "l1" else difference**2).mean(dim=(1, 2, 3))
        return {"difference": difference, "map": difference, "score": score}

    def postprocess(self, outputs, values):
        return dict(outputs)

def build(**config):
    import torch
    return torch.nn.Linear(1, 1)
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    installed = []

    def install(name: str, source: str) -> Path:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[stzoo]\n{name} = {name}\n")
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        registry._registry.cache_clear()
        installed.append(name)
        return site

    yield install
    registry._registry.cache_clear()
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved, untrained TAU that takes 4 frames."""
    torch.manual_seed(0)
    return stzoo.create("tau", **TINY).save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clip of 6 grey frames, 16x16, in several formats, and one that is too short."""
    folder = tmp_path_factory.mktemp("clips")
    clip = media.sample_clip(6, Requirements(channels=1, native_size=(16, 16)))
    for name in ("a.gif", "b.npz", "c.mp4"):
        media.write_video(clip, folder / name)
    media.write_video(clip[:2], folder / "short.npz")
    return folder


def run_python(words: Sequence[object], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=600, check=False
    )
