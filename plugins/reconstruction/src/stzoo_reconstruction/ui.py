"""The fields of the plugin in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.ui.components import Widget, enlarged
from stzoo.ui.scenes import SceneWidget
from stzoo.ui.web import gr

WRITTEN = (".ply", ".spz", ".splat")
"""Formats in which a page offers a scene; every viewer reads one of them."""


class CameraWidget(Widget):
    """Cameras: a file of them. What is left out is asked for by the options."""

    def read(self, value: Any) -> Any:
        found = super().read(value)
        height, width = found.sizes.max(0)
        self.refuse(len(found), int(height), int(width))
        return found


class ViewsWidget(Widget):
    """Photographs: one zip file, or all files of a capture at once."""

    def ask(self) -> Any:
        made = gr.File(
            label=f"{self.label}: a zip file, or pictures with their transforms.json",
            file_count="multiple",
            type="filepath",
            height=140,
        )
        made.preprocess = lambda payload: [
            getattr(item, "path", item) for item in getattr(payload, "root", payload) or ()
        ]
        return made

    def read(self, value: Any) -> Any:
        """Photographs are counted, and the sizes that their headers say, before any is decoded."""
        if isinstance(value, str):
            value = [value]
        if not value:
            raise errors.InputError(f"{self.field.name}: no photographs are given", "Give files, or choose an example")
        found = self.field.read([str(item) for item in value], self.requirements)
        most = self.limits["max_frames"]
        if len(found) > most:
            raise errors.InputError(
                f"{self.field.name}: {len(found)} photographs, this demo takes {most}", "Give fewer"
            )
        if found.posed:
            pixels = float(found.cameras.sizes.prod(1).sum())
            if pixels > self.limits["max_pixels"] * 1e6 * 10:  # they are read one by one, and reduced
                raise errors.InputError(
                    f"{self.field.name}: {pixels / 1e6:.0f} million pixels, this demo takes {self.limits['max_pixels'] * 10:g}",
                    "Give smaller ones",
                )
        return found

    def example(self, value: Any, folder: Path) -> Any:
        return [self.write(value, folder / f"{self.field.name}.zip")]

    def display(self, *, before: bool = False) -> list[Any]:
        return [*super().display(), gr.Markdown()]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        notes = getattr(value, "notes", ())
        said = ". ".join([f"{len(value)} photographs" + " without cameras" * (not value.posed), *notes])
        return [enlarged(self.field.preview(value)), said] if value.posed else [None, said]


class SplatsWidget(SceneWidget):
    """A scene to turn about, and in the formats that viewers take."""

    def files(self, value: Any, folder: Path, stem: str, **options: Any) -> list[str]:
        return [self.write(value, folder / f"{stem}{ending}", **options) for ending in WRITTEN]
