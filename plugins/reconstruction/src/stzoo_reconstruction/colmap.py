"""COLMAP's sparse models, binary and text: ``cameras``, ``images``, ``points3D``.

COLMAP stores world-to-camera rotations (quaternions w, x, y, z) and translations with OpenCV axes (x right, y down, z forwards);
its pixels have the origin at the top-left corner, as here. Poses are turned round to OpenGL axes; the world stays COLMAP's.
``rigs`` and ``frames`` of newer versions say nothing that ``images`` does not, and are not read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import MediaError
from stzoo_reconstruction.cameras import flipped
from stzoo_reconstruction.frames import Found, Frame, Points, picture_of, pictures_in, readable
from stzoo_reconstruction.lenses import Lens

MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
"""Names and numbers of parameters, in the order of COLMAP's model ids."""
FILES = ("cameras", "images", "points3D")


@dataclass
class Camera:
    """An entry of ``cameras``."""

    model: str
    width: int
    height: int
    values: tuple[float, ...]


@dataclass
class Registered:
    """An entry of ``images``."""

    name: str
    camera: int
    rotation: tuple[float, ...]
    """w, x, y, z, world to camera."""
    translation: tuple[float, ...]
    points: np.ndarray
    """Ids of the points it sees."""


def find(path: Path) -> Found | None:
    """The capture of a folder with a sparse model in it, or in ``sparse/``, ``sparse/0``, ``colmap/sparse/0`` …: of several
    the one with the most images. Photographs are in ``images/``, else ``images_2/``, ``images_4/``, ``images_8/``, else in the
    folder itself."""
    if not path.is_dir():
        return None
    bases = [path, path / "sparse", path / "colmap" / "sparse", path / "colmap"]
    places = [place for base in bases if base.is_dir() for place in (base, *sorted(base.iterdir())) if _is_model(place)]
    if not places:
        return None
    models = {place: read_images(place) for place in dict.fromkeys(places)}
    chosen = max(models, key=lambda place: len(models[place]))
    if not models[chosen]:
        raise MediaError(f"{chosen} has no registered image", "Run structure from motion again")
    cameras, images = read_cameras(chosen), models[chosen]
    folder = _photographs(path, [image.name for image in images], chosen)
    points: list[tuple[np.ndarray, ...]] = []

    def loaded() -> tuple[np.ndarray, ...]:
        points[:] = points or [read_points(chosen)]
        return points[0]

    frames = []
    for image in sorted(images, key=lambda image: image.name):
        if image.camera not in cameras:
            raise MediaError(f"{chosen}: image {image.name!r} has camera {image.camera}, which is not in cameras")
        camera = cameras[image.camera]
        intrinsics, lens = pinhole(camera, chosen)
        pose = pose_of(image)
        picture = picture_of(folder, image.name, chosen)
        bounds = _bounds(pose, image, *loaded()[:2])
        frames.append(Frame(picture, pose, intrinsics, (camera.height, camera.width), lens=lens, bounds=bounds))
    missing = [frame.picture for frame in frames if not frame.picture.is_file()]
    if missing:
        raise MediaError(
            f"{chosen} names {len(missing)} photographs of {len(frames)} that are not there, such as {missing[0]}",
            f"Put them into {path / 'images'}",
        )
    count = max(len(_all_pictures(folder)), len(frames))
    notes = []
    if count > len(frames) or len(models) > 1:
        notes = [f"{len(frames)} of {count} photographs are registered" + _beside(path, chosen, models)]
    return Found(frames, notes=notes, points=lambda: _cloud(*loaded()[1:]))


def _beside(path: Path, chosen: Path, models: dict[Path, list[Registered]]) -> str:
    if len(models) == 1:
        return ""
    others = ", ".join(str(len(images)) for place, images in models.items() if place != chosen)
    return f" in {chosen.relative_to(path)}, the largest of {len(models)} models (the others: {others})"


def _is_model(place: Path) -> bool:
    return place.is_dir() and any(
        all((place / f"{name}{suffix}").is_file() for name in FILES[:2]) for suffix in (".bin", ".txt")
    )


def _photographs(root: Path, names: list[str], model: Path) -> Path:
    """The folder in which most of the photographs are."""
    places = [root / name for name in ("images", "images_2", "images_4", "images_8", "input", "photos")]
    found = [place for place in (*places, root) if place.is_dir()]
    return max(found, key=lambda place: sum(picture_of(place, name, model).is_file() for name in names))


def _all_pictures(folder: Path) -> list[Path]:
    return [
        path for place in (folder, *(item for item in folder.iterdir() if item.is_dir())) for path in pictures_in(place)
    ]


def pose_of(image: Registered) -> np.ndarray:
    """(4, 4), camera to world, OpenGL axes."""
    from scipy.spatial.transform import Rotation

    w, x, y, z = image.rotation
    if not np.isfinite((*image.rotation, *image.translation)).all() or w * w + x * x + y * y + z * z < 1e-12:
        raise MediaError(f"image {image.name!r} has a pose that is not finite, or no rotation", "Leave it out")
    rotation = Rotation.from_quat((x, y, z, w)).as_matrix().T
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ np.asarray(image.translation)
    return flipped(pose)


def pinhole(camera: Camera, place: Path) -> tuple[tuple[float, float, float, float], Lens | None]:
    """fx, fy, cx, cy and the lens of a camera. Raises MediaError for FOV and THIN_PRISM_FISHEYE, and what is unknown."""
    model, values = camera.model, camera.values
    wanted = dict(MODELS).get(model)
    if wanted is None or model in ("FOV", "THIN_PRISM_FISHEYE"):
        raise MediaError(
            f"{place}: the camera model {model} is not read", "Run: colmap image_undistorter, which makes it PINHOLE"
        )
    if len(values) != wanted:
        raise MediaError(f"{place}: a {model} camera of {len(values)} parameters", f"It has {wanted}")
    two = model in ("PINHOLE", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV")
    focal, rest = (values[:2], values[2:]) if two else ((values[0], values[0]), values[1:])
    centre, bends = rest[:2], rest[2:]
    if "FISHEYE" in model:
        lens = Lens(tuple(bends), fisheye=True)
    elif model in ("OPENCV", "FULL_OPENCV"):
        lens = Lens((*bends[:2], *bends[4:]), (bends[2], bends[3]))
    else:
        lens = Lens(tuple(bends))
    return (focal[0], focal[1], centre[0], centre[1]), None if lens.straight else lens


def _bounds(pose: np.ndarray, image: Registered, ids: np.ndarray, positions: np.ndarray) -> tuple[float, float]:
    """The nearest and the farthest depth of the points an image sees, without one in a thousand at both ends (as LLFF)."""
    if len(ids) and len(image.points):
        index = np.searchsorted(ids, image.points).clip(0, len(ids) - 1)
        seen = positions[index[ids[index] == image.points]]
        depth = (pose[:3, 3] - seen) @ pose[:3, 2]
        depth = depth[depth > 0]
        if len(depth) > 1:
            near, far = np.percentile(depth, (0.1, 99.9))
            if near < far:
                return float(near), float(far)
    return 0.0, np.inf


def _cloud(positions: np.ndarray, colours: np.ndarray) -> Points | None:
    return (positions, colours) if len(positions) else None


# --- files ------------------------------------------------------------------------------------------------------------


class _Bytes:
    """A binary file, read from its start."""

    def __init__(self, path: Path) -> None:
        self.data, self.at = path.read_bytes(), 0

    def take(self, layout: str) -> tuple[Any, ...]:
        made = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return made

    def count(self, least: int) -> int:
        """A number of entries of at least so many bytes, which cannot be more than the file holds."""
        (number,) = self.take("Q")
        if number * least > len(self.data) - self.at:
            raise ValueError(f"it should hold {number} entries and is too short")
        return int(number)

    def array(self, dtype: Any, count: int) -> np.ndarray:
        made = np.frombuffer(self.data, dtype, count, self.at)
        self.at += made.nbytes
        return made

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        made = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return made


def _file(place: Path, name: str) -> Path:
    binary = place / f"{name}.bin"
    return binary if binary.is_file() else place / f"{name}.txt"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def read_cameras(place: Path) -> dict[int, Camera]:
    """The cameras of a model, by their ids."""
    path, found = _file(place, "cameras"), {}
    with readable(path, "cameras of COLMAP"):
        if path.suffix == ".txt":
            for line in filter(None, _lines(path)):
                key, model, width, height, *values = line.split()
                found[int(key)] = Camera(model, int(width), int(height), tuple(map(float, values)))
            return found
        data = _Bytes(path)
        for _ in range(data.count(24)):
            key, model_id, width, height = data.take("iiQQ")
            if not 0 <= model_id < len(MODELS):
                raise MediaError(f"{path}: unknown camera model {model_id}", "Run: colmap image_undistorter")
            model, count = MODELS[model_id]
            found[key] = Camera(model, width, height, data.take(f"{count}d"))
    return found


def read_images(place: Path) -> list[Registered]:
    """The registered images of a model."""
    path, found = _file(place, "images"), []
    with readable(path, "images of COLMAP"):
        if path.suffix == ".txt":
            lines = _lines(path)
            while lines and not lines[-1]:
                lines.pop()
            for line, seen in zip(lines[::2], [*lines[1::2], ""], strict=False):
                _, *pose, camera, name = line.split(maxsplit=9)
                numbers = tuple(map(float, pose))
                ids = np.array(seen.split()[2::3], dtype=np.int64)
                found.append(Registered(name, int(camera), numbers[:4], numbers[4:], ids[ids >= 0]))
            return found
        data = _Bytes(path)
        for _ in range(data.count(73)):
            _, *numbers, camera = data.take("i7di")
            name = data.text()
            count = data.count(24)
            ids = data.array([("x", "<f8"), ("y", "<f8"), ("id", "<i8")], count)["id"]
            found.append(Registered(name, camera, tuple(numbers[:4]), tuple(numbers[4:]), ids[ids >= 0]))
    return found


def read_points(place: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids (N,) in order, positions (N, 3) and colours (N, 3) in [0, 1] of a model's points; none where there is no file."""
    path, rows, table = _file(place, "points3D"), [], np.empty((0, 7))
    if path.is_file():
        with readable(path, "points of COLMAP"):
            if path.suffix == ".txt":
                rows = [tuple(map(float, line.split()[:7])) for line in filter(None, _lines(path))]
            else:
                data = _Bytes(path)
                for _ in range(data.count(51)):
                    *row, _ = data.take("Q3d3Bd")
                    rows.append(tuple(row))
                    track = data.count(8)
                    data.at += 8 * track
            table = np.array(sorted(rows), dtype=np.float64).reshape(-1, 7)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0].astype(np.int64), table[:, 1:4], table[:, 4:] / 255
