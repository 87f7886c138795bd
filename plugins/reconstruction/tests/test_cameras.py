"""Cameras: conventions, home views and paths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stzoo_reconstruction.cameras import (
    FAR,
    Cameras,
    centre_of,
    checked_home,
    flipped,
    home_of,
    interpolated,
    look_at,
    orbit,
    standard_home,
    up_of,
)
from stzoo_reconstruction.captures import read_capture

SCRIPT = Path(__file__).parents[1] / "cow_views.py"


def ring(count: int = 12, *, height: float = 2.0, about: tuple[float, float, float] = (0, 0, 0)) -> Cameras:
    """Cameras on a circle of radius 4, z up, looking at ``about``."""
    angles = 2 * np.pi * np.arange(count) / count
    places = np.stack([4 * np.cos(angles), 4 * np.sin(angles), np.full(count, height)], axis=1) + about
    poses = np.stack([look_at(place, about, (0, 0, 1)) for place in places])
    return Cameras.of(poses, (50, 52, 31, 25), (48, 64), (1.0, 9.0))


def test_the_camera_looks_along_minus_z_with_y_up() -> None:
    """At (0, 0, 4) without rotation: x right and y up in the picture, rows run down, the corner of the picture is (0, 0)."""
    pose = np.eye(4)
    pose[2, 3] = 4
    camera = Cameras.of(pose[None], (50, 50, 32, 24), (48, 64))
    pixels, depths = camera.project([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 5)])
    np.testing.assert_allclose(pixels[0, :3], [(32, 24), (44.5, 24), (32, 11.5)])
    np.testing.assert_allclose(depths[0], (4, 4, 4, -1))
    np.testing.assert_allclose(camera.directions, [(0, 0, -1)])
    local = camera.world_to_camera()[0] @ (0, 1, 0, 1)  # OpenCV: y down, z forwards
    np.testing.assert_allclose(local, (0, -1, 4, 1))
    np.testing.assert_allclose(camera.matrices()[0] @ local[:3] / 4, (32, 11.5, 1))
    np.testing.assert_allclose(flipped(flipped(pose)), pose)


def test_the_array_holds_all_numbers_in_the_stated_order() -> None:
    cameras = ring(3)
    assert cameras.array.shape == cameras.shape == (3, 24)
    np.testing.assert_array_equal(cameras.array[1, :16].reshape(4, 4), cameras.poses[1])
    assert cameras.array[1, 16:].tolist() == [50, 52, 31, 25, 48, 64, 1, 9]
    np.testing.assert_array_equal(Cameras.from_array(cameras.array).array, cameras.array)
    np.testing.assert_array_equal(np.asarray(cameras[1:]), cameras.array[1:])
    assert [len(item) for item in cameras] == [1, 1, 1] and len(cameras[[0, 2]]) == 2 and len(cameras[-1]) == 1
    with pytest.raises(IndexError):
        cameras[3]


def test_resizing_keeps_what_is_seen_where() -> None:
    cameras = ring(2).resized(0.5)
    assert cameras.sizes.tolist() == [[24, 32], [24, 32]]
    np.testing.assert_allclose(cameras.intrinsics[0], (25, 26, 15.5, 12.5))
    odd = ring(1).resized(0.33)  # 15.84 x 21.12 pixels
    np.testing.assert_allclose(odd.intrinsics[0] / (50, 52, 31, 25), np.tile((21 / 64, 16 / 48), 2))
    assert ring(1).resized(1e-9).sizes.tolist() == [[1, 1]]


def test_a_home_view_is_one_of_the_cameras_with_the_centre_and_up() -> None:
    cameras = ring(about=(1, 2, 3))
    home = home_of(cameras)
    camera, centre, up = checked_home(home)
    assert len(home) == 30 and camera.array[0].tolist() in cameras.array.tolist()
    np.testing.assert_allclose(centre, (1, 2, 3), atol=1e-9)
    np.testing.assert_allclose(up, (0, 0, 1), atol=1e-9)
    json.dumps(home, allow_nan=False)
    unknown = Cameras.of(cameras.poses, cameras.intrinsics, cameras.sizes)
    assert home_of(unknown)[22:24] == (0, FAR)


def test_cameras_that_look_the_same_way_have_a_centre_before_them() -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = np.linspace(-1, 1, 5)
    cameras = Cameras.of(poses, (50, 50, 32, 24), (48, 64))
    np.testing.assert_allclose(centre_of(cameras), (0, 0, -4))
    np.testing.assert_allclose(up_of(cameras), (0, 1, 0))
    known = Cameras.of(poses, (50, 50, 32, 24), (48, 64), (2, 8))
    np.testing.assert_allclose(centre_of(known), (0, 0, -4))
    np.testing.assert_allclose(centre_of(cameras[0]), poses[0, :3, 3] - (0, 0, 4))


def test_an_orbit_keeps_the_centre_in_place_and_the_distance() -> None:
    home = home_of(ring())
    camera, centre, _ = checked_home(home)
    np.testing.assert_allclose(orbit(home).array[0], camera.array[0], atol=1e-12)
    views = orbit(home, 8)
    np.testing.assert_allclose(views.project(centre[None])[0][:, 0], np.tile((31, 25), (8, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(views.positions, axis=1), 20**0.5)
    quarter = views.positions[2]
    start = camera.positions[0]
    np.testing.assert_allclose(quarter, (-start[1], start[0], start[2]), atol=1e-9)  # counter-clockwise from above
    higher = orbit(home, azimuth=30, elevation=20, zoom=2)
    angle = np.degrees(np.arcsin(higher.positions[0, 2] / 20**0.5))
    assert angle == pytest.approx(np.degrees(np.arctan(0.5)) + 20)
    assert higher.intrinsics[0].tolist() == [100, 104, 31, 25]
    steepest = orbit(home, elevation=90)
    assert np.degrees(np.arcsin(steepest.positions[0, 2] / 20**0.5)) == pytest.approx(89)
    np.testing.assert_allclose(orbit((), 1).array[0], standard_home()[:24], atol=1e-9)


def test_a_path_turns_at_constant_speed_through_all_cameras() -> None:
    cameras = ring(4, height=0)
    path = interpolated(cameras, 31)
    np.testing.assert_allclose(path.array[[0, 10, 20, 30]], cameras.array, atol=1e-9)
    turns = [
        np.degrees(np.arccos((np.trace(a.T @ b) - 1) / 2))
        for a, b in zip(path.poses[:, :3, :3], path.poses[1:, :3, :3], strict=False)
    ]
    np.testing.assert_allclose(turns, 9, atol=1e-6)
    assert len(interpolated(cameras[0], 5)) == 5


def test_the_meshs_views_show_it_where_its_cameras_are(tmp_path: Path) -> None:
    """A square in front of a larger one, with a texture of two colours."""
    (tmp_path / "mesh.obj").write_text(
        "mtllib mesh.mtl\n"
        "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nv -1 -1 -1\nv 1 -1 -1\nv 1 1 -1\nv -1 1 -1\n"
        "vt 0.25 0.5\nvt 0.75 0.5\n"
        "f 1/1 2/1 3/1\nf 1/1 3/1 4/1\nf 6/2 5/2 8/2\nf 6/2 8/2 7/2\n"
    )
    (tmp_path / "mesh.mtl").write_text("newmtl m\nmap_Kd t.png\n")
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(8, 0).repeat(8, 1)).save(tmp_path / "t.png")
    command = [
        sys.executable,
        str(SCRIPT),
        str(tmp_path / "mesh.obj"),
        str(tmp_path / "out"),
        "--views",
        "9",
        "--size",
        "32",
    ]
    subprocess.run(command, check=True, capture_output=True)
    capture = read_capture(tmp_path / "out")
    assert {name: len(part) for name, part in capture.splits.items()} == {"train": 7, "validation": 2, "test": 2}
    centre = np.array([0, 0.5, 0]) * 1.2 / np.linalg.norm([1, 1, 0.5])  # the red side's z of the mesh is -y
    checked = 0
    for index, camera in enumerate(capture.cameras):
        (pixel,), (depth,) = camera.project([-centre])[0][0], camera.project([-centre])[1]
        faces = camera.positions[0, 1] < -2
        colour = capture.image(index)[:, int(pixel[1]), int(pixel[0])]
        if faces:  # the red side is turned to the camera, and hides the blue one
            assert depth > 3 and colour[0] > 0.4 and colour[2] < 0.05
            checked += 1
    assert checked >= 2
