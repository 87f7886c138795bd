"""Data sets from everywhere: named, folders, files, shards, the Hub; through the real ``datasets`` library."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hubserver import HubServer
from PIL import Image as Picture

from stzoo import errors, layout, media
from stzoo.data import open_data
from stzoo.fields import Image, Number, Video
from stzoo.media import decoding
from stzoo.requirements import Requirements
from stzoo.sources import parse_source
from stzoo.spec import Task

CLIPS = Task("clips", inputs=(Video("video"),), outputs=(Video("video"),))
PAIRS = Task("pairs", inputs=(Image("image"),), outputs=(Image("mask"),))
LABELS = Task("labels", inputs=(Image("image"),), outputs=(Number("label", integer=True),))
GREY = Requirements(frames_in=4, channels=1, minimum=8)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``datasets`` converts goes where it is thrown away."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def clip(frames: int = 12, seed: int = 0, height: int = 16, width: int = 24) -> np.ndarray:
    """Frames (T, 1, H, W) uint8: smooth, so that codecs keep them, and frame t is brighter than frame t - 1."""
    ramp = np.linspace(0, 60, width)[None, None, None, :] + np.arange(frames)[:, None, None, None] * 5 + seed
    return np.broadcast_to(ramp, (frames, 1, height, width)).astype(np.uint8)


def store(path: Path, frames: np.ndarray | None = None) -> Path:
    """Write a clip as its ending says; without one as a folder of frames."""
    frames = clip() if frames is None else frames
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        media.write_video(frames / np.float32(255), path) if path.suffix in (".mp4", ".avi", ".gif", ".mkv") else (
            np.save(path, frames) if path.suffix == ".npy" else np.savez_compressed(path, video=frames)
        )
    else:
        path.mkdir()
        for number, frame in enumerate(frames):
            Picture.fromarray(frame[0]).save(path / f"{number}.png")
    return path


def picture(path: Path, value: int = 100, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.new("L", size, value).save(path)
    return path


def parquet(path: Path, column: str, values: list[Any], feature: Any = None, **others: list[Any]) -> Path:
    """Write a parquet file with one column, and others of plain values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({column: feature, **{name: datasets.Value("int64") for name in others}})
    datasets.Dataset.from_dict({column: values, **others}, features=features if feature else None).to_parquet(str(path))
    return path


def encoded(path: Path) -> list[dict[str, Any]] | bytes:
    """A clip as it lies in a column of a parquet file."""
    if path.is_dir():
        return [{"bytes": path.joinpath(f"{number}.png").read_bytes(), "path": None} for number in range(26)]
    return path.read_bytes()


# --- every kind of source ---------------------------------------------------------------------------------------------


def test_options_behind_a_question_mark() -> None:
    assert parse_source("moving-mnist?size=100&digits=/a%20b") == ("moving-mnist", {"size": "100", "digits": "/a b"})
    assert parse_source("part-?.parquet") == ("part-?.parquet", {})
    assert parse_source("part-?.parquet?frames=3") == ("part-?.parquet", {"frames": "3"})
    with pytest.raises(errors.DatasetError, match="NAME.option=value"):
        parse_source("a?b=1&c")


@pytest.mark.parametrize("ending", [".npz", ".npy", ".gif", ".mp4", ".avi", ".mkv", ""])
def test_a_folder_of_clips(tmp_path: Path, ending: str) -> None:
    for number in (10, 9):
        store(tmp_path / "data" / f"clip{number}{ending}", clip(seed=number))
    (tmp_path / "data" / ".DS_Store").write_text("hidden")
    (tmp_path / "data" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    examples = open_data(str(tmp_path / "data"), CLIPS, requirements=GREY)
    assert (len(examples), examples.split, examples.license) == (2, "all", "cc-by-4.0")
    assert [examples.key(index) for index in range(2)] == [f"clip9{ending}", f"clip10{ending}"]
    for example, seed in zip(examples, (9, 10), strict=True):
        assert example["video"].shape == (12, 1, 16, 24) and example["video"].dtype == np.float32
        np.testing.assert_allclose(example["video"], clip(seed=seed) / 255, atol=0.02)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".gif", ".mp4", ".avi", ".mkv", ""])
@pytest.mark.parametrize("inside", ["folder", "parquet"])
def test_a_long_clip_becomes_several_examples(
    tmp_path: Path, ending: str, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path / "data" / f"long{ending}", clip(26))
    whole, source = media.read_video(path, "video", 1), path.parent
    if inside == "parquet":
        feature = datasets.List(datasets.Image()) if path.is_dir() else datasets.Value("binary")
        source = parquet(tmp_path / "long.parquet", "video", [encoded(path)], feature)
    with monkeypatch.context() as patch:  # how long it is, headers tell
        for name in ("load_array", "decode_picture", "from_pil", "decode_clip"):
            patch.setattr(decoding, name, lambda *_: pytest.fail("decoded"))
        examples = open_data(f"{source}?frames=8&stride=6", CLIPS, requirements=GREY)
    assert [examples.key(index).rpartition("@")[2] for index in range(len(examples))] == ["0", "6", "12", "18"]
    for index, start in enumerate((0, 6, 12, 18)):
        np.testing.assert_array_equal(examples[index]["video"], whole[start : start + 8])
    assert len(open_data(f"{source}?frames=8", CLIPS)) == 3
    assert [len(item["video"]) for item in open_data(f"{source}?frames=30", CLIPS)] == [26]


def test_only_what_is_needed_of_a_film_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    path, decoded = store(tmp_path / "data" / "long.mp4", clip(600)), []
    examples, convert = open_data(f"{path.parent}?frames=5", CLIPS, requirements=GREY), decoding._from_frame
    monkeypatch.setattr(
        decoding, "_from_frame", lambda *given: (decoded.append(frame) or frame for frame in convert(*given))
    )
    assert examples[110]["video"].shape == (5, 1, 16, 24)
    with av.open(str(path)) as film:
        keys = [frame.pts for frame in film.decode(video=0) if frame.key_frame]
    assert len(keys) > 1, "seeking needs somewhere to go"
    assert len(decoded) <= 6


def test_frames_are_resized_as_they_are_read(tmp_path: Path) -> None:
    store(tmp_path / "a.npz", clip(height=32, width=48))
    for option, size in (("16x24", (16, 24)), ("64", (64, 64))):
        read = open_data(f"{tmp_path}?size={option}", CLIPS, requirements=GREY)[0]["video"]
        assert read.shape == (12, 1, *size)
        assert read.mean() == pytest.approx(clip(height=32, width=48).mean() / 255, abs=0.01)
    checkers = np.indices((2, 64, 64)).sum(0)[:, None].astype(np.uint8) % 2 * 255
    store(tmp_path / "fine" / "a.npz", checkers)
    small = open_data(f"{tmp_path / 'fine'}?size=16", CLIPS)[0]["video"]
    assert np.abs(small - 0.5).max() < 0.15, "averaged, not picked"


def test_splits_are_sub_folders(tmp_path: Path) -> None:
    for split, number in (("train", 3), ("val", 2), ("test", 1)):
        for index in range(number):
            store(tmp_path / split / f"{index}.npz")
    sizes = {split: len(open_data(tmp_path, CLIPS, split)) for split in ("train", "validation", "val", "test", None)}
    assert sizes == {"train": 3, "validation": 2, "val": 2, "test": 1, None: 1}
    assert open_data(tmp_path, CLIPS, "val").split == "validation"
    assert open_data(tmp_path, CLIPS, "train").key(0) == "train/0.npz"


def test_columns_are_sub_folders(tmp_path: Path) -> None:
    for name in ("b/2", "b/10", "a"):
        picture(tmp_path / "train" / "image" / f"{name}.jpg", 200)
        picture(tmp_path / "train" / "mask" / f"{name}.png", 50)
    examples = open_data(tmp_path, PAIRS, "train")
    assert [examples.key(index) for index in range(3)] == [f"train/image/{name}.jpg" for name in ("a", "b/2", "b/10")]
    assert {name: round(float(value.mean() * 255)) for name, value in examples[2].items()} == {"image": 200, "mask": 50}


def test_sub_folders_may_be_called_by_the_plural(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        picture(tmp_path / folder / "a.png", 50)
    assert list(open_data(tmp_path, PAIRS)[0]) == ["image", "mask"]
    picture(tmp_path / "images" / "b.png", 50)
    with pytest.raises(errors.DatasetError, match="images/b.png has no partner masks/b"):
        open_data(tmp_path, PAIRS)
    picture(tmp_path / "image" / "a.png", 50)
    with pytest.raises(errors.DatasetError, match="images is none of the columns' sub-folders"):
        open_data(tmp_path, PAIRS)


@pytest.mark.parametrize("notes", ["metadata.csv", "metadata.jsonl"])
def test_plain_values_are_in_a_table(tmp_path: Path, notes: str) -> None:
    rows = [{"file_name": "b.png", "label": 7}, {"file_name": "sub/a.png", "label": 3}]
    for row in rows:
        picture(tmp_path / str(row["file_name"]))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    text = "file_name,label\nb.png,7\nsub/a.png,3\n" if notes.endswith("csv") else text
    (tmp_path / notes).write_text(text)
    examples = open_data(tmp_path, LABELS)
    assert [(examples.key(index), examples[index]["label"]) for index in range(2)] == [("b.png", 7), ("sub/a.png", 3)]


def test_files_and_globs(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz", "c.mp4"):
        store(tmp_path / name)
    store(tmp_path / "frames")
    assert len(open_data(tmp_path / "c.mp4", CLIPS)) == 1
    assert len(open_data(f"{tmp_path}/*.npz?frames=6", CLIPS)) == 4
    assert len(open_data(f"{tmp_path}/?.*", CLIPS)) == 3
    assert open_data(str(tmp_path / "frames"), CLIPS)[0]["video"].shape[0] == 12, "a folder of frames is one clip"


def test_named_data_sets() -> None:
    from stzoo import registry

    task = registry.registry().get(Task, "video-prediction")
    examples = open_data("moving-mnist?size=5&frames=7", task, "val", requirements=Requirements(channels=1))
    assert (len(examples), examples.split, examples.license) == (5, "validation", "cc-by-sa-3.0")
    assert examples[4]["video"].shape == (7, 1, 64, 64)
    assert len(open_data("moving-mnist?size=3", task)) == 3, "test comes first"
    same = open_data("video-prediction:moving-mnist?size=5&frames=7", CLIPS, "val", requirements=GREY)[4]["video"]
    np.testing.assert_array_equal(same, examples[4]["video"])


@pytest.mark.parametrize(
    ("value", "feature"),
    [
        (clip()[:, 0].tolist(), datasets.Array3D((12, 16, 24), "uint8")),
        (clip().tolist(), datasets.List(datasets.List(datasets.List(datasets.List(datasets.Value("uint8")))))),
        ([Picture.fromarray(frame[0]) for frame in clip()], datasets.List(datasets.Image())),
    ],
    ids=["array", "lists", "pictures"],
)
def test_clips_in_parquet_files(tmp_path: Path, value: Any, feature: Any) -> None:
    for number in range(2):
        parquet(tmp_path / "train" / f"{number}.parquet", "video", [value], feature, other=[number])
    examples = open_data(tmp_path, CLIPS, "train", requirements=GREY)
    assert (len(examples), examples.key(1)) == (2, "1")
    np.testing.assert_allclose(examples[1]["video"], clip() / 255, atol=1e-6)
    (streamed, _) = open_data(tmp_path, CLIPS, "train", requirements=GREY, streaming=True)
    np.testing.assert_array_equal(streamed["video"], examples[0]["video"])


def test_sixteen_bit_arrays_keep_their_scale(tmp_path: Path) -> None:
    value = clip()[:, 0].astype(np.uint16) * 257
    path = parquet(tmp_path / "a.parquet", "video", [value], datasets.Array3D((12, 16, 24), "uint16"))
    for streaming in (False, True):
        (example,) = open_data(path, CLIPS, streaming=streaming)
        np.testing.assert_allclose(example["video"][:, 0], value / 65535, atol=1e-6)


def webdataset(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_webdataset(tmp_path: Path, streaming: bool) -> None:
    film = store(tmp_path / "film.mp4", clip(20)).read_bytes()
    array = store(tmp_path / "array.npy", clip(20)).read_bytes()
    packed = store(tmp_path / "array.npz", clip(20)).read_bytes()
    for ending, data in (("mp4", film), ("npy", array), ("npz", packed)):
        path = webdataset(tmp_path / ending / "train" / "0.tar", {f"clip{i}.{ending}": data for i in range(2)})
        examples = open_data(f"{path.parents[1]}?frames=8&stride=8", CLIPS, requirements=GREY, streaming=streaming)
        read = [example["video"] for example in examples]
        assert [len(item) for item in read] == [8] * 4
        np.testing.assert_allclose(read[1], clip(20)[8:16] / 255, atol=0.02)
        if not streaming:
            assert examples.key(1) == "clip0@8"
    pair = {
        f"{name}.png": picture(tmp_path / "p.png", value).read_bytes()
        for name, value in (("0.mask", 5), ("0.image", 9))
    }
    examples = open_data(webdataset(tmp_path / "pairs.tar", pair), PAIRS, streaming=streaming)
    (example,) = examples
    assert {name: round(float(value.mean() * 255)) for name, value in example.items()} == {"image": 9, "mask": 5}


def test_python_sequences() -> None:
    rows = [{"video": clip(), "other": 1}, {"video": [Picture.fromarray(frame[0]) for frame in clip()]}]
    examples = open_data(rows, CLIPS, requirements=GREY)
    assert (examples.split, examples.key(1), len(examples[1:])) == ("all", "1", 1)
    np.testing.assert_array_equal(examples[0]["video"], examples[-1]["video"])
    data = datasets.Dataset.from_dict({"clip": [clip().tolist()] * 2})
    renamed = data.rename_column("clip", "video").with_transform(
        lambda batch: {"video": [clip(5)] * len(batch["video"])}
    )
    assert open_data(renamed, CLIPS)[0]["video"].shape == (5, 1, 16, 24), "the user's own transform is kept"
    parts = datasets.DatasetDict(train=data.rename_column("clip", "video"), test=data.rename_column("clip", "video"))
    assert open_data(parts, CLIPS).split == "test"
    with pytest.raises(errors.SplitMissing, match="not divided into splits"):
        open_data(rows, CLIPS, "test")
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows))
    assert [example["video"].shape[0] for example in open_data(stream, CLIPS)] == [12, 12]


# --- what examples promise --------------------------------------------------------------------------------------------


def test_examples_are_a_picklable_sequence(tmp_path: Path) -> None:
    for number in range(5):
        store(tmp_path / f"{number}.npz", clip(seed=number))
    for source in (str(tmp_path), "moving-mnist?size=5"):
        examples = open_data(source, CLIPS, requirements=GREY)
        again = pickle.loads(pickle.dumps(examples.select([3, 1])))
        assert [again.key(index) for index in range(2)] == [examples.key(3), examples.key(1)]
        np.testing.assert_array_equal(again[1]["video"], examples[1]["video"])
        np.testing.assert_array_equal(again[-2]["video"], examples[3]["video"])
        with pytest.raises(IndexError):
            again[2]
        assert examples.name == source
        assert isinstance(examples.rows, datasets.Dataset)
        added = examples.rows.map(lambda example: {"mean": float(np.mean(example["video"]))})
        assert added[2].keys() == {"video", "mean"}
        mapped = examples.rows.map(
            lambda example: {"mean": float(np.mean(example["video"]))}, remove_columns=["row", "start"]
        )
        assert mapped[2]["mean"] == pytest.approx(float(examples[2]["video"].mean()))


def test_workers_of_a_data_loader_read_examples(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    for number in range(4):
        store(tmp_path / f"{number}.npz", clip(seed=number))
    examples = open_data(tmp_path, CLIPS, requirements=GREY)
    loader = DataLoader(examples, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    batches = [batch["video"].numpy() for batch in loader]
    np.testing.assert_array_equal(np.concatenate(batches)[3], examples[3]["video"])


def test_opening_a_folder_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        (tmp_path / f"{number}.mp4").write_bytes(b"no film at all")
    monkeypatch.setattr(media, "read_video", lambda *_, **__: pytest.fail("read"))
    assert len(open_data(tmp_path, CLIPS)) == 300


def test_streams_have_no_length(tmp_path: Path) -> None:
    store(tmp_path / "a.npz")
    examples = open_data(tmp_path, CLIPS, streaming=True)
    assert isinstance(examples.rows, datasets.IterableDataset)
    assert [example["video"].shape for example in examples] == [(12, 1, 16, 24)]
    assert len(list(examples)) == 1
    for ask in (len, lambda it: it[0], lambda it: it.key(0), lambda it: it.select([0])):
        with pytest.raises(errors.StreamError, match="read as a stream"):
            ask(examples)


# --- what does not fit ------------------------------------------------------------------------------------------------


def spoilt(folder: Path) -> list[tuple[str, Task, str | None, type[Exception], str]]:
    """Sources that cannot be opened: what is asked for, the exception, words of its message."""
    wrong, cases = errors.DatasetError, []

    def case(
        name: str, *rest: Any, task: Task = CLIPS, split: str | None = None, kind: type[Exception] = wrong
    ) -> Path:
        cases.append((str(folder / name), task, split, kind, rest[0]))
        return folder / name.partition("?")[0]

    case("absent", "there is no file or folder")
    case("*.mp4", "no file matches")
    case("empty", "is empty").mkdir()
    store(case("text", "notes.txt has an ending that video is not read from (.mp4") / "a.npz")
    (folder / "text" / "notes.txt").write_text("?")
    store(
        case(
            "two",
            "b.txt has an ending that video is not read from",
        )
        / "a.npz"
    )
    for name in ("b.txt", "c.txt", "d.txt"):
        (folder / "two" / name).write_text("?")
    cases[-1] = (*cases[-1][:4], "; and 2 more that do not fit")
    (case("hollow", "a.mp4 is an empty file")).mkdir()
    (folder / "hollow" / "a.mp4").touch()
    case("dangling", "a.mp4 cannot be read (No such file").mkdir()
    (folder / "dangling" / "a.mp4").symlink_to(folder / "nowhere.mp4")
    (case("vacant", "inside is an empty folder") / "inside").mkdir(parents=True)
    store(case("mixed", "4.txt is no frame (.png") / "clip")
    (folder / "mixed" / "clip" / "4.txt").write_text("?")
    store(case("beside", "stray.npz is beside the splits (train)") / "train" / "a.npz")
    store(folder / "beside" / "stray.npz")
    store(
        case(
            "unsplit",
            "is not divided into splits, so it has no split 'test'. Put the files",
            split="test",
            kind=errors.SplitMissing,
        )
        / "a.npz"
    )
    store(
        case("only", "has no split 'validation'. Splits: train, test", split="validation", kind=errors.SplitMissing)
        / "train"
        / "a.npz"
    )
    store(folder / "only" / "test" / "a.npz")
    store(case("twice", "a.npz has the same name as a.npy") / "a.npy")
    store(folder / "twice" / "a.npz")
    store(case("damp.parquet", "damp.parquet is empty").with_suffix(".npz")).replace(folder / "damp.npz")
    (folder / "damp.parquet").touch()
    store(case("tables", "a.npz is not a parquet file as the others are") / "a.npz")
    parquet(folder / "tables" / "b.parquet", "video", [[1]])
    (case("torn.parquet", "torn.parquet cannot be opened")).write_bytes(b"PAR1 and then nothing")
    (case("torn.tar", "torn.tar cannot be opened")).write_bytes(b"no archive")
    picture(case("half", "has no sub-folder 'mask'", task=PAIRS) / "image" / "a.png")
    picture(case("alone", "b.png has no partner mask/b.*", task=PAIRS) / "image" / "b.png")
    picture(folder / "alone" / "image" / "a.png")
    picture(folder / "alone" / "mask" / "a.png")
    picture(case("third", "depth is none of the columns' sub-folders (image, mask)", task=PAIRS) / "depth" / "a.png")
    picture(case("one.png", "one.png is one file, an example has several columns (image, mask)", task=PAIRS))
    picture(case("bare", "has no metadata.csv, which gives 'label'", task=LABELS) / "a.png")
    for name, text, words in (
        ("gap", "file_name,label\na.png,1\nb.png,2\n", "row 2 names b.png, which is not there"),
        ("nameless", "label\n1\n", "row 1 has no 'file_name'"),
        ("unlabelled", "file_name\na.png\n", "row 1 has no 'label'"),
        ("unlisted", "file_name,label\n", "a.png is not listed in metadata.csv"),
    ):
        picture(case(name, words, task=LABELS) / "a.png")
        (folder / name / "metadata.csv").write_text(text)
    picture(case("scrawl", "metadata.jsonl cannot be read", task=LABELS) / "a.png")
    (folder / "scrawl" / "metadata.jsonl").write_text("{'file_name'")
    for number, (query, words) in enumerate(
        (
            ("frame=8", "has no option 'frame'. Did you mean 'frames'?"),
            ("frames=0", "frames='0' must be a whole number of at least 1"),
            ("size=big", "size='big' must be HEIGHTxWIDTH in pixels"),
        )
    ):
        store(case(f"option{number}?{query}", words) / "a.npz")
    pair = datasets.Dataset.from_dict({"first": [b"a"], "second": [b"b"]}).cast(
        datasets.Features(first=datasets.Image(), second=datasets.Image())
    )
    pair.to_parquet(
        str(case("riddle.parquet", "has no column 'image'; it has first (Image), second (Image)", task=PAIRS))
    )
    pair.to_parquet(str(case("guess.parquet?image=third", "has no column 'third'. It has first (Image)", task=PAIRS)))
    cases.append(
        ("movingmnist", CLIPS, None, errors.UnknownDataset, "no dataset is called 'movingmnist'. Did you mean")
    )
    cases.append(("moving-mnist?sise=3", CLIPS, None, wrong, "has no 'sise'. Did you mean 'size'"))
    cases.append(("moving-mnist?seed=x", CLIPS, None, wrong, "seed='x' must be a whole number"))
    cases.append(("moving-mnist?size=x", CLIPS, None, wrong, "cannot be opened (TypeError"))
    cases.append(
        ("moving-mnist", CLIPS, "extra", errors.SplitMissing, "has no split 'extra'. Splits: train, validation, test")
    )
    cases.append(
        ("moving-mnist", PAIRS, None, wrong, "is for the task 'video-prediction', not 'pairs': it has no 'image'")
    )
    return cases


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    cases = spoilt(tmp_path)
    for source, task, split, kind, words in cases:
        with pytest.raises(errors.StzooError) as caught:
            open_data(source, task, split)
        assert type(caught.value) is kind, (source, caught.value)
        assert words in str(caught.value), (source, str(caught.value))
        assert "\n" not in str(caught.value)


def test_examples_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    nan = clip().astype(np.float32) / 255
    nan[3, 0, 2, 2] = np.nan
    for name, array, words in (
        ("nan.npy", nan, "video: 1 values in {} are not finite"),
        ("none.npy", clip()[:0], "video: {} has no frames"),
        ("none.npz", clip()[:0], "video: {} has no frames"),
        ("colour.npz", np.repeat(clip(), 3, axis=1), "video: 3 channels in {}, the model takes 1"),
        ("flat.npy", clip()[0, 0], "video: {} holds an array of shape (16, 24), not a clip"),
        ("tiny.npz", clip()[..., :4, :], "video: 24x4 pixels, the model needs at least 8x8"),
        ("cut.npz", clip(), "video: {} cannot be read as a NumPy file"),
        ("cut.mp4", clip(), "video: {} cannot be decoded as a video"),
        ("cut.gif", clip(), "video: {} cannot be decoded"),
    ):
        path = store(tmp_path / Path(name).stem / name, array)
        if path.stem == "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        examples = open_data(path.parent, CLIPS, requirements=GREY)
        with pytest.raises(errors.DatasetError) as caught:
            examples[0]
        assert f"example {name}: {words.format(path)}" in str(caught.value)
        path.unlink()
    for rows, words in (
        ([{"film": clip()}], "the data: example 0: there is no 'video'. It has 'film'"),
        ([{"video": None}], "the data: example 0: video is a NoneType"),
        ([{"video": b"neither film nor picture"}], "24 bytes cannot be decoded as a video"),
        (Broken(), "the data: row 0 cannot be read (OSError: the disk is on fire)"),
    ):
        with pytest.raises(errors.DatasetError) as caught:
            open_data(rows, CLIPS)[0]
        assert words in str(caught.value)
    uneven = parquet(
        tmp_path / "uneven.parquet",
        "video",
        [[[[1, 2], [3]]], None],
        datasets.List(datasets.List(datasets.List(datasets.Value("uint8")))),
    )
    for index, words in (
        (0, "row 0 cannot be read (ValueError: holds lists of different lengths"),
        (1, "video is a NoneType"),
    ):
        with pytest.raises(errors.DatasetError) as caught:
            open_data(uneven, CLIPS)[index]
        assert words in str(caught.value)
    with pytest.raises(errors.DatasetError, match="a int is no data set"):
        open_data(3, CLIPS)  # type: ignore[arg-type]


class Broken(list[dict[str, Any]]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        raise OSError("the disk is on fire")


def test_columns_must_be_cut_alike(tmp_path: Path) -> None:
    both = Task("both", inputs=(Video("video"),), outputs=(Video("flow"),))
    store(tmp_path / "video" / "a.npz", clip(20))
    store(tmp_path / "flow" / "a.npz", clip(20))
    assert [item["flow"].shape[0] for item in open_data(f"{tmp_path}?frames=10", both)] == [10, 10]
    store(tmp_path / "flow" / "a.npz", clip(9))
    with pytest.raises(errors.DatasetError, match="different numbers of clips: video 2, flow 1"):
        open_data(f"{tmp_path}?frames=10", both)


def test_without_datasets_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "a.npz")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(errors.DependencyMissing, match=r"pip install 'stzoo\[train\]'"):
        open_data(tmp_path, CLIPS)


# --- the layout, told -------------------------------------------------------------------------------------------------


def test_a_column_that_may_be_missing_needs_no_sub_folders(tmp_path: Path) -> None:
    """Where only one column is given its files may lie in the folder itself, or in its own sub-folder; never in both."""
    task = Task("guided", inputs=(Image("image"), Image("guide", optional=True)), outputs=(Image("image"),))
    picture(tmp_path / "flat/a.png")
    picture(tmp_path / "own/image/a.png")
    for folder in ("image", "guide"):
        picture(tmp_path / f"both/{folder}/a.png")
    assert [name for name in ("flat", "own", "both") if open_data(tmp_path / name, task)[0]["guide"] is None] == [
        "flat",
        "own",
    ]
    assert open_data(tmp_path / "flat/a.png", task)[0]["image"].shape[1:] == (16, 24)
    picture(tmp_path / "own/b.png")
    with pytest.raises(errors.DatasetError, match="b.png is none of the columns' sub-folders"):
        open_data(tmp_path / "own", task)
    assert "image/ may be left out too" in layout.tree(task)


def test_the_layout_is_drawn_from_the_columns(tmp_path: Path) -> None:
    assert layout.tree(CLIPS).splitlines()[2].split() == ["NAME.mp4", "one", "file", "for", "each", "example"]
    pairs = layout.tree(PAIRS)
    assert "image/NAME.png" in pairs and "mask/NAME.png" in pairs and "same NAME" in pairs
    assert "a table with file_name, label" in layout.tree(LABELS)
    for task in (CLIPS, PAIRS, LABELS):
        drawn = [line.split()[0] for line in layout.tree(task).splitlines() if line.startswith("    ")]
        for path in drawn:
            if (name := path.replace("NAME", "x")).endswith(".png"):
                picture(tmp_path / task.name / name)
            elif name.endswith("csv"):
                (tmp_path / task.name / name).write_text("file_name,label\nx.png,3\n")
            elif name.endswith(".mp4"):
                store(tmp_path / task.name / name)
        assert len(open_data(tmp_path / task.name, task)) == 1, "what is drawn can be read"


# --- the Hub ----------------------------------------------------------------------------------------------------------

CARD = """---
license: cc-by-4.0
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train-*}
  - {split: test, path: small/test-*}
---
"""
PROGRAM = """
import numpy as np
from stzoo import errors
from stzoo.data import open_data
from stzoo.fields import Video
from stzoo.spec import Task
from stzoo.requirements import Requirements
task = Task("clips", inputs=(Video("video"),), outputs=(Video("video"),))
needs = Requirements(channels=1)
for source, split, streaming in (
    ("acme/rain", None, False),
    ("acme/rain?revision=main&frames=6", "test", True),
    ("acme/films?frames=6&stride=3", "train", False),
    ("acme/films", None, True),
):
    examples = open_data(source, task, split, requirements=needs, streaming=streaming)
    shapes = [item["video"].shape for item in examples]
    print(examples.split, examples.license, len(shapes), *shapes[0])
for source, split in (
    ("acme/rain", "extra"), ("acme/rain?config=large", None), ("acme/rian", None), ("acme/rain?revision=v9", None),
    ("acme/rain?config=small&video=label", None),
):
    try:
        print(open_data(source, task, split, requirements=needs)[0])
    except errors.StzooError as problem:
        print(type(problem).__name__, problem)
"""
OFFLINE = """
print(len(open_data("acme/rain", task)))
"""


def test_a_data_set_on_the_hub(tmp_path: Path) -> None:
    films = {f"train/{number}.mp4": store(tmp_path / f"{number}.mp4") for number in range(2)}
    files: dict[str, bytes | Path] = {
        "README.md": CARD.encode(),
    }
    for split, number in (("train", 3), ("test", 2)):
        pictures = [Picture.fromarray(frame[0]) for frame in clip()]
        files[f"small/{split}-0.parquet"] = parquet(
            tmp_path / f"{split}.parquet",
            "film",
            [pictures] * number,
            datasets.List(datasets.Image()),
            label=[1] * number,
        )
    with HubServer(tmp_path / "hub") as hub:
        hub.put("acme/rain", files, repo_type="dataset")
        hub.put("acme/films", films, repo_type="dataset")
        environment = os.environ | hub.env(tmp_path / "home")
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(
        [sys.executable, "-c", PROGRAM.partition("for source, split, streaming")[0] + OFFLINE],
        env=environment | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert again.stdout.strip() == "2", again.stderr
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "test cc-by-4.0 2 12 1 16 24",
        "test cc-by-4.0 4 6 1 16 24",
        "train  6 6 1 16 24",
        "train  2 12 1 16 24",
    ]
    for line, words in zip(
        lines[4:],
        (
            "SplitMissing the data set 'acme/rain' has no split 'extra'. Splits: train, test",
            "DatasetError acme/rain cannot be opened (ValueError: BuilderConfig 'large' not found",
            "UnknownDataset there is no folder acme/rian, and no such data set on the Hub (DatasetNotFoundError:",
            "DatasetError acme/rain cannot be opened (DatasetNotFoundError: Revision 'v9' doesn't exist",
            "DatasetError acme/rain: example 0: video: shape () is not a clip",
        ),
        strict=True,
    ):
        assert line.startswith(words), line
