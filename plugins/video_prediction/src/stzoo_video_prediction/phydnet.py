"""PhyDNet: physical dynamics apart from everything else.

Paper: Le Guen and Thome, "Disentangling Physical Dynamics from Unknown Factors for Unsupervised Video Prediction",
CVPR 2020 (arXiv:2003.01460).
Official code: https://github.com/vincent-leguen/PhyDNet (MIT), in its later version with separate encoders, and OpenSTL
(https://github.com/chengtan9907/OpenSTL, Apache-2.0), which runs it on other sizes. State-dict keys, configuration names
and numerics are kept.

Frame by frame, an encoder makes a latent picture; one branch (PhyCell) moves it on by a learned partial differential
equation and corrects it by what it sees, a second one (ConvLSTM) learns what is left. Both are decoded and added.

How it learns is in `phydnet_training`, what reads its checkpoints in `phydnet_checkpoints`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError

if TYPE_CHECKING:
    from stzoo.requirements import Requirements

GROUPS = 16
"""Groups of every GroupNorm in encoders and decoders."""

# --- encoders and decoders --------------------------------------------------------------------------------------------


class ConvBlock(nn.Module):
    """3x3 convolution (transposed where `up`), GroupNorm over 16 groups, LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, up: bool = False) -> None:
        super().__init__()
        conv = (
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride, padding=1, output_padding=stride - 1)
            if up
            else nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        )
        self.main = nn.Sequential(conv, nn.GroupNorm(GROUPS, out_channels), nn.LeakyReLU(0.2, inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class FrameEncoder(nn.Module):
    """(N,C,H,W) -> (N,2*nf,H/patch,W/patch)."""

    def __init__(self, channels: int, nf: int, patch_size: int) -> None:
        super().__init__()
        self.c1 = ConvBlock(channels, nf, 2)
        self.c2 = ConvBlock(nf, nf)
        self.c3 = ConvBlock(nf, 2 * nf, patch_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c3(self.c2(self.c1(x)))


class FrameDecoder(nn.Module):
    """The frame encoder mirrored: (N,2*nf,H/patch,W/patch) -> (N,C,H,W), before the sigmoid."""

    def __init__(self, channels: int, nf: int, patch_size: int) -> None:
        super().__init__()
        last = patch_size // 2
        self.upc1 = ConvBlock(2 * nf, nf, 2, up=True)
        self.upc2 = ConvBlock(nf, nf, up=True)
        self.upc3 = nn.ConvTranspose2d(nf, channels, 3, last, padding=1, output_padding=last - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.upc3(self.upc2(self.upc1(x)))


class BranchEncoder(nn.Module):
    """What one branch sees of the latent picture: same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c1, self.c2 = ConvBlock(dim, dim), ConvBlock(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x))


class BranchDecoder(nn.Module):
    """What one branch adds to the latent picture: same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.upc1, self.upc2 = ConvBlock(dim, dim, up=True), ConvBlock(dim, dim, up=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.upc2(self.upc1(x))


# --- the two branches -------------------------------------------------------------------------------------------------

Weights = tuple[Tensor, Tensor]
"""Of a `SplitConv`: for the input, for the state."""


class SplitConv(nn.Conv2d):
    """3x3 convolution over input and state, stacked as channels, that is computed as the sum of one over each.

    So the inputs that are known are convolved for all time steps at once, and an empty state is not convolved at all.
    """

    def __init__(self, in_channels: int, state_channels: int, out_channels: int) -> None:
        super().__init__(in_channels + state_channels, out_channels, 3, padding=1)
        self.apart = (in_channels, state_channels)

    def parts(self) -> Weights:
        """The weights for the input and those for the state; split once for a whole sequence."""
        weight, kind = self.weight, self.weight.device.type
        if torch.is_autocast_enabled(kind):  # it converts parameters once, but what is made of them at every use
            weight = weight.to(torch.get_autocast_dtype(kind))
        # CPU kernels are faster on channels_last; elsewhere the layout is kept.
        layout = torch.channels_last if kind == "cpu" else torch.preserve_format
        of_input, of_state = weight.split(self.apart, dim=1)
        return of_input.contiguous(memory_format=layout), of_state.contiguous(memory_format=layout)

    def over_inputs(self, x: Tensor, steps: int, weights: Weights) -> tuple[Tensor, ...]:
        """The part of the inputs (steps*B,C,h,w), time first, with the bias: one tensor (B,D,h,w) for each step."""
        return F.conv2d(x, weights[0], self.bias, padding=1).chunk(steps)

    def add_state(self, of_input: Tensor, state: Tensor | None, weights: Weights) -> Tensor:
        """The whole convolution, from the part of the input and the state (None: zeros)."""
        return of_input if state is None else F.conv2d(state, weights[1], padding=1).add_(of_input)


class PhyCellCell(nn.Module):
    """A step of the physical branch: prediction by an equation in the latent space, correction by the input.

    With state h and input x, both (B,dim,h,w): h' = p + K (x - p), where p = h + F(h), and the gain K = sigmoid(conv [x, h]).
    (The gain of the paper's equation 6 sees p instead of h.) F is a combination of filters `kernel_size` wide, of which each
    is held close to one partial derivative, see `phydnet_training.moment_loss`.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        hidden = kernel_size**2
        self.F = nn.Sequential()
        self.F.add_module("conv1", nn.Conv2d(dim, hidden, kernel_size, padding=kernel_size // 2))
        self.F.add_module("bn1", nn.GroupNorm(kernel_size, hidden))
        self.F.add_module("conv2", nn.Conv2d(hidden, dim, 1))
        self.convgate = SplitConv(dim, dim, dim)

    def forward(self, x: Tensor, gain: Tensor, hidden: Tensor) -> Tensor:
        """The next state from input and state (B,dim,h,w), and the gain before its sigmoid."""
        return torch.lerp(hidden + self.F(hidden), x, gain.sigmoid())


class PhyCell(nn.Module):
    """The physical branch."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.cell_list = nn.ModuleList([PhyCellCell(dim, kernel_size)])

    def forward(self, x: Tensor, steps: int, state: Tensor | None, weights: list[Weights]) -> tuple[Tensor, Tensor]:
        """Inputs (steps*B,dim,h,w), time first, and the state before them to all states (steps*B,dim,h,w) and the last."""
        cell, states = self.cell_list[0], []
        gains = cell.convgate.over_inputs(x, steps, weights[0])
        for now, gain in zip(x.chunk(steps), gains, strict=True):
            gain = cell.convgate.add_state(gain, state, weights[0])
            state = cell(now, gain, torch.zeros_like(now) if state is None else state)
            states.append(state)
        return joined(states), states[-1]


class LSTMGates(torch.autograd.Function):
    """The pointwise part of an LSTM. Its gradient is written where it belongs: autograd would join four parts of it slowly."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Stacked gates i, f, o, g (B,4*hidden,h,w) and the memory (B,hidden,h,w; None: zeros) to output and memory."""
        i, f, o, g = gates.chunk(4, dim=1)
        i, f, o, g = i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()
        after = i * g if memory is None else torch.addcmul(i * g, f, memory)
        shown = after.tanh()
        ctx.save_for_backward(i, f, o, g, memory, shown)
        ctx.shape, ctx.strides = gates.shape, gates.stride()
        return o * shown, after

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, d_after: Tensor) -> tuple[Tensor, Tensor | None]:
        i, f, o, g, memory, shown = ctx.saved_tensors
        d_after = d_after + d_output * o * (1 - shown * shown)
        d_gates = i.new_empty_strided(ctx.shape, ctx.strides)
        d_i, d_f, d_o, d_g = d_gates.chunk(4, dim=1)
        torch.mul(d_after * g, i * (1 - i), out=d_i)
        torch.mul(d_output * shown, o * (1 - o), out=d_o)
        torch.mul(d_after * i, 1 - g * g, out=d_g)
        if memory is None:
            d_f.zero_()
            return d_gates, None
        torch.mul(d_after * memory, f * (1 - f), out=d_f)
        return d_gates, d_after * f


class ConvLSTMCell(nn.Module):
    """A step of a convolutional LSTM without peepholes; the gates are stacked in the order i, f, o, g."""

    def __init__(self, in_channels: int, hidden: int) -> None:
        super().__init__()
        self.conv = SplitConv(in_channels, hidden, 4 * hidden)

    def forward(self, gates: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gates (B,4*hidden,h,w) before their nonlinearities and the memory (None: zeros) to output and memory."""
        return LSTMGates.apply(gates, memory)  # type: ignore[no-untyped-call, no-any-return]


class ConvLSTM(nn.Module):
    """The residual branch: layers of ConvLSTM cells."""

    def __init__(self, dim: int, hidden_dims: tuple[int, ...]) -> None:
        super().__init__()
        widths = (dim, *hidden_dims)
        self.cell_list = nn.ModuleList(ConvLSTMCell(*pair) for pair in zip(widths[:-1], hidden_dims, strict=True))

    def forward(self, x: Tensor, steps: int, state: Memories | None, weights: list[Weights]) -> tuple[Tensor, Memories]:
        """Inputs (steps*B,dim,h,w), time first, and the state before them to all outputs of the last layer and the state."""
        after = []
        # All steps of one layer, then the next: by then its inputs are known.
        for layer, cell in enumerate(self.cell_list):
            output, memory = state[layer] if state else (None, None)
            outputs = []
            for gates in cell.conv.over_inputs(x, steps, weights[layer]):
                output, memory = cell(cell.conv.add_state(gates, output, weights[layer]), memory)
                outputs.append(output)
            x = joined(outputs)
            after.append((outputs[-1], memory))
        return x, tuple(after)


Memories = tuple[tuple[Tensor, Tensor], ...]
"""Output and memory of each ConvLSTM layer, (B,hidden,h,w)."""


def joined(steps: list[Tensor]) -> Tensor:
    """Steps (B,...) as one tensor (steps*B,...); a single one as it is."""
    return torch.cat(steps) if len(steps) > 1 else steps[0]


# --- network ----------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    """What the network remembers between frames; None before the first."""

    physical: Tensor | None = None
    """PhyCell's state (B,2*nf,h,w)."""
    residual: Memories | None = None


class PhyDNet(nn.Module):
    """PhyDNet: any number of frames in, any number of the next frames out. It keeps no state between calls.

    Args:
        in_shape: (T, C, H, W) of the input. C is built in; T is the native length, H and W the native size.
        frames_out: frames to predict where nobody asks otherwise.
        patch_size: 2 or 4, how many times smaller the latent picture is.
        nf: channels of the frame encoder, a multiple of 16; the latent picture has twice as many.
        kernel_size: width of PhyCell's filters, odd; it has its square of them.
        hidden_dims: channels of each ConvLSTM layer; the last is 2*nf.

    Raises:
        ConfigError: a value is out of range, or they do not fit together.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        frames_out: int = 10,
        patch_size: int = 4,
        nf: int = 32,
        kernel_size: int = 7,
        hidden_dims: tuple[int, ...] = (128, 128, 64),
    ) -> None:
        if len(in_shape) != 4 or min(in_shape) < 1:
            raise ConfigError(f"in_shape must be four positive numbers (T, C, H, W), got {in_shape}")
        _, channels, height, width = in_shape
        whole = all(type(size) is int and size > 0 for size in hidden_dims)
        for wrong, problem in (
            (frames_out < 1, f"frames_out must be at least 1, got {frames_out}"),
            (patch_size not in (2, 4), f"patch_size must be 2 or 4, got {patch_size}"),
            (nf < GROUPS or nf % GROUPS, f"nf must be a multiple of {GROUPS}, got {nf}"),
            (kernel_size < 3 or kernel_size % 2 == 0, f"kernel_size must be odd and at least 3, got {kernel_size}"),
            (
                not whole or tuple(hidden_dims[-1:]) != (2 * nf,),
                f"hidden_dims must be positive whole numbers, the last one 2*nf = {2 * nf}, got {hidden_dims}",
            ),
            (
                height % patch_size or width % patch_size,
                f"the size in in_shape must be a multiple of patch_size = {patch_size}, got {height}x{width}",
            ),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.in_shape, self.frames_out, self.multiple, dim = tuple(in_shape), frames_out, patch_size, 2 * nf
        self.encoder_E = FrameEncoder(channels, nf, patch_size)
        self.encoder_Ep, self.encoder_Er = BranchEncoder(dim), BranchEncoder(dim)
        self.decoder_Dp, self.decoder_Dr = BranchDecoder(dim), BranchDecoder(dim)
        self.decoder_D = FrameDecoder(channels, nf, patch_size)
        self.phycell = PhyCell(dim, kernel_size)
        self.convcell = ConvLSTM(dim, tuple(hidden_dims))

    @property
    def requirements(self) -> Requirements:
        """What a clip must be like. `forward` itself takes any number of frames from 1."""
        from stzoo.requirements import Requirements

        frames, channels, height, width = self.in_shape
        return Requirements(
            frames_in=frames,
            frames_out=self.frames_out,
            channels=channels,
            minimum=4,
            multiple=self.multiple,
            native_size=(height, width),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Predict the next `frames_out` frames.

        Args:
            frames: (B,T,C,H,W), values in [0,1], any T from 1, H and W multiples of `patch_size`.

        Returns:
            (B,frames_out,C,H,W), values in (0,1).

        Raises:
            InputError: channels or size do not fit.
        """
        return self.rollout(frames, self.frames_out)

    def rollout(self, frames: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames, each from the one before; the last outputs of `unroll`, which is slower.

        Args, Returns, Raises:
            As `forward`; InputError too if `horizon` is below 1.
        """
        self._check(frames, horizon)
        return self._rollout(frames, horizon, skip=frames.shape[1] - 1)

    def unroll(self, frames: Tensor, horizon: int, truth: Tensor | None = None) -> Tensor:
        """Every output, as the training loss takes them: of each given frame its successor, then the predictions.

        Args:
            frames: (B,T,C,H,W), values in [0,1].
            horizon: frames to predict, at least 1.
            truth: (B,horizon,C,H,W), for teacher forcing: the network is fed these instead of its own outputs.

        Returns:
            (B,T-1+horizon,C,H,W), values in (0,1).

        Raises:
            InputError: channels or size do not fit, `horizon` is below 1, or `truth` is not that long.
        """
        self._check(frames, horizon)
        if truth is None:
            return self._rollout(frames, horizon)
        if truth.shape != (len(frames), horizon, *frames.shape[2:]):
            raise InputError(f"the truth must be {horizon} frames as those given, got {tuple(truth.shape)}")
        return self._rollout(torch.cat((frames, truth[:, :-1]), dim=1), 1)

    @torch.no_grad()
    def branches(self, frames: Tensor, horizon: int) -> dict[str, Tensor]:
        """What each branch contributes: ``{"video", "physical", "residual"}``, each (B,T-1+horizon,C,H,W), in (0,1).

        "video" is what `unroll` returns, the others are the frames decoded from one branch alone.
        """
        self._check(frames, horizon)
        parts = self._rollout(frames, horizon, apart=True).split(frames.shape[2], dim=2)
        return dict(zip(("video", "physical", "residual"), parts, strict=True))

    def _check(self, frames: Tensor, horizon: int) -> None:
        channels, multiple = self.in_shape[1], self.multiple
        fits = frames.ndim == 5 and min(frames.shape) > 0 and frames.shape[2] == channels
        if not fits or any(side % multiple for side in frames.shape[3:]):
            raise InputError(
                f"expected (batch, frames, {channels} channels, height, width) with height and width "
                f"multiples of {multiple}, got {tuple(frames.shape)}"
            )
        if horizon < 1:
            raise InputError(f"horizon must be at least 1 frame, got {horizon}")

    def _rollout(self, frames: Tensor, horizon: int, skip: int = 0, apart: bool = False) -> Tensor:
        """The outputs of the given frames but the first `skip`, then those of `horizon` - 1 outputs fed back."""
        batch, steps, channels = frames.shape[:3]
        weights = (
            [cell.convgate.parts() for cell in self.phycell.cell_list],
            [cell.conv.parts() for cell in self.convcell.cell_list],
        )

        def advance(x: Tensor, steps: int, state: State, skip: int = 0) -> tuple[Tensor, State]:
            # Encoders and decoders see single frames: all that are known go through them at once.
            x = self.encoder_E(x.clone(memory_format=layout))
            states, physical = self.phycell(self.encoder_Ep(x), steps, state.physical, weights[0])
            outputs, residual = self.convcell(self.encoder_Er(x), steps, state.residual, weights[1])
            decoded = self._decode(states[skip * batch :], outputs[skip * batch :], apart)
            return decoded, State(physical, residual)

        layout = torch.channels_last if frames.device.type == "cpu" else torch.preserve_format
        output, state = advance(frames.transpose(0, 1).flatten(0, 1), steps, State(), skip)
        outputs = [output]
        for _ in range(horizon - 1):
            output, state = advance(output[-batch:, :channels], 1, state)
            outputs.append(output)
        return joined(outputs).unflatten(0, (-1, batch)).transpose(0, 1).contiguous()

    def _decode(self, physical: Tensor, residual: Tensor, apart: bool) -> Tensor:
        """Both branches (N,2*nf,h,w) to frames (N,C,H,W); if `apart`, those of each one alone are stacked below."""
        physical, residual = self.decoder_Dp(physical), self.decoder_Dr(residual)
        latent = physical + residual
        if not apart:
            return torch.sigmoid(self.decoder_D(latent))
        return torch.cat([torch.sigmoid(self.decoder_D(part)) for part in (latent, physical, residual)], dim=1)


# --- published configurations -----------------------------------------------------------------------------------------

PUBLISHED: dict[str, dict[str, Any]] = {
    data: {
        "config": {"in_shape": in_shape, "frames_out": frames_out, "patch_size": patch_size},
        "recipe": recipe | ({"forcing": 1 / (0.003 * epochs)} if epochs else {}),
        "epochs": epochs,
    }
    for data, in_shape, frames_out, patch_size, recipe, epochs in (
        ("mmnist", (10, 1, 64, 64), 10, 4, {"lr": 1e-3}, 200),
        ("mmnist-original", (10, 1, 64, 64), 10, 4, {"lr": 1e-3, "schedule": "constant"}, 2001),
        ("mmnist-cifar", (10, 3, 64, 64), 10, 4, {"lr": 1e-4}, 200),
        ("mfmnist", (10, 1, 64, 64), 10, 4, {"lr": 5e-4}, 200),
        ("taxibj", (4, 2, 32, 32), 4, 2, {"lr": 5e-4, "schedule": "cosine", "warmup": 0.1}, 50),
        ("kth", (10, 1, 128, 128), 20, 4, {"lr": 1e-3}, 100),
        ("kitticaltech", (10, 3, 128, 160), 1, 4, {"lr": 5e-3}, 100),
        ("human", (4, 3, 256, 256), 4, 4, {"lr": 1e-4, "schedule": "cosine"}, 50),
        ("bair", (4, 3, 64, 64), 12, 2, {}, None),
        ("kinetics", (4, 3, 256, 256), 4, 4, {"schedule": "cosine"}, None),
        ("weather-t2m", (12, 1, 32, 64), 12, 2, {"lr": 1e-4, "schedule": "cosine"}, 50),
        ("weather-r", (12, 1, 32, 64), 12, 2, {"lr": 1e-4, "schedule": "cosine"}, 50),
        ("weather-uv10", (12, 2, 32, 64), 12, 2, {"lr": 1e-3, "schedule": "cosine"}, 50),
        ("weather-tcc", (12, 1, 32, 64), 12, 2, {"lr": 1e-4, "schedule": "cosine"}, 50),
        ("weather-mv", (4, 12, 32, 64), 28, 2, {"lr": 5e-4, "schedule": "cosine"}, None),
    )
}
"""Settings of the official codes: arguments of `PhyDNet` and `PhyDNetRecipe`, epochs; the total batch size is 16.

All are OpenSTL's but "mmnist-original", of the first code.
"""
