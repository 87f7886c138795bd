"""How networks of this plugin learn: random crops, changed at random; losses by name; weights of classes and borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo.media.masks import IGNORE
from stzoo.recipe import Kept, lr_schedule
from stzoo_segmentation import losses
from stzoo_segmentation.augment import Augment
from stzoo_segmentation.data import same_shape
from stzoo_segmentation.pipeline import Preparation, surrounded

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")
SCHEDULES = ("cosine", "poly", "constant")
BALANCES = ("none", "median", "inverse")
Example = dict[str, Any]


def weighted(example: Mapping[str, Any], border: float, sigma: float) -> Example:
    """The example with ``weights`` (..., H, W) of its pixels between objects; as it is where ``border`` is 0.

    Objects are its ``instances``; without them, the connected parts of all classes but 0.
    """
    found = dict(example)
    if border and "weights" not in found:
        given = found.get("instances")
        frames = (found["mask"] if given is None else given).reshape(-1, *found["mask"].shape[-2:])
        objects = frames if given is not None else map(_connected, frames)
        weights = [losses.border_weights(item, border, sigma) for item in objects]
        found["weights"] = np.stack(weights).reshape(found["mask"].shape)
    return found


def _connected(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    numbers: np.ndarray = label((mask > 0) & (mask != IGNORE))[0]
    return numbers


def class_weights(examples: Sequence[Mapping[str, Any]], balance: str) -> np.ndarray:
    """Weights of the classes that masks have, from all of them: see :func:`stzoo_segmentation.losses.median_frequency`."""
    pixels, around = np.zeros(IGNORE), np.zeros(IGNORE)
    for example in examples:
        counts = np.bincount(example["mask"].ravel(), minlength=IGNORE + 1)[:IGNORE]
        pixels += counts
        around += counts.sum() * (counts > 0)
    if balance == "inverse":
        return losses.inverse_frequency(pixels)
    return losses.median_frequency(pixels, around)


class SegmentationRecipe(Recipe):
    """Random parts of pictures (or clips) and their masks; what the network says of them against the masks.

    Args:
        lr: the highest learning rate.
        crop: height and width of the parts; (0, 0): all of a picture. For valid convolutions these are the sizes that go in:
            the loss is of the middle that comes out, and whole pictures are mirrored at their borders.
        loss: one of :data:`stzoo_segmentation.losses.LOSSES`, or several: "cross-entropy+0.5*dice".
        balance: weights of the classes in the cross-entropy from how frequent they are in the training masks: "median" (over
            the frequency), "inverse" (of the frequency), or "none".
        class_weights: these instead, one for each class.
        border: weight in the cross-entropy of pixels where two objects are close; U-Net's w0, 10 in the paper.
        sigma: how close, in pixels.
        flips, scale, rotate, colour, elastic: as :class:`stzoo_segmentation.augment.Augment` has them.
        optimizer: "adamw", "adam", "sgd" or "rmsprop".
        momentum: of sgd and rmsprop (U-Net: 0.99).
        decay: of the weights.
        schedule: "cosine" (to nothing), "poly" (power 0.9) or "constant".
        warmup: share of the steps in which the rate first rises linearly.
        labels: weight of the loss of a classification head, whose truth is which classes are in the mask.

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        crop: tuple[int, ...] = (256, 256),
        loss: str = "cross-entropy",
        balance: str = "none",
        class_weights: tuple[float, ...] = (),
        border: float = 0.0,
        sigma: float = 5.0,
        flips: str = "horizontal",
        scale: float = 0.0,
        rotate: float = 0.0,
        colour: float = 0.0,
        elastic: float = 0.0,
        optimizer: str = "adamw",
        momentum: float = 0.9,
        decay: float = 1e-4,
        schedule: str = "cosine",
        warmup: float = 0.02,
        labels: float = 0.1,
    ) -> None:
        for name, value, known in (
            ("balance", balance, BALANCES),
            ("optimizer", optimizer, OPTIMIZERS),
            ("schedule", schedule, SCHEDULES),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")
        if lr <= 0 or not 0 <= warmup < 1 or not 0 <= momentum < 1 or min(decay, border, labels) < 0 or sigma <= 0:
            raise ConfigError(
                "lr and sigma must be positive; decay, border and labels at least 0; momentum and warmup at least 0 and below 1"
            )
        if len(crop) != 2 or not all(type(side) is int and side >= 0 for side in crop):
            raise ConfigError(f"crop={crop!r} must be height and width in pixels", "Write recipe.crop=[256,256]")
        if balance != "none" and class_weights:
            raise ConfigError("balance and class_weights are both given", "Give one of them")
        if class_weights and min(class_weights) < 0:
            raise ConfigError(f"class_weights={class_weights!r} must not be negative")
        self.parts = losses.parse(loss)
        if (balance != "none" or class_weights or border) and "cross-entropy" not in self.parts:
            raise ConfigError(f"loss={loss!r}: weights of classes and borders are those of the cross-entropy", "Add it")
        self.augment = Augment(flips, scale, rotate, colour, elastic)
        self.crop: tuple[int, int] = (crop[0], crop[1])
        self.lr, self.optimizer, self.momentum, self.decay = lr, optimizer, momentum, decay
        self.schedule, self.warmup, self.labels = schedule, warmup, labels
        self.balance, self.border, self.sigma = balance, border, sigma
        self.class_weights = torch.tensor(class_weights) if class_weights else None

    # --- what to learn from -------------------------------------------------------------------------------------------

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Example]:
        """The examples, each read once; with ``balance``, all masks are read now."""
        kept = Kept(examples, partial(weighted, border=self.border, sigma=self.sigma))
        if self.balance != "none":
            self.class_weights = torch.from_numpy(class_weights(kept, self.balance)).float()
        return kept

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"image": (..., C, H, W), "mask": (..., H, W)}`` and, with ``border``, ``weights`` (..., H, W).

        Raises DatasetError for a mask of another size.
        """
        picture = next(value for key, value in item.items() if key in ("image", "video"))
        item = weighted(item, self.border, self.sigma)
        same_shape(picture, item["mask"])
        maps: dict[str, np.ndarray] = {name: item[name] for name in ("mask", "weights") if name in item}
        image, changed = self.augment.sample(picture, maps, self.crop, rng)
        return {"image": image, **changed}

    # --- how to learn -------------------------------------------------------------------------------------------------

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Each loss under its name, times its weight, of ``batch["image"]`` (B, ..., C, H, W) against ``batch["mask"]``.

        Raises:
            InputError: a mask has a class that the network does not tell apart.
            ConfigError: there are not as many weights as classes, or a classification head is for something else.
        """
        image, maps = _prepared(module, batch)
        scores, labels = self.outputs(module, image)
        scores = scores.flatten(0, -4)
        maps = {name: _middle(item, scores.shape[-2:]) for name, item in maps.items()}
        mask = maps["mask"]
        found = {}
        for name, factor in self.parts.items():
            given: dict[str, Any] = {}
            if name == "cross-entropy":
                given = {"classes": self.weights_of(scores), "border": maps.get("weights")}
            found[name] = factor * losses.LOSSES[name](scores, mask, **given)
        if labels is not None and self.labels:
            found["labels"] = self.labels * _presence(labels, mask)
        return found

    def outputs(self, module: nn.Module, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of prepared pictures, and what a classification head says."""
        if not any(self.crop) and getattr(module, "margin", None):
            return surrounded(module, image), None
        whole = getattr(module, "activation", "none") == "none"
        found = module(image) if whole else module.logits(image)  # type: ignore[operator]
        return (found[0], found[1]) if isinstance(found, tuple) else (found, None)

    def weights_of(self, scores: Tensor) -> Tensor | None:
        """Weights of as many classes as the network tells apart. Raises ConfigError."""
        if self.class_weights is None:
            if self.balance != "none":
                raise ConfigError(
                    f"balance={self.balance!r} needs all masks, and a stream has no end", "Give class_weights instead"
                )
            return None
        count = max(2, scores.shape[1])
        if self.balance == "none" and len(self.class_weights) != count:
            raise ConfigError(f"{len(self.class_weights)} class_weights for {count} classes", "Give one for each")
        return self.class_weights[:count].to(scores.device)

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """The optimizer and its schedule, to be stepped once per optimizer step."""
        groups, lr, decay = self.groups(module, self.lr), self.lr, self.decay
        chosen: torch.optim.Optimizer
        if self.optimizer == "sgd":
            chosen = torch.optim.SGD(groups, lr=lr, momentum=self.momentum, weight_decay=decay)
        elif self.optimizer == "rmsprop":
            chosen = torch.optim.RMSprop(groups, lr=lr, momentum=self.momentum, weight_decay=decay)
        else:
            kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
            chosen = kind(groups, lr=lr, weight_decay=decay, fused=True)
        return [(chosen, LambdaLR(chosen, lr_schedule(self.schedule, total_steps, self.warmup)))]

    def state_dict(self) -> dict[str, Any]:
        """The weights of the classes, where they come from the data."""
        return {} if self.class_weights is None else {"class_weights": self.class_weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.class_weights = state.get("class_weights")

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two pictures (or clips) of stripes, and which stripe each pixel is in."""
        needs: Any = module.requirements
        side = max(needs.minimum, 2 * needs.multiple, 16)
        if getattr(module, "margin", 0):
            side, _ = module.around(8, 8)  # type: ignore[operator]
        stripes = torch.arange(side) // 4 % 2
        mask = torch.stack((stripes.expand(side, side), stripes[:, None].expand(side, side)))
        image = (0.2 + 0.6 * mask[:, None].float()).repeat(1, needs.channels or 3, 1, 1)
        if needs.frames_in or needs.reach_frames is not None:
            frames = needs.frames_in or 4
            image, mask = (item[:, None].repeat(1, frames, *[1] * (item.ndim - 1)) for item in (image, mask))
        return {"image": image, "mask": mask.to(torch.uint8)}


def _prepared(module: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The pictures as the network is to see them, and the maps (N, H, W) of their size."""
    image, wanted = batch["image"], getattr(module, "preparation", None) or Preparation()
    maps = {name: batch[name].flatten(0, -3) for name in ("mask", "weights") if name in batch}
    if wanted.scale < 1:
        size = [max(1, round(length * wanted.scale)) for length in image.shape[-2:]]
        small = F.interpolate(image.flatten(0, -4), size, mode="bilinear", antialias=True)
        image = small.reshape(*image.shape[:-2], *size)
        maps = {
            name: F.interpolate(item[:, None].float(), size, mode="nearest-exact")[:, 0] for name, item in maps.items()
        }
    return wanted.applied(image), maps


def _middle(item: Tensor, size: Sequence[int]) -> Tensor:
    """What is left of maps (N, H, W) where valid convolutions take the same away on all sides."""
    top, left = ((own - wanted) // 2 for own, wanted in zip(item.shape[-2:], size, strict=True))
    return item[:, top : top + size[0], left : left + size[1]]


def _presence(labels: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of which classes are in each mask, for a head (B, K); with one, of class 1."""
    count = labels.shape[1]
    if int(torch.where(mask == IGNORE, 0, mask).max()) >= max(2, count):
        raise ConfigError(f"a classification head for {count} classes, and masks of more", "Set recipe.labels=0")
    known = range(count) if count > 1 else (1,)
    truth = torch.stack([(mask == number).flatten(1).any(1) for number in known], 1).float()
    return F.binary_cross_entropy_with_logits(labels.float(), truth)
