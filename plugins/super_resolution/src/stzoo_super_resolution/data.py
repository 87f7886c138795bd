"""Examples of super-resolution: pictures made worse on the fly, pairs of files, and the layouts of the benchmarks."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as PILImage

from stzoo.errors import DatasetError, InputError
from stzoo.files import IMAGES, files_in
from stzoo.layout import existing
from stzoo_super_resolution.resize import imresize, imresize_uint8

MAKING = ("down", "blur", "noise", "jpeg", "seed")
"""Options of :func:`degraded`."""


class Pair(NamedTuple):
    """Two pictures, float32 (C, H, W) with values in [0, 1]; ``high`` is exactly the scale as large as ``low``."""

    low: np.ndarray
    """What a network is given."""
    high: np.ndarray
    """What should come out."""


def colours(image: np.ndarray) -> np.ndarray:
    """(C, H, W) without transparency: grey or RGB. Raises InputError for any other number of channels."""
    if image.shape[0] not in (1, 3, 4):
        raise InputError(f"a picture of {image.shape[0]} channels", "Give grey (1), RGB (3) or RGBA (4)")
    return image[:3]


def degraded(
    high: np.ndarray,
    scale: int,
    *,
    down: str = "bicubic",
    blur: float = 0.0,
    noise: float = 0.0,
    jpeg: int | None = None,
    seed: int = 0,
) -> Pair:
    """A picture (C, H, W), cut to a multiple of ``scale``, and the same blurred, made smaller, noisy and compressed, in this order.

    Args:
        high: values in [0, 1].
        down: "bicubic" (MATLAB's; of pictures of 8 bits rounded as MATLAB does), "pillow" (its bicubic, 8 bits) or
            "subsample" (the middle one of each ``scale`` pixels; the left or upper one where there are two).
        blur: standard deviation of a Gaussian in pixels of ``high``, cut off at three of them.
        noise: standard deviation of Gaussian noise, of 255. What it adds is neither rounded nor clipped.
        jpeg: quality, 1 to 100.
        seed: of the noise, together with the picture itself: the same picture gets the same noise.

    Warns where it is not made worse at all, so that there is nothing to learn or to measure.

    Raises:
        InputError: the picture is smaller than the scale.
    """
    if scale == 1 and not (blur or noise or jpeg):
        warnings.warn(
            "pictures are not made worse, and at scale 1 not smaller: ask for noise, blur or jpeg, as in ./data?noise=25",
            stacklevel=2,
        )
    height, width = (side - side % scale for side in high.shape[-2:])
    if not height or not width:
        raise InputError(f"a picture of {high.shape[2]}x{high.shape[1]} pixels cannot be made {scale} times smaller")
    high = np.ascontiguousarray(high[:, :height, :width])
    low = _blurred(high, blur) if blur else high
    if scale > 1:
        low = _smaller(low, scale, down)
    if noise:
        rng = np.random.default_rng([seed, zlib.crc32(high.tobytes())])
        low = low + rng.normal(0, noise / 255, low.shape)
    if jpeg:
        low = _compressed(low, jpeg)
    return Pair(low.astype(np.float32, copy=False), high)


def _smaller(image: np.ndarray, scale: int, down: str) -> np.ndarray:
    if down == "subsample":
        return image[:, (scale - 1) // 2 :: scale, (scale - 1) // 2 :: scale]
    pixels = image * np.float32(255)
    whole = np.rint(pixels)
    if down == "pillow":
        size = (image.shape[2] // scale, image.shape[1] // scale)
        planes = [PILImage.fromarray(plane.clip(0, 255).astype(np.uint8)) for plane in whole]
        return np.stack([np.asarray(plane.resize(size, PILImage.Resampling.BICUBIC)) for plane in planes]) / 255
    if np.abs(whole - pixels).max() < 1e-3:  # it came from 8 bits
        return imresize_uint8(whole.clip(0, 255).astype(np.uint8), 1 / scale) / 255
    return imresize(image, 1 / scale)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    radius = max(1, round(3 * sigma))
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum()
    for axis in (1, 2):
        margin = [(radius, radius) if side == axis else (0, 0) for side in range(3)]
        length = image.shape[axis]
        padded = np.pad(image, margin, mode="symmetric")
        image = sum(weight * padded.take(range(i, i + length), axis) for i, weight in enumerate(weights))
    return image


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(
        buffer, "jpeg", quality=quality
    )
    found = np.asarray(PILImage.open(buffer))
    return (found[None] if found.ndim == 2 else found.transpose(2, 0, 1)) / np.float32(255)


def fitted(low: np.ndarray, high: np.ndarray, scale: int, name: str | Path) -> Pair:
    """Two pictures cut to sizes of which one is exactly ``scale`` times the other.

    Raises InputError if they are not of about these sizes: where ``high`` is no multiple, ``low`` may have been rounded
    either way.
    """
    wanted = [side // scale for side in high.shape[-2:]]
    if len(low) != len(high):
        raise InputError(f"{name}: {len(low)} channels, and {len(high)} in the picture that should come out of it")
    if any(
        not whole <= side <= -(-full // scale)
        for whole, side, full in zip(wanted, low.shape[-2:], high.shape[-2:], strict=True)
    ):
        sizes = [f"{image.shape[2]}x{image.shape[1]}" for image in (low, high)]
        raise InputError(
            f"{name}: {sizes[0]} pixels, and {sizes[1]} should come out of it, which is not {scale} times as much",
            f"Give pairs for a scale of {scale}, or a model of their scale",
        )
    height, width = wanted
    return Pair(low[:, :height, :width], high[:, : height * scale, : width * scale])


def partner(folder: Path, value: Any, scale: int) -> Path:
    """The file in ``folder`` that belongs to a picture: of the same name but for the ending, perhaps with ``x2`` and so on.

    Raises InputError if there is none.
    """
    path = value.get("path") if isinstance(value, Mapping) else value
    if not isinstance(path, (str, Path)):
        raise InputError("a picture without a file name has no partner in a folder", "Give a folder of files")
    stem = Path(path).stem
    for name in (stem, f"{stem}x{scale}", f"{stem}X{scale}"):
        for found in (folder.expanduser() / f"{name}{suffix}" for suffix in IMAGES):
            if found.is_file():
                return found
    raise InputError(
        f"{folder} has no picture that belongs to {Path(path).name}",
        f"It would be called {stem}.png or {stem}x{scale}.png",
    )


# --- layouts ----------------------------------------------------------------------------------------------------------


def benchmark(split: str, root: str = "", given: bool = False) -> list[dict[str, Any]]:
    """Set5, Set14, BSD100, Urban100 or Manga109 as people have them.

    Args:
        split: "test".
        root: the set's folder: pictures; or ``HR/`` (also ``original/``, ``GTmod12/``) and ``LR_bicubic/X2/NAMEx2.png`` …; or
            ``image_SRF_2/NAME_SRF_2_HR.png`` and ``…_LR.png`` ….
        given: take the low-resolution pictures that lie beside, instead of making them.

    Raises:
        DatasetError: there is no such folder, or no picture in it.
    """
    folder = existing(root, "set5?root=benchmark/Set5")
    if parts := sorted(folder.glob("image_SRF_[0-9]")):
        return [_cut(path, parts[0].name.removeprefix("image_"), given) for path in _pictures(parts[0], "_HR.png")]
    inside = next((folder / name for name in ("HR", "original", "GTmod12") if (folder / name).is_dir()), folder)
    return [_row(path, folder / "LR_bicubic/X{scale}", given) for path in _pictures(inside)]


def div2k(split: str, root: str = "", given: bool = False) -> list[dict[str, Any]]:
    """DIV2K (Agustsson and Timofte, CVPRW 2017): 800 pictures to train, 100 to validate.

    Args:
        split: "train" or "validation".
        root: folder with ``DIV2K_train_HR/0001.png``, ``DIV2K_valid_HR``, and for ``given`` ``DIV2K_train_LR_bicubic/X2/0001x2.png`` ….
        given: take the low-resolution pictures that lie beside, instead of making them.

    Raises:
        DatasetError: there is no such folder, or no picture in it.
    """
    part = {"train": "train", "validation": "valid"}[split]
    folder = existing(root, "div2k?root=DIV2K")
    high = existing(folder / f"DIV2K_{part}_HR", "div2k?root=DIV2K")
    return [_row(path, folder / f"DIV2K_{part}_LR_bicubic/X{{scale}}", given) for path in _pictures(high)]


def kodak(split: str, root: str = "") -> list[dict[str, Any]]:
    """Kodak's 24 photographs, 768x512: the first twenty to train on, the last four to test on.

    Args:
        split: "train" or "test".
        root: folder with ``kodim01.png`` or ``01.png`` …; without it, a part of the 23rd, which comes with the plugin.

    Raises:
        DatasetError: there is no such folder, or one of the photographs is not in it.
    """
    if not root and split == "test":
        return [{"image": str(Path(__file__).parent / "data/kodak23.png")}]
    folder = existing(root, "kodak?root=kodak")
    found = {path.stem.removeprefix("kodim").removeprefix("kodak"): path for path in _pictures(folder)}
    wanted = [f"{number:02}" for number in (range(1, 21) if split == "train" else range(21, 25))]
    if missing := [number for number in wanted if number not in found]:
        raise DatasetError(f"{folder} has no kodim{missing[0]}.png", "Kodak's set is kodim01.png to kodim24.png")
    return [{"image": str(found[number])} for number in wanted]


def _row(path: Path, low: Path, given: bool) -> dict[str, Any]:
    """An example whose picture of low resolution is ``low/NAMEx2.png``."""
    return {"image": {"high": str(path), "low": f"{low}/{path.stem}x{{scale}}.png" if given else None}}


def _cut(path: Path, mark: str, given: bool) -> dict[str, Any]:
    """An example of the folder ``image_SRF_2``, and of those for other scales: ``mark`` is ``SRF_2``."""
    folder, name = (part.replace(mark, "SRF_{scale}") for part in (path.parent.name, path.name))
    high = f"{path.parent.parent}/{folder}/{name}"
    return {"image": {"high": high, "low": high.removesuffix("_HR.png") + "_LR.png" if given else None}}


def _pictures(folder: Path, ending: str = "") -> list[Path]:
    pictures = [path for path in files_in(folder, IMAGES) if path.name.endswith(ending)]
    if not pictures:
        raise DatasetError(f"{folder} holds no pictures", f"Endings: {', '.join(IMAGES)}")
    return pictures
