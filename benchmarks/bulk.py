"""Predict 2,000 clips with two processes, killed twice and gone on with twice, against one process left alone.

    OMP_NUM_THREADS=1 python benchmarks/bulk.py [--clips 2000] [--model tau-mmnist] [--kills 2] [--seed 0] [--format F]

The clips are random tiny ones for a tiny untrained model; with --model, a model of the zoo, they are of Moving MNIST. Each
kill is SIGKILL for all processes at a random moment. Checked at the end: every input is in the tables exactly once, no shard
that was finished before a kill was written again, and both outputs are the same files, byte for byte. Prints counts and
throughput, and exits with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

ONE = [sys.executable, "-m", "stzoo"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "stzoo"]
TINY = {"hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2, "in_shape": (4, 1, 32, 32)}


def random_clips(folder: Path, count: int) -> None:
    """Clips of 4 to 6 frames, 32x32, in ten folders."""
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"day{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / f"clip{number}.npz", video=rng.integers(0, 256, (4 + number % 3, 1, 32, 32), dtype=np.uint8))


def files_of(folder: Path) -> dict[str, bytes]:
    """Tables and media files."""
    parts = (
        path for name in ("shards", "media", "webdataset") for path in (folder / name).rglob("*") if path.is_file()
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in parts}


def finished(folder: Path) -> dict[Path, int]:
    """The tables of finished shards and when they were written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "shards").glob("shard-*.parquet")}


def predict(launcher: list[str], words: list[str], folder: Path) -> dict[str, Any]:
    """Run to the end; the report."""
    done = subprocess.run([*launcher, *words, str(folder), "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def predict_and_kill(words: list[str], folder: Path, more: int, delay: float) -> bool:
    """Start two processes and kill them when so many more shards are finished; whether there was something to kill."""
    before = len(finished(folder))
    process = subprocess.Popen([*TWO, *words, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(finished(folder)) < before + more and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    alive = process.poll() is None
    family = [*psutil.Process(process.pid).children(recursive=True), process] if alive else []
    for member in family:
        member.kill()
    process.wait()
    psutil.wait_procs(family[:-1])
    return alive


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-size", default="32")
    parser.add_argument("--format", default="npz")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does: sums are rounded in the order of the threads
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if args.model == "tiny":
            import torch

            import stzoo

            torch.manual_seed(0)
            model, data = str(stzoo.create("tau", **TINY).save(root / "model")), str(root / "clips")
            random_clips(root / "clips", args.clips)
        else:
            model, data = args.model, f"moving-mnist?size={args.clips}"
        words = ["predict", model, "--data", data, "--device", "cpu"]
        words += ["--shard-size", args.shard_size, "--format", args.format, "-o"]
        alone = predict(ONE, words, root / "alone")
        print(f"one process, left alone: {alone['inputs']} inputs, {alone['per_second']:.0f} inputs/s")
        kept: dict[Path, int] = {}
        good = True
        for kill in range(args.kills):
            more = max(1, round(alone["shards"] * rng.uniform(0.5, 1) / (args.kills + 1)))
            good &= predict_and_kill(words, root / "killed", more, rng.random() * 0.1)
            kept = finished(root / "killed") | kept
            hidden = len(list((root / "killed").glob("*/.shard-*")))
            print(
                f"kill {kill + 1}: {len(finished(root / 'killed'))} of {alone['shards']} shards finished, {hidden} half done"
            )
        last = predict(TWO, words, root / "killed")
        print(
            f"two processes, killed {args.kills} times: {last['inputs']} inputs, {last['predicted']} predicted, "
            f"{last['failed']} failed, {last['skipped']} done before the last start, {last['per_second']:.0f} inputs/s"
        )
        tables = sorted((root / "killed" / "shards").iterdir())
        indices = [index for path in tables for index in pq.read_table(path)["index"].to_pylist()]
        whole = predict(TWO, words, root / "two")
        print(f"two processes, left alone: {whole['inputs']} inputs, {whole['per_second']:.0f} inputs/s")
        expected = files_of(root / "alone")
        checks = {
            "the processes were alive when they were killed": good,
            "every input exactly once": indices == list(range(args.clips)) and last["predicted"] == args.clips,
            "no finished shard was written again": all(path.stat().st_mtime_ns == when for path, when in kept.items()),
            "the same files as one process, killed": files_of(root / "killed") == expected,
            "the same files as one process, not killed": files_of(root / "two") == expected,
        }
        for check, holds in checks.items():
            print(f"{'yes' if holds else 'NO '}  {check}")
        print(f"{len(expected)} files, {sum(map(len, expected.values())) / 1e6:.1f} MB")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
