"""Plugins as third parties would write them, with weights of their own. PYTEST_DONT_REWRITE: there are no assertions here."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from stzoo import registry


@dataclass(frozen=True)
class Toy:
    name: str
    """Of the package."""
    source: str
    """Its module, where SHA256 and SIZE stand for those of its weights."""
    net: str
    """Its module ``net``."""

    def write(self, site: Path) -> None:
        """Make the plugin in a folder; whoever has that on the path has it installed."""
        weights = save({"gain": torch.ones(1)})
        info, package = site / f"{self.name}-1.0.dist-info", site / self.name
        for folder in (info, package / "weights"):
            folder.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[stzoo]\n{self.name} = {self.name}\n")
        source = self.source.replace("SHA256", hashlib.sha256(weights).hexdigest()).replace("SIZE", str(len(weights)))
        (package / "__init__.py").write_text(source)
        (package / "net.py").write_text(self.net)
        (package / "weights" / "net.safetensors").write_bytes(weights)

    @contextmanager
    def installed(self, folder: Path) -> Iterator[None]:
        """This process finds the plugin; nothing of this machine's own folders is used."""
        self.write(site := folder / "site")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(site)
            patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
            patch.setenv("STZOO_CACHE", str(folder / "cache"))
            patch.setenv("NO_PROXY", "127.0.0.1,localhost")
            registry._registry.cache_clear()
            yield
        registry._registry.cache_clear()
        for name in (self.name, f"{self.name}.net"):
            sys.modules.pop(name, None)
