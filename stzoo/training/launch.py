"""Which processes take part, and what Accelerate is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo.errors import ConfigError, DependencyMissing

if TYPE_CHECKING:
    from accelerate import Accelerator

    from stzoo.recipe import Recipe


def check_launcher() -> None:
    """Raise ConfigError where several processes were asked for and Accelerate started one.

    ``accelerate launch --cpu --num_processes 2`` does so without a word unless MPI is set up.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or "ACCELERATE_USE_CPU" not in os.environ:
        return
    import psutil

    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return
    joined = " ".join(words[:4])
    if not ("accelerate.commands.launch" in joined or ("accelerate" in joined and "launch" in words[:4])):
        return
    start = next(index for index, word in enumerate(words) if word.endswith("launch"))
    if (asked := _processes(words[start + 1 :])) > 1:
        command = f"torchrun --standalone --nproc_per_node {asked} -m stzoo ..."
        raise ConfigError(
            f"{asked} processes were asked for, but accelerate launch starts only one on a CPU", f"Run: {command}"
        )


def _processes(words: list[str]) -> int:
    """How many processes ``accelerate launch`` was asked for, by its words or its configuration file."""
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    try:
        args, _ = launch_command_parser().parse_known_args(words)
        if args.num_processes is not None:
            return int(args.num_processes)
        file = args.config_file or default_config_file
        return int(load_config_from_file(file).num_processes or 1) if os.path.isfile(file) else 1
    except (SystemExit, ValueError, OSError, TypeError):  # words of another version: nothing is known
        return 1


def make_accelerator(folder: Path, options: Mapping[str, Any], recipe: Recipe) -> Accelerator:
    """Accelerate as the options, and its own configuration, want it. Raises ConfigError if it cannot be set up so,
    DependencyMissing for a tracker that is not installed."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, ProjectConfiguration

    unused = bool(recipe.without_gradient or options["freeze"]) or len(recipe.stages) > 1
    try:
        accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),  # without it, torchrun on a CPU gives processes that know nothing of each other
            mixed_precision=options["precision"],
            gradient_accumulation_plugin=GradientAccumulationPlugin(options["accumulate"]),  # no variable changes it
            log_with=list(options["trackers"]) or None,
            project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "tensorboard")),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
    except (ValueError, RuntimeError, ImportError) as problem:  # DeepSpeed may be missing
        raise ConfigError(f"Accelerate cannot be set up so: {problem}") from problem
    there = {"all", *map(str, accelerator.log_with)}
    if lost := [name for name in options["trackers"] if name not in there]:  # Accelerate leaves them out without a word
        raise DependencyMissing(
            f"the tracker {lost[0]!r} is not installed", f"Run: pip install {lost[0]}, or give other trackers"
        )
    return accelerator


def tell_deepspeed(config: dict[str, Any], options: Mapping[str, Any]) -> None:
    """The run's options as DeepSpeed takes them: no data loader is prepared that would tell it, and it clips by itself."""
    config["train_micro_batch_size_per_gpu"] = options["batch_size"]
    config["gradient_accumulation_steps"] = options["accumulate"]
    if options["clip"] is not None or config.get("gradient_clipping") == "auto":  # which Accelerate would take for 1
        config["gradient_clipping"] = options["clip"] or 0.0
    if config["zero_optimization"]["stage"] == 3:  # otherwise nobody could evaluate or keep the weights
        config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True


def forget_accelerator() -> None:
    """Let the next run of this process choose its own precision and accumulation: Accelerate keeps them for good."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
