"""What the commands do that use, measure and publish models: each hands its words to a public function and shows the result."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import api, console, imported, imports, terminal
from stzoo.evaluation import evaluate as run_evaluation
from stzoo.fields import Field, Image, Video, complete_values
from stzoo.files import IMAGES, VIDEOS, ending, files_in, write_atomically
from stzoo.parsing import UsageError
from stzoo.processes import is_main_process, keep_memory
from stzoo.results import EVALUATION_FILE
from stzoo.spec import Task

if TYPE_CHECKING:
    import numpy as np

    from stzoo.prediction import Prediction
    from stzoo.predictor import Predictor

# --- using ------------------------------------------------------------------------------------------------------------


def _given(args: argparse.Namespace, role: str) -> dict[str, Any]:
    """What was given for the flags that came from the task's declaration."""
    return {key.partition(":")[2]: value for key, value in vars(args).items() if key.startswith(f"{role}:")}


def _loading(args: argparse.Namespace) -> dict[str, Any]:
    """How a model is loaded, as far as flags say."""
    return {key: getattr(args, key) for key in ("revision", "device", "dtype", "offline")}


def predict(args: argparse.Namespace) -> int:
    if args.data is not None:
        return _predict_data(args)
    if args.split or args.streaming or _given(args, "setting"):
        raise UsageError("--split, --streaming, --shard-size and --limit are for data sets", "Give one with --data")
    keep_memory()
    task: Task = args.task
    given, args.inputs = args.inputs, [file for given in args.inputs for file in _files(given, task.inputs)]
    if given != args.inputs and args.output:
        args.output = os.path.join(args.output, "")  # what comes of a folder is one
    film = _film(args, task)
    written = [film] if film else [item for item in task.outputs if item.suffixes]
    targets = _targets(args, written) if written else [{} for _ in args.inputs or [None]]
    predictor = api.load(args.name, **_loading(args))
    options = _given(args, "input") | _given(args, "option")
    single = len(task.outputs) == 1 and not _given(args, "input")
    flows = single and args.inputs and all(map(partial(_flows, task.outputs[0]), args.inputs, targets))
    if film or (flows and predictor.streams(options)):
        done = list(_streams(args, predictor, options, targets, written[0]))
    else:
        done = list(_predictions(args, predictor, options, targets, written))
    if args.json:
        terminal.print_json({"model": asdict(predictor.report), "predictions": done})
    return 0


def _files(given: str, inputs: Sequence[Field]) -> list[str]:
    """An input as it is; the pictures in a folder, where the task takes pictures one by one."""
    folder, first = Path(given).expanduser(), inputs[0] if inputs else None
    if first is None or first.frames or not {*first.reads} & {*IMAGES} or not folder.is_dir():
        return [given]
    if not (found := files_in(folder, first.reads)):
        raise UsageError(f"the folder {given} holds no pictures", f"Endings: {', '.join(first.reads)}")
    return [str(item) for item in found]


class _Film(Video):
    """The output of each frame of a video file, as it is shown to people, of a task of single pictures."""

    suffixes = (".mp4", ".gif")


def _film(args: argparse.Namespace, task: Task) -> _Film | None:
    """What comes of the inputs, if all are video files and the task is one of single pictures."""
    if not args.inputs or not all(Path(item).suffix.lower() in VIDEOS for item in args.inputs):
        return None
    alone = isinstance(task.inputs[0], Image) and all(item.optional for item in task.inputs[1:])
    return _Film(task.outputs[0].name) if alone and not _given(args, "input") else None


def _predictions(
    args: argparse.Namespace,
    predictor: Predictor,
    options: dict[str, Any],
    targets: Sequence[Mapping[str, Path]],
    written: Sequence[Field],
) -> Iterator[dict[str, Any]]:
    """What was predicted from each input, and written to its targets."""
    sources = args.inputs or [None]  # a task that needs no input is done once
    items = [() if source is None else source for source in sources]
    predictions: Iterator[Prediction]
    if args.batch_size in (None, 1):
        predictions = _watched(predictor, items, options)
    else:
        predictions = predictor.predict_batch(items, batch_size=args.batch_size, **options)
    told = {item.name: item.told for item in predictor.task.outputs}
    work = zip(sources, targets, predictions, strict=True)
    for source, paths, prediction in terminal.progress(work, len(targets), "input"):
        outputs: dict[str, Any] = {}
        for name, value in prediction.items():
            if name in paths:
                own = _writing(args, written[0], source) if name == written[0].name else {}
                path = str(prediction.save(paths[name], name, **own))
                outputs[name], shown = {"path": path, "shape": list(value.shape)}, path
            else:
                outputs[name] = {"value": value.tolist() if hasattr(value, "tolist") else value}
                shown = f"{source}: {name} {told[name](value)}"
            if not args.json:
                terminal.say(f"{shown}  ({prediction.seconds:.2f} s)")
        yield {"input": source, "outputs": outputs, "seconds": prediction.seconds}


def _writing(args: argparse.Namespace, output: Field, source: str | None) -> dict[str, Any]:
    """How an output is written: as the flags say; a clip at the rate of the video file it comes from."""
    from stzoo.media import frame_rate

    known, given = {option.name for option in output.writing}, _given(args, "output")
    rate = frame_rate(source, output.name) if source and "fps" in known - given.keys() else None
    return given | ({"fps": rate} if rate else {})


def _watched(predictor: Predictor, items: Iterable[Any], options: Mapping[str, Any]) -> Iterator[Prediction]:
    """Predictions one by one; those that take long say how far they are."""
    for item in items:
        for prediction in predictor.watch(*(item if isinstance(item, tuple) else (item,)), **options):
            if prediction.share < 1:
                terminal.status(prediction.note)
            else:
                terminal.status("")
                yield prediction


def _flows(output: Field, source: str, targets: Mapping[str, Path]) -> bool:
    """Whether a clip can be read from ``source`` and written to ``targets`` frame by frame."""
    written = {path.suffix.lower() for path in targets.values()}
    return Path(source).suffix.lower() in VIDEOS and bool(written) and written <= {*output.streamed}


def _streams(
    args: argparse.Namespace,
    predictor: Predictor,
    options: dict[str, Any],
    targets: Sequence[Mapping[str, Path]],
    written: Field,
) -> Iterator[dict[str, Any]]:
    """Clips of any length: frames are written while others are still to be read."""
    for source, paths in zip(args.inputs, targets, strict=True):
        start, shape, path = time.perf_counter(), [0], paths[written.name]
        own = {option.name: option for option in written.writing}
        settings = complete_values(own, _writing(args, written, source), f"output {written.name!r}", UsageError)
        written.write(_frames(predictor, source, options, written, shape), path, **settings)
        seconds = time.perf_counter() - start
        if not args.json:
            terminal.say(f"{path}  ({seconds:.2f} s)")
        yield {"input": source, "outputs": {written.name: {"path": str(path), "shape": shape}}, "seconds": seconds}


def _frames(
    predictor: Predictor, source: str, options: Mapping[str, Any], written: Field, shape: list[int]
) -> Iterator[np.ndarray]:
    """What is predicted of a clip, frame by frame as ``written`` takes it; ``shape`` becomes that of all of them."""
    from stzoo.media import count_frames, read_image

    output, stream = predictor.task.outputs[0], predictor.stream(source, **options)
    for made in terminal.progress(stream, count_frames(source, output.name), "frame"):
        frame = made if written is output else read_image(output.preview(made), output.name, 3)
        shape[:] = shape[0] + 1, *frame.shape
        yield frame


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
        **_loading(args),
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
    from stzoo.prediction import check_target

    first = written[0]
    if args.output is None:
        raise UsageError("there is no place to write to", f"Add -o FILE, ending in one of {', '.join(first.suffixes)}")
    output = Path(args.output).expanduser()
    into_folder = len(args.inputs) > 1 or output.is_dir() or args.output.endswith(os.sep)
    if into_folder and not output.is_dir() and ending(output) in first.suffixes:
        raise UsageError(f"several inputs cannot all be written to the file {output}", "Give a folder: -o FOLDER")
    if args.format and not into_folder:
        raise UsageError("--format is for output folders", "The ending of -o says how a file is written")
    if into_folder:
        output.mkdir(parents=True, exist_ok=True)
    targets: list[dict[str, Path]] = []
    taken = {Path(item).expanduser().resolve() for item in args.inputs}
    for source in map(Path, args.inputs or [args.name]):
        path = output
        if into_folder:
            written_as = f".{args.format.removeprefix('.')}" if args.format else _ending(source, first)
            path = output / f"{_stem(source)}{written_as}"
        paths = {first.name: path}
        for item in written[1:]:
            paths[item.name] = path.with_name(f"{_stem(path)}-{item.name}{_ending(path, item)}")
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
    own = ending(like)
    return like.name[len(like.name) - len(own) :] if own in field.suffixes else field.suffixes[0]


def _stem(path: Path) -> str:
    """The name without its ending."""
    return path.name[: len(path.name) - len(ending(path))]


def finetune(args: argparse.Namespace) -> int:
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


def pull(args: argparse.Namespace) -> int:
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


def import_checkpoint(args: argparse.Namespace) -> int:
    config = {}
    for setting in args.set:
        key, equals, value = setting.partition("=")
        if not key or not equals or key in ("checkpoint", "architecture", "device"):
            raise UsageError(f"--set {setting} does not set a key of the config", "Write --set KEY=VALUE")
        config[key] = value
    model = imports.named(args.checkpoint)
    if model is None and args.output is None:
        raise UsageError(
            "there is no place to write to", "Add -o FOLDER; only models of the zoo have a place of their own"
        )
    predictor = imports.import_checkpoint(args.checkpoint, args.architecture, device="cpu", **config)
    folder = predictor.save(args.output) if args.output else None
    name = str(folder) if model is None else console.shown_name(model)
    rows = [
        ("architecture", predictor.architecture.name),
        ("config", "\n".join(f"{key}={value!r}" for key, value in predictor.config.items())),
        ("tensors", f"{predictor.report.tensors}, every one used"),
    ]
    if model is None:
        notes = predictor.report.notes or ("nothing: the tensors tell everything",)
        rows.append(("not known", "\n".join(notes)))
    else:
        rows += [("licence", imported.terms(model)), ("weights", predictor.report.path), ("also in", str(folder or ""))]
    print(terminal.page(name, [*rows, ("use it", f" stzoo predict {name} ...")]))
    return 0


# --- measuring --------------------------------------------------------------------------------------------------------


def evaluate(args: argparse.Namespace) -> int:
    folder = _recorded_in(args.models) if args.record else None
    evaluation = run_evaluation(
        args.models,
        args.data,
        split=args.split,
        options=_given(args, "option"),
        metrics=args.metrics,
        baselines=args.baselines or not args.no_baselines,
        output=args.output,
        **_loading(args),
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


def publish(args: argparse.Namespace) -> int:
    from stzoo import publishing

    keys = ("private", "create_pr", "revision", "tag", "license", "name", "message", "max_shard_size")
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


def demo(args: argparse.Namespace) -> int:
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


def space(args: argparse.Namespace) -> int:
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


def card(args: argparse.Namespace) -> int:
    from stzoo import files, overview, publishing

    if bool(args.name) == bool(args.all) or (args.all and args.output):
        raise UsageError("say which card", "Give a NAME, with -o FILE if wanted, or --all FOLDER")
    if args.all:
        print(*overview.write_cards(args.all), sep="\n")
    elif args.output:
        files.write_atomically(Path(args.output), publishing.card(args.name).encode())
        print(args.output)
    else:
        print(publishing.card(args.name), end="")
    return 0


def bundle(args: argparse.Namespace) -> int:
    from stzoo import bundles

    print(bundles.bundle(args.source, args.target, weights=args.weights, dtype=args.dtype, command=args.made_by))
    return 0


def record(args: argparse.Namespace) -> int:
    from stzoo import bundles

    print(*(path for folder in args.results for path in bundles.record(folder, args.into)), sep="\n")
    return 0
