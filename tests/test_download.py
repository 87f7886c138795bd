"""Files from web servers: whole or not at all, resumed, bounded, and the same bytes ever after."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hubserver import HubServer
from webserver import WebServer

from stzoo import download, errors, files, retries

BODY = random.Random(0).randbytes(3 << 20)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        server.files["/w/net.pth"] = BODY
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STZOO_HUB_RETRIES", "2")
    monkeypatch.setattr(retries, "BACKOFF", 0.01)
    return tmp_path / "cache" / "downloads"


def kept(cache: Path) -> list[str]:
    """Names of the files that lie in the cache, but for the lock."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.name != ".lock")


def test_a_file_is_downloaded_once_and_found_again_without_a_request(web: WebServer, cache: Path) -> None:
    path = download.fetch(f"{web.address}/w/net.pth")
    assert path.read_bytes() == BODY
    assert path.name == "net.pth"
    record = json.loads((path.parent / "record.json").read_text())
    assert (record["sha256"], record["size"], record["url"]) == (SHA256, len(BODY), f"{web.address}/w/net.pth")
    assert download.fetch(f"{web.address}/w/net.pth") == path
    assert len(web.requests) == 1
    assert kept(cache) == ["net.pth", "record.json"]
    assert "authorization" not in web.requests[0][1]


def test_redirects_are_followed_and_only_to_web_servers(web: WebServer) -> None:
    web.moved["/latest"] = f"{web.address}/w/net.pth"
    assert download.fetch(f"{web.address}/latest").read_bytes() == BODY
    web.moved["/round"] = f"{web.address}/round"
    web.moved["/away"] = "file:///etc/passwd"
    for path in ("/round", "/away"):
        with pytest.raises(errors.DownloadError, match="does not lead to a file"):
            download.fetch(web.address + path)
    with pytest.raises(errors.DownloadError, match="not fetched by ftp"):
        download.is_address("ftp://example.org/net.pth")


def test_a_redirect_may_not_drop_encryption(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import httpx

    def answer(request: Any) -> Any:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://elsewhere.org/net.pth"})
        return httpx.Response(200, content=BODY)

    transport = httpx.MockTransport(answer)
    monkeypatch.setattr(download, "_client", lambda: httpx.Client(transport=transport, follow_redirects=True))
    with pytest.raises(errors.DownloadError, match="not encrypted"):
        download.fetch("https://example.org/net.pth")


def test_a_transfer_goes_on_where_it_stopped(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.wrongs = [("cut", 1 << 20)]
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY
    first = int(web.requests[1][1]["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < first <= 1 << 20, "the second request asks for the rest"
    assert kept(cache) == ["net.pth", "record.json"]


def test_what_an_earlier_process_left_is_used(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STZOO_HUB_RETRIES", "0")
    web.wrongs = [("cut", 2 << 20)]
    with pytest.raises(errors.DownloadTruncated, match="Try again"):
        download.fetch(f"{web.address}/w/net.pth")
    assert kept(cache) == ["net.pth.incomplete", "net.pth.incomplete.tag"], "no file has the name of a whole one"
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY
    assert web.requests[1][1]["if-range"].strip('"') == SHA256


@pytest.mark.parametrize("how", ["no ranges", "changed", "misplaced", "complete", "damaged"])
def test_a_part_that_does_not_fit_is_not_used(web: WebServer, cache: Path, how: str) -> None:
    web.wrongs = [("cut", 2 << 20), ("status", 403)]
    with pytest.raises(errors.DownloadError):
        download.fetch(f"{web.address}/w/net.pth")
    [part] = cache.rglob("*.incomplete")
    body = BODY
    if how == "no ranges":
        web.ranges = False
    elif how == "changed":
        web.files["/w/net.pth"] = body = BODY[::-1]
    elif how == "misplaced":
        web.wrongs = [("misplaced",)]
        with pytest.raises(errors.DownloadError, match="another part"):
            download.fetch(f"{web.address}/w/net.pth")
    elif how == "complete":
        part.write_bytes(BODY)
    else:
        part.write_bytes(b"x" * (1 << 20))
    wanted = hashlib.sha256(body).hexdigest() if how == "damaged" else None
    assert download.fetch(f"{web.address}/w/net.pth", sha256=wanted).read_bytes() == body


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (("page", "text/html; charset=utf-8"), errors.DownloadError, "gives a web page, not a file"),
        (("page", "application/octet-stream"), errors.DownloadError, "gives a web page, not a file"),
        (("status", 404), errors.DownloadError, "there is no such file"),
        (("status", 403), errors.DownloadError, r"the server refuses \(status 403\)"),
        (("status", 503), errors.ServerUnavailable, r"the server fails \(status 503\)"),
        (("status", 429), errors.ServerUnavailable, r"the server fails \(status 429\)"),
        (("silent",), errors.DownloadError, "does not say how long the file is"),
        (("packed",), errors.DownloadError, "compressed although"),
        (("cut", 100), errors.DownloadTruncated, "ended early"),
    ],
)
def test_what_is_no_file_is_a_clear_error_and_leaves_nothing(
    web: WebServer, cache: Path, wrong: tuple[Any, ...], error: type[errors.StzooError], message: str
) -> None:
    web.wrongs = [wrong] * 9
    with pytest.raises(error, match=message) as caught:
        download.fetch(f"{web.address}/w/net.pth")
    assert "/w/net.pth" in str(caught.value)
    assert type(caught.value) is error
    assert not {"net.pth", "record.json"} & set(kept(cache))
    tried = 3 if error in (errors.ServerUnavailable, errors.DownloadTruncated) else 1
    assert len(web.requests) == tried


def test_a_server_that_is_not_there(cache: Path) -> None:
    with pytest.raises(errors.ServerUnavailable, match="cannot be reached"):
        download.fetch("http://127.0.0.1:9/net.pth")


def test_a_server_that_falls_silent(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    web.wrongs = [("slow", 1.0)] * 3
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY, "what arrives before each silence is kept"


def test_offline_nothing_is_asked(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = download.fetch(f"{web.address}/w/net.pth")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    assert download.fetch(f"{web.address}/w/net.pth") == path
    with pytest.raises(errors.DownloadError, match="offline mode"):
        download.fetch(f"{web.address}/w/other.pth")
    assert len(web.requests) == 1


def test_proxies_of_the_environment_are_used(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["http://far.away.test/net.pth"] = BODY
    monkeypatch.setenv("http_proxy", web.address)
    assert download.fetch("http://far.away.test/net.pth").read_bytes() == BODY


def test_sizes_are_bounded(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.DownloadError, match="has 3145728 bytes, 5 are expected"):
        download.fetch(f"{web.address}/w/net.pth", size=5)
    monkeypatch.setattr(download, "LARGEST", 1_000_000)
    with pytest.raises(errors.DownloadError, match="larger files than 0.001 GB are not fetched"):
        download.fetch(f"{web.address}/w/net.pth")
    assert kept(cache) == []


def test_a_full_disk(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(errors.DiskFull, match="needs 3.1 MB .* where 0.0 MB are free.*STZOO_CACHE"):
            download.fetch(f"{web.address}/w/net.pth")
    opened = Path.open

    def full(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if self.name.endswith(".incomplete") and mode != "rb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *more, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(errors.DiskFull, match="no space left"):
            download.fetch(f"{web.address}/w/net.pth")
    assert not {"net.pth", "record.json"} & set(kept(cache))
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY


# --- the same bytes ever after ----------------------------------------------------------------------------------------


def test_a_file_that_changed_is_refused_until_it_is_trusted_again(web: WebServer, cache: Path) -> None:
    path = download.fetch(f"{web.address}/w/net.pth")
    path.unlink()
    web.files["/w/net.pth"] = BODY[::-1]
    with pytest.raises(errors.WeightsCorrupted, match=f"on 20..-..-.. it was {SHA256}.*delete .*record.json") as caught:
        download.fetch(f"{web.address}/w/net.pth")
    assert kept(cache) == ["record.json"]
    Path(str(caught.value).partition("delete ")[2].partition(" and")[0]).unlink()
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY[::-1]


def test_a_damaged_copy_is_downloaded_again(web: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    path = download.fetch(f"{web.address}/w/net.pth")
    path.write_bytes(BODY[:-1] + b"x")
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY
    assert "getting it again" in caplog.text


def test_a_hash_that_is_known_beforehand_counts(web: WebServer, cache: Path) -> None:
    with pytest.raises(errors.WeightsCorrupted, match="the zoo knows it with 00.*Update the plugin"):
        download.fetch(f"{web.address}/w/net.pth", sha256="0" * 64)
    assert kept(cache) == []
    assert download.fetch(f"{web.address}/w/net.pth", sha256=SHA256).read_bytes() == BODY


def test_passwords_and_queries_are_not_kept(web: WebServer, cache: Path) -> None:
    address = web.address.replace("//", "//me:secret@") + "/w/net.pth?token=secret"
    download.fetch(address)
    assert web.requests[0][0] == "/w/net.pth?token=secret"
    assert web.requests[0][1]["authorization"].startswith("Basic ")
    assert "secret" not in next(cache.rglob("record.json")).read_text()
    web.files.clear()
    shutil.rmtree(cache)
    with pytest.raises(errors.DownloadError) as caught:
        download.fetch(address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "file"),
        ("/..", "file"),
        ("/%2e%2e%2f%2e%2e%2fx.pth", "_.._x.pth"),
        ("/a b.pth", "a_b.pth"),
        ("/.lock", "lock"),
    ],
)
def test_names_stay_in_the_cache(
    web: WebServer, cache: Path, path: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_download", lambda address, shown, target, *_: target.write_bytes(b"x") and "0" * 64)
    found = download.fetch(web.address + path)
    assert found.name == name
    assert found.parent.parent == cache


# --- several processes, and the Hub -----------------------------------------------------------------------------------


def test_two_at_once_download_once(web: WebServer) -> None:
    web.wrongs = [("slow", 0.5)]
    found: list[Path] = []
    work = [threading.Thread(target=lambda: found.append(download.fetch(f"{web.address}/w/net.pth"))) for _ in range(2)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(set(found)) == 1
    assert len(web.requests) == 1


def test_an_interrupted_process_leaves_a_part_and_frees_the_lock(web: WebServer, cache: Path) -> None:
    web.wrongs = [("slow", 30)]
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom stzoo.cli import main\nraise SystemExit(main(['import', '{web.address}/w/net.pth', '-o', 'x']))"
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in cache.rglob("*.incomplete")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr and process.stderr.read() == ""
    assert kept(cache) == ["net.pth.incomplete", "net.pth.incomplete.tag"]
    assert download.fetch(f"{web.address}/w/net.pth").read_bytes() == BODY
    assert "range" in web.requests[-1][1]


def test_files_of_the_hub(hub: HubServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent / "hub"))
    commit = hub.put("lab/nets", {"deep/net.pth": BODY})
    assert download.fetch(f"hf://lab/nets@{commit}/deep/net.pth").read_bytes() == BODY
    assert download.fetch("hf://lab/nets/deep/net.pth").read_bytes() == BODY
    hub.put("lab/nets", {"deep/net.pth": BODY[::-1]})
    assert download.fetch(f"hf://lab/nets@{commit}/deep/net.pth").read_bytes() == BODY
    with pytest.raises(errors.WeightsCorrupted, match="hf://lab/nets/deep/net.pth gives a file with sha256"):
        download.fetch("hf://lab/nets/deep/net.pth")
    with pytest.raises(errors.RemoteFileNotFound):
        download.fetch("hf://lab/nets/nothing.pth")
    with pytest.raises(errors.DownloadError, match="names no file on the Hub"):
        download.fetch("hf://lab/nets")
    assert files.sha256_of(download.fetch(f"hf://lab/nets@{commit}/deep/net.pth", sha256=SHA256)) == SHA256
