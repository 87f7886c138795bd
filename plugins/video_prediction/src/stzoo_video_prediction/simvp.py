"""SimVP: simpler yet better video prediction.

Papers: Gao et al., "SimVP: Simpler yet Better Video Prediction", CVPR 2022 (arXiv:2206.05099), with the IncepU
translator; Tan et al., "SimVP: Towards Simple yet Powerful Spatiotemporal Predictive Learning", 2022
(arXiv:2211.12509), with the gSTA translator.
Official code: https://github.com/chengtan9907/OpenSTL (Apache-2.0), whose state-dict keys, configuration names and
numerics are kept here.

A convolutional encoder works on each frame, a translator mixes the frames, which are stacked as channels, and a decoder
works on each frame again, with a skip from the first encoder layer.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_video_prediction.incepu import IncepTranslator, incep_groups
from stzoo_video_prediction.openstl import OpenSTLFormat, openstl_config, openstl_translator

if TYPE_CHECKING:
    from stzoo.requirements import Requirements


# --- encoder and decoder ----------------------------------------------------------------------------------------------


class ConvSC(nn.Module):
    """Convolution, GroupNorm over 2 groups, SiLU; halves (stride 2) or doubles (pixel shuffle) the size."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, down: bool = False, up: bool = False
    ) -> None:
        super().__init__()
        width = 4 * out_channels if up else out_channels
        conv = nn.Conv2d(in_channels, width, kernel, stride=2 if down else 1, padding=kernel // 2)
        nn.init.trunc_normal_(conv.weight, std=0.02)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
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
    """(N,C,H,W) -> latent (N,hid_S,H/2^(N_S/2),W/2^(N_S/2)), and the first layer's output (N,hid_S,H,W)."""

    def __init__(self, channels: int, hid_S: int, N_S: int, kernel: int) -> None:
        super().__init__()
        layers = (ConvSC(hid_S if i else channels, hid_S, kernel, down=i % 2 == 1) for i in range(N_S))
        self.enc = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.enc[0](x)
        return self.enc[1:](skip), skip


class Decoder(nn.Module):
    """The encoder mirrored; the skip is added in front of the last layer. No output activation."""

    def __init__(self, hid_S: int, channels: int, N_S: int, kernel: int) -> None:
        super().__init__()
        self.dec = nn.Sequential(*(ConvSC(hid_S, hid_S, kernel, up=i % 2 == 0) for i in range(N_S)))
        self.readout = nn.Conv2d(hid_S, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.dec[:-1](x)
        x += skip
        return self.readout(self.dec[-1](x))


# --- translator: gSTA -------------------------------------------------------------------------------------------------


class DilatedDepthwise(nn.Conv2d):
    """Depthwise 7x7 convolution with dilation 3, same size out."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 7, padding=9, groups=dim, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        # CPU kernels are slow with dilation. Every third pixel of every third row only meets its like, so the 3x3 such
        # grids are convolved as 9 images without dilation: the same sums, several times faster.
        batch, dim, height, width = x.shape
        rows, columns = -(-height // 3), -(-width // 3)
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 3 * columns - width, 0, 3 * rows - height))
        x = x.reshape(batch, rows, 3, columns, 3, dim).permute(0, 2, 4, 1, 3, 5)
        x = x.reshape(batch * 9, rows, columns, dim).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.weight, self.bias, padding=3, groups=dim).permute(0, 2, 3, 1)
        x = x.reshape(batch, 3, 3, rows, columns, dim).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, 3 * rows, 3 * columns, dim)[:, :height, :width].permute(0, 3, 1, 2)


class GatedLargeKernel(nn.Module):
    """Large-kernel attention, depthwise 5x5 then dilated 7x7 (21x21 together), gated by its own features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = DilatedDepthwise(dim)
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
        return self.drop(self.fc2(self.drop(F.gelu(self.dwconv(self.fc1(x))))))


def init_fan_out(module: nn.Module) -> None:
    """The official initialisation of convolutions in gSTA blocks: normal, variance 2 / fan-out; bias 0."""
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def gsta_attention(dim: int) -> nn.Module:
    """The attention of a gSTA block, initialised."""
    return Attention(dim, GatedLargeKernel).apply(init_fan_out)


class Block(nn.Module):
    """x plus its attention, then plus its MLP; both branches are normalised first and scaled per channel."""

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: float, drop: float, drop_path: float) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-2))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-2))
        self.norm1 = nn.BatchNorm2d(dim)
        self.attn = attention
        self.norm2 = nn.BatchNorm2d(dim)
        self.mlp = MixMlp(dim, int(dim * mlp_ratio), drop).apply(init_fan_out)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(x, self.scale(self.layer_scale_1, x), self.attn(self.norm1(x)))
        return torch.addcmul(x, self.scale(self.layer_scale_2, x), self.mlp(self.norm2(x)))

    def scale(self, layer_scale: Tensor, x: Tensor) -> Tensor:
        """The factor on a branch: in training, stochastic depth makes it 0 for some samples and larger for the rest."""
        scale = layer_scale[:, None, None]
        if not self.training or self.drop_path == 0.0:
            return scale
        keep = 1.0 - self.drop_path
        return scale * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep).div_(keep)


class MetaBlock(nn.Module):
    """A block and, where the number of channels changes, a 1x1 convolution."""

    def __init__(self, block: nn.Module, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = block
        self.reduction = None if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x)
        return x if self.reduction is None else self.reduction(x)


class MetaTranslator(nn.Module):
    """N_T blocks: the first at T*hid_S channels, the others at hid_T; the last one projects back."""

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
        widths = [channels] + [hid_T] * (N_T - 1) + [channels]
        blocks = []
        for i in range(N_T):
            # The official schedule starts at 0.01 whatever drop_path is.
            rate = 0.01 + (drop_path - 0.01) * i / (N_T - 1)
            block = Block(widths[i], attention(widths[i]), mlp_ratio, drop, rate)
            blocks.append(MetaBlock(block, widths[i], widths[i + 1]))
        self.enc = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.enc(x)


# --- network ----------------------------------------------------------------------------------------------------------


class SimVP(nn.Module):
    """SimVP: T frames in, the next T frames out.

    Args:
        in_shape: (T, C, H, W) of the input. T and C are built in; H and W are only the native size.
        hid_S: channels of encoder and decoder, per frame; even.
        hid_T: channels of the translator.
        N_S: layers of the encoder, and of the decoder; every second one halves or doubles the size; even.
        N_T: blocks of the translator (IncepU: of each of its halves), at least 2.
        model_type: the translator, "gsta" or "incepu".
        mlp_ratio: hidden channels of the translator's MLPs relative to its channels (gSTA).
        drop: dropout in the MLPs (gSTA).
        drop_path: stochastic depth at the last block (gSTA); the first block has 0.01, linear in between.
        spatio_kernel_enc, spatio_kernel_dec: kernel sizes of encoder and decoder; odd.

    Raises:
        ConfigError: a value is out of range, or they do not fit together.
    """

    attentions: ClassVar[dict[str, Callable[[int], nn.Module]]] = {"gsta": gsta_attention}
    """Attention of the translator's blocks, by ``model_type``."""

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
        if len(in_shape) != 4 or min(in_shape) < 1:
            raise ConfigError(f"in_shape must be four positive numbers (T, C, H, W), got {in_shape}")
        frames, channels, height, width = in_shape
        multiple = 2 ** (N_S // 2)
        stacked = frames * hid_S
        for wrong, problem in (
            (N_S < 2 or N_S % 2, f"N_S must be even and at least 2, got {N_S}"),
            (N_T < 2, f"N_T must be at least 2, got {N_T}"),
            (hid_S < 2 or hid_S % 2, f"hid_S must be even (it is normalised in 2 groups), got {hid_S}"),
            (hid_T < 2, f"hid_T must be at least 2, got {hid_T}"),
            (spatio_kernel_enc % 2 != 1, f"spatio_kernel_enc must be odd, got {spatio_kernel_enc}"),
            (spatio_kernel_dec % 2 != 1, f"spatio_kernel_dec must be odd, got {spatio_kernel_dec}"),
            (not 0 <= drop < 1, f"drop must be at least 0 and below 1, got {drop}"),
            (not 0 <= drop_path < 1, f"drop_path must be at least 0 and below 1, got {drop_path}"),
            (int(min(stacked, hid_T) * mlp_ratio) < 1, f"mlp_ratio {mlp_ratio} leaves the MLPs no channels"),
            (model_type not in {"incepu", *self.attentions}, f"model_type must be gsta or incepu, got {model_type!r}"),
            (
                height % multiple or width % multiple,
                f"the size in in_shape must be a multiple of 2^(N_S/2) = {multiple}, got {height}x{width}",
            ),
            (
                model_type == "incepu" and incep_groups(hid_T // 2) == 8 and (hid_T % 8 or stacked % 8),
                f"hid_T and T * hid_S must be multiples of 8, the groups of IncepU, got {hid_T} and {stacked}",
            ),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.in_shape = (frames, channels, height, width)
        self.multiple = multiple
        self.enc = Encoder(channels, hid_S, N_S, spatio_kernel_enc)
        self.dec = Decoder(hid_S, channels, N_S, spatio_kernel_dec)
        self.hid: nn.Module
        if model_type == "incepu":
            self.hid = IncepTranslator(stacked, hid_T, N_T)
        else:
            attention = self.attentions[model_type]
            self.hid = MetaTranslator(stacked, hid_T, N_T, attention, mlp_ratio, drop, drop_path)

    @property
    def requirements(self) -> Requirements:
        """Frames and channels the network takes, and the sizes it works at."""
        from stzoo.requirements import Requirements

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
            (B,T,C,H,W), the following frames, not clipped to [0,1].

        Raises:
            InputError: frames, channels or size do not fit.
        """
        frames, channels, _, _ = self.in_shape
        if x.ndim != 5 or x.shape[1:3] != (frames, channels) or any(side % self.multiple for side in x.shape[3:]):
            raise InputError(
                f"expected (batch, {frames} frames, {channels} channels, height, width) with height and width "
                f"multiples of {self.multiple}, got {tuple(x.shape)}"
            )
        cpu = x.device.type == "cpu"
        # CPU kernels are faster on channels_last in encoder and decoder; elsewhere the official layout is kept.
        layout = torch.channels_last if cpu else torch.contiguous_format
        # Encoder and decoder see single frames: without gradients one clip at a time, whose activations stay at hand.
        clips = x.split(1) if cpu and not torch.is_grad_enabled() else (x,)
        encoded = [self.enc(clip.flatten(0, 1).clone(memory_format=layout)) for clip in clips]
        latent = torch.cat([latent for latent, _ in encoded])
        # The translator sees the frames of a clip stacked as channels.
        hidden = self.hid(latent.reshape(len(x), -1, *latent.shape[2:]).contiguous()).reshape(latent.shape)
        parts = zip(hidden.chunk(len(clips)), encoded, strict=True)
        decoded = [self.dec(part.contiguous(memory_format=layout), skip) for part, (_, skip) in parts]
        return torch.cat(decoded).reshape(x.shape).contiguous()

    def rollout(self, x: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames; beyond T the network is fed its own output.

        Args:
            x: (B,T,C,H,W), values in [0,1].
            horizon: frames to predict, at least 1.

        Returns:
            (B,horizon,C,H,W).

        Raises:
            InputError: as `forward`, or `horizon` is below 1.
        """
        if horizon < 1:
            raise InputError(f"horizon must be at least 1 frame, got {horizon}")
        predicted = []
        for _ in range(0, horizon, self.in_shape[0]):
            x = self(x)
            predicted.append(x)
        return torch.cat(predicted, dim=1)[:, :horizon]


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class OpenSTLSimVP(OpenSTLFormat):
    """SimVP with the gSTA or the IncepU translator."""

    name = "openstl-simvp"
    description = "OpenSTL SimVP_Model with model_type gSTA or IncepU"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is SimVP's, but incomplete or modified, or has a translator that is not here.
        """
        translator = openstl_translator(state)
        if translator in (None, "tau"):
            return None
        if translator == "another":
            raise FormatError(
                "this looks like an OpenSTL SimVP checkpoint, but its translator is none that stzoo has",
                "Those with model_type gSTA, IncepU or TAU can be imported",
            )
        build = functools.partial(SimVP, model_type=translator)
        return openstl_config(state, build, translator) | {"model_type": translator}


# --- published configurations -----------------------------------------------------------------------------------------

MNIST = {"hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 8}
SMALL = {"hid_S": 32, "hid_T": 256, "N_S": 2, "N_T": 8, "drop_path": 0.1}
_LARGE = {"hid_S": 128, "hid_T": 1024, "N_S": 4, "N_T": 24}
_KTH = {"hid_S": 64, "hid_T": 256, "N_S": 2, "N_T": 6, "drop_path": 0.2}
_KTH_INCEPU = {"hid_S": 64, "hid_T": 256, "N_S": 2, "N_T": 4, "drop_path": 0.1}
_HUMAN = {"hid_S": 64, "hid_T": 256, "N_S": 4, "N_T": 8, "drop_path": 0.1}
_HUMAN_INCEPU = {"hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 6, "drop_path": 0.1}

PUBLISHED: dict[str, dict[str, Any]] = {
    f"{data}-{variant}": {
        "config": {"in_shape": in_shape, **network, "model_type": variant.removesuffix("-l")},
        "recipe": recipe,
        "epochs": epochs,
    }
    for data, variant, in_shape, network, recipe, epochs in (
        ("mmnist", "gsta", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mmnist", "gsta-l", (10, 1, 64, 64), _LARGE, {"lr": 1e-3}, 200),
        ("mmnist", "incepu", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mfmnist", "gsta", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mfmnist", "incepu", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mmnist-cifar", "gsta", (10, 3, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mmnist-cifar", "incepu", (10, 3, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("taxibj", "gsta", (4, 2, 32, 32), SMALL, {"lr": 5e-4, "schedule": "cosine", "warmup": 0.1}, 50),
        ("taxibj", "incepu", (4, 2, 32, 32), SMALL, {"lr": 1e-3, "schedule": "cosine", "warmup": 0.1}, 50),
        ("kth", "gsta", (10, 1, 128, 128), _KTH, {"lr": 1e-3}, 100),
        ("kth", "incepu", (10, 1, 128, 128), _KTH_INCEPU, {"lr": 1e-3}, 100),
        ("kitticaltech", "gsta", (10, 3, 128, 160), _KTH, {"lr": 5e-3}, 100),
        ("kitticaltech", "incepu", (10, 3, 128, 160), _KTH_INCEPU, {"lr": 5e-3}, 100),
        ("human", "gsta", (4, 3, 256, 256), _HUMAN, {"lr": 1e-3, "schedule": "cosine"}, 50),
        ("human", "incepu", (4, 3, 256, 256), _HUMAN_INCEPU, {"lr": 1e-3, "schedule": "cosine"}, 50),
        ("weather-t2m", "gsta", (12, 1, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-t2m", "incepu", (12, 1, 32, 64), SMALL, {"lr": 1e-2, "schedule": "cosine"}, 50),
        ("weather-r", "gsta", (12, 1, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-r", "incepu", (12, 1, 32, 64), SMALL, {"lr": 1e-3, "schedule": "cosine"}, 50),
        ("weather-uv10", "gsta", (12, 2, 32, 64), SMALL | {"drop_path": 0.2}, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-uv10", "incepu", (12, 2, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-tcc", "gsta", (12, 1, 32, 64), SMALL, {"lr": 1e-2, "schedule": "cosine"}, 50),
        ("weather-tcc", "incepu", (12, 1, 32, 64), SMALL, {"lr": 1e-2, "schedule": "cosine"}, 50),
    )
}
"""Settings of the official model zoo: arguments of `SimVP` and `VideoPredictionRecipe`, epochs; the total batch size is 16."""
