"""SimVP: simpler yet better video prediction.

Papers: Gao et al., "SimVP: Simpler yet Better Video Prediction", CVPR 2022 (arXiv:2206.05099), the IncepU
translator; Tan et al., "SimVP: Towards Simple yet Powerful Spatiotemporal Predictive Learning", 2022
(arXiv:2211.12509), the gSTA translator.
Official code: https://github.com/chengtan9907/OpenSTL (Apache-2.0), whose state-dict keys, configuration
names and numerics are kept here.

A convolutional encoder works on each frame, a translator mixes the frames, which are stacked as
channels, and a decoder works on each frame again, with a skip from the first encoder layer.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError

if TYPE_CHECKING:
    from stzoo.spec import Requirements


# ------------------------------------------------------------------ encoder and decoder blocks


class ConvSC(nn.Module):
    """Convolution, GroupNorm over 2 groups, SiLU; halves (stride 2) or doubles (pixel shuffle) the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        down: bool = False,
        up: bool = False,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(
            in_channels,
            out_channels * 4 if up else out_channels,
            kernel,
            stride=2 if down else 1,
            padding=kernel // 2,
        )
        nn.init.trunc_normal_(conv.weight, std=0.02)
        nn.init.zeros_(conv.bias)
        self.conv = nn.Sequential(
            OrderedDict(
                conv=nn.Sequential(conv, nn.PixelShuffle(2)) if up else conv,
                norm=nn.GroupNorm(2, out_channels),
                act=nn.SiLU(),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Encoder(nn.Module):
    """(N,C,H,W) -> the latent (N,hid_S,H/2^(N_S/2),W/2^(N_S/2)) and the first layer's output (N,hid_S,H,W)."""

    def __init__(self, in_channels: int, hid_S: int, N_S: int, kernel: int) -> None:
        super().__init__()
        self.enc = nn.Sequential(
            *(
                ConvSC(hid_S if i else in_channels, hid_S, kernel, down=i % 2 == 1)
                for i in range(N_S)
            )
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.enc[0](x)
        return self.enc[1:](skip), skip


class Decoder(nn.Module):
    """The encoder mirrored; the skip is added in front of the last layer. No output activation."""

    def __init__(self, hid_S: int, out_channels: int, N_S: int, kernel: int) -> None:
        super().__init__()
        self.dec = nn.Sequential(
            *(ConvSC(hid_S, hid_S, kernel, up=i % 2 == 0) for i in range(N_S))
        )
        self.readout = nn.Conv2d(hid_S, out_channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.readout(self.dec[-1](self.dec[:-1](x) + skip))


# ------------------------------------------------------------------ translator: gSTA


class DropPath(nn.Module):
    """Stochastic depth: in training, drops the branch per sample with probability `p`, scaling the kept."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        keep = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1.0 - self.p).div_(1.0 - self.p)
        return x * keep


class GatedLargeKernel(nn.Module):
    """Large-kernel attention, depthwise 5x5 then dilated 7x7 (21x21 together), as a gate on its own features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, 2 * dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        features, gate = self.conv1(self.conv_spatial(self.conv0(x))).chunk(2, dim=1)
        return torch.sigmoid(gate) * features


class Attention(nn.Module):
    """1x1 convolution, GELU, a spatial gating unit, 1x1 convolution, and a shortcut."""

    def __init__(self, dim: int, gating: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.spatial_gating_unit = gating(dim)
        self.proj_2 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x)


class MixMlp(nn.Module):
    """Two 1x1 convolutions with a depthwise one and GELU in between."""

    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.dwconv = DepthwiseConv(hidden)
        self.fc2 = nn.Conv2d(hidden, dim, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(F.gelu(self.dwconv(self.fc1(x))))
        return self.drop(self.fc2(x))


class MetaBlock(nn.Module):
    """x + attention, then + MLP, each normalised first and scaled per channel (paper 2, section 3.3)."""

    def __init__(
        self,
        dim: int,
        attention: nn.Module,
        mlp_ratio: float,
        drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = attention
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = MixMlp(dim, int(dim * mlp_ratio), drop)
        self.mlp.apply(init_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        scale_1 = self.layer_scale_1[:, None, None]
        scale_2 = self.layer_scale_2[:, None, None]
        x = x + self.drop_path(scale_1 * self.attn(self.norm1(x)))
        return x + self.drop_path(scale_2 * self.mlp(self.norm2(x)))


def init_fan_out(module: nn.Module) -> None:
    """Official initialisation of the translator's convolutions: normal, variance 2 / fan-out, bias 0."""
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(module.bias)


def gsta_attention(dim: int) -> nn.Module:
    attention = Attention(dim, GatedLargeKernel)
    attention.apply(init_fan_out)
    return attention


class Stage(nn.Module):
    """A MetaBlock and, where the width changes, a 1x1 convolution (`reduction`)."""

    def __init__(self, block: nn.Module, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = block
        if in_channels != out_channels:
            self.reduction = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return self.reduction(x) if hasattr(self, "reduction") else x


class MetaTranslator(nn.Module):
    """N_T blocks: the first at T*hid_S channels, the others at hid_T, the last one projecting back."""

    def __init__(
        self,
        channels: int,
        hid_T: int,
        N_T: int,
        attention: Callable[[int], nn.Module],
        mlp_ratio: float,
        drop: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        # The official schedule starts at 0.01 whatever drop_path is, and ends at drop_path.
        rates = torch.linspace(1e-2, drop_path, N_T, device="cpu").tolist()
        widths = [channels] + [hid_T] * (N_T - 1) + [channels]
        self.enc = nn.Sequential(
            *(
                Stage(
                    MetaBlock(width, attention(width), mlp_ratio, drop, rate), width, next_width
                )
                for width, next_width, rate in zip(widths, widths[1:], rates, strict=False)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.enc(x)


# ------------------------------------------------------------------ translator: IncepU


class GroupConv(nn.Module):
    """Grouped convolution, GroupNorm over the same groups, LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, groups=groups
        )
        self.norm = nn.GroupNorm(groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class Inception(nn.Module):
    """1x1 convolution, then the sum of grouped convolutions with kernels 3, 5, 7 and 11."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        groups = incep_groups(hidden)
        self.conv1 = nn.Conv2d(in_channels, hidden, 1)
        self.layers = nn.ModuleList(
            GroupConv(hidden, out_channels, kernel, groups) for kernel in (3, 5, 7, 11)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        first, *others = self.layers
        y = first(x)
        for layer in others:
            y = y + layer(x)
        return y


def incep_groups(hidden: int) -> int:
    """8 groups where they divide the hidden width, otherwise none."""
    return 8 if hidden % 8 == 0 else 1


class IncepTranslator(nn.Module):
    """A U-Net without scales: N_T Inception blocks down, N_T up, skips concatenated."""

    def __init__(self, channels: int, hid_T: int, N_T: int) -> None:
        super().__init__()
        hidden = hid_T // 2
        self.enc = nn.ModuleList(
            Inception(hid_T if i else channels, hidden, hid_T) for i in range(N_T)
        )
        self.dec = nn.ModuleList(
            Inception(
                2 * hid_T if i else hid_T, hidden, channels if i == N_T - 1 else hid_T
            )
            for i in range(N_T)
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.enc:
            x = block(x)
            skips.append(x)
        skips.pop()
        x = self.dec[0](x)
        for block in self.dec[1:]:
            x = block(torch.cat((x, skips.pop()), dim=1))
        return x


# ------------------------------------------------------------------ network


class SimVP(nn.Module):
    """SimVP: frames in, the same number of following frames out.

    Args:
        in_shape: (T, C, H, W) of the input. T and C are built in; H and W are only the native size.
        hid_S: channels of encoder and decoder, per frame.
        hid_T: channels of the translator.
        N_S: layers of the encoder, and of the decoder; every second one changes the size by 2.
        N_T: blocks of the translator (for IncepU, of each of its halves).
        model_type: the translator, "gsta" or "incepu".
        mlp_ratio: hidden width of the translator's MLPs relative to its channels (gSTA).
        drop: dropout in the MLPs (gSTA).
        drop_path: stochastic depth at the last block (gSTA); the first block has 0.01, between is linear.
        spatio_kernel_enc, spatio_kernel_dec: kernel sizes of encoder and decoder, odd.

    Raises:
        ConfigError: the values do not fit together.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        hid_S: int = 16,
        hid_T: int = 256,
        N_S: int = 4,
        N_T: int = 4,
        model_type: str = "gsta",
        mlp_ratio: float = 8.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        spatio_kernel_enc: int = 3,
        spatio_kernel_dec: int = 3,
    ) -> None:
        super().__init__()
        if len(in_shape) != 4 or min(in_shape) < 1:
            raise ConfigError(f"in_shape must be four positive numbers (T, C, H, W), got {in_shape}")
        if N_S < 2 or N_S % 2:
            raise ConfigError(f"N_S must be even and at least 2, got {N_S}")
        if N_T < 2:
            raise ConfigError(f"N_T must be at least 2, got {N_T}")
        if hid_S < 2 or hid_S % 2:
            raise ConfigError(f"hid_S must be even (it is normalised in 2 groups), got {hid_S}")
        if hid_T < 2:
            raise ConfigError(f"hid_T must be at least 2, got {hid_T}")
        for name, kernel in (
            ("spatio_kernel_enc", spatio_kernel_enc),
            ("spatio_kernel_dec", spatio_kernel_dec),
        ):
            if kernel < 1 or kernel % 2 == 0:
                raise ConfigError(f"{name} must be odd, got {kernel}")
        if mlp_ratio <= 1:
            raise ConfigError(f"mlp_ratio must be above 1, got {mlp_ratio}")
        for name, rate in (("drop", drop), ("drop_path", drop_path)):
            if not 0 <= rate < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, got {rate}")
        frames, channels, height, width = in_shape
        if height % 2 ** (N_S // 2) or width % 2 ** (N_S // 2):
            raise ConfigError(
                f"height and width in in_shape must be multiples of {2 ** (N_S // 2)} (2^(N_S/2)), "
                f"got {height} and {width}"
            )
        if model_type == "incepu" and incep_groups(hid_T // 2) == 8 and frames * hid_S % 8:
            raise ConfigError(
                f"model_type 'incepu' with hid_T {hid_T} works in 8 groups: T * hid_S must be a "
                f"multiple of 8, got {frames} * {hid_S}"
            )
        self.in_shape = (frames, channels, height, width)
        self.multiple = 2 ** (N_S // 2)
        self.enc = Encoder(channels, hid_S, N_S, spatio_kernel_enc)
        self.dec = Decoder(hid_S, channels, N_S, spatio_kernel_dec)
        self.hid: nn.Module
        if model_type == "incepu":
            self.hid = IncepTranslator(frames * hid_S, hid_T, N_T)
        elif model_type in self.attentions:
            self.hid = MetaTranslator(
                frames * hid_S,
                hid_T,
                N_T,
                self.attentions[model_type],
                mlp_ratio,
                drop,
                drop_path,
            )
        else:
            raise ConfigError(f"model_type must be 'gsta' or 'incepu', got {model_type!r}")

    attentions: dict[str, Callable[[int], nn.Module]] = {"gsta": gsta_attention}

    @property
    def requirements(self) -> Requirements:
        """What the network accepts: frames, channels, the smallest size and the divisor of height and width."""
        from stzoo.spec import Requirements

        frames, channels, height, width = self.in_shape
        return Requirements(
            frames_in=frames,
            frames_out=frames,
            channels=channels,
            minimum=self.multiple,
            multiple=self.multiple,
            native_size=(height, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predict the next T frames from T frames.

        Args:
            x: (B,T,C,H,W), values in [0,1], H and W multiples of 2^(N_S/2).

        Returns:
            (B,T,C,H,W), the following T frames; not clipped to [0,1].

        Raises:
            InputError: frames, channels or size do not fit.
        """
        frames, channels, _, _ = self.in_shape
        if (
            x.ndim != 5
            or x.shape[1:3] != (frames, channels)
            or x.shape[3] % self.multiple
            or x.shape[4] % self.multiple
        ):
            raise InputError(
                f"expected a tensor (batch, {frames} frames, {channels} channels, height, width) with height "
                f"and width multiples of {self.multiple}, got {tuple(x.shape)}"
            )
        batch = x.shape[0]
        latent, skip = self.enc(x.flatten(0, 1))
        # The translator sees the frames of a clip stacked as channels.
        hidden = self.hid(latent.reshape(batch, -1, *latent.shape[2:]))
        return self.dec(hidden.reshape(latent.shape), skip).reshape(x.shape)

    def rollout(self, x: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames, feeding predictions back in where that is more than T.

        Args:
            x: (B,T,C,H,W), values in [0,1].
            horizon: number of frames, at least 1.

        Returns:
            (B,horizon,C,H,W).

        Raises:
            InputError: as `forward`; or `horizon` is below 1.
        """
        if horizon < 1:
            raise InputError(f"horizon must be at least 1 frame, got {horizon}")
        predicted = []
        for _ in range(0, horizon, self.in_shape[0]):
            x = self(x)
            predicted.append(x)
        return torch.cat(predicted, dim=1)[:, :horizon]
