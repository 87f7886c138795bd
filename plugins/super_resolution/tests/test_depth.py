"""Depth super-resolution: the energy against its golden, holes, guides, the task, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from PIL import Image

import stzoo
from stzoo import Requirements
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, InputError
from stzoo.registry import registry
from stzoo.spec import Task
from stzoo_super_resolution.depth import DeepDepthRecipe, DeepDepthSR, DepthSuperResolution
from stzoo_super_resolution.depth_data import bicubic, enlarged, filled, reduced, ssim
from stzoo_super_resolution.depth_energy import (
    Energy,
    colour_weights,
    differences,
    modulated,
    modulated_adjoint,
    refined,
)
from stzoo_super_resolution.metrics import mae, rmse

GOLDEN = Golden(Path(__file__).parent / "goldens" / "depthsr-A-energy-irls")
WEIGHTS = ("l1_0.7_l2_0.7", "l1_0.7_l2_0.07", "l1_0.07_l2_0.7")


def energy_of(name: str) -> Energy:
    tensors = GOLDEN.tensors
    modulation, variation = (float(part) for part in name.removeprefix("l1_").split("_l2_"))
    return Energy(tensors["input_Dstar"], modulation, variation, colour_weights(tensors["input_gray"]))


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    """A floor with a box and a ball before it: (H, W) in metres."""
    depth: np.ndarray = stzoo.fields.Depth("depth").sample(Requirements(native_size=(height, width)))
    depth[height // 8 : height // 3, width // 8 : width // 2] = 1.5
    return depth


def guide_of(depth: np.ndarray) -> np.ndarray:
    """A picture of it: its depth in three tints, brighter to the right."""
    grey = depth / depth.max() * np.linspace(0.9, 1, depth.shape[1])
    return (np.stack([0.9 * grey, grey, 0.7 * grey])).astype(np.float32)


@cache
def small(scale: int = 2) -> stzoo.Predictor:
    torch.manual_seed(0)
    return stzoo.create("deep-depth-sr", scale=scale, wide=4, narrow=3, residual=True, device="cpu")


# --- the energy, against the golden -----------------------------------------------------------------------------------


def test_colour_weights_and_their_adjoint() -> None:
    tensors = GOLDEN.tensors
    weights = colour_weights(tensors["input_gray"])
    units = torch.eye(12 * 14, dtype=torch.float64).reshape(-1, 12, 14)
    alpha = torch.stack([(unit - modulated(unit, weights)).ravel() for unit in units], 1)
    torch.testing.assert_close(alpha, tensors["output_alpha_dense"], rtol=0, atol=1e-12)
    adjoint = torch.stack([(unit - modulated_adjoint(unit, weights)).ravel() for unit in units], 0)
    torch.testing.assert_close(adjoint, alpha, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", WEIGHTS)
def test_reweighted_least_squares(name: str) -> None:
    tensors, scalars = GOLDEN.tensors, GOLDEN.facts["scalars"]
    energy = energy_of(name)
    found = [energy.target, *itertools.islice(energy.iterates(1e-4, tolerance=1e-9), 60)]
    for steps in (1, 2, 5, 60):
        torch.testing.assert_close(found[steps], tensors[f"output_irls_{name}_iter{steps}"], rtol=0, atol=1e-7)
    history = torch.stack([energy(depth) for depth in found])
    torch.testing.assert_close(history, tensors[f"output_energy_hist_{name}"], rtol=0, atol=1e-7)
    assert float(history[-1]) == pytest.approx(scalars[f"E_irls60_{name}"], abs=1e-6)
    apart = (found[-1] - tensors[f"output_admm_{name}"]).abs().max().item()
    assert apart == pytest.approx(scalars[f"maxabs_irls_vs_admm_{name}"], abs=1e-6)
    assert rmse(found[-1].numpy(), tensors["input_gt"].numpy()) == pytest.approx(scalars[f"rmse_gt_{name}"], abs=1e-6)
    assert rmse(energy.target.numpy(), tensors["input_gt"].numpy()) == pytest.approx(scalars["rmse_gt_input"], abs=1e-8)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_exact_minimum(name: str) -> None:
    tensors, scalars = GOLDEN.tensors, GOLDEN.facts["scalars"]
    energy = energy_of(name)
    found = next(itertools.islice(energy.split_iterates(rho=4.0, tolerance=1e-7), 250, None))
    torch.testing.assert_close(found, tensors[f"output_admm_{name}"], rtol=0, atol=1e-5)
    assert float(energy(found)) == pytest.approx(scalars[f"E_admm_{name}"], abs=1e-5)


def test_without_total_variation_and_with_a_shift() -> None:
    tensors, scalars = GOLDEN.tensors, GOLDEN.facts["scalars"]
    weights, target = colour_weights(tensors["input_gray"]), tensors["input_Dstar"]
    closed = next(Energy(target, 0.7, 0.0, weights).iterates(tolerance=1e-10))
    torch.testing.assert_close(closed, tensors["output_closed_form_l2_0"], rtol=0, atol=1e-8)
    shifted = Energy(target, 0.7, 0.07, weights, shift=tensors["input_b"].reshape(target.shape))
    found = next(itertools.islice(shifted.iterates(1e-3, tolerance=1e-9), 9, None))
    torch.testing.assert_close(found, tensors["output_irls_b_l1_0.7_l2_0.07_eps1e-3_iter10"], rtol=0, atol=1e-7)
    assert float(shifted(found)) == pytest.approx(scalars["E_irls10_b"], abs=1e-6)


# --- the energy, by itself --------------------------------------------------------------------------------------------


def test_float32_agrees_with_float64_and_energy_never_rises() -> None:
    depth = torch.from_numpy(scene()) * 40
    guide = torch.from_numpy(guide_of(scene()).mean(0))
    runs = []
    for dtype in (torch.float32, torch.float64):
        energy = Energy(depth.to(dtype), 0.3, 0.7, colour_weights(guide.to(dtype)))
        found = [energy.target, *itertools.islice(energy.iterates(0.1, tolerance=1e-5), 4)]
        history = [float(energy(item)) for item in found]
        assert all(later <= before for before, later in itertools.pairwise(history)), history
        runs.append(found[-1].double())
    torch.testing.assert_close(*runs, rtol=0, atol=0.02)  # levels of 255


def test_total_variation_flattens_noise_and_keeps_an_edge() -> None:
    torch.manual_seed(0)
    clean = torch.full((40, 40), 50.0)
    clean[:, 20:] = 150
    noisy = clean + torch.randn(40, 40)
    found = refined(noisy, None, torch.ones(40, 40), modulation=0.0, variation=2.0, iterations=8)
    assert rmse(found.numpy(), clean.numpy()) < 0.5 * rmse(noisy.numpy(), clean.numpy())
    assert float((found[:, 20] - found[:, 19]).mean()) > 95


def test_a_guide_sharpens_an_edge() -> None:
    clean = torch.full((48, 48), 50.0)
    clean[:, 24:] = 150
    blurred = torch.nn.functional.avg_pool2d(clean[None], (1, 5), 1, (0, 2), count_include_pad=False)[0]
    found = refined(blurred, clean / 255, torch.ones(48, 48), modulation=3.0, variation=0.0, iterations=1)
    assert rmse(found.numpy(), clean.numpy()) < 0.7 * rmse(blurred.numpy(), clean.numpy())


def test_what_is_unknown_hardly_counts() -> None:
    target = torch.full((32, 32), 100.0)
    sure = torch.ones(32, 32)
    target[12:20, 12:20], sure[12:20, 12:20] = 0.0, 0.0
    found = refined(target, None, sure, modulation=0.0, variation=5.0, iterations=20)
    assert float(found[15, 15]) > 90


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (65, 7)])
def test_any_shape(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    target, guide = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    energy = Energy(target, 0.7, 0.07, colour_weights(guide))
    found = next(itertools.islice(energy.iterates(1e-3, tolerance=1e-10), 4, None))
    assert torch.isfinite(found).all() and float(energy(found)) <= float(energy(target)) + 1e-12
    across, along = differences(target)
    assert across.shape == (shape[0], shape[1] - 1) and along.shape == (shape[0] - 1, shape[1])


def test_wrong_energies() -> None:
    target = torch.zeros(4, 5)
    with pytest.raises(ConfigError, match="must not be negative"):
        Energy(target, -1.0)
    with pytest.raises(ConfigError, match=r"sure is \(5, 4\), the map \(4, 5\)"):
        Energy(target, sure=torch.ones(5, 4))
    with pytest.raises(ConfigError, match="window must be odd"):
        colour_weights(target, window=4)
    with pytest.raises(ConfigError, match="eps must be positive"):
        next(Energy(target).iterates(eps=0.0))
    with pytest.raises(ConfigError, match="rho must be positive"):
        next(Energy(target).split_iterates(rho=0.0))


# --- holes and sizes --------------------------------------------------------------------------------------------------


def test_holes_are_filled_from_around() -> None:
    depth = np.full((7, 5), 2.0, np.float32)
    depth[:, 3:] = 4
    depth[2:5, 1] = np.nan
    found = filled(depth)
    assert np.array_equal(found[~np.isnan(depth)], depth[~np.isnan(depth)])
    assert ((found >= 2) & (found <= 4)).all()
    with pytest.raises(InputError, match="no depth is known"):
        filled(np.full((3, 3), np.nan, np.float32))


def test_reduced_and_enlarged_keep_holes_and_range() -> None:
    depth = scene(64, 64)
    depth[8:24, 40:56] = np.nan
    small_map = reduced(depth, 4)
    assert small_map.shape == (16, 16) and np.isnan(small_map).sum() == 16
    large = enlarged(small_map, 4)
    assert np.isnan(large).sum() == np.isnan(depth).sum()
    assert np.nanmin(depth) <= np.nanmin(large) and np.nanmax(large) <= np.nanmax(depth)


def test_metrics_look_at_what_is_known() -> None:
    truth, prediction = np.full((16, 16), 2.0, np.float32), np.full((16, 16), 2.5, np.float32)
    truth[0, 0], prediction[1, 1] = np.nan, np.nan
    assert rmse(prediction, truth) == mae(prediction, truth) == 0.5
    depth = scene(32, 32)
    holed = depth.copy()
    holed[4:9, 4:9] = np.nan
    assert ssim(depth, depth) == ssim(holed, depth) == 1 > ssim(depth[::-1], depth)
    with pytest.raises(InputError, match="no pixel whose depth both"):
        ssim(truth * np.nan, truth)


# --- the task ---------------------------------------------------------------------------------------------------------


def test_units_of_the_chain() -> None:
    assert [len(DeepDepthSR(scale, 2, 2).units) for scale in (2, 4, 8, 16)] == [1, 2, 3, 4]
    assert sum(item.numel() for item in DeepDepthSR(2).parameters()) == 8129  # SRCNN 9-1-5
    assert DeepDepthSR(8, 2, 2)(torch.rand(2, 1, 5, 7)).shape == (2, 1, 40, 56)
    with pytest.raises(ConfigError, match="scale must be 2, 4, 8 or 16, got 3"):
        DeepDepthSR(3)


def test_with_and_without_a_guide() -> None:
    truth = scene()
    predictor, given = small(), reduced(truth, 2)
    plain = predictor.predict(given).depth
    guided = predictor.predict(given, guide_of(truth)).depth
    assert plain.shape == guided.shape == truth.shape
    assert np.abs(plain - guided).max() > 0.01
    named = predictor.predict(given, guide=guide_of(truth)).depth
    assert np.array_equal(named, guided)
    grey = predictor.predict(given, (guide_of(truth).mean(0) * 255).astype(np.uint8)).depth
    assert rmse(grey, truth) < 1.5 * rmse(guided, truth)
    alone = predictor.predict(given, guide_of(truth), modulation=0, variation=0).depth
    low, span = given.min(), given.max() - given.min()
    with torch.inference_mode():
        network = predictor.module(torch.from_numpy((given - low) / span)[None, None])[0, 0].numpy() * span + low
    assert np.abs(alone - network).max() < 1e-4


def test_guides_of_some_items_only() -> None:
    truth = scene(32, 32)
    items = [(reduced(truth, 2),), (reduced(truth, 2), guide_of(truth)), (reduced(truth, 2), None)]
    one, two, three = (item.depth for item in small().predict_batch(items))
    assert np.allclose(one, three, atol=1e-5) and not np.allclose(one, two, atol=1e-3)


def test_holes_are_kept_or_filled() -> None:
    given = reduced(scene(), 2)
    given[10:14, 20:30] = np.nan
    kept, whole = (small().predict(given, holes=holes).depth for holes in ("keep", "fill"))
    assert np.isnan(kept).sum() == 4 * 40 and np.isnan(kept[20:28, 40:60]).all()
    assert np.isfinite(whole).all()
    zeros = np.nan_to_num(given)  # with metres, 0 means not known
    assert np.array_equal(small().predict(zeros).depth, kept, equal_nan=True)


def test_a_constant_map_and_a_single_pixel() -> None:
    flat = small().predict(np.full((6, 5), 3.0, np.float32)).depth
    assert flat.shape == (12, 10) and np.abs(flat - 3).max() < 0.2
    one = small().predict(np.full((1, 1), 3.0, np.float32), np.zeros((3, 2, 2), np.float32)).depth
    assert one.shape == (2, 2) and np.isfinite(one).all()


def test_double_precision() -> None:
    predictor = stzoo.create("deep-depth-sr", scale=2, wide=2, narrow=2, residual=True, device="cpu")
    given = reduced(scene(32, 32), 2), guide_of(scene(32, 32))
    single, double = predictor.predict(*given).depth, predictor.to(torch.float64).predict(*given).depth
    assert 0 < np.abs(single - double).max() < 1e-3


def test_an_example_is_the_reduced_truth() -> None:
    pipeline, truth = small(4).pipeline, scene(50, 61)
    assert isinstance(pipeline, DepthSuperResolution)
    inputs, outputs = pipeline.example({"depth": truth, "guide": guide_of(truth)}, {})
    assert inputs["depth"].shape == (12, 15) and inputs["guide"].shape == (3, 48, 60)
    assert np.array_equal(outputs["depth"], truth[:48, :60])
    assert bicubic(inputs, outputs)["depth"].shape == (48, 60)
    assert "guide" not in pipeline.example({"depth": truth, "guide": None}, {})[0]


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "guide too small": (scene(8, 8), {"guide": np.zeros((3, 8, 8), np.float32)}, "8x8 pixels, it must be 16x16"),
    "guide too large": (scene(8, 8), {"guide": np.zeros((17, 16), np.uint8)}, "16x17 pixels, it must be 16x16"),
    "guide is no picture": (scene(8, 8), {"guide": np.zeros((2, 3, 16, 16), np.float32)}, "guide"),
    "guide file missing": (scene(8, 8), {"guide": "nowhere.png"}, "nowhere.png"),
    "all zero": (np.zeros((4, 4), np.float32), {}, "no depth is known at any pixel"),
    "all NaN": (np.full((4, 4), np.nan, np.float32), {}, "no depth is known at any pixel"),
    "negative": (np.full((4, 4), -1.0, np.float32), {}, "16 values are negative"),
    "infinite": (np.full((4, 4), np.inf, np.float32), {}, "16 values are infinite"),
    "empty": (np.zeros((0, 4), np.float32), {}, "depth is empty"),
    "colours": (Image.new("RGB", (4, 4)), {}, "colours are a picture of depth"),
    "8 bits": (Image.new("L", (4, 4)), {}, "8-bit greys are a picture of depth"),
    "several maps": (np.ones((3, 4, 4), np.float32), {}, "is not a depth map"),
    "negative weight": (scene(8, 8), {"variation": -1}, "variation=-1 must be a number of at least 0"),
    "no steps": (scene(8, 8), {"iterations": 0}, "iterations=0 must be a whole number from 1 to 1000"),
    "holes": (scene(8, 8), {"holes": "drop"}, "must be one of 'keep', 'fill'"),
    "no such option": (scene(8, 8), {"scale": 3}, "has no 'scale'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_inputs(case: str) -> None:
    depth, more, message = BAD[case]
    with pytest.raises(stzoo.errors.StzooError) as raised:
        small().predict(depth, **more)
    assert message in str(raised.value)


def test_bad_configs_and_truths() -> None:
    with pytest.raises(ConfigError, match="scale=3 must be one of 2, 4, 8, 16"):
        stzoo.create("deep-depth-sr", scale=3)
    pipeline = small(4).pipeline
    with pytest.raises(InputError, match="3x9 pixels cannot be reduced 4 times"):
        pipeline.example({"depth": np.ones((9, 3), np.float32)}, {})
    with pytest.raises(InputError, match="must be 8x8"):
        pipeline.example({"depth": np.ones((8, 8), np.float32), "guide": np.zeros((3, 4, 8), np.float32)}, {})
    sparse = np.full((8, 8), np.nan, np.float32)
    sparse[::4, ::4] = 1
    with pytest.raises(InputError, match="too little is known to reduce it 4 times"):
        pipeline.example({"depth": sparse}, {})


# --- learning and data ------------------------------------------------------------------------------------------------


def test_samples_are_maps_of_every_size() -> None:
    depth, needs = scene(), Requirements(scale=4)
    depth[:10, :10] = np.nan
    recipe = DeepDepthRecipe(crop=50, sure=0.5)
    sample = recipe.sample({"depth": depth}, needs, np.random.default_rng(1))
    assert {name: value.shape for name, value in sample.items()} == {
        "x1": (1, 12, 12), "x2": (1, 24, 24), "known2": (1, 24, 24), "x4": (1, 48, 48), "known4": (1, 48, 48)
    }  # fmt: skip
    for name in ("x1", "x2", "x4"):
        assert 0 <= sample[name].min() < sample[name].max() <= 1 and sample[name].dtype == np.float32
    again = recipe.sample({"depth": depth}, needs, np.random.default_rng(1))
    assert all(np.array_equal(value, again[name]) for name, value in sample.items())
    with pytest.raises(DatasetError, match="smaller than the patch of 128"):
        DeepDepthRecipe().sample({"depth": depth}, needs, np.random.default_rng(0))
    depth[::2] = np.nan
    with pytest.raises(DatasetError, match="of 100 patches of 48 pixels none has 90%"):
        DeepDepthRecipe(crop=48, sure=0.9).sample({"depth": depth}, needs, np.random.default_rng(0))


def test_units_learn_apart_then_together() -> None:
    module, recipe = DeepDepthSR(4, 4, 3), DeepDepthRecipe()
    batch = recipe.sample_batch(module)
    reached: dict[str, bool] = {}
    for recipe.stage in ("units", "chain"):
        module.zero_grad()
        torch.autograd.backward(recipe.losses(module, batch, 0)["x4"])
        first: Any = module.units[0]
        reached[recipe.stage] = first.conv1.weight.grad is not None
    assert reached == {"units": False, "chain": True}
    (adam, _), *_ = recipe.optimizers(module, 10)
    assert sorted({group["initial_lr"] for group in adam.param_groups}) == pytest.approx([1e-3 / 250, 1e-3 / 25])


def test_what_is_unknown_teaches_nothing() -> None:
    module, recipe = DeepDepthSR(2, 4, 3), DeepDepthRecipe()
    batch = recipe.sample_batch(module)
    batch["known2"][:, :, :5] = 0
    spoiled = {**batch, "x2": batch["x2"].clone()}
    spoiled["x2"][:, :, :5] = 100
    assert recipe.losses(module, batch, 0)["x2"] == recipe.losses(module, spoiled, 0)["x2"]


def write_folder(root: Path, guides: bool) -> Path:
    for split in ("train", "test"):
        for column in ("depth", "guide")[: 1 + guides]:
            (root / split / column).mkdir(parents=True)
        for name in ("one", "two"):
            np.save(root / split / "depth" / f"{name}.npy", scene(64, 64))
            if guides:
                picture = (guide_of(scene(64, 64)).transpose(1, 2, 0) * 255).astype(np.uint8)
                Image.fromarray(picture).save(root / split / "guide" / f"{name}.png")
    return root


@pytest.mark.parametrize("guides", [False, True])
def test_folders_with_and_without_guides(tmp_path: Path, guides: bool) -> None:
    folder = write_folder(tmp_path / "maps", guides)
    found = stzoo.evaluate(small(), folder, split="test")
    own, baseline = found.models
    assert found.examples == 2 and baseline.name == "bicubic"
    assert set(own.metrics) == {"rmse", "mae", "ssim"} and 0 < own.metrics["rmse"].value < 1


def test_the_whole_life(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "maps", guides=True)
    run = stzoo.finetune(
        "deep-depth-sr",
        folder,
        tmp_path / "run",
        steps=4,
        batch_size=2,
        recipe={"crop": 32},
        model_config={"scale": 2, "wide": 4, "narrow": 3, "residual": True},
    )
    predictor = run.load("best")
    saved = stzoo.load(predictor.save(tmp_path / "saved"))
    given = reduced(scene(32, 32), 2)
    assert np.array_equal(predictor.predict(given).depth, saved.predict(given).depth)


def test_recordings_as_they_are_published(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for column in ("depth", "rgb"):
            (tmp_path / name / column).mkdir(parents=True)
        for number in (1, 2, 10):
            millimetres = np.full((12, 16), 1000 * number, np.uint16)
            millimetres[0, 0] = 0
            Image.fromarray(millimetres).save(tmp_path / name / "depth" / f"{number}.png")
            Image.new("RGB", (16, 12)).save(tmp_path / name / "rgb" / f"frame-{number}.jpg")
    task = small().task
    source = f"rgbd-recordings?root={tmp_path}&guide=rgb&every=3"
    test, train = (open_data(source, task, split) for split in ("test", "train"))
    assert len(test) == 2 and len(train) == 4
    assert np.isnan(test[0]["depth"][0, 0]) and test[0]["depth"][1, 1] == 10 and test[0]["guide"].shape == (3, 12, 16)
    assert open_data(f"rgbd-recordings?root={tmp_path}", task, "train")[0]["guide"] is None
    (tmp_path / "a" / "rgb" / "frame-1.jpg").unlink()
    for wrong, message in (
        (source, "3 files in 'depth' and 2 in 'rgb'"),
        ("rgbd-recordings", "the folder of the recordings is not given"),
        (f"rgbd-recordings?root={tmp_path}&depth=disparity", "there is no folder 'disparity'"),
        (f"rgbd-recordings?root={tmp_path}&every=1", "every at least 2"),
    ):
        with pytest.raises(DatasetError, match=message):
            open_data(wrong, task, "test")


def test_the_motorcycle() -> None:
    (example,) = open_data("motorcycle-depth", small().task, "test")
    assert example["depth"].shape == (500, 741) and example["guide"].shape == (3, 500, 741)
    assert 2 < np.nanmin(example["depth"]) < np.nanmax(example["depth"]) < 6 and np.isnan(example["depth"]).any()


def test_the_task_says_what_is_optional() -> None:
    task: Task = small().task
    assert [item.optional for item in task.inputs] == [False, True]
    wrong: Mapping[str, Any] = {"name": "wrong", "inputs": (task.inputs[1], task.inputs[0])}
    with pytest.raises(stzoo.errors.SpecError, match="then the optional ones"):
        Task(**wrong)


# --- the bundled model ------------------------------------------------------------------------------------------------


def test_the_bundled_model_beats_bicubic_on_a_room_it_never_saw() -> None:
    predictor = stzoo.load("depthsr-x4", device="cpu")
    (row,) = open_data("motorcycle-depth", predictor.task, "test")
    cut = {"depth": row["depth"][100:356, 200:520], "guide": row["guide"][:, 100:356, 200:520]}
    inputs, outputs = predictor.pipeline.example(cut, {})
    trivial = rmse(bicubic(inputs, outputs)["depth"], outputs["depth"])
    plain = predictor.predict(inputs["depth"])
    guided = predictor.predict(inputs["depth"], inputs["guide"])
    assert rmse(guided.depth, outputs["depth"]) < rmse(plain.depth, outputs["depth"]) < trivial
    recorded = (
        {item.dataset: item for item in predictor.spec.metrics if item.metric == "rmse"} if predictor.spec else {}
    )
    assert recorded


def test_the_page_takes_a_guide_or_none(tmp_path: Path) -> None:
    import gradio as gr

    blocks = stzoo.demo("depthsr-x4")
    (predict, *_), (real, fill) = (
        [item for item in blocks.fns.values() if item.name == name] for name in ("predict", "fill")
    )
    example, guide, *_ = fill.fn()
    assert guide is None and real.fn()[1]  # the shipped example has a picture, the synthetic pattern has none
    rest = [getattr(item, "value", None) for item in predict.inputs[2:]]
    Image.new("RGB", (256, 256)).save(tmp_path / "guide.png")
    for held, told in ((None, 'predict("depth.npz")'), (str(tmp_path / "guide.png"), 'guide="guide.png")')):
        *_, last = predict.fn(gr.Request(session_hash="a"), lambda *_: None, example, held, *rest)
        shown, files, *_, code = last
        assert (shown["height"], shown["width"]) == (256, 256) and files and told in code
    with pytest.raises(gr.Error, match="guide: 9x9 pixels, it must be 256x256"):
        Image.new("RGB", (9, 9)).save(tmp_path / "guide.png")
        next(predict.fn(gr.Request(session_hash="a"), lambda *_: None, example, held, *rest))


def test_a_map_with_holes_and_its_picture_come_with_the_plugin() -> None:
    (row,) = open_data("slambook2-depth", registry().get(Task, "depth-super-resolution"), "test")
    assert row["depth"].shape == row["guide"].shape[1:] == (240, 320)
    assert 0.1 < np.isnan(row["depth"]).mean() < 0.4 and 0.9 < np.nanmin(row["depth"]) < np.nanmax(row["depth"]) < 10
