"""Volumes in a browser: slices in three planes, and masks laid over them; all slices are sent, so that none is asked for later."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from stzoo import errors
from stzoo.media import volumes
from stzoo.media.decoding import File
from stzoo.ui.components import Widget
from stzoo.ui.masks import MaskWidget
from stzoo.ui.running import given_file
from stzoo.ui.sheets import drawn, sheet

VOXELS = 2**23
"""Voxels of a volume that are sent to be looked at; of larger ones every second, third … along each axis."""


class VolumeWidget(Widget):
    """A volume: a file is asked for, slices are shown."""

    lossless = (".nii.gz",)

    def read(self, value: Any) -> Any:
        """Read a file only if its header is within the limits."""
        path = Path(given_file(value, self.field.name))
        self.refuse_voxels(volumes.shape_of(File(path), self.field.name))
        return self.field.read(path, self.requirements)

    def refuse_voxels(self, shape: tuple[int, ...]) -> None:
        """Raise InputError for a volume over a limit; a voxel counts as a pixel."""
        most, found = self.limits["max_pixels"], math.prod(shape) / 1e6
        if found > most:
            raise errors.InputError(
                f"{self.field.name}: {found:.3g} million voxels, this demo takes {most:g}", "Give a smaller volume"
            )

    def display(self, *, before: bool = False) -> list[Any]:
        return [drawn(self.title, "stzoo-volume", "frames.js", "volumes.js", css="volumes.css")]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        return [shown(value, folder / f"{self.field.name}-shown")]


class VolumeMaskWidget(MaskWidget):
    """A mask of a volume, over the volume it belongs to."""

    lossless = VolumeWidget.lossless

    def read(self, value: Any) -> Any:
        return VolumeWidget.read(self, value)  # type: ignore[arg-type]

    refuse_voxels = VolumeWidget.refuse_voxels
    display = VolumeWidget.display

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        grey = before if before is not None and before.shape[-3:] == value.shape else None
        stem = folder / f"{self.field.name}-shown"
        made = shown(value if grey is None else grey, stem.with_name(f"{stem.name}-below"), empty=grey is None)
        step = made["step"]
        numbers = np.asarray(value, np.uint8)
        made["mask"] = slices(numbers[::step, ::step, ::step], stem)
        made["classes"] = self.legend(numbers)
        return [made]


def shown(value: Any, stem: Path, *, empty: bool = False) -> dict[str, Any]:
    """What ``assets/volumes.js`` shows of a volume (C, X, Y, Z) or, with ``empty``, of nothing the size of a mask (X, Y, Z)."""
    shape, step = value.shape[-3:], 1
    while math.prod(-(-side // step) for side in shape) > VOXELS:
        step += 1
    return {
        "volume": None if empty else slices(volumes.shades(value[:1, ::step, ::step, ::step]), stem),
        "shape": [-(-side // step) for side in shape],
        "spacing": list(getattr(value, "spacing", (1.0, 1.0, 1.0))),
        "step": step,
        "mask": None,
        "classes": [],
    }


def slices(grey: np.ndarray, stem: Path) -> dict[str, Any]:
    """The axial slices of (X, Y, Z), uint8, in one picture: pixel (x, y) of slice z is that place's number."""
    return sheet(np.ascontiguousarray(grey.transpose(2, 1, 0)), stem, exact=True)
