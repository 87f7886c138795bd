"""Where Gaussians start: at the points of structure from motion, or anywhere that the cameras see (Kerbl 2023, section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from stzoo.errors import DatasetError
from stzoo.media.geometry import BAND
from stzoo_reconstruction.cameras import Cameras, centre_of
from stzoo_reconstruction.gaussians import OPACITY

NEAREST = 1e-7
"""The least mean square of distances to neighbours: points that coincide would be Gaussians of no size."""
FILLED = 0.8
"""The part of half a picture's side that half the cube's side takes."""
SAME_PLACE = 1e-6
"""Cameras nearer to each other than this, in the world's units, are in one place."""
TRIES = 200
"""Draws of points before it is said that the cameras see none."""


def set_gaussians(module: nn.Module, positions: np.ndarray, colours: np.ndarray) -> None:
    """Make the network's Gaussians isotropic ones at ``positions`` (N,3), as large as their neighbours are far, of
    ``colours`` (N,3) in [0, 1] from every side, a tenth opaque. Parameters take the number of points."""
    count, network = len(positions), dict(module.named_parameters())
    values = {
        "means": positions,
        "scales": np.repeat(log_scales(positions)[:, None], 3, 1),
        "quats": np.tile(np.array([1.0, 0, 0, 0]), (count, 1)),
        "opacities": np.full(count, OPACITY),
        "sh0": (colours[:, None] - 0.5) / BAND,
        "shN": np.zeros((count, *network["shN"].shape[1:])),
    }
    for name, value in values.items():
        network[name].data = torch.as_tensor(value).to(network[name])


def log_scales(positions: np.ndarray) -> np.ndarray:
    """(N,): the logarithm of the root mean square of the distances to the three nearest other points."""
    from scipy.spatial import cKDTree

    neighbours = min(4, len(positions))
    if neighbours < 2:
        return np.zeros(len(positions))
    distances = cKDTree(positions).query(positions, k=neighbours)[0][:, 1:]
    return np.asarray(0.5 * np.log(np.maximum(np.square(distances).mean(1), NEAREST)))


def random_points(cameras: Cameras, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` points (N,3), in the world's axes, drawn uniformly from the part of :func:`box_of` that cameras see.

    Raises DatasetError if they see next to nothing of it.
    """
    centre, reach = box_of(cameras)
    found: list[np.ndarray] = []
    for _ in range(TRIES):
        points = centre + rng.uniform(-reach, reach, (count, 3))
        inside = np.zeros(count, bool)
        for camera in cameras:
            inside |= _pixels(camera, points)[0]
        found.append(points[inside])
        if sum(map(len, found)) >= count:
            return np.concatenate(found)[:count]
    raise DatasetError(
        "the cameras see next to nothing of the space that they are directed at",
        "Are poses camera to world, with cameras looking along -z, and intrinsics in pixels?",
    )


def mean_colours(cameras: Cameras, pictures: Iterable[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Of each point (N,3) the mean colour (N,3), in [0, 1], of the pixels that show where it is; grey where none does.

    ``pictures``: (3,H,W) uint8, one for each camera and of its size.
    """
    total, views = np.full((len(points), 3), 1e-6 / 2), np.full(len(points), 1e-6)
    for camera, picture in zip(cameras, pictures, strict=True):
        inside, x, y = _pixels(camera, points)
        total[inside] += picture[:, y, x].T / 255
        views += inside
    return np.asarray(total / views[:, None])


def box_of(cameras: Cameras) -> tuple[np.ndarray, float]:
    """Centre (3,) and half the side of the cube that most of a typical camera's picture is filled by."""
    centre = centre_of(cameras)
    distance = np.median(np.linalg.norm(cameras.positions - centre, axis=1))
    slope = np.median(cameras.sizes / 2 / cameras.intrinsics[:, 1::-1])
    return centre, float(FILLED * distance * slope)


def extent_of(cameras: Cameras) -> float:
    """1.1 times the largest distance of a camera to the mean of all, in the world's units: what sizes and learning rates are
    measured by. Of cameras in one place, the distance to what they look at counts instead."""
    apart = np.linalg.norm(cameras.positions - cameras.positions.mean(0), axis=1)
    if apart.max() < SAME_PLACE:
        apart = np.linalg.norm(cameras.positions - centre_of(cameras), axis=1)
    return 1.1 * float(apart.max())


def _pixels(camera: Cameras, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the points (N,3) one camera sees (N,), and the columns and rows of the pixels of these."""
    pixels, depth = camera.project(points)
    height, width = camera.sizes[0]
    x, y = np.nan_to_num(pixels[0], nan=-1, posinf=-1, neginf=-1).T
    inside = (depth[0] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside, x[inside].astype(int), y[inside].astype(int)
