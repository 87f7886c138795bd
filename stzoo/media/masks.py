"""Masks: read what people have, write what they want. A mask holds a number per pixel, which is a class or an object.

Layout everywhere: uint8, (H, W) or (T, H, W); :data:`IGNORE` marks pixels that count neither way.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from stzoo import media
from stzoo.errors import InputError, MediaError
from stzoo.files import ARRAYS, IMAGES, atomic_path, natural
from stzoo.media.decoding import File, array_shape, file_of, frame_files, load_array, opened_picture, stacked

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

IGNORE = 255
"""The number of pixels that nobody labelled."""


def colours() -> np.ndarray:
    """The colour of each number, uint8 (256, 3): that of Pascal VOC, where the bits of the number, three at a time from
    the lowest, are bits of red, green and blue from the highest."""
    numbers = np.arange(256)[:, None]
    table = np.zeros((256, 3), np.uint8)
    for place in range(8):
        table |= ((numbers >> (3 * place + np.arange(3)) & 1) << (7 - place)).astype(np.uint8)
    return table


# --- reading ----------------------------------------------------------------------------------------------------------


def read_mask(value: Any, name: str, classes: int = 0, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask as uint8 (H, W), at ``size`` (height, width) if given; a resized mask takes the nearest pixel's number.

    ``value``: a path of an indexed, grey or black-and-white picture, npy or npz, the bytes of such a file, a PIL image, an
    integer or boolean array or tensor (H, W) or (1, H, W). A grey picture that is only black and white has object 1, or the
    second of two ``classes``, where it is white; of more classes white is what nobody labelled. Raises InputError or
    MediaError, also for numbers from ``classes`` on.
    """
    from PIL import Image

    source = ""
    if file := file_of(value, name):
        source = f" in {file}"
        if file.suffix in ARRAYS:
            array = load_array(file, name)
        elif file.suffix in (".jpg", ".jpeg"):
            raise InputError(f"{name}: {file} is a JPEG, which does not keep numbers exactly", "Give a PNG")
        else:
            with opened_picture(file, name, "decoded as a mask") as image:
                array = _numbers(image, name, source, classes)
    else:
        array = _numbers(value, name, source, classes) if isinstance(value, Image.Image) else _array(value, name)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    return resized(checked(array, name, 2, source, classes), size)


def read_masks(
    value: Any,
    name: str,
    classes: int = 0,
    *,
    start: int = 0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Masks of a clip as uint8 (T, H, W): ``frames`` of them from ``start`` on.

    ``value``: a path of npy, npz, a zip file or folder of pictures, the bytes of such a file, an integer or boolean array or
    tensor (T, H, W) or (T, 1, H, W), or a list of masks. Else as :func:`read_mask`.
    """
    stop, source = None if frames is None else start + frames, ""
    if file := file_of(value, name):
        source = f" in {file}"
        if file.suffix in ARRAYS:
            array = load_array(file, name, start, stop)
        elif file.data is None and file.path.is_dir():
            array = _stacked(frame_files(file.path, name)[start:stop], name, classes)
        else:
            array = _stacked(zip_pictures(file, name, start, stop), name, classes)
    elif isinstance(value, (list, tuple)):
        array = _stacked(value[start:stop], name, classes)
    else:
        array = _array(value, name)[start:stop]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if start and len(array) < (frames or 1):
        raise MediaError(f"{name}: it ends before frame {start + (frames or 1)}", "Is the file complete?")
    return resized(checked(array, name, 3, source, classes), size)


def count_masks(value: Any, name: str) -> int:
    """Frames of a value as :func:`read_masks` takes it; nothing is decoded."""
    if not (file := file_of(value, name)):
        return len(value)
    if file.suffix in ARRAYS:
        return (array_shape(file, name) or (0,))[0]
    if file.data is None and file.path.is_dir():
        return len(frame_files(file.path, name))
    return len(zip_entries(file, name))


def zip_entries(file: File, name: str) -> list[ZipInfo]:
    """The pictures in a zip file, in natural order; raises MediaError if there are none."""
    try:
        with ZipFile(file.opened()) as archive:
            found = [item for item in archive.infolist() if Path(item.filename).suffix.lower() in IMAGES]
    except (OSError, BadZipFile) as problem:
        raise MediaError(f"{name}: {file} cannot be read as a zip file of masks ({problem})") from problem
    if not found:
        raise MediaError(f"{name}: {file} holds no pictures", f"Put masks in it ({', '.join(IMAGES)})")
    return sorted(found, key=lambda item: natural(item.filename))


def zip_pictures(file: File, name: str, start: int, stop: int | None) -> Iterator[dict[str, Any]]:
    """Path and bytes of the pictures ``start`` to ``stop`` in a zip file, one at a time; raises MediaError."""
    chosen = zip_entries(file, name)[start:stop]
    try:
        with ZipFile(file.opened()) as archive:
            for item in chosen:
                yield {"path": item.filename, "bytes": archive.read(item)}
    except (OSError, BadZipFile, NotImplementedError, RuntimeError, zlib.error) as problem:
        raise MediaError(f"{name}: {file} cannot be unpacked ({problem})", "Is the file complete?") from problem


def _stacked(values: Iterable[Any], name: str, classes: int) -> np.ndarray:
    return stacked([read_mask(value, f"{name}[{index}]", classes) for index, value in enumerate(values)], name)


def _numbers(image: PILImage, name: str, source: str, classes: int) -> np.ndarray:
    """The numbers in a picture: indices of a palette, or grey levels."""
    if image.mode in ("P", "1") or image.mode.startswith("I"):
        return np.asarray(image)
    array = np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        if (array[..., :3] != array[..., :1]).any() or (array[..., 3:] != 255).any():
            raise InputError(
                f"{name}: the picture{source} has colours, not numbers of classes or objects",
                "Store the numbers as a PNG with a palette, or as an array",
            )
        array = array[..., 0]
    elif image.mode != "L":
        raise InputError(f"{name}: a mask is not read from a picture of mode {image.mode}{source}", "Give a grey PNG")
    white = array == IGNORE
    return white if classes in (0, 2) and (white | (array == 0)).all() else array


def _array(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    except (ValueError, TypeError) as problem:
        raise InputError(f"{name} is no array of one shape ({problem})", "Give whole numbers, one per pixel") from None


def checked(array: np.ndarray, name: str, axes: int, source: str = "", classes: int = 0) -> np.ndarray:
    """As uint8, of the right shape, in range."""
    if array.dtype.kind == "f":
        raise InputError(
            f"{name}: decimal numbers{source} are no mask; they look like probabilities or scores",
            "Take the largest (argmax) or a threshold first",
        )
    if array.dtype.kind not in "uib":
        raise InputError(f"{name}: a {array.dtype} is no mask", "Give a path, whole numbers, or a PIL image")
    if array.ndim != axes or not array.size:
        wanted = "(frames, height, width)" if axes == 3 else "(height, width)"
        raise InputError(f"{name}: shape {array.shape}{source} is not a mask", f"Give {wanted}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > IGNORE:
        raise InputError(
            f"{name}: the number {low if low < 0 else high}{source} is not between 0 and {IGNORE}",
            f"Number classes or objects from 0 to {IGNORE - 1}; {IGNORE} means ignore",
        )
    array = array.astype(np.uint8, copy=False)
    if classes and (wrong := array[(array >= classes) & (array != IGNORE)]).size:
        raise InputError(
            f"{name}: class {int(wrong.max())}{source}, the model knows {classes} (0 to {classes - 1})",
            f"Map its classes to the model's; {IGNORE} means ignore",
        )
    return array


def resized(array: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Masks (…, H, W) at another height and width: each pixel takes the nearest one's number, none is made up."""
    if size is None or array.shape[-2:] == size:
        return array
    rows, columns = (
        ((2 * np.arange(new) + 1) * old // (2 * new)) for new, old in zip(size, array.shape[-2:], strict=True)
    )
    picked: np.ndarray = array[..., rows[:, None], columns]
    return picked


def sample_masks(frames: int, requirements: Requirements) -> np.ndarray:
    """Deterministic masks (T, H, W) of the blobs in :func:`stzoo.media.sample_clip`, numbered from 1."""
    height, width = (requirements.native_size or (max(64, requirements.minimum),) * 2)[-2:]
    time, y, x = np.ogrid[:frames, :height, :width]
    masks = np.zeros((frames, height, width), np.uint8)
    for blob in range(3):
        centre_x = width * (0.25 + 0.2 * blob + 0.02 * (blob + 1) * time)
        centre_y = height * (0.7 - 0.2 * blob + 0.03 * (blob - 1) * time)
        inside = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= (0.12 * min(height, width)) ** 2
        masks[inside] = (blob + 1) % (len(requirements.classes) or 4)
    return masks


# --- runs -------------------------------------------------------------------------------------------------------------


def runs(mask: np.ndarray) -> dict[str, list[int]]:
    """A boolean mask (H, W) as COCO writes it uncompressed: ``{"size": [H, W], "counts": […]}``, the lengths of runs of
    0, 1, 0 … down the columns, starting with 0."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, mask.size]).tolist()}


def from_runs(size: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """The boolean mask (H, W) of which :func:`runs` tells."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.asarray(counts, np.int64))
    return np.ascontiguousarray(flat.reshape(int(size[1]), int(size[0])).T)


# --- writing ----------------------------------------------------------------------------------------------------------


def indexed(mask: np.ndarray) -> PILImage:
    """(H, W) as a picture with the palette of :func:`colours`, which holds the numbers themselves."""
    from PIL import Image

    image = Image.fromarray(checked(np.asarray(mask), "mask", 2))
    image.putpalette(colours().tobytes())
    return image


def strip(masks: np.ndarray) -> PILImage:
    """All frames of (T, H, W) side by side, in colours."""
    table = colours().astype(np.float32) / 255
    return media.strip(table[checked(np.asarray(masks), "mask", 3)].transpose(0, 3, 1, 2))


def disagreement(mask: np.ndarray, truth: np.ndarray) -> PILImage:
    """Where two masks of one shape, (H, W) or (T, H, W), differ, in the colours of :func:`differences`."""
    from PIL import Image

    shown = differences(mask, truth)
    frames = [Image.fromarray(frame) for frame in (shown if mask.ndim == 3 else [shown])]
    return media.side_by_side(frames, 2)


def differences(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Where two masks of one shape differ as uint8 (..., 3): red; grey where the truth says :data:`IGNORE`, else black."""
    shades = np.array([[0, 0, 0], [230, 51, 38], [128, 128, 128]], np.uint8)
    return shades[np.where(truth == IGNORE, 2, mask != truth)]


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Write (H, W) as an indexed PNG, npy or npz."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() in ARRAYS:
            media.write_array(checked(np.asarray(mask), "mask", 2), temporary, "mask")
        else:
            indexed(mask).save(temporary, "png")


def write_masks(masks: np.ndarray, path: Path) -> None:
    """Write (T, H, W) as a zip file of indexed PNGs (00000.png …), npy or npz, or as a png strip of all frames in colours."""
    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix in ARRAYS:
            media.write_array(checked(np.asarray(masks), "mask", 3), temporary, "mask")
        elif suffix == ".png":
            strip(masks).save(temporary, "png")
        else:
            with ZipFile(temporary, "w", ZIP_STORED) as archive:
                for index, mask in enumerate(masks):
                    held = io.BytesIO()
                    indexed(mask).save(held, "png")
                    archive.writestr(ZipInfo(f"{index:05d}.png"), held.getvalue())
