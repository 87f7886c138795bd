"""A task's metrics over a data set: what one process measures, and numbers with intervals made of all rows.

Nothing here knows where models and data come from or how many processes there are: :mod:`stzoo.evaluation` and the
training loop do.
"""

from __future__ import annotations

import inspect
import math
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from stzoo import errors, terminal
from stzoo.fields import complete_values, query_options, suggestion
from stzoo.hooks import one_line
from stzoo.predictor import batched
from stzoo.requirements import Requirements
from stzoo.results import Row, Summary
from stzoo.spec import Baseline, Metric, Task, load_reference

if TYPE_CHECKING:
    from stzoo.data import Examples
    from stzoo.predictor import Predictor

T = TypeVar("T")
Values = dict[str, Any]

NO_REQUIREMENTS = Requirements()


def measure(
    predictor: Predictor,
    examples: Examples,
    *,
    batch_size: int = 8,
    options: Mapping[str, Any] = MappingProxyType({}),
    shard: tuple[int, int] = (0, 1),
    baseline: Baseline | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Row]:
    """Predict examples as ``predict_batch`` does and compare with the truth; one row for each example of this shard.

    Args:
        predictor: its module in eval mode.
        options: the task's.
        shard: (rank, world): example i belongs to rank ``i % world``. The rows of all ranks together are every example
            once; sorted by ``index`` they are what one process gives.
        baseline: computed instead of the model.
        metrics: only these; default: all of the task that are not optional and can be computed here (see
            :func:`metric_functions`).

    An example that cannot be read or judged becomes a row with an ``error``. Memory is that of one batch. Ranks make
    different numbers of forward passes: a module whose parameters are sharded (FSDP) is to be measured whole.

    Raises InputError for an option the task does not have, ConfigError for a metric.
    """
    rank, world = shard
    task, pipeline = predictor.task, predictor.pipeline
    complete = complete_values(
        {item.name: item for item in task.options}, options, f"task {task.name!r}", errors.InputError
    )
    functions, _ = metric_functions(task, metrics, predictor.requirements)
    compute = load_reference(baseline.compute) if baseline else None
    own = range(rank, len(examples), world)
    rows: dict[int, Row] = {}
    shown = own if rank else terminal.progress(own, len(own), "example")
    for batch in batched(shown, batch_size):
        ready: list[tuple[Row, Values, Values]] = []
        for index in batch:
            row = Row(index, examples.key(index))
            try:
                ready.append((row, *pipeline.example(examples[index], complete)))
            except Exception as problem:  # whatever files and a plugin's code raise
                rows[index] = replace(row, error=_reason(problem))
        if compute:
            results: Iterable[Any] = (_timed(compute, inputs, truth) for _, inputs, truth in ready)
        else:
            items = [tuple(inputs.get(item.name) for item in task.inputs) for _, inputs, _ in ready]
            results = _predicted(predictor, items, options)
        for (row, _, truth), result in zip(ready, results, strict=True):
            try:
                if isinstance(result, Exception):
                    raise result
                outputs, seconds = result
                values, curves = _judged(functions, outputs, truth)
                rows[row.index] = replace(row, values=values, curves=curves, seconds=seconds, truth=checksum(truth))
            except Exception as problem:
                rows[row.index] = replace(row, error=_reason(problem))
    return [rows[index] for index in own]


def measure_one(
    task: Task, outputs: Mapping[str, Any], truth: Mapping[str, Any], requirements: Requirements = NO_REQUIREMENTS
) -> tuple[dict[str, Summary], dict[str, str]]:
    """The metrics of one prediction, the same numbers that :func:`measure` and :func:`summarise` give for one example; and
    why others have none: a missing package, with its remedy, or one example is not enough for them (NaN).

    Metrics that are optional, and those of outputs that ``truth`` does not have, are left out. ``requirements``: the network's.
    """
    there = truth.keys() & outputs.keys()
    judged = [item for item in task.metrics if not item.optional and (item.output or task.outputs[0].name) in there]
    if not judged:
        return {}, {}
    functions, missing = metric_functions(task, [item.name for item in judged], requirements)
    found = summarise([Row(0, "", *_judged(functions, outputs, truth))], task) if functions else {}
    undefined = {
        name: "it has no value for this one example (NaN)" for name, item in found.items() if math.isnan(item.value)
    }
    return {name: item for name, item in found.items() if name not in undefined}, missing | undefined


def _judged(
    functions: Mapping[str, Callable[..., tuple[Any, Any]]], outputs: Mapping[str, Any], truth: Mapping[str, Any]
) -> tuple[Values, Values]:
    """Values and curves of one example."""
    found = {name: function(outputs, truth) for name, function in functions.items()}
    curves = {name: curve for name, (_, curve) in found.items() if curve is not None}
    return {name: value for name, (value, _) in found.items()}, curves


def _predicted(
    predictor: Predictor, items: Sequence[tuple[Any, ...]], options: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], float] | errors.InputError]:
    """Outputs and seconds of each item; if the network cannot take one of them, why, and the others without it."""
    try:
        found = predictor.predict_batch(items, batch_size=max(len(items), 1), **options)
        return [(prediction.outputs, prediction.seconds) for prediction in found]
    except errors.InputError as problem:
        if len(items) == 1:
            return [problem]
    return [result for item in items for result in _predicted(predictor, [item], options)]


def _timed(compute: Callable[[Values, Values], Values], inputs: Values, truth: Values) -> Any:
    start = time.perf_counter()
    try:
        return compute(inputs, truth), time.perf_counter() - start
    except Exception as problem:
        return problem


def metric_functions(
    task: Task, names: Sequence[str] | None = None, requirements: Requirements = NO_REQUIREMENTS
) -> tuple[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[Any, Any]]], dict[str, str]]:
    """Metrics as functions of (outputs, truth) by name, and those that need a missing package, with its remedy.

    A function returns the value for one example, and its curve or None. ``names`` may carry options, as in
    ``"csi?threshold=5"``; default: the task's metrics that are not optional. A metric that has a parameter ``requirements``
    gets the network's. A metric's module says that it cannot be used by raising DependencyMissing when it is imported.
    Raises ConfigError for an unknown name or option.
    """
    if not task.metrics:
        raise errors.ConfigError(f"task {task.name!r} has no metrics")
    functions, missing = {}, {}
    for name in [metric.name for metric in task.metrics if not metric.optional] if names is None else names:
        metric = metric_named(task, name)
        try:
            compute = load_reference(metric.compute)
        except errors.DependencyMissing as problem:
            missing[name] = str(problem)
            continue
        functions[name] = _judge(
            _with_options(compute, name, requirements), metric.output or task.outputs[0].name, metric
        )
    return functions, missing


def metric_named(task: Task, name: str) -> Metric:
    """The task's metric that ``"name"`` or ``"name?option=value"`` names. Raises ConfigError."""
    known, base = {metric.name: metric for metric in task.metrics}, name.partition("?")[0]
    if base not in known:
        raise errors.ConfigError(f"task {task.name!r} has no metric {base!r}", suggestion(base, list(known)))
    return known[base]


def _with_options(compute: Callable[..., Any], name: str, requirements: Requirements) -> Callable[[Any, Any], Any]:
    declared = {key: item.default for key, item in list(inspect.signature(compute).parameters.items())[2:]}
    if declared.pop("requirements", None) is not None:
        compute = partial(compute, requirements=requirements)
    base, mark, query = name.partition("?")
    if not mark:
        return compute
    given = query_options(query, name, errors.ConfigError)
    return partial(compute, **complete_values(declared, given, f"the metric {base!r}"))


def _judge(compute: Callable[[Any, Any], Any], output: str, metric: Metric) -> Callable[..., tuple[Any, Any]]:
    def judge(outputs: Mapping[str, Any], truth: Mapping[str, Any]) -> tuple[Any, Any]:
        import numpy as np

        if output not in truth:
            raise errors.InputError(f"the example has no true {output!r}")
        if output not in outputs:
            raise errors.InputError(f"{output} was not asked for", "Set the option that asks for it")
        value = compute(outputs[output], truth[output])
        if not metric.curve:
            return (value if metric.summary else float(value)), None
        curve = np.asarray(value, dtype=np.float64)
        return (curve if metric.summary else float(curve.mean())), curve

    return judge


def _reason(problem: Exception) -> str:
    """Why one example could not be used; what would stop every other one too is raised."""
    if isinstance(problem, errors.DependencyMissing):
        raise problem
    return one_line(problem)


def checksum(values: Mapping[str, Any]) -> int:
    """What tells values apart."""
    total = 0
    for value in values.values():
        total = zlib.crc32(value.tobytes() if hasattr(value, "tobytes") else repr(value).encode(), total)
    return total


# --- all shares together ----------------------------------------------------------------------------------------------


def summarise(
    rows: Iterable[Row], task: Task, confidence: float = 0.95, seed: int = 0, resamples: int = 1000
) -> dict[str, Summary]:
    """Each metric over all rows (its ``summary``, or the mean) with a percentile bootstrap interval over examples.

    The interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3) speaks of examples drawn
    independently from where these came from, and is too narrow for few of them. The same rows in any order and the same
    ``seed`` give the same numbers. Raises DatasetError if no row has values.
    """
    import numpy as np

    ordered = sorted(rows, key=lambda row: row.index)
    usable = [row for row in ordered if row.error is None]
    if not usable:
        reason = f", the first ({ordered[0].key}): {ordered[0].error}" if ordered else ": there is none"
        raise errors.DatasetError(f"no example could be used{reason}", "Look at the data, or at the task's options")
    reduce: dict[str, Callable[[Any], Any]] = {}
    curves: dict[str, tuple[float, ...]] = {}
    for name in usable[0].values:
        column, metric = [row.values[name] for row in usable], metric_named(task, name)
        summary = load_reference(metric.summary) if metric.summary else None
        reduce[name] = _listed(summary, column) if summary else _mean(np.array(column, dtype=np.float64))
        if metric.curve:
            curves[name] = _curve([row.curves[name] for row in usable], summary)
    count, rng = len(usable), np.random.default_rng(seed)
    everything = np.arange(count)[None]
    with np.errstate(invalid="ignore"):  # exact predictions have infinite PSNR
        values = {name: float(function(everything)[0]) for name, function in reduce.items()}
        drawn: dict[str, list[Any]] = {name: [] for name in reduce}
        step = max(1, 2**20 // count)  # resamples at once: bounds the memory
        for start in range(0, resamples if count > 1 else 0, step):
            picks = rng.integers(count, size=(min(step, resamples - start), count))
            for name, function in reduce.items():
                drawn[name].extend(function(picks))
    tail = (1 - confidence) / 2 * resamples
    summaries = {}
    for name, value in values.items():
        sample = np.sort(drawn[name])
        ends = (float(sample[math.floor(tail)]), float(sample[math.ceil(resamples - tail) - 1])) if len(sample) else ()
        low, high = ends or (None, None)
        summaries[name] = Summary(value, low, high, curves.get(name, ()))
    return summaries


def _curve(examples: Sequence[Any], summary: Callable[[list[Any]], float] | None) -> tuple[float, ...]:
    import numpy as np

    if len({len(item) for item in examples}) > 1:
        return ()
    with np.errstate(invalid="ignore"):
        if summary:
            return tuple(float(summary([item[place] for item in examples])) for place in range(len(examples[0])))
        return tuple(np.mean(examples, axis=0).tolist())


def _mean(column: Any) -> Callable[[Any], Any]:
    return lambda picks: column[picks].mean(axis=1)


def _listed(summary: Callable[[list[Any]], float], column: list[Any]) -> Callable[[Any], Any]:
    return lambda picks: [float(summary([column[index] for index in pick])) for pick in picks]
