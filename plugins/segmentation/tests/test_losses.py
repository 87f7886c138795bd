"""Losses and weights against segmentation_models.pytorch, milesial's and mateuszbuda's U-Net and the paper; the recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, DatasetError, InputError
from stzoo_segmentation import losses
from stzoo_segmentation.recipe import SegmentationRecipe, weighted
from stzoo_segmentation.unet import UNet

GOLDENS = Path(__file__).parent / "goldens"
MULTICLASS: dict[str, Callable[..., Tensor]] = {
    "dice_multiclass": losses.dice,
    "dice_multiclass_smooth1": partial(losses.dice, smooth=1.0),
    "jaccard_multiclass": losses.jaccard,
    "focal_multiclass": losses.focal,
    "tversky_multiclass_a.3_b.7": losses.tversky,
    "lovasz_multiclass": losses.lovasz,
}
BINARY: dict[str, Callable[..., Tensor]] = {
    "dice_binary": losses.dice,
    "focal_binary": losses.focal,
    "softbce": losses.soft_bce,
    "lovasz_binary": losses.lovasz,
}
SMALL: dict[str, Any] = {"width": 2, "depth": 2}


# --- what the libraries compute ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MULTICLASS, *BINARY])
def test_losses_are_those_of_the_library(name: str) -> None:
    tensors = Golden(GOLDENS / "smp-unet-losses-metrics").tensors
    logits, target = tensors["input_logits"], tensors["input_target"]
    if name in BINARY:
        logits, target = logits[:, :1], (target > 1).long()
    found = (MULTICLASS | BINARY)[name](logits, target)
    torch.testing.assert_close(found, tensors[f"output_{name}"][0], rtol=1e-5, atol=1e-6)


def test_losses_of_the_well_known_implementations() -> None:
    tensors = Golden(GOLDENS / "unet-losses-weightmap").tensors
    logits, target = tensors["input_logits"], tensors["input_target"]
    for one, classes, name in (
        (logits, target, "milesial_train_loss_multiclass"),
        (logits[:, :1], (target > 0).long(), "milesial_train_loss_binary"),
    ):
        found = sum(losses.LOSSES[part](one, classes) for part in losses.parse("cross-entropy+milesial-dice"))
        torch.testing.assert_close(found, tensors[f"output_{name}"][0], rtol=1e-5, atol=1e-6)
    found = losses.batch_dice(logits[:, :1], (target > 0).long())
    torch.testing.assert_close(found, tensors["output_brain_dice_loss"][0], rtol=1e-5, atol=1e-6)


def test_border_weights_are_those_of_the_paper() -> None:
    """Equation 2: distances, the map in both forms, and the cross-entropy that it weights."""
    tensors = Golden(GOLDENS / "unet-losses-weightmap").tensors
    labels = tensors["input_labels"].numpy()
    nearest, second = losses.border_distances(labels)
    np.testing.assert_allclose(nearest, tensors["output_d1"], atol=1e-9)
    np.testing.assert_allclose(second, tensors["output_d2"], atol=1e-9)
    everywhere = 10 * np.exp(-((nearest + second) ** 2) / 50)
    np.testing.assert_allclose(everywhere, tensors["output_border_all"], atol=1e-9)
    border = losses.border_weights(labels)
    np.testing.assert_allclose(1 + border, tensors["output_weight_bgonly_wc1"], atol=1e-5)
    cell = (labels > 0).astype(int)
    balance = losses.inverse_frequency(np.bincount(cell.ravel()))
    np.testing.assert_allclose(balance[cell] + border, tensors["output_weight_classbalanced"], atol=1e-5)
    weights, target = torch.from_numpy(border)[None], torch.from_numpy(cell)[None]
    for normalise, name in ((False, "mean"), (True, "normalised")):
        found = losses.cross_entropy(tensors["input_logits2"], target, border=weights, normalise=normalise)
        torch.testing.assert_close(found, tensors[f"output_weighted_ce_{name}"][0], rtol=1e-5, atol=1e-6)
    both = losses.cross_entropy(tensors["input_logits2"], target, torch.from_numpy(balance), weights)
    entropy = torch.nn.functional.cross_entropy(tensors["input_logits2"], target, reduction="none")
    torch.testing.assert_close(both, (entropy * tensors["output_weight_classbalanced"]).mean().float())


def test_border_weights_where_there_is_nothing_between() -> None:
    for labels in (np.zeros((8, 8), int), np.pad(np.ones((2, 2), int), 3)):
        assert not losses.border_weights(labels).any()
    far = np.zeros((4, 200), np.uint16)
    far[:, :2], far[:, -2:] = 1, 300
    assert losses.border_weights(far).max() < 1e-6
    nearest, second = losses.border_distances(far)
    assert nearest[0, 50] == 49 and second[0, 50] == 148


# --- what must hold of all of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("channels", [1, 3])
def test_ignored_pixels_change_nothing(name: str, channels: int) -> None:
    """Neither the loss nor any gradient depends on what is said of them."""
    torch.manual_seed(0)
    logits = torch.randn(2, channels, 6, 8)
    target = torch.randint(0, max(2, channels), (2, 6, 8))
    target[:, :, 5:] = 255
    other = logits.clone()
    other[..., 5:] = torch.randn(2, channels, 6, 3) * 9
    other.requires_grad_()
    found = losses.LOSSES[name](other, target)
    torch.testing.assert_close(found, losses.LOSSES[name](logits, target))
    if name != "focal":
        torch.testing.assert_close(found, losses.LOSSES[name](logits[..., :5], target[..., :5]))
    (slope,) = torch.autograd.grad(found, other)
    assert not slope[..., 5:].any() and slope[..., :5].any()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_no_loss_where_everything_is_right_or_nothing_is_known(name: str) -> None:
    target = torch.arange(48).reshape(1, 6, 8) % 3
    logits = 40 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float() - 20
    assert losses.LOSSES[name](logits, target).abs() < 1e-5
    nothing = losses.LOSSES[name](logits, torch.full_like(target, 255))
    assert torch.isfinite(nothing) and nothing.abs() < (30 if name == "lovasz" else 1.01)
    assert losses.LOSSES[name](-logits, target) > 0.3


@pytest.mark.parametrize("name", losses.LOSSES)
def test_half_precision_gives_a_loss_in_float32(name: str) -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    found = losses.LOSSES[name](logits.half(), target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, losses.LOSSES[name](logits, target), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("logits", "target", "said"),
    [
        ((1, 3, 4, 4), torch.full((1, 4, 4), 3), "class 3, the network tells 3 apart"),
        ((1, 1, 4, 4), torch.full((1, 4, 4), 2), "class 2, the network tells 2 apart"),
        ((1, 1, 4, 4), torch.full((1, 4, 4), -1), "class -1"),
        ((1, 3, 4, 4), torch.zeros(1, 4, 5), "classes of shape (1, 4, 5)"),
        ((3, 4, 4), torch.zeros(4, 4), "logits of shape (3, 4, 4)"),
    ],
)
@pytest.mark.parametrize("name", ["cross-entropy", "dice", "lovasz"])
def test_masks_that_do_not_fit(name: str, logits: tuple[int, ...], target: Tensor, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        losses.LOSSES[name](torch.zeros(logits), target)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("entropy", "there is no loss 'entropy'"),
        ("dice+", "there is no loss ''"),
        ("much*dice", "'much' is no weight"),
        ("-1*dice", "'-1' is no weight"),
    ],
)
def test_losses_that_there_are_not(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as problem:
        losses.parse(text)
    assert "tversky" in problem.value.remedy


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_losses_are_summed_with_their_weights() -> None:
    torch.manual_seed(0)
    network, recipe = UNet(**SMALL).eval(), SegmentationRecipe(loss="0.5*dice + cross-entropy+2*focal")
    batch = {"image": torch.rand(2, 3, 8, 8), "mask": torch.randint(0, 2, (2, 8, 8))}
    found, scores = recipe.losses(network, batch, 0), network(batch["image"])
    assert list(found) == ["dice", "cross-entropy", "focal"]
    torch.testing.assert_close(found["dice"], 0.5 * losses.dice(scores, batch["mask"]))
    torch.testing.assert_close(found["focal"], 2 * losses.focal(scores, batch["mask"]))


def test_balance_follows_from_all_masks() -> None:
    """Median frequency: of classes with 1/2, 1/4 and 1/8 of the pixels where they are, weights 1/2, 1 and 2; none for absent ones."""
    first = np.repeat(np.array([0, 0, 0, 0, 1, 1, 3, 255], np.uint8), 4).reshape(4, 8)
    example = {"image": np.zeros((3, 4, 8), np.float32), "mask": first}
    recipe = SegmentationRecipe(balance="median")
    recipe.samples([example, example])
    assert recipe.class_weights is not None
    torch.testing.assert_close(recipe.class_weights[:5], torch.tensor([0.5, 1, 0, 2, 0]))
    again = SegmentationRecipe(balance="median")
    again.load_state_dict(recipe.state_dict())
    network = UNet(**SMALL, out_channels=4).eval()
    batch = {"image": torch.rand(1, 3, 4, 8), "mask": torch.from_numpy(first)[None]}
    expected = losses.cross_entropy(network(batch["image"]), batch["mask"], torch.tensor([0.5, 1, 0, 2]))
    for one in (recipe, again):
        torch.testing.assert_close(one.losses(network, batch, 0)["cross-entropy"], expected)
    inverse = SegmentationRecipe(balance="inverse")
    inverse.samples([example])
    assert inverse.class_weights is not None
    torch.testing.assert_close(inverse.class_weights[:4], torch.tensor([1, 2, 0, 4.0]))


def test_border_weights_are_computed_once_and_move_with_the_picture() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:14, 2:7] = mask[2:14, 9:14] = 1
    reads: list[int] = []

    class Rows(list[dict[str, Any]]):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index)
            return super().__getitem__(index)

    rows = Rows([{"image": np.stack([mask] * 3).astype(np.float32), "mask": mask, "instances": None}])
    recipe = SegmentationRecipe(crop=(0, 0), border=10, sigma=3, flips="both")
    kept = recipe.samples(rows)
    requirements = UNet(**SMALL).requirements
    seen = [recipe.sample(kept[0], requirements, np.random.default_rng(seed)) for seed in range(6)]
    assert reads == [0]
    for one in seen:  # objects are the connected parts, and the weight is between them, wherever that is
        assert one["weights"].max() == pytest.approx(10 * np.exp(-9 / 18), rel=1e-4)
        assert set(one["mask"][one["weights"] > 5].tolist()) == {0}
        np.testing.assert_array_equal(one["image"][0], one["mask"])
    network = UNet(**SMALL).eval()
    batch = {key: torch.from_numpy(value)[None] for key, value in seen[0].items()}
    expected = losses.cross_entropy(network(batch["image"]), batch["mask"], border=batch["weights"])
    torch.testing.assert_close(recipe.losses(network, batch, 0)["cross-entropy"], expected)
    given = weighted({"mask": mask, "instances": mask.astype(np.uint16)}, 10, 3)
    assert not given["weights"].any(), "one object, as the data set says"
    clip = weighted({"mask": np.stack([mask, mask * 0])}, 10, 3)["weights"]
    np.testing.assert_array_equal(clip[0], kept[0]["weights"])
    assert not clip[1].any(), "each frame of a clip has its own"


@pytest.mark.parametrize("crop", [(44, 60), (0, 0)])
def test_valid_convolutions_learn_from_the_middle(crop: tuple[int, int]) -> None:
    """Of a crop, what comes out of it; of whole pictures, mirrored at their borders, all."""
    torch.manual_seed(0)
    network = UNet(1, 2, 2, 3, "valid", "none", join="crop").eval()
    recipe = SegmentationRecipe(crop=crop)
    image, mask = torch.rand(1, 1, 44, 60), torch.randint(0, 2, (1, 44, 60))
    found = recipe.losses(network, {"image": image, "mask": mask}, 0)["cross-entropy"]
    if crop == (0, 0):
        tall, wide = network.around(44, 60)
        padded = torch.nn.functional.pad(image, (20, wide - 80, 20, tall - 64), mode="reflect")
        torch.testing.assert_close(found, losses.cross_entropy(network(padded)[..., :44, :60], mask))
    else:
        torch.testing.assert_close(found, losses.cross_entropy(network(image), mask[:, 20:-20, 20:-20]))


def test_a_network_that_gives_probabilities_learns_from_its_logits() -> None:
    network = UNet(out_channels=1, activation="sigmoid", **SMALL).eval()
    batch = {"image": torch.rand(1, 3, 8, 8), "mask": torch.randint(0, 2, (1, 8, 8))}
    found = SegmentationRecipe().losses(network, batch, 0)["cross-entropy"]
    torch.testing.assert_close(found, losses.cross_entropy(network.logits(batch["image"]), batch["mask"]))


def test_a_network_that_sees_reduced_pictures_learns_so() -> None:
    network = UNet(**SMALL, scale=0.5).eval()
    mask = torch.arange(4).repeat_interleave(4).repeat(16, 1)[None] % 2
    batch = {"image": torch.rand(1, 3, 16, 16), "mask": mask}
    assert torch.isfinite(SegmentationRecipe().losses(network, batch, 0)["cross-entropy"])
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    SegmentationRecipe().losses(network, batch, 0)
    assert seen[0].shape == (1, 3, 8, 8)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["cosine", "poly", "constant"])
def test_optimizers_and_schedules(optimizer: str, schedule: str) -> None:
    recipe = SegmentationRecipe(lr=0.1, optimizer=optimizer, schedule=schedule, warmup=0.1)
    [(chosen, rates)] = recipe.optimizers(UNet(**SMALL), 100)
    seen = []
    for _ in range(100):
        seen.append(chosen.param_groups[0]["lr"])
        chosen.step()
        rates.step()
    assert seen[0] < seen[5] < max(seen) <= 0.1
    assert seen[-1] == pytest.approx(0.1) if schedule == "constant" else seen[-1] < 0.01


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "huber"}, "no loss 'huber'"),
        ({"balance": "mean"}, "balance"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"schedule": "step"}, "schedule"),
        ({"lr": 0.0}, "lr"),
        ({"sigma": 0.0}, "sigma"),
        ({"crop": (64,)}, "crop=(64,)"),
        ({"crop": (-1, 4)}, "height and width"),
        ({"class_weights": (1.0,), "balance": "median"}, "both given"),
        ({"class_weights": (1.0, -1.0)}, "negative"),
        ({"loss": "dice", "border": 5.0}, "those of the cross-entropy"),
        ({"flips": "diagonal"}, "flips"),
        ({"colour": 1.0}, "colour"),
        ({"elastic": -1.0}, "elastic"),
    ],
)
def test_recipes_that_cannot_be_followed(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        SegmentationRecipe.from_options(options)


def test_data_that_do_not_fit() -> None:
    recipe, network = SegmentationRecipe(class_weights=(1.0, 2.0)), UNet(**SMALL, out_channels=3)
    batch = {"image": torch.rand(1, 3, 8, 8), "mask": torch.zeros(1, 8, 8)}
    with pytest.raises(ConfigError, match="2 class_weights for 3 classes"):
        recipe.losses(network, batch, 0)
    with pytest.raises(ConfigError, match="balance='median' needs all masks"):
        SegmentationRecipe(balance="median").losses(network, batch, 0)
    with pytest.raises(InputError, match="class 7, the network tells 3 apart"):
        SegmentationRecipe().losses(network, batch | {"mask": torch.full((1, 8, 8), 7)}, 0)
    example = {"image": np.zeros((3, 8, 8), np.float32), "mask": np.zeros((8, 9), np.uint8)}
    with pytest.raises(DatasetError, match="9x8"):
        recipe.sample(example, network.requirements, np.random.default_rng(0))


def test_a_run_with_all_of_it_changes_the_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"image": rng.integers(0, 256, (24, 24, 3), np.uint8), "mask": rng.integers(0, 2, (24, 24)).astype(np.uint8)}
        for _ in range(6)
    ]
    predictor = stzoo.create("unet", device="cpu", **SMALL, classes=("off", "on"))
    options: dict[str, Any] = {
        "steps": 4, "batch_size": 2, "evaluate_every": 2, "pictures": 0, "trackers": [], "validation": None,
        "recipe": {"crop": [16, 16], "balance": "median", "border": 2, "scale": 0.2, "elastic": 2, "loss": "cross-entropy+dice"},
    }  # fmt: skip
    predictor.save(tmp_path / "start")
    whole = stzoo.finetune(tmp_path / "start", rows, tmp_path / "whole", **options)
    assert whole.record["step"] == 4
    found = whole.load("last").module.state_dict()
    assert any(not torch.equal(found[key], value) for key, value in predictor.module.state_dict().items())
