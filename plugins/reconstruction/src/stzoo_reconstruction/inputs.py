"""What people hand in as cameras and as photographs, and a capture to try things with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stzoo.errors import InputError, MediaError
from stzoo.files import IMAGES
from stzoo_reconstruction import sequences, transforms
from stzoo_reconstruction.archives import innermost, laid_out, unpacked
from stzoo_reconstruction.cameras import Cameras, orbit, standard_home
from stzoo_reconstruction.captures import Capture, divided, find_capture, over, pixels_of, premultiplied, read_capture
from stzoo_reconstruction.frames import pictures_in, readable


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs of a scene whose cameras are not known."""

    sources: tuple[Path, ...]
    origin: str = ""
    holder: Any = field(default=None, repr=False)
    posed: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.sources)

    def learnable(self) -> None:
        """Raises InputError: cameras have to be found first."""
        count = f"{len(self)} photographs" if len(self) > 1 else "one photograph only"
        raise InputError(
            f"{self.origin} holds {count} and no cameras",
            "Give a transforms.json, a COLMAP model or the like with them; or poses=sfm, which finds cameras (pycolmap) of at "
            "least three photographs",
        )

    @property
    def cameras(self) -> Cameras:
        """Raises InputError."""
        self.learnable()
        raise AssertionError  # never reached

    def image(self, index: int, background: str = "white") -> np.ndarray:
        """As :meth:`Capture.image`, of the photograph's own size, bent as it may be."""
        return over(premultiplied(pixels_of(self.sources[index])), background)

    def with_poses(self) -> Capture:
        """The capture that structure from motion makes of them (:func:`stzoo_reconstruction.sfm.run`, some seconds to minutes)."""
        from stzoo_reconstruction import sfm

        holder, photos = tempfile.TemporaryDirectory(prefix="stzoo-views-"), laid_out(self.sources)
        output = Path(holder.name) / "capture"
        try:
            said = sfm.run(photos.name, output)
        except InputError as problem:
            raise InputError(problem.problem.replace(photos.name, self.origin), problem.remedy) from problem
        capture = read_capture(output)
        return replace(capture, origin=self.origin, notes=(f"structure from motion: {said}",), holder=holder)


def read_cameras(value: Any, name: str) -> Cameras:
    """Cameras as :class:`stzoo_reconstruction.fields.CameraPath` reads them."""
    if isinstance(value, Cameras):
        return value
    if isinstance(value, Capture):
        return value.cameras
    if isinstance(value, Mapping):
        return sequences.cameras_from_names(value, name)
    if isinstance(value, list | tuple) and value and all(isinstance(item, Cameras) for item in value):
        return Cameras.joined(value)
    if not isinstance(value, str | Path):
        return Cameras.from_array(value)
    path = Path(value).expanduser()
    if not path.exists():
        raise MediaError(f"{name}: there is no file {path}", "Give a transforms.json, an npz or npy file, or a capture")
    if path.suffix.lower() == ".json":
        return transforms.path_cameras(path)
    if path.suffix.lower() == ".npz":
        return sequences.cameras_from_names(sequences.npz(path), str(path))
    if path.suffix.lower() == ".npy" and path.name != "poses_bounds.npy":
        with readable(path, "a NumPy file"):
            array = np.load(path, allow_pickle=False)
        return Cameras.from_array(array)
    return read_capture(path).cameras


def read_views(value: Any, name: str) -> Capture | Photographs:
    """A capture as :class:`stzoo_reconstruction.fields.Views` reads it; photographs where there is nothing about cameras."""
    if isinstance(value, Capture | Photographs):
        return value
    if isinstance(value, str | Path):
        return _from_path(Path(value).expanduser())
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise InputError(f"{name} is a {type(value).__name__}", "Give a folder, a zip file, or (picture, camera) pairs")
    items = list(value)
    if items and all(isinstance(item, str | Path) for item in items):
        files = [Path(item).expanduser() for item in items]
        if len(files) == 1:
            return _from_path(files[0])
        holder = laid_out(files)
        return replace(_from_path(Path(holder.name)), origin=f"{len(files)} files", holder=holder)
    if not items or not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        raise InputError(f"{name} has photographs without cameras", "Give (picture, camera) pairs, or a capture")
    return from_pairs(items, name)


def _from_path(path: Path) -> Capture | Photographs:
    if path.suffix.lower() in IMAGES and path.is_file():
        return Photographs((path,), str(path))
    holder, root = None, path
    if path.is_file() and path.suffix.lower() == ".zip":
        holder = unpacked(path)
        root = innermost(Path(holder.name))
    if capture := find_capture(root) if root.exists() else None:
        return replace(capture, origin=str(path), holder=holder)
    for folder in (root, root / "images"):
        if folder.is_dir() and (pictures := pictures_in(folder)):
            return Photographs(tuple(pictures), str(path), holder)
    return read_capture(path)  # which says what is missing


def from_pairs(pairs: Iterable[tuple[Any, Any]], name: str = "views") -> Capture:
    """A capture of pictures (paths, PIL images, arrays) and cameras (camera to world, OpenGL axes), one each.

    Raises InputError.
    """
    from stzoo.media import read_image

    pictures, cameras = [], []
    for index, (picture, camera) in enumerate(pairs):
        pixels = read_image(picture, f"{name}[{index}]")
        pixels = np.repeat(pixels, 3, axis=0) if len(pixels) == 1 else pixels
        found = read_cameras(camera, f"{name}[{index}]")
        height, width = pixels.shape[1:]
        stated = found.sizes[0]
        if len(found) != 1:
            raise InputError(f"{name}[{index}] has {len(found)} cameras", "Give one for each picture")
        if len(pixels) not in (3, 4):
            raise InputError(f"{name}[{index}] has {len(pixels)} channels", "Give RGB, RGBA or grey pictures")
        if abs(width / stated[1] * stated[0] - height) > 1.5:
            raise InputError(
                f"{name}[{index}] has {width}x{height} pixels, its camera {stated[1]:g}x{stated[0]:g}: the shapes differ",
                "Give the camera of this picture",
            )
        pictures.append(pixels)
        cameras.append(found.fitted((height, width)))
    if not pictures:
        raise InputError(f"{name}: there are no photographs", "Give (picture, camera) pairs")
    return Capture(tuple(pictures), Cameras.joined(cameras), divided({}, len(pictures), 8))


def sample_capture(views: int = 8, size: int = 32) -> Capture:
    """A deterministic capture: a coloured ball of radius 1 at the origin from all round, pictures transparent beside it."""
    home = standard_home(size, size)
    half = views // 2
    rings = [orbit(home, half), orbit(home, views - half, azimuth=45, elevation=-40)]
    cameras = Cameras.joined([ring for ring in rings if len(ring)])
    return Capture(tuple(_ball(camera) for camera in cameras), cameras, divided({}, views, 8))


def _ball(camera: Cameras) -> np.ndarray:
    """(4, H, W): what a camera sees of the ball, 4x4 samples for each pixel."""
    camera = camera.resized(4)
    height, width = camera.sizes[0].astype(int)
    fx, fy, cx, cy = camera.intrinsics[0]
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([(x - cx) / fx, -(y - cy) / fy, -np.ones_like(x)], -1) @ camera.poses[0, :3, :3].T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = camera.positions[0]
    along = rays @ origin
    inside = along**2 - origin @ origin + 1
    hit = inside > 0
    point = origin + (-along - np.sqrt(inside.clip(0)))[..., None] * rays
    colours = np.where(hit[..., None], 0.5 + 0.5 * np.sin(3 * point + (0, 2, 4)), 0)
    pixels = np.concatenate([colours, hit[..., None]], -1).reshape(height // 4, 4, width // 4, 4, 4).mean((1, 3))
    pixels[..., :3] /= np.maximum(pixels[..., 3:], 1e-9)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
