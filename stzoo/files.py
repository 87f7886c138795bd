"""Files: what their endings say, their order, their hashes, remembered, and writing them whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
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


def byte_count(size: int | str, name: str) -> int:
    """Bytes of a size such as ``"5GB"`` (powers of 1000), ``"200MiB"`` (of 1024) or a plain number. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(?:([KMGT]?)(I?)B)?", str(size).strip().upper())
    count = int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ")) if found else 0
    if count < 1:
        raise errors.ConfigError(f"{name}={size!r} is not a size in bytes", "Write it as 5GB or 200MB")
    return count


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


def check_free(folder: Path, needed: int, what: str, remedy: str) -> None:
    """Raise DiskFull where ``what`` needs more bytes in the folder than its disk has."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise errors.DiskFull(
            f"{what} needs {needed / 1e6:.1f} MB in {folder}, where {free / 1e6:.1f} MB are free", remedy
        )


def length(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def natural(name: str) -> list[Any]:
    """Sort key under which clip 10 follows clip 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def ending(path: Path) -> str:
    """How a file's name ends, in lower case: ``.png``, or both endings of what is compressed, ``.nii.gz``."""
    found = path.suffix.lower()
    return "".join(path.suffixes[-2:]).lower() if found == ".gz" else found


def files_in(folder: Path, endings: Sequence[str] = ()) -> list[Path]:
    """The files in a folder, those with these endings or all, in natural order and without hidden ones."""
    found = (item for item in folder.iterdir() if not endings or ending(item) in endings)
    return sorted(
        (item for item in found if item.name[0] != "." and item.is_file()), key=lambda item: natural(item.name)
    )


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
