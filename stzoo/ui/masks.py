"""Masks in a browser: laid over the pictures they belong to, with a legend whose classes are switched on and off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stzoo.files import ARRAYS
from stzoo.media import masks
from stzoo.media.decoding import File, opened_picture
from stzoo.ui.components import PictureWidget
from stzoo.ui.running import given_file
from stzoo.ui.sheets import drawn, pictures, sheet


class MaskWidget(PictureWidget):
    """A mask, or one for each frame."""

    @property
    def follows(self) -> str:
        return str(getattr(self.field, "over", ""))

    def read(self, value: Any) -> Any:
        file = File(Path(given_file(value, self.field.name)))
        if file.suffix in ARRAYS:
            self.refuse_array(file)
        else:
            self.refuse_picture(file)
        return self.field.read(value, self.requirements)

    def refuse_picture(self, file: File) -> None:
        """Raise InputError if a file that is no array is over a limit; only headers are read."""
        with opened_picture(file, self.field.name, "decoded as a mask") as image:
            self.refuse(1, image.height, image.width)

    def display(self, *, before: bool = False) -> list[Any]:
        return [drawn(self.title, "stzoo-overlay", "frames.js", "overlay.js")]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        frames = np.asarray(value, np.uint8).reshape(-1, *value.shape[-2:])
        shown = None if before is None else pictures(before)
        stem = folder / f"{self.field.name}-shown"
        return [
            {
                "masks": sheet(frames, stem, exact=True),
                "picture": None if shown is None else sheet(shown, stem.with_name(f"{stem.name}-below")),
                "classes": self.legend(frames),
            }
        ]

    def legend(self, frames: np.ndarray) -> list[dict[str, Any]]:
        """The numbers in masks, with name, colour (three numbers to 255), share of the pixels, and whether it is off at first."""
        names, table = self.requirements.classes, masks.colours()
        counts = np.bincount(frames.ravel(), minlength=256)
        entries = []
        for number in np.flatnonzero(counts).tolist():
            name = names[number] if number < len(names) else f"class {number}" if names else f"object {number}"
            if number == masks.IGNORE:
                name = "ignored"
            elif number == 0 and not names:
                name = "background"
            hidden = name in ("background", "ignored")
            share = counts[number] / frames.size
            entries.append(
                {"number": number, "name": name, "colour": table[number].tolist(), "share": share, "hidden": hidden}
            )
        return entries


class VideoMaskWidget(MaskWidget):
    """A mask for each frame of a clip."""

    def refuse_picture(self, file: File) -> None:
        entries = masks.zip_entries(file, self.field.name)
        self.refuse(len(entries), 1, 1)
        self.refuse(1, sum(item.file_size for item in entries), 1)
        first = next(masks.zip_pictures(file, self.field.name, 0, 1))
        with opened_picture(File(Path(first["path"]), first["bytes"]), self.field.name, "decoded as a mask") as image:
            self.refuse(len(entries), image.height, image.width)
