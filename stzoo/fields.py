"""Typed inputs, outputs, options and config values.

A field reads what people have (paths, PIL images, arrays, tensors) into one array layout, makes a deterministic sample,
previews and writes a value. Tasks are declared with fields, and everything generic goes through them, so a plugin may
bring a field of its own by subclassing :class:`Field`. No array library is imported when this module is.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import ConfigError, InputError, SpecError, StzooError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.spec import Requirements


IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v")
ARRAYS = (".npy", ".npz")


def suggestion(name: str, known: Sequence[str]) -> str:
    """``"Did you mean 'x'?"``, or what there is, for an unknown name."""
    import difflib

    lower = {item.lower(): item for item in known}
    close = [lower[item] for item in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if close:
        return "Did you mean " + " or ".join(repr(item) for item in close) + "?"
    shown = sorted(known)[:20]
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"Known: {', '.join(shown)}{more}" if known else "There are none"


@dataclass(frozen=True)
class Field:
    """A named, documented value. Subclasses say what it is."""

    name: str
    description: str = ""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """File endings :meth:`write` understands."""
    writing: ClassVar[tuple[Value, ...]] = ()
    """Options of :meth:`write`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Endings of the files :meth:`read` understands; none for a plain value."""
    frames: ClassVar[tuple[str, ...]] = ()
    """Endings of the files in a folder that is one value; none where a folder is no value."""
    features: ClassVar[tuple[str, ...]] = ()
    """What a column of such values is called in the library ``datasets``: ``"Image"``, ``"List(Image)"``."""
    loading: ClassVar[tuple[Value, ...]] = ()
    """Options of :meth:`read` and :meth:`starts` for data sets."""
    ui: ClassVar[str] = "stzoo.ui.components:Widget"
    """``"module:class"`` of how it is asked for and shown in a browser (:class:`stzoo.ui.components.Widget`)."""

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Any:
        """The value in this field's layout; raises InputError naming what is wrong and what is accepted.

        ``options`` are those declared in :attr:`loading`, and ``start`` if :meth:`starts` gave one.
        """
        raise InputError(f"{self.name}: {type(self).__name__} cannot be read")

    def starts(self, value: Any, **options: Any) -> Sequence[int] | None:
        """Where the examples start that a long value is cut into; None where ``options`` ask for no cutting.

        Headers are looked at, nothing is decoded.
        """
        return None

    def sample(self, requirements: Requirements) -> Any:
        """A deterministic value that fits ``requirements``: fingerprints and conformance checks run on it."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no sample()")

    def preview(self, value: Any) -> PILImage:
        """One picture that shows the value."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no preview()")

    def write(self, value: Any, path: Path, **options: Any) -> None:
        """Write the value in the format that ``path``'s ending names; raises MediaError."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no write()")


# --- plain values: options of a task, keys of a config ----------------------------------------------------------------


@dataclass(frozen=True)
class Value(Field):
    """A plain value with a default; ``parse`` checks it."""

    default: Any = None
    ui: ClassVar[str] = "stzoo.ui.components:TextWidget"

    def accepted(self) -> str:
        """What is accepted, in words that follow "must be"."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no accepted()")

    def parse(self, value: Any) -> Any:
        """The checked value; raises ValueError saying what is accepted. Text is converted, as it comes from a shell."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no parse()")

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Any:
        return self.parse(value)


@dataclass(frozen=True)
class Number(Value):
    """A number, whole where ``integer``, inside [minimum, maximum]."""

    minimum: float = -math.inf
    maximum: float = math.inf
    integer: bool = False
    ui: ClassVar[str] = "stzoo.ui.components:NumberWidget"

    def accepted(self) -> str:
        kind = "a whole number" if self.integer else "a number"
        low, high = self.minimum > -math.inf, self.maximum < math.inf
        if low and high:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        return kind + (f" of at least {self.minimum:g}" if low else f" of at most {self.maximum:g}" if high else "")

    def parse(self, value: Any) -> Any:
        if value is None and self.default is None:
            return None
        if isinstance(value, str):
            try:
                value = int(value) if self.integer else float(value)
            except ValueError:
                raise ValueError(f"must be {self.accepted()}") from None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (self.integer and value != int(value)):
            raise ValueError(f"must be {self.accepted()}")
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"must be {self.accepted()}")
        return int(value) if self.integer else float(value)


@dataclass(frozen=True)
class Choice(Value):
    """One of a few values."""

    choices: tuple[Any, ...] = ()
    ui: ClassVar[str] = "stzoo.ui.components:ChoiceWidget"

    def accepted(self) -> str:
        return "one of " + ", ".join(repr(choice) for choice in self.choices)

    def parse(self, value: Any) -> Any:
        for choice in self.choices:
            if value == choice or (isinstance(value, str) and value.lower() == str(choice).lower()):
                return choice
        raise ValueError(f"must be {self.accepted()}")


@dataclass(frozen=True)
class Shape(Value):
    """A fixed number of positive whole numbers, such as (frames, channels, height, width)."""

    axes: tuple[str, ...] = ()

    def accepted(self) -> str:
        return f"{len(self.axes)} positive whole numbers ({', '.join(self.axes)})"

    def parse(self, value: Any) -> Any:
        if isinstance(value, str):
            value = [int(part) if part.strip().isdigit() else part for part in value.strip("()[] ").split(",")]
        whole = isinstance(value, (tuple, list)) and all(type(item) is int and item > 0 for item in value)
        if not whole or len(value) != len(self.axes):
            raise ValueError(f"must be {self.accepted()}")
        return tuple(value)


@dataclass(frozen=True)
class Size(Value):
    """Height and width in pixels; one number means a square."""

    def accepted(self) -> str:
        return "HEIGHTxWIDTH in pixels, or one number for both"

    def parse(self, value: Any) -> tuple[int, int] | None:
        if value is None and self.default is None:
            return None
        parts = value.lower().split("x") if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        if len(parts) > 2 or not all(str(part).isdigit() and int(part) > 0 for part in parts):
            raise ValueError(f"must be {self.accepted()}")
        return int(parts[0]), int(parts[-1])


def as_value(name: str, default: Any) -> Value:
    """The field that accepts what a plain default stands for."""
    if isinstance(default, Value):
        return default
    if isinstance(default, bool):
        return Choice(name, default=default, choices=(True, False))
    if isinstance(default, (int, float)):
        return Number(name, default=default, integer=isinstance(default, int))
    return _Same(name, default=default)


@dataclass(frozen=True)
class _Same(Value):
    """Anything of the same type as the default."""

    def accepted(self) -> str:
        return "anything" if self.default is None else f"of type {type(self.default).__name__}"

    def parse(self, value: Any) -> Any:
        if isinstance(value, str) and not isinstance(self.default, str):
            with contextlib.suppress(ValueError):  # other text is accepted only where the default is None
                value = json.loads(value)
        if isinstance(self.default, tuple) and isinstance(value, list):
            value = tuple(value)
        if self.default is not None and not isinstance(value, type(self.default)):
            raise ValueError(f"must be {self.accepted()}")
        return value


def complete_values(
    declared: Mapping[str, Any], given: Mapping[str, Any], owner: str, error: type[StzooError] = ConfigError
) -> dict[str, Any]:
    """``given`` checked against ``declared`` defaults (plain values or fields), with the missing ones filled in."""
    if not isinstance(given, Mapping):
        raise error(f"{owner}: the config is a {type(given).__name__}, not a mapping of keys to values")
    for key in given:
        if key not in declared:
            raise error(f"{owner} has no {key!r}", suggestion(str(key), list(declared)))
    values = {}
    for key, default in declared.items():
        value = as_value(key, default)
        try:
            values[key] = value.parse(given[key]) if key in given else value.default
        except ValueError as problem:
            raise error(f"{owner}: {key}={given[key]!r} {problem}", f"The default is {value.default!r}") from None
    return values


# --- pictures ---------------------------------------------------------------------------------------------------------

_RESIZE = Size("size", "Resize pictures to this height and width")


@dataclass(frozen=True)
class Image(Field):
    """A picture: float32 array (C, H, W), values in [0, 1]."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".npy", ".npz")
    reads: ClassVar[tuple[str, ...]] = (*IMAGES, *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Image",)
    loading: ClassVar[tuple[Value, ...]] = (_RESIZE,)
    ui: ClassVar[str] = "stzoo.ui.components:ImageWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        from stzoo import media

        image = media.read_image(value, self.name, requirements.channels, size=options.get("size"))
        media.check_size(image, self.name, requirements)
        return image

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo import media

        frame: np.ndarray = media.sample_clip(1, requirements)[0]
        return frame

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo import media

        return media.to_pil(value)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo import media

        media.write_image(value, path, **options)


@dataclass(frozen=True)
class Video(Field):
    """A clip: float32 array (T, C, H, W), values in [0, 1]. A longer clip is cut to the last frames a network takes."""

    suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".gif", ".png", ".npy", ".npz")
    writing: ClassVar[tuple[Value, ...]] = (
        Number("fps", "Frames per second of a written mp4 or gif", default=10, minimum=0.1, maximum=1000),
        Number(
            "scale", "How many times a written mp4 or gif is enlarged", default=1, minimum=1, maximum=64, integer=True
        ),
    )
    reads: ClassVar[tuple[str, ...]] = (*VIDEOS, ".gif", *ARRAYS)
    frames: ClassVar[tuple[str, ...]] = IMAGES
    features: ClassVar[tuple[str, ...]] = ("Video", "List(Image)")
    loading: ClassVar[tuple[Value, ...]] = (
        Number("frames", "Cut a longer clip into examples of this many frames", minimum=1, integer=True),
        Number("stride", "Frames from the start of one such example to the next; else frames", minimum=1, integer=True),
        _RESIZE,
    )
    ui: ClassVar[str] = "stzoo.ui.components:VideoWidget"

    def starts(self, value: Any, **options: Any) -> Sequence[int] | None:
        from stzoo import media

        if not (frames := options.get("frames")):
            return None
        last = media.count_frames(value, self.name) - frames
        return range(0, max(last, 0) + 1, options.get("stride") or frames)

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        from stzoo import media

        part = {key: options[key] for key in ("start", "frames", "size") if key in options}
        clip = media.read_video(value, self.name, requirements.channels, **part)
        wanted = requirements.frames_in or 1
        if len(clip) < wanted:
            raise InputError(f"{self.name}: {len(clip)} frames, the model needs {wanted}", "Give a longer clip")
        clip = clip[len(clip) - wanted :] if requirements.frames_in else clip
        media.check_size(clip, self.name, requirements)
        return clip

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo import media

        return media.sample_clip(requirements.frames_in or 4, requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo import media

        return media.strip(value)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo import media

        media.write_video(value, path, **options)
