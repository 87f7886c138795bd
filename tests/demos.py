"""What the tests of demos share: a demo served in this process, its clients and functions, a clip.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stzoo
from stzoo import media
from stzoo.requirements import Requirements

gradio_client = pytest.importorskip("gradio_client", reason="demos need gradio: pip install 'stzoo[demo]'")

READY = [item for item in stzoo.models() if (item.weights.bundled if item.weights else not item.source)]
"""Models that need nothing from elsewhere: with bundled weights, or with none."""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves a demo on a free port; returns its address."""
    from stzoo.ui.gallery import launch

    running = []

    def start(blocks: Any) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url: str = launch(blocks, server_port=port, prevent_thread_lock=True, quiet=True)[1]
        running.append(blocks)
        return url

    yield start
    for blocks in running:
        blocks.server.force_exit = True  # clients keep a stream open, for whose end it would wait
        blocks.close(verbose=False)


def client(url: str, folder: Path) -> Any:
    return gradio_client.Client(url, verbose=False, download_files=str(folder), analytics_enabled=False)


def handler(blocks: Any, name: str, index: int = 0) -> Any:
    """The function behind an event of a page, by its name; of a generator the last that comes."""
    function = [item.fn for item in blocks.fns.values() if item.name == name][index]
    return (lambda *values: list(function(*values))[-1]) if inspect.isgeneratorfunction(function) else function


def clip(folder: Path, frames: int = 10) -> Path:
    path = folder / "clip.npz"
    media.write_video(media.sample_clip(frames, Requirements(channels=1, native_size=(64, 64))), path)
    return path
