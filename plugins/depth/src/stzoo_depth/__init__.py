"""The stzoo plugin for depth: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Dataset, Model, Task, hookimpl
from stzoo.fields import Choice, Depth, Image, Number, Shape, Size

__version__ = "0.1.0"
PLUGIN_API = 1


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_depth.catalogue import METRICS

    yield Task(
        name="depth",
        description="How far away everything in a picture is",
        inputs=(Image("image", "The picture"),),
        outputs=(Depth("depth", "Metres along the optical axis, for each pixel", picture="image"),),
        options=(
            Choice(
                "upsampling",
                "How the network's map gets the size of the picture",
                "bilinear",
                choices=("bilinear", "nearest"),
            ),
            Choice(
                "border",
                "Where a network predicts nothing: extend what is next to it, or leave it unknown",
                "extend",
                choices=("extend", "unknown"),
            ),
        ),
        metrics=METRICS,
        pipeline="stzoo_depth.pipeline:DepthEstimation",
        pipeline_tag="depth-estimation",
    )


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="eigen",
        task="depth",
        build="stzoo_depth.eigen:Eigen2014",
        defaults={
            "frame": Size("frame", "Pictures are resized to this; KITTI: 184x612", (240, 320)),
            "size": Size("size", "The network's input, cut out of the middle; KITTI: 172x576", (228, 304)),
            "rows": (),
            "widths": Shape(
                "widths",
                "Filters of the coarse network's convolutions",
                (96, 256, 384, 384, 256),
                axes=("first", "second", "third", "fourth", "fifth"),
            ),
            "hidden": Number("hidden", "Units of the first full layer", 4096, minimum=1, integer=True),
            "fine": Number("fine", "Filters of the fine network", 64, minimum=2, integer=True),
            "dropout": Number("dropout", "Share of hidden units left out in training", 0.5, minimum=0, maximum=0.99),
            "log_std": Number("log_std", "What logarithms of depth are divided by", 0.45723134, minimum=1e-6),
        },
        recipe="stzoo_depth.recipe:EigenRecipe",
        formats=("stzoo_depth.eigen:OfficialEigen",),
        pipeline="stzoo_depth.pipeline:EigenDepth",
        description="A coarse network that sees the whole picture, and a fine one that adds its detail",
        paper="https://arxiv.org/abs/1406.2283",
    )
    yield Architecture(
        name="mean-depth",
        task="depth",
        build="stzoo_depth.mean:MeanDepth",
        defaults={"frame": Size("frame", "Height and width of the map", (120, 160))},
        recipe="stzoo_depth.mean:MeanDepthRecipe",
        description="The mean of the depth maps it learnt from, whatever the picture shows: what a network has to beat",
    )


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_depth.models import MODELS

    yield from MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_depth.catalogue import DATASETS

    yield from DATASETS
