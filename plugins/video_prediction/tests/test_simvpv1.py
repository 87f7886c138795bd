"""The first SimVP: what differs from the later one. Rollout, errors and the recipe are SimVP's, tested in test_simvp.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import Golden, given, unnoticed

import stzoo
from stzoo.errors import ConfigError, InputError
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.simvp import OpenSTLSimVP, SimVP
from stzoo_video_prediction.simvpv1 import PUBLISHED, A4BioSimVP, SimVPv1

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {"in_shape": (2, 1, 16, 16), "hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2}


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_outputs_loss_and_gradients_are_the_official_ones(prefix: str, tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "simvpv1-A")
    facts, tensors, state = golden.facts, golden.tensors, golden.state
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "checkpoint.pth")
    predictor = stzoo.import_checkpoint(tmp_path / "checkpoint.pth", device="cpu")
    network, expected = predictor.module, facts["eval_mode_grad"]
    assert predictor.architecture.name == "simvp-v1"
    frames, channels, *_ = facts["constructor"].pop("shape_in")
    assert predictor.config == {"in_shape": (frames, channels, 64, 64), **facts["constructor"]}
    assert list(network.state_dict()) == list(state)
    with torch.inference_mode():
        close(network(tensors["input"]), tensors["output"])
        longer = network.rollout(tensors["input"], 7)
        close(longer[:, 4:], network(tensors["output"])[:, :3])
    target = given(expected["target_name"], tensors["input"].shape)
    loss = VideoPredictionRecipe().losses(network, {"frames": tensors["input"], "target": target}, 0)["mse"]
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    norms = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-3, abs=1e-6)


def test_published_configurations_have_the_official_number_of_parameters() -> None:
    counts = {}
    for name, settings in PUBLISHED.items():
        with torch.device("meta"):
            counts[name] = sum(p.numel() for p in SimVPv1(**settings["config"]).parameters())
        VideoPredictionRecipe(**settings["recipe"])
    assert counts == {"mmnist": 15_778_433, "taxibj": 14_471_938}


@pytest.mark.parametrize("N_S", [2, 4, 6])
def test_sizes_batches_and_errors(N_S: int) -> None:
    network = SimVPv1(**TINY | {"N_S": N_S}).eval()
    side = network.requirements.multiple
    with torch.inference_mode():
        for frames in (torch.rand(1, 2, 1, side, 2 * side), torch.full((3, 2, 1, 2 * side, side), 0.5)):
            assert network(frames).shape == frames.shape
            assert network.rollout(frames, 5).shape[1] == 5
            assert network(frames).isfinite().all()
    for shape in ((1, 3, 1, 16, 16), (1, 2, 3, 16, 16), (1, 2, 1, 17, 16)):
        with pytest.raises(InputError, match="2 frames, 1 channels"):
            network(torch.zeros(shape))
    with pytest.raises(ConfigError, match="N_S"):
        SimVPv1(**TINY | {"N_S": 3})


def test_recipe_learns() -> None:
    torch.manual_seed(0)
    network, recipe = SimVPv1(**TINY), VideoPredictionRecipe(lr=1e-2)
    batch = recipe.sample_batch(network)
    [(optimizer, schedule)] = recipe.optimizers(network, 15)
    history = []
    for step in range(15):
        loss = recipe.losses(network, batch, step)["mse"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0]


def test_configuration_is_recovered_and_changes_are_noticed() -> None:
    known = A4BioSimVP()
    for change in ({}, {"in_shape": (5, 3, 16, 16)}, {"N_S": 6, "N_T": 5}, {"hid_S": 8, "hid_T": 36}):
        config = TINY | change
        with torch.device("meta"):
            state = SimVPv1(**config).state_dict()
        frames, channels, _, _ = config["in_shape"]
        assert known.detect(state) == config | {"in_shape": (frames, channels, 64, 64)}
        assert OpenSTLSimVP().detect(state) is None
    with torch.device("meta"):
        assert known.detect(SimVP(**TINY, model_type="incepu").state_dict()) is None
    assert known.detect({}) is None

    assert not unnoticed(known, state, "A4Bio")
