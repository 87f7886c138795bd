"""LPIPS, the learned perceptual distance, with AlexNet's features and the linear layers of version 0.1.

Paper: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018
(arXiv:1801.03924). Network: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014
(arXiv:1404.5997). Tensors have the names of torchvision's and of the official code's (https://github.com/richzhang/
PerceptualSimilarity). Weights are not shipped: :mod:`stzoo.lpips_weights` makes them from two packages.
Importing this module without them raises DependencyMissing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from stzoo.errors import DependencyMissing, InputError
from stzoo.lpips_weights import REMEDY, weights_file

SMALLEST = 31
"""Pixels below which AlexNet's poolings leave nothing."""


class LPIPS(nn.Module):
    """Distance of pictures: two tensors (N,3,H,W) of [-1,1] to (N,), 0 for equal ones."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        self.lin = nn.ParameterList([torch.zeros(1, width, 1, 1) for width in (64, 192, 384, 256, 256)])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The weighted squared difference of unit feature vectors, mean over places, summed over layers."""
        x = (torch.cat((first, second)) - self.shift) / self.scale
        total, layer = x.new_zeros(len(first)), 0
        for module in self.features:
            x = module(x)
            if isinstance(module, nn.ReLU):
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
                one, other = unit.chunk(2)
                total = total + F.conv2d((one - other).square(), self.lin[layer]).mean((1, 2, 3))
                layer += 1
        return total


if not weights_file().is_file():
    raise DependencyMissing("its weights are not there", REMEDY)


@cache
def network() -> LPIPS:
    """The metric's network with the weights on this machine."""
    made = LPIPS().eval().requires_grad_(False)
    made.load_state_dict(load_file(weights_file()))
    return made


def lpips(prediction: NDArray[np.generic], target: NDArray[np.generic]) -> Any:
    """The distance of two pictures (C,H,W) of [0,1] or uint8, a float; or of each of two clips' frames (T,C,H,W), (T,).

    The prediction is clipped, and a grey frame is taken for three equal channels (as OpenSTL does).

    Raises:
        InputError: shapes differ, frames have neither one nor three channels, or are smaller than 31 pixels.
    """
    shape = target.shape
    if prediction.shape != shape or len(shape) < 3:
        raise InputError(f"prediction {prediction.shape} and target {shape} must have one shape (..., C, H, W)")
    if shape[-3] not in (1, 3) or min(shape[-2:]) < SMALLEST:
        size = f"{shape[-3]} channels and {shape[-2]}x{shape[-1]} pixels"
        raise InputError(f"frames have {size}, LPIPS needs 1 or 3 channels and {SMALLEST} pixels")
    pair = [_signed(item.reshape(-1, *shape[-3:])) for item in (prediction, target)]
    with torch.inference_mode():
        distances = network()(*pair).double().numpy()
    return distances if len(shape) > 3 else float(distances[0])


def _signed(frames: NDArray[np.generic]) -> Tensor:
    """Three channels of [-1,1]."""
    unit = torch.from_numpy(np.asarray(frames, np.float32)) / (255 if frames.dtype == np.uint8 else 1)
    return unit.clamp(0, 1).mul(2).sub(1).expand(-1, 3, -1, -1)
