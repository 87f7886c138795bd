"""What a name stands for: a model of the zoo, a folder that was saved, a repo on the Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stzoo import errors, files, hub, imported
from stzoo.registry import catalogue, registry
from stzoo.spec import Architecture, Model
from stzoo.weights import Located, check_shards, fetch_weights
from stzoo.weights import locate as locate_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1
"""Of what ``Predictor.save`` writes."""

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Origin:
    """What a name stands for: everything known about a model before its weights are looked for."""

    name: str
    architecture: Architecture
    config: Mapping[str, Any]
    locate: Callable[[], Located]
    """Finds the weights, checked against the hash that spec or config file name."""
    model: Model | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)
    """What the config file says, where there is one."""


def origin_of(
    name: PathLike,
    revision: str | None = None,
    weights: PathLike | None = None,
    offline: bool | None = None,
    locked: Mapping[str, Any] = MappingProxyType({}),
) -> Origin:
    """The origin of what ``stzoo.load`` takes; ``locked``: its entry in a lock file. Raises UnknownModel and what fetching
    a repo's config file raises."""
    folder, text = Path(name).expanduser(), str(name)
    if (folder / "run.json").is_file():  # a run folder stands for its best weights
        folder = folder / "best"
    if (folder / CONFIG_FILE).is_file():
        return _folder_origin(folder, text)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _repo_origin(text, locked.get("revision") or revision, weights, offline)
    if os.sep in text:
        raise errors.UnknownModel(
            f"there is no folder {text} with a config.json", "Give a model name, a Hub repo id or a saved folder"
        )
    return _zoo_origin(registry().get(Model, text), revision, weights, offline)


def _zoo_origin(model: Model, revision: str | None, path: PathLike | None, offline: bool | None) -> Origin:
    architecture = registry().architecture_of(model)
    if model.source:
        if revision is not None or path is not None:
            problem = (
                f"{model.name} is what {model.source.url} was converted to: it has no revision and no other weights"
            )
            raise errors.ConfigError(problem, "Leave revision and weights out; import_checkpoint reads other files")
        entry = imported.record_of(model) or {}
        return Origin(model.name, architecture, model.config, lambda: imported.locate(model), model, entry)

    def locate() -> Located:
        record = model.weights
        if record is None:
            given = "".join(f", {key}={value!r}" for key, value in model.config.items())
            raise errors.WeightsUnavailable(
                f"model {model.name!r} has no weights yet",
                f"stzoo.create({model.architecture!r}{given}) builds it untrained",
            )
        if revision is not None:  # another revision is another file: the spec's hash does not apply
            fetched = fetch_weights(record.repo, record.filename, revision=revision, offline=offline)
            return Located(fetched.path, fetched.source, files.sha256_of(fetched.path), fetched.commit)
        package = next(plugin.module for plugin in registry().plugins if plugin.name == model.plugin).partition(":")[0]
        return locate_weights(record, model.name, package, path=path, offline=offline)

    return Origin(model.name, architecture, model.config, locate, model)


def _folder_origin(folder: Path, name: str) -> Origin:
    entry = read_config(folder / CONFIG_FILE, name)
    return Origin(
        name,
        _architecture_for(entry, name),
        entry["config"],
        lambda: _checked(folder / entry["weights"], "folder", None, entry, name),
        entry=entry,
    )


def _repo_origin(repo_id: str, revision: str | None, path: PathLike | None, offline: bool | None) -> Origin:
    described = hub.fetch(repo_id, CONFIG_FILE, revision=revision, offline=offline)
    entry = read_config(described.path, repo_id)

    def locate() -> Located:
        if path is not None:
            return _checked(Path(path), "path", described.commit, entry, repo_id)
        fetched = fetch_weights(
            repo_id, entry["weights"], revision=described.commit, sha256=entry.get("sha256"), offline=offline
        )
        return _checked(fetched.path, fetched.source, described.commit, entry, repo_id)

    return Origin(repo_id, _architecture_for(entry, repo_id), entry["config"], locate, entry=entry)


def _checked(path: Path, source: str, revision: str | None, entry: Mapping[str, Any], name: str) -> Located:
    """The file, if it is the one that the config file names."""
    if not path.is_file():
        raise errors.WeightsUnavailable(f"{name}: {path} is missing", "Save or download the model again")
    digest = files.sha256_of(path)
    if entry.get("sha256") and digest != entry["sha256"]:
        raise errors.WeightsCorrupted(
            f"{name}: {path} has sha256 {digest}, config.json says {entry['sha256']}",
            "Save or download the model again",
        )
    check_shards(path, name)
    return Located(path, source, digest, revision)


def read_config(path: Path, name: str) -> dict[str, Any]:
    """What ``config.json`` says of the model ``name``, the name of its weights file filled in. Raises ConfigError."""
    try:
        entry = json.loads(path.read_text())["stzoo"]
    except (ValueError, KeyError, TypeError) as problem:
        raise errors.ConfigError(
            f"{name}: config.json describes no stzoo model",
            "Give what Predictor.save wrote; stzoo import reads the files of other libraries",
        ) from problem
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("architecture"), str)
        or not isinstance(entry.get("config"), dict)
    ):
        raise errors.ConfigError(
            f"{name}: config.json lacks the architecture or its config", "Was it written by Predictor.save?"
        )
    if entry.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise errors.ConfigError(
            f"{name} was written by a newer stzoo (format {entry['format_version']})", "Run: pip install -U stzoo"
        )
    weights = str(entry.setdefault("weights", WEIGHTS_FILE))
    if Path(weights).name != weights or not weights.endswith((".safetensors", ".safetensors.index.json")):
        raise errors.ConfigError(f"{name}: config.json names the weights {weights!r}, which is no safetensors file")
    return entry


def _architecture_for(entry: Mapping[str, Any], name: str) -> Architecture:
    plugin = entry.get("plugin") or ""
    for wanted in (f"{plugin}:{entry['architecture']}", entry["architecture"]):
        try:
            return registry().get(Architecture, wanted)
        except errors.UnknownArchitecture:
            continue
    broken = next((item for item in registry().plugins if item.name == plugin and item.status == "failed"), None)
    if broken:
        raise errors.PluginError(
            f"{name} needs the plugin {plugin!r}, which failed to load: {broken.reason}", "Run: stzoo doctor"
        )
    problem = (
        f"{name} needs the architecture {entry['architecture']!r} of the plugin {plugin!r}, which is not installed"
    )
    if known := catalogue().get(plugin):
        raise errors.PluginMissing(problem, f"Run: {known['install']}")
    raise errors.PluginMissing(
        problem, "That name was written by the model's author: install such a package only if you trust them"
    )
