"""How well patches that were left out are drawn: (prediction, truth), both (C, H, W), the truth NaN where nothing was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stzoo import Requirements
from stzoo.errors import InputError


def _error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Differences (C, N) at the pixels left out."""
    if prediction.shape != truth.shape:
        raise InputError(f"the prediction has shape {prediction.shape}, the truth {truth.shape}")
    known = np.isfinite(truth).all(0)
    return np.subtract(prediction[:, known], truth[:, known], dtype=np.float64)


def mse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error, values in [0, 1]."""
    return float(np.square(_error(prediction, truth)).mean())


def mse_normalised(prediction: np.ndarray, truth: np.ndarray) -> float:
    """The same with every colour divided by ImageNet's standard deviation, as networks are given it."""
    from stzoo_representation.mae import colour_constants

    std = np.array(colour_constants(len(truth))[1])
    return float(np.square(_error(prediction, truth) / std[:, None]).mean())


def psnr(prediction: np.ndarray, truth: np.ndarray) -> float:
    """``-10 log10(mse)``, of at most 100 decibels."""
    return float(-10 * np.log10(max(mse(prediction, truth), 1e-10)))


def mse_patch(prediction: np.ndarray, truth: np.ndarray, requirements: Requirements = Requirements()) -> float:  # noqa: B008
    """The mean squared error with each patch divided by the standard deviation of the true one (plus 1e-6 in its square)."""
    from stzoo_representation.mae import EPSILON

    patch, std = requirements.multiple, _std(truth)
    channels, height, width = truth.shape
    both = [
        (item / std).reshape(channels, height // patch, patch, width // patch, patch).transpose(1, 3, 2, 4, 0)
        for item in (prediction, truth)
    ]
    drawn, true = (item.reshape(-1, channels * patch * patch) for item in both)
    known = np.isfinite(true).all(1)
    drawn, true = drawn[known], true[known]
    return float((np.square(drawn - true) / (true.var(1, ddof=1, keepdims=True) + EPSILON)).mean())


def _std(truth: np.ndarray) -> np.ndarray:
    from stzoo_representation.mae import colour_constants

    return np.array(colour_constants(len(truth))[1])[:, None, None]


def mean_patch(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The baseline: every pixel that is left out gets the mean colour of those that are seen."""
    image, hidden = inputs["image"], np.isfinite(truth["image"]).all(0)
    mean = image[:, ~hidden].mean(1)[:, None, None]
    return {"image": np.where(hidden, mean, image).astype(np.float32)}
