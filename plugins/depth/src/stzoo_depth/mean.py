"""The mean of the depth maps it learnt from, whatever the picture shows: what a network has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo_depth.pipeline import check_pair, places


class MeanDepth(nn.Module):
    """A map that is kept. Untrained, it is 1 metre everywhere.

    Args:
        frame: its height and width.

    Raises:
        ConfigError: the frame is empty.
    """

    mean: Tensor

    def __init__(self, frame: tuple[int, int] = (120, 160)) -> None:
        super().__init__()
        if min(frame) < 1:
            raise ConfigError(f"frame must be at least 1x1, got {frame}")
        self.frame = (frame[0], frame[1])
        self.register_buffer("mean", torch.ones(1, 1, *self.frame))

    @property
    def requirements(self) -> Requirements:
        """Any picture will do."""
        return Requirements(channels=3, native_size=self.frame)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B,3,H,W) to the map (B,1,h,w) in metres, again and again."""
        return self.mean.expand(len(x), -1, -1, -1)


class MeanDepthRecipe(Recipe):
    """The mean in metres of each pixel's known depths; of pixels that no map knows, the mean of all others."""

    closed_form = True

    def fit(self, module: nn.Module, samples: Sequence[Mapping[str, Any]]) -> Mapping[str, float]:
        """Take the mean of ``sample["depth"]``, (H,W) each; returns how many there were, and their mean depth."""
        network: Any = module
        height, width = network.frame
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for sample in samples:
            check_pair(sample["image"], sample["depth"])
            depth = _nearest(sample["depth"], network.frame)
            known = np.isfinite(depth)
            total[known] += depth[known]
            count += known
        mean = np.divide(total, count, out=np.full_like(total, total.sum() / count.sum()), where=count > 0)
        network.mean.copy_(torch.from_numpy(mean).float()[None, None])
        return {"maps": len(samples), "mean_depth": float(mean.mean())}

    def sample_batch(self, module: nn.Module) -> list[dict[str, np.ndarray]]:
        """Two slanted floors, of which a corner is not known."""
        network: Any = module
        maps = [np.linspace(near, 4, network.frame[0] * network.frame[1]).reshape(network.frame) for near in (1.0, 2.0)]
        for depth in maps:
            depth[:2, :2] = np.nan
        return [{"image": np.zeros((3, *depth.shape), np.float32), "depth": depth} for depth in maps]


def _nearest(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        np.ceil(places(length, other).numpy() - 0.5).astype(int).clip(0, other - 1)
        for length, other in zip(size, depth.shape, strict=True)
    )
    found: np.ndarray = depth[rows[:, None], columns]
    return found
