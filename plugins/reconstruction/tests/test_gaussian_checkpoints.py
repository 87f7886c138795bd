"""Scenes that others trained: .ply with and without normals, gsplat's and the original's checkpoints; what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import stzoo
from stzoo.errors import FormatError
from stzoo.media.geometry import as_geometry, read_geometry, write_geometry
from stzoo_reconstruction.gaussians import GaussianSplatting

GOLDENS = Path(__file__).parent / "goldens"
ARRAYS = {
    "positions": "means",
    "scales": "log_scales",
    "rotations": "quats_wxyz",
    "opacities": "opacity_logit",
    "sh": "sh",
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDENS / "gs-formats.safetensors")


def same(module: nn.Module, golden: dict[str, Tensor]) -> bool:
    scene = module.scene()  # type: ignore[operator]
    return all(np.array_equal(scene[array], golden[name].numpy()) for array, name in ARRAYS.items())


def imported(path: Path, **config: Any) -> stzoo.Predictor:
    return stzoo.import_checkpoint(path, device="cpu", **config)


def written(golden: dict[str, Tensor], path: Path, **changed: Any) -> Path:
    arrays = {array: golden[name].numpy() for array, name in ARRAYS.items()} | changed
    write_geometry(as_geometry({key: value for key, value in arrays.items() if value is not None}), path)
    return path


# --- .ply -------------------------------------------------------------------------------------------------------------


def test_the_file_is_the_one_of_the_original(golden: dict[str, Tensor], tmp_path: Path) -> None:
    """Byte by byte: header, order of attributes, f_rest red first, normals of zero."""
    assert written(golden, tmp_path / "scene.ply").read_bytes() == golden["bytes_inria_ply"].numpy().tobytes()


@pytest.mark.parametrize("writer", ["inria", "gsplat"])
def test_ply(golden: dict[str, Tensor], tmp_path: Path, writer: str) -> None:
    """With normals as the original writes it, without as gsplat does: the same scene, and out again the same bytes."""
    (path := tmp_path / "point_cloud.ply").write_bytes(golden[f"bytes_{writer}_ply"].numpy().tobytes())
    predictor = imported(path)
    assert predictor.architecture.name == "gaussian-splatting"
    assert (predictor.config["points"], predictor.config["degree"]) == (60, 3)
    assert same(predictor.module, golden)
    assert any(note.startswith("rules: gsplat") for note in predictor.report.notes)
    image = predictor.predict()["image"]
    assert image.std() > 0.05, "the home view does not show the scene"
    module: Any = predictor.module
    write_geometry(as_geometry(module.scene()), tmp_path / "again.ply")
    assert (tmp_path / "again.ply").read_bytes() == golden["bytes_inria_ply"].numpy().tobytes()


@pytest.mark.parametrize(("functions", "degree"), [(1, 0), (4, 1), (9, 2), (16, 3)])
def test_fewer_spherical_harmonics(golden: dict[str, Tensor], tmp_path: Path, functions: int, degree: int) -> None:
    sh = golden["sh"][:, :functions].numpy()
    predictor = imported(written(golden, tmp_path / "scene.ply", sh=sh), rules="inria", near=0.2)
    assert (predictor.config["degree"], predictor.config["rules"]) == (degree, "inria")
    assert np.array_equal(predictor.module.scene()["sh"], sh)  # type: ignore[operator]


def without(name: str) -> Callable[[bytes], bytes]:
    """Rename an attribute: the file stays as long."""
    return lambda data: data.replace(f"property float {name}\n".encode(), f"property float {name[:-1]}?\n".encode(), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("opacity"), "no opacity"),
        (without("rot_3"), "no rot_3"),
        (without("scale_0"), "no scale_0"),
        (without("f_dc_1"), "no f_dc_1"),
        (without("x"), "no x"),
        (without("f_rest_44"), "44 values f_rest"),
        (lambda data: data[: len(data) // 2], "promises 60 vertex"),
        (lambda data: data[:-4] + np.float32("nan").tobytes(), "not finite"),
        (lambda data: b"ply\nnothing", "no PLY file"),
        (lambda data: b"", "empty"),
    ],
)
def test_bad_ply(golden: dict[str, Tensor], tmp_path: Path, change: Callable[[bytes], bytes], words: str) -> None:
    (path := tmp_path / "bad.ply").write_bytes(change(golden["bytes_inria_ply"].numpy().tobytes()))
    with pytest.raises(FormatError, match=words):
        imported(path)


def test_a_mesh_is_no_scene(tmp_path: Path) -> None:
    write_geometry(as_geometry({"positions": np.eye(3), "faces": [[0, 1, 2]]}), tmp_path / "mesh.ply")
    with pytest.raises(FormatError, match="holds no Gaussians.*meshes and plain points"):
        imported(tmp_path / "mesh.ply")


# --- training checkpoints ---------------------------------------------------------------------------------------------


def parameters(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {"means": "means", "scales": "log_scales", "quats": "quats_wxyz", "opacities": "opacity_logit"}
    values = {name: golden[key] for name, key in names.items()}
    return values | {"sh0": golden["sh"][:, :1].contiguous(), "shN": golden["sh"][:, 1:].contiguous()}


def captured(golden: dict[str, Tensor], **changed: Any) -> tuple[Any, int]:
    """What the original's training script saves."""
    values = {key: nn.Parameter(value) for key, value in (parameters(golden) | changed).items()}
    optimizer = torch.optim.Adam([values["means"]])
    values["means"].sum().backward()
    optimizer.step()
    with torch.no_grad():
        values["means"].copy_(golden["means"])
    count = len(values["means"])
    order = ("means", "sh0", "shN", "scales", "quats")
    rest = (torch.zeros(count), torch.zeros(count, 1), torch.zeros(count, 1), optimizer.state_dict(), 4.4)
    return (3, *(values[key] for key in order), nn.Parameter(values["opacities"].detach()[:, None]), *rest), 30_000


def test_checkpoint_of_gsplat(golden: dict[str, Tensor], tmp_path: Path) -> None:
    splats = nn.ParameterDict(parameters(golden)).state_dict()
    pose = {"embeds.weight": torch.zeros(5, 9)}
    for content in (
        {"step": 6999, "splats": splats},
        {"step": 6999, "splats": splats, "pose_adjust": pose},
        dict(splats),
    ):
        torch.save(content, tmp_path / "ckpt.pt")
        predictor = imported(tmp_path / "ckpt.pt", background="black")
        assert same(predictor.module, golden)
        assert (predictor.config["rules"], predictor.config["background"]) == ("gsplat", "black")


def test_checkpoint_of_the_original(golden: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(captured(golden), tmp_path / "chkpnt30000.pth")
    predictor = imported(tmp_path / "chkpnt30000.pth")
    assert same(predictor.module, golden)
    assert (predictor.config["rules"], predictor.config["near"]) == ("inria", 0.2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            lambda values: {"splats": values | {"means": torch.full((60, 3), float("nan"))}},
            "means of 60 Gaussians is not finite",
        ),
        (lambda values: {"splats": values | {"quats": torch.zeros(59, 4)}}, "of the wrong shape: quats"),
        (lambda values: {"splats": values | {"shN": torch.zeros(60, 5, 3)}}, "6 spherical harmonics"),
        (lambda values: {"splats": values | {"features": torch.zeros(60, 32)}}, "unexpected: features"),
        (lambda values: {"splats": {k: v for k, v in values.items() if k != "shN"}}, "not whole"),
        (lambda values: {"splats": {k: v for k, v in values.items() if k != "opacities"}}, "missing: opacities"),
        (lambda values: ((3, *values.values()), 7), "this looks like the original's checkpoint"),
        (lambda values: (1, 2), "a tuple"),
    ],
)
def test_bad_checkpoints(golden: dict[str, Tensor], tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content(parameters(golden)), tmp_path / "bad.pth")
    with pytest.raises(FormatError, match=words):
        imported(tmp_path / "bad.pth")


def test_what_is_trained_here_comes_back(golden: dict[str, Tensor], tmp_path: Path) -> None:
    """Saved, as .ply and imported: the picture stays."""
    module = GaussianSplatting(60, 3)
    module.load_state_dict(parameters(golden))
    write_geometry(as_geometry(module.scene()), tmp_path / "scene.ply")
    again: Any = imported(tmp_path / "scene.ply", home=module.home).module
    camera = torch.tensor(module.home[:24])
    with torch.no_grad():
        assert torch.equal(again.eval().render(camera).image, module.eval().render(camera).image)
    assert read_geometry(tmp_path / "scene.ply", "scene")["sh"].shape == (60, 16, 3)
