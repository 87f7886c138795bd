"""Frames as a browser gets them: side by side in one picture file, so that one request brings a whole clip."""

from __future__ import annotations

import hashlib
import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from stzoo import media
from stzoo.media.colours import coloured
from stzoo.ui.web import gr

LOSSLESS = 2**20
"""Pixels up to which pictures are sent as they are; larger ones, which are only looked at, as JPEG."""

FRAMES = 2**22
"""Pixels of all frames of a clip that are sent to be looked at; of larger ones some frames, and if need be some pixels."""
FEW = 48
"""Frames of which none is left out for that."""


@cache
def asset(*names: str) -> str:
    """Files of this package's folder ``assets``, one after the other."""
    return "\n".join((Path(__file__).parent / "assets" / name).read_text("utf-8") for name in names)


def drawn(label: str, style: str, *scripts: str, css: str = "masks.css", **options: Any) -> Any:
    """A component that our own scripts draw, inside an element of the class ``style``.

    The template holds no value, and the scripts make text of text: nothing that somebody wrote becomes markup.
    """
    return gr.HTML(
        label=label,
        show_label=True,
        container=True,
        html_template=f'<div class="{style}"></div>',
        css_template=asset(css),
        js_on_load=asset(*scripts),
        apply_default_css=False,
        **options,
    )


def pictures(value: Any) -> np.ndarray | None:
    """The frames of a picture (C, H, W) or a clip (T, C, H, W), values in [0, 1], as uint8 (T, H, W, 3); None if it is neither."""
    if getattr(value, "ndim", 0) not in (3, 4):
        return None
    return _shown(value if value.ndim == 4 else value[None])


def _shown(clip: np.ndarray) -> np.ndarray:
    clip = media.to_uint8(clip)
    if clip.shape[1] == 1:
        clip = np.repeat(clip, 3, axis=1)
    elif clip.shape[1] == 2:
        clip = np.pad(clip, [(0, 0), (0, 1), (0, 0), (0, 0)])
    frames: np.ndarray = clip[:, :3].transpose(0, 2, 3, 1)
    return frames


def sheet(frames: np.ndarray, stem: Path, *, exact: bool = False) -> dict[str, Any]:
    """Frames, uint8 (T, H, W) or (T, H, W, 3), in one file as near to a square as may be; what the scripts need to know of it."""
    from gradio.data_classes import FileData
    from PIL import Image

    count, height, width = frames.shape[:3]
    columns = min(count, max(1, math.ceil(math.sqrt(count * height / width))))
    grid = np.zeros((math.ceil(count / columns) * height, columns * width, *frames.shape[3:]), np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // columns * height, index % columns * width
        grid[top : top + height, left : left + width] = frame
    path = stem.with_suffix(".png" if exact or count * height * width <= LOSSLESS else ".jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path, compress_level=3, quality=90)  # each format takes its own
    return {
        "file": FileData(path=str(path)).model_dump(),
        "width": width,
        "height": height,
        "count": count,
        "columns": columns,
        "id": hashlib.sha256(path.read_bytes()).hexdigest()[:16],
    }


def clips(
    value: np.ndarray, stem: Path, given: np.ndarray | None = None, truth: np.ndarray | None = None
) -> dict[str, Any]:
    """What ``assets/clips.js`` shows of a clip (T, C, H, W), values in [0, 1]: beside it as many frames, the last ones, of the
    clip that was given, and with a ``truth`` of the same shape that and the absolute error, averaged over the channels."""
    count, height, width = len(value), *value.shape[-2:]
    step = 1
    while min(count, FEW) * -(-height // step) * -(-width // step) > FRAMES:
        step += 1
    room = max(FEW, FRAMES // (-(-height // step) * -(-width // step)))
    picks = np.unique(np.linspace(0, count - 1, min(count, room)).round().astype(int))

    def panel(label: str, name: str, clip: np.ndarray, start: int = 0, colour: Any = _shown) -> dict[str, Any]:
        own = np.unique(np.minimum(picks + start, len(clip) - 1))
        made = sheet(colour(clip[own, ..., ::step, ::step]), stem.with_name(f"{stem.name}-{name}"), exact=True)
        return {"label": label, "numbers": (own + 1).tolist(), "of": len(clip), "sheet": made}

    panels = []
    if given is not None:
        panels.append(panel("given", "given", given, max(0, len(given) - count)))
    panels.append(panel("" if given is None and truth is None else "prediction", "clip", value))
    if truth is not None:
        error = np.abs(np.asarray(value, np.float32) - truth).mean(axis=1)
        most = float(error.max()) or 1.0
        panels.append(panel("truth", "truth", truth))
        panels.append(
            panel(f"absolute error, up to {most:.2g}", "error", error / most, colour=partial(coloured, name="magma"))
        )
    return {"panels": panels, "fps": max(2, min(10, count / 2)), "thinned": step > 1 or len(picks) < count}
