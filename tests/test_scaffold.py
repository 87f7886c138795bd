"""``stzoo new-plugin``: what it writes can be installed as it is and passes the conformance tests."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import pytest
import wheels
from wheels import Environment

from stzoo import errors
from stzoo.registry import registry
from stzoo.scaffold import new_plugin
from stzoo.spec import Task

README = Path(__file__).parent.parent / "README.md"
ABSENT = {
    "it needs its input as a whole",
    "no model of the plugin has weights",
    "no model of the plugin is published by others",
    "no architecture of the plugin has a recipe",
    "no architecture of the plugin reads foreign checkpoints",
}
"""Why the conformance tests leave something out in a new plugin."""


def test_what_is_written(tmp_path: Path) -> None:
    folder = new_plugin("acme-rain", "video-prediction", tmp_path / "made")
    assert folder == tmp_path / "made" / "acme-rain"
    written = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert written == ["pyproject.toml", "stzoo_acme_rain/__init__.py", "stzoo_acme_rain/network.py"]
    assert [path.name for path in folder.parent.iterdir()] == ["acme-rain"], "no temporary files stay behind"
    network = (folder / "stzoo_acme_rain" / "network.py").read_text()
    assert "def forward(self, video: Tensor) -> Tensor:" in network
    assert "float32 array (T, C, H, W), values in [0, 1]" in network, "the task's fields are explained"
    assert '"stzoo-video-prediction"' in (folder / "pyproject.toml").read_text(), "the task's plugin is required"


@pytest.mark.parametrize(
    "name", ["Acme", "acme rain", "acme--rain", "1acme", "-acme", "", "../acme", "class", "acme_rain"]
)
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.PluginError, match="cannot be a plugin's name"):
        new_plugin(name, "video-prediction", tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(errors.PluginError, match="'tau' is taken"):
        new_plugin("tau", "video-prediction", tmp_path)
    with pytest.raises(errors.PluginError, match="'video-prediction' is taken"):
        new_plugin("video-prediction", "video-prediction", tmp_path)
    with pytest.raises(errors.UnknownTask, match="Did you mean 'video-prediction'"):
        new_plugin("acme-rain", "video-predicton", tmp_path)
    precious = tmp_path / "acme-rain" / "precious"
    precious.mkdir(parents=True)
    with pytest.raises(errors.PluginError, match="exists"):
        new_plugin("acme-rain", "video-prediction", tmp_path)
    assert precious.is_dir()


@pytest.mark.parametrize(
    ("task", "forward"),
    [
        ("segmentation", "image: Tensor) -> Tensor"),
        ("depth-super-resolution", "depth: Tensor, guide: Tensor | None = None) -> Tensor"),
    ],
)
def test_what_is_optional_need_not_be_given(tmp_path: Path, task: str, forward: str) -> None:
    network = (new_plugin("acme-some", task, tmp_path) / "stzoo_acme_some" / "network.py").read_text()
    assert f"def forward(self, {forward}:" in network
    assert "instances" not in network
    assert registry().get(Task, task).pipeline in network


def test_it_can_be_packaged(tmp_path: Path) -> None:
    folder = new_plugin("acme-rain", "video-prediction", tmp_path)
    environment = Environment(tmp_path / "environment")
    environment.pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, folder)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {"stzoo_acme_rain/__init__.py", "stzoo_acme_rain/network.py"} <= set(names)


def test_a_task_of_a_third_party_with_several_fields(tmp_path: Path) -> None:
    source = """\
        from stzoo import Task, hookimpl
        from stzoo.fields import Image

        @hookimpl
        def stzoo_tasks():
            yield Task("fusion", "Merge", (Image("near"), Image("far", "The far focus")), (Image("sharp"), Image("depth")))
        """
    environment = Environment(tmp_path / "environment")
    environment.install(wheels.plugin(tmp_path, "acme-fusion", source))
    answer = environment.ask(
        f"""
        import sys
        from stzoo.scaffold import new_plugin
        folder = new_plugin("acme-merge", "fusion", {str(tmp_path)!r})
        sys.path.insert(0, str(folder))
        import torch
        from stzoo_acme_merge.network import Network
        network, picture = Network(3, 4), torch.rand(2, 3, 9, 8)
        answer = [list(output.shape) for output in network(picture, picture)], (folder / "pyproject.toml").read_text()
        """
    )
    assert answer[0] == [[2, 3, 9, 8]] * 2
    assert '"acme-fusion"' in answer[1]


def test_the_tutorial(tmp_path: Path) -> None:
    """Everything that the README says about writing a plugin, done in the order in which it is said; it passes its tests."""
    section = README.read_text().partition("\n## Write a plugin\n")[2].partition("\n## ")[0]
    environment, tested = Environment(tmp_path / "environment"), False
    for language, block in re.findall(r"```(console|python).*?\n(.*?)```", section, re.DOTALL):
        commands = (
            [["python", "-c", block]]
            if language == "python"
            else [shlex.split(line[2:]) for line in block.splitlines()]
        )
        for command in commands:
            folder = tmp_path
            if command[0] == "cd":
                folder, command = tmp_path / command[1], command[3:]
            if command[:2] == ["pip", "install"]:
                options = ["--no-index", "--no-deps", "--no-build-isolation"]
                environment.pip(
                    "install", *options, *(str(tmp_path / word) if word[0] != "-" else word for word in command[2:])
                )
                continue
            arguments = command[1:] if command[0] == "python" else ["-m", *command]
            done = environment.run(*arguments, folder=folder, PYTEST_ADDOPTS="-rs -p no:cacheprovider")
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            if command == ["pytest"]:
                assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 25
                assert set(re.findall(r"SKIPPED .*?: (.*)", done.stdout)) == ABSENT
                tested = True
    assert tested
    assert (tmp_path / "rain.gif").stat().st_size
    assert (tmp_path / "acme-rain-weights" / "model.safetensors").is_file()
