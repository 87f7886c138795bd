"""The metrics and the named data sets of super-resolution: pure data."""

from __future__ import annotations

from dataclasses import replace

from stzoo import Dataset, Metric

_HERE = "stzoo_super_resolution"

_LPIPS = Metric(
    "lpips",
    "stzoo.lpips:lpips",
    "lower",
    "Learned perceptual distance, AlexNet, version 0.1; needs weights",
    optional=True,
)
IMAGE_METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr",
        f"{_HERE}.metrics:psnr_y",
        "higher",
        "Peak signal-to-noise ratio in dB of the luma, without a border of the scale; option crop",
    ),
    Metric(
        "ssim",
        f"{_HERE}.metrics:ssim_y",
        "higher",
        "Structural similarity of the luma, Gaussian window 11, without a border of the scale; option crop",
    ),
    Metric(
        "psnr_y_uint8",
        f"{_HERE}.metrics:psnr_y_uint8",
        "higher",
        "psnr with the luma rounded to 8 bits, as MATLAB does",
        optional=True,
    ),
    Metric(
        "ssim_y_uint8",
        f"{_HERE}.metrics:ssim_y_uint8",
        "higher",
        "ssim with the luma rounded to 8 bits, as MATLAB does",
        optional=True,
    ),
    Metric("psnr_rgb", f"{_HERE}.metrics:psnr_rgb", "higher", "psnr of all colours instead of the luma", optional=True),
    Metric("ssim_rgb", f"{_HERE}.metrics:ssim_rgb", "higher", "ssim, mean over the colours", optional=True),
    Metric(
        "psnr_b",
        f"{_HERE}.metrics:psnr_b",
        "higher",
        "psnr where the steps between 8x8 blocks count as error too: for JPEG artefacts",
        optional=True,
    ),
    _LPIPS,
)

DEPTH_METRICS: tuple[Metric, ...] = (
    Metric("rmse", f"{_HERE}.metrics:rmse", "lower", "Root of the mean squared error in metres, where both are known"),
    Metric("mae", f"{_HERE}.metrics:mae", "lower", "Mean absolute error in metres, where both are known"),
    Metric(
        "ssim",
        f"{_HERE}.depth_data:ssim",
        "higher",
        "Structural similarity in 8 bits of the truth's range, Gaussian window 11; holes are filled alike in both",
    ),
)

VIDEO_METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr",
        f"{_HERE}.video:psnr_frames",
        "higher",
        "Peak signal-to-noise ratio in dB of the luma, mean over frames",
        curve="frame",
    ),
    Metric(
        "ssim",
        f"{_HERE}.video:ssim_frames",
        "higher",
        "Structural similarity of the luma, Gaussian window 11",
        curve="frame",
    ),
    replace(_LPIPS, curve="frame"),
)

DEPTH_DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "rgbd-recordings",
        "depth-super-resolution",
        f"{_HERE}.depth_data:folder",
        description="Depth maps with pictures as they are published (TUM, 7-Scenes, ScanNet): "
        "?root=FOLDER&depth=depth&guide=color&per_unit=5000",
    ),
    Dataset(
        "motorcycle-depth",
        "depth-super-resolution",
        f"{_HERE}.depth_data:motorcycle",
        splits=("test",),
        shipped=True,
        description="The motorcycle of the Middlebury 2014 stereo benchmark with its left picture, from scikit-image",
        homepage="https://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    Dataset(
        "slambook2-depth",
        "depth-super-resolution",
        f"{_HERE}.depth_data:slambook2",
        splits=("test",),
        shipped=True,
        description="A Kinect's depth map of a room with its picture, from the sources of the book slambook2",
        license="mit",
        homepage="https://github.com/gaoxiang12/slambook2",
    ),
)

_LAYOUT = "?root=FOLDER of pictures, of HR/ with LR_bicubic/X2/, or of image_SRF_2/; &given=true takes the small pictures there"

IMAGE_DATASETS: tuple[Dataset, ...] = (
    *(
        Dataset(
            name=title.lower(),
            task="super-resolution",
            load=f"{_HERE}.data:benchmark",
            splits=("test",),
            description=f"{title}, {what}: {_LAYOUT}",
            homepage=homepage,
        )
        for title, what, homepage in (
            ("Set5", "five small pictures", "https://doi.org/10.5244/C.26.135"),
            ("Set14", "fourteen pictures", "https://doi.org/10.1007/978-3-642-27413-8_47"),
            ("BSD100", "the Berkeley set's hundred test photographs", "https://doi.org/10.1109/ICCV.2001.937655"),
            ("Urban100", "a hundred photographs of buildings", "https://github.com/jbhuang0604/SelfExSR"),
            ("Manga109", "109 pages of manga", "http://www.manga109.org/"),
        )
    ),
    Dataset(
        name="kodak",
        task="super-resolution",
        load=f"{_HERE}.data:kodak",
        shipped=True,
        description="Kodak's photographs, ?root=FOLDER with kodim01.png to kodim24.png: 20 to train on, 4 to test on; "
        "without a folder a part of one to test on",
        license="released by Kodak for unrestricted use",
        homepage="https://r0k.us/graphics/kodak/",
    ),
    Dataset(
        name="div2k",
        task="super-resolution",
        load=f"{_HERE}.data:div2k",
        splits=("train", "validation"),
        description="DIV2K, photographs of 2000 pixels: ?root=FOLDER with DIV2K_train_HR/, DIV2K_valid_HR/ and, for "
        "&given=true, DIV2K_train_LR_bicubic/X2/",
        homepage="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
    ),
)

VIDEO_DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "kodak-pan",
        "video-super-resolution",
        f"{_HERE}.video:pan",
        splits=("test",),
        shipped=True,
        description="A clip made of a photograph of Kodak's, as a camera sees it that pans over it",
        license="released by Kodak for unrestricted use",
        homepage="https://r0k.us/graphics/kodak/",
    ),
    Dataset(
        "vid4",
        "video-super-resolution",
        f"{_HERE}.video:vid4",
        splits=("test",),
        description="Vid4, four clips to test on: ?root=FOLDER with GT/calendar/*.png ...; &low=BIx4 takes the small ones there",
        homepage="https://people.csail.mit.edu/celiu/CVPR2011/",
    ),
    Dataset(
        "reds",
        "video-super-resolution",
        f"{_HERE}.video:reds",
        splits=("train", "validation", "test"),
        description="REDS, REDS4 to test on: ?root=FOLDER with train_sharp/000/*.png ...; &low=bicubic/X4 takes the small ones",
        license="cc-by-4.0",
        homepage="https://seungjunnah.github.io/Datasets/reds.html",
    ),
)

DATASETS: tuple[Dataset, ...] = (*IMAGE_DATASETS, *VIDEO_DATASETS, *DEPTH_DATASETS)
