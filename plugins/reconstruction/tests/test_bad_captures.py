"""What is wrong with cameras and captures is said, with what to do about it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stzoo.errors import InputError, StzooError
from stzoo.requirements import Requirements
from stzoo_reconstruction import archives, sfm
from stzoo_reconstruction.cameras import Cameras, checked_home, interpolated, orbit, standard_home
from stzoo_reconstruction.captures import read_capture, reader
from stzoo_reconstruction.fields import CameraPath, Views

_spec = importlib.util.spec_from_file_location("views", Path(__file__).with_name("views.py"))
assert _spec and _spec.loader
written = sys.modules.get("views") or importlib.util.module_from_spec(_spec)
if "views" not in sys.modules:
    sys.modules["views"] = written
    _spec.loader.exec_module(written)

ANY = Requirements()
GOOD = Cameras.of(np.tile(np.eye(4), (3, 1, 1)), (40, 40, 16, 12), (24, 32)).array


def changed(column: Any, value: Any) -> np.ndarray:
    array = GOOD.copy()
    array[1, column] = value
    return array


ARRAYS: dict[str, tuple[Any, str]] = {
    "no numbers": ("abc" * 3, "no file"),
    "wrong width": (GOOD[:, :20], r"shape \(3, 20\).*Give \(V, 24\)"),
    "text in it": ([["x"] * 24], "no array of numbers"),
    "none": (GOOD[:0], "there are none"),
    "NaN in a pose": (changed(3, np.nan), "camera 1 has a pose that is not finite.*Leave it out"),
    "last row": (changed(15, 2), "last row is not 0, 0, 0, 1"),
    "a scaled rotation": (changed([0, 5, 10], 2), "scaled by 2.*Scale positions only"),
    "a sheared rotation": (changed(1, 0.3), "no rotation"),
    "all axes 0": (changed([0, 5, 10], 0), "no rotation"),
    "a mirror": (changed(0, -1), "mirrors.*both y and z change sign"),
    "no focal length": (changed(16, 0), "focal length that is not positive"),
    "negative focal length": (changed(17, -40), "not positive"),
    "a focal length in units of the width": (changed(16, 0.3), "below a hundredth.*multiply"),
    "infinite intrinsics": (changed(18, np.inf), "not finite"),
    "a principal point elsewhere": (changed(18, 500), "principal point far outside.*of this size"),
    "no height": (changed(20, 0), "size that is not whole and positive"),
    "half a pixel": (changed(21, 32.5), "size that is not whole"),
    "bounds the wrong way": (changed([22, 23], [5, 2]), "0 <= near < far"),
    "a mapping without focal length": ({"pose": np.eye(4)}, "has no 'fl'.*It needs pose"),
    "a mapping without poses": ({"fl": 3}, "has no 'pose'"),
    "a mapping without principal point": ({"pose": np.eye(4), "fl": 3}, "neither c .* nor size"),
    "focal lengths of other cameras": (
        {"pose": np.eye(4), "fl": np.ones((3, 2)), "c": (1, 1)},
        r"fl of shape \(3, 2\)",
    ),
    "a path that is not there": ("nowhere.json", "no file nowhere.json.*transforms.json"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_bad_cameras(case: str) -> None:
    value, message = ARRAYS[case]
    with pytest.raises(InputError, match=message):
        CameraPath("cameras").read(value, ANY)


def edited(change: Callable[[dict], Any]) -> Callable[[Path], Any]:
    """A transforms.json that is good but for one thing."""

    def write(root: Path) -> None:
        text = written.nerfstudio(root, written.views())
        text = change(text) or text
        (root / "transforms.json").write_text(json.dumps(text))

    return write


def frame(index: int, **values: Any) -> Callable[[Path], Any]:
    return edited(lambda text: text["frames"][index].update(values))


def plain(name: str, content: bytes) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        (root / name).write_bytes(content)

    return write


def no_pictures(root: Path) -> None:
    written.nerfstudio(root, written.views())
    for index in (1, 2):
        (root / "images" / f"{index:03d}.png").unlink()


def cropped(root: Path) -> None:
    written.nerfstudio(root, written.views())
    written.photograph(root / "images" / "002.png", 2, (32, 20))


def empty_picture(root: Path) -> None:
    written.nerfstudio(root, written.views())
    (root / "images" / "000.png").write_bytes(b"")


def broken_picture(root: Path) -> None:
    written.nerfstudio(root, written.views())
    (root / "images" / "000.png").write_bytes(b"no picture")


def cut_off(name: str, count: int) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        place = written.colmap_binary(root, written.views()) / name
        place.write_bytes(place.read_bytes()[:count])

    return write


def fov(root: Path) -> None:
    place = written.colmap_text(root, written.views())
    (place / "cameras.txt").write_text("".join(f"{index} FOV 32 24 40 40 16 12 0.9\n" for index in range(1, 5)))


def lost_camera(root: Path) -> None:
    place = written.colmap_text(root, written.views())
    (place / "cameras.txt").write_text("1 PINHOLE 32 24 40 40 16 12\n")


def other_names(root: Path) -> None:
    written.colmap_text(root, written.views(), names="other{}.png")


def nothing_registered(root: Path) -> None:
    written.colmap_text(root, [])


def more_pictures(write: Callable[..., Any], folder: str) -> Callable[[Path], Any]:
    def made(root: Path) -> None:
        write(root, written.views(same_focal=True, centred=True))
        written.photograph(root / folder / "zzz.png", 9)

    return made


def llff_with(column: int, value: float) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        written.llff(root, written.views(centred=True))
        table = np.load(root / "poses_bounds.npy")
        table[2, column] = value
        np.save(root / "poses_bounds.npy", table)

    return write


def llff_shape(root: Path) -> None:
    written.photographs(root / "images", 4)
    np.save(root / "poses_bounds.npy", np.zeros((4, 14)))


def recording_without(name: str) -> Callable[[Path], Any]:
    def write(root: Path) -> None:
        written.recording(root, written.views())
        (root / name).unlink()

    return write


def recording_row(root: Path) -> None:
    written.recording(root, written.views())
    (root / "pose.txt").write_text("1 2 3\n" * 4)


NO_POSE = frame(1, transform_matrix=[[1, 2], [3, 4]])
CAPTURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda root: None, "is no capture.*It needs a transforms.json"),
    "photographs only": (lambda root: written.photographs(root, 3), "3 photographs and no cameras.*structure from motion"),
    "empty json": (plain("transforms.json", b""), "is empty"),
    "an empty object": (plain("transforms.json", b"{}"), "holds no cameras"),
    "a list": (plain("transforms.json", b"[1]"), "it is a list"),
    "half a json": (plain("transforms.json", b'{"frames": ['), "cannot be read as JSON"),
    "no frames": (edited(lambda text: {"w": 3}), "has no frames"),
    "frames of numbers": (edited(lambda text: {"frames": [3]}), "frame 0 is no object"),
    "no file_path": (frame(1, file_path=""), "frame 1 has no file_path"),
    "outside of the capture": (frame(1, file_path="../../etc/passwd"), "outside of the capture.*one folder"),
    "an absolute path": (frame(1, file_path="/etc/passwd.png"), "outside of the capture"),
    "a pose of 2x2": (NO_POSE, r"transform_matrix of shape \(2, 2\).*4x4"),
    "text in a pose": (frame(1, transform_matrix=[["x"] * 4] * 4), "no number"),
    "NaN in a pose": (frame(1, transform_matrix=[[float("nan")] * 4] * 4), "001.png has a pose that is not finite"),
    "a mirrored pose": (frame(1, transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()), "001.png has a pose that mirrors"),
    "no focal length": (edited(lambda text: [item.pop("fl_x") and item.pop("fl_y") for item in text["frames"]] and text),
                        "has no focal length.*camera_angle_x"),
    "text as a focal length": (frame(1, fl_x="40"), "frame 1: fl_x is '40'"),
    "NaN as a focal length": (frame(1, fl_x=float("nan")), "fl_x is nan"),
    "a negative focal length": (frame(1, fl_x=-40), "001.png has a focal length that is not positive"),
    "a field of view in degrees": (edited(lambda text: [item.update(fl_x=None, fl_y=None, camera_angle_x=40) for item in text["frames"]] and text),
                                   "field of view of 40 radians"),
    "an unknown lens": (edited(lambda text: text.update(camera_model="EQUIRECTANGULAR")), "EQUIRECTANGULAR.*OPENCV"),
    "pictures that are not there": (no_pictures, "names 2 pictures of 4 that are not there, such as .*001.png"),
    "a cropped picture": (cropped, "32x20 pixels, its intrinsics are for 32x24: the shapes differ.*cropped or turned"),
    "an empty picture": (empty_picture, "000.png is empty"),
    "a broken picture": (broken_picture, "000.png cannot be decoded"),
    "one picture with two poses": (frame(1, file_path="images/000.png"), "000.png is there twice, with different poses"),
    "cameras cut off": (cut_off("cameras.bin", 40), "cameras.bin cannot be read as cameras of COLMAP"),
    "images cut off": (cut_off("images.bin", 200), "images.bin cannot be read.*complete"),
    "points cut off": (cut_off("points3D.bin", 100), "points3D.bin cannot be read"),
    "a lens of COLMAP that is not read": (fov, "FOV is not read.*image_undistorter"),
    "an image without its camera": (lost_camera, "has camera 2, which is not in cameras"),
    "COLMAP's photographs elsewhere": (other_names, "4 photographs of 4 that are not there.*Put them into"),
    "a model without images": (nothing_registered, "no registered image"),
    "LLFF of another shape": (llff_shape, r"shape \(4, 14\).*17"),
    "NaN in LLFF": (llff_with(3, np.nan), "row 2 is not finite"),
    "LLFF's bounds": (llff_with(16, 0.5), "bounds 1.5 and 0.5 of 002.png"),
    "LLFF's size": (llff_with(4, 0.0), "002.png is for a picture of 32x0 pixels"),
    "more photographs than LLFF's poses": (more_pictures(written.llff, "images"), "has 4 poses, and .* 5 photographs"),
    "more photographs than poses": (more_pictures(written.npz_opengl, "images"), "has 4 poses, and .* 5 photographs"),
    "no npz": (plain("cameras.npz", b"PK nothing"), "cannot be read as a NumPy file"),
    "no intrinsics": (recording_without("intrinsics.txt"), "no intrinsics.txt beside it.*fx fy cx cy"),
    "rows of three": (recording_row, "rows of 3 numbers.*tx ty tz"),
}  # fmt: skip


@pytest.mark.parametrize("case", CAPTURES)
def test_bad_captures(case: str, tmp_path: Path) -> None:
    write, message = CAPTURES[case]
    write(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        read_capture(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_photographs_without_a_pose_are_left_out_and_counted(tmp_path: Path) -> None:
    frame(2, transform_matrix=None)(tmp_path)
    capture = read_capture(tmp_path)
    assert len(capture) == 3 and capture.notes[0].startswith("1 of 4 photographs have no pose (images/002.png")


def test_a_photograph_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    edited(lambda text: text["frames"].append(text["frames"][0]))(tmp_path)
    capture = read_capture(tmp_path)
    assert len(capture) == 4 and capture.notes == ("000.png is there twice, and counts once",)


def test_the_same_picture_with_two_cameras_is_said(tmp_path: Path) -> None:
    written.nerfstudio(tmp_path, written.views())
    shutil.copy(tmp_path / "images" / "000.png", tmp_path / "images" / "003.png")
    assert read_capture(tmp_path).notes == ("000.png and 003.png are the same picture twice",)


def test_one_photograph_is_fine_to_compare_with_and_not_to_learn_from(tmp_path: Path) -> None:
    written.nerfstudio(tmp_path, written.views(1))
    rows = reader(tmp_path)
    assert rows is not None and len(rows["test"]) == 1 and rows["test"][0]["image"].shape == (3, 24, 32)
    with pytest.raises(InputError, match="one photograph only.*at least two, from different places"):
        len(rows["train"])


def test_cameras_at_one_place_teach_no_depth(tmp_path: Path) -> None:
    made = written.views()
    for view in made:
        view.position = np.array([1.0, 2.0, 3.0])
    written.nerfstudio(tmp_path, made)
    with pytest.raises(InputError, match="all 4 cameras .* at one place.*not by turning on the spot"):
        read_capture(tmp_path).learnable()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 1}, "every=1"),
        ({"every": -3}, "every=-3"),
        ({"size": -1}, "size=-1"),
        ({"background": "2,0,0"}, "background='2,0,0'"),
        ({"layout": "blend"}, "layout='blend'.*colmap"),
    ],
)
def test_bad_options_of_the_reader(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    written.nerfstudio(tmp_path, written.views())
    with pytest.raises(StzooError, match=message):
        reader(tmp_path, **options)


def packed(path: Path, entries: dict[str, bytes], link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16 if link else 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def test_bad_zip_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    field = Views("views")
    with pytest.raises(InputError, match="'../evil.png' would be outside"):
        field.read(packed(tmp_path / "a.zip", {"../evil.png": b"x"}), ANY)
    with pytest.raises(InputError, match="'link' would be outside"):
        field.read(packed(tmp_path / "b.zip", {"link": b"/etc/passwd"}, link=True), ANY)
    with pytest.raises(InputError, match="is no capture"):
        field.read(packed(tmp_path / "c.zip", {"notes.txt": b"x", "more.txt": b"x"}), ANY)
    (tmp_path / "d.zip").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(InputError, match="d.zip cannot be read as a zip file"):
        field.read(tmp_path / "d.zip", ANY)
    bomb = packed(tmp_path / "e.zip", {"big.png": bytes(10_000_000)})
    assert bomb.stat().st_size < 20_000
    monkeypatch.setattr(archives, "MAX_BYTES", 1_000_000)
    with pytest.raises(InputError, match="unpacks to 1 files and 10,000,000 bytes.*give the folder"):
        field.read(bomb, ANY)
    assert not list(tmp_path.glob("*.png")) and not (tmp_path.parent / "evil.png").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "no photographs"),
        ([], "no photographs"),
        (3, "is a int"),
        ([np.zeros((3, 24, 32))], "photographs without cameras"),
        ([(np.zeros((3, 24, 32)), GOOD)], "has 3 cameras.*one for each"),
        ([(np.zeros((3, 20, 32), np.float32), GOOD[0])], "32x20 pixels, its camera 32x24"),
        ([(np.full((3, 24, 32), np.nan), GOOD[0])], "not finite"),
        ([(np.zeros((2, 24, 32), np.float32), GOOD[0])], "2 channels"),
        ("nowhere", "no capture nowhere"),
        (["nowhere.png", "elsewhere.json"], "no file nowhere.png"),
    ],
)
def test_bad_views(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Views("views").read(value, ANY)


def test_uploads_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        written.photograph(tmp_path / folder / "a.png", 1)
    with pytest.raises(InputError, match="two of the files are called a.png.*zip"):
        Views("views").read([tmp_path / "one" / "a.png", tmp_path / "two" / "a.png"], ANY)


def test_bad_paths_of_cameras() -> None:
    home = standard_home()
    for wrong in (
        lambda: orbit(home, 0),
        lambda: orbit(home, 1, zoom=0),
        lambda: interpolated(Cameras.from_array(GOOD), 0),
        lambda: Cameras.from_array(GOOD).resized(0),
        lambda: checked_home(home[:29]),
        lambda: checked_home((*home[:29], np.nan)),
    ):
        with pytest.raises(InputError):
            wrong()


def test_bad_photographs_for_structure_from_motion(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        sfm.run(tmp_path / "nowhere", tmp_path / "out")
    written.photographs(tmp_path / "photos", 2)
    with pytest.raises(InputError, match="has 2 photographs.*at least 3"):
        sfm.run(tmp_path / "photos", tmp_path / "out")
    written.photographs(tmp_path / "photos", 4)
    with pytest.raises(InputError, match="is not empty"):
        sfm.run(tmp_path / "photos", tmp_path / "photos")
