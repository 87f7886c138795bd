"""Depth maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import SpecError
from stzoo.fields.base import Field, Value
from stzoo.fields.pictures import RESIZE
from stzoo.fields.values import Number
from stzoo.files import ARRAYS, PER_UNIT

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Depth(Field):
    """A depth map: float32 array (H, W), NaN where it is not known.

    ``unit``: ``"m"``, metres along the optical axis, greater than 0; ``"disparity"``, pixels; ``"relative"``, of unknown
    scale. In pictures, and in arrays of whole numbers, 0 means not known; with metres in every other array too.
    """

    unit: str = "m"
    picture: str = ""
    """The input that shows the same view, where there is one: points in a ``.ply`` get their colours from it."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".npz", ".pfm", ".jpg", ".ply")
    writing: ClassVar[tuple[Value, ...]] = (
        Number(
            "fov",
            "Angle in degrees that the camera sees from left to right, for the points of a ply; 60 is a guess",
            60.0,
            minimum=1,
            maximum=170,
        ),
    )
    reads: ClassVar[tuple[str, ...]] = (".png", ".pgm", ".tif", ".tiff", ".pfm", *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Image",)
    loading: ClassVar[tuple[Value, ...]] = (
        Number(
            "per_unit",
            "How many of a 16-bit picture's numbers are one unit; else 1000 a metre, 256 a pixel of disparity",
            minimum=1e-6,
        ),
        RESIZE,
    )
    ui: ClassVar[str] = "stzoo.ui.maps:DepthWidget"

    def __post_init__(self) -> None:
        if self.unit not in PER_UNIT:
            raise SpecError(f"Depth {self.name!r}: unit={self.unit!r}", f"One of {', '.join(PER_UNIT)}")

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        from stzoo import media
        from stzoo.media import depths

        depth = depths.read_depth(value, self.name, self.unit, options.get("per_unit"), size=options.get("size"))
        media.check_size(depth, self.name, requirements)
        return depth

    def sample(self, requirements: Requirements) -> np.ndarray:
        from stzoo.media import depths

        return depths.sample_depth(requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo.media import depths

        return depths.with_scale(depths.picture_of(value), value, self.unit)

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """The absolute difference in colours, dark for none; None for depths of unknown scale, and where the shapes are not
        the same."""
        from stzoo.media import depths

        fits = self.unit != "relative" and value.shape == truth.shape
        return depths.difference(value, truth) if fits else None

    def numbers(self, value: np.ndarray) -> np.ndarray:
        import numpy as np

        found = super().numbers(value)
        unknown = np.isnan(found)
        return found if unknown.all() else np.where(unknown, 0, found)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        """The numbers; as ``.jpg`` a picture in colours with their scale; as ``.ply`` points seen by a camera with ``fov``, in
        the colours of ``picture`` (C, H, W) if that is given."""
        from stzoo.media import depths

        depths.write_depth(value, path, self.unit, **options)
