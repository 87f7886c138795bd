"""The metrics and the named data sets of video prediction: pure data."""

from __future__ import annotations

from stzoo import Dataset, Metric

_HERE = "stzoo_video_prediction"


def _metric(name: str, compute: str, better: str, description: str, summary: str | None = None, **more: bool) -> Metric:
    """A metric that has a value for each frame."""
    own = f"{_HERE}.{summary}" if summary else None
    return Metric(name, f"{_HERE}.{compute}", better, description, summary=own, curve="frame", **more)  # type: ignore[arg-type]


METRICS: tuple[Metric, ...] = (
    _metric(
        "mse", "metrics:mse_frames", "lower", "Squared error summed over a frame's pixels, mean over frames (OpenSTL)"
    ),
    _metric(
        "mae", "metrics:mae_frames", "lower", "Absolute error summed over a frame's pixels, mean over frames (OpenSTL)"
    ),
    _metric("ssim", "metrics:ssim_frames", "higher", "Structural similarity with data range 2 (OpenSTL)"),
    _metric("psnr", "metrics:psnr_frames", "higher", "Peak signal-to-noise ratio in dB, mean over frames (OpenSTL)"),
    _metric(
        "ssim_torchmetrics",
        "metrics_torchmetrics:ssim_frames",
        "higher",
        "Structural similarity, Gaussian window 11, data range 1 (torchmetrics)",
    ),
    Metric(
        "psnr_torchmetrics",
        f"{_HERE}.metrics_torchmetrics:psnr",
        "higher",
        "Peak signal-to-noise ratio in dB of the whole clip, data range 1 (torchmetrics)",
    ),
    _metric(
        "rmse",
        "metrics:mse_frames",
        "lower",
        "Root of mse over all frames of all examples (OpenSTL)",
        "metrics:root_of_mean",
        optional=True,
    ),
    _metric(
        "snr",
        "metrics:snr_frames",
        "higher",
        "Signal-to-noise ratio in dB, mean over frames (OpenSTL)",
        optional=True,
    ),
    _metric(
        "mse_pixel",
        "metrics:mse_pixel_frames",
        "lower",
        "Squared error, mean over pixels and frames (OpenSTL for weather); options std, groups",
        optional=True,
    ),
    _metric(
        "mae_pixel",
        "metrics:mae_pixel_frames",
        "lower",
        "Absolute error, mean over pixels and frames (OpenSTL for weather); option std",
        optional=True,
    ),
    _metric(
        "rmse_pixel",
        "metrics:squares_pixel_frames",
        "lower",
        "Root of the mean squared error of each variable, mean over them (OpenSTL for weather); options std, groups",
        "metrics:mean_of_roots",
        optional=True,
    ),
    Metric(
        "lpips",
        "stzoo.lpips:lpips",
        "lower",
        "Learned perceptual distance, AlexNet, version 0.1 (as OpenSTL); needs weights",
        curve="frame",
        optional=True,
    ),
    _metric(
        "csi",
        "radar:csi_frames",
        "higher",
        "Critical success index of rain, all pixels together; options threshold (mm/h), dry, wet",
        "radar:critical_success_index",
        optional=True,
    ),
    _metric(
        "fss",
        "radar:fss_frames",
        "higher",
        "Fractions skill score of rain; options threshold (mm/h), window (pixels), dry, wet",
        "radar:fractions_skill_score",
        optional=True,
    ),
)


def _dataset(name: str, load: str, description: str, license: str, homepage: str, *, shipped: bool = False) -> Dataset:
    return Dataset(
        name=name,
        task="video-prediction",
        load=f"{_HERE}.{load}",
        splits=("train", "validation", "test"),
        shipped=shipped,
        description=description,
        license=license,
        homepage=homepage,
    )


DATASETS: tuple[Dataset, ...] = (
    _dataset(
        "moving-mnist",
        "moving_mnist:load",
        "Two handwritten digits moving in a 64x64 frame, 20 frames; made on the fly from MNIST digits, or the fixed test "
        "set mnist_test_seq.npy (?fixed=PATH)",
        "cc-by-sa-3.0",
        "https://www.cs.toronto.edu/~nitish/unsupervised_video/",
        shipped=True,
    ),
    _dataset(
        "moving-fashion-mnist",
        "moving_mnist:load_fashion",
        "Moving MNIST with clothes: ?digits=FOLDER with Fashion-MNIST's idx files, or ?digits=hub; ?fixed=PATH of "
        "fmnist_test_seq.npy",
        "mit",
        "https://github.com/zalandoresearch/fashion-mnist",
    ),
    _dataset(
        "taxibj",
        "openstl_data:taxibj",
        "Taxi flows of Beijing, 2 channels 32x32, 8 frames: ?root=FOLDER with taxibj/dataset.npz",
        "",
        "https://arxiv.org/abs/1610.00081",
    ),
    _dataset(
        "kth",
        "openstl_data:kth",
        "People in motion, grey 128x128, 30 frames: ?root=FOLDER with kth/ACTION/personNN_.../image_NNNN.png",
        "",
        "https://www.csc.kth.se/cvap/actions/",
    ),
    _dataset(
        "human",
        "openstl_data:human",
        "Human3.6M, 256x256, 8 frames: ?root=FOLDER with human/train.txt, human/test.txt and human/images/",
        "",
        "http://vision.imar.ro/human3.6m/",
    ),
    _dataset(
        "kitticaltech",
        "openstl_data:kitticaltech",
        "Driving, KITTI to train and Caltech Pedestrian to test, 128x160, 11 frames: ?root=FOLDER with kitticaltech_npy/, "
        "or kitti_hkl/ and caltech/",
        "",
        "https://www.cvlibs.net/datasets/kitti/",
    ),
    _dataset(
        "weather",
        "weather:load",
        "WeatherBench: ?root=FOLDER with weather_5_625deg/2m_temperature/*.nc; &variables=u10,v10&levels=500&step=6",
        "cc-by-4.0",
        "https://github.com/pangeo-data/WeatherBench",
    ),
    _dataset(
        "rain-radar",
        "radar:load",
        "Rain fields in time: ?root=FILE.npz (frames, height, width) in mm per 5 minutes (?per_hour=12), as the logarithm "
        "of the rate between 0.1 and 100 mm/h; without root the 24 test frames of KNMI that the plugin carries",
        "cc-by-4.0",
        "https://dataplatform.knmi.nl/",
        shipped=True,
    ),
)
