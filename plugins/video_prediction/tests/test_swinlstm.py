"""SwinLSTM against what the official code computes, its checkpoints, its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import Golden, given, unnoticed
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.linear import Linear
from stzoo_video_prediction.swinlstm import PUBLISHED, Plan, SwinLSTM, SwinLSTMRecipe
from stzoo_video_prediction.swinlstm_checkpoints import OfficialSwinLSTM

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("swinlstm-B-A", "swinlstm-D-A", "swinlstm-B-openstl-A", "swinlstm-D-openstl-A")
TINY: dict[str, Any] = {"in_shape": (3, 1, 16, 16), "frames_out": 2, "embed_dim": 8, "window_size": 2, "heads": (2, 2)}
B = TINY | {"model_type": "b", "depths": (3, 2)}
D = TINY | {"model_type": "d", "depths_down": (2, 3), "depths_up": (3, 2)}
BOTH = pytest.mark.parametrize("config", [B, D], ids=["b", "d"])


# --- what the official code computes ----------------------------------------------------------------------------------


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Facts, tensors and state dict of a small network in the official code or in OpenSTL."""
    found = Golden(GOLDENS / name)
    return found.facts, found.tensors, found.state


def without_buffers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if "attn_mask" not in key and "position_index" not in key}


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def imported(state: dict[str, Tensor], folder: Path, **config: Any) -> stzoo.Predictor:
    save_file(state, path := folder / "network.safetensors")
    return stzoo.import_checkpoint(path, device="cpu", **config)


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_official_ones(name: str, buffers: bool, tmp_path: Path) -> None:
    facts, tensors, state = golden(name)
    predictor = imported(state if buffers else without_buffers(state), tmp_path)
    network = predictor.module
    frames = tensors["input"] if "input" in tensors else tensors["frames"][:, :4]
    predicted = tensors["output"].shape[1]
    with torch.inference_mode():
        close(network.unroll(frames, predicted), tensors["outputs_all_steps"])
        close(network.rollout(frames, predicted), tensors["output"])
        for case in (case for case in tensors if case.startswith("rollout_")):
            close(network.rollout(frames, int(case.rpartition("to")[2])), tensors[case])
    close(network.unroll(frames, predicted).detach(), tensors["outputs_all_steps"])  # as in training
    if "loss_all_steps" in facts:
        batch = {"frames": frames, "target": tensors["frames"][:, 4:]}
        assert SwinLSTMRecipe().losses(network, batch, 0)["mse"].item() == pytest.approx(
            facts["loss_all_steps"], rel=1e-4
        )


@pytest.mark.parametrize("name", NAMES[:2])
def test_gradients_are_the_official_ones(name: str, tmp_path: Path) -> None:
    facts, tensors, state = golden(name)
    network, expected = imported(state, tmp_path).module, facts["eval_mode_grad"]
    batch = {"frames": tensors["input"], "target": given(facts["target_name"], tensors["output"].shape)}
    loss = SwinLSTMRecipe().losses(network, batch, 0)["mse"]
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-4)
    # Every official name is found again by its tensor: what has a gradient there has the same one here.
    gradients = {value.detach().sum().item(): value.grad.norm().item() for value in network.parameters()}
    norms = {key: gradients[state[key].sum().item()] for key in expected["grad_norms"]}
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-3, abs=1e-6)
    assert len(norms) == len(list(network.parameters()))


# --- network ----------------------------------------------------------------------------------------------------------


def test_published_configurations() -> None:
    own, official = {}, {}
    for name, published in PUBLISHED.items():
        with torch.device("meta"):
            network = SwinLSTM(**published["config"])
        own[name] = sum(parameter.numel() for parameter in network.parameters())
        unused = sum(
            2 * block.norm1.weight.numel() ** 2 + block.norm1.weight.numel()
            for cell in network.cells
            for block in cell.blocks
            if block.red is None
        )
        embed = sum(parameter.numel() for parameter in network.embed.parameters())
        official[name] = own[name] + unused + (embed if name.endswith("-d") else 0)
        SwinLSTMRecipe(**published["recipe"])
        assert network.requirements.native_size == published["config"]["in_shape"][2:]
    assert official["mmnist-b"] == 2_778_417
    assert official["mmnist-d"] == 20_191_969


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "c"}, "model_type"),
        ({"in_shape": (3, 1, 16)}, "in_shape"),
        ({"in_shape": (3, 1, 18, 16)}, "in_shape"),
        ({"frames_out": 0}, "frames_out"),
        ({"patch_size": 0}, "patch_size"),
        ({"window_size": 0}, "window_size"),
        ({"embed_dim": 9}, "heads"),
        ({"heads": (2,)}, "heads"),
        ({"heads": (2, 0)}, "heads"),
        ({"depths_down": (2, 2.5)}, "depths_down"),
        ({"depths_up": ()}, "depths_up"),
        ({"drop": 1.0}, "drop"),
        ({"attn_drop": -0.1}, "attn_drop"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"mlp_ratio": 0.05}, "mlp_ratio"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SwinLSTM(**D | change)


@pytest.mark.parametrize("shape", [(1, 3, 3, 16, 16), (1, 0, 1, 16, 16), (1, 3, 1, 15, 16), (3, 1, 16, 16)])
@BOTH
def test_inputs_that_do_not_fit_are_refused(config: dict[str, Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"1 channels.*multiples of (4|16)"):
        SwinLSTM(**config)(torch.zeros(shape))
    with pytest.raises(InputError, match="horizon"):
        SwinLSTM(**config).rollout(torch.zeros(1, 3, 1, 16, 16), 0)


@BOTH
def test_any_length_horizon_batch_and_size(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = SwinLSTM(**config).eval()
    needs = network.requirements
    assert (needs.frames_in, needs.frames_out, needs.channels, needs.native_size) == (3, 2, 1, (16, 16))
    assert needs.minimum == needs.multiple == (4 if config is B else 16)
    clip = torch.rand(2, 5, 1, 2 * needs.multiple, needs.multiple)
    with torch.inference_mode():
        assert network(clip).shape == (2, 2, *clip.shape[2:])
        for given in (1, 2, 5):
            whole = network.unroll(clip[:, :given], 4)
            assert whole.shape == (2, given + 3, *clip.shape[2:])
            assert torch.equal(network.rollout(clip[:, :given], 4), whole[:, given - 1 :])
        close(network(clip[:1]), network(clip)[:1])
        flat = network.rollout(torch.full((1, 2, 1, 16, 16), 0.5), 4)
    assert torch.isfinite(flat).all()
    assert 0 <= flat.min() <= flat.max() <= 1


@BOTH
def test_at_another_size_it_is_the_network_made_for_that_size(config: dict[str, Any]) -> None:
    """The windows of the smallest maps here are the maps: at the double size they are shifted, as they would be there."""
    torch.manual_seed(0)
    native = SwinLSTM(**config).eval()
    larger = SwinLSTM(**config | {"in_shape": (3, 1, 32, 48)}).eval()
    larger.load_state_dict(native.state_dict())
    clip = torch.rand(1, 3, 1, 32, 48)
    assert torch.equal(native(clip), larger(clip))


@pytest.mark.parametrize("patch", [1, 2, 3, 4, 8])
def test_the_size_of_patches_is_free(patch: int) -> None:
    side = 4 * patch
    network = SwinLSTM(**B | {"in_shape": (2, 3, side, side), "patch_size": patch}).eval()
    clip = torch.rand(1, 2, 3, side, side)
    assert network(clip).shape == clip.shape
    # Every pixel depends on the features, none is the bias alone.
    touched = nn.functional.conv_transpose2d(
        torch.ones(1, 8, 4, 4),
        torch.ones_like(network.unembed.weight),
        stride=patch,
        padding=1,
        output_padding=network.unembed.output_padding,
    )
    assert touched.min() > 0


def test_windows_attend_as_in_a_plain_implementation() -> None:
    """One shifted block against masks made pixel by pixel: tokens meet if they are neighbours without the cyclic shift."""
    torch.manual_seed(0)
    network = SwinLSTM(**B | {"in_shape": (1, 1, 16, 24), "window_size": 4}).eval()
    plan = Plan(network.cells[0], (8, 12), torch.zeros(1))
    assert plan.order is not None
    height, width = plan.size
    assert (height, width) == (8, 12)
    bias = plan.biases[1].reshape(-1, 2, 16, 16)
    table = network.cells[0].blocks[1].attn.relative_position_bias_table
    # window by window order -> row, column
    places = [(4 * (w // 3) + t // 4, 4 * (w % 3) + t % 4) for w in range(6) for t in range(16)]
    for window in range(6):
        tokens = [places[int(plan.order[16 * window + token])] for token in range(16)]
        for i, (y, x) in enumerate(tokens):
            for j, (other_y, other_x) in enumerate(tokens):
                dy, dx = i // 4 - j // 4, i % 4 - j % 4
                apart = (y - other_y, x - other_x) != (dy, dx)
                expected = table[(dy + 3) * 7 + dx + 3] - 100.0 * apart
                close(bias[window, :, i, j], expected)


def test_initialisation_is_the_official_one() -> None:
    torch.manual_seed(0)
    block = SwinLSTM(**D | {"embed_dim": 64, "window_size": 4, "in_shape": (3, 1, 64, 64)}).cells[1].blocks[0]
    assert block.attn.relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.2)
    for layer, inputs in ((block.attn.qkv, 128), (block.mlp.fc2, 512), (block.red, 256)):
        assert layer.weight.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)  # PyTorch's default
        assert layer.bias.any()


def test_stochastic_depth_has_the_official_rates_and_keeps_the_mean() -> None:
    def rates(network: SwinLSTM) -> list[list[float]]:
        return [[round(block.drop_path, 6) for block in cell.blocks] for cell in network.cells]

    # Up: the slices in reverse, each in reverse.
    assert rates(SwinLSTM(**D | {"drop_path": 0.4})) == [[0.0, 0.1], [0.2, 0.3, 0.4], [0.4, 0.3], [0.2, 0.1, 0.0]]
    assert rates(SwinLSTM(**B | {"drop_path": 0.4})) == [[0.4] * 3, [0.4] * 2]
    block = SwinLSTM(**B | {"drop_path": 0.25}).cells[0].blocks[0]
    ones, zeros = torch.ones(4000, 2, 8), torch.zeros(4000, 2, 8)
    torch.manual_seed(0)
    kept = block.train().add(zeros, ones)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(kept, kept[:, :1, :1].expand_as(kept))
    assert torch.equal(block.eval().add(zeros, ones), ones)


@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(3, 7, True), (8, 4, True), (5, 5, False)])
def test_linear_equals_pytorchs_with_its_gradients_and_flops(inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=bias)
    plain = nn.Linear(inputs, outputs, bias=bias)
    plain.load_state_dict(layer.state_dict())
    results = []
    for network in (layer, plain):
        x = torch.linspace(-1, 1, 2 * 3 * inputs).reshape(3, 2, inputs).transpose(0, 1).requires_grad_()
        with FlopCounterMode(display=False) as counter:
            y = network(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, counter.get_total_flops(), *(p.grad for p in network.parameters())])
    close(*results)
    x = torch.rand(2, 4, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64


def test_double_precision_agrees() -> None:
    """The sums in the other order, with PyTorch's own kernels: an implementation of the same network to compare with."""
    torch.manual_seed(0)
    network, clip = SwinLSTM(**D).eval(), torch.rand(2, 3, 1, 16, 16)
    single = network(clip)
    torch.testing.assert_close(single, network.double()(clip.double()).float(), rtol=1e-4, atol=1e-5)


# --- recipe -----------------------------------------------------------------------------------------------------------


@BOTH
def test_recipe_learns(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network, recipe = SwinLSTM(**config).train(), SwinLSTMRecipe(lr=1e-2)
    batch = recipe.sample_batch(network)
    batch["frames"] = torch.tensor([0.1, 0.4])[:, None, None, None, None].expand(2, 3, 1, 16, 16)
    batch["target"] = batch["frames"][:, :2]
    [(optimizer, scheduler)] = recipe.optimizers(network, 6)
    history = []
    with torch.inference_mode():
        network(batch["frames"])  # what is kept for the next call must not stand in the way of training
    for step in range(6):
        losses = recipe.losses(network, batch, step)
        assert list(losses) == ["mse"]
        optimizer.zero_grad()
        losses["mse"].backward()
        optimizer.step()
        scheduler.step()
        history.append(losses["mse"].item())
        assert optimizer.param_groups[0]["lr"] == 1e-2
    assert history[-1] < 0.8 * history[0]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_loss_covers_every_step() -> None:
    network, recipe = SwinLSTM(**B).eval(), SwinLSTMRecipe()
    frames, target = torch.rand(1, 3, 1, 16, 16), torch.rand(1, 2, 1, 16, 16)
    outputs = network.unroll(frames, 2)
    assert outputs.shape[1] == 4
    truth = [frames[:, 1], frames[:, 2], target[:, 0], target[:, 1]]
    expected = sum((outputs[:, i] - truth[i]).square().mean() for i in range(4)) / 4
    assert recipe.losses(network, {"frames": frames, "target": target}, 0)["mse"].item() == pytest.approx(
        expected.item()
    )
    assert SwinLSTMRecipe(schedule="onecycle").schedule == "onecycle"


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("buffers", [True, False])
def test_configuration_is_recovered_from_the_tensors(name: str, buffers: bool) -> None:
    facts, _, state = golden(name)
    config = OfficialSwinLSTM().detect(state if buffers else without_buffers(state))
    given = facts["constructor"]
    assert config is not None
    side = given["in_shape"][-1] if "in_shape" in given else given["img_size"]
    depths = given.get("depths", ())
    expected = {
        "patch_size": 2,
        "embed_dim": 16,
        "window_size": 4,
        "heads": tuple(given["num_heads"]) if isinstance(given["num_heads"], list) else (given["num_heads"],),
        "mlp_ratio": 4.0,
        "in_shape": (10, 2, side, side) if buffers else (10, 2, 64, 64),
    } | (
        {"model_type": "b", "depths": tuple(depths) if isinstance(depths, list) else (depths,)}
        if "-B-" in name
        else {"model_type": "d", "depths_down": (2, 4), "depths_up": (4, 2)}
    )
    assert {key: config[key] for key in expected} == expected
    notes = OfficialSwinLSTM().unknown(config)
    assert {"in_shape", "frames_out"} <= {note.partition(":")[0] for note in notes}


@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_wrapped_checkpoints_and_stated_values(prefix: str, tmp_path: Path) -> None:
    _, tensors, state = golden("swinlstm-B-A")
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path := tmp_path / "last.ckpt")
    predictor = stzoo.import_checkpoint(path, device="cpu", in_shape=(4, 2, 16, 16), frames_out=7)
    close(predictor.module(tensors["input"]).detach(), tensors["rollout_4to7"])
    assert predictor.requirements.frames_in == 4


def official_names(network: SwinLSTM) -> dict[str, Tensor]:
    """The state dict under OpenSTL's names, without buffers and what it has but does not use."""
    n = len(network.cells) // 2
    named = {}
    for key, value in network.state_dict().items():
        kind, _, rest = key.partition(".")
        index, _, leaf = rest.partition(".")
        if kind == "embed":
            key = f"Downsample.patch_embed.{rest}"
        elif kind == "unembed":
            key = f"Upsample.Unembed.Conv.{rest}"
        else:
            where, i = ("Downsample", int(index)) if int(index) < n else ("Upsample", int(index) - n)
            group = "layers" if kind == "cells" else where.lower()
            key = f"{where}.{group}.{i}.{leaf.replace('blocks', 'STBs')}"
        named[key] = value
    return named


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"patch_size": 4, "in_shape": (10, 3, 64, 64), "mlp_ratio": 2.7},
        {"window_size": 4, "in_shape": (10, 1, 32, 32)},
        {"window_size": 8, "in_shape": (10, 1, 32, 32), "embed_dim": 12, "heads": (1, 3), "depths_up": (1, 4)},
    ],
)
def test_every_value_comes_back(change: dict[str, Any]) -> None:
    config = D | {"in_shape": (10, 1, 64, 64), "frames_out": 10, "mlp_ratio": 4.0, "patch_size": 2} | change
    with torch.device("meta"):
        state = official_names(SwinLSTM(**config))
    detected = OfficialSwinLSTM().detect(state)
    assert detected is not None
    windows = config["window_size"] << 2
    if windows * config["patch_size"] <= config["in_shape"][-1]:  # otherwise the smaller windows tell the size
        config["in_shape"] = (10, config["in_shape"][1], 64, 64)
    assert {key: detected[key] for key in config} == config


def test_missing_added_and_reshaped_tensors_are_noticed() -> None:
    known = OfficialSwinLSTM()
    with torch.device("meta"):
        state = official_names(SwinLSTM(**D | {"heads": (2,), "depths_down": (2,), "depths_up": (2,)}))

    assert not unnoticed(known, state, "SwinLSTM|mlp_ratio")
    with pytest.raises(FormatError, match="unexpected"):
        known.detect(state | {"Upsample.layers.0.STBs.0.extra": torch.empty(2)})
    for name in ("Upsample.patch_embed.proj.weight", "Downsample.layers.0.STBs.1.red.bias"):
        assert known.detect(state | {name: torch.empty(2)}) is not None
    masks = {f"{part}.layers.0.STBs.1.attn_mask": torch.zeros(16, 4, 4) for part in ("Downsample", "Upsample")}
    with pytest.raises(FormatError, match="pixels"):
        known.detect(state | masks)


def test_other_networks_are_not_claimed() -> None:
    for state in ({}, nn.Linear(1, 1).state_dict(), {"Downsample.patch_embed.proj.weight": torch.zeros(1)}):
        assert OfficialSwinLSTM().detect(state) is None
