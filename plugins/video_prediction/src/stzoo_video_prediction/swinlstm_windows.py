"""SwinLSTM's windows: inside a cell tokens are kept window by window, so all but the shifted blocks attend where they are."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B,H,W,C) to (B,H*W,C), window by window."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(batch, height * width, channels)


def from_windows(x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `to_windows`; `size` is (H, W)."""
    batch, _, channels = x.shape
    height, width = size
    x = x.reshape(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is kept must serve training too
def shifted_windows(size: tuple[int, int], window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows moved by half their side, cyclically: order of the tokens in them, its inverse, and a mask.

    The mask (windows, tokens, tokens) is 0, or -100 between tokens that only the cyclic shift made neighbours.
    """
    height, width = size
    shift = window // 2
    along = [torch.arange(side, device="cpu") for side in size]
    places = from_windows(torch.arange(height * width, device="cpu")[None, :, None], window, size)
    order = to_windows(places.roll((-shift, -shift), (1, 2)), window).flatten()
    # What was rolled to the far side is a region of its own in the last row and in the last column of windows.
    rows, columns = ((at >= len(at) - window).long() + (at >= len(at) - shift).long() for at in along)
    regions = to_windows((3 * rows[:, None] + columns)[None, :, :, None], window).reshape(-1, window * window)
    mask = (regions[:, None] != regions[:, :, None]) * -100.0
    return order, order.argsort(), mask


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)
def relative_positions(window: int) -> Tensor:
    """(tokens * tokens,): row of the bias table for every pair of tokens in a window."""
    place = torch.arange(window * window, device="cpu")
    rows, columns = (axis[:, None] - axis + window - 1 for axis in (place // window, place % window))
    return (rows * (2 * window - 1) + columns).flatten()
