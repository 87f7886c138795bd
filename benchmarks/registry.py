"""What discovery costs: imports, and listing with an empty registry and with many installed plugins, side by side.

``python benchmarks/registry.py [--plugins 50] [--models 40] [--repeat 7]`` makes a virtual environment on top of this
one, lets pip install that many tiny plugins into it, and prints the median of several fresh processes for each row.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import wheels

PLUGIN = """\
from stzoo import Architecture, Model, hookimpl

@hookimpl
def stzoo_architectures():
    yield Architecture("net-{index}", "video-prediction", "network:Net")

@hookimpl
def stzoo_models():
    for number in range({models}):
        yield Model(f"model-{index}-{{number}}", "net-{index}", description="one of many", tags=("benchmark",))
"""


def median(environment: wheels.Environment, repeat: int, *arguments: str, **variables: str) -> tuple[float, float]:
    """Wall and processor time of a fresh process, in milliseconds."""
    walls, processor = [], []
    for _ in range(repeat + 1):
        start, before = time.perf_counter(), _children()
        subprocess.run(
            [str(environment.python), *arguments],
            env=environment.variables | variables,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        walls.append((time.perf_counter() - start) * 1e3)
        processor.append((_children() - before) * 1e3)
    return statistics.median(walls[1:]), statistics.median(processor[1:])  # the first one fills the file cache


def _children() -> float:
    """Processor seconds of all child processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--models", type=int, default=40, help="models of each plugin")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = wheels.Environment(folder / "environment")
        environment.install(
            *(
                wheels.plugin(folder, f"many-{index}", PLUGIN.format(index=index, models=options.models))
                for index in range(options.plugins)
            )
        )
        many = f"{options.plugins} plugins, {options.plugins * options.models} models more"
        rows = [
            ("bare interpreter", ("-c", "pass"), {}),
            ("import stzoo", ("-c", "import stzoo"), {}),
            ("import torch", ("-c", "import torch"), {}),
            ("stzoo list, built-in plugins only", ("-m", "stzoo", "list"), {"STZOO_PLUGINS": ""}),
            (f"stzoo list, {many}", ("-m", "stzoo", "list"), {}),
        ]
        print(f"{'':60} {'wall ms':>9} {'CPU ms':>9}   (median of {options.repeat} fresh processes)")
        for label, arguments, variables in rows:
            wall, processor = median(environment, options.repeat, *arguments, **variables)
            print(f"{label:60} {wall:9.0f} {processor:9.0f}")


if __name__ == "__main__":
    main()
