"""What comes with the plugin to try its models: see data/README.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stzoo.media.series import read_series
from stzoo_representation.forecast_data import Windows

_DATA = Path(__file__).parent / "data"


def parrots(split: str) -> list[dict[str, Any]]:
    """A photograph, 160x160."""
    return [{"image": str(_DATA / "kodak23.png")}]


def weather(split: str, horizon: int = 96) -> Windows:
    """Temperature and dew point at an airport in degrees Celsius, 2976 hours, of which the last ``horizon`` are to be predicted."""
    table = read_series(_DATA / "weather.csv", "series")
    return Windows(table, len(table) - horizon, horizon, 1)
