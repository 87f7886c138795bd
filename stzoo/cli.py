# PYTHON_ARGCOMPLETE_OK
"""The command line: one thin command per public function.

Exit codes: 0; 1 if a check failed (``verify``, ``doctor``) or an input of a data set did (``predict --data``); 2 for every error, told in one line on stderr; 130 after
Ctrl-C; 141 when nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stzoo import __version__, api, console, errors, terminal
from stzoo.arguments import UsageError, build_parser
from stzoo.evaluation import EVALUATION_FILE, evaluate
from stzoo.fields import Field
from stzoo.files import write_atomically
from stzoo.hooks import Plugin
from stzoo.processes import is_main_process
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


# --- using ------------------------------------------------------------------------------------------------------------


def _given(args: argparse.Namespace, role: str) -> dict[str, Any]:
    """What was given for the flags that came from the task's declaration."""
    return {key.partition(":")[2]: value for key, value in vars(args).items() if key.startswith(f"{role}:")}


def _predict(args: argparse.Namespace) -> int:
    if args.data is not None:
        return _predict_data(args)
    if args.split or args.streaming or _given(args, "setting"):
        raise UsageError("--split, --streaming, --shard-size and --limit are for data sets", "Give one with --data")
    task: Task = args.task
    written = [item for item in task.outputs if item.suffixes]
    targets = _targets(args, written) if written else [{} for _ in args.inputs]
    predictor = api.load(args.name, revision=args.revision, device=args.device, dtype=args.dtype, offline=args.offline)
    options = _given(args, "input") | _given(args, "option")
    predictions = predictor.predict_batch(args.inputs, batch_size=args.batch_size or 1, **options)
    done = []
    work = zip(args.inputs, targets, predictions, strict=True)
    for source, paths, prediction in terminal.progress(work, len(targets), "input"):
        outputs: dict[str, Any] = {}
        for name, value in prediction.items():
            if name in paths:
                own = _given(args, "output") if name == written[0].name else {}
                path = str(prediction.save(paths[name], name, **own))
                outputs[name], shown = {"path": path, "shape": list(value.shape)}, path
            else:
                outputs[name] = {"value": value.tolist() if hasattr(value, "tolist") else value}
                number = outputs[name]["value"]
                shown = f"{source}: {name} {f'{number:.6g}' if isinstance(number, float) else number}"
            if not args.json:
                terminal.say(f"{shown}  ({prediction.seconds:.2f} s)")
        done.append({"input": source, "outputs": outputs, "seconds": prediction.seconds})
    if args.json:
        terminal.print_json({"model": asdict(predictor.report), "predictions": done})
    return 0


def _predict_data(args: argparse.Namespace) -> int:
    from stzoo.bulk import predict_data

    if args.inputs or _given(args, "input"):
        raise UsageError("inputs come from files or from --data, not from both", "Leave one of them out")
    if args.output is None:
        raise UsageError("there is no place to write to", "Add -o FOLDER")
    settings = _given(args, "setting") | ({"batch_size": args.batch_size} if args.batch_size else {})
    report = predict_data(
        args.name,
        args.data,
        args.output,
        split=args.split,
        streaming=args.streaming,
        format=args.format,
        options=_given(args, "option"),
        writing=_given(args, "output"),
        device=args.device,
        dtype=args.dtype,
        revision=args.revision,
        offline=args.offline,
        **settings,
    )
    if not is_main_process():
        return 0
    if args.json:
        terminal.print_json(asdict(report) | {"per_second": report.per_second})
    else:
        print(console.bulk_page(report))
    return 1 if report.failed else 0


def _targets(args: argparse.Namespace, written: Sequence[Field]) -> list[dict[str, Path]]:
    """For each input the file of each output by name; all are checked before anything is computed."""
    from stzoo.predictor import check_target

    first = written[0]
    if args.output is None:
        raise UsageError("there is no place to write to", f"Add -o FILE, ending in one of {', '.join(first.suffixes)}")
    output = Path(args.output).expanduser()
    into_folder = len(args.inputs) > 1 or output.is_dir() or args.output.endswith(os.sep)
    if into_folder and not output.is_dir() and output.suffix in first.suffixes:
        raise UsageError(f"several inputs cannot all be written to the file {output}", "Give a folder: -o FOLDER")
    if args.format and not into_folder:
        raise UsageError("--format is for output folders", "The ending of -o says how a file is written")
    if into_folder:
        output.mkdir(parents=True, exist_ok=True)
    targets: list[dict[str, Path]] = []
    taken = {Path(item).expanduser().resolve() for item in args.inputs}
    for source in map(Path, args.inputs):
        path = output
        if into_folder:
            ending = f".{args.format.removeprefix('.')}" if args.format else _ending(source, first)
            path = output / f"{source.stem}{ending}"
        paths = {first.name: path}
        for item in written[1:]:
            paths[item.name] = path.with_name(f"{path.stem}-{item.name}{_ending(path, item)}")
        for item in written:
            target = paths[item.name]
            check_target(item, target)
            if target.resolve() in taken:
                raise UsageError(f"{target} would overwrite an input or another output", "Write to another place")
            taken.add(target.resolve())
        targets.append(paths)
    return targets


def _ending(like: Path, field: Field) -> str:
    """The ending of ``like`` if the field can be written so, else the first that can be."""
    return like.suffix if like.suffix.lower() in field.suffixes else field.suffixes[0]


def _finetune(args: argparse.Namespace) -> int:
    from stzoo.training.loop import finetune
    from stzoo.training.options import parse_words

    options = _given(args, "option")
    data = args.data
    if data is not None:
        pairs = [item.partition("=") for item in data]
        data = data[0] if len(data) == 1 else {role: source for role, _, source in pairs}
    settings = parse_words(args.set)
    if twice := sorted(options.keys() & settings.keys()):
        raise UsageError(f"{twice[0]} is given twice", "Give the flag, or --set, not both")
    run = finetune(args.model, data, args.output, resume=args.resume, config=args.config, **options, **settings)
    if is_main_process():
        print(console.run_page(run.folder, run.record))
    return 0


def _pull(args: argparse.Namespace) -> int:
    if bool(args.names) == args.all:
        raise UsageError("say which models", "Give names, or --all")
    names = [model.qualified_name for model in api.models() if model.weights] if args.all else args.names
    found = {}
    for name in names:
        found[name] = api.pull(name, revision=args.revision, offline=args.offline)
        if not args.json:
            print(f"{name}  {found[name].source}  {found[name].path}")
    if args.json:
        terminal.print_json([{"name": name, **asdict(place)} for name, place in found.items()])
    return 0


def _import(args: argparse.Namespace) -> int:
    config = {}
    for setting in args.set:
        key, equals, value = setting.partition("=")
        if not key or not equals or key in ("path", "architecture", "device"):
            raise UsageError(f"--set {setting} does not set a key of the config", "Write --set KEY=VALUE")
        config[key] = value
    predictor = api.import_checkpoint(args.checkpoint, args.architecture, device="cpu", **config)
    folder = predictor.save(args.output)
    notes = predictor.report.notes or ("nothing: the tensors tell everything",)
    rows = [
        ("architecture", predictor.architecture.name),
        ("config", "\n".join(f"{key}={value!r}" for key, value in predictor.config.items())),
        ("tensors", f"{predictor.report.tensors}, every one used"),
        ("not known", "\n".join(notes)),
        ("use it", f" stzoo predict {folder} ..."),
    ]
    print(terminal.page(str(folder), rows))
    return 0


# --- measuring --------------------------------------------------------------------------------------------------------


def _evaluate(args: argparse.Namespace) -> int:
    folder = _recorded_in(args.models) if args.record else None
    evaluation = evaluate(
        args.models,
        args.data,
        split=args.split,
        options=_given(args, "option"),
        baselines=not args.no_baselines,
        device=args.device,
        dtype=args.dtype,
        output=args.output,
        revision=args.revision,
        offline=args.offline,
        **_given(args, "setting"),
    )
    if not is_main_process():
        return 0
    if folder:
        write_atomically(folder / EVALUATION_FILE, evaluation.to_json().encode())
    if args.json:
        print(evaluation.to_json(), end="")
    else:
        places = [args.output] if args.output else []
        print(console.evaluation_page(evaluation, [*places, str(folder / EVALUATION_FILE)] if folder else places))
    return 0


def _recorded_in(models: Sequence[str]) -> Path:
    """The folder of the one model whose evaluation is recorded."""
    if len(models) > 1:
        raise UsageError("--record is for one model", "Evaluate the models one by one, or write to an --output")
    folder = Path(models[0]).expanduser()
    if not folder.is_dir():
        raise UsageError(f"{models[0]} is not a folder to record anything in", "Write to an --output instead")
    return folder


def _publish(args: argparse.Namespace) -> int:
    from stzoo import publishing

    keys = ("private", "create_pr", "revision", "tag", "license", "name", "message")
    options = {key: getattr(args, key) for key in keys if getattr(args, key)}
    if args.all:
        if args.source or options.keys() - {"private"}:
            raise UsageError("--all takes no source and of the options only --private", "Publish models one by one")
        return _publish_all(args)
    if not args.source or not args.repo_id or args.plugin or args.output:
        raise UsageError("say what to publish and where", "Write: stzoo publish SOURCE REPO_ID, or --all ORG")
    done = publishing.publish(args.source, args.repo_id, **options)
    if args.json:
        terminal.print_json(asdict(done))
        return 0
    print(done)
    revision = f' at revision "{done.revision}"' if done.revision != "main" else ""
    print(
        f"{done.repo_id}{revision}: {'published and verified' if done.changed else 'nothing changed, no commit made'}"
    )
    return 0


def _demo(args: argparse.Namespace) -> int:
    from stzoo.ui import gallery

    blocks = gallery.demo(*args.names, task=args.task, **_given(args, "limit"))
    _, url, shared = gallery.launch(
        blocks,
        server_name=args.host,
        server_port=args.port,
        share=args.share,
        inbrowser=not args.no_browser,
        quiet=True,
        prevent_thread_lock=True,
    )
    print(*filter(None, (url, shared)), sep="\n", flush=True)
    blocks.block_thread()
    return 0


def _space(args: argparse.Namespace) -> int:
    from stzoo.ui import space

    if args.action == "push":
        done = space.push(args.folder, args.repo_id, private=args.private, hardware=args.hardware)
        state = "uploaded and verified" if done.changed else "nothing changed, no commit made"
        if args.json:
            terminal.print_json(asdict(done))
        else:
            print(f"{done}\n{done.repo_id}: {state}")
        return 0
    if args.all == bool(args.names) or (args.all and args.hardware):
        raise UsageError("say which models or tasks", "Write: stzoo space export NAME... DIR, or --all DIR")
    if args.all:
        print(*space.export_all(args.folder), sep="\n")
    else:
        print(space.export(args.names, args.folder, hardware=args.hardware))
    return 0


def _publish_all(args: argparse.Namespace) -> int:
    from stzoo import files, publishing

    published = []
    for done in publishing.publish_all(args.all, plugin=args.plugin, private=args.private):
        published.append(done)
        if not args.json:
            terminal.say(f"{done.repo_id}  {done.commit}  {'published and verified' if done.changed else 'unchanged'}")
    commits = {done.repo_id: done.commit for done in published}
    if args.output:
        files.write_atomically(Path(args.output), (json.dumps(commits, indent=2) + "\n").encode())
    if args.json:
        terminal.print_json([asdict(done) for done in published])
    elif published:
        print("Record these commits as revision in the models' Weights(...)")
    return 0


def _card(args: argparse.Namespace) -> int:
    from stzoo import cards, files

    if bool(args.name) == bool(args.all) or (args.all and args.output):
        raise UsageError("say which card", "Give a NAME, with -o FILE if wanted, or --all FOLDER")
    if args.all:
        print(*cards.write_cards(args.all), sep="\n")
    elif args.output:
        files.write_atomically(Path(args.output), cards.card(args.name).encode())
        print(args.output)
    else:
        print(cards.card(args.name), end="")
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
    "predict": _predict,
    "finetune": _finetune,
    "pull": _pull,
    "import": _import,
    "evaluate": _evaluate,
    "publish": _publish,
    "demo": _demo,
    "space": _space,
    "card": _card,
    "verify": _verify,
    "lock": _lock,
    "plugins": _plugins,
    "doctor": _doctor,
    "new-plugin": _new_plugin,
    "completion": _completion,
}
