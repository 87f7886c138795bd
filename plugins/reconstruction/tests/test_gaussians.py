"""Gaussians and their rasteriser against reference numbers and against each other: values, gradients, odd scenes.

The numbers are gsplat 1.5.3's, of the CPU, in 32 bits and (``_f64``) in 64; those named ``inria-rules`` follow the original's
published rules. ``gs-raster-images`` has the inputs and pictures (RGB and expected depth) that three runs share,
``gs-raster-gradients`` each run's gradients, ``gs-raster-inria-rules`` every second row of its pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from goldens import given
from safetensors.torch import load_file
from torch import Tensor

from stzoo.errors import ConfigError, InputError
from stzoo_reconstruction import backends, projection, projection_compiled, rasterise, rasterise_torch, spherical
from stzoo_reconstruction.backends import Drawn, Gaussians, draw
from stzoo_reconstruction.cameras import Cameras, look_at, orbit, standard_home
from stzoo_reconstruction.compiled import compiled
from stzoo_reconstruction.gaussians import GaussianSplatting
from stzoo_reconstruction.projection import RULES, View

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("means", "log_scales", "quats_wxyz", "opacity_logit", "sh")
GRADIENTS = ("g_means_f64", "g_logscales_f64", "g_quats_f64", "g_opacity_logit_f64", "g_sh_f64")
BACKENDS = [("numba", torch.float32), ("torch", torch.float32), ("torch", torch.float64)]
WIDTH, HEIGHT = 96, 64


def golden(name: str) -> dict[str, Tensor]:
    return load_file(GOLDENS / f"{name}.safetensors")


def use(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setattr(backends, "backend", lambda like, view: chosen)


def scene(points: int, **config: Any) -> GaussianSplatting:
    """Gaussians of all shapes and opacities, colours that change with the direction."""
    torch.manual_seed(points)
    module = GaussianSplatting(points, **config)
    with torch.no_grad():
        module.scales.add_(torch.randn_like(module.scales))
        module.opacities.normal_(std=2)
        module.shN.normal_(std=0.2)
    return module


def camera(height: int, width: int, *, distance: float = 4.0) -> Tensor:
    home = Cameras.from_array(standard_home(height, width)[:24]).array[0]
    home[3:12:4] *= distance / 4
    return torch.from_numpy(home)


def close(found: Tensor | None, expected: Tensor | None, tolerance: float) -> None:
    """The largest difference, as a part of the largest number, is at most ``tolerance``."""
    assert found is not None and expected is not None
    found, expected = found.detach(), expected.detach()
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max().clamp_min(1e-30))


# --- pieces -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", spherical.DEGREES)
def test_spherical_harmonics(degree: int) -> None:
    expected = golden("gs-sh")
    directions = torch.nn.functional.normalize(expected["dirs"], dim=-1)
    torch.testing.assert_close(spherical.basis(directions, degree), expected[f"basis{degree}"])
    colours = spherical.colours(directions, expected["coeffs"], degree)
    torch.testing.assert_close(colours, (expected[f"deg{degree}"] + 0.5).clamp_min(0))


def test_covariances() -> None:
    expected = golden("gs-covariance")
    torch.testing.assert_close(projection.rotations(expected["quats_wxyz"]), expected["rotmat"])
    found = projection.covariances(expected["scales"].log(), expected["quats_wxyz"])
    torch.testing.assert_close(found, expected["covar"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("project", [projection.project, projection_compiled.project])
@pytest.mark.parametrize("index", [0, 1])
def test_projection(project: Any, index: int) -> None:
    """Where gsplat puts the ellipses; how much opacity it takes for its blur."""
    expected, inputs = golden("gs-projection"), golden("gs-raster-images")
    torch.testing.assert_close(
        projection.covariances(inputs["log_scales"], inputs["quats_wxyz"]), expected["covars"], rtol=1e-4, atol=1e-7
    )
    view = View(
        expected["viewmats"][index].float(),
        expected["K"].float(),
        WIDTH,
        HEIGHT,
        0,
        antialiased=True,
        rules=RULES["gsplat"],
    )
    opacities = torch.zeros(200)
    sh = inputs["sh"]
    seen = project(inputs["means"], inputs["log_scales"], inputs["quats_wxyz"], opacities, sh[:, :1], sh[:, 1:], view)
    assert torch.equal(seen.radii, expected["radii"][index])
    shown = (seen.radii > 0).all(1)
    for found, name in ((seen.centres, "means2d"), (seen.conics, "conics"), (seen.depths, "depths")):
        torch.testing.assert_close(found[shown], expected[name][index][shown], rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(
        seen.opacities[shown], 0.5 * expected["compensations"][index][shown], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("degree", spherical.DEGREES)
@pytest.mark.parametrize("rules", RULES)
def test_compiled_projection(antialiased: bool, degree: int, rules: str) -> None:
    """Values and gradients of the compiled projection are those of the plain one in 64 bits."""
    cameras = Cameras.from_array(camera(100, 140, distance=2.5))
    shape = (140, 100, degree, 0.01, antialiased, RULES[rules])
    found, made = [], []
    for dtype, project in ((torch.float64, projection.project), (torch.float32, projection_compiled.project)):
        matrices = [torch.from_numpy(item[0]).to(dtype) for item in (cameras.world_to_camera(), cameras.matrices())]
        values = [item.detach().to(dtype).requires_grad_() for item in scene(1000).gaussians()]
        seen = project(*values, View(*matrices, *shape))
        shown = (seen.radii > 0).all(1)
        weights = [torch.linspace(-1, 1, item[shown].numel()).to(dtype).view_as(item[shown]) for item in seen[:5]]
        torch.stack(
            [(item[shown] * weight).sum() for item, weight in zip(seen[:5], weights, strict=True)]
        ).sum().backward()
        found.append((seen, shown))
        made.append([torch.zeros_like(item) if item.grad is None else item.grad for item in values])
    (plain, shown), (fast, also) = found
    assert torch.equal(shown, also) and 100 < int(shown.sum()) < 1000
    assert torch.equal(plain.boxes, fast.boxes) and torch.equal(plain.radii, fast.radii)
    for one, two in zip(plain[:5], fast[:5], strict=True):
        close(two[shown].double(), one[shown], 1e-5)
    for one, two in zip(*made, strict=True):
        assert float((one - two).norm()) <= 1e-4 * float(one.norm())


def test_exponential() -> None:
    powers = np.linspace(0, 5.6, 100_001, dtype=np.float32)
    found = np.array([rasterise._falloff(power) for power in powers[::17]])
    np.testing.assert_allclose(found, np.exp(-powers[::17].astype(np.float64)), rtol=5e-7)


# --- pictures and gradients of the reference --------------------------------------------------------------------------


@pytest.mark.parametrize(("chosen", "dtype"), BACKENDS)
@pytest.mark.parametrize("case", ["black", "white", "RGB+ED"])
def test_pictures_and_gradients(monkeypatch: pytest.MonkeyPatch, case: str, chosen: str, dtype: torch.dtype) -> None:
    """gsplat's pictures of two cameras, its loss, and the gradients by all parameters and by the places in the picture."""
    use(monkeypatch, chosen)
    inputs, gradients = golden("gs-raster-images"), golden("gs-raster-gradients")
    values = [inputs[name].to(dtype).requires_grad_() for name in NAMES]
    gaussians = Gaussians(*values[:4], values[4][:, :1], values[4][:, 1:])
    drawn: list[Drawn] = []
    for matrix in inputs["viewmats"]:
        drawn.append(
            draw(gaussians, View(matrix.to(dtype), inputs["K"].to(dtype), WIDTH, HEIGHT), depths=case == "RGB+ED")
        )
        drawn[-1].centres.retain_grad()
    opacity = 1 - torch.stack([item.left for item in drawn])[..., None]
    pictures = torch.stack([item.colours for item in drawn])
    expected = inputs["img_f64"][..., :3]
    if case == "white":
        pictures, expected = pictures + 1 - opacity, expected + 1 - inputs["alpha_f64"]
    elif case == "RGB+ED":
        depths = torch.stack([item.depths for item in drawn if item.depths is not None])[..., None]
        pictures, expected = torch.cat((pictures, depths / opacity.clamp_min(1e-10)), -1), inputs["img_f64"]
    exact = dtype == torch.float64
    close(opacity.detach().float(), inputs["alpha_f64"], 2e-7 if exact else 5e-6)
    close(pictures.detach().float(), expected, 2e-7 if exact else 1e-5)
    error = pictures - given("gs-target", pictures.shape).to(dtype)
    loss = error.square().mean() + 0.1 * error.abs().mean()
    loss.backward()
    torch.testing.assert_close(loss.detach().float(), gradients[f"{case}.loss_f64"][0], rtol=2e-6, atol=0)
    for value, name in zip(values, GRADIENTS, strict=True):
        assert value.grad is not None
        close(value.grad.float(), gradients[f"{case}.{name}"], 1e-7 if exact else 3e-5)
    places = torch.stack([item.centres.grad for item in drawn if item.centres.grad is not None])
    close(places.float(), gradients[f"{case}.g_means2d"], 3e-5)


@pytest.mark.parametrize(("chosen", "dtype"), BACKENDS)
def test_rules_of_the_original(monkeypatch: pytest.MonkeyPatch, chosen: str, dtype: torch.dtype) -> None:
    """Tiles where Gaussians are cut, what is too near, and how opaque one can be; every second row was kept."""
    use(monkeypatch, chosen)
    inputs, expected = golden("gs-raster-images"), golden("gs-raster-inria-rules")
    module = loaded(inputs, rules="inria", near=0.2).to(dtype)
    with torch.no_grad():
        pictures, opacity = module(inputs["viewmats"], expected["K"].expand(2, 3, 3), WIDTH, HEIGHT)
    tolerance = 1e-6 if dtype == torch.float64 else 1e-5
    close(pictures[:, ::2].float(), expected["img"], tolerance)
    close(1 - opacity[:, ::2, :, 0].float(), expected["final_T"], tolerance)


def loaded(inputs: dict[str, Tensor], **config: Any) -> GaussianSplatting:
    module = GaussianSplatting(200, **config)
    values = [inputs[name] for name in NAMES]
    state = dict(zip(("means", "scales", "quats", "opacities"), values[:4], strict=True))
    module.load_state_dict({**state, "sh0": values[4][:, :1], "shN": values[4][:, 1:]})
    return module


# --- one another ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "config"),
    [
        ((61, 83), {}),
        ((8, 8), {"antialiased": True, "background": "0.2,0.4,0.6"}),
        ((1, 1), {}),
        ((1, 57), {"degree": 1, "background": "black"}),
        ((64, 48), {"rules": "inria", "near": 0.2}),
    ],
)
def test_backends_agree(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], config: dict[str, Any]) -> None:
    """Pictures to 2e-5 and gradients to 1e-4 of the largest, compiled and plain, in 32 bits and 64."""
    found = []
    for chosen, dtype in BACKENDS:
        use(monkeypatch, chosen)
        module = scene(800, **config).to(dtype).train()
        seen = module.render(camera(*size))
        (seen.image * torch.linspace(0.5, 1, seen.image.numel()).view_as(seen.image)).sum().backward()
        assert module.screen is not None
        gradients = [item.grad for item in module.parameters()]
        found.append(([*seen], [*gradients, module.screen.grad]))
    for pictures, gradients in found[:2]:
        for one, two in zip(pictures, found[2][0], strict=True):
            close(one.detach(), two.detach(), 2e-5)
        for one, two in zip(gradients, found[2][1], strict=True):
            if two is not None and two.numel():
                close(one, two, 1e-4)


@pytest.mark.parametrize("which", [rasterise, rasterise_torch])
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, which: Any) -> None:
    """A picture whose lists do not fit is rendered in bands, with the same result."""
    use(monkeypatch, "numba" if which is rasterise else "torch")
    results = []
    for listed in (2**24, 500):
        monkeypatch.setattr(rasterise_torch, "LISTED", listed)
        module = scene(500).train()
        seen = module.render(camera(70, 90))
        seen.image.square().sum().backward()
        results.append((seen.image.detach(), module.means.grad))
    assert torch.equal(results[0][0], results[1][0])
    close(results[1][1], results[0][1], 1e-5)
    boxes = torch.tensor([[0, 0, 12, 9]] * 100, dtype=torch.int32)
    assert len(list(rasterise_torch.tile_bands(boxes, 9))) == 9


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chosen", ["numba", "torch"])
def test_nothing_to_see(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    """All Gaussians behind the camera: the background, no depth, gradients that are zero."""
    use(monkeypatch, chosen)
    module = scene(50, background="0.25,0.5,0.75").train()
    away = camera(20, 30)
    away[:12] = torch.from_numpy(look_at((0, 0, 40), (0, 0, 80), (0, 1, 0)))[:3].flatten()
    seen = module.render(away)
    assert torch.equal(seen.image, torch.tensor((0.25, 0.5, 0.75))[:, None, None].expand(3, 20, 30))
    assert not seen.depth.any() and not seen.opacity.any()
    seen.image.sum().backward()
    assert not any(item.grad.any() for item in module.parameters() if item.grad is not None)


@pytest.mark.parametrize("chosen", ["numba", "torch"])
def test_odd_gaussians(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    """Too large for floating point, of no size, without a rotation, thin as a needle, on the camera: all is finite."""
    use(monkeypatch, chosen)
    module = scene(200).train()
    with torch.no_grad():
        module.scales[:10] = 60
        module.scales[10:20] = -60
        module.scales[20:30] = torch.tensor([3.0, -9.0, -9.0])
        module.quats[30:40] = 0
        module.opacities[40:50] = 90
        module.means[50] = torch.from_numpy(Cameras.from_array(camera(40, 40)).positions[0])
        module.means[60:70] *= 1e20
    for view in (camera(40, 40), camera(40, 40, distance=0.3)):
        module.zero_grad()
        seen = module.render(view)
        seen.image.sum().backward()
        assert all(bool(item.isfinite().all()) for item in seen)
        assert all(bool(item.grad.isfinite().all()) for item in module.parameters() if item.grad is not None)
    assert float(seen.opacity.detach().mean()) > 0.2


def test_numbers_that_are_none() -> None:
    """What training has spoilt is not drawn, and spoils nothing else."""
    module = scene(60).train()
    with torch.no_grad():
        module.means[0, 1] = module.scales[1, 2] = module.quats[2, 0] = module.opacities[3] = float("nan")
        module.means[4, 0], module.scales[5, 0] = float("inf"), float("inf")
    seen = module.render(camera(40, 40))
    assert all(bool(item.isfinite().all()) for item in seen)


def test_what_it_draws() -> None:
    """One opaque ball: its colour in the middle of the picture, its depth, and the background in the corner."""
    module = GaussianSplatting(1, 0, "black", home=(*camera(33, 33).tolist(), *(0.0, 0.0, 0.0, 0.0, 0.0, 1.0))).eval()
    with torch.no_grad():
        for parameter, value in ((module.means, 0.0), (module.scales, np.log(0.3)), (module.opacities, 9.0)):
            parameter.fill_(value)
        module.sh0.copy_((torch.tensor((0.9, 0.5, 0.1)) - 0.5) / spherical.BAND)
        seen = module.render(torch.tensor(module.home[:24]))
    torch.testing.assert_close(seen.image[:, 16, 16], torch.tensor((0.9, 0.5, 0.1)) * 0.999, rtol=1e-3, atol=0)
    assert float(seen.depth[16, 16]) == pytest.approx(4, abs=1e-5)
    assert not seen.image[:, 0, 0].any() and float(seen.opacity[0, 0]) == 0
    assert set(module.scene()) == {"positions", "scales", "rotations", "opacities", "sh"}
    assert module.scene()["sh"].shape == (1, 1, 3)


def test_degrees_are_raised_one_by_one() -> None:
    module = scene(300).eval()
    view = camera(30, 30)
    with torch.no_grad():
        plain = module.render(view, degree=0).image
        assert torch.equal(module.render(view).image, module.render(view, degree=3).image)
        assert not torch.equal(plain, module.render(view, degree=1).image)
        module.shN.zero_()
        torch.testing.assert_close(module.render(view).image, plain)


def test_prediction_and_training() -> None:
    """Colours are limited to 1 in prediction, where nothing is kept; in training the gradient by places is."""
    module = scene(300)
    with torch.no_grad():
        module.sh0.add_(2)
    module.eval()
    with torch.inference_mode():
        assert float(module.render(camera(30, 30)).image.max()) == 1
    assert module.screen is None
    image = module.train().render(camera(30, 30)).image
    assert float(image.detach().max()) > 1
    image.sum().backward()
    assert module.screen is not None and module.screen.grad is not None
    assert module.screen.shape == module.screen.grad.shape == (300, 2) and not module.screen.requires_grad
    half = scene(300).half().eval()
    seen = half.render(camera(30, 30))
    assert seen.image.dtype == torch.float32
    assert torch.equal(seen.image, half.float().render(camera(30, 30)).image)


def test_orbit_is_a_rotation_of_the_scene() -> None:
    """Turning the camera by 90 degrees about z is turning the scene by -90: conventions of poses, quaternions, colours."""
    module = scene(300, degree=0).eval().double()
    home = (*camera(40, 40).tolist(), *(0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    turned = torch.from_numpy(orbit(home, azimuth=90).array[0])
    with torch.no_grad():
        expected = module.render(turned).image
        module.means.copy_(module.means @ torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64))
        w, x, y, z = module.quats.unbind(1)
        root = 0.5**0.5
        module.quats.copy_(torch.stack((w + z, x + y, y - x, z - w), 1) * root)
        torch.testing.assert_close(module.render(torch.tensor(home[:24])).image, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"points": 0}, "at least one point"),
        ({"degree": 4}, "degree 0 to 3"),
        ({"rules": "mine"}, "gsplat or inria"),
        ({"near": -1.0}, "near"),
        ({"background": "grey"}, "0.5,0.5,0.5"),
        ({"background": "1,2,3"}, "in \\[0, 1\\]"),
        ({"home": (1.0, 2.0)}, "30 numbers"),
    ],
)
def test_bad_configs(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GaussianSplatting(**config)


def test_bad_input() -> None:
    module = scene(20).eval()
    with pytest.raises(InputError, match="shape"):
        module.render(torch.zeros(3))
    with pytest.raises(InputError, match="20000x10"):
        module.render(camera(10, 20000))
    module.render(camera(10, 10))
    with torch.no_grad():
        module.scales[3, 1] = float("nan")
    with pytest.raises(InputError, match="1 of 60 numbers in scales are not finite"):
        module.render(camera(10, 10))


# --- backends ---------------------------------------------------------------------------------------------------------


def test_who_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(torch.eye(4), torch.eye(3), 8, 8)
    inria = View(torch.eye(4), torch.eye(3), 8, 8, rules=RULES["inria"])
    here, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    gpu: Any = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda"))
    assert backends.backend(here, view) == "numba"
    assert backends.backend(double, view) == "torch"
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert backends.backend(here, view) == backends.backend(gpu, view) == "torch"
    monkeypatch.setattr(backends, "find_spec", lambda name: object())
    assert backends.backend(gpu, view) == "gsplat"
    assert backends.backend(gpu, inria) == "torch"


def test_call_of_gsplat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of ``gsplat.rasterization`` (1.5.3), as it checks them, and what becomes of its results."""
    calls: list[dict[str, Any]] = []

    def rasterization(
        means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
        width: int, height: int, near_plane: float = 0.01, far_plane: float = 1e10, radius_clip: float = 0.0,
        eps2d: float = 0.3, sh_degree: int | None = None, packed: bool = True, tile_size: int = 16,
        backgrounds: Tensor | None = None, render_mode: str = "RGB", sparse_grad: bool = False, absgrad: bool = False,
        rasterize_mode: str = "classic",
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
        count, pictures = len(means), len(viewmats)
        assert means.shape == scales.shape == (count, 3) and quats.shape == (count, 4) and opacities.shape == (count,)
        assert colors.shape[0] == count and colors.shape[2] == 3 and colors.shape[1] >= (sh_degree or 0 + 1) ** 2
        assert viewmats.shape == (pictures, 4, 4) and Ks.shape == (pictures, 3, 3)
        assert scales.min() > 0 and opacities.min() >= 0 and opacities.max() <= 1 and not packed and backgrounds is None
        calls.append({"near": near_plane, "degree": sh_degree, "mode": rasterize_mode, "render": render_mode})
        assert eps2d == projection.BLUR
        places = (means[None, :, :2] * 1.0).requires_grad_()
        channels = {"RGB": 3, "RGB+D": 4}[render_mode]
        picture = places.sum() + torch.zeros(pictures, height, width, channels)
        return picture, torch.full((pictures, height, width, 1), 0.25), {"means2d": places}

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))  # type: ignore[arg-type]
    use(monkeypatch, "gsplat")
    module = scene(30, antialiased=True, near=0.5, background="black").train()
    seen = module.render(camera(12, 16), degree=2)
    assert seen.image.shape == (3, 12, 16) and seen.depth.shape == seen.opacity.shape == (12, 16)
    assert float(seen.opacity[0, 0]) == 0.25
    seen.image.sum().backward()
    assert module.screen is not None and module.screen.grad is not None
    assert module.screen.shape == (30, 2) and torch.equal(module.screen.grad, torch.full((30, 2), 12 * 16 * 3.0))
    colours, opacity = module(torch.eye(4)[None], torch.eye(3)[None], 16, 12)
    assert colours.shape == (1, 12, 16, 3) and opacity.shape == (1, 12, 16, 1)
    assert calls == [
        {"near": 0.5, "degree": 2, "mode": "antialiased", "render": "RGB+D"},
        {"near": 0.5, "degree": 3, "mode": "antialiased", "render": "RGB"},
    ]


def test_compilation_without_a_place_to_keep_it() -> None:
    """Where nothing can be written to, functions are compiled all the same."""
    found: dict[str, Any] = {}
    exec("def double(x):\n    return x * 2", found)  # Numba finds no file to keep a cache beside
    assert compiled()(found["double"])(np.float32(4)) == 8
