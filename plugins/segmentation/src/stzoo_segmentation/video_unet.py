"""A space-time U-Net that segments clips: the blocks of :mod:`stzoo_segmentation.stunet`, without times of diffusion.

Each frame goes through a U-Net; in the middle, or at every level, frames attend to those near them; at the end, their features
are mixed over time ("late fusion"). No published network is the same: there are no numbers of others to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError, InputError
from stzoo_segmentation.stunet import FrameConv, Levels, ResnetBlock, unflattened
from stzoo_segmentation.unet import check_classes, prepared


class Fusion(nn.Module):
    """What frames near each other add to each other's features: a convolution over time alone."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.mix = nn.Conv3d(channels, channels, (2 * reach + 1, 1, 1), padding=(reach, 0, 0))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """(B*T,C,H,W)."""
        clips = unflattened(x, 0, (-1, frames)).transpose(1, 2)
        return x + F.silu(self.mix(clips)).transpose(1, 2).flatten(0, 1)


class SpatioTemporalUNet(Levels):
    """Clips in, logits for each frame out.

    Args:
        in_channels: of the clips.
        out_channels: one per class, or 1 for two classes.
        dim: channels of the first level.
        dim_mults: channels of each level over ``dim``; each after the first has half the height and width.
        attn_heads, attn_dim_head: of the attention over time.
        init_kernel_size: kernel of the first convolution.
        patch: height and width of the blocks of pixels that become channels first; logits are enlarged again.
        attention: "none", or "frame": places attend to all of their frame too, so that frames cannot be cut into tiles.
        temporal: "middle" or "everywhere": where frames attend to others.
        span: how many frames before and after them.
        fusion: how many frames before and after are mixed at the end; 0: none.
        classes: names of the classes, by number.
        preparation: ``normalise``, ``mean``, ``std``, ``scale`` of :class:`stzoo_segmentation.pipeline.Preparation`.

    Raises:
        ConfigError: a value is none of these, or values do not go together.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        dim: int = 16,
        dim_mults: tuple[int, ...] = (1, 2, 4),
        attn_heads: int = 2,
        attn_dim_head: int = 32,
        init_kernel_size: int = 3,
        patch: int = 2,
        attention: str = "none",
        temporal: str = "middle",
        span: int = 4,
        fusion: int = 1,
        classes: Sequence[str] = (),
        **preparation: Any,
    ) -> None:
        for name, value, known in (
            ("attention", attention, ("none", "frame")),
            ("temporal", temporal, ("middle", "everywhere")),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")
        if min(out_channels, patch, span) < 1 or fusion < 0:
            raise ConfigError("out_channels, patch and span must be at least 1, and fusion at least 0")
        check_classes(classes, out_channels)
        everywhere, within = temporal == "everywhere", attention == "frame"
        super().__init__(
            in_channels * patch**2,
            dim,
            tuple(dim_mults),
            dim,
            attn_heads,
            attn_dim_head,
            init_kernel_size,
            None,
            linear=within,
            temporal=everywhere,
            middle=within,
        )
        self.preparation = prepared(preparation, in_channels)
        self.in_channels, self.patch, self.span = in_channels, patch, span
        self.final = ResnetBlock(2 * dim, dim, None)
        self.fusion = Fusion(dim, fusion) if fusion else None
        self.head = FrameConv(dim, out_channels, 1)
        levels = len(dim_mults)
        reach = patch * receptive_field(levels, init_kernel_size) if not within else None
        multiple = patch * self.multiple
        self.requirements = Requirements(
            channels=in_channels,
            multiple=multiple,
            classes=tuple(classes),
            reach=reach,
            tile=max(1024, 6 * (reach or 0)),
            reach_frames=span * (2 * levels + 2 if everywhere else 1) + fusion,
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (B,T,out_channels,H,W) of prepared clips (B,T,in_channels,H,W) of any length.

        Raises:
            InputError: another number of channels, or a height or width that is no multiple of the requirements'.
        """
        multiple = self.patch * self.multiple
        if clips.ndim != 5 or clips.shape[2] != self.in_channels:
            raise InputError(
                f"expected clips (batch, frames, {self.in_channels} channels, height, width), got {tuple(clips.shape)}"
            )
        if any(side % multiple for side in clips.shape[-2:]):
            raise InputError(
                f"frames of {clips.shape[-1]}x{clips.shape[-2]} pixels: both must be multiples of {multiple}",
                "Pad or resize them; a predictor does",
            )
        frames = clips.shape[1]
        places = torch.arange(frames, device=clips.device)
        far = (places[:, None] - places).abs() > self.span
        bias = self.time_rel_pos_bias(frames).masked_fill(far, float("-inf"))
        x = self.final(self.features(F.pixel_unshuffle(clips, self.patch).transpose(1, 2), None, bias, None))
        if self.fusion is not None:
            x = self.fusion(x, frames)
        logits = self.head(x)
        if self.patch > 1:
            logits = F.interpolate(logits, scale_factor=self.patch, mode="bilinear")
        return unflattened(logits, 0, (-1, frames))


def receptive_field(levels: int, kernel: int) -> int:
    """How far away, in places of the first level, anything can be that a logit depends on, where nothing attends within frames."""
    blocks = sum(2 * 4 << level for level in range(levels)) + (4 << (levels - 1))
    steps = sum(4 << level for level in range(levels - 1))
    return (kernel - 1) // 2 + blocks + steps + 2 + 1
