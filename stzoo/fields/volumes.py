"""Volumes: pictures with three axes of places, and masks of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.fields.base import Field
from stzoo.files import ARRAYS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.media.volumes import Grid
    from stzoo.requirements import Requirements

_NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Volume(Field):
    """A volume: float32 array (C, X, Y, Z) in the file's own numbers, a :class:`stzoo.media.volumes.Grid`.

    Its axes point to the right, the front and the head, whatever those of the file do; it is written as the file was.
    """

    spatial: ClassVar[int] = 3
    suffixes: ClassVar[tuple[str, ...]] = (*_NIFTI, ".png", *ARRAYS)
    reads: ClassVar[tuple[str, ...]] = (*_NIFTI, *ARRAYS)
    features: ClassVar[tuple[str, ...]] = ("Nifti",)
    ui: ClassVar[str] = "stzoo.ui.volumes:VolumeWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Grid:
        """As one channel unless ``requirements.channels`` says otherwise. Errors: :func:`stzoo.media.volumes.read_volume`."""
        from stzoo import media
        from stzoo.media import volumes

        grid = volumes.read_volume(value, self.name, requirements.channels)
        media.check_size(grid, self.name, requirements, axes=3)
        return grid

    def sample(self, requirements: Requirements) -> Grid:
        from stzoo.media import volumes

        return volumes.sample_volume(requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        """The middle slices: axial, coronal, sagittal."""
        from stzoo.media import volumes

        return volumes.planes(value)

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """The absolute difference in the middle slices; None where the shapes are not the same."""
        return self.preview(abs(value - truth)) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo.media import volumes

        volumes.write_volume(value, path)


@dataclass(frozen=True)
class VolumeMask(Field):
    """The class or object of each place of a volume: uint8 array (X, Y, Z), a :class:`stzoo.media.volumes.Grid`; 255 means
    ignore.

    Names of classes are the model's (``Requirements.classes``); where it has some, other numbers are refused.
    """

    over: str = ""
    """Name of the input whose places these are: a browser lays the mask over it."""
    spatial: ClassVar[int] = 3
    suffixes: ClassVar[tuple[str, ...]] = Volume.suffixes
    reads: ClassVar[tuple[str, ...]] = Volume.reads
    features: ClassVar[tuple[str, ...]] = ("Nifti",)
    ui: ClassVar[str] = "stzoo.ui.volumes:VolumeMaskWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Grid:
        from stzoo import media
        from stzoo.media import volumes

        grid = volumes.read_volume_mask(value, self.name, len(requirements.classes))
        media.check_size(grid, self.name, requirements, axes=3)
        return grid

    def sample(self, requirements: Requirements) -> Grid:
        from stzoo.media import volumes

        return volumes.sample_volume_mask(requirements)

    def preview(self, value: np.ndarray) -> PILImage:
        from stzoo.media import volumes

        return volumes.planes(value)

    def error(self, value: np.ndarray, truth: np.ndarray) -> PILImage | None:
        """Places with another number than the truth's in red, ignored ones in grey; None where the shapes are not the same."""
        from stzoo.media import volumes

        return volumes.disagreement(value, truth) if value.shape == truth.shape else None

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        from stzoo.media import volumes

        volumes.write_volume(value, path)
