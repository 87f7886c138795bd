"""The public functions: names to predictors, listing, importing, verifying, locking."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors
from stzoo.registry import catalogue, registry
from stzoo.spec import Architecture, Dataset, Model, Task, Weights, load_reference

if TYPE_CHECKING:
    import torch

    from stzoo.predictor import LoadReport, Predictor

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
    folder = Path(name).expanduser()
    text = str(name)
    if (folder / "config.json").is_file():
        predictor = _load_folder(folder, text, {}, locked.get("sha256"), config, dtype)
    elif text.count("/") == 1 and not text.startswith((".", "/", "~")):
        predictor = _load_repo(text, locked.get("revision") or revision, weights, offline, locked.get("sha256"), config, dtype)
    elif os.sep in text:
        raise errors.UnknownModel(f"there is no folder {text} with a config.json", "Give a model name, a Hub repo id or a saved folder")
    else:
        predictor = _load_zoo(info(text), revision, weights, offline, locked.get("sha256"), config, dtype)
    if predictor.spec and predictor.spec.non_commercial:
        log.warning("%s: the weights are licensed %s (no commercial use)", text, predictor.spec.license)
    predictor.to(_device(device))
    predictor.report = replace(predictor.report, seconds=round(time.perf_counter() - start, 4))
    return predictor


def create(architecture: str, *, device: str | torch.device | None = None, **config: Any) -> Predictor:
    """An untrained model of an architecture. Raises UnknownArchitecture, or ConfigError naming the key."""
    from stzoo.predictor import LoadReport

    spec = registry().get(Architecture, architecture)
    return _build(spec, spec.validate(config), LoadReport(spec.name, "none"), skip_init=False).to(_device(device))


def import_checkpoint(
    path: PathLike, architecture: str | None = None, *, device: str | torch.device | None = None, **config: Any
) -> Predictor:
    """Read an official checkpoint (.pth, .ckpt, .pt, .safetensors): architecture and config are detected from the tensors.

    ``config`` states what the tensors cannot tell (see ``predictor.report.notes``) and may not contradict them. Raises
    FormatError if the file cannot be read or nobody recognises it, WeightsMismatch if a tensor does not fit.
    """
    from stzoo import formats
    from stzoo.predictor import LoadReport
    from stzoo.weights import assign_tensors, sha256_of

    start, file = time.perf_counter(), Path(path).expanduser()
    candidates = [registry().get(Architecture, architecture)] if architecture else architectures()
    state = formats.read_checkpoint(file)
    spec, known, detected = formats.recognise(state, candidates, file)
    full = spec.validate({**detected, **config})
    predictor = _build(spec, full, LoadReport(file.stem, "checkpoint"), skip_init=True)
    count = assign_tensors(predictor.module, known.convert(state, full), str(file))
    notes = tuple(note for note in known.unknown(full) if note.partition(":")[0] not in config)
    predictor.to(_device(device))
    seconds = round(time.perf_counter() - start, 4)
    predictor.report = LoadReport(
        file.stem, "checkpoint", str(file), None, sha256_of(file), str(predictor.dtype), count, seconds, notes
    )
    return predictor


def _build(spec: Architecture, config: dict[str, Any], report: LoadReport, skip_init: bool, model: Model | None = None) -> Predictor:
    from stzoo import weights
    from stzoo.predictor import Predictor

    constructor = load_reference(spec.build)
    module = weights.build(constructor, config, skip_init=skip_init and spec.skip_init).eval()
    return Predictor(module, spec, registry().get(Task, spec.task), config, report, model)


def _load_zoo(
    model: Model, revision: str | None, path: PathLike | None, offline: bool | None, locked: str | None, config: dict[str, Any], dtype: Any
) -> Predictor:
    from stzoo.weights import locate

    if model.weights is None:
        raise errors.WeightsUnavailable(f"model {model.name!r} has no weights yet", f"stzoo.create({model.architecture!r}) builds it untrained")
    architecture = registry().architecture_of(model)
    full = architecture.validate({**model.config, **config})
    record = model.weights if revision is None else replace(model.weights, revision=None)
    if revision is not None:  # another revision is another file: its own hash, not the spec's, is what can be checked
        from stzoo import hub

        fetched = hub.fetch(record.repo, record.filename, revision=revision, offline=offline)
        return _filled(architecture, full, model.name, fetched.path, fetched.source, fetched.commit, locked, dtype, model)
    package = next(plugin.module for plugin in registry().plugins if plugin.name == model.plugin).partition(":")[0]
    found = locate(record, model.name, package, path=path, offline=offline)
    return _filled(architecture, full, model.name, found.path, found.source, found.revision, locked, dtype, model)


def _load_folder(folder: Path, name: str, origin: Mapping[str, Any], expected: str | None, config: dict[str, Any], dtype: Any) -> Predictor:
    from stzoo.predictor import WEIGHTS_FILE

    entry = _read_config(folder / "config.json", name)
    return _from_entry(entry, name, folder / WEIGHTS_FILE, "folder", None, expected, config, dtype)


def _load_repo(
    repo_id: str, revision: str | None, path: PathLike | None, offline: bool | None, locked: str | None, config: dict[str, Any], dtype: Any
) -> Predictor:
    from stzoo import hub
    from stzoo.predictor import WEIGHTS_FILE

    described = hub.fetch(repo_id, "config.json", revision=revision, offline=offline)
    entry = _read_config(described.path, repo_id)
    _architecture_for(entry, repo_id)  # say that the plugin is missing before anything large is downloaded
    if path is not None:
        return _from_entry(entry, repo_id, Path(path), "path", described.commit, locked, config, dtype)
    fetched = hub.fetch(repo_id, WEIGHTS_FILE, revision=described.commit, sha256=entry.get("sha256"), offline=offline)
    return _from_entry(entry, repo_id, fetched.path, fetched.source, described.commit, locked, config, dtype)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    from stzoo.predictor import FORMAT_VERSION

    try:
        entry = json.loads(path.read_text())["stzoo"]
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as problem:
        raise errors.ConfigError(f"{name}: config.json does not describe a stzoo model ({problem!r})", "Was it written by Predictor.save?") from problem
    if not isinstance(entry, dict) or not isinstance(entry.get("architecture"), str) or not isinstance(entry.get("config"), dict):
        raise errors.ConfigError(f"{name}: config.json lacks the architecture or its config", "Was it written by Predictor.save?")
    if entry.get("format_version", FORMAT_VERSION) > FORMAT_VERSION:
        raise errors.ConfigError(f"{name} was written by a newer stzoo (format {entry['format_version']})", "Run: pip install -U stzoo")
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
        raise errors.PluginError(f"{name} needs the plugin {plugin!r}, which failed to load: {broken.reason}", "Run: stzoo doctor")
    problem = f"{name} needs the architecture {entry['architecture']!r} of the plugin {plugin!r}, which is not installed"
    if known := catalogue().get(plugin):
        raise errors.PluginMissing(problem, f"Run: {known['install']}")
    raise errors.PluginMissing(problem, "That name was written by the model's author: install such a package only if you trust them")


def _from_entry(
    entry: dict[str, Any], name: str, path: Path, source: str, revision: str | None, locked: str | None, config: dict[str, Any], dtype: Any
) -> Predictor:
    from stzoo.weights import sha256_of

    architecture = _architecture_for(entry, name)
    if not path.is_file():
        raise errors.WeightsUnavailable(f"{name}: {path} is missing", "Save or download the model again")
    if entry.get("sha256") and sha256_of(path) != entry["sha256"]:
        raise errors.WeightsCorrupted(
            f"{name}: {path} has sha256 {sha256_of(path)}, config.json says {entry['sha256']}", "Save or download the model again"
        )
    full = architecture.validate({**entry["config"], **config})
    predictor = _filled(architecture, full, name, path, source, revision, locked, dtype, None)
    predictor.extra = {key: value for key, value in entry.items() if key in ("license", "base_model", "trained_on", "name", "fingerprint")}
    return predictor


def _filled(
    architecture: Architecture, config: dict[str, Any], name: str, path: Path, source: str, revision: str | None, locked: str | None, dtype: Any, model: Model | None
) -> Predictor:
    """Build without initialising and assign the file's tensors."""
    from stzoo.predictor import LoadReport
    from stzoo.weights import assign, sha256_of

    digest = sha256_of(path)
    if locked and digest != locked:
        raise errors.LockError(f"{name} has sha256 {digest}, the lock file says {locked}", "Run stzoo lock again if the change is wanted")
    predictor = _build(architecture, config, LoadReport(name, source), skip_init=True, model=model)
    count = assign(predictor.module, path, name, _dtype(dtype))
    predictor.report = LoadReport(name, source, str(path), revision, digest, str(predictor.dtype), count)
    return predictor


def _dtype(dtype: Any) -> torch.dtype | None:
    import torch

    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    found = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise errors.ConfigError(f"dtype={dtype!r} is not a floating-point type", "Use 'float32', 'float16' or 'bfloat16'")
    return found


def _device(device: Any) -> torch.device:
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        raise errors.ConfigError(f"device={device!r} cannot be used here ({str(problem).splitlines()[0]})", "Use 'cpu'") from problem
    return found


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


def verify(name: PathLike, *, offline: bool | None = True, tolerance: float = 2e-3) -> Verification:
    """Check a model's bytes, tensors and outputs: sha256 read anew, every tensor, and the recorded fingerprint.

    ``name`` as for :func:`load`. Offline unless told otherwise. ``tolerance`` is the largest allowed difference from the
    fingerprint, in the units of the output. Raises what ``load`` raises when there is nothing to verify.
    """
    from stzoo.weights import sha256_of

    checks: dict[str, str] = {}
    try:
        predictor = load(name, device="cpu", offline=offline)
    except (errors.WeightsCorrupted, errors.WeightsMismatch) as problem:
        return Verification(str(name), {"sha256" if isinstance(problem, errors.WeightsCorrupted) else "tensors": str(problem)})
    report = predictor.report
    fresh = sha256_of(Path(report.path), remember=False)
    checks["sha256"] = "ok" if fresh == report.sha256 else f"{report.path} now has sha256 {fresh}, not {report.sha256}"
    checks["tensors"] = "ok"
    recorded = predictor.spec.fingerprint if predictor.spec else predictor.extra.get("fingerprint")
    checks["fingerprint"] = _compare(recorded, predictor.fingerprint(), tolerance) if recorded else "none was recorded"
    return Verification(str(name), checks)


def _compare(recorded: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> str:
    for output, expected in recorded.items():
        got = found.get(output)
        if got is None or list(expected["shape"]) != got["shape"]:
            return f"{output}: shape {got and got['shape']}, recorded {list(expected['shape'])}"
        pairs = [("mean", expected["mean"], got["mean"]), ("std", expected["std"], got["std"])]
        pairs += [(f"sample {index}", *pair) for index, pair in enumerate(zip(expected["samples"], got["samples"], strict=True))]
        for what, wanted, value in pairs:
            if not abs(wanted - value) <= tolerance:
                return f"{output}: {what} is {value:g}, recorded {wanted:g}"
    return "ok"


def lock(names: Sequence[str], path: PathLike = "stzoo.lock", *, offline: bool | None = None) -> Path:
    """Write the exact bytes and revisions of these models to a lock file, for ``load(..., lock=path)``. Returns its path.

    Entries already in the file are kept; the named ones are brought up to date.
    """
    from stzoo.weights import write_atomically

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
    write_atomically(file, (json.dumps({"version": 1, "models": dict(sorted(entries.items()))}, indent=2) + "\n").encode())
    return file


def _read_lock(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(file.read_text())
        if content["version"] != 1:
            raise errors.LockError(f"{file} has version {content['version']}, this stzoo reads 1", "Run: pip install -U stzoo")
        entries: dict[str, dict[str, Any]] = content["models"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise errors.LockError(f"{file} is not a lock file ({problem!r})", "Write one with: stzoo lock NAME") from problem
    return entries


def _locked(lock: PathLike, name: str) -> dict[str, Any]:
    entries = _read_lock(Path(lock))
    if name not in entries:
        raise errors.LockError(f"{name!r} is not in {lock}", f"Add it with: stzoo lock {name}")
    return entries[name]


def bundled(model: Model) -> bool:
    """Whether the model's weights come with its plugin."""
    return isinstance(model.weights, Weights) and model.weights.bundled is not None
