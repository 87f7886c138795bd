"""Hugging Face ZeroGPU, where a Space has a GPU only while a marked function runs."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from stzoo.errors import StzooError

log = logging.getLogger("stzoo")

P = ParamSpec("P")
R = TypeVar("R")

BORROWED = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as the package itself reads it
"""Whether there is a GPU only while a marked function runs. Torch says in every process that it has one; what uses it in a
thread of the server raises RuntimeError, so models are loaded onto the CPU there."""


def borrows_gpu(function: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
    """Decorator: on a ZeroGPU Space the generator runs in a process that has the GPU; elsewhere it is the function itself.

    Arguments and results travel between processes, so a function takes the name of a model rather than the network,
    and looks it up. ZeroGPU wants to see a marked function before the app is launched: mark it where a module defines it.
    """
    if not BORROWED:
        return function
    spaces: Any = importlib.import_module("spaces")  # there alone, and without types

    @spaces.GPU  # type: ignore[untyped-decorator]
    def elsewhere(*args: P.args, **kwargs: P.kwargs) -> Iterator[R | Exception]:
        try:
            yield from function(*args, **kwargs)
        except StzooError as problem:  # of what is raised there, only the name of the class would arrive
            yield problem
        except Exception as problem:
            log.exception("a function that borrows the GPU failed")
            yield RuntimeError(str(problem))  # any other may not survive the journey

    @functools.wraps(function)
    def here(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        for result in elsewhere(*args, **kwargs):
            if isinstance(result, Exception):
                raise result
            yield result

    return here
