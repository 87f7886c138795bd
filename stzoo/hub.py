"""Pull files from the Hugging Face Hub, checked.

The cache is the one of huggingface_hub, in its layout and under its locks, so both can use the same files. That client
checks only the size of a file, gives up when a connection is reset, and starts at zero after a kill. Here every file
is compared with its hash before it gets its name in the cache, a transfer goes on where it stopped, failures that can
pass are tried again a bounded number of times (``STZOO_HUB_RETRIES``, default 4), and every failure is one exception
of :mod:`stzoo.errors`.

The client's environment variables are honoured: ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE``, ``HF_TOKEN`` …
"""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from stzoo import errors, files
from stzoo.retries import PROGRESS
from stzoo.retries import retrying as retry

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

log = logging.getLogger("stzoo")
T = TypeVar("T")

_PARTIAL = ".stzoo-partial"
_LEFTOVERS = {".incomplete": 1, _PARTIAL: 7}
"""Endings of unfinished files and the days after which nobody continues them."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class Fetched:
    """A file in the cache whose bytes are the published ones."""

    path: Path
    commit: str
    """The commit the file is from, 40 hex digits."""
    source: Literal["hub cache", "hub"]
    """``hub`` if it was downloaded by this call."""


def fetch(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool | None = None,
    token: str | None = None,
    cache: Path | None = None,
    repo_type: str = "model",
) -> Fetched:
    """A file of a repo: from the cache if it is there, else from the Hub. What is returned has the right hash.

    The hash is ``sha256`` if given, else the one the Hub states: the sha256 of an LFS or Xet file, git's blob id of any
    other. No request is made for an intact cached file if ``revision`` is a full commit hash or ``sha256`` is given.
    ``offline=True`` forbids requests; ``None`` leaves it to ``HF_HUB_OFFLINE``. ``revision=None`` is ``main``. ``cache`` is
    a folder to use instead of the client's own cache; ``repo_type`` is ``model``, ``dataset`` or ``space``.

    Processes that ask for the same file at once download it once. A file that is damaged in the cache is downloaded
    again and replaced when the new one is complete. If the Hub cannot be reached, the copy that the cache has for this
    revision is used, with a warning.

    Raises:
        HubOffline, HubUnavailable, RateLimited, DownloadTruncated: it is not in the cache and the Hub cannot give it.
        RepoNotFound, RepoGated, AuthenticationFailed, RevisionNotFound, RemoteFileNotFound: the Hub refuses.
        WeightsCorrupted: the cached or, twice, the received bytes have another hash.
        DiskFull: no space left in the cache.
        StzooError: the cache cannot be written; HubError: what answers is not a Hub, or refuses for another reason.
    """
    wanted = Wanted(repo_id, filename, revision or "main", token, cache, repo_type)
    return retrying(lambda: _fetch(wanted, sha256, offline), wanted, retries=0)


def _fetch(wanted: Wanted, sha256: str | None, offline: bool | None) -> Fetched:
    from huggingface_hub import constants

    found = _look_up(wanted, sha256)
    known = sha256 or (_blob_name(found.path) if found else None)  # not known: a cache without symbolic links
    intact = found is not None and (not known or _is_intact(found.path, known))
    offline = constants.is_offline_mode() if offline is None else offline
    if found and intact and (offline or (known and (sha256 or _COMMIT.fullmatch(wanted.revision)))):
        return found
    damaged = None
    if found and not intact:
        damaged = errors.WeightsCorrupted(
            f"{found.path} is damaged: expected hash {known}, found {digest_like(found.path, str(known))}",
            f"With a connection, this gets it again: stzoo pull {wanted.repo_id}",
        )
    if offline:
        forbidden = constants.is_offline_mode()
        raise damaged or errors.HubOffline(
            f"{wanted} is not in the cache {wanted.folder}, and "
            + ("offline mode forbids asking the Hub" if forbidden else "the Hub is not asked here"),
            f"Run beforehand, while connected: stzoo pull {wanted.repo_id}" + ", or unset HF_HUB_OFFLINE" * forbidden,
        )
    if damaged:
        log.warning("%s. Getting it again", damaged.problem)
    try:
        metadata = _metadata(wanted, sha256, retries=0 if found and intact else None)
    except (errors.HubOffline, errors.HubUnavailable, errors.RateLimited) as problem:
        if damaged:
            raise damaged from problem
        if not found:
            raise
        log.warning("%s. Using the cached copy from commit %s", problem.problem, found.commit)
        return found
    return _stored(wanted, metadata, sha256 or str(metadata.etag))


def cached(repo_id: str, filename: str, *, revision: str | None = None) -> Path | None:
    """Where the cache has the file, or None. Makes no request and does not check the bytes: ``fetch`` does."""
    found = _look_up(Wanted(repo_id, filename, revision or "main"))
    return found.path if found else None


@dataclass(frozen=True)
class Wanted:
    """A file of a repo; raises if one of its names could lead out of the cache."""

    repo_id: str
    filename: str
    revision: str
    token: str | None = None
    cache: Path | None = None
    repo_type: str = "model"

    def __post_init__(self) -> None:
        if not _REPO.fullmatch(self.repo_id) or ".." in self.repo_id:
            raise errors.RepoNotFound(f"{self.repo_id!r} is not the id of a Hub repo", _ID)
        for kind, name in ((errors.RemoteFileNotFound, self.filename), (errors.RevisionNotFound, self.revision)):
            if {"", ".", ".."} & set(name.split("/")) or "\\" in name or "\0" in name:
                raise kind(f"there cannot be {name!r} in {self.repo_id}")

    def __str__(self) -> str:
        return f"{self.filename} of {self.repo_id} at {self.revision}"

    @property
    def folder(self) -> Path:
        """The repo's folder in the cache."""
        from huggingface_hub import constants

        return (self.cache or Path(constants.HF_HUB_CACHE)) / "--".join(
            [f"{self.repo_type}s", *self.repo_id.split("/")]
        )

    @property
    def connect(self) -> str:
        """What to do when there is no connection."""
        return f"Connect, or run beforehand, while connected: stzoo pull {self.repo_id}"

    def url(self, revision: str) -> str:
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.repo_id, self.filename, repo_type=self.repo_type, revision=revision)

    @property
    def home(self) -> str:
        """The address of the repo's page."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'' if self.repo_type == 'model' else self.repo_type + 's/'}{self.repo_id}"


# --- the cache --------------------------------------------------------------------------------------------------------


def _look_up(wanted: Wanted, sha256: str | None = None) -> Fetched | None:
    """The cached file of this revision; with ``sha256``, of any revision that has it under this hash."""
    reference, snapshots = wanted.folder / "refs" / wanted.revision, wanted.folder / "snapshots"
    commit = reference.read_text(errors="replace").strip() if reference.is_file() else wanted.revision
    own = snapshots / commit / wanted.filename if _COMMIT.fullmatch(commit) else None
    others = snapshots.glob(f"*/{glob.escape(wanted.filename)}") if sha256 else ()
    for path in (*([own] if own else []), *others):
        claimed = _blob_name(path) or ""
        if not path.is_file():
            continue
        if not sha256 or claimed == sha256 or (len(claimed) != 64 and (path == own or _is_intact(path, sha256))):
            return Fetched(path, path.relative_to(snapshots).parts[0], "hub cache")
    return None


def _blob_name(pointer: Path) -> str | None:
    """The hash a snapshot's file should have. One hop only: a blob may be a link into a store with other names."""
    try:
        name = Path(os.readlink(pointer)).name
    except OSError:
        return None
    return name if _ETAG.fullmatch(name) else None


def digest_like(path: Path, like: str) -> str:
    """The file's hash of the kind of ``like``: sha256 (64 digits) or git's blob id (40 digits)."""
    if len(like) == 64:
        return files.sha256_of(path)
    header = b"blob %d\0" % path.stat().st_size
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(header, usedforsecurity=False)).hexdigest()


def _is_intact(path: Path, expected: str) -> bool:
    return path.is_file() and digest_like(path, expected) == expected


def _point(pointer: Path, blob: Path) -> None:
    """Make a snapshot's file a link to the blob, or a copy where there are no links."""
    temporary = pointer.with_name(f".{uuid.uuid4().hex}")
    try:
        try:
            os.symlink(os.path.relpath(blob, pointer.parent), temporary)
        except OSError:
            shutil.copyfile(blob, temporary)
        temporary.replace(pointer)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(blobs: Path) -> None:
    """Remove what downloads that were killed left behind."""
    for path in blobs.iterdir():
        days = _LEFTOVERS.get(path.suffix)
        try:
            if days and time.time() - path.stat().st_mtime > days * 86400:
                path.unlink()
        except OSError as problem:  # another process was faster
            log.debug("cannot remove %s: %s", path, problem)


# --- the transfer -----------------------------------------------------------------------------------------------------


def _metadata(wanted: Wanted, sha256: str | None, retries: int | None) -> HfFileMetadata:
    """What the Hub says about the file, with a commit and a hash that are such and fit ``sha256``."""
    from huggingface_hub import constants, get_hf_file_metadata

    metadata = retrying(lambda: get_hf_file_metadata(wanted.url(wanted.revision), token=wanted.token), wanted, retries)
    etag, commit = metadata.etag or "", metadata.commit_hash or ""
    if not _ETAG.fullmatch(etag) or not _COMMIT.fullmatch(commit):
        raise errors.HubError(
            f"{constants.ENDPOINT} states no content hash for {wanted} (ETag {etag!r}, commit {commit!r})",
            "HF_ENDPOINT must be a Hub, or a mirror that passes its headers on",
        )
    if sha256 and len(etag) == 64 and etag != sha256:
        raise errors.WeightsCorrupted(
            f"on the Hub, {wanted} has sha256 {etag}, not {sha256}",
            "The repository was changed: give the revision that had the file, or update the plugin",
        )
    return metadata


def _stored(wanted: Wanted, metadata: HfFileMetadata, expected: str) -> Fetched:
    """The file in the cache, downloaded if it is not there or damaged."""
    folder, commit, etag = wanted.folder, str(metadata.commit_hash), str(metadata.etag)
    pointer, blob = folder / "snapshots" / commit / wanted.filename, folder / "blobs" / etag
    lock = folder.parent / ".locks" / folder.name / f"{etag}.lock"  # the one that huggingface_hub takes
    source: Literal["hub cache", "hub"] = "hub cache"
    if not _is_intact(pointer, expected):
        for file in (pointer, blob, lock):
            file.parent.mkdir(parents=True, exist_ok=True)
        with utilities().WeakFileLock(lock):
            if not _is_intact(blob, expected):
                _download(wanted, metadata, blob, expected)
                source = "hub"
            _point(pointer, blob)
    reference = folder / "refs" / wanted.revision  # for the next time without a connection
    try:
        if wanted.revision != commit and not (reference.is_file() and reference.read_text() == commit):
            reference.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(reference, commit.encode())
    except OSError as problem:  # a read-only cache that has the file will do
        log.debug("cannot write %s: %s", reference, problem)
    return Fetched(pointer, commit, source)


def _download(wanted: Wanted, metadata: HfFileMetadata, blob: Path, expected: str) -> None:
    """Put the file at ``blob`` once its hash is right. The caller holds the lock."""
    partial = blob.with_name(blob.name + _PARTIAL)
    digest = ""
    for again in (False, True):  # the second time from zero: what an earlier process left may be the wrong part
        if again or not _transferred_by_xet(wanted, metadata, partial):
            retrying(lambda: _receive(wanted, metadata, partial), wanted, received=lambda: files.length(partial))
        digest = digest_like(partial, expected)
        if digest == expected:
            partial.replace(blob)
            return _sweep(blob.parent)
        partial.unlink()
        log.warning("%s arrived with hash %s, not %s", wanted, digest, expected)
    raise errors.WeightsCorrupted(
        f"{wanted} arrived twice with wrong bytes: expected hash {expected}, found {digest}",
        f"Nothing was kept; try later, or without the proxy or mirror in between: stzoo pull {wanted.repo_id}",
    )


def _transferred_by_xet(wanted: Wanted, metadata: HfFileMetadata, partial: Path) -> bool:
    """Try the Hub's chunked storage, which retries by itself; if it fails, plain HTTP is left."""
    from huggingface_hub import constants

    if not metadata.xet_file_data or metadata.size is None or constants.HF_HUB_DISABLE_XET:
        return False
    from huggingface_hub.file_download import xet_get

    partial.unlink(missing_ok=True)
    try:
        xet_get(
            incomplete_path=partial,
            xet_file_data=metadata.xet_file_data,
            headers=utilities().build_hf_headers(token=wanted.token),
            expected_size=metadata.size,
            displayed_filename=wanted.filename,
        )
    except Exception as problem:
        log.warning("%s: the Xet transfer failed (%s); trying plain HTTP", wanted, problem)
        partial.unlink(missing_ok=True)  # its pieces need not be in order
        return False
    return True


def _receive(wanted: Wanted, metadata: HfFileMetadata, partial: Path) -> None:
    """Append to ``partial`` what is missing."""
    from huggingface_hub import constants

    client, size = utilities(), metadata.size
    have = files.length(partial) if size else 0  # without a size there is no telling whether the rest is still to come
    if size:
        if have >= size:
            return
        files.check_free(partial.parent, size - have, str(wanted), _ROOM)
    headers = client.build_hf_headers(token=wanted.token) | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = wanted.url(str(metadata.commit_hash))  # redirected from here; the client keeps the token from other hosts
    request = client.get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    try:
        with request as response:
            client.hf_raise_for_status(response)
            if response.status_code != 206:
                have = 0
            with progress_bar(size, have, wanted.filename) as bar, partial.open("ab" if have else "wb") as file:
                for piece in response.iter_bytes():
                    file.write(piece)
                    bar.update(len(piece))
    except client.httpx.RemoteProtocolError as problem:
        raise errors.DownloadTruncated(f"the connection ended early while getting {wanted}", _AGAIN) from problem
    except (client.httpx.ConnectError, client.httpx.ConnectTimeout) as problem:
        raise errors.HubUnavailable(f"the server of {wanted} cannot be reached ({problem})", _AGAIN) from problem
    if size and (have := files.length(partial)) < size:
        raise errors.DownloadTruncated(f"{have} of {size} bytes of {wanted} arrived", _AGAIN)


def progress_bar(total: int | None, have: int, name: str) -> Any:
    """Of a transfer, if it is a large one."""
    small = True if (total or 0) < PROGRESS else None
    return utilities().tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=small)


def utilities() -> Any:
    """``huggingface_hub.utils``; its ``httpx`` is the HTTP library that the client uses."""
    from huggingface_hub import utils

    return utils


# --- failures ---------------------------------------------------------------------------------------------------------

_ID = "An id looks like owner/name"
_AGAIN = "Try again: what has arrived is kept"
_ROOM = "Free some space, or set HF_HOME to a folder on a larger disk; what has arrived is kept"


def retrying(
    work: Callable[[], T], wanted: Wanted, retries: int | None = None, received: Callable[[], int] = lambda: 0
) -> T:
    """As :func:`stzoo.retries.retrying`, for requests to the Hub about ``wanted``."""
    return retry(work, lambda problem: _error_for(problem, wanted), retries, received)


def _error_for(problem: Exception, wanted: Wanted) -> errors.StzooError | None:
    """The exception of stzoo for one of the client or the system; None if it is neither."""
    from huggingface_hub import constants
    from huggingface_hub import errors as theirs

    httpx = utilities().httpx
    page, login = wanted.home, "set HF_TOKEN or run: hf auth login"
    match problem:
        case theirs.HFValidationError():
            return errors.RepoNotFound(f"{wanted}: this cannot be the id of a Hub repo ({problem})", _ID)
        case theirs.OfflineModeIsEnabled():
            return errors.HubOffline(f"{wanted}: offline mode forbids asking the Hub", "Unset HF_HUB_OFFLINE")
        case theirs.GatedRepoError():
            return errors.RepoGated(f"{wanted}: the owner must grant access", f"Request it at {page}, then {login}")
        case theirs.RevisionNotFoundError():
            return errors.RevisionNotFound(f"{wanted}: no such revision (any more)", f"See {page}/commits/main")
        case theirs.RemoteEntryNotFoundError():
            return errors.RemoteFileNotFound(f"{wanted}: no such file at this revision", f"See {page}/tree/main")
        case theirs.HfHubHTTPError(response=answer):
            status, said = answer.status_code, answer.headers.get("X-Error-Message") or f"status {answer.status_code}"
            if "invalid credentials" in said.lower():
                return errors.AuthenticationFailed(f"{wanted}: the Hub refused the token", f"Get a valid one, {login}")
            if isinstance(problem, theirs.RepositoryNotFoundError):
                return errors.RepoNotFound(f"{wanted}: no such repository, or a private one", f"If private, {login}")
            if status == 402 and wanted.repo_type == "space":
                return errors.HubError(
                    f"{wanted}: the account's plan or credits do not allow it ({said})",
                    f"Spaces that run an app need a paid plan, and paid hardware needs credits: {constants.ENDPOINT}/settings/billing",
                )
            if status in (402, 413, 507) or re.search(r"quota|storage.{0,20} (limit|exceeded)", said, re.IGNORECASE):
                return errors.HubError(
                    f"{wanted}: the storage quota does not allow it ({said})",
                    f"Free some space or ask for more: {constants.ENDPOINT}/settings/billing; what was uploaded is kept",
                )
            if status in (401, 403):
                return errors.AuthenticationFailed(f"{wanted}: {said}", f"With a token that has the right, {login}")
            if status == 429:
                return errors.RateLimited(f"{wanted}: too many requests (429)", f"Wait, or for a higher limit, {login}")
            if status >= 500 or status in (408, 412):  # 412: somebody else's commit came in between
                return errors.HubUnavailable(f"{wanted}: the Hub failed ({said})", "Try again later")
            return errors.HubError(f"{wanted}: the Hub refused ({said})", f"See {page}")
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return errors.HubOffline(f"{wanted}: {constants.ENDPOINT} cannot be reached ({problem})", wanted.connect)
        case httpx.HTTPError():
            name = type(problem).__name__
            return errors.HubUnavailable(f"{wanted}: the connection failed ({name} {problem})", "Try again later")
        case ConnectionError() | TimeoutError():  # of the Xet library
            return errors.HubUnavailable(f"{wanted}: the connection failed ({problem})", "Try again later")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return errors.DiskFull(f"{wanted}: no space left in {constants.HF_HUB_CACHE}", _ROOM)
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return errors.StzooError(
                f"{wanted} cannot be kept in the cache: {problem}", "Set HF_HOME to a folder of yours"
            )
        case RuntimeError(__cause__=Exception() as cause) if found := _error_for(cause, wanted):  # an upload's
            return found
        case OSError() | RuntimeError():  # most likely of the Xet library too
            return errors.HubError(f"{wanted}: the transfer failed ({problem})", "Try again with HF_HUB_DISABLE_XET=1")
    return None
