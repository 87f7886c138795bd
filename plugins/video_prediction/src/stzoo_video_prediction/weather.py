"""WeatherBench: hourly fields of ERA5 on a coarse grid, in the netCDF files that its authors publish.

Rasp et al., "WeatherBench: A Benchmark Data Set for Data-Driven Weather Forecasting", 2020 (arXiv:2002.00469).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import DatasetError, DependencyMissing
from stzoo_video_prediction.recordings import Array, Clips, folder_of

log = logging.getLogger("stzoo")

VARIABLES = {
    "z": "geopotential_500",
    "t850": "temperature_850",
    "g": "geopotential",
    "t": "temperature",
    "r": "relative_humidity",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "tp": "total_precipitation",
    "t2m": "2m_temperature",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "tcc": "total_cloud_cover",
}
"""Short names, and the folders that hold them. In the files of "g" the variable is called z."""
FORMS = ("weather_5_625deg", "weather_2_8125deg", "weather_1_40625deg", "weather")
_BLOCK = 1024
"""Hours read at once for the mean."""


class Hours:
    """A recording of standardised fields, (T,C,H,W) float32, of the hours of some years."""

    mean: Array
    """What was subtracted, for each channel; `std` what was divided by."""
    std: Array

    def __init__(self, folder: Path, names: Sequence[str], levels: Sequence[int], years: range, step: int) -> None:
        self.names, self.levels, self.step = names, levels, step
        self.files = {name: _files(folder, name) for name in names}
        self._open: dict[tuple[int, Path], Any] = {}
        hours = {name: self._hours(files, years) for name, files in self.files.items()}
        first = hours[names[0]]
        for name, found in hours.items():
            if not np.array_equal(found, first):
                raise DatasetError(f"{folder}: {name} and {names[0]} have different hours in {years[0]} to {years[-1]}")
        if not len(first):
            raise DatasetError(f"{folder} has no hour of the years {years[0]} to {years[-1]}", "Say which: train=A-B")
        self.file, self.place, self.time = first.T

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __len__(self) -> int:
        return len(self.time)

    def starts(self, frames: int, stride: int) -> Array:
        """Where clips start that no hour is missing in."""
        span = (frames - 1) * self.step
        starts = np.arange(0, len(self) - span, stride)
        whole: Array = starts[self.time[starts + span] - self.time[starts] == span]
        return whole

    def read(self, start: int, frames: int) -> Array:
        """`frames` fields, `step` hours apart."""
        values = self.raw(np.arange(start, start + frames * self.step, self.step))
        standard: Array = ((values - self.mean[:, None, None]) / self.std[:, None, None]).astype(np.float32)
        return standard

    def raw(self, index: Array) -> Array:
        """Fields (T,C,H,W) in the file's units."""
        return np.concatenate([self._variable(name, index) for name in self.names], axis=1)

    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation of each channel over all hours, a part at a time."""
        total = square = shift = np.zeros(1)
        for begin in range(0, len(self), _BLOCK):
            block = self.raw(np.arange(begin, min(begin + _BLOCK, len(self)))).astype(np.float64)
            shift = block.mean((0, 2, 3)) if begin == 0 else shift  # a large mean would cost digits of the variance
            block -= shift[:, None, None]
            total, square = total + block.sum((0, 2, 3)), square + np.square(block).sum((0, 2, 3))
        count = len(self) * block[0, 0].size
        return shift + total / count, np.sqrt(np.maximum(square / count - (total / count) ** 2, 1e-12))

    def _variable(self, name: str, index: Array) -> Array:
        parts = []
        for number in np.unique(self.file[index]):
            path = self.files[name][number]
            places, variable = self.place[index[self.file[index] == number]], self._data(path, name)
            part = variable[places.min() : places.max() + 1][places - places.min()]
            if part.ndim == 3:
                part = part[:, None]
            elif self.levels:
                heights = np.asarray(self._opened(path)["level"][:]).tolist()
                if missing := [level for level in self.levels if level not in heights]:
                    raise DatasetError(f"{path} has no level {missing[0]}", f"It has {', '.join(map(str, heights))}")
                part = part[:, [heights.index(level) for level in self.levels]]
            else:
                part = part[:, -1:]
            parts.append(part)
        return np.concatenate(parts)

    def _hours(self, files: Sequence[Path], years: range) -> Array:
        """Rows of file number, place in the file, hours since 1900, in order of time."""
        rows = []
        for number, path in enumerate(files):
            try:
                clock = self._opened(path)["time"]
                since = np.asarray(self._library().date2num(
                    self._library().num2date(clock[:], clock.units), "hours since 1900-01-01"
                ))  # fmt: skip
            except (IndexError, AttributeError, ValueError) as problem:
                raise DatasetError(f"{path} has no times ({problem})", "Get it again") from problem
            whole = np.rint(since).astype(np.int64)
            year = (np.datetime64("1900-01-01", "h") + whole).astype("datetime64[Y]").astype(int) + 1970
            place = np.flatnonzero((year >= years[0]) & (year <= years[-1]))
            rows.append(np.stack([np.full(len(place), number), place, whole[place]], axis=1))
        hours = np.concatenate(rows)
        return hours[np.argsort(hours[:, 2], kind="stable")]

    def _data(self, path: Path, name: str) -> Any:
        opened = self._opened(path)
        for key in (name, "z") if name == "g" else (name,):
            if key in opened.variables:
                return opened[key]
        raise DatasetError(f"{path} has no variable {name!r}", f"It has {', '.join(opened.variables)}")

    def _opened(self, path: Path) -> Any:
        own = os.getpid(), path  # a forked worker opens its own: two processes cannot share one place in a file
        if own not in self._open:
            try:
                opened = self._library().Dataset(path)
            except OSError as problem:
                raise DatasetError(f"{path} cannot be read as a netCDF file ({problem})", "Get it again") from problem
            opened.set_auto_mask(False)
            self._open[own] = opened
        return self._open[own]

    @staticmethod
    def _library() -> Any:
        try:
            import netCDF4
        except ImportError:
            raise DependencyMissing("WeatherBench needs the package netCDF4", "Run: pip install netCDF4") from None
        return netCDF4


def _files(folder: Path, name: str) -> list[Path]:
    found = sorted((folder / VARIABLES[name]).glob(f"{VARIABLES[name]}*.nc"))
    if not found:
        raise DatasetError(f"{folder / VARIABLES[name]} has no {VARIABLES[name]}*.nc", "Is the data set complete?")
    return found


def load(
    split: str,
    root: str = "",
    variables: str = "t2m",
    levels: str = "",
    frames: int = 24,
    step: int = 1,
    stride: int = 1,
    train: str = "2010-2015",
    validation: str = "2016",
    test: str = "2017-2018",
    mean: str = "",
    std: str = "",
) -> Clips:
    """WeatherBench: `weather_5_625deg/2m_temperature/2m_temperature_*.nc` and so on (or `weather/`), package netCDF4.

    Splits are years. Values are (x - mean) / std of each channel over the training years, as OpenSTL's networks take them:
    they are not in [0,1], so only errors mean something (`rmse_pixel?std=...` has them in the file's units), not SSIM.

    Args:
        variables: one of t2m, tcc, r, u10, v10, z, t850, tp, g, t, u, v, or several with commas between ("u10,v10").
        levels: pressure levels in hPa ("150,500,850"), for variables that have them; default: the last in the file.
        frames: length of a clip.
        step, stride: hours from one frame to the next, and from the start of one clip to the next.
        train, validation, test: years, one or first-last.
        mean, std: of each channel, with commas between; default: computed, which reads all training years once.

    Raises DatasetError: files are missing, cannot be read or do not fit; DependencyMissing: netCDF4.
    """
    names = variables.split(",")
    for name in names:
        if name not in VARIABLES:
            raise DatasetError(f"there is no variable {name!r}", f"Variables: {', '.join(VARIABLES)}")
    if min(frames, step, stride) < 1:
        raise DatasetError(f"frames={frames}, step={step} and stride={stride} must be positive")
    top = Path(root).expanduser()
    name = next((form for form in FORMS if root and (top / form).is_dir()), "weather")
    folder = folder_of(root, name, *(VARIABLES[name] for name in names))
    heights = [int(level) for level in _numbers(levels, "levels")]
    years = {"train": _years(train), "validation": _years(validation), "test": _years(test)}
    hours = Hours(folder, names, heights, years[split], step)
    if bool(mean) != bool(std):
        raise DatasetError("mean and std go together", "Give both, or none")
    if mean:
        hours.mean, hours.std = np.array(_numbers(mean, "mean")), np.array(_numbers(std, "std"))
    else:
        learnt = hours if split == "train" else Hours(folder, names, heights, years["train"], step)
        hours.mean, hours.std = learnt.moments()
        told = [",".join(f"{value:.6g}" for value in values) for values in (hours.mean, hours.std)]
        log.info("weather: mean=%s&std=%s of the years %s", *told, train)
    channels = hours.raw(np.arange(1)).shape[1]
    if not len(hours.mean) == len(hours.std) == channels:
        raise DatasetError(f"mean and std have {len(hours.mean)} and {len(hours.std)} numbers for {channels} channels")
    starts = hours.starts(frames, stride)
    return Clips([hours], [(0, int(start)) for start in starts], frames, f"weather ({split})")


def _numbers(text: str, what: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if text]
    except ValueError:
        raise DatasetError(f"{what}={text!r} is no list of numbers", "Write them with commas between") from None


def _years(text: str) -> range:
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise DatasetError(f"{text!r} is neither a year nor first-last", "Write 2016 or 2010-2015")
    return range(int(first), int(last or first) + 1)
