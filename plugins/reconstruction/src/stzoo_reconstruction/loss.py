"""The loss of Gaussian splatting: absolute differences and structural dissimilarity, for views as a whole."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

RADIUS, SIGMA = 5, 1.5
"""The window of SSIM: a Gaussian of 11 x 11 pixels."""
C1, C2 = 0.01**2, 0.03**2
WHOLE, BLOCK = 256, 32
"""Up to so many pixels a side is blurred by one band matrix; above that in blocks, whose cost grows with the side alone."""


def photometric_loss(image: Tensor, true: Tensor, dissimilarity: float = 0.2) -> dict[str, Tensor]:
    """Kerbl 2023, equation 7: (1 - d) L1 + d (1 - SSIM), d = ``dissimilarity``, as its two terms.

    Args:
        image, true: (..., 3, H, W) in [0, 1]; gradients flow to ``image`` alone.

    Returns:
        ``l1`` and ``dssim``, scalars.
    """
    return {
        "l1": (1 - dissimilarity) * (image - true).abs().mean(),
        "dssim": dissimilarity * (1 - ssim(image, true)),
    }


def ssim(image: Tensor, true: Tensor) -> Tensor:
    """Structural similarity, the mean over all pixels and channels (Wang 2004, equation 13), a scalar.

    The window is a Gaussian of 11 x 11 pixels with sigma 1.5, outside of the picture there are zeros, and the border
    counts: as the losses of 3D Gaussian splatting have it, and not as the metric does. ``image``, ``true``: (..., H, W) in
    [0, 1]; gradients flow to ``image`` alone, with derivatives written out.
    """
    value: Tensor = _Ssim.apply(image, true)  # type: ignore[no-untyped-call]
    return value


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, true: Tensor) -> Tensor:
        mean, mean_true, square, square_true, product = blurred(
            torch.stack((image, true, image * image, true * true, image * true))
        )
        means, covariance = mean * mean_true, 2 * product
        luminance, contrast = 2 * means + C1, covariance - 2 * means + C2
        below_luminance = mean * mean + mean_true * mean_true
        below_contrast = square + square_true - below_luminance + C2
        below_luminance = below_luminance + C1
        below = 1 / (below_luminance * below_contrast)
        similarity = luminance * contrast * below
        if ctx.needs_input_grad[0]:
            to_mean = 2 * (
                mean_true * (contrast - luminance) * below
                - mean * similarity * (1 / below_luminance - 1 / below_contrast)
            )
            to_square, to_product = -similarity / below_contrast, 2 * luminance * below
            ctx.save_for_backward(image, true, torch.stack((to_mean, to_square, to_product)))
        mean_similarity: Tensor = similarity.mean()
        return mean_similarity

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        image, true, towards = ctx.saved_tensors
        to_mean, to_square, to_product = blurred(towards)  # the window is symmetric: its own adjoint
        return (to_mean + 2 * image * to_square + true * to_product) * (gradients[0] / image.numel()), None


def blurred(picture: Tensor) -> Tensor:
    """``picture`` (..., H, W) under the window, with zeros outside of it, as products with band matrices: on a CPU several
    times faster than convolutions of one channel each.
    """
    return _along_rows(_along_rows(picture).mT.contiguous()).mT


def _along_rows(picture: Tensor) -> Tensor:
    width = picture.shape[-1]
    if width <= WHOLE:
        return picture @ _band(width, width, 0, picture.dtype, picture.device)
    blocks = -(-width // BLOCK)
    padded = torch.nn.functional.pad(picture, (RADIUS, blocks * BLOCK - width + RADIUS))
    windows = padded.unfold(-1, BLOCK + 2 * RADIUS, BLOCK)
    band = _band(BLOCK + 2 * RADIUS, BLOCK, RADIUS, picture.dtype, picture.device)
    return (windows @ band).flatten(-2)[..., :width]


@lru_cache(maxsize=16)
def _band(rows: int, columns: int, shift: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(rows, columns): column j weighs the rows around j + ``shift`` as the window does."""
    apart = torch.arange(rows, dtype=torch.float64)[:, None] - torch.arange(columns) - shift
    offsets = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    total = torch.exp(-offsets.square() / (2 * SIGMA**2)).sum()
    weights = torch.exp(-apart.square() / (2 * SIGMA**2)) / total
    return torch.where(apart.abs() <= RADIUS, weights, 0).to(device, dtype)
