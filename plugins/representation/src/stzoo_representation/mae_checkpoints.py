"""Checkpoints of masked autoencoders: Meta's files, and those of the library transformers in all its spellings.

Meta publishes encoders alone (``mae_pretrain_vit_base.pth``), encoders with decoders that draw normalised patches
(``mae_pretrain_vit_base_full.pth``) or pixels (``mae_visualize_vit_base.pth``), and classifiers
(``mae_finetuned_vit_base.pth``). transformers has named the same tensors in three ways: as on the Hub, as its fifth version
has them in memory, and as that one writes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_representation.mae import ImageEncoder, MaskedAutoencoder
from stzoo_representation.mae_published import DECODER, SIZES

_ASK_HEADS = {
    "num_heads": "how many attention heads the encoder has, which the tensors do not show",
    "decoder_num_heads": "how many attention heads the decoder has",
}
_LONG = {"q": "query", "k": "key", "v": "value"}
_TRANSFORMERS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^(vit\.)?embeddings\.", ""),
    (r"^position_embeddings$", "pos_embed"),
    (r"^patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(vit\.)?(encoder\.layer|layers)\.", "blocks."),
    (r"^(vit\.)?layernorm\.", "norm."),
    (r"^decoder\.(decoder_layers|decoder_encoder\.layer)\.", "decoder_blocks."),
    (r"^decoder\.", ""),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.([qkv])_proj\.", lambda found: f".attn.{_LONG[found[1]]}."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
"""Their names to Meta's, one after the other."""
_PARTS = ("query", "key", "value")


def official(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors under Meta's names, whichever spelling they come in; None if they are of no Vision Transformer with fixed
    positions. Raises FormatError where a query comes without its key and value."""
    if any(key.startswith("decoder_pred_quantile_list.") for key in state):  # VisionTS++: another network
        return None
    if "pos_embed" not in state:
        if not any(key.endswith("embeddings.position_embeddings") for key in state):
            return None
        state = _renamed(state)
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    return dict(state) if {"cls_token", "blocks.0.mlp.fc1.weight"} <= state.keys() else None


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names to Meta's, and queries, keys and values put together."""
    named: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for pattern, new in _TRANSFORMERS:
            key = re.sub(pattern, new, key)
        named[key] = tensor
    for key in [key for key in named if ".attn.query." in key]:
        parts = [named.pop(key.replace("query", part), None) for part in _PARTS]
        if any(part is None for part in parts):
            raise FormatError(f"this looks like a masked autoencoder, but {key} lacks its key or value")
        named[key.replace("query", "qkv")] = torch.cat([part for part in parts if part is not None])
    return named


class _Format:
    """What both forms share; a subclass says which network the tensors should fill."""

    name = "mae"
    description = "Meta's masked autoencoders, and those of transformers"
    what = ""

    def __init__(self) -> None:
        self.asks: dict[str, str] = {}
        """What the tensors that were detected cannot tell and nobody should assume."""
        self._notes: list[str] = []

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture. Raises FormatError where it is damaged, or
        cannot do what the architecture does."""
        found = official(state)
        if found is None:
            return None
        self.asks, self._notes = {}, []
        self.refuse(found)
        config = _encoder(found) | self.rest(found)
        published = next((item for item in SIZES.values() if all(config[key] == item[key] for key in _COMMON)), None)
        self._heads(config, "num_heads", published)
        if "decoder_depth" in config:
            self._heads(
                config,
                "decoder_num_heads",
                DECODER if config["decoder_embed_dim"] == DECODER["decoder_embed_dim"] else None,
            )
        built = {"num_heads": 1, "decoder_num_heads": 1} if "decoder_depth" in config else {"num_heads": 1}
        check_tensors(self.kept(found), partial(self.build(), **config | built), self.what)
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The network's tensors under Meta's names."""
        return self.kept(official(state) or {})

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return tuple(self._notes)

    def _heads(self, config: dict[str, Any], key: str, published: Mapping[str, Any] | None) -> None:
        if published is None:
            self.asks[key] = _ASK_HEADS[key]
            self._notes.append(f"{key}: it is not in the tensors; it was stated.")
        else:
            config[key] = published[key]
            self._notes.append(
                f"{key}: it is not in the tensors; {config[key]} is assumed, as all published ones have."
            )

    def refuse(self, state: Mapping[str, Tensor]) -> None:
        """Raise FormatError where the tensors are no such network's."""

    def rest(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The configuration besides the encoder's."""
        raise NotImplementedError

    def kept(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of the tensors, under Meta's names, that are the network's."""
        return dict(state)

    def build(self) -> type[nn.Module]:
        raise NotImplementedError


_COMMON = ("patch_size", "embed_dim", "depth")


class AutoencoderFormat(_Format):
    """Encoder and decoder."""

    what = "a masked autoencoder"

    def refuse(self, state: Mapping[str, Tensor]) -> None:
        if "decoder_pred.weight" not in state:
            holds = "a classifier" if "head.weight" in state else "the encoder alone"
            raise FormatError(
                f"this checkpoint holds {holds}: without a decoder nothing can be reconstructed",
                "Give one with a decoder (mae_visualize_*.pth, mae_pretrain_*_full.pth, facebook/vit-mae-*), or take it for "
                "features: architecture=mae-encoder",
            )

    def rest(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        self._notes.append(
            "norm_pix_loss: it is not in the tensors; False is assumed, as mae_visualize_*.pth and facebook/vit-mae-* were "
            "trained. mae_pretrain_*_full.pth was trained with True: state it, or its pictures come out grey."
        )
        return {
            "decoder_embed_dim": _shape(state, "decoder_embed.weight", 2)[0],
            "decoder_depth": _blocks(state, "decoder_blocks"),
            "norm_pix_loss": False,
        }

    def build(self) -> type[nn.Module]:
        return MaskedAutoencoder


class EncoderFormat(_Format):
    """The encoder: on its own, with a classifier, or taken out of a whole autoencoder."""

    name = "mae-encoder"
    description = "Encoders and classifiers of Meta's masked autoencoders, and the encoder in a whole one"
    derived = True
    what = "the encoder of a masked autoencoder"

    def rest(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "num_classes": len(state["head.weight"]) if "head.weight" in state else 0,
            "global_pool": "fc_norm.weight" in state,
        }

    def kept(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in state.items() if not key.startswith("decoder_") and key != "mask_token"}

    def build(self) -> type[nn.Module]:
        return ImageEncoder


# --- reading shapes ---------------------------------------------------------------------------------------------------


def _shape(state: Mapping[str, Tensor], key: str, dims: int) -> tuple[int, ...]:
    if key not in state or state[key].ndim != dims:
        raise FormatError(f"this looks like a masked autoencoder, but {key} is missing or malformed")
    return tuple(state[key].shape)


def _blocks(state: Mapping[str, Tensor], name: str) -> int:
    return len({match[1] for key in state if (match := re.match(rf"{name}\.(\d+)\.", key))})


def _encoder(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of the configuration that the encoder's tensors tell."""
    width, colours, patch, _ = _shape(state, "patch_embed.proj.weight", 4)
    count = _shape(state, "pos_embed", 3)[1] - 1
    side = math.isqrt(max(count, 0))
    if count < 1 or side * side != count:
        raise FormatError(f"this looks like a masked autoencoder, but its {count} positions are no square")
    return {
        "image_size": side * patch,
        "patch_size": patch,
        "in_chans": colours,
        "embed_dim": width,
        "depth": _blocks(state, "blocks"),
        "mlp_ratio": _shape(state, "blocks.0.mlp.fc1.weight", 2)[0] / width,
    }
