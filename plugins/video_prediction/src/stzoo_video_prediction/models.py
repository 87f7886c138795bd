"""The models this plugin brings: pure data, with the numbers that ``train_moving_mnist.py evaluate`` recorded beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stzoo import Measurement, Model, Requirements, Weights

# OpenSTL's benchmark (docs/en/model_zoos/video_benchmarks.md): the full networks, trained for 200 epochs.
_PUBLISHED = {
    "tau": (
        "TAU, 44.7 M parameters, 200 epochs (OpenSTL)",
        {"mse": 24.60, "mae": 71.93, "ssim": 0.9454, "psnr": 23.19},
    ),
    "simvp": (
        "SimVP+gSTA, 46.8 M parameters, 200 epochs (OpenSTL)",
        {"mse": 26.69, "mae": 77.19, "ssim": 0.9402, "psnr": 22.78},
    ),
}

_CARD = """\
## Intended use

A small model to try the task with, to test with and to fine-tune from. It predicts the next frames of two handwritten
digits that move at constant speed and bounce off the borders.

## Training data

{data}. Digits of MNIST (LeCun, Cortes and Burges; CC BY-SA 3.0), train digits only. Hardware: {hardware}. Time: {minutes:g}
minutes, {steps:,} steps, seed {seed}, batch {batch}. {note} The run used an earlier copy of
the networks and of the loss, with the same formulas. The script now trains this configuration in one command
(`--preset small`), which gives other bits and has not been run to its end.

## Limitations

It is a sixteenth of the published network and saw a few per cent of the published training: its frames blur where digits
overlap and towards the end of the horizon. Its numbers are not the architecture's: see the published row. Beyond ten
frames it is fed its own output. It knows nothing of natural video.
"""


def _moving_mnist(architecture: str, description: str) -> Model:
    """A model trained on Moving MNIST, from its record."""
    name = f"{architecture}-mmnist"
    record: dict[str, Any] = json.loads((Path(__file__).parent / "weights" / f"{name}.json").read_text())
    note, published = _PUBLISHED[architecture]
    dataset = f"moving-mnist (test digits, {record['sequences']:,} sequences)"
    command = record["evaluate_command"]
    metrics = [Measurement(dataset, metric, record["metrics"][metric], command=command) for metric in published]
    metrics += [
        Measurement(dataset, metric, record["baseline"][metric], "baseline", record["baseline"]["name"], command)
        for metric in published
    ]
    metrics += [
        Measurement("moving-mnist (OpenSTL's test set)", metric, value, "published", note)
        for metric, value in published.items()
    ]
    return Model(
        name=name,
        architecture=architecture,
        config=record["config"],
        weights=Weights(
            f"stzoo/{name}",
            sha256=record["sha256"],
            size=record["size"],
            bundled=f"weights/{name}.safetensors",
            dtype="float16",
        ),
        license="apache-2.0",
        trained_on="moving-mnist",
        description=description,
        command=record["command"],
        metrics=tuple(metrics),
        requirements=Requirements(frames_in=10, frames_out=10, channels=1, minimum=4, multiple=4, native_size=(64, 64)),
        dtypes=("float32", "bfloat16"),
        parameters=record["parameters"],
        flops=record["flops"],
        fingerprint=record["fingerprint"],
        card=_CARD.format_map(record),
        tags=("small",),
    )


MODELS: tuple[Model, ...] = (
    _moving_mnist("tau", "A small TAU: ten frames of Moving MNIST in, the next ten out"),
    _moving_mnist("simvp", "A small SimVP with the gSTA translator: ten frames of Moving MNIST in, the next ten out"),
)
