"""Series as they are published: long-horizon benchmarks in one table, Monash's .tsf files, GluonTS's lines of JSON."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import DatasetError, InputError
from stzoo.media.series import TimeSeries, filled, read_series
from stzoo_representation.frequencies import seasonalities
from stzoo_representation.periods import frequency_of, stepped

_MONTH = 30 * 24
"""Hours, as the splits of ETT count them."""


class Windows(Sequence[dict[str, Any]]):
    """``{"series": context steps, "forecast": the horizon steps after them}`` at every ``stride``-th place of a table."""

    def __init__(self, table: TimeSeries, context: int, horizon: int, stride: int) -> None:
        self.table, self.context, self.horizon, self.stride = table, context, horizon, stride

    def __len__(self) -> int:
        return max(0, (len(self.table) - self.context - self.horizon) // self.stride + 1)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self.stride
        middle = first + self.context
        return {"series": self.table[first:middle], "forecast": self.table[middle : middle + self.horizon]}


def ett(
    split: str,
    root: str = "",
    horizon: int = 96,
    context: int = 2880,
    stride: int = 1,
    standardise: bool = True,
) -> Windows:
    """Electricity transformers (Zhou et al., AAAI 2021): 12 months to train on, 4 to validate, 4 to test, of 30 days each.

    Args:
        root: ETTh1.csv, ETTh2.csv, ETTm1.csv or ETTm2.csv.
        horizon, context: steps of a window that are to be predicted, and that are given; those of a test window's context
            may lie in the months before.
        stride: steps between two windows; the published protocol has 1.
        standardise: whether each variable gets mean 0 and standard deviation 1, as it is in the training months.

    Raises:
        DatasetError: there is no such table, it is too short, or a number is out of range.
    """
    table = _table(root, "ett?root=ETTh1.csv")
    try:
        minutes = {"H": 60, "15T": 15}[frequency_of(table.times if table.times is not None else np.zeros(0), root)]
    except (KeyError, InputError):
        raise DatasetError(
            f"{root} is not one of the ETT tables: these have a row each hour, or each 15 minutes"
        ) from None
    bounds = [months * _MONTH * 60 // minutes for months in (12, 16, 20)]
    if len(table) < bounds[-1]:
        raise DatasetError(f"{root} has {len(table)} rows, 20 months have {bounds[-1]}", "Is the file complete?")
    return _windows(table, bounds, split, context, horizon, stride, standardise)


def long_horizon(
    split: str,
    root: str = "",
    horizon: int = 96,
    context: int = 512,
    stride: int = 1,
    standardise: bool = True,
    validation: float = 0.1,
    test: float = 0.2,
) -> Windows:
    """Any table, split in time as Electricity, Weather and Traffic are: 70 % to train on, 10 % to validate, 20 % to test.

    Args:
        root: a table (csv, parquet, npy …) as the field reads it.
        validation, test: shares of its rows.
        horizon, context, stride, standardise: as :func:`ett`.

    Raises:
        DatasetError: there is no such table, it is too short, or a number is out of range.
    """
    table = _table(root, "long-horizon?root=weather.csv")
    if validation <= 0 or test <= 0 or validation + test >= 1:
        raise DatasetError(
            f"validation and test must be positive and together below 1, got {validation:g} and {test:g}"
        )
    count = len(table)
    last = count - int(count * test)
    return _windows(
        table, [int(count * (1 - validation - test) + 1e-9), last, count], split, context, horizon, stride, standardise
    )


def _table(root: str, usage: str) -> TimeSeries:
    if not root:
        raise DatasetError("the table is not given", f"Name it: {usage}")
    path = Path(root).expanduser()
    if not path.is_file():
        raise DatasetError(f"there is no file {root}", f"Name the table: {usage}")
    try:
        return filled(read_series(path, path.name), path.name, "refuse")
    except InputError as problem:
        raise DatasetError(problem.problem, problem.remedy) from problem


def _windows(
    table: TimeSeries, bounds: Sequence[int], split: str, context: int, horizon: int, stride: int, standardise: bool
) -> Windows:
    for name, value in (("horizon", horizon), ("context", context), ("stride", stride)):
        if value < 1:
            raise DatasetError(f"{name} must be at least 1, got {value}")
    if standardise:
        known = table.values[: bounds[0]]
        spread = known.std(0)
        table = TimeSeries((table.values - known.mean(0)) / np.where(spread > 0, spread, 1), table.names, table.times)
    place = ("train", "validation", "test").index(split)
    first = max(0, bounds[place - 1] - context) if place else 0
    windows = Windows(table[first : bounds[place]], context, horizon, stride)
    if not windows:
        raise DatasetError(
            f"{bounds[place] - first} rows are too few for a window of {context} + {horizon} steps ({split})",
            "Set context=… or horizon=…",
        )
    return windows


# --- Monash and GluonTS -----------------------------------------------------------------------------------------------

_WORDS = {
    "minutely": "T",
    "half_hourly": "30T",
    "hourly": "H",
    "daily": "D",
    "weekly": "W",
    "monthly": "M",
    "quarterly": "Q",
    "yearly": "Y",
}
_COUNTED = re.compile(r"(\d+)_(second|minute|hour|day|week|month)s?\Z")


def reader(path: Path, frequency: str = "") -> dict[str, Sequence[dict[str, Any]]] | None:
    """Also: NAME.tsf as the Monash archive has it; NAME.jsonl with {"start": …, "target": […]} on each line; or a folder of
    GluonTS with train/data.json, test/data.json and metadata/metadata.json, whose "freq" may be given as frequency=h. The
    last steps of each series, as many as the horizon has, are the truth.
    """
    if path.suffix.lower() == ".tsf":
        return {"all": list(_monash(path, frequency))}
    if path.suffix.lower() == ".jsonl":
        return {"all": list(_lines(path, frequency))}
    files = {name: next(iter(sorted((path / name).glob("data.json*"))), None) for name in ("train", "test")}
    if not any(files.values()):
        return None
    about = path / "metadata" / "metadata.json"
    if not frequency and about.is_file():
        try:
            frequency = str(json.loads(about.read_text(encoding="utf-8"))["freq"])
        except (ValueError, KeyError, TypeError) as problem:
            raise DatasetError(f"{about} names no 'freq' ({problem!r})", "Add frequency=h, say") from problem
    return {name: list(_lines(file, frequency)) for name, file in files.items() if file}


def _series(values: Any, start: Any, frequency: str, where: str) -> dict[str, Any]:
    """One example; raises DatasetError."""
    try:
        array = np.asarray(values, np.float64)
        array = array.T if array.ndim == 2 else array
        times = None
        if start and frequency:
            seasonalities(frequency)
            times = stepped(np.datetime64(str(start).strip().replace("/", "-"), "us"), frequency, len(array))
        return {"series": TimeSeries(array, times=times)}
    except (ValueError, TypeError) as problem:  # InputError is one
        raise DatasetError(f"{where}: {getattr(problem, 'problem', problem)}") from problem


def _lines(path: Path, frequency: str) -> Iterator[dict[str, Any]]:
    """The series of lines of JSON."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as problem:
                raise DatasetError(f"{where} is no JSON ({problem})") from problem
            if not isinstance(entry, Mapping) or "target" not in entry:
                raise DatasetError(f"{where} has no 'target'", 'Write {"start": "2026-01-01", "target": [1, 2, 3]}')
            yield _series(entry["target"], entry.get("start"), str(entry.get("freq") or frequency), where)


def _monash(path: Path, frequency: str) -> Iterator[dict[str, Any]]:
    """The series of a .tsf file; "?" is a missing value."""
    names: list[str] = []
    inside = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(map(str.strip, file), 1):
            where = f"{path}, line {number}"
            word, _, rest = line.partition(" ")
            if not line or line.startswith("#"):
                continue
            if inside:
                *about, values = line.split(":")
                if len(about) != len(names):
                    raise DatasetError(f"{where} has {len(about)} attributes, {len(names)} are declared")
                start = dict(zip(names, about, strict=True)).get("start_timestamp", "")
                day, _, clock = start.partition(" ")
                numbers = [item.strip().replace("?", "nan") for item in values.split(",")]
                yield _series(numbers, f"{day} {clock.replace('-', ':')}", frequency if start else "", where)
            elif word.lower() == "@attribute":
                names.append(rest.split()[0])
            elif word.lower() == "@frequency":
                frequency = frequency or _frequency(rest.strip(), where)
            elif word.lower() == "@data":
                inside = True
    if not inside:
        raise DatasetError(f"{path} has no line @data", "Is it a .tsf file?")


def _frequency(word: str, where: str) -> str:
    if found := _COUNTED.match(word):
        unit = {"second": "S", "minute": "T", "hour": "H", "day": "D", "week": "W", "month": "M"}[found[2]]
        return f"{found[1]}{unit}"
    if word not in _WORDS:
        raise DatasetError(f"{where}: the frequency {word!r} is not known", "Give it: frequency=h, say")
    return _WORDS[word]
