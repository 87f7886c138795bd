"""Where raw rows come from: named data sets, the Hub, files and folders, sequences. Nothing is read of their values here."""

from __future__ import annotations

import glob
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo import errors, layout
from stzoo.fields import complete_values, query_options
from stzoo.hooks import one_line
from stzoo.spec import Dataset, Task, load_reference

Source = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""``"moving-mnist"``, ``"owner/name"``, a folder, a file or a glob, each with options behind a question mark
(``"moving-mnist?size=100"``, ``"./clips?frames=20&size=64"``); or a sequence of examples, such as a ``datasets.Dataset``.

Options are those of the named data set; ``config`` and ``revision`` of a Hub data set; the reading options of the task's
columns (``stzoo info --task T`` lists them); and ``COLUMN=NAME`` where a data set calls a column otherwise.
"""

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*\Z")


@dataclass
class Opened:
    """Raw rows, before they are brought into a task's columns."""

    name: str
    split: str
    rows: Any
    license: str = ""
    keys: str = ""


def find_rows(
    source: Source, task: Task, split: str | None, streaming: bool, tolerant: bool
) -> tuple[Opened, dict[str, str]]:
    """The raw rows that ``source`` names, and the options that are still to be used."""
    if not isinstance(source, (str, os.PathLike)):
        return _given(source, split), {}
    text, options = (str(source), {}) if isinstance(source, os.PathLike) else parse_source(source)
    if not text:
        raise errors.DatasetError("the name of the data is empty", "Give a name, a path, or owner/name on the Hub")
    if layout.is_local(text):
        return _local(text, task, split, streaming, tolerant, options), options
    if _HUB_ID.match(text):
        hub = {key: options.pop(key) for key in ("config", "revision") if key in options}
        return _hub(text, split, streaming, **hub), options
    return _named(text, task, split, options), options


def parse_source(source: str) -> tuple[str, dict[str, str]]:
    """``"name?a=1&b=2"`` to the name and the options. A question mark with no ``=`` behind it belongs to a glob."""
    name, mark, query = source.rpartition("?")
    if not mark or "=" not in query:
        return source, {}
    return name, query_options(query, source, errors.DatasetError)


def _given(source: Any, split: str | None) -> Opened:
    if isinstance(source, Mapping):  # a datasets.DatasetDict, say
        split = layout.choose_split("the data", list(source), split)
        source = source[split]
    elif split not in (None, "all", "train"):
        raise errors.SplitMissing(
            f"the data is not divided into splits, so it has no split {split!r}", "Give it as {split: examples}"
        )
    if not hasattr(source, "__len__") and not hasattr(source, "features"):  # the latter has a datasets.IterableDataset
        raise errors.DatasetError(
            f"a {type(source).__name__} is no data set",
            "Give a name, a path, or a sequence of {column: value} examples",
        )
    return Opened("the data", split or "all", source)


def _named(name: str, task: Task, split: str | None, options: dict[str, str]) -> Opened:
    from stzoo.registry import registry

    if "://" in name:
        raise errors.DatasetError(
            f"{name} is an address, and data are not read from addresses", "Download it; a Hub data set is owner/name"
        )
    try:
        spec = registry().get(Dataset, name)
    except errors.UnknownDataset as problem:
        raise errors.UnknownDataset(
            problem.problem,
            f"{problem.remedy}{'' if problem.remedy.endswith('?') else '.'} A folder is written ./{name}",
        ) from None
    chosen = layout.choose_split(f"the data set {name!r}", spec.splits, split)
    load = load_reference(spec.load)
    values = _taken(load, options, task, f"the data set {name!r}")
    rows = _plugged(f"the data set {name!r}", load, chosen, **values)
    needed = [item.name for item in task.columns if not item.optional]
    missing = [name for name in needed if len(rows) and name not in rows[0]]
    if spec.task != task.name and missing:
        raise errors.DatasetError(
            f"the data set {name!r} is for the task {spec.task!r}, not {task.name!r}: it has no {missing[0]!r}"
        )
    return Opened(name, chosen, rows, spec.license)


def _taken(function: Callable[..., Any], options: dict[str, str], task: Task, who: str) -> dict[str, Any]:
    """The options of a function behind its first argument, taken out of ``options``; so is what nobody knows, and refused."""
    declared = {key: item.default for key, item in list(inspect.signature(function).parameters.items())[1:]}
    own = {key: value for key, value in options.items() if key in declared or key not in accepted(task)}
    for key in own:
        options.pop(key)
    return complete_values(declared, own, who, errors.DatasetError)


def _plugged(who: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    try:
        return function(*arguments, **keywords)
    except errors.StzooError:
        raise
    except Exception as problem:  # plugin code
        raise errors.DatasetError(f"{who} cannot be opened ({one_line(problem)})") from problem


def _local(
    text: str, task: Task, split: str | None, streaming: bool, tolerant: bool, options: dict[str, str]
) -> Opened:
    if task.reader and not glob.has_magic(text):
        reader, path, left = load_reference(task.reader), Path(text).expanduser(), dict(options)
        splits = _plugged(text, reader, path, **_taken(reader, left, task, text)) if path.exists() else None
        if splits is not None:
            options.clear()
            options.update(left)
            chosen = layout.choose_split(text, list(splits), split)
            return Opened(text, chosen, splits[chosen], layout.license_in(path))
    found = layout.find(text, task, split, tolerant=tolerant)
    if found.shards:
        files = list(map(str, found.shards))
        rows = _calling(
            text, datasets_library().load_dataset, found.builder, data_files=files, split="train", streaming=streaming
        )
        keys = "__key__" if "__key__" in (rows.features or {}) else ""
    else:
        rows, keys = datasets_library().Dataset.from_dict(found.columns), layout.KEY
    return Opened(text, found.split, rows, found.license, keys)


def _hub(
    repo: str, split: str | None, streaming: bool, config: str | None = None, revision: str | None = None
) -> Opened:
    builder = _calling(repo, datasets_library().load_dataset_builder, repo, config, revision=revision)
    splits = list(builder.info.splits or builder.config.data_files or ())
    chosen = layout.choose_split(f"the data set {repo!r}", splits, split)
    if streaming:
        rows = _calling(repo, builder.as_streaming_dataset, chosen)
    else:
        _calling(repo, builder.download_and_prepare)
        rows = _calling(repo, builder.as_dataset, chosen)
    return Opened(repo, chosen, rows, _hub_license(repo, revision))


def _hub_license(repo: str, revision: str | None) -> str:
    from huggingface_hub import dataset_info

    try:
        card = dataset_info(repo, revision=revision).card_data
    except Exception:  # offline, say: the licence is told where it is known
        return ""
    return layout.license_of(card)


# --- through datasets -------------------------------------------------------------------------------------------------


def datasets_library() -> Any:
    try:
        import datasets
    except ImportError:
        raise errors.DependencyMissing(
            "reading data sets needs the package datasets", "Run: pip install 'stzoo[train]'"
        ) from None
    return datasets


def _calling(name: str, function: Any, *arguments: Any, **keywords: Any) -> Any:
    """What a function of ``datasets`` returns; what it raises becomes UnknownDataset or DatasetError."""
    try:
        return function(*arguments, **keywords)
    except Exception as problem:  # datasets raises whatever its storage layers raise
        kind = type(problem).__name__
        if kind == "DatasetNotFoundError" and "Revision" not in str(problem):
            raise errors.UnknownDataset(
                f"there is no folder {name}, and no such data set on the Hub ({one_line(problem)})",
                "Check the name; a private or gated one needs a token (hf auth login)",
            ) from problem
        cause = problem.__cause__ if kind == "DatasetGenerationError" and problem.__cause__ else problem
        raise errors.DatasetError(f"{name} cannot be opened ({one_line(cause)})") from problem


def accepted(task: Task) -> list[str]:
    """Options that any source takes."""
    return [*(item.name for item in task.columns), *(option.name for item in task.columns for option in item.loading)]
