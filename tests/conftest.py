"""Shared by all tests: helper modules can be imported, and nothing of the user's own caches or settings is used."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# Set before anything is imported: huggingface_hub reads its settings once.
_home = tempfile.TemporaryDirectory(prefix="stzoo-tests-")
os.environ["HF_HOME"] = _home.name
for variable in [name for name in os.environ if name.startswith(("STZOO_", "HF_HUB_")) or name in ("HF_TOKEN", "HF_ENDPOINT")]:
    del os.environ[variable]
