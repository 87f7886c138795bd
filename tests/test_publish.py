"""Publishing against a local Hub, over HTTP: what arrives, what is left alone, what fails and how it goes on."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hubserver import HubServer
from people import Person, Refused
from runs import RECORD, make_evaluation, make_run

import stzoo
from stzoo import cards, errors
from stzoo.publishing import Source
from stzoo.registry import catalogue
from stzoo.upload import EVALUATION


@pytest.fixture(scope="module")
def person(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    process = Person(server, tmp_path_factory.mktemp("home"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def repo_id(request: pytest.FixtureRequest) -> str:
    return "alice/" + re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_")).strip("-")


def front_matter(card: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return data


# --- the whole way ----------------------------------------------------------------------------------------------------

LOAD = """
p = stzoo.load("alice/tiny", **options)
answer = [p.report.source, p.report.revision, total(p), stzoo.verify("alice/tiny").ok]
"""
AGAIN = """
p = stzoo.load("alice/tiny")
with torch.no_grad():
    p.module.dec.readout.bias.add_(1)
p.publish("alice/tiny")
answer = [total(stzoo.load("alice/tiny", lock=lock)), total(stzoo.load("alice/tiny"))]
"""


def test_publish_load_and_pin(tmp_path: Path) -> None:
    """The README's section, through the Hub's chunked storage: publish, load elsewhere by repo id, pin it with a lock."""
    with HubServer(tmp_path / "hub", xet=tmp_path / "xet") as hub:
        author = Person(hub, tmp_path / "author")
        publish = "p = stzoo.create('tau', **tiny); url = str(p.publish('alice/tiny', license='mit'))"
        url, expected = author(f"{publish}; answer = [url, total(p)]")
        author.close()  # a Xet store in a folder is open in one process at a time
        assert "alice/tiny/commit/" in url
        assert hub.seen("/cdn/", "PUT") == []
        reader, lock = Person(hub, tmp_path / "reader"), tmp_path / "stzoo.lock"
        source, revision, loaded, verified = reader(LOAD, "", options={})
        assert (source, loaded, verified) == ("hub", expected, True)
        assert revision in url
        assert reader("answer = str(stzoo.lock(['alice/tiny'], lock))", "", lock=lock) == str(lock)
        again = reader(LOAD, "", options={"revision": revision, "offline": True})
        assert again == ["hub cache", revision, expected, True]
        pinned, newest = reader(AGAIN, lock=lock)
        reader.close()
        assert pinned == expected
        assert newest != expected


def test_a_run_is_published_in_one_commit(hub: HubServer, person: Person, run: Path, repo_id: str) -> None:
    done = person.publish(run, repo_id, private=True)
    repo = hub.repo(repo_id)
    assert repo.private
    assert len(repo.commits) == 2, "the first one made the repo"
    assert (done["commit"], done["revision"]) == (repo.resolve("main"), "main")
    assert (done["changed"], done["verified"]) == (True, True)
    names = {"config.json", "model.safetensors", "README.md", "prediction.png"}
    assert repo.files("main").keys() - {".gitattributes"} == names
    assert hub.seen("/resolve/.*model.safetensors", "HEAD"), "it was downloaded again"
    assert hub.read(repo_id, "model.safetensors") == (run / "best" / "model.safetensors").read_bytes()
    assert hub.read(repo_id, "prediction.png") == (run / "pictures" / "step-000001000.png").read_bytes(), (
        "of the best step"
    )

    card, config = hub.read(repo_id, "README.md").decode(), hub.read(repo_id, "config.json").decode()
    assert not any(place in card + config for place in ("/home", "somebody", "../", str(run.parent)))
    evaluation = make_evaluation(run)
    for cell in evaluation.cells(evaluation.models[0])[:1]:
        assert f"| **{cell.split()[0]}** {cell.split(' ', 1)[1]} |" in card, "the numbers that evaluate prints"
    results = front_matter(card)["model-index"][0]["results"]
    assert [(item["dataset"]["type"], item["metrics"][0]["value"]) for item in results] == [("rain", 11.875)]
    entry = json.loads(config)["stzoo"]
    assert (entry["license"], entry["base_model"], entry["trained_on"]) == ("apache-2.0", "stzoo/tau-mmnist", "rain")
    assert entry["name"] == repo_id.split("/")[1]

    loaded = person("p = stzoo.load(repo); answer = [total(p), stzoo.verify(repo).ok]", repo=repo_id)
    assert loaded == person("answer = [total(stzoo.load(folder)), True]", folder=run / "best")


def test_publishing_again_makes_no_commit(hub: HubServer, person: Person, run: Path, repo_id: str) -> None:
    first = person.publish(run, repo_id, tag="v1")
    hub.requests.clear()
    again = person.publish(run, repo_id, tag="v1")
    assert again == first | {"changed": False, "verified": False}
    assert len(hub.repo(repo_id).commits) == 2
    assert hub.seen("/commit/|/preupload/|/lfs/", "POST") == []


def test_branch_tag_and_revisions(hub: HubServer, person: Person, tmp_path: Path, repo_id: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "evaluation.json").write_text(make_evaluation(run, "alice/rain").to_json())
    person.publish(run, repo_id, tag="v1")
    initial = hub.repo(repo_id).resolve("main")
    assert b"alice/rain" in hub.read(repo_id, EVALUATION)
    make = "p = stzoo.load(folder); p.module.dec.readout.bias.data.add_(1); p.save(folder); answer = total(p)"
    changed = person(make, folder=run / "best")
    done = person.publish(run, repo_id, revision="wider/net", tag="v2")
    assert done["revision"] == "wider/net"
    assert EVALUATION not in hub.repo(repo_id).files("wider/net"), "it was about other weights"
    assert hub.repo(repo_id).resolve("main") == initial
    load = "answer = total(stzoo.load(repo, revision=revision))"
    for revision in ("wider/net", "v2", done["commit"], "refs/heads/wider/net"):
        assert person(load, repo=repo_id, revision=revision) == changed, revision
        assert person("answer = stzoo.verify(repo, revision=revision).ok", repo=repo_id, revision=revision)
    assert person(load, repo=repo_id, revision="v1") != changed
    with pytest.raises(Refused, match=r"the tag 'v1' of .* is on commit .* and is not moved"):
        person.publish(run, repo_id, tag="v1")
    assert hub.repo(repo_id).resolve("main") == initial, "nothing was committed"


def test_a_pull_request_is_opened_once(hub: HubServer, person: Person, run: Path, repo_id: str) -> None:
    theirs = {"README.md": b"# Mine\n", "config.json": b"{}", "model-1-of-1.safetensors": b"theirs"}
    hub.put(repo_id, theirs)
    hub.fault("drop", "/commit/", "POST", after=0)  # the Hub does it, the answer is lost
    done = person.publish(run, repo_id, "hf_bob", create_pr=True)
    assert hub.faults == []
    assert (done["revision"], done["changed"], done["verified"]) == ("refs/pr/1", True, True)
    assert done["pull_request"].endswith(f"{repo_id}/discussions/1")
    assert set(hub.repo(repo_id).files("main")) == theirs.keys()
    proposed = set(hub.repo(repo_id).files("refs/pr/1"))
    assert proposed == {*theirs, "model.safetensors", "prediction.png"}, "nothing of theirs goes"
    assert hub.read(repo_id, "README.md", revision="refs/pr/1") == theirs["README.md"]
    again = person.publish(run, repo_id, "hf_bob", create_pr=True)
    assert again == done | {"changed": False, "verified": False}
    assert len(hub.repo(repo_id).discussions) == 1
    load = "answer = total(stzoo.load(repo, revision=revision))"
    assert person(load, repo=repo_id, revision="refs/pr/1") == person(
        load.replace("repo", "folder", 1).replace(", revision=revision", ""), folder=run / "best"
    )


# --- what others did in the repo --------------------------------------------------------------------------------------


def test_an_edited_card_is_kept(hub: HubServer, person: Person, tmp_path: Path, repo_id: str) -> None:
    run = make_run(tmp_path / "run")
    hub.put(repo_id, {"README.md": b"---\nlicense: mit\n---\n"})
    assert person.publish(run, repo_id)["kept"] == []
    ours = hub.read(repo_id, "README.md")
    assert cards.MARK.encode() in ours, "a README without a text is replaced"
    edited = ours.replace(cards.MARK.encode() + b"\n", b"") + b"My own words.\n"
    hub.put(repo_id, {"README.md": edited, "notes.txt": b"mine"})
    (run / "run.json").write_text(json.dumps(RECORD | {"seconds": 60.0}))
    done = person.publish(run, repo_id)
    assert "README.md of alice/an-edited-card-is-kept was edited there and is kept" in person.log
    assert (done["kept"], done["changed"]) == (["README.md"], False), "nothing but the card would have changed"
    assert hub.read(repo_id, "README.md") == edited
    assert hub.read(repo_id, "notes.txt") == b"mine"


def test_a_card_of_ones_own_is_published(hub: HubServer, person: Person, tmp_path: Path, repo_id: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "best" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# By hand\n")
    person.publish(run, repo_id)
    assert hub.read(repo_id, "README.md") == (run / "best" / "README.md").read_bytes()


def test_shards_are_published_loaded_and_replaced(
    hub: HubServer, person: Person, run: Path, repo_id: str, tmp_path: Path
) -> None:
    person.publish(run, repo_id, max_shard_size="18KB")
    names = set(hub.repo(repo_id).files("main"))
    shards = {name for name in names if name.endswith(".safetensors")}
    assert len(shards) >= 3
    assert "model.safetensors.index.json" in names
    assert "model.safetensors" not in names
    code = "p = stzoo.load(repo); answer = [total(p), stzoo.verify(repo).checks, p.report.path]"
    total, checks, path = person(code, repo=repo_id)
    assert total == person("answer = total(stzoo.load(folder))", folder=run / "best")
    assert set(checks.values()) == {"ok"}
    assert "11.875" in hub.read(repo_id, "README.md").decode(), "they are the weights that were measured"

    whole, smaller = Path(path).parent, tmp_path / "smaller"
    Source.open(whole).stage(smaller, "x", "me/x", "mit", 9_000)
    assert len(list(smaller.glob("*.safetensors"))) > len(shards), "shards that are too large are split anew"
    assert stzoo.verify(smaller).ok

    shard = whole / sorted(shards)[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.resolve().write_bytes(content)
    with pytest.raises(Refused, match=f"WeightsCorrupted.*{shard.name} has sha256"):
        person("stzoo.load(repo, offline=True)", repo=whole)

    hub.put(repo_id, {"model-extra.safetensors": b"of somebody else"})
    person.publish(run, repo_id)
    left = {name for name in hub.repo(repo_id).files("main") if "safetensors" in name}
    assert left == {"model.safetensors", "model-extra.safetensors"}


def test_a_repo_of_another_library_is_no_model(hub: HubServer, person: Person, repo_id: str) -> None:
    hub.put(repo_id, {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"0"})
    with pytest.raises(Refused, match=f"ConfigError.*{repo_id}: config.json describes no stzoo model.*stzoo import"):
        person("stzoo.load(repo)", repo=repo_id)


# --- failures that pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "method", "options"),
    [
        ("reset", "/cdn/", "PUT", {}),
        ("status", "/cdn/", "PUT", {"status": 503}),
        ("status", "/commit/", "POST", {"status": 503}),
        ("drop", "/commit/", "POST", {"after": 0}),
        ("status", "/repos/create", "POST", {"status": 500}),
        ("status", "/refs", "GET", {"status": 429, "retry_after": 0}),
        ("drop", "/tag/", "POST", {"after": 0}),
        ("status", "/commit/", "POST", {"status": 412}),
    ],
)
def test_failures_that_pass(
    hub: HubServer, person: Person, tmp_path: Path, repo_id: str, kind: Any, path: str, method: str, options: Any
) -> None:
    run = make_run(tmp_path / "run", seed=random.getrandbits(32))  # weights that the Hub has not seen
    fault = hub.fault(kind, path, method, **options)
    done = person.publish(run, repo_id, tag="v1")
    assert fault.fired == 1
    assert (done["changed"], done["verified"]) == (True, True)
    assert len(hub.repo(repo_id).commits) == 2, "one commit"
    assert hub.repo(repo_id).refs["refs/tags/v1"] == done["commit"]


def test_a_second_try_completes_after_a_kill(hub: HubServer, person: Person, tmp_path: Path, repo_id: str) -> None:
    run = make_run(tmp_path / "run", seed=1)
    victim = Person(hub, tmp_path / "home")
    hub.fault("hang", "/commit/", "POST")
    victim.start("stzoo.publish(source, repo)", source=run, repo=repo_id)
    while hub.faults:
        assert victim.process.poll() is None
        time.sleep(0.01)
    victim.close()
    assert len(hub.repo(repo_id).commits) == 1
    sent = len(hub.seen("/cdn/", "PUT"))
    assert sent
    done = person.publish(run, repo_id)
    assert (done["changed"], done["verified"], len(hub.repo(repo_id).commits)) == (True, True, 2)
    assert len(hub.seen("/cdn/", "PUT")) == sent, "what had been uploaded was not sent again"


def test_what_arrives_damaged_is_reported(hub: HubServer, person: Person, run: Path, repo_id: str) -> None:
    hub.fault("flip", "/cdn/.*safetensors", "GET", times=None)
    with pytest.raises(Refused, match=r"WeightsCorrupted.* is not what was published.*model.safetensors.* wrong bytes"):
        person.publish(run, repo_id)


# --- refusals ---------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "no token": ("alice/x", {"token": ""}, "AuthenticationFailed", "there is no token. Make one .*, then set HF_TOKEN"),
    "wrong token": ("alice/x", {"token": "hf_wrong"}, "AuthenticationFailed", "the Hub refused the token"),
    "read token": ("alice/x", {"token": "hf_alice_read"}, "AuthenticationFailed", "the token of alice may only read"),
    "not a member": ("alice/x", {"token": "hf_bob"}, "AuthenticationFailed", "bob does not belong to alice"),
    "size of shards": (
        "alice/x",
        {"max_shard_size": "lots"},
        "ConfigError",
        "max_shard_size='lots' is not a size in bytes. Write it as 5GB or 200MB",
    ),
    "no owner": ("x", {}, "RepoNotFound", "'x' is not the id of a Hub repo to publish to. An id looks like owner/name"),
    "malformed": ("alice/..", {}, "RepoNotFound", "'alice/..' is not the id of a Hub repo"),
    "malformed for the Hub": ("alice/x--y", {}, "RepoNotFound", "cannot be the id of a Hub repo"),
    "pull request and branch": ("alice/x", {"create_pr": True, "revision": "b"}, "ConfigError", "exclude each other"),
    "pull request and tag": ("alice/x", {"create_pr": True, "tag": "v1"}, "ConfigError", "leave out tag"),
    "public": ("alice/public", {"private": True}, "HubError", "alice/public exists and is public"),
    "taken": ("alice/taken", {}, "HubError", "the name alice/taken is taken: it has config.json, model.safetensors"),
    "a tag is no branch": ("alice/public", {"revision": "v1"}, "RevisionNotFound", "v1 of alice/public is no branch"),
    "licence conflict": ("alice/x", {"source": "nc", "license": "mit"}, "LicenseError", "forbids commercial use"),
    "no licence": ("alice/x", {"source": "bare"}, "LicenseError", "under which licence .* --license"),
    "no model": ("alice/x", {"source": "empty"}, "InputError", "holds no model"),
    "no weights yet": ("alice/x", {"source": "young"}, "InputError", "has no weights yet"),
    "damaged weights": (
        "alice/x",
        {"source": "damaged"},
        "WeightsError",
        "damaged/best is not published: .* has sha256",
    ),
    "missing weights": ("alice/x", {"source": "hollow"}, "WeightsUnavailable", "best/model.safetensors is missing"),
    "damaged record": ("alice/x", {"source": "torn"}, "ConfigError", "run.json is damaged"),
    "damaged evaluation": ("alice/x", {"source": "mismeasured"}, "ConfigError", "is not an evaluation"),
    "storage full": (
        "alice/x",
        {"fault": ("/lfs/objects/batch", 413)},
        "HubError",
        "the storage quota does not allow it",
    ),
    "not paid": ("alice/x", {"fault": ("/commit/", 402)}, "HubError", "the storage quota does not allow it"),
    "no room": (
        "alice/x",
        {"source": "fresh", "fault": ("/cdn/", 507)},
        "HubError",
        "the storage quota does not allow it",
    ),
    "forbidden": ("alice/never", {"fault": ("/repos/create", 403)}, "AuthenticationFailed", "status 403"),
    "down": ("alice/x", {"fault": ("/api/", 500)}, "HubUnavailable", "the Hub failed"),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, run: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    places = {
        name: folder / name for name in ("nc", "bare", "empty", "young", "damaged", "hollow", "torn", "mismeasured")
    }
    make_run(places["nc"], license="cc-by-nc-4.0")
    make_run(places["bare"], license=None, base_model=None)
    places["fresh"] = make_run(folder / "fresh", seed=2)
    places["empty"].mkdir()
    places["young"].mkdir()
    (places["young"] / "run.json").write_text("{}")
    for name in ("damaged", "hollow", "torn", "mismeasured"):
        make_run(places[name])
    (places["hollow"] / "best" / "model.safetensors").unlink()
    weights = places["damaged"] / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    (places["torn"] / "run.json").write_text('{"format')
    (places["mismeasured"] / "evaluation.json").write_text("{}")
    return places | {"run": run}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(hub: HubServer, person: Person, sources: dict[str, Path], case: str) -> None:
    repo_id, asked, kind, text = REFUSALS[case]
    options = dict(asked)
    if ("model", "alice/public") not in hub.store.repos:
        hub.put("alice/public", {"README.md": b""})
        hub.repo("alice/public").refs["refs/tags/v1"] = hub.repo("alice/public").resolve("main")
        hub.put("alice/taken", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"0"})
    for path, status in [options.pop("fault")] if "fault" in options else []:
        hub.fault("status", path, "POST|PUT|GET", times=None, status=status)
    before = {key: len(repo.commits) for key, repo in hub.store.repos.items()}
    source, token = sources[options.pop("source", "run")], options.pop("token", "hf_alice")
    with pytest.raises(Refused) as refused:
        person.publish(source, repo_id, token, **options)
    assert refused.value.args[0] == kind
    assert re.search(text, refused.value.args[1]), refused.value.args[1]
    after = {key: len(repo.commits) for key, repo in hub.store.repos.items() if key in before}
    assert after == before, "nothing was committed"


def test_offline_and_a_full_disk(hub: HubServer, person: Person, run: Path) -> None:
    code = """
from unittest.mock import patch
from huggingface_hub import constants
with {}:
    stzoo.publish(source, "alice/x")
"""
    full = "patch.object(publishing.files, 'write_atomically', side_effect=OSError(28, 'No space left on device'))"
    with pytest.raises(Refused, match=r"DiskFull.*no space left for a copy in .*TMPDIR"):
        person(code.format(full), source=run)
    with pytest.raises(Refused, match="HubOffline.*offline mode forbids"):
        person(code.format("patch.object(constants, 'HF_HUB_OFFLINE', True)"), source=run)


LICENCES = [
    ("apache-2.0", "mit", ""),
    ("mit", "cc-by-nc-4.0", ""),
    ("cc-by-4.0", "cc-by-4.0", ""),
    ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", ""),
    ("cc-by-nc-4.0", "apache-2.0", "forbids commercial use"),
    ("research-non-commercial", "mit", "forbids commercial use"),
    ("cc-by-sa-4.0", "mit", "asks for the same licence"),
    ("gpl-3.0", "apache-2.0", "asks for the same licence"),
    ("cc-by-nd-4.0", "mit", "allows no changed works"),
    ("other", "mit", "nobody can judge"),
]


@pytest.mark.parametrize(("base", "wanted", "reason"), LICENCES)
def test_licences(tmp_path: Path, base: str, wanted: str, reason: str) -> None:
    source = Source(tmp_path, {"license": base, "base_model": "me/base"})
    assert source.license(None) == base
    if not reason:
        assert source.license(wanted) == wanted
        return
    with pytest.raises(
        errors.LicenseError, match=f"cannot be published under {wanted}: me/base is licensed {base}.*{reason}"
    ):
        source.license(wanted)


def test_the_licence_of_a_base_model_in_the_zoo_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the run's own files were edited to say."""
    from dataclasses import replace

    from stzoo.registry import Registry

    model = replace(stzoo.info("tau-mmnist"), license="cc-by-nc-4.0")
    monkeypatch.setattr(Registry, "models", lambda self, **_: [model])
    for base in ("tau-mmnist", "stzoo/tau-mmnist"):
        with pytest.raises(errors.LicenseError, match="forbids commercial use"):
            Source(tmp_path, {"license": "mit", "base_model": base}).license(None)


# --- the command, and the zoo -----------------------------------------------------------------------------------------


COMMAND = """
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    code = cli.main(words)
answer = [code, out.getvalue(), err.getvalue()]
"""


def test_the_command(hub: HubServer, person: Person, run: Path, repo_id: str) -> None:
    def stzoo_(*words: object) -> tuple[int, str, str]:
        return tuple(person(COMMAND, words=list(map(str, words))))

    code, out, err = stzoo_("publish", run, repo_id, "--tag", "v1", "--message", "Rain", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["tag"], answer["changed"]) == ("v1", True)
    assert hub.repo(repo_id).commits[answer["commit"]].title == "Rain"
    assert stzoo_("publish", run, repo_id)[1].splitlines() == [
        answer["url"],
        f"{repo_id}: nothing changed, no commit made",
    ]
    code, out, err = stzoo_("publish", run, "nobody/x", "--max-shard-size", "200MB")
    assert (code, out) == (2, "")
    assert err.startswith("stzoo: error: publishing to nobody/x: alice does not belong to nobody.")


def test_the_zoo_is_published(hub: HubServer, person: Person, tmp_path: Path) -> None:
    """Which models is asked of all plugins; one of them is sent, since what is done does not depend on the model."""
    models = [model for model in stzoo.models() if model.plugin in catalogue() and model.weights]
    chosen = """
from unittest.mock import patch
with patch.object(publishing, "_stage_model"), patch.object(publishing, "_send", lambda staged, to, *_: to.repo_id):
    answer = list(publishing.publish_all("stzoo"))
"""
    assert sorted(person(chosen)) == sorted(f"stzoo/{model.name}" for model in models)
    models = [model for model in models if model.plugin == "depth"]
    words = ["publish", "--all", "stzoo", "--plugin", "depth", "--output", str(tmp_path / "commits.json")]
    assert person(COMMAND, words=words)[0] == 0
    commits = json.loads((tmp_path / "commits.json").read_text())
    assert commits == {f"stzoo/{model.name}": hub.repo(f"stzoo/{model.name}").resolve("main") for model in models}
    for model in models:
        repo = f"stzoo/{model.name}"
        assert hashlib.sha256(hub.read(repo, "model.safetensors")).hexdigest() == model.weights.sha256
        card = hub.read(repo, "README.md").decode()
        assert "prediction.png" in card
        assert set(cards.model_card(model).splitlines()) <= set(card.splitlines())
    code, out, _ = person(COMMAND, words=words)
    assert (code, out.count("unchanged")) == (0, len(models))
    assert json.loads((tmp_path / "commits.json").read_text()) == commits
    assert person("answer = stzoo.load(repo).report.source", repo=repo) == "hub"
