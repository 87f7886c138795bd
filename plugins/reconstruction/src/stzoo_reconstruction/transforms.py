"""``transforms.json``: Blender's synthetic scenes (NeRF), instant-ngp, nerfstudio; and the paths of nerfstudio's viewer.

All hold camera-to-world matrices with OpenGL axes (x right, y up, looking along -z), in pixels with the origin at the top-left
corner. nerfstudio's ``applied_transform`` and instant-ngp's ``aabb_scale`` say where the world came from or reaches to; poses
and points of one file share its world, so that neither changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import MediaError
from stzoo_reconstruction.cameras import Cameras
from stzoo_reconstruction.frames import Found, Frame, Points, inside, picture_of, read_json
from stzoo_reconstruction.lenses import Lens

PARTS = {"train": "train", "val": "validation", "test": "test"}
CLOUDS = ("points3d.ply", "points3D.ply", "sparse_pc.ply")
LENSES = ("k1", "k2", "k3", "k4", "p1", "p2")
PINHOLES = ("", "PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


def find(path: Path) -> Found | None:
    """The capture of a ``transforms.json``, or of a folder with one, or with ``transforms_train.json`` and its like."""
    if path.is_file():
        if path.suffix.lower() != ".json":
            return None
        part = path.stem.removeprefix("transforms_")
        files = [path] if part not in PARTS else _parts(path.parent)
        root = path.parent
    else:
        root = path
        files = [path / "transforms.json"] if (path / "transforms.json").is_file() else _parts(path)
    if not files:
        return None
    found = Found([])
    clouds: list[str] = []
    for file in files:
        _add(found, file, root, clouds)
    if not found.frames:
        raise MediaError(f"{files[0]} has no frames with pictures", "Are the photographs beside it?")
    names = [inside(root, name, files[0]) for name in clouds] + [root / name for name in CLOUDS]
    found.points = lambda: _cloud(next((place for place in names if place.is_file()), None))
    return found


def _parts(root: Path) -> list[Path]:
    return [file for file in (root / f"transforms_{part}.json" for part in PARTS) if file.is_file()]


def _add(found: Found, file: Path, root: Path, clouds: list[str]) -> None:
    """The frames of one file, with the splits it gives."""
    text = read_json(file)
    frames = _frames(text, file)
    if isinstance(name := text.get("ply_file_path"), str):
        clouds.append(name)
    part = PARTS.get(file.stem.removeprefix("transforms_"))
    listed = {
        split: {str(name) for name in text[f"{key}_filenames"]}
        for key, split in PARTS.items()
        if isinstance(text.get(f"{key}_filenames"), list)
    }
    made, missing, lost = [], [], []
    for index, frame in enumerate(frames):
        where = f"{file}: frame {index}"
        name = frame.get("file_path")
        if not isinstance(name, str) or not name:
            raise MediaError(f"{where} has no file_path", "It names the picture, relative to the file")
        if frame.get("transform_matrix") is None:
            lost.append(name)
            continue
        picture = picture_of(root, name, file)
        if not picture.is_file():
            missing.append(picture)
        made.append((name, _frame({**text, **frame}, picture, where)))
    if missing and part and len(missing) == len(made) == len(frames):
        found.notes.append(f"{file.name} is left out: none of its {len(missing)} pictures is there")
        return
    if missing:
        raise MediaError(
            f"{file} names {len(missing)} pictures of {len(frames)} that are not there, such as {missing[0]}",
            "Put them there, or take their frames out of the file",
        )
    if lost:
        found.notes.append(f"{len(lost)} of {len(frames)} photographs have no pose ({lost[0]} …) and are left out")
    first = len(found.frames)
    found.frames += [frame for _, frame in made]
    if part:
        found.splits[part] = list(range(first, len(found.frames)))
    for split, names in listed.items():
        chosen = [first + index for index, (name, _) in enumerate(made) if name in names]
        if chosen:
            found.splits[split] = chosen


def _frames(text: Mapping[str, Any], file: Path) -> list[Mapping[str, Any]]:
    frames = text.get("frames")
    if not isinstance(frames, list) or not frames:
        raise MediaError(f"{file} has no frames", 'It needs "frames": [{"file_path", "transform_matrix"}, …]')
    if wrong := [index for index, frame in enumerate(frames) if not isinstance(frame, dict)]:
        raise MediaError(f"{file}: frame {wrong[0]} is no object", 'Give {"file_path", "transform_matrix"}')
    return frames


def _frame(values: Mapping[str, Any], picture: Path, where: str) -> Frame:
    """A frame from its own values and, where it has none, those of the file."""
    model = str(values.get("camera_model", "")).upper()
    numbers = {key: _number(values, key, where) for key in LENSES}
    if model in ("OPENCV_FISHEYE", "FISHEYE"):
        lens: Lens | None = Lens(tuple(numbers[key] or 0.0 for key in LENSES[:4]), fisheye=True)
    elif model in PINHOLES:
        k1, k2, k3, k4, p1, p2 = (numbers[key] or 0.0 for key in LENSES)
        lens = Lens((k1, k2, k3, k4), (p1, p2))
    else:
        raise MediaError(f"{where}: camera_model {model!r} is no camera that is known", "Known: OPENCV, OPENCV_FISHEYE")
    size = _size(values, where)
    focal = _number(values, "fl_x", where) or _number(values, "fl_y", where)
    frame = Frame(picture, _pose(values["transform_matrix"], where), size=size, lens=None if lens.straight else lens)
    if focal:
        centre = [_number(values, key, where) for key in ("cx", "cy")]
        if size is None and None in centre:
            raise MediaError(f"{where} has fl_x, but neither w and h nor cx and cy", "Add them")
        middle = (size[1] / 2, size[0] / 2) if size else (0.0, 0.0)
        at = [given if given is not None else half for given, half in zip(centre, middle, strict=True)]
        frame.intrinsics = (focal, _number(values, "fl_y", where) or focal, *at)
        return frame
    angle = _number(values, "camera_angle_x", where)
    if angle is None:
        raise MediaError(f"{where} has no focal length", "Give fl_x in pixels, or camera_angle_x in radians")
    across = _number(values, "camera_angle_y", where)
    if not 0 < angle < np.pi or (across is not None and not 0 < across < np.pi):
        raise MediaError(f"{where}: a field of view of {angle:g} radians", "camera_angle_x is between 0 and pi")
    frame.angle = (angle, across)
    return frame


def _number(values: Mapping[str, Any], key: str, where: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise MediaError(f"{where}: {key} is {value!r}", "Give a finite number")
    return float(value)


def _size(values: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    height, width = (_number(values, key, where) for key in ("h", "w"))
    if height is None or width is None:
        return None
    if height < 1 or width < 1 or height % 1 or width % 1:
        raise MediaError(f"{where}: a picture of w={width:g}, h={height:g}", "Give whole, positive numbers")
    return int(height), int(width)


def _pose(matrix: Any, where: str) -> np.ndarray:
    try:
        pose = np.asarray(matrix, dtype=np.float64)
    except (TypeError, ValueError):
        raise MediaError(f"{where}: transform_matrix holds what is no number") from None
    if pose.shape not in ((4, 4), (3, 4)):
        raise MediaError(f"{where}: transform_matrix of shape {pose.shape}", "Give 4x4, camera to world")
    return pose if pose.shape == (4, 4) else np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])


def _cloud(path: Path | None) -> Points | None:
    from stzoo.media.geometry import read_geometry

    if path is None:
        return None
    geometry = read_geometry(path, "points")
    return geometry["positions"], geometry.get("colours")


# --- cameras without pictures -----------------------------------------------------------------------------------------


def path_cameras(file: Path) -> Cameras:
    """The cameras of a ``transforms.json`` that states sizes, or of a ``camera_path.json`` of nerfstudio's viewer."""
    text = read_json(file)
    if "camera_path" in text:
        return _viewer_path(text, file)
    cameras = []
    for index, values in enumerate(_frames(text, file)):
        where = f"{file}: frame {index}"
        values = {**text, **values}
        if values.get("transform_matrix") is None:
            raise MediaError(f"{where} has no transform_matrix", "Give 4x4, camera to world")
        frame = _frame(values, file, where)
        if frame.size is None and isinstance(name := values.get("file_path"), str):
            frame.picture = picture_of(file.parent, name, file)
        cameras.append(camera_of(frame, frame.size or _header(frame.picture, file, where)))
        near, far = (_number(values, key, where) for key in ("near", "far"))
        if near is not None and far is not None:
            cameras[-1] = Cameras.of(cameras[-1].poses, cameras[-1].intrinsics, cameras[-1].sizes, (near, far))
    return Cameras.joined(cameras)


def _header(picture: Path, file: Path, where: str) -> tuple[int, int]:
    from PIL import Image

    if picture == file or not picture.is_file():
        raise MediaError(f"{where} states no size, and its picture is not there", "Add w and h in pixels")
    with Image.open(picture) as image:
        return image.height, image.width


def camera_of(frame: Frame, size: tuple[int, int]) -> Cameras:
    """The camera of one frame whose picture has ``size`` (height, width)."""
    height, width = size
    intrinsics = frame.intrinsics
    if intrinsics is None:
        angle, across = frame.angle or (1.0, None)
        focal = 0.5 * width / np.tan(0.5 * angle)
        intrinsics = (focal, 0.5 * height / np.tan(0.5 * across) if across else focal, width / 2, height / 2)
    return Cameras.of(np.asarray(frame.pose)[None], intrinsics, size, frame.bounds)


def _viewer_path(text: Mapping[str, Any], file: Path) -> Cameras:
    steps = text["camera_path"]
    if not isinstance(steps, list) or not steps:
        raise MediaError(f"{file}: camera_path is empty", "Add cameras in the viewer")
    height, width = _number(text, "render_height", str(file)), _number(text, "render_width", str(file))
    size = _size({"h": height or 480, "w": width or 640}, str(file)) or (480, 640)
    made = []
    for index, step in enumerate(steps):
        where = f"{file}: camera {index}"
        matrix = step.get("camera_to_world") if isinstance(step, dict) else None
        if not isinstance(matrix, list) or len(matrix) != 16:
            raise MediaError(f"{where} has no camera_to_world of 16 numbers")
        angle = _number(step, "fov", where) or 50.0  # of the height, in degrees
        focal = 0.5 * size[0] / np.tan(np.radians(angle) / 2)
        pose = _pose(np.asarray(matrix, dtype=object).reshape(4, 4).tolist(), where)
        made.append(Cameras.of(pose[None], (focal, focal, size[1] / 2, size[0] / 2), size))
    return Cameras.joined(made)


def transforms_text(cameras: Cameras) -> str:
    """The cameras as a ``transforms.json`` that :func:`path_cameras` reads back."""
    frames = []
    for row in cameras.array:
        values = dict(zip(("fl_x", "fl_y", "cx", "cy"), row[16:20].tolist(), strict=True))
        values |= {"h": int(row[20]), "w": int(row[21])}
        if np.isfinite(row[23]):
            values |= {"near": float(row[22]), "far": float(row[23])}
        frames.append({**values, "transform_matrix": row[:16].reshape(4, 4).tolist()})
    return json.dumps({"camera_model": "PINHOLE", "frames": frames}, indent=1) + "\n"
