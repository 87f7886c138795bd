"""The folder of a run: what was asked, what happened, what came out."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files

if TYPE_CHECKING:
    from stzoo.predictor import Predictor

RECORD = "run.json"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
ENVIRONMENT = "environment.json"
LOCK = ".lock"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """A run folder: ``best/`` and ``last/`` (models), ``metrics.jsonl``, ``config.yaml``, ``pictures/``, ``checkpoints/``."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``: status, model, data, times, the best evaluation. Raises ConfigError if this is no run."""
        try:
            record = json.loads((self.folder / RECORD).read_text())
            if record["format_version"] > FORMAT_VERSION:
                raise errors.ConfigError(f"{self.folder} was written by a newer stzoo", "Run: pip install -U stzoo")
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise errors.ConfigError(
                f"{self.folder} is not the folder of a run ({problem})", "Give the --output of a stzoo finetune"
            ) from problem
        found: dict[str, Any] = record
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The resolved options, and ``model`` and ``data``."""
        from stzoo.training.options import read_file

        return read_file(self.folder / CONFIG)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The entries of ``metrics.jsonl`` in order; those with ``"evaluation"`` hold an evaluation."""
        entries: list[dict[str, Any]] = []
        path = self.folder / METRICS
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:  # a line that was cut off by a kill
                break
        return entries

    def load(self, which: str = "best", **options: Any) -> Predictor:
        """The model with the best (or ``"last"``) weights, as ``stzoo.load`` gives it."""
        from stzoo import api

        return api.load(self.folder / which, **options)

    def __repr__(self) -> str:
        record = self.record
        return f"Run({str(self.folder)!r}, {record['status']}, step {record.get('step')}, best {record.get('best')})"

    # --- writing ------------------------------------------------------------------------------------------------------

    def update(self, **values: Any) -> None:
        """Change entries of the record."""
        record = self.record if (self.folder / RECORD).exists() else {"format_version": FORMAT_VERSION}
        text = json.dumps(record | values, indent=2) + "\n"
        files.write_atomically(self.folder / RECORD, text.encode())

    def write_config(self, values: Mapping[str, Any]) -> None:
        import yaml

        text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        files.write_atomically(self.folder / CONFIG, text.encode())

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line to the metrics."""
        with (self.folder / METRICS).open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def rewind(self, step: int) -> None:
        """Forget what was logged after ``step``: it is about to happen again."""
        kept = "".join(json.dumps(entry) + "\n" for entry in self.metrics if entry["step"] <= step)
        files.write_atomically(self.folder / METRICS, kept.encode())


def open_folder(folder: Path, resume: bool, needed: int) -> Any:
    """Make the run folder, or take it up again; returns the lock that keeps others out while this process lives.

    ``needed``: bytes that the run will write at least. Raises ConfigError if the folder is in use, holds something else or
    cannot be written, DiskFull if there is no room.
    """
    import filelock

    if resume:
        _ = Run(folder).record
    elif (folder / RECORD).exists():
        record = Run(folder).record
        if record.get("status") != "failed" or record.get("best"):  # otherwise it failed before it had anything to keep
            raise errors.ConfigError(f"{folder} already holds a run", "Go on with --resume, or give another folder")
    elif folder.exists() and (not folder.is_dir() or any(not _unfinished(item.name) for item in folder.iterdir())):
        raise errors.ConfigError(f"{folder} exists and is not an empty folder", "Give another folder")
    lock = filelock.FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise errors.ConfigError(
            f"{folder} is in use by another process", "Wait for it, stop it, or give another folder"
        ) from None
    except OSError as problem:
        raise errors.ConfigError(f"{folder} cannot be written ({problem.strerror})", "Give another folder") from problem
    remedy = "Free some space, keep fewer checkpoints, or give a folder on a larger disk"
    files.check_free(folder, needed, "the run", remedy)
    return lock


def _unfinished(name: str) -> bool:
    """Whether it is what a run leaves that was killed before its record was written."""
    return name in (CONFIG, ENVIRONMENT) or name.startswith(".")


def environment(processes: int, device: str) -> dict[str, Any]:
    """Versions, hardware and command, to be able to do it again. Names no host and no user."""
    import torch

    return {
        "command": command_line(),
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "hardware": hardware(processes, device),
        "threads": torch.get_num_threads(),
        "packages": _packages(),
        "variables": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("STZOO_", "ACCELERATE_", "OMP_", "WORLD_SIZE"))
        },
    }


@cache
def _packages() -> dict[str, str]:
    """Versions of all that is installed."""
    from importlib.metadata import distributions

    about = [item.metadata for item in distributions()]  # parsed anew each time it is asked for
    return dict(sorted((str(item["Name"]).lower(), str(item["Version"])) for item in about))


def command_line() -> str:
    """The command that started this process, as a person would write it."""
    import shlex

    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    if words[0] in ("__main__.py", "stzoo"):
        words[0] = "stzoo"
    return shlex.join(words)


def hardware(processes: int, device: str) -> str:
    """Such as ``"2 x NVIDIA H200"`` or ``"CPU, 2 cores"``."""
    import torch

    if device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        name = f"CPU, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)} each process"
    return name if processes == 1 else f"{processes} x {name}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
