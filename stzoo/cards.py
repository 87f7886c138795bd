"""Model cards: one template, filled from the registry for models of the zoo, from a run's records for what is fine-tuned."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stzoo import errors, terminal
from stzoo.lineage import portable, source_text
from stzoo.registry import registry
from stzoo.requirements import Requirements
from stzoo.spec import Architecture, Measurement, Model, Task, forbids_commercial_use

if TYPE_CHECKING:
    from stzoo import Predictor
    from stzoo.results import Evaluation

CARD = "README.md"
PICTURE = "prediction.png"
LONG = 200
"""Characters from which on a value of a config is shortened."""
MARK_TEXT = "written by stzoo; remove this line to keep your edits"
MARK = f"<!-- {MARK_TEXT} -->"
_FRONT_MATTER = re.compile(r"\A---\s*\n.*?\n---[ \t]*(\n|\Z)", re.DOTALL)
_PLACEHOLDER = re.compile(
    r"Check out the configuration reference at https://huggingface\.co/docs/hub/spaces-config-reference"
)
"""What the Hub writes into a new Space."""
_EMPTY_SECTION = re.compile(r"^## [^\n]*\n+(?=## |\Z)", re.MULTILINE)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class _Card:
    """What a card says; what is empty is left out."""

    name: str
    load: str
    """What ``stzoo.load`` takes."""
    summary: str
    task: Task
    architecture: Architecture
    facts: Sequence[tuple[str, str]]
    license: str = ""
    base_model: str = ""
    data: str = ""
    measurements: Sequence[Measurement] = ()
    """Numbers of this model alone, for the model index."""
    results: str = ""
    prose: str = ""
    training: str = ""
    limitations: Sequence[str] = ()
    picture: str = ""
    """What the picture shows; empty if there is none."""
    tags: Sequence[str] = ()

    def render(self) -> str:
        python, shell = terminal.usage(self.task, self.load)
        python = python.replace("\n", "\n\n", 1)  # as formatters want it
        text = Template((resources("stzoo") / "templates" / "card.md.in").read_text(encoding="utf-8")).substitute(
            header=self._header(),
            mark=MARK,
            name=self.name,
            summary=self.summary,
            picture=f"![{self.picture}]({PICTURE})\n\n{self.picture}" if self.picture else "",
            facts=markdown_table(("", ""), self.facts),
            python=python,
            shell=shell,
            results=self.results,
            prose=self.prose.strip(),
            training=self.training,
            limitations="".join(f"- {item}\n" for item in self.limitations),
        )
        return _EMPTY_SECTION.sub("", re.sub(r"\n{3,}", "\n\n", text)).strip() + "\n"

    def _header(self) -> str:
        """The Hub's metadata; the model index has measured numbers alone."""
        from huggingface_hub import EvalResult, ModelCardData

        dataset = hub_dataset(self.data)
        given: dict[str, Any] = {
            "license": self.license,
            "pipeline_tag": self.task.pipeline_tag,
            "datasets": [dataset] if dataset else None,
            "metrics": sorted({item.metric for item in self.measurements}),
            "base_model": _hub_model(self.base_model),
            "tags": ["stzoo", self.task.name, self.architecture.name, *self.tags],
        }
        if self.measurements:
            given["model_name"] = self.name
            given["eval_results"] = [
                EvalResult(
                    task_type=self.task.pipeline_tag or self.task.name,
                    task_name=self.task.name,
                    dataset_type=hub_dataset(item.dataset) or re.split(r"[\s(?]", item.dataset)[0],
                    dataset_name=item.dataset,
                    metric_type=item.metric,
                    metric_value=item.value,
                    metric_name=headed(item.metric),
                )
                for item in self.measurements
            ]
        data = ModelCardData(library_name="stzoo", **{key: value for key, value in given.items() if value})
        return f"---\n{data.to_yaml()}\n---"


def is_ours(text: str) -> bool:
    """Whether nobody has written a card of their own: our mark is there, or there is no text at all."""
    return MARK in text or not _PLACEHOLDER.sub("", _FRONT_MATTER.sub("", text)).strip()


def hub_dataset(source: str) -> str | None:
    """The id of the Hub data set that a source (``owner/name?option=1``, ``owner/name (test)``) names; None if none."""
    name = re.split(r"[\s?]", source.strip(), maxsplit=1)[0]
    return name if _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _hub_model(base: str) -> str | None:
    """The Hub repo of a model given by its name in the zoo or its repo id."""
    if _HUB_ID.fullmatch(base) and not Path(base).exists():
        return base
    try:
        found = registry().get(Model, base) if base else None
    except errors.StzooError:
        return None
    return found.weights.repo if found and found.weights else None


def headed(metric: str) -> str:
    """A metric's name over a column: in capitals, its options as they are."""
    base, mark, options = metric.partition("?")
    return base.upper() + mark + options


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; rows whose last cell is empty are left out."""
    shown = [[cell.replace("|", "\\|").replace("\n", "<br>") for cell in row] for row in rows if row[-1]]
    lines = [f"| {' | '.join(row)} |" for row in shown]
    return "\n".join(["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *lines]) if lines else ""


def _facts(
    task: Task,
    architecture: Architecture,
    *,
    license: str,
    paper: str,
    trained_on: str,
    base_model: str,
    parameters: int | None,
    flops: int | None,
    file: str,
    needs: Requirements | None,
    config: Mapping[str, Any],
    code_license: str = "apache-2.0",
) -> list[tuple[str, str]]:
    forbidden = " (**no commercial use**)" if forbids_commercial_use(license) else ""
    return [
        ("Task", f"`{task.name}`: {task.description}"),
        ("Architecture", f"`{architecture.name}` ({architecture.description})"),
        ("Paper", paper or architecture.paper),
        ("Base model", base_model),
        ("Trained on", trained_on),
        ("Licence", f"weights {license}{forbidden}, code {code_license}" if license else ""),
        ("Parameters", f"{parameters:,}" if parameters else ""),
        ("Multiply-adds", f"{flops / 1e9:.3g} G per forward pass" if flops else ""),
        ("File", file),
        ("Input", needs.describe() if needs else ""),
        ("Config", ", ".join(f"`{key}={_shortened(value)}`" for key, value in config.items())),
    ]


def _shortened(value: Any) -> str:
    """A value of a config; of a long row of numbers, how many."""
    text = repr(value)
    return (
        text
        if len(text) <= LONG or not isinstance(value, (list, tuple))
        else f"({value[0]!r}, ... {len(value)} values)"
    )


def _file(size: int | None, sha256: str | None, dtype: str = "") -> str:
    return ", ".join(filter(None, (terminal.amount(size, "B"), dtype, f"sha256 `{sha256}`"))) if size else ""


_FOREIGN = """\
## Where the weights come from

Others trained and publish them; nothing was changed but the file's format. `stzoo import {name}` brings them, once:
from then on the lines above work without a connection.
"""


def foreign_file(model: Model) -> str:
    """Where a model that others publish has its file."""
    if not model.source:
        return ""
    return (
        _file(model.source.size, model.source.sha256) or f"[{model.source.url.rpartition('/')[2]}]({model.source.url})"
    )


# --- models of the zoo ------------------------------------------------------------------------------------------------


def model_card(model: Model, picture: str = "", load: str = "") -> str:
    """The card of a model, as Markdown with the Hub's front matter.

    ``picture``: what ``prediction.png`` shows; ``load``: what ``stzoo.load`` takes, default: its name in the zoo.
    """
    architecture, weights = registry().architecture_of(model), model.weights
    task = registry().task_of(architecture)
    return _Card(
        name=model.name,
        load=load or model.name,
        summary=model.description,
        task=task,
        architecture=architecture,
        license=model.license,
        base_model=model.base_model or "",
        data=model.trained_on,
        facts=_facts(
            task,
            architecture,
            license=model.license,
            code_license=model.code_license,
            paper=model.paper,
            trained_on=model.trained_on,
            base_model=model.base_model or "",
            parameters=model.parameters,
            flops=model.flops,
            file=_file(weights.size, weights.sha256, weights.dtype) if weights else foreign_file(model),
            needs=model.requirements,
            config=model.config,
        ),
        measurements=[item for item in model.metrics if item.source == "measured"],
        results=_results(model.metrics),
        prose=model.card or (_FOREIGN.format(name=model.name) if model.source else ""),
        training=_console(model.command),
        picture=picture,
        tags=model.tags,
    ).render()


def _console(command: str) -> str:
    lines = "\n".join(f"$ {line}" for line in command.splitlines())
    return f"```console\n{lines}\n```" if lines else ""


def _results(metrics: Sequence[Measurement]) -> str:
    """One table per data set: a row for each source, a column for each metric; then the commands."""
    text = ""
    for dataset in dict.fromkeys(item.dataset for item in metrics):
        items = [item for item in metrics if item.dataset == dataset]
        names = list(dict.fromkeys(item.metric for item in items))
        rows: dict[str, dict[str, str]] = {}
        for item in items:
            label = {"measured": "this model, measured", "baseline": "baseline", "published": "published"}[item.source]
            rows.setdefault(f"{label}: {item.note}" if item.note else label, {})[item.metric] = f"{item.value:g}"
        cells = [[label, *(values.get(name, " ") for name in names)] for label, values in rows.items()]
        text += f"On {dataset}:\n\n{markdown_table(('', *map(headed, names)), cells)}\n\n"
        commands = dict.fromkeys(item.command for item in items if item.command)
        text += "".join(f"Measured with `{command}`.\n\n" for command in commands)
    return text


# --- saved and fine-tuned models --------------------------------------------------------------------------------------


def saved_card(
    predictor: Predictor,
    entry: Mapping[str, Any],
    load: str,
    *,
    size: int | None = None,
    record: Mapping[str, Any] = MappingProxyType({}),
    evaluation: Evaluation | None = None,
    picture: str = "",
) -> str:
    """The card of a saved model.

    Args:
        predictor: the model itself.
        entry: what its ``config.json`` says.
        load: what ``stzoo.load`` takes: a folder or a repo id.
        size: bytes of its weights.
        record: ``run.json`` of the run it comes from.
        evaluation: what was measured, as :func:`of_these_weights` gives it.
        picture: what ``prediction.png`` shows.
    """
    task, architecture = predictor.task, predictor.architecture
    license, base = entry.get("license") or "", portable(entry.get("base_model") or "")
    trained_on = source_text(record.get("data") or entry.get("trained_on"))
    validation, held_out = _validation(record)
    results = _evaluated(evaluation, entry["name"], base) if evaluation else validation
    summary = f"A `{architecture.name}` model for `{task.name}`"
    if record:
        start = f", fine-tuned from {base}" if base else ", trained from scratch"
        summary += f"{start} on {trained_on}"
    data_license = f" (licence of the data: {record['data_license']})" if record.get("data_license") else ""
    return _Card(
        name=entry["name"],
        load=load,
        summary=f"{summary}. Saved with [stzoo](https://huggingface.co/stzoo).",
        task=task,
        architecture=architecture,
        license=license,
        base_model=base,
        data=trained_on,
        facts=_facts(
            task,
            architecture,
            license=license,
            paper="",
            trained_on=f"{trained_on}{data_license}",
            base_model=base,
            parameters=sum(item.numel() for item in predictor.module.parameters()),
            flops=None,
            file=_file(size, entry["sha256"]),
            needs=predictor.requirements,
            config=entry["config"],
        ),
        measurements=_measured(evaluation) if evaluation else held_out,
        results=results,
        training=_training(record, validation if evaluation else "") if record else "",
        limitations=_limitations(predictor, license, base, trained_on, record, bool(results)),
        picture=picture,
    ).render()


def of_these_weights(evaluation: Evaluation, sha256: str) -> Evaluation | None:
    """The evaluation with the model it is about first and without this machine's paths; None if it is about others."""
    own = [item for item in evaluation.models if item.sha256 == sha256][:1]
    if not own:
        return None
    others = [item for item in evaluation.models if item not in own]
    data, command = portable(evaluation.data), portable(evaluation.command)
    return replace(evaluation, models=(*own, *others), data=data, command=command)


def _measured(evaluation: Evaluation) -> list[Measurement]:
    return [item for item in evaluation.measurements() if item.source == "measured"]


def evaluation_results(evaluation: Evaluation) -> str:
    """``.eval_results/*.yaml`` of the Hub, which knows data sets of the Hub alone; empty for others."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    dataset = hub_dataset(evaluation.data)
    if not dataset:
        return ""
    entries = [
        EvalResultEntry(dataset, item.metric, item.value, date=evaluation.date, notes=f"{item.dataset}: {item.command}")
        for item in _measured(evaluation)
    ]
    text: str = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    return text


def _evaluated(evaluation: Evaluation, name: str, base: str) -> str:
    """The table that ``stzoo evaluate`` prints, with what it is about."""
    this, *others = evaluation.models
    named = [replace(this, name=f"{name} (this model)")]
    for item in others:
        shown = portable(item.name)
        started = bool(base) and _hub_model(item.name) == _hub_model(base)
        named.append(replace(item, name=f"{shown} (starting weights)" if started else shown))
    table = replace(evaluation, models=tuple(named)).table()
    facts = [
        f"Measured {evaluation.date} with `{evaluation.command}` on {evaluation.hardware}.",
        f"In brackets: {evaluation.confidence:.4g} bootstrap intervals over examples.",
        *([f"{evaluation.failed:,} examples could not be used."] if evaluation.failed else []),
        *evaluation.notes,
    ]
    return f"On {evaluation.dataset}:\n\n{table}\n" + " ".join(facts)


def _validation(record: Mapping[str, Any]) -> tuple[str, list[Measurement]]:
    """The validation numbers of a run as a table, before and after; and as measurements, after."""
    best, start = dict(record.get("best") or {}), record.get("start") or {}
    step = best.pop("step", None)
    names = [key for key, value in best.items() if isinstance(value, int | float)]
    if not names:
        return "", []
    about, command = record.get("validation") or {}, portable(record.get("command") or "")
    details = ", ".join(
        ["validation during training", *([f"{about['examples']:,} examples"] if about.get("examples") else [])]
    )
    dataset = f"{source_text(about.get('data') or record.get('data'))} ({details})"
    rows = [
        [label, *(f"{values[name]:g}" if name in values else " " for name in names)]
        for label, values in (("starting weights", start), (f"this model, step {step}", best))
        if values
    ]
    table = markdown_table(("", *map(headed, names)), rows)
    text = f"On {dataset}, the weights chosen by `{record.get('monitor')}`:\n\n{table}\n\nMeasured with `{command}`."
    return text, [Measurement(dataset, name, best[name], command=command) for name in names]


def _training(record: Mapping[str, Any], validation: str) -> str:
    planned, epochs, seconds = record.get("steps"), record.get("epochs"), record.get("seconds")
    steps = record.get("step", planned)
    length = [f"{steps:,} steps" if steps else "", f"{planned:,} were planned" if planned != steps else ""]
    length.append(f"{epochs:.4g} epochs" if epochs else "")
    versions = record.get("versions") or {}
    facts = markdown_table(
        ("", ""),
        [
            ("Data", source_text(record.get("data"))),
            ("Licence of the data", record.get("data_license") or ""),
            ("Length", ", ".join(filter(None, length))),
            ("Time", _duration(seconds) if seconds else ""),
            ("Hardware", record.get("hardware") or ""),
            ("Started", record.get("started") or ""),
            ("Software", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ],
    )
    arguments = markdown_table(
        ("argument", "value"),
        [
            (f"`{key}`", portable(value if isinstance(value, str) else json.dumps(value)))
            for key, value in ((record.get("config") or {}) | {"recipe": record.get("recipe")}).items()
            if value not in (None, [], {})
        ],
    )
    collapsed = f"<details>\n<summary>Training arguments</summary>\n\n{arguments}\n\n</details>" if arguments else ""
    return "\n\n".join(filter(None, [facts, validation, _console(portable(record.get("command") or "")), collapsed]))


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _limitations(
    predictor: Predictor, license: str, base: str, data: str, record: Mapping[str, Any], measured: bool
) -> list[str]:
    size = predictor.requirements.native
    found = [f"It inherits the limitations of {base}: see its card." if base else ""]
    how = "fine-tuned" if base else "trained"
    found += [f"It was {how} on {data}: what it does with data of other kinds is not known." if data else ""]
    found += ["No numbers were recorded for these weights." if not measured else ""]
    found += [f"It was made for {size}; other sizes are taken but were not measured." if size else ""]
    found += ["Its licence forbids commercial use." if forbids_commercial_use(license) else ""]
    status = record.get("status", "finished")
    found += [f"Its training was {status}, not brought to its end." if status != "finished" else ""]
    return [item for item in found if item]
