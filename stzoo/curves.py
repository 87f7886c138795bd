"""Curves as pictures, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stzoo.files import atomic_path


def draw_curves(entries: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """The losses and evaluations of a run over its steps; False without matplotlib."""
    losses = [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
    evaluations = [(entry["step"], entry["evaluation"]) for entry in entries if "evaluation" in entry]
    names = list(evaluations[0][1]) if evaluations else []
    if (made := panels(1 + len(names))) is None:
        return False
    figure, axes = made
    figure.set_layout_engine(None)  # it takes as long as drawing
    width, height = figure.get_size_inches()
    margins = {"left": 0.75 / width, "right": 1 - 0.15 / width, "bottom": 0.5 / height, "top": 1 - 0.3 / height}
    figure.subplots_adjust(**margins, wspace=0.32, hspace=0.6)
    axes[0].plot([step for step, _ in losses], [loss for _, loss in losses])
    axes[0].set_title("training loss")
    for axis, name in zip(axes[1:], names, strict=True):
        axis.plot([step for step, _ in evaluations], [found[name] for _, found in evaluations], marker="o")
        axis.set_title(f"validation {name}")
    for axis in axes:
        axis.set_xlabel("step")
    save(figure, path)
    return True


def panels(count: int) -> tuple[Any, list[Any]] | None:
    """A figure and so many axes in rows of four; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        axis.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
