"""Tasks, architectures, metrics and named data sets of the plugin: pure data."""

from __future__ import annotations

from dataclasses import replace

from stzoo import Architecture, Baseline, Dataset, Metric, Task
from stzoo.fields import Choice, Depth, Image, Number, Shape, Video
from stzoo.fields.values import as_value
from stzoo_reconstruction.fields import CameraPath, Splats, Views

_HERE = "stzoo_reconstruction"

METRICS: tuple[Metric, ...] = (
    Metric("psnr", f"{_HERE}.metrics:psnr", "higher", "Peak signal-to-noise ratio in dB, colours in [0, 1]"),
    Metric("ssim", f"{_HERE}.metrics:ssim", "higher", "Structural similarity, Gaussian windows of 11x11"),
    Metric("lpips", "stzoo.lpips:lpips", "lower", "Perceptual distance (AlexNet)", optional=True),
)

BACKGROUND = as_value("background", "white")
"""What is behind the scene: ``white``, ``black`` or ``r,g,b`` in [0, 1]."""

NOVEL_VIEW = Task(
    name="novel-view",
    description="Show a scene from a camera, or along a path of cameras",
    inputs=(CameraPath("cameras", "Cameras, one or several; left out: the scene's own home view", optional=True),),
    outputs=(
        Image("image", "The scene as the first camera sees it"),
        Video("video", "The scene as all cameras see it, if there are several", optional=True),
        Depth("depth", "Along the optical axis of the first camera, in units of the scene", optional=True),
        Splats("scene", "The scene itself", optional=True),
    ),
    options=(
        Number("azimuth", "Degrees around the scene's centre, from the home view to the right", 0, -360, 360),
        Number("elevation", "Degrees upwards, from the home view", 0, -90, 90),
        Number("zoom", "How many times nearer the camera is", 1, 0.1, 10),
        Number("frames", "Frames of a turntable around the scene; 0: none", 0, 0, 600, integer=True),
        Number("size", "Pixels of the longer side; 0: as the camera has it", 0, 0, 4096, integer=True),
        Choice("depth", "Give depth too", False, choices=(False, True)),
        Choice("scene", "Give the scene too", False, choices=(False, True)),
    ),
    columns=(
        CameraPath("cameras", "The camera of the view"),
        Image("image", "What it saw"),
        replace(as_value("capture", ""), description="Where the capture is, which may have points", optional=True),
    ),
    reader=f"{_HERE}.captures:reader",
    metrics=METRICS,
    baselines=(Baseline("white", f"{_HERE}.metrics:white", "A white picture"),),
    pipeline=f"{_HERE}.pipeline:NovelView",
    pipeline_tag="image-to-3d",
)

RECONSTRUCTION = Task(
    name="reconstruction",
    description="Make a scene from photographs whose cameras are known",
    inputs=(Views("views", "Photographs with their cameras"),),
    outputs=(
        Splats("scene", "The scene"),
        Image("image", "A photograph that was held out, and beside it the scene from there"),
        Video("video", "A turntable around it, if frames are asked for", optional=True),
    ),
    options=(
        Number(
            "steps", "Steps of learning; 0: as many as the model finds right, up to 3000", 0, 0, 1_000_000, integer=True
        ),
        Number("size", "Photographs are reduced to this longer side in pixels; 0: no", 256, 0, 8192, integer=True),
        Number("points", "At most so many Gaussians, if it is made of these", 20_000, 100, 5_000_000, integer=True),
        Number("seed", "Of what is random", 0, 0, integer=True),
        Number("frames", "Frames of the turntable; 0: none", 24, 0, 600, integer=True),
        Choice("poses", "Cameras: as given, or found by structure from motion", "given", choices=("given", "sfm")),
    ),
    columns=(Views("views", "Photographs with their cameras"),),
    pipeline=f"{_HERE}.fitting:Reconstruction",
    pipeline_tag="image-to-3d",
)

GAUSSIAN_SPLATTING = Architecture(
    name="gaussian-splatting",
    task="novel-view",
    build=f"{_HERE}.gaussians:GaussianSplatting",
    defaults={
        "points": Number("points", "Gaussians", 1000, minimum=1, integer=True),
        "degree": Number("degree", "Of the spherical harmonics of colours", 3, 0, 3, integer=True),
        "background": BACKGROUND,
        "antialiased": False,
        "near": Number("near", "Nearer than this nothing is drawn", 0.01, minimum=0),
        "rules": Choice("rules", "Thresholds of rasterisation", "gsplat", choices=("gsplat", "inria")),
        "home": (),
    },
    recipe=f"{_HERE}.gaussian_recipe:GaussianRecipe",
    formats=tuple(
        f"{_HERE}.gaussian_checkpoints:{name}" for name in ("GsplatCheckpoint", "OriginalCheckpoint", "SplatPly")
    ),
    description="3D Gaussian splatting: a scene of Gaussians, projected and blended",
    paper="https://arxiv.org/abs/2308.04079",
)

NERF = Architecture(
    name="nerf",
    task="novel-view",
    build=f"{_HERE}.nerf:NeRF",
    defaults={
        "layers": Number("layers", "Layers of a network's trunk; the paper's: 8", 4, 2, 64, integer=True),
        "width": Number("width", "Units of a layer; the paper's: 256", 64, 2, 4096, integer=True),
        "skips": as_value("skips", (4,)),
        "frequencies": Shape(
            "frequencies", "Of the encodings of points and of directions", (10, 4), axes=("points", "directions")
        ),
        "viewdirs": Choice("viewdirs", "Whether colour depends on the direction", True, choices=(True, False)),
        "activations": Choice(
            "activations",
            "Where ReLU is: as in the official code, or as in krrish94's FlexibleNeRFModel",
            "nerf",
            choices=("nerf", "flexible"),
        ),
        "samples": Number("samples", "Of a ray, at first; the paper's: 64", 48, 1, 4096, integer=True),
        "fine_samples": Number(
            "fine_samples",
            "Further ones, for a fine network; the paper's: 128; 0: there is none",
            0,
            0,
            4096,
            integer=True,
        ),
        "near": Number("near", "Depth at which rays start", 2.0, minimum=0),
        "far": Number("far", "Depth at which they end", 6.0, minimum=1e-9),
        "spacing": Choice("spacing", "Samples are evenly spaced in", "depth", choices=("depth", "disparity")),
        "background": BACKGROUND,
        "frame": (),
        "ndc": Choice(
            "ndc", "Normalised device coordinates: for scenes before the cameras", False, choices=(True, False)
        ),
        "pixel_centre": Choice(
            "pixel_centre", "Where a pixel is seen from its corner; the official code: 0", 0.5, choices=(0.5, 0.0)
        ),
        "cells": Number(
            "cells",
            "Of each side of the grid that knows where space is empty; the paper's: 0",
            32,
            0,
            256,
            integer=True,
        ),
        "home": (),
    },
    recipe=f"{_HERE}.nerf_recipe:NeRFRecipe",
    formats=(f"{_HERE}.nerf_checkpoints:NeRFPytorch", f"{_HERE}.nerf_checkpoints:FlexibleNeRF"),
    description="NeRF: a network that knows colour and density of every point, integrated along rays; by default a small one",
    paper="https://arxiv.org/abs/2003.08934",
)

SCENE_FIT = Architecture(
    name="scene-fit",
    task="reconstruction",
    build=f"{_HERE}.fitting:SceneFit",
    defaults={
        "method": Choice("method", "What the scene is made of", "gaussian-splatting", ("gaussian-splatting", "nerf")),
        "config": {},
        "recipe": {},
        "passes": Number("passes", "How often each pixel is looked at where steps are not given", 40.0, minimum=0.001),
    },
    description="Makes a scene of photographs with the recipe of the method: it learns while it predicts",
)

_HOTDOG = "48 views of 64x64 pixels of NeRF's synthetic hotdog, rendered from a network; they come with the plugin"

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "hotdog",
        "novel-view",
        f"{_HERE}.examples:views",
        splits=("train", "validation", "test"),
        description=_HOTDOG,
        license="cc0-1.0",
        shipped=True,
    ),
    Dataset(
        "hotdog-capture",
        "reconstruction",
        f"{_HERE}.examples:captures",
        splits=("test",),
        description=_HOTDOG,
        license="cc0-1.0",
        shipped=True,
    ),
)
