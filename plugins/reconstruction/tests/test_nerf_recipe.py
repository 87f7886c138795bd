"""How a NeRF learns: rays, precrop, the schedule, where the scene is put, the warning, and whole runs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import stzoo
from stzoo.errors import ConfigError, DatasetError
from stzoo.learning import learn
from stzoo.requirements import Requirements
from stzoo_reconstruction.cameras import Cameras, look_at, orbit
from stzoo_reconstruction.nerf import NeRF
from stzoo_reconstruction.nerf_recipe import NeRFRecipe, duration
from stzoo_reconstruction.rays import camera_rays

HOTDOG = Path(__file__).parent / "data" / "hotdog"
TINY: dict[str, Any] = {"layers": 2, "width": 16, "frequencies": (4, 2), "samples": 16, "cells": 8}


def ball(cameras: Cameras) -> list[dict[str, Any]]:
    """A red ball of radius 1 at the origin, before white, as these cameras see it."""
    rows = []
    for camera in cameras:
        origins, directions = camera_rays(torch.from_numpy(camera.array[0]))
        directions = directions / directions.norm(dim=-1, keepdim=True)
        middle = -(origins * directions).sum(-1)
        hit = (origins + middle[..., None] * directions).norm(dim=-1) < 1
        image = torch.where(hit[..., None], torch.tensor([0.8, 0.1, 0.1]), 1.0).permute(2, 0, 1)
        rows.append({"cameras": camera, "image": image.float().numpy()})
    return rows


def views(count: int = 6, size: int = 24) -> list[dict[str, Any]]:
    return ball(orbit((), count).fitted((size, size)))


def trained(recipe: NeRFRecipe, rows: list[dict[str, Any]], steps: int, **config: Any) -> tuple[NeRF, list[float]]:
    torch.manual_seed(0)
    module = NeRF(**TINY | {"fine_samples": 0} | config)
    losses = [
        sum(map(float, found.values())) for _, found in learn(module, recipe, rows, steps, requirements=Requirements())
    ]
    return module, losses


def test_it_learns_a_ball() -> None:
    rows = views()
    module, losses = trained(NeRFRecipe(rays=256, lr=5e-3, noise=0.5, look_every=4), rows, 150)
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:5])
    with torch.inference_mode():
        seen = module.render(torch.from_numpy(rows[2]["cameras"].array[0]).float())
    error = np.square(seen.image.numpy() - rows[2]["image"]).mean()
    assert -10 * math.log10(error) > 15
    middle = seen.depth[12, 12].item()
    assert 2.5 < middle < 4, f"the ball begins 3 units away, not {middle:.2f}"


def test_coarse_and_fine_have_a_loss_each() -> None:
    module = NeRF(**TINY | {"fine_samples": 8, "cells": 0})
    recipe = NeRFRecipe()
    assert set(recipe.losses(module, recipe.sample_batch(module), 0)) == {"coarse", "fine"}
    module = NeRF(**TINY | {"fine_samples": 0})
    assert set(recipe.losses(module, recipe.sample_batch(module), 0)) == {"coarse"}


def test_rays_of_one_photograph_or_of_all() -> None:
    rows, rng = views(), np.random.default_rng(0)
    for which, number in (("one", 1), ("all", 6)):
        recipe = NeRFRecipe(rays=200, views=which)
        items = recipe.samples(rows)
        sample = recipe.sample(items[1], Requirements(), rng)
        assert sample["camera"].shape == (1, 200, 24) and sample["pixels"].shape == (1, 200, 2)
        assert len(np.unique(sample["camera"][0], axis=0)) == number
        for camera, (column, row), colour in zip(
            sample["camera"][0], sample["pixels"][0], sample["colour"][0], strict=True
        ):
            index = next(i for i, item in enumerate(items) if np.array_equal(item["camera"], camera))
            np.testing.assert_allclose(colour, rows[index]["image"][:, int(row), int(column)], atol=1 / 255)


def test_first_steps_look_at_the_middle() -> None:
    recipe = NeRFRecipe(rays=300, precrop=5)
    items = recipe.samples(views())
    sample = recipe.sample(items[0], Requirements(), np.random.default_rng(0))
    whole, middle = sample["pixels"]
    assert whole.min() == 0 and whole.max() == 23
    assert middle.min() == 6 and middle.max() == 17
    asked: list[torch.Tensor] = []

    class Watched(NeRF):
        def trace(self, origins: Any, directions: Any, **options: Any) -> Any:
            asked.append(directions)
            return super().trace(origins, directions, **options)

    module = Watched(**TINY | {"fine_samples": 0})
    batch = {name: torch.from_numpy(value)[None] for name, value in sample.items()}
    for step in (4, 5):
        recipe.losses(module, batch, step)
    angles = [
        (item / item.norm(dim=1, keepdim=True)) @ -torch.from_numpy(items[0]["camera"][:16].reshape(4, 4)[:3, 2])
        for item in asked
    ]
    assert angles[0].min() > angles[1].min() + 0.02


def test_noise_is_added_to_densities_in_training_alone() -> None:
    module = NeRF(**TINY | {"fine_samples": 0, "cells": 0})
    rays = torch.zeros(50, 3), torch.ones(50, 3)
    first, again, noisy = (module.trace(*rays, noise=noise)[0][0].rgb for noise in (0, 0, 5.0))
    assert torch.equal(first, again)
    assert noisy.std(0).mean() > first.std(0).mean() + 1e-3


@pytest.mark.parametrize(("decay", "wanted"), [(0, 0.1), (50, 0.01)])
def test_the_learning_rate_falls_exponentially(decay: int, wanted: float) -> None:
    module = NeRF(**TINY)
    [(optimizer, schedule)] = NeRFRecipe(lr=5e-4, decay=decay).optimizers(module, 100)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 5e-4 and rates[100] == pytest.approx(5e-4 * wanted)
    assert rates[50] ** 2 == pytest.approx(rates[0] * rates[100])


def test_presets_are_the_published_settings() -> None:
    blender, paper = NeRFRecipe(preset="blender"), NeRFRecipe(preset="llff", rays=1024)
    assert (blender.lr, blender.decay, blender.rays, blender.views, blender.precrop) == (
        5e-4,
        500_000,
        1024,
        "one",
        500,
    )
    assert (paper.noise, paper.frame, paper.rays, paper.decay) == (1.0, "recentred", 1024, 250_000)


def test_where_the_scene_is_put() -> None:
    rows = ball(orbit((), 5).fitted((24, 24)))
    moved = [dict(row) for row in rows]
    for row, camera in zip(moved, (row["cameras"] for row in rows), strict=True):
        poses = camera.poses.copy()
        poses[:, :3, 3] = 3 * poses[:, :3, 3] + 7  # three times as large, elsewhere
        row["cameras"] = Cameras.of(poses, camera.intrinsics, (24, 24))
    found = {}
    for name in ("capture", "centred", "recentred"):
        recipe, module = NeRFRecipe(frame=name), NeRF(**TINY | {"fine_samples": 0})
        recipe.samples(moved)
        recipe.start(module, False)
        positions = np.concatenate([row["cameras"].positions for row in moved])
        found[name] = positions @ module.frame[:3, :3].T + module.frame[:3, 3]
        assert module.near == pytest.approx(6, rel=0.02) and module.far == pytest.approx(18, rel=0.02)
        config = recipe.config(module)
        assert stzoo.create("nerf", device="cpu", **config).module.near == module.near
    np.testing.assert_allclose(found["capture"], positions)
    np.testing.assert_allclose(np.linalg.norm(found["centred"], axis=1), 4, atol=0.01)
    np.testing.assert_allclose(found["recentred"].mean(0), 0, atol=1e-6)


def test_a_scene_seen_from_the_front() -> None:
    """LLFF's settings: normalised device coordinates about the average camera, wherever the capture has its origin."""
    poses = np.stack([look_at((x, y, 9.0), (0, 0, 0), (0, 1, 0)) for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
    rows = ball(Cameras.of(poses, (40.0, 40.0, 12.0, 12.0), (24, 24), (7.0, 12.0)))
    recipe = NeRFRecipe(preset="llff", rays=128, lr=3e-3, decay=150, noise=0.5)
    module, losses = trained(recipe, rows, 120, ndc=True, cells=0, fine_samples=8)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    nearest = module.frame[:3, :3] @ [0, 0, 9.0 - 7.0] + module.frame[:3, 3]
    assert nearest[2] == pytest.approx(-4 / 3, rel=0.02)
    with torch.inference_mode():
        seen = module.render(torch.from_numpy(rows[0]["cameras"].array[0]).float())
    depth = seen.depth[9:15, 9:15]
    assert torch.isfinite(seen.depth).all() and abs(depth.median() - 8) < 2


def test_what_a_model_knows_is_kept_when_it_learns_on() -> None:
    recipe, module = NeRFRecipe(), NeRF(**TINY | {"near": 1.0, "far": 9.0})
    recipe.samples(views())
    recipe.start(module, True)
    assert (module.near, module.far) == (1.0, 9.0)


def test_bounds_come_from_the_cameras_or_the_config() -> None:
    rows = views()
    for row in rows:
        row["cameras"] = Cameras.of(row["cameras"].poses, row["cameras"].intrinsics, (24, 24), (1.5, 7.5))
    for bounds, wanted in (("cameras", (1.5, 7.5)), ("config", (2.0, 6.0))):
        recipe, module = NeRFRecipe(bounds=bounds), NeRF(**TINY)
        recipe.samples(rows)
        recipe.start(module, False)
        assert (module.near, module.far) == wanted


# --- the warning ------------------------------------------------------------------------------------------------------


def test_the_papers_configuration_on_a_cpu_says_how_long_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "stzoo"):
        NeRFRecipe(preset="blender").optimizers(NeRF(), 200_000)
    [message] = [record.getMessage() for record in caplog.records]
    assert "200000 steps take about" in message and "days" in message and "use a GPU" in message
    days = float(message.partition("steps take about ")[2].split()[0])
    seconds = float(message.partition("takes about ")[2].split()[0])
    assert days == pytest.approx(200_000 * seconds / 86400, rel=0.1, abs=1) and days > 1
    caplog.clear()
    with caplog.at_level(logging.WARNING, "stzoo"):
        network = NeRF(**TINY)
        NeRFRecipe(rays=64).optimizers(network, 100)
    assert not caplog.records and all(item.grad is None for item in network.parameters())


def test_durations() -> None:
    assert [duration(item) for item in (7200, 2.6e6, 5400, 60)] == [
        "about 2 hours",
        "about 30 days",
        "about 90 minutes",
        "about 60 seconds",
    ]


# --- what does not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "paper"}, "preset must be one of 'small', 'blender', 'llff', got 'paper'"),
        ({"views": "some"}, "views must be one of 'one', 'all'"),
        ({"frame": "world"}, "frame must be one of"),
        ({"bounds": "none"}, "bounds must be one of"),
        ({"rays": 0}, "rays must be a whole number of at least 1, got 0"),
        ({"rays": 1.5}, "rays must be a whole number"),
        ({"lr": -1.0}, "lr must be a number"),
        ({"noise": float("nan")}, "noise must be a number of at least 0, got nan"),
        ({"precrop": -1}, "precrop must be a whole number"),
        ({"look_every": 0}, "look_every must be positive"),
    ],
)
def test_impossible_recipes_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NeRFRecipe.from_options(options)


def test_pictures_must_be_as_large_as_their_cameras_say_and_fit() -> None:
    rows = views()
    wrong = [rows[0], rows[1] | {"image": rows[1]["image"][:, :-2]}]
    with pytest.raises(DatasetError, match="view 1 has 22x24 pixels and a camera for 24x24"):
        NeRFRecipe().samples(wrong)
    with pytest.raises(ConfigError, match="the pictures take more than 0 MB.*|Raise recipe.memory"):
        NeRFRecipe(memory=0).samples(rows)
    recipe = NeRFRecipe(memory=0, views="one", rays=7)
    item = recipe.samples(rows)[3]
    assert recipe.sample(item, Requirements(), np.random.default_rng(0))["colour"].shape == (1, 7, 3)


# --- whole runs -------------------------------------------------------------------------------------------------------

RUN: dict[str, Any] = {
    "steps": 6,
    "batch_size": 1,
    "checkpoint_every": 2,
    "evaluate_every": 6,
    "pictures": 0,
    "trackers": [],
    "recipe": {"rays": 64, "precrop": 3, "look_every": 2},
    "model_config": TINY,
}


def test_a_run_that_is_interrupted_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stzoo.finetune("nerf", HOTDOG, tmp_path / "whole", **RUN)
    after = NeRFRecipe.after_step

    def stop(self: NeRFRecipe, module: Any, step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt
        after(self, module, step)

    monkeypatch.setattr(NeRFRecipe, "after_step", stop)
    with pytest.raises(KeyboardInterrupt):
        stzoo.finetune("nerf", HOTDOG, tmp_path / "parts", **RUN)
    monkeypatch.undo()
    stzoo.finetune(output=tmp_path / "parts", resume=True)
    one, two = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    loaded = stzoo.load(tmp_path / "parts" / "last", device="cpu")
    assert loaded.config["frame"] and loaded.config["home"] and loaded.config["far"] != 6.0
    assert loaded.predict(size=8).image.shape == (3, 8, 8)
    assert whole.record["status"] == "finished"
