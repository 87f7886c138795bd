"""What the tests of the demo share: a running `stzoo demo`, and a real Chromium that looks at it.

Screenshots go to the folder in the environment variable SCREENSHOTS; without it, none are taken.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import os
import re
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


PATIENCE = 60
"""Seconds that anything may take on a busy machine."""


PALE = """() => {
    const numbers = colour => colour.match(/[0-9.]+/g).map(Number)
    const light = ([...colour]) => [0.2126, 0.7152, 0.0722].reduce((sum, share, part) => {
        const value = colour[part] / 255
        return sum + share * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    }, 0)
    const paper = element => {
        const own = numbers(getComputedStyle(element).backgroundColor)
        return own.length === 3 || own[3] === 1 ? own : paper(element.parentElement)
    }
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = new Set()
    while (texts.nextNode()) {
        const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement
        if (!text || !element.checkVisibility({visibilityProperty: true}) || element.closest("script, style, .cm-line, code")) continue
        const lights = [getComputedStyle(element).color, null].map(ink => light(ink ? numbers(ink) : paper(element)))
        if ((Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05) < 4.5) found.add(text.slice(0, 30))
    }
    return [...found]
}"""
"""Texts whose contrast with what is behind them is under 4.5, WCAG's AA. (Code is darkened by a filter, which counts for nothing here.)"""


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
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=PATIENCE)
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
        self.http.close()

    def _wait(self) -> None:
        until = time.monotonic() + 5 * PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.http.get("/").status_code == 200:
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
        return self.http.get("/gradio_api/queue/status").status_code == 200

    def memory(self) -> int:
        """Bytes in memory, of the process and its children."""
        process = psutil.Process(self.process.pid)
        return sum(item.memory_info().rss for item in (process, *process.children(recursive=True)))

    def functions(self) -> dict[str, dict[str, Any]]:
        """The named endpoints that predict: name -> its entry in the app's configuration."""
        found = self.http.get("/config").json()["dependencies"]
        return {item["api_name"]: item for item in found if str(item["api_name"]).startswith("predict_")}


@dataclass
class Visit:
    """An open page and what happened on it."""

    page: Any
    demo: Demo
    requests: list[str] = field(default_factory=list)
    """Addresses the page asked for."""
    problems: list[str] = field(default_factory=list)
    """Errors on its console, exceptions, and answers of 400 and more."""

    def open(self, path: str = "/") -> None:
        """Go to a page of the demo and wait until it is drawn."""
        self.page.goto(self.demo.url + path, wait_until="load")
        self.page.locator(".gradio-container h1, .gradio-container h2").first.wait_for()

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True, include_hidden=True)

    @property
    def examples(self) -> Any:
        """The buttons of examples."""
        return self.page.get_by_role("button", name=re.compile("first test example|Synthetic test pattern"))

    def predict(self) -> Any:
        """Press Predict, and wait for what a page says under the outputs; of a first prediction."""
        self.button("Predict").click()
        facts = self.page.get_by_text("sha256").first
        facts.wait_for()
        return facts

    def screenshot(self, name: str, whole: bool = False) -> None:
        """Take a picture of what is on the screen, or of the ``whole`` page."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder, f"{name}.png"), full_page=whole)

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
    """A browser for the tests of one file, which share its cache: its API takes the thread's event loop, and two cannot have it."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        browser.close()


@pytest.fixture
def visit(chromium: Any, demo: Demo) -> Iterator[Open]:
    """Opens tabs. In the end, nothing must have gone wrong in them, and no other host have been asked, not by the server either."""
    tabs: list[Visit] = []

    def make(width: int = 1280, height: int = 900, dark: bool = False, of: Demo = demo) -> Visit:
        tab = Visit(chromium.new_page(), of)
        tabs.append(tab)
        tab.page.set_viewport_size({"width": width, "height": height})
        tab.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        tab.page.on("websocket", lambda opened: tab.requests.append(opened.url))
        tab.page.on("pageerror", lambda problem: tab.problems.append(str(problem)))
        tab.page.on("console", lambda said: tab.problems.extend([said.text] * _is_problem(said)))
        tab.page.on(
            "response", lambda answer: tab.problems.extend([f"{answer.status} {answer.url}"] * (answer.status >= 400))
        )
        return tab

    yield make
    found = [item for tab in tabs for item in (*tab.problems, *tab.strangers, *tab.demo.outside)]
    found += ["a tab asked for nothing" for tab in tabs if not tab.requests]
    for tab in tabs:
        tab.page.close()
    if found:
        pytest.fail("\n".join(found))
