"""SSIM and PSNR in the definition of torchmetrics, which papers outside of OpenSTL's benchmark mostly report.

Unlike OpenSTL's (`metrics.py`) both take the data range for 1 and the prediction as it is, unclipped. Importing this
module imports torchmetrics; without it, it raises DependencyMissing.

Every function takes `prediction` and `target` (...,C,H,W), floats of [0,1] or uint8, and returns a float, `ssim_frames`
that of each frame.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stzoo.errors import DependencyMissing
from stzoo_video_prediction.metrics import as_frames

try:
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
except ImportError:
    raise DependencyMissing("it needs the package torchmetrics", "Run: pip install torchmetrics") from None


def ssim(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Structural similarity, 11x11 Gaussian window (sigma 1.5), data range 1, mean over frames.

    Windows at the borders see the picture mirrored (torchmetrics 1.9).
    """
    return float(ssim_frames(prediction, target).mean())


def ssim_frames(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> NDArray[np.float32]:
    """`ssim` of each frame, (N,)."""
    frames = structural_similarity_index_measure(*_tensors(prediction, target), reduction="none", data_range=1.0)
    assert isinstance(frames, torch.Tensor)  # with other options it is a tuple
    values: NDArray[np.float32] = frames.reshape(-1).numpy()
    return values


def psnr(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio in dB of the clip as a whole, data range 1; inf if it is exact."""
    x, y = _tensors(prediction, target)
    return float(peak_signal_noise_ratio(x, y, data_range=1.0))


def _tensors(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as (N,C,H,W) of [0,1]; in float32 SSIM takes a twentieth of the time and differs by 1e-7."""
    x, y = as_frames(prediction, target)
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()
