"""The public functions: names to predictors, listing, verifying, locking."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, files
from stzoo.origins import Origin, PathLike, origin_of
from stzoo.registry import registry
from stzoo.spec import Architecture, Dataset, Model, Task, load_reference

if TYPE_CHECKING:
    import torch

    from stzoo.predictor import LoadReport, Predictor
    from stzoo.weights import Located

log = logging.getLogger("stzoo")


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
    origin = origin_of(name, revision, weights, offline, locked)
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
    return origin_of(name, revision, None, offline).locate()


def architecture_of(name: PathLike, *, revision: str | None = None, offline: bool | None = None) -> Architecture:
    """The architecture :func:`load` would build for this name; of a Hub repo only ``config.json`` is fetched."""
    return origin_of(name, revision, None, offline).architecture


def describe(name: PathLike) -> Model:
    """What is known of a model before its weights are loaded: the zoo's entry; for a folder or a Hub repo, one made from its
    ``config.json`` and from the network, which is built for it. Errors as for :func:`load`.
    """
    from stzoo.lineage import source_text
    from stzoo.predictor import LoadReport

    origin = origin_of(name)
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


def _filled(
    origin: Origin, config: dict[str, Any], found: Located, locked: str | None, dtype: torch.dtype | None
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


def _without_weights(origin: Origin, config: dict[str, Any]) -> Predictor | None:
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
