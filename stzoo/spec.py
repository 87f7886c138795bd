"""What can be registered: Task, Architecture, Model, Weights, Source, Dataset.

Frozen records of plain data, importable without any array library: code is named by ``"module:attribute"`` strings and
imported when it is used. Records check themselves when they are made and raise :class:`stzoo.errors.SpecError`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from stzoo.errors import PluginError, StzooError
from stzoo.fields import Field, complete_values, tile_options
from stzoo.requirements import Record, Requirements

PLUGIN_API = 1
"""Version of the plugin API: hooks and specs. A plugin states the one it was written for as ``PLUGIN_API`` in its module."""

_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*\Z")
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_REPO = re.compile(r"[\w][\w.-]*/[\w][\w.-]*\Z")
_ADDRESS = re.compile(r"(https?|hf)://[^\s/]+/\S+\Z")


def forbids_commercial_use(license: str) -> bool:
    """Whether a licence forbids commercial use, as far as its identifier tells."""
    return bool(re.search(r"(^|[-_ ])nc($|[-_ ])|non-?commercial", license.lower()))


def load_reference(reference: str) -> Any:
    """Import what a ``"module:attribute"`` string names; raises PluginError with the reason if that fails."""
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except StzooError:
        raise
    except Exception as problem:  # whatever a plugin's code raises when it is imported
        reason = f"{type(problem).__name__}: {problem}"
        raise PluginError(
            f"{reference!r} cannot be imported ({reason})", "Update the plugin, or tell its author"
        ) from problem


class _Spec(Record):
    """Shared checks; a subclass lists in ``_references`` the attributes which hold import strings."""

    name: str
    _references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for attribute in ("name", "aliases"):
            value = getattr(self, attribute, ())
            if not all(_NAME.match(name) for name in ((value,) if isinstance(value, str) else value)):
                self._fail(attribute, "a name (lower-case letters, digits, single '-', '_' or '.')")
        for attribute in self._references:
            value = getattr(self, attribute)
            if not all(_REFERENCE.match(item) for item in ((value,) if isinstance(value, str) else value or ())):
                self._fail(attribute, "an import string 'module:attribute'")


@dataclass(frozen=True)
class Weights(Record):
    """A safetensors file, known by its content: any place that holds a file with this sha256 will do."""

    repo: str
    """Hugging Face Hub repo id, ``owner/name``."""
    revision: str | None = None
    """40-hex commit; ``None`` until the file has been published."""
    sha256: str | None = None
    """Hash of the file, 64 hex digits."""
    size: int | None = None
    """Bytes."""
    bundled: str | None = None
    """Path of a copy inside the plugin's package, ``weights/x.safetensors``."""
    filename: str = "model.safetensors"
    """Path inside the Hub repo."""
    dtype: str = "float32"
    """How floating-point tensors are stored; they are converted when another dtype is asked for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for attribute, pattern, wanted in (
            ("repo", _REPO, "a Hub repo id 'owner/name'"),
            ("revision", _COMMIT, "a full commit hash (40 hex digits)"),
            ("sha256", _SHA256, "a sha256 (64 hex digits)"),
        ):
            value = getattr(self, attribute)
            if value is not None and not pattern.match(value):
                self._fail(attribute, wanted)
        if self.bundled is not None and (self.bundled.startswith("/") or ".." in self.bundled.split("/")):
            self._fail("bundled", "a path inside the plugin's package")


@dataclass(frozen=True)
class Source(Record):
    """A checkpoint that somebody else publishes, in a format of theirs which the architecture's ``formats`` read.

    ``stzoo import`` downloads and converts it, once; from then on the model loads like any other.
    """

    url: str
    """``https://...``, or ``hf://owner/name@revision/path/file`` for a file on the Hub."""
    sha256: str | None = None
    """Hash of that file; where it is not known, the file of the first download is the one that is expected ever after."""
    size: int | None = None
    """Bytes of that file, where known."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _ADDRESS.match(self.url):
            self._fail("url", "an address (https://..., hf://owner/name@revision/path/file)")
        if self.sha256 is not None and not _SHA256.match(self.sha256):
            self._fail("sha256", "a sha256 (64 hex digits)")


@dataclass(frozen=True)
class Measurement(Record):
    """One number about a model: who measured it, on what, how."""

    dataset: str
    metric: str
    value: float
    source: Literal["measured", "baseline", "published"] = "measured"
    """``measured`` by us with ``command``; ``baseline``: a trivial method, same command; ``published`` elsewhere."""
    note: str = ""
    command: str = ""


@dataclass(frozen=True)
class Metric(Record):
    """A metric of a task."""

    name: str
    compute: str
    """``"module:function"`` taking ``(prediction, target)`` of one example and returning a float (or, with ``summary``, what that takes).

    Further parameters with defaults are options: whoever asks for the metric may write ``name?option=value``. One that is
    called ``requirements`` gets those of the network instead, whose ``scale`` says what border to leave out, say."""
    better: Literal["lower", "higher"] = "lower"
    description: str = ""
    output: str = ""
    """The output it judges; default: the task's first."""
    summary: str | None = None
    """``"module:function"`` from the list of all examples' values to one float; default: their mean."""
    curve: str = ""
    """What ``compute`` returns one value (or, with ``summary``, what that takes) for each of, such as ``"frame"``: an array
    with these along its first axis. The metric's number is over all of them, its curve over the examples at each."""
    named: str = ""
    """The attribute of the network's :class:`Requirements` that names what the curve is over, such as ``"classes"``."""
    optional: bool = False
    """Whether it is computed only when it is asked for by name."""


@dataclass(frozen=True)
class Baseline(Record):
    """A trivial method that every model of a task is compared with."""

    name: str
    compute: str
    """``"module:function"`` taking ``(inputs, truth)`` of one example by name and returning outputs by name."""
    description: str = ""
    optional: bool = False
    """Whether it is computed only when it is asked for by name: it takes long, or needs a package that may be missing."""


@dataclass(frozen=True)
class Task(_Spec):
    """What goes in and what comes out. Everything generic (predict, CLI, cards, demos) reads this declaration."""

    name: str
    description: str = ""
    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    options: tuple[Field, ...] = ()
    columns: tuple[Field, ...] = ()
    """What an example of a data set consists of; default: the inputs and the outputs."""
    metrics: tuple[Metric, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    pipeline: str = "stzoo.predictor:Pipeline"
    """``"module:class"`` with the steps of predict and of evaluation; the default runs ``module(*inputs)``."""
    pipeline_tag: str | None = None
    """The Hub's name for this task."""
    reader: str | None = None
    """``"module:function"`` for folders and files in a layout of the field's own, asked before the columns' layout: called as
    ``reader(path, **options)``, it returns ``{split: sequence of {column: value} examples}``, or None for what it does not know.
    Its docstring says which layouts these are."""
    dense: bool = False
    """Whether outputs show what inputs show, place by place. Then the task has the options of :mod:`stzoo.tiling`, which
    :meth:`stzoo.predictor.Pipeline.run` follows, and its pipeline is handed tensors that are on the CPU."""
    _references = ("pipeline", "reader")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dense:
            known = {item.name for item in self.options}
            added = (item for item in tile_options(self.inputs) if item.name not in known)
            object.__setattr__(self, "options", (*self.options, *added))
        if not self.columns:
            own = {item.name: item for item in (*self.inputs, *self.outputs)}
            object.__setattr__(self, "columns", tuple(own.values()))
        required = [not item.optional for item in self.inputs]
        if required != sorted(required, reverse=True):
            self._fail("inputs", "the required inputs, then the optional ones")

    def sample(self, requirements: Requirements) -> tuple[Any, ...]:
        """Deterministic values of the inputs that a prediction needs, in order; the optional ones are left out."""
        return tuple(item.sample(requirements) for item in self.inputs if not item.optional)


@dataclass(frozen=True)
class Architecture(_Spec):
    """Something that can be built from a config."""

    name: str
    task: str
    build: str
    """``"module:callable"`` taking the config as keyword arguments and returning an ``nn.Module``."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Every config key with its default. A value may be a :class:`stzoo.fields.Field`, which also says what is accepted."""
    recipe: str | None = None
    """``"module:class"`` of a :class:`stzoo.recipe.Recipe`."""
    formats: tuple[str, ...] = ()
    """``"module:class"`` of foreign checkpoint formats (:class:`stzoo.formats.Format`)."""
    pipeline: str | None = None
    """Overrides the task's pipeline."""
    outputs: tuple[Field, ...] = ()
    """What it gives besides the task's outputs: how sure it is, other answers. No data set has a truth for these."""
    options: tuple[Field, ...] = ()
    """What may be asked of it besides the task's options."""
    description: str = ""
    paper: str = ""
    skip_init: bool = True
    """Set to False if the constructor computes buffers from the initial values of its parameters."""
    aliases: tuple[str, ...] = ()
    plugin: str = ""
    """Filled in by the registry."""
    _references = ("build", "recipe", "formats", "pipeline")

    def refined(self, task: Task) -> Task:
        """The task as this architecture does it. Raises SpecError if a name of its own is one of the task's."""
        if not (self.outputs or self.options):
            return task
        for attribute in ("outputs", "options"):
            taken = {item.name for item in (*task.inputs, *getattr(task, attribute))}
            if clash := [item.name for item in getattr(self, attribute) if item.name in taken]:
                self._fail(attribute, f"new to the task {task.name!r}, which has {clash[0]!r}")
        return replace(task, outputs=(*task.outputs, *self.outputs), options=(*task.options, *self.options))

    def validate(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The full config with defaults filled in; raises ConfigError naming the key and what is accepted."""
        return complete_values(self.defaults, config, f"architecture {self.name!r}")


@dataclass(frozen=True)
class Model(_Spec):
    """An entry of the zoo: architecture + config + weights + licence + where it was trained + measured metrics."""

    name: str
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Weights | None = None
    source: Source | None = None
    """Instead of ``weights``: where others publish them."""
    license: str = ""
    """SPDX identifier (or Hub licence name) of the weights."""
    code_license: str = "apache-2.0"
    """Licence of the code that defines the network."""
    trained_on: str = ""
    example: str = ""
    """The shipped data set, with options, whose first test example its page shows; else that of ``trained_on``."""
    description: str = ""
    paper: str = ""
    base_model: str | None = None
    command: str = ""
    """The command that trained it."""
    metrics: tuple[Measurement, ...] = ()
    requirements: Requirements | None = None
    dtypes: tuple[str, ...] = ("float32",)
    """Precisions whose outputs were checked against float32."""
    parameters: int | None = None
    """0 also says of a model without weights that it needs none: what it learns, it learns while it predicts."""
    flops: int | None = None
    """Multiply-adds of one forward pass at batch size 1 and the native size."""
    fingerprint: Mapping[str, Any] | None = None
    """Output statistics and samples for the deterministic input, recorded when the weights were made."""
    card: str = ""
    """Prose for the model card: intended use, training, limitations (Markdown)."""
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    task: str = ""
    """Filled in by the registry from the architecture."""
    plugin: str = ""
    """Filled in by the registry."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _NAME.match(self.architecture.rpartition(":")[2]):
            self._fail("architecture", "the name of an architecture")
        if self.weights and self.source:
            self._fail("source", "None, which it is for a model that has weights of its own")
        if (self.weights or self.source) and not self.license:
            self._fail("license", "the licence of the weights (an SPDX identifier such as 'apache-2.0')")

    @property
    def qualified_name(self) -> str:
        """``plugin:name``, unique among all installed plugins."""
        return f"{self.plugin}:{self.name}"

    @property
    def non_commercial(self) -> bool:
        """Whether the licence of the weights forbids commercial use, as far as its identifier tells."""
        return forbids_commercial_use(self.license)

    def words(self) -> Iterator[str]:
        """The texts a free-text search looks through."""
        yield from (
            self.name,
            self.architecture,
            self.task,
            self.plugin,
            self.description,
            self.trained_on,
            self.license,
        )
        yield from self.aliases
        yield from self.tags


@dataclass(frozen=True)
class Dataset(_Spec):
    """A named source of examples for a task."""

    name: str
    task: str
    load: str
    """``"module:function"`` called as ``load(split, **options)``; returns a sequence of ``{column: value}`` examples."""
    splits: tuple[str, ...] = ("train", "test")
    shipped: bool = False
    """Whether its name alone opens it, as the plugin brings some of its files or makes them; pages then show its examples."""
    description: str = ""
    license: str = ""
    homepage: str = ""
    aliases: tuple[str, ...] = ()
    plugin: str = ""
    _references = ("load",)
