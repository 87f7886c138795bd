"""Scenes in a browser: an orbit viewer, given a copy of the scene that fits its camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from stzoo import errors
from stzoo.media import geometry
from stzoo.media.decoding import File, array_shape
from stzoo.media.geometry import Geometry
from stzoo.media.ply import read_header, write_ply
from stzoo.ui.components import Widget
from stzoo.ui.running import given_file
from stzoo.ui.web import gr

POINTS = 300_000
"""Points of a scene that are sent to be looked at; of larger ones every second, third …"""
NEAR = 0.7
"""How far Gaussians reach: the camera of their viewer, always 5 away, sees 0.9 upwards. The other viewer's finds its place itself."""
ASIDE = 0.5
"""Radians from the direction of z to that of x, as seen from above: where the camera of the viewer of Gaussians starts. (It is as
many above the horizon, 5 from the origin, and has a focal length of 1132 pixels.)"""
CLEAR = np.array([[np.cos(ASIDE), 0, np.sin(ASIDE)], [0, -1, 0], [np.sin(ASIDE), 0, -np.cos(ASIDE)]], np.float32)
"""From y up and the viewer in the direction of z to the axes of that viewer, in which y is down and -z comes before it."""


class SceneWidget(Widget):
    """Points, Gaussians or a mesh to turn about."""

    wanted = True

    def read(self, value: Any) -> Any:
        """Read what the header declares only if it is within the limits."""
        path, name = Path(given_file(value, self.field.name)), self.field.name
        if path.suffix.lower() == ".ply":
            rows = [
                (item.count, len(item.columns) + 2 * len(item.lists)) for item in read_header(File(path), name).elements
            ]
            self.refuse_points(max((count for count, _ in rows), default=0), sum(a * b for a, b in rows))
        elif path.suffix.lower() == ".npz":
            self.refuse_archive(path)
        return self.field.read(value, self.requirements)

    def refuse_points(self, points: int, numbers: int) -> None:
        """Raise InputError for a scene over a limit; a point counts as a pixel, and may have 64 numbers."""
        most = self.limits["max_pixels"] * 1e6
        if points > most or numbers > 64 * most / 8:
            raise errors.InputError(
                f"{self.field.name}: {points / 1e6:.3g} million points with {numbers / 1e6:.3g} million numbers, "
                f"this demo takes {most / 1e6:g} and {8 * most / 1e6:g}",
                "Give a smaller scene",
            )

    def refuse_archive(self, path: Path) -> None:
        """The same for a NumPy archive, from its directory."""
        try:
            with ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
                names = [item.filename for item in archive.infolist()]
        except (OSError, ValueError, errors.MediaError) as problem:
            raise errors.MediaError(f"{self.field.name}: the file is no npz archive ({problem})") from None
        except Exception as problem:  # BadZipFile and what damaged directories raise
            raise errors.MediaError(f"{self.field.name}: the file is no npz archive ({problem})") from None
        self.refuse_points(0, size // 8)
        if len(names) == 1:
            shape = array_shape(File(path), self.field.name)
            self.refuse_points(shape[0] if shape else 0, 0)

    def display(self, *, before: bool = False) -> list[Any]:
        return [
            gr.Model3D(
                label=self.title, interactive=False, height=420, clear_color=(0, 0, 0, 0), elem_classes="stzoo-scene"
            )
        ]

    def show(self, value: Any, folder: Path, before: Any = None) -> list[Any]:
        scene = geometry.as_geometry(value)
        # Gaussians too: of a .splat file, Gradio 6.31 loads the viewer only once, and drops it if anything changes meanwhile.
        path = folder / f"{self.field.name}-shown.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_ply(displayed(scene, getattr(self.field, "up", "-y")), path)
        return [str(path)]


def displayed(scene: Geometry, up: str) -> Geometry:
    """A copy for the viewer: around the origin, reaching to 1 (Gaussians: to :data:`NEAR`), the right way up and turned to the
    viewer as it is to be looked at, of no more than :data:`POINTS` points, coloured."""
    turn, middle, reach = geometry.upright(scene, up)
    if scene.gaussian:
        turn, reach = CLEAR @ turn, reach / NEAR
    made = {"positions": ((scene["positions"] - middle) / reach) @ turn.T}
    step = 1 if "faces" in scene else -(-len(made["positions"]) // POINTS)
    if scene.gaussian:
        made |= {"opacities": scene["opacities"], "sh": scene["sh"][:, :1]}  # the viewer's colours have no direction
        made["scales"] = scene["scales"] - np.float32(np.log(reach))
        made["rotations"] = _rotated(turn, scene["rotations"])
    else:
        made["colours"] = geometry.colours_of(scene, up)
    shown = Geometry({key: np.ascontiguousarray(array[::step]) for key, array in made.items()})
    if "faces" in scene:
        shown["faces"] = scene["faces"]
    return shown


def _rotated(turn: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Quaternions (w, x, y, z) after the rotation ``turn``, whose own is found as Bar-Itzhack (2000) does."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn.astype(np.float64)
    sums = [
        [xx - yy - zz, xy + yx, xz + zx, zy - yz],
        [xy + yx, yy - xx - zz, yz + zy, xz - zx],
        [xz + zx, yz + zy, zz - xx - yy, yx - xy],
        [zy - yz, xz - zx, yx - xy, xx + yy + zz],
    ]
    x, y, z, w = np.linalg.eigh(sums)[1][:, -1]
    left = np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], np.float32)
    return rotations @ left.T
