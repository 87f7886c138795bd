"""ConvLSTM: the convolutional LSTM, the baseline of every table of video prediction.

Paper: Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation Nowcasting", NeurIPS 2015
(arXiv:1506.04214).
Official code of the configurations and weights that people compare with: https://github.com/chengtan9907/OpenSTL
(Apache-2.0), whose state-dict keys, configuration names and numerics are kept here: no peepholes, no biases.

Frames are cut into patches, whose pixels become channels; a stack of LSTM cells whose matrix products are convolutions
reads one frame after the other and predicts the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

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

State = list[tuple[Tensor, Tensor | None]]
"""Of each layer: hidden state and cell state, (B,hidden,h,w); None where no cell state is kept."""


# --- cell -------------------------------------------------------------------------------------------------------------


class ConvLSTMCell(nn.Module):
    """One layer. ``variant`` is ``cell`` of `ConvLSTM`."""

    def __init__(self, inputs: int, hidden: int, filter_size: int, norm: tuple[int, int] | None, variant: str) -> None:
        super().__init__()
        self.conv_x = convolution(inputs, 4 * hidden, filter_size, norm)
        self.conv_h = convolution(hidden, 4 * hidden, filter_size, norm)
        self.keeps_cell = variant == "standard"

    def forward(self, gates: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Summed convolutions (B,4*hidden,h,w) and cell state (None: zeros) to hidden state and cell state."""
        i, f, g, o = gates.chunk(4, dim=1)
        new = torch.tanh(g)
        if not self.keeps_cell:  # then the cell state reaches no output, and need not be computed
            return torch.sigmoid(o) * new, None
        new = torch.sigmoid(i) * new
        c = new if c is None else torch.addcmul(new, torch.sigmoid(f), c)
        return torch.sigmoid(o) * torch.tanh(c), c


# --- network ----------------------------------------------------------------------------------------------------------


class ConvLSTM(RecurrentPredictor):
    """ConvLSTM: any number of frames in, any number of next frames out.

    Args:
        in_shape: (T, C, H, W) of the input. C is built in, and with ``layer_norm`` H and W; otherwise T, H and W are
            what it is made for.
        frames_out: frames that `forward` predicts.
        patch_size: side of the square patches that a frame is cut into, in pixels.
        num_hidden: channels of the hidden states, one number for each layer.
        filter_size: kernel of the convolutions; odd. (The official ``stride`` can only be 1.)
        layer_norm: normalise after every convolution, over channels and pixels.
        cell: "standard", hidden state o * tanh(c); or "v0.3", o * tanh(g), as in OpenSTL up to 0.3, with which its
            published weights were trained: there the cell state has no effect.

    Raises:
        ConfigError: a value is out of range, or they do not fit together.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        frames_out: int = 10,
        patch_size: int = 4,
        num_hidden: tuple[int, ...] = (64, 64),
        filter_size: int = 5,
        layer_norm: bool = False,
        cell: str = "standard",
    ) -> None:
        if cell not in ("standard", "v0.3"):
            raise ConfigError(f"cell must be 'standard' or 'v0.3', got {cell!r}")
        make_cell = partial(ConvLSTMCell, variant=cell)
        super().__init__(make_cell, in_shape, frames_out, patch_size, num_hidden, filter_size, layer_norm)

    def encode(self, x: Tensor, layers: list[Convolutions]) -> tuple[Tensor, State]:
        batch, state = x.shape[1], []
        x = x.flatten(0, 1)
        for cell, conv in zip(self.cell_list, layers, strict=True):  # a layer reads all given frames, then the next one
            hidden: list[Tensor] = []
            c = None
            for step, gates in enumerate(conv["conv_x"](x).split(batch)):
                h, c = cell(gates + (conv["conv_h"](hidden[-1]) if step else conv["conv_h"].at_rest()), c)
                hidden.append(h)
            x = torch.cat(hidden)
            state.append((hidden[-1], c))
        return x, state

    def step(self, x: Tensor, state: State, layers: list[Convolutions]) -> tuple[Tensor, State]:
        following = []
        for cell, conv, (h, c) in zip(self.cell_list, layers, state, strict=True):
            x, c = cell(conv["conv_x"](x) + conv["conv_h"](h), c)
            following.append((x, c))
        return x, following


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class OpenSTLConvLSTM(OpenSTLRecurrent):
    """ConvLSTM_Model of every release; which cell it was trained with must be stated."""

    name = "openstl-convlstm"
    description = "OpenSTL ConvLSTM_Model"
    build = ConvLSTM
    gates = 4
    unused = re.compile(r"cell_list\.\d+\.conv_(o\.\d\.(weight|bias)|last\.weight)")
    asks: ClassVar[dict[str, str]] = {
        "cell": "'v0.3' for weights that OpenSTL up to 0.3 made, the published .pth files among them: its hidden state is "
        "o * tanh(g); 'standard' for those of 1.0 and later"
    }

    def claims(self, state: Mapping[str, Tensor]) -> bool:
        cell = "cell_list.0."
        return {f"{cell}conv_x.0.weight", f"{cell}conv_h.0.weight"} <= state.keys() and not any(
            key.startswith(f"{cell}conv_m.") for key in state
        )

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed or stated."""
        return (
            f"cell: {config['cell']!r} as stated; the cell changed between releases, its tensors did not.",
            *super().unknown(config),
            "conv_o and conv_last of the cells are left out: the official network has them and never uses them.",
        )


# --- published configurations -----------------------------------------------------------------------------------------

_COSINE = {"schedule": "cosine"}
_RECIPES: dict[str, dict[str, Any]] = {
    "mmnist": {"lr": 5e-4},
    "mfmnist": {"lr": 5e-4},
    "mmnist-cifar": {"lr": 1e-4},
    "mmnist-cifar-l": {"lr": 5e-4},
    "taxibj": {"lr": 5e-4, "warmup": 0.1} | _COSINE,
    "kth": {"lr": 1e-3},
    "human": {"lr": 1e-4} | _COSINE,
    "kitticaltech": {"lr": 5e-3},
    "weather-t2m": {"lr": 5e-4} | _COSINE,
    "weather-r": {"lr": 5e-4} | _COSINE,
    "weather-uv10": {"lr": 5e-4} | _COSINE,
    "weather-tcc": {"lr": 1e-4} | _COSINE,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    data + variant: {
        "config": setting | {"num_hidden": (width,) * 4},
        "recipe": _RECIPES.get(data + variant, _RECIPES[data]),
        "epochs": epochs,
    }
    for data, (setting, epochs) in SETTINGS.items()
    for variant, width in (("-s", 128), ("-l", 192))
    if variant == "-s" or "mnist" in data
}
"""Settings of the official model zoo: arguments of `ConvLSTM` and of the recipe, epochs; the total batch size is 16."""
