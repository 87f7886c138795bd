"""Video super-resolution: what comes out of a clip, streaming, data sets, metrics, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stzoo
from stzoo import Predictor, media
from stzoo.cli import main
from stzoo.data import open_data
from stzoo.errors import DatasetError, InputError, MediaError
from stzoo_super_resolution.pipeline import to_luma, to_rgb, to_ycbcr
from stzoo_super_resolution.resize import imresize, imresize_uint8
from stzoo_super_resolution.video import bicubic, luma, psnr_frames, ssim_frames

TINY: dict[str, Any] = {"branches": 2, "filters": (4, 3), "window": (16, 16)}


@pytest.fixture
def predictor() -> Predictor:
    """An untrained network that does more than interpolate."""
    torch.manual_seed(0)
    made = stzoo.create("temporal-adaptive", device="cpu", **TINY)
    for parameter in made.module.temporal_modulation.parameters():  # type: ignore[union-attr]
        torch.nn.init.normal_(parameter, 0.1, 0.1)
    return made


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def frames_on_disk(folder: Path, clip: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        media.to_pil(frame).save(folder / f"{index:08d}.png")


# --- predicting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 6, 9), (5, 1, 1, 1), (4, 4, 7, 5), (2, 3, 1, 12)])
def test_as_many_frames_exactly_the_scale_as_large(predictor: Predictor, shape: tuple[int, ...]) -> None:
    clip = noise(*shape)
    found = predictor.predict(clip).video
    assert found.shape == (*shape[:2], 4 * shape[2], 4 * shape[3])
    assert found.min() >= 0 and found.max() <= 1
    if shape[1] == 4:  # transparency goes the way of chroma
        assert np.allclose(found[:, 3], imresize(clip[:, 3], 4).clip(0, 1), atol=1e-6)


def test_luma_is_the_networks_and_chroma_bicubic(predictor: Predictor) -> None:
    """The same as going through YCbCr, converted and back; each frame from its neighbours, the ends repeated."""
    clip = np.float32(0.3) + np.float32(0.4) * noise(3, 3, 8, 10)
    found = predictor.predict(clip).video
    colours = to_ycbcr(torch.from_numpy(clip))
    with torch.inference_mode():
        for time, near in enumerate(([0, 0, 1], [0, 1, 2], [1, 2, 2])):
            sharp = predictor.module(colours[near, 0][None])
            wanted = to_rgb(torch.cat((sharp, imresize(colours[time : time + 1, 1:], 4)), dim=1)).clamp(0, 1)
            torch.testing.assert_close(torch.from_numpy(found[time]), wanted[0], rtol=0, atol=1e-5)
    assert np.allclose(luma(clip), to_luma(torch.from_numpy(clip))[:, 0].numpy(), atol=1e-6)


def test_a_grey_clip_is_its_own_luma(predictor: Predictor) -> None:
    clip = noise(1, 1, 8, 10)
    with torch.inference_mode():
        wanted = predictor.module(torch.from_numpy(clip).expand(1, 3, 8, 10)).clamp(0, 1)
    assert np.allclose(predictor.predict(clip).video, wanted.numpy(), atol=1e-6)


def test_streaming_gives_the_same_frames(predictor: Predictor) -> None:
    """Frames go in one by one and come out one by one, before the last has gone in, the same as all at once."""
    clip, given = noise(30, 3, 8, 10), []

    def camera() -> Any:
        for index, frame in enumerate(clip):
            given.append(index)
            yield frame

    stream = predictor.stream(camera(), window=6)
    first = next(stream)
    assert len(given) < 12
    found = np.stack([first, *stream])
    assert np.abs(found - predictor.predict(clip).video).max() < 1e-6


def test_tiles_leave_no_seam(predictor: Predictor) -> None:
    clip = noise(2, 3, 40, 52)
    whole = predictor.predict(clip).video
    assert np.abs(predictor.predict(clip, tile=24).video - whole).max() < 1e-5


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (noise(3, 2, 6, 6), "2 channels. Give grey"),
        (noise(6, 6), "is not a clip"),
        ([noise(3, 4, 4), noise(3, 5, 4)], "frame 1 has shape"),
        ([], "no frames"),
        (np.full((2, 3, 4, 4), np.nan, np.float32), "not finite"),
        (noise(2, 2, 3, 4, 4), "several clips at once"),
    ],
)
def test_clips_that_are_none_are_refused(predictor: Predictor, clip: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(clip)


def test_files_that_cannot_be_read_are_named(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "corrupt.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("no clip")
    frames_on_disk(tmp_path / "sizes", noise(2, 3, 8, 8))
    Image.new("RGB", (9, 8)).save(tmp_path / "sizes/00000002.png")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("corrupt.mp4", "cannot be decoded as a video"),
        ("empty.mp4", "is empty"),
        ("notes.txt", "is not a clip stzoo reads"),
        ("sizes", "frame 2 has shape"),
        ("folder", "holds no frames"),
        ("nothing.mp4", "there is no file"),
    ):
        with pytest.raises(InputError, match=rf"(?s){message}.*{name}|{name}.*{message}"):
            predictor.predict(tmp_path / name)
    assert issubclass(MediaError, InputError)


# --- examples ---------------------------------------------------------------------------------------------------------


def examples(predictor: Predictor, source: str, split: str | None = None) -> Any:
    return open_data(source, predictor.task, split, requirements=predictor.requirements)


def test_clips_are_made_smaller_or_bring_their_own(predictor: Predictor, tmp_path: Path) -> None:
    clip = media.to_uint8(noise(3, 3, 18, 25)) / np.float32(255)
    frames_on_disk(tmp_path / "alone/a", clip)
    inputs, truth = predictor.pipeline.example(examples(predictor, str(tmp_path / "alone"))[0], {})
    assert truth["video"].shape == (3, 3, 16, 24)
    smaller = imresize_uint8(media.to_uint8(clip[..., :16, :24]), 0.25)
    assert np.array_equal(media.to_uint8(inputs["video"]), smaller)

    frames_on_disk(tmp_path / "pairs/video/a", clip[..., :16, :24])
    frames_on_disk(tmp_path / "pairs/low/a", np.zeros((3, 3, 4, 6), np.float32))
    inputs, truth = predictor.pipeline.example(examples(predictor, str(tmp_path / "pairs"))[0], {})
    assert not inputs["video"].any() and truth["video"].shape == (3, 3, 16, 24)


def test_pairs_of_another_scale_are_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match=r"8x8 pixels, .* 16x16: that is not 4 times"):
        predictor.pipeline.example({"video": noise(2, 3, 16, 16), "low": noise(2, 3, 8, 8)}, {})
    with pytest.raises(InputError, match="2x9 pixels cannot be made 4 times smaller"):
        predictor.pipeline.example({"video": noise(1, 3, 9, 2)}, {})


def test_vid4(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("calendar", "city", "foliage", "walk"):
        frames_on_disk(tmp_path / "GT" / name, noise(4, 3, 16, 16))
        frames_on_disk(tmp_path / "BIx4" / name, noise(4, 3, 4, 4))
    assert [len(row["video"]) for row in examples(predictor, f"vid4?root={tmp_path}")] == [4] * 4
    cut = examples(predictor, f"vid4?root={tmp_path}&low=BIx4&frames=2")
    assert len(cut) == 8 and cut[1]["low"].shape == (2, 3, 4, 4)
    with pytest.raises(DatasetError, match="BIx2/calendar"):
        examples(predictor, f"vid4?root={tmp_path}&low=BIx2")
    with pytest.raises(DatasetError, match="Write vid4"):
        examples(predictor, "vid4")


def test_reds(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("000", "001", "002", "011"):
        frames_on_disk(tmp_path / "train_sharp" / name, noise(1, 3, 8, 8, seed=int(name)))
        frames_on_disk(tmp_path / "train_sharp_bicubic/X4" / name, noise(1, 3, 2, 2))
    assert len(examples(predictor, f"reds?root={tmp_path}", "train")) == 2
    tested = examples(predictor, f"reds?root={tmp_path}&low=bicubic/X4", "test")
    assert len(tested) == 2 and tested[0]["low"].shape == (1, 3, 2, 2)
    with pytest.raises(DatasetError, match="val_sharp"):
        examples(predictor, f"reds?root={tmp_path}", "validation")
    (tmp_path / "val_sharp").mkdir()
    with pytest.raises(DatasetError, match="no clip"):
        examples(predictor, f"reds?root={tmp_path}", "validation")


# --- measuring --------------------------------------------------------------------------------------------------------


def test_metrics_leave_out_a_border_as_wide_as_the_scale(predictor: Predictor) -> None:
    truth = np.full((2, 3, 32, 32), 0.5, np.float32)
    spoiled = truth.copy()
    spoiled[:, :, :4] = 0
    spoiled[1, :, 10:20] = 0.6
    found = psnr_frames(spoiled, truth, requirements=predictor.requirements)
    assert found[0] == np.inf and 20 < found[1] < 30
    assert psnr_frames(spoiled, truth, crop=0)[0] < 30
    assert ssim_frames(spoiled, truth, requirements=predictor.requirements)[0] == pytest.approx(1)


def test_bicubic_is_the_baseline() -> None:
    low, truth = noise(2, 3, 5, 6), noise(2, 3, 20, 24)
    found = bicubic({"video": low}, {"video": truth})["video"]
    assert np.allclose(found, imresize(low, 4).clip(0, 1), atol=1e-6)


def test_the_whole_life_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine-tune on a folder, evaluate beside bicubic, predict a clip."""
    smooth = imresize(noise(5, 3, 12, 12), 8).clip(0, 1)
    np.save(tmp_path / "clip.npy", smooth)
    (tmp_path / "data").mkdir()
    for name in "abc":
        np.save(tmp_path / f"data/{name}.npy", smooth)
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    config = ["model_config.branches=2", "model_config.filters=[4,3]", "model_config.window=[16,16]"]
    learn = ["--steps", "4", "--batch-size", "1", "--set", *config, "recipe.patch=20"]
    assert main(["finetune", "temporal-adaptive", "--data", data, "--output", run, *learn]) == 0
    assert main(["evaluate", run, "--data", data, "--output", str(tmp_path / "results")]) == 0
    assert "bicubic" in capsys.readouterr().out
    assert main(["predict", run, str(tmp_path / "clip.npy"), "-o", str(tmp_path / "large.npy")]) == 0
    assert np.load(tmp_path / "large.npy").shape == (5, 3, 384, 384)
