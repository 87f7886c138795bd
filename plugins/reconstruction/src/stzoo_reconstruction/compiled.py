"""How functions are compiled by Numba, once for each machine: the results are kept beside the package or in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

LOOSE = frozenset(("contract", "reassoc", "nsz", "arcp", "nnan", "ninf"))
"""Freedoms of the compiler in loops whose numbers are finite: sums in any order, fused multiply-add."""


def compiled(*freedoms: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a function of arrays and numbers; it runs without the interpreter's lock. ``freedoms``: as in ``LOOSE``."""

    def compile_later(function: Callable[..., Any]) -> Any:
        options: dict[str, Any] = {"nogil": True, "fastmath": set(freedoms), "error_model": "numpy"}
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # there is no place to write to
            return njit(**options)(function)

    return compile_later
