"""Prompts in a browser: points, boxes and brushed masks, made on the pictures of another input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.media import masks
from stzoo.ui.components import Widget, untouched
from stzoo.ui.sheets import drawn, pictures, sheet
from stzoo.ui.web import gr


class PromptsWidget(Widget):
    """What is held is what ``Prompts.read`` takes: a list of dicts."""

    looks = False

    @property
    def follows(self) -> str:
        return str(getattr(self.field, "on", ""))

    def ask(self) -> Any:
        made = drawn(self.label, "stzoo-prompts", "frames.js", "prompts.js", value=[], **self._props(None))
        about = {"type": "array", "items": {"type": "object"}, "description": self.field.description}
        made.api_info = lambda: about
        made.example_payload = made.example_value = lambda: [{"frame": 0, "object": 1, "points": [[10, 10, 1]]}]
        return untouched(made)

    def read(self, value: Any) -> Any:
        """JSON, as text or not. A path is refused: it would be one of the server's."""
        if not value:
            raise errors.InputError(f"{self.field.name}: there are no prompts", "Point at something first")
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise errors.InputError(f"{self.field.name}: {value!r:.40} is not valid JSON") from None
        entries = value.get("prompts", [value]) if isinstance(value, dict) else value
        self.refuse(1, sum(map(_pixels, entries)) if isinstance(entries, list) else 0, 1)
        return self.field.read(value, self.requirements)

    def follow(self, value: Any, folder: Path) -> Any:
        frames = None if value is None else pictures(value)
        return gr.HTML(**self._props(None if frames is None else sheet(frames, folder / f"{self.field.name}-below")))

    def _props(self, picture: Any) -> dict[str, Any]:
        """What ``assets/prompts.js`` reads."""
        return {"target": self.follows or "a picture", "colours": masks.colours().tolist(), "picture": picture}

    def example(self, value: Any, folder: Path) -> Any:
        return [item.plain() for item in value]


def _pixels(entry: Any) -> int:
    """What a mask claims to have."""
    try:
        return math.prod(max(0, int(side)) for side in entry["mask"]["size"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0
