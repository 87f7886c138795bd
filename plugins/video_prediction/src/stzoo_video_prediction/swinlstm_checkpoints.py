"""Checkpoints of SwinLSTM, of the official code and of OpenSTL."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_video_prediction.openstl import shortest_ratio
from stzoo_video_prediction.swinlstm import SwinLSTM

_UNUSED = r"Upsample\.patch_embed\..*|.*\.(?:layers|STBs)\.\d*[13579]\.red\.(?:weight|bias)"
_BUFFERS = r".*\.(?:attn_mask|attn\.relative_position_index)"
_BLOCK = r"(?:Swin\.layers|STBs)\.(?P<block>\d+)\."
_RULES = (
    (r"(?:Downsample|ST)\.patch_embed\.", "embed."),
    (r"(?:Upsample\.Unembed\.Conv|ST\.PatchInflated\.ConvT|ST\.patch_inflated\.Conv)\.", "unembed."),
    (rf"(?:Downsample|ST)\.layers\.(?P<cell>\d+)\.{_BLOCK}", "cells.{cell}.blocks.{block}."),
    (rf"ST\.layer\.{_BLOCK}", "cells.0.blocks.{block}."),
    (rf"Upsample\.layers\.(?P<up>\d+)\.{_BLOCK}", "cells.{up}.blocks.{block}."),
    (r"Downsample\.downsample\.(?P<cell>\d+)\.", "resamples.{cell}."),
    (r"Upsample\.upsample\.(?P<up>\d+)\.", "resamples.{up}."),
)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under stzoo's names: without buffers and what the official code does not use, with unknown names as they are."""
    downs = len({match[1] for key in state if (match := re.match(r"Downsample\.layers\.(\d+)\.", key))})
    named = {}
    for key, value in state.items():
        if re.fullmatch(f"{_UNUSED}|{_BUFFERS}", key):
            continue
        for pattern, name in _RULES:
            if match := re.match(pattern, key):
                found = match.groupdict()
                if "up" in found:
                    found["up"] = str(int(found["up"]) + downs)
                key = name.format(**found) + key[match.end() :]
                break
        named[key] = value
    return named


class OfficialSwinLSTM:
    """SwinLSTM-B and SwinLSTM-D of the official code and of OpenSTL."""

    name = "swinlstm"
    description = "SwinLSTM-B or -D, of the official code or of OpenSTL"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is SwinLSTM's, but incomplete or modified.
        """
        block = r"(?:ST|Downsample)\.layers?\.(?:\d+\.)?(?:Swin\.layers|STBs)\.0\.attn\.qkv\.weight"
        if not any(re.fullmatch(block, key) for key in state):
            return None
        model_type = "d" if any(key.startswith("Downsample.") for key in state) else "b"
        named = _renamed(state)

        def shape(key: str, dims: int) -> tuple[int, ...]:
            if key not in named or named[key].ndim != dims:
                raise FormatError(f"this looks like an official SwinLSTM checkpoint, but {key} is missing or malformed")
            return tuple(named[key].shape)

        def count(pattern: str) -> int:
            return len({match[1] for key in named if (match := re.match(pattern, key))})

        embed_dim, channels, patch, _ = shape("embed.proj.weight", 4)
        cells = count(r"cells\.(\d+)\.")
        depths = tuple(count(rf"cells\.{i}\.blocks\.(\d+)\.") for i in range(cells))
        tables = [shape(f"cells.{i}.blocks.0.attn.relative_position_bias_table", 2) for i in range(cells)]
        windows = [(math.isqrt(rows) + 1) // 2 for rows, _ in tables]
        half = cells // 2 if model_type == "d" else cells
        mlps = [shape(f"cells.{i}.blocks.0.mlp.fc1.weight", 2) for i in range(cells)]
        levels = [*range(half), *range(half, 0, -1)] if model_type == "d" else [0] * cells
        multiple = patch * math.lcm(*(window << level for window, level in zip(windows, levels, strict=True)))
        side = _native_side(state, windows, levels, patch) or -(-64 // multiple) * multiple
        config: dict[str, Any] = {
            "in_shape": (10, channels, side, side),
            "frames_out": 10,
            "model_type": model_type,
            "patch_size": patch,
            "embed_dim": embed_dim,
            "window_size": max(windows),
            "heads": tuple(heads for _, heads in tables[:half]),
            **(
                {"depths": depths}
                if model_type == "b"
                else {"depths_down": depths[:half], "depths_up": depths[: half - 1 : -1]}
            ),
            "mlp_ratio": shortest_ratio([(dim, hidden) for hidden, dim in mlps]),
            "drop": 0.0,
            "attn_drop": 0.0,
            "drop_path": 0.1,
        }
        check_tensors(named, functools.partial(SwinLSTM, **config), "the official SwinLSTM")
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same tensors under stzoo's names, without those that take no part."""
        return _renamed(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        frames, _, height, width = config["in_shape"]
        return (
            f"in_shape: how many frames it was trained on is not in the tensors, {frames} is assumed; a size of "
            f"{height}x{width} was recovered from its attention masks, or assumed if it has none.",
            f"frames_out: how many frames it was trained to predict is not in the tensors; {config['frames_out']} is "
            "assumed.",
            "drop, attn_drop and drop_path only act in training; the official 0, 0 and 0.1 are assumed.",
            "The training data and its scaling are not in the tensors; frames in [0, 1] are assumed.",
        )


def _native_side(state: Mapping[str, Tensor], windows: Sequence[int], levels: Sequence[int], patch: int) -> int | None:
    """Pixels of the (square) frames it was trained at, as far as its buffers and windows tell.

    Raises:
        FormatError: they contradict each other.
    """
    prefixes: list[str] = []
    for part in ("Downsample", "Upsample", "ST"):
        found = {
            match[0]
            for key in state
            if (match := re.match(rf"{part}\.layers?\.(?:\d+\.)?(?:Swin\.layers|STBs)\.", key))
        }
        prefixes += sorted(found, key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])
    sides = set()
    for prefix, window, level in zip(prefixes, windows, levels, strict=True):
        mask = state.get(f"{prefix}1.attn_mask")
        # Shifted blocks have masks, except where the map is no larger than the window; some versions store no buffers.
        unshifted = mask is None and f"{prefix}1.attn.relative_position_index" in state
        if mask is not None:
            sides.add(math.isqrt(len(mask)) * window * patch << level)
        elif unshifted or window < max(windows):
            sides.add(window * patch << level)
    if len(sides) > 1:
        raise FormatError(
            f"this looks like an official SwinLSTM checkpoint, but its masks are of frames of {sorted(sides)} pixels"
        )
    return sides.pop() if sides else None
