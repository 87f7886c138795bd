"""Clips with a mask for each frame: DAVIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from stzoo.errors import DatasetError
from stzoo.files import IMAGES, natural
from stzoo.layout import existing
from stzoo.media.masks import read_mask
from stzoo_segmentation.data import MASKS, Array, files_of, listed


class Frames(list[Any]):
    """Masks of a clip, each read when it is asked for."""

    def __init__(self, paths: Sequence[Path], convert: Callable[[Path], Array]) -> None:
        super().__init__(paths)
        self.convert = convert

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return [self.convert(path) for path in found] if isinstance(index, slice) else self.convert(found)


def foreground(path: Path) -> Array:
    """Every object as class 1. Raises InputError or MediaError."""
    found: Array = (read_mask(path, "mask") > 0).astype(np.uint8)
    return found


def davis(
    split: str, root: str = "", year: int = 2016, resolution: str = "480p", held: str = ""
) -> list[dict[str, Any]]:
    """DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675) as clips of background and foreground.

    Args:
        root: the folder with ``JPEGImages/480p/NAME/*.jpg``, ``Annotations/480p/NAME/*.png`` and ``ImageSets/2016/train.txt`` …;
            or with ``NAME/frames/*`` and ``NAME/masks/*``.
        year: whose lists of sequences: 2016 or 2017; of the latter all objects are foreground.
        resolution: the folder of pictures and masks.
        held: of the second layout the sequences to test on, with commas; default: every third in the order of names.

    A row is ``{"video": paths, "mask": paths}``, to be cut with ``&frames=`` and ``&stride=``. Raises DatasetError.
    """
    place = existing(root, "davis?root=DAVIS")
    if (place / "ImageSets").is_dir():
        kinds, found = (
            (place / "JPEGImages" / resolution, place / "Annotations" / resolution),
            _official(place, split, year),
        )
        return [_row(kinds[0] / name, kinds[1] / name) for name in found]
    names = sorted((item.name for item in place.iterdir() if (item / "frames").is_dir()), key=natural)
    if not names:
        raise DatasetError(
            f"{place} has neither ImageSets nor folders with frames/ and masks/", "Give the folder that has"
        )
    chosen = [name.strip() for name in held.split(",") if name.strip()]
    if wrong := [name for name in chosen if name not in names]:
        raise DatasetError(f"{place} has no sequence {wrong[0]!r}", f"It has {', '.join(names)}")
    test = set(chosen or names[2::3] or names[-1:])
    rows = [
        _row(place / name / "frames", place / name / "masks") for name in names if (name in test) == (split != "train")
    ]
    if not rows:
        raise DatasetError(f"{place} has no sequence for {split}", f"It has {', '.join(names)}")
    return rows


def _official(place: Path, split: str, year: int) -> list[str]:
    """Names of the sequences; the file lists names, or, in 2016, pairs of frames."""
    name = "train" if split == "train" else "val"
    options = [place / "ImageSets" / folder / f"{name}.txt" for folder in (str(year), f"480p/{year}")]
    path = next((item for item in options if item.is_file()), options[0])
    words = [line.split()[0] for line in listed(path)]
    return list(dict.fromkeys(Path(word).parts[-2] if "/" in word else word for word in words))


def _row(frames: Path, masks: Path) -> dict[str, Any]:
    pictures, known = files_of(frames, IMAGES), files_of(masks, MASKS)
    by_name = {path.stem: path for path in known}
    if lost := [path for path in pictures if path.stem not in by_name]:
        raise DatasetError(f"{lost[0]} has no mask in {masks}", "A clip needs a mask for each of its frames")
    if len(known) > len(pictures):
        raise DatasetError(f"{masks} has {len(known)} masks, {frames} {len(pictures)} frames")
    return {
        "video": [str(path) for path in pictures],
        "mask": Frames([by_name[path.stem] for path in pictures], foreground),
    }
