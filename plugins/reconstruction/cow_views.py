"""Pictures of a textured mesh from known cameras, as a capture in Blender's format: `python cow_views.py MESH.obj OUTPUT`.

The mesh (OBJ with triangles, texture coordinates and one texture; y up) is centred, turned to z up and scaled to a radius of
1.2. Cameras stand on a sphere of radius 4, spread by the golden angle, look at the middle and see Blender's usual field of view
of 39.6 degrees. Every eighth view is a test view. Pictures are RGBA, transparent around the object; each pixel is the mean of
4x4 samples. Light falls from one fixed side, so that a point has one colour from all sides. Nothing is drawn at random.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from stzoo_reconstruction.cameras import Cameras, look_at

ANGLE = 0.6911112
"""The horizontal field of view in radians (camera_angle_x)."""
LIGHT = np.array([0.35, -0.5, 0.8]) / np.linalg.norm([0.35, -0.5, 0.8])


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions (F, 3, 3), normals (F, 3, 3) and texture coordinates (F, 3, 2) of F triangles' corners, z up, and the
    texture (H, W, 3) in [0, 1]."""
    points, uv, faces, texture = [], [], [], None
    for line in path.read_text().splitlines():
        kind, *words = line.split() or ("",)
        if kind == "v":
            points.append([float(word) for word in words[:3]])
        elif kind == "vt":
            uv.append([float(word) for word in words[:2]])
        elif kind == "f":
            faces.append([[int(item) - 1 for item in word.split("/")[:2]] for word in words[:3]])
        elif kind == "mtllib":
            maps = [item.split()[1] for item in (path.parent / words[0]).read_text().splitlines() if "map_Kd" in item]
            texture = np.asarray(Image.open(path.parent / maps[0]).convert("RGB"), np.float64) / 255
    if texture is None:
        raise SystemExit(f"{path} names no material with a texture (map_Kd)")
    index = np.array(faces)
    vertices = np.array(points) @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x, y, z -> x, -z, y
    vertices -= (vertices.min(0) + vertices.max(0)) / 2
    vertices *= 1.2 / np.linalg.norm(vertices, axis=1).max()
    corners = vertices[index[..., 0]]
    normals = np.zeros_like(vertices)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.add.at(normals, index[..., 0], across[:, None])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return corners, normals[index[..., 0]], np.array(uv)[index[..., 1]], texture


def draw(mesh: tuple[np.ndarray, ...], camera: Cameras, samples: int = 4) -> np.ndarray:
    """The view of one camera, uint8 (H, W, 4), colours not multiplied by alpha."""
    corners, normals, uv, texture = mesh
    camera = camera.resized(samples)
    height, width = camera.sizes[0].astype(int)
    pixels, depths = camera.project(corners.reshape(-1, 3))
    pixels, inverse = pixels[0].reshape(-1, 3, 2), 1 / depths[0].reshape(-1, 3)
    nearest, owner = np.zeros((height, width)), np.full((height, width), -1)
    shares = np.zeros((height, width, 3))
    for face, (triangle, closeness) in enumerate(zip(pixels, inverse, strict=True)):
        (left, top), (right, bottom) = np.floor(triangle.min(0)).astype(int), np.ceil(triangle.max(0)).astype(int)
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            continue
        one, two = triangle[1] - triangle[0], triangle[2] - triangle[0]
        area = one[0] * two[1] - one[1] * two[0]
        if area >= -1e-12:  # seen from behind (y runs down)
            continue
        x, y = np.arange(left, right) + 0.5 - triangle[0, 0], np.arange(top, bottom)[:, None] + 0.5 - triangle[0, 1]
        second, third = (x * two[1] - y * two[0]) / area, (one[0] * y - one[1] * x) / area
        weights = np.stack([1 - second - third, second, third], axis=-1)
        depth = weights @ closeness  # 1 / z is linear in the picture
        place = slice(top, bottom), slice(left, right)
        seen = (weights >= 0).all(-1) & (depth > nearest[place])
        nearest[place][seen], owner[place][seen] = depth[seen], face
        shares[place][seen] = (weights * closeness / depth[..., None])[seen]
    hit = owner >= 0
    faces, shares = owner[hit], shares[hit][..., None]
    normal = (normals[faces] * shares).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    light = 0.6 + 0.4 * (normal @ LIGHT)
    image = np.zeros((height, width, 4))
    image[hit] = np.concatenate(
        [_texel(texture, (uv[faces] * shares).sum(1)) * light[:, None], np.ones_like(light)[:, None]], 1
    )
    small = image.reshape(height // samples, samples, width // samples, samples, 4).mean((1, 3))
    small[..., :3] /= np.maximum(small[..., 3:], 1e-9)
    return np.rint(small.clip(0, 1) * 255).astype(np.uint8)


def _texel(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """The texture at (N, 2) coordinates in [0, 1], v up; bilinear, repeated beyond."""
    height, width = texture.shape[:2]
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, down = (x - left)[:, None], (y - top)[:, None]
    rows, columns = (top % height, (top + 1) % height), (left % width, (left + 1) % width)
    upper = texture[rows[0], columns[0]] * (1 - right) + texture[rows[0], columns[1]] * right
    lower = texture[rows[1], columns[0]] * (1 - right) + texture[rows[1], columns[1]] * right
    return upper * (1 - down) + lower * down


def cameras(views: int, size: int) -> Cameras:
    """On a sphere of radius 4 about the origin, z up, from 37 degrees below the horizon to 72 above it."""
    index = np.arange(views)
    height = -0.6 + 1.55 * (index + 0.5) / views
    around = np.pi * (1 + 5**0.5) * index
    ring = np.sqrt(1 - height**2)
    places = 4 * np.stack([ring * np.cos(around), ring * np.sin(around), height], axis=1)
    focal = 0.5 * size / np.tan(0.5 * ANGLE)
    poses = np.stack([look_at(place, np.zeros(3), (0, 0, 1)) for place in places])
    return Cameras.of(poses, (focal, focal, size / 2, size / 2), (size, size), (2.5, 5.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mesh", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--views", type=int, default=50)
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    options = parser.parse_args()
    mesh, views = read_mesh(options.mesh), cameras(options.views, options.size)
    frames: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    for index, camera in enumerate(views):
        split = "train" if index % 8 else "test"
        name = f"./{split}/r_{len(frames[split])}"
        path = (options.output / name).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(mesh, camera)).save(path, optimize=True)
        frames[split].append({"file_path": name, "transform_matrix": camera.poses[0].tolist()})
    for split, listed in frames.items():
        text = json.dumps({"camera_angle_x": ANGLE, "frames": listed}, indent=1)
        (options.output / f"transforms_{split}.json").write_text(text + "\n")
        print(f"{split}: {len(listed)} views")


if __name__ == "__main__":
    main()
