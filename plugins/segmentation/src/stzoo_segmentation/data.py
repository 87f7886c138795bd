"""Pictures with masks as people have them: folders, and the layouts of the well-known sets.

A row is ``{"image": path, "mask": (H, W) or a path}``; masks are brought to numbers of classes when a row is asked for.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stzoo.errors import DatasetError, StzooError
from stzoo.files import IMAGES, files_in, natural
from stzoo.layout import existing, split_folders
from stzoo.media.decoding import File, opened_picture
from stzoo.media.masks import IGNORE
from stzoo_segmentation.classes import CAMVID, CITYSCAPES_IDS
from stzoo_segmentation.objects import read_labels

Array = NDArray[np.uint8]
Convert = Callable[[Path], Any]
MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".npy", ".npz")
"""Endings of the files that masks are read from."""


class Pairs(Sequence[dict[str, Any]]):
    """Rows of pictures and their masks, read when they are asked for.

    ``files``: paths by column; ``convert``: what makes the value of a column of its path.
    """

    def __init__(self, files: Sequence[Mapping[str, Path]], convert: Mapping[str, Convert] | None = None) -> None:
        self.files, self.convert = list(files), dict(convert or {})

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        files = self.files[index]
        row = {name: self.convert[name](path) if name in self.convert else str(path) for name, path in files.items()}
        for name, value in row.items():
            if name != "image" and isinstance(value, np.ndarray):
                same_size(value, files["image"], files[name])
        return row

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))


def same_size(mask: NDArray[Any], image: Path, path: Path | str) -> None:
    """Raise DatasetError unless a mask (H, W) is as large as the picture in a file, of which only the header is read."""
    if image.suffix.lower() not in IMAGES:
        return
    with opened_picture(File(image), "image", "opened") as opened:
        size = opened.size
    if mask.shape != (size[1], size[0]):
        raise DatasetError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels, the image {image} {size[0]}x{size[1]}",
            "Give masks of their images' size",
        )


def same_shape(image: NDArray[Any], mask: NDArray[Any]) -> None:
    """Raise DatasetError unless a mask (..., H, W) is as large as the picture or clip (..., C, H, W)."""
    wanted = (*image.shape[:-3], *image.shape[-2:])
    if mask.shape != wanted:
        told = [
            f"{shape[-1]}x{shape[-2]} pixels" + f" in {shape[0]} frames" * (len(shape) == 3)
            for shape in (mask.shape, wanted)
        ]
        raise DatasetError(
            f"the mask is of {told[0]}, what it belongs to of {told[1]}", "Give masks of their images' size"
        )


def _loaded(path: Path, name: str = "mask") -> NDArray[np.uint16]:
    """The whole numbers in a file; raises DatasetError naming it."""
    try:
        return read_labels(path, name)
    except StzooError as problem:
        raise DatasetError(problem.problem, problem.remedy) from problem


def _mapped(table: Mapping[int, int], others: int | None = None) -> Convert:
    """Numbers of a file to classes; those not in the table to ``others``, or if that is None: refused."""

    def convert(path: Path) -> Array:
        labels = _loaded(path)
        lookup = np.full(65536, -1 if others is None else others, np.int16)
        lookup[list(table)] = list(table.values())
        mask = lookup[labels]
        if (mask < 0).any():
            raise DatasetError(
                f"{path}: the number {labels[mask < 0].max()} is none of the classes ({_told(table)})",
                f"Map it to one of them; {IGNORE} means ignore",
            )
        return mask.astype(np.uint8)

    return convert


def _told(table: Mapping[int, int]) -> str:
    known = sorted(table)
    return f"{known[0]} to {known[-1]}" if known == list(range(known[0], known[-1] + 1)) else ", ".join(map(str, known))


class Coloured:
    """Masks in colours to numbers of classes; every colour must be one of the table's, and number 255 stands for ignored pixels.

    ``table``: number of a class by colour.
    """

    def __init__(self, table: Mapping[tuple[int, int, int], int]) -> None:
        self.table = dict(table)

    def __call__(self, path: Path) -> Array:
        with opened_picture(File(path), "mask", "decoded as a mask") as opened:
            if opened.mode not in ("RGB", "RGBA", "P"):
                raise DatasetError(f"{path} has no colours ({opened.mode})", "Leave the option colours out")
            pixels = np.asarray(opened.convert("RGB")).astype(np.int32)
        codes = pixels @ np.array([65536, 256, 1], np.int32)
        known = np.array([(red * 256 + green) * 256 + blue for red, green, blue in self.table], np.int32)
        order = np.argsort(known)
        places = np.searchsorted(known[order], codes).clip(0, len(known) - 1)
        wrong = known[order][places] != codes
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            red, green, blue = pixels[row, column].tolist()
            raise DatasetError(
                f"{path}: the colour ({red}, {green}, {blue}) in row {row}, column {column} is none of the {len(known)} known ones",
                "Give every colour a class in the table of colours, and masks that were never JPEGs",
            )
        found: Array = np.array(list(self.table.values()), np.uint8)[order][places]
        return found


def colour_table(path: Path) -> dict[tuple[int, int, int], int]:
    """Class by colour from a CSV file with the columns name, r, g, b, one line for each class from 0 on; a class that is called
    void, ignore or unlabelled is ignored (255) and not counted. Raises DatasetError."""
    table: dict[tuple[int, int, int], int] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            number = 0
            for line in csv.DictReader(file, skipinitialspace=True):
                colour = (int(line["r"]), int(line["g"]), int(line["b"]))
                void = line["name"].strip().lower() in ("void", "ignore", "unlabelled", "unlabeled")
                table[colour] = IGNORE if void else number
                number += not void
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as problem:
        raise DatasetError(f"{path} is no table of colours ({problem})", "Give a CSV file with name,r,g,b") from problem
    if not table:
        raise DatasetError(f"{path} names no class", "Give a CSV file with name,r,g,b")
    return table


# --- folders ----------------------------------------------------------------------------------------------------------


def folder(
    split: str,
    root: str = "",
    images: str = "images",
    masks: str = "masks",
    ending: str = "",
    colours: str = "",
    classes: int = 0,
) -> Pairs:
    """Two folders of files with the same names, in ``train/``, ``val/`` and ``test/`` or without them.

    Args:
        root: the folder. Without the folders of splits, of each ten pairs in natural order the ninth is for validation and the
            tenth for test.
        images, masks: names of the two sub-folders.
        ending: what a mask's name has behind the picture's, as ``_mask`` in ``0001_mask.gif``.
        colours: a CSV file of name,r,g,b where masks are in colours.
        classes: refuse numbers from this on (255 is always ignored); of 2 classes, a mask of 0 and 255 alone is of 0 and 1.

    Raises:
        DatasetError: a folder is missing or empty, or a file has no partner.
    """
    place = existing(root, "image-masks?root=FOLDER")
    inside = split_folder(place, split)
    pairs = paired(inside / images, inside / masks, ending)
    if inside == place:
        pairs = [pair for index, pair in enumerate(pairs) if tenths(index) == split]
    convert: Convert = Coloured(colour_table(Path(colours).expanduser())) if colours else Numbered(classes)
    return Pairs(pairs, {"mask": convert})


class Numbered:
    """Grey, indexed or black-and-white pictures and arrays to numbers of classes; ``classes``: how many there are, 0 if unknown."""

    def __init__(self, classes: int = 0) -> None:
        self.classes = classes

    def __call__(self, path: Path) -> Array:
        from stzoo.media.masks import read_mask

        try:
            return read_mask(path, "mask", self.classes)
        except StzooError as problem:
            raise DatasetError(problem.problem, problem.remedy) from problem


def split_folder(place: Path, split: str) -> Path:
    """The folder of a split in ``place``; itself where it has none. Raises DatasetError where it has others."""
    there = split_folders(place)
    if not there:
        return place
    if split not in there:
        raise DatasetError(f"{place} has no folder for {split}", f"It has {', '.join(there)}")
    return there[split]


def tenths(index: int) -> str:
    """The split of the ``index``-th example where nobody has divided them: eight of ten train, one validation, one test."""
    return {8: "validation", 9: "test"}.get(index % 10, "train")


def paired(images: Path, masks: Path, ending: str = "") -> list[dict[str, Path]]:
    """The pictures of one folder with their masks in another, in natural order. Raises DatasetError naming a file without its
    partner."""
    pictures, known = files_of(images, IMAGES), files_of(masks, MASKS)
    by_name = {path.stem: path for path in known}
    if lost := [path for path in pictures if path.stem + ending not in by_name]:
        more = f"; and {len(lost) - 1} more without one" * (len(lost) > 1)
        raise DatasetError(
            f"{lost[0]} has no mask {masks / (lost[0].stem + ending)}.png{more}", "Add it, or remove the image"
        )
    used = {path.stem + ending for path in pictures}
    if extra := [path for path in known if path.stem not in used]:
        raise DatasetError(f"{extra[0]} belongs to no image in {images}", "Add the image, or remove the mask")
    return [{"image": path, "mask": by_name[path.stem + ending]} for path in pictures]


def files_of(place: Path, endings: Sequence[str]) -> list[Path]:
    """The files in a folder with these endings, in natural order. Raises DatasetError if there is none, or one of another kind."""
    if not place.is_dir():
        raise DatasetError(f"there is no folder {place}")
    found = files_in(place)
    if other := [path for path in found if path.suffix.lower() not in endings]:
        raise DatasetError(f"{other[0]} is neither of {', '.join(endings)}", "Move it elsewhere")
    if not found:
        raise DatasetError(f"the folder {place} is empty", f"Put files in it: {', '.join(endings)}")
    return found


def listed(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises DatasetError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise DatasetError(f"{path} cannot be read ({problem})", "Is the layout the published one?") from problem
    if not any(lines):
        raise DatasetError(f"{path} is empty")
    return [line for line in lines if line]


def checked(pairs: Iterable[Mapping[str, Path]]) -> list[Mapping[str, Path]]:
    """The pairs, all of whose files are there. Raises DatasetError naming the first that is not."""
    found = list(pairs)
    for pair in found:
        for name, path in pair.items():
            if not path.is_file():
                raise DatasetError(
                    f"there is no file {path}, the {name} of an example that is listed", "Is the set complete?"
                )
    return found


# --- published sets ---------------------------------------------------------------------------------------------------


def camvid(split: str, root: str = "") -> Pairs:
    """CamVid with 11 classes (Brostow et al., Pattern Recognition Letters 30, 2009; grouped and split as SegNet's authors did).

    Args:
        root: the folder with ``train/images/*`` and ``train/masks/*``, ``val/`` …; or SegNet's, with ``train.txt``, ``val.txt``,
            ``test.txt`` of two paths a line, ``train/*.png``, ``trainannot/*.png`` ….

    Number 11, void, is ignored. Raises DatasetError.
    """
    place = existing(root, "camvid?root=CamVid")
    name = {"validation": "val"}.get(split, split)
    if (place / f"{name}.txt").is_file():
        pairs = []
        for line in listed(place / f"{name}.txt"):
            words = line.split()
            if len(words) != 2:
                raise DatasetError(f"{place / name}.txt: the line {line!r} has not two paths", "Write: IMAGE MASK")
            pairs.append(
                {
                    key: place.joinpath(*Path(word).parts[-2:])
                    for key, word in zip(("image", "mask"), words, strict=True)
                }
            )
        files = checked(pairs)
    else:
        inside = split_folder(place, split)
        if inside == place:
            raise DatasetError(f"{place} has neither {name}.txt nor a folder {name}", "Give the folder that has")
        files = list(paired(inside / "images", inside / "masks"))
    classes = len(CAMVID)
    return Pairs(
        files, {"mask": _mapped({**{number: number for number in range(classes)}, classes: IGNORE, IGNORE: IGNORE})}
    )


def cityscapes(split: str, root: str = "") -> Pairs:
    """Cityscapes with 19 classes (Cordts et al., CVPR 2016): 2,975 pictures to train, 500 to validate.

    Args:
        root: the folder with ``leftImg8bit/train/CITY/*_leftImg8bit.png`` and ``gtFine/train/CITY/*_gtFine_labelIds.png`` (or
            ``…_labelTrainIds.png``).

    Every label that is not trained on is ignored. Raises DatasetError.
    """
    place, name = existing(root, "cityscapes?root=CITYSCAPES"), {"validation": "val"}.get(split, split)
    pictures = sorted((place / "leftImg8bit" / name).glob("*/*_leftImg8bit.png"))
    if not pictures:
        raise DatasetError(
            f"{place} has no leftImg8bit/{name}/CITY/*_leftImg8bit.png", "Give the folder above leftImg8bit"
        )
    pairs, convert = [], _mapped(CITYSCAPES_IDS, IGNORE)
    for path in pictures:
        stem = place / "gtFine" / name / path.parent.name / path.name.replace("_leftImg8bit.png", "_gtFine")
        own = stem.with_name(f"{stem.name}_labelTrainIds.png")
        pairs.append({"image": path, "mask": own if own.is_file() else stem.with_name(f"{stem.name}_labelIds.png")})
    return Pairs(checked(pairs), {"mask": _CityscapesMask(convert)})


class _CityscapesMask:
    """Either kind of label file, told by its name."""

    def __init__(self, convert: Convert) -> None:
        self.convert = convert

    def __call__(self, path: Path) -> Any:
        if path.name.endswith("TrainIds.png"):
            return _mapped({**{number: number for number in range(19)}, IGNORE: IGNORE})(path)
        return self.convert(path)


def voc(split: str, root: str = "") -> Pairs:
    """Pascal VOC's segmentation (Everingham et al., IJCV 88, 2010): background and 20 classes; 255, void, is ignored.

    Args:
        root: ``VOCdevkit/VOC2012``, with ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation/train.txt``.

    Raises DatasetError.
    """
    place, name = existing(root, "voc?root=VOCdevkit/VOC2012"), {"validation": "val"}.get(split, split)
    names = listed(place / "ImageSets" / "Segmentation" / f"{name}.txt")
    pairs = (
        {"image": place / "JPEGImages" / f"{item}.jpg", "mask": place / "SegmentationClass" / f"{item}.png"}
        for item in names
    )
    return Pairs(checked(pairs), {"mask": Numbered(21)})


def nuclei(split: str, root: str = "", classes: int = 2) -> Pairs:
    """The 2018 Data Science Bowl's nuclei (Caicedo et al., Nature Methods 16, 2019), or anything with labels of objects.

    Args:
        root: the folder with ``images/*`` and ``labels/*.png`` of 16 bits, 0 for background; or with ``ID/images/*.png`` and
            ``ID/masks/*.png``, one mask for each nucleus. Of each ten pictures in natural order eight are for training, one for
            validation and one for test. Without it, one of those for test, which comes with the plugin.
        classes: 2, background and nucleus; or 3, with the border: pixels of nuclei, or between them, within two pixels of
            another nucleus.

    A row also has ``instances``, the objects themselves. Raises DatasetError.
    """
    if classes not in (2, 3):
        raise DatasetError(f"classes={classes}", "Give 2 (background, nucleus) or 3 (and the border)")
    if not root and split == "test":
        own = Path(__file__).parent / "data"
        return _Nuclei([{"image": own / "nuclei.jpg", "instances": own / "nuclei-labels.png"}], classes)
    place = existing(root, "dsb2018?root=FOLDER")
    if (place / "images").is_dir():
        known = {path.stem: path for path in files_of(place / "labels", MASKS)}
        pictures = files_of(place / "images", IMAGES)
        if lost := [path for path in pictures if path.stem not in known]:
            raise DatasetError(
                f"{lost[0]} has no labels {place / 'labels' / lost[0].stem}.png", "Add them, or remove the image"
            )
        pairs = [{"image": path, "instances": known[path.stem]} for path in pictures]
    else:
        folders = sorted(
            (item for item in place.iterdir() if (item / "images").is_dir()), key=lambda item: natural(item.name)
        )
        if not folders:
            raise DatasetError(
                f"{place} has neither images/ nor folders with images/ and masks/", "Give the folder that has"
            )
        pairs = [{"image": files_of(item / "images", IMAGES)[0], "instances": item / "masks"} for item in folders]
    return _Nuclei([pair for index, pair in enumerate(pairs) if tenths(index) == split], classes)


class _Nuclei(Pairs):
    """Rows whose mask is made of the objects."""

    def __init__(self, files: Sequence[Mapping[str, Path]], classes: int) -> None:
        super().__init__(files, {"instances": _objects})
        self.classes = classes

    def __getitem__(self, index: Any) -> Any:
        row = super().__getitem__(index)
        if isinstance(index, slice):
            return row
        labels = row["instances"]
        mask = (labels > 0).astype(np.uint8)
        if self.classes == 3:
            mask[borders(labels)] = 2
        return row | {"mask": mask}


def _objects(path: Path) -> NDArray[np.uint16]:
    """Objects of a file, or of a folder with a mask for each; of two that share a pixel the later one has it."""
    if not path.is_dir():
        return _loaded(path, "instances")
    parts = [_loaded(item, "instances") for item in files_of(path, MASKS)]
    if len({part.shape for part in parts}) > 1:
        raise DatasetError(f"the masks in {path} differ in size", "All masks of a picture must be of its size")
    labels = np.zeros(parts[0].shape, np.uint16)
    for number, part in enumerate(parts, start=1):
        labels[part > 0] = number
    return labels


def borders(labels: NDArray[np.uint16], width: int = 2) -> NDArray[np.bool_]:
    """Where two objects (H, W) are within ``width`` pixels of each other (chessboard distance)."""
    from scipy.ndimage import maximum_filter, minimum_filter

    objects = labels.astype(np.int64)
    size = 2 * width + 1
    highest = maximum_filter(objects, size)
    lowest = minimum_filter(np.where(objects == 0, math.inf, objects), size)
    near: NDArray[np.bool_] = np.isfinite(lowest) & (lowest != highest)
    return near
