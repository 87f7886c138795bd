"""``stzoo predict --data``, ``predict_data`` and ``map_batches``: counts, resumption, many processes, bad inputs, full disks."""

from __future__ import annotations

import json
import pickle
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import TINY, TOY, Cli, Install
from mortal import COUNTED, Server

import stzoo
from stzoo import errors, media
from stzoo.predictor import Predictor

pytest_plugins = ("commandline",)

SIZES = {"shard_size": 8, "batch_size": 3}
FLAGS = ("--shard-size", 8, "--batch-size", 3)


def write_clips(folder: Path, count: int) -> Path:
    (folder / "rain").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        clip = rng.random((4 + number % 3, 1, 16, 16), dtype=np.float32)
        media.write_video(clip, folder / ("rain" if number % 2 else "") / f"c{number}.npz")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 clips of 4 to 6 frames, half of them in a folder of it."""
    return write_clips(tmp_path_factory.mktemp("data") / "clips", 30)


@pytest.fixture(scope="module")
def expected(tiny: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of them."""
    folder = tmp_path_factory.mktemp("expected") / "out"
    assert stzoo.predict_data(tiny, data, folder, **SIZES, device="cpu").predicted == 30
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the report, and the manifest, that say how a run went and where; locks are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("report.json", "bulk.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.startswith(".lock-")}


def table(folder: Path) -> list[dict[str, Any]]:
    """All lines of the tables, as ``datasets`` reads them."""
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=str(folder / "shards" / "*.parquet"), split="train")
    return [dict(row) for row in rows]


# --- one process ------------------------------------------------------------------------------------------------------


def test_every_input_is_in_the_tables_once_and_predicted_as_predict_does(
    tiny: Path, data: Path, expected: Path
) -> None:
    rows, predictor = table(expected), stzoo.load(tiny, device="cpu")
    assert [row["index"] for row in rows] == list(range(30))
    assert sorted(row["key"] for row in rows) == sorted(str(path.relative_to(data)) for path in data.rglob("*.npz"))
    for row in rows:
        assert row["error"] is None
        assert row["predicted_video_shape"] == [4, 1, 16, 16]
        found = media.read_video(expected / row["predicted_video"], "video")
        np.testing.assert_allclose(found, predictor.predict(data / row["key"]).video, atol=1e-5)
    assert sum("/rain/" in row["predicted_video"] for row in rows) == 15


def test_the_report_counts_and_a_second_run_does_nothing_again(
    cli: Cli, tiny: Path, data: Path, tmp_path: Path
) -> None:
    words = ("predict", tiny, "--data", data, "-o", tmp_path / "out", *FLAGS, "--limit", 20, "--horizon", 2)
    code, out, err = cli(*words, "--json")
    first = json.loads(out)
    assert (code, err) == (0, "")
    counts = {key: first[key] for key in ("inputs", "predicted", "failed", "skipped", "shards", "processes")}
    assert counts == {"inputs": 20, "predicted": 20, "failed": 0, "skipped": 0, "shards": 3, "processes": 1}
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == first | {
        "per_second": pytest.approx(first["per_second"], abs=0.1)
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    code, out, err = cli(*words, "--json")
    assert (code, json.loads(out)["skipped"]) == (0, 20)
    assert "going on, 20 inputs are done already" in err
    assert "speed" not in cli(*words)[1]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "shards").iterdir()}
    assert table(tmp_path / "out")[0]["predicted_video_shape"] == [2, 1, 16, 16]


def test_a_shard_whose_table_is_missing_or_damaged_is_done_again(
    tiny: Path, data: Path, expected: Path, tmp_path: Path
) -> None:
    stzoo.predict_data(tiny, data, tmp_path / "out", **SIZES, device="cpu")
    (tmp_path / "out" / "shards" / "shard-00001.parquet").unlink()
    broken = tmp_path / "out" / "shards" / "shard-00003.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    (tmp_path / "out" / "media" / ".shard-00001").mkdir()  # as a killed process leaves it
    report = stzoo.predict_data(tiny, data, tmp_path / "out", **SIZES, device="cpu")
    assert (report.skipped, report.predicted) == (16, 30)
    assert contents(tmp_path / "out") == contents(expected)


@pytest.mark.parametrize("format", ["gif", "mp4"])
def test_media_files_get_the_ending_and_options_that_were_asked_for(
    cli: Cli, tiny: Path, data: Path, tmp_path: Path, format: str
) -> None:
    words = ("--data", data, "-o", tmp_path / "out", "--limit", 2, "--format", format, "--scale", 2)
    assert cli("predict", tiny, *words)[0] == 0
    for row in table(tmp_path / "out"):
        assert row["predicted_video"].endswith(f".video.{format}")
        assert media.read_video(tmp_path / "out" / row["predicted_video"], "video").shape[-2:] == (32, 32)


def test_numbers_are_in_the_table_and_every_output_has_its_file(plugin: Install, tmp_path: Path) -> None:
    plugin("toy", TOY)
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    pairs = [{"picture": ramp, "other_one": ramp * (1 - 0.1 * number)} for number in range(4)]
    stzoo.predict_data(stzoo.create("subtraction"), pairs, tmp_path / "out", options={"norm": "l2"}, format="png")
    for number, row in enumerate(table(tmp_path / "out")):
        assert row["predicted_score"] == pytest.approx(float(((0.1 * number * ramp) ** 2).mean()), abs=1e-6)
        found = [media.read_image(tmp_path / "out" / row[f"predicted_{name}"], name) for name in ("difference", "map")]
        np.testing.assert_allclose(found[0], 0.1 * number * ramp, atol=0.003)
        np.testing.assert_array_equal(*found)


# --- WebDataset, streams ----------------------------------------------------------------------------------------------


def test_webdataset_shards_are_read_by_datasets(tiny: Path, data: Path, expected: Path, tmp_path: Path) -> None:
    import fsspec
    from datasets import load_dataset

    stzoo.predict_data(tiny, data, tmp_path / "out", format="webdataset", **SIZES, device="cpu")
    tars = str(tmp_path / "out" / "webdataset" / "*.tar")
    rows = list(load_dataset("webdataset", data_files=tars, split="train", streaming=True).decode(False))
    assert [row["json"]["index"] for row in rows] == list(range(30))
    for row, single, own in zip(rows, table(expected), table(tmp_path / "out"), strict=True):
        assert row["json"]["key"] == single["key"] == own["key"]
        member, _, tar = own["predicted_video"].partition("::")
        with fsspec.open(f"{member}::{tmp_path / 'out' / tar}") as file:
            assert file.read() == (expected / single["predicted_video"]).read_bytes()


def test_a_stream_gives_the_same(cli: Cli, tiny: Path, data: Path, expected: Path, tmp_path: Path) -> None:
    words = ("predict", tiny, "--data", data, "-o", tmp_path / "out", "--streaming", *FLAGS)
    assert cli(*words)[0] == 0
    assert contents(tmp_path / "out") == contents(expected)
    (tmp_path / "out" / "shards" / "shard-00002.parquet").unlink()
    assert json.loads(cli(*words, "--json")[1])["skipped"] == 22
    assert contents(tmp_path / "out") == contents(expected)


# --- processes, kills -------------------------------------------------------------------------------------------------


def test_two_processes_give_the_same_as_one(
    forks: Server, tiny: Path, data: Path, expected: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    words = ["predict", tiny, "--data", data, "-o", out, *FLAGS, "--json"]
    assert forks.run(words, log, 2) == [0, 0], log.read_text()
    report = json.loads(log.read_text())  # printed by one process alone
    assert (report["processes"], report["inputs"], report["predicted"]) == (2, 30, 30)
    assert contents(out) == contents(expected)
    words[3] = "moving-mnits"
    assert forks.run(words, log, 2) == [2, 2]
    assert "Traceback" not in log.read_text()


def test_killed_twice_and_resumed_by_other_numbers_of_processes(forks: Server, tiny: Path, tmp_path: Path) -> None:
    clips, out, log = write_clips(tmp_path / "clips", 60), tmp_path / "out", tmp_path / "log"
    words = ["predict", tiny, "--data", clips, "--shard-size", 4, "-o"]
    assert forks.run([*words, tmp_path / "whole"], log, line=-1) == [0], log.read_text()
    lines = int(log.read_text().partition(COUNTED)[2].split()[0])
    chance, times = random.Random(0), dict[Path, int]()
    for processes in (2, 1):  # 3 of the 15 shards at most by the one that dies, 8 by the other
        death = {"rank": processes - 1, "line": round(lines * chance.uniform(0.1, 0.2))}
        assert -signal.SIGKILL in forks.run([*words, out], log, processes, **death), log.read_text()
        times = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("shard-*")} | times
        assert 0 < len(times) < 15
    assert forks.run([*words, out], log, 2) == [0, 0], log.read_text()
    report = json.loads((out / "report.json").read_text())
    assert (report["inputs"], report["predicted"], report["skipped"]) == (60, 60, 4 * len(times))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert contents(out) == contents(tmp_path / "whole")


def test_ctrl_c_says_how_to_go_on(forks: Server, tiny: Path, data: Path, tmp_path: Path) -> None:
    words, log = ["predict", tiny, "--data", data, *FLAGS, "-o", tmp_path / "out"], tmp_path / "log"
    assert forks.run(words, log, line=400, signal=signal.SIGINT) == [130]
    assert "the same command goes on" in log.read_text()


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_bad_inputs_are_recorded_and_the_others_go_on(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 9)
    np.savez(folder / "nan.npz", video=np.full((4, 1, 16, 16), np.nan, np.float32))
    (folder / "truncated.npz").write_bytes((folder / "c0.npz").read_bytes()[:500])
    media.write_video(np.zeros((2, 1, 16, 16), np.float32), folder / "short.npz")
    (folder / "text.npz").write_text("not what its ending says")
    (folder / "empty.npz").touch()
    code, out, err = cli("predict", tiny, "--data", folder, "-o", tmp_path / "out", *FLAGS)
    assert (code, err) == (1, "")
    reasons = {row["key"]: row["error"] for row in table(tmp_path / "out") if row["error"]}
    assert reasons.keys() == {"nan.npz", "truncated.npz", "short.npz", "text.npz", "empty.npz"}
    assert "not finite" in reasons["nan.npz"]
    assert "cannot be read as a NumPy file" in reasons["truncated.npz"]
    assert "2 frames, the model needs 4" in reasons["short.npz"]
    assert "cannot be read as a NumPy file" in reasons["text.npz"]
    for key, reason in reasons.items():
        assert f"{key}: {reason}" in out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["inputs"], report["predicted"], report["failed"]) == (14, 9, 5)
    assert len(list((tmp_path / "out" / "media").rglob("*.npz"))) == 9


def test_an_input_that_breaks_the_network_does_not_take_its_batch_along(tiny: Path, tmp_path: Path) -> None:
    class Picky(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner, self.requirements = inner, inner.requirements

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if (x.flatten(1).mean(1) > 0.9).any():
                raise RuntimeError("too bright")
            return self.inner(x)

    inner = stzoo.load(tiny, device="cpu")
    picky = Predictor(Picky(inner.module), inner.architecture, inner.task, inner.config, inner.report)
    clips = [{"video": np.full((4, 1, 16, 16), value, np.float32)} for value in (0.1, 0.2, 1.0, 0.3, 0.4)]
    report = stzoo.predict_data(picky, clips, tmp_path / "out")
    assert (report.predicted, report.failures) == (4, ("2: RuntimeError: too bright",))
    for row, clip in zip(table(tmp_path / "out"), clips, strict=True):
        if row["index"] != 2:
            found = media.read_video(tmp_path / "out" / row["predicted_video"], "video")
            np.testing.assert_allclose(found, inner.predict(clip["video"]).video, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_disk_stops_the_run_and_what_was_finished_is_kept(
    forks: Server, tiny: Path, data: Path, expected: Path, tmp_path: Path, packed: bool
) -> None:
    words, log = ["predict", tiny, "--data", data, "-o", tmp_path / "out", *FLAGS], tmp_path / "log"
    words += ["--format", "webdataset"] if packed else []
    # The kernel refuses to let a file grow: the first media file, or the first tar of them, does not fit.
    assert forks.run(words, log, largest=20_000 if packed else 3000) == [2]
    assert "no space left for" in log.read_text() and "goes on with the rest" in log.read_text()
    assert not list((tmp_path / "out" / "shards").glob("shard-*"))
    assert forks.run(words, log) == [0], log.read_text()
    assert not [path for path in (tmp_path / "out").rglob(".*") if not path.name.startswith(".lock-")]
    if not packed:
        assert contents(tmp_path / "out") == contents(expected)


def other_weights(folder: Path) -> Path:
    torch.manual_seed(1)
    return stzoo.create("tau", **TINY).save(folder / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: {"options": {"horizon": 9}}, "options horizon was None, now 9"),
        (lambda folder: {"model": other_weights(folder)}, "model sha256 was"),
        (lambda folder: {"data": write_clips(folder / "more", 31)}, "data examples was 30, now 31"),
        (lambda folder: {"batch_size": 4}, "batch_size was 3, now 4"),
        (lambda folder: {"limit": 5}, "data limit was None, now 5"),
        (lambda folder: {"format": "gif"}, "format was None, now 'gif'"),
        (lambda folder: {"dtype": "bfloat16"}, "model dtype was 'float32', now 'bfloat16'"),
    ],
)
def test_an_output_of_something_else_is_not_gone_on_with(
    tiny: Path, data: Path, expected: Path, tmp_path: Path, change: Callable[[Path], Mapping[str, Any]], message: str
) -> None:
    before = contents(expected)
    asked = {"model": tiny, "data": data, "output": expected, **SIZES, "device": "cpu", **change(tmp_path)}
    with pytest.raises(errors.ConfigError, match=message):
        stzoo.predict_data(**asked)
    assert contents(expected) == before


def test_data_that_changed_under_the_same_name_are_refused(tiny: Path, tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 4)
    stzoo.predict_data(tiny, folder, tmp_path / "out")
    (folder / "c0.npz").rename(folder / "a0.npz")
    with pytest.raises(errors.ConfigError, match=r"input 0 was 'c0.npz' and is 'a0.npz'"):
        stzoo.predict_data(tiny, folder, tmp_path / "out")


def test_a_folder_with_other_files_and_one_in_use_are_refused(cli: Cli, tiny: Path, data: Path, tmp_path: Path) -> None:
    import filelock

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    code, _, err = cli("predict", tiny, "--data", data, "-o", tmp_path / "mine")
    assert code == 2
    assert "is not empty (it has thesis.tex)" in err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    (tmp_path / "used").mkdir()
    with filelock.FileLock(tmp_path / "used" / ".lock-3"):  # a process of a killed launcher lives on
        assert "is in use by another process" in cli("predict", tiny, "--data", data, "-o", tmp_path / "used")[2]
    assert cli("predict", tiny, "--data", data, "-o", tmp_path / "used", "--limit", 3)[0] == 2  # begun without a limit
    assert cli("predict", tiny, "--data", data, "-o", tmp_path / "used")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("clip.mp4", "--data", "moving-mnist", "-o", "out"), "not from both"),
        (("-o", "out"), "arguments are required: INPUT"),
        (("clip.mp4", "-o", "out.gif", "--limit", 3), "are for data sets"),
        (("--data", "moving-mnist"), "no place to write to"),
        (("--data", "moving-mnist", "-o", "out", "--format", "xyz"), "Formats: mp4, gif, png, npy, npz, webdataset"),
        (("--data", "moving-mnist", "-o", "out", "--batch-size", 0), "must be a whole number of at least 1"),
        (("--data", "moving-mnits", "-o", "out"), "moving-mnist"),
        (("--data", "moving-mnist", "-o", "out", "--horizon", 0), "must be a whole number from 1 to 10000"),
    ],
)
def test_a_wrong_command_is_told(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("predict", tiny, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists()


# --- map_batches ------------------------------------------------------------------------------------------------------


def test_datasets_map_adds_predictions(tiny: Path, data: Path) -> None:
    from datasets import Dataset

    paths = sorted(map(str, data.rglob("*.npz")))[:5]
    rows = Dataset.from_dict({"video": paths, "name": list("abcde")})
    mapped = rows.map(stzoo.map_batches(tiny, device="cpu", horizon=3), batched=True, batch_size=2)
    assert mapped["name"] == rows["name"]
    found, predictor = mapped.with_format("numpy")["predicted_video"][:], stzoo.load(tiny, device="cpu")
    for path, prediction in zip(paths, found, strict=True):
        np.testing.assert_allclose(prediction, predictor.predict(path, horizon=3).video, atol=1e-5)


def test_datasets_map_in_processes_takes_arrays(tiny: Path) -> None:
    from datasets import Dataset

    clips = np.random.default_rng(0).random((4, 4, 1, 16, 16), dtype=np.float32)
    rows = Dataset.from_dict({"video": list(clips)})
    mapped = rows.map(stzoo.map_batches(tiny, device="cpu"), batched=True, batch_size=2, num_proc=2)
    expected = stzoo.load(tiny, device="cpu").predict_batch(clips)
    for found, prediction in zip(mapped.with_format("numpy")["predicted_video"][:], expected, strict=True):
        np.testing.assert_allclose(found, prediction.video, atol=1e-5)


def test_the_fingerprint_is_of_the_weights_and_options(tiny: Path, data: Path, tmp_path: Path) -> None:
    from datasets.fingerprint import Hasher

    function = stzoo.map_batches(tiny, horizon=3)
    before = Hasher.hash(function)
    function({"video": [next(data.rglob("*.npz"))]})  # the model is loaded now
    assert Hasher.hash(function) == before == Hasher.hash(stzoo.map_batches(tiny, horizon=3))
    assert len(pickle.dumps(function)) < 2000
    assert before != Hasher.hash(stzoo.map_batches(tiny, horizon=4))
    other = other_weights(tmp_path)
    first = Hasher.hash(stzoo.map_batches(other))
    moved = pickle.loads(pickle.dumps(stzoo.map_batches(other)))
    torch.manual_seed(2)
    stzoo.create("tau", **TINY).save(other)
    assert first != Hasher.hash(stzoo.map_batches(other))
    with pytest.raises(errors.WeightsCorrupted, match="when this was asked for"):
        moved({"video": [next(data.rglob("*.npz"))]})


def test_map_batches_tells_what_does_not_fit(tiny: Path) -> None:
    with pytest.raises(errors.InputError, match="has no output 'vidoe'. Did you mean 'video'"):
        stzoo.map_batches(tiny, outputs=["vidoe"])
    with pytest.raises(errors.InputError, match="has no 'horizn'"):
        stzoo.map_batches(tiny, horizn=3)
    with pytest.raises(errors.InputError, match="the model is a Predictor"):
        stzoo.map_batches(stzoo.load(tiny))  # type: ignore[arg-type]
    with pytest.raises(errors.InputError, match="the batch has no column 'video'"):
        stzoo.map_batches(tiny)({"clip": []})


def test_ray_data_takes_the_function_and_the_class(tiny: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is an optional extra of 80 MB: pip install 'stzoo[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False)
    try:
        clips = np.random.default_rng(0).random((6, 4, 1, 16, 16), dtype=np.float32)
        rows = ray.data.from_numpy(clips).rename_columns({"data": "video"})
        mapped = [
            rows.map_batches(stzoo.map_batches(tiny, device="cpu"), batch_size=2),
            rows.map_batches(
                stzoo.BatchPredictor,
                fn_constructor_args=[str(tiny)],
                fn_constructor_kwargs={"device": "cpu"},
                batch_size=2,
                concurrency=1,
            ),
        ]
        expected = [prediction.video for prediction in stzoo.load(tiny, device="cpu").predict_batch(clips)]
        for result in mapped:
            found = {row["video"].tobytes(): row["predicted_video"] for row in result.take_all()}
            for clip, prediction in zip(clips, expected, strict=True):
                np.testing.assert_allclose(found[clip.tobytes()], prediction, atol=1e-5)
    finally:
        ray.shutdown()
