"""Where weights are, whether they are intact, and getting them into a module.

Files are safetensors and are known by their sha256. A network is built with its initialisers turned off and the tensors
of the mapped file are assigned to it, so there is neither wasted initialisation nor a second copy in memory.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors, tensorfile
from stzoo.files import atomic_path, sha256_of, write_atomically
from stzoo.spec import Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

    from stzoo.hub import Fetched

log = logging.getLogger("stzoo")

_ALIASES = "stzoo_tied"
"""Key in a safetensors file's metadata: JSON of ``{tied name: name of the tensor that is stored}``."""

INDEX = ".index.json"
"""What the index of a sharded file adds to the name that the file would have."""
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


# --- places -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """A verified file, or the index of several that lie beside it."""

    path: Path
    source: str
    """``path``, ``folder``, ``bundled``, ``hub cache``, ``hub`` or ``imported``."""
    sha256: str
    revision: str | None = None


def bundled_path(weights: Weights, package: str) -> Path | None:
    """The copy inside the plugin's package, if the spec names one and it is there."""
    if not weights.bundled:
        return None
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (path := Path(folder) / weights.bundled).is_file():
            return path
    return None


def locate(
    weights: Weights,
    name: str,
    package: str,
    *,
    path: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
) -> Located:
    """A verified file with the spec's sha256, nearest place first: ``path``, bundled, Hub cache, Hub.

    Raises:
        WeightsCorrupted: the explicit file has another sha256, or every place that was reachable has.
        WeightsUnavailable: the spec names no hash and no bundled or Hub file can be trusted.
        HubError: nothing nearer had it and the Hub could not give it.
    """
    if path is not None:
        file = Path(path).expanduser()
        if not file.is_file():
            raise errors.WeightsUnavailable(f"there is no weights file {file}")
        digest = sha256_of(file)
        if weights.sha256 and digest != weights.sha256:
            raise errors.WeightsCorrupted(
                f"{file} has sha256 {digest}, model {name!r} has {weights.sha256}",
                "Give the published file; stzoo.import_checkpoint reads other ones",
            )
        return _logged(name, Located(file, "path", digest))
    copy = bundled_path(weights, package)
    if copy:
        digest = sha256_of(copy)
        if digest == weights.sha256:
            return _logged(name, Located(copy, "bundled", digest))
        log.warning("%s: the bundled copy %s has sha256 %s, not %s: looking on", name, copy, digest, weights.sha256)
    try:
        fetched = fetch_weights(
            weights.repo, weights.filename, revision=weights.revision, sha256=weights.sha256, offline=offline
        )
    except errors.StzooError as problem:
        if copy:
            raise errors.WeightsCorrupted(
                f"the bundled weights of {name!r}, {copy}, are damaged (sha256 {digest}, expected {weights.sha256}) "
                f"and the Hub could not help: {problem.problem}",
                "Reinstall the plugin, or connect to the Hub",
            ) from problem
        raise
    return _logged(
        name, Located(fetched.path, fetched.source, weights.sha256 or sha256_of(fetched.path), fetched.commit)
    )


def _logged(name: str, located: Located) -> Located:
    log.info("%s: weights from %s (%s), sha256 %s", name, located.source, located.path, located.sha256[:12])
    return located


# --- tensors ----------------------------------------------------------------------------------------------------------


def build(constructor: Callable[..., nn.Module], config: Mapping[str, Any], *, skip_init: bool) -> nn.Module:
    """Build a module; with ``skip_init`` its parameters stay uninitialised memory, to be assigned from a file."""
    with _initialisers_off() if skip_init else nullcontext():
        return constructor(**config)


_one_at_a_time = threading.RLock()


@contextmanager
def _initialisers_off() -> Iterator[None]:
    """While it lasts, and in this thread only, the functions of ``torch.nn.init`` leave parameters as they are.

    Buffers are computed as usual, which building on the meta device gets wrong, and it is several times quicker than that.
    """
    import torch

    owner, home = threading.get_ident(), vars(torch.nn.init)

    def guarded(initialise: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(initialise)
        def initialise_elsewhere(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(tensor, torch.nn.Parameter) and threading.get_ident() == owner:
                return tensor
            return initialise(tensor, *args, **kwargs)

        return initialise_elsewhere

    with _one_at_a_time:
        originals = {name: item for name, item in home.items() if name.endswith("_") and isfunction(item)}
        home.update({name: guarded(item) for name, item in originals.items()})
        try:
            yield
        finally:
            home.update(originals)


def assign(module: nn.Module, path: Path, name: str, dtype: torch.dtype | None = None) -> int:
    """Give ``module`` the tensors of the mapped file (or of an index's shards), checking each one; returns how many it has.

    Floating-point tensors are converted to ``dtype`` (default: the dtype the module was built with); without a conversion
    the module's memory *is* the mapped file (private: training does not change the file).

    Raises:
        WeightsMismatch: listing missing and unexpected tensors, wrong shapes and wrong dtypes.
    """
    tensors, metadata = read(path)
    for alias, stored in json.loads(metadata.get(_ALIASES, "{}")).items():
        tensors[alias] = tensors[stored]
    return assign_tensors(module, tensors, name, dtype)


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata as :func:`stzoo.tensorfile.read` gives them, of a file or of all that an index names."""
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for file in [path.parent / shard for shard in shards(path)] or [path]:
        some, notes = tensorfile.read(file)
        tensors |= some
        metadata |= notes
    return tensors, metadata


def assign_tensors(
    module: nn.Module, tensors: dict[str, torch.Tensor], name: str, dtype: torch.dtype | None = None
) -> int:
    """As :func:`assign`, from tensors in memory."""
    wanted = module.state_dict(keep_vars=True)
    problems = [f"missing {key}" for key in wanted if key not in tensors]
    problems += [f"unexpected {key}" for key in tensors if key not in wanted]
    converted: dict[int, torch.Tensor] = {}
    for key, target in wanted.items():
        if (tensor := tensors.get(key)) is None:
            continue
        if tensor.shape != target.shape:
            problems.append(f"{key} has shape {tuple(tensor.shape)}, not {tuple(target.shape)}")
        elif tensor.dtype != target.dtype or dtype:
            if tensor.is_floating_point() != target.is_floating_point():
                problems.append(f"{key} has dtype {tensor.dtype}, not {target.dtype}")
            elif tensor.is_floating_point():
                tensors[key] = converted.setdefault(id(tensor), tensor.to(dtype or target.dtype))
    if problems:
        shown = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise errors.WeightsMismatch(
            f"{len(problems)} tensors of {name!r} do not fit: {shown}",
            "Are config and weights of the same model? stzoo.import_checkpoint detects the config from a checkpoint",
        )
    own: set[int] = set()
    parts: list[nn.Module | None] = [module]
    while parts:
        if part := parts.pop():
            own.update(map(id, part._parameters.values()), map(id, part._buffers.values()))
            parts.extend(part._modules.values())
    if own.issuperset(map(id, wanted.values())):
        for key, target in wanted.items():  # 10 times quicker than load_state_dict, and ties stay
            target.data = tensors[key]
    else:  # a module computes entries of its state dict: only its own hooks know what to do with them
        module.load_state_dict(tensors, strict=True)
    return len(wanted)


def save_tensors(
    module: nn.Module,
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
    max_size: int | None = None,
) -> Located:
    """Write the module's state as safetensors, tied tensors once; ``max_size`` as for :func:`write_tensors`."""
    stored: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    for key, tensor in module.state_dict().items():
        first = stored.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), key)
        if tensor.numel() and first != key:
            tied[key] = first
        else:
            tensors[key] = tensor.detach().cpu().to(dtype if dtype and tensor.is_floating_point() else tensor.dtype)
    notes = {"format": "pt", **metadata, **({_ALIASES: json.dumps(tied)} if tied else {})}
    return write_tensors(tensors, path, notes, max_size)


def write_tensors(
    tensors: dict[str, torch.Tensor], path: Path, metadata: Mapping[str, str], max_size: int | None = None
) -> Located:
    """Write CPU tensors to a safetensors file. What exceeds ``max_size`` bytes goes to several files and an index.

    The index is the Hub's (``metadata.total_size``, ``weight_map``); its ``metadata.sha256`` has the hash of each shard,
    so that the hash of the index stands for them all. Every file is written whole or not at all, the index last.
    """
    from huggingface_hub import split_state_dict_into_shards_factory

    split = split_state_dict_into_shards_factory(
        tensors,
        get_storage_size=lambda tensor: tensor.nbytes,
        filename_pattern=path.stem + "{suffix}" + path.suffix,
        max_shard_size=max_size or sum(tensor.nbytes for tensor in tensors.values()),
    )
    hashes = {}
    for name, keys in (split.filename_to_tensors or {path.name: []}).items():
        with atomic_path(path.with_name(name)) as temporary:
            tensorfile.write({key: tensors[key] for key in keys}, temporary, metadata)
        hashes[name] = sha256_of(path.with_name(name))
    if split.is_sharded:
        path = path.with_name(path.name + INDEX)
        index = {"metadata": split.metadata | {"sha256": hashes}, "weight_map": split.tensor_to_filename}
        write_atomically(path, (json.dumps(index, indent=2) + "\n").encode())
    return Located(path, "folder", sha256_of(path))


def fetch_weights(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool | None = None,
) -> Fetched:
    """As :func:`stzoo.hub.fetch`; if the file is an index, the shards it names are fetched to the same place and checked."""
    from stzoo import hub

    found = hub.fetch(repo_id, filename, revision=revision, sha256=sha256, offline=offline)
    for shard in shards(found.path):
        hub.fetch(repo_id, shard, revision=found.commit, offline=offline)
    check_shards(found.path, repo_id)
    return found


def shards(path: Path) -> dict[str, str]:
    """The files that an index names, which lie beside it, with their hashes; nothing for a file that is no index.

    Raises WeightsCorrupted for an index that states no hashes.
    """
    if path.suffix != ".json":
        return {}
    try:
        hashes: dict[str, str] = json.loads(path.read_text())["metadata"]["sha256"]
        if hashes and all(_SHARD.fullmatch(name) and isinstance(digest, str) for name, digest in hashes.items()):
            return hashes
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise errors.WeightsCorrupted(f"{path} is not an index with the sha256 of each shard", "Save the model again")


def check_shards(path: Path, name: str, *, remember: bool = True) -> None:
    """Compare the shards that an index names with their hashes. Raises WeightsUnavailable or WeightsCorrupted."""
    for shard, expected in shards(path).items():
        file = path.parent / shard
        if not file.is_file():
            raise errors.WeightsUnavailable(f"{name}: {file} is missing", "Save or download the model again")
        if (digest := sha256_of(file, remember=remember)) != expected:
            raise errors.WeightsCorrupted(
                f"{name}: {file} has sha256 {digest}, {path.name} says {expected}", "Save or download the model again"
            )
