"""Layouts of data sets, and what is said of files that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as packed_masks

from stzoo import Requirements
from stzoo.data import Examples, open_data
from stzoo.errors import StzooError
from stzoo.registry import registry
from stzoo.spec import Task
from stzoo_segmentation import data
from stzoo_segmentation.classes import CAMVID

TWO, THREE = Requirements(classes=("background", "thing")), Requirements(classes=("a", "b", "c"))
STREETS = Requirements(classes=CAMVID)


def opened(source: Any, split: str | None = "train", needs: Requirements = TWO, task: str = "segmentation") -> Examples:
    return open_data(source, registry().get(Task, task), split, requirements=needs)


def picture(path: Path, size: tuple[int, int] = (12, 16), mode: str = "RGB") -> Path:
    """A grey picture of (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], 90 if mode == "L" else (90,) * len(mode)).save(path)
    return path


def mask(path: Path, numbers: Any = None, size: tuple[int, int] = (12, 16), palette: bool = False) -> Path:
    """A mask with the given numbers in its first row, 0 elsewhere."""
    array = np.zeros(size, np.uint16 if numbers is not None and max(numbers) > 255 else np.uint8)
    array[0, : len(numbers or ())] = numbers or ()
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette([number % 251 for number in range(768)])
    image.save(path)
    return path


def pair(root: Path, name: str = "1", numbers: Any = (0, 1), **options: Any) -> Path:
    """``root`` with an image and a mask."""
    picture(root / "images" / f"{name}.png")
    mask(root / "masks" / f"{name}.png", list(numbers), **options)
    return root


# --- layouts ----------------------------------------------------------------------------------------------------------


def test_a_folder_of_images_and_masks_needs_no_name(tmp_path: Path) -> None:
    pair(tmp_path / "train")
    pair(tmp_path / "val", "2", (0, 1, 255))
    examples = opened(tmp_path, "validation")
    assert len(examples) == 1 and examples.key(0) == "val/images/2.png"
    assert examples[0]["image"].shape == (3, 12, 16)
    assert examples[0]["mask"][0, :4].tolist() == [0, 1, 255, 0]
    assert examples[0]["instances"] is None


@pytest.mark.parametrize("palette", [False, True])
def test_folders_called_otherwise_are_named(tmp_path: Path, palette: bool) -> None:
    for index in range(10):
        picture(tmp_path / "imgs" / f"{index}.jpg")
        mask(tmp_path / "labels" / f"{index}_mask.png", [0, 2], palette=palette)
    source = f"image-masks?root={tmp_path}&images=imgs&masks=labels&ending=_mask"
    lengths = {split: len(opened(source, split, THREE)) for split in ("train", "validation", "test")}
    assert lengths == {"train": 8, "validation": 1, "test": 1}
    assert opened(source, "test", THREE)[0]["mask"][0, :3].tolist() == [0, 2, 0]


def test_black_and_white_masks_are_of_two_classes(tmp_path: Path) -> None:
    """Whoever paints masks with 255 means class 1, not what is ignored."""
    pair(tmp_path, numbers=(0, 255, 255))
    assert opened(tmp_path)[0]["mask"].sum() == 2
    assert opened(f"image-masks?root={tmp_path}&classes=2")[0]["mask"].sum() == 2
    pair(tmp_path, numbers=(0, 1, 255))
    assert opened(tmp_path)[0]["mask"][0, :3].tolist() == [0, 1, 255]


def test_colours_are_read_by_a_table(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png")
    colours = np.zeros((12, 16, 3), np.uint8)
    colours[0, 1], colours[0, 2] = (128, 0, 0), (9, 9, 9)
    (tmp_path / "masks").mkdir()
    Image.fromarray(colours).save(tmp_path / "masks" / "1.png")
    table = tmp_path / "classes.csv"
    table.write_text("name, r, g, b\nground, 0, 0, 0\nvoid, 9, 9, 9\nhouse, 128, 0, 0\n")
    row = opened(f"image-masks?root={tmp_path}&colours={table}")[0]
    assert row["mask"][0, :4].tolist() == [0, 1, 255, 0]


def test_camvid_in_both_layouts(tmp_path: Path) -> None:
    pair(tmp_path / "a" / "train", numbers=(0, 10, 11))
    pair(tmp_path / "a" / "val")
    picture(tmp_path / "b" / "train" / "0001TP.png")
    mask(tmp_path / "b" / "trainannot" / "0001TP.png", [0, 10, 11])
    (tmp_path / "b" / "train.txt").write_text("/SegNet/CamVid/train/0001TP.png /SegNet/CamVid/trainannot/0001TP.png\n")
    for layout in "ab":
        row = opened(f"camvid?root={tmp_path / layout}", needs=STREETS)[0]
        assert row["mask"][0, :4].tolist() == [0, 10, 255, 0]


def test_cityscapes_ids_become_the_19_classes(tmp_path: Path) -> None:
    for city in ("aachen", "bonn"):
        picture(tmp_path / "leftImg8bit" / "val" / city / f"{city}_0_leftImg8bit.png")
        mask(tmp_path / "gtFine" / "val" / city / f"{city}_0_gtFine_labelIds.png", [7, 33, 4, 0])
    mask(tmp_path / "gtFine" / "val" / "bonn" / "bonn_0_gtFine_labelTrainIds.png", [18, 255])
    examples = opened(f"cityscapes?root={tmp_path}", "validation", Requirements(classes=tuple("abcdefghijklmnopqrs")))
    assert [row["mask"][0, :4].tolist() for row in examples] == [[0, 18, 255, 255], [18, 255, 0, 0]]


def test_voc_reads_its_lists(tmp_path: Path) -> None:
    picture(tmp_path / "JPEGImages" / "2007_000032.jpg")
    mask(tmp_path / "SegmentationClass" / "2007_000032.png", [0, 20, 255], palette=True)
    names = tmp_path / "ImageSets" / "Segmentation" / "train.txt"
    names.parent.mkdir(parents=True)
    names.write_text("2007_000032\n")
    row = opened(f"voc?root={tmp_path}", needs=Requirements(classes=tuple("abcdefghijklmnopqrstu")))[0]
    assert row["mask"][0, :3].tolist() == [0, 20, 255]


def coco_file(root: Path, **changes: Any) -> Path:
    """Two categories with ids that leave gaps: a polygon, packed runs, plain runs that are a crowd."""
    picture(root / "train2017" / "1.jpg", (20, 30))
    small = np.zeros((20, 30), np.uint8, order="F")
    small[2:5, 2:5] = 1
    packed = packed_masks.encode(small)
    told: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 20, "width": 30}],
        "categories": [{"id": 90, "name": "late"}, {"id": 7, "name": "early"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 90,
                "area": 9,
                "segmentation": {"size": [20, 30], "counts": packed["counts"].decode()},
            },
            {"id": 2, "image_id": 1, "category_id": 7, "area": 100, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]},
            {
                "id": 3,
                "image_id": 1,
                "category_id": 7,
                "area": 20,
                "iscrowd": 1,
                "segmentation": {"size": [20, 30], "counts": [580, 20]},
            },
        ],
    }
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told | changes))
    return root


def test_coco_draws_polygons_and_runs(tmp_path: Path) -> None:
    found = opened(f"coco?root={coco_file(tmp_path)}", needs=THREE)[0]["mask"]
    assert found[:10, :10].min() == 1 and found[3, 3] == 2  # the smaller one lies above
    assert found[12, 15] == 0 and (found[:, 29] == 255).all()  # crowds are ignored
    assert np.bincount(found.ravel(), minlength=3)[:3].tolist() == [600 - 100 - 20, 91, 9]


def test_nuclei_have_masks_objects_and_borders(tmp_path: Path) -> None:
    for index in range(10):
        picture(tmp_path / "images" / f"{index}.png")
        mask(tmp_path / "labels" / f"{index}.png", [0, 1, 1, 1, 300, 300, 300, 0, 0])
    row = opened(f"dsb2018?root={tmp_path}", "test")[0]
    assert row["instances"].dtype == np.uint16 and row["instances"].max() == 300
    assert row["mask"][0, :9].tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 0]
    row = opened(f"dsb2018?root={tmp_path}&classes=3", "validation", THREE)[0]
    assert row["mask"][0, :9].tolist() == [0, 1, 2, 2, 2, 2, 1, 0, 0]


def test_nuclei_of_one_mask_each(tmp_path: Path) -> None:
    place = tmp_path / "00ae"
    picture(place / "images" / "00ae.png")
    mask(place / "masks" / "a.png", [0, 255, 255])
    mask(place / "masks" / "b.png", [0, 0, 0, 0, 255])
    row = opened(f"dsb2018?root={tmp_path}")[0]
    assert row["instances"][0, :6].tolist() == [0, 1, 1, 0, 2, 0]


def clip(root: Path, frames: str, masks: str, names: list[str], length: int = 5) -> Path:
    for name in names:
        for index in range(length):
            picture(root / frames.format(name) / f"{index:05d}.jpg")
            mask(root / masks.format(name) / f"{index:05d}.png", [0, 1, 255 if "frames" in frames else 2])
    return root


def test_davis_in_both_layouts_is_cut_into_clips(tmp_path: Path) -> None:
    clip(tmp_path / "a", "{}/frames", "{}/masks", ["bear", "cow", "dog"])
    clip(tmp_path / "b", "JPEGImages/480p/{}", "Annotations/480p/{}", ["bear"])
    (tmp_path / "b" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "b" / "ImageSets" / "2017" / "train.txt").write_text("bear\n")
    for layout, year, sequences in (("a", 2016, 2), ("b", 2017, 1)):
        source = f"davis?root={tmp_path / layout}&year={year}&frames=2&stride=2"
        examples = opened(source, "train", TWO, "video-segmentation")
        assert len(examples) == 2 * sequences  # frames 0-1 and 2-3 of each
        assert examples[0]["video"].shape == (2, 3, 12, 16)
        assert examples[0]["mask"][:, 0, :4].tolist() == [[0, 1, 1, 0]] * 2
    assert len(opened(f"davis?root={tmp_path / 'a'}", "test", TWO, "video-segmentation")) == 1
    assert len(opened(f"davis?root={tmp_path / 'a'}&held=bear,dog", "train", TWO, "video-segmentation")) == 1


def test_2016_lists_of_pairs_name_sequences(tmp_path: Path) -> None:
    root = clip(tmp_path, "JPEGImages/480p/{}", "Annotations/480p/{}", ["bear"])
    (root / "ImageSets" / "480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/bear/{i:05d}.jpg /Annotations/480p/bear/{i:05d}.png" for i in range(5)]
    (root / "ImageSets" / "2016").mkdir()
    (root / "ImageSets" / "2016" / "train.txt").write_text("\n".join(lines))
    assert len(opened(f"davis?root={root}", "train", TWO, "video-segmentation")) == 1


# --- what does not fit ------------------------------------------------------------------------------------------------


def no_mask(root: Path) -> str:
    pair(root)
    picture(root / "images" / "2.png")
    return f"image-masks?root={root}"


def no_mask_in_a_plain_folder(root: Path) -> str:
    pair(root)
    picture(root / "images" / "2.png")
    return str(root)


def no_image(root: Path) -> str:
    pair(root)
    mask(root / "masks" / "2.png")
    return f"image-masks?root={root}"


def another_size(root: Path) -> str:
    picture(root / "images" / "1.png")
    mask(root / "masks" / "1.png", [0, 1], size=(10, 16))
    return f"image-masks?root={root}"


def beyond(root: Path) -> str:
    return str(pair(root, numbers=(0, 3)))


def void_of_camvid(root: Path) -> str:
    pair(root / "train", numbers=(0, 12))
    return f"camvid?root={root}"


def empty(root: Path) -> str:
    pair(root)
    for path in (root / "masks").iterdir():
        path.unlink()
    return f"image-masks?root={root}"


def no_folder(root: Path) -> str:
    return f"image-masks?root={root / 'nowhere'}"


def not_given(root: Path) -> str:
    return "cityscapes"


def corrupt_image(root: Path) -> str:
    pair(root)
    path = root / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    return f"image-masks?root={root}"


def corrupt_mask(root: Path) -> str:
    pair(root)
    (root / "masks" / "1.png").write_bytes(b"nothing of a picture")
    return f"image-masks?root={root}"


def four_channels(root: Path) -> str:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    np.save(root / "images" / "1.npy", np.zeros((4, 12, 16), np.float32))
    mask(root / "masks" / "1.png", [0, 1])
    return str(root)


def colours_for_numbers(root: Path) -> str:
    pair(root)
    colours = np.zeros((12, 16, 3), np.uint8)
    colours[0, 0] = (128, 64, 128)
    Image.fromarray(colours).save(root / "masks" / "1.png")
    return f"image-masks?root={root}"


def unknown_colour(root: Path) -> str:
    colours_for_numbers(root)
    (root / "c.csv").write_text("name,r,g,b\nroad,0,0,0\n")
    return f"image-masks?root={root}&colours={root / 'c.csv'}"


def no_table(root: Path) -> str:
    pair(root)
    (root / "c.csv").write_text("name,red\nroad,0\n")
    return f"image-masks?root={root}&colours={root / 'c.csv'}"


def jpeg_mask(root: Path) -> str:
    pair(root)
    (root / "masks" / "1.png").rename(root / "masks" / "1.jpg")
    return f"image-masks?root={root}"


def fractions(root: Path) -> str:
    pair(root)
    (root / "masks" / "1.png").unlink()
    np.save(root / "masks" / "1.npy", np.full((12, 16), 0.3))
    return f"image-masks?root={root}"


def a_file_that_is_listed_and_not_there(root: Path) -> str:
    (root / "train.txt").write_text("train/1.png trainannot/1.png\n")
    return f"camvid?root={root}"


def a_line_of_one_path(root: Path) -> str:
    (root / "train.txt").write_text("train/1.png\n")
    return f"camvid?root={root}"


def no_lists(root: Path) -> str:
    (root / "JPEGImages").mkdir()
    return f"voc?root={root}"


def no_pictures_of_a_city(root: Path) -> str:
    return f"cityscapes?root={root}"


def broken_json(root: Path) -> str:
    (coco_file(root) / "annotations" / "instances_train2017.json").write_text("{")
    return f"coco?root={root}"


def unknown_category(root: Path) -> str:
    return f"coco?root={coco_file(root, categories=[{'id': 7, 'name': 'early'}])}"


def bad_polygon(root: Path) -> str:
    part = {"id": 5, "image_id": 1, "category_id": 7, "segmentation": [[1, 2]]}
    return f"coco?root={coco_file(root, annotations=[part])}"


def no_such_image(root: Path) -> str:
    (coco_file(root) / "train2017" / "1.jpg").unlink()
    return f"coco?root={root}"


def another_size_of_coco(root: Path) -> str:
    coco_file(root)
    picture(root / "train2017" / "1.jpg", (21, 30))
    return f"coco?root={root}"


def nuclei_without_labels(root: Path) -> str:
    picture(root / "images" / "1.png")
    mask(root / "labels" / "2.png")
    return f"dsb2018?root={root}"


def four_classes_of_nuclei(root: Path) -> str:
    return f"dsb2018?root={root}&classes=4"


def masks_of_one_picture_that_differ(root: Path) -> str:
    picture(root / "a" / "images" / "a.png")
    mask(root / "a" / "masks" / "1.png", [1])
    mask(root / "a" / "masks" / "2.png", [1], size=(12, 17))
    return f"dsb2018?root={root}"


def another_split(root: Path) -> str:
    pair(root / "val")
    return f"image-masks?root={root}"


def another_option(root: Path) -> str:
    return f"image-masks?root={pair(root)}&mask_folder=x"


BAD: list[tuple[Callable[[Path], str], str]] = [
    (no_mask, r"images/2.png has no mask .*masks/2.png.*Add it, or remove"),
    (no_mask_in_a_plain_folder, r"images/2.png has no partner masks/2"),
    (no_image, r"masks/2.png belongs to no image"),
    (another_size, r"masks/1.png is 16x10 pixels, the image .*1.png 16x12.*Give masks of their images' size"),
    (beyond, r"class 3 in .*1.png, the model knows 2 \(0 to 1\).*255 means ignore"),
    (void_of_camvid, r"1.png: the number 12 is none of the classes \(0, 1, .* 11, 255\)"),
    (empty, r"the folder .*masks is empty.*Put files in it"),
    (no_folder, r"there is no folder .*nowhere.*Write image-masks\?root="),
    (not_given, r"the folder is not given.*Write cityscapes\?root="),
    (corrupt_image, r"1.png"),
    (corrupt_mask, r"masks/1.png cannot be"),
    (four_channels, r"4 channel"),
    (colours_for_numbers, r"has colours, not numbers of classes.*Store the numbers"),
    (unknown_colour, r"the colour \(128, 64, 128\) in row 0, column 0 is none of the 1 known"),
    (no_table, r"c.csv is no table of colours .*name,r,g,b"),
    (jpeg_mask, r"1.jpg is neither of .png"),
    (fractions, r"decimal numbers.*1.npy are no mask.*argmax"),
    (a_file_that_is_listed_and_not_there, r"no file .*train/1.png, the image of an example"),
    (a_line_of_one_path, r"has not two paths.*Write: IMAGE MASK"),
    (no_lists, r"ImageSets/Segmentation/train.txt cannot be read"),
    (no_pictures_of_a_city, r"has no leftImg8bit/train/CITY"),
    (broken_json, r"instances_train2017.json is no file of COCO's instances"),
    (unknown_category, r"annotation 1 is of category 90, which is not listed"),
    (bad_polygon, r"annotation 5 of 1.jpg has no usable segmentation.*three points"),
    (no_such_image, r"no file .*1.jpg, which the annotations name"),
    (another_size_of_coco, r"30x20 pixels, the image .*1.jpg 30x21"),
    (nuclei_without_labels, r"1.png has no labels"),
    (four_classes_of_nuclei, r"classes=4.*Give 2 .*or 3"),
    (masks_of_one_picture_that_differ, r"masks in .*a/masks differ in size"),
    (another_split, r"has no folder for train.*It has validation"),
    (another_option, r"mask_folder"),
]


@pytest.mark.parametrize(("made", "message"), BAD, ids=[made.__name__ for made, _ in BAD])
def test_what_does_not_fit_is_named(made: Callable[[Path], str], message: str, tmp_path: Path) -> None:
    source = made(tmp_path)
    needs = STREETS if "camvid" in source else Requirements(channels=3, classes=TWO.classes)
    with pytest.raises(StzooError, match=f"(?s){message}"):
        opened(source, "train", needs)[0]


def test_clips_need_a_mask_for_each_frame(tmp_path: Path) -> None:
    root = clip(tmp_path, "{}/frames", "{}/masks", ["bear", "cow"])
    (root / "bear" / "masks" / "00003.png").unlink()
    with pytest.raises(StzooError, match="00003.jpg has no mask in"):
        opened(f"davis?root={root}", "train", TWO, "video-segmentation")
    with pytest.raises(StzooError, match="no sequence 'ant'.*bear, cow"):
        opened(f"davis?root={root}&held=ant", "train", TWO, "video-segmentation")


def test_a_mask_of_another_size_is_refused_in_arrays_too() -> None:
    with pytest.raises(StzooError, match="the mask is of 5x4 pixels, what it belongs to of 6x4"):
        data.same_shape(np.zeros((3, 4, 6)), np.zeros((4, 5)))
    data.same_shape(np.zeros((2, 3, 4, 6)), np.zeros((2, 4, 6)))
