"""The stzoo plugin for segmentation: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Baseline, Dataset, Model, Task, hookimpl
from stzoo.fields import Choice, Image, Mask, Number, Video, VideoMask, Volume, VolumeMask
from stzoo_segmentation.fields import Instances

__version__ = "0.1.0"
PLUGIN_API = 1

PREPARATION = {
    "normalise": Choice(
        "normalise", "With mean and std as given, or with each picture's own", "fixed", choices=("fixed", "image")
    ),
    "mean": (0.0,),
    "std": (1.0,),
    "scale": Number("scale", "How pictures are reduced before, as a factor", 1.0, minimum=0.01, maximum=1),
}
"""Config keys of every network of pictures: what its pipeline does first. See :class:`stzoo_segmentation.pipeline.Preparation`."""
CLASSES: tuple[str, ...] = ()
"""Config key of every network: the names of its classes by number, which its requirements state."""

_UNET = {
    "in_channels": Number("in_channels", "Channels of the pictures", 3, minimum=1, integer=True),
    "out_channels": Number("out_channels", "One per class, or 1 for two classes", 2, minimum=1, integer=True),
    "width": Number("width", "Channels of the first level; doubled from level to level", 32, minimum=1, integer=True),
    "depth": Number("depth", "Levels, between which resolution is halved", 5, minimum=2, maximum=10, integer=True),
    "padding": Choice("padding", "Convolutions that shrink the picture, or pad it", "same", choices=("valid", "same")),
    "norm": Choice("norm", "Batch norm, at each ReLU", "before", choices=("none", "before", "after")),
    "up": Choice("up", "How features are enlarged", "transposed", choices=("transposed", "bilinear", "bilinear-conv")),
    "join": Choice(
        "join", "How features of two sizes are joined: the older cropped, or the newer padded", "pad", ("crop", "pad")
    ),
    "activation": Choice("activation", "Of what comes out", "none", choices=("none", "sigmoid")),
    "dropout": Number("dropout", "At the end of the contracting path", 0.0, minimum=0, maximum=0.99),
    "classes": CLASSES,
    **PREPARATION,
}

_SMP = {
    "encoder": "resnet34",
    "encoder_depth": Number("encoder_depth", "How often the resolution is halved", 5, 1, 5, integer=True),
    "decoder_channels": (256, 128, 64, 32, 16),
    "attention": Choice("attention", "In the decoder", "none", choices=("none", "scse")),
    "in_channels": Number("in_channels", "Channels of the pictures", 3, minimum=1, integer=True),
    "out_channels": Number("out_channels", "One per class, or 1 for two classes", 1, minimum=1, integer=True),
    "labels": Number("labels", "Classes of the whole picture, a second result; 0: none", 0, minimum=0, integer=True),
    "dropout": Number("dropout", "Before that", 0.2, minimum=0, maximum=0.99),
    "activation": Choice("activation", "Of what comes out", "none", choices=("none", "sigmoid", "softmax")),
    "classes": CLASSES,
    **PREPARATION,
}

_UNET3D = {
    "in_channels": Number("in_channels", "Channels of the volumes", 1, minimum=1, integer=True),
    "out_channels": Number("out_channels", "One per class, or 1 for two classes", 2, minimum=1, integer=True),
    "width": Number("width", "Channels of the first convolution; doubled from level to level", 8, 1, integer=True),
    "levels": Number("levels", "Resolutions, each half of the one before", 3, minimum=2, maximum=8, integer=True),
    "form": Choice("form", "As published, or with fewer convolutions", "paper", choices=("paper", "compact")),
    "norm": Choice("norm", "Before each ReLU", "none", choices=("none", "batch", "instance")),
    "up": Choice("up", "How features are enlarged", "transposed", choices=("transposed", "trilinear")),
    "dropout": Number("dropout", "After every change of resolution", 0.0, minimum=0, maximum=0.99),
    "classes": CLASSES,
    "side": Number("side", "Resize volumes to a cube of so many voxels; 0: no", 0, minimum=0, integer=True),
    "normalise": Choice(
        "normalise",
        "Of the numbers, first: mean 0 and deviation 1 of what is not 0, or largest 1",
        "zscore",
        choices=("zscore", "maximum", "none"),
    ),
}

_THRESHOLD = Number(
    "threshold", "Of a network with one channel: the probability from which on a pixel is of class 1", 0.5, 0, 1
)
_INSTANCES = Choice(
    "instances",
    "Number the objects too: pixels of one class that touch, or parts of these, told apart by watershed",
    default="none",
    choices=("none", "components", "watershed"),
)
_COMMONEST = Baseline(
    "commonest",
    "stzoo_segmentation.pipeline:commonest",
    "Everywhere the class that is commonest in the example's truth",
)
_FLIPS = Choice(
    "flips",
    "The mean over the picture and its mirror images",
    default="none",
    choices=("none", "horizontal", "both"),
)


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_segmentation.catalogue import IMAGE_METRICS, OBJECT_METRICS, VIDEO_METRICS, VOLUME_METRICS

    yield Task(
        name="segmentation",
        description="Tell the class of each pixel of an image",
        inputs=(Image("image", "The image to segment"),),
        outputs=(
            Mask("mask", "The class of each pixel", over="image"),
            Instances(
                "instances", "The number of each pixel's object, if the option asks for it", "image", optional=True
            ),
        ),
        options=(_THRESHOLD, _FLIPS, _INSTANCES),
        columns=(
            Image("image", "The image to segment"),
            Mask("mask", "The class of each pixel; 255 where that is not known", over="image"),
            Instances("instances", "The number of each pixel's object; 0 for none", optional=True),
        ),
        metrics=(*IMAGE_METRICS, *OBJECT_METRICS),
        baselines=(_COMMONEST,),
        pipeline="stzoo_segmentation.pipeline:Segmentation",
        pipeline_tag="image-segmentation",
        dense=True,
    )

    yield Task(
        name="video-segmentation",
        description="Tell the class of each pixel of a clip",
        inputs=(Video("video", "The clip to segment"),),
        outputs=(VideoMask("mask", "The class of each pixel of each frame", over="video"),),
        options=(_THRESHOLD, _FLIPS),
        metrics=VIDEO_METRICS,
        baselines=(
            _COMMONEST,
            Baseline("first-mask", "stzoo_segmentation.pipeline:first_mask", "The true mask of the first frame, kept"),
        ),
        pipeline="stzoo_segmentation.pipeline:VideoSegmentation",
        pipeline_tag="image-segmentation",
        dense=True,
    )

    yield Task(
        name="volume-segmentation",
        description="Tell the class of each place of a volume",
        inputs=(Volume("volume", "The volume to segment"),),
        outputs=(VolumeMask("mask", "The class of each place", over="volume"),),
        options=(_THRESHOLD,),
        metrics=VOLUME_METRICS,
        baselines=(_COMMONEST,),
        pipeline="stzoo_segmentation.volumes:VolumeSegmentation",
        pipeline_tag="image-segmentation",
        dense=True,
    )

    from stzoo_segmentation.spacetime import GENERATION

    yield GENERATION


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="unet",
        task="segmentation",
        build="stzoo_segmentation.unet:UNet",
        defaults=_UNET,
        recipe="stzoo_segmentation.recipe:SegmentationRecipe",
        formats=(
            "stzoo_segmentation.unet_checkpoints:JvanvugtUNet",
            "stzoo_segmentation.unet_checkpoints:MilesialUNet",
            "stzoo_segmentation.unet_checkpoints:BrainUNet",
        ),
        description="U-Net: a contracting and an expanding path, joined level by level; as published, or as people vary it",
        paper="https://arxiv.org/abs/1505.04597",
    )
    yield Architecture(
        name="smp-unet",
        task="segmentation",
        build="stzoo_segmentation.smp_unet:SMPUNet",
        defaults=_SMP,
        recipe="stzoo_segmentation.recipe:SegmentationRecipe",
        formats=("stzoo_segmentation.smp_unet:OfficialSMPUNet", "stzoo_segmentation.smp_unet:PretrainedEncoder"),
        description="U-Net around a ResNet or VGG, which may be pretrained",
        paper="https://arxiv.org/abs/1505.04597",
    )
    yield Architecture(
        name="unet3d",
        task="volume-segmentation",
        build="stzoo_segmentation.unet3d:UNet3d",
        defaults=_UNET3D,
        recipe="stzoo_segmentation.volume_recipe:VolumeRecipe",
        formats=("stzoo_segmentation.frozen_graph:DeepBrain",),
        description="3-D U-Net: volumes instead of pictures; as published, or the compact one that finds brains",
        paper="https://arxiv.org/abs/1606.06650",
    )
    from stzoo_segmentation.spacetime import DIFFUSION, SEGMENTER

    yield from (SEGMENTER, DIFFUSION)


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_segmentation import models, official

    yield from models.MODELS
    yield from official.MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_segmentation.catalogue import DATASETS

    yield from DATASETS
