"""Killed at any moment, resumed to the same bits: processes that really die, on disks that really are full."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from commandline import TINY
from test_training import make_clips

from stzoo.files import sha256_of
from stzoo.training.run import Run

STEPS = 80
OPTIONS: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": 2,
    "accumulate": 2,
    "ema": 0.9,
    "clip": 1.0,
    "recipe.crop": 16,
    "recipe.flip": True,
    "evaluate_every": 12,
    "checkpoint_every": 5,
    "pictures": 0,
    "trackers": [],
    "log_every": 1,
    **{f"model_config.{key}": value for key, value in (TINY | {"drop": 0.2, "drop_path": 0.2}).items()},
}
"""Everything random that there is, and checkpoints that are no multiples of the evaluations."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    make_clips(folder / "train", 7)
    make_clips(folder / "validation", 3)
    return folder


@pytest.fixture(scope="module")
def undisturbed(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbs, on one process."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = finish(command(1, *begin(clips, out)))
    assert done.returncode == 0, done.stderr
    return out


def command(processes: int, *words: object) -> list[str]:
    launch = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    return [sys.executable, *launch, "-m", "stzoo", "finetune", *map(str, words)]


def begin(clips: Path, out: Path) -> list[object]:
    return [
        "tau",
        "--data",
        clips,
        "-o",
        out,
        "--set",
        *(f"{key}={json.dumps(value)}" for key, value in OPTIONS.items()),
    ]


def finish(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False, **options)


def logged(out: Path) -> list[dict[str, Any]]:
    """The metrics, without what a clock says."""
    clock = ("seconds", "samples_per_second")
    return [{key: value for key, value in entry.items() if key not in clock} for entry in Run(out).metrics]


def lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_after(words: list[str], out: Path, count: int, delay: float) -> bool:
    """Start, and kill everything when so many more lines were logged; False if it came to its end before."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    resumed, before, deadline = "--resume" in words, lines(out), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        seen = lines(out)
        if resumed and seen < before:  # rewound to the checkpoint
            before, resumed = seen, False
        if seen - before >= count:
            time.sleep(delay)
            for victim in (*psutil.Process(process.pid).children(recursive=True), process):
                victim.kill()  # torchrun's workers are in sessions of their own
            process.wait()
            return True
        time.sleep(0.001)
    assert process.returncode == 0
    return False


@pytest.mark.parametrize(("processes", "times"), [(1, 6), (2, 3)])
def test_killed_many_times_it_comes_to_the_same_weights(
    clips: Path, undisturbed: Path, tmp_path: Path, processes: int, times: int
) -> None:
    whole, torn, chance = undisturbed, tmp_path / "torn", random.Random(processes)
    if processes > 1:
        whole = tmp_path / "whole"
        assert finish(command(processes, *begin(clips, whole))).returncode == 0
    kills, words = 0, command(processes, *begin(clips, torn))
    while kills < times and kill_after(words, torn, chance.randint(1, 7), chance.uniform(0, 0.03)):
        kills += 1
        if (torn / "run.json").exists():
            words = command(processes, "-o", torn, "--resume")
    done = finish(command(processes, "-o", torn, "--resume"))
    assert done.returncode == 0, done.stderr
    assert kills == times
    for which in ("best", "last"):
        assert sha256_of(torn / which / "model.safetensors") == sha256_of(whole / which / "model.safetensors")
    newest = [sorted((out / "checkpoints").iterdir())[-1] for out in (whole, torn)]
    one, two = (torch.load(folder / "optimizer.bin", weights_only=True)["state"] for folder in newest)
    assert all(torch.equal(one[key][name], two[key][name]) for key in one for name in one[key])
    for one, two in zip(logged(torn), logged(whole), strict=True):
        assert one == two


def test_ctrl_c_saves_and_says_how_to_go_on(clips: Path, undisturbed: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    process = subprocess.Popen(
        command(1, *begin(clips, torn)), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while lines(torn) < 8:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Go on with: stzoo finetune --output {torn} --resume" in stderr
    record = Run(torn).record
    assert record["status"] == "interrupted" and 0 < record["step"] < STEPS
    saved = sorted((torn / "checkpoints").iterdir())[-1]
    assert saved.name == f"step-{record['step']:09d}"  # not the last regular one: the very step
    assert finish(command(1, "-o", torn, "--resume")).returncode == 0
    assert sha256_of(torn / "last" / "model.safetensors") == sha256_of(undisturbed / "last" / "model.safetensors")


def test_a_full_disk_leaves_the_last_checkpoint(clips: Path, undisturbed: Path, tmp_path: Path) -> None:
    """No file may grow beyond 40 kB: what a checkpoint writes does not fit."""
    torn = tmp_path / "torn"
    assert kill_after(command(1, *begin(clips, torn)), torn, 20, 0)
    before = sorted(path.name for path in (torn / "checkpoints").iterdir() if not path.name.startswith("."))

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = finish(command(1, "-o", torn, "--resume"), preexec_fn=small_files)
    assert done.returncode == 2
    assert "no space left" in done.stderr and "--resume" in done.stderr
    left = sorted(path.name for path in (torn / "checkpoints").iterdir())
    assert left == before
    assert finish(command(1, "-o", torn, "--resume")).returncode == 0
    assert sha256_of(torn / "last" / "model.safetensors") == sha256_of(undisturbed / "last" / "model.safetensors")


def test_another_number_of_processes_goes_on_with_a_warning(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert kill_after(command(2, *begin(clips, out)), out, 20, 0)
    done = finish(command(1, "-o", out, "--resume"))
    assert done.returncode == 0, done.stderr
    assert "ran on 2 processes and goes on with 1" in done.stderr
    assert Run(out).record["status"] == "finished"
