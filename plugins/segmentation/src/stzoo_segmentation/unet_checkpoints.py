"""Checkpoints of the well-known 2-D U-Nets: which network they hold, and their tensors under stzoo's names.

What the tensors cannot tell is asked for, or assumed and said in the load report's notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_segmentation.unet import UNet


class _UNetFormat:
    """What the formats share: a table of the names of modules, and the proof that the recovered config fits."""

    name: ClassVar[str]
    mark: ClassVar[str]
    """A tensor by which the format is known: the first convolution's weight."""
    head: ClassVar[str]
    """The last convolution's weight."""
    asks: ClassVar[Mapping[str, str]] = {}

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The part of the configuration that this format tells in its own way."""
        raise NotImplementedError

    def modules(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Names of modules with parameters: stzoo's, and the format's."""
        raise NotImplementedError

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is of this format, but incomplete or modified.
        """
        if (first := state.get(self.mark)) is None or first.ndim != 4:
            return None
        if (last := state.get(self.head)) is None or last.ndim != 4:
            raise FormatError(f"this looks like a checkpoint of {self.name}, but {self.head} is missing or malformed")
        shared = {"in_channels": first.shape[1], "width": first.shape[0], "out_channels": last.shape[0]}
        config = shared | self.network(state)
        assumed: dict[str, Any] = dict.fromkeys(self.asks, "same")
        check_tensors(self.convert(state, config), partial(UNet, **assumed | config), self.name)
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same tensors under stzoo's names.

        A convolution's bias in front of batch norm, which earlier versions of these codes had, goes into the running mean:
        batch norm takes it away again.
        """
        own = {theirs: ours for ours, theirs in self.modules(config)}
        found = {}
        for key, tensor in state.items():
            module, _, leaf = key.rpartition(".")
            found[f"{own.get(module, module)}.{leaf}"] = tensor
        if config["norm"] == "before":
            for key in [key for key in found if re.fullmatch(r"(down\.\d+|up\.\d+\.block)\.conv\d\.bias", key)]:
                mean = key.replace("conv", "norm").replace("bias", "running_mean")
                if mean in found:
                    found[mean] = found[mean] - found.pop(key)
        return found

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return (
            "classes: their names are not in the tensors.",
            "dropout: it only acts in training; 0 is assumed.",
            f"mean: it is not in the tensors; {config['mean']} is assumed.",
            f"std: it is not in the tensors; {config['std']} is assumed.",
            f"scale: by which pictures are reduced first is not in the tensors; {config['scale']:g} is assumed.",
            f"normalise: it is not in the tensors; {config['normalise']!r} is assumed.",
        )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for key in state if (match := re.match(pattern, key))})


class JvanvugtUNet(_UNetFormat):
    """State dicts of https://github.com/jvanvugt/pytorch-unet."""

    name = "jvanvugt's U-Net"
    mark, head = "down_path.0.block.0.weight", "last.weight"
    asks: ClassVar[Mapping[str, str]] = {
        "padding": '"valid" (its padding=False, the default and the paper\'s) or "same" (its padding=True)'
    }

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "depth": _count(state, r"down_path\.(\d+)\."),
            "norm": "after" if "down_path.0.block.2.running_mean" in state else "none",
            "up": "transposed" if "up_path.0.up.weight" in state else "bilinear-conv",
            "join": "crop",
            "activation": "none",
        }

    def modules(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        parts = (
            {"conv1": 0, "conv2": 2} if config["norm"] == "none" else {"conv1": 0, "norm1": 2, "conv2": 3, "norm2": 5}
        )
        for part, number in parts.items():
            for level in range(config["depth"]):
                yield f"down.{level}.{part}", f"down_path.{level}.block.{number}"
                yield f"up.{level}.block.{part}", f"up_path.{level}.conv_block.block.{number}"
        for level in range(config["depth"] - 1):
            yield f"up.{level}.up", f"up_path.{level}.up" + (".1" if config["up"] == "bilinear-conv" else "")
        yield "head", "last"

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return (*super().unknown(config), "padding: it is not in the tensors; it was stated.")


class MilesialUNet(_UNetFormat):
    """State dicts of https://github.com/milesial/Pytorch-UNet; their list ``mask_values`` is left out."""

    name = "milesial's U-Net"
    mark, head = "inc.double_conv.0.weight", "outc.conv.weight"

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "depth": 1 + _count(state, r"down(\d+)\."),
            "padding": "same",
            "norm": "before",
            "up": "transposed" if "up1.up.weight" in state else "bilinear",
            "join": "pad",
            "activation": "none",
        }

    def modules(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for part, number in {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}.items():
            yield f"down.0.{part}", f"inc.double_conv.{number}"
            for level in range(1, config["depth"]):
                yield f"down.{level}.{part}", f"down{level}.maxpool_conv.1.double_conv.{number}"
                yield f"up.{level - 1}.block.{part}", f"up{level}.conv.double_conv.{number}"
        for level in range(1, config["depth"]):
            yield f"up.{level - 1}.up", f"up{level}.up"
        yield "head", "outc.conv"


class BrainUNet(_UNetFormat):
    """State dicts of https://github.com/mateuszbuda/brain-segmentation-pytorch, whose output is a probability."""

    name = "mateuszbuda's U-Net"
    mark, head = "encoder1.enc1conv1.weight", "conv.weight"

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "depth": 1 + _count(state, r"encoder(\d+)\."),
            "padding": "same",
            "norm": "before",
            "up": "transposed",
            "join": "crop",
            "activation": "sigmoid",
            "normalise": "image",
        }

    def modules(self, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        last = config["depth"] - 1
        for part in ("conv1", "norm1", "conv2", "norm2"):
            yield f"down.{last}.{part}", f"bottleneck.bottleneck{part}"
            for level in range(1, last + 1):
                yield f"down.{level - 1}.{part}", f"encoder{level}.enc{level}{part}"
                yield f"up.{last - level}.block.{part}", f"decoder{level}.dec{level}{part}"
        for level in range(1, last + 1):
            yield f"up.{last - level}.up", f"upconv{level}"
        yield "head", "conv"
