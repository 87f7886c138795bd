"""The named data sets, on tiny files in each format."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stzoo.data import Examples, open_data
from stzoo.errors import DatasetError, DependencyMissing
from stzoo.media import write_video
from stzoo.registry import registry
from stzoo.requirements import Requirements
from stzoo.spec import Task
from stzoo_video_prediction import radar
from stzoo_video_prediction.recordings import Stored

RNG = np.random.default_rng(0)


def opened(source: str, split: str | None = None, **needs: Any) -> Examples:
    return open_data(source, registry().get(Task, "video-prediction"), split, requirements=Requirements(**needs))


def picture(path: Path, value: int, size: tuple[int, int] = (128, 128), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * 3 if mode == "RGB" else value).save(path, quality=100)


def first_pixels(examples: Examples) -> list[list[int]]:
    """The first pixel of each frame of each clip, of 255."""
    return [np.rint(item["video"][:, 0, 0, 0] * 255).astype(int).tolist() for item in examples]


# --- Moving MNIST -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "file"), [("moving-mnist", "mnist_test_seq"), ("moving-fashion-mnist", "fmnist_test_seq")])  # fmt: skip
def test_the_published_test_set(tmp_path: Path, name: str, file: str) -> None:
    sequences = RNG.integers(0, 256, (20, 5, 64, 64), np.uint8)
    np.save(tmp_path / f"{file}.npy", sequences)
    for place in (tmp_path, tmp_path / f"{file}.npy"):
        examples = opened(f"{name}?fixed={place}", channels=1)
        assert (len(examples), examples.split) == (5, "test")
        np.testing.assert_array_equal(examples[3]["video"][:, 0], sequences[:, 3] / np.float32(255))
    assert opened(f"{name}?fixed={tmp_path}&frames=12&size=2")[1]["video"].shape == (12, 1, 64, 64)
    for options, message in (
        (f"fixed={tmp_path}&frames=21", "has 5 sequences of 20 frames, not 5 of 21"),
        (f"fixed={tmp_path}/other", f"{file}.npy, or the folder"),
    ):
        with pytest.raises(DatasetError, match=message):
            opened(f"{name}?{options}")
    np.save(tmp_path / f"{file}.npy", sequences[0] / 255)
    with pytest.raises(DatasetError, match=r"holds float64 \(5, 64, 64\)"):
        opened(f"{name}?fixed={tmp_path}")


def test_fashion_is_made_from_its_own_digits(tmp_path: Path) -> None:
    header = bytes((0, 0, 8, 3)) + np.array((12, 28, 28), ">u4").tobytes()
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + bytes([77]) * (12 * 28 * 28))
    video = opened(f"moving-fashion-mnist?digits={tmp_path}&size=3", "train")[2]["video"]
    assert set(np.rint(video * 255).astype(int).ravel().tolist()) == {0, 77}
    with pytest.raises(DatasetError, match="Write digits=FOLDER with its idx files, or digits=hub"):
        opened("moving-fashion-mnist")


# --- TaxiBJ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_taxibj(tmp_path: Path, save: Callable[..., None]) -> None:
    hours = np.linspace(-1, 1, 60, dtype=np.float32)[:, None, None, None] * np.ones((2, 4, 4), np.float32)

    def windows(count: int, first: int) -> np.ndarray:
        return np.stack([hours[row + first : row + first + 4] for row in range(count)])

    (tmp_path / "taxibj").mkdir()
    arrays = {"X_train": windows(40, 0), "Y_train": windows(40, 4), "X_test": windows(3, 50), "Y_test": windows(3, 54)}
    save(tmp_path / "taxibj" / "dataset.npz", **arrays)
    parts = {split: opened(f"taxibj?root={tmp_path}", split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 29, "validation": 4, "test": 3}
    np.testing.assert_allclose(parts["test"][1]["video"], (hours[51:59] + 1) / 2, atol=1e-6)
    assert parts["train"][28]["video"].max() < parts["validation"][0]["video"].min(), "no hour is in both"
    again = pickle.loads(pickle.dumps(parts["train"]))
    np.testing.assert_array_equal(again[5]["video"], parts["train"][5]["video"])
    assert len(pickle.dumps(parts["train"])) < 20_000, "the array stays on disk"
    mapped = isinstance(Stored(tmp_path / "taxibj" / "dataset.npz", "X_test").array, np.memmap)
    assert mapped == (save is np.savez)


def test_taxibj_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"root=FOLDER, with dataset\.npz"):
        opened("taxibj")
    with pytest.raises(DatasetError, match=r"has dataset\.npz"):
        opened(f"taxibj?root={tmp_path}")
    np.savez(tmp_path / "dataset.npz", X_train=np.zeros((9, 4, 2, 8, 8)), Y_train=np.zeros((8, 4, 2, 8, 8)))
    with pytest.raises(DatasetError, match="Both must be"):
        opened(f"taxibj?root={tmp_path}", "train")
    with pytest.raises(DatasetError, match="has no array 'X_test'. It has X_train, Y_train"):
        opened(f"taxibj?root={tmp_path}")
    (tmp_path / "dataset.npz").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="cannot be read as a NumPy file"):
        opened(f"taxibj?root={tmp_path}")


# --- KTH --------------------------------------------------------------------------------------------------------------


def test_kth(tmp_path: Path) -> None:
    for action in ("boxing", "handclapping", "handwaving", "walking", "jogging", "running"):
        (tmp_path / "kth" / action).mkdir(parents=True)
    for person, action, numbers in (
        (1, "boxing", [*range(1, 11), *range(20, 24)]),
        (14, "running", range(1, 11)),
        (15, "boxing", range(1, 5)),
        (25, "walking", range(1, 5)),
    ):
        for number in numbers:
            sequence = tmp_path / "kth" / action / f"person{person:02}_{action}_d1_uncomp"
            picture(sequence / f"image_{number:04}.png", number * 10)
    parts = {split: opened(f"kth?root={tmp_path}&frames=4", split, channels=1) for split in ("train", "validation", "test")}  # fmt: skip
    starts = [clip[0] // 10 for clip in first_pixels(parts["train"])]
    assert starts == [3, 7, 20, 1, 4, 7], "counted from the end, apart by a clip's length, or by 3 where people run"
    assert first_pixels(parts["train"])[1] == [70, 80, 90, 100]
    assert parts["test"][0]["video"].shape == (4, 1, 128, 128)
    assert [len(part) for part in parts.values()] == [6, 1, 1]
    again = pickle.loads(pickle.dumps(parts["train"]))
    np.testing.assert_array_equal(again[2]["video"], parts["train"][2]["video"])
    with pytest.raises(DatasetError, match="no recording has 30 frames in a row"):
        opened(f"kth?root={tmp_path}", "train")
    (tmp_path / "kth" / "walking").rename(tmp_path / "kth" / "strolling")
    with pytest.raises(DatasetError, match="has no walking/"):
        opened(f"kth?root={tmp_path}")


def test_kth_frames_are_resized_without_antialiasing(tmp_path: Path) -> None:
    for action in ("boxing", "handclapping", "handwaving", "walking", "jogging", "running"):
        (tmp_path / action).mkdir()
    pixels = RNG.integers(0, 256, (120, 160), np.uint8)
    path = tmp_path / "boxing" / "person20_boxing_d1_uncomp" / "image_0001.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    frame = opened(f"kth?root={tmp_path}&frames=1", channels=1)[0]["video"][0, 0]
    y, x = ((index + 0.5) * size / 128 - 0.5 for index, size in ((3, 120), (7, 160)))
    top, left = int(y), int(x)
    corner = pixels[top : top + 2, left : left + 2] / 255
    expected = np.array([1 - y % 1, y % 1]) @ corner @ np.array([1 - x % 1, x % 1])
    assert frame.shape == (128, 128)
    assert frame[3, 7] == pytest.approx(expected, abs=1e-5)


# --- Human3.6M --------------------------------------------------------------------------------------------------------


def test_human(tmp_path: Path) -> None:
    folder = tmp_path / "human"
    for subject in (1, 8, 11):
        for number in range(21, 60):
            red = Image.new("RGB", (32, 32), (number * 4, 0, 0))
            (folder / "images").mkdir(parents=True, exist_ok=True)
            red.save(folder / "images" / f"S{subject}_Walking.60457274_{number:06}.jpg", quality=100, subsampling=0)
    (folder / "train.txt").write_text("images/S1_Walking.60457274_,21\nimages/S8_Walking.60457274_,22\n")
    (folder / "test.txt").write_text("images/S11_Walking.60457274_,23,58\nimages/S11_Walking.60457274_,30\n")
    for split, first in (("train", 21), ("validation", 22), ("test", 23)):
        clip = opened(f"human?root={tmp_path}&size=32", split, channels=3)[0]["video"]
        assert clip.shape == (8, 3, 32, 32)
        np.testing.assert_allclose(
            clip[:, 0, 5, 5] * 255, [4 * number for number in range(first, first + 40, 5)], atol=3
        )
        assert clip[:, 2].max() < 0.02
    assert opened(f"human?root={folder}&size=32&order=bgr")[0]["video"][:, 0].max() < 0.02
    assert opened(f"human?root={tmp_path}&size=64")[0]["video"].shape == (8, 3, 64, 64)
    with pytest.raises(DatasetError, match="there is no frame .*S11_Walking.60457274_000060.jpg"):
        opened(f"human?root={tmp_path}")[1]
    (folder / "train.txt").write_text("images/S1_Walking.60457274_,21\n")
    with pytest.raises(DatasetError, match="has 1 subject, which leaves none to validate on"):
        opened(f"human?root={tmp_path}", "train")
    (folder / "test.txt").write_text("S11 walks\n")
    with pytest.raises(DatasetError, match="line 1 is 'S11 walks'"):
        opened(f"human?root={tmp_path}")


# --- KittiCaltech -----------------------------------------------------------------------------------------------------


def ramp(frames: int) -> np.ndarray:
    return np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 8, 12, 3))


def test_kitticaltech_in_numpy_files(tmp_path: Path) -> None:
    folder = tmp_path / "kitticaltech_npy"
    folder.mkdir()
    np.save(folder / "train_data.npy", ramp(240) / 255)
    np.save(folder / "train_idx.npy", np.arange(0, 220, 11)[::-1])
    np.save(folder / "test_data.npy", ramp(30))
    np.save(folder / "test_idx.npy", np.array([0, 15]))
    sizes = {split: len(opened(f"kitticaltech?root={tmp_path}", split)) for split in ("train", "validation", "test")}
    assert sizes == {"train": 18, "validation": 2, "test": 2}
    clip = opened(f"kitticaltech?root={tmp_path}", "validation")[1]["video"]
    assert clip.shape == (11, 3, 8, 12)
    assert first_pixels(opened(f"kitticaltech?root={tmp_path}", "validation"))[1] == [*range(209, 220)]
    assert first_pixels(opened(f"kitticaltech?root={tmp_path}"))[1] == [*range(15, 26)]
    with pytest.raises(DatasetError, match="lists have at most 11 frames"):
        opened(f"kitticaltech?root={tmp_path}&frames=12", "train")
    (folder / "test_idx.npy").unlink()
    with pytest.raises(DatasetError, match=r"test_idx\.npy cannot be read"):
        opened(f"kitticaltech?root={tmp_path}")


def test_kitticaltech_as_prednet_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kitti_hkl").mkdir()
    stored = {"X_train": ramp(30), "sources_train": ["a"] * 14 + ["b"] * 16, "X_val": ramp(11), "sources_val": ["c"] * 11}  # fmt: skip
    for name in stored:
        (tmp_path / "kitti_hkl" / f"{name}.hkl").touch()
    monkeypatch.setitem(sys.modules, "hickle", None)
    with pytest.raises(DependencyMissing, match="pip install hickle"):
        opened(f"kitticaltech?root={tmp_path}", "train")
    hickle = types.SimpleNamespace(load=lambda path: stored[path.stem])
    monkeypatch.setitem(sys.modules, "hickle", hickle)
    assert [clip[0] for clip in first_pixels(opened(f"kitticaltech?root={tmp_path}", "train"))] == [3, 19]
    assert [clip[0] for clip in first_pixels(opened(f"kitticaltech?root={tmp_path}", "validation"))] == [0]
    film = tmp_path / "caltech" / "set06" / "V000.avi"
    film.parent.mkdir(parents=True)
    write_video(np.linspace(0, 1, 36)[:, None, None, None] * np.ones((3, 64, 96)), film.with_suffix(".mp4"))
    clip = opened(f"kitticaltech?root={tmp_path}", channels=3)[0]["video"]
    assert clip.shape == (11, 3, 128, 160)
    np.testing.assert_allclose(clip[:, 1, 60, 80], np.linspace(0, 1, 36)[5::3], atol=0.03)
    np.save(tmp_path / "caltech" / "data_cache.npy", ramp(25))
    np.save(tmp_path / "caltech" / "indices_cache.npy", np.array([2, 14]))
    assert [clip[0] for clip in first_pixels(opened(f"kitticaltech?root={tmp_path}"))] == [2, 14]


# --- WeatherBench -----------------------------------------------------------------------------------------------------


def fields(path: Path, name: str, first: str, hours: int, levels: tuple[int, ...] = ()) -> np.ndarray:
    import netCDF4

    start = (np.datetime64(first) - np.datetime64("1900-01-01")).astype("timedelta64[h]").astype(int)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (hours, len(levels), 4, 8) if levels else (hours, 4, 8)
    values = RNG.normal(280, 20, shape).astype(np.float32)
    with netCDF4.Dataset(path, "w") as file:
        dims = {"time": hours, **({"level": len(levels)} if levels else {}), "lat": 4, "lon": 8}
        for dim, size in dims.items():
            file.createDimension(dim, size)
        time = file.createVariable("time", "i8", ("time",))
        time.units, time[:] = "hours since 1900-01-01 00:00:00", start + np.arange(hours)
        if levels:
            file.createVariable("level", "i4", ("level",))[:] = levels
        file.createVariable(name, "f4", tuple(dims))[:] = values
    return values


def test_weather(tmp_path: Path) -> None:
    folder = tmp_path / "weather_5_625deg" / "2m_temperature"
    training = [fields(folder / f"2m_temperature_{day[:4]}_5.625deg.nc", "t2m", day, 24) for day in ("2014-12-31", "2015-01-01")]  # fmt: skip
    fields(folder / "2m_temperature_2016_5.625deg.nc", "t2m", "2016-05-01", 30)
    fields(folder / "2m_temperature_2017_5.625deg.nc", "t2m", "2017-05-01", 8)
    late = fields(folder / "2m_temperature_2018_5.625deg.nc", "t2m", "2018-05-01", 9)
    source = f"weather?root={tmp_path}&frames=6"
    parts = {split: opened(source, split) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 43, "validation": 25, "test": 7}
    known = np.concatenate(training)
    standard = (known - known.mean()) / known.std()
    np.testing.assert_allclose(parts["train"][21]["video"][:, 0], standard[21:27], atol=1e-4)  # across two files
    np.testing.assert_allclose(parts["test"][6]["video"][:, 0], (late[3:9] - known.mean()) / known.std(), atol=1e-4)
    every = opened(f"{source}&step=2&stride=3&mean=280&std=20", "train")
    np.testing.assert_allclose(every[1]["video"][:, 0], (known[3:15:2] - 280) / 20, atol=1e-4)
    again = pickle.loads(pickle.dumps(parts["train"]))
    np.testing.assert_array_equal(again[5]["video"], parts["train"][5]["video"])


def test_weather_of_several_variables_and_levels(tmp_path: Path) -> None:
    stored = {}
    for name, long in (("u", "u_component_of_wind"), ("r", "relative_humidity")):
        stored[name] = fields(tmp_path / "weather" / long / f"{long}_2017.nc", name, "2017-01-01", 5, (150, 500, 850))
    source = f"weather?root={tmp_path}&variables=u,r&train=2017&frames=5"
    clip = opened(f"{source}&levels=500,150&mean=0,0,0,0&std=1,1,1,1")[0]["video"]
    np.testing.assert_array_equal(clip, np.concatenate([stored[name][:, [1, 0]] for name in "ur"], axis=1))
    clip = opened(f"{source}&mean=0,0&std=1,1")[0]["video"]
    np.testing.assert_array_equal(clip, np.concatenate([stored[name][:, -1:] for name in "ur"], axis=1))
    for options, message in (
        ("levels=1000", "has no level 1000. It has 150, 500, 850"),
        ("mean=1,2&std=3", "mean and std have 2 and 1 numbers for 2 channels"),
        ("mean=1,2", "mean and std go together"),
        ("frames=6", "no recording has 6 frames in a row"),
        ("test=1999", "has no hour of the years 1999 to 1999"),
        ("test=x", "'x' is neither a year nor first-last"),
        ("variables=rain", "there is no variable 'rain'"),
        ("variables=u,tcc", r"total_cloud_cover has no total_cloud_cover\*.nc"),
    ):
        with pytest.raises(DatasetError, match=message):
            opened(f"weather?root={tmp_path}&train=2017&" + (options if "variables" in options else f"variables=u,r&{options}"))  # fmt: skip


def test_weather_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields(tmp_path / "2m_temperature" / "2m_temperature_2017.nc", "t2m", "2017-01-01", 5)
    (tmp_path / "total_cloud_cover").mkdir()
    (tmp_path / "total_cloud_cover" / "total_cloud_cover_2017.nc").write_bytes(b"no netCDF")
    with pytest.raises(DatasetError, match="cannot be read as a netCDF file"):
        opened(f"weather?root={tmp_path}&variables=tcc")
    monkeypatch.setitem(sys.modules, "netCDF4", None)
    with pytest.raises(DependencyMissing, match="pip install netCDF4"):
        opened(f"weather?root={tmp_path}")


# --- radar ------------------------------------------------------------------------------------------------------------


def test_radar(tmp_path: Path) -> None:
    rates = np.geomspace(0.2, 90, 72)[:, None, None] * np.ones((8, 8))
    np.savez_compressed(tmp_path / "rain.npz", mm_per_5min=rates / 12)
    seen = {}
    for split in ("train", "validation", "test"):
        examples = opened(f"rain-radar?root={tmp_path}/rain.npz&stride=2", split, channels=1)
        seen[split] = {value for clip in first_pixels(examples) for value in clip}
    assert [len(values) for values in seen.values()] == [28, 20, 24], "five clips to test on, one frame apart"
    assert max(seen["train"]) < min(seen["validation"]) and max(seen["validation"]) < min(seen["test"])
    clip = opened(f"rain-radar?root={tmp_path}/rain.npz")[0]["video"]
    np.testing.assert_allclose(radar.rain_rate(np.rint(clip[:, 0, 0, 0] * 255)), rates[48:68, 0, 0], rtol=0.015)
    np.save(tmp_path / "b.npy", rates[:40] / 6)  # mm per 10 minutes, and a second file
    (tmp_path / "rain.npz").unlink()
    np.save(tmp_path / "a.npy", rates[:30] / 6)
    several = opened(f"rain-radar?root={tmp_path}&per_hour=6&frames=15", "train")
    assert len(several) == 30 - 14, "36 frames are left for training, and no clip goes across files"
    np.testing.assert_allclose(
        radar.rain_rate(np.rint(several[0]["video"][:, 0, 0, 0] * 255)), rates[:15, 0, 0], rtol=0.015
    )


def test_radar_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="root=FILE.npz"):
        opened("rain-radar", "train")
    carried = [clip["video"] for clip in opened("rain-radar", "test")]
    assert [clip.shape for clip in carried] == [(20, 1, 128, 128)] * 5 and carried[0].max() > 0.5
    np.testing.assert_array_equal(carried[0][4:], carried[4][:16])
    with pytest.raises(DatasetError, match="no .npz or .npy in it"):
        opened(f"rain-radar?root={tmp_path}")
    for rain, split, message in (
        (np.zeros((50, 8)), "test", r"holds an array \(50, 8\)"),
        (np.zeros((50, 8, 8)), "train", r"rain-radar \(train, 50 frames in all\): no recording has 20 frames"),
        (np.full((72, 8, 8), np.nan), "test", "negative or not finite"),
    ):
        np.save(tmp_path / "rain.npy", rain)
        with pytest.raises(DatasetError, match=message):
            opened(f"rain-radar?root={tmp_path}", split)[0]
