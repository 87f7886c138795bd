"""Checkpoints of PhyDNet, of the official code and of OpenSTL."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_video_prediction.phydnet import PhyDNet


class OfficialPhyDNet:
    """The state dict of the official EncoderRNN; its names are stzoo's."""

    name = "phydnet"
    description = "PhyDNet's EncoderRNN (encoder_phydnet.pth)"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is PhyDNet's, but incomplete or modified.
        """
        return detected(state, "official PhyDNet") if "encoder_E.c1.main.0.weight" in state else None

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        frames, _, height, width = config["in_shape"]
        return (
            f"patch_size: the strides are not in the tensors; {config['patch_size']} is assumed, as in most published "
            "configurations with so many channels; those of weather and BAIR have 2. A wrong one gives wrong frames: state it "
            "if it was trained otherwise.",
            f"in_shape: length and size it was trained at are not in the tensors; {frames} frames of {height}x{width} are "
            f"assumed. It runs at any length, and at any multiple of {config['patch_size']} pixels.",
            f"frames_out: how far it was trained to predict is not in the tensors; {config['frames_out']} is assumed.",
            "The training data and its scaling are not in the tensors; frames in [0, 1] are assumed.",
        )


class OpenSTLPhyDNet(OfficialPhyDNet):
    """OpenSTL's PhyDNet_Model: the official names below `encoder.`, both branches a second time, and constants of K2M."""

    name = "openstl-phydnet"
    description = "OpenSTL PhyDNet_Model"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is PhyDNet's, but incomplete or modified.
        """
        own, others = self.split(state)
        if "encoder_E.c1.main.0.weight" not in own:
            return None
        copies = {key for key in own if key.startswith(("phycell.", "convcell."))}
        unexpected = others - copies - {f"k2m.{name}" for name in ("_M0", "_invM0", "_M1", "_invM1")}
        if unexpected:
            raise FormatError(f"this looks like an OpenSTL PhyDNet checkpoint, but it also holds {min(unexpected)}")
        return detected(own, "OpenSTL PhyDNet")

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors below `encoder.`: on loading, OpenSTL lets them win over the copies, which are the same tensors.

        Raises:
            FormatError: a copy differs.
        """
        own, others = self.split(state)
        for key in others & own.keys():
            if not torch.equal(state[key], own[key]):
                raise FormatError(
                    f"the OpenSTL PhyDNet checkpoint holds {key} twice, with different values",
                    "Was it modified? Remove the copy that is not below `encoder.`",
                )
        return own

    @staticmethod
    def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
        """The tensors below `encoder.` under their official names, and the names of all others."""
        own = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
        return own, {key for key in state if not key.startswith("encoder.")}


def detected(state: Mapping[str, Tensor], what: str) -> dict[str, Any]:
    """The configuration of a PhyDNet from its tensors, proved by building it (on meta).

    Raises:
        FormatError: tensors are missing, too many, or of a shape that does not fit the others.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state or state[key].ndim != 4:
            raise FormatError(f"this looks like an {what} checkpoint, but {key} is missing or malformed")
        return tuple(state[key].shape)

    nf, channels, _, _ = shape("encoder_E.c1.main.0.weight")
    layers = len({key.split(".")[2] for key in state if key.startswith("convcell.cell_list.")})
    # The strides leave no trace. Published configurations with 2 or 12 channels have 2, most of the others 4.
    taxi = channels in (2, 12)
    config = {
        "in_shape": (4, channels, 32, 32) if taxi else (10, channels, 64, 64),
        "frames_out": 4 if taxi else 10,
        "patch_size": 2 if taxi else 4,
        "nf": nf,
        "kernel_size": shape("phycell.cell_list.0.F.conv1.weight")[-1],
        "hidden_dims": tuple(shape(f"convcell.cell_list.{i}.conv.weight")[0] // 4 for i in range(layers)),
    }
    check_tensors(state, functools.partial(PhyDNet, **config), what)
    return config
