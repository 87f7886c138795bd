"""What reference implementations compute: files beside a plugin's tests. PYTEST_DONT_REWRITE: there are no assertions here.

No weights are kept: every implementation was given values that follow from a tensor's official name and its shape.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor


def _random(name: str) -> np.random.RandomState:
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def fill(key: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """The value every implementation gives to the official tensor ``key``; whole numbers are 0."""
    if not dtype.is_floating_point:
        return torch.zeros(tuple(shape), dtype=dtype)
    x, leaf = _random(key).standard_normal(tuple(shape)), key.rpartition(".")[2]
    if len(shape) > 1:
        x = x / math.sqrt(math.prod(shape[1:]))
    elif leaf == "running_var":
        x = 1 + 0.1 * np.abs(x)
    else:
        x = 0.1 * x + (leaf == "weight")
    return torch.tensor(x, dtype=dtype)


def given(name: str, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
    """The numbers between ``low`` and ``high`` that every implementation is given as ``name``."""
    return torch.tensor(_random(f"input:{name}").uniform(low, high, tuple(shape)), dtype=torch.float32)


class Golden:
    """``PATH.json`` and ``PATH.safetensors``: how a reference was built, and what went in and came out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text())
        return facts

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path.with_suffix(".safetensors"))

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The official state dict, filled; constants that the reference computes for itself are 0."""
        special = self.facts.get("fill", {"excluded_keys": [], "alias_keys": {}})
        return {
            key: torch.zeros(shape)
            if key in special["excluded_keys"]
            else fill(special["alias_keys"].get(key, key), shape, getattr(torch, dtype.removeprefix("torch.")))
            for key, (shape, dtype) in self.facts["state_dict"].items()
        }
