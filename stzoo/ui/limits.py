"""What a demo accepts from strangers: limits with their defaults. Each is a keyword of :func:`stzoo.demo`, a flag of
``stzoo demo`` and an environment variable (``STZOO_DEMO_MAX_FILE_SIZE`` …). Imports no gradio.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from stzoo.errors import InputError
from stzoo.fields import Number, complete_values

LIMITS = {
    item.name: item
    for item in (
        Number("max_file_size", "Megabytes of one uploaded file", 50, minimum=0.001),
        Number("max_upload", "Megabytes of one upload, with all its files", 200, minimum=0.001),
        Number("upload_time", "Seconds that an upload may take", 300, minimum=0.1),
        Number("connections", "Requests answered at a time; an open page is one or two", 1000, minimum=1, integer=True),
        Number("max_pixels", "Millions of pixels of one input, over all its frames", 16, minimum=0.001),
        Number("max_frames", "Frames of one input", 1000, minimum=1, integer=True),
        Number("time_limit", "Seconds that a prediction may take", 120, minimum=0.1),
        Number("queue", "Predictions that may wait; more are refused", 64, minimum=1, integer=True),
        Number("concurrency", "Predictions at a time", 1, minimum=1, integer=True),
        Number("models", "Models kept in memory", 4, minimum=1, integer=True),
    )
}
Limits = Mapping[str, Any]


def limits(given: Mapping[str, Any]) -> Limits:
    """Every limit: as given, else from the environment, else its default. Raises InputError."""
    variables = {name: f"STZOO_DEMO_{name.upper()}" for name in LIMITS}
    environment = {name: os.environ[key] for name, key in variables.items() if os.environ.get(key)}
    return complete_values(LIMITS, environment | dict(given), "the demo", InputError)
