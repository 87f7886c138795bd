"""From what a network says of each pixel to a mask: preparation, tiles, flips, the class that is most likely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import InputError
from stzoo.media.masks import IGNORE
from stzoo.tiling import overlap_for

if TYPE_CHECKING:
    from torch import Tensor, nn

MIRRORS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (-1,)),
    "both": ((), (-1,), (-2,), (-2, -1)),
}
"""The axes along which each picture of the option ``flips`` is mirrored."""


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture with values in [0, 1] before a network sees it.

    A network of this plugin has one as its attribute ``preparation``, made from its config (``PREPARATION`` of the package).
    """

    normalise: str = "fixed"
    """``fixed``: less ``mean``, over ``std``; ``image``: less each channel's own mean in the picture, over its own deviation."""
    mean: tuple[float, ...] = (0.0,)
    """For each channel, or one for all; of values in [0, 1]."""
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    """The factor by which pictures are reduced first; the mask has the picture's size again."""

    def applied(self, image: Any) -> Any:
        """Pictures or clips (..., C, H, W), an array or a tensor, normalised; they keep their size."""
        if self.normalise == "image":
            mean = image.mean((-2, -1), keepdims=True)
            return (image - mean) / (((image - mean) ** 2).mean((-2, -1), keepdims=True) ** 0.5 + 1e-8)
        if not any(self.mean) and set(self.std) == {1.0}:
            return image
        as_image = image.new_tensor if hasattr(image, "new_tensor") else lambda values: np.asarray(values, image.dtype)
        return (image - as_image(self.mean)[:, None, None]) / as_image(self.std)[:, None, None]


class Segmentation(Pipeline):
    """Logits (B, K, H, W) to the class of each pixel, (B, H, W).

    A network says with ``preparation`` what it wants done to pictures (:class:`Preparation`), and gives logits by a method
    ``logits`` where its ``forward`` gives something else. One of K = 1 is of two classes: a sigmoid and the option ``threshold``
    tell them apart.

    A network of valid convolutions, whose output is smaller than its input, has the attribute ``margin``, the pixels that it
    loses at each border, and a method ``around(height, width)``: the height and width of the smallest input from which at
    least that much comes out. Its picture is mirrored at the borders (the overlap-tile strategy of U-Net, arXiv:1505.04597,
    figure 2); ``reach`` is at least the margin.
    """

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """As every task's. Raises DatasetError for a mask of another size."""
        from stzoo_segmentation.data import same_shape

        inputs, truth = super().example(row, options)
        same_shape(next(iter(inputs.values())), truth["mask"])
        return inputs, truth

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["image"]`` (B, C, H, W) to ``mask`` (B, H, W) and, if asked for, ``instances`` (B, H, W)."""
        import torch

        mask = self.classes(module, next(iter(batch.values())), options)
        if options.get("instances", "none") == "none":
            return {"mask": mask}
        labels = np.stack([instances(item, options) for item in mask.numpy()])
        return {"mask": mask, "instances": torch.from_numpy(labels.astype(np.int32))}

    def classes(self, module: nn.Module, image: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The class of each pixel, uint8 (..., H, W), of pictures or clips (..., C, H, W) on the CPU.

        Raises InputError where the ``overlap`` is too small for a network of valid convolutions.
        """
        import torch.nn.functional as F

        wanted: Preparation = getattr(module, "preparation", None) or Preparation()
        height, width = image.shape[-2:]
        if wanted.scale < 1:
            size = [max(1, round(length * wanted.scale)) for length in (height, width)]
            flat = F.interpolate(image.flatten(0, -4), size, mode="bicubic", antialias=True).clamp_(0, 1)
            image = flat.reshape(*image.shape[:-2], *size)
        if wanted.normalise == "image":  # of the whole picture, before it is cut
            image, wanted = wanted.applied(image), Preparation(scale=wanted.scale)
        margin = getattr(module, "margin", 0)
        if margin:
            if (overlap := options.get("overlap")) is not None and overlap < overlap_for(margin):
                raise InputError(
                    f"overlap={overlap} is less than what this network's convolutions take away",
                    f"Give at least {overlap_for(margin)}, or leave it out",
                )
            border = math.ceil(margin / self.requirements.multiple) * self.requirements.multiple
            inner = image.shape[-2:]
            image = mirrored(image, border)

        def of_tile(tile: Tensor) -> Tensor:
            scores = self.scores(module, wanted.applied(tile), options)
            return scores if wanted.scale < 1 else decided(scores, options)

        found: Tensor = self.run(module, image, options=options, function=of_tile)
        if margin:
            found = found[..., border : border + inner[0], border : border + inner[1]]
        return found if wanted.scale == 1 else enlarged(found, (height, width), options)

    def scores(self, module: nn.Module, tile: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Logits of a prepared tile, of the same height and width; of several mirror images the logits of the mean probability."""
        mirrors = MIRRORS[options.get("flips", "none")]
        if len(mirrors) == 1:
            return network(module, tile)
        total = None
        for axes in mirrors:
            logits = network(module, tile.flip(axes)).flip(axes).float()
            chance = logits.sigmoid() if logits.shape[-3] == 1 else logits.softmax(-3)
            total = chance if total is None else total.add_(chance)
        assert total is not None
        mean = (total / len(mirrors)).clamp(1e-7, 1 - 1e-7)
        return mean.logit() if mean.shape[-3] == 1 else mean.log()

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        """Whole numbers again."""
        kinds = {"instances": np.uint16}
        return {name: output.astype(kinds.get(name, np.uint8)) for name, output in outputs.items()}


class VideoSegmentation(Segmentation):
    """Logits (B, T, K, H, W) to the class of each pixel of each frame, (B, T, H, W)."""


def instances(mask: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Numbers of objects (H, W) from a mask, as the option ``instances`` says."""
    from stzoo_segmentation import objects

    return objects.watershed(mask) if options["instances"] == "watershed" else objects.components(mask)


def network(module: nn.Module, tile: Tensor) -> Tensor:
    """Logits of a tile, of its size: what valid convolutions take away is 0, and left to the tiles beside."""
    import torch.nn.functional as F

    function = getattr(module, "logits", module)
    margin = getattr(module, "margin", 0)
    if not margin:
        return function(tile)  # type: ignore[no-any-return]
    height, width = tile.shape[-2:]
    tall, wide = module.around(max(1, height - 2 * margin), max(1, width - 2 * margin))  # type: ignore[operator]
    found = function(F.pad(tile, (0, wide - width, 0, tall - height), mode="constant"))
    found = F.pad(found, (margin,) * 4)
    return found[..., :height, :width]


def surrounded(module: nn.Module, picture: Tensor) -> Tensor:
    """Logits of pictures (B, C, H, W), of their size: for valid convolutions they are mirrored at their borders."""
    function, margin = getattr(module, "logits", module), getattr(module, "margin", 0)
    if not margin:
        return function(picture)  # type: ignore[no-any-return]
    height, width = picture.shape[-2:]
    tall, wide = module.around(height, width)  # type: ignore[operator]
    found = function(_around(picture, margin, tall, wide))
    return found[..., :height, :width]  # type: ignore[no-any-return]


def mirrored(picture: Tensor, border: int) -> Tensor:
    """Pictures (..., H, W), mirrored at all borders, ``border`` pixels far; the pixels at the border come once."""
    height, width = picture.shape[-2:]
    return _around(picture, border, height + 2 * border, width + 2 * border)


def _around(picture: Tensor, border: int, height: int, width: int) -> Tensor:
    """The part of the endlessly mirrored picture that starts ``border`` pixels above and left of it."""
    import torch

    for axis, length in ((-2, height), (-1, width)):
        own = picture.shape[axis]
        places = (torch.arange(length, device=picture.device) - border).remainder(max(1, 2 * own - 2))
        picture = picture.index_select(axis, torch.minimum(places, 2 * own - 2 - places) if own > 1 else places)
    return picture


def decided(scores: Tensor, options: Mapping[str, Any]) -> Tensor:
    """The class of each pixel, uint8 (..., H, W), from logits (..., K, H, W)."""
    import torch

    if scores.shape[-3] == 1:
        return (scores[..., 0, :, :] >= _logit(options)).to(torch.uint8)
    return scores.argmax(-3).to(torch.uint8)


def enlarged(scores: Tensor, size: tuple[int, int], options: Mapping[str, Any]) -> Tensor:
    """The class of each pixel at ``size`` from logits (..., K, h, w): each class's logits are interpolated, one at a time."""
    import torch
    import torch.nn.functional as F

    flat = scores.flatten(0, -4) if scores.ndim > 4 else scores
    if flat.shape[1] == 1:
        found = (F.interpolate(flat, size, mode="bilinear")[:, 0] >= _logit(options)).to(torch.uint8)
    else:
        best = F.interpolate(flat[:, :1], size, mode="bilinear")[:, 0]
        found = torch.zeros_like(best, dtype=torch.uint8)
        for number in range(1, flat.shape[1]):
            other = F.interpolate(flat[:, number : number + 1], size, mode="bilinear")[:, 0]
            found[other > best] = number
            torch.maximum(best, other, out=best)
    return found.reshape(*scores.shape[:-3], *size)


def _logit(options: Mapping[str, Any]) -> float:
    threshold = options.get("threshold", 0.5)
    return math.inf if threshold >= 1 else -math.inf if threshold <= 0 else math.log(threshold / (1 - threshold))


def commonest(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """A baseline: everywhere the class that is commonest in the true mask; no objects."""
    counts = np.bincount(truth["mask"].ravel(), minlength=IGNORE + 1)[:IGNORE]
    found = {"mask": np.full_like(truth["mask"], counts.argmax())}
    return found | {name: np.zeros_like(truth[name]) for name in ("instances",) if name in truth}


def first_mask(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """A baseline: the true mask of a clip's first frame, kept; what is ignored there is class 0."""
    first = np.where(truth["mask"][:1] == IGNORE, 0, truth["mask"][:1])
    return {"mask": np.broadcast_to(first, truth["mask"].shape).copy()}
