"""Metrics of masks against the benchmarks' own numbers, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import Golden

from stzoo import Requirements
from stzoo.errors import InputError
from stzoo.measuring import measure_one, summarise
from stzoo.registry import registry
from stzoo.results import Row
from stzoo.spec import Task
from stzoo_segmentation import metrics

GOLDENS = Path(__file__).parent / "goldens"
THREE = Requirements(classes=("a", "b", "c"))


def test_j_and_f_are_those_of_the_davis_benchmark() -> None:
    golden = Golden(GOLDENS / "metrics-davis-jf")
    tensors, notes = golden.tensors, golden.facts
    prediction, target = (tensors[f"input_{name}"].numpy() for name in ("pred", "gt"))
    frames = list(zip(prediction > 0, target > 0, strict=True))
    j = [metrics._overlap(*pair) for pair in frames]
    f = [metrics.border_f(*pair) for pair in frames]
    np.testing.assert_allclose(j, tensors["output_J"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(f, tensors["output_F"], rtol=0, atol=1e-12)
    wide = [metrics.border_f(*pair, 0.02) for pair in frames]
    np.testing.assert_allclose(wide, tensors["output_F_bound0.02"], rtol=0, atol=1e-12)
    pixels = [metrics.border_f(*pair, 2) for pair in frames]
    np.testing.assert_allclose(pixels, tensors["output_F_bound2px"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(metrics.borders(target[0] > 0), tensors["output_bmap_gt0"].bool())
    for values, name in ((j, "J"), (f, "F")):
        expected = tensors[f"output_{name}_mean_recall_decay"]
        np.testing.assert_allclose(metrics.statistics(values), expected, rtol=0, atol=1e-12)
    assert (np.mean(j) + np.mean(f)) / 2 == pytest.approx(notes["JF_mean"], abs=1e-8)
    assert metrics.j_mean(prediction, target) == pytest.approx(np.mean(j[1:-1]))  # first and last frame are left out
    assert metrics.j_and_f(prediction, target) == pytest.approx((np.mean(j[1:-1]) + np.mean(f[1:-1])) / 2)


def test_pixel_counts_are_those_of_segmentation_models_pytorch() -> None:
    tensors = Golden(GOLDENS / "smp-unet-losses-metrics").tensors
    prediction, target = tensors["input_logits"].argmax(1).numpy(), tensors["input_target"].numpy()
    four = Requirements(classes=("a", "b", "c", "d"))
    found = [metrics.counts(*pair, four) for pair in zip(prediction, target, strict=True)]
    for place, name in enumerate(("tp", "fp", "fn")):
        np.testing.assert_array_equal([item[:, place] for item in found], tensors[f"output_stats_{name}"])
    # "macro" and "micro" there are over images and classes alike; per image and class, then the mean:
    iou = [[metrics.mean_iou([row]) for row in item] for item in found]
    assert np.mean(iou) == pytest.approx(float(tensors["output_iou_score_macro-imagewise"]), abs=1e-6)
    assert metrics.mean_iou(found) == pytest.approx(float(tensors["output_iou_score_macro"]), abs=1e-6)
    assert metrics.mean_dice(found) == pytest.approx(float(tensors["output_f1_score_macro"]), abs=1e-6)


def test_ignored_pixels_count_nowhere_and_classes_that_are_nowhere_are_left_out() -> None:
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    prediction = np.array([[0, 1, 1, 1]], np.uint8)
    found = [metrics.counts(prediction, truth, THREE)]
    assert found[0].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert metrics.mean_iou(found) == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert metrics.share([metrics.right(prediction, truth)]) == pytest.approx(2 / 3)
    assert metrics.dice_image(prediction, truth) == pytest.approx(2 / 3)
    assert metrics.dice_image(truth * 0, truth * 0) == 1
    assert np.isnan(metrics.mean_iou([metrics.counts(truth * 0, truth * 0 + 255, THREE)]))


def test_a_prediction_that_ignores_is_wrong() -> None:
    truth = np.zeros((1, 2), np.uint8)
    assert metrics.mean_iou([metrics.counts(np.array([[0, 255]], np.uint8), truth, THREE)]) == 0.5


def test_the_mean_is_of_all_pixels_together_and_curves_are_by_class() -> None:
    """One confusion for the data set, in whatever order and parts it is measured."""
    rng, task = np.random.default_rng(0), registry().get(Task, "segmentation")
    rows = []
    for index in range(4):
        truth, prediction = rng.integers(0, 3, (2, 8, 9 + index)).astype(np.uint8)
        rows.append(Row(index, str(index), {"iou": metrics.counts(prediction, truth, THREE)}))
        rows[-1].curves["iou"] = rows[-1].values["iou"]
    summary = summarise(rows[::-1], task)["iou"]
    right, one, two = sum(row.values["iou"] for row in rows).T
    assert summary.curve == pytest.approx(right / (right + one + two))
    assert summary.value == pytest.approx(np.mean(right / (right + one + two)))
    assert summary.low < summary.value < summary.high
    assert summarise(rows, task)["iou"] == summary


def test_boundary_f_is_the_mean_over_classes() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[10:20, 10:20] = 1
    assert metrics.boundary_f(truth, truth) == 1
    moved = np.roll(truth, 1, 1)
    assert metrics.boundary_f(moved, truth, 1) == 1
    assert 0 < metrics.boundary_f(np.roll(truth, 4, 1), truth, 1) < 0.8
    assert metrics.boundary_f(truth * 0, truth) == 0
    with pytest.raises(InputError, match="labels no pixel"):
        metrics.boundary_f(truth, truth * 0 + 255)


def test_objects_are_found_where_they_overlap_enough() -> None:
    truth = np.zeros((20, 20), np.uint16)
    truth[0:10, 0:10], truth[12:18, 12:18] = 7, 3
    prediction = np.zeros_like(truth)
    prediction[0:10, 0:7], prediction[12:18, 0:3] = 1, 2  # overlap 0.7, and one that is not there
    found = metrics.matches(prediction, truth)
    assert found[0].tolist() == [1, 1, 1]
    assert found[:, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]  # up to 0.65; 0.7 is not above 0.7
    assert metrics.precision_50(prediction, truth) == pytest.approx(1 / 3)
    assert metrics.precision(prediction, truth) == pytest.approx(4 / 10 / 3)
    assert metrics.precision(truth, truth) == 1
    assert metrics.precision(truth * 0, truth * 0) == 1
    assert metrics.precision(truth * 0, truth) == 0


def test_metrics_of_objects_are_only_asked_for_by_name() -> None:
    task = registry().get(Task, "segmentation")
    mask = np.eye(12, dtype=np.uint8)
    found, _ = measure_one(task, {"mask": mask}, {"mask": mask, "instances": mask.astype(np.uint16)}, THREE)
    assert found["iou"].value == found["dice"].value == found["boundary_f"].value == 1
    assert "ap" not in found


@pytest.mark.parametrize("metric", [metrics.counts, metrics.right, metrics.boundary_f, metrics.matches, metrics.j_mean])
def test_masks_of_different_sizes_are_refused(metric: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="the prediction is"):
        metric(np.zeros((3, 4, 5), np.uint8), np.zeros((3, 4, 6), np.uint8))
