"""Shared by all tests: nothing of the user's own caches or settings is used."""

from __future__ import annotations

import fcntl
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import wheels
from hubserver import HubServer

if TYPE_CHECKING:
    from mortal import Server

# Set before anything is imported: huggingface_hub and torch read their settings once.
_home = tempfile.TemporaryDirectory(prefix="stzoo-tests-")
os.environ["HF_HOME"] = _home.name
for variable in list(os.environ):  # COLUMNS, which pytest-xdist sets, would cut tables
    if variable.startswith(("STZOO_", "HF_HUB_")) or variable in ("HF_TOKEN", "HF_ENDPOINT", "COLUMNS"):
        del os.environ[variable]

importlib.import_module(
    "huggingface_hub.constants"
)  # now: a test that sets HF_HUB_OFFLINE must not settle it for others


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub for the tests of one file."""
    with HubServer(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: HubServer) -> HubServer:
    """That Hub, with nothing asked of it yet and no fault planned."""
    server.faults.clear()
    server.requests.clear()
    server.ranges = True
    return server


@pytest.fixture(scope="session")
def forks() -> Iterator[Server]:
    """Runs commands in processes of their own, which need no time to begin."""
    from mortal import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source distributions of everything in the repository, and wheels built from them: once for all of a run's processes."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "dist"
    with (Path(tempfile.gettempdir()) / f"stzoo-build-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # setuptools builds inside the repository: one process at a time
        return folder if folder.exists() else wheels.distributions(tmp_path_factory.mktemp("dist")).rename(folder)
