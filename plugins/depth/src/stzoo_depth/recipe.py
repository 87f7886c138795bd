"""How Eigen's network learns: the scale-invariant loss over valid pixels, coarse then fine, and augmentations that keep depth true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo.recipe import Stage, factor_of, lr_schedule
from stzoo_depth.pipeline import check_pair, frame_of, resized

if TYPE_CHECKING:
    from torch.optim import Optimizer

FINE = ("conv_s2_*",)
"""The fine network's parameters."""
PUBLISHED_LR = {"full*": 100.0, "conv_s2_2.*": 10.0}
"""Factors of the learning rate, 0.001, of the paper: 0.1 for the full layers, 0.01 for the second fine layer."""
PUBLISHED_DECAY = {"imnet_*": 5e-4, "*": 1e-4}
"""Weight decay of the release."""


def scale_invariant_loss(
    predicted: Tensor, true: Tensor, valid: Tensor, lam: float = 0.5, weighting: str = "image"
) -> Tensor:
    """Eigen 2014, equation 4: the mean of d^2 less ``lam`` times the squared mean of d, d = predicted - true, where valid.

    Args:
        predicted, true: logarithms of depth (B, ...), in any common unit.
        valid: which of them count; the others may be anything, NaN too.
        lam: 0: squared error; 1: scale-invariant; the paper's is 0.5.
        weighting: "image": the mean over images that have valid pixels, as the paper has it; "pixels": the release's, in
            which an image weighs as the square of its number n of valid pixels: the sum of n * sum d^2 - lam * (sum d)^2
            over images, divided by the sum of n^2.

    Returns:
        A scalar; 0 where nothing is valid.

    Raises:
        ConfigError: the weighting is neither.
    """
    apart = torch.where(valid, predicted - true, 0).flatten(1)
    count = valid.flatten(1).sum(1).to(apart.dtype)
    squares, total = apart.square().sum(1), apart.sum(1)
    if weighting == "image":
        n = count.clamp(min=1)
        return (squares / n - lam * (total / n).square()).sum() / (count > 0).sum().clamp(min=1)
    if weighting == "pixels":
        return (count * squares - lam * total.square()).sum() / count.square().sum().clamp(min=1)
    raise ConfigError(f"weighting must be 'image' or 'pixels', got {weighting!r}")


class EigenRecipe(Recipe):
    """The coarse network first, then the fine one on top of it, frozen. ImageNet initialisation is left out.

    A picture is resized to the network's frame, enlarged by ``scale`` (its depth is divided by that: what is enlarged
    twice is half as far away), turned, moved, mirrored, and its colours are multiplied. What comes from outside of the
    picture is not valid; nor are pixels whose depth is not known.

    Args:
        lr: the learning rate of layers whose factor is 1.
        layers: "published": the paper's factors, 100 for full layers and 10 for the second fine layer; "equal": none.
        optimizer: "sgd" (momentum 0.9 and the release's weight decay, as published) or "adam".
        schedule: "constant" (as published) or "cosine" (to nothing, in each stage).
        lam, weighting: of :func:`scale_invariant_loss`. It counts in the network's unit of logarithms.
        scale: the largest enlargement; KITTI: 1.2.
        rotation: the largest angle in degrees; KITTI: 0.
        colour: red, green and blue are multiplied by numbers in [1 - colour, 1 + colour].
        flip: whether half of the pictures are mirrored.
        extremes: whether the smallest and the largest depth of a picture count; NYU's were filled in by its sensor, so that
            its authors leave them out.

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    stages = (Stage("coarse", 4 / 7), Stage("fine", 3 / 7))

    def __init__(
        self,
        lr: float = 1e-3,
        layers: str = "published",
        optimizer: str = "sgd",
        schedule: str = "constant",
        lam: float = 0.5,
        weighting: str = "image",
        scale: float = 1.5,
        rotation: float = 5.0,
        colour: float = 0.2,
        flip: bool = True,
        extremes: bool = True,
    ) -> None:
        for name, value, known in (
            ("layers", layers, ("published", "equal")),
            ("optimizer", optimizer, ("sgd", "adam")),
            ("schedule", schedule, ("constant", "cosine")),
            ("weighting", weighting, ("image", "pixels")),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be {known[0]!r} or {known[1]!r}, got {value!r}")
        if lr <= 0 or not 0 <= lam <= 1 or not 1 <= scale <= 4 or not 0 <= rotation <= 45 or not 0 <= colour < 1:
            raise ConfigError(
                "lr must be positive, lam from 0 to 1, scale from 1 to 4, rotation from 0 to 45 and colour at least 0 and below 1, "
                f"got {lr:g}, {lam:g}, {scale:g}, {rotation:g} and {colour:g}"
            )
        self.lr, self.layers, self.optimizer, self.schedule = lr, layers, optimizer, schedule
        self.lam, self.weighting = lam, weighting
        self.scale, self.rotation, self.colour, self.flip, self.extremes = scale, rotation, colour, flip, extremes

    # --- what to learn from -------------------------------------------------------------------------------------------

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"image": RGB (3,H,W), "depth": (H,W) in metres, NaN where it is not known}`` of the network's frame.

        Raises InputError if the picture and its depth are not of one size, or if no depth is known.
        """
        picture, depth = item["image"], item["depth"]
        check_pair(picture, depth)
        if not self.extremes:
            depth = np.where((depth == np.nanmin(depth)) | (depth == np.nanmax(depth)), np.float32(np.nan), depth)
        frame = frame_of(requirements, depth.shape)
        image = resized(torch.from_numpy(np.ascontiguousarray(picture))[None], frame)
        scale = float(rng.uniform(1, self.scale))
        angle = math.radians(float(rng.uniform(-1, 1)) * self.rotation)
        shift = rng.uniform(-1, 1, 2) * (1 - 1 / scale)
        mirror = -1.0 if self.flip and rng.random() < 0.5 else 1.0
        colours = rng.uniform(1 - self.colour, 1 + self.colour, 3).astype(np.float32)
        grid = torch.from_numpy(warp(frame, scale, angle, shift, mirror))[None]
        image = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)[0]
        moved = F.grid_sample(_with_known(depth), grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]
        found = torch.where(moved[1] > 0.5, moved[0] / scale, torch.nan)
        return {"image": image.numpy() * colours[:, None, None], "depth": found.numpy()}

    # --- how to learn -------------------------------------------------------------------------------------------------

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The loss of the stage's network; without a stage, of both. The input is cut out of the frame at a random place."""
        network: Any = module
        height, width = network.size
        top, left = (
            int(torch.randint(outer - inner + 1, ())) if network.training else (outer - inner) // 2
            for outer, inner in zip(network.frame, network.size, strict=True)
        )
        x = 255 * batch["image"][..., top : top + height, left : left + width]
        true = network.targets(batch["depth"][..., top : top + height, left : left + width])
        valid = torch.isfinite(true) & (true > 0)
        logarithms = torch.where(valid, true, 1).log() / network.log_std
        losses = {}
        if self.stage == "fine":
            with torch.no_grad():
                coarse = _without_dropout(network, x)
        else:
            coarse = network.coarse(x)
            losses["coarse"] = self._loss(coarse, logarithms, valid)
        if self.stage != "coarse":
            losses["fine"] = self._loss(network.refined(x, coarse.detach()), logarithms, valid)
        return losses

    def _loss(self, found: Tensor, true: Tensor, valid: Tensor) -> Tensor:
        return scale_invariant_loss(found[:, 0].float(), true, valid, self.lam, self.weighting)

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """One optimizer for the parameters of the stage, with a group for each learning rate and weight decay."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        published = self.layers == "published"
        for name, parameter in module.named_parameters():
            fine = any(fnmatchcase(name, pattern) for pattern in FINE)
            if not parameter.requires_grad or (self.stage == "coarse" and fine) or (self.stage == "fine" and not fine):
                continue
            rate = self.lr * self.lr_factor(name) * (factor_of(name, PUBLISHED_LR) if published else 1.0)
            decay = factor_of(name, PUBLISHED_DECAY, 0.0) if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
        if not groups:
            raise ConfigError(f"every parameter of the stage {self.stage!r} is frozen", "Freeze fewer of them")
        parts = [
            {"params": parameters, "lr": rate, "weight_decay": decay if self.optimizer == "sgd" else 0.0}
            for (rate, decay), parameters in groups.items()
        ]
        chosen: Optimizer
        if self.optimizer == "sgd":
            chosen = torch.optim.SGD(parts, lr=self.lr, momentum=0.9)
        else:
            chosen = torch.optim.Adam(parts, lr=self.lr, fused=True)

        return [(chosen, LambdaLR(chosen, lr_schedule(self.schedule, total_steps)))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two floors with a bright ball before them, of which a strip is not known."""
        network: Any = module
        height, width = network.frame
        y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
        maps = []
        for across in (0.3, 0.7):
            ball = (x - across).square() + (y - 0.5).square() < 0.04
            maps.append(torch.where(ball, 2.0, 6 - 3 * y))
        depth = torch.stack(maps)
        image = (2 / depth)[:, None].expand(-1, 3, -1, -1).contiguous().clamp(max=1)
        depth[:, :, : width // 8] = torch.nan
        return {"image": image, "depth": depth}


def warp(frame: tuple[int, int], scale: float, angle: float, shift: np.ndarray, mirror: float) -> np.ndarray:
    """Where each pixel of a frame (H,W) that is enlarged, turned, moved and mirrored comes from: (H,W,2), x and y in [-1, 1].

    ``angle`` in radians, anticlockwise; ``shift`` (x, y) in halves of the frame, of the picture before it is enlarged.
    """
    height, width = frame
    y, x = np.meshgrid(
        (np.arange(height, dtype=np.float32) + 0.5) - height / 2,
        (np.arange(width, dtype=np.float32) + 0.5) - width / 2,
        indexing="ij",
    )
    x = x * mirror
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    from_x, from_y = cos * x - sin * y, sin * x + cos * y
    grid = np.stack((from_x * 2 / width + shift[0], from_y * 2 / height + shift[1]), -1)
    return grid.astype(np.float32)


def _with_known(depth: np.ndarray) -> Tensor:
    """A map (H,W) as (1,2,H,W): depth with 0 for what is not known, and 1 where it is."""
    known = np.isfinite(depth)
    return torch.from_numpy(np.stack((np.where(known, depth, 0), known)).astype(np.float32))[None]


def _without_dropout(network: Any, x: Tensor) -> Tensor:
    training = network.training
    network.training = False
    try:
        coarse: Tensor = network.coarse(x)
    finally:
        network.training = training
    return coarse
