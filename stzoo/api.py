"""The public functions: names to predictors, listing, verifying, locking."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from stzoo import errors, files
from stzoo.registry import catalogue, registry
from stzoo.spec import Architecture, Dataset, Model, Task, load_reference

if TYPE_CHECKING:
    import torch

    from stzoo.predictor import LoadReport, Predictor
    from stzoo.weights import Located

log = logging.getLogger("stzoo")

PathLike = str | os.PathLike[str]


# --- listing ----------------------------------------------------------------------------------------------------------


def models(
    task: str | None = None,
    plugin: str | None = None,
    query: str | None = None,
    *,
    architecture: str | None = None,
    license: str | None = None,
    commercial: bool | None = None,
    max_parameters: int | None = None,
) -> list[Model]:
    """Models of the installed plugins that pass every filter, by name. Imports no torch.

    ``query``: words that must each occur in the name, description, data, tags or licence. ``commercial=True`` leaves out
    models whose licence forbids commercial use.
    """
    return registry().models(task, plugin, query, architecture, license, commercial, max_parameters)


def architectures() -> list[Architecture]:
    """All architectures, by name."""
    return registry().all(Architecture)


def tasks() -> list[Task]:
    """All tasks, by name."""
    return registry().all(Task)


def datasets() -> list[Dataset]:
    """All named datasets, by name."""
    return registry().all(Dataset)


def info(name: str) -> Model:
    """The zoo's entry for a name, alias or ``plugin:name``; raises UnknownModel with the closest names."""
    return registry().get(Model, name)


def dataset(name: str, split: str = "test", **options: Any) -> Sequence[Mapping[str, Any]]:
    """Load a named dataset: a sequence of ``{column: value}`` examples. Raises UnknownDataset or DatasetError."""
    spec = registry().get(Dataset, name)
    if split not in spec.splits:
        raise errors.DatasetError(f"dataset {name!r} has no split {split!r}", f"Splits: {', '.join(spec.splits)}")
    examples: Sequence[Mapping[str, Any]] = load_reference(spec.load)(split, **options)
    return examples


# --- loading ----------------------------------------------------------------------------------------------------------


def load(
    name: PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: PathLike | None = None,
    offline: bool | None = None,
    lock: PathLike | None = None,
    **config: Any,
) -> Predictor:
    """Load a model with its weights, ready to predict.

    Args:
        name: a model of the zoo (``"tau-mmnist"``), ``"plugin:model"``, a Hub repo id (``"me/tau-clips"``), or a folder
            written by ``Predictor.save``.
        revision: branch, tag or commit, for models on the Hub.
        device: default: CUDA where there is one, else the CPU.
        dtype: default float32, however the file stores it.
        weights: a local copy of the published file; its sha256 must be the published one.
        offline: True: make no request. Default: what ``HF_HUB_OFFLINE`` says.
        lock: a file written by ``stzoo lock``; anything it does not list, or other bytes, is refused.
        config: changes to the config that leave every tensor's shape alone.

    Raises:
        UnknownModel, AmbiguousName, PluginMissing, ConfigError, WeightsError, HubError, LockError: see stzoo.errors.
    """
    start = time.perf_counter()
    locked = _locked(lock, str(name)) if lock is not None else {}
    origin = _origin(name, revision, weights, offline, locked)
    full = origin.architecture.validate({**origin.config, **config})
    predictor = _without_weights(origin, full) or _filled(
        origin, full, origin.locate(), locked.get("sha256"), _dtype(dtype)
    )
    if predictor.spec and predictor.spec.non_commercial:
        log.warning("%s: the weights are licensed %s (no commercial use)", name, predictor.spec.license)
    move(predictor, device)
    predictor.report = replace(predictor.report, seconds=round(time.perf_counter() - start, 4))
    return predictor


def pull(name: PathLike, *, revision: str | None = None, offline: bool | None = None) -> Located:
    """Make a model's weights available on this machine, verified; says where they are and where they came from.

    ``name``, ``revision``, ``offline`` and errors as for :func:`load`, but nothing is built and torch is not imported.
    """
    return _origin(name, revision, None, offline).locate()


def architecture_of(name: PathLike, *, revision: str | None = None, offline: bool | None = None) -> Architecture:
    """The architecture :func:`load` would build for this name; of a Hub repo only ``config.json`` is fetched."""
    return _origin(name, revision, None, offline).architecture


def describe(name: PathLike, *, revision: str | None = None, offline: bool | None = None) -> Model:
    """What is known of a model before its weights are loaded: the zoo's entry; for a folder or a Hub repo, one made from its
    ``config.json`` and from the network, which is built for it.

    ``name``, ``revision``, ``offline`` and errors as for :func:`load`.
    """
    from stzoo.cards import source_text
    from stzoo.predictor import LoadReport

    origin = _origin(name, revision, None, offline)
    if origin.model is not None:
        return origin.model
    spec, text = origin.architecture, {key: source_text(origin.entry.get(key)) for key in ("base_model", "trained_on")}
    config = spec.validate(origin.config)
    built = build(spec, config, LoadReport(origin.name, "none"), skip_init=True)
    return Model(
        name="-".join(re.findall("[a-z0-9]+", origin.name.lower())) or "model",
        architecture=spec.name,
        config=config,
        license=str(origin.entry.get("license") or ""),
        trained_on=text["trained_on"],
        base_model=text["base_model"] or None,
        description=f"A {spec.name} model" + (f", from {text['base_model']}" if text["base_model"] else ""),
        requirements=built.requirements,
        parameters=sum(item.numel() for item in built.module.parameters()),
        task=spec.task,
        plugin=spec.plugin,
    )


def create(architecture: str, *, device: str | torch.device | None = None, **config: Any) -> Predictor:
    """An untrained model of an architecture. Raises UnknownArchitecture, or ConfigError naming the key."""
    from stzoo.predictor import LoadReport

    spec = registry().get(Architecture, architecture)
    predictor = build(spec, spec.validate(config), LoadReport(spec.name, "none"), skip_init=False)
    return move(predictor, device)


def build(
    spec: Architecture, config: dict[str, Any], report: LoadReport, skip_init: bool, model: Model | None = None
) -> Predictor:
    """A predictor around a new module; with ``skip_init`` its tensors are memory that is still to be filled."""
    from stzoo import weights
    from stzoo.predictor import Predictor

    constructor = load_reference(spec.build)
    module = weights.build(constructor, config, skip_init=skip_init and spec.skip_init).eval()
    return Predictor(module, spec, registry().task_of(spec), config, report, model)


@dataclass(frozen=True)
class _Origin:
    """What a name stands for: everything known about a model before its weights are looked for."""

    name: str
    architecture: Architecture
    config: Mapping[str, Any]
    locate: Callable[[], Located]
    """Finds the weights, checked against the hash that spec or config file name."""
    model: Model | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)
    """What the config file says, where there is one."""


def _origin(
    name: PathLike,
    revision: str | None,
    weights: PathLike | None,
    offline: bool | None,
    locked: Mapping[str, Any] = MappingProxyType({}),
) -> _Origin:
    folder, text = Path(name).expanduser(), str(name)
    if (folder / "run.json").is_file():  # a run folder stands for its best weights
        folder = folder / "best"
    if (folder / "config.json").is_file():
        return _folder_origin(folder, text)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _repo_origin(text, locked.get("revision") or revision, weights, offline)
    if os.sep in text:
        raise errors.UnknownModel(
            f"there is no folder {text} with a config.json", "Give a model name, a Hub repo id or a saved folder"
        )
    return _zoo_origin(info(text), revision, weights, offline)


def _zoo_origin(model: Model, revision: str | None, path: PathLike | None, offline: bool | None) -> _Origin:
    architecture = registry().architecture_of(model)
    if model.source:
        from stzoo import imports

        if revision is not None or path is not None:
            problem = (
                f"{model.name} is what {model.source.url} was converted to: it has no revision and no other weights"
            )
            raise errors.ConfigError(problem, "Leave revision and weights out; import_checkpoint reads other files")
        entry = imports.record_of(model) or {}
        return _Origin(model.name, architecture, model.config, lambda: imports.locate(model), model, entry)

    def locate() -> Located:
        from stzoo import weights as places

        record = model.weights
        if record is None:
            raise errors.WeightsUnavailable(
                f"model {model.name!r} has no weights yet", f"stzoo.create({model.architecture!r}) builds it untrained"
            )
        if revision is not None:  # another revision is another file: the spec's hash does not apply
            from stzoo import hub

            fetched = hub.fetch_weights(record.repo, record.filename, revision=revision, offline=offline)
            return places.Located(fetched.path, fetched.source, files.sha256_of(fetched.path), fetched.commit)
        package = next(plugin.module for plugin in registry().plugins if plugin.name == model.plugin).partition(":")[0]
        return places.locate(record, model.name, package, path=path, offline=offline)

    return _Origin(model.name, architecture, model.config, locate, model)


def _folder_origin(folder: Path, name: str) -> _Origin:
    entry = read_config(folder / "config.json", name)
    return _Origin(
        name,
        _architecture_for(entry, name),
        entry["config"],
        lambda: _checked(folder / entry["weights"], "folder", None, entry, name),
        entry=entry,
    )


def _repo_origin(repo_id: str, revision: str | None, path: PathLike | None, offline: bool | None) -> _Origin:
    from stzoo import hub

    described = hub.fetch(repo_id, "config.json", revision=revision, offline=offline)
    entry = read_config(described.path, repo_id)

    def locate() -> Located:
        if path is not None:
            return _checked(Path(path), "path", described.commit, entry, repo_id)
        fetched = hub.fetch_weights(
            repo_id, entry["weights"], revision=described.commit, sha256=entry.get("sha256"), offline=offline
        )
        return _checked(fetched.path, fetched.source, described.commit, entry, repo_id)

    return _Origin(repo_id, _architecture_for(entry, repo_id), entry["config"], locate, entry=entry)


def _checked(path: Path, source: str, revision: str | None, entry: Mapping[str, Any], name: str) -> Located:
    """The file, if it is the one that the config file names."""
    from stzoo.weights import Located, check_shards

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
    from stzoo.predictor import FORMAT_VERSION, WEIGHTS_FILE

    try:
        entry = json.loads(path.read_text())["stzoo"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as problem:
        raise errors.ConfigError(
            f"{name}: config.json does not describe a stzoo model ({problem!r})", "Was it written by Predictor.save?"
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


def _filled(
    origin: _Origin, config: dict[str, Any], found: Located, locked: str | None, dtype: torch.dtype | None
) -> Predictor:
    """Build without initialising and assign the file's tensors."""
    from stzoo.predictor import LoadReport
    from stzoo.weights import assign

    if locked and found.sha256 != locked:
        raise errors.LockError(
            f"{origin.name} has sha256 {found.sha256}, the lock file says {locked}",
            "Run stzoo lock again if the change is wanted",
        )
    predictor = build(
        origin.architecture, config, LoadReport(origin.name, found.source), skip_init=True, model=origin.model
    )
    count = assign(predictor.module, found.path, origin.name, dtype)
    predictor.report = LoadReport(
        origin.name, found.source, str(found.path), found.revision, found.sha256, str(predictor.dtype), count
    )
    kept = ("license", "base_model", "trained_on", "name", "fingerprint")
    predictor.extra = {key: value for key, value in origin.entry.items() if key in kept}
    return predictor


def _without_weights(origin: _Origin, config: dict[str, Any]) -> Predictor | None:
    """The model, if it is an entry of the zoo whose network has no tensors that a file could hold."""
    from stzoo.predictor import LoadReport

    if origin.model is None or origin.model.weights or origin.model.source:
        return None
    made = build(origin.architecture, config, LoadReport(origin.name, "none"), skip_init=False, model=origin.model)
    return None if made.module.state_dict() else made


def _dtype(dtype: Any) -> torch.dtype | None:
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise errors.ConfigError(
            f"dtype={dtype!r} is not a floating-point type", "Use 'float32', 'float16' or 'bfloat16'"
        )
    return found


def move(predictor: Predictor, device: Any) -> Predictor:
    """Move to a device, by default to CUDA where there is one; raises ConfigError if it cannot be used."""
    import torch

    try:
        target = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
        return predictor if target == predictor.device else predictor.to(target)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).splitlines()[0]
        raise errors.ConfigError(f"device={device!r} cannot be used here ({reason})", "Use 'cpu'") from problem


# --- verify and lock --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verification:
    """What ``verify`` checked; ``ok`` if every check held."""

    name: str
    checks: dict[str, str]
    """Check -> ``"ok"`` or what is wrong."""

    @property
    def ok(self) -> bool:
        return all(result == "ok" for result in self.checks.values())


def verify(
    name: PathLike, *, revision: str | None = None, offline: bool | None = True, tolerance: float = 2e-3
) -> Verification:
    """Check a model's bytes, tensors and outputs: sha256 read anew, every tensor, and the recorded fingerprint.

    ``name`` and ``revision`` as for :func:`load`. Offline unless told otherwise. ``tolerance`` is the largest allowed
    difference from the fingerprint, in the units of the output. Raises what ``load`` raises when there is nothing to verify.
    """
    from stzoo.weights import check_shards

    checks: dict[str, str] = {}
    try:
        predictor = load(name, revision=revision, device="cpu", offline=offline)
    except (errors.WeightsCorrupted, errors.WeightsMismatch) as problem:
        return Verification(
            str(name), {"sha256" if isinstance(problem, errors.WeightsCorrupted) else "tensors": str(problem)}
        )
    report = predictor.report
    if not report.path:
        return Verification(str(name), {"tensors": "ok"})
    try:
        check_shards(Path(report.path), str(name), remember=False)
    except errors.WeightsError as problem:
        return Verification(str(name), {"sha256": str(problem)})
    fresh = files.sha256_of(Path(report.path), remember=False)
    checks["sha256"] = "ok" if fresh == report.sha256 else f"{report.path} now has sha256 {fresh}, not {report.sha256}"
    checks["tensors"] = "ok"
    recorded = (predictor.spec and predictor.spec.fingerprint) or predictor.extra.get("fingerprint")
    checks["fingerprint"] = _compare(recorded, predictor.fingerprint(), tolerance) if recorded else "none was recorded"
    return Verification(str(name), checks)


def _compare(recorded: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> str:
    for output, expected in recorded.items():
        got = found.get(output)
        if got is None or list(expected["shape"]) != got["shape"]:
            return f"{output}: shape {got and got['shape']}, recorded {list(expected['shape'])}"
        pairs = [("mean", expected["mean"], got["mean"]), ("std", expected["std"], got["std"])]
        pairs += [
            (f"sample {index}", *pair)
            for index, pair in enumerate(zip(expected["samples"], got["samples"], strict=True))
        ]
        for what, wanted, value in pairs:
            if not abs(wanted - value) <= tolerance:
                return f"{output}: {what} is {value:g}, recorded {wanted:g}"
    return "ok"


def lock(names: Sequence[str], path: PathLike = "stzoo.lock", *, offline: bool | None = None) -> Path:
    """Write the exact bytes and revisions of these models to a lock file, for ``load(..., lock=path)``. Returns its path.

    Entries already in the file are kept; the named ones are brought up to date.
    """

    file = Path(path)
    entries = _read_lock(file) if file.exists() else {}
    versions = {plugin.name: plugin for plugin in registry().plugins}
    for name in names:
        predictor = load(name, device="cpu", offline=offline)
        owner = versions.get(predictor.architecture.plugin)
        entries[name] = {
            "sha256": predictor.report.sha256,
            "revision": predictor.report.revision,
            "repo": predictor.spec.weights.repo if predictor.spec and predictor.spec.weights else name,
            "plugin": f"{owner.distribution}=={owner.version}" if owner else None,
        }
    files.write_atomically(
        file, (json.dumps({"version": 1, "models": dict(sorted(entries.items()))}, indent=2) + "\n").encode()
    )
    return file


def _read_lock(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(file.read_text())
        if content["version"] != 1:
            raise errors.LockError(
                f"{file} has version {content['version']}, this stzoo reads 1", "Run: pip install -U stzoo"
            )
        entries: dict[str, dict[str, Any]] = content["models"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise errors.LockError(
            f"{file} is not a lock file ({problem!r})", "Write one with: stzoo lock NAME"
        ) from problem
    return entries


def _locked(lock: PathLike, name: str) -> dict[str, Any]:
    entries = _read_lock(Path(lock))
    if name not in entries:
        raise errors.LockError(f"{name!r} is not in {lock}", f"Add it with: stzoo lock {name}")
    return entries[name]
