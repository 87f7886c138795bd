"""Files of the Hub: the cache, who may have what, other transports; the real client, over HTTP, against a local Hub."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hubclient import BODY, CONFIG, FILES, SHA256, WEIGHTS, Client, blobs, flip
from hubserver import HubServer

pytest_plugins = ("hubclient",)


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
    deadline = time.monotonic() + 60
    while True:
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError:
            return None
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
