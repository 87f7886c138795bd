"""U-Net with a classification network as its encoder, which may be pretrained.

The design of segmentation_models.pytorch (https://github.com/qubvel-org/segmentation_models.pytorch, MIT, 0.5), whose
state-dict keys and numerics are kept: features are enlarged by repeating pixels, to exactly the size of those of the encoder
that they are joined with, so pictures of any size go through. Squeeze and excitation: Roy et al., MICCAI 2018
(arXiv:1803.02579).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError, FormatError, InputError
from stzoo.formats import check_tensors
from stzoo_segmentation import encoders
from stzoo_segmentation.unet import check_classes, prepared

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""What pretrained encoders are used to: of RGB in [0, 1]."""
FAR = 128
"""Pixels beyond which nothing is expected to matter: deep encoders reach hundreds further, with next to no weight (Luo et al.,
NeurIPS 2016). In tiles their classes may so differ from those of the whole picture where two are about as likely."""
ACTIVATIONS = ("none", "sigmoid", "softmax")


class Excitation(nn.Module):
    """Features weighted by channel and, beside that, by place (scSE); their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cSE = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 16, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 16, channels, 1),
            nn.Sigmoid(),
        )
        self.sSE = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cSE(x) + x * self.sSE(x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Excitation, or nothing."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.attention: nn.Module = Excitation(channels) if kind == "scse" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x)  # type: ignore[no-any-return]


def _convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class DecoderBlock(nn.Module):
    """Features enlarged, joined with the encoder's where there are some of that size, and two convolutions."""

    def __init__(self, channels_in: int, skip: int, channels_out: int, attention: str) -> None:
        super().__init__()
        self.conv1 = _convolution(channels_in + skip, channels_out)
        self.attention1 = Attention(attention, channels_in + skip)
        self.conv2 = _convolution(channels_out, channels_out)
        self.attention2 = Attention(attention, channels_out)

    def forward(self, x: Tensor, skip: Tensor | None, size: Sequence[int]) -> Tensor:
        x = F.interpolate(x, size=tuple(size), mode="nearest")
        if skip is not None:
            x = self.attention1(torch.cat((x, skip), 1))
        return self.attention2(self.conv2(self.conv1(x)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """From the encoder's smallest features to the picture's size."""

    def __init__(self, encoder: Sequence[int], channels: Sequence[int], attention: str, *, center: bool) -> None:
        super().__init__()
        last = encoder[-1]
        self.center: nn.Module = (
            nn.Sequential(_convolution(last, last), _convolution(last, last)) if center else nn.Identity()
        )
        skips = [*encoder[-2::-1], 0]
        self.blocks = nn.ModuleList(
            DecoderBlock(before, skip, after, attention)
            for before, skip, after in zip([last, *channels[:-1]], skips, channels, strict=True)
        )

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        x, skips = self.center(features[-1]), features[-2::-1]
        for index, block in enumerate(self.blocks):
            skip = skips[index] if index < len(skips) else None
            x = block(x, skip, size if skip is None else skip.shape[-2:])
        return x  # type: ignore[no-any-return]


class SMPUNet(nn.Module):
    """The network.

    Args:
        encoder: a name of :data:`stzoo_segmentation.encoders.NAMES`.
        encoder_depth: how often the encoder halves the resolution, 1 to 5.
        decoder_channels: of the decoder's blocks, as many as ``encoder_depth``.
        attention: "scse" in the decoder, or "none".
        in_channels, out_channels: of the picture, and of the result: one per class, or 1 for two classes.
        labels: classes of a second result, of the whole picture, from the encoder's smallest features; 0: none.
        dropout: before those.
        activation: "none", "sigmoid" or "softmax" of the result.
        classes: names of the classes, by number; for one channel out, two names.
        preparation: ``normalise``, ``mean``, ``std``, ``scale`` of :class:`stzoo_segmentation.pipeline.Preparation`.

    Raises:
        ConfigError: a value is none of these, or values do not go together.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        encoder_depth: int = 5,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        attention: str = "none",
        in_channels: int = 3,
        out_channels: int = 1,
        labels: int = 0,
        dropout: float = 0.2,
        activation: str = "none",
        classes: Sequence[str] = (),
        **preparation: Any,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("encoder", encoder, encoders.NAMES),
            ("attention", attention, ("none", "scse")),
            ("activation", activation, ACTIVATIONS),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")
        if not 1 <= encoder_depth <= 5 or min(in_channels, out_channels) < 1 or labels < 0:
            raise ConfigError("encoder_depth must be 1 to 5, channels at least 1 and labels at least 0")
        if len(decoder_channels) != encoder_depth or min(decoder_channels) < 1:
            raise ConfigError(
                f"decoder_channels={tuple(decoder_channels)} for an encoder_depth of {encoder_depth}",
                "Give one number of channels for each time that the resolution is halved",
            )
        if attention == "scse" and min(decoder_channels) < 16:
            raise ConfigError(
                f"attention='scse' has a sixteenth of the channels inside, none of {min(decoder_channels)}",
                "Give at least 16 decoder_channels at each level, or attention='none'",
            )
        check_classes(classes, out_channels)
        self.in_channels, self.activation = in_channels, activation
        self.preparation = prepared(preparation, in_channels)
        self.encoder = encoders.build(encoder, in_channels, encoder_depth)
        channels = self.encoder.channels
        self.decoder = Decoder(channels, decoder_channels, attention, center=encoder.startswith("vgg"))
        head = nn.Conv2d(decoder_channels[-1], out_channels, 3, padding=1)
        self.segmentation_head = nn.Sequential(head)
        self.classification_head: nn.Sequential | None = None
        if labels:
            self.classification_head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1], labels)
            )
        strides = [1 << level for level in range(encoder_depth + 1)]
        center = 2 * strides[-1] if encoder.startswith("vgg") else 0
        reach = self.encoder.reach + center + 3 * sum(strides[:-1]) + 1
        self.requirements = Requirements(
            channels=in_channels,
            multiple=strides[-1],
            classes=tuple(classes),
            reach=None
            if attention == "scse"
            else min(reach, FAR),  # scSE's weights of channels come from the whole picture
            seam=1e-5 if reach <= FAR else 1.0,
        )
        for module in self.encoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.decoder.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
        nn.init.xavier_uniform_(head.weight)

    def features(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K, H, W), and the encoder's features. Raises InputError for another number of channels."""
        if picture.ndim != 4 or picture.shape[1] != self.in_channels or not picture.numel():
            raise InputError(
                f"a picture of shape {tuple(picture.shape)}, the network takes (batch, {self.in_channels}, height, width)",
                f"Give pictures of {self.in_channels} channel(s)",
            )
        features = self.encoder(picture)
        return self.segmentation_head(self.decoder(features, picture.shape[-2:])), features

    def logits(self, picture: Tensor) -> Tensor:
        """Scores before any activation, (B, K, H, W), of pictures of any size."""
        return self.features(picture)[0]

    def forward(self, picture: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pictures (B, C, H, W), prepared, to the result (B, K, H, W); with ``labels``, also logits (B, labels)."""
        scores, features = self.features(picture)
        if self.activation != "none":
            scores = scores.sigmoid() if self.activation == "sigmoid" else scores.softmax(1)
        return scores if self.classification_head is None else (scores, self.classification_head(features[-1]))


# --- checkpoints ------------------------------------------------------------------------------------------------------


class OfficialSMPUNet:
    """State dicts of segmentation_models.pytorch's ``Unet``; names are kept, the configuration comes from the tensors."""

    name = "segmentation_models.pytorch's Unet"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is a U-Net of that library, but incomplete, or with an encoder or options that are not known here.
        """
        if "decoder.blocks.0.conv1.0.weight" not in state or "segmentation_head.0.weight" not in state:
            return None
        own = [key.removeprefix("encoder.") for key in state if key.startswith("encoder.")]
        if not (encoder := encoders.recognised(own)):
            raise FormatError(
                f"this looks like a checkpoint of {self.name}, with an encoder that is not known",
                f"Known are {', '.join(encoders.NAMES)}",
            )
        widths = list(_channels(state))
        first = state["encoder.conv1.weight" if encoder in encoders.RESNETS else "encoder.features.0.weight"]
        head = state.get("classification_head.3.weight")
        config: dict[str, Any] = {
            "encoder": encoder,
            "encoder_depth": len(widths),
            "decoder_channels": tuple(widths),
            "attention": "scse" if any(".attention.cSE." in key for key in state) else "none",
            "in_channels": first.shape[1],
            "out_channels": state["segmentation_head.0.weight"].shape[0],
            "labels": 0 if head is None else head.shape[0],
        }
        check_tensors(state, partial(SMPUNet, **config), self.name)
        return config | (IMAGENET if config["in_channels"] == 3 else {})

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return (
            "activation: it is not in the tensors; 'none' is assumed.",
            "classes: their names are not in the tensors.",
            "dropout: it only acts in training; 0.2 is assumed.",
            f"mean: it is not in the tensors; {config['mean']} is assumed, ImageNet's for three channels.",
            f"std: it is not in the tensors; {config['std']} is assumed, ImageNet's for three channels.",
            "normalise: it is not in the tensors; 'fixed' is assumed.",
            "scale: it is not in the tensors; 1 is assumed.",
        )


def _channels(state: Mapping[str, Tensor]) -> Iterator[int]:
    index = 0
    while (weight := state.get(f"decoder.blocks.{index}.conv1.0.weight")) is not None:
        yield weight.shape[0]
        index += 1


class PretrainedEncoder:
    """Weights of torchvision's ResNet or VGG, for an encoder: the decoder and the head are left untrained.

    ``stzoo.import_checkpoint("resnet34.pth", "smp-unet", out_channels=11)``, from a file, an address or the Hub, and
    ``save(folder)`` give what ``stzoo finetune`` starts from.
    """

    name = "a pretrained encoder"
    asks = {"out_channels": "how many classes the U-Net around this encoder is to tell apart (1: two)"}  # noqa: RUF012

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The encoder's name; None if the state dict is of another network."""
        if not ({"fc.weight", "classifier.6.weight"} & state.keys()) or not (
            encoder := encoders.recognised(list(state))
        ):
            return None
        check_tensors(_encoder(state), partial(encoders.build, encoder, 3, 5), encoder)
        return {"encoder": encoder, "in_channels": 3, **IMAGENET}

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """A whole network's tensors: these, and initial ones.

        For other channels than RGB the first convolution's weights are the mean over colours, so that grey gives what it gave.
        """
        own = {f"encoder.{key}": value for key, value in _encoder(state).items()}
        first, channels = next(iter(own)), config["in_channels"]
        if channels != own[first].shape[1]:
            own[first] = own[first].sum(1, keepdim=True).repeat(1, channels, 1, 1) / channels
        torch.manual_seed(0)
        return SMPUNet(**config).state_dict() | own

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What is not in the file."""
        return ("decoder: it is untrained, and so is the head: finetune it.", "out_channels: it was stated.")


def _encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the classifier."""
    return {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
