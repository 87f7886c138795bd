"""U-Net against what the implementations compute that it stands for: outputs, checkpoints, sizes, refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_segmentation.official import MODELS
from stzoo_segmentation.unet import PAPER, UNet, receptive_field
from stzoo_segmentation.unet_checkpoints import BrainUNet, JvanvugtUNet, MilesialUNet

FORMATS = (JvanvugtUNet, MilesialUNet, BrainUNet)
GOLDENS = Path(__file__).parent / "goldens"
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet-A-valid-small": ({"padding": "valid"}, {"width": 4, "depth": 3, "norm": "none", "up": "transposed"}),
    "unet-A-jv-same-bn-upsample": (
        {"padding": "same"},
        {"width": 8, "depth": 3, "norm": "after", "up": "bilinear-conv"},
    ),
    "unet-milesial-A-1ch-bilinear": ({}, {"width": 64, "depth": 5, "norm": "before", "up": "bilinear", "join": "pad"}),
    "unet-brain-A-f4": ({}, {"width": 4, "depth": 5, "activation": "sigmoid", "join": "crop", "normalise": "image"}),
}
"""By golden: what its tensors cannot tell, and what they must have told."""


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def imported(state: dict[str, Any], folder: Path, **config: Any) -> stzoo.Predictor:
    torch.save(state, path := folder / "network.pth")
    return stzoo.import_checkpoint(path, device="cpu", **config)


# --- what the implementations compute ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_the_implementation(name: str, tmp_path: Path) -> None:
    """Through a checkpoint, with what is in its tensors recovered from them."""
    golden = Golden(GOLDENS / name)
    stated, expected = CASES[name]
    predictor = imported(golden.state, tmp_path, **stated)
    assert expected.items() <= predictor.config.items()
    assert sum(parameter.numel() for parameter in predictor.module.parameters()) == golden.facts["params"]
    with torch.inference_mode():
        close(predictor.module(golden.tensors["input0"]), golden.tensors["output0"])


def test_the_paper_s_network() -> None:
    """Sizes of figure 1, and the number of parameters."""
    with torch.device("meta"):
        network = UNet(**PAPER)
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658
    assert network.margin == 92
    assert network.around(388, 388) == (572, 572)
    assert network.around(389, 1) == (588, 188)
    with torch.inference_mode():
        drawn = UNet(**PAPER | {"width": 8}).state_dict()["down.3.conv2.weight"]  # deviation sqrt(2 / fan-in)
        assert drawn.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("up", ["transposed", "bilinear-conv"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_receptive_field_is_what_is_stated(depth: int, up: str, padding: str) -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, 2, depth, padding, "none", up, "crop").eval()
    for parameter in network.parameters():
        parameter.data.abs_()  # no ReLU is off
    stated = receptive_field(depth, bilinear=up != "transposed")
    side, _ = network.around(2 * stated + 2 ** (depth + 1), 1)
    picture = torch.rand(1, 1, side, side, requires_grad=True)
    out, reach = network(picture), 0
    middle = out.shape[-1] // 2
    for place in range(middle, middle + 2 ** (depth - 1)):
        (slope,) = torch.autograd.grad(out[0, :, place, place].sum(), picture, retain_graph=True)
        rows = slope[0, 0].sum(1).nonzero().flatten() - network.margin
        reach = max(reach, int((rows - place).abs().max()))
    assert reach == network.requirements.reach == stated


# --- checkpoints ------------------------------------------------------------------------------------------------------

SIZES: list[dict[str, Any]] = [{"width": 4, "depth": 5}, {"width": 8, "depth": 2}]
ROUND_TRIPS: list[tuple[Any, dict[str, Any]]] = [
    (JvanvugtUNet, {"padding": padding, "norm": norm, "up": up, "join": "crop", "in_channels": 2, "out_channels": 5} | size)
    for padding in ("valid", "same")
    for norm in ("none", "after")
    for up in ("transposed", "bilinear-conv")
    for size in SIZES
] + [
    (MilesialUNet, {"up": up, "in_channels": channels, "out_channels": channels, "width": width, "depth": depth})
    for up, channels, width, depth in (("transposed", 3, 4, 5), ("bilinear", 1, 6, 5), ("bilinear", 3, 8, 3))
] + [
    (BrainUNet, {"join": "crop", "activation": "sigmoid", "normalise": "image", "width": 4, "depth": 5}),
    (BrainUNet, {"join": "crop", "activation": "sigmoid", "normalise": "image", "in_channels": 1, "width": 3, "depth": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("known", "config"), ROUND_TRIPS)
def test_configurations_are_recovered(known: Any, config: dict[str, Any], tmp_path: Path) -> None:
    """From the tensors alone, under the implementation's names, and with the tensors in their places."""
    torch.manual_seed(0)
    source = stzoo.create("unet", device="cpu", **config)
    names = dict(known().modules(source.config))
    state = {}
    for key, tensor in source.module.state_dict().items():
        module, _, leaf = key.rpartition(".")
        state[f"{names[module]}.{leaf}"] = torch.rand_like(tensor) if tensor.is_floating_point() else tensor
    assert [kind for kind in FORMATS if kind().detect(state) is not None] == [known]
    stated = {key: config[key] for key in known.asks}
    predictor = imported(state, tmp_path, **stated)
    assert predictor.config == source.config
    found = predictor.module.state_dict()
    assert all(torch.equal(found[f"{own}.weight"], state[f"{other}.weight"]) for own, other in names.items()
               if f"{own}.weight" in found)  # fmt: skip
    assert {note.partition(":")[0] for note in predictor.report.notes} <= predictor.config.keys()


def test_padding_is_asked_for_where_tensors_cannot_tell(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot tell padding") as problem:
        imported(Golden(GOLDENS / "unet-A-valid-small").state, tmp_path)
    assert "padding=False" in problem.value.remedy


def test_values_of_masks_in_a_checkpoint_are_left_out(tmp_path: Path) -> None:
    """As milesial's training script stores them among the tensors."""
    golden = Golden(GOLDENS / "unet-milesial-A-1ch-bilinear")
    predictor = imported({**golden.state, "mask_values": [0, 1]}, tmp_path)
    with torch.inference_mode():
        close(predictor.module(golden.tensors["input0"]), golden.tensors["output0"])


def test_a_bias_in_front_of_batch_norm(tmp_path: Path) -> None:
    """Earlier versions had one: it moves the running mean, and nothing else."""
    golden = Golden(GOLDENS / "unet-brain-A-f4")
    state, tensors = golden.state, golden.tensors
    bias = torch.linspace(-1, 1, 8)
    state["encoder2.enc2conv1.bias"] = bias
    state["encoder2.enc2norm1.running_mean"] = state["encoder2.enc2norm1.running_mean"] + bias
    with torch.inference_mode():
        close(imported(state, tmp_path).module(tensors["input0"]), tensors["output0"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv.weight": None}, "conv.weight is missing"),
        ({"upconv2.weight": None}, "are missing: up.2.up.weight"),
        ({"extra.weight": torch.zeros(2)}, "unexpected: extra.weight"),
        ({"encoder3.enc3conv1.weight": torch.zeros(16, 9, 3, 3)}, "wrong shape: down.2.conv1.weight"),
    ],
)
def test_damaged_checkpoints_are_refused(change: dict[str, Tensor | None], said: str, tmp_path: Path) -> None:
    changed = Golden(GOLDENS / "unet-brain-A-f4").state | change
    state = {key: value for key, value in changed.items() if value is not None}
    with pytest.raises(FormatError, match=re.escape("looks like a checkpoint of mateuszbuda's U-Net")) as problem:
        imported(state, tmp_path)
    assert said in str(problem.value)


@pytest.mark.parametrize("name", [model.name for model in MODELS])
def test_published_files_are_what_the_zoo_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of their names and shapes become the zoo's models, with what their tensors cannot tell."""
    model = stzoo.info(name)
    known = BrainUNet if "brain" in name else MilesialUNet
    with torch.device("meta"):
        network = UNet(**model.config)
    names = dict(known().modules({"depth": 5, "up": "transposed"}))
    state: dict[str, Any] = {}
    for key, tensor in network.state_dict().items():
        module, _, leaf = key.rpartition(".")
        state[f"{names[module]}.{leaf}"] = torch.ones(tensor.shape, dtype=tensor.dtype)
    if "carvana" in name:
        state["mask_values"] = [0, 1]
    torch.save(state, path := tmp_path / "published.pth")
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path))
    monkeypatch.setattr("stzoo.download.fetch", lambda address, **_: path)
    predictor = stzoo.import_checkpoint(name, device="cpu")
    assert model.config.items() <= predictor.config.items()
    assert predictor.requirements == model.requirements
    assert predictor.requirements.classes[0] == "background"


# --- network ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (45, 64)])
def test_any_size_goes_through_where_what_is_missing_is_padded(size: tuple[int, int]) -> None:
    with torch.inference_mode():
        for up in ("transposed", "bilinear", "bilinear-conv"):
            assert UNet(width=2, up=up).eval()(torch.rand(1, 3, *size)).shape == (1, 2, *size)


def test_sigmoid_and_logits() -> None:
    network = UNet(out_channels=1, width=2, activation="sigmoid").eval()
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(network(x), network.logits(x).sigmoid())


def test_dropout_is_at_the_end_of_the_contracting_path() -> None:
    torch.manual_seed(0)
    network = UNet(width=2, depth=3, dropout=0.9).train()
    seen: list[Tensor] = []
    for block in network.down:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    network.dropout.register_forward_hook(lambda _, given, out: seen.append((given[0] != out).float().mean()))
    network(torch.rand(1, 3, 32, 32))
    assert [item.ndim for item in seen] == [4, 4, 0, 4, 0]


@pytest.mark.parametrize(
    ("config", "shape", "said"),
    [
        ({}, (1, 1, 32, 32), "takes (batch, 3, height, width)"),
        ({}, (3, 32, 32), "takes (batch, 3, height, width)"),
        ({}, (1, 3, 15, 40), "halved 4 times"),
        (PAPER, (1, 1, 571, 572), "188 are the fewest, then every 16 more"),
        (PAPER, (1, 1, 100, 572), "do not fit 100 pixels"),
    ],
)
def test_pictures_that_do_not_fit(config: dict[str, Any], shape: tuple[int, ...], said: str) -> None:
    with torch.device("meta"):
        network = UNet(**config)
        with pytest.raises(InputError, match=re.escape(said)) as problem:
            network(torch.empty(shape))
    assert problem.value.remedy
    if shape[-2:] == (571, 572):
        assert "Give 572, of which 388 come out" in problem.value.remedy
    if shape[-2:] == (100, 572):
        assert "Give 188, of which 4 come out" in problem.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"padding": "reflect"}, "padding"),
        ({"norm": "batch"}, "norm"),
        ({"up": "nearest"}, "up="),
        ({"join": "add"}, "join"),
        ({"activation": "softmax"}, "activation"),
        ({"depth": 1}, "depth"),
        ({"width": 3, "up": "bilinear"}, "even width"),
        ({"padding": "valid"}, "join='crop'"),
        ({"classes": ("background",)}, "1 names of classes for 2"),
    ],
)
def test_configurations_that_cannot_be_built(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        UNet(**{"width": 2} | change)
