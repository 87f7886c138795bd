"""The scale of radar rain."""

from __future__ import annotations

import numpy as np

from stzoo_video_prediction import radar


def test_pixels_are_decibels_that_can_be_turned_back() -> None:
    rates = np.array([0, 0.05, 0.1, 1, 3.7, 10, 100, 500])
    pixels = radar.scaled(rates / 12)
    assert pixels.dtype == np.uint8
    assert pixels[[0, 1, 2, 3, 5, 6, 7]].tolist() == [0, 0, 0, 85, 170, 255, 255]
    np.testing.assert_allclose(radar.rain_rate(pixels[3:7]), rates[3:7], rtol=0.015)
