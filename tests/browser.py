"""What the tests of the demo share: a running `stzoo demo`, and a real Chromium that looks at it.

Screenshots go to the folder in the environment variable SCREENSHOTS, else to a temporary one.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Software rendering, so that 3D viewers work without a graphics card; no host but this machine has an address.
FLAGS = (
    "--no-sandbox",
    "--no-proxy-server",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Demo:
    """A running `stzoo demo` in a process and a folder of its own; ``with Demo(folder) as demo`` waits until it answers.

    Every connection that it tries to make to another machine goes to a proxy that refuses and counts it: :attr:`outside`.
    """

    def __init__(self, folder: Path, *words: str, command: Sequence[str] = ("-m", "stzoo", "demo")) -> None:
        self.folder = folder
        self.uploads = folder / "uploads"
        self.log = folder / "demo.log"
        self.outside: list[str] = []
        self._words = [sys.executable, *command, *words]

    def __enter__(self) -> Demo:
        self._proxy = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._refuse, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        work = self.folder / "work"
        work.mkdir(parents=True)
        proxy = f"http://127.0.0.1:{self._proxy.getsockname()[1]}"
        environment = os.environ | {"GRADIO_TEMP_DIR": str(self.uploads), "no_proxy": "127.0.0.1,localhost"}
        environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), proxy)
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self._words, "--port", str(port), "--no-browser"],
                cwd=work,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._proxy.close()

    def _wait(self) -> None:
        until = time.monotonic() + 180
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(self.url, trust_env=False, timeout=20).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise RuntimeError(f"the demo does not answer:\n{self.log.read_text()}")

    def _refuse(self) -> None:
        while True:
            try:
                connection, _ = self._proxy.accept()
            except OSError:  # closed: the demo has ended
                return
            with connection:
                connection.settimeout(5)
                self.outside.append(connection.recv(4096).decode("latin-1").partition("\r\n")[0])
                connection.sendall(b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs and answers."""
        if self.process.poll() is not None:
            return False
        return httpx.get(f"{self.url}/gradio_api/queue/status", trust_env=False, timeout=30).status_code == 200

    def memory(self) -> int:
        """Bytes in memory, of the process and its children."""
        process = psutil.Process(self.process.pid)
        return sum(item.memory_info().rss for item in (process, *process.children(recursive=True)))

    def functions(self) -> dict[str, dict[str, Any]]:
        """The named endpoints that predict: name -> its entry in the app's configuration."""
        found = httpx.get(f"{self.url}/config", trust_env=False, timeout=30).json()["dependencies"]
        return {item["api_name"]: item for item in found if str(item["api_name"]).startswith("predict_")}


@dataclass
class Visit:
    """An open page and what happened on it."""

    page: Any
    demo: Demo
    screenshots: Path
    requests: list[str] = field(default_factory=list)
    """Addresses the page asked for."""
    problems: list[str] = field(default_factory=list)
    """Errors on its console, exceptions, and answers of 400 and more."""

    def open(self, path: str = "/") -> None:
        """Go to a page of the demo and wait until it is drawn."""
        self.page.goto(self.demo.url + path, wait_until="load")
        self.page.locator(".gradio-container h1, .gradio-container h2").first.wait_for(timeout=20_000)

    def screenshot(self, name: str, whole: bool = False) -> Path:
        """Take a picture of what is on the screen, or of the ``whole`` page."""
        path = self.screenshots / f"{name}.png"
        self.page.screenshot(path=path, full_page=whole)
        return path

    @property
    def strangers(self) -> list[str]:
        """Requests to any other host than the demo."""
        own = urlsplit(self.demo.url).netloc
        return [url for url in self.requests if urlsplit(url).scheme not in ("data", "blob") and own not in url]


def _is_problem(said: Any) -> bool:
    """Whether a message on the console tells of one: the viewer of scenes tries WebGPU first, and says so loudly."""
    return said.type == "error" and "WebGPU" not in said.text


Open = Callable[..., Visit]
"""Makes a new tab: ``visit(width=390, dark=True)``; ``of``: another demo than that of everything."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The gallery of everything that is installed."""
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'stzoo[demo]'")
    with Demo(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of one file: its API takes the thread's event loop, and two cannot have it."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (chosen := os.environ.get("SCREENSHOTS")):
        return tmp_path_factory.mktemp("screenshots")
    folder = Path(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(chromium: Any, demo: Demo, screenshots: Path) -> Iterator[Open]:
    contexts = []

    def make(width: int = 1280, height: int = 900, dark: bool = False, of: Demo = demo) -> Visit:
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        tab = Visit(context.new_page(), of, screenshots)
        tab.page.set_default_timeout(20_000)
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        tab.page.on("websocket", lambda opened: tab.requests.append(opened.url))
        tab.page.on("pageerror", lambda problem: tab.problems.append(str(problem)))
        tab.page.on("console", lambda said: _is_problem(said) and tab.problems.append(said.text))
        tab.page.on(
            "response", lambda answer: answer.status >= 400 and tab.problems.append(f"{answer.status} {answer.url}")
        )
        return tab

    yield make
    for context in contexts:
        context.close()
