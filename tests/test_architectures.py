"""What an architecture adds to its task (outputs, options), and files that only its formats can read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import Cli, Install
from PIL import Image as PILImage

import stzoo
from stzoo import Architecture, Task, cards
from stzoo.errors import FormatError, InputError, SpecError
from stzoo.fields import Image, Map, Number
from stzoo.registry import registry
from stzoo.requirements import Requirements
from stzoo.ui.limits import limits
from stzoo.ui.subject import Subject

pytest_plugins = ("commandline",)

PLUGIN = """
import torch
from stzoo import Architecture, Model, Pipeline, Requirements, Task, hookimpl
from stzoo.fields import Image, Map, Number

@hookimpl
def stzoo_tasks():
    yield Task("brightening", "Make it brighter", (Image("picture"),), (Image("result"),), (Number("gain", default=2.0),))

@hookimpl
def stzoo_architectures():
    yield Architecture("plain", "brightening", "brightness:Network")
    yield Architecture(
        "unsure", "brightening", "brightness:Network", formats=("brightness:Text",), pipeline="brightness:Unsure",
        outputs=(Map("uncertainty", "Standard deviation"),), options=(Number("doubt", "How much", default=0.5, minimum=0),),
    )

@hookimpl
def stzoo_models():
    yield Model("unsure-one", "unsure", requirements=Requirements(channels=3))

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, picture):
        return picture * self.factor

class Unsure(Pipeline):
    def forward(self, module, batch, options):
        result = module(batch["picture"]) * options["gain"]
        return {"result": result, "uncertainty": result.mean(1) * options["doubt"]}

class Text:
    name, endings = "text", (".txt",)

    def read(self, path):
        return {"factor": torch.tensor(float(path.read_text()))}

    def detect(self, state):
        return {} if state.keys() == {"factor"} else None

    def convert(self, state, config):
        return dict(state)

    def unknown(self, config):
        return ()
"""
PICTURE = np.full((3, 4, 5), 0.25, np.float32)


@pytest.fixture
def unsure(plugin: Install) -> stzoo.Predictor:
    plugin("brightness", PLUGIN)
    return stzoo.create("unsure", device="cpu")


def test_outputs_and_options_of_its_own(unsure: stzoo.Predictor, tmp_path: Path) -> None:
    found = unsure.predict(PICTURE, gain=2.0, doubt=0.1)
    assert list(found) == ["result", "uncertainty"]
    np.testing.assert_allclose(found.uncertainty, np.full((4, 5), 0.05), rtol=1e-6)
    assert found.save(tmp_path / "u.png", "uncertainty").stat().st_size
    assert stzoo.create("plain", device="cpu").predict(PICTURE).keys() == {"result"}
    with pytest.raises(InputError, match="doubt"):
        stzoo.create("plain", device="cpu").predict(PICTURE, doubt=0.1)
    saved = stzoo.load(unsure.save(tmp_path / "model"), device="cpu")
    assert list(saved.predict(PICTURE)) == ["result", "uncertainty"]


def test_no_data_set_has_a_truth_for_them(unsure: stzoo.Predictor) -> None:
    row = {"picture": PICTURE, "result": PICTURE}
    assert [set(part) for part in unsure.pipeline.example(row, {})] == [{"picture"}, {"result"}]
    both = [unsure, stzoo.create("plain", device="cpu")]
    assert {predictor.task.name for predictor in both} == {"brightening"}  # so that they can be evaluated together


def test_pages_cards_and_flags_know_them(unsure: stzoo.Predictor, tmp_path: Path, cli: Cli) -> None:
    model = stzoo.info("unsure-one")
    page = cli("info", "unsure-one")[1]
    assert "uncertainty (Map): Standard deviation" in page and "doubt" in page
    subject = Subject(model, limits({}), "unsure-one")
    assert [[item.field.name for item in part] for part in (subject.outputs, subject.options)] == [
        ["result", "uncertainty"],
        ["gain", "doubt"],
    ]
    assert cards.model_card(model)
    PILImage.new("RGB", (5, 4), (64, 64, 64)).save(picture := tmp_path / "p.png")
    folder = unsure.save(tmp_path / "model")
    code, out, err = cli("predict", folder, picture, "--doubt", "0.25", "--output", tmp_path / "out.png")
    assert code == 0, out + err
    assert (tmp_path / "out-uncertainty.png").is_file()


def test_names_of_its_own_are_new_to_the_task() -> None:
    task = Task("t", inputs=(Image("picture"),), outputs=(Image("result"),), options=(Number("gain"),))
    architecture = Architecture("a", "t", "m:f", outputs=(Map("result"),))
    with pytest.raises(SpecError, match="new to the task 't', which has 'result'"):
        architecture.refined(task)
    with pytest.raises(SpecError, match="'gain'"):
        replace(architecture, outputs=(), options=(Number("gain"),)).refined(task)
    assert replace(architecture, outputs=()).refined(task) is task


def test_a_clash_is_the_plugins_failure(plugin: Install) -> None:
    plugin("brightness", PLUGIN.replace('Map("uncertainty"', 'Map("result"'))
    broken = next(item for item in registry().plugins if item.name == "brightness")
    assert broken.status == "failed" and "new to the task" in broken.reason


def test_a_file_that_only_a_format_can_read(unsure: stzoo.Predictor, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("3.0")
    imported = stzoo.import_checkpoint(tmp_path / "model.txt", device="cpu")
    assert imported.architecture.name == "unsure"
    parameter: Any = imported.module.factor
    assert parameter.item() == 3.0
    with pytest.raises(FormatError, match="does not execute pickles|not a readable"):
        stzoo.import_checkpoint(tmp_path / "model.txt", "plain")


def test_maps(tmp_path: Path) -> None:
    field, value = Map("spread"), np.linspace(0, 0.1, 20, dtype=np.float32).reshape(4, 5)
    field.write(value, tmp_path / "m.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), value)
    picture = np.asarray(field.preview(value)).astype(int).sum(-1)
    assert picture.shape == (4, 5) and picture[0, 0] < 30 and (np.diff(picture.ravel()) >= 0).all()
    assert np.asarray(field.preview(np.zeros((2, 2)))).max() < 30
    with pytest.raises(SpecError):
        field.sample(Requirements())
