"""Where models and data come from, as it is told to others: without the places of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_PATH = re.compile(r"(?<![^\s\"'=,(\[`])(?:~|\.\.|[A-Za-z]:)?[\\/][^\s\"',)\]`]*")


def portable(text: str) -> str:
    """Text without the places of this machine: of every absolute or upward path the last component is left."""
    return _PATH.sub(lambda match: re.split(r"[\\/]", match[0].rstrip("\\/"))[-1], text)


def source_text(source: Any) -> str:
    """A data source (or one for each role) as a card names it."""
    if isinstance(source, Mapping):
        return ", ".join(f"{role}: {source_text(item)}" for role, item in source.items())
    return portable(str(source or ""))
