"""What the tests of hostile input share: somebody who speaks plain HTTP to a demo, and files that nobody should send.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

import http.client
import io
import json
import secrets
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from browser import PATIENCE, Demo

from stzoo import media
from stzoo.requirements import Requirements

ENDPOINT = "predict_tau_mmnist"
MEGABYTE = 2**20
SECRET = "kept-" + secrets.token_hex(8)


@dataclass(frozen=True)
class Answer:
    """What came back: an HTTP status and text, and for a prediction the last event of its stream."""

    status: int
    text: str
    event: str = ""


class Attacker:
    """Speaks HTTP to the demo, without a client that would tidy up what it sends."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.http = httpx.Client(base_url=f"{demo.url}/gradio_api", timeout=PATIENCE, trust_env=False)
        entry = demo.functions()[ENDPOINT]
        self.options = len(entry["inputs"]) - 1
        self.secret = demo.folder / "secret.txt"
        self.secret.write_text(SECRET)
        (demo.folder / "work" / "secret.txt").write_text(SECRET)
        (demo.folder / "work" / "secret.npy").write_bytes(npy(np.zeros((10, 64, 64))))

    def get(self, path: str, method: str = "GET") -> Answer:
        """A request whose path is sent byte for byte."""
        connection = http.client.HTTPConnection(urlsplit(self.demo.url).netloc, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host=False)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.read(4 * MEGABYTE).decode("latin-1"))

    def file(self, path: str) -> Answer:
        return self.get(f"/gradio_api/file={path}")

    def upload(self, name: str, data: bytes | Iterator[bytes]) -> Answer:
        """A multipart upload under exactly this name; ``data`` may be made while it is sent."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        parts = (data,) if isinstance(data, bytes) else data

        def body() -> Iterator[bytes]:
            yield head
            yield from parts
            yield b"\r\n--x--\r\n"

        try:
            done = self.http.post(
                "/upload", content=body(), headers={"content-type": "multipart/form-data; boundary=x"}
            )
        except httpx.TransportError:  # refused in the middle of the upload: nobody reads on
            return Answer(413, "")
        return Answer(done.status_code, done.text)

    def ask(self, data: Any, endpoint: str = ENDPOINT) -> Answer:
        """A prediction through the queue: what the stream ends with."""
        started = self.http.post(f"/call/{endpoint}", json={"data": data})
        return self._follow(started, endpoint)

    def _follow(self, started: httpx.Response, endpoint: str = ENDPOINT) -> Answer:
        if started.status_code != 200:
            return Answer(started.status_code, started.text)
        event, until = "", time.monotonic() + PATIENCE
        with self.http.stream("GET", f"/call/{endpoint}/{started.json()['event_id']}") as stream:
            for line in stream.iter_lines():
                if time.monotonic() > until:  # the stream itself is kept alive by heartbeats
                    raise TimeoutError("no prediction and no refusal")
                if line.startswith("event:"):
                    event = line.partition(":")[2].strip()
                elif line.startswith("data:") and event in ("complete", "error"):
                    return Answer(200, line.partition(":")[2].strip(), event)
        return Answer(stream.status_code, "", "")

    def raw(self, body: bytes, endpoint: str = ENDPOINT) -> Answer:
        """A prediction whose JSON is sent byte for byte."""
        headers = {"content-type": "application/json"}
        return self._follow(self.http.post(f"/call/{endpoint}", content=body, headers=headers), endpoint)

    def predict(self, name: str, data: bytes, *options: Any) -> Answer:
        """Upload a file, then predict with it."""
        uploaded = self.upload(name, data)
        if uploaded.status != 200:
            return uploaded
        return self.ask([file_data(json.loads(uploaded.text)[0]), *self.values(*options)])

    def values(self, *options: Any) -> list[Any]:
        """The given options, and nothing for the rest."""
        return [*options, *[None] * (self.options - len(options))]


def file_data(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


# --- files nobody should send -----------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npy_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    """An npy file that promises more than it holds."""
    head = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def npz_bomb(gigabytes: float) -> bytes:
    """A small zip that unpacks to a huge array of zeros."""
    frames = int(gigabytes * 2**30 / (64 * 64))
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("video.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(npy_header((frames, 64, 64), "|u1"))
        for _ in range(int(gigabytes * 64)):
            entry.write(bytes(2**24))
    return buffer.getvalue()


def png_bomb(side: int) -> bytes:
    """A grey picture of side x side pixels, all zero, one bit each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join(packer.compress(row * 64) for _ in range(side // 64)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(frames: int, width: int = 64, height: int = 64) -> bytes:
    """A GIF whose frames hold one pixel each; the screen may be of any size."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b"\x3b"


def film(frames: int, side: int, folder: Path) -> bytes:
    """An mp4 of constant pictures: tiny, whatever its length."""
    import av

    path = folder / f"{frames}x{side}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "51"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
        for _ in range(frames):
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def clip_file(folder: Path, suffix: str, frames: int = 10) -> bytes:
    path = folder / f"clip{frames}{suffix}"
    media.write_video(media.sample_clip(frames, Requirements(channels=1, native_size=(64, 64))), path)
    return path.read_bytes()


def pickled(folder: Path) -> bytes:
    """An npy file with an object that writes a file when it is unpickled."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(folder / "unpickled"), "w"))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()] * 10, dtype=object), allow_pickle=True)
    return buffer.getvalue()
