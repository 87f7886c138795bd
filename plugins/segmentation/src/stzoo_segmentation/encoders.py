"""Encoders of the pretrained-encoder U-Net: ResNet and VGG without their classifiers, with torchvision's names of parameters.

Papers: He et al., CVPR 2016 (arXiv:1512.03385); Simonyan and Zisserman, ICLR 2015 (arXiv:1409.1556).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

RESNETS: dict[str, tuple[tuple[int, int, int, int], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
"""Blocks of each layer, and whether they are bottlenecks."""
VGGS: dict[str, tuple[int, int, int, int, int]] = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Convolutions between the poolings; each also with batch norm, as ``vgg11_bn``."""
NAMES = (*RESNETS, *VGGS, *(f"{name}_bn" for name in VGGS))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a bottleneck of 1x1, 3x3 and 1x1 with four times the channels, and a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = [channels_in, *[channels] * (len(kernels) - 1), channels * (4 if bottleneck else 1)]
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        self.count = len(kernels)
        for number, (kernel, (before, after), step) in enumerate(
            zip(kernels, pairwise(widths), strides, strict=True), 1
        ):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.downsample: nn.Module | None = None
        if stride > 1 or channels_in != widths[-1]:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, widths[-1], 1, stride, bias=False), nn.BatchNorm2d(widths[-1])
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.count + 1):
            x = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x))
            if number < self.count:
                x = F.relu_(x)
        return F.relu_(x + shortcut)


class ResNet(nn.Module):
    """Features at 1/2 (64 channels), 1/4, 1/8, 1/16 and 1/32 of the picture's height and width."""

    def __init__(self, name: str, in_channels: int, depth: int) -> None:
        super().__init__()
        blocks, bottleneck = RESNETS[name]
        self.depth = depth
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.channels, before, reach = [64], 64, 3 + 2
        for level, count in enumerate(blocks):
            own, after = 64 << level, (256 if bottleneck else 64) << level
            layer = [
                ResidualBlock(before if not index else after, own, 2 if level and not index else 1, bottleneck)
                for index in range(count)
            ]
            self.add_module(f"layer{level + 1}", nn.Sequential(*layer))
            self.channels.append(after)
            before = after
            if level + 2 <= depth:
                convolutions = count * (1 if bottleneck else 2)
                reach += (4 << level) * convolutions - ((2 << level) if level else 0)
        self.channels = self.channels[:depth]
        self.reach = reach if depth > 1 else 3

    def forward(self, picture: Tensor) -> list[Tensor]:
        found = [F.relu_(self.bn1(self.conv1(picture)))]
        for level in range(1, self.depth):
            x = F.max_pool2d(found[-1], 3, 2, 1) if level == 1 else found[-1]
            found.append(self.get_submodule(f"layer{level}")(x))
        return found


class VGG(nn.Module):
    """Features before each pooling but the first, at 1/2 to 1/16, and after the last one, at 1/32."""

    def __init__(self, name: str, in_channels: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        layers: list[nn.Module] = []
        self.stages, channels, before, reach = [0], [], in_channels, 0
        for level, count in enumerate(VGGS[name.removesuffix("_bn")]):
            own = min(64 << level, 512)
            for _ in range(count):
                layers.append(nn.Conv2d(before, own, 3, padding=1))
                layers += [nn.BatchNorm2d(own)] * name.endswith("_bn") + [nn.ReLU(inplace=True)]
                before = own
            channels.append(own)
            reach += ((count << level) + (1 << level if level else 0)) if level <= depth else 0
            self.stages.append(len(layers))
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.stages.append(len(layers))
        self.channels = [*channels[1:], 512][:depth]
        self.reach = reach

    def forward(self, picture: Tensor) -> list[Tensor]:
        x, found = picture, []
        for start, stop in list(pairwise(self.stages))[: self.depth + 1]:
            x = self.features[start:stop](x)
            found.append(x)
        return found[1:]


def build(name: str, in_channels: int, depth: int) -> ResNet | VGG:
    """The encoder of this name; its ``channels`` are those of its features, ``reach`` the radius of what they depend on."""
    return ResNet(name, in_channels, depth) if name in RESNETS else VGG(name, in_channels, depth)


def recognised(keys: Sequence[str]) -> str | None:
    """The name of the encoder that has these parameters; None if there is none."""
    blocks = tuple(
        len({key.split(".")[1] for key in keys if key.startswith(f"layer{level}.")}) for level in range(1, 5)
    )
    for name, (counts, bottleneck) in RESNETS.items():
        if blocks == counts and bottleneck == ("layer1.0.conv3.weight" in keys):
            return name
    convolutions = {key for key in keys if key.startswith("features.") and key.endswith(".weight")}
    for name in NAMES[len(RESNETS) :]:
        module = VGG(name, 1, 5) if convolutions else None
        if module is not None and convolutions == {key for key in module.state_dict() if key.endswith(".weight")}:
            return name
    return None
