"""The space-time U-Net: convolutions within frames, attention within frames, attention over time.

Paper: Ho et al., "Video Diffusion Models", 2022 (arXiv:2204.03458), section 3. :class:`Unet3D`, its denoiser, takes, returns and
names what that of https://github.com/lucidrains/video-diffusion-pytorch (MIT; 0.7.0) does. :class:`SpatioTemporalUNet` segments
clips with the same blocks; there is no published network that it is the same as.

Inside, the frames of all clips of a batch are pictures (B*T,C,H,W), stored channels last: convolutions are two-dimensional
and norms and projections work on rows of memory. Only attention over time brings frames together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError

BUCKETS, FARTHEST = 32, 32
"""Of the relative positions in time: how many are told apart, and from how many frames on all are alike."""
ROTARY_BASE = 10_000.0
_FEATURES_PER_HEAD = 32
"""Of the attentions within frames, whatever ``attn_dim_head``."""


# --- layers on pictures (N, C, H, W), channels last -------------------------------------------------------------------


def unflattened(x: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """``x.unflatten``, which PyTorch gives no types."""
    found: Tensor = x.unflatten(axis, sizes)  # type: ignore[no-untyped-call]
    return found


class FrameConv(nn.Conv3d):
    """A convolution with a kernel of one frame, of pictures."""

    def __init__(self, source: int, target: int, kernel: int, stride: int = 1) -> None:
        padding = (kernel - 1) // 2
        super().__init__(source, target, (1, kernel, kernel), (1, stride, stride), (0, padding, padding))

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight[:, :, 0], self.bias, self.stride[1:], self.padding[1:])


class FrameUp(nn.ConvTranspose3d):
    """Pictures twice as high and wide, by a transposed convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (1, 4, 4), (1, 2, 2), (0, 1, 1))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(input, self.weight[:, :, 0], self.bias, stride=2, padding=1)


class RMSNorm(nn.Module):
    """Each pixel's features over their root mean square, times ``gamma`` (C,1,1,1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gamma.flatten().to(x.dtype)
        return F.rms_norm(x.permute(0, 2, 3, 1), gain.shape, gain, 1e-24).permute(0, 3, 1, 2)


class LayerNorm(nn.Module):
    """Each pixel's features less their mean, over their standard deviation, times ``gamma`` (1,C,1,1,1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gamma.flatten().to(x.dtype)
        return F.layer_norm(x.permute(0, 2, 3, 1), gain.shape, gain, None, 1e-5).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A convolution, a norm, a shift by what conditions it, SiLU."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.proj = FrameConv(source, target, 3)
        self.norm = RMSNorm(target)

    def forward(self, x: Tensor, condition: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if condition is not None:
            x = torch.addcmul(condition[1], x, condition[0] + 1)
        return F.silu(x)


class ResnetBlock(nn.Module):
    """Two blocks and a shortcut; the first one is scaled and shifted by an embedding, if there is one."""

    def __init__(self, source: int, target: int, embedding: int | None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * target)) if embedding else None
        self.block1 = Block(source, target)
        self.block2 = Block(target, target)
        self.res_conv = FrameConv(source, target, 1) if source != target else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """(B*T,C,H,W) and (B,E)."""
        condition = None
        if self.mlp is not None and embedding is not None:
            pairs = self.mlp(embedding).repeat_interleave(len(x) // len(embedding), 0)[:, :, None, None]
            scale, shift = pairs.chunk(2, 1)
            condition = scale, shift
        return self.block2(self.block1(x, condition)) + self.res_conv(x)  # type: ignore[no-any-return]


# --- attention --------------------------------------------------------------------------------------------------------


class RelativePositionBias(nn.Module):
    """How much attention frames pay each other for how far they are apart: T5's buckets, both directions."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BUCKETS, heads)
        self._buckets: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, frames: int) -> Tensor:
        """(heads, frames, frames): what is added before the softmax, by query and key."""
        table = self.relative_attention_bias.weight
        key = (frames, table.device)
        if key not in self._buckets:
            with torch.inference_mode(False):
                self._buckets = {key: buckets(frames).to(table.device)}
        return table[self._buckets[key]].permute(2, 0, 1)


def buckets(frames: int) -> Tensor:
    """For each query and key, (frames, frames) int64, the bucket of their distance (Raffel et al., arXiv:1910.10683).

    The first half is of keys before the query, the second of those after it; of each, half are of one distance each and
    the others, which grow with it, reach :data:`FARTHEST`.
    """
    places = torch.arange(frames)
    back = places[:, None] - places
    distance, half = back.abs(), BUCKETS // 2
    exact = half // 2
    growing = (distance.clamp(min=1).float() / exact).log() / math.log(FARTHEST / exact) * (half - exact)
    far = (exact + growing.long()).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + half * (back < 0)


def rotated(x: Tensor, features: int) -> Tensor:
    """Rotary positions (Su et al., arXiv:2104.09864): of (..., T, D) the first ``features``, as neighbouring pairs, are turned."""
    pairs = torch.arange(0, x.shape[-1], 2, device=x.device)
    rates = torch.where(pairs < features, ROTARY_BASE ** -(pairs / features), 0.0)
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * rates
    turned = torch.view_as_complex(unflattened(x.float(), -1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """The projections of an attention with several heads."""

    def __init__(self, channels: int, heads: int, features: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * heads * features, bias=False)
        self.to_out = nn.Linear(heads * features, channels, bias=False)


class AcrossTime(nn.Module):
    """Every place attends to itself in other frames."""

    def __init__(self, channels: int, heads: int, features: int) -> None:
        super().__init__()
        self.fn = Attention(channels, heads, features)
        self.rotary = min(features, 32)

    def forward(self, x: Tensor, frames: int, bias: Tensor, focus: Tensor | None = None) -> Tensor:
        """(B*T,C,H,W), with ``bias`` (heads,T,T); clips for which ``focus`` (B,) is true attend to their own frame only."""
        height, width = x.shape[-2:]
        rows = x.permute(0, 2, 3, 1).view(-1, frames, height * width, x.shape[1])
        qkv = unflattened(self.fn.to_qkv(rows), -1, (3, self.fn.heads, -1))
        qkv = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (3, B*H*W, heads, T, D)
        (q, k), v = rotated(qkv[:2], self.rotary), qkv[2]
        found = unflattened(
            F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype)), 0, (len(rows), -1)
        )
        if focus is not None:
            found = torch.where(focus[:, None, None, None, None], unflattened(v, 0, (len(rows), -1)), found)
        out = self.fn.to_out(found.permute(0, 3, 1, 2, 4).flatten(-2))
        return out.view(len(x), height, width, -1).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class AcrossSpace(nn.Module):
    """Every place attends to all of its frame."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.fn = Attention(channels, heads, _FEATURES_PER_HEAD)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W)."""
        qkv = unflattened(self.fn.to_qkv(x.permute(0, 2, 3, 1).flatten(1, 2)), -1, (3, self.fn.heads, -1))
        found = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        out = self.fn.to_out(found.transpose(1, 2).flatten(-2))
        return unflattened(out, 1, x.shape[-2:]).permute(0, 3, 1, 2)


class SpatialLinearAttention(nn.Module):
    """Attention within a frame at a cost that grows with its pixels, not their square (Shen et al., arXiv:1812.01243)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(channels, 3 * heads * _FEATURES_PER_HEAD, 1, bias=False)
        self.to_out = nn.Conv2d(heads * _FEATURES_PER_HEAD, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W)."""
        rows = F.linear(x.permute(0, 2, 3, 1).flatten(1, 2), self.to_qkv.weight.flatten(1))
        q, k, v = unflattened(rows, -1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, H*W, D)
        context = k.softmax(-2).transpose(-2, -1) @ v
        found = (q.softmax(-1) @ context) * q.shape[-1] ** -0.5
        out = F.linear(found.transpose(1, 2).flatten(-2), self.to_out.weight.flatten(1), self.to_out.bias)
        return unflattened(out, 1, x.shape[-2:]).permute(0, 3, 1, 2)


class _PreNorm(nn.Module):
    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.fn = layer
        self.norm = LayerNorm(channels)


class Residual(nn.Module):
    """A layer of what is normed, added to what is not."""

    def __init__(self, channels: int, layer: nn.Module) -> None:
        super().__init__()
        self.fn = _PreNorm(channels, layer)

    def forward(self, x: Tensor, *further: Any) -> Tensor:
        return x + self.fn.fn(self.fn.norm(x), *further)  # type: ignore[no-any-return]


# --- networks ---------------------------------------------------------------------------------------------------------


class Levels(nn.Module):
    """Down and up again, with what both networks have in common."""

    def __init__(
        self,
        channels: int,
        width: int,
        mults: tuple[int, ...],
        base: int,
        heads: int,
        features: int,
        kernel: int,
        embedding: int | None,
        linear: bool,
        temporal: bool = True,
        middle: bool = True,
    ) -> None:
        for wrong, problem in (
            (not mults or min(mults) < 1, f"dim_mults must be positive whole numbers, got {mults}"),
            (min(channels, width, base) < 1, f"channels and dim must be at least 1, got {channels} and {base}"),
            (heads < 1, f"attn_heads must be at least 1, got {heads}"),
            (features < 2 or features % 2 > 0, f"attn_dim_head must be even and at least 2, got {features}"),
            (kernel < 1 or kernel % 2 == 0, f"init_kernel_size must be odd, got {kernel}"),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.channels = channels
        self.multiple = 2 ** (len(mults) - 1)
        self.time_rel_pos_bias = RelativePositionBias(heads)
        self.init_conv = FrameConv(channels, width, kernel)

        def over_time(dim: int, wanted: bool = temporal) -> nn.Module:
            return Residual(dim, AcrossTime(dim, heads, features)) if wanted else nn.Identity()

        def within(dim: int) -> nn.Module:
            return Residual(dim, SpatialLinearAttention(dim, heads)) if linear else nn.Identity()

        self.init_temporal_attn = over_time(width)
        sizes = [width, *(base * mult for mult in mults)]
        pairs = list(itertools.pairwise(sizes))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, (source, target) in enumerate(pairs):
            last = level == len(pairs) - 1
            blocks = ResnetBlock(source, target, embedding), ResnetBlock(target, target, embedding)
            down = nn.Identity() if last else FrameConv(target, target, 4, 2)
            self.downs.append(nn.ModuleList((*blocks, within(target), over_time(target), down)))
        deepest = sizes[-1]
        self.mid_block1 = ResnetBlock(deepest, deepest, embedding)
        self.mid_spatial_attn = Residual(deepest, AcrossSpace(deepest, heads)) if middle else nn.Identity()
        self.mid_temporal_attn = over_time(deepest, True)
        self.mid_block2 = ResnetBlock(deepest, deepest, embedding)
        for level, (source, target) in reversed(list(enumerate(pairs))):
            blocks = ResnetBlock(2 * target, source, embedding), ResnetBlock(source, source, embedding)
            up = FrameUp(source) if level else nn.Identity()
            self.ups.append(nn.ModuleList((*blocks, within(source), over_time(source), up)))

    def features(self, x: Tensor, embedding: Tensor | None, bias: Tensor, focus: Tensor | None) -> Tensor:
        """Clips (B,C,T,H,W) to the features (B*T,D,H,W) before the last convolutions: those after all levels, and the first ones.

        Raises:
            InputError: the clips have another number of channels, or a height or width that the levels do not divide.
        """
        height, width = x.shape[-2:]
        if x.ndim != 5 or x.shape[1] != self.channels:
            raise InputError(
                f"expected clips (batch, {self.channels} channels, frames, height, width), got {tuple(x.shape)}"
            )
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"frames of {width}x{height} pixels: both must be multiples of {self.multiple}", "Pad or resize them"
            )
        frames = x.shape[2]

        def over_time(layer: nn.Module, x: Tensor, focus: Tensor | None) -> Tensor:
            return layer(x) if isinstance(layer, nn.Identity) else layer(x, frames, bias, focus)  # type: ignore[no-any-return]

        x = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = over_time(self.init_temporal_attn, self.init_conv(x), None)
        first, kept = x, []
        for block1, block2, within, temporal, down in _layers(self.downs):
            x = over_time(temporal, within(block2(block1(x, embedding), embedding)), focus)
            kept.append(x)
            x = down(x)
        x = self.mid_spatial_attn(self.mid_block1(x, embedding))
        x = self.mid_block2(over_time(self.mid_temporal_attn, x, focus), embedding)
        for block1, block2, within, temporal, up in _layers(self.ups):
            x = torch.cat((x, kept.pop()), dim=1)
            x = up(over_time(temporal, within(block2(block1(x, embedding), embedding)), focus))
        return torch.cat((x, first), dim=1)


def _layers(levels: nn.ModuleList) -> Iterator[tuple[nn.Module, ...]]:
    """Two blocks, attention within frames, attention over time, and the way to the next level; of each level."""
    return (tuple(cast(nn.ModuleList, level)) for level in levels)


class SinusoidalPosEmb(nn.Module):
    """Times (B,) as sines and cosines of falling rates, (B,dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, time: Tensor) -> Tensor:
        half = self.dim // 2
        rates = torch.exp(torch.arange(half, device=time.device) * (-math.log(10_000) / (half - 1)))
        angles = time[:, None].float() * rates
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class Unet3D(Levels):
    """The denoiser of video diffusion: noisy clips and times in, the noise out.

    Args:
        dim: channels of the first level; even, at least 4.
        cond_dim: numbers in a condition, such as the embedding of a text (768 for BERT's); None: there is none.
        out_dim: channels that come out; default: as many as go in.
        dim_mults: channels of each level over ``dim``; each after the first has half the height and width.
        channels: of the clips.
        attn_heads, attn_dim_head: of the attention over time; attentions within frames have 32 features a head.
        init_dim: channels of the first convolution; default ``dim``.
        init_kernel_size: its kernel.
        use_sparse_linear_attn: whether there is linear attention within frames at every level.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        dim: int,
        cond_dim: int | None = None,
        out_dim: int | None = None,
        dim_mults: tuple[int, ...] = (1, 2, 4, 8),
        channels: int = 3,
        attn_heads: int = 8,
        attn_dim_head: int = 32,
        init_dim: int | None = None,
        init_kernel_size: int = 7,
        use_sparse_linear_attn: bool = True,
    ) -> None:
        if dim < 4 or dim % 2:
            raise ConfigError(f"dim must be even and at least 4, got {dim}")
        width, time_dim = init_dim or dim, 4 * dim
        super().__init__(
            channels,
            width,
            tuple(dim_mults),
            dim,
            attn_heads,
            attn_dim_head,
            init_kernel_size,
            time_dim + (cond_dim or 0),
            use_sparse_linear_attn,
        )
        self.cond_dim = cond_dim
        if cond_dim:
            self.null_cond_emb = nn.Parameter(torch.randn(1, cond_dim))
        self.time_mlp = nn.Sequential(
            SinusoidalPosEmb(dim), nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim)
        )
        self.final_conv = nn.Sequential(ResnetBlock(2 * width, dim, None), FrameConv(dim, out_dim or channels, 1))

    @property
    def has_cond(self) -> bool:
        """Whether it takes a condition."""
        return bool(self.cond_dim)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        cond: Tensor | None = None,
        null_cond_prob: float = 0.0,
        focus_present_mask: Tensor | None = None,
        prob_focus_present: float = 0.0,
    ) -> Tensor:
        """The noise in noisy clips.

        Args:
            x: (B,C,T,H,W), about -1 to 1 without the noise.
            time: (B,), from 0.
            cond: (B,cond_dim), where the network has conditions.
            null_cond_prob: the probability with which a clip's condition is replaced by the learned one for "none".
            focus_present_mask: (B,), true for clips whose frames are to know nothing of each other.
            prob_focus_present: without it, the probability with which it is true (joint training on pictures).

        Returns:
            (B,out_dim,T,H,W).

        Raises:
            InputError: clips of other channels, or sizes that are no multiples; a condition is missing, too much, or of
                another length.
        """
        batch, frames = len(x), x.shape[2] if x.ndim == 5 else 0
        if focus_present_mask is None and prob_focus_present:
            focus_present_mask = torch.rand(batch, device=x.device) < prob_focus_present
        # the angles of times need float32, whatever the weights are
        embedding = self.time_mlp[0](time).to(self.time_mlp[1].weight.dtype)
        embedding = self.time_mlp[1:](embedding)
        if (cond is None) == self.has_cond:
            raise InputError(
                "this network was made for conditions, and none is given"
                if self.has_cond
                else "a condition for a network that takes none",
                f"Give cond=(batch, {self.cond_dim})" if self.has_cond else "Leave it out",
            )
        if cond is not None:
            if cond.shape != (batch, self.cond_dim):
                raise InputError(f"a condition of shape {tuple(cond.shape)}, not ({batch}, {self.cond_dim})")
            none = torch.rand(batch, 1, device=x.device) < null_cond_prob
            embedding = torch.cat((embedding, torch.where(none, self.null_cond_emb, cond.to(embedding))), dim=-1)
        found = self.final_conv(self.features(x, embedding, self.time_rel_pos_bias(frames), focus_present_mask))
        return unflattened(found, 0, (batch, frames)).transpose(1, 2)

    def forward_with_cond_scale(self, *args: Any, cond_scale: float = 2.0, **keywords: Any) -> Tensor:
        """:meth:`forward` with guidance: what a condition changes, ``cond_scale`` times (Ho and Salimans, arXiv:2207.12598)."""
        with_it = self(*args, null_cond_prob=0.0, **keywords)
        if cond_scale == 1 or not self.has_cond:
            return with_it  # type: ignore[no-any-return]
        without = self(*args, null_cond_prob=1.0, **keywords)
        return without + (with_it - without) * cond_scale  # type: ignore[no-any-return]
