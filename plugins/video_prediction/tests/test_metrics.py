"""The metrics against the reference implementation's numbers, and SSIM against scikit-image."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from skimage.metrics import structural_similarity

from stzoo.errors import InputError
from stzoo_video_prediction import metrics

GOLDENS = Path(__file__).with_name("goldens")
TENSORS = load_file(GOLDENS / "metrics-openstl.safetensors")
RESULTS = json.loads((GOLDENS / "metrics-openstl.json").read_text())["results"]
NAMES = ("mse", "mae", "rmse", "ssim", "psnr", "snr")


@pytest.mark.parametrize("case", ["gray", "two", "rgb_nonsquare"])
def test_golden(case: str) -> None:
    prediction, target = TENSORS[f"{case}.pred"], TENSORS[f"{case}.true"]
    streamed = metrics.Metrics()
    for p, t in zip(prediction, target, strict=True):
        streamed.update(p, t)
    expected = {name: RESULTS[case][name] for name in NAMES if name in RESULTS[case]}
    for values in (
        {name: getattr(metrics, name)(prediction, target) for name in expected},
        {name: streamed.compute()[name] for name in expected},
    ):
        assert values == pytest.approx(expected, rel=1e-6)


def test_ssim_is_scikit_images() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((3, 2, 20, 33))
    prediction = target + rng.normal(0, 0.2, target.shape)
    expected = np.mean(
        [
            structural_similarity(p, t, channel_axis=0, data_range=2.0)
            for p, t in zip(prediction.clip(0, 1), target, strict=True)
        ]
    )
    assert metrics.ssim(prediction, target) == pytest.approx(expected, abs=1e-12)


def test_errors_are_not_clipped_and_quality_is() -> None:
    target = np.ones((1, 1, 8, 8))
    assert metrics.mse(target + 1, target) == 64
    assert metrics.psnr(target + 1, target) == np.inf
    assert metrics.ssim(target + 1, target) == pytest.approx(1)


def test_bytes_are_taken_for_fractions_of_255() -> None:
    target = np.zeros((2, 1, 8, 8), np.uint8)
    assert metrics.mae(target + np.uint8(255), target) == 64


def test_shapes_are_checked() -> None:
    with pytest.raises(InputError, match="one shape"):
        metrics.mse(np.zeros((1, 8, 8)), np.zeros((2, 8, 8)))
    with pytest.raises(InputError, match="smaller than"):
        metrics.ssim(np.zeros((1, 8, 6)), np.zeros((1, 8, 6)))
    with pytest.raises(InputError, match="no frames"):
        metrics.Metrics().compute()
