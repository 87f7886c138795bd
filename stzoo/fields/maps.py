"""Maps: a number for every pixel that is no depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.fields.base import Field

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage


@dataclass(frozen=True)
class Map(Field):
    """A number of at least 0 for every pixel, such as a standard deviation: float32 array (H, W). An output."""

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".npy", ".npz")
    ui: ClassVar[str] = "stzoo.ui.maps:MapWidget"

    def preview(self, value: np.ndarray) -> PILImage:
        """In colours, dark for 0."""
        from stzoo.media import colours

        return colours.heat(value)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        """The numbers, or a ``.png`` of :meth:`preview`."""
        from stzoo import media
        from stzoo.files import ARRAYS, atomic_path

        with atomic_path(path) as temporary:
            if path.suffix.lower() in ARRAYS:
                media.write_array(value, temporary, self.name)
            else:
                self.preview(value).save(temporary)
