"""Evaluating models: given by name, on data given by name, in any number of processes; and the result as a record.

The measuring itself is :mod:`stzoo.measuring`, the record :mod:`stzoo.results`.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import __version__, api, errors
from stzoo.fields import Number, complete_values, suggestion
from stzoo.measuring import measure, metric_functions, metric_named, summarise
from stzoo.processes import Group, is_main_process
from stzoo.registry import as_plain, registry
from stzoo.results import Evaluation, ModelResult, Row
from stzoo.spec import Baseline, Task, load_reference
from stzoo.terminal import flag

if TYPE_CHECKING:
    import torch

    from stzoo.data import Examples
    from stzoo.predictor import Predictor
    from stzoo.requirements import Requirements
    from stzoo.sources import Source

    Model = str | os.PathLike[str] | Predictor

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


# --- models and data by name ------------------------------------------------------------------------------------------


def evaluate(
    models: Model | Sequence[Model],
    data: Source,
    *,
    split: str | None = None,
    batch_size: int = 8,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
    metrics: Sequence[str] | None = None,
    baselines: bool | Sequence[str] = True,
    confidence: float = 0.95,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    output: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    offline: bool | None = None,
) -> Evaluation:
    """Measure models of one task on a data set: the metrics of the task, with confidence intervals.

    Under ``torchrun`` or ``accelerate launch`` each process measures its share, and returns the whole result.

    Args:
        models: one or several: a name, a Hub repo id, a saved folder, a run folder (its best weights), or a Predictor,
            which is used as it is.
        data: a named data set, a Hub data set, a folder or file, or a sequence of examples: see :mod:`stzoo.data`.
        split: default: the first there is of test, validation, all.
        limit: measure so many examples, evenly spaced.
        options: the task's, such as ``{"horizon": 20}``.
        metrics: only these, each a name or ``name?option=value``; default: all of the task that are not optional.
        baselines: measure the task's trivial methods too: those that are not optional, or the ones of these names.
        confidence, seed: of the bootstrap: see :func:`stzoo.measuring.summarise`.
        device, dtype, revision, offline: as for :func:`stzoo.load`.
        output: folder for evaluation.json, evaluation.md, samples.parquet and curves.png.

    An example that one model cannot use is left out for all of them, counted, and named in the result.

    Raises:
        ConfigError: the models are of different tasks or were asked for different things, or a setting is out of range.
        InputError: the task has no such option.
        DependencyMissing: a metric that was asked for needs a package or weights.
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
    functions, missing = metric_functions(task, metrics)
    if metrics is not None and missing:
        name, reason = next(iter(missing.items()))
        raise errors.DependencyMissing(f"the metric {name!r} cannot be computed: {reason}")
    if output is not None:
        _check_writable(Path(output).expanduser())
    trivial = _trivial(task, baselines)
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
        details[label]["costs"] = _costs(predictor)
        jobs: dict[str, Baseline | None] = {label: None}
        if not measured:
            jobs |= dict(zip(labels[len(given) :], trivial, strict=True))
        for name, baseline in jobs.items():
            rows, seconds = _measured(group, predictor, examples, batch_size, options, baseline, list(functions))
            measured[name] = [replace(row, index=indices[row.index]) for row in rows], seconds

    source = os.fspath(data) if isinstance(data, (str, os.PathLike)) else examples.name
    failures = _failures({name: measured[name][0] for name in labels}, source)
    results = []
    for name in labels:
        rows, seconds = measured[name]
        used = [row for row in rows if row.index not in failures]
        speed = _speed(used) if name in details else None
        summaries = summarise(used, task, confidence, seed)
        own = details.get(name, {})
        results.append(ModelResult(name, name not in details, summaries, seconds, speed, **own))
    better: dict[str, str] = {name: metric_named(task, name).better for name in functions}
    results = _with_skill(results, [name for name in better if better[name] == "lower"])
    asked = {"data": source, "split": split, "limit": limit, **options, "dtype": dtype, "revision": revision}
    asked["confidence"] = None if confidence == SETTINGS["confidence"].default else confidence
    asked["metrics"] = metrics
    asked["baselines"] = None if isinstance(baselines, bool) else list(baselines)
    evaluation = Evaluation(
        task=task.name,
        data=source,
        split=examples.split,
        examples=len(indices) - len(failures),
        failed=len(failures),
        failures=tuple(failures.values())[:_NAMED],
        models=tuple(results),
        better=better,
        options=as_plain(options),
        confidence=confidence,
        notes=tuple(f"{name} was not computed: {reason}" for name, reason in missing.items()),
        hardware=hardware(group.size, predictor.device.type),
        versions=_versions(predictor),
        command=_command(map(_label, given), asked, baselines is not False),
        date=now(),
        axes={name: axis for name in functions if (axis := metric_named(task, name).curve)},
        places={
            name: getattr(predictor.requirements, named)
            for name in functions
            if (named := metric_named(task, name).named)
        },
        rows={name: measured[name][0] for name in labels},
    )
    if output is not None and is_main_process():
        evaluation.write(output)
    return evaluation


def _costs(predictor: Predictor) -> dict[str, int]:
    """What a prediction costs; nothing where the task's inputs have no sample."""
    from stzoo.costs import costs

    with contextlib.suppress(errors.SpecError):
        return asdict(costs(predictor))
    return {}


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


def _trivial(task: Task, asked: bool | Sequence[str]) -> tuple[Baseline, ...]:
    """The task's trivial methods that are to be measured. Raises ConfigError for a name that none has, DependencyMissing where
    one needs a package that is not there."""
    if isinstance(asked, bool):
        return tuple(item for item in task.baselines if asked and not item.optional)
    known = {item.name: item for item in task.baselines}
    for name in asked:
        if name not in known:
            raise errors.ConfigError(f"task {task.name!r} has no baseline {name!r}", suggestion(name, list(known)))
        load_reference(known[name].compute)
    return tuple(known[name] for name in asked)


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
    metrics: Sequence[str],
) -> tuple[list[Row], float]:
    """The rows of all processes in order, and the seconds of the slowest."""
    start, shard = time.perf_counter(), (group.rank, group.size)
    rows = measure(
        predictor, examples, batch_size=batch_size, options=options, shard=shard, baseline=baseline, metrics=metrics
    )
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


def _with_skill(results: Sequence[ModelResult], names: Sequence[str]) -> list[ModelResult]:
    """The same with the skill of everything but the first baseline against it (Murphy, Monthly Weather Review 116, 1988)."""
    reference = next((item for item in results if item.baseline), None)
    if reference is None:
        return list(results)
    scored = []
    for item in results:
        skill = {}
        for name in names if item is not reference else ():
            value, trivial = item.metrics[name].value, reference.metrics[name].value
            if trivial > 0 and math.isfinite(value / trivial):
                skill[name] = 1 - value / trivial
        scored.append(replace(item, skill=skill))
    return scored


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
        if value is not None:
            words += [
                flag(name),
                *(str(item).removeprefix("torch.") for item in ([value], value)[isinstance(value, list)]),
            ]
    return shlex.join(words if baselines else [*words, "--no-baselines"])
