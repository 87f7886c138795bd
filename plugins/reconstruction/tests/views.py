"""Pinhole cameras written down independently of the code under test, and captures of them in every layout.

A camera is its right, down and forward axes, its position, and fx, fy, cx, cy: a point p is seen at
x = fx (p - o).right / (p - o).forward + cx, and y likewise with down.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

HEIGHT, WIDTH = 24, 32
POINTS = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.4, 0], [0, 0, 0.5], [-0.2, 0.3, -0.4]], float)


@dataclass
class View:
    right: np.ndarray
    down: np.ndarray
    forward: np.ndarray
    position: np.ndarray
    intrinsics: tuple[float, float, float, float]

    def pixels(self, points: np.ndarray = POINTS) -> np.ndarray:
        fx, fy, cx, cy = self.intrinsics
        offset = points - self.position
        depth = offset @ self.forward
        return np.stack([fx * (offset @ self.right) / depth + cx, fy * (offset @ self.down) / depth + cy], axis=1)

    @property
    def opengl(self) -> np.ndarray:
        return self._pose(self.right, -self.down, -self.forward)

    @property
    def opencv(self) -> np.ndarray:
        return self._pose(self.right, self.down, self.forward)

    def _pose(self, *columns: np.ndarray) -> np.ndarray:
        pose = np.eye(4)
        pose[:3] = np.stack([*columns, self.position], axis=1)
        return pose


def views(count: int = 4, *, same_focal: bool = False, centred: bool = False) -> list[View]:
    """Cameras around the origin, each with a roll of its own."""
    made = []
    for index in range(count):
        forward = -np.array([np.cos(1.3 * index), np.sin(1.3 * index), 0.4 + 0.1 * index])
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.1 * index, 0.2, 1.0])
        right /= np.linalg.norm(right)
        position = -(3 + 0.2 * index) * forward + 0.1 * right
        focal = 40.0 if same_focal else 40.0 + index
        centre = (WIDTH / 2, HEIGHT / 2) if centred else (15.0 + 0.5 * index, 12.5)
        fy = focal if centred else focal * 1.02
        made.append(View(right, np.cross(forward, right), forward, position, (focal, fy, *centre)))
    return made


def photograph(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def photographs(folder: Path, count: int) -> None:
    for index in range(count):
        photograph(folder / f"{index:03d}.png", index)


def blender(root: Path, made: list[View], part: str = "train") -> dict:
    """transforms_PART.json, pictures without ending, one field of view for all."""
    frames = []
    for index, view in enumerate(made):
        photograph(root / part / f"r_{index}.png", index + 10 * ("train", "val", "test").index(part))
        frames.append({"file_path": f"./{part}/r_{index}", "transform_matrix": view.opengl.tolist()})
    text = {"camera_angle_x": 2 * np.arctan(WIDTH / 2 / made[0].intrinsics[0]), "frames": frames}
    (root / f"transforms_{part}.json").write_text(json.dumps(text))
    return text


def nerfstudio(root: Path, made: list[View], **extra: object) -> dict:
    """transforms.json with intrinsics of each frame."""
    photographs(root / "images", len(made))
    frames = [
        dict(zip(("fl_x", "fl_y", "cx", "cy"), view.intrinsics, strict=True))
        | {"file_path": f"images/{index:03d}.png", "transform_matrix": view.opengl.tolist()}
        for index, view in enumerate(made)
    ]
    text = {"w": WIDTH, "h": HEIGHT, "camera_model": "OPENCV", "frames": frames} | extra
    (root / "transforms.json").write_text(json.dumps(text))
    return text


def _colmap_rows(made: list[View]) -> list[tuple[list[float], list[float]]]:
    rows = []
    for view in made:
        rotation = np.stack([view.right, view.down, view.forward])  # world to camera
        quaternion = Rotation.from_matrix(rotation).as_quat()[[3, 0, 1, 2]]
        rows.append((quaternion.tolist(), (-rotation @ view.position).tolist()))
    return rows


def colmap_text(root: Path, made: list[View], model: str = "sparse/0", names: str = "{:03d}.png") -> Path:
    place = root / model
    place.mkdir(parents=True, exist_ok=True)
    photographs(root / "images", len(made))
    cameras = [
        f"{index + 1} PINHOLE {WIDTH} {HEIGHT} " + " ".join(map(repr, view.intrinsics))
        for index, view in enumerate(made)
    ]
    (place / "cameras.txt").write_text("# Camera list\n" + "\n".join(cameras) + "\n")
    lines = ["# Image list"]
    for index, (view, (rotation, translation)) in enumerate(zip(made, _colmap_rows(made), strict=True)):
        numbers = " ".join(map(repr, [*rotation, *translation]))
        lines.append(f"{index + 1} {numbers} {index + 1} {names.format(index)}")
        lines.append(" ".join(f"{x} {y} {point + 1}" for point, (x, y) in enumerate(view.pixels())) if index else "")
    (place / "images.txt").write_text("\n".join(lines) + "\n")
    points = [f"{index + 1} {x} {y} {z} 255 51 0 0.5 1 0 2 0" for index, (x, y, z) in enumerate(POINTS)]
    (place / "points3D.txt").write_text("\n".join(points) + "\n")
    return place


def colmap_binary(root: Path, made: list[View], model: str = "sparse/0") -> Path:
    place = root / model
    place.mkdir(parents=True, exist_ok=True)
    photographs(root / "images", len(made))
    cameras = struct.pack("<Q", len(made))
    images = struct.pack("<Q", len(made))
    for index, (view, (rotation, translation)) in enumerate(zip(made, _colmap_rows(made), strict=True)):
        cameras += struct.pack("<iiQQ4d", index + 1, 1, WIDTH, HEIGHT, *view.intrinsics)
        images += struct.pack("<i7di", index + 1, *rotation, *translation, index + 1) + f"{index:03d}.png\0".encode()
        images += struct.pack("<Q", len(POINTS))
        for point, (x, y) in enumerate(view.pixels()):
            images += struct.pack("<ddq", x, y, point + 1)
    points = struct.pack("<Q", len(POINTS))
    for index, point in enumerate(POINTS):
        points += struct.pack("<Q3d3Bd", index + 1, *point, 255, 51, 0, 0.5) + struct.pack("<Qii", 1, 1, 0)
    (place / "cameras.bin").write_bytes(cameras)
    (place / "images.bin").write_bytes(images)
    (place / "points3D.bin").write_bytes(points)
    (place / "rigs.bin").write_bytes(b"")  # newer versions write these too
    (place / "frames.bin").write_bytes(b"")
    return place


def llff(root: Path, made: list[View]) -> None:
    """poses_bounds.npy: columns down, right, backwards."""
    photographs(root / "images", len(made))
    rows = []
    for view in made:
        columns = [view.down, view.right, -view.forward, view.position, np.array([HEIGHT, WIDTH, view.intrinsics[0]])]
        rows.append([*np.stack(columns, axis=1).ravel(), 1.5, 9.0])
    np.save(root / "poses_bounds.npy", np.array(rows))


def npz_opengl(root: Path, made: list[View]) -> None:
    photographs(root / "images", len(made))
    fx, fy, cx, cy = made[0].intrinsics
    np.savez(root / "cameras.npz", pose=np.stack([view.opengl for view in made]), fl=(fx, fy), c=(cx, cy))


def npz_opencv(root: Path, made: list[View]) -> None:
    photographs(root / "rgb", len(made))
    fx, fy, cx, cy = made[0].intrinsics
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    np.savez(root / "cameras.npz", pose=np.stack([view.opencv for view in made]), K=matrix)


def recording(root: Path, made: list[View]) -> None:
    """pose.txt and intrinsics.txt, with depth pictures of a wall that stands 2 m before each camera."""
    photographs(root / "color", len(made))
    lines = []
    for index, view in enumerate(made):
        quaternion = Rotation.from_matrix(view.opencv[:3, :3]).as_quat()
        lines.append(" ".join(map(repr, [*view.position.tolist(), *quaternion.tolist()])))
        (root / "depth").mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 2000, np.uint16)).save(root / "depth" / f"{index:03d}.png")
    (root / "pose.txt").write_text("\n".join(lines) + "\n")
    (root / "intrinsics.txt").write_text(" ".join(map(repr, made[0].intrinsics)) + "\n")
