"""Inputs and columns that may be missing: in tasks, predictions, folders, data sets and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image as PILImage

from stzoo import Architecture, Requirements, Task, layout
from stzoo.data import open_data
from stzoo.errors import DatasetError, InputError, SpecError
from stzoo.fields import Depth, Image
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
    with pytest.raises(SpecError, match="then the optional ones"):
        Task("wrong", inputs=(Image("hint", optional=True),))
    assert len(TASK.sample(Requirements(native_size=(4, 5)))) == 1


def test_predictions_with_and_without(predictor: Predictor) -> None:
    items: list[Any] = [picture(0.25), (picture(0.25), picture(0.5)), (picture(0.25), None)]
    found = list(predictor.predict_batch(items))
    assert [float(item.result.max()) for item in found] == [0.25, 0.75, 0.25]
    assert "hint" not in found[0].inputs and min(found[0].figure().size) > 0
    assert float(predictor.predict(picture(0.25), hint=picture(0.5)).result.max()) == 0.75
    with pytest.raises(InputError, match="'picture' is missing"):
        predictor.predict(hint=picture(0.5))


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
