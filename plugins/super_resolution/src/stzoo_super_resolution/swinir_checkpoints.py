"""Checkpoints of SwinIR (https://github.com/JingyunLiang/SwinIR), and of what KAIR and BasicSR train: which network they hold.

The names of parameters are stzoo's, so nothing is converted; the configuration is recovered from the tensors. Two buffers
of the official code follow from it and are left out: `relative_position_index`, and `attn_mask`, made for `img_size`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_super_resolution.swinir import SwinIR
from stzoo_super_resolution.swinir_published import CONFIGS

_BUFFERS = (".attn_mask", ".relative_position_index")
_BLOCK = "layers.0.residual_group.blocks.0."
_ASK_RANGE = "what the network multiplies values in [0,1] by: 1 or 255 (KAIR's and BasicSR's img_range)"


class OfficialSwinIR:
    """State dicts of the official code."""

    name = "swinir"
    description = "The official SwinIR, and checkpoints of KAIR and BasicSR"

    def __init__(self) -> None:
        self.asks: dict[str, str] = {}
        """What the tensors that were detected cannot tell and nobody should assume."""
        self._notes: tuple[str, ...] = ()

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is SwinIR's, but incomplete or modified.
        """
        first = state.get("conv_first.weight")
        if first is None or first.ndim != 4 or f"{_BLOCK}attn.relative_position_bias_table" not in state:
            return None
        parameters = {key: value for key, value in state.items() if not key.endswith(_BUFFERS)}
        config = _network(parameters)
        # What is not in the parameters: a published network with the very same ones tells it.
        alike = [one for one in CONFIGS.values() if all(one[key] == config[key] for key in config)]
        self.asks, notes = {}, []
        size, assumed = _img_size(state, config, [one["img_size"] for one in alike])
        if assumed:
            notes.append(f"img_size: {assumed}")
        if size is None:
            self.asks["img_size"] = "height and width it was trained at, which its absolute positions are made for"
        else:
            config["img_size"] = size
        if alike or config["upsampler"]:
            config["img_range"] = alike[0]["img_range"] if alike else 1.0
            whose = "that of the published network of this size" if alike else "that of all published ones that enlarge"
            notes.append(f"img_range: it is not in the tensors; {config['img_range']:g} is assumed, {whose}.")
        else:
            self.asks["img_range"] = _ASK_RANGE
            notes.append("img_range: it is not in the tensors; it was stated.")
        notes.append("drop_path_rate: it only acts in training; 0.1, the official default, is assumed.")
        notes += [f"{key}: it only acts in training; 0 is assumed." for key in ("drop_rate", "attn_drop_rate")]
        self._notes = tuple(notes)
        if size is not None:
            check_tensors(parameters, partial(SwinIR, **config), "SwinIR")
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The parameters as they are."""
        return {key: value for key, value in state.items() if not key.endswith(_BUFFERS)}

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return self._notes


def _network(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of the configuration that parameters tell."""

    def shape(key: str, dims: int) -> tuple[int, ...]:
        if key not in state or state[key].ndim != dims:
            raise FormatError(f"this looks like a checkpoint of SwinIR, but {key} is missing or malformed")
        return tuple(state[key].shape)

    def count(pattern: str) -> int:
        return len({match[1] for key in state if (match := re.match(pattern, key))})

    embed_dim, in_chans, _, _ = shape("conv_first.weight", 4)
    table = f"{_BLOCK}attn.relative_position_bias_table"
    side = math.isqrt(shape(table, 2)[0])
    if side * side != state[table].shape[0] or side % 2 == 0:
        raise FormatError(f"this looks like a checkpoint of SwinIR, but {table} is of no square window")
    groups = range(count(r"layers\.(\d+)\."))
    upsampler, scale = _upsampler(state, in_chans)
    return {
        "scale": scale,
        "in_chans": in_chans,
        "window_size": (side + 1) // 2,
        "depths": tuple(count(rf"layers\.{group}\.residual_group\.blocks\.(\d+)\.") for group in groups),
        "embed_dim": embed_dim,
        "num_heads": tuple(shape(table.replace("layers.0.", f"layers.{group}.", 1), 2)[1] for group in groups),
        "mlp_ratio": _ratio(embed_dim, shape(f"{_BLOCK}mlp.fc1.weight", 2)[0]),
        "qkv_bias": f"{_BLOCK}attn.qkv.bias" in state,
        "ape": "absolute_pos_embed" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
        "upsampler": upsampler,
        "resi_connection": "1conv" if "conv_after_body.weight" in state else "3conv",
    }


def _upsampler(state: Mapping[str, Tensor], in_chans: int) -> tuple[str, int]:
    """The reconstruction and its scale."""
    if "conv_up1.weight" in state:
        return "nearest+conv", 4 if "conv_up2.weight" in state else 2
    convolutions = [value for key, value in state.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle", math.prod(math.isqrt(len(item) // item.shape[1]) for item in convolutions)
    if convolutions:
        return "pixelshuffledirect", math.isqrt(len(convolutions[0]) // in_chans)
    return "", 1


def _ratio(width: int, hidden: int) -> float:
    """The number with fewest decimals for which int(width * number) == hidden."""
    for scale in (int(10**decimals) for decimals in range(16)):
        least = -(-hidden * scale // width)
        for ratio in (least / scale, (least + 1) / scale):  # rounding may make the first one fall short
            if int(width * ratio) == hidden:
                return ratio
    raise FormatError(f"no mlp_ratio gives MLPs of {hidden} channels at {width}")


def _img_size(
    state: Mapping[str, Tensor], config: Mapping[str, Any], published: list[tuple[int, int]]
) -> tuple[tuple[int, int] | None, str]:
    """(H, W), and what was assumed; None if it has to be asked for."""
    window, positions = config["window_size"], state.get("absolute_pos_embed")
    masks = [value for key, value in state.items() if key.endswith(".attn_mask") and value.ndim == 3]
    if masks:
        if (grid := _grid(masks[0])) is not None:
            return (grid[0] * window, grid[1] * window), ""
        return None, ""
    if not published and any(key.endswith(".relative_position_index") for key in state):
        # The official code stores masks, unless the image it was made for is no larger than a window.
        other = positions.shape[1] // window if positions is not None and positions.ndim == 3 else window
        note = (
            "" if positions is not None else "as it has no masks, no larger than a window, which are not shifted then."
        )
        return (window, max(other, 1)), note
    if positions is not None:
        side = math.isqrt(positions.shape[1]) if positions.ndim == 3 else 0
        square = side * side == positions.shape[-2] and side % window == 0
        return ((side, side), "as it has no masks, a square is assumed.") if square else (None, "")
    size = published[0] if published else (window * math.ceil(64 / window),) * 2
    return size, f"it is not in the tensors; {size[0]}x{size[1]} is assumed. It runs at any size."


def _grid(mask: Tensor) -> tuple[int, int] | None:
    """Rows and columns of windows: only those of the last row and the last column mask anything."""
    masked = mask.flatten(1).ne(0).any(1)
    if masked.any():
        columns = int(masked.int().argmax()) + 1
        rows = len(masked) // columns
        expected = torch.zeros(rows, columns, dtype=torch.bool)
        expected[-1:] = expected[:, -1:] = True
        return (rows, columns) if torch.equal(masked.cpu(), expected.flatten()) else None
    side = math.isqrt(len(masked))  # emptied, as some tools leave buffers
    return (side, side) if side * side == len(masked) else None
