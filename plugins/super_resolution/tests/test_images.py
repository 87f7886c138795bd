"""Pictures of any kind through the pipeline, data sets and their layouts, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import stzoo
from stzoo import Requirements, media
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, FormatError, InputError, MediaError, StzooError
from stzoo.predictor import Predictor
from stzoo.registry import registry
from stzoo.spec import Task
from stzoo_super_resolution import data
from stzoo_super_resolution.pipeline import bicubic, to_luma, to_rgb, to_ycbcr
from stzoo_super_resolution.resize import imresize, imresize_uint8

TASK = registry().get(Task, "super-resolution")
RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (18, 24, 3), dtype=np.uint8)


def photo(path: Path, pixels: np.ndarray = PICTURE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


class Nearest(nn.Module):
    """Repeats pixels: what a perfect network of the luma makes of a constant picture."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels, self.requirements = channels, Requirements(scale=scale, reach=1)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.channels
        scale = self.requirements.scale
        return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


@pytest.fixture
def repeating() -> Callable[[int, int], Predictor]:
    made = stzoo.create("espcn")

    def build(channels: int = 1, scale: int = 3) -> Predictor:
        return Predictor(Nearest(channels, scale), made.architecture, made.task, {}, made.report)

    return build


# --- the pipeline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["srcnn", "espcn"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (13, 9)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sizes_and_channels_are_exact(architecture: str, shape: tuple[int, int], channels: int) -> None:
    config = {"kernels": (5, 1, 3), "filters": (4, 4)} if architecture == "srcnn" else {"filters": (4, 4)}
    predictor = stzoo.create(architecture, scale=3, **config)
    found = predictor.predict(RNG.random((channels, *shape), dtype=np.float32)).image
    assert found.shape == (channels, 3 * shape[0], 3 * shape[1])
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_survive_networks_of_any_number_of_channels(channels: int, repeating: Callable[..., Predictor]) -> None:
    flat = np.broadcast_to(np.array([0.9, 0.3, 0.1, 0.4], np.float32)[:, None, None], (4, 5, 6))
    for count in (1, 3, 4):
        found = repeating(channels).predict(flat[:count]).image
        np.testing.assert_allclose(found, np.broadcast_to(flat[:count, :1, :1], (count, 15, 18)), atol=2e-6)


def test_the_luma_goes_through_the_network_and_the_chroma_do_not(repeating: Callable[..., Predictor]) -> None:
    image = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    found = torch.from_numpy(repeating(1).predict(image[0]).image)[None]
    torch.testing.assert_close(to_luma(found), Nearest(1, 3)(to_luma(image)), rtol=0, atol=1e-5)
    torch.testing.assert_close(to_ycbcr(found)[:, 1:], imresize(to_ycbcr(image)[:, 1:], 3), rtol=0, atol=1e-5)


def test_ycbcr_is_matlabs() -> None:
    colours = torch.eye(3).reshape(1, 3, 1, 3)
    expected = torch.tensor([[81, 145, 41], [90, 54, 240], [240, 34, 110]]).float()
    torch.testing.assert_close((to_ycbcr(colours)[0, :, 0] * 255).round(), expected)
    torch.testing.assert_close(to_rgb(to_ycbcr(colours)), colours, rtol=0, atol=1e-6)


def test_transparency_is_enlarged_and_written(tmp_path: Path) -> None:
    pixels = np.dstack((PICTURE, RNG.integers(0, 256, (18, 24), dtype=np.uint8)))
    prediction = stzoo.create("espcn", scale=2, filters=(4, 4)).predict(photo(tmp_path / "a.png", pixels))
    with Image.open(prediction.save(tmp_path / "b.png")) as found:
        assert found.mode == "RGBA" and found.size == (48, 36)
        expected = imresize(pixels[:, :, 3] / 255, 2).clip(0, 1)
        assert np.abs(np.asarray(found)[:, :, 3] / 255 - expected).max() < 1 / 255
    with Image.open(prediction.save(tmp_path / "b.jpg")) as found:
        assert found.mode == "RGB", "JPEG knows no transparency"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(channels: int, repeating: Callable[..., Predictor], tmp_path: Path) -> None:
    image = RNG.integers(0, 65536, (channels, 5, 6)) / 65535
    media.write_image(image, tmp_path / "deep.png", bits=16)
    prediction = repeating(3, 1).predict(tmp_path / "deep.png")
    assert prediction.image.shape == image.shape
    again = media.read_image(prediction.save(tmp_path / "again.png", bits=16), "image")
    np.testing.assert_allclose(again, image, atol=1 / 65535)
    assert np.abs(media.read_image(prediction.save(tmp_path / "small.png"), "image") - image).max() > 1e-3


def test_photographs_are_turned_as_the_camera_was_held(repeating: Callable[..., Predictor], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros_like(PICTURE)
    pixels[:, :12] = 255  # bright at the left, so at the top once it is turned to the right
    found = repeating(3, 2).predict(photo(tmp_path / "held.jpg", pixels, exif=exif)).image
    assert found.shape == (3, 48, 36)
    assert found[:, :20].mean() > 0.9 and found[:, 28:].mean() < 0.1


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("P", 3), ("CMYK", 3), ("YCbCr", 3), ("LA", 4), ("RGBA", 4), ("I;16", 1)]
)
def test_every_mode_of_pillow(mode: str, channels: int, repeating: Callable[..., Predictor]) -> None:
    image = Image.fromarray(PICTURE[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else None
    found = repeating(3, 2).predict(image or Image.fromarray(PICTURE).convert(mode)).image
    assert found.shape == (channels, 36, 48)


def test_tiles_give_what_the_whole_gives() -> None:
    image = RNG.random((3, 70, 90), dtype=np.float32)
    for architecture, config in (("srcnn", {"kernels": (9, 1, 5), "filters": (4, 4)}), ("espcn", {"filters": (4, 4)})):
        predictor = stzoo.create(architecture, scale=3, **config)
        for parameter in predictor.module.parameters():
            nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
        nn.init.constant_(parameter, 0.5)
        whole = predictor.predict(image, tile=0).image
        tiles = predictor.predict(image, tile=32).image
        assert whole.std() > 0.01
        np.testing.assert_allclose(tiles, whole, atol=1e-5)


def test_halves_are_as_good_as_singles() -> None:
    predictor = stzoo.create("espcn", scale=2)
    image = PICTURE.transpose(2, 0, 1) / np.float32(255)
    expected = predictor.predict(image).image
    found = predictor.to(torch.bfloat16).predict(image).image
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 0.02


# --- data -------------------------------------------------------------------------------------------------------------


def needs(scale: int, channels: int | None = None) -> Requirements:
    return Requirements(scale=scale, channels=channels)


def test_a_folder_is_made_smaller_as_matlab_does(tmp_path: Path) -> None:
    photo(tmp_path / "0.png", np.vstack([PICTURE, PICTURE[:2]]))  # 20 is no multiple of 3
    pair = open_data(str(tmp_path), TASK, requirements=needs(3))[0]["image"]
    assert pair.high.shape == (3, 18, 24) and pair.low.dtype == np.float32
    expected = imresize_uint8(PICTURE.transpose(2, 0, 1), 1 / 3)
    np.testing.assert_array_equal(np.rint(pair.low * 255), expected)
    given, truth = stzoo.create("espcn").pipeline.example({"image": pair}, {})
    assert (given["image"] is pair.low) and (truth["image"] is pair.high)


def test_degradations_follow_their_options_and_seeds(tmp_path: Path) -> None:
    photo(tmp_path / "0.png")

    def low(options: str) -> np.ndarray:
        found: np.ndarray = open_data(f"{tmp_path}?{options}", TASK, requirements=needs(1))[0]["image"].low
        return found

    clean = PICTURE.transpose(2, 0, 1) / np.float32(255)
    with pytest.warns(UserWarning, match="not made worse.*ask for noise, blur or jpeg"):
        np.testing.assert_array_equal(low("seed=3"), clean)
    assert np.std(low("noise=25") - clean) == pytest.approx(25 / 255, rel=0.1)
    np.testing.assert_array_equal(low("noise=25"), low("noise=25&seed=0"))
    assert (low("noise=25") != low("noise=25&seed=1")).any()
    assert low("blur=2").std() < clean.std() / 2
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).save(buffer, "jpeg", quality=10)
    np.testing.assert_array_equal(np.rint(low("jpeg=10") * 255), np.asarray(Image.open(buffer)).transpose(2, 0, 1))


@pytest.mark.parametrize("down", ["bicubic", "pillow", "subsample"])
def test_ways_to_make_smaller(down: str) -> None:
    high = PICTURE.transpose(2, 0, 1) / np.float32(255)
    pair = data.degraded(high, 3, down=down)
    expected = {
        "bicubic": imresize_uint8(PICTURE.transpose(2, 0, 1), 1 / 3),
        "pillow": np.asarray(Image.fromarray(PICTURE).resize((8, 6), Image.Resampling.BICUBIC)).transpose(2, 0, 1),
        "subsample": PICTURE[1::3, 1::3].transpose(2, 0, 1),
    }[down]
    np.testing.assert_array_equal(np.rint(pair.low * 255), expected)


def test_pairs_of_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"high/{name}.png")
    photo(tmp_path / "low/a.png", PICTURE[::2, ::2])
    photo(tmp_path / "low/bx2.jpg", PICTURE[::2, ::2])
    first, second = open_data(f"{tmp_path}/high?low={tmp_path}/low", TASK, requirements=needs(2))
    np.testing.assert_array_equal(np.rint(first["image"].low * 255), PICTURE[::2, ::2].transpose(2, 0, 1))
    assert second["image"].low.shape == (3, 9, 12)


@pytest.mark.parametrize("layout", ["plain", "HR", "original"])
def test_benchmarks_as_people_have_them(layout: str, tmp_path: Path) -> None:
    folder = tmp_path if layout == "plain" else tmp_path / layout
    photo(folder / "baby.png")
    photo(tmp_path / "LR_bicubic/X2/babyx2.png", np.full((9, 12, 3), 7, np.uint8))
    for name in ("set5", "set14", "bsd100", "urban100", "manga109"):
        made = open_data(f"{name}?root={tmp_path}", TASK, requirements=needs(2))
        given = open_data(f"{name}?root={tmp_path}&given=true", TASK, requirements=needs(2))
        assert len(made) == len(given) == 1 and made.split == "test"
        assert (given[0]["image"].low == np.float32(7 / 255)).all() and made[0]["image"].low.std() > 0.05


def test_benchmarks_cut_for_each_scale(tmp_path: Path) -> None:
    for scale in (2, 3):
        part = tmp_path / f"image_SRF_{scale}"
        photo(part / f"img_001_SRF_{scale}_HR.png", np.full((12, 12, 3), scale, np.uint8))
        photo(part / f"img_001_SRF_{scale}_LR.png", np.full((12 // scale, 12 // scale, 3), 9, np.uint8))
    [example] = open_data(f"urban100?root={tmp_path}&given=true", TASK, requirements=needs(3))
    assert (example["image"].high == np.float32(3 / 255)).all() and (example["image"].low == np.float32(9 / 255)).all()


def test_div2k(tmp_path: Path) -> None:
    photo(tmp_path / "DIV2K_train_HR/0001.png")
    photo(tmp_path / "DIV2K_valid_HR/0801.png")
    photo(tmp_path / "DIV2K_train_LR_bicubic/X3/0001x3.png", PICTURE[::3, ::3])
    [example] = open_data(f"div2k?root={tmp_path}&given=true", TASK, "train", requirements=needs(3))
    np.testing.assert_array_equal(np.rint(example["image"].low * 255), PICTURE[::3, ::3].transpose(2, 0, 1))
    assert len(open_data(f"div2k?root={tmp_path}", TASK, "validation", requirements=needs(3))) == 1


def test_evaluation_compares_with_bicubic(tmp_path: Path) -> None:
    y, x = np.mgrid[:48, :48] / 8
    photo(tmp_path / "wave.png", np.rint(127 + 100 * np.sin(x + y)[..., None].repeat(3, 2)).astype(np.uint8))
    found = stzoo.evaluate(
        stzoo.create("espcn", scale=3, filters=(4, 4)), str(tmp_path), metrics=["psnr", "psnr?crop=0"]
    )
    own, trivial = found.models
    assert trivial.name == "bicubic" and trivial.metrics["psnr"].value > own.metrics["psnr"].value
    assert trivial.metrics["psnr"].value > trivial.metrics["psnr?crop=0"].value, "the border of the scale is left out"


def test_the_baseline_leaves_pictures_of_scale_one_alone() -> None:
    image = RNG.random((3, 5, 7), dtype=np.float32)
    np.testing.assert_allclose(bicubic({"image": image}, {"image": image})["image"], image, atol=1e-6)


# --- what is refused --------------------------------------------------------------------------------------------------


def corrupt(folder: Path) -> Path:
    path = photo(folder / "broken.png")
    path.write_bytes(path.read_bytes()[:60])
    return path


def text(folder: Path) -> Path:
    (folder / "note.png").write_text("no picture")
    return folder / "note.png"


def empty(folder: Path) -> Path:
    (folder / "empty.png").touch()
    return folder / "empty.png"


def several(folder: Path) -> Path:
    np.savez(folder / "two.npz", a=np.zeros((3, 4, 4)), b=np.zeros((3, 4, 4)))
    return folder / "two.npz"


def stacked(folder: Path) -> Path:
    np.save(folder / "clip.npy", np.zeros((2, 3, 4, 4)))
    return folder / "clip.npy"


def folder_of(folder: Path) -> Path:
    return photo(folder / "photos/a.png").parent


PREDICTIONS: dict[str, tuple[Any, dict[str, Any], type[StzooError], str]] = {
    "no file": ("nowhere.png", {}, MediaError, "there is no file"),
    "corrupt file": (corrupt, {}, MediaError, "cannot be decoded as a picture"),
    "text file": (text, {}, MediaError, "cannot be decoded as a picture"),
    "empty file": (empty, {}, MediaError, "is empty"),
    "two arrays in a file": (several, {}, MediaError, "holds 2 arrays"),
    "a clip": (stacked, {}, InputError, "is not a picture"),
    "a folder": (folder_of, {}, InputError, "is a folder. Give a file"),
    "one number": (np.float32(1), {}, InputError, "is not a picture"),
    "one row": (np.zeros(7), {}, InputError, "is not a picture"),
    "no pixels": (np.zeros((3, 0, 4)), {}, InputError, "is empty"),
    "two channels": (np.zeros((2, 8, 8)), {}, InputError, "2 channels"),
    "five channels": (np.zeros((5, 8, 8)), {}, InputError, "5 channels"),
    "not finite": (np.full((3, 4, 4), np.nan), {}, InputError, "not finite"),
    "words": (np.array([["a", "b"]]), {}, InputError, "image is a ndarray"),
    "nothing": (None, {}, InputError, "image is a NoneType"),
    "two pictures": ((np.zeros((3, 4, 4)), np.zeros((3, 4, 4))), {}, InputError, "2 inputs"),
    "no such option": (np.zeros((3, 4, 4)), {"scale": 4}, InputError, "has no 'scale'"),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_bad_inputs_are_refused(case: str, tmp_path: Path) -> None:
    value, options, kind, message = PREDICTIONS[case]
    given = value(tmp_path) if callable(value) else value
    predictor = stzoo.create("espcn", filters=(4, 4))
    with pytest.raises(kind, match=message):
        list(predictor.predict_batch([given], **options))


def make(folder: Path) -> None:
    photo(folder / "high/a.png")
    photo(folder / "quarter/a.png", PICTURE[::4, ::4])
    photo(folder / "grey/a.png", PICTURE[::2, ::2, 0])
    photo(folder / "other/b.png")
    photo(folder / "tiny/a.png", PICTURE[:1, :1])
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    corrupt(folder / "broken")


SOURCES = {
    "pairs of another scale": ("{0}/high?low={0}/quarter", "6x5 pixels, and 24x18 should come out"),
    "pairs of other colours": ("{0}/high?low={0}/grey", "1 channels, and 3"),
    "no partner": ("{0}/high?low={0}/other", "no picture that belongs to a.png"),
    "smaller than the scale": ("{0}/tiny", "1x1 pixels cannot be made 2 times smaller"),
    "an empty folder": ("{0}/empty", "is empty"),
    "a corrupt picture": ("{0}/broken", "cannot be decoded"),
    "no root": ("set5", "the folder is not given"),
    "a missing root": ("set5?root={0}/none", "there is no folder"),
    "a root without pictures": ("set14?root={0}/empty", "holds no pictures"),
    "DIV2K without its folders": ("div2k?root={0}", "there is no folder"),
    "a split it has not": ("set5?root={0}/high", "has no split 'train'"),
    "an unknown way": ("{0}/high?down=lanczos", "must be one of"),
    "too much noise": ("{0}/high?noise=300", "must be a number from 0 to 255"),
    "no quality": ("{0}/high?jpeg=0", "must be a whole number from 1 to 100"),
    "an unknown option": ("{0}/high?blurr=2", "Did you mean 'blur'"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_bad_data_is_refused(case: str, tmp_path: Path) -> None:
    make(tmp_path)
    source, message = SOURCES[case]
    split = "train" if "split" in case or "DIV2K" in case else None
    with pytest.raises((DatasetError, ConfigError, FormatError), match=message):
        list(open_data(source.format(tmp_path), TASK, split, requirements=needs(2)))


def test_kodaks_photographs_are_split_by_number(tmp_path: Path) -> None:
    for number in range(1, 25):
        photo(tmp_path / f"kodim{number:02}.png")
    assert [Path(row["image"]).stem for row in data.kodak("test", str(tmp_path))] == [
        f"kodim{n}" for n in range(21, 25)
    ]
    assert len(data.kodak("train", str(tmp_path))) == 20
    (shipped,) = open_data("kodak?noise=25", TASK, "test", requirements=needs(1))
    assert shipped["image"].high.shape == (3, 288, 288)
    assert np.std(shipped["image"].low - shipped["image"].high) == pytest.approx(25 / 255, rel=0.02)
    with pytest.raises(DatasetError, match="the folder is not given.*kodak.root=kodak"):
        data.kodak("train")
    (tmp_path / "kodim07.png").unlink()
    with pytest.raises(DatasetError, match=r"has no kodim07.png"):
        data.kodak("train", str(tmp_path))
