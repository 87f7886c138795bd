"""Run folders as a training leaves them, without training. PYTEST_DONT_REWRITE: there are no assertions here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from commandline import TINY
from PIL import Image

import stzoo
from stzoo.results import Evaluation, ModelResult, Summary

RECORD: dict[str, Any] = {
    "format_version": 1,
    "status": "finished",
    "model": "tau-mmnist",
    "base_model": "stzoo/tau-mmnist",
    "license": "apache-2.0",
    "data": "/home/somebody/clips/rain",
    "data_license": "cc-by-4.0",
    "task": "video-prediction",
    "architecture": "tau",
    "command": "stzoo finetune tau-mmnist --data /home/somebody/clips/rain --output ../runs/a",
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 4980.0,
    "step": 1200,
    "steps": 1200,
    "epochs": 3.5,
    "hardware": "CPU, 2 cores, 1 thread each process",
    "versions": {"stzoo": "0.1.0", "torch": "2.13.0"},
    "config": {"batch_size": 8, "clip": None, "freeze": ["enc.*"], "validation": "/home/somebody/clips/later"},
    "recipe": {"name": "TAURecipe", "lr": 0.0001},
    "monitor": "mse",
    "start": {"mse": 31.25, "ssim": 0.5},
    "best": {"step": 1000, "mse": 12.125, "ssim": 0.75},
    "validation": {"data": "/home/somebody/clips/rain", "split": "validation", "examples": 64},
}


def make_run(folder: Path, *, evaluated: bool = True, seed: int = 0, **changes: Any) -> Path:
    """A run folder whose ``best/`` is a small untrained TAU; ``changes`` are made to its record."""
    torch.manual_seed(seed)
    model = stzoo.create("tau", **TINY)
    record = RECORD | changes
    lineage = {"license": record["license"], "base_model": record["base_model"], "trained_on": record["data"]}
    model.extra = {key: value for key, value in lineage.items() if value}
    model.save(folder / "best")
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "pictures").mkdir()
    for step in (0, 1000, 1200):
        Image.new("RGB", (8, 8), (step // 8, 0, 0)).save(folder / "pictures" / f"step-{step:09d}.png")
    if evaluated:
        (folder / "evaluation.json").write_text(make_evaluation(folder).to_json())
    return folder


def make_evaluation(run: Path, data: str = "/home/somebody/clips/rain", **changes: Any) -> Evaluation:
    """What ``stzoo evaluate RUN tau-mmnist --record`` writes."""
    sha256 = json.loads((run / "best" / "config.json").read_text())["stzoo"]["sha256"]
    models = [(str(run), False, 11.875, sha256), ("tau-mmnist", False, 30.5, "1" * 64), ("persistence", True, 42.0, "")]
    values: dict[str, Any] = {
        "task": "video-prediction",
        "data": data,
        "split": "test",
        "examples": 120,
        "failed": 0,
        "failures": (),
        "models": tuple(
            ModelResult(
                name, baseline, {"mse": Summary(mse, mse - 1, mse + 1)}, 3.0, None if baseline else 20.0, sha256=digest
            )
            for name, baseline, mse, digest in models
        ),
        "better": {"mse": "lower"},
        "options": {},
        "confidence": 0.95,
        "notes": (),
        "hardware": "CPU, 2 cores",
        "versions": {"stzoo": "0.1.0"},
        "command": f"stzoo evaluate {run} tau-mmnist --data {data}",
        "date": "2026-01-03T00:00:00+00:00",
    }
    return Evaluation(**values | changes)
