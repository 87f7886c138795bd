"""What stands between strangers and Gradio: requests it would serve and a demo should not are turned away in plain words.

``launch(app_kwargs={"middleware": [starlette.middleware.Middleware(Guard, limits)]})`` puts it in front of a demo.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

from stzoo.ui.limits import Limits

# It comes with Gradio.
from starlette.formparsers import MultiPartException  # isort: skip

log = logging.getLogger("stzoo")

LARGEST = 2**20
"""Bytes of a request that is not an upload. Pictures and clips are uploaded first, and named in it."""
LEAVING = b'<script>addEventListener("beforeunload", event => event.stopImmediatePropagation())</script>'
"""Into every page, before Gradio's own script: that would close its stream of events as soon as a link is clicked, say on
the page still shown that the connection was lost, and load that page again two seconds later. The browser closes it anyway."""
SMOOTH = b"""<script>addEventListener("load", ({target: image}) => {
  if (image.tagName !== "IMG" || !image.closest(".stzoo-pixels")) return
  const scale = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight)
  image.style.imageRendering = scale * devicePixelRatio < 1 ? "auto" : "pixelated"
}, true)</script>"""
"""Likewise: pictures that are shown smaller than they are do not lose every second pixel."""
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # two letters at least: C:/ is a path


class Guard:
    """ASGI middleware. Refuses large or malformed JSON, files named by an address (the server asks no other host), uploads
    that are too large or too slow, and more requests at a time than the limits allow."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app = app
        self.limits = limits
        self.open = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self.open >= self.limits["connections"]:
            await _refuse(send, 503, "Too many visitors at once. Try again in a while.")
        else:
            self.open += 1
            try:
                await self._watched(scope, receive, send)
            finally:
                self.open -= 1

    async def _watched(self, scope: Any, receive: Any, send: Any) -> None:
        receive = _bounded(receive, self.limits)
        headers = {name.lower(): value.lower() for name, value in scope["headers"]}
        kind = headers.get(b"content-type", b"")
        if _ADDRESS.match(scope["path"].partition("/file=")[2]):
            await _refuse(send, 403, "Only files of this demo are served.")
        elif scope["method"] in ("GET", "HEAD", "OPTIONS") or kind.startswith(b"multipart/form-data"):
            await self._answered(scope, receive, send)
        else:
            try:
                body = await _body(receive)
            except MultiPartException as late:
                await _refuse(send, 408, late.message)
                return
            if body is None:
                await _refuse(send, 413, f"The request is larger than {LARGEST // 2**20} MB. Upload files first.")
            elif (problem := _problem(body)) and (b"json" in kind or problem == _FETCHES):
                await _refuse(send, 400, problem)
            else:
                await self._answered(scope, _again(body, receive), send)

    async def _answered(self, scope: Any, receive: Any, send: Any) -> None:
        """Gradio raises KeyError and the like where a request names what is not there."""
        started, send = False, _leaving_calmly(send)

        async def sending(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if started:
                raise
            await _refuse(send, 400, "The request cannot be understood; the details are in the server's log.")


_FETCHES = "This demo fetches nothing from other hosts. Download the file, then upload it."


def _problem(body: bytes) -> str:
    """What is wrong with a JSON body, if anything."""
    try:
        content = json.loads(body) if body else None
        return _FETCHES if any(_ADDRESS.match(path) for path in _paths(content)) else ""
    except (ValueError, RecursionError):
        return "The request is not valid JSON."


def _paths(content: Any) -> Iterator[str]:
    """Every file that is named anywhere in a request."""
    if isinstance(content, dict):
        if isinstance(content.get("path"), str):
            yield content["path"]
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from _paths(item)


async def _body(receive: Any) -> bytes | None:
    """The whole body; None as soon as it is too large."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST:
            return None
    return body


def _bounded(receive: Any, limits: Limits) -> Any:
    """A ``receive`` for a body that comes in time, is not too large, and does not end in the middle. Raises MultiPartException:
    Gradio then removes what it has stored of the body so far."""
    left, deadline, more = limits["max_upload"] * 1e6, time.monotonic() + limits["upload_time"], True

    async def bounded() -> Any:
        nonlocal left, more
        if not more:  # the body is there: what comes is the end of the connection
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise MultiPartException(f"An upload may take {limits['upload_time']:g} seconds.") from None
        if message["type"] == "http.disconnect":
            raise MultiPartException("The upload ended in the middle.")
        left, more = left - len(message.get("body", b"")), message.get("more_body", False)
        if left < 0:  # "maximum allowed size": by these words Gradio answers 413
            raise MultiPartException(
                f"The files exceed the maximum allowed size of {limits['max_upload']:g} MB together."
            )
        return message

    return bounded


def _again(body: bytes, receive: Any) -> Any:
    """A ``receive`` that gives the body that was read already, then goes on."""
    kept = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return kept.pop() if kept else await receive()

    return again


def _leaving_calmly(send: Any) -> Any:
    """A ``send`` that puts ``LEAVING`` into pages; Gradio's come in one piece."""
    start: Any = None

    async def sending(message: Any) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            headers = dict(message["headers"])
            kind, size = headers.get(b"content-type", b""), headers.get(b"content-length")
            if kind.startswith(b"text/html") and size and b"content-disposition" not in headers:
                start = message
                return
        elif start:
            if not message.get("more_body"):
                body = message["body"].replace(b"<head>", b"<head>" + LEAVING + SMOOTH, 1)
                length = (b"content-length", str(len(body)).encode())
                start["headers"] = [item for item in start["headers"] if item[0] != length[0]] + [length]
                message = {**message, "body": body}
            await send(start)
            start = None
        await send(message)

    return sending


async def _refuse(send: Any, status: int, reason: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})
