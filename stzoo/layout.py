"""How a local folder holds examples of a task: one rule, made from the task's columns.

A folder may have the sub-folders ``train``, ``validation`` and ``test`` (``SPLITS`` has other spellings). Inside, a task
with one column has one file (or folder of frames) for each example; with several columns each has a sub-folder of its own
(``image`` or ``images``), and files that belong together have the same name but for the ending. ``metadata.csv`` or
``metadata.jsonl`` adds plain values. Instead of files there may be parquet files, or tar files in WebDataset format.
"""

from __future__ import annotations

import csv
import glob
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stzoo.errors import DatasetError, SplitMissing
from stzoo.fields import Field
from stzoo.files import ending, natural
from stzoo.spec import Task, load_reference

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
"""Names of the sub-folders that are splits; capitals do not matter."""
SHARDS = {".parquet": "parquet", ".tar": "webdataset"}
"""Endings of files with many examples, and the loader of ``datasets`` that reads them."""
METADATA = ("metadata.csv", "metadata.jsonl")
KEY = "__key__"
"""The column that identifies an example: its path inside the folder."""
_ABOUT = re.compile(r"(readme|licen[cs]e)(\.(md|txt|rst))?|thumbs\.db|desktop\.ini|__macosx", re.IGNORECASE)
"""Files and folders that are no data: about them, or left by a system."""


def existing(root: str | Path, example: str) -> Path:
    """The folder that a named data set is to be read from. Raises DatasetError, with an ``example`` of how it is given, if it is
    not given or not there."""
    folder = Path(root).expanduser()
    if not str(root) or not folder.is_dir():
        raise DatasetError(f"there is no folder {root}" if str(root) else "the folder is not given", f"Write {example}")
    return folder


@dataclass
class Found:
    """The examples of one split: values (paths, plain values) by column, or shards that hold them."""

    split: str
    columns: dict[str, list[Any]] = field(default_factory=dict)
    shards: list[Path] = field(default_factory=list)
    license: str = ""

    @property
    def builder(self) -> str:
        """The loader of ``datasets`` that reads the shards."""
        return SHARDS[self.shards[0].suffix.lower()]


@dataclass
class _Wrong:
    """Files that do not fit, each with the reason."""

    root: Path
    tolerant: bool = False
    """Whether empty files are let through."""
    files: list[tuple[Path, str]] = field(default_factory=list)

    def add(self, path: Path, reason: str) -> None:
        self.files.append((path, reason))

    def complain(self, task: Task) -> None:
        if self.files:
            path, reason = self.files[0]
            more = f"; and {len(self.files) - 1} more that do not fit" if len(self.files) > 1 else ""
            raise DatasetError(f"{path} {reason}{more}", f"The layout: stzoo info --task {task.name}")


def is_local(text: str) -> bool:
    """Whether a source is a path: it exists, it starts like one, or it is a glob."""
    return text.startswith((".", "/", "~")) or glob.has_magic(text) or Path(text).exists()


def tree(task: Task) -> str:
    """The layout of a task's folder, drawn for people."""
    media, lines = [item for item in task.columns if item.reads], []
    plain = [item.name for item in task.columns if not item.reads]
    for item in media:
        inside = "" if len(media) == 1 else f"{item.name}/"
        lines.append(
            (f"    {inside}NAME{item.reads[0]}", "one file for each example" + ", may be left out" * item.optional)
        )
        if item.frames:
            lines.append((f"    {inside}NAME/", f"or one folder of frames, 1{item.frames[0]}, 2{item.frames[0]} …"))
    if plain:
        names = ["file_name"] if len(media) == 1 else [f"{item.name}_file_name" for item in media]
        lines.append(("    metadata.csv", f"a table with {', '.join((*names, *plain))}"))
    elif len(media) > 1:
        single = next((item.name for item in media if not item.name.endswith("s")), "")
        plural = f"; {single}s/ will do for {single}/ ..." if single else ""
        lines.append(("", f"files that belong together have the same NAME{plural}"))
    required = [item.name for item in media if not item.optional]
    if len(required) == 1 < len(media):
        lines.append(("", f"where nothing else is given, {required[0]}/ may be left out too"))
    lines.append(("    NAME.parquet", "or files with many examples, also .tar (WebDataset)"))
    splits = [(f"  {name}/", "as train" if name != "train" else "") for name in SPLITS]
    rows = [("FOLDER/", "without the folders of splits, everything is one split"), splits[0], *lines, *splits[1:]]
    margin = max(len(path) for path, _ in rows) + 2
    drawn = "\n".join(f"{path:{margin}}{text}".rstrip() for path, text in rows)
    if task.reader:
        drawn += "\n\n" + inspect.cleandoc(load_reference(task.reader).__doc__ or "")
    return drawn


def find(text: str, task: Task, split: str | None, *, tolerant: bool = False) -> Found:
    """The examples of a file, folder or glob. Raises DatasetError naming the first file that does not fit, and why.

    ``tolerant`` leaves empty files to whoever reads them.
    """
    try:
        return _found(text, task, split, tolerant)
    except OSError as problem:
        raise DatasetError(f"{problem.filename or text} cannot be read ({problem.strerror or problem})") from problem


def _found(text: str, task: Task, split: str | None, tolerant: bool) -> Found:
    root = Path(text).expanduser()
    if glob.has_magic(text) and not root.exists():
        paths = [Path(item) for item in sorted(glob.glob(str(root), recursive=True), key=natural)]
        if not paths:
            raise DatasetError(f"no file matches {text}")
        return _unsplit(
            _files(paths, Path(os.path.commonpath([path.parent for path in paths])), task, tolerant), text, split
        )
    if not root.exists():
        raise DatasetError(f"there is no file or folder {text}")
    if root.is_file():
        return _unsplit(_files([root], root.parent, task, tolerant), text, split)
    license = license_in(root)
    if not (parts := split_folders(root)):
        found = _unsplit(_folder(root, root, task, tolerant), text, split)
    else:
        wrong = _Wrong(root)
        for path in _visible(root):
            if path not in parts.values():
                wrong.add(path, f"is beside the splits ({', '.join(item.name for item in parts.values())})")
        wrong.complain(task)
        chosen = choose_split(f"the folder {text}", list(parts), split)
        found = _folder(parts[chosen], root, task, tolerant)
        found.split = chosen
    found.license = license
    return found


def split_folders(root: Path) -> dict[str, Path]:
    """The sub-folders that are splits, by the split."""
    folders = [path for path in _visible(root) if path.is_dir()]
    return {name: path for name, names in SPLITS.items() for path in folders if path.name.lower() in names}


def _unsplit(found: Found, text: str, split: str | None) -> Found:
    """Everything that is not divided is the split "all", and serves for training too."""
    if split not in (None, "all", "train"):
        raise SplitMissing(
            f"{text} is not divided into splits, so it has no split {split!r}",
            "Put the files into sub-folders train/, validation/ and test/, or ask for 'all'",
        )
    found.split = "all"
    return found


def _folder(folder: Path, root: Path, task: Task, tolerant: bool) -> Found:
    """The examples in the folder of a split."""
    entries = list(_visible(folder))
    if not entries:
        raise DatasetError(f"the folder {folder} is empty", f"The layout: stzoo info --task {task.name}")
    if any(path.suffix.lower() in SHARDS for path in entries):
        return _files(entries, root, task, tolerant)
    wrong, media = _Wrong(folder, tolerant), [item for item in task.columns if item.reads]
    if not media:
        raise DatasetError(f"examples of {task.name} are not read from a folder of files", "Give parquet files")
    notes = next((path for path in entries if path.name in METADATA), None)
    places = {item.name: _place(folder, item) for item in media}
    several = any(place.is_dir() for place in places.values()) and len(media) > 1
    media = [item for item in media if not item.optional or places[item.name].is_dir()]
    if len(media) == 1 and not several:
        values = {media[0].name: _by_key(_values(folder, media[0], wrong), folder, wrong)}
    else:
        names = [item.name for item in media]
        for path in entries:
            if path not in places.values() and path != notes:
                wrong.add(path, f"is none of the columns' sub-folders ({', '.join(names)})")
        for name in names:
            if not places[name].is_dir():
                wrong.add(folder, f"has no sub-folder {name!r}")
        wrong.complain(task)
        values = {
            item.name: _by_key(_values(places[item.name], item, wrong), places[item.name], wrong) for item in media
        }
        for name, other in ((one, two) for one in names for two in names if one != two):
            for key in values[name].keys() - values[other].keys():
                wrong.add(values[name][key], f"has no partner {places[other].name}/{key}.*")
        wrong.files.sort()
    wrong.complain(task)
    plain = [item for item in task.columns if not item.reads]
    needed = next((item.name for item in plain if not item.optional), None)
    if notes is None and needed:
        raise DatasetError(
            f"{folder} has no metadata.csv, which gives {needed!r}", f"The layout: stzoo info --task {task.name}"
        )
    if notes is not None:
        return _described(notes, values, plain, folder, root, task)
    keys = sorted(values[media[0].name], key=natural)
    columns = {name: [str(found[key]) for key in keys] for name, found in values.items()}
    first = columns[media[0].name]
    return Found("all", {KEY: [os.path.relpath(path, root) for path in first], **columns})


def _place(folder: Path, item: Field) -> Path:
    """The sub-folder of a column: of its name, or, where there is one, of its plural; capitals do not matter."""
    found = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    return found.get(item.name) or found.get(f"{item.name}s") or folder / item.name


def _files(paths: Sequence[Path], root: Path, task: Task, tolerant: bool) -> Found:
    """The examples in a list of files: shards, or one column's files."""
    wrong, kinds = _Wrong(root, tolerant), {SHARDS.get(path.suffix.lower()) for path in paths}
    if kinds & set(SHARDS.values()):
        kind = next(SHARDS[path.suffix.lower()] for path in paths if path.suffix.lower() in SHARDS)
        for path in paths:
            if SHARDS.get(path.suffix.lower()) != kind:
                wrong.add(path, f"is not a {kind} file as the others are")
            elif not path.stat().st_size:
                wrong.add(path, "is empty")
        wrong.complain(task)
        return Found("all", shards=list(paths))
    columns = [item for item in task.columns if not item.optional]
    if len(columns) != 1:
        names = ", ".join(item.name for item in columns)
        raise DatasetError(f"{paths[0]} is one file, an example has several columns ({names})", "Give the folder")
    found = [value for path in paths for value in _value(path, columns[0], wrong)]
    wrong.complain(task)
    keys = [os.path.relpath(path, root) for path in found]
    return Found("all", {KEY: keys, columns[0].name: list(map(str, found))})


def _values(folder: Path, item: Field, wrong: _Wrong) -> Iterator[Path]:
    """Files and folders under ``folder`` that are values of a column."""
    entries = [path for path in _visible(folder) if path.name not in METADATA]
    if not entries:
        wrong.add(folder, "is an empty folder")
    suffixes = list(map(ending, entries))
    inside = not any(path.is_dir() for path in entries) and not set(suffixes) & set(item.reads)
    if item.frames and inside and set(suffixes) & set(item.frames):
        for path in entries:
            if path.suffix.lower() not in item.frames:
                wrong.add(path, f"is no frame ({', '.join(item.frames)})")
        yield folder
        return
    for path in entries:
        yield from _value(path, item, wrong)


def _value(path: Path, item: Field, wrong: _Wrong) -> Iterator[Path]:
    if path.is_dir():
        yield from _values(path, item, wrong)
    elif ending(path) not in item.reads:
        wrong.add(path, f"has an ending that {item.name} is not read from ({', '.join(item.reads)})")
    elif not wrong.tolerant and not path.stat().st_size:
        wrong.add(path, "is an empty file")
    else:
        yield path


def _by_key(paths: Iterator[Path], folder: Path, wrong: _Wrong) -> dict[str, Path]:
    """Values by their path inside the folder, without the ending."""
    found: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(folder).as_posix()
        key = key if path.is_dir() else key[: len(key) - len(ending(path))]
        if key in found:
            wrong.add(path, f"has the same name as {found[key].name}")
        found[key] = path
    return found


def _described(
    notes: Path, values: Mapping[str, Mapping[str, Path]], plain: Sequence[Field], folder: Path, root: Path, task: Task
) -> Found:
    """The examples that ``metadata.csv`` lists: ``file_name`` (``COLUMN_file_name`` with several), and plain values."""
    columns: dict[str, list[Any]] = {KEY: [], **{item.name: [] for item in task.columns}}
    listed = set()
    for number, row in enumerate(_rows(notes), start=1):
        for name, found in values.items():
            heading = "file_name" if len(values) == 1 else f"{name}_file_name"
            if not row.get(heading):
                raise DatasetError(f"{notes}: row {number} has no {heading!r}", f"It has {', '.join(map(repr, row))}")
            path = folder / row[heading]
            if path not in found.values():
                raise DatasetError(f"{notes}: row {number} names {row[heading]}, which is not there as {name}")
            listed.add(path)
            columns[name].append(str(path))
        for item in plain:
            if row.get(item.name) is None and not item.optional:
                raise DatasetError(f"{notes}: row {number} has no {item.name!r}")
            columns[item.name].append(row.get(item.name))
        columns[KEY].append(os.path.relpath(columns[next(iter(values))][-1], root))
    wrong = _Wrong(folder)
    for path in sorted({path for found in values.values() for path in found.values()} - listed):
        wrong.add(path, f"is not listed in {notes.name}")
    wrong.complain(task)
    return Found("all", columns)


def _rows(notes: Path) -> list[dict[str, Any]]:
    try:
        text = notes.read_text(encoding="utf-8-sig")
        if notes.suffix == ".csv":
            return list(csv.DictReader(text.splitlines()))
        return [dict(json.loads(line)) for line in text.splitlines() if line.strip()]
    except (ValueError, TypeError, csv.Error) as problem:
        raise DatasetError(f"{notes} cannot be read ({problem})") from problem


def _visible(folder: Path) -> Iterator[Path]:
    """What is in a folder, in natural order, but for hidden files, README and LICENSE."""
    yield from sorted(
        (path for path in folder.iterdir() if not path.name.startswith(".") and not _ABOUT.fullmatch(path.name)),
        key=lambda path: natural(path.name),
    )


def license_in(root: Path) -> str:
    """What the folder's README says in its header, as on the Hub."""
    from huggingface_hub import DatasetCard

    try:
        text = (root / "README.md").read_text(encoding="utf-8")
        return license_of(DatasetCard(text).data) if text.startswith("---") else ""
    except Exception:  # no README, or a header that is none
        return ""


def license_of(card: Any) -> str:
    """The licence in the header of a card."""
    license = card.get("license") if card else ""
    return ", ".join(license) if isinstance(license, list) else str(license or "")


def choose_split(owner: str, splits: Sequence[str], wanted: str | None) -> str:
    """The split that is meant by ``wanted``; None means the first of test, validation, all, or the only one there is."""
    synonyms: Sequence[str | None] = next((names for names in SPLITS.values() if wanted in names), (wanted,))
    for name in (*SPLITS["test"], *SPLITS["validation"], "all") if wanted is None else synonyms:
        if name in splits:
            return str(name)
    if wanted is None and len(splits) == 1:
        return splits[0]
    problem = f"{owner} has no split {wanted!r}" if wanted else f"{owner} has no test or validation split"
    raise SplitMissing(problem, f"Splits: {', '.join(splits)}")
