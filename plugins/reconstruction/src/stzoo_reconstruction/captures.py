"""Captures: photographs of a scene with their cameras, in the layouts people have them.

Poses are camera to world with OpenGL axes: x right, y up, the camera looks along -z (see :mod:`stzoo_reconstruction.cameras`);
each layout's module says what it stores and turns it round. The world's axes and units stay those of the capture, for cameras
and points alike.

Photographs are taken as they are stored: an EXIF orientation is *not* applied, because poses and intrinsics were found for the
stored pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stzoo.errors import DatasetError, InputError, MediaError
from stzoo.layout import KEY
from stzoo_reconstruction import colmap, llff, sequences, transforms
from stzoo_reconstruction.archives import innermost, unpacked
from stzoo_reconstruction.background import background_of
from stzoo_reconstruction.cameras import Cameras
from stzoo_reconstruction.frames import Found, Frame, Points, pictures_in, readable
from stzoo_reconstruction.lenses import Lens

LAYOUTS: dict[str, Callable[..., Found | None]] = {
    "transforms": transforms.find,
    "colmap": colmap.find,
    "llff": llff.find,
    "sequence": sequences.find,
}
"""Readers by name, in the order in which they are tried."""
MAX_PIXELS = 200_000_000
"""Of one photograph."""


@dataclass(frozen=True, eq=False)
class Capture:
    """Photographs and their cameras, one each. Photographs are read when they are asked for."""

    sources: tuple[Any, ...]
    """Paths, or arrays (C, H, W) in [0, 1] with 3 or 4 channels."""
    cameras: Cameras
    """Pinhole cameras of the photographs as :meth:`image` gives them."""
    splits: Mapping[str, np.ndarray]
    """Numbers of photographs by split: train, validation, test."""
    lenses: tuple[tuple[Lens, np.ndarray, float] | None, ...] = ()
    """For photographs that are bent: the lens, the photograph's own fx, fy, cx, cy and the factor of the focal length."""
    cloud: Callable[[], Points | None] = lambda: None
    notes: tuple[str, ...] = ()
    """What was left out or chosen, in sentences for people."""
    origin: str = ""
    """The file or folder it was read from."""
    holder: Any = field(default=None, repr=False)
    """What must live as long as the capture does: a folder that is deleted afterwards."""
    posed: ClassVar[bool] = True
    """Whether its cameras are known; see :class:`stzoo_reconstruction.inputs.Photographs`."""

    def __len__(self) -> int:
        return len(self.sources)

    def image(self, index: int, background: str = "white") -> np.ndarray:
        """Photograph ``index`` as float32 (3, H, W) in [0, 1], of its camera's size, straightened, over the background where it
        is transparent. Raises InputError."""
        return over(self._premultiplied(index), background)

    def _premultiplied(self, index: int) -> np.ndarray:
        """(3 or 4, H, W), straightened, colours times opacity: so pixels can be mixed."""
        source = self.sources[index]
        pixels = premultiplied(pixels_of(source) if isinstance(source, Path) else np.asarray(source, dtype=np.float32))
        if self.lenses and (lens := self.lenses[index]):
            pixels = lens[0].straightened(pixels, *lens[1:])
        return pixels

    def reduced(self, size: int) -> Capture:
        """The same with photographs of at most ``size`` pixels on the longer side, in memory."""
        from stzoo.media import resized

        scales = np.minimum(1.0, size / self.cameras.sizes.max(1, keepdims=True))
        cameras = self.cameras.fitted(np.maximum(np.rint(self.cameras.sizes * scales), 1))
        made = []
        for index, (height, width) in enumerate(cameras.sizes.astype(int)):
            pixels = resized(self._premultiplied(index), (int(height), int(width)))
            if len(pixels) == 4:
                pixels = np.concatenate([pixels[:3] / np.maximum(pixels[3:], 1e-6), pixels[3:]]).clip(0, 1)
            made.append(pixels)
        return replace(self, sources=tuple(made), cameras=cameras, lenses=())

    def points(self) -> Points | None:
        """Positions (N, 3) in the world and colours (N, 3) in [0, 1], or None for them, of points that the capture brings;
        None where it brings none."""
        return self.cloud()

    def learnable(self) -> None:
        """Raise InputError where no scene can be learnt from it."""
        if len(self) < 2:
            raise InputError(
                f"{self.origin or 'the capture'} has one photograph only: depth cannot be learnt from one side",
                "Give at least two, from different places; 20 to 100 are good",
            )
        positions = self.cameras.positions
        if np.ptp(positions, axis=0).max() < 1e-6 * max(1.0, float(np.abs(positions).max())):
            raise InputError(
                f"all {len(self)} cameras of {self.origin or 'the capture'} are at one place: nothing shows how far away things are",
                "Take photographs from different places, not by turning on the spot",
            )


# --- reading ----------------------------------------------------------------------------------------------------------


def reader(
    path: Path, every: int = 8, background: str = "white", size: int = 0, layout: str = "", per_metre: float = 1000.0
) -> dict[str, Sequence[Mapping[str, Any]]] | None:
    """Captures, photographs with their cameras, are read too, in these layouts:

      transforms.json           nerfstudio and instant-ngp: OpenGL axes, fl_x … or camera_angle_x, lenses
      transforms_train.json …   Blender's synthetic scenes: also _val and _test
      sparse/0/images.bin …     COLMAP, binary or text, the largest of several models; photographs in images/
      poses_bounds.npy          LLFF; photographs in images/
      cameras.npz               pose with fl, c (OpenGL axes) or with K (OpenCV axes); photographs in images/ or rgb/
      pose.txt, intrinsics.txt  tx ty tz qx qy qz qw for each picture, RGB-D recordings; photographs in color/ or rgb/

    Options: every (where the files name no test views, each so many-th is one: 8; 0: all are training and test views);
    background (white, black or r,g,b, behind transparent pictures); size (of the longer side to which photographs and their
    cameras are reduced; a number here); layout (transforms, colmap, llff or sequence, where there are several); per_metre (of
    16-bit depths, 1000). Without validation views of their own, test views serve: choose nothing by them.
    """
    background_of(background)
    if every < 0 or every == 1 or size < 0:
        raise DatasetError(f"every={every}, size={size}", "Give 0, or positive numbers; every is at least 2 or 0")
    capture = find_capture(path, every=every, layout=layout, per_metre=per_metre)
    if capture is None:
        return None
    for note in capture.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)  # shown once, though each split is opened by itself
    if size:
        capture = capture.reduced(size)
    rows: dict[str, Sequence[Mapping[str, Any]]] = {
        split: Rows(capture, indices, background, str(path)) for split, indices in capture.splits.items()
    }
    if "train" in rows:
        rows["train"] = Learning(capture, capture.splits["train"], background, str(path))
    return rows


class Rows(Sequence[Mapping[str, Any]]):
    """``{"cameras": one camera, "image": float32 (3, H, W), "capture": the path}`` of some photographs, read when asked for."""

    def __init__(self, capture: Capture, indices: np.ndarray, background: str, path: str) -> None:
        self.capture, self.indices, self.background, self.path = capture, indices, background, path
        files = [source for source in capture.sources if isinstance(source, Path)]
        self.base = os.path.commonpath([file.parent for file in files]) if files else ""

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        number = int(self.indices[index])
        source = self.capture.sources[number]
        return {
            KEY: os.path.relpath(source, self.base) if isinstance(source, Path) else str(number),
            "cameras": self.capture.cameras[number],
            "image": self.capture.image(number, self.background),
            "capture": self.path,
        }


class Learning(Rows):
    """Rows to learn from: raises InputError where nothing can be learnt from them."""

    def __len__(self) -> int:
        self.capture.learnable()
        return len(self.indices)


def find_capture(path: Path, *, every: int = 8, layout: str = "", per_metre: float = 1000.0) -> Capture | None:
    """The capture at a path; None where it is in none of the layouts. Raises InputError or MediaError."""
    if layout and layout not in LAYOUTS:
        raise InputError(f"layout={layout!r}", f"One of {', '.join(LAYOUTS)}")
    holder, root = None, path
    if path.is_file() and path.suffix.lower() == ".zip":
        holder = unpacked(path)
        root = innermost(Path(holder.name))
    for name, find in LAYOUTS.items():
        if layout in ("", name):
            found = find(root, per_metre) if name == "sequence" else find(root)
            if found:
                return _assembled(found, str(path), every, holder)
    return None


def read_capture(path: Path | str, *, every: int = 8, layout: str = "") -> Capture:
    """The capture at a path: a folder, a zip file of one, a ``transforms.json``, ``poses_bounds.npy`` or npz file.

    Cameras have poses from the camera to the world with OpenGL axes (x right, y up, looking along -z), whatever the file has;
    the world is the file's.

    ``every``: where the files name no test views, each so many-th is one; 0: all are both. Raises InputError or MediaError,
    also where it is in none of the layouts (:func:`reader`).
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise MediaError(f"there is no capture {path}", "Give a folder, a zip file or a transforms.json")
    capture = find_capture(place, every=every, layout=layout)
    if capture is None:
        count = len(pictures_in(place)) if place.is_dir() else 0
        raise MediaError(
            f"{path} is no capture{f': it has {count} photographs and no cameras' if count else ''}",
            "It needs a transforms.json, a COLMAP model in sparse/0, poses_bounds.npy or cameras.npz; structure from motion "
            "finds cameras: python -m stzoo_reconstruction.sfm PHOTOS OUTPUT",
        )
    return capture


def points_of(capture: Capture | Path | str) -> Points | None:
    """Points of a capture, or of the one at a path, in the axes and units of its cameras' world (:meth:`Capture.points`)."""
    return (capture if isinstance(capture, Capture) else read_capture(capture)).points()


def _assembled(found: Found, origin: str, every: int, holder: Any) -> Capture:
    """The capture that a layout's files describe, its pictures' headers looked at."""
    kept, notes = _distinct(found)
    cameras, lenses = [], []
    for number in kept:
        camera, lens = _fitted(found.frames[number])
        cameras.append(camera)
        lenses.append(lens)
    places = {number: index for index, number in enumerate(kept)}
    splits = {
        name: np.array([places[number] for number in numbers if number in places])
        for name, numbers in found.splits.items()
    }
    return Capture(
        tuple(found.frames[number].picture for number in kept),
        Cameras.joined(cameras),
        divided({name: numbers for name, numbers in splits.items() if len(numbers)}, len(kept), every),
        tuple(lenses) if any(lenses) else (),
        found.points,
        (*found.notes, *notes),
        origin,
        holder,
    )


def divided(splits: dict[str, np.ndarray], count: int, every: int) -> dict[str, np.ndarray]:
    """Splits as the files give them; without test views, every so many-th training view is one (of two both are both), and
    without validation views test views are those."""
    rest = np.setdiff1d(np.arange(count), np.concatenate([*splits.values(), []]))
    if "train" not in splits and len(rest):
        splits["train"] = rest
    if "test" not in splits:
        pool = splits.get("train", splits.get("validation", rest))
        held = np.arange(len(pool)) % every == 0 if every and len(pool) > 2 else np.ones(len(pool), bool)
        splits["test"] = pool[held]
        if "train" in splits and not held.all():
            splits["train"] = pool[~held]
    splits.setdefault("validation", splits["test"])
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits}


def _distinct(found: Found) -> tuple[list[int], list[str]]:
    """Numbers of the frames without repeated ones, and what is to be said about that. Raises InputError or MediaError."""
    numbers: dict[Path, int] = {}
    by_size: dict[int, list[Path]] = {}
    notes = []
    for number, frame in enumerate(found.frames):
        if not frame.picture.is_file():
            raise MediaError(f"there is no photograph {frame.picture}", "Put it there, or take its camera out")
        first = numbers.setdefault(frame.picture, number)
        if first != number:
            if not np.allclose(found.frames[first].pose, frame.pose, atol=1e-6):
                raise InputError(
                    f"the photograph {frame.picture} is there twice, with different poses", "Leave the wrong one out"
                )
            notes.append(f"{frame.picture.name} is there twice, and counts once")
        else:
            by_size.setdefault(frame.picture.stat().st_size, []).append(frame.picture)
    same = []
    for pictures in (group for group in by_size.values() if len(group) > 1):
        contents: dict[str, Path] = {}
        for picture in pictures:
            other = contents.setdefault(_digest(picture), picture)
            if other != picture:
                same.append(f"{other.name} and {picture.name}")
    if same:
        notes.append(f"{same[0]}{f' (and {len(same) - 1} more)' if same[1:] else ''} are the same picture twice")
    return list(numbers.values()), notes


def _digest(path: Path) -> str:
    with readable(path, "a picture"), path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _fitted(frame: Frame) -> tuple[Cameras, tuple[Lens, np.ndarray, float] | None]:
    """The camera of a frame at the size of its picture, straightened, and how."""
    height, width = _header_size(frame.picture)
    stated = frame.size or (height, width)
    if min(stated) < 1:
        raise InputError(
            f"the camera of {frame.picture} is for a picture of {stated[1]}x{stated[0]} pixels", "Correct its size"
        )
    if (height, width) != stated:
        across, down = width / stated[1], height / stated[0]
        if abs(across * stated[0] - height) > 1.5 and abs(down * stated[1] - width) > 1.5:
            raise InputError(
                f"{frame.picture} has {width}x{height} pixels, its intrinsics are for {stated[1]}x{stated[0]}: "
                "the shapes differ",
                "Was it cropped or turned? Give the photographs the cameras were found for, or scaled copies of them",
            )
    try:
        camera = transforms.camera_of(frame, stated).fitted((height, width))
    except InputError as problem:
        text = problem.problem.replace("cameras: camera 0 ", "").replace("cameras: ", "")
        raise InputError(f"the camera of {frame.picture} {text}", problem.remedy) from problem
    if frame.lens is None:
        return camera, None
    own = camera.intrinsics[0]
    factor = frame.lens.zoom(own, height, width)
    longer = own * (factor, factor, 1, 1)
    straight = Cameras.of(camera.poses, longer, camera.sizes[0], camera.bounds[0])
    return straight, (frame.lens, own, factor)


def _header_size(path: Path) -> tuple[int, int]:
    from stzoo.media.decoding import File, opened_picture

    if path.stat().st_size == 0:
        raise MediaError(f"the photograph {path} is empty", "Is the file complete?")
    with opened_picture(File(path), "photograph", "decoded as a picture") as image:
        height, width = image.height, image.width
    if height * width > MAX_PIXELS:
        raise MediaError(f"the photograph {path} has {width}x{height} pixels", f"At most {MAX_PIXELS:,}: reduce it")
    return height, width


def premultiplied(pixels: np.ndarray) -> np.ndarray:
    """(3 or 4, H, W), colours times opacity."""
    return np.concatenate([pixels[:3] * pixels[3:], pixels[3:]]) if len(pixels) == 4 else pixels


def over(pixels: np.ndarray, background: str) -> np.ndarray:
    """(3, H, W) float32 in [0, 1]: premultiplied pixels (3 or 4, H, W) over a background."""
    if len(pixels) == 4:
        behind = np.array(background_of(background), np.float32)[:, None, None]
        pixels = (pixels[:3] + (1 - pixels[3:]) * behind).clip(0, 1)
    return np.ascontiguousarray(pixels, dtype=np.float32)


def pixels_of(path: Path) -> np.ndarray:
    """(3 or 4, H, W) in [0, 1] as stored, without turning it by its EXIF header."""
    from stzoo.media.decoding import File, from_pil, opened_picture

    with opened_picture(File(path), "photograph", "decoded as a picture") as image:
        array = from_pil(image, 4 if image.has_transparency_data else 3)
    return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)


def pack(capture: Capture, path: Path) -> None:
    """Write a capture as a zip file: its pictures, and a ``transforms.json`` that names them."""
    from stzoo.media import to_pil

    content = json.loads(transforms.transforms_text(capture.cameras))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, frame in enumerate(content["frames"]):
            frame["file_path"] = f"images/{index:04d}.png"
            data = io.BytesIO()
            to_pil(np.clip(capture.image(index), 0, 1)).save(data, "PNG")
            archive.writestr(frame["file_path"], data.getvalue())
        archive.writestr("transforms.json", json.dumps(content))
