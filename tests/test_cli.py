"""The command line, run as a user runs it: exit codes, one-line errors, JSON, and what is imported for it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stzoo
from stzoo import media, registry
from stzoo.cli import _COMMANDS, main
from stzoo.spec import Requirements

HEAVY = {"torch", "numpy", "PIL", "huggingface_hub", "av", "tqdm", "argcomplete"}
TINY = {"hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2, "in_shape": (4, 1, 16, 16)}

TOY = """
import stzoo
from stzoo import Architecture, Metric, Model, Measurement, Pipeline, Requirements, Task, Weights, hookimpl
from stzoo.fields import Choice, Image, Number

@hookimpl
def stzoo_tasks():
    yield Task(
        name="comparison",
        description="Compare a picture with another",
        inputs=(Image("picture", "One"), Image("other_one", "100% of another")),
        outputs=(Image("difference"), Image("map"), Number("score")),
        options=(
            Choice("norm", "Which norm", "l1", choices=("l1", "l2")),
            Number("format", "Clashes", default=1, minimum=0),
        ),
        pipeline="toy:Compare",
    )

@hookimpl
def stzoo_architectures():
    yield Architecture("subtraction", "comparison", "toy:build", defaults={"gain": 1.0}, description="Subtracts")

@hookimpl
def stzoo_models():
    numbers = Measurement("pairs", "error", 9.0, "published"), Measurement("pairs", "error", 12.5)
    common = {"architecture": "subtraction", "metrics": numbers}
    yield Model("subtraction-pairs", weights=Weights("toy/pairs", size=2_500_000), license="cc-by-nc-4.0",
                parameters=1_200_000,
                description="Ein schönes Modell", command="train it",
                requirements=Requirements(channels=1, multiple=4), **common)
    yield Model("subtraction-empty", **common)

class Compare(Pipeline):
    def forward(self, module, batch, options):
        difference = (batch["picture"] - batch["other_one"]).abs() * options["format"]
        score = (difference if options["norm"] == "l1" else difference**2).mean(dim=(1, 2, 3))
        return {"difference": difference, "map": difference, "score": score}

    def postprocess(self, outputs, values):
        return dict(outputs)

def build(**config):
    import torch
    return torch.nn.Linear(1, 1)
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process; returns exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Makes plugins that this process finds as if they were installed."""

    def install(name: str, source: str) -> Path:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[stzoo]\n{name} = {name}\n")
        (site / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(site)
        registry._registry.cache_clear()
        return site

    yield install
    registry._registry.cache_clear()
    for name in ("toy", "broken", "other", "sleepy"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved, untrained TAU that takes 4 frames."""
    return stzoo.create("tau", **TINY).save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clip of 6 grey frames, 16x16, in several formats, and one that is too short."""
    folder = tmp_path_factory.mktemp("clips")
    clip = media.sample_clip(6, Requirements(channels=1, native_size=(16, 16)))
    for name in ("a.gif", "b.npz", "c.mp4"):
        media.write_video(clip, folder / name)
    media.write_video(clip[:2], folder / "short.npz")
    return folder


def subprocess_run(words: Sequence[object], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False
    )


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["--help", "list", "info --task video-prediction", "info --architecture tau", "plugins", "predict --help"]
)
def test_looking_around_imports_nothing_heavy(words: str) -> None:
    done = subprocess_run(["-X", "importtime", "-m", "stzoo", *words.split()])
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "stzoo" in imported
    assert not imported & HEAVY


def test_info_of_a_model_imports_nothing_heavy(plugin: Callable[[str, str], Path]) -> None:
    site = plugin("toy", TOY)
    done = subprocess_run(["-X", "importtime", "-m", "stzoo", "info", "subtraction-empty"], PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert not {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()} & HEAVY


def test_version_and_help(cli: Callable[..., tuple[int, str, str]]) -> None:
    assert cli("--version") == (0, f"stzoo {stzoo.__version__}\n", "")
    code, out, _ = cli("--help")
    assert code == 0
    for command in _COMMANDS:
        assert f"\n    {command} " in out
        code, text, _ = cli(command, "--help")
        assert code == 0
        assert "example:\n  " in text


def test_output_that_nobody_reads_ends_quietly(plugin: Callable[[str, str], Path]) -> None:
    """``stzoo list | true``."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stzoo", "list", "--tasks"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_without_unicode_still_gets_a_list(plugin: Callable[[str, str], Path]) -> None:
    site = plugin("toy", TOY)
    done = subprocess_run(
        ["-m", "stzoo", "info", "subtraction-pairs"], PYTHONPATH=str(site), PYTHONIOENCODING="ascii", HF_HUB_OFFLINE="1"
    )
    assert done.returncode == 0, done.stderr
    assert "Ein sch?nes Modell" in done.stdout


def test_interrupting_is_quiet(cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("stzoo.cli.registry", interrupted)
    assert cli("list") == (130, "", "")


# --- list and info ----------------------------------------------------------------------------------------------------


def test_list_is_a_table_with_the_measured_number_and_the_licence_marked(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]
) -> None:
    plugin("toy", TOY)
    code, out, err = cli("list", "--task", "comparison")
    header, empty, pairs, *footer = out.splitlines()
    assert (code, err) == (0, "")
    assert header.split() == ["name", "task", "params", "measured", "licence", "weights", "plugin"]
    assert pairs.split("  ")[0] == "subtraction-pairs"
    for cell in ("1.2 M", "error 12.5 (pairs)", "! cc-by-nc-4.0", "2.5 MB Hub", "toy"):
        assert cell in pairs
    assert "none" in empty
    assert footer == ["! no commercial use"]


def test_list_fits_the_terminal(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin("toy", TOY)
    monkeypatch.setenv("COLUMNS", "78")
    _, out, _ = cli("list", "--plugin", "toy")
    assert max(map(len, out.splitlines())) <= 78
    assert "subtraction-pairs " in out
    assert "…" in out


def test_list_filters(cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]) -> None:
    plugin("toy", TOY)

    def names(*words: str) -> list[str]:
        code, out, _ = cli("list", "--plugin", "toy", "--json", *words)
        assert code == 0
        return [model["name"] for model in json.loads(out)["models"]]

    assert names() == ["subtraction-empty", "subtraction-pairs"]
    assert names("--commercial") == ["subtraction-empty"]
    assert names("--query", "schönes modell") == ["subtraction-pairs"]
    assert names("--license", "CC-BY-NC-4.0") == ["subtraction-pairs"]
    assert names("--architecture", "subtraction", "--query", "nothing") == []
    assert "no model matches" in cli("list", "--query", "nothing-has-this-word")[1]


def test_models_of_known_plugins_that_are_absent_are_listed_with_the_pip_command(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"name": "sr-x2", "task": "super-resolution", "description": "Enlarges", "license": "cc-by-nc-sa-4.0"}
    known = {"sr": {"distribution": "stzoo-sr", "install": "pip install stzoo-sr", "models": [model]}}
    monkeypatch.setattr(registry, "catalogue", lambda: known)
    registry._registry.cache_clear()
    try:
        code, out, _ = cli("list", "--task", "super-resolution")
        assert code == 0
        assert "sr-x2" in out
        assert "! cc-by-nc-sa-4.0" in out
        assert "sr is not installed: pip install stzoo-sr" in out
        assert (
            json.loads(cli("list", "--plugin", "sr", "--json")[1])["not_installed"][0]["install"]
            == "pip install stzoo-sr"
        )
        assert "sr-x2" not in cli("list", "--commercial")[1]
        assert "sr-x2" not in cli("list", "--task", "video-prediction")[1]
        assert cli("info", "sr-x2")[2].endswith("Run: pip install stzoo-sr\n")
    finally:
        registry._registry.cache_clear()


def test_list_of_tasks_architectures_datasets(cli: Callable[..., tuple[int, str, str]]) -> None:
    assert "video-prediction  Predict the next frames" in cli("list", "--tasks")[1]
    assert {"simvp", "tau"} <= {
        line.split()[0] for line in cli("list", "--architectures", "--task", "video-prediction")[1].splitlines()
    }
    assert "moving-mnist" in cli("list", "--datasets")[1]
    (task,) = [
        item for item in json.loads(cli("list", "--tasks", "--json")[1])["tasks"] if item["name"] == "video-prediction"
    ]
    assert task["options"][0] | {"name": "horizon", "minimum": 1, "type": "Number"} == task["options"][0]


def test_list_warns_of_plugins_that_failed(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]
) -> None:
    plugin("broken", "import nothing_of_this_name")
    code, out, err = cli("list", "--json")
    assert code == 0
    assert json.loads(out)
    assert err == "stzoo: warning: 1 plugin failed: run stzoo doctor\n"


def test_info_of_a_model_says_everything(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin("toy", TOY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, _ = cli("info", "subtraction-pairs")
    assert code == 0
    for text in (
        "comparison: Compare a picture",
        "other_one (Image): 100% of another",
        "norm: Which norm; one of 'l1', 'l2'; default \"l1\"",
        "1 channel(s)",
        "multiples of 4",
        "1,200,000",
        "weights cc-by-nc-4.0 (no commercial use), code apache-2.0",
        "train it",
        "12.5   measured",
        "9      published",
        "not on this machine yet: stzoo pull subtraction-pairs",
        "toy (toy 1.0)",
        'stzoo.load("subtraction-pairs")',
        "stzoo predict subtraction-pairs picture.png --other-one other_one.png -o predicted.png",
    ):
        assert text in out
    data = json.loads(cli("info", "subtraction-pairs", "--json")[1])
    assert data["weights_at"] is None
    assert (data["non_commercial"], data["metrics"][1]["value"]) == (True, 12.5)


def test_info_shows_the_name_that_works_where_two_plugins_use_one(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]
) -> None:
    plugin("toy", TOY)
    plugin("other", TOY.replace('"toy:', '"other:'))
    assert "other:subtraction-empty" in cli("list", "--plugin", "other")[1]
    assert cli("info", "subtraction-empty")[0] == 2
    assert 'stzoo.create("other:subtraction")' in cli("info", "other:subtraction-empty")[1]


def test_info_of_the_rest(cli: Callable[..., tuple[int, str, str]]) -> None:
    assert (
        "in_shape: Frames, channels, native height and width; 4 positive whole numbers"
        in cli("info", "--architecture", "tau")[1]
    )
    assert "horizon: Frames to predict" in cli("info", "--task", "video-prediction")[1]
    assert 'stzoo.dataset("moving-mnist", "test")' in cli("info", "--dataset", "moving-mnist")[1]
    assert json.loads(cli("info", "--architecture", "tau", "--json")[1])["defaults"]["hid_S"]["type"] == "Number"


# --- predict ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["a.gif", "b.npz", "c.mp4"])
def test_predict_writes_what_the_python_api_predicts(
    cli: Callable[..., tuple[int, str, str]], tiny: Path, clips: Path, tmp_path: Path, source: str
) -> None:
    target = tmp_path / "future.npz"
    code, out, err = cli("predict", tiny, clips / source, "-o", target, "--horizon", 7)
    assert (code, err) == (0, "")
    assert out.startswith(f"{target}  (")
    expected = stzoo.load(tiny).predict(clips / source, horizon=7).video
    assert expected.shape == (7, 1, 16, 16)
    np.testing.assert_allclose(media.read_video(target, "video"), expected, atol=1e-6)


def test_predict_flags_may_stand_before_the_name_and_reach_the_writer(
    cli: Callable[..., tuple[int, str, str]], tiny: Path, clips: Path, tmp_path: Path
) -> None:
    from PIL import Image

    target = tmp_path / "future.gif"
    code, _, err = cli(
        "predict", "--horizon", 5, "--device=cpu", tiny, "--scale", 3, "--fps", 4, clips / "a.gif", "-o", target
    )
    assert (code, err) == (0, "")
    with Image.open(target) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (5, (48, 48), 250)  # type: ignore[attr-defined]


def test_predict_help_shows_the_options_of_the_models_task(
    cli: Callable[..., tuple[int, str, str]], tiny: Path
) -> None:
    assert "--horizon HORIZON" not in cli("predict", "--help")[1]
    code, out, _ = cli("predict", tiny, "--help")
    assert code == 0
    assert "--horizon HORIZON" in out
    assert "--fps FPS" in out


def test_predict_of_several_inputs_fills_a_folder(
    cli: Callable[..., tuple[int, str, str]], tiny: Path, clips: Path, tmp_path: Path
) -> None:
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
    command = ["predict", tiny, clips / "a.gif", clips / "b.npz", "-o", tmp_path]
    words = [sys.executable, "-m", "stzoo", *map(str, command)]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=120, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        str(tmp_path / name) for name in ("a.gif", "b.npz")
    ]
    assert "2/2" in os.read(terminal, 65536).decode()


def test_predict_with_any_task(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path], tmp_path: Path
) -> None:
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
        ("TINY a.gif -o OUT/x.gif --hrizon 3", "unrecognized arguments: --hrizon 3"),
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
    cli: Callable[..., tuple[int, str, str]],
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


def test_pull_says_where_the_weights_are(cli: Callable[..., tuple[int, str, str]], tiny: Path) -> None:
    assert cli("pull", tiny) == (0, f"{tiny}  folder  {tiny / 'model.safetensors'}\n", "")
    (found,) = json.loads(cli("pull", tiny, "--json")[1])
    assert (found["name"], len(found["sha256"])) == (str(tiny), 64)
    assert cli("pull")[0] == cli("pull", tiny, "--all")[0] == 2


def test_pull_builds_nothing(tiny: Path) -> None:
    done = subprocess_run(["-X", "importtime", "-m", "stzoo", "pull", tiny])
    assert done.returncode == 0
    assert not {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()} & {
        "torch",
        "numpy",
    }


def test_import_says_what_it_found_and_what_it_could_not_know(
    cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
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


def test_verify_exits_with_1_if_a_byte_changed(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
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


def test_lock_writes_what_load_accepts(cli: Callable[..., tuple[int, str, str]], tiny: Path, tmp_path: Path) -> None:
    assert cli("lock", tiny, "-o", tmp_path / "my.lock") == (0, f"{tmp_path / 'my.lock'}\n", "")
    assert stzoo.load(tiny, lock=tmp_path / "my.lock").report.tensors


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_plugins_lists_what_became_of_each(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]
) -> None:
    plugin("broken", "import nothing_of_this_name")
    code, out, _ = cli("plugins")
    assert code == 0
    assert "broken failed: ModuleNotFoundError" in out
    found = {item["name"]: item for item in json.loads(cli("plugins", "--json")[1])}
    assert found["video-prediction"]["counts"]["architectures"] == 2
    assert (found["broken"]["status"], found["broken"]["version"]) == ("failed", "1.0")


def test_doctor_is_content_with_a_good_installation(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STZOO_PLUGINS", "video-prediction")
    registry._registry.cache_clear()
    code, out, _ = cli("doctor")
    registry._registry.cache_clear()
    assert code == 0
    assert out.endswith("no problems\n")
    for text in ("python ", "torch ", "cache ", "STZOO_PLUGINS"):
        assert text in out


def test_doctor_shows_the_traceback_and_what_to_do(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path]
) -> None:
    plugin("broken", "import nothing_of_this_name")
    code, out, _ = cli("doctor")
    assert code == 1
    assert "Traceback (most recent call last)" in out
    assert "pip uninstall broken" in out
    assert out.endswith("1 problem\n")
    data = json.loads(cli("doctor", "--json")[1])
    (broken,) = [item for item in data["plugins"] if item["name"] == "broken"]
    assert "nothing_of_this_name" in broken["traceback"]
    assert data["environment"]["stzoo"] == stzoo.__version__


def test_doctor_names_slow_plugins_conflicts_and_configs_that_do_not_fit(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STZOO_PLUGIN_TIMEOUT", "0.3")
    plugin("toy", TOY.replace('"subtraction-empty", ', '"subtraction-empty", config={"gian": 2.0}, '))
    plugin("other", TOY.replace('"toy:', '"other:'))
    plugin("sleepy", "import time; time.sleep(5)")
    code, out, _ = cli("doctor", "--json")
    data = json.loads(out)
    assert code == 1
    assert {item["name"]: item["status"] for item in data["plugins"] if item["name"] in ("toy", "other", "sleepy")} == {
        "other": "conflict",
        "sleepy": "slow",
        "toy": "conflict",
    }
    assert data["models"] == {"toy:subtraction-empty": "architecture 'subtraction' has no 'gian'. Did you mean 'gain'?"}
    assert data["problems"] == 4
    assert "1 plugin still loading: run stzoo doctor" in cli("list")[2]


def test_new_plugin_makes_a_plugin_that_is_found(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = cli("new-plugin", "acme-frames", "--task", "video-prediction", "--folder", tmp_path)
    assert code == 0
    folder = Path(out.splitlines()[0])
    assert tmp_path in folder.parents
    assert (folder / "pyproject.toml").is_file()
    assert cli("new-plugin", "acme-frames", "--task", "video-prediction", "--folder", tmp_path)[0] == 2


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "the following arguments are required: COMMAND. See: stzoo --help"),
        ("lsit", "no command is called 'lsit'. Did you mean 'list'?"),
        ("list --task video-predicton", "no task is called 'video-predicton'. Did you mean 'video-prediction'?"),
        ("list --no-such-flag", "unrecognized arguments: --no-such-flag"),
        ("info", "one of the arguments NAME --task --architecture --dataset is required. See: stzoo info --help"),
        ("info tau --task video-prediction", "not allowed with argument"),
        ("info --architecture taau", "Did you mean 'tau'?"),
        ("import missing.pth -o somewhere", "there is no checkpoint file missing.pth"),
        ("completion tcsh", "invalid choice: 'tcsh'"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(
    cli: Callable[..., tuple[int, str, str]], words: str, problem: str
) -> None:
    code, out, err = cli(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("stzoo: error: ")
    assert problem in err


def test_tracebacks_only_when_asked_for(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Traceback" not in cli("info", "nosuch")[2]
    assert "Traceback" in cli("info", "nosuch", "-v")[2]
    assert "Traceback" in cli("-v", "info", "nosuch")[2]
    monkeypatch.setenv("STZOO_DEBUG", "1")
    assert cli("info", "nosuch")[2].endswith(cli("info", "nosuch")[2].splitlines()[-1] + "\n")
    assert "Traceback" in cli("info", "nosuch")[2]


def test_a_file_that_cannot_be_written_is_one_line(
    cli: Callable[..., tuple[int, str, str]], tiny: Path, tmp_path: Path
) -> None:
    code, _, err = cli("lock", tiny, "-o", tmp_path / "no" / "folder.lock")
    assert (code, err.count("\n")) == (2, 1)


def test_verbose_shows_the_log_and_leaves_logging_as_it_was(
    cli: Callable[..., tuple[int, str, str]], plugin: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("stzoo")
    before = (log.level, list(log.handlers))

    def pull(name: str, **_: Any) -> Any:
        log.info("%s: weights from here", name)
        return replace(found)

    from stzoo.weights import Located

    found = Located(Path("x"), "hub", "0" * 64)
    monkeypatch.setattr("stzoo.api.pull", pull)
    assert cli("pull", "a")[2] == ""
    assert cli("pull", "a", "-v")[2] == "stzoo: info: a: weights from here\n"
    assert (log.level, list(log.handlers)) == before


# --- completion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: Callable[..., tuple[int, str, str]], shell: str) -> None:
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert "stzoo" in out
    assert "_ARGCOMPLETE" in out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stzoo ver", {"verify"}),
        ("stzoo list --ta", {"--task", "--tasks"}),
        ("stzoo info --architecture ta", {"tau"}),
        ("stzoo list --task video-p", {"video-prediction"}),
        ("stzoo info subtraction-", {"subtraction-empty", "subtraction-pairs"}),
        ("stzoo predict subtraction-empty picture.png --nor", {"--norm"}),
        ("stzoo predict subtraction-empty picture.png --norm ", {"l1", "l2"}),
    ],
)
def test_completion_completes(
    plugin: Callable[[str, str], Path], tmp_path: Path, line: str, expected: set[str]
) -> None:
    site, answer = plugin("toy", TOY), tmp_path / "answer"
    done = subprocess_run(
        ["-m", "stzoo"],
        PYTHONPATH=str(site),
        _ARGCOMPLETE="1",
        _ARGCOMPLETE_IFS="\n",
        _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert done.stdout == ""
    assert {word.strip() for word in answer.read_text().split("\n") if word} == expected
