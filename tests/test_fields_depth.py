"""Depth: what is read and written, what is refused, and how it is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stzoo.errors import InputError, MediaError, SpecError
from stzoo.fields import Depth, Scene
from stzoo.fields import Image as ImageField
from stzoo.media import colours
from stzoo.requirements import Requirements

ANY = Requirements()
DEPTH, SCENE = Depth("depth"), Scene("scene")


def known(values: list[list[float]]) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize("suffix", [item for item in Depth.suffixes if item in Depth.reads])
def test_depth_is_written_and_read_again_with_what_is_not_known(suffix: str, tmp_path: Path) -> None:
    depth = DEPTH.sample(Requirements(native_size=(20, 30)))
    depth[3:5, 7:9] = np.nan
    DEPTH.write(depth, tmp_path / f"d{suffix}")
    again = DEPTH.read(tmp_path / f"d{suffix}", ANY)
    assert again.dtype == np.float32
    assert np.array_equal(np.isnan(again), np.isnan(depth))
    assert np.nanmax(np.abs(again - depth)) <= (0.0005001 if suffix == ".png" else 0)
    assert np.array_equal(DEPTH.read((tmp_path / f"d{suffix}").read_bytes(), ANY), again, equal_nan=True)


def test_sixteen_bits_of_pgm_tiff_and_arrays_are_millimetres_unless_told_otherwise(tmp_path: Path) -> None:
    numbers = np.array([[0, 1000], [2500, 65535]], np.uint16)
    (tmp_path / "d.pgm").write_bytes(b"P5\n# made by hand\n2 2\n65535\n" + numbers.astype(">u2").tobytes())
    Image.fromarray(numbers).save(tmp_path / "d.tif")
    wanted = known([[np.nan, 1], [2.5, 65.535]])
    for value in (tmp_path / "d.pgm", tmp_path / "d.tif", numbers, Image.fromarray(numbers)):
        assert np.allclose(DEPTH.read(value, ANY), wanted, equal_nan=True)
    assert np.allclose(DEPTH.read(numbers, ANY, per_unit=256), wanted * 1000 / 256, equal_nan=True)
    assert np.allclose(Depth("d", unit="disparity").read(numbers, ANY), wanted * 1000 / 256, equal_nan=True)
    Image.fromarray(known([[0, 1.25], [2.5, 3]])).save(tmp_path / "f.tiff")
    assert np.array_equal(DEPTH.read(tmp_path / "f.tiff", ANY), known([[np.nan, 1.25], [2.5, 3]]), equal_nan=True)
    relative = Depth("d", unit="relative").read(known([[0, 1], [2, 3]]), ANY)
    assert np.array_equal(relative, known([[0, 1], [2, 3]])), "0 is a value where there is no scale"


def test_depth_is_resized_without_mixing_values() -> None:
    resized = DEPTH.read(known([[1, 5], [np.nan, 9]]), ANY, size=(4, 6))
    assert resized.shape == (4, 6)
    assert set(resized[~np.isnan(resized)].tolist()) == {1, 5, 9}
    assert np.isnan(resized).sum() == 6


def big_endian_pfm(values: np.ndarray) -> bytes:
    return f"Pf\n{values.shape[1]} {values.shape[0]}\n1.0\n".encode() + values[::-1].astype(">f4").tobytes()


def test_pfm_rows_go_up_in_either_byte_order_and_infinite_means_not_known() -> None:
    values = known([[1, np.inf], [3, 4]])
    assert np.array_equal(DEPTH.read(big_endian_pfm(values), ANY), known([[1, np.nan], [3, 4]]), equal_nan=True)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (png(Image.new("RGB", (4, 4))), "are a picture of depth, not depth"),
        (png(Image.new("L", (4, 4))), "8-bit greys"),
        (np.full((2, 2), -1.0), "4 values are negative"),
        (np.full((2, 2), np.inf), "4 values are infinite"),
        (np.full((2, 2), np.nan), "no depth is known"),
        (np.zeros((0, 3)), "is empty"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\) is not a depth map"),
        (np.full((2, 2), 1e300), "infinite"),
        (np.ones((2, 2), bool), "type bool"),
        ([["a", "b"]], "is a list"),
        (b"Pf\n9999 9999\n-1.0\n1234", "ends before its 9999x9999 pixels do"),
        (b"PF\n1 1\n-1.0\n123412341234", "has colours"),
        (b"P5\n2 2\n255\n1234", "has 8 bits"),
        (b"no picture at all", "cannot be read as depth"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_depth_is_refused_with_the_reason(value: Any, said: str) -> None:
    with np.errstate(over="ignore"), pytest.raises(InputError, match=said):
        DEPTH.read({"bytes": value, "path": "d.png"} if isinstance(value, bytes) else value, ANY)


def test_depth_that_does_not_fit_into_sixteen_bits_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"70 m does not fit into 16 bits \(0 to 65.535\)"):
        DEPTH.write(known([[1, 70]]), tmp_path / "d.png")
    assert not list(tmp_path.iterdir())
    Depth("d", unit="relative").write(known([[1, 70]]), tmp_path / "d.png")
    assert np.asarray(Image.open(tmp_path / "d.png")).max() == 65535
    with pytest.raises(SpecError, match="unit='feet'"):
        Depth("d", unit="feet")


def test_colours_are_those_of_the_perceptually_uniform_maps() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="pip install matplotlib")
    steps = np.linspace(0, 1, 256)
    for name, most in (("viridis", 0.017), ("magma", 0.023)):
        off = np.abs(colours.coloured(steps, name) / 255 - matplotlib.colormaps[name](steps)[:, :3]).max()
        assert off < most + 0.5 / 255
    shown = np.asarray(DEPTH.preview(known([[1, 2, np.nan]])))
    assert (shown[0, 2] == shown[0, 2, 0]).all() and (shown[0, 0] != shown[0, 0, 0]).any()


def test_depth_becomes_points_where_the_camera_saw_them(tmp_path: Path) -> None:
    depth = np.full((4, 8), 2, np.float32)
    depth[0, 0] = np.nan
    view = np.linspace(0, 1, 96, dtype=np.float32).reshape(3, 4, 8)
    DEPTH.write(depth, tmp_path / "d.ply", fov=90.0, picture=view)
    scene = SCENE.read(tmp_path / "d.ply", ANY)
    assert len(scene["positions"]) == 31, "a pixel that is not known became a point"
    first, last = scene["positions"][0], scene["positions"][-1]
    np.testing.assert_allclose(
        first, [-1.25, -0.75, 2], atol=1e-6
    )  # half a metre for each pixel: 45 degrees at 4 pixels
    np.testing.assert_allclose(last, [1.75, 0.75, 2], atol=1e-6)
    np.testing.assert_allclose(scene["colours"][-1], view[:, -1, -1], atol=0.5 / 255)
    DEPTH.write(depth, tmp_path / "d.ply")
    assert len(np.unique(SCENE.read(tmp_path / "d.ply", ANY)["colours"], axis=0)) == 1, "colours are not those of depth"
    with pytest.raises(InputError, match="8x2 pixels, the depth has 8x4"):
        DEPTH.write(depth, tmp_path / "d.ply", picture=view[:, :2])
    for field, value in ((Depth("d", unit="disparity"), depth), (DEPTH, np.full((2, 2), np.nan))):
        with pytest.raises(MediaError, match="there are no points to write"):
            field.write(value, tmp_path / "no.ply")


def test_a_picture_of_depth_has_a_scale(tmp_path: Path) -> None:
    depth = np.linspace(1, 5, 100 * 120, dtype=np.float32).reshape(100, 120)
    shown = DEPTH.preview(depth)
    assert shown.width == 120 and shown.height > 110, "there is no room for the scale"
    strip = np.asarray(shown)[106]
    np.testing.assert_array_equal(strip[[0, -1]], colours.coloured(np.array([0.0, 1.0])))
    DEPTH.write(depth, tmp_path / "d.jpg")
    with Image.open(tmp_path / "d.jpg") as written:
        assert written.width == 480 and written.height > 400, "a small map is not enlarged"


def test_the_error_of_a_depth_is_dark_where_it_is_right_and_marks_what_is_not_known() -> None:
    truth = DEPTH.sample(Requirements(native_size=(20, 30)))
    value = truth.copy()
    value[0, 0] += 2
    value[10:12, 10:12] = np.nan
    error = DEPTH.error(value, truth)
    assert error is not None
    shown = np.asarray(error).astype(int)
    assert (shown[5:9] < 5).all(), "right depths are not dark"
    assert shown[0, 0].sum() > 600
    assert set(shown[10:12, 10:12].ravel().tolist()) <= {150, 190}
    assert DEPTH.error(value, truth[1:]) is None
    given, other = np.zeros((2, 3, 4, 5), np.float32)
    other[:, 1, 2] = 0.01
    found = np.asarray(ImageField("i").error(given, other)).astype(int)
    assert found[1, 2].sum() > 600 > 20 > found[0].max(), "small errors of a picture are seen"
    assert Depth("d", unit="relative").error(value, truth) is None


def test_unknown_depths_do_not_spoil_what_is_compared() -> None:
    value = known([[1, np.nan], [np.inf, 2]])
    assert DEPTH.numbers(value).tolist() == [1, 0, np.inf, 2]
    assert np.isnan(DEPTH.numbers(known([[np.nan, np.nan]]))).all(), "a map of which nothing is known passes for one"
