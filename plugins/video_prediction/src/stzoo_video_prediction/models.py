"""The models this plugin brings: pure data."""

from __future__ import annotations

from stzoo import Model

MODELS: tuple[Model, ...] = ()
