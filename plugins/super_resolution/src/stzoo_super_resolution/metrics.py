"""PSNR, SSIM and PSNR-B of pictures, in the conventions of the field.

Pictures are (C, H, W) with values in [0, 1]. Both are rounded to 8 bits first, as if they had been saved: that is how every
published number was measured. Of colour pictures the luma is compared, Y = 16 + 65.481 R + 128.553 G + 24.966 B (BT.601), and a
border as wide as the scale is left out. There are two habits of rounding:

- ``psnr_y``, ``ssim_y``: luma as it is (BasicSR, SwinIR and whoever follows them);
- ``psnr_y_uint8``, ``ssim_y_uint8``: luma rounded to 8 bits (MATLAB's ``rgb2ycbcr``: SRCNN, VDSR and the older tables),
  which gives about 0.02 dB less.

A fourth channel, alpha, is not looked at. Grey pictures are compared as they are.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stzoo import Requirements
from stzoo.errors import InputError

Floats = NDArray[np.float64]
LUMA = np.array([65.481, 128.553, 24.966])
SCALE = -1
"""As the width of the border: the network's scale."""
_ANY = Requirements()


def psnr_y(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """Peak signal-to-noise ratio of the luma in dB; infinite where both are the same.

    Args:
        prediction, target: (C, H, W), C of 1, 3 or 4, floats in [0, 1] or uint8.
        crop: pixels left out at each border; -1: the network's scale, and nothing where it does not enlarge.

    Raises:
        InputError: shapes differ, or nothing is left inside the border.
    """
    return _psnr(*_luma(prediction, target, crop, requirements))


def ssim_y(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """Structural similarity of the luma (Wang et al., IEEE TIP 13, 2004): Gaussian window 11, sigma 1.5, inside the picture.

    Arguments as :func:`psnr_y`. Raises InputError, also for pictures smaller than the window.
    """
    return _ssim(*_luma(prediction, target, crop, requirements))


def psnr_y_uint8(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """:func:`psnr_y` of the luma rounded to 8 bits, as MATLAB's ``rgb2ycbcr`` gives it."""
    return _psnr(*map(_rounded, _luma(prediction, target, crop, requirements)))


def ssim_y_uint8(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """:func:`ssim_y` of the luma rounded to 8 bits, as MATLAB's ``rgb2ycbcr`` gives it."""
    return _ssim(*map(_rounded, _luma(prediction, target, crop, requirements)))


def psnr_rgb(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """Peak signal-to-noise ratio of all colours together in dB: what colour denoising is measured with."""
    return _psnr(*_colours(prediction, target, crop, requirements))


def ssim_rgb(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """Structural similarity, mean over the colours."""
    return _ssim(*_colours(prediction, target, crop, requirements))


def psnr_b(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int = SCALE, requirements: Requirements = _ANY
) -> float:
    """PSNR-B of the luma in dB: the error counts the steps between the prediction's 8x8 blocks too (Yim and Bovik, IEEE TIP 20, 2011)."""
    prediction, target = _luma(prediction, target, crop, requirements)
    return _decibels(float(np.square(prediction - target).mean()) + blocking(prediction[0]))


def rmse(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Root of the mean squared error over the values that both have (finite, and not 0 in ``target``), in their unit."""
    return math.sqrt(float(np.square(_errors(prediction, target)).mean()))


def mae(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Mean absolute error over the values that both have (finite, and not 0 in ``target``), in their unit."""
    return float(np.abs(_errors(prediction, target)).mean())


def luma(image: NDArray[np.generic]) -> Floats:
    """(C, H, W) to (1, H, W) in 0..255: Y in 16..235 of colours, not rounded; a grey picture as it is."""
    pixels = _eight_bits(image)
    return pixels if len(pixels) == 1 else (np.tensordot(LUMA / 255, pixels[:3], 1) + 16)[None]


def blocking(image: Floats, block: int = 8) -> float:
    """Blocking effect factor of a picture (H, W) in 0..255; 0 where the blocks' borders are no steeper than the rest."""
    edges: list[float] = []
    inside: list[float] = []
    counts = [0, 0]
    for axis in (1, 0):
        steps = np.square(np.diff(image, axis=axis))
        at_border = np.arange(1, image.shape[axis]) % block == 0
        border, rest = np.compress(at_border, steps, axis), np.compress(~at_border, steps, axis)
        edges.append(float(border.sum()))
        inside.append(float(rest.sum()))
        counts = [counts[0] + border.size, counts[1] + rest.size]
    border_mean, inside_mean = sum(edges) / max(counts[0], 1), sum(inside) / max(counts[1], 1)
    if border_mean <= inside_mean:
        return 0.0
    return math.log2(block) / math.log2(min(image.shape)) * (border_mean - inside_mean)


# --- what they are made of --------------------------------------------------------------------------------------------


def _eight_bits(image: NDArray[np.generic]) -> Floats:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise InputError(f"shape {image.shape} is not a picture (1, 3 or 4 channels, height, width)")
    return image.astype(np.float64) if image.dtype == np.uint8 else np.rint(image.astype(np.float64).clip(0, 1) * 255)


def _rounded(image: Floats) -> Floats:
    return np.floor(image + 0.5)


def _cropped(image: Floats, crop: int, requirements: Requirements) -> Floats:
    border = (requirements.scale if requirements.scale > 1 else 0) if crop == SCALE else crop
    height, width = image.shape[-2:]
    if border < 0 or min(height, width) <= 2 * border:
        raise InputError(f"a border of {border} pixels cannot be left out of a picture of {width}x{height}")
    return image[:, border : height - border, border : width - border]


def _same_shape(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> None:
    if np.shape(prediction) != np.shape(target):
        raise InputError(f"the prediction is {np.shape(prediction)}, the truth {np.shape(target)}")


def _luma(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int, requirements: Requirements
) -> tuple[Floats, Floats]:
    _same_shape(prediction, target)
    return _cropped(luma(prediction), crop, requirements), _cropped(luma(target), crop, requirements)


def _colours(
    prediction: NDArray[np.generic], target: NDArray[np.generic], crop: int, requirements: Requirements
) -> tuple[Floats, Floats]:
    _same_shape(prediction, target)
    one, two = (_cropped(_eight_bits(image)[:3], crop, requirements) for image in (prediction, target))
    return one, two


def _errors(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    _same_shape(prediction, target)
    known = np.isfinite(prediction) & np.isfinite(target) & (np.asarray(target) != 0)
    if not known.any():
        raise InputError("there is no value that both the prediction and the truth have")
    difference: Floats = np.subtract(prediction[known], target[known], dtype=np.float64)
    return difference


def _decibels(error: float) -> float:
    return 10 * math.log10(255**2 / error) if error else math.inf


def _psnr(prediction: Floats, target: Floats) -> float:
    return _decibels(float(np.square(prediction - target).mean()))


@lru_cache
def _window() -> Floats:
    weights: Floats = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    return weights


def _windowed(image: Floats) -> Floats:
    """Gaussian mean of each whole 11x11 window of the last two axes."""
    for axis in (-2, -1):
        windows: Floats = np.lib.stride_tricks.sliding_window_view(image, 11, axis)
        image = windows @ _window()
    return image


def _ssim(prediction: Floats, target: Floats) -> float:
    if min(target.shape[-2:]) < 11:
        height, width = target.shape[-2:]
        raise InputError(f"a picture of {width}x{height} pixels is smaller than SSIM's window of 11x11")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_x, mean_y = _windowed(prediction), _windowed(target)
    var_x = _windowed(prediction**2) - mean_x**2
    var_y = _windowed(target**2) - mean_y**2
    covariance = _windowed(prediction * target) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(similarity.mean())
