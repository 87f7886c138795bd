"""Captures in every layout come back as the same cameras, points and splits."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from stzoo.errors import DependencyMissing, InputError
from stzoo.media.geometry import as_geometry, write_geometry
from stzoo.requirements import Requirements
from stzoo_reconstruction import captures, inputs, sfm
from stzoo_reconstruction.cameras import Cameras, look_at
from stzoo_reconstruction.captures import find_capture, points_of, read_capture, reader
from stzoo_reconstruction.fields import CameraPath, Views
from stzoo_reconstruction.lenses import Lens

_spec = importlib.util.spec_from_file_location("views", Path(__file__).with_name("views.py"))
assert _spec and _spec.loader
written = importlib.util.module_from_spec(_spec)
sys.modules["views"] = written
_spec.loader.exec_module(written)

HOTDOG = Path(__file__).parent / "data" / "hotdog"
ANY = Requirements()

LAYOUTS: dict[str, tuple[Callable[..., object], dict[str, bool]]] = {
    "blender": (written.blender, {"same_focal": True, "centred": True}),
    "nerfstudio": (written.nerfstudio, {}),
    "colmap-text": (written.colmap_text, {}),
    "colmap-binary": (written.colmap_binary, {}),
    "llff": (written.llff, {"centred": True}),
    "npz-opengl": (written.npz_opengl, {"same_focal": True}),
    "npz-opencv": (written.npz_opencv, {"same_focal": True}),
    "recording": (written.recording, {"same_focal": True}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_points_are_seen_at_the_pixels_that_axes_and_position_say(layout: str, tmp_path: Path) -> None:
    write, kind = LAYOUTS[layout]
    made = written.views(**kind)
    if layout in ("npz-opengl", "npz-opencv", "recording"):
        made = [written.View(v.right, v.down, v.forward, v.position, made[0].intrinsics) for v in made]
    write(tmp_path, made)
    capture = read_capture(tmp_path)
    pixels, depths = capture.cameras.project(written.POINTS)
    np.testing.assert_allclose(pixels, np.stack([view.pixels() for view in made]), atol=1e-4)
    np.testing.assert_allclose(capture.cameras.poses, np.stack([view.opengl for view in made]), atol=1e-6)
    assert (depths > 2).all()
    assert (capture.cameras.sizes == (written.HEIGHT, written.WIDTH)).all()
    expected = np.random.default_rng(2).integers(0, 256, (written.HEIGHT, written.WIDTH, 3), dtype=np.uint8)
    np.testing.assert_allclose(capture.image(2), expected.transpose(2, 0, 1) / 255, atol=1e-6)
    again = CameraPath("cameras").read(tmp_path, ANY)
    np.testing.assert_array_equal(again.array, capture.cameras.array)


@pytest.mark.parametrize("write", [written.colmap_text, written.colmap_binary])
def test_points_and_bounds_of_colmap_are_in_the_world_of_its_cameras(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    made = written.views()
    write(tmp_path, made)
    positions, colours = points_of(tmp_path) or (None, None)
    np.testing.assert_allclose(positions, written.POINTS)
    np.testing.assert_allclose(colours, np.tile([1.0, 0.2, 0.0], (5, 1)))
    bounds = read_capture(tmp_path).cameras.bounds[1]
    depth = (written.POINTS - made[1].position) @ made[1].forward
    np.testing.assert_allclose(bounds, np.percentile(depth, (0.1, 99.9)))


def test_the_largest_of_several_models_is_taken_and_what_is_registered_is_said(tmp_path: Path) -> None:
    written.photographs(tmp_path / "images", 6)
    written.colmap_text(tmp_path, written.views(2))
    written.colmap_binary(tmp_path, written.views(5), "sparse/1")
    capture = read_capture(tmp_path)
    assert len(capture) == 5
    assert capture.notes == ("5 of 6 photographs are registered in sparse/1, the largest of 2 models (the others: 2)",)


def test_points_of_nerfstudio_come_from_its_ply_file(tmp_path: Path) -> None:
    cloud = as_geometry({"positions": written.POINTS, "colours": np.full((5, 3), 0.2)})
    write_geometry(cloud, tmp_path / "sparse_pc.ply")
    written.nerfstudio(
        tmp_path, written.views(), ply_file_path="sparse_pc.ply", applied_transform=np.eye(4)[:3].tolist()
    )
    positions, colours = points_of(tmp_path) or (None, None)
    np.testing.assert_allclose(positions, written.POINTS, atol=1e-6)
    np.testing.assert_allclose(colours, 0.2, atol=1e-2)


def test_depth_pictures_give_points_where_the_camera_saw_them(tmp_path: Path) -> None:
    made = written.views(same_focal=True, centred=True)
    written.recording(tmp_path, made)
    positions, colours = points_of(tmp_path) or (None, None)
    assert positions is not None and colours is not None and colours.shape == positions.shape
    for view in made:  # each wall stands 2 m before its camera
        on_wall = np.abs((positions - view.position) @ view.forward - 2) < 2e-3
        assert on_wall.sum() >= written.HEIGHT * written.WIDTH * 0.9
    pixels = made[0].pixels(positions[: written.HEIGHT * written.WIDTH])
    np.testing.assert_allclose(pixels - np.floor(pixels), 0.5, atol=1e-3)


def test_splits_are_those_of_the_files_or_every_eighth_view(tmp_path: Path) -> None:
    rows = reader(HOTDOG, every=2)
    assert rows is not None and {name: len(part) for name, part in rows.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    first = rows["test"][0]
    assert first["__key__"] == "r_0.png" and first["image"].shape == (3, 64, 64) and first["capture"] == str(HOTDOG)
    assert isinstance(first["cameras"], Cameras) and len(first["cameras"]) == 1
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        written.blender(tmp_path, written.views(count, centred=True), part)
    assert {name: len(part) for name, part in (reader(tmp_path) or {}).items()} == {
        "train": 3,
        "validation": 2,
        "test": 1,
    }
    for picture in (tmp_path / "test").iterdir():
        picture.unlink()
    capture = read_capture(tmp_path)  # not downloaded: the others serve
    assert "transforms_test.json is left out" in capture.notes[0] and len(capture) == 5


@pytest.mark.parametrize(
    ("listed", "train", "validation", "test"),
    [
        ({"train": (0, 1, 2), "test": (3,)}, [0, 1, 2], [3], [3]),
        ({"test": (1, 2)}, [0, 3], [1, 2], [1, 2]),
        ({"val": (0,)}, [2, 3], [0], [1]),
        ({}, [1, 2, 3], [0], [0]),
    ],
)
def test_nerfstudio_names_its_splits(
    listed: dict[str, tuple[int, ...]], train: list[int], validation: list[int], test: list[int], tmp_path: Path
) -> None:
    names = {f"{part}_filenames": [f"images/{number:03d}.png" for number in those] for part, those in listed.items()}
    written.nerfstudio(tmp_path, written.views(), **names)
    splits = read_capture(tmp_path).splits
    assert {name: part.tolist() for name, part in splits.items()} == {
        "train": train,
        "validation": validation,
        "test": test,
    }


def test_of_two_views_both_are_learnt_from(tmp_path: Path) -> None:
    written.nerfstudio(tmp_path, written.views(2))
    assert {name: len(part) for name, part in read_capture(tmp_path).splits.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }


def test_keys_tell_pictures_of_one_name_in_different_folders_apart(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("test", 2)):
        written.blender(tmp_path, written.views(count, centred=True), part)
    rows = reader(tmp_path)
    assert rows and [rows[name][0]["__key__"] for name in ("train", "test")] == ["train/r_0.png", "test/r_0.png"]


def test_transparent_pictures_lie_over_the_background() -> None:
    capture = read_capture(HOTDOG)
    white, black = capture.image(0, "white"), capture.image(0, "black")
    assert white[:, 0, 0].tolist() == [1, 1, 1] and black[:, 0, 0].tolist() == [0, 0, 0]
    alpha = np.asarray(Image.open(HOTDOG / "train" / "r_0.png"))[..., 3] / 255
    np.testing.assert_allclose(white - black, np.broadcast_to(1 - alpha, (3, 64, 64)), atol=1e-5)


def test_scaled_copies_take_their_intrinsics_along(tmp_path: Path) -> None:
    made = written.views()
    written.nerfstudio(tmp_path, made)
    for index in range(4):
        written.photograph(tmp_path / "images" / f"{index:03d}.png", index, (16, 12))
    camera = read_capture(tmp_path).cameras[0]
    np.testing.assert_allclose(camera.intrinsics[0], np.array(made[0].intrinsics) / 2)
    np.testing.assert_allclose(camera.project(written.POINTS)[0][0], made[0].pixels() / 2, atol=1e-9)
    small = read_capture(tmp_path).reduced(8)
    assert small.image(1).shape == (3, 6, 8) and small.cameras.sizes[0].tolist() == [6, 8]
    row = (reader(tmp_path, size=8) or {})["train"][0]
    assert row["image"].shape == (3, 6, 8) and row["cameras"].sizes.tolist() == [[6, 8]]


def test_pictures_of_different_sizes_have_a_camera_each(tmp_path: Path) -> None:
    text = written.nerfstudio(tmp_path, written.views())
    written.photograph(tmp_path / "images" / "001.png", 1, (16, 12))
    text["frames"][1] |= {"w": 16, "h": 12, "cx": 8, "cy": 6}
    (tmp_path / "transforms.json").write_text(json.dumps(text))
    capture = read_capture(tmp_path)
    assert [capture.image(index).shape for index in (0, 1)] == [(3, 24, 32), (3, 12, 16)]


def test_exif_orientation_is_left_alone(tmp_path: Path) -> None:
    written.nerfstudio(tmp_path, written.views())
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    place = tmp_path / "images" / "000.png"
    Image.open(place).save(place, exif=exif)
    assert read_capture(tmp_path).image(0).shape == (3, written.HEIGHT, written.WIDTH)


@pytest.mark.parametrize(
    ("model", "values", "fisheye"),
    [
        ("OPENCV", {"k1": -0.2, "k2": 0.05, "p1": 0.01, "p2": -0.005}, False),
        ("OPENCV", {"k1": 0.15}, False),
        ("OPENCV_FISHEYE", {"k1": 0.03, "k2": -0.01, "k3": 0.002, "k4": 0.001}, True),
    ],
)
def test_bent_photographs_are_straightened(model: str, values: dict, fisheye: bool, tmp_path: Path) -> None:
    """Blobs at the pixels where the lens shows known points stand, afterwards, where a pinhole camera has them."""
    made = written.views(2)
    written.nerfstudio(tmp_path, made, camera_model=model, **values)
    text = json.loads((tmp_path / "transforms.json").read_text())
    text |= {"w": 320, "h": 240}
    for frame in text["frames"]:
        frame |= {key: frame[key] * 10 for key in ("fl_x", "fl_y", "cx", "cy")}
    (tmp_path / "transforms.json").write_text(json.dumps(text))
    points = np.array([[0, 0, 0], [0.5, 0.2, 0.3], [-0.4, 0.6, -0.2], [0.1, -0.6, 0.5]])
    for index, view in enumerate(made):
        fx, fy, cx, cy = (10 * value for value in view.intrinsics)
        plane = (view.pixels(points) - view.intrinsics[2:]) / view.intrinsics[:2]
        x, y = _bent(plane, values, fisheye).T
        blobs = np.zeros((240, 320))
        rows, columns = np.mgrid[:240, :320] + 0.5
        for u, v in zip(fx * x + cx, fy * y + cy, strict=True):
            blobs += np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 8)
        pixels = np.repeat((blobs.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:03d}.png")
    capture = read_capture(tmp_path)
    for index in range(2):
        picture = capture.image(index)[0]
        expected, _ = capture.cameras[index].project(points)
        rows, columns = np.mgrid[:240, :320] + 0.5
        for u, v in expected[0]:
            near = np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 72) * picture
            centre = (near * columns).sum() / near.sum(), (near * rows).sum() / near.sum()
            assert np.abs(np.array(centre) - (u, v)).max() < 0.3


def _bent(plane: np.ndarray, values: dict, fisheye: bool) -> np.ndarray:
    """The formulas of OpenCV's documentation, written out."""
    x, y = plane.T
    r = np.hypot(x, y)
    if fisheye:
        t = np.arctan(r)
        d = t * (1 + values["k1"] * t**2 + values["k2"] * t**4 + values["k3"] * t**6 + values["k4"] * t**8)
        return plane * (d / np.maximum(r, 1e-12))[:, None]
    k1, k2, p1, p2 = (values.get(key, 0.0) for key in ("k1", "k2", "p1", "p2"))
    scale = 1 + k1 * r**2 + k2 * r**4
    return np.stack(
        [
            x * scale + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
            y * scale + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
        ],
        axis=1,
    )


def test_a_lens_that_pulls_inwards_shows_nothing_beyond_the_photograph() -> None:
    lens, intrinsics = Lens((0.2,)), np.array([300.0, 300, 160, 120])
    factor = lens.zoom(intrinsics, 240, 320)
    assert 1.01 < factor < 1.2
    corner = lens._sources(np.array([[0.0, 0], [320, 240]]), intrinsics, factor)
    assert (corner > -1).all() and (corner < (321, 241)).all()
    assert Lens((-0.2,)).zoom(intrinsics, 240, 320) == 1


def test_colmaps_camera_models_are_what_its_documentation_says(tmp_path: Path) -> None:
    from stzoo_reconstruction.colmap import Camera, pinhole

    def read(model: str, *values: float) -> tuple:
        return pinhole(Camera(model, 32, 24, values), tmp_path)

    assert read("SIMPLE_PINHOLE", 40, 16, 12) == ((40, 40, 16, 12), None)
    assert read("PINHOLE", 40, 41, 16, 12) == ((40, 41, 16, 12), None)
    assert read("SIMPLE_RADIAL", 40, 16, 12, 0.1) == ((40, 40, 16, 12), Lens((0.1,)))
    assert read("RADIAL", 40, 16, 12, 0.1, 0.2) == ((40, 40, 16, 12), Lens((0.1, 0.2)))
    assert read("OPENCV", 40, 41, 16, 12, 1, 2, 3, 4) == ((40, 41, 16, 12), Lens((1, 2), (3, 4)))
    assert read("OPENCV_FISHEYE", 40, 41, 16, 12, 1, 2, 3, 4) == ((40, 41, 16, 12), Lens((1, 2, 3, 4), fisheye=True))
    full = read("FULL_OPENCV", 40, 41, 16, 12, 1, 2, 3, 4, 5, 6, 7, 8)
    assert full == ((40, 41, 16, 12), Lens((1, 2, 5, 6, 7, 8), (3, 4)))
    assert read("RADIAL_FISHEYE", 40, 16, 12, 1, 2) == ((40, 40, 16, 12), Lens((1, 2), fisheye=True))


def test_zip_files_uploaded_files_and_pairs_are_captures(tmp_path: Path) -> None:
    made = written.views()
    written.nerfstudio(tmp_path / "capture", made)
    folder = read_capture(tmp_path / "capture")
    packed = tmp_path / "capture.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((tmp_path / "capture").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    field = Views("views")
    files = [tmp_path / "capture" / "transforms.json", *sorted((tmp_path / "capture" / "images").iterdir())]
    pairs = [(tmp_path / "capture" / "images" / f"{index:03d}.png", folder.cameras[index]) for index in range(4)]
    for value in (packed, files, [packed], pairs, tmp_path / "capture" / "transforms.json", folder):
        capture = field.read(value, ANY)
        np.testing.assert_allclose(capture.cameras.array[:, :22], folder.cameras.array[:, :22])
        np.testing.assert_array_equal(capture.image(3), folder.image(3))
    assert field.preview(folder).size[0] > 100 and np.isfinite(field.numbers(folder)).all()


def test_photographs_without_cameras_say_what_finds_them(tmp_path: Path) -> None:
    written.photographs(tmp_path, 3)
    found = Views("views").read(tmp_path, ANY)
    assert isinstance(found, inputs.Photographs) and not found.posed and len(found) == 3
    with pytest.raises(InputError, match="3 photographs and no cameras.*poses=sfm"):
        found.learnable()


def test_the_sample_is_a_ball_that_its_cameras_see_in_the_middle() -> None:
    capture = Views("views").sample(ANY)
    capture.learnable()
    for index in range(len(capture)):
        covered = capture.image(index, "black").max(0) > 0.02
        middle, (rows, columns) = covered.shape[0] / 2, np.nonzero(covered)
        assert abs(rows.mean() + 0.5 - middle) < 1 and abs(columns.mean() + 0.5 - middle) < 1


def test_cameras_are_read_from_arrays_files_and_paths_of_viewers(tmp_path: Path) -> None:
    field, made = CameraPath("cameras"), written.views()
    poses = np.stack([view.opengl for view in made])
    expected = Cameras.of(poses, [view.intrinsics for view in made], (written.HEIGHT, written.WIDTH), (1, 9))
    for suffix in (".json", ".npy"):
        field.write(expected, tmp_path / f"path{suffix}")
        np.testing.assert_allclose(field.read(tmp_path / f"path{suffix}", ANY).array, expected.array)
    np.testing.assert_array_equal(field.read(expected.array, ANY).array, expected.array)
    assert len(field.read(expected.array[0], ANY)) == 1
    named = {"pose": poses, "fl": (40, 41), "c": (16, 12)}
    assert field.read(named, ANY).sizes[0].tolist() == [24, 32]
    viewer = {
        "render_height": 100,
        "render_width": 200,
        "camera_path": [{"camera_to_world": pose.ravel().tolist(), "fov": 90} for pose in poses],
    }
    (tmp_path / "camera_path.json").write_text(json.dumps(viewer))
    path = field.read(tmp_path / "camera_path.json", ANY)
    np.testing.assert_allclose(path.intrinsics[0], (50, 50, 100, 50))
    np.testing.assert_allclose(path.poses, poses)
    assert field.preview(expected).size == (480, 360) and np.isfinite(field.numbers(field.sample(ANY))).all()


# --- structure from motion --------------------------------------------------------------------------------------------


def test_structure_from_motion_without_pycolmap_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written.photographs(tmp_path / "photos", 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyMissing, match="needs pycolmap.*pip install"):
        sfm.run(tmp_path / "photos", tmp_path / "out")
    assert sfm.main([str(tmp_path / "photos"), str(tmp_path / "out")]) == 2
    assert "pip install" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_structure_from_motion_takes_the_largest_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for COLMAP's work, which writes two models."""
    made = written.views(4)
    written.photographs(tmp_path / "photos", 5)
    here = str(Path(__file__).parent)
    work = (
        f"import sys, json; sys.path.insert(0, {here!r}); import views; from pathlib import Path\n"
        "work = Path(sys.argv[2])\n"
        "views.colmap_binary(work / 'x', views.views(2), '0'); views.colmap_binary(work / 'x', views.views(4), '1')\n"
        "(work / 'sparse').mkdir(); [(work / 'x' / n).rename(work / 'sparse' / n) for n in '01']\n"
        "(work / 'models.json').write_text(json.dumps({'0': [2, 5, 0.4], '1': [4, 5, 0.3]}))\n"
    )
    monkeypatch.setattr(sfm, "_WORK", work)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    said = sfm.run(tmp_path / "photos", tmp_path / "out")
    assert said == "4 of 5 photographs are registered, in the largest of 2 models; 5 points, off by 0.30 pixels"
    capture = read_capture(tmp_path / "out")
    np.testing.assert_allclose(capture.cameras.poses, np.stack([view.opengl for view in made]), atol=1e-6)
    assert capture.notes == ("4 of 5 photographs are registered",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
    found = Views("views").read(tmp_path / "photos", ANY).with_poses()
    assert len(found) == 4 and "structure from motion: 4 of 5" in found.notes[0] and found.image(0).shape == (3, 24, 32)


def test_the_file_with_the_cameras_stands_for_its_capture(tmp_path: Path) -> None:
    made = written.views(same_focal=True, centred=True)
    for write, name in (
        (written.llff, "poses_bounds.npy"),
        (written.npz_opengl, "cameras.npz"),
        (written.nerfstudio, "transforms.json"),
        (written.blender, "transforms_train.json"),
    ):
        root = tmp_path / name.partition(".")[0]
        write(root, made)
        np.testing.assert_allclose(read_capture(root / name).cameras.poses, read_capture(root).cameras.poses)


def test_the_layout_can_be_chosen_where_there_are_several(tmp_path: Path) -> None:
    made = written.views(centred=True)
    written.colmap_text(tmp_path, made)
    written.llff(tmp_path, made)
    assert read_capture(tmp_path, layout="llff").cameras.bounds.tolist() == [[1.5, 9.0]] * 4
    assert (read_capture(tmp_path).cameras.bounds[1:, 1] < 4).all()


def test_a_folder_of_something_else_is_left_to_other_layouts(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert find_capture(tmp_path) is None and reader(tmp_path) is None
    assert captures.LAYOUTS.keys() == {"transforms", "colmap", "llff", "sequence"}


def _corner(camera: Cameras, texture: np.ndarray) -> np.ndarray:
    """What a camera sees of three textured walls that meet at the origin, uint8 (H, W, 3)."""
    height, width = camera.sizes[0].astype(int)
    fx, fy, cx, cy = camera.intrinsics[0]
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([(x - cx) / fx, -(y - cy) / fy, -np.ones_like(x)], -1) @ camera.poses[0, :3, :3].T
    with np.errstate(divide="ignore"):
        distance = -camera.positions[0] / rays
    wall = np.where(distance > 0, distance, np.inf).argmin(-1)
    points = camera.positions[0] + np.take_along_axis(distance, wall[..., None], -1) * rays
    one, two = (np.take_along_axis(points, ((wall + step) % 3)[..., None], -1)[..., 0] for step in (1, 2))
    side = len(texture)
    grey = ndimage.map_coordinates(texture, [(one * 60 + 97 * wall) % side, two * 60 % side], order=1, mode="wrap")
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.skipif(
    importlib.util.find_spec("pycolmap") is None, reason="an optional package, of which this is the test"
)
def test_structure_from_motion_finds_the_cameras_up_to_a_similarity(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texture = sum(
        ndimage.zoom(rng.random((256 // k, 256 // k)), k, order=1, mode="grid-wrap", grid_mode=True) for k in (1, 4, 16)
    )
    texture = (texture - texture.min()) / np.ptp(texture)
    places = [(3 + 0.5 * np.cos(a), 3 + 0.5 * np.sin(a), 2.5 + 0.4 * np.cos(2 * a)) for a in np.linspace(0, 6, 7)]
    poses = np.stack([look_at(place, (0.3, 0.3, 0.3), (0, 0, 1)) for place in places])
    truth = Cameras.of(poses, (240, 240, 120, 90), (180, 240))
    (tmp_path / "photos").mkdir()
    for index, camera in enumerate(truth):
        Image.fromarray(_corner(camera, texture)).save(tmp_path / "photos" / f"{index}.png")
    said = sfm.run(tmp_path / "photos", tmp_path / "out", lens="SIMPLE_PINHOLE")
    assert said.startswith("7 of 7 photographs are registered")
    found = read_capture(tmp_path / "out").cameras
    turns = found.poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1)  # one rotation of the world for all
    np.testing.assert_allclose(turns, np.broadcast_to(turns[0], turns.shape), atol=0.03)
    steps, expected = np.diff(found.positions, axis=0), np.diff(truth.positions, axis=0) @ turns[0].T
    scale = np.linalg.norm(steps) / np.linalg.norm(expected)
    np.testing.assert_allclose(steps / scale, expected, atol=0.05)
