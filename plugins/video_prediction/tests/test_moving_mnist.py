"""Moving MNIST against the reference generator, and its digit sources."""

import gzip
import math
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stzoo.errors import DatasetError, DependencyMissing
from stzoo_video_prediction import moving_mnist
from stzoo_video_prediction.moving_mnist import (
    MovingMNIST,
    mnist_digits,
    moving_mnist_sequence,
    read_idx,
    trajectory,
)

GOLDEN = load_file(Path(__file__).with_name("goldens") / "moving-mnist-generator.safetensors")


def write_idx(path: Path, array: np.ndarray) -> Path:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MNIST in small: 48 training digits and 12 test digits, each of one grey value."""
    for stem, values in (("train", range(48)), ("t10k", range(100, 112))):
        digits = np.repeat(np.array(values, np.uint8), 28 * 28).reshape(-1, 28, 28)
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", digits)
    return tmp_path


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_trajectory_is_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    rows, columns = trajectory(rng.random(), rng.random(), rng.random() * 2 * math.pi, 40)
    np.testing.assert_array_equal(rows, GOLDEN[f"traj_seed{seed}.y"])
    np.testing.assert_array_equal(columns, GOLDEN[f"traj_seed{seed}.x"])


@pytest.mark.parametrize(
    ("case", "seed", "size", "objects"),
    [
        ("mm10_10", 3, 64, (2,)),
        ("mm_3digits_48", 5, 48, (3,)),
        ("mm_choice_1_2_3", 11, 64, (1, 2, 3)),
    ],
)
def test_sequence_is_the_reference(case: str, seed: int, size: int, objects: tuple) -> None:
    expected = np.concatenate((GOLDEN[f"{case}.input"], GOLDEN[f"{case}.output"]))
    video = moving_mnist_sequence(
        GOLDEN["digits"], random.Random(seed), frames=len(expected), size=size, objects=objects
    )
    np.testing.assert_array_equal(video / np.float32(255), expected)


def test_items_depend_on_seed_and_index_only() -> None:
    data = MovingMNIST("test", size=5)
    assert len(data) == 5
    assert data[3]["video"].shape == (20, 1, 64, 64)
    np.testing.assert_array_equal(data[3]["video"], MovingMNIST("test", size=9)[3]["video"])
    np.testing.assert_array_equal(data[-1]["video"], data[4]["video"])
    assert (data[3]["video"] != data[4]["video"]).any()
    assert (data[3]["video"] != MovingMNIST("test", size=5, seed=1)[3]["video"]).any()
    with pytest.raises(IndexError):
        data[5]


def test_splits_share_no_digit(folder: Path) -> None:
    values = {split: set(mnist_digits(split, folder)[:, 0, 0].tolist()) for split in ("train", "validation", "test")}
    assert values["train"] == set(range(44))
    assert values["validation"] == set(range(44, 48))
    assert values["test"] == set(range(100, 112))


def test_shipped_digits() -> None:
    assert mnist_digits("test").shape == (1000, 28, 28)
    assert len(mnist_digits("train")) + len(mnist_digits("validation")) == 2000
    assert moving_mnist.load("train", size=3)[0]["video"].max() > 200


def test_idx_plain_and_gzipped(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = write_idx(tmp_path / "a.gz", array)
    np.testing.assert_array_equal(read_idx(path), array)
    (tmp_path / "a").write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "23 bytes of data"),
        (lambda data: data + b"x", "25 bytes of data"),
        (lambda data: data[:6], "truncated"),
        (lambda data: b"PNG" + data, "not an idx file"),
        (lambda data: b"", "nothing"),
        (lambda data: gzip.compress(data)[:-9], "cannot be read"),
    ],
)
def test_damaged_idx(tmp_path: Path, damage, message: str) -> None:
    path = write_idx(tmp_path / "a", np.zeros((2, 3, 4), np.uint8))
    path.write_bytes(damage(gzip.decompress(path.read_bytes())))
    with pytest.raises(DatasetError, match=message):
        read_idx(path)


def test_bad_sources(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="no split 'valid'"):
        mnist_digits("valid")
    with pytest.raises(DatasetError, match="has no train-images"):
        mnist_digits("train", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="empty"):
        MovingMNIST("test", size=0)
    write_idx(folder / "t10k-images-idx3-ubyte.gz", np.zeros((12,), np.uint8))
    with pytest.raises(DatasetError, match="28x28"):
        mnist_digits("test", folder)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DependencyMissing, match="pip install datasets"):
        mnist_digits("test", "hub")
