"""From a series to what comes after it: the steps of predict, and the trivial methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import InputError
from stzoo.media.series import TimeSeries, as_series
from stzoo.predictor import tensor_of
from stzoo_representation.periods import period_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Future(TimeSeries):
    """What came after a series, with what metrics and trivial methods ask about that."""

    past: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)), repr=False)
    """The series before it, float64 (T, V)."""
    period: int = 1


class Forecasting(Pipeline):
    """A network of this task maps a series (B,T,V), a horizon and a period to the steps after it, (B,horizon,V), or to several
    such answers by name."""

    raw = True

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """``row["series"]`` and ``row["forecast"]``; without the latter, the last ``horizon`` steps are the truth.

        Raises InputError if the series is too short, or the two do not fit together.
        """
        past, future, horizon = row["series"], row.get("forecast"), options["horizon"]
        if future is None:
            if len(past) <= horizon:
                raise InputError(
                    f"a series of {len(past)} steps, the last {horizon} of which are to be predicted",
                    "Set a shorter horizon, or give longer series",
                )
            past, future = past[:-horizon], past[-horizon:]
        if future.shape != (horizon, past.shape[1]):
            raise InputError(
                f"the forecast has {future.shape[0]} steps of {future.shape[1]} variables, not {horizon} of {past.shape[1]}",
                "Set the horizon to its length",
            )
        period = period_of(past, options["period"])
        return {"series": past}, {"forecast": Future(future.values, past.names, future.times, past.values, period)}

    def forward(self, module: nn.Module, batch: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """Answers by name, one float64 array (horizon, V) for each series of ``batch["series"]``.

        Series of one period go through the network together. Statistics are computed in float64 where the device can.
        """
        import torch

        place = tensor_of(module)
        precise = torch.float32 if place.device.type == "mps" else torch.float64
        given: list[TimeSeries] = batch["series"]
        periods = [period_of(item, options["period"]) for item in given]
        found: dict[str, list[Any]] = {}
        for period in sorted(set(periods)):
            chosen = [index for index, item in enumerate(periods) if item == period]
            values = np.stack([given[index].values for index in chosen])
            answer = module(torch.from_numpy(values).to(place.device, precise), options["horizon"], period)
            for name, output in (answer if isinstance(answer, dict) else {"forecast": answer}).items():
                kept = found.setdefault(name, [None] * len(given))
                for index, item in zip(chosen, output.double().cpu().numpy(), strict=True):
                    kept[index] = item
        return found

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        """The steps after the series, with its names, and times that go on."""
        return {name: values["series"].following(output) for name, output in outputs.items()}


def naive(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The last value, again and again."""
    past = as_series(inputs["series"])
    return {"forecast": past.following(past.values[-1:].repeat(len(truth["forecast"]), axis=0))}


def seasonal_naive(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The last period, again and again."""
    past, future = as_series(inputs["series"]), truth["forecast"]
    places = np.arange(len(future)) % future.period - future.period
    return {"forecast": past.following(past.values[places])}
