"""The life of every kind of model that comes with the zoo: fine-tuned, stopped, resumed, evaluated, published, loaded again."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hubserver import HubServer
from PIL import Image
from test_publish import Person, person  # noqa: F401 (a fixture)

import stzoo
from stzoo.registry import registry
from stzoo.spec import Model, load_reference
from stzoo.training.loop import _Trainer

_OWN = (model for model in stzoo.models() if model.weights and model.weights.bundled)
BUNDLED = list({model.architecture: model for model in _OWN if registry().architecture_of(model).recipe}.values())
"""One of each architecture that learns: what is tried here depends on the recipe and the network, not on the weights."""


def clips(folder: Path, model: Model) -> None:
    """Three clips of a bar that moves to the right, of the size and length the model was made for."""
    needs = model.requirements
    height, width = needs.native_size
    for index in range(3):
        clip = np.zeros((needs.frames_in + needs.frames_out, needs.channels, height, width), np.uint8)
        for time, frame in enumerate(clip):
            frame[:, :, index + time : index + time + 8] = 255
        np.savez(folder / f"{index}.npz", video=clip)


def photographs(folder: Path, model: Model) -> None:
    """Three pictures of waves, each with a direction of its own."""
    for index in range(3):
        Image.fromarray((255 * waves(index, 256, 256)).astype(np.uint8)).save(folder / f"{index}.png")


def waving(folder: Path, model: Model) -> None:
    """Three clips of waves that move."""
    for index in range(3):
        frames = [waves(index + 0.1 * time, 256, 256).transpose(2, 0, 1) for time in range(7)]
        np.savez(folder / f"{index}.npz", video=(255 * np.stack(frames)).astype(np.uint8))


def reliefs(folder: Path, model: Model) -> None:
    """Three depth maps in metres."""
    for index in range(3):
        np.save(folder / f"{index}.npy", 1 + waves(index, 256, 256)[..., 0].astype(np.float32))


def sorts(folder: Path, model: Model) -> None:
    """Three pictures of waves, and masks: of what sort the first colour is, from dark to bright."""
    for name in ("image", "mask"):
        (folder / name).mkdir()
    for index in range(3):
        Image.fromarray((255 * waves(index)).astype(np.uint8)).save(folder / "image" / f"{index}.png")
        Image.fromarray(sorted_by(waves(index), model)).save(folder / "mask" / f"{index}.png")


def moving_sorts(folder: Path, model: Model) -> None:
    """Three clips of waves that move, with such masks."""
    for name in ("video", "mask"):
        (folder / name).mkdir()
    for index in range(3):
        frames = [waves(index + 0.1 * time) for time in range(model.requirements.frames_in or 5)]
        clip = (255 * np.stack(frames)).astype(np.uint8).transpose(0, 3, 1, 2)
        np.savez(folder / "video" / f"{index}.npz", video=clip)
        np.savez(folder / "mask" / f"{index}.npz", mask=np.stack([sorted_by(frame, model) for frame in frames]))


def sorted_by(picture: np.ndarray, model: Model) -> np.ndarray:
    """(H, W): the class of each pixel, by the brightness of the first colour."""
    classes = len(model.requirements.classes)
    found: np.ndarray = (picture[..., 0] * classes).astype(np.uint8).clip(max=classes - 1)
    return found


def waves(turn: float, height: int = 96, width: int = 112) -> np.ndarray:
    """(height, width, 3), values in [0, 1]."""
    rows, columns = np.mgrid[:height, :width] / 12
    return np.stack(
        [0.5 + 0.5 * np.sin(rows * np.cos(turn + c) + columns * np.sin(turn + c) + c) for c in range(3)], -1
    )


def rooms(folder: Path, model: Model) -> None:
    """Three pictures, with depth in metres that is what is dark in them."""
    for index in range(3):
        picture = waves(index)
        for column in ("image", "depth"):
            (folder / column).mkdir(exist_ok=True)
        Image.fromarray((255 * picture).astype(np.uint8)).save(folder / "image" / f"{index}.png")
        np.save(folder / "depth" / f"{index}.npy", (1 + picture[..., 0]).astype(np.float32))


def balls(folder: Path, model: Model) -> None:
    """Three volumes with a bright ball in noise, and where it is."""
    for column in ("volume", "mask"):
        (folder / column).mkdir()
    for index in range(3):
        places = np.stack(np.mgrid[:24, :28, :20]) - np.array([10 + index, 14, 10]).reshape(3, 1, 1, 1)
        inside = (places**2).sum(0) < 49
        noise = np.random.default_rng(index).random(inside.shape)
        np.save(folder / "volume" / f"{index}.npy", (inside + 0.2 * noise).astype(np.float32))
        np.save(folder / "mask" / f"{index}.npy", inside.astype(np.uint8))


def short_clips(folder: Path, model: Model) -> None:
    """Three clips of a bar that moves to the right, for models that take none but give some."""
    height, width = model.requirements.native_size
    for index in range(3):
        clip = np.zeros((model.requirements.frames_out or 16, model.requirements.channels, height, width), np.uint8)
        for time, frame in enumerate(clip):
            frame[:, :, (index + time) % (width - 4) : (index + time) % (width - 4) + 4] = 255
        np.savez(folder / f"{index}.npz", video=clip)


def round_about(folder: Path, model: Model) -> None:
    """Four pictures of a reddish ball from all round, and beside the folder their cameras, as Blender's scenes have them."""
    rows, columns = np.mgrid[-1:1:32j, -1:1:32j]
    ball = (rows**2 + columns**2 < 0.3)[..., None]
    frames = []
    for index in range(4):
        x, y = np.cos(turn := index * np.pi / 2 + 0.4 * (folder.name != "train")), np.sin(turn)
        Image.fromarray(ball * np.array([200, 30 + 20 * index, 30, 255], np.uint8)).save(folder / f"{index}.png")
        pose = [[-y, 0, x, 4 * x], [x, 0, y, 4 * y], [0, 1, 0, 0], [0, 0, 0, 1]]
        frames.append({"file_path": f"{folder.name}/{index}", "transform_matrix": pose})
    split = {"train": "train", "validation": "val"}[folder.name]
    cameras = {"camera_angle_x": 0.69, "frames": frames}
    (folder.parent / f"transforms_{split}.json").write_text(json.dumps(cameras))


def persons(folder: Path, model: Model) -> None:
    """Four people, other ones in each split: three pictures of each, of waves in a direction of their own."""
    for index in range(4):
        name = f"{folder.name}-{index}"
        (folder / name).mkdir()
        for number in range(3):
            turn = index + 4 * (folder.name == "validation") + 0.05 * number
            Image.fromarray((255 * waves(turn)).astype(np.uint8)).save(folder / name / f"{number}.png")


def hourly(folder: Path, model: Model) -> None:
    """Tables of a daily curve that drifts, long enough for the horizon and two days before it."""
    times, hour = np.datetime64("2026-01-01T00") + np.arange(160), np.arange(160)
    for table in range(2):
        values = np.sin(hour * np.pi / 12 + table) + 0.01 * hour
        rows = (f"{time},{value:.4f}" for time, value in zip(times, values, strict=True))
        (folder / f"{table}.csv").write_text("\n".join(["time,load", *rows]) + "\n")


FOLDERS: dict[str, Callable[[Path, Model], None]] = {
    "video-prediction": clips,
    "super-resolution": photographs,
    "masked-autoencoding": photographs,
    "video-super-resolution": waving,
    "depth-super-resolution": reliefs,
    "depth": rooms,
    "segmentation": sorts,
    "video-segmentation": moving_sorts,
    "volume-segmentation": balls,
    "video-generation": short_clips,
    "novel-view": round_about,
    "verification": persons,
    "forecasting": hourly,
}
"""Task -> what fills a split's folder with examples."""
SMALLER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet3d": ({"side": 32}, {}),
    "video-diffusion": ({"size": (16, 16), "frames": 8}, {"steps": 3}),
}
"""Architecture -> config and options with which its network, the weights unchanged, computes less."""
FEWEST = {"verification": 2}
"""Task -> examples without which its metrics mean nothing, the first and the last; else one."""


def run_once(start: dict[str, Any], model: Model, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learnt in one go: there is nothing to stop."""
    assert (
        stzoo.finetune(**start, data=data, output=folder / "run", trackers=[], pictures=0).record["status"]
        == "finished"
    )


def run_twice(start: dict[str, Any], model: Model, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run undisturbed, one stopped after a step and resumed: both end with the same weights."""
    options: dict[str, Any] = {
        "steps": 2,
        "batch_size": 1,
        "checkpoint_every": 2,
        "evaluate_every": 2,
        "evaluate_examples": FEWEST.get(model.task, 1),
        "trackers": [],
        "pictures": 0,
    }
    whole = stzoo.finetune(**start, data=data, output=folder / "whole", **options)
    step = _Trainer._step

    def interrupted(self: _Trainer, *arguments: Any) -> None:
        step(self, *arguments)
        if self.watch.progress.step == 0:  # it is counted afterwards
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(_Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stzoo.finetune(**start, data=data, output=folder / "run", **options)
    assert stzoo.Run(folder / "run").record["step"] == 1
    resumed = stzoo.finetune(output=folder / "run", resume=True)
    before, one, other = (
        item.module.state_dict() for item in (stzoo.load(start["model"]), whole.load("last"), resumed.load("last"))
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=0, msg=name)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in one.items())


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.name)
def test_the_life_of_a_bundled_model(
    model: Model,
    hub: HubServer,
    person: Person,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, start = tmp_path / "data", {"model": model.name, "options": {}}
    if model.architecture in SMALLER:
        config, start["options"] = SMALLER[model.architecture]
        predictor = stzoo.load(model.name, **config)
        start["model"] = str(predictor.save(tmp_path / model.name))
        model = replace(model, requirements=predictor.requirements)
    for split in ("train", "validation"):
        (data / split).mkdir(parents=True)
        FOLDERS[model.task](data / split, model)
    recipe = load_reference(registry().architecture_of(model).recipe)()
    stopped = run_once if recipe.closed_form else run_twice
    stopped(start, model, data, tmp_path, monkeypatch)
    found = stzoo.evaluate(
        tmp_path / "run", data, split="validation", limit=FEWEST.get(model.task, 1), options=start["options"]
    )
    assert all(
        np.isfinite(value.value) for item in found.models if not item.baseline for value in item.metrics.values()
    )
    person.publish(tmp_path / "run", repo_id := f"alice/{model.name}")
    assert person("answer = stzoo.load(repo).report.source", repo=repo_id) == "hub"
    assert hub.read(repo_id, "model.safetensors") == (tmp_path / "run/best/model.safetensors").read_bytes()
