"""What the space-time U-Net brings: the task of making clips, and two architectures. Pure data."""

from __future__ import annotations

from stzoo import Architecture, Baseline, Metric, Task
from stzoo.fields import Choice, Number, Shape, Video

_NETWORK = {
    "dim": Number("dim", "Channels of the first level; even", 32, minimum=4, integer=True),
    "dim_mults": (1, 2, 4),
    "attn_heads": Number("attn_heads", "Heads of every attention", 4, minimum=1, integer=True),
    "attn_dim_head": Number("attn_dim_head", "Features of a head over time; even", 32, minimum=2, integer=True),
    "init_kernel_size": Number("init_kernel_size", "Kernel of the first convolution; odd", 7, minimum=1, integer=True),
    "patch": Number("patch", "Side of the blocks of pixels that become channels; 1: none", 2, minimum=1, integer=True),
}
"""What both have in common."""

GENERATION = Task(
    name="video-generation",
    description="Make a clip out of noise",
    inputs=(Video("start", "A clip to start from: noise is added to it and taken away again", optional=True),),
    outputs=(Video("video", "The clip"),),
    options=(
        Number("seed", "Which clip: the same seed gives the same one", 0, minimum=0, integer=True),
        Number("frames", "How many; default: as many as the model was made for", minimum=1, maximum=1024, integer=True),
        Number("steps", "Passes through the network; default 25, or as many as it has", minimum=1, integer=True),
        Choice("sampler", "Without fresh noise at every step, or with it", "ddim", choices=("ddim", "ddpm")),
        Number("label", "What the clip is to show, for a model that knows labels", minimum=0, integer=True),
        Number("guidance", "How much the label counts: 1 as it was learnt, more is clearer", 1.0, minimum=0),
        Number(
            "threshold",
            "Values beyond their range are scaled by this quantile of them instead of being cut off",
            minimum=0.01,
            maximum=1,
        ),
        Number("strength", "How much noise a clip to start from gets; 1: nothing is left of it", 0.5, 0.01, 1),
    ),
    columns=(
        Video("video", "A clip as they are to be"),
        Number("label", "What it shows", optional=True, minimum=0, integer=True),
    ),
    metrics=(
        Metric(
            "mse",
            "stzoo_segmentation.diffusion:squared_error",
            description="Of a clip that was noised (option strength) and made again, from the clip",
        ),
    ),
    baselines=(
        Baseline("flat", "stzoo_segmentation.diffusion:flat", "Every pixel as bright as the clip is on the average"),
    ),
    pipeline="stzoo_segmentation.diffusion:Generation",
    pipeline_tag="text-to-video",
)

DIFFUSION = Architecture(
    name="video-diffusion",
    task="video-generation",
    build="stzoo_segmentation.diffusion:VideoDiffusion",
    defaults={
        **_NETWORK,
        "timesteps": Number("timesteps", "Steps from a clip to noise", 1000, minimum=1, integer=True),
        "frames": Number("frames", "Of the clips it is made for", 16, minimum=1, integer=True),
        "size": Shape("size", "Their height and width in pixels", (32, 32), axes=("height", "width")),
        "channels": Number("channels", "1: grey; 3: RGB", 1, minimum=1, integer=True),
        "cond_dim": Number("cond_dim", "How many labels there are; none by default", minimum=1, integer=True),
        "out_dim": Number("out_dim", "Channels that come out, if others than go in", minimum=1, integer=True),
        "init_dim": Number("init_dim", "Channels of the first convolution, if not dim", minimum=1, integer=True),
        "use_sparse_linear_attn": Choice(
            "use_sparse_linear_attn", "Linear attention within frames, at every level", True, choices=(True, False)
        ),
    },
    recipe="stzoo_segmentation.diffusion:DiffusionRecipe",
    formats=("stzoo_segmentation.stunet_checkpoints:VideoDiffusionFormat",),
    description="A space-time U-Net that tells the noise in clips, and makes clips out of noise with it",
    paper="https://arxiv.org/abs/2204.03458",
)

SEGMENTER = Architecture(
    name="stunet",
    task="video-segmentation",
    build="stzoo_segmentation.video_unet:SpatioTemporalUNet",
    defaults={
        **_NETWORK,
        "dim": Number("dim", "Channels of the first level", 16, minimum=1, integer=True),
        "attn_heads": Number("attn_heads", "Heads of every attention", 2, minimum=1, integer=True),
        "init_kernel_size": Number("init_kernel_size", "Kernel of the first convolution; odd", 3, 1, integer=True),
        "in_channels": Number("in_channels", "Channels of the clips", 3, minimum=1, integer=True),
        "out_channels": Number("out_channels", "One per class, or 1 for two classes", 2, minimum=1, integer=True),
        "attention": Choice("attention", "Within frames, at every level", "none", choices=("none", "frame")),
        "temporal": Choice("temporal", "Where frames attend to others", "middle", choices=("middle", "everywhere")),
        "span": Number("span", "How many frames before and after them", 4, minimum=1, integer=True),
        "fusion": Number("fusion", "How many frames before and after are mixed at the end", 1, 0, integer=True),
        "classes": (),
        "normalise": Choice(
            "normalise", "With mean and std as given, or each frame's own", "fixed", ("fixed", "image")
        ),
        "mean": (0.0,),
        "std": (1.0,),
        "scale": Number("scale", "How frames are reduced before, as a factor", 1.0, minimum=0.01, maximum=1),
    },
    recipe="stzoo_segmentation.recipe:SegmentationRecipe",
    description="A U-Net for each frame of a clip, with attention over time and late fusion",
    paper="https://arxiv.org/abs/2204.03458",
)
