"""Depth maps with holes: filling, reducing, enlarging; and data sets of them.

Where nothing is known a map is NaN. Interpolation would spread that, so holes are filled first and cut out again afterwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import DatasetError, DependencyMissing, InputError
from stzoo.fields import Depth
from stzoo.files import files_in
from stzoo.media.depths import read_depth
from stzoo_super_resolution.metrics import ssim_rgb
from stzoo_super_resolution.resize import imresize

Map = NDArray[np.float32]


# --- holes ------------------------------------------------------------------------------------------------------------


def filled(depth: Map) -> Map:
    """A map (H, W) whose unknown pixels (NaN) got the mean of what is known around them, from small surroundings to large.

    (A pyramid of means over 2x2 pixels, as in pull-push interpolation: Gortler et al., The Lumigraph, 1996.)
    Raises InputError if nothing is known.
    """
    known = np.isfinite(depth)
    if known.all():
        return depth
    if not known.any():
        raise InputError("depth: no depth is known at any pixel")
    height, width = depth.shape
    pad = [(0, height % 2), (0, width % 2)]
    values = np.pad(np.where(known, depth, 0), pad).reshape(-(-height // 2), 2, -(-width // 2), 2).sum((1, 3))
    counts = np.pad(known, pad).reshape(-(-height // 2), 2, -(-width // 2), 2).sum((1, 3))
    coarse = filled(np.where(counts > 0, values / np.maximum(counts, 1), np.nan).astype(depth.dtype))
    return np.where(known, depth, coarse.repeat(2, 0).repeat(2, 1)[:height, :width])


def reduced(depth: Map, scale: int) -> Map:
    """A map (H, W) at (H/scale, W/scale): bicubic as MATLAB's imresize; NaN where less than half of the pixels are known.

    Values stay between the smallest and the largest known one. Height and width must be multiples of ``scale``.
    """
    known = np.isfinite(depth)
    small = np.clip(imresize(filled(depth), 1 / scale), *_range(depth))
    height, width = small.shape
    share = known.reshape(height, scale, width, scale).mean((1, 3))
    return np.where(share >= 0.5, small, np.nan).astype(np.float32)


def enlarged(depth: Map, scale: int) -> Map:
    """A map (H, W) at (H*scale, W*scale), bicubic as MATLAB's imresize; NaN where the nearest pixel of ``depth`` is."""
    large = np.clip(imresize(filled(depth), scale), *_range(depth))
    return np.where(np.isfinite(depth).repeat(scale, 0).repeat(scale, 1), large, np.nan).astype(np.float32)


def _range(depth: Map) -> tuple[float, float]:
    return float(np.nanmin(depth)), float(np.nanmax(depth))


def bicubic(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline of the task: :func:`enlarged`."""
    return {"depth": enlarged(inputs["depth"], truth["depth"].shape[0] // inputs["depth"].shape[0])}


def ssim(prediction: Map, target: Map) -> float:
    """Structural similarity of two maps (H, W) that are stretched to ``target``'s range and rounded to 8 bits.

    Pixels that only one of them knows count as unknown in both; holes are filled. Raises InputError where nothing is known,
    or a map is smaller than the window of 11x11.
    """
    known = np.isfinite(prediction) & np.isfinite(target)
    if not known.any():
        raise InputError("there is no pixel whose depth both the prediction and the truth know")
    low, high = _range(np.where(known, target, np.nan))
    one, two = ((filled(np.where(known, item, np.nan)) - low) / ((high - low) or 1) for item in (prediction, target))
    return ssim_rgb(one[None], two[None], crop=0)


# --- data sets --------------------------------------------------------------------------------------------------------


class Folder:
    """Depth maps of a folder, read when they are asked for: ``{"depth": (H, W) in metres, "guide": a path, or None}``."""

    def __init__(self, files: Sequence[tuple[Path, Path | None]], per_unit: float | None) -> None:
        self.files, self.per_unit = files, per_unit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        depth, guide = self.files[index]
        return {
            "depth": read_depth(depth, "depth", "m", self.per_unit),
            "guide": None if guide is None else str(guide),
        }


def folder(
    split: str, root: str = "", depth: str = "depth", guide: str = "", per_unit: float = 1000.0, every: int = 5
) -> Folder:
    """RGB-D recordings as they are published (TUM, 7-Scenes, ScanNet …): a folder of depth maps, and one of pictures.

    Args:
        root: the recording, or a folder of recordings.
        depth: name of the sub-folder with depth maps.
        guide: name of the sub-folder with pictures of the same views, paired in natural order; empty: there are none.
        per_unit: how many of a 16-bit picture's numbers are one metre (TUM: 5000; 0 in a picture means not known).
        every: of so many frames the last is held out as test data.

    Raises:
        DatasetError: there is no such folder, or not as many pictures as depth maps.
    """
    if not root:
        raise DatasetError("the folder of the recordings is not given", "rgbd-recordings?root=FOLDER")
    if per_unit <= 0 or every < 2:
        raise DatasetError(f"per_unit must be positive and every at least 2, got {per_unit:g} and {every}")
    places = list(_recordings(Path(root).expanduser(), depth))
    if not places:
        raise DatasetError(f"there is no folder {depth!r} in {root}, nor in a folder of it", "Say so: &depth=NAME")
    files: list[tuple[Path, Path | None]] = []
    for place in places:
        maps, pictures = _files(place / depth), _files(place / guide) if guide else []
        if guide and len(pictures) != len(maps):
            raise DatasetError(f"{place} has {len(maps)} files in {depth!r} and {len(pictures)} in {guide!r}")
        files += zip(maps, pictures if guide else itertools.repeat(None, len(maps)), strict=True)
    chosen = [pair for index, pair in enumerate(files) if (index % every == every - 1) == (split == "test")]
    return Folder(chosen, per_unit)


def _recordings(root: Path, depth: str) -> Iterator[Path]:
    if (root / depth).is_dir():
        yield root
    elif root.is_dir():
        yield from sorted((item for item in root.iterdir() if (item / depth).is_dir()), key=lambda item: item.name)


def _files(place: Path) -> list[Path]:
    """What depth maps and pictures are read from, in natural order."""
    return files_in(place, (*Depth.reads, ".jpg", ".jpeg")) if place.is_dir() else []


_FOCAL, _BASELINE, _OFFSET = 994.978, 0.193001, 31.086
"""Of the motorcycle's cameras: focal length and offset of the principal points in pixels, baseline in metres."""


def motorcycle(split: str) -> list[dict[str, Any]]:
    """The motorcycle of the Middlebury 2014 stereo benchmark as scikit-image ships it: one map 741x500 with its picture.

    Depth is focal length * baseline / (disparity + offset), with the calibration in scikit-image's documentation.
    Raises DependencyMissing.
    """
    try:
        from skimage.data import stereo_motorcycle
    except ImportError:
        raise DependencyMissing("the motorcycle is in the package scikit-image", "pip install scikit-image") from None
    left, _, disparity = stereo_motorcycle()  # type: ignore[no-untyped-call]
    depth = np.where(np.isfinite(disparity), _FOCAL * _BASELINE / (disparity + _OFFSET), math.nan)
    return [{"depth": depth.astype(np.float32), "guide": left.transpose(2, 0, 1).astype(np.float32) / 255}]


def slambook2(split: str) -> list[dict[str, Any]]:
    """A Kinect's depth map of a room, 320x240, with holes, and its picture: a part of a frame of slambook2's chapter 5."""
    folder = Path(__file__).parent / "data"
    depth = read_depth(folder / "slambook2-depth.png", "depth", "m", 1000)
    return [{"depth": depth, "guide": str(folder / "slambook2-guide.png")}]
