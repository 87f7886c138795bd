"""Inputs, columns and outputs that may be missing: in tasks, predictions, folders, data sets and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image as PILImage

from stzoo import Architecture, Metric, Requirements, Task, layout
from stzoo.data import open_data
from stzoo.errors import DatasetError, InputError, SpecError
from stzoo.fields import Choice, Depth, Image, Number
from stzoo.measuring import measure, measure_one, metric_functions
from stzoo.predictor import LoadReport, Pipeline, Predictor

TASK = Task(
    "enlarging",
    inputs=(Image("picture"), Image("hint", "Helps", optional=True)),
    outputs=(Image("result"),),
    columns=(Image("picture"), Image("hint", optional=True)),
)


class Sum(torch.nn.Module):
    def forward(self, picture: torch.Tensor, hint: torch.Tensor | None = None) -> torch.Tensor:
        return picture if hint is None else picture + hint


@pytest.fixture
def predictor() -> Predictor:
    architecture = Architecture("sum", TASK.name, "builtins:object", pipeline="stzoo.predictor:Pipeline")
    return Predictor(Sum(), architecture, TASK, {}, LoadReport("sum", "none"))


def picture(value: float) -> np.ndarray:
    return np.full((3, 4, 5), value, np.float32)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.new("RGB", (5, 4), (9, 9, 9)).save(path)


def test_the_optional_come_last() -> None:
    with pytest.raises(SpecError, match="then the optional ones"):
        Task("wrong", inputs=(Image("hint", optional=True), Image("picture")))
    assert len(TASK.sample(Requirements(native_size=(4, 5)))) == 1


def test_predictions_with_and_without(predictor: Predictor) -> None:
    items: list[Any] = [picture(0.25), (picture(0.25), picture(0.5)), (picture(0.25), None)]
    found = list(predictor.predict_batch(items))
    assert [float(item.result.max()) for item in found] == [0.25, 0.75, 0.25]
    assert "hint" not in found[0].inputs and min(found[0].figure().size) > 0
    assert float(predictor.predict(picture(0.25), hint=picture(0.5)).result.max()) == 0.75
    with pytest.raises(InputError, match="'picture' is missing"):
        predictor.predict(hint=picture(0.5))


class Made(Pipeline):
    """Pictures of one brightness, as an option says, or of the hint's."""

    def preprocess(self, values: Any) -> dict[str, np.ndarray]:
        return dict(values) or {"none": np.empty(0, np.float32)}

    def forward(self, module: torch.nn.Module, batch: Any, options: Any) -> dict[str, torch.Tensor]:
        count = len(next(iter(batch.values())))
        found = torch.full((count, 3, 4, 5), options["brightness"])
        return {"result": batch.get("hint", found)}

    def postprocess(self, outputs: Any, values: Any) -> dict[str, Any]:
        return dict(outputs)


@pytest.mark.parametrize("inputs", [(), (Image("hint", optional=True),)])
def test_a_task_may_need_no_input(inputs: tuple[Image, ...], tmp_path: Path) -> None:
    task = Task(
        "making",
        inputs=inputs,
        outputs=(Image("result"),),
        options=(Number("brightness", default=0.5, minimum=0, maximum=1),),
        columns=(Image("result"),),
        metrics=(Metric("error", f"{__name__}:error"),),
    )
    architecture = Architecture("made", task.name, "builtins:object", pipeline=f"{__name__}:Made")
    predictor = Predictor(Sum(), architecture, task, {}, LoadReport("made", "none"))
    assert float(predictor.predict(brightness=0.25).result.max()) == 0.25 and task.sample(Requirements()) == ()
    found = list(predictor.predict_batch([(), ()], batch_size=2))
    assert [float(item.result.max()) for item in found] == [0.5, 0.5] and min(found[0].figure().size) > 0
    assert list(predictor.fingerprint()) == ["result"]
    examples = open_data([{"result": picture(0.75)}], task)
    assert [row.values["error"] for row in measure(predictor, examples)] == [0.25]
    with pytest.raises(InputError, match=f"{1 + len(inputs)} inputs, task 'making' takes"):
        predictor.predict(*[picture(0.25)] * (1 + len(inputs)))
    if inputs:
        assert float(predictor.predict(picture(0.75)).result.max()) == 0.75


class Twice(Pipeline):
    """Its second output is only there where the option asks for it."""

    def forward(self, module: torch.nn.Module, batch: Any, options: Any) -> dict[str, torch.Tensor]:
        found = {"result": module(batch["picture"])}
        return found | ({"more": 2 * found["result"]} if options["more"] else {})


def test_an_output_may_wait_to_be_asked_for(tmp_path: Path) -> None:
    task = Task(
        "doubling",
        inputs=(Image("picture"),),
        outputs=(Image("result"), Image("more", optional=True)),
        options=(Choice("more", "Whether there is more", default=False, choices=(True, False)),),
        columns=(Image("picture"), Image("result"), Image("more", optional=True)),
        metrics=(Metric("error", f"{__name__}:error"), Metric("further", f"{__name__}:error", output="more")),
    )
    architecture = Architecture("sum", task.name, "builtins:object", pipeline=f"{__name__}:Twice")
    predictor = Predictor(Sum(), architecture, task, {}, LoadReport("sum", "none"))
    without, given = predictor.predict(picture(0.25)), predictor.predict(picture(0.25), more=True)
    assert list(without) == ["result"] and list(given) == ["result", "more"]
    assert without.figure().height < given.figure().height
    assert list(predictor.fingerprint()) == ["result"]
    given.save(tmp_path / "x.png", "more")
    with pytest.raises(InputError, match="more was not asked for"):
        without.save(tmp_path / "x.png", "more")
    row = {"picture": picture(0), "result": picture(0), "more": None}
    assert list(predictor.pipeline.example(row, {})[1]) == ["result"]
    truth = {"result": picture(0.25), "more": picture(0.5)}
    assert list(measure_one(task, without.outputs, truth)[0]) == ["error"]
    assert list(measure_one(task, given.outputs, truth)[0]) == ["error", "further"]
    functions, _ = metric_functions(task, ["further"])
    with pytest.raises(InputError, match="more was not asked for"):
        functions["further"](without.outputs, truth)


def error(prediction: np.ndarray, target: np.ndarray) -> float:
    return float(np.abs(prediction - target).mean())


def test_examples_of_rows_without_it() -> None:
    pipeline = Pipeline(TASK, Requirements())
    assert list(pipeline.example({"picture": picture(0), "hint": None}, {})[0]) == ["picture"]
    assert list(pipeline.example({"picture": picture(0), "hint": picture(0)}, {})[0]) == ["picture", "hint"]


def test_folders_without_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / "picture" / f"{name}.png")
    found = open_data(tmp_path, TASK)
    assert len(found) == 2 and found[0]["hint"] is None and found[0]["picture"].shape == (3, 4, 5)
    assert "may be left out" in layout.tree(TASK)
    write(tmp_path / "hint" / "one.png")
    with pytest.raises(DatasetError, match=r"two.png has no partner hint/two"):
        open_data(tmp_path, TASK)
    write(tmp_path / "hint" / "two.png")
    assert open_data(tmp_path, TASK)[1]["hint"].shape == (3, 4, 5)
    assert len(open_data(str(tmp_path / "picture" / "*.png"), TASK)) == 2


def test_data_sets_without_it(tmp_path: Path) -> None:
    (row,) = open_data([{"picture": picture(0)}], TASK)
    assert row["hint"] is None
    write(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()

    def columns(*names: str) -> Dataset:
        from datasets import Image as Feature

        rows = Dataset.from_dict({name: [{"bytes": data, "path": None}] for name in names})
        for name in names:
            rows = rows.cast_column(name, Feature())
        return rows

    assert open_data(columns("picture"), TASK)[0]["hint"] is None
    assert open_data(columns("picture", "colour"), TASK)[0]["hint"] is not None, "the only one that can be meant"
    assert open_data(columns("picture", "colour", "other"), TASK)[0]["hint"] is None
    assert open_data(columns("colour"), TASK)[0]["hint"] is None, "what is needed is looked for first"
    with pytest.raises(DatasetError, match="has no column 'picture'"):
        open_data(columns("colour", "other"), TASK)


def test_a_field_says_it_by_keyword() -> None:
    assert Depth("depth", optional=True).optional and not Depth("depth", "far").optional
    with pytest.raises(TypeError):
        Image("picture", "", True)  # type: ignore[call-arg]
