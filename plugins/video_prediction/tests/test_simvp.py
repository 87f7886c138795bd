"""SimVP against what the official code computes, its checkpoints, its recipe."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden, given, unnoticed
from safetensors.torch import load_file
from torch import Tensor, nn

from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.simvp import PUBLISHED, DilatedDepthwise, OpenSTLSimVP, SimVP
from stzoo_video_prediction.tau import TAU, OpenSTLTAU, TAURecipe

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {"in_shape": (2, 1, 16, 16), "hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2}


# --- what the official code computes ----------------------------------------------------------------------------------


class Official(Golden):
    """A small network in the official code: its configuration and input."""

    def __init__(self, name: str) -> None:
        super().__init__(GOLDENS / name)
        self.config: dict[str, Any] = {
            key: value for key, value in self.facts["constructor"].items() if key != "model_type"
        }
        self.model_type: str = self.facts["constructor"]["model_type"].lower()
        self.input = given(self.facts["input_name"], self.facts["input_shape"])

    def network(self) -> SimVP:
        build = TAU(**self.config) if self.model_type == "tau" else SimVP(**self.config, model_type=self.model_type)
        build.load_state_dict(self.state)
        return build.eval()


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["simvp-gsta-A", "simvp-incepu-A", "tau-A", "tau-A2"])
def golden(request: pytest.FixtureRequest) -> Official:
    return Official(request.param)


def test_state_dict_has_the_official_names_shapes_and_order(golden: Official) -> None:
    own = [(key, list(value.shape)) for key, value in golden.network().state_dict().items()]
    assert own == [(key, shape) for key, (shape, _) in golden.facts["state_dict"].items()]


def test_forward_and_rollouts_are_the_official_ones(golden: Official) -> None:
    network = golden.network()
    torch.testing.assert_close(golden.input, golden.tensors["input"])
    with torch.inference_mode():
        close(network(golden.input), golden.tensors["output"])
        rollouts = [name for name in golden.tensors if name.startswith("rollout_")]
        assert rollouts
        for name in rollouts:
            close(network.rollout(golden.input, int(name.rpartition("to")[2])), golden.tensors[name])
    output = network(golden.input)  # with gradients: encoder and decoder see the whole batch at once
    close(output.detach(), golden.tensors["output"])
    assert output.is_contiguous()


def test_gradients_are_the_official_ones(golden: Official) -> None:
    network, expected = golden.network(), golden.facts["eval_mode_grad"]
    target = given(expected["target_name"], golden.facts["input_shape"])
    recipe = TAURecipe() if golden.model_type == "tau" else VideoPredictionRecipe()
    losses = recipe.losses(network, {"frames": golden.input, "target": target}, 0)
    total = sum(losses.values(), torch.zeros(()))
    total.backward()
    assert total.item() == pytest.approx(expected["loss"], rel=1e-4)
    norms = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-3, abs=1e-6)


# --- network ----------------------------------------------------------------------------------------------------------

PARAMETERS = {  # as OpenSTL's code has them, or in millions from the tables of its model zoo
    "mmnist-gsta": 46_769_665,
    "mmnist-incepu": 57_946_113,
    "mfmnist-gsta": 46.8,
    "mmnist-cifar-gsta": 46.8,
    "taxibj-gsta": 9.96,
    "taxibj-incepu": 13.79,
    "kth-gsta": 15.6,
    "kitticaltech-gsta": 15.6,
    "kitticaltech-incepu": 8.6,
    "human-gsta": 11.3,
    "human-incepu": 41.2,
    "weather-t2m-gsta": 12.76,
    "weather-t2m-incepu": 14.67,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name: str) -> None:
    with torch.device("meta"):
        network = SimVP(**PUBLISHED[name]["config"])
    if known := PARAMETERS.get(name):
        count = sum(p.numel() for p in network.parameters())
        assert count == (known if isinstance(known, int) else pytest.approx(1e6 * known, abs=6e4))
    VideoPredictionRecipe(**PUBLISHED[name]["recipe"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"N_S": 3}, "N_S"),
        ({"N_S": 0}, "N_S"),
        ({"N_T": 1}, "N_T"),
        ({"hid_S": 5}, "hid_S"),
        ({"hid_T": 1}, "hid_T"),
        ({"spatio_kernel_enc": 4}, "spatio_kernel_enc"),
        ({"spatio_kernel_dec": 2}, "spatio_kernel_dec"),
        ({"drop": 1.0}, "drop"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"mlp_ratio": 0.05}, "mlp_ratio"),
        ({"model_type": "swin"}, "model_type"),
        ({"model_type": "tau"}, "model_type"),
        ({"in_shape": (2, 1, 15, 16)}, "in_shape"),
        ({"in_shape": (0, 1, 16, 16)}, "in_shape"),
        ({"in_shape": (3, 1, 16, 16), "hid_T": 16, "model_type": "incepu"}, "T \\* hid_S"),
        ({"hid_T": 17, "model_type": "incepu"}, "hid_T"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SimVP(**TINY | change)


@pytest.mark.parametrize(
    "shape", [(1, 3, 1, 16, 16), (1, 2, 2, 16, 16), (1, 2, 1, 15, 16), (1, 2, 1, 16, 15), (2, 1, 16, 16)]
)
def test_inputs_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"2 frames, 1 channels.*multiples of 2"):
        SimVP(**TINY)(torch.zeros(shape))
    with pytest.raises(InputError, match="horizon"):
        SimVP(**TINY).rollout(torch.zeros(1, 2, 1, 16, 16), 0)


@pytest.mark.parametrize("model_type", ["gsta", "incepu"])
@pytest.mark.parametrize("N_S", [2, 4, 6])
def test_requirements_hold(model_type: str, N_S: int) -> None:
    network = SimVP(**TINY | {"N_S": N_S, "model_type": model_type}).eval()
    needs = network.requirements
    assert (needs.frames_in, needs.frames_out, needs.channels, needs.native_size) == (2, 2, 1, (16, 16))
    for side in (needs.minimum, needs.minimum + needs.multiple):
        assert network(torch.rand(1, 2, 1, side, needs.minimum)).shape == (1, 2, 1, side, needs.minimum)
    with pytest.raises(InputError):
        network(torch.rand(1, 2, 1, needs.minimum + needs.multiple // 2, needs.minimum))


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (5, 7), (6, 9), (2, 31)])
def test_dilated_depthwise_equals_the_plain_convolution(size: tuple[int, int]) -> None:
    layer, x = DilatedDepthwise(3), torch.randn(2, 3, *size)
    close(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias, padding=9, dilation=3, groups=3))


def test_initialisation_is_the_official_one() -> None:
    torch.manual_seed(0)
    network = SimVP((4, 1, 16, 16), hid_S=64, hid_T=64, N_S=2, N_T=2)
    layers = dict(network.named_modules())
    for name, std in {
        "enc.enc.1.conv.conv": 0.02,
        "dec.dec.0.conv.conv.0": 0.02,
        "hid.enc.1.block.attn.proj_1": math.sqrt(2 / 64),
        "hid.enc.1.block.attn.spatial_gating_unit.conv_spatial": math.sqrt(2 / 49),
        "hid.enc.1.block.mlp.fc1": math.sqrt(2 / 512),
        "hid.enc.1.block.mlp.dwconv.dwconv": math.sqrt(2 / 9),
    }.items():
        assert layers[name].weight.std().item() == pytest.approx(std, rel=0.06), name
        assert not layers[name].bias.any(), name
    assert layers["hid.enc.0.reduction"].bias.any()  # PyTorch's default, as everything outside the blocks
    assert torch.equal(network.hid.enc[0].block.layer_scale_1, torch.full((256,), 0.01))


def test_stochastic_depth_has_the_official_rates_and_keeps_the_mean() -> None:
    rates = [stage.block.drop_path for stage in SimVP(**TINY | {"N_T": 4, "drop_path": 0.31}).hid.enc]
    assert rates == pytest.approx([0.01, 0.11, 0.21, 0.31])
    block = SimVP(**TINY | {"drop_path": 0.25}).hid.enc[1].block
    torch.manual_seed(0)
    factors = block.train().scale(torch.ones(8), torch.empty(4000, 8, 1, 1))
    assert factors.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert factors.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(block.eval().scale(torch.ones(8), torch.empty(4, 8, 1, 1)), torch.ones(8, 1, 1))


# --- recipe -----------------------------------------------------------------------------------------------------------


def rates(recipe: VideoPredictionRecipe, steps: int) -> tuple[list[float], list[float]]:
    """Learning rate and Adam's first beta at every step."""
    [(optimizer, scheduler)] = recipe.optimizers(nn.Linear(1, 1), steps)
    seen = []
    for _ in range(steps):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"][0]))
        optimizer.step()
        scheduler.step()
    return [lr for lr, _ in seen], [beta for _, beta in seen]


def test_schedules_are_the_official_ones() -> None:
    golden = load_file(GOLDENS / "openstl-schedules.safetensors")
    lr, beta = rates(VideoPredictionRecipe(1e-3), 100)
    assert lr == pytest.approx(golden["onecycle_max1e-3_100steps"].tolist(), rel=1e-6)
    assert beta == pytest.approx(golden["onecycle_beta1_adam"].tolist(), rel=1e-6)
    lr, beta = rates(VideoPredictionRecipe(5e-4, "cosine", warmup=0.1), 50)
    assert lr == pytest.approx(golden["cosine_50ep_lr5e-4_warmup5"].tolist(), rel=1e-6)
    assert set(beta) == {0.9}


@pytest.mark.parametrize(
    "wrong", [{"schedule": "step"}, {"lr": 0.0}, {"warmup": 1.0}, {"mae": -1.0}, {"brightness": 2.0}]
)
def test_recipe_refuses_bad_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        VideoPredictionRecipe(**wrong)


def test_the_absolute_error_has_a_weight_beside_the_squared_one() -> None:
    target = torch.rand(2, 3, 1, 8, 8)
    batch = {"frames": target, "target": target}
    for recipe in (VideoPredictionRecipe(mae=0.5), TAURecipe(mae=0.5)):
        losses = recipe.losses(lambda frames: frames + 0.1, batch, 0)  # type: ignore[arg-type]
        assert losses["mse"].item() == pytest.approx(0.01) and losses["mae"].item() == pytest.approx(0.05)


def test_samples_are_pieces_of_clips_mirrored_and_of_another_brightness() -> None:
    clip = np.linspace(0, 1, 6 * 12 * 14, dtype=np.float32).reshape(6, 1, 12, 14)
    needs, rng = SimVP(**TINY).requirements, np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        sample = VideoPredictionRecipe(crop=8, flip=True, brightness=0.5).sample({"video": clip}, needs, rng)
        piece = np.concatenate((sample["frames"], sample["target"]))
        assert piece.shape == (4, 1, 8, 8) and piece.dtype == np.float32 and piece.max() <= 1
        corner, below, beside = piece[0, 0, [0, -1, 0], [0, 0, -1]]
        factor = np.ptp(piece[0, 0]) * (clip.size - 1) / (7 * 14 + 7)
        assert 0.49 < factor < 1.51
        seen.add((below > corner, beside > corner, factor > 1))
    assert len(seen) == 8
    same = VideoPredictionRecipe().sample({"video": clip[:4]}, needs, rng)
    np.testing.assert_array_equal(np.concatenate((same["frames"], same["target"])), clip[:4])


@pytest.mark.parametrize(("model_type", "horizon"), [("gsta", 3), ("incepu", 2)])
def test_recipe_learns(model_type: str, horizon: int) -> None:
    torch.manual_seed(0)
    network, recipe = SimVP(**TINY | {"model_type": model_type}), VideoPredictionRecipe(lr=1e-2)
    batch = recipe.sample_batch(network)
    batch["target"] = batch["frames"][:, :1].expand(-1, horizon, -1, -1, -1)
    [(optimizer, scheduler)] = recipe.optimizers(network, 15)
    history = []
    for step in range(15):
        losses = recipe.losses(network, batch, step)
        assert list(losses) == ["mse"]
        optimizer.zero_grad()
        losses["mse"].backward()
        optimizer.step()
        scheduler.step()
        history.append(losses["mse"].item())
    assert history[-1] < 0.6 * history[0]
    assert all(parameter.grad is not None for parameter in network.parameters())


# --- checkpoints ------------------------------------------------------------------------------------------------------

GRID = [
    {"in_shape": (frames, channels, 64, 64), "hid_S": hid_S, "hid_T": hid_T, "N_S": N_S, "N_T": N_T}
    | {"spatio_kernel_enc": enc, "spatio_kernel_dec": dec, "mlp_ratio": ratio}
    for ((frames, channels), (hid_S, hid_T)), ((N_S, N_T), (enc, dec, ratio)) in itertools.product(
        # 4 * 8 is 32, and 4 * 16 is 64: no `reduction` there
        [((4, 1), (8, 32)), ((1, 3), (16, 64)), ((4, 1), (4, 36)), ((1, 3), (8, 24))],
        [((2, 2), (3, 3, 8.0)), ((6, 4), (5, 1, 2.7)), ((2, 3), (1, 7, 1.5))],
    )
]
NETWORKS = {"gsta": SimVP, "incepu": SimVP, "tau": TAU}


def on_meta(model_type: str, config: dict[str, Any]) -> dict[str, Tensor]:
    with torch.device("meta"):
        chosen = {} if model_type == "tau" else {"model_type": model_type}
        return NETWORKS[model_type](**config, **chosen).state_dict()


@pytest.mark.parametrize("model_type", NETWORKS)
def test_configuration_is_recovered_from_the_tensors(model_type: str) -> None:
    for config in GRID:
        state = on_meta(model_type, config)
        found = {"simvp": OpenSTLSimVP().detect(state), "tau": OpenSTLTAU().detect(state)}
        detected = found.pop("tau" if model_type == "tau" else "simvp")
        assert list(found.values()) == [None]
        assert detected is not None
        assert detected.pop("model_type", "tau") == model_type
        if model_type == "incepu":
            config = config | {"mlp_ratio": 8.0}  # not in its tensors, and not used
        assert detected == config | {"drop": 0.0, "drop_path": 0.0}


@pytest.mark.parametrize("ratio", [1.0, 0.5, 4.0, 8.0, 2.7, 1.15, 4 / 3, math.pi, 2.99, 7.999])
def test_mlp_ratio_gives_the_same_network(ratio: float) -> None:
    for channels, hid_T in ((3, 100), (4, 7), (10, 512), (1, 640)):
        config = TINY | {"in_shape": (channels, 1, 16, 16), "hid_S": 4, "hid_T": hid_T, "mlp_ratio": ratio}
        state = on_meta("gsta", config)
        detected = OpenSTLSimVP().detect(state)
        assert detected is not None
        again = on_meta("gsta", {key: value for key, value in detected.items() if key != "model_type"})
        assert {k: v.shape for k, v in again.items()} == {k: v.shape for k, v in state.items()}


def test_golden_state_is_detected_and_converted(golden: Official) -> None:
    known = OpenSTLTAU() if golden.model_type == "tau" else OpenSTLSimVP()
    config = known.detect(golden.state)
    assert config is not None
    assert config["in_shape"][:2] == tuple(golden.config["in_shape"][:2])
    expected = {key: value for key, value in golden.config.items() if key not in ("in_shape", "drop_path")}
    assert {key: config[key] for key in expected} == expected
    assert known.convert(golden.state, config) == golden.state
    assert any("64x64" in sentence for sentence in known.unknown(config))


@pytest.mark.parametrize("model_type", NETWORKS)
def test_missing_added_and_reshaped_tensors_are_noticed(model_type: str) -> None:
    known = OpenSTLTAU() if model_type == "tau" else OpenSTLSimVP()
    state = on_meta(model_type, TINY | {"hid_T": 12})

    assert not unnoticed(known, state, "OpenSTL")
    weight = "enc.enc.0.conv.conv.weight"
    longer = on_meta(model_type, TINY | {"hid_T": 12, "N_T": 3})
    shorter = {key: value for key, value in longer.items() if not key.startswith(("hid.enc.2.", "hid.dec.2."))}
    for changed in (state | {weight: state[weight].flatten(1)}, shorter):
        with pytest.raises(FormatError, match="OpenSTL"):
            known.detect(changed)


def test_other_networks_are_not_claimed() -> None:
    gsta = on_meta("gsta", TINY)
    gate = "attn.spatial_gating_unit.conv1."
    van = {key: value[: len(value) // 2] if gate in key else value for key, value in gsta.items()}
    first = {key.replace("conv.conv.0.", "conv.conv."): value for key, value in on_meta("incepu", TINY).items()}
    mixer = {key.replace("hid.enc.0.block.attn", "hid.enc.0.block.mixer"): value for key, value in gsta.items()}
    for translator in (van, mixer):  # VAN has gSTA's names
        with pytest.raises(FormatError, match="its translator is none that stzoo has"):
            OpenSTLSimVP().detect(translator)
        assert OpenSTLTAU().detect(translator) is None
    others = {
        "the first SimVP code, whose names are almost IncepU's": first,
        "only an encoder": {key: value for key, value in gsta.items() if key.startswith("enc.")},
        "something else": nn.Linear(1, 1).state_dict(),
        "nothing": {},
    }
    for name, state in others.items():
        assert OpenSTLSimVP().detect(state) is None, name
        assert OpenSTLTAU().detect(state) is None, name
