"""Killed at any moment, resumed to the same bits: processes that really die, on disks that really are full."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import TINY
from mortal import COUNTED, Server
from test_training import make_clips

from stzoo.files import sha256_of
from stzoo.training.run import Run

STEPS = 14
OPTIONS: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": 2,
    "accumulate": 2,
    "ema": 0.9,
    "clip": 1.0,
    "recipe.crop": 16,
    "recipe.flip": True,
    "evaluate_every": 5,
    "checkpoint_every": 3,
    "pictures": 0,
    "trackers": [],
    "log_every": 1,
    **{f"model_config.{key}": value for key, value in (TINY | {"drop": 0.2, "drop_path": 0.2}).items()},
}
"""Everything random that there is, and checkpoints that are no multiples of the evaluations."""
KILLS = 10


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    make_clips(folder / "train", 7)
    make_clips(folder / "validation", 3)
    return folder


@pytest.fixture(scope="module")
def whole(forks: Server, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The run that nobody disturbs, on so many processes."""

    @cache
    def run(processes: int) -> Path:
        out = tmp_path_factory.mktemp("runs") / "whole"
        assert forks.run(begin(clips, out), log_of(out), processes, line=-1) == [0] * processes, log_of(out).read_text()
        return out

    return run


def begin(clips: Path, out: Path) -> list[object]:
    settings = (f"{key}={json.dumps(value)}" for key, value in OPTIONS.items())
    return ["finetune", "tau", "--data", clips, "-o", out, "--set", *settings]


def go_on(out: Path) -> list[object]:
    return ["finetune", "-o", out, "--resume"]


def log_of(out: Path) -> Path:
    return out.with_suffix(".log")


def length_of(whole: Path) -> tuple[int, float]:
    """How many lines of the training's own the first process of a whole run went through, and in how many seconds."""
    words = log_of(whole).read_text().partition(COUNTED)[2].split()
    return int(words[0]), float(words[2])


def assert_same(one: Path, two: Path) -> None:
    """The weights, the optimizer, and everything that was logged but for what a clock says."""
    for which in ("best", "last"):
        assert sha256_of(one / which / "model.safetensors") == sha256_of(two / which / "model.safetensors")
    newest = [sorted((out / "checkpoints").iterdir())[-1] for out in (one, two)]
    states = [torch.load(folder / "optimizer.bin", weights_only=True)["state"] for folder in newest]
    assert all(torch.equal(states[0][key][name], states[1][key][name]) for key in states[0] for name in states[0][key])
    clock = ("seconds", "samples_per_second")
    logs = [[{k: v for k, v in entry.items() if k not in clock} for entry in Run(out).metrics] for out in (one, two)]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_many_times_it_comes_to_the_same_weights(
    forks: Server, clips: Path, whole: Callable[[int], Path], tmp_path: Path, processes: int
) -> None:
    """Half of the deaths come at a line of the code, in the middle of whatever it does; half by the clock, also inside of torch."""
    chance, kills, torn = random.Random(processes), 0, tmp_path / "torn0"
    lines, seconds = length_of(whole(processes))
    while kills < KILLS:
        death: dict[str, Any] = {"rank": chance.randrange(processes), "line": chance.randint(1, lines // 4)}
        if kills % 2:
            death = {"seconds": chance.uniform(0.05, 0.5) * seconds}  # counting took half of them
        words = go_on(torn) if (torn / "run.json").exists() else begin(clips, torn)
        codes = forks.run(words, log_of(torn), processes, **death)
        if any(codes):
            assert {-signal.SIGKILL, -signal.SIGALRM} & set(codes), log_of(torn).read_text()
            kills += 1
        else:  # it came to its end before: another one
            assert_same(torn, whole(processes))
            torn = tmp_path / f"torn{kills}"
    words = go_on(torn) if (torn / "run.json").exists() else begin(clips, torn)
    assert forks.run(words, log_of(torn), processes) == [0] * processes, log_of(torn).read_text()
    assert_same(torn, whole(processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_saves_and_says_how_to_go_on(
    forks: Server, clips: Path, whole: Callable[[int], Path], tmp_path: Path, processes: int
) -> None:
    """One of the processes hears it, all stop at the same step."""
    torn = tmp_path / "torn"
    death = {"signal": signal.SIGINT, "rank": processes - 1, "line": length_of(whole(processes))[0] // 2}
    assert forks.run(begin(clips, torn), log_of(torn), processes, **death) == [130] * processes
    said = log_of(torn).read_text()
    launched = ", on 2 processes as before" if processes == 2 else ""
    assert f"Go on with: stzoo finetune --output {torn} --resume{launched}\n" in said
    record = Run(torn).record
    assert record["status"] == "interrupted" and 0 < record["step"] < STEPS
    saved = sorted((torn / "checkpoints").iterdir())[-1]
    assert saved.name == f"step-{record['step']:09d}"  # not the last regular one: the very step
    assert forks.run(go_on(torn), log_of(torn), processes) == [0] * processes
    assert_same(torn, whole(processes))


def test_a_full_disk_leaves_the_last_checkpoint(
    forks: Server, clips: Path, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    """No file may grow beyond 40 kB: what a checkpoint writes does not fit. Beyond 2 kB the log does not."""
    torn = tmp_path / "torn"
    assert forks.run(begin(clips, torn), log_of(torn), line=length_of(whole(1))[0] * 2 // 3) == [-signal.SIGKILL]
    before = sorted(path.name for path in (torn / "checkpoints").iterdir() if not path.name.startswith("."))
    assert before
    for largest in (40_000, 2_000):
        log_of(torn).unlink()
        assert forks.run(go_on(torn), log_of(torn), largest=largest) == [2]
        said = log_of(torn).read_text()
        assert "no space left" in said and "go on with --resume" in said, said
        assert sorted(path.name for path in (torn / "checkpoints").iterdir()) == before
    assert forks.run(go_on(torn), log_of(torn)) == [0]
    assert_same(torn, whole(1))


def test_another_number_of_processes_goes_on_with_a_warning(
    forks: Server, clips: Path, whole: Callable[[int], Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert -signal.SIGKILL in forks.run(begin(clips, out), log_of(out), 2, line=length_of(whole(2))[0] * 2 // 3)
    assert forks.run(go_on(out), log_of(out)) == [0], log_of(out).read_text()
    assert "ran on 2 processes and goes on with 1" in log_of(out).read_text()
    assert Run(out).record["status"] == "finished"
