"""What a run works with, made from its request: the model, its recipe, the data and the plan."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from stzoo import api, errors
from stzoo.data import Examples, open_data
from stzoo.fields import complete_values
from stzoo.lineage import source_text
from stzoo.predictor import LoadReport, Predictor
from stzoo.recipe import Recipe
from stzoo.spec import Architecture, Metric, load_reference
from stzoo.training import batches
from stzoo.training.request import Request, as_text

log = logging.getLogger("stzoo")


class Job:
    """Everything that is known before the first step."""

    predictor: Predictor
    """The run's own, with its lineage; its module is the one that is trained."""
    recipe: Recipe
    trained: bool
    """Whether it starts from a model's weights."""
    monitor: Metric | None
    """The metric that decides which weights are best; None if the task has none."""
    task_options: dict[str, Any]
    sources: dict[str, batches.Source]
    """What each role of the recipe draws from."""
    stream: Examples | None = None
    validation: Examples
    data_license: str | None = None

    def __init__(self, request: Request) -> None:
        self.request, self.options = request, request.options
        options = self.options
        start = _start(request.model, options)
        self.recipe = _recipe(start.architecture, options)
        chosen = request.given | ({"steps"} if "epochs" in request.given else set())
        options |= {name: value for name, value in self.recipe.defaults.items() if name not in chosen}
        task = start.task
        self.task_options = complete_values(
            {item.name: item for item in task.options}, options["options"], f"task {task.name!r}"
        )
        self.trained = start.report.source != "none"
        self.monitor = _monitor(task.metrics, options["monitor"], task.name)
        _freeze(start.module, options["freeze"])
        if type(self.recipe).companions is Recipe.companions:  # they have parameters, too
            _check_names(start.module, "lr_scale", options["lr_scale"])
        self.predictor = _as_result(start, request)

    # --- data ---------------------------------------------------------------------------------------------------------

    def open_data(self) -> None:
        """Open the data of every role, and what is held out."""
        options, task, needs = self.options, self.predictor.task, self.predictor.requirements
        roles, data = self.recipe.roles, self.request.data
        named = isinstance(data, Mapping) and any(isinstance(item, (str, os.PathLike)) for item in data.values())
        if not (isinstance(data, Mapping) and (len(roles) > 1 or named)):  # a mapping of splits, such as a DatasetDict
            data = {roles[0]: data}
        if set(data) != set(roles):
            raise errors.ConfigError(
                f"the recipe learns from {' and '.join(roles)}, data was given for {' and '.join(data)}",
                "Give data for each: --data ROLE=DATA; what to evaluate on is the option validation",
            )
        streaming = options["streaming"]
        if streaming and (len(data) > 1 or self.recipe.closed_form):
            raise errors.ConfigError("this recipe cannot learn from a stream", "Leave out streaming")
        opened = {
            role: open_data(data[role], task, options["split"], requirements=needs, streaming=streaming)
            for role in roles
        }
        self.data_license = next((item.license for item in opened.values() if item.license), None)
        opened[roles[0]], held = self._held_out(opened[roles[0]], data[roles[0]])
        held = held.first(options["evaluate_examples"]) if streaming else held
        if not len(held):
            raise errors.DatasetError(f"{held.name} ({held.split}) has nothing to evaluate on")
        limit = min(len(held), options["evaluate_examples"])
        self.validation = held.select([index * len(held) // limit for index in range(limit)])
        self.stream = opened[roles[0]] if streaming else None
        self.sources = {}
        for role, examples in opened.items():
            items: Any = examples if streaming else self.recipe.samples(examples)
            if not streaming and not len(items):
                raise errors.DatasetError(f"{examples.name} ({examples.split}) has nothing to train on")
            self.sources[role] = batches.Source(items, self.recipe, needs, options["seed"])

    def _held_out(self, train: Examples, data: Any) -> tuple[Examples, Examples]:
        """The training examples, and those to evaluate on."""
        options, task, needs = self.options, self.predictor.task, self.predictor.requirements
        asked, streaming = options["validation"], options["streaming"]
        try:
            return train, open_data(asked or data, task, "validation", requirements=needs, streaming=streaming)
        except errors.SplitMissing as problem:
            if asked:
                return train, open_data(asked, task, requirements=needs, streaming=streaming)
            if streaming:
                raise errors.SplitMissing(
                    f"{problem.problem}, and nothing can be held out of a stream", "Give validation data"
                ) from problem
        kept, held = train.hold_out(options["holdout"])
        log.info("%d of %d examples are held out for evaluation: the last ones", len(held), len(train))
        return kept, held

    def rebuild(self, config: Mapping[str, Any]) -> None:
        """Build the network again as learning has changed its config, to take over a checkpoint's weights."""
        made = api.create(self.predictor.architecture.name, device="cpu", **{**self.predictor.config, **config})
        _freeze(made.module, self.options["freeze"])
        self.predictor = replace(self.predictor, module=made.module, config=made.config)

    # --- plan ---------------------------------------------------------------------------------------------------------

    def plan(self, processes: int) -> Plan:
        """How many steps, and what happens when."""
        options, stages = self.options, self.recipe.stages
        total = options["steps"]
        if self.recipe.closed_form:
            total = 1
        elif total is None and self.stream is not None:
            raise errors.ConfigError("the length of a stream is unknown", "Give steps")
        elif total is None:
            samples = (options["epochs"] or 10) * len(self.sources[self.recipe.roles[0]])
            total = max(1, math.ceil(samples / self.samples_per_step(processes)))
        every = options["evaluate_every"] or max(1, math.ceil(total / 10))
        plan = Plan(total, every, options["checkpoint_every"] or every)
        shares, first = [stage.share for stage in stages], 0
        for index, stage in enumerate(stages):
            end = round(total * sum(shares[: index + 1]) / sum(shares))
            plan.stages.append((stage.name, first, end))
            first = end
        return plan

    def samples_per_step(self, processes: int) -> int:
        """Of all processes."""
        return int(self.options["batch_size"] * self.options["accumulate"] * processes)

    def epoch(self, drawn: int) -> float | None:
        """Passes over the data after so many samples; unknown for a stream."""
        return None if self.stream is not None else round(drawn / len(self.sources[self.recipe.roles[0]]), 3)


@dataclass
class Plan:
    """Counts that follow from the options and the size of the data."""

    total: int
    evaluate_every: int
    checkpoint_every: int
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, first step and end of each stage."""

    def stage_at(self, step: int) -> int:
        """Which stage this step belongs to."""
        return next(index for index, (_, first, end) in enumerate(self.stages) if first <= step < end)


@dataclass
class Progress:
    """Where a run is; all of it is in its checkpoints."""

    step: int = 0
    drawn: int = 0
    """Samples drawn so far, by all processes."""
    seconds: float = 0.0
    """Of training, without evaluations."""
    start: dict[str, float] | None = None
    """The evaluation before the first step."""
    best: dict[str, float] | None = None
    """The best evaluation, and the ``step`` it was made at."""
    since_best: int = 0
    """Evaluations since then."""
    evaluated: int = -1
    """The step of the last evaluation."""


# --- the model --------------------------------------------------------------------------------------------------------


def _start(model: str, options: Mapping[str, Any]) -> Predictor:
    """The model with its weights, or the architecture untrained."""
    config = options["model_config"]
    try:
        return api.load(model, device="cpu", revision=options["revision"], **config)
    except errors.UnknownModel:
        if all(item.name != model for item in api.architectures()):
            raise
    torch.manual_seed(options["seed"])
    return api.create(model, device="cpu", **config)


def _as_result(start: Predictor, request: Request) -> Predictor:
    """The model under the run's own name, with its lineage."""
    license = start.spec.license if start.spec else start.extra.get("license")
    repo = start.spec.weights.repo if start.spec and start.spec.weights else None
    name = start.extra.get("name") if start.report.source == "folder" else start.report.name
    origin = None if start.report.source == "none" else repo or name
    lineage = {"license": license, "base_model": origin, "trained_on": source_text(as_text(request.data))}
    extra = {key: value for key, value in lineage.items() if value}
    report = LoadReport(request.output.name, "run")
    return Predictor(start.module, start.architecture, start.task, start.config, report, None, extra)


def _monitor(metrics: tuple[Metric, ...], name: str | None, task: str) -> Metric | None:
    known = {item.name: item for item in metrics if not item.optional}
    if name is not None and name not in known:
        raise errors.ConfigError(f"task {task!r} has no metric {name!r}", f"It has {', '.join(known)}")
    return known[name] if name else next(iter(known.values()), None)


def _recipe(architecture: Architecture, options: Mapping[str, Any]) -> Recipe:
    if not architecture.recipe:
        raise errors.ConfigError(
            f"architecture {architecture.name!r} brings no recipe",
            'stzoo cannot train it until its plugin names one: Architecture(..., recipe="module:Recipe")',
        )
    recipe: Recipe = load_reference(architecture.recipe).from_options(options["recipe"])
    recipe.lr_scale = options["lr_scale"]
    return recipe


def _check_names(module: nn.Module, option: str, patterns: Iterable[str]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise errors.ConfigError(
                f"{option}: no parameter is called {pattern!r}", f"There are {', '.join(names[:5])} …"
            )


def _freeze(module: nn.Module, patterns: list[str]) -> None:
    _check_names(module, "freeze", patterns)
    for name, parameter in module.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if patterns and not any(parameter.requires_grad for parameter in module.parameters()):
        raise errors.ConfigError("every parameter is frozen", "Freeze fewer of them")
