"""Files of pictures and clips, or their bytes, to arrays: through Pillow, PyAV and NumPy, and no more of them than is needed.

Arrays have channels first and the file's own numbers: 8 or 16 bits, or whatever a NumPy file holds.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from stzoo.errors import DependencyMissing, InputError, MediaError
from stzoo.files import ARRAYS, IMAGES, VIDEOS, ending, files_in
from stzoo.media.deep import decode_deep, is_deep

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""
CONTAINERS = "mov,avi,matroska,mpeg,mpegvideo,mpegts,m4v"
"""What FFmpeg may take a film for. Playlists and lists of files, whatever their ending, would make it open further files."""


@dataclass(frozen=True)
class File:
    """A file, or its bytes."""

    path: Path
    data: bytes | None = None

    def opened(self) -> Any:
        """What libraries open."""
        return str(self.path) if self.data is None else io.BytesIO(self.data)

    @property
    def suffix(self) -> str:
        """Its ending; that of bytes without a name is told by how they start."""
        if self.path.suffix or not self.data:
            return ending(self.path)
        known = {b"GIF8": ".gif", b"\x93NUM": ".npy", b"PK\x03\x04": ".npz"}
        return known.get(self.data[:4], VIDEOS[0])

    def __str__(self) -> str:
        return str(self.path) if self.path.name else f"{len(self.data or b'')} bytes"


def file_of(value: Any, name: str) -> File | None:
    """The file that a value names or holds, which is there and not empty; None for values that are no file.

    ``value``: a path, bytes, an open file, or path and bytes as ``datasets`` gives them: ``{"path", "bytes"}``, where a
    stream's path is an address.
    """
    data = None
    if isinstance(value, dict) and value.keys() & {"path", "bytes"}:
        value, data = value.get("path") or "", value.get("bytes")
        if data is None and "://" in value:
            data = _fetched(value, name)
    elif isinstance(value, bytes):
        value, data = "", value
    elif callable(getattr(value, "read", None)):
        value, data = str(getattr(value, "name", "")), value.read()
        data = data.encode() if isinstance(data, str) else data
    if not isinstance(value, (str, Path)):
        return None
    file = File(Path(value).expanduser(), data)
    if data is None:
        _must_exist(file.path, name)
    elif not data:
        raise MediaError(f"{name}: the file {file} is empty")
    return file


def _fetched(url: str, name: str) -> bytes:
    import fsspec  # comes with datasets

    try:
        with fsspec.open(url, "rb") as remote:
            data: bytes = remote.read()
            return data
    except (OSError, ValueError, ImportError) as problem:
        raise MediaError(f"{name}: {url} cannot be fetched ({problem})", "Check the network") from problem


def frame_files(folder: Path, name: str) -> list[Path]:
    """The frames in a folder, in natural order; raises MediaError if there are none."""
    files = files_in(folder, IMAGES)
    if not files:
        raise MediaError(f"{name}: the folder {folder} holds no frames", f"Put images in it ({', '.join(IMAGES)})")
    return files


def decode_clip(file: File, name: str, channels: int | None, start: int, stop: int | None) -> np.ndarray:
    """Frames ``start`` to ``stop`` of a film, GIF, NumPy file or folder of pictures, as (T, C, H, W)."""
    if file.data is None and file.path.is_dir():
        files = frame_files(file.path, name)[start:stop]
        return stacked([decode_picture(File(item), name, channels) for item in files], name)
    if file.suffix in ARRAYS:
        array = load_array(file, name, start, stop)
        if array.ndim not in (3, 4):
            raise MediaError(
                f"{name}: {file} holds an array of shape {array.shape}, not a clip",
                "Store (frames, height, width) or (frames, channels, height, width)",
            )
        if not array.size:
            raise MediaError(f"{name}: {file} has no frames")
        return array[:, None] if array.ndim == 3 else channels_first(array, channels)
    if file.suffix == ".gif":
        with opened_picture(file, name, "decoded") as image:
            chosen = range(getattr(image, "n_frames", 1))[start:stop]
            return stacked([from_pil(_frame(image, index), channels or 3) for index in chosen], name)
    if file.suffix in VIDEOS:
        return _decode_video(file, name, channels, start, stop)
    raise MediaError(
        f"{name}: {file.path.name} is not a clip stzoo reads",
        f"Endings: {', '.join((*VIDEOS, '.gif', *ARRAYS))}, or a folder of images",
    )


def _frame(image: PILImage, index: int) -> PILImage:
    image.seek(index)
    return image


@contextlib.contextmanager
def opened_film(file: File, name: str) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; what goes wrong inside becomes MediaError."""
    try:
        import av
    except ImportError:
        raise DependencyMissing("reading video files needs PyAV", "Run: pip install 'stzoo[video]'") from None
    try:
        with av.open(file.opened(), options={"format_whitelist": CONTAINERS}) as container:
            yield container, container.streams.video[0]
    except (av.FFmpegError, IndexError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise MediaError(
            f"{name}: {file} cannot be decoded as a video ({reason})", "Is the file complete?"
        ) from problem


def _decode_video(file: File, name: str, channels: int | None, start: int, stop: int | None) -> np.ndarray:
    layout = "gray" if channels == 1 else "rgb24"
    with opened_film(file, name) as (container, stream):
        decoded = _from_frame(container, stream, start)
        count = None if stop is None else stop - start
        frames = [frame.to_ndarray(format=layout) for frame in itertools.islice(decoded, count)]
    if not frames:
        raise MediaError(f"{name}: {file} has no frames")
    clip = np.stack(frames)
    return clip[:, None] if clip.ndim == 3 else clip.transpose(0, 3, 1, 2)


def decode_frames(file: File, name: str, channels: int | None) -> Iterator[np.ndarray]:
    """The frames of a video file (C, H, W), uint8, one by one. Raises MediaError."""
    with opened_film(file, name) as (container, stream):
        for frame in container.decode(stream):
            array = frame.to_ndarray(format="gray" if channels == 1 else "rgb24")
            yield array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _from_frame(container: Any, stream: Any, start: int) -> Iterator[Any]:
    """Frames from number ``start`` on. Seeks where the header proves that the frames' times are a grid without gaps."""
    step = 1 / (stream.average_rate * stream.time_base) if stream.average_rate and stream.time_base else 0
    timed = "mp4" in container.format.name  # avi has no times of its own, and matroska no number of frames
    if not start or not timed or not stream.frames or stream.frames * step != stream.duration:
        yield from itertools.islice(container.decode(stream), start, None)
        return
    first = (stream.start_time or 0) + start * step
    container.seek(int(first), stream=stream)
    yield from (frame for frame in container.decode(stream) if frame.pts is not None and frame.pts >= first)


@contextlib.contextmanager
def opened_picture(file: File, name: str, how: str) -> Iterator[PILImage]:
    """The opened picture; what goes wrong inside becomes MediaError."""
    from PIL import Image

    if file.data is None and file.path.is_dir():
        raise MediaError(f"{name}: {file} is a folder", "Give a file")
    try:
        with Image.open(file.opened()) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as problem:
        if isinstance(problem, InputError):
            raise
        raise MediaError(f"{name}: {file} cannot be {how} ({problem})", "Is the file complete?") from problem


def decode_picture(file: File, name: str, channels: int | None) -> np.ndarray:
    """A picture file as (C, H, W), with the ``channels`` asked for, turned as its EXIF header says."""
    from PIL import ImageOps

    with opened_picture(file, name, "decoded as a picture") as image:
        of_16_bits = is_deep(image)  # before anything is decoded
        turned = image.getexif().get(ORIENTATION, 1) != 1  # rare in 16 bits, of which then 8 are taken
        deep = decode_deep(file.opened(), name) if of_16_bits and channels != 1 and not turned else None
        if deep is None:
            return from_pil(ImageOps.exif_transpose(image), channels)
    wanted = channels or len(deep)
    return deep[:wanted] if len(deep) >= wanted else np.concatenate([deep, np.full_like(deep[:1], 65535)])


def from_pil(image: PILImage, channels: int | None) -> np.ndarray:
    """A PIL image as (C, H, W), with the ``channels`` asked for; 16-bit greys keep their bits.

    Where any number will do: 1 of greys, 4 of what has transparent parts, 3 of everything else.
    """
    if image.mode.startswith("I;16") or image.mode == "I":  # Pillow would clip 16-bit greys at 255
        grey = np.asarray(image).astype(np.uint16)[None]
        return np.repeat(grey, channels, axis=0) if channels == 3 else grey
    own = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L", "F") else "RGB"
    mode = MODES.get(channels or 0) or own
    array = np.asarray(image.convert(mode))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@contextlib.contextmanager
def numpy_file(file: File, name: str) -> Iterator[None]:
    """What goes wrong inside with a NumPy file becomes MediaError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, TypeError, EOFError, KeyError, BadZipFile, zlib.error) as problem:
        raise MediaError(
            f"{name}: {file} cannot be read as a NumPy file ({problem})", "Is the file complete?"
        ) from problem


def _only_array(file: File, names: Sequence[str], name: str) -> str:
    if len(names) != 1 and "video" not in names:
        raise MediaError(
            f"{name}: {file} holds {len(names)} arrays ({', '.join(names[:8])})", "Store one, or name it 'video'"
        )
    return "video" if "video" in names else names[0]


def load_array(file: File, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The array in a NumPy file, from ``start`` to ``stop``; of an npy file nothing else is read."""
    with numpy_file(file, name):
        part: np.ndarray
        if file.suffix == ".npy" and file.data is None and (start or stop) and array_shape(file, name)[:1] != (0,):
            return np.array(np.load(file.path, mmap_mode="r", allow_pickle=False)[start:stop])
        loaded = np.load(file.opened(), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            part = loaded
        else:
            with loaded:
                part = loaded[_only_array(file, loaded.files, name)]
        return part[start:stop] if part.ndim else part


def array_shape(file: File, name: str) -> tuple[int, ...]:
    """Shape of the array in a NumPy file, from its header."""
    with numpy_file(file, name), contextlib.ExitStack() as stack:
        if file.suffix == ".npz":
            archive = stack.enter_context(ZipFile(file.opened()))
            names = [item.removesuffix(".npy") for item in archive.namelist()]
            header = stack.enter_context(archive.open(_only_array(file, names, name) + ".npy"))
        else:
            header = stack.enter_context(file.path.open("rb") if file.data is None else io.BytesIO(file.data))
        latest = np.lib.format.read_magic(header) > (1, 0)
        read = np.lib.format.read_array_header_2_0 if latest else np.lib.format.read_array_header_1_0
        return tuple(read(header)[0])


def _must_exist(path: Path, name: str) -> None:
    if not path.exists():
        remote = re.match(r"\w\w+:/", str(path))
        raise MediaError(f"{name}: there is no file {path}", "Download what is at that address first" if remote else "")
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{name}: the file {path} is empty")


def channels_first(array: np.ndarray, channels: int | None) -> np.ndarray:
    """Channels-last arrays turned over. An array that could be either is taken as channels first."""
    first, last = array.shape[-3], array.shape[-1]
    fits = (channels,) if channels else (1, 2, 3, 4)
    return np.moveaxis(array, -1, -3) if last in fits and first not in fits else array


def stacked(frames: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Frames of one shape as a clip; raises InputError if there are none or their shapes differ."""
    if not frames:
        raise InputError(f"{name}: no frames")
    for index, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise InputError(
                f"{name}: frame {index} has shape {frame.shape}, the first one {frames[0].shape}",
                "All frames must be of one size",
            )
    return np.stack(frames)
