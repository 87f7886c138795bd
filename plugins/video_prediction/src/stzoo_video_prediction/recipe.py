"""What the recipes of video prediction share: how a clip becomes a training sample, and its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError


class VideoPredictionRecipe(Recipe):
    """Clips to frames and targets.

    Args:
        crop: height and width of a random crop in pixels, a multiple of what the network asks for; 0: whole frames.
        flip: mirror half of the clips left to right, and half upside down.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(self, crop: int = 0, flip: bool = False) -> None:
        if crop < 0:
            raise ConfigError(f"crop must be 0 or more pixels, got {crop}")
        self.crop, self.flip = crop, flip

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"frames", "target"}`` (T,C,H,W): consecutive frames from a random place of ``item["video"]``.

        Raises:
            DatasetError: the clip is shorter or smaller than what the network and the crop need.
        """
        clip: np.ndarray = item["video"]
        given, wanted = requirements.frames_in or 1, requirements.frames_out or 1
        if len(clip) < given + wanted:
            raise DatasetError(
                f"a clip has {len(clip)} frames, {given} to see and {wanted} to predict are needed",
                "Leave out shorter clips",
            )
        if self.crop % requirements.multiple:
            raise DatasetError(f"crop={self.crop} is no multiple of {requirements.multiple}", "Choose one that is")
        height, width = clip.shape[-2:]
        side = (
            (self.crop, self.crop)
            if self.crop
            else (
                height - height % requirements.multiple,
                width - width % requirements.multiple,
            )
        )
        if min(height - side[0], width - side[1], *(length - 1 for length in side)) < 0:
            raise DatasetError(
                f"a clip of {width}x{height} pixels is smaller than the crop of {side[1]}x{side[0]}", "Crop less"
            )
        start, top, left = (
            int(rng.integers(spare + 1)) for spare in (len(clip) - given - wanted, height - side[0], width - side[1])
        )
        clip = clip[start : start + given + wanted, :, top : top + side[0], left : left + side[1]]
        if self.flip:
            axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
            clip = np.flip(clip, axes) if axes else clip
        clip = np.ascontiguousarray(clip)
        return {"frames": clip[:given], "target": clip[given:]}

    @staticmethod
    def predict(module: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """As many frames as the target has, rolled out if that is not what one pass gives."""
        frames, target = batch["frames"], batch["target"]
        if frames.shape[1] == target.shape[1]:
            return module(frames)  # type: ignore[no-any-return]
        return module.rollout(frames, target.shape[1])  # type: ignore[no-any-return, operator]

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"mse"}`` of ``batch["frames"]`` (B,T,C,H,W) against ``batch["target"]`` (B,T_out,C,H,W)."""
        return {"mse": F.mse_loss(self.predict(module, batch), batch["target"])}
