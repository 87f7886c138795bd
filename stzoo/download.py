"""Checkpoints from web servers and the Hub: bounded, resumed, whole or not at all, and the same bytes ever after.

The file that an address gives the first time is the one it is expected to give from then on: its sha256 is remembered
beside it in stzoo's cache. Redirects are followed and proxies of the environment used; only http, https and hf.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stzoo import __version__, errors, files, hub
from stzoo.retries import retrying

log = logging.getLogger("stzoo")

_RECORD = "record.json"
LARGEST = 10_000_000_000
"""Bytes; a larger file is not fetched."""
_HUB = re.compile(r"hf://(?P<repo>[^/@\s]+/[^/@\s]+)(@(?P<revision>[^/\s]+))?/(?P<file>\S+)")
_PAGE = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_ROOM = "Free some space, or set STZOO_CACHE to a folder on a larger disk; what has arrived is kept"
_AGAIN = "Try again: what has arrived is kept"


def is_address(text: str) -> bool:
    """Whether this is the address of a file and not a path. Raises DownloadError for other schemes than http(s) and hf."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return False
    if scheme not in ("http", "https", "hf"):
        raise errors.DownloadError(f"{text}: files are not fetched by {scheme}", "Give an http, https or hf address")
    return True


def fetch(address: str, *, sha256: str | None = None, size: int | None = None) -> Path:
    """The file at an address, in the cache; it is downloaded if it is not there.

    Args:
        address: ``https://...`` or ``http://...``; or ``hf://owner/name@revision/path/file`` for a file on the Hub
            (``main`` without a revision; a slash in one is written ``%2F``).
        sha256: what its hash must be; default: what it was the first time.
        size: what its size in bytes must be, where that is known.

    Processes that ask for the same file at once download it once; a transfer that broke off goes on where it stopped.

    Raises:
        WeightsCorrupted: the address gives other bytes than those expected.
        ServerUnavailable, DownloadTruncated: after several attempts. DownloadError: the server refuses, or gives a web page,
            or a file of another size or larger than ``LARGEST``. DiskFull: no room in the cache.
        HubError: an ``hf`` address, as :func:`stzoo.hub.fetch` says.
    """
    shown, folder = without_secrets(address), _folder(address)
    with files.room(folder, _ROOM):
        folder.mkdir(parents=True, exist_ok=True)
        with hub.utilities().WeakFileLock(folder / ".lock"):
            return _fetch(address, shown, folder, sha256, size)


def forget(address: str) -> None:
    """Expect any file from the address again; for one that turned out to be nothing of use."""
    (_folder(address) / _RECORD).unlink(missing_ok=True)


def _folder(address: str) -> Path:
    name = hashlib.sha256(without_secrets(address).encode()).hexdigest()[:16]
    return files.cache_folder() / "downloads" / name


def without_secrets(address: str) -> str:
    """The address as it may be shown and kept: without a user's name, password or the query."""
    parts = urlsplit(address)
    return (
        parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        if parts.query or ("@" in parts.netloc)
        else address
    )


def _fetch(address: str, shown: str, folder: Path, sha256: str | None, size: int | None) -> Path:
    note = folder / _RECORD
    known: dict[str, Any] = json.loads(note.read_text()) if note.is_file() else {}
    expected = sha256 or known.get("sha256")
    if address.startswith("hf://"):
        path = _from_hub(address, sha256)
        digest = files.sha256_of(path)
    else:
        path = folder / (
            re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path.rpartition("/")[2])).strip(".") or "file"
        )
        if expected and path.is_file():
            if files.sha256_of(path) == expected and size in (None, path.stat().st_size):
                return path
            log.warning("%s is not the file that came from %s: getting it again", path, shown)
        digest = _download(address, shown, path.with_name(f"{path.name}.incomplete"), size, expected)
    if expected and digest != expected:
        since = f"on {known['date']} it was" if known.get("sha256") == expected else "the zoo knows it with"
        path.with_name(f"{path.name}.incomplete").unlink(missing_ok=True)
        raise errors.WeightsCorrupted(
            f"{shown} gives a file with sha256 {digest}; {since} {expected}",
            "The file was changed, and is not used. "
            + ("Update the plugin" if sha256 else f"If you trust the new one, delete {note} and import it again"),
        )
    if not address.startswith("hf://"):
        path.with_name(f"{path.name}.incomplete").replace(path)
    if digest != known.get("sha256"):
        record = {"url": shown, "sha256": digest, "size": path.stat().st_size, "date": time.strftime("%Y-%m-%d")}
        files.write_atomically(note, (json.dumps(record, indent=2) + "\n").encode())
    return path


def _from_hub(address: str, sha256: str | None) -> Path:
    if not (parts := _HUB.fullmatch(address)):
        raise errors.DownloadError(f"{address} names no file on the Hub", "Write hf://owner/name@revision/path/file")
    revision = unquote(parts["revision"]) if parts["revision"] else None
    return hub.fetch(parts["repo"], unquote(parts["file"]), revision=revision, sha256=sha256).path


def _download(address: str, shown: str, target: Path, size: int | None, expected: str | None) -> str:
    """Bring the file to ``target``; returns its hash. What an earlier process left is used if it proves right."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise errors.DownloadError(
            f"{shown} is not in the cache and offline mode forbids asking", "Unset HF_HUB_OFFLINE"
        )
    while True:
        left = files.length(target)
        retrying(
            partial(_receive, address, shown, target, size),
            partial(_error_for, shown=shown),
            None,
            lambda: files.length(target),
        )
        digest = files.sha256_of(target, remember=False)
        if not left or not expected or digest == expected:
            return digest
        target.unlink()  # the part that was there may have been wrong


def _receive(address: str, shown: str, target: Path, size: int | None) -> None:
    """Append to ``target`` what is missing, if the server says that the file is still the same; else start anew."""
    tag = target.with_name(f"{target.name}.tag")
    have, same = files.length(target), tag.read_text() if tag.is_file() else ""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"stzoo/{__version__}"}
    if have and same:
        headers |= {"Range": f"bytes={have}-", "If-Range": same}
    with _client() as client, client.stream("GET", address, headers=headers) as answer:
        if answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{have}":
            return  # all of it had arrived
        if answer.status_code == 416:
            target.unlink()
            raise errors.DownloadTruncated(f"the part of {shown} that is here does not fit the file", _AGAIN)
        answer.raise_for_status()
        start, total = _extent(answer, shown)
        if start != have:
            have = 0
        if start not in (0, have):
            target.unlink()
            raise errors.DownloadError(f"the server of {shown} answers with another part than was asked for", _AGAIN)
        if size and total != size:
            raise errors.DownloadError(f"{shown} has {total} bytes, {size} are expected", "Was the file changed?")
        if total > LARGEST:
            raise errors.DownloadError(
                f"{shown} has {total / 1e9:.1f} GB; larger files than {LARGEST / 1e9:g} GB are not fetched"
            )
        files.check_free(target.parent, total - have, shown, _ROOM)
        with hub.progress_bar(total, have, target.stem) as bar, target.open("ab" if have else "wb") as file:
            tag.write_text(_same(answer.headers))
            for piece in answer.iter_raw():
                if have == 0 and _PAGE.match(piece):
                    raise errors.DownloadError(
                        f"{shown} gives a web page, not a file", "Open it in a browser to see why"
                    )
                if (have := have + len(piece)) > total:
                    raise errors.DownloadError(f"{shown} gives more than the {total} bytes it announced")
                file.write(piece)
                bar.update(len(piece))
    if have < total:
        raise errors.DownloadTruncated(f"{have} of {total} bytes of {shown} arrived", _AGAIN)
    tag.unlink()


def _extent(answer: Any, shown: str) -> tuple[int, int]:
    """Where the answer's bytes start, and how many the whole file has. Raises DownloadError for what is no plain file."""
    headers = answer.headers
    schemes = [hop.url.scheme for hop in (*answer.history, answer)]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        raise errors.DownloadError(f"{shown} is redirected to a connection that is not encrypted")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise errors.DownloadError(f"{shown} gives a web page, not a file", "Open it in a browser to see why")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise errors.DownloadError(f"the server of {shown} sends it compressed although that was not asked for")
    part = _RANGE.fullmatch(headers.get("Content-Range", "")) if answer.status_code == 206 else None
    length = part[2] if part else headers.get("Content-Length", "")
    if not length.isdecimal() or (answer.status_code == 206) != bool(part):
        raise errors.DownloadError(f"the server of {shown} does not say how long the file is", "Download it yourself")
    return int(part[1]) if part else 0, int(length)


def _same(headers: Any) -> str:
    """By what the server can tell later whether the file is still the same (``If-Range``); empty if by nothing."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


def _client() -> Any:
    """A client of the HTTP library that huggingface_hub brings, without its tokens."""
    from huggingface_hub import constants

    return hub.utilities().httpx.Client(
        follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, max_redirects=10
    )


def _error_for(problem: Exception, shown: str) -> errors.StzooError | None:
    """The exception of stzoo for one of the HTTP library; None for any other."""
    httpx = hub.utilities().httpx
    match problem:
        case httpx.HTTPStatusError(response=answer):
            status = answer.status_code
            if status in (408, 425, 429) or status >= 500:
                return errors.ServerUnavailable(f"{shown}: the server fails (status {status})", "Try again later")
            if status in (404, 410):
                return errors.DownloadError(f"{shown}: there is no such file (any more)", "Is the address right?")
            return errors.DownloadError(f"{shown}: the server refuses (status {status})", "Does it ask for a login?")
        case httpx.TooManyRedirects() | httpx.UnsupportedProtocol() | httpx.LocalProtocolError() | httpx.InvalidURL():
            return errors.DownloadError(f"{shown} does not lead to a file ({problem})", "Is the address right?")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return errors.ServerUnavailable(
                f"the server of {shown} cannot be reached ({problem})", "Connect, or try later"
            )
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.ReadTimeout():
            reason = str(problem) or type(problem).__name__
            return errors.DownloadTruncated(f"the connection ended early while getting {shown} ({reason})", _AGAIN)
        case httpx.HTTPError():
            return errors.ServerUnavailable(f"{shown}: the connection failed ({problem})", "Try again later")
    return None
