"""How a temporal-adaptive network learns (:mod:`stzoo_super_resolution.temporal`): branches alone, then everything jointly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError
from stzoo.recipe import Stage
from stzoo_super_resolution.resize import imresize
from stzoo_super_resolution.temporal import TemporalAdaptiveSR, flows
from stzoo_super_resolution.video import cropped, luma


def alignment_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Sum of squared differences of translations, in pixels: the second term of the joint loss."""
    return (found - wanted).square().sum()


class TemporalAdaptiveRecipe(Recipe):
    """First each branch alone, then everything jointly; squared error and Adam, its rate falling as a cosine in each stage.

    Branches are trained on frames aligned by rectified optical flow, from which the alignment network learns meanwhile; in
    the second stage its own translations are used, and it learns from the joint loss. Clips are made smaller with MATLAB's
    bicubic, or bring their own small one ("low").

    Args:
        lr: the highest learning rate.
        patch: side of a patch before it is enlarged, in pixels, with the margin that alignment needs.
        patches: how many are cut around one frame of a clip each time it is drawn.
        pairs: how many tiles the alignment network learns from in a step of the first stage.
        alignment_weight: of the translations in the joint loss, of sums.
        flow: whether optical flow is computed; only a network without alignment can do without.
        remembered: clips of just the frames a network sees (``?frames=5``) for which all that patches are cut from is kept
            in memory: flow takes long.

    Raises:
        ConfigError: a value is out of range.
    """

    stages = (Stage("branches", 0.7), Stage("joint", 0.3))

    def __init__(
        self,
        lr: float = 1e-3,
        patch: int = 60,
        patches: int = 4,
        pairs: int = 64,
        alignment_weight: float = 1e-3,
        flow: bool = True,
        remembered: int = 256,
    ) -> None:
        if lr <= 0 or alignment_weight < 0 or remembered < 0:
            raise ConfigError(
                f"lr must be positive, alignment_weight and remembered at least 0, got {lr}, {alignment_weight} and {remembered}"
            )
        if min(patch, patches, pairs) < 1:
            raise ConfigError(f"patch, patches and pairs must be at least 1, got {patch}, {patches} and {pairs}")
        self.lr, self.patch, self.patches, self.pairs = lr, patch, patches, pairs
        self.alignment_weight, self.flow, self.remembered = alignment_weight, flow, remembered
        self._memory: dict[tuple[int, int], _Scene] = {}

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The examples, each with its number, under which it is remembered."""
        return _Numbered(examples)

    def sample(self, item: Any, requirements: Requirements, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """``{"frames", "target", "flow"}``: (P,2N-1,h,h), (P,1,scale*h,scale*h) and (P,2N-2,2,h,h), turned and mirrored.

        Raises:
            DatasetError: the clip is smaller than a patch.
        """
        number, read = item if isinstance(item, tuple) else (-1, lambda: item)
        scene = self._scene(number, read, requirements, float(rng.random()))
        scale, sides = requirements.scale, scene.low.shape[-2:]
        if min(sides) < self.patch:
            raise DatasetError(
                f"a clip is {sides[1]}x{sides[0]} pixels when it is small, a patch {self.patch}x{self.patch}",
                "Set a smaller recipe.patch, or leave the clip out",
            )
        found: dict[str, list[NDArray[np.float16]]] = {}
        for _ in range(self.patches):
            top, left = (int(rng.integers(side - self.patch + 1)) for side in sides)
            turn = _Turn(top, left, self.patch, *(rng.random(3) < 0.5))
            made = {"frames": turn(scene.low), "target": turn(scene.high, scale)}
            if scene.flow is not None:
                made["flow"] = turn.vectors(scene.flow)
            for name, value in made.items():
                found.setdefault(name, []).append(value)
        return {name: np.stack(values).astype(np.float32) for name, values in found.items()}

    def _scene(self, number: int, read: Callable[[], Any], requirements: Requirements, place: float) -> _Scene:
        """What patches of an example are cut from: around a frame that has neighbours on both sides, where there is one."""
        scale, reach = requirements.scale, requirements.reach_frames or 0
        if (number, scale) in self._memory:
            return self._memory[number, scale]
        item = read()
        last = len(item["video"]) - 1
        time = reach + int(place * (last + 1 - 2 * reach)) if last >= 2 * reach else last // 2
        near = np.arange(time - reach, time + reach + 1).clip(0, last)
        if item.get("low") is None:
            frames = luma(cropped(item["video"][near], scale))
            high, low = frames[reach], imresize(frames, 1 / scale)
        else:
            high, low = luma(item["video"][time : time + 1])[0], luma(item["low"][near])
        half = np.float16  # luma of 8 bits fits
        flow = flows(low).astype(half) if self.flow and reach else None
        scene = _Scene(low.astype(half), high[None].astype(half), flow)
        if number >= 0 and last == 2 * reach and len(self._memory) < self.remembered:
            self._memory[number, scale] = scene
        return scene

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """In the first stage one ``branch_i`` for each and ``alignment``, then ``mse`` and ``alignment`` (where it learns).

        Raises:
            ConfigError: patches are smaller than the tiles, or have no flow.
        """
        network = cast(TemporalAdaptiveSR, module)
        frames, target = batch["frames"].flatten(0, 1), batch["target"].flatten(0, 1)
        apart, losses = self.stage == "branches", {}
        if network.alignment != "none" and network.frames > 1:
            if "flow" not in batch or min(frames.shape[-2:]) < max(network.window):
                raise ConfigError(
                    f"alignment needs flow=true and patches of at least {max(network.window)} pixels, its window; "
                    f"flow={'flow' in batch}, patch={frames.shape[-1]}"
                )
            wanted = translations = network.rectify(batch["flow"].flatten(0, 1))
            if network.alignment == "network" and apart:
                chosen = torch.randperm(wanted.numel() // 2)[: self.pairs]
                pairs = network.pairs(network.tiles(frames)).flatten(0, 3)[chosen]
                losses["alignment"] = alignment_loss(network.loc(pairs), wanted.flatten(0, 3)[chosen]) / len(chosen)
            elif network.alignment == "network":
                translations = network.localise(frames)
                loss = self.alignment_weight * alignment_loss(translations, wanted)
                losses["alignment"] = loss / target.numel()
            frames = network.move(frames, translations)
            above, left = (margin * network.scale for margin in network.margin)
            height, width = (side * network.scale for side in frames.shape[-2:])
            target = target[..., above : above + height, left : left + width]
        if not apart:
            return {"mse": F.mse_loss(network(frames), target)} | losses
        errors = (network.temporal_scales(frames) - target).square().mean((0, 2, 3))
        return {f"branch_{i}": error for i, error in enumerate(errors, start=1)} | losses

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """Adam, and a cosine from the rate down to a hundredth of it."""
        adam = torch.optim.Adam(self.groups(module, self.lr), lr=self.lr, fused=True)
        last = max(total_steps, 1)
        return [(adam, LambdaLR(adam, lambda step: 0.505 + 0.495 * math.cos(math.pi * min(step, last) / last)))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two patches of noise, of one tile each, with their flow."""
        network = cast(TemporalAdaptiveSR, module)
        random, size = torch.Generator().manual_seed(0), network.window
        frames = torch.rand((1, 2, network.frames, *size), generator=random)
        target = F.interpolate(frames[0, :, network.frames // 2, None], scale_factor=network.scale)[None]
        flow = torch.randn((1, 2, network.frames - 1, 2, *size), generator=random)
        return {"frames": frames, "target": target, "flow": flow}


@dataclass(frozen=True)
class _Scene:
    """A frame and its neighbours, small (2N-1,h,w), the frame large (1,H,W), and the flow to the neighbours (2N-2,2,h,w)."""

    low: NDArray[np.float16]
    high: NDArray[np.float16]
    flow: NDArray[np.float16] | None


@dataclass(frozen=True)
class _Turn:
    """Cuts a square out of pictures, mirrors it, and swaps rows and columns."""

    top: int
    left: int
    side: int
    upside_down: bool
    mirrored: bool
    swapped: bool

    def __call__(self, pictures: NDArray[np.float16], scale: int = 1) -> NDArray[np.float16]:
        """Pictures (...,H,W), which are ``scale`` times as large as those the place is of."""
        top, left, side = (scale * value for value in (self.top, self.left, self.side))
        part = pictures[..., top : top + side, left : left + side]
        part = part[..., :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        return part.swapaxes(-1, -2) if self.swapped else part

    def vectors(self, flow: NDArray[np.float16]) -> NDArray[np.float16]:
        """Flow (...,2,H,W), (dx, dy): vectors turn with the picture."""
        signs = np.array([-1 if self.mirrored else 1, -1 if self.upside_down else 1], flow.dtype)
        turned = self(flow) * signs[:, None, None]
        return turned[..., ::-1, :, :] if self.swapped else turned


class _Numbered(Sequence[Any]):
    """Examples as pairs of a number and what reads it."""

    def __init__(self, examples: Sequence[Mapping[str, Any]]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        return index, partial(self.examples.__getitem__, index)
