"""Pictures of 16 bits for each colour, which Pillow has only in grey: PNG is written here, and read by PyAV."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_COLOURS = {1: 0, 3: 2, 4: 6}
"""PNG's colour type by the number of channels."""


def is_deep(image: PILImage) -> bool:
    """Whether a picture that Pillow opened from a PNG or TIFF file has 16 bits for each of several colours."""
    tiles = getattr(image, "tile", None) or [(None,) * 4]
    modes = [part for part in np.atleast_1d(tiles[0][3]) if isinstance(part, str)]
    return image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in mode for mode in modes)


def decode_deep(opened: Any, name: str) -> np.ndarray | None:
    """A PNG or TIFF of 16-bit colours as (C, H, W) uint16, C 3 or 4; None, with a warning, where PyAV cannot read it.

    ``opened``: its path, or an open file.
    """
    try:
        import av
    except ImportError:
        warnings.warn(
            f"{name}: only 8 of its 16 bits are read; for all of them: pip install 'stzoo[video]'", stacklevel=2
        )
        return None
    try:
        with av.open(opened) as container:
            frame = next(container.decode(video=0))
            layout = "rgba64le" if "a" in frame.format.name else "rgb48le"
            pixels: np.ndarray = frame.to_ndarray(format=layout).transpose(2, 0, 1)
            return pixels
    except (av.FFmpegError, StopIteration, ValueError):
        warnings.warn(f"{name}: only 8 of its 16 bits can be read", stacklevel=2)
        return None


def png_deep(image: np.ndarray) -> bytes:
    """(C, H, W), C of 1, 3 or 4, values in [0, 1], as a PNG file of 16 bits for each colour."""
    channels, height, width = image.shape
    pixels = np.rint(image.transpose(1, 2, 0).clip(0, 1).astype(np.float64) * 65535).astype(">u2")
    line = pixels.reshape(height, -1).view(np.uint8)
    # Each byte is stored as its difference from the pixel to the left, which compresses better.
    filtered = np.empty((height, 1 + line.shape[1]), np.uint8)
    filtered[:, 0] = 1
    filtered[:, 1:] = line
    filtered[:, 1 + 2 * channels :] -= line[:, : -2 * channels]
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOURS[channels], 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
