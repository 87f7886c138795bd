"""Data sets of video prediction as OpenSTL (https://github.com/chengtan9907/OpenSTL) keeps them on disk.

`root` is OpenSTL's data folder, or the folder of the one data set in it. OpenSTL validates on the test split; here
"validation" is cut from the training data, the same way every time, and "train" is without it: see each function.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import DatasetError, DependencyMissing
from stzoo.files import VIDEOS, natural
from stzoo_video_prediction.recordings import (
    Array,
    Clips,
    Film,
    Pictures,
    Place,
    Recording,
    Stored,
    folder_of,
    held_out_at_end,
    runs,
)

# ------------------------------------------------------------------ TaxiBJ


class TaxiBJ(Sequence[dict[str, Array]]):
    """Examples `{"video": (8,2,32,32)}`: in- and outflow of Beijing's taxis every half hour, float32 of [0,1]."""

    def __init__(self, given: Stored, wanted: Stored, rows: range) -> None:
        self.given, self.wanted, self.rows = given, wanted, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        row = self.rows[index]
        clip = np.concatenate([part.array[row] for part in (self.given, self.wanted)])
        return {"video": ((clip + 1) / 2).astype(np.float32)}


def taxibj(split: str, root: str = "") -> TaxiBJ:
    """TaxiBJ: `taxibj/dataset.npz` with X_train, Y_train, X_test, Y_test, each (N,4,2,32,32) of [-1,1].

    Zhang et al., "Deep Spatio-Temporal Residual Networks for Citywide Crowd Flows Prediction", AAAI 2017. "validation" is
    the last tenth of the training rows, which are in order of time; the rows before that share frames with it are left
    out. An uncompressed file is mapped into memory, a compressed one loaded.

    Raises DatasetError: no such file, an array is missing or of another shape.
    """
    path = folder_of(root, "taxibj", "dataset.npz") / "dataset.npz"
    part = "test" if split == "test" else "train"
    given, wanted = Stored(path, f"X_{part}"), Stored(path, f"Y_{part}")
    shapes = given.array.shape, wanted.array.shape
    if any(len(shape) != 5 for shape in shapes) or shapes[0][0] != shapes[1][0] or shapes[0][2:] != shapes[1][2:]:
        raise DatasetError(f"{path} has X_{part} {shapes[0]} and Y_{part} {shapes[1]}", "Both must be (N,T,C,H,W)")
    count, frames = len(given), shapes[0][1] + shapes[1][1]
    first = count - max(1, count // 10)
    rows = {"test": range(count), "validation": range(first, count), "train": range(max(0, first - frames + 1))}[split]
    return TaxiBJ(given, wanted, rows)


# ------------------------------------------------------------------ KTH

ACTIONS = {"boxing": None, "handclapping": None, "handwaving": None, "walking": None, "jogging": 3, "running": 3}
"""Actions, and the frames from the start of one clip to the next; None: as many as a clip has."""
PERSONS = {"train": range(1, 15), "validation": range(15, 17), "test": range(17, 26)}


def kth(split: str, root: str = "", frames: int = 30, size: int = 128) -> Clips:
    """KTH actions: `kth/ACTION/personNN_ACTION_dN_uncomp/image_NNNN.*`, grey.

    Schuldt, Laptev and Caputo, "Recognizing Human Actions: A Local SVM Approach", ICPR 2004. Test are the persons 17 to
    25, as always; "validation" are 15 and 16 of the 16 training persons. Clips are consecutive frames counted from the
    end of each sequence, as OpenSTL's are: without overlap, but every third frame one of jogging and running.

    Args:
        frames: length of a clip: 30 (10 to see, 20 to predict) or 50.
        size: height and width, resized bilinearly.

    Raises DatasetError: no such folders, no frames in them.
    """
    folder, recordings, places = folder_of(root, "kth", *ACTIONS), list[Recording](), list[Place]()
    for action, stride in ACTIONS.items():
        if not (folder / action).is_dir():
            raise DatasetError(f"{folder} has no {action}/", f"KTH has {', '.join(ACTIONS)}")
        for sequence in sorted((folder / action).glob("person*")):
            if (person := re.match(r"person(\d\d)", sequence.name)) and int(person[1]) in PERSONS[split]:
                numbered = {int(found[0]): path for path in sequence.glob("image*") if (found := _digits(path))}
                paths = [numbered[number] for number in sorted(numbered)]
                # Where a number is missing a new run begins: a number less its rank is then another.
                marks = [number - rank for rank, number in enumerate(sorted(numbered))]
                places += [(len(recordings), start) for start in runs(marks, frames, stride or frames)]
                recordings.append(Pictures(paths, 1, size, "bilinear"))
    if not recordings:
        raise DatasetError(f"{folder} has no sequence of the persons {PERSONS[split]}", "They are named personNN_...")
    return Clips(recordings, places, frames, f"kth ({split})")


def _digits(path: Path) -> list[str]:
    return re.findall(r"\d+", path.stem)


# ------------------------------------------------------------------ Human3.6M


def human(split: str, root: str = "", frames: int = 8, step: int = 5, size: int = 256, order: str = "rgb") -> Clips:
    """Human3.6M: `human/train.txt`, `human/test.txt` and the frames they name, `human/images/SN_ACTION.CAMERA_NNNNNN.jpg`.

    Ionescu et al., TPAMI 2014. A line is `images/S1_Walking.60457274_,21`: what the file names start with, and the
    number of the first frame. "validation" is one subject of train.txt, the last (S8), whom "train" does not see.

    Args:
        frames, step: length of a clip, and the frame numbers from one of its frames to the next.
        size: height and width, resized bicubically.
        order: "rgb", or "bgr", the order in which OpenSTL's networks see the channels.

    Raises DatasetError: no such file, a line that cannot be read, only one subject to train on.
    """
    if order not in ("rgb", "bgr"):
        raise DatasetError(f"order={order!r} must be 'rgb' or 'bgr'")
    listing = "test.txt" if split == "test" else "train.txt"
    folder = folder_of(root, "human", listing)
    clips: list[tuple[str, str, int]] = []
    for number, line in enumerate((folder / listing).read_text().splitlines(), start=1):
        found = re.match(r"(\S*?(S\d+)_[^,/]*),\s*(\d+)", line)
        if not found and line.strip():
            raise DatasetError(
                f"{folder / listing}: line {number} is {line[:80]!r}", "Lines are images/S1_Walking.60457274_,21"
            )
        if found:
            clips.append((found[1], found[2], int(found[3])))
    if split != "test":
        subjects = sorted({subject for _, subject, _ in clips}, key=natural)
        if len(subjects) < 2:
            raise DatasetError(f"{folder / listing} has {len(subjects)} subject, which leaves none to validate on")
        clips = [clip for clip in clips if (clip[1] == subjects[-1]) == (split == "validation")]
    recordings = [
        Pictures(
            [folder / f"{stem}{number:06}.jpg" for number in range(first, first + frames * step, step)],
            3,
            size,
            "bicubic",
            order == "bgr",
        )
        for stem, _, first in clips
    ]
    return Clips(recordings, [(index, 0) for index in range(len(recordings))], frames, f"human ({split})")


# ------------------------------------------------------------------ KittiCaltech


def kitticaltech(split: str, root: str = "", frames: int = 11) -> Clips:
    """Training on KITTI, test on Caltech Pedestrian, 128x160: in one of the two forms that OpenSTL reads.

    - `kitticaltech_npy/`: train_data.npy, test_data.npy (frames, height, width, channels), train_idx.npy, test_idx.npy
      (where clips of 11 frames start). "validation" is the last tenth of the training clips.
    - `kitti_hkl/`: X_train.hkl, X_val.hkl, sources_train.hkl, sources_val.hkl as PredNet's script makes them (package
      hickle; loaded whole), and `caltech/` with data_cache.npy and indices_cache.npy, or SET/FILM.avi of which every
      third frame is taken. "validation" is KITTI's own, X_val.

    Channels are as stored; OpenSTL's own data_cache.npy has blue first, unlike its training data.

    Raises DatasetError: files are missing or do not fit; DependencyMissing: hickle.
    """
    top = folder_of(root, ".", "kitticaltech_npy", "kitti_hkl")
    name = f"kitticaltech ({split})"
    if (top / "kitticaltech_npy").is_dir():
        folder, part = top / "kitticaltech_npy", "test" if split == "test" else "train"
        listed = _indexed(folder / f"{part}_data.npy", folder / f"{part}_idx.npy", frames)
        chosen = held_out_at_end(listed, frames, split == "validation") if part == "train" else listed
        return Clips([Stored(folder / f"{part}_data.npy", channels_last=True)], chosen, frames, name)
    if split != "test":
        part = "val" if split == "validation" else "train"
        data, sources = (_hickled(top / "kitti_hkl" / f"{stem}_{part}.hkl") for stem in ("X", "sources"))
        if np.ndim(data) != 4 or len(data) != len(sources):
            raise DatasetError(f"X_{part}.hkl has shape {np.shape(data)}, sources_{part}.hkl {len(sources)} entries")
        return Clips([Loaded(data)], [(0, start) for start in runs(map(str, sources), frames, frames)], frames, name)
    folder = folder_of(str(top), "caltech", "data_cache.npy", "set06", "set07", "set08", "set09", "set10")
    if (cache := folder / "data_cache.npy").exists():
        places = _indexed(cache, folder / "indices_cache.npy", frames)
        return Clips([Stored(cache, channels_last=True)], places, frames, name)
    films = [Film(path) for path in sorted(folder.glob("*/*")) if path.suffix.lower() in VIDEOS]
    if not films:
        raise DatasetError(
            f"{folder} has neither data_cache.npy nor films ({', '.join(VIDEOS)}) in folders",
            "Convert .seq files first",
        )
    starts = [(index, start) for index, film in enumerate(films) for start in runs([0] * len(film), frames, frames)]
    return Clips(films, starts, frames, name)


class Loaded:
    """A recording in memory, (frames, height, width, channels)."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def read(self, start: int, frames: int) -> Array:
        """As it is, with channels first."""
        return np.moveaxis(self.array[start : start + frames], -1, 1)


def _indexed(data: Path, index: Path, frames: int) -> list[Place]:
    """Places in the array `data`, where `index` says. Raises DatasetError."""
    shape, starts = Stored(data).array.shape, np.sort(np.asarray(Stored(index).array)).tolist()
    if len(shape) != 4 or not starts or starts[0] < 0:
        raise DatasetError(f"{data} has shape {shape}, {index} {len(starts)} starts", "Needed: (N,H,W,C) and starts")
    room = min((later - start for start, later in zip(starts, [*starts[1:], shape[0]], strict=True)), default=0)
    if frames > room:
        raise DatasetError(f"the clips that {index} lists have at most {room} frames", f"Not frames={frames}")
    return [(0, start) for start in starts]


def _hickled(path: Path) -> Any:
    if not path.is_file():
        raise DatasetError(f"there is no file {path}", "Make it with PredNet's process_kitti.py")
    try:
        import hickle  # type: ignore[import-not-found]
    except ImportError:
        raise DependencyMissing(f"{path.name} needs the package hickle", "Run: pip install hickle") from None
    try:
        return hickle.load(path)
    except Exception as problem:  # whatever HDF5 raises
        raise DatasetError(f"{path} cannot be read by hickle ({problem})", "Make it again") from problem
