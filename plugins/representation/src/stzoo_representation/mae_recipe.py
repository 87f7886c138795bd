"""How a masked autoencoder learns: random crops, most of their patches left out, AdamW, a cosine.

He et al. train 800 or 1600 epochs of ImageNet in steps of 4096 pictures; only the numbers of steps differ here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo.recipe import Kept
from stzoo_representation.mae import colour_constants

RATIOS = (3 / 4, 4 / 3)
"""Widths of a crop as multiples of its height."""


class MAERecipe(Recipe):
    """The published recipe.

    Args:
        lr: the highest learning rate for 256 pictures a step; it is multiplied by the pictures of a step over 256.
        mask_ratio: share of the patches that are left out.
        scale: the least part of a picture's area that a crop has.
        warmup: share of the steps in which the rate first rises linearly; then it falls to nothing, half a cosine.
        weight_decay: of matrices; biases and norms have none.
        flip: mirror half of the crops.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        lr: float = 1.5e-4,
        mask_ratio: float = 0.75,
        scale: float = 0.2,
        warmup: float = 0.05,
        weight_decay: float = 0.05,
        flip: bool = True,
    ) -> None:
        if lr <= 0 or weight_decay < 0 or not 0 <= warmup < 1:
            raise ConfigError(
                f"lr must be positive, weight_decay at least 0, warmup at least 0 and below 1, got {lr}, {weight_decay}, {warmup}"
            )
        if not 0 < mask_ratio < 1 or not 0 < scale <= 1:
            raise ConfigError(
                f"mask_ratio must be between 0 and 1, scale above 0 and up to 1, got {mask_ratio}, {scale}"
            )
        self.lr, self.mask_ratio, self.scale = lr, mask_ratio, scale
        self.warmup, self.weight_decay, self.flip = warmup, weight_decay, flip

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The examples; what fits into memory is read once."""
        return Kept(examples)

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"image", "noise"}``: a crop (C, H, W) at the network's size, normalised, and noise (L,) that masks it."""
        picture: np.ndarray = item["image"]
        side = (requirements.native_size or (224,))[-1]
        top, left, height, width = crop(picture.shape[-2:], self.scale, rng)
        cut = torch.from_numpy(np.ascontiguousarray(picture[:, top : top + height, left : left + width]))[None]
        image = F.interpolate(cut, (side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)[0]
        if self.flip and rng.random() < 0.5:
            image = image.flip(-1)
        mean, std = (np.array(item, np.float32)[:, None, None] for item in colour_constants(len(image)))
        count = (side // requirements.multiple) ** 2
        return {"image": (image.numpy() - mean) / std, "noise": rng.random(count, dtype=np.float32)}

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"reconstruction"}``: the squared error of the patches left out, normalised if the network draws those."""
        return {"reconstruction": module(batch["image"], self.mask_ratio, batch["noise"])[0]}

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """AdamW (betas 0.9 and 0.95)."""
        groups = []
        for group in self.groups(module, self.lr * self.samples_per_step / 256):
            for decay, dims in ((self.weight_decay, (2, 9)), (0.0, (0, 1))):
                parameters = [item for item in group["params"] if dims[0] <= item.ndim <= dims[1]]
                groups += [{**group, "params": parameters, "weight_decay": decay}] if parameters else []
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
        rise = max(1, round(self.warmup * total_steps))

        def rate(step: int) -> float:
            if step < rise and self.warmup:
                return (step + 1) / rise
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - rise) / max(1, total_steps - rise))))

        return [(optimizer, LambdaLR(optimizer, rate))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two pictures of noise."""
        network: Any = module
        side = network.requirements.native_size[0]
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(2, network.requirements.channels, side, side, generator=generator)
        return {"image": image, "noise": torch.rand(2, (side // network.patch_size) ** 2, generator=generator)}


def crop(size: tuple[int, ...], scale: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part of a picture: ``scale`` of its area or more, of about a square's shape.

    After ten that do not fit, the largest one in the middle (as torchvision's RandomResizedCrop).
    """
    height, width = size[-2:]
    for _ in range(10):
        area = height * width * rng.uniform(scale, 1)
        ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    wide = min(width, max(1, round(height * RATIOS[1])))
    high = min(height, max(1, round(width / RATIOS[0])))
    return (height - high) // 2, (width - wide) // 2, high, wide
