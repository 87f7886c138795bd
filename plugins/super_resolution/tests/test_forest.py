"""Super-resolution forests: numbers of an independent implementation, and the whole life of a small one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import Golden
from PIL import Image
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, DatasetError
from stzoo_super_resolution.data import degraded
from stzoo_super_resolution.forest import Forest, SRForest, gradients, overlap_add, patches, principal_components
from stzoo_super_resolution.forest_fit import (
    SPLITS,
    Growth,
    Search,
    SRForestRecipe,
    grow,
    ridge,
    split_quality,
    store,
)
from stzoo_super_resolution.resize import imresize

REFERENCE = Golden(Path(__file__).parent / "goldens" / "srforest-A-numpy")
GOLDEN, SCALARS = REFERENCE.tensors, REFERENCE.facts["scalars"]
"""Patches are columns there and rows here."""
TREES = (
    {0: (0, 3, 0.0), 1: (2, 7, 0.1), 2: (1, 4, -0.05)},
    {0: (5, 9, 0.2)},
)
"""The fixed forest: the split of every inner node."""


def golden(name: str) -> Tensor:
    return GOLDEN[name].T


def test_features_and_targets() -> None:
    mid, high = (GOLDEN[f"input_{name}"][None, None] for name in ("mid", "high"))
    torch.testing.assert_close(patches(gradients(mid, 2), 2)[0], golden("output_patches_feat"))
    torch.testing.assert_close(patches(high - mid, 2)[0], golden("output_patches_target"))


def test_principal_components() -> None:
    features = golden("output_patches_feat")
    values, basis = principal_components(features.T @ features)
    assert basis.shape == (SCALARS["pca_in"], SCALARS["pca_out"])
    torch.testing.assert_close(values, GOLDEN["output_pca_eigvals"])
    torch.testing.assert_close(basis @ basis.T, GOLDEN["output_pca_projector"])


@pytest.mark.parametrize("name", [name for name in SCALARS if name.startswith("quality_")])
def test_split_quality(name: str) -> None:
    found = re.fullmatch(r"quality_(\w+)_pair\((\d), (\d)\)_thr([\d.]+)_kappa([\d.]+)", name)
    assert found
    kind, (first, second) = found[1], (int(found[2]), int(found[3]))
    x, y = golden("input_X"), golden("input_Y")
    difference = x[:, first] - x[:, second]
    # the name rounds the threshold, which is 0 or the median
    threshold = 0.0 if float(found[4]) == 0 else difference.quantile(0.5)
    quality = split_quality(x, y, (difference < threshold)[None], kind, float(found[5]))
    assert quality.item() == pytest.approx(SCALARS[name], rel=1e-7, abs=1e-9)


def test_leaves() -> None:
    x, y = golden("input_X"), golden("input_Y")
    for lam in (0.01, 10):
        torch.testing.assert_close(ridge(x, y, "linear", lam), golden(f"output_leaf_linear_lam{lam}"))
    torch.testing.assert_close(ridge(x, y, "polynomial"), golden("output_leaf_poly_lam0.01"))
    torch.testing.assert_close(ridge(x, y, "constant")[0], GOLDEN["output_leaf_const"])


def grown(alternating: bool) -> tuple[Forest, list[Tensor]]:
    """The fixed forest, and its predictions as it learnt."""
    x, y = golden("input_X"), golden("input_Y")
    growth = Growth(depth=2, min_samples=1, alternating=alternating)
    steps = grow(x, y, 2, lambda tree, node, rows, targets: TREES[tree].get(node), growth)
    found = [(trees, prediction.clone()) for trees, prediction in steps]
    forest = Forest(10, 6, 2, 4, "linear").double()
    store(found[-1][0], forest)
    return forest, [prediction for _, prediction in found]


def test_a_forest() -> None:
    forest, [prediction] = grown(alternating=False)
    x = golden("input_X")
    ends = forest.leaves(x)
    for tree, first in enumerate((3, 1)):  # leaves have the highest numbers
        assert torch.equal(ends[tree] + first, GOLDEN[f"output_tree{tree}_leaf_id"])
        for name in (name for name in GOLDEN if name.startswith(f"output_tree{tree}_leaf") and name.endswith("_T")):
            place = int(name.removeprefix(f"output_tree{tree}_leaf").removesuffix("_T")) - first
            torch.testing.assert_close(forest.maps[tree, place], golden(name))
    torch.testing.assert_close(forest(x), golden("output_forest_pred"))
    torch.testing.assert_close(prediction, golden("output_forest_pred"))


def test_an_alternating_forest() -> None:
    forest, predictions = grown(alternating=True)
    for level, prediction in enumerate(predictions):
        torch.testing.assert_close(prediction, golden(f"output_arf_pred_level{level}"))
    assert len(predictions) == 3
    torch.testing.assert_close(forest(golden("input_X")), golden("output_arf_pred_level2"))


def test_overlap_add() -> None:
    mid = GOLDEN["input_mid"][None, None]
    values = patches(mid, 2) + 0.5 * golden("output_patches_target")
    count, expected = GOLDEN["output_overlap_count"], GOLDEN["output_overlap_add"]
    torch.testing.assert_close(overlap_add(values, *mid.shape[-2:], 2)[0, 0], expected)
    ones = overlap_add(torch.ones_like(values), *mid.shape[-2:], 2)[0, 0]
    torch.testing.assert_close(ones, (count > 0).double())


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Parts of scikit-image's pictures, (3,H,W) in [0,1]."""
    from skimage import data

    whole = (data.astronaut()[:160, 120:280], data.coffee()[120:280, 200:360], data.chelsea()[60:220, 120:280])
    return [np.ascontiguousarray(part.transpose(2, 0, 1), np.float32) / 255 for part in whole]


def fitted(photographs: list[np.ndarray], *, scale: int = 2, leaf: str = "linear", **options: object) -> SRForest:
    """A small forest that has learnt from all but the last of them."""
    torch.manual_seed(0)
    network = SRForest(scale, 24, 2, 16, leaf)
    given = {"min_child": 20, "min_samples": 40, "node_samples": 128} | options
    recipe = SRForestRecipe.from_options(given)
    recipe.fit(network, [{"image": degraded(image, scale)} for image in photographs[:-1]])
    return network


def error(network: SRForest, image: np.ndarray) -> tuple[float, float]:
    """Root mean squared errors of the first channel: of the network, and of bicubic interpolation."""
    low, high = (torch.from_numpy(item)[None, :1] for item in degraded(image, network.scale))
    found, bicubic = network(low), imresize(low, network.scale)
    assert found.shape == high.shape
    return tuple(float((item - high).square().mean().sqrt()) for item in (found, bicubic))  # type: ignore[return-value]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_better_than_bicubic_on_another_picture(photographs: list[np.ndarray], scale: int) -> None:
    own, bicubic = error(fitted(photographs, scale=scale), photographs[-1])
    assert own < 0.97 * bicubic


@pytest.mark.parametrize("split", SPLITS)
def test_every_way_to_split(photographs: list[np.ndarray], split: str) -> None:
    network = fitted(photographs, split=split)
    own, bicubic = error(network, photographs[-1])
    assert own < 0.95 * bicubic
    assert network.forest.slot.amax() > 3, "the trees did not grow"


def test_leaves_of_every_kind(photographs: list[np.ndarray]) -> None:
    errors = {
        leaf: error(fitted(photographs, leaf=leaf), photographs[0])[0] for leaf in ("constant", "linear", "polynomial")
    }
    assert (
        errors["polynomial"]
        < errors["linear"]
        < errors["constant"]
        < error(SRForest(2, 4, 1, 1, "linear"), photographs[0])[1]
    )


def test_an_alternating_forest_learns_more_of_its_training_data(photographs: list[np.ndarray]) -> None:
    plain, alternating = (error(fitted(photographs, alternating=item), photographs[0])[0] for item in (False, True))
    assert alternating < plain


def test_threads_change_nothing(photographs: list[np.ndarray]) -> None:
    one, two = (fitted(photographs, threads=threads).state_dict() for threads in (1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_projected_gradients_are_one_convolution(photographs: list[np.ndarray]) -> None:
    network, mid = fitted(photographs), torch.from_numpy(photographs[-1][:1])[None]
    slow = patches(gradients(mid, 2), 2)[0] @ network.projection.T
    torch.testing.assert_close(network.features(mid), slow, rtol=1e-4, atol=1e-6)


def test_trees_stop_where_they_are_told(photographs: list[np.ndarray]) -> None:
    network = fitted(photographs, depth=2)
    assert network.forest.slot.amax() == 3
    assert (network.forest.child[:, :3] != torch.arange(3)).all() and (
        network.forest.child[:, 3:] == torch.arange(3, 31)
    ).all()
    x, y = golden("input_X").float(), golden("input_Y").float()
    search = Search(min_child=30, node_samples=50)
    split = search(x, y, torch.arange(len(x)), torch.Generator().manual_seed(0))
    assert split is not None
    left = int((x[:, split[0]] - x[:, split[1]] < split[2]).sum())
    assert 30 <= left <= len(x) - 30
    assert Search(min_child=81)(x, y, torch.arange(len(x)), torch.Generator().manual_seed(0)) is None


def test_small_pictures_are_enlarged_by_bicubic_interpolation(photographs: list[np.ndarray]) -> None:
    network = fitted(photographs)
    for size in ((1, 1), (4, 40), (5, 5)):
        image = torch.rand(1, 1, *size)
        changed = (network(image) - imresize(image, 2)).abs().amax()
        assert (changed > 0) == (min(size) >= 5)


def test_a_file_with_a_circle_in_a_tree_ends() -> None:
    network = SRForest(2, 4, 1, 2, "constant")
    network.forest.child[0, :2] = torch.tensor([1, 0])
    assert network(torch.rand(1, 1, 8, 8)).shape == (1, 1, 16, 16)


# --- its life ---------------------------------------------------------------------------------------------------------


def test_learnt_saved_loaded_and_evaluated(photographs: list[np.ndarray], tmp_path: Path) -> None:
    for index, image in enumerate(photographs):
        folder = tmp_path / "data" / ("validation" if index == 2 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(folder / f"{index}.png")
    options = {"model_config": {"components": 24, "trees": 2, "leaves": 16}, "recipe": {"min_child": 20}}
    runs = [
        stzoo.finetune("srforest", tmp_path / "data", tmp_path / name, pictures=0, trackers=[], **options)
        for name in ("one", "two")
    ]
    first, second = (run.load("best").module.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert runs[0].record["best"]["psnr"] > runs[0].record["start"]["psnr"] + 0.5
    assert {"patches", "components", "leaves", "rmse"} <= {name for entry in runs[0].metrics for name in entry}
    found = stzoo.evaluate(runs[0].folder / "best", tmp_path / "data", split="validation")
    own, bicubic = (model.metrics["psnr"].value for model in found.models)
    assert own == pytest.approx(runs[0].record["best"]["psnr"], abs=1e-6)
    assert bicubic == pytest.approx(runs[0].record["start"]["psnr"], abs=0.02)  # untrained, it is bicubic interpolation
    half = runs[0].load("best").save(tmp_path / "half", dtype=torch.float16)
    again = stzoo.evaluate(half, tmp_path / "data", split="validation").models[0].metrics["psnr"].value
    assert again == pytest.approx(own, abs=0.002)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "gini"}, "split must be variance, reconstruction, balanced, random, got 'gini'"),
        ({"kappa": -1.0}, "kappa must be at least 0"),
        ({"lam": 0.0}, "lam above 0"),
        ({"min_child": 0}, "min_child=0: it must be at least 1"),
        ({"depth": -1}, "at least 0"),
        ({"leaves": 5}, "leaves"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SRForestRecipe.from_options(options)


def test_what_cannot_be_built_or_learnt() -> None:
    with pytest.raises(ConfigError, match="components=145: at scale 2 a patch has 144 gradients"):
        stzoo.create("srforest", components=145)
    with pytest.raises(ConfigError, match="scale"):
        stzoo.create("srforest", scale=5)
    with pytest.raises(DatasetError, match="no picture has 10 pixels a side"):
        SRForestRecipe().fit(SRForest(2, 4, 1, 1, "linear"), [{"image": degraded(np.zeros((1, 8, 8), np.float32), 2)}])
