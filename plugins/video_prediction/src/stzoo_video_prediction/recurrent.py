"""What ConvLSTM and PredRNN share: frames cut into patches, the loop over time, scheduled sampling, their checkpoints.

Official code: https://github.com/chengtan9907/OpenSTL (Apache-2.0). Scheduled sampling: Bengio et al., NeurIPS 2015
(arXiv:1506.03099).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import gcd, isqrt
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.formats import check_tensors
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.repeated import Repeated

if TYPE_CHECKING:
    from stzoo.requirements import Requirements


# --- patches ----------------------------------------------------------------------------------------------------------


def to_patches(frames: Tensor, size: int) -> Tensor:
    """(B,T,C,H,W) to (T,B,size*size*C,H/size,W/size): a patch's pixels become channels, by row, column, channel."""
    batch, time, channels, height, width = frames.shape
    x = frames.reshape(batch, time, channels, height // size, size, width // size, size)
    return x.permute(1, 0, 4, 6, 2, 3, 5).reshape(time, batch, -1, height // size, width // size)


def from_patches(patches: Tensor, size: int) -> Tensor:
    """The inverse of `to_patches`."""
    time, batch, channels, height, width = patches.shape
    x = patches.reshape(time, batch, size, size, channels // size**2, height, width)
    return x.permute(1, 0, 4, 5, 2, 6, 3).reshape(batch, time, channels // size**2, height * size, width * size)


# --- cells ------------------------------------------------------------------------------------------------------------


def convolution(in_channels: int, out_channels: int, filter_size: int, norm: tuple[int, int] | None) -> nn.Sequential:
    """A convolution without bias that keeps the size; with ``norm``, the size, a LayerNorm over the whole map."""
    conv = nn.Conv2d(in_channels, out_channels, filter_size, padding=filter_size // 2, bias=False)
    return nn.Sequential(conv) if norm is None else nn.Sequential(conv, nn.LayerNorm((out_channels, *norm)))


Convolutions = dict[str, Repeated]
"""Those of one layer, by the names they have in its cell."""

# --- network ----------------------------------------------------------------------------------------------------------


class RecurrentPredictor(nn.Module):
    """Base of the recurrent networks: frames in, every next frame out, each fed back once the given ones are used up.

    Arguments, and what is raised, are those of `ConvLSTM`. ``make_cell`` makes a layer of input channels, hidden channels,
    filter_size and, with ``layer_norm``, the size of its maps. Subclasses say how time passes in the layers.
    """

    def __init__(
        self,
        make_cell: Callable[[int, int, int, tuple[int, int] | None], nn.Module],
        in_shape: tuple[int, int, int, int],
        frames_out: int,
        patch_size: int,
        num_hidden: tuple[int, ...],
        filter_size: int,
        layer_norm: bool,
    ) -> None:
        if len(in_shape) != 4 or min(in_shape) < 1:
            raise ConfigError(f"in_shape must be four positive numbers (T, C, H, W), got {in_shape}")
        _, channels, height, width = in_shape
        for wrong, problem in (
            (frames_out < 1, f"frames_out must be at least 1, got {frames_out}"),
            (patch_size < 1, f"patch_size must be at least 1 pixel, got {patch_size}"),
            (
                not num_hidden or any(type(hidden) is not int or hidden < 1 for hidden in num_hidden),
                f"num_hidden must be positive whole numbers, one for each layer, got {num_hidden}",
            ),
            (filter_size % 2 != 1, f"filter_size must be odd, got {filter_size}"),
            (
                height % max(patch_size, 1) or width % max(patch_size, 1),
                f"the size in in_shape must be a multiple of patch_size = {patch_size}, got {height}x{width}",
            ),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.in_shape, self.frames_out, self.patch_size, self.layer_norm = in_shape, frames_out, patch_size, layer_norm
        size = (height // patch_size, width // patch_size) if layer_norm else None
        inputs = (patch_size**2 * channels, *num_hidden)
        layers = zip(inputs, num_hidden, strict=False)
        self.cell_list = nn.ModuleList(make_cell(*layer, filter_size, size) for layer in layers)
        self.conv_last = nn.Conv2d(num_hidden[-1], inputs[0], 1, bias=False)

    def convolutions(self, x: Tensor) -> list[Convolutions]:
        """Those of each layer by name, for one sequence of maps of the size of x."""
        return [{name: Repeated(layer, x) for name, layer in cell.named_children()} for cell in self.cell_list]

    def encode(self, x: Tensor, layers: list[Convolutions]) -> tuple[Tensor, Any]:
        """Patches of the given frames (T,B,...) to the top layer's hidden states (T*B,hidden,h,w) and the state after them."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Any, layers: list[Convolutions]) -> tuple[Tensor, Any]:
        """Patches of one frame (B,...) and the state to the top layer's hidden state (B,hidden,h,w) and the next state."""
        raise NotImplementedError

    @property
    def multiple(self) -> int:
        """Height and width are multiples of this."""
        return gcd(*self.in_shape[2:]) if self.layer_norm else self.patch_size

    @property
    def requirements(self) -> Requirements:
        """Frames it was made for (it takes any number from 1), its channels and sizes."""
        from stzoo.requirements import Requirements

        frames, channels, height, width = self.in_shape
        return Requirements(frames, self.frames_out, channels, self.multiple, self.multiple, (height, width))

    def forward(self, frames: Tensor) -> Tensor:
        """Predict the next ``frames_out`` frames.

        Args:
            frames: (B,T,C,H,W), any T from 1, values in [0,1], H and W multiples of ``patch_size`` (with ``layer_norm``
                those of ``in_shape``).

        Returns:
            (B,frames_out,C,H,W), not clipped to [0,1].

        Raises:
            InputError: frames, channels or size do not fit.
        """
        return self.rollout(frames, self.frames_out)

    def rollout(self, frames: Tensor, horizon: int) -> Tensor:
        """`forward` to another horizon, at least 1: (B,horizon,C,H,W)."""
        return self.unroll(frames, horizon)[:, frames.shape[1] - 1 :]

    def unroll(self, frames: Tensor, horizon: int, truth: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """All that the network says about the next frame, from the second given one on.

        Args:
            frames: as in `forward`.
            horizon: frames to predict, at least 1.
            truth: (B,horizon,C,H,W), the frames that really follow; with ``mask``.
            mask: (B,horizon-1) of bool: where it is true the network is next shown the true frame, not its prediction.

        Returns:
            (B,T-1+horizon,C,H,W).

        Raises:
            InputError: as `forward`, or ``horizon`` is below 1.
        """
        self._check(frames, horizon)
        size, (batch, given) = self.patch_size, frames.shape[:2]
        patches = to_patches(frames, size)
        layers = self.convolutions(patches[0])
        top, state = self.encode(patches, layers)
        predicted = self.conv_last(top)
        outputs, x = [predicted], predicted[-batch:]
        true = to_patches(truth, size) if truth is not None and mask is not None else None
        for i in range(horizon - 1):
            if true is not None and mask is not None:
                x = torch.where(mask[:, i, None, None, None], true[i].to(x.dtype), x)
            top, state = self.step(x, state, layers)
            x = self.conv_last(top)
            outputs.append(x)
        patches = torch.cat(outputs).unflatten(0, (given - 1 + horizon, batch))
        return from_patches(patches, size)

    def _check(self, frames: Tensor, horizon: int) -> None:
        _, channels, *native = self.in_shape
        if horizon < 1:
            raise InputError(f"horizon must be at least 1 frame, got {horizon}")
        fits = frames.ndim == 5 and frames.shape[1] > 0 and frames.shape[2] == channels
        if self.layer_norm and not (fits and list(frames.shape[3:]) == native):
            raise InputError(
                f"expected (batch, frames, {channels} channels, {native[0]}, {native[1]}): layer_norm ties the network "
                f"to that size; got {tuple(frames.shape)}"
            )
        if not fits or any(side % self.patch_size or not side for side in frames.shape[3:]):
            raise InputError(
                f"expected (batch, frames, {channels} channels, height, width) with height and width multiples of "
                f"{self.patch_size}, got {tuple(frames.shape)}"
            )


# --- recipe -----------------------------------------------------------------------------------------------------------


class ScheduledSamplingRecipe(VideoPredictionRecipe):
    """Mean squared error of every next frame, given ones included, while true frames are fed in less and less often.

    After the given frames each clip is at each step shown the true frame with a probability that falls linearly to 0, and
    otherwise the network's own prediction. Officially it falls by 2e-5 a step from 1, so for 50,000 steps.

    Args:
        sampling_start: the probability before the first step, at most 1; 0: the network always sees its predictions.
        sampling_steps: optimizer steps until it is 0.
        sampling_share: if not 0, the part of the whole run until it is 0, instead of ``sampling_steps``; for short runs.
        lr, schedule, warmup, crop, flip: as in `VideoPredictionRecipe`.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        lr: float = 5e-4,
        schedule: str = "onecycle",
        warmup: float = 0.0,
        crop: int = 0,
        flip: bool = False,
        sampling_start: float = 1.0,
        sampling_steps: int = 50_000,
        sampling_share: float = 0.0,
    ) -> None:
        super().__init__(lr, schedule, warmup, crop, flip)
        if not (0 <= sampling_start <= 1 and sampling_steps >= 1 and 0 <= sampling_share <= 1):
            raise ConfigError(
                "sampling_start and sampling_share must be from 0 to 1 and sampling_steps at least 1, got "
                f"{sampling_start}, {sampling_share} and {sampling_steps}"
            )
        self.sampling_start, self.sampling_steps, self.sampling_share = sampling_start, sampling_steps, sampling_share

    def optimizers(
        self, module: nn.Module, total_steps: int
    ) -> list[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]]:
        if self.sampling_share:
            self.sampling_steps = max(1, round(self.sampling_share * total_steps))
        return super().optimizers(module, total_steps)

    def probability(self, step: int) -> float:
        """How likely a clip is shown the true frame at this optimizer step, counted from 0 (as officially, not quite 1)."""
        return self.sampling_start * max(0.0, 1 - (step + 1) / self.sampling_steps)

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"mse"}`` of all outputs from ``batch["frames"]`` (B,T,C,H,W) on to the end of ``batch["target"]`` (B,T_out,C,H,W)."""
        frames, target = batch["frames"], batch["target"]
        probability, horizon, mask = self.probability(step), target.shape[1], None
        if probability > 0 and horizon > 1:
            mask = torch.rand(len(frames), horizon - 1, device=frames.device) < probability
        outputs = module.unroll(frames, horizon, target, mask)  # type: ignore[operator]
        return {"mse": F.mse_loss(outputs, torch.cat((frames[:, 1:], target), dim=1))}

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two clips of noise, 4 x 4 patches (with ``layer_norm``: of its size), with as many frames to predict as given."""
        batch = super().sample_batch(module)
        if module.layer_norm:
            height, width = module.in_shape[2:]  # type: ignore[index]
            return {
                key: F.interpolate(value.flatten(0, 1), (height, width)).unflatten(0, value.shape[:2])
                for key, value in batch.items()
            }
        return batch


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class OpenSTLRecurrent:
    """State dicts of OpenSTL's recurrent networks, whose names are stzoo's."""

    name: str
    description: str
    build: ClassVar[type[RecurrentPredictor]]
    gates: ClassVar[int]
    """Parts of the convolution of a cell's input."""
    unused = re.compile(r"(?!)")
    """Tensors that the official networks have and never use; they are left out."""

    def claims(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the names are this network's."""
        raise NotImplementedError

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration as far as tensors tell; None if the state dict is of another architecture.

        Raises:
            FormatError: it is this architecture's, but incomplete or modified.
        """
        if not self.claims(state):
            return None
        first = [state.get(f"cell_list.{i}.conv_x.0.weight") for i in range(len(state))]
        kernels = [weight for weight in first if weight is not None]
        if any(weight.ndim != 4 or weight.shape[0] % self.gates for weight in kernels):
            raise FormatError(f"this looks like an {self.description} checkpoint, but a cell's conv_x is malformed")
        patch, filter_size = kernels[0].shape[1], kernels[0].shape[-1]
        # The size of a patch and the channels are only known as a product: the largest square is taken out of it.
        patch_size = max(side for side in range(1, isqrt(patch) + 1) if patch % side**2 == 0)
        norm = state.get("cell_list.0.conv_x.1.weight")
        height, width = (patch_size * side for side in norm.shape[-2:]) if norm is not None else (64, 64)
        if norm is None and 64 % patch_size:
            height = width = 16 * patch_size
        config = {
            "in_shape": (10, patch // patch_size**2, height, width),
            "frames_out": 10,
            "patch_size": patch_size,
            "num_hidden": tuple(weight.shape[0] // self.gates for weight in kernels),
            "filter_size": filter_size,
            "layer_norm": norm is not None,
        }
        check_tensors(self.convert(state, config), lambda: self.build(**config), self.description)
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors that are used, as they are."""
        return {key: value for key, value in state.items() if not self.unused.fullmatch(key)}

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed; each begins with the key to state it by."""
        frames, channels, height, width = config["in_shape"]
        size = "" if config["layer_norm"] else f" and {height}x{width} pixels"
        return (
            f"patch_size: the tensors only tell patch_size * patch_size * channels; {config['patch_size']} with {channels} "
            "channel(s) is assumed. If that is wrong, state in_shape too.",
            f"in_shape: {frames} given frames{size} are assumed; it takes any number of frames"
            + (" of its size." if config["layer_norm"] else f", and any multiple of {config['patch_size']} pixels."),
            f"frames_out: {config['frames_out']} frames to predict are assumed; any other horizon can be asked for.",
            "The training data and its scaling are not in the tensors; frames in [0, 1] are assumed.",
        )


# --- published settings -----------------------------------------------------------------------------------------------

SETTINGS: dict[str, tuple[dict[str, Any], int]] = {
    data: ({"in_shape": in_shape, "frames_out": frames_out, "patch_size": patch_size}, epochs)
    for data, in_shape, frames_out, patch_size, epochs in (
        ("mmnist", (10, 1, 64, 64), 10, 4, 200),
        ("mfmnist", (10, 1, 64, 64), 10, 4, 200),
        ("mmnist-cifar", (10, 3, 64, 64), 10, 4, 200),
        ("taxibj", (4, 2, 32, 32), 4, 2, 50),
        ("kth", (10, 1, 128, 128), 20, 2, 100),
        ("human", (4, 3, 256, 256), 4, 4, 50),
        ("kitticaltech", (10, 3, 128, 160), 1, 2, 100),
        ("weather-t2m", (12, 1, 32, 64), 12, 2, 50),
        ("weather-r", (12, 1, 32, 64), 12, 2, 50),
        ("weather-uv10", (12, 2, 32, 64), 12, 2, 50),
        ("weather-tcc", (12, 1, 32, 64), 12, 2, 50),
    )
}
"""Part of the config and epochs, by data set, of all recurrent networks in OpenSTL's model zoo."""
