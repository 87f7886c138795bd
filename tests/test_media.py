"""Clips and pictures in every form people have them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stzoo import errors, media
from stzoo.fields import Video
from stzoo.requirements import Requirements


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Grey frames (12, 1, 24, 32), 8-bit values."""
    return (
        media.to_uint8(media.sample_clip(12, Requirements(channels=1, native_size=(24, 32)))).astype(np.float32) / 255
    )


def npy(clip: np.ndarray) -> bytes:
    held = io.BytesIO()
    np.save(held, clip)
    return held.getvalue()


def frames(clip: np.ndarray) -> list[Image.Image]:
    return [media.to_pil(frame) for frame in clip]


@pytest.mark.parametrize(
    "convert",
    [
        lambda clip: clip,
        lambda clip: clip[:, 0],
        lambda clip: clip.transpose(0, 2, 3, 1),
        lambda clip: (clip * 255).round().astype(np.uint8),
        lambda clip: torch.from_numpy(clip),
        lambda clip: torch.from_numpy(clip).to(torch.bfloat16).float(),
        frames,
        lambda clip: [np.asarray(frame) for frame in frames(clip)],
        lambda clip: io.BytesIO(npy(clip)),
    ],
    ids=["array", "no channels", "channels last", "uint8", "tensor", "rounded tensor", "PIL", "list of arrays", "file"],
)
def test_one_clip_in_many_forms(clip: np.ndarray, convert) -> None:
    read = media.read_video(convert(clip), "clip", 1)
    assert read.shape == clip.shape
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, clip, atol=5e-3)


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".npy", 0), (".npz", 0), (".gif", 0.01), (".mp4", 0.05), (".avi", 0.05)]
)
def test_files_round_trip(clip: np.ndarray, tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = tmp_path / f"clip{suffix}"
    media.write_video(clip, path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name], "nothing temporary is left"
    read = media.read_video(path, "clip", 1)
    assert read.shape == clip.shape
    assert np.abs(read - clip).max() <= tolerance


def test_a_folder_of_frames_is_read_in_natural_order(clip: np.ndarray, tmp_path: Path) -> None:
    for index, frame in enumerate(frames(clip)):
        frame.save(tmp_path / f"frame{index}.png")
    np.testing.assert_array_equal(media.read_video(tmp_path, "clip", 1), clip)


def test_colour_files_become_what_the_model_takes(tmp_path: Path) -> None:
    colours = np.zeros((5, 3, 16, 16), np.float32)
    colours[:, 0] = 1
    colours[range(5), :, range(5)] = 0  # Pillow merges frames that are alike
    media.write_video(colours, tmp_path / "red.gif")
    assert media.read_video(tmp_path / "red.gif", "clip", 3).shape == (5, 3, 16, 16)
    grey = media.read_video(tmp_path / "red.gif", "clip", 1)
    assert grey.shape == (5, 1, 16, 16)
    assert grey[:, :, 5:].mean() == pytest.approx(0.299, abs=0.01)


def test_sixteen_bit_pictures_keep_their_range(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    read = media.read_image(tmp_path / "deep.png", "image", 1)
    np.testing.assert_allclose(read[0], values / 65535, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_written_and_read_in_any_colours(channels: int, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (channels, 9, 7)) / np.float32(65535)
    media.write_image(image, tmp_path / "deep.png", bits=16)
    np.testing.assert_allclose(media.read_image(tmp_path / "deep.png", "image"), image, atol=1e-7)
    assert media.read_image(tmp_path / "deep.png", "image", 3).shape == (3, 9, 7)
    media.write_image(image, tmp_path / "flat.png")
    with Image.open(tmp_path / "flat.png") as flat, Image.open(tmp_path / "deep.png") as deep:
        assert flat.size == deep.size == (7, 9), "Pillow reads it too"
        assert flat.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]


def test_sixteen_bits_become_eight_with_a_warning_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((3, 9, 7), dtype=np.float32)
    media.write_image(image, tmp_path / "deep.png", bits=16)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.warns(UserWarning, match="only 8 of its 16 bits"):
        found = media.read_image(tmp_path / "deep.png", "image")
    np.testing.assert_allclose(found, image, atol=1 / 255)


@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_are_turned_as_their_exif_says(bits: int, tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :6] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the left is the top
    picture = Image.fromarray(pixels if bits == 8 else pixels[:, :, 0].astype(np.uint16) * 257)
    picture.save(tmp_path / "held.png", exif=exif)
    found = media.read_image(tmp_path / "held.png", "image")
    assert found.shape[1:] == (12, 8) and found[:, :6].min() == 1 and found[:, 6:].max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_kept_where_any_channels_will_do(mode: str, tmp_path: Path) -> None:
    if mode == "P":
        picture = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        picture.info["transparency"] = 0
    else:
        picture = Image.new("RGBA", (2, 2), (10, 10, 10, 0)).convert(mode)
    assert media.read_image(picture, "image").shape == (4, 2, 2)
    assert media.read_image(picture, "image")[3, 0, 0] == 0
    assert media.read_image(picture, "image", 3).shape == (3, 2, 2)


def bad_inputs(tmp_path: Path) -> list[tuple[object, type[Exception], str]]:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a film")
    (tmp_path / "text.gif").write_text("nor this")
    (tmp_path / "text.npz").write_text("nor this")
    (tmp_path / "notes.doc").write_text("?")
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "flat.npy", np.zeros((3, 3)))
    buffer = io.BytesIO()
    media.to_pil(np.zeros((1, 64, 64), np.float32)).save(buffer, "png")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "frame.png").write_bytes(buffer.getvalue()[:40])
    nan = np.zeros((12, 1, 16, 16), np.float32)
    nan[3, 0, 2, 2] = np.nan
    return [
        (tmp_path / "absent.mp4", errors.MediaError, "there is no file"),
        ("https://example.org/a.mp4", errors.MediaError, "Download what is at that address first"),
        (tmp_path / "empty.mp4", errors.MediaError, "is empty"),
        (tmp_path / "text.mp4", errors.MediaError, "cannot be decoded as a video"),
        (tmp_path / "text.gif", errors.MediaError, "cannot be decoded"),
        (tmp_path / "text.npz", errors.MediaError, "cannot be read as a NumPy file"),
        (tmp_path / "notes.doc", errors.MediaError, "is not a clip stzoo reads"),
        (tmp_path / "folder", errors.MediaError, "holds no frames"),
        (tmp_path / "two.npz", errors.MediaError, "holds 2 arrays"),
        (tmp_path / "flat.npy", errors.MediaError, "not a clip"),
        (tmp_path / "cut", errors.MediaError, "cannot be decoded as a picture"),
        (nan, errors.InputError, "1 values are not finite"),
        (np.zeros((12, 3, 16, 16), np.float32), errors.InputError, "3 channels, the model takes 1"),
        (np.zeros((4, 1, 16, 16), np.float32), errors.InputError, "4 frames, the model needs 10"),
        (np.zeros((12, 1, 4, 16), np.float32), errors.InputError, "16x4 pixels, the model needs at least 8x8"),
        (np.zeros((2, 12, 1, 16, 16), np.float32), errors.InputError, "several clips at once go through predict_batch"),
        (np.zeros((0, 1, 16, 16), np.float32), errors.InputError, "is empty"),
        ([np.zeros((16, 16)), np.zeros((16, 18))], errors.InputError, "frame 1 has shape"),
        ([], errors.InputError, "no frames"),
        (object(), errors.InputError, "is a object"),
        (7, errors.InputError, "is not a clip"),
    ]


def test_bad_inputs_say_what_is_wrong(tmp_path: Path) -> None:
    needs = Requirements(frames_in=10, channels=1, minimum=8)
    for value, kind, message in bad_inputs(tmp_path):
        with pytest.raises(errors.InputError) as caught:
            Video("video").read(value, needs)
        assert type(caught.value) is kind, (value, caught.value)
        assert message in str(caught.value)
        assert str(caught.value).startswith("video")
        assert "\n" not in str(caught.value)


def test_floats_far_from_the_unit_range_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"values up to 200; floating-point pictures are expected in \[0, 1\]"):
        media.read_video(np.full((3, 8, 8), 200.0), "clip", 1)


def test_padding_and_cropping_undo_each_other() -> None:
    array = np.random.default_rng(0).random((2, 3, 13, 18))
    padded = media.pad_to_multiple(array, 4)
    assert padded.shape == (2, 3, 16, 20)
    np.testing.assert_array_equal(media.crop_like(padded, array, 4), array)
    enlarged = padded.repeat(2, -1).repeat(2, -2)
    assert media.crop_like(enlarged, array, 4).shape == (2, 3, 26, 36)
    mirrored = media.pad_to_multiple(array, 4, "reflect")
    np.testing.assert_array_equal(mirrored[..., 13:, :18], array[..., 11:8:-1, :])
