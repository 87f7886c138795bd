"""Time series: tables, data frames and arrays to one layout, and back; what goes wrong is told by row and column."""

from __future__ import annotations

import csv
import io
import zlib
from array import array as buffer
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from zipfile import BadZipFile

import numpy as np

from stzoo.errors import DependencyMissing, InputError, MediaError
from stzoo.files import ARRAYS, atomic_path
from stzoo.media.colours import CURVES
from stzoo.media.decoding import File, file_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

LINE = 1_000_000
"""Characters that a line of a table may have."""
MISSING = ("", "na", "n/a", "nan", "null", "none", "-")
_TIME = "datetime64[us]"
_NO_TIME = "Write times as 2026-11-21 or 2026-11-21 08:30:00, and leave out other text"


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """Values of several variables at steps in time. ``numpy.asarray`` gives :attr:`values`, so that it is batched as an array."""

    values: np.ndarray
    """float64 (T, V)."""
    names: tuple[str, ...] = ()
    """One for each variable; ``"variable 1"``, ``"variable 2"`` … where none are given."""
    times: np.ndarray | None = None
    """datetime64[us] (T,), rising, without a time zone (UTC where one was given); None if steps are only counted."""

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        names = tuple(map(str, self.names)) or unnamed(values.shape[-1])
        if values.ndim != 2 or len(names) != values.shape[1]:
            raise InputError(f"shape {values.shape} with {len(names)} names is no series", "Give (steps, variables)")
        if self.times is not None and len(self.times) != len(values):
            raise InputError(f"{len(self.times)} times for {len(values)} steps")
        times = None if self.times is None else np.asarray(self.times, _TIME)
        for key, value in (("values", values), ("names", names), ("times", times)):
            object.__setattr__(self, key, value)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, part: slice) -> TimeSeries:
        return TimeSeries(self.values[part], self.names, None if self.times is None else self.times[part])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimeSeries):
            return NotImplemented
        same = (self.times is None) == (other.times is None) and np.array_equal(
            self.times if self.times is not None else (), other.times if other.times is not None else ()
        )
        return self.names == other.names and same and np.array_equal(self.values, other.values, equal_nan=True)

    __hash__ = None  # type: ignore[assignment]

    def following(self, values: np.ndarray) -> TimeSeries:
        """The series of ``values`` (T', V) that comes after this one: same names, times going on by the usual step.

        Times that are whole months apart, on one day of the month or on its last, go on so.
        """
        values = np.asarray(values, np.float64)
        if self.times is None or len(self.times) < 2:
            return TimeSeries(values, self.names)
        if months := months_between(self.times):
            return TimeSeries(values, self.names, later_months(self.times, np.arange(1, len(values) + 1) * months))
        step = np.median(np.diff(self.times).astype(np.int64)).astype(np.int64).astype("timedelta64[us]")
        return TimeSeries(values, self.names, self.times[-1] + step * np.arange(1, len(values) + 1))


def months_between(times: np.ndarray) -> int:
    """How many months lie between any two times that follow each other, if all are on one day of the month, or on its last; or 0."""
    whole, days = times.astype("datetime64[M]"), times.astype("datetime64[D]")
    apart, day = np.unique(np.diff(whole).astype(int)), np.unique((days - whole.astype("datetime64[D]")).astype(int))
    regular = day.size == 1 or _ends(days)
    return int(apart[0]) if apart.size == 1 and regular and np.unique(times - days).size == 1 else 0


def _ends(days: np.ndarray) -> bool:
    """Whether all are the last ones of their months."""
    return bool(((days + np.timedelta64(1, "D")).astype("datetime64[M]") != days.astype("datetime64[M]")).all())


def later_months(times: np.ndarray, months: np.ndarray) -> np.ndarray:
    """The times ``months`` after the last of ``times``, on its day of the month as far as there is one; on the last day of
    the month where all ``times`` are."""
    last, days = times[-1], times.astype("datetime64[D]")
    whole = last.astype("datetime64[M]") + months
    longest = (whole + 1).astype("datetime64[D]") - whole.astype("datetime64[D]")
    day = days[-1] - last.astype("datetime64[M]").astype("datetime64[D]")
    found = whole.astype("datetime64[D]") + (longest - 1 if _ends(days) else np.minimum(day, longest - 1))
    return np.asarray(found.astype(_TIME) + (last - days[-1]), _TIME)


def unnamed(count: int) -> tuple[str, ...]:
    """Names for variables that have none; no numbers, as a table with such a header would seem to have none."""
    return tuple(f"variable {index + 1}" for index in range(count))


def as_series(value: Any) -> TimeSeries:
    """A series as it is, an array (T, V) or (T,) as one without names."""
    return value if isinstance(value, TimeSeries) else TimeSeries(np.asarray(value))


# --- reading ----------------------------------------------------------------------------------------------------------


def read_series(value: Any, name: str, most: int | None = None) -> TimeSeries:
    """A series, from a path or the bytes of a table (csv, tsv, parquet, npy, npz), a pandas DataFrame or Series, a mapping of
    names to columns, an array or tensor (T,) or (T, V), or lists.

    The one column of dates, if there is one, gives the times. Missing values become NaN. ``most``: numbers that a table may
    hold. Raises InputError or MediaError for text among the numbers, infinite values, times that fall or occur twice.
    """
    if isinstance(value, TimeSeries):
        found = value
    elif file := file_of(value, name):
        found = _from_file(file, name, most)
    elif hasattr(value, "to_frame") and not hasattr(value, "columns"):
        found = _from_frame(value.to_frame(), name)
    elif hasattr(value, "columns") and hasattr(value, "iloc"):
        found = _from_frame(value, name)
    elif isinstance(value, Mapping):
        found = _from_columns([(str(key), np.asarray(column)) for key, column in value.items()], name)
    else:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        found = _from_array(_numbers(value, name), name)
    return _checked(found, name)


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"{name}: rows of different lengths", "Give (steps, variables)") from None
    if array.dtype.kind not in "uif":
        what = "text" if array.dtype.kind in "US" else f"a {type(value).__name__}"
        raise InputError(f"{name} is {what}, not a series of numbers", "Give a path, a DataFrame, an array or lists")
    return array


def _from_array(array: np.ndarray, name: str, names: Sequence[str] = (), times: np.ndarray | None = None) -> TimeSeries:
    if array.ndim not in (1, 2) or array.dtype.kind not in "uif":
        raise InputError(f"{name}: shape {array.shape} of {array.dtype} is no series", "Give (steps, variables)")
    if times is not None and times.dtype.kind != "M":
        raise InputError(f"{name}: times of type {times.dtype}", "Give datetime64")
    return TimeSeries(array, tuple(map(str, names)), times)


def _from_file(file: File, name: str, most: int | None) -> TimeSeries:
    try:
        if file.suffix in ARRAYS:
            loaded = np.load(file.opened(), allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return _from_array(loaded, name)
            with loaded:
                key = "values" if "values" in loaded.files else loaded.files[0]
                names = loaded["names"].tolist() if "names" in loaded.files else ()
                return _from_array(loaded[key], name, names, loaded["times"] if "times" in loaded.files else None)
        if file.suffix == ".parquet":
            return _from_parquet(file, name, most)
        if file.data is not None:
            return _from_text(io.StringIO(file.data.decode("utf-8-sig"), newline=""), name, file, most)
        with file.path.open(encoding="utf-8-sig", newline="") as opened:
            return _from_text(opened, name, file, most)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, IndexError, BadZipFile, zlib.error, csv.Error) as problem:
        reason = "it is not UTF-8 text" if isinstance(problem, UnicodeError) else problem
        raise MediaError(f"{name}: {file} cannot be read as a table ({reason})", "Is the file complete?") from problem


def _from_parquet(file: File, name: str, most: int | None) -> TimeSeries:
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        raise DependencyMissing("reading parquet files needs pyarrow", "Run: pip install pyarrow") from None
    try:
        opened = pq.ParquetFile(file.opened())
        _refuse_large(opened.metadata.num_rows * opened.metadata.num_columns, name, most)
        table = opened.read()
    except pyarrow.ArrowException as problem:
        raise MediaError(f"{name}: {file} cannot be read as a parquet file ({problem})") from problem
    columns = [(key, table[key].to_numpy()) for key in table.column_names]
    return _from_columns(columns, name)


def _from_frame(frame: Any, name: str) -> TimeSeries:
    columns = [(str(key), np.asarray(frame.iloc[:, index])) for index, key in enumerate(frame.columns)]
    index = frame.index.to_timestamp() if hasattr(frame.index, "to_timestamp") else frame.index
    if hasattr(index, "tz"):
        columns.insert(0, ("time", np.asarray(index, "datetime64[ns]").astype(_TIME)))
    return _from_columns(columns, name)


def _from_columns(columns: Sequence[tuple[str, np.ndarray]], name: str) -> TimeSeries:
    """Columns of numbers, and at most one of times."""
    times, numbers = [], []
    for key, column in columns:
        if column.dtype.kind in "uif":
            numbers.append((key, column))
        elif column.dtype.kind == "M":
            times.append((key, column.astype(_TIME)))
        else:
            times.append((key, _parsed(column, key, name)))
    if len(times) > 1:
        raise InputError(f"{name}: {len(times)} columns of times ({times[0][0]}, {times[1][0]})", "Keep one of them")
    if not numbers:
        raise InputError(f"{name}: no column of numbers")
    lengths = {len(column) for _, column in columns}
    if len(lengths) > 1:
        raise InputError(f"{name}: columns of different lengths ({', '.join(map(str, sorted(lengths)))})")
    values = np.stack([np.asarray(column, np.float64) for _, column in numbers], axis=1)
    return TimeSeries(values, tuple(key for key, _ in numbers), times[0][1] if times else None)


def _parsed(column: np.ndarray, key: str, name: str) -> np.ndarray:
    """A column of texts or times, as times."""
    found = []
    for row, item in enumerate(column, 1):
        moment = item if isinstance(item, datetime) else _time(str(item))
        if moment is None:
            raise InputError(f"{name}: {str(item)[:40]!r} in column {key[:40]!r}, row {row}, is no number", _NO_TIME)
        found.append(moment)
    return np.array([_plain_time(item) for item in found], _TIME)


def _time(text: str) -> datetime | None:
    """A date, perhaps with a time, year first; None if it is no such text."""
    text = text.strip().replace("/", "-") if text[:4].isdigit() else text.strip()
    try:
        return _plain_time(datetime.fromisoformat(text)) if len(text) > 6 and "-" in text else None
    except ValueError:
        return None


def _plain_time(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _number(text: str) -> float | None:
    """A number, NaN for a missing one; None if it is neither."""
    if text.strip().lower() in MISSING:
        return float("nan")
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _refuse_large(count: int, name: str, most: int | None) -> None:
    if most is not None and count > most:
        raise InputError(f"{name}: more than {most:,} numbers", "Give a shorter series, or fewer variables")


def _lines(text: TextIO, name: str) -> Iterator[str]:
    while line := text.readline(LINE):
        if len(line) == LINE:
            raise MediaError(f"{name}: a line of more than {LINE:,} characters", "Is it a table?")
        yield line


def _from_text(text: TextIO, name: str, file: File, most: int | None) -> TimeSeries:
    lines = _lines(text, name)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise MediaError(f"{name}: {file} holds no rows")
    separator = max(",;\t", key=first.count)
    decimal = separator == ";"  # then 1,5 is a number
    rows = (row for row in csv.reader(chain([first], lines), delimiter=separator) if any(map(str.strip, row)))
    head = next(rows)
    titled = not any(_number(_dotted(cell, decimal)) is not None for cell in head if cell.strip())
    titled = titled and not any(_time(cell) for cell in head)
    names = [cell.strip() for cell in head] if titled else [""] * len(head)
    top = next(rows, None) if titled else head
    if top is None:
        raise MediaError(f"{name}: {file} holds names but no rows")
    dates = [index for index, cell in enumerate(top) if _number(_dotted(cell, decimal)) is None and _time(cell)]
    if len(dates) > 1:
        raise InputError(f"{name}: {len(dates)} columns of times", "Keep one of them")
    cells, times = buffer("d"), []
    for row, texts in enumerate(chain([top], rows), 1):
        if len(texts) != len(names):
            raise MediaError(f"{name}: row {row} of {file} has {len(texts)} cells, the first one has {len(names)}")
        if dates:
            moment = _time(texts.pop(dates[0]))
            if moment is None:
                raise InputError(f"{name}: row {row} has no time that can be read", _NO_TIME)
            times.append(moment)
        try:
            cells.extend(list(map(float, texts)))
        except ValueError:
            cells.extend(
                _cells(texts, decimal, row, [item for index, item in enumerate(names) if index not in dates], name)
            )
        _refuse_large(len(cells), name, most)
    names = [item for index, item in enumerate(names) if index not in dates]
    if not names:
        raise InputError(f"{name}: {file} has times, but no numbers")
    values = np.frombuffer(cells, np.float64).reshape(-1, len(names)).copy()
    if titled and not names[0] and len(names) > 1 and np.array_equal(values[:, 0], np.arange(len(values))):
        values, names = values[:, 1:], names[1:]  # row numbers, as data frames write them
    names = [item or other for item, other in zip(names, unnamed(len(names)), strict=True)]
    return TimeSeries(values, tuple(names), np.array(times, _TIME) if dates else None)


def _dotted(text: str, decimal: bool) -> str:
    return text.replace(",", ".") if decimal else text


def _cells(texts: Sequence[str], decimal: bool, row: int, names: Sequence[str], name: str) -> Iterable[float]:
    found = []
    for column, text in zip(names, texts, strict=True):
        number = _number(_dotted(text, decimal))
        if number is None:
            raise InputError(f"{name}: {text[:40]!r} in column {column[:40]!r}, row {row}, is no number", _NO_TIME)
        found.append(number)
    return found


def _checked(series: TimeSeries, name: str) -> TimeSeries:
    steps, variables = series.shape
    if not steps or not variables:
        raise InputError(f"{name} is empty", "Give at least one step")
    if np.isinf(series.values).any():
        row, column = np.argwhere(np.isinf(series.values))[0]
        raise InputError(f"{name}: column {series.names[column]!r}, row {row + 1}, is infinite")
    if series.times is not None:
        if np.isnat(series.times).any():
            raise InputError(f"{name}: row {int(np.isnat(series.times).argmax()) + 1} has no time")
        steps_between = np.diff(series.times).astype(np.int64)
        if (steps_between <= 0).any():
            row = int((steps_between <= 0).argmax())
            moment = np.datetime_as_string(series.times[row + 1], "auto")
            what = "occurs twice" if steps_between[row] == 0 else "comes after a later one"
            raise InputError(f"{name}: the time {moment} (row {row + 2}) {what}", "Sort the rows by time")
    return series


def filled(series: TimeSeries, name: str, gaps: str) -> TimeSeries:
    """The series without NaN: ``refuse`` them (InputError), take the ``previous`` value (at the start the next one), or go
    ``linear`` by steps."""
    unknown = np.isnan(series.values)
    if not unknown.any():
        return series
    if gaps == "refuse":
        row, column = np.argwhere(unknown)[0]
        raise InputError(
            f"{name}: {int(unknown.sum())} values are missing, the first in column {series.names[column]!r}, row {row + 1}",
            "Fill them first (gaps=previous or gaps=linear does in data sets)",
        )
    values = series.values.copy()
    steps = np.arange(len(values))
    for column, missing in enumerate(unknown.T):
        known = steps[~missing]
        if not known.size:
            raise InputError(f"{name}: column {series.names[column]!r} holds no value at all")
        if gaps == "linear":
            values[:, column] = np.interp(steps, known, values[known, column])
        else:
            values[:, column] = values[known[np.maximum(np.searchsorted(known, steps, "right") - 1, 0)], column]
    return TimeSeries(values, series.names, series.times)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_series(series: TimeSeries, path: Path) -> None:
    """Write csv (a header; ``time`` first, if there are times; numbers with all their digits), or npz (values, names, times)."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npz":
            times = {} if series.times is None else {"times": series.times}
            arrays: dict[str, Any] = {"values": series.values, "names": np.array(series.names), **times}
            np.savez_compressed(temporary, **arrays)
            return
        with temporary.open("w", encoding="utf-8", newline="") as opened:
            table = csv.writer(opened, lineterminator="\n")
            named = zip(series.names, unnamed(series.shape[1]), strict=True)
            heads = [name if _number(name) is None else other for name, other in named]  # a number would be no header
            table.writerow([*(["time"] if series.times is not None else []), *heads])
            stamps = [] if series.times is None else [[item] for item in moments(series.times)]
            for index, row in enumerate(series.values.tolist()):
                table.writerow(
                    [*(stamps[index] if stamps else []), *("" if cell != cell else repr(cell) for cell in row)]
                )


def moments(times: np.ndarray) -> list[str]:
    """Times as text, no finer than they are."""
    for unit in ("D", "m", "s"):
        if (times.astype(f"datetime64[{unit}]") == times).all():
            return [str(item).replace("T", " ") for item in np.datetime_as_string(times, unit)]
    return [str(item).replace("T", " ") for item in np.datetime_as_string(times)]


# --- made up, and drawn -----------------------------------------------------------------------------------------------


def sample_series(steps: int, variables: int) -> TimeSeries:
    """A deterministic hourly series with a daily period, a slow drift and a harmonic that differs between variables."""
    hour = np.arange(steps, dtype=np.float64)[:, None]
    which = np.arange(variables, dtype=np.float64)[None]
    daily = np.sin(2 * np.pi * (hour - 3 * which) / 24)
    values = 10 + 2 * which + 3 * daily + 0.8 * np.sin(2 * np.pi * hour * (2 + which % 3) / 24) + 0.01 * hour
    start = np.datetime64("2026-01-01", "us")
    times = start + np.arange(steps).astype("timedelta64[h]")
    return TimeSeries(values, unnamed(variables), times)


def picture(series: TimeSeries, width: int = 720, height: int = 280) -> PILImage:
    """The curves of the first variables, with the range of values and of time."""
    from PIL import Image, ImageDraw, ImageFont

    twice = 2  # drawn large, then shrunk: smooth lines
    sheet = Image.new("RGB", (width * twice, height * twice), (255, 255, 255))
    draw, font, ink = ImageDraw.Draw(sheet), ImageFont.load_default(size=13 * twice), (100, 116, 139)
    shown = series.values[:, : len(CURVES)]
    known = shown[np.isfinite(shown)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    high = high if high > low else low + 1
    left, top, right, bottom = 70 * twice, 30 * twice, (width - 15) * twice, (height - 30) * twice
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * (bottom - top)
        draw.line((left, y, right, y), fill=(226, 232, 240), width=twice)
        draw.text((left - 8 * twice, y), f"{low + part * (high - low):.4g}", fill=ink, font=font, anchor="rm")
    ends = ("1", str(len(series))) if series.times is None else tuple(moments(series.times[[0, -1]]))
    draw.text((left, bottom + 8 * twice), ends[0], fill=ink, font=font, anchor="lt")
    draw.text((right, bottom + 8 * twice), ends[1], fill=ink, font=font, anchor="rt")
    x = np.linspace(left, right, len(series)) if len(series) > 1 else np.array([(left + right) / 2])
    along = float(left)
    for index, curve in enumerate(shown.T):
        y = bottom - (curve - low) / (high - low) * (bottom - top)
        points = [None if np.isnan(b) else (float(a), float(b)) for a, b in zip(x, y, strict=True)]
        for one, two in pairwise(points):
            if one and two:
                draw.line((one, two), fill=CURVES[index], width=2 * twice)
        label = series.names[index][:20]
        draw.text((along, 8 * twice), label, fill=CURVES[index], font=font, anchor="lt")
        along += font.getlength(label) + 14 * twice
    if series.shape[1] > len(CURVES):
        draw.text((along, 8 * twice), f"and {series.shape[1] - len(CURVES)} more", fill=ink, font=font, anchor="lt")
    return sheet.resize((width, height), Image.Resampling.LANCZOS)
