"""Bulk prediction: a data set of any size, over processes and machines, to shards that a later run need not do again.

An output folder holds

- ``bulk.json``: which model, data and options it is of. Only a run with the same ones goes on with it.
- ``shards/shard-00012.parquet``: a line for each input: ``index``, ``key``, ``error`` (empty if it was predicted), and for
  each output ``predicted_NAME`` (a number, or where the media file is) and ``predicted_NAME_shape``. It is written last:
  a shard whose table is there is finished.
- ``media/shard-00012/FOLDER/00000012-KEY.NAME.npz``: the outputs, or, as WebDataset, ``webdataset/shard-00012.tar`` with
  the same names, and ``KEY.json`` beside them. In tables such a file is ``tar://MEMBER::webdataset/shard-00012.tar``.
- ``report.json``: what came of the last run; it alone holds times.

Shard k holds the inputs k * shard_size and following. Batches never reach beyond a shard, so that an output does not
depend on how many processes there were or how often they were stopped: on the same kind of machine, with as many threads,
it is the same to the last bit. A failed input is tried again if the table of its shard is deleted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files
from stzoo.fields import Number, complete_values
from stzoo.processes import Group, locked
from stzoo.registry import as_plain
from stzoo.shards import FATAL, Row, Shards, failed

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    import torch
    from torch import nn

    from stzoo.data import Examples
    from stzoo.prediction import Prediction
    from stzoo.predictor import Predictor
    from stzoo.sources import Source

log = logging.getLogger("stzoo")

SETTINGS = {
    item.name: item
    for item in (
        Number("batch_size", "Inputs predicted at once, where their sizes agree", 8, minimum=1, integer=True),
        Number(
            "shard_size", "Inputs of a shard, which is finished as a whole or done again", 64, minimum=1, integer=True
        ),
        Number("limit", "Predict only so many, the first ones", minimum=1, integer=True),
    )
}
"""The numbers that :func:`predict_data` and its command take."""
MANIFEST, REPORT = "bulk.json", "report.json"
FORMAT_VERSION = 1
_NAMED = 10
"""How many failures a report names; the tables have them all."""


@dataclass(frozen=True)
class BulkReport:
    """What came of a bulk prediction: exact counts over all runs in this folder, times of this one."""

    model: str
    data: str
    split: str
    output: str
    inputs: int
    predicted: int
    failed: int
    failures: tuple[str, ...]
    """The first ten, each with its key and the reason."""
    skipped: int
    """How many of the inputs an earlier run had finished."""
    shards: int
    processes: int
    seconds: float
    """Wall time of this run, without loading the model."""

    @property
    def per_second(self) -> float:
        """Inputs per second of this run, all processes together."""
        return (self.inputs - self.skipped) / self.seconds if self.seconds else 0.0


def predict_data(
    model: str | os.PathLike[str] | Predictor,
    data: Source,
    output: str | os.PathLike[str],
    *,
    split: str | None = None,
    batch_size: int = 8,
    shard_size: int = 64,
    limit: int | None = None,
    streaming: bool = False,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
    writing: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> BulkReport:
    """Predict every example of a data set into a folder; see :mod:`stzoo.bulk` for what is in it.

    Under ``torchrun`` or ``accelerate launch`` every process does its share of the shards, and returns the whole report. A
    folder that an earlier run with the same arguments left unfinished is gone on with, by any number of processes. Memory
    does not grow with the data.

    Args:
        model: as :func:`stzoo.load` takes it, or a Predictor.
        data, split: as :func:`stzoo.data.open_data` takes them. Only the task's inputs are read.
        output: a new or empty folder, or one to go on with.
        batch_size, shard_size, limit: see :data:`SETTINGS`.
        streaming: read in order, without a copy on this machine; every process reads all of it, and predicts its share.
        format: ending of the media files (``"mp4"``; default: each output's last one, which loses nothing), or
            ``"webdataset"`` for tar shards of those.
        options: the task's, such as ``{"horizon": 20}``.
        writing: how the first output is written, such as ``{"fps": 25}``.
        device, dtype, revision, offline: as for :func:`stzoo.load`. With several processes each takes its own device.

    An input that cannot be read, predicted or written is recorded with the reason, and counted; the others go on.

    Raises:
        ConfigError: the folder holds something else, was begun with other arguments, or is in use; or a number is out of range.
        InputError: the task has no such option.
        DatasetError: the data cannot be opened.
        DiskFull: no space is left; what was finished is kept.
        StzooError: whatever :func:`stzoo.load` raises.
    """
    from stzoo.data import open_data

    given = {"batch_size": batch_size, "shard_size": shard_size, "limit": limit}
    complete_values(SETTINGS, given, "bulk prediction")
    group = Group(device)
    with group.main_first():
        predictor, sha256 = _loaded(model, device or group.device, dtype, revision, offline)
        task = predictor.task
        examples = open_data(
            data,
            replace(task, columns=task.inputs),
            split,
            requirements=predictor.requirements,
            streaming=streaming,
            tolerant=True,
        )
    first = next((item for item in task.outputs if item.suffixes), None)
    manifest = {
        "format_version": FORMAT_VERSION,
        "model": {
            "name": predictor.report.name,
            "architecture": predictor.architecture.name,
            "config": predictor.config,
            "sha256": sha256,
            "dtype": str(predictor.dtype).removeprefix("torch."),
        },
        "data": {
            "name": examples.name,
            "split": examples.split,
            "examples": None if streaming else _counted(examples),
            "limit": limit,
        },
        "options": complete_values(
            {item.name: item for item in task.options}, options or {}, f"task {task.name!r}", errors.InputError
        ),
        "writing": complete_values(
            {item.name: item for item in (first.writing if first else ())}, writing or {}, "writing", errors.InputError
        ),
        "format": format,
        "batch_size": batch_size,
        "shard_size": shard_size,
    }
    manifest = json.loads(json.dumps(as_plain(manifest)))
    shards = Shards(Path(output).expanduser(), task, format, manifest["writing"])
    return _Run(shards, manifest, predictor, examples).done_by(group)


# --- a run ------------------------------------------------------------------------------------------------------------

Job = tuple[int, str, Callable[[], Mapping[str, Any]]]
"""An input: its index, its key, and the function that reads it."""
Batch = list[tuple[int, str, tuple[Any, ...]]]
"""Inputs that were read: index, key, and the values of the task's inputs."""


@dataclass
class _Run:
    shards: Shards
    manifest: dict[str, Any]
    predictor: Predictor
    examples: Examples

    def __post_init__(self) -> None:
        self.folder, self.size = self.shards.folder, int(self.manifest["shard_size"])
        known, limit = self.manifest["data"]["examples"], self.manifest["data"]["limit"]
        self.total: int | None = min(known, limit) if known and limit else known

    def done_by(self, group: Group) -> BulkReport:
        """Do this process's share, wait for the others, count."""
        with ExitStack() as locks:
            group.from_main(lambda: self.begin(locks))
            if group.rank:
                locks.enter_context(locked(self.folder, group.rank))
            finished: dict[int, int] = group.from_main(self.finished)
            start = time.perf_counter()
            try:
                total = self.work(group, finished)
            except KeyboardInterrupt:
                if group.rank == 0:
                    log.warning("stopped; the same command goes on with %s", self.folder)
                raise
            group.wait()
            seconds = time.perf_counter() - start
            report: BulkReport = group.from_main(
                lambda: self.report(total, sum(finished.values()), seconds, group.size)
            )
            return report

    # --- before -------------------------------------------------------------------------------------------------------

    def begin(self, locks: ExitStack) -> None:
        """Make the folder, or see that it is of the same run; keep others out. Raises ConfigError."""
        try:
            known = json.loads((self.folder / MANIFEST).read_text())
        except FileNotFoundError:
            known = None
        except (OSError, ValueError) as problem:
            raise errors.ConfigError(
                f"{self.folder / MANIFEST} cannot be read ({problem})", "Give another folder"
            ) from problem
        if known is None:
            self.occupy()
        elif differing := list(_differences(known, self.manifest)):
            raise errors.ConfigError(
                f"{self.folder} was begun with something else: {'; '.join(differing)}",
                "Give the same arguments to go on with it, or another folder",
            )
        locks.enter_context(locked(self.folder, 0))
        self.shards.prepare()

    def occupy(self) -> None:
        """Make the folder and say what it is of. Raises ConfigError if it is not empty or cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if foreign := sorted(item.name for item in self.folder.iterdir() if not item.name.startswith(".")):
                raise errors.ConfigError(
                    f"{self.folder} is not empty (it has {foreign[0]}) and no output of a bulk prediction",
                    "Give another folder",
                )
            files.write_atomically(self.folder / MANIFEST, (json.dumps(self.manifest, indent=2) + "\n").encode())
        except errors.DiskFull:
            raise
        except OSError as problem:
            raise errors.ConfigError(
                f"{self.folder} cannot be written ({problem.strerror})", "Give another folder"
            ) from problem

    def finished(self) -> dict[int, int]:
        """The shards that are done, and how many inputs each has. Raises ConfigError if they are of other data."""
        done = {}
        for rows in self.shards.finished():
            first, key = rows["index"][0], rows["key"][0]
            if self.total is not None and key != (now := self.examples.key(first)):
                raise errors.ConfigError(
                    f"{self.folder} was begun with other data: input {first} was {key!r} and is {now!r}",
                    "Give another folder",
                )
            done[first // self.size] = len(rows["index"])
        if done:
            log.warning("%s: going on, %s inputs are done already", self.folder, f"{sum(done.values()):,}")
        return done

    # --- the work -----------------------------------------------------------------------------------------------------

    def plan(self) -> Iterator[tuple[int, int, Callable[[], list[Job]]]]:
        """All shards in order: number, size, and the function that gives the inputs, which are not read yet."""
        if self.total is not None:
            for number, start in enumerate(range(0, self.total, self.size)):
                indices = range(start, min(start + self.size, self.total))
                yield number, len(indices), partial(self.jobs, indices)
            return
        jobs = ((index, key or str(index), read) for index, (key, read) in enumerate(self.examples.unread()))
        stream = itertools.islice(jobs, self.manifest["data"]["limit"])
        for number in itertools.count():
            if not (chunk := list(itertools.islice(stream, self.size))):
                return
            yield number, len(chunk), partial(list, chunk)

    def jobs(self, indices: range) -> list[Job]:
        """Inputs by their numbers."""
        return [(index, self.examples.key(index), partial(self.examples.__getitem__, index)) for index in indices]

    def work(self, group: Group, finished: Mapping[int, int]) -> int:
        """Do every ``group.size``-th of the unfinished shards; returns how many inputs there are in all."""
        from concurrent.futures import ThreadPoolExecutor

        total = turn = 0
        move = _bar(group, None if self.total is None else self.total - sum(finished.values()))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            for number, size, jobs in self.plan():
                if number not in finished:
                    if turn % group.size == group.rank:
                        self.do_shard(number, jobs(), reader, writer)
                    move(size)
                    turn += 1
                total += size
        return total

    def do_shard(
        self, number: int, jobs: Sequence[Job], reader: ThreadPoolExecutor, writer: ThreadPoolExecutor
    ) -> None:
        """Predict one shard and write it. While a batch is predicted, the next is read and the last is written."""
        rows: list[Row] = []
        written: list[Future[Row]] = []
        with files.room(self.folder, "Free some space; the same command goes on with the rest"):
            folder = self.shards.start(number)
            for batch in self.batches(jobs, reader, rows):
                predictions = self.predict(batch, rows)
                rows += [future.result() for future in written]
                written = [writer.submit(self.shards.write, folder, *item) for item in predictions]
            rows += [future.result() for future in written]
            rows.sort(key=lambda row: row["index"])
            self.shards.finish(number, folder, rows)

    def batches(self, jobs: Sequence[Job], reader: ThreadPoolExecutor, rows: list[Row]) -> Iterator[Batch]:
        """Batches of inputs as they are read; those that cannot be read go to ``rows``."""
        size = self.manifest["batch_size"]
        batch: Batch = []
        for (index, key, _), future in _ahead(jobs, lambda job: reader.submit(self.read, job), size):
            inputs = future.result()
            if isinstance(inputs, Exception):
                rows.append(failed(index, key, inputs))
            else:
                batch.append((index, key, inputs))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def read(self, job: Job) -> tuple[Any, ...] | Exception:
        """The inputs as the network takes them, or why they cannot be had."""
        try:
            example, needs = job[2](), self.predictor.requirements
            given = [(item, example[item.name]) for item in self.predictor.task.inputs]
            return tuple(None if value is None and item.optional else item.read(value, needs) for item, value in given)
        except FATAL:
            raise
        except Exception as problem:
            return problem

    def predict(self, batch: Batch, rows: list[Row]) -> list[tuple[int, str, Prediction]]:
        """Predictions of a batch. If it fails its inputs are tried one by one; those that fail go to ``rows``."""
        options = self.manifest["options"]
        try:
            found = self.predictor.predict_batch([item[2] for item in batch], batch_size=len(batch), **options)
            return [(index, key, prediction) for (index, key, _), prediction in zip(batch, found, strict=True)]
        except FATAL:
            raise
        except Exception as problem:
            if len(batch) == 1:
                rows.append(failed(*batch[0][:2], problem))
                return []
        return [item for single in batch for item in self.predict([single], rows)]

    # --- after --------------------------------------------------------------------------------------------------------

    def report(self, inputs: int, skipped: int, seconds: float, processes: int) -> BulkReport:
        """Count what is in the tables. Raises DatasetError if an input is in none, or in two."""
        failures: list[str] = []
        seen = bad = count = 0
        for rows in self.shards.finished():
            if rows["index"] != list(range(seen, seen + len(rows["index"]))):
                break
            count += 1
            seen += len(rows["index"])
            told = [
                f"{key}: {error}" for key, error in zip(rows["key"], rows["error"], strict=True) if error is not None
            ]
            bad += len(told)
            failures += told[: _NAMED - len(failures)]
        if seen != inputs:
            raise errors.DatasetError(
                f"{self.folder}: its tables hold the inputs up to {seen:,}, the data have {inputs:,}",
                "Did the data change meanwhile? Give another folder",
            )
        data = self.manifest["data"]
        report = BulkReport(
            self.manifest["model"]["name"],
            data["name"],
            data["split"],
            str(self.folder),
            inputs,
            inputs - bad,
            bad,
            tuple(failures),
            skipped,
            count,
            processes,
            round(seconds, 3),
        )
        text = json.dumps(asdict(report) | {"per_second": round(report.per_second, 3)}, indent=2, ensure_ascii=False)
        files.write_atomically(self.folder / REPORT, f"{text}\n".encode())
        return report


def _counted(examples: Examples) -> int:
    if not (count := len(examples)):
        raise errors.DatasetError(f"{examples.name} ({examples.split}) has no example", "Give other data, or a split")
    return count


def _loaded(model: Any, device: Any, dtype: Any, revision: str | None, offline: bool | None) -> tuple[Predictor, str]:
    """The predictor, and the hash of its weights: the file's, or, of one that is given, the tensors'."""
    from stzoo import api
    from stzoo.predictor import Predictor

    if isinstance(model, Predictor):
        return model, _digest(model.module)
    predictor = api.load(model, revision=revision, device=device, dtype=dtype, offline=offline)
    return predictor, predictor.report.sha256


def _digest(module: nn.Module) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _differences(known: Any, asked: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What two manifests differ in, in words. A model's name may change, its weights may not."""
    for name in dict.fromkeys((*known, *asked)):
        old, new = known.get(name), asked.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{path}{name} ")
        elif old != new and f"{path}{name}" != "model name":
            yield f"{path}{name} was {old!r}, now {new!r}"


def _ahead(jobs: Iterable[Job], submit: Callable[[Job], Future[Any]], depth: int) -> Iterator[tuple[Job, Future[Any]]]:
    """The jobs with their futures, ``depth`` submitted ahead."""
    waiting: deque[tuple[Job, Future[Any]]] = deque()
    for job in jobs:
        waiting.append((job, submit(job)))
        if len(waiting) > depth:
            yield waiting.popleft()
    yield from waiting


def _bar(group: Group, total: int | None) -> Callable[[int], Any]:
    """Moves the progress bar, which the main process shows if stderr is a terminal."""
    if group.rank or not sys.stderr.isatty():
        return lambda count: None
    from tqdm import tqdm

    bar = tqdm(total=total, unit="input", leave=False)
    return lambda count: bar.update(count)
