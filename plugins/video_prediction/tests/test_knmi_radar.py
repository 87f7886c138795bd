"""The radar converter, on small made-up rain."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from stzoo.data import open_data
from stzoo.registry import registry
from stzoo.spec import Requirements, Task
from stzoo_video_prediction import radar


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "knmi_radar.py"
    spec = importlib.util.spec_from_file_location("knmi_radar", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """64 frames of 40x48 pixels, each of another rain rate."""
    rates = np.geomspace(0.2, 90, 64)
    rain = np.broadcast_to(rates[:, None, None] / 12, (64, 40, 48)).astype(np.float32)
    np.savez_compressed(tmp_path / "rain.npz", mm_per_5min=rain)
    return tmp_path / "rain.npz"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pixels_are_decibels_that_can_be_turned_back() -> None:
    rates = np.array([0, 0.05, 0.1, 1, 3.7, 10, 100, 500])
    pixels = radar.scaled(rates / 12)
    assert pixels.dtype == np.uint8
    assert pixels[[0, 1, 2, 3, 5, 6, 7]].tolist() == [0, 0, 0, 85, 170, 255, 255]
    np.testing.assert_allclose(radar.rain_rate(pixels[3:7]), rates[3:7], rtol=0.015)


def test_splits_are_pieces_of_time(script: ModuleType, source: Path, tmp_path: Path) -> None:
    output, task = tmp_path / "out" / "radar", registry().get(Task, "video-prediction")
    assert script.main([str(source), str(output)]) == 0
    assert sorted(content(output)) == ["README.md", "test/044-063.npz", "train/000-023.npz", "validation/024-043.npz"]
    needs, seen = Requirements(channels=1), []
    for split, frames, number in (("train", 24, 5), ("validation", 20, 1), ("test", 20, 1)):
        (whole,) = open_data(output, task, split, requirements=needs)
        assert whole["video"].shape == (frames, 1, 40, 48)
        seen += whole["video"][:, 0, 0, 0].tolist()
        examples = open_data(f"{output}?frames=20&stride=1", task, split, requirements=needs)
        assert (len(examples), examples.license) == (number, "cc-by-4.0")
    assert seen == sorted(set(seen)), "every frame once, in the order of time"


def test_tiles(script: ModuleType, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "tiles"
    assert script.main([str(source), str(output), "--tiles", "16", "--train-frames", "22"]) == 0
    tiles = sorted(path.name for path in (output / "train").iterdir())
    assert tiles == [f"000-021-y{y:03}-x{x:03}.npz" for y in (0, 16) for x in (0, 16, 32)]
    with np.load(output / "test" / "043-063-y016-x032.npz") as loaded:
        assert loaded["video"].shape == (21, 1, 16, 16)


def test_doing_it_again_changes_nothing(
    script: ModuleType, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "radar"
    output.mkdir()
    assert script.main([str(source), str(output)]) == 0
    before = content(output)
    assert script.main([str(source), str(output)]) == 0
    assert script.main([str(source), str(output), "--tiles", "16"]) == 2
    assert "is not empty. Give another folder" in capsys.readouterr().err
    (output / "notes.txt").write_text("mine")
    assert script.main([str(source), str(output)]) == 2
    assert "notes.txt is not of this data set" in capsys.readouterr().err
    assert content(output) == before | {"notes.txt": b"mine"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["radar", "rain.npz"], "nothing temporary is left"


@pytest.mark.parametrize(
    ("rain", "options", "message"),
    [
        (np.zeros((59, 8, 8)), [], "train would have 19 of 59 frames"),
        (np.zeros((64, 8, 8)), ["--train-frames", "30"], "validation would have 17 of 64 frames, each split needs 20"),
        (np.zeros((64, 8)), [], "shape (64, 8)"),
        (np.full((64, 8, 8), np.nan), [], "negative or not finite"),
        (np.full((64, 8, 8), -1.0), [], "negative or not finite"),
        (np.zeros((64, 8, 8)), ["--tiles", "9"], "tiles of 9 pixels do not fit into 8x8"),
        (None, [], "cannot be read as a NumPy file"),
    ],
)
def test_what_cannot_be_converted(
    script: ModuleType,
    tmp_path: Path,
    rain: np.ndarray | None,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "rain.npy"
    source.write_text("no rain") if rain is None else np.save(source, rain)
    assert script.main([str(source), str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rain.npy"]
