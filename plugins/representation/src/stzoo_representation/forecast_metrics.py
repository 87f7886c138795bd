"""How good a forecast is: arrays (T, V) against arrays (T, V)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import InputError

Floats = NDArray[np.float64]


def _pair(prediction: Any, target: Any) -> tuple[Floats, Floats]:
    found, true = (np.asarray(item, np.float64) for item in (prediction, target))
    if found.shape != true.shape:
        raise InputError(f"the forecast has {found.shape} steps and variables, the truth {true.shape}")
    return found, true


def mse(prediction: Any, target: Any) -> Floats:
    """The squared error, averaged over variables, at each step (T,)."""
    found, true = _pair(prediction, target)
    return np.asarray(np.square(found - true).mean(1))


def mae(prediction: Any, target: Any) -> Floats:
    """The absolute error, averaged over variables, at each step (T,)."""
    found, true = _pair(prediction, target)
    return np.asarray(np.abs(found - true).mean(1))


def smape(prediction: Any, target: Any) -> float:
    """The mean of 200 |f - y| / (|f| + |y|), in percent; 0 where both are 0 (Makridakis, M4)."""
    found, true = _pair(prediction, target)
    size = np.abs(found) + np.abs(true)
    return float(200 * np.divide(np.abs(found - true), size, out=np.zeros_like(size), where=size > 0).mean())


def mase(prediction: Any, target: Any) -> tuple[float, int]:
    """The mean absolute error over that of the seasonal naive forecast of the series before it (Hyndman and Koehler 2006).

    Of the variables together and how many there are; those that the seasonal naive forecast was never wrong for are left
    out, and so is everything if the target has no ``past`` (:class:`stzoo_representation.forecasting.Future`).
    """
    found, true = _pair(prediction, target)
    past = getattr(target, "past", None)
    if past is None or len(past) <= target.period:
        return 0.0, 0
    scale = np.abs(past[target.period :] - past[: -target.period]).mean(0)
    known = scale > 1e-12 * np.abs(past).max(0)
    return float((np.abs(found - true).mean(0)[known] / scale[known]).sum()), int(known.sum())


def mean(values: Sequence[tuple[float, int]]) -> float:
    """The mean of sums and counts; NaN if nothing was counted."""
    total, count = np.sum(values, axis=0)
    return float(total / count) if count else math.nan
