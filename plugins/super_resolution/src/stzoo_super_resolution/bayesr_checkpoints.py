"""The official checkpoints of BayeSR: TensorFlow bundles (``model.index`` and ``model.data-00000-of-00001``), read without TensorFlow.

A bundle's index is a table in the format of LevelDB (sorted keys in blocks, each key told by how it differs from the one
before; https://github.com/google/leveldb/blob/main/doc/table_format.md). Its values are protocol buffers
(tensorflow/core/protobuf/tensor_bundle.proto) that say where a tensor's bytes are in the data files. Nothing is executed.
Checksums are not verified; places and sizes are.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo.wire import message, varint
from stzoo_super_resolution.bayesr import BayeSR

# --- bundles ----------------------------------------------------------------------------------------------------------

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
"""TensorFlow's numbers of the types that are read: no strings, resources, complex or quantised numbers."""


def read_bundle(index: Path) -> dict[str, Tensor]:
    """The tensors of a TensorFlow bundle under TensorFlow's names, in its layouts; ``index`` is the file that ends so.

    Tensors of types that hold no plain numbers are left out.

    Raises:
        FormatError: it is no such file, is incomplete, or holds a tensor in parts.
    """
    try:
        table = dict(_table(index.read_bytes()))
        header = dict(message(table.pop(b"")))
        shards = header.get(1, 1)
        if header.get(2, 0) or shards > 99_999:
            raise ValueError(f"{shards} data files, or big-endian numbers")
        prefix = str(index).removesuffix(".index")
        paths = [Path(f"{prefix}.data-{number:05d}-of-{shards:05d}") for number in range(shards)]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise FormatError(f"{missing[0]} is not beside {index}", "A bundle is all of its files; keep them together")
        data = [np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8) for path in paths]
        tensors = ((key.decode(), _tensor(key.decode(), entry, data)) for key, entry in table.items())
        return {name: tensor for name, tensor in tensors if tensor is not None}
    except FormatError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as problem:
        raise FormatError(
            f"{index} is not a readable TensorFlow bundle ({problem})", "Is the file complete?"
        ) from problem


def _tensor(name: str, entry: bytes, data: list[np.ndarray]) -> Tensor | None:
    found: dict[int, Any] = {}
    sizes: list[int] = []
    for key, value in message(entry):
        if key == 2:  # the shape: dimensions (2) with a size (1)
            sizes += [dict(message(dim)).get(1, 0) for part, dim in message(value) if part == 2]
        elif key == 7:
            raise FormatError(f"the tensor {name} is stored in parts", "Save it whole, without a partitioner")
        else:
            found[key] = value
    if (kind := _DTYPES.get(found.get(1, 0))) is None:
        return None
    dtype, start, size = np.dtype(kind), found.get(4, 0), found.get(5, 0)
    shard = data[found.get(3, 0)]
    if size != dtype.itemsize * int(np.prod(sizes, dtype=np.int64)) or start + size > len(shard):
        raise ValueError(f"{name} has {size} bytes at {start}: too few, too many, or beyond the end")
    return torch.from_numpy(np.array(shard[start : start + size]).view(dtype).reshape(sizes))


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table: the footer leads to an index block, that to the blocks of data."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ValueError("it does not end as one does")
    footer = data[-_FOOTER:]
    _, place = varint(footer, 0)
    _, place = varint(footer, place)
    for _, handle in _block(data, *_handle(footer, place)):
        yield from _block(data, *_handle(handle, 0))


def _handle(data: bytes, place: int) -> tuple[int, int]:
    offset, place = varint(data, place)
    return offset, varint(data, place)[0]


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block of ``size`` bytes; after it come its compression (none or Snappy) and a checksum."""
    if offset + size + 5 > len(data):
        raise ValueError("a block goes beyond its end")
    block, compression = data[offset : offset + size], data[offset + size]
    if compression > 1:
        raise ValueError(f"its compression {compression} is unknown")
    block = _snappy(block) if compression else block
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = varint(block, place)
        fresh, place = varint(block, place)
        length, place = varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        place += fresh
        yield key, block[place : place + length]
        place += length


def _snappy(data: bytes) -> bytes:
    """Uncompress a Snappy block: runs of literal bytes, and copies of what came out before (overlapping: repeated)."""
    wanted, place = varint(data, 0)
    out = bytearray()
    while place < len(data):
        tag = data[place]
        place += 1
        if tag & 3 == 0:
            length = tag >> 2
            if length >= 60:
                width = length - 59
                length, place = int.from_bytes(data[place : place + width], "little"), place + width
            out += data[place : place + length + 1]
            place += length + 1
            continue
        if tag & 3 == 1:
            length, back, width = (tag >> 2 & 7) + 4, (tag >> 5) << 8, 1
        else:
            length, back, width = (tag >> 2) + 1, 0, 2 if tag & 3 == 2 else 4
        back |= int.from_bytes(data[place : place + width], "little")
        place += width
        if not 0 < back <= len(out):
            raise ValueError("a compressed block is damaged")
        seed = bytes(out[-back:][:length])
        out += (seed * (length // len(seed) + 1))[:length]
    if len(out) != wanted:
        raise ValueError("a compressed block is damaged")
    return bytes(out)


# --- BayeSR's checkpoints ---------------------------------------------------------------------------------------------

_ROOT = "SmSpNet/"
_COMPANION = re.compile(rf"{_ROOT}Discriminator/|.*/(Adam|RMSProp|Momentum)(_\d+)?\Z")
"""Beside the networks a training run saves its discriminators, and what its optimizers remember."""


class OfficialBayeSR:
    """Checkpoints of the official code: bundles, or the same tensors under TensorFlow's names in any other kind of file.

    ``SmSpNet/cnnm/ResBlock0/conv0/kernel`` (height, width, in, out) becomes ``cnnm.ResBlock0.conv0.weight`` (out, in, height,
    width); transposed convolutions (height, width, out, in) become (in, out, height, width).
    """

    name = "bayesr-tensorflow"
    description = "official BayeSR"
    endings = (".index",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a bundle; raises FormatError."""
        return read_bundle(path)

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is BayeSR's, but incomplete or modified.
        """
        first = state.get(f"{_ROOT}cnnx/input/kernel")
        if first is None:
            return None
        if first.ndim != 4:
            raise FormatError("this looks like an official BayeSR checkpoint, but its convolutions are malformed")
        ups = [match for key in state if (match := re.match(rf"{_ROOT}upx/upsample_x(\d+)/(\w+)/kernel\Z", key))]
        scale = max((int(match[1]) for match in ups), default=1)
        up_type = (
            {"conv_transpose": "transpose", "subpixel": "subpixel"}.get(ups[0][2], ups[0][2]) if ups else "transpose"
        )
        if not ups and any(key.startswith(f"{_ROOT}Generator/") for key in state):
            scale, up_type = 4, "interpolation"

        def depth(network: str) -> int:
            return len({match[1] for key in state if (match := re.match(rf"{_ROOT}{network}/ResBlock(\d+)/", key))})

        size, _, channels, filters = first.shape
        config = {
            "scale": scale,
            "in_channel": channels,
            "filters": filters,
            "filter_size": size,
            "up_type": up_type,
            "d_cnnx": depth("cnnx"),
            "d_cnnz": depth("cnnz"),
            "d_cnnm": depth("cnnm"),
            "use_CA": any("/CALayer/" in key for key in state),
        }
        check_tensors(self.convert(state, config), partial(BayeSR, **config), "official BayeSR")
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The networks' tensors under the names and in the layouts of `BayeSR`."""
        own = {key: tensor for key, tensor in state.items() if key.startswith(_ROOT) and not _COMPANION.match(key)}
        return {
            key.removeprefix(_ROOT).replace("/", ".").replace("kernel", "weight"): (
                tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor
            )
            for key, tensor in own.items()
        }

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        scale = (f"scale: upsampling by interpolation has no tensors; {config['scale']} is assumed.",)
        return (
            *(scale if config["up_type"] == "interpolation" else ()),
            "The training data and the way they were degraded are not in the tensors; pictures in [0, 1] are assumed.",
        )
