"""TensorFlow's frozen graphs (``.pb``), whose constants are read without TensorFlow, and the one of deepbrain.

A graph is a protocol buffer (tensorflow/core/framework/graph.proto, node_def.proto, tensor.proto): a list of nodes, of which those called ``Const`` hold a tensor. Nothing is
executed.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo.wire import message
from stzoo_segmentation.unet3d import UNet3d, deepbrain_config

_FLOAT = 1
"""TensorFlow's number of the type float32; constants of others steer the graph and are left out."""


def read_graph(path: Path) -> dict[str, Tensor]:
    """The float32 constants of a frozen graph under TensorFlow's names, in its layouts. Raises FormatError."""
    try:
        found = {}
        for part, node in message(path.read_bytes()):
            if part == 1 and (constant := _constant(node)):
                found[constant[0]] = constant[1]
        if not found:
            raise ValueError("it has no constants of type float32")
        return found
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as problem:
        raise FormatError(
            f"{path} is not a readable frozen graph of TensorFlow ({problem})", "Is the file complete?"
        ) from problem


def _constant(node: bytes) -> tuple[str, Tensor] | None:
    """Name (1) and tensor (attribute 5 ``value``, its part 8) of a node whose operation (2) is ``Const``."""
    parts = list(message(node))
    if dict(item for item in parts if item[0] in (1, 2)).get(2) != b"Const":
        return None
    name = next(value for part, value in parts if part == 1).decode()
    attributes = (dict(message(value)) for part, value in parts if part == 5)
    value = next(item[2] for item in attributes if item[1] == b"value")
    tensor = _tensor(name, next(content for part, content in message(value) if part == 8))
    return None if tensor is None else (name, tensor)


def _tensor(name: str, content: bytes) -> Tensor | None:
    """Type (1), shape (2), and numbers: all bytes at once (4) or one by one (5), where one may stand for all."""
    sizes: list[int] = []
    kind, data = 0, b""
    for part, value in message(content):
        if part == 1:
            kind = value
        elif part == 2:
            sizes += [dict(message(dim)).get(1, 0) for number, dim in message(value) if number == 2]
        elif part in (4, 5):
            data += value
    if kind != _FLOAT:
        return None
    count = int(np.prod(sizes, dtype=np.int64))
    numbers = np.frombuffer(data, "<f4")
    if len(numbers) not in (1, count):
        raise ValueError(f"{name} has {len(numbers)} numbers for the shape {sizes}")
    return torch.from_numpy(np.array(np.broadcast_to(numbers, count) if len(numbers) == 1 else numbers).reshape(sizes))


# --- deepbrain --------------------------------------------------------------------------------------------------------


class DeepBrain:
    """``deepbrain/models/graph.pb`` of the package deepbrain 0.1 (https://github.com/iitzco/deepbrain, MIT)."""

    name = "deepbrain"
    endings = (".pb",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The graph's constants. Raises FormatError."""
        return read_graph(path)

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The one configuration there is; None for other graphs."""
        first = state.get("conv3d/kernel")
        if first is None or "conv3d_transpose_2/kernel" not in state or tuple(first.shape) != (3, 3, 3, 1, 8):
            return None
        return deepbrain_config()

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Kernels from (x, y, z, in, out), of transposed convolutions (x, y, z, out, in), to PyTorch's order.

        Raises:
            FormatError: tensors are missing, or have other shapes.
        """
        found = {}
        for key, tensor in state.items():
            if not (match := re.fullmatch(r"conv3d(_transpose)?(?:_(\d+))?/(kernel|bias)", key)):
                continue  # constants of dropout
            transposed, number, what = match[1], int(match[2] or 0), match[3]
            if transposed:
                place = f"enlarge.{number}"
            elif number < 6:
                place = f"down.{number // 2}.{number % 2 * 2}"
            else:
                place = f"up.{number - 6}.0" if number < 9 else "head"
            moved = tensor.permute(4, 3, 0, 1, 2).contiguous() if what == "kernel" else tensor
            found[f"{place}.{'weight' if what == 'kernel' else 'bias'}"] = moved
        check_tensors(found, lambda: UNet3d(**config), "deepbrain")
        return found

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return ()
