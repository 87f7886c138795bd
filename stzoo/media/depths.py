"""Depth maps: 16-bit and floating-point pictures, PFM and NumPy files to float32 (H, W) with NaN where nothing is known, and back; pictures
and points of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo.errors import InputError, MediaError
from stzoo.files import ARRAYS, PER_UNIT, atomic_path
from stzoo.media import as_array, write_array
from stzoo.media.colours import coloured, spread
from stzoo.media.decoding import File, array_shape, file_of, load_array, opened_picture

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

MOST = 65535
"""The largest number in a 16-bit picture."""
_NETPBM = re.compile(rb"(P5|Pf|PF)\s(?:#[^\n]*\n|\s)*(\d{1,9})\s+(\d{1,9})\s+(-?[\d.eE+-]{1,20})\s", re.DOTALL)
_SHADES = (150, 190)
"""Greys of the chequered pattern that stands for pixels of which nothing is known."""


def read_depth(
    value: Any, name: str, unit: str, per_unit: float | None = None, *, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Depth in ``unit`` as float32 (H, W), NaN where it is not known.

    ``value``: a path or the bytes of a 16-bit PNG, PGM or TIFF, a floating-point TIFF, PFM, npy or npz file; a PIL image, an
    array or a tensor (H, W), (1, H, W) or (H, W, 1). Whole numbers are divided by ``per_unit`` (:data:`PER_UNIT` by
    default). Resized to ``size`` (height, width) by taking the nearest pixel: depths are not mixed across edges. Raises
    InputError or MediaError.
    """
    from PIL import Image

    where = ""
    if file := file_of(value, name):
        where = f" in {file}"
        array = _decoded(file, name)
    else:
        array = _pixels(value, name, "") if isinstance(value, Image.Image) else as_array(value, name)
    array = _plane(array, name, where)
    depth = _checked(array, name, where, unit, per_unit or PER_UNIT[unit])
    if size and depth.shape != size:
        depth = np.asarray(Image.fromarray(depth).resize(size[::-1], Image.Resampling.NEAREST))
    return depth


def shape_of(file: File, name: str) -> tuple[int, int]:
    """Height and width that a file's header tells; nothing is decoded. Raises MediaError."""
    if file.suffix in ARRAYS:
        shape = array_shape(file, name)
        return (shape[0], int(np.prod(shape[1:], dtype=object))) if shape else (1, 1)
    if header := _NETPBM.match(_start(file)):
        return int(header[3]), int(header[2])
    with opened_picture(file, name, "read as depth") as image:
        return image.height, image.width


def _start(file: File) -> bytes:
    if file.data is not None:
        return file.data[:1024]
    with file.path.open("rb") as opened:
        return opened.read(1024)


def _decoded(file: File, name: str) -> np.ndarray:
    if file.suffix in ARRAYS:
        return load_array(file, name)
    if header := _NETPBM.match(_start(file)):
        return _netpbm(file, name, header)
    with opened_picture(file, name, "read as depth") as image:
        return _pixels(image, name, f" in {file}")


def _pixels(image: PILImage, name: str, where: str) -> np.ndarray:
    """Numbers of a picture with one channel of 16 bits or more; raises InputError for all others."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    what = "8-bit greys" if image.mode in ("1", "L", "LA") else "colours"
    raise InputError(
        f"{name}: {what}{where} are a picture of depth, not depth", "Give a 16-bit PNG, a floating-point TIFF or npy"
    )


def _netpbm(file: File, name: str, header: re.Match[bytes]) -> np.ndarray:
    """PGM with 16 bits (big-endian), or PFM: rows from the bottom up, the sign of its scale tells the byte order."""
    width, height, scale = int(header[2]), int(header[3]), float(header[4])
    if header[1] == b"PF" or (header[1] == b"P5" and not 255 < scale <= MOST):
        raise InputError(f"{name}: {file} has {'colours' if header[1] == b'PF' else '8 bits'}, it is no depth")
    kind = ">u2" if header[1] == b"P5" else "<f4" if scale < 0 else ">f4"
    data = file.path.read_bytes() if file.data is None else file.data
    needed = width * height * np.dtype(kind).itemsize
    if len(data) - header.end() < needed:
        raise MediaError(f"{name}: {file} ends before its {width}x{height} pixels do", "Is the file complete?")
    array = np.frombuffer(data, kind, width * height, header.end()).reshape(height, width)
    if kind == ">u2":
        return array.astype(np.uint16)
    array = array[::-1].astype(np.float32)
    array[np.isinf(array)] = np.nan  # how PFM files mark what is not known
    return array


def _plane(array: np.ndarray, name: str, where: str) -> np.ndarray:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if array.ndim != 2 or not array.size:
        raise InputError(f"{name}: shape {array.shape}{where} is not a depth map", "Give (height, width)")
    return array


def _checked(array: np.ndarray, name: str, where: str, unit: str, per_unit: float) -> np.ndarray:
    if array.dtype.kind not in "uif":
        raise InputError(f"{name}: values of type {array.dtype}{where} are no depth", "Give numbers")
    whole = array.dtype.kind in "ui"
    depth = array.astype(np.float32)
    if np.isinf(depth).any():
        raise InputError(f"{name}: {int(np.isinf(depth).sum())} values{where} are infinite", "Write NaN for not known")
    if (depth < 0).any():
        raise InputError(f"{name}: {int((depth < 0).sum())} values{where} are negative", "Write NaN for not known")
    if whole or unit == "m":
        depth[depth == 0] = np.nan
    if whole:
        depth /= np.float32(per_unit)
    if np.isnan(depth).all():
        raise InputError(f"{name}: no depth is known at any pixel{where}")
    return depth


def write_depth(
    depth: np.ndarray, path: Path, unit: str, *, fov: float = 60.0, picture: np.ndarray | None = None
) -> None:
    """Write (H, W) as a 16-bit PNG, PFM, npy or npz; as a JPEG in colours with their scale; or as PLY (:func:`points`).

    PNG: :data:`PER_UNIT` numbers are one unit, 0 means not known, so that what is nearer than half a number becomes 1; a
    ``relative`` depth is stretched to the whole range. Raises MediaError for what does not fit.
    """
    depth = np.asarray(depth, np.float32)
    ending = path.suffix.lower()
    if ending == ".ply":
        from stzoo.media.geometry import as_geometry, write_geometry

        if unit == "disparity" or not np.isfinite(depth).any():
            why = "disparities are no distances" if unit == "disparity" else "no depth is known at any pixel"
            raise MediaError(f"{path.name}: there are no points to write: {why}", "Write .npy, .npz or .pfm")
        write_geometry(as_geometry(points(depth, fov, picture)), path)
        return
    with atomic_path(path) as temporary:
        if ending in ARRAYS:
            write_array(depth, temporary, "depth")
        elif ending == ".pfm":
            rows = np.where(np.isnan(depth), np.float32(np.inf), depth)[::-1].astype("<f4")
            temporary.write_bytes(f"Pf\n{depth.shape[1]} {depth.shape[0]}\n-1.0\n".encode() + rows.tobytes())
        elif ending == ".jpg":
            shown, times = picture_of(depth), max(1, 480 // depth.shape[1])
            shown = shown.resize((shown.width * times, shown.height * times), 0)
            with_scale(shown, depth, unit).save(temporary, "jpeg", quality=92)
        else:
            _sixteen_bits(depth, unit, path).save(temporary)


def points(depth: np.ndarray, fov: float, picture: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What is known of a depth (H, W) as points with colours: x to the right, y down, z into the scene, in its unit.

    The camera is without distortion, its axis goes through the middle, pixels are square, and it sees ``fov`` degrees from
    left to right. Colours are those of ``picture`` (C, H, W), values in [0, 1], or of :func:`picture_of`. Raises InputError
    if the picture is not of the same size.
    """
    height, width = depth.shape
    if picture is None:
        colours = np.asarray(picture_of(depth), np.float32) / 255
    elif picture.shape[-2:] != depth.shape:
        raise InputError(f"picture: {picture.shape[2]}x{picture.shape[1]} pixels, the depth has {width}x{height}")
    else:
        colours = np.broadcast_to(np.clip(picture[:3], 0, 1), (3, height, width)).transpose(1, 2, 0)
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    rows, columns = np.nonzero(np.isfinite(depth))
    z = depth[rows, columns]
    x, y = (columns + 0.5 - width / 2) / focal * z, (rows + 0.5 - height / 2) / focal * z
    return {"positions": np.stack((x, y, z), 1).astype(np.float32), "colours": colours[rows, columns]}


def _sixteen_bits(depth: np.ndarray, unit: str, path: Path) -> PILImage:
    from PIL import Image

    known = np.isfinite(depth)
    low, high = (float(pick(depth[known], initial=0)) for pick in (np.min, np.max))
    factor = MOST / (high or 1.0) if unit == "relative" else PER_UNIT[unit]
    if low < 0 or high * factor >= MOST + 0.5:
        found = f"{low:g}" if low < 0 else f"{high:g}"
        raise MediaError(
            f"{path.name}: a depth of {found} {unit} does not fit into 16 bits (0 to {MOST / factor:g})",
            "Write .npy, .npz or .pfm",
        )
    numbers = np.zeros(depth.shape, np.uint16)
    numbers[known] = np.clip(np.rint(depth[known] * factor), 1, MOST)
    return Image.fromarray(numbers)


def sample_depth(requirements: Requirements) -> np.ndarray:
    """A deterministic depth (H, W), all of it known: a floor going back from 2 to 6, with two balls before it."""
    height, width = (requirements.native_size or (max(64, requirements.minimum),) * 2)[-2:]
    y, x = np.mgrid[:height, :width]
    depth = 6 - 4 * y / max(1, height - 1)
    for across, down, size, distance in ((0.3, 0.6, 0.2, 2.0), (0.7, 0.4, 0.15, 3.0)):
        away = np.hypot(x / width - across, y / height - down) / size
        ball = distance + 0.5 * (1 - np.sqrt(np.clip(1 - away**2, 0, 1)))
        depth = np.where(away < 1, np.minimum(depth, ball), depth)
    sample: np.ndarray = depth.astype(np.float32)
    return sample


def picture_of(depth: np.ndarray) -> PILImage:
    """Depth in colours, dark for near; chequered grey where it is not known."""
    depth = np.asarray(depth, np.float32)
    return _in_colours(depth, *spread(depth), "viridis")


def with_scale(shown: PILImage, depth: np.ndarray, unit: str) -> PILImage:
    """A picture of a depth with its colours, and the depths that they stand for, below it; a narrow one as it is."""
    from PIL import Image, ImageDraw, ImageFont

    if shown.width < 96:
        return shown
    size = max(10, round(shown.width / 32))
    strip, gap = size * 2 // 3, size // 3
    font = ImageFont.load_default(size=size)
    sheet = Image.new("RGB", (shown.width, shown.height + gap + strip + gap + size + gap), (255, 255, 255))
    sheet.paste(shown)
    top = shown.height + gap
    colours = coloured(np.tile(np.linspace(0, 1, shown.width, dtype=np.float32), (strip, 1)), "viridis")
    sheet.paste(Image.fromarray(colours), (0, top))
    low, high = spread(depth)
    draw, name = ImageDraw.Draw(sheet), {"disparity": " px", "relative": ""}.get(unit, f" {unit}")
    for at, anchor, value in (
        (0, "la", low),
        (shown.width // 2, "ma", (low + high) / 2),
        (shown.width - 1, "ra", high),
    ):
        draw.text((at, top + strip + gap), f"{value:.3g}{name}", fill=(40, 40, 40), font=font, anchor=anchor)
    return sheet


def difference(depth: np.ndarray, truth: np.ndarray) -> PILImage:
    """How far two depths (H, W) are apart, in colours, dark for not at all; chequered grey where one is not known."""
    apart = np.abs(np.asarray(depth, np.float32) - truth)
    return _in_colours(apart, 0.0, spread(apart)[1], "magma")


def _in_colours(depth: np.ndarray, low: float, high: float, name: str) -> PILImage:
    from PIL import Image

    pixels = coloured((depth - low) / (high - low), name)
    y, x = np.indices(depth.shape)
    unknown = ~np.isfinite(depth)
    pixels[unknown] = np.asarray(_SHADES, np.uint8)[(x // 4 + y // 4) % 2][unknown][:, None]
    return Image.fromarray(pixels)
