"""The layout of folders of data: what does not fit says why, and what is told of it is true."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from clipfiles import CLIPS, GREY, LABELS, PAIRS, clip, parquet, picture, store

from stzoo import errors, layout
from stzoo.data import open_data
from stzoo.fields import Image, Video
from stzoo.spec import Task


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
        ("nameless", "label\n1\n", "row 1 has no 'file_name'. It has 'label'"),
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
    cases.append(("https://x.org/rain", CLIPS, None, wrong, "is an address, and data are not read from addresses"))
    cases.append(("?frames=3", CLIPS, None, wrong, "the name of the data is empty"))
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
        ([clip()], "the data: row 0 is no {column: value} but a ndarray. Its columns: video"),
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
