"""Time series in a browser: curves to look along, what was given and what was predicted in one plot."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stzoo import errors
from stzoo.files import ARRAYS
from stzoo.media import series
from stzoo.media.colours import CURVES
from stzoo.media.decoding import File, array_shape
from stzoo.media.series import TimeSeries
from stzoo.ui.components import Widget
from stzoo.ui.running import given_file
from stzoo.ui.sheets import drawn

POINTS = 40_000
"""Points of all curves of a plot together."""
SHOWN = 32
"""Variables of a plot; the first of them are drawn at first."""


class SeriesWidget(Widget):
    """Curves, the value of each under the cursor, and a legend that switches them."""

    @property
    def most(self) -> int:
        """Numbers that an input may have: a sixteenth of the pixels."""
        return int(self.limits["max_pixels"] * 1e6 / 16)

    def read(self, value: Any) -> Any:
        path, name = given_file(value, self.field.name), self.field.name
        file = File(Path(path))
        if file.suffix in ARRAYS:
            self.refuse_numbers(file)
            return self.field.read(path, self.requirements)
        return self.field.read(series.read_series(path, name, self.most), self.requirements)

    def refuse_numbers(self, file: File) -> None:
        """Raise InputError if the arrays in a NumPy file are over the limit; headers and directories are read."""
        name, count = self.field.name, 0
        if file.suffix == ".npy":
            count = int(np.prod(array_shape(file, name), dtype=object))
        else:
            from zipfile import BadZipFile, ZipFile

            try:
                with ZipFile(file.path) as archive:
                    count = max((item.file_size for item in archive.infolist()), default=0) // 8
            except (OSError, ValueError, BadZipFile) as problem:
                raise errors.MediaError(f"{name}: the file is no npz archive ({problem})") from None
        if count > self.most + 64:
            raise errors.InputError(
                f"{name}: {count:,} numbers, this demo takes {self.most:,}", "Give a shorter series"
            )

    def display(self, *, before: bool = False) -> list[Any]:
        return [drawn(self.title, "stzoo-series", "frames.js", "series.js", css="plots.css", hues=CURVES)]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        found = series.as_series(value)
        given = None if before is None else series.as_series(before)
        if given is not None and found.names != given.names and found.shape[1] == given.shape[1]:
            found = TimeSeries(found.values, given.names, found.times)  # an array has no names of its own
        if given is not None and given.times is not None and found.times is None:
            found = given.following(found.values)
        parts = [("given", given)] if given is not None else []
        parts.append((self.field.name.replace("_", " "), found))
        room = POINTS // max(1, sum(min(item.shape[1], SHOWN) for _, item in parts))
        timed = all(item.times is not None for _, item in parts)
        start, sent = 0, []
        for label, item in parts:
            picks = thinned(item.values[:, :SHOWN], room)
            at = item.times[picks] if timed and item.times is not None else None
            sent.append(
                {
                    "label": label,
                    "names": [entry[:60] for entry in item.names[:SHOWN]],
                    "at": (picks + start).tolist() if at is None else (at.astype(np.int64) / 1000).tolist(),
                    "values": [[_plain(cell) for cell in curve] for curve in item.values[picks, :SHOWN].T.tolist()],
                }
            )
            start += len(item)
        hidden = max(item.shape[1] for _, item in parts) - SHOWN
        thin = any(len(entry["at"]) < len(item) for entry, (_, item) in zip(sent, parts, strict=True))
        return [{"parts": sent, "timed": timed, "hidden": max(0, hidden), "thinned": thin}]


def _plain(number: float) -> float | None:
    return number if np.isfinite(number) else None


def thinned(values: np.ndarray, most: int) -> np.ndarray:
    """Rows to draw, no more than ``most``: all of them, or in even stretches the lowest and the highest of the first variable."""
    steps = len(values)
    if steps <= most:
        return np.arange(steps)
    bounds = np.linspace(0, steps, max(2, most // 2) + 1).astype(int)
    first = np.nan_to_num(values[:, 0])
    picks = {0, steps - 1}
    for low, high in pairwise(bounds.tolist()):
        stretch = first[low:high]
        picks |= {low + int(stretch.argmin()), low + int(stretch.argmax())}
    return np.array(sorted(picks))
