"""Put files into a repo of the Hugging Face Hub: in one commit, none if nothing changed, and nobody's edits are lost.

Every attempt looks at what the repo has now, so a second one, after a failure or a kill, does what is still to be done.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files, hub
from stzoo.cards import CARD, MARK_TEXT, is_ours

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

log = logging.getLogger("stzoo")

EVALUATION = ".eval_results/stzoo.yaml"
_REPLACED = re.compile(rf"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|{re.escape(EVALUATION)}")
"""Files of an earlier publication that go when a new one does not have them."""
_SHARED = {"README.md", ".gitattributes"}
"""Files that a repo may have before anything was published."""


@dataclass(frozen=True)
class Destination(hub.Wanted):
    """A branch of a repo, or a pull request, that this account may write to as far as that is known beforehand."""

    private: bool = False
    create_pr: bool = False
    tag: str | None = None
    user: str = ""
    hardware: str | None = None
    """What a Space that is made is to run on."""

    def __str__(self) -> str:
        return f"publishing to {self.repo_id}"

    @property
    def connect(self) -> str:
        return "Connect and publish again: what has been uploaded is kept"

    def page(self, commit: str) -> str:
        """The address of a commit."""
        return f"{self.home}/commit/{commit}"


@dataclass(frozen=True)
class Uploaded:
    """What became of files that were to be uploaded."""

    commit: str
    revision: str
    """The branch, or the ref of the pull request."""
    pull_request: str | None
    """Its address."""
    changed: bool
    """Whether a commit was made."""
    kept: frozenset[str]
    """Files of the repo that others edited and that were left as they are."""


def destination(
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    repo_type: str = "model",
    hardware: str | None = None,
) -> Destination:
    """Check what can be checked before there is anything to upload.

    Raises:
        ConfigError: the options exclude each other.
        RepoNotFound: the id is malformed.
        AuthenticationFailed: there is no token, it is refused, or may not write there.
        HubOffline, HubUnavailable, RateLimited: the Hub cannot be asked.
    """
    from huggingface_hub import HfApi, constants, get_token

    if create_pr and (revision or tag):
        what = "revision" if revision else "tag"
        raise errors.ConfigError(
            f"create_pr and {what}={revision or tag!r} exclude each other",
            f"A pull request goes to main: leave out {what}",
        )
    if repo_id.count("/") != 1:
        raise errors.RepoNotFound(
            f"{repo_id!r} is not the id of a Hub repo to publish to", "An id looks like owner/name"
        )
    wanted = Destination(
        repo_id,
        CARD,
        revision or "main",
        repo_type=repo_type,
        private=private,
        create_pr=create_pr,
        tag=tag,
        hardware=hardware,
    )
    login = f"Make one that may write at {constants.ENDPOINT}/settings/tokens, then set HF_TOKEN or run: hf auth login"
    if constants.is_offline_mode():
        raise errors.HubOffline(f"{wanted}: offline mode forbids asking the Hub", "Unset HF_HUB_OFFLINE")
    if not get_token():
        raise errors.AuthenticationFailed(f"{wanted}: there is no token", login)
    account: dict[str, Any] = hub.retrying(lambda: HfApi().whoami(), wanted)
    owner, user = repo_id.split("/")[0], str(account["name"])
    if not create_pr:
        if owner not in (user, *(item["name"] for item in account.get("orgs", ()))):
            raise errors.AuthenticationFailed(
                f"{wanted}: {user} does not belong to {owner}",
                f"Publish to {user}/..., propose it with create_pr, or, for another account, set HF_TOKEN",
            )
        if account.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise errors.AuthenticationFailed(f"{wanted}: the token of {user} may only read", login)
    return replace(wanted, user=user)


def upload(paths: Mapping[str, Path], to: Destination, message: str) -> Uploaded:
    """Make ``to`` have these files, given by their names in the repo; makes the repo and the branch if there are none.

    Weights that an earlier publication left and that are not among them go; files that others added stay, and so does a
    card that others edited. An open pull request of this account with these files is found again.

    Raises:
        HubError: of its kinds; the repo is public and is to be private, holds what stzoo did not write, its tag is on
            another commit, or a quota does not allow it.
    """
    committed: list[str] = []  # what the Hub may have done although its answer was lost

    def attempt() -> Uploaded:
        from huggingface_hub import HfApi

        api = HfApi()
        _make_repo(api, to)
        branch, head, tagged = _heads(api, to)
        changes, kept = _changes(api, to, paths, head)
        if tagged and (changes or tagged != head):
            raise errors.HubError(
                f"the tag {to.tag!r} of {to.repo_id} is on commit {tagged[:8]} and is not moved",
                "Take another tag, or delete that one on the Hub",
            )
        wanted = {name: path for name, path in paths.items() if name not in kept}
        if changes and to.create_pr and (number := _proposed(api, to, wanted)):
            ref = f"refs/pr/{number}"
            commit = api.repo_info(to.repo_id, revision=ref, repo_type=to.repo_type).sha
            page = f"{to.page('').removesuffix('commit/')}discussions/{number}"
            return Uploaded(str(commit), ref, page, bool(committed), kept)
        url: str | None = None
        if changes:
            committed.append(head)
            try:
                done = api.create_commit(
                    to.repo_id,
                    changes,
                    commit_message=message,
                    repo_type=to.repo_type,
                    revision=branch,
                    create_pr=to.create_pr,
                    parent_commit=None if to.create_pr else head,
                )
            except ValueError as problem:
                if isinstance(problem, OSError):  # the client's own answers
                    raise
                raise errors.HubError(f"{to}: {' '.join(str(problem).split())}", "Correct README.md") from problem
            head, url, branch = done.oid, done.pr_url, done.pr_revision or branch
        if to.tag and not tagged:
            api.create_tag(to.repo_id, tag=to.tag, revision=head, repo_type=to.repo_type, exist_ok=True)
        return Uploaded(head, branch, url, bool(committed), kept)

    return hub.retrying(attempt, to)


def _make_repo(api: HfApi, to: Destination) -> None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = api.repo_info(to.repo_id, repo_type=to.repo_type)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        api.create_repo(
            to.repo_id,
            private=to.private,
            repo_type=to.repo_type,
            space_sdk="gradio" if to.repo_type == "space" else None,
            space_hardware=to.hardware,  # type: ignore[arg-type]
            exist_ok=True,
        )
        info = api.repo_info(to.repo_id, repo_type=to.repo_type)
    if to.private and not info.private:
        raise errors.HubError(
            f"{to.repo_id} exists and is public", "Make it private in its settings, or take another name"
        )


def _heads(api: HfApi, to: Destination) -> tuple[str, str, str | None]:
    """The branch or ref to commit to, made if there is none; its commit; the commit that has the tag."""
    refs = api.list_repo_refs(to.repo_id, repo_type=to.repo_type)
    branches = {item.name: item.target_commit for item in refs.branches}
    tags = {item.name: item.target_commit for item in refs.tags}
    if to.revision.startswith("refs/"):
        branches[to.revision] = str(api.repo_info(to.repo_id, revision=to.revision, repo_type=to.repo_type).sha)
    if to.revision not in branches:
        if to.revision in tags or re.fullmatch("[0-9a-f]{40}", to.revision):
            raise errors.RevisionNotFound(
                f"{to.revision} of {to.repo_id} is no branch, so nothing can be added to it", "Give a branch"
            )
        api.create_branch(to.repo_id, branch=to.revision, repo_type=to.repo_type, exist_ok=True)
    return to.revision, branches.get(to.revision, branches["main"]), tags.get(to.tag or "")


def _tree(api: HfApi, to: Destination, revision: str) -> dict[str, str]:
    """The files of a revision: sha256 of those in LFS, git's blob id of the others."""
    from huggingface_hub import RepoFile

    found = api.list_repo_tree(to.repo_id, recursive=True, revision=revision, repo_type=to.repo_type)
    return {item.path: item.lfs.sha256 if item.lfs else item.blob_id for item in found if isinstance(item, RepoFile)}


def _differing(present: Mapping[str, str], paths: Mapping[str, Path]) -> list[str]:
    return [
        name
        for name, path in paths.items()
        if name not in present or hub.digest_like(path, present[name]) != present[name]
    ]


def _changes(
    api: HfApi, to: Destination, paths: Mapping[str, Path], head: str
) -> tuple[list[CommitOperationAdd | CommitOperationDelete], frozenset[str]]:
    """What has to be done to the files at commit ``head``, and what is kept although it differs."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    present = _tree(api, to, head)
    changed = _differing(present, paths)
    replaced = [name for name in present if name not in paths and _REPLACED.fullmatch(name)]
    foreign = {name for name in {*changed, *replaced} & present.keys() if name not in _SHARED}
    if foreign and not _is_stzoo(to, head, present):
        if not to.create_pr:
            raise errors.HubError(
                f"the name {to.repo_id} is taken: it has {', '.join(sorted(foreign))}, which stzoo did not write",
                "Publish under another name, or propose it with create_pr",
            )
        replaced = []
    kept = frozenset[str]()
    if CARD in changed and CARD in present:
        theirs = _fetch(to, CARD, head).read_text(errors="replace")
        if not is_ours(theirs):
            kept = frozenset({CARD})
            log.warning(
                "%s of %s was edited there and is kept; to replace it, delete it on the Hub and publish again",
                CARD,
                to.repo_id,
            )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(name, paths[name]) for name in changed if name not in kept
    ]
    return operations + [CommitOperationDelete(name) for name in replaced], kept


def _is_stzoo(to: Destination, head: str, present: Mapping[str, str]) -> bool:
    if to.repo_type == "space":
        return "app.py" in present and MARK_TEXT in _fetch(to, "app.py", head).read_text(errors="replace")
    if "config.json" not in present:
        return False
    try:
        return "stzoo" in json.loads(_fetch(to, "config.json", head).read_text())
    except (ValueError, TypeError):
        return False


def _fetch(to: Destination, name: str, commit: str) -> Path:
    return hub.fetch(to.repo_id, name, revision=commit, repo_type=to.repo_type).path


def _proposed(api: HfApi, to: Destination, paths: Mapping[str, Path]) -> int | None:
    """The number of an open pull request of this account that has these files."""
    for item in api.get_repo_discussions(
        to.repo_id, author=to.user, discussion_type="pull_request", repo_type=to.repo_type
    ):
        mine = item.is_pull_request and item.author == to.user and item.status in ("open", "draft")
        if mine and not _differing(_tree(api, to, f"refs/pr/{item.num}"), paths):
            return item.num
    return None


def check_uploaded(paths: Mapping[str, Path], to: Destination, done: Uploaded, cache: Path) -> Path:
    """Download what was uploaded into an empty cache and compare every byte; returns the folder it is in.

    Raises WeightsCorrupted saying which file differs, or what :func:`stzoo.hub.fetch` raises.
    """
    folder, at = Path(), done.revision if done.pull_request else done.commit
    for name in sorted(paths.keys() - done.kept):
        expected = files.sha256_of(paths[name])
        try:
            found = hub.fetch(
                to.repo_id, name, revision=at, sha256=expected, offline=False, cache=cache, repo_type=to.repo_type
            )
        except errors.WeightsCorrupted as problem:
            raise errors.WeightsCorrupted(
                f"{to.page(done.commit)} is not what was published: {problem.problem}", "Publish again"
            ) from problem
        folder = cache / found.path.relative_to(cache).parts[0] / "snapshots" / found.commit
        if found.commit != done.commit:
            raise errors.HubError(
                f"{to.repo_id} changed while it was published: {at} is at {found.commit[:8]}, not {done.commit[:8]}",
                "See its history, then publish again",
            )
    return folder
