"""The loop: what it writes, what its options do, what recipes may ask of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from commandline import TINY, Cli, Install, run_python
from mortal import Server
from PIL import Image

import stzoo
from stzoo import errors
from stzoo.console import run_page
from stzoo.training.loop import finetune
from stzoo.training.run import Run

pytest_plugins = ("commandline",)

FAST: dict[str, Any] = {
    "steps": 8,
    "batch_size": 2,
    "evaluate_every": 4,
    "pictures": 0,
    "trackers": [],
    "log_every": 1,
    "model_config": TINY,
}


def make_clips(folder: Path, count: int, frames: int = 8, size: int = 20) -> Path:
    """Bars that move to the right, one npz file for each clip."""
    folder.mkdir(parents=True)
    for index in range(count):
        clip = np.zeros((frames, 1, size, size), np.uint8)
        for frame in range(frames):
            clip[frame, :, :, (index + frame) % size : (index + frame) % size + 3] = 255
        np.savez(folder / f"{index}.npz", video=clip)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    make_clips(folder / "train", 8, size=16)
    make_clips(folder / "validation", 3, size=16)
    return folder


def weights(run: Run, which: str = "last") -> dict[str, torch.Tensor]:
    return run.load(which).module.state_dict()


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def killed(run: Run, step: int) -> Path:
    """A copy of a run, as if it had been killed just after the checkpoint of this step."""
    copy = Run(shutil.copytree(run.folder, run.folder.with_name(f"{run.folder.name}-{step}")))
    for checkpoint in (copy.folder / "checkpoints").iterdir():
        if checkpoint.name > f"step-{step:09d}":
            shutil.rmtree(checkpoint)
    copy.update(status="running")
    return copy.folder


def test_a_folder_of_clips_to_a_model(videos: Path, tmp_path: Path, cli: Cli) -> None:
    """The README's command: what is in the run folder, and that it learnt something."""
    out = tmp_path / "run"
    settings = [f"model_config.{key}={value}".replace(" ", "") for key, value in TINY.items()]
    words = ["--steps", 60, "--batch-size", 4, "--lr", "0.01", "--pictures", 2, "--evaluate-every", 20]
    code, stdout, stderr = cli("finetune", "tau", "--data", videos, "-o", out, *words, "--set", *settings)
    assert code == 0, stderr
    assert "stzoo publish" in stdout and str(out / "best") in stdout
    run = Run(out)
    record = run.record
    assert record["status"] == "finished" and record["step"] == record["steps"] == 60
    assert record["best"]["mse"] < 0.7 * record["start"]["mse"]
    assert record["validation"] == {"data": str(videos), "split": "validation", "examples": 3}
    evaluations = [entry for entry in run.metrics if "evaluation" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 20, 40, 60]
    assert evaluations[0]["evaluation"] == record["start"]
    losses = [entry["loss"] for entry in run.metrics if "loss" in entry]
    assert losses[-1] < losses[0] and len(losses) == 6
    assert Image.open(out / "pictures" / "step-000000060.png").width > 100
    assert Image.open(out / "curves.png").width > 300
    assert list((out / "tensorboard").rglob("events*"))
    environment = json.loads((out / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__ and "hardware" in environment
    assert len(list((out / "checkpoints").iterdir())) == 2
    found = stzoo.load(out)
    assert equal(found.module.state_dict(), weights(run, "best"))
    assert found.extra["trained_on"] == videos.name  # nothing of this machine
    assert stzoo.verify(out).ok
    assert found.predict(videos / "validation" / "0.npz").video.shape == (4, 1, 16, 16)


def test_the_written_config_repeats_the_run(videos: Path, tmp_path: Path) -> None:
    options = FAST | {"recipe": {"crop": 8, "flip": True}, "model_config": TINY | {"drop": 0.3}}
    options["validation"] = videos / "validation"
    first = finetune("tau", videos, tmp_path / "first", **options)
    torch.rand(3)  # whatever happened in this process before makes no difference
    written = tmp_path / "first" / "config.yaml"
    again = finetune(output=tmp_path / "again", config=written)
    assert equal(weights(first), weights(again))
    assert [entry["loss"] for entry in first.metrics if "loss" in entry] == [
        entry["loss"] for entry in again.metrics if "loss" in entry
    ]
    other = finetune(output=tmp_path / "other", config=written, seed=1, epochs=np.int64(1))  # not the file's steps
    assert not equal(weights(first), weights(other)) and other.record["steps"] == 4
    assert (
        finetune("tau", videos, first.folder, resume=True, **options).record["status"] == "finished"
    )  # the same, said again


def test_from_a_model_of_the_zoo(videos: Path, tmp_path: Path) -> None:
    """Lineage and licence are kept; the start is the model's own numbers."""
    run = finetune(
        "tau-mmnist",
        [{"video": clip} for clip in np.random.default_rng(0).random((3, 20, 1, 16, 16), np.float32)],
        tmp_path / "run",
        **FAST | {"steps": 1, "batch_size": 1, "model_config": {}},
    )
    record = run.record
    assert (record["base_model"], record["license"], record["data"]) == (
        "stzoo/tau-mmnist",
        "apache-2.0",
        "(in memory)",
    )
    assert record["validation"]["examples"] == 1  # a tenth of the data, at least one
    entry = json.loads((run.folder / "best" / "config.json").read_text())["stzoo"]
    assert (entry["license"], entry["base_model"]) == ("apache-2.0", "stzoo/tau-mmnist")


# --- options ----------------------------------------------------------------------------------------------------------


def test_accumulation_is_a_larger_batch(toys: Path, tmp_path: Path) -> None:
    one = finetune("plain", PAIRS, tmp_path / "one", **TOY | {"batch_size": 2})
    two = finetune("plain", PAIRS, tmp_path / "two", **TOY | {"batch_size": 1, "accumulate": 2})
    assert weights(one)["weight"].item() == pytest.approx(weights(two)["weight"].item(), abs=1e-6)
    assert weights(one)["weight"] > 1.1


def test_frozen_and_slower_parameters(videos: Path, tmp_path: Path) -> None:
    before = finetune("tau", videos, tmp_path / "before", **FAST | {"steps": 1, "recipe": {"lr": 1e-30}})
    options = FAST | {"freeze": ["enc.*"], "lr_scale": {"dec.*": 1e-9}, "steps": 3}
    run = finetune("tau", videos, tmp_path / "run", **options)
    moved = {name: (value - weights(before)[name]).abs().max().item() for name, value in weights(run).items()}
    assert all(change < 1e-30 for name, change in moved.items() if name.startswith("enc."))
    assert all(change < 1e-9 for name, change in moved.items() if name.startswith("dec."))
    assert max(change for name, change in moved.items() if name.startswith("hid.")) > 1e-4


def test_the_average_is_what_is_kept(videos: Path, tmp_path: Path) -> None:
    """With a decay of 1 - 1e-6 the average stays where the first step led; the network itself moves."""
    options = FAST | {"recipe": {"lr": 0.01}}
    first, plain, averaged = (
        weights(finetune("tau", videos, tmp_path / name, **options | more))
        for name, more in (("first", {"steps": 1}), ("plain", {}), ("averaged", {"ema": 0.999999}))
    )
    name = next(key for key in first if key.startswith("hid."))
    assert torch.allclose(averaged[name], first[name], atol=1e-3)
    assert (plain[name] - first[name]).abs().max() > 3e-3


def test_clipping_keeps_steps_small(toys: Path, tmp_path: Path) -> None:
    free = finetune("plain", PAIRS, tmp_path / "free", **TOY)
    clipped = finetune("plain", PAIRS, tmp_path / "clipped", **TOY | {"clip": 1e-6})
    assert (weights(free)["weight"] - 1).abs() > 1e-3
    assert (weights(clipped)["weight"] - 1).abs() < 1e-6


def test_early_stopping(videos: Path, tmp_path: Path) -> None:
    run = finetune(
        "tau",
        videos,
        tmp_path / "run",
        **FAST | {"steps": 40, "evaluate_every": 2, "patience": 2, "recipe": {"lr": 1e-30}},
    )
    assert run.record["step"] == 4 and run.record["status"] == "finished"
    page = run_page(run.folder, run.record)
    assert "finished after 4 of 40 steps" in page and "pictures" not in page


@pytest.mark.parametrize("change", [{}, {"steps": 40, "patience": 1, "recipe": {"lr": 1e-30}}])
def test_killed_after_its_last_checkpoint_it_comes_to_its_end(
    videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict
) -> None:
    whole = finetune("tau", videos, tmp_path / "whole", **FAST | {"evaluate_every": 2} | change)
    torn = Run(shutil.copytree(whole.folder, tmp_path / "torn"))
    shutil.rmtree(torn.folder / "last")
    torn.update(status="running")
    for said in (False, True):
        torn = finetune(output=torn.folder, resume=True)
        assert ("there is nothing to go on with" in caplog.text) == said
        assert torn.record["status"] == "finished" and torn.record["step"] == whole.record["step"]
        assert equal(weights(torn), weights(whole))


def test_precision_and_layout(videos: Path, tmp_path: Path) -> None:
    run = finetune("tau", videos, tmp_path / "bf16", **FAST | {"precision": "bf16", "channels_last": True})
    plain = finetune("tau", videos, tmp_path / "plain", **FAST)
    assert all(value.dtype == torch.float32 for value in weights(run).values() if value.is_floating_point())
    assert run.record["best"]["mse"] == pytest.approx(plain.record["best"]["mse"], rel=0.05)
    assert not equal(weights(run), weights(plain))


def test_data_that_arrives_as_a_stream(toys: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No copy is made of any part of it, and it goes on with the very sample it had come to."""
    data = tmp_path / "data"
    features = datasets.Features({key: datasets.Array3D((1, 4, 4), "float32") for key in PAIRS[0]})
    for split, pairs in (("train", PAIRS), ("validation", PAIRS[:3])):
        (data / split).mkdir(parents=True)
        datasets.Dataset.from_list(pairs, features=features).to_parquet(data / split / "0.parquet")
    stream = TOY | {"streaming": True, "shuffle_buffer": 3, "steps": 7, "keep": 9}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.DatasetBuilder, "download_and_prepare", lambda *_, **__: pytest.fail("copied"))
        patch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # seconds after every pass over a file
        whole = finetune("plain", data, tmp_path / "whole", **stream)
        assert whole.record["epochs"] is None and whole.record["validation"]["examples"] == 3
        assert equal(weights(whole), weights(finetune(output=killed(whole, 4), resume=True)))
        assert "passes over the first 8 samples" in caplog.text
        with pytest.raises(errors.ConfigError, match="length of a stream"):
            finetune("plain", data, tmp_path / "other", **stream | {"steps": None})
        (data / "validation").rename(tmp_path / "later")
        with pytest.raises(errors.SplitMissing, match="nothing can be held out of a stream. Give validation data"):
            finetune("plain", data, tmp_path / "other", **stream)
        other = finetune("plain", data, tmp_path / "other", **stream | {"validation": str(tmp_path / "later")})
        assert other.record["best"] == whole.record["best"]


def test_worker_processes_change_nothing(videos: Path, tmp_path: Path) -> None:
    options = FAST | {"recipe": {"crop": 8, "flip": True}, "steps": 3}
    one = finetune("tau", videos, tmp_path / "one", **options)
    two = finetune("tau", videos, tmp_path / "two", **options | {"workers": 2})
    assert equal(weights(one), weights(two))


def test_the_network_is_compiled_and_evaluations_are_not(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, compile_module = [], torch.nn.Module.compile

    def backend(graph: Any, inputs: Any) -> Any:
        calls.append(graph)
        return graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend=backend))
    compiled = finetune("plain", PAIRS, tmp_path / "compiled", **TOY | {"compile": True})
    assert len(calls) == 1
    assert equal(weights(compiled), weights(finetune("plain", PAIRS, tmp_path / "plain", **TOY)))


def test_any_tracker_by_name(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes what Accelerate says of trackers and no more; Accelerate's own has a picture too."""
    from accelerate import tracking

    told: list[Any] = []

    class Diary(tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "diary", False, None

        def __init__(self, run_name: str, **options: Any) -> None:
            super().__init__()

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            told.append(values)

        def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
            told.append((step, values))

        def log_images(self, values: dict[str, Any], step: int | None = None) -> None:
            told.append((step, [picture.shape[-1] for picture in values["predictions"]]))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "diary", Diary)
    options = TOY | {"steps": 1, "pictures": 1, "trackers": ["diary", "tensorboard"]}
    run = finetune("plain", PAIRS, tmp_path / "run", **options)
    assert told[0]["batch_size"] == "2" and (1, [3]) in told
    assert {"loss", "lr", "validation/error"} <= {name for entry in told[1:] for name in entry[1]}
    assert list((run.folder / "tensorboard").rglob("events*"))
    with pytest.raises(errors.DependencyMissing, match="pip install clearml"):
        finetune("plain", PAIRS, tmp_path / "other", **options | {"trackers": ["clearml"]})
    assert not (tmp_path / "other").exists()
    finetune("plain", PAIRS, tmp_path / "other", **TOY | {"precision": "bf16"})  # nothing is left of the refused one


# --- recipes ----------------------------------------------------------------------------------------------------------

TOYS = """
from stzoo import Architecture, Metric, Task, hookimpl
from stzoo.fields import Image

@hookimpl
def stzoo_tasks():
    yield Task("scaling", inputs=(Image("picture"),), outputs=(Image("scaled"),), metrics=(Metric("error", "toys:error"),))

@hookimpl
def stzoo_architectures():
    for name in ("Plain", "Adversarial", "Student", "Staged", "Fitted", "Roles"):
        yield Architecture(name.lower(), "scaling", "toys:build", recipe=f"toys:{name}")

def error(prediction, target):
    return float(abs(prediction - target).mean())

def build():
    import torch

    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.weight * x

    return Scale()

def __getattr__(name):
    import importlib
    return getattr(importlib.import_module("toys.recipes"), name)
"""
RECIPES = """
import torch
from stzoo.recipe import Recipe, Stage

def sgd(recipe, module, steps, lr=0.1):
    optimizer = torch.optim.SGD(recipe.groups(module, lr))
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)

class Plain(Recipe):
    def losses(self, module, batch, step):
        return {"error": ((module(batch["picture"]) - batch["scaled"]) ** 2).mean()}

    def optimizers(self, module, total_steps):
        return [sgd(self, module, total_steps)]

class Adversarial(Recipe):
    def companions(self, module):
        self.critic = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(self.critic.weight)
        self.turns = []
        return {"critic": self.critic}

    def optimizers(self, module, total_steps):
        return [sgd(self, module, total_steps), sgd(self, self.critic, total_steps)]

    def losses(self, module, batch, step, turn):
        wanted = {0: (True, False), 1: (False, True)}[turn]
        assert (module.weight.requires_grad, self.critic.weight.requires_grad) == wanted
        judged = self.critic(module(batch["picture"]).mean((1, 2, 3), keepdim=True))
        return {("fool", "judge")[turn]: (judged.mean() if turn == 0 else -judged.mean())}

class Student(Plain):
    def companions(self, module):
        import copy
        self.teacher = copy.deepcopy(module).requires_grad_(False)
        self.moves = 0
        return {"teacher": self.teacher}

    def after_step(self, module, step):
        self.teacher.weight.lerp_(module.weight, 0.5)
        self.moves += 1

    def losses(self, module, batch, step):
        return super().losses(module, batch, step) | {"agree": 0.1 * (module.weight - self.teacher.weight) ** 2}

    def state_dict(self):
        return {"moves": self.moves}

    def load_state_dict(self, state):
        self.moves = state["moves"]

class Staged(Plain):
    stages = (Stage("coarse", 3), Stage("fine", 1))

    def optimizers(self, module, total_steps):
        seen.append((self.stage, total_steps))
        return [sgd(self, module, total_steps, {"coarse": 0.1, "fine": 0.0}[self.stage])]

class Fitted(Recipe):
    closed_form = True

    def fit(self, module, samples):
        x = sum((item["picture"] * item["scaled"]).sum() for item in samples)
        module.weight.data.fill_(float(x / sum((item["picture"] ** 2).sum() for item in samples)))
        return {"samples": len(samples), "drawn": float(torch.rand(()))}

class Roles(Plain):
    roles = ("source", "target")

    def losses(self, module, batch, step):
        assert set(batch) == {"source", "target"}
        return {name: ((module(part["picture"]) - part["scaled"]) ** 2).mean() for name, part in batch.items()}

seen = []
"""
PAIRS = [
    {"picture": np.full((1, 4, 4), value, np.float32), "scaled": np.full((1, 4, 4), 2 * value, np.float32)}
    for value in (0.5, 0.4, 0.3, 0.45)
]
TOY: dict[str, Any] = {
    "steps": 8, "batch_size": 2, "evaluate_every": 4, "checkpoint_every": 2, "pictures": 0, "trackers": [], "log_every": 1,
}  # fmt: skip


@pytest.fixture
def toys(plugin: Install) -> Path:
    site = plugin("toys", TOYS)
    (site / "toys" / "recipes.py").write_text(RECIPES)
    return site


def test_two_optimizers_take_turns(toys: Path, tmp_path: Path) -> None:
    run = finetune("adversarial", PAIRS, tmp_path / "run", **TOY)
    assert {"fool", "judge", "lr", "lr1"} <= run.metrics[1].keys()
    assert weights(run)["weight"] < 1


def test_a_teacher_moves_along_and_is_resumed(toys: Path, tmp_path: Path) -> None:
    whole = finetune("student", PAIRS, tmp_path / "whole", **TOY)
    newest = whole.folder / "checkpoints" / "step-000000008"
    assert torch.load(newest / "stzoo.pt", weights_only=True)["recipe"] == {"moves": 8}
    assert set(weights(whole)) == {"weight"}  # the teacher is not published
    assert equal(weights(whole), weights(finetune(data=PAIRS, output=killed(whole, 6), resume=True)))


def test_stages_have_optimizers_of_their_own(toys: Path, tmp_path: Path) -> None:
    run = finetune("staged", PAIRS, tmp_path / "run", **TOY)
    assert sys.modules["toys.recipes"].seen == [("coarse", 6), ("fine", 2)]
    rates = [entry["lr"] for entry in run.metrics if "lr" in entry]
    assert rates == [0.1] * 6 + [0.0] * 2


def test_a_stage_is_resumed(toys: Path, tmp_path: Path) -> None:
    whole = finetune("staged", PAIRS, tmp_path / "whole", **TOY)
    sys.modules["toys.recipes"].seen.clear()
    assert equal(weights(whole), weights(finetune(data=PAIRS, output=killed(whole, 6), resume=True)))
    assert sys.modules["toys.recipes"].seen == [("coarse", 6), ("fine", 2)]  # the checkpoint is of the first one's end


def test_a_closed_form_fit(toys: Path, tmp_path: Path) -> None:
    run = finetune("fitted", PAIRS, tmp_path / "run", **TOY)
    assert weights(run)["weight"] == pytest.approx(2)
    assert run.record["best"]["error"] == pytest.approx(0, abs=1e-6) and run.record["status"] == "finished"
    again, other = (finetune("fitted", PAIRS, tmp_path / f"seed-{seed}", **TOY, seed=seed) for seed in (0, 1))
    drawn = [next(entry["drawn"] for entry in item.metrics if "drawn" in entry) for item in (run, again, other)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_closed_form_fit_that_was_killed_starts_again(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("stzoo.training.checkpoints.save", killed)
        with pytest.raises(Killed):
            finetune("fitted", PAIRS, tmp_path / "run", **TOY)
    run = finetune(data=PAIRS, output=tmp_path / "run", resume=True)
    assert weights(run)["weight"] == pytest.approx(2) and run.record["status"] == "finished"


def test_two_data_sets(toys: Path, tmp_path: Path) -> None:
    run = finetune("roles", {"source": PAIRS, "target": PAIRS[:3]}, tmp_path / "run", **TOY)
    assert {"source", "target"} <= run.metrics[1].keys()
    with pytest.raises(errors.ConfigError, match="source and target"):
        finetune("roles", PAIRS, tmp_path / "other", **TOY)


# --- processes --------------------------------------------------------------------------------------------------------


def words_of(options: dict[str, Any]) -> list[str]:
    found = []
    for key, value in options.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        found += [f"{key}{'.' * bool(name)}{name}={json.dumps(item)}" for name, item in inner]
    return ["--set", *found]


def folder_of_pairs(folder: Path) -> Path:
    for split, pairs in (("train", PAIRS), ("validation", PAIRS[:3])):
        for column in ("picture", "scaled"):
            (folder / split / column).mkdir(parents=True)
            for index, pair in enumerate(pairs):
                np.save(folder / split / column / f"{index}.npy", pair[column])
    return folder


def test_two_processes_are_a_larger_batch(toys: Path, tmp_path: Path) -> None:
    """The same samples in the same order, the mean of their gradients, and an evaluation of every example once."""
    data, words = folder_of_pairs(tmp_path / "data"), words_of(TOY | {"batch_size": 1})
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "-m", "stzoo"]
    words = [*launch, "finetune", "plain", "--data", data, "-o", tmp_path / "two", *words]
    places = os.pathsep.join((str(toys), os.environ.get("PYTHONPATH", "")))
    done = run_python(words, PYTHONPATH=places)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stzoo publish") == 1
    one, two = finetune("plain", data, tmp_path / "one", **TOY), Run(tmp_path / "two")
    assert weights(one)["weight"].item() == pytest.approx(weights(two)["weight"].item(), abs=1e-6)
    assert two.record["processes"] == 2 and two.record["validation"]["examples"] == 3
    assert two.record["start"] == pytest.approx(one.record["start"], rel=1e-6)
    losses = [[entry["loss"] for entry in run.metrics if "loss" in entry] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_two_processes_take_over_a_closed_form_fit(forks: Server, toys: Path, tmp_path: Path) -> None:
    data, run = folder_of_pairs(tmp_path / "data"), Run(tmp_path / "run")
    words = ["finetune", "fitted", "--data", data, "-o", run.folder, *words_of(TOY)]
    assert forks.run(words, tmp_path / "log", 2, site=str(toys)) == [0, 0], (tmp_path / "log").read_text()
    assert forks.run(words, tmp_path / "again", 2, site=str(toys)) == [2, 2]  # neither waits for the other
    assert (tmp_path / "again").read_text().count("already holds a run") == 2
    assert weights(run)["weight"] == pytest.approx(2)
    assert run.record["best"]["error"] == pytest.approx(0, abs=1e-6)  # of what both processes predict


def test_one_process_where_two_were_asked_for(videos: Path, tmp_path: Path) -> None:
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "stzoo"]
    done = run_python([*launch, "finetune", "tau", "--data", videos, "--output", tmp_path / "run", *words_of(FAST)])
    assert done.returncode != 0
    assert "2 processes were asked for, but accelerate launch starts only one" in done.stderr
    assert "torchrun --standalone --nproc_per_node 2 -m stzoo" in done.stderr
    assert not (tmp_path / "run").exists()
