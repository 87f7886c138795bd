"""The video prediction metrics in the definition of OpenSTL (`openstl/core/metrics.py`), which most papers report.

The definition is peculiar: errors are summed over a frame's pixels and averaged over frames; SSIM takes the data
range for 2 although pixels are in [0,1]; errors use the prediction as it is, SSIM, PSNR and SNR clip it to [0,1].

Every function takes `prediction` and `target` (...,C,H,W), floats of [0,1] or uint8, and returns a float, or, if its name
ends in `_frames`, that of each frame (N,). All raise InputError if the shapes differ, or frames are smaller than 7x7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import InputError

Floats = NDArray[np.float64]
WINDOW = 7
DATA_RANGE = 2.0


def mse(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Squared error, summed over a frame's channels and pixels, mean over frames (OpenSTL definition)."""
    return float(mse_frames(prediction, target).mean())


def mae(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Absolute error, summed over a frame's channels and pixels, mean over frames (OpenSTL definition)."""
    return float(mae_frames(prediction, target).mean())


def rmse(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Square root of `mse` (OpenSTL definition)."""
    return math.sqrt(mse(prediction, target))


def ssim(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Structural similarity, 7x7 uniform window, data range 2, mean over channels and frames (OpenSTL definition)."""
    return float(ssim_frames(prediction, target).mean())


def psnr(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio per frame in dB, mean over frames; inf if a frame is exact (OpenSTL definition)."""
    return float(psnr_frames(prediction, target).mean())


def snr(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Signal-to-noise ratio per frame in dB, mean over frames; inf if a frame is exact (OpenSTL definition)."""
    return float(snr_frames(prediction, target).mean())


def mse_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    """`mse` of each frame."""
    prediction, target = as_frames(prediction, target)
    frames: Floats = np.square(prediction - target).sum((1, 2, 3))
    return frames


def mae_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    """`mae` of each frame."""
    prediction, target = as_frames(prediction, target)
    frames: Floats = np.abs(prediction - target).sum((1, 2, 3))
    return frames


def ssim_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    """`ssim` of each frame, as skimage's `structural_similarity(..., data_range=2)` with its default window."""
    x, y = as_frames(prediction, target)
    x = x.clip(0, 1)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    # Sample covariance: skimage's default, use_sample_covariance=True.
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x = unbiased * (_window_mean(x * x) - mean_x**2)
    var_y = unbiased * (_window_mean(y * y) - mean_y**2)
    cov = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    frames: Floats = similarity.mean((1, 2, 3))
    return frames


def psnr_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    """`psnr` of each frame."""
    x, y = as_frames(prediction, target)
    with np.errstate(divide="ignore"):
        frames: Floats = -10 * np.log10(np.square(x.clip(0, 1) - y).mean((1, 2, 3)))
    return frames


def snr_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Floats:
    """`snr` of each frame."""
    x, y = as_frames(prediction, target)
    with np.errstate(divide="ignore"):
        frames: Floats = 10 * np.log10(np.square(y).mean((1, 2, 3)) / np.square(x.clip(0, 1) - y).mean((1, 2, 3)))
    return frames


def root_of_mean(values: Sequence[Floats]) -> float:
    """`rmse` of all frames, given `mse_frames` of each clip."""
    return math.sqrt(np.concatenate([np.atleast_1d(item) for item in values]).mean())


# ------------------------------------------------------------------ per pixel (OpenSTL's spatial_norm, for weather)


def mse_pixel_frames(
    prediction: NDArray[np.generic], target: NDArray[np.generic], std: str = "1", groups: int = 1
) -> Floats:
    """Squared error of each frame, mean over channels and pixels, (N,); options as for `squares_pixel_frames`."""
    means: Floats = squares_pixel_frames(prediction, target, std, groups).mean(1)
    return means


def mae_pixel_frames(prediction: NDArray[np.generic], target: NDArray[np.generic], std: str = "1") -> Floats:
    """Absolute error of each frame, mean over channels and pixels, (N,); `std` as for `squares_pixel_frames`."""
    means: Floats = np.abs(_in_units(prediction, target, std)).mean((1, 2, 3))
    return means


def squares_pixel_frames(
    prediction: NDArray[np.generic], target: NDArray[np.generic], std: str = "1", groups: int = 1
) -> Floats:
    """Squared error of each frame and variable, mean over its channels and pixels: (N,groups).

    Args:
        std: what errors are multiplied with, to have them in physical units: the standard deviation that the data was
            divided by, or several with commas between, one for each channel.
        groups: how many variables the channels are, of equally many levels each (12 channels of "mv" are 4).

    Raises:
        InputError: the channels are not as many as these options say.
    """
    error = _in_units(prediction, target, std)
    if groups < 1 or error.shape[1] % groups:
        raise InputError(f"{error.shape[1]} channels are not {groups} groups of equal size")
    squares: Floats = np.square(error).reshape(len(error), groups, -1).mean(2)
    return squares


def mean_of_roots(values: Sequence[Floats]) -> float:
    """RMSE of each variable over all frames, and the mean of these, given `squares_pixel_frames` of each clip."""
    return float(np.sqrt(np.concatenate([np.atleast_2d(item) for item in values]).mean(0)).mean())


def _in_units(prediction: NDArray[np.generic], target: NDArray[np.generic], std: str) -> Floats:
    """The error (N,C,H,W), each channel multiplied with its factor."""
    prediction, target = as_frames(prediction, target)
    try:
        factors = np.array([float(part) for part in std.split(",")])
    except ValueError:
        raise InputError(f"std={std!r} is no list of numbers", "Write std=21.2 or std=5.5,4.7") from None
    if len(factors) not in (1, target.shape[1]):
        raise InputError(f"std has {len(factors)} numbers, the frames {target.shape[1]} channels")
    scaled: Floats = (prediction - target) * factors[:, None, None]
    return scaled


# ------------------------------------------------------------------ shared


def as_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Both as float64 (N,C,H,W) of [0,1]."""
    if prediction.shape != target.shape or target.ndim < 3:
        raise InputError(f"prediction {prediction.shape} and target {target.shape} must have one shape (..., C, H, W)")
    if min(target.shape[-2:]) < WINDOW:
        raise InputError(
            f"frames of {target.shape[-2]}x{target.shape[-1]} are smaller than SSIM's window, {WINDOW}x{WINDOW}"
        )

    def convert(x: NDArray[np.generic]) -> Floats:
        unit = 255 if x.dtype == np.uint8 else 1
        return x.reshape(-1, *x.shape[-3:]).astype(np.float64) / unit

    return convert(prediction), convert(target)


def _window_mean(x: Floats) -> Floats:
    """Mean over every whole 7x7 window of the last two axes."""
    return window_sum(x, WINDOW) / WINDOW**2


def window_sum(x: Floats, window: int) -> Floats:
    """Sum over every whole window of the last two axes, from running sums."""
    for axis in (-2, -1):
        x = np.moveaxis(x, axis, -1).cumsum(-1)
        x[..., window:] = x[..., window:] - x[..., :-window]
        x = np.moveaxis(x[..., window - 1 :], -1, axis)
    return x
