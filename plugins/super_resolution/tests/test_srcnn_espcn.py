"""SRCNN and ESPCN against their references, their checkpoints, their recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden

import stzoo
from stzoo.errors import ConfigError, DatasetError, FormatError, InputError
from stzoo.predictor import Predictor
from stzoo_super_resolution.data import Pair, degraded
from stzoo_super_resolution.espcn import ESPCN
from stzoo_super_resolution.metrics import psnr_y
from stzoo_super_resolution.pipeline import bicubic, to_luma
from stzoo_super_resolution.recipe import PatchRecipe
from stzoo_super_resolution.resize import imresize
from stzoo_super_resolution.srcnn import SRCNN, SRCNNRecipe

GOLDENS = Path(__file__).parent / "goldens"
MATLAB = Golden(GOLDENS / "srcnn-A-tiny-315").tensors


def matlab_file(path: Path, **changed: np.ndarray) -> Path:
    from scipy.io import savemat  # type: ignore[import-untyped]

    arrays = {key.removeprefix("weight_"): value.numpy() for key, value in MATLAB.items() if key.startswith("weight_")}
    savemat(path, arrays | changed)
    return path


@pytest.mark.parametrize(
    ("padding", "golden"),
    [("replicate", "matlab_replicate"), ("zeros", "zero_pad"), ("valid", "caffe_valid")],
)
def test_official_matlab_weights(padding: str, golden: str, tmp_path: Path) -> None:
    imported = stzoo.import_checkpoint(matlab_file(tmp_path / "x3.mat"), scale=3)
    assert imported.architecture.name == "srcnn"
    assert imported.config["kernels"] == (3, 1, 5) and imported.config["filters"] == (4, 3)
    assert imported.config["padding"] == "replicate", "as the official test code"
    module = SRCNN(**imported.config | {"padding": padding})
    module.load_state_dict(imported.module.state_dict())
    found = module(MATLAB["input"].float()[None, None])[0, 0]
    torch.testing.assert_close(found, MATLAB[f"output_{golden}"].float(), rtol=1e-4, atol=1e-5)


def test_damaged_matlab_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    with pytest.raises(FormatError, match="not a readable MATLAB file"):
        stzoo.import_checkpoint(tmp_path / "no.mat", scale=3)
    with pytest.raises(FormatError, match="shapes do not fit"):
        stzoo.import_checkpoint(matlab_file(tmp_path / "odd.mat", weights_conv1=np.ones((8, 4))), scale=3)
    with pytest.raises(FormatError, match="cannot tell scale"):
        stzoo.import_checkpoint(matlab_file(tmp_path / "x3.mat"))


def test_the_enlarged_margin_is_kept_where_layers_are_not_padded() -> None:
    image = np.random.default_rng(0).random((3, 7, 9), dtype=np.float32)
    for padding in ("valid", "replicate", "zeros"):
        predictor = stzoo.create("srcnn", scale=4, kernels=(9, 1, 5), padding=padding)
        assert predictor.predict(image).image.shape == (3, 28, 36)


def test_torch_srcnn_is_told_from_its_tensors(tmp_path: Path) -> None:
    torch.save(SRCNN(2, kernels=(9, 3, 5), filters=(8, 6)).state_dict(), tmp_path / "srcnn_x2.pth")
    imported = stzoo.import_checkpoint(tmp_path / "srcnn_x2.pth", scale=2)
    assert imported.config == {"scale": 2, "kernels": (9, 3, 5), "filters": (8, 6), "channels": 1, "padding": "zeros"}


def test_espcn_as_the_reference(tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "espcn-A-x2")
    torch.save({"model": golden.state}, tmp_path / "espcn.pth")
    imported = stzoo.import_checkpoint(tmp_path / "espcn.pth")
    assert imported.architecture.name == "espcn" and imported.config["scale"] == 2
    with torch.inference_mode():
        found = imported.module(golden.tensors["input0"])
    torch.testing.assert_close(found, golden.tensors["output0"], rtol=1e-4, atol=1e-5)
    assert sum(parameter.numel() for parameter in imported.module.parameters()) == golden.facts["params"]


def test_espcn_shuffles_colours_as_torch_does() -> None:
    module = ESPCN(3, channels=3)
    with torch.no_grad():
        module.get_parameter("last_part.0.weight").zero_()
        module.get_parameter("last_part.0.bias").copy_(torch.arange(27.0))
    image = module(torch.zeros(1, 3, 2, 2))
    assert image[0, 1, 2, 0] == 9 + 6, "channel * 9 + row * 3 + column"


@pytest.mark.parametrize(
    ("build", "config", "message"),
    [
        (SRCNN, {"kernels": (9, 2, 5)}, "must be odd"),
        (SRCNN, {"padding": "mirror"}, "padding must be"),
        (SRCNN, {"channels": 2}, "channels must be 1 or 3"),
        (SRCNN, {"scale": 0}, "scale must be at least 1"),
        (ESPCN, {"filters": (0, 3)}, "filters must be at least 1"),
        (ESPCN, {"activation": "gelu"}, "activation must be"),
        (SRCNNRecipe, {"loss": "l3"}, "loss must be"),
        (SRCNNRecipe, {"patch": 6, "margin": 3}, "leaves nothing"),
        (SRCNNRecipe, {"lr": 0.0}, "lr must be positive"),
    ],
)
def test_impossible_settings_are_refused(build: type, config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**config)


@pytest.mark.parametrize("channels", [1, 3])
def test_srcnn_starts_from_bicubic_interpolation(channels: int) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, channels, 12, 10)
    torch.testing.assert_close(SRCNN(channels=channels)(image), image, rtol=0, atol=0.1)


def test_networks_refuse_other_channels() -> None:
    for module in (SRCNN(), ESPCN()):
        with pytest.raises(InputError, match="1 channels"):
            module(torch.zeros(1, 3, 8, 8))


# --- learning ---------------------------------------------------------------------------------------------------------


def examples(count: int = 3, channels: int = 3, scale: int = 3) -> list[dict[str, Pair]]:
    rng = np.random.default_rng(0)
    highs = [rng.random((channels, 20 * scale, 24 * scale), dtype=np.float32) for _ in range(count)]
    return [{"image": Pair(imresize(high, 1 / scale), high)} for high in highs]


def test_patches_are_of_the_same_place() -> None:
    recipe, needs = PatchRecipe(patch=6), SRCNN(3).requirements
    [item] = examples(1)
    low = np.arange(20 * 24, dtype=np.float32).reshape(1, 20, 24)
    item = {"image": Pair(low, low.repeat(3, 1).repeat(3, 2))}
    for seed in range(8):  # every way to flip and turn
        sample = recipe.sample(item, needs, np.random.default_rng(seed))
        assert sample["low"].shape == (3, 6, 6) and sample["high"].shape == (3, 18, 18)
        np.testing.assert_array_equal(sample["high"][:, 1::3, 1::3], sample["low"])


def test_patches_of_grey_pictures_have_what_the_network_takes() -> None:
    [item] = examples(1, channels=1)
    needs = SRCNN(3).requirements
    assert PatchRecipe(patch=6).sample(item, needs, np.random.default_rng(0))["low"].shape == (3, 6, 6)
    grey = replace(needs, channels=1)
    assert PatchRecipe(patch=6).sample(item, grey, np.random.default_rng(0))["low"].shape == (1, 6, 6)


def test_noise_is_new_for_each_patch_but_follows_the_seed() -> None:
    [item] = examples(1)
    recipe, needs = PatchRecipe(patch=20, noise=25, augment=False), SRCNN(3).requirements
    first, second = (recipe.sample(item, needs, np.random.default_rng(seed))["low"] for seed in (0, 1))
    again = recipe.sample(item, needs, np.random.default_rng(0))["low"]
    assert (first == again).all() and (first != second).any()
    assert np.std(first - item["image"].low[:, :, :20]) == pytest.approx(25 / 255, abs=0.05)


def test_small_pictures_are_refused_by_name_of_the_option() -> None:
    with pytest.raises(DatasetError, match="recipe.patch"):
        PatchRecipe(patch=21).sample(examples(1)[0], SRCNN(3).requirements, np.random.default_rng(0))


def test_schedules_and_rates_of_layers() -> None:
    module = SRCNN(3, (3, 1, 3), (4, 4))
    for schedule, wanted in (("step", [1, 1, 0.5, 0.25]), ("cosine", [1, 0.9045, 0.5, 0.0955]), ("constant", [1] * 4)):
        [(optimizer, rates)] = SRCNNRecipe(lr=1e-2, schedule=schedule, last=0.1).optimizers(module, 10)
        rates_now = sorted(group["lr"] for group in optimizer.param_groups)
        assert rates_now == pytest.approx([1e-3, 1e-2]), "the last layer learns ten times slower"
        found = []
        for step in range(10):
            if step in (0, 2, 5, 8):
                found.append(max(group["lr"] for group in optimizer.param_groups) / 1e-2)
            optimizer.step()
            rates.step()
        assert found == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("loss", ["mse", "l1", "charbonnier"])
def test_losses_leave_the_margin_out(loss: str) -> None:
    module = ESPCN(2, (4, 4))
    recipe = PatchRecipe(patch=8, loss=loss, margin=2)
    batch = recipe.sample_batch(module)
    before = recipe.losses(module, batch, 0)[loss]
    batch["high"][..., :4, :] += 1
    torch.testing.assert_close(recipe.losses(module, batch, 0)[loss], before)
    batch["high"][..., 4, 8] += 1
    assert recipe.losses(module, batch, 0)[loss] != before


def test_a_network_of_the_luma_learns_from_the_luma() -> None:
    module, recipe = ESPCN(2, (4, 4)), PatchRecipe(patch=8, loss="mse")
    colours = {"low": torch.rand(2, 3, 8, 8), "high": torch.rand(2, 3, 16, 16)}
    found = recipe.losses(module, colours, 0)["mse"]
    torch.testing.assert_close(found, F.mse_loss(module(to_luma(colours["low"])), to_luma(colours["high"])))


def test_training_beats_nothing(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(3):
        y, x = np.mgrid[:48, :48] / 48
        waves = [np.sin(rng.uniform(4, 12) * x + rng.uniform(4, 12) * y) for _ in range(3)]
        pixels = np.rint(127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"photos/{index}.png")
    run = stzoo.finetune(
        "espcn",
        str(tmp_path / "photos"),
        tmp_path / "run",
        steps=30,
        batch_size=4,
        model_config={"scale": 2, "filters": (8, 8)},
        recipe={"patch": 12, "lr": 5e-3},
        log_every=10,
    )
    losses = [entry["loss"] for entry in run.metrics if "loss" in entry]
    assert losses[-1] < losses[0] / 2
    assert isinstance(run.load(), Predictor)


# --- what is bundled --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["srcnn", "espcn"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bundled_models_beat_bicubic_interpolation(architecture: str, scale: int) -> None:
    """By their recorded numbers, and on a picture here: rings, whose edges interpolation blurs."""
    measured = {
        item.source: item.value
        for item in stzoo.info(f"{architecture}-x{scale}").metrics
        if item.metric == "psnr" and item.dataset.startswith("set5")
    }
    assert measured["measured"] - measured["baseline"] >= 1.0
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    rings = (0.5 + 0.3 * np.sign(np.sin(12 * np.hypot(x, y))))[None].repeat(3, 0).astype(np.float32)
    pair = degraded(rings, scale)
    found = stzoo.load(f"{architecture}-x{scale}").predict(pair.low).image
    plain = bicubic({"image": pair.low}, {"image": pair.high})["image"]
    assert psnr_y(found, pair.high, crop=scale) > psnr_y(plain, pair.high, crop=scale) + 0.5
