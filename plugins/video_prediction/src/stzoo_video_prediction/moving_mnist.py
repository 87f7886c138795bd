"""Moving MNIST: handwritten digits that fly through a frame and bounce off its walls, made on the fly.

Paper: Srivastava et al., "Unsupervised Learning of Video Representations using LSTMs", ICML 2015 (arXiv:1502.04681).
`moving_mnist_sequence` draws its random numbers as the generator of OpenSTL (https://github.com/chengtan9907/OpenSTL)
does, so equal digits and an equally seeded `random.Random` give the same pixels.

Digits of MNIST's training set appear only in the splits "train" and "validation" (disjoint digits), digits of MNIST's
test set only in "test".
"""

from __future__ import annotations

import gzip
import math
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import DatasetError, DependencyMissing
from stzoo_video_prediction.recordings import Stored

Pixels = NDArray[np.uint8]

DIGIT = 28
SPEED = 0.1
VALIDATION_SHARE = 12
"""One twelfth of the training digits, the last ones, is kept for the split "validation" (5,000 of 60,000)."""


# ------------------------------------------------------------------ the generator


def trajectory(x: float, y: float, theta: float, frames: int, size: int = 64) -> tuple[list[int], list[int]]:
    """Top-left corners (rows, columns) of a digit that starts near (x, y), in [0,1], and flies at angle `theta`.

    A digit that crosses a wall is put on the wall and its direction flips, so angles of reflection are not exact.
    """
    bounce_x = bounce_y = 1.0
    rows, columns = [], []
    for _ in range(frames):
        y += bounce_y * math.sin(theta) * SPEED
        x += bounce_x * math.cos(theta) * SPEED
        if x <= 0.0 or x >= 1.0:
            x, bounce_x = (0.0 if x <= 0.0 else 1.0), -bounce_x
        if y <= 0.0 or y >= 1.0:
            y, bounce_y = (0.0 if y <= 0.0 else 1.0), -bounce_y
        rows.append(int((size - DIGIT) * y))
        columns.append(int((size - DIGIT) * x))
    return rows, columns


def moving_mnist_sequence(
    digits: Pixels,
    rng: random.Random,
    *,
    frames: int = 20,
    size: int = 64,
    objects: Sequence[int] = (2,),
) -> Pixels:
    """One sequence of the reference generator.

    Args:
        digits: (N,28,28) uint8, the digits to draw from.
        rng: the source of all randomness.
        frames: length of the sequence.
        size: height and width of a frame, at least 28.
        objects: how many digits fly, drawn from these.

    Returns:
        (frames,1,size,size) uint8; where digits overlap, the brighter pixel wins.
    """
    video = np.zeros((frames, 1, size, size), np.uint8)
    for _ in range(rng.choice(objects)):
        x, y, theta = rng.random(), rng.random(), rng.random() * 2 * math.pi
        corners = zip(*trajectory(x, y, theta, frames, size), strict=True)
        digit = digits[rng.randint(0, len(digits) - 1)]
        for frame, (row, column) in zip(video[:, 0], corners, strict=True):
            window = frame[row : row + DIGIT, column : column + DIGIT]
            np.maximum(window, digit, out=window)
    return video


# ------------------------------------------------------------------ digits


def read_idx(path: str | Path) -> Pixels:
    """The array in an idx file of bytes (the format of MNIST's own files), gzipped or not.

    Raises:
        DatasetError: no such file, not an idx file of bytes, truncated, or too long.
    """
    path = Path(path)
    again = "Get the four MNIST files again"
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}", again) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}", again) from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or not data[3]:
        raise DatasetError(
            f"{path} is not an idx file of bytes: it starts with {data[:4].hex() or 'nothing'}, not 000008",
            again,
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise DatasetError(f"{path} is truncated: its header ends after {len(data)} bytes", again)
    shape = tuple(np.frombuffer(data, ">u4", data[3], 4).tolist())
    expected = math.prod(shape)
    if len(data) - header != expected:
        raise DatasetError(
            f"{path} is truncated or damaged: {len(data) - header} bytes of data, its header says {expected}",
            again,
        )
    return np.frombuffer(data, np.uint8, expected, header).reshape(shape)


def mnist_digits(split: str, source: str | Path = "shipped", hub: str = "ylecun/mnist") -> Pixels:
    """The digits (N,28,28) uint8 of a split.

    Args:
        split: "train", "validation" (digits of MNIST's training set that "train" does not use) or "test".
        source: "shipped" (2,000 training and 1,000 test digits that come with the plugin), "hub" (all of them, from
            the Hub dataset `hub`), or a folder with MNIST's own idx files.
        hub: that dataset.

    Raises:
        DatasetError: unknown split, or the source cannot be read.
        DependencyMissing: "hub" without the package `datasets`.
    """
    if split not in ("train", "validation", "test"):
        raise DatasetError(f"Moving MNIST has no split {split!r}", "Use 'train', 'validation' or 'test'")
    part = "test" if split == "test" else "train"
    if source == "shipped":
        with np.load(Path(__file__).with_name("data") / "digits.npz") as shipped:
            digits: Pixels = shipped[part]
    elif source == "hub":
        digits = _hub_digits(part, hub)
    else:
        digits = _folder_digits(part, Path(source))
    held_out = len(digits) // VALIDATION_SHARE
    return {"train": digits[:-held_out], "validation": digits[-held_out:], "test": digits}[split]


def _folder_digits(part: str, folder: Path) -> Pixels:
    stem = "t10k" if part == "test" else "train"
    names = [f"{stem}-images{dot}idx3-ubyte{end}" for dot in "-." for end in (".gz", "")]
    for name in names:
        if (folder / name).is_file():
            digits = read_idx(folder / name)
            break
    else:
        raise DatasetError(
            f"the folder {folder} has no {names[0]}",
            "Put MNIST's idx files there, or use digits='shipped' or digits='hub'",
        )
    if digits.shape[1:] != (DIGIT, DIGIT) or len(digits) < VALIDATION_SHARE:
        raise DatasetError(
            f"{folder / name} holds an array {digits.shape}, not at least {VALIDATION_SHARE} images of 28x28",
            "Use MNIST's image files",
        )
    return digits


def _hub_digits(part: str, hub: str) -> Pixels:
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]
    except ImportError:
        raise DependencyMissing(
            "digits='hub' needs the package datasets", "pip install datasets, or use digits='shipped'"
        ) from None
    try:
        rows = load_dataset(hub, split=part)
    except Exception as error:  # datasets raises whatever its storage layers raise
        raise DatasetError(
            f"the Hub dataset {hub} cannot be read: {error}",
            "Check the network, or use digits='shipped' or a folder with MNIST's idx files",
        ) from error
    return np.stack([np.asarray(image, np.uint8) for image in rows["image"]])


# ------------------------------------------------------------------ the dataset


class MovingMNIST:
    """A map-style dataset: `[i]` is `{"video": (frames,1,64,64) uint8}` and depends only on the seed and `i`.

    Args:
        split: "train", "validation" or "test"; the digits of the three are disjoint, and so are their random numbers.
        digits: where digits come from, see `mnist_digits`.
        size: number of sequences; by default 10,000, as in the published protocol (1,000 for "validation").
        frames: length of a sequence.
        seed: other seeds give other sequences. The test split of seed 0 is the one that stzoo's numbers refer to.

    Raises:
        DatasetError, DependencyMissing: as `mnist_digits`; or a number is not positive.
    """

    def __init__(
        self,
        split: str,
        digits: str | Path = "shipped",
        size: int | None = None,
        frames: int = 20,
        seed: int = 0,
        hub: str = "ylecun/mnist",
    ) -> None:
        self.digits = mnist_digits(split, digits, hub)
        self.split = split
        self.size = size if size is not None else 1_000 if split == "validation" else 10_000
        self.frames = frames
        self.seed = seed
        if self.size < 1 or frames < 1:
            raise DatasetError(
                f"Moving MNIST with {self.size} sequences of {frames} frames is empty",
                "size and frames must be positive",
            )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Pixels]:
        if not -self.size <= index < self.size:
            raise IndexError(f"sequence {index} of {self.size}")
        rng = random.Random(f"moving-mnist {self.split} {self.seed} {index % self.size}")
        return {"video": moving_mnist_sequence(self.digits, rng, frames=self.frames)}


class FixedSequences(Sequence[dict[str, Pixels]]):
    """The published test set, a file (20,N,64,64) uint8: `[i]` is `{"video": (frames,1,64,64)}`, read when asked for.

    Raises:
        DatasetError: no such file, or an array of another shape or type.
    """

    def __init__(self, path: Path, size: int | None, frames: int) -> None:
        self.stored = Stored(path)
        array = self.stored.array
        if array.ndim != 4 or array.dtype != np.uint8:
            raise DatasetError(
                f"{path} holds {array.dtype} {array.shape}", "The published file holds uint8 (20, 10000, 64, 64)"
            )
        self.frames, self.size = frames, array.shape[1] if size is None else size
        if not 0 < frames <= len(array) or not 0 < self.size <= array.shape[1]:
            raise DatasetError(
                f"{path} has {array.shape[1]} sequences of {len(array)} frames, not {self.size} of {frames}"
            )

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if not -self.size <= index < self.size:
            raise IndexError(f"sequence {index} of {self.size}")
        return {"video": np.array(self.stored.array[: self.frames, index % self.size, None])}


def load(
    split: str,
    digits: str | Path = "shipped",
    size: int | None = None,
    frames: int = 20,
    seed: int = 0,
    fixed: str = "",
) -> MovingMNIST | FixedSequences:
    """The dataset `moving-mnist` of the registry: see `MovingMNIST`.

    `fixed` is the file `mnist_test_seq.npy`, or a folder that has it: then it is the test split.
    """
    if fixed and split == "test":
        return FixedSequences(_fixed_file(fixed, "mnist_test_seq.npy"), size, frames)
    return MovingMNIST(split, digits, size, frames, seed)


def load_fashion(
    split: str, digits: str = "", size: int | None = None, frames: int = 20, seed: int = 0, fixed: str = ""
) -> MovingMNIST | FixedSequences:
    """The dataset `moving-fashion-mnist`: clothes instead of digits, otherwise as `load`.

    `digits` is a folder with Fashion-MNIST's idx files, or "hub" (`zalando-datasets/fashion_mnist`); `fixed` the file
    `fmnist_test_seq.npy`, or a folder that has it.
    """
    if fixed and split == "test":
        return FixedSequences(_fixed_file(fixed, "fmnist_test_seq.npy"), size, frames)
    if digits in ("", "shipped"):
        raise DatasetError(
            "moving-fashion-mnist needs Fashion-MNIST, which is not shipped",
            "Write digits=FOLDER with its idx files, or digits=hub",
        )
    return MovingMNIST(split, digits, size, frames, seed, "zalando-datasets/fashion_mnist")


def _fixed_file(fixed: str, name: str) -> Path:
    path = Path(fixed).expanduser()
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise DatasetError(f"there is no file {path}", f"Give {name}, or the folder that has it: fixed=PATH")
    return path
