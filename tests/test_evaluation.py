"""``stzoo evaluate`` and ``stzoo.evaluate``: the numbers, their intervals, several models, several processes."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from commandline import TINY, Cli, Install
from measured import MARKING, pictures, random_clips

import stzoo
from stzoo import errors
from stzoo.evaluation import evaluate
from stzoo.hooks import Plugin
from stzoo.predictor import Predictor
from stzoo.results import Evaluation, ModelResult, Summary
from stzoo.spec import Baseline, Metric, Task
from stzoo.testing.conformance import test_references as check_references
from stzoo_video_prediction import metrics

pytest_plugins = ("commandline",)

NAMES = ["mse", "mae", "ssim", "psnr", "ssim_torchmetrics", "psnr_torchmetrics"]


@pytest.fixture(scope="module")
def predictor(tiny: Path) -> Predictor:
    found = stzoo.load(tiny, device="cpu")
    found.report = replace(found.report, name="tiny")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips to evaluate on, and two that cannot be used."""
    root = tmp_path_factory.mktemp("data")
    for index, row in enumerate(random_clips(5)):
        np.save(root / f"clip{index}.npy", row["video"])
    np.save(root / "nan.npy", np.full((8, 1, 16, 16), np.nan, np.float32))
    np.save(root / "short.npy", random_clips(1, frames=6)[0]["video"])
    return root


def values(evaluation: Evaluation, model: int = 0) -> dict[str, float]:
    return {name: item.value for name, item in evaluation.models[model].metrics.items()}


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_the_numbers_are_the_metrics_of_what_predict_gives(predictor: Predictor) -> None:
    clips = random_clips(5)
    found = evaluate(predictor, clips, batch_size=2)
    for name in ("mse", "mae", "ssim", "psnr"):
        function = getattr(metrics, name)
        by_hand = [function(predictor.predict(row["video"][:4]).video, row["video"][4:]) for row in clips]
        last = [function(np.repeat(row["video"][3:4], 4, 0), row["video"][4:]) for row in clips]
        assert [row.values[name] for row in found.rows["tiny"]] == pytest.approx(by_hand, rel=1e-5)
        assert found.models[0].metrics[name].value == pytest.approx(np.mean(by_hand), rel=1e-5)
        assert found.models[1].metrics[name].value == pytest.approx(np.mean(last), rel=1e-9)
    assert [(model.name, model.baseline) for model in found.models] == [("tiny", False), ("last-frame", True)]
    assert list(found.models[0].metrics) == NAMES
    assert found.models[0].sha256 == predictor.report.sha256
    assert found.models[0].examples_per_second is not None and found.models[1].examples_per_second is None
    assert (found.examples, found.failed, found.split) == (5, 0, "all")


def test_options_reach_the_model_and_the_truth(predictor: Predictor) -> None:
    (row,) = clips = random_clips(1, frames=10)
    found = evaluate(predictor, clips, options={"horizon": 6}, baselines=False)
    expected = metrics.mse(predictor.predict(row["video"][:4], horizon=6).video, row["video"][4:])
    assert values(found)["mse"] == pytest.approx(expected, rel=1e-5)
    assert found.dataset == "the data (all, 1 examples, horizon 6)"
    with pytest.raises(errors.InputError, match="has no 'horizonn'"):
        evaluate(predictor, clips, options={"horizonn": 6})


def test_limit_takes_examples_from_all_over_the_data(predictor: Predictor) -> None:
    found = evaluate(predictor, random_clips(9), limit=3)
    assert [row.index for row in found.rows["tiny"]] == [0, 4, 8]
    assert found.examples == 3
    assert [row.index for row in evaluate(predictor, random_clips(3), limit=9).rows["tiny"]] == [0, 1, 2]


def test_a_metric_of_the_whole_data_set(plugin: Install) -> None:
    plugin("marking", MARKING)
    rows = pictures()
    found = evaluate(stzoo.create("threshold"), rows, options={"level": 0.5})
    predicted = [row["picture"] > 0.5 for row in rows]
    union = sum(float((mask | (row["mask"] > 0)).sum()) for mask, row in zip(predicted, rows, strict=True))
    assert values(found)["iou"] == pytest.approx(sum(float(row["mask"].sum()) for row in rows) / union)
    assert values(found)["wrong"] == pytest.approx(
        np.mean([(mask != row["mask"]).mean() for mask, row in zip(predicted, rows, strict=True)])
    )
    assert values(found, 1)["iou"] == pytest.approx(np.mean([row["mask"].mean() for row in rows]))
    assert found.better == {"iou": "higher", "wrong": "lower"}
    summary = found.models[0].metrics["iou"]
    assert summary.low is not None and summary.high is not None
    assert summary.low < summary.value < summary.high


# --- curves, options, skill -------------------------------------------------------------------------------------------


def test_curves_are_means_over_examples_at_each_frame(predictor: Predictor, tmp_path: Path) -> None:
    clips = random_clips(3)
    found = evaluate(predictor, clips, output=tmp_path)
    errors_ = [(predictor.predict(row["video"][:4]).video - row["video"][4:]) ** 2 for row in clips]
    last = [(row["video"][3:4] - row["video"][4:]) ** 2 for row in clips]
    for model, squares in zip(found.models, (errors_, last), strict=True):
        assert model.metrics["mse"].curve == pytest.approx(np.sum(squares, axis=(2, 3, 4)).mean(0), rel=1e-5)
        assert np.mean(model.metrics["mse"].curve) == pytest.approx(model.metrics["mse"].value)
    assert found.models[0].metrics["psnr_torchmetrics"].curve == () and "psnr_torchmetrics" not in found.axes
    assert Evaluation.from_json((tmp_path / "evaluation.json").read_text()) == found
    page = (tmp_path / "evaluation.md").read_text()
    assert found.curves() in page and "| mse, frame | 1 | 2 | 3 | 4 |" in page
    assert (tmp_path / "curves.png").read_bytes().startswith(
        b"\x89PNG"
    ) and "![The metrics by frame](curves.png)" in page


def test_optional_metrics_with_options_and_a_curve_of_summaries(plugin: Install, tmp_path: Path) -> None:
    plugin("marking", MARKING)
    rows, model = pictures(), stzoo.create("threshold")
    assert list(evaluate(model, rows).models[0].metrics) == ["iou", "wrong"]
    found = evaluate(model, rows, metrics=["rows", "rows?scale=2", "iou"], output=tmp_path)
    measured = found.models[0].metrics
    assert list(measured) == ["rows", "rows?scale=2", "iou"]
    assert found.better == dict.fromkeys(measured, "higher")
    masks = [(row["picture"] > 0.5, row["mask"] > 0) for row in rows]
    by_row = [
        sum((mask & true)[:, place].sum() for mask, true in masks)
        / sum((mask | true)[:, place].sum() for mask, true in masks)
        for place in range(8)
    ]
    assert measured["rows"].curve == pytest.approx(by_row)
    assert measured["rows"].value == pytest.approx(measured["iou"].value)
    assert measured["rows?scale=2"].curve == pytest.approx([2 * value for value in by_row])
    assert measured["rows"].low < measured["rows"].value < measured["rows"].high
    assert found.command.endswith("--metrics rows 'rows?scale=2' iou")
    for name, message in (
        ("rows?scale=x", "the metric 'rows': scale='x' must be a number"),
        ("rows?skale=2", "the metric 'rows' has no 'skale'. Did you mean 'scale'"),
        ("rows?scale", "Write them as NAME.option=value"),
        ("row", "no metric 'row'. Did you mean 'rows'"),
    ):
        with pytest.raises(errors.ConfigError, match=message):
            evaluate(model, rows, metrics=[name])


def test_skill_is_the_share_of_the_baselines_error_that_is_gone(predictor: Predictor) -> None:
    other = stzoo.create("simvp", device="cpu", **TINY)
    found = evaluate([predictor, other], random_clips(3))
    reference = found.models[2].metrics
    for model in found.models[:2]:
        assert model.skill == {
            name: pytest.approx(1 - model.metrics[name].value / reference[name].value) for name in ("mse", "mae")
        }
    assert found.models[2].skill == {}
    assert found.columns[-2:] == ["mse skill ↑", "examples/s"]
    assert [found.cells(model)[-2] for model in found.models] == [
        f"{model.skill['mse']:.3f}" for model in found.models[:2]
    ] + [""]
    alone = evaluate(predictor, random_clips(3), baselines=False)
    assert alone.models[0].skill == {} and alone.columns[-2:] == ["psnr_torchmetrics ↑", "examples/s"]
    still = [{"video": np.full((8, 1, 16, 16), 0.5, np.float32)}]
    assert evaluate(predictor, still).models[0].skill == {}, (
        "where persistence makes no error there is none to compare with"
    )


# --- what cannot be used ----------------------------------------------------------------------------------------------


def test_examples_that_cannot_be_used_are_named_and_left_out(
    predictor: Predictor, folder: Path, tmp_path: Path
) -> None:
    found = evaluate(predictor, folder, output=tmp_path / "new" / "results")
    assert (found.examples, found.failed, len(found.failures)) == (5, 2, 2)
    assert "nan.npy" in found.failures[0] and "NaN" in found.failures[0]
    assert "short.npy" in found.failures[1] and "6 frames, 4 to see and 4 to predict" in found.failures[1]
    assert values(found) == pytest.approx(values(evaluate(predictor, random_clips(5))), rel=1e-6)
    table = pq.read_table(tmp_path / "new" / "results" / "samples.parquet").to_pylist()
    assert len(table) == 2 * 7
    assert list(table[0]) == ["model", "index", "key", *NAMES, "error"]
    assert [row["key"] for row in table if row["error"]] == ["nan.npy", "short.npy"] * 2
    assert [row["mse"] for row in table if row["error"]] == [None] * 4


def test_no_usable_example_is_an_error_with_the_first_reason(predictor: Predictor) -> None:
    with pytest.raises(errors.DatasetError, match=r"no example of the data could be used, the first: .*6 frames"):
        evaluate(predictor, random_clips(3, frames=6))
    with pytest.raises(errors.DatasetError, match="has no example"):
        evaluate(predictor, [])


def test_what_one_model_cannot_take_is_left_out_for_all(plugin: Install) -> None:
    plugin("marking", MARKING)
    rows = pictures()
    rows[1] = {"picture": np.zeros((1, 8, 8), np.float32), "mask": rows[1]["mask"]}  # the network refuses it
    rows[4] = {"picture": rows[4]["picture"], "mask": np.ones((1, 8, 8), np.float32)}  # a metric refuses it
    found = evaluate([stzoo.create("threshold"), stzoo.create("threshold", bias=0.1)], rows, batch_size=4)
    assert found.failures == ("1: a black picture. Switch on the light", "4: ValueError: nothing to find")
    assert [row.error for row in found.rows["everything"]].count(None) == 5
    kept = [row for index, row in enumerate(rows) if index not in (1, 4)]
    assert values(found) == values(evaluate(stzoo.create("threshold"), kept))
    assert found.models[2].metrics["iou"].value == pytest.approx(np.mean([row["mask"].mean() for row in kept]))


def test_metrics_whose_package_is_missing_are_told(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image", None)
    monkeypatch.delitem(sys.modules, "stzoo_video_prediction.metrics_torchmetrics", raising=False)
    found = evaluate(predictor, random_clips(1))
    assert list(values(found)) == ["mse", "mae", "ssim", "psnr"]
    with pytest.raises(
        errors.DependencyMissing, match="'ssim_torchmetrics' cannot be computed: .*pip install torchmetrics"
    ):
        evaluate(predictor, random_clips(1), metrics=["ssim_torchmetrics"])
    assert found.notes[0].startswith("ssim_torchmetrics was not computed")
    assert "pip install torchmetrics" in found.notes[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
        ({"limit": 0}, "limit=0 must be a whole number of at least 1"),
        ({"confidence": 1.5}, "confidence=1.5 must be a number from 0.5 to 0.999"),
        ({"models": []}, "no model to evaluate"),
    ],
)
def test_settings_are_checked(predictor: Predictor, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"models": predictor, "data": random_clips(1)} | change
    with pytest.raises(errors.ConfigError, match=message):
        evaluate(**arguments)


def test_a_place_that_cannot_be_written_is_told_at_once(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.ConfigError, match="file cannot be written"):
        evaluate(predictor, "no-such-data", output=tmp_path / "file")


# --- several models ---------------------------------------------------------------------------------------------------


def test_several_models_in_one_table(predictor: Predictor, tiny: Path) -> None:
    other = stzoo.create("simvp", device="cpu", **TINY)
    found = evaluate([tiny, other, predictor], random_clips(4))
    assert [model.name for model in found.models] == [str(tiny), "simvp", "tiny", "last-frame"]
    assert found.models[0].metrics == found.models[2].metrics
    lines = found.table().splitlines()
    assert lines[0].startswith("| | mse ↓ | mae ↓ | ssim ↑ |")
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {tiny}", "| simvp", "| tiny", "| last-frame (baseline)"]
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    best = min(model.metrics["mse"].value for model in found.models)
    bold = [line.split(" | ")[1].startswith(f"**{best:g}** [") for line in lines[2:]]
    assert bold == [model.metrics["mse"].value == best for model in found.models]
    twice = evaluate([predictor, predictor], random_clips(1), baselines=False)
    assert [model.name for model in twice.models] == ["tiny", "tiny (2)"]


def test_models_that_were_asked_for_different_things_are_not_compared(predictor: Predictor) -> None:
    other = stzoo.create("tau", device="cpu", **TINY | {"in_shape": (3, 1, 16, 16)})
    with pytest.raises(errors.ConfigError, match="tiny and tau were asked for different things"):
        evaluate([predictor, other], random_clips(2))


def test_models_of_different_tasks_are_not_compared(predictor: Predictor, plugin: Install) -> None:
    plugin("marking", MARKING)
    with pytest.raises(errors.ConfigError, match=r"tiny \(video-prediction\), threshold \(marking\)"):
        evaluate([predictor, stzoo.create("threshold")], random_clips(1))


# --- the record -------------------------------------------------------------------------------------------------------


def test_json_gives_back_what_was_found(predictor: Predictor) -> None:
    found = evaluate(predictor, random_clips(2), options={"horizon": 3})
    strange = ModelResult("strange", True, {name: Summary(math.inf, -math.inf, math.inf) for name in NAMES}, 0.5)
    found = Evaluation(**vars(found) | {"models": (*found.models, strange)})
    text = found.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    again = Evaluation.from_json(text)
    assert again == found and again.rows == {}
    assert again.table() == found.table()
    numbers = found.measurements()
    assert {(item.source, item.note) for item in numbers} == {("measured", ""), ("baseline", "last-frame")}
    assert [item.value for item in numbers[: len(NAMES)]] == list(values(found).values())
    assert numbers[0].dataset == "the data (all, 2 examples, horizon 3)"
    assert numbers[0].command == "stzoo evaluate tiny --data 'the data' --horizon 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not an evaluation"),
        ("[]", "not an evaluation"),
        ('{"format_version": 1, "models": [{}]}', "not an evaluation"),
        ('{"format_version": 99, "models": []}', "newer stzoo"),
    ],
)
def test_other_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        Evaluation.from_json(text)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_numbers(cli: Cli, tiny: Path, folder: Path, tmp_path: Path) -> None:
    words = (tiny, "--data", folder, "--horizon", 3, "--device", "cpu", "--batch-size", 2, "--limit", 6)
    code, out, err = cli("evaluate", *words, "-o", tmp_path / "out", "--confidence", 0.9)
    assert (code, err) == (0, "")
    found = Evaluation.from_json((tmp_path / "out" / "evaluation.json").read_text())
    first = next(line for line in out.splitlines() if line.split()[0] == "mse")
    item, last = (model.metrics["mse"] for model in found.models)
    shown = f"{item.value:g} [{item.low:.4g}, {item.high:.4g}]"
    assert shown in first and f"{last.value:g} [{last.low:.4g}, {last.high:.4g}]" in first.split(shown)[1]
    for text in (
        "last-frame (baseline)",
        "split all",
        "0.9 of the bootstrap",
        "nan.npy",
        str(tmp_path / "out"),
        "examples/s",
    ):
        assert text in out
    assert found.command == f"stzoo evaluate {tiny} --data {folder} --limit 6 --horizon 3 --confidence 0.9"
    page = (tmp_path / "out" / "evaluation.md").read_text()
    assert found.table() in page and found.command in page and found.models[0].sha256 in page
    assert (tmp_path / "out" / "samples.parquet").exists()


def test_the_command_prints_json_and_records(cli: Cli, predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    predictor.save(run / "best")
    (run / "run.json").write_text("{}")
    code, out, err = cli("evaluate", run, "--data", folder, "--json", "--record", "--no-baselines")
    assert (code, err) == (0, "")
    assert (run / "evaluation.json").read_text() == out
    found = Evaluation.from_json(out)
    assert [model.name for model in found.models] == [str(run)]
    assert found.command.endswith("--no-baselines")
    assert cli("evaluate", run / "best", "--data", folder, "--record")[0] == 0
    assert values(Evaluation.from_json((run / "best" / "evaluation.json").read_text())) == values(found)


def test_the_command_says_what_is_wrong(cli: Cli, tiny: Path, folder: Path) -> None:
    for words, message in (
        ((tiny,), "required: --data"),
        ((tiny, tiny, "--data", folder, "--record"), "--record is for one model"),
        (("tau-mmnist", "--data", folder, "--record"), "not a folder to record anything in"),
        ((tiny, "--data", folder, "--limit", 0), "must be a whole number of at least 1"),
        ((tiny, "--data", folder, "--horizon", 5000), "no example of"),
        ((tiny, "--data", folder / "nowhere"), "nowhere"),
        ((folder, "--data", folder), "config.json"),
    ):
        code, out, err = cli("evaluate", *words)
        assert (code, out) == (2, "")
        assert message in err and err.count("\n") == 1


def test_help_shows_the_options_of_the_models_task_alone(cli: Cli, tiny: Path) -> None:
    code, out, _ = cli("evaluate", tiny, "--help")
    assert code == 0
    assert "--horizon HORIZON" in out
    assert "--fps" not in out


# --- several processes ------------------------------------------------------------------------------------------------


def test_two_processes_find_what_one_finds(cli: Cli, tiny: Path, folder: Path, tmp_path: Path) -> None:
    words = ("evaluate", tiny, "--data", folder, "--batch-size", 1, "--json", "--metrics", "mse", "ssim", "--output")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launched = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    command = [sys.executable, "-m", "stzoo", *map(str, words), str(tmp_path / "two")]
    ranks = [
        subprocess.Popen(command, stdout=-1, env=os.environ | launched | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in "01"
    ]
    code, one, err = cli(*words, tmp_path / "one")
    assert code == 0, err
    two, nothing = (process.communicate(timeout=300)[0] for process in ranks)
    assert [process.returncode for process in ranks] == [0, 0]
    assert nothing == b"", "it is printed once"
    first, second = Evaluation.from_json(one), Evaluation.from_json(two)
    assert second.hardware.startswith("2 x ")
    assert first.examples == second.examples == 5
    assert [model.metrics for model in first.models] == [model.metrics for model in second.models]
    assert first.failures == second.failures
    tables = [pq.read_table(tmp_path / name / "samples.parquet") for name in ("one", "two")]
    assert tables[0].equals(tables[1])


# --- for plugin authors -----------------------------------------------------------------------------------------------


def test_the_conformance_kit_looks_at_baselines_and_summaries() -> None:
    task = Task(
        "numbers",
        metrics=(Metric("error", "math:fabs", summary="math:no_such_summary"),),
        baselines=(Baseline("zero", "math:no_such_baseline"),),
    )
    specs: dict[str, list[Any]] = {"tasks": [task], "architectures": [], "models": [], "datasets": []}
    with pytest.raises(AssertionError) as found:
        check_references(Plugin("acme", "acme", specs=specs))
    assert "metric error, summary: 'math:no_such_summary'" in str(found.value)
    assert "baseline zero: 'math:no_such_baseline'" in str(found.value)


def test_optional_baselines_are_measured_where_they_are_named(predictor: Predictor) -> None:
    known = predictor.task.baselines[0]
    slow = replace(known, name="slow", optional=True)
    lacking = replace(slow, name="lacking", compute="lacking_package:method")
    task = replace(predictor.task, baselines=(known, slow, lacking))
    other, clips = replace(predictor, task=task), random_clips(1)
    assert [item.name for item in evaluate(other, clips).models] == ["tiny", known.name]
    found = evaluate(other, clips, baselines=["slow"])
    assert [item.name for item in found.models] == ["tiny", "slow"] and found.command.endswith("--baselines slow")
    with pytest.raises(errors.ConfigError, match=r"has no baseline 'slo'.*'slow'"):
        evaluate(other, clips, baselines=["slo"])
    with pytest.raises(errors.PluginError, match="lacking_package"):
        evaluate(other, clips, baselines=["lacking"])
