"""How a picture goes through a network of any number of colours, and comes out exactly the scale as large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import InputError
from stzoo_super_resolution.resize import imresize

if TYPE_CHECKING:
    from torch import Tensor, nn

FORWARD = (
    (65.481 / 255, 128.553 / 255, 24.966 / 255),
    (-37.797 / 255, -74.203 / 255, 112.0 / 255),
    (112.0 / 255, -93.786 / 255, -18.214 / 255),
)
"""From RGB in [0, 1] to Y, Cb and Cr less their offsets (BT.601, as MATLAB's ``rgb2ycbcr``)."""
OFFSETS = (16 / 255, 128 / 255, 128 / 255)


class SuperResolution(Pipeline):
    """The default steps, with colours brought to what the network takes.

    A network of this task has ``channels``: one of 1 takes the luma (Y of BT.601, 16 to 235 of 255) of colour pictures, whose
    chroma are enlarged by bicubic interpolation, and grey pictures as they are; one of 3 takes RGB, and grey pictures as three
    equal ones, of which the mean comes out. Transparency is enlarged by bicubic interpolation. What comes out is clipped to
    [0, 1].
    """

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a network is given, and what should come out: the two pictures of the :class:`Pair` in ``row["image"]``."""
        pair = row["image"]
        return {"image": pair.low}, {"image": pair.high}

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The picture as it is: what is padded are the tiles.

        Raises InputError for anything but 1 (grey), 3 (RGB) or 4 (RGBA) channels.
        """
        channels = values["image"].shape[0]
        if channels not in (1, 3, 4):
            raise InputError(f"image: {channels} channels", "Give grey (1), RGB (3) or RGBA (4)")
        return dict(values)

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["image"]`` (B, C, H, W) to (B, C, H*scale, W*scale) in [0, 1]; tiles go to the network's device."""
        import torch

        image, scale = batch["image"], self.requirements.scale
        restored = self.restored(module, image[:, :3], options)
        if image.shape[1] == 4:
            restored = torch.cat((restored, imresize(image[:, 3:], scale)), dim=1)
        return {"image": restored.clamp_(0, 1)}

    def restored(self, module: nn.Module, image: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Grey or RGB pictures (B, 1 or 3, H, W), enlarged, through a network of 1 or 3 channels."""
        import torch

        channels = colours_of(module, self.requirements)
        if image.shape[1] == 1:
            return self.enlarged(module, image.expand(-1, channels, -1, -1), options).mean(1, keepdim=True)
        if channels == 3:
            return self.enlarged(module, image, options)
        parts = to_ycbcr(image)
        luma = self.enlarged(module, parts[:, :1], options)
        return to_rgb(torch.cat((luma, imresize(parts[:, 1:], self.requirements.scale)), dim=1))

    def enlarged(self, module: nn.Module, image: Tensor, options: Mapping[str, Any]) -> Tensor:
        """Pictures of as many channels as the network takes, tile by tile through :meth:`network`."""

        def function(tile: Tensor) -> Tensor:
            return self.network(module, tile)

        enlarged: Tensor = self.run(module, image, options=options, function=function)
        return enlarged

    def network(self, module: nn.Module, image: Tensor) -> Tensor:
        """One pass; networks that take something else than the picture refine this."""
        return module(image)  # type: ignore[no-any-return]


class EnlargedFirst(SuperResolution):
    """For networks that take the picture as bicubic interpolation enlarges it."""

    def network(self, module: nn.Module, image: Tensor) -> Tensor:
        return module(imresize(image, self.requirements.scale))  # type: ignore[no-any-return]


def colours_of(module: Any, requirements: Any) -> int:
    """How many colours a network takes, 1 or 3: its ``channels``, or what its requirements say."""
    channels: int = getattr(module, "channels", None) or requirements.channels or 3
    return channels


def to_ycbcr(image: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] to Y, Cb and Cr, all of 255 (BT.601, as MATLAB's ``rgb2ycbcr``)."""
    matrix, offsets = image.new_tensor(FORWARD), image.new_tensor(OFFSETS)
    return (matrix @ image.flatten(2)).reshape(image.shape) + offsets[:, None, None]


def to_luma(image: Tensor) -> Tensor:
    """The first channel of :func:`to_ycbcr`; a grey picture (B, 1, H, W) as it is."""
    if image.shape[1] == 1:
        return image
    red, green, blue = FORWARD[0]
    return image[:, :1] * red + image[:, 1:2] * green + image[:, 2:3] * blue + OFFSETS[0]


def to_rgb(image: Tensor) -> Tensor:
    """The inverse of :func:`to_ycbcr`."""
    matrix, offsets = image.new_tensor(np.linalg.inv(FORWARD)), image.new_tensor(OFFSETS)
    return (matrix @ (image - offsets[:, None, None]).flatten(2)).reshape(image.shape)


def bicubic(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline of the task: bicubic interpolation, as MATLAB's ``imresize``; at scale 1 the picture as it is."""
    image, size = inputs["image"], truth["image"].shape[-2:]
    return {"image": imresize(image, size[0] / image.shape[-2], size=size).clip(0, 1)}
