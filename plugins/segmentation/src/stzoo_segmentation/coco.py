"""COCO's instances as masks of classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as packed_masks

from stzoo.errors import DatasetError
from stzoo.layout import existing
from stzoo.media.masks import IGNORE
from stzoo_segmentation.data import same_size


class Drawn(Sequence[dict[str, Any]]):
    """Rows whose masks are drawn from polygons and runs when they are asked for: ``{"image": path, "mask": (H, W)}``.

    Background is 0, the categories follow in the order of their ids; small objects lie over large ones, crowds are ignored.
    """

    def __init__(
        self,
        images: Sequence[Mapping[str, Any]],
        parts: Mapping[int, Sequence[Mapping[str, Any]]],
        folder: Path,
        numbers: Mapping[int, int],
    ) -> None:
        self.images, self.parts, self.folder, self.numbers = list(images), parts, folder, numbers

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        image = self.images[index]
        path = self.folder / image["file_name"]
        if not path.is_file():
            raise DatasetError(
                f"there is no file {path}, which the annotations name", "Give the folder as &images=FOLDER"
            )
        mask = np.zeros((image["height"], image["width"]), np.uint8)
        for part in sorted(self.parts.get(image["id"], ()), key=lambda part: -part.get("area", 0)):
            mask[_area(part, image)] = IGNORE if part.get("iscrowd") else self.numbers[part["category_id"]]
        same_size(mask, path, f"what is annotated of {path.name}")
        return {"image": str(path), "mask": mask}


def _area(part: Mapping[str, Any], image: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The pixels of an annotation: polygons, or runs in either form."""
    height, width, given = image["height"], image["width"], part.get("segmentation")
    try:
        if isinstance(given, list):
            packed = packed_masks.merge(packed_masks.frPyObjects(given, height, width))
        elif isinstance(given["counts"], list):  # type: ignore[index]
            packed = packed_masks.frPyObjects(given, height, width)
        else:
            packed = given
        area: NDArray[np.bool_] = packed_masks.decode(packed).astype(bool)
    except Exception as problem:  # the library raises what it likes
        raise DatasetError(
            f"annotation {part.get('id')} of {image['file_name']} has no usable segmentation ({type(problem).__name__}: {problem})",
            "Give polygons of at least three points, or runs",
        ) from problem
    if area.shape != (height, width):
        raise DatasetError(
            f"annotation {part.get('id')} is {area.shape[1]}x{area.shape[0]}, {image['file_name']} {width}x{height}"
        )
    return area


def coco(split: str, root: str = "", annotations: str = "", images: str = "", year: int = 2017) -> Drawn:
    """COCO's instances (Lin et al., ECCV 2014), and sets in its format: a class for each category, besides background.

    Args:
        root: the folder with ``annotations/instances_train2017.json`` and ``train2017/*.jpg``.
        annotations, images: where file and folder are, in ``root``, if they are called otherwise.
        year: in their names.

    Raises:
        DatasetError: the file is missing, no JSON, or not in this format.
    """
    place, name = existing(root, "coco?root=COCO"), {"validation": "val"}.get(split, split)
    path = place / (annotations or f"annotations/instances_{name}{year}.json")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        numbers = {item["id"]: place for place, item in enumerate(sorted(told["categories"], key=_id), start=1)}
        found = sorted(told["images"], key=_id)
        parts: dict[int, list[dict[str, Any]]] = {}
        for part in told["annotations"]:
            parts.setdefault(part["image_id"], []).append(part)
            if part["category_id"] not in numbers:
                raise DatasetError(
                    f"{path}: annotation {part.get('id')} is of category {part['category_id']}, which is not listed"
                )
        missing = [item["file_name"] for item in found if not {"height", "width"} <= item.keys()]
    except OSError as problem:
        raise DatasetError(f"{path} cannot be read ({problem.strerror})", "Give it as &annotations=FILE") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise DatasetError(f"{path} is no file of COCO's instances ({type(problem).__name__}: {problem})") from problem
    if missing or not found or len(numbers) > IGNORE - 1:
        raise DatasetError(
            f"{path} tells no size of {missing[0]}"
            if missing
            else f"{path} has {len(found)} images and {len(numbers)} categories"
        )
    return Drawn(found, parts, place / (images or f"{name}{year}"), numbers)


def _id(item: Mapping[str, Any]) -> int:
    return int(item["id"])
