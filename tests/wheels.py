"""Real distributions: tiny wheels, and virtual environments that pip installs them into."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
INFO = """\
Metadata-Version: 2.1
Name: {name}
Version: {version}
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: stzoo-tests
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build(
    folder: Path,
    name: str,
    files: Mapping[str, str | bytes],
    entry: Mapping[str, str] | None = None,
    version: str = "1.0",
) -> Path:
    """Write the wheel of a distribution; ``files`` by path, ``entry`` points of the group ``stzoo`` by plugin name."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    points = "[stzoo]\n" + "".join(f"{plugin} = {module}\n" for plugin, module in (entry or {}).items())
    content = {path: dedent(text).encode() if isinstance(text, str) else text for path, text in files.items()}
    content |= {
        f"{info}/METADATA": INFO.format(name=name, version=version).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
        f"{info}/entry_points.txt": points.encode(),
    }
    record = ""
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return wheel


def plugin(folder: Path, name: str, source: str, *, plugin_name: str = "", **files: str | bytes) -> Path:
    """The wheel of a one-module plugin: the distribution, its plugin and its module are all called ``name``.

    Further ``files``: suffix-less module names inside the same wheel.
    """
    module = name.replace("-", "_")
    modules = {f"{other}.py": text for other, text in files.items()}
    return build(folder, name, {f"{module}.py": source, **modules}, {plugin_name or name: module})


DISTRIBUTE = """
import os, sys, tarfile
from setuptools import build_meta

folder, unpacked = sys.argv[1:]
archive = build_meta.build_sdist(folder)
with tarfile.open(os.path.join(folder, archive)) as content:
    content.extractall(unpacked, filter="data")
os.chdir(os.path.join(unpacked, archive.removesuffix(".tar.gz")))
build_meta.build_wheel(folder)
"""
"""What ``python -m build --no-isolation`` does, in one process instead of six."""


def distributions(folder: Path) -> Path:
    """Build source distributions of everything in the repository, and wheels from them; returns ``folder``."""
    for source in SOURCES:
        with tempfile.TemporaryDirectory() as unpacked:
            command = [sys.executable, "-c", DISTRIBUTE, str(folder), unpacked]
            done = subprocess.run(command, capture_output=True, text=True, cwd=source)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Environment:
    """A virtual environment that sees the packages of the running interpreter and has its own on top.

    With ``editable=False`` it does not see what is installed there in editable form, or named by ``PYTHONPATH``: stzoo
    itself.
    """

    def __init__(self, folder: Path, editable: bool = True) -> None:
        venv.create(folder, symlinks=True, with_pip=False)
        self.python = folder / "bin" / "python"
        self.site = next((folder / "lib").glob("python3*")) / "site-packages"
        parents = [path for path in sys.path if Path(path).name == "site-packages"]
        # A line that starts with "import" is executed, so that the parent's own .pth files (editable installs) count too.
        lines = [f"import site; site.addsitedir({path!r})" for path in parents] if editable else parents
        (self.site / "parent.pth").write_text("\n".join(lines) + "\n")
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
        if not editable:
            self.variables.pop("PYTHONPATH", None)
        self.variables["OMP_NUM_THREADS"] = "1"  # for networks this small, threads only get in each other's way

    def pip(self, *arguments: str | Path) -> None:
        """Run pip on this environment, without any index."""
        quiet = ("--disable-pip-version-check", "--no-input", "--quiet")
        command = [sys.executable, "-m", "pip", "--python", str(self.python), *quiet, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.variables)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, *wheels: Path) -> None:
        """What pip does, in a hundredth of its time, with wheels that bring neither commands nor anything compiled."""
        for wheel in wheels:
            for old in self.site.glob(f"{wheel.name.partition('-')[0]}-*.dist-info"):
                shutil.rmtree(old)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self.site)

    def run(
        self, *arguments: str | Path, folder: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python with arguments, in ``folder``; gives ``returncode``, ``stdout`` and ``stderr``."""
        command = [str(self.python), *map(str, arguments)]
        variables = self.variables | variables
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env=variables, cwd=folder)

    def ask(self, code: str, folder: Path | None = None, **variables: str) -> Any:
        """Run Python code that sets ``answer``; returns it, through JSON."""
        program = f"import json\n{dedent(code)}\nprint('answer:' + json.dumps(answer))"
        done = self.run("-c", program, folder=folder, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.rpartition("answer:")[2])
