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
from torch import Tensor, nn

from stzoo.errors import ConfigError
from stzoo_video_prediction.recurrent import (
    SETTINGS,
    Convolutions,
    OpenSTLRecurrent,
    RecurrentPredictor,
    convolution,
)

State = tuple[list[tuple[Tensor, Tensor]], Tensor | None]
"""Hidden and cell state of each layer (empty: zeros) and the memory (None: zeros), all (B,hidden,h,w)."""


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

    def forward(
        self, x: Tensor, h: Tensor | None, c: Tensor | None, m: Tensor | None, conv: Convolutions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """conv_x's output (B,7*hidden,h,w), hidden state, cell state and memory (None: zeros) to the next three."""
        i, f, g, i_m, f_m, g_m, o = x.chunk(7, dim=1)
        cell = torch.cat((i, f, g, o), dim=1) + (conv["conv_h"].at_rest() if h is None else conv["conv_h"](h))
        memory = torch.cat((i_m, f_m, g_m), dim=1) + (conv["conv_m"].at_rest() if m is None else conv["conv_m"](m))
        i, f, g, o = cell.chunk(4, dim=1)
        c = self._remember(i, f, g, c)
        i, f, g = memory.chunk(3, dim=1)
        m = self._remember(i, f, g, m)
        both = torch.cat((c, m), dim=1)
        return torch.sigmoid(o + conv["conv_o"](both)) * torch.tanh(conv["conv_last"](both)), c, m

    @staticmethod
    def _remember(i: Tensor, f: Tensor, g: Tensor, old: Tensor | None) -> Tensor:
        new = torch.sigmoid(i) * torch.tanh(g)
        return (
            new if old is None else torch.addcmul(new, torch.sigmoid(f + 1), old)
        )  # the forget gates have a bias of 1


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

    def encode(self, x: Tensor, layers: list[Convolutions]) -> tuple[Tensor, State]:
        state: State = ([], None)
        tops = []
        # The bottom layer's convolution of the given frames is done in one go; the others must wait for the memory.
        for gates in layers[0]["conv_x"](x.flatten(0, 1)).split(x.shape[1]):
            top, state = self._advance(gates, state, layers)
            tops.append(top)
        return torch.cat(tops), state

    def step(self, x: Tensor, state: State, layers: list[Convolutions]) -> tuple[Tensor, State]:
        return self._advance(layers[0]["conv_x"](x), state, layers)

    def _advance(self, x: Tensor, state: State, layers: list[Convolutions]) -> tuple[Tensor, State]:
        """One frame, which went through the bottom layer's conv_x already, through all layers."""
        (before, m), after = state, []
        for i, (cell, conv) in enumerate(zip(self.cell_list, layers, strict=True)):
            h, c = before[i] if before else (None, None)
            x, c, m = cell(conv["conv_x"](x) if i else x, h, c, m, conv)
            after.append((x, c))
        return x, (after, m)


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
