"""Shared by all tests: nothing of the user's own caches or settings is used."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import wheels

# Set before anything is imported: huggingface_hub and torch read their settings once.
_home = tempfile.TemporaryDirectory(prefix="stzoo-tests-")
os.environ["HF_HOME"] = _home.name
for variable in list(os.environ):
    if variable.startswith(("STZOO_", "HF_HUB_")) or variable in ("HF_TOKEN", "HF_ENDPOINT"):
        del os.environ[variable]

# One thread: networks of tests are small, and threads that wait for each other on a busy machine take many times longer.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Source distributions of everything in the repository, and wheels built from them."""
    return wheels.distributions(tmp_path_factory.mktemp("dist"))
