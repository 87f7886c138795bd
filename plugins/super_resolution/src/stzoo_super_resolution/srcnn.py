"""SRCNN: image super-resolution using deep convolutional networks.

Papers: Dong et al., "Learning a Deep Convolutional Network for Image Super-Resolution", ECCV 2014 (9-1-5); Dong et al., "Image
Super-Resolution Using Deep Convolutional Networks", TPAMI 2016 (arXiv:1501.00092; 9-3-5, 9-5-5).
Official code: http://mmlab.ie.cuhk.edu.hk/projects/SRCNN.html (MATLAB, no licence stated); its weights, in ``.mat`` files, and
those of https://github.com/yjn870/SRCNN-pytorch, whose names are kept here, can be imported.

Three convolutions: patches to features, features to features, features to pixels. The picture is enlarged by bicubic
interpolation before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, DependencyMissing, FormatError, InputError
from stzoo_super_resolution.pipeline import EnlargedFirst
from stzoo_super_resolution.recipe import PatchRecipe
from stzoo_super_resolution.resize import BICUBIC_REACH, imresize

if TYPE_CHECKING:
    from stzoo.requirements import Requirements


class SRCNN(nn.Module):
    """Three convolutions with ReLU in between.

    Args:
        scale: how many times the picture was enlarged before; the network itself keeps the size.
        kernels: widths of the three kernels; odd.
        filters: channels of the two inner layers.
        channels: of the picture: 1 for the luma, 3 for RGB.
        padding: of every layer: "replicate" (the official test code), "zeros" (most ports) or "valid" (none: the official
            training code; the output is smaller).

    Raises:
        ConfigError: a kernel is even, or a value is out of range.
    """

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d

    def __init__(
        self,
        scale: int = 3,
        kernels: tuple[int, int, int] = (9, 5, 5),
        filters: tuple[int, int] = (64, 32),
        channels: int = 1,
        padding: str = "replicate",
    ) -> None:
        for wrong, problem in (
            (scale < 1, f"scale must be at least 1, got {scale}"),
            (any(kernel < 1 or kernel % 2 == 0 for kernel in kernels), f"kernels must be odd, got {kernels}"),
            (min(filters) < 1, f"filters must be at least 1, got {filters}"),
            (channels not in (1, 3), f"channels must be 1 or 3, got {channels}"),
            (padding not in ("replicate", "zeros", "valid"), f"padding must be replicate, zeros or valid: {padding!r}"),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.scale, self.channels = scale, channels
        self.radius = sum(kernel // 2 for kernel in kernels)
        """How far away, in pixels of the enlarged picture, anything can be that a pixel depends on."""
        self.margin = self.radius if padding == "valid" else 0
        """Pixels by which the output is smaller at each border."""
        widths = (channels, *filters, channels)
        mode: Any = "zeros" if padding == "valid" else padding
        for index, kernel in enumerate(kernels):
            around = 0 if padding == "valid" else kernel // 2
            conv = nn.Conv2d(widths[index], widths[index + 1], kernel, padding=around, padding_mode=mode)
            setattr(self, f"conv{index + 1}", conv)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """Initialise so that training starts from the enlarged picture itself, which one filter for each channel lets through.

        The paper draws every weight from a normal distribution of 0.001 and takes days to get to this point.
        """
        nn.init.kaiming_normal_(self.conv1.weight)
        nn.init.kaiming_normal_(self.conv2.weight)
        nn.init.normal_(self.conv3.weight, std=1e-3)
        for conv in (self.conv1, self.conv2, self.conv3):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            middle = conv.kernel_size[0] // 2
            for channel in range(min(self.channels, conv.in_channels, conv.out_channels)):
                conv.weight[channel] = 0
                conv.weight[channel, channel, middle, middle] = 1

    @property
    def requirements(self) -> Requirements:
        """How many times the picture is enlarged; any size will do."""
        from stzoo.requirements import Requirements

        return Requirements(scale=self.scale, reach=BICUBIC_REACH + math.ceil(self.radius / self.scale))

    def forward(self, x: Tensor) -> Tensor:
        """Sharpen a picture that was enlarged.

        Args:
            x: (B,channels,H,W), values in [0,1].

        Returns:
            (B,channels,H,W), less the margin at each border for "valid"; not clipped.

        Raises:
            InputError: the channels do not fit.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(f"expected (batch, {self.channels} channels, height, width), got {tuple(x.shape)}")
        x = F.relu(self.conv1(x), inplace=True)
        x = F.relu(self.conv2(x), inplace=True)
        sharpened: Tensor = self.conv3(x)
        return sharpened


class SRCNNPipeline(EnlargedFirst):
    """The picture enlarged first; where the network would make it smaller, its border is repeated before."""

    def network(self, module: nn.Module, image: Tensor) -> Tensor:
        if not (margin := module.margin):
            return super().network(module, image)
        enlarged = imresize(image, self.requirements.scale)
        return module(F.pad(enlarged, [margin] * 4, mode="replicate"))  # type: ignore[no-any-return, list-item]


# --- how it learns ----------------------------------------------------------------------------------------------------


class SRCNNRecipe(PatchRecipe):
    """The papers' squared error on the luma; Adam in place of 15 million steps of SGD.

    Arguments as those of :class:`PatchRecipe`, and ``last``, a factor of the last layer's learning rate. The paper has
    ``optimizer="sgd", lr=1e-4, schedule="constant", last=0.1``.
    """

    def __init__(
        self,
        lr: float = 2e-4,
        patch: int = 24,
        loss: str = "mse",
        optimizer: str = "adam",
        schedule: str = "cosine",
        warmup: float = 0.0,
        margin: int = 3,
        noise: float = 0.0,
        augment: bool = True,
        last: float = 1.0,
    ) -> None:
        super().__init__(lr, patch, loss, optimizer, schedule, warmup, margin, noise, augment)
        self.layers = {"conv3.*": last}

    @staticmethod
    def predict(module: nn.Module, low: Tensor) -> Tensor:
        """The patches, enlarged and sharpened."""
        enlarged = imresize(low, module.scale)  # type: ignore[arg-type]
        margin: int = module.margin  # type: ignore[assignment]
        return module(F.pad(enlarged, [margin] * 4, mode="replicate") if margin else enlarged)  # type: ignore[no-any-return]


# --- foreign checkpoints ----------------------------------------------------------------------------------------------

_SCALE = "how many times it enlarges: 2, 3 or 4; the files' names say it"


def _config(state: Mapping[str, Tensor], padding: str) -> dict[str, Any] | None:
    """The configuration of three convolutions; None if they are not SRCNN's."""
    if {f"conv{index}.{kind}" for index in (1, 2, 3) for kind in ("weight", "bias")} != state.keys():
        return None
    weights = [state[f"conv{index}.weight"] for index in (1, 2, 3)]
    if any(weight.ndim != 4 or weight.shape[2] != weight.shape[3] for weight in weights):
        return None
    channels, (first, second, last) = weights[0].shape[1], (weight.shape[0] for weight in weights)
    if (weights[1].shape[1], weights[2].shape[1], last) != (first, second, channels):
        return None
    return {
        "kernels": tuple(weight.shape[2] for weight in weights),
        "filters": (first, second),
        "channels": channels,
        "padding": padding,
    }


class TorchSRCNN:
    """State dicts of PyTorch ports with ``conv1`` to ``conv3`` (yjn870/SRCNN-pytorch and what follows it)."""

    name = "pytorch-srcnn"
    description = "PyTorch ports of SRCNN with conv1, conv2, conv3"
    asks: ClassVar[Mapping[str, str]] = {"scale": _SCALE}

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration but for the scale; None if the state dict is of another architecture."""
        return _config(state, "zeros")

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return (
            "scale: as stated.",
            f"padding: {config['padding']}; ports pad with zeros, the official test code with the border's pixels.",
        )


class MatlabSRCNN:
    """The official ``.mat`` files: ``weights_conv1`` (k*k, n1), ``weights_conv2`` (n1, k*k, n2), ``weights_conv3`` (n2, k*k)."""

    name = "official-srcnn"
    description = "Official SRCNN weights, MATLAB files"
    asks: ClassVar[Mapping[str, str]] = {"scale": _SCALE}
    endings = (".mat",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The arrays in a MATLAB file (version 5), with SciPy. Raises FormatError, DependencyMissing."""
        try:
            from scipy.io import loadmat  # type: ignore[import-untyped]
        except ImportError:
            raise DependencyMissing("reading .mat files needs SciPy", "Run: pip install scipy") from None
        try:
            found = loadmat(path)
            return {name: torch.from_numpy(value.copy()) for name, value in found.items() if not name.startswith("__")}
        except Exception as problem:  # a damaged file can fail in any way
            raise FormatError(f"{path} is not a readable MATLAB file ({problem})", "Is the file complete?") from problem

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration but for the scale; None if the arrays are of another architecture.

        Raises:
            FormatError: they are SRCNN's, but of shapes that do not fit.
        """
        if not {f"{kind}_conv{index}" for index in (1, 2, 3) for kind in ("weights", "biases")} <= state.keys():
            return None
        try:
            return _config(self.convert(state, {}), "replicate")
        except (ValueError, RuntimeError) as problem:
            shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
            raise FormatError(
                f"this looks like official SRCNN weights, but its shapes do not fit: {shapes}"
            ) from problem

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same under the network's names. MATLAB counts down the columns of a kernel first."""
        first, second, third = (state[f"weights_conv{index}"] for index in (1, 2, 3))
        kernels = (
            first.T[:, None],  # (n1, 1, k*k)
            second.reshape(second.shape[0], second.shape[1], -1).permute(2, 0, 1),  # (n2, n1, k*k)
            third[None],  # (1, n2, k*k)
        )
        tensors = {}
        for index, kernel in enumerate(kernels, start=1):
            side = math.isqrt(kernel.shape[2])
            square = kernel.reshape(*kernel.shape[:2], side, side).transpose(2, 3)
            tensors[f"conv{index}.weight"] = square.float().contiguous()
            tensors[f"conv{index}.bias"] = state[f"biases_conv{index}"].flatten().float()
        return tensors

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return ("scale: as stated.", "padding: replicate, as in the official test code.")
