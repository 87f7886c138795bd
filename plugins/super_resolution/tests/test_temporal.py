"""Temporal-adaptive video super-resolution: the network, its alignment, its checkpoints, and how it learns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, DatasetError, DependencyMissing, FormatError, InputError
from stzoo_super_resolution.resize import imresize
from stzoo_super_resolution.temporal import (
    TemporalAdaptiveFormat,
    TemporalAdaptiveSR,
    flows,
    rectified_translation,
    translate,
)
from stzoo_super_resolution.temporal_training import TemporalAdaptiveRecipe, alignment_loss

GOLDEN = Golden(Path(__file__).parent / "goldens" / "ltdvsr-A-x2-N2")
TINY: dict[str, Any] = {"scale": 2, "branches": 2, "filters": (4, 3), "window": (16, 16)}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def scene(frames: int, height: int, width: int, dx: int, dy: int) -> np.ndarray:
    """A smooth picture seen by a camera that moves so far from frame to frame: (T,H,W)."""
    random = np.random.default_rng(0)
    margin = 2 + frames * max(abs(dx), abs(dy))
    size = (height + 2 * margin, width + 2 * margin)
    picture = imresize(random.random((size[0] // 4 + 1, size[1] // 4 + 1), dtype=np.float32), 4)
    places = [(margin + time * dy, margin + time * dx) for time in range(frames)]
    return np.stack([picture[y : y + height, x : x + width] for y, x in places])


# --- the reference's numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_number_of_the_golden(prefix: str, tmp_path: Path) -> None:
    facts, tensors = GOLDEN.facts, GOLDEN.tensors
    torch.save({prefix + key: value for key, value in GOLDEN.state.items()}, tmp_path / "checkpoint.pth")
    predictor = stzoo.import_checkpoint(tmp_path / "checkpoint.pth", device="cpu")
    softened = stzoo.import_checkpoint(tmp_path / "checkpoint.pth", device="cpu", fusion="softmax")
    network, frames = cast(TemporalAdaptiveSR, predictor.module), tensors["input"]
    assert predictor.architecture.name == "temporal-adaptive"
    assert list(network.state_dict()) == list(facts["state_dict"])
    assert sum(parameter.numel() for parameter in network.parameters()) == facts["params"]
    with torch.inference_mode():
        close(network.temporal_scales(frames), tensors["output_branch_hr"])
        close(network.temporal_modulation(frames), tensors["output_weights_raw"])
        output = network(frames)
        close(output, tensors["output_sum_raw"])
        close(softened.module(frames), tensors["output_sum_softmax"])
        # The golden moves the third frame onto the middle one.
        found, wanted = network.loc(frames[:, 1:]), rectified_translation(tensors["input_flow"])
        close(found, tensors["output_stn_theta"])
        close(wanted, tensors["output_rectified_int_translation"])
        moving = frames[:, 2:]
        close(translate(moving, found), tensors["output_stn_aligned"])
        close(translate(moving, wanted), tensors["output_rectified_aligned"])
        close(translate(moving, torch.tensor([[1.25, -0.5]] * 2)), tensors["output_warp_dx1.25_dy-0.5"])
        scalars, target = facts["scalars"], tensors["input_hr"]
        assert F.mse_loss(output, target).item() == pytest.approx(scalars["loss1_mse_mean"], rel=1e-5)
        assert F.mse_loss(output, target, reduction="sum").item() == pytest.approx(scalars["loss1_sumsq"], rel=1e-5)
        assert alignment_loss(found, wanted).item() == pytest.approx(scalars["align_loss"], rel=1e-5)


# --- the network ------------------------------------------------------------------------------------------------------


def test_branches_see_their_frames_alone() -> None:
    """A branch's picture depends on the frames in the middle that are its own, and on no other."""
    network, frames = TemporalAdaptiveSR(2, 3, (4, 3)), torch.rand(1, 5, 8, 8)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    changed = frames.clone()
    changed[:, [0, 4]] += 1
    before, after = network.temporal_scales(frames), network.temporal_scales(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.equal(before[:, 2], after[:, 2])


def test_an_untrained_network_is_bilinear_interpolation() -> None:
    network, frames = TemporalAdaptiveSR(4, 3, (4, 3)), torch.rand(2, 5, 9, 11)
    wanted = F.interpolate(frames[:, 2:3], scale_factor=4, mode="bilinear")
    assert torch.allclose(network(frames)[..., 4:-4, 4:-4], wanted[..., 4:-4, 4:-4], atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"scale": 0},
        {"branches": 0},
        {"filters": (0, 3)},
        {"fusion": "sum"},
        {"alignment": "yes"},
        {"window": (3, 16)},
    ],
)
def test_values_out_of_range_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        TemporalAdaptiveSR(**config)


def test_other_numbers_of_frames_are_refused() -> None:
    with pytest.raises(InputError, match="3 frames"):
        TemporalAdaptiveSR(**TINY)(torch.rand(1, 5, 8, 8))
    with pytest.raises(InputError, match="tiles of 32x32"):
        TemporalAdaptiveSR(**TINY).loc(torch.rand(1, 2, 32, 32))


# --- alignment --------------------------------------------------------------------------------------------------------


def test_flow_finds_a_moving_camera() -> None:
    """Frames of a camera that moves by (2, -1) pixels, aligned, are all like the middle one; the network's warp agrees."""
    frames = scene(5, 40, 52, 2, -1)
    found = flows(frames)
    assert np.allclose(found[3].mean((1, 2)), (-4, 2), atol=0.2)
    network = TemporalAdaptiveSR(2, 3, (4, 3), alignment="flow", window=(24, 24))
    clip = torch.from_numpy(frames)[None]
    aligned = network.align(clip)
    inner = aligned[..., 6:-6, 6:-6]
    assert aligned.shape == clip.shape
    assert (inner - inner[:, 2:3]).abs().max() < 1e-5
    assert (clip - clip[:, 2:3])[..., 6:-6, 6:-6].abs().mean() > 0.05


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 47)])
@pytest.mark.parametrize("alignment", ["none", "flow", "network"])
def test_tiles_that_stay_are_put_together_again(alignment: str, size: tuple[int, int]) -> None:
    """Frames that are all the same stay the same, at any size; the middle frame always does."""
    network, picture = TemporalAdaptiveSR(**TINY | {"alignment": alignment}), torch.rand(2, 1, *size)
    aligned = network.align(picture.expand(-1, 3, -1, -1))
    assert torch.allclose(aligned, picture.expand(-1, 3, -1, -1), atol=1e-5)
    assert torch.equal(aligned[:, 1:2], picture)


def test_each_tile_is_moved_by_its_own_translation() -> None:
    network = TemporalAdaptiveSR(**TINY)
    frames = torch.arange(32.0).expand(1, 3, 32, 32)
    padded = network.pad(frames)
    translations = torch.zeros(1, 2, 4, 4, 2)
    translations[:, 0, 1, 2] = torch.tensor([3.0, 0.0])  # the first frame, second row of tiles, third column
    moved = (network.move(padded, translations) - frames)[0]
    assert torch.allclose(moved[0, 8:16, 16:24], torch.tensor(3.0), atol=1e-4)
    moved[0, 8:16, 16:24] = 0
    assert moved.abs().max() < 1e-4


def test_flow_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.registration", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'stzoo-super-resolution\[flow\]'"):
        flows(np.zeros((3, 8, 8), np.float32))


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_what_tensors_cannot_tell_is_said() -> None:
    form = TemporalAdaptiveFormat()
    config = form.detect(TemporalAdaptiveSR(3, 2, (5, 4), "softmax", "flow", (20, 20)).state_dict())
    assert config == {
        "scale": 3,
        "branches": 2,
        "filters": (5, 4),
        "fusion": "raw",
        "alignment": "none",
        "window": (60, 60),
    }
    assert {note.partition(":")[0] for note in form.unknown(config)} == {"fusion", "alignment", "window"}
    assert form.detect({"conv1.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("key", ["branches.1.conv2.bias", "loc.fc2.weight", "branches.0.conv2.weight"])
def test_incomplete_checkpoints_are_refused(key: str) -> None:
    state = dict(GOLDEN.state)
    state.pop(key)
    with pytest.raises(FormatError, match=r"branch 0|missing"):
        TemporalAdaptiveFormat().detect(state)
    with pytest.raises(FormatError, match="wrong shape"):
        TemporalAdaptiveFormat().detect(GOLDEN.state | {"loc.fc2.weight": torch.zeros(3, 100)})


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", ["none", "flow", "network"])
def test_both_stages_learn(alignment: str) -> None:
    """The first trains each branch and the alignment network, but no weights; the second everything."""
    clip = scene(3, 48, 64, 1, 2)[:, None].repeat(3, axis=1)
    network = TemporalAdaptiveSR(**TINY | {"alignment": alignment})
    recipe = TemporalAdaptiveRecipe(patch=20, patches=2)
    sample = recipe.sample({"video": clip}, network.requirements, np.random.default_rng(0))
    assert sample["frames"].shape == (2, 3, 20, 20)
    assert sample["target"].shape == (2, 1, 40, 40)
    batch = {name: torch.from_numpy(value)[None] for name, value in sample.items()}
    learnt = {}
    for stage in ("branches", "joint"):
        recipe.stage = stage
        network.zero_grad()
        losses = recipe.losses(network, batch, 0)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        learnt[stage] = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
        expected = {"branch_1", "branch_2"} if stage == "branches" else {"mse"}
        assert set(losses) == expected | ({"alignment"} if alignment == "network" else set())
    parts = {"branches"} | ({"loc"} if alignment == "network" else set())
    assert learnt == {"branches": parts, "joint": parts | {"temporal_modulation"}}


def test_one_branch_needs_no_neighbours() -> None:
    network, recipe = TemporalAdaptiveSR(**TINY | {"branches": 1, "alignment": "none"}), TemporalAdaptiveRecipe(patch=8)
    clip = {"video": scene(1, 20, 20, 0, 0)[:, None]}
    sample = recipe.sample(clip, network.requirements, np.random.default_rng(0))
    assert set(sample) == {"frames", "target"}
    batch = {name: torch.from_numpy(value)[None] for name, value in sample.items()}
    assert set(recipe.losses(network, batch, 0)) == {"mse"}


def test_patches_and_their_flow_turn_together() -> None:
    """However a patch is mirrored and turned, moving its frames by its flow makes them like the middle one."""
    clip = scene(3, 80, 96, 4, 2)[:, None]
    network, recipe = TemporalAdaptiveSR(**TINY | {"alignment": "flow"}), TemporalAdaptiveRecipe(patch=32, patches=40)
    sample = recipe.sample({"video": clip}, network.requirements, np.random.default_rng(0))
    flow, frames = torch.from_numpy(sample["flow"]), torch.from_numpy(sample["frames"])
    assert {tuple(value) for value in rectified_translation(flow)[:, 1].tolist()} >= {
        (-2, -1),
        (2, 1),
        (-1, -2),
        (1, -2),
    }
    moved = network.move(frames, network.rectify(flow))
    assert (moved - moved[:, 1:2]).abs().max() < 0.02
    low = torch.from_numpy(sample["target"]).squeeze(1).numpy()
    assert np.abs(imresize(low, 0.5)[:, 4:-4, 4:-4] - sample["frames"][:, 1, 4:-4, 4:-4]).max() < 0.01


def test_scenes_are_remembered() -> None:
    """What takes long, reading and flow, is done once for each example of just the frames that are needed."""
    network, recipe = TemporalAdaptiveSR(**TINY), TemporalAdaptiveRecipe(patch=20, remembered=1)
    reads: list[int] = []

    class Counting(list[dict[str, Any]]):
        def __getitem__(self, index: Any) -> Any:
            reads.append(index)
            return super().__getitem__(index)

    clip = scene(3, 40, 40, 0, 0)[:, None]
    items = recipe.samples(Counting([{"video": clip}, {"video": clip}]))
    assert len(items) == 2
    for index in (0, 1, 0, 1):
        recipe.sample(items[index], network.requirements, np.random.default_rng(0))
    assert reads == [0, 1, 1]


def test_what_cannot_be_learned_from_is_refused() -> None:
    network, random = TemporalAdaptiveSR(**TINY), np.random.default_rng(0)
    small = {"video": scene(3, 20, 20, 0, 0)[:, None]}
    with pytest.raises(DatasetError, match=r"10x10 .* patch 60x60"):
        TemporalAdaptiveRecipe().sample(small, network.requirements, random)
    sample = TemporalAdaptiveRecipe(patch=8).sample(small, network.requirements, random)
    with pytest.raises(ConfigError, match="at least 16 pixels"):
        TemporalAdaptiveRecipe(patch=8).losses(network, {k: torch.from_numpy(v)[None] for k, v in sample.items()}, 0)
    for option in ("lr", "patch", "patches", "pairs"):
        with pytest.raises(ConfigError, match=option):
            TemporalAdaptiveRecipe.from_options({option: 0})
