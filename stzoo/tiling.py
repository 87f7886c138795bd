"""Large pictures and long clips through networks that look at a part of them at a time.

A picture is cut into tiles that share ``overlap`` pixels with their neighbours. Where a tile was cut, the network sees no
surroundings: the outer three eighths of what two tiles share are taken from the other one, and in the quarter between, one
fades into the other, with weights that sum to one. So a network whose receptive field has a radius of at most 3/8 of the
overlap gives what it gives for the whole picture, up to rounding. A clip is cut into windows of frames in the same way, and
a volume into blocks: what is said of pictures' two axes holds for its three.

Pictures and outputs stay on the CPU; tiles go to the network's device one by one. No array library is imported when this
module is.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from stzoo import terminal
from stzoo.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stzoo.requirements import Requirements

log = logging.getLogger("stzoo")

T = TypeVar("T")
Outputs = dict[Any, Any]
"""Tensors by name, or by place for a network that returns a tuple; under None the only one."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What PyTorch's allocators and libraries say, CPU included, where they raise a plain RuntimeError."""


def overlap_for(reach: int) -> int:
    """The pixels (or frames) that neighbours must share for a receptive field of this radius."""
    return math.ceil(Fraction(8 * reach, 3))


def settings(needs: Requirements, given: Mapping[str, Any], *size: int) -> tuple[int, int]:
    """Tile (0: none) and overlap, in pixels, for a picture of this height and width, or a volume of these three sides.

    ``given``: the options; what they leave open is as the network states: pictures of up to ``needs.tile`` squared pixels
    (volumes: cubed) are not cut. Raises InputError where tile and overlap do not go together, or the network needs whole pictures.
    """
    tile, overlap = given.get("tile"), given.get("overlap")
    if needs.reach is None:
        if tile:
            raise InputError(f"tile={tile}: this model needs what it is given as a whole", "Leave the tile out")
        return 0, 0
    overlap = _up(overlap_for(needs.reach) if overlap is None else overlap, needs.multiple)
    if tile is None:
        tile = needs.tile if math.prod(size) > needs.tile ** len(size) else 0
    least = max(needs.minimum, needs.multiple, 2 * overlap)
    if tile and tile < least:
        why = f"with an overlap of {overlap}" if least == 2 * overlap else "for this model"
        raise InputError(f"tile={tile} is too small {why}", f"Give at least {least}, or 0 for none")
    return tile, overlap


def _up(value: float | Fraction, multiple: int) -> int:
    return math.ceil(Fraction(value) / multiple) * multiple


def cuts(length: int, size: int, overlap: int, multiple: int = 1, minimum: int = 1) -> list[range]:
    """Parts of equal length, of ``minimum`` to ``size``, that cover ``range(length)`` and share at least ``overlap``.

    All start and end at multiples of ``multiple``, to which ``overlap`` and ``minimum`` are rounded up, and ``size`` down; the
    last part may so end beyond ``length``. Raises ValueError where ``size`` is smaller than twice ``overlap``.
    """
    whole, overlap, size = _up(length, multiple), _up(overlap, multiple), size // multiple * multiple
    if size >= whole:
        return [range(whole)]
    if size < 2 * overlap:
        raise ValueError(f"parts of {size} cannot share {overlap} with each of their neighbours")
    count = math.ceil(Fraction(whole - overlap, size - overlap))
    even = _up(Fraction(whole + (count - 1) * overlap, count), multiple)
    size = min(size, max(even, _up(minimum, multiple)))
    count = math.ceil(Fraction(whole - overlap, size - overlap))
    starts = [min(index * (size - overlap), whole - size) for index in range(count)]
    return [range(start, start + size) for start in starts]


@dataclass(frozen=True)
class _Share:
    """What of a part's output goes into the whole's: places ``range(start, stop)`` of the whole, faded in and out."""

    start: int
    stop: int
    fade_in: int
    fade_out: int

    @property
    def fades(self) -> bool:
        return bool(self.fade_in or self.fade_out)

    def weights(self) -> Tensor:
        import torch

        weights = torch.ones(self.stop - self.start)
        if self.fade_in:
            weights[: self.fade_in] = _ramp(self.fade_in)
        if self.fade_out:
            weights[-self.fade_out :] = 1 - _ramp(self.fade_out)
        return weights


def _ramp(length: int) -> Tensor:
    import torch

    return (torch.arange(length) + 0.5) / length


def _shares(parts: Sequence[range], length: int, overlap: int, scale: Fraction, fade: bool) -> list[_Share]:
    """For each part its share of ``length * scale`` places (rounded down)."""
    ramp = int(overlap * scale) // 4 if fade else 0
    ends = [(0, 0)]  # where the shares meet: start of the fading, and its length
    for one, two in itertools.pairwise(parts):
        ends.append((int((two.start + one.stop) * scale - ramp) // 2, ramp))
    ends.append((int(length * scale), 0))
    return [_Share(start, stop + out, into, out) for (start, into), (stop, out) in itertools.pairwise(ends)]


def run(
    function: Callable[..., Any],
    pictures: Sequence[Tensor],
    needs: Requirements,
    given: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
    axes: int = 2,
) -> Any:
    """``function(*pictures)`` as :func:`tiled` computes it, a clip (B, T, C, H, W) in windows too, as network and options say.

    ``given``: the options; ``axes``: 3 for volumes (B, C, X, Y, Z). Raises InputError as :func:`settings`, :func:`tiled` and :func:`windows` do.
    """
    import torch

    tile, overlap = settings(needs, given, *pictures[0].shape[-axes:])

    def at_once(*parts: Tensor) -> Any:
        return tiled(
            function,
            *parts,
            tile=tile,
            overlap=overlap,
            multiple=needs.multiple,
            padding=needs.padding,
            minimum=needs.minimum,
            halve=needs.reach is not None,
            device=device,
            dtype=dtype,
            axes=axes,
        )

    window, shared = frames_at_once(needs, given) if pictures[0].ndim == axes + 3 else (0, 0)
    length = pictures[0].shape[1]
    if not window or length <= window:
        return at_once(*pictures)

    def some(places: list[int]) -> Outputs:
        frames = slice(places[0], places[-1] + 1)
        found = _named(at_once(*(item[:, frames] if item.ndim == axes + 3 else item for item in pictures)))
        times.append(Fraction(next(iter(found.values())).shape[1], len(places)))
        return {name: output.transpose(0, 1) for name, output in found.items()}

    times: list[Fraction] = []
    wholes: Outputs = {}
    for place, frame in enumerate(windows(some, range(length), window, shared)):
        for name, output in frame.items():
            if name not in wholes:
                shape = (len(output), int(length * times[0]), *output.shape[1:])
                wholes[name] = torch.empty(shape, dtype=output.dtype)
            wholes[name][:, place] = output
    return _as_returned(wholes)


def frames_at_once(needs: Requirements, given: Mapping[str, Any]) -> tuple[int, int]:
    """Frames of a window (0: all of the clip), and how many neighbouring windows share. Raises InputError."""
    window = given.get("window")
    if needs.reach_frames is None:
        if window:
            raise InputError(f"window={window}: this model needs a clip as a whole", "Leave the window out")
        return 0, 0
    shared = overlap_for(needs.reach_frames)
    if window is None:
        return max(needs.window, 2 * shared), shared
    if window and window < 2 * shared:
        raise InputError(
            f"window={window} is too small: windows share {shared} frames", f"Give at least {2 * shared}, or 0 for all"
        )
    return window, shared


# --- pictures ---------------------------------------------------------------------------------------------------------


def tiled(
    function: Callable[..., Any],
    *pictures: Tensor,
    tile: int = 0,
    overlap: int = 0,
    multiple: int = 1,
    padding: str = "edge",
    minimum: int = 1,
    halve: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    axes: int = 2,
) -> Any:
    """``function(*pictures)``, computed tile by tile: a tensor, or a tuple or mapping of tensors, on the CPU.

    Args:
        function: maps tensors (..., H, W) to tensors (..., sH, sW). The scale s, which each output has its own of, is any
            fraction that makes ``multiple * s`` whole.
        pictures: (..., H, W). Those after the first may be larger or smaller than it, by a whole factor: they are cut in
            the same places.
        tile: most pixels of a tile's height and width; 0 for no tiles.
        overlap: pixels that neighbouring tiles share.
        multiple: tiles start and end at multiples of this; beyond the lower and right border edges are repeated, or the
            picture is mirrored (``padding="reflect"``), to get there.
        minimum: no tile is smaller than this, if the picture is not.
        halve: whether a tile that memory does not suffice for is halved along each axis and tried again, and those after it
            alike.
        device, dtype: where tiles go, and as what; default: as they are.
        axes: how many axes at the end are cut: 2, or 3 of volumes (..., X, Y, Z), where all that is said of height and width
            holds for the three.

    Outputs have ``floor(H * s)`` rows and ``floor(W * s)`` columns. Half precision becomes float32. Numbers without a
    fraction, such as classes, are not blended: each is that of one tile. The same arguments give the same outputs, bit for
    bit. On a terminal, a bar with the time left is shown where there is more than one tile.

    Raises InputError where sizes do not fit together, and where memory does not suffice for the smallest tile.
    """
    job = _Job(function, _up(overlap, multiple), multiple, padding, minimum, halve, device, dtype, axes)
    outputs = job.cut(pictures, tile or max(pictures[0].shape[-axes:]) + multiple)
    return _as_returned(outputs)


@dataclass
class _Job:
    function: Callable[..., Any]
    overlap: int
    multiple: int
    padding: str
    minimum: int
    halve: bool
    device: torch.device | str | None
    dtype: torch.dtype | None
    axes: int
    largest: float = math.inf
    """Side of the largest tile that is tried; falls when memory does not suffice."""

    def cut(self, pictures: Sequence[Tensor], size: int) -> Outputs:
        """Outputs for pictures, in tiles of at most this size."""
        shape = tuple(pictures[0].shape[-self.axes :])
        grid = [cuts(length, size, self.overlap, self.multiple, self.minimum) for length in shape]
        places = list(itertools.product(*(range(len(parts)) for parts in grid)))
        wholes: dict[Any, _Whole] = {}
        for place in terminal.progress(places, len(places), "tile", delay=1):
            block = [parts[index] for parts, index in zip(grid, place, strict=True)]
            outputs = self.run([_part(picture, shape, block, self.padding) for picture in pictures])
            if len(places) == 1:
                return {name: _cropped(output, shape, block) for name, output in outputs.items()}
            for name, output in outputs.items():
                if name not in wholes:
                    wholes[name] = _Whole(output, shape, grid, self.overlap, self.multiple)
                wholes[name].add(output, place)
        return {name: whole.tensor for name, whole in wholes.items()}

    def run(self, tile: Sequence[Tensor]) -> Outputs:
        """Outputs for a tile; where memory does not suffice, halved along each axis, again and again."""
        side = max(tile[0].shape[-self.axes :])
        if side <= self.largest:
            if (outputs := self.attempt(tile)) is not None:
                return outputs
            smaller = _up(Fraction(side + self.overlap, 2), self.multiple)
            if not self.halve or not max(self.minimum, 2 * self.overlap) <= smaller < side:
                size = _sides(tile[0].shape[-self.axes :])
                raise InputError(
                    f"memory does not suffice for {size} pixels at once", "Give a smaller input, or use another device"
                )
            log.warning("memory does not suffice for %d pixels at once: going on with tiles of %d", side, smaller)
            self.largest = smaller
        return self.cut(tile, int(self.largest))

    def attempt(self, tile: Sequence[Tensor]) -> Outputs | None:
        """Outputs on the CPU; None where memory did not suffice."""
        import torch

        try:
            found = _named(self.function(*(item.to(self.device, self.dtype, copy=True) for item in tile)))
            full = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
            return {name: item.to("cpu", full.get(item.dtype, item.dtype)) for name, item in found.items()}
        except (RuntimeError, MemoryError) as problem:
            if not out_of_memory(problem):
                raise
        if torch.cuda.is_available():  # here, where the traceback no longer holds the tensors
            torch.cuda.empty_cache()
        return None


def out_of_memory(problem: BaseException) -> bool:
    """Whether an exception says that a device, or the CPU, has no memory left."""
    import torch

    said = isinstance(problem, RuntimeError) and any(text in str(problem) for text in _OUT_OF_MEMORY)
    return said or isinstance(problem, (torch.OutOfMemoryError, MemoryError))


def _named(outputs: Any) -> Outputs:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    return dict(enumerate(outputs)) if isinstance(outputs, (tuple, list)) else {None: outputs}


def _as_returned(outputs: Outputs) -> Any:
    if None in outputs:
        return outputs[None]
    return tuple(outputs.values()) if all(isinstance(name, int) for name in outputs) else outputs


def _sides(shape: Sequence[int]) -> str:
    """Width x height; of a volume its sides as they are."""
    return "x".join(map(str, reversed(shape) if len(shape) == 2 else shape))


def _at_end(indices: Iterable[Any]) -> Any:
    """An index of the last axes."""
    return (..., *indices)


def _part(picture: Tensor, shape: Sequence[int], place: Sequence[range], padding: str) -> Tensor:
    """What is at ``place`` of a picture, in pixels of one that has ``shape``; it is padded beyond its end."""
    import torch

    own = picture.shape[-len(shape) :]
    indices = []
    for length, mine, part in zip(shape, own, place, strict=True):
        start, stop = (Fraction(end * mine, length) for end in (part.start, part.stop))
        if not start.denominator == stop.denominator == 1 or mine * shape[0] != own[0] * length:
            raise InputError(
                f"inputs of {_sides(shape)} and {_sides(own)} pixels cannot be cut alike", "Give one that is a multiple"
            )
        indices.append(range(int(start), int(stop)))
    if all(index.stop <= length for index, length in zip(indices, own, strict=True)):
        return picture[_at_end(slice(index.start, index.stop) for index in indices)]
    places = (
        torch.tensor([_inside(at, length, padding) for at in index], device=picture.device)
        for index, length in zip(indices, own, strict=True)
    )
    spread = (at.reshape(-1, *[1] * after) for at, after in zip(places, range(len(own))[::-1], strict=True))
    return picture[_at_end(spread)]


def _inside(index: int, length: int, padding: str) -> int:
    """The place in ``range(length)`` whose pixel is at ``index``."""
    if padding == "edge" or length == 1:
        return min(index, length - 1)
    index %= 2 * length - 2
    return min(index, 2 * length - 2 - index)


def _cropped(output: Tensor, shape: Sequence[int], place: Sequence[range]) -> Tensor:
    """Without what comes of repeated edges."""
    padded = [len(part) for part in place]
    if padded == list(shape) or output.ndim <= len(shape):
        return output
    sides = (length * out // part for length, out, part in zip(shape, output.shape[-len(shape) :], padded, strict=True))
    return output[_at_end(slice(side) for side in sides)]


class _Whole:
    """One output of all tiles, put together. Its memory is taken when the first tile is there."""

    def __init__(
        self, first: Tensor, shape: Sequence[int], grid: Sequence[list[range]], overlap: int, multiple: int
    ) -> None:
        import torch

        self.grid, self.axes = grid, len(shape)
        self.scales = [Fraction(0)] * self.axes
        if first.ndim > self.axes:
            sides = first.shape[-self.axes :]
            self.scales = [Fraction(out, len(parts[0])) for out, parts in zip(sides, grid, strict=True)]
        if not all(scale and (multiple * scale).denominator == 1 for scale in self.scales):
            raise InputError(
                f"an output of shape {tuple(first.shape)} for a tile of {_sides([len(parts[0]) for parts in grid])} pixels "
                "cannot be put together",
                "Give tile=0",
            )
        self.shares = [
            _shares(parts, length, overlap, scale, first.is_floating_point())
            for parts, length, scale in zip(grid, shape, self.scales, strict=True)
        ]
        whole = [shares[-1].stop for shares in self.shares]
        self.tensor = torch.zeros((*first.shape[: -self.axes], *whole), dtype=first.dtype)

    def add(self, output: Tensor, place: Sequence[int]) -> None:
        """Put the output of the tile at this place of the grid where it belongs."""
        parts = [parts[index] for parts, index in zip(self.grid, place, strict=True)]
        shares = [shares[index] for shares, index in zip(self.shares, place, strict=True)]
        expected = [len(part) * scale for part, scale in zip(parts, self.scales, strict=True)]
        if list(output.shape[-self.axes :]) != expected:
            raise InputError(
                f"outputs of {_sides([len(part) for part in parts])} pixels differ in size from tile to tile",
                "Give tile=0",
            )
        firsts = [int(part.start * scale) for part, scale in zip(parts, self.scales, strict=True)]
        own = (slice(share.start - first, share.stop - first) for share, first in zip(shares, firsts, strict=True))
        part = output[_at_end(own)]
        target = self.tensor[_at_end(slice(share.start, share.stop) for share in shares)]
        if any(share.fades for share in shares):
            weights = shares[-1].weights()
            for share in reversed(shares[:-1]):
                weights = share.weights().reshape(-1, *[1] * weights.ndim) * weights
            target += part * weights.to(part.dtype)
        else:
            target.copy_(part)


# --- clips ------------------------------------------------------------------------------------------------------------


def windows(
    function: Callable[[list[T]], Mapping[Any, Tensor]], frames: Iterable[T], window: int, overlap: int
) -> Iterator[Outputs]:
    """Frames in, frames out, as they come: ``function`` of ``window`` frames at a time, blended where windows overlap.

    Args:
        function: maps a list of frames to outputs by name, each a tensor (kT, ...) for T frames, k being a whole number.
        frames: any iterable; it is read as results are asked for.
        window: frames at once; fewer where there are not so many.
        overlap: frames that neighbouring windows share. The last two share more where the clip ends within a window.

    Memory is that of the outputs of two windows. Raises InputError where there are no frames or ``window`` is smaller than
    twice the overlap.
    """
    if window < max(2 * overlap, 1):
        raise InputError(f"window={window} is too small: windows share {overlap} frames", f"Give {2 * overlap}")
    stream = iter(frames)
    given = list(itertools.islice(stream, window))
    if not given:
        raise InputError("the clip has no frames")
    held, begin = _by_frame(function(given), len(given)), 0
    while fresh := list(itertools.islice(stream, window - overlap)):
        given = given[len(fresh) :] + fresh
        found = _by_frame(function(given), window)
        times = len(found) // window
        shared, ramp = (window - len(fresh)) * times, overlap * times // 4
        moved, skipped = len(fresh) * times, (shared - ramp) // 2
        yield from held[begin : moved + skipped]
        for step in range(ramp):
            old, new = held[moved + skipped + step], found[skipped + step]
            yield {name: _blend(old[name], new[name], (step + 0.5) / ramp) for name in new}
        held, begin = found, skipped + ramp
    yield from held[begin:]


def _by_frame(outputs: Mapping[Any, Tensor], count: int) -> list[Outputs]:
    """One mapping for each frame of the outputs. Raises InputError unless there are so many, or a multiple."""
    lengths = {len(value) for value in outputs.values()}
    if len(lengths) != 1 or min(lengths) % count or not min(lengths):
        found = ", ".join(map(str, sorted(lengths)))
        raise InputError(f"{found} frames came of {count}: this model cannot be run in windows", "Give window=0")
    return [dict(zip(outputs, frame, strict=True)) for frame in zip(*outputs.values(), strict=True)]


def _blend(old: Tensor, new: Tensor, weight: float) -> Tensor:
    return old * (1 - weight) + new * weight if new.is_floating_point() else (old, new)[weight > 0.5]
