"""What reference implementations compute: files beside a plugin's tests. PYTEST_DONT_REWRITE: there are no assertions here.

No weights are kept: every implementation was given values that follow from a tensor's official name and its shape.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from stzoo.errors import FormatError


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


def unnoticed(known: Any, state: Mapping[str, Tensor], words: str, every: int = 5) -> list[str]:
    """Changes that a format reads past, or refuses without these words: tensors missing or reshaped (one in five), one too many."""

    def passes(changed: Mapping[str, Tensor]) -> bool:
        try:
            return known.detect(changed) is not None
        except FormatError as problem:
            return not re.search(words, str(problem))

    found = [] if passes(state) else ["nothing"]
    for key, value in list(state.items())[::every]:
        if passes({name: tensor for name, tensor in state.items() if name != key}):
            found.append(f"without {key}")
        if value.ndim and passes({**state, key: value.new_empty(value.shape[0] + 4, *value.shape[1:])}):
            found.append(f"larger {key}")
    return found + (["head.weight"] if passes({**state, "head.weight": torch.empty(2)}) else [])


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
