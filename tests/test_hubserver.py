"""The local Hub server against the real client. An independent mirror (olah) speaks with it in test_hub.py."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hubserver import HubServer

WEIGHTS = hashlib.shake_128(b"weights").digest(300_000)
CARD = b"---\nlicense: apache-2.0\npipeline_tag: image-to-image\nlibrary_name: stzoo\ntags: [video]\n---\n# tiny\n"
FILES = {"README.md": CARD, "config.json": b'{"a": 1}', "sub/deep/model.safetensors": WEIGHTS}

PRELUDE = """
import contextlib, hashlib, json, os, sys, warnings
from pathlib import Path
from huggingface_hub import *
warnings.simplefilter("ignore")
api, out = HfApi(), {}
def refusal(call, *args, **options):
    try:
        call(*args, **options)
    except Exception as error:
        return type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)
def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
"""


def client(env: dict[str, str], *scripts: str, args: Iterable[object] = ()) -> dict[str, Any]:
    """Run scripts that use the real client in a fresh process; returns what they left in `out`."""
    code = "\n".join([PRELUDE, *map(textwrap.dedent, scripts), "print('OUT' + json.dumps(out))"])
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.partition("OUT")[2])
    return result


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


DOWNLOAD = """
    folder = Path(snapshot_download("stzoo/tiny"))
    out["files"] = {str(p.relative_to(folder)): digest(p) for p in folder.rglob("*") if p.is_file()}
"""


def test_download(hub: HubServer, tmp_path: Path) -> None:
    first = hub.put("stzoo/tiny", {**FILES, "old.txt": b"old"})
    second = hub.put("stzoo/tiny", {"new.txt": b"new"}, revision="dev")
    hub.put("stzoo/videos", {"clip.mp4": b"clip"}, repo_type="dataset")
    hub.site.page_size = 2
    script = """
    path = hf_hub_download("stzoo/tiny", "sub/deep/model.safetensors")
    out["weights"], out["blob"], out["commit"] = digest(path), os.path.basename(os.readlink(path)), Path(path).parts[-4]
    out["dev"] = Path(hf_hub_download("stzoo/tiny", "new.txt", revision="dev")).read_text()
    out["pinned"] = Path(hf_hub_download("stzoo/tiny", "old.txt", revision=sys.argv[1])).read_text()
    out["dataset"] = Path(hf_hub_download("stzoo/videos", "clip.mp4", repo_type="dataset")).read_text()
    info = model_info("stzoo/tiny", files_metadata=True)
    last = info.siblings[-1]
    out["info"] = [info.sha, info.pipeline_tag, info.card_data.license, info.tags, last.rfilename, last.lfs.sha256]
    out["tree"] = sorted(e.path for e in list_repo_tree("stzoo/tiny", recursive=True))
    out["top"] = sorted(type(e).__name__ for e in list_repo_tree("stzoo/tiny"))
    out["refs"] = {b.name: b.target_commit for b in list_repo_refs("stzoo/tiny").branches}
    out["info_of"] = [p.path for p in get_paths_info("stzoo/tiny", ["config.json", "sub", "nothing"])]
    out["verified"] = len(verify_repo_checksums("stzoo/tiny").mismatches)
    out["refusals"] = [
        refusal(hf_hub_download, "stzoo/nothing", "x"),
        refusal(hf_hub_download, "stzoo/tiny", "nothing"),
        refusal(hf_hub_download, "stzoo/tiny", "config.json", revision="nothing"),
        refusal(model_info, "stzoo/nothing"),
        refusal(model_info, "stzoo/tiny", revision="nothing"),
        refusal(whoami, token="hf_wrong"),
    ]
    """
    out = client(hub.env(tmp_path / "home", token="hf_bob"), script, DOWNLOAD, args=[first])
    assert out["weights"] == out["blob"] == sha256(WEIGHTS)
    assert (out["commit"], out["dev"], out["pinned"], out["dataset"]) == (first, "new", "old", "clip")
    tags = ["video", "stzoo", "image-to-image", "license:apache-2.0", "region:us"]
    weights = ["sub/deep/model.safetensors", sha256(WEIGHTS)]
    assert out["info"] == [first, "image-to-image", "apache-2.0", tags, *weights]
    folders = ["sub", "sub/deep"]
    assert out["tree"] == sorted([*FILES, "old.txt", *folders])
    assert out["top"] == ["RepoFile"] * 3 + ["RepoFolder"]
    assert out["refs"] == {"main": first, "dev": second}
    assert out["info_of"] == ["config.json", "sub"]
    assert out["verified"] == 0
    missing = ["RepositoryNotFoundError", 404]
    assert out["refusals"] == [
        missing,
        ["RemoteEntryNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        missing,
        ["RevisionNotFoundError", 404],
        ["HfHubHTTPError", 401],
    ]
    assert out["files"] == {path: sha256(data) for path, data in FILES.items()} | {"old.txt": sha256(b"old")}
    redirected = hub.seen("^/cdn/", "GET")
    assert redirected[0].headers["host"].startswith("localhost:")
    assert redirected[0].sent == len(WEIGHTS)
    assert not any("authorization" in request.headers for request in redirected)


def get(url: str, headers: dict[str, str] | None = None, timeout: float = 10) -> tuple[int, bytes, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=timeout) as answer:
        return answer.status, answer.read(), answer.headers


def test_faults_on_the_wire(hub: HubServer) -> None:
    hub.put("stzoo/tiny", FILES)
    url = f"{hub.endpoint}/stzoo/tiny/resolve/main/sub/deep/model.safetensors"

    hub.fault("drop", "/cdn/", after=1000)
    with pytest.raises(http.client.IncompleteRead) as dropped:
        get(url)
    assert dropped.value.partial == WEIGHTS[:1000]
    for early in (None, 100_000):
        hub.fault("reset", "/cdn/", after=early)
        with pytest.raises((ConnectionResetError, urllib.error.URLError), match="reset"):
            get(url)
    hub.fault("hang", "/cdn/", after=1000)
    with pytest.raises(TimeoutError):
        get(url, timeout=0.2)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        get(f"{hub.site.cdn}/{sha256(WEIGHTS)}/x", {"Authorization": "Bearer hf_alice"})
    hub.fault("status", "/resolve/", status=429, retry_after=7)
    with pytest.raises(urllib.error.HTTPError) as limited:
        get(url)
    assert (limited.value.code, limited.value.headers["Retry-After"]) == (429, "7")

    flip = hub.fault("flip", "model", after=70_000, times=2)
    for _ in range(2):
        _, body, _ = get(url)
        assert [i for i in range(len(WEIGHTS)) if body[i] != WEIGHTS[i]] == [70_000]
    assert flip.fired == 2
    assert hub.faults == []

    hub.fault("short", "/cdn/", after=1000)
    _, body, headers = get(url)
    assert (body, headers["Content-Length"]) == (WEIGHTS[:1000], "1000")
    truncate = hub.fault("truncate", "model", after=1000, times=None)
    _, body, headers = get(url)
    assert (body, truncate.fired) == (WEIGHTS[:1000], 2)
    hub.faults.clear()
    hub.fault("slow", "/cdn/", after=100_000, delay=0.1)
    start = time.monotonic()
    assert get(url)[1] == WEIGHTS
    assert time.monotonic() - start >= 0.3

    status, body, headers = get(url, {"Range": "bytes=1000-1999"})
    assert (status, body, headers["Content-Range"]) == (206, WEIGHTS[1000:2000], f"bytes 1000-1999/{len(WEIGHTS)}")
    hub.ranges = False
    assert get(url, {"Range": "bytes=1000-"})[:2] == (200, WEIGHTS)


def test_upload(tmp_path: Path) -> None:
    """Through the chunked storage; what is uploaded to LFS is in test_publish.py."""
    folder = tmp_path / "model"
    for path, data in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    script = """
    out["user"] = whoami()["name"]
    out["url"] = create_repo("stzoo/tiny", private=True)
    out["again"] = create_repo("stzoo/tiny", exist_ok=True).repo_id, refusal(create_repo, "stzoo/tiny")
    out["first"] = upload_folder(repo_id="stzoo/tiny", folder_path=sys.argv[1], commit_message="one").oid
    out["none"] = upload_folder(repo_id="stzoo/tiny", folder_path=sys.argv[1]).oid
    create_tag("stzoo/tiny", tag="v1")
    create_branch("stzoo/tiny", branch="dev", revision="v1")
    operations = lambda: [CommitOperationAdd("more.bin", b"more"), CommitOperationDelete("config.json")]
    create_commit("stzoo/tiny", operations(), commit_message="two", revision="dev")
    pull = create_commit("stzoo/tiny", operations(), commit_message="three", create_pr=True)
    out["pull"] = pull.pr_url, pull.pr_revision
    out["stale"] = refusal(create_commit, "stzoo/tiny", operations(), commit_message="x", parent_commit="0" * 40)
    out["dev"] = list_repo_files("stzoo/tiny", revision="dev")
    create_repo("stzoo/demo", repo_type="space", space_sdk="gradio")
    upload_file(path_or_fileobj=b"import gradio", path_in_repo="app.py", repo_id="stzoo/demo", repo_type="space")
    out["space"] = [space_info("stzoo/demo").sdk, get_space_runtime("stzoo/demo").stage]
    out["refusals"] = [
        refusal(create_repo, "bob/x"),
        refusal(create_repo, "stzoo/x", token="hf_alice_read"),
        refusal(upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="stzoo/tiny", token="hf_bob"),
        refusal(upload_file, path_or_fileobj=b"x", path_in_repo="x", repo_id="stzoo/tiny", revision="nothing"),
        refusal(create_tag, "stzoo/tiny", tag="v1"),
        refusal(upload_file, path_or_fileobj=b"---\\na: [\\n---\\n", path_in_repo="README.md", repo_id="stzoo/tiny"),
    ]
    """
    with HubServer(tmp_path / "hub", xet=tmp_path / "xet") as hub:
        out = client(hub.env(tmp_path / "home", token="hf_alice"), script, args=[folder])
        assert (out["user"], out["url"]) == ("alice", f"{hub.endpoint}/stzoo/tiny")
        assert out["again"] == ["stzoo/tiny", ["HfHubHTTPError", 409]]
        assert out["first"] == out["none"] == hub.repo("stzoo/tiny").refs["refs/tags/v1"]
        assert out["pull"] == [f"{hub.endpoint}/stzoo/tiny/discussions/1", "refs/pr/1"]
        assert out["stale"] == ["HfHubHTTPError", 412]
        assert sorted(out["dev"]) == sorted({".gitattributes", "more.bin", *FILES} - {"config.json"})
        assert out["space"] == ["gradio", "RUNNING"]
        assert hub.read("stzoo/demo", "app.py", repo_type="space") == b"import gradio"
        assert out["refusals"] == [
            ["HfHubHTTPError", 403],
            ["HfHubHTTPError", 403],
            ["RepositoryNotFoundError", 404],
            ["RevisionNotFoundError", 404],
            ["HfHubHTTPError", 409],
            ["ValueError", None],
        ]
        assert hub.seen("xet-write-token") and not hub.seen("/cdn/", "PUT")

    with HubServer(tmp_path / "hub", xet=tmp_path / "xet") as hub:  # started again on the same root
        assert [c.title for c in hub.repo("stzoo/tiny").commits.values()][:2] == ["initial commit", "one"]
        hub.put("stzoo/tiny", {"put.safetensors": WEIGHTS[::-1]}, revision="dev")
        expected = {
            path: sha256(hub.read("stzoo/tiny", path, revision="dev")) for path in [*out["dev"], "put.safetensors"]
        }
        assert expected["sub/deep/model.safetensors"] == sha256(WEIGHTS)
        script = DOWNLOAD.replace('"stzoo/tiny"', '"stzoo/tiny", revision="dev"')
        assert client(hub.env(tmp_path / "other", token="hf_alice"), script)["files"] == expected
        assert not hub.seen("/cdn/", "GET")
        plain = hub.env(tmp_path / "third", token="hf_alice") | {"HF_HUB_DISABLE_XET": "1"}
        assert client(plain, script)["files"] == expected
