"""Siamese networks: two pictures through one network, and a distance between what comes out.

``d = |f(x1) - f(x2)|^2``, and the two show the same person (or sign) if ``d < T``. Three networks that are often met:

- :class:`EmbeddingNet` of https://github.com/adambielski/siamese-triplet (commit 0c719f9, BSD-3): 28x28, two numbers.
- :class:`ATTNet` of https://github.com/harveyslash/Facial-Similarity-with-Siamese-Networks-in-Pytorch (commit f4a5352, MIT),
  for the AT&T (ORL) faces: 100x100, five numbers.
- :class:`KochNet` (Koch, Zemel and Salakhutdinov, Siamese Neural Networks for One-shot Image Recognition, 2015): 105x105, a
  weighted L1 distance and a sigmoid, in the tensors of https://github.com/fangpin/siamese-pytorch (commit 750cfef).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError


class Siamese(nn.Module):
    """What all have: pictures in, a vector for each, and how two vectors are compared.

    Args:
        size: height and width that pictures are resized to.
        channels: 1 or 3.
        mean, std: what is taken from values in [0, 1], and what the rest is divided by: one number for each channel, or for all.
        threshold: the distance below which two are the same.

    Raises:
        ConfigError: the threshold is not above 0, or there are as many means or deviations as neither 1 nor ``channels``.
    """

    def __init__(
        self,
        size: tuple[int, int],
        channels: int,
        threshold: float,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        if not threshold > 0:
            raise ConfigError(f"threshold must be above 0, got {threshold:g}")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ConfigError(f"{name} has {len(values)} numbers for {channels} channels")
        if min(std) <= 0:
            raise ConfigError(f"std must be above 0, got {std}")
        self.size, self.channels, self.threshold = (size[0], size[1]), channels, float(threshold)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor
    averages = False
    """Whether it averages over places at its end, and so takes pictures of other sizes too (80x80, say)."""

    @property
    def requirements(self) -> Requirements:
        """Any picture will do: the task resizes it."""
        return Requirements(channels=self.channels, native_size=self.size)

    def features(self, x: Tensor) -> Tensor:
        """Normalised pictures (B,C,H,W) to vectors (B,D): what the official code calls forward."""
        raise NotImplementedError

    def embed(self, pictures: Tensor) -> Tensor:
        """Pictures (B,C,H,W) in [0, 1] to vectors (B,D)."""
        return self.features((pictures - self.mean) / self.std)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Squared Euclidean distances (B,) of vectors (B,D)."""
        return (first - second).square().sum(-1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (B,) of pictures (B,C,H,W) in [0, 1]."""
        one, two = self.embed(torch.cat((first, second))).chunk(2)
        return self.compare(one, two)


class EmbeddingNet(Siamese):
    """Convolutions with PReLU, each followed by max pooling, and fully connected layers; at the defaults, siamese-triplet's.

    Args:
        size, channels, mean, std, threshold: see :class:`Siamese`; the defaults of mean and std are MNIST's.
        widths: filters of each convolution (``kernel`` x ``kernel``, no padding).
        hidden: units of the full layers before the last.
        dimensions: of the vector.
        l2: whether the vector is divided by its length, so that squared distances are from 0 to 4.

    Raises:
        ConfigError: pictures of this size are too small, or see :class:`Siamese`.
    """

    def __init__(
        self,
        size: tuple[int, int] = (28, 28),
        channels: int = 1,
        mean: tuple[float, ...] = (0.1307,),
        std: tuple[float, ...] = (0.3081,),
        threshold: float = 0.25,
        widths: tuple[int, ...] = (32, 64),
        kernel: int = 5,
        hidden: tuple[int, ...] = (256, 256),
        dimensions: int = 2,
        l2: bool = False,
    ) -> None:
        super().__init__(size, channels, threshold, mean, std)
        height, width = self.size
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, kernel), nn.PReLU(), nn.MaxPool2d(2, stride=2)]
            height, width = (height - kernel + 1) // 2, (width - kernel + 1) // 2
        if min(height, width) < 1:
            raise ConfigError(
                f"pictures of {size[0]}x{size[1]} are too small for {len(widths)} convolutions", "Give fewer widths"
            )
        self.l2 = l2
        self.convnet = nn.Sequential(*layers)
        units = (widths[-1] * height * width, *hidden, dimensions)
        full: list[nn.Module] = []
        for before, after in pairwise(units):
            full += [nn.Linear(before, after), nn.PReLU()]
        self.fc = nn.Sequential(*full[:-1])

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.convnet(x).flatten(1))
        return F.normalize(found, eps=1e-12) if self.l2 else found


class ATTNet(Siamese):
    """Three reflection-padded convolutions with ReLU, then normalised, and three full layers; no pooling.

    Args:
        size, channels, threshold: see :class:`Siamese`.
        widths: filters of the three convolutions.
        hidden: units of the two full layers before the last.
        dimensions: of the vector.
    """

    def __init__(
        self,
        size: tuple[int, int] = (100, 100),
        channels: int = 1,
        threshold: float = 1.0,
        widths: tuple[int, ...] = (4, 8, 8),
        hidden: int = 500,
        dimensions: int = 5,
    ) -> None:
        super().__init__(size, channels, threshold)
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
        self.cnn1 = nn.Sequential(*layers)
        self.fc1 = nn.Sequential(
            nn.Linear(widths[-1] * size[0] * size[1], hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dimensions),
        )

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc1(self.cnn1(x).flatten(1))
        return found


class KochNet(Siamese):
    """Koch's network: vectors in (0, 1), compared by a weighted L1 distance that becomes a probability of being the same.

    Its distance is one minus that probability. The layer that is called ``liner`` is so in the official tensors.

    Args:
        size, channels, threshold: see :class:`Siamese`.
        widths: filters of the four convolutions (10x10, 7x7, 4x4 and 4x4, no padding; max pooling behind the first three).
        dimensions: of the vector.

    Raises:
        ConfigError: pictures of this size are too small, or see :class:`Siamese`.
    """

    def __init__(
        self,
        size: tuple[int, int] = (105, 105),
        channels: int = 1,
        threshold: float = 0.5,
        widths: tuple[int, ...] = (64, 128, 128, 256),
        dimensions: int = 4096,
    ) -> None:
        super().__init__(size, channels, threshold)
        sides, layers, before = list(self.size), list[nn.Module](), channels
        for kernel, after in zip((10, 7, 4, 4), widths, strict=True):
            layers += [nn.Conv2d(before, after, kernel), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            last, before = [side - kernel + 1 for side in sides], after
            sides = [side // 2 for side in last]
        if min(last) < 1:
            raise ConfigError(f"pictures of {size[0]}x{size[1]} are too small for four convolutions", "Take 105x105")
        self.conv = nn.Sequential(*layers[:-1])
        self.liner = nn.Sequential(nn.Linear(widths[-1] * last[0] * last[1], dimensions), nn.Sigmoid())
        self.out = nn.Linear(dimensions, 1)

    def features(self, x: Tensor) -> Tensor:
        found: Tensor = self.liner(self.conv(x).flatten(1))
        return found

    def similarity(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits (B,) of being the same, of vectors (B,D)."""
        found: Tensor = self.out((first - second).abs())[:, 0]
        return found

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """One minus the probability of being the same (B,), of vectors (B,D)."""
        return torch.sigmoid(-self.similarity(first, second))
