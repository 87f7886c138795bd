"""Statistical methods, through statsmodels, for each variable by itself: what learnt forecasts should be compared with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stzoo.errors import DependencyMissing
from stzoo.media.series import as_series

try:
    from statsmodels.tsa.forecasting.theta import ThetaModel
    from statsmodels.tsa.holtwinters import ExponentialSmoothing
except ImportError:
    raise DependencyMissing(
        "statistical forecasts need statsmodels", "Run: pip install 'stzoo-representation[statistics]'"
    ) from None


def theta(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The theta method (Assimakopoulos and Nikolopoulos 2000) of the series without its additive season."""

    def one(values: np.ndarray, steps: int, period: int) -> Any:
        model = ThetaModel(values, period=max(2, period), deseasonalize=period > 1, use_test=False, method="additive")
        return model.fit().forecast(steps)

    return _each(one, inputs, truth)


def ets(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """Exponential smoothing with a damped trend and an additive season (Holt and Winters)."""

    def one(values: np.ndarray, steps: int, period: int) -> Any:
        seasonal: dict[str, Any] = {"seasonal": "add", "seasonal_periods": period} if period > 1 else {}
        return ExponentialSmoothing(values, trend="add", damped_trend=True, **seasonal).fit().forecast(steps)

    return _each(one, inputs, truth)


def _each(
    one: Callable[[np.ndarray, int, int], Any], inputs: Mapping[str, Any], truth: Mapping[str, Any]
) -> dict[str, Any]:
    """Forecasts of each variable, without a season where two whole ones are not known."""
    past, future = as_series(inputs["series"]), truth["forecast"]
    period = future.period if len(past) >= 2 * future.period else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that could have gone on
        found = [
            one(column, len(future), period)
            if np.ptp(column) > 0 and len(column) > 10
            else column[-1:].repeat(len(future))
            for column in past.values.T
        ]
    return {"forecast": past.following(np.stack([np.asarray(item, np.float64) for item in found], axis=1))}
