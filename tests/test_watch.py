"""Predictions that come in parts: pipelines whose forward is a generator, values that are no arrays, lists of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from stzoo import Architecture, Model, Task, api, origins
from stzoo.errors import WeightsUnavailable
from stzoo.fields import Field, Image, Number
from stzoo.predictor import LoadReport, Partial, Pipeline, Predictor


class Words(Field):
    """Any text."""

    def read(self, value: Any, requirements: Any, **options: Any) -> str:
        return str(value)


TASK = Task(
    "drawing",
    inputs=(Words("words"),),
    outputs=(Image("picture"), Words("said", optional=True)),
    options=(Number("steps", "How many", 3, 1, integer=True),),
    pipeline="test_watch:Drawing",
)


class Drawing(Pipeline):
    """A picture for each item, of its own size, brighter from step to step."""

    raw = True
    going: ClassVar[list[str]] = []

    def preprocess(self, values: Any) -> dict[str, Any]:
        return dict(values)

    def forward(self, module: torch.nn.Module, batch: Any, options: Any) -> Iterator[Partial]:  # type: ignore[override]
        assert not torch.is_inference_mode_enabled(), "it may learn"
        self.going.append("start")
        try:
            for step in range(1, options["steps"]):
                share = step / options["steps"]
                yield Partial({"picture": torch.full((len(batch["words"]), 3, 2, 2), share)}, share, f"step {step}")
            pictures = [np.ones((3, 2, len(words)), np.float32) for words in batch["words"]]
            yield Partial({"picture": pictures, "said": [words.upper() for words in batch["words"]]})
        finally:
            self.going.append("end")

    def postprocess(self, outputs: Any, values: Any) -> dict[str, Any]:
        return dict(outputs)


class Nothing(torch.nn.Module):
    """It has no tensors."""


@pytest.fixture
def predictor() -> Predictor:
    made = Predictor(Nothing(), Architecture("d", "drawing", "test_watch:Nothing"), TASK, {}, LoadReport("d", "none"))
    going(made).clear()
    return made


def going(predictor: Predictor) -> list[str]:
    """What its pipeline has done."""
    return predictor.pipeline.going  # type: ignore[attr-defined, no-any-return]


def test_early_predictions_come_first_and_the_last_is_what_predict_gives(predictor: Predictor) -> None:
    found = list(predictor.watch("three", steps=4))
    assert [(item.share, item.note, list(item)) for item in found] == [
        (0.25, "step 1", ["picture"]),
        (0.5, "step 2", ["picture"]),
        (0.75, "step 3", ["picture"]),
        (1.0, "", ["picture", "said"]),
    ]
    assert [float(item.picture.mean()) for item in found] == [0.25, 0.5, 0.75, 1]
    assert found[-1].picture.shape == (3, 2, 5) and found[-1].said == "THREE"
    assert found[0].seconds <= found[-1].seconds
    last = predictor.predict("three")
    assert np.array_equal(last.picture, found[-1].picture) and last.share == 1


def test_items_of_a_batch_need_not_be_alike(predictor: Predictor) -> None:
    found = list(predictor.predict_batch(["a", "bcd"], batch_size=2))
    assert [item.picture.shape[-1] for item in found] == [1, 3] and [item.said for item in found] == ["A", "BCD"]
    assert going(predictor) == ["start", "end"], "one batch"


def test_who_stops_watching_stops_the_work(predictor: Predictor) -> None:
    watching = predictor.watch("long", steps=1_000_000)
    assert next(watching).note == "step 1" and going(predictor) == ["start"]
    del watching
    assert going(predictor) == ["start", "end"]


def test_only_networks_without_tensors_load_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def origin(build: str) -> Any:
        architecture = Architecture("d", "drawing", build)
        return origins.Origin("d", architecture, {}, lambda: None, Model("d", "d"))  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(api.registry(), "task_of", lambda spec: TASK)
    made = api._without_weights(origin("test_watch:Nothing"), {})
    assert made and made.report.source == "none" and made.spec and made.spec.name == "d"
    assert api._without_weights(origin("torch.nn:PReLU"), {}) is None
    with pytest.raises(WeightsUnavailable, match="has no weights yet"):
        origins._zoo_origin(Model("splat", "scene-fit", task="reconstruction"), None, None, None).locate()
