"""Masks and prompts: what is read, refused and written; pages of models that use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import masktoy
import numpy as np
import pytest
import torch
from PIL import Image

from stzoo import errors
from stzoo.commands import _flows
from stzoo.fields import Mask, Prompts, Video, VideoMask
from stzoo.media import masks
from stzoo.requirements import Requirements

ANY, FOUR = Requirements(), Requirements(classes=("road", "house", "car", "sky"))
NUMBERS = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
CLIP = np.stack([NUMBERS, NUMBERS[::-1]])
POINT = {"frame": 1, "object": 2, "points": [[3, 4, 1], [0.5, 0, 0]]}


# --- masks ------------------------------------------------------------------------------------------------------------


def test_the_colours_are_those_of_pascal_voc() -> None:
    table = masks.colours()
    known = {
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        7: (128, 128, 128),
        15: (192, 128, 128),
        20: (0, 64, 128),
    }
    assert {number: tuple(table[number]) for number in known} == known
    assert tuple(table[255]) == (224, 224, 192)
    assert len(np.unique(table, axis=0)) == 256


@pytest.mark.parametrize("suffix", Mask.suffixes)
def test_a_mask_is_read_back_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    field, path = Mask("mask"), tmp_path / f"a{suffix}"
    field.write(NUMBERS, path)
    assert np.array_equal(field.read(path, FOUR), NUMBERS)
    assert field.read(path.read_bytes() if suffix != ".npz" else path, FOUR).dtype == np.uint8
    assert field.preview(NUMBERS).getpixel((2, 0)) == (0, 128, 0)


def test_the_error_of_a_mask_is_red_where_it_is_wrong_and_grey_where_nobody_knows() -> None:
    found = Mask("mask").error(np.array([[0, 2, 2], [3, 7, 1]], np.uint8), NUMBERS)
    assert found is not None
    table = np.asarray(found)
    assert [(row, column) for row, column in np.argwhere(table.any(-1)).tolist()] == [(0, 1), (1, 1)]
    assert table[0, 1, 0] > 200 > table[0, 1].sum() - table[0, 1, 0]
    assert len(set(table[1, 1].tolist())) == 1
    assert Mask("mask").error(NUMBERS, NUMBERS[:1]) is None
    clip = VideoMask("masks").error(CLIP, np.stack([NUMBERS, NUMBERS]))
    assert clip is not None
    assert clip.width > 6 and np.asarray(clip)[:, 3 + 2 :].max() > 200 > np.asarray(clip)[:, :3].max()


@pytest.mark.parametrize("suffix", [".zip", ".npy", ".npz", ""])
def test_masks_of_a_clip_are_read_back(suffix: str, tmp_path: Path) -> None:
    field, path = VideoMask("masks"), tmp_path / f"a{suffix}"
    clip = np.concatenate([CLIP] * 6)  # twelve: 10.png comes after 9.png
    clip[9] = 2
    if suffix:
        field.write(clip, path)
    else:
        path.mkdir()
        for index, frame in enumerate(clip):
            masks.indexed(frame).save(path / f"{index}.png")
    assert np.array_equal(field.read(path, FOUR), clip)
    assert list(field.starts(path, frames=4, stride=2) or ()) == [0, 2, 4, 6, 8]
    assert np.array_equal(field.read(path, FOUR, start=8, frames=4), clip[8:])
    assert np.array_equal(field.read(path, Requirements(frames_in=3)), clip[-3:])


def test_masks_are_written_as_they_come(tmp_path: Path) -> None:
    """What the command streams: a zip file of masks, of which one at a time is held."""
    path, clip = tmp_path / "x.zip", np.stack([NUMBERS, NUMBERS[::-1]])
    VideoMask("masks").write(iter(clip), path)
    assert np.array_equal(VideoMask("masks").read(path, ANY), clip)
    assert _flows(VideoMask("masks"), "a.mp4", {"masks": path})
    assert not _flows(VideoMask("masks"), "a.mp4", {"masks": tmp_path / "x.npz"})
    assert not _flows(VideoMask("masks"), "a.npz", {"masks": path}) and not _flows(Mask("masks"), "a.mp4", {})


def test_pictures_arrays_and_tensors_hold_the_same_numbers() -> None:
    field = Mask("mask")
    grey = Image.fromarray(NUMBERS)
    for value in (
        grey,
        grey.convert("RGB"),
        NUMBERS.astype(np.int64),
        torch.from_numpy(NUMBERS)[None],
        NUMBERS.tolist(),
    ):
        assert np.array_equal(field.read(value, ANY), NUMBERS)
    assert np.array_equal(field.read(NUMBERS == 1, ANY), NUMBERS == 1)


def test_white_is_object_1_or_the_second_of_two_classes_and_ignored_where_there_are_more() -> None:
    drawn = np.array([[0, 255], [255, 0]], np.uint8)
    assert Mask("mask").read(Image.fromarray(drawn), ANY).max() == 1
    two = Requirements(classes=("background", "thing"))
    assert Mask("mask").read(Image.fromarray(drawn), two).max() == 1
    partly = np.array([[0, 1], [255, 0]], np.uint8)
    assert np.array_equal(Mask("mask").read(Image.fromarray(partly), two), partly)
    assert Mask("mask").read(Image.fromarray(drawn), FOUR).max() == 255
    assert np.array_equal(Mask("mask").read(drawn, ANY), drawn)  # numbers are numbers, also when they are read again


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.random.default_rng(0).random((4, 4)), "look like probabilities"),
        (np.full((2, 2), 4), "class 4, the model knows 4"),
        (np.full((2, 2), -1), "the number -1"),
        (np.full((2, 2), 1000), "the number 1000"),
        (np.zeros((3, 4, 4), int), "shape"),
        (np.zeros((0, 4), int), "shape"),
        (Image.fromarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), "has colours"),
        ("missing.png", "no file"),
        ([[1, 2], [3]], "no array of one shape"),
    ],
)
def test_what_is_no_mask_is_refused(value: Any, said: str) -> None:
    with pytest.raises(errors.InputError, match=said):
        Mask("mask").read(value, FOUR)


def test_jpeg_and_broken_zip_files_are_refused(tmp_path: Path) -> None:
    Image.fromarray(NUMBERS).save(tmp_path / "a.jpg")
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(errors.InputError, match="JPEG"):
        Mask("mask").read(tmp_path / "a.jpg", ANY)
    with pytest.raises(errors.MediaError, match="zip file"):
        VideoMask("masks").read(tmp_path / "a.zip", ANY)


def test_resizing_makes_no_new_numbers() -> None:
    large = Mask("mask").read(NUMBERS, ANY, size=(4, 6))
    assert np.array_equal(large, NUMBERS.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(masks.resized(large, (2, 3)), NUMBERS)


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_prompts_are_read_from_python_text_and_files(tmp_path: Path) -> None:
    field, drawn = Prompts("prompts", on="video"), NUMBERS == 1
    given = [POINT, {"box": [0, 1, 2, 5]}, {"frame": 0, "object": 3, "mask": masks.runs(drawn)}]
    read = field.read(given, ANY)
    assert read[0].points == ((3, 4, 1), (0.5, 0, 0))
    assert (read[1].frame, read[1].object, read[1].box) == (0, 1, (0, 1, 2, 5))
    assert np.array_equal(read[2].mask, drawn)
    field.write(read, tmp_path / "a.json")
    for value in (json.dumps(given), {"prompts": given}, tmp_path / "a.json", str(tmp_path / "a.json"), read):
        again = field.read(value, ANY)
        assert [item.plain() for item in again] == [item.plain() for item in read]
    assert field.preview(read).size[0] >= 64
    assert masks.runs(np.array([[0, 1], [1, 1]], bool)) == {"size": [2, 2], "counts": [1, 3]}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "there are no prompts"),
        (None, "NoneType"),
        (7, "int"),
        ("[{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (["x"], "prompt 0 is a str"),
        ([{"points": [[1, 2, 1]], "box": [0, 0, 1, 1]}], "points and box"),
        ([{"frame": 0}], "no points, box or mask"),
        ([{"points": [[1, 2, 1]], "where": 1}], "has 'where'"),
        ([{"points": [[1, 2, 3]]}], "is no point"),
        ([{"points": [[1, -2, 1]]}], "is no point"),
        ([{"points": [[float("nan"), 2, 1]]}], "is no point"),
        ([{"points": []}], "list of 1 to"),
        ([{"points": [["1", 2, 1]]}], "is no point"),
        ([{"frame": -1, "points": [[1, 2, 1]]}], "frame -1"),
        ([{"frame": True, "points": [[1, 2, 1]]}], "frame True"),
        ([{"object": 255, "points": [[1, 2, 1]]}], "object 255"),
        ([{"box": [2, 0, 1, 1]}], "is empty"),
        ([{"box": [0, 0, 1e9, 1]}], "is no box"),
        ([{"mask": {"size": [2, 2], "counts": [1, 2]}}], "do not add up"),
        ([{"mask": {"size": [2, 2], "counts": [4]}}], "mask is empty"),
        ([{"mask": {"size": [60000, 60000], "counts": [0, 3_600_000_000]}}], "million pixels"),
        ([{"mask": "/etc/passwd"}], "its mask is no"),
        ([{"points": [[1, 2, 1]]}] * 1001, "1001 prompts"),
    ],
)
def test_what_are_no_prompts_is_refused(value: Any, said: str) -> None:
    with pytest.raises(errors.InputError, match=said):
        Prompts("prompts").read(value, ANY)


def test_prompts_outside_their_clip_are_named() -> None:
    field = Prompts("prompts", on="video")
    for entry, said in (
        (POINT, "frame 1, video has 1"),
        ({"points": [[8, 1, 1]]}, r"point \[8, 1\]"),
        ({"box": [0, 0, 9, 2]}, "the box"),
        ({"mask": masks.runs(NUMBERS == 1)}, "the mask"),
    ):
        with pytest.raises(errors.InputError, match=said):
            field.check(field.read([entry], ANY), 1, 8, 8)
    field.check(field.read([POINT, {"box": [0, 0, 8, 8]}], ANY), 2, 8, 8)
    sized = Requirements(native_size=(40, 50))
    field.check(field.sample(sized), *Video("video").sample(sized)[:, 0].shape)


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[None]:
    with masktoy.TOY.installed(tmp_path):
        yield


def test_what_is_over_a_limit_is_refused(acme: None, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="demos need gradio: pip install 'stzoo[demo]'")
    from stzoo.ui.components import widget
    from stzoo.ui.limits import limits

    few = limits({"max_pixels": 0.01, "max_frames": 3})
    VideoMask("masks").write(np.zeros((4, 8, 8), np.uint8), tmp_path / "long.zip")
    VideoMask("masks").write(np.zeros((2, 100, 200), np.uint8), tmp_path / "large.zip")
    Mask("mask").write(np.zeros((200, 200), np.uint8), tmp_path / "large.png")
    Mask("mask").write(np.zeros((200, 200), np.uint8), tmp_path / "large.npz")
    for field, name, said in (
        (VideoMask("masks"), "long.zip", "4 frames"),
        (VideoMask("masks"), "large.zip", "million pixels"),
        (Mask("mask"), "large.png", "million pixels"),
        (Mask("mask"), "large.npz", "million pixels"),
    ):
        with pytest.raises(errors.InputError, match=said):
            widget(field, ANY, few).read(str(tmp_path / name))
    with pytest.raises(errors.InputError, match="million pixels"):
        widget(Prompts("prompts"), ANY, few).read([{"mask": {"size": [200, 200], "counts": [0, 40000]}}])
