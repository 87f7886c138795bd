"""Masks: which class or object each pixel belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.fields.base import Field, Value
from stzoo.fields.pictures import RESIZE, Clip
from stzoo.files import ARRAYS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

_PICTURES = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Mask(Field):
    """The class or object of each pixel: uint8 array (H, W); 255 means ignore.

    Names of classes are the model's (``Requirements.classes``); where it has some, other numbers are refused.
    """

    over: str = ""
    """Name of the input whose pixels these are: a browser lays the mask over it."""
    suffixes: ClassVar[tuple[str, ...]] = (".png", *ARRAYS)
    reads: ClassVar[tuple[str, ...]] = (*_PICTURES, *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Image",)
    loading: ClassVar[tuple[Value, ...]] = (RESIZE,)
    ui: ClassVar[str] = "stzoo.ui.masks:MaskWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        from stzoo import media
        from stzoo.media import masks

        mask = masks.read_mask(value, self.name, len(requirements.classes), size=options.get("size"))
        media.check_size(mask, self.name, requirements)
        return mask

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo.media import masks

        mask: np.ndarray = masks.sample_masks(1, requirements)[0]
        return mask

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo.media import masks

        return masks.indexed(value).convert("RGB")

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """Pixels with another number than the truth's in red, ignored ones in grey; None where the shapes are not the same."""
        from stzoo.media import masks

        return masks.disagreement(value, truth) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo.media import masks

        masks.write_mask(value, path)


@dataclass(frozen=True)
class VideoMask(Clip):
    """The class or object of each pixel of a clip: uint8 array (T, H, W); 255 means ignore.

    A longer one is cut as the clip is (:class:`~stzoo.fields.Video`), so that its frames stay those of the clip.
    """

    over: str = ""
    """Name of the input whose pixels these are."""
    suffixes: ClassVar[tuple[str, ...]] = (".zip", ".png", *ARRAYS)
    streamed: ClassVar[tuple[str, ...]] = (".zip",)
    reads: ClassVar[tuple[str, ...]] = (".zip", *ARRAYS)
    frames: ClassVar[tuple[str, ...]] = _PICTURES
    features: ClassVar[tuple[str, ...]] = ("List(Image)",)
    ui: ClassVar[str] = "stzoo.ui.masks:VideoMaskWidget"

    def count(self, value: Any) -> int:
        from stzoo.media import masks

        return masks.count_masks(value, self.name)

    def part(self, value: Any, requirements: Requirements, **part: Any) -> np.ndarray:
        from stzoo.media import masks

        return masks.read_masks(value, self.name, len(requirements.classes), **part)

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo.media import masks

        return masks.sample_masks(requirements.frames_in or 4, requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo.media import masks

        return masks.strip(value)

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """Pixels with another number than the truth's in red, ignored ones in grey; None where the shapes are not the same."""
        from stzoo.media import masks

        return masks.disagreement(value, truth) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo.media import masks

        masks.write_masks(value, path)
