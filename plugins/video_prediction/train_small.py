"""Train the small models that this plugin bundles: every system with the same data, steps and batch.

    python plugins/video_prediction/train_small.py train tau-mmnist --digits mnist/ --output runs/tau-mmnist
    python plugins/video_prediction/train_small.py bundle runs/tau-mmnist tau-mmnist
    stzoo evaluate tau-mmnist simvp-mmnist --data "moving-mnist?digits=mnist" --output results
    python plugins/video_prediction/train_small.py record results
    python plugins/video_prediction/train_small.py quick --digits mnist/ --output runs/quick

`train` is nothing but one `stzoo finetune`, which it prints. `bundle` takes a run's best weights into the plugin, in
float16, with the record of how they were made; `record` adds what `stzoo evaluate` measured of them. `quick` trains every
system for 300 steps and compares it with persistence on held-out digits. Digits: a folder with MNIST's idx files.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import stzoo
from stzoo.costs import costs
from stzoo.evaluation import EVALUATION_FILE, Evaluation
from stzoo.files import write_atomically

WEIGHTS = Path(__file__).parent / "src/stzoo_video_prediction/weights"
PROTOCOL = "--batch-size 4 --precision bf16 --seed 0"
"""What all share; `train` adds 8,000 steps: 32,000 clips."""
STEPS = 8000
SIMVP = "--channels-last true --lr 2e-3 --set model_config.hid_S=16 model_config.hid_T=192 model_config.N_S=4 model_config.N_T=6 model_config.mlp_ratio=4.0"
SYSTEMS = {
    "simvp-mmnist": f"simvp {SIMVP}",
    "tau-mmnist": f"tau {SIMVP}",
}
"""Name of the model -> architecture and what is its own."""


def command(name: str, digits: str, output: Path, steps: int) -> list[str]:
    """The `stzoo finetune` that trains a system."""
    architecture, _, own = SYSTEMS[name].partition(" ")
    shared = f"--steps {steps} --evaluate-every {max(steps // 4, 1)} --evaluate-examples 100 --log-every 100 {PROTOCOL}"
    words = ["stzoo", "finetune", architecture, "--data", f"moving-mnist?digits={digits}", "--output", str(output)]
    return [*words, *shared.split(), *own.split()]


def run(words: list[str]) -> None:
    print("$ " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)


def train(options: argparse.Namespace) -> None:
    run(command(options.name, options.digits, options.output, STEPS))


def quick(options: argparse.Namespace) -> None:
    """300 steps from scratch of every system; fails if one does not get below persistence."""
    rows = []
    for name in SYSTEMS:
        folder = options.output / name
        run(command(name, options.digits, folder, 300))
        losses = [entry["loss"] for entry in stzoo.Run(folder).metrics if "loss" in entry]
        found = stzoo.evaluate(folder / "last", f"moving-mnist?digits={options.digits}", split="test", limit=200)
        own, persistence = (model.metrics["mse"].value for model in found.models)
        rows.append((name, losses[0], losses[-1], own, persistence))
    print("| model | loss, steps 1 to 100 | loss, steps 201 to 300 | MSE on 200 test sequences | persistence |")
    print("|---|---:|---:|---:|---:|")
    for name, *values in rows:
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in values) + " |")
    if worse := [name for name, _, _, own, persistence in rows if own >= persistence]:
        raise SystemExit(f"not below persistence: {', '.join(worse)}")


def bundle(options: argparse.Namespace) -> None:
    """The best weights of a run, as a file of the plugin, and what there is to know of them."""
    trained = stzoo.Run(options.run)
    with tempfile.TemporaryDirectory() as folder:
        trained.load("best").save(folder, dtype=torch.float16)
        predictor = stzoo.load(folder)
        write_atomically(WEIGHTS / f"{options.name}.safetensors", (Path(folder) / "model.safetensors").read_bytes())
        fingerprint = predictor.fingerprint()
    file = WEIGHTS / f"{options.name}.safetensors"
    record: dict[str, Any] = {
        "architecture": predictor.architecture.name,
        "config": predictor.config,
        "sha256": predictor.report.sha256,
        "size": file.stat().st_size,
        "fingerprint": fingerprint,
        "parameters": costs(predictor).parameters,
        "multiply_adds": costs(predictor).multiply_adds,
        "command": trained.record["command"],
        "hardware": trained.record["hardware"],
        "steps": trained.record["step"],
        "minutes": round(trained.record["seconds"] / 60),
        "measurements": [],
    }
    write_atomically(WEIGHTS / f"{options.name}.json", (json.dumps(record, indent=2) + "\n").encode())


def record(options: argparse.Namespace) -> None:
    """What an evaluation says of bundled models, into their records."""
    found = Evaluation.from_json((options.results / EVALUATION_FILE).read_text())
    for model in found.models:
        file = WEIGHTS / f"{model.name}.json"
        if not model.baseline and file.exists():
            entry = json.loads(file.read_text())
            entry["measurements"] = [asdict(item) for item in found.measurements(model.name)]
            write_atomically(file, (json.dumps(entry, indent=2) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for function in (train, quick, bundle, record):
        added = commands.add_parser(function.__name__)
        added.set_defaults(function=function)
        if function is train:
            added.add_argument("name", choices=sorted(SYSTEMS))
        if function in (train, quick):
            added.add_argument("--digits", required=True)
            added.add_argument("--output", type=Path, required=True)
        if function is bundle:
            added.add_argument("run", type=Path)
            added.add_argument("name")
        if function is record:
            added.add_argument("results", type=Path)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
