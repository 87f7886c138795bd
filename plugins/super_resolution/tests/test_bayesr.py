"""BayeSR against what the official code computes; its downsampler, its draws, how it learns."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden, fill
from safetensors.torch import save_file
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, InputError
from stzoo_super_resolution.bayesr import BayeSR, Downsampler, composed
from stzoo_super_resolution.bayesr_training import (
    BayeSRRecipe,
    Prior,
    precisions,
    squared_gradient,
    variational_terms,
)

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {"filters": 16, "d_cnnx": 1, "d_cnnz": 1, "d_cnnm": 1}
PICTURE = np.random.default_rng(0).random((3, 12, 17), dtype=np.float32)


# --- what the official code computes ----------------------------------------------------------------------------------


class Official(Golden):
    """A small network in the official code: its state dict under TensorFlow's names, inputs, drawn numbers, outputs."""

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Made in PyTorch's layout, kept in TensorFlow's."""
        return {
            key: fill(key, [shape[3], shape[2], *shape[:2]]).permute(2, 3, 1, 0).contiguous()
            if len(shape) == 4
            else fill(key, shape)
            for key, (shape, _) in self.facts["state_dict"].items()
        }

    def network(self, folder: Path) -> BayeSR:
        save_file(self.state, folder / "model.safetensors")
        network: Any = stzoo.import_checkpoint(folder / "model.safetensors", device="cpu").module
        return network  # type: ignore[no-any-return]

    def noise(self, end: str = "") -> tuple[Tensor, Tensor, Tensor]:
        m, z, x = (self.tensors[f"input_noise_{part}{end}"] for part in "mzx")
        return m, z, x


def close(actual: Tensor, expected: Tensor) -> None:
    """Before they are clipped values reach 20, where the reference itself is off by 1.2e-5 from float64."""
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("name", ["bayesr-A-small", "bayesr-A-small-gray-subpixel-x4"])
def test_outputs_are_the_official_ones(name: str, tmp_path: Path) -> None:
    golden = Official(GOLDENS / name)
    network, wanted, count = golden.network(tmp_path), golden.tensors, 0
    assert sum(parameter.numel() for parameter in network.parameters()) == golden.facts["params"]
    for end in (f"_{number}" for number in range(9) if f"input{number}" in wanted):
        y, noise = wanted[f"input{end[1:]}"], golden.noise(end)
        with torch.inference_mode():
            close(network(y, noise), wanted[f"output_mean{end}"])
            close(network(y, noise, sample=True), wanted[f"output_sample{end}"])
            found = network.infer(network.pad(y), noise)
            close(found.mean_x + found.mean_z, wanted[f"output_mean_preclip_sr{end}"])
            close(network.downsample(found.x) + found.down_z, wanted[f"output_mean_dx_plus_dz{end}"])
            close(found.mean_m, wanted[f"output_mean_raw_upm{end}"][:, : network.channels])
        count += 1
    assert count


def test_losses_and_gradients_are_the_official_ones(tmp_path: Path) -> None:
    golden = Official(GOLDENS / "bayesr-A-train-loss")
    golden.state = Official(GOLDENS / "bayesr-A-small").state
    network, wanted = golden.network(tmp_path), golden.tensors
    found = network.infer(wanted["input_lr"], golden.noise())
    error = wanted["input_lr"] - network.downsample(found.x) - found.down_z - found.m
    close(error, wanted["output_err"])
    torch.testing.assert_close(squared_gradient(found.mean_x), wanted["output_DxDy_mux"], rtol=1e-4, atol=1e-3)
    for own, name in zip(precisions(found, error, Prior()), ("v", "w", "p"), strict=True):
        torch.testing.assert_close(own.log(), wanted[f"output_log_mu{name}"], rtol=1e-3, atol=1e-4)
    terms = variational_terms(found, error, Prior())
    distance = F.l1_loss((found.x + found.z).clamp(0, 1), wanted["input_hr"])
    total, bound, precision, absolute = wanted["output_losses"].tolist()
    loss = torch.stack([*terms.values(), distance]).sum()
    assert loss.item() == pytest.approx(total, rel=1e-4)
    assert sum(term.item() for term in terms.values()) == pytest.approx(bound / precision, rel=1e-4)
    assert distance.item() == pytest.approx(absolute, rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for key in ("cnnm.input.kernel", "upz.output2.bias", "upx.output2.kernel"):
        gradient, official = gradients[key.replace("kernel", "weight")], wanted[f"output_grad_SmSpNet.{key}"]
        torch.testing.assert_close(gradient, official, rtol=1e-3, atol=1e-4 * official.abs().max().item())


def test_the_recipe_gives_these_losses(tmp_path: Path) -> None:
    golden = Official(GOLDENS / "bayesr-A-train-loss")
    golden.state = Official(GOLDENS / "bayesr-A-small").state
    network, (low, high) = golden.network(tmp_path), (golden.tensors[f"input_{name}"] for name in ("lr", "hr"))
    torch.manual_seed(0)
    drawn = [torch.randn_like(low), torch.randn_like(high), torch.randn_like(high)]
    torch.manual_seed(0)
    losses = BayeSRRecipe(tau=3.0).losses(network, {"low": low, "high": high}, 0)
    found = network.infer(low, (drawn[0], drawn[1], drawn[2]))
    error = low - network.downsample(found.x) - found.down_z - found.m
    assert list(losses) == ["likelihood", "smooth", "noise", "detail", "distance"]
    for name, term in variational_terms(found, error, Prior()).items():
        assert losses[name].item() == pytest.approx(term.item(), rel=1e-4)
    assert losses["distance"].item() == pytest.approx(3 * (found.x + found.z).clamp(0, 1).sub(high).abs().mean().item())


# --- network ----------------------------------------------------------------------------------------------------------


def test_the_published_network_is_the_default() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in BayeSR().parameters()) == 2_780_722


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 4), (5, 9), (6, 7), (8, 20)])
def test_the_downsampler_is_its_layers_one_by_one(stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    downsampler = Downsampler(stride)
    x = torch.randn(2, 3, *(stride * side for side in size))
    expected = x.flatten(0, 1)[:, None]
    for index, layer in enumerate(downsampler):
        weight: Any = layer.weight
        expected = F.conv2d(expected, weight, stride=stride if index == 5 else 1, padding=weight.shape[-1] // 2)
    found = downsampler(x)
    assert found.shape == (2, 3, *size)
    torch.testing.assert_close(found, expected.view_as(found), rtol=1e-4, atol=1e-6)


def test_the_cheap_downsampler_is_right_inside() -> None:
    torch.manual_seed(1)
    network, x = BayeSR(4, **TINY), torch.rand(1, 3, 64, 80)
    exact, (plain, border) = network.downsample(x), network.downsample_inside(x)
    inside = (..., slice(border, -border), slice(border, -border))
    torch.testing.assert_close(plain[inside], exact[inside])
    assert (plain - exact).abs().amax() > 1e-4
    assert border == 5


def test_composed_kernels_are_convolutions_in_a_row() -> None:
    torch.manual_seed(1)
    one, two, x = torch.randn(4, 2, 3, 3), torch.randn(5, 4, 5, 5), torch.randn(1, 2, 12, 12)
    torch.testing.assert_close(F.conv2d(x, composed(one, two)), F.conv2d(F.conv2d(x, one), two), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("depth", "size"), [(8, (9, 13)), (8, (2, 3)), (4, (5, 5)), (1, (3, 3))])
def test_padding_mirrors_with_the_edge(depth: int, size: tuple[int, int]) -> None:
    network = BayeSR(2, **TINY | {"d_cnnx": depth})
    y = torch.rand(1, 3, *size)
    height, width = network.padded(*size)
    expected = np.pad(y[0].numpy(), ((0, 0), (0, height - size[0]), (0, width - size[1])), "symmetric")
    np.testing.assert_array_equal(network.pad(y)[0].numpy(), expected)
    assert height % network.multiple == width % network.multiple == 0


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("up_type", ["transpose", "subpixel", "interpolation"])
def test_every_scale_and_upsampling_starts_near_an_enlargement(scale: int, up_type: str) -> None:
    torch.manual_seed(0)
    network = BayeSR(scale, **TINY, up_type=up_type).eval()
    ramp = torch.linspace(0.2, 0.8, 16)
    y = (ramp[:, None] + ramp).expand(1, 3, 16, 16) / 2
    with torch.inference_mode():
        result = network(y)
    assert result.shape == (1, 3, 16 * scale, 16 * scale)
    expected = F.interpolate(y, scale_factor=scale, mode="bilinear")
    inside = (..., slice(3 * scale, -3 * scale), slice(3 * scale, -3 * scale))
    assert (result - expected)[inside].abs().mean() < 0.08  # at random it would be about 1


def test_draws_depend_on_the_numbers_alone() -> None:
    torch.manual_seed(0)
    network, y = BayeSR(2, **TINY).eval(), torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        noise = network.noise(8, 8, torch.Generator().manual_seed(3))
        assert torch.equal(network(y, noise, sample=True), network(y, noise, sample=True))
        assert not torch.equal(network(y, sample=True), network(y, sample=True))  # drawn anew, as officially
        torch.testing.assert_close(network(y, noise)[:1], network(y[:1], noise))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scale": 5}, "scale must be"),
        ({"up_type": "bicubic"}, "up_type"),
        ({"filters": 24}, "multiple of 16"),
        ({"filter_size": 4}, "odd"),
        ({"d_cnnz": 0}, "at least 1"),
    ],
)
def test_wrong_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BayeSR(**config)


# --- predicting -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor() -> stzoo.Predictor:
    torch.manual_seed(0)
    made = stzoo.create("bayesr", scale=2, device="cpu", **TINY)
    module: Any = made.module
    with torch.no_grad():
        module.upz.output2.bias[3:] = -5.0  # draws that can be seen
    return made


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("in_channel", [1, 3])
def test_colours_and_transparency(in_channel: int, channels: int) -> None:
    made = stzoo.create("bayesr", scale=2, in_channel=in_channel, device="cpu", **TINY)
    given = np.random.default_rng(1).random((channels, 7, 9), dtype=np.float32)
    found = made.predict(given, samples=2)
    assert found.image.shape == (channels, 14, 18)
    assert found.uncertainty.shape == (14, 18)
    assert found.samples.shape == (2, min(channels, 3), 14, 18)
    assert found.uncertainty.min() > 0
    if channels == 4:
        np.testing.assert_array_equal(found.image[:3], made.predict(given[:3], samples=2).image)


def test_samples_are_diverse_and_known_by_their_seed(predictor: stzoo.Predictor) -> None:
    first, again, other = (predictor.predict(PICTURE, samples=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.samples, again.samples)
    assert np.abs(first.samples - other.samples).mean() > 1e-3
    assert np.abs(first.samples[0] - first.samples[1]).mean() > 1e-3
    fewer = predictor.predict(PICTURE, samples=1, seed=1)
    np.testing.assert_allclose(fewer.samples[0], first.samples[0], atol=1e-6)


def test_the_uncertainty_is_what_many_samples_spread(predictor: stzoo.Predictor) -> None:
    found = predictor.predict(PICTURE, samples=300)
    spread = np.sqrt(found.samples.var(0).mean(0))
    inside = (found.image > 0.3).all(0) & (found.image < 0.7).all(0)  # nothing is clipped there
    assert inside.sum() > 50
    assert np.median(spread[inside] / found.uncertainty[inside]) == pytest.approx(1, abs=0.05)
    assert np.abs(found.samples.mean(0) - found.image)[:, inside].mean() < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [({"samples": 0}, "samples"), ({"seed": -1}, "seed"), ({"sample": 2}, "Did you mean 'samples'")],
)
def test_wrong_options(predictor: stzoo.Predictor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(PICTURE, **options)


def test_wrong_pictures(predictor: stzoo.Predictor) -> None:
    with pytest.raises(InputError, match="channels"):
        predictor.predict(np.zeros((2, 8, 8), np.float32))
    assert predictor.predict(np.zeros((3, 1, 1), np.float32)).image.shape == (3, 2, 2)
    with pytest.raises(InputError, match="as a whole"):
        predictor.predict(PICTURE, tile=64)


# --- learning ---------------------------------------------------------------------------------------------------------


def steps(
    recipe: BayeSRRecipe, network: BayeSR, batch: dict[str, Tensor], stage: str, count: int
) -> list[dict[str, float]]:
    recipe.stage = stage
    [(optimizer, schedule)] = recipe.optimizers(network, count)
    history = []
    for step in range(count):
        torch.manual_seed(0)
        losses = recipe.losses(network, batch, step)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    return history


def test_first_the_downsampler_then_the_networks() -> None:
    torch.manual_seed(0)
    network, recipe = BayeSR(2, **TINY), BayeSRRecipe(lr=3e-4, downsampler=0.25)
    assert [(stage.name, stage.share) for stage in recipe.stages] == [("downsampler", 0.25), ("train", 0.75)]
    high = F.interpolate(torch.rand(4, 3, 16, 16), scale_factor=3, mode="bilinear")
    batch = {"low": F.avg_pool2d(high, 2), "high": high}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    down = steps(recipe, network, batch, "downsampler", 60)
    assert down[-1]["downsampling"] < 0.1 * down[0]["downsampling"]
    middle = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed = {name for name in before if not torch.equal(before[name], middle[name])}
    assert changed == {name for name in before if name.startswith("Generator.")}
    history = steps(recipe, network, batch, "train", 40)
    assert sum(history[-1].values()) < 0.9 * sum(history[0].values())
    assert history[-1]["distance"] < history[0]["distance"]
    after = network.state_dict()
    assert all(torch.equal(middle[name], after[name]) == name.startswith("Generator.") for name in after)


def test_denoising_needs_no_downsampler() -> None:
    torch.manual_seed(0)
    network, recipe = BayeSR(1, **TINY), BayeSRRecipe()
    batch = recipe.sample_batch(network)
    assert "distance" in steps(recipe, network, batch, "downsampler", 1)[0]
    assert network.Generator is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsampler": 1.0}, "downsampler"),
        ({"tau": -1.0}, "tau"),
        ({"phix": 0.0}, "priors"),
        ({"lr": 0.0}, "lr must"),
    ],
)
def test_wrong_recipes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BayeSRRecipe(**options)
    assert BayeSRRecipe(downsampler=0.0).stages[0].name == "train"
