"""Names to specs: look-up, aliases, qualified names, search, conflicts, and the catalogue of what is not installed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from stzoo import errors
from stzoo.fields import Field, suggestion
from stzoo.hooks import KINDS, Plugin, discover
from stzoo.spec import Architecture, Dataset, Model, Task

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


@cache
def catalogue() -> dict[str, dict[str, Any]]:
    """Known plugins by name: distribution, pip command, and the models they bring."""
    plugins: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "catalogue.json").read_text())["plugins"]
    return plugins


class Registry:
    """All specs of all loaded plugins. Make one with :func:`registry`."""

    def __init__(self) -> None:
        self._built_in = {name: entry["distribution"] for name, entry in catalogue().items()}
        self._names: dict[type, dict[str, list[Any]]] = {kind: {} for kind in KINDS.values()}
        self._specs: dict[type, dict[str, Any]] = {kind: {} for kind in KINDS.values()}
        self.plugins: list[Plugin] = list(discover(self._built_in))
        self._register([plugin for plugin in self.plugins if plugin.status == "ok"])

    # --- registration -------------------------------------------------------------------------------------------------

    def _register(self, plugins: list[Plugin]) -> None:
        """Tasks and architectures of all plugins first, since models and architectures may refer across plugins."""
        for plugin in plugins:
            self._take(plugin, Task, plugin.specs["tasks"])
            self._take(plugin, Architecture, plugin.specs["architectures"])
            self._take(plugin, Dataset, plugin.specs["datasets"])
        for plugin in plugins:
            try:
                for architecture in plugin.specs.get("architectures", ()):
                    self.get(Task, architecture.task, wait=False)
                models = []
                for model in plugin.specs.get("models", ()):
                    model = replace(model, plugin=plugin.name)
                    models.append(replace(model, task=self.architecture_of(model).task))
                self._take(plugin, Model, models)
            except errors.StzooError as error:
                self._drop(plugin)
                plugin.fail(str(error))
        self._note_conflicts()

    def _take(self, plugin: Plugin, kind: type, specs: list[Any]) -> None:
        for spec in specs:
            if kind is Task:
                self._take_task(plugin, spec)
                continue
            spec = replace(spec, plugin=plugin.name)
            self._specs[kind][_qualified(spec)] = spec
            for name in (spec.name, *spec.aliases):
                self._names[kind].setdefault(name, []).append(spec)

    def _take_task(self, plugin: Plugin, task: Task) -> None:
        """A task is shared by plugins that declare it alike; the first declaration wins."""
        owner = self._specs[Task].setdefault(task.name, task)
        if owner != task:
            plugin.warnings.append(f"declares the task {task.name!r} otherwise than the plugin that has it; that one is used")

    def _drop(self, plugin: Plugin) -> None:
        for kind in (Architecture, Dataset):
            for spec in [spec for spec in self._specs[kind].values() if spec.plugin == plugin.name]:
                del self._specs[kind][_qualified(spec)]
                for name in (spec.name, *spec.aliases):
                    self._names[kind][name].remove(spec)

    def architecture_of(self, model: Model) -> Architecture:
        """The architecture a model names: its own plugin's before any other's."""
        own = self._specs[Architecture].get(f"{model.plugin}:{model.architecture}")
        try:
            return own or self.get(Architecture, model.architecture, wait=False)
        except errors.UnknownArchitecture as error:
            problem = f"model {model.name!r} names the unknown architecture {model.architecture!r}"
            raise errors.SpecError(problem, error.remedy) from None

    def _note_conflicts(self) -> None:
        by_name = {plugin.name: plugin for plugin in self.plugins}
        for kind, names in self._names.items():
            for name, specs in names.items():
                if len(specs) < 2:
                    continue
                owner = self._owner(specs)
                for spec in specs:
                    if spec is owner:
                        continue
                    others = " and ".join(repr(other.plugin) for other in specs if other is not spec)
                    plugin = by_name[spec.plugin]
                    plugin.status = "conflict"
                    plugin.reason = f"{kind.__name__.lower()} {name!r} is also declared by {others}: say '{_qualified(spec)}'"

    def _owner(self, specs: list[Any]) -> Any:
        """Who keeps a short name that several use: a built-in plugin; among third parties nobody."""
        if len(specs) == 1 or specs[0].plugin in self._built_in:
            return specs[0]
        return None

    def wait_for_slow(self) -> bool:
        """Let plugins that are still loading finish; True if there were any."""
        slow = [plugin for plugin in self.plugins if plugin.status == "slow" and plugin.thread]
        for plugin in slow:
            assert plugin.thread
            plugin.thread.join()
        self._register([plugin for plugin in slow if plugin.status == "ok"])
        self.__dict__.pop("not_installed", None)
        return bool(slow)

    # --- look-up ------------------------------------------------------------------------------------------------------

    def all(self, kind: type[SpecT]) -> list[SpecT]:
        """Every spec of a kind, by name."""
        return sorted(self._specs[kind].values(), key=lambda spec: (spec.name, getattr(spec, "plugin", "")))

    def get(self, kind: type[SpecT], name: str, wait: bool = True) -> SpecT:
        """The spec with this name, alias or qualified name; raises UnknownX with the closest names, or AmbiguousName."""
        if found := self._specs[kind].get(name):
            return found  # type: ignore[no-any-return]
        if candidates := self._names[kind].get(name):
            if owner := self._owner(candidates):
                return owner  # type: ignore[no-any-return]
            choices = ", ".join(_qualified(spec) for spec in candidates)
            raise errors.AmbiguousName(f"{len(candidates)} plugins have a {kind.__name__.lower()} {name!r}", f"Say one of: {choices}")
        if wait and self.wait_for_slow():
            return self.get(kind, name, wait=False)
        raise self._unknown(kind, name)

    def _unknown(self, kind: type, name: str) -> errors.StzooError:
        what = kind.__name__.lower()
        if kind is Model:
            for known in self.not_installed:
                if name in (known.name, f"{known.plugin}:{known.name}"):
                    broken = next((plugin for plugin in self.plugins if plugin.name == known.plugin), None)
                    if broken:
                        return errors.PluginError(f"model {name!r} belongs to the plugin {broken.name!r}, which failed: {broken.reason}", "Run: stzoo doctor")
                    return errors.PluginMissing(f"model {name!r} belongs to the plugin {known.plugin!r}, which is not installed", f"Run: {known.install}")
        names = [key for key, specs in self._names[kind].items() if specs] + [key for key in self._specs[kind] if kind is Task or ":" in name]
        if kind is Model:
            names += [known.name for known in self.not_installed]
        remedy = suggestion(name, names)
        if failed := [plugin.name for plugin in self.plugins if plugin.status == "failed"]:
            remedy += f" Plugins that failed to load: {', '.join(failed)} (run: stzoo doctor)"
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


def _qualified(spec: Any) -> str:
    return spec.name if isinstance(spec, Task) else f"{spec.plugin}:{spec.name}"


@cache
def registry() -> Registry:
    """The registry of this process; plugins are discovered at the first call."""
    return Registry()


def as_plain(spec: Any) -> Any:
    """A spec as JSON-serialisable data, for ``--json`` and config files."""
    if isinstance(spec, Mapping):
        return {str(key): as_plain(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [as_plain(item) for item in spec]
    if hasattr(spec, "__dataclass_fields__"):
        plain = {name: as_plain(getattr(spec, name)) for name in spec.__dataclass_fields__}
        return plain | {"type": type(spec).__name__} if isinstance(spec, Field) else plain
    return None if isinstance(spec, float) and not math.isfinite(spec) else spec
