"""The metrics against the reference implementation's numbers, scikit-image and torchmetrics."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stzoo.errors import InputError
from stzoo_video_prediction import metrics, metrics_torchmetrics
from stzoo_video_prediction.pipeline import last_frame

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


def test_torchmetrics_definitions_are_scikit_images_with_a_gaussian_window() -> None:
    rng = np.random.default_rng(1)
    target = rng.random((3, 2, 20, 33))
    prediction = target + rng.normal(0, 0.2, target.shape)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    mirrored = [np.pad(clip, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect") for clip in (prediction, target)]
    frames = [  # scikit-image leaves out as much of the border as was added
        structural_similarity(p, t, channel_axis=0, data_range=1.0, **gaussian) for p, t in zip(*mirrored, strict=True)
    ]
    assert metrics_torchmetrics.ssim(prediction, target) == pytest.approx(np.mean(frames), abs=1e-6)
    whole = peak_signal_noise_ratio(target, prediction, data_range=1.0)
    assert metrics_torchmetrics.psnr(prediction, target) == pytest.approx(whole, rel=1e-6)
    per_frame = np.mean([metrics.psnr(p, t) for p, t in zip(prediction.clip(0, 1), target, strict=True)])
    assert abs(whole - per_frame) > 0.01  # another definition, under another name


def test_torchmetrics_definitions_are_those_of_its_classes() -> None:
    import torch
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    rng = np.random.default_rng(2)
    target = rng.integers(0, 256, (4, 1, 16, 16), np.uint8)
    prediction = rng.random((4, 1, 16, 16), np.float32)
    pair = torch.from_numpy(prediction).double(), torch.from_numpy(target).double() / 255
    for function, judge in (
        (metrics_torchmetrics.ssim, StructuralSimilarityIndexMeasure(data_range=1.0)),
        (metrics_torchmetrics.psnr, PeakSignalNoiseRatio(data_range=1.0)),
    ):
        assert function(prediction, target) == pytest.approx(float(judge(*pair)), abs=1e-6)


def test_torchmetrics_at_the_ends() -> None:
    clip = np.random.default_rng(3).random((2, 1, 7, 7))
    assert metrics_torchmetrics.ssim(clip, clip) == pytest.approx(1)
    assert metrics_torchmetrics.psnr(clip, clip) == np.inf
    with pytest.raises(InputError, match="one shape"):
        metrics_torchmetrics.psnr(clip, clip[:1])


def test_the_baseline_repeats_the_last_frame() -> None:
    given, truth = np.random.default_rng(4).random((2, 3, 1, 8, 8))
    predicted = last_frame({"video": given}, {"video": truth[:2]})["video"]
    assert predicted.shape == (2, 1, 8, 8)
    assert (predicted == given[2]).all()
