"""Steps per second of `stzoo finetune`'s loop against a bare PyTorch loop: same model, same data, same recipe, one run.

    python benchmarks/training.py --model tau-mmnist --batch-size 4 --steps 40 --rounds 5

The two take turns, so that whatever else the machine does falls on both; reported are the medians of all steps but the
first ten of each turn (`stzoo finetune` logs every ten steps, here as by default, and evaluates outside the measured time).

Both have glibc keep the memory of one step for the next, as `stzoo finetune` does (`stzoo.processes.keep_memory`); what the
bare loop takes without that is told, too.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

import stzoo
from stzoo.processes import keep_memory
from stzoo.training.loop import finetune

WARM = 10


def bare(model: str, clips: np.ndarray, batch_size: int, steps: int) -> float:
    """Seconds of a step in the loop that a person would write by hand."""
    torch.manual_seed(0)
    predictor = stzoo.load(model, device="cpu")
    module, recipe = predictor.module.train(), predictor.recipe()
    [(optimizer, schedule)] = recipe.optimizers(module, steps)
    needs, rng = predictor.requirements, np.random.default_rng(0)

    class Clips(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return steps * batch_size

        def __getitem__(self, index: int) -> dict:
            return recipe.sample({"video": clips[index % len(clips)].astype(np.float32) / 255}, needs, rng)

    taken = []
    start = time.perf_counter()
    for step, batch in enumerate(DataLoader(Clips(), batch_size=batch_size)):
        loss = sum(recipe.losses(module, batch, step).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        now = time.perf_counter()
        taken.append(now - start)
        start = now
    return sum(taken[WARM:]) / (steps - WARM)


def ours(model: str, clips: np.ndarray, batch_size: int, steps: int) -> float:
    """Seconds of a step in stzoo's loop, from the rates in its own log."""
    examples = [{"video": clip} for clip in clips]
    with tempfile.TemporaryDirectory() as folder:
        run = finetune(
            model, examples, Path(folder) / "run", steps=steps, batch_size=batch_size, pictures=0, evaluate_every=steps,
            evaluate_examples=1, log_every=WARM, precision="no",
        )  # fmt: skip
        logged = [entry for entry in run.metrics if "samples_per_second" in entry][1:]
    return sum(WARM * batch_size / entry["samples_per_second"] for entry in logged) / (len(logged) * WARM)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tau-mmnist")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=40, help="of one turn; a multiple of ten")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("stzoo").setLevel(logging.ERROR)
    data = stzoo.dataset("moving-mnist", "train", size=64)
    clips = np.stack([data[index]["video"] for index in range(len(data))])
    default = bare(args.model, clips, args.batch_size, args.steps)
    print(f"bare, memory as by default: {1e3 * default:.1f} ms a step", flush=True)
    keep_memory()
    times: dict[str, list[float]] = {"bare": [], "stzoo": []}
    for round_ in range(args.rounds):
        for name, loop in (("bare", bare), ("stzoo", ours)):
            times[name].append(loop(args.model, clips, args.batch_size, args.steps))
            print(f"round {round_ + 1}: {name:5} {1e3 * times[name][-1]:.1f} ms a step", flush=True)
    one, two = (statistics.median(times[name]) for name in ("bare", "stzoo"))
    print(f"bare {1e3 * one:.1f} ms, stzoo {1e3 * two:.1f} ms a step: {100 * (two / one - 1):+.1f} % "
          f"({args.model}, batch {args.batch_size}, {args.threads} threads)")  # fmt: skip
