"""3-D U-Net (Çiçek et al., "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation", MICCAI 2016,
https://arxiv.org/abs/1606.06650), and the compact one that finds brains in the package deepbrain.

Both halve the resolution by max-pooling, double it again, and join what has the same resolution. They differ in this:

| form | paper | compact |
|---|---|---|
| channels of level i | w 2^i, then w 2^(i+1) by its second convolution | w 2^i in both |
| below the last level | a level like the others, not pooled | nothing: what was pooled is enlarged at once |
| enlarging, if transposed | 2x2x2, channels kept | 3x3x3, to the channels of the level |
| joined | what comes from the way down first | what comes from below first |
| convolutions after joining | two | one |
| dropout | after every pooling and every level on the way up | the same |

Convolutions are padded with zeros, where the paper's are valid: the volume keeps its size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import InputError
from stzoo_segmentation.unet import check_classes

# --- blocks -----------------------------------------------------------------------------------------------------------

_NORMS: dict[str, Any] = {
    "batch": nn.BatchNorm3d,
    "instance": lambda channels: nn.InstanceNorm3d(channels, affine=True),
}


def _convolutions(channels: Sequence[int], norm: str) -> nn.Sequential:
    """3x3x3 convolutions between these numbers of channels, each with its norm, if any, and ReLU."""
    layers: list[nn.Module] = []
    for one, two in itertools.pairwise(channels):
        layers.append(nn.Conv3d(one, two, 3, padding=1))
        layers += [_NORMS[norm](two)] if norm in _NORMS else []
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class EvenTransposed(nn.ConvTranspose3d):
    """A transposed convolution of 3 with stride 2 that exactly doubles, as TensorFlow's padding "SAME": it ends one earlier."""

    def __init__(self, channels: int, own: int) -> None:
        super().__init__(channels, own, 3, stride=2, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, C, X, Y, Z) to (B, C', 2X, 2Y, 2Z)."""
        return super().forward(x)[..., :-1, :-1, :-1]


# --- network ----------------------------------------------------------------------------------------------------------


class UNet3d(nn.Module):
    """A U-Net of volumes. ``forward`` takes (B, C, X, Y, Z), every side a multiple of :attr:`requirements` ``.multiple``, and
    returns logits (B, K, X, Y, Z).

    Args:
        in_channels: C.
        out_channels: K; 1 for two classes told apart by a sigmoid.
        width: w, channels of the first convolution.
        levels: resolutions on the way down; the last one of the paper's form is the lowest.
        form: "paper" or "compact": see the module.
        norm: "none", "batch" or "instance", before each ReLU.
        up: "transposed" or "trilinear".
        dropout: probability of leaving out a value, in training.
        classes: their names by number.
        side: volumes are resized to a cube of so many voxels, and what the network says of them back; 0: neither. Such a
            network has learnt what a whole looks like: it is not run in blocks.
        normalise: what is done to a volume's numbers first: "zscore" (less their mean, over their deviation, of the voxels
            that are not 0), "maximum" (over their largest) or "none".

    The paper's configuration is ``width=32, levels=4, norm="batch", in_channels=3, out_channels=3``, with 19,069,955
    parameters in its convolutions; deepbrain's ``form="compact", width=8, levels=3, out_channels=1, side=128, normalise="maximum"``, 171,465.

    Raises:
        ConfigError: there are not as many names as classes.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 8,
        levels: int = 3,
        form: str = "paper",
        norm: str = "none",
        up: str = "transposed",
        dropout: float = 0.0,
        classes: Sequence[str] = (),
        side: int = 0,
        normalise: str = "zscore",
    ) -> None:
        super().__init__()
        check_classes(classes, out_channels)
        names = tuple(classes) or tuple(f"class {number}" for number in range(max(2, out_channels)))
        compact = form == "compact"
        self.compact, self.side, self.normalise = compact, side, normalise
        self.dropout = nn.Dropout3d(dropout) if dropout and not compact else nn.Dropout(dropout)
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList()
        for before, own in zip(
            [in_channels, *(item if compact else 2 * item for item in widths)], widths, strict=False
        ):
            self.down.append(_convolutions((before, own, own if compact else 2 * own), norm))
        skips = widths if compact else [2 * item for item in widths[:-1]]
        below = widths[-1] if compact else 2 * widths[-1]
        self.enlarge, self.up = nn.ModuleList(), nn.ModuleList()
        for skip in reversed(skips):
            fresh = skip if compact and up == "transposed" else below
            if up == "trilinear":
                self.enlarge.append(nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False))
            else:
                self.enlarge.append(
                    EvenTransposed(below, skip) if compact else nn.ConvTranspose3d(below, below, 2, 2, bias=False)
                )
            self.up.append(_convolutions((skip + fresh, skip) if compact else (skip + fresh, skip, skip), norm))
            below = skip
        self.head = nn.Conv3d(below, out_channels, 1)
        multiple, reach = 2 ** len(skips), receptive_field(levels, compact=compact, trilinear=up == "trilinear")
        self.multiple = multiple
        self.requirements = Requirements(
            channels=in_channels,
            minimum=4 if side else multiple,
            multiple=multiple,
            classes=names,
            native_size=(side, side, side) if side else None,
            reach=None if norm == "instance" or side else reach,
            tile=max(128, -(-6 * reach // multiple) * multiple),
        )

    def forward(self, volume: Tensor) -> Tensor:
        """Prepared volumes (B, C, X, Y, Z) to logits (B, K, X, Y, Z). Raises InputError for sides that are no multiples."""
        if volume.ndim != 5 or any(length % self.multiple for length in volume.shape[2:]):
            raise InputError(
                f"a volume of shape {tuple(volume.shape)}",
                f"Give (batch, channels, x, y, z), every side a multiple of {self.multiple}; predict() pads volumes",
            )
        x, skips = volume, []
        for level, block in enumerate(self.down):
            x = block(x)
            if self.compact or level < len(self.down) - 1:
                skips.append(x)
                x = self.dropout(F.max_pool3d(x, 2))
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            parts = [enlarge(x), skips.pop()]
            x = self.dropout(block(torch.cat(parts if self.compact else parts[::-1], 1)))
        return self.head(x)  # type: ignore[no-any-return]


def receptive_field(levels: int, *, compact: bool, trilinear: bool) -> int:
    """The distance in voxels from which on nothing changes an output voxel, for the worst place of one on the grid."""
    after = 1 if compact else 2
    last = levels if compact else levels - 1

    def asked(level: int, first: int, final: int) -> tuple[int, int]:
        """What of a level's input is seen by its output from ``first`` to ``final``, both in voxels of that level."""
        if level == last:
            return (first, final) if compact else (first - 2, final + 2)
        first, final = first - after, final + after
        if trilinear:
            lower = (first - 1) // 2, (final - 1) // 2 + 1
        else:
            lower = (first - 1) // 2 if compact else first // 2, final // 2
        below = asked(level + 1, *lower)
        return min(first - 2, 2 * below[0] - 2), max(final + 2, 2 * below[1] + 1 + 2)

    ends = ((place, asked(0, place, place)) for place in range(2**last))
    return max(max(place - first, final - place) for place, (first, final) in ends)


def deepbrain_config() -> dict[str, Any]:
    """The configuration of the network in the package deepbrain 0.1."""
    return {
        "out_channels": 1,
        "form": "compact",
        "width": 8,
        "levels": 3,
        "dropout": 0.3,
        "side": 128,
        "normalise": "maximum",
        "classes": ("background", "brain"),
    }
