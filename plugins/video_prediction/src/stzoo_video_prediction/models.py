"""The models this plugin brings: pure data, with what ``stzoo record`` wrote beside the weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stzoo import Measurement, Model, bundled
from stzoo.bundles import read_record


class _Data(NamedTuple):
    """What models of one ending were trained on."""

    trained_on: str
    prose: str
    limits: str
    published: str
    """The data of published numbers."""


_DATA = {
    "mmnist": _Data(
        "moving-mnist",
        "Moving MNIST made on the fly from MNIST's training digits (LeCun, Cortes and Burges; CC BY-SA 3.0): two "
        "handwritten digits that move at constant speed and bounce off the borders. All small models of this data saw the "
        "same number of clips, 32,000 in 8,000 steps: 1.6 % of the published training.",
        "Its frames blur where digits overlap and towards the end of the horizon. It knows nothing of natural video.",
        "moving-mnist (OpenSTL's test set)",
    ),
    "knmi": _Data(
        "rain-radar",
        "Radar rain over the Netherlands, 26 August 2010, 72 composites five minutes apart (KNMI, CC BY 4.0), as the "
        "logarithm of the rain rate; the first 28 to train on, the next 20 to choose the loss and the weights by, the last 24 to "
        "test: five clips, one frame apart. The loss is the mean squared plus the mean absolute error.",
        "It learned the showers of one day: the numbers say that, not that it forecasts rain. It smooths: heavy rain (5 mm/h "
        "and more, 0.05 % of the pixels that it was trained on) it hardly ever predicts, and repeating the last frame has the "
        "better CSI there.",
        "",
    ),
}

_TEXT = """\
## Intended use

A small model to try the task with, to test with and to fine-tune from.

## Training data

{prose} Hardware: {hardware}. Time: {minutes:g} minutes, on a machine shared with other work.{note}
{quick}
## Error at each predicted frame

{curves}
## Limitations

{limits} Its numbers are not the architecture's{published}. Beyond its horizon it is fed its own output.
"""

_CURVES = ("mse", "mae", "csi?threshold=1")
"""Metrics whose value at each frame is shown in a card, where they were measured."""
_OPENSTL = ("mse", "mae", "ssim", "psnr")
_WEIGHTS = Path(__file__).parent / "weights"


def _curves(curves: Mapping[str, Mapping[str, list[float]]]) -> str:
    """A table for each metric: a row for the model and for the baseline, a column for each frame."""
    lines = []
    for metric, rows in ((metric, curves[metric]) for metric in _CURVES if metric in curves):
        places = range(1, len(next(iter(rows.values()))) + 1)
        lines += [f"| {metric}, frame | " + " | ".join(map(str, places)) + " |", "|---|" + "---:|" * len(places)]
        lines += [f"| {name} | " + " | ".join(f"{value:.4g}" for value in row) + " |" for name, row in rows.items()]
        lines.append("")
    return "\n".join(lines)


def _quick(found: Mapping[str, float]) -> str:
    """What 300 steps from scratch gave."""
    return (
        "\nThe first 300 steps of this training alone (`python plugins/video_prediction/train_small.py quick mnist/`, on "
        f"200 test sequences): loss {found['first_loss']:.4g} (mean of steps 1 to 100), then {found['last_loss']:.4g} (201 "
        f"to 300); MSE {found['mse']:.4g}, the last frame repeated {found['persistence']:.4g}.\n"
    )


def _model(name: str, description: str, published: Mapping[str, float], network: str, note: str = "") -> Model:
    """A bundled model, from its record; ``network`` is what the ``published`` numbers are of."""
    data = _DATA[name.rpartition("-")[2]]
    quick: dict[str, Any] = json.loads((_WEIGHTS / "quick.json").read_text())
    prose = {
        "note": f" {note}" * bool(note),
        "published": ": see the published row" if published else "",
        "prose": data.prose,
        "limits": data.limits,
        "quick": _quick(quick[name]) if name in quick else "",
        "curves": _curves(read_record(_WEIGHTS / name)["curves"]),
    }
    card = _TEXT
    for key, text in prose.items():
        card = card.replace(f"{{{key}}}", text)
    return bundled(
        _WEIGHTS / name,
        metrics=tuple(
            Measurement(data.published, metric, value, "published", network) for metric, value in published.items()
        ),
        license="apache-2.0",
        trained_on=data.trained_on,
        description=description,
        dtypes=("float32", "bfloat16"),
        card=card,
        tags=("small",),
    )


def _published(*values: float) -> dict[str, float]:
    return dict(zip(_OPENSTL, values, strict=True))


def models() -> Iterator[Model]:
    """Every bundled model. Published: OpenSTL's benchmark (docs/en/model_zoos/video_benchmarks.md), 200 epochs."""
    digits = "ten frames of Moving MNIST in, the next ten out"
    yield _model(
        "tau-mmnist",
        f"A small TAU: {digits}",
        _published(24.60, 71.93, 0.9454, 23.19),
        "TAU, 44.7 M parameters, 200 epochs (OpenSTL)",
    )
    yield _model(
        "simvp-mmnist",
        f"A small SimVP with the gSTA translator: {digits}",
        _published(26.69, 77.19, 0.9402, 22.78),
        "SimVP+gSTA, 46.8 M parameters, 200 epochs (OpenSTL)",
    )
    yield _model(
        "convlstm-mmnist",
        f"A small ConvLSTM: {digits}",
        _published(29.80, 90.64, 0.9288, 22.10),
        "ConvLSTM-S, 15.0 M parameters, 200 epochs (OpenSTL)",
    )
    yield _model(
        "phydnet-mmnist",
        f"A small PhyDNet: {digits}",
        _published(28.19, 78.64, 0.9374, 22.62),
        "PhyDNet, 3.1 M parameters, 200 epochs (OpenSTL, whose training minimises another quantity)",
        "The loss is the paper's; OpenSTL's training, by mistake, compares the loss with the target frames.",
    )
    yield _model(
        "swinlstm-mmnist",
        f"A small SwinLSTM-B: {digits}",
        {"mse": 17.7, "ssim": 0.962},
        "SwinLSTM-D, 20.2 M parameters, 2,000 epochs (paper)",
    )

    yield _model("tau-knmi", "A small TAU for radar rain: 50 minutes in, the next 50 out", {}, "")
    yield _model(
        "simvp-knmi",
        "A small SimVP for radar rain: 50 minutes in, the next 50 out",
        {},
        "",
        "Clips were shown up to 30 % darker or brighter: the rain it learned from is lighter than what it is measured on. Of "
        "several trainings the one with the least loss on the frames to choose by is kept.",
    )


MODELS: tuple[Model, ...] = tuple(models())
