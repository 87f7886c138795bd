"""IncepU, the translator of SimVP as first published: a U-Net of Inception blocks over frames that are stacked as channels.

Paper: Gao et al., "SimVP: Simpler yet Better Video Prediction", CVPR 2022 (arXiv:2206.05099).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupConv(nn.Module):
    """Grouped convolution, GroupNorm over the same groups, LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.GroupNorm(groups, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2, inplace=True)


def incep_groups(hidden: int) -> int:
    """8 groups if they divide the hidden channels, otherwise none."""
    return 8 if hidden % 8 == 0 else 1


class Inception(nn.Module):
    """1x1 convolution, then the sum of grouped convolutions with kernels 3, 5, 7 and 11."""

    def __init__(self, in_channels: int, hidden: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden, 1)
        groups = incep_groups(hidden)
        self.layers = nn.ModuleList(GroupConv(hidden, out_channels, kernel, groups) for kernel in (3, 5, 7, 11))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        first, second, *others = self.layers
        y = first(x) + second(x)
        for layer in others:
            y += layer(x)
        return y


class IncepTranslator(nn.Module):
    """A U-Net of one scale: N_T Inception blocks down, N_T up, the skips concatenated."""

    def __init__(self, channels: int, hid_T: int, N_T: int) -> None:
        super().__init__()
        hidden, widths = hid_T // 2, [hid_T] * (N_T - 1) + [channels]
        self.enc = nn.ModuleList(Inception(hid_T if i else channels, hidden, hid_T) for i in range(N_T))
        self.dec = nn.ModuleList(Inception(2 * hid_T if i else hid_T, hidden, widths[i]) for i in range(N_T))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.enc:
            x = block(x)
            skips.append(x)
        x = self.dec[0](skips.pop())
        for block in self.dec[1:]:
            x = block(torch.cat((x, skips.pop()), dim=1))
        return x
