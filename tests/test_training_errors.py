"""What can go wrong before and while training: each with its exception, what was wrong, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Cli, Install
from test_training import FAST, make_clips

from stzoo import errors
from stzoo.arguments import build_parser
from stzoo.training.loop import finetune
from stzoo.training.run import Run, open_folder

pytest_plugins = ("commandline",)


def clip(folder: Path, value: Any, name: str = "bad.npz") -> Path:
    make_clips(folder / "train", 3, size=16)
    make_clips(folder / "validation", 1, size=16)
    np.savez(folder / "train" / name, video=value)
    return folder


def good(folder: Path) -> Path:
    return clip(folder, np.zeros((8, 1, 16, 16), np.uint8))


def text_file(folder: Path) -> Path:
    (good(folder) / "train" / "notes.txt").write_text("not a clip")
    return folder


def truncated(folder: Path) -> Path:
    file = good(folder) / "train" / "bad.npz"
    file.write_bytes(file.read_bytes()[:50])
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def one_clip(folder: Path) -> Path:
    return make_clips(folder, 1, size=16)


CLIPS = [{"video": np.zeros((8, 1, 16, 16), np.float32)}] * 3
DATA: dict[str, tuple[Callable[[Path], Any], dict[str, Any], type[Exception], str]] = {
    "a file that is no clip": (text_file, {}, errors.DatasetError, "notes.txt"),
    "an empty folder": (empty, {}, errors.DatasetError, "is empty"),
    "no folder at all": (lambda folder: folder, {}, errors.DatasetError, "there is no file or folder"),
    "NaN frames": (lambda f: clip(f, np.full((8, 1, 16, 16), np.nan)), {}, errors.DatasetError, "not finite"),
    "a clip without frames": (lambda f: clip(f, np.zeros((0, 1, 16, 16))), {}, errors.DatasetError, "bad.npz"),
    "a truncated file": (truncated, {}, errors.DatasetError, "bad.npz"),
    "a clip that is too short": (lambda f: clip(f, np.zeros((5, 1, 16, 16))), {}, errors.DatasetError, "a clip has 5 frames, 4 to see and 4"),
    "colour for a grey model": (lambda f: clip(f, np.zeros((8, 3, 16, 16))), {}, errors.DatasetError, "3 channels"),
    "clips of two sizes": (lambda f: clip(f, np.zeros((8, 1, 24, 24))), {}, errors.DatasetError, "recipe.crop"),
    "a crop larger than the frames": (good, {"recipe": {"crop": 32}}, errors.DatasetError, "smaller than the crop of 32x32"),
    "a crop that does not fit the network": (good, {"recipe": {"crop": 9}}, errors.DatasetError, "no multiple of"),
    "nothing to train on": (lambda folder: {"train": [], "validation": CLIPS}, {}, errors.DatasetError, "nothing to train on"),
    "nothing to evaluate on": (lambda folder: {"train": CLIPS, "validation": []}, {}, errors.DatasetError, "nothing to evaluate on"),
    "too little to hold some out": (one_clip, {}, errors.DatasetError, "too few to hold some out"),
    "an unknown data set": (lambda folder: "moving-mnst", {}, errors.UnknownDataset, "moving-mnist"),
    "an unknown option of a data set": (lambda folder: "moving-mnist?sice=3", {}, errors.DatasetError, "'size'"),
    "a split that is not there": (good, {"split": "test"}, errors.DatasetError, "no split 'test'"),
    "a validation folder that is not there": (good, {"validation": "./nowhere"}, errors.DatasetError, "nowhere"),
    "a stream without steps": (good, {"streaming": True, "steps": None}, errors.ConfigError, "length of a stream"),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_data_that_does_not_fit(case: str, tmp_path: Path) -> None:
    make, options, kind, message = DATA[case]
    data = make(tmp_path / "data")
    with pytest.raises(kind, match=".") as caught:
        finetune("tau", data, tmp_path / "run", **FAST | {"steps": 4, "batch_size": 4} | options)
    assert message in str(caught.value), caught.value
    assert isinstance(caught.value, errors.StzooError)


OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an unknown option": ({"batchsize": 4}, errors.ConfigError, "'batch_size'"),
    "an unknown option of the recipe": ({"recipe": {"learning_rate": 1}}, errors.ConfigError, "has no 'learning_rate'"),
    "an unknown option inside a table that is none": ({"steps.lr": 1}, errors.ConfigError, "'steps.lr'"),
    "a negative learning rate": ({"recipe.lr": -1e-3}, errors.ConfigError, "lr must be positive"),
    "a learning rate in words": ({"recipe.lr": "fast"}, errors.ConfigError, "lr='fast'"),
    "steps and epochs": ({"epochs": 2}, errors.ConfigError, "steps and epochs are both given"),
    "an empty batch": ({"batch_size": 0}, errors.ConfigError, "of at least 1"),
    "everything held out": ({"holdout": 1.5}, errors.ConfigError, "from 0.001 to 0.9"),
    "an unknown metric": ({"monitor": "fid"}, errors.ConfigError, "no metric 'fid'"),
    "an unknown option of the task": ({"options": {"horizont": 3}}, errors.ConfigError, "'horizon'"),
    "nothing is called so": ({"freeze": ["encoder.*"]}, errors.ConfigError, "no parameter is called 'encoder.*'"),
    "nothing is slower": ({"lr_scale": {"encoder.*": 0.1}}, errors.ConfigError, "lr_scale: no parameter is called 'encoder.*'"),
    "everything frozen": ({"freeze": ["*"]}, errors.ConfigError, "every parameter is frozen"),
    "a negative factor": ({"lr_scale": {"enc.*": -1}}, errors.ConfigError, "lr_scale['enc.*']=-1"),
    "an unknown tracker": ({"trackers": ["tensorbord"]}, errors.ConfigError, "tensorbord"),
    "an unknown precision": ({"precision": "fp8"}, errors.ConfigError, "'bf16'"),
    "an unknown key of the model": ({"model_config": {"depth": 3}}, errors.ConfigError, "has no 'depth'"),
    "a config file that is not there": ({"config": "nowhere.yaml"}, errors.ConfigError, "there is no file nowhere.yaml"),
    "no data": ({"data": None}, errors.ConfigError, "there is no data"),
    "no model": ({"model": None}, errors.ConfigError, "there is no model"),
    "a model that is no name": ({"model": object()}, errors.ConfigError, "the model is a object"),
    "a table in other words": ({"lr_scale": "enc.*=0.1"}, errors.ConfigError, """such as {"NAME": VALUE}"""),
    "no output": ({"output": None}, errors.ConfigError, "there is no folder"),
    "an unknown model": ({"model": "tau-mnist"}, errors.UnknownModel, "tau-mmnist"),
    "a rate that explodes": ({"recipe.lr": 1e30, "steps": 20}, errors.TrainingFailed, "the loss is"),
}  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_cannot_be(case: str, tmp_path: Path) -> None:
    given, kind, message = OPTIONS[case]
    what = {"model": "tau", "data": good(tmp_path / "data"), "output": tmp_path / "run"} | FAST | given
    with pytest.raises(kind, match=".") as caught:
        finetune(**what)
    assert message in str(caught.value), caught.value
    if kind is not errors.TrainingFailed:
        assert not (tmp_path / "run").exists()  # nothing was begun


@pytest.mark.parametrize("text", ["- a\n- b\n", "steps: [1\n", "1: 2\n", "\xff"])
def test_config_files_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(errors.ConfigError, match=r"options.yaml"):
        finetune("tau", good(tmp_path / "data"), tmp_path / "run", config=tmp_path / "options.yaml")


def test_an_architecture_that_cannot_learn(tmp_path: Path, plugin: Install) -> None:
    plugin(
        "still",
        'from stzoo import Architecture, hookimpl\n@hookimpl\ndef stzoo_architectures():\n    yield Architecture("still", "video-prediction", "torch.nn:Identity", defaults={"size": 1})\n',
    )
    with pytest.raises(errors.ConfigError, match="brings no recipe"):
        finetune("still", good(tmp_path / "data"), tmp_path / "run")


def test_without_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(errors.DependencyMissing, match=r"pip install 'stzoo\[train\]'"):
        finetune("tau", good(tmp_path / "data"), tmp_path / "run")


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_trained_into(tmp_path: Path) -> None:
    data = good(tmp_path / "data")
    with pytest.raises(errors.ConfigError, match="not an empty folder"):
        finetune("tau", data, data, **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match="not an empty folder"):
        finetune("tau", data, tmp_path / "file", **FAST)
    with pytest.raises(errors.ConfigError, match="cannot be written"):
        finetune("tau", data, tmp_path / "file" / "run", **FAST)
    with pytest.raises(errors.ConfigError, match="not the folder of a run"):
        finetune(output=data, resume=True)
    with pytest.raises(errors.DiskFull, match="free"):
        open_folder(tmp_path / "huge", False, 10**18)


def test_what_a_run_left_that_never_began_is_no_hindrance(tmp_path: Path) -> None:
    """Killed before there was a record, between the files that a run begins with."""
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".lock", "config.yaml", ".environment-x1.json"):
        (folder / name).write_text("half")
    assert finetune("tau", good(tmp_path / "data"), folder, **FAST | {"steps": 1}).record["status"] == "finished"
    with pytest.raises(errors.ConfigError, match="already holds a run"):
        open_folder(folder, False, 0)


def test_a_run_that_failed_before_its_first_evaluation_may_be_tried_again(tmp_path: Path) -> None:
    data, out = good(tmp_path / "data"), tmp_path / "run"
    with pytest.raises(errors.DatasetError, match="nothing can be evaluated"):
        finetune("tau", data, out, **FAST | {"model_config": FAST["model_config"] | {"in_shape": (6, 1, 16, 16)}})
    assert Run(out).record["status"] == "failed"
    assert finetune("tau", data, out, **FAST | {"steps": 1}).record["status"] == "finished"


def test_a_run_is_not_mixed_with_another(tmp_path: Path) -> None:
    data, out = good(tmp_path / "data"), tmp_path / "run"
    finetune("tau", data, out, **FAST | {"steps": 2})
    before = (out / "config.yaml").read_bytes()
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "already holds a run"),
        ({"resume": True, "model": "simvp"}, "model (was 'tau')"),
        ({"resume": True, "data": "moving-mnist"}, "data (was"),
        ({"resume": True, "recipe.lr": 1e-5}, "recipe (was {})"),
        ({"resume": True, "steps": 9, "batch_size": 1}, "batch_size (was 2), steps (was 2)"),
    ]
    for given, message in cases:
        with pytest.raises(errors.ConfigError) as caught:
            finetune(**{"model": "tau", "data": data, "output": out} | given)
        assert message in str(caught.value)
    [state] = (out / "checkpoints").glob("*/stzoo.pt")
    whole = state.read_bytes()
    for content in (b"", whole[:100]):
        state.write_bytes(content)
        with pytest.raises(errors.TrainingFailed, match=r"step-000000002 cannot be read .* Remove it, to go on from"):
            finetune(output=out, resume=True)
    state.write_bytes(whole)
    lock = open_folder(out, True, 0)
    with pytest.raises(errors.ConfigError, match="in use by another process"):
        finetune(output=out, resume=True)
    lock.release()
    assert finetune(output=out, resume=True, keep=1).record["status"] == "finished"
    assert (out / "config.yaml").read_bytes() == before


def test_the_command_says_it_in_one_line(tmp_path: Path, cli: Cli) -> None:
    data = good(tmp_path / "data")
    for words, message in (
        (["--set", "batchsize=3"], "Did you mean 'batch_size'"),
        (["--set", "batch_size"], "Write --set KEY=VALUE"),
        (["--batch-size", "none"], "a whole number of at least 1"),
        (["--lr", "1", "--set", "recipe.lr=2"], "recipe.lr is given twice"),
    ):
        code, stdout, stderr = cli("finetune", "tau", "--data", data, "-o", tmp_path / "run", *words)
        assert (code, stdout) == (2, "")
        assert message in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_flags_that_are_given_twice_or_without_a_value() -> None:
    words = ["finetune", "tau", "--freeze", "enc.*", "--freeze", "dec.*,hid.*", "--compile", "--streaming", "false"]
    found = vars(build_parser().parse_args(words))
    assert found["option:freeze"] == ["enc.*", "dec.*", "hid.*"]
    assert (found["option:compile"], found["option:streaming"]) == (True, False)


def test_what_was_saved_survives_a_failure(tmp_path: Path) -> None:
    """The data go bad in the middle of the run."""
    data, out = good(tmp_path / "data"), tmp_path / "run"
    options = FAST | {"steps": 40, "batch_size": 1, "checkpoint_every": 1, "recipe": {"lr": 1e-3}}

    class Spoiled(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            if (out / "checkpoints").exists() and len(list((out / "checkpoints").glob("step-*"))) == 2:
                raise errors.DatasetError("the film tore")
            return super().__getitem__(index)

    clips = Spoiled({"video": np.load(path)["video"]} for path in sorted((data / "train").iterdir()))
    with pytest.raises(errors.DatasetError, match="the film tore"):
        finetune("tau", clips, out, **options)
    assert Run(out).record["status"] == "failed"
    again = finetune(data=list(clips.copy()), output=out, resume=True)
    assert again.record["status"] == "finished" and again.record["step"] == 40
