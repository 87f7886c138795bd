"""Official checkpoints: what others publish, one row for each file. ``stzoo import NAME`` brings and converts one.

Two U-Nets for Carvana's cars, of milesial's release v3.0 (https://github.com/milesial/Pytorch-UNet), and one for tumours in
MRI of the brain, of mateuszbuda's release v1.0 (https://github.com/mateuszbuda/brain-segmentation-pytorch).
"""

from __future__ import annotations

from typing import Any

from stzoo import Measurement, Model, Requirements, Source

_PAPER = "https://arxiv.org/abs/1505.04597"
_CARVANA = "https://github.com/milesial/Pytorch-UNet/releases/download/v3.0"
_BRAIN = "https://github.com/mateuszbuda/brain-segmentation-pytorch/releases/download/v1.0"

_CARVANA_CARD = """\
## Intended use

Cutting cars out of photographs like Carvana's: one car, from the side of a studio. Pictures are reduced to {scale} of their size
first, as in training; values stay in [0, 1], without mean and deviation.

## Training data

Carvana Image Masking Challenge (Kaggle, 2017): about 5,000 photographs.

## Limitations

The weights are published with code under GPL-3.0, and no other terms: what is made with them may be bound by it. What stzoo
runs is its own code. Other scenes were never seen.
"""
_BRAIN_CARD = """\
## Intended use

Finding lower-grade glioma in slices of MRI of the brain. The three channels are the sequences before contrast, FLAIR and after
contrast, in this order, at 256x256 pixels. Not a medical device.

## How to prepare slices: of the whole volume

In training each volume, not each slice, was cropped to where it is brighter than a tenth of its maximum, padded to squares,
resized to 256 pixels, stretched from its 10th to its 99th percentile, and brought to mean 0 and deviation 1 for each channel.
A single picture does not tell its volume's mean and deviation, so `predict` takes the picture's own (`normalise="image"`). That
is a stand-in: slices at the ends of a volume, with little brain or none, come out wrong. With a volume at hand, normalise it
as above and call `predictor.module`, which takes what you give it and returns probabilities.

## Training data

LGG Segmentation Dataset: 110 patients of TCGA-LGG (Buda et al., Computers in Biology and Medicine 109, 2019).

## Limitations

The published number is of 10 patients, of volumes, of the largest connected part alone.
"""


def _row(
    name: str,
    file: str,
    config: dict[str, Any],
    *,
    parameters: int,
    license: str,
    trained_on: str,
    description: str,
    published: Measurement,
    card: str,
) -> Model:
    return Model(
        name=name,
        architecture="unet",
        config=config,
        source=Source(file),
        license=license,
        trained_on=trained_on,
        description=description,
        paper=_PAPER,
        metrics=(published,),
        requirements=Requirements(channels=3, multiple=16, classes=config["classes"], reach=107),
        parameters=parameters,
        card=card,
        tags=("official",),
    )


MODELS: tuple[Model, ...] = (
    *(
        _row(
            f"unet-carvana-scale{scale}.official",
            f"{_CARVANA}/unet_carvana_scale{scale}_epoch2.pth",
            {"width": 64, "classes": ("background", "car"), "scale": float(scale)},
            parameters=31_037_698,
            license="gpl-3.0",
            trained_on="Carvana Image Masking Challenge",
            description=f"milesial's U-Net for photographs of cars at {scale} of their size (its author's weights)",
            published=Measurement(
                "Carvana, over 100,000 test images",
                "dice_foreground",
                0.988423,
                "published",
                "milesial's README, mean over batches; it does not say of which scale",
            ),
            card=_CARVANA_CARD.format(scale=scale),
        )
        for scale in ("0.5", "1.0")
    ),
    _row(
        "unet-brain-mri.official",
        f"{_BRAIN}/unet-e012d006.pt",
        {
            "out_channels": 1,
            "join": "crop",
            "activation": "sigmoid",
            "classes": ("background", "tumour"),
            "normalise": "image",
        },
        parameters=7_763_041,
        license="mit",
        trained_on="LGG MRI segmentation (TCGA)",
        description="mateuszbuda's U-Net for tumours in slices of brain MRI (its author's weights); normalise the whole volume",
        published=Measurement(
            "LGG MRI, 10 validation patients",
            "dice_foreground",
            0.91,
            "published",
            "README: mean over volumes, of the largest connected part; volumes normalised as a whole",
        ),
        card=_BRAIN_CARD,
    ),
)
