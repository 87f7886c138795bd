"""Where SwinIR's tokens are: windows, shifted windows, relative positions, and images made multiples of a window.

What only depends on sizes is made once and kept.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

# --- windows ----------------------------------------------------------------------------------------------------------
# Between convolutions the tokens are kept window by window. Then every second block attends without moving anything.


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B,H,W,C) to (B*H*W,C), window by window."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, channels)


def from_windows(x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`; `size` is (H, W)."""
    height, width = size
    x = x.reshape(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


class Shifted(NamedTuple):
    """Windows moved by half their side, cyclically.

    They come in four groups, which differ in what only the cyclic shift made neighbours: nothing inside the image, and
    in the last column, in the last row, and in the corner. So a group needs one mask, not every window its own.
    """

    order: Tensor
    """(B*H*W,) where each of their tokens is among the tokens that are kept."""
    inverse: Tensor
    """The way back."""
    groups: tuple[int, ...]
    """How many windows each group has."""
    masks: Tensor
    """(groups, tokens, tokens): 0, or -100 between tokens that are no neighbours."""


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training too
def shifted_windows(batch: int, size: tuple[int, int], window: int, device: torch.device) -> Shifted:
    """Where the tokens of `batch` images of `size` (H, W) are in shifted windows."""
    shift = window // 2
    tokens = torch.arange(batch * math.prod(size), device="cpu")[:, None]
    places = from_windows(tokens, window, size).roll((-shift, -shift), (1, 2))
    rows, columns = (side // window for side in size)
    windows = to_windows(places, window).reshape(batch, rows, columns, window * window)
    parts = [windows[:, a, b].flatten(0, 2) for a in (slice(-1), slice(-1, None)) for b in (slice(-1), slice(-1, None))]
    order = torch.cat(parts).flatten()
    rolled = torch.arange(window, device="cpu") >= window - shift
    below, right = rolled.repeat_interleave(window), rolled.repeat(window)
    apart = [side[:, None] != side for side in (right, below)]
    masks = torch.stack([torch.zeros_like(apart[0]), *apart, apart[0] | apart[1]]) * -100.0
    inverse = order.argsort()
    return Shifted(
        order.int().to(device), inverse.int().to(device), tuple(len(part) for part in parts), masks.to(device)
    )


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def relative_positions(window: int, device: torch.device) -> Tensor:
    """(tokens * tokens,): row of the bias table for every pair of tokens in a window."""
    place = torch.arange(window * window, device="cpu")
    rows, columns = (axis[:, None] - axis + window - 1 for axis in (place // window, place % window))
    return (rows * (2 * window - 1) + columns).flatten().to(device)


# --- padding ----------------------------------------------------------------------------------------------------------


def reflected(x: Tensor, multiple: int) -> Tensor:
    """(B,C,H,W) with rows below and columns to the right, mirrored without the edge pixel, up to a multiple.

    Images that are too small to be mirrored once are mirrored again; the official network refuses them.
    """
    for dim in (2, 3):
        side = x.shape[dim]
        if side % multiple:
            place = torch.arange(side + -side % multiple, device=x.device) % max(1, 2 * side - 2)
            x = x.index_select(dim, torch.minimum(place, (2 * side - 2 - place).clamp(min=0)))
    return x


def mirrored(x: Tensor, height: int, width: int) -> Tensor:
    """(B,C,H,W) with rows below and columns to the right, mirrored with the edge pixel, to a size."""
    for dim, wanted in ((2, height), (3, width)):
        side = x.shape[dim]
        place = torch.arange(wanted, device=x.device) % (2 * side)
        x = x.index_select(dim, torch.minimum(place, 2 * side - 1 - place))
    return x
