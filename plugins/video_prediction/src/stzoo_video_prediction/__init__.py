"""The stzoo plugin for video prediction: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Baseline, Dataset, Metric, Model, Task, hookimpl
from stzoo.fields import Choice, Number, Shape, Video

__version__ = "0.1.0"
PLUGIN_API = 1

_SHARED = {
    "in_shape": Shape(
        "in_shape",
        "Frames, channels, native height and width",
        (10, 1, 64, 64),
        axes=("frames", "channels", "height", "width"),
    ),
    "hid_S": Number("hid_S", "Channels of the spatial encoder and decoder", default=16, minimum=2, integer=True),
    "hid_T": Number("hid_T", "Channels of the translator", default=256, minimum=2, integer=True),
    "N_S": Number("N_S", "Layers of the encoder and of the decoder; even", default=4, minimum=2, integer=True),
    "N_T": Number("N_T", "Blocks of the translator", default=4, minimum=2, integer=True),
    "mlp_ratio": Number("mlp_ratio", "Width of a block's MLP over its channels", default=8.0, minimum=0.01),
    "drop": Number("drop", "Dropout in the MLP", default=0.0, minimum=0, maximum=0.99),
    "drop_path": Number("drop_path", "Stochastic depth of the last block", default=0.0, minimum=0, maximum=0.99),
    "spatio_kernel_enc": Number(
        "spatio_kernel_enc", "Kernel of the encoder's convolutions; odd", default=3, minimum=1, integer=True
    ),
    "spatio_kernel_dec": Number(
        "spatio_kernel_dec", "Kernel of the decoder's convolutions; odd", default=3, minimum=1, integer=True
    ),
}


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    yield Task(
        name="video-prediction",
        description="Predict the next frames of a clip",
        inputs=(Video("video", "The clip so far; its last frames are used"),),
        outputs=(Video("video", "The predicted frames"),),
        options=(
            Number(
                "horizon",
                "Frames to predict; beyond the trained number the network is fed its own output",
                minimum=1,
                maximum=10_000,
                integer=True,
            ),
        ),
        columns=(Video("video", "A whole clip: the frames to see, then those to predict"),),
        metrics=tuple(
            Metric(name, f"stzoo_video_prediction.{function}", better, description)
            for name, function, better, description in (
                (
                    "mse",
                    "metrics:mse",
                    "lower",
                    "Squared error summed over a frame's pixels, mean over frames (OpenSTL)",
                ),
                (
                    "mae",
                    "metrics:mae",
                    "lower",
                    "Absolute error summed over a frame's pixels, mean over frames (OpenSTL)",
                ),
                ("ssim", "metrics:ssim", "higher", "Structural similarity with data range 2 (OpenSTL)"),
                ("psnr", "metrics:psnr", "higher", "Peak signal-to-noise ratio in dB, mean over frames (OpenSTL)"),
                (
                    "ssim_torchmetrics",
                    "metrics_torchmetrics:ssim",
                    "higher",
                    "Structural similarity, Gaussian window 11, data range 1 (torchmetrics)",
                ),
                (
                    "psnr_torchmetrics",
                    "metrics_torchmetrics:psnr",
                    "higher",
                    "Peak signal-to-noise ratio in dB of the whole clip, data range 1 (torchmetrics)",
                ),
            )
        ),
        baselines=(
            Baseline(
                "last-frame",
                "stzoo_video_prediction.pipeline:last_frame",
                "The last given frame, repeated (persistence)",
            ),
        ),
        pipeline="stzoo_video_prediction.pipeline:VideoPrediction",
        pipeline_tag="image-to-video",
    )


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    yield Architecture(
        name="simvp",
        task="video-prediction",
        build="stzoo_video_prediction.simvp:SimVP",
        defaults=_SHARED | {"model_type": Choice("model_type", "The translator", "gsta", choices=("gsta", "incepu"))},
        recipe="stzoo_video_prediction.recipe:VideoPredictionRecipe",
        formats=("stzoo_video_prediction.simvp:OpenSTLSimVP",),
        description="Convolutional encoder, translator (gSTA or IncepU) and decoder: simple, strong video prediction",
        paper="https://arxiv.org/abs/2211.12509",
    )
    yield Architecture(
        name="tau",
        task="video-prediction",
        build="stzoo_video_prediction.tau:TAU",
        defaults=_SHARED,
        recipe="stzoo_video_prediction.tau:TAURecipe",
        formats=("stzoo_video_prediction.tau:OpenSTLTAU",),
        description="SimVP with temporal attention units: intra-frame statical and inter-frame dynamical attention",
        paper="https://arxiv.org/abs/2206.12126",
    )


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_video_prediction.models import MODELS

    yield from MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    yield Dataset(
        name="moving-mnist",
        task="video-prediction",
        load="stzoo_video_prediction.moving_mnist:load",
        splits=("train", "validation", "test"),
        description="Two handwritten digits moving in a 64x64 frame, 20 frames; made on the fly from MNIST digits",
        license="cc-by-sa-3.0",
        homepage="https://www.cs.toronto.edu/~nitish/unsupervised_video/",
    )
