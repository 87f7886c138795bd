"""Files: what their endings say, their order, their hashes, remembered, and writing them whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from typing import Any

from stzoo import errors

log = logging.getLogger("stzoo")

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
ARRAYS = (".npy", ".npz")

PER_UNIT = {"m": 1000.0, "disparity": 256.0, "relative": 65535.0}
"""What a depth may be measured in, and how many of a 16-bit picture's numbers are one unit by default."""

_NO_ROOM = (ENOSPC, EDQUOT, EFBIG)
_FULL = ("No space left", "File too large", "PytorchStreamWriter failed", "inline_container")
"""How torch and safetensors tell of a full disk."""


def cache_folder() -> Path:
    """stzoo's own cache: ``$STZOO_CACHE``, or ``stzoo`` beside the Hub's cache in ``$HF_HOME``."""
    if folder := os.environ.get("STZOO_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", os.path.join(base, "huggingface"))).expanduser() / "stzoo"


def sha256_of(path: Path, *, remember: bool = True) -> str:
    """The file's sha256. It is computed once and remembered until size, inode or a time stamp changes.

    ``remember=False`` reads every byte again. Setting the modification time back does not help a changed file: the
    change time is compared too.
    """
    status = path.stat()
    identity = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
    note = cache_folder() / "sha256" / hashlib.sha256(identity.encode()).hexdigest()
    if remember:
        try:
            known = note.read_text()
            if len(known) == 64:
                return known
        except OSError:
            pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, digest.encode())
    except OSError as problem:  # a read-only cache costs time, not correctness
        log.debug("cannot remember the hash of %s: %s", path, problem)
    return digest


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename: never a half-written file, never a lost good one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def room(where: object, remedy: str | None = None) -> Iterator[None]:
    """Raise DiskFull where a block finds no space left, no quota, or a file that may not grow; the outermost remedy counts."""
    try:
        yield
    except errors.StzooError as problem:
        if remedy and isinstance(problem, errors.DiskFull):
            raise errors.DiskFull(problem.problem, remedy) from problem
        raise
    except Exception as problem:
        if (isinstance(problem, OSError) and problem.errno in _NO_ROOM) or any(text in str(problem) for text in _FULL):
            raise errors.DiskFull(f"no space left for {where}", remedy or "Free some space and try again") from problem
        raise


def natural(name: str) -> list[Any]:
    """Sort key under which clip 10 follows clip 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def ending(path: Path) -> str:
    """How a file's name ends, in lower case: ``.png``, or both endings of what is compressed, ``.nii.gz``."""
    found = path.suffix.lower()
    return "".join(path.suffixes[-2:]).lower() if found == ".gz" else found


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` with the same ending; it takes ``path``'s place if the block succeeds."""
    suffix = path.name[len(path.name) - len(ending(path)) :]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        with room(path):
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
