"""Hugging Face Spaces: folders that are a demo, written from the registry, and their upload."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from stzoo import __version__, errors, files, hub, upload
from stzoo.cards import CARD, MARK, MARK_TEXT, PICTURE, markdown_table
from stzoo.fields import suggestion
from stzoo.registry import catalogue, registry
from stzoo.spec import Model, Task

if TYPE_CHECKING:
    from stzoo.publishing import Published

APP, REQUIREMENTS = "app.py", "requirements.txt"
PYTHON = "3.12"
"""Of the Space; the Hub's default is older than stzoo allows."""
CPU, ZERO_GPU = "cpu-basic", "zero-a10g"
_PATIENCE = 100e9
"""Multiply-adds of one forward pass above which a visitor would wait too long on the two cores of ``cpu-basic``."""
_CPU_WHEELS = "--extra-index-url https://download.pytorch.org/whl/cpu"
_DESCRIPTION = 60
"""Characters that the Hub allows for ``short_description``."""


# --- what a Space shows -----------------------------------------------------------------------------------------------


def chosen(names: Sequence[str], usable: Callable[[Model], bool] = lambda model: not model.source) -> list[Model]:
    """The models that are named, by themselves or by their task, each once. Raises UnknownModel or InputError.

    Of a task it is those that are ``usable``, by default without those that others publish.
    """
    tasks, found = [task.name for task in registry().all(Task)], dict[str, Model]()
    for name in names:
        models = list(filter(usable, registry().models(task=name))) if name in tasks else [_model(name, tasks)]
        if not models:
            raise errors.InputError(f"no installed model is for the task {name!r}", "See: stzoo list")
        found |= {model.qualified_name: model for model in models}
    if not found:
        raise errors.InputError("there is no model to show", "Name models or tasks; see: stzoo list")
    return list(found.values())


def _model(name: str, tasks: Sequence[str]) -> Model:
    try:
        return registry().get(Model, name)
    except errors.UnknownModel as problem:
        if not (close := suggestion(name, list(tasks))).endswith("?"):
            raise
        raise errors.UnknownModel(f"no model or task is called {name!r}", close) from problem


def _title(name: str) -> str:
    """The name of a task as a title; that of a model as it is."""
    if any(task.name == name for task in registry().all(Task)):
        return re.sub(r"[-_.]", " ", name).capitalize()
    return name


# --- its files --------------------------------------------------------------------------------------------------------


def render(names: Sequence[str], *, hardware: str | None = None) -> dict[str, str]:
    """The files of a Space by name; see :func:`export`."""
    from huggingface_hub import SpaceCardData

    models, title = chosen(names), shorten(", ".join(map(_title, names)), _DESCRIPTION, placeholder=" …")
    if foreign := [model.name for model in models if model.source]:
        raise errors.InputError(
            f"a Space cannot bring what others publish: {', '.join(foreign)}",
            f'Publish a copy, stzoo.load("{foreign[0]}").publish("owner/name"), if its licence allows that',
        )
    hardware = _known(hardware) if hardware else _suggested(models)
    tasks = list(dict.fromkeys(model.task for model in models))
    description = registry().get(Task, names[0]).description if names == tasks else models[0].description
    if len(names) > 1:
        description = f"Try {len(models)} models in the browser"
    licenses = {model.license for model in models}
    given: dict[str, Any] = {
        "title": title,
        "emoji": "🎬",
        "colorFrom": "indigo",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": _version("gradio", 'Run: pip install "stzoo[demo]"'),
        "python_version": PYTHON,
        "app_file": APP,
        "suggested_hardware": hardware,
        "license": licenses.pop() if len(licenses) == 1 else "other",
        "short_description": shorten(description, _DESCRIPTION, placeholder=" …"),
        "thumbnail": _thumbnail(models),
        "tags": ["stzoo", *tasks],
        "models": list(dict.fromkeys(model.weights.repo for model in models if model.weights)),
        "preload_from_hub": _preloaded(models),
    }
    header = SpaceCardData(**{key: value for key, value in given.items() if value}).to_yaml()
    rows = [(item.name, item.description, item.license or "not known") for item in models]
    return {
        APP: _filled("space_app.py.in", mark=MARK_TEXT, names=", ".join(map(json.dumps, names))),
        CARD: _filled(
            "space_readme.md.in",
            header=f"---\n{header}\n---",
            mark=MARK,
            title=title,
            description=description,
            models=markdown_table(("Model", "What it does", "Licence of its weights"), rows),
            names=" ".join(names),
        ),
        REQUIREMENTS: "\n".join([f"# {MARK_TEXT}", *_requirements(models, hardware)]) + "\n",
    }


def _filled(template: str, **values: str) -> str:
    return Template((resources("stzoo") / "templates" / template).read_text(encoding="utf-8")).substitute(values)


def _known(hardware: str) -> str:
    """``hardware`` if the Hub has such; raises ConfigError."""
    from huggingface_hub import SpaceHardware

    if hardware not in (kinds := [item.value for item in SpaceHardware]):
        raise errors.ConfigError(f"no hardware for Spaces is called {hardware!r}", suggestion(hardware, kinds))
    return hardware


def _suggested(models: Sequence[Model]) -> str:
    return ZERO_GPU if any((model.flops or 0) > _PATIENCE for model in models) else CPU


def _preloaded(models: Sequence[Model]) -> list[str]:
    """What the Space downloads while it is built: whole files of weights; shards come when they are first used."""
    records = [model.weights for model in models if model.weights and not model.weights.bundled]
    single = [item for item in records if not item.filename.endswith(".index.json")]
    return list(dict.fromkeys(" ".join(filter(None, (item.repo, item.filename, item.revision))) for item in single))


def _thumbnail(models: Sequence[Model]) -> str | None:
    """The picture that was published with the first of the zoo's own models that is on the Hub."""
    for model in models:
        if model.weights and model.weights.revision and model.plugin in catalogue():
            return f"https://huggingface.co/{model.weights.repo}/resolve/{model.weights.revision}/{PICTURE}"
    return None


def _requirements(models: Sequence[Model], hardware: str) -> list[str]:
    """Lines of ``requirements.txt``. Gradio is not among them: the Space gets the version in ``sdk_version``."""
    lines = [f"stzoo[demo]=={__version__}"]
    declaring = {task.name: plugin.name for plugin in registry().plugins for task in plugin.specs.get("tasks", ())}
    needed = {model.plugin for model in models} | {registry().architecture_of(model).plugin for model in models}
    needed |= {declaring[model.task] for model in models}
    for plugin in registry().plugins:
        if plugin.name in needed and (line := f"{plugin.distribution}=={plugin.version}") not in lines:
            if not plugin.distribution or not plugin.version:
                raise errors.PluginError(
                    f"the plugin {plugin.name!r} comes from no distribution that a Space could install",
                    "Build it as a package with a name and a version",
                )
            lines.append(line)
    if _is_cpu(hardware):
        torch = _version("torch", "Run: pip install torch").partition("+")[0]
        return [
            *lines,
            "",
            "# for a CPU: without this index, torch brings gigabytes of CUDA",
            _CPU_WHEELS,
            f"torch=={torch}",
        ]
    if hardware == ZERO_GPU:
        return [*lines, "", "# what ZeroGPU supports", "torch>=2.8,<2.12"]
    return lines


def _is_cpu(hardware: str) -> bool:
    return hardware.startswith("cpu-")


def _version(distribution: str, remedy: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError as problem:
        raise errors.DependencyMissing(f"{distribution} is not installed", remedy) from problem


# --- writing and uploading --------------------------------------------------------------------------------------------


def export(names: Sequence[str], folder: str | os.PathLike[str], *, hardware: str | None = None) -> Path:
    """Write a folder that is a Hugging Face Space showing these models; returns it.

    Writing again brings the folder up to date. Files that stzoo did not write, or whose first lines say no more that it
    did, are never replaced; other files in the folder stay.

    Args:
        names: models, and tasks for all their installed models.
        folder: new, empty, or one that this function wrote.
        hardware: what it is for, as the Hub names it; default: ``zero-a10g`` where a network needs much computing, else
            ``cpu-basic``. It decides which torch is installed.

    Raises:
        UnknownModel, InputError: a name is unknown, or there is no model for a task.
        ConfigError: no such hardware. InputError: the folder holds something else.
        DependencyMissing: gradio is not installed; its version is written down.
    """
    target, content = Path(folder).expanduser(), render(list(names), hardware=hardware)
    if target.exists() and not target.is_dir():
        raise errors.InputError(f"{target} is a file", "Give a folder")
    if target.is_dir() and any(target.iterdir()):
        present = [target / name for name in content if (target / name).exists()]
        if foreign := [path.name for path in present if MARK_TEXT not in path.read_text(errors="replace")]:
            raise errors.InputError(
                f"{target} holds {', '.join(foreign)} that stzoo did not write, or that somebody keeps",
                "Give another folder, or remove it",
            )
        if not present:
            raise errors.InputError(f"{target} is not empty and is no Space", "Give a new folder")
    target.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        files.write_atomically(target / name, text.encode())
    return target


def export_all(folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``folder/<task>`` for every task that the zoo's own installed plugins have models for; returns the folders."""
    own = (model for model in registry().models() if model.plugin in catalogue() and not model.source)
    tasks = sorted({model.task for model in own})
    return [export([task], Path(folder).expanduser() / task) for task in tasks]


def push(
    folder: str | os.PathLike[str], repo_id: str, *, private: bool = False, hardware: str | None = None
) -> Published:
    """Upload the folder of a Space, in one commit, and compare what arrived; the Space is made if there is none.

    Args:
        folder: as :func:`export` wrote it, with whatever was added; what starts with a dot is left out.
        repo_id: ``owner/name``.
        private: make it private; refused if it exists and is public.
        hardware: what the Space is to run on; it may cost money. Default: what it has, at first the free CPU.

    Raises:
        InputError: the folder is no Space. ConfigError: no such hardware, or the folder was exported for a CPU.
        AuthenticationFailed, RepoNotFound, HubError …: as :func:`stzoo.upload.destination` and ``upload`` say, also where
        the account's plan does not allow the Space.
    """
    from stzoo.publishing import Published

    source = Path(folder).expanduser()
    if not (source / APP).is_file() or not (source / CARD).is_file():
        raise errors.InputError(f"{source} holds no Space", "Run: stzoo space export NAME... DIR")
    requirements = source / REQUIREMENTS
    if (
        hardware
        and not _is_cpu(_known(hardware))
        and requirements.is_file()
        and _CPU_WHEELS in requirements.read_text()
    ):
        raise errors.ConfigError(
            f"{source} was written for a CPU and would not use {hardware}",
            f"Write it again: stzoo space export NAME... {source} --hardware {hardware}",
        )
    to = upload.destination(repo_id, private=private, repo_type="space", hardware=hardware)
    paths = {path.relative_to(source).as_posix(): path for path in sorted(source.rglob("*")) if path.is_file()}
    paths = {name: path for name, path in paths.items() if not re.search(r"(^|/)(\.|__pycache__/)", name)}
    done = upload.upload(paths, to, "Write the Space with stzoo")
    if done.changed:
        with tempfile.TemporaryDirectory(prefix="stzoo-space-") as cache:
            upload.check_uploaded(paths, to, done, Path(cache))
    if hardware:
        _move(to, hardware)
    kept = tuple(sorted(done.kept))
    return Published(to.home, done.commit, repo_id, done.revision, None, None, done.changed, done.changed, kept)


def _move(to: upload.Destination, hardware: str) -> None:
    """Ask for the hardware unless the Space has it or has asked already."""
    from huggingface_hub import HfApi

    def ask() -> None:
        api = HfApi()
        runtime = api.get_space_runtime(to.repo_id)
        if hardware not in (runtime.requested_hardware, runtime.hardware):
            api.request_space_hardware(to.repo_id, hardware)  # type: ignore[arg-type]

    hub.retrying(ask, to)
