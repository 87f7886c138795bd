"""U-Net in 2-D: the paper's network and the variants that people use, as one network with options.

Paper: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015
(arXiv:1505.04597). Its weights exist for Caffe alone. Implementations whose numerics are kept, and whose checkpoints
:mod:`stzoo_segmentation.unet_checkpoints` reads:

- https://github.com/jvanvugt/pytorch-unet (MIT): the paper's geometry, or same padding with batch norm after each ReLU;
- https://github.com/milesial/Pytorch-UNet (GPL-3.0): same padding, batch norm before each ReLU;
- https://github.com/mateuszbuda/brain-segmentation-pytorch (MIT): the same with another order of the joined features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError, InputError
from stzoo_segmentation.pipeline import Preparation

NORMS = ("none", "before", "after")
UPSAMPLINGS = ("transposed", "bilinear", "bilinear-conv")
JOINS = ("crop", "pad")
WORTH = 1 << 16
"""Pixels from which on channels go last."""
PAPER: dict[str, Any] = {"in_channels": 1, "width": 64, "padding": "valid", "norm": "none", "join": "crop"}
"""What differs from the defaults in the paper's network: 572x572 pixels in, 388x388 out."""


class Block(nn.Module):
    """Two 3x3 convolutions with ReLU; batch norm before or after each ReLU, or none (then convolutions have a bias).

    Where ``norm`` is "before", what comes next takes the mean away, and convolutions have no bias.
    """

    def __init__(self, channels_in: int, middle: int, channels_out: int, norm: str, padding: int) -> None:
        super().__init__()
        bias = norm != "before"
        self.conv1 = nn.Conv2d(channels_in, middle, 3, padding=padding, bias=bias)
        self.conv2 = nn.Conv2d(middle, channels_out, 3, padding=padding, bias=bias)
        self.norm1 = nn.Identity() if norm == "none" else nn.BatchNorm2d(middle)
        self.norm2 = nn.Identity() if norm == "none" else nn.BatchNorm2d(channels_out)
        self.after = norm == "after"

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = convolution(x)
            x = norm(F.relu_(x)) if self.after else F.relu_(norm(x))
        return x


class Up(nn.Module):
    """Features of a level below at twice the resolution, joined with those of the contracting path, and a block."""

    def __init__(self, below: int, skip: int, channels_out: int, up: str, join: str, norm: str, padding: int) -> None:
        super().__init__()
        self.join = join
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=up == "bilinear")
        self.up: nn.Module | None = None
        if up == "transposed":
            self.up = nn.ConvTranspose2d(below, below // 2, 2, 2)
        elif up == "bilinear-conv":
            self.up = nn.Conv2d(below, below // 2, 1)
        joined = skip + (below if self.up is None else below // 2)
        self.block = Block(joined, joined // 2 if up == "bilinear" else channels_out, channels_out, norm, padding)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if not isinstance(self.up, nn.ConvTranspose2d):
            x = self.upsample(x)
        if self.up is not None:
            x = self.up(x)
        down, across = (of - own for of, own in zip(skip.shape[-2:], x.shape[-2:], strict=True))
        if self.join == "pad":
            if down or across:
                x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
            return self.block(torch.cat((skip, x), 1))  # type: ignore[no-any-return]
        top, left = down // 2, across // 2
        skip = skip[..., top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.block(torch.cat((x, skip), 1))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """The network. Its defaults are milesial's, half as wide; :data:`PAPER` makes the paper's.

    Args:
        in_channels: of the picture.
        out_channels: of the result: one per class, or 1 for two classes.
        width: channels of the first level; each further one has twice as many.
        depth: levels; between them, 2x2 max pooling.
        padding: "valid" convolutions shrink the picture (:meth:`around` says how much), "same" ones pad with zeros.
        norm: batch norm "before" each ReLU, "after" it, or "none".
        up: how features are enlarged: a "transposed" 2x2 convolution that halves the channels; "bilinear" interpolation with
            aligned corners, the block halving the channels (milesial); "bilinear-conv", without aligned corners, then a 1x1
            convolution that halves the channels (jvanvugt).
        join: "crop" the features of the contracting path to the enlarged ones, which come first (paper, jvanvugt, brain-seg);
            or "pad" the enlarged ones with zeros, which come last (milesial).
        activation: "none", or "sigmoid" of what comes out (brain-seg).
        dropout: of the last two levels of the contracting path (paper, section 3.1).
        classes: names of the classes, by number; for one channel out, two names.
        preparation: ``normalise``, ``mean``, ``std``, ``scale`` of :class:`stzoo_segmentation.pipeline.Preparation`.

    Initial weights: normal with deviation sqrt(2 / fan-in) (paper, section 3).

    Raises:
        ConfigError: a value is none of these, or values do not go together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        width: int = 32,
        depth: int = 5,
        padding: str = "same",
        norm: str = "before",
        up: str = "transposed",
        join: str = "pad",
        activation: str = "none",
        dropout: float = 0.0,
        classes: Sequence[str] = (),
        **preparation: Any,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("padding", padding, ("valid", "same")),
            ("norm", norm, NORMS),
            ("up", up, UPSAMPLINGS),
            ("join", join, JOINS),
            ("activation", activation, ("none", "sigmoid")),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")
        if min(in_channels, out_channels, width) < 1 or depth < 2:
            raise ConfigError("in_channels, out_channels and width must be at least 1, and depth at least 2")
        if width % 2 and up == "bilinear":
            raise ConfigError(f"width={width} cannot be halved, which up='bilinear' does", "Give an even width")
        if padding == "valid" and join == "pad":
            raise ConfigError("join='pad' pads what valid convolutions have cut off", "Give join='crop'")
        check_classes(classes, out_channels)
        self.in_channels, self.depth, self.padding, self.activation = in_channels, depth, padding, activation
        self.preparation = prepared(preparation, in_channels)
        pad = 1 if padding == "same" else 0
        widths = [width << level for level in range(depth)]
        if up == "bilinear":
            widths[-1] //= 2
        self.down = nn.ModuleList(
            Block(before, own, own, norm, pad) for before, own in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList()
        below = widths[-1]
        for level in reversed(range(depth - 1)):
            own = widths[level] // 2 if up == "bilinear" and level else widths[level]
            self.up.append(Up(below, widths[level], own, up, join, norm, pad))
            below = own
        self.head = nn.Conv2d(width, out_channels, 1)
        self.dropout = nn.Dropout(dropout)
        reach = receptive_field(depth, bilinear=up != "transposed")
        self.requirements = Requirements(
            channels=in_channels,
            multiple=2 ** (depth - 1),
            padding="reflect" if padding == "valid" else "edge",
            classes=tuple(classes),
            reach=reach,
            seam=1.0 if up == "bilinear" else 1e-5,  # aligned corners: what is interpolated depends on the tile's size
            tile=max(1024, 6 * reach),
        )
        self.margin = 3 * 2**depth - 4 if padding == "valid" else 0
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def around(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the smallest picture from which at least this much comes out: 388 to 572 in the paper.

        Valid convolutions take ``margin`` pixels away at each border, and only sizes that can be halved ``depth`` - 1 times
        go through.
        """
        tall, wide = (self.input_for(length) for length in (height, width))
        return tall, wide

    def input_for(self, length: int) -> int:
        """The smallest length that the network takes from which at least ``length`` comes out."""
        if self.padding == "same":
            return length
        step = 1 << (self.depth - 1)
        least = 2 * self.margin + min(4, step)  # what comes out of it is the smallest that can
        return least + max(0, -(-(length + 2 * self.margin - least) // step)) * step

    def check(self, picture: Tensor) -> None:
        """Raises InputError unless the picture (B, C, H, W) has the network's channels and a size that goes through."""
        if picture.ndim != 4 or picture.shape[1] != self.in_channels:
            raise InputError(
                f"a picture of shape {tuple(picture.shape)}, the network takes (batch, {self.in_channels}, height, width)",
                f"Give pictures of {self.in_channels} channel(s)",
            )
        step = 1 << (self.depth - 1)
        if self.padding == "same" and min(picture.shape[-2:]) < step:
            raise InputError(
                f"a picture of {picture.shape[-1]}x{picture.shape[-2]} pixels is halved {self.depth - 1} times, "
                "which leaves nothing",
                f"Give at least {step} pixels in height and width",
            )
        for length in picture.shape[-2:] if self.padding == "valid" else ():
            if (fitting := self.input_for(length - 2 * self.margin)) != length:
                raise InputError(
                    f"valid convolutions do not fit {length} pixels: {self.input_for(1)} are the fewest, then every {step} more",
                    f"Give {fitting}, of which {fitting - 2 * self.margin} come out; predict() mirrors the borders to that",
                )

    def logits(self, picture: Tensor) -> Tensor:
        """Scores before any activation, (B, K, H, W), H and W less the margins of valid convolutions."""
        self.check(picture)
        x, skips = laid_out(picture, self), []
        for level, block in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, 2)
            x = block(x) if level else laid_out(block(x), self)  # a single channel had no layout to keep
            if level >= self.depth - 2:
                x = self.dropout(x)
            skips.append(x)
        for block in self.up:
            x = block(x, skips[-2])
            skips.pop()
        return self.head(x)  # type: ignore[no-any-return]

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures (B, C, H, W), prepared, to logits (B, K, H', W'), or to probabilities with ``activation="sigmoid"``.

        H' and W' are H and W, less twice ``margin`` for valid convolutions.

        Raises:
            InputError: the channels or the size do not fit; says which would.
        """
        scores = self.logits(picture)
        return scores.sigmoid() if self.activation == "sigmoid" else scores


def laid_out(x: Tensor, network: nn.Module) -> Tensor:
    """In the layout in which a CPU predicts a quarter faster, if the picture is worth reordering the weights for."""
    quick = not network.training and x.device.type == "cpu" and x.shape[-2] * x.shape[-1] >= WORTH
    return x.contiguous(memory_format=torch.channels_last) if quick else x


def check_classes(classes: Sequence[str], channels: int) -> None:
    """Raise ConfigError unless as many classes are named as channels tell apart (two by one), or none."""
    if classes and len(classes) != max(2, channels):
        raise ConfigError(
            f"{len(classes)} names of classes for {channels} channel(s), which tell {max(2, channels)} apart",
            "Name each class, the background too, or none",
        )


def prepared(preparation: dict[str, Any], channels: int) -> Preparation:
    """The preparation of pictures of so many channels. Raises ConfigError for mean or std of another number."""
    made = Preparation(**preparation)
    for name, values in (("mean", made.mean), ("std", made.std)):
        if len(values) not in (1, channels):
            raise ConfigError(
                f"{name}={values!r} for pictures of {channels} channel(s)", "Give one number, or one for each"
            )
    if min(made.std) <= 0:
        raise ConfigError(f"std={made.std!r} must be positive")
    return made


def receptive_field(depth: int, *, bilinear: bool) -> int:
    """The distance in pixels from which on nothing changes an output pixel.

    Two convolutions of a level with stride s reach 2s, on both paths; pooling and bilinear interpolation s each.
    """
    strides = [1 << level for level in range(depth)]
    return 2 * sum(strides) + (4 if bilinear else 3) * sum(strides[:-1])
