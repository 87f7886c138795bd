"""Video diffusion: the process against the reference's, sampling, its training, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo.errors import ConfigError, DatasetError, DependencyMissing, InputError
from stzoo.fields import Video
from stzoo.predictor import Predictor
from stzoo_segmentation import diffusion
from stzoo_segmentation.diffusion import DiffusionRecipe, VideoDiffusion

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {
    "dim": 8,
    "dim_mults": (1, 2),
    "attn_heads": 2,
    "attn_dim_head": 8,
    "init_kernel_size": 3,
    "channels": 1,
    "size": (8, 8),
    "frames": 4,
    "timesteps": 40,
}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return stzoo.create("video-diffusion", device="cpu", **TINY)


@pytest.fixture(scope="module")
def knowing() -> Predictor:
    torch.manual_seed(0)
    return stzoo.create("video-diffusion", device="cpu", cond_dim=3, **TINY)


# --- the process ------------------------------------------------------------------------------------------------------


def test_the_process_is_the_reference_s(tmp_path: Path) -> None:
    tensors, state = Golden(GOLDENS / "unet3d-diffusion-T50").tensors, Golden(GOLDENS / "unet3d-A-dim16").state
    inside = {f"denoise_fn.{key}": value for key, value in state.items() if not key.endswith("freqs")}
    inside |= {key.removeprefix("output_buf_"): value for key, value in tensors.items() if "_buf_" in key}
    torch.save({"step": 1, "model": inside}, tmp_path / "model-1.pt")
    predictor = stzoo.import_checkpoint(tmp_path / "model-1.pt", device="cpu", frames=4, size=(16, 16))
    assert predictor.config["timesteps"] == 50
    torch.testing.assert_close(torch.from_numpy(diffusion.cosine_betas(50)).float(), tensors["output_buf_betas"])
    kept = diffusion.kept_signal(50).float()
    torch.testing.assert_close(kept, tensors["output_buf_alphas_cumprod"], rtol=1e-6, atol=0)
    network, noise, time = cast(VideoDiffusion, predictor.module), tensors["input_noise"], tensors["input_t"]
    clips = tensors["input_x0"] * 2 - 1
    with torch.inference_mode():
        x = diffusion.noised(clips, time, noise, 50)
        torch.testing.assert_close(x, tensors["output_q_sample"], rtol=1e-4, atol=1e-5)
        told = network(x, time)
    torch.testing.assert_close((told - noise).abs().mean()[None], tensors["output_loss_l1"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((told - noise).square().mean()[None], tensors["output_loss_l2"], rtol=1e-4, atol=1e-5)
    for threshold, name in ((None, "output_p_mean_static"), (0.9, "output_p_mean_dynamic")):
        ddpm, ddim = (diffusion.scheduler(50, kind, threshold) for kind in ("ddpm", "ddim"))  # type: ignore[arg-type]
        for made in (ddpm, ddim):
            made.set_timesteps(50)
            assert made.timesteps.tolist() == list(range(49, -1, -1))
        for place, t in enumerate(time.tolist()):
            one = told[place : place + 1], t, x[place : place + 1]
            expected, variance = tensors[name][place : place + 1], tensors["output_p_logvar"][place].exp()
            drawn = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3))
            found = ddpm.step(*one, generator=torch.Generator().manual_seed(3)).prev_sample
            torch.testing.assert_close(found, expected + variance.sqrt() * drawn, rtol=1e-4, atol=1e-5)
            found = ddim.step(*one, eta=1.0, use_clipped_model_output=True, variance_noise=torch.zeros_like(expected))
            torch.testing.assert_close(found.prev_sample, expected, rtol=1e-4, atol=1e-5)


def test_the_last_steps_are_noise_alone() -> None:
    kept = diffusion.kept_signal(1000)
    assert kept.dtype == torch.float64 and 0 < kept[-1] < 1e-8 and (kept[1:] < kept[:-1]).all()
    made = diffusion.scheduler(1000, "ddim")
    assert made.alphas_cumprod.dtype == torch.float64, "in float32 the last betas would have three digits"


class Oracle(VideoDiffusion):
    """It knows the clip, and so the noise."""

    clip: Tensor

    def forward(self, x: Tensor, time: Tensor, *args: Any, **keywords: Any) -> Tensor:
        kept = diffusion.kept_signal(self.timesteps)[time].view(-1, 1, 1, 1, 1).float()
        return (x - kept.sqrt() * self.clip) / (1 - kept).sqrt()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_who_knows_the_noise_finds_the_clip(sampler: diffusion.Sampler, steps: int) -> None:
    network = Oracle(**TINY)
    network.clip = torch.rand(1, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    found = network.sample([0], sampler=sampler, steps=steps)
    torch.testing.assert_close(found, (network.clip + 1) / 2, rtol=0, atol=2e-3)
    start = torch.rand(1, 1, 4, 8, 8)
    again = network.sample([0], sampler=sampler, steps=1, start=start, strength=0.5)
    torch.testing.assert_close(again, (network.clip + 1) / 2, rtol=0, atol=2e-3)


# --- predicting -------------------------------------------------------------------------------------------------------


def test_clips_out_of_nothing(predictor: Predictor, tmp_path: Path) -> None:
    first, second = predictor.predict(steps=3, seed=1), predictor.predict(steps=3, seed=2)
    assert first.video.shape == (4, 1, 8, 8) and first.video.min() >= 0 and first.video.max() <= 1
    assert not np.allclose(first.video, second.video)
    torch.manual_seed(99)
    np.testing.assert_array_equal(predictor.predict(steps=3, seed=1).video, first.video)
    np.testing.assert_allclose(
        predictor.predict(steps=3, seed=1, sampler="ddpm").video,
        predictor.predict(steps=3, seed=1, sampler="ddpm").video,
    )
    assert predictor.predict(steps=2, frames=19).video.shape == (19, 1, 8, 8)
    assert first.save(tmp_path / "clip.gif").stat().st_size and min(first.figure().size) > 0


def test_a_clip_does_not_depend_on_its_batch(predictor: Predictor) -> None:
    network = cast(VideoDiffusion, predictor.module)
    for sampler in ("ddim", "ddpm"):
        together = network.sample([5, 6], steps=3, sampler=sampler)  # type: ignore[arg-type]
        alone = network.sample([6], steps=3, sampler=sampler)  # type: ignore[arg-type]
        torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)
    batch = list(predictor.predict_batch([(), ()], steps=2))
    np.testing.assert_allclose(batch[0].video, batch[1].video, atol=1e-6)


def test_a_clip_to_start_from(predictor: Predictor) -> None:
    clip = np.zeros((4, 1, 16, 16), np.float32)
    clip[..., 4:12, 4:12] = 1
    near, far = (predictor.predict(clip, steps=2, strength=strength).video for strength in (0.05, 0.9))
    small = diffusion.resized(clip, predictor.requirements)
    assert diffusion.scheduler(40, "ddim", first=32).alphas_cumprod[-1] == diffusion.kept_signal(40)[31]
    assert near.shape == (4, 1, 8, 8) and small[0, 0].tolist() == clip[0, 0, ::2, ::2].tolist()
    assert np.abs(near - small).mean() < 0.1 < np.abs(far - small).mean()
    inputs, truth = predictor.pipeline.example({"video": clip, "label": None}, {})
    np.testing.assert_array_equal(inputs["start"], truth["video"])
    assert diffusion.squared_error(diffusion.flat(inputs, truth)["video"], truth["video"]) == pytest.approx(small.var())


def test_labels_and_guidance(knowing: Predictor) -> None:
    plain, one = knowing.predict(steps=3).video, knowing.predict(steps=3, label=1).video
    strong = knowing.predict(steps=3, label=1, guidance=4).video
    assert not np.allclose(plain, one, atol=1e-4) and not np.allclose(one, strong, atol=1e-4)
    network = cast(VideoDiffusion, knowing.module)
    cond = diffusion.one_hot([1], 3)
    torch.testing.assert_close(network.sample([0], steps=3, cond=cond)[0].transpose(0, 1), torch.from_numpy(one))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1 must be a whole number of at least 1"),
        ({"steps": 41}, "steps=41 .* there are 40 to take"),
        ({"sampler": "euler"}, "must be one of 'ddim', 'ddpm'"),
        ({"guidance": 2}, "guidance=2 without a condition"),
        ({"label": 1}, "a label for a model that knows none"),
        ({"threshold": 0}, "must be a number from 0.01 to 1"),
        ({"frames": 0}, "must be a whole number from 1"),
        ({"seed": "x"}, "must be a whole number of at least 0"),
        ({"strength": 0}, "strength=0 must be"),
    ],
)
def test_options_that_are_refused(predictor: Predictor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(**options)


def test_inputs_that_are_refused(predictor: Predictor, knowing: Predictor) -> None:
    with pytest.raises(InputError, match="label=3, this model knows 3 labels"):
        knowing.predict(label=3, steps=1)
    with pytest.raises(InputError, match="guidance=3 without a condition"):
        knowing.predict(guidance=3, steps=1)
    with pytest.raises(InputError, match="1 frames, the model needs 4"):
        predictor.predict(np.zeros((1, 1, 8, 8), np.float32))
    with pytest.raises(InputError, match="there are 20 to take at this strength"):
        predictor.predict(np.zeros((4, 1, 8, 8), np.float32), steps=30)
    with pytest.raises(InputError, match="2 inputs, task 'video-generation' takes 1"):
        predictor.predict(None, None)
    with pytest.raises(ConfigError, match="size=9x8 pixels: both must be multiples of 4"):
        VideoDiffusion(8, size=(8, 9), patch=2, dim_mults=(1, 2))


def test_without_the_schedulers_library(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.schedulers.scheduling_ddim", None)
    with pytest.raises(DependencyMissing, match="pip install diffusers"):
        predictor.predict(steps=1)


def test_blocks_of_pixels() -> None:
    torch.manual_seed(0)
    network = VideoDiffusion(**TINY | {"patch": 2, "size": (16, 16)}).eval()
    assert network.init_conv.weight.shape[1] == 4 and network.requirements.multiple == 4
    clip = torch.randn(2, 1, 3, 16, 8)
    assert network(clip, torch.tensor([1, 2])).shape == clip.shape
    with pytest.raises(InputError, match="a multiple of 2 pixels"):
        network(clip[..., :7], torch.tensor([1, 2]))


# --- training ---------------------------------------------------------------------------------------------------------


def test_it_learns_to_tell_noise(predictor: Predictor) -> None:
    torch.manual_seed(0)
    network = VideoDiffusion(**TINY)
    recipe = DiffusionRecipe(lr=5e-3, loss="l2")
    batch = recipe.sample_batch(network)
    [(optimizer, _)] = recipe.optimizers(network, 60)
    losses = []
    for step in range(60):
        torch.manual_seed(step)
        (loss,) = recipe.losses(network, batch, step).values()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_what_is_drawn_follows_from_the_seed(predictor: Predictor) -> None:
    recipe = DiffusionRecipe(prob_focus_present=0.5)
    network = cast(VideoDiffusion, predictor.module)
    batch, found = recipe.sample_batch(network), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(recipe.losses(network, batch, 0)["l1"].item())
    assert found[0] == found[1] != found[2]


def test_labels_are_learnt(knowing: Predictor) -> None:
    recipe = DiffusionRecipe(null_cond_prob=0.0)
    network = cast(VideoDiffusion, knowing.module)
    batch = recipe.sample_batch(network)
    torch.manual_seed(0)
    one = recipe.losses(network, batch, 0)["l1"].item()
    torch.manual_seed(0)
    other = recipe.losses(network, batch | {"label": torch.tensor([1, 2])}, 0)["l1"].item()
    assert one != other
    for wrong in ({"video": batch["video"]}, batch | {"label": torch.tensor([0, 3])}):
        with pytest.raises(DatasetError, match="labels from 0 to 2"):
            recipe.losses(network, wrong, 0)
    row = {"video": np.zeros((4, 1, 16, 16), np.float32), "label": 2}
    sample = recipe.sample(row, knowing.requirements, np.random.default_rng(0))
    assert sample["video"].shape == (4, 1, 8, 8) and sample["label"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "huber"}, "loss must be 'l1' or 'l2'"),
        ({"schedule": "step"}, "schedule must be"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"prob_focus_present": 1.5}, "prob_focus_present must be from 0 to 1"),
    ],
)
def test_recipes_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiffusionRecipe(**options)


def test_the_task_needs_no_input(predictor: Predictor) -> None:
    assert predictor.task.sample(predictor.requirements) == ()
    assert [item.optional for item in predictor.task.inputs] == [True] and isinstance(predictor.task.inputs[0], Video)
    assert set(predictor.fingerprint()) == {"video"}
