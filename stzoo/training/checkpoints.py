"""Everything a run needs to go on, written whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files

if TYPE_CHECKING:
    from accelerate import Accelerator

STATE = "stzoo.pt"
"""What Accelerate does not know of: schedules, averages, counters."""


def find(folder: Path) -> list[Path]:
    """The complete checkpoints, oldest first."""
    return sorted(folder.glob("step-*"))


def save(accelerator: Accelerator, folder: Path, step: int, state: dict[str, Any], keep: int) -> None:
    """Write a checkpoint of all processes; older ones beyond ``keep`` go only when it is there."""
    import torch

    temporary, final = folder / f".step-{step:09d}", folder / f"step-{step:09d}"
    if accelerator.is_main_process:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    accelerator.wait_for_everyone()
    with whole(temporary):
        accelerator.save_state(str(temporary))
        if accelerator.is_main_process:
            torch.save(state, temporary / STATE)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        for old in find(folder)[:-keep]:
            shutil.rmtree(old)


def load_extra(checkpoint: Path) -> dict[str, Any]:
    """The part of a checkpoint that Accelerate does not know of."""
    import torch

    state: dict[str, Any] = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    return state


@contextmanager
def readable(checkpoint: Path) -> Iterator[None]:
    """Raise TrainingFailed naming the checkpoint where the block cannot read it."""
    try:
        yield
    except Exception as problem:  # torch, safetensors and pickle each have their own
        reason = next(iter(str(problem).splitlines()), "")
        raise errors.TrainingFailed(
            f"the checkpoint {checkpoint} cannot be read ({type(problem).__name__}: {reason})",
            "Remove it, to go on from the one before",
        ) from problem


@contextmanager
def whole(temporary: Path) -> Iterator[None]:
    """Remove what was begun if the block fails."""
    try:
        with files.room(temporary.parent, "Free some space, then go on with --resume"):
            yield
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """``write`` a folder that takes the place of ``folder`` when it is complete."""
    temporary, old = folder.with_name(f".{folder.name}-new"), folder.with_name(f".{folder.name}-old")
    shutil.rmtree(temporary, ignore_errors=True)
    with whole(temporary):
        write(temporary)
    recover(folder)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put back what a kill in the middle of :func:`replace_folder` left under another name."""
    old = folder.with_name(f".{folder.name}-old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
