"""Evaluating models: given by name, on data given by name, in any number of processes; and the result as a record.

The measuring itself is :mod:`stzoo.measuring`, whose functions may be imported from here.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stzoo import __version__, api, errors, files
from stzoo.fields import Number, complete_values
from stzoo.measuring import Row as Row
from stzoo.measuring import Summary as Summary
from stzoo.measuring import measure as measure
from stzoo.measuring import metric_functions as metric_functions
from stzoo.measuring import summarise as summarise
from stzoo.processes import Group, is_main_process
from stzoo.registry import as_plain, registry
from stzoo.spec import Baseline, Measurement, Task
from stzoo.terminal import flag

if TYPE_CHECKING:
    import torch

    from stzoo.data import Examples, Source
    from stzoo.predictor import Predictor
    from stzoo.spec import Requirements

    Model = str | os.PathLike[str] | Predictor

EVALUATION_FILE = "evaluation.json"
FORMAT_VERSION = 1
SETTINGS = {
    item.name: item
    for item in (
        Number("batch_size", "examples predicted at once, where their sizes agree", 8, minimum=1, integer=True),
        Number("limit", "measure so many examples, evenly spaced", minimum=1, integer=True),
        Number("confidence", "of the intervals", 0.95, minimum=0.5, maximum=0.999),
    )
}
"""The numbers that :func:`evaluate` and its command take."""
_NAMED = 10
"""How many of the examples that could not be used a result names; samples.parquet has them all."""


# --- the result -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelResult:
    """The numbers of one model, or of a baseline."""

    name: str
    baseline: bool
    metrics: dict[str, Summary]
    seconds: float
    """Wall time: reading, predicting and judging."""
    examples_per_second: float | None = None
    """Of the forward pass on one process, at the median example. None for a baseline."""
    source: str = ""
    """Of the weights, as in a load report; so are the following."""
    sha256: str = ""
    revision: str | None = None
    dtype: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found. The numbers are of the examples that every model could use."""

    task: str
    data: str
    split: str
    examples: int
    """That the numbers are of."""
    failed: int
    """That some model could not use."""
    failures: tuple[str, ...]
    """Which, and why: the first ten."""
    models: tuple[ModelResult, ...]
    """In the order they were given, then the baselines."""
    better: dict[str, str]
    """Metric -> ``lower`` or ``higher``."""
    options: dict[str, Any]
    """The task's, those that were set."""
    confidence: float
    notes: tuple[str, ...]
    """Which metrics were not computed, and why."""
    hardware: str
    versions: dict[str, str]
    command: str
    """It gives the same numbers."""
    date: str
    rows: dict[str, list[Row]] = field(default_factory=dict, repr=False, compare=False)
    """Model -> what was measured on each example. Not in the JSON: :meth:`write` puts it into samples.parquet."""

    def to_json(self) -> str:
        """Strict JSON; numbers that are not finite become the texts "inf", "-inf" and "nan"."""
        entry = {"format_version": FORMAT_VERSION} | asdict(replace(self, rows={}))
        del entry["rows"]
        return json.dumps(_strict(entry), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """What :meth:`to_json` wrote; the rows are not in it. Raises ConfigError."""
        written = FORMAT_VERSION
        try:
            entry = json.loads(text)
            written = entry.pop("format_version")
            for model in entry["models"]:
                model["metrics"] = {name: _summary(item) for name, item in model["metrics"].items()}
            models = tuple(ModelResult(**model) for model in entry.pop("models"))
            failures, notes = (tuple(entry.pop(key)) for key in ("failures", "notes"))
            return cls(**entry, failures=failures, notes=notes, models=models)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            if isinstance(written, int) and written > FORMAT_VERSION:
                raise errors.ConfigError(
                    f"the evaluation was written by a newer stzoo (format {written})", "Run: pip install -U stzoo"
                ) from problem
            raise errors.ConfigError(
                f"this is not an evaluation ({problem!r})",
                "Write one with: stzoo evaluate MODEL --data D --output FOLDER",
            ) from problem

    @property
    def dataset(self) -> str:
        """The data as a model's record names it: source, split, how many examples, the options that were set."""
        told = (self.split, f"{self.examples:,} examples", *(f"{name} {value}" for name, value in self.options.items()))
        return f"{self.data} ({', '.join(text for text in told if text)})"

    @property
    def columns(self) -> list[str]:
        """What :meth:`cells` holds: the metrics, each with an arrow to where its better values are, and the throughput."""
        arrows = {"lower": "↓", "higher": "↑"}
        return [*(f"{name} {arrows[self.better[name]]}" for name in self.models[0].metrics), "examples/s"]

    def cells(self, model: ModelResult) -> list[str]:
        """A model's numbers as texts, the intervals in brackets."""
        cells = []
        for item in model.metrics.values():
            interval = "" if item.low is None else f" [{item.low:.4g}, {item.high:.4g}]"
            cells.append(f"{item.value:g}{interval}")
        return [*cells, f"{model.examples_per_second:.3g}" if model.examples_per_second else ""]

    def table(self) -> str:
        """Markdown: a row for each model and baseline; the best value of each metric is bold."""
        lines = ["| | " + " | ".join(self.columns) + " |", "|---|" + "---:|" * len(self.columns)]
        best = {}
        for name in self.models[0].metrics:
            values = [model.metrics[name].value for model in self.models if not math.isnan(model.metrics[name].value)]
            best[name] = (min if self.better[name] == "lower" else max)(values, default=None)
        for model in self.models:
            cells = self.cells(model)
            for place, (name, item) in enumerate(model.metrics.items()):
                if item.value == best[name] and len(self.models) > 1:
                    value, *interval = cells[place].split(" ", 1)
                    cells[place] = " ".join((f"**{value}**", *interval))
            lines.append(f"| {model.name}{' (baseline)' * model.baseline} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def measurements(self, model: str | None = None) -> list[Measurement]:
        """The finite numbers of one model (default: the first) and of the baselines, as a model's record holds them."""
        wanted = self.models[0].name if model is None else model
        return [
            Measurement(
                self.dataset,
                metric,
                item.value,
                "baseline" if found.baseline else "measured",
                found.name if found.baseline else "",
                self.command,
            )
            for found in self.models
            if found.baseline or found.name == wanted
            for metric, item in found.metrics.items()
            if math.isfinite(item.value)
        ]

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write evaluation.json, evaluation.md and samples.parquet (a line for each model and example); returns the folder."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if self.rows:
            with files.atomic_path(folder / "samples.parquet") as temporary:
                self._write_rows(temporary)
        files.write_atomically(folder / "evaluation.md", self._page().encode())
        files.write_atomically(folder / EVALUATION_FILE, self.to_json().encode())
        return folder

    def _write_rows(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise errors.DependencyMissing(
                "samples.parquet needs the package pyarrow", "Run: pip install 'stzoo[train]'"
            ) from None
        lines = [(name, row) for name, rows in self.rows.items() for row in rows]
        columns: dict[str, Any] = {
            "model": pa.array([name for name, _ in lines], pa.string()),
            "index": pa.array([row.index for _, row in lines], pa.int64()),
            "key": pa.array([row.key for _, row in lines], pa.string()),
            **{name: [_stored(row.values.get(name)) for _, row in lines] for name in self.models[0].metrics},
            "error": pa.array([row.error for _, row in lines], pa.string()),
        }
        pq.write_table(pa.table(columns), path)

    def _page(self) -> str:
        facts = [f"{self.dataset}; intervals: {self.confidence:.4g} of the bootstrap over examples"]
        if self.failed:
            facts.append(f"{self.failed:,} examples could not be used: {'; '.join(self.failures)}")
        facts += self.notes
        facts += [f"{model.name}: sha256 `{model.sha256}`, {model.dtype}" for model in self.models if model.sha256]
        facts.append(f"Measured {self.date} with `{self.command}`")
        facts.append(f"{self.hardware}; " + ", ".join(f"{name} {version}" for name, version in self.versions.items()))
        return f"# {self.task} on {self.data}\n\n{self.table()}\n" + "".join(f"- {fact}\n" for fact in facts)


def _strict(value: Any) -> Any:
    """The same in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _summary(entry: Mapping[str, Any]) -> Summary:
    ends = {name: None if entry[name] is None else float(entry[name]) for name in ("low", "high")}
    return Summary(float(entry["value"]), **ends)


def _stored(value: Any) -> Any:
    """What a metric gives for one example, as a parquet file takes it."""
    return value.tolist() if hasattr(value, "tolist") else as_plain(value)


# --- models and data by name ------------------------------------------------------------------------------------------


def evaluate(
    models: Model | Sequence[Model],
    data: Source,
    *,
    split: str | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
    baselines: bool = True,
    confidence: float = 0.95,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    output: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> Evaluation:
    """Measure models of one task on a data set: every metric of the task, with confidence intervals.

    Under ``torchrun`` or ``accelerate launch`` each process measures its share, and returns the whole result.

    Args:
        models: one or several: a name, a Hub repo id, a saved folder, a run folder (its best weights), or a Predictor,
            which is used as it is.
        data: a named data set, a Hub data set, a folder or file, or a sequence of examples: see :mod:`stzoo.data`.
        split: default: the first there is of test, validation, all.
        limit: measure so many examples, evenly spaced.
        options: the task's, such as ``{"horizon": 20}``.
        baselines: measure the task's trivial methods too.
        confidence, seed: of the bootstrap: see :func:`stzoo.measuring.summarise`.
        device, dtype, revision, offline: as for :func:`stzoo.load`.
        output: folder for evaluation.json, evaluation.md and samples.parquet.

    An example that one model cannot use is left out for all of them, counted, and named in the result.

    Raises:
        ConfigError: the models are of different tasks or were asked for different things, or a setting is out of range.
        InputError: the task has no such option.
        DatasetError: the data cannot be read, or no example can be used.
        StzooError: whatever :func:`stzoo.load` raises.
    """
    from stzoo.predictor import Predictor
    from stzoo.training.run import hardware, now

    options = dict(options or {})
    complete_values(SETTINGS, {"batch_size": batch_size, "limit": limit, "confidence": confidence}, "evaluate")
    given = [models] if isinstance(models, (str, os.PathLike, Predictor)) else list(models)
    group = Group(device)
    with group.main_first():
        task = _shared_task(given, revision, offline)
    missing = metric_functions(task)[1]
    if output is not None:
        _check_writable(Path(output).expanduser())
    trivial = task.baselines if baselines else ()
    labels = _distinct([*map(_label, given), *(item.name for item in trivial)])
    measured: dict[str, tuple[list[Row], float]] = {}
    details: dict[str, dict[str, Any]] = {}
    opened: dict[Requirements, tuple[Examples, Sequence[int]]] = {}
    for model, label in zip(given, labels, strict=False):
        predictor = (
            model
            if isinstance(model, Predictor)
            else api.load(model, revision=revision, device=device or group.device, dtype=dtype, offline=offline)
        )
        if predictor.requirements not in opened:  # data are read as a model needs them
            with group.main_first():
                opened[predictor.requirements] = _open(data, task, split, predictor.requirements, limit)
        examples, indices = opened[predictor.requirements]
        report = predictor.report
        details[label] = {name: getattr(report, name) for name in ("source", "sha256", "revision")}
        details[label]["dtype"] = str(predictor.dtype).removeprefix("torch.")
        jobs: dict[str, Baseline | None] = {label: None}
        if not measured:
            jobs |= dict(zip(labels[len(given) :], trivial, strict=True))
        for name, baseline in jobs.items():
            rows, seconds = _measured(group, predictor, examples, batch_size, options, baseline)
            measured[name] = [replace(row, index=indices[row.index]) for row in rows], seconds

    source = os.fspath(data) if isinstance(data, (str, os.PathLike)) else examples.name
    failures = _failures({name: measured[name][0] for name in labels}, source)
    results = []
    for name in labels:
        rows, seconds = measured[name]
        used = [row for row in rows if row.index not in failures]
        speed = _speed(used) if name in details else None
        summaries = summarise(used, task, confidence, seed)
        results.append(ModelResult(name, name not in details, summaries, seconds, speed, **details.get(name, {})))
    asked = {"data": source, "split": split, "limit": limit, **options, "dtype": dtype, "revision": revision}
    asked["confidence"] = None if confidence == SETTINGS["confidence"].default else confidence
    evaluation = Evaluation(
        task=task.name,
        data=source,
        split=examples.split,
        examples=len(indices) - len(failures),
        failed=len(failures),
        failures=tuple(failures.values())[:_NAMED],
        models=tuple(results),
        better={item.name: item.better for item in task.metrics if item.name not in missing},
        options=as_plain(options),
        confidence=confidence,
        notes=tuple(f"{name} was not computed: {reason}" for name, reason in missing.items()),
        hardware=hardware(group.size, predictor.device.type),
        versions=_versions(predictor),
        command=_command(map(_label, given), asked, baselines),
        date=now(),
        rows={name: measured[name][0] for name in labels},
    )
    if output is not None and is_main_process():
        evaluation.write(output)
    return evaluation


def _check_writable(folder: Path) -> None:
    """Make the folder; raises ConfigError now, not after hours, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission")
    except OSError as problem:
        raise errors.ConfigError(f"{folder} cannot be written ({problem.strerror})", "Give another folder") from problem


def _shared_task(models: Sequence[Model], revision: str | None, offline: bool | None) -> Task:
    """The one task of all the models, whose weights can all be had."""
    from stzoo.predictor import Predictor

    tasks: dict[str, Task] = {}
    for model in models:
        if isinstance(model, Predictor):
            tasks[_label(model)] = model.task
        else:
            api.pull(model, revision=revision, offline=offline)
            architecture = api.architecture_of(model, revision=revision, offline=offline)
            tasks[_label(model)] = registry().get(Task, architecture.task)
    if not tasks:
        raise errors.ConfigError("there is no model to evaluate", "Give at least one")
    if len({task.name for task in tasks.values()}) > 1:
        told = ", ".join(f"{name} ({task.name})" for name, task in tasks.items())
        raise errors.ConfigError(f"the models are of different tasks: {told}", "Evaluate those of one task together")
    return next(iter(tasks.values()))


def _label(model: Model) -> str:
    from stzoo.predictor import Predictor

    if isinstance(model, Predictor):
        return model.spec.name if model.spec else model.report.name
    return os.fspath(model)


def _distinct(names: Sequence[str]) -> list[str]:
    """The names; the second of a name is "name (2)"."""
    before = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, before, strict=True)]


def _open(
    data: Source, task: Task, split: str | None, requirements: Requirements, limit: int | None
) -> tuple[Examples, Sequence[int]]:
    """The examples to measure, and their places in the data."""
    from stzoo.data import open_data

    examples = open_data(data, task, split, requirements=requirements)
    count = len(examples)
    if not count:
        raise errors.DatasetError(f"{examples.name} ({examples.split}) has no example", "Give other data, or a split")
    if limit is None or limit >= count:
        return examples, range(count)
    indices = [round(place * (count - 1) / max(limit - 1, 1)) for place in range(limit)]
    return examples.select(indices), indices


def _measured(
    group: Group,
    predictor: Predictor,
    examples: Examples,
    batch_size: int,
    options: Mapping[str, Any],
    baseline: Baseline | None,
) -> tuple[list[Row], float]:
    """The rows of all processes in order, and the seconds of the slowest."""
    start, shard = time.perf_counter(), (group.rank, group.size)
    rows = measure(predictor, examples, batch_size=batch_size, options=options, shard=shard, baseline=baseline)
    parts = group.gather((rows, time.perf_counter() - start))
    everything = sorted((row for rows, _ in parts for row in rows), key=lambda row: row.index)
    return everything, round(max(seconds for _, seconds in parts), 3)


def _failures(rows: Mapping[str, Sequence[Row]], data: str) -> dict[int, str]:
    """The examples that something could not use, by index, with the reason.

    Raises DatasetError if that leaves none, ConfigError if models were measured against different truths.
    """
    failures: dict[int, str] = {}
    (first, reference), *others = rows.items()
    for name, found in rows.items():
        for row in found:
            if row.error is not None:
                reason = row.error if row.key in row.error else f"{row.key}: {row.error}"
                failures.setdefault(row.index, reason + f" ({name})" * (name != first))
    if len(failures) == len(reference):
        reason = failures[min(failures)]
        raise errors.DatasetError(
            f"no example of {data} could be used, the first: {reason}", "Look at the data and options"
        )
    for name, found in others:
        for row, wanted in zip(found, reference, strict=True):
            if row.index not in failures and row.truth != wanted.truth:
                raise errors.ConfigError(
                    f"{first} and {name} were asked for different things: the truth of {row.key} is not the same",
                    "Give options that ask the same of both, or evaluate them one by one",
                )
    return dict(sorted(failures.items()))


def _speed(rows: Sequence[Row]) -> float | None:
    """Examples a second at the median: the first batch, which sets things up, does not count."""
    from statistics import median

    seconds = median(row.seconds for row in rows)
    return 1 / seconds if seconds else None


def _versions(predictor: Predictor) -> dict[str, str]:
    found = {"stzoo": __version__, "python": platform.python_version()}
    for plugin in registry().plugins:
        if plugin.name == predictor.architecture.plugin and plugin.distribution:
            found[plugin.distribution] = plugin.version
    used = [name for name in ("torch", "numpy", "torchmetrics") if name in sys.modules]
    return found | {name: version(name) for name in used}


def _command(names: Iterable[str], asked: Mapping[str, Any], baselines: bool) -> str:
    """The command line that gives the same numbers."""
    words = ["stzoo", "evaluate", *names]
    for name, value in asked.items():
        words += [] if value is None else [flag(name), str(value).removeprefix("torch.")]
    return shlex.join(words if baselines else [*words, "--no-baselines"])
