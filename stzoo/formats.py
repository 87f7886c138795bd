"""Foreign checkpoints to stzoo: read without executing anything, unwrap, detect, convert, or refuse with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stzoo import errors
from stzoo.spec import Architecture, load_reference

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "ema", "model", "model_state_dict", "params_ema", "params", "net", "network")
"""Where training scripts put a state dict; averaged weights come before those they are the average of."""
PREFIXES = ("module.", "model.", "method.", "_orig_mod.")
AVERAGES = ("ema_model.", "model_ema.", "ema.")
"""What stands before the names of a moving average of the weights, in one state dict with the weights."""
PICKLES = (".pth", ".pt", ".ckpt", ".bin")


class Format(Protocol):
    """How one foreign code base stores an architecture's weights."""

    name: str
    # A format may have ``asks``: keys of the config that the tensors cannot tell and that nobody should assume, each with
    # the sentence that helps to answer. Without them a checkpoint is refused.
    # A format whose files are neither safetensors nor PyTorch's has ``endings``, theirs, and ``read(path)``, which gives the
    # tensors in one by name and raises FormatError. It executes nothing.
    # A format that reads files of another architecture, from which this one can be made too, has ``derived = True``: where
    # nobody names the architecture it leaves them to the other one, so that such files stay what they are to everybody else.
    # A format whose PyTorch files hold no mapping has ``unpack(loaded)``: the tensors by name, or None if it is not its own.

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full config, recovered from the tensors; None if the state dict is not this architecture's."""

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same tensors under stzoo's names."""

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Sentences about what the tensors cannot tell, with what was assumed."""


def read_checkpoint(path: Path, architectures: Iterable[Architecture] = ()) -> dict[str, Tensor]:
    """The state dict in a ``.pth``/``.pt``/``.ckpt``/``.safetensors`` file, unwrapped, wrapper prefixes removed.

    Pickles are read with ``weights_only=True``: tensors and plain containers, ``argparse.Namespace`` besides, no code.
    A file with an ending of its own is read by the format, of one of these architectures, that knows it. Raises FormatError.
    """
    if not path.is_file():
        raise errors.FormatError(f"there is no checkpoint file {path}", "One on the Hub is hf://owner/name/FILE")
    if path.stat().st_size == 0:
        raise errors.FormatError(f"the checkpoint file {path} is empty", "Get it again")
    if path.suffix == ".safetensors":
        loaded = _read_safetensors(path)
    elif path.suffix in PICKLES or (reader := _reader(path.suffix, architectures)) is None:
        loaded = _read_pickle(path)
    else:
        loaded = reader(path)
    if not isinstance(loaded, Mapping):
        known = (item for item in _formats(architectures) if hasattr(item, "unpack"))
        loaded = next((state for item in known if (state := item().unpack(loaded)) is not None), loaded)
    return strip_prefixes(unwrap(loaded, path))


def _formats(architectures: Iterable[Architecture]) -> Iterator[Any]:
    return (load_reference(reference) for item in architectures for reference in item.formats)


def _reader(suffix: str, architectures: Iterable[Architecture]) -> Callable[[Path], dict[str, Tensor]] | None:
    """How files with this ending are read, if a format says so."""
    return next(
        (known().read for known in _formats(architectures) if suffix and suffix in getattr(known, "endings", ())), None
    )


def _read_safetensors(path: Path) -> Any:
    from stzoo.tensorfile import read

    return read(path)[0]


def _read_pickle(path: Path) -> Any:
    import argparse
    import collections
    import pickle

    import torch

    allowed: list[Any] = [argparse.Namespace, collections.OrderedDict, collections.defaultdict, dict]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        reason = str(problem).split("WeightsUnpickler error: ")[-1].splitlines()[0]
        raise errors.FormatError(
            f"{path} holds more than tensors and plain containers ({reason}); stzoo does not execute pickles",
            "Save only the state dict with the code that made it: torch.save(model.state_dict(), path)",
        ) from problem
    except Exception as problem:  # a damaged pickle can fail in any way
        raise errors.FormatError(
            f"{path} is not a readable PyTorch checkpoint ({problem})", "Is the file complete?"
        ) from problem


def unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The mapping of names to tensors inside a training checkpoint; plain values among the tensors are left out.

    Of several state dicts side by side, under names that are no wrapper's, all are taken: ``NAME.name`` for each tensor.
    """
    import torch

    for _ in range(4):
        if not isinstance(loaded, Mapping):
            break
        tensors = {
            key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, torch.Tensor)
        }
        if tensors and len(tensors) == len(loaded):
            return tensors
        inner = next((loaded[key] for key in WRAPPERS if _holds_tensors(loaded.get(key))), None)
        if inner is None:
            if parts := {key: value for key, value in loaded.items() if isinstance(key, str) and _all_tensors(value)}:
                return {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
            if tensors and not any(isinstance(value, Mapping) for value in loaded.values()):
                return tensors
            break
        loaded = inner
    found = (
        f"keys {', '.join(map(str, list(loaded)[:6]))}" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
    )
    raise errors.FormatError(
        f"{path} holds no state dict: found {found}",
        f"A state dict is looked for at the top and under {', '.join(WRAPPERS)}",
    )


def _holds_tensors(value: Any) -> bool:
    """Whether it is a mapping with tensors in it, or one that may have a state dict inside."""
    import torch

    return isinstance(value, Mapping) and any(
        key in WRAPPERS or isinstance(item, torch.Tensor) for key, item in value.items()
    )


def _all_tensors(value: Any) -> bool:
    """Whether it is a state dict."""
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in value.items())
    )


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what DDP, Lightning, torch.compile and AveragedModel put before every name, and the latter's counter.

    Of weights and their moving average side by side, the average is taken.
    """
    state = {key: value for key, value in state.items() if key.rpartition(".")[2] != "n_averaged"}
    for average in AVERAGES:
        averaged = {key.removeprefix(average): value for key, value in state.items() if key.startswith(average)}
        if averaged:
            averaged = strip_prefixes(averaged)
            if averaged.keys() == strip_prefixes({k: v for k, v in state.items() if not k.startswith(average)}).keys():
                return averaged
    while prefix := next((item for item in PREFIXES if state and all(key.startswith(item) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def check_tensors(state: Mapping[str, Tensor], build: Callable[[], nn.Module], what: str) -> None:
    """Prove a recovered configuration: the network it builds (on meta) has exactly these tensors.

    Raises:
        FormatError: tensors are missing, too many, or of a shape that does not fit the others.
    """
    import torch

    try:
        with torch.device("meta"):
            expected = build().state_dict()
    except errors.ConfigError as problem:
        raise errors.FormatError(f"this looks like a checkpoint of {what}, but {problem.problem}") from problem
    for wrong, keys in (
        ("missing", expected.keys() - state.keys()),
        ("unexpected", state.keys() - expected.keys()),
        ("of the wrong shape", {k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape}),
    ):
        if keys:
            raise errors.FormatError(
                f"this looks like a checkpoint of {what}, but {len(keys)} of its tensors are {wrong}: "
                f"{', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''}",
                "Is the file complete, and the network unmodified?",
            )


def check_stated(known: Format, config: Mapping[str, Any], path: Path) -> None:
    """Raise FormatError if ``config`` lacks what the format asks for."""
    asks: Mapping[str, str] = getattr(known, "asks", {})
    if missing := [key for key in asks if key not in config]:
        stated = ", ".join(f"{key}=..." for key in missing)
        raise errors.FormatError(
            f"the tensors in {path} cannot tell {' and '.join(missing)}, and the outputs depend on it",
            f"State it, import_checkpoint(path, {stated}) or --set {missing[0]}=...: {'; '.join(asks[key] for key in missing)}",
        )


def recognise(
    state: Mapping[str, Tensor], architectures: list[Architecture], path: Path
) -> tuple[Architecture, Format, dict[str, Any]]:
    """The one architecture, format and config the tensors belong to; raises FormatError if none or several claim them.

    A format that refuses them, because they are damaged or lack what it needs, is heard only if no other one claims them.
    """
    claims: list[tuple[Architecture, Format, dict[str, Any]]] = []
    refused: list[errors.FormatError] = []
    for architecture in architectures:
        for reference in architecture.formats:
            known: Format = load_reference(reference)()
            try:
                config = known.detect(state)
            except errors.FormatError as problem:
                refused.append(problem)
                continue
            if config is not None:
                claims.append((architecture, known, config))
    claims = [claim for claim in claims if not getattr(claim[1], "derived", False)] or claims
    if len(claims) == 1:
        return claims[0]
    if refused and not claims:
        raise refused[0]
    if claims:
        names = ", ".join(architecture.name for architecture, _, _ in claims)
        raise errors.FormatError(
            f"{path} could be any of {names}", "Say which: import_checkpoint(path, architecture=...)"
        )
    tried = ", ".join(architecture.name for architecture in architectures if architecture.formats) or "none"
    raise errors.FormatError(
        f"{path} was not recognised: {len(state)} tensors, the first ones {', '.join(list(state)[:4])}",
        f"Formats of these architectures are known: {tried}",
    )
