"""Scenes in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import SpecError
from stzoo.fields.base import Field

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.media.geometry import Geometry
    from stzoo.requirements import Requirements

AXES = ("x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class Scene(Field):
    """Points, 3D Gaussians or a mesh of triangles: a :class:`stzoo.media.geometry.Geometry`, a mapping of names to arrays.

    ``up``: the axis that points up where the scene is drawn; it changes no value. COLMAP and most networks: ``"-y"``.
    """

    up: str = "-y"

    suffixes: ClassVar[tuple[str, ...]] = (".ply", ".npz")
    reads: ClassVar[tuple[str, ...]] = (".ply", ".npz")
    ui: ClassVar[str] = "stzoo.ui.scenes:SceneWidget"

    def __post_init__(self) -> None:
        if self.up not in AXES:
            raise SpecError(f"Scene {self.name!r}: up={self.up!r}", f"One of {', '.join(AXES)}")

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Geometry:
        from stzoo.media import geometry

        return geometry.read_geometry(value, self.name)

    def sample(self, requirements: Requirements) -> Geometry:
        from stzoo.media import geometry

        return geometry.sample_geometry(self.up)

    def preview(self, value: Any) -> PILImage:
        from stzoo.media import geometry

        return geometry.picture(geometry.as_geometry(value), self.up)

    def write(self, value: Any, path: Path, **options: Any) -> None:
        from stzoo.media import geometry

        geometry.write_geometry(geometry.as_geometry(value), path)
