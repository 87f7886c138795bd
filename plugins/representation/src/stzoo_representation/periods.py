"""After how many steps a series repeats itself, as far as the times of its steps tell."""

from __future__ import annotations

import numpy as np

from stzoo.errors import InputError
from stzoo.media.series import TimeSeries, later_months, moments, months_between
from stzoo_representation.frequencies import FREQUENCY, SPELLINGS, seasonalities

_UNITS = (("D", 86_400_000_000), ("H", 3_600_000_000), ("T", 60_000_000), ("S", 1_000_000))
"""Microseconds."""


def stepped(start: np.datetime64, frequency: str, count: int) -> np.ndarray:
    """``count`` times at this frequency, datetime64[us]; months keep the day, as far as they have it. Raises InputError."""
    seasonalities(frequency)
    found = FREQUENCY.match(frequency.strip())
    assert found
    unit, places = SPELLINGS[found[2]], np.arange(count) * int(found[1] or 1)
    if unit in (months := {"M": 1, "Q": 3, "Y": 12}):
        return later_months(np.asarray([start], "datetime64[us]"), places * months[unit])
    if unit == "B":
        days = np.busday_offset(start.astype("datetime64[D]"), places, roll="forward")
        times: np.ndarray = days.astype("datetime64[us]")
        return times
    length = 7 * _UNITS[0][1] if unit == "W" else dict(_UNITS)[unit]
    return start.astype("datetime64[us]") + (places * length).astype("timedelta64[us]")


def frequency_of(times: np.ndarray, name: str) -> str:
    """The frequency of rising times, datetime64 (T,): ``"H"``, ``"15T"``, ``"D"``, ``"B"``, ``"W"``, ``"M"`` …

    Raises InputError if there are fewer than two, or if they are not evenly spaced (in a calendar's sense).
    """
    if len(times) < 2:
        raise InputError(f"{name}: {len(times)} step has no frequency", "Give period=24, say (1: none)")
    steps = np.diff(times.astype("datetime64[us]")).astype(np.int64)
    if (steps == steps[0]).all():
        unit, length = next(((unit, size) for unit, size in _UNITS if steps[0] % size == 0), ("", 0))
        count = int(steps[0]) // length if unit else 0
        if unit == "D" and count % 7 == 0:
            unit, count = "W", count // 7
        if not unit:
            raise InputError(f"{name}: its times are {steps[0] / 1e6:g} seconds apart", "Give period=24, say (1: none)")
        return unit if count == 1 else f"{count}{unit}"
    if months := months_between(times):
        unit, size = next(item for item in (("Y", 12), ("Q", 3), ("M", 1)) if months % item[1] == 0)
        return unit if months == size else f"{months // size}{unit}"
    if len(times) > 5 and _working_days(times, steps):
        return "B"
    lengths, counts = np.unique(steps, return_counts=True)
    row = int((steps != lengths[counts.argmax()]).argmax())
    first, second = moments(times[row : row + 2])
    raise InputError(
        f"{name}: the times are not evenly spaced: {first} (row {row + 1}) is followed by {second}",
        "Add the missing rows (empty values may be filled), or give period=24, say (1: none)",
    )


def _working_days(times: np.ndarray, steps: np.ndarray) -> bool:
    """Whether there are Mondays to Fridays alone, with a holiday now and then."""
    days = times.astype("datetime64[D]")
    return bool(np.is_busday(days).all() and np.unique(times - days).size == 1 and np.median(steps) == _UNITS[0][1])


def period_of(series: TimeSeries, asked: int | str = 0, name: str = "series") -> int:
    """The period of a series in steps: as asked, of the frequency that was asked for, or (0) of that of its times.

    Of a frequency's periods the first is taken that fits into the series twice. Raises InputError if the series is shorter
    than the period that was asked for, or if it has no times, or uneven ones.
    """
    steps = len(series)
    if isinstance(asked, int) and asked:
        if asked > steps:
            raise InputError(f"{name}: {steps} steps, less than one period of {asked}", "Give a longer series")
        return asked
    if not asked and series.times is None:
        raise InputError(f"{name} has no times that tell its period", "Give period=24, say, or period=h (1: none)")
    frequency = asked if isinstance(asked, str) else frequency_of(series.times, name)  # type: ignore[arg-type]
    return next((season for season in seasonalities(frequency) if 2 * season <= steps), 1)
