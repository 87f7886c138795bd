"""Checkpoints of the three networks in :mod:`stzoo_representation.siamese`: which one they hold, at which sizes.

The names of parameters are stzoo's, but for the wrapper that siamese-triplet puts around its network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_representation.siamese import ATTNet, EmbeddingNet, KochNet

_SIZE = "height and width that pictures are resized to"
_THRESHOLD = "threshold: it is not in the tensors; {} is assumed. Choose your own on validation data."


class _Format:
    """What the three share."""

    name: str
    build: Callable[..., nn.Module]

    def __init__(self) -> None:
        self.asks: dict[str, str] = {}
        """What the tensors that were detected cannot tell and nobody should assume."""

    def own(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The network's tensors under stzoo's names."""
        return dict(state)

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The parameters as they are. Raises FormatError: they are not those of one network."""
        found = self.own(state)
        check_tensors(found, lambda: self.build(**config), self.name)
        return found


class EmbeddingFormat(_Format):
    """siamese-triplet's SiameseNet, TripletNet and ClassificationNet, and the network inside of them."""

    name = "siamese-triplet"
    build = EmbeddingNet

    def own(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        prefix = "embedding_net." if "embedding_net.convnet.0.weight" in state else ""
        return {
            key.removeprefix(prefix): value
            for key, value in state.items()
            if key.startswith((f"{prefix}convnet.", f"{prefix}fc."))
        }

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None for other networks. Raises FormatError: it is this one, but incomplete."""
        found = self.own(state)
        if "convnet.0.weight" not in found or "fc.0.weight" not in found:
            return None
        convolutions = [found[key] for key in sorted(found, key=_number) if _is_weight(key, found, "convnet.", 4)]
        full = [found[key] for key in sorted(found, key=_number) if _is_weight(key, found, "fc.", 2)]
        kernel, channels = convolutions[0].shape[-1], convolutions[0].shape[1]
        config = {
            "channels": channels,
            "widths": tuple(item.shape[0] for item in convolutions),
            "kernel": kernel,
            "hidden": tuple(item.shape[0] for item in full[:-1]),
            "dimensions": full[-1].shape[0],
        }
        self.asks = {"l2": "whether vectors are divided by their lengths (EmbeddingNetL2: true)"}
        side = math.isqrt(places := full[0].shape[1] // convolutions[-1].shape[0])
        if side * side != places:
            return config | {"size": _ask(self.asks)}
        for _ in convolutions:
            side = 2 * side + kernel - 1
        return config | {"size": (side, side)}

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell."""
        return (
            "l2: it is not in the tensors; it was stated.",
            "size: up to a pixel for each pooling, and whether it is square, it is not in the tensors; "
            f"{config['size'][0]}x{config['size'][1]} is assumed.",
            "mean: it is not in the tensors; MNIST's is assumed.",
            "std: it is not in the tensors; MNIST's is assumed.",
            _THRESHOLD.format("0.25, half of the margin 1, squared,"),
        )


class ATTFormat(_Format):
    """harveyslash's SiameseNetwork."""

    name = "att-siamese"
    build = ATTNet

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None for other networks."""
        if "cnn1.1.weight" not in state or "fc1.4.weight" not in state:
            return None
        widths = tuple(
            state[key].shape[0] for key in ("cnn1.1.weight", "cnn1.5.weight", "cnn1.9.weight") if key in state
        )
        self.asks, side = {}, math.isqrt(places := state["fc1.0.weight"].shape[1] // widths[-1])
        return {
            "channels": state["cnn1.1.weight"].shape[1],
            "widths": widths,
            "hidden": state["fc1.0.weight"].shape[0],
            "dimensions": state["fc1.4.weight"].shape[0],
            "size": (side, side) if side * side == places else _ask(self.asks),
        }

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell."""
        return (
            "size: the tensors tell its area alone; a square is assumed.",
            _THRESHOLD.format("1, half of the margin 2, squared,"),
        )


class KochFormat(_Format):
    """fangpin's Siamese."""

    name = "koch"
    build = KochNet

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None for other networks. Raises FormatError: it is for other pictures."""
        if "liner.0.weight" not in state or "conv.9.weight" not in state:
            return None
        widths = tuple(
            state[f"conv.{index}.weight"].shape[0] for index in (0, 3, 6, 9) if f"conv.{index}.weight" in state
        )
        side = math.isqrt(places := state["liner.0.weight"].shape[1] // widths[-1])
        if side * side != places:
            raise FormatError("this looks like a checkpoint of Koch's network, but for pictures that are not square")
        side += 3
        for kernel in (4, 7, 10):
            side = 2 * side + kernel - 1
        return {
            "channels": state["conv.0.weight"].shape[1],
            "widths": widths,
            "dimensions": state["liner.0.weight"].shape[0],
            "size": (side, side),
        }

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell."""
        return (
            "size: the tensors tell it up to some pixels; the smallest is assumed.",
            "threshold: it is not in the tensors; a probability of one half is assumed.",
        )


def _ask(asks: dict[str, str]) -> tuple[int, int]:
    """Have the size asked for; stands for it until it is stated."""
    asks["size"] = _SIZE
    return (28, 28)


def _is_weight(key: str, state: Mapping[str, Tensor], prefix: str, axes: int) -> bool:
    return key.startswith(prefix) and key.endswith(".weight") and state[key].ndim == axes


def _number(key: str) -> tuple[str, int]:
    part, _, rest = key.partition(".")
    index = rest.partition(".")[0]
    return part, int(index) if index.isdigit() else -1
