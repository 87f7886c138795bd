"""Shared by the plugin's tests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

Golden = tuple[dict[str, Tensor], dict[str, Any]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """In networks this small threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    """``golden(NAME)``: the tensors and the notes of ``goldens/NAME.safetensors`` and ``.json``."""

    def load(name: str) -> Golden:
        path = Path(__file__).parent / "goldens" / name
        return load_file(path.with_suffix(".safetensors")), json.loads(path.with_suffix(".json").read_text())

    return load


@pytest.fixture(scope="session")
def filled() -> Callable[[dict[str, Any]], dict[str, Tensor]]:
    """``filled(NOTES)``: the state dict that the notes of a golden list, with the values that every implementation was given."""

    def fill(notes: dict[str, Any]) -> dict[str, Tensor]:
        return {key: _tensor(key, shape, dtype) for key, (shape, dtype) in notes["state_dict"].items()}

    return fill


def _tensor(key: str, shape: list[int], dtype: str) -> Tensor:
    """A value that follows from the tensor's name and shape alone; whole numbers are 0."""
    kind = getattr(torch, dtype.removeprefix("torch."))
    if not kind.is_floating_point:
        return torch.zeros(shape, dtype=kind)
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
    values, leaf = (
        np.random.RandomState(seed).standard_normal(tuple(shape) or (1,)).reshape(shape),
        key.rpartition(".")[2],
    )
    if leaf == "running_var":
        values = 1 + 0.1 * np.abs(values)
    elif len(shape) >= 2 and leaf != "running_mean":
        values = values / math.sqrt(max(1, math.prod(shape[1:])))
    else:
        values = 0.1 * values + (leaf == "weight")
    return torch.tensor(values, dtype=torch.float32)
