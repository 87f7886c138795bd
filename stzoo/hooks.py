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
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, distributions
from typing import Any, Final

import pluggy

from stzoo.errors import PluginError, StzooError
from stzoo.spec import PLUGIN_API, Architecture, Dataset, Model, Task

GROUP: Final = "stzoo"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

KINDS: Final[dict[str, type[Any]]] = {
    "tasks": Task,
    "architectures": Architecture,
    "models": Model,
    "datasets": Dataset,
}
HEAVY: Final = ("torch", "gradio", "datasets", "accelerate", "transformers")


@hookspec
def stzoo_tasks() -> Iterable[Task]:
    """Tasks this plugin declares."""
    return ()


@hookspec
def stzoo_architectures() -> Iterable[Architecture]:
    """Architectures this plugin can build."""
    return ()


@hookspec
def stzoo_models() -> Iterable[Model]:
    """Models of the zoo this plugin brings."""
    return ()


@hookspec
def stzoo_datasets() -> Iterable[Dataset]:
    """Named datasets this plugin can load."""
    return ()


@dataclass
class Plugin:
    """What became of one entry point."""

    name: str
    module: str
    distribution: str = ""
    version: str = ""
    built_in: bool = False
    """Whether it is one of stzoo's own, which keep a name that a third party also uses."""
    status: str = "ok"
    """``ok``, ``conflict`` (usable, some short names belong to others), ``slow`` (still loading) or ``failed``."""
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    specs: dict[str, list[Any]] = field(default_factory=dict)
    loader: _Loader | None = field(default=None, repr=False)

    def fail(self, reason: str, trace: str = "") -> None:
        """Take everything back: a plugin registers as a whole or not at all."""
        self.status, self.reason, self.traceback, self.specs = "failed", reason, trace, {}

    def settle(self, seconds: float) -> bool:
        """Wait that long for the import; True if it has ended, well or not. Only then is this record filled in."""
        loader = self.loader
        if loader is None:
            return True
        loader.join(seconds)
        if loader.is_alive():
            self.status = "slow"
            self.reason = (
                f"took more than {time_limit():g} s to import and is still loading; its models are waited for only "
                "when one is asked for by name"
            )
            return False
        self.status, self.reason, self.seconds = "ok", "", loader.seconds
        self.specs, self.warnings = loader.specs, loader.warnings
        if loader.problem:
            self.fail(*loader.problem)
        self.loader = None
        return True


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
    wanted = None if allowed is None else allowed.replace(",", " ").split()
    seen: dict[str, str] = {}
    for plugin, entry in sorted(
        _installed(built_in), key=lambda found: (not found[0].built_in, found[0].name, found[0].distribution)
    ):
        if wanted is not None and (plugin.name not in wanted if wanted else not plugin.built_in):
            continue
        if plugin.name in seen:
            owner = seen[plugin.name]
            plugin.fail(
                f"the plugin name {plugin.name!r} is taken by the distribution {owner!r}: uninstall one of them"
            )
        elif entry:
            seen[plugin.name] = plugin.distribution
            plugin.loader = _Loader(entry)
            plugin.loader.start()
            plugin.settle(time_limit())
        yield plugin


def _installed(built_in: dict[str, str]) -> Iterator[tuple[Plugin, EntryPoint | None]]:
    """Every entry point of the group. Distributions are read one by one, since one may have unreadable metadata."""
    known: set[str] = set()
    for distribution in distributions():
        name = version = ""
        try:
            entries = distribution.entry_points.select(group=GROUP)
        except Exception as error:  # a distribution that nobody can read must not hide the others
            if f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or ""):
                plugin = Plugin(str(getattr(distribution, "_path", "unknown")), "")
                plugin.fail(f"its entry_points.txt cannot be read ({one_line(error)})", traceback.format_exc())
                yield plugin, None
            continue
        if entries:
            with suppress(Exception):  # the same goes for the rest of the metadata
                name, version = distribution.name, distribution.version
        if name not in known:  # a second one of this name is shadowed by the first on the path
            known |= {name} - {""}
            for entry in entries:
                owner = built_in.get(entry.name)
                yield (
                    Plugin(entry.name, entry.value, name, version, built_in=owner is not None and owner == name),
                    entry,
                )


class _Loader(threading.Thread):
    """Imports one plugin and runs its hooks, letting nothing out."""

    def __init__(self, entry: EntryPoint) -> None:
        super().__init__(daemon=True, name=f"stzoo-plugin-{entry.name}")
        self.entry = entry
        self.specs: dict[str, list[Any]] = {}
        self.problem: tuple[str, str] | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0

    def run(self) -> None:
        start, before = time.perf_counter(), set(sys.modules)
        alone = not any(isinstance(thread, _Loader) and thread is not self for thread in threading.enumerate())
        try:
            self.specs = _specs_of(self.entry)
            if not any(self.specs.values()):
                self.warnings.append("registers nothing: are its hooks marked with @stzoo.hookimpl?")
        except BaseException as error:  # a plugin may also raise SystemExit, and must not take stzoo down
            self.problem = one_line(error), traceback.format_exc()
        heavy = [name for name in HEAVY if name in sys.modules and name not in before]
        if heavy and alone:  # beside another one nobody knows whose import it was
            self.warnings.append(f"imports {', '.join(heavy)} when it is listed: import inside functions instead")
        self.seconds = time.perf_counter() - start


def loading() -> bool:
    """Whether this is a plugin being imported."""
    return isinstance(threading.current_thread(), _Loader)


def one_line(error: BaseException) -> str:
    """The exception as one line of text."""
    if isinstance(error, StzooError):
        return str(error)
    text = " ".join("".join(traceback.format_exception_only(error)).split()).removeprefix("pluggy._manager.")
    return text if len(text) <= 300 else text[:300] + " ..."


def _specs_of(entry: EntryPoint) -> dict[str, list[Any]]:
    """What the plugin's hooks yield, by kind; raises whatever it raises, or PluginError."""
    module = entry.load()
    api = getattr(module, "PLUGIN_API", PLUGIN_API)
    if api != PLUGIN_API:
        raise PluginError(
            f"was written for plugin API {api!r}, this stzoo speaks {PLUGIN_API}: change its or stzoo's version"
        )
    specs: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    taken: set[tuple[str, str]] = set()
    for kind, spec in _run_hooks(module, entry.name):
        if type(spec) is not KINDS[kind]:
            raise PluginError(f"stzoo_{kind} yielded {spec!r:.80}, which is not a {KINDS[kind].__name__}")
        for name in (spec.name, *getattr(spec, "aliases", ())):
            if (kind, name) in taken:
                raise PluginError(f"stzoo_{kind} declares {name!r} twice")
            taken.add((kind, name))
        specs[kind].append(spec if kind == "tasks" else replace(spec, plugin=entry.name))
    return specs


def _run_hooks(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What each hook implementation of one plugin yields, with the kind; pluggy checks names and signatures."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(sys.modules[__name__])
    manager.register(module, name)
    manager.check_pending()
    for kind in KINDS:
        for specs in getattr(manager.hook, f"stzoo_{kind}")():
            if not isinstance(specs, Iterable):
                raise PluginError(f"stzoo_{kind} returned {specs!r:.80}, it must yield {KINDS[kind].__name__} specs")
            yield from ((kind, spec) for spec in specs)
