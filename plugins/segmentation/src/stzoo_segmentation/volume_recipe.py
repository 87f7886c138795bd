"""How networks of volumes learn: random blocks, mirrored and changed in brightness; the losses of the other recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError
from stzoo.media.volumes import check_same_place
from stzoo.recipe import Kept
from stzoo_segmentation import losses
from stzoo_segmentation.recipe import SegmentationRecipe
from stzoo_segmentation.volumes import normalised, resized, statistics


class VolumeRecipe(SegmentationRecipe):
    """Random blocks of volumes and their masks; cross-entropy and Dice.

    Args:
        lr: the highest learning rate.
        crop: sides of the blocks, in voxels of what the network sees; (0, 0, 0): all of a volume. Smaller volumes are padded,
            the padding left out of the loss.
        loss: one of :data:`stzoo_segmentation.losses.LOSSES`, or several.
        foreground: share of the blocks that are around a voxel which is not of class 0.
        flips: axes along which half of the blocks are mirrored: any of "xyz", or "none".
        brightness: how far the numbers are multiplied (1 less to 1 plus this) and moved (of their deviation) at random.
        optimizer, momentum, decay, schedule, warmup: as :class:`stzoo_segmentation.recipe.SegmentationRecipe` has them.

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        crop: tuple[int, ...] = (64, 64, 64),
        loss: str = "cross-entropy+dice",
        foreground: float = 0.5,
        flips: str = "x",
        brightness: float = 0.1,
        optimizer: str = "adamw",
        momentum: float = 0.9,
        decay: float = 1e-4,
        schedule: str = "cosine",
        warmup: float = 0.02,
    ) -> None:
        if len(crop) != 3 or not all(type(side) is int and side >= 0 for side in crop):
            raise ConfigError(f"crop={crop!r} must be three sides in voxels", "Write recipe.crop=[64,64,64]")
        if flips != "none" and (not flips or set(flips) - set("xyz")):
            raise ConfigError(f"flips={flips!r} must be axes such as 'x' or 'xyz', or 'none'")
        if not 0 <= foreground <= 1 or not 0 <= brightness < 1:
            raise ConfigError(
                f"foreground={foreground} must be from 0 to 1, brightness={brightness} at least 0 and below 1"
            )
        super().__init__(
            lr=lr,
            crop=(0, 0),
            loss=loss,
            flips="none",
            optimizer=optimizer,
            momentum=momentum,
            decay=decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.block, self.foreground, self.brightness = crop, foreground, brightness
        self.axes = () if flips == "none" else tuple("xyz".index(axis) for axis in sorted(set(flips)))

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The examples, each read once."""
        return Kept(examples)

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"volume": (C, x, y, z), "mask": (x, y, z), "statistics": (C, 3)}``: a block, and what
        :func:`stzoo_segmentation.volumes.statistics` says of all of the volume. Networks that see cubes get theirs.

        Raises InputError where volume and mask are not of the same place.
        """
        volume, mask = item["volume"], item["mask"]
        check_same_place(volume, mask, "the volume and its mask")
        volume, mask = np.asarray(volume), np.asarray(mask)
        if requirements.native_size and len(requirements.native_size) == 3:
            size = requirements.native_size
            volume = resized(torch.from_numpy(np.ascontiguousarray(volume)), size).numpy()
            mask = _nearest(mask, size)
        known = statistics(torch.from_numpy(np.ascontiguousarray(volume))).numpy()
        if any(self.block):
            volume, mask = self._cut(volume, mask, requirements, rng)
        for axis in self.axes:
            if rng.random() < 0.5:
                volume, mask = np.flip(volume, axis + 1), np.flip(mask, axis)
        if self.brightness:
            gain, shift = rng.uniform(-self.brightness, self.brightness, 2)
            volume = volume * np.float32(1 + gain) + np.float32(shift) * known[:, 1, None, None, None]
        return {
            "volume": np.ascontiguousarray(volume, np.float32),
            "mask": np.ascontiguousarray(mask),
            "statistics": known,
        }

    def _cut(
        self, volume: np.ndarray, mask: np.ndarray, requirements: Requirements, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A block at random, around something where it should; beyond the end 0 and "ignore"."""
        around = None
        if rng.random() < self.foreground and (inside := np.flatnonzero((mask > 0) & (mask != 255))).size:
            around = np.unravel_index(inside[rng.integers(inside.size)], mask.shape)
        multiple, places, pads = requirements.multiple, [], []
        for axis, (side, length) in enumerate(zip(self.block, mask.shape, strict=True)):
            side = -(-(side or length) // multiple) * multiple
            room = max(0, length - side)
            start = int(rng.integers(room + 1))
            if around is not None:
                start = int(np.clip(around[axis] - rng.integers(side), 0, room))
            places.append(slice(start, start + side))
            pads.append((0, max(0, side - length)))
        volume, mask = volume[:, *places], mask[*places]
        if any(pad for _, pad in pads):
            volume, mask = np.pad(volume, [(0, 0), *pads]), np.pad(mask, pads, constant_values=255)
        return volume, mask

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Each loss under its name, times its weight, of ``batch["volume"]`` (B, C, x, y, z) against ``batch["mask"]``.

        Raises InputError: a mask has a class that the network does not tell apart.
        """
        needs: Any = module.requirements
        volume, multiple, how = batch["volume"], needs.multiple, getattr(module, "normalise", "none")
        ready = torch.stack(
            [normalised(*pair) for pair in zip(volume, [how] * len(volume), batch["statistics"], strict=True)]
        )
        lengths = ready.shape[2:]
        pads = [extra for length in reversed(lengths) for extra in (0, -length % multiple)]
        logits = module(nn.functional.pad(ready, pads) if any(pads) else ready)[..., *(slice(side) for side in lengths)]
        # The losses know two axes of places; sums over places do not care.
        flat, mask = logits.flatten(3), batch["mask"].flatten(2)
        return {name: factor * losses.LOSSES[name](flat, mask) for name, factor in self.parts.items()}

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two cubes of slabs, and which slab each voxel is in."""
        needs: Any = module.requirements
        side = max(needs.minimum, 2 * needs.multiple)
        slabs = torch.arange(side) // 4 % 2
        mask = torch.stack((slabs.expand(side, side, side), slabs[:, None, None].expand(side, side, side)))
        volume = (50 + 100 * mask[:, None].float()).repeat(1, needs.channels or 1, 1, 1, 1)
        return {
            "volume": volume,
            "mask": mask.to(torch.uint8),
            "statistics": torch.stack([statistics(item) for item in volume]),
        }


def _nearest(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    places = [((2 * np.arange(new) + 1) * old // (2 * new)) for new, old in zip(size, mask.shape, strict=True)]
    found: np.ndarray = mask[np.ix_(*places)]
    return found
