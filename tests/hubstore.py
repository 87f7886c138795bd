"""Storage of the local Hub: contents by their hash, repos with commits and refs as JSON, the Xet store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

LFS_SUFFIXES = ("bin", "ckpt", "gz", "h5", "mp4", "npy", "npz", "onnx", "parquet", "pt", "pth", "safetensors", "zip")
GITATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
LFS_SIZE = 10 * 2**20
HEAD, NONE = "refs/heads/", "0" * 40


class UnknownRevision(LookupError):
    """No branch, tag, ref or commit of that name."""


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit. `oid` is git's id of the blob: of the content, or of the pointer if it is in LFS."""

    oid: str
    sha256: str
    size: int
    lfs: bool

    @classmethod
    def in_lfs(cls, sha256: str, size: int) -> File:
        return cls(git_id(cls.pointer(sha256, size)), sha256, size, True)

    @staticmethod
    def pointer(sha256: str, size: int) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    @property
    def sizes(self) -> dict[str, int]:
        return {"size": self.size, "pointerSize": len(self.pointer(self.sha256, self.size))}


@dataclass
class Commit:
    parent: str
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    """Everything about a repo but its contents."""

    type: str
    id: str
    private: bool
    gated: str | bool
    created: str
    space: dict[str, Any]
    """Of a Space: sdk, hardware, secrets, variables."""
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    discussions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_json(cls, text: bytes) -> Repo:
        repo = cls(**json.loads(text))
        for oid, commit in json.loads(text)["commits"].items():
            files = {path: File(**entry) for path, entry in commit.pop("files").items()}
            repo.commits[oid] = Commit(**commit, files=files)
        return repo

    @property
    def namespace(self) -> str:
        return self.id.split("/")[0]

    def resolve(self, revision: str) -> str:
        """Commit of a branch, a tag, a full ref or a commit. Raises UnknownRevision."""
        for ref in (revision, HEAD + revision, "refs/tags/" + revision):
            if ref in self.refs:
                return self.refs[ref]
        if revision not in self.commits:
            raise UnknownRevision(revision)
        return revision

    def files(self, revision: str) -> dict[str, File]:
        return self.commits[self.resolve(revision)].files


class Store:
    """The repos under `root` and, if `xet` is given, the Xet store that the clients use."""

    def __init__(self, root: Path, xet: Path | None) -> None:
        self.root, self.xet = root, xet.resolve() if xet else None
        (root / "blobs").mkdir(parents=True, exist_ok=True)
        repos = [Repo.from_json(path.read_bytes()) for path in root.glob("repos/*/*/*.json")]
        self.repos = {(repo.type, repo.id): repo for repo in repos}
        self._xet_hashes: dict[str, str] = {}

    def create(
        self,
        kind: str,
        repo_id: str,
        *,
        private: bool = False,
        gated: str | bool = False,
        space: dict[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Repo:
        """Make a repo whose first commit, on main, has `files`."""
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private, gated, now(), space or {})
        added = {path: self.add(data, lfs=False) for path, data in (files or {}).items()}
        self.commit(repo, HEAD + "main", added, title="initial commit", author=repo.namespace)
        return repo

    def save(self, repo: Repo) -> None:
        self._write(self._record(repo), json.dumps(asdict(repo)).encode())

    def _record(self, repo: Repo) -> Path:
        return self.root / "repos" / repo.type / f"{repo.id}.json"

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(uuid.uuid4().hex)
        temporary.write_bytes(data)
        temporary.rename(path)

    def commit(
        self, repo: Repo, ref: str, changes: Mapping[str, File | None], *, title: str, author: str, message: str = ""
    ) -> str:
        """Move `ref` to a new commit that adds files and (None) removes them."""
        parent = repo.refs.get(ref, NONE)
        files = dict(repo.commits[parent].files) if parent in repo.commits else {}
        for path, file in changes.items():
            files.pop(path, None)
            if file:
                files[path] = file
                if file.lfs and self.xet and not self.xet_hash(file.sha256):
                    self._to_xet(file.sha256)
        commit = Commit(parent, title, message, author, now(), dict(sorted(files.items())))
        oid = hashlib.sha1(json.dumps(asdict(commit)).encode() + uuid.uuid4().bytes).hexdigest()
        repo.refs[ref], repo.commits[oid] = oid, commit
        self.save(repo)
        return oid

    def wants_lfs(self, repo: Repo, revision: str, path: str, size: int, sample: bytes) -> bool:
        """Whether a file goes to LFS, judging from the repo's .gitattributes, its size and its first bytes."""
        attributes = repo.files(revision).get(".gitattributes")
        text = self.read(attributes) if attributes else GITATTRIBUTES
        patterns = [line.split()[0] for line in text.decode().splitlines() if "filter=lfs" in line]
        name = path.rsplit("/", 1)[-1]
        return size > LFS_SIZE or b"\0" in sample or any(fnmatch(name, p) or fnmatch(path, p) for p in patterns)

    def add(self, data: bytes, *, lfs: bool) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        if not (blob := self.root / "blobs" / sha256).exists():
            self._write(blob, data)
        return File.in_lfs(sha256, len(data)) if lfs else File(git_id(data), sha256, len(data), False)

    def has(self, sha256: str) -> bool:
        return (self.root / "blobs" / sha256).exists() or self.xet_hash(sha256) is not None

    def blob(self, sha256: str) -> Path:
        """Where a content is, fetched from the Xet store if that is the only place."""
        path = self.root / "blobs" / sha256
        if not path.exists() and (xet_hash := self.xet_hash(sha256)):
            import hf_xet

            temporary = path.with_suffix(".part")

            def download(session: Any, store: str) -> None:
                with session.new_file_download_group(endpoint=store) as group:
                    group.start_download_file(hf_xet.XetFileInfo(xet_hash), str(temporary))

            self._with_xet(download)
            temporary.rename(path)
        return path

    def read(self, file: File) -> bytes:
        return self.blob(file.sha256).read_bytes()

    def card(self, repo: Repo, revision: str) -> dict[str, Any]:
        """The metadata block of README.md; empty if there is none or it is not valid."""
        readme = repo.files(revision).get("README.md")
        with contextlib.suppress(yaml.YAMLError):
            data = yaml.safe_load(front_matter(self.read(readme).decode()) if readme else "")
            return json.loads(json.dumps(data, default=str)) if isinstance(data, dict) else {}
        return {}

    def xet_hash(self, sha256: str) -> str | None:
        """Xet's name of a content, found in the shards that clients wrote to the store."""
        if self.xet and sha256 not in self._xet_hashes:
            for shard in self.xet.glob("xet/xorbs/shards/*.mdb"):
                self._xet_hashes.update(shard_files(shard.read_bytes()))
        return self._xet_hashes.get(sha256)

    def _to_xet(self, sha256: str) -> None:
        def upload(session: Any, store: str) -> None:
            with session.new_upload_commit(endpoint=store) as group:
                group.start_upload_file(str(self.root / "blobs" / sha256), sha256=sha256)

        self._with_xet(upload)

    def _with_xet(self, transfer: Callable[[Any, str], None]) -> None:
        from hf_xet import XetSession

        for attempt in range(100):
            try:
                return transfer(XetSession(), f"local://{self.xet}")
            except RuntimeError as error:  # a client in another process is using the store
                if "lock" not in str(error) or attempt == 99:
                    raise
                time.sleep(0.05)


def front_matter(text: str) -> str:
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.S)
    return match[1] if match else ""


def shard_files(shard: bytes) -> Iterator[tuple[str, str]]:
    """(sha256, Xet hash) of each file in a Xet metadata shard.

    After a header, records of 48 bytes. Per file: its hash, flags and number of segments; the segments; if bit 31 is
    set, as many verification records; if bit 30 is set, the sha256. A hash of ones ends the list. Hashes are four
    little-endian 64-bit words.
    """
    at = 48
    while shard[at : at + 32] != b"\xff" * 32:
        flags, segments = struct.unpack_from("<II", shard, at + 32)
        end = at + 48 * (1 + segments * (1 + (flags >> 31)) + (flags >> 30 & 1))
        if flags >> 30 & 1:
            sha256, name = ("".join(f"{w:016x}" for w in struct.unpack_from("<4Q", shard, i)) for i in (end - 48, at))
            yield sha256, name
        at = end
