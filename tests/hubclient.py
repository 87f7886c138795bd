"""Processes that call stzoo.hub, for tests of it. PYTEST_DONT_REWRITE: no assertions but on the process itself."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hubserver import HubServer

BODY = random.Random(0).randbytes(4 << 20)
LARGE = BODY * 4
SHA256 = hashlib.sha256(BODY).hexdigest()
WEIGHTS, CONFIG = "model.safetensors", "config.json"
FILES = {WEIGHTS: BODY, CONFIG: b'{"stzoo": {}}'}
NOWHERE = "http://127.0.0.1:9"

DRIVER = """
import hashlib, json, logging, os, shutil, sys
from pathlib import Path
from types import SimpleNamespace
import stzoo.hub
from stzoo import errors, hub, retries, upload

def client(repo_id, filename, **options):
    from huggingface_hub import hf_hub_download
    return SimpleNamespace(path=Path(hf_hub_download(repo_id, filename, **options)))

def publish(folder, repo_id, **options):
    paths = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*.*") if path.is_file()}
    to = upload.destination(repo_id, **options)
    done = upload.upload(paths, to, "Test")
    return SimpleNamespace(**(vars(done) | {"url": to.page(done.commit), "kept": sorted(done.kept)}))

def cached(*arguments, **options):
    return SimpleNamespace(path=hub.cached(*arguments, **options))

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("stzoo").addHandler(handler)
retries.BACKOFF = 0.01
commands = {"fetch": hub.fetch, "cached": cached, "client": client, "publish": publish}
commands["imported"] = lambda: SimpleNamespace(modules=sorted({"torch", "httpx2"} & set(sys.modules)))
disk_usage = shutil.disk_usage
for line in sys.stdin:
    command, arguments, options = json.loads(line)
    lines.clear()
    free = options.pop("free", None)
    shutil.disk_usage = disk_usage if free is None else lambda path: SimpleNamespace(free=free)
    try:
        answer = vars(commands[command](*arguments, **options))
        if answer.get("path"):
            answer["sha256"] = hashlib.sha256(answer["path"].read_bytes()).hexdigest()
    except errors.StzooError as error:
        answer = {"error": type(error).__name__, "text": str(error), "remedy": error.remedy,
                  "cause": type(error.__cause__).__name__}
    print(json.dumps({"error": None, **answer, "log": " | ".join(lines)}, default=str), flush=True)
"""


class Client:
    """A process with its own environment that calls stzoo.hub, one command after the other."""

    def __init__(self, env: dict[str, str], *prefix: str) -> None:
        defaults = {"STZOO_HUB_RETRIES": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "60", "HF_HUB_ETAG_TIMEOUT": "60"}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", DRIVER],
            env={**defaults, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the client died"
        return line

    def start(self, command: str, *arguments: object, **options: object) -> None:
        assert self.process.stdin
        print(json.dumps([command, arguments, options]), file=self.process.stdin, flush=True)

    def answer(self) -> SimpleNamespace:
        return SimpleNamespace(**json.loads(self.read()))

    def __call__(self, command: str, *arguments: object, **options: object) -> SimpleNamespace:
        self.start(command, *arguments, **options)
        return self.answer()

    def fetch(self, *arguments: object, **options: object) -> SimpleNamespace:
        return self("fetch", *arguments, **options)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(server: HubServer, home: Path) -> Iterator[Client]:
    process = Client(server.env(home))
    yield process
    process.close()


@pytest.fixture
def new_client() -> Iterator[Any]:
    """Makes clients with other environments."""
    clients: list[Client] = []

    def make(env: dict[str, str], *prefix: str) -> Client:
        clients.append(Client(env, *prefix))
        return clients[-1]

    yield make
    for process in clients:
        process.close()


@pytest.fixture
def repo(hub: HubServer, request: pytest.FixtureRequest) -> str:
    """A repo of this test alone."""
    repo_id = "stzoo/" + "".join(c if c.isalnum() else "-" for c in request.node.name).strip("-").replace("--", "-")
    hub.put(repo_id, FILES)
    return repo_id


def blobs(home: Path, repo: str) -> Path:
    return home / "hub" / f"models--{repo.replace('/', '--')}" / "blobs"


def flip(path: Path | str, at: int = 1000) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
