"""A picture of which a part is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stzoo.fields import Image

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage


@dataclass(frozen=True)
class Drawn(Image):
    """A picture, float32 array (C, H, W) in [0, 1]; as a truth it is NaN, shown in grey, where nothing was to be drawn."""

    def preview(self, value: np.ndarray) -> PILImage:
        import numpy as np

        return super().preview(np.nan_to_num(value, nan=0.5))

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """The absolute difference where something was to be drawn; None where the shapes are not the same."""
        import numpy as np

        return self.preview(np.nan_to_num(abs(value - truth))) if value.shape == truth.shape else None
