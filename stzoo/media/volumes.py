"""Volumes: NIfTI files and arrays, in one orientation inside, and in their own again when they are written.

A volume is a :class:`Grid`: an array whose last three axes are places, from left to right, from back to front and from the
feet to the head ("RAS"), as near as the file's own axes come to these. Nothing is resampled: axes are turned and swapped.
"""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stzoo import media
from stzoo.errors import DependencyMissing, InputError, MediaError
from stzoo.files import ARRAYS, atomic_path, ending
from stzoo.media import masks
from stzoo.media.decoding import File, array_shape, file_of, load_array

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

NIFTI = (".nii.gz", ".nii")
INSIDE = "RAS"
"""Where the axes point to in every :class:`Grid`: right, anterior, superior."""
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
"""Names of the planes, and the axis that each is cut across."""
_GZIP = b"\x1f\x8b"


class Grid(np.ndarray):
    """An array (..., X, Y, Z) that knows where it is: x to the right, y to the front, z up."""

    affine: np.ndarray
    """4x4: from a place's three numbers to millimetres."""
    axes: str
    """Where the axes of the file pointed to, such as ``"LPS"``: it is written so again."""

    def __new__(cls, array: Any, affine: Any = None, axes: str = INSIDE) -> Self:
        grid = np.asarray(array).view(cls)
        grid.affine = np.eye(4) if affine is None else np.asarray(affine, np.float64)
        grid.axes = axes
        return grid

    def __array_finalize__(self, other: Any) -> None:
        self.affine = getattr(other, "affine", np.eye(4))
        self.axes = getattr(other, "axes", INSIDE)

    def __reduce__(self) -> Any:
        return Grid, (np.asarray(self), self.affine, self.axes)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres from a place to the next, along each axis."""
        return tuple(float(item) for item in np.linalg.norm(self.affine[:3, :3], axis=0))


# --- reading ----------------------------------------------------------------------------------------------------------


def read_volume(value: Any, name: str, channels: int | None = None) -> Grid:
    """A volume as float32 (C, X, Y, Z) with the file's own numbers (scaled as its header says); what is not known is 0.

    ``value``: a path of NIfTI (.nii, .nii.gz), npy or npz, the bytes of such a file, an image of nibabel, or an array or
    tensor (X, Y, Z) or (C, X, Y, Z), taken to be in millimetres and the orientation "RAS" unless it is a :class:`Grid`. A
    NIfTI file's fourth axis may be ``channels``, if that is more than one.

    Raises DependencyMissing without nibabel, MediaError for a file that cannot be read, InputError for what is no volume:
    several in one file, no voxels, infinite numbers, none that is known.
    """
    grid, source = _opened(value, name, channels, np.float32)
    if grid.ndim == 3:
        grid = Grid(np.asarray(grid)[None], grid.affine, grid.axes)
    if grid.dtype.kind not in "uifb":
        raise InputError(f"{name}: values of type {grid.dtype}{source} are no volume", "Give numbers")
    grid = Grid(grid.astype(np.float32, copy=False), grid.affine, grid.axes)
    if channels and len(grid) != channels:
        raise InputError(f"{name}: {len(grid)} channels{source}, the model takes {channels}", "Give as many")
    unknown = np.isnan(grid)
    if unknown.all():
        raise InputError(f"{name}: no value is known{source}: all are NaN", "Give another volume")
    if unknown.any():
        warnings.warn(f"{name}: {int(unknown.sum())} values{source} are NaN and taken as 0", stacklevel=3)
        grid = Grid(np.where(unknown, np.float32(0), grid), grid.affine, grid.axes)
    if np.isinf(grid).any():
        raise InputError(f"{name}: {int(np.isinf(grid).sum())} values{source} are infinite", "Replace them first")
    return grid


def read_volume_mask(value: Any, name: str, classes: int = 0) -> Grid:
    """The class or object of each place as uint8 (X, Y, Z); values as :func:`read_volume` takes them, whole numbers.

    Raises as :func:`read_volume`, and InputError for numbers that are no :func:`stzoo.media.masks.checked` mask.
    """
    grid, source = _opened(value, name, 1, None)
    if grid.ndim == 4 and len(grid) == 1:
        grid = Grid(np.asarray(grid)[0], grid.affine, grid.axes)
    if grid.ndim != 3:
        raise InputError(f"{name}: shape {grid.shape}{source} is not a mask of a volume", "Give (x, y, z)")
    numbers = np.asarray(grid)
    if numbers.dtype.kind == "f" and np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all():
        numbers = numbers.astype(np.int64)  # programs often store labels as decimal numbers
    return Grid(masks.checked(numbers, name, 3, source, classes), grid.affine, grid.axes)


def shape_of(file: File, name: str) -> tuple[int, ...]:
    """The shape that a file's header states. Raises as :func:`read_volume`."""
    return array_shape(file, name) if file.suffix in ARRAYS else tuple(map(int, _image(file, name).shape))


def _opened(value: Any, name: str, channels: int | None, dtype: Any) -> tuple[Grid, str]:
    """What is in a value, 3 or 4 axes, in the orientation of every grid; and words that say where it came from."""
    source = ""
    if file := file_of(value, name):
        source = f" in {file}"
        value = load_array(file, name) if file.suffix in ARRAYS else _image(file, name)
    if hasattr(value, "affine") and hasattr(value, "dataobj"):
        return _from_nifti(value, name, source, channels, dtype), source
    grid = value if isinstance(value, Grid) else Grid(media.as_array(value, name))
    if grid.ndim not in (3, 4) or not grid.size:
        raise InputError(f"{name}: shape {grid.shape}{source} is not a volume", "Give (x, y, z) or (channels, x, y, z)")
    return grid, source


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise DependencyMissing(
            "reading and writing NIfTI volumes needs the package nibabel", "Run: pip install 'stzoo[volumes]'"
        ) from None
    return nibabel


def _guarded(what: Callable[[], Any], file: str, name: str) -> Any:
    """What a call of nibabel returns; what goes wrong with a damaged file becomes MediaError."""
    nibabel = _nibabel()
    known = (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError)
    try:
        return what()
    except MemoryError as problem:
        raise MediaError(f"{name}: memory does not suffice for{file}", "Give a smaller volume") from problem
    except (*known, OSError, ValueError, EOFError, OverflowError, zlib.error) as problem:
        raise MediaError(f"{name}:{file} cannot be read as NIfTI ({problem})", "Is the file complete?") from problem


def _image(file: File, name: str) -> Any:
    """The image of nibabel, of which only the header is read."""
    nibabel = _nibabel()
    if file.data is None:
        if file.suffix not in NIFTI:
            raise MediaError(f"{name}: {file} is not a volume stzoo reads", f"Endings: {', '.join((*NIFTI, *ARRAYS))}")
        return _guarded(lambda: nibabel.load(file.path), f" {file}", name)

    content = file.data

    def loaded() -> Any:
        data = zlib.decompress(content, wbits=31) if content[:2] == _GZIP else content
        kind = nibabel.Nifti2Image if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
        return kind.from_stream(io.BytesIO(data))

    return _guarded(loaded, f" {file}", name)


def _from_nifti(image: Any, name: str, source: str, channels: int | None, dtype: Any) -> Grid:
    nibabel, shape = _nibabel(), tuple(map(int, image.shape))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 and not (len(shape) == 4 and channels and shape[3] == channels):
        sides = "x".join(map(str, shape))
        what = f"{shape[3]} volumes, over time or otherwise" if len(shape) == 4 else f"{len(shape)} axes, not three"
        raise InputError(
            f"{name}: {sides}{source} are {what}", "Give one volume: nibabel.four_to_three(image) parts them"
        )
    if not np.prod(shape):
        raise InputError(f"{name}: {'x'.join(map(str, shape))} voxels{source}: the volume is empty")
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(
            f"{name}: the affine{source} cannot be inverted, so that nobody knows which way is up",
            "Correct sform and qform in the header",
        )
    if image.get_data_dtype().kind not in "uif":
        raise InputError(f"{name}: values of type {image.get_data_dtype()}{source} are no volume", "Give numbers")
    array = _guarded(lambda: np.asanyarray(image.dataobj, dtype=dtype), source.removeprefix(" in"), name)
    array = np.asarray(array).reshape(shape)
    turn = nibabel.io_orientation(affine)
    axes = "".join(nibabel.aff2axcodes(affine))
    array = nibabel.apply_orientation(array, turn)
    inside = affine @ nibabel.orientations.inv_ornt_aff(turn, shape[:3])
    return Grid(np.moveaxis(array, 3, 0) if array.ndim == 4 else array, inside, axes)


def check_same_place(one: np.ndarray, two: np.ndarray, what: str) -> None:
    """Raise InputError where two volumes (..., X, Y, Z) differ in shape, or in where they are by a tenth of a millimetre."""
    if one.shape[-3:] != two.shape[-3:]:
        sides = ["x".join(map(str, item.shape[-3:])) for item in (one, two)]
        raise InputError(f"{what} are of {sides[0]} and {sides[1]} voxels", "Resample one like the other")
    if isinstance(one, Grid) and isinstance(two, Grid):
        corners = np.array([[*np.ravel(at), 1] for at in np.ndindex(2, 2, 2)]) * [*np.subtract(one.shape[-3:], 1), 1]
        apart = np.abs(corners @ (one.affine - two.affine).T).max()
        known = not any(np.array_equal(item.affine, np.eye(4)) for item in (one, two))
        if known and apart > 0.1:
            raise InputError(
                f"{what} are up to {apart:.3g} mm apart: their affines differ", "Resample one like the other"
            )


# --- fitting to the network -------------------------------------------------------------------------------------------


def sample_volume(requirements: Requirements) -> Grid:
    """A deterministic volume (C, X, Y, Z): a soft ball with two brighter ones inside, on a faint ramp."""
    _, shade = _balls(requirements)
    return Grid(np.repeat(shade[None].astype(np.float32), requirements.channels or 1, axis=0))


def sample_volume_mask(requirements: Requirements) -> Grid:
    """Deterministic numbers (X, Y, Z) of the balls in :func:`sample_volume`, from 1 on."""
    numbers, _ = _balls(requirements)
    return Grid(numbers % (len(requirements.classes) or 4))


def _balls(requirements: Requirements) -> tuple[np.ndarray, np.ndarray]:
    size = requirements.native_size or (max(32, requirements.minimum),) * 3
    sides = size if len(size) == 3 else (size[0], *size)
    places = [(item + 0.5) / side - 0.5 for item, side in zip(np.ogrid[tuple(map(slice, sides))], sides, strict=True)]
    numbers, shade = np.zeros(sides, np.uint8), np.broadcast_to(0.05 * (places[0] + 0.5), sides)
    for number, (centre, radius, height) in enumerate(
        (((0, 0, 0), 0.38, 0.5), ((-0.15, 0.05, 0.1), 0.12, 0.3), ((0.15, -0.1, -0.05), 0.1, 0.3)), 1
    ):
        away = np.sqrt(sum((place - at) ** 2 for place, at in zip(places, centre, strict=True)))
        numbers[away <= radius] = number
        shade = shade + height / (1 + np.exp(np.clip((away - radius) * 40, -50, 50)))
    return numbers, shade


# --- writing ----------------------------------------------------------------------------------------------------------


def write_volume(grid: np.ndarray, path: Path) -> None:
    """Write (X, Y, Z) or (C, X, Y, Z): NIfTI in the file's own orientation, npy or npz, or a png of :func:`planes`.

    Several channels become the fourth axis of a NIfTI file.
    """
    array = np.asarray(grid)
    with atomic_path(path) as temporary:
        if path.suffix.lower() in ARRAYS:
            media.write_array(array, temporary, "mask" if array.ndim == 3 else "volume")
        elif ending(path) in NIFTI:
            _nibabel().save(_as_nifti(grid if isinstance(grid, Grid) else Grid(array)), temporary)
        else:
            planes(grid).save(temporary, "png")


def _as_nifti(grid: Grid) -> Any:
    nibabel, array = _nibabel(), np.asarray(grid)
    if array.ndim == 4:
        array = array[0] if len(array) == 1 else np.moveaxis(array, 0, 3)
    orientations = nibabel.orientations
    image = nibabel.Nifti1Image(np.ascontiguousarray(array), grid.affine)
    turn = orientations.ornt_transform(*(orientations.axcodes2ornt(axes) for axes in (INSIDE, grid.axes)))
    image = image.as_reoriented(turn)
    image.header.set_xyzt_units("mm")
    return image


# --- pictures for people ----------------------------------------------------------------------------------------------


def shades(grid: np.ndarray) -> np.ndarray:
    """(C, X, Y, Z) as uint8 (X, Y, Z): its first channel, from the 1st to the 99.5th percentile of a part of its numbers."""
    first = np.asarray(grid[0])
    step = max(1, round((first.size / 2**20) ** (1 / 3)))
    low, high = np.percentile(first[::step, ::step, ::step], (1, 99.5))
    if high <= low:
        low, high = float(first.min()), float(first.max())
    scaled = (first - np.float32(low)) * np.float32(255 / ((high - low) or 1))
    grey: np.ndarray = np.clip(scaled, 0, 255).astype(np.uint8)
    return grey


def planes(grid: np.ndarray) -> PILImage:
    """The middle slice of each plane side by side: a volume (C, X, Y, Z) in grey, a mask (X, Y, Z) in the colours of masks.

    The head, or in the axial plane the front, is on top; what is right is on the right.
    """
    array = shades(grid) if grid.ndim == 4 else masks.colours()[np.asarray(grid)]
    return _side_by_side(array, getattr(grid, "spacing", (1.0, 1.0, 1.0)))


def disagreement(grid: np.ndarray, truth: np.ndarray) -> PILImage:
    """Where two masks of one shape differ in the middle slices: red; grey where the truth says ignore, else black."""
    shown = masks.differences(np.asarray(grid), np.asarray(truth))
    return _side_by_side(shown, getattr(truth, "spacing", (1.0, 1.0, 1.0)))


def _side_by_side(array: np.ndarray, spacing: Sequence[float]) -> PILImage:
    """The middle slices of (X, Y, Z) or (X, Y, Z, 3), uint8, in one scale of millimetres."""
    from PIL import Image

    pictures = []
    finest = min(spacing)
    for _, axis in PLANES:
        rest = [other for other in range(3) if other != axis]
        slice_ = np.take(array, array.shape[axis] // 2, axis).swapaxes(0, 1)[::-1]
        size = [max(1, round(array.shape[other] * min(8.0, spacing[other] / finest))) for other in rest]
        pictures.append(Image.fromarray(np.ascontiguousarray(slice_)).convert("RGB").resize((size[0], size[1]), 0))
    return media.side_by_side(pictures, 4)
