"""Masked autoencoders: their tasks, metrics and architectures. Pure data."""

from __future__ import annotations

from stzoo import Architecture, Baseline, Metric, Task
from stzoo.fields import Choice, Image, Mask, Number, Vector
from stzoo_representation.mae_fields import Drawn

_HERE = "stzoo_representation"


def _fit(default: str) -> Choice:
    return Choice(
        "fit",
        "How a picture becomes one of the network's size: the whole resized; the shorter side resized and the middle cut out; or "
        "the size kept (cut to whole patches; positions are interpolated)",
        default,
        choices=("resize", "crop", "keep"),
    )


MASKED_AUTOENCODING = Task(
    name="masked-autoencoding",
    description="Leave out most patches of a picture and draw them from the others",
    inputs=(Image("image", "The picture"),),
    outputs=(
        Drawn("image", "The picture, the patches that were left out drawn, the others as they were"),
        Image("masked", "What the network saw of it, grey where patches were left out"),
        Mask("mask", "1 where patches were left out"),
        Vector("features", "The class token of what was seen", optional=True),
    ),
    columns=(Image("image", "A picture"),),
    options=(
        Number("mask_ratio", "Share of the patches that are left out", 0.75, minimum=0, maximum=1),
        Number("seed", "Decides which ones", 0, minimum=0, maximum=2**31 - 1, integer=True),
        _fit("resize"),
        Choice("with_features", "Whether to give the features too", False, choices=(False, True)),
    ),
    metrics=(
        Metric("mse", f"{_HERE}.mae_metrics:mse", "lower", "Squared error of the pixels left out, values in [0, 1]"),
        Metric(
            "mse_normalised",
            f"{_HERE}.mae_metrics:mse_normalised",
            "lower",
            "The same with colours divided by ImageNet's standard deviations: the official loss of networks that draw pixels",
        ),
        Metric(
            "mse_patch",
            f"{_HERE}.mae_metrics:mse_patch",
            "lower",
            "The same with each patch divided by its own standard deviation, which flat patches dominate",
            optional=True,
        ),
        Metric("psnr", f"{_HERE}.mae_metrics:psnr", "higher", "The same in decibels, averaged over pictures"),
    ),
    baselines=(
        Baseline("mean-patch", f"{_HERE}.mae_metrics:mean_patch", "The mean colour of the patches that are seen"),
    ),
    pipeline=f"{_HERE}.mae_pipeline:MaskedAutoencoding",
    pipeline_tag="image-feature-extraction",
)

IMAGE_FEATURES = Task(
    name="image-features",
    description="A picture as a vector of numbers that says what it shows",
    inputs=(Image("image", "The picture"),),
    outputs=(Vector("features", "As many numbers as the network is wide"),),
    columns=(Image("image", "A picture"),),
    options=(
        Choice(
            "pool",
            "The class token, the mean over all patches, or whichever the network was trained for",
            "auto",
            choices=("auto", "class", "mean"),
        ),
        _fit("crop"),
    ),
    pipeline=f"{_HERE}.mae_pipeline:ImageFeatures",
    pipeline_tag="image-feature-extraction",
)

_ENCODER = {
    "image_size": Number("image_size", "Height and width of its pictures; published: 224", 64, minimum=1, integer=True),
    "patch_size": Number(
        "patch_size", "Height and width of a patch; ViT-B and -L: 16, ViT-H: 14", 8, minimum=1, integer=True
    ),
    "in_chans": Number("in_chans", "Colours", 3, minimum=1, integer=True),
    "embed_dim": Number(
        "embed_dim", "Channels of the encoder; ViT-B, -L, -H: 768, 1024, 1280", 128, minimum=4, integer=True
    ),
    "depth": Number("depth", "Blocks of the encoder; 12, 24, 32", 6, minimum=1, integer=True),
    "num_heads": Number("num_heads", "Attention heads of the encoder; 12, 16, 16", 4, minimum=1, integer=True),
    "mlp_ratio": Number("mlp_ratio", "Hidden channels of an MLP, as a multiple of its channels", 4.0, minimum=0.01),
}
_PAPER = "https://arxiv.org/abs/2111.06377"

TASKS: tuple[Task, ...] = (MASKED_AUTOENCODING, IMAGE_FEATURES)
ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="mae",
        task="masked-autoencoding",
        build=f"{_HERE}.mae:MaskedAutoencoder",
        defaults=_ENCODER  # small, as those of mae-tiny; the published ones are in official.py
        | {
            "decoder_embed_dim": Number(
                "decoder_embed_dim", "Channels of the decoder; published: 512", 96, minimum=4, integer=True
            ),
            "decoder_depth": Number("decoder_depth", "Blocks of the decoder; published: 8", 2, minimum=1, integer=True),
            "decoder_num_heads": Number(
                "decoder_num_heads", "Heads of the decoder; published: 16", 4, minimum=1, integer=True
            ),
            "norm_pix_loss": False,
        },
        recipe=f"{_HERE}.mae_recipe:MAERecipe",
        formats=(f"{_HERE}.mae_checkpoints:AutoencoderFormat",),
        description="A Vision Transformer that sees a quarter of a picture, and a small one that draws the rest",
        paper=_PAPER,
    ),
    Architecture(
        name="mae-encoder",
        task="image-features",
        build=f"{_HERE}.mae:ImageEncoder",
        defaults=_ENCODER
        | {
            "num_classes": Number("num_classes", "Of its classifier; 0: it has none", 0, minimum=0, integer=True),
            "global_pool": False,
        },
        formats=(f"{_HERE}.mae_checkpoints:EncoderFormat",),
        description="The encoder of a masked autoencoder, whole pictures to vectors",
        paper=_PAPER,
    ),
)
