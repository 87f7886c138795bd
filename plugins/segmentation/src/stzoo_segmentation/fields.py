"""Objects: which of many each pixel belongs to, in numbers that a mask of 8 bits does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.fields import Field, Value
from stzoo.fields.pictures import RESIZE
from stzoo.files import ARRAYS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Instances(Field):
    """The object of each pixel, whatever its class: uint16 array (H, W), 0 where there is none."""

    over: str = ""
    """Name of the input whose pixels these are."""
    suffixes: ClassVar[tuple[str, ...]] = (".png", ".json", *ARRAYS)
    reads: ClassVar[tuple[str, ...]] = (".png", ".tif", ".tiff", *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Image",)
    loading: ClassVar[tuple[Value, ...]] = (RESIZE,)

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        """``value``: the path or bytes of a grey picture of up to 16 bits or of an array, a PIL image, whole numbers (H, W).

        Raises InputError or MediaError.
        """
        from stzoo.media.masks import resized
        from stzoo_segmentation.objects import read_labels

        found: np.ndarray = resized(read_labels(value, self.name), options.get("size"))
        return found

    def sample(self, requirements: Requirements) -> np.ndarray:
        import numpy as np

        from stzoo.media.masks import sample_masks

        found: np.ndarray = sample_masks(1, requirements)[0].astype(np.uint16)
        return found

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo_segmentation.objects import coloured

        return coloured(value)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        """A grey PNG of 16 bits, an array, or JSON: a list of COCO's annotations with compressed runs."""
        from stzoo_segmentation.objects import write_labels

        write_labels(value, path)
