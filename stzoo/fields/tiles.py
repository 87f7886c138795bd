"""The options of dense tasks: how large pictures and long clips are cut (:mod:`stzoo.tiling`)."""

from __future__ import annotations

from collections.abc import Iterable

from stzoo.fields.base import Field, Value
from stzoo.fields.pictures import Video
from stzoo.fields.values import Number

TILE = Number(
    "tile",
    "Height and width (of a volume: every side) in pixels of the tiles that a picture is cut into; 0: none. Default: as the "
    "model states, where a picture is larger",
    minimum=0,
    integer=True,
)
OVERLAP = Number(
    "overlap", "Pixels that neighbouring tiles share. Default: as the model states", minimum=0, integer=True
)
WINDOW = Number(
    "window",
    "Frames of a clip that are predicted at once; 0: all. Default: as the model states",
    minimum=0,
    integer=True,
)


def tile_options(inputs: Iterable[Field]) -> tuple[Value, ...]:
    """The options of a dense task with these inputs."""
    return (TILE, OVERLAP, WINDOW) if any(isinstance(item, Video) for item in inputs) else (TILE, OVERLAP)
