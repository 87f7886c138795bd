"""Train and evaluate SimVP and TAU on Moving MNIST.

    python plugins/video_prediction/train_moving_mnist.py train tau --digits mnist/ --minutes 80 --output runs/tau
    python plugins/video_prediction/train_moving_mnist.py evaluate runs/tau --digits mnist/ --output tau.json

`--preset small` is what the bundled weights were trained with, on one CPU core each (the exact commands are in
`results/`); `--preset published` is the official configuration (OpenSTL, 200 epochs). Digits come from a folder with
MNIST's idx files, from the Hub (`--digits hub`), or from the few that ship with the plugin (`--digits shipped`: enough
to try, not to train well).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import stzoo
from stzoo.errors import ConfigError, StzooError
from stzoo.files import sha256_of
from stzoo.recipe import Recipe
from stzoo.weights import assign
from stzoo_video_prediction.metrics import Metrics
from stzoo_video_prediction.moving_mnist import MovingMNIST, mnist_digits, moving_mnist_batch
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.simvp import SimVP
from stzoo_video_prediction.tau import TAU, TAURecipe

MODELS: dict[str, tuple[type[SimVP], type[Recipe]]] = {
    "simvp": (SimVP, VideoPredictionRecipe),
    "tau": (TAU, TAURecipe),
}
PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "config": {"hid_S": 16, "hid_T": 192, "N_S": 4, "N_T": 6, "mlp_ratio": 4.0},
        "batch": 4,
        "lr": 2e-3,
        "steps": 12_000,
        "precision": "bf16",
    },
    "published": {
        "config": {"hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 8, "mlp_ratio": 8.0},
        "batch": 16,
        "lr": 1e-3,
        "steps": 200 * 625,
        "precision": "fp32",
    },
}
FRAMES = 10
TICKS = 10_000
"""Length of the schedule when the budget is a time: the fraction of the time that is over, in this many steps."""


# ------------------------------------------------------------------ training


def train(args: argparse.Namespace) -> None:
    """Train until the steps are done or the minutes are over, then write `model.safetensors` and `config.json`."""
    preset = PRESETS[args.preset]
    settings = {
        "model": args.model,
        "config": preset["config"] | args.config,
        "batch": args.batch or preset["batch"],
        "lr": args.lr or preset["lr"],
        "precision": args.precision or preset["precision"],
        "minutes": args.minutes,
        "steps": None if args.minutes else args.steps or preset["steps"],
        "seed": args.seed,
    }
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, recipe_type = MODELS[args.model]
    module = network(**settings["config"])
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if args.compile:
        module.compile()
    recipe = recipe_type(lr=settings["lr"], schedule="onecycle")  # type: ignore[call-arg]
    ticks = settings["steps"] or TICKS
    optimizers = recipe.optimizers(module, ticks)

    digits = mnist_digits("train", args.digits)
    held_out = MovingMNIST("validation", args.digits, size=args.validation)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "checkpoint.pt"
    step, elapsed = 0, 0.0
    if args.resume:
        saved = load_checkpoint(checkpoint, settings)
        module.load_state_dict(saved["module"])
        for (optimizer, schedule), state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(saved["rng"])
        step, elapsed = saved["step"], saved["elapsed"]

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bf16")

    def save_state() -> None:
        state = {
            "settings": settings,
            "module": module.state_dict(),
            "optimizers": [
                {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
                for optimizer, schedule in optimizers
            ],
            "rng": torch.get_rng_state(),
            "step": step,
            "elapsed": elapsed,
        }
        atomically(checkpoint, lambda path: torch.save(state, path))

    before, started = elapsed, time.monotonic()
    last_log = last_save = elapsed
    seen: dict[str, float] = {}
    logged = step
    module.train()
    while True:
        # The generator of a step depends on the step only, so that a resumed run sees what it would have seen.
        batch = to_batch(moving_mnist_batch(digits, np.random.default_rng((args.seed, step)), settings["batch"]))
        with autocast():
            losses = recipe.losses(module, {k: v.to(device) for k, v in batch.items()}, step)
        for optimizer, _ in optimizers:
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        # Published training does not clip; at a few times its learning rate a rare steep batch would undo minutes.
        nn.utils.clip_grad_norm_(module.parameters(), args.clip)
        for optimizer, _ in optimizers:
            optimizer.step()
        step += 1
        elapsed = before + time.monotonic() - started
        share = elapsed / (60 * args.minutes) if args.minutes else step / ticks
        for _, schedule in optimizers:
            while schedule.last_epoch < min(int(share * ticks), ticks - 1):
                schedule.step()
        for name, value in losses.items():
            seen[name] = seen.get(name, 0.0) + float(value.detach())
        if not math.isfinite(sum(seen.values())):
            raise ConfigError(f"the loss is not finite at step {step}", "Use a smaller --lr")
        if share >= 1 or elapsed - last_log >= 60 * args.log_minutes:
            done = step - logged
            record = {
                "step": step,
                "seconds": round(elapsed, 1),
                "lr": optimizers[0][0].param_groups[0]["lr"],
                "loss": {name: value / done for name, value in seen.items()},
                "validation_mse": measure(module, held_out, autocast)["mse"],
            }
            module.train()
            print(json.dumps(record), flush=True)
            with (output / "log.jsonl").open("a") as log:
                log.write(json.dumps(record) + "\n")
            last_log, seen, logged = elapsed, {}, step
        if share >= 1:
            break
        if elapsed - last_save >= 60 * args.save_minutes:
            save_state()
            write_model(module, training_record(args, settings, device, step, elapsed), output)
            last_save = elapsed
    save_state()
    write_model(module, training_record(args, settings, device, step, elapsed), output)


def to_batch(videos: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    """(B,20,1,64,64) uint8 to `frames` and `target`, (B,10,1,64,64) in [0,1] each."""
    frames = torch.from_numpy(videos).float().div_(255)
    return {"frames": frames[:, :FRAMES], "target": frames[:, FRAMES:]}


def load_checkpoint(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint to go on from; refused if it was made with other settings."""
    if not path.is_file():
        raise ConfigError(f"there is no checkpoint {path} to resume", "Start without --resume")
    saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in settings.items():
        if name != "batch" and saved["settings"][name] != value:
            raise ConfigError(
                f"{path} was made with {name} {saved['settings'][name]}, not {value}",
                "Resume with the same options",
            )
    return saved


def training_record(
    args: argparse.Namespace,
    settings: Mapping[str, Any],
    device: torch.device,
    step: int,
    elapsed: float,
) -> dict[str, Any]:
    """How the weights came to be: enough to make them again."""
    digits = args.digits if args.digits in ("hub", "shipped") else "mnist/"
    budget = f"--minutes {args.minutes:g}" if args.minutes else f"--steps {settings['steps']}"
    options = f"--batch {settings['batch']} --lr {settings['lr']:g} --precision {settings['precision']}"
    command = (
        f"python plugins/video_prediction/train_moving_mnist.py train {args.model} --preset {args.preset} "
        f"{options} --digits {digits} {budget} --seed {args.seed} --threads {torch.get_num_threads()} "
        f"--output runs/{args.model}"
    )
    if args.config:
        command += f" --config '{json.dumps(args.config)}'"
    return {
        "architecture": args.model,
        "config": settings["config"],
        "command": command,
        "seed": args.seed,
        "steps": step,
        "batch": settings["batch"],
        "lr": settings["lr"],
        "precision": settings["precision"],
        "minutes": round(elapsed / 60, 1),
        "hardware": hardware(device),
        "data": "Moving MNIST made on the fly from digits of MNIST's training set"
        + ("" if digits == "mnist/" else f" ({digits})"),
    }


def hardware(device: torch.device) -> str:
    """The processor that computes, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    return f"CPU {name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"


def write_model(module: nn.Module, record: Mapping[str, Any], output: Path) -> None:
    """`model.safetensors`, in half precision with the record in its header, and the record again as `config.json`."""
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in module.state_dict().items()
    }
    text = json.dumps(record, indent=2)
    header = {"format": "pt", "training": json.dumps(record)}
    atomically(output / "model.safetensors", lambda path: save_file(state, path, header))
    atomically(output / "config.json", lambda path: path.write_text(text + "\n"))


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write under a temporary name, then rename, so that `path` is always whole."""
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)


# ------------------------------------------------------------------ evaluation


def evaluate(args: argparse.Namespace) -> None:
    """Measure weights, and the repetition of the last frame, on the first sequences of the fixed test split."""
    if args.threads:
        torch.set_num_threads(args.threads)
    weights = Path(args.weights)
    weights = weights / "model.safetensors" if weights.is_dir() else weights
    if not weights.is_file():
        raise ConfigError(f"there are no weights {weights}", "Give a safetensors file, or the output of train")
    with safe_open(weights, "pt") as file:
        header = file.metadata() or {}
    if "training" not in header:
        raise ConfigError(f"{weights} was not written by this script", "Its header has no training record")
    record = json.loads(header["training"])
    predictor = stzoo.create(record["architecture"], device="cpu", **record["config"])
    assign(predictor.module, weights, weights.stem)
    fingerprint = predictor.fingerprint()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        predictor.module(torch.zeros(1, FRAMES, 1, 64, 64))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = predictor.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    test = MovingMNIST("test", args.digits, size=args.sequences)
    digits = args.digits if args.digits in ("hub", "shipped") else "mnist/"
    result = record | {
        "sha256": sha256_of(weights),
        "size": weights.stat().st_size,
        "parameters": sum(p.numel() for p in module.parameters()),
        "flops": counter.get_total_flops() // 2,
        "fingerprint": fingerprint,
        "metrics": measure(module, test),
        "baseline": {"name": "last frame repeated"} | measure(None, test),
        "sequences": args.sequences,
        "definition": "OpenSTL: 10 frames to 10 frames, MSE and MAE summed over a frame's pixels",
        "evaluate_command": "python plugins/video_prediction/train_moving_mnist.py evaluate "
        f"{weights.name if weights.is_absolute() else weights} --digits {digits} --sequences {args.sequences}",
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text, end="")
    if args.output:
        atomically(Path(args.output), lambda path: path.write_text(text))


@torch.inference_mode()
def measure(
    module: nn.Module | None,
    data: MovingMNIST,
    autocast: Callable[[], torch.autocast] | None = None,
) -> dict[str, float]:
    """Metrics of a network, or of the last frame repeated, on all sequences of `data`, in fp32 unless `autocast`."""
    metrics = Metrics()
    if module is not None:
        module.eval()
        device = next(module.parameters()).device
    for start in range(0, len(data), 16):
        videos = [data[i]["video"] for i in range(start, min(start + 16, len(data)))]
        batch = to_batch(np.stack(videos))
        if module is None:
            predicted = batch["frames"][:, -1:].expand_as(batch["target"])
        elif autocast is None:
            predicted = module(batch["frames"].to(device))
        else:
            with autocast():
                predicted = module(batch["frames"].to(device))
        metrics.update(predicted.float().cpu().numpy(), batch["target"].numpy())
    return {name: round(value, 4) for name, value in metrics.compute().items()}


# ------------------------------------------------------------------ command line


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description="Train and evaluate SimVP and TAU on Moving MNIST.")
    commands = root.add_subparsers(required=True)
    digits: dict[str, Any] = {"default": "shipped", "help": "folder with MNIST's idx files, or 'hub', or 'shipped'"}

    p = commands.add_parser("train", help="train a network")
    p.set_defaults(run=train)
    p.add_argument("model", choices=MODELS)
    p.add_argument("--preset", choices=PRESETS, default="small")
    p.add_argument("--config", type=json.loads, default={}, help="JSON object of values that replace the preset's")
    p.add_argument("--batch", type=int, help="sequences a step (default: the preset's)")
    p.add_argument("--lr", type=float, help="peak learning rate (default: the preset's)")
    p.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient")
    p.add_argument("--precision", choices=("fp32", "bf16"), help="bf16: autocast (default: the preset's)")
    p.add_argument("--compile", action="store_true", help="fuse operations with torch.compile")
    p.add_argument("--digits", **digits)
    budget = p.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="optimizer steps (default: the preset's)")
    budget.add_argument("--minutes", type=float, help="anneal over this time instead of a number of steps")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--validation", type=int, default=256, help="held-out sequences measured on the way")
    p.add_argument("--log-minutes", type=float, default=3.0)
    p.add_argument("--save-minutes", type=float, default=3.0)
    p.add_argument("--resume", action="store_true", help="go on from the checkpoint in --output")
    p.add_argument("--output", required=True, help="folder for the weights, the log and the checkpoint")

    p = commands.add_parser("evaluate", help="measure weights on test sequences")
    p.set_defaults(run=evaluate)
    p.add_argument("weights", help="a safetensors file, or the output folder of train")
    p.add_argument("--digits", **digits)
    p.add_argument("--sequences", type=int, default=1_000)
    p.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    p.add_argument("--output", help="JSON file to write the result to")
    return root


if __name__ == "__main__":
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except StzooError as error:
        raise SystemExit(f"error: {error}") from None
