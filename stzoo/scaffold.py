"""``stzoo new-plugin``: the files of a plugin that works, to start from."""

from __future__ import annotations

import keyword
import re
import tempfile
import textwrap
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from stzoo import __version__, errors
from stzoo.fields import Field
from stzoo.registry import catalogue, registry
from stzoo.spec import PLUGIN_API, Architecture, Task

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_FILES = {
    "pyproject.toml": "pyproject.toml.in",
    "{module}/__init__.py": "__init__.py.in",
    "{module}/network.py": "network.py.in",
}


def new_plugin(name: str, task: str, folder: str | Path = ".") -> Path:
    """Write a plugin called ``name`` for ``task`` to the new folder ``folder/name``; returns that.

    It can be installed as it is (``pip install -e``) and has one untrained model. Where the task's networks take pictures and
    give pictures, it passes the conformance tests (``pytest``); elsewhere it does when its network is what the task's pipeline
    calls, which the network's file names.

    Raises:
        UnknownTask: no installed plugin declares the task.
        PluginError: the name cannot be used, or the folder exists.
    """
    declared = registry().get(Task, task)
    _check(name)
    parent = Path(folder).expanduser()
    target = parent / name
    if target.exists():
        raise errors.PluginError(f"{target} exists", "Choose another name or folder; nothing was written")
    values = _values(name, declared)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{name}-") as temporary:
        draft = Path(temporary) / name
        for path, template in _FILES.items():
            file = draft / path.format(**values)
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (files("stzoo") / "templates" / template).read_text(encoding="utf-8")
            file.write_text(Template(text).substitute(values), encoding="utf-8")
        draft.rename(target)
    return target


def _check(name: str) -> None:
    """Raise PluginError for a name that no plugin can have, or that is taken."""
    if not _NAME.match(name) or keyword.iskeyword(name):
        raise errors.PluginError(
            f"{name!r} cannot be a plugin's name", "Use lower-case letters, digits and single '-', such as 'acme-depth'"
        )
    taken = {plugin.name for plugin in registry().plugins} | set(catalogue())
    if name in taken or name in {architecture.name for architecture in registry().all(Architecture)}:
        raise errors.PluginError(
            f"the name {name!r} is taken by an installed plugin or architecture", "Choose another name"
        )


def _values(name: str, task: Task) -> dict[str, str]:
    """What the templates' place holders stand for; networks are described by the fields that the task declares."""
    owner = next(
        plugin for plugin in registry().plugins if any(item.name == task.name for item in plugin.specs.get("tasks", ()))
    )
    required = (f"stzoo>={__version__}", *([owner.distribution] if owner.distribution else []))
    outputs = [item for item in task.outputs if not item.optional]
    first, several = task.inputs[0].name, len(outputs) > 1
    return {
        "name": name,
        "module": f"stzoo_{name.replace('-', '_')}",
        "distribution": f"stzoo-{name}",
        "dependencies": ", ".join(f'"{item}"' for item in required),
        "task": task.name,
        "api": str(PLUGIN_API),
        "description": task.description or task.name,
        "pipeline": task.pipeline,
        "arguments": ", ".join(f"{item.name}: Tensor{' | None = None' * item.optional}" for item in task.inputs),
        "first": first,
        "inputs": _described(task.inputs),
        "outputs": _described(outputs),
        "returned": "tuple[Tensor, ...]" if several else "Tensor",
        "result": f"({', '.join(['result'] * len(outputs))})" if several else "result",
    }


def _described(fields: Sequence[Field]) -> str:
    """A paragraph for each field: its name, its layout (from the field's documentation) and what it is here."""
    lines: list[str] = []
    for item in fields:
        layout = (type(item).__doc__ or type(item).__name__).partition(". ")[0].splitlines()[0].rstrip(".")
        text = f"{item.name}: {layout}. {item.description}".rstrip(". ") + "."
        lines += textwrap.wrap(text, 100, initial_indent=" " * 12, subsequent_indent=" " * 16)
    return "\n".join(lines)
