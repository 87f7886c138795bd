"""Checkpoints of https://github.com/lucidrains/video-diffusion-pytorch: a denoiser alone, or what its Trainer saves.

The names of parameters are stzoo's. A Trainer's file has ``denoise_fn.`` before them, the tables of the noise schedule, which
follow from their length, and the averaged weights beside the last ones; these are taken. Under each attention over time is
the same table of rotary frequencies, which is a constant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_segmentation.diffusion import cosine_betas
from stzoo_segmentation.stunet import BUCKETS, ROTARY_BASE, Unet3D

_PREFIX = "denoise_fn."
_FREQUENCIES = ".rotary_emb.freqs"
_WHAT = "a video diffusion network"


class VideoDiffusionFormat:
    """State dicts of `Unet3D` and of `GaussianDiffusion`."""

    name = "video-diffusion-pytorch"
    description = "Unet3D of video-diffusion-pytorch, and what its Trainer saves"

    def __init__(self) -> None:
        self._notes: tuple[str, ...] = ()

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is this one, but incomplete, modified, or of another noise schedule.
        """
        parameters = _parameters(state)
        first = parameters.get("init_conv.weight")
        table = parameters.get("time_rel_pos_bias.relative_attention_bias.weight")
        if first is None or first.ndim != 5 or table is None or "time_mlp.1.weight" not in parameters:
            return None
        config = _network(parameters, first, table)
        check_tensors(parameters, partial(Unet3D, **config), _WHAT)
        _check_frequencies(state, config["attn_dim_head"])
        notes = [
            "frames: they are not in the tensors; 16 are assumed. It makes any number.",
            "patch: whether blocks of pixels were made channels cannot be told; 1 is assumed.",
            "channels: those of the clips are these of the network, unless there is a patch.",
        ]
        if "betas" in state:
            config["timesteps"] = _timesteps(state["betas"])
        else:
            config["timesteps"] = 1000
            notes.append("timesteps: they are not in the tensors; 1000 are assumed, and the cosine schedule.")
        side = max(32, 8 * 2 ** (len(config["dim_mults"]) - 1))
        notes.append(f"size: it is not in the tensors; {side}x{side} pixels are assumed. It makes clips of any size.")
        self._notes = tuple(notes)
        return config | {"frames": 16, "patch": 1, "size": (side, side)}

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The parameters, without what follows from the configuration."""
        return _parameters(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return self._notes


def _parameters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inside = any(key.startswith(_PREFIX) for key in state)
    kept = {key: value for key, value in state.items() if not key.endswith(_FREQUENCIES)}
    return {key.removeprefix(_PREFIX): value for key, value in kept.items() if key.startswith(_PREFIX) or not inside}


def _network(state: Mapping[str, Tensor], first: Tensor, table: Tensor) -> dict[str, Any]:
    """The arguments of :class:`Unet3D`."""

    def rows(key: str) -> int:
        if key not in state or not state[key].ndim:
            raise FormatError(f"this looks like a checkpoint of {_WHAT}, but {key} is missing")
        return int(state[key].shape[0])

    levels = {int(match[1]) for key in state if (match := re.match(r"downs\.(\d+)\.", key))}
    dim, heads = rows("time_mlp.1.weight") // 4, int(table.shape[-1])
    if table.ndim != 2 or table.shape[0] != BUCKETS or not dim or not heads:
        raise FormatError(f"this looks like a checkpoint of {_WHAT}, but its tables are of other shapes")
    mults = [rows(f"downs.{level}.0.block1.proj.weight") / dim for level in sorted(levels)]
    if any(mult != int(mult) for mult in mults):
        raise FormatError(f"this looks like a checkpoint of {_WHAT}, but its levels are no multiples of {dim} channels")
    channels, out = int(first.shape[1]), rows("final_conv.1.weight")
    return {
        "dim": dim,
        "dim_mults": tuple(map(int, mults)),
        "channels": channels,
        "out_dim": out if out != channels else None,
        "init_dim": len(first) if len(first) != dim else None,
        "init_kernel_size": int(first.shape[-1]),
        "attn_heads": heads,
        "attn_dim_head": rows("init_temporal_attn.fn.fn.fn.to_qkv.weight") // (3 * heads),
        "cond_dim": int(state["null_cond_emb"].shape[-1]) if "null_cond_emb" in state else None,
        "use_sparse_linear_attn": "downs.0.2.fn.fn.to_qkv.weight" in state,
    }


def _check_frequencies(state: Mapping[str, Tensor], features: int) -> None:
    """Raise FormatError if rotary frequencies were learnt, or made otherwise."""
    turned = min(features, 32)
    expected = ROTARY_BASE ** -(torch.arange(0, turned, 2) / turned)
    for key, value in state.items():
        if key.endswith(_FREQUENCIES) and (
            value.shape != expected.shape or not torch.allclose(value.float(), expected, rtol=1e-2, atol=1e-6)
        ):
            raise FormatError(
                f"this looks like a checkpoint of {_WHAT}, but {key} has other rotary frequencies than are known",
                "Only the constant ones, of base 10,000, are read",
            )


def _timesteps(betas: Tensor) -> int:
    expected = torch.from_numpy(cosine_betas(max(len(betas), 1)))
    if betas.ndim != 1 or not torch.allclose(betas.double(), expected, rtol=1e-2, atol=1e-5):
        raise FormatError(f"this looks like a checkpoint of {_WHAT}, but its noise schedule is not the cosine one")
    return len(betas)
