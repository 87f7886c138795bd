"""The stzoo plugin for super-resolution: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Baseline, Dataset, Model, Task, hookimpl
from stzoo.fields import Choice, Depth, Image, Map, Number, Shape, Size, Video
from stzoo_super_resolution.fields import Original

__version__ = "0.1.0"
PLUGIN_API = 1

_SCALE = Number("scale", "How many times larger", default=3, minimum=1, integer=True)
_FILTERS = Shape("filters", "Channels of the two inner layers", (64, 32), axes=("first", "second"))
_CHANNELS = Choice("channels", "1: the luma, colours by bicubic interpolation; 3: RGB", default=1, choices=(1, 3))

_SWINIR = {
    "scale": Number("scale", "How many times larger; 1 restores", default=2, minimum=1, integer=True),
    "in_chans": Number("in_chans", "Channels of the images: 3 for RGB, 1 for grey", 3, minimum=1, integer=True),
    "img_size": Size("img_size", "The size it was made for", (64, 64)),
    "window_size": Number("window_size", "Side of the attention's windows", default=8, minimum=1, integer=True),
    "depths": (6, 6, 6, 6),
    "embed_dim": Number("embed_dim", "Channels of the features", default=60, minimum=1, integer=True),
    "num_heads": (6, 6, 6, 6),
    "mlp_ratio": Number("mlp_ratio", "Width of a block's MLP over its channels", default=2.0, minimum=0.01),
    "qkv_bias": Choice("qkv_bias", "Queries, keys and values have a bias", default=True, choices=(True, False)),
    "ape": Choice("ape", "A learned embedding of absolute positions is added", default=False, choices=(True, False)),
    "patch_norm": Choice("patch_norm", "The features are normalised first", default=True, choices=(True, False)),
    "upsampler": Choice(
        "upsampler",
        "How the image is made; empty: a residual at scale 1",
        "pixelshuffledirect",
        choices=("pixelshuffle", "pixelshuffledirect", "nearest+conv", ""),
    ),
    "resi_connection": Choice("resi_connection", "Convolutions at shortcuts", "1conv", choices=("1conv", "3conv")),
    "img_range": Number("img_range", "What values in [0,1] are multiplied by inside", default=1.0, minimum=1e-6),
    "drop_rate": Number("drop_rate", "Dropout after linear layers", default=0.0, minimum=0, maximum=0.99),
    "attn_drop_rate": Number("attn_drop_rate", "Dropout of the attention's weights", 0.0, minimum=0, maximum=0.99),
    "drop_path_rate": Number("drop_path_rate", "Stochastic depth of the last block", 0.1, minimum=0, maximum=0.99),
    "padding": Choice(
        "padding",
        "To multiples of the window: as the network, or as its test script",
        "reflect",
        choices=("reflect", "script"),
    ),
}


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_super_resolution.catalogue import DEPTH_METRICS, IMAGE_METRICS, VIDEO_METRICS

    yield Task(
        name="super-resolution",
        description="Enlarge or restore an image",
        inputs=(Image("image", "The image to enlarge or to restore"),),
        outputs=(Image("image", "The image, as many times larger as the model's scale says"),),
        columns=(Original("image", "The image as it should come out, which is made smaller or worse"),),
        metrics=IMAGE_METRICS,
        baselines=(
            Baseline(
                "bicubic", "stzoo_super_resolution.pipeline:bicubic", "Bicubic interpolation, as MATLAB's imresize"
            ),
        ),
        pipeline="stzoo_super_resolution.pipeline:SuperResolution",
        pipeline_tag="image-to-image",
        dense=True,
    )

    yield Task(
        name="depth-super-resolution",
        description="Enlarge a depth map",
        inputs=(
            Depth("depth", "The depth map to enlarge, in metres; 0 or NaN where nothing is known"),
            Image("guide", "A picture of the same view, as large as the result", optional=True),
        ),
        outputs=(Depth("depth", "The depth map, as many times larger as the model's scale says"),),
        options=(
            Choice(
                "holes",
                "Where nothing is known: keep that, or fill it from what is around",
                "keep",
                choices=("keep", "fill"),
            ),
        ),
        columns=(
            Depth("depth", "A depth map of high resolution, which is reduced"),
            Image("guide", "A picture of the same view and size", optional=True),
        ),
        metrics=DEPTH_METRICS,
        baselines=(
            Baseline(
                "bicubic",
                "stzoo_super_resolution.depth_data:bicubic",
                "Bicubic interpolation, as MATLAB's imresize; holes are filled first and cut out again",
            ),
        ),
        pipeline="stzoo_super_resolution.depth:DepthSuperResolution",
        pipeline_tag="image-to-image",
    )

    yield Task(
        name="video-super-resolution",
        description="Enlarge a clip",
        inputs=(Video("video", "The clip to enlarge"),),
        outputs=(Video("video", "The clip, as many times larger as the model's scale says, frame for frame"),),
        columns=(
            Video("video", "A clip of high resolution, which is made smaller"),
            Video("low", "The same clip made smaller, if it is to be that one", optional=True),
        ),
        metrics=VIDEO_METRICS,
        baselines=(
            Baseline("bicubic", "stzoo_super_resolution.video:bicubic", "Bicubic interpolation, as MATLAB's imresize"),
        ),
        pipeline="stzoo_super_resolution.video:VideoSuperResolution",
        pipeline_tag="video-to-video",
        dense=True,
    )


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="srcnn",
        task="super-resolution",
        build="stzoo_super_resolution.srcnn:SRCNN",
        defaults={
            "scale": _SCALE,
            "kernels": Shape("kernels", "Widths of the kernels; odd", (9, 5, 5), axes=("first", "second", "third")),
            "filters": _FILTERS,
            "channels": _CHANNELS,
            "padding": Choice(
                "padding",
                "Of every layer: as the official test code, as most ports, or none",
                "replicate",
                choices=("replicate", "zeros", "valid"),
            ),
        },
        recipe="stzoo_super_resolution.srcnn:SRCNNRecipe",
        formats=("stzoo_super_resolution.srcnn:TorchSRCNN", "stzoo_super_resolution.srcnn:MatlabSRCNN"),
        pipeline="stzoo_super_resolution.srcnn:SRCNNPipeline",
        description="Three convolutions after bicubic interpolation: the first network of the field",
        paper="https://arxiv.org/abs/1501.00092",
    )
    yield Architecture(
        name="espcn",
        task="super-resolution",
        build="stzoo_super_resolution.espcn:ESPCN",
        defaults={
            "scale": _SCALE,
            "filters": _FILTERS,
            "channels": _CHANNELS,
            "activation": Choice("activation", "Between the layers", "tanh", choices=("tanh", "relu")),
        },
        recipe="stzoo_super_resolution.espcn:ESPCNRecipe",
        formats=("stzoo_super_resolution.espcn:TorchESPCN",),
        description="Three convolutions at the low resolution, the last one making each pixel's square of new pixels",
        paper="https://arxiv.org/abs/1609.05158",
    )
    yield Architecture(
        name="swinir",
        task="super-resolution",
        build="stzoo_super_resolution.swinir:SwinIR",
        defaults=_SWINIR,
        recipe="stzoo_super_resolution.recipe:PatchRecipe",
        formats=("stzoo_super_resolution.swinir_checkpoints:OfficialSwinIR",),
        description="Residual groups of Swin Transformer blocks: super-resolution, denoising, removal of JPEG artefacts",
        paper="https://arxiv.org/abs/2108.10257",
    )
    yield Architecture(
        name="bayesr",
        task="super-resolution",
        build="stzoo_super_resolution.bayesr:BayeSR",
        defaults={
            "scale": Choice("scale", "How many times larger; 1 denoises", default=4, choices=(1, 2, 3, 4, 8)),
            "in_channel": Choice("in_channel", "3 for RGB, 1 for luma or grey", default=3, choices=(1, 3)),
            "filters": Number("filters", "Channels of the features", default=64, minimum=1, integer=True),
            "filter_size": Number("filter_size", "Side of the kernels; odd", default=3, minimum=1, integer=True),
            "up_type": Choice(
                "up_type",
                "How features are enlarged",
                "transpose",
                choices=("transpose", "subpixel", "interpolation"),
            ),
            **{
                f"d_cnn{part}": Number(
                    f"d_cnn{part}", f"Residual blocks for {what}", default=8, minimum=1, integer=True
                )
                for part, what in (("x", "the smooth part"), ("z", "the detail"), ("m", "the noise"))
            },
            "use_CA": Choice("use_CA", "Channel attention in the blocks", default=True, choices=(True, False)),
        },
        recipe="stzoo_super_resolution.bayesr_training:BayeSRRecipe",
        formats=("stzoo_super_resolution.bayesr_checkpoints:OfficialBayeSR",),
        pipeline="stzoo_super_resolution.bayesr:BayesianSuperResolution",
        outputs=(
            Map("uncertainty", "Standard deviation of each pixel, of values in [0, 1]"),
            Video("samples", "Images drawn from what the network holds possible"),
        ),
        options=(
            Number("samples", "How many images are drawn", default=1, minimum=1, maximum=1000, integer=True),
            Number("seed", "Of the drawing", default=0, minimum=0, maximum=2**63 - 1, integer=True),
        ),
        description="Variational inference of noise, sparse detail and a smooth part: how sure it is, and other answers too",
        paper="https://doi.org/10.1109/TPAMI.2022.3163307",
    )
    yield Architecture(
        name="deep-depth-sr",
        task="depth-super-resolution",
        build="stzoo_super_resolution.depth:DeepDepthSR",
        defaults={
            "scale": Choice("scale", "How many times larger; one unit for each doubling", 4, choices=(2, 4, 8, 16)),
            "wide": Number("wide", "Channels of a unit's first convolution", default=64, minimum=1, integer=True),
            "narrow": Number("narrow", "Channels of its second convolution", default=32, minimum=1, integer=True),
            "residual": Choice(
                "residual", "Add to the bicubic interpolation, which the paper does not", False, choices=(True, False)
            ),
        },
        recipe="stzoo_super_resolution.depth:DeepDepthRecipe",
        pipeline="stzoo_super_resolution.depth:EnergySuperResolution",
        options=(
            Number("modulation", "Weight of the guide (paper: 0.7): what looks alike is as far", 0.3, minimum=0),
            Number("variation", "Weight of the total variation (paper: 0.7): depth has few edges", 0.7, minimum=0),
            Number("iterations", "Steps in which the energy is minimised", 3, minimum=1, maximum=1000, integer=True),
        ),
        description="SRCNN units in a chain, then an energy with colour modulation and total variation, solved by IRLS",
        paper="https://arxiv.org/abs/1607.01977",
    )

    yield Architecture(
        name="temporal-adaptive",
        task="video-super-resolution",
        build="stzoo_super_resolution.temporal:TemporalAdaptiveSR",
        defaults={
            "scale": Number("scale", "How many times larger", default=4, minimum=1, integer=True),
            "branches": Number(
                "branches", "Temporal scales; the last sees 2 * branches - 1 frames", 3, minimum=1, integer=True
            ),
            "filters": Shape("filters", "Channels of the two hidden layers", (64, 32), axes=("first", "second")),
            "fusion": Choice("fusion", "Weights as they are, or their softmax", "raw", choices=("raw", "softmax")),
            "alignment": Choice(
                "alignment", "How frames are moved onto the middle one", "network", choices=("none", "flow", "network")
            ),
            "window": Shape("window", "Tiles that share one translation", (60, 60), axes=("height", "width")),
        },
        recipe="stzoo_super_resolution.temporal_training:TemporalAdaptiveRecipe",
        formats=("stzoo_super_resolution.temporal:TemporalAdaptiveFormat",),
        description="Sub-pixel networks on 1, 3 and 5 frames, weighted for each pixel; frames aligned by translations of tiles",
        paper="https://openaccess.thecvf.com/content_iccv_2017/html/Liu_Robust_Video_Super-Resolution_ICCV_2017_paper.html",
    )

    yield Architecture(
        name="srforest",
        task="super-resolution",
        build="stzoo_super_resolution.forest:SRForest",
        defaults={
            "scale": Number("scale", "How many times larger", default=2, minimum=2, maximum=4, integer=True),
            "components": Number(
                "components", "The most principal components of a patch's gradients", 32, minimum=1, integer=True
            ),
            "trees": Number("trees", "Regression trees", default=4, minimum=1, integer=True),
            "leaves": Number("leaves", "The most leaves of a tree", default=512, minimum=1, integer=True),
            "leaf": Choice("leaf", "What a leaf holds", default="linear", choices=("linear", "polynomial", "constant")),
        },
        recipe="stzoo_super_resolution.forest_fit:SRForestRecipe",
        description="Regression trees on gradients of patches; a leaf holds a linear map to what bicubic interpolation lacks",
        paper="https://openaccess.thecvf.com/content_cvpr_2015/html/Schulter_Fast_and_Accurate_2015_CVPR_paper.html",
    )


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_super_resolution import models, official, official_small

    yield from models.MODELS
    yield from official_small.MODELS
    yield from official.MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_super_resolution.catalogue import DATASETS

    yield from DATASETS
