"""A Hugging Face Hub on this machine, for tests that use the real `huggingface_hub` client over HTTP.

    with HubServer(tmp_path / "hub") as hub:
        hub.put("stzoo/tiny", {"config.json": b"{}", "model.safetensors": path})
        subprocess.run([...], env=hub.env(tmp_path / "home", token="hf_alice"))

Blobs, commits and refs are files under `root`: a server started again on the same root serves the same Hub. Large
files are redirected to another origin (`localhost` instead of `127.0.0.1`) that, like the real CDN, refuses a request
carrying the Hub's token. With `xet=DIR` the client's default transfer, hf_xet, is used: it reads and writes DIR itself
(`casUrl: local://`), so Xet transfers do not pass through this server and no faults can be put into them, and one
process at a time can use DIR (its database is locked). Approximations: which files are LFS (.gitattributes, size, NUL
bytes), gitignore by fnmatch, organisations without roles. Absent: git itself, multipart uploads, rate limits (but
see `fault`).

By hand: `python tests/hubserver.py --root DIR --port 8000`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import hubchanges  # noqa: F401
from hubapi import Call, Reply, Site, as_json
from hubstore import HEAD, File, Repo, Store

TOKENS = {"hf_alice": "alice", "hf_bob": "bob", "hf_alice_read": "alice:read"}
"""Token -> user; `user:read` makes a token without write permission."""

ORGS = {"stzoo": ("alice",)}
"""Organisation -> the users who see its private repos and may write to it."""

CHUNK = 2**16

FaultKind = Literal["status", "drop", "reset", "hang", "flip", "short", "truncate", "slow"]


@dataclass
class Request:
    """One line of the log. `path` is as sent, with the query; names in `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    """0: broken off before an answer."""
    sent: int = 0
    """Bytes of the body that were handed to the socket."""


@dataclass
class Fault:
    """See `HubServer.fault`; `fired` counts the requests it was done to."""

    kind: FaultKind
    path: str
    method: str
    times: int | None
    after: int | None
    status: int
    retry_after: int | None
    delay: float
    fired: int = 0

    @property
    def moment(self) -> Literal["request", "file", "body"]:
        if self.kind == "truncate":
            return "file"
        early = self.kind == "status" or (self.kind in ("drop", "reset", "hang") and self.after is None)
        return "request" if early else "body"


class HubServer:
    """The server, listening from its construction until `close` or the end of the `with` block.

    `root` holds the data; `tokens` and `orgs` say who is who (see `TOKENS`, `ORGS`); `cdn` is the host name of the
    other origin; `xet` is the folder of the Xet store, None for plain LFS.

    `endpoint` is the URL. `requests` is the log and `faults` has the faults that are not used up: both may be cleared.
    `ranges = False` makes it ignore Range headers; `site.page_size` is the length of listings.
    """

    def __init__(
        self,
        root: Path,
        *,
        tokens: Mapping[str, str] = TOKENS,
        orgs: Mapping[str, Collection[str]] = ORGS,
        cdn: str = "localhost",
        xet: Path | None = None,
        port: int = 0,
    ) -> None:
        self.store = Store(root, xet)
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.ranges = True
        self.lock, self.closing = threading.RLock(), threading.Event()
        self._listener = _Listener(self, port)
        port = self._listener.server_port
        self.endpoint = f"http://127.0.0.1:{port}"
        self.site = Site(self.endpoint, f"http://{cdn}:{port}/cdn", tokens, orgs)
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> HubServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and break every open connection, as a machine that goes down would."""
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        for connection in list(self._listener.live):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def env(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Complete environment of a subprocess whose client talks to this server and has its caches under `home`."""
        env = {key: value for key, value in os.environ.items() if not re.match("HF_|HUGGING|.*_proxy$", key, re.I)}
        env |= {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "0" if self.store.xet else "1"}
        return env | ({"HF_TOKEN": token} if token else {})

    def put(
        self,
        repo_id: str,
        files: Mapping[str, bytes | Path],
        repo_type: str = "model",
        revision: str = "main",
        private: bool = False,
        gated: str | bool = False,
    ) -> str:
        """Commit `files` to a branch, making the repo and the branch as needed. Returns the commit.

        `private` and `gated` ("auto", "manual" or False) apply to a repo that is made by this call.
        """
        with self.lock:
            repo = self.store.repos.get((repo_type, repo_id))
            if repo is None:
                space = {"sdk": "gradio"} if repo_type == "space" else {}
                repo = self.store.create(repo_type, repo_id, private=private, gated=gated, space=space)
            repo.refs.setdefault(HEAD + revision, repo.refs[HEAD + "main"])
            changes: dict[str, File] = {}
            for path, source in files.items():
                data = source if isinstance(source, bytes) else source.read_bytes()
                lfs = self.store.wants_lfs(repo, revision, path, len(data), data[:512])
                changes[path] = self.store.add(data, lfs=lfs)
            return self.store.commit(repo, HEAD + revision, changes, title="put", author=repo.namespace)

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.store.repos[repo_type, repo_id]

    def read(self, repo_id: str, path: str, repo_type: str = "model", revision: str = "main") -> bytes:
        """Content of a file. KeyError if there is no such repo or file."""
        return self.store.read(self.repo(repo_id, repo_type).files(revision)[path])

    def seen(self, path: str = "", method: str = ".*") -> list[Request]:
        """The logged requests that match: a search in the path, all of the method."""
        return [r for r in list(self.requests) if re.search(path, r.path) and re.fullmatch(method, r.method)]

    def fault(
        self,
        kind: FaultKind,
        path: str = "",
        method: str = ".*",
        *,
        times: int | None = 1,
        after: int | None = None,
        status: int = 500,
        retry_after: int | None = None,
        delay: float = 0.05,
    ) -> Fault:
        """Do something wrong to the next `times` (None: to all) requests that match.

        `path` is searched in the request's path. A file is asked for as `/NAMESPACE/NAME/resolve/REVISION/FILE`, and
        then, where that redirects to, as `/cdn/SHA256/FILE` or, if it is small, `/api/resolve-cache/…/FILE`. Kinds:

        - status: answer `status`, with Retry-After if `retry_after` (seconds) is given
        - drop, reset, hang: after `after` bytes of the body (None: without an answer) send FIN, RST, or nothing more
        - flip: invert the lowest bit of byte `after` of the body (None: 0)
        - short: send `after` bytes of the body and say so in Content-Length, against what the metadata said
        - truncate: cut the file to `after` bytes in metadata and body alike (several requests: give times=None)
        - slow: wait `delay` seconds before each `after` bytes (None: 64 KiB) of the body
        """
        fault = Fault(kind, path, method, times, after, status, retry_after, delay)
        self.faults.append(fault)
        return fault

    def take(self, moment: str, method: str, path: str) -> Fault | None:
        """The first fault for this moment of this request; counts it as used."""
        with self.lock:
            for fault in self.faults:
                if fault.moment == moment and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.fired += 1
                    if fault.fired == fault.times:
                        self.faults.remove(fault)
                    return fault
        return None


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: HubServer, port: int) -> None:
        self.hub, self.live = hub, set[Any]()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.live.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.live.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def serve(self) -> None:
        hub = self.server.hub
        self.entry = Request(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        hub.requests.append(self.entry)
        body = self.read_body()
        fault = self.fault("request")
        if fault and fault.kind != "status":
            return self.break_off(fault)
        if fault:
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return self.send(as_json({"error": "injected fault"}, fault.status, wait))
        with hub.lock:
            reply = Call(hub.store, hub.site, self.command, self.path, self.entry.headers, body, self.cut).answer()
        self.send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def log_message(self, *args: object) -> None:
        pass

    def fault(self, moment: str) -> Fault | None:
        return self.server.hub.take(moment, self.command, unquote(self.path))

    def cut(self) -> int | None:
        fault = self.fault("file")
        return fault.after if fault else None

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, reply: Reply) -> None:
        body, status = reply.body, reply.status
        whole = len(body) if isinstance(body, bytes) else body.stat().st_size
        whole = whole if reply.size is None else min(whole, reply.size)
        start, stop = 0, whole
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and isinstance(body, Path) and self.server.hub.ranges:
            start, stop, status = int(wanted[1]), min(int(wanted[2] or whole) + 1, whole), 206
            reply.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{whole}"
            if start >= whole:
                start, stop, status = 0, 0, 416
                reply.headers["Content-Range"] = f"bytes */{whole}"
        bodiless = self.command == "HEAD" or start == stop
        fault = None if bodiless else self.fault("body")
        if fault and fault.kind == "short":
            stop = min(start + (fault.after or 0), stop)
        self.entry.status = status
        self.send_response(status)
        for name, value in {**reply.headers, "Content-Length": str(stop - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if not bodiless:
            self.send_body(body, start, stop, fault)

    def send_body(self, body: bytes | Path, start: int, stop: int, fault: Fault | None) -> None:
        kind, after, step = fault and fault.kind, (fault and fault.after) or 0, CHUNK
        if kind in ("drop", "reset", "hang"):
            stop = min(start + after, stop)
        if kind == "slow":
            step = after or CHUNK
        with open(body, "rb") if isinstance(body, Path) else io.BytesIO(body) as source:
            source.seek(start)
            for at in range(0, stop - start, step):
                data = bytearray(source.read(min(step, stop - start - at)))
                if kind == "flip" and at <= after < at + len(data):
                    data[after - at] ^= 1
                if fault and kind == "slow":
                    time.sleep(fault.delay)
                self.entry.sent += len(data)
                self.wfile.write(data)
        if fault and kind in ("drop", "reset", "hang"):
            self.break_off(fault)

    def break_off(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.kind == "hang":
            self.server.hub.closing.wait()
        if fault.kind == "reset":  # closed here, because the server's own way of closing sends FIN first
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description="A Hugging Face Hub on this machine.")
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "hub", help="where its data is kept")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--xet", type=Path, help="folder of the Xet store (default: plain LFS)")
    options = parser.parse_args()
    with HubServer(options.root, port=options.port, xet=options.xet) as hub:
        settings = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_DISABLE_XET": int(not options.xet),
            "HF_TOKEN": next(iter(TOKENS)),
        }
        print("export", *(f"{name}={value}" for name, value in settings.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
