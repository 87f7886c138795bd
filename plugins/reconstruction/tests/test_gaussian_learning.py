"""How Gaussians learn: loss, growth, initialisation and schedule against reference numbers; then whole runs."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import stzoo
from stzoo.errors import ConfigError, DatasetError
from stzoo.learning import learn
from stzoo.media.geometry import BAND
from stzoo.requirements import Requirements
from stzoo_reconstruction import densify, initialisation
from stzoo_reconstruction.cameras import Cameras, orbit, standard_home
from stzoo_reconstruction.gaussian_recipe import GaussianRecipe, decay
from stzoo_reconstruction.gaussians import GaussianSplatting
from stzoo_reconstruction.loss import BLOCK, WHOLE, blurred, photometric_loss, ssim

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("means", "scales", "quats", "opacities", "sh0", "shN")


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / f"{name}.safetensors")


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "suffix"), [(torch.float32, ""), (torch.float64, "_f64")])
def test_loss_and_gradient(dtype: torch.dtype, suffix: str) -> None:
    expected = golden("gs-dssim-loss")
    image = expected["img"].to(dtype).clone().requires_grad_()
    found = photometric_loss(image, expected["target"].to(dtype))
    total = found["l1"] + found["dssim"]
    total.backward()
    torch.testing.assert_close(total.detach(), expected[f"loss{suffix}"][0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(image.grad, expected[f"grad_img{suffix}"], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(ssim(image, expected["target"].to(dtype)).float(), expected["ssim"][0])


def test_large_pictures_are_blurred_alike() -> None:
    """Above a size the band is applied in blocks: the middle of a picture and its borders come out as in a small one."""
    width = WHOLE + BLOCK + 7
    wide = torch.rand(2, 9, width, dtype=torch.float64)
    found = blurred(wide)
    torch.testing.assert_close(found[..., :200], blurred(wide[..., :250])[..., :200])
    torch.testing.assert_close(found[..., -100:], blurred(wide[..., -150:])[..., -100:])
    torch.testing.assert_close(blurred(wide.mT).mT, found)


def test_gradients_of_ssim_are_derivatives() -> None:
    image, true = torch.rand(2, 3, 13, 12, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lambda x: ssim(x, true), image.requires_grad_())


# --- growth -----------------------------------------------------------------------------------------------------------


class Points(nn.Module):
    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in NAMES:
            setattr(self, name, nn.Parameter(values[name].clone()))


def test_growth_pruning_and_reset() -> None:
    expected = golden("gs-densify")
    network: Any = Points({name: expected[f"in.{name}"] for name in NAMES})
    optimizer = torch.optim.Adam([{"params": [item]} for item in network.parameters()], lr=0.0)
    for parameter in network.parameters():
        parameter.grad = torch.rand_like(parameter)
    optimizer.step()
    before = {name: optimizer.state[getattr(network, name)]["exp_avg_sq"].clone() for name in NAMES}
    pull = expected["state.grad2d"] / expected["state.count"].clamp(min=1)
    chosen = pull > 0.0002
    counts = densify.grow(network, optimizer, chosen, 0.01 * 1.7, expected["split_noise"])
    assert counts == (14, 51)
    for name in NAMES:
        torch.testing.assert_close(getattr(network, name).data, expected[f"grown.{name}"], rtol=1e-5, atol=1e-6)
    stay = ~(chosen & expected["is_split"])
    for name in NAMES:
        moments = optimizer.state[getattr(network, name)]["exp_avg_sq"]
        assert torch.equal(moments[: int(stay.sum())], before[name][stay])
        assert not moments[int(stay.sum()) :].any(), "new Gaussians start without moments"
    keep = (network.opacities.sigmoid() >= 0.005) & (network.scales.amax(1).exp() <= 0.1 * 1.7)
    densify.prune(network, optimizer, keep)
    assert int((~keep).sum()) == 8
    for name in NAMES:
        torch.testing.assert_close(getattr(network, name).data, expected[f"pruned.{name}"], rtol=1e-5, atol=1e-6)
        assert optimizer.state[getattr(network, name)]["exp_avg"].shape == getattr(network, name).shape
    densify.reset_opacity(network, optimizer)
    torch.testing.assert_close(network.opacities.data, expected["reset.opacities"], rtol=1e-5, atol=1e-6)
    assert not optimizer.state[network.opacities]["exp_avg"].any()
    assert optimizer.state[network.means]["exp_avg"].any()


def test_moments_follow_as_the_reference_has_them() -> None:
    """The same rows keep their moments: shown with the reference's own, whose zeros are those of new Gaussians."""
    expected = golden("gs-densify")
    fresh = int(expected["is_split"].sum()) * 2 + int(expected["is_dup"].sum())
    assert not expected["adam_exp_avg_grown.means"][-fresh:].any()
    assert expected["adam_exp_avg_grown.means"][:-fresh].any(1).all()


def test_means_rate() -> None:
    expected = golden("gs-lr-schedule")
    factor = decay(30_000)
    found = torch.tensor([0.0004 * factor(int(step)) for step in expected["step"]], dtype=torch.float64)
    torch.testing.assert_close(found, expected["xyz_lr"], rtol=1e-9, atol=0)


# --- where they start -------------------------------------------------------------------------------------------------


def test_points_become_gaussians() -> None:
    expected = golden("gs-init-knn")
    network: Any = GaussianSplatting(points=3, degree=1)
    initialisation.set_gaussians(network, expected["points"].double().numpy(), expected["rgb"].double().numpy())
    torch.testing.assert_close(
        network.scales.data, expected["log_scale_inria"][:, None].expand(-1, 3), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(network.sh0.data[:, 0], expected["f_dc"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.opacities.data, expected["opacity_logit"].expand(300))
    assert network.shN.shape == (300, 3, 3) and not network.shN.any()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_handful_of_points(count: int) -> None:
    assert np.isfinite(initialisation.log_scales(np.random.default_rng(0).random((count, 3)))).all()


def test_random_points_are_seen() -> None:
    cameras, rng = orbit((), 6), np.random.default_rng(0)
    points = initialisation.random_points(cameras, 500, rng)
    assert points.shape == (500, 3)
    pixels, depth = cameras.project(points)
    inside = (depth > 0) & (pixels >= 0).all(2) & (pixels < 64).all(2)
    assert inside.any(0).all()
    pictures = [np.full((3, 64, 64), 51, np.uint8)] * 6
    np.testing.assert_allclose(initialisation.mean_colours(cameras, pictures, points), 0.2, atol=1e-5)
    away = np.array([[1000.0, 1000.0, 1000.0]])
    np.testing.assert_allclose(initialisation.mean_colours(cameras, pictures, away), 0.5)


def test_extent() -> None:
    cameras = orbit((), 4)
    assert initialisation.extent_of(cameras) == pytest.approx(1.1 * 4 * math.cos(math.pi / 6), rel=1e-3)
    assert initialisation.extent_of(cameras[:1]) > 1, "one camera: its distance to what it looks at"


# --- the recipe -------------------------------------------------------------------------------------------------------


def disc(camera: Cameras, colour: tuple[int, int, int]) -> np.ndarray:
    """What a camera sees of a ball at the origin on white: (3,H,W) in [0, 1]."""
    height, width = camera.sizes[0].astype(int)
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.hypot(x - width / 2, y - height / 2) < 0.15 * camera.intrinsics[0, 0]
    return np.where(inside, np.array(colour)[:, None, None] / 255, 1.0).astype(np.float32)


def views(count: int = 6, side: int = 32) -> list[dict[str, Any]]:
    cameras = orbit(standard_home(side, side), count)
    colours = [(200 - 5 * index, 40 + 5 * index, 30) for index in range(count)]
    return [
        {"cameras": cameras[index], "image": disc(cameras[index], colours[index]), "capture": None}
        for index in range(count)
    ]


def test_learns_grows_and_stays_below_the_cap() -> None:
    recipe = GaussianRecipe(points=150, cap=170, grow_from=10, grow_every=10, threshold=1e-6, grow_until=0.9)
    network: Any = GaussianSplatting(points=1)
    counts, losses = [], []
    for _, found in learn(network, recipe, views(), 60, requirements=Requirements()):
        counts.append(len(network.means))
        losses.append(float(sum(found.values())))
    assert counts[9] == 150 and max(counts) == 170
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    assert recipe.config(network)["points"] == counts[-1]


def test_degree_rises() -> None:
    recipe = GaussianRecipe(points=50, degree_every=0.25, cap=50)
    network: Any = GaussianSplatting(points=1)
    seen = []
    for _ in learn(network, recipe, views(2), 8, requirements=Requirements()):
        seen.append([bool(network.shN.data[:, part].any()) for part in (slice(0, 3), slice(3, 8), slice(8, 15))])
    assert seen[1] == [False] * 3 and seen[3] == [True, False, False] and seen[7] == [True] * 3


@pytest.mark.parametrize("coloured", [True, False])
def test_starts_at_the_points_of_the_capture(coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points, colours = rng.uniform(-0.3, 0.3, (40, 3)), np.full((40, 3), 0.25) if coloured else None
    monkeypatch.setattr("stzoo_reconstruction.captures.points_of", lambda capture: (points, colours))
    network, recipe = GaussianSplatting(points=1), GaussianRecipe(cap=30)
    recipe.samples([view | {"capture": "capture"} for view in views(3)])
    recipe.start(network, False)
    assert network.means.shape == (30, 3), "no more than the cap"
    assert all(np.isclose(points, mean, atol=1e-6).all(1).any() for mean in network.means.detach().numpy())
    found = network.sh0.detach()[:, 0] * BAND + 0.5
    expected = torch.tensor([0.25] * 3) if coloured else torch.tensor([195.0, 45.0, 30.0]) / 255
    assert (found.mean(0) - expected).abs().max() < (1e-5 if coloured else 0.25)


def test_a_trained_model_keeps_its_degree() -> None:
    network = GaussianSplatting(points=20)
    nn.init.normal_(network.shN)
    recipe = GaussianRecipe()
    batch = {name: value[:1] for name, value in recipe.sample_batch(network).items()}
    recipe.start(network, True)
    recipe.optimizers(network, 100)
    sum(recipe.losses(network.train(), batch, 0).values(), torch.zeros(())).backward()
    assert network.shN.grad is not None and network.shN.grad.any()


def test_presets() -> None:
    recipe = GaussianRecipe(preset="paper")
    network = GaussianSplatting(points=2)
    recipe.samples(views())
    [(optimizer, _)] = recipe.optimizers(network, 30_000)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    extent = 1.1 * 4 * math.cos(math.pi / 6)
    expected = {
        "means": 1.6e-4 * extent,
        "scales": 5e-3,
        "quats": 1e-3,
        "opacities": 0.05,
        "sh0": 2.5e-3,
        "shN": 1.25e-4,
    }
    assert rates == pytest.approx(expected, rel=1e-3)
    assert (recipe.threshold, recipe.grow_from, recipe.grow_until * 30_000, recipe.reset_every) == (
        2e-4,
        500,
        15_000,
        3000,
    )
    assert recipe.degree_every * 30_000 == pytest.approx(1000)
    assert GaussianRecipe(preset="paper", threshold=1e-3).threshold == 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast"}, "preset must be 'paper' or 'quick'"),
        ({"lr": -1.0}, "lr, points, cap and grow_every must be positive"),
        ({"points": 2.5}, "points must be a whole number"),
        ({"cap": "many"}, "cap must be a whole number"),
        ({"grow_until": 2}, "grow_until and degree_every must be from 0 to 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GaussianRecipe(**options)


def test_bad_views(caplog: pytest.LogCaptureFixture) -> None:
    wrong = views(3)
    wrong[1]["image"] = wrong[1]["image"][:, :20]
    with pytest.raises(DatasetError, match="view 1 has 20x32 pixels and a camera for 32x32"):
        GaussianRecipe().samples(wrong)
    recipe = GaussianRecipe(points=20)
    recipe.samples(views(1))
    assert "one photograph shows too little" in caplog.text
    for _ in learn(GaussianSplatting(points=1), recipe, views(1), 2, requirements=Requirements()):
        pass


def test_views_of_different_sizes() -> None:
    mixed = views(2, 32) + views(2, 24)
    losses = [
        found
        for _, found in learn(
            GaussianSplatting(points=1), GaussianRecipe(points=50), mixed, 4, requirements=Requirements()
        )
    ]
    assert len(losses) == 4
    with pytest.raises(DatasetError, match="the samples of one batch differ.*batch_size=1"):
        list(
            learn(
                GaussianSplatting(points=1),
                GaussianRecipe(points=50),
                mixed,
                1,
                requirements=Requirements(),
                batch_size=4,
            )
        )


def test_cameras_that_see_nothing() -> None:
    """They look in all directions, away from what lies between them."""
    cameras = orbit((), 4)
    away = [
        view | {"cameras": Cameras.of(camera.poses @ turn, camera.intrinsics, camera.sizes)}
        for view, camera, turn in zip(views(4, 64), cameras, [np.diag([-1.0, 1, -1, 1])] * 4, strict=True)
    ]
    recipe = GaussianRecipe(points=50)
    with pytest.raises(DatasetError, match="the cameras see next to nothing.*looking along -z"):
        recipe.samples(away)
        recipe.start(GaussianSplatting(points=1), False)


def test_black_pictures() -> None:
    black = [view | {"image": np.zeros((3, 32, 32), np.float32)} for view in views(3)]
    network = GaussianSplatting(points=1, background="black")
    recipe = GaussianRecipe(points=60, grow_from=5, grow_every=5, grow_until=1.0)
    for _, found in learn(network, recipe, black, 20, requirements=Requirements()):
        assert all(torch.isfinite(loss) for loss in found.values())
    assert len(network.means) > 0


def test_pictures_beyond_the_memory_are_read_when_needed() -> None:
    class Counted(list[Any]):
        reads = 0

        def __getitem__(self, index: Any) -> Any:
            Counted.reads += 1
            return super().__getitem__(index)

    kept, read = GaussianRecipe(), GaussianRecipe(memory=0)
    assert kept.samples(views(3))[0]["image"].dtype == np.uint8
    examples = Counted(views(3))
    items = read.samples(examples)
    assert Counted.reads == 3 and items is examples
    rng = np.random.default_rng(0)
    for left, right in zip(kept.samples(views(3)), items, strict=True):
        a, b = (recipe.sample(item, Requirements(), rng) for recipe, item in ((kept, left), (read, right)))
        assert all(np.array_equal(a[name], b[name]) for name in ("camera", "image"))


# --- runs -------------------------------------------------------------------------------------------------------------

RUN: dict[str, Any] = {
    "steps": 40,
    "batch_size": 1,
    "evaluate_every": 40,
    "checkpoint_every": 15,
    "pictures": 0,
    "trackers": [],
    "recipe": {
        "points": 120,
        "cap": 400,
        "grow_from": 5,
        "grow_every": 10,
        "threshold": 1e-6,
        "grow_until": 0.9,
        "reset_every": 25,
    },
}


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Blender's layout: eight views 24x24 of a ball."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("capture")
    frames = []
    for index, view in enumerate(views(8, 24)):
        pixels = np.rint(view["image"] * 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"r_{index}.png")
        frames.append({"file_path": f"./r_{index}", "transform_matrix": view["cameras"].poses[0].tolist()})
    (folder / "transforms.json").write_text(json.dumps({"camera_angle_x": 0.6911112, "frames": frames}))
    return folder


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "last" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    stzoo.finetune("gaussian-splatting", capture, output, **RUN)
    return output


def test_a_run_is_a_model(whole: Path) -> None:
    tensors = weights(whole)
    assert 120 < len(tensors["means"]) <= 400
    predictor = stzoo.load(whole / "last")
    assert predictor.config["points"] == len(tensors["means"]) and len(predictor.config["home"]) == 30
    prediction = predictor.predict()
    assert prediction.outputs["image"].shape == (3, 24, 24)


@pytest.mark.parametrize("saved", [True, False])
def test_resume_in_the_middle_of_growth(
    whole: Path, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    """Stopped between two changes of the number of Gaussians, with half of the statistics gathered, a run goes on to the same bits:
    from where it was interrupted, or from the last checkpoint where it broke down."""
    after = GaussianRecipe.after_step

    def stop(recipe: GaussianRecipe, module: nn.Module, step: int) -> None:
        after(recipe, module, step)
        if step == 17 and saved:
            signal.raise_signal(signal.SIGINT)
        elif step == 17:
            raise RuntimeError("the device is lost")

    with monkeypatch.context() as patch:
        patch.setattr(GaussianRecipe, "after_step", stop)
        with pytest.raises(KeyboardInterrupt if saved else RuntimeError):
            stzoo.finetune("gaussian-splatting", capture, tmp_path / "run", **RUN)
    steps = [int(path.name.removeprefix("step-")) for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert max(steps) == (18 if saved else 15)
    stzoo.finetune(output=tmp_path / "run", resume=True)
    expected, found = weights(whole), weights(tmp_path / "run")
    assert all(torch.equal(expected[name], found[name]) for name in NAMES)


def test_training_goes_on_from_a_model(whole: Path, capture: Path, tmp_path: Path) -> None:
    """A model's own Gaussians are kept: no new ones are placed."""
    run = stzoo.finetune(
        whole / "last", capture, tmp_path / "run", steps=2, batch_size=1, pictures=0, trackers=[], recipe={"lr": 1e-9}
    )
    assert torch.allclose(weights(run.folder)["means"], weights(whole)["means"], atol=1e-5)
