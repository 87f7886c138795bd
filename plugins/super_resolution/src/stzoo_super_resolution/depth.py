"""Deep depth super-resolution (Song, Dai and Qin, ACCV 2016, arXiv 1607.01977): a chain of networks, then an energy.

Each network of the chain is an SRCNN that doubles the resolution and learns against the true map of its own size. What the
chain gives is the data term of an energy whose other terms are local: neighbours that look alike in a picture of the scene
are alike in depth, and depth has few edges (:mod:`stzoo_super_resolution.depth_energy`).

No code was published. The structure is the paper's; what the text leaves open is said where it is decided.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from stzoo import Pipeline, Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError, InputError
from stzoo.recipe import Stage
from stzoo_super_resolution.depth_data import Map, filled, reduced
from stzoo_super_resolution.resize import imresize

if TYPE_CHECKING:
    from torch.optim import Optimizer

LEVELS = 255.0
"""The energy sees depth in as many levels as a picture has: that is the unit its weights are meant for."""
LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue of a guide's brightness (ITU-R BT.601)."""


# --- network ----------------------------------------------------------------------------------------------------------


class Unit(nn.Module):
    """SRCNN 9-1-5 on a map that was enlarged twice by bicubic interpolation."""

    def __init__(self, wide: int, narrow: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(1, wide, 9)
        self.conv2 = nn.Conv2d(wide, narrow, 1)
        self.conv3 = nn.Conv2d(narrow, 1, 5)
        nn.init.normal_(self.conv3.weight, std=1e-3)  # as SRCNN; a residual unit starts from the interpolation
        assert self.conv3.bias is not None
        nn.init.zeros_(self.conv3.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, 1, 2H, 2W)."""
        x = imresize(x, 2)
        y = F.relu(self.conv1(F.pad(x, (4, 4, 4, 4), mode="replicate")))
        y = F.relu(self.conv2(y))
        y = self.conv3(F.pad(y, (2, 2, 2, 2), mode="replicate"))
        result: Tensor = x + y if self.residual else y
        return result


class DeepDepthSR(nn.Module):
    """Units in a chain, each twice the resolution of the one before.

    Args:
        scale: 2, 4, 8 or 16: one unit for each doubling.
        wide, narrow: channels of a unit's first and second convolution; 64 and 32 in the paper.
        residual: let a unit add to the bicubic interpolation instead of replacing it. Not in the paper: units then start
            from the interpolation and learn in minutes what else takes days.

    Raises:
        ConfigError: the scale is another one.
    """

    def __init__(self, scale: int = 4, wide: int = 64, narrow: int = 32, residual: bool = False) -> None:
        super().__init__()
        if scale not in (2, 4, 8, 16):
            raise ConfigError(f"scale must be 2, 4, 8 or 16, got {scale}")
        self.scale = scale
        self.units = nn.ModuleList(Unit(wide, narrow, residual) for _ in range(scale.bit_length() - 1))

    @property
    def requirements(self) -> Requirements:
        """What it makes of a map's size."""
        return Requirements(scale=self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W), a map stretched to [0, 1], to (B, 1, scale*H, scale*W), not clipped."""
        for unit in self.units:
            x = unit(x)
        return x


# --- predicting -------------------------------------------------------------------------------------------------------


class DepthSuperResolution(Pipeline):
    """A low-resolution map, and a picture as large as the result if there is one, to a high-resolution map.

    A network gets a map stretched to [0, 1] whose holes are filled; they are cut out again unless ``holes="fill"``. An
    architecture may refine :meth:`refine`.
    """

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The truth is ``row["depth"]``, cut to a multiple of the scale; the input is that, reduced; the guide is cut alike."""
        truth, guide, scale = row["depth"], row.get("guide"), self.requirements.scale
        height, width = (side - side % scale for side in truth.shape)
        if not min(height, width):
            raise InputError(f"depth: {truth.shape[1]}x{truth.shape[0]} pixels cannot be reduced {scale} times")
        if guide is not None and guide.shape[-2:] != truth.shape:
            raise InputError(_sizes(guide, truth.shape), "Pictures and depth maps of a data set must be of one size")
        inputs = {"depth": reduced(truth[:height, :width], scale)}
        if np.isnan(inputs["depth"]).all():
            raise InputError(f"depth: too little is known to reduce it {scale} times")
        if guide is not None:
            inputs["guide"] = guide[..., :height, :width]
        return inputs, {"depth": truth[:height, :width]}

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """``depth`` (1, H, W) in [0, 1], ``known`` (1, H, W) 0 or 1, and of a guide its brightness (1, scale*H, scale*W).

        Raises InputError if the guide is not of the result's size.
        """
        depth, guide = values["depth"], values.get("guide")
        low, span = _stretch(depth)
        ready = {"depth": ((filled(depth) - low) / span)[None], "known": np.isfinite(depth)[None].astype(np.float32)}
        if guide is not None:
            wanted = tuple(self.requirements.scale * side for side in depth.shape)
            if guide.shape[-2:] != wanted:
                raise InputError(
                    f"{_sizes(guide, wanted)} ({self.requirements.scale} times that of the depth map)",
                    "Resize the picture to that, if it shows the same view",
                )
            ready["guide"] = _brightness(guide)[None]
        return ready

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The network, then :meth:`refine`; NaN in holes that are to be kept."""
        depth = module(batch["depth"])[:, 0]
        depth = depth if depth.dtype == torch.float64 else depth.float()
        scale = self.requirements.scale
        known = batch["known"][:, 0].to(depth).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        guide = batch["guide"][:, 0].to(depth) if "guide" in batch else None
        depth = self.refine(depth, guide, known, options)
        return {"depth": depth if options["holes"] == "fill" else depth.masked_fill(known == 0, torch.nan)}

    def refine(self, depth: Tensor, guide: Tensor | None, known: Tensor, options: Mapping[str, Any]) -> Tensor:
        """What becomes of the network's maps (B, H, W); ``guide`` in [0, 1] and ``known`` (0 or 1) are of the same shape."""
        return depth

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        """Back to metres; nothing is nearer than half of the nearest, or further than twice the furthest, given depth."""
        low, span = _stretch(values["depth"])
        return {"depth": np.clip(outputs["depth"] * span + low, low / 2, 2 * np.nanmax(values["depth"]))}


class EnergySuperResolution(DepthSuperResolution):
    """The energy after the network, with the weights in the options; to it, what was filled in counts little.

    It is minimised in float32 (float64 where the network runs in that), map by map.
    """

    def refine(self, depth: Tensor, guide: Tensor | None, known: Tensor, options: Mapping[str, Any]) -> Tensor:
        from stzoo_super_resolution.depth_energy import refined

        settings = {name: options[name] for name in ("modulation", "variation", "iterations")}
        guides = itertools.repeat(None) if guide is None else guide
        maps = zip(depth, guides, known, strict=False)
        return torch.stack([refined(one * LEVELS, picture, sure, **settings) / LEVELS for one, picture, sure in maps])


def _stretch(depth: Map) -> tuple[np.float32, np.float32]:
    """Smallest known depth, and how far the largest is from it (1 if they are the same)."""
    low, high = np.nanmin(depth), np.nanmax(depth)
    return low, (high - low) or np.float32(1)


def _brightness(guide: np.ndarray) -> np.ndarray:
    """A picture (C, H, W) of one to four channels, or of any other number, as (H, W); alpha is left aside."""
    colours = guide[: 3 if len(guide) in (3, 4) else 1 if len(guide) == 2 else None]
    if len(colours) == 3:
        return np.tensordot(np.asarray(LUMA, guide.dtype), colours, 1)
    mean: np.ndarray = colours.mean(0, dtype=guide.dtype)
    return mean


def _sizes(guide: np.ndarray, wanted: tuple[int, ...]) -> str:
    height, width = guide.shape[-2:]
    return f"guide: {width}x{height} pixels, it must be {wanted[1]}x{wanted[0]}"


# --- learning ---------------------------------------------------------------------------------------------------------


class DeepDepthRecipe(Recipe):
    """First every unit by itself, then the whole chain; in both, each against the true map of its own size.

    Mean squared error of what is known; the last convolution of a unit learns ten times slower (as SRCNN). Adam with a
    one-cycle schedule takes the place of the paper's plain descent.

    Args:
        lr: the highest learning rate.
        crop: side of the high-resolution patches in pixels.
        sure: share of a patch's pixels that must be known; patches that are not are drawn again.

    Raises:
        ConfigError: a value is out of range.
    """

    stages = (Stage("units", 0.5), Stage("chain", 0.5))

    def __init__(self, lr: float = 1e-3, crop: int = 128, sure: float = 0.7) -> None:
        if lr <= 0 or crop < 16 or not 0 < sure <= 1:
            raise ConfigError(
                f"lr must be positive, crop at least 16 and sure above 0 and at most 1, got {lr}, {crop}, {sure}"
            )
        self.lr, self.crop, self.sure = lr, crop, sure

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"x1": the patch at the lowest resolution, "x2", "known2", "x4", …: true maps and what is known of them}``.

        All (1, H, W). A patch is mirrored, turned, and stretched into a random part of [0, 1], upside down half of the time.
        Raises DatasetError if the map is smaller than the patch.
        """
        depth: np.ndarray = item["depth"]
        if min(depth.shape) < self.crop:
            raise DatasetError(
                f"a map of {depth.shape[1]}x{depth.shape[0]} pixels is smaller than the patch of {self.crop}",
                "Set recipe.crop lower",
            )
        scale = requirements.scale
        side = self.crop - self.crop % scale
        for _ in range(100):
            top, left = (int(rng.integers(length - side + 1)) for length in depth.shape)
            patch = depth[top : top + side, left : left + side]
            if np.isfinite(patch).mean() >= self.sure:
                break
        else:
            raise DatasetError(
                f"a map of which {np.isfinite(depth).mean():.0%} is known: of 100 patches of {side} pixels none has "
                f"{self.sure:.0%}",
                "Set recipe.sure or recipe.crop lower, or leave the map out",
            )
        turns, mirror = int(rng.integers(4)), rng.random() < 0.5
        patch = np.rot90(patch[:, ::-1] if mirror else patch, turns)
        low, span = _stretch(patch)
        part = rng.uniform(0.3, 1.0)
        patch = ((patch - low) / span * part + rng.uniform(0, 1 - part)).astype(np.float32)
        patch = patch if rng.random() < 0.5 else 1 - patch
        sample = {"x1": filled(reduced(patch, scale))[None]}
        factor = 2
        while factor <= scale:
            true = reduced(patch, scale // factor) if factor < scale else patch
            sample[f"x{factor}"] = filled(true)[None]
            sample[f"known{factor}"] = np.isfinite(true)[None].astype(np.float32)
            factor *= 2
        return {name: np.ascontiguousarray(value) for name, value in sample.items()}

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """One loss for each unit. In the stage "units" no unit's loss reaches the one before."""
        x, losses = batch["x1"], {}
        for index, unit in enumerate(module.units, start=1):  # type: ignore[arg-type]
            x = unit(x.detach() if self.stage == "units" else x)
            known, true = batch[f"known{2**index}"], batch[f"x{2**index}"]
            losses[f"x{2**index}"] = (known * (x - true)).square().sum() / known.sum().clamp(min=1)
        return losses

    def lr_factor(self, name: str) -> float:
        """A tenth for the units' last convolutions."""
        return super().lr_factor(name) * (0.1 if ".conv3." in name else 1)

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Adam for all units."""
        groups = self.groups(module, self.lr)
        adam = torch.optim.Adam(groups)
        return [(adam, OneCycleLR(adam, [group["lr"] for group in groups], max(total_steps, 2)))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two patches: a wall before a slanted floor, and the same turned."""
        scale: Any = module.scale
        side = 4 * scale
        y, x = np.mgrid[:side, :side].astype(np.float32) / side
        depth = np.where(x + y / 3 < 0.6, 0.2 + 0.1 * y, 0.9 - 0.3 * y)
        depth = np.tile(depth, (1 + 16 // side, 1 + 16 // side))
        own = DeepDepthRecipe(crop=len(depth))
        needs, rng = Requirements(scale=scale), np.random.default_rng(0)
        drawn = [own.sample({"depth": item}, needs, rng) for item in (depth, depth.T)]
        return {name: torch.from_numpy(np.stack([sample[name] for sample in drawn])) for name in drawn[0]}
