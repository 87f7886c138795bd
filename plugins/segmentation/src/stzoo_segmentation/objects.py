"""Objects in masks: read, written, told apart, drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import InputError
from stzoo.files import ARRAYS, atomic_path
from stzoo.media.decoding import file_of, load_array, opened_picture
from stzoo.media.masks import IGNORE, colours

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

Labels = NDArray[np.uint16]
MOST = 65535
"""The largest number of an object."""
SHADES = 40
"""Colours that objects are drawn in, in turn."""


# --- reading and writing ----------------------------------------------------------------------------------------------


def read_labels(value: Any, name: str) -> Labels:
    """Numbers of objects, uint16 (H, W), from what :class:`stzoo_segmentation.fields.Instances` takes.

    Raises InputError (colours, fractions, numbers beyond 65535) or MediaError (the file cannot be read).
    """
    from PIL import Image

    where = ""
    if file := file_of(value, name):
        where = f" in {file}"
        if file.suffix in ARRAYS:
            array = load_array(file, name)
        else:
            with opened_picture(file, name, "read as numbers of objects") as image:
                array = _grey(image, name, where)
    elif isinstance(value, Image.Image):
        array = _grey(value, name, where)
    else:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or not array.size or array.dtype.kind not in "uib":
        raise InputError(
            f"{name}: {array.dtype} of shape {array.shape}{where} are no numbers of objects",
            "Give whole numbers (height, width), 0 for none",
        )
    if int(array.min()) < 0 or int(array.max()) > MOST:
        raise InputError(
            f"{name}: the number {array.max()}{where} is not between 0 and {MOST}", "Number objects from 1"
        )
    return array.astype(np.uint16)


def _grey(image: PILImage, name: str, where: str) -> NDArray[Any]:
    if image.mode not in ("L", "P", "1") and not image.mode.startswith("I"):
        raise InputError(
            f"{name}: the picture{where} has colours ({image.mode}), not numbers of objects",
            "Store the numbers as a grey PNG of 16 bits",
        )
    return np.asarray(image)


def write_labels(labels: Labels, path: Path) -> None:
    """Write (H, W) as a grey PNG of 16 bits, npy, npz, or JSON (:func:`coco_entries`)."""
    from PIL import Image

    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix == ".json":
            temporary.write_text(json.dumps(coco_entries(labels)) + "\n")
        elif suffix == ".npy":
            np.save(temporary, labels)
        elif suffix == ".npz":
            np.savez_compressed(temporary, instances=labels)
        else:
            Image.fromarray(labels.astype(np.uint16)).save(temporary, "png")


def coco_entries(labels: Labels) -> list[dict[str, Any]]:
    """Each object as COCO writes one: number, area, box (left, top, width, height) and compressed runs."""
    from pycocotools.mask import frPyObjects
    from skimage.measure import regionprops

    height, width = labels.shape
    found = []
    for part in regionprops(labels.astype(np.int32)):  # type: ignore[no-untyped-call]
        top, left, bottom, right = part.bbox
        columns, rows = np.nonzero(part.image.T)
        places = (columns + left) * height + rows + top
        ends = np.flatnonzero(np.diff(places, append=-1) != 1)
        starts = np.concatenate([[0], ends[:-1] + 1])
        edges = np.stack([places[starts], places[ends] + 1], 1).ravel()
        counts = np.diff([0, *edges.tolist(), height * width]).tolist()
        text = frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"].decode()
        found.append(
            {
                "id": int(part.label),
                "area": int(part.area),
                "bbox": [int(left), int(top), int(right - left), int(bottom - top)],
                "segmentation": {"size": [height, width], "counts": text},
            }
        )
    return found


# --- telling apart ----------------------------------------------------------------------------------------------------


def components(mask: NDArray[np.generic]) -> Labels:
    """Pixels of one class (but 0 and 255, which are ignored) that touch, corners included, numbered from 1.

    Raises InputError where there are more than 65535.
    """
    from skimage.measure import label

    return _few(label(np.where(mask == IGNORE, 0, mask), background=0, connectivity=2))  # type: ignore[no-untyped-call]


def watershed(mask: NDArray[np.generic], height: float = 0.5) -> Labels:
    """As :func:`components`, with those parted that only touch.

    Basins grow from the tops of the distance to the background, smoothed by a Gaussian of one pixel, until they meet; a top
    rises by at least ``height`` pixels above the way to a higher one (marker-controlled watershed of the distance transform;
    Vincent and Soille, IEEE TPAMI 13, 1991; Soille, Morphological Image Analysis, section 6.3.4). Of several classes each is
    parted on its own.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.measure import label
    from skimage.morphology import reconstruction
    from skimage.segmentation import watershed as grow

    found = np.zeros(mask.shape, np.int64)
    for number in np.unique(mask):
        if number in (0, IGNORE):
            continue
        inside = mask == number
        depth = gaussian_filter(distance_transform_edt(inside), 1) * inside
        tops = (depth - reconstruction(depth - height, depth) >= 0.999 * height) & inside  # type: ignore[no-untyped-call]
        parts = grow(-depth, label(tops), mask=inside)  # type: ignore[no-untyped-call]
        if (lost := inside & (parts == 0)).any():  # too flat for a top
            parts[lost] = parts.max() + components(lost)[lost]
        found[inside] = parts[inside] + found.max()
    return _few(found)


def _few(labels: NDArray[Any]) -> Labels:
    if labels.max(initial=0) > MOST:
        raise InputError(
            f"there are {labels.max()} objects, more than the {MOST} that can be numbered", "Cut the picture"
        )
    return labels.astype(np.uint16)


# --- pictures ---------------------------------------------------------------------------------------------------------


def folded(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Numbers of objects as those of :data:`SHADES` colours, 0 staying 0."""
    return np.where(labels > 0, (labels.astype(np.int64) - 1) % SHADES + 1, 0).astype(np.uint8)


def coloured(labels: NDArray[np.integer[Any]]) -> PILImage:
    """Objects in colours, in turn; black where there is none."""
    from PIL import Image

    return Image.fromarray(colours()[folded(labels)])


def overlay(
    picture: NDArray[np.floating[Any]],
    mask: NDArray[np.integer[Any]],
    classes: Sequence[str] = (),
    *,
    opacity: float = 0.5,
) -> PILImage:
    """A picture (C, H, W) in [0, 1] with a mask (H, W) in colours over it, and a legend of the classes below.

    ``classes``: names by number; the legend shows those that are there, with their shares of the pixels. Background (a class
    of that name, or 0 where there are no names) and ignored pixels stay as they are.
    """
    from PIL import Image, ImageDraw, ImageFont

    from stzoo.media import to_pil

    table = colours()
    below = np.asarray(to_pil(np.asarray(picture)).convert("RGB"), np.float32)
    names: Mapping[int, str] = dict(enumerate(classes))
    plain = (mask == IGNORE) | (mask == 0 if names.get(0, "background") == "background" else False)
    above = table[mask.astype(np.uint8)]
    blended = np.where(plain[..., None], below, below * (1 - opacity) + above * opacity)
    image = Image.fromarray(blended.round().astype(np.uint8))
    font, counts = ImageFont.load_default(size=14), np.bincount(mask.ravel().astype(np.int64), minlength=256)
    entries = [
        (number, f"{names.get(number, f'class {number}')} {counts[number] / mask.size:.1%}")
        for number in np.flatnonzero(counts).tolist()
        if number != IGNORE
    ]
    places, left, line = [], 8, 0
    for number, text in entries:
        length = 34 + int(font.getlength(text))
        if left > 8 and left + length > image.width:
            left, line = 8, line + 1
        places.append((number, text, left, line))
        left += length
    sheet = Image.new("RGB", (image.width, image.height + 24 * (line + 1)), (255, 255, 255))
    sheet.paste(image, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for number, text, left, line in places:
        top = image.height + 24 * line + 5
        draw.rectangle((left, top, left + 14, top + 14), fill=tuple(table[number].tolist()), outline=(80, 80, 80))
        draw.text((left + 20, top + 7), text, fill=(30, 30, 30), font=font, anchor="lm")
    return sheet
