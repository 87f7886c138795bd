"""Photographs with a table of cameras: an npz file, or the poses of an RGB-D recording.

- ``cameras.npz``: ``pose`` (V, 4, 4), camera to world, with either ``fl`` (1 or 2 focal lengths in pixels, for all or (V, 2)) and
  ``c`` (the principal point), then OpenGL axes; or ``K`` (3, 3), for all or (V, 3, 3), then OpenCV axes (x right, y down, z
  forwards), as RGB-D recordings have. Optional ``size`` (height, width). Pixels have the origin at the top-left corner.
- ``pose.txt``: a line ``tx ty tz qx qy qz qw`` for each picture, camera to world, OpenCV axes; ``intrinsics.txt``: fx, fy, cx, cy
  or a 3x3 matrix.

Photographs and depth pictures are matched in the order of their names. Depths are metres times 1000 in 16-bit pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import InputError, MediaError
from stzoo.files import files_in
from stzoo_reconstruction.cameras import Cameras, flipped
from stzoo_reconstruction.frames import Found, Frame, Points, one_each, readable

PICTURES = ("rgb", "color", "colour", "images", "image")
DEPTHS = ("depth", "depth_mm", "depths")
CLOUD = 20_000
"""Points taken from depth pictures."""


def find(path: Path, per_metre: float = 1000.0) -> Found | None:
    """The capture of a folder with ``cameras.npz`` or ``pose.txt``, and photographs in ``images/``, ``rgb/`` or ``color/``.
    None for anything else."""
    root = path if path.is_dir() else path.parent
    table, lines = (root / "cameras.npz" if path.is_dir() else path), root / "pose.txt"
    if table.suffix == ".npz" and table.is_file():
        poses, intrinsics, size = from_names(npz(table), str(table))
        source = table
    elif path.is_dir() and lines.is_file():
        (poses, intrinsics), size, source = _recording(root), None, lines
    else:
        return None
    folder = next((place for name in PICTURES if (place := root / name).is_dir()), root)
    pictures = one_each(len(poses), source, folder)
    frames = [
        Frame(picture, pose, tuple(values), size)
        for picture, pose, values in zip(pictures, poses, intrinsics, strict=True)
    ]
    maps = next((files_in(place) for name in DEPTHS if (place := root / name).is_dir()), [])
    points = (lambda: _unprojected(frames, maps, per_metre)) if len(maps) == len(frames) else (lambda: None)
    return Found(frames, points=points)


def npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file. Raises MediaError."""
    with readable(path, "a NumPy file"), np.load(path, allow_pickle=False) as loaded:
        return {key: loaded[key] for key in loaded.files}


def from_names(values: Mapping[str, Any], where: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
    """Poses (V, 4, 4), camera to world, OpenGL axes; fx, fy, cx, cy (V, 4); the pictures' height and width, if stated.

    ``values``: ``pose`` with ``fl`` and ``c``, or with ``K`` (see the module). Raises MediaError.
    """
    poses = _numbers(values, ("pose", "poses"), where)
    poses = poses[None] if poses.ndim == 2 else poses
    if poses.ndim != 3 or poses.shape[1:] not in ((4, 4), (3, 4)):
        raise MediaError(f"{where}: pose of shape {poses.shape}", "Give (V, 4, 4), camera to world")
    if poses.shape[1] == 3:
        poses = np.concatenate([poses, np.tile([[[0.0, 0, 0, 1]]], (len(poses), 1, 1))], axis=1)
    size = None
    if "size" in values:
        height, width = np.broadcast_to(_numbers(values, ("size",), where).ravel(), 2)
        size = (int(height), int(width))
    if "K" in values:
        matrix = np.broadcast_to(_numbers(values, ("K",), where), (len(poses), 3, 3))
        return flipped(poses), np.stack([matrix[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))], 1), size
    focal = _row(_numbers(values, ("fl", "focal"), where), len(poses), "fl", where)
    if "c" in values:
        centre = _row(_numbers(values, ("c",), where), len(poses), "c", where)
    elif size:
        centre = np.tile([size[1] / 2, size[0] / 2], (len(poses), 1))
    else:
        raise MediaError(f"{where} has neither c (the principal point, in pixels) nor size", "Add one of them")
    return poses, np.concatenate([focal, centre], axis=1), size


def _numbers(values: Mapping[str, Any], keys: Sequence[str], where: str) -> np.ndarray:
    for key in keys:
        if key in values:
            try:
                return np.asarray(values[key], dtype=np.float64)
            except (TypeError, ValueError):
                raise MediaError(f"{where}: {key} is no array of numbers") from None
    known = ", ".join(map(str, values)) or "nothing"
    raise MediaError(f"{where} has no {keys[0]!r}, but {known[:100]}", "It needs pose, and fl and c (or K)")


def _row(array: np.ndarray, count: int, key: str, where: str) -> np.ndarray:
    """(V, 2) from one number, two, or (V, 2)."""
    try:
        return np.broadcast_to(array, (count, 2))
    except ValueError:
        raise MediaError(f"{where}: {key} of shape {array.shape}", f"Give one number, two, or ({count}, 2)") from None


def cameras_from_names(values: Mapping[str, Any], where: str) -> Cameras:
    """Cameras from the names of :func:`from_names`; a picture is as large as its principal point is in the middle of,
    where ``size`` is not given."""
    poses, intrinsics, size = from_names(values, where)
    sizes = np.maximum(np.rint(2 * intrinsics[:, :1:-1]), 1) if size is None else size
    return Cameras.of(poses, intrinsics, sizes)


def _recording(root: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.spatial.transform import Rotation

    file, lens = root / "pose.txt", root / "intrinsics.txt"
    with readable(file, "lines of seven numbers"):
        rows = np.loadtxt(file, ndmin=2)
    if rows.shape[1] != 7 or not np.isfinite(rows).all():
        raise MediaError(f"{file} holds rows of {rows.shape[1]} numbers", "Give tx ty tz qx qy qz qw, all finite")
    if not lens.is_file():
        raise MediaError(f"{file} is there, but no {lens.name} beside it", "Write fx fy cx cy into it, in pixels")
    with readable(lens, "numbers"):
        given = np.loadtxt(lens).ravel()
    if given.size not in (4, 9):
        raise MediaError(f"{lens} holds {given.size} numbers", "Give fx fy cx cy, or a 3x3 matrix")
    intrinsics = given[[0, 4, 2, 5]] if given.size == 9 else given
    if (np.linalg.norm(rows[:, 3:], axis=1) < 1e-6).any():
        raise MediaError(f"{file} has a quaternion of length 0", "Give tx ty tz qx qy qz qw")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = Rotation.from_quat(rows[:, 3:]).as_matrix()
    poses[:, :3, 3] = rows[:, :3]
    return flipped(poses), np.tile(intrinsics, (len(rows), 1))


def _unprojected(frames: Sequence[Frame], maps: Sequence[Path], per_metre: float) -> Points | None:
    """Coloured points from depth pictures, on a regular grid of pixels."""
    from stzoo.media import read_image
    from stzoo.media.depths import read_depth

    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), 40)).astype(int))
    places, colours = [], []
    for index in chosen:
        frame = frames[index]
        depth = np.squeeze(read_depth(maps[index], "depth", "m", per_metre))
        picture = read_image(frame.picture, "picture", 3)
        if depth.shape != picture.shape[1:]:
            raise InputError(f"{maps[index]} has shape {depth.shape}, its photograph {picture.shape[1:]}")
        step = max(1, round((depth.size * len(chosen) / CLOUD) ** 0.5))
        y, x = (axis.ravel() for axis in np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step])
        z = depth[y, x]
        y, x, z = (item[np.isfinite(z) & (z > 0)] for item in (y, x, z))
        fx, fy, cx, cy = frame.intrinsics or (1.0, 1.0, 0.0, 0.0)
        local = np.stack([(x + 0.5 - cx) / fx * z, -(y + 0.5 - cy) / fy * z, -z], axis=1)
        pose = np.asarray(frame.pose)
        places.append(local @ pose[:3, :3].T + pose[:3, 3])
        colours.append(picture[:, y, x].T)
    joined = np.concatenate(places)
    return (joined, np.concatenate(colours)) if len(joined) else None
