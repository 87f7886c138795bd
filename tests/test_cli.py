"""The command line, run as a user runs it: exit codes, one-line errors, JSON, and what is imported for it."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import TOY, Cli, Install, run_python

import stzoo
from stzoo import registry
from stzoo.cli import _COMMANDS

pytest_plugins = ("commandline",)

HEAVY = {"torch", "numpy", "PIL", "huggingface_hub", "av", "tqdm", "argcomplete"}


# --- starting ---------------------------------------------------------------------------------------------------------


def test_looking_around_imports_nothing_heavy(plugin: Install) -> None:
    looks = ["--help", "list", "info --task comparison", "info --architecture subtraction", "info subtraction-empty"]
    code = f"""if True:
        import sys
        from stzoo.cli import main
        for words in {[*looks, "plugins", "predict --help"]}:
            assert main(words.split()) == 0, words
            assert not sys.modules.keys() & {HEAVY}, words
    """
    done = run_python(["-c", code], PYTHONPATH=str(plugin("toy", TOY)))
    assert done.returncode == 0, done.stderr


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version") == (0, f"stzoo {stzoo.__version__}\n", "")
    code, out, _ = cli("--help")
    assert code == 0
    for command in _COMMANDS:
        assert f"\n    {command} " in out
        code, text, _ = cli(command, "--help")
        assert code == 0
        assert "example:\n  " in text


def test_output_that_nobody_reads_ends_quietly(plugin: Install) -> None:
    """``stzoo list | true``."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stzoo", "list", "--tasks"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=600,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_without_unicode_still_gets_a_list(plugin: Install) -> None:
    site = plugin("toy", TOY)
    done = run_python(
        ["-m", "stzoo", "info", "subtraction-pairs"], PYTHONPATH=str(site), PYTHONIOENCODING="ascii", HF_HUB_OFFLINE="1"
    )
    assert done.returncode == 0, done.stderr
    assert "Ein sch?nes Modell" in done.stdout


def test_interrupting_is_quiet(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("stzoo.cli.registry", interrupted)
    assert cli("list") == (130, "", "")


# --- list and info ----------------------------------------------------------------------------------------------------


def test_list_is_a_table_with_the_measured_number_and_the_licence_marked(cli: Cli, plugin: Install) -> None:
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


def test_list_fits_the_terminal(cli: Cli, plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin("toy", TOY)
    monkeypatch.setenv("COLUMNS", "78")
    _, out, _ = cli("list", "--plugin", "toy")
    assert max(map(len, out.splitlines())) <= 78
    assert "subtraction-pairs " in out
    assert "…" in out


def test_list_filters(cli: Cli, plugin: Install) -> None:
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
    cli: Cli, monkeypatch: pytest.MonkeyPatch
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


def test_list_of_tasks_architectures_datasets(cli: Cli) -> None:
    assert re.search("^video-prediction +Predict the next frames", cli("list", "--tasks")[1], re.MULTILINE)
    assert {"simvp", "tau"} <= {
        line.split()[0] for line in cli("list", "--architectures", "--task", "video-prediction")[1].splitlines()
    }
    assert "moving-mnist" in cli("list", "--datasets")[1]
    (task,) = [
        item for item in json.loads(cli("list", "--tasks", "--json")[1])["tasks"] if item["name"] == "video-prediction"
    ]
    assert task["options"][0] | {"name": "horizon", "minimum": 1, "type": "Number"} == task["options"][0]


def test_list_warns_of_plugins_that_failed(cli: Cli, plugin: Install) -> None:
    plugin("broken", "import nothing_of_this_name")
    code, out, err = cli("list", "--json")
    assert code == 0
    assert json.loads(out)
    assert err == "stzoo: warning: 1 plugin failed: run stzoo doctor\n"


def test_info_of_a_model_says_everything(cli: Cli, plugin: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin("toy", TOY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, _ = cli("info", "subtraction-pairs")
    assert code == 0
    for text in (
        "comparison: Compare a picture",
        "other_one (Image): 100% of another",
        "norm: Which norm; one of 'l1', 'l2'; default 'l1'",
        "1 channel,",
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


def test_info_shows_the_name_that_works_where_two_plugins_use_one(cli: Cli, plugin: Install) -> None:
    plugin("toy", TOY)
    given = '"subtraction-empty", config={"gain": 2.0}, '
    plugin("other", TOY.replace('"toy:', '"other:').replace('"subtraction-empty", ', given))
    assert "other:subtraction-empty" in cli("list", "--plugin", "other")[1]
    assert cli("info", "subtraction-empty")[0] == 2
    assert 'stzoo.create("other:subtraction", gain=2.0)' in cli("info", "other:subtraction-empty")[1]


def test_info_of_the_rest(cli: Cli) -> None:
    assert (
        "in_shape: Frames, channels, native height and width; 4 positive whole numbers"
        in cli("info", "--architecture", "tau")[1]
    )
    task = cli("info", "--task", "video-prediction")[1]
    assert "horizon: Frames to predict" in task
    assert "frames: Cut a longer clip into examples of this many frames; a whole number of at least 1" in task
    assert "A whole clip: the frames to see, then those to predict; read from .mp4" in task
    assert re.search(r"data folder +FOLDER/ .*\n +train/\n +NAME\.mp4 +one file for each example", task)
    assert 'stzoo.dataset("moving-mnist", "test")' in cli("info", "--dataset", "moving-mnist")[1]
    assert json.loads(cli("info", "--architecture", "tau", "--json")[1])["defaults"]["hid_S"]["type"] == "Number"


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_plugins_lists_what_became_of_each(cli: Cli, plugin: Install) -> None:
    plugin("broken", "import nothing_of_this_name")
    code, out, _ = cli("plugins")
    assert code == 0
    assert "broken failed: ModuleNotFoundError" in out
    found = {item["name"]: item for item in json.loads(cli("plugins", "--json")[1])}
    assert found["video-prediction"]["counts"]["architectures"] >= 2
    assert (found["broken"]["status"], found["broken"]["version"]) == ("failed", "1.0")


def test_doctor_is_content_with_a_good_installation(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STZOO_PLUGINS", "video-prediction")
    registry._registry.cache_clear()
    code, out, _ = cli("doctor")
    registry._registry.cache_clear()
    assert code == 0
    assert out.endswith("no problems\n")
    for text in ("python ", "torch ", "cache ", "STZOO_PLUGINS"):
        assert text in out


def test_doctor_shows_the_traceback_and_what_to_do(cli: Cli, plugin: Install) -> None:
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
    cli: Cli, plugin: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STZOO_PLUGIN_TIMEOUT", "1")
    plugin("toy", TOY.replace('"subtraction-empty", ', '"subtraction-empty", config={"gian": 2.0}, '))
    plugin("other", TOY.replace('"toy:', '"other:'))
    plugin("sleepy", "import time; time.sleep(60)")
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


def test_new_plugin_makes_a_plugin_that_is_found(cli: Cli, tmp_path: Path) -> None:
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
def test_errors_are_one_line_and_exit_with_2(cli: Cli, words: str, problem: str) -> None:
    code, out, err = cli(*words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("stzoo: error: ")
    assert problem in err


def test_tracebacks_only_when_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" not in cli("info", "nosuch")[2]
    assert "Traceback" in cli("info", "nosuch", "-v")[2]
    assert "Traceback" in cli("-v", "info", "nosuch")[2]
    monkeypatch.setenv("STZOO_DEBUG", "1")
    assert cli("info", "nosuch")[2].endswith(cli("info", "nosuch")[2].splitlines()[-1] + "\n")
    assert "Traceback" in cli("info", "nosuch")[2]


def test_a_file_that_cannot_be_written_is_one_line(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    code, _, err = cli("lock", tiny, "-o", tmp_path / "no" / "folder.lock")
    assert (code, err.count("\n")) == (2, 1)


def test_verbose_shows_the_log_and_leaves_logging_as_it_was(
    cli: Cli, plugin: Install, monkeypatch: pytest.MonkeyPatch
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
def test_completion_prints_a_script(cli: Cli, shell: str) -> None:
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
        ("stzoo info subtraction-", {"subtraction-empty", "subtraction-pairs"}),
        ("stzoo predict subtraction-empty picture.png --norm ", {"l1", "l2"}),
    ],
)
def test_completion_completes(plugin: Install, tmp_path: Path, line: str, expected: set[str]) -> None:
    site, answer = plugin("toy", TOY), tmp_path / "answer"
    done = run_python(
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
