"""Files of the Hub over HTTP that breaks, damages and lies; what was received is kept, and nothing wrong ever is."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hubclient import BODY, CONFIG, LARGE, NOWHERE, SHA256, WEIGHTS, Client, blobs, flip
from hubserver import HubServer

pytest_plugins = ("hubclient",)


@pytest.fixture(scope="module")
def impatient(server: HubServer, home: Path) -> Iterator[Client]:
    """A client that takes 2 seconds of silence for an end. Others wait longer than a busy machine may need."""
    process = Client(server.env(home) | {"HF_HUB_DOWNLOAD_TIMEOUT": "2"})
    yield process
    process.close()


@pytest.mark.parametrize("kind", ["reset", "drop", "short", "hang"])
def test_a_broken_transfer_goes_on_where_it_stopped(hub: HubServer, impatient: Client, repo: str, kind: Any) -> None:
    hub.put(repo, {"large.bin": LARGE})
    hub.fault(kind, "/cdn/", "GET", after=14 << 20)  # a reset also drops what is in the buffers, less than 10 MiB
    fetched = impatient.fetch(repo, "large.bin")
    assert fetched.sha256 == hashlib.sha256(LARGE).hexdigest()
    assert "Trying again" in fetched.log
    first, second = hub.seen("/cdn/", "GET")
    assert second.headers["range"] == f"bytes={len(LARGE) - second.sent}-"
    assert first.sent + second.sent < 2 * len(LARGE)


def test_a_server_without_ranges_starts_again(hub: HubServer, client: Client, repo: str) -> None:
    hub.ranges = False
    hub.fault("drop", "/cdn/", "GET", after=3 << 20)
    fetched = client.fetch(repo, WEIGHTS)
    assert fetched.sha256 == SHA256
    assert "arrived with hash" not in fetched.log


@pytest.mark.parametrize(
    ("kind", "after", "error"),
    [("reset", 1000, "HubUnavailable"), ("drop", 1000, "DownloadTruncated"), ("short", 1000, "DownloadTruncated")],
)
def test_a_transfer_that_keeps_breaking_is_given_up(
    hub: HubServer, client: Client, repo: str, kind: Any, after: int, error: str, home: Path
) -> None:
    hub.fault(kind, "/cdn/", "GET", times=None, after=after)
    refused = client.fetch(repo, WEIGHTS)
    assert refused.error == error
    assert "(2 of 2)" in refused.log
    assert len(hub.seen("/cdn/", "GET")) == 3
    assert SHA256 not in os.listdir(blobs(home, repo))
    assert client("cached", repo, WEIGHTS).path is None
    hub.faults.clear()
    assert client.fetch(repo, WEIGHTS).sha256 == SHA256


def test_progress_is_not_counted_as_failure(hub: HubServer, client: Client, repo: str) -> None:
    fault = hub.fault("drop", "/cdn/", "GET", times=3, after=5 << 18)
    assert client.fetch(repo, WEIGHTS).sha256 == SHA256
    assert fault.fired == 3  # with 2 retries


def test_a_slow_server_is_waited_for(hub: HubServer, impatient: Client, repo: str) -> None:
    hub.fault("slow", "/cdn/", "GET", after=1 << 19, delay=0.3)  # longer in all than the time-out of 2 s
    fetched = impatient.fetch(repo, WEIGHTS)
    assert (fetched.sha256, fetched.log) == (SHA256, "")


@pytest.mark.parametrize("path", ["/resolve/", "/cdn/"])
@pytest.mark.parametrize("status", [503, 429])
def test_server_errors_pass(hub: HubServer, client: Client, repo: str, path: str, status: int) -> None:
    hub.fault("status", path, times=2, status=status)
    fetched = client.fetch(repo, WEIGHTS)
    assert fetched.sha256 == SHA256
    assert "(2 of 2)" in fetched.log


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("status", {"status": 500}, "HubUnavailable"),
        ("status", {"status": 429, "retry_after": 0}, "RateLimited"),
        ("reset", {}, "HubUnavailable"),
        ("drop", {}, "HubUnavailable"),
        ("status", {"status": 418}, "HubError"),
    ],
)
def test_a_hub_that_stays_down(
    hub: HubServer, client: Client, repo: str, kind: Any, options: dict[str, Any], error: str
) -> None:
    hub.fault(kind, repo, times=None, **options)
    refused = client.fetch(repo, WEIGHTS)
    assert refused.error == error
    assert refused.remedy
    assert refused.cause not in ("NoneType", error)
    assert len(hub.requests) == (1 if error == "HubError" else 3)


def test_retry_after_is_honoured(hub: HubServer, client: Client, repo: str) -> None:
    hub.fault("status", "/resolve/", status=429, retry_after=1)
    start = time.monotonic()
    fetched = client.fetch(repo, WEIGHTS)
    assert fetched.sha256 == SHA256
    assert "Trying again in 1.0 s" in fetched.log
    assert time.monotonic() - start > 1


def test_the_cached_copy_serves_while_the_hub_is_down(
    hub: HubServer, client: Client, repo: str, home: Path, new_client: Any
) -> None:
    good = client.fetch(repo, WEIGHTS)
    hub.fault("status", repo, times=None, status=503)
    hub.requests.clear()
    down = client.fetch(repo, WEIGHTS)
    assert (down.path, down.source) == (good.path, "hub cache")
    assert "Using the cached copy" in down.log
    assert len(hub.requests) == 1
    gone = new_client(hub.env(home) | {"HF_ENDPOINT": NOWHERE})
    found = gone.fetch(repo, WEIGHTS)
    assert found.path == good.path
    assert NOWHERE in found.log
    missing = gone.fetch(repo, CONFIG)
    assert (missing.error, missing.cause, missing.log) == ("HubOffline", "ConnectError", "")  # not tried again
    assert f"stzoo pull {repo}" in missing.remedy


def test_a_flipped_byte_on_the_way_is_got_again(hub: HubServer, client: Client, repo: str) -> None:
    hub.fault("flip", "/cdn/", "GET", after=12345)
    fetched = client.fetch(repo, WEIGHTS)
    assert fetched.sha256 == SHA256
    assert "arrived with hash" in fetched.log


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_flipped_byte_on_the_hub_never_loads(
    hub: HubServer, client: Client, repo: str, name: str, home: Path
) -> None:
    hub.fault("flip", "/cdn/|/resolve-cache/", "GET", times=None, after=3)
    refused = client.fetch(repo, name)
    assert refused.error == "WeightsCorrupted"
    assert os.listdir(blobs(home, repo)) == []
    assert len(hub.seen("/cdn/|/resolve-cache/", "GET")) == 2
    assert client.fetch(repo, name, offline=True).error == "HubOffline"


def test_a_file_that_is_cut_on_the_hub_never_loads(hub: HubServer, client: Client, repo: str) -> None:
    hub.fault("truncate", WEIGHTS, times=None, after=1 << 20)
    assert client.fetch(repo, WEIGHTS).error == "WeightsCorrupted"


def test_a_wrong_unfinished_file_is_dropped(hub: HubServer, client: Client, repo: str, home: Path) -> None:
    for content in (b"not the beginning", b"x" * len(BODY), b"longer" + BODY):
        partial = blobs(home, repo) / f"{SHA256}.stzoo-partial"
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        assert client.fetch(repo, WEIGHTS).sha256 == SHA256
        (partial.parent / SHA256).unlink()


def test_killed_in_the_middle_then_again(hub: HubServer, repo: str, home: Path, new_client: Any) -> None:
    hub.fault("slow", "/cdn/", "GET", after=1 << 19, delay=0.2)
    victim = new_client(hub.env(home))
    victim.start("fetch", repo, WEIGHTS)
    partial = blobs(home, repo) / f"{SHA256}.stzoo-partial"
    deadline = time.monotonic() + 60
    while not partial.exists() or partial.stat().st_size < 2 << 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.process.send_signal(signal.SIGKILL)
    victim.process.wait()
    assert os.listdir(partial.parent) == [partial.name]
    have = partial.stat().st_size
    hub.requests.clear()
    fetched = new_client(hub.env(home)).fetch(repo, WEIGHTS)  # the lock of the dead process does not block
    assert fetched.sha256 == SHA256
    [request] = hub.seen("/cdn/", "GET")
    assert request.headers["range"] == f"bytes={have}-"
    assert request.sent == len(BODY) - have
    assert os.listdir(partial.parent) == [SHA256]


def test_four_processes_download_once(hub: HubServer, repo: str, tmp_path: Path, new_client: Any) -> None:
    hub.fault("slow", "/cdn/", "GET", times=None, after=1 << 20, delay=0.1)
    clients = [new_client(hub.env(tmp_path)) for _ in range(4)]
    for process in clients:
        process.start("fetch", repo, WEIGHTS)
    answers = [process.answer() for process in clients]
    assert {answer.sha256 for answer in answers} == {SHA256}
    assert sorted(answer.source for answer in answers) == ["hub"] + ["hub cache"] * 3
    assert len(hub.seen("/cdn/", "GET")) == 1

    flip(answers[0].path)
    for process in clients:
        process.start("fetch", repo, WEIGHTS)
    assert {process.answer().sha256 for process in clients} == {SHA256}
    assert len(hub.seen("/cdn/", "GET")) == 2
