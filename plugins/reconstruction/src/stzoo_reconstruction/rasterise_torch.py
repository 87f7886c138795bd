"""Ellipses to pictures in PyTorch alone: any device, any precision, gradients by autograd.

Slower than :mod:`stzoo_reconstruction.rasterise` by a factor of ten on a CPU; it is used where that one is not available, and
is what that one is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stzoo_reconstruction.projection import FAINT, TILE, Ellipses, View

LEAST = 1e-4
"""A Gaussian that would leave less than this of a pixel to what is behind it is not drawn, nor is anything behind it."""
LISTED = 2**24
"""Pairs of a Gaussian and a tile that are listed at once; where there are more, bands of the picture are done in turn."""
ELEMENTS = 4_000_000
"""Pairs of a Gaussian and a pixel that are computed at once."""


def rasterise(seen: Ellipses, colours: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Blend Gaussians from front to back.

    Args:
        seen: ellipses from :func:`stzoo_reconstruction.projection.project`.
        colours: (N, C) of each; they may be other values than ``seen.colours``, such as depths.
        view: the same that made the ellipses.

    Returns:
        The sum of what Gaussians add to each pixel (H, W, C), without a background, and how much of the background can be
        seen through them (H, W).
    """
    rows, columns = view.tiles
    order = torch.argsort(seen.depths.detach(), stable=True)
    bands = []
    for first, last in tile_bands(seen.boxes, rows):
        ids, starts = _listed(seen.boxes, order, first, last, columns)
        tiles = _tiles(seen, colours, view, ids, starts, first, columns)
        bands.append(
            tiles.unflatten(0, (last - first, columns)).unflatten(2, (TILE, TILE)).transpose(1, 2).flatten(0, 1)
        )
    picture = torch.cat(bands).flatten(1, 2)[: view.height, : view.width]
    return picture[..., :-1], picture[..., -1]


def tile_bands(boxes: Tensor, rows: int) -> Iterator[tuple[int, int]]:
    """First row of tiles, and the one after the last, of bands that list at most ``LISTED`` pairs (or are one row)."""
    width, first, last = boxes[:, 2] - boxes[:, 0], boxes[:, 1], boxes[:, 3]
    change = torch.zeros(rows + 1, dtype=torch.long, device=boxes.device)
    change.index_add_(0, first, width.long()).index_add_(0, last, -width.long())
    start, listed = 0, 0
    for row, count in enumerate(change.cumsum(0)[:rows].tolist()):
        if row > start and listed + count > LISTED:
            yield start, row
            start, listed = row, 0
        listed += count
    yield start, rows


def _listed(boxes: Tensor, order: Tensor, first: int, last: int, columns: int) -> tuple[Tensor, Tensor]:
    """Gaussians of every tile of a band, nearest first, one tile after the other; where each tile's start (tiles + 1)."""
    boxes = boxes[order].long()
    left, top, right, bottom = boxes[:, 0], boxes[:, 1].clamp(first, last), boxes[:, 2], boxes[:, 3].clamp(first, last)
    width = right - left
    counts = width * (bottom - top)
    place = torch.repeat_interleave(counts)
    within = torch.arange(len(place), device=boxes.device) - (counts.cumsum(0) - counts)[place]
    tiles = (top[place] - first + within // width[place]) * columns + left[place] + within % width[place]
    tiles, sorting = torch.sort(tiles, stable=True)
    edges = torch.arange((last - first) * columns + 1, device=boxes.device)
    return order[place[sorting]], torch.searchsorted(tiles, edges)


def _tiles(
    seen: Ellipses, colours: Tensor, view: View, ids: Tensor, starts: Tensor, first: int, columns: int
) -> Tensor:
    """Colours and what is left of the background, (tiles, pixels, C + 1). Tiles with lists of similar lengths go together."""
    lengths = starts[1:] - starts[:-1]
    order = torch.argsort(lengths)
    sizes = lengths[order].tolist()
    pixel = torch.arange(TILE, device=ids.device) + 0.5
    down, across = (axis.flatten().to(colours) for axis in torch.meshgrid(pixel, pixel, indexing="ij"))
    parts, index = [], 0
    while index < len(sizes):
        end = index + 1
        while end < len(sizes) and sizes[end] <= max(16, 1.3 * sizes[index]):
            if sizes[end] * (end - index + 1) * TILE**2 > ELEMENTS:
                break
            end += 1
        tiles, index = order[index:end], end
        steps = torch.arange(max(sizes[end - 1], 1), device=ids.device)
        listed = steps < lengths[tiles, None]
        number = ids[(starts[tiles, None] + steps).clamp(max=len(ids) - 1)] if len(ids) else listed.long()
        x = (tiles % columns * TILE)[:, None, None] + across - seen.centres[number, 0, None]
        y = ((tiles // columns + first) * TILE)[:, None, None] + down - seen.centres[number, 1, None]
        a, b, c = seen.conics[number, :, None].unbind(2)
        power = (0.5 * (a * x * x + c * y * y) + b * x * y).clamp_min(0)
        cover = (seen.opacities[number, None] * torch.exp(-power)).clamp_max(view.rules.opaque)
        cover = torch.where((cover >= FAINT) & listed[..., None], cover, 0)
        after = torch.cumprod(1 - cover, 1)
        cover = torch.where(after > LEAST, cover, 0)  # products only fall: from the first on, none is drawn
        left = torch.cumprod(1 - cover, 1)
        before = torch.cat((torch.ones_like(left[:, :1]), left[:, :-1]), 1)
        mixed = torch.bmm((cover * before).mT, colours[number])
        parts.append(torch.cat((mixed, left[:, -1, :, None]), -1))
    return torch.cat(parts)[torch.argsort(order)]
