"""Checkpoints that others publish, one row for each file; ``stzoo import NAME`` brings and converts one.

Those of krrish94/nerf-pytorch (https://github.com/krrish94/nerf-pytorch, MIT), trained on Blender's synthetic scenes of 400x400
pixels; settings are those of the ``config.yml`` beside each file. Left out: its fern, whose cameras are in the photographs'
data alone, and lego and ship, whose models of the objects have licences that ask for more than MIT.
"""

from __future__ import annotations

from stzoo import Model, Source

_KRRISH = "https://raw.githubusercontent.com/krrish94/nerf-pytorch/a14357da6cada433d28bf11a45c7bcaace76c06e/pretrained"


def _krrish(scene: str, step: int, fine: int, sha256: str, asset: str) -> Model:
    return Model(
        name=f"nerf-{scene}.krrish94",
        architecture="nerf",
        config={
            "layers": 4,
            "width": 128,
            "skips": (),
            "activations": "flexible",
            "samples": 64,
            "fine_samples": fine,
            "pixel_centre": 0.0,
            "cells": 0,
        },
        source=Source(f"{_KRRISH}/{scene}-lowres/checkpoint{step}.ckpt", sha256=sha256, size=2_044_541),
        license="mit",
        code_license="apache-2.0",
        trained_on=f"nerf-synthetic {scene}",
        description=f"NeRF of the synthetic {scene}, 400x400 pixels (krrish94's weights; the model of the object: {asset})",
        parameters=169_096,
        tags=("official",),
    )


MODELS: tuple[Model, ...] = (
    _krrish("chair", 155_000, 64, "ab7e8010d253ce2de9528a4e5bcae172950ecd053b58bc6a83e555781b9bd05d", "CC0"),
    _krrish("drums", 199_999, 64, "dfcecdd4a662897dbba23a4e034c3172b445ea9b685439f21182eec2a4014d31", "CC BY"),
    _krrish("hotdog", 100_000, 128, "1da00daee606c5915a977861deba331a886404e34b738a7ff26f32d8ffcc8668", "CC0"),
    _krrish("materials", 199_999, 64, "92fd5b516ebec37ed4f256e01d045be5d0f8a850630b382c61d3d2d6eb72263e", "CC0"),
)
