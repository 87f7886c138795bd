"""Official checkpoints: what the papers' authors publish, one row for each file. ``stzoo import NAME`` brings and converts one.

Masked autoencoders: Meta's files (https://github.com/facebookresearch/mae, CC-BY-NC 4.0), and the same weights under the names
that transformers gives them, on the Hub. Cards there say Apache-2.0; stated here is the licence of the authors' repository.
"""

from __future__ import annotations

from typing import Any

from stzoo import Model, Requirements, Source
from stzoo_representation.mae_published import DECODER, PARAMETERS, SIZES

_META = "https://dl.fbaipublicfiles.com/mae"
_LETTER = {"base": "ViT-B", "large": "ViT-L", "huge": "ViT-H"}
_ACCURACY = {"base": 83.6, "large": 85.9, "huge": 86.9}
"""Top-1 accuracy in percent of the fine-tuned classifiers on ImageNet-1K (paper, table 3)."""


def _mae(name: str, size: str, url: str, what: str, kind: int, trained_on: str = "", **config: Any) -> Model:
    """One row; ``kind``: which of PARAMETERS it has."""
    sizes = {"image_size": 224, "in_chans": 3, "mlp_ratio": 4.0} | SIZES[size] | (DECODER if kind == 0 else {})
    return Model(
        name=f"mae-{size}.{name}",
        architecture="mae" if kind == 0 else "mae-encoder",
        config=sizes | config,
        source=Source(url),
        license="cc-by-nc-4.0",
        trained_on=trained_on or "ImageNet-1K, without its labels",
        description=f"Masked autoencoder, {_LETTER[size]}: {what} (its authors' weights)",
        paper="https://arxiv.org/abs/2111.06377",
        requirements=Requirements(channels=3, multiple=sizes["patch_size"], native_size=(224, 224)),
        parameters=PARAMETERS[size][kind],
        tags=("official",),
    )


def _rows(size: str) -> tuple[Model, ...]:
    pixels, vit = "draws pixels", f"vit_{size}"
    return (
        _mae("hub", size, f"hf://facebook/vit-mae-{size}/pytorch_model.bin", f"{pixels}; the Hub's file", 0),
        _mae("visualize", size, f"{_META}/visualize/mae_visualize_{vit}.pth", pixels, 0),
        _mae(
            "full",
            size,
            f"{_META}/pretrain/mae_pretrain_{vit}_full.pth",
            "draws patches less their own mean and contrast, for the better features",
            0,
            norm_pix_loss=True,
        ),
        _mae("encoder", size, f"{_META}/pretrain/mae_pretrain_{vit}.pth", "the encoder, to be fine-tuned", 1),
        _mae(
            "classifier",
            size,
            f"{_META}/finetune/mae_finetuned_{vit}.pth",
            f"fine-tuned for ImageNet's classes, {_ACCURACY[size]} % right (published)",
            2,
            "ImageNet-1K",
            num_classes=1000,
            global_pool=True,
        ),
    )


MODELS: tuple[Model, ...] = (
    *_rows("base"),
    *_rows("large"),
    _mae(
        "ganloss",
        "large",
        f"{_META}/visualize/mae_visualize_vit_large_ganloss.pth",
        "draws pixels, with an adversarial loss besides",
        0,
    ),
    *_rows("huge"),
)
