"""Metrics of verification: of distances, whatever the threshold, and of the decision.

A distance that is not small enough is a rejection: a pair is accepted if it is below the threshold, strictly. A metric over all
pairs gets (distance, whether they are the same) of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import ConfigError

Floats = NDArray[np.float64]
FOLDS = 10
"""Of the protocol of Labeled Faces in the Wild."""
PLACES = 21
"""False-accept rates that a drawn curve has: 0, 0.05 ... 1."""


def roc(distances: Any, same: Any) -> tuple[Floats, Floats, Floats]:
    """False-accept and true-accept rates, and the thresholds, from none accepted to all: each (K,), rising.

    ``distances`` (N,), ``same`` (N,). A rate that has no pairs to be of is NaN.
    """
    distances, same = np.asarray(distances, np.float64), np.asarray(same, bool)
    order = np.argsort(distances, kind="stable")
    ordered, right = distances[order], same[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal distances are accepted together
    accepted = np.cumsum(right)[last]
    with np.errstate(invalid="ignore", divide="ignore"):
        true = np.concatenate(([0], accepted)) / same.sum()
        false = np.concatenate(([0], last + 1 - accepted)) / (~same).sum()
    above = np.nextafter(ordered[last], np.inf)
    return false, true, np.concatenate((ordered[:1], above))


def area(distances: Any, same: Any) -> float:
    """Area under the ROC curve: how often a pair that is the same is closer than one that is not; NaN if there are not both."""
    false, true, _ = roc(distances, same)
    return float(np.trapezoid(true, false))


def equal_error(distances: Any, same: Any) -> tuple[float, float]:
    """The error rate where as many pairs are wrongly accepted as wrongly rejected, and the threshold there.

    Between two points of the ROC curve both are interpolated. NaN if there are not both kinds of pairs.
    """
    false, true, thresholds = roc(distances, same)
    gap = false - (1 - true)
    if np.isnan(gap).any():
        return math.nan, math.nan
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    rate, threshold = (
        float(values[after - 1] + share * (values[after] - values[after - 1])) for values in (false, thresholds)
    )
    return rate, threshold


def at_false_accepts(distances: Any, same: Any, far: float) -> tuple[float, float]:
    """The largest true-accept rate at which no more than ``far`` of the others are accepted, and the threshold there."""
    false, true, thresholds = roc(distances, same)
    if np.isnan(false).any() or np.isnan(true).any():
        return math.nan, math.nan
    place = int(np.flatnonzero(false <= far + 1e-12)[-1])
    return float(true[place]), float(thresholds[place])


def fold_accuracy(distances: Any, same: Any, thresholds: Floats | None = None) -> Floats:
    """The accuracy of each of ten folds at the threshold that is best on the other nine (LFW's protocol): (10,).

    Folds are consecutive. ``thresholds`` (default: 0, 0.01 ... 3.99) are of squared distances of vectors of length 1.
    """
    distances, same = np.asarray(distances, np.float64), np.asarray(same, bool)
    steps = np.arange(0, 4, 0.01) if thresholds is None else thresholds
    right = (distances < steps[:, None]) == same
    found = []
    for fold in np.array_split(np.arange(len(same)), FOLDS):
        others = np.delete(right, fold, axis=1).mean(axis=1)
        found.append(right[int(np.argmax(others)), fold].mean())
    return np.array(found)


# --- of a task --------------------------------------------------------------------------------------------------------


def scored(distance: Any, same: Any) -> tuple[float, float]:
    """Of one pair, for the metrics over all: its distance, and 1 if it is the same."""
    return float(distance), float(same)


def auc(pairs: Sequence[tuple[float, float]]) -> float:
    """Area under the ROC curve."""
    return area(*_columns(pairs))


def eer(pairs: Sequence[tuple[float, float]]) -> float:
    """Equal error rate."""
    return equal_error(*_columns(pairs))[0]


def folds(pairs: Sequence[tuple[float, float]]) -> float:
    """Mean of :func:`fold_accuracy`."""
    return float(fold_accuracy(*_columns(pairs)).mean())


def scored_at(distance: Any, same: Any, far: float = 0.01) -> tuple[float, float, float]:
    """As :func:`scored`, with the false-accept rate that is asked for. Raises ConfigError if it is no rate."""
    if not 0 <= far <= 1:
        raise ConfigError(f"far must be from 0 to 1, got {far:g}")
    return float(distance), float(same), far


def true_accepts(pairs: Sequence[tuple[float, float, float]]) -> float:
    """Share of the pairs that are the same that is accepted where no more than ``far`` of the others is."""
    distances, same, far = np.asarray(pairs).T
    return at_false_accepts(distances, same, float(far[0]))[0]


def accuracy_at(pairs: Sequence[tuple[float, float, float]]) -> float:
    """Share of all pairs that is right at the threshold where no more than ``far`` of the others is accepted."""
    distances, same, far = np.asarray(pairs).T
    threshold = at_false_accepts(distances, same, float(far[0]))[1]
    return float(((distances < threshold) == (same > 0)).mean())


def accuracy(decision: Any, same: Any) -> float:
    """1 if the decision is right, else 0."""
    return float(bool(decision) == bool(same))


def decided(decision: Any, same: Any) -> tuple[float, float]:
    """Of one pair: what was decided, and what is true."""
    return float(decision), float(same)


def false_accepts(pairs: Sequence[tuple[float, float]]) -> float:
    """Share of the pairs that are different that was called the same; NaN if there are none."""
    decisions, same = _columns(pairs)
    return float(decisions[same == 0].mean()) if (same == 0).any() else math.nan


def false_rejects(pairs: Sequence[tuple[float, float]]) -> float:
    """Share of the pairs that are the same that was called different; NaN if there are none."""
    decisions, same = _columns(pairs)
    return float(1 - decisions[same == 1].mean()) if (same == 1).any() else math.nan


def curve(distance: Any, same: Any) -> Floats:
    """Of one pair, for each false-accept rate of the curve (0, 0.05 ... 1): distance, whether it is the same, the rate."""
    rates = np.linspace(0, 1, PLACES)
    return np.stack((np.full(PLACES, float(distance)), np.full(PLACES, float(same)), rates), 1)


def curve_value(pairs: Sequence[Floats]) -> float:
    """The true-accept rate at one place of the curve; of all places, the area under it."""
    found = np.asarray(pairs)
    return auc(found[:, 0, :2]) if found.ndim == 3 else true_accepts(found)  # type: ignore[arg-type]


def _columns(pairs: Any) -> tuple[Floats, Floats]:
    found = np.asarray(pairs, np.float64)
    return found[:, 0], found[:, 1]
