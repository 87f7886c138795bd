"""The two tasks as people use them: views, paths, fitting while one watches, files for viewers, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter

import stzoo
from stzoo import Requirements
from stzoo.console import model_page
from stzoo.errors import DependencyMissing, InputError, MediaError, StzooError
from stzoo.media.geometry import Geometry, as_geometry, read_geometry, upright, write_geometry
from stzoo.predictor import Predictor
from stzoo.registry import registry
from stzoo.spec import Model
from stzoo.ui.limits import limits
from stzoo_reconstruction import mesh, metrics
from stzoo_reconstruction.cameras import Cameras, look_at, orbit, standard_home
from stzoo_reconstruction.captures import Capture
from stzoo_reconstruction.examples import HOTDOG
from stzoo_reconstruction.fields import Splats, Views
from stzoo_reconstruction.fitting import SceneFit, split
from stzoo_reconstruction.gaussians import parameters_of
from stzoo_reconstruction.inputs import sample_capture
from stzoo_reconstruction.pipeline import frame_of, viewer

GOLDENS = Path(__file__).parent / "goldens"
QUICK = {"steps": 12, "frames": 0}


@pytest.fixture(scope="module")
def scene() -> Predictor:
    """Three large balls: red along x, green along y, blue along z, seen from Blender's usual place."""
    made = stzoo.create("gaussian-splatting", device="cpu", points=3, degree=1)
    with torch.no_grad():
        made.module.means.copy_(torch.eye(3))
        made.module.scales.fill_(math.log(0.2))
        made.module.quats.copy_(torch.tensor([1.0, 0, 0, 0]).expand(3, 4))
        made.module.opacities.fill_(6)
        made.module.sh0.copy_(((torch.eye(3) - 0.5) / 0.28209479)[:, None])
    return made


@pytest.fixture(scope="module")
def capture() -> Capture:
    return sample_capture(8, 24)


def fit(**changed: Any) -> Predictor:
    """The model ``splat``, which learns little."""
    return stzoo.create("scene-fit", device="cpu", recipe={"points": 100, "grow_from": 5, "grow_every": 5}, **changed)


# --- views ------------------------------------------------------------------------------------------------------------


def test_a_scene_is_seen_from_its_home_from_cameras_and_along_paths(scene: Predictor) -> None:
    home = scene.predict(depth=True, scene=True)
    assert list(home) == ["image", "depth", "scene"]
    assert home.image.shape == (3, 64, 64) and home.image[:, 0, 0].tolist() == [1, 1, 1]
    red, green, blue = ((home.image[list({0, 1, 2} - {colour})] < 0.3).all(0) for colour in range(3))
    columns = [np.argwhere(mask)[:, 1].mean() for mask in (red, green, blue)]
    rows = [np.argwhere(mask)[:, 0].mean() for mask in (red, green, blue)]
    assert columns[1] > columns[0] + 5 and rows[2] < rows[0] - 5, "from +x, y is to the right and z up"
    known = np.isfinite(home.depth)
    assert known.any() and not known.all() and 2 < np.nanmin(home.depth) < 4
    assert np.array_equal(home.scene["positions"], np.eye(3))

    camera = orbit((), 1)
    assert np.array_equal(scene.predict(camera).image, home.image), "the home view is a camera like others"
    turned = scene.predict(azimuth=90)
    assert not np.array_equal(turned.image, home.image)
    assert np.allclose(scene.predict(orbit((), 4)).video[1], turned.image, atol=1e-5)
    assert scene.predict(frames=3).video.shape == (3, 3, 64, 64)
    assert scene.predict(orbit((), 2), frames=5, size=32).video.shape == (5, 3, 32, 32), "a path through both"
    assert scene.predict(zoom=2).image.shape == home.image.shape
    notes = [(item.share, item.note, list(item)) for item in scene.watch(frames=2)]
    assert notes == [(0.5, "view 1 of 2", []), (1.0, "", ["image", "video"])]


def test_cameras_of_other_sizes_make_a_film_without_bending_anything(scene: Predictor) -> None:
    first, second = orbit((), 2)
    wide = Cameras.of(second.poses, second.intrinsics * 2 + (0, 0, 64, 0), (128, 256))
    path = Cameras.joined([first, wide])
    film = scene.predict(path).video
    assert film.shape == (2, 3, 64, 64)
    assert np.abs(film[1] - scene.predict(second).image).max() < 1e-4, (
        "twice as large and cut to the middle: the same view"
    )


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (orbit((), 2), {"azimuth": 10}, "2 cameras, and azimuth.*leave them out"),
        (None, {"frames": 600, "size": 4096}, "600 views of 4096x4096 are .* million pixels.*Give a smaller size"),
        (None, {"frames": 601}, "frames=601 must be a whole number from 0 to 600"),
        (None, {"size": -1}, "size=-1 must be"),
        (None, {"zoom": 0}, "zoom=0 must be"),
        (None, {"azimuth": float("nan")}, "azimuth=nan must be"),
        (np.zeros((3, 23)), {}, r"\(3, 23\).*Give \(V, 24\)"),
        (np.full((1, 24), np.nan), {}, "camera 0 has"),
        ("nowhere.json", {}, "no file"),
    ],
)
def test_views_that_cannot_be_drawn_are_refused(
    scene: Predictor, given: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(StzooError, match=said) as told:
        scene.predict(*([] if given is None else [given]), **options)
    assert told.value.remedy


def test_views_are_measured_as_the_papers_do() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 24, 32)).astype(np.float32)
    assert metrics.psnr(truth, truth) == math.inf and metrics.ssim(truth, truth) == pytest.approx(1, abs=1e-5)
    assert metrics.psnr(truth, truth + np.float32(0.1)) == pytest.approx(20, abs=1e-4)
    noisy = (truth + rng.normal(0, 0.1, truth.shape)).clip(0, 1).astype(np.float32)
    one, two = (item.astype(np.float64) for item in (truth, noisy))
    products = (one, two, one * one, two * two, one * two)
    a, b, aa, bb, ab = (gaussian_filter(item, (0, 1.5, 1.5), mode="mirror", truncate=3.5) for item in products)
    similar = (2 * a * b + 1e-4) * (2 * (ab - a * b) + 9e-4)
    expected = (similar / ((a * a + b * b + 1e-4) * (aa - a * a + bb - b * b + 9e-4))).mean()
    assert metrics.ssim(noisy, truth) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match=r"32x24 pixels, its truth 31x24.*leave the option size out"):
        metrics.psnr(truth, truth[..., 1:])
    with pytest.raises(InputError, match=r"SSIM of 8x24 pixels.*give larger views"):
        metrics.ssim(truth[..., :8], truth[..., :8])


def test_evaluation_compares_with_the_captures_views(scene: Predictor, tmp_path: Path) -> None:
    scene.save(tmp_path / "scene")
    found = stzoo.evaluate(tmp_path / "scene", "hotdog", split="test")
    values = {item.name: {name: value.value for name, value in item.metrics.items()} for item in found.models}
    white = next(value for name, value in values.items() if "white" in name)
    views = stzoo.dataset("hotdog", "test")
    pixels = [views[index]["image"].astype(np.float64) for index in range(6)]
    expected = np.mean([-10 * np.log10(np.square(item - 1).mean()) for item in pixels])
    assert white["psnr"] == pytest.approx(expected, abs=1e-4)
    assert all(np.isfinite(list(item.values())).all() for item in values.values())


# --- fitting ----------------------------------------------------------------------------------------------------------


def test_a_scene_is_fitted_while_one_watches(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stzoo_reconstruction.fitting.EVERY", 0.0)
    stages = list(fit().watch(capture, steps=12, frames=3))
    shares = [item.share for item in stages]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] == 1 and max(shares[:-1]) < 1
    assert any(item.note.startswith("step 5 of 12, ") and item.note.endswith(" s left") for item in stages)
    assert any("image" in item for item in stages[:-1]) and any("scene" in item for item in stages[:-1])
    last = stages[-1]
    assert list(last) == ["scene", "image", "video"] and last.scene.gaussian
    assert last.image.shape == (3, 24, 52) and last.video.shape == (3, 3, 24, 24)
    held = split(capture)[1]
    assert np.array_equal(last.image[..., :24], capture.image(held))
    assert held not in split(capture)[0] and "held out" in last.note
    found = float(last.note.split(";")[1].split()[0])
    assert found == pytest.approx(metrics.psnr(last.image[..., 28:], capture.image(held)), abs=0.01)
    again = fit().predict(capture, steps=12, frames=3)
    assert np.array_equal(np.asarray(again.scene), np.asarray(last.scene)), "the same seed, the same scene"
    other = fit().predict(capture, steps=12, frames=0, seed=1)
    assert not np.array_equal(np.asarray(other.scene), np.asarray(last.scene)) and "video" not in other


def test_longer_learning_is_better_and_obeys_its_bounds(capture: Capture) -> None:
    short, long = (fit().predict(capture, steps=steps, frames=0) for steps in (2, 60))
    quality = [metrics.psnr(item.image[..., 28:], item.image[..., :24]) for item in (short, long)]
    assert quality[1] > quality[0] + 0.5
    capped = fit().predict(capture, steps=40, frames=0, points=100)
    assert len(capped.scene["positions"]) <= 100
    small = fit().predict(capture, size=12, **QUICK)
    assert small.image.shape == (3, 12, 28)


def test_a_nerf_is_fitted_and_gives_a_mesh(capture: Capture) -> None:
    made = stzoo.create("scene-fit", device="cpu", method="nerf", config={"layers": 2, "width": 16, "samples": 16})
    found = made.predict(capture, steps=30, frames=0)
    assert found.scene["faces"].shape[1] == 3 and found.scene["colours"].shape == found.scene["positions"].shape


def test_models_without_weights_load_by_name_and_say_so() -> None:
    made = stzoo.load("splat", device="cpu")
    assert made.report.source == "none" and made.spec and made.spec.name == "splat"
    assert not made.module.state_dict() and stzoo.verify("splat").ok
    page = model_page(registry().get(Model, "splat"))
    assert "it needs none" in page and 'stzoo.load("splat")' in page and "stzoo predict splat" in page
    with pytest.raises(StzooError, match="has no weights"):
        stzoo.api.pull("splat")
    assert SceneFit("nerf").create().architecture.name == "nerf"
    with pytest.raises(StzooError, match="no 'colour'"):
        stzoo.create("scene-fit", config={"colour": 1})
    with pytest.raises(StzooError, match="method"):
        stzoo.create("scene-fit", method="magic")


def test_the_number_of_steps_follows_the_pixels() -> None:
    module = SceneFit(passes=40.0)
    assert module.steps(object(), 42 * 64 * 64, 42) == 40 * 42
    assert module.steps(object(), 100 * 64 * 64, 100) == 3000
    rays = type("Rays", (), {"rays": 1024})()
    assert SceneFit(passes=6.0).steps(rays, 42 * 64 * 64, 42) == math.ceil(6 * 42 * 64 * 64 / 1024)


def zipped(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "capture.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder / "capture.zip"


def test_what_cannot_be_fitted_is_refused(capture: Capture, tmp_path: Path) -> None:
    png = zipfile.ZipFile(HOTDOG).read("hotdog/train/r_0.png")
    unposed = zipped(tmp_path, {f"{index}.png": png for index in range(3)})
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (None, {}, "input 'views' is missing"),
        ([], {}, "there are no photographs"),
        (tmp_path / "nothing", {}, "nothing"),
        (unposed, {}, "3 photographs and no cameras.*poses=sfm"),
        (capture, {"steps": -1}, "steps=-1 must be"),
        (capture, {"points": 0}, "points=0 must be"),
        (capture, {"size": 9000}, "size=9000 must be"),
        (capture, {"poses": "guess"}, "poses='guess' must be one of 'given', 'sfm'"),
        ([(capture.image(0), capture.cameras[0])], {}, "one|1 photograph"),
    ]
    for given, options, said in cases:
        with pytest.raises(StzooError, match=said) as told:
            fit().predict(*([] if given is None else [given]), **QUICK | options)
        assert told.value.remedy, told.value


# --- how a scene stands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (0.3, 0.5, -0.8)])
def test_a_scenes_frame_puts_its_home_before_it(up: tuple[float, float, float]) -> None:
    unit = np.array(up) / np.linalg.norm(up)
    camera = Cameras.of(look_at((1, 2, 3), (0.5, -1, 0.2), unit)[None], (80, 80, 24, 32), (64, 48))
    home = (*np.minimum(camera.array[0], 1e10), 0.5, -1, 0.2, *unit)
    frame = frame_of(home)
    placed = (frame[:3, :3] @ np.array([[0.5, -1, 0.2], [1, 2, 3]]).T).T + frame[:3, 3]
    assert np.allclose(placed[0], 0) and abs(placed[1, 0]) < 1e-9 and placed[1, 2] > 0
    assert np.allclose(frame[:3, :3] @ unit / np.linalg.norm(frame[:3, :3] @ unit), (0, 1, 0))
    edge, _ = camera.project(camera.positions + camera.directions)
    assert np.allclose(edge[0, 0], (24, 32))
    geometry = as_geometry({"positions": np.eye(3)})
    geometry.frame = frame
    turn, middle, reach = upright(geometry, "y")
    assert np.allclose(middle, (0.5, -1, 0.2), atol=1e-6) and np.allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    assert reach == pytest.approx(np.linalg.norm(camera.positions[0] - middle) * 32 / 80)
    seen, depth = viewer(turn, middle, reach, 60, 80).project(np.array([middle, middle + reach * turn[1]]))
    assert np.allclose(seen[0, 0], (40, 30)) and seen[0, 1, 1] < 15 and depth[0, 0] == pytest.approx(5 * reach)


def test_gaussians_are_drawn_as_they_are(scene: Predictor) -> None:
    picture = np.asarray(Splats("scene").preview(scene.predict(scene=True).scene))
    for colour in range(3):
        others = [channel for channel in range(3) if channel != colour]
        assert ((picture[..., colour] > 200) & (picture[..., others] < 60).all(-1)).sum() > 50


# --- files ------------------------------------------------------------------------------------------------------------


def gaussians(count: int = 40, seed: int = 0) -> Geometry:
    rng = np.random.default_rng(seed)
    rotations = rng.normal(size=(count, 4))
    return as_geometry(
        {
            "positions": rng.normal(size=(count, 3)),
            "scales": rng.normal(-3, 0.5, (count, 3)),
            "rotations": rotations / np.linalg.norm(rotations, axis=1, keepdims=True),
            "opacities": rng.normal(0, 2, count),
            "sh": rng.normal(0, 0.3, (count, 16, 3)),
        }
    )


def matched(one: Geometry, other: Geometry) -> np.ndarray:
    """For each Gaussian of one the nearest of the other."""
    apart = np.linalg.norm(one["positions"][:, None] - other["positions"], axis=2)
    return apart.argmin(1)


@pytest.mark.parametrize(
    ("ending", "place", "scale", "opacity", "colour", "bands"),
    [
        (".ply", 0, 0, 0, 0, 16),
        (".npz", 0, 0, 0, 0, 16),
        (".splat", 1e-6, 1e-5, 0.01, 0.01, 1),
        (".spz", 2e-4, 0.04, 0.01, 0.02, 16),
        (".ksplat", 1e-3, 0.02, 0.01, 0.02, 16),
        (".sog", 1e-2, 0.2, 0.01, 0.05, 16),
        (".compressed.ply", 5e-3, 0.02, 0.01, 0.02, 16),
    ],
)
def test_gaussians_come_back_from_every_format(
    tmp_path: Path, ending: str, place: float, scale: float, opacity: float, colour: float, bands: int
) -> None:
    field, made = Splats("scene"), gaussians()
    field.write(made, path := tmp_path / f"scene{ending}")
    back = field.read(path, Requirements())
    order = matched(made, back)
    assert sorted(order) == list(range(40)), "none is lost"
    assert np.abs(back["positions"][order] - made["positions"]).max() <= place
    assert np.abs(back["scales"][order] - made["scales"]).max() <= scale
    share = 1 / (1 + np.exp(-made["opacities"])), 1 / (1 + np.exp(-back["opacities"][order]))
    assert np.abs(share[0] - share[1]).max() <= opacity
    shades = (np.clip(0.5 + 0.28209479 * item["sh"][:, 0], 0, 1) for item in (made, Geometry(back)))
    first, second = shades
    assert np.abs(first - second[order]).max() <= colour
    assert back["sh"].shape == (40, bands, 3)
    quats = back["rotations"][order] / np.linalg.norm(back["rotations"][order], axis=1, keepdims=True)
    assert np.abs((quats * made["rotations"]).sum(1)).min() > 0.99, "w, x, y, z, in the axes of the scene"


def test_files_of_the_original_and_of_gsplat_are_read(tmp_path: Path) -> None:
    golden = load_file(GOLDENS / "gs-formats.safetensors")
    named = {"inria_ply": ".ply", "gsplat_ply": ".ply", "gsplat_ply_compressed": ".ply", "gsplat_splat": ".splat"}
    true = as_geometry(
        {
            "positions": golden["means"],
            "scales": golden["log_scales"],
            "rotations": golden["quats_wxyz"],
            "opacities": golden["opacity_logit"],
            "sh": golden["sh"],
        }
    )
    for name, ending in named.items():
        (path := tmp_path / f"{name}{ending}").write_bytes(golden[f"bytes_{name}"].tobytes())
        found = Splats("scene").read(path, Requirements())
        order = matched(true, found)
        tolerance = 5e-3 if "compressed" in name else 1e-6
        assert np.abs(found["positions"][order] - true["positions"]).max() <= tolerance, name
        assert np.abs(found["scales"][order] - true["scales"]).max() <= (2e-2 if "compressed" in name else 1e-5), name
        shares = [1 / (1 + np.exp(-item)) for item in (found["opacities"][order], true["opacities"])]
        assert np.abs(shares[0] - shares[1]).max() <= (1e-6 if name.endswith("_ply") else 0.01), name
    write_geometry(true, tmp_path / "own.ply")
    assert (tmp_path / "own.ply").read_bytes() == golden["bytes_inria_ply"].tobytes(), "bit for bit"


def test_points_and_meshes_become_gaussians_where_a_format_has_only_these(tmp_path: Path) -> None:
    ball = {"positions": np.eye(3), "colours": np.eye(3), "faces": [[0, 1, 2]]}
    Splats("scene").write(ball, tmp_path / "ball.splat")
    found = Splats("scene").read(tmp_path / "ball.splat", Requirements())
    assert np.allclose(found["positions"][matched(as_geometry(ball), found)], np.eye(3), atol=1e-6)


@pytest.mark.parametrize("ending", [".splat", ".spz", ".ksplat", ".sog"])
def test_damaged_files_are_refused(tmp_path: Path, ending: str) -> None:
    (path := tmp_path / f"scene{ending}").write_bytes(b"nonsense" * 5 + b"x")
    with pytest.raises(MediaError, match=f"cannot be read as {ending}.*Is the file complete"):
        Splats("scene").read(path, Requirements())


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gaussforge", None)
    with pytest.raises(DependencyMissing, match="pip install gaussforge"):
        Splats("scene").write(gaussians(), tmp_path / "scene.spz")
    assert not list(tmp_path.iterdir())
    Splats("scene").write(gaussians(), tmp_path / "scene.ply")
    assert read_geometry(tmp_path / "scene.ply", "scene").gaussian
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(DependencyMissing, match="scikit-image"):
        mesh.surface(lambda points: points[:, 0], lambda points, views: points, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("lines", "row", "said"),
    [
        (["x", "y", "z", "opacity", "f_dc_0", "f_dc_1", "f_dc_2", "scale_0", "scale_1", "rot_0"], 10, "scale_2"),
        (["x", "y"], 2, "x, y and z"),
        (["x", "y", "z"], 3, "not finite"),
    ],
)
def test_a_ply_that_lacks_something_is_refused(tmp_path: Path, lines: list[str], row: int, said: str) -> None:
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
        *(f"property float {name}" for name in lines),
    ]
    data = np.full((2, row), np.nan, "<f4").tobytes()
    (path := tmp_path / "scene.ply").write_bytes("\n".join([*header, "end_header", ""]).encode() + data)
    with pytest.raises(InputError, match=said):
        Splats("scene").read(path, Requirements())


# --- meshes -----------------------------------------------------------------------------------------------------------


def test_a_balls_surface_is_found() -> None:
    centre = np.array([0.3, -0.2, 1.0])
    found = mesh.surface(
        lambda points: np.maximum(0, 1 - np.linalg.norm(points - centre, axis=1)),
        lambda points, views: (1 - views) / 2,
        centre - 1.2,
        centre + 1.2,
        cells=40,
        level=0.4,
    )
    away = found["positions"] - centre
    assert np.abs(np.linalg.norm(away, axis=1) - 0.6).max() < 0.02
    corners = found["positions"][found["faces"]]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = (outward * (corners.mean(1) - centre)).sum(1)
    assert facing.min() > -1e-9 and (facing > 1e-6).mean() > 0.9, "counter-clockwise from outside"
    seen = found["colours"] * 2 - 1
    assert ((seen * away).sum(1) / 0.6).min() > 0.9, "colours are those seen from outside"
    with pytest.raises(InputError, match=r"no surface.*Train it longer"):
        mesh.surface(lambda points: points[:, 0] * 0, lambda points, views: points, (0, 0, 0), (1, 1, 1), cells=4)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_pages_ask_for_captures_and_cameras(capture: Capture, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from stzoo.ui.components import widget
    from stzoo.ui.subject import Subject
    from stzoo_reconstruction.fields import CameraPath

    own = widget(Views("views"), Requirements(), limits({}))
    [held] = own.example(capture, tmp_path)
    found = own.read([held])
    assert len(found) == 8 and np.allclose(found.cameras.array[:, :20], capture.cameras.array[:, :20], atol=1e-6)
    assert np.abs(found.image(3) - capture.image(3)).max() <= 0.5 / 255 + 1e-6
    sheet, said = own.show(found, tmp_path)
    assert sheet.width > 100 and said == "8 photographs"
    with pytest.raises(InputError, match="no photographs are given"):
        own.read([])
    with pytest.raises(InputError, match="8 photographs, this demo takes 7"):
        widget(Views("views"), Requirements(), limits({"max_frames": 7})).read([held])
    with pytest.raises(InputError, match="million pixels"):
        widget(Views("views"), Requirements(), limits({}) | {"max_pixels": 0.0004}).read([held])

    cameras = widget(CameraPath("cameras"), Requirements(), limits({"max_frames": 7}))
    (tmp_path / "path.json").write_text(json.dumps({"frames": []}))
    with pytest.raises(StzooError):
        cameras.read(str(tmp_path / "path.json"))
    CameraPath("cameras").write(capture.cameras, tmp_path / "cameras.json")
    with pytest.raises(InputError, match="8 frames or more, this demo takes 7"):
        cameras.read(str(tmp_path / "cameras.json"))

    page = Subject(stzoo.info("splat"), limits({}), "splat")
    labels = [example.label for example in page.examples()]
    assert labels == ["hotdog-capture, first test example (cc0-1.0)", "Synthetic test pattern"]
    assert len(next(page.examples()).values()["views"]) == 48
    code = page.code(
        "splat", [["/tmp/a/one.png", "/tmp/b/transforms.json"], *(item.field.default for item in page.options)]
    )
    assert "predict(['one.png', 'transforms.json'])" in code


def test_the_scene_a_page_shows_is_the_home_view(scene: Predictor, tmp_path: Path) -> None:
    """The copy for the viewer, drawn from where that starts, is what the scene is from the same side."""
    pytest.importorskip("gradio")
    from stzoo.ui.scenes import ASIDE, NEAR, displayed

    true = scene.predict(scene=True).scene
    shown = displayed(true, "-y")
    direction = np.array([np.sin(ASIDE) * np.cos(0.5), -np.sin(0.5), -np.cos(ASIDE) * np.cos(0.5)])
    pose = look_at(5 * direction, (0, 0, 0), (0, -1, 0))
    camera = Cameras.of(pose[None], (300, 300, 48, 48), (96, 96))
    turn, middle, reach = upright(true, "-y")
    own = viewer(turn, middle, reach / NEAR, 96, 96, focal=300)
    pictures = []
    for geometry, view in ((shown, camera), (true, own)):
        made = stzoo.create("gaussian-splatting", device="cpu", points=3, degree=0)
        made.module.load_state_dict(parameters_of(geometry | {"sh": geometry["sh"][:, :1]}))
        pictures.append(made.predict(view).image)
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-3 and pictures[0].std() > 0.1


def test_the_shipped_capture_is_a_data_set_and_a_zip_file(tmp_path: Path) -> None:
    assert [len(stzoo.dataset("hotdog", name)) for name in ("train", "test")] == [42, 6]
    shutil.copy(HOTDOG, tmp_path / "mine.zip")
    assert len(Views("views").read(tmp_path / "mine.zip", Requirements())) == 48
    assert standard_home()[20:22] == (64, 64)
