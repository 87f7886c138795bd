"""Fields to components. A field names its widget in ``Field.ui``, an import string; a plugin's field may name its own.

A widget is made for one field of one model's page. It asks for a value with one component, turns what that holds into what
``Field.read`` takes, and shows a value with some components.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from stzoo import errors, fields, media
from stzoo.console import explained
from stzoo.fields import Field
from stzoo.files import ARRAYS, VIDEOS
from stzoo.media.decoding import File, array_shape, decode_clip, opened_film, opened_picture
from stzoo.requirements import Requirements
from stzoo.spec import load_reference
from stzoo.ui.limits import Limits
from stzoo.ui.running import given_file
from stzoo.ui.sheets import clips, drawn
from stzoo.ui.web import gr

STRIP = 12
"""Frames of a clip that a strip shows."""
HEIGHT = 256
"""Pixels up to which small pictures are enlarged, by whole factors, where they are shown."""


def widget(field: Field, requirements: Requirements, limits: Limits) -> Widget:
    """The widget that a field names."""
    made: Widget = load_reference(field.ui)(field, requirements, limits)
    return made


class Widget:
    """Any field: a file is asked for, the preview is shown. Subclasses refine it."""

    looks = True
    """Whether what was asked for is shown again, as its component cannot show it."""
    takes_truth = False
    """Whether :meth:`show` takes a ``truth``, which it shows beside the value; else the page shows that by itself."""
    wanted = False
    """Whether a page asks for an optional output, where an option of its name does that."""
    lossless: tuple[str, ...] = (".npz", ".npy")
    """Endings, best first, of files that keep a value as it is."""

    def __init__(self, field: Field, requirements: Requirements, limits: Limits) -> None:
        self.field = field
        self.requirements = requirements
        self.limits = limits

    @property
    def title(self) -> str:
        """What it is called where it is shown."""
        return self.field.name.replace("_", " ").capitalize()

    @property
    def label(self) -> str:
        """What it is called where it is asked for."""
        return self.title + " (optional)" * self.field.optional

    @property
    def follows(self) -> str:
        """Name of the input that this one is shown or asked for with; empty if there is none."""
        return ""

    # --- asking ---

    def ask(self) -> Any:
        """The component that holds a value."""
        endings = list(self.field.reads)
        made = gr.File(
            label=self.label,  # the description too would cover where to drop a file
            file_types=endings or None,
            type="filepath",
            height=140,
        )
        return untouched(made)

    def read(self, value: Any) -> Any:
        """What ``Field.read`` takes, from what the component holds. Raises InputError, also for what is over a limit."""
        return self.field.read(given_file(value, self.field.name), self.requirements)

    def example(self, value: Any, folder: Path) -> Any:
        """What the component holds for a value (in the field's layout)."""
        return self.write(value, folder / f"{self.field.name}{self.exact}")

    def follow(self, value: Any, folder: Path) -> Any:
        """What its component becomes when the input it follows is another ``value`` (in that field's layout; None: nothing).

        Only asked where :attr:`looks` is false; else what is shown gets that value as ``before``.
        """
        return gr.skip()

    # --- showing ---

    def display(self, *, before: bool = False) -> list[Any]:
        """The components that show a value; ``before``: it is compared with an input of the same type, or follows one."""
        return [picture(self.title)]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        """What these components hold for a value (in the field's layout)."""
        return [enlarged(self.field.preview(value))]

    # --- files ---

    @property
    def exact(self) -> str:
        """Ending of files that keep every bit; if there are none, of the usual ones; empty for what is no file."""
        usual = self.field.suffixes[:1]
        return next((ending for ending in (*self.lossless, *usual) if ending in self.field.suffixes), "")

    def files(self, value: Any, folder: Path, stem: str, **options: Any) -> list[str]:
        """The value in every format its field writes; ``options`` go to its ``write``."""
        return [self.write(value, folder / f"{stem}{ending}", **options) for ending in self.field.suffixes]

    def write(self, value: Any, path: Path, **options: Any) -> str:
        """Write one file; returns its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.field.write(value, path, **options)
        return str(path)

    def refuse(self, frames: int, height: int, width: int) -> None:
        """Raise InputError if an input is over a limit."""
        most, pixels = self.limits["max_frames"], self.limits["max_pixels"]
        if frames > most:
            raise errors.InputError(
                f"{self.field.name}: {frames} frames or more, this demo takes {most}", "Give a shorter clip"
            )
        if frames * height * width > pixels * 1e6:
            raise errors.InputError(
                f"{self.field.name}: {frames * height * width / 1e6:.1f} million pixels, this demo takes {pixels:g}",
                "Give a smaller or shorter one",
            )


class PictureWidget(Widget):
    """What pictures and clips share: NumPy files, looked at before they are loaded."""

    def refuse_array(self, file: File) -> None:
        """Raise InputError if the array in a NumPy file is over a limit, or claims to be small and is not."""
        name = self.field.name
        shape = array_shape(file, name)
        colours = next((item for item in (shape[-3:-2] + shape[-1:]) if item in (1, 2, 3, 4)), 1)
        self.refuse(
            shape[0] if self.field.frames and shape else 1,
            math.prod(shape[1:] if self.field.frames else shape) // colours,
            1,
        )
        most = self.limits["max_pixels"] * 1e6 * 4 * 8  # four colours in the widest numbers
        size = file.path.stat().st_size
        if file.suffix == ".npz":
            with ZipFile(file.path) as archive:
                size = max(item.file_size for item in archive.infolist())
        if size > most + 65536:
            raise errors.InputError(f"{name}: {size / 1e6:.0f} MB of numbers", "Give a smaller or shorter one")


class ImageWidget(PictureWidget):
    """A picture; beside one like it, a slider between before and after."""

    looks = False

    def ask(self) -> Any:
        made = gr.Image(
            label=self.label,
            type="filepath",
            image_mode=None,
            format="png",
            elem_classes="stzoo-pixels",
            sources=["upload", "clipboard", "webcam"],
            height=320,
        )
        return untouched(made)

    def read(self, value: Any) -> Any:
        file = File(Path(given_file(value, self.field.name)))
        if file.suffix in ARRAYS:
            self.refuse_array(file)
        else:
            with opened_picture(file, self.field.name, "read as a picture") as image:
                self.refuse(1, image.height, image.width)
        return self.field.read(value, self.requirements)

    def example(self, value: Any, folder: Path) -> Any:
        return self.write(value, folder / f"{self.field.name}.png")

    def display(self, *, before: bool = False) -> list[Any]:
        if before:
            return [
                gr.ImageSlider(
                    label=f"{self.title}: before and after",
                    type="pil",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_classes="stzoo-pixels",
                )
            ]
        return super().display()

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        after = enlarged(self.field.preview(value))
        if before is None:
            return [after]
        return [(self.field.preview(before).convert(after.mode).resize(after.size, 0), after)]


class VideoWidget(PictureWidget):
    """A clip: frame by frame beside what was given and the truth, and a strip of its frames."""

    takes_truth = True

    def read(self, value: Any) -> Any:
        """No more is decoded than the limits allow, whatever a header promises."""
        file, name = File(Path(given_file(value, self.field.name))), self.field.name
        if file.suffix in ARRAYS:
            self.refuse_array(file)
            return self.field.read(value, self.requirements)
        if file.suffix == ".gif":
            with opened_picture(file, name, "decoded") as image:
                self.refuse(1, image.height, image.width)
        elif file.suffix in VIDEOS:
            with opened_film(file, name) as (_, stream):
                self.refuse(1, stream.height, stream.width)
        first = decode_clip(file, name, self.requirements.channels, 0, 1)  # headers may say anything
        self.refuse(1, *first.shape[-2:])
        room = int(self.limits["max_pixels"] * 1e6) // (first.shape[-2] * first.shape[-1])
        clip = media.read_video(
            value, name, self.requirements.channels, frames=min(self.limits["max_frames"], room) + 1
        )
        self.refuse(len(clip), *clip.shape[-2:])
        return self.field.read(clip, self.requirements)

    def display(self, *, before: bool = False) -> list[Any]:
        return [
            drawn(self.title, "stzoo-clips", "frames.js", "clips.js", css="clips.css"),
            picture(f"{self.title}: frames", "stzoo-strip", show_label=False, buttons=[]),  # they would hide frames
        ]

    def show(self, value: Any, folder: Path, before: Any = None, truth: Any = None) -> list[Any]:
        picks = np.unique(np.linspace(0, len(value) - 1, STRIP).round().astype(int))
        found = clips(value, folder / f"{self.field.name}-shown", before, truth)
        return [found, media.strip(value[picks])]


class TextWidget(Widget):
    """A plain value, as text."""

    looks = False

    def ask(self) -> Any:
        default = getattr(self.field, "default", None)
        value = "" if default is None else str(default)
        return untouched(gr.Textbox(value=value, label=self.label, info=self.about(), placeholder="default"))

    def about(self) -> str:
        try:
            return explained(self.field) if isinstance(self.field, fields.Value) else self.field.description
        except errors.SpecError:
            return self.field.description

    def read(self, value: Any) -> Any:
        """The checked value; nothing at all means the default."""
        value = getattr(self.field, "default", None) if value in (None, "") else value
        try:
            return self.field.read(value, self.requirements)
        except (ValueError, OverflowError, TypeError) as problem:
            if isinstance(problem, errors.StzooError):
                raise
            raise errors.InputError(f"{self.label}: {str(value)[:40]!r} {problem}") from None

    def example(self, value: Any, folder: Path) -> Any:
        return value

    def display(self, *, before: bool = False) -> list[Any]:
        return [gr.Textbox(label=self.title, info=self.field.description or None, interactive=False)]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        return [self.field.told(value)]

    def files(self, value: Any, folder: Path, stem: str, **options: Any) -> list[str]:
        return super().files(value, folder, stem, **options) if self.field.suffixes else []


class NumberWidget(TextWidget):
    """A number: a slider where its range is known and short."""

    def ask(self) -> Any:
        item: Any = self.field
        low, high = item.minimum, item.maximum
        common: dict[str, Any] = {"label": self.label, "info": self.about(), "value": item.default}
        bounded = math.isfinite(low) and math.isfinite(high)
        if bounded and item.default is not None and (not item.integer or high - low <= 200):
            return untouched(gr.Slider(low, high, step=1 if item.integer else (high - low) / 100, **common))
        if item.default is not None:
            return untouched(gr.Number(step=1 if item.integer else 0.1, **common))
        made = super().ask()  # a Number component shows 0 where there is no value
        made.api_info = lambda: {"type": "integer" if item.integer else "number", "description": self.about()}
        return made


class ChoiceWidget(TextWidget):
    """One of a few values."""

    def ask(self) -> Any:
        item: Any = self.field
        choices = [str(choice) for choice in item.choices]
        default = str(item.default) if item.default in item.choices else None
        common: dict[str, Any] = {"label": self.label, "info": self.about(), "value": default}
        shown = list(zip(item.words or choices, choices, strict=True))
        return untouched((gr.Radio if len(choices) <= 4 else gr.Dropdown)(shown, **common))


def picture(label: str, *classes: str, **options: Any) -> Any:
    """A component that shows a picture as it is. (Gradio's "share" button would upload it elsewhere.)"""
    return gr.Image(
        label=label,
        alt_text=label,
        format="png",
        interactive=False,
        elem_classes=["stzoo-pixels", *classes],
        **{"buttons": ["download", "fullscreen"], **options},
    )


def untouched(component: Any) -> Any:
    """The component, handing over what the browser sent as it is: the field checks it, with messages of its own.

    (Files are inside the upload folder: Gradio checks that before.)
    """
    component.preprocess = lambda payload: getattr(payload, "path", payload)
    return component


def factor(height: int) -> int:
    """How many times something of this height is enlarged to be seen."""
    return max(1, HEIGHT // max(1, height))


def enlarged(image: Any) -> Any:
    """A small picture, each pixel repeated."""
    scale = factor(image.height)
    return image if scale == 1 else image.resize((image.width * scale, image.height * scale), 0)
