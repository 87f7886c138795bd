"""Random changes of pictures with their masks: crops, mirror images, scale, rotation, elastic deformation, colours.

All that moves pixels is done in one resampling: pictures by linear interpolation, masks by the nearest pixel. What is beyond
the border is mirrored. The generator that is handed in is the only source of randomness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stzoo.errors import ConfigError

FLIPS = ("none", "horizontal", "both", "turns")
GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of red, green and blue (BT.601)."""


@dataclass(frozen=True)
class Augment:
    """What is drawn anew for each sample.

    Raises:
        ConfigError: a value is out of range.
    """

    flips: str = "horizontal"
    """Mirror images: none, "horizontal", "both" (vertical too), or "turns": both, and quarter turns of square crops."""
    scale: float = 0.0
    """Enlarge or reduce by a factor between 1 / (1 + scale) and 1 + scale, all the same likely on a logarithmic scale."""
    rotate: float = 0.0
    """Most degrees of rotation, either way."""
    colour: float = 0.0
    """Most relative change of brightness, contrast and, of RGB, saturation."""
    elastic: float = 0.0
    """Standard deviation in pixels of the vectors of a 3x3 grid of displacements (U-Net, section 3.1: 10)."""

    def __post_init__(self) -> None:
        if self.flips not in FLIPS:
            raise ConfigError(f"flips={self.flips!r} must be one of {', '.join(map(repr, FLIPS))}")
        if min(self.scale, self.rotate, self.elastic) < 0 or not 0 <= self.colour < 1:
            raise ConfigError("scale, rotate and elastic must be at least 0, colour at least 0 and below 1")

    def sample(
        self,
        picture: NDArray[Any],
        maps: Mapping[str, NDArray[Any]],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """A part of ``size`` of a picture or clip, and of what belongs to it, changed alike.

        Args:
            picture: (..., C, H, W), float, values in [0, 1]; they stay there.
            maps: (..., H, W) by name: whole numbers take the nearest pixel's, others are interpolated.
            size: height and width; (0, 0) for all of it. What is missing is mirrored.
            rng: draws everything.
        """
        height, width = (wanted or own for wanted, own in zip(size, picture.shape[-2:], strict=True))
        # Where the middle of the part is: inside the picture as far as it is larger, else in its middle.
        top, left = (
            rng.integers(own - wanted + 1) if own > wanted else (own - wanted) / 2
            for own, wanted in zip(picture.shape[-2:], (height, width), strict=True)
        )
        places = self.places(height, width, rng)
        parts = {"": picture, **maps}
        if places is None and top >= 0 and left >= 0 and top == int(top) and left == int(left):
            rows, columns = slice(int(top), int(top) + height), slice(int(left), int(left) + width)
            parts = {name: part[..., rows, columns] for name, part in parts.items()}
        else:
            if places is None:
                places = _grid(height, width)
            offset = torch.tensor([left + (width - 1) / 2, top + (height - 1) / 2], dtype=torch.float32)
            parts = {name: _resampled(part, places + offset) for name, part in parts.items()}
        axes = self.axes(rng)
        parts = {name: np.flip(part, axes) for name, part in parts.items()}
        if self.flips == "turns" and rng.random() < 0.5 and height == width:
            parts = {name: part.swapaxes(-2, -1) for name, part in parts.items()}
        found = {name: np.ascontiguousarray(part) for name, part in parts.items()}
        return self.coloured(found.pop(""), rng), found

    def axes(self, rng: np.random.Generator) -> tuple[int, ...]:
        """The axes to mirror along."""
        allowed = {"none": (), "horizontal": (-1,)}.get(self.flips, (-1, -2))
        return tuple(axis for axis in allowed if rng.random() < 0.5)

    def places(self, height: int, width: int, rng: np.random.Generator) -> Tensor | None:
        """Where each pixel of the part comes from, (H, W, 2) as x and y from its middle; None where nothing moves."""
        if not (self.scale or self.rotate or self.elastic):
            return None
        places = _grid(height, width)
        if self.scale or self.rotate:
            factor = (1 + self.scale) ** rng.uniform(-1, 1)
            angle = np.deg2rad(rng.uniform(-self.rotate, self.rotate))
            matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / factor
            places = places @ torch.tensor(matrix, dtype=torch.float32)
        return places + displacement(height, width, self.elastic, rng) if self.elastic else places

    def coloured(self, picture: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Brightness, contrast and saturation changed, in this order."""
        if not self.colour:
            return picture
        brightness, contrast, saturation = rng.uniform(1 - self.colour, 1 + self.colour, 3).astype(np.float32)
        picture = picture * brightness
        picture = picture.mean() + (picture - picture.mean()) * contrast
        if picture.shape[-3] == 3:
            luma = np.tensordot(picture, GREY, axes=((-3,), (0,)))[..., None, :, :]
            picture = luma + (picture - luma) * saturation
        return picture.clip(0, 1, dtype=np.float32)


def displacement(height: int, width: int, deviation: float, rng: np.random.Generator, grid: int = 3) -> Tensor:
    """Elastic deformation as U-Net's: (H, W, 2) of pixels along x and y.

    Vectors on a coarse ``grid`` over the whole, normal with this ``deviation``, and bicubic interpolation in between.
    """
    vectors = torch.from_numpy(rng.normal(0, deviation, (1, 2, grid, grid)).astype(np.float32))
    return F.interpolate(vectors, (height, width), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)


def _grid(height: int, width: int) -> Tensor:
    """x and y of each pixel, (H, W, 2), from the middle."""
    y, x = (torch.arange(length) - (length - 1) / 2 for length in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _resampled(part: NDArray[Any], places: Tensor) -> NDArray[Any]:
    """What is at ``places`` (H, W, 2: x, y in pixels) of ``part`` (..., h, w), which goes on mirrored."""
    height, width = part.shape[-2:]
    unit = 2 * places / torch.tensor([max(width - 1, 1), max(height - 1, 1)]) - 1
    nearest = part.dtype.kind in "uib"
    flat = torch.from_numpy(np.ascontiguousarray(part, np.float32)).reshape(1, -1, height, width)
    found = F.grid_sample(
        flat, unit[None], mode="nearest" if nearest else "bilinear", padding_mode="reflection", align_corners=True
    )
    return found[0].reshape(*part.shape[:-2], *places.shape[:2]).numpy().astype(part.dtype)
