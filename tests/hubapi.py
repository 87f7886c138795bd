"""The HTTP interface of the Hub: what each request is answered, as pure functions of a `Call`; here, what only looks."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from hubstore import File, Repo, Store, UnknownRevision


@dataclass
class Reply:
    """An answer; `size` cuts its body short."""

    body: bytes | Path = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    size: int | None = None


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})


class Refused(Exception):
    """An answer other than the one asked for, in the form that the Hub gives it."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        known = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = as_json({"error": message}, status, {**known, **(headers or {})})


@dataclass
class Site:
    """What the server is, apart from its data. `tokens`: token -> user; `orgs`: organisation -> members."""

    endpoint: str
    cdn: str
    tokens: Mapping[str, str]
    orgs: Mapping[str, Collection[str]]
    page_size: int = 1000


@dataclass
class Call:
    """A request, header names in lower case. `cut()`: the size to which the file it is about is truncated, or None."""

    store: Store
    site: Site
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    cut: Callable[[], int | None]

    def __post_init__(self) -> None:
        url = urlsplit(self.target)
        self.path, self.query = url.path.rstrip("/"), parse_qs(url.query)

    def answer(self) -> Reply:
        method = "GET" if self.method == "HEAD" else self.method
        try:
            for methods, path, answer in ROUTES:
                if method in methods.split("|") and (match := path.fullmatch(self.path)):
                    return answer(self, *(group and unquote(group) for group in match.groups()))
            raise Refused(404, f"Cannot {self.method} {self.path}")
        except UnknownRevision as unknown:
            return Refused(404, f"Invalid rev id: {unknown}", "RevisionNotFound").reply
        except Refused as refused:
            return refused.reply

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body or b"{}")
        return value

    def user(self) -> tuple[str | None, bool]:
        """Name of the user, and whether the token may write."""
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            return None, False
        if token not in self.site.tokens:
            raise Refused(401, "Invalid credentials in Authorization header")
        name, _, role = self.site.tokens[token].partition(":")
        return name, role != "read"

    def login(self) -> str:
        user, _ = self.user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        return user

    def member(self, namespace: str) -> bool:
        user, _ = self.user()
        return user == namespace or user in self.site.orgs.get(namespace, ())

    def may_write(self, namespace: str) -> None:
        self.login()
        if not (self.member(namespace) and self.user()[1]):
            raise Refused(403, "Forbidden: you must use a write token with access to this namespace.")

    def repo(self, kind: str | None, repo_id: str, need: Literal["read", "files", "write"] = "read") -> Repo:
        repo, (user, _) = self.store.repos.get((kind or "model", repo_id)), self.user()
        if repo is None or (repo.private and not self.member(repo.namespace)):
            if user is None:
                raise Refused(401, "Invalid username or password.", "RepoNotFound")
            raise Refused(404, "Repository not found", "RepoNotFound")
        if need == "files" and repo.gated and not self.member(repo.namespace):
            raise Refused(403 if user else 401, f"Access to {repo.type} {repo.id} is restricted.", "GatedRepo")
        if need == "write":
            self.may_write(repo.namespace)
        return repo

    def page(self, items: list[Any], size: int) -> Reply:
        at, headers = int(self.query.get("cursor", ["0"])[0]), {}
        if at + size < len(items):
            query = urlencode({**self.query, "cursor": [at + size]}, doseq=True)
            headers["Link"] = f'<{self.site.endpoint}{self.path}?{query}>; rel="next"'
        return as_json(items[at : at + size], headers=headers)

    def url(self, repo: Repo) -> str:
        return f"{self.site.endpoint}/{'' if repo.type == 'model' else repo.type + 's/'}{repo.id}"


ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = []
REPO = r"/api/(model|dataset|space)s/([^/]+/[^/]+)"
PAGE = r"/(?:(dataset|space)s/)?([^/]+/[^/]+)"


def route(methods: str, path: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Have a function answer such requests; the groups of `path`, unquoted, are its arguments."""

    def register(answer: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append((methods, re.compile(path), answer))
        return answer

    return register


# Files


def find(call: Call, kind: str | None, repo_id: str, revision: str, path: str) -> tuple[Repo, str, File]:
    repo = call.repo(kind, repo_id, "files")
    commit = repo.resolve(revision)
    if (file := repo.files(commit).get(path)) is None:
        raise Refused(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
    return repo, commit, file


@route("GET", PAGE + r"/resolve/([^/]+)/(.+)")
def resolve(call: Call, kind: str | None, repo_id: str, revision: str, path: str) -> Reply:
    repo, commit, file = find(call, kind, repo_id, revision, path)
    headers = {"X-Repo-Commit": commit}
    if not file.lfs:
        headers["Location"] = f"/api/resolve-cache/{repo.type}s/{repo_id}/{commit}/{quote(path)}"
        return Reply(status=307, headers=headers)
    cut = call.cut()
    size = file.size if cut is None else cut
    headers |= {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{file.etag}"'}
    if xet := call.store.xet_hash(file.sha256):
        refresh = f"{call.site.endpoint}/api/{repo.type}s/{repo_id}/xet-read-token/{commit}"
        headers |= {"X-Xet-Hash": xet, "Link": f'<{refresh}>; rel="xet-auth"'}
    headers["Location"] = f"{call.site.cdn}/{file.sha256}/{quote(path)}"
    return Reply(status=302, headers=headers)


@route("GET", r"/api/resolve-cache/(model|dataset|space)s/([^/]+/[^/]+)/([^/]+)/(.+)")
def small_file(call: Call, kind: str, repo_id: str, revision: str, path: str) -> Reply:
    _, commit, file = find(call, kind, repo_id, revision, path)
    headers = {"X-Repo-Commit": commit, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    return Reply(call.store.blob(file.sha256), headers=headers, size=call.cut())


@route("GET|PUT", r"/cdn/([0-9a-f]{64})/.*")
def cdn(call: Call, sha256: str) -> Reply:
    if "authorization" in call.headers:
        raise Refused(400, "Only one auth mechanism allowed")
    headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
    if call.method != "PUT":
        if not call.store.has(sha256):
            raise Refused(404, "No such object")
        return Reply(call.store.blob(sha256), headers=headers, size=call.cut())
    if hashlib.sha256(call.body).hexdigest() != sha256:
        raise Refused(400, "The digest of the body is not the one expected")
    call.store.add(call.body, lfs=True)
    return Reply(headers=headers)


@route("GET", REPO + r"/xet-(read|write)-token/([^/]+)")
def xet_token(call: Call, kind: str, repo_id: str, right: str, _revision: str) -> Reply:
    call.repo(kind, repo_id, "write" if right == "write" and "create_pr" not in call.query else "files")
    if call.store.xet is None:
        raise Refused(404, "This server has no Xet store")
    token = {"casUrl": f"local://{call.store.xet}", "accessToken": "xet", "exp": int(time.time()) + 3600}
    names = {"X-Xet-Cas-Url": "casUrl", "X-Xet-Access-Token": "accessToken", "X-Xet-Token-Expiration": "exp"}
    return as_json(token, headers={header: str(token[key]) for header, key in names.items()})


# Looking at repos


@route("GET", REPO + r"(?:/revision/([^/]+))?")
def repo_info(call: Call, kind: str, repo_id: str, revision: str | None) -> Reply:
    info = describe(call, call.repo(kind, repo_id), revision or "main")
    expand = call.query.get("expand")
    return as_json({key: info.get(key) for key in ("_id", "id", *expand)} if expand else info)


def describe(call: Call, repo: Repo, revision: str) -> dict[str, Any]:
    commit = repo.resolve(revision)
    files, card = repo.files(commit), call.store.card(repo, commit)
    tags = [*(card.get("tags") or ()), *filter(None, map(card.get, ("library_name", "pipeline_tag")))]
    prefixes = {"license": "license:", "datasets": "dataset:", "base_model": "base_model:", "language": ""}
    for key, prefix in prefixes.items():
        values = card.get(key) or []
        tags += [f"{prefix}{value}" for value in (values if isinstance(values, list) else [values])]
    siblings: list[dict[str, Any]] = []
    for path, file in files.items():
        siblings.append({"rfilename": path})
        if "blobs" in call.query:
            siblings[-1] |= {"size": file.size, "blobId": file.oid}
            siblings[-1] |= {"lfs": {"sha256": file.sha256, **file.sizes}} if file.lfs else {}
    info = {
        "_id": hashlib.sha1(f"{repo.type}/{repo.id}".encode()).hexdigest()[:24],
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "createdAt": repo.created,
        "lastModified": repo.commits[commit].date,
        "downloads": 0,
        "likes": 0,
        "tags": [*dict.fromkeys([*tags, "region:us"])],
        "cardData": card,
        "siblings": siblings,
        "usedStorage": sum(file.size for file in files.values()),
    }
    if repo.type == "model":
        info |= {"modelId": repo.id} | {
            k: card[k] for k in ("pipeline_tag", "library_name", "model-index") if k in card
        }
    if repo.type == "space":
        info |= {"sdk": card.get("sdk") or repo.space["sdk"], "runtime": runtime(repo)}
    return info


def runtime(repo: Repo) -> dict[str, Any]:
    hardware = repo.space.get("hardware", "cpu-basic")
    return {"stage": "RUNNING", "hardware": {"current": hardware, "requested": hardware}, "gcTimeout": 172800}


@route("GET", REPO + r"/tree/([^/]+)(?:/(.+))?")
def tree(call: Call, kind: str, repo_id: str, revision: str, folder: str | None) -> Reply:
    recursive = call.query.get("recursive", [""])[0].lower() == "true"
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    listed = entries(call, call.repo(kind, repo_id), revision)
    below = [
        e for path, e in listed.items() if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
    ]
    if folder and not below:
        raise Refused(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    return call.page(below, call.site.page_size)


@route("POST", REPO + r"/paths-info/([^/]+)")
def paths_info(call: Call, kind: str, repo_id: str, revision: str) -> Reply:
    text = call.body.decode()
    paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
    listed = entries(call, call.repo(kind, repo_id), revision)
    return as_json([listed[path.rstrip("/")] for path in paths if path.rstrip("/") in listed])


def entries(call: Call, repo: Repo, revision: str) -> dict[str, dict[str, Any]]:
    """The files and folders of a revision as listings show them."""
    files, listed = repo.files(revision), dict[str, dict[str, Any]]()
    for path, file in files.items():
        for folder in [path[: slash.start()] for slash in re.finditer("/", path)]:
            inside = "".join(f.oid for p, f in files.items() if p.startswith(folder + "/"))
            oid = hashlib.sha1(inside.encode()).hexdigest()
            listed[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        listed[path] = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
        if file.lfs:
            listed[path]["lfs"] = {"oid": file.sha256, **file.sizes}
            listed[path] |= {"xetHash": xet} if (xet := call.store.xet_hash(file.sha256)) else {}
    return listed


@route("GET", REPO + "/refs")
def refs(call: Call, kind: str, repo_id: str) -> Reply:
    groups: dict[str, list[dict[str, str]]] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
    names = {"heads": "branches", "tags": "tags", "pr": "pullRequests"}
    for ref, commit in call.repo(kind, repo_id).refs.items():
        _, group, name = ref.split("/", 2)
        groups[names[group]].append({"name": ref if group == "pr" else name, "ref": ref, "targetCommit": commit})
    return as_json(groups)


@route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Reply:
    user, (_, writes) = call.login(), call.user()
    token = {"displayName": "token", "role": "write" if writes else "read"}
    orgs = [{"type": "org", "name": org} for org in call.site.orgs if call.member(org)]
    auth = {"type": "access_token", "accessToken": token}
    return as_json({"type": "user", "name": user, "fullname": user, "orgs": orgs, "auth": auth})
