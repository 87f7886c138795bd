"""Checkpoints in the formats of those who published them: read once, converted, and loaded like any other model."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import api, download, errors, files, hub
from stzoo.imported import RECORD, address, identity, locate, place, terms
from stzoo.registry import registry
from stzoo.spec import Architecture, Model

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stzoo.predictor import Predictor
    from stzoo.weights import Located

log = logging.getLogger("stzoo")

_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def import_checkpoint(
    checkpoint: str | os.PathLike[str],
    architecture: str | None = None,
    *,
    device: str | torch.device | None = None,
    **config: Any,
) -> Predictor:
    """Read an official checkpoint: architecture and config are detected from the tensors.

    Pickles are read as tensors and plain containers alone; no code in them is executed.

    Args:
        checkpoint: a file (.pth, .ckpt, .pt, .safetensors ...); its address, ``https://...`` or
            ``hf://owner/name@revision/path/file``; or the name of a model of the zoo that others publish, which
            :func:`stzoo.load` takes from then on.
        architecture: what it is, if the tensors fit several.
        device: as for :func:`stzoo.load`.
        config: what the tensors cannot tell (see ``predictor.report.notes``); it may not contradict them. A model of the
            zoo knows both.

    Raises:
        FormatError: the file cannot be read, nobody recognises it, or it is not what the zoo says.
        WeightsMismatch: a tensor does not fit. WeightsCorrupted, DownloadError, HubError, DiskFull: as
            :func:`stzoo.download.fetch` says. UnknownModel: there is neither such a file nor such a model.
    """
    text = str(checkpoint)
    if (model := named(text)) is not None:
        if architecture or config:
            raise errors.ConfigError(f"the zoo knows the architecture and the config of {text!r}", "Leave them out")
        bring(model)
        return api.load(model.qualified_name, device=device)
    from stzoo import formats
    from stzoo.predictor import LoadReport
    from stzoo.weights import assign_tensors

    start = time.perf_counter()
    candidates = [registry().get(Architecture, architecture)] if architecture else api.architectures()
    file, state = _opened(text, candidates)
    spec, known, detected = formats.recognise(state, candidates, file)
    formats.check_stated(known, config, file)
    full = spec.validate({**detected, **config})
    predictor = api.build(spec, full, LoadReport(file.stem, "checkpoint"), skip_init=True)
    count = assign_tensors(predictor.module, known.convert(state, full), str(file))
    notes = known.unknown(full)
    api.move(predictor, device)
    seconds = round(time.perf_counter() - start, 4)
    predictor.report = LoadReport(
        file.stem, "checkpoint", str(file), None, files.sha256_of(file), str(predictor.dtype), count, seconds, notes
    )
    return predictor


def _opened(
    text: str, candidates: Sequence[Architecture], sha256: str | None = None, size: int | None = None
) -> tuple[Path, dict[str, Tensor]]:
    """The file at a path or an address, and the tensors in it, which may be one of these architectures."""
    from stzoo import formats

    if not download.is_address(text):
        return (file := Path(text).expanduser()), formats.read_checkpoint(file, candidates)
    file = download.fetch(text, sha256=sha256, size=size)
    try:
        return file, formats.read_checkpoint(file, candidates)
    except (errors.FormatError, errors.WeightsCorrupted):
        download.forget(text)  # a file that is no checkpoint is not what will be expected ever after
        raise


# --- models of the zoo that others publish ----------------------------------------------------------------------------


def named(text: str) -> Model | None:
    """The model of the zoo that is meant; None where a file or an address is.

    Raises UnknownModel if it can be neither, and FormatError for a model that needs no import.
    """
    if download.is_address(text) or Path(text).expanduser().exists() or os.sep in text or text.endswith(_ENDINGS):
        return None
    model = api.info(text)
    if not model.source:
        raise errors.FormatError(f"{text} is not a checkpoint to be imported", f'stzoo.load("{text}") loads it')
    return model


def bring(model: Model) -> Located:
    """Download and convert, if that was not done yet. Raises what :func:`import_checkpoint` raises."""
    path = place(model)
    with files.room(path.parent, "Free some space, or set STZOO_CACHE to a folder on a larger disk"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with hub.utilities().WeakFileLock(path.with_suffix(".lock")):
            try:
                return locate(model)
            except (errors.WeightsUnavailable, errors.WeightsCorrupted):
                level = logging.WARNING if model.non_commercial else logging.INFO
                log.log(level, "%s comes from %s: %s", model.name, address(model), terms(model))
                _convert(model, path)
    return locate(model)


def _convert(model: Model, path: Path) -> None:
    from stzoo import formats
    from stzoo.predictor import LoadReport
    from stzoo.weights import assign_tensors, save_tensors

    assert model.source
    architecture = registry().architecture_of(model)
    file, state = _opened(model.source.url, [architecture], model.source.sha256, model.source.size)
    spec, known, detected = formats.recognise(state, [architecture], file)
    formats.check_stated(known, model.config, file)
    full = spec.validate(model.config)
    predictor = api.build(spec, full, LoadReport(model.name, "checkpoint"), skip_init=True, model=model)
    try:
        assign_tensors(predictor.module, known.convert(state, full), model.name)
    except errors.WeightsMismatch as problem:
        other = ", ".join(
            f"{key} is {value!r}, not {full[key]!r}" for key, value in detected.items() if value != full.get(key, value)
        )
        raise errors.FormatError(
            f"{file}, from {address(model)}, is not the {model.name} of the zoo: {other or problem.problem}",
            "Tell the author of the plugin; stzoo.import_checkpoint(address) reads it for what it is",
        ) from problem
    fingerprint = predictor.fingerprint()
    stored = save_tensors(predictor.module, path, {"stzoo": architecture.name})
    record = identity(model) | {
        "sha256": stored.sha256,
        "source_sha256": files.sha256_of(file),
        "imported": time.strftime("%Y-%m-%d"),
        "fingerprint": fingerprint,
    }
    files.write_atomically(path.with_suffix(RECORD), (json.dumps(record, indent=2) + "\n").encode())
