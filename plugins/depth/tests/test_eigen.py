"""Eigen's network against its reference, its geometry, its checkpoints, and how it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden
from safetensors.torch import save_file
from torch import Tensor

import stzoo
from stzoo import Requirements
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo_depth.eigen import KITTI, Eigen2014, OfficialEigen, normalised, padding, pool
from stzoo_depth.mean import MeanDepth, MeanDepthRecipe
from stzoo_depth.recipe import EigenRecipe, scale_invariant_loss, warp

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {
    "frame": (72, 104),
    "size": (64, 96),
    "widths": (4, 5, 6, 6, 5),
    "hidden": 8,
    "fine": 4,
}


@pytest.mark.parametrize("ending", [".npz", ".pth", ".safetensors"])
def test_official_tensors_give_the_reference_outputs(ending: str, tmp_path: Path) -> None:
    reference = Golden(GOLDENS / "eigen2014-A-small")
    state, path = reference.state, tmp_path / f"eigen{ending}"
    if ending == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in state.items()})  # type: ignore[arg-type]
    elif ending == ".pth":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    imported = stzoo.import_checkpoint(path, device="cpu")
    assert imported.architecture.name == "eigen" and imported.config["size"] == (76, 104)
    assert {note.partition(":")[0] for note in imported.report.notes} == {"size", "frame", "rows", "log_std", "dropout"}
    golden = reference.tensors
    network: Any = imported.module
    with torch.inference_mode():
        x = golden["input"]
        first = normalised(F.relu(pool(network.imnet_conv1(x - 128))))
        torch.testing.assert_close(first, golden["output_r1"], rtol=1e-4, atol=1e-5)
        second = normalised(F.relu(pool(network.imnet_conv2(first))))
        torch.testing.assert_close(second, golden["output_r2"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network.features(x), golden["output_r5"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network.coarse(x), golden["output_coarse"], rtol=1e-4, atol=1e-5)
        found = network(x)
    torch.testing.assert_close(found, golden["output_fine"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((found * network.log_std).exp(), golden["output_depth"], rtol=1e-4, atol=1e-5)


def test_published_sizes() -> None:
    """Those of the paper's table, at NYU's 304x228 and KITTI's 576x172; 70.88 million parameters for NYU."""
    for config, output, stages in (
        ({}, (55, 74), [(27, 37), (13, 18), (6, 8)]),
        (KITTI, (27, 142), [(20, 71), (9, 35), (4, 17)]),
    ):
        with torch.device("meta"):
            network = Eigen2014(**config)  # type: ignore[arg-type]
            x = torch.empty(1, 3, *network.size)
            found, sizes = pool(network.imnet_conv1(x)), []
            sizes.append(tuple(found.shape[2:]))
            found = pool(network.imnet_conv2(found))
            sizes.append(tuple(found.shape[2:]))
            sizes.append(tuple(network.features(x).shape[2:]))
        assert network.output == output and network(x).shape == (1, 1, *output)
        assert sizes == stages
        assert network.targets(torch.empty(1, *network.size)).shape == (1, *output)
    with torch.device("meta"):
        assert sum(item.numel() for item in Eigen2014().parameters()) == 70_877_415


def test_response_normalisation_and_padding() -> None:
    torch.manual_seed(0)
    x = 30 * torch.randn(2, 7, 3, 4)
    torch.testing.assert_close(normalised(x), F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2))
    assert [padding(length, 11, 4) for length in (228, 304, 76)] == [2, 2, 2]
    assert [padding(length, 9, 2) for length in (228, 116, 77)] == [1, 1, 0]


def test_the_first_fine_map_is_replaced_by_the_coarse_one() -> None:
    network = Eigen2014(**SMALL).eval()
    x = 255 * torch.rand(1, 3, *network.size)
    with torch.inference_mode():
        before = network(x)
        network.conv_s2_1.W[0] += 1
        assert torch.equal(network(x), before)
        network.full2.bias += 1
        assert (network(x) != before).any()


def test_dropout_is_not_made_up_for_in_training() -> None:
    network = Eigen2014(**SMALL | {"dropout": 0.25})
    x, hidden = 255 * torch.rand(1, 3, *network.size), []
    network.full2.register_forward_pre_hook(lambda _, given: hidden.append(given[0].detach()))
    network.eval().coarse(x)
    network.train()
    for _ in range(5):
        network.coarse(x)
    full, kept = hidden[0] / 0.75, torch.cat(hidden[1:])
    some = kept != 0
    torch.testing.assert_close(kept[some], full.expand_as(kept)[some])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": (62, 96)}, "multiples of 4 of at least 64"),
        ({"size": (60, 96)}, "multiples of 4 of at least 64"),
        ({"frame": (60, 96)}, "is smaller than size"),
        ({"rows": (10, 8)}, "rows=\\(10, 8\\) must be inside 64 rows"),
        ({"rows": (0, 30)}, "a multiple of 4"),
        ({"widths": (4, 5)}, "five widths"),
        ({"dropout": 1.0}, "dropout from 0 to below 1"),
    ],
)
def test_impossible_networks_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Eigen2014(**SMALL | config)


def test_pictures_of_another_size_are_refused_by_the_network() -> None:
    with pytest.raises(InputError, match=r"expected \(batch, 3, 64, 96\)"):
        Eigen2014(**SMALL)(torch.zeros(1, 3, 64, 64))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = Golden(GOLDENS / "eigen2014-A-small").state
    torch.save({key: value for key, value in state.items() if key != "conv_s2_2.b"}, tmp_path / "part.pth")
    torch.save(state | {"full2.W": torch.zeros(16, 409)}, tmp_path / "odd.pth")
    (tmp_path / "no.npz").write_bytes(b"PK\3\4 nothing")
    for name, message in (
        ("part.pth", "1 of its tensors are missing: conv_s2_2.b"),
        ("odd.pth", "no size has 2 places and 409 pixels"),
        ("no.npz", "not a readable NumPy archive"),
    ):
        with pytest.raises(FormatError, match=message):
            stzoo.import_checkpoint(tmp_path / name)
    assert OfficialEigen().detect({"conv1.weight": torch.zeros(1)}) is None


def test_a_kitti_checkpoint_is_told_from_its_shapes() -> None:
    with torch.device("meta"):
        state = Eigen2014(**KITTI).state_dict()  # type: ignore[arg-type]
    assert (OfficialEigen().detect(state) or {}).items() >= KITTI.items()


# --- where the map belongs --------------------------------------------------------------------------------------------


class Ramp(Eigen2014):
    """Gives the row (or the column) of the network's input that each output is for, as a tenth of a depth's logarithm."""

    axis = 0

    def forward(self, x: Tensor) -> Tensor:
        lines = torch.arange(float(self.size[self.axis]))
        picture = lines.view((-1, 1) if self.axis == 0 else (1, -1)).expand(1, *self.size)
        return self.targets(0.1 * picture / self.log_std)[None].expand(len(x), -1, -1, -1)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("times", [1, 2])
def test_depth_comes_out_at_the_place_it_was_predicted_for(axis: int, times: int) -> None:
    made = stzoo.create("eigen", device="cpu", **SMALL)
    made.module = Ramp(**SMALL)
    made.module.axis = axis
    corner = made.module.corner()
    image = np.zeros((3, *(times * side for side in SMALL["frame"])), np.float32)
    depth = 10 * np.log(made.predict(image, border="unknown").depth)
    assert depth.shape == image.shape[1:]
    place = (np.indices(depth.shape)[axis] + 0.5) / times - 0.5 - corner[axis]  # what Ramp says, pixel by pixel
    inside = [slice(times * (corner[a] + 6), times * (corner[a] + SMALL["size"][a] - 8)) for a in (0, 1)]
    np.testing.assert_allclose(depth[*inside], place[*inside], atol=1e-3)
    known = np.isfinite(depth)
    rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    wanted = [(times * (corner[a] + 4), times * (corner[a] + SMALL["size"][a] - 4) - 1) for a in (0, 1)]
    assert [(rows[0], rows[-1]), (columns[0], columns[-1])] == wanted
    assert np.isfinite(made.predict(image).depth).all(), "the border is not extended"


def test_the_nearest_output_stands_for_its_four_rows() -> None:
    made = stzoo.create("eigen", device="cpu", **SMALL)
    made.module = Ramp(**SMALL)
    depth = made.predict(np.zeros((3, *SMALL["frame"]), np.float32), upsampling="nearest").depth[:, 50]
    corner = made.module.corner()[0]
    np.testing.assert_allclose(10 * np.log(depth[corner + 4 : corner + 12]), [5] * 4 + [9] * 4, atol=1e-3)


def test_rows_the_fine_network_does_not_see_stay_unknown() -> None:
    made = stzoo.create("eigen", device="cpu", **SMALL | {"rows": (40, 60)})
    depth = made.predict(np.zeros((3, *SMALL["frame"]), np.float32)).depth
    assert np.isnan(depth[:30]).all() and np.isfinite(depth[50:60]).all()


def test_pictures_of_any_size_and_kind(tmp_path: Path) -> None:
    from PIL import Image

    made = stzoo.create("eigen", device="cpu", **SMALL)
    for mode, size in (("RGB", (33, 57)), ("L", (400, 30)), ("RGBA", (16, 16))):
        Image.new(mode, size).save(tmp_path / "a.png")
        depth = made.predict(tmp_path / "a.png").depth
        assert depth.shape == size[::-1] and np.isfinite(depth).all() and (depth > 0).all()


def test_a_clip_is_predicted_frame_by_frame() -> None:
    torch.manual_seed(0)
    made = stzoo.create("eigen", device="cpu", **SMALL)
    clip = np.random.default_rng(0).random((3, 3, 40, 50), dtype=np.float32)
    found = list(made.stream(iter(clip)))
    assert [frame.shape for frame in found] == [(40, 50)] * 3
    np.testing.assert_array_equal(found[1], made.predict(clip[1]).depth)


# --- learning ---------------------------------------------------------------------------------------------------------


def test_the_loss_against_the_reference() -> None:
    reference = Golden(GOLDENS / "metrics-depth")
    golden, scalars = reference.tensors, reference.facts["scalars"]
    predicted, true = (golden[f"input_{name}"].double() for name in ("pred", "gt"))
    valid, logarithms = true > 0, predicted.log().requires_grad_()
    target = torch.where(valid, true.log(), torch.nan)
    for lam in (0.0, 0.5, 0.85, 1.0):
        wanted = scalars[f"eigen_scale_inv_loss_lambda{lam}_mean_over_batch"]
        assert scale_invariant_loss(logarithms, target, valid, lam).item() == pytest.approx(wanted, rel=1e-6)
    for image in (0, 1):
        one = scale_invariant_loss(logarithms[image : image + 1], target[image : image + 1], valid[image : image + 1])
        assert one.item() == pytest.approx(scalars[f"eigen_scale_inv_loss_lambda0.5_img{image}"], rel=1e-6)
    released = scale_invariant_loss(logarithms, target, valid, weighting="pixels")
    assert released.item() == pytest.approx(scalars["eigen_theano_depth_cost"], rel=1e-6)
    scale_invariant_loss(logarithms, target, valid).backward()  # type: ignore[no-untyped-call]
    assert logarithms.grad is not None
    torch.testing.assert_close(
        logarithms.grad.float(), golden["output_grad_eigen_loss_wrt_logpred"], rtol=1e-4, atol=1e-8
    )


def test_images_without_a_valid_pixel_cost_nothing() -> None:
    predicted, true = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    alone = scale_invariant_loss(predicted[:1], true[:1], valid[:1])
    valid[1] = False
    for weighting in ("image", "pixels"):
        assert scale_invariant_loss(predicted, true, valid, 0.5, weighting).item() == pytest.approx(alone.item())
        assert scale_invariant_loss(predicted, true, ~valid & False, 0.5, weighting).item() == 0
    assert scale_invariant_loss(predicted, predicted + 7, valid, lam=1).item() == pytest.approx(0, abs=1e-5)


def test_depth_follows_the_picture_when_it_is_moved() -> None:
    """Brightness is the depth: where a pixel comes to lie, its depth comes to lie, divided by the enlargement."""
    frame = (64, 96)
    y, x = np.mgrid[: frame[0], : frame[1]] / 96
    depth = (2 + 0.5 * np.sin(9 * x) + 0.5 * np.cos(7 * y)).astype(np.float32)
    item = {"image": np.repeat(depth[None] / 4, 3, 0), "depth": depth}
    needs, rng = Requirements(native_size=frame), np.random.default_rng(0)
    scales = []
    for _ in range(12):
        sample = EigenRecipe(colour=0.0).sample(item, needs, rng)
        known = np.isfinite(sample["depth"])
        assert known.mean() > 0.8, "most of a frame shows the picture"
        ratio = (4 * sample["image"][0] / np.where(known, sample["depth"], 1))[known]
        scales.append(float(np.median(ratio)))
        assert np.percentile(np.abs(ratio / scales[-1] - 1), 95) < 0.03
    assert 1 <= min(scales) < 1.2 and 1.3 < max(scales) <= 1.51
    plain = EigenRecipe(colour=0.0, scale=1.0, rotation=0.0, flip=False).sample(item, needs, rng)
    np.testing.assert_allclose(plain["depth"], depth, atol=1e-6)
    np.testing.assert_allclose(plain["image"], item["image"], atol=1e-5)


def test_what_comes_from_outside_is_not_valid() -> None:
    item = {"image": np.full((3, 64, 96), 0.5, np.float32), "depth": np.full((64, 96), 3, np.float32)}
    item["depth"][10:20, 10:20] = np.nan
    needs = Requirements(native_size=(64, 96))
    turned = EigenRecipe(scale=1.0, rotation=45.0).sample(item, needs, np.random.default_rng(3))
    assert np.isnan(turned["depth"]).any() and np.nanmax(np.abs(turned["depth"] - 3)) < 1e-6
    grid = warp((64, 96), 1.0, np.pi / 2, np.zeros(2), 1.0)
    np.testing.assert_allclose(grid[0, 48] * [48, 32], [31.5, 0.5], atol=1e-4)  # a quarter turn: rows become columns
    kept = EigenRecipe(scale=1.0, rotation=0.0, extremes=False).sample(
        item | {"depth": np.linspace(1, 2, 64 * 96, dtype=np.float32).reshape(64, 96)}, needs, np.random.default_rng(0)
    )
    assert np.isnan(kept["depth"]).sum() == 2, "the smallest and the largest depth count"


def test_stages_rates_and_decay() -> None:
    network = Eigen2014(**SMALL)
    recipe = EigenRecipe()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for stage, wanted in (
        ("coarse", {"imnet_conv1.W": (1e-3, 5e-4), "full1.W": (0.1, 1e-4), "full2.bias": (0.1, 0.0)}),
        ("fine", {"conv_s2_1.W": (1e-3, 1e-4), "conv_s2_2.W": (1e-2, 1e-4), "conv_s2_3.b": (1e-3, 0.0)}),
    ):
        recipe.stage = stage
        [(optimizer, _)] = recipe.optimizers(network, 10)
        found = {
            names[id(parameter)]: (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        assert all(name.startswith("conv_s2") == (stage == "fine") for name in found)
        for name, rate in wanted.items():
            assert found[name] == pytest.approx(rate)
        assert set(recipe.losses(network.train(), recipe.sample_batch(network), 0)) == {stage}
    recipe.stage = "fine"
    network.zero_grad()
    recipe.losses(network, recipe.sample_batch(network), 0)["fine"].backward()  # type: ignore[no-untyped-call]
    assert network.full1.W.grad is None, "the coarse network is not frozen"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": "sum"}, "weighting must be 'image' or 'pixels'"),
        ({"optimizer": "lbfgs"}, "optimizer must be"),
        ({"layers": "mine"}, "layers must be"),
        ({"schedule": "step"}, "schedule must be"),
        ({"lam": 2.0}, "lam from 0 to 1"),
        ({"scale": 0.5}, "scale from 1 to 4"),
    ],
)
def test_impossible_recipes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EigenRecipe(**settings)


def test_the_mean_map_is_of_known_depths_alone() -> None:
    network = MeanDepth((2, 3))
    maps = [np.array([[1, np.nan, 3], [np.nan, 5, 6]]), np.array([[3, np.nan, 5], [4, 7, 8]])]
    found = MeanDepthRecipe().fit(network, [{"image": np.zeros((3, 2, 3)), "depth": item} for item in maps])
    rest = np.mean([1, 3, 5, 6, 3, 5, 4, 7, 8])
    torch.testing.assert_close(network.mean[0, 0], torch.tensor([[2, rest, 4], [4, 6, 7]]).float())
    assert found["maps"] == 2
    assert network(torch.zeros(4, 3, 9, 9)).shape == (4, 1, 2, 3)
