"""Ellipses to pictures on a CPU: compiled by Numba, with the gradients written out.

Pictures are rendered in squares of 8x8 pixels. Each has the list of Gaussians that may be seen in it, nearest first, and for
each Gaussian one loop over the 64 pixels, which the compiler turns into vector instructions. The backward pass walks the lists
in the same order, so that it needs nothing of the forward pass but the picture: what is behind a Gaussian is what there is in
all less what has come so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor
from torch.autograd.function import once_differentiable

from stzoo_reconstruction.compiled import LOOSE, compiled
from stzoo_reconstruction.projection import FAINT, TILE, Ellipses, View
from stzoo_reconstruction.rasterise_torch import LEAST, tile_bands

f4 = np.float32
PIXELS = TILE * TILE
FEWEST = 16
"""After how many Gaussians of a list it is looked whether a tile is covered."""
SLACK = 0.05
"""Pixels that an ellipse is taken to be larger where the tiles that it touches are listed: its numbers are rounded."""
_FAINT, _LEAST = f4(FAINT), f4(LEAST)
_DEEPEST = f4(5.6)
"""Powers beyond which even an opaque Gaussian is faint."""
_ZERO, _HALF, _ONE = f4(0), f4(0.5), f4(1)
_LOG2E = f4(1.4426950408889634)
_POWERS = tuple(f4(np.log(2.0) ** index / float(np.prod(np.arange(1, index + 1)))) for index in range(7))


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:
    """The float whose bits an int32 holds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(inline="always", fastmath=set(LOOSE))
def _falloff(power: Any) -> Any:
    """exp(-power) for 0 <= power < 80, to a relative 4e-7: 2^whole * 2^part, -1/2 <= part <= 1/2."""
    scaled = -power * _LOG2E
    whole = np.int32(scaled - _HALF)
    x = scaled - f4(whole)
    value = _POWERS[5] + x * _POWERS[6]
    value = _POWERS[3] + x * (_POWERS[4] + x * value)
    value = _ONE + x * (_POWERS[1] + x * (_POWERS[2] + x * value))
    return value * _as_float(np.int32((whole + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]


@compiled()
def _list(
    centres: Any, conics: Any, opacities: Any, boxes: Any, order: Any, first: int, last: int, columns: int
) -> Any:
    """Gaussians of each tile of a band of rows, nearest first, and where each tile's list starts (and the last one ends).

    Tiles of the boxes that the ellipses do not touch are left out: in each row of tiles, an ellipse reaches farthest left and
    right at its extremes, or where it leaves the row.
    """
    spans = 0
    for i in range(len(boxes)):
        spans += max(min(boxes[i, 3], last) - max(boxes[i, 1], first), 0)
    span = np.empty((spans, 2), np.int32)
    starts = np.zeros((last - first) * columns + 2, np.int64)
    index = 0
    for k in range(len(order)):
        i = order[k]
        if boxes[i, 2] <= boxes[i, 0]:
            continue
        a, b, c = float(conics[i, 0]), float(conics[i, 1]), float(conics[i, 2])
        u, v = float(centres[i, 0]) - 0.5, float(centres[i, 1])
        size = 2.001 * np.log(opacities[i] / FAINT) + 1e-4
        certain = a * c - b * b > 1e-6 * a * c  # not so thin that rounding decides where it is
        shape = 1 / max(a * c - b * b, 1e-6 * a * c)
        half = np.sqrt(size * a * shape)
        extreme = b / c * np.sqrt(size * c * shape)
        lean, scale, across = -b / a, 1 / (a * a * shape), size / a
        for row in range(max(boxes[i, 1], first), min(boxes[i, 3], last)):
            low, high = max(row * TILE + 0.5 - v, -half), min(row * TILE + (TILE - 0.5) - v, half)
            left, right = boxes[i, 0], boxes[i, 2]
            if certain and low > high:
                right = left
            elif certain and right - left > 1:
                one, two = min(max(extreme, low), high), min(max(-extreme, low), high)
                start = u + lean * one - np.sqrt(max(across - scale * one * one, 0.0)) - SLACK
                end = u + lean * two + np.sqrt(max(across - scale * two * two, 0.0)) + SLACK
                left = max(left, int(np.floor(max(start, 0.0) / TILE)))
                right = min(boxes[i, 2], int(np.floor(max(min(end, 1e9), -1.0) / TILE)) + 1)
            span[index, 0], span[index, 1] = left, right
            index += 1
            for tile in range((row - first) * columns + left, (row - first) * columns + right):
                starts[tile + 2] += 1
    for tile in range(2, len(starts)):
        starts[tile] += starts[tile - 1]
    ids = np.empty(starts[-1], np.int32)
    index = 0
    for k in range(len(order)):
        i = order[k]
        if boxes[i, 2] <= boxes[i, 0]:
            continue
        for row in range(max(boxes[i, 1], first), min(boxes[i, 3], last)):
            for tile in range((row - first) * columns + span[index, 0], (row - first) * columns + span[index, 1]):
                ids[starts[tile + 1]] = i
                starts[tile + 1] += 1
            index += 1
    return ids, starts[:-1]


@compiled(*LOOSE)
def _forward(
    centres: Any, conics: Any, opacities: Any, colours: Any, ids: Any, starts: Any, first: int, columns: int, opaque: Any,
    picture: Any, left: Any, ends: Any,
) -> None:  # fmt: skip
    """Render the tiles of a band; ``ends``: where in each list all was covered."""
    height, width, channels = picture.shape
    x, y = np.empty(PIXELS, f4), np.empty(PIXELS, f4)
    free, rest, weights = np.empty(PIXELS, f4), np.empty(PIXELS, f4), np.empty(PIXELS, f4)
    sums = np.empty((channels, PIXELS), f4)
    for tile in range(len(ends)):
        top, side = (first + tile // columns) * TILE, tile % columns * TILE
        for p in range(PIXELS):
            x[p], y[p] = f4(side + p % TILE) + _HALF, f4(top + p // TILE) + _HALF
        free[:], rest[:], sums[:] = _ONE, _ONE, _ZERO
        end = starts[tile + 1]
        for k in range(starts[tile], starts[tile + 1]):
            i = ids[k]
            u, v, opacity = centres[i, 0], centres[i, 1], opacities[i]
            a, b, c = _HALF * conics[i, 0], conics[i, 1], _HALF * conics[i, 2]
            for p in range(PIXELS):
                dx, dy = x[p] - u, y[p] - v
                power = min(max(a * dx * dx + c * dy * dy + b * dx * dy, _ZERO), _DEEPEST)
                cover = min(opaque, opacity * _falloff(power))
                cover = cover if cover >= _FAINT else _ZERO
                after = free[p] * (_ONE - cover)
                drawn = after > _LEAST
                weights[p] = cover * free[p] if drawn else _ZERO
                free[p] = after if drawn else _ZERO
                rest[p] = after if drawn else rest[p]
            for channel in range(channels):
                colour = colours[i, channel]
                for p in range(PIXELS):
                    sums[channel, p] += weights[p] * colour
            if (k - starts[tile]) % FEWEST == FEWEST - 1:
                most = _ZERO
                for p in range(PIXELS):
                    most += free[p]
                if most == _ZERO:
                    end = k + 1
                    break
        ends[tile] = end
        for row in range(top, min(top + TILE, height)):
            for column in range(side, min(side + TILE, width)):
                p = (row - top) * TILE + column - side
                left[row, column] = rest[p]
                for channel in range(channels):
                    picture[row, column, channel] = sums[channel, p]


@compiled(*LOOSE)
def _backward(
    centres: Any, conics: Any, opacities: Any, colours: Any, ids: Any, starts: Any, first: int, columns: int, opaque: Any,
    picture: Any, left: Any, ends: Any, to_picture: Any, to_left: Any, gradients: Any,
) -> None:  # fmt: skip
    """``gradients`` (N, 6 + C): of centre, conic, opacity and colours; what this adds to them."""
    height, width, channels = picture.shape
    x, y = np.empty(PIXELS, f4), np.empty(PIXELS, f4)
    free, behind = np.empty(PIXELS, f4), np.empty(PIXELS, f4)
    weights, shades = np.empty(PIXELS, f4), np.empty(PIXELS, f4)
    wanted = np.empty((channels, PIXELS), f4)
    for tile in range(len(ends)):
        top, side = (first + tile // columns) * TILE, tile % columns * TILE
        for p in range(PIXELS):
            x[p], y[p] = f4(side + p % TILE) + _HALF, f4(top + p // TILE) + _HALF
        free[:], behind[:], wanted[:] = _ONE, _ZERO, _ZERO
        for row in range(top, min(top + TILE, height)):
            for column in range(side, min(side + TILE, width)):
                p = (row - top) * TILE + column - side
                behind[p] = to_left[row, column] * left[row, column]
                for channel in range(channels):
                    wanted[channel, p] = to_picture[row, column, channel]
                    behind[p] += to_picture[row, column, channel] * picture[row, column, channel]
        for k in range(starts[tile], ends[tile]):
            i = ids[k]
            u, v, opacity = centres[i, 0], centres[i, 1], opacities[i]
            a, b, c = _HALF * conics[i, 0], conics[i, 1], _HALF * conics[i, 2]
            shades[:] = _ZERO
            for channel in range(channels):
                colour = colours[i, channel]
                for p in range(PIXELS):
                    shades[p] += wanted[channel, p] * colour
            s0, sx, sy, sxx, sxy, syy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
            for p in range(PIXELS):
                dx, dy = x[p] - u, y[p] - v
                power = min(max(a * dx * dx + c * dy * dy + b * dx * dy, _ZERO), _DEEPEST)
                full = opacity * _falloff(power)
                cover = min(opaque, full)
                cover = cover if cover >= _FAINT else _ZERO
                free_here = free[p]
                after = free_here * (_ONE - cover)
                drawn = after > _LEAST
                weight = cover * free_here if drawn else _ZERO
                weights[p] = weight
                free[p] = after if drawn else _ZERO
                behind_here = behind[p] - weight * shades[p]
                behind[p] = behind_here
                slope = shades[p] * free_here - behind_here / (_ONE - cover)
                slope = slope * full if weight > _ZERO else _ZERO
                slope = slope if full <= opaque else _ZERO
                s0 += slope
                sx += slope * dx
                sy += slope * dy
                sxx += slope * dx * dx
                sxy += slope * dx * dy
                syy += slope * dy * dy
            gradients[i, 0] += conics[i, 0] * sx + b * sy
            gradients[i, 1] += b * sx + conics[i, 2] * sy
            gradients[i, 2] -= _HALF * sxx
            gradients[i, 3] -= sxy
            gradients[i, 4] -= _HALF * syy
            gradients[i, 5] += s0 / opacity
            for channel in range(channels):
                total = _ZERO
                for p in range(PIXELS):
                    total += weights[p] * wanted[channel, p]
                gradients[i, 6 + channel] += total


class _Band(NamedTuple):
    """Rows of tiles whose lists are in memory."""

    first: int
    """Row of tiles that it starts with."""
    ids: np.ndarray
    """Gaussians, tile after tile."""
    starts: np.ndarray
    """(tiles + 1,)"""


class _Bands:
    """The bands of a picture. The lists of a single one are kept for the backward pass, those of several made again."""

    def __init__(self, arguments: tuple[np.ndarray, ...], boxes: Tensor, view: View) -> None:
        self.rows = list(tile_bands(boxes, view.tiles[0]))
        self.arguments, self.columns = arguments, view.tiles[1]
        self.kept: _Band | None = None

    def __iter__(self) -> Iterator[_Band]:
        for first, last in self.rows:
            band = self.kept or _Band(first, *_list(*self.arguments, first, last, self.columns))
            if len(self.rows) == 1:
                self.kept = band
            yield band


class _Rasterise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        centres: Tensor,
        conics: Tensor,
        opacities: Tensor,
        colours: Tensor,
        depths: Tensor,
        boxes: Tensor,
        view: View,
    ) -> tuple[Tensor, Tensor]:
        values = tuple(item.detach().contiguous().numpy() for item in (centres, conics, opacities, colours))
        picture = np.empty((view.height, view.width, colours.shape[1]), f4)
        left = np.empty((view.height, view.width), f4)
        order = np.argsort(depths.detach().numpy(), kind="stable")
        bands, ends = _Bands((*values[:3], boxes.numpy(), order), boxes, view), []
        rest = view.tiles[1], f4(view.rules.opaque)
        for band in bands:
            ends.append(np.empty(len(band.starts) - 1, np.int64))
            _forward(*values, band.ids, band.starts, band.first, *rest, picture, left, ends[-1])
        made = torch.from_numpy(picture), torch.from_numpy(left)
        ctx.kept = values, bands, rest, ends
        ctx.save_for_backward(*made)  # which notices if they were changed since
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        values, bands, rest, ends = ctx.kept
        made = tuple(item.numpy() for item in ctx.saved_tensors)
        wanted = tuple(item.contiguous().numpy() for item in upstream)
        total = np.zeros((len(values[0]), 6 + values[3].shape[1]), f4)
        for band, end in zip(bands, ends, strict=True):
            _backward(*values, band.ids, band.starts, band.first, *rest, *made, end, *wanted, total)
        gradients = torch.from_numpy(total)
        return gradients[:, :2], gradients[:, 2:5], gradients[:, 5], gradients[:, 6:], None, None, None


def rasterise(seen: Ellipses, colours: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """What :func:`stzoo_reconstruction.rasterise_torch.rasterise` does, in float32 on the CPU, in one thread: two of them took
    longer, up to 100,000 Gaussians in 512x512 pixels."""
    return _Rasterise.apply(  # type: ignore[no-any-return, no-untyped-call]
        seen.centres, seen.conics, seen.opacities, colours, seen.depths, seen.boxes, view
    )
