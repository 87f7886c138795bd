"""Long recordings on disk, and the clips cut from them: nothing is read before a clip is asked for.

Everything here can be pickled and costs little then: worker processes open the files again.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stzoo import media
from stzoo.errors import DatasetError
from stzoo.media.decoding import File, decode_picture

Array = NDArray[Any]
Place = tuple[int, int]
"""A recording's number, and the frame at which a clip starts in it."""


class Recording(Protocol):
    """Frames in order."""

    def read(self, start: int, frames: int) -> Array:
        """The frames from `start` on, (T,C,H,W): uint8, or floats of [0,1]."""
        ...


class Clips(Sequence[dict[str, Array]]):
    """Examples `{"video": (frames,C,H,W)}`, cut from recordings at given places."""

    def __init__(self, recordings: Sequence[Recording], places: Sequence[Place], frames: int, name: str) -> None:
        if not places:
            raise DatasetError(f"{name}: no recording has {frames} frames in a row", "Ask for fewer: frames=N")
        self.recordings, self.places, self.frames = recordings, places, frames

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        recording, start = self.places[index]
        return {"video": self.recordings[recording].read(start, self.frames)}


def held_out_at_end(places: Sequence[Place], frames: int, validation: bool) -> Sequence[Place]:
    """The last tenth of the places, which are in order of time, or those before that share no frame with it."""
    first = len(places) - max(1, len(places) // 10)
    if validation:
        return places[first:]
    return [place for place in places[:first] if place[0] != places[first][0] or place[1] + frames <= places[first][1]]


def folder_of(root: str, name: str, *inside: str) -> Path:
    """The folder `name` under `root`, or `root` itself, whichever has one of `inside`. Raises DatasetError."""
    what = " or ".join(inside)
    if not root:
        raise DatasetError(f"{name} needs to know where its files are", f"Write root=FOLDER, with {what} in it")
    top = Path(root).expanduser()
    for folder in (top / name, top):
        if any((folder / item).exists() for item in inside):
            return folder
    raise DatasetError(f"neither {top / name} nor {top} has {what}", "Give the folder that holds it: root=FOLDER")


# ------------------------------------------------------------------ kinds of recordings


@dataclass(frozen=True)
class Pictures:
    """A recording whose frames are picture files."""

    paths: Sequence[Path]
    channels: int
    size: int
    """Height and width that frames of another height are resized to, as OpenCV does it (without antialiasing)."""
    how: Literal["bilinear", "bicubic"]
    reverse: bool = False
    """Channels in the order blue, green, red."""

    def read(self, start: int, frames: int) -> Array:
        """uint8, or float32 where frames were resized bilinearly."""
        found = []
        for path in self.paths[start : start + frames]:
            if not path.is_file():
                raise DatasetError(f"there is no frame {path}", "Is the data set complete?")
            found.append(self._fitted(decode_picture(File(path), "video", self.channels)))
        clip = np.stack(found)
        return clip[:, ::-1] if self.reverse else clip

    def _fitted(self, frame: Array) -> Array:
        if frame.shape[1:] == (self.size, self.size):
            return frame if self.how == "bicubic" else frame.astype(np.float32) / np.float32(255)
        import torch
        import torch.nn.functional as F

        pixels = torch.from_numpy(frame.astype(np.float32))[None]
        fitted = F.interpolate(pixels, (self.size, self.size), mode=self.how, align_corners=False)[0].numpy()
        if self.how == "bicubic":  # of 8 bits
            fitted = np.rint(fitted).clip(0, 255).astype(np.uint8)
        unit: Array = fitted if self.how == "bicubic" else fitted / np.float32(255)
        return unit


@dataclass(frozen=True)
class Film:
    """A video file: every third frame, resized to a height and cropped to a width around the middle."""

    path: Path
    height: int = 128
    width: int = 160

    def __len__(self) -> int:
        return media.count_frames(self.path, "video") // 3

    def read(self, start: int, frames: int) -> Array:
        """float32 RGB."""
        clip = media.read_video(self.path, "video", 3, start=3 * start + 2, frames=3 * frames - 2)[::3]
        high, wide = clip.shape[-2:]
        clip = media.resized(clip, (self.height, round(wide * self.height / high)))
        left = (clip.shape[-1] - self.width) // 2
        return clip[..., left : left + self.width]


@dataclass
class Stored:
    """An array in a NumPy file, (frames, ...): mapped into memory, but for one that is compressed, which is loaded."""

    path: Path
    key: str = ""
    """Of the array in an npz file; empty: the first."""
    channels_last: bool = False

    @cached_property
    def array(self) -> Array:
        """Raises DatasetError if the file is missing, damaged, or lacks the array."""
        try:
            if self.path.suffix != ".npz":
                array: Array = np.load(self.path, mmap_mode="r", allow_pickle=False)
                return array
            with np.load(self.path, allow_pickle=False) as archive:
                key = self.key or archive.files[0]
                if key not in archive.files:
                    raise DatasetError(f"{self.path} has no array {key!r}", f"It has {', '.join(archive.files)}")
                mapped = _mapped(self.path, f"{key}.npy")
                return archive[key] if mapped is None else mapped
        except DatasetError:
            raise
        except Exception as problem:  # NumPy raises many kinds for files that are none of its own
            raise DatasetError(f"{self.path} cannot be read as a NumPy file ({problem})", "Get it again") from problem

    def __len__(self) -> int:
        return len(self.array)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "array"}

    def read(self, start: int, frames: int) -> Array:
        """As it is stored, with channels first."""
        clip = np.array(self.array[start : start + frames])
        return np.moveaxis(clip, -1, 1) if self.channels_last else clip


def _mapped(path: Path, member: str) -> Array | None:
    """The array in an npz file, mapped into memory; None if it is compressed."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)  # a local file header; the lengths of name and extra field are its last two numbers
        file.seek(info.header_offset + 30 + sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28)))
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or not math.prod(shape):
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def runs(marks: Iterable[Any], frames: int, stride: int) -> list[int]:
    """Where clips start that are of one mark throughout, counted from the end of each run of equal marks."""
    marks = list(marks)
    ends = [index for index in range(len(marks)) if index + 1 == len(marks) or marks[index] != marks[index + 1]]
    starts, first = [], 0
    for end in ends:
        starts += sorted(range(end - frames + 1, first - 1, -stride))
        first = end + 1
    return starts
