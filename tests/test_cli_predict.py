"""``stzoo predict``, ``pull``, ``import``, ``verify`` and ``lock``, run as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from commandline import TINY, TOY, Cli, Install, run_python
from hubserver import HubServer

import stzoo
from stzoo import media
from stzoo.requirements import Requirements

pytest_plugins = ("commandline",)

BUNDLE = """
from stzoo import Model, Weights, hookimpl

@hookimpl
def stzoo_models():
    weights = Weights("me/tau-bundled", **{record})
    yield Model("tau-bundled", "tau", config={config}, weights=weights, license="mit")
"""


# --- predict ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["a.gif", "b.npz", "c.mp4"])
def test_predict_writes_what_the_python_api_predicts(
    cli: Cli, tiny: Path, clips: Path, tmp_path: Path, source: str
) -> None:
    target = tmp_path / "future.npz"
    code, out, err = cli("predict", tiny, clips / source, "-o", target, "--horizon", 7)
    assert (code, err) == (0, "")
    assert out.startswith(f"{target}  (")
    expected = stzoo.load(tiny).predict(clips / source, horizon=7).video
    assert expected.shape == (7, 1, 16, 16)
    np.testing.assert_allclose(media.read_video(target, "video"), expected, atol=1e-6)


def test_predict_flags_may_stand_before_the_name_and_reach_the_writer(
    cli: Cli, tiny: Path, clips: Path, tmp_path: Path
) -> None:
    import av

    target = tmp_path / "future.mp4"
    before, after = ["--horizon", 5, "--device=cpu"], ["--scale", 3, "--fps", 4]
    assert cli("predict", *before, tiny, *after, clips / "a.gif", "-o", target)[::2] == (0, "")
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.height, stream.average_rate) == (5, 48, 48, 4)


def test_predict_help_shows_the_options_of_the_models_task(cli: Cli, tiny: Path) -> None:
    assert "--horizon HORIZON" not in cli("predict", "--help")[1]
    code, out, _ = cli("predict", tiny, "--help")
    assert code == 0
    assert "--horizon HORIZON" in out
    assert "--fps FPS" in out


def test_predict_of_several_inputs_fills_a_folder(cli: Cli, tiny: Path, clips: Path, tmp_path: Path) -> None:
    inputs = [clips / "a.gif", clips / "b.npz"]
    code, out, err = cli("predict", tiny, *inputs, "-o", tmp_path / "new", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert [item["outputs"]["video"]["path"] for item in report["predictions"]] == [
        str(tmp_path / "new" / name) for name in ("a.gif", "b.npz")
    ]
    assert report["predictions"][0]["outputs"]["video"]["shape"] == [4, 1, 16, 16]
    assert report["model"]["source"] == "folder"
    code, _, _ = cli("predict", tiny, *inputs, "-o", tmp_path / "pictures", "--format", "png", "--batch-size", 2)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.png", "b.png"]


def test_progress_is_shown_on_a_terminal_and_never_in_the_output(tiny: Path, clips: Path, tmp_path: Path) -> None:
    terminal, stderr = os.openpty()
    termios.tcsetwinsize(stderr, (24, 80))
    os.set_blocking(terminal, False)
    words = ["-m", "stzoo", "predict", tiny, clips / "a.gif", clips / "b.npz", "-o", tmp_path]
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120, check=True)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    os.close(stderr)
    assert "0/2 [" in shown
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(tmp_path / "a.gif"), str(tmp_path / "b.npz")]


def test_predict_with_any_task(cli: Cli, plugin: Install, tmp_path: Path) -> None:
    """Further inputs, clashing names, several outputs, an output that is a number: all from the task's declaration."""
    plugin("toy", TOY)
    model = stzoo.create("subtraction", device="cpu").save(tmp_path / "model")
    for name, value in (("white", 1.0), ("grey", 0.6)):
        np.save(tmp_path / f"{name}.npy", np.full((1, 8, 8), value, np.float32))
    words = [
        "predict",
        model,
        tmp_path / "white.npy",
        "--other-one",
        tmp_path / "grey.npy",
        "-o",
        tmp_path / "d.npy",
        "--norm",
        "l2",
    ]
    code, out, err = cli(*words, "--option-format", "2")
    assert (code, err) == (0, "")
    assert np.load(tmp_path / "d.npy").max() == pytest.approx(0.8)
    assert np.load(tmp_path / "d-map.npy").max() == pytest.approx(0.8)
    assert "white.npy: score 0.64" in out
    assert json.loads(cli(*words, "--json")[1])["predictions"][0]["outputs"]["score"]["value"] == pytest.approx(0.16)
    code, _, err = cli(*words[:-1], "l3")
    assert (code, err) == (
        2,
        "stzoo: error: argument --norm: 'l3' must be one of 'l1', 'l2'. See: stzoo predict --help\n",
    )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("TINY a.gif", "Add -o FILE, ending in one of .mp4"),
        ("TINY a.gif -o a.gif", "would overwrite an input"),
        ("TINY a.gif b.npz -o OUT/x.gif", "several inputs cannot all be written to the file"),
        ("TINY a.gif a.gif -o OUT", "would overwrite an input or another output"),
        ("TINY a.gif -o OUT/x.tiff", "cannot write video as 'x.tiff'. Endings: .mp4"),
        ("TINY a.gif -o OUT/no/x.gif", "there is no folder"),
        ("TINY a.gif -o OUT/x.gif --format png", "--format is for output folders"),
        ("TINY a.gif -o OUT/x.gif --horizon 0", "argument --horizon: '0' must be a whole number from 1 to 10000"),
        ("TINY a.gif -o OUT/x.gif --hrizon 3", "unrecognized arguments: --hrizon 3. Did you mean '--horizon'?"),
        ("TINY a.gif -o OUT/x.gif --batch-size 0", "argument --batch-size: '0' must be a whole number of at least 1"),
        ("TINY a.gif -o OUT/x.gif --device abacus", "device='abacus' cannot be used here"),
        ("TINY a.gif -o OUT/x.gif --dtype int8", "dtype='int8' is not a floating-point type"),
        ("TINY none.gif -o OUT/x.gif", "there is no file none.gif"),
        ("TINY short.npz -o OUT/x.gif", "2 frames, the model needs 4 (short.npz)"),
        ("tua a.gif -o OUT/x.gif", "no model is called 'tua'"),
        ("./tua a.gif -o OUT/x.gif", "there is no folder ./tua"),
    ],
)
def test_predict_errors_are_one_line(
    cli: Cli,
    tiny: Path,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    problem: str,
) -> None:
    monkeypatch.chdir(clips)
    before = {path: path.read_bytes() for path in clips.iterdir()}
    code, out, err = cli("predict", *words.replace("TINY", str(tiny)).replace("OUT", str(tmp_path)).split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("stzoo: error: ")
    assert problem in err
    assert {path: path.read_bytes() for path in clips.iterdir()} == before


# --- weights, checkpoints ---------------------------------------------------------------------------------------------


def test_pull_says_where_the_weights_are(cli: Cli, tiny: Path) -> None:
    assert cli("pull", tiny) == (0, f"{tiny}  folder  {tiny / 'model.safetensors'}\n", "")
    (found,) = json.loads(cli("pull", tiny, "--json")[1])
    assert (found["name"], len(found["sha256"])) == (str(tiny), 64)
    assert cli("pull")[0] == cli("pull", tiny, "--all")[0] == 2


def test_bundled_weights_are_used_and_named(
    cli: Cli, plugin: Install, tiny: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tiny / "model.safetensors"
    record = {"sha256": stzoo.pull(tiny).sha256, "size": weights.stat().st_size, "bundled": "weights/tau.safetensors"}
    site = plugin("bundle", BUNDLE.format(config=TINY, record=record))
    copy = site / "bundle" / "weights" / "tau.safetensors"
    copy.parent.mkdir()
    shutil.copy(weights, copy)
    assert "kB bundled" in cli("list", "--plugin", "bundle")[1]
    assert f"bundled: {copy}" in cli("info", "tau-bundled")[1]
    assert json.loads(cli("info", "tau-bundled", "--json")[1])["weights_at"]["path"] == str(copy)
    code, out, err = cli("pull", "tau-bundled", "-v")
    assert (code, out) == (0, f"tau-bundled  bundled  {copy}\n")
    assert err.startswith("stzoo: info: tau-bundled: weights from bundled")
    words = ["predict", "tau-bundled", clips / "a.gif", "-o", tmp_path / "future.npz", "--json"]
    assert json.loads(cli(*words)[1])["model"]["source"] == "bundled"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    copy.write_bytes(copy.read_bytes()[:-1])
    code, _, err = cli("pull", "tau-bundled")
    assert code == 2
    assert "the bundled weights of 'tau-bundled'" in err.splitlines()[-1]
    assert "damaged" in cli("info", "tau-bundled")[1]


def test_a_repo_on_the_hub_is_pulled_once_and_predicted_offline(tiny: Path, clips: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        hub.put("me/tau", {path.name: path for path in tiny.iterdir()})
        environment = hub.env(tmp_path / "home")
        shown = run_python(["-m", "stzoo", "predict", "me/tau", "--help"], **environment)
        assert "--horizon HORIZON" in shown.stdout
        assert not hub.seen("safetensors")
        first, second = (run_python(["-m", "stzoo", "pull", "me/tau", "--json"], **environment) for _ in range(2))
        assert [json.loads(done.stdout)[0]["source"] for done in (first, second)] == ["hub", "hub cache"]
        assert first.stderr == ""
        missing = run_python(["-m", "stzoo", "pull", "me/nothing"], **environment)
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
        hub.requests.clear()
        target = tmp_path / "future.gif"
        done = run_python(
            ["-m", "stzoo", "predict", "me/tau", clips / "a.gif", "-o", target, "--offline"], **environment
        )
        assert done.returncode == 0, done.stderr
        assert target.is_file()
        assert not hub.requests


def test_pull_builds_nothing(tiny: Path) -> None:
    done = run_python(["-X", "importtime", "-m", "stzoo", "pull", tiny])
    assert done.returncode == 0
    assert not {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()} & {
        "torch",
        "numpy",
    }


def test_import_says_what_it_found_and_what_it_could_not_know(cli: Cli, tmp_path: Path) -> None:
    import torch

    original = stzoo.create("tau", **TINY)
    torch.save(original.module.state_dict(), tmp_path / "official.pth")
    words = [
        "import",
        tmp_path / "official.pth",
        "-o",
        tmp_path / "mine",
        "--architecture",
        "tau",
        "--set",
        "in_shape=4,1,16,16",
    ]
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    assert "architecture  tau" in out
    assert "hid_S=4" in out
    assert "not known" in out
    frames = media.sample_clip(4, Requirements(channels=1, native_size=(16, 16)))
    imported = stzoo.load(tmp_path / "mine")
    np.testing.assert_array_equal(imported.predict(frames).video, original.predict(frames).video)
    assert "no 'hidden'" in cli(*words, "--set", "hidden=3")[2]
    assert "does not set a key" in cli(*words, "--set", "architecture=tau")[2]


def test_verify_exits_with_1_if_a_byte_changed(cli: Cli, tmp_path: Path) -> None:
    folder = stzoo.create("tau", **TINY).save(tmp_path / "model")
    assert cli("verify", folder)[0] == 0
    result = json.loads(cli("verify", folder, "--json")[1])[0]
    assert (result["ok"], result["checks"]["fingerprint"]) == (True, "ok")
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    code, out, _ = cli("verify", folder)
    assert code == 1
    assert f"{folder}: sha256 " in out
    assert cli("verify", tmp_path / "nothing")[0] == 2


def test_lock_writes_what_load_accepts(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    assert cli("lock", tiny, "-o", tmp_path / "my.lock") == (0, f"{tmp_path / 'my.lock'}\n", "")
    assert stzoo.load(tiny, lock=tmp_path / "my.lock").report.tensors
