"""Tiles and windows: what they give is what the whole gives."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from stzoo import media, tiling
from stzoo.errors import InputError
from stzoo.tiling import cuts, overlap_for, tiled, windows

REACH = 3


def network(scale: int = 1, channels: int = 3) -> nn.Module:
    """Convolutions of which a pixel looks ``REACH`` pixels far, enlarging."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, channels * scale**2, 3, padding=1),
        nn.PixelShuffle(scale),
    ).eval()


def picture(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


# --- cutting ----------------------------------------------------------------------------------------------------------


def test_parts_cover_everything_and_share_what_they_must() -> None:
    for length, size, overlap, multiple in itertools.product(range(1, 70, 3), (16, 24, 33), (0, 3, 8), (1, 4, 7)):
        if size // multiple * multiple < 2 * -(-overlap // multiple) * multiple:
            continue
        parts = cuts(length, size, overlap, multiple)
        assert parts[0].start == 0
        assert length <= parts[-1].stop < length + multiple
        assert len({len(part) for part in parts}) == 1
        assert all(part.start % multiple == len(part) % multiple == 0 for part in parts)
        assert len(parts) == 1 or len(parts[0]) <= size
        assert all(one.stop - two.start >= overlap for one, two in itertools.pairwise(parts))


@pytest.mark.parametrize("scale", [Fraction(1), Fraction(4), Fraction(3, 2), Fraction(1, 2)])
def test_weights_sum_to_one_and_forget_the_outer_three_eighths(scale: Fraction) -> None:
    for length, overlap in itertools.product(range(2, 200, 7), (0, 2, 6, 16)):
        parts = cuts(length, 40, overlap, multiple=2)
        shares = tiling._shares(parts, length, overlap, scale, fade=True)
        total = torch.zeros(int(length * scale))
        for share in shares:
            total[share.start : share.stop] += share.weights()
        assert torch.allclose(total, torch.ones_like(total), atol=1e-6)
        for part, share in zip(parts[1:], shares[1:], strict=True):
            assert share.start - part.start * scale >= int(overlap * scale * 3 / 8)
        for part, share in zip(parts[:-1], shares[:-1], strict=True):
            assert part.stop * scale - share.stop >= int(overlap * scale * 3 / 8)


def test_no_part_is_smaller_than_the_least_that_is_allowed() -> None:
    assert cuts(65, 64, 8) == [range(37), range(28, 65)]
    for length in range(65, 300):
        parts = cuts(length, 66, 8, multiple=2, minimum=63)
        assert {len(part) for part in parts} <= {64, 66}
        assert len(set(parts)) == len(parts)
        shares = tiling._shares(parts, length, 8, Fraction(1), fade=True)
        assert all(share.stop - share.start >= share.fade_in + share.fade_out for share in shares)


# --- pictures ---------------------------------------------------------------------------------------------------------

SIZES = [(61, 83), (33, 200), (20, 10), (128, 128), (1, 1), (97, 5)]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_tiles_give_what_the_whole_gives(scale: int, size: tuple[int, int]) -> None:
    module, given = network(scale), picture(2, 3, *size)
    whole, found = module(given), tiled(module, given, tile=32, overlap=overlap_for(REACH))
    assert found.shape == whole.shape == (2, 3, size[0] * scale, size[1] * scale)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)


def test_too_little_overlap_shows() -> None:
    module, given = network(), picture(1, 3, 100, 100)
    assert (tiled(module, given, tile=32, overlap=2) - module(given)).abs().max() > 1e-3


@pytest.mark.parametrize("padding", ["edge", "reflect"])
@pytest.mark.parametrize("size", SIZES)
def test_a_multiple_that_does_not_divide(size: tuple[int, int], padding: Literal["edge", "reflect"]) -> None:
    """Tiles lie on the network's grid; at the border, edges are repeated or mirrored, as for the whole."""
    seen = set()

    def halves(given: Tensor) -> Tensor:
        assert given.shape[-2] % 8 == given.shape[-1] % 8 == 0
        seen.add(given.shape[-2:])
        return nn.functional.avg_pool2d(given, 8).repeat_interleave(4, -1).repeat_interleave(4, -2)

    given = picture(1, 3, *size)
    padded = torch.from_numpy(media.pad_to_multiple(given.numpy(), 8, padding))
    whole = halves(padded)[..., : size[0] // 2, : size[1] // 2]
    seen.clear()
    found = tiled(halves, given, tile=30, overlap=5, multiple=8, padding=padding)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
    assert all(max(shape) <= 24 for shape in seen)
    assert torch.equal(tiled(halves, given, multiple=8, padding=padding), whole)


def test_a_scale_that_is_a_fraction_needs_the_multiple() -> None:
    def larger(given: Tensor) -> Tensor:
        return nn.functional.interpolate(given, scale_factor=1.5, mode="nearest")

    given = picture(1, 1, 60, 90)
    assert torch.equal(tiled(larger, given, tile=32, overlap=0, multiple=2), larger(given))
    with pytest.raises(InputError, match=r"output of shape .* for a tile of .* cannot be put together. Give tile=0"):
        tiled(lambda given: larger(given)[..., :-1, :-1], given, tile=31, overlap=0)


def test_outputs_by_name_of_several_sizes_and_kinds() -> None:
    def several(given: Tensor) -> dict[str, Tensor]:
        return {
            "same": given * 2,
            "half": given[..., ::2, ::2],
            "classes": (given > 0.5).sum(1),
            "seen": given.sum(1) > 1,
            "half precision": given.bfloat16(),
        }

    given = picture(1, 3, 90, 70)
    found, whole = tiled(several, given, tile=32, overlap=8, multiple=2), several(given)
    for name, output in whole.items():
        torch.testing.assert_close(found[name], output.float() if name == "half precision" else output)
    pair = tiled(lambda given: (given, given[:, 0]), given, tile=32)
    assert isinstance(pair, tuple)
    assert torch.equal(pair[1], given[:, 0])


def test_further_inputs_are_cut_in_the_same_places() -> None:
    small, large = picture(1, 1, 50, 70), picture(1, 3, 200, 280)

    def both(depth: Tensor, guide: Tensor) -> Tensor:
        assert [4 * side for side in depth.shape[-2:]] == list(guide.shape[-2:])
        return guide + depth.repeat_interleave(4, -1).repeat_interleave(4, -2)

    torch.testing.assert_close(tiled(both, small, large, tile=24, overlap=8), both(small, large))
    with pytest.raises(InputError, match="inputs of 70x50 and 279x200 pixels cannot be cut alike"):
        tiled(both, small, large[..., :-1], tile=24)


def test_tiles_are_copies_and_the_same_each_time() -> None:
    def rude(given: Tensor) -> Tensor:
        return given.mul_(0.1).add_(1)

    given = picture(1, 3, 70, 70)
    kept = given.clone()
    first = tiled(rude, given, tile=32, overlap=16)
    assert torch.equal(given, kept)
    assert torch.equal(first, tiled(rude, given, tile=32, overlap=16))


def test_a_value_that_is_not_known_stays_where_it_is() -> None:
    given = picture(1, 1, 64, 64)
    given[..., 31, 7] = torch.nan
    assert tiled(lambda given: given, given, tile=24, overlap=8).isnan().nonzero().tolist() == [[0, 0, 31, 7]]


# --- memory -----------------------------------------------------------------------------------------------------------


class Hungry(nn.Module):
    """Has memory for so many pixels only."""

    def __init__(self, pixels: int, problem: Exception | None = None) -> None:
        super().__init__()
        self.inner, self.pixels = network(2), pixels
        self.problem = problem or torch.OutOfMemoryError("CUDA out of memory")
        self.seen: list[tuple[int, ...]] = []

    def forward(self, given: Tensor) -> Tensor:
        self.seen.append(tuple(given.shape[-2:]))
        if given.shape[-2] * given.shape[-1] > self.pixels:
            raise self.problem
        return self.inner(given)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_a_tile_that_memory_does_not_suffice_for_is_cut_in_four(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    module, given = Hungry(40 * 40, problem), picture(1, 3, 150, 110)
    found = tiled(module, given, tile=100, overlap=overlap_for(REACH))
    torch.testing.assert_close(found, module.inner(given), atol=1e-6, rtol=0)
    failed = [size for size in module.seen if size[0] * size[1] > 40 * 40]
    assert len(failed) == 1, "those after it are not tried at the size that failed"
    assert caplog.messages == ["memory does not suffice for 79 pixels at once: going on with tiles of 44"]


def test_the_whole_is_cut_too_where_memory_does_not_suffice() -> None:
    module, given = Hungry(50 * 50), picture(1, 3, 90, 64)
    found = tiled(module, given, overlap=overlap_for(REACH))
    torch.testing.assert_close(found, module.inner(given), atol=1e-6, rtol=0)


def test_memory_that_never_suffices() -> None:
    module = Hungry(10)
    with pytest.raises(InputError, match="memory does not suffice for 35x35 pixels at once. Give a smaller input"):
        tiled(module, picture(1, 3, 90, 90), tile=40, overlap=16)
    with pytest.raises(InputError, match="90x90 pixels"):
        tiled(module, picture(1, 3, 90, 90), halve=False)


def test_other_problems_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        tiled(network(), picture(1, 1, 64, 64), tile=32)


def test_memory_does_not_grow_with_the_picture() -> None:
    """Beyond the picture and its output: what one tile needs, whatever the size of the picture."""
    from stzoo.costs import _Memory

    peaks = []
    for side in (256, 512):
        given = picture(1, 3, side, side)
        with _Memory() as memory:
            tiled(network(2), given, tile=64, overlap=8)
        peaks.append(memory.peak - 4 * 3 * (2 * side) ** 2)
    assert peaks[1] < 1.3 * peaks[0]


# --- clips ------------------------------------------------------------------------------------------------------------


def smoothed(frames: list[Tensor]) -> dict[str, Tensor]:
    """Each frame with the two before and after it; at the ends the last is repeated."""
    clip = torch.stack(frames)
    padded = torch.cat((clip[:1], clip[:1], clip, clip[-1:], clip[-1:]))
    return {"video": padded.unfold(0, 5, 1).mean(-1)}


@pytest.mark.parametrize("length", [1, 2, 9, 12, 13, 14, 21, 40])
def test_windows_give_what_the_whole_clip_gives(length: int) -> None:
    clip = picture(length, 1, 4, 4)
    found = torch.stack([frame["video"] for frame in windows(smoothed, clip, 12, overlap_for(2))])
    torch.testing.assert_close(found, smoothed(list(clip))["video"])


def test_windows_of_a_network_that_makes_more_frames() -> None:
    def doubled(frames: list[Tensor]) -> dict[str, Tensor]:
        return {"video": torch.stack(frames).repeat_interleave(2, 0)}

    clip = picture(23, 1, 2, 2)
    found = torch.stack([frame["video"] for frame in windows(doubled, clip, 8, 4)])
    torch.testing.assert_close(found, doubled(list(clip))["video"])


def test_windows_that_cannot_be() -> None:
    with pytest.raises(InputError, match="the clip has no frames"):
        next(windows(smoothed, [], 8, 2))
    with pytest.raises(InputError, match="window=3 is too small"):
        next(windows(smoothed, picture(9, 1, 2, 2), 3, 2))
    with pytest.raises(InputError, match="1 frames came of 4: this model cannot be run in windows"):
        next(windows(lambda frames: {"video": frames[0][None]}, picture(9, 1, 2, 2), 4, 2))


def test_a_long_clip_flows_through_in_flat_memory() -> None:
    read = 0

    def frames() -> Iterator[Tensor]:
        nonlocal read
        for read in range(1, 3001):
            yield torch.full((1, 32, 32), float(read))

    peaks = {}
    tracemalloc.start()
    for count, frame in enumerate(windows(smoothed, frames(), 16, 6), 1):
        assert read - count <= 2 * 16, "frames come out as frames go in"
        assert frame["video"].shape == (1, 32, 32)
        if count in (100, 2900):
            peaks[count] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3000
    assert peaks[2900] < peaks[100] + 100_000
