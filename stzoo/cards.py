"""Model cards, rendered from the registry and recorded results.

``python -m stzoo.cards FOLDER`` writes them all, and the catalogue of known models.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stzoo.registry import catalogue, registry
from stzoo.spec import Architecture, Measurement, Model, Task


def _front_matter(**data: Any) -> str:
    from huggingface_hub import ModelCardData

    given = {key: value for key, value in data.items() if value}
    return f"---\n{ModelCardData(library_name='stzoo', **given).to_yaml()}\n---\n"


def model_card(model: Model) -> str:
    """The card of a zoo model, as Markdown with the Hub's front matter."""
    architecture = registry().architecture_of(model)
    task = registry().get(Task, model.task)
    measured = [item for item in model.metrics if item.source == "measured"]
    header = _front_matter(
        license=model.license,
        pipeline_tag=task.pipeline_tag,
        datasets=[model.trained_on] if "/" in model.trained_on else None,
        metrics=sorted({item.metric for item in measured}),
        base_model=model.base_model,
        tags=["stzoo", task.name, architecture.name, *model.tags],
        **_eval_results(model, task, measured),
    )
    parts = [header, f"# {model.name}\n", f"{model.description}\n"]
    parts.append(_facts(model, architecture, task))
    parts.append(
        f'## Use it\n\n```python\nimport stzoo\n\npredictor = stzoo.load("{model.name}")\nprediction = predictor.predict("{_example(task)}")\nprediction.save("{task.outputs[0].name}.png")\n```\n'
    )
    if model.metrics:
        parts.append("## Results\n\n" + _results(model.metrics))
    if model.card:
        parts.append(model.card.strip() + "\n")
    if model.command:
        commands = "\n".join(f"$ {line}" for line in model.command.splitlines())
        parts.append(f"## Training\n\n```console\n{commands}\n```\n")
    return "\n".join(parts)


def _eval_results(model: Model, task: Task, measured: Sequence[Measurement]) -> dict[str, Any]:
    """The Hub's model-index, from the measured numbers alone."""
    from huggingface_hub import EvalResult

    if not measured:
        return {}
    results = [
        EvalResult(
            task_type=task.pipeline_tag or task.name,
            task_name=task.name,
            dataset_type=item.dataset,
            dataset_name=item.dataset,
            metric_type=item.metric,
            metric_value=item.value,
            metric_name=item.metric.upper(),
        )
        for item in measured
    ]
    return {"model_name": model.name, "eval_results": results}


def _example(task: Task) -> str:
    return {"Video": "clip.mp4", "Image": "picture.png"}.get(type(task.inputs[0]).__name__, "input.npz")


def _facts(model: Model, architecture: Architecture, task: Task) -> str:
    needs = model.requirements
    rows = [
        ("Task", f"`{task.name}`: {task.description}"),
        ("Architecture", f"`{architecture.name}` ({architecture.description})"),
        ("Paper", model.paper or architecture.paper),
        ("Trained on", model.trained_on),
        (
            "Licence",
            f"weights {model.license}"
            + (" (**no commercial use**)" if model.non_commercial else "")
            + f", code {model.code_license}",
        ),
        ("Parameters", f"{model.parameters:,}" if model.parameters else ""),
        ("Multiply-adds", f"{model.flops / 1e9:.3g} G per forward pass" if model.flops else ""),
        (
            "File",
            f"{model.weights.size / 1e6:.1f} MB, {model.weights.dtype}, sha256 `{model.weights.sha256}`"
            if model.weights and model.weights.size
            else "",
        ),
        ("Input", needs.describe() if needs else ""),
        ("Config", ", ".join(f"`{key}={value!r}`" for key, value in model.config.items())),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows if value)


def _results(metrics: Sequence[Measurement]) -> str:
    """One table per data set: a row for each source, a column for each metric; then the commands."""
    text = ""
    for dataset in dict.fromkeys(item.dataset for item in metrics):
        items = [item for item in metrics if item.dataset == dataset]
        names = list(dict.fromkeys(item.metric for item in items))
        text += (
            f"On {dataset}:\n\n| | "
            + " | ".join(name.upper() for name in names)
            + " |\n"
            + "|---" * (len(names) + 1)
            + "|\n"
        )
        rows: dict[tuple[str, str], dict[str, float]] = {}
        for item in items:
            rows.setdefault((item.source, item.note), {})[item.metric] = item.value
        for (source, note), values in rows.items():
            label = {"measured": "this model, measured", "baseline": "baseline", "published": "published"}[source] + (
                f": {note}" if note else ""
            )
            text += (
                f"| {label} | " + " | ".join(f"{values[name]:g}" if name in values else "" for name in names) + " |\n"
            )
        commands = dict.fromkeys(item.command for item in items if item.command)
        text += "".join(f"\nMeasured with `{command}`.\n" for command in commands) + "\n"
    return text


def folder_card(entry: Mapping[str, Any]) -> str:
    """The card of a folder written by ``Predictor.save``, from its config entry."""
    header = _front_matter(
        license=entry.get("license"),
        base_model=entry.get("base_model"),
        tags=["stzoo", entry["task"], entry["architecture"]],
    )
    lines = [
        header,
        f"# {entry['name']}\n",
        f"A `{entry['architecture']}` model for `{entry['task']}`, saved with [stzoo](https://huggingface.co/stzoo).\n",
    ]
    lines.append('## Use it\n\n```python\nimport stzoo\n\npredictor = stzoo.load("this folder or repo id")\n```\n')
    lines.append("## Config\n\n" + "".join(f"- `{key}`: `{value!r}`\n" for key, value in entry["config"].items()))
    return "\n".join(lines)


def write_cards(folder: Path) -> list[Path]:
    """Write ``<model>.md`` for every model of the known plugins that are installed; returns the paths."""
    from stzoo.files import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for model in registry().models():
        if model.plugin in catalogue():
            paths.append(folder / f"{model.name}.md")
            write_atomically(paths[-1], model_card(model).encode())
    return paths


def current_catalogue() -> str:
    """``catalogue.json`` with the models that the installed plugins bring now."""
    plugins = {
        name: entry
        | {
            "models": [
                {key: getattr(model, key) for key in ("name", "task", "description", "license")}
                for model in registry().models(plugin=name)
            ]
        }
        for name, entry in catalogue().items()
    }
    return json.dumps({"plugins": plugins}, indent=2) + "\n"


if __name__ == "__main__":
    for written in write_cards(Path(sys.argv[1] if len(sys.argv) > 1 else "model_cards")):
        print(written)
    (Path(__file__).parent / "catalogue.json").write_text(current_catalogue())
