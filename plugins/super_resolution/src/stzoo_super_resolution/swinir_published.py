"""The published SwinIR networks, as data: configurations, training and files. Imports nothing heavy.

Sources: https://github.com/JingyunLiang/SwinIR (Apache-2.0; main_test_swinir.py and the release v0.0), the paper
(arXiv:2108.10257), and for training https://github.com/cszn/KAIR (options/swinir). Real-world networks were trained with
a perceptual and an adversarial loss besides, on images degraded as in BSRGAN; that is not part of the recipe here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_M: dict[str, Any] = {"window_size": 8, "depths": (6,) * 6, "embed_dim": 180, "num_heads": (6,) * 6, "mlp_ratio": 2.0}
_S = _M | {"depths": (6,) * 4, "embed_dim": 60, "num_heads": (6,) * 4}
_L = _M | {"depths": (6,) * 9, "embed_dim": 240, "num_heads": (8,) * 9}
_COMMON: dict[str, Any] = {"qkv_bias": True, "ape": False, "patch_norm": True}
_ONE = _COMMON | {"resi_connection": "1conv", "img_range": 1.0}


def _restoring(channels: int, img_size: int, window: int, img_range: float) -> dict[str, Any]:
    sizes = {"scale": 1, "in_chans": channels, "img_size": (img_size, img_size), "window_size": window}
    return _M | _ONE | sizes | {"upsampler": "", "img_range": img_range}


def _enlarging(scale: int, img_size: int, network: dict[str, Any], upsampler: str) -> dict[str, Any]:
    return network | _ONE | {"scale": scale, "in_chans": 3, "img_size": (img_size, img_size), "upsampler": upsampler}


CONFIGS: dict[str, dict[str, Any]] = {
    **{f"classical-x{scale}": _enlarging(scale, 64, _M, "pixelshuffle") for scale in (2, 3, 4, 8)},
    **{f"classical-x{scale}-div2k": _enlarging(scale, 48, _M, "pixelshuffle") for scale in (2, 3, 4, 8)},
    **{f"lightweight-x{scale}": _enlarging(scale, 64, _S, "pixelshuffledirect") for scale in (2, 3, 4)},
    "real-x4": _enlarging(4, 64, _M, "nearest+conv"),
    "real-large-x4": _enlarging(4, 64, _L, "nearest+conv") | {"resi_connection": "3conv"},
    "gray-denoise": _restoring(1, 128, 8, 1.0),
    "color-denoise": _restoring(3, 128, 8, 1.0),
    # Windows of 7, because JPEG's blocks are 8; a range of 255 was slightly better.
    "gray-jpeg": _restoring(1, 126, 7, 255.0),
    "color-jpeg": _restoring(3, 126, 7, 255.0),
}
"""Arguments of the network by purpose."""

_ENLARGING = {"steps": 500_000, "batch_size": 32, "ema": 0.999}
_RESTORING = {"steps": 1_600_000, "batch_size": 8, "ema": 0.999}
TRAINING: dict[str, dict[str, Any]] = {
    "classical": _ENLARGING | {"recipe": {"lr": 2e-4, "patch": 64, "loss": "l1", "schedule": "step"}},
    "classical-div2k": _ENLARGING | {"recipe": {"lr": 2e-4, "patch": 48, "loss": "l1", "schedule": "step"}},
    "lightweight": _ENLARGING
    | {"batch_size": 64, "recipe": {"lr": 2e-4, "patch": 64, "loss": "l1", "schedule": "step"}},
    "denoise": _RESTORING | {"recipe": {"lr": 2e-4, "patch": 128, "loss": "charbonnier", "schedule": "step"}},
    "jpeg": _RESTORING | {"recipe": {"lr": 2e-4, "patch": 126, "loss": "charbonnier", "schedule": "step"}},
}
"""Options of `stzoo finetune` by purpose, for x2, noise 15 and JPEG 40, from which the others are trained further at half
the rate for half the steps. For denoising and JPEG the rate was halved after 50, 75, 87.5 and 93.75 % of the steps, which
the schedule "step" is close to."""

PARAMETERS = {
    "classical-x2": 11_752_487,
    "classical-x3": 11_937_127,
    "classical-x4": 11_900_199,
    "classical-x8": 12_047_911,
    "classical-x2-div2k": 11_752_487,
    "classical-x3-div2k": 11_937_127,
    "classical-x4-div2k": 11_900_199,
    "classical-x8-div2k": 12_047_911,
    "lightweight-x2": 910_152,
    "lightweight-x3": 918_267,
    "lightweight-x4": 929_628,
    "real-x4": 11_715_559,
    "real-large-x4": 28_013_059,
    "gray-denoise": 11_497_681,
    "color-denoise": 11_504_163,
    "gray-jpeg": 11_485_585,
    "color-jpeg": 11_492_067,
}
"""Of each of them."""


def requirements(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a network asks of its input, as arguments of :class:`stzoo.Requirements`.

    Attention has no finite reach; ``reach`` is from where on pixels hardly matter, ``seam`` what difference that leaves.
    Networks with absolute positions, and the test script's padding, need pictures as a whole.
    """
    size = tuple(config["img_size"])
    window = min(config["window_size"], *size)
    # Of colours any number will do: the pipeline repeats grey ones, and enlarges transparency itself.
    colours = 1 if config["in_chans"] == 1 else None
    common = {"channels": colours, "native_size": size, "scale": config["scale"]}
    if config.get("ape"):
        return common | {"minimum": min(size) - window + 1}
    if config.get("padding", "reflect") == "script":
        return common
    return common | {"multiple": window, "padding": "reflect", "reach": 4 * window, "seam": 1e-2, "tile": 512}
