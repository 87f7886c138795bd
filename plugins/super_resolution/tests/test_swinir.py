"""SwinIR against what the official code computes, its checkpoints, its configurations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.training.options import resolve
from stzoo_super_resolution import swinir
from stzoo_super_resolution.official import MODELS
from stzoo_super_resolution.recipe import PatchRecipe
from stzoo_super_resolution.swinir import SwinIR
from stzoo_super_resolution.swinir_checkpoints import OfficialSwinIR
from stzoo_super_resolution.swinir_published import CONFIGS, PARAMETERS, TRAINING
from stzoo_super_resolution.swinir_windows import reflected, shifted_windows

GOLDENS = Path(__file__).parent / "goldens"
NAMES = (
    "swinir-A-tiny-classical-x2",
    "swinir-A-tiny-classical-x3-ape-nopatchnorm",
    "swinir-A-tiny-gray-dn-imgsize-eq-window",
    "swinir-A-tiny-realsr-x2-3conv",
)
TINY: dict[str, Any] = {"depths": (2, 1), "embed_dim": 12, "num_heads": (2, 3), "img_size": (16, 24), "window_size": 4}
"""Of a network that is quick to run."""
DENOISE: dict[str, Any] = TINY | {"scale": 1, "upsampler": ""}


# --- what the official code computes ----------------------------------------------------------------------------------


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Facts, tensors and state dict, masks included, of a small network of the official code."""
    found = Golden(GOLDENS / name)
    height, width = np.broadcast_to(found.facts["ctor"]["img_size"], 2)
    masks = mask(height, width, found.facts["ctor"]["window_size"])
    state = {key: masks if key.endswith("attn_mask") else value for key, value in found.state.items()}
    return found.facts, found.tensors, state


def mask(height: int, width: int, window: int) -> Tensor:
    """The official `attn_mask`, by its definition: tokens of different regions of the shifted image do not meet."""
    shift = window // 2
    regions = torch.zeros(height, width)
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((rows, columns) for rows in slices for columns in slices):
        regions[rows, columns] = number
    windows = regions.reshape(height // window, window, width // window, window).transpose(1, 2).reshape(-1, window**2)
    return torch.where(windows[:, None] != windows[:, :, None], -100.0, 0.0)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def imported(state: dict[str, Any], folder: Path, **config: Any) -> stzoo.Predictor:
    torch.save(state, path := folder / "network.pth")
    return stzoo.import_checkpoint(path, device="cpu", **config)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_official_ones(name: str, tmp_path: Path) -> None:
    facts, tensors, state = golden(name)
    ctor = facts["ctor"]
    predictor = imported({"params": state}, tmp_path, img_range=ctor["img_range"])
    for case in (case for case in tensors if re.fullmatch(r"input\d", case)):
        with torch.inference_mode():
            close(predictor.module(tensors[case]), tensors[case.replace("input", "output")])
        close(predictor.module(tensors[case]).detach(), tensors[case.replace("input", "output")])  # as in training
    recovered = {"upscale" if key == "scale" else key: value for key, value in predictor.config.items()}
    expected = ctor | {"img_size": tuple(np.broadcast_to(ctor["img_size"], 2).tolist())}
    for key, value in expected.items():
        assert recovered[key] == (tuple(value) if isinstance(value, list) else value), key
    assert sum(parameter.numel() for parameter in predictor.module.parameters()) == facts["params"]


def test_the_official_script_is_reproduced(tmp_path: Path) -> None:
    """Its padding by a whole window, and its tiles."""
    _, tensors, state = golden(NAMES[0])
    torch.save(state, tmp_path / "x.pth")
    network = stzoo.import_checkpoint(tmp_path / "x.pth", device="cpu", padding="script").module
    assert isinstance(network, SwinIR)
    with torch.inference_mode():
        close(network(tensors["input_script"]), tensors["output_script_tileNone"])
        close(network.script(tensors["input_script"], tile=16, overlap=4), tensors["output_script_tile16"])
        fitting = tensors["input_script"][..., :16, :16]
        assert not torch.equal(network(fitting), network.restore(fitting))  # padded though nothing is missing
    for tile, overlap in ((6, 2), (8, 8), (8, -1)):
        with pytest.raises(InputError, match="tiles of"):
            network.script(tensors["input_script"], tile, overlap)


def test_gradients_are_those_of_the_plain_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training takes another path through attention than prediction: outputs and gradients agree."""
    torch.manual_seed(0)
    network = SwinIR(**TINY, drop_path_rate=0.0)
    x = torch.rand(2, 3, 9, 14)
    network(x).square().mean().backward()
    expected = {name: parameter.grad for name, parameter in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    monkeypatch.setattr(swinir, "learns_on_cpu", lambda bias: False)
    network(x).square().mean().backward()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-6)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "module.", ""])
def test_checkpoints_as_training_codes_wrap_them(wrapper: str, tmp_path: Path) -> None:
    _, tensors, state = golden(NAMES[3])
    content: dict[str, Any] = {f"module.{key}": value for key, value in state.items()} if "." in wrapper else state
    if wrapper.startswith("params"):
        content = {wrapper: state}
    if wrapper == "params_ema":  # the averaged weights are the published ones
        content["params"] = {key: torch.zeros_like(value) for key, value in state.items()}
    with torch.inference_mode():
        close(imported(content, tmp_path).module(tensors["input0"]), tensors["output0"])


@pytest.mark.parametrize("kept", ["masks of another size", "empty masks", "nothing"])
def test_buffers_may_be_of_any_size_or_missing(kept: str, tmp_path: Path) -> None:
    facts, tensors, state = golden(NAMES[0])
    window = facts["ctor"]["window_size"]
    if kept == "nothing":
        state = OfficialSwinIR().convert(state, {})
    else:
        other = mask(8, 20, window) if "another" in kept else torch.zeros(9, window**2, window**2)
        state = {key: other if key.endswith("attn_mask") else value for key, value in state.items()}
    predictor = imported(state, tmp_path)
    assert predictor.config["img_size"] == {"masks of another size": (8, 20), "empty masks": (12, 12)}.get(
        kept, (64, 64)
    )
    assert any(note.startswith("img_size:") for note in predictor.report.notes) == (kept == "nothing")
    with torch.inference_mode():
        close(predictor.module(tensors["input1"]), tensors["output1"])


def test_masks_that_were_taken_out_of_a_published_network() -> None:
    """It still shifts its windows: only a network made for images as small as a window has no masks."""
    config = CONFIGS["lightweight-x2"]
    with torch.device("meta"):
        state = SwinIR(**config).state_dict()
    index = {"layers.0.residual_group.blocks.0.attn.relative_position_index": torch.zeros(64, 64)}
    assert OfficialSwinIR().detect(state | index) == config
    _, _, small = golden(NAMES[2])
    found = OfficialSwinIR().detect(small)
    assert found and found["img_size"] == (8, 8) == (found["window_size"],) * 2


@pytest.mark.parametrize("name", [model.name for model in MODELS if model.architecture == "swinir"])
def test_published_networks_are_recognised(name: str) -> None:
    """From their tensors alone, img_range included."""
    model = stzoo.info(name)
    with torch.device("meta"):
        network = SwinIR(**model.config)
    height, width = model.config["img_size"]
    block = "layers.0.residual_group.blocks.1.attn_mask"
    state = network.state_dict() | {block: mask(height, width, model.config["window_size"])}
    known = OfficialSwinIR()
    assert known.detect(state) == model.config
    assert not known.asks
    assert network.requirements == model.requirements
    assert sum(parameter.numel() for parameter in network.parameters()) == model.parameters
    key = name.removeprefix("swinir-").replace(".official", "")
    assert PARAMETERS.get(key, model.parameters) == model.parameters


def test_what_the_tensors_cannot_tell_is_asked_for(tmp_path: Path) -> None:
    _, tensors, state = golden(NAMES[2])
    with pytest.raises(FormatError, match="cannot tell img_range") as problem:
        imported(state, tmp_path)
    assert "1 or 255" in problem.value.remedy
    predictor = imported(state, tmp_path, img_range=255.0)
    with torch.inference_mode():
        close(predictor.module(tensors["input1"]), tensors["output1"])
        predictor = imported(state, tmp_path, img_range=1.0)
        assert (predictor.module(tensors["input1"]) - tensors["output1"]).abs().max() > 0.1
    # Absolute positions for an image of 96 pixels: 8x12, 4x24 ...
    _, _, state = golden(NAMES[1])
    state = OfficialSwinIR().convert(state, {})
    with pytest.raises(FormatError, match="cannot tell img_size"):
        imported(state, tmp_path)
    assert imported(state, tmp_path, img_size=(8, 12)).module.img_size == (8, 12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm.weight": None}, "norm.weight"),
        ({"extra.weight": torch.zeros(2)}, "unexpected: extra.weight"),
        ({"conv_last.weight": torch.zeros(3, 32, 3, 3)}, "wrong shape: conv_last.weight"),
        ({"layers.0.residual_group.blocks.0.mlp.fc1.weight": None}, "missing or malformed"),
        ({"layers.0.residual_group.blocks.0.attn.relative_position_bias_table": torch.zeros(50, 2)}, "square window"),
        ({"layers.1.residual_group.blocks.0.attn.relative_position_bias_table": torch.zeros(49, 5)}, "num_heads"),
    ],
)
def test_damaged_checkpoints_are_refused(change: dict[str, Tensor | None], said: str, tmp_path: Path) -> None:
    _, _, state = golden(NAMES[0])
    damaged = {key: value for key, value in (state | change).items() if value is not None}
    with pytest.raises(FormatError, match="looks like a checkpoint of SwinIR") as problem:
        imported(damaged, tmp_path)
    assert said in str(problem.value) or "embed_dim" in str(problem.value)


def test_other_networks_are_not_taken_for_it() -> None:
    assert OfficialSwinIR().detect({"conv_first.weight": torch.zeros(8, 3, 3, 3)}) is None
    assert OfficialSwinIR().detect({"encoder.weight": torch.zeros(8)}) is None


# --- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"upsampler": "pixelshuffledirect", "scale": 3},
        {"upsampler": "pixelshuffle", "scale": 8},
        {"upsampler": "pixelshuffle", "scale": 1},
        {"upsampler": "nearest+conv", "scale": 4, "resi_connection": "3conv"},
        {"upsampler": "", "scale": 1, "in_chans": 1, "window_size": 7, "img_size": (21, 28)},
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (16, 24), (17, 5)])
def test_any_size_comes_out_enlarged(config: dict[str, Any], size: tuple[int, int]) -> None:
    network = SwinIR(**TINY | config).eval()
    with torch.inference_mode():
        out = network(torch.rand(2, network.channels, *size))
    assert out.shape == (2, network.channels, *(side * network.scale for side in size))
    assert torch.isfinite(out).all()


def test_a_batch_is_its_images() -> None:
    network = SwinIR(**DENOISE).eval()
    images = torch.rand(3, 3, 13, 18)
    with torch.inference_mode():
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(network(images), alone, rtol=0, atol=1e-6)


def test_padding_mirrors_as_often_as_needed() -> None:
    x = torch.arange(10.0).reshape(1, 1, 2, 5)
    torch.testing.assert_close(
        reflected(x, 4)[0, 0], torch.from_numpy(np.pad(x[0, 0].numpy(), ((0, 2), (0, 3)), mode="reflect"))
    )
    assert reflected(x[..., :1, :1], 4).shape == (1, 1, 4, 4)


def test_masks_are_made_once_for_a_size() -> None:
    network = SwinIR(**TINY).eval()
    with torch.inference_mode():
        network(torch.rand(1, 3, 9, 30))
        before = shifted_windows.cache_info()
        network(torch.rand(1, 3, 9, 30))
    after = shifted_windows.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits


def test_masks_that_prediction_made_serve_training() -> None:
    network, x = SwinIR(**TINY), torch.rand(1, 3, 11, 37)
    with torch.inference_mode():
        network(x)
    network(x).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_half_precision() -> None:
    """float16 overflows on real photographs and is refused; bfloat16 is offered."""
    network, x = SwinIR(**TINY).eval(), torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        expected = network(x)
        with pytest.raises(InputError, match="bfloat16"):
            network.half()(x.half())
        with torch.autocast("cpu", torch.float16), pytest.raises(InputError, match="bfloat16"):
            network.float()(x)
        found = network.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"depths": ()}, "depths"),
        ({"num_heads": (2,)}, "num_heads"),
        ({"num_heads": (5, 5)}, "no multiple"),
        ({"mlp_ratio": 0.01}, "mlp_ratio"),
        ({"img_range": 0.0}, "img_range"),
        ({"img_size": (18, 16)}, "img_size"),
        ({"upsampler": "bicubic"}, "upsampler"),
        ({"upsampler": ""}, "without an upsampler"),
        ({"upsampler": "nearest+conv", "scale": 3}, "nearest"),
        ({"upsampler": "pixelshuffle", "scale": 6}, "power of two"),
        ({"resi_connection": "2conv"}, "resi_connection"),
        ({"padding": "zeros"}, "padding"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"window_size": 0}, "window_size"),
    ],
)
def test_configurations_that_cannot_be_built(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        SwinIR(**TINY | change)


def test_inputs_that_do_not_fit() -> None:
    network = SwinIR(**TINY | {"ape": True}).eval()
    for shape in ((1, 1, 16, 24), (3, 16, 24), (1, 3, 0, 24)):
        with pytest.raises(InputError, match="3 channels"):
            network(torch.zeros(shape))
    with pytest.raises(InputError, match="24x16 pixels, got 16x16"):
        network(torch.zeros(1, 3, 16, 16))
    assert network(torch.zeros(1, 3, 15, 22)).shape == (1, 3, 30, 44)


def test_published_training_is_what_a_run_accepts() -> None:
    for training in TRAINING.values():
        given = resolve(training)
        PatchRecipe(**given["recipe"])


# --- use --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (11, 21)])
def test_predict_gives_what_the_network_gives(size: tuple[int, int]) -> None:
    """Padding included, which is that of the official network and not the default one."""
    predictor = stzoo.create("swinir", device="cpu", **TINY)
    image = np.random.default_rng(0).random((3, *size), dtype=np.float32)
    with torch.inference_mode():
        expected = predictor.module(torch.from_numpy(image)[None])[0].clamp(0, 1).numpy()
    np.testing.assert_allclose(predictor.predict(image).image, expected, atol=1e-6)
