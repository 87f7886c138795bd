"""What an evaluation found: numbers of models and baselines side by side, as JSON, tables, curves and parquet."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from stzoo import errors, files
from stzoo.curves import panels, save
from stzoo.registry import as_plain
from stzoo.spec import Measurement

EVALUATION_FILE = "evaluation.json"
CURVES_FILE = "curves.png"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """What was measured on one example."""

    index: int
    """Its place among the examples."""
    key: str
    """What identifies it to people."""
    values: dict[str, Any] = field(default_factory=dict)
    """Metric -> a float, or what the metric's ``summary`` takes."""
    curves: dict[str, Any] = field(default_factory=dict, compare=False)
    """Metric that has a curve -> the array of what is at each of its places."""
    seconds: float = 0.0
    """Of the forward pass, divided by the batch size."""
    truth: int = 0
    """Checksum of the true outputs: models can be compared where it is the same."""
    error: str | None = None
    """Why the example could not be used; then there are no values."""


@dataclass(frozen=True)
class Summary:
    """A metric over all examples, and a confidence interval."""

    value: float
    low: float | None = None
    high: float | None = None
    """None where there is no interval: fewer than two examples."""
    curve: tuple[float, ...] = ()
    """The same over all examples at each place of the metric's curve; empty if it has none, or if examples differ in length."""


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
    skill: dict[str, float] = field(default_factory=dict)
    """Of each metric whose lower values are better: 1 - value / value of the first baseline. 1 is perfect, 0 no better."""
    costs: dict[str, int] = field(default_factory=dict)
    """Of one prediction, as :class:`stzoo.costs.Costs`; empty for a baseline."""


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
    axes: dict[str, str] = field(default_factory=dict)
    """Metric that has a curve -> what its places are, such as ``frame``."""
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Metric whose curve's places have names -> these."""
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
            entry["places"] = {name: tuple(items) for name, items in entry.get("places", {}).items()}
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
        """What :meth:`cells` holds: the metrics, each with an arrow to where its better values are, skill, throughput.

        The skill is that of the first metric that gives one; it is there if a baseline was measured.
        """
        arrows = {"lower": "↓", "higher": "↑"}
        names = [f"{name} {arrows[self.better[name]]}" for name in self.models[0].metrics]
        return [*names, *([f"{self._skilled} skill ↑"] if self._skilled else []), "examples/s"]

    @property
    def _skilled(self) -> str:
        return next(iter(self.models[0].skill), "")

    def cells(self, model: ModelResult) -> list[str]:
        """A model's numbers as texts, the intervals in brackets."""
        cells = []
        for item in model.metrics.values():
            interval = "" if item.low is None else f" [{item.low:.4g}, {item.high:.4g}]"
            cells.append(f"{item.value:g}{interval}")
        if self._skilled:
            cells.append(f"{model.skill[self._skilled]:.3f}" if self._skilled in model.skill else "")
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

    def curves(self) -> str:
        """Markdown: for each metric that has a curve a table, a row for each model and baseline; empty if there is none."""
        tables = []
        for name, axis in self.axes.items():
            found = {model.name: model.metrics[name].curve for model in self.models}
            if count := min(map(len, found.values())):
                lines = [
                    f"| {name}, {axis} | " + " | ".join(self.labels(name, count)) + " |",
                    "|---|" + "---:|" * count,
                ]
                lines += [
                    f"| {model} | " + " | ".join(f"{value:.4g}" for value in found[model]) + " |" for model in found
                ]
                tables.append("\n".join(lines) + "\n")
        return "\n".join(tables)

    def labels(self, metric: str, count: int) -> list[str]:
        """What the ``count`` places of a metric's curve are called: their names, or numbers from 1."""
        names = self.places.get(metric, ())
        return list(names) if len(names) == count else [str(place + 1) for place in range(count)]

    def costs(self) -> str:
        """Markdown: what a prediction of each model costs, and its speed, of clips that are equally long also in frames;
        empty if that is not known."""
        frames = max(
            (len(self.models[0].metrics[name].curve) for name in self.axes if self.axes[name] == "frame"), default=0
        )
        rates = {"examples/s": 1, **({"frames/s": frames} if frames else {})}
        heads = ("parameters", "multiply-adds", "memory", *rates)
        lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
        for model in self.models:
            if found := model.costs:
                cells = (
                    f"{found['parameters']:,}",
                    f"{found['multiply_adds'] / 1e9:.3g} G",
                    f"{found['memory'] / 1e6:.3g} MB",
                )
                rate = model.examples_per_second
                speeds = (f"{rate * count:.3g}" if rate else "" for count in rates.values())
                lines.append(f"| {model.name} | " + " | ".join((*cells, *speeds)) + " |")
        return "\n".join(lines) + "\n" if len(lines) > 2 else ""

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
        """Write evaluation.json, evaluation.md, samples.parquet (a line for each model and example) and, if matplotlib is
        there, curves.png (the metrics that have a curve); returns the folder."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if self.rows:
            with files.atomic_path(folder / "samples.parquet") as temporary:
                self._write_rows(temporary)
        drawn = self.draw(folder / CURVES_FILE)
        files.write_atomically(folder / "evaluation.md", self._page(drawn).encode())
        files.write_atomically(folder / EVALUATION_FILE, self.to_json().encode())
        return folder

    def draw(self, path: Path) -> bool:
        """Each metric that has a curve, of models and (dashed) baselines; False if there is none, or no matplotlib."""
        names = [name for name in self.axes if any(model.metrics[name].curve for model in self.models)]
        if not names or (made := panels(len(names))) is None:
            return False
        figure, axes = made
        for axis, name in zip(axes, names, strict=True):
            named, count = (
                bool(self.places.get(name)),
                max(len(model.metrics[name].curve) for model in self.models),
            )
            for model in self.models:
                curve = model.metrics[name].curve
                style = "None" if named else "--" if model.baseline else "-"
                axis.plot(range(1, len(curve) + 1), curve, linestyle=style, marker=".", label=model.name)
            axis.set_title(f"{name} ({self.better[name]} is better)", fontsize="small")
            axis.set_xlabel(self.axes[name])
            if named:
                axis.set_xticks(
                    range(1, count + 1), self.labels(name, count), rotation=60, ha="right", fontsize="x-small"
                )
        names = [model.name for model in self.models]
        figure.legend(axes[0].lines, names, loc="outside lower center", ncols=min(len(names), 6), fontsize="small")
        save(figure, path)
        return True

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

    def _page(self, drawn: bool) -> str:
        facts = [f"{self.dataset}; intervals: {self.confidence:.4g} of the bootstrap over examples"]
        if self.failed:
            facts.append(f"{self.failed:,} examples could not be used: {'; '.join(self.failures)}")
        facts += self.notes
        facts += [f"{model.name}: sha256 `{model.sha256}`, {model.dtype}" for model in self.models if model.sha256]
        facts.append(f"Measured {self.date} with `{self.command}`")
        facts.append(f"{self.hardware}; " + ", ".join(f"{name} {version}" for name, version in self.versions.items()))
        picture = f"![The metrics by {' or '.join(sorted(set(self.axes.values())))}]({CURVES_FILE})\n" if drawn else ""
        tables = "\n".join(filter(None, (self.table(), picture, self.curves(), self.costs())))
        return f"# {self.task} on {self.data}\n\n{tables}\n" + "".join(f"- {fact}\n" for fact in facts)


def _strict(value: Any) -> Any:
    """The same in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(name): _strict(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _summary(entry: Mapping[str, Any]) -> Summary:
    ends = {name: None if entry[name] is None else float(entry[name]) for name in ("low", "high")}
    return Summary(float(entry["value"]), **ends, curve=tuple(map(float, entry.get("curve", ()))))


def _stored(value: Any) -> Any:
    """What a metric gives for one example, as a parquet file takes it."""
    return value.tolist() if hasattr(value, "tolist") else as_plain(value)
