"""Surfaces: a mesh where a density has a certain value, by the marching cubes of scikit-image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stzoo.errors import DependencyMissing, InputError

CHUNK = 2**16
"""Points that are asked for at a time."""


def surface(
    density: Callable[[np.ndarray], np.ndarray],
    colour: Callable[[np.ndarray, np.ndarray], np.ndarray],
    low: Any,
    high: Any,
    *,
    cells: int = 80,
    level: float = 0.0,
) -> dict[str, np.ndarray]:
    """The surface on which a density is ``level``, as a mesh with a colour at each corner, in the axes of the world.

    Args:
        density: points (P, 3) to densities (P,); more is inside.
        colour: points (P, 3) and unit vectors (P, 3), in which direction they are looked at, to colours (P, 3) in [0, 1].
        low, high: corners of the box that is searched.
        cells: on its longest side.
        level: 0: half way between nothing and the densest thousandth.

    Returns:
        positions (N, 3), colours (N, 3) and faces (M, 3), whose corners run counter-clockwise seen from outside.

    Raises:
        InputError: there is no such surface.
        DependencyMissing: scikit-image is not installed.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as problem:
        raise DependencyMissing(
            "a mesh needs scikit-image", "Run: pip install 'stzoo-reconstruction[mesh]'"
        ) from problem
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    side = (high - low).max() / cells
    counts = np.maximum(np.ceil((high - low) / side).astype(int), 1) + 1
    axes = [start + side * np.arange(count) for start, count in zip(low, counts, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    parts = [density(points[start : start + CHUNK]) for start in range(0, len(points), CHUNK)]
    values = np.concatenate(parts).reshape(counts).astype(np.float32)
    values = np.pad(values, 1)  # closed at the sides of the box
    level = level or float(np.quantile(values, 0.999)) / 2
    if not values.min() < level < values.max():
        raise InputError("the scene has no surface: nothing in it is dense", "Train it longer")
    places, faces, normals, _ = marching_cubes(values, level, gradient_direction="descent", allow_degenerate=False)
    positions = low + side * (places - 1)
    views = -normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    shades = [colour(positions[at : at + CHUNK], views[at : at + CHUNK]) for at in range(0, len(positions), CHUNK)]
    return {
        "positions": positions.astype(np.float32),
        "colours": np.clip(np.concatenate(shades), 0, 1).astype(np.float32),
        "faces": faces[:, ::-1].astype(np.int64),  # the library has them the other way round
    }


def mesh_of(module: Any, cells: int = 80) -> dict[str, np.ndarray]:
    """The :func:`surface` of a network that has ``box()``, ``density`` and ``colour``, as NeRF has."""
    import torch

    place = next(module.parameters())

    def called(function: Callable[..., torch.Tensor], *arrays: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = function(*(torch.as_tensor(array, dtype=place.dtype, device=place.device) for array in arrays))
            values: np.ndarray = found.float().cpu().numpy()
            return values

    low, high = module.box()
    return surface(
        lambda points: called(module.density, points),
        lambda points, views: called(module.colour, points, views),
        low,
        high,
        cells=cells,
    )
