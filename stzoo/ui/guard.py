"""What stands between strangers and Gradio: requests it would serve and a demo should not are turned away in plain words.

``launch(app_kwargs={"middleware": [starlette.middleware.Middleware(Guard)]})`` puts it in front of a demo.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

log = logging.getLogger("stzoo")

LARGEST = 2**20
"""Bytes of a request that is not an upload. Pictures and clips are uploaded first, and named in it."""
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # two letters at least: C:/ is a path


class Guard:
    """ASGI middleware. Refuses large or malformed JSON, and files named by an address: the server asks no other host."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.lower() for name, value in scope["headers"]}
        kind = headers.get(b"content-type", b"")
        if _ADDRESS.match(scope["path"].partition("/file=")[2]):
            await _refuse(send, 403, "Only files of this demo are served.")
        elif scope["method"] in ("GET", "HEAD", "OPTIONS") or kind.startswith(b"multipart/form-data"):
            await self._answered(scope, receive, send)
        else:
            body = await _body(receive)
            if body is None:
                await _refuse(send, 413, f"The request is larger than {LARGEST // 2**20} MB. Upload files first.")
            elif (problem := _problem(body)) and (b"json" in kind or problem == _FETCHES):
                await _refuse(send, 400, problem)
            else:
                await self._answered(scope, _again(body, receive), send)

    async def _answered(self, scope: Any, receive: Any, send: Any) -> None:
        """Gradio raises KeyError and the like where a request names what is not there."""
        started = False

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


def _again(body: bytes, receive: Any) -> Any:
    """A ``receive`` that gives the body that was read already, then goes on."""
    kept = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return kept.pop() if kept else await receive()

    return again


async def _refuse(send: Any, status: int, reason: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"detail": reason}).encode()})
