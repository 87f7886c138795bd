"""Which processes take part."""

from __future__ import annotations

import os

from stzoo.errors import ConfigError


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
