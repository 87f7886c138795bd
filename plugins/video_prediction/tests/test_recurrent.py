"""ConvLSTM and PredRNN against what the official code computes, their checkpoints, their recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import Golden, unnoticed
from safetensors.torch import load_file
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError, WeightsMismatch
from stzoo_video_prediction import convlstm, predrnn
from stzoo_video_prediction.convlstm import ConvLSTM, OpenSTLConvLSTM
from stzoo_video_prediction.predrnn import OpenSTLPredRNN, PredRNN
from stzoo_video_prediction.recurrent import RecurrentPredictor, ScheduledSamplingRecipe, from_patches, to_patches

GOLDENS = Path(__file__).parent / "goldens"
NETWORKS: dict[str, type[RecurrentPredictor]] = {"convlstm": ConvLSTM, "predrnn": PredRNN}
TINY: dict[str, Any] = {
    "in_shape": (3, 2, 8, 12), "frames_out": 2, "patch_size": 2, "num_hidden": (4, 4), "filter_size": 3,
}  # fmt: skip


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def network(name: str, **change: Any) -> RecurrentPredictor:
    torch.manual_seed(0)
    return NETWORKS[name](**TINY | change)


# --- what the official code computes ----------------------------------------------------------------------------------


class Official(Golden):
    """A small network in the official code: its checkpoint, frames, outputs and loss."""

    def __init__(self, name: str, folder: Path, wrapped: bool = False) -> None:
        super().__init__(GOLDENS / name)
        made = self.facts["constructor"]
        self.given, self.ahead = made["T"], made["aft"]
        self.file = folder / f"{name}.ckpt"
        state = {f"model.{key}": value for key, value in self.state.items()}
        torch.save({"epoch": 1, "state_dict": state} if wrapped else self.state, self.file)
        self.frames = self.tensors["frames"]
        self.expected = {
            "num_hidden": tuple(made["num_hidden"]),
            "patch_size": made["patch_size"],
            "filter_size": made["filter_size"],
            "layer_norm": bool(made["layer_norm"]),
        }


CASES = [
    ("convlstm-A", {"cell": "standard"}, "output"),
    ("convlstm-A", {"cell": "v0.3"}, "output_v0.3_cell_h_eq_o_times_g"),
    ("convlstm-A-ln", {"cell": "standard"}, "output"),
    ("convlstm-A-ln", {"cell": "v0.3"}, "output_v0.3_cell_h_eq_o_times_g"),
    ("predrnn-A", {}, "output"),
]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("name", "stated", "output"), CASES)
def test_outputs_are_the_official_ones(
    name: str, stated: dict[str, str], output: str, wrapped: bool, tmp_path: Path
) -> None:
    golden = Official(name, tmp_path, wrapped)
    predictor = stzoo.import_checkpoint(golden.file, device="cpu", **stated)
    module = predictor.module
    assert predictor.architecture.name == name.partition("-")[0]
    assert {key: predictor.config[key] for key in golden.expected} == golden.expected
    given, ahead = golden.frames[:, : golden.given], golden.frames[:, golden.given :]
    with torch.inference_mode():
        close(module.rollout(given, golden.ahead), golden.tensors[output])
        everything = module.unroll(given, golden.ahead)
    close(everything[:, golden.given - 1 :], golden.tensors[output])
    recipe = ScheduledSamplingRecipe(sampling_start=0.0)
    loss = recipe.losses(module, {"frames": given, "target": ahead}, 0)["mse"]
    if output == "output":
        assert loss.item() == pytest.approx(golden.facts["loss_all_steps"], rel=1e-5)


def test_patches_are_the_official_ones() -> None:
    golden = load_file(GOLDENS / "openstl-reshape_patch.safetensors")
    frames, patches = golden["x"].permute(0, 1, 4, 2, 3), golden["p2"].permute(1, 0, 4, 2, 3)
    assert torch.equal(to_patches(frames, 2), patches)
    assert torch.equal(from_patches(patches, 2), frames)


def naive(module: RecurrentPredictor, frames: Tensor, horizon: int, truth: Tensor, mask: Tensor) -> Tensor:
    """The official loop: one frame, one layer, one convolution at a time, from a state of zeros."""
    x = to_patches(torch.cat((frames, truth), 1), module.patch_size)
    zeros = [x.new_zeros(x.shape[1], c.conv_h[0].in_channels, *x.shape[3:]) for c in module.cell_list]
    h, c, m, outputs = list(zeros), list(zeros), zeros[0], []
    for t in range(frames.shape[1] - 1 + horizon):
        y = x[t]
        if t >= frames.shape[1]:
            flags = mask[:, t - frames.shape[1]].float()[:, None, None, None]
            y = flags * x[t] + (1 - flags) * outputs[-1]
        for layer, cell in enumerate(module.cell_list):
            parts = [cell.conv_x(y), cell.conv_h(h[layer])]
            if isinstance(module, ConvLSTM):
                i, f, g, o = sum(parts).chunk(4, 1)
            else:
                i, f, g, i2, f2, g2, o = parts[0].chunk(7, 1)
                i, f, g, o = (a + b for a, b in zip((i, f + 1, g, o), parts[1].chunk(4, 1), strict=True))
                i2, f2, g2 = (a + b for a, b in zip((i2, f2 + 1, g2), cell.conv_m(m).chunk(3, 1), strict=True))
                m = f2.sigmoid() * m + i2.sigmoid() * g2.tanh()
            c[layer] = f.sigmoid() * c[layer] + i.sigmoid() * g.tanh()
            if isinstance(module, ConvLSTM):
                h[layer] = o.sigmoid() * c[layer].tanh()
            else:
                both = torch.cat((c[layer], m), 1)
                h[layer] = (o + cell.conv_o(both)).sigmoid() * cell.conv_last(both).tanh()
            y = h[layer]
        outputs.append(module.conv_last(y))
    return from_patches(torch.stack(outputs), module.patch_size)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_the_plain_loop(name: str, layer_norm: bool) -> None:
    module = network(name, layer_norm=layer_norm)
    clip, mask = torch.rand(3, 7, 2, 8, 12), torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.bool)
    frames, truth = clip[:, :3], clip[:, 3:]
    found = []
    for outputs in (module.unroll(frames, 4, truth, mask), naive(module, frames, 4, truth, mask)):
        module.zero_grad()
        (outputs - clip[:, 1:]).square().mean().backward()
        found.append((outputs.detach(), {key: p.grad.clone() for key, p in module.named_parameters()}))
    close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-7)


# --- network ----------------------------------------------------------------------------------------------------------

UNUSED = {"convlstm": lambda width: 4 * (25 + 1) * 2 * width**2, "predrnn": lambda width: 0}
"""Parameters that the official networks have and never use."""
PARAMETERS = {"convlstm": {"mmnist-s": 15.0, "mmnist-l": 33.8, "taxibj-s": 14.98}, "predrnn": {"mmnist": 23.8}}


@pytest.mark.parametrize("name", NETWORKS)
def test_published_configurations(name: str) -> None:
    published = {"convlstm": convlstm.PUBLISHED, "predrnn": predrnn.PUBLISHED}[name]
    assert set(PARAMETERS[name]) < set(published)
    for variant, settings in published.items():
        with torch.device("meta"):
            built = NETWORKS[name](**settings["config"])
        count = sum(p.numel() for p in built.parameters()) + UNUSED[name](settings["config"]["num_hidden"][0])
        if millions := PARAMETERS[name].get(variant):
            assert count == pytest.approx(1e6 * millions, abs=1e5), variant
        ScheduledSamplingRecipe(**settings["recipe"])


@pytest.mark.parametrize("name", NETWORKS)
def test_any_length_size_horizon_and_batch(name: str) -> None:
    module = network(name).eval()
    with torch.inference_mode():
        for batch, given, horizon, height, width in ((1, 1, 1, 2, 2), (2, 5, 9, 8, 10), (1, 3, 2, 16, 8)):
            frames = torch.rand(batch, given, 2, height, width)
            assert module.rollout(frames, horizon).shape == (batch, horizon, 2, height, width)
            assert module.unroll(frames, horizon).shape == (batch, given - 1 + horizon, 2, height, width)
        frames = torch.rand(2, 3, 2, 8, 12)
        longer = module.rollout(frames, 6)
        close(longer[:, :2], module(frames))
        close(longer[1:], module.rollout(frames[1:], 6))
        assert module(torch.full((1, 3, 2, 8, 12), 0.5)).isfinite().all()
        assert module(torch.full((1, 3, 2, 8, 12), torch.nan)).isnan().all()
    needs = module.requirements
    assert (needs.frames_in, needs.frames_out, needs.channels, needs.minimum, needs.multiple) == (3, 2, 2, 2, 2)


@pytest.mark.parametrize(
    "shape", [(1, 3, 1, 8, 12), (1, 0, 2, 8, 12), (1, 3, 2, 9, 12), (1, 3, 2, 8, 0), (3, 2, 8, 12)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"2 channels.*multiples of 2"):
        network(name)(torch.zeros(shape))
    with pytest.raises(InputError, match="horizon"):
        network(name).rollout(torch.zeros(1, 3, 2, 8, 12), 0)
    with pytest.raises(InputError, match="layer_norm ties"):
        network(name, layer_norm=True)(torch.zeros(1, 3, 2, 8, 8))


@pytest.mark.parametrize(
    "change",
    [
        {"in_shape": (3, 2, 9, 12)}, {"in_shape": (0, 2, 8, 12)}, {"frames_out": 0}, {"patch_size": 0},
        {"num_hidden": ()}, {"num_hidden": (4, 0)}, {"num_hidden": (4, 2.0)}, {"filter_size": 4},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", NETWORKS)
def test_values_that_do_not_fit_are_refused_by_name(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        network(name, **change)


def test_what_only_one_of_them_refuses() -> None:
    network("convlstm", num_hidden=(4, 6))
    with pytest.raises(ConfigError, match="num_hidden must be the same"):
        network("predrnn", num_hidden=(4, 6))
    with pytest.raises(ConfigError, match=r"cell must be 'standard' or 'v0\.3'"):
        ConvLSTM(**TINY, cell="v0.2")


# --- recipe -----------------------------------------------------------------------------------------------------------


def test_sampling_falls_as_officially() -> None:
    recipe = ScheduledSamplingRecipe()
    assert [recipe.probability(step) for step in (0, 24_999, 49_999, 60_000)] == pytest.approx([1 - 2e-5, 0.5, 0, 0])
    recipe = ScheduledSamplingRecipe(sampling_share=0.5)
    recipe.optimizers(network("convlstm"), 40)
    assert [recipe.probability(step) for step in (9, 19, 39)] == pytest.approx([0.5, 0, 0])


def test_true_frames_are_shown_as_often_as_it_says_and_the_same_at_every_repetition() -> None:
    class Spy(torch.nn.Module):
        def unroll(self, frames: Tensor, horizon: int, truth: Tensor, mask: Tensor | None) -> Tensor:
            masks.append(mask)
            return torch.zeros(len(frames), frames.shape[1] - 1 + horizon, 1, 1, 1)

    masks: list[Tensor | None] = []
    recipe, clip = ScheduledSamplingRecipe(sampling_steps=100), torch.rand(400, 6, 1, 1, 1)
    batch = {"frames": clip[:, :2], "target": clip[:, 2:]}
    for step in (24, 24, 99):
        torch.manual_seed(3)
        loss = recipe.losses(Spy(), batch, step)["mse"]
    assert loss.item() == pytest.approx(clip[:, 1:].square().mean().item())
    assert masks[0] is not None and masks[1] is not None and masks[0].shape == (400, 3)
    assert masks[0].float().mean().item() == pytest.approx(0.75, abs=0.04)
    assert torch.equal(masks[0], masks[1])
    assert masks[2] is None


@pytest.mark.parametrize(
    "wrong", [{"sampling_start": 1.5}, {"sampling_steps": 0}, {"sampling_share": -0.1}, {"lr": 0.0}]
)
def test_recipe_refuses_bad_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ScheduledSamplingRecipe(**wrong)


@pytest.mark.parametrize(
    ("name", "change"),
    [("convlstm", {}), ("convlstm", {"cell": "v0.3"}), ("predrnn", {}), ("predrnn", {"layer_norm": True})],
)
def test_recipe_learns(name: str, change: dict[str, Any]) -> None:
    module, recipe = network(name, **change), ScheduledSamplingRecipe(lr=2e-2, sampling_share=0.5)
    batch = recipe.sample_batch(module)
    batch["target"] = batch["frames"][:, :1].expand(-1, 3, -1, -1, -1)
    [(optimizer, schedule)] = recipe.optimizers(module, 25)
    history = []
    for step in range(25):
        losses = recipe.losses(module, batch, step)
        optimizer.zero_grad()
        losses["mse"].backward()
        optimizer.step()
        schedule.step()
        history.append(losses["mse"].item())
    assert history[-1] < 0.7 * history[0]
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_reduced_precision_stays_close() -> None:
    for name in NETWORKS:
        module, frames = network(name).eval(), torch.rand(1, 3, 2, 8, 12)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            reduced = module(frames)
        torch.testing.assert_close(reduced.float(), module(frames).detach(), rtol=0.05, atol=0.02)


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_the_cell_is_asked_for(tmp_path: Path) -> None:
    golden = Official("convlstm-A", tmp_path)
    with pytest.raises(FormatError, match=r"cannot tell cell(.|\n)*v0\.3"):
        stzoo.import_checkpoint(golden.file)
    predictor = stzoo.import_checkpoint(golden.file, cell="v0.3")
    assert any(note.startswith("cell: 'v0.3'") for note in predictor.report.notes)
    with pytest.raises(ConfigError, match="cell"):
        stzoo.import_checkpoint(golden.file, cell="v0.2")


def test_patches_of_another_size_can_be_stated(tmp_path: Path) -> None:
    golden = Official("convlstm-A", tmp_path)
    stated = stzoo.import_checkpoint(golden.file, cell="standard", patch_size=1, in_shape=(4, 8, 8, 8), frames_out=3)
    assert stated.module(torch.rand(1, 4, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    with pytest.raises(WeightsMismatch):
        stzoo.import_checkpoint(golden.file, cell="standard", patch_size=1)


GRID = [
    {"in_shape": (10, channels, 64, 64), "frames_out": 10, "patch_size": patch, "num_hidden": hidden}
    | {"filter_size": kernel, "layer_norm": norm}
    for channels, patch in ((1, 4), (2, 2), (3, 4), (3, 2), (1, 2), (1, 8))
    for hidden in ((8,), (6, 6, 6))
    for kernel, norm in ((5, False), (3, True))
]
FORMATS = {"convlstm": OpenSTLConvLSTM, "predrnn": OpenSTLPredRNN}


@pytest.mark.parametrize("name", NETWORKS)
def test_configuration_is_recovered_from_the_tensors(name: str) -> None:
    for config in GRID:
        with torch.device("meta"):
            state = NETWORKS[name](**config).state_dict()
        assert {other: known().detect(state) for other, known in FORMATS.items()} == {
            other: config if other == name else None for other in FORMATS
        }


@pytest.mark.parametrize("name", ["convlstm-A", "convlstm-A-ln", "predrnn-A"])
def test_missing_added_and_reshaped_tensors_are_noticed(name: str, tmp_path: Path) -> None:
    state, known = Official(name, tmp_path).state, FORMATS[name.partition("-")[0]]()
    assert known.detect(state) == known.detect(used := known.convert(state, {}))
    assert not unnoticed(known, used, "OpenSTL", every=2)
    if name == "predrnn-A":
        assert known.detect(state | {"adapter.weight": torch.zeros(2, 2, 1, 1)}) is None  # PredRNN-v2 has one
    assert known.detect({"weight": torch.zeros(1)}) is None
