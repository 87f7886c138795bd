"""Weights that no process has all of: FSDP2 gives what DistributedDataParallel gives, resumes, evaluates, averages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commandline import Install
from mortal import Server
from test_training import RECIPES, TOY, TOYS, equal, folder_of_pairs, weights

from stzoo.training.launch import tell_deepspeed
from stzoo.training.run import Run

pytest_plugins = ("commandline",)

WIDE = (
    TOYS.replace(
        "    for name in",
        """    yield Architecture("wide", "scaling", "toys:wide", recipe="toys:Plain")
    for name in""",
    )
    + """
def wide():
    from stzoo import Requirements
    from torch.nn import BatchNorm2d, Conv2d, Sequential
    network = Sequential(Conv2d(1, 3, 3, padding=1), BatchNorm2d(3), Conv2d(3, 1, 3, padding=1))
    network.requirements = Requirements(channels=1)
    return network
"""
)


def test_fsdp2_on_two_processes(forks: Server, tmp_path: Path, plugin: Install) -> None:
    site = plugin("toys", WIDE)
    (site / "toys" / "recipes.py").write_text(RECIPES)
    options = TOY | {
        "steps": 6, "batch_size": 1, "accumulate": 2, "evaluate_every": 3, "checkpoint_every": 3, "clip": 0.1, "ema": 0.5,
        "lr_scale": {"*weight": 0.5},  # groups of parameters in another order than the network's
        "freeze": ["2.bias"],
    }  # fmt: skip
    script = Path(__file__).parent / "sharded.py"
    words = [
        script,
        folder_of_pairs(tmp_path / "data"),
        tmp_path,
        json.dumps(options),
        "adversarial",
        "staged",
        "fitted",
    ]
    assert forks.run(words, tmp_path / "log", 2, site=str(site)) == [0, 0], (tmp_path / "log").read_text()
    ddp, whole, torn = (Run(tmp_path / name) for name in ("ddp", "whole", "torn"))
    assert list((torn.folder / "checkpoints").glob("*/pytorch_model_fsdp_0")), "the weights were sharded"
    for which in ("best", "last"):
        assert equal(weights(torn, which), weights(whole, which))
        for key, value in weights(ddp, which).items():
            torch.testing.assert_close(weights(whole, which)[key], value, atol=1e-6, rtol=1e-4)
    assert whole.record["start"] == pytest.approx(ddp.record["start"], rel=1e-5)
    refusals = json.loads((tmp_path / "refusals.json").read_text())
    assert "several optimizers" in refusals["adversarial"]
    assert "in stages or in one go" in refusals["staged"] and "in stages or in one go" in refusals["fitted"]


def test_deepspeed_is_told_the_options_of_the_run() -> None:
    options = {"batch_size": 4, "accumulate": 2, "clip": None}
    made = {"gradient_clipping": "auto", "gradient_accumulation_steps": 1, "zero_optimization": {"stage": 3}}
    tell_deepspeed(made, options)
    assert made == {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.0,
        "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
    }
    chosen = {"gradient_clipping": 2.0, "zero_optimization": {"stage": 2}}
    tell_deepspeed(chosen, options)
    assert chosen["gradient_clipping"] == 2.0 and chosen["zero_optimization"] == {"stage": 2}
    tell_deepspeed(chosen, options | {"clip": 0.5})
    assert chosen["gradient_clipping"] == 0.5
