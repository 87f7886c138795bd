"""What the recipes of video prediction share: how a clip becomes a training sample, the loss, optimizer and schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError


class VideoPredictionRecipe(Recipe):
    """Mean squared error, Adam, and the schedules of the official code (OpenSTL configurations).

    Args:
        lr: the highest learning rate.
        schedule: "onecycle" (torch's OneCycleLR: cosine up over the first 30 % of the steps, and down), "cosine"
            (down to 1e-6) or "constant".
        warmup: for "cosine", the share of the steps in which the rate first rises linearly from 1e-5; the cosine runs
            underneath from the first step on, as in timm. The official TaxiBJ setting, 5 of 50 epochs, is 0.1.
        crop: height and width of a random crop in pixels, a multiple of what the network asks for; 0: whole frames.
        flip: mirror half of the clips left to right, and half upside down.
        mae: weight of the mean absolute error beside the squared one. With both, the prediction is between the mean of
            what may come and its median: less blur where most pixels are 0, as in maps of rain.
        brightness: a clip's pixels, of [0,1], are multiplied by a factor between 1 - brightness and 1 + brightness and
            clipped to 1; 0: left as they are. In maps of rain it shows the network heavier and lighter showers.

    Raises:
        ConfigError: an unknown schedule, or a value out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        schedule: str = "onecycle",
        warmup: float = 0.0,
        crop: int = 0,
        flip: bool = False,
        mae: float = 0.0,
        brightness: float = 0.0,
    ) -> None:
        if schedule not in ("onecycle", "cosine", "constant"):
            raise ConfigError(f"schedule must be 'onecycle', 'cosine' or 'constant', got {schedule!r}")
        if lr <= 0 or not 0 <= warmup < 1:
            raise ConfigError(f"lr must be positive and warmup at least 0 and below 1, got {lr} and {warmup}")
        if crop < 0:
            raise ConfigError(f"crop must be 0 or more pixels, got {crop}")
        if mae < 0 or not 0 <= brightness <= 1:
            raise ConfigError(f"mae must be at least 0 and brightness 0 to 1, got {mae} and {brightness}")
        self.lr, self.schedule, self.warmup, self.mae = lr, schedule, warmup, mae
        self.crop, self.flip, self.brightness = crop, flip, brightness

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
        if self.brightness:
            clip = np.minimum(clip * np.float32(1 + self.brightness * rng.uniform(-1, 1)), 1)
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
        """``{"mse"}``, or ``{"mse", "mae"}``, of ``batch["frames"]`` (B,T,C,H,W) against ``batch["target"]`` (B,T_out,C,H,W)."""
        return self.errors(self.predict(module, batch), batch["target"])

    def errors(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Mean squared error and, if it has a weight, that times the mean absolute error."""
        found = {"mse": F.mse_loss(prediction, target)}
        return found | ({"mae": self.mae * F.l1_loss(prediction, target)} if self.mae else {})

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """Adam (fused: the same update in one pass) and its schedule, to be stepped once per optimizer step."""
        adam = torch.optim.Adam(self.groups(module, self.lr), lr=self.lr, fused=True)
        if self.schedule == "onecycle":
            highest = [group["lr"] for group in adam.param_groups]
            return [(adam, OneCycleLR(adam, highest, total_steps=total_steps, final_div_factor=1e4))]
        if self.schedule == "constant":
            return [(adam, LambdaLR(adam, lambda step: 1.0))]
        warm, first, last = round(self.warmup * total_steps), 1e-5, 1e-6

        def rate(step: int) -> float:
            if step < warm:
                return first + (self.lr - first) * step / warm
            if step >= total_steps:
                return last
            return last + (self.lr - last) * (1 + math.cos(math.pi * step / total_steps)) / 2

        return [(adam, LambdaLR(adam, lambda step: rate(step) / self.lr))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two clips of noise, 4 x 4 in the latent space, with as many frames to predict as are given."""
        frames, channels, _, _ = module.in_shape
        shape = (2, frames, channels, 4 * module.multiple, 4 * module.multiple)
        generator = torch.Generator().manual_seed(0)
        return {name: torch.rand(shape, generator=generator) for name in ("frames", "target")}
