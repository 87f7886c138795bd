"""What the recipes of super-resolution share: aligned random patches of both pictures, pixel losses, Adam, schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError
from stzoo.recipe import Kept, factor_of, lr_schedule
from stzoo_super_resolution.data import Pair
from stzoo_super_resolution.pipeline import colours_of, to_luma

HALVINGS = (0.5, 0.8, 0.9, 0.95)
"""Shares of the steps after which the schedule "step" halves the rate: SwinIR's 250, 400, 450 and 475 of 500 thousand."""


class PatchRecipe(Recipe):
    """Random patches, flipped and turned; L1, squared or Charbonnier loss; Adam or SGD.

    Args:
        lr: the highest learning rate.
        patch: height and width in pixels of the patches that the network is given.
        loss: "l1", "mse" or "charbonnier" (Lai et al., CVPR 2017: the root of the squared error plus 1e-6).
        optimizer: "adam" (betas 0.9 and 0.99, as SwinIR) or "sgd" (momentum 0.9, as SRCNN).
        schedule: "step" (halved after 50, 80, 90 and 95 % of the steps: SwinIR's), "cosine" (to nothing) or "constant".
        warmup: share of the steps in which the rate first rises linearly.
        margin: pixels of the patch at each border whose result the loss leaves out.
        noise: standard deviation of 255 of Gaussian noise that each patch gets anew.
        augment: mirror half of the patches, and turn half of them by 90 degrees.

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    layers: Mapping[str, float] = {}
    """Factors of the learning rate by name of the parameter, besides those that the run is given."""

    def __init__(
        self,
        lr: float = 2e-4,
        patch: int = 48,
        loss: str = "l1",
        optimizer: str = "adam",
        schedule: str = "step",
        warmup: float = 0.0,
        margin: int = 0,
        noise: float = 0.0,
        augment: bool = True,
    ) -> None:
        for name, value, known in (
            ("loss", loss, ("l1", "mse", "charbonnier")),
            ("optimizer", optimizer, ("adam", "sgd")),
            ("schedule", schedule, ("step", "cosine", "constant")),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, got {value!r}")
        if lr <= 0 or not 0 <= warmup < 1 or noise < 0:
            raise ConfigError(
                f"lr must be positive, warmup at least 0 and below 1, noise at least 0, got {lr}, {warmup} and {noise}"
            )
        if margin < 0 or patch <= 2 * margin:
            raise ConfigError(f"a margin of {margin} leaves nothing of a patch of {patch} pixels")
        self.lr, self.patch, self.loss, self.optimizer = lr, patch, loss, optimizer
        self.schedule, self.warmup, self.margin, self.noise, self.augment = schedule, warmup, margin, noise, augment

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The examples, each read once."""
        return Kept(examples)

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"low", "high"}``: (C,patch,patch) and (C,patch*scale,patch*scale) of the same place in the pair ``item["image"]``.

        C is the network's number of channels, or 3: grey pictures are repeated.

        Raises:
            DatasetError: the picture is smaller than the patch.
        """
        pair: Pair = item["image"]
        scale, side = requirements.scale, self.patch
        height, width = pair.low.shape[-2:]
        if min(height, width) < side:
            raise DatasetError(
                f"a picture of {width}x{height} pixels (made smaller {scale} times) is smaller than the patch of {side}",
                "Choose a smaller recipe.patch, or leave out small pictures",
            )
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
        patches = {
            name: picture[:, top * by : (top + side) * by, left * by : (left + side) * by]
            for name, picture, by in (("low", pair.low, 1), ("high", pair.high, scale))
        }
        if self.augment:
            axes = tuple(axis for axis in (1, 2) if rng.random() < 0.5)
            turn = rng.random() < 0.5
            patches = {name: np.flip(patch, axes) for name, patch in patches.items()}
            patches = {name: patch.swapaxes(1, 2) if turn else patch for name, patch in patches.items()}
        if requirements.channels != 1:
            patches = {name: np.broadcast_to(patch, (3, *patch.shape[1:])) for name, patch in patches.items()}
        if self.noise:
            patches["low"] = patches["low"] + rng.normal(0, self.noise / 255, patches["low"].shape).astype(np.float32)
        return {name: np.ascontiguousarray(patch) for name, patch in patches.items()}

    @staticmethod
    def predict(module: nn.Module, low: Tensor) -> Tensor:
        """The enlarged patches (B,C,h*scale,w*scale)."""
        return module(low)  # type: ignore[no-any-return]

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The loss, under its name, of ``batch["low"]`` (B,C,h,w) against ``batch["high"]`` (B,C,h*scale,w*scale).

        A network of one channel learns from the luma.
        """
        low, high = batch["low"], batch["high"]
        if colours_of(module, module.requirements) == 1:
            low, high = to_luma(low), to_luma(high)
        predicted = self.predict(module, low)
        border = self.margin * (high.shape[-1] // low.shape[-1])
        if border:
            predicted, high = (image[..., border:-border, border:-border] for image in (predicted, high))
        if self.loss == "mse":
            return {"mse": F.mse_loss(predicted, high)}
        if self.loss == "l1":
            return {"l1": F.l1_loss(predicted, high)}
        return {"charbonnier": torch.sqrt((predicted - high).square() + 1e-6).mean()}

    def lr_factor(self, name: str) -> float:
        """As :meth:`stzoo.Recipe.lr_factor`, times the factor of :attr:`layers`."""
        return super().lr_factor(name) * factor_of(name, self.layers)

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """The optimizer and its schedule, to be stepped once per optimizer step."""
        groups = self.groups(module, self.lr)
        chosen: torch.optim.Optimizer
        if self.optimizer == "sgd":
            chosen = torch.optim.SGD(groups, lr=self.lr, momentum=0.9)
        else:
            chosen = torch.optim.Adam(groups, lr=self.lr, betas=(0.9, 0.99), fused=True)
        rate = lr_schedule(self.schedule, total_steps, self.warmup)

        def halved(step: int) -> float:
            return rate(step) * 0.5 ** sum(step >= share * total_steps for share in HALVINGS)

        return [(chosen, LambdaLR(chosen, halved if self.schedule == "step" else rate))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two patterns with edges, and the same made smaller by averaging."""
        needs: Any = module.requirements
        scale, side = needs.scale, 8 + 2 * self.margin
        x = torch.linspace(0, 3, side * scale)
        waves = torch.sin(x[:, None] * torch.tensor([1.0, 2.0])[:, None, None] + x)
        high = (0.5 + 0.3 * waves.sign())[:, None].repeat(1, colours_of(module, needs), 1, 1)
        return {"low": F.avg_pool2d(high, scale), "high": high}
