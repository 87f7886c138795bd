"""What the command line shows: pages about models, tasks, architectures, datasets, and what commands found.

Everything here returns text and imports no array library.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, layout
from stzoo.fields import Field, Value, as_value
from stzoo.hooks import Plugin
from stzoo.registry import KnownModel, registry
from stzoo.spec import Architecture, Dataset, Measurement, Model, Task
from stzoo.terminal import Rows, amount, page, table, usage, width

if TYPE_CHECKING:
    from stzoo.bulk import BulkReport
    from stzoo.results import Evaluation
    from stzoo.weights import Located

# --- words ------------------------------------------------------------------------------------------------------------


def shown_name(spec: Any) -> str:
    """The shortest name that means this model, architecture or dataset; a task's name."""
    if isinstance(spec, Task):
        return spec.name
    try:
        if registry().get(type(spec), spec.name).plugin == spec.plugin:
            return str(spec.name)
    except errors.AmbiguousName:
        pass
    return f"{spec.plugin}:{spec.name}"


def licence(model: Model | KnownModel) -> str:
    """The licence of the weights, with a mark where it forbids commercial use."""
    return f"! {model.license}" if model.non_commercial else model.license


def main_metric(model: Model) -> str:
    """The first number that was measured on the model."""
    first = next((item for item in model.metrics if item.source == "measured"), None)
    return f"{first.metric} {first.value:.4g} ({first.dataset})" if first else ""


def explained(value: Value) -> str:
    """What a value means, what is accepted, and its default."""
    default = "" if value.default is None else f"default {value.default!r}"
    return "; ".join(part for part in (value.description, value.accepted(), default) if part)


def _fields(fields: Sequence[Field], written: bool = False) -> str:
    lines = []
    for item in fields:
        about = f": {item.description}" if item.description else ""
        endings = f"; written as {' '.join(item.suffixes)}" if written and item.suffixes else ""
        kind = f"{type(item).__name__}{', optional' * item.optional}"
        lines.append(f"{item.name} ({kind}){about}{endings}")
    return "\n".join(lines)


def _options(task: Task) -> str:
    return "\n".join(
        f"{item.name}: {explained(item) if isinstance(item, Value) else item.description}" for item in task.options
    )


def _columns(task: Task) -> str:
    """What an example consists of, and what files it is read from."""
    lines = []
    for item in task.columns:
        folder = f", or a folder of {' '.join(item.frames)}" if item.frames else ""
        files = f"; read from {' '.join(item.reads)}{folder}" if item.reads else ""
        lines.append(_fields((item,)) + files)
    return "\n".join(lines)


def _loading(task: Task) -> str:
    """Options behind the name of a data set."""
    options = {option.name: option for item in task.columns for option in item.loading}
    lines = [f"{name}: {explained(option)}" for name, option in options.items()]
    return "\n".join([*lines, f"as in ./data?{next(iter(options))}=…"] if options else [])


def _measurements(metrics: Sequence[Measurement]) -> str:
    if not metrics:
        return ""
    cells = [(item.dataset, item.metric, f"{item.value:.6g}", item.source, item.note) for item in metrics]
    return textwrap.indent(table(("data", "metric", "value", "source", "note"), cells), " ")


def located(model: Model) -> Located | errors.StzooError:
    """Where the weights would come from now, without a request; or why not."""
    from stzoo.api import pull

    try:
        return pull(model.qualified_name, offline=True)
    except errors.StzooError as problem:
        return problem


def _weights(model: Model, usable: bool) -> str:
    if model.source:
        found = located(model)
        return str(found) if isinstance(found, errors.StzooError) else f"{found.source}: {found.path}"
    if model.weights is None:
        return "it needs none" if usable else "none yet"
    found = located(model)
    if isinstance(found, errors.WeightsCorrupted):
        place = str(found)
    elif isinstance(found, errors.StzooError):
        place = f"on the Hub, not on this machine yet: stzoo pull {shown_name(model)}"
    else:
        place = f"{found.source}: {found.path}"
    return f"{amount(model.weights.size, 'B')} {model.weights.dtype}\n{place}".lstrip()


# --- pages ------------------------------------------------------------------------------------------------------------


def model_page(model: Model) -> str:
    """Everything known about a model."""
    registered, name, stored = registry(), shown_name(model), model.weights
    architecture = registered.architecture_of(model)
    task = registered.task_of(architecture)
    plugin = next(item for item in registered.plugins if item.name == model.plugin)
    python, shell = usage(task, name)
    config = ", ".join(f"{key}={value!r}" for key, value in model.config.items())
    usable = bool(stored or model.source or model.parameters == 0)
    forbidden = " (no commercial use)" if model.non_commercial else ""
    rows = [
        ("task", f"{task.name}: {task.description}"),
        ("inputs", _fields(task.inputs)),
        ("outputs", _fields(task.outputs, written=True)),
        ("options", _options(task)),
        ("takes", model.requirements.describe() if model.requirements else ""),
        ("architecture", f"{architecture.name}: {architecture.description}"),
        ("config", config or "the architecture's defaults"),
        ("paper", model.paper or architecture.paper),
        ("parameters", f"{model.parameters:,}" if model.parameters else ""),
        ("multiply-adds", f"{amount(model.flops)} per forward pass" if model.flops else ""),
        ("precisions", ", ".join(model.dtypes)),
        (
            "licence",
            f"weights {model.license}{forbidden}, code {model.code_license}"
            if model.license
            else f"code {model.code_license}",
        ),
        ("trained on", model.trained_on),
        ("trained with", model.command),
        ("starts from", model.base_model or ""),
        ("metrics", _measurements(model.metrics)),
        ("weights", _weights(model, usable)),
        ("published at", model.source.url if model.source else ""),
        ("sha256", (stored.sha256 if stored else "") or ""),
        ("Hub", f"{stored.repo} at {stored.revision}" if stored and stored.revision else ""),
        ("plugin", f"{plugin.name} ({plugin.distribution} {plugin.version})"),
        ("also called", ", ".join(model.aliases)),
        ("import it", f" stzoo import {name}" if model.source else ""),
        (
            "python",
            textwrap.indent(python, " ")
            if usable
            else f' stzoo.create("{shown_name(architecture)}"{", " * bool(config)}{config})',
        ),
        ("shell", f" {shell}" if usable else ""),
    ]
    return page(f"{name}\n  {model.description}".rstrip(), rows)


def task_page(task: Task) -> str:
    """What goes in, what comes out, and who does it."""
    registered = registry()
    rows = [
        ("inputs", _fields(task.inputs)),
        ("outputs", _fields(task.outputs, written=True)),
        ("options", _options(task)),
        (
            "metrics",
            "\n".join(
                f"{item.name} ({item.better} is better{', optional' * item.optional}): {item.description}"
                for item in task.metrics
            ),
        ),
        ("columns", _columns(task)),
        ("reading options", _loading(task)),
        ("data folder", textwrap.indent(layout.tree(task), " ")),
        ("Hub tag", task.pipeline_tag or ""),
        (
            "architectures",
            ", ".join(shown_name(item) for item in registered.all(Architecture) if item.task == task.name),
        ),
        ("datasets", ", ".join(shown_name(item) for item in registered.all(Dataset) if item.task == task.name)),
        ("models", ", ".join(map(shown_name, registered.models(task.name)))),
    ]
    return page(f"{task.name}\n  {task.description}".rstrip(), rows)


def architecture_page(architecture: Architecture) -> str:
    """What can be built, and what its config accepts."""
    registered = registry()
    values = [as_value(key, default) for key, default in architecture.defaults.items()]
    models = [item for item in registered.models(architecture.task) if registered.architecture_of(item) == architecture]
    rows = [
        ("task", architecture.task),
        (
            "config",
            "\n".join(f"{key}: {explained(value)}" for key, value in zip(architecture.defaults, values, strict=True)),
        ),
        ("paper", architecture.paper),
        ("can be trained", "yes" if architecture.recipe else "no"),
        ("reads", ", ".join(item.partition(":")[2] for item in architecture.formats)),
        ("models", ", ".join(map(shown_name, models))),
        ("plugin", architecture.plugin),
        ("python", f' stzoo.create("{shown_name(architecture)}")'),
    ]
    return page(f"{shown_name(architecture)}\n  {architecture.description}".rstrip(), rows)


def dataset_page(dataset: Dataset) -> str:
    """Where examples come from."""
    rows = [
        ("task", dataset.task),
        ("splits", ", ".join(dataset.splits)),
        ("licence", dataset.license),
        ("from", dataset.homepage),
        ("plugin", dataset.plugin),
        ("python", f' stzoo.dataset("{shown_name(dataset)}", "{dataset.splits[-1]}")'),
    ]
    return page(f"{shown_name(dataset)}\n  {dataset.description}".rstrip(), rows)


# --- lists ------------------------------------------------------------------------------------------------------------


def run_page(folder: Path, record: Mapping[str, Any]) -> str:
    """What came out of a run."""
    start, best = record.get("start") or {}, record.get("best") or {}
    numbers = [f"{name} {value:.6g}  (before: {start[name]:.6g})" for name, value in best.items() if name in start]
    held, pictures = record.get("validation") or {}, folder / "pictures"
    early = f" of {record['steps']:,}" if record["step"] < record["steps"] else ""
    rows: Rows = [
        ("status", f"{record['status']} after {record['step']:,}{early} steps, {record['seconds']:.0f} s of training"),
        ("best", f"step {best['step']:,}: {folder / 'best'}" if "step" in best else ""),
        (f"on {held.get('examples')} held-out example{'s' * (held.get('examples') != 1)}", "\n".join(numbers)),
        ("curves", str(folder / "curves.png")),
        ("pictures", str(pictures) if pictures.exists() else ""),
        ("use it", f" stzoo predict {folder} ..."),
        ("publish it", f" stzoo publish {folder} OWNER/NAME"),
    ]
    return page(str(folder), rows)


def evaluation_page(evaluation: Evaluation, written: Sequence[str]) -> str:
    """The numbers of models and baselines side by side, then what they are of."""
    header = ["metric", *(f"{item.name} (baseline)" if item.baseline else item.name for item in evaluation.models)]
    cells = zip(evaluation.columns, *map(evaluation.cells, evaluation.models), strict=True)
    failed = f"{evaluation.failed:,}: {'; '.join(evaluation.failures)}" if evaluation.failed else ""
    if evaluation.failed > len(evaluation.failures):
        failed += "; ..."
    rows: Rows = [
        ("examples", f"{evaluation.examples:,} of the split {evaluation.split}"),
        ("intervals", f"{evaluation.confidence:.4g} of the bootstrap over examples"),
        ("not usable", failed),
        ("notes", "\n".join(evaluation.notes)),
        ("on", evaluation.hardware),
        ("written to", "\n".join(written)),
    ]
    numbers = textwrap.indent(
        table(header, list(cells)), "  "
    )  # whole, whatever the terminal: a cut number is a wrong one
    return page(f"{evaluation.task} on {evaluation.data}\n{numbers}\n", rows)


def bulk_page(report: BulkReport) -> str:
    """What came of predicting a data set."""
    more = "\n..." if report.failed > len(report.failures) else ""
    speed = f"{report.per_second:.3g} inputs/s, {report.seconds:.1f} s, {report.processes} process(es)"
    rows: Rows = [
        ("inputs", f"{report.inputs:,} of {report.data} ({report.split}) in {report.shards:,} shards"),
        ("predicted", f"{report.predicted:,}"),
        ("failed", f"{report.failed:,}\n" + "\n".join(report.failures) + more),
        ("done before", f"{report.skipped:,}" if report.skipped else ""),
        ("speed", speed if report.skipped < report.inputs else ""),
    ]
    return page(report.output, rows)


_TO_IMPORT = "to import"


def _place(model: Model) -> str:
    """Where a model's weights are, in a word or two."""
    if model.source:
        from stzoo.imported import record_of

        return "imported" if record_of(model) else _TO_IMPORT
    if model.weights is None:
        return "none"
    return f"{amount(model.weights.size, 'B')} {'bundled' if model.weights.bundled else 'Hub'}".lstrip()


def models_table(models: Sequence[Model], absent: Sequence[KnownModel]) -> str:
    """Installed models, those of known plugins that are not usable, and what the marks mean."""
    broken = {plugin.name for plugin in registry().plugins}
    rows = [
        (
            shown_name(model),
            model.task,
            amount(model.parameters),
            main_metric(model),
            licence(model),
            _place(model),
            model.plugin,
        )
        for model in models
    ]
    rows.sort(key=lambda row: row[5] == _TO_IMPORT)  # what can be used at once comes first
    rows += [
        (
            model.name,
            model.task,
            "",
            "",
            licence(model),
            "failed" if model.plugin in broken else "not installed",
            model.plugin,
        )
        for model in absent
    ]
    lines = (
        [table(("name", "task", "params", "measured", "licence", "weights", "plugin"), rows, width())]
        if rows
        else ["no model matches"]
    )
    if any(row[4].startswith("!") for row in rows):
        lines.append("! no commercial use")
    if any(row[5] == _TO_IMPORT for row in rows):
        lines.append(f"{_TO_IMPORT}: others publish it; stzoo import NAME brings and converts it")
    for plugin, install in dict.fromkeys((model.plugin, model.install) for model in absent):
        lines.append(f"{plugin} failed: stzoo doctor" if plugin in broken else f"{plugin} is not installed: {install}")
    return "\n".join(lines)


def specs_table(specs: Sequence[Any]) -> str:
    """Tasks, architectures or datasets, one a line."""
    rows = [
        (shown_name(spec), getattr(spec, "task", ""), spec.description, getattr(spec, "plugin", "")) for spec in specs
    ]
    return table(("name", "task", "description", "plugin"), rows, width()) if rows else "nothing matches"


def _brought(plugin: Plugin) -> str:
    """``3 models, 1 task``."""
    return ", ".join(
        f"{len(specs)} {kind[: -1 if len(specs) == 1 else None]}" for kind, specs in plugin.specs.items() if specs
    )


def plugins_table(plugins: Sequence[Plugin]) -> str:
    """Plugins, one a line; below, what is wrong with those that are not ok."""
    if not plugins:
        return "no plugin is installed"
    rows = [
        (item.name, f"{item.distribution} {item.version}".strip(), item.status, f"{item.seconds:.3f}", _brought(item))
        for item in plugins
    ]
    lines = [table(("name", "distribution", "status", "seconds", "brings"), rows, width())]
    lines += [f"{item.name} {item.status}: {item.reason}" for item in plugins if item.reason]
    return "\n".join(lines)


def plugin_page(plugin: Plugin) -> str:
    """What became of a plugin, and what to do about it."""
    rows = [
        ("status", plugin.status),
        ("brings", _brought(plugin)),
        ("problem", plugin.reason),
        ("traceback", textwrap.indent(plugin.traceback, " ")),
        ("what to do", remedy(plugin)),
        ("warnings", "\n".join(plugin.warnings)),
    ]
    return page(f"plugin {plugin.name} ({plugin.distribution} {plugin.version}, {plugin.seconds:.3f} s)", rows)


def remedy(plugin: Plugin) -> str:
    """What the user can do about a plugin that is not ok."""
    package = plugin.distribution or plugin.name
    return {
        "failed": f"update it (pip install -U {package}), remove it (pip uninstall {package}), or tell its author",
        "slow": "its author should import inside functions; until then allow more seconds: STZOO_PLUGIN_TIMEOUT=10",
        "conflict": "say PLUGIN:NAME for the names that others also use",
    }.get(plugin.status, "")
