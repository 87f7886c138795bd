"""A process that has imported all that commands need, and forks: each fork is a whole ``stzoo`` command that may die.

It reads jobs as lines of JSON and answers each with the exit codes of its processes. As ``torchrun`` does, it kills the
others when one has died. PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import stzoo
from stzoo import registry
from stzoo.cli import main
from stzoo.training.run import environment

OURS = tuple(str(Path(stzoo.__file__).parent / name) for name in ("training", "bulk.py", "shards.py"))
COUNTED = "lines of the command's own were run:"


class Mortal:
    """Lines of the code of trainings and bulk predictions are counted; at a certain one the process gets a signal."""

    def __init__(self, number: int, line: int) -> None:
        self.number, self.line, self.count = number, line, 0

    def call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code  # comprehensions would outweigh everything else
        return self.step if code.co_filename.startswith(OURS) and code.co_name[0] != "<" else None

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self.count += 1
            if self.count == self.line:
                os.kill(os.getpid(), self.number)
        return self.step


def live(job: dict[str, Any], rank: int, port: int) -> int:
    """One process of a job."""
    sys.argv = ["stzoo", *job["words"]]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job["processes"] > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["processes"], "MASTER_PORT": port}
        os.environ |= {key: str(value) for key, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1"}
    if job["site"]:
        sys.path.insert(0, job["site"])
        registry._registry.cache_clear()
    if job["largest"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
    signal.setitimer(signal.ITIMER_REAL, job["seconds"] or 1200)  # wherever it is then, also inside of torch
    if job["words"][0].endswith(".py"):
        sys.argv = job["words"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell lets it be ignored
    if not (line := job["line"] if rank == job["rank"] else 0):
        return main(job["words"])
    mortal, begun = Mortal(job["signal"], line), time.monotonic()
    sys.settrace(mortal.call)
    try:
        return main(job["words"])
    finally:
        sys.settrace(None)
        print(COUNTED, mortal.count, "in", time.monotonic() - begun, "seconds", flush=True)


def ended(code: int) -> None:
    """The end of a process as Python has it, but for taking a thousand modules apart, which takes seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def fork(job: dict[str, Any]) -> list[int]:
    """Run a job to its end; the exit codes by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    codes: dict[int, int] = {}
    pids = []
    for rank in range(job["processes"]):
        if not (pid := os.fork()):
            ended(live(job, rank, port))
        pids.append(pid)
    while len(codes) < len(pids):
        pid, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        for other in set(pids) - codes.keys() - {pid} if code < 0 else ():
            os.kill(other, signal.SIGKILL)
        codes[pid] = code
    return [codes[pid] for pid in pids]


class Server:
    """This file, running, as tests talk to it."""

    def __init__(self, folder: Path | None = None, environment: Mapping[str, str] = os.environ) -> None:
        words = [sys.executable, __file__]
        self.process = subprocess.Popen(words, stdin=-1, stdout=-1, text=True, cwd=folder, env=environment)

    def run(self, words: list[object], log: Path, processes: int = 1, **fate: Any) -> list[int]:
        """``stzoo WORDS``, or a script with its words; what it says is appended to ``log``.

        ``fate``: at the ``line``-th line of the process ``rank`` a ``signal`` comes (-1: never, they are counted); or it
        dies after so many ``seconds``; or no file may be larger than ``largest`` bytes; plugins are also in ``site``.
        """
        fate = {"signal": signal.SIGKILL, "line": 0, "rank": 0, "seconds": 0, "largest": 0, "site": ""} | fate
        job = {"words": list(map(str, words)), "log": str(log), "processes": processes} | fate
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        codes: list[int] = json.loads(self.process.stdout.readline())
        return codes

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=10)


if __name__ == "__main__":
    for name in ("training.loop", "training.watch", "measuring", "data", "layout", "bulk"):
        importlib.import_module(f"stzoo.{name}")
    for name in ("torch._dynamo", "torchmetrics.functional.image", "datasets", "accelerate.utils", "matplotlib.figure"):
        importlib.import_module(name)
    stzoo.create("tau")  # its plugin, and the registry
    environment(1, "cpu")
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)
    os._exit(0)  # tidying up takes longer
