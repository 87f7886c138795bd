"""The running demo against input that nobody should send, over HTTP: it answers in plain words, stays up, stays small, leaks nothing.

Every case must end in an answer without a traceback, a path of this machine or a file from outside the upload folder.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from attacker import (
    ENDPOINT,
    MEGABYTE,
    SECRET,
    Answer,
    Attacker,
    clip_file,
    file_data,
    film,
    gif,
    npy,
    npy_header,
    npz_bomb,
    pickled,
    png_bomb,
)
from browser import PATIENCE, Demo

from stzoo import media
from stzoo.errors import MediaError

GROWTH = 400 * MEGABYTE
"""What the process may take on top of what it takes after a first prediction, at its peak, over all cases."""
CONNECTIONS = 60

FILES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "empty mp4": ("clip.mp4", lambda folder: b""),
    "empty npz": ("clip.npz", lambda folder: b""),
    "truncated mp4": ("clip.mp4", lambda folder: clip_file(folder, ".mp4")[:700]),
    "truncated gif": ("clip.gif", lambda folder: clip_file(folder, ".gif")[:500]),
    "truncated npz": ("clip.npz", lambda folder: clip_file(folder, ".npz")[:-200]),
    "text called mp4": ("clip.mp4", lambda folder: b"this is no film\n" * 99),
    "program called gif": ("clip.gif", lambda folder: Path(sys.executable).read_bytes()[:50_000]),
    "playlist called mp4": ("clip.mp4", lambda folder: playlist(folder)),
    "list of films called mp4": ("clip.mp4", lambda folder: b"ffconcat version 1.0\nfile private.mp4\n"),
    "picture called npz": ("clip.npz", lambda folder: png_bomb(64)),
    "no ending": ("clip", lambda folder: clip_file(folder, ".mp4")),
    "page": ("clip.html", lambda folder: b"<script>alert(1)</script>"),
    "pickle in npy": ("clip.npy", pickled),
    "values that are no numbers": ("clip.npy", lambda folder: npy(np.full((10, 64, 64), np.nan, np.float32))),
    "infinite values": ("clip.npy", lambda folder: npy(np.full((10, 64, 64), np.inf, np.float32))),
    "array of text": ("clip.npy", lambda folder: npy(np.full((10, 64, 64), "x"))),
    "no frames": ("clip.npy", lambda folder: npy(np.zeros((0, 64, 64), np.float32))),
    "one pixel": ("clip.npy", lambda folder: npy(np.zeros((10, 1, 1), np.float32))),
    "six axes": ("clip.npy", lambda folder: npy(np.zeros((2,) * 6, np.float32))),
    "one frame": ("clip.mp4", lambda folder: clip_file(folder, ".mp4", 1)),
    "header that promises terabytes": ("clip.npy", lambda folder: npy_header((10, 2**20, 2**20)) + bytes(4096)),
    "bomb in npz": ("clip.npz", lambda folder: npz_bomb(0.5)),
    "bomb in png": ("clip.png", lambda folder: png_bomb(40_000)),
    "large picture": ("clip.png", lambda folder: png_bomb(13_000)),
    "large frames in gif": ("clip.gif", lambda folder: gif(30, 4000, 4000)),
    "bomb in gif": ("clip.gif", lambda folder: gif(30, 65_000, 65_000)),
    "100,000 frames in gif": ("clip.gif", lambda folder: gif(100_000, 512, 512)),
    "2,000 frames in mp4": ("clip.mp4", lambda folder: film(2000, 256, folder)),
    "huge frames in mp4": ("clip.mp4", lambda folder: film(12, 4096, folder)),
}
"""Uploaded, then predicted with. All must be refused in plain words."""


def playlist(folder: Path) -> bytes:
    """What FFmpeg would follow to other files and hosts."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{folder}/secret.txt\n#EXT-X-ENDLIST\n".encode()


HORIZONS: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "negative": -5,
    "zero": 0,
    "huge": 1e308,
    "longest integer": 10**400,
    "fraction": 2.5,
    "text": "ten",
    "code": "__import__('os').system('id')",
    "list": [1, 2, 3],
    "mapping": {"path": "/etc/passwd"},
    "truth": True,
    "longest allowed": 10_000,
}
"""As the option ``horizon`` of a prediction with a good clip. All must be refused."""

PATHS = (
    "/etc/passwd",
    "//etc/passwd",
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "/proc/self/environ",
    "/proc/self/cwd/secret.txt",
    "secret.txt",
    "./secret.txt",
    "{work}/secret.txt",
    "{folder}/secret.txt",
    "{uploads}/../secret.txt",
    "{uploads}/%2e%2e/secret.txt",
    "{uploads}/..%2fsecret.txt",
    "{uploads}",
    "{uploads}/",
    "{stzoo}/__init__.py",
    "file:///etc/passwd",
    "http://127.0.0.1:{own}/",
    "%00/etc/passwd",
    "{uploads}/%00/../../secret.txt",
    "~/.bashrc",
    "\\\\localhost\\c$\\secret.txt",
)
"""Asked of /gradio_api/file=. None may be served."""

NAMES = (
    "../../../evil.mp4",
    "/tmp/evil-absolute.mp4",
    "..%2f..%2fevil.mp4",
    "..\\\\..\\\\evil.mp4",
    "a/../../evil.mp4",
    "evil.mp4/..",
    "..",
    ".",
    "",
    ".env",
    "CON.mp4",
    "e\u202evil4pm.exe",
    "x" * 3000 + ".mp4",
    "<script>alert(1)</script>.mp4",
    "$(touch evil).mp4",
    "evil\x00.mp4",
)
"""Names of uploads."""


# --- what every answer is held to -------------------------------------------------------------------------------------

PLACES = re.compile(
    r"(?<![\w/=<])/(home|root|usr|opt|tmp|var|etc|proc|work|private|Users)/[\w.-]+|[\w.-]+/site-packages"
)
"""Paths of a machine."""


def hold(answer: Answer, attacker: Attacker, echo: bool = False) -> None:
    """No traceback, no secret, no place on this machine (unless it may ``echo`` what was asked); and the demo is still there."""
    assert SECRET not in answer.text
    assert "root:x:0" not in answer.text
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    assert answer.status < 500 or answer.status == 503, answer
    found = PLACES.search(answer.text.replace(str(attacker.demo.uploads), ""))
    assert echo or not found, f"{found and found.group()} in {answer.text[:500]}"
    assert attacker.demo.alive


def refused(answer: Answer, attacker: Attacker, echo: bool = False) -> str:
    """The words in which a prediction was refused."""
    hold(answer, attacker, echo)
    assert answer.event != "complete", answer.text[:300]
    if answer.status >= 400:
        return answer.text
    said = json.loads(answer.text)
    words = said.get("error") if isinstance(said, dict) else said
    assert isinstance(words, str), f"no reason is given: {answer}"
    assert str(attacker.demo.uploads) not in words
    assert len(words) > 15 and " " in words, words
    assert not re.search(r"\w+(Error|Exception)\b|Errno|<class|0x[0-9a-f]{6}", words), words
    return words


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacker]:
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'stzoo[demo]'")
    limits = {"max-file-size": 8, "max-upload": 20, "upload-time": 5, "time-limit": 4, "queue": 12}
    words = [f"--{name}={value}" for name, value in (limits | {"connections": CONNECTIONS}).items()]
    with Demo(tmp_path_factory.mktemp("demo"), "--task", "video-prediction", *words) as demo:
        made = Attacker(demo)
        yield made
        made.http.close()


@pytest.fixture(scope="module")
def good(attacker: Attacker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """A clip that works, before all attacks and after them; memory is watched in between."""
    clip = clip_file(tmp_path_factory.mktemp("good"), ".mp4")
    first = attacker.predict("clip.mp4", clip)
    assert first.event == "complete", first
    start, peak, ended = attacker.demo.memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], attacker.demo.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield clip
    ended.set()
    watcher.join()
    assert attacker.predict("clip.mp4", clip).event == "complete"
    print(f"memory: {start / MEGABYTE:.0f} MB at the start, {peak[0] / MEGABYTE:.0f} MB at the peak")
    assert peak[0] - start < GROWTH, f"grew by {(peak[0] - start) / MEGABYTE:.0f} MB"


@pytest.fixture(autouse=True)
def quick_and_small(attacker: Attacker, good: bytes) -> Iterator[None]:
    """Each case is answered within PATIENCE, makes no file outside the upload folder, and asks no other host."""
    before, start = places(attacker.demo), time.monotonic()
    attacker.demo.outside.clear()
    yield
    assert time.monotonic() - start < PATIENCE
    assert places(attacker.demo) == before
    assert attacker.demo.outside == []


def places(demo: Demo) -> set[Path]:
    found = {path for path in demo.folder.rglob("*") if demo.uploads not in (path, *path.parents)}
    return found | set(Path("/tmp").glob("evil*"))


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_good_clip(case: str, attacker: Attacker, tmp_path: Path) -> None:
    name, make = FILES[case]
    (tmp_path / "secret.txt").write_text(SECRET)
    refused(attacker.predict(name, make(tmp_path)), attacker)
    assert not (tmp_path / "unpickled").exists()


def test_a_list_of_films_opens_none_of_them(tmp_path: Path) -> None:
    clip_file(tmp_path, ".mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip10.mp4\n")
    assert len(media.read_video(tmp_path / "clip10.mp4", "video")) == 10
    with pytest.raises(MediaError, match="cannot be decoded as a video"):
        media.read_video(tmp_path / "list.mp4", "video")


@pytest.mark.parametrize("case", HORIZONS)
def test_an_absurd_option(case: str, attacker: Attacker, good: bytes) -> None:
    [path] = json.loads(attacker.upload("clip.mp4", good).text)
    values = attacker.values(HORIZONS[case])
    refused(attacker.raw(json.dumps({"data": [file_data(path), *values]}).encode()), attacker, echo=True)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_of_the_machine_is_asked_for(path: str, attacker: Attacker) -> None:
    folder = attacker.demo.folder
    import stzoo

    names = {"folder": folder, "work": folder / "work", "uploads": attacker.demo.uploads, "own": "1"}
    full = path.format(**names, stzoo=Path(str(stzoo.__file__)).parent)
    answer = attacker.file(full)
    hold(answer, attacker, echo=True)
    assert answer.status in (400, 403, 404), answer


@pytest.mark.parametrize(
    "path", [*PATHS[:3], "secret.npy", "{work}/secret.npy", "{uploads}/../work/secret.npy", "http://127.0.0.1:1/x.npy"]
)
def test_a_file_of_the_machine_as_input(path: str, attacker: Attacker) -> None:
    folder = attacker.demo.folder
    full = path.format(work=folder / "work", uploads=attacker.demo.uploads)
    kinds = (file_data(full), file_data(full, url=full), {"path": full}, full, {"video": file_data(full)})
    for data in (*([kind, *attacker.values()] for kind in kinds), [None, *attacker.values(file_data(full))]):
        answer = attacker.ask(data)
        hold(answer, attacker, echo=True)
        assert answer.event != "complete"


def test_a_link_among_the_uploads(attacker: Attacker, good: bytes) -> None:
    [path] = json.loads(attacker.upload("clip.mp4", good).text)
    link = Path(path).parent / "link.txt"
    link.symlink_to(attacker.secret)
    try:
        hold(attacker.file(quote(str(link))), attacker)
    finally:
        link.unlink()


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_plays_tricks(name: str, attacker: Attacker, good: bytes) -> None:
    answer = attacker.upload(name, good)
    hold(answer, attacker)
    if answer.status == 200:
        for path in json.loads(answer.text):
            assert attacker.demo.uploads in Path(path).resolve().parents


@pytest.mark.parametrize("name", ["page.html", "page.svg", "page.xhtml", "page.js"])
def test_an_uploaded_page_is_not_shown_as_one(name: str, attacker: Attacker) -> None:
    [path] = json.loads(attacker.upload(name, b"<svg onload='alert(1)' xmlns='http://www.w3.org/2000/svg'/>").text)
    served = attacker.http.get(f"/file={path}")
    assert served.status_code in (403, 404) or served.headers["content-disposition"].startswith("attachment")


def test_an_upload_over_the_limit(attacker: Attacker) -> None:
    limit = attacker.demo.http.get("/config").json()["max_file_size"]
    assert limit and limit <= 500 * MEGABYTE
    answer = attacker.upload("clip.mp4", (bytes(MEGABYTE) for _ in range(limit // MEGABYTE + 2)))
    hold(answer, attacker)
    assert answer.status == 413
    assert stored(attacker.demo) < limit, "what was refused is still on the disk"


def stored(demo: Demo) -> int:
    """Bytes in the upload folder."""
    return sum(path.stat().st_size for path in demo.uploads.rglob("*") if path.is_file())


def settled(demo: Demo, before: int) -> bool:
    """Whether the upload folder is soon as it was."""
    until = time.monotonic() + PATIENCE / 2
    while stored(demo) > before and time.monotonic() < until:
        time.sleep(0.1)
    return stored(demo) <= before


def connected(attacker: Attacker, request: bytes) -> socket.socket:
    """A connection over which so much of a request was sent."""
    place = urlsplit(attacker.demo.url)
    made = socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=PATIENCE)
    made.sendall(request)
    return made


SLOW = (
    b"POST /gradio_api/%s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 5000000\r\n\r\n"
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="clip.mp4"\r\n\r\n' + bytes(100_000)
)
"""The beginning of an upload."""


def test_many_files_in_one_upload(attacker: Attacker) -> None:
    before = stored(attacker.demo)
    files = [("files", (f"{index}.mp4", bytes(7_000_000))) for index in range(4)]
    try:
        answer = attacker.http.post("/upload", files=files)
        assert (answer.status_code, "20 MB together" in answer.text) == (413, True)
    except httpx.TransportError:  # refused in the middle of the upload
        pass
    assert settled(attacker.demo, before), "what was refused is still on the disk"
    assert attacker.http.post("/upload", files=files[:2]).status_code == 200


def test_an_upload_that_never_ends(attacker: Attacker) -> None:
    before, start = stored(attacker.demo), time.monotonic()
    ways = [(b"upload", b"multipart/form-data; boundary=x"), (b"queue/join", b"application/json")]
    for connection in [connected(attacker, SLOW % way) for way in ways]:
        with connection:
            said = connection.recv(4096)
            assert said.split()[1] in (b"400", b"408") and b"may take 5 seconds" in said + connection.recv(4096)
            assert time.monotonic() - start > 4
            while connection.recv(4096):  # it is closed
                pass
    assert settled(attacker.demo, before), "what was refused is still on the disk"


def test_an_upload_that_ends_in_the_middle(attacker: Attacker) -> None:
    before = stored(attacker.demo)
    connection = connected(attacker, SLOW % (b"upload", b"multipart/form-data; boundary=x"))
    until = time.monotonic() + PATIENCE / 2
    while stored(attacker.demo) == before and time.monotonic() < until:
        time.sleep(0.05)
    assert stored(attacker.demo) > before
    connection.close()
    assert settled(attacker.demo, before), "what was left is still on the disk"


def test_more_streams_than_the_demo_holds_open(attacker: Attacker, good: bytes) -> None:
    ask = b"GET /gradio_api/heartbeat/%d HTTP/1.1\r\nHost: x\r\n\r\n"
    streams = [connected(attacker, ask % index) for index in range(CONNECTIONS + 20)]
    codes = [stream.recv(4096).split()[1] for stream in streams]
    assert codes.count(b"200") <= CONNECTIONS and codes.count(b"503") >= 20
    assert attacker.get("/").status == 503
    for stream in streams:
        stream.close()
    until = time.monotonic() + PATIENCE / 2
    while attacker.get("/").status == 503 and time.monotonic() < until:
        time.sleep(0.2)
    assert attacker.predict("clip.mp4", good).event == "complete"


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{]",
    "no mapping": b"[]",
    "null": b"null",
    "no data": b"{}",
    "data of another type": b'{"data": "text"}',
    "mapping as data": b'{"data": {"0": 1}}',
    "null as data": b'{"data": null}',
    "too few": b'{"data": []}',
    "too many": b'{"data": ' + json.dumps([None] * 1000).encode() + b"}",
    "all null": b'{"data": [null, null]}',
    "number as clip": b'{"data": [1, 1]}',
    "list as clip": b'{"data": [[[]], 1]}',
    "deep": b'{"data": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "surrogate": b'{"data": ["\\ud800", 1]}',
    "other encoding": '{"data": ["é"]}'.encode("utf-16"),
    "large": b'{"data": ["' + b"x" * (64 * MEGABYTE) + b'", 1]}',
    "many": b'{"data": [' + b"0," * (8 * MEGABYTE) + b"0]}",
}


@pytest.mark.parametrize("case", BODIES)
def test_a_request_that_is_malformed(case: str, attacker: Attacker) -> None:
    answer = attacker.raw(BODIES[case])
    hold(answer, attacker)
    assert answer.event != "complete"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/call/nothing", {"data": []}),
        ("POST", "/call/..%2f..%2fetc", {"data": []}),
        ("POST", "/call/__init__", {"data": []}),
        ("POST", "/queue/join", {"data": [], "fn_index": 10**9, "session_hash": "s"}),
        ("POST", "/queue/join", {"data": [], "fn_index": -1, "session_hash": "s"}),
        ("POST", "/queue/join", {"data": [], "fn_index": "0", "session_hash": {"a": 1}}),
        ("POST", f"/run/{ENDPOINT}", {"data": []}),
        ("POST", "/component_server", {"component_id": 10**9, "fn_name": "ls", "session_hash": "s", "data": ["/"]}),
        ("POST", "/component_server", {"component_id": 1, "fn_name": "__class__", "session_hash": "s", "data": []}),
        ("GET", "/proxy=http://127.0.0.1:1/", None),
        ("GET", "/proxy=file:///etc/passwd", None),
        ("POST", "/vibe-edit/", {"prompt": "x"}),
        ("GET", "/vibe-code/", None),
        ("POST", "/upload", None),
        ("GET", "/stream/a/b/c/playlist.m3u8", None),
        ("GET", "/custom_component/1/client/component/..%2f..%2f..%2fetc%2fpasswd", None),
        ("GET", "/../static/../../../../etc/passwd", None),
        ("POST", "/process_recording", None),
        ("GET", "/run-history/buckets", None),
        ("POST", "/run-history/connect", {"bucket_id": "a/b"}),
        ("DELETE", "/info", None),
    ],
)
def test_an_address_that_nobody_should_ask(method: str, path: str, body: Any, attacker: Attacker) -> None:
    answer = attacker.http.request(method, path, json=body)
    hold(Answer(answer.status_code, answer.text), attacker)
    assert answer.status_code >= 400


def test_predictions_cannot_go_past_the_queue(attacker: Attacker, good: bytes) -> None:
    [path] = json.loads(attacker.upload("clip.mp4", good).text)
    answer = attacker.http.post(f"/run/{ENDPOINT}", json={"data": [file_data(path), *attacker.values()]})
    assert answer.status_code == 404, "use queue(api_open=False)"


def test_what_the_demo_tells_about_itself(attacker: Attacker) -> None:
    for path in (
        "/",
        "/config",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/monitoring",
        "/gradio_api/startup-events",
    ):
        answer = attacker.get(path)
        hold(Answer(answer.status if answer.status != 500 else 599, answer.text), attacker)


def test_a_flood_ends_in_a_full_queue(attacker: Attacker, good: bytes) -> None:
    """Far more requests than the queue holds: the rest are told so at once, those inside are answered, then it works again."""
    [path] = json.loads(attacker.upload("clip.mp4", good).text)
    body = {"data": [file_data(path), *attacker.values()]}

    def join(_: int) -> int:
        answer = attacker.http.post(f"/call/{ENDPOINT}", json=body)
        hold(Answer(answer.status_code, answer.text), attacker)
        return answer.status_code

    with ThreadPoolExecutor(24) as pool:
        codes = list(pool.map(join, range(96)))
    assert set(codes) == {200, 503}
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and attacker.predict("clip.mp4", good).event != "complete":
        time.sleep(0.5)
    assert attacker.predict("clip.mp4", good).event == "complete"
