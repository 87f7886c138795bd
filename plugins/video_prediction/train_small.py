"""Train small models of every system to bundle: the same data, steps and batch for all.

    python plugins/video_prediction/train_small.py train tau-mmnist mnist/ --output runs/tau-mmnist
    python plugins/video_prediction/train_small.py train tau-knmi knmi_radar_72x128x128.npz --output runs/tau-knmi
    stzoo bundle runs/tau-mmnist plugins/video_prediction/src/stzoo_video_prediction/weights/tau-mmnist
    stzoo evaluate tau-mmnist simvp-mmnist --data "moving-mnist?digits=mnist&size=3000" --output results
    stzoo record results --into plugins/video_prediction/src/stzoo_video_prediction/weights
    python plugins/video_prediction/train_small.py quick mnist/ --output runs/quick

`train` is nothing but one `stzoo finetune`, which it prints. `quick` trains every system for 300 steps, compares it with
persistence on held-out digits, and records that. Sources: a folder with MNIST's idx files, or a series of rain fields.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import stzoo
from stzoo.files import write_atomically

WEIGHTS = Path(__file__).parent / "src/stzoo_video_prediction/weights"
FROM_SCRATCH = "--steps 8000 --batch-size 4 --evaluate-every 2000 --evaluate-examples 100 --log-every 100 --seed 0"
"""32,000 clips of Moving MNIST for every system."""
SIMVP = (
    "--precision bf16 --channels-last true --lr 2e-3 --set model_config.hid_S=16 model_config.hid_T=192 model_config.N_S=4 "
    "model_config.N_T=6 model_config.mlp_ratio=4.0"
)
RADAR = (
    "--batch-size 4 --evaluate-every 100 --monitor mae --precision bf16 --channels-last true --lr 1e-3 --seed 0 "
    "--set recipe.crop=64 recipe.mae=1"
)
SYSTEMS = {
    "simvp-mmnist": f"simvp {FROM_SCRATCH} {SIMVP}",
    "tau-mmnist": f"tau {FROM_SCRATCH} {SIMVP}",
    "convlstm-mmnist": f"convlstm {FROM_SCRATCH} --precision bf16 --channels-last true --lr 2e-3 --clip 1 "
    "--set model_config.filter_size=3 recipe.sampling_share=0.4",
    "phydnet-mmnist": f"phydnet {FROM_SCRATCH} --lr 1e-3 --clip 1 --set model_config.nf=16 model_config.hidden_dims=[32] "
    "recipe.forcing=0.25 recipe.moments=0.1",
    "swinlstm-mmnist": f"swinlstm {FROM_SCRATCH} --precision bf16 --lr 1e-3 --clip 1 --set recipe.schedule=onecycle "
    "model_config.model_type=b model_config.patch_size=4 model_config.embed_dim=64 model_config.heads=[4] "
    "model_config.depths=[2]",
    "simvp-knmi": f"simvp-mmnist --steps 850 {RADAR} recipe.brightness=0.3",
    "tau-knmi": f"tau-mmnist --steps 1200 {RADAR}",
}
"""Name of the model -> what `stzoo finetune` starts from, and its options."""
DATA = {"mmnist": "moving-mnist?digits={}", "knmi": "rain-radar?root={}"}


def command(name: str, source: str, output: Path, steps: int | None = None) -> list[str]:
    """The `stzoo finetune` that trains a system."""
    start, *own = SYSTEMS[name].split()
    if steps:
        own[own.index("--steps") + 1] = own[own.index("--evaluate-every") + 1] = str(steps)
    data = DATA[name.rpartition("-")[2]].format(source)
    return ["stzoo", "finetune", start, "--data", data, "--output", str(output), *own]


def run(words: list[str]) -> None:
    print("$ " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)


def train(options: argparse.Namespace) -> None:
    run(command(options.name, options.source, options.output))


def quick(options: argparse.Namespace) -> None:
    """300 steps from scratch of every system; fails if one does not get below persistence."""
    rows = []
    for name in (item for item in SYSTEMS if item.endswith("-mmnist")):
        folder = options.output / name
        run(command(name, options.source, folder, steps=300))
        losses = [entry["loss"] for entry in stzoo.Run(folder).metrics if "loss" in entry]
        found = stzoo.evaluate(folder / "last", DATA["mmnist"].format(options.source), split="test", limit=200)
        own, persistence = (model.metrics["mse"].value for model in found.models)
        rows.append((name, losses[0], losses[-1], own, persistence))
    print("| model | loss, steps 1 to 100 | loss, steps 201 to 300 | MSE on 200 test sequences | persistence |")
    print("|---|---:|---:|---:|---:|")
    for name, *values in rows:
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in values) + " |")
    fields = ("first_loss", "last_loss", "mse", "persistence")
    entries = {name: dict(zip(fields, values, strict=True)) for name, *values in rows}
    write_atomically(WEIGHTS / "quick.json", (json.dumps(entries, indent=2) + "\n").encode())
    if worse := [name for name, _, _, own, persistence in rows if own >= persistence]:
        raise SystemExit(f"not below persistence: {', '.join(worse)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    for function in (train, quick):
        added = commands.add_parser(function.__name__)
        added.set_defaults(function=function)
        if function is train:
            added.add_argument("name", choices=sorted(SYSTEMS))
        added.add_argument("source")
        added.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
