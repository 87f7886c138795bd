"""Publish models: what is staged, verified, uploaded in one commit, downloaded again and verified again."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import api, cards, errors, files, upload
from stzoo.lineage import source_text
from stzoo.origins import CONFIG_FILE, FORMAT_VERSION, WEIGHTS_FILE, read_config
from stzoo.predictor import SHARD_SIZE, Predictor
from stzoo.registry import as_plain, catalogue, registry
from stzoo.spec import Model, Weights, forbids_commercial_use

if TYPE_CHECKING:
    from stzoo.results import Evaluation

log = logging.getLogger("stzoo")

_UNDECIDED = ("other", "unknown")


@dataclass(frozen=True)
class Published:
    """What was published; ``str`` is the address of the commit, or of the pull request."""

    url: str
    commit: str
    repo_id: str
    revision: str
    """The branch, or the ref of the pull request: ``stzoo.load(repo_id, revision=...)`` takes it."""
    pull_request: str | None
    tag: str | None
    changed: bool
    """False: the Hub had these very files, so no commit was made."""
    verified: bool
    """Whether the files were downloaded again and passed; what did not change is not downloaded."""
    kept: tuple[str, ...] = ()
    """Files that were edited on the Hub and left as they are."""

    def __str__(self) -> str:
        return self.pull_request or self.url


def publish(
    source: str | os.PathLike[str] | Predictor,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    message: str | None = None,
    license: str | None = None,
    name: str | None = None,
    max_shard_size: int | str = SHARD_SIZE,
) -> Published:
    """Publish a model to the Hugging Face Hub: weights, config, card, picture and recorded results in one commit.

    The copy is verified before anything is sent, and what arrived is downloaded and verified again. Publishing again
    what is there already makes no commit, and after a failure it completes what is missing.

    Args:
        source: a run folder (its best weights), a saved folder, or a Predictor.
        repo_id: ``owner/name``; the repo is made if there is none.
        private: make it private; refused if it exists and is public.
        create_pr: propose the files in a pull request to ``main`` instead of committing them.
        revision: branch to commit to instead of ``main``; made from it if there is none.
        tag: a name for the commit; never moved.
        message: of the commit.
        license: of the weights, where none is known; it may not allow what the licence of the base model forbids.
        name: title of the card; default: the repo's name.
        max_shard_size: what the weights are split into several files above: bytes, or as ``"200MB"``.

    Raises:
        LicenseError: no licence is known, or it conflicts with that of the base model.
        AuthenticationFailed, RepoNotFound, HubError …: as :func:`stzoo.upload.destination` and ``upload`` say.
        InputError: ``source`` is not a model. WeightsError: it does not pass ``verify``.
        DiskFull: no room for the copy.
    """
    largest = files.byte_count(max_shard_size, "max_shard_size")
    to = upload.destination(repo_id, private=private, create_pr=create_pr, revision=revision, tag=tag)
    with _workplace() as work:
        folder = source.save(work / "saved", max_shard_size=largest) if isinstance(source, Predictor) else source
        found = Source.open(Path(folder).expanduser())
        title = name or repo_id.split("/")[1]
        staged = found.stage(work / "staged", title, repo_id, found.license(license), largest)
        return _send(staged, to, message or f"Publish {title} with stzoo", work / "cache")


def publish_all(org: str, *, plugin: str | None = None, private: bool = False) -> Iterator[Published]:
    """Publish the zoo's bundled models, each to ``org/<model>`` with its card; yields what was done with each.

    The bundled file itself is uploaded, so its sha256 is the one in the model's record. ``plugin``: only this plugin's
    models; default: those of all plugins that belong to stzoo.
    """
    models = [item for item in registry().models(plugin=plugin) if plugin or item.plugin in catalogue()]
    account = upload.destination(f"{org}/zoo", private=private)
    for model in models:
        if model.weights and model.weights.bundled:
            to = replace(account, repo_id=f"{org}/{model.name}")
            with _workplace() as work:
                staged = _stage_model(model, model.weights, work / "staged")
                yield _send(staged, to, f"Publish {model.name} with stzoo", work / "cache")


def card(name: str) -> str:
    """The card of a zoo model, a run folder or a saved folder. Raises UnknownModel, or what :func:`stzoo.load` raises."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        found = Source.open(folder)
        return found.card(f"./{found.folder.resolve().relative_to(folder.resolve().parent)}")
    return cards.model_card(registry().get(Model, name))


@contextmanager
def _workplace() -> Iterator[Path]:
    """A temporary folder."""
    with (
        tempfile.TemporaryDirectory(prefix="stzoo-publish-") as folder,
        files.room(
            f"a copy in {folder} of what is to be published",
            "Free some space, or set TMPDIR to a folder on a larger disk",
        ),
    ):
        yield Path(folder)


def _send(staged: Path, to: upload.Destination, message: str, cache: Path) -> Published:
    """Upload the folder, download it again and verify that."""
    paths = {path.relative_to(staged).as_posix(): path for path in sorted(staged.rglob("*")) if path.is_file()}
    done = upload.upload(paths, to, message)
    if done.changed:
        arrived = upload.check_uploaded(paths, to, done, cache)
        _must_pass(arrived, f"{to.page(done.commit)} fails", "Publish again, and do not use that commit")
    url, kept = to.page(done.commit), tuple(sorted(done.kept))
    return Published(
        url, done.commit, to.repo_id, done.revision, done.pull_request, to.tag, done.changed, done.changed, kept
    )


def _must_pass(folder: Path, problem: str, remedy: str) -> None:
    result = api.verify(folder)
    if failed := [f"{check}: {outcome}" for check, outcome in result.checks.items() if outcome != "ok"]:
        raise errors.WeightsError(f"{problem} verification ({'; '.join(failed)})", remedy)


# --- what is published ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A saved model, and the records of the run it comes from."""

    folder: Path
    """With ``config.json``."""
    entry: Mapping[str, Any]
    """What ``config.json`` says."""
    run: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    """``run.json``."""
    evaluation: Evaluation | None = None

    @classmethod
    def open(cls, folder: Path) -> Source:
        """Read a run folder or a saved folder. Raises InputError if it is neither, ConfigError for a damaged record."""
        from stzoo.results import EVALUATION_FILE, Evaluation

        run = folder if (folder / "run.json").is_file() else None
        model = folder / "best" if run else folder
        if not (model / CONFIG_FILE).is_file():
            problem = f"the run {folder} has no weights yet: there is no {model}" if run else f"{folder} holds no model"
            raise errors.InputError(problem, "Give the folder of a run, or one that Predictor.save wrote")
        record = _read_record(folder / "run.json") if run else {}
        if record.get("status", "finished") != "finished":
            log.warning("the run %s is %s: its best weights so far are taken", folder, record["status"])
        entry, recorded, evaluation = read_config(model / CONFIG_FILE, str(folder)), folder / EVALUATION_FILE, None
        if recorded.is_file():
            evaluation = cards.of_these_weights(Evaluation.from_json(recorded.read_text()), entry["sha256"])
            if evaluation is None:
                log.warning("%s is about other weights and is left out: evaluate again", recorded)
        return cls(model, entry, run, record, evaluation)

    def license(self, wanted: str | None) -> str:
        """The licence to publish under: ``wanted``, or the one that is recorded. Raises LicenseError."""
        recorded = [str(item) for item in (self.record.get("license"), self.entry.get("license")) if item]
        base = str(self.record.get("base_model") or self.entry.get("base_model") or "")
        for model in registry().models() if base else ():
            if base in (model.name, model.qualified_name, model.weights and model.weights.repo) and model.license:
                recorded.append(model.license)
        if not (chosen := wanted or next(iter(recorded), "")):
            raise errors.LicenseError(
                f"nothing says under which licence {self.folder} may be used", "Say it: --license apache-2.0"
            )
        for license in recorded:
            if reason := _conflict(license, chosen):
                raise errors.LicenseError(
                    f"{self.folder} cannot be published under {chosen}: {base or 'it'} is licensed {license}, which "
                    f"{reason}",
                    f"Publish under {license}: --license {license}",
                )
        return chosen

    def card(self, load: str, picture: str = "") -> str:
        """The card of the folder; ``load``: what ``stzoo.load`` takes."""
        return cards.saved_card(
            api.load(self.folder, device="cpu"),
            self.entry,
            load,
            size=sum(path.stat().st_size for path in _weight_files(self.folder, self.entry["weights"])),
            record=self.record,
            evaluation=self.evaluation,
            picture=picture,
        )

    def stage(self, target: Path, title: str, repo_id: str, license: str, max_shard_size: int) -> Path:
        """Make the folder that is published; returns it."""
        target.mkdir()
        entry = dict(self.entry) | {"name": title, "license": license}
        for key in ("base_model", "trained_on"):
            if entry.get(key):
                entry[key] = source_text(entry[key])
        self._stage_weights(target, entry, max_shard_size)
        files.write_atomically(target / CONFIG_FILE, (json.dumps({"stzoo": entry}, indent=2) + "\n").encode())
        _must_pass(target, f"{self.folder} is not published: its copy fails", "Save the model again")
        staged = Source(target, entry, self.run, self.record, self.evaluation)
        picture = _picture(target, self.run, self.record)
        own = self.folder / cards.CARD
        text = own.read_text() if own.is_file() else ""
        if cards.is_ours(text):
            text = staged.card(repo_id, picture)
        files.write_atomically(target / cards.CARD, text.encode())
        if self.evaluation and (results := cards.evaluation_results(self.evaluation)):
            (target / upload.EVALUATION).parent.mkdir()
            files.write_atomically(target / upload.EVALUATION, results.encode())
        return target

    def _stage_weights(self, target: Path, entry: dict[str, Any], max_shard_size: int) -> None:
        """Link the files, or split anew where one is too large; ``entry`` is told."""
        from stzoo import tensorfile, weights

        stored = _weight_files(self.folder, entry["weights"])
        if all(tensorfile.size(path) <= max_shard_size for path in stored if path.suffix == ".safetensors"):
            for path in stored:
                _link(target / path.name, path)
        else:
            tensors, metadata = weights.read(stored[0])
            written = weights.write_tensors(tensors, target / WEIGHTS_FILE, metadata, max_shard_size)
            entry |= {"weights": written.path.name, "sha256": written.sha256}


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
        if isinstance(record, dict):
            return record
    except ValueError:
        pass
    raise errors.ConfigError(f"{path} is damaged: it holds no JSON object", "Publish the folder best/ by itself")


def _weight_files(folder: Path, name: str) -> list[Path]:
    """The file, or the index and what it names. Raises WeightsUnavailable."""
    from stzoo.weights import shards

    stored = folder / name
    paths = [stored, *(folder / shard for shard in (shards(stored) if stored.is_file() else ()))]
    for path in paths:
        if not path.is_file():
            raise errors.WeightsUnavailable(f"{path} is missing", "Save the model again")
    return paths


def _link(target: Path, path: Path) -> None:
    try:
        target.symlink_to(path.resolve(strict=True))
    except OSError:  # a system without links
        shutil.copyfile(path, target)


def _picture(staged: Path, run: Path | None, record: Mapping[str, Any]) -> str:
    """Put ``prediction.png`` into the folder; says what it shows."""
    step = (record.get("best") or {}).get("step")
    drawn = sorted((run / "pictures").glob("*.png")) if run else []
    if drawn:
        best = [path for path in drawn if step is not None and path.stem == f"step-{step:09d}"]
        shutil.copyfile((best or drawn)[-1], staged / cards.PICTURE)
        return "Predictions on validation data" + ("" if best else " during training")
    predictor = api.load(staged, device="cpu")
    try:
        figure = predictor.predict(*predictor.task.sample(predictor.requirements)).figure()
    except errors.StzooError as problem:
        log.warning("there is no picture of predictions: %s", problem)
        return ""
    figure.save(staged / cards.PICTURE)
    return "The prediction for a made-up input"


def _conflict(base: str, chosen: str) -> str:
    """Why a work derived from one licensed ``base`` may not be licensed ``chosen``; empty if nothing is known against it."""
    base, chosen = base.lower(), chosen.lower()
    if base == chosen:
        return ""
    if forbids_commercial_use(base) and not forbids_commercial_use(chosen):
        return "forbids commercial use"
    if base.startswith(("gpl", "agpl", "lgpl")) or "-sa" in base:
        return "asks for the same licence"
    if "-nd" in base:
        return "allows no changed works"
    return "nobody can judge by its name" if base in _UNDECIDED else ""


def _stage_model(model: Model, record: Weights, target: Path) -> Path:
    """The folder of a zoo model: its file as it is, a config that names it, its card."""
    located = api.pull(model.qualified_name, offline=True)
    target.mkdir()
    _link(target / record.filename, located.path)
    architecture = registry().architecture_of(model)
    entry = {
        "format_version": FORMAT_VERSION,
        "name": model.name,
        "architecture": architecture.name,
        "plugin": architecture.plugin,
        "task": model.task,
        "config": architecture.validate(model.config),
        "sha256": located.sha256,
        "weights": record.filename,
        "fingerprint": model.fingerprint,
        "license": model.license,
        "base_model": model.base_model,
        "trained_on": model.trained_on,
    }
    files.write_atomically(target / CONFIG_FILE, (json.dumps({"stzoo": as_plain(entry)}, indent=2) + "\n").encode())
    _must_pass(target, f"{model.name} is not published: its copy fails", "Reinstall the plugin")
    card = cards.model_card(model, _picture(target, None, {}))
    files.write_atomically(target / cards.CARD, card.encode())
    return target
