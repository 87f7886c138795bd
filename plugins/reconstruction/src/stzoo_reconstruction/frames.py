"""What the readers of all layouts give: one record for each photograph, before its picture is looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import MediaError
from stzoo.files import IMAGES, files_in
from stzoo_reconstruction.lenses import Lens

Points = tuple[np.ndarray, np.ndarray | None]
"""Positions (N, 3) in the world's axes and units, and colours (N, 3) in [0, 1] where known."""


@dataclass
class Frame:
    """A photograph and its camera, as a file states them."""

    picture: Path
    pose: Any
    """(4, 4) or (3, 4), camera to world, OpenGL axes."""
    intrinsics: Sequence[float] | None = None
    """fx, fy, cx, cy in pixels; None where the picture's size is needed for that, see ``angle``."""
    size: tuple[int, int] | None = None
    """Height and width that the intrinsics are for; None where not stated: those of the picture."""
    angle: tuple[float, float | None] | None = None
    """The horizontal and, where it is stated, the vertical field of view in radians, instead of intrinsics."""
    lens: Lens | None = None
    bounds: tuple[float, float] = (0.0, np.inf)


@dataclass
class Found:
    """Everything that a layout's files tell."""

    frames: list[Frame]
    splits: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of frames, where the files divide them: train, validation, test."""
    points: Callable[[], Points | None] = lambda: None
    notes: list[str] = field(default_factory=list)


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """What goes wrong inside with a file becomes MediaError naming it."""
    try:
        yield
    except MediaError:
        raise
    except OSError as problem:
        raise MediaError(f"{path} cannot be read ({problem.strerror or problem})", "Is the file complete?") from problem
    except Exception as problem:  # whatever NumPy, struct or zipfile say of bytes that are something else
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise MediaError(f"{path} cannot be read as {what} ({reason})", "Is the file complete?") from problem


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises MediaError."""
    with readable(path, "JSON"):
        text = path.read_text(encoding="utf-8-sig")
        if not text.strip():
            raise MediaError(f"{path} is empty", "Is the file complete?")
        found = json.loads(text)
    if not isinstance(found, dict) or not found:
        raise MediaError(f"{path} holds no cameras: it is {'empty' if not found else 'a list'}", "Give an object")
    return found


def inside(root: Path, name: str, source: Path) -> Path:
    """The place of a file that a capture's file names. Raises MediaError where it would be outside of the capture."""
    name = name.replace("\\", "/")
    place = Path(os.path.normpath(root / name))
    if not place.is_relative_to(os.path.normpath(root)):
        raise MediaError(
            f"{source}: {name!r} is outside of the capture {root}",
            "Put all files of a capture into one folder, and name them relative to it",
        )
    return place


def picture_of(root: Path, name: str, source: Path) -> Path:
    """The picture that a file names, with or without its ending, by its path or, where files lie all together, by its name.

    It need not be there. Raises MediaError where it would be outside of the capture.
    """
    place = inside(root, name, source)
    for base in (place, root / place.name):
        if base.is_file():
            return base
        for suffix in IMAGES:
            if base.suffix.lower() not in IMAGES and base.with_name(base.name + suffix).is_file():
                return base.with_name(base.name + suffix)
    return place if place.suffix.lower() in IMAGES else place.with_name(place.name + ".png")


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, in natural order."""
    return files_in(folder, IMAGES)


def one_each(poses: int, source: Path, folder: Path) -> list[Path]:
    """The pictures in a folder, to which as many poses in a file belong. Raises MediaError."""
    pictures = pictures_in(folder)
    if len(pictures) != poses:
        raise MediaError(
            f"{source} has {poses} poses, and {folder} {len(pictures)} photographs",
            "They belong together in the order of the names: take out photographs without a pose",
        )
    return pictures
