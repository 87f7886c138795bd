"""From logits to masks: preparation, tiles, mirrored borders, flips, thresholds, objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from PIL import Image
from pycocotools import mask as packed_masks
from safetensors.torch import save_file
from torch import Tensor, nn

import stzoo
from stzoo import Requirements, evaluate
from stzoo.errors import InputError, MediaError
from stzoo.predictor import LoadReport, Predictor
from stzoo.registry import registry
from stzoo.spec import Architecture, Task
from stzoo_segmentation import metrics, objects, pipeline
from stzoo_segmentation.fields import Instances
from stzoo_segmentation.pipeline import Preparation

GOLDENS = Path(__file__).parent / "goldens"


class Brightness(nn.Module):
    """Bright pixels are of class 1, or of the last of several that divide the greys; ``margin``: by valid convolutions."""

    def __init__(self, classes: int = 2, channels: int = 2, margin: int = 0, **preparation: Any) -> None:
        super().__init__()
        self.preparation, self.margin, self.channels = Preparation(**preparation), margin, channels
        self.scale = nn.Parameter(torch.ones(()))
        names = tuple(f"class {number}" for number in range(classes))
        self.requirements = Requirements(classes=names, reach=max(margin, 1), multiple=4, tile=64)
        self.seen: list[tuple[int, ...]] = []

    def around(self, height: int, width: int) -> tuple[int, int]:
        tall, wide = (-(-length // 4) * 4 + 2 * self.margin for length in (height, width))
        return tall, wide

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        if self.margin:
            assert all((length - 2 * self.margin) % 4 == 0 for length in image.shape[-2:])
            image = image[..., self.margin : -self.margin, self.margin : -self.margin]
        grey = image.mean(-3, keepdim=True) * self.scale
        if self.channels == 1:
            return 10 * (grey - 0.5)
        steps = torch.arange(self.channels, device=image.device)[:, None, None]
        return -100 * (grey - steps / (self.channels - 1)).square()


def predictor(module: nn.Module, task: str = "segmentation") -> Predictor:
    architecture = Architecture(name="brightness", task=task, build="builtins:object")
    return Predictor(module, architecture, registry().get(Task, task), {}, LoadReport("brightness", "none"))


def ramp(height: int = 40, width: int = 50, channels: int = 3) -> np.ndarray:
    grey = np.linspace(0, 1, width, dtype=np.float32)[None] * np.ones((height, 1), np.float32)
    return np.repeat(grey[None], channels, 0)


def test_the_largest_logit_wins() -> None:
    found = predictor(Brightness(5, 5)).predict(ramp()).mask
    assert found.dtype == np.uint8 and found.shape == (40, 50)
    np.testing.assert_array_equal(found[0], np.round(ramp()[0, 0] * 4))


def test_a_single_channel_is_told_by_the_threshold() -> None:
    network = predictor(Brightness(channels=1))
    for threshold, wanted in ((0.5, 0.5), (0.9, 0.5 + np.log(9) / 10), (0, 0.0)):
        found = network.predict(ramp(), threshold=threshold).mask
        np.testing.assert_array_equal(found[0], ramp()[0, 0] >= wanted)
    assert network.predict(ramp(), threshold=1).mask.max() == 0


@pytest.mark.parametrize("margin", [0, 6])
@pytest.mark.parametrize("size", [(4, 4), (37, 51), (200, 130)])
def test_any_size_and_any_tiles_give_the_same(margin: int, size: tuple[int, int]) -> None:
    """Borders are mirrored as far as valid convolutions need, also of pictures smaller than that."""
    network = predictor(Brightness(5, 5, margin))
    image = np.random.default_rng(0).random((3, *size), dtype=np.float32)
    expected = np.round(image.mean(0) * 4)
    for options in ({}, {"tile": 0}, {"tile": 64}):
        np.testing.assert_array_equal(network.predict(image, **options).mask, expected)
    assert max(shape[-1] for shape in network.module.seen[-2:]) <= 64 + 2 * margin


def test_overlap_tiles_are_those_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A U-Net of valid convolutions: mirrored borders, and no seam in whatever tiles."""
    tensors = Golden(GOLDENS / "unet-overlap-tile").tensors
    save_file(Golden(GOLDENS / "unet-A-valid-small").state, tmp_path / "model.safetensors")
    network = stzoo.import_checkpoint(tmp_path / "model.safetensors", device="cpu", padding="valid")
    monkeypatch.setattr(pipeline, "decided", lambda scores, options: scores)
    for options in ({"tile": 0}, {"tile": 128}):
        with torch.no_grad():
            found = network.pipeline.classes(network.module, tensors["input_image"], options)
        torch.testing.assert_close(found, tensors["output_stitched"], rtol=0, atol=1e-6)


def test_too_small_an_overlap_for_valid_convolutions_is_refused() -> None:
    network = predictor(Brightness(5, 5, margin=6))
    with pytest.raises(InputError, match="overlap=8 is less than what .* take away.*Give at least 16"):
        network.predict(ramp(100, 100), tile=48, overlap=8)


def test_preparation_normalises() -> None:
    image = ramp()
    given = Preparation(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    expected = (image - np.array([0.5, 0.25, 0.0])[:, None, None]) / np.array([0.5, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(given.applied(image), expected, atol=1e-6)
    np.testing.assert_allclose(given.applied(torch.from_numpy(image)[None]), expected[None], atol=1e-6)
    own = Preparation("image").applied(7 + 3 * image)
    np.testing.assert_allclose([own.mean(), own.std()], [0, 1], atol=1e-5)
    assert Preparation().applied(image) is image


def test_statistics_of_a_picture_are_of_the_whole_of_it() -> None:
    """In tiles too: each alone would have others."""
    network = predictor(Brightness(channels=1, normalise="image"))
    image = ramp(130, 130)
    expected = image[0] >= 0.5 + 0.5 * image[0].std()
    for tile in (0, 16):
        np.testing.assert_array_equal(network.predict(image, tile=tile).mask, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_reduced_and_masks_are_not(channels: int) -> None:
    module = Brightness(3, channels, scale=0.5)
    found = predictor(module).predict(ramp(40, 51)).mask
    assert found.shape == (40, 51) and module.seen[-1][-2:] == (20, 28)  # 26 wide, padded to the multiple
    whole = predictor(Brightness(3, channels)).predict(ramp(40, 51)).mask
    assert (found != whole).mean() < 0.05


def test_flips_are_averaged() -> None:
    class Leaning(Brightness):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + torch.linspace(-4, 4, image.shape[-1])

    image = ramp() * 0 + 0.5
    network = predictor(Leaning(channels=1))
    assert 0 < network.predict(image).mask.mean() < 1
    mirrored = network.predict(image + 0.01, flips="horizontal").mask
    assert mirrored.all()
    several = predictor(Brightness(5, 5))
    np.testing.assert_array_equal(several.predict(ramp(), flips="both").mask, several.predict(ramp()).mask)


def test_clips_are_segmented_frame_by_frame_and_streamed() -> None:
    module = Brightness(5, 5)
    module.requirements = replace(module.requirements, reach_frames=0, window=4)
    network = predictor(module, "video-segmentation")
    clip = np.stack([np.roll(ramp(16, 20), shift, -1) for shift in range(10)])
    found = network.predict(clip).mask
    np.testing.assert_array_equal(found, np.round(clip.mean(1) * 4))
    streamed = list(network.stream(iter(clip)))
    np.testing.assert_array_equal(np.stack(streamed), found)
    assert max(shape[1] for shape in module.seen) == 4


# --- objects ----------------------------------------------------------------------------------------------------------


def discs(*centres: tuple[int, int], radius: int = 10, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = [(rows - row) ** 2 + (columns - column) ** 2 <= radius**2 for row, column in centres]
    return np.any(inside, 0).astype(np.uint8)


def test_watershed_parts_what_touches() -> None:
    mask = discs((30, 20), (30, 37), (15, 65))
    assert objects.components(mask).max() == 2
    found = objects.watershed(mask)
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    assert ((found > 0) == (mask > 0)).all()
    assert len({found[30, 20], found[30, 37], found[15, 65]}) == 3
    mask[50:, :] = 2  # another class is parted on its own
    mask[0, 0] = 255
    assert objects.watershed(mask).max() == 4 and objects.watershed(mask)[0, 0] == 0


def test_objects_are_there_where_they_are_asked_for(tmp_path: Path) -> None:
    network = predictor(Brightness())
    image = np.repeat(discs((30, 20), (30, 37))[None].astype(np.float32), 3, 0)
    plain = network.predict(image)
    assert list(plain) == ["mask"]
    with pytest.raises(InputError, match="instances was not asked for"):
        plain.save(tmp_path / "x.png", "instances")
    plain.figure()
    found = network.predict(image, instances="watershed")
    assert found.instances.dtype == np.uint16 and found.instances.max() == 2
    assert network.predict(image, instances="components").instances.max() == 1
    assert found.figure().height > plain.figure().height
    for ending in (".png", ".npy", ".npz"):
        again = Instances("x").read(found.save(tmp_path / f"x{ending}", "instances"), Requirements())
        np.testing.assert_array_equal(again, found.instances)
    entries = json.loads(found.save(tmp_path / "x.json", "instances").read_text())
    for entry in entries:
        area = packed_masks.decode(entry["segmentation"]).astype(bool)
        np.testing.assert_array_equal(area, found.instances == entry["id"])
        left, top, width, height = entry["bbox"]
        assert area[top : top + height, left : left + width].sum() == entry["area"] == area.sum()


def test_more_than_255_objects_keep_their_numbers(tmp_path: Path) -> None:
    labels = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    objects.write_labels(labels, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as opened:
        assert opened.mode.startswith("I;16")
    np.testing.assert_array_equal(objects.read_labels(tmp_path / "x.png", "x"), labels)
    objects.write_labels(labels, tmp_path / "x.json")
    assert len(json.loads((tmp_path / "x.json").read_text())) == 599


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 4)), "float64 of shape .* are no numbers of objects"),
        (np.zeros((2, 3, 4), np.int32), "are no numbers of objects"),
        (np.full((3, 4), 70000), "70000 is not between 0 and 65535"),
        (np.full((3, 4), -1), "not between 0 and 65535"),
        (Image.new("RGB", (4, 3)), "has colours .RGB., not numbers of objects"),
    ],
)
def test_what_is_no_objects_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        objects.read_labels(value, "instances")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(MediaError, match="x.png"):
        objects.read_labels(tmp_path / "x.png", "instances")


def test_overlay_shows_the_classes_that_are_there() -> None:
    mask = discs((30, 20))
    image = ramp(60, 80) * 0 + 1.0
    shown = np.asarray(objects.overlay(image, mask, ("background", "nucleus")))
    assert shown.shape == (60 + 48, 80, 3)  # one line of the legend for each class: they do not fit beside each other
    assert (shown[5, 5] == 255).all() and shown[30, 20].tolist() == [192, 128, 128]
    assert (shown[:, :, 0] == 128).any()  # the legend's colour


# --- evaluation -------------------------------------------------------------------------------------------------------


def folder(root: Path) -> Path:
    for index, centres in enumerate((((30, 20), (30, 37)), ((15, 60),))):
        mask = discs(*centres)
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(mask * 255).save(root / "images" / f"{index}.png")
        Image.fromarray(objects.watershed(mask)).save(root / "labels" / f"{index}.png")
    return root


def test_evaluation_has_classes_by_name_and_baselines(tmp_path: Path) -> None:
    network = predictor(Brightness())
    found = evaluate(network, f"dsb2018?root={folder(tmp_path)}", split="train")
    model, baseline = found.models
    assert model.metrics["iou"].curve == (1.0, 1.0) and baseline.metrics["dice_foreground"].value == 0
    assert "| iou, class | class 0 | class 1 |" in found.curves()
    assert type(found).from_json(found.to_json()).places == found.places
    asked = evaluate(
        network,
        f"dsb2018?root={tmp_path}",
        split="train",
        metrics=["ap", "ap50"],
        options={"instances": "watershed"},
        output=tmp_path / "results",
    )
    assert [model.metrics["ap"].value for model in asked.models] == [1, 0]
    assert (tmp_path / "results" / "evaluation.md").is_file()


def test_examples_whose_mask_is_of_another_size_are_named(tmp_path: Path) -> None:
    for name, size in (("image", (8, 8)), ("mask", (8, 9))):
        (tmp_path / name).mkdir()
        for index in range(2):
            fitting = (8, 8) if index else size
            Image.new("L", fitting).save(tmp_path / name / f"{index}.png")
    found = evaluate(predictor(Brightness()), tmp_path)
    assert found.examples == 1
    assert "0.png: the mask is of 8x9 pixels, what it belongs to of 8x8" in found.failures[0]


def test_baselines() -> None:
    truth: Mapping[str, Any] = {
        "mask": np.array([[1, 1, 255, 255, 255, 0]], np.uint8),
        "instances": np.ones((1, 6), np.uint16),
    }
    found = pipeline.commonest({}, truth)
    assert (found["mask"] == 1).all() and found["instances"].max() == 0
    assert metrics.mean_iou([metrics.counts(found["mask"], truth["mask"])]) == pytest.approx(1 / 3)
    clip = np.stack([np.eye(4, dtype=np.uint8), np.zeros((4, 4), np.uint8)])
    assert (pipeline.first_mask({}, {"mask": clip})["mask"] == np.eye(4)).all()
