"""Depth map prediction from a single image using a multi-scale deep network.

Paper: Eigen, Puhrsch and Fergus, NeurIPS 2014 (arXiv:1406.2283). Built from the facts of the authors' Theano release (GPL-3,
of which nothing is copied), where it differs from the paper: pools of 3x3 with stride 2, padding that makes strided
convolutions cover the whole picture, local response normalisation after the first two stages, features scaled by 0.01
before the first full layer, dropout that is not made up for in training, and a first map of the fine network that is
computed and replaced by the coarse one.

Tensors have the release's names: ``<unit>.W`` and ``.b`` of convolutions, ``.W`` (in, out) and ``.bias`` of full layers.

Geometry, in pixels of the network's input of height 4k + 8 (and so for the width): there are k rows of output, and row j
is the depth at row 4j + 5. It stands for the rows 4j + 4 to 4j + 7: four rows at the top and at the bottom belong to no output.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.formats import check_tensors
from stzoo.requirements import Requirements

STRIDE = 4
"""Input pixels from one output to the next."""
BORDER = 4
"""Input pixels at each border that belong to no output."""
FIRST = 5
"""The input pixel whose depth the first output is."""
LOG_STD = 0.45723134
"""Standard deviation of the logarithms of depth in NYU Depth, in which the networks count (release, ``logdepths_std``)."""
CENTRE = 128.0
"""What the coarse network subtracts from RGB in 0..255."""
FINE_MEAN, FINE_STD = 109.31410628, 76.18328376
"""Mean and standard deviation of RGB in 0..255 to the fine network."""
SCALE = 0.01
"""Of the features that go into the first full layer."""
SMALLEST = 64
"""The smallest height and width of which the five stages leave something."""
KITTI = {"frame": (184, 612), "size": (172, 576), "rows": (51, 167)}
"""The published configuration for KITTI. Which 116 rows the fine network sees is not in the release's facts; these follow from
the crop that the authors evaluate on (rows 123 to 338 of 370)."""


# --- network ----------------------------------------------------------------------------------------------------------


def pool(x: Tensor) -> Tensor:
    """The largest of each 3x3 pixels, every second one; what does not fill a window is left out."""
    return F.max_pool2d(x, 3, 2)


def normalised(x: Tensor) -> Tensor:
    """Local response normalisation over five neighbouring channels: x * (2 + 1e-4 * sum of squares)^-0.75."""
    squares = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    count = x.shape[1]
    total = sum((squares[:, shift : shift + count] for shift in range(1, 5)), squares[:, :count])
    root = torch.rsqrt(torch.add(2, total, alpha=1e-4))
    return x * root * root.sqrt()


def padding(length: int, kernel: int, stride: int) -> int:
    """Pixels that are put at both ends of ``length`` so that the last step of a strided kernel reaches the end."""
    steps = -(-(length - kernel) // stride)
    return -(-(steps * stride + kernel - length) // 2)


class Conv(nn.Module):
    """A convolution whose tensors are called W (out, in, k, k) and b."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(filters, channels, kernel, kernel))
        self.b = nn.Parameter(torch.zeros(filters))
        self.stride, self.kernel = stride, kernel
        nn.init.kaiming_normal_(self.W, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return F.conv2d(x, self.W, self.b, padding=self.kernel // 2)
        pad = tuple(padding(length, self.kernel, self.stride) for length in x.shape[-2:])
        return F.conv2d(x, self.W, self.b, self.stride, pad)


class Full(nn.Module):
    """A full layer whose tensors are called W (in, out) and bias."""

    def __init__(self, features: int, units: int, std: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, units))
        self.bias = nn.Parameter(torch.zeros(units))
        nn.init.normal_(self.W, std=std)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.W)


class Last(nn.Module):
    """The fine network's last layer, kept as the filter (in, 1, 5, 5) of a transposed convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, 1, 5, 5))
        self.b = nn.Parameter(torch.zeros(1))
        nn.init.normal_(self.W, std=1e-3)
        with torch.no_grad():  # training starts from the coarse map
            self.W[0, 0, 2, 2] = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.W, self.b, padding=2)


class Eigen2014(nn.Module):
    """A coarse network that sees the whole picture, and a fine one that sees the picture's detail and the coarse map.

    Args:
        frame: height and width that a picture is resized to before ``size`` is cut out of its middle.
        size: height and width of the network's input; multiples of 4.
        rows: first row, and the one after the last, of the input that the fine network sees; empty for all.
        widths: filters of the coarse network's five convolutions.
        hidden: units of its first full layer.
        fine: filters of the fine network's first two convolutions.
        dropout: share of the hidden units that is left out in training; in prediction all are scaled by what is left.
        log_std: standard deviation of the logarithms of depth that the outputs are counted in.

    Raises:
        ConfigError: sizes do not fit each other or are too small, or a value is out of range.
    """

    def __init__(
        self,
        frame: tuple[int, int] = (240, 320),
        size: tuple[int, int] = (228, 304),
        rows: tuple[int, ...] = (),
        widths: tuple[int, ...] = (96, 256, 384, 384, 256),
        hidden: int = 4096,
        fine: int = 64,
        dropout: float = 0.5,
        log_std: float = LOG_STD,
    ) -> None:
        super().__init__()
        self.frame, self.size, self.rows = _checked_sizes(frame, size, rows)
        self.dropout, self.log_std = dropout, log_std
        if len(widths) != 5 or min(widths) < 1 or hidden < 1 or fine < 2 or not 0 <= dropout < 1 or log_std <= 0:
            raise ConfigError(
                "five widths of at least 1, hidden at least 1, fine at least 2, dropout from 0 to below 1 and a positive log_std "
                f"are needed, got {tuple(widths)}, {hidden}, {fine}, {dropout:g} and {log_std:g}"
            )
        height, width = (_coarse_length(length) for length in size)
        self.imnet_conv1 = Conv(3, widths[0], 11, 4)
        self.imnet_conv2 = Conv(widths[0], widths[1], 5)
        self.imnet_conv3 = Conv(widths[1], widths[2], 3)
        self.imnet_conv4 = Conv(widths[2], widths[3], 3)
        self.imnet_conv5 = Conv(widths[3], widths[4], 3)
        features = widths[4] * height * width
        self.full1 = Full(features, hidden, (2 / features) ** 0.5)
        self.full2 = Full(hidden, self.output[0] * self.output[1], 0.1 * hidden**-0.5)
        self.conv_s2_1 = Conv(3, fine, 9, 2)
        self.conv_s2_2 = Conv(fine, fine, 5)
        self.conv_s2_3 = Last(fine)
        with torch.no_grad():  # the coarse map goes through the fine network as it is, until that learns better
            self.conv_s2_2.W[0] = 0
            self.conv_s2_2.W[0, 0, 2, 2] = 1

    @property
    def output(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return (self.rows[1] - self.rows[0]) // STRIDE - 2, self.size[1] // STRIDE - 2

    @property
    def requirements(self) -> Requirements:
        """Any picture will do: it is resized."""
        return Requirements(channels=3, minimum=16, native_size=self.frame)

    def features(self, x: Tensor) -> Tensor:
        """RGB (B,3,H,W) in 0..255 to what the coarse network sees in it (B,C,h,w)."""
        x = normalised(F.relu(pool(self.imnet_conv1(x - CENTRE))))
        x = normalised(F.relu(pool(self.imnet_conv2(x))))
        x = F.relu(self.imnet_conv4(F.relu(self.imnet_conv3(x))))
        return F.relu(pool(self.imnet_conv5(x)))

    def coarse(self, x: Tensor) -> Tensor:
        """RGB (B,3,H,W) in 0..255, of ``size``, to a map (B,1,h,w): logarithms of depth divided by ``log_std``."""
        hidden = F.relu(self.full1(SCALE * self.features(x).flatten(1)))
        if not self.training:
            hidden = hidden * (1 - self.dropout)
        elif self.dropout:
            hidden = hidden * torch.empty_like(hidden).bernoulli_(1 - self.dropout)
        return self.full2(hidden).view(-1, 1, *self.output)  # type: ignore[no-any-return]

    def refined(self, x: Tensor, coarse: Tensor) -> Tensor:
        """The fine map (B,1,h,w), in the same unit, of the same RGB and its coarse map."""
        x = (x[:, :, self.rows[0] : self.rows[1]] - FINE_MEAN) / FINE_STD
        x = pool(F.relu(self.conv_s2_1(x)))
        x = torch.cat((coarse, x[:, 1:]), 1)
        return self.conv_s2_3(F.relu(self.conv_s2_2(x)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """RGB (B,3,H,W) in 0..255 to (B,1,h,w): logarithms of depth in metres, divided by ``log_std``.

        Raises InputError if the picture is not of ``size``.
        """
        if x.ndim != 4 or x.shape[1:] != (3, *self.size):
            height, width = self.size
            raise InputError(f"expected (batch, 3, {height}, {width}), got {tuple(x.shape)}")
        return self.refined(x, self.coarse(x))

    # --- between pictures and the network's input --------------------------------------------------------------------

    def corner(self) -> tuple[int, int]:
        """Row and column of the frame at which the network's input starts: it is cut out of the middle."""
        return (self.frame[0] - self.size[0]) // 2, (self.frame[1] - self.size[1]) // 2

    def targets(self, depth: Tensor) -> Tensor:
        """Of maps (B,H,W), of ``size``, the pixels whose depth the network gives: (B,h,w)."""
        rows = slice(self.rows[0] + FIRST, self.rows[1] - FIRST + 2, STRIDE)
        return depth[:, rows, FIRST : self.size[1] - FIRST + 2 : STRIDE]


def _checked_sizes(
    frame: tuple[int, int], size: tuple[int, int], rows: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    frame, size, rows = ((one, two) for one, two in (frame, size, rows or (0, size[0])))
    seen = rows[1] - rows[0]
    if any(length % STRIDE or length < SMALLEST for length in size):
        raise ConfigError(f"size must be multiples of {STRIDE} of at least {SMALLEST}, got {size}")
    if any(outer < inner for outer, inner in zip(frame, size, strict=True)):
        raise ConfigError(f"frame={frame} is smaller than size={size}, which is cut out of it")
    if not 0 <= rows[0] < rows[1] <= size[0] or seen % STRIDE or seen < 4 * STRIDE:
        raise ConfigError(f"rows={rows} must be inside {size[0]} rows, a multiple of {STRIDE} of at least {4 * STRIDE}")
    return frame, size, rows


def _coarse_length(length: int) -> int:
    """Rows of the coarse network's features."""
    length = (length + 2 * padding(length, 11, 4) - 11) // 4 + 1
    for _ in range(3):
        length = (length - 3) // 2 + 1
    return length


# --- foreign checkpoints ----------------------------------------------------------------------------------------------

_PUBLISHED = ({"frame": (240, 320), "size": (228, 304), "rows": (0, 228)}, KITTI)
"""The sizes of the two published networks."""


class OfficialEigen:
    """The release's tensors by name, ``imnet_conv1.W`` and so on, in a .safetensors, .pth or .npz file.

    The release itself stores Python 2 pickles of Theano's variables, one file for each unit, which cannot be read without
    executing them. Whoever trusts them converts them where Theano is installed; the plugin's README has the lines.
    """

    name = "official-eigen2014"
    description = "The Theano release's tensors, as .npz"
    endings = (".npz",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The arrays in an .npz file. Raises FormatError."""
        import numpy as np

        try:
            with np.load(path, allow_pickle=False) as loaded:
                return {name: torch.from_numpy(loaded[name]) for name in loaded.files}
        except Exception as problem:  # a damaged file can fail in any way
            raise FormatError(
                f"{path} is not a readable NumPy archive ({problem})", "Is the file complete?"
            ) from problem

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture.

        Of the sizes that give these shapes a published one is taken, or the one nearest to 4:3.

        Raises:
            FormatError: the tensors are Eigen's, but not all of them, or of shapes that do not fit.
        """
        if not {"imnet_conv1.W", "full2.W", "conv_s2_3.W"} <= state.keys():
            return None
        try:
            widths = tuple(state[f"imnet_conv{index}.W"].shape[0] for index in range(1, 6))
            features, hidden = state["full1.W"].shape
            config: dict[str, Any] = {
                "widths": widths,
                "hidden": hidden,
                "fine": state["conv_s2_1.W"].shape[0],
                **_sizes(features // widths[4], state["full2.W"].shape[1]),
            }
        except (KeyError, ValueError) as problem:
            raise FormatError(
                f"this looks like a checkpoint of Eigen's network, but it is not whole ({problem})"
            ) from problem
        check_tensors(state, lambda: Eigen2014(**config), "Eigen's network")
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        first, last = config["rows"] or (0, config["size"][0])
        return (
            f"size: {config['size'][0]}x{config['size'][1]}, one of those that have maps of this many pixels.",
            f"frame: {config['frame'][0]}x{config['frame'][1]}, which pictures are resized to first.",
            f"rows: the fine network sees rows {first} to {last}.",
            f"log_std: {config['log_std']}, that of NYU Depth.",
            f"dropout: {config['dropout']}, the published one.",
        )


def _sizes(places: int, pixels: int) -> dict[str, Any]:
    """Sizes of a network whose last features have so many places and whose map has so many pixels. Raises FormatError."""
    found = list(_PUBLISHED)
    for height in (item for item in range(1, pixels + 1) if pixels % item == 0):
        size = (STRIDE * (height + 2), STRIDE * (pixels // height + 2))
        if min(size) >= SMALLEST:
            found.append({"frame": size, "size": size, "rows": (0, size[0])})
    fitting = [item for item in found if _places(item["size"]) == places and _pixels(**item) == pixels]
    if not fitting:
        raise FormatError(
            f"this looks like a checkpoint of Eigen's network, but no size has {places} places and {pixels} pixels",
            "Is the file complete, and the network unmodified?",
        )
    published = [item for item in fitting if item in _PUBLISHED]
    return (published or sorted(fitting, key=lambda item: abs(item["size"][1] / item["size"][0] - 4 / 3)))[0]


def _places(size: tuple[int, int]) -> int:
    return _coarse_length(size[0]) * _coarse_length(size[1])


def _pixels(frame: tuple[int, int], size: tuple[int, int], rows: tuple[int, int]) -> int:
    return ((rows[1] - rows[0]) // STRIDE - 2) * (size[1] // STRIDE - 2)
