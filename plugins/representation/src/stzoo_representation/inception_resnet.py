"""Inception-ResNet-v1 (Szegedy et al., Inception-v4, https://arxiv.org/abs/1602.07261) as FaceNet's successors use it for faces.

The tensors and numbers are those of https://github.com/timesler/facenet-pytorch (commit 787da06, MIT), which are converted
from David Sandberg's facenet: normalisation with epsilon 1e-3, residuals scaled by 0.17, 0.10 and 0.20, and a vector of 512
numbers of length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError
from stzoo.formats import check_tensors
from stzoo_representation.siamese import Siamese

SMALLEST = 75
"""Pixels below which nothing is left before the last block."""


class Unit(nn.Module):
    """A convolution without bias, normalised, and ReLU."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Branches side by side, joined by a 1x1 convolution, scaled and added to what came in.

    ``Block35``, ``Block17`` and ``Block8`` of the paper's figures 10, 11 and 13.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], branches: list[nn.Module], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.count = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(sum(widths), channels, 1)

    def forward(self, x: Tensor, last: bool = False) -> Tensor:
        found = torch.cat([self.get_submodule(f"branch{index}")(x) for index in range(self.count)], 1)
        out: Tensor = x + self.scale * self.conv2d(found)
        return out if last else F.relu(out)


def _block35() -> Branches:
    first = Unit(256, 32, 1)
    second = nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, padding=1))
    third = nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, padding=1), Unit(32, 32, 3, padding=1))
    return Branches(256, (32, 32, 32), [first, second, third], 0.17)


def _block17() -> Branches:
    wide = nn.Sequential(
        Unit(896, 128, 1), Unit(128, 128, (1, 7), padding=(0, 3)), Unit(128, 128, (7, 1), padding=(3, 0))
    )
    return Branches(896, (128, 128), [Unit(896, 128, 1), wide], 0.10)


def _block8(scale: float = 0.20) -> Branches:
    wide = nn.Sequential(
        Unit(1792, 192, 1), Unit(192, 192, (1, 3), padding=(0, 1)), Unit(192, 192, (3, 1), padding=(1, 0))
    )
    return Branches(1792, (192, 192), [Unit(1792, 192, 1), wide], scale)


class Reduction(nn.Module):
    """Branches with stride 2 side by side, and max pooling beside them."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.get_submodule(f"branch{index}")(x) for index in range(self.count)]
        return torch.cat((*found, F.max_pool2d(x, 3, 2)), 1)


class InceptionResnetV1(Siamese):
    """Faces to vectors of length 1.

    Args:
        size: height and width that pictures are resized to, at least 75.
        threshold: the squared distance below which two faces are one person's: see :class:`InceptionResnetFormat`.

    Raises:
        ConfigError: the size is too small.
    """

    averages = True

    def __init__(self, size: tuple[int, int] = (160, 160), threshold: float = 1.1) -> None:
        super().__init__(size, 3, threshold, (127.5 / 255,), (128 / 255,))
        if min(size) < SMALLEST:
            raise ConfigError(f"size must be at least {SMALLEST}x{SMALLEST}, got {size[0]}x{size[1]}")
        self.conv2d_1a = Unit(3, 32, 3, stride=2)
        self.conv2d_2a = Unit(32, 32, 3)
        self.conv2d_2b = Unit(32, 64, 3, padding=1)
        self.conv2d_3b = Unit(64, 80, 1)
        self.conv2d_4a = Unit(80, 192, 3)
        self.conv2d_4b = Unit(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Reduction(
            Unit(256, 384, 3, stride=2),
            nn.Sequential(Unit(256, 192, 1), Unit(192, 192, 3, padding=1), Unit(192, 256, 3, stride=2)),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            nn.Sequential(Unit(896, 256, 1), Unit(256, 384, 3, stride=2)),
            nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, stride=2)),
            nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, padding=1), Unit(256, 256, 3, stride=2)),
        )
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(1.0)
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B,3,H,W), values in about [-1, 1], to vectors (B,512) of length 1."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, 2))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)), last=True)
        return F.normalize(self.last_bn(self.last_linear(self.dropout(x.mean((2, 3))))))


class InceptionResnetFormat:
    """State dicts of facenet-pytorch. The classifier of the people it was trained on (``logits``) is left out."""

    name = "facenet-pytorch"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None for other networks. Raises FormatError: it is this one, but incomplete."""
        if "block8.conv2d.weight" not in state or "last_linear.weight" not in state:
            return None
        check_tensors(self._own(state), InceptionResnetV1, "Inception-ResNet-v1 for faces")
        return {}

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return self._own(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell."""
        return (
            "threshold: it is not in the tensors; 1.1 is assumed, which FaceNet's authors show as a squared distance that "
            "divides a few pairs of theirs (figure 1). Choose your own on validation data.",
            "size: it is not in the tensors; 160x160 is assumed, which the published ones were trained at.",
        )

    @staticmethod
    def _own(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in state.items() if not key.startswith("logits.")}
