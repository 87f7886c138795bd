"""SwinIR: image restoration with Swin Transformer blocks.

Paper: Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV Workshops 2021 (arXiv:2108.10257).
Official code: https://github.com/JingyunLiang/SwinIR (Apache-2.0), whose state-dict keys and numerics are kept here. Its
`attn_mask` and `relative_position_index` follow from the sizes; they are made when needed and kept, not stored.

A convolution makes features, residual groups of Swin Transformer blocks refine them at the same resolution, and a
reconstruction that depends on the purpose makes the image: classical, lightweight or real-world super-resolution,
denoising or the removal of JPEG artefacts (paper, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError
from stzoo.linear import Linear
from stzoo_super_resolution.swinir_published import requirements
from stzoo_super_resolution.swinir_windows import (
    Shifted,
    from_windows,
    mirrored,
    reflected,
    relative_positions,
    shifted_windows,
    to_windows,
)

if TYPE_CHECKING:
    from stzoo.requirements import Requirements

MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K (RGB, values in [0,1]), taken off colour images."""
FEATURES = 64
"""Channels of the reconstruction at full resolution."""
UPSAMPLERS = ("pixelshuffle", "pixelshuffledirect", "nearest+conv", "")
CONNECTIONS = ("1conv", "3conv")
PADDINGS = ("reflect", "script")


# --- blocks ----------------------------------------------------------------------------------------------------------


def learns_on_cpu(bias: Tensor) -> bool:
    """Whether a bias gets gradients where PyTorch's attention has only a slow path for that, with checks."""
    return bias.device.type == "cpu" and torch.is_grad_enabled() and bias.requires_grad


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias for each relative position."""

    def __init__(self, dim: int, window: int, heads: int, qkv_bias: bool, drop: float, attn_drop: float) -> None:
        super().__init__()
        self.window, self.heads, self.attn_drop = window, heads, attn_drop
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, x: Tensor, shifted: Shifted | None) -> Tensor:
        """(B*H*W,C), window by window, to the same; the windows in groups if they are shifted ones."""
        tokens, table = self.window**2, self.relative_position_bias_table
        bias = table.index_select(0, relative_positions(self.window, table.device)).t().reshape(1, -1, tokens, tokens)
        qkv = self.qkv(x).view(-1, tokens, 3, self.heads, x.shape[1] // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.attn_drop if self.training else 0.0
        plain = learns_on_cpu(bias)

        def attend(part: Tensor, bias: Tensor) -> Tensor:
            q, k, v = part
            if plain:
                scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).add_(bias.to(q.dtype))
                out = F.dropout(scores.softmax(-1), drop) @ v
            else:
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=drop)
            return out.transpose(1, 2).reshape(-1, x.shape[1])  # type: ignore[no-any-return]

        if shifted is None:
            out = attend(qkv, bias)
        else:
            groups = zip(qkv.split(shifted.groups, dim=1), shifted.masks, strict=True)
            out = torch.cat([attend(part, bias + mask) for part, mask in groups if part.shape[1]])
        return self.proj_drop(self.proj(out))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with GELU in between."""

    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Swin Transformer block, normalised first."""

    def __init__(self, attn: WindowAttention, mlp: Mlp, drop_path: float) -> None:
        super().__init__()
        dim = attn.proj.out_features
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.drop_path = drop_path

    def forward(self, x: Tensor, batch: int, shifted: Shifted | None) -> Tensor:
        y = self.norm1(x)
        if shifted is None:
            y = self.attn(y, None)
        else:
            y = self.attn(y.index_select(0, shifted.order), shifted).index_select(0, shifted.inverse)
        x = self.add(x, y, batch)
        return self.add(x, self.mlp(self.norm2(x)), batch)

    def add(self, x: Tensor, branch: Tensor, batch: int) -> Tensor:
        """The sum; in training, stochastic depth leaves the branch out for some images and scales it for the rest."""
        if not self.training or self.drop_path == 0.0:
            return x + branch
        keep = 1.0 - self.drop_path
        scale = x.new_empty(batch, 1).bernoulli_(keep).div_(keep)
        return torch.addcmul(x, scale.repeat_interleave(len(x) // batch, dim=0), branch)


class ResidualGroup(nn.Module):
    """The blocks of one group."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


class RSTB(nn.Module):
    """Residual Swin Transformer block: a group of blocks, a convolution, and a shortcut around both."""

    def __init__(self, blocks: Sequence[Block], dim: int, connection: str) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(blocks)
        self.conv = body_convolution(dim, connection)

    def forward(self, x: Tensor, size: tuple[int, int], window: int, shifted: Shifted | None) -> Tensor:
        batch, y = len(x) // math.prod(size), x
        for i, block in enumerate(self.residual_group.blocks):
            y = block(y, batch, shifted if i % 2 else None)
        y = self.conv(from_windows(y, window, size).permute(0, 3, 1, 2))
        return x + to_windows(y.permute(0, 2, 3, 1), window)


def body_convolution(dim: int, connection: str) -> nn.Module:
    """The convolution in front of a shortcut: one, or three that are narrow in between."""
    if connection == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    narrow = dim // 4
    return nn.Sequential(
        nn.Conv2d(dim, narrow, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(narrow, dim, 3, padding=1),
    )


def enlarging(channels: int, scale: int) -> nn.Sequential:
    """Convolutions with pixel shuffles: one for 3, otherwise one for each factor of 2."""
    steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    layers = [(nn.Conv2d(channels, step**2 * channels, 3, padding=1), nn.PixelShuffle(step)) for step in steps]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


def initialise(module: nn.Module) -> None:
    """The official initialisation of linear layers: normal, truncated, standard deviation 0.02; bias 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# --- network ----------------------------------------------------------------------------------------------------------


class SwinIR(nn.Module):
    """SwinIR: an image in, an image `scale` times larger out.

    Args:
        scale: how many times larger the output is; 1 restores (denoising, JPEG artefacts).
        in_chans: channels of the images: 3 for RGB, 1 for grey.
        img_size: (H, W) it was made for. Other sizes work too, except with `ape`.
        window_size: side of the attention's windows in pixels. Where `img_size` is not larger, its shorter side is the
            window, and windows are not shifted.
        depths: Swin Transformer blocks of each residual group.
        embed_dim: channels of the features.
        num_heads: heads of the attention in each residual group.
        mlp_ratio: hidden channels of the MLPs relative to `embed_dim`.
        qkv_bias: whether queries, keys and values have a bias.
        ape: whether a learned embedding of absolute positions is added.
        patch_norm: whether the features are normalised before the first group.
        upsampler: the reconstruction: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight), "nearest+conv"
            (real-world; scale 2 or 4), or "", a residual at scale 1.
        resi_connection: "1conv", or "3conv", which saves parameters.
        img_range: what the values in [0,1] are multiplied by inside.
        drop_rate, attn_drop_rate: dropout after linear layers, and on the attention's weights.
        drop_path_rate: stochastic depth of the last block, linear from 0.
        padding: how images are made multiples of the window: "reflect", as the official network does, or "script": first
            as the official test script does, with which the published numbers were measured (see `script`).

    Raises:
        ConfigError: a value is out of range, or they do not fit together.
    """

    mean: Tensor

    def __init__(
        self,
        scale: int = 2,
        in_chans: int = 3,
        img_size: tuple[int, int] = (64, 64),
        window_size: int = 8,
        depths: Sequence[int] = (6, 6, 6, 6),
        embed_dim: int = 60,
        num_heads: Sequence[int] = (6, 6, 6, 6),
        mlp_ratio: float = 2.0,
        qkv_bias: bool = True,
        ape: bool = False,
        patch_norm: bool = True,
        upsampler: str = "pixelshuffledirect",
        resi_connection: str = "1conv",
        img_range: float = 1.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        padding: str = "reflect",
    ) -> None:
        for name, values in (("depths", depths), ("num_heads", num_heads)):
            if not values or not all(type(value) is int and value > 0 for value in values):
                raise ConfigError(f"{name} must be positive whole numbers, got {tuple(values)}")
        rates = {"drop_rate": drop_rate, "attn_drop_rate": attn_drop_rate, "drop_path_rate": drop_path_rate}
        sizes = {"scale": scale, "in_chans": in_chans, "window_size": window_size, "embed_dim": embed_dim}
        for wrong, problem in (
            *((value < 1, f"{name} must be at least 1, got {value}") for name, value in sizes.items()),
            *(
                (not 0 <= rate < 1, f"{name} must be at least 0 and below 1, got {rate}")
                for name, rate in rates.items()
            ),
            (len(depths) != len(num_heads), f"depths and num_heads differ in length: {depths} and {num_heads}"),
            (any(embed_dim % heads for heads in num_heads), f"embed_dim {embed_dim} is no multiple of {num_heads}"),
            (int(embed_dim * mlp_ratio) < 1, f"mlp_ratio {mlp_ratio} leaves the MLPs no channels"),
            (img_range <= 0, f"img_range must be above 0, got {img_range}"),
            (upsampler not in UPSAMPLERS, f"upsampler must be one of {UPSAMPLERS}, got {upsampler!r}"),
            (resi_connection not in CONNECTIONS, f"resi_connection must be 1conv or 3conv, got {resi_connection!r}"),
            (resi_connection == "3conv" and embed_dim < 4, f"3conv needs an embed_dim of at least 4, got {embed_dim}"),
            (padding not in PADDINGS, f"padding must be reflect or script, got {padding!r}"),
            (upsampler == "" and scale != 1, f"without an upsampler the scale is 1, got {scale}"),
            (upsampler == "nearest+conv" and scale not in (2, 4), f"nearest+conv enlarges 2 or 4 times, got {scale}"),
            (
                upsampler == "pixelshuffle" and scale != 3 and scale & (scale - 1) != 0,
                f"pixelshuffle enlarges 3 times or a power of two, got {scale}",
            ),
        ):
            if wrong:
                raise ConfigError(problem)
        if min(img_size) < 1:
            raise ConfigError(f"img_size must be positive, got {img_size}")
        window = min(window_size, *img_size)
        if any(side % window for side in img_size):
            raise ConfigError(f"img_size must be a multiple of the window, {window}, got {img_size}")
        super().__init__()
        self.scale, self.channels, self.img_size, self.window = scale, in_chans, tuple(img_size), window
        self.config = {"in_chans": in_chans, "img_size": img_size, "scale": scale, "window_size": window_size}
        self.config |= {"ape": ape, "padding": padding}
        self.shifts = min(img_size) > window_size
        self.upsampler, self.img_range, self.padding = upsampler, img_range, padding
        mean = torch.tensor(MEAN if in_chans == 3 else (0.0,)).view(1, -1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = nn.Module()
        self.patch_embed.norm = nn.LayerNorm(embed_dim) if patch_norm else None  # type: ignore[assignment]
        self.absolute_pos_embed = nn.Parameter(torch.empty(1, math.prod(img_size), embed_dim)) if ape else None
        if self.absolute_pos_embed is not None:
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        hidden, last = int(embed_dim * mlp_ratio), max(1, sum(depths) - 1)
        self.layers = nn.ModuleList()
        for group, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            first = sum(depths[:group])
            blocks = [
                Block(
                    WindowAttention(embed_dim, window, heads, qkv_bias, drop_rate, attn_drop_rate),
                    Mlp(embed_dim, hidden, drop_rate),
                    drop_path_rate * (first + i) / last,
                )
                for i in range(depth)
            ]
            self.layers.append(RSTB(blocks, embed_dim, resi_connection))
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = body_convolution(embed_dim, resi_connection)

        if upsampler in ("pixelshuffle", "nearest+conv"):
            self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed_dim, FEATURES, 3, padding=1), nn.LeakyReLU())
        if upsampler == "pixelshuffle":
            self.upsample = enlarging(FEATURES, scale)
        elif upsampler == "pixelshuffledirect":
            narrow = nn.Conv2d(embed_dim, scale**2 * in_chans, 3, padding=1)
            self.upsample = nn.Sequential(narrow, nn.PixelShuffle(scale))
        elif upsampler == "nearest+conv":
            for name in ("conv_up1", "conv_up2", "conv_hr") if scale == 4 else ("conv_up1", "conv_hr"):
                self.add_module(name, nn.Conv2d(FEATURES, FEATURES, 3, padding=1))
        if upsampler != "pixelshuffledirect":
            self.conv_last = nn.Conv2d(embed_dim if upsampler == "" else FEATURES, in_chans, 3, padding=1)
        self.apply(initialise)

    @property
    def requirements(self) -> Requirements:
        """Channels the network takes, the size it was made for, and how larger pictures are cut."""
        from stzoo.requirements import Requirements

        return Requirements(**requirements(self.config))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge or restore images.

        Args:
            x: (B,C,H,W), values in [0,1]; any height and width, except with `ape`.

        Returns:
            (B,C,H*scale,W*scale), not clipped to [0,1].

        Raises:
            InputError: shape or precision do not fit.
        """
        if self.padding == "script":
            return self.script(x)
        height, width = self.check(x)
        return self.restore(reflected(x, self.window))[..., : height * self.scale, : width * self.scale]

    def script(self, x: Tensor, tile: int | None = None, overlap: int = 32) -> Tensor:
        """What the official test script (main_test_swinir.py) makes of images.

        It adds up to a whole window below and to the right, mirrored with the edge pixel repeated, even where nothing is
        missing. With `tile` (its ``--tile``) it restores overlapping squares of that many pixels and averages them.

        Args:
            x: as for `forward`.
            tile: side of the squares, a multiple of the window, cut to the padded image; None: the whole image at once.
            overlap: pixels that neighbouring squares share, at least 0 and fewer than `tile`.

        Returns:
            As `forward`.

        Raises:
            InputError: shape or precision do not fit, or `tile` and `overlap` do not.
        """
        height, width = self.check(x)
        window, scale = self.window, self.scale
        x = mirrored(x, (height // window + 1) * window, (width // window + 1) * window)
        if tile is None:
            out = self.restore(x)
        else:
            tile = min(tile, *x.shape[-2:])
            if tile < 1 or tile % window or not 0 <= overlap < tile:
                raise InputError(
                    f"tiles of {tile} pixels that overlap by {overlap} cannot be used",
                    f"A tile is a multiple of {window} pixels, and the overlap smaller",
                )
            out = x.new_zeros(*x.shape[:2], x.shape[2] * scale, x.shape[3] * scale)
            count = torch.zeros_like(out[:1, :1])
            rows, columns = ([*range(0, side - tile, tile - overlap), side - tile] for side in x.shape[-2:])
            for top in rows:
                for left in columns:
                    down, across = (slice(place * scale, (place + tile) * scale) for place in (top, left))
                    out[..., down, across] += self.restore(x[..., top : top + tile, left : left + tile])
                    count[..., down, across] += 1
            out /= count
        return out[..., : height * scale, : width * scale]

    def check(self, x: Tensor) -> tuple[int, int]:
        """Height and width of images that can be restored; raises InputError for others."""
        if x.ndim != 4 or x.shape[1] != self.channels or not x.numel():
            raise InputError(f"expected (batch, {self.channels} channels, height, width), got {tuple(x.shape)}")
        if x.dtype == torch.float16 or (
            torch.is_autocast_enabled(x.device.type) and torch.get_autocast_dtype(x.device.type) == torch.float16
        ):
            raise InputError("SwinIR's activations exceed float16 on some images", "Use bfloat16 or float32")
        return x.shape[2], x.shape[3]

    def restore(self, x: Tensor) -> Tensor:
        """(B,C,H,W) to (B,C,H*scale,W*scale), for heights and widths that are multiples of the window."""
        mean = self.mean.to(x.dtype)
        x = (x - mean) * self.img_range
        # CPU kernels are faster on channels_last, which is also how tokens lie.
        first = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        y = self.conv_after_body(self.features(first)) + first
        if self.upsampler == "":
            y = x + self.conv_last(y)
        elif self.upsampler == "pixelshuffledirect":
            y = self.upsample(y)
        elif self.upsampler == "pixelshuffle":
            y = self.conv_last(self.upsample(self.conv_before_upsample(y)))
        else:
            y = self.conv_before_upsample(y)
            for conv in (self.conv_up1, self.conv_up2) if self.scale == 4 else (self.conv_up1,):
                y = F.leaky_relu(conv(F.interpolate(y, scale_factor=2.0, mode="nearest")), 0.2)  # type: ignore[operator]
            y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.2))  # type: ignore[operator]
        return (y / self.img_range + mean).contiguous()  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Tensor:
        """(B,C,H,W), the deep features of shallow ones."""
        size = (x.shape[2], x.shape[3])
        tokens = to_windows(x.permute(0, 2, 3, 1), self.window)
        if self.patch_embed.norm is not None:
            tokens = self.patch_embed.norm(tokens)  # type: ignore[operator]
        if self.absolute_pos_embed is not None:
            if size != self.img_size:
                raise InputError(
                    f"a network with absolute positions takes {self.img_size[1]}x{self.img_size[0]} pixels, "
                    f"got {size[1]}x{size[0]} (padded)"
                )
            embed = to_windows(self.absolute_pos_embed.view(1, *size, -1), self.window)
            tokens = (tokens.view(len(x), *embed.shape) + embed).flatten(0, 1)
        shifted = shifted_windows(len(x), size, self.window, x.device) if self.shifts else None
        for layer in self.layers:
            tokens = layer(tokens, size, self.window, shifted)
        return from_windows(self.norm(tokens), self.window, size).permute(0, 3, 1, 2)
