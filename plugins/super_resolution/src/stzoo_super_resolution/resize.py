"""MATLAB's ``imresize(..., 'bicubic')``, with which nearly every number of super-resolution was measured.

Keys' cubic kernel with a = -0.5 (IEEE Trans. ASSP 29, 1981), pixel centres at half positions, the kernel widened where the
picture shrinks, borders continued by their mirror image, the picture's rows first. Pictures have their channels first.

What is otherwise called bicubic differs: ``torch.nn.functional.interpolate`` takes a = -0.75 without antialiasing, and like
Pillow does not mirror borders.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    Picture = TypeVar("Picture", NDArray[np.floating], Tensor)

Size = tuple[int, int]

BICUBIC_REACH = 2
"""How far away, in its own pixels, anything is that a pixel of an enlarged picture depends on."""


def imresize(image: Picture, scale: float, *, size: Size | None = None, antialias: bool = True) -> Picture:
    """A picture (..., H, W), array or tensor of floats, resized by ``scale`` to (..., ceil(H*scale), ceil(W*scale)).

    MATLAB's path for floating-point pictures: nothing is rounded or clipped, so values may leave the range of the input.
    Arrays keep their precision; tensors of less than 32 bits are computed in 32.

    Args:
        size: another height and width of the output, cut off or continued at the far ends; the grid stays that of ``scale``.
        antialias: widen the kernel where the picture shrinks.

    Raises:
        InputError: ``scale`` is not positive, or the picture is empty.
    """
    height, width = size or _size(image.shape[-2:], scale)
    if isinstance(image, np.ndarray):
        return _along(_along(image, -2, height, scale, antialias), -1, width, scale, antialias)
    precise = image if image.dtype.itemsize >= 4 else image.float()
    rows = _along_tensor(precise, -2, height, scale, antialias)
    return _along_tensor(rows, -1, width, scale, antialias).to(image.dtype)


def imresize_uint8(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A picture (..., H, W) of 8 bits, resized as :func:`imresize`, with MATLAB's rounding: half up, after each direction.

    Gives the published low-resolution images of Set5 bit by bit. Raises InputError as :func:`imresize`.
    """
    height, width = _size(image.shape[-2:], scale)
    rows = _rounded(_along(image.astype(np.float64), -2, height, scale, True))
    return _rounded(_along(rows.astype(np.float64), -1, width, scale, True))


def _rounded(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)
    return rounded


def _size(shape: tuple[int, ...], scale: float) -> Size:
    if not (scale > 0 and math.isfinite(scale)) or not min(shape):
        raise InputError(f"a picture of {'x'.join(map(str, shape[::-1]))} pixels cannot be resized by {scale:g}")
    # A third of 513 is 171, whatever floating point says.
    height, width = (math.ceil(side * scale - 1e-9) for side in shape)
    return height, width


@lru_cache(maxsize=64)
def _taps(length: int, out: int, scale: float, antialias: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each of ``out`` pixels the pixels it is made of and their weights: two arrays (taps, out)."""
    stretch = min(scale, 1.0) if antialias else 1.0
    centre = (np.arange(out) + 0.5) / scale - 0.5
    reach = 2 / stretch
    pixels = np.floor(centre - reach).astype(np.int64) + np.arange(math.ceil(2 * reach) + 2)[:, None]
    weights = _cubic(stretch * (centre - pixels))
    weights /= weights.sum(0)
    used = weights.any(1)
    # The mirror image of the mirror image is the picture again.
    folded = pixels[used] % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded), weights[used]


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _along(image: NDArray[np.floating], axis: int, out: int, scale: float, antialias: bool) -> NDArray[np.floating]:
    pixels, weights = _taps(image.shape[axis], out, scale, antialias)
    shape = (out, 1) if axis == -2 else (out,)
    parts = (
        image.take(chosen, axis) * weight.reshape(shape).astype(image.dtype)
        for chosen, weight in zip(pixels, weights, strict=True)
    )
    total: NDArray[np.floating] = next(parts)
    for part in parts:
        total += part
    return total


def _along_tensor(image: Tensor, axis: int, out: int, scale: float, antialias: bool) -> Tensor:
    import torch

    pixels, weights = _taps(image.shape[axis], out, scale, antialias)
    chosen = torch.from_numpy(pixels).to(image.device)
    factors = torch.from_numpy(weights).to(image)
    factors = factors[..., None] if axis == -2 else factors
    total = image.index_select(axis, chosen[0]) * factors[0]
    for place in range(1, len(pixels)):
        total = torch.addcmul(total, image.index_select(axis, chosen[place]), factors[place])
    return total
