"""A web server on this machine that gives files, and does things wrong on demand.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebServer:
    """Serves ``files`` (path -> bytes) with strong ETags and ranges, and redirects ``moved`` (path -> address).

    ``wrongs`` are done one after the other, each to one request for a file: the name of a method of `Handler`, with what it
    takes. ``requests`` is the log of (path, headers); ``ranges = False`` ignores Range headers.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.wrongs: list[tuple[Any, ...]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.ranges = True
        handler = type("Bound", (Handler,), {"site": self})
        self._listener = _Listener(("127.0.0.1", 0), handler)
        self._listener.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._listener.server_port}"
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()


class _Listener(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: WebServer

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site = self.site
        site.requests.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        path = self.path.partition("?")[0]
        if path in site.moved:
            return self.answer(302, b"", Location=site.moved[path])
        if path not in site.files:
            return self.answer(404, b"<html>nothing here</html>", **{"Content-Type": "text/html"})
        body = site.files[path]
        wrong, *details = site.wrongs.pop(0) if site.wrongs else ("give",)
        do: Callable[..., None] = getattr(self, wrong)
        do(body, *details)

    def give(self, body: bytes, **headers: str) -> None:
        """As it should be."""
        self.answer(*self.part(body), **headers)

    def part(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not wanted or not self.site.ranges or self.headers.get("If-Range", tag) != tag:
            return 200, body, headers
        start = int(wanted[1])
        if start >= len(body):
            return 416, b"", {"Content-Range": f"bytes */{len(body)}"}
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return 206, body[start:], headers

    def answer(self, status: int, body: bytes, given: dict[str, str] | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(given or {}), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    # --- wrongs -------------------------------------------------------------------------------------------------------

    def cut(self, body: bytes, after: int) -> None:
        """Announce everything, break off after so many bytes."""
        status, rest, headers = self.part(body)
        self.answer(status, rest[:after], headers | {"Content-Length": str(len(rest))})
        self.close_connection = True

    def page(self, body: bytes, kind: str) -> None:
        """A web page."""
        self.answer(200, b"<!DOCTYPE html><html>please confirm</html>", {"Content-Type": kind})

    def status(self, body: bytes, status: int) -> None:
        """No file."""
        self.answer(status, b"", {"Retry-After": "0"})

    def silent(self, body: bytes) -> None:
        """Not a word about the length."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def packed(self, body: bytes) -> None:
        """Compressed, which was not asked for."""
        self.answer(200, body, {"Content-Encoding": "gzip"})

    def misplaced(self, body: bytes) -> None:
        """Another part than was asked for."""
        self.answer(206, body[3:], {"Content-Range": f"bytes 3-{len(body) - 1}/{len(body)}"})

    def slow(self, body: bytes, seconds: float) -> None:
        """Half of it, a pause, the rest."""
        status, rest, headers = self.part(body)
        half = len(rest) // 2
        self.answer(status, rest[:half], headers | {"Content-Length": str(len(rest))})
        self.wfile.flush()
        time.sleep(seconds)
        self.wfile.write(rest[half:])
