"""Plain values: options of a task, keys of a config."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from stzoo.errors import ConfigError, StzooError
from stzoo.fields.base import Value, suggestion


@dataclass(frozen=True)
class Number(Value):
    """A number, whole where ``integer``, inside [minimum, maximum]."""

    minimum: float = -math.inf
    maximum: float = math.inf
    integer: bool = False
    ui: ClassVar[str] = "stzoo.ui.components:NumberWidget"

    def accepted(self) -> str:
        kind = "a whole number" if self.integer else "a number"
        low, high = self.minimum > -math.inf, self.maximum < math.inf
        if low and high:
            return f"{kind} from {self.minimum:g} to {self.maximum:g}"
        return kind + (f" of at least {self.minimum:g}" if low else f" of at most {self.maximum:g}" if high else "")

    def parse(self, value: Any) -> Any:
        if value is None and self.default is None:
            return None
        if isinstance(value, str):
            try:
                value = int(value) if self.integer else float(value)
            except ValueError:
                raise ValueError(f"must be {self.accepted()}") from None
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or (self.integer and value % 1 != 0) or not self.minimum <= value <= self.maximum:
            raise ValueError(f"must be {self.accepted()}")
        return int(value) if self.integer else float(value)


@dataclass(frozen=True)
class Choice(Value):
    """One of a few values."""

    choices: tuple[Any, ...] = ()
    words: tuple[str, ...] = ()
    """What people read for each choice, where its own text says little: ``("the same", "different")`` for True and False."""
    ui: ClassVar[str] = "stzoo.ui.components:ChoiceWidget"

    def accepted(self) -> str:
        return "one of " + ", ".join(repr(item) for item in (*self.choices, *self.words))

    def told(self, value: Any) -> str:
        return self.words[self.choices.index(value)] if self.words else super().told(value)

    def parse(self, value: Any) -> Any:
        for index, choice in enumerate(self.choices):
            spelled = (str(choice).lower(), *(word.lower() for word in self.words[index : index + 1]))
            if value == choice or (isinstance(value, str) and value.lower() in spelled):
                return choice
        raise ValueError(f"must be {self.accepted()}")


@dataclass(frozen=True)
class Shape(Value):
    """A fixed number of positive whole numbers, such as (frames, channels, height, width)."""

    axes: tuple[str, ...] = ()

    def accepted(self) -> str:
        return f"{len(self.axes)} positive whole numbers ({', '.join(self.axes)})"

    def parse(self, value: Any) -> Any:
        if isinstance(value, str):
            value = [int(part) if part.strip().isdigit() else part for part in value.strip("()[] ").split(",")]
        whole = isinstance(value, (tuple, list)) and all(type(item) is int and item > 0 for item in value)
        if not whole or len(value) != len(self.axes):
            raise ValueError(f"must be {self.accepted()}")
        return tuple(value)


@dataclass(frozen=True)
class Size(Value):
    """Height and width in pixels; one number means a square."""

    def accepted(self) -> str:
        return "HEIGHTxWIDTH in pixels, or one number for both"

    def parse(self, value: Any) -> tuple[int, int] | None:
        if value is None and self.default is None:
            return None
        parts = value.lower().split("x") if isinstance(value, str) else value
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        if len(parts) > 2 or not all(str(part).isdigit() and int(part) > 0 for part in parts):
            raise ValueError(f"must be {self.accepted()}")
        return int(parts[0]), int(parts[-1])


def as_value(name: str, default: Any) -> Value:
    """The field that accepts what a plain default stands for."""
    if isinstance(default, Value):
        return default
    if isinstance(default, bool):
        return Choice(name, default=default, choices=(True, False))
    if isinstance(default, (int, float)):
        return Number(name, default=default, integer=isinstance(default, int))
    return _Same(name, default=default)


@dataclass(frozen=True)
class _Same(Value):
    """Anything of the same type as the default."""

    def accepted(self) -> str:
        return "anything" if self.default is None else f"of type {type(self.default).__name__}"

    def parse(self, value: Any) -> Any:
        if isinstance(value, str) and not isinstance(self.default, str):
            with contextlib.suppress(ValueError):  # other text is accepted only where the default is None
                value = json.loads(value)
        if isinstance(self.default, tuple) and isinstance(value, list):
            value = tuple(value)
        if self.default is not None and not isinstance(value, type(self.default)):
            raise ValueError(f"must be {self.accepted()}")
        return value


def query_options(query: str, source: str, error: type[StzooError]) -> dict[str, str]:
    """The options that are written behind the question mark of ``source``."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        raise error(
            f"the options of {source!r} cannot be read", "Write them as NAME?option=value&option=value"
        ) from None


def complete_values(
    declared: Mapping[str, Any], given: Mapping[str, Any], owner: str, error: type[StzooError] = ConfigError
) -> dict[str, Any]:
    """``given`` checked against ``declared`` defaults (plain values or fields), with the missing ones filled in."""
    if not isinstance(given, Mapping):
        raise error(f"{owner}: the config is a {type(given).__name__}, not a mapping of keys to values")
    for key in given:
        if key not in declared:
            raise error(f"{owner} has no {key!r}", suggestion(str(key), list(declared)))
    values = {}
    for key, default in declared.items():
        value = as_value(key, default)
        try:
            values[key] = value.parse(given[key]) if key in given else value.default
        except ValueError as problem:
            raise error(f"{owner}: {key}={given[key]!r} {problem}", f"The default is {value.default!r}") from None
    return values
