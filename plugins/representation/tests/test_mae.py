"""Masked autoencoders against the official code, their checkpoints, pictures of any size, metrics, and how they learn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import stzoo
from stzoo import Requirements
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_representation.mae import (
    ImageEncoder,
    MaskedAutoencoder,
    masking,
    normalised,
    patchify,
    resized_positions,
    sine_positions,
    unpatchify,
)
from stzoo_representation.mae_metrics import mean_patch, mse, mse_normalised, mse_patch, psnr
from stzoo_representation.mae_published import DECODER, SIZES
from stzoo_representation.mae_recipe import MAERecipe, crop

GOLDENS = Path(__file__).parent / "goldens"
HEADS = {"num_heads": 3, "decoder_num_heads": 4}
SMALL: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
}
ENCODER = {key: value for key, value in SMALL.items() if not key.startswith("decoder")}


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mae-A", "mae-A-normpix"])
def test_official_tensors_give_the_reference_outputs(name: str, tmp_path: Path) -> None:
    reference = Golden(GOLDENS / name)
    facts, golden = reference.facts, reference.tensors
    torch.save({"model": reference.state, "epoch": 800}, path := tmp_path / "checkpoint.pth")
    stated = HEADS | ({"norm_pix_loss": True} if "normpix" in name else {})
    imported = stzoo.import_checkpoint(path, device="cpu", **stated)
    assert imported.architecture.name == "mae"
    assert {note.partition(":")[0] for note in imported.report.notes} == {*HEADS, "norm_pix_loss"}
    images, network = golden["input"], imported.module
    kept, places, mask = masking(golden["noise"], int(16 * (1 - facts["mask_ratio"])))
    assert torch.equal(places, golden["ids_restore"]) and torch.equal(mask, golden["mask"])
    with torch.inference_mode():
        torch.testing.assert_close(network.encode(images, kept), golden["latent"], rtol=1e-4, atol=1e-5)
        loss, drawn, masked = network(images, facts["mask_ratio"], golden["noise"])
    torch.testing.assert_close(drawn, golden["pred"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss[None], golden["loss"], rtol=1e-4, atol=1e-5)
    assert torch.equal(masked, golden["mask"])
    if name == "mae-A":
        assert torch.equal(patchify(images, 8), golden["patchify_input"])
        torch.testing.assert_close(unpatchify(drawn, 8), golden["unpatchify_pred"], rtol=1e-4, atol=1e-5)
    assert torch.equal(unpatchify(patchify(images, 8), 8), images)


def test_positions() -> None:
    golden = Golden(GOLDENS / "mae-pieces").tensors
    torch.testing.assert_close(sine_positions(48, 4)[0], golden["pos_embed_d48_g4_cls"], rtol=0, atol=1e-6)
    rows = sine_positions(768, 14)[0, [0, 1, 2, 100, 196]]
    torch.testing.assert_close(rows, golden["pos_embed_d768_g14_cls_rows_0_1_2_100_196"], rtol=0, atol=1e-6)
    found = resized_positions(golden["interp_src_4x4"], (6, 6))
    torch.testing.assert_close(found, golden["interp_dst_6x6"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("pooled", [True, False])
def test_classifiers(pooled: bool, tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "mae-pieces").tensors
    state = Golden(GOLDENS / f"mae-vit-cls-state_dict-global_pool_{pooled}").state
    torch.save({"model": state}, path := tmp_path / "finetuned.pth")
    imported = stzoo.import_checkpoint(path, num_heads=3, device="cpu")
    assert imported.architecture.name == "mae-encoder" and imported.config["num_classes"] == 10
    with torch.inference_mode():
        found = imported.module(golden["vit_input"])
    torch.testing.assert_close(found, golden[f"vit_logits_global_pool_{pooled}"], rtol=1e-4, atol=1e-5)
    with pytest.raises(FormatError, match="holds a classifier: without a decoder nothing can be reconstructed"):
        stzoo.import_checkpoint(path, "mae", num_heads=3, device="cpu")


def test_published_sizes_and_rows() -> None:
    """With positions, as the official code counts: 111,907,840, 329,541,888 and 657,074,508 numbers."""
    totals = {}
    for size, config in SIZES.items():
        with torch.device("meta"):
            totals[size] = sum(item.numel() for item in MaskedAutoencoder(**config, **DECODER).state_dict().values())
    assert totals == {"base": 111_907_840, "large": 329_541_888, "huge": 657_074_508}
    rows = [model for model in stzoo.models(plugin="representation") if model.name.startswith("mae-") and model.source]
    assert len(rows) == 16 and all(model.non_commercial for model in rows)
    assert {model.config["norm_pix_loss"] for model in rows if ".full" in model.name} == {True}


# --- transformers' files ----------------------------------------------------------------------------------------------


def spelled(style: str) -> dict[str, Tensor]:
    """The tensors of mae-A as the Hub has them, as the fifth version has them in memory, or as it writes them."""
    facts, state = Golden(GOLDENS / "mae-hf-A").facts, Golden(GOLDENS / "mae-A").state
    found: dict[str, Tensor] = {}
    for key, names in facts["fb_to_hub_key_map"].items():
        split = isinstance(names, list)
        found |= zip(names, state[key].chunk(3), strict=True) if split else {names: state[key]}
    if style == "hub":
        assert found.keys() == set(facts["hub_keys"])
        return {key: value.contiguous() for key, value in found.items()}
    fifth = {}
    for key, value in found.items():
        for old, new in (
            ("vit.encoder.layer.", "vit.layers."),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            key = key.replace(old, new)
        fifth[key] = value.contiguous()
    assert fifth.keys() == set(facts["transformers_v5_in_memory_keys"])
    if style == "memory":
        return fifth
    return {key.replace("decoder_layers", "decoder_encoder.layer"): value.contiguous() for key, value in found.items()}


@pytest.mark.parametrize("style", ["hub", "memory", "written"])
def test_transformers_spellings(style: str, tmp_path: Path) -> None:
    save_file(spelled(style), path := tmp_path / "model.safetensors")
    network = stzoo.import_checkpoint(path, device="cpu", **HEADS).module
    golden = Golden(GOLDENS / "mae-hf-A").tensors
    with torch.inference_mode():
        loss, drawn, _ = network(golden["input"], 0.75, golden["noise"])
    torch.testing.assert_close(drawn, golden["logits_eps1e-06"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss[None], golden["loss_eps1e-06"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(drawn, golden["logits_eps1e-12"], rtol=1e-4, atol=1e-4)


def test_an_encoder_alone_gives_features_and_no_pictures(tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "mae-A")
    state, images = golden.state, golden.tensors["input"]
    encoder = {key: value for key, value in state.items() if not key.startswith(("decoder", "mask"))}
    torch.save({"model": encoder}, path := tmp_path / "mae_pretrain.pth")
    with pytest.raises(FormatError, match="holds the encoder alone: without a decoder nothing can be reconstructed"):
        stzoo.import_checkpoint(path, "mae", **HEADS)
    alone = stzoo.import_checkpoint(path, num_heads=3, device="cpu")
    assert alone.architecture.name == "mae-encoder"
    torch.save(state, whole := tmp_path / "whole.pth")
    from_whole = stzoo.import_checkpoint(whole, "mae-encoder", num_heads=3, device="cpu")
    with torch.inference_mode():
        first = alone.module(images)
        everything = stzoo.import_checkpoint(whole, device="cpu", **HEADS).module.encode(images)[:, 0]
        assert torch.equal(first, from_whole.module(images))
    torch.testing.assert_close(first, everything)
    bare = {key.removeprefix("vit."): value for key, value in spelled("hub").items() if key.startswith("vit.")}
    save_file(bare, path := tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(stzoo.import_checkpoint(path, num_heads=3, device="cpu").module(images), first)


def test_checkpoints_that_are_refused(tmp_path: Path) -> None:
    state = Golden(GOLDENS / "mae-A").state

    def refused(changed: dict[str, Tensor], **config: Any) -> str:
        torch.save(changed, path := tmp_path / "changed.pth")
        with pytest.raises(FormatError) as problem:
            stzoo.import_checkpoint(path, "mae", **config)
        return str(problem.value)

    assert "cannot tell decoder_num_heads" in refused(state, num_heads=3)
    assert "1 of its tensors are missing: norm.bias" in refused({k: v for k, v in state.items() if k != "norm.bias"})
    assert "15 positions are no square" in refused(state | {"pos_embed": torch.zeros(1, 16, 48)})
    assert "1 of its tensors are unexpected: extra" in refused(state | {"extra": torch.zeros(1)})
    bad = state | {"decoder_embed.weight": torch.zeros(4)}
    assert "decoder_embed.weight is missing or malformed" in refused(bad)
    hub = spelled("hub")
    lost = "vit.encoder.layer.0.attention.attention.key.weight"
    assert "lacks its key or value" in refused({key: value for key, value in hub.items() if key != lost})
    torch.save({"weight": torch.zeros(3)}, path := tmp_path / "other.pth")
    with pytest.raises(FormatError, match="not recognised"):
        stzoo.import_checkpoint(path, "mae")


KNOWN = {
    "base": [[-0.9192, -0.8481, -1.1259], [-1.1349, -1.0034, -1.2599], [-1.1757, -1.0429, -1.2726]],
    "large": [[-0.7309, -0.7128, -1.0169], [-1.0161, -0.9058, -1.1878], [-1.0478, -0.9411, -1.1911]],
}
"""The first numbers of the first patches that the Hub's weights draw of one ImageNet picture, as transformers' conversion
script states them."""


@pytest.mark.skipif("STZOO_MAE_WEIGHTS" not in os.environ, reason="STZOO_MAE_WEIGHTS names no file of real weights")
def test_known_values_of_the_real_weights() -> None:
    """STZOO_MAE_WEIGHTS: mae_visualize_vit_{base,large}.pth or the Hub's pytorch_model.bin; STZOO_MAE_PICTURE: the validation
    picture ILSVRC2012_val_00046145 of ImageNet."""
    network = stzoo.import_checkpoint(os.environ["STZOO_MAE_WEIGHTS"], device="cpu").module
    with Image.open(os.environ["STZOO_MAE_PICTURE"]) as picture:
        small = picture.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.asarray(small, np.float32) / 255).permute(2, 0, 1)[None]
    mean, std = (torch.tensor(item).view(3, 1, 1) for item in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.manual_seed(2)
    noise = torch.rand(1, 196)
    with torch.inference_mode():
        drawn = network((pixels - mean) / std, 0.75, noise)[1]
    size = {768: "base", 1024: "large"}[network.cls_token.shape[-1]]
    torch.testing.assert_close(drawn[0, :3, :3], torch.tensor(KNOWN[size]), rtol=0, atol=1e-3)


# --- the network ------------------------------------------------------------------------------------------------------


def test_patches_left_out_are_not_looked_at() -> None:
    network, generator = MaskedAutoencoder(**SMALL).eval(), torch.Generator().manual_seed(0)
    images, noise = torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 16, generator=generator)
    with torch.inference_mode():
        _, drawn, mask = network(images, 0.75, noise)
        hidden = mask.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        torch.testing.assert_close(network(images * (1 - hidden), 0.75, noise)[1], drawn)
        torch.manual_seed(1)
        first, second = network(images)[2], network(images)[2]
    assert mask.sum(1).tolist() == [12, 12] and not torch.equal(first, second)


def test_other_sizes_get_interpolated_positions() -> None:
    network = ImageEncoder(**ENCODER).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 8, 24)).shape == (1, 16)
    positions = network.pos_embed
    assert resized_positions(positions, (4, 4)) is positions
    assert resized_positions(positions, (2, 6)).shape == (1, 13, 16)


def test_networks_that_cannot_be(tmp_path: Path) -> None:
    for config, problem in (
        ({"image_size": 18}, "image_size 18 is no multiple of patch_size 4"),
        ({"num_heads": 3}, "embed_dim 16 must be a multiple of num_heads 3"),
        ({"embed_dim": 18}, "embed_dim 18 must be a multiple of num_heads 2, and of 4"),
        ({"decoder_num_heads": 3}, "decoder_embed_dim 8 must be a multiple of decoder_num_heads 3"),
    ):
        with pytest.raises(ConfigError, match=problem):
            stzoo.create("mae", **SMALL | config)
    network = MaskedAutoencoder(**SMALL)
    with pytest.raises(InputError, match="pictures of 18x16 pixels cannot be cut into patches of 4x4"):
        network(torch.zeros(1, 3, 16, 18))
    with pytest.raises(InputError, match=r"noise of shape \(1, 4\), the pictures have \(1, 16\) patches"):
        network(torch.zeros(1, 3, 16, 16), noise=torch.zeros(1, 4))
    pooled = ImageEncoder(**ENCODER, global_pool=True)
    with pytest.raises(InputError, match="trained on the mean of the patches. Give pool=mean"):
        pooled.features(torch.zeros(1, 3, 16, 16), "class")


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(3, 20, 28), smooth."""
    rows, columns = np.mgrid[:20, :28] / 10
    return np.stack([0.5 + 0.4 * np.sin(rows + c) * np.cos(columns) for c in range(3)]).astype(np.float32)


def test_a_picture_is_masked_and_drawn(picture: np.ndarray) -> None:
    predictor = stzoo.create("mae", **SMALL)
    made = predictor.predict(picture, seed=3, with_features=True)
    hidden = made.mask.astype(bool)
    assert made.image.shape == (3, 16, 16) and made.features.shape == (16,) and hidden.mean() == 0.75
    assert (made.masked[:, hidden] == 0.5).all() and (made.image[:, ~hidden] == made.masked[:, ~hidden]).all()
    assert "features" not in predictor.predict(picture)
    again, other = predictor.predict(picture, seed=3), predictor.predict(picture, seed=4)
    assert (again.image == made.image).all() and (other.mask != made.mask).any()
    assert predictor.predict(picture, mask_ratio=0).mask.sum() == 0
    kept = predictor.predict(picture, fit="keep", mask_ratio=0.5)
    assert kept.image.shape == (3, 20, 28) and kept.mask.sum() == 18 * 16
    assert (kept.image[:, kept.mask == 0] == picture[:, kept.mask == 0]).all()
    assert predictor.predict(picture, fit="crop").image.shape == (3, 16, 16)


def test_normalised_patches_are_drawn_at_their_own_brightness(picture: np.ndarray) -> None:
    predictor = stzoo.create("mae", **SMALL, norm_pix_loss=True)
    network: Any = predictor.module
    images = (torch.from_numpy(picture[:, :16, :16])[None] - 0.45) / 0.225
    targets = normalised(patchify(images, 4))
    assert targets.mean(-1).abs().max() < 1e-5 and (targets.var(-1) - 1).abs().max() < 1e-2
    network.decoder_pred.weight.data.zero_()
    drawn = predictor.predict(picture[:, :16, :16]).image
    std = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    mean = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    levels = ((drawn - mean) / std).reshape(3, 4, 4, 4, 4).mean((0, 2, 4))
    true = ((picture[:, :16, :16] - mean) / std).reshape(3, 4, 4, 4, 4).mean((0, 2, 4))
    np.testing.assert_allclose(levels, true, atol=1e-5)


def test_what_pictures_are_refused(picture: np.ndarray) -> None:
    predictor = stzoo.create("mae", **SMALL)
    with pytest.raises(InputError, match="mask_ratio 0.99 leaves none of the 16 patches to be seen"):
        predictor.predict(picture, mask_ratio=0.99)
    with pytest.raises(InputError, match="28x2 pixels are less than one patch of 4x4"):
        predictor.predict(picture[:, :2], fit="keep")
    with pytest.raises(InputError, match="mask_ratio=2"):
        predictor.predict(picture, mask_ratio=2)
    with pytest.raises(InputError, match="fit='stretch'"):
        predictor.predict(picture, fit="stretch")
    with pytest.raises(InputError, match="seed=-1"):
        predictor.predict(picture, seed=-1)


def test_features(picture: np.ndarray, tmp_path: Path) -> None:
    predictor = stzoo.create("mae-encoder", **ENCODER)
    own, tokens, mean = (predictor.predict(picture, pool=pool).features for pool in ("auto", "class", "mean"))
    assert own.shape == (16,) and (own == tokens).all() and (own != mean).any()
    made = predictor.predict(picture)
    for ending in (".npy", ".csv", ".json"):
        written = made.save(tmp_path / f"features{ending}")
        read = predictor.task.outputs[0].read(str(written), Requirements())
        np.testing.assert_allclose(read, own, rtol=1e-6)


def test_metrics_look_at_what_was_left_out(picture: np.ndarray) -> None:
    truth = np.full((3, 8, 8), np.nan, np.float32)
    truth[:, :4] = 0.5
    drawn = np.full((3, 8, 8), 0.6, np.float32)
    assert mse(drawn, truth) == pytest.approx(0.01) and psnr(drawn, truth) == pytest.approx(20)
    assert mse_normalised(drawn, truth) == pytest.approx(np.mean(0.01 / np.array([0.229, 0.224, 0.225]) ** 2), rel=1e-5)
    rng = np.random.default_rng(0)
    truth[:, :4] = rng.random((3, 4, 8))
    needs = Requirements(multiple=4)
    assert mse_patch(np.nan_to_num(truth), truth, needs) == 0 < mse_patch(drawn, truth, needs)
    inputs = {"image": np.concatenate([np.nan_to_num(truth[:, :4]), np.full((3, 4, 8), 0.25, np.float32)], 1)}
    assert np.allclose(mean_patch(inputs, {"image": truth})["image"], 0.25)
    with pytest.raises(InputError, match="has shape"):
        mse(drawn[:, :4], truth)


def test_evaluation_against_the_mean_patch(picture: np.ndarray, tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray((255 * picture.transpose(1, 2, 0) * (1 - 0.3 * index)).astype(np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    predictor = stzoo.create("mae", **SMALL)
    found = stzoo.evaluate(predictor, tmp_path, metrics=["mse", "psnr", "mse_patch"], options={"mask_ratio": 0.5})
    baseline = next(item for item in found.models if item.baseline)
    assert baseline.name == "mean-patch" and 0 < baseline.metrics["mse"].value < 0.1 and found.failed == 0
    with pytest.raises(stzoo.errors.DatasetError, match="no patch is left out"):
        stzoo.evaluate(predictor, tmp_path, options={"mask_ratio": 0})


# --- learning ---------------------------------------------------------------------------------------------------------


def test_crops_have_the_published_shapes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        top, left, height, width = crop((50, 70), 0.2, rng)
        assert 0 <= top <= 50 - height and 0 <= left <= 70 - width
        assert height * width > 0.19 * 3500 and 0.7 < width / height < 1.4
    assert crop((10, 100), 0.9, rng) == (0, 43, 10, 13)


def test_the_recipe(picture: np.ndarray) -> None:
    network, rng = MaskedAutoencoder(**SMALL), np.random.default_rng(0)
    recipe = MAERecipe(lr=1e-2)
    made = recipe.sample({"image": picture}, network.requirements, rng)
    assert made["image"].shape == (3, 16, 16) and made["image"].dtype == np.float32 and made["noise"].shape == (16,)
    recipe.samples_per_step = 64
    [(optimizer, schedule)] = recipe.optimizers(network, 100)
    decays = {group["weight_decay"]: len(group["params"]) for group in optimizer.param_groups}
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95) and decays[0.05] == 13 and decays[0.0] == 23
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == pytest.approx(1e-2 * 64 / 256) and int(np.argmax(rates)) in (4, 5)
    assert rates[0] == pytest.approx(max(rates) / 5) and rates[-1] < 0.01 * max(rates)
    for options in ({"lr": 0}, {"mask_ratio": 1.0}, {"warmup": 1.0}, {"scale": 0}, {"weight_decay": -1.0}):
        with pytest.raises(ConfigError, match="got"):
            MAERecipe(**options)  # type: ignore[arg-type]


def test_learning_lowers_the_error(picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray((255 * picture.transpose(1, 2, 0)).astype(np.uint8)).save(tmp_path / "a.png")
    config = {f"model_config.{key}": value for key, value in SMALL.items()}
    del config
    torch.manual_seed(0)
    network = MaskedAutoencoder(**SMALL)
    recipe = MAERecipe(lr=0.5)
    recipe.samples_per_step = 8
    [(optimizer, _)] = recipe.optimizers(network, 100)
    rng, losses = np.random.default_rng(0), []
    for step in range(30):
        rows = [recipe.sample({"image": picture}, network.requirements, rng) for _ in range(8)]
        batch = {key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]}
        loss = recipe.losses(network, batch, step)["reconstruction"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_the_rate_follows_the_pictures_of_a_step(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train").mkdir()
    for index in range(2):
        Image.fromarray((255 * picture.transpose(1, 2, 0)).astype(np.uint8)).save(tmp_path / "train" / f"{index}.png")
    told, made = [], MAERecipe.optimizers

    def optimizers(self: MAERecipe, *arguments: Any) -> Any:
        told.append(self.samples_per_step)
        return made(self, *arguments)

    monkeypatch.setattr(MAERecipe, "optimizers", optimizers)
    start = stzoo.create("mae", device="cpu", **SMALL)
    options: dict[str, Any] = {"steps": 1, "batch_size": 3, "accumulate": 2, "trackers": [], "pictures": 0}
    stzoo.finetune(start.save(tmp_path / "start"), tmp_path / "train", tmp_path / "run", **options)
    assert told == [6]
