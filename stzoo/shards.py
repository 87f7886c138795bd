"""Shards of predictions on disk: a table each, and media files or a tar beside it. :mod:`stzoo.bulk` says how they are laid out."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files
from stzoo.fields import Field, Number
from stzoo.spec import Task

if TYPE_CHECKING:
    from stzoo.prediction import Prediction

Row = dict[str, Any]
"""A line of a table."""
WEBDATASET = "webdataset"
FATAL = (errors.DiskFull, errors.DependencyMissing)
"""What no input is to blame for, and no other input would escape."""


def failed(index: int, key: str, problem: Exception) -> Row:
    """The line of an input that something is wrong with."""
    text = str(problem) if isinstance(problem, errors.StzooError) else f"{type(problem).__name__}: {problem}"
    return {"index": index, "key": key, "error": " ".join(text.split())[:1000]}


@dataclass
class Shards:
    """The shards of one output folder."""

    folder: Path
    task: Task
    format: str | None
    """Ending of the media files, ``"webdataset"``, or None for one that loses nothing."""
    writing: Mapping[str, Any]
    """How the first output that goes to a file is written."""

    def __post_init__(self) -> None:
        self.endings = _endings(self.task, self.format)
        self.packed = self.format == WEBDATASET
        self.media = self.folder / (WEBDATASET if self.packed else "media")
        self.tables = self.folder / "shards"

    # --- one shard, in this order -------------------------------------------------------------------------------------

    def start(self, number: int) -> Path:
        """A new folder for the shard's media files; what an earlier run left of it is removed."""
        shutil.rmtree(self.media / _name(number), ignore_errors=True)
        folder = self.media / f".{_name(number)}"
        folder.mkdir()
        return folder

    def write(self, folder: Path, index: int, key: str, prediction: Prediction) -> Row:
        """Write the outputs of one input; its line of the table."""
        row: Row = {"index": index, "key": key, "error": None}
        name, written = _file_name(index, key), list[Path]()
        try:
            for item in self.task.outputs:
                if item.name not in prediction:  # not asked for
                    continue
                value = prediction[item.name]
                row[f"predicted_{item.name}_shape"] = list(getattr(value, "shape", ()))
                if ending := self.endings.get(item.name):
                    path = folder / f"{name}.{item.name}{ending}"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    item.write(value, path, **({} if written else self.writing), **prediction.view(item))
                    written.append(path)
                    row[f"predicted_{item.name}"] = path.relative_to(folder).as_posix()
                else:
                    row[f"predicted_{item.name}"] = _plain(item, value)
            return row
        except (*FATAL, OSError):
            raise
        except Exception as problem:  # an encoder that does not take this size, say
            for path in written:
                path.unlink()
            return failed(index, key, problem)

    def finish(self, number: int, folder: Path, rows: Sequence[Row]) -> None:
        """Put the media files in their place, then write the table."""
        if self.packed:
            self._pack(folder, self.media / f"{_name(number)}.tar", rows)
            shutil.rmtree(folder)
        else:
            folder.rename(self.media / _name(number))
        self._write_table(number, rows)

    def _pack(self, folder: Path, target: Path, rows: Sequence[Row]) -> None:
        """The files of a shard, and a JSON for each input, in the order of the inputs."""
        import tarfile

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)  # no owner, no time: the same outputs are the same tar
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        with files.atomic_path(target) as temporary, tarfile.open(temporary, "w") as tar:
            for row in rows:
                if row["error"] is not None:
                    continue
                for output in self.endings:
                    if (member := row.get(f"predicted_{output}")) is None:
                        continue
                    add(member, (folder / member).read_bytes())
                told = {name: value for name, value in row.items() if name != "error"}
                add(f"{_file_name(row['index'], row['key'])}.json", json.dumps(told).encode())

    def _write_table(self, number: int, rows: Sequence[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {"index": pa.int64(), "key": pa.string(), "error": pa.string()}
        lines = [dict(row) for row in rows]
        place = f"tar://{{}}::{WEBDATASET}/{_name(number)}.tar" if self.packed else f"media/{_name(number)}/{{}}"
        for item in self.task.outputs:
            column = f"predicted_{item.name}"
            columns[column] = _arrow_type(item, pa)
            columns[f"{column}_shape"] = pa.list_(pa.int64())
            for line in lines:
                if line.get(column) is not None and not isinstance(item, Number):
                    value = line[column]
                    line[column] = place.format(value) if item.name in self.endings else json.dumps(value)
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(lines, schema=pa.schema(columns)), buffer)
        files.write_atomically(self.tables / f"{_name(number)}.parquet", buffer.getvalue())

    # --- all of them --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folders, and remove what killed processes left."""
        for folder in (self.media, self.tables):
            folder.mkdir(exist_ok=True)
            for path in folder.glob(".*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def finished(self) -> Iterator[dict[str, list[Any]]]:
        """``index``, ``key`` and ``error`` of the inputs of each finished shard, in order. A damaged table does not count."""
        import pyarrow.parquet as pq

        paths = self.tables.glob("shard-*.parquet")
        for path in sorted(paths, key=lambda path: (len(path.name), path.name)):
            try:
                yield pq.read_table(path, columns=["index", "key", "error"]).to_pydict()
            except (OSError, ValueError):
                path.unlink()


def _name(number: int) -> str:
    return f"shard-{number:05}"


def _file_name(index: int, key: str) -> str:
    """A path without ending for an input: its folders are kept, its number makes it unique, dots are left to endings."""
    parts = re.sub(r"\.\w{1,5}\Z", "", key).split("/")
    *folders, last = [re.sub(r"[^\w-]+", "_", part)[:48] for part in parts if part] or [""]
    return "/".join((*folders, f"{index:08}" if last in ("", str(index)) else f"{index:08}-{last}"))


def _plain(item: Field, value: Any) -> Any:
    """A value as JSON and tables hold it."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return int(plain) if isinstance(item, Number) and item.integer else plain


def _arrow_type(item: Field, pa: Any) -> Any:
    """Numbers are numbers; paths, and anything else as JSON, are texts."""
    if isinstance(item, Number):
        return pa.int64() if item.integer else pa.float64()
    return pa.string()


def _endings(task: Task, format: str | None) -> dict[str, str]:
    """The ending of the files of each output that is written to files. Raises ConfigError."""
    written = [item for item in task.outputs if item.suffixes]
    asked = f".{format.lower().removeprefix('.')}" if format and format != WEBDATASET else None
    if asked and not any(asked in item.suffixes for item in written):
        known = dict.fromkeys(suffix[1:] for item in written for suffix in item.suffixes)
        raise errors.ConfigError(
            f"no output of the task {task.name!r} is written as {format!r}",
            f"Formats: {', '.join((*known, WEBDATASET))}",
        )
    return {item.name: asked if asked in item.suffixes else item.suffixes[-1] for item in written}
