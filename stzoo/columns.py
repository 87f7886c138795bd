"""Which column of a data set is which of a task's, and values of a row as fields read them: undecoded, unconverted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stzoo.errors import DatasetError
from stzoo.fields import Field
from stzoo.spec import Task


def matched(name: str, task: Task, features: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, str]:
    """For each of the task's columns the one of the data set ``name`` that is meant.

    That is the one ``options`` says, one of the same name, or the only one that can be meant by its type or ending; optional
    columns may have none. Raises DatasetError listing the columns there are.
    """
    chosen = {item.name: options.get(item.name, item.name) for item in task.columns}
    there = ", ".join(f"{column} ({kind(feature)})" for column, feature in features.items())
    for item in task.columns:
        if item.name in options and chosen[item.name] not in features:
            raise DatasetError(f"{name} has no column {chosen[item.name]!r}", f"It has {there}")
    free = [column for column in features if column not in chosen.values()]
    lost = sorted((item for item in task.columns if chosen[item.name] not in features), key=lambda item: item.optional)
    candidates = {item.name: {column for column in free if _fits(item, column, features[column])} for item in lost}
    for item in lost:
        fitting = candidates[item.name] - set(chosen.values())
        rivals = [candidates[other.name] for other in lost if other is not item and other.optional <= item.optional]
        if item.optional and (len(fitting) != 1 or any(fitting & rival for rival in rivals)):
            del chosen[item.name]
            continue
        if len(fitting) != 1 or any(fitting & rival for rival in rivals):
            raise DatasetError(
                f"{name} has no column {item.name!r}; it has {there}", f"Say which one it is: {name}?{item.name}=COLUMN"
            )
        chosen[item.name] = fitting.pop()
    return chosen


def _fits(item: Field, column: str, feature: Any) -> bool:
    """Whether a column may be meant for a field: by its type, or by an ending (``mp4``, ``video.mp4``, as in WebDataset)."""
    stem, _, ending = f".{column}".rpartition(".")
    by_ending = f".{ending}" in item.reads and stem.strip(".") in ("", item.name)
    return by_ending or (kind(feature) in item.features and not stem)


def kind(feature: Any) -> str:
    """A feature's type in words: ``Image``, ``List(Image)``, ``int64``."""
    if isinstance(feature, Mapping):
        return "struct"
    inner = getattr(feature, "feature", None)
    name = feature.dtype if type(feature).__name__ == "Value" else type(feature).__name__
    return f"{name}({kind(inner)})" if inner is not None else str(name)


def number(feature: Any) -> str:
    """What the numbers of a feature are stored as, if it is an array or lists of them; else empty.

    An npz file in WebDataset arrives as a struct; one array in it is that array.
    """
    if isinstance(feature, Mapping):
        return number(next(iter(feature.values()))) if len(feature) == 1 else ""
    leaf = feature
    while (inner := getattr(leaf, "feature", None)) is not None:
        leaf = inner
    dtype = str(getattr(leaf, "dtype", ""))
    nested = leaf is not feature or type(leaf).__name__ != "Value"
    return dtype if nested and re.fullmatch(r"u?int\d+|float\d+|bool", dtype) else ""


def plain(column: Any, dtype: str) -> Any:
    """The value in an Arrow column of one row: numbers in one copy, everything else as Python has it."""
    import numpy as np

    array = column.combine_chunks()
    array = getattr(array, "storage", array)
    if not dtype or array.null_count:
        return array.to_pylist()[0]
    array, shape = array.field(0) if hasattr(array, "field") else array, []
    while hasattr(array, "flatten") and hasattr(array.type, "value_type"):
        flat = array.flatten()
        shape.append(len(flat) // max(1, len(array)))
        if shape[-1] * len(array) != len(flat) or not _even(array, shape[-1]):
            raise ValueError("holds lists of different lengths, which are no array")
        array = flat
    return np.array(array.to_numpy(zero_copy_only=False), dtype).reshape(shape)


def _even(array: Any, length: int) -> bool:
    """Whether all lists are of one length."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array)
    return not array.null_count and pc.min_max(lengths).as_py() == {"min": length, "max": length}
