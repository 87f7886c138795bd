"""How near a view is to the truth. Pictures (3, H, W) with values in [0, 1]; nothing is rounded or left out.

PSNR and SSIM are those of the papers on NeRF and 3D Gaussian splatting: over all pixels and colours of a view; a data set's number
is the mean over its views.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import DependencyMissing, InputError

WINDOW = 11
"""Side of the windows of SSIM, in pixels."""


def psnr(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of pictures (3, H, W) in [0, 1]; infinite where they are the same. Raises InputError."""
    _check(prediction, target)
    error = float(np.square(prediction.astype(np.float64) - target).mean())
    return -10 * math.log10(error) if error else math.inf


def ssim(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Structural similarity (Wang et al., IEEE TIP 13, 2004) of pictures (3, H, W) in [0, 1]: Gaussian windows of 11x11 pixels,
    sigma 1.5, the picture mirrored at its borders; mean over places and colours. Computed by torchmetrics, as in nerfstudio.

    Raises InputError, also for pictures smaller than a window, and DependencyMissing.
    """
    _check(prediction, target)
    if min(target.shape[-2:]) < WINDOW:
        raise InputError(f"SSIM of {_size(target)} pixels", f"Its windows have {WINDOW}x{WINDOW}: give larger views")
    try:
        import torch
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as problem:
        raise DependencyMissing("SSIM needs torchmetrics", "Run: pip install 'stzoo[train]'") from problem
    one, two = (torch.from_numpy(np.ascontiguousarray(item, np.float32))[None] for item in (prediction, target))
    return float(structural_similarity_index_measure(one, two, data_range=1.0, kernel_size=WINDOW, sigma=1.5))


def white(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline: a white picture, which is what most data sets have behind their objects."""
    return {"image": np.ones_like(truth["image"])}


def _check(prediction: NDArray[Any], target: NDArray[Any]) -> None:
    if prediction.shape != target.shape:
        raise InputError(
            f"the view has {_size(prediction)} pixels, its truth {_size(target)}",
            "The camera must have the picture's size; leave the option size out",
        )


def _size(picture: NDArray[Any]) -> str:
    return "x".join(map(str, picture.shape[:-3:-1]))
