"""PSNR, SSIM and PSNR-B against BasicSR's, SwinIR's and MATLAB's conventions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from stzoo import Requirements
from stzoo.errors import InputError
from stzoo_super_resolution import metrics

GOLDENS = Path(__file__).parent / "goldens"
SCALARS = json.loads((GOLDENS / "metrics-psnr-ssim.json").read_text())["scalars"]
PICTURES = load_file(GOLDENS / "metrics-psnr-ssim.safetensors")
TARGET, PREDICTION = (PICTURES[f"input_{name}_rgb_u8"].transpose(2, 0, 1) for name in ("gt", "pred"))
FUNCTIONS = {
    "psnr_y": metrics.psnr_y,
    "ssim_y": metrics.ssim_y,
    "basicsr_psnr_y": metrics.psnr_y,
    "basicsr_ssim_y": metrics.ssim_y,
    "psnr_rgb": metrics.psnr_rgb,
    "ssim_rgb": metrics.ssim_rgb,
    "matlab_psnr_y_uint8": metrics.psnr_y_uint8,
    "matlab_ssim_y_uint8": metrics.ssim_y_uint8,
    "psnrb_y": metrics.psnr_b,
}
NAMED = [(name, crop) for name in FUNCTIONS for crop in (0, 2, 4) if f"{name}_crop{crop}" in SCALARS]


@pytest.mark.parametrize(("name", "crop"), NAMED)
def test_as_the_field_measures(name: str, crop: int) -> None:
    expected = pytest.approx(SCALARS[f"{name}_crop{crop}"], abs=2e-6)
    assert FUNCTIONS[name](PREDICTION, TARGET, crop=crop) == expected
    prediction, target = (picture / np.float32(255) for picture in (PREDICTION, TARGET))
    assert FUNCTIONS[name](prediction, target, crop=crop) == expected
    assert FUNCTIONS[name](prediction, target, requirements=Requirements(scale=max(crop, 1))) == expected


@pytest.mark.parametrize("name", ["psnr", "ssim", "psnrb"])
def test_grey_pictures_are_compared_as_they_are(name: str) -> None:
    function = {"psnr": metrics.psnr_y, "ssim": metrics.ssim_y, "psnrb": metrics.psnr_b}[name]
    assert function(PREDICTION[:1], TARGET[:1]) == pytest.approx(SCALARS[f"{name}_gray_R"], abs=1e-6)


def test_scikit_image_agrees() -> None:
    from skimage.metrics import structural_similarity

    one, two = (np.floor(metrics.luma(picture)[0] + 0.5) for picture in (PREDICTION, TARGET))
    expected = structural_similarity(
        one, two, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert metrics.ssim_y_uint8(PREDICTION, TARGET) == pytest.approx(expected, abs=1e-9)


def test_predictions_are_rounded_to_what_would_be_saved() -> None:
    almost = TARGET / np.float32(255) + 0.4 / 255
    assert metrics.psnr_y(almost.clip(0, 1), TARGET) == math.inf
    assert metrics.ssim_y(almost.clip(0, 1), TARGET) == pytest.approx(1)


def test_transparency_is_not_looked_at() -> None:
    one, two = (np.concatenate((picture, picture[:1] // value)) for picture, value in ((PREDICTION, 1), (TARGET, 2)))
    assert metrics.psnr_rgb(one, two) == metrics.psnr_rgb(PREDICTION, TARGET)


def test_errors_of_depth_count_known_values_only() -> None:
    truth = np.array([[[0.0, 1.0, 2.0, np.nan]]])
    found = np.array([[[9.0, 1.5, 1.0, 1.0]]])
    assert metrics.mae(found, truth) == pytest.approx(0.75)
    assert metrics.rmse(found, truth) == pytest.approx(math.sqrt((0.25 + 1) / 2))


@pytest.mark.parametrize(
    ("prediction", "target", "crop", "message"),
    [
        (np.zeros((3, 20, 20)), np.zeros((3, 20, 21)), 0, "the prediction is"),
        (np.zeros((2, 20, 20)), np.zeros((2, 20, 20)), 0, "is not a picture"),
        (np.zeros((3, 8, 20)), np.zeros((3, 8, 20)), 4, "border of 4"),
        (np.zeros((3, 10, 20)), np.zeros((3, 10, 20)), 0, "smaller than SSIM's window"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    prediction: np.ndarray, target: np.ndarray, crop: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        metrics.ssim_y(prediction, target, crop=crop)
