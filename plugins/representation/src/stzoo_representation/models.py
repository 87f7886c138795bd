"""The models this plugin brings: pure data, with the numbers that were recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Model
from stzoo.bundles import bundled
from stzoo_representation import models_forecasting, models_verification, official

_WEIGHTS = Path(__file__).parent / "weights"
_MAE_TINY = """\
## Intended use

A small network to try the task with, to test with and to fine-tune from. Pictures are resized to 64x64 pixels; of their 64 patches
of 8x8 it sees 16.

## Training data

Random crops of 18 photographs of the Kodak suite (free to use), by `plugins/representation/kodak_squares.py`; squares of two further
ones chose the best weights, and squares of four others are what it was tested on. Hardware: {hardware}. Time: {minutes:g} minutes.

## Limitations

It learnt from eighteen photographs for eleven minutes, and began to know these by heart. What it draws is little more than the colours
of what is near, blurred: better than one mean colour (the numbers are above), but no texture, no objects, no edges, and seams
between patches can be seen. Its features have not been measured on any task and should not be expected to say what a picture
shows: for that there are its authors' weights.
"""

_ENCODER = """\
## Intended use

The encoder of mae-tiny by itself, to try features with: a picture, resized to 64x64 pixels, becomes 128 numbers.

## Training data

That of mae-tiny; nothing was trained further.

## Limitations

Those of mae-tiny. These features have not been measured on any task, and should not be expected to say what a picture shows.
"""

MODELS: tuple[Model, ...] = (
    bundled(
        _WEIGHTS / "mae-tiny",
        description="A very small masked autoencoder for pictures of 64x64 pixels",
        license="apache-2.0",
        trained_on="18 photographs of the Kodak suite",
        example="parrots",
        card=_MAE_TINY,
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "mae-tiny-encoder",
        description="The encoder of mae-tiny: a picture to 128 numbers",
        license="apache-2.0",
        trained_on="18 photographs of the Kodak suite",
        example="parrots-features",
        base_model="stzoo/mae-tiny",
        card=_ENCODER,
        tags=("small",),
    ),
    *official.MODELS,
    *models_forecasting.MODELS,
    *models_verification.MODELS,
)
