"""What is behind a scene."""

from __future__ import annotations

from stzoo.errors import ConfigError

_NAMED = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}


def background_of(text: str) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1] of ``white``, ``black`` or ``r,g,b``. Raises ConfigError."""
    if text in _NAMED:
        return _NAMED[text]
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except (AttributeError, ValueError):
        red = green = blue = -1.0
    if not all(0 <= part <= 1 for part in (red, green, blue)):
        raise ConfigError(f"background={text!r}", "Give white, black or three numbers in [0, 1], such as 0.5,0.5,0.5")
    return red, green, blue
