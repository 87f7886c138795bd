"""Weights that travel in a plugin's wheel: a safetensors file, and beside it a record of how it was made and what it measured."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.files import write_atomically
from stzoo.requirements import Requirements
from stzoo.spec import Measurement, Model, Weights

_MADE = ("command", "hardware", "steps", "minutes")
"""Keys that a record has if the weights were trained: what was typed, on what, for how long."""


def read_record(weights: str | os.PathLike[str]) -> dict[str, Any]:
    """The record beside ``NAME.safetensors`` (the ending may be left out): NAME.json.

    Keys: architecture, config, dtype, sha256, size, fingerprint, requirements, parameters, multiply_adds, measurements,
    curves, and, of trained weights, command, hardware, steps, minutes. Raises WeightsUnavailable where there is none.
    """
    file = Path(weights).with_suffix(".json")
    try:
        record: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as problem:
        raise errors.WeightsUnavailable(f"{file} is no record of weights ({problem})", "Run: stzoo bundle") from problem
    return record


def bundled(
    weights: str | os.PathLike[str], *, card: str = "", metrics: Sequence[Measurement] = (), **fields: Any
) -> Model:
    """The zoo's entry for what ``bundle`` put into a plugin, as ``weights/NAME.safetensors`` of its package.

    ``card``: prose with ``{hardware}``, ``{minutes}`` and other keys of the record to be filled in; ``metrics``: published
    numbers, beside those the record holds; ``fields``: the other fields of `Model`. Raises WeightsUnavailable.
    """
    file, record = Path(weights), read_record(weights)
    fields.setdefault("command", record.get("command", ""))
    return Model(
        name=file.stem,
        architecture=record["architecture"],
        config={key: tuple(value) if isinstance(value, list) else value for key, value in record["config"].items()},
        weights=Weights(
            f"stzoo/{file.stem}",
            sha256=record["sha256"],
            size=record["size"],
            bundled=f"{file.parent.name}/{file.stem}.safetensors",
            dtype=record["dtype"],
        ),
        metrics=(*(Measurement(**entry) for entry in record["measurements"]), *metrics),
        requirements=Requirements(**record["requirements"]),
        parameters=record["parameters"],
        flops=record["multiply_adds"],
        fingerprint=record["fingerprint"],
        card=card.format_map(record),
        **fields,
    )


def bundle(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    weights: str = "best",
    dtype: str = "float16",
    command: str | None = None,
) -> Path:
    """Take the weights of a run (``weights``: "best" or "last"), or of a saved folder, into a plugin; returns their file.

    Writes ``target``.safetensors in ``dtype`` and ``target``.json, the record. ``command`` says how the weights of a
    saved folder were made. Measurements of an earlier record of the very same bytes are kept. Raises
    ConfigError if ``source`` is neither.
    """
    import torch

    from stzoo import api
    from stzoo.costs import costs
    from stzoo.training.run import RECORD, Run

    source, file = Path(source).expanduser(), Path(target).expanduser()
    file = file.with_name(f"{file.name.removesuffix('.safetensors')}.safetensors")
    made: dict[str, Any] = {"command": command} if command else {}
    if (source / RECORD).exists():
        run = Run(source)
        history, trained = run.record, run.load(weights, device="cpu")
        minutes = round(history["seconds"] / 60, 1)
        values = (history["command"], history["hardware"], history["step"], minutes)
        made = dict(zip(_MADE, values, strict=True)) | made
    else:
        trained = api.load(source, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        trained.save(folder, dtype=getattr(torch, dtype))
        predictor = api.load(folder, device="cpu")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, (Path(folder) / "model.safetensors").read_bytes())
        fingerprint, found = predictor.fingerprint(), costs(predictor)
    record = {
        "architecture": predictor.architecture.name,
        "config": predictor.config,
        "dtype": dtype,
        "sha256": predictor.report.sha256,
        "size": file.stat().st_size,
        "fingerprint": fingerprint,
        "requirements": asdict(predictor.requirements),
        "parameters": found.parameters,
        "multiply_adds": found.multiply_adds,
        **made,
        "measurements": [],
        "curves": {},
    }
    earlier = read_record(file) if file.with_suffix(".json").exists() else {}
    if earlier.get("sha256") == record["sha256"]:
        record |= {key: earlier[key] for key in ("measurements", "curves") if key in earlier}
    _write(file, record)
    return file


def record(results: str | os.PathLike[str], weights: str | os.PathLike[str]) -> list[Path]:
    """Write what an evaluation (the --output of ``stzoo evaluate``) found of models into their records in the folder
    ``weights``; returns these. What was measured on the same data before is replaced. Raises ConfigError if none is there.
    """
    from stzoo.results import EVALUATION_FILE, Evaluation

    try:
        found = Evaluation.from_json((Path(results).expanduser() / EVALUATION_FILE).read_text())
    except OSError as problem:
        raise errors.ConfigError(
            f"{results} holds no evaluation ({problem})",
            "Write one with: stzoo evaluate MODEL --data D --output FOLDER",
        ) from problem
    baselines, written = [model for model in found.models if model.baseline], []
    for model in found.models:
        file = Path(weights).expanduser() / f"{model.name}.safetensors"
        if model.baseline or not file.exists():
            continue
        entry, measured = read_record(file), [asdict(item) for item in found.measurements(model.name)]
        entry["measurements"] = [item for item in entry["measurements"] if item["dataset"] != found.dataset] + measured
        curves = {
            metric: {item.name: item.metrics[metric].curve for item in (model, *baselines)}
            for metric, value in model.metrics.items()
            if value.curve
        }
        entry["curves"] = entry.get("curves", {}) | curves
        _write(file, entry)
        written.append(file.with_suffix(".json"))
    if not written:
        raise errors.ConfigError(
            f"{weights} has none of {', '.join(model.name for model in found.models if not model.baseline)}",
            "Bundle them first: stzoo bundle RUN FILE",
        )
    return written


def _write(file: Path, record: Mapping[str, Any]) -> None:
    write_atomically(file.with_suffix(".json"), (json.dumps(record, indent=2) + "\n").encode())


def train_by_name(systems: Mapping[str, str], description: str) -> None:
    """The command line of a plugin's script that trains what it bundles: ``NAME DATA --output RUN``.

    ``systems``: name of the model -> what ``stzoo finetune`` starts from, and its options. That one command is printed and run.
    """
    import argparse
    import shlex
    import subprocess
    import sys

    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("name", choices=sorted(systems))
    parser.add_argument("data")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    start, *own = systems[options.name].split()
    words = ["stzoo", "finetune", start, "--data", options.data, "--output", options.output, *own]
    print("$ " + shlex.join(words), flush=True)
    subprocess.run([sys.executable, "-m", *words], check=True)
