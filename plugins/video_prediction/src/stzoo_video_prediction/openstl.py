"""Checkpoints of OpenSTL (https://github.com/chengtan9907/OpenSTL): which network of the SimVP family they hold.

stzoo keeps OpenSTL's names, so nothing is converted; only the configuration has to be recovered.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from stzoo.errors import FormatError
from stzoo.formats import check_tensors


def openstl_translator(state: Mapping[str, Tensor]) -> str | None:
    """Which of OpenSTL's translators a state dict holds: "gsta", "incepu", "tau", or "another"; None if it is no SimVP."""
    # In OpenSTL the decoder starts with a pixel shuffle, in the first SimVP code with a transposed convolution.
    if not {"enc.enc.0.conv.conv.weight", "dec.dec.0.conv.conv.0.weight", "dec.readout.weight"} <= state.keys():
        return None
    if "hid.enc.0.conv1.weight" in state:
        return "incepu"
    unit = "hid.enc.0.block.attn.spatial_gating_unit."
    if unit + "fc.0.weight" in state:
        return "tau"
    # The VAN translator has the same names as gSTA, but its attention is not gated: `conv1` keeps the width.
    gate = state.get(unit + "conv1.weight")
    return "gsta" if gate is not None and gate.ndim == 4 and gate.shape[0] == 2 * gate.shape[1] else "another"


def openstl_config(state: Mapping[str, Tensor], build: Callable[..., nn.Module], translator: str) -> dict[str, Any]:
    """The configuration of an OpenSTL network, recovered from its tensors and proved by building it (on meta).

    Raises:
        FormatError: tensors are missing, too many, or of a shape that does not fit the others.
    """

    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in state or state[key].ndim != dims:
            raise FormatError(f"this looks like an OpenSTL {translator} checkpoint, but {key} is missing or malformed")
        return tuple(state[key].shape)

    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    hid_S, channels, kernel_enc, _ = shape("enc.enc.0.conv.conv.weight", 4)
    kernel_dec = shape("dec.dec.0.conv.conv.0.weight", 4)[-1]
    if translator == "incepu":
        stacked = shape("hid.enc.0.conv1.weight", 4)[1]
        (hid_T,) = shape("hid.enc.0.layers.0.norm.weight", 1)
        mlp_ratio = 8.0
    else:
        (stacked,), (hid_T,) = (shape(f"hid.enc.{i}.block.layer_scale_1", 1) for i in (0, 1))
        hidden = [shape(f"hid.enc.{i}.block.mlp.fc1.weight", 4)[0] for i in (0, 1)]
        mlp_ratio = shortest_ratio(list(zip((stacked, hid_T), hidden, strict=True)))
    N_S = count(r"enc\.enc\.(\d+)\.")
    native = max(64, 2 ** (N_S // 2))
    config = {
        "in_shape": (stacked // hid_S, channels, native, native),
        "hid_S": hid_S,
        "hid_T": hid_T,
        "N_S": N_S,
        "N_T": count(r"hid\.enc\.(\d+)\."),
        "mlp_ratio": mlp_ratio,
        "drop": 0.0,
        "drop_path": 0.0,
        "spatio_kernel_enc": kernel_enc,
        "spatio_kernel_dec": kernel_dec,
    }
    check_tensors(state, functools.partial(build, **config), f"OpenSTL {translator}")
    return config


def shortest_ratio(widths: list[tuple[int, int]]) -> float:
    """The number with fewest decimals for which int(width * number) == hidden, for every (width, hidden)."""
    for scale in (10**decimals for decimals in range(16)):
        least = max(-(-hidden * scale // width) for width, hidden in widths)
        for ratio in (least / scale, (least + 1) / scale):  # rounding may make the first one fall short
            if all(int(width * ratio) == hidden for width, hidden in widths):
                return ratio
    raise FormatError(
        f"this looks like an OpenSTL checkpoint, but no mlp_ratio gives its MLPs, (channels, hidden): {widths}"
    )


class OpenSTLFormat:
    """State dicts of OpenSTL's networks: its names are stzoo's, so only the configuration is to be recovered."""

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        _, _, height, width = config["in_shape"]
        return (
            f"The height and width it was trained at are not in the tensors; {height}x{width} is assumed. "
            f"It runs at any multiple of {2 ** (config['N_S'] // 2)}.",
            "Dropout and stochastic depth (drop, drop_path) only act in training and are assumed to be 0.",
            "The training data and its scaling are not in the tensors; frames in [0, 1] are assumed.",
        )
