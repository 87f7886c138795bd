"""Captures that come with the plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HOTDOG = Path(__file__).parent / "hotdog.zip"


def views(split: str, background: str = "white") -> Sequence[Mapping[str, Any]]:
    """Views of the hotdog, each with its camera; every eighth is for testing."""
    from stzoo_reconstruction.captures import reader

    found = reader(HOTDOG, background=background)
    assert found is not None
    return found[split]


def captures(split: str) -> Sequence[Mapping[str, Any]]:
    """The hotdog as one capture."""
    return [{"views": str(HOTDOG)}]
