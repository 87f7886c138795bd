"""What a run can be told: every option with its default, from keywords, a YAML file and ``key=value`` words."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo.errors import ConfigError
from stzoo.fields import Choice, Number, Value, complete_values, suggestion


@dataclass(frozen=True)
class Text(Value):
    """Any text, also that of a path, or none."""

    def accepted(self) -> str:
        return "text"

    def parse(self, value: Any) -> str | None:
        if value is not None and not isinstance(value, (str, os.PathLike)):
            raise ValueError(f"must be {self.accepted()}")
        return os.fspath(value) if value else None


@dataclass(frozen=True)
class Names(Value):
    """A list of names; as text, with commas between them."""

    def accepted(self) -> str:
        return "a list of names"

    def parse(self, value: Any) -> list[str]:
        if isinstance(value, str):
            value = [item.strip() for item in value.strip("[]").split(",") if item.strip()]
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"must be {self.accepted()}")
        return list(value)


@dataclass(frozen=True)
class Table(Value):
    """A mapping of names to values; as text, a JSON object."""

    def accepted(self) -> str:
        return 'a mapping of names to values, such as {"NAME": VALUE}'

    def parse(self, value: Any) -> dict[str, Any]:
        """As a file gives it back: with lists for tuples and arrays."""
        try:
            text = value if isinstance(value, str) else json.dumps(value, default=lambda item: item.tolist())
            found = json.loads(text)
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"must be {self.accepted()}") from None
        if not isinstance(found, dict):
            raise ValueError(f"must be {self.accepted()}")
        return found


def _whole(name: str, description: str, default: int | None, minimum: int = 1) -> Number:
    return Number(name, description, default=default, minimum=minimum, integer=True)


OPTIONS: dict[str, Value] = {
    item.name: item
    for item in (
        Number("epochs", "Passes over the data; default: 10", default=None, minimum=1e-9),
        _whole("steps", "Optimizer steps, instead of epochs", None),
        _whole("batch_size", "Samples of one process in one pass", 8),
        _whole("accumulate", "Passes whose gradients make one step", 1),
        Choice(
            "precision",
            "Of the forward pass; default: Accelerate's own configuration",
            default=None,
            choices=(None, "no", "bf16", "fp16"),
        ),
        Number("clip", "Largest norm of the gradient", default=None, minimum=1e-12),
        Number("ema", "Decay of a moving average of the weights, which is then what is evaluated and kept", default=None, minimum=0, maximum=0.999999),
        Choice("compile", "torch.compile the network", default=False, choices=(True, False)),
        Choice("channels_last", "Convolutions in the channels-last layout", default=False, choices=(True, False)),
        Names("freeze", "Parameters to leave as they are; * stands for anything", default=[]),
        Table("lr_scale", "Factors of the learning rate by name of the parameter; * stands for anything", default={}),
        Text("revision", "Branch, tag or commit of a model on the Hub", default=None),
        Text("split", "The part of the data to train on", default="train"),
        Text("validation", "Data to evaluate on; default: the validation split, or the end of the training data", default=None),
        Number("holdout", "Share of the training data that is held out where there is no validation split", default=0.1, minimum=0.001, maximum=0.9),
        Choice("streaming", "Read the data in order, for what does not fit on the disk; every process reads all of it, and a run that goes on reads again what it had", default=False, choices=(True, False)),
        _whole("shuffle_buffer", "Examples to shuffle among when streaming", 1000),
        _whole("evaluate_every", "Steps between evaluations; default: ten evaluations", None),
        _whole("evaluate_examples", "Most examples of an evaluation", 64),
        Text("monitor", "The metric that decides which weights are best; default: the task's first", default=None),
        _whole("patience", "Stop after so many evaluations without a better one", None),
        _whole("checkpoint_every", "Steps between checkpoints; default: as evaluations", None),
        _whole("keep", "Checkpoints to keep", 2),
        _whole("pictures", "Examples whose predictions are drawn at each evaluation", 3, 0),
        _whole("log_every", "Steps between entries of the log", 10),
        Names("trackers", "Where else to log: tensorboard, wandb, or any other of Accelerate's", default=["tensorboard"]),
        _whole("workers", "Processes that read the data; 0: the training process itself", 0, 0),
        _whole("seed", "Of everything random", 0, 0),
        Table("options", "The task's options for evaluation", default={}),
        Table("recipe", "Settings of the architecture's recipe, such as lr", default={}),
        Table("model_config", "Changes to the model's config", default={}),
    )
}  # fmt: skip
"""The options of a run by name."""

FREE = ("trackers", "log_every", "keep", "workers", "pictures")
"""Options that change nothing about the weights: they may differ when a run is resumed."""


def resolve(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option, checked; ``"recipe.lr"`` sets a key inside a table. Raises ConfigError naming the key."""
    nested: dict[str, Any] = {}
    for key, value in given.items():
        table, dot, inner = key.partition(".")
        if not dot:
            nested[key] = {**nested.get(key, {}), **value} if isinstance(value, Mapping) else value
        elif isinstance(OPTIONS.get(table), Table) and isinstance(nested.get(table, {}), Mapping):
            nested[table] = {**nested.get(table, {}), inner: value}
        else:
            raise ConfigError(f"a run has no option {key!r}", suggestion(table, list(OPTIONS)))
    if nested.get("steps") is not None and nested.get("epochs") is not None:
        raise ConfigError("steps and epochs are both given", "Give one of them")
    values = complete_values(OPTIONS, nested, "a run")
    for pattern, factor in values["lr_scale"].items():
        try:
            values["lr_scale"][pattern] = Number("lr_scale", minimum=0).parse(factor)
        except ValueError as problem:
            raise ConfigError(f"lr_scale[{pattern!r}]={factor!r} {problem}") from None
    return values


def read_file(path: Path) -> dict[str, Any]:
    """The options in a YAML file. Raises ConfigError if it is not one."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise ConfigError(f"{path} cannot be read as YAML ({' '.join(str(problem).split())})") from problem
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{path} does not hold a mapping of options", f"Options: {', '.join(OPTIONS)}")
    return found


def parse_words(words: Iterable[str]) -> dict[str, Any]:
    """``["recipe.lr=1e-4", "steps=100"]`` as options; values are read as YAML reads them, and numbers like ``1e-4`` too."""
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {word} sets nothing", "Write --set KEY=VALUE")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if isinstance(value, str):  # YAML takes 1e-4 for text
            with contextlib.suppress(ValueError):
                value = float(value)
        found[key] = value
    return found
