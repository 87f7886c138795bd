"""The U-Net with a pretrained encoder against segmentation_models.pytorch, its checkpoints, and encoders of torchvision."""

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
from stzoo_segmentation import encoders
from stzoo_segmentation.recipe import SegmentationRecipe
from stzoo_segmentation.smp_unet import OfficialSMPUNet, SMPUNet

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {"encoder": "resnet18", "encoder_depth": 2, "decoder_channels": (16, 16)}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def imported(state: dict[str, Any], folder: Path, *architecture: str, **config: Any) -> stzoo.Predictor:
    torch.save(state, path := folder / "network.pth")
    return stzoo.import_checkpoint(path, *architecture, device="cpu", **config)


def test_outputs_with_squeeze_and_excitation(tmp_path: Path) -> None:
    """At a size that fits, and at one that nothing divides."""
    golden = Golden(GOLDENS / "smp-unet-A-resnet18-d3")
    predictor, tensors = imported(golden.state, tmp_path), golden.tensors
    assert predictor.config["encoder"] == "resnet18"
    assert predictor.config["decoder_channels"] == (64, 32, 16)
    assert sum(parameter.numel() for parameter in predictor.module.parameters()) == golden.facts["params"]
    with torch.inference_mode():
        for number in "01":
            close(predictor.module(tensors[f"input{number}"]), tensors[f"output{number}"])


def test_outputs_with_a_second_head(tmp_path: Path) -> None:
    golden = Golden(GOLDENS / "smp-unet-A-vgg11-aux")
    predictor, tensors = imported(golden.state, tmp_path), golden.tensors
    with torch.inference_mode():
        mask, labels = predictor.module(tensors["input0"])
    close(mask, tensors["output0"])
    close(labels, tensors["output0_labels"])
    assert predictor.predict(tensors["input0"][0].numpy().clip(0, 1)).mask.shape == (64, 64)


def test_the_library_s_default() -> None:
    with torch.device("meta"):
        network = SMPUNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 24_436_369


@pytest.mark.parametrize(
    "config",
    [
        {"encoder": "resnet34"},
        {"encoder": "resnet50", "encoder_depth": 4, "decoder_channels": (64, 32, 16, 16), "attention": "scse"},
        {"encoder": "resnet101", "encoder_depth": 1, "decoder_channels": (8,), "in_channels": 7},
        {"encoder": "vgg16", "labels": 3},
        {"encoder": "vgg13_bn", "encoder_depth": 3, "decoder_channels": (64, 32, 16), "in_channels": 1},
        {"encoder": "vgg19_bn", "out_channels": 12},
    ],
)
def test_configurations_are_recovered(config: dict[str, Any]) -> None:
    with torch.device("meta"):
        network = SMPUNet(**config)
        assert all(
            key in network.state_dict() for key in ("decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight")
        )
    found = OfficialSMPUNet().detect(network.state_dict())
    assert found is not None
    assert config.items() <= found.items()


@pytest.mark.parametrize("encoder", ["resnet18", "vgg11_bn"])
@pytest.mark.parametrize("channels", [3, 1])
def test_a_pretrained_encoder_starts_a_network(encoder: str, channels: int, tmp_path: Path) -> None:
    """torchvision's weights, classifier and all, become a network to be finetuned; of grey pictures the colours' sum is kept."""
    torch.manual_seed(0)
    state = encoders.build(encoder, 3, 5).state_dict()
    classifier = "fc" if encoder == "resnet18" else "classifier.6"
    given = state | {f"{classifier}.weight": torch.zeros(1000, 512), f"{classifier}.bias": torch.zeros(1000)}
    with pytest.raises(FormatError, match="cannot tell out_channels"):
        imported(given, tmp_path)
    own = {} if channels == 3 else {"in_channels": 1, "mean": (0.45,), "std": (0.226,)}
    predictor = imported(given, tmp_path, out_channels=4, **own)
    assert any("untrained" in note for note in predictor.report.notes)
    found = predictor.module.get_submodule("encoder").state_dict()
    first, *others = state
    assert all(torch.equal(found[key], state[key]) for key in others)
    grey = torch.rand(1, 1, 32, 32)
    expected, actual = (torch.nn.functional.conv2d(grey.expand(-1, item.shape[1], -1, -1), item)
                        for item in (state[first], found[first]))  # fmt: skip
    close(actual, expected)
    predictor.save(tmp_path / "start")
    again = stzoo.load(tmp_path / "start", device="cpu")
    heads = [item.module.get_submodule("segmentation_head").state_dict() for item in (again, predictor)]
    assert torch.equal(heads[0]["0.weight"], heads[1]["0.weight"])


def test_the_second_head_learns_which_classes_are_there() -> None:
    torch.manual_seed(0)
    recipe, network = SegmentationRecipe(labels=0.5), SMPUNet(**SMALL, out_channels=3, labels=3, dropout=0)
    batch = {"image": torch.rand(2, 3, 16, 16), "mask": torch.tensor([0, 255])[:, None, None].expand(2, 16, 16)}
    found = recipe.losses(network, batch, 0)
    _, labels = network(batch["image"])
    truth = torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(labels, truth)
    assert found["labels"].item() == pytest.approx(0.5 * expected.item(), rel=1e-4)
    with pytest.raises(ConfigError, match="head for 2 classes"):
        recipe.losses(SMPUNet(**SMALL, out_channels=3, labels=2), batch | {"mask": torch.full((2, 16, 16), 2)}, 0)


def test_activations() -> None:
    x = torch.rand(1, 3, 16, 16)
    for activation in ("sigmoid", "softmax"):
        network = SMPUNet(**SMALL, out_channels=3, activation=activation).eval()
        scores = network.logits(x)
        torch.testing.assert_close(network(x), scores.sigmoid() if activation == "sigmoid" else scores.softmax(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "resnet19"}, "encoder"),
        ({"attention": "cbam"}, "attention"),
        ({"activation": "tanh"}, "activation"),
        ({"encoder_depth": 3}, "decoder_channels"),
        ({"decoder_channels": (32, 8), "attention": "scse"}, "a sixteenth"),
        ({"labels": -1}, "labels"),
        ({"classes": ("sky", "road", "car")}, "3 names of classes"),
        ({"in_channels": 1, "mean": (0.5, 0.5, 0.5)}, "mean=(0.5, 0.5, 0.5) for pictures of 1 channel"),
        ({"std": (0.0,)}, "std"),
    ],
)
def test_configurations_that_cannot_be_built(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        SMPUNet(**SMALL | change)


def test_pictures_and_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    network = SMPUNet(**SMALL)
    with pytest.raises(InputError, match="takes \\(batch, 3, height, width\\)"):
        network(torch.rand(1, 1, 16, 16))
    state = network.state_dict()
    with pytest.raises(FormatError, match="encoder that is not known"):
        imported({key: value for key, value in state.items() if "layer3.1" not in key}, tmp_path)
    del state["decoder.blocks.1.conv2.1.bias"]
    with pytest.raises(FormatError, match=r"missing: decoder\.blocks\.1\.conv2\.1\.bias"):
        imported(state, tmp_path)
