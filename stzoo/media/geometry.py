"""Points, 3D Gaussians and meshes as named arrays; reading, writing and drawing them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo.errors import InputError, MediaError
from stzoo.files import atomic_path
from stzoo.media.colours import coloured, spread
from stzoo.media.decoding import File, file_of, numpy_file
from stzoo.media.ply import read_ply, write_ply

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

ARRAYS_OF = {
    "positions": (3,),
    "colours": (3,),
    "scales": (3,),
    "rotations": (4,),
    "opacities": (),
    "sh": (None, 3),
}
"""Arrays with one row for each point: the shape of a row."""
GAUSSIANS = ("scales", "rotations", "opacities", "sh")
"""What Gaussians have besides positions: all or nothing."""
BAND = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): a colour is 0.5 + BAND * the first coefficient."""


class Geometry(dict[str, np.ndarray]):
    """A scene of N points, as a mapping of names to float32 arrays:

    - ``positions`` (N, 3), always there, in the units and axes of whoever made it;
    - ``colours`` (N, 3), red, green and blue in [0, 1];
    - ``faces`` int32 (M, 3): a mesh of triangles, numbers of points;
    - for Gaussians, as 3D Gaussian splatting (Kerbl et al. 2023) trains and stores them: ``scales`` (N, 3), natural
      logarithms of standard deviations; ``rotations`` (N, 4), quaternions w, x, y, z, not necessarily of length 1;
      ``opacities`` (N,), logits; ``sh`` (N, K, 3), K = 1, 4, 9 or 16 spherical harmonics of each colour.

    ``numpy.asarray`` gives all numbers in one row, which is enough to compare scenes.
    """

    frame: np.ndarray | None = None
    """The similarity (4, 4) from the scene's axes to those in which it is looked at: y up, the viewer in the direction of z,
    the middle at the origin, and what is to be seen within 1 of it. None: not known. It changes no value; files do not keep it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of that row."""
        return (sum(array.size for array in self.values()),)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([np.ravel(array) for array in self.values()]).astype(dtype or np.float64)

    @property
    def gaussian(self) -> bool:
        return "scales" in self


def as_geometry(value: Any, name: str = "scene") -> Geometry:
    """A mapping of arrays, or positions (N, 3) alone, as a checked scene; raises InputError naming the array that is wrong."""
    if isinstance(value, Geometry):
        return value
    value = value if isinstance(value, Mapping) else {"positions": value}
    if "positions" not in value:
        raise InputError(f"{name} has no 'positions'", f"It holds {', '.join(map(str, value))[:80]}")
    made = Geometry()
    for key, item in value.items():
        item = item.detach().cpu().numpy() if hasattr(item, "detach") else item
        try:
            array = np.asarray(item, np.int64 if key == "faces" else np.float32)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{name}: {str(key)[:40]!r} is no array of numbers") from None
        made[key] = _checked(str(key), array, made, name)
    if missing := [key for key in GAUSSIANS if key not in made and made.keys() & set(GAUSSIANS)]:
        raise InputError(f"{name}: Gaussians without {', '.join(missing)}", f"They have {', '.join(GAUSSIANS)}")
    return made


def _checked(key: str, array: np.ndarray, made: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if key == "faces":
        if array.ndim != 2 or array.shape[1] != 3:
            raise InputError(f"{name}: faces of shape {array.shape}", "Give triangles, (M, 3)")
        return array.astype(np.int32)
    if key not in ARRAYS_OF:
        raise InputError(f"{name}: {key[:40]!r} is no array of a scene", f"Known: {', '.join((*ARRAYS_OF, 'faces'))}")
    row, count = ARRAYS_OF[key], len(made.get("positions", array)) if array.ndim else 0
    fits = array.ndim == len(row) + 1 and len(array) == count
    fits = fits and all(wanted in (None, found) for wanted, found in zip(row, array.shape[1:], strict=True))
    if not fits or (key == "sh" and array.shape[1] not in (1, 4, 9, 16)):
        wanted = ", ".join(["N", *("K" if item is None else str(item) for item in row)])
        raise InputError(f"{name}: {key} of shape {array.shape}, for {count} points", f"Give ({wanted})")
    if not array.size:
        raise InputError(f"{name} is empty", "Give at least one point")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: {int((~np.isfinite(array)).sum())} numbers of {key} are not finite")
    if key == "colours" and (array.min() < 0 or array.max() > 1):
        raise InputError(f"{name}: colours from {array.min():g} to {array.max():g}", "Give values in [0, 1]")
    return array


def read_geometry(value: Any, name: str) -> Geometry:
    """A scene from a path or the bytes of a ply or npz file, a mapping of arrays, or positions (N, 3). Raises InputError."""
    if not (file := file_of(value, name)):
        return _whole(as_geometry(value, name), name)
    if file.suffix == ".npz" or (file.data or b"").startswith(b"PK"):
        return _whole(as_geometry(_from_npz(file, name), name), name)
    if file.suffix in (".ply", "") or (file.data or b"").startswith(b"ply"):
        return _whole(as_geometry(read_ply(file, name), name), name)
    raise MediaError(f"{name}: {file.path.name} is not a scene stzoo reads", "Endings: .ply, .npz")


def _whole(geometry: Geometry, name: str) -> Geometry:
    faces, count = geometry.get("faces"), len(geometry["positions"])
    if faces is not None and faces.size and (faces.min() < 0 or faces.max() >= count):
        raise InputError(f"{name}: a face names point {faces.max()}, there are {count}")
    return geometry


def _from_npz(file: File, name: str) -> dict[str, np.ndarray]:
    with numpy_file(file, name):
        loaded = np.load(file.opened(), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is an npy file")
        with loaded:
            return {key: loaded[key] for key in sorted(loaded.files, key="positions".__ne__)}


def write_geometry(geometry: Geometry, path: Path) -> None:
    """Write a ply (points and meshes with 8-bit colours; Gaussians in the layout of 3D Gaussian splatting) or an npz file."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".npz":
            arrays: dict[str, Any] = dict(geometry)
            np.savez_compressed(temporary, **arrays)
        else:
            write_ply(geometry, temporary)


# --- made up, and drawn -----------------------------------------------------------------------------------------------


def turned(up: str) -> np.ndarray:
    """The rotation (3, 3) that takes the axis ``up`` to y."""
    rows = {
        "y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
        "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
        "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
        "x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
        "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    }
    return np.array(rows[up], np.float32)


def upright(geometry: Geometry, up: str) -> tuple[np.ndarray, np.ndarray, float]:
    """How a scene is looked at: the rotation (3, 3) that takes up to y, its middle, and how far it reaches from there."""
    if geometry.frame is None:
        return turned(up), *extent(geometry["positions"])
    similar = geometry.frame[:3, :3]
    scale = float(np.cbrt(np.linalg.det(similar)))
    middle = -np.linalg.solve(similar, geometry.frame[:3, 3])
    return (similar / scale).astype(np.float32), middle.astype(np.float32), 1 / scale


def extent(positions: np.ndarray) -> tuple[np.ndarray, float]:
    """The middle of a scene, and how far most of it (98 %) reaches from there; outliers do not count."""
    middle = np.median(positions, axis=0)
    reach = float(np.percentile(np.abs(positions - middle).max(axis=1), 98))
    return middle, reach or 1.0


def colours_of(geometry: Geometry, up: str = "y") -> np.ndarray:
    """Colours (N, 3) in [0, 1]: the scene's own, those of Gaussians seen without direction, or by height."""
    if "colours" in geometry:
        return geometry["colours"]
    if "sh" in geometry:
        return np.clip(0.5 + BAND * geometry["sh"][:, 0], 0, 1)
    height = geometry["positions"] @ upright(geometry, up)[0][1]
    low, high = spread(height)
    return (coloured((height - low) / (high - low)) / np.float32(255)).astype(np.float32)


def sample_geometry(up: str = "-y") -> Geometry:
    """A deterministic scene: 3,000 coloured points on a ball above a chequered floor."""
    count = 2000
    index = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * index / count), np.pi * (1 + 5**0.5) * index  # evenly spread on the ball
    ball = np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], axis=1)
    x, z = (axis.ravel() for axis in np.meshgrid(np.linspace(-2, 2, 40), np.linspace(-2, 2, 25)))
    floor = np.stack([x, np.full_like(x, -1.2), z], axis=1)
    light = np.where((np.floor(x * 2) + np.floor(z * 2)) % 2, 0.8, 0.35)
    colours = np.concatenate([(ball + 1) / 2, np.repeat(light[:, None], 3, axis=1)])
    positions = np.concatenate([ball, floor]) @ turned(up)
    return as_geometry({"positions": positions, "colours": colours})


def picture(geometry: Geometry, up: str = "-y", width: int = 480, height: int = 360) -> PILImage:
    """The scene from obliquely above, points drawn from back to front."""
    from PIL import Image

    turn, middle, reach = upright(geometry, up)
    positions, colours = _drawn(geometry, up)
    around, tilt = np.radians((35.0, 20.0))
    about = np.array([[np.cos(around), 0, np.sin(around)], [0, 1, 0], [-np.sin(around), 0, np.cos(around)]])
    over = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    x, y, near = ((positions - middle) / reach @ (over @ about @ turn).T).T
    scale = 0.36 * min(width, height)
    column, row = np.rint(width / 2 + x * scale).astype(int), np.rint(height / 2 - y * scale).astype(int)
    order = np.argsort(near, kind="stable")
    sheet = np.full((height, width, 3), 255, np.uint8)
    pixels = np.rint(colours * 255).astype(np.uint8)
    size = int(np.clip((60_000 / len(positions)) ** 0.5, 1, 5))
    for down in range(size):
        for across in range(size):
            to_row, to_column = row[order] + down, column[order] + across
            seen = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
            sheet[to_row[seen], to_column[seen]] = pixels[order][seen]
    return Image.fromarray(sheet)


def _drawn(geometry: Geometry, up: str) -> tuple[np.ndarray, np.ndarray]:
    """Points to draw and their colours: the scene's own (visible ones of Gaussians), or points all over its faces."""
    positions, colours = geometry["positions"], colours_of(geometry, up)
    faces = geometry.get("faces")
    if faces is None or not faces.size:
        seen = geometry["opacities"] > -2 if geometry.gaussian else np.ones(len(positions), bool)
        seen = seen if seen.any() else ~seen
        return positions[seen], colours[seen]
    corners, shades = positions[faces], colours[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1)
    sun = np.array([0.3, 0.8, 0.5]) @ upright(geometry, up)[0]
    light = 0.55 + 0.45 * np.abs(normal @ sun) / np.maximum(area, 1e-12)
    total = np.cumsum(area)
    picks = np.searchsorted(total, np.linspace(0, total[-1], 200_000, endpoint=False), "right").clip(0, len(faces) - 1)
    index = np.arange(len(picks))
    one, two = (index * 0.7548776662) % 1, (index * 0.5698402910) % 1  # an even sequence in the unit square
    over = one + two > 1
    one, two = np.where(over, 1 - one, one), np.where(over, 1 - two, two)
    shares = np.stack([1 - one - two, one, two], axis=1)[..., None].astype(np.float32)
    return (corners[picks] * shares).sum(1), (shades[picks] * shares).sum(1) * light[picks][:, None]
