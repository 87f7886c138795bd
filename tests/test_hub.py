"""Pulling from and publishing to the Hub: the real client, over HTTP, against a local Hub that does things wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hubserver import HubServer

BODY = random.Random(0).randbytes(4 << 20)
LARGE = BODY * 4
SHA256 = hashlib.sha256(BODY).hexdigest()
WEIGHTS, CONFIG = "model.safetensors", "config.json"
FILES = {WEIGHTS: BODY, CONFIG: b'{"stzoo": {}}'}
NOWHERE = "http://127.0.0.1:9"

DRIVER = """
import hashlib, json, logging, os, shutil, sys
from pathlib import Path
from types import SimpleNamespace
import stzoo.hub
from stzoo import errors, hub, retries, upload

def client(repo_id, filename, **options):
    from huggingface_hub import hf_hub_download
    return SimpleNamespace(path=Path(hf_hub_download(repo_id, filename, **options)))

def publish(folder, repo_id, **options):
    paths = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*.*") if path.is_file()}
    to = upload.destination(repo_id, **options)
    done = upload.upload(paths, to, "Test")
    return SimpleNamespace(**(vars(done) | {"url": to.page(done.commit), "kept": sorted(done.kept)}))

def cached(*arguments, **options):
    return SimpleNamespace(path=hub.cached(*arguments, **options))

lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("stzoo").addHandler(handler)
retries.BACKOFF = 0.01
commands = {"fetch": hub.fetch, "cached": cached, "client": client, "publish": publish}
commands["imported"] = lambda: SimpleNamespace(modules=sorted({"torch", "httpx2"} & set(sys.modules)))
disk_usage = shutil.disk_usage
for line in sys.stdin:
    command, arguments, options = json.loads(line)
    lines.clear()
    free = options.pop("free", None)
    shutil.disk_usage = disk_usage if free is None else lambda path: SimpleNamespace(free=free)
    try:
        answer = vars(commands[command](*arguments, **options))
        if answer.get("path"):
            answer["sha256"] = hashlib.sha256(answer["path"].read_bytes()).hexdigest()
    except errors.StzooError as error:
        answer = {"error": type(error).__name__, "text": str(error), "remedy": error.remedy,
                  "cause": type(error.__cause__).__name__}
    print(json.dumps({"error": None, **answer, "log": " | ".join(lines)}, default=str), flush=True)
"""


class Client:
    """A process with its own environment that calls stzoo.hub, one command after the other."""

    def __init__(self, env: dict[str, str], *prefix: str) -> None:
        defaults = {"STZOO_HUB_RETRIES": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "5"}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", DRIVER],
            env={**defaults, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the client died"
        return line

    def start(self, command: str, *arguments: object, **options: object) -> None:
        assert self.process.stdin
        print(json.dumps([command, arguments, options]), file=self.process.stdin, flush=True)

    def answer(self) -> SimpleNamespace:
        return SimpleNamespace(**json.loads(self.read()))

    def __call__(self, command: str, *arguments: object, **options: object) -> SimpleNamespace:
        self.start(command, *arguments, **options)
        return self.answer()

    def fetch(self, *arguments: object, **options: object) -> SimpleNamespace:
        return self("fetch", *arguments, **options)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(server: HubServer, home: Path) -> Iterator[Client]:
    process = Client(server.env(home))
    yield process
    process.close()


@pytest.fixture
def new_client() -> Iterator[Any]:
    """Makes clients with other environments."""
    clients: list[Client] = []

    def make(env: dict[str, str], *prefix: str) -> Client:
        clients.append(Client(env, *prefix))
        return clients[-1]

    yield make
    for process in clients:
        process.close()


@pytest.fixture
def repo(hub: HubServer, request: pytest.FixtureRequest) -> str:
    """A repo of this test alone."""
    repo_id = "stzoo/" + "".join(c if c.isalnum() else "-" for c in request.node.name).strip("-").replace("--", "-")
    hub.put(repo_id, FILES)
    return repo_id


def blobs(home: Path, repo: str) -> Path:
    return home / "hub" / f"models--{repo.replace('/', '--')}" / "blobs"


def flip(path: Path | str, at: int = 1000) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


# --- the cache --------------------------------------------------------------------------------------------------------


def test_pull_then_cache(hub: HubServer, client: Client, repo: str, home: Path) -> None:
    assert client("cached", repo, WEIGHTS).path is None
    first = client.fetch(repo, WEIGHTS)
    assert (first.source, first.sha256) == ("hub", SHA256)
    assert first.commit == hub.repo(repo).resolve("main")
    assert client("cached", repo, WEIGHTS).path == first.path
    hub.requests.clear()
    again = client.fetch(repo, WEIGHTS)
    assert (again.source, again.path) == ("hub cache", first.path)
    assert [request.method for request in hub.requests] == ["HEAD"]

    hub.requests.clear()
    for known in ({"revision": first.commit}, {"sha256": SHA256}, {"offline": True}):
        assert client.fetch(repo, WEIGHTS, **known).source == "hub cache"
    assert hub.requests == []
    assert os.listdir(blobs(home, repo)) == [SHA256]


def test_a_cached_file_needs_no_network_library(
    hub: HubServer, client: Client, repo: str, home: Path, new_client: Any
) -> None:
    commit = client.fetch(repo, WEIGHTS).commit
    fresh = new_client(hub.env(home))
    assert fresh.fetch(repo, WEIGHTS, revision=commit).sha256 == SHA256
    assert fresh("imported").modules == []


def test_a_new_commit_is_seen_and_shares_unchanged_files(hub: HubServer, client: Client, repo: str) -> None:
    old = client.fetch(repo, WEIGHTS), client.fetch(repo, CONFIG)
    commit = hub.put(repo, {CONFIG: b"{}"})
    hub.requests.clear()
    weights, config = client.fetch(repo, WEIGHTS), client.fetch(repo, CONFIG)
    assert weights.commit == config.commit == commit != old[0].commit
    assert (weights.source, config.source) == ("hub cache", "hub")
    assert hub.seen("/cdn/", "GET") == []
    assert Path(config.path).read_bytes() == b"{}"
    assert client.fetch(repo, CONFIG, revision=old[1].commit).sha256 == old[1].sha256


def test_the_cache_is_shared_with_huggingface_hub(hub: HubServer, client: Client, repo: str, home: Path) -> None:
    ours = client.fetch(repo, WEIGHTS)
    theirs = client("client", repo, WEIGHTS, local_files_only=True)
    assert theirs.path == ours.path
    other = client("client", repo, CONFIG)
    hub.requests.clear()
    assert client.fetch(repo, CONFIG).source == "hub cache"
    assert client.fetch(repo, CONFIG).path == other.path
    assert hub.seen(method="GET") == []
    script = "import huggingface_hub as h; r = h.scan_cache_dir(); print(len(r.warnings), [*map(str, r.warnings)])"
    done = subprocess.run([sys.executable, "-c", script], env=hub.env(home), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 ")


def test_a_known_hash_is_found_under_another_commit(hub: HubServer, client: Client, repo: str) -> None:
    old = client.fetch(repo, WEIGHTS)
    commit = hub.put(repo, {CONFIG: b"{}"})
    hub.requests.clear()
    found = client.fetch(repo, WEIGHTS, revision=commit, sha256=SHA256, offline=True)
    assert (found.sha256, found.commit, hub.requests) == (SHA256, old.commit, [])


def test_an_unexpected_hash_on_the_hub_is_refused_before_the_download(
    hub: HubServer, client: Client, repo: str
) -> None:
    refused = client.fetch(repo, WEIGHTS, sha256="0" * 64)
    assert refused.error == "WeightsCorrupted"
    assert SHA256 in refused.text
    assert "0" * 64 in refused.text
    assert client.fetch(repo, CONFIG, sha256="0" * 64).error == "WeightsCorrupted"
    assert hub.seen("/cdn/", "GET") == []


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_flipped_byte_in_the_cache_never_loads_and_is_repaired(
    hub: HubServer, client: Client, repo: str, name: str
) -> None:
    good = client.fetch(repo, name)
    flip(good.path, 5)
    for asked in ({"offline": True}, {"offline": True, "revision": good.commit}):
        refused = client.fetch(repo, name, **asked)
        assert refused.error == "WeightsCorrupted"
        assert Path(os.readlink(good.path)).name in refused.text
        assert good.path in refused.text
        assert f"stzoo pull {repo}" in refused.remedy

    hub.fault("status", repo, times=None, status=503)  # the Hub cannot help: the damaged file stays and does not load
    refused = client.fetch(repo, name)
    assert (refused.error, refused.cause) == ("WeightsCorrupted", "HubUnavailable")
    hub.faults.clear()

    repaired = client.fetch(repo, name, revision=good.commit)
    assert (repaired.source, repaired.path, repaired.sha256) == ("hub", good.path, good.sha256)
    assert client.fetch(repo, name, offline=True).sha256 == good.sha256


def test_a_failed_repair_keeps_what_was_there(hub: HubServer, client: Client, repo: str) -> None:
    path = client.fetch(repo, WEIGHTS).path
    flip(path)
    damaged = Path(path).read_bytes()
    hub.fault("flip", "/cdn/", "GET", times=2)
    assert client.fetch(repo, WEIGHTS).error == "WeightsCorrupted"
    assert Path(path).read_bytes() == damaged
    assert client.fetch(repo, WEIGHTS).sha256 == SHA256


def test_old_leftovers_are_swept(client: Client, repo: str, home: Path) -> None:
    folder = blobs(home, repo)
    folder.mkdir(parents=True)
    names = {"a.0.incomplete": 2, "b.0.incomplete": 0, "c.stzoo-partial": 8, "d.stzoo-partial": 2}
    for name, days in names.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    client.fetch(repo, WEIGHTS)
    assert sorted(os.listdir(folder)) == sorted([SHA256, "b.0.incomplete", "d.stzoo-partial"])


def test_names_cannot_lead_out_of_the_cache(hub: HubServer, client: Client) -> None:
    for arguments, error in (
        (("../../x", WEIGHTS), "RepoNotFound"),
        (("a/b/c", WEIGHTS), "RepoNotFound"),
        (("a--b/c", WEIGHTS), "RepoNotFound"),
        (("a/b", "../x"), "RemoteFileNotFound"),
        (("a/b", "/etc/passwd"), "RemoteFileNotFound"),
    ):
        assert client.fetch(*arguments).error == error
    assert client.fetch("a/b", WEIGHTS, revision="../../x").error == "RevisionNotFound"
    assert hub.requests == []


# --- transfers that go wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reset", "drop", "short", "hang"])
def test_a_broken_transfer_goes_on_where_it_stopped(hub: HubServer, client: Client, repo: str, kind: Any) -> None:
    hub.put(repo, {"large.bin": LARGE})
    hub.fault(kind, "/cdn/", "GET", after=14 << 20)  # a reset also drops what is in the buffers, less than 10 MiB
    fetched = client.fetch(repo, "large.bin")
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


def test_a_slow_server_is_waited_for(hub: HubServer, client: Client, repo: str) -> None:
    hub.fault("slow", "/cdn/", "GET", after=1 << 19, delay=0.3)  # longer in all than the time-out of 2 s
    fetched = client.fetch(repo, WEIGHTS)
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
    deadline = time.monotonic() + 20
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


def test_eight_processes_download_once(hub: HubServer, repo: str, tmp_path: Path, new_client: Any) -> None:
    hub.fault("slow", "/cdn/", "GET", times=None, after=1 << 20, delay=0.1)
    clients = [new_client(hub.env(tmp_path)) for _ in range(8)]
    for process in clients:
        process.start("fetch", repo, WEIGHTS)
    answers = [process.answer() for process in clients]
    assert {answer.sha256 for answer in answers} == {SHA256}
    assert sorted(answer.source for answer in answers) == ["hub"] + ["hub cache"] * 7
    assert len(hub.seen("/cdn/", "GET")) == 1

    flip(answers[0].path)
    for process in clients:
        process.start("fetch", repo, WEIGHTS)
    assert {process.answer().sha256 for process in clients} == {SHA256}
    assert len(hub.seen("/cdn/", "GET")) == 2


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_does_not_exist(hub: HubServer, client: Client, repo: str) -> None:
    for arguments, options, error in (
        (("stzoo/no-such-repo", WEIGHTS), {}, "RepoNotFound"),
        ((repo, WEIGHTS), {"revision": "no-such-branch"}, "RevisionNotFound"),
        ((repo, WEIGHTS), {"revision": "f" * 40}, "RevisionNotFound"),
        ((repo, "no-such-file"), {}, "RemoteFileNotFound"),
    ):
        hub.requests.clear()
        refused = client.fetch(*arguments, **options)
        assert refused.error == error
        assert arguments[0] in refused.text
        assert refused.remedy
        assert refused.cause.endswith("Error")
        assert len(hub.requests) == 1  # not tried again
    assert "HF_TOKEN" in client.fetch("stzoo/no-such-repo", WEIGHTS).remedy


def test_a_revision_that_is_gone(hub: HubServer, client: Client, repo: str) -> None:
    commit = hub.put(repo, {CONFIG: b"{}"}, revision="v1")
    assert client.fetch(repo, CONFIG, revision="v1").commit == commit
    del hub.repo(repo).refs["refs/heads/v1"]
    assert client.fetch(repo, CONFIG, revision="v1").error == "RevisionNotFound"
    assert client.fetch(repo, CONFIG, revision="v1", offline=True).commit == commit
    assert client.fetch(repo, CONFIG, revision=commit).source == "hub cache"


def test_private_and_gated(hub: HubServer, client: Client, tmp_path: Path, new_client: Any) -> None:
    hub.put("alice/private", FILES, private=True)
    hub.put("alice/gated", FILES, gated="auto")
    refused = client.fetch("alice/private", WEIGHTS)
    assert refused.error == "RepoNotFound"
    assert "private" in refused.text
    assert "HF_TOKEN" in refused.text
    assert client.fetch("alice/private", WEIGHTS, token="hf_bob").error == "RepoNotFound"
    for options in ({}, {"token": "hf_bob"}):
        refused = client.fetch("alice/gated", WEIGHTS, **options)
        assert refused.error == "RepoGated"
        assert f"{hub.endpoint}/alice/gated" in refused.remedy
    refused = client.fetch("alice/private", WEIGHTS, token="hf_wrong")
    assert refused.error == "AuthenticationFailed"
    assert "hf_wrong" not in refused.text
    assert client.fetch("alice/private", WEIGHTS, token="hf_alice").sha256 == SHA256
    alice = new_client(hub.env(tmp_path, token="hf_alice"))
    for repo in ("alice/private", "alice/gated"):
        assert alice.fetch(repo, WEIGHTS).sha256 == SHA256
    assert all("authorization" not in request.headers for request in hub.seen("/cdn/"))


def test_offline_mode(hub: HubServer, client: Client, repo: str, home: Path, new_client: Any) -> None:
    good = client.fetch(repo, WEIGHTS)
    hub.requests.clear()
    offline = new_client(hub.env(home) | {"HF_HUB_OFFLINE": "1"})
    assert offline.fetch(repo, WEIGHTS).path == good.path
    for process, options in ((offline, {}), (offline, {"offline": False}), (client, {"offline": True})):
        refused = process.fetch(repo, CONFIG, **options)
        assert refused.error == "HubOffline"
        assert ("HF_HUB_OFFLINE" in refused.remedy) == (process is offline)
    assert offline("publish", str(home), "alice/x").error == "HubOffline"
    assert hub.requests == []


def test_an_endpoint_that_is_not_a_hub(hub: HubServer, tmp_path: Path, new_client: Any) -> None:
    refused = new_client(hub.env(tmp_path) | {"HF_ENDPOINT": f"{hub.endpoint}/cdn"}).fetch("a/b", WEIGHTS)
    assert refused.error == "HubError"
    refused = new_client(hub.env(tmp_path) | {"STZOO_HUB_RETRIES": "many"}).fetch("a/b", WEIGHTS)
    assert refused.error == "ConfigError"


def test_not_enough_space_is_said_before_the_download(hub: HubServer, client: Client, repo: str) -> None:
    refused = client.fetch(repo, WEIGHTS, free=1 << 20)
    assert refused.error == "DiskFull"
    assert "4.2 MB" in refused.text
    assert hub.seen("/cdn/", "GET") == []


def mounted(target: Path, *mount: str) -> tuple[str, ...]:
    """A command prefix that mounts something for the command alone; skips where the system forbids that."""
    script = f'mount {" ".join(mount)} "{target}" && exec "$@"'
    prefix = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this system lets no one mount a file system for a test")
    return prefix


def test_the_disk_fills_up_during_the_download(hub: HubServer, repo: str, tmp_path: Path, new_client: Any) -> None:
    process = new_client(hub.env(tmp_path), *mounted(tmp_path, "-t", "tmpfs", "-o", "size=3m", "tmpfs"))
    assert process.fetch(repo, CONFIG).error is None
    foreseen = process.fetch(repo, WEIGHTS)
    assert (foreseen.error, foreseen.cause) == ("DiskFull", "NoneType")
    refused = process.fetch(repo, WEIGHTS, free=1 << 40)  # as if it had filled up after the check
    assert (refused.error, refused.cause) == ("DiskFull", "OSError")
    assert "HF_HOME" in refused.remedy
    assert process.fetch(repo, CONFIG, offline=True).error is None


def test_a_cache_that_cannot_be_written(hub: HubServer, repo: str, tmp_path: Path, new_client: Any) -> None:
    good = new_client(hub.env(tmp_path)).fetch(repo, WEIGHTS)
    prefix = mounted(tmp_path, "--bind", f'"{tmp_path}"', f'"{tmp_path}"', "&& mount -o remount,ro,bind")
    process = new_client(hub.env(tmp_path), *prefix)
    assert process.fetch(repo, WEIGHTS).path == good.path
    refused = process.fetch(repo, CONFIG)
    assert (refused.error, refused.cause) == ("StzooError", "OSError")
    assert "HF_HOME" in refused.remedy


# --- other transports -------------------------------------------------------------------------------------------------


def test_xet(tmp_path: Path, new_client: Any) -> None:
    with HubServer(tmp_path / "hub", xet=tmp_path / "xet") as hub:
        hub.put("alice/a", FILES)
        process = new_client(hub.env(tmp_path / "home", token="hf_alice"))
        fetched = process.fetch("alice/a", WEIGHTS)
        assert (fetched.sha256, fetched.source, fetched.log) == (SHA256, "hub", "")
        assert hub.seen("/cdn/", "GET") == []  # the bytes did not come over HTTP
        flip(fetched.path)
        assert process.fetch("alice/a", WEIGHTS).sha256 == SHA256

        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(BODY[::-1])
        assert process("publish", str(folder), "alice/b").error is None
        assert hub.read("alice/b", WEIGHTS) == BODY[::-1]
        assert hub.seen("/cdn/", "PUT") == []

        process.close()  # a Xet store in a folder is open in one process at a time
        Path(fetched.path).resolve().unlink()
        hub.fault("status", "xet-read-token", times=None, status=403)
        process = new_client(hub.env(tmp_path / "home"))
        plain = process.fetch("alice/a", WEIGHTS)
        assert plain.sha256 == SHA256
        assert "trying plain HTTP" in plain.log
        assert len(hub.seen("/cdn/", "GET")) == 1

        hub.faults.clear()
        Path(fetched.path).resolve().unlink()
        for xorb in (tmp_path / "xet").rglob("*"):
            if xorb.is_file() and xorb.stat().st_size > 1 << 20:
                flip(xorb, 1 << 19)
        wrong = process.fetch("alice/a", WEIGHTS)
        assert wrong.sha256 == SHA256
        assert "arrived with hash" in wrong.log
        process.close()

        shutil.rmtree(tmp_path / "xet")
        (tmp_path / "xet").touch()
        process = new_client(hub.env(tmp_path / "home", token="hf_alice"))
        refused = process("publish", str(folder), "alice/c")
        assert (refused.error, refused.cause) == ("HubError", "OSError")


def test_through_a_mirror(hub: HubServer, repo: str, tmp_path: Path, new_client: Any) -> None:
    """olah in front of the Hub: another implementation of its protocol, which keeps what it passes on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    netloc, endpoint = hub.endpoint.removeprefix("http://"), f"http://127.0.0.1:{port}"
    options = {"host": "127.0.0.1", "port": port, "repos-path": tmp_path / "repos", "log-path": tmp_path / "logs"}
    options |= {"hf-scheme": "http", "hf-netloc": netloc, "hf-lfs-netloc": netloc.replace("127.0.0.1", "localhost")}
    options |= {"mirror-scheme": "http", "mirror-netloc": f"127.0.0.1:{port}"}
    command = [str(Path(sys.executable).with_name("olah-cli")), *(f"--{key}={options[key]}" for key in options)]
    with (
        (tmp_path / "olah.txt").open("w") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log) as olah,
    ):
        try:
            wait_for(endpoint)
            process = new_client(hub.env(tmp_path / "home") | {"HF_ENDPOINT": endpoint})
            assert process.fetch(repo, CONFIG).error is None
            fetched = process.fetch(repo, WEIGHTS)
            assert (fetched.sha256, fetched.source) == (SHA256, "hub")
            assert process.fetch(repo, WEIGHTS).source == "hub cache"
            assert process.fetch(repo, "no-such-file").error == "RemoteFileNotFound"
            assert process.fetch(repo, WEIGHTS, revision="no-such-branch").error == "RevisionNotFound"
            assert process.fetch("stzoo/no-such-repo", WEIGHTS).error == "RepoNotFound"

            hub.put("stzoo/other", {WEIGHTS: BODY[::-1]})
            hub.fault("flip", "/cdn/", "GET")  # the mirror keeps the wrong byte and serves it again and again
            refused = process.fetch("stzoo/other", WEIGHTS)
            assert refused.error == "WeightsCorrupted"
            assert "mirror" in refused.remedy
        finally:
            olah.terminate()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return None
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


# --- publishing -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    (path / "sub").mkdir(parents=True)
    for name, content in {**FILES, "sub/notes.txt": b"notes"}.items():
        (path / name).write_bytes(content)
    return path


def test_publish_is_one_commit(hub: HubServer, folder: Path, home: Path, new_client: Any) -> None:
    alice = new_client(hub.env(home, token="hf_alice"))
    hub.fault("status", "/commit/", "POST", status=503)
    done = alice("publish", str(folder), "alice/new", private=True)
    assert hub.faults == []
    repo = hub.repo("alice/new")
    commit = repo.resolve("main")
    assert done.url.endswith(f"alice/new/commit/{commit}")
    assert repo.private
    assert set(repo.files("main")) - {".gitattributes"} == {*FILES, "sub/notes.txt"}
    assert hub.read("alice/new", WEIGHTS) == BODY
    count = len(repo.commits)
    assert alice("publish", str(folder), "alice/new", private=True).url == done.url
    assert len(repo.commits) == count
    assert alice.fetch("alice/new", WEIGHTS).commit == commit

    (folder / CONFIG).write_text("{}")
    assert alice("publish", str(folder), "alice/new", create_pr=True).error is None
    assert hub.read("alice/new", CONFIG) == FILES[CONFIG]
    assert hub.read("alice/new", CONFIG, revision="refs/pr/1") == b"{}"


def test_publish_refusals(hub: HubServer, client: Client, folder: Path, home: Path, new_client: Any) -> None:
    hub.put("alice/public", FILES)
    commits = len(hub.repo("alice/public").commits)
    alice = new_client(hub.env(home, token="hf_alice"))
    refused = alice("publish", str(folder), "alice/public", private=True)
    assert refused.error == "HubError"
    assert "public" in refused.text
    for token in (None, "hf_bob", "hf_alice_read", "hf_wrong"):
        process = new_client(hub.env(home, token=token)) if token else client
        refused = process("publish", str(folder), "alice/public")
        assert refused.error == "AuthenticationFailed", token
        assert "HF_TOKEN" in refused.remedy
    assert len(hub.repo("alice/public").commits) == commits
    hub.fault("status", "/commit/", "POST", times=None, status=500)
    assert alice("publish", str(folder), "alice/public").error == "HubUnavailable"
