"""TAU: what differs from SimVP. Its outputs are compared with the official ones beside SimVP's, in test_simvp.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from goldens import Golden

from stzoo.errors import ConfigError, InputError
from stzoo_video_prediction.tau import PUBLISHED, TAU, TAURecipe, tau_regulariser

GOLDENS = Path(__file__).parent / "goldens"
PARAMETERS = {  # as OpenSTL's code has them, or in millions from the tables of its model zoo
    "mmnist": 44_656_001,
    "mmnist-cifar": 44.7e6,
    "taxibj": 9_545_442,
    "kth": 14_955_201,
    "human": 37.6e6,
    "weather-t2m": 12.22e6,
    "weather-uv10": 12.22e6,
    "weather-mv": 9.55e6,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name: str) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in TAU(**PUBLISHED[name]["config"]).parameters())
    if published := PARAMETERS.get(name):
        assert count == (published if isinstance(published, int) else pytest.approx(published, abs=6e4))
    TAURecipe(**PUBLISHED[name]["recipe"])


@pytest.mark.parametrize("case", ["a", "b", "T2"])
def test_loss_and_its_gradient_are_the_official_ones(case: str) -> None:
    golden = Golden(GOLDENS / "tau-loss")
    tensors, expected = golden.tensors, golden.facts["results"][case]
    prediction, target = tensors[f"{case}.pred"].requires_grad_(), tensors[f"{case}.true"]
    batch = {"frames": target, "target": target}
    losses = TAURecipe(alpha=0.1).losses(lambda frames: prediction, batch, 0)  # type: ignore[arg-type]
    sum(losses.values(), torch.zeros(())).backward()
    assert losses["mse"].item() == pytest.approx(expected["mse"], rel=1e-5)
    assert losses["divergence"].item() == pytest.approx(0.1 * expected["diff_div_reg"], rel=1e-5)
    torch.testing.assert_close(prediction.grad, tensors[f"{case}.grad_full"], rtol=1e-4, atol=1e-8)
    softer = tau_regulariser(prediction, target, tau=0.5).item()
    assert softer == pytest.approx(expected["diff_div_reg_tau0_5"], rel=1e-5)


def test_regulariser_is_zero_for_the_truth_and_positive_otherwise() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 4, 1, 8, 8)
    assert tau_regulariser(target, target).abs().item() < 1e-6
    assert tau_regulariser(target.flip(1), target).item() > 1e-3
    with pytest.raises(ConfigError, match="alpha"):
        TAURecipe(alpha=-1.0)


def test_attention_keeps_the_default_initialisation_and_the_mlp_does_not() -> None:
    torch.manual_seed(0)
    layers = dict(TAU((4, 1, 16, 16), hid_S=64, hid_T=64, N_S=2, N_T=2).named_modules())
    block = "hid.enc.0.block."
    assert layers[block + "attn.proj_1"].weight.abs().max().item() <= (1 / 256) ** 0.5  # uniform within the fan-in
    assert layers[block + "attn.proj_1"].bias.any()
    assert layers[block + "mlp.fc2"].weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert not layers[block + "mlp.fc2"].bias.any()
    assert layers[block + "attn.spatial_gating_unit.fc.0"].weight.shape == (16, 256)


def test_training_beyond_the_trained_horizon_learns() -> None:
    torch.manual_seed(0)
    network, recipe = TAU((3, 2, 16, 16), hid_S=4, hid_T=16, N_S=2, N_T=2), TAURecipe(lr=1e-2)
    batch = recipe.sample_batch(network)
    batch["target"] = batch["frames"][:, [0, 1, 2, 0]]
    [(optimizer, scheduler)] = recipe.optimizers(network, 15)
    history = []
    for step in range(15):
        losses = recipe.losses(network, batch, step)
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimizer.step()
        scheduler.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["mse"] < 0.7 * history[0]["mse"]
    assert history[-1]["divergence"] < history[0]["divergence"]


def test_errors_are_those_of_simvp() -> None:
    with pytest.raises(ConfigError, match="N_S"):
        TAU(N_S=3)
    with pytest.raises(InputError, match="10 frames"):
        TAU(N_T=2, hid_T=16)(torch.zeros(1, 4, 1, 64, 64))
