"""The plugin API: four hooks, and the discovery of installed plugins, each isolated from the others.

A plugin is a module or package named by an entry point in the group ``stzoo``. It may define any of the hooks below,
marked with ``@stzoo.hookimpl``; each yields specs. Importing it must not import torch: name code by import strings.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import pluggy

from stzoo.spec import PLUGIN_API, Architecture, Dataset, Model, Task

GROUP: Final = "stzoo"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

KINDS: Final[dict[str, type]] = {"tasks": Task, "architectures": Architecture, "models": Model, "datasets": Dataset}
HEAVY: Final = ("torch", "gradio", "datasets", "accelerate", "transformers")


@hookspec
def stzoo_tasks() -> Iterable[Task]:
    """Tasks this plugin declares."""


@hookspec
def stzoo_architectures() -> Iterable[Architecture]:
    """Architectures this plugin can build."""


@hookspec
def stzoo_models() -> Iterable[Model]:
    """Models of the zoo this plugin brings."""


@hookspec
def stzoo_datasets() -> Iterable[Dataset]:
    """Named datasets this plugin can load."""


@dataclass
class Plugin:
    """What became of one entry point."""

    name: str
    module: str
    distribution: str = ""
    version: str = ""
    status: str = "ok"
    """``ok``, ``conflict`` (usable, some short names belong to others), ``slow`` (still loading) or ``failed``."""
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    specs: dict[str, list[Any]] = field(default_factory=dict)
    thread: threading.Thread | None = field(default=None, repr=False)

    def fail(self, reason: str, trace: str = "") -> None:
        """Take everything back: a plugin registers as a whole or not at all."""
        self.status, self.reason, self.traceback, self.specs = "failed", reason, trace, {}


def time_limit() -> float:
    """Seconds a plugin may take before stzoo goes on without waiting (``STZOO_PLUGIN_TIMEOUT``, default 2)."""
    try:
        return float(os.environ.get("STZOO_PLUGIN_TIMEOUT", "2"))
    except ValueError:
        return 2.0


def discover(built_in: dict[str, str]) -> Iterator[Plugin]:
    """Every plugin that ``STZOO_PLUGINS`` lets in, loaded under guard; built-ins (name -> distribution) come first.

    ``STZOO_PLUGINS`` unset lets all in; otherwise it lists plugin names, and empty means built-ins only.
    """
    allowed = os.environ.get("STZOO_PLUGINS")
    wanted = None if allowed is None else {name for name in allowed.replace(",", " ").split()} or set(built_in)
    found: list[tuple[bool, str, str, EntryPoint]] = []
    for entry in entry_points(group=GROUP):
        distribution = entry.dist.name if entry.dist else ""
        third_party = built_in.get(entry.name) != distribution
        if wanted is None or (entry.name in wanted and (allowed or not third_party)):
            found.append((third_party, entry.name, distribution, entry))
    seen: dict[str, str] = {}
    for _, name, distribution, entry in sorted(found, key=lambda item: item[:3]):
        plugin = Plugin(name, entry.value, distribution, entry.dist.version if entry.dist else "")
        if name in seen:
            plugin.fail(f"the plugin name {name!r} is taken by the distribution {seen[name]!r}")
        else:
            seen[name] = distribution
            plugin.thread = threading.Thread(target=_load, args=(plugin, entry), daemon=True, name=f"stzoo-{name}")
            plugin.thread.start()
            plugin.thread.join(time_limit())
            if plugin.thread.is_alive():
                plugin.status = "slow"
                plugin.reason = (
                    f"took more than {time_limit():g} s to import and is still loading; its models are waited for only "
                    "when one is asked for by name"
                )
        yield plugin


def _load(plugin: Plugin, entry: EntryPoint) -> None:
    """Import the plugin and run its hooks, letting nothing out; fills in ``plugin``."""
    start, before = time.perf_counter(), set(sys.modules)
    try:
        module = entry.load()
        api = getattr(module, "PLUGIN_API", PLUGIN_API)
        if api != PLUGIN_API:
            plugin.fail(f"was written for plugin API {api!r}, this stzoo speaks {PLUGIN_API}: change its or stzoo's version")
            return
        specs: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for kind, yielded in _run_hooks(module, plugin.name):
            if not isinstance(yielded, KINDS[kind]):
                plugin.fail(f"stzoo_{kind} yielded {yielded!r:.80}, which is not a {KINDS[kind].__name__}")
                return
            if any(other.name == yielded.name for other in specs[kind]):
                plugin.fail(f"stzoo_{kind} declares {yielded.name!r} twice")
                return
            specs[kind].append(yielded)
        plugin.specs, plugin.status, plugin.reason = specs, "ok", ""
        if not any(specs.values()):
            plugin.warnings.append("registers nothing: are its hooks marked with @stzoo.hookimpl?")
    except BaseException as error:  # noqa: BLE001 - a plugin may also raise SystemExit, and must not take stzoo down
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        plugin.fail(line, traceback.format_exc())
    finally:
        plugin.seconds = time.perf_counter() - start
        if heavy := [name for name in HEAVY if name in sys.modules and name not in before]:
            plugin.warnings.append(f"imports {', '.join(heavy)} when it is listed: import inside functions instead")


def _run_hooks(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What each hook implementation of one plugin yields, with the kind; pluggy checks names and signatures."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(sys.modules[__name__])
    manager.register(module, name)
    manager.check_pending()
    for kind in KINDS:
        for specs in getattr(manager.hook, f"stzoo_{kind}")():
            for spec in specs:
                yield kind, spec
