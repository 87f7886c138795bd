"""From a picture of any size to what a network of whole patches takes, and back to pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

MARGIN = 256 / 224
"""The shorter side of a picture that is cropped, as a multiple of the network's."""
GREY = 0.5
"""What pixels are shown as where the network saw nothing."""


class _Pictures(Pipeline):
    """Pictures made to fit as the option ``fit`` says, their colours normalised."""

    padded = False

    def fitted(self, image: Tensor, fit: str) -> Tensor:
        """Pictures (B, C, H, W) of the network's size, or with "keep" of whole patches; those that are so stay as they are.

        "crop" resizes the shorter side to 256/224 of the network's, as its authors do to evaluate; "resize" is what they do to
        show what it draws.
        """
        import torch.nn.functional as F

        side, patch = (self.requirements.native_size or (224,))[-1], self.requirements.multiple
        height, width = image.shape[-2:]
        if fit == "keep":
            wanted = (height // patch * patch, width // patch * patch)
            if not all(wanted):
                raise InputError(
                    f"image: {width}x{height} pixels are less than one patch of {patch}x{patch}",
                    "Give fit=crop, or a larger picture",
                )
        else:
            wanted = (side, side)
            if (height, width) == wanted:
                return image
            scale = side * MARGIN / min(height, width)
            size = wanted if fit == "resize" else (round(height * scale), round(width * scale))
            given = image.float()
            image = F.interpolate(given, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        top, left = (image.shape[-2] - wanted[0]) // 2, (image.shape[-1] - wanted[1]) // 2
        return image[..., top : top + wanted[0], left : left + wanted[1]]

    @staticmethod
    def colours(image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C, 1, 1) that pixels in [0, 1] are normalised by."""
        from stzoo_representation.mae import colour_constants

        mean, std = (image.new_tensor(item)[:, None, None] for item in colour_constants(image.shape[-3]))
        return mean, std


class ImageFeatures(_Pictures):
    """Pictures to vectors, through the encoder's own ``features``."""

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        network: Any = module
        image = self.fitted(batch["image"], options["fit"]).to(batch["image"].dtype)
        mean, std = self.colours(image)
        return {"features": network.features((image - mean) / std, options["pool"])}


class MaskedAutoencoding(_Pictures):
    """Patches left out as ``mask_ratio`` and ``seed`` say, the same ones of every picture, and drawn.

    A network that draws normalised patches cannot know how bright they were, nor how strong their contrast: those of the
    picture itself are given to what it draws, as its authors' visualisations do.
    """

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture made to fit, and what is to be drawn of it: NaN where a patch is seen."""
        import torch

        image = self.fitted(torch.from_numpy(row["image"])[None], options["fit"])[0].contiguous()
        left_out = self.left_out(image.shape[-2:], options)[0]
        if not left_out.any():
            raise InputError("no patch is left out, so there is nothing to measure", "Give a higher mask_ratio")
        truth = image.masked_fill(left_out == 0, float("nan"))
        return {"image": image.numpy()}, {"image": truth.numpy()}

    def masking(
        self, size: tuple[int, ...] | Any, options: Mapping[str, Any], device: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :func:`stzoo_representation.mae.masking`, for one picture of this height and width. Raises InputError."""
        import torch

        from stzoo_representation.mae import masking

        patch = self.requirements.multiple
        count = (size[-2] // patch) * (size[-1] // patch)
        kept = int(count * (1 - options["mask_ratio"]))
        if not kept:
            raise InputError(
                f"mask_ratio {options['mask_ratio']:g} leaves none of the {count} patches to be seen",
                "Give a lower one",
            )
        noise = torch.rand(1, count, generator=torch.Generator().manual_seed(options["seed"]))
        kept_ones, places, mask = masking(noise, kept)
        return kept_ones.to(device), places.to(device), mask.to(device)

    def left_out(self, size: Any, options: Mapping[str, Any]) -> Tensor:
        """(1, H, W): 1 where a pixel is left out."""
        return _over_pixels(self.masking(size, options)[2], size, self.requirements.multiple)

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["image"]`` (B, C, H, W) in [0, 1] to the outputs of the task."""
        from stzoo_representation.mae import EPSILON, patchify, unpatchify

        network: Any = module
        image = self.fitted(batch["image"], options["fit"]).to(batch["image"].dtype)
        mean, std = self.colours(image)
        given = (image - mean) / std
        grid, patch = network.grid(given), network.patch_size
        kept, places, mask = (
            item.expand(len(image), -1) for item in self.masking(image.shape[-2:], options, image.device)
        )
        latent = network.encode(given, kept)
        drawn = network.decode(latent, places, grid)
        if network.norm_pix_loss:
            import torch

            variance, level = torch.var_mean(patchify(given, patch).float(), dim=-1, keepdim=True)
            drawn = drawn * (variance + EPSILON).sqrt() + level
        drawn = (unpatchify(drawn, patch, grid) * std + mean).clamp(0, 1)
        left_out = _over_pixels(mask, image.shape[-2:], patch)
        hidden = left_out[:, None] > 0
        outputs = {
            "image": drawn.where(hidden, image),
            "masked": image.masked_fill(hidden, GREY),
            "mask": left_out,
        }
        return outputs | ({"features": latent[:, 0]} if options["with_features"] else {})

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        return {**outputs, "mask": outputs["mask"].astype(np.uint8)}


def _over_pixels(mask: Tensor, size: Any, patch: int) -> Tensor:
    """(B, L) of patches to (B, H, W) of pixels."""
    square = mask.reshape(len(mask), size[-2] // patch, size[-1] // patch)
    return square.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
