"""How the command line is understood: a parser that says what is wrong, and arguments made from what tasks declare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from stzoo import console, errors, terminal
from stzoo.fields import Field, Value, suggestion
from stzoo.registry import registry


class UsageError(errors.StzooError):
    """The command line cannot be understood."""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of exiting; ``prepare`` sees the words first, and may add arguments."""

    prepare: Callable[[Parser, Sequence[str]], None] | None = None

    def look_at(self, words: Sequence[str]) -> None:
        """Run ``prepare``, the first time."""
        prepare, self.prepare = self.prepare, None
        if prepare:
            prepare(self, words)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.look_at(sys.argv[1:] if args is None else args)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            meant = suggestion(unknown[0].partition("=")[0], flags)
            hint = meant if meant.startswith("Did") else f"See: {self.prog} --help"
            raise UsageError(f"unrecognized arguments: {' '.join(unknown)}", hint)
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"See: {self.prog} --help")


def named(parser: argparse._ActionsContainer, flag: str, kind: type[Any], **options: Any) -> None:
    """An argument that names registered things, and completes."""
    action = parser.add_argument(flag, **options)
    action.completer = lambda **_: sorted({spec.name for spec in registry().all(kind)})  # type: ignore[attr-defined]


def from_hub(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--offline", action="store_true", default=None, help="make no request")


def task_arguments(parser: Parser, words: Sequence[str], roles: Sequence[str] = ("option", "input", "output")) -> None:
    """Add one flag for each option and further input of the task of the model that is named in ``words``."""
    scout = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    from_hub(scout)
    known, rest = scout.parse_known_args(words)
    name = first_word(parser, rest)
    if name is None:
        return
    from stzoo.api import architecture_of

    architecture = architecture_of(name, revision=known.revision, offline=known.offline)
    task = registry().task_of(architecture)
    parser.set_defaults(task=task)
    group = parser.add_argument_group(f"task {task.name}", task.description)
    written = next((item for item in task.outputs if item.suffixes), None)
    for role, fields in (
        ("option", task.options),
        ("input", task.inputs[1:]),
        ("output", written.writing if written else ()),
    ):
        for field in fields if role in roles else ():
            field_argument(group, role, field)


def first_word(parser: Parser, words: Sequence[str]) -> str | None:
    """The first word that is neither a flag nor a flag's value. Flags that are not known yet take a value."""
    switches = {flag for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif not word.startswith("-"):
            return word
        else:  # --flag=value and -ovalue bring their value along
            is_value = word not in switches and "=" not in word and (len(word) == 2 or word.startswith("--"))
    return None


def field_argument(group: Any, role: str, field: Field) -> None:
    options: dict[str, Any] = {"dest": f"{role}:{field.name}", "default": argparse.SUPPRESS}
    if isinstance(field, Value):
        options |= {
            "type": parser_of(field),
            "metavar": field.name.upper(),
            "help": console.explained(field).replace("%", "%%"),
        }
        if isinstance(field.default, list):
            options["action"] = "extend"
        if getattr(field, "choices", None) == (True, False):
            options |= {"nargs": "?", "const": True}
    else:
        options |= {"metavar": "FILE", "help": field.description.replace("%", "%%")}
    flag = terminal.flag(field.name)
    try:
        action = group.add_argument(flag, **options)
    except argparse.ArgumentError:  # another argument has this name
        action = group.add_argument(f"--{role}-{flag[2:]}", **options)
    choices = getattr(field, "choices", ())
    if choices:
        action.completer = lambda **_: [str(choice) for choice in choices]


def parser_of(field: Value) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return field.parse(text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(f"{text!r} {problem}") from None

    return parse
