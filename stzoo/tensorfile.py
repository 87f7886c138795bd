"""safetensors files, mapped and aligned.

The format is safetensors' own (https://github.com/huggingface/safetensors#format) and every file is checked by that library.
Reading maps the file once and views each tensor in it, several times quicker than one call per tensor. Writing puts tensors
whose size is a multiple of 64 bytes first and pads the header, so that they lie in the mapped file as PyTorch's own
allocations do: kernels then take the same paths, and outputs are equal to the last bit. (Several tensors of odd size above
64 kB, and files that others wrote, may lie otherwise: equal outputs then hold to rounding.)
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from stzoo.errors import WeightsCorrupted

if TYPE_CHECKING:
    import torch

ALIGNMENT = 64
_SMALL = 1 << 16
"""Unaligned tensors up to this many bytes are copied to aligned memory; larger ones stay where they are."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a safetensors file as private views of its mapping, and its metadata.

    Raises WeightsCorrupted if it is not an intact safetensors file.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:  # checks the header, every offset and the file's size
            with path.open("rb") as raw:
                length = int.from_bytes(raw.read(8), "little")
                header = json.loads(raw.read(length))
            metadata = header.pop("__metadata__", {})  # in its order: the library's is random
            start = 8 + length
            if start % 8 or any(entry["dtype"] not in _DTYPES for entry in header.values()):
                return {key: file.get_tensor(key) for key in header}, metadata
    except SafetensorError as problem:
        raise WeightsCorrupted(f"{path} is not an intact safetensors file ({problem})", "Get it again") from problem
    with path.open("rb") as raw:
        mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_COPY)  # private: what is written does not reach the file
    tensors = {}
    for key, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = getattr(torch, _DTYPES[entry["dtype"]])
        if begin == end:
            tensors[key] = torch.empty(entry["shape"], dtype=dtype)
            continue
        count = (end - begin) // dtype.itemsize
        tensor = torch.frombuffer(mapped, dtype=dtype, count=count, offset=start + begin).view(entry["shape"])
        unaligned = (start + begin) % ALIGNMENT and end - begin <= _SMALL
        tensors[key] = tensor.clone() if unaligned else tensor
    return tensors, metadata


def size(path: Path) -> int:
    """Bytes of the tensors in a safetensors file."""
    with path.open("rb") as file:
        return path.stat().st_size - 8 - int.from_bytes(file.read(8), "little")


def write(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write CPU tensors to ``path``, one after the other, without a second copy of them all in memory."""
    import torch

    names = {getattr(torch, name): short for short, name in _DTYPES.items()}
    sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in tensors.items()}
    order = sorted(tensors, key=lambda key: (sizes[key] % ALIGNMENT != 0, -tensors[key].element_size(), key))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for key in order:
        tensor = tensors[key]
        offsets = [offset, offset := offset + sizes[key]]
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            flat = tensors[key].contiguous().view(-1)
            if flat.numel():
                file.write(flat.view(torch.uint8).numpy().data)
