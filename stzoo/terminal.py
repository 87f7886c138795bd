"""The terminal: lines, JSON, progress bars, tables and pages, and how things are spelled in a shell.

Knows nothing of models; imports no array library.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from stzoo.registry import as_plain
from stzoo.spec import Task

T = TypeVar("T")
Rows = list[tuple[str, str]]

_NARROWEST = 8
"""Characters below which no column of a table is shortened."""


def say(text: str) -> None:
    """Print a line, above the progress bar if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text)
    else:
        print(text)


def print_json(data: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(as_plain(data), indent=2, ensure_ascii=False, default=str))


def progress(items: Iterable[T], total: int, unit: str, delay: float = 0) -> Iterable[T]:
    """``items``, with a progress bar on stderr if that is a terminal and there is more than one; after ``delay`` seconds."""
    if total < 2 or not sys.stderr.isatty():
        return items
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, total=total, unit=unit, leave=False, delay=delay)
    return bar


def status(text: str) -> None:
    """Say on stderr how far something is, in place of what was said last, if that is a terminal; an empty text takes it away."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def width() -> int | None:
    """Columns of the terminal; None where stdout is not one and ``COLUMNS`` is not set."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return shutil.get_terminal_size().columns if known else None


def amount(count: int | None, unit: str = "") -> str:
    """12_345_678 as ``12.3 M`` and the unit; empty for None."""
    if count is None:
        return ""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {prefix}{unit}"
    return f"{count} {unit}".strip()


def table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> str:
    """Rows under a header; empty columns are left out. The widest cells are cut until a line fits ``columns``.

    The first column, which holds names to be copied, is never cut.
    """
    filled = [index for index in range(len(header)) if any(row[index] for row in rows)]
    lines = [[row[index] for index in filled] for row in (header, *rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    while columns and sum(widths) + 2 * len(widths) - 2 > columns and max(widths[1:], default=0) > _NARROWEST:
        widths[widths.index(max(widths[1:]), 1)] -= 1

    def line(cells: Sequence[str]) -> str:
        cut = (
            cell if len(cell) <= limit else cell[: limit - 1] + "…" for cell, limit in zip(cells, widths, strict=True)
        )
        return "  ".join(cell.ljust(limit) for cell, limit in zip(cut, widths, strict=True)).rstrip()

    return "\n".join(map(line, lines))


def page(title: str, rows: Rows) -> str:
    """A title and labelled paragraphs, wrapped to the terminal.

    Line breaks in a text are kept, a line that starts with a space is not wrapped, empty texts are left out.
    """
    indent = 2 + max((len(label) for label, text in rows if text), default=0) + 2
    lines = [title]
    for label, text in rows:
        for number, paragraph in enumerate(text.splitlines()):
            start = f"  {label if number == 0 else '':{indent - 4}}  "
            room = width()
            if room and not paragraph.startswith(" "):
                wrapped = textwrap.wrap(
                    paragraph,
                    max(room, indent + 20),
                    break_long_words=False,
                    break_on_hyphens=False,
                    initial_indent=start,
                    subsequent_indent=" " * indent,
                )
                lines += wrapped or [""]
            else:
                lines.append(start + paragraph.removeprefix(" "))
    return "\n".join(lines)


# --- spelling ---------------------------------------------------------------------------------------------------------


def flag(name: str) -> str:
    """How an option is spelled in a shell."""
    return "--" + name.replace("_", "-")


def usage(task: Task, load: str) -> tuple[str, str]:
    """How a model of the task is used: lines of Python, and one of shell. ``load`` is the model's name."""
    inputs = [
        item for item in task.inputs if not task.inputs[0].optional
    ]  # where none is needed, the shortest says most
    files = [f"{item.name}{item.suffixes[0]}" if item.suffixes else item.name for item in inputs]
    written = next((item for item in task.outputs if item.suffixes), None)
    target = f"predicted{written.suffixes[0]}" if written else ""
    python = [
        "import stzoo",
        f'predictor = stzoo.load("{load}")',
        f"prediction = predictor.predict({', '.join(map(json.dumps, files))})",
        f'prediction.save("{target}")' if written else f"prediction.{task.outputs[0].name}" if task.outputs else "",
    ]
    others = [f"{flag(item.name)} {file}" for item, file in zip(inputs[1:], files[1:], strict=True)]
    shell = ["stzoo predict", load, *files[:1], *others, *(["-o", target] if written else [])]
    return "\n".join(python), " ".join(shell)
