"""Images, clips and arrays: read what people have, write what they want, through Pillow, PyAV and NumPy.

Layout everywhere: float32, channels first, (C, H, W) or (T, C, H, W), values in [0, 1].
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stzoo.errors import DependencyMissing, InputError, MediaError
from stzoo.files import ARRAYS, VIDEOS, atomic_path
from stzoo.media.decoding import (
    array_shape,
    channels_first,
    decode_clip,
    decode_frames,
    decode_picture,
    file_of,
    frame_files,
    from_pil,
    load_array,
    opened_film,
    opened_picture,
    stacked,
)
from stzoo.media.deep import png_deep

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements


# --- reading ----------------------------------------------------------------------------------------------------------


def read_video(
    value: Any,
    name: str,
    channels: int | None = None,
    *,
    start: int = 0,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """A clip as float32 (T, C, H, W).

    ``value``: a path (video, GIF, npy, npz, a folder of frames), the bytes of such a file (also as ``datasets`` gives them:
    ``{"bytes", "path"}``), an array or tensor (T, H, W), (T, C, H, W) or (T, H, W, C), or a list of frames (paths, PIL
    images, arrays). Decoded files get the ``channels`` a model takes (1: grey, 3: RGB); arrays must have them.

    Only ``frames`` of it from ``start`` on are decoded (fewer if it ends before), and resized to ``size`` (height, width).
    Raises InputError or MediaError.
    """
    stop = None if frames is None else start + frames
    if file := file_of(value, name):
        clip = _checked(decode_clip(file, name, channels, start, stop), name, channels, source=str(file))
        if start and len(clip) < (frames or 1):
            raise MediaError(f"{name}: {file} ends before frame {start + (frames or 1)}", "Is the file complete?")
    elif isinstance(value, (list, tuple)):
        clip = stacked(
            [read_image(frame, f"{name}[{index}]", channels) for index, frame in enumerate(value[start:stop], start)],
            name,
        )
    else:
        array = as_array(value, name)
        if array.ndim not in (3, 4):
            hint = " (several clips at once go through predict_batch)" if array.ndim == 5 else ""
            raise InputError(
                f"{name}: shape {array.shape} is not a clip{hint}",
                "Give (frames, height, width) or (frames, channels, height, width)",
            )
        array = array[start:stop]
        clip = _checked(array[:, None] if array.ndim == 3 else channels_first(array, channels), name, channels)
    return resized(clip, size)


def read_image(
    value: Any, name: str, channels: int | None = None, *, size: tuple[int, int] | None = None
) -> np.ndarray:
    """A picture as float32 (C, H, W), resized to ``size`` (height, width).

    ``value``: a path, the bytes of a file, a PIL image, an array (H, W), (C, H, W) or (H, W, C).
    """
    from PIL import Image

    source = ""
    if file := file_of(value, name):
        source = str(file)
        value = load_array(file, name) if file.suffix in ARRAYS else decode_picture(file, name, channels)
    elif isinstance(value, Image.Image):
        value = from_pil(value, channels)
    array = as_array(value, name)
    if array.ndim not in (2, 3):
        hint = " (several pictures at once go through predict_batch)" if array.ndim == 4 else ""
        raise InputError(
            f"{name}: shape {array.shape} is not a picture{hint}", "Give (height, width) or (channels, height, width)"
        )
    array = array[None] if array.ndim == 2 else channels_first(array, channels)
    return resized(_checked(array, name, channels, source), size)


def frames_of(value: Any, name: str, channels: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a clip one by one, float32 (C, H, W), read as they are asked for.

    ``value``: an iterable of pictures as :func:`read_image` takes them, or a clip as :func:`read_video` takes it, of which
    only video files and folders are not held as a whole. Raises InputError or MediaError.
    """
    file = file_of(value, name)
    if file and file.suffix in VIDEOS:
        for frame in decode_frames(file, name, channels):
            yield _checked(frame, name, channels, str(file))
    elif file and file.data is None and file.path.is_dir():
        for path in frame_files(file.path, name):
            yield read_image(path, name, channels)
    elif file or hasattr(value, "shape"):
        yield from read_video(value, name, channels)
    elif isinstance(value, Iterable):
        for index, frame in enumerate(value):
            yield read_image(frame, f"{name}[{index}]", channels)
    else:
        raise InputError(f"{name} is a {type(value).__name__}", "Give a path, or an iterable of pictures")


def count_frames(value: Any, name: str) -> int:
    """Frames of a clip as :func:`read_video` takes it, from headers: nothing is decoded where the format tells."""
    if not (file := file_of(value, name)):
        return len(value) if hasattr(value, "__len__") else 0
    if file.data is None and file.path.is_dir():
        return len(frame_files(file.path, name))
    if file.suffix in ARRAYS:
        return (array_shape(file, name) or (0,))[0]
    if file.suffix == ".gif":
        with opened_picture(file, name, "decoded") as image:
            return int(getattr(image, "n_frames", 1))
    with opened_film(file, name) as (container, stream):
        # Some containers do not tell. Packets are not decoded, and each holds a frame.
        return int(stream.frames) or sum(1 for packet in container.demux(stream) if packet.size)


def frame_rate(value: Any, name: str) -> float | None:
    """Frames per second that a video file states; None for everything else."""
    file = file_of(value, name)
    if not file or file.suffix not in VIDEOS:
        return None
    with opened_film(file, name) as (_, stream):
        return float(stream.average_rate) if stream.average_rate else None


def as_array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "uifb" or array.size == 0:
        what = "is empty" if array.dtype.kind in "uifb" else f"is a {type(value).__name__}"
        raise InputError(f"{name} {what}", "Give a path, an array, a tensor, a PIL image or a list of frames")
    return array


def _checked(array: np.ndarray, name: str, channels: int | None, source: str = "") -> np.ndarray:
    """Scaled to [0, 1] from integers, finite, with the right number of channels."""
    where = f" in {source}" if source else ""
    found = array.shape[-3]
    if channels and found != channels:
        raise InputError(f"{name}: {found} channels{where}, the model takes {channels}", "Convert the input")
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind in "ui":
        limit = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 255
        return array.astype(np.float32) / np.float32(limit)
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise InputError(f"{name}: {count} values{where} are not finite (NaN or infinite)", "Fill or remove them first")
    if array.max(initial=0) > 8:
        warnings.warn(
            f"{name}: values up to {array.max():g}; floating-point pictures are expected in [0, 1]", stacklevel=4
        )
    return array


def resized(array: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Pictures (…, H, W) at another height and width: bilinear, antialiased where they shrink (Pillow)."""
    from PIL import Image

    if size is None or array.shape[-2:] == size:
        return array
    planes = [
        np.asarray(Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR))
        for plane in array.reshape(-1, *array.shape[-2:])
    ]
    return np.stack(planes).reshape(*array.shape[:-2], *size)


def check_size(array: np.ndarray, name: str, requirements: Requirements, axes: int = 2) -> None:
    """Raise InputError where a picture, or a volume (3 ``axes``), is smaller than the network can take."""
    sides, least = array.shape[-axes:], requirements.minimum
    if min(sides) < least:
        found = f"{sides[1]}x{sides[0]} pixels" if axes == 2 else "x".join(map(str, sides)) + " voxels"
        wanted = "x".join([str(least)] * axes)
        raise InputError(f"{name}: {found}, the model needs at least {wanted}", "Enlarge the input")


# --- fitting to the network -------------------------------------------------------------------------------------------


def pad_to_multiple(array: np.ndarray, multiple: int, padding: Literal["edge", "reflect"] = "edge") -> np.ndarray:
    """Add rows and columns until height and width are multiples; anything that is no picture is left alone."""
    if multiple == 1 or getattr(array, "ndim", 0) < 3:
        return array
    below, right = (-array.shape[-2] % multiple, -array.shape[-1] % multiple)
    return (
        np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, below), (0, right)], mode=padding) if below or right else array
    )


def crop_like(output: np.ndarray, reference: np.ndarray, multiple: int) -> np.ndarray:
    """Undo :func:`pad_to_multiple` on an output that a network may have enlarged by a whole factor."""
    if multiple == 1 or output.ndim < 3 or reference.ndim < 3:
        return output
    padded = [size + -size % multiple for size in reference.shape[-2:]]
    height, width = (
        size * out // pad for size, out, pad in zip(reference.shape[-2:], output.shape[-2:], padded, strict=True)
    )
    return output[..., :height, :width]


def sample_clip(frames: int, requirements: Requirements) -> np.ndarray:
    """A deterministic clip (T, C, H, W): soft blobs moving at constant speed over a faint ramp. No random numbers."""
    height, width = (requirements.native_size or (max(64, requirements.minimum),) * 2)[-2:]
    channels = requirements.channels or 3
    time, channel, y, x = np.ogrid[:frames, :channels, :height, :width]
    clip = 0.1 * (x / width + y / height)
    for blob in range(3):
        centre_x = width * (0.25 + 0.2 * blob + 0.02 * (blob + 1) * time)
        centre_y = height * (0.7 - 0.2 * blob + 0.03 * (blob - 1) * time)
        radius = 0.08 * min(height, width) * (1 + 0.3 * ((blob + channel) % 3))
        clip = clip + 0.6 * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / (2 * radius**2))
    return np.clip(clip, 0, 1).astype(np.float32)


# --- writing ----------------------------------------------------------------------------------------------------------


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to 0..255, rounded, clipped."""
    scaled: np.ndarray = np.multiply(array, np.float32(255), dtype=np.float32)  # one copy: a picture may be large
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, 255, out=scaled)
    return scaled.astype(np.uint8)


def to_pil(image: np.ndarray) -> PILImage:
    """(C, H, W) to a PIL image; two channels become red and green, a fourth one is transparency."""
    from PIL import Image

    pixels = to_uint8(image)
    if pixels.shape[0] == 1:
        return Image.fromarray(pixels[0])
    if pixels.shape[0] == 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    return Image.fromarray(pixels[:4].transpose(1, 2, 0))


def write_image(image: np.ndarray, path: Path, *, bits: int = 8) -> None:
    """Write (C, H, W) as a picture or a NumPy file. Of ``bits`` for each colour only png has 16, and jpg is never transparent."""
    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix in ARRAYS:
            write_array(image, temporary, "image")
        elif bits == 16 and suffix == ".png" and image.shape[0] != 2:
            temporary.write_bytes(png_deep(image))
        else:
            picture = to_pil(image)
            (picture if suffix == ".png" or picture.mode != "RGBA" else picture.convert("RGB")).save(temporary)


def write_video(clip: Iterable[np.ndarray], path: Path, *, fps: float = 10, scale: int = 1) -> None:
    """Write (T, C, H, W) as mp4, gif, a png strip of all frames, npy or npz; ``scale`` enlarges frames by repeating pixels.

    ``clip``: an array, or any iterable of frames (C, H, W); an mp4 is written as they come.
    """
    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix in ARRAYS:
            write_array(_whole(clip), temporary, "video")
        elif suffix == ".png":
            strip(_whole(clip)).save(temporary)
        elif suffix == ".gif":
            frames = list(_enlarged(clip, scale))
            frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)
        else:
            _encode_video(_enlarged(clip, scale), temporary, fps)


def _whole(clip: Iterable[np.ndarray]) -> np.ndarray:
    return clip if isinstance(clip, np.ndarray) else np.stack(list(clip))


def _enlarged(clip: Iterable[np.ndarray], scale: int) -> Iterator[PILImage]:
    for frame in clip:
        image = to_pil(frame)
        yield image if scale == 1 else image.resize((image.width * scale, image.height * scale), 0)


def _encode_video(frames: Iterator[PILImage], path: Path, fps: float) -> None:
    try:
        import av
    except ImportError:
        raise DependencyMissing("writing video files needs PyAV", "Run: pip install 'stzoo[video]'") from None
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = None
        for image in frames:
            picture = np.asarray(image.convert("RGB"))
            picture = np.pad(picture, [(0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)], mode="edge")
            if stream is None:
                stream = container.add_stream(
                    "libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "12"}
                )
                stream.height, stream.width, stream.pix_fmt = picture.shape[0], picture.shape[1], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def write_array(array: np.ndarray, path: Path, name: str) -> None:
    if path.suffix.lower() == ".npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, allow_pickle=False, **{name: array})


# --- pictures for people ----------------------------------------------------------------------------------------------


def strip(clip: np.ndarray, gap: int = 2) -> PILImage:
    """All frames of (T, C, H, W) side by side."""
    return side_by_side([to_pil(frame) for frame in clip], gap)


def side_by_side(pictures: Sequence[PILImage], gap: int) -> PILImage:
    """Pictures in a row, on dark grey."""
    from PIL import Image

    width = sum(item.width + gap for item in pictures) - gap
    sheet, left = Image.new("RGB", (width, max(item.height for item in pictures)), (64, 64, 64)), 0
    for item in pictures:
        sheet.paste(item.convert("RGB"), (left, 0))
        left += item.width + gap
    return sheet


def labelled_rows(rows: Sequence[tuple[str, PILImage]]) -> PILImage:
    """Pictures under each other, each with its label on the left."""
    from PIL import Image, ImageDraw, ImageFont

    scale = max(1, round(960 / max(image.width for _, image in rows))) if rows else 1
    pictures = [(label, image.resize((image.width * scale, image.height * scale), 0)) for label, image in rows]
    font = ImageFont.load_default(size=16)
    margin = 12 + int(max((font.getlength(label) for label, _ in rows), default=0)) + 12
    width = margin + max(image.width for _, image in pictures)
    sheet = Image.new("RGB", (width, sum(image.height + 4 for _, image in pictures) - 4), (255, 255, 255))
    draw, top = ImageDraw.Draw(sheet), 0
    for label, image in pictures:
        draw.text((12, top + image.height // 2), label, fill=(40, 40, 40), font=font, anchor="lm")
        sheet.paste(image, (margin, top))
        top += image.height + 4
    return sheet


def png_bytes(image: PILImage) -> bytes:
    """The picture as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()
