"""NeRF against its reference: encoding, networks, sampling, volume rendering, rays and poses; and whole renderings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden, fill
from torch import Tensor

from stzoo.errors import ConfigError
from stzoo_reconstruction.cameras import Cameras, look_at, orbit, standard_home
from stzoo_reconstruction.nerf import NeRF, RadianceField, composite, encode, sample_pdf, stratified
from stzoo_reconstruction.poses import (
    average_pose,
    circle_path,
    moved,
    recentring,
    spherical_pose,
    spherifying,
    spiral_path,
)
from stzoo_reconstruction.rays import camera_rays, ndc_depth, ndc_points, ndc_rays, pixel_rays

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {"layers": 3, "width": 16, "samples": 8, "fine_samples": 6}


def golden(name: str) -> Golden:
    return Golden(GOLDENS / f"nerf-{name}")


def tiny(**config: Any) -> NeRF:
    """A network that sees something: densities are not all below 0."""
    torch.manual_seed(0)
    made = NeRF(**TINY | config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("alpha_linear.bias"):
                parameter += 0.3
    return made.eval()


def camera(height: int = 12, width: int = 16) -> Tensor:
    return torch.tensor(standard_home(height, width)[:24])


# --- pieces against the reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequencies", [4, 6, 10])
def test_encoding(frequencies: int) -> None:
    expected = golden("posenc").tensors
    torch.testing.assert_close(encode(expected["x"], frequencies), expected[f"pe_L{frequencies}"])
    assert encode(expected["x"], 0).shape == (40, 3)


@pytest.mark.parametrize("name", ["default", "small-4x64", "noviewdirs"])
def test_networks(name: str) -> None:
    reference = golden(f"mlp-{name}")
    expected, said = reference.tensors, reference.facts
    built = said["ctor"]
    points, viewdirs = (built["input_ch"] - 3) // 6, built["use_viewdirs"]
    network = RadianceField(built["D"], built["W"], tuple(built["skips"]), (points, 4), viewdirs)
    network.load_state_dict({key: fill(key, value.shape) for key, value in network.state_dict().items()})
    if viewdirs:
        assert sum(item.numel() for item in network.parameters()) == said["params"]
    given = encode(expected["pts"], points)
    if viewdirs:
        given = torch.cat((given, encode(expected["dirs"], 4)), -1)
    found = network(given)
    torch.testing.assert_close(found, expected["out"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.density(encode(expected["pts"], points)), found[:, 3])
    found.square().mean().backward()
    gradients = {key.removeprefix("grad."): value for key, value in expected.items() if key.startswith("grad.")}
    assert gradients
    for key, value in gradients.items():
        torch.testing.assert_close(network.get_parameter(key).grad, value, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "background"), [("black", None), ("white", torch.ones(3))])
def test_volume_rendering(name: str, background: Tensor | None) -> None:
    expected = golden("raw2outputs").tensors
    raw = expected["raw"].requires_grad_()
    found = composite(raw, expected["z_vals"], expected["rays_d"], background)
    for ours, theirs in (
        ("rgb", "rgb"),
        ("disparity", "disp"),
        ("opacity", "acc"),
        ("weights", "weights"),
        ("depth", "depth"),
    ):
        torch.testing.assert_close(getattr(found, ours), expected[f"{name}_{theirs}"])
    F.mse_loss(found.rgb, expected["target"]).backward()
    torch.testing.assert_close(raw.grad, expected[f"{name}_grad_raw"], rtol=1e-4, atol=1e-8)


def test_hierarchical_sampling() -> None:
    expected = golden("sample_pdf").tensors
    bins, weights = expected["bins"], expected["weights"]
    even = torch.linspace(0, 1, 64).expand(12, 64)
    torch.testing.assert_close(sample_pdf(bins, weights, even), expected["samples_det"])
    random = torch.tensor(np.random.RandomState(0).rand(12, 64), dtype=torch.float32)
    torch.testing.assert_close(sample_pdf(bins, weights, random), expected["samples_rand_np_seed0"])


def reference_camera(pose: Tensor, matrix: Tensor) -> Tensor:
    whole = torch.eye(4)
    whole[: len(pose)] = pose
    lens = torch.stack([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]).float()
    return torch.cat([whole.flatten(), lens, torch.tensor([12.0, 16.0, 2.0, 6.0])])


def test_rays_without_the_half_pixel() -> None:
    expected = golden("rays").tensors
    for pose, names in ((expected["pose"], ("rays_o", "rays_d")), (expected["ff_pose"], ("ff_rays_o", "ff_rays_d"))):
        found = camera_rays(reference_camera(pose, expected["K"]), pixel_centre=0.0)
        for ours, name in zip(found, names, strict=True):
            torch.testing.assert_close(ours, expected[name])
    lens = 2 * torch.stack([expected["K"][0, 0] / 16, expected["K"][1, 1] / 12]).float()
    for ours, name in zip(
        ndc_rays(expected["ff_rays_o"], expected["ff_rays_d"], lens), ("ndc_o", "ndc_d"), strict=True
    ):
        torch.testing.assert_close(ours, expected[name])


def test_a_whole_rendering_and_its_gradients() -> None:
    expected = golden("render-e2e").tensors
    network = NeRF(width=64, samples=16, fine_samples=24)
    assert network.fine is not None
    for prefix, part in (("", network.coarse), ("fine.", network.fine)):
        state = {key: fill(prefix + key, value.shape) for key, value in part.state_dict().items()}
        state["alpha_linear.bias"] += 0.5
        part.load_state_dict(state)
    (coarse, fine), _ = network.trace(expected["rays_o"], expected["rays_d"])
    for found, name in (
        (fine.rgb, "rgb"),
        (fine.disparity, "disp"),
        (fine.opacity, "acc"),
        (coarse.rgb, "rgb0"),
        (coarse.opacity, "acc0"),
    ):
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-5)
    loss = F.mse_loss(fine.rgb, expected["target"]) + F.mse_loss(coarse.rgb, expected["target"])
    torch.testing.assert_close(loss, expected["loss"][0])
    loss.backward()
    gradients = [key for key in expected if key.startswith("grad_")]
    assert len(gradients) == 3
    for key in gradients:
        found = network.get_parameter(key.removeprefix("grad_")).grad
        torch.testing.assert_close(found, expected[key], rtol=1e-4, atol=1e-6)


def test_poses() -> None:
    expected = {key: value.numpy() for key, value in golden("llff-poses").tensors.items()}
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, :3] = expected["poses_in"][..., :4]
    centred = moved(poses, recentring(poses))
    np.testing.assert_allclose(centred[:, :3], expected["recentered"][..., :4], atol=1e-12)
    np.testing.assert_allclose(average_pose(centred)[:3], expected["avg"][:, :4], atol=1e-12)
    np.testing.assert_allclose(spiral_path(centred, 4.0, 12)[:, :3], expected["spiral12"][..., :4], atol=1e-12)
    round_ = moved(poses, spherifying(poses))
    np.testing.assert_allclose(round_[:, :3], expected["spherified"][..., :4], atol=1e-12)
    np.testing.assert_allclose(circle_path(round_, 120)[:, :3], expected["spherify_render"][..., :4], atol=1e-12)
    sphere = [spherical_pose(angle, -30.0, 4.0) for angle in np.linspace(-180, 180, 41)[:-1]]
    np.testing.assert_allclose(sphere, golden("rays").tensors["render_poses_40"].numpy(), atol=1e-6)


# --- rays and coordinates ---------------------------------------------------------------------------------------------


def test_rays_go_through_the_points_that_pixels_show() -> None:
    pose = look_at((3, -2, 1.5), (0.1, 0.2, 0), (0, 0, 1))
    made = Cameras.of(pose[None], (20.0, 22.0, 7.5, 6.5), (12, 16))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 3))
    pixels, depths = made.project(points)
    cameras = torch.from_numpy(made.array).expand(5, 24)
    origins, directions = pixel_rays(cameras, torch.from_numpy(pixels[0]) - 0.5)
    reached = origins + directions * torch.from_numpy(depths[0])[:, None]
    np.testing.assert_allclose(reached, points, atol=1e-9)


def test_normalised_device_coordinates_and_back() -> None:
    torch.manual_seed(0)
    lens = torch.tensor([2.5, 3.0])
    origins = 0.1 * torch.randn(20, 3)
    directions = torch.cat([0.2 * torch.randn(20, 2), -torch.ones(20, 1)], 1)
    start, along = ndc_rays(origins, directions, lens)
    z = torch.rand(20, 7) * 0.9
    depth = ndc_depth(z, origins, directions)
    points = ndc_points(origins[:, None] + directions[:, None] * depth[..., None], lens)
    torch.testing.assert_close(start[:, None] + along[:, None] * z[..., None], points, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(ndc_depth(torch.ones(20, 1), origins, directions)).all()


def test_samples_along_a_ray() -> None:
    like = torch.zeros(1)
    torch.testing.assert_close(stratified(2, 6, 3, 5, False, like), torch.linspace(2, 6, 5).expand(3, 5))
    torch.testing.assert_close(
        stratified(2, 6, 1, 5, False, like, "disparity"), 1 / torch.linspace(1 / 2, 1 / 6, 5)[None]
    )
    random = stratified(2, 6, 500, 5, True, like)
    assert (random.diff(dim=1) >= 0).all() and random.min() >= 2 and random.max() <= 6
    torch.testing.assert_close(random.mean(0), torch.tensor([2.25, 3, 4, 5, 5.75]), rtol=0, atol=0.1)
    assert stratified(2, 6, 2, 1, True, like).tolist() == [[2.0], [2.0]]


# --- renderings -------------------------------------------------------------------------------------------------------


def test_a_picture_is_what_its_rays_see_in_parts_of_any_size() -> None:
    network = tiny()
    with torch.inference_mode():
        whole = network.render(camera())
        parts = network.render(camera(), memory=1)
        found, depth = network.trace(*(item.view(-1, 3) for item in camera_rays(camera())))
    assert whole.image.shape == (3, 12, 16) and whole.depth.shape == whole.opacity.shape == (12, 16)
    torch.testing.assert_close(whole.image.flatten(1).T, found[-1].rgb.clamp(0, 1))
    torch.testing.assert_close(whole.depth.flatten(), depth)
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two)
    assert whole.image.std() > 1e-3


def test_a_wall_is_where_its_depth_says() -> None:
    """A network whose density jumps at a plane across the optical axis, where every pixel has the same depth."""

    class Wall(RadianceField):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x[..., :3], 1e3 * (0.5 - x[..., :1])), -1)  # x < 0.5 is solid, colours are places

    pose = look_at((4, 0, 0), (0, 0, 0), (0, 0, 1))
    home = (*Cameras.of(pose[None], (20.0, 20.0, 8.0, 6.0), (12, 16), (2.0, 6.0)).array[0], 0, 0, 0, 0, 0, 1)
    for frame, scale in (((), 1.0), ((2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1), 2.0)):
        network = NeRF(layers=2, width=4, samples=400, fine_samples=0, frame=frame, home=home)
        network.coarse = Wall(2, 4)
        seen = network.render(torch.tensor(home[:24]))
        torch.testing.assert_close(seen.depth, torch.full((12, 16), 4 - 0.5 / scale), rtol=0, atol=0.06)
        torch.testing.assert_close(seen.opacity, torch.ones(12, 16))


def test_empty_space_is_the_background_and_has_no_depth() -> None:
    for background, colour in (("black", (0, 0, 0)), ("0.2,0.4,0.6", (0.2, 0.4, 0.6))):
        network = tiny(background=background)
        with torch.no_grad():
            for part in (network.coarse, network.fine):
                assert part is not None
                part.alpha_linear.bias -= 1e4
        seen = network.render(camera())
        torch.testing.assert_close(seen.image, torch.tensor(colour)[:, None, None].expand(3, 12, 16).float())
        assert (seen.depth == 0).all() and (seen.opacity == 0).all()
        found, _ = network.trace(*(item.view(-1, 3) for item in camera_rays(camera())))
        assert (found[-1].disparity == 0).all()
        found[-1].rgb.sum().backward()  # type: ignore[no-untyped-call]
        gradients = [item.grad for item in network.parameters() if item.grad is not None]
        assert all(torch.isfinite(item).all() for item in gradients)


def test_one_pixel_no_rays_and_a_single_sample() -> None:
    network = tiny(samples=1, fine_samples=0)
    assert network.render(camera(1, 1)).image.shape == (3, 1, 1)
    found, depth = network.trace(torch.zeros(0, 3), torch.zeros(0, 3))
    assert found[0].rgb.shape == (0, 3) and depth.shape == (0,)


def test_a_nan_in_one_ray_stays_there() -> None:
    network = tiny()
    origins, directions = (item.view(-1, 3).clone() for item in camera_rays(camera()))
    directions[5] = torch.nan
    found, _ = network.trace(origins, directions)
    whole = torch.isfinite(found[-1].rgb).all(1)
    assert not whole[5] and whole.sum() == len(whole) - 1


def test_forward_facing_scenes() -> None:
    """In normalised device coordinates depths are those of the world, from the near plane on."""
    pose = np.eye(4)
    home = (*Cameras.of(pose[None], (20.0, 20.0, 8.0, 6.0), (12, 16), (1.0, 50.0)).array[0], 0, 0, -4, 0, 1, 0)
    network = tiny(ndc=True, home=home)
    seen = network.render(torch.tensor(home[:24]).float())
    assert torch.isfinite(seen.image).all() and torch.isfinite(seen.depth).all()
    assert seen.depth.min() >= 1 - 1e-4
    density = network.density(torch.tensor([[0.0, 0.0, -3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.1, 0.0, -0.5]]))
    assert density[0] > 0 and (density[1:] == 0).all(), "nothing is behind the near plane"


def test_points_are_asked_in_the_axes_of_the_world() -> None:
    plain = tiny()
    turned = tiny(frame=(0, 2, 0, 1, -2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1))
    points, directions = torch.randn(6, 3), torch.randn(6, 3)
    motion = torch.from_numpy(turned.frame).float()
    inside = points @ motion[:3, :3].T + motion[:3, 3]
    torch.testing.assert_close(turned.density(points), plain.density(inside))
    torch.testing.assert_close(turned.colour(points, directions), plain.colour(inside, directions @ motion[:3, :3].T))


def test_where_space_is_empty_nothing_is_computed() -> None:
    network = tiny(cells=8, fine_samples=0)
    asked: list[int] = []
    network.coarse.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    network.render(camera())
    assert asked == [12 * 16 * 8], "a network that has not looked round leaves out samples"
    with torch.no_grad():
        network.cells.zero_()
        network.render(camera())
        assert asked[1] < 0.2 * asked[0], "only what is outside of the grid is left"
        network.coarse.alpha_linear.bias += 100
        network.look_around()
        dense = network.render(camera())
    assert asked[2] == asked[0]
    without = tiny(fine_samples=0)
    without.load_state_dict({key: value for key, value in network.state_dict().items() if key != "cells"})
    torch.testing.assert_close(without.render(camera()).image, dense.image)


def test_cells_fade_until_they_are_empty() -> None:
    network = tiny(cells=4)
    assert network.fine is not None
    with torch.no_grad():
        network.fine.alpha_linear.bias -= 1e3
        rounds = 0
        while (kept := network._occupied(torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1, 1))) is not None and len(
            kept
        ):
            network.look_around()
            rounds += 1
            assert rounds < 100
    assert rounds > 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"near": 6.0, "far": 2.0}, "0 <= near < far"),
        ({"near": 0.0, "spacing": "disparity"}, "near > 0 with spacing"),
        ({"background": "red"}, "background='red'"),
        ({"home": (1.0, 2.0)}, "home: .*30 numbers"),
        ({"frame": (1.0,) * 5}, "frame is no similarity"),
        ({"frame": tuple(np.diag([1.0, 2, 1, 1]).ravel())}, "frame is no similarity"),
        ({"ndc": True, "cells": 8}, "cells and ndc"),
        ({"samples": 2}, "At least 3, or fine_samples=0"),
        ({"skips": (-1,)}, "skips"),
    ],
)
def test_impossible_networks_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NeRF(**TINY | config)


def test_half_a_pixel_is_a_choice() -> None:
    one, other = (tiny(pixel_centre=centre).render(camera()).image for centre in (0.5, 0.0))
    shifted = camera()
    shifted[18:20] += 0.5
    torch.testing.assert_close(tiny(pixel_centre=0.5).render(shifted).image, other)
    assert not torch.allclose(one, other)


def test_a_turntable_is_symmetric_where_the_scene_is() -> None:
    """Networks that see nothing but the height above the ground look alike from everywhere."""

    class Layers(RadianceField):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x[..., 2:3].expand(*x.shape[:-1], 3), 1 - x[..., 2:3].abs()), -1)

    network = NeRF(layers=2, width=4, samples=32, fine_samples=0)
    network.coarse = Layers(2, 4)
    views = [network.render(torch.from_numpy(item).float()).image for item in orbit((), 4).array]
    for view in views[1:]:
        torch.testing.assert_close(view, views[0], rtol=0, atol=1e-4)
