"""Numbers as colours, without a plotting library: for previews, and as coefficients for components in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAPS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "viridis": (
        (0.2745, 0.0058, 0.3327),
        (0.1077, 1.3965, 1.3868),
        (-0.3272, 0.2148, 0.092),
        (-4.5999, -5.7582, -19.2918),
        (6.2037, 14.154, 56.6563),
        (4.7518, -13.7494, -65.321),
        (-5.4321, 4.6416, 26.2721),
    ),
    "magma": (
        (-0.0021, -0.0007, -0.0095),
        (0.2505, 0.6945, 2.4953),
        (8.3459, -3.596, 0.3291),
        (-27.667, 14.2539, -13.6466),
        (52.1707, -27.9446, 12.8811),
        (-50.7586, 29.0539, 4.2699),
        (18.6643, -11.49, -5.5708),
    ),
    "grey": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Red, green and blue as polynomials of a value in [0, 1], constant terms first. Least squares fits of degree 6 to the
perceptually uniform maps of Smith and van der Walt (2015), off by no more than 0.017 (viridis) and 0.023 (magma)."""
CURVES = ("#0d9488", "#c2410c", "#4f46e5", "#a16207", "#be185d", "#0369a1", "#4d7c0f", "#7e22ce")
"""Colours of curves, readable on light and dark."""


def coloured(values: np.ndarray, name: str = "viridis") -> np.ndarray:
    """Values in [0, 1] (clipped) as uint8 (…, 3). NaN becomes black."""
    clean = np.clip(np.nan_to_num(np.asarray(values, np.float32)), 0, 1)[..., None]
    result = np.zeros((*clean.shape[:-1], 3), np.float32)
    for terms in reversed(MAPS[name]):
        result = result * clean + np.asarray(terms, np.float32)
    result[np.isnan(values)] = 0
    pixels: np.ndarray = np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8)
    return pixels


def spread(values: np.ndarray) -> tuple[float, float]:
    """The range that colours cover: from the 1st to the 99th percentile of what is finite, never empty."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(item) for item in np.percentile(known, (1, 99)))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0) * 1e-3)


def heat(values: np.ndarray) -> PILImage:
    """Numbers (H, W) of at least 0 as a picture, dark for 0, bright from the 99th percentile on."""
    from PIL import Image

    return Image.fromarray(coloured(np.asarray(values, np.float32) / max(spread(values)[1], 1e-12), "magma"))
