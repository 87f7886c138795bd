"""VisionTS and VisionTS++ against their reference, the pictures of series, checkpoints, and how they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from safetensors.torch import save_file

import stzoo
from stzoo import Requirements
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_representation.forecast_recipe import VisionTSRecipe, pinball
from stzoo_representation.series_images import Plan, drawn, normalised, read
from stzoo_representation.visionts_pp import VisionTSpp, bands

GOLDENS = Path(__file__).parent / "goldens"
HEADS = {"num_heads": 3, "decoder_num_heads": 4}
TINY = Golden(GOLDENS / "visionts-tiny")
SMALL: dict[str, Any] = {"image_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
SMALL |= {"decoder_embed_dim": 16, "decoder_depth": 1, "decoder_num_heads": 2}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> stzoo.Predictor:
    path = tmp_path_factory.mktemp("visionts") / "checkpoint.pth"
    state = {f"vm.vision_model.{key}": value for key, value in TINY.state.items()}
    torch.save({"model": state | {"vm.mask": torch.ones(1, 64)}}, path)
    return stzoo.import_checkpoint(path, device="cpu", **HEADS)


@pytest.mark.parametrize("case", TINY.facts["cases"])
def test_official_tensors_give_the_reference_forecasts(tiny: stzoo.Predictor, case: str) -> None:
    golden, facts = TINY.tensors, TINY.facts["cases"][case]
    settings, network = facts["config"], tiny.module
    network.norm, network.align = settings.get("norm_const", 0.4), settings.get("align_const", 0.4)
    network.interpolation = settings.get("interpolation", "bilinear")
    x, horizon, period = golden[f"{case}.input"], settings["pred_len"], settings["periodicity"]
    plan = network.plan(x.shape[1], horizon, period)
    assert [plan.period, plan.periods] == facts["output_resize"] and plan.padding == facts["pad_left"]
    assert plan.known == facts["num_patch_input"] and plan.hidden().mean() == facts["mask_ratio"]
    with torch.inference_mode():
        found = network(x.double() if facts["forward"] else x, horizon, period)
        assert found.dtype == getattr(torch, facts["out_dtype"].partition(".")[2])
        torch.testing.assert_close(found.float(), golden[f"{case}.output"], rtol=1e-4, atol=1e-5)
        for key in golden:
            if key.startswith(f"{case}.image_reconstructed"):
                pictures = network.draw(normalised(x, network.norm)[0], plan)
                painted = torch.where(torch.arange(plan.size) < plan.columns, pictures, network.paint(pictures, plan))
                picked = painted[5:6] if "[" in key else painted  # the last of two series with three variables
                wanted = golden[key].squeeze(1).permute(0, 3, 1, 2)
                torch.testing.assert_close(picked, wanted, rtol=1e-4, atol=1e-5)


def test_all_variables_in_one_picture_and_quantiles_as_the_reference(tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "visionts-pp-tiny")
    state = {key.replace("decoder_pred.", "decoder_pred_1."): value for key, value in golden.state.items()}
    torch.save({"model": state}, tmp_path / "pp.ckpt")
    imported = stzoo.import_checkpoint(tmp_path / "pp.ckpt", device="cpu", **HEADS)
    assert imported.architecture.name == "visionts-pp"
    for case, facts in golden.facts["cases"].items():
        with torch.inference_mode():
            found = imported.module.answers(golden.tensors[f"{case}.input"], facts["pred_len"], facts["periodicity"])
        torch.testing.assert_close(found[0], golden.tensors[f"{case}.median"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1:], golden.tensors[f"{case}.quantiles_in_head_order"], rtol=1e-4, atol=1e-5)
    prediction = imported.predict(np.sin(np.arange(96))[:, None], horizon=5, period=24)
    assert list(prediction) == ["forecast", "lower", "upper"] and prediction.upper.shape == (5, 1)
    with pytest.raises(InputError, match="65 variables, a picture has 64 rows"):
        imported.predict(np.zeros((50, 65)), horizon=5, period=5)
    with pytest.raises(FormatError, match="it has 7 heads for quantiles"):
        save_file({key: value for key, value in state.items() if "list.7" not in key}, tmp_path / "x.safetensors")
        stzoo.import_checkpoint(tmp_path / "x.safetensors", **HEADS)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize(("context", "horizon", "period"), [(192, 48, 24), (101, 37, 7), (50, 20, 1), (16, 8, 1)])
def test_a_series_survives_being_a_picture(interpolation: str, context: int, horizon: int, period: int) -> None:
    """Nothing of it is lost where a pixel is a step, and the published sizes show all that is to be predicted."""
    x = torch.sin(torch.arange(context) * 2 * torch.pi / max(period, 20))[None, None].double()
    columns = -(-context // period)
    exact = Plan(context, horizon, period, size=columns * 2, patch=1, known=columns)
    found = read(drawn(x, exact, period, interpolation), exact, interpolation)
    assert exact.periods == columns * 2 and found.shape[-1] == context + exact.reach
    torch.testing.assert_close(found[..., :context], x)
    assert not found[..., context:].any()
    published = Plan.of(context, horizon, period, 224, 16)
    found = read(drawn(x, published, 224, interpolation), published, interpolation)
    assert horizon <= published.reach == found.shape[-1] - context


def test_bands_of_colours() -> None:
    network = VisionTSpp(**SMALL)
    plan, x = network.plan(48, 8, 8), torch.randn(2, 48, 5) * 3
    pictures = network.draw(x, plan)
    assert pictures.abs().max() <= 5 and not pictures[:, :, 30:].any(), "2 of 32 rows are left of 5 bands"
    assert not pictures[:, 1:, :6].any() and pictures[:, 0, :6].any(), "the first variable is red"
    assert not pictures[:, :2, 12:18].any() and pictures[:, 2, 12:18].any(), "the third one is blue"
    torch.testing.assert_close(bands(pictures, 5), drawn(x.transpose(1, 2), plan, 6).clamp(-5, 5))


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_masked_autoencoder_forecasts_where_it_is_asked_to(tmp_path: Path, tiny: stzoo.Predictor) -> None:
    path = tmp_path / "mae_visualize.pth"
    torch.save({"model": TINY.state}, path)
    assert stzoo.import_checkpoint(path, device="cpu", **HEADS).task.name == "masked-autoencoding"
    imported = stzoo.import_checkpoint(path, architecture="visionts", device="cpu", align=0.5, **HEADS)
    assert imported.config["align"] == 0.5 and any("forecast badly" in note for note in imported.report.notes)
    own, other = imported.module.state_dict(), tiny.module.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)
    with pytest.raises(FormatError, match=r"Format|num_heads"):
        stzoo.import_checkpoint(path, architecture="visionts")
    encoder = {key: value for key, value in TINY.state.items() if not key.startswith("decoder")}
    torch.save(encoder, path)
    with pytest.raises(FormatError, match="the encoder alone"):
        stzoo.import_checkpoint(path, architecture="visionts", **HEADS)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_layer_norms_alone_are_trained(tiny: stzoo.Predictor) -> None:
    network = stzoo.create("visionts", **{**tiny.config, "patch_size": 16}).module
    VisionTSRecipe().optimizers(network, 10)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert sorted(trained) == sorted(f"vision_model.{name}" for name in TINY.facts["trainable_with_finetune_type_ln"])


def test_windows_to_learn_from() -> None:
    values, rng = np.arange(100.0)[:, None], np.random.default_rng(0)
    item = {"series": stzoo.media.series.TimeSeries(values), "forecast": None}
    recipe = VisionTSRecipe(horizon=10, context=30, period=5)
    drawn_ = [recipe.sample(item, Requirements(), rng) for _ in range(20)]
    assert len({float(sample["past"][0, 0]) for sample in drawn_}) > 5
    for sample in drawn_:
        assert np.array_equal(np.diff(np.concatenate([sample["past"], sample["future"]]), axis=0), np.ones((39, 1)))
    whole = VisionTSRecipe(horizon=10, period=5).sample(item, Requirements(), rng)
    assert whole["past"].shape == (90, 1) and whole["period"] == 5
    with pytest.raises(InputError, match="a series of 100 steps is too short for 95 and 10"):
        VisionTSRecipe(horizon=10, context=95, period=5).sample(item, Requirements(), rng)
    for wrong in ({"parts": "heads"}, {"lr": 0}, {"schedule": "step"}, {"horizon": 0}):
        with pytest.raises(ConfigError, match="must be"):
            VisionTSRecipe(**wrong)  # type: ignore[arg-type]


def test_losses_of_mixed_periods_are_those_of_each() -> None:
    torch.manual_seed(0)
    network, recipe = stzoo.create("visionts", **SMALL).module, VisionTSRecipe()
    past, future = torch.randn(3, 60, 2), torch.randn(3, 10, 2)
    periods = torch.tensor([5, 12, 5])
    mixed = recipe.losses(network, {"past": past, "future": future, "period": periods}, 0)["mse"]
    single = [(network(past[i : i + 1], 10, int(periods[i])) - future[i]).square().mean() for i in range(3)]
    torch.testing.assert_close(mixed, torch.stack(single).mean())


def test_pinball_loss() -> None:
    answers, future = torch.zeros(9, 1, 1, 1), torch.full((1, 1, 1), 2.0)
    found = pinball(answers, future).flatten()
    torch.testing.assert_close(found, 2 * torch.tensor([0.5, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]))
    torch.testing.assert_close(pinball(answers, -future).flatten(), 2 - found)


@pytest.mark.parametrize("wrong", [{"norm": 0.0}, {"align": 0.0}, {"align": 1.5}, {"interpolation": "lanczos"}])
def test_configs_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        stzoo.create("visionts", **wrong)
