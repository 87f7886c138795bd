"""The life of every model that comes with the zoo: fine-tuned, stopped, resumed, evaluated, published, loaded again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hubserver import HubServer
from test_publish import Person, person  # noqa: F401 (a fixture)

import stzoo
from stzoo.spec import Model
from stzoo.training.loop import _Trainer

BUNDLED = [model for model in stzoo.models() if model.weights and model.weights.bundled]


def clips(folder: Path, model: Model) -> None:
    """Three clips of a bar that moves to the right, of the size and length the model was made for."""
    needs = model.requirements
    height, width = needs.native_size
    for index in range(3):
        clip = np.zeros((needs.frames_in + needs.frames_out, needs.channels, height, width), np.uint8)
        for time, frame in enumerate(clip):
            frame[:, :, index + time : index + time + 8] = 255
        np.savez(folder / f"{index}.npz", video=clip)


FOLDERS: dict[str, Callable[[Path, Model], None]] = {"video-prediction": clips}
"""Task -> what fills a split's folder with examples."""


@pytest.mark.parametrize("model", BUNDLED, ids=lambda model: model.name)
def test_the_life_of_a_bundled_model(
    model: Model,
    hub: HubServer,
    person: Person,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = tmp_path / "data"
    for split in ("train", "validation"):
        (data / split).mkdir(parents=True)
        FOLDERS[model.task](data / split, model)
    options: dict[str, Any] = {"steps": 4, "batch_size": 1, "checkpoint_every": 4, "trackers": [], "pictures": 0}
    whole = stzoo.finetune(model.name, data, tmp_path / "whole", **options)

    step, stop_at = _Trainer._step, 2

    def interrupted(self: _Trainer, *arguments: Any) -> None:
        step(self, *arguments)
        if self.watch.progress.step + 1 == stop_at:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(_Trainer, "_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stzoo.finetune(model.name, data, tmp_path / "broken", **options)
    assert stzoo.Run(tmp_path / "broken").record["step"] == stop_at
    resumed = stzoo.finetune(output=tmp_path / "broken", resume=True)
    start, one, other = stzoo.load(model.name), whole.load("last"), resumed.load("last")
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(tensor, other.module.state_dict()[name], rtol=0, atol=0, msg=name)
    assert any(
        not torch.equal(tensor, start.module.state_dict()[name]) for name, tensor in one.module.state_dict().items()
    )

    found = stzoo.evaluate(tmp_path / "broken", data, split="validation")
    assert all(np.isfinite(value.value) for item in found.models for value in item.metrics.values())
    person.publish(tmp_path / "broken", repo_id := f"alice/{model.name}")
    assert person("answer = stzoo.load(repo).report.source", repo=repo_id) == "hub"
    assert hub.read(repo_id, "model.safetensors") == (tmp_path / "broken/best/model.safetensors").read_bytes()
