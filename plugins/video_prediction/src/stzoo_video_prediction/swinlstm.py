"""SwinLSTM: an LSTM whose gates are Swin Transformer blocks.

Paper: Tang et al., "SwinLSTM: Improving Spatiotemporal Prediction Accuracy using Swin Transformer and LSTM", ICCV 2023
(arXiv:2308.09891).
Official code: https://github.com/SongTang-x/SwinLSTM (MIT); OpenSTL (Apache-2.0) has the same networks under other names.

Every frame is cut into patches, which pass through recurrent cells and become the next frame. SwinLSTM-B keeps the
resolution; SwinLSTM-D halves it after each cell on the way down and doubles it after each cell on the way up.

Two kinds of parameters of the official code take no part in its forward pass and are left out here: a second patch
embedding, and `red` in every second block. What reads its checkpoints is in `swinlstm_checkpoints`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError
from stzoo.linear import Linear
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.swinlstm_windows import from_windows, relative_positions, shifted_windows, to_windows

if TYPE_CHECKING:
    from stzoo.requirements import Requirements

State = tuple[Tensor, Tensor]
"""Hidden and cell state of one cell, each (B, tokens, channels), tokens window by window."""

# --- blocks -----------------------------------------------------------------------------------------------------------


class WindowAttention(nn.Module):
    """Multi-head attention inside windows, with a learned bias for each relative position."""

    def __init__(self, dim: int, window: int, heads: int, drop: float, attn_drop: float) -> None:
        super().__init__()
        self.window, self.heads, self.attn_drop = window, heads, attn_drop
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def bias(self, mask: Tensor | None, batch: int, windows: int) -> Tensor:
        """What is added to the scores: (batch * windows or 1, heads, tokens, tokens)."""
        tokens, table = self.window**2, self.relative_position_bias_table
        bias = table[relative_positions(self.window).to(table.device)].view(1, tokens, tokens, -1).permute(0, 3, 1, 2)
        if mask is None:
            return bias
        return (bias + mask.to(bias)[:, None]).expand(batch, windows, -1, -1, -1).flatten(0, 1)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        shape, tokens = x.shape, self.window**2
        q, k, v = self.qkv(x).reshape(-1, tokens, 3, self.heads, shape[-1] // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.attn_drop if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=drop)
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(shape)))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers with GELU in between."""

    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(F.gelu(self.fc1(x)))))  # type: ignore[no-any-return]


class Plan:
    """Where one cell's tokens attend, the same at every time step: the order of shifted windows, a bias for each block."""

    def __init__(self, cell: Cell, size: tuple[int, int], x: Tensor) -> None:
        self.size = size
        windows = size[0] * size[1] // cell.window**2
        # As officially: no shift where the window is as large as the map.
        shifted = min(size) > cell.window
        order, inverse, mask = shifted_windows(size, cell.window) if shifted else (None, None, None)
        self.order, self.inverse, mask = (
            None if item is None else item.to(x.device) for item in (order, inverse, mask)
        )
        self.biases = [block.attn.bias(mask if i % 2 else None, len(x), windows) for i, block in enumerate(cell.blocks)]  # type: ignore[union-attr, operator]


class Block(nn.Module):
    """Swin Transformer block; one that joins has `red`, to mix a second input in before it attends."""

    def __init__(self, attn: WindowAttention, mlp: Mlp, joins: bool, drop_path: float) -> None:
        super().__init__()
        dim = attn.proj.out_features
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = mlp
        self.red = Linear(2 * dim, dim) if joins else None
        self.drop_path = drop_path

    def forward(self, x: Tensor, other: Tensor | None, bias: Tensor, plan: Plan) -> Tensor:
        y = self.norm1(x)
        if self.red is not None:
            y = self.attn(self.red(torch.cat((y, self.norm1(other)), -1)), bias)
        elif plan.order is None:
            y = self.attn(y, bias)
        else:
            y = self.attn(y.index_select(1, plan.order), bias).index_select(1, plan.inverse)
        x = self.add(x, y)
        return self.add(x, self.mlp(self.norm2(x)))

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The sum; in training, stochastic depth leaves the branch out for some samples and scales it for the rest."""
        if not self.training or self.drop_path == 0.0:
            return x + branch
        keep = 1.0 - self.drop_path
        return torch.addcmul(x, x.new_empty(len(x), 1, 1).bernoulli_(keep).div_(keep), branch)


class Cell(nn.Module):
    """SwinLSTM's cell (paper, section 3.2): Swin blocks make one gate, for what is forgotten, let in and put out.

    The blocks take turns: those with even index join in, the first one the hidden state, the others the cell's input
    again; those with odd index have shifted windows.
    """

    def __init__(
        self,
        dim: int,
        window: int,
        heads: int,
        mlp_ratio: float,
        drop: float,
        attn_drop: float,
        drop_path: Sequence[float],
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            Block(
                WindowAttention(dim, window, heads, drop, attn_drop),
                Mlp(dim, int(dim * mlp_ratio), drop),
                i % 2 == 0,
                rate,
            )
            for i, rate in enumerate(drop_path)
        )

    def forward(self, x: Tensor, state: State | None, plan: Plan) -> tuple[Tensor, State]:
        """One time step: (B,H,W,C) and the state, None at first, to (B,H,W,C) and the next state."""
        x = to_windows(x, self.window)
        hidden, memory = state or (torch.zeros_like(x),) * 2
        y = x
        for i, (block, bias) in enumerate(zip(self.blocks, plan.biases, strict=True)):
            y = block(y, x if i else hidden, bias, plan)
        gate = torch.sigmoid(y)
        memory = gate * (memory + torch.tanh(y))
        hidden = gate * torch.tanh(memory)
        return from_windows(hidden, self.window, plan.size), (hidden, memory)


class PatchMerging(nn.Module):
    """(B,H,W,C) to (B,H/2,W/2,2C): four neighbours become one."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        # Column by column in each 2x2 square, as in Swin Transformer.
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.reshape(batch, height // 2, width // 2, 4 * channels)))  # type: ignore[no-any-return]


class PatchExpanding(nn.Module):
    """(B,H,W,C) to (B,2H,2W,C/2): one becomes four neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = Linear(dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(dim // 2)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        x = self.expand(x).reshape(batch, height, width, 2, 2, channels // 2).transpose(2, 3)
        return self.norm(x.reshape(batch, 2 * height, 2 * width, channels // 2))  # type: ignore[no-any-return]


class PatchEmbed(nn.Module):
    """(B,C,H,W) to (B,H/p,W/p,E)."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class Unembed(nn.ConvTranspose2d):
    """(B,H,W,E) to (B,C,H*p,W*p). The official one always doubles the size, which is this at p = 2."""

    def __init__(self, dim: int, channels: int, patch: int) -> None:
        kernel, extra = (patch + 1, 1) if patch > 1 else (3, 0)
        super().__init__(dim, channels, kernel, stride=patch, padding=1, output_padding=extra)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.permute(0, 3, 1, 2))


# --- network ----------------------------------------------------------------------------------------------------------


class SwinLSTM(nn.Module):
    """SwinLSTM: any number of frames in, any number of following frames out.

    Args:
        in_shape: (T, C, H, W) of the input. C is built in; T, H and W are only the native length and size.
        frames_out: frames that `forward` predicts.
        model_type: "b", one resolution, or "d", which goes down and up.
        patch_size: side of a patch in pixels.
        embed_dim: channels at the resolution of the patches; they double where the resolution halves.
        window_size: side of the attention's windows in patches; where the native map is smaller, the window is the map.
        heads: of the attention, for each cell ("d": for each cell on the way down, and in reverse on the way up).
        depths: blocks of each cell ("b").
        depths_down: blocks of each cell on the way down ("d").
        depths_up: blocks of the cells on the way up, in reverse: from the finest to the coarsest ("d").
        mlp_ratio: hidden channels of the MLPs relative to their channels.
        drop, attn_drop: dropout after linear layers, and on the attention's weights.
        drop_path: stochastic depth: of every block ("b"), of the last block on the way down, linear from 0 ("d").

    Raises:
        ConfigError: a value is out of range, or they do not fit together.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        frames_out: int = 10,
        model_type: str = "d",
        patch_size: int = 2,
        embed_dim: int = 128,
        window_size: int = 4,
        heads: Sequence[int] = (4, 8),
        depths: Sequence[int] = (12,),
        depths_down: Sequence[int] = (2, 6),
        depths_up: Sequence[int] = (6, 2),
        mlp_ratio: float = 4.0,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.1,
    ) -> None:
        if len(in_shape) != 4 or min(in_shape) < 1:
            raise ConfigError(f"in_shape must be four positive numbers (T, C, H, W), got {in_shape}")
        if model_type not in ("b", "d"):
            raise ConfigError(f"model_type must be 'b' or 'd', got {model_type!r}")
        _, channels, height, width = in_shape
        named = {"depths": depths} if model_type == "b" else {"depths_down": depths_down, "depths_up": depths_up}
        named["heads"] = heads
        for name, values in named.items():
            if not values or not all(type(value) is int and value > 0 for value in values):
                raise ConfigError(f"{name} must be positive whole numbers, got {tuple(values)}")
            if len(values) != len(heads):
                raise ConfigError(
                    f"{name} and heads must have equally many numbers, got {tuple(values)}, {tuple(heads)}"
                )
        for wrong, problem in (
            (frames_out < 1, f"frames_out must be at least 1, got {frames_out}"),
            (patch_size < 1, f"patch_size must be at least 1, got {patch_size}"),
            (window_size < 1, f"window_size must be at least 1, got {window_size}"),
            (embed_dim < 1, f"embed_dim must be at least 1, got {embed_dim}"),
            (int(embed_dim * mlp_ratio) < 1, f"mlp_ratio {mlp_ratio} leaves the MLPs no channels"),
            *(
                (not 0 <= value < 1, f"{name} must be at least 0 and below 1, got {value}")
                for name, value in (("drop", drop), ("attn_drop", attn_drop), ("drop_path", drop_path))
            ),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.in_shape = (in_shape[0], channels, height, width)
        self.frames_out = frames_out

        plain = _cells(model_type, heads, depths, depths_down, depths_up, drop_path)
        side = min(height, width) // patch_size
        self.factors = [patch_size << level for level, _, _ in plain]
        windows = [min(window_size, max(side >> level, 1)) for level, _, _ in plain]
        self.multiple = math.lcm(*(window * factor for window, factor in zip(windows, self.factors, strict=True)))
        if height % self.multiple or width % self.multiple:
            raise ConfigError(
                f"the size in in_shape must be a multiple of {self.multiple} with these patches, windows and cells, "
                f"got {height}x{width}"
            )
        for level, count, _ in plain:
            if (embed_dim << level) % count:
                raise ConfigError(
                    f"a cell of {embed_dim << level} channels cannot have {count} heads: set heads, embed_dim"
                )

        self.embed = PatchEmbed(channels, embed_dim, patch_size)
        self.cells = nn.ModuleList(
            Cell(embed_dim << level, window, count, mlp_ratio, drop, attn_drop, rates)
            for window, (level, count, rates) in zip(windows, plain, strict=True)
        )
        self.resamples = nn.ModuleList()
        for i, (level, _, _) in enumerate(plain):
            if model_type == "b":
                self.resamples.append(nn.Identity())
            else:
                self.resamples.append((PatchMerging if i < len(heads) else PatchExpanding)(embed_dim << level))
        self.unembed = Unembed(embed_dim, channels, patch_size)

    @property
    def requirements(self) -> Requirements:
        """Frames and channels the network takes, and the sizes it works at."""
        from stzoo.requirements import Requirements

        frames, channels, height, width = self.in_shape
        return Requirements(
            frames_in=frames,
            frames_out=self.frames_out,
            channels=channels,
            minimum=self.multiple,
            multiple=self.multiple,
            native_size=(height, width),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """The next `frames_out` frames: `rollout` to that horizon."""
        return self.rollout(frames, self.frames_out)

    def rollout(self, frames: Tensor, horizon: int) -> Tensor:
        """Predict `horizon` frames; after the last given frame the network is fed its own output.

        Args:
            frames: (B,T,C,H,W), values in [0,1], T at least 1, H and W multiples of `multiple`.
            horizon: frames to predict, at least 1.

        Returns:
            (B,horizon,C,H,W), values in (0,1).

        Raises:
            InputError: frames, channels, size or horizon do not fit.
        """
        return self._run(frames, horizon, frames.shape[1] - 1)

    def unroll(self, frames: Tensor, horizon: int) -> Tensor:
        """As `rollout`, with what is predicted after each given frame in front: (B,T-1+horizon,C,H,W), for the loss."""
        return self._run(frames, horizon, 0)

    def _run(self, frames: Tensor, horizon: int, skip: int) -> Tensor:
        """All outputs but the first `skip`."""
        channels = self.in_shape[1]
        if (
            frames.ndim != 5
            or frames.shape[1] < 1
            or frames.shape[2] != channels
            or any(side < 1 or side % self.multiple for side in frames.shape[3:])
        ):
            raise InputError(
                f"expected (batch, 1 or more frames, {channels} channels, height, width) with height and width "
                f"multiples of {self.multiple}, got {tuple(frames.shape)}"
            )
        if horizon < 1:
            raise InputError(f"horizon must be at least 1 frame, got {horizon}")
        height, width = frames.shape[3:]
        plans = [
            Plan(cell, (height // factor, width // factor), frames)  # type: ignore[arg-type]
            for cell, factor in zip(self.cells, self.factors, strict=True)
        ]
        states: list[State | None] = [None] * len(self.cells)
        outputs: list[Tensor] = []
        given = frames.shape[1]
        for step in range(given - 1 + horizon):
            x = self.embed(frames[:, step] if step < given else outputs[-1])
            last = len(self.cells) - 1
            for i, (cell, plan) in enumerate(zip(self.cells, plans, strict=True)):
                x, states[i] = cell(x, states[i], plan)
                if i < last:
                    x = self.resamples[i](x)
            if step >= skip:
                outputs.append(torch.sigmoid(self.unembed(self.resamples[last](x))))
        return torch.stack(outputs, dim=1)


def _cells(
    model_type: str,
    heads: Sequence[int],
    depths: Sequence[int],
    depths_down: Sequence[int],
    depths_up: Sequence[int],
    drop_path: float,
) -> list[tuple[int, int, list[float]]]:
    """For each cell: how often the resolution was halved, heads, stochastic depth of its blocks."""
    if model_type == "b":
        return [(0, count, [drop_path] * depth) for count, depth in zip(heads, depths, strict=True)]

    def slices(numbers: Sequence[int]) -> list[list[float]]:
        total = sum(numbers)
        rates = [drop_path * i / max(total - 1, 1) for i in range(total)]
        starts = [sum(numbers[:i]) for i in range(len(numbers))]
        return [rates[start : start + number] for start, number in zip(starts, numbers, strict=True)]

    down = list(zip(range(len(heads)), heads, slices(depths_down), strict=True))
    up = zip(range(1, len(heads) + 1), heads, slices(depths_up), strict=True)
    return down + [(level, count, rates[::-1]) for level, count, rates in reversed(list(up))]


# --- recipe -----------------------------------------------------------------------------------------------------------


class SwinLSTMRecipe(VideoPredictionRecipe):
    """Mean squared error of every step: of what is predicted after each given frame too, against the frame that follows.

    Args:
        lr, schedule, warmup, crop, flip: as in `VideoPredictionRecipe`; officially the rate is constant.
    """

    def __init__(
        self, lr: float = 1e-4, schedule: str = "constant", warmup: float = 0.0, crop: int = 0, flip: bool = False
    ) -> None:
        super().__init__(lr, schedule, warmup, crop, flip)

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"mse"}`` of ``batch["frames"]`` (B,T,C,H,W) against ``batch["target"]`` (B,T_out,C,H,W)."""
        frames, target = batch["frames"], batch["target"]
        predicted = module.unroll(frames, target.shape[1])  # type: ignore[operator]
        return {"mse": F.mse_loss(predicted, torch.cat((frames[:, 1:], target), dim=1))}


# --- published configurations -----------------------------------------------------------------------------------------

_D = {"model_type": "d", "embed_dim": 128, "heads": (4, 8), "depths_down": (2, 6), "depths_up": (6, 2)}
_B = {"model_type": "b", "embed_dim": 128, "heads": (4,), "depths": (12,)}

PUBLISHED: dict[str, dict[str, Any]] = {
    name: {
        "config": {"in_shape": in_shape, "frames_out": frames_out, "patch_size": 2, "window_size": 4, **network},
        "recipe": recipe,
        "epochs": epochs,
    }
    for name, in_shape, frames_out, network, recipe, epochs in (
        ("mmnist-d", (10, 1, 64, 64), 10, _D, {"lr": 1e-4}, 2000),
        ("mmnist-b", (10, 1, 64, 64), 10, _B, {"lr": 1e-4}, 2000),
        (
            "taxibj-b",
            (4, 2, 32, 32),
            4,
            _B | {"patch_size": 4, "window_size": 8, "heads": (8,)},
            {"lr": 1e-4},
            None,
        ),
        ("kth-d", (10, 1, 128, 128), 20, _D, {"lr": 1e-4}, None),
        ("human-b", (4, 3, 256, 256), 4, _B, {"lr": 1e-4, "schedule": "onecycle"}, 50),
    )
}
"""Published settings: arguments of `SwinLSTM` and `SwinLSTMRecipe`, epochs where stated. Batches of 16, TaxiBJ of 4.

Moving MNIST as in the official code, TaxiBJ as its author gives it (issue 5 there), Human3.6M as in OpenSTL. For KTH no
settings were published: these are the ones of Moving MNIST.
"""
