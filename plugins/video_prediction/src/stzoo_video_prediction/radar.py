"""Radar rain: how rain rates become pixels, series of fields as a data set, and how forecasts of them are judged.

Pixels are the logarithm of the rain rate R in mm/h, from 0 at 0.1 (below it, it is dry) to 1 at 100:
(10 log10 R + 10 dB) / 30 dB. Rain rates are close to log-normal: on a linear scale a few cores would be bright and nearly
all rain invisible, and a squared error would count nothing else. The bounds are fixed rather than taken from the data, so
that nothing about the test frames is known in training and every pixel can be turned back into mm/h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import DatasetError, InputError
from stzoo.files import natural
from stzoo_video_prediction.metrics import as_frames, window_sum
from stzoo_video_prediction.recordings import Clips, Stored

Floats = NDArray[np.float64]
DRY, WET = 0.1, 100.0
"""Rain rates in mm/h that become 0 and 1."""
SAMPLE = Path(__file__).parent / "data" / "knmi_radar_test.npz"
"""The frames that the small models of radar rain were tested on (KNMI, CC BY 4.0)."""


def scaled(rain: NDArray[np.generic], per_hour: float = 12) -> NDArray[np.uint8]:
    """Rain in mm per 5 minutes (or another part of the hour) to uint8: decibels of the rate between 0.1 and 100 mm/h."""
    rate = np.clip(rain.astype(np.float64) * per_hour, DRY, WET)
    pixels: NDArray[np.uint8] = np.rint(255 * np.log10(rate / DRY) / np.log10(WET / DRY)).astype(np.uint8)
    return pixels


def rain_rate(pixels: NDArray[np.uint8]) -> Floats:
    """The inverse of `scaled`, from uint8 to mm/h."""
    rate: Floats = DRY * (WET / DRY) ** (pixels / 255)
    return rate


# ------------------------------------------------------------------ the data set


@dataclass(frozen=True)
class Rain:
    """A recording of rain fields, scaled."""

    fields: Stored
    per_hour: float

    def read(self, start: int, frames: int) -> NDArray[np.uint8]:
        """(T,1,H,W). Raises DatasetError for values that are negative or not finite."""
        rain = self.fields.read(start, frames)
        if not np.isfinite(rain).all() or rain.min() < 0:
            raise DatasetError(
                f"{self.fields.path} has values that are negative or not finite", "Fill missing rain with 0 first"
            )
        return scaled(rain, self.per_hour)[:, None]


def load(
    split: str, root: str = "", array: str = "", per_hour: float = 12.0, frames: int = 20, stride: int = 1
) -> Clips:
    """Rain fields in a NumPy file (frames, height, width), or in all npz or npy files of a folder, in order of name.

    Splits are pieces of time that share no frame: the last 15 % of all frames are "test", and at least as many as five clips
    need that start one frame after the other; 15 % before them, and at least one clip, are "validation". Clips do not go
    across files. An npy file is mapped into memory, a compressed npz loaded.

    Args:
        root: the file or folder. Without it the "test" split is that of KNMI's radar which the plugin carries.
        array: the array's name in npz files; default: their first.
        per_hour: what values are multiplied with to be mm/h: 12 for mm per 5 minutes.
        frames, stride: length of a clip, and frames from the start of one to the next.

    Raises DatasetError: no such file, an array of another shape, too few frames for three splits.
    """
    if not root and split != "test":
        raise DatasetError("rain-radar needs to know where its files are", "Write root=FILE.npz or root=FOLDER")
    top = Path(root).expanduser() if root else SAMPLE
    paths = [top] if top.is_file() else sorted((*top.glob("*.np[yz]"),), key=lambda path: natural(path.name))
    if not paths:
        raise DatasetError(f"there is no file {top}, and no .npz or .npy in it", "Give a file or a folder: root=PATH")
    stored = [Stored(path, array) for path in paths]
    for item in stored:
        if item.array.ndim != 3:
            raise DatasetError(f"{item.path} holds an array {item.array.shape}", "Needed: (frames, height, width)")
    if min(frames, stride) < 1:
        raise DatasetError(f"frames={frames} and stride={stride} must be positive")
    lengths = [len(item) for item in stored]
    total = sum(lengths)
    test = total - max(frames + 4, round(0.15 * total)) if root else 0
    validation = test - max(frames, round(0.15 * total))
    bounds = {"train": (0, validation), "validation": (validation, test), "test": (test, total)}
    begin, end = bounds[split]
    offsets = np.cumsum([0, *lengths])
    places = [
        (number, start)
        for number, offset in enumerate(offsets[:-1].tolist())
        for start in range(max(0, begin - offset), min(lengths[number], end - offset) - frames + 1, stride)
    ]
    return Clips(
        [Rain(item, per_hour) for item in stored], places, frames, f"rain-radar ({split}, {total} frames in all)"
    )


# ------------------------------------------------------------------ metrics


def csi_frames(
    prediction: NDArray[np.generic],
    target: NDArray[np.generic],
    threshold: float = 1.0,
    dry: float = DRY,
    wet: float = WET,
) -> Floats:
    """What `critical_success_index` takes: hits, misses and false alarms among the pixels of each frame, (N,3).

    An event is a rain rate of at least the threshold.

    Args:
        prediction, target: (...,C,H,W) floats of [0,1] or uint8, scaled as this module says.
        threshold: rain rate in mm/h, above `dry` and at most `wet`.
        dry, wet: the rain rates in mm/h that are 0 and 1 in the frames.

    Raises:
        InputError: shapes differ, or the threshold cannot be told from the pixels.
    """
    forecast, observed = _events(prediction, target, threshold, dry, wet)
    pairs = (forecast & observed, ~forecast & observed, forecast & ~observed)
    return np.stack([item.sum((1, 2, 3)) for item in pairs], axis=1).astype(np.float64)


def critical_success_index(values: Sequence[Floats]) -> float:
    """CSI, the threat score: hits / (hits + misses + false alarms) of all frames; NaN where there is no event.

    Schaefer, "The Critical Success Index as an Indicator of Warning Skill", Weather and Forecasting 5, 1990.
    """
    hits, misses, alarms = np.concatenate([np.atleast_2d(item) for item in values]).sum(0).tolist()
    events = hits + misses + alarms
    return hits / events if events else math.nan


def fss_frames(
    prediction: NDArray[np.generic],
    target: NDArray[np.generic],
    threshold: float = 1.0,
    window: int = 5,
    dry: float = DRY,
    wet: float = WET,
) -> Floats:
    """What `fractions_skill_score` takes: squared difference of the fractions, and their squares, of each frame, (N,2).

    A fraction is the share of a pixel's square neighbourhood that has an event; outside of the frame there is none.

    Args:
        window: side of the neighbourhood in pixels, odd. The others are those of `csi_frames`.

    Raises:
        InputError: as `csi_frames`, or the window is even.
    """
    if window < 1 or window % 2 == 0:
        raise InputError(f"window={window} must be an odd number of pixels")
    edge = [(0, 0), (0, 0), (window // 2, window // 2), (window // 2, window // 2)]
    forecast, observed = (
        window_sum(np.pad(item.astype(np.float64), edge), window) / window**2
        for item in _events(prediction, target, threshold, dry, wet)
    )
    parts = np.square(forecast - observed), np.square(forecast) + np.square(observed)
    return np.stack([item.sum((1, 2, 3)) for item in parts], axis=1)


def fractions_skill_score(values: Sequence[Floats]) -> float:
    """FSS: 1 - sum (f - o)^2 / (sum f^2 + sum o^2) of the fractions of all frames; NaN where there is no event.

    Roberts and Lean, "Scale-Selective Verification of Rainfall Accumulations from High-Resolution Forecasts of Convective
    Events", Monthly Weather Review 136, 2008, equations 5 to 7.
    """
    difference, worst = np.concatenate([np.atleast_2d(item) for item in values]).sum(0).tolist()
    return 1 - difference / worst if worst else math.nan


def _events(
    prediction: NDArray[np.generic], target: NDArray[np.generic], threshold: float, dry: float, wet: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where it rains at least `threshold` mm/h, both (N,C,H,W)."""
    if not 0 < dry < threshold <= wet:
        raise InputError(f"threshold={threshold:g} must be above dry={dry:g} and at most wet={wet:g} mm/h")
    pixel = math.log(threshold / dry) / math.log(wet / dry) - 1e-6  # a pixel of exactly the threshold counts
    forecast, observed = as_frames(prediction, target)
    return forecast >= pixel, observed >= pixel
