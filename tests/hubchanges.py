"""The HTTP interface of the Hub, second part: repos that are made and changed, pull requests, Spaces."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Any

import yaml
from hubapi import PAGE, REPO, Call, Refused, Reply, as_json, route, runtime
from hubstore import GITATTRIBUTES, HEAD, File, Repo, UnknownRevision, front_matter, now

# Changing repos


@route("POST", "/api/repos/create")
def create(call: Call) -> Reply:
    asked, user = call.json, call.login()
    kind, namespace = asked.get("type") or "model", asked.get("organization") or user
    repo_id = f"{namespace}/{asked['name']}"
    call.may_write(namespace)
    if repo := call.store.repos.get((kind, repo_id)):
        error = f"You already created this {kind} repo"
        return as_json({"error": error, "url": call.url(repo)}, 409, {"X-Error-Message": error})
    if kind == "space" and not asked.get("sdk"):
        raise Refused(400, "sdk is required for a Space")
    space = {key: asked[key] for key in ("sdk", "hardware") if asked.get(key)}
    private = asked.get("visibility") == "private"
    repo = call.store.create(kind, repo_id, private=private, space=space, files={".gitattributes": GITATTRIBUTES})
    return as_json({"url": call.url(repo), "name": repo_id, "private": private})


@route("POST", "/api/validate-yaml")
def validate_yaml(call: Call) -> Reply:
    try:
        metadata = yaml.safe_load(front_matter(call.json["content"]))
    except yaml.YAMLError as error:
        return as_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    missing = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
    return as_json({"errors": [], "warnings": missing})


@route("POST", REPO + r"/preupload/([^/]+)")
def preupload(call: Call, kind: str, repo_id: str, revision: str) -> Reply:
    repo, asked = call.repo(kind, repo_id), call.json
    call.login()
    present = repo.files(revision)
    ignored = call.store.read(present[".gitignore"]).decode() if ".gitignore" in present else ""
    patterns = [line.strip("/ ") for line in asked.get("gitIgnore", ignored).splitlines() if not line.startswith("#")]
    files = []
    for file in asked["files"]:
        path, sample = file["path"], base64.b64decode(file["sample"])
        lfs = call.store.wants_lfs(repo, revision, path, file["size"], sample)
        parts = [path, *path.split("/")]
        info = {"path": path, "uploadMode": "lfs" if lfs else "regular"}
        info["shouldIgnore"] = any(fnmatch(part, pattern) for pattern in patterns for part in parts)
        files.append(info | ({"oid": present[path].etag} if path in present else {}))
    return as_json({"files": files, "commitOid": repo.resolve(revision)})


@route("POST", PAGE + r"\.git/info/lfs/objects/(batch|verify)")
def lfs(call: Call, kind: str | None, repo_id: str, action: str) -> Reply:
    repo, asked = call.repo(kind, repo_id), call.json
    call.login()
    if action == "verify":
        if not call.store.has(asked["oid"]) or call.store.blob(asked["oid"]).stat().st_size != asked["size"]:
            raise Refused(404, "The object was not uploaded, or not whole")
        return as_json({})
    objects = []
    for wanted in asked["objects"]:
        put = {"href": f"{call.site.cdn}/{wanted['oid']}/object"}
        actions = {"upload": put, "verify": {"href": f"{call.url(repo)}.git/info/lfs/objects/verify"}}
        objects.append(wanted if call.store.has(wanted["oid"]) else wanted | {"actions": actions})
    return as_json({"transfer": "basic", "objects": objects})


@route("POST", REPO + r"/commit/([^/]+)")
def commit(call: Call, kind: str, repo_id: str, revision: str) -> Reply:
    proposed = "create_pr" in call.query or revision.startswith("refs/pr/")  # open to all who may read
    repo, author = call.repo(kind, repo_id, "read" if proposed else "write"), call.login()
    ref = revision if revision in repo.refs else HEAD + revision
    if ref not in repo.refs:
        raise UnknownRevision(revision)
    lines = [json.loads(line) for line in call.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", repo.refs[ref]) != repo.refs[ref]:
        raise Refused(412, "A commit has happened since. Please refresh and try again.")
    changes = dict(changed(call, repo.commits[repo.refs[ref]].files, lines))
    url = None
    if "create_pr" in call.query:
        pull = propose(repo, header["summary"], author, ref)
        ref, url = f"refs/pr/{pull['num']}", f"{call.url(repo)}/discussions/{pull['num']}"
    about = {"title": header["summary"], "message": header.get("description", ""), "author": author}
    oid = call.store.commit(repo, ref, changes, **about)
    done = {"success": True, "commitOid": oid, "commitUrl": f"{call.url(repo)}/commit/{oid}", "hookOutput": ""}
    return as_json(done | ({"pullRequestUrl": url} if url else {}))


def changed(call: Call, files: Iterable[str], lines: list[dict[str, Any]]) -> Iterable[tuple[str, File | None]]:
    for line in lines:
        key, value = line["key"], line["value"]
        if key == "file":
            content = value["content"]
            data = base64.b64decode(content) if value.get("encoding") == "base64" else content.encode()
            yield value["path"], call.store.add(data, lfs=False)
        if key == "lfsFile":
            if not call.store.has(oid := value["oid"]):
                raise Refused(400, f"LFS pointer of {value['path']} points to a file that was not uploaded")
            yield value["path"], File.in_lfs(oid, value.get("size") or call.store.blob(oid).stat().st_size)
        if key in ("deletedFile", "deletedFolder"):
            folder = value["path"].rstrip("/") + "/"
            found = [path for path in files if path == value["path"] or path.startswith(folder)]
            if not found:
                raise Refused(404, f"{value['path']} is not in the repo", "EntryNotFound")
            yield from ((path, None) for path in found)


@route("POST|DELETE", REPO + r"/(branch|tag)/([^/]+)")
def branch_or_tag(call: Call, kind: str, repo_id: str, what: str, name: str) -> Reply:
    repo, prefix = call.repo(kind, repo_id, "write"), HEAD if what == "branch" else "refs/tags/"
    if call.method == "DELETE":
        if repo.refs.pop(prefix + name, None) is None:
            raise UnknownRevision(name)
    else:
        start = call.json.get("startingPoint", "main") if what == "branch" else name
        name = name if what == "branch" else call.json["tag"]
        if prefix + name in repo.refs:
            raise Refused(409, f"Reference already exists: {prefix}{name}")
        repo.refs[prefix + name] = repo.resolve(start)
    call.store.save(repo)
    return as_json({})


# Pull requests


def propose(repo: Repo, title: str, author: str, base: str) -> dict[str, Any]:
    """Open a pull request whose ref starts where `base` is."""
    num = len(repo.discussions) + 1
    about = {"num": num, "title": title, "status": "open", "author": {"name": author}, "createdAt": now()}
    repo.discussions.append(about | {"repo": {"name": repo.id, "type": repo.type}, "isPullRequest": True})
    repo.refs[f"refs/pr/{num}"] = repo.refs[base]
    return repo.discussions[-1]


@route("GET", REPO + "/discussions")
def discussions(call: Call, kind: str, repo_id: str) -> Reply:
    repo, start = call.repo(kind, repo_id), int(call.query.get("p", ["0"])[0]) * call.site.page_size
    page = repo.discussions[start : start + call.site.page_size]
    return as_json({"count": len(repo.discussions), "start": start, "discussions": page})


# Spaces


@route("GET", "/api/(space)s/([^/]+/[^/]+)/runtime")
def run_space(call: Call, kind: str, repo_id: str) -> Reply:
    return as_json(runtime(call.repo(kind, repo_id)))


@route("POST", "/api/(space)s/([^/]+/[^/]+)/hardware")
def hardware(call: Call, kind: str, repo_id: str) -> Reply:
    repo = call.repo(kind, repo_id, "write")
    repo.space["hardware"] = call.json["flavor"]
    call.store.save(repo)
    return as_json(runtime(repo))
