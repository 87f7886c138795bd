"""BayeSR: Bayesian super-resolution, several pictures that could be the truth, and how sure each pixel is.

Paper: Gao and Zhuang, "Bayesian Image Super-Resolution with Deep Modeling of Image Statistics", TPAMI 2022.
Official code: https://github.com/shangqigao/BayeSR (TensorFlow 1.10, MIT), whose names and numerics are kept here.

A low-resolution picture is taken for ``y = A(x + z) + m + n``: a smooth part x and sparse detail z at high resolution, taken
down by A, a learned linear downsampler, with noise around a mean m. Three networks infer Gaussian posteriors one after the
other, each from what the draws before it leave: m from y, z from ``y - m``, x from ``y - m - A z``. How they are trained is in
`bayesr_training`, the official files are read by `bayesr_checkpoints`. Left out are the official options that no published
model uses: U-Nets in place of ResNets, and batch normalisation.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements, tiling
from stzoo.errors import ConfigError
from stzoo_super_resolution.pipeline import SuperResolution, to_rgb, to_ycbcr
from stzoo_super_resolution.resize import imresize

LOWEST = -math.log(1e10)
"""Log variances are clipped to [LOWEST, 0]."""

# --- blocks -----------------------------------------------------------------------------------------------------------


class CALayer(nn.Module):
    """Channel attention: channels weighted by what their means over the whole picture say."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels // reduction, 1)
        self.conv1 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.conv1(self.conv0(x.mean(dim=(2, 3), keepdim=True)).relu())
        return x * weights.sigmoid()


class ResBlock(nn.Module):
    """Two convolutions around a ReLU and a skip; with channel attention, or scaled by 0.2."""

    def __init__(self, channels: int, kernel: int, attention: bool) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.CALayer = CALayer(channels) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv1(self.conv0(x).relu_())
        change = self.CALayer(change) if self.CALayer else 0.2 * change
        return x + change


class ResNet(nn.Sequential):
    """(B,C,H,W) -> features (B,filters,H,W): a convolution, then residual blocks with a skip around all of them."""

    def __init__(self, channels: int, filters: int, kernel: int, depth: int, attention: bool) -> None:
        blocks = {f"ResBlock{i}": ResBlock(filters, kernel, attention) for i in range(depth)}
        super().__init__(OrderedDict(input=nn.Conv2d(channels, filters, kernel, padding=kernel // 2), **blocks))

    def forward(self, x: Tensor) -> Tensor:
        entry, *blocks = self
        first: Tensor = entry(x)
        x = first
        for block in blocks:
            x = block(x)
        return first + x


class TransposeUp(nn.Module):
    """TensorFlow's transposed 5x5 convolution with SAME padding: ``stride`` times larger."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv_transpose = nn.ConvTranspose2d(in_channels, channels, 5, stride, padding=1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (size * self.stride for size in x.shape[-2:])
        larger: Tensor = self.conv_transpose(x)
        return larger[..., :height, :width]


class SubpixelUp(nn.Module):
    """A convolution, then TensorFlow's ``depth_to_space``: the place in a block varies slower than the channel."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.subpixel = nn.Conv2d(in_channels, channels * stride**2, kernel, padding=kernel // 2)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = self.subpixel(x).unflatten(1, (self.stride, self.stride, -1))
        return x.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)


class Head(nn.Sequential):
    """Features (B,in,H,W) -> mean and log variance, (B,2C,sH,sW); nothing but the upsampling is between convolutions."""

    def __init__(self, up_type: str, strides: list[int], in_channels: int, filters: int, kernel: int, out: int) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for count, stride in enumerate(strides, 1):
            name = f"upsample_x{stride**count}"
            if up_type == "interpolation":
                layers[name] = nn.Upsample(scale_factor=stride, mode="nearest")
                continue
            transposed = up_type == "transpose"
            layers[name] = (
                TransposeUp(in_channels, filters, stride)
                if transposed
                else SubpixelUp(in_channels, filters, kernel, stride)
            )
            in_channels = filters
        layers["output1"] = nn.Conv2d(in_channels, filters, kernel, padding=kernel // 2)
        layers["output2"] = nn.Conv2d(filters, out, kernel, padding=kernel // 2)
        super().__init__(layers)


def composed(*kernels: Tensor) -> Tensor:
    """The one kernel of several convolutions in a row (without bias): (last out, first in, k, k)."""
    wide = torch.float32 if kernels[0].device.type == "mps" else torch.float64  # it is small, and stands for many sums
    return functools.reduce(F.conv_transpose2d, (kernel.to(wide) for kernel in reversed(kernels))).to(kernels[0])


class Downsampler(nn.Sequential):
    """The linear generator of KernelGAN (Bell-Kligler et al., NeurIPS 2019), once: (B,C,H,W) -> (B,C,H/stride,W/stride).

    Every channel goes through the same six convolutions, 64 wide, each of which sees zeros around its input. That is a single
    13x13 convolution, a thousandth of the work, less what the first two give outside of the picture where the next should
    see zeros (the others have one pixel). H and W are multiples of the stride, 2 or 3.
    """

    WIDTHS, REACH, SMALL = (7, 5, 3, 1, 1, 1), 6, 12

    def __init__(self, stride: int, filters: int = 64) -> None:
        channels = (1, *[filters] * 5, 1)
        super().__init__(
            OrderedDict(
                (f"conv{i}", nn.Conv2d(channels[i], channels[i + 1], width, bias=False))
                for i, width in enumerate(self.WIDTHS)
            )
        )
        self.stride = stride

    def _kernels(self) -> list[Tensor]:
        layers: list[Any] = list(self)
        return [layer.weight for layer in layers]

    def plain(self, x: Tensor) -> Tensor:
        """The single convolution: what comes out is right where no border is within its reach."""
        planes = F.conv2d(x.flatten(0, 1)[:, None], composed(*self._kernels()), stride=self.stride, padding=self.REACH)
        return planes.view(*x.shape[:2], *planes.shape[-2:])

    def forward(self, x: Tensor) -> Tensor:
        kernels = self._kernels()
        planes = x.flatten(0, 1)[:, None]
        if min(x.shape[-2:]) < self.SMALL:
            for kernel in kernels[:-1]:
                planes = F.conv2d(planes, kernel, padding=kernel.shape[-1] // 2)
            planes = F.conv2d(planes, kernels[-1], stride=self.stride)
            return planes.view(*x.shape[:2], *planes.shape[-2:])
        result = self.plain(x).flatten(0, 1)[:, None]
        third = composed(*kernels[2:])
        first, second, rest = kernels[0], kernels[1], composed(kernels[1], third)
        self._trim(True, result, planes, first, rest, second, third)
        self._trim(False, *(part.transpose(2, 3) for part in (result, planes, first, rest, second, third)))
        return result.view(*x.shape[:2], *result.shape[-2:])

    def _trim(
        self, corners: bool, result: Tensor, planes: Tensor, first: Tensor, rest: Tensor, second: Tensor, third: Tensor
    ) -> None:
        """Take off ``result`` what comes from beyond the upper and the lower border, or only from straight beyond them.

        Of the first layer that is three rows above, and three below (of which the last row of the result sees 4 - stride); of
        the second it is one row above: with such strides nothing of the result sees the one below.
        """
        stride = self.stride
        wide, own = (6, 0) if corners else (3, 3)
        upper = F.conv2d(F.pad(planes[..., :5, :], (wide, wide, 6, 0)), first)  # rows -3 to 1
        lower = F.conv2d(F.pad(planes[..., -3:, :], (wide, wide, 0, 6)), first)[..., : 4 - stride, :]
        across: dict[str, Any] = {"stride": (1, stride), "padding": (0, own)}
        for row in range(0, 3, stride):
            result[..., row // stride, None, :] -= F.conv2d(upper[..., row:3, :], rest[..., : 3 - row, :], **across)
        result[..., -1:, :] -= F.conv2d(lower, rest[..., 3 + stride :, :], **across)
        inside = upper[..., 3:, 3:-3] if corners else upper[..., 3:, :]
        above = F.conv2d(inside, second[..., 3:, :], padding=(0, 3 if corners else 2))
        result[..., :1, :] -= F.conv2d(above, third[..., :1, :], stride=(1, stride), padding=(0, 0 if corners else 1))


def _passing(layer: Any) -> tuple[Tensor, Tensor]:
    """The weight of a layer as (..., out, in, k, k), and the taps with which a channel passes it or is enlarged by it."""
    if isinstance(layer, TransposeUp):
        taps = torch.tensor((1, 3, 3, 1, 0)) / 4 if layer.stride == 2 else torch.tensor((1, 2, 3, 2, 1)) / 3
        return layer.conv_transpose.weight.transpose(0, 1), taps
    if isinstance(layer, SubpixelUp):
        weight = layer.subpixel.weight.view(layer.stride**2, -1, *layer.subpixel.weight.shape[1:])
    else:
        weight = layer.weight
    taps = torch.zeros(weight.shape[-1])
    taps[weight.shape[-1] // 2] = 1
    return weight, taps


# --- network ----------------------------------------------------------------------------------------------------------


class Posterior(NamedTuple):
    """What is known of m (B,C,H,W), z and x (B,C,sH,sW): Gaussians, pixel by pixel, and one value drawn from each."""

    mean_m: Tensor
    log_var_m: Tensor
    m: Tensor
    mean_z: Tensor
    log_var_z: Tensor
    z: Tensor
    mean_x: Tensor
    log_var_x: Tensor
    x: Tensor
    down_z: Tensor
    """A z, (B,C,H,W)."""


Noise = tuple[Tensor, Tensor, Tensor]
"""Standard normal numbers for m, z and x, in their shapes; a first dimension of 1 serves a whole batch."""


class BayeSR(nn.Module):
    """The three networks, and the downsampler between them.

    Args:
        scale: how many times larger: 1 (denoising, without a downsampler), 2, 3, 4 or 8.
        in_channel: channels of the pictures.
        filters: channels of the features; a multiple of 16 with channel attention.
        filter_size: side of the kernels, odd.
        up_type: "transpose" (5x5 transposed convolutions), "subpixel" or "interpolation" (nearest).
        d_cnnx, d_cnnz, d_cnnm: residual blocks of the three networks.
        use_CA: channel attention in the blocks.

    Raises:
        ConfigError: a value is none of these.
    """

    def __init__(
        self,
        scale: int = 4,
        in_channel: int = 3,
        filters: int = 64,
        filter_size: int = 3,
        up_type: str = "transpose",
        d_cnnx: int = 8,
        d_cnnz: int = 8,
        d_cnnm: int = 8,
        use_CA: bool = True,
    ) -> None:
        super().__init__()
        if scale not in (1, 2, 3, 4, 8):
            raise ConfigError(f"scale must be 1, 2, 3, 4 or 8, got {scale}")
        if up_type not in ("transpose", "subpixel", "interpolation"):
            raise ConfigError(f"up_type must be 'transpose', 'subpixel' or 'interpolation', got {up_type!r}")
        if min(in_channel, filters, d_cnnx, d_cnnz, d_cnnm) < 1 or filter_size % 2 == 0:
            raise ConfigError("in_channel, filters and depths must be at least 1, and filter_size odd")
        if use_CA and filters % 16:
            raise ConfigError(f"with channel attention filters must be a multiple of 16, got {filters}")
        strides = [3] if scale == 3 else [2] * int(math.log2(scale))
        self.scale, self.in_channel, self.steps = scale, in_channel, len(strides)
        self.multiple = 2 ** max((d_cnnx - 2) // 2, 0)
        self.channels = in_channel
        self.requirements = Requirements(scale=scale)

        def head(parts: int, strides: list[int]) -> Head:
            return Head(up_type, strides, parts * filters, filters, filter_size, 2 * in_channel)

        self.cnnm = ResNet(in_channel, filters, filter_size, d_cnnm, use_CA)
        self.upm = head(1, [])
        self.cnnz = ResNet(in_channel, filters, filter_size, d_cnnz, use_CA)
        self.upz = head(2, strides)
        self.Generator = Downsampler(strides[0]) if strides else None
        self.cnnx = ResNet(in_channel, filters, filter_size, d_cnnx, use_CA)
        self.upx = head(3, strides)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """Glorot's values, as official; but the mean of x starts near a bilinear enlargement of y, and all else near 0.

        The first features are then the picture's channels, which transposed convolutions interpolate (Long et al., "Fully
        convolutional networks for semantic segmentation", CVPR 2015, section 3.3) and the last layers pass on.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, ResBlock):
                module.conv1.weight *= 0.1
        channels = self.in_channel
        for head, variance in ((self.upm, 1e-6), (self.upz, 1e-4), (self.upx, 1e-4)):
            last: Any = head.output2
            last.weight *= 0.03
            last.bias[channels:] = math.log(variance)
        for layer in (self.cnnx.input, *(layer for layer in self.upx if not isinstance(layer, nn.Upsample))):
            weight, taps = _passing(layer)
            for channel in range(min(channels, weight.shape[-3])):
                weight[..., channel, :, :, :] = 0
                weight[..., channel, channel, :, :] = torch.outer(taps, taps)
        layers: list[Any] = list(self.cnnx)
        entry, *blocks = layers
        entry.weight[:channels] /= 2  # it comes twice: through the blocks and around them
        for block in blocks:
            block.conv1.weight[:channels] = 0

    def downsample(self, x: Tensor) -> Tensor:
        """A: high resolution (B,C,sH,sW) -> low (B,C,H,W)."""
        for _ in range(self.steps):
            x = self.Generator(x)  # type: ignore[misc]
        return x

    def downsample_inside(self, x: Tensor) -> tuple[Tensor, int]:
        """A, but right only ``border`` pixels of the result away from its borders, for a hundredth of the cost; the border."""
        border = 0
        for _ in range(self.steps):
            x = self.Generator.plain(x)  # type: ignore[union-attr]
            border = -(-(border + Downsampler.REACH) // self.Generator.stride)  # type: ignore[union-attr]
        return x, border

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size that a picture of this size is padded to."""
        multiple = self.multiple
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def noise(self, height: int, width: int, generator: torch.Generator | None = None) -> Noise:
        """Numbers for pictures (H,W), on the CPU: (1,C,H',W') for m and (1,C,sH',sW') for z and x, H' and W' as padded."""
        height, width = self.padded(height, width)

        def draw(scale: int) -> Tensor:
            return torch.randn(1, self.in_channel, scale * height, scale * width, generator=generator)

        return draw(1), draw(self.scale), draw(self.scale)

    def infer(self, y: Tensor, noise: Noise | None = None) -> Posterior:
        """What is known of m, z and x, given ``y`` (B,C,H,W) in [0,1], not padded; numbers are drawn where none are given."""

        def drawn(raw: Tensor, place: int) -> tuple[Tensor, Tensor, Tensor]:
            mean, log_var = raw.chunk(2, dim=1)
            log_var = log_var.clamp(LOWEST, 0)
            own = torch.randn_like(mean) if noise is None else noise[place].to(mean)
            return mean, log_var, torch.addcmul(mean, (log_var / 2).exp(), own)

        fm = self.cnnm(y)
        mean_m, log_var_m, m = drawn(self.upm(fm), 0)
        fz = torch.cat((self.cnnz(y - m), fm), dim=1)
        mean_z, log_var_z, z = drawn(self.upz(fz), 1)
        down_z = self.downsample(z)
        fx = torch.cat((self.cnnx(y - m - down_z), fz), dim=1)
        mean_x, log_var_x, x = drawn(self.upx(fx), 2)
        return Posterior(mean_m, log_var_m, m, mean_z, log_var_z, z, mean_x, log_var_x, x, down_z)

    def pad(self, y: Tensor) -> Tensor:
        """Mirrored at the bottom and at the right, edges repeated, up to the multiple that the depth asks for."""
        for axis, (size, wanted) in enumerate(zip(y.shape[-2:], self.padded(*y.shape[-2:]), strict=True), 2):
            if size != wanted:
                index = torch.arange(wanted, device=y.device) % (2 * size)
                y = y.index_select(axis, torch.minimum(index, 2 * size - 1 - index))
        return y

    def forward(self, y: Tensor, noise: Noise | None = None, sample: bool = False) -> Tensor:
        """(B,C,H,W) in [0,1] -> (B,C,sH,sW) in [0,1]: the means of x and z (for PSNR), or with ``sample`` the drawn ones.

        The means are random too, as in the official code: z is inferred from what a drawn m leaves, x from what z leaves.
        ``noise``: the numbers to draw with, as `noise` makes them.
        """
        found = self.infer(self.pad(y), noise)
        picture = found.x + found.z if sample else found.mean_x + found.mean_z
        height, width = (self.scale * size for size in y.shape[-2:])
        return picture[..., :height, :width].clamp(0, 1)


# --- predicting -------------------------------------------------------------------------------------------------------


class BayesianSuperResolution(SuperResolution):
    """The picture, how sure each pixel is, and pictures drawn, from ``samples`` draws of m, z and x.

    The picture is the average of what each draw gives as the mean, ``mean_x + mean_z``; with one draw it is the official one.
    The uncertainty is the standard deviation over draws and posteriors, by the law of total variance, of a pixel's colours
    (the root of their mean variance; of luma for a network of one channel). ``seed`` fixes the draws on any device, and a
    picture's do not depend on its batch. Channel attention and the draws need pictures as a whole: they are not cut into tiles.
    """

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["image"]`` (B,C,H,W) to "image" (B,C,sH,sW), "uncertainty" (B,sH,sW), "samples" (B,samples,C',sH,sW).

        Drawn pictures are without transparency. All are in [0,1] but for the uncertainty, which is at least 0. Raises InputError
        if tiles are asked for.
        """
        tiling.settings(self.requirements, options, *batch["image"].shape[-2:])
        network: Any = module
        image, like = batch["image"], next(module.parameters())
        image, rest = image[:, :3].to(like), image[:, 3:].to(like)
        taken, chroma = image.expand(-1, network.channels if image.shape[1] == 1 else -1, -1, -1), image[:, :0]
        if taken.shape[1] > network.channels:
            taken = to_ycbcr(image)
            taken, chroma = taken[:, :1], imresize(taken[:, 1:], network.scale)
        height, width = (network.scale * side for side in image.shape[-2:])
        generator = torch.Generator().manual_seed(options["seed"])
        padded = network.pad(taken)
        means, variances, samples = [], [], []
        for _ in range(options["samples"]):
            found = network.infer(padded, network.noise(*image.shape[-2:], generator))
            means.append((found.mean_x + found.mean_z)[..., :height, :width])
            variances.append((found.log_var_x.exp() + found.log_var_z.exp())[..., :height, :width])
            samples.append((found.x + found.z)[..., :height, :width])

        def picture(made: Tensor) -> Tensor:
            """What a network made, in the colours of what it was given."""
            if made.shape[1] > image.shape[1]:
                made = made.mean(1, keepdim=True)
            return (to_rgb(torch.cat((made, chroma), dim=1)) if chroma.shape[1] else made).clamp(0, 1)

        variance = torch.stack(variances).mean(0) + torch.stack(means).var(0, correction=0)
        opaque = picture(torch.stack(means).mean(0))
        return {
            "image": torch.cat((opaque, imresize(rest, network.scale).clamp(0, 1)), dim=1) if rest.shape[1] else opaque,
            "uncertainty": variance.mean(1).sqrt(),
            "samples": torch.stack([picture(sample) for sample in samples], dim=1),
        }
