"""Recipes that change the sizes of parameters, that set a network up from the data, and that run by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import Cli, Install
from test_training import killed

import stzoo
from stzoo import errors
from stzoo.data import open_data
from stzoo.learning import learn
from stzoo.training.loop import finetune
from stzoo.training.run import Run

pytest_plugins = ("commandline",)

SOURCE = '''
import json
from stzoo import Architecture, Metric, Task, hookimpl
from stzoo.fields import Image

@hookimpl
def stzoo_tasks():
    yield Task(
        "adding", inputs=(Image("picture"),), outputs=(Image("brighter"),), metrics=(Metric("error", "growing:error"),),
        reader="growing:read",
    )

@hookimpl
def stzoo_architectures():
    yield Architecture("sum", "adding", "growing:build", {"terms": 1, "first": 0.0}, recipe="growing:Growing")
    yield Architecture("calibrated", "adding", "growing:build", {"terms": 1, "first": 0.0}, recipe="growing:Calibrated")

def error(prediction, target):
    return float(abs(prediction - target).mean())

def read(path, every=2):
    """A file pictures.json: brightness of each picture."""
    import numpy as np

    if not (path / "pictures.json").is_file():
        return None
    rows = [
        {"picture": np.full((1, 4, 4), value, np.float32), "brighter": np.full((1, 4, 4), value + 0.5, np.float32)}
        for value in json.loads((path / "pictures.json").read_text())
    ]
    test = rows[::every]
    return {"train": [item for item in rows if all(item is not other for other in test)], "test": test}

def build(terms, first):
    import torch

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.terms = torch.nn.Parameter(torch.full((terms,), first))

        def forward(self, x):
            return x + self.terms.sum()

    return Sum()

def __getattr__(name):
    import importlib
    return getattr(importlib.import_module("growing.recipe"), name)
'''
RECIPE = """
import torch
from stzoo.recipe import Recipe

class Growing(Recipe):
    grows = True
    defaults = {"steps": 5, "batch_size": 1}

    def __init__(self, every: int = 3):
        self.every, self.first = every, 0.0

    def samples(self, examples):
        self.first = float(examples[0]["picture"].mean())
        return examples

    def start(self, module, trained):
        if not trained:
            module.terms.fill_(self.first)

    def config(self, module):
        return {"terms": len(module.terms)}

    def optimizers(self, module, total_steps):
        self.optimizer = torch.optim.Adam(self.groups(module, 0.01))
        return [(self.optimizer, torch.optim.lr_scheduler.ConstantLR(self.optimizer, 1.0))]

    def losses(self, module, batch, step):
        return {"error": (module(batch["picture"]) - batch["brighter"] + 0.01 * torch.randn(())).square().mean()}

    def after_step(self, module, step):
        if (step + 1) % self.every == 0:
            parts = torch.cat([module.terms.data, module.terms.data[:1] * 0])
            module.terms.data, module.terms.grad = parts, None
            state = self.optimizer.state[module.terms]
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.cat([state[name], state[name][:1] * 0])

class Calibrated(Growing):
    grows = False
    after_step = Recipe.after_step

    def calibrate(self, predictor, held_out):
        assert not predictor.module.training
        self.chosen = float(held_out[0]["picture"].mean() + predictor.module.terms.detach().sum())

    def config(self, module):
        return {"first": self.chosen} if hasattr(self, "chosen") else {}
"""
OPTIONS: dict[str, Any] = {
    "steps": 8, "batch_size": 1, "evaluate_every": 8, "checkpoint_every": 2, "pictures": 0, "trackers": [], "log_every": 1,
}  # fmt: skip


@pytest.fixture
def growing(plugin: Install, tmp_path: Path) -> Path:
    site = plugin("growing", SOURCE)
    (site / "growing" / "recipe.py").write_text(RECIPE)
    data = tmp_path / "data"
    data.mkdir()
    (data / "pictures.json").write_text("[0.1, 0.2, 0.3, 0.4]")
    return data


def terms(run: Run) -> torch.Tensor:
    found: torch.Tensor = run.load("last").module.state_dict()["terms"]
    return found


def test_a_network_grows_and_its_config_with_it(growing: Path, tmp_path: Path) -> None:
    run = finetune("sum", growing, tmp_path / "run", **OPTIONS)
    model = run.load("last")
    assert model.config == {"terms": 3, "first": 0.0} and model.module.terms.shape == (3,)
    assert (
        run.record["validation"]["examples"] == 1
    )  # the reader gives no validation split: one of its two for training
    again = finetune(run.folder / "last", growing, tmp_path / "again", **OPTIONS | {"steps": 1})
    assert torch.allclose(terms(again), terms(run), atol=0.02)  # not set up anew


def test_what_is_chosen_on_held_out_data_is_saved_with_the_weights(growing: Path, tmp_path: Path) -> None:
    run = finetune("calibrated", growing, tmp_path / "run", **OPTIONS | {"evaluate_every": 4})
    for name in ("best", "last"):
        model = run.load(name)
        held_out, learnt = 0.4, model.module.terms.detach().sum().item()  # the last of the two that are no test data
        assert model.config["first"] == pytest.approx(held_out + learnt, abs=1e-5)


def test_it_goes_on_in_the_middle_of_growing(growing: Path, tmp_path: Path) -> None:
    whole = finetune("sum", growing, tmp_path / "whole", **OPTIONS | {"keep": 9})
    for step in (2, 4, 6):
        again = finetune(data=growing, output=killed(whole, step), resume=True)
        assert len(terms(again)) == 3 and torch.equal(terms(whole), terms(again))


def test_a_recipe_has_defaults_of_its_own(growing: Path, tmp_path: Path) -> None:
    quick = {"pictures": 0, "trackers": []}
    run = finetune("sum", growing, tmp_path / "run", **quick)
    assert run.record["steps"] == 5 and run.config["batch_size"] == 1
    assert finetune("sum", growing, tmp_path / "steps", **quick, steps=2).record["steps"] == 2
    assert finetune("sum", growing, tmp_path / "epochs", **quick, epochs=3).record["steps"] == 3  # of one example


@pytest.mark.parametrize("option", [{"ema": 0.9}, {"compile": True}])
def test_what_growing_excludes(growing: Path, tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError, match="does not work where parameters change their sizes"):
        finetune("sum", growing, tmp_path / "run", **OPTIONS | option)
    assert not (tmp_path / "run").exists()


def test_a_recipe_by_itself_does_what_a_run_does(growing: Path, tmp_path: Path) -> None:
    run = finetune("sum", growing, tmp_path / "run", **OPTIONS)
    start = stzoo.create("sum")
    train = open_data(growing, start.task, "train").hold_out(0.1)[0]
    with torch.inference_mode():
        seen = list(learn(start.module, start.recipe(), train, 8, requirements=start.requirements))
    assert [step for step, _ in seen] == list(range(1, 9)) and seen[-1][1]["error"] < seen[0][1]["error"]
    assert torch.equal(start.module.terms, terms(run))


def test_a_task_reads_layouts_of_its_own(growing: Path, tmp_path: Path, cli: Cli) -> None:
    task = stzoo.create("sum").task
    test = open_data(f"{growing}?every=4", task)
    assert (len(test), test.split) == (1, "test") and np.allclose(test[0]["picture"], 0.1)
    assert len(open_data(f"{growing}?every=4", task, "train")) == 3
    with pytest.raises(errors.SplitMissing, match="no split 'validation'"):
        open_data(growing, task, "validation")
    with pytest.raises(errors.DatasetError, match="evry"):
        open_data(f"{growing}?evry=4", task)
    (growing / "pictures.json").write_text("[0.1,")
    with pytest.raises(errors.DatasetError, match="cannot be opened"):
        open_data(growing, task)
    other = tmp_path / "other"
    for name in ("picture", "brighter"):
        (other / name).mkdir(parents=True)
        np.save(other / name / "a.npy", np.zeros((1, 4, 4), np.float32))
    assert len(open_data(other, task)) == 1  # not one of its own: the columns' layout
    assert "A file pictures.json" in cli("info", "--task", "adding")[1]
