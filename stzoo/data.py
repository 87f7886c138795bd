"""Data sets: named ones, Hub data sets, files and folders, all through ``datasets``, in a task's columns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stzoo import errors
from stzoo.columns import matched, number, plain
from stzoo.fields import Field, complete_values, suggestion
from stzoo.hooks import one_line
from stzoo.requirements import Requirements
from stzoo.sources import Opened, Source, accepted, datasets_library, find_rows
from stzoo.spec import Task

if TYPE_CHECKING:
    import datasets

Row = Mapping[str, Any]
WHOLE = -1
"""The start of an example that is read whole."""


class Examples(Sequence[dict[str, Any]]):
    """Examples of a task: ``examples[i]`` maps each of the task's columns to a value as its field reads it.

    Reading happens when an example is asked for; it raises DatasetError naming the file or row. Where the data are files,
    pickling costs little, so that worker processes can be handed these.
    """

    name: str
    """As it was asked for."""
    split: str
    license: str
    """Where it is known."""
    rows: datasets.Dataset | datasets.IterableDataset
    """The same examples as ``datasets`` has them: also read when they are asked for, in the task's columns."""

    def __init__(self, name: str, split: str, license: str, reader: _Reader, places: Any, *, streaming: bool) -> None:
        self.name, self.split, self.license = name, split, license
        self._reader, self._places, self._streaming = reader, places, streaming
        if streaming:
            self.rows = places.map(reader, batched=True, batch_size=1, remove_columns=["row", "start"])
        else:
            self.rows = places.with_transform(reader)

    def __len__(self) -> int:
        """How many; raises StreamError for a stream, whose length is unknown."""
        self._refuse_stream("its length")
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        self._refuse_stream("an example by its number")
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self.rows[int(index)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self.rows

    def key(self, index: int) -> str:
        """What identifies an example in reports: its path inside the folder, or its number.

        ``@`` and a number of a frame say where it starts if its file holds several.
        """
        self._refuse_stream("an example by its number")
        return self._reader.key(**self._places[int(index)])

    def unread(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Of each example in order the key and the function that reads it: one that cannot be read does not end the others.

        The key is empty where a stream has none.
        """
        for place in self._places:
            known = self._reader.keys or not isinstance(place["row"], Mapping)
            yield self._reader.key(**place) if known else "", partial(self._reader.example, **place)

    def select(self, indices: Sequence[int]) -> Self:
        """These examples alone, in this order."""
        self._refuse_stream("a selection")
        places = self._places.select(indices)
        return type(self)(self.name, self.split, self.license, self._reader, places, streaming=False)

    def first(self, count: int) -> Self:
        """The first examples of a stream, undecoded in memory, where they have numbers."""
        places = list(itertools.islice(self._places, count))
        rows, starts = [place["row"] for place in places], [place["start"] for place in places]
        if rows and isinstance(rows[0], Mapping):
            reader, rows = replace(self._reader, rows=rows, keys=""), list(range(len(rows)))
        else:
            reader = self._reader
        numbered = datasets_library().Dataset.from_dict({"row": rows, "start": starts})
        return type(self)(self.name, self.split, self.license, reader, numbered, streaming=False)

    def hold_out(self, share: float) -> tuple[Self, Self]:
        """The examples without the last ``share`` of them, and these.

        Parts of one clip that overlap with what is held out are in neither. Raises DatasetError if nothing is left.
        """
        count, rows, starts = len(self), np.asarray(self._places["row"]), np.asarray(self._places["start"])
        first = count - max(1, round(share * count))
        frames = max((options.get("frames") or 0 for options in self._reader.loading.values()), default=0)
        kept = [
            index
            for index in range(first)
            if rows[index] != rows[first] or starts[index] == WHOLE or starts[index] + frames <= starts[first]
        ]
        if not kept:
            raise errors.DatasetError(
                f"{self.name} has {count} example{'s' * (count > 1)}, too few to hold some out", "Give validation data"
            )
        return self.select(kept), self.select(range(first, count))

    def shuffled(self, seed: int, epoch: int, buffer: int) -> Iterator[Row]:
        """One pass over a stream, shuffled among ``buffer`` examples: places, which :meth:`read` reads."""
        places = self._places.shuffle(seed=seed, buffer_size=buffer)
        places.set_epoch(epoch)
        yield from places

    def read(self, place: Row) -> dict[str, Any]:
        """The example at a place that :meth:`shuffled` gave."""
        return self._reader.example(place["row"], place["start"])

    def _refuse_stream(self, what: str) -> None:
        if self._streaming:
            raise errors.StreamError(f"{self.name} is read as a stream, which cannot tell {what}", "Iterate over it")

    def __repr__(self) -> str:
        size = "a stream" if self._streaming else f"{len(self)} examples"
        return f"Examples({self.name!r}, split={self.split!r}, {size})"


@dataclass
class _Reader:
    """Reads examples, given their places: the number of a raw row (a stream gives the row itself), and where to start in it.

    It is a transform of ``datasets``: from a batch of places to a batch of examples in the task's columns.
    """

    name: str
    task: Task
    requirements: Requirements
    rows: Any
    """The raw rows: paths, bytes, arrays."""
    columns: Mapping[str, str]
    """The raw column of each column."""
    loading: Mapping[str, Mapping[str, Any]]
    """Reading options of each column."""
    keys: str = ""
    """The raw column that identifies a row; empty: its number does."""
    numbers: Mapping[str, str] = field(default_factory=dict)
    """What the arrays in a raw column are stored as; known of ``datasets`` alone, which gives them as lists."""

    def __call__(self, places: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """A batch of examples, by column, with whatever columns were added to the places."""
        if "row" not in places:  # rows that were mapped to something else
            return {name: list(values) for name, values in places.items()}
        read = [self.example(row, start) for row, start in zip(places["row"], places["start"], strict=True)]
        added = {name: list(values) for name, values in places.items() if name not in ("row", "start")}
        return added | {item.name: [example[item.name] for example in read] for item in self.task.columns}

    def example(self, row: Any, start: int) -> dict[str, Any]:
        """One example; raises DatasetError."""
        raw, example = self.raw(row), {}
        for item in self.task.columns:
            options = dict(self.loading[item.name])
            if start != WHOLE:
                options["start"] = start
            with self.blamed(item, row, start):
                value = self.value(raw, item)
                left_out = value is None and item.optional
                example[item.name] = None if left_out else item.read(value, self.requirements, **options)
        return example

    def raw(self, row: Any) -> Row:
        """A raw row, by its number."""
        if isinstance(row, Mapping):
            return row
        try:
            found = self.rows[int(row)]
            if isinstance(found, Mapping):
                return found
            if not hasattr(found, "column_names"):
                raise errors.DatasetError(
                    f"{self.name}: row {row} is no {{column: value}} but a {type(found).__name__}",
                    f"Its columns: {', '.join(item.name for item in self.task.columns)}",
                )
            return {column: plain(found[column], self.numbers.get(column, "")) for column in found.column_names}
        except errors.StzooError:
            raise
        except Exception as problem:  # whatever a plugin's data set or a storage layer raises
            raise errors.DatasetError(f"{self.name}: row {row} cannot be read ({one_line(problem)})") from problem

    def key(self, row: Any, start: int) -> str:
        """What identifies an example."""
        if isinstance(row, Mapping):
            key = row[self.keys] if self.keys else "of the stream"
        else:
            key = self.rows[self.keys][int(row)].as_py() if self.keys else row
        return str(key) if start == WHOLE else f"{key}@{start}"

    def value(self, raw: Row, item: Field) -> Any:
        """The raw value of a column."""
        column = self.columns.get(item.name, item.name)
        if column not in raw and item.optional:
            return None
        if column not in raw:
            raise errors.InputError(f"there is no {column!r}", f"It has {', '.join(map(repr, raw))}")
        value = raw[column]
        if column not in self.numbers or isinstance(value, np.ndarray) or value is None:
            return value
        return np.asarray(next(iter(value.values())) if isinstance(value, Mapping) else value, self.numbers[column])

    @contextmanager
    def blamed(self, item: Field, row: Any, start: int) -> Iterator[None]:
        """What is wrong with a value is told with the example's name."""
        try:
            yield
        except ValueError as problem:  # InputError is one; plain values raise others
            reason = getattr(problem, "problem", f"{item.name} {problem}")
            raise errors.DatasetError(
                f"{self.name}: example {self.key(row, start)}: {reason}", getattr(problem, "remedy", "")
            ) from problem

    def starts(self, row: Any) -> Sequence[int]:
        """Where the examples that a raw row holds start: what its fields say, which must agree."""
        raw, found = self.raw(row), {}
        for item in self.task.columns:
            with self.blamed(item, row, WHOLE):
                value = self.value(raw, item)
                if value is None and item.optional:
                    continue
                if (starts := item.starts(value, **self.loading[item.name])) is not None:
                    found[item.name] = starts
        if len({len(starts) for starts in found.values()}) > 1:
            parts = ", ".join(f"{name} {len(starts)}" for name, starts in found.items())
            who = f"{self.name}: example {self.key(row, WHOLE)}"
            raise errors.DatasetError(f"{who}: its columns give different numbers of clips: {parts}")
        return next(iter(found.values()), (WHOLE,))

    def cut(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """The places of the examples that one row of a stream holds; a batched map of ``datasets``."""
        raw = {name: values[0] for name, values in batch.items()}
        starts = list(self.starts(raw))
        return {"row": [raw] * len(starts), "start": starts}


# --- opening ----------------------------------------------------------------------------------------------------------


def open_data(
    source: Source,
    task: Task,
    split: str | None = None,
    *,
    requirements: Requirements | None = None,
    streaming: bool = False,
    tolerant: bool = False,
) -> Examples:
    """Open a data set in the task's columns. ``split=None``: the first there is of test, validation, all.

    A path that exists (or starts with ``.``, ``/`` or ``~``, or is a glob) is a local file or folder; a registered name
    is that data set; ``owner/name`` is on the Hub. ``requirements`` are the network's: examples get its channels, and are
    refused if they are too small. ``streaming`` reads in order, without a copy on this machine, and has no length.
    ``tolerant`` lets empty files of a folder through, which then fail when they are read.

    Raises UnknownDataset, DatasetError (which file does not fit, and why), DependencyMissing.
    """
    opened, options = find_rows(source, task, split, streaming, tolerant)
    name = str(source) if isinstance(source, (str, os.PathLike)) else opened.name
    return _examples(name, opened, options, task, requirements or Requirements(), streaming)


def first_example(source: str, task: Task, split: str, *, requirements: Requirements) -> dict[str, Any]:
    """The first example of a registered data set, as `open_data` would give it, without the package ``datasets``."""
    opened, options = find_rows(source, task, split, False, False)
    return _reader(opened, options, task, requirements).example(0, WHOLE)


# --- into the task's columns ------------------------------------------------------------------------------------------


def _examples(
    name: str, opened: Opened, options: Mapping[str, str], task: Task, requirements: Requirements, streaming: bool
) -> Examples:
    reader = _reader(opened, options, task, requirements)
    rows, streamed = reader.rows, not hasattr(reader.rows, "__len__")
    if streamed:
        raw = rows.column_names or list(next(iter(rows.take(1)), {}))
        places = rows.map(reader.cut, batched=True, batch_size=1, remove_columns=raw)
    else:
        places = datasets_library().Dataset.from_dict(_places(reader, len(rows)))
        places = places.to_iterable_dataset() if streaming else places
    return Examples(name, opened.split, opened.license, reader, places, streaming=streaming or streamed)


def _reader(opened: Opened, options: Mapping[str, str], task: Task, requirements: Requirements) -> _Reader:
    for key in options:
        if key not in accepted(task):
            raise errors.DatasetError(f"{opened.name} has no option {key!r}", suggestion(key, accepted(task)))
    loading = {}
    for item in task.columns:
        declared = {option.name: option for option in item.loading}
        given = {key: value for key, value in options.items() if key in declared}
        loading[item.name] = complete_values(declared, given, f"{opened.name}: {item.name}", errors.DatasetError)
    rows, keys, features = opened.rows, opened.keys, getattr(opened.rows, "features", None)
    if getattr(rows, "format", {}).get("type") == "custom":  # the user's own transform: nobody knows its columns
        features = None
    if features:  # pictures and films stay undecoded: that is what fields are for
        columns = matched(opened.name, task, features, options)
        used = list(dict.fromkeys([*columns.values(), *([keys] if keys else [])]))
        streamed = not hasattr(rows, "__len__")
        rows = (rows.decode(False) if streamed else rows.with_format("arrow")).select_columns(used)
    else:
        columns = {item.name: options.get(item.name, item.name) for item in task.columns}
    numbers = {column: dtype for column in columns.values() if (dtype := number((features or {}).get(column)))}
    return _Reader(opened.name, task, replace(requirements, frames_in=None), rows, columns, loading, keys, numbers)


def _places(reader: _Reader, size: int) -> dict[str, Any]:
    """Row and start of every example. Headers are looked at only if reading options cut."""
    numbers, options = np.arange(size), [value for given in reader.loading.values() for value in given.values()]
    if not size or not any(options) or reader.starts(0)[0] == WHOLE:
        return {"row": numbers, "start": np.full(size, WHOLE)}
    starts = [reader.starts(row) for row in range(size)]
    return {"row": numbers.repeat([len(item) for item in starts]), "start": [*itertools.chain(*starts)]}
