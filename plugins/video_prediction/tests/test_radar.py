"""The scale of radar rain, and what the small model of it is worth."""

from __future__ import annotations

import numpy as np

import stzoo
from stzoo.bundles import read_record
from stzoo_video_prediction import radar
from stzoo_video_prediction.models import _WEIGHTS


def test_pixels_are_decibels_that_can_be_turned_back() -> None:
    rates = np.array([0, 0.05, 0.1, 1, 3.7, 10, 100, 500])
    pixels = radar.scaled(rates / 12)
    assert pixels.dtype == np.uint8
    assert pixels[[0, 1, 2, 3, 5, 6, 7]].tolist() == [0, 0, 0, 85, 170, 255, 255]
    np.testing.assert_allclose(radar.rain_rate(pixels[3:7]), rates[3:7], rtol=0.015)


def test_the_small_model_beats_persistence_from_the_second_frame_on() -> None:
    found = stzoo.evaluate("tau-knmi", "rain-radar", metrics=["mse", "mae"], limit=2).models  # of the clips carried
    recorded = read_record(_WEIGHTS / "tau-knmi")["curves"]
    for name in ("mse", "mae"):
        measured = {model.name: model.metrics[name].curve for model in found}
        for curves in (measured, recorded[name]):
            own, last = np.array(curves["tau-knmi"]), np.array(curves["last-frame"])
            assert own.shape == (10,) and (own[1:] < last[1:]).all(), name
