"""Data sets from everywhere: named, folders, files, shards, sequences; through the real ``datasets`` library."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from clipfiles import CLIPS, GREY, LABELS, PAIRS, clip, parquet, picture, store
from PIL import Image as Picture

from stzoo import errors, media
from stzoo.data import open_data
from stzoo.media import decoding
from stzoo.requirements import Requirements
from stzoo.sources import parse_source
from stzoo.spec import Task


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


def test_capitals_and_what_systems_leave_do_not_matter(tmp_path: Path) -> None:
    for split in ("Training", "TEST"):
        for column in ("Images", "Mask"):
            picture(tmp_path / split / column / "a.png")
            (tmp_path / split / column / "Thumbs.db").write_text("?")
    assert len(open_data(tmp_path, PAIRS, "train")) == 1, "the other split is not a part of it"
    assert open_data(tmp_path, PAIRS).split == "test"


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
    loader = DataLoader(examples, batch_size=2, num_workers=1)
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
