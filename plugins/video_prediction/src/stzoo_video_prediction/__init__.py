"""The stzoo plugin for video prediction: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Baseline, Dataset, Model, Task, hookimpl
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

_RECURRENT = {
    "in_shape": _SHARED["in_shape"],
    "frames_out": Number("frames_out", "Frames to predict", default=10, minimum=1, integer=True),
    "patch_size": Number("patch_size", "Side of the patches a frame is cut into", default=4, minimum=1, integer=True),
    "num_hidden": (64, 64),
    "filter_size": Number("filter_size", "Kernel of the convolutions; odd", default=5, minimum=1, integer=True),
    "layer_norm": Choice("layer_norm", "Normalise after every convolution", default=False, choices=(True, False)),
}

_SWINLSTM = {
    "in_shape": _SHARED["in_shape"],
    "frames_out": Number("frames_out", "Frames to predict", default=10, minimum=1, integer=True),
    "model_type": Choice("model_type", "One resolution (b), or down and up again (d)", "d", choices=("b", "d")),
    "patch_size": Number("patch_size", "Side of the patches a frame is cut into", default=2, minimum=1, integer=True),
    "embed_dim": Number("embed_dim", "Channels at the resolution of the patches", default=32, minimum=1, integer=True),
    "window_size": Number("window_size", "Side of the attention's windows", default=4, minimum=1, integer=True),
    "heads": (2, 4),
    "depths": (2, 2),
    "depths_down": (2, 2),
    "depths_up": (2, 2),
    "mlp_ratio": Number("mlp_ratio", "Width of a block's MLP over its channels", default=4.0, minimum=0.01),
    "drop": Number("drop", "Dropout after linear layers", default=0.0, minimum=0, maximum=0.99),
    "attn_drop": Number("attn_drop", "Dropout of the attention's weights", default=0.0, minimum=0, maximum=0.99),
    "drop_path": Number("drop_path", "Stochastic depth of the deepest blocks", default=0.1, minimum=0, maximum=0.99),
}


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_video_prediction.catalogue import METRICS

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
        metrics=METRICS,
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
    yield Architecture(
        name="convlstm",
        task="video-prediction",
        build="stzoo_video_prediction.convlstm:ConvLSTM",
        defaults=_RECURRENT
        | {"cell": Choice("cell", "How the hidden state is made", "standard", choices=("standard", "v0.3"))},
        recipe="stzoo_video_prediction.recurrent:ScheduledSamplingRecipe",
        formats=("stzoo_video_prediction.convlstm:OpenSTLConvLSTM",),
        description="Convolutional LSTM, frame by frame: the baseline of every table",
        paper="https://arxiv.org/abs/1506.04214",
    )
    yield Architecture(
        name="predrnn",
        task="video-prediction",
        build="stzoo_video_prediction.predrnn:PredRNN",
        defaults=_RECURRENT,
        recipe="stzoo_video_prediction.recurrent:ScheduledSamplingRecipe",
        formats=("stzoo_video_prediction.predrnn:OpenSTLPredRNN",),
        description="Convolutional LSTM whose memory also travels through the layers: a second state, from bottom to top",
        paper="https://arxiv.org/abs/2103.09504",
    )
    yield Architecture(
        name="simvp-v1",
        task="video-prediction",
        build="stzoo_video_prediction.simvpv1:SimVPv1",
        defaults={key: _SHARED[key] for key in ("in_shape", "hid_S", "hid_T", "N_S", "N_T")},
        recipe="stzoo_video_prediction.recipe:VideoPredictionRecipe",
        formats=("stzoo_video_prediction.simvpv1:A4BioSimVP",),
        description="SimVP as first published: IncepU translator, transposed convolutions, concatenated skip",
        paper="https://arxiv.org/abs/2206.05099",
    )
    yield Architecture(
        name="phydnet",
        task="video-prediction",
        build="stzoo_video_prediction.phydnet:PhyDNet",
        defaults={
            **{key: _RECURRENT[key] for key in ("in_shape", "frames_out")},
            "patch_size": Choice("patch_size", "How many times smaller the latent picture is", 4, choices=(2, 4)),
            "nf": Number("nf", "Channels of the frame encoder; a multiple of 16", default=32, minimum=16, integer=True),
            "kernel_size": Number("kernel_size", "Width of PhyCell's filters; odd", default=7, minimum=3, integer=True),
            "hidden_dims": (128, 128, 64),
        },
        recipe="stzoo_video_prediction.phydnet_training:PhyDNetRecipe",
        formats=(
            "stzoo_video_prediction.phydnet_checkpoints:OfficialPhyDNet",
            "stzoo_video_prediction.phydnet_checkpoints:OpenSTLPhyDNet",
        ),
        description="A physical branch (a learned equation, corrected by what is seen) and a residual ConvLSTM, added up",
        paper="https://arxiv.org/abs/2003.01460",
    )

    yield Architecture(
        name="swinlstm",
        task="video-prediction",
        build="stzoo_video_prediction.swinlstm:SwinLSTM",
        defaults=_SWINLSTM,
        recipe="stzoo_video_prediction.swinlstm:SwinLSTMRecipe",
        formats=("stzoo_video_prediction.swinlstm_checkpoints:OfficialSwinLSTM",),
        description="LSTM cells whose gates are Swin Transformer blocks, at one resolution (B) or down and up (D)",
        paper="https://arxiv.org/abs/2308.09891",
    )


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_video_prediction import models, official

    yield from models.MODELS
    yield from official.MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_video_prediction.catalogue import DATASETS

    yield from DATASETS
