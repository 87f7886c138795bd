"""Lenses that bend straight lines, and photographs without that.

Coordinates are those of OpenCV: (x, y) = (X/Z, Y/Z) on the plane one unit before the camera, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Lens:
    """OpenCV's two models: radial and tangential (Brown 1966; k1 to k6, p1, p2), or fisheye (Kannala and Brandt 2006; k1 to k4).

    COLMAP's SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV and their FISHEYE relatives, and nerfstudio's OPENCV and
    OPENCV_FISHEYE are these with some numbers 0.
    """

    radial: tuple[float, ...]
    tangential: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False

    @property
    def straight(self) -> bool:
        """Whether it bends nothing."""
        return not (self.fisheye or any(self.radial) or any(self.tangential))

    def bent(self, points: np.ndarray) -> np.ndarray:
        """Where the lens moves points (…, 2) of the plane at unit distance."""
        x, y = points[..., 0], points[..., 1]
        square = x * x + y * y
        if self.fisheye:
            radius = np.sqrt(square)
            angle = np.arctan(radius)
            moved = angle * (1 + sum(k * angle ** (2 * n) for n, k in enumerate(self.radial, 1)))
            return points * np.where(radius > 1e-8, moved / np.maximum(radius, 1e-8), 1.0)[..., None]
        k = (*self.radial, *(0.0,) * 6)
        scale = 1 + square * (k[0] + square * (k[1] + square * k[2]))
        scale = scale / (1 + square * (k[3] + square * (k[4] + square * k[5])))
        p1, p2 = self.tangential
        shift = np.stack([2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y], -1)
        return points * scale[..., None] + shift

    def zoom(self, intrinsics: np.ndarray, height: float, width: float) -> float:
        """The factor, at least 1, by which the focal length of the straight picture must be longer so that the photograph
        covers all of it; at most 2."""
        edge = np.linspace(0, 1, 17)
        sides = [np.stack([edge, np.full(17, at)], -1) for at in (0.0, 1.0)]
        border = np.concatenate([*sides, *(side[:, ::-1] for side in sides)]) * (width, height)

        def covered(factor: float) -> bool:
            x, y = self._sources(border, intrinsics, factor).T
            return bool(
                (x >= -0.5).all() and (y >= -0.5).all() and (x <= width + 0.5).all() and (y <= height + 0.5).all()
            )

        low, high = 1.0, 2.0
        if covered(low):
            return low
        for _ in range(20):
            middle = (low + high) / 2
            low, high = (low, middle) if covered(middle) else (middle, high)
        return high

    def straightened(self, picture: np.ndarray, intrinsics: np.ndarray, factor: float) -> np.ndarray:
        """A photograph (C, H, W) taken through the lens as a pinhole camera with ``factor`` times the focal length sees it:
        bilinear; what the photograph does not show repeats its edge.

        ``intrinsics``: fx, fy, cx, cy of the photograph.
        """
        from scipy.ndimage import map_coordinates

        height, width = picture.shape[1:]
        y, x = np.mgrid[:height, :width] + 0.5
        x, y = np.moveaxis(self._sources(np.stack([x, y], -1), intrinsics, factor) - 0.5, -1, 0)
        planes = [map_coordinates(plane, (y, x), order=1, mode="nearest") for plane in picture]
        return np.stack(planes).astype(np.float32)

    def _sources(self, pixels: np.ndarray, intrinsics: np.ndarray, factor: float) -> np.ndarray:
        """Where in the photograph pixels (…, 2) of the straight picture are."""
        focal, centre = intrinsics[:2], intrinsics[2:]
        return self.bent((pixels - centre) / (focal * factor)) * focal + centre
