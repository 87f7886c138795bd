"""Models that others publish: whether, where and from what they were converted (:mod:`stzoo.imports` does it)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stzoo import download, errors, files
from stzoo.registry import as_plain, registry
from stzoo.spec import Model
from stzoo.weights import Located

RECORD = ".json"
"""Ending of the record that lies beside converted weights."""


def terms(model: Model) -> str:
    """The licence of a model's weights, in a few words."""
    return f"licence {model.license}" + (", no commercial use" if model.non_commercial else "")


def record_of(model: Model) -> dict[str, Any] | None:
    """What was recorded when the model was imported; None if it was not, or was something else then. Makes no request."""
    path = place(model)
    try:
        record: dict[str, Any] = json.loads(path.with_suffix(RECORD).read_text())
        same = all(record[key] == value for key, value in identity(model).items()) and path.is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if same and model.source and model.source.sha256 in (None, record.get("source_sha256")) else None


def usable(model: Model) -> bool:
    """Whether a model needs no import, or not any more."""
    return model.source is None or record_of(model) is not None


def locate(model: Model) -> Located:
    """The converted weights. Raises WeightsUnavailable if there are none, and WeightsCorrupted if they were changed."""
    record, path = record_of(model), place(model)
    if record is None:
        raise errors.WeightsUnavailable(
            f"{model.name} was not imported yet: others publish it, at {address(model)} ({terms(model)})",
            f"Run: stzoo import {model.name}",
        )
    if (digest := files.sha256_of(path)) != record["sha256"]:
        raise errors.WeightsCorrupted(
            f"{path} has sha256 {digest}, {record['sha256']} was written", f"Run: stzoo import {model.name}"
        )
    return Located(path, "imported", digest)


def identity(model: Model) -> dict[str, Any]:
    """What an imported model must have been made from to be this one."""
    architecture = registry().architecture_of(model)
    config = json.loads(json.dumps(as_plain(architecture.validate(model.config))))
    return {"url": address(model), "architecture": architecture.name, "config": config}


def address(model: Model) -> str:
    """Where others publish it, without passwords."""
    return download.without_secrets(model.source.url) if model.source else ""


def place(model: Model) -> Path:
    """Where the converted weights are."""
    return files.cache_folder() / "imported" / model.plugin / f"{model.name}.safetensors"
