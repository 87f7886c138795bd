"""VisionTS at its published sizes: the masked autoencoders of pictures that Meta publishes, as they are, one row for each.

Zero-shot forecasts need no other weights (https://github.com/Keytoyze/VisionTS). Meta's files are CC-BY-NC 4.0.
"""

from __future__ import annotations

from stzoo import Measurement, Model, Requirements, Source
from stzoo_representation.mae_published import DECODER, PARAMETERS, SIZES

_FILES = "https://dl.fbaipublicfiles.com/mae/visualize"
_NOTE = "mean over 96, 192, 336 and 720 steps, zero-shot (arXiv:2408.17253)"
_PUBLISHED = tuple(
    Measurement(data, metric, value, "published", _NOTE)
    for data, metric, value in (
        ("ETTh1", "mae", 0.414),
        ("ETTm1", "mse", 0.374),
        ("ETTm2", "mse", 0.282),
        ("Weather", "mse", 0.269),
    )
)
"""Of the base size, on standardised values."""


def _visionts(size: str) -> Model:
    return Model(
        name=f"visionts-{size}.zero-shot",
        architecture="visionts",
        config={"image_size": 224, "mlp_ratio": 4.0} | SIZES[size] | DECODER,
        source=Source(f"{_FILES}/mae_visualize_vit_{size}.pth"),
        license="cc-by-nc-4.0",
        trained_on="ImageNet-1K, without its labels",
        description=f"VisionTS with Meta's masked autoencoder ViT-{size[0].upper()} of pictures, never shown a series",
        paper="https://arxiv.org/abs/2408.17253",
        requirements=Requirements(),
        parameters=PARAMETERS[size][0],
        metrics=_PUBLISHED if size == "base" else (),
        tags=("official",),
    )


MODELS: tuple[Model, ...] = tuple(_visionts(size) for size in SIZES)
