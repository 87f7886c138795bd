"""Models that others publish: one command brings, checks and converts them; then they load like any other."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import TINY, Cli, Install
from webserver import WebServer

import stzoo
from stzoo import api, cards, errors, formats, imported, imports, overview, retries, tensorfile
from stzoo.spec import Source
from stzoo.ui import space

pytest_plugins = ("commandline",)

CLIP = torch.linspace(0, 1, 4 * 256).view(4, 1, 16, 16)
NAME = "tau-rain.lab"

PLUGIN = """
from stzoo import Measurement, Model, Source, hookimpl

@hookimpl
def stzoo_models():
    def row(name, file, license="mit", config={}, **more):
        return Model(name, "tau", config={**CONFIG, **config}, source=Source("ADDRESS/w/" + file, **more), license=license,
                     trained_on="rain", metrics=(Measurement("rain", "mse", 12.5, "published", "the paper"),))
    yield row("tau-rain.lab", "tau.pth")
    yield row("tau-rain.lab-ckpt", "tau.ckpt", "cc-by-nc-4.0")
    yield row("tau-rain.lab-deep", "tau.pth", config={"N_T": 3})
    yield row("tau-rain.lab-pinned", "tau.pth", sha256="0" * 64)
    yield row("tau-rain.lab-sized", "tau.pth", size=7)
"""


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def network() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = stzoo.create("tau", **TINY).module.state_dict()
    return state


def pickled(content: Any) -> bytes:
    torch.save(content, buffer := io.BytesIO())
    return buffer.getvalue()


@pytest.fixture
def zoo(
    web: WebServer,
    network: Mapping[str, torch.Tensor],
    plugin: Install,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> WebServer:
    """A plugin whose models a web server publishes, and an empty cache."""
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retries, "BACKOFF", 0.01)
    web.files["/w/tau.pth"] = pickled(dict(network))
    web.files["/w/tau.ckpt"] = pickled({"state_dict": {f"model.{key}": value for key, value in network.items()}})
    plugin("lab", PLUGIN.replace("ADDRESS", web.address).replace("CONFIG", repr(TINY)))
    return web


# --- by name ----------------------------------------------------------------------------------------------------------


def test_loading_before_importing_says_what_to_run_and_the_licence(zoo: WebServer, cli: Cli) -> None:
    for use in (stzoo.load, stzoo.pull, stzoo.verify, lambda name: stzoo.evaluate(name, "moving-mnist")):
        with pytest.raises(errors.WeightsUnavailable, match=r"licence mit\)\. Run: stzoo import tau-rain.lab$"):
            use(NAME)
    with pytest.raises(errors.WeightsUnavailable, match="licence cc-by-nc-4.0, no commercial use"):
        stzoo.load("tau-rain.lab-ckpt")
    code, _, err = cli("predict", NAME, "x.gif", "-o", "y.gif")
    assert code == 2
    assert err.endswith(f"Run: stzoo import {NAME}\n")
    assert zoo.requests == [], "nothing is downloaded that nobody asked for"


def test_one_command_and_the_model_loads_like_any_other(
    zoo: WebServer, cli: Cli, network: Mapping[str, torch.Tensor], tmp_path: Path
) -> None:
    code, out, err = cli("import", NAME)
    assert (code, err) == (0, "")
    for text in (NAME, "hid_S=4", "every one used", "licence mit", f"stzoo predict {NAME}"):
        assert text in out
    zoo.files.clear()
    predictor = stzoo.load(NAME, offline=True)
    assert (predictor.report.source, predictor.report.name) == ("imported", NAME)
    assert Path(predictor.report.path).suffix == ".safetensors"
    assert all(torch.equal(value, network[key]) for key, value in predictor.module.state_dict().items())
    assert stzoo.verify(NAME).checks == {"sha256": "ok", "tensors": "ok", "fingerprint": "ok"}
    with zoo_closed(zoo):
        assert cli("import", NAME)[0] == 0
        assert stzoo.import_checkpoint(NAME).report.source == "imported"
    written = stzoo.lock([NAME], tmp_path / "stzoo.lock")
    assert stzoo.load(NAME, lock=written).report.sha256 == predictor.report.sha256


def zoo_closed(zoo: WebServer) -> Any:
    """No request is made in this block."""
    from contextlib import contextmanager

    @contextmanager
    def block() -> Iterator[None]:
        before = len(zoo.requests)
        yield
        assert len(zoo.requests) == before

    return block()


def test_a_fine_tuned_or_saved_copy_knows_where_it_comes_from(zoo: WebServer, tmp_path: Path) -> None:
    predictor = stzoo.import_checkpoint(NAME)
    entry = json.loads((predictor.save(tmp_path / "copy") / "config.json").read_text())["stzoo"]
    assert (entry["license"], entry["base_model"], entry["name"]) == ("mit", NAME, NAME)
    assert "| Base model | tau-rain.lab |" in (tmp_path / "copy" / "README.md").read_text()
    assert stzoo.verify(tmp_path / "copy").ok


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}, "global_step": 7},
        lambda state: {f"module.{key}": value for key, value in state.items()},
    ],
    ids=["bare", "training", "lightning", "ddp"],
)
def test_every_official_layout(
    zoo: WebServer,
    network: Mapping[str, torch.Tensor],
    wrap: Callable[[dict[str, torch.Tensor]], dict[str, Any]],
) -> None:
    zoo.files["/w/tau.pth"] = pickled(wrap(dict(network)))
    predictor = stzoo.import_checkpoint(NAME)
    expected = stzoo.create("tau", **TINY)
    expected.module.load_state_dict(network)
    np.testing.assert_array_equal(predictor.predict(CLIP).video, expected.predict(CLIP).video)


def test_a_licence_without_commercial_use_is_shown_before_the_download(
    zoo: WebServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    warn = imports.log.log
    monkeypatch.setattr(imports.log, "log", lambda *words: (shown.append(len(zoo.requests)), warn(*words)))
    err = cli("import", "tau-rain.lab-ckpt")[2]
    assert "comes from" in err and "licence cc-by-nc-4.0, no commercial use" in err
    assert shown == [0]


def test_a_file_that_is_not_what_the_zoo_says_is_refused(zoo: WebServer, tmp_path: Path) -> None:
    with pytest.raises(errors.FormatError, match="is not the tau-rain.lab-deep of the zoo: .*N_T is 2, not 3"):
        stzoo.import_checkpoint("tau-rain.lab-deep")
    with pytest.raises(errors.WeightsCorrupted, match="the zoo knows it with 000"):
        stzoo.import_checkpoint("tau-rain.lab-pinned")
    with pytest.raises(errors.DownloadError, match="7 are expected"):
        stzoo.import_checkpoint("tau-rain.lab-sized")
    other = stzoo.create("simvp", **TINY).module.state_dict()
    zoo.files["/w/tau.ckpt"] = pickled(dict(other))
    with pytest.raises(errors.FormatError, match="was not recognised"):
        stzoo.import_checkpoint("tau-rain.lab-ckpt")
    assert not list((tmp_path / "cache" / "imported").rglob("*.safetensors")), "nothing was converted"


def test_a_file_that_is_no_checkpoint_is_not_what_is_expected_ever_after(zoo: WebServer) -> None:
    good, zoo.files["/w/tau.pth"] = zoo.files["/w/tau.pth"], b'{"error": "try later"}'
    with pytest.raises(errors.FormatError, match="is not a readable PyTorch checkpoint|more than tensors"):
        stzoo.import_checkpoint(NAME)
    zoo.files["/w/tau.pth"] = good
    assert stzoo.import_checkpoint(NAME).report.source == "imported"


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_code_in_a_pickle_is_not_executed(zoo: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.files["/w/tau.pth"] = pickled({"state_dict": {"a": torch.zeros(1)}, "hook": Evil()})
    for what in (NAME, f"{zoo.address}/w/tau.pth"):
        with pytest.raises(errors.FormatError, match="does not execute pickles"):
            stzoo.import_checkpoint(what)
    assert "executed" not in capsys.readouterr().out


def test_converted_weights_that_were_changed_are_refused_and_made_again(zoo: WebServer) -> None:
    path = Path(stzoo.import_checkpoint(NAME).report.path)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    with pytest.raises(errors.WeightsCorrupted, match=f"Run: stzoo import {NAME}"):
        stzoo.load(NAME)
    assert not stzoo.verify(NAME).ok
    with zoo_closed(zoo):
        stzoo.import_checkpoint(NAME)
    assert path.read_bytes() == good, "the same bytes: conversion is deterministic"


def test_a_model_whose_record_changed_is_imported_again(
    zoo: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataclasses import replace

    stzoo.import_checkpoint(NAME)
    model = stzoo.info(NAME)
    assert imported.record_of(model)
    for changed in (
        replace(model, config={**model.config, "drop_path": 0.5}),
        replace(model, source=Source("https://elsewhere.org/tau.pth")),
        replace(model, source=replace(model.source, sha256="0" * 64)),
    ):
        assert imported.record_of(changed) is None
    next((tmp_path / "cache" / "imported").rglob("*.json")).write_text("{")
    assert imported.record_of(model) is None


def test_two_at_once_convert_once(zoo: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = formats.read_checkpoint
    monkeypatch.setattr(formats, "read_checkpoint", lambda path, *rest: (read.append(path), original(path, *rest))[1])
    zoo.wrongs = [("slow", 0.3)]
    model = stzoo.info(NAME)
    threads = [threading.Thread(target=imports.bring, args=(model,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(read), len(zoo.requests)) == (1, 1)


# --- addresses and files ----------------------------------------------------------------------------------------------


def test_an_address_is_read_like_a_file(zoo: WebServer, cli: Cli, tmp_path: Path) -> None:
    imported = stzoo.import_checkpoint(f"{zoo.address}/w/tau.ckpt", drop_path=0.5)
    assert (imported.report.source, imported.report.name) == ("checkpoint", "tau")
    assert imported.config["drop_path"] == 0.5
    assert imported.report.notes
    path, stored = tmp_path / "own.safetensors", tmp_path / "copy"
    tensorfile.write(imported.module.state_dict(), path, {})
    zoo.files["/w/own.safetensors"] = path.read_bytes()
    assert cli("import", f"{zoo.address}/w/own.safetensors", "-o", stored)[0] == 0
    assert stzoo.load(stored).architecture.name == "tau"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("tau.pth",), "there is no place to write to. Add -o FOLDER"),
        (("lab/nets", "-o", "y"), "there is no checkpoint file lab/nets. One on the Hub is hf://owner/name/FILE"),
        (("tau-rain.lib",), "no model is called 'tau-rain.lib'. Did you mean 'tau-rain.lab'"),
        (("tau-mmnist",), 'tau-mmnist is not a checkpoint to be imported. stzoo.load("tau-mmnist") loads it'),
        (("ftp://x.org/a.pth", "-o", "y"), "files are not fetched by ftp"),
        (("hf://x/a.pth", "-o", "y"), "names no file on the Hub"),
        ((NAME, "--set", "hid_S=5"), "the zoo knows the architecture and the config"),
        ((NAME, "--architecture", "tau"), "the zoo knows the architecture and the config"),
    ],
)
def test_what_cannot_be_imported(zoo: WebServer, cli: Cli, words: tuple[str, ...], problem: str) -> None:
    code, out, err = cli("import", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert problem in err
    assert zoo.requests == []


def test_other_weights_and_revisions_do_not_apply(zoo: WebServer) -> None:
    for options in ({"revision": "main"}, {"weights": "x.safetensors"}):
        with pytest.raises(errors.ConfigError, match="it has no revision and no other weights"):
            stzoo.load(NAME, **options)


# --- wherever models are shown ----------------------------------------------------------------------------------------


def test_lists_and_pages_say_what_is_to_be_imported(zoo: WebServer, cli: Cli) -> None:
    *rows, mark, note = cli("list", "--plugin", "lab")[1].splitlines()
    assert all("to import" in row for row in rows[1:])
    assert mark == "! no commercial use"
    assert note == "to import: others publish it; stzoo import NAME brings and converts it"
    page = cli("info", NAME)[1]
    for text in (f"stzoo import {NAME}", f"{zoo.address}/w/tau.pth", "was not imported yet", "12.5   published"):
        assert text in page
    assert json.loads(cli("info", NAME, "--json")[1])["imported"] is False
    stzoo.import_checkpoint(NAME)
    assert "imported" in next(
        row for row in cli("list", "--plugin", "lab")[1].splitlines() if row.startswith(f"{NAME} ")
    )
    assert "imported: " in cli("info", NAME)[1]
    assert json.loads(cli("info", NAME, "--json")[1])["imported"] is True


def test_everything_that_takes_all_models_leaves_them_out(zoo: WebServer, cli: Cli) -> None:
    assert "lab" not in cli("pull", "--all", "--offline")[1]
    shown = space.chosen(["video-prediction"])
    assert shown and not any(model.source for model in shown)
    with pytest.raises(errors.InputError, match="a Space cannot bring what others publish: tau-rain.lab"):
        space.render([NAME])
    stzoo.import_checkpoint(NAME)
    assert NAME in [model.name for model in space.chosen(["video-prediction"], imported.usable)]


def test_the_demo_shows_those_that_were_imported(zoo: WebServer) -> None:
    from stzoo.ui import gallery

    assert not any(entry.model.source for entry in gallery.demo().entries)
    stzoo.import_checkpoint(NAME)
    assert [entry.name for entry in gallery.demo().entries if entry.model.source] == [NAME]
    assert [entry.name for entry in gallery.demo("tau-rain.lab-ckpt").entries] == ["tau-rain.lab-ckpt"]


def test_cards(zoo: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = cards.model_card(stzoo.info("tau-rain.lab-ckpt"))
    for fact in (
        "no commercial use",
        f"[tau.ckpt]({zoo.address}/w/tau.ckpt)",
        "stzoo import tau-rain.lab-ckpt",
        "12.5",
    ):
        assert fact in text
    assert "model-index" not in text, "published numbers are not ours"
    monkeypatch.setattr(overview, "catalogue", lambda: {"lab": {"install": "", "models": []}})
    [(name, table)] = overview.zoo_cards().items()
    assert name == overview.OFFICIAL
    assert table.count("\n| `tau-rain.lab") == 5
    assert f"| mit | [tau.pth]({zoo.address}/w/tau.pth) |" in table


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"url": "tau.pth"}, "is not an address"),
        ({"url": "file:///tau.pth"}, "is not an address"),
        ({"url": "https://x.org/tau.pth", "sha256": "12"}, "is not a sha256"),
    ],
)
def test_sources_are_checked(source: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.SpecError, match=message):
        Source(**source)


def test_a_model_has_weights_or_a_source_and_then_a_licence() -> None:
    there = Source("https://x.org/tau.pth")
    with pytest.raises(errors.SpecError, match="license"):
        stzoo.Model("a", "tau", source=there)
    with pytest.raises(errors.SpecError, match="source"):
        stzoo.Model("a", "tau", source=there, weights=stzoo.Weights("a/b"), license="mit")


def test_the_official_rows_are_accepted_by_their_architectures() -> None:
    rows = [model for model in stzoo.models(plugin="video-prediction") if model.source]
    assert len(rows) > 70
    assert {"tau-mmnist.openstl", "simvp-mmnist.openstl-ep2000", "convlstm-mmnist.openstl"} <= {
        row.name for row in rows
    }
    assert len({row.source.url for row in rows}) == len(rows)
    assert stzoo.info("convlstm-mmnist.openstl-ep200").config["cell"] == "v0.3"
    for row in rows:
        assert api.registry().architecture_of(row).validate(row.config)
