"""The face embedding of dlib (Davis King, dlib_face_recognition_resnet_model_v1), as npm's ``@vladmandic/face-api`` carries it.

A residual network with 29 convolutions, from an aligned face of 150x150 pixels to 128 numbers. Instead of normalisation it has
layers that scale and shift. Its author: two faces are of one person if they are less than 0.6 apart (Euclidean, so 0.36
here, where distances are squared), which on LFW is right for 99.38 % of pairs.

The package stores filters as one byte each, with a scale and a minimum for each layer (TensorFlow.js' quantisation). The
filters of layers with 128 channels or more, nine tenths of all, are kept like that, which makes the weights four times
smaller; they are not trained further, everything else is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_representation.siamese import Siamese

MEAN = (122.782, 117.001, 104.298)
"""Of red, green and blue, in 0..255."""
BYTES_FROM = 128
"""Channels from which on a layer's filters are bytes."""
BLOCKS = (
    ("conv32_1", 32, 32),
    ("conv32_2", 32, 32),
    ("conv32_3", 32, 32),
    ("conv64_down", 32, 64),
    ("conv64_1", 64, 64),
    ("conv64_2", 64, 64),
    ("conv64_3", 64, 64),
    ("conv128_down", 64, 128),
    ("conv128_1", 128, 128),
    ("conv128_2", 128, 128),
    ("conv256_down", 128, 256),
    ("conv256_1", 256, 256),
    ("conv256_2", 256, 256),
    ("conv256_down_out", 256, 256),
)
"""Name, channels before and after; those with ``down`` in their name halve height and width."""


class ByteConv2d(nn.Module):
    """A convolution whose filters are bytes: ``filters * scale + minimum`` is what it computes with."""

    filters: Tensor
    scale: Tensor
    minimum: Tensor

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        spread = 2 * (before * kernel * kernel) ** -0.5  # untrained: as large as usual initial values
        filters = torch.randint(256, (after, before, kernel, kernel), dtype=torch.uint8)
        self.register_buffer("filters", filters)
        self.register_buffer("scale", torch.tensor(spread / 255))
        self.register_buffer("minimum", torch.tensor(-spread / 2))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.addcmul(self.minimum, self.filters.to(self.scale.dtype), self.scale)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Layer(nn.Module):
    """A convolution, and a scale and a shift for each channel."""

    def __init__(self, before: int, after: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> None:
        super().__init__()
        kind = ByteConv2d if after >= BYTES_FROM else nn.Conv2d
        self.conv: nn.Module = kind(before, after, kernel, stride, padding)
        self.weights = nn.Parameter(torch.ones(after))
        self.biases = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.biases[:, None, None], self.conv(x), self.weights[:, None, None])


class Residual(nn.Module):
    """Two layers beside a shortcut, which is averaged where the block halves height and width, and padded with zeros."""

    def __init__(self, before: int, after: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.conv1 = Layer(before, after, stride=2, padding=0) if down else Layer(before, after)
        self.conv2 = Layer(after, after)

    def forward(self, x: Tensor) -> Tensor:
        found = self.conv2(F.relu(self.conv1(x)))
        if self.down:
            x = F.avg_pool2d(x, 2)
            x = F.pad(x, (0, 0, 0, 0, 0, found.shape[1] - x.shape[1]))
            found = F.pad(found, (0, x.shape[-1] - found.shape[-1], 0, x.shape[-2] - found.shape[-2]))
        return F.relu(found + x)


class DlibFace(Siamese):
    """Faces to 128 numbers.

    Args:
        threshold: the squared distance below which two faces are one person's.

    Raises:
        ConfigError: the threshold is not above 0.
    """

    def __init__(self, threshold: float = 0.36) -> None:
        super().__init__((150, 150), 3, threshold, tuple(value / 255 for value in MEAN), (256 / 255,))
        self.conv32_down = Layer(3, 32, 7, 2, 0)
        for name, before, after in BLOCKS:
            self.add_module(name, Residual(before, after, "down" in name))
        self.fc = nn.Linear(256, 128, bias=False)

    def features(self, x: Tensor) -> Tensor:
        """Pictures (B,3,150,150), (value - mean) / 256, to vectors (B,128)."""
        x = F.max_pool2d(F.relu(self.conv32_down(x)), 3, 2)
        for name, _, _ in BLOCKS:
            x = self.get_submodule(name)(x)
        found: Tensor = self.fc(x.mean((2, 3)))
        return found


# --- what face-api carries --------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, Tensor]:
    """The tensors that a manifest of TensorFlow.js names, in its layouts, from the files beside it.

    A quantised tensor is bytes, with ``NAME/scale`` and ``NAME/minimum`` (float64) besides. Raises FormatError.
    """
    found: dict[str, Tensor] = {}
    try:
        for group in json.loads(path.read_text()):
            content, at = b"".join((path.parent / Path(name).name).read_bytes() for name in group["paths"]), 0
            for entry in group["weights"]:
                name, shape, packed = entry["name"], entry["shape"], entry.get("quantization")
                stored = np.dtype(packed["dtype"] if packed else entry["dtype"]).newbyteorder("<")
                count = int(np.prod(shape, dtype=np.int64))
                values = np.frombuffer(content, stored, count, at).reshape(shape)
                at += values.nbytes
                found[name] = torch.from_numpy(values.astype(stored.newbyteorder("="), copy=True))
                if packed:
                    found[f"{name}/scale"] = torch.tensor(packed["scale"], dtype=torch.float64)
                    found[f"{name}/minimum"] = torch.tensor(packed["min"], dtype=torch.float64)
            if at != len(content):
                raise ValueError(f"{len(content) - at} bytes are left over")
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FormatError(
            f"{path} is not a readable manifest of TensorFlow.js ({problem})", "Are the .bin files beside it complete?"
        ) from problem
    return found


class FaceApi:
    """``face_recognition_model-weights_manifest.json`` of npm's ``@vladmandic/face-api`` (MIT), its .bin file beside it."""

    name = "face-api"
    endings = (".json",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The manifest's tensors: see :func:`read_manifest`. Raises FormatError."""
        return read_manifest(path)

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration, of which there is one; None for other networks."""
        return {} if "conv32_down/conv/filters" in state and "conv256_down_out/conv1/conv/filters" in state else None

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Filters from (height, width, in, out) to PyTorch's order; of the small layers as numbers.

        Raises:
            FormatError: tensors are missing, or have other shapes.
        """
        found: dict[str, Tensor] = {}
        for key, value in state.items():
            if key.endswith(("/scale", "/minimum")):
                continue
            name = re.sub(r"/(conv|scale)/(filters|bias|weights|biases)$", _place, key).replace("/", ".")
            if name == "fc":
                found["fc.weight"] = _numbers(state, key).T.contiguous()
            elif not name.endswith("conv.weight"):
                found[name] = _numbers(state, key)
            elif value.shape[-1] < BYTES_FROM:
                found[name] = _numbers(state, key).permute(3, 2, 0, 1).contiguous()
            else:
                layer = name.removesuffix("weight")
                if value.dtype != torch.uint8:
                    raise FormatError(f"{key} is not stored as bytes", "Take the package's own files")
                found[f"{layer}filters"] = value.permute(3, 2, 0, 1).contiguous()
                for part in ("scale", "minimum"):
                    found[f"{layer}{part}"] = state[f"{key}/{part}"].float()
        check_tensors(found, DlibFace, "dlib's face embedding")
        return found

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell."""
        return ("threshold: it is not in the tensors; 0.6 squared is taken, as the network's author gives it.",)


def _place(match: re.Match[str]) -> str:
    return {"filters": "/conv/weight", "bias": "/conv/bias"}.get(match[2], f"/{match[2]}")


def _numbers(state: Mapping[str, Tensor], key: str) -> Tensor:
    """A tensor's values as float32."""
    value = state[key]
    if value.dtype != torch.uint8:
        return value.float()
    return (value.double() * state[f"{key}/scale"] + state[f"{key}/minimum"]).float()
