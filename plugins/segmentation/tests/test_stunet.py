"""The space-time U-Net against what the reference computes, its checkpoints, and the network that segments clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.predictor import Predictor
from stzoo_segmentation.stunet import Unet3D, buckets, rotated
from stzoo_segmentation.video_unet import SpatioTemporalUNet

GOLDENS = Path(__file__).parent / "goldens"
CLASSES = ("background", "foreground")


def frequencies(features: int) -> Tensor:
    return 10_000.0 ** -(torch.arange(0, features, 2) / features)


def state_of(golden: Golden) -> dict[str, Tensor]:
    """As the reference's, whose rotary frequencies are constants."""
    return {key: frequencies(2 * len(value)) if key.endswith("freqs") else value for key, value in golden.state.items()}


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet3d-A-dim16", "unet3d-A-dim16-cond"])
def test_outputs_are_the_reference_s(name: str, tmp_path: Path) -> None:
    golden = Golden(GOLDENS / name)
    tensors, notes = golden.tensors, golden.facts
    torch.save(state_of(golden), tmp_path / "model.pt")
    predictor = stzoo.import_checkpoint(tmp_path / "model.pt", device="cpu")
    for key, value in notes["ctor"].items():
        assert predictor.config[key] == (tuple(value) if isinstance(value, list) else value)
    network: Any = predictor.module
    assert (
        sum(parameter.numel() for parameter in network.parameters()) + predictor.config["attn_dim_head"] // 2
        == notes["params"]
    ), "the reference counts its one table of frequencies"
    x, time = tensors["input_x"], tensors["input_time"]
    cond = {"cond": tensors["input_cond"]} if "input_cond" in tensors else {}
    mixed = torch.tensor([True, False])

    def check(found: Tensor, key: str) -> None:
        torch.testing.assert_close(found, tensors[key], rtol=1e-4, atol=1e-5)

    with torch.inference_mode():
        check(network(x, time, **cond), "output")
        check(network(x, time, focus_present_mask=torch.ones(2, dtype=torch.bool), **cond), "output_focus_present")
        check(network(x, time, prob_focus_present=1.0, **cond), "output_focus_present")
        check(network(x, time, focus_present_mask=mixed, **cond), "output_focus_mixed")
        check(network.time_rel_pos_bias(x.shape[2]), "output_time_rel_pos_bias")
        if cond:
            check(network.forward_with_cond_scale(x, time, cond_scale=2.0, **cond), "output_cond_scale_2")
            check(network(x, time, null_cond_prob=1.0, **cond), "output_null_cond")


def test_the_size_of_the_readme() -> None:
    with torch.device("meta"):
        network = Unet3D(64, dim_mults=(1, 2, 4, 8))
        found = network(torch.empty(1, 3, 5, 32, 32), torch.empty(1, dtype=torch.int64))
    assert found.shape == (1, 3, 5, 32, 32)
    assert network.downs[3][0].block1.proj.weight.shape == (512, 256, 1, 3, 3)  # type: ignore[index,union-attr]
    assert network.mid_spatial_attn.fn.fn.fn.to_qkv.weight.shape == (768, 512)  # type: ignore[union-attr]


def test_positions() -> None:
    found = buckets(40)
    assert found[0].tolist()[:9] == [0, *range(17, 25)] and found[:9, 0].tolist() == list(range(9))
    assert found.max() == 31 and found[39, 0] == 15, "what is far is alike"
    x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    turned = rotated(x, 4)
    torch.testing.assert_close(turned[..., 4:], x[..., 4:])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    angle = torch.tensor(3.0)
    torch.testing.assert_close(turned[:, 3, 0], x[:, 3, 0] * angle.cos() - x[:, 3, 1] * angle.sin())


def test_frames_know_of_each_other_only_through_time() -> None:
    torch.manual_seed(0)
    network = Unet3D(8, dim_mults=(1, 2), channels=1, attn_heads=2, attn_dim_head=8).eval()
    clip, time = torch.randn(1, 1, 4, 8, 8), torch.tensor([5])
    alone = torch.tensor([True])
    with torch.inference_mode():
        network.init_temporal_attn.fn.fn.fn.to_out.weight.zero_()  # type: ignore[union-attr,operator]
        whole, parts = network(clip, time), network(clip, time, focus_present_mask=alone)
        single = network(clip[:, :, 2:3], time)
    torch.testing.assert_close(parts[:, :, 2:3], single, msg="attention to one frame is no attention to others")
    assert not torch.allclose(whole, parts, atol=1e-3)


@pytest.mark.parametrize("wrapped", ["denoise_fn", "parameter", "half"])
def test_checkpoints_of_trainers(wrapped: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config: dict[str, Any] = {"dim_mults": (1, 3), "channels": 2, "attn_heads": 3, "attn_dim_head": 6, "out_dim": None}
    network = Unet3D(8, init_kernel_size=5, use_sparse_linear_attn=False, **config)
    state = dict(network.state_dict())
    state |= {
        key.replace("to_qkv.weight", "rotary_emb.freqs"): frequencies(6)
        for key in state
        if "temporal_attn" in key and "to_qkv" in key
    }
    if wrapped == "half":
        state = {key: value.half() for key, value in state.items()}
    if wrapped == "denoise_fn":
        from stzoo_segmentation.diffusion import cosine_betas

        betas = torch.from_numpy(cosine_betas(70)).float()
        inside = {f"denoise_fn.{key}": value for key, value in state.items()} | {
            "betas": betas,
            "alphas_cumprod": betas,
        }
        last = {key: value + 1 if key.startswith("denoise") else value for key, value in inside.items()}
        torch.save({"step": 3, "model": last, "ema": inside, "scaler": {"scale": 1.0}}, tmp_path / "model-1.pt")
    else:
        torch.save(state, tmp_path / "model-1.pt")
    predictor = stzoo.import_checkpoint(tmp_path / "model-1.pt", device="cpu")
    assert predictor.architecture.name == "video-diffusion"
    expected = config | {"dim": 8, "init_kernel_size": 5, "use_sparse_linear_attn": False, "cond_dim": None}
    assert {key: predictor.config[key] for key in expected} == expected
    assert predictor.config["timesteps"] == (70 if wrapped == "denoise_fn" else 1000)
    assert any("timesteps" in note for note in predictor.report.notes) == (wrapped != "denoise_fn")
    own = predictor.module.state_dict()
    for key, value in network.state_dict().items():
        torch.testing.assert_close(own[key], value, rtol=1e-3, atol=1e-3, msg="the averaged weights")


def inside(state: dict[str, Tensor], **schedule: Tensor) -> None:
    """As a Trainer has it."""
    named = {f"denoise_fn.{key}": value for key, value in state.items()}
    state.clear()
    state.update(named | schedule)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("mid_block1.block1.proj.weight"), "1 of its tensors are missing"),
        (
            lambda state: state.update({"downs.0.3.fn.fn.fn.rotary_emb.freqs": torch.ones(16)}),
            "other rotary frequencies",
        ),
        (lambda state: inside(state, betas=torch.full((50,), 0.02)), "not the cosine one"),
        (lambda state: state.pop("final_conv.1.weight"), "final_conv.1.weight is missing"),
    ],
)
def test_checkpoints_that_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    state = dict(Unet3D(8, dim_mults=(1, 2), attn_heads=2).state_dict())
    change(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(FormatError, match=message):
        stzoo.import_checkpoint(tmp_path / "model.pt", device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 7}, "dim must be even"),
        ({"dim": 8, "dim_mults": ()}, "dim_mults must be positive"),
        ({"dim": 8, "attn_dim_head": 5}, "attn_dim_head must be even"),
        ({"dim": 8, "init_kernel_size": 4}, "init_kernel_size must be odd"),
        ({"dim": 8, "attn_heads": 0}, "attn_heads must be at least 1"),
    ],
)
def test_networks_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Unet3D(**arguments)


def test_inputs_that_do_not_fit() -> None:
    plain = Unet3D(8, dim_mults=(1, 2), attn_heads=2)
    knowing = Unet3D(8, cond_dim=3, dim_mults=(1, 2), attn_heads=2)
    clip, time = torch.zeros(1, 3, 2, 8, 8), torch.zeros(1)
    for network, arguments, message in (
        (plain, (clip[:, :1], time), "expected clips .batch, 3 channels"),
        (plain, (clip[0], time), "expected clips"),
        (plain, (clip[..., :7], time), "7x8 pixels: both must be multiples of 2"),
        (plain, (clip, time, torch.zeros(1, 3)), "a condition for a network that takes none"),
        (knowing, (clip, time), "made for conditions, and none is given"),
        (knowing, (clip, time, torch.zeros(1, 4)), r"not \(1, 3\)"),
    ):
        with pytest.raises(InputError, match=message):
            network(*arguments)


# --- segmenting clips -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmenter() -> Predictor:
    torch.manual_seed(0)
    return stzoo.create("stunet", device="cpu", dim=4, dim_mults=(1, 2), attn_dim_head=8, span=1, classes=CLASSES)


def moving(frames: int, height: int = 24, width: int = 40) -> np.ndarray:
    clip = np.random.default_rng(0).uniform(0, 0.4, (frames, 3, height, width)).astype(np.float32)
    for time, frame in enumerate(clip):
        frame[:, 6:14, time % (width - 8) : time % (width - 8) + 8] += 0.5
    return clip


def test_a_clip_of_any_length_and_size(segmenter: Predictor) -> None:
    for frames, height, width in ((1, 24, 40), (3, 17, 9), (5, 1, 30)):
        found = segmenter.predict(moving(frames, max(height, 14), max(width, 9))[..., :height, :width])
        assert found.mask.shape == (frames, height, width) and found.mask.dtype == np.uint8
        assert found.mask.max() <= 1


def test_windows_and_streams_give_what_the_whole_clip_gives(segmenter: Predictor) -> None:
    assert segmenter.requirements.reach_frames == 2
    clip = moving(30)
    whole = segmenter.predict(clip, window=0).mask
    parts = segmenter.predict(clip, window=12).mask
    np.testing.assert_array_equal(parts, whole)
    streamed = np.stack(list(segmenter.stream(iter(clip), window=12)))
    np.testing.assert_array_equal(streamed, whole)


def test_what_a_logit_depends_on() -> None:
    torch.manual_seed(0)
    network = SpatioTemporalUNet(dim=4, dim_mults=(1, 2), attn_dim_head=8, span=2, fusion=1).eval()
    clip = torch.randn(1, 9, 3, 256, 8, requires_grad=True)
    network(clip)[0, 4, 0, 128, 4].backward()
    assert clip.grad is not None
    seen = clip.grad[0].abs().sum((1, 3)) > 0
    frames, rows = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (frames.min(), frames.max()) == (1, 7) and network.requirements.reach_frames == 3
    reach = max(128 - int(rows.min()), int(rows.max()) - 128)
    assert network.requirements.reach is not None and reach <= network.requirements.reach < reach + 12


def test_attention_within_frames_needs_whole_ones() -> None:
    network = SpatioTemporalUNet(dim=4, dim_mults=(1, 2), attention="frame", temporal="everywhere", span=1)
    assert network.requirements.reach is None and network.requirements.reach_frames == 7
    assert network(torch.zeros(2, 3, 3, 8, 12)).shape == (2, 3, 2, 8, 12)


def test_it_learns_what_moves() -> None:
    torch.manual_seed(0)
    predictor = stzoo.create("stunet", device="cpu", dim=8, dim_mults=(1, 2), attn_dim_head=8, classes=CLASSES)
    recipe = predictor.recipe(lr=3e-3, crop=(24, 40), schedule="constant")
    clip = moving(6)
    mask = (clip.mean(1) > 0.4).astype(np.uint8)
    rng = np.random.default_rng(0)
    [(optimizer, _)] = recipe.optimizers(predictor.module.train(), 40)
    losses = []
    for step in range(40):
        sample = recipe.sample({"video": clip, "mask": mask}, predictor.requirements, rng)
        batch = {name: torch.from_numpy(np.ascontiguousarray(value))[None] for name, value in sample.items()}
        loss = torch.stack(list(recipe.losses(predictor.module, batch, step).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    predictor.module.eval()
    found = predictor.predict(clip).mask
    overlap = (found & mask).sum() / (found | mask).sum()
    assert losses[-1] < losses[0] / 2 and overlap > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention": "all"}, "attention='all' must be one of"),
        ({"span": 0}, "span must be at least 1"),
        ({"classes": ("one", "two", "three")}, "3 names of classes for 2"),
        ({"mean": (0.1, 0.2)}, "mean"),
    ],
)
def test_segmenters_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SpatioTemporalUNet(**arguments)


def test_clips_that_do_not_fit(segmenter: Predictor) -> None:
    for shape, message in (((2, 4, 3, 8), "expected clips"), ((1, 2, 1, 8, 8), "3 channels"), ((1, 2, 3, 9, 8), "8x9")):
        with pytest.raises(InputError, match=message):
            segmenter.module(torch.zeros(shape))
    with pytest.raises(InputError, match="window=3 is too small"):
        segmenter.predict(moving(5), window=3)
    with pytest.raises(InputError, match="video is empty"):
        segmenter.predict(np.zeros((0, 3, 16, 16), np.float32))
