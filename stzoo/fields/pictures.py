"""Pictures and clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError
from stzoo.fields.base import Field, Value
from stzoo.fields.values import Choice, Number, Size
from stzoo.files import ARRAYS, IMAGES, VIDEOS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

RESIZE = Size("size", "Resize pictures to this height and width")


@dataclass(frozen=True)
class Image(Field):
    """A picture: float32 array (C, H, W), values in [0, 1]."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".npy", ".npz")
    writing: ClassVar[tuple[Value, ...]] = (
        Choice("bits", "Bits for each colour of a written png", default=8, choices=(8, 16)),
    )
    reads: ClassVar[tuple[str, ...]] = (*IMAGES, *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Image",)
    loading: ClassVar[tuple[Value, ...]] = (RESIZE,)
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

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """The absolute difference, mean over the channels, in colours, dark for none; None where the shapes are not the same."""
        from stzoo.media import colours

        return colours.heat(abs(value - truth).mean(0)) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo import media

        media.write_image(value, path, **options)


class Clip(Field):
    """Frames, which come first in its arrays. A longer clip is cut to the last frames a network takes."""

    loading: ClassVar[tuple[Value, ...]] = (
        Number("frames", "Cut a longer clip into examples of this many frames", minimum=1, integer=True),
        Number("stride", "Frames from the start of one such example to the next; else frames", minimum=1, integer=True),
        RESIZE,
    )

    def count(self, value: Any) -> int:
        """How many frames a value has, from headers: nothing is decoded where the format tells."""
        raise NotImplementedError

    def part(self, value: Any, requirements: Requirements, **part: Any) -> np.ndarray:
        """The ``frames`` from ``start`` on, (T, ..., H, W), resized to ``size``; all of it without these."""
        raise NotImplementedError

    def starts(self, value: Any, **options: Any) -> Sequence[int] | None:
        if not (frames := options.get("frames")):
            return None
        return range(0, max(self.count(value) - frames, 0) + 1, options.get("stride") or frames)

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        from stzoo import media

        part = {key: options[key] for key in ("start", "frames", "size") if key in options}
        clip = self.part(value, requirements, **part)
        wanted = requirements.frames_in or 1
        if len(clip) < wanted:
            raise InputError(f"{self.name}: {len(clip)} frames, the model needs {wanted}", "Give a longer clip")
        clip = clip[len(clip) - wanted :] if requirements.frames_in else clip
        media.check_size(clip, self.name, requirements)
        return clip


@dataclass(frozen=True)
class Video(Clip):
    """A clip: float32 array (T, C, H, W), values in [0, 1]."""

    suffixes: ClassVar[tuple[str, ...]] = (".mp4", ".gif", ".png", ".npy", ".npz")
    streamed: ClassVar[tuple[str, ...]] = (".mp4",)
    writing: ClassVar[tuple[Value, ...]] = (
        Number("fps", "Frames per second of a written mp4 or gif", default=10, minimum=0.1, maximum=1000),
        Number(
            "scale", "How many times a written mp4 or gif is enlarged", default=1, minimum=1, maximum=64, integer=True
        ),
    )
    reads: ClassVar[tuple[str, ...]] = (*VIDEOS, ".gif", *ARRAYS)
    frames: ClassVar[tuple[str, ...]] = IMAGES
    features: ClassVar[tuple[str, ...]] = ("Video", "List(Image)")
    ui: ClassVar[str] = "stzoo.ui.components:VideoWidget"

    def count(self, value: Any) -> int:
        from stzoo import media

        return media.count_frames(value, self.name)

    def part(self, value: Any, requirements: Requirements, **part: Any) -> np.ndarray:
        from stzoo import media

        return media.read_video(value, self.name, requirements.channels, **part)

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo import media

        return media.sample_clip(requirements.frames_in or 4, requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo import media

        return media.strip(value)

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """The absolute difference; None where the shapes are not the same."""
        return self.preview(abs(value - truth)) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo import media

        media.write_video(value, path, **options)
