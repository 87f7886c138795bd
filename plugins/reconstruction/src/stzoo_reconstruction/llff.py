"""``poses_bounds.npy`` of LLFF (Mildenhall et al. 2019), as NeRF's forward-facing scenes have it.

Each row holds a (3, 5) matrix, row by row, and the nearest and farthest depth. The matrix is camera to world, its columns the
camera's *down, right and backwards* axes and the position; the fifth column is height, width and focal length. Poses here
have OpenGL axes: right, up, backwards. Nothing is scaled or centred: that is up to who learns from it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stzoo.errors import MediaError
from stzoo_reconstruction.frames import Found, Frame, one_each, readable


def find(path: Path) -> Found | None:
    """The capture of a folder with ``poses_bounds.npy`` and photographs, in the order of their names, in ``images/`` (else
    ``images_4/``, ``images_8/``)."""
    file = path / "poses_bounds.npy" if path.is_dir() else path
    if file.name != "poses_bounds.npy" or not file.is_file():
        return None
    with readable(file, "a NumPy file"):
        table = np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 17 or not len(table):
        raise MediaError(f"{file} holds an array of shape {table.shape}", "Give (photographs, 17)")
    if not np.isfinite(table).all():
        raise MediaError(f"{file}: row {np.flatnonzero(~np.isfinite(table).all(1))[0]} is not finite", "Leave it out")
    poses, intrinsics = opengl_poses(table)
    folder = next(
        (place for name in ("images", "images_2", "images_4", "images_8") if (place := file.parent / name).is_dir()),
        file.parent,
    )
    pictures, frames = one_each(len(table), file, folder), []
    for picture, pose, (height, width, focal), bounds in zip(pictures, poses, intrinsics, table[:, 15:], strict=True):
        if not 0 <= bounds[0] < bounds[1]:
            raise MediaError(f"{file}: bounds {bounds[0]:g} and {bounds[1]:g} of {picture.name}", "near < far")
        size = (round(height), round(width))
        frames.append(Frame(picture, pose, (focal, focal, width / 2, height / 2), size, bounds=(bounds[0], bounds[1])))
    return Found(frames)


def opengl_poses(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (V, 4, 4), camera to world, OpenGL axes, and height, width, focal length (V, 3) from rows (V, 17)."""
    matrix = table[:, :15].reshape(-1, 3, 5)
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3] = np.stack([matrix[..., 1], -matrix[..., 0], matrix[..., 2], matrix[..., 3]], axis=-1)
    return poses, matrix[..., 4]
