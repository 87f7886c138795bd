"""What is measured on examples, and the numbers and intervals that are made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import random_clips

import stzoo
from stzoo import errors
from stzoo.data import open_data
from stzoo.fields import Image
from stzoo.measuring import NO_REQUIREMENTS, measure, measure_one, metric_functions, summarise
from stzoo.predictor import Predictor
from stzoo.requirements import Requirements
from stzoo.results import Row, Summary
from stzoo.spec import Metric, Task

pytest_plugins = ("commandline",)


@pytest.fixture(scope="module")
def predictor(tiny: Path) -> Predictor:
    return stzoo.load(tiny, device="cpu")


def test_shards_are_every_example_once(predictor: Predictor) -> None:
    examples = open_data(random_clips(5), predictor.task)
    whole = measure(predictor, examples, batch_size=1)
    shards = [measure(predictor, examples, batch_size=1, shard=(rank, 7)) for rank in range(7)]
    assert [len(rows) for rows in shards] == [1, 1, 1, 1, 1, 0, 0]
    joined = sorted((row for rows in shards for row in rows), key=lambda row: row.index)
    assert [(row.index, row.key, row.values) for row in joined] == [(row.index, row.key, row.values) for row in whole]
    assert summarise(reversed(joined), predictor.task) == summarise(whole, predictor.task)


def test_only_the_metrics_that_are_asked_for(predictor: Predictor) -> None:
    examples = open_data(random_clips(1), predictor.task)
    assert list(measure(predictor, examples, metrics=["psnr"])[0].values) == ["psnr"]
    with pytest.raises(errors.ConfigError, match="no metric 'psnrr'. Did you mean 'psnr'"):
        measure(predictor, examples, metrics=["psnrr"])


def test_no_more_than_a_batch_is_read_ahead(predictor: Predictor) -> None:
    read: list[int] = []
    seen: list[int] = []

    class Counting(Sequence[Any]):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, index: Any) -> Any:
            read.append(index)
            return random_clips(1)[0]

        def key(self, index: int) -> str:
            return str(index)

    hook = predictor.module.register_forward_pre_hook(lambda *_: seen.append(len(read)))
    measure(predictor, Counting(), batch_size=3)  # type: ignore[arg-type]
    hook.remove()
    assert seen == [3, 6, 7]


def test_curves_of_different_lengths_are_none() -> None:
    task = Task("numbers", metrics=(Metric("error", "module:function", curve="frame"),))
    rows = [Row(0, "a", {"error": 1.0}, {"error": np.ones(2)}), Row(1, "b", {"error": 3.0}, {"error": np.ones(3)})]
    found = summarise(rows, task)["error"]
    assert (found.value, found.curve) == (2.0, ())


def test_a_metric_may_ask_for_the_networks_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    def inside(prediction: Any, target: Any, crop: int = -1, requirements: Requirements = NO_REQUIREMENTS) -> float:
        return float(requirements.scale if crop < 0 else crop)

    monkeypatch.setattr("stzoo.measuring.load_reference", lambda reference: inside)
    task = Task("enlarging", outputs=(Image("image"),), metrics=(Metric("inside", "module:function"),))
    needs, values = Requirements(scale=3), {"image": np.zeros((1, 4, 4))}
    for name, wanted in (("inside", 3), ("inside?crop=0", 0), ("inside?crop=2", 2)):
        functions, _ = metric_functions(task, [name], needs)
        assert functions[name](values, values) == (wanted, None)
    assert measure_one(task, values, values, needs)[0]["inside"].value == 3
    with pytest.raises(errors.ConfigError, match="has no 'requirements'"):
        metric_functions(task, ["inside?requirements=1"], needs)


def test_a_metric_without_a_value_for_one_example_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = {"module:known": lambda prediction, target: 2.0, "module:undefined": lambda prediction, target: math.nan}
    monkeypatch.setattr("stzoo.measuring.load_reference", computed.__getitem__)
    metrics = tuple(Metric(name.partition(":")[2], name) for name in computed)
    values = {"image": np.zeros((1, 4, 4))}
    found, missing = measure_one(Task("enlarging", outputs=(Image("image"),), metrics=metrics), values, values)
    assert list(found) == ["known"] and "no value" in missing["undefined"]


TASK = Task("numbers", metrics=(Metric("error", "module:function"),))


def rows_of(numbers: Sequence[float]) -> list[Row]:
    return [Row(index, str(index), {"error": float(value)}) for index, value in enumerate(numbers)]


def test_intervals_are_deterministic_and_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        rows = rows_of(rng.exponential(size=60))
        found = summarise(rows, TASK, confidence=0.9, resamples=300)["error"]
        assert found.low is not None and found.high is not None
        held += found.low <= 1.0 <= found.high
    assert 0.82 < held / 200 < 0.95
    assert summarise(rows, TASK) == summarise(rows, TASK, seed=0) != summarise(rows, TASK, seed=1)
    wide, narrow = (summarise(rows, TASK, confidence=share)["error"] for share in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high  # type: ignore[operator]


def test_intervals_are_those_of_scipy() -> None:
    from scipy.stats import bootstrap

    numbers = np.random.default_rng(2).normal(size=40)
    found = summarise(rows_of(numbers), TASK, resamples=5000)["error"]
    expected = bootstrap((numbers,), np.mean, n_resamples=5000, method="percentile", rng=3).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_values_that_are_not_finite_and_single_examples() -> None:
    found = summarise(rows_of([1.0, math.inf, 2.0]), TASK)["error"]
    assert (found.value, found.high) == (math.inf, math.inf)
    assert math.isnan(summarise(rows_of([1.0, math.nan]), TASK)["error"].value)
    assert summarise(rows_of([3.0]), TASK)["error"] == Summary(3.0)
    assert summarise(rows_of([3.0, 4.0]), TASK, resamples=0)["error"] == Summary(3.5)
