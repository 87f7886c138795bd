"""Pictures of a run: predictions, and the curves of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.files import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.evaluation import Evaluation
    from stzoo.predictor import Predictor


def draw_predictions(
    predictor: Predictor, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any], path: Path
) -> PILImage | None:
    """Inputs, truth, prediction and error of some examples, one below the other; None if there are none to draw."""
    from PIL import Image

    figures = []
    for row in rows:
        inputs, truth = predictor.pipeline.example(row, options)
        items = [tuple(inputs.get(item.name) for item in predictor.task.inputs)]
        figures += [item.figure(truth) for item in predictor.predict_batch(items, **options)]
    if not figures:
        return None
    width, height = max(item.width for item in figures), sum(item.height for item in figures)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for item in figures:
        sheet.paste(item, (0, top))
        top += item.height
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    return sheet


def draw_curves(entries: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """The losses and evaluations of a run over its steps; False without matplotlib."""
    losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    evaluations = [(entry["step"], entry["evaluation"]) for entry in entries if "evaluation" in entry]
    names = list(evaluations[0][1]) if evaluations else []
    if (panels := _panels(1 + len(names))) is None:
        return False
    figure, axes = panels
    axes[0].plot([step for step, _ in losses], [loss for _, loss in losses])
    axes[0].set_title("training loss")
    for axis, name in zip(axes[1:], names, strict=True):
        axis.plot([step for step, _ in evaluations], [found[name] for _, found in evaluations], marker="o")
        axis.set_title(f"validation {name}")
    for axis in axes:
        axis.set_xlabel("step")
    _save(figure, path)
    return True


def draw_metric_curves(evaluation: Evaluation, path: Path) -> bool:
    """Each metric that has a curve, of models and (dashed) baselines; False if there is none, or no matplotlib."""
    names = [name for name in evaluation.axes if any(model.metrics[name].curve for model in evaluation.models)]
    if not names or (panels := _panels(len(names))) is None:
        return False
    figure, axes = panels
    for axis, name in zip(axes, names, strict=True):
        named, count = (
            bool(evaluation.places.get(name)),
            max(len(model.metrics[name].curve) for model in evaluation.models),
        )
        for model in evaluation.models:
            curve = model.metrics[name].curve
            style = "None" if named else "--" if model.baseline else "-"
            axis.plot(range(1, len(curve) + 1), curve, linestyle=style, marker=".", label=model.name)
        axis.set_title(f"{name} ({evaluation.better[name]} is better)", fontsize="small")
        axis.set_xlabel(evaluation.axes[name])
        if named:
            axis.set_xticks(
                range(1, count + 1), evaluation.labels(name, count), rotation=60, ha="right", fontsize="x-small"
            )
    axes[0].legend(fontsize="small")
    _save(figure, path)
    return True


def _panels(count: int) -> tuple[Any, list[Any]] | None:
    """A figure and so many axes in rows of four; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
