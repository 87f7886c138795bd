"""Frequencies as pandas spells them, and the periods that series of them usually have. No array library is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stzoo.errors import InputError
from stzoo.fields import Value

SEASONS: Mapping[str, tuple[int, ...]] = {
    "S": (3600,),
    "T": (1440, 10080),
    "H": (24, 168),
    "D": (7, 30, 365),
    "W": (52, 4),
    "M": (12, 6, 3),
    "B": (5,),
    "Q": (4, 2),
    "Y": (),
}
"""Periods of a series with one step each second, minute … year, the usual ones first (VisionTS's table)."""
SPELLINGS = {
    name: unit
    for unit, names in {
        "S": "S s sec",
        "T": "T min",
        "H": "H h",
        "D": "D d C",
        "W": "W",
        "M": "M ME MS BM BME BMS",
        "B": "B b",
        "Q": "Q QE QS BQ BQE BQS",
        "Y": "Y YE YS A AS BY BA BYE BYS BAS",
    }.items()
    for name in names.split()
}
FREQUENCY = re.compile(r"(\d*)([A-Za-z]+)(-[A-Z]{3})?\Z")


def seasonalities(frequency: str) -> tuple[int, ...]:
    """Steps after which a series of this frequency may repeat itself, the likeliest first, 1 at the end.

    ``frequency`` is pandas's, as it was spelt before version 2.2 or since: ``"H"`` or ``"h"``, ``"15T"`` or ``"15min"``,
    ``"M"`` or ``"ME"``, ``"W-SUN"``. Raises InputError for any other.
    """
    found = FREQUENCY.match(frequency.strip())
    if not found or (unit := SPELLINGS.get(found[2])) is None or (count := int(found[1] or 1)) == 0:
        raise InputError(
            f"the frequency {frequency!r} is not known", "Write it as pandas does: h, 15min, D, W, ME, QE …"
        )
    return (*(season // count for season in SEASONS[unit] if season % count == 0 and season > count), 1)


@dataclass(frozen=True)
class Period(Value):
    """Steps after which a series repeats itself, a pandas frequency that says so, or 0: from the times of the steps."""

    def accepted(self) -> str:
        return "a whole number of steps, a frequency such as h, 15min or ME, or 0 for what the times of the series say"

    def parse(self, value: Any) -> int | str:
        text = str(value).strip()
        if not isinstance(value, (bool, float)) and text.isdigit() and int(text) <= 1_000_000:
            return int(text)
        try:
            seasonalities(text)
        except InputError:
            raise ValueError(f"must be {self.accepted()}") from None
        return text
