"""NeRF checkpoints of other codes: what they hold is told from the tensors, and gives the pictures they gave there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden, fill
from torch import Tensor

import stzoo
from stzoo.errors import FormatError
from stzoo_reconstruction.nerf import NeRF, encode
from stzoo_reconstruction.nerf_checkpoints import FlexibleNeRF, NeRFPytorch

GOLDENS = Path(__file__).parent / "goldens"
State = dict[str, Tensor]


def golden(name: str) -> Golden:
    return Golden(GOLDENS / f"nerf-{name}")


def official(name: str, prefix: str = "") -> State:
    return {key: fill(prefix + key, shape) for key, (shape, _) in golden(f"mlp-{name}").facts["state_dict"].items()}


def given(name: str, frequencies: int = 10) -> Tensor:
    expected = golden(f"mlp-{name}").tensors
    return torch.cat((encode(expected["pts"], frequencies), encode(expected["dirs"], 4)), -1)


def written(path: Path, coarse: State, fine: State | None, names: tuple[str, str]) -> Path:
    """As training scripts save them: two networks side by side, an optimizer, and numbers."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    content = {
        "iter": 5,
        names[0]: coarse,
        names[1]: fine,
        "optimizer_state_dict": optimizer.state_dict(),
        "loss": torch.ones(()),
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(("name", "points"), [("default", 10), ("small-4x64", 6)])
def test_a_tar_gives_the_reference_outputs(name: str, points: int, tmp_path: Path) -> None:
    path = written(tmp_path / "200000.tar", official(name, "other."), official(name), NeRFPytorch.parts)
    imported = stzoo.import_checkpoint(path, device="cpu")
    said = golden(f"mlp-{name}").facts["ctor"]
    config = imported.config
    assert imported.architecture.name == "nerf"
    assert (config["layers"], config["width"], config["frequencies"]) == (said["D"], said["W"], (points, 4))
    assert config["skips"] == ((4,) if said["D"] > 5 else ()) and config["fine_samples"] == 128
    assert config["pixel_centre"] == 0.0 and config["cells"] == 0
    with torch.inference_mode():
        found = imported.module(given(name, points))
    torch.testing.assert_close(found, golden(f"mlp-{name}").tensors["out"], rtol=1e-4, atol=1e-5)
    told = {note.partition(":")[0] for note in imported.report.notes}
    assert {"near", "far", "samples", "fine_samples", "background", "pixel_centre", "home"} <= told
    torch.testing.assert_close(imported.module.coarse.rgb_linear.bias, fill("other.rgb_linear.bias", (3,)))


def test_a_network_that_does_not_look_at_directions(tmp_path: Path) -> None:
    """With a fine network the reference gives it a fifth output, and always a layer for directions: nothing looks at either."""
    state = official("noviewdirs")
    more = state | {
        "output_linear.weight": torch.cat((state["output_linear.weight"], torch.ones(1, 64))),
        "output_linear.bias": torch.cat((state["output_linear.bias"], torch.ones(1))),
    }
    path = written(tmp_path / "a.tar", more, more, NeRFPytorch.parts)
    for source in (path, written(tmp_path / "b.tar", state, None, NeRFPytorch.parts)):
        imported = stzoo.import_checkpoint(source, device="cpu")
        assert not imported.config["viewdirs"] and bool(imported.config["fine_samples"]) == (source == path)
        assert "frequencies" in {note.partition(":")[0] for note in imported.report.notes}
        with torch.inference_mode():
            found = imported.module(given("noviewdirs"))
        torch.testing.assert_close(found, golden("mlp-noviewdirs").tensors["out"], rtol=1e-4, atol=1e-5)


def test_a_state_dict_alone_is_the_coarse_network(tmp_path: Path) -> None:
    torch.save(official("small-4x64"), tmp_path / "x.pth")
    imported = stzoo.import_checkpoint(tmp_path / "x.pth", device="cpu", samples=32, near=1.0)
    assert imported.config["fine_samples"] == 0 and imported.config["samples"] == 32 and imported.module.near == 1.0
    with torch.inference_mode():
        found = imported.module(given("small-4x64", 6))
    torch.testing.assert_close(found, golden("mlp-small-4x64").tensors["out"], rtol=1e-4, atol=1e-5)


def keras(state: State) -> list[np.ndarray]:
    """A network's weights as Keras lists them: (in, out), layer by layer in the order they were made in."""
    trunk = [f"pts_linears.{index}" for index in range(8)]
    last = ["feature_linear", "views_linears.0", "rgb_linear", "alpha_linear"]
    return [state[f"{layer}.{leaf}"].numpy().T for layer in (*trunk, *last) for leaf in ("weight", "bias")]


def save_keras(path: Path, state: State) -> None:
    arrays = keras(state)
    ragged = np.empty(len(arrays), dtype=object)
    ragged[:] = arrays
    np.save(path, ragged)


def test_weights_of_keras(tmp_path: Path) -> None:
    save_keras(tmp_path / "model_000100.npy", official("default", "other."))
    alone = stzoo.import_checkpoint(tmp_path / "model_000100.npy", device="cpu")
    assert alone.config["fine_samples"] == 0
    save_keras(tmp_path / "model_fine_000100.npy", official("default"))
    for name in ("model_000100.npy", "model_fine_000100.npy"):
        imported = stzoo.import_checkpoint(tmp_path / name, device="cpu")
        assert imported.config["skips"] == (4,) and imported.config["fine_samples"] == 128
        with torch.inference_mode():
            found = imported.module(given("default"))
        torch.testing.assert_close(found, golden("mlp-default").tensors["out"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(imported.module.coarse.rgb_linear.bias, fill("other.rgb_linear.bias", (3,)))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_pickles_that_are_more_than_arrays_execute_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object))
    np.save(tmp_path / "one.npy", np.zeros((3, 4)))
    np.save(tmp_path / "text.npy", np.array(["a", None], dtype=object))
    save_keras(tmp_path / "model_1.npy", official("default"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "model_1.npy").read_bytes()[:5000])
    odd = np.empty(3, dtype=object)
    odd[:] = [np.zeros((3, 4)), np.zeros(4), np.zeros(1)]
    np.save(tmp_path / "odd.npy", odd)
    for name, message in (
        ("evil.npy", "more than arrays: it asks for builtins.print. stzoo does not execute pickles"),
        ("one.npy", "not a readable list of arrays"),
        ("text.npy", "other things than arrays of numbers"),
        ("cut.npy", "not a readable list of arrays"),
        ("odd.npy", "holds 3 arrays, which are no layers of a NeRF"),
    ):
        with pytest.raises(FormatError, match=message):
            stzoo.import_checkpoint(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


# --- krrish94's -------------------------------------------------------------------------------------------------------


def flexible(prefix: str = "", viewdirs: bool = True, **shapes: tuple[int, ...]) -> State:
    sizes: dict[str, tuple[int, int]] = {"layer1": (32, 39)}
    sizes |= {f"layers_xyz.{index}": (32, 32) for index in range(3)}
    if viewdirs:
        sizes |= {"layers_dir.0": (16, 59), "fc_alpha": (1, 32), "fc_rgb": (3, 16), "fc_feat": (32, 32)}
    else:
        sizes |= {"fc_out": (4, 32)}
    state = {}
    for layer, (out, inside) in sizes.items():
        state |= {f"{layer}.weight": fill(f"{prefix}{layer}.weight", (out, inside))}
        state |= {f"{layer}.bias": fill(f"{prefix}{layer}.bias", (out,))}
    return state


def flexible_forward(state: State, points: Tensor, directions: Tensor) -> Tensor:
    """What FlexibleNeRFModel computes, written down from its facts."""

    def layer(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    x = layer("layer1", points)
    for index in range(3):
        x = layer(f"layers_xyz.{index}", x).relu()
    if "fc_out.weight" in state:
        return layer("fc_out", x)
    feature = layer("fc_feat", x).relu()
    seen = layer("layers_dir.0", torch.cat((feature, directions), -1)).relu()
    return torch.cat((layer("fc_rgb", seen), layer("fc_alpha", x)), -1)


@pytest.mark.parametrize("viewdirs", [True, False])
def test_a_flexible_model(viewdirs: bool, tmp_path: Path) -> None:
    state = flexible(viewdirs=viewdirs)
    path = written(tmp_path / "checkpoint5.ckpt", flexible("coarse.", viewdirs), state, FlexibleNeRF.parts)
    imported = stzoo.import_checkpoint(path, device="cpu")
    assert imported.config["activations"] == "flexible" and imported.config["frequencies"] == (6, 4)
    assert imported.config["viewdirs"] == viewdirs and imported.config["layers"] == 4
    points, directions = encode(torch.randn(9, 3), 6), encode(torch.randn(9, 3), 4)
    expected = flexible_forward(state, points, directions)
    with torch.inference_mode():
        found = imported.module(torch.cat((points, directions), -1))
    torch.testing.assert_close(found, expected)
    assert imported.predict(size=8).image.shape == (3, 8, 8)


# --- what does not fit ------------------------------------------------------------------------------------------------


def without(state: State, key: str) -> State:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("coarse", "fine", "message"),
    [
        (None, official("small-4x64"), "the coarse network is missing"),
        (
            without(official("small-4x64"), "rgb_linear.bias"),
            None,
            "1 of its tensors are missing: coarse.rgb_linear.bias",
        ),
        (
            official("small-4x64"),
            without(official("small-4x64"), "pts_linears.2.weight"),
            "missing: fine.pts_linears.2.weight",
        ),
        (official("small-4x64"), official("default"), "unexpected"),
        (official("default") | {"pts_linears.3.weight": torch.zeros(256, 9)}, None, "of the wrong shape"),
        (official("default") | {"pts_linears.0.weight": torch.zeros(256, 60)}, None, "encoded points of 60 numbers"),
        (official("default") | {"extra.weight": torch.zeros(1)}, None, "unexpected: coarse.extra.weight"),
        (official("default") | {"pts_linears.0.weight": torch.zeros(256)}, None, "it is not whole"),
    ],
)
def test_contradictions_are_refused(coarse: State | None, fine: State | None, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "x.tar", coarse, fine, NeRFPytorch.parts)  # type: ignore[arg-type]
    with pytest.raises(FormatError, match=message):
        stzoo.import_checkpoint(path)


def test_what_is_no_nerf_is_not_claimed() -> None:
    assert FlexibleNeRF().detect({"layer1.weight": torch.zeros(3, 3), "layer1.0.conv1.weight": torch.zeros(1)}) is None
    assert NeRFPytorch().detect({"layer1.weight": torch.zeros(3, 3)}) is None


def test_what_is_learnt_here_can_be_given_back(tmp_path: Path) -> None:
    """The tensors have the reference's names below ``coarse`` and ``fine``, so that its code reads them."""
    torch.manual_seed(0)
    network = NeRF(layers=6, width=32, skips=(2,), samples=8, fine_samples=8)
    assert network.fine is not None
    path = written(tmp_path / "x.tar", network.coarse.state_dict(), network.fine.state_dict(), NeRFPytorch.parts)
    imported = stzoo.import_checkpoint(path, device="cpu", samples=8, fine_samples=8)
    assert imported.config["skips"] == (2,)
    points = torch.randn(5, 3)
    torch.testing.assert_close(imported.module.density(points), network.density(points))
    assert math.isfinite(float(imported.predict(size=4).image.sum()))
