"""Scenes and series: what is read and written, what is refused, and what pages of these and of depth send to the browser."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fieldtoy
import numpy as np
import pytest
from PIL import Image
from test_fields_depth import ANY, DEPTH, SCENE, known, png

import stzoo
from stzoo.errors import InputError, MediaError
from stzoo.fields import Scene, Series
from stzoo.media import geometry, series
from stzoo.requirements import Requirements
from stzoo.ui.limits import limits

SERIES = Series("series")


# --- scenes -----------------------------------------------------------------------------------------------------------


def gaussians(count: int = 7, bands: int = 16) -> geometry.Geometry:
    random = np.random.default_rng(0)
    return geometry.as_geometry(
        {
            "positions": random.normal(size=(count, 3)),
            "scales": random.normal(size=(count, 3)),
            "rotations": random.normal(size=(count, 4)),
            "opacities": random.normal(size=count),
            "sh": random.normal(size=(count, bands, 3)),
        }
    )


@pytest.mark.parametrize("bands", [1, 4, 9, 16])
@pytest.mark.parametrize("suffix", Scene.suffixes)
def test_gaussians_survive_files_bit_for_bit(suffix: str, bands: int, tmp_path: Path) -> None:
    scene = gaussians(bands=bands)
    SCENE.write(scene, tmp_path / f"s{suffix}")
    again = SCENE.read(tmp_path / f"s{suffix}", ANY)
    assert again.keys() == scene.keys()
    assert all(np.array_equal(again[name], scene[name]) for name in scene)
    assert np.array_equal(np.asarray(again), np.asarray(scene))


def test_gaussians_are_written_in_the_attributes_that_other_programs_read(tmp_path: Path) -> None:
    scene = gaussians()
    SCENE.write(scene, tmp_path / "s.ply")
    data = (tmp_path / "s.ply").read_bytes()
    head, body = data.split(b"end_header\n", 1)
    names = [line.split()[-1].decode() for line in head.splitlines() if line.startswith(b"property")]
    rest = [f"f_rest_{index}" for index in range(45)]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *rest,
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    table = np.frombuffer(body, "<f4").reshape(7, 62)
    assert np.array_equal(table[:, 9:24], scene["sh"][:, 1:, 0]), "the coefficients of red come first"
    assert np.array_equal(table[:, 54], scene["opacities"])


def test_points_and_meshes_survive_and_text_is_read(tmp_path: Path) -> None:
    mesh = {"positions": np.eye(3), "colours": np.eye(3), "faces": [[0, 1, 2]]}
    SCENE.write(mesh, tmp_path / "m.ply")
    again = SCENE.read(tmp_path / "m.ply", ANY)
    assert {name: array.tolist() for name, array in again.items()} == {
        "positions": np.eye(3).tolist(),
        "colours": np.eye(3).tolist(),
        "faces": [[0, 1, 2]],
    }
    names = "".join(f"property float {name}\n" for name in "xyz")
    head = f"ply\nformat ascii 1.0\nelement vertex 2\n{names}property uchar red\nproperty uchar green\nproperty uchar blue\n"
    found = SCENE.read(f"{head}end_header\n1 2 3 255 0 0\n4 5 6 0 0 51\n".encode(), ANY)
    assert found["positions"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found["colours"].tolist() == [[1, 0, 0], [0, 0, np.float32(0.2)]]
    big = f"ply\nformat binary_big_endian 1.0\nelement vertex 1\n{names}end_header\n".encode()
    assert SCENE.read(big + struct.pack(">3f", 1, 2, 3), ANY)["positions"].tolist() == [[1, 2, 3]]


VERTEX = b"property float x\nproperty float y\nproperty float z\n"
START = b"ply\nformat binary_little_endian 1.0\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            START + b"element vertex 4000000000\n" + VERTEX + b"end_header\n" + bytes(12),
            "promises 4,000,000,000 vertex",
        ),
        (START + b"element vertex 99999999999999999999\n" + VERTEX + b"end_header\n", "has a header with"),
        (START + b"element vertex -1\n" + VERTEX + b"end_header\n", "has a header with"),
        (START + b"element vertex 1\nproperty quad x\nend_header\n", "has a header with 'property quad x'"),
        (START + b"element vertex 1\nproperty float x\nend_header\n" + bytes(4), "holds no points"),
        (START + b"element chunk 1\nproperty float x\nend_header\n" + bytes(4), "compressed Gaussians"),
        (START + b"element vertex 1\n" + VERTEX + b"end_header\n" + struct.pack("<3f", 0, np.nan, 0), "not finite"),
        (START + b"element vertex 0\n" + VERTEX + b"end_header\n", "holds no points"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n" + VERTEX + b"end_header\na b c\n", "cannot be read"),
        (
            START
            + b"element vertex 1\n"
            + VERTEX
            + b"element face 1\nproperty list uchar int vertex_index\nend_header\n"
            + bytes(12)
            + b"\x03"
            + struct.pack("<3i", 0, 0, 7),
            "a face names point 7, there are 1",
        ),
        (
            START
            + b"element vertex 1\n"
            + VERTEX
            + b"element face 1\nproperty list uchar int vertex_index\nend_header\n"
            + bytes(12)
            + b"\x04"
            + bytes(16),
            "no triangles",
        ),
        (b"ply" + b"x" * 100_000, "is no PLY file"),
        (b"not a scene", "is no PLY file"),
        ({"points": np.zeros((1, 3))}, "has no 'positions'"),
        ({"positions": np.zeros((2, 3)), "colours": np.zeros((3, 3))}, r"colours of shape \(3, 3\), for 2 points"),
        ({"positions": np.zeros((2, 3)), "colours": np.full((2, 3), 255)}, "colours from 255 to 255"),
        ({"positions": np.zeros((2, 3)), "scales": np.zeros((2, 3))}, "Gaussians without rotations, opacities, sh"),
        (np.zeros((0, 3)), "is empty"),
    ],
)
def test_what_is_no_scene_is_refused_with_the_reason(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SCENE.read({"bytes": value, "path": "s.ply"} if isinstance(value, bytes) else value, ANY)


def test_scenes_are_shown_the_right_way_up_around_the_origin(tmp_path: Path) -> None:
    from stzoo.ui.scenes import displayed

    far = {"positions": geometry.sample_geometry("z")["positions"] * 500 + 1000}
    shown = displayed(geometry.as_geometry(far), "z")["positions"]
    assert np.percentile(np.abs(shown), 98) <= 1.01
    assert np.allclose(shown[:, 1].min(), shown[2000:, 1], atol=1e-3), "the floor is not below"
    scene = gaussians()
    for up in ("-y", "y", "z", "x"):
        fitted = displayed(scene, up)
        assert np.allclose(covariances(fitted), rotated(scene, up), rtol=2e-3, atol=1e-6)
    assert fitted["sh"].shape == (7, 1, 3)


def covariances(scene: geometry.Geometry) -> np.ndarray:
    w, x, y, z = (scene["rotations"] / np.linalg.norm(scene["rotations"], axis=1, keepdims=True)).T
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    axes = turn * np.exp(scene["scales"])[:, None]
    return axes @ axes.transpose(0, 2, 1)


def rotated(scene: geometry.Geometry, up: str) -> np.ndarray:
    from stzoo.ui.scenes import CLEAR, NEAR

    turn, reach = CLEAR @ geometry.turned(up), geometry.extent(scene["positions"])[1]
    return turn @ covariances(scene) @ turn.T * (NEAR / reach) ** 2


# --- series -----------------------------------------------------------------------------------------------------------


def table(text: str, **options: Any) -> series.TimeSeries:
    return SERIES.read({"bytes": text.encode(), "path": "t.csv"}, ANY, **options)


@pytest.mark.parametrize("suffix", Series.suffixes)
def test_series_are_written_and_read_again_exactly(suffix: str, tmp_path: Path) -> None:
    wanted = series.TimeSeries(np.random.default_rng(0).normal(size=(50, 3)), ("a", "b,c", 'd"'), hours(50))
    for index, item in enumerate((wanted, series.TimeSeries(wanted.values))):
        SERIES.write(item, tmp_path / f"{index}{suffix}")
        assert SERIES.read(tmp_path / f"{index}{suffix}", ANY) == item


def hours(count: int) -> np.ndarray:
    return np.datetime64("2026-01-31T20:00") + np.arange(count).astype("timedelta64[h]")


def test_tables_are_read_as_people_write_them() -> None:
    wanted = series.TimeSeries([[1.5, 2], [2.5, -3]], ("a", "b"), np.array(["2026-01-01", "2026-01-02"], "M8[us]"))
    for text in (
        "date,a,b\n2026-01-01,1.5,2\n2026-01-02,2.5,-3\n",
        "\ufeffdate,a,b\r\n2026/01/01 00:00:00,1.5,2\r\n\r\n2026/01/02 00:00:00,2.5,-3\r\n",
        "a;when;b\n1,5;2026-01-01;2\n2,5;2026-01-02T01:00:00+01:00;-3\n",
        "date\ta\tb\n2026-01-01\t1.5\t2\n2026-01-02\t2.5\t-3\n",
    ):
        assert table(text) == wanted, text
    assert table("1,2\n3,4\n") == series.TimeSeries([[1, 2], [3, 4]])
    assert table(",a\n0,5\n1,6\n") == series.TimeSeries([[5], [6]], ("a",)), "row numbers are no variable"


def test_data_frames_and_arrays_are_read() -> None:
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    wanted = series.TimeSeries([[1, 2], [3, 4]], ("a", "b"), hours(2))
    frame = pandas.DataFrame({"a": [1, 3], "b": [2.0, 4.0]}, index=hours(2))
    assert SERIES.read(frame, ANY) == wanted
    assert SERIES.read(frame.tz_localize("UTC"), ANY) == wanted
    assert SERIES.read(frame.reset_index(names="date"), ANY) == wanted
    assert SERIES.read(frame["a"], ANY) == series.TimeSeries([1, 3], ("a",), hours(2))
    assert SERIES.read({"a": [1, 3], "b": [2, 4]}, ANY) == series.TimeSeries(wanted.values, ("a", "b"))
    for value in ([1, 2, 3], np.arange(1, 4), [[1], [2], [3]]):
        assert SERIES.read(value, ANY).values.tolist() == [[1], [2], [3]]
    assert SERIES.read(np.arange(9.0), Requirements(frames_in=4)).values.ravel().tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("date,a\n2026-01-01,x\n", "'x' in column 'a', row 1, is no number"),
        ("a,b\n1,2\n3,red\n", "'red' in column 'b', row 2, is no number"),
        ("a,b\n1,2\n3\n", "row 2 of .* has 1 cells, the first one has 2"),
        ("date,a\n2026-01-02,1\n2026-01-01,2\n", r"2026-01-01 \(row 2\) comes after a later one"),
        ("date,a\n2026-01-01,1\n2026-01-01,2\n", "occurs twice"),
        ("date,a\n2026-01-01,1\n01.02.2026,2\n", "row 2 has no time that can be read"),
        ("a,b\n1,\n3,4\n", "1 values are missing, the first in column 'b', row 1"),
        ("a\n1\ninf\n", "row 2, is infinite"),
        ("date\n2026-01-01\n", "has times, but no numbers"),
        ("a,b\n", "names but no rows"),
        ("\n\n", "holds no rows"),
        ("a\n" + "1" * 2_000_000, "a line of more than 1,000,000 characters"),
        ("a,b\n1,\x002\n", "is no number|cannot be read as a table"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        ([[1, 2], [3]], "rows of different lengths"),
        (["a", "b"], "is text, not a series of numbers"),
        (np.zeros((0, 2)), "is empty"),
        ({"a": [1, 2], "b": [1]}, "columns of different lengths"),
    ],
)
def test_what_is_no_series_is_refused_with_the_reason(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        table(value) if isinstance(value, str) else SERIES.read(value, ANY)


def test_text_in_another_encoding_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("größe\n1\n".encode("latin-1"))
    with pytest.raises(MediaError, match="it is not UTF-8 text"):
        SERIES.read(tmp_path / "t.csv", ANY)


def test_gaps_are_filled_as_asked() -> None:
    text = "a\n\n".replace("\n\n", "\n") + "NaN\n2\nNA\n4\nnull\n"
    assert table(text, gaps="previous").values.ravel().tolist() == [2, 2, 2, 4, 4]
    assert table(text, gaps="linear").values.ravel().tolist() == [2, 2, 3, 4, 4]


def test_series_are_batched_and_go_on_in_time() -> None:
    one = SERIES.sample(Requirements(frames_in=5, channels=3))
    assert np.stack([one, one]).shape == (2, 5, 3)
    after = one.following(np.zeros((2, 3)))
    assert (after.names, after.times[0] - one.times[-1]) == (one.names, np.timedelta64(1, "h"))


@pytest.mark.parametrize(
    ("given", "following"),
    [
        ("2026-01-01 2026-02-01 2026-03-01", "2026-04-01 2026-05-01"),
        ("2025-10-31 2025-11-30 2025-12-31", "2026-01-31 2026-02-28"),
        ("2023-06-15 2024-06-15 2025-06-15", "2026-06-15 2027-06-15"),
        ("2025-03-31T06 2025-06-30T06 2025-09-30T06", "2025-12-31T06 2026-03-31T06"),
        ("2026-01-01 2026-01-02 2026-01-03", "2026-01-04 2026-01-05"),
        ("2026-01-01 2026-02-02 2026-03-01", "2026-03-30T12 2026-04-29"),
    ],
)
def test_months_go_on_as_months(given: str, following: str) -> None:
    known, wanted = (np.array(text.split(), "M8[us]") for text in (given, following))
    assert series.TimeSeries(np.zeros(3), times=known).following(np.zeros(2)).times.tolist() == wanted.tolist()


@pytest.mark.parametrize("field", [DEPTH, SCENE, SERIES], ids=lambda item: item.name)
def test_samples_are_the_same_each_time_and_have_a_picture(field: Any) -> None:
    first, second = (field.sample(ANY) for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(second))
    assert np.isfinite(first).all()
    assert field is DEPTH or field.error(first, second) is None
    assert len(np.unique(np.asarray(field.preview(first)))) > 10


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with fieldtoy.TOY.installed(tmp_path):
        yield


def test_a_prediction_with_unknown_depths_has_a_fingerprint_and_a_figure_with_its_error(toy: None) -> None:
    predictor = stzoo.load("measuring-one", device="cpu")
    fingerprint = predictor.fingerprint()["depth"]
    assert np.isfinite([fingerprint["mean"], fingerprint["std"], *fingerprint["samples"]]).all()
    prediction = predictor.predict(*(item.sample(predictor.requirements) for item in predictor.task.inputs))
    assert np.isnan(prediction.depth).any()
    heights = [prediction.figure(truth).height for truth in (None, {"depth": prediction.depth})]
    assert heights[1] > 1.9 * heights[0]
    scenes = stzoo.load("shifting-one", device="cpu").predict(SCENE.sample(ANY))
    scenes.figure({"moved": scenes.moved})


def bomb(path: Path, count: int, name: str) -> Path:
    """A small archive that unpacks to many zeros."""
    np.savez_compressed(path, **{name: np.zeros((count, 3), np.float32)})
    return path


@pytest.mark.parametrize(
    ("field", "name", "data", "said"),
    [
        (DEPTH, "d.pfm", b"Pf\n99999 99999\n-1.0\n1234", "million pixels, this demo takes 0.1"),
        (DEPTH, "d.png", png(Image.new("I;16", (400, 400))), "million pixels, this demo takes 0.1"),
        (DEPTH, "d.tif", b"II*\0" + bytes(40), "cannot be read as depth"),
        (DEPTH, "d.npz", 400_000, "million pixels|MB of numbers"),
        (
            SCENE,
            "s.ply",
            START + b"element vertex 900000\n" + VERTEX + b"end_header\n" + bytes(900_000 * 12),
            "million points",
        ),
        (SCENE, "s.npz", 4_000_000, "million points"),
        (SCENE, "s.npz", b"PK no archive", "no npz archive"),
        (SERIES, "t.csv", b"a\n" + b"1\n" * 20_000, "more than 6,250 numbers"),
        (SERIES, "t.npz", 400_000, "numbers, this demo takes 6,250"),
        (SERIES, "t.npy", b"\x93NUMPY\x01\x00broken", "cannot be read as a NumPy file"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_loaded(
    field: Any, name: str, data: bytes | int, said: str, tmp_path: Path
) -> None:
    pytest.importorskip("gradio", reason="demos need gradio: pip install 'stzoo[demo]'")
    from stzoo.ui.components import widget

    path = tmp_path / name
    if isinstance(data, int):
        bomb(path, data, "positions" if field is SCENE else "values")
    else:
        path.write_bytes(data)
    with pytest.raises(InputError, match=said):
        widget(field, ANY, limits({"max_pixels": 0.1})).read(str(path))


def test_the_browser_gets_the_numbers_themselves(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="demos need gradio: pip install 'stzoo[demo]'")
    from stzoo.ui.components import widget

    depth = known([[1.2345678, np.nan], [2, 3]])
    (shown,) = widget(DEPTH, ANY, limits({})).show(depth, tmp_path)
    sent = np.frombuffer(Path(shown["file"]["path"]).read_bytes(), "<f4").reshape(shown["height"], shown["width"])
    assert np.array_equal(sent, depth, equal_nan=True)
    assert (shown["unit"], shown["unknown"], shown["step"]) == ("m", 0.25, 1)
    given = series.sample_series(30, 2)
    (plot,) = widget(SERIES, ANY, limits({})).show(np.ones((3, 2)), tmp_path, given)
    past, future = plot["parts"]
    assert past["values"][1] == given.values[:, 1].tolist()
    assert future["at"][0] - past["at"][-1] == 3_600_000, "an hour, in milliseconds"
    assert future["names"] == list(given.names)
    long = series.TimeSeries(np.sin(np.arange(300_000) / 7))
    (plot,) = widget(SERIES, ANY, limits({})).show(long, tmp_path)
    assert len(json.dumps(plot)) < 3_000_000 and plot["thinned"]
