"""PhyDNet against what the official code computes, its checkpoints, its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import Golden, given, unnoticed
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_video_prediction.phydnet import PUBLISHED, LSTMGates, PhyDNet
from stzoo_video_prediction.phydnet_checkpoints import OfficialPhyDNet, OpenSTLPhyDNet
from stzoo_video_prediction.phydnet_training import PhyDNetRecipe, kernel_to_moments, moment_loss, moment_matrix

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {
    "in_shape": (3, 2, 8, 8),
    "frames_out": 2,
    "patch_size": 2,
    "nf": 16,
    "kernel_size": 3,
    "hidden_dims": (8, 32),
}


def tiny(**changes: Any) -> PhyDNet:
    torch.manual_seed(0)
    return PhyDNet(**TINY | changes).eval()


# --- what the official code computes ----------------------------------------------------------------------------------


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


REFERENCE = Golden(GOLDENS / "phydnet-A")
FACTS = REFERENCE.facts
MOMENTS = Golden(GOLDENS / "phydnet-moments").tensors


def openstl_state() -> dict[str, Tensor]:
    """The state dict of the golden, as OpenSTL saves it: with copies, and with the constants of K2M."""
    state, matrix = REFERENCE.state, moment_matrix(7)
    return state | {key: matrix.inverse() if "inv" in key else matrix for key in state if key.startswith("k2m.")}


@pytest.fixture(params=["OpenSTL", "official"])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> PhyDNet:
    """The golden's network, imported from a file in either layout."""
    state = openstl_state()
    if request.param == "official":
        state = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "golden.pth")
    predictor = stzoo.import_checkpoint(tmp_path / "golden.pth", device="cpu")
    assert predictor.architecture.name == "phydnet"
    network: PhyDNet = predictor.module  # type: ignore[assignment]
    assert network.in_shape[1] == 2
    assert network.multiple == 2
    return network


def clip(name: str) -> Tensor:
    return given(name, (2, 4, 2, 16, 16))


def test_outputs_are_the_official_ones(golden: PhyDNet) -> None:
    expected, frames = REFERENCE.tensors, clip("phydnet-A")
    torch.testing.assert_close(frames, expected["input"])
    with torch.inference_mode():
        close(golden.rollout(frames, 4), expected["output"])
        close(golden.rollout(frames, 2), expected["rollout_4to2"])
        close(golden.rollout(frames, 12), expected["rollout_4to12"])
        every = golden.unroll(frames, 4)
        close(every[:, 3:], expected["output"])
        parts = golden.branches(frames, 4)
        close(parts["video"], every)
        close(parts["video"][:, 0], expected["step0.output_image"])
        close(parts["physical"][:, 0], expected["step0.out_phys"])
        close(parts["residual"][:, 0], expected["step0.out_conv"])


@pytest.mark.parametrize("forcing", [0.0, 1.0])
def test_training_loss_and_gradients_are_the_official_ones(golden: PhyDNet, forcing: float) -> None:
    expected = FACTS[f"train_loss_teacher_forcing_{forcing}"]
    recipe = PhyDNetRecipe(forcing=forcing)
    recipe.optimizers(golden, 10)
    losses = recipe.losses(golden, {"frames": clip("phydnet-A"), "target": clip("phydnet-A:target")}, 0)
    total = sum(losses.values(), torch.zeros(()))
    total.backward()
    assert total.item() == pytest.approx(expected["loss"], rel=1e-5)
    assert losses["moments"].item() == pytest.approx(FACTS["moment_loss_sum_over_64_input_channels"], rel=1e-5)
    norms = {name: parameter.grad.norm().item() for name, parameter in golden.named_parameters()}
    official = {name.removeprefix("encoder."): norm for name, norm in expected["grad_norms"].items()}
    assert norms == pytest.approx(official, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("size", ["7x7", "5x5", "3x5"])
def test_moments_are_the_official_ones(size: str) -> None:
    torch.testing.assert_close(kernel_to_moments(MOMENTS[f"{size}.kernel"]), MOMENTS[f"{size}.moments"])
    torch.testing.assert_close(moment_matrix(int(size[0])), MOMENTS[f"{size}.M0"])


def test_moment_loss_and_its_gradient_are_the_official_ones() -> None:
    weight = MOMENTS["F_conv1_weight"].clone().requires_grad_()
    loss = moment_loss(weight)
    loss.backward()
    assert loss.item() == pytest.approx(MOMENTS["moment_loss"].item(), rel=1e-6)
    torch.testing.assert_close(weight.grad[:, ::8], MOMENTS["moment_loss_grad_strided8"], rtol=1e-4, atol=1e-6)


def test_moments_tell_partial_derivatives() -> None:
    laplace = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    # Second derivatives down and across, and a sixth-order rest that mixes none.
    assert kernel_to_moments(laplace).tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
    ideal = torch.linalg.inv(kernel_to_moments(torch.eye(9).view(9, 3, 3)).view(9, 9)).view(9, 1, 3, 3)
    assert moment_loss(ideal.expand(9, 4, 3, 3)).item() < 1e-10
    assert moment_loss(ideal.expand(9, 4, 3, 3) + 0.1).item() > 1e-2


# --- network ----------------------------------------------------------------------------------------------------------

PARAMETERS = {"mmnist": 3_091_732, "taxibj": 3_092_309}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations(name: str) -> None:
    with torch.device("meta"):
        network = PhyDNet(**PUBLISHED[name]["config"])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == PARAMETERS.get(name, count)
    assert network.requirements.frames_out == PUBLISHED[name]["config"]["frames_out"]
    PhyDNetRecipe(**PUBLISHED[name]["recipe"])


@pytest.mark.parametrize("patch_size", [2, 4])
@pytest.mark.parametrize("given", [1, 2, 7])
def test_any_length_any_horizon_any_multiple(patch_size: int, given: int) -> None:
    network = tiny(patch_size=patch_size)
    frames = torch.rand(2, given, 2, 3 * patch_size, 5 * patch_size)
    with torch.inference_mode():
        assert network(frames).shape == (2, 2, *frames.shape[2:])
        longer = network.rollout(frames, 5)
        assert longer.shape == (2, 5, *frames.shape[2:])
        assert 0 < longer.min() < longer.max() < 1
        close(network(frames), longer[:, :2])
        close(network.unroll(frames, 5)[:, given - 1 :], longer)
        close(network.rollout(frames[1:], 5), longer[1:])  # a batch of one


def test_nothing_is_kept_between_calls() -> None:
    network, frames = tiny(), torch.rand(2, 3, 2, 8, 8)
    with torch.inference_mode():
        first = network(frames)
        network(torch.rand(1, 4, 2, 16, 8))
        assert torch.equal(network(frames), first)
    assert not list(network.buffers())


def test_teacher_forcing_feeds_the_truth() -> None:
    network, frames, truth = tiny(), torch.rand(2, 3, 2, 8, 8), torch.rand(2, 3, 2, 8, 8)
    forced, free = network.unroll(frames, 3, truth), network.unroll(frames, 3)
    close(forced[:, :3], free[:, :3])  # up to the first prediction both see the same
    assert (forced[:, 3:] - free[:, 3:]).abs().max() > 1e-4
    close(forced[:, 4], network.rollout(torch.cat((frames, truth[:, :2]), dim=1), 1)[:, 0])
    close(network.unroll(frames, 3, free[:, 2:]), free)  # its own predictions as the truth
    with pytest.raises(InputError, match="truth"):
        network.unroll(frames, 3, truth[:, :2])


def test_constant_input_and_nan() -> None:
    network = tiny()
    with torch.inference_mode():
        for value in (0.0, 0.5, 1.0):
            assert network(torch.full((1, 3, 2, 8, 8), value)).isfinite().all()
        frames = torch.rand(2, 3, 2, 8, 8)
        frames[0, 1] = torch.nan
        result = network(frames)
        assert result[0].isnan().all()
        assert result[1].isfinite().all()  # the rest of the batch does not suffer


def test_requirements_hold() -> None:
    for patch_size in (2, 4):
        needs = tiny(patch_size=patch_size).requirements
        assert (needs.frames_in, needs.frames_out, needs.channels, needs.multiple) == (3, 2, 2, patch_size)
        side = needs.minimum
        assert tiny(patch_size=patch_size)(torch.rand(1, 1, 2, side, side)).isfinite().all()


@pytest.mark.parametrize(
    "shape", [(1, 3, 1, 8, 8), (1, 3, 3, 8, 8), (1, 3, 2, 9, 8), (1, 3, 2, 8, 7), (3, 2, 8, 8), (1, 0, 2, 8, 8)]
)
def test_inputs_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"2 channels.*multiples of 2"):
        tiny()(torch.zeros(shape))
    with pytest.raises(InputError, match="horizon"):
        tiny().rollout(torch.zeros(1, 3, 2, 8, 8), 0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"in_shape": (0, 1, 8, 8)}, "in_shape"),
        ({"in_shape": (3, 1, 9, 8)}, "in_shape"),
        ({"frames_out": 0}, "frames_out"),
        ({"patch_size": 8}, "patch_size"),
        ({"nf": 24}, "nf"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"kernel_size": 1}, "kernel_size"),
        ({"hidden_dims": (8, 16)}, "hidden_dims"),
        ({"hidden_dims": ()}, "hidden_dims"),
        ({"hidden_dims": (0, 32)}, "hidden_dims"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        PhyDNet(**TINY | change)


# --- recipe -----------------------------------------------------------------------------------------------------------


def test_teacher_forcing_ends_when_it_should() -> None:
    recipe = PhyDNetRecipe(forcing=0.5)
    recipe.optimizers(tiny(), 100)
    assert [recipe.forcing_at(step) for step in (0, 25, 50, 99)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    official = PhyDNetRecipe(**PUBLISHED["mmnist"]["recipe"])
    official.optimizers(tiny(), 200 * 625)
    assert official.forcing_at(100 * 625) == pytest.approx(1 - 0.003 * 100)
    never = PhyDNetRecipe(forcing=0.0)
    never.optimizers(tiny(), 100)
    assert never.forcing_at(0) == 0.0


@pytest.mark.parametrize("wrong", [{"forcing": -0.1}, {"moments": -1.0}, {"schedule": "plateau"}, {"lr": 0.0}])
def test_recipe_refuses_bad_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PhyDNetRecipe(**wrong)


@pytest.mark.parametrize("horizon", [1, 4])
def test_recipe_learns(horizon: int) -> None:
    network, recipe = tiny().train(), PhyDNetRecipe(lr=1e-2, moments=0.1)
    batch = recipe.sample_batch(network)
    batch["frames"] = batch["frames"][:, :1].expand(-1, 3, -1, -1, -1)
    batch["target"] = batch["frames"][:, :1].expand(-1, horizon, -1, -1, -1)
    [(optimizer, scheduler)] = recipe.optimizers(network, 20)
    history = []
    for step in range(20):
        losses = recipe.losses(network, batch, step)
        assert list(losses) == ["mse", "moments"]
        total = sum(losses.values(), torch.zeros(()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        scheduler.step()
        history.append(total.item())
    assert history[-1] < 0.8 * history[0]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_gates_have_the_gradient_of_their_formula() -> None:
    torch.manual_seed(0)
    gates, memory = (torch.randn(2, n, 3, 2, dtype=torch.float64, requires_grad=True) for n in (8, 2))
    assert torch.autograd.gradcheck(LSTMGates.apply, (gates, memory))
    assert torch.autograd.gradcheck(lambda x: LSTMGates.apply(x, None), (gates,))


def test_teacher_forcing_is_drawn_from_the_seeded_generator() -> None:
    network, recipe = tiny(), PhyDNetRecipe(forcing=1.0)
    batch = recipe.sample_batch(network)
    recipe.optimizers(network, 10)

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return recipe.losses(network, batch, 5)["mse"].item()

    losses = [loss(seed) for seed in range(12)]
    assert len(set(losses)) == 2  # forced or free, for the whole batch
    assert [loss(seed) for seed in range(12)] == losses


# --- checkpoints ------------------------------------------------------------------------------------------------------


def on_meta(**changes: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        return PhyDNet(**TINY | changes).state_dict()


def as_openstl(state: dict[str, Tensor]) -> dict[str, Tensor]:
    copies = {key: value for key, value in state.items() if key.startswith(("phycell.", "convcell."))}
    constants = {f"k2m.{name}": torch.empty(7, 7, dtype=torch.float64) for name in ("_M0", "_invM0", "_M1", "_invM1")}
    return copies | {f"encoder.{key}": value for key, value in state.items()} | constants


@pytest.mark.parametrize("hidden_dims", [(32,), (8, 32), (128, 128, 32)])
@pytest.mark.parametrize(("channels", "kernel_size"), [(1, 7), (3, 3)])
def test_configuration_is_recovered_from_the_tensors(
    channels: int, kernel_size: int, hidden_dims: tuple[int, ...]
) -> None:
    state = on_meta(in_shape=(3, channels, 8, 8), kernel_size=kernel_size, hidden_dims=hidden_dims)
    for known, other, layout in (
        (OfficialPhyDNet(), OpenSTLPhyDNet(), state),
        (OpenSTLPhyDNet(), OfficialPhyDNet(), as_openstl(state)),
    ):
        config = known.detect(layout)
        assert config is not None
        assert other.detect(layout) is None
        assert (config["in_shape"][1], config["nf"], config["kernel_size"]) == (channels, 16, kernel_size)
        assert config["hidden_dims"] == hidden_dims
        stated = [note.partition(":")[0] for note in known.unknown(config)]
        assert stated[:3] == ["patch_size", "in_shape", "frames_out"]


def test_what_the_tensors_cannot_tell_can_be_stated(tmp_path: Path) -> None:
    network = tiny(in_shape=(5, 1, 16, 16), frames_out=7)
    torch.save(as_openstl(network.state_dict()), tmp_path / "epoch.pth")
    frames = torch.rand(1, 5, 1, 16, 16)
    assumed = stzoo.import_checkpoint(tmp_path / "epoch.pth", device="cpu")
    assert assumed.config["patch_size"] == 4
    assert any("patch_size: " in note and "4 is assumed" in note for note in assumed.report.notes)
    stated = stzoo.import_checkpoint(
        tmp_path / "epoch.pth", device="cpu", patch_size=2, frames_out=7, in_shape=(5, 1, 16, 16)
    )
    with torch.inference_mode():
        assert torch.equal(stated.module(frames), network(frames))
    stated.save(tmp_path / "saved")
    again = stzoo.load(tmp_path / "saved", device="cpu")
    assert again.config == stated.config


def test_copies_must_be_copies() -> None:
    state, known = as_openstl(tiny().state_dict()), OpenSTLPhyDNet()
    config = known.detect(state)
    assert config is not None
    assert known.convert(state, config).keys() == tiny().state_dict().keys()
    without = {key: value for key, value in state.items() if key.startswith("encoder.")}
    assert known.detect(without) == config
    for key in ("phycell.cell_list.0.F.conv1.weight", "convcell.cell_list.1.conv.bias"):
        with pytest.raises(FormatError, match=key):
            known.convert(state | {key: state[key] + 1}, config)
    with pytest.raises(FormatError, match="head.weight"):
        known.detect(state | {"head.weight": torch.zeros(1)})


def test_missing_added_and_reshaped_tensors_are_noticed() -> None:
    known, state = OfficialPhyDNet(), on_meta()

    assert not unnoticed(known, state, "PhyDNet")
    assert known.detect({}) is None
    assert OpenSTLPhyDNet().detect({}) is None
