"""Metrics of masks, in the conventions of the field.

Numbers of the whole data set come of sums over examples (pixels right, in the prediction, in the truth, for each class), so that
processes and examples in any order give the same. Pixels that the truth ignores (255) count nowhere; a prediction of 255
elsewhere is wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo import Requirements
from stzoo.errors import InputError
from stzoo.media.masks import IGNORE

Mask = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
_ANY = Requirements()
TOLERANCE = 0.008
"""Of a picture's diagonal: how far borders may be apart in DAVIS's F-measure."""


# --- pixels -----------------------------------------------------------------------------------------------------------


def counts(prediction: Mask, target: Mask, requirements: Requirements = _ANY) -> Floats:
    """Pixels of each class (K, 3): right, only in the prediction, only in the truth.

    Args:
        prediction, target: (..., H, W).
        requirements: whose classes are counted; without any, all numbers up to 254.

    Raises:
        InputError: the shapes differ.
    """
    prediction, target, known = _alike(prediction, target)
    number = len(requirements.classes) or IGNORE
    predicted, true = prediction[known].astype(np.int64), target[known].astype(np.int64)
    right = np.bincount(true[predicted == true], minlength=256)
    only_predicted = np.bincount(predicted, minlength=256) - right
    only_true = np.bincount(true, minlength=256) - right
    return np.stack([right, only_predicted, only_true], 1)[:number].astype(np.float64)


def foreground_counts(prediction: Mask, target: Mask) -> Floats:
    """As :func:`counts`, (1, 3), with all classes but 0 as one."""
    prediction, target, known = _alike(prediction, target)
    predicted, true = prediction[known] > 0, target[known] > 0
    right = np.count_nonzero(predicted & true)
    return np.array([[right, predicted.sum() - right, true.sum() - right]], np.float64)


def mean_iou(values: Sequence[Floats]) -> float:
    """Intersection over union, mean over the classes that are in the predictions or the truths; ``values``: (K, 3), or (3,) for one
    class, of each example. NaN where there is none.

    (The PASCAL VOC and Cityscapes benchmarks' convention.)
    """
    right, wrong = _sums(values)
    return _mean(right, right + wrong)


def mean_dice(values: Sequence[Floats]) -> float:
    """Dice coefficient, as :func:`mean_iou`; 1 where one class alone is nowhere, in prediction nor truth."""
    right, wrong = _sums(values)
    if len(right) == 1 and not right[0] + wrong[0]:
        return 1.0
    return _mean(2 * right, 2 * right + wrong)


def right(prediction: Mask, target: Mask) -> Floats:
    """Pixels that are right, and those that are labelled."""
    prediction, target, known = _alike(prediction, target)
    return np.array([np.count_nonzero((prediction == target) & known), np.count_nonzero(known)], np.float64)


def share(values: Sequence[Floats]) -> float:
    """The sum of the first numbers over that of the second."""
    first, second = np.sum(values, axis=0)
    return float(first / second) if second else math.nan


def dice_image(prediction: Mask, target: Mask) -> float:
    """Dice coefficient of everything but class 0; 1 where it is in neither."""
    return mean_dice([foreground_counts(prediction, target)])


def _alike(prediction: Mask, target: Mask) -> tuple[Mask, Mask, NDArray[np.bool_]]:
    """Both, and where the truth is labelled."""
    prediction, target = np.asarray(prediction), np.asarray(target)
    if prediction.shape != target.shape:
        raise InputError(f"the prediction is {prediction.shape}, the truth {target.shape}")
    return prediction, target, target != IGNORE


def _sums(values: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Right and wrong pixels of each class."""
    found = np.atleast_2d(np.sum(values, axis=0))
    return found[:, 0], found[:, 1] + found[:, 2]


def _mean(numerator: Floats, denominator: Floats) -> float:
    there = denominator > 0
    return float((numerator[there] / denominator[there]).mean()) if there.any() else math.nan


# --- borders ----------------------------------------------------------------------------------------------------------


def borders(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of (H, W) that differ from the one to the right, below, or both; the last row and column look along themselves.

    (``seg2bmap`` of the Berkeley segmentation benchmark, at the mask's own size.)
    """
    edges = np.zeros(mask.shape, bool)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1] |= mask[:-1] != mask[1:]
    edges[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edges


def border_f(prediction: NDArray[np.bool_], target: NDArray[np.bool_], tolerance: float = TOLERANCE) -> float:
    """F-measure of the borders of two areas (H, W): a border pixel is right where the other has one within ``tolerance``.

    Args:
        tolerance: of the diagonal (rounded up to whole pixels), or from 1 on in pixels.

    1 where neither has a border, 0 where one alone has. (Perazzi et al., CVPR 2016, section 5, with dilation by a disk.)
    """
    from scipy.ndimage import distance_transform_edt

    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*prediction.shape))
    one, two = borders(prediction), borders(target)
    if not one.any() or not two.any():
        return float(not one.any() and not two.any())
    precision = (distance_transform_edt(~two)[one] <= radius).mean()
    recall = (distance_transform_edt(~one)[two] <= radius).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def boundary_f(prediction: Mask, target: Mask, tolerance: float = TOLERANCE) -> float:
    """:func:`border_f`, mean over the classes of the truth (H, W). (Csurka et al., BMVC 2013.)

    Ignored pixels are of no class in either. Raises InputError where the shapes differ or nothing is labelled.
    """
    prediction, target, known = _alike(prediction, target)
    if not known.any():
        raise InputError("the truth labels no pixel")
    scores = [
        border_f((prediction == number) & known, target == number, tolerance) for number in np.unique(target[known])
    ]
    return float(np.mean(scores))


# --- clips ------------------------------------------------------------------------------------------------------------


def j_and_f(prediction: Mask, target: Mask, tolerance: float = TOLERANCE) -> float:
    """Mean of :func:`j_mean` and :func:`f_mean`: the number of the DAVIS 2017 benchmark (arXiv:1704.00675)."""
    return (j_mean(prediction, target) + f_mean(prediction, target, tolerance)) / 2


def j_mean(prediction: Mask, target: Mask) -> float:
    """Intersection over union of each object in each frame of clips (T, H, W), mean over frames, then over objects.

    Objects are the numbers of the truth but 0; 1 where one is in neither. Of more than two frames the first and the last are
    left out, as the benchmark does for clips whose first mask is given. Raises InputError where the shapes differ.
    """
    return _over_objects([[_overlap(*pair) for pair in frames] for frames in _frames(prediction, target)])


def f_mean(prediction: Mask, target: Mask, tolerance: float = TOLERANCE) -> float:
    """:func:`border_f`, as :func:`j_mean`."""
    return _over_objects([[border_f(*pair, tolerance) for pair in frames] for frames in _frames(prediction, target)])


def statistics(values: Sequence[float]) -> tuple[float, float, float]:
    """Of the numbers of a clip's frames: mean, recall (share above 0.5) and decay (the first quarter's mean less the last's)."""
    found = np.asarray(values, np.float64)
    ends = (np.round(np.linspace(1, len(found), 5) + 1e-10) - 1).astype(int)
    quarters = [found[start : stop + 1] for start, stop in itertools.pairwise(ends)]
    return float(found.mean()), float((found > 0.5).mean()), float(quarters[0].mean() - quarters[-1].mean())


def _frames(prediction: Mask, target: Mask) -> Iterator[list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]]:
    """For each object its areas in each frame that counts."""
    prediction, target, known = _alike(prediction, target)
    if prediction.ndim != 3:
        raise InputError(f"shape {prediction.shape} is not that of a clip's masks (frames, height, width)")
    inner = slice(1, -1) if len(target) > 2 else slice(None)
    objects = np.unique(target[known & (target > 0)])
    for number in objects.tolist() or [1]:
        one, two = (prediction == number) & known, target == number
        yield list(zip(one[inner], two[inner], strict=True))


def _overlap(prediction: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(prediction | target)
    return float(np.count_nonzero(prediction & target) / union) if union else 1.0


def _over_objects(values: Sequence[Sequence[float]]) -> float:
    return float(np.mean([np.mean(item) for item in values]))


# --- objects ----------------------------------------------------------------------------------------------------------

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Overlaps from 0.5 to 0.95."""


def matches(prediction: Mask, target: Mask) -> Floats:
    """Objects (10, 3) found, wrong and missed, where one counts as found if it overlaps with a true one by more than each of
    :data:`THRESHOLDS` (intersection over union).

    Args:
        prediction, target: numbers of objects (H, W), 0 for none.
    """
    if prediction.shape != target.shape:
        raise InputError(f"the prediction is {prediction.shape}, the truth {target.shape}")
    one, two = (np.unique(item, return_inverse=True) for item in (prediction, target))
    size = (len(one[0]), len(two[0]))
    both = np.bincount(one[1].ravel() * size[1] + two[1].ravel(), minlength=size[0] * size[1]).reshape(size)
    areas = both.sum(1)[:, None] + both.sum(0) - both
    overlap = (both / areas)[one[0] > 0][:, two[0] > 0]
    found = np.array([np.count_nonzero(overlap > threshold) for threshold in THRESHOLDS], np.float64)
    return np.stack([found, overlap.shape[0] - found, overlap.shape[1] - found], 1)


def precision_50(prediction: Mask, target: Mask) -> float:
    """Found over found, wrong and missed objects, at an overlap above 0.5; 1 where there are none."""
    return float(_precisions(prediction, target)[0])


def precision(prediction: Mask, target: Mask) -> float:
    """Mean of :func:`precision_50` over :data:`THRESHOLDS`: the number of the 2018 Data Science Bowl."""
    return float(_precisions(prediction, target).mean())


def _precisions(prediction: Mask, target: Mask) -> Floats:
    found = matches(prediction, target)
    total = found.sum(1)
    return np.where(total > 0, found[:, 0] / np.maximum(total, 1), 1.0)
