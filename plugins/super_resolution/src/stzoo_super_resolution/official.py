"""Official checkpoints: what the papers' authors publish, one row for each file. ``stzoo import NAME`` brings and converts one.

SwinIR: files of the release v0.0 of https://github.com/JingyunLiang/SwinIR (Apache-2.0); numbers of its README and of the
paper (arXiv:2108.10257), measured with the padding of its test script (``padding="script"``). They are of the luma, without
as many pixels at the border as the scale says, of all three colours for colour denoising and colour JPEG, and of grey
pictures for grey ones.
"""

from __future__ import annotations

from stzoo import Measurement, Model, Requirements, Source
from stzoo_super_resolution.swinir_published import CONFIGS, PARAMETERS, requirements

_PAPER = "https://arxiv.org/abs/2108.10257"
_RELEASE = "https://github.com/JingyunLiang/SwinIR/releases/download/v0.0"
_LUMA = ("psnr", "ssim")
_COLOURS = ("psnr_rgb", "ssim_rgb")
_BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")

_CLASSICAL_DIV2K: dict[int, tuple[float, ...]] = {
    2: (38.35, 0.9620, 34.14, 0.9227, 32.44, 0.9030, 33.40, 0.9393, 39.60, 0.9792),
    3: (34.89, 0.9312, 30.77, 0.8503, 29.37, 0.8124, 29.29, 0.8744, 34.74, 0.9518),
    4: (32.72, 0.9021, 28.94, 0.7914, 27.83, 0.7459, 27.07, 0.8164, 31.67, 0.9226),
    8: (),
}
"""By scale: PSNR and SSIM on each benchmark."""
_CLASSICAL: dict[int, tuple[float, ...]] = {
    2: (38.42, 0.9623, 34.46, 0.9250, 32.53, 0.9041, 33.81, 0.9427, 39.92, 0.9797),
    3: (34.97, 0.9318, 30.93, 0.8534, 29.46, 0.8145, 29.75, 0.8826, 35.12, 0.9537),
    4: (32.92, 0.9044, 29.09, 0.7950, 27.92, 0.7489, 27.45, 0.8254, 32.03, 0.9260),
    8: (),
}
_LIGHTWEIGHT: dict[int, tuple[float, ...]] = {
    2: (38.14, 0.9611, 33.86, 0.9206, 32.31, 0.9012, 32.76, 0.9340, 39.12, 0.9783),
    3: (34.62, 0.9289, 30.54, 0.8463, 29.20, 0.8082, 28.66, 0.8624, 33.98, 0.9478),
    4: (32.44, 0.8976, 28.77, 0.7858, 27.69, 0.7406, 26.47, 0.7980, 30.92, 0.9151),
}
_GRAY_NOISE = {15: (33.36, 31.97, 33.70), 25: (31.01, 29.50, 31.30), 50: (27.91, 26.58, 27.98)}
"""By the noise's standard deviation in grey levels: PSNR on Set12, BSD68 and Urban100."""
_COLOR_NOISE = {
    15: (34.42, 35.34, 35.61, 35.13),
    25: (31.78, 32.89, 33.20, 32.90),
    50: (28.56, 29.79, 30.22, 29.82),
}
"""PSNR on CBSD68, Kodak24, McMaster and Urban100."""
_GRAY_JPEG = {
    10: (30.27, 0.8249, 29.95, 29.86, 0.8287, 29.50),
    20: (32.52, 0.8748, 31.99, 32.25, 0.8909, 31.70),
    30: (33.73, 0.8961, 33.03, 33.69, 0.9174, 33.01),
    40: (34.52, 0.9082, 33.66, 34.67, 0.9317, 33.88),
}
"""By JPEG quality: PSNR, SSIM and PSNR-B on Classic5, and on LIVE1."""
_COLOR_JPEG = {
    10: (28.06, 0.8089, 27.76),
    20: (30.45, 0.8741, 29.97),
    30: (31.82, 0.9018, 31.24),
    40: (32.75, 0.9174, 32.12),
}
"""PSNR, SSIM and PSNR-B on LIVE1."""


def _swinir(
    key: str,
    file: str,
    trained_on: str,
    description: str,
    tests: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
    values: tuple[float, ...] = (),
    *,
    name: str = "",
    what: str = "",
) -> Model:
    """One row: ``values`` are each metric on the first test set, each on the second, and so on."""
    config = CONFIGS[key]
    places = [(test, metric) for test in tests for metric in metrics] if values else []
    return Model(
        name=name or f"swinir-{key}.official",
        architecture="swinir",
        config=config,
        source=Source(f"{_RELEASE}/{file}.pth"),
        license="apache-2.0",
        trained_on=trained_on,
        description=f"SwinIR{description} (its authors' weights)",
        paper=_PAPER,
        metrics=tuple(
            Measurement(f"{test} ({what})", metric, value, "published", f"SwinIR, {file}")
            for (test, metric), value in zip(places, values, strict=True)
        ),
        requirements=Requirements(**requirements(config)),
        dtypes=("float32", "bfloat16"),
        parameters=PARAMETERS[key],
        tags=("official",),
    )


_DFWB = "DIV2K, Flickr2K, BSD500 and WED"
_BSRGAN = "003_realSR_BSRGAN_DFO"

MODELS: tuple[Model, ...] = (
    *(
        _swinir(
            f"classical-x{scale}",
            f"001_classicalSR_DF2K_s64w8_SwinIR-M_x{scale}",
            "DIV2K and Flickr2K",
            f" for pictures reduced {scale} times by bicubic interpolation",
            _BENCHMARKS,
            _LUMA,
            values,
            what=f"x{scale}",
        )
        for scale, values in _CLASSICAL.items()
    ),
    *(
        _swinir(
            f"classical-x{scale}-div2k",
            f"001_classicalSR_DIV2K_s48w8_SwinIR-M_x{scale}",
            "DIV2K",
            f" for pictures reduced {scale} times by bicubic interpolation, trained on DIV2K alone",
            _BENCHMARKS,
            _LUMA,
            values,
            name=f"swinir-classical-x{scale}.official-div2k",
            what=f"x{scale}",
        )
        for scale, values in _CLASSICAL_DIV2K.items()
    ),
    *(
        _swinir(
            f"lightweight-x{scale}",
            f"002_lightweightSR_DIV2K_s64w8_SwinIR-S_x{scale}",
            "DIV2K",
            f", lightweight, for pictures reduced {scale} times by bicubic interpolation",
            _BENCHMARKS,
            _LUMA,
            values,
            what=f"x{scale}",
        )
        for scale, values in _LIGHTWEIGHT.items()
    ),
    _swinir(
        "real-x4",
        f"{_BSRGAN}_s64w8_SwinIR-M_x4_GAN",
        "DIV2K, Flickr2K and OST",
        " for real photographs, four times larger",
    ),
    _swinir(
        "real-large-x4",
        f"{_BSRGAN}WMFC_s64w8_SwinIR-L_x4_GAN",
        "DIV2K, Flickr2K, OST, WED, FFHQ, Manga109 and SCUT-CTW1500",
        ", large, for real photographs, four times larger",
    ),
    _swinir(
        "real-large-x4",
        f"{_BSRGAN}WMFC_s64w8_SwinIR-L_x4_PSNR",
        "DIV2K, Flickr2K, OST, WED, FFHQ, Manga109 and SCUT-CTW1500",
        ", large, for real photographs, four times larger; trained for PSNR, so smoother",
        name="swinir-real-large-x4.official-psnr",
    ),
    *(
        _swinir(
            "gray-denoise",
            f"004_grayDN_DFWB_s128w8_SwinIR-M_noise{noise}",
            _DFWB,
            f" for grey pictures with Gaussian noise of standard deviation {noise}/255",
            ("Set12", "BSD68", "Urban100"),
            ("psnr",),
            values,
            name=f"swinir-gray-denoise-{noise}.official",
            what=f"noise {noise}, grey",
        )
        for noise, values in _GRAY_NOISE.items()
    ),
    *(
        _swinir(
            "color-denoise",
            f"005_colorDN_DFWB_s128w8_SwinIR-M_noise{noise}",
            _DFWB,
            f" for colour pictures with Gaussian noise of standard deviation {noise}/255",
            ("CBSD68", "Kodak24", "McMaster", "Urban100"),
            ("psnr_rgb",),
            values,
            name=f"swinir-color-denoise-{noise}.official",
            what=f"noise {noise}",
        )
        for noise, values in _COLOR_NOISE.items()
    ),
    *(
        _swinir(
            "gray-jpeg",
            f"006_CAR_DFWB_s126w7_SwinIR-M_jpeg{quality}",
            _DFWB,
            f" for grey pictures compressed by JPEG at quality {quality}",
            ("Classic5", "LIVE1"),
            (*_LUMA, "psnr_b"),
            values,
            name=f"swinir-gray-jpeg-{quality}.official",
            what=f"JPEG {quality}, grey",
        )
        for quality, values in _GRAY_JPEG.items()
    ),
    *(
        _swinir(
            "color-jpeg",
            f"006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg{quality}",
            _DFWB,
            f" for colour pictures compressed by JPEG at quality {quality}",
            ("LIVE1",),
            (*_COLOURS, "psnr_b"),
            values,
            name=f"swinir-color-jpeg-{quality}.official",
            what=f"JPEG {quality}, PSNR-B of all colours",
        )
        for quality, values in _COLOR_JPEG.items()
    ),
)
