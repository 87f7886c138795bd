"""What a run is asked to do: keywords, a config file, or a run folder that goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.training.options import FREE, OPTIONS, read_file, resolve
from stzoo.training.run import Run


@dataclass
class Request:
    """Everything that is settled before a model is loaded."""

    model: str
    data: Any
    output: Path
    resume: bool
    options: dict[str, Any]
    given: frozenset[str]
    """Names of the options that somebody chose."""


def make_request(model: Any, data: Any, output: Any, resume: bool, config: Any, options: Mapping[str, Any]) -> Request:
    given = dict(config if isinstance(config, Mapping) else read_file(Path(config)) if config is not None else {})
    for one, other in (("steps", "epochs"), ("epochs", "steps")):  # the length that is asked for now wins
        if options.get(one) is not None:
            given.pop(other, None)
    given |= options
    own = {"model": model, "data": data, "output": output}
    for key, value in own.items():
        found = given.pop(key, None)
        own[key] = value if value is not None else found
    if own["output"] is None:
        raise errors.ConfigError("there is no folder to train into", "Give output, a new folder")
    folder = Path(own["output"]).expanduser()
    if resume:
        run = Run(folder)
        saved = run.config if run.record else {}
        asked = resolve(given)
        named = {key.partition(".")[0] for key in given}
        differing = [key for key in named if key not in FREE and asked[key] != saved[key]]
        differing += [key for key in ("model", "data") if own[key] is not None and as_text(own[key]) != saved[key]]
        if differing:
            listed = ", ".join(f"{key} (was {saved[key]!r})" for key in sorted(differing))
            raise errors.ConfigError(
                f"{folder} was started with other settings: {listed}", "Leave them out to go on with it"
            )
        if own["data"] is None and saved["data"] == as_text([]):
            raise errors.ConfigError(f"{folder} was started with data in memory", "Give the same data again")
        own = {"model": saved.pop("model"), "data": own["data"] or saved.pop("data")}
        saved = {key: value for key, value in saved.items() if key in OPTIONS}
        settings = resolve({}) | saved | {key: asked[key] for key in named}  # an older stzoo knew fewer options
        chosen = frozenset(settings)
    else:
        for key in ("model", "data"):
            if own[key] is None:
                raise errors.ConfigError(f"there is no {key} to train", f"Give {key}")
        if not isinstance(own["model"], (str, os.PathLike)):
            raise errors.ConfigError(
                f"the model is a {type(own['model']).__name__}", "Give a name, a repo id, or a folder that save() wrote"
            )
        settings = resolve(given)
        chosen = frozenset(key.partition(".")[0] for key in given)
    return Request(os.fspath(own["model"]), own["data"], folder, resume, settings, chosen)


def as_text(data: Any) -> Any:
    """Data as config file and record name it."""
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    if isinstance(data, Mapping):
        return {role: as_text(source) for role, source in data.items()}
    return getattr(data, "name", "(in memory)")
