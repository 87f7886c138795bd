"""Every command with its arguments. Nothing is run here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stzoo import __version__, bulk, errors
from stzoo.evaluation import SETTINGS
from stzoo.fields import Number, suggestion
from stzoo.parsing import Parser, UsageError, field_argument, first_word, from_hub, named, parser_of, task_arguments
from stzoo.registry import registry
from stzoo.spec import Architecture, Dataset, Model, Task, load_reference
from stzoo.ui.limits import LIMITS

_HELP = """\
A plugin-based model zoo for spatio-temporal vision.

  stzoo list                                        what there is
  stzoo info tau-mmnist                             everything about one model
  stzoo predict tau-mmnist clip.mp4 -o future.mp4   the next frames of a clip
"""

_COMMANDS: list[tuple[str, str, str, Callable[[Parser], None]]] = []


def build_parser() -> Parser:
    """The whole command line; ``command`` is the name of the command. No plugin is loaded for it."""
    common = Parser(add_help=False)
    _verbose(common)
    style: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    more = "Each command explains itself: stzoo COMMAND --help"
    parser = Parser("stzoo", description=_HELP, epilog=more, parents=[common], **style)
    parser.add_argument("--version", action="version", version=f"stzoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for name, purpose, example, arguments in _COMMANDS:
        described: dict[str, Any] = {
            "help": purpose,
            "description": f"{purpose[0].upper()}{purpose[1:]}.",
            "epilog": f"example:\n  {example}",
        }
        arguments(commands.add_parser(name, parents=[common], **described, **style))

    def look_ahead(parser: Parser, words: Sequence[str]) -> None:
        name = first_word(parser, words)
        if name is not None and name not in commands.choices:
            raise UsageError(f"no command is called {name!r}", suggestion(name, list(commands.choices)))
        if name is not None:  # now, since what argcomplete sees of a command is fixed before the command is parsed
            commands.choices[name].look_at(words[words.index(name) + 1 :])

    parser.prepare = look_ahead
    return parser


def _command(name: str, purpose: str, example: str) -> Callable[[Callable[[Parser], None]], Callable[[Parser], None]]:
    def register(arguments: Callable[[Parser], None]) -> Callable[[Parser], None]:
        _COMMANDS.append((name, purpose, example, arguments))
        return arguments

    return register


def _verbose(parser: Parser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say what is done, and show tracebacks"
    )


def _json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _models(parser: argparse._ActionsContainer, flag: str, **options: Any) -> None:
    """An argument for one or several models."""
    named(parser, flag, Model, **{"metavar": "NAME", "help": "a model, a Hub repo id, or a saved folder"} | options)


def _data(parser: argparse._ActionsContainer, **options: Any) -> None:
    about = "a named dataset, a Hub dataset id, a folder or file"
    named(parser, "--data", Dataset, metavar="DATA", help=about, **options)
    parser.add_argument("--split", help="default: the first there is of test, validation, all")


def _computing(parser: Parser) -> None:
    parser.add_argument("--device", help="such as cpu or cuda:1; default: cuda where there is one")
    parser.add_argument("--dtype", help="float32 (default), float16 or bfloat16")


def _assignments(parser: Parser, about: str) -> None:
    parser.add_argument("--set", metavar="KEY=VALUE", nargs="+", action="extend", default=[], help=about)


@_command("list", "list models, or tasks, architectures, datasets", "stzoo list --task video-prediction --commercial")
def _list(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group()
    for plural in ("architectures", "tasks", "datasets"):
        what.add_argument(
            f"--{plural}", dest="kind", action="store_const", const=plural, help=f"list {plural} instead of models"
        )
    named(parser, "--task", Task, help="only those of this task")
    parser.add_argument("--plugin", help="only those of this plugin")
    parser.add_argument(
        "--query", metavar="TEXT", help="only those whose name, description, data or tags have all these words"
    )
    named(parser, "--architecture", Architecture, help="only models of this architecture")
    parser.add_argument("--license", help="only those with this licence")
    parser.add_argument("--commercial", action="store_true", help="leave out what may not be used commercially")
    _json(parser)


@_command("info", "show everything about a model, task, architecture or dataset", "stzoo info tau-mmnist")
def _info(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    named(what, "name", Model, metavar="NAME", nargs="?", help="a model")
    for flag, kind in (("--task", Task), ("--architecture", Architecture), ("--dataset", Dataset)):
        named(what, flag, kind, metavar="NAME", help=f"a {flag[2:]} instead of a model")
    _json(parser)


@_command("predict", "predict from files with a model", "stzoo predict tau-mmnist clip.mp4 --horizon 20 -o future.gif")
def _predict(parser: Parser) -> None:
    parser.usage = (
        "stzoo predict NAME INPUT [INPUT ...] -o OUT [options of the model's task: stzoo predict NAME --help]\n"
        "       stzoo predict NAME --data DATA -o FOLDER [options]"
    )
    _models(parser, "name")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="a file, or a folder of frames; several, and the pictures in a folder or a video if the task takes pictures, are predicted one by one",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the file to write, its ending says how; for several inputs and for --data a folder",
    )
    parser.add_argument(
        "--format",
        metavar="ENDING",
        help="ending of the files in an output folder; default: that of the input, where it can be written; with --data one that loses nothing, or webdataset",
    )
    _computing(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=parser_of(Number("batch_size", minimum=1, integer=True)),
        help="inputs predicted at once, where their sizes agree; default 1, with --data 8",
    )
    group = parser.add_argument_group(
        "a whole data set",
        "Also under torchrun, on many processes and machines. The same command goes on with a folder that is unfinished. "
        "Inputs that cannot be used are recorded in FOLDER/shards, and the exit code is then 1.",
    )
    _data(group)
    group.add_argument(
        "--streaming", action="store_true", help="read in order, without a copy of the data on this machine"
    )
    for name in ("shard_size", "limit"):
        field_argument(group, "setting", bulk.SETTINGS[name])
    from_hub(parser)
    _json(parser)
    parser.prepare = _predict_arguments


def _predict_arguments(parser: Parser, words: Sequence[str]) -> None:
    """As the task says; inputs are needed unless there are data, or the task needs none: what may be left out must stand right
    behind NAME."""
    task_arguments(parser, words)
    task = parser.get_default("task")
    needless = task is not None and all(item.optional for item in task.inputs)
    if needless or any(word == "--data" or word.startswith("--data=") for word in words):
        inputs = next(action for action in parser._actions if action.dest == "inputs")
        inputs.nargs, inputs.required = "*", False


@_command(
    "finetune",
    "train a model further on data, or an architecture from scratch",
    "stzoo finetune tau-mmnist --data ./clips --output runs/a --lr 1e-4 --set recipe.crop=64",
)
def _finetune(parser: Parser) -> None:
    about = "a model, a Hub repo id, a saved folder, or an architecture"
    _models(parser, "model", metavar="MODEL", nargs="?", help=about)
    parser.add_argument(
        "--data",
        metavar="DATA",
        action="append",
        help="a named dataset, a Hub dataset id, a folder (stzoo info --task T shows the layout); ROLE=DATA, once for each role, for a recipe that learns from several",
    )
    parser.add_argument("-o", "--output", metavar="RUN", help="the run folder, new or empty")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in RUN, which knows MODEL and DATA"
    )
    parser.add_argument("--config", metavar="FILE", help="a YAML file of options, as RUN/config.yaml")
    _assignments(parser, "any option, also one inside a table: --set recipe.lr=1e-4 model_config.drop=0.1")
    group = parser.add_argument_group("options of a run", "Also keys of --config and --set.")
    group.add_argument(
        "--lr",
        metavar="RATE",
        dest="option:recipe.lr",
        default=argparse.SUPPRESS,
        help="the same as --set recipe.lr=RATE",
    )
    from stzoo.training.options import OPTIONS

    for field in OPTIONS.values():
        field_argument(group, "option", field)
    parser.prepare = _recipe_help


def _recipe_help(parser: Parser, words: Sequence[str]) -> None:
    """For ``--help`` with a model: what its recipe can be told. The recipe's module is imported for it."""
    name = first_word(parser, words)
    if name is None or not {"-h", "--help"} & set(words):
        return
    from stzoo.api import architecture_of

    try:
        architecture = architecture_of(name)
    except errors.UnknownModel:
        architecture = registry().get(Architecture, name)
    if architecture.recipe:
        defaults = ", ".join(f"{key}={value!r}" for key, value in load_reference(architecture.recipe).options().items())
        parser.add_argument_group(
            f"recipe of {architecture.name}", f"Set with --set recipe.KEY=VALUE. Defaults: {defaults}"
        )


@_command("pull", "make weights available on this machine, verified", "stzoo pull tau-mmnist me/tau-clips")
def _pull(parser: Parser) -> None:
    _models(parser, "names", nargs="*")
    parser.add_argument("--all", action="store_true", help="every model of every installed plugin")
    from_hub(parser)
    _json(parser)


@_command("import", "convert an official checkpoint", "stzoo import mmnist_tau.pth -o my-tau")
def _import(parser: Parser) -> None:
    about = (
        "a .pth, .pt, .ckpt or .safetensors file, its address (https://..., hf://owner/name@revision/path/file), or a "
        "model of the zoo that others publish, which then loads by its name"
    )
    named(parser, "checkpoint", Model, metavar="CHECKPOINT", help=about)
    named(parser, "--architecture", Architecture, help="what it is, if the tensors fit several")
    _assignments(parser, "config that the tensors cannot tell")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="where to save the model; needed but for the zoo's own"
    )


@_command(
    "evaluate", "measure models on a data set", "stzoo evaluate runs/a tau-mmnist --data ./clips --output results"
)
def _evaluate(parser: Parser) -> None:
    parser.usage = (
        "stzoo evaluate MODEL [MODEL ...] --data DATA [options of the models' task: stzoo evaluate MODEL --help]"
    )
    about = "a model, a Hub repo id, a saved folder, or the folder of a run; several are compared"
    _models(parser, "models", metavar="MODEL", nargs="+", help=about)
    _data(parser, required=True)
    for setting in SETTINGS.values():
        field_argument(parser, "setting", setting)
    parser.add_argument(
        "--metrics",
        metavar="NAME",
        nargs="+",
        help="only these, each NAME or 'NAME?option=value'; default: all of the task but the optional ones",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--baselines",
        metavar="NAME",
        nargs="+",
        help="of the task's trivial methods these; default: all but the optional ones",
    )
    chosen.add_argument("--no-baselines", action="store_true", help="leave out the task's trivial methods")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FOLDER",
        help="write evaluation.json, evaluation.md, samples.parquet and curves.png there",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write evaluation.json into MODEL's folder, for its card and for publishing",
    )
    _computing(parser)
    from_hub(parser)
    _json(parser)
    parser.prepare = partial(task_arguments, roles=("option",))


@_command("verify", "check a model's bytes, tensors and outputs", "stzoo verify tau-mmnist")
def _verify(parser: Parser) -> None:
    _models(parser, "names", nargs="+")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    _json(parser)


@_command("lock", "write the exact weights that a project uses to a lock file", "stzoo lock tau-mmnist me/tau-clips")
def _lock(parser: Parser) -> None:
    _models(parser, "names", nargs="+")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="stzoo.lock", help="default: stzoo.lock; its other entries are kept"
    )


@_command("publish", "publish a model, or the whole zoo, to the Hugging Face Hub", "stzoo publish runs/a me/tau-clips")
def _publish(parser: Parser) -> None:
    parser.usage = "stzoo publish SOURCE REPO_ID [options]\n       stzoo publish --all ORG [options]"
    parser.add_argument("source", metavar="SOURCE", nargs="?", help="a run folder or a saved folder")
    parser.add_argument("repo_id", metavar="REPO_ID", nargs="?", help="owner/name; made if there is none")
    parser.add_argument("--all", metavar="ORG", help="every bundled model of the zoo, to ORG/<model>")
    parser.add_argument("--plugin", help="with --all: the models of this plugin")
    parser.add_argument("--output", metavar="FILE", help="with --all: write the commits to record as JSON")
    parser.add_argument("--private", action="store_true", help="make the repo private; one that is public is refused")
    parser.add_argument("--create-pr", action="store_true", help="propose the files in a pull request")
    parser.add_argument("--revision", metavar="BRANCH", help="commit to this branch, made if there is none")
    parser.add_argument("--tag", help="name the commit; a tag is never moved")
    parser.add_argument("--license", help="of the weights, where none is recorded")
    parser.add_argument("--name", help="title of the card; default: the repo's name")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument(
        "--max-shard-size", metavar="SIZE", help="split larger weights into several files; default: 5GB"
    )
    _json(parser)


@_command("demo", "try models in the browser", "stzoo demo tau-mmnist")
def _demo(parser: Parser) -> None:
    named(parser, "names", Model, metavar="NAME", nargs="*", help="a model or a task; default: everything installed")
    named(parser, "--task", Task, help="all models of this task")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every network; default: 127.0.0.1"
    )
    parser.add_argument(
        "--port",
        type=parser_of(Number("port", minimum=1, maximum=65535, integer=True)),
        help="default: the first free one from 7860",
    )
    parser.add_argument("--share", action="store_true", help="also through a public address, made by gradio.live")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    group = parser.add_argument_group("limits", "Also environment variables: STZOO_DEMO_MAX_FILE_SIZE and so on.")
    for limit in LIMITS.values():
        field_argument(group, "limit", limit)


@_command("space", "write and upload Hugging Face Spaces", "stzoo space export tau-mmnist space")
def _space(parser: Parser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    hardware = "such as cpu-basic, zero-a10g or l4x1"
    export = actions.add_parser("export", help="write the folder of a Space", allow_abbrev=False)
    _verbose(export)
    export.usage = "stzoo space export NAME [NAME ...] DIR [--hardware KIND]\n       stzoo space export --all DIR"
    about = "a model, or a task for all its installed models"
    named(export, "names", Model, metavar="NAME", nargs="*", help=about)
    export.add_argument("folder", metavar="DIR", type=Path, help="new, empty, or written by this command")
    export.add_argument("--all", action="store_true", help="a folder in DIR for each task of the zoo's models")
    export.add_argument("--hardware", metavar="KIND", help=f"what it is for, {hardware}; default: what the models need")
    push = actions.add_parser("push", help="upload the folder of a Space", allow_abbrev=False)
    _verbose(push)
    push.add_argument("folder", metavar="DIR", help="as export wrote it")
    push.add_argument("repo_id", metavar="REPO_ID", help="owner/name; made if there is none")
    push.add_argument("--private", action="store_true", help="make the Space private; one that is public is refused")
    push.add_argument("--hardware", metavar="KIND", help=f"ask for hardware, {hardware}; it may cost money")
    _json(push)


@_command("card", "write a model card", "stzoo card tau-mmnist")
def _card(parser: Parser) -> None:
    named(parser, "name", Model, metavar="NAME", nargs="?", help="a model, a run folder or a saved folder")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it; default: stdout")
    parser.add_argument(
        "--all", metavar="FOLDER", type=Path, help="write the cards of all models of the zoo to a folder"
    )


@_command(
    "bundle",
    "take trained weights into a plugin, with the record of how they were made",
    "stzoo bundle runs/a src/acme/weights/acme-x2",
)
def _bundle(parser: Parser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a run folder or a saved folder")
    parser.add_argument("target", metavar="FILE", help="NAME.safetensors is written, and NAME.json")
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which of a run; default: best")
    parser.add_argument(
        "--dtype", choices=("float16", "bfloat16", "float32"), default="float16", help="as stored; default: float16"
    )
    parser.add_argument("--made-by", metavar="COMMAND", help="of a saved folder: the command that made its weights")


@_command(
    "record",
    "write what was measured into the records of bundled weights",
    "stzoo record results --into src/acme/weights",
)
def _record(parser: Parser) -> None:
    parser.add_argument("results", metavar="RESULTS", nargs="+", help="an --output of stzoo evaluate")
    parser.add_argument("--into", metavar="FOLDER", required=True, help="where the weights are")


@_command("plugins", "list plugins and what became of them", "stzoo plugins --json")
def _plugins(parser: Parser) -> None:
    _json(parser)


@_command("doctor", "say what is wrong with the installation", "stzoo doctor")
def _doctor(parser: Parser) -> None:
    _json(parser)


@_command("new-plugin", "write the files of a new plugin", "stzoo new-plugin acme-frames --task video-prediction")
def _new_plugin(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="such as acme-frames")
    named(parser, "--task", Task, required=True, help="what its model does")
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, default=Path(), help="where to put the plugin's folder; default: here"
    )


@_command("completion", "print the script that makes a shell complete stzoo", 'eval "$(stzoo completion bash)"')
def _completion(parser: Parser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
