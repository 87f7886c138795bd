# PYTHON_ARGCOMPLETE_OK
"""The command line: one thin command per public function.

Exit codes: 0; 1 if a check failed (``verify``, ``doctor``) or an input of a data set did (``predict --data``); 2 for every error, told in one line on stderr; 130 after
Ctrl-C; 141 when nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stzoo import __version__, api, commands, console, errors, imported, terminal
from stzoo.arguments import build_parser
from stzoo.hooks import Plugin
from stzoo.registry import KnownModel, as_plain, registry
from stzoo.spec import Architecture, Dataset, Model, Task, forbids_commercial_use


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows "?" for it
            stream.reconfigure(errors="replace")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    verbose = bool(os.environ.get("STZOO_DEBUG"))
    try:
        with _messages() as log:
            try:
                args = parser.parse_args(argv)
                asked = getattr(args, "verbose", False)
                verbose = verbose or asked
                log.setLevel(logging.INFO if asked else logging.WARNING)
                code: int = _COMMANDS[args.command](args)
            except SystemExit as stop:  # --help, --version
                code = int(stop.code or 0)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads has seen enough; nothing may be flushed into the pipe at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (errors.StzooError, OSError) as problem:
        if verbose:
            import traceback

            traceback.print_exc()
        print(f"stzoo: error: {' '.join(str(problem).split())}", file=sys.stderr)
        return 2


@contextmanager
def _messages() -> Iterator[logging.Logger]:
    """stzoo's log, and Python's warnings, as lines on stderr."""
    log, handler = logging.getLogger("stzoo"), logging.StreamHandler()
    handler.setFormatter(_Line())
    level = log.level
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: log.warning("%s", message)
            yield log
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"stzoo: {record.levelname.lower()}: {record.getMessage()}"


# --- looking ----------------------------------------------------------------------------------------------------------


def _list(args: argparse.Namespace) -> int:
    kinds = {"architectures": Architecture, "tasks": Task, "datasets": Dataset}
    if args.kind:
        specs = [spec for spec in registry().all(kinds[args.kind]) if _matches(spec, args)]
        if args.json:
            terminal.print_json({args.kind: specs})
        else:
            print(console.specs_table(specs))
    else:
        absent = [model for model in registry().not_installed if _matches(model, args)]
        models = _models(args, absent)
        if args.json:
            terminal.print_json({"models": [_plain(model) for model in models], "not_installed": absent})
        else:
            print(console.models_table(models, absent))
    states = [plugin.status for plugin in registry().plugins]
    for status, what in (("failed", "failed"), ("slow", "still loading")):
        if count := states.count(status):
            logging.getLogger("stzoo").warning("%d plugin%s %s: run stzoo doctor", count, "s" * (count > 1), what)
    return 0


def _models(args: argparse.Namespace, absent: Sequence[KnownModel]) -> list[Model]:
    try:
        return registry().models(
            args.task, args.plugin, args.query, args.architecture, args.license, args.commercial or None
        )
    except errors.UnknownName:
        if absent:  # known from the catalogue alone
            return []
        raise


def _matches(spec: Any, args: argparse.Namespace) -> bool:
    """Whether something passes the filters; what lacks an attribute does not pass a filter on it."""
    texts = (spec.name, spec.description, getattr(spec, "task", ""), getattr(spec, "plugin", ""))
    text = " ".join(texts).lower()
    return (
        all(getattr(args, key) in (None, getattr(spec, key, "")) for key in ("task", "plugin", "architecture"))
        and (args.license is None or getattr(spec, "license", "").lower() == args.license.lower())
        and not (args.commercial and forbids_commercial_use(getattr(spec, "license", "")))
        and all(word in text for word in (args.query or "").lower().split())
    )


def _plain(model: Model) -> dict[str, Any]:
    """A model as JSON."""
    plain: dict[str, Any] = as_plain(model)
    if model.source:
        plain["imported"] = imported.record_of(model) is not None
    return plain | {"qualified_name": model.qualified_name, "non_commercial": model.non_commercial}


def _info(args: argparse.Namespace) -> int:
    pages: list[tuple[str | None, type[Any], Callable[[Any], str]]] = [
        (args.name, Model, console.model_page),
        (args.task, Task, console.task_page),
        (args.architecture, Architecture, console.architecture_page),
        (args.dataset, Dataset, console.dataset_page),
    ]
    name, kind, page = next(item for item in pages if item[0] is not None)
    spec: Any = registry().get(kind, str(name))
    if not args.json:
        print(page(spec))
    elif isinstance(spec, Model):
        found = console.located(spec)
        terminal.print_json(_plain(spec) | {"weights_at": None if isinstance(found, Exception) else found})
    else:
        terminal.print_json(spec)
    return 0


# --- checking ---------------------------------------------------------------------------------------------------------


def _verify(args: argparse.Namespace) -> int:
    results = []
    for name in terminal.progress(args.names, len(args.names), "model"):
        results.append(result := api.verify(name, revision=args.revision))
        if not args.json:
            for check, outcome in result.checks.items():
                terminal.say(f"{name}: {check} {outcome}")
    if args.json:
        terminal.print_json([{"name": item.name, "ok": item.ok, "checks": item.checks} for item in results])
    return 0 if all(item.ok for item in results) else 1


def _lock(args: argparse.Namespace) -> int:
    print(api.lock(args.names, args.output))
    return 0


# --- plugins ----------------------------------------------------------------------------------------------------------


def _plugins(args: argparse.Namespace) -> int:
    plugins = registry().plugins
    if args.json:
        terminal.print_json([_plain_plugin(plugin) for plugin in plugins])
    else:
        print(console.plugins_table(plugins))
    return 0


def _plain_plugin(plugin: Plugin) -> dict[str, Any]:
    """A plugin as JSON."""
    kept = ("name", "distribution", "version", "module", "status", "reason", "seconds", "warnings", "traceback")
    counts = {kind: len(specs) for kind, specs in plugin.specs.items()}
    return {key: getattr(plugin, key) for key in kept} | {"counts": counts}


def _doctor(args: argparse.Namespace) -> int:
    from stzoo.files import cache_folder

    registered = registry()
    packages = ("torch", "numpy", "pillow", "av", "safetensors", "huggingface-hub")
    hub_settings = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
    environment = {
        "stzoo": __version__,
        "python": f"{sys.version.split()[0]} ({sys.executable})",
        **{name: _version(name) for name in packages},
        "cache": str(cache_folder()),
        **{key: os.environ[key] for key in sorted(os.environ) if key.startswith("STZOO_") or key in hub_settings},
    }
    models = {}
    for model in registered.all(Model):
        try:
            registered.architecture_of(model).validate(model.config)
        except errors.StzooError as problem:
            models[model.qualified_name] = str(problem)
    problems = len(models) + sum(plugin.status != "ok" for plugin in registered.plugins)
    if args.json:
        plugins = [_plain_plugin(plugin) | {"remedy": console.remedy(plugin)} for plugin in registered.plugins]
        terminal.print_json({"environment": environment, "plugins": plugins, "models": models, "problems": problems})
    else:
        print(terminal.page("environment", list(environment.items())))
        for plugin in registered.plugins:
            print(console.plugin_page(plugin))
        if models:
            print(terminal.page("models whose config their architecture does not accept", list(models.items())))
        print("no problems" if not problems else f"{problems} problem{'s' * (problems > 1)}")
    return 1 if problems else 0


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _new_plugin(args: argparse.Namespace) -> int:
    from stzoo.scaffold import new_plugin

    folder = new_plugin(args.name, args.task, args.folder)
    print(f"{folder}\nNow run: pip install -e {folder} && stzoo list --plugin {args.name}")
    return 0


def _completion(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["stzoo"], shell=args.shell))
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "info": _info,
    "predict": commands.predict,
    "finetune": commands.finetune,
    "pull": commands.pull,
    "import": commands.import_checkpoint,
    "evaluate": commands.evaluate,
    "publish": commands.publish,
    "demo": commands.demo,
    "space": commands.space,
    "card": commands.card,
    "bundle": commands.bundle,
    "record": commands.record,
    "verify": _verify,
    "lock": _lock,
    "plugins": _plugins,
    "doctor": _doctor,
    "new-plugin": _new_plugin,
    "completion": _completion,
}
