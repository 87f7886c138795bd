"""SimVP as first published.

Paper: Gao et al., "SimVP: Simpler yet Better Video Prediction", CVPR 2022 (arXiv:2206.05099).
Official code: https://github.com/A4Bio/SimVP, whose state-dict keys, configuration names and numerics are kept here.

The IncepU translator of `simvp`, with another encoder and decoder: LeakyReLU, transposed convolutions, and a skip that is
concatenated instead of added. Later checkpoints, OpenSTL's, belong to `simvp`.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_video_prediction.simvp import SimVP

# --- encoder and decoder ----------------------------------------------------------------------------------------------


class ConvSC(nn.Module):
    """3x3 convolution, GroupNorm over 2 groups, LeakyReLU(0.2); halves or doubles (transposed convolution) the size."""

    def __init__(self, in_channels: int, out_channels: int, *, down: bool = False, up: bool = False) -> None:
        super().__init__()
        conv: nn.Module
        if up:
            conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
        else:
            conv = nn.Conv2d(in_channels, out_channels, 3, stride=2 if down else 1, padding=1)
        norm, act = nn.GroupNorm(2, out_channels), nn.LeakyReLU(0.2, inplace=True)
        self.conv = nn.Sequential(OrderedDict(conv=conv, norm=norm, act=act))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Encoder(nn.Module):
    """(N,C,H,W) -> latent (N,hid_S,H/2^(N_S/2),W/2^(N_S/2)), and the first layer's output (N,hid_S,H,W)."""

    def __init__(self, channels: int, hid_S: int, N_S: int) -> None:
        super().__init__()
        self.enc = nn.Sequential(*(ConvSC(hid_S if i else channels, hid_S, down=i % 2 == 1) for i in range(N_S)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.enc[0](x)
        return self.enc[1:](skip), skip


class Decoder(nn.Module):
    """The encoder mirrored; the skip is concatenated in front of the last layer. No output activation."""

    def __init__(self, hid_S: int, channels: int, N_S: int) -> None:
        super().__init__()
        last = N_S - 1
        self.dec = nn.Sequential(*(ConvSC(2 * hid_S if i == last else hid_S, hid_S, up=i % 2 == 0) for i in range(N_S)))
        self.readout = nn.Conv2d(hid_S, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = torch.cat((self.dec[:-1](x), skip), dim=1)
        return self.readout(self.dec[-1](x))


# --- network ----------------------------------------------------------------------------------------------------------


class SimVPv1(SimVP):
    """SimVP as first published: T frames in, the next T frames out.

    Arguments, methods and errors are those of `SimVP`, without what belongs to its other translator.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        hid_S: int = 16,
        hid_T: int = 256,
        N_S: int = 4,
        N_T: int = 4,
    ) -> None:
        super().__init__(in_shape, hid_S, hid_T, N_S, N_T, "incepu")
        self.enc = Encoder(in_shape[1], hid_S, N_S)  # type: ignore[assignment]
        del self.dec  # the official order: encoder, translator, decoder
        self.dec = Decoder(hid_S, in_shape[1], N_S)  # type: ignore[assignment]


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class A4BioSimVP:
    """State dicts of the first SimVP code: its names are stzoo's, so only the configuration is to be recovered."""

    name = "a4bio-simvp"
    description = "A4Bio SimVP"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is SimVP's, but incomplete or modified.
        """

        def count(pattern: str) -> int:
            return len({match[1] for key in state if (match := re.match(pattern, key))})

        N_S = count(r"dec\.dec\.(\d+)\.conv\.conv\.weight$")
        keys = ("enc.enc.0.conv.conv.weight", f"dec.dec.{N_S - 1}.conv.conv.weight", "hid.enc.0.conv1.weight")
        first, last, translator = (state.get(key) for key in keys)
        if first is None or last is None or translator is None:
            return None
        if any(weight.ndim != 4 for weight in (first, last, translator)):
            raise FormatError(f"this looks like an {self.description} checkpoint, but its convolutions are malformed")
        hid_S, channels = first.shape[:2]
        if last.shape[1] != 2 * hid_S:  # the skip is concatenated here, and only here
            return None
        norm = state.get("hid.enc.0.layers.0.norm.weight")
        native = max(64, 2 ** (N_S // 2))
        config = {
            "in_shape": (translator.shape[1] // hid_S, channels, native, native),
            "hid_S": hid_S,
            "hid_T": len(norm) if norm is not None and norm.ndim == 1 else 0,
            "N_S": N_S,
            "N_T": count(r"hid\.enc\.(\d+)\."),
        }
        check_tensors(state, functools.partial(SimVPv1, **config), self.description)  # type: ignore[arg-type]
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        _, _, height, width = config["in_shape"]
        return (
            f"in_shape: the height and width it was trained at are not in the tensors; {height}x{width} is assumed. "
            f"It runs at any multiple of {2 ** (config['N_S'] // 2)}.",
            "The training data and its scaling are not in the tensors; frames in [0, 1] are assumed.",
        )


# --- published configurations -----------------------------------------------------------------------------------------

_DEFAULTS = {"hid_S": 64, "hid_T": 256, "N_S": 4, "N_T": 8}

PUBLISHED: dict[str, dict[str, Any]] = {
    data: {"config": {"in_shape": in_shape, **_DEFAULTS}, "recipe": {"lr": 1e-2}, "epochs": 51}
    for data, in_shape in (("mmnist", (10, 1, 64, 64)), ("taxibj", (4, 2, 32, 32)))
}
"""The official code's own defaults, for its two data sets: arguments of `SimVPv1` and `VideoPredictionRecipe`, and epochs;
the batch size is 16. Its authors call that a demonstration: the paper's numbers took 1000 to 2000 epochs."""
