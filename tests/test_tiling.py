"""Tiles and windows: what they give is what the whole gives."""

from __future__ import annotations

import importlib
import itertools
import json
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from commandline import Cli, Install
from torch import Tensor, nn

import stzoo
from stzoo import media, tiling
from stzoo.errors import InputError
from stzoo.fields import Image, Number, Video
from stzoo.predictor import LoadReport, Predictor
from stzoo.requirements import Requirements
from stzoo.spec import Architecture, Model, Task
from stzoo.tiling import cuts, overlap_for, tiled, windows

pytest_plugins = ("commandline",)

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


# --- predictors -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Enlarges pictures twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network(2)
        self.requirements = Requirements(channels=3, scale=2, reach=REACH, tile=64, minimum=4, window=6, reach_frames=1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, given: Tensor) -> Tensor:
        self.seen.append(tuple(given.shape))
        if given.ndim == 4:
            return self.inner(given)  # type: ignore[no-any-return]
        frames = torch.cat((given[:, :1], given, given[:, -1:]), 1)
        means = (frames[:, :-2] + frames[:, 1:-1] + frames[:, 2:]) / 3
        return torch.stack([self.inner(frame) for frame in means.unbind(1)], 1)


def predictor(field: Any = Image, **changes: Any) -> Predictor:
    task = Task("enlarging", "", (field("given"),), (field("made"),), dense=True)
    architecture = Architecture("net", "enlarging", "test_tiling:Net")
    made = Predictor(Net(), architecture, task, {}, LoadReport("net", "none"))
    for name, value in changes.items():
        object.__setattr__(made.requirements, name, value)
    return made


def seen_by(model: Predictor) -> list[tuple[int, ...]]:
    """The shapes that the network was given, so far."""
    assert isinstance(model.module, Net)
    return model.module.seen


def test_a_dense_task_has_the_options() -> None:
    def names(field: Any, *options: Any) -> list[str]:
        return [item.name for item in Task("x", "", (field("a"),), (field("b"),), options, dense=True).options]

    assert names(Image) == ["tile", "overlap"]
    assert names(Video, Number("gain"), Number("tile")) == ["gain", "tile", "overlap", "window"]
    assert Task("x", "", (Image("a"),), (Image("b"),)).options == ()


def test_large_pictures_are_tiled_by_themselves_and_small_ones_are_not() -> None:
    model = predictor()
    small, large = picture(3, 60, 65).numpy(), picture(3, 130, 101).numpy()
    assert model.predict(small).made.shape == (3, 120, 130)
    assert seen_by(model) == [(1, 3, 60, 65)]
    found = model.predict(large)
    assert len(seen_by(model)) == 1 + 3 * 2
    assert max(max(shape[-2:]) for shape in seen_by(model)[1:]) <= 64
    whole = model.predict(large, tile=0)
    assert seen_by(model)[-1] == (1, 3, 130, 101)
    assert found.made.dtype == np.float32
    np.testing.assert_allclose(found.made, whole.made, atol=1e-6)
    np.testing.assert_allclose(model.predict(large, tile=24, overlap=10).made, whole.made, atol=1e-6)
    assert max(max(shape[-2:]) for shape in seen_by(model)[-20:]) <= 24


def test_a_batch_is_tiled_as_singles_are() -> None:
    model, large = predictor(), picture(2, 3, 100, 100).numpy()
    together = [item.made for item in model.predict_batch(list(large), batch_size=2)]
    assert seen_by(model)[0][0] == 2
    for one, both in zip(large, together, strict=True):
        np.testing.assert_allclose(both, model.predict(one).made, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": -1}, "tile=-1 must be a whole number of at least 0"),
        ({"tile": "large"}, "tile='large' must be a whole number"),
        ({"tile": 15}, "tile=15 is too small with an overlap of 8. Give at least 16, or 0 for none"),
        ({"tile": 63, "overlap": 32}, "tile=63 is too small with an overlap of 32. Give at least 64, or 0 for none"),
        ({"tile": 3, "overlap": 0}, "tile=3 is too small for this model. Give at least 4, or 0 for none"),
        ({"overlap": 33}, "tile=64 is too small with an overlap of 33"),
        ({"overlap": -1}, "overlap=-1 must be"),
        ({"tiles": 64}, "Did you mean 'tile'"),
        ({"window": 8}, "has no 'window'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        predictor().predict(picture(3, 80, 80).numpy(), **options)
    assert message in str(caught.value)


def test_a_network_that_needs_the_whole() -> None:
    model, large = predictor(reach=None), picture(3, 130, 101).numpy()
    model.predict(large)
    assert seen_by(model) == [(1, 3, 130, 101)]
    with pytest.raises(InputError, match=r"tile=64: this model needs a picture as a whole. Leave the tile out"):
        model.predict(large, tile=64)


def test_clips_in_windows_and_tiles() -> None:
    model, clip = predictor(Video), picture(15, 3, 20, 70).numpy()
    whole = model.predict(clip, tile=0, window=0).made
    assert whole.shape == (15, 3, 40, 140)
    seen_by(model).clear()
    np.testing.assert_allclose(model.predict(clip, tile=40).made, whole, atol=1e-6)
    assert {shape[1] for shape in seen_by(model)} == {6}
    assert max(shape[-1] for shape in seen_by(model)) <= 40
    with pytest.raises(
        InputError, match="window=5 is too small: windows share 3 frames. Give at least 6, or 0 for all"
    ):
        model.predict(clip, window=5)


def test_streams(tmp_path: Path) -> None:
    model, clip = predictor(Video), picture(15, 3, 12, 16).numpy()
    whole = model.predict(clip, window=0).made
    found = list(model.stream(iter(clip)))
    np.testing.assert_allclose(np.stack(found), whole, atol=1e-6)
    media.write_video(clip, tmp_path / "clip.mp4")
    decoded = list(model.stream(tmp_path / "clip.mp4", window=8))
    np.testing.assert_allclose(np.stack(decoded), model.predict(tmp_path / "clip.mp4").made, atol=1e-6)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(clip):
        media.write_image(frame, tmp_path / "frames" / f"{number:03}.png")
    frames = list(model.stream(tmp_path / "frames"))
    np.testing.assert_allclose(np.stack(frames), model.predict(tmp_path / "frames").made, atol=1e-6)


def test_a_stream_is_written_as_it_comes(tmp_path: Path) -> None:
    model, asked = predictor(Video), 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal asked
        for asked in range(1, 41):
            yield np.full((3, 8, 8), asked / 40, np.float32)

    stream = model.stream(frames())
    assert asked == 0
    next(stream)
    assert asked < 12
    media.write_video(stream, tmp_path / "made.mp4")
    assert media.count_frames(tmp_path / "made.mp4", "made") == 39


@pytest.mark.parametrize(
    ("field", "frames", "options", "message"),
    [
        (Image, [], {}, "the clip has no frames"),
        (Video, [], {}, "the clip has no frames"),
        (Video, 5, {}, "given is a int"),
        (Video, ["nowhere.png"], {}, "there is no file nowhere.png"),
        (Video, [np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 9), np.float32)], {}, "frame 1 has shape (3, 8, 9)"),
        (Video, [np.zeros((3, 3, 8), np.float32)], {}, "the model needs at least 4x4"),
        (Video, [np.zeros((3, 8, 8), np.float32)], {"window": 0}, "this model does not take frames one by one"),
        (Video, [np.zeros((3, 8, 8), np.float32)], {"windows": 9}, "Did you mean 'window'"),
    ],
)
def test_streams_that_cannot_be(field: Any, frames: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        list(predictor(field).stream(frames, **options))
    assert message in str(caught.value)


# --- the command line, evaluation, pages ------------------------------------------------------------------------------

DENSE = """
import torch
from stzoo import Architecture, Baseline, Metric, Model, Requirements, Task, Weights, hookimpl
from stzoo.fields import Image, Video

@hookimpl
def stzoo_tasks():
    metrics = (Metric("error", "dense:error"),)
    yield Task("softening", "Soften", (Image("picture"),), (Image("soft"),), metrics=metrics, dense=True)
    yield Task("steadying", "Steady", (Video("video"),), (Video("video"),), dense=True)

@hookimpl
def stzoo_architectures():
    yield Architecture("soft", "softening", "dense:Soft")
    yield Architecture("steady", "steadying", "dense:Steady")

def error(one, other):
    return abs(one - other).mean()

class Soft(torch.nn.Module):
    requirements = Requirements(channels=3, reach=2)
    sizes = set()

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))

    def forward(self, picture):
        self.sizes.add(tuple(picture.shape[-2:]))
        return torch.nn.functional.avg_pool2d(picture, 5, 1, 2) * self.gain

class Steady(Soft):
    requirements = Requirements(channels=3, reach=2, reach_frames=1, window=6)

    def forward(self, video):
        self.sizes.add(tuple(video.shape[1:]))
        padded = torch.cat((video[:, :1], video, video[:, -1:]), 1)
        return padded.unfold(1, 3, 1).mean(-1) * self.gain
"""


@pytest.fixture
def dense(plugin: Install) -> Iterator[Any]:
    """The module of a plugin that declares its tasks as dense, and does nothing else for tiles and windows."""
    plugin("dense", DENSE)
    module = importlib.import_module("dense")
    with torch.inference_mode(False):
        yield module


def test_the_command_line_has_the_options(cli: Cli, dense: Any, tmp_path: Path) -> None:
    saved = stzoo.create("soft").save(tmp_path / "soft")
    media.write_image(picture(3, 70, 90).numpy(), tmp_path / "in.png")
    _, text, _ = cli("predict", saved, "--help")
    assert "--tile TILE" in text
    assert "--overlap OVERLAP" in text
    assert "--window" not in text
    outputs = {}
    for name, words in {"whole": (), "tiled": ("--tile", 32, "--overlap", 8)}.items():
        dense.Soft.sizes.clear()
        code, _, err = cli("predict", saved, tmp_path / "in.png", "-o", tmp_path / f"{name}.npy", *words)
        assert (code, err) == (0, "")
        outputs[name] = np.load(tmp_path / f"{name}.npy")
        assert dense.Soft.sizes == ({(70, 90)} if name == "whole" else {(29, 29)}), name
    np.testing.assert_allclose(outputs["tiled"], outputs["whole"], atol=1e-6)


def test_the_command_line_lets_clips_flow_through(cli: Cli, dense: Any, tmp_path: Path) -> None:
    """From a video file to a video file, window by window, the same as the clip at once."""
    saved = stzoo.create("steady").save(tmp_path / "steady")
    clip = picture(1, 3, 16, 24).numpy() * np.linspace(0.2, 1, 30, dtype=np.float32)[:, None, None, None]
    media.write_video(clip, tmp_path / "in.mp4")
    dense.Soft.sizes.clear()
    code, out, err = cli("predict", saved, tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--fps", 5, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["predictions"][0]["outputs"]["video"]["shape"] == [30, 3, 16, 24]
    assert {size[0] for size in dense.Soft.sizes} == {6}
    code, _, err = cli("predict", saved, tmp_path / "in.mp4", "-o", tmp_path / "whole.npy", "--window", 0)
    assert (code, err) == (0, "")
    assert max(size[0] for size in dense.Soft.sizes) == 30
    found = media.read_video(tmp_path / "out.mp4", "video")
    assert np.abs(found - np.load(tmp_path / "whole.npy")).mean() < 0.03, "but for what encoding loses"
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, _, err = cli("predict", saved, tmp_path / "bad.mp4", "-o", tmp_path / "made.mp4")
    assert code == 2
    assert "bad.mp4 cannot be decoded as a video" in err
    assert not (tmp_path / "made.mp4").exists()


def test_a_page_asks_for_them(dense: Any) -> None:
    from stzoo.ui.limits import limits
    from stzoo.ui.subject import Subject

    model = Model("steady-one", "steady", requirements=dense.Steady.requirements, task="steadying", plugin="dense")
    subject = Subject(model, limits({}), "steady-one")
    assert [item.field.name for item in subject.options] == ["tile", "overlap", "window"]
    assert subject.code("steady-one", ["clip.mp4", None, None, None]).count("tile") == 0
    assert "tile=64" in subject.code("steady-one", ["clip.mp4", 64, None, None])
