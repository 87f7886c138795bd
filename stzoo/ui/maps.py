"""Depth and other maps in a browser: their very numbers are sent, so that colours, range and the value under the cursor are
made there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stzoo.files import ARRAYS
from stzoo.media import depths
from stzoo.media.colours import MAPS, spread
from stzoo.media.decoding import File
from stzoo.ui.components import PictureWidget
from stzoo.ui.running import given_file
from stzoo.ui.sheets import drawn

PIXELS = 2**21
"""Pixels of a map that are sent to be looked at; of larger ones every second, third … row and column."""


class MapWidget(PictureWidget):
    """A number for every pixel in colours, with a scale, and the value under the cursor."""

    def display(self, *, before: bool = False) -> list[Any]:
        return [drawn(self.title, "stzoo-depth", "frames.js", "depth.js", css="plots.css", maps=MAPS)]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        from gradio.data_classes import FileData

        step = 1
        while -(-value.shape[0] // step) * -(-value.shape[1] // step) > PIXELS:
            step += 1
        sent = np.ascontiguousarray(value[::step, ::step], "<f4")
        path = folder / f"{self.field.name}-shown.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sent.tobytes())
        low, high = spread(value)
        unit = getattr(self.field, "unit", "relative")
        return [
            {
                "file": FileData(path=str(path)).model_dump(),
                "height": sent.shape[0],
                "width": sent.shape[1],
                "step": step,
                "unit": {"disparity": "px", "relative": ""}.get(unit, unit),
                "low": low,
                "high": high,
                "unknown": float(np.isnan(value).mean()),
            }
        ]


class DepthWidget(MapWidget):
    """A depth map, which may also be given."""

    def read(self, value: Any) -> Any:
        file = File(Path(given_file(value, self.field.name)))
        if file.suffix in ARRAYS:
            self.refuse_array(file)
        else:
            self.refuse(1, *depths.shape_of(file, self.field.name))
        return self.field.read(value, self.requirements)
