"""The repository keeps its promises: cards and catalogue are up to date, the README runs, distributions work on their own."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from contextlib import closing
from graphlib import TopologicalSorter
from pathlib import Path

from hubserver import HubServer
from mortal import Server
from wheels import SOURCES, Environment

import stzoo
from stzoo import overview
from stzoo.training.run import Run

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|console)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_cards_are_what_the_registry_renders() -> None:
    written = {path.name: path.read_text() for path in (ROOT / "model_cards").glob("*.md")}
    rendered = overview.zoo_cards()
    assert {
        f"{model.name}.md" for model in stzoo.models(plugin="video-prediction") if not model.source
    } < rendered.keys()
    for model in stzoo.models(plugin="video-prediction"):
        assert not model.source or f"| `{model.name}` |" in rendered[overview.OFFICIAL]
    assert written.keys() == rendered.keys(), "run: make cards"
    for name, text in rendered.items():
        assert written[name] == text, f"model_cards/{name} is out of date: run make cards"


def test_the_catalogue_lists_what_the_plugins_bring() -> None:
    assert (ROOT / "stzoo" / "catalogue.json").read_text() == overview.current_catalogue(), "run: make cards"


def test_versions_are_in_one_place() -> None:
    assert re.search(rf"^## {re.escape(stzoo.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_two_files_import_each_other() -> None:
    """Of the core and of each plugin, imports inside functions and for types included; what is taken from ``stzoo`` itself is not."""
    for root in (ROOT, *(ROOT / "plugins").glob("*/src")):
        files = {
            ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
            for path in root.glob("stzoo*/**/*.py")
        }
        arrows: dict[str, set[str]] = {}
        for name, path in files.items():
            nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
            targets = {f"{node.module}.{item.name}" for node in nodes for item in node.names}
            found = {target if target in files else target.rpartition(".")[0] for target in targets}
            arrows[name] = found & files.keys() - {"stzoo", name}
        TopologicalSorter(arrows).prepare()  # raises CycleError, which names them


def test_the_readme_runs(tmp_path: Path) -> None:
    """Every Python block that is not marked, in order, then every command of the sections before the tutorial, as written.

    Marked are blocks that need other servers than the Hub.
    """
    text = (ROOT / "README.md").read_text().partition("## Write a plugin")[0]
    blocks = [(kind, mark.strip(), code) for kind, mark, code in BLOCK.findall(text)]
    python = "\n".join(code for kind, mark, code in blocks if kind == "python" and mark != "skip")
    (scripts := tmp_path / "scripts").mkdir()
    (scripts / "python.py").write_text(python)
    (scripts / "accelerate.py").write_text("from accelerate.commands.accelerate_cli import main\nmain()")
    commands = [line for kind, mark, code in blocks if kind == "console" and not mark for line in code.splitlines()]
    ran = [words for line in commands if (words := shlex.split(line[2:]))[0] in ("stzoo", "torchrun", "accelerate")]
    assert len(ran) >= 12
    said = tmp_path / "said"
    with (
        HubServer(tmp_path / "hub", tokens={"hf_me": "me"}) as hub,
        closing(Server(tmp_path, os.environ | hub.env(tmp_path / "home", "hf_me"))) as forking,
    ):
        for program, *words in (["python"], *ran):
            count = 1
            if program == "torchrun":  # which the tests of training start itself
                flag, number, *module, words = *words[:4], words[4:]
                assert [flag, *module] == ["--nproc_per_node", "-m", "stzoo"]
                count = int(number)
            script = [] if program in ("stzoo", "torchrun") else [scripts / f"{program}.py"]
            assert forking.run([*script, *words], said, processes=count) == [0] * count, (words, said.read_text())
        card = hub.read("me/tau-clips", "README.md").decode()
    recorded = json.loads((tmp_path / "runs" / "a" / "evaluation.json").read_text())
    [mine] = [model for model in recorded["models"] if not model["baseline"]]
    assert f"{mine['metrics']['mse']['value']:.6g}" in card
    assert (tmp_path / "further.gif").exists() and (tmp_path / "mine.gif").exists()
    assert Run(tmp_path / "runs" / "b").record["processes"] == 2
    for target in re.findall(r"^\$ make (\w+)", text, re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (ROOT / picture).is_file()


def test_metadata_passes_the_index_check(built: Path) -> None:
    files = sorted(map(str, built.iterdir()))
    assert len(files) == 2 * len(SOURCES)
    done = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_distributions_are_complete(built: Path) -> None:
    for wheel in built.glob("*.whl"):
        names = zipfile.ZipFile(wheel).namelist()
        assert any(name.endswith("/py.typed") for name in names)
        assert not any("test" in name.split("/")[0] for name in names)
        assert wheel.stat().st_size < 30e6
    core = zipfile.ZipFile(next(built.glob("stzoo-*.whl"))).namelist()
    assert {"stzoo/catalogue.json", "stzoo/templates/network.py.in", "stzoo/testing/conformance.py"} <= set(core)
    plugin = zipfile.ZipFile(next(built.glob("stzoo_video_prediction-*.whl"))).namelist()
    assert {"stzoo_video_prediction/weights/tau-mmnist.safetensors", "stzoo_video_prediction/data/digits.npz"} <= set(
        plugin
    )
    for archive in built.glob("*.tar.gz"):
        with tarfile.open(archive) as content:
            assert any(name.endswith("pyproject.toml") for name in content.getnames())


def test_a_wheel_works_where_nothing_of_the_repository_is(built: Path, tmp_path: Path) -> None:
    """Installed from the wheels alone: entry points, package data, bundled weights, the command."""
    environment = Environment(tmp_path / "environment", editable=False)
    environment.pip("install", "--no-index", "--no-deps", "--no-compile", *built.glob("*.whl"))
    answer = environment.ask(
        """
        import numpy, stzoo, stzoo_video_prediction
        predictor = stzoo.load("tau-mmnist", offline=True)
        clip = stzoo.dataset("moving-mnist", "test")[0]["video"]
        prediction = predictor.predict(clip[:10])
        answer = [stzoo.__file__, predictor.report.source, list(prediction.video.shape), stzoo.verify("tau-mmnist").ok]
        """,
        folder=tmp_path,
    )
    assert answer[0].startswith(str(tmp_path))
    assert answer[1:] == ["bundled", [10, 1, 64, 64], True]
    command = environment.python.with_name("stzoo")
    done = subprocess.run(
        [command, "list", "--json"], capture_output=True, text=True, cwd=tmp_path, env=environment.variables
    )
    assert done.returncode == 0
    assert "tau-mmnist" in done.stdout
