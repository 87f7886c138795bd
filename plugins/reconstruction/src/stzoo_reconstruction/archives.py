"""Files that come packed, or one by one, as a folder that is deleted when nobody holds it any more."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stzoo.errors import InputError, MediaError
from stzoo_reconstruction.frames import readable

MAX_FILES = 20_000
MAX_BYTES = 8 * 2**30
"""Limits of a zip file, unpacked."""

Folder = tempfile.TemporaryDirectory[str]


def laid_out(files: Sequence[Path]) -> Folder:
    """A folder with links to files that lie anywhere, as a browser uploads them, under their names. Raises InputError."""
    if len(files) > MAX_FILES:
        raise InputError(f"{len(files):,} files", f"At most {MAX_FILES:,}")
    holder, seen = tempfile.TemporaryDirectory(prefix="stzoo-views-"), set()
    for file in files:
        if not file.is_file():
            raise MediaError(f"there is no file {file}", "Give all files of the capture")
        if file.name in seen:
            raise InputError(f"two of the files are called {file.name}", "Put the capture into a zip file")
        seen.add(file.name)
        (Path(holder.name) / file.name).symlink_to(file.resolve())
    return holder


def unpacked(path: Path) -> Folder:
    """A folder with what is in a zip file. Raises MediaError for more than the limits, and names that leave the folder."""
    holder = tempfile.TemporaryDirectory(prefix="stzoo-views-")
    with readable(path, "a zip file"), zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        total = sum(entry.file_size for entry in entries)
        if len(entries) > MAX_FILES or total > MAX_BYTES:
            raise MediaError(
                f"{path} unpacks to {len(entries):,} files and {total:,} bytes",
                f"At most {MAX_FILES:,} files and {MAX_BYTES:,} bytes: unpack it yourself and give the folder",
            )
        for entry in entries:
            name = entry.filename.replace("\\", "/")
            link = stat.S_ISLNK(entry.external_attr >> 16)
            if name.startswith("/") or ".." in name.split("/") or ":" in name or link:
                raise MediaError(
                    f"{path}: the entry {name!r} would be outside of the capture", "Make the zip file anew"
                )
            if not name.startswith("__MACOSX/"):
                target = Path(holder.name) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as packed, target.open("wb") as file:
                    shutil.copyfileobj(_Limited(packed, entry.file_size), file)
    return holder


class _Limited:
    """A stream that gives no more bytes than its header announced."""

    def __init__(self, stream: Any, limit: int) -> None:
        self.stream, self.left = stream, limit

    def read(self, count: int) -> bytes:
        data: bytes = self.stream.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise MediaError("an entry of the zip file is longer than it says", "Make the zip file anew")
        return data


def innermost(root: Path) -> Path:
    """The folder that holds everything: archives often have one folder at the top."""
    entries = [path for path in root.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX"]
    return innermost(entries[0]) if len(entries) == 1 and entries[0].is_dir() else root
