"""Dense tasks: predictors, streams, the command line and pages cut large pictures and long clips as the network says."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from commandline import Cli, Install
from test_tiling import REACH, network, picture
from torch import Tensor, nn

import stzoo
from stzoo import media
from stzoo.errors import InputError
from stzoo.fields import Image, Number, Video
from stzoo.predictor import LoadReport, Predictor
from stzoo.requirements import Requirements
from stzoo.spec import Architecture, Model, Task

pytest_plugins = ("commandline",)


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


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
    architecture = Architecture("net", "enlarging", "test_dense:Net")
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
    with pytest.raises(InputError, match=r"tile=64: this model needs what it is given as a whole. Leave the tile out"):
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
    with av.open(tmp_path / "out.mp4") as made:
        assert made.streams.video[0].average_rate == 5
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, _, err = cli("predict", saved, tmp_path / "bad.mp4", "-o", tmp_path / "made.mp4")
    assert code == 2
    assert "bad.mp4 cannot be decoded as a video" in err
    assert not (tmp_path / "made.mp4").exists()


def test_the_command_line_shows_what_becomes_of_a_film(cli: Cli, dense: Any, tmp_path: Path) -> None:
    """A model of single pictures takes each frame of a video file, which keeps its rate."""
    saved = stzoo.create("soft").save(tmp_path / "soft")
    media.write_video(picture(7, 3, 16, 24).numpy(), tmp_path / "in.mp4", fps=12)
    code, out, err = cli("predict", saved, tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["predictions"][0]["outputs"]["soft"]["shape"] == [7, 3, 16, 24]
    found = media.read_video(tmp_path / "out.mp4", "soft")
    for frame, given in zip(found, media.read_video(tmp_path / "in.mp4", "picture"), strict=True):
        assert np.abs(frame - stzoo.load(saved).predict(given).soft).mean() < 0.03, "but for what encoding loses"
    with av.open(tmp_path / "out.mp4") as made:
        assert made.streams.video[0].average_rate == 12
    _, _, err = cli("predict", saved, tmp_path / "in.mp4", "-o", tmp_path / "out.png")
    assert "cannot write soft as 'out.png'. Endings: .mp4, .gif" in err
    _, _, err = cli("predict", saved, tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--bits", 16)
    assert "output 'soft' has no 'bits'" in err


def test_the_command_line_takes_a_folder_of_pictures(cli: Cli, dense: Any, tmp_path: Path) -> None:
    saved = stzoo.create("soft").save(tmp_path / "soft")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    _, _, err = cli("predict", saved, tmp_path / "in", "-o", tmp_path / "out")
    assert "in holds no pictures. Endings: .png" in err
    for name in ("10.png", "9.png"):
        media.write_image(picture(3, 16, 24).numpy(), tmp_path / "in" / name)
    code, out, err = cli("predict", saved, tmp_path / "in", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert [Path(line.split()[0]).name for line in out.splitlines()] == ["9.png", "10.png"]


def test_a_page_asks_for_them(dense: Any) -> None:
    from stzoo.ui.limits import limits
    from stzoo.ui.subject import Subject

    model = Model("steady-one", "steady", requirements=dense.Steady.requirements, task="steadying", plugin="dense")
    subject = Subject(model, limits({}), "steady-one")
    assert [item.field.name for item in subject.options] == ["tile", "overlap", "window"]
    assert subject.code("steady-one", ["clip.mp4", None, None, None]).count("tile") == 0
    assert "tile=64" in subject.code("steady-one", ["clip.mp4", 64, None, None])
