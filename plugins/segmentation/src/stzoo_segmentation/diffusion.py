"""Video diffusion: clips out of noise, by a space-time U-Net that tells the noise in a clip.

Papers: Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (arXiv:2006.11239); Nichol and Dhariwal, ICML 2021
(arXiv:2102.09672; the cosine schedule); Ho et al., "Video Diffusion Models", 2022 (arXiv:2204.03458). Names and numbers are
those of https://github.com/lucidrains/video-diffusion-pytorch (MIT; 0.7.0), whose sampler is the one called "ddpm" here.

The schedulers are those of the package `diffusers`, told the schedule in float64: in float32, as they have it, the last
betas of the cosine are known to three digits only, and their quotients with them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Pipeline, Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError, DependencyMissing, InputError
from stzoo.predictor import tensor_of
from stzoo.recipe import lr_schedule
from stzoo_segmentation.stunet import Unet3D

Sampler = Literal["ddim", "ddpm"]
OFFSET, LARGEST_BETA = 0.008, 0.9999
"""Of the cosine schedule."""
STEPS = 25
"""Passes through the network, unless others are asked for."""


def cosine_betas(timesteps: int) -> NDArray[np.float64]:
    """How much noise each step adds, (timesteps,): the cosine schedule (arXiv:2102.09672, equation 17)."""
    places = np.linspace(0, timesteps, timesteps + 1) / timesteps
    kept = np.cos((places + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    betas: NDArray[np.float64] = np.clip(1 - kept[1:] / kept[:-1], 0, LARGEST_BETA)
    return betas


def kept_signal(timesteps: int) -> Tensor:
    """The share of a clip's variance that is left after each step, (timesteps,) float64: the products of 1 - beta."""
    return torch.from_numpy(np.cumprod(1 - cosine_betas(timesteps)))


def noised(clips: Tensor, time: Tensor, noise: Tensor, timesteps: int) -> Tensor:
    """Clips (B,...) in -1 to 1 after so many steps, ``time`` (B,) from 0: q(x_t | x_0) with this noise."""
    kept = kept_signal(timesteps).to(time.device)[time].view(-1, *[1] * (clips.ndim - 1))
    return kept.sqrt().to(clips.dtype) * clips + (1 - kept).sqrt().to(clips.dtype) * noise


def scheduler(timesteps: int, sampler: Sampler, threshold: float | None = None, first: int | None = None) -> Any:
    """The sampler's scheduler of `diffusers`: noise is predicted, what it leaves is brought into -1 to 1.

    Args:
        timesteps: of the training.
        sampler: "ddpm" (variance of the posterior) or "ddim" (arXiv:2010.02502).
        threshold: instead of clipping, values are divided by this quantile of their magnitudes where it is above 1 (dynamic
            thresholding, arXiv:2205.11487).
        first: how many of the timesteps there are to take back; default: all.

    Raises:
        DependencyMissing: `diffusers` is not installed.
    """
    try:
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    except ImportError:
        raise DependencyMissing("sampling needs the package diffusers", "Run: pip install diffusers") from None
    shared = {
        "num_train_timesteps": first or timesteps,
        "trained_betas": cosine_betas(timesteps)[:first].tolist(),
        "thresholding": threshold is not None,
        "dynamic_thresholding_ratio": threshold or 1.0,
        "sample_max_value": math.inf,
        "timestep_spacing": "trailing",
    }
    made = DDPMScheduler(**shared) if sampler == "ddpm" else DDIMScheduler(**shared)
    made.alphas_cumprod = kept_signal(timesteps)[:first]
    return made


class VideoDiffusion(Unet3D):
    """A denoiser of clips with the process it was made for.

    Args:
        timesteps: steps from a clip to noise.
        frames: of the clips it was made for.
        size: their height and width in pixels.
        channels: of the clips, in front of ``patch``.
        patch: height and width of the blocks of pixels that become channels of the network; 1: none, as published.
        network: the other arguments of :class:`Unet3D`.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        dim: int = 32,
        *,
        timesteps: int = 1000,
        frames: int = 16,
        size: tuple[int, int] = (32, 32),
        channels: int = 3,
        patch: int = 1,
        **network: Any,
    ) -> None:
        if timesteps < 1 or frames < 1 or patch < 1:
            raise ConfigError(f"timesteps, frames and patch must be at least 1, got {timesteps}, {frames} and {patch}")
        super().__init__(dim, channels=channels * patch**2, **network)
        self.timesteps, self.frames, self.size, self.patch = timesteps, frames, tuple(size), patch
        self.pictures = channels
        if any(side % (patch * self.multiple) for side in size):
            raise ConfigError(
                f"size={size[1]}x{size[0]} pixels: both must be multiples of {patch * self.multiple}, "
                "which patch and the levels of dim_mults ask for"
            )

    @property
    def requirements(self) -> Requirements:
        """Clips as long and large as those it was made for."""
        return Requirements(
            frames_in=self.frames,
            frames_out=self.frames,
            channels=self.pictures,
            multiple=self.patch * self.multiple,
            native_size=cast(tuple[int, int], self.size),
        )

    def forward(self, x: Tensor, time: Tensor, *args: Any, **keywords: Any) -> Tensor:
        """As :meth:`Unet3D.forward`: (B,C,T,H,W) to the noise in it, of the same shape."""
        if self.patch == 1:
            return super().forward(x, time, *args, **keywords)
        if x.ndim != 5 or any(side % self.patch for side in x.shape[-2:]):
            raise InputError(f"expected clips of a multiple of {self.patch} pixels, got {tuple(x.shape)}")
        parts = F.pixel_unshuffle(x.transpose(1, 2), self.patch).transpose(1, 2)
        found = super().forward(parts, time, *args, **keywords)
        return F.pixel_shuffle(found.transpose(1, 2), self.patch).transpose(1, 2)

    @torch.no_grad()
    def sample(
        self,
        seeds: Sequence[int],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        sampler: Sampler = "ddim",
        steps: int | None = None,
        guidance: float = 1.0,
        cond: Tensor | None = None,
        threshold: float | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Clips out of noise. The same seed gives the same clip, whatever else is in the batch; noise is drawn on the CPU.

        Args:
            seeds: one for each clip.
            frames, size: default: those it was made for.
            steps: passes through the network; default: :data:`STEPS`, or as many as there are.
            guidance: how many times what the condition changes counts; 1: once, without a second pass.
            cond: (B,cond_dim), where the network has conditions; without one it makes clips of no certain condition.
            threshold: see :func:`scheduler`.
            start: clips (B,C,T,H,W) in [0,1], to which noise is added and taken away again (SDEdit, arXiv:2108.01073).
            strength: how far back in time, as a part of it all.

        Returns:
            (B,C,T,H,W) in [0,1], float32, on the network's device.

        Raises:
            InputError: more steps than there are, guidance without a condition, or a condition that does not fit.
            DependencyMissing: `diffusers` is not installed.
        """
        place, drawn = tensor_of(self), [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        back = max(1, round(self.timesteps * strength)) if start is not None else self.timesteps
        steps = steps or min(STEPS, back)
        if not 1 <= steps <= back:
            raise InputError(
                f"steps={steps} of the sampler, and there are {back} to take{' at this strength' * (start is not None)}",
                f"Give 1 to {back}",
            )
        if guidance != 1 and cond is None:
            raise InputError(
                f"guidance={guidance:g} without a condition to be guided by",
                "Give a label" if self.has_cond else "Leave the guidance out: this model knows no conditions",
            )
        if cond is not None and not self.has_cond:
            raise InputError("a condition for a model that knows none", "Leave it out")
        if self.has_cond:
            keywords = {"cond": torch.zeros(len(seeds), cast(int, self.cond_dim)) if cond is None else cond}
            keywords = {"cond": keywords["cond"].to(place.device, place.dtype)}
        else:
            keywords = {}
        made = scheduler(self.timesteps, sampler, threshold, back)
        made.set_timesteps(steps)
        times = made.timesteps
        shape = (self.pictures, frames or self.frames, *(size or self.size)) if start is None else start.shape[1:]
        clips = torch.stack([torch.randn(shape, generator=one) for one in drawn]).to(place.device)
        if start is not None:
            first = times[:1].expand(len(seeds)).to(place.device)
            clips = noised(start.to(clips) * 2 - 1, first, clips, self.timesteps)
        step = {"use_clipped_model_output": True} if sampler == "ddim" else {"generator": drawn}
        for time in times:
            inputs = clips.to(place.dtype), time.expand(len(seeds)).to(place.device)
            if self.has_cond and cond is None:
                noise = self(*inputs, null_cond_prob=1.0, **keywords)
            else:
                noise = self.forward_with_cond_scale(*inputs, cond_scale=guidance, **keywords)
            done = made.step(noise.float(), int(time), clips, **step)
            clips = done.prev_sample
        # where steps do not divide timesteps, the sample of the library's last step still has some noise
        return done.pred_original_sample.add(1).div(2).clamp(0, 1)  # type: ignore[no-any-return]


# --- predicting and measuring -----------------------------------------------------------------------------------------


class Generation(Pipeline):
    """Clips out of noise: nothing goes in, or a clip to start from."""

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A clip of a data set is made as large as the model's, noised, and compared with what becomes of it."""
        clip = resized(row["video"], self.requirements)
        return {"start": clip}, {"video": clip}

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The clip to start from, as large as the model's; otherwise an empty array for each clip that is to be made."""
        if "start" not in values:
            return {"none": np.empty(0, np.float32)}
        return {"start": resized(values["start"], self.requirements)}

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """As many clips (T,C,H,W) as the batch has items. Each gets its noise from the seed, and from the clip it starts from.

        Raises:
            InputError: what :meth:`VideoDiffusion.sample` raises, or a label that the model does not know.
        """
        network, start = cast(VideoDiffusion, module), batch.get("start")
        count = len(next(iter(batch.values())))
        if start is None:
            seeds = [options["seed"]] * count
        else:
            seeds = [zlib.crc32(clip.float().cpu().numpy().tobytes(), options["seed"] % 2**32) for clip in start]
        cond = self.condition(network, options["label"], count)
        names = ("frames", "steps", "sampler", "guidance", "threshold", "strength")
        made = [  # one by one: how a batch is rounded would grow from step to step
            network.sample(
                seeds[place : place + 1],
                cond=None if cond is None else cond[place : place + 1],
                start=None if start is None else start[place : place + 1].transpose(1, 2),
                **{name: options[name] for name in names},
            )
            for place in range(count)
        ]
        return {"video": torch.cat(made).transpose(1, 2)}

    @staticmethod
    def condition(network: VideoDiffusion, label: int | None, count: int) -> Tensor | None:
        """One of ``cond_dim`` labels as so many numbers, (count, cond_dim). Raises InputError."""
        if label is None:
            return None
        known = network.cond_dim or 0
        if not label < known:
            raise InputError(
                f"label={label}, this model knows {known} labels" if known else "a label for a model that knows none",
                f"Give 0 to {known - 1}" if known else "Leave it out",
            )
        return one_hot([label] * count, known)


def one_hot(labels: Sequence[int], known: int) -> Tensor:
    """Labels as conditions, (len(labels), known)."""
    return F.one_hot(torch.tensor(labels), known).float()


def resized(clip: NDArray[np.float32], needs: Requirements) -> NDArray[np.float32]:
    """A clip (T,C,H,W) of the height and width a model was made for, each pixel the mean of what it covers."""
    if needs.native_size in (None, clip.shape[-2:]):
        return clip
    found = F.interpolate(torch.from_numpy(np.ascontiguousarray(clip)), needs.native_size, mode="area")
    return found.numpy()


def squared_error(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """The mean squared difference of two clips with values in [0,1]."""
    return float(np.mean((prediction.astype(np.float64) - target) ** 2))


def flat(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline: every pixel is as bright as the whole clip is on the average."""
    clip = truth["video"]
    return {"video": np.full_like(clip, clip.mean())}


# --- training ---------------------------------------------------------------------------------------------------------


class DiffusionRecipe(Recipe):
    """The noise of clips that were noised at random times is to be told (arXiv:2006.11239, algorithm 1).

    Times and noise are drawn from torch's generator, which the loop seeds anew at every step: a resumed run draws the same.

    Args:
        lr: the highest learning rate, of Adam (betas 0.9 and 0.99).
        loss: "l1" or "l2".
        schedule: "constant", or "cosine" to nothing.
        warmup: share of the steps in which the rate first rises linearly.
        null_cond_prob: share of the clips that are learnt without their label, for guidance.
        prob_focus_present: share of the clips that are learnt as single pictures (joint training, arXiv:2204.03458).

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    def __init__(
        self,
        lr: float = 1e-4,
        loss: str = "l1",
        schedule: str = "constant",
        warmup: float = 0.0,
        null_cond_prob: float = 0.1,
        prob_focus_present: float = 0.0,
    ) -> None:
        for name, value, known in (("loss", loss, ("l1", "l2")), ("schedule", schedule, ("constant", "cosine"))):
            if value not in known:
                raise ConfigError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
        shares = {"null_cond_prob": null_cond_prob, "prob_focus_present": prob_focus_present}
        if wrong := [name for name, value in shares.items() if not 0 <= value <= 1]:
            raise ConfigError(f"{wrong[0]} must be from 0 to 1, got {shares[wrong[0]]}")
        if lr <= 0 or not 0 <= warmup < 1:
            raise ConfigError(f"lr must be positive, and warmup at least 0 and below 1, got {lr} and {warmup}")
        self.lr, self.loss, self.schedule, self.warmup = lr, loss, schedule, warmup
        self.null_cond_prob, self.prob_focus_present = null_cond_prob, prob_focus_present

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """``{"video"}``: (T,C,H,W) of the model's size; and ``{"label"}`` where the example has one."""
        label = item.get("label")
        found = {"video": np.ascontiguousarray(resized(item["video"], requirements))}
        return found | ({} if label is None else {"label": np.asarray(label)})

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The loss, under its name, of ``batch["video"]`` (B,T,C,H,W) in [0,1].

        Raises:
            DatasetError: the network has conditions, and the examples have no labels, or one that it does not know.
        """
        network = cast(VideoDiffusion, getattr(module, "module", module))
        clips = batch["video"].transpose(1, 2) * 2 - 1
        cond = None
        if network.has_cond:
            known = cast(int, network.cond_dim)
            if "label" not in batch or int(batch["label"].max()) >= known:
                raise DatasetError(
                    f"this model learns clips with labels from 0 to {known - 1}, and an example has none of these",
                    "Give data with a column label, or train a model with cond_dim=null",
                )
            cond = F.one_hot(batch["label"].long(), known).to(clips)
        time = torch.randint(network.timesteps, (len(clips),), device=clips.device)
        noise = torch.randn_like(clips)
        told = module(
            noised(clips, time, noise, network.timesteps),
            time,
            cond,
            null_cond_prob=self.null_cond_prob,
            prob_focus_present=self.prob_focus_present,
        )
        return {self.loss: F.l1_loss(told, noise) if self.loss == "l1" else F.mse_loss(told, noise)}

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """Adam and its schedule, to be stepped once per optimizer step."""
        chosen = torch.optim.Adam(self.groups(module, self.lr), lr=self.lr, betas=(0.9, 0.99), fused=True)
        return [(chosen, LambdaLR(chosen, lr_schedule(self.schedule, total_steps, self.warmup)))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two short clips of waves that move, and labels."""
        network = cast(VideoDiffusion, module)
        side = network.patch * network.multiple * 2
        x, time = torch.linspace(0, 6, side), torch.arange(3.0)
        waves = torch.sin(x[:, None] + x + time[:, None, None] * torch.tensor([0.5, 1.0]).view(2, 1, 1, 1))
        clips = (waves[:, :, None] / 2 + 0.5).expand(-1, -1, network.pictures, -1, -1)
        return {"video": clips, "label": torch.zeros(2, dtype=torch.int64)}
