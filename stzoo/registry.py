"""Names to specs: look-up, aliases, qualified names, search, conflicts, and the catalogue of what is not installed."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from stzoo import errors
from stzoo.fields import Field, suggestion
from stzoo.hooks import KINDS, Plugin, discover, loading, one_line
from stzoo.spec import Architecture, Dataset, Model, Task, forbids_commercial_use

log = logging.getLogger("stzoo")

PATIENCE: Final = 60.0
"""Seconds that plugins which are still loading are waited for when a name is asked for that nobody else has."""

SpecT = TypeVar("SpecT", Task, Architecture, Model, Dataset)

_UNKNOWN = {
    Task: errors.UnknownTask,
    Architecture: errors.UnknownArchitecture,
    Model: errors.UnknownModel,
    Dataset: errors.UnknownDataset,
}


@dataclass(frozen=True)
class KnownModel:
    """A model of a known plugin that is not installed."""

    name: str
    task: str
    description: str
    license: str
    plugin: str
    install: str

    @property
    def non_commercial(self) -> bool:
        """As :attr:`stzoo.spec.Model.non_commercial`."""
        return forbids_commercial_use(self.license)


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Known plugins by name: distribution, pip command, and the models they bring."""
    plugins: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "catalogue.json").read_text())["plugins"]
    return plugins


class _Tables:
    """Specs by name; filled once, then only read."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.built_in = {plugin.name for plugin in plugins if plugin.built_in}
        self.names: dict[type, dict[str, list[Any]]] = {kind: {} for kind in KINDS.values()}
        """Short names and aliases. Tasks have none: a task is shared by all plugins that declare it alike."""
        self.specs: dict[type, dict[str, Any]] = {kind: {} for kind in KINDS.values()}
        """Qualified names."""

    def add(self, spec: Any) -> None:
        self.specs[type(spec)][_qualified(spec)] = spec
        for name in (spec.name, *spec.aliases):
            self.names[type(spec)].setdefault(name, []).append(spec)

    def owner(self, specs: list[Any]) -> Any:
        """Who keeps a short name that several use: a built-in plugin; among third parties nobody."""
        built_in = [spec for spec in specs if spec.plugin in self.built_in]
        return specs[0] if len(specs) == 1 else built_in[0] if len(built_in) == 1 else None

    def find(self, kind: type[SpecT], name: str) -> SpecT | None:
        """The spec with this name, alias, ``plugin:name`` or ``plugin:alias``; raises AmbiguousName."""
        if found := self.specs[kind].get(name):
            return found  # type: ignore[no-any-return]
        plugin, colon, short = name.rpartition(":")
        candidates = [spec for spec in self.names[kind].get(short, ()) if not colon or spec.plugin == plugin]
        if not candidates or (owner := self.owner(candidates)):
            return owner if candidates else None
        what, choices = kind.__name__.lower(), ", ".join(_qualified(spec) for spec in candidates)
        raise errors.AmbiguousName(f"{len(candidates)} plugins have the {what} {name!r}", f"Say one of: {choices}")

    def architecture_of(self, model: Model) -> Architecture | None:
        """The architecture a model names: its own plugin's before any other's."""
        own = self.specs[Architecture].get(f"{model.plugin}:{model.architecture}")
        return own or self.find(Architecture, model.architecture)


class Registry:
    """All specs of all loaded plugins. Ask :func:`registry` for it."""

    def __init__(self) -> None:
        built_in = {name: entry["distribution"] for name, entry in catalogue().items()}
        self.plugins: list[Plugin] = list(discover(built_in))
        self._register()

    # --- registration -------------------------------------------------------------------------------------------------

    def _register(self) -> None:
        """Fill new tables from the plugins that loaded. One whose specs lead nowhere is left out as a whole, and then
        everything is done again without it, since others may have relied on it."""
        failed = True
        while failed:
            usable = [plugin for plugin in self.plugins if plugin.status in ("ok", "conflict")]
            tables = _Tables(usable)
            failed = False
            for step in (_take_tasks, _take_architectures, _take_models, _note_conflicts):
                for plugin in usable:
                    try:
                        step(tables, plugin)
                    except Exception as error:  # a spec may hold anything, also what cannot be compared
                        plugin.fail(one_line(error), traceback.format_exc())
                        failed = True
                if failed:
                    break
        self._tables = tables
        self.__dict__.pop("not_installed", None)

    def _adopt(self, seconds: float = 0.0) -> bool:
        """Register plugins that have loaded by now, or do within ``seconds``; True if there were any."""
        slow = [plugin for plugin in self.plugins if plugin.status == "slow"]
        if slow and seconds:
            log.warning("waiting up to %g s for slow plugins: %s", seconds, ", ".join(plugin.name for plugin in slow))
        deadline = time.monotonic() + seconds
        settled = [plugin for plugin in slow if plugin.settle(max(0.0, deadline - time.monotonic()))]
        if settled:
            self._register()
        return bool(settled)

    # --- look-up ------------------------------------------------------------------------------------------------------

    def all(self, kind: type[SpecT]) -> list[SpecT]:
        """Every spec of a kind, by name."""
        self._adopt()
        return sorted(self._tables.specs[kind].values(), key=lambda spec: (spec.name, getattr(spec, "plugin", "")))

    def get(self, kind: type[SpecT], name: str) -> SpecT:
        """The spec with this name, alias or qualified name; slow plugins are waited for before giving up.

        Raises UnknownX with the closest names, or AmbiguousName.
        """
        found = self._tables.find(kind, name)
        if found is None and self._adopt(PATIENCE):
            found = self._tables.find(kind, name)
        if found is None:
            raise self._unknown(kind, name)
        return found

    def architecture_of(self, model: Model) -> Architecture:
        """The architecture a model names: its own plugin's before any other's."""
        return self._tables.architecture_of(model) or self.get(Architecture, model.architecture)

    def task_of(self, architecture: Architecture) -> Task:
        """The task of an architecture, with the outputs and options that are its own."""
        return architecture.refined(self.get(Task, architecture.task))

    def _unknown(self, kind: type, name: str) -> errors.StzooError:
        what = kind.__name__.lower()
        limit = f"STZOO_PLUGINS={os.environ['STZOO_PLUGINS']!r}" if "STZOO_PLUGINS" in os.environ else ""
        if kind is Model:
            for known in self.not_installed:
                if name in (known.name, f"{known.plugin}:{known.name}"):
                    broken = next((plugin for plugin in self.plugins if plugin.name == known.plugin), None)
                    if broken:
                        return errors.PluginError(
                            f"model {name!r} belongs to the plugin {broken.name!r}, which failed: {broken.reason}",
                            "Run: stzoo doctor",
                        )
                    return errors.PluginMissing(
                        f"model {name!r} belongs to the plugin {known.plugin!r}, which is not "
                        + (f"in {limit}" if limit else "installed"),
                        f"Add it there, or run: {known.install}" if limit else f"Run: {known.install}",
                    )
        names = [*self._tables.names[kind], *(self._tables.specs[kind] if kind is Task or ":" in name else ())]
        if kind is Model:
            names += [known.name for known in self.not_installed]
        remedy = suggestion(name, names)
        if kind is Model and name.count("/") == 1:
            remedy = "Models of the zoo are meant here. A Hub repo is for load, pull, predict, evaluate and verify"
        if absent := [
            f"{plugin.name} ({plugin.status})" for plugin in self.plugins if plugin.status in ("failed", "slow")
        ]:
            remedy += (
                "" if remedy.endswith("?") else "."
            ) + f" Plugins that did not load: {', '.join(absent)}; run: stzoo doctor"
        if limit:
            remedy += f" Only plugins in {limit} are loaded"
        return _UNKNOWN[kind](f"no {what} is called {name!r}", remedy)

    @cached_property
    def not_installed(self) -> list[KnownModel]:
        """Models of known plugins that are absent or failed, from the catalogue."""
        have = {plugin.name for plugin in self.plugins if plugin.status != "failed"}
        return [
            KnownModel(**model, plugin=name, install=entry["install"])
            for name, entry in catalogue().items()
            if name not in have
            for model in entry["models"]
        ]

    # --- search -------------------------------------------------------------------------------------------------------

    def models(
        self,
        task: str | None = None,
        plugin: str | None = None,
        query: str | None = None,
        architecture: str | None = None,
        license: str | None = None,
        commercial: bool | None = None,
        max_parameters: int | None = None,
    ) -> list[Model]:
        """Models that pass every given filter; ``query`` words must each occur in the name, description, data, tags …"""
        if task is not None:
            self.get(Task, task)
        if plugin is not None and plugin not in (known := [item.name for item in self.plugins]):
            raise errors.UnknownPlugin(f"no plugin is called {plugin!r}", suggestion(plugin, known))
        wanted = None if architecture is None else self.get(Architecture, architecture)
        words = query.lower().split() if query else []

        def keep(model: Model) -> bool:
            text = " ".join(model.words()).lower() if words else ""
            return (
                (task is None or model.task == task)
                and (plugin is None or model.plugin == plugin)
                and (wanted is None or self.architecture_of(model) is wanted)
                and (license is None or model.license.lower() == license.lower())
                and (commercial is None or model.non_commercial != commercial)
                and (max_parameters is None or (model.parameters is not None and model.parameters <= max_parameters))
                and all(word in text for word in words)
            )

        return [model for model in self.all(Model) if keep(model)]


# --- registration, step by step; each is tried plugin by plugin -------------------------------------------------------


def _take_tasks(tables: _Tables, plugin: Plugin) -> None:
    """The first declaration of a task wins."""
    for task in plugin.specs["tasks"]:
        note = f"declares the task {task.name!r} otherwise than the plugin that has it; that one is used"
        if tables.specs[Task].setdefault(task.name, task) != task and note not in plugin.warnings:
            plugin.warnings.append(note)


def _take_architectures(tables: _Tables, plugin: Plugin) -> None:
    """Architectures and data sets, whose task must be known."""
    for spec in (*plugin.specs["architectures"], *plugin.specs["datasets"]):
        if spec.task not in tables.specs[Task]:
            problem = f"{type(spec).__name__.lower()} {spec.name!r} names the unknown task {spec.task!r}"
            raise errors.SpecError(problem, suggestion(spec.task, list(tables.specs[Task])))
        if isinstance(spec, Architecture):
            spec.refined(tables.specs[Task][spec.task])
        tables.add(spec)


def _take_models(tables: _Tables, plugin: Plugin) -> None:
    """Models, which get their task from their architecture."""
    for model in plugin.specs["models"]:
        architecture = tables.architecture_of(model)
        if architecture is None:
            problem = f"model {model.name!r} names the unknown architecture {model.architecture!r}"
            raise errors.SpecError(problem, suggestion(model.architecture, list(tables.names[Architecture])))
        tables.add(replace(model, task=architecture.task))


def _note_conflicts(tables: _Tables, plugin: Plugin) -> None:
    """Say which of the plugin's short names it does not have to itself."""
    notes = []
    for spec in itertools.chain(*plugin.specs.values()):
        for name in () if isinstance(spec, Task) else (spec.name, *spec.aliases):
            specs = tables.names[type(spec)][name]
            if len(specs) > 1 and getattr(tables.owner(specs), "plugin", None) != plugin.name:
                others = " and ".join(repr(other.plugin) for other in specs if other.plugin != plugin.name)
                what = type(spec).__name__.lower()
                notes.append(f"{what} {name!r} is also declared by {others}: say '{_qualified(spec)}'")
    if notes:
        more = f"; and {len(notes) - 3} more" if len(notes) > 3 else ""
        plugin.status, plugin.reason = "conflict", "; ".join(notes[:3]) + more


def _qualified(spec: Any) -> str:
    return f"{spec.plugin}:{spec.name}"


_once = threading.RLock()


def registry() -> Registry:
    """The registry of this process; plugins are discovered at the first call.

    Raises PluginError if a plugin asks while it is being imported.
    """
    if loading():
        raise errors.PluginError("a plugin asked for the registry while it was being imported", "Ask inside functions")
    with _once:
        return _registry()


@cache
def _registry() -> Registry:
    return Registry()


def as_plain(spec: Any) -> Any:
    """A spec as JSON-serialisable data, for ``--json`` and config files."""
    if isinstance(spec, Mapping):
        return {str(key): as_plain(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [as_plain(item) for item in spec]
    if hasattr(spec, "__dataclass_fields__"):
        plain = {item.name: as_plain(getattr(spec, item.name)) for item in fields(spec)}
        return plain | {"type": type(spec).__name__} if isinstance(spec, Field) else plain
    return None if isinstance(spec, float) and not math.isfinite(spec) else spec
