"""Weights taken into a plugin: the record beside them, the zoo's entry made of it, and what was measured written into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import Cli, cli  # noqa: F401 (a fixture)
from runs import make_evaluation, make_run

import stzoo
from stzoo import errors
from stzoo.bundles import bundle, bundled, read_record, record
from stzoo.spec import Measurement


def test_a_runs_weights_become_an_entry_of_the_zoo(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seed=3)
    file = bundle(run, tmp_path / "weights" / "tau-rain", dtype="float32")
    assert file == tmp_path / "weights" / "tau-rain.safetensors"
    published = Measurement("rain", "mse", 1.5, "published", "the paper's")
    model = bundled(
        tmp_path / "weights" / "tau-rain",
        metrics=[published],
        license="apache-2.0",
        card="On {hardware}: {minutes:g} min.",
    )
    assert (model.name, model.architecture, model.metrics) == ("tau-rain", "tau", (published,))
    assert model.command == "stzoo finetune tau-mmnist --data /home/somebody/clips/rain --output ../runs/a"
    assert model.card == "On CPU, 2 cores, 1 thread each process: 83 min."
    assert model.weights is not None and model.weights.bundled == "weights/tau-rain.safetensors"
    trained = stzoo.load(run / "best")
    assert stzoo.create(model.architecture, **model.config).config == trained.config
    assert model.fingerprint == trained.fingerprint()
    assert model.parameters == sum(item.numel() for item in trained.module.parameters())


def test_what_was_measured_goes_into_the_record_and_replaces_what_was(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = bundle(run, tmp_path / "tau-mmnist")
    for mse in (31.0, 30.5):  # measured anew on the same data
        evaluation = make_evaluation(run, "clips")
        _, own, baseline = evaluation.models
        own = replace(own, metrics={"mse": replace(own.metrics["mse"], value=mse, curve=(1.0, mse))})
        replace(evaluation, models=(own, baseline)).write(tmp_path / "results")
        assert record(tmp_path / "results", tmp_path) == [file.with_suffix(".json")]
    found = read_record(file)
    assert [(item["value"], item["source"]) for item in found["measurements"]] == [
        (30.5, "measured"),
        (42.0, "baseline"),
    ]
    assert found["curves"]["mse"]["tau-mmnist"] == [1.0, 30.5]
    assert read_record(bundle(run, file))["measurements"] == found["measurements"]  # the very same bytes
    assert read_record(bundle(make_run(tmp_path / "other", seed=1), file))["measurements"] == []


def test_converted_weights_say_which_command_made_them(tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    folder = make_run(tmp_path / "run") / "best"
    code, out, _ = cli(
        "bundle", str(folder), str(tmp_path / "own"), "--dtype", "float32", "--made-by", "python convert.py"
    )
    assert (code, out.strip()) == (0, str(tmp_path / "own.safetensors"))
    assert bundled(tmp_path / "own", license="mit").command == "python convert.py"


def test_what_cannot_be_bundled_or_recorded(tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    with pytest.raises(errors.WeightsUnavailable, match="none.json is no record of weights"):
        bundled(tmp_path / "none")
    make_evaluation(make_run(tmp_path / "run"), "clips").write(tmp_path / "results")
    with pytest.raises(errors.ConfigError, match="has none of .*tau-mmnist.*stzoo bundle"):
        record(tmp_path / "results", tmp_path)
    code, _, told = cli("record", str(tmp_path / "nothing"), "--into", str(tmp_path))
    assert code == 2 and "nothing holds no evaluation" in told
