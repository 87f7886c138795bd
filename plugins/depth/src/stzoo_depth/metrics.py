"""Metrics of depth maps, in the conventions of the field (Eigen 2014, section 4.3; KITTI's development kit).

Maps are (H, W) in metres; pixels count whose true depth is known (not NaN, greater than 0) and whose prediction is. Every
metric has the options

- ``crop``: "nyu" (Eigen's crop of NYU Depth, rows 45 to 470 and columns 41 to 600 of 480x640), "garg" or "eigen" (the crops of
  KITTI), all scaled to the map's size; "none";
- ``minimum``, ``maximum``: true depths outside of them do not count, and predictions are clipped to them; 80 or 50 is usual for
  KITTI and 10 for NYU Depth; a maximum of 0 is none;
- ``scale``: "median" multiplies the prediction by what makes its median the truth's, which is how predictions of unknown
  scale are judged; "none";
- ``average``: "images", the mean of the images' values, as is usual since 2017; "pixels", over all pixels of all images
  together, as Eigen's formulas have it.

A metric gives three numbers for an image, whose sums over the images it can be computed from: see :func:`mean`, :func:`root` and
:func:`deviation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import ConfigError, InputError

Floats = NDArray[np.float64]
CROPS: dict[str, tuple[float, float, float, float]] = {
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
"""First row, the one after the last, and columns, as parts of height and width."""
Sums = tuple[float, ...]
"""(value, 1) of an image; or, over pixels, (sum of the values, their number, for :func:`deviation` the sum of their roots)."""


def valid_pixels(
    prediction: NDArray[Any],
    target: NDArray[Any],
    crop: str = "none",
    minimum: float = 1e-3,
    maximum: float = 0.0,
    scale: str = "none",
) -> tuple[Floats, Floats]:
    """The predicted and the true depths of all pixels that count, each (N,).

    Raises:
        InputError: the maps are of different sizes, or no pixel counts.
        ConfigError: an option is none of those there are.
    """
    if prediction.shape != target.shape:
        raise InputError(f"the prediction has {prediction.shape} pixels, the truth {target.shape}")
    if crop not in ("none", *CROPS):
        raise ConfigError(f"crop must be none, {', '.join(CROPS)}, got {crop!r}")
    if scale not in ("none", "median"):
        raise ConfigError(f"scale must be none or median, got {scale!r}")
    if minimum <= 0 or (maximum and maximum <= minimum):
        raise ConfigError(f"minimum must be positive and below maximum, got {minimum:g} and {maximum:g}")
    most = maximum or math.inf
    with np.errstate(invalid="ignore"):
        counts = (target >= minimum) & (target <= most) & np.isfinite(target)
    if crop != "none":
        height, width = target.shape
        top, bottom, left, right = CROPS[crop]
        inside = np.zeros(target.shape, bool)
        inside[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
        counts &= inside
    if not counts.any():
        raise InputError(f"no true depth is known between {minimum:g} and {most:g} m in the crop {crop!r}")
    counts &= np.isfinite(prediction)
    if not counts.any():
        raise InputError("the prediction knows no pixel that the truth knows")
    found, true = prediction[counts].astype(np.float64), target[counts].astype(np.float64)
    if scale == "median":
        found = found * (np.median(true) / max(float(np.median(found)), 1e-12))
    return np.clip(found, minimum, most), true


# --- of all images together -------------------------------------------------------------------------------------------


def mean(values: Sequence[Sums]) -> float:
    """The mean over images, or over pixels."""
    total, count = np.sum([item[:2] for item in values], axis=0)
    return float(total / count)


def root(values: Sequence[Sums]) -> float:
    """The mean over images of their roots, or the root of the mean over pixels."""
    return math.sqrt(mean(values)) if len(values[0]) > 2 else mean(values)


def deviation(values: Sequence[Sums]) -> float:
    """The mean over images of their standard deviations, or the standard deviation over pixels."""
    if len(values[0]) == 2:
        return mean(values)
    squares, count, total = np.sum(values, axis=0)
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2))


# --- of one image -----------------------------------------------------------------------------------------------------


def _metric(
    doc: str, values: Callable[[Floats, Floats], Floats], summary: Callable[[Sequence[Sums]], float] = mean
) -> Callable[..., Sums]:
    """A metric made of a number for each pixel, and of how these are put together."""

    def metric(
        prediction: NDArray[Any],
        target: NDArray[Any],
        crop: str = "none",
        minimum: float = 1e-3,
        maximum: float = 0.0,
        scale: str = "none",
        average: str = "images",
    ) -> Sums:
        if average not in ("images", "pixels"):
            raise ConfigError(f"average must be images or pixels, got {average!r}")
        found = values(*valid_pixels(prediction, target, crop, minimum, maximum, scale))
        if summary is mean:
            sums: Sums = (float(found.sum()), float(found.size))
        else:
            sums = (float(np.square(found).sum()), float(found.size), float(found.sum()))
        return sums if average == "pixels" else (summary([sums]), 1.0)

    metric.__doc__ = doc
    return metric


def _within(power: int) -> Callable[[Floats, Floats], Floats]:
    def values(found: Floats, true: Floats) -> Floats:
        return (np.maximum(found / true, true / found) < 1.25**power).astype(np.float64)

    return values


abs_rel = _metric("|predicted - true| / true.", lambda found, true: np.abs(found - true) / true)
sq_rel = _metric(
    "(predicted - true)^2 / true, in metres (Eigen 2014).", lambda found, true: np.square(found - true) / true
)
sq_rel_kitti = _metric(
    "(predicted - true)^2 / true^2 (KITTI's development kit).", lambda found, true: np.square((found - true) / true)
)
rmse = _metric("Root of the mean squared error in metres.", lambda found, true: found - true, root)
mae = _metric("Mean absolute error in metres.", lambda found, true: np.abs(found - true))
rmse_log = _metric(
    "Root of the mean squared error of natural logarithms.", lambda found, true: np.log(found / true), root
)
log10 = _metric("Mean absolute error of decimal logarithms.", lambda found, true: np.abs(np.log10(found / true)))
silog = _metric(
    "100 times the standard deviation of the natural logarithms' errors: 100 times the root of Eigen 2014, equation 1.",
    lambda found, true: 100 * np.log(found / true),
    deviation,
)
delta1, delta2, delta3 = (
    _metric(f"Share of pixels with max(predicted / true, true / predicted) < 1.25^{power}.", _within(power))
    for power in (1, 2, 3)
)
irmse = _metric(
    "Root of the mean squared error of 1 / depth, per kilometre.", lambda found, true: 1000 / found - 1000 / true, root
)
imae = _metric(
    "Mean absolute error of 1 / depth, per kilometre.", lambda found, true: np.abs(1000 / found - 1000 / true)
)


def coverage(prediction: NDArray[Any], target: NDArray[Any], crop: str = "none") -> Sums:
    """Share of the pixels with a true depth whose depth is predicted."""
    counted = valid_pixels(np.where(np.isfinite(prediction), prediction, 0), target, crop)[1].size
    known = np.isfinite(prediction) & np.isfinite(target)
    return valid_pixels(prediction, target, crop)[1].size / counted if known.any() else 0.0, 1.0
