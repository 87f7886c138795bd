"""Pictures of a run: predictions, and the curves of its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.files import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

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
