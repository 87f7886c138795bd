"""Checkpoints of VisionTS: its own files, whose tensors are under ``vision_model.``, the masked autoencoders that it starts from,
and VisionTS++."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stzoo.errors import FormatError
from stzoo_representation.mae_checkpoints import AutoencoderFormat
from stzoo_representation.visionts_pp import LEVELS

_PREFIX = "vision_model."
_HEADS = "decoder_pred_quantile_list."
_NOT_OURS = ("in_chans", "norm_pix_loss")


class VisionTSFile:
    """What the official class saves, on its own or inside of another module (``vm.vision_model.``)."""

    name = "visionts"
    description = "VisionTS as its authors' class saves it"

    def __init__(self) -> None:
        self.inner = AutoencoderFormat()
        self.asks: Mapping[str, str] = {}

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The masked autoencoder's tensors; None if the state dict is of something else."""
        found = {key.partition(_PREFIX)[2]: value for key, value in state.items() if _PREFIX in key}
        return None if any(key.startswith(_HEADS) for key in found) else found or None

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration. Raises FormatError where tensors are missing, or if its pictures have no three colours."""
        network = self.network(state)
        config = (
            self.inner.detect({key: value for key, value in network.items() if _HEADS not in key}) if network else None
        )
        if config is None:
            return None
        if config["in_chans"] != 3:
            raise FormatError(f"this autoencoder is for pictures of {config['in_chans']} colours, VisionTS has 3")
        self.asks = self.inner.asks
        return {key: value for key, value in config.items() if key not in _NOT_OURS}

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors under ``vision_model.``"""
        network = self.network(state) or {}
        plain = self.inner.convert({key: value for key, value in network.items() if _HEADS not in key}, config)
        heads = {key: value for key, value in network.items() if _HEADS in key}
        return {_PREFIX + key: value for key, value in (plain | heads).items()}

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        notes = [note for note in self.inner.unknown(config) if not note.startswith(_NOT_OURS)]
        for key in ("norm", "align", "interpolation"):
            notes.append(f"{key}: it is not in the tensors; {config[key]} is assumed, or was stated.")
        return tuple(notes)


class MAEFile(VisionTSFile):
    """A masked autoencoder of pictures, zero-shot. Those that were trained on pixels forecast (mae_visualize_*.pth)."""

    name = "visionts-zero-shot"
    description = "Masked autoencoders of pictures, which VisionTS takes as they are"
    derived = True

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        return None if any(_PREFIX in key or key.startswith(_HEADS) for key in state) else dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return (
            *super().unknown(config),
            "targets: it is not in the tensors whether it learnt to paint pixels, as mae_visualize_*.pth did, or normalised "
            "patches, as mae_pretrain_*_full.pth did; the latter forecast badly.",
        )


class VisionTSppFile(VisionTSFile):
    """VisionTS++, with or without the prefix; its median's head is called ``decoder_pred_1`` in the published file."""

    name = "visionts-pp"
    description = "VisionTS++ as its authors publish it"

    def network(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        found = {
            key.rpartition(_PREFIX)[2].replace("decoder_pred_1.", "decoder_pred."): value
            for key, value in state.items()
        }
        count = len({key.split(".")[1] for key in found if key.startswith(_HEADS)})
        if count not in (0, len(LEVELS)):
            raise FormatError(
                f"this looks like a checkpoint of VisionTS++, but it has {count} heads for quantiles, not {len(LEVELS)}"
            )
        return {key: value for key, value in found.items() if key != "mask"} if count else None
