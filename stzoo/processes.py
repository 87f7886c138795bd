"""The processes that a launcher started, and keeping other runs out of a folder."""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from stzoo import errors

T = TypeVar("T")


def is_main_process() -> bool:
    """Whether this is the process that prints and writes: the first of those that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def keep_memory(*, shared: bool = False) -> None:
    """Let glibc keep freed memory (up to 1 GiB) for the next batch, for this whole process.

    By default it gives large buffers back to the system, which hands them out again page by page, zeroed: a good
    part of a step on a CPU (``benchmarks/training.py``). Nothing is changed where the environment tunes malloc (``MALLOC_*``, ``GLIBC_TUNABLES``).

    Args:
        shared: one heap for all threads, which keeps less (up to 128 MiB), and no buffers above 32 MiB: for servers.
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8  # M_MMAP_THRESHOLD and so on of malloc.h
    if shared or not mallopt(mmap_threshold, 1 << 30):  # which glibc refuses before 2.35
        mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, 1 << (27 if shared else 30))
    if shared:
        mallopt(arena_max, 1)


def trim_memory() -> None:
    """Give the system back what glibc keeps."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class Group:
    """The processes that a launcher started, or this one alone."""

    def __init__(self, device: Any) -> None:
        keep_memory()
        self.state: Any = None
        if "ACCELERATE_USE_CPU" in os.environ:
            from stzoo.training.launch import check_launcher

            check_launcher()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                from accelerate import PartialState
            except ImportError:
                raise errors.DependencyMissing(
                    "several processes need the package accelerate", "Run: pip install 'stzoo[train]'"
                ) from None
            import torch

            # Without being told, processes on CPUs would know nothing of each other.
            cpu = str(device) == "cpu" or not torch.accelerator.is_available()
            # Nobody waits for the others but at the end, and then as long as their work takes.
            self.state = PartialState(cpu=cpu, timeout=timedelta(days=30))
            atexit.register(leave)
        self.rank: int = self.state.process_index if self.state else 0
        self.size: int = self.state.num_processes if self.state else 1
        self.device = self.state.device if self.state else None

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Downloads and caches are made by one process, the others find them. What it raises of stzoo's own, all raise."""
        if self.rank:
            self._told(None)
            yield
            return
        found = None
        try:
            yield
        except errors.StzooError as problem:
            found = problem
        self._told(found)

    def from_main(self, function: Callable[[], Any]) -> Any:
        """What the function returns, or raises of stzoo's own, on the main process alone."""
        result = None
        if self.rank == 0:
            try:
                result = function()
            except errors.StzooError as problem:
                result = problem
        return self._told(result)

    def _told(self, result: Any) -> Any:
        """What the main process has; raises it if it is an error."""
        if self.state:
            from accelerate.utils import broadcast_object_list

            result = broadcast_object_list([result], from_process=0)[0]
        if isinstance(result, errors.StzooError):
            raise result
        return result

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of the processes."""
        if not self.state:
            return [value]
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values

    def wait(self) -> None:
        """Until all have come here."""
        if self.state:
            self.state.wait_for_everyone()


def leave() -> None:
    """End the group's own threads at exit: one that wants the interpreter while it shuts down aborts the process.

    Not before: a group that is made again under the same launcher may wait for ever.
    """
    import torch.distributed as group

    if group.is_initialized():
        group.destroy_process_group()


@contextmanager
def locked(folder: Path, rank: int) -> Iterator[None]:
    """Keep other runs out of the folder while this process lives. The main process also looks for what a killed run left.

    Raises ConfigError if the folder is in use.
    """
    import filelock

    own = filelock.FileLock(folder / f".lock-{rank}")
    others = [filelock.FileLock(path) for path in folder.glob(".lock-*") if rank == 0 and path.name != ".lock-0"]
    try:
        for lock in (own, *others):
            lock.acquire(timeout=0)
    except filelock.Timeout:
        own.release()
        raise errors.ConfigError(
            f"{folder} is in use by another process", "Wait for it, stop it, or give another folder"
        ) from None
    finally:
        for lock in others:
            lock.release()
    try:
        yield
    finally:
        own.release()
