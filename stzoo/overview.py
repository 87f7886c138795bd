"""What the repository keeps about the models of its own plugins: their cards, and the catalogue of what can be installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stzoo import files
from stzoo.cards import MARK, foreign_file, headed, markdown_table, model_card
from stzoo.registry import catalogue, registry
from stzoo.spec import Model

OFFICIAL = "official-checkpoints.md"
"""The one card of all models that others publish."""
_OFFICIAL_TEXT = """\
Weights that their authors, or a benchmark, publish elsewhere. `stzoo import NAME` downloads one, reads it without executing
anything in it, converts it to safetensors and remembers what its outputs are; `stzoo.load(NAME)` takes it from then on. All
numbers here are those published with the files. `stzoo info NAME` says more, `stzoo evaluate` measures.
"""


def zoo_cards() -> dict[str, str]:
    """File name -> card: one for each model of the known plugins that are installed, one for all that others publish."""
    models = [model for model in registry().models() if model.plugin in catalogue()]
    found = {f"{model.name}.md": model_card(model) for model in models if not model.source}
    foreign = [model for model in models if model.source]
    return found | ({OFFICIAL: _official_card(foreign)} if foreign else {})


def _official_card(models: Sequence[Model]) -> str:
    """What there is, in a table for each data set and set of metrics, with the numbers of those who publish it."""
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for model in models:
        numbers = {item.metric: f"{item.value:g}" for item in model.metrics if item.source == "published"}
        dataset = next((item.dataset for item in model.metrics if item.source == "published"), model.trained_on)
        row = [f"`{model.name}`", model.description, f"{model.parameters / 1e6:.1f} M" if model.parameters else ""]
        row += [*numbers.values(), model.license, foreign_file(model)]
        tables.setdefault((dataset, *numbers), []).append(row)
    text = ""
    for (dataset, *names), rows in tables.items():
        header = ("Model", "What it is", "Parameters", *map(headed, names), "Licence", "Published as")
        text += f"## On {dataset}\n\n{markdown_table(header, rows)}\n\n"
    return f"{MARK}\n\n# Official checkpoints\n\n{_OFFICIAL_TEXT}\n{text.strip()}\n"


def write_cards(folder: Path) -> list[Path]:
    """Write :func:`zoo_cards` to a folder; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in zoo_cards().items():
        paths.append(folder / name)
        files.write_atomically(paths[-1], text.encode())
    return paths


def current_catalogue() -> str:
    """``catalogue.json`` with the models that the installed plugins bring now."""
    plugins = {
        name: entry
        | {
            "models": [
                {key: getattr(model, key) for key in ("name", "task", "description", "license")}
                for model in registry().models(plugin=name)
            ]
        }
        for name, entry in catalogue().items()
    }
    return json.dumps({"plugins": plugins}, indent=2) + "\n"


def write_catalogue() -> None:
    """Bring the package's own ``catalogue.json`` up to date."""
    files.write_atomically(Path(__file__).parent / "catalogue.json", current_catalogue().encode())
