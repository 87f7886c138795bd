"""Where weights are, whether they are intact, and getting them into a module.

Files are safetensors and are known by their sha256. A network is built with its initialisers turned off and the tensors
of the mapped file are assigned to it, so there is neither wasted initialisation nor a second copy in memory.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors
from stzoo.spec import Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger("stzoo")

_CHUNK = 1 << 20
_ALIASES = "stzoo_tied"
"""Key in a safetensors file's metadata: JSON of ``{tied name: name of the tensor that is stored}``."""


# --- bytes ------------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """stzoo's own cache: ``$STZOO_CACHE``, or ``stzoo`` beside the Hub's cache in ``$HF_HOME``."""
    if folder := os.environ.get("STZOO_CACHE"):
        return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME", os.path.join(base, "huggingface"))).expanduser() / "stzoo"


def sha256_of(path: Path, *, remember: bool = True) -> str:
    """The file's sha256. It is computed once and remembered until size, inode or a time stamp changes.

    ``remember=False`` reads every byte again. Setting the modification time back does not help a changed file: the
    change time is compared too.
    """
    status = path.stat()
    identity = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"
    note = cache_folder() / "sha256" / hashlib.sha256(identity.encode()).hexdigest()
    if remember:
        try:
            known = note.read_text()
            if len(known) == 64:
                return known
        except OSError:
            pass
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, digest.encode())
    except OSError as problem:  # a read-only cache costs time, not correctness
        log.debug("cannot remember the hash of %s: %s", path, problem)
    return digest


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename: never a half-written file, never a lost good one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` with the same ending; it takes ``path``'s place if the block succeeds."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as problem:
        if problem.errno == 28:
            raise errors.DiskFull(f"no space left for {path}", "Free some space and try again") from problem
        raise
    finally:
        temporary.unlink(missing_ok=True)


# --- places -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """A verified file."""

    path: Path
    source: str
    """``path``, ``bundled``, ``hub cache`` or ``hub``."""
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
    from stzoo import hub

    try:
        fetched = hub.fetch(
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
    return _logged(name, Located(fetched.path, fetched.source, weights.sha256 or sha256_of(fetched.path), fetched.commit))


def _logged(name: str, located: Located) -> Located:
    log.info("%s: weights from %s (%s), sha256 %s", name, located.source, located.path, located.sha256[:12])
    return located


# --- tensors ----------------------------------------------------------------------------------------------------------


def build(constructor: Callable[..., nn.Module], config: Mapping[str, Any], *, skip_init: bool) -> nn.Module:
    """Build a module; with ``skip_init`` its parameters stay uninitialised memory, to be assigned from a file."""
    if not skip_init:
        return constructor(**config)
    with _no_init_mode():
        return constructor(**config)


def _no_init_mode() -> Any:
    """A mode, local to this thread, under which initialising a parameter does nothing.

    Buffers, persistent or not, are computed as usual: that is what building on the meta device gets wrong.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    initialisers = {function for name, function in vars(torch.nn.init).items() if name.endswith("_") and callable(function)}
    fills = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_}
    parameter = torch.nn.Parameter

    class NoInit(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if args and func in initialisers or func in fills:
                return args[0]
            if args and type(args[0]) is parameter and getattr(func, "__name__", "").endswith("_") and func is not torch.Tensor.requires_grad_:
                if not func.__name__.endswith("__"):
                    return args[0]
            return func(*args, **(kwargs or {}))

    return NoInit()


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a safetensors file, mapped, and its metadata; raises WeightsCorrupted if it is not one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as problem:
        raise errors.WeightsCorrupted(f"{path} is not an intact safetensors file ({problem})", "Get it again") from problem


def assign(module: nn.Module, path: Path, name: str, dtype: torch.dtype | None = None) -> int:
    """Give ``module`` the tensors of the mapped file, checking each one; returns how many it has.

    Floating-point tensors are converted to ``dtype`` (default: the dtype the module was built with); without a conversion
    the module's memory *is* the mapped file (private: training does not change the file).

    Raises:
        WeightsMismatch: listing missing and unexpected tensors, wrong shapes and wrong dtypes.
    """
    tensors, metadata = read_tensors(path)
    for alias, stored in json.loads(metadata.get(_ALIASES, "{}")).items():
        tensors[alias] = tensors[stored]
    return assign_tensors(module, tensors, name, dtype)


def assign_tensors(
    module: nn.Module, tensors: dict[str, torch.Tensor], name: str, dtype: torch.dtype | None = None
) -> int:
    """As :func:`assign`, from tensors in memory."""
    wanted = module.state_dict()
    problems = [f"missing {key}" for key in wanted if key not in tensors]
    problems += [f"unexpected {key}" for key in tensors if key not in wanted]
    converted: dict[int, torch.Tensor] = {}
    for key, target in wanted.items():
        if (tensor := tensors.get(key)) is None:
            continue
        if tensor.shape != target.shape:
            problems.append(f"{key} has shape {tuple(tensor.shape)}, not {tuple(target.shape)}")
        elif tensor.is_floating_point() != target.is_floating_point() or tensor.is_complex() != target.is_complex():
            problems.append(f"{key} has dtype {tensor.dtype}, not {target.dtype}")
        elif tensor.is_floating_point():
            kept = converted.setdefault(id(tensor), tensor.to(dtype or target.dtype))
            tensors[key] = kept
    if problems:
        shown = "; ".join(problems[:12]) + (f"; and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise errors.WeightsMismatch(
            f"{len(problems)} tensors of {name!r} do not fit: {shown}",
            "Are config and weights of the same model? stzoo.import_checkpoint detects the config from a checkpoint",
        )
    parameters = dict(module.named_parameters(remove_duplicate=False))
    tied = {id(parameter): parameter for parameter in parameters.values()}
    module.load_state_dict(tensors, strict=True, assign=True)
    if len(tied) < len(parameters):
        _tie_again(module, parameters)
    return len(wanted)


def _tie_again(module: nn.Module, before: Mapping[str, nn.Parameter]) -> None:
    """``assign`` makes a new Parameter for each name: names that shared one before share one again."""
    first: dict[int, nn.Parameter] = {}
    for key, old in before.items():
        owner, _, attribute = key.rpartition(".")
        holder = module.get_submodule(owner)
        setattr(holder, attribute, first.setdefault(id(old), getattr(holder, attribute)))


def save_tensors(module: nn.Module, path: Path, metadata: Mapping[str, str], dtype: torch.dtype | None = None) -> str:
    """Write the module's state as safetensors, tied tensors once; returns the sha256. Atomic."""
    import torch
    from safetensors.torch import save_file

    stored: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    for key, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if tensor.numel() and place in stored:
            tied[key] = stored[place]
            continue
        stored[place] = key
        plain = tensor.detach().cpu().contiguous()
        tensors[key] = plain.to(dtype) if dtype and plain.is_floating_point() else plain.clone() if plain.data_ptr() == tensor.data_ptr() and _is_view(plain) else plain
    notes = {"format": "pt", **metadata, **({_ALIASES: json.dumps(tied)} if tied else {})}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, notes)
    return sha256_of(path)


def _is_view(tensor: torch.Tensor) -> bool:
    """Whether the tensor covers only a part of its storage (safetensors refuses to write such)."""
    return tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
