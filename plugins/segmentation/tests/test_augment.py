"""Random changes of pictures and masks: alike, reproducible, and as the paper describes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stzoo_segmentation.augment import Augment, displacement

STRONG = Augment("both", scale=0.5, rotate=30, colour=0.0, elastic=4)


def smooth(height: int = 48, width: int = 40) -> np.ndarray:
    """A picture (2, H, W) whose first channel is its row and the second its column, in [0, 1]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack((rows / height, columns / width))


def test_a_seed_gives_the_same_sample_again() -> None:
    picture, mask = smooth(), np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
    augment = Augment("turns", 0.3, 20, 0.3, 5)
    one, two, other = (augment.sample(picture, {"mask": mask}, (32, 32), np.random.default_rng(s)) for s in (7, 7, 8))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1]["mask"], two[1]["mask"])
    assert (one[0] != other[0]).any()


@pytest.mark.parametrize("augment", [Augment("none"), Augment("both"), Augment("turns"), STRONG])
@pytest.mark.parametrize("size", [(0, 0), (20, 30), (32, 32), (64, 64)])
def test_picture_and_mask_move_alike(augment: Augment, size: tuple[int, int]) -> None:
    """A mask of the rows' numbers says where each pixel came from: the picture says the same."""
    picture = smooth()
    mask = np.broadcast_to(np.arange(48, dtype=np.uint8)[:, None], (48, 40))
    for seed in range(5):
        image, maps = augment.sample(
            picture, {"mask": mask, "weights": mask / np.float32(48)}, size, np.random.default_rng(seed)
        )
        assert image.shape == (2, *(wanted or own for wanted, own in zip(size, (48, 40), strict=True)))
        assert maps["mask"].dtype == np.uint8 and image.dtype == maps["weights"].dtype == np.float32
        assert np.abs(image[0] * 48 - maps["mask"]).max() <= 0.51
        np.testing.assert_allclose(maps["weights"], image[0], atol=1e-5)


def test_masks_get_no_numbers_that_are_in_between() -> None:
    mask = np.where(np.add.outer(np.arange(40), np.arange(40)) % 7 < 3, 11, 255).astype(np.uint8)
    for seed in range(5):
        _, maps = STRONG.sample(np.zeros((3, 40, 40), np.float32), {"mask": mask}, (0, 0), np.random.default_rng(seed))
        assert set(np.unique(maps["mask"])) == {11, 255}


def test_crops_come_from_everywhere() -> None:
    picture = smooth()
    corners = {
        tuple(np.rint(Augment("none").sample(picture, {}, (46, 38), np.random.default_rng(s))[0][:, 0, 0] * (48, 40)))
        for s in range(80)
    }
    assert corners == {(row, column) for row in range(3) for column in range(3)}


def test_what_is_missing_is_mirrored() -> None:
    """A smaller picture is in the middle of the crop, and goes on mirrored without its last pixel twice."""
    picture = np.arange(5, dtype=np.float32).reshape(1, 1, 5).repeat(5, 1) / 8
    image, _ = Augment("none").sample(picture, {}, (5, 11), np.random.default_rng(0))
    np.testing.assert_allclose(image[0, 0] * 8, [3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1], atol=1e-5)


@pytest.mark.parametrize(("flips", "count"), [("none", 1), ("horizontal", 2), ("both", 4), ("turns", 8)])
def test_flips(flips: str, count: int) -> None:
    picture = np.arange(4, dtype=np.float32).reshape(1, 2, 2) / 4
    seen = {Augment(flips).sample(picture, {}, (0, 0), np.random.default_rng(s))[0].tobytes() for s in range(100)}
    assert len(seen) == count
    assert picture.tobytes() in seen


def test_rotation_and_scale_are_as_far_as_asked() -> None:
    places = [Augment("none", rotate=10).places(21, 21, np.random.default_rng(s)) for s in range(200)]
    right = np.array([(item[10, 20] - item[10, 10]).numpy() for item in places if item is not None])
    np.testing.assert_allclose(np.linalg.norm(right, axis=1), 10, rtol=1e-4)
    angles = np.degrees(np.arctan2(right[:, 1], right[:, 0]))
    assert 8 < angles.max() <= 10 and -10 <= angles.min() < -8
    places = [Augment("none", scale=0.5).places(21, 21, np.random.default_rng(s)) for s in range(200)]
    factors = np.array(
        [10 / float(torch.linalg.norm(item[10, 20] - item[10, 10])) for item in places if item is not None]
    )
    assert 1.4 < factors.max() <= 1.5 and 1 / 1.5 <= factors.min() < 0.72


def test_elastic_deformation_is_the_paper_s() -> None:
    """A 3x3 grid of vectors with the deviation asked for, and a smooth field between them."""
    fields = torch.stack([displacement(65, 97, 10, np.random.default_rng(seed)) for seed in range(300)])
    knots = fields[:, ::32, ::48]
    assert knots.shape[1:] == (3, 3, 2)
    assert knots.std().item() == pytest.approx(10, rel=0.05) and abs(knots.mean().item()) < 0.5
    rng = np.random.default_rng(0)
    expected = rng.normal(0, 10, (1, 2, 3, 3))[0].transpose(1, 2, 0)
    np.testing.assert_allclose(fields[0, ::32, ::48], expected, atol=1e-4)
    bends = fields.diff(n=2, dim=1).abs().max()
    assert bends < 0.2 * fields.diff(dim=1).abs().max()


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_change_within_bounds(channels: int) -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((channels, 16, 16), dtype=np.float32)
    means = []
    for seed in range(50):
        image, maps = Augment("none", colour=0.4).sample(
            picture, {"mask": np.ones((16, 16), np.uint8)}, (0, 0), np.random.default_rng(seed)
        )
        assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
        assert maps["mask"].all()
        means.append(image.mean() / picture.mean())
    assert 0.55 < min(means) < 0.8 and 1.2 < max(means) < 1.45
    np.testing.assert_array_equal(Augment("none").sample(picture, {}, (0, 0), rng)[0], picture)


def test_clips_move_as_one() -> None:
    clip = np.stack([smooth(), smooth() / 2])
    masks = np.stack([np.arange(48 * 40).reshape(48, 40) % 5] * 2).astype(np.uint8)
    options: dict[str, Any] = {"size": (24, 24), "rng": np.random.default_rng(3)}
    image, maps = STRONG.sample(clip, {"mask": masks}, **options)
    assert image.shape == (2, 2, 24, 24)
    np.testing.assert_allclose(image[0], 2 * image[1], atol=1e-5)
    np.testing.assert_array_equal(maps["mask"][0], maps["mask"][1])
