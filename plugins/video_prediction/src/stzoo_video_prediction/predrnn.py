"""PredRNN: a convolutional LSTM with a second memory that travels through the layers.

Paper: Wang et al., "PredRNN: Recurrent Neural Networks for Predictive Learning using Spatiotemporal LSTMs", NeurIPS 2017;
long version arXiv:2103.09504.
Official code of the configurations and weights that people compare with: https://github.com/chengtan9907/OpenSTL
(Apache-2.0), whose state-dict keys, configuration names and numerics are kept here.

At every frame the spatiotemporal memory goes up through all layers, and from the top one to the bottom one of the next
frame; each layer also has the LSTM's own cell state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError
from stzoo_video_prediction.recurrent import (
    SETTINGS,
    OpenSTLRecurrent,
    RecurrentPredictor,
    at_rest,
    convolution,
    joined,
)

State = tuple[list[tuple[Tensor, Tensor]], Tensor | None]
"""Hidden and cell state of each layer (empty: zeros) and the memory (None: zeros), all (B,hidden,h,w)."""
Kernels = list[tuple[Tensor, Tensor]] | None


# --- cell -------------------------------------------------------------------------------------------------------------


class SpatioTemporalLSTMCell(nn.Module):
    """One layer: an LSTM on the cell state, another on the memory, and an output gate that sees both."""

    def __init__(self, inputs: int, hidden: int, filter_size: int, norm: tuple[int, int] | None) -> None:
        super().__init__()
        self.conv_x = convolution(inputs, 7 * hidden, filter_size, norm)
        self.conv_h = convolution(hidden, 4 * hidden, filter_size, norm)
        self.conv_m = convolution(hidden, 3 * hidden, filter_size, norm)
        self.conv_o = convolution(2 * hidden, hidden, filter_size, norm)
        self.conv_last = nn.Conv2d(2 * hidden, hidden, 1, bias=False)
        self.hidden = hidden

    def forward(
        self, cell: Tensor, memory: Tensor, c: Tensor | None, m: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Summed convolutions for the cell state (B,4*hidden,h,w) and for the memory (B,3*hidden,h,w) and the two (None:
        zeros) to hidden state, cell state and memory."""
        i, f, g, o = cell.chunk(4, dim=1)
        c = self._remember(i, f, g, c)
        i, f, g = memory.chunk(3, dim=1)
        m = self._remember(i, f, g, m)
        both = torch.cat((c, m), dim=1)
        return torch.sigmoid(o + self.conv_o(both)) * torch.tanh(self.conv_last(both)), c, m

    @staticmethod
    def _remember(i: Tensor, f: Tensor, g: Tensor, old: Tensor | None) -> Tensor:
        new = torch.sigmoid(i) * torch.tanh(g)
        return (
            new if old is None else torch.addcmul(new, torch.sigmoid(f + 1), old)
        )  # the forget gates have a bias of 1

    def split(self, x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """What of conv_x, of its output or its weights, is for the cell state and what for the memory."""
        cell, memory, output = x.split((3 * self.hidden, 3 * self.hidden, self.hidden), dim)
        return torch.cat((cell, output), dim), memory

    def kernels(self) -> tuple[Tensor, Tensor]:
        """For x and h stacked as channels, and for x and the memory."""
        cell, memory = self.split(self.conv_x[0].weight, 0)  # type: ignore[arg-type]
        return joined(cell, self.conv_h[0].weight), joined(memory, self.conv_m[0].weight)  # type: ignore[arg-type]

    def gates(self, x: Tensor, h: Tensor | None, m: Tensor | None) -> tuple[Tensor, Tensor]:
        """The summed convolutions, given conv_x's output, hidden state and memory (None: zeros)."""
        cell, memory = self.split(x, 1)
        cell = cell + (at_rest(self.conv_h) if h is None else self.conv_h(h))
        return cell, memory + (at_rest(self.conv_m) if m is None else self.conv_m(m))


# --- network ----------------------------------------------------------------------------------------------------------


class PredRNN(RecurrentPredictor):
    """PredRNN: any number of frames in, any number of next frames out.

    Arguments, methods and errors are those of `ConvLSTM`, without ``cell``; all layers have the same ``num_hidden``,
    because the memory goes through them.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        frames_out: int = 10,
        patch_size: int = 4,
        num_hidden: tuple[int, ...] = (64, 64),
        filter_size: int = 5,
        layer_norm: bool = False,
    ) -> None:
        if len(set(num_hidden)) > 1:
            raise ConfigError(f"num_hidden must be the same in every layer: the memory visits all; got {num_hidden}")
        super().__init__(SpatioTemporalLSTMCell, in_shape, frames_out, patch_size, num_hidden, filter_size, layer_norm)

    def kernels(self) -> Kernels:
        return None if self.layer_norm else [cell.kernels() for cell in self.cell_list]  # type: ignore[operator]

    def encode(self, x: Tensor, kernels: Kernels) -> tuple[Tensor, State]:
        state: State = ([], None)
        tops = []
        # The bottom layer's convolution of the given frames is done in one go; the others must wait for the memory.
        for gates in self.cell_list[0].conv_x(x.flatten(0, 1)).split(x.shape[1]):  # type: ignore[operator]
            top, state = self._advance(gates, state, kernels, convolved=True)
            tops.append(top)
        return torch.cat(tops), state

    def step(self, x: Tensor, state: State, kernels: Kernels) -> tuple[Tensor, State]:
        return self._advance(x, state, kernels)

    def _advance(self, x: Tensor, state: State, kernels: Kernels, convolved: bool = False) -> tuple[Tensor, State]:
        """One frame through all layers; ``convolved``: x went through the bottom layer's conv_x already."""
        (layers, m), following = state, []
        for i, cell in enumerate(self.cell_list):
            h, c = layers[i] if layers else (None, None)
            if kernels is None or h is None or (convolved and i == 0):
                gates = cell.gates(x if convolved and i == 0 else cell.conv_x(x), h, m)
            else:
                both = zip((h, m), kernels[i], strict=True)
                gates = (F.conv2d(torch.cat((x, y), 1), kernel, padding=kernel.shape[-1] // 2) for y, kernel in both)
            x, c, m = cell(*gates, c, m)
            following.append((x, c))
        return x, (following, m)


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class OpenSTLPredRNN(OpenSTLRecurrent):
    """PredRNN_Model of every release."""

    name = "openstl-predrnn"
    description = "OpenSTL PredRNN_Model"
    build = PredRNN
    gates = 7

    def claims(self, state: Mapping[str, Tensor]) -> bool:
        # MIM, PredRNN++ and PredRNN-v2 have these names and others besides.
        return {
            f"cell_list.0.conv_{name}.0.weight" for name in "xhmo"
        } <= state.keys() and "adapter.weight" not in state


# --- published configurations -----------------------------------------------------------------------------------------

_COSINE = {"schedule": "cosine"}
_RECIPES = {
    "mmnist": {"lr": 5e-4},
    "mfmnist": {"lr": 5e-4},
    "mmnist-cifar": {"lr": 1e-4},
    "taxibj": {"lr": 1e-4, "warmup": 0.1} | _COSINE,
    "kth": {"lr": 1e-3},
    "human": {"lr": 1e-4} | _COSINE,
    "kitticaltech": {"lr": 1e-2},
    "weather-t2m": {"lr": 5e-4} | _COSINE,
    "weather-r": {"lr": 1e-3} | _COSINE,
    "weather-uv10": {"lr": 5e-4} | _COSINE,
    "weather-tcc": {"lr": 5e-4} | _COSINE,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    data: {"config": setting | {"num_hidden": (128,) * 4}, "recipe": _RECIPES[data], "epochs": epochs}
    for data, (setting, epochs) in SETTINGS.items()
}
"""Settings of the official model zoo: arguments of `PredRNN` and of the recipe, epochs; the total batch size is 16."""
