"""From a picture of any size to a map of the same size, whose pixels are NaN where the network says nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline, Requirements
from stzoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("stzoo")

PLAUSIBLE = (0.02, 200.0)
"""Metres: a median depth outside of this is most likely in another unit."""


class DepthEstimation(Pipeline):
    """The picture, resized to the network's native size, through it; its map resized to the picture.

    A network of this task takes RGB (B,3,H,W) in [0, 1] and returns metres (B,1,h,w), or its architecture has a pipeline
    that refines :meth:`estimate`.
    """

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture, and its true map, which must be of one size. Raises InputError."""
        check_pair(row["image"], row["depth"])
        return super().example(row, options)

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["image"]`` (B,3,H,W) to ``depth`` (B,H,W) in metres, NaN where it is not known."""
        return {"depth": self.estimate(module, batch["image"], options)}

    def estimate(self, module: nn.Module, image: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Pictures (B,3,H,W) in [0, 1] to depth (B,H,W) in metres."""
        height, width = image.shape[-2:]
        found = module(resized(image, frame_of(self.requirements, (height, width))))[:, 0].float()
        down, across = (places(length, found.shape[axis]) for axis, length in ((-2, height), (-1, width)))
        return sampled(found, down.to(image.device), across.to(image.device), options["upsampling"])


class EigenDepth(DepthEstimation):
    """The picture resized to the network's frame; its middle through the network; the map put where it belongs.

    Row j of the map is the depth at row 4j + 5 of the network's input (:mod:`stzoo_depth.eigen`). Rows between are
    interpolated in the logarithm of depth, or the nearest one is taken. Nothing is predicted outside of the crop, nor for its
    outermost four rows and columns: ``border="extend"`` repeats the outermost pixels over up to as much as the crop and
    these leave out on each side, ``border="unknown"`` leaves NaN. Rows that the fine network was not shown stay NaN.
    """

    def estimate(self, module: nn.Module, image: Tensor, options: Mapping[str, Any]) -> Tensor:
        from stzoo_depth.eigen import BORDER, FIRST, STRIDE

        network: Any = module
        corner, frame, size = network.corner(), network.frame, network.size
        cut = resized(image, frame)[..., corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
        found = network(255 * cut)[:, 0].float()
        lines: list[Tensor] = []
        for axis, (first, last) in enumerate((network.rows, (0, size[1]))):
            at = places(image.shape[axis - 2], frame[axis]) - corner[axis]  # in pixels of the network's input
            low, high = first + BORDER - 0.5, last - BORDER - 0.5
            if options["border"] == "extend":
                low, high = low - corner[axis] - BORDER, high + frame[axis] - size[axis] - corner[axis] + BORDER
            place = (at - first - FIRST) / STRIDE
            lines.append(place.masked_fill((at < low) | (at > high), float("nan")).to(image.device))
        logarithms = sampled(found, lines[0], lines[1], options["upsampling"])
        depth: Tensor = (logarithms * network.log_std).exp()
        return depth


def check_pair(image: np.ndarray, depth: np.ndarray) -> None:
    """Raise InputError if a picture (C,H,W) and a map (H,W) are not of one size; warn of a unit that is most likely wrong."""
    if image.shape[-2:] != depth.shape:
        sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape[-2:], depth.shape)]
        raise InputError(
            f"the picture is {sizes[0]}, its depth {sizes[1]}", "Add size=HEIGHTxWIDTH to the data, which resizes both"
        )
    known = depth[np.isfinite(depth)]
    if not known.size:
        raise InputError("no depth is known at any pixel", "Leave the example out")
    median = float(np.median(known))
    if not PLAUSIBLE[0] <= median <= PLAUSIBLE[1]:
        _warn(f"{median:.1g}")


@cache
def _warn(median: str) -> None:
    """Once for each order of magnitude: a whole data set would say the same."""
    log.warning(
        "depth: the median is %s metres; are these millimetres, or is per_unit wrong (16-bit pictures: 1000 numbers a metre)?",
        median,
    )


def frame_of(requirements: Requirements, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a network was made for; where it was made for none, ``size``."""
    height, width = (requirements.native_size or size)[-2:]
    return height, width


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (B,C,H,W) at another height and width: bilinear, antialiased where they shrink."""
    import torch.nn.functional as F

    if tuple(image.shape[-2:]) == size:
        return image
    whole = image.float()
    return F.interpolate(whole, size, mode="bilinear", align_corners=False, antialias=True).to(image.dtype)


def places(length: int, other: int) -> Tensor:
    """Where the centres of ``length`` pixels are among ``other`` pixels that cover the same extent, the first being at 0."""
    import torch

    return (torch.arange(length, dtype=torch.float32) + 0.5) * (other / length) - 0.5


def sampled(maps: Tensor, rows: Tensor, columns: Tensor, mode: str) -> Tensor:
    """Values of maps (B,h,w) at these rows and columns, which may lie between pixels ("bilinear", or "nearest").

    Beyond the border the outermost value is taken. Where a row or a column is NaN the result (B,rows,columns) is NaN.
    """
    import torch

    known = torch.isfinite(rows)[:, None] & torch.isfinite(columns)
    for axis, at in ((1, rows), (2, columns)):
        at = at.nan_to_num().clamp(0, maps.shape[axis] - 1)
        shape = [-1 if axis == item else 1 for item in range(3)]
        if mode == "nearest":
            maps = maps.index_select(axis, torch.ceil(at - 0.5).long())
            continue
        low = at.floor().long()
        share = (at - low).view(shape)
        high = (low + 1).clamp(max=maps.shape[axis] - 1)
        maps = torch.lerp(maps.index_select(axis, low), maps.index_select(axis, high), share)
    return maps.masked_fill(~known, torch.nan)
