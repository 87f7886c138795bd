"""People who publish and load: processes with a home and a token of their own. PYTEST_DONT_REWRITE: no assertions here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from commandline import TINY
from hubserver import HubServer

SETUP = f"""
import contextlib, io, json, logging, os, sys
import stzoo, torch
from pathlib import Path
from stzoo import cli, errors, publishing, retries
retries.BACKOFF = 0.01
tiny = {TINY!r}
clip = torch.linspace(0, 1, 4 * 256).view(4, 1, 16, 16)
total = lambda predictor: predictor.predict(clip).video.sum().item()
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("stzoo").addHandler(handler)
"""
LOOP = """
for request in sys.stdin:
    code, environment, values = json.loads(request)
    os.environ |= environment
    globals().update(values)
    lines.clear()
    answer = None
    try:
        exec(code)
        reply = {"answer": answer}
    except errors.StzooError as problem:
        reply = {"error": type(problem).__name__, "text": str(problem)}
    print(json.dumps(reply | {"log": " | ".join(lines)}), flush=True)
"""


class Refused(Exception):
    """What the other process raised: the class's name and the text."""


class Person:
    """A process with a home of its own, and whoever's token, that runs code."""

    def __init__(self, hub: HubServer, home: Path) -> None:
        self.home, self.log = home, ""
        env = os.environ | hub.env(home) | {"STZOO_HUB_RETRIES": "2"}
        command = [sys.executable, "-c", SETUP + LOOP]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(
        self, code: str, token: str = "hf_alice", environment: dict[str, str] | None = None, **values: Any
    ) -> None:
        assert self.process.stdin
        line = json.dumps([code, {"HF_TOKEN": token, **(environment or {})}, values], default=str)
        print(line, file=self.process.stdin, flush=True)

    def __call__(self, code: str, token: str = "hf_alice", **values: Any) -> Any:
        self.start(code, token, **values)
        assert self.process.stdout
        reply = json.loads(self.process.stdout.readline())
        self.log = reply["log"]
        if "error" in reply:
            raise Refused(reply["error"], reply["text"])
        return reply["answer"]

    def publish(self, source: Path, repo_id: str, token: str = "hf_alice", **options: Any) -> dict[str, Any]:
        code = "answer = vars(stzoo.publish(source, repo_id, **options))"
        done: dict[str, Any] = self(code, token, source=source, repo_id=repo_id, options=options)
        return done

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
