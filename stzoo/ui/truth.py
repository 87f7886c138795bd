"""A prediction beside the truth, where that is known: of an example from a data set, or given by the visitor."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.fields import Field
from stzoo.lineage import portable
from stzoo.measuring import measure_one
from stzoo.media.colours import CURVES
from stzoo.results import Summary
from stzoo.ui.components import Widget, enlarged, picture, widget
from stzoo.ui.running import Done
from stzoo.ui.sheets import drawn
from stzoo.ui.subject import Example, Subject
from stzoo.ui.web import gr, in_browser

log = logging.getLogger("stzoo")

ARROWS = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Truth:
    """True outputs of one prediction."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By name, in their fields' layout; empty if none can be used."""
    source: str = ""
    problem: str = ""
    """Why there are none, where there should be."""

    def of(self, outputs: Mapping[str, Any]) -> Truth:
        """The same if it has the shapes of the outputs, else why it cannot be compared with them."""
        for name, value in self.values.items():
            shapes = [getattr(item, "shape", None) for item in (value, outputs.get(name))]
            if None not in shapes and shapes[0] != shapes[1]:
                true, found = ("x".join(map(str, shape)) for shape in shapes)  # type: ignore[arg-type]
                return Truth(problem=f"{name} should be {true}, and the prediction is {found}")
        return self


def judged(subject: Subject) -> list[Widget]:
    """The outputs that can be compared with a truth, as data sets have one: a metric judges them, or their field shows where
    they are wrong."""
    names = {item.output or subject.task.outputs[0].name for item in subject.task.metrics if not item.optional}
    names |= {item.field.name for item in subject.outputs if type(item.field).error is not Field.error}
    known = {item.name for item in subject.task.columns}
    return [item for item in subject.outputs if item.field.name in names & known]


# --- asking -----------------------------------------------------------------------------------------------------------


class Asked:
    """Where the truth is asked for, and what the page remembers: the example that was chosen, and its inputs' digest.

    The truth is that of certain inputs: as soon as there are others, it is forgotten.
    """

    def __init__(self, subject: Subject, asked: Sequence[Any], examples: Sequence[Example]) -> None:
        """Make the components; ``asked``: those of the page's inputs and options."""
        self.subject = subject
        self.asked = asked
        self.examples = examples
        whole = replace(subject.requirements, frames_in=None)  # of what is predicted there may be less than is given
        self.widgets = [widget(item.field, whole, subject.limits) for item in judged(subject)]
        self.components: list[Any] = []
        """One for each widget, then the :attr:`memory`."""
        if not self.widgets:
            return
        with gr.Accordion("Compare with the truth", open=False):
            gr.Markdown("Examples from data sets bring their truth. Of your own input, give what should come out.")
            for item in self.widgets:
                component = item.ask()
                component.value = None
                self.components.append(component)
        self.components += [gr.State(None), gr.State(None)]

    def forgets(self, button: Any) -> None:
        """Let a click empty what was given: at once and in the browser, or a late answer takes what is given after it."""
        if self.widgets:
            button.click(**in_browser(self.components[:-2], "null"))

    def chosen(self, index: int, held: Sequence[Any]) -> list[Any]:
        """What :attr:`memory` holds after the choice of an example."""
        digest = self.digest(held)
        return [digest, (index, digest)] if self.widgets else []

    @property
    def memory(self) -> Sequence[Any]:
        """The components that remember the inputs' digest, and an example with that of its inputs; none if nothing can be
        compared. Two of them: what :meth:`watch` says late of former inputs does not make the page forget the example."""
        return self.components[-2:]

    @property
    def inputs(self) -> Sequence[Any]:
        """The components of the page's inputs."""
        return self.asked[: len(self.subject.inputs)]

    def watch(self) -> None:
        """Forget the truth of other inputs, whenever they change."""
        if not self.widgets or not self.inputs:
            return

        kept = self.components[:-1]

        def forget(*values: Any) -> list[Any]:
            *held, known = values
            given = zip(self.subject.inputs, held, strict=True)
            whole = all(value not in (None, "", []) for item, value in given if not item.field.optional)
            digest = self.digest(held) if whole else known
            if digest == known:
                return [gr.skip() for _ in kept]
            return [*(gr.skip() if known is None else None for _ in self.widgets), digest]

        gr.on(
            [item.change for item in self.inputs],
            forget,
            [*self.inputs, kept[-1]],
            kept,
            api_visibility="private",
            show_progress="hidden",
            queue=False,
        )

    def truth(self, values: Sequence[Any], options: Mapping[str, Any]) -> Truth | None:
        """The truth where it is known; raises InputError for what was given.

        Args:
            values: what :attr:`asked` and :attr:`components` hold.
            options: the task's, as they were read.
        """
        if not self.widgets:
            return None
        held, (*answers, known, chosen) = values[: len(self.inputs)], values[len(self.asked) :]
        digest = self.digest(held)
        read = {item.field.name: item for item in self.widgets}
        named = {name: value for name, value in zip(read, answers, strict=True) if value not in (None, "", [])}
        if named:
            if known not in (None, digest):
                return Truth(problem="what was given belongs to another input; give it again")
            given = {
                name: read[name].field.read(read[name].read(value), read[name].requirements)
                for name, value in named.items()
            }
            return Truth(given, "as given")
        example = self.examples[chosen[0]] if chosen and chosen[1] == digest else None
        if example is None or example.truth is None:
            return None
        try:
            found = example.truth(options)
        except Exception as problem:  # of a plugin's pipeline
            return Truth(problem=_told(problem))
        return Truth({name: found[name] for name in read if name in found}, f"of {example.label}")

    def digest(self, held: Sequence[Any]) -> str:
        """What tells inputs apart: files by what is in them."""
        total = hashlib.sha256()
        for item, value in zip(self.subject.inputs, held, strict=True):
            if item.field.reads and isinstance(value, str) and os.path.isfile(value):  # which never raises
                with open(value, "rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
            else:
                total.update(repr(value).encode())
        return total.hexdigest()


def _told(problem: Exception) -> str:
    if isinstance(problem, errors.StzooError):
        return portable(str(problem)).rstrip(".")
    log.error("the truth cannot be compared with", exc_info=problem)
    return f"something failed ({type(problem).__name__}); the details are in the server's log"


# --- showing ----------------------------------------------------------------------------------------------------------


class Compared:
    """The components that one prediction is compared with the truth in: metrics, curves, the truth, and where it is wrong."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.outputs = judged(subject)
        self.components: list[Any] = []
        if not self.outputs:
            return
        found = [item.curve for item in subject.task.metrics if item.curve and not item.optional]
        self.axes = list(dict.fromkeys(found))
        self.note = gr.Markdown(visible=False)
        with gr.Column(visible=False) as self.box:
            with gr.Row():
                with gr.Column(min_width=300):
                    self.table = gr.Markdown(elem_classes="stzoo-numbers")
                with gr.Column(min_width=300, visible=bool(self.axes)):
                    curves = [
                        drawn(
                            f"Metric at each {axis}",
                            "stzoo-series",
                            "frames.js",
                            "series.js",
                            css="plots.css",
                            hues=CURVES,
                        )
                        for axis in self.axes
                    ]
            self.places = []
            for item in self.outputs:
                if not item.takes_truth:
                    with gr.Row():
                        with gr.Column(min_width=300):
                            truths = item.display(before=bool(item.follows))
                        with gr.Column(min_width=300):
                            error = picture(f"{item.label}: error", visible=False)
                    for part in truths:
                        part.label = f"Truth: {part.label}"
                    self.places.append((item, truths, error))
        self.components = [self.note, self.box, self.table, *curves]
        for _, truths, error in self.places:
            self.components += [*truths, error]

    def values(self, done: Done, truth: Truth | None, folder: Path) -> list[Any]:
        """What the components hold for a prediction, whose truth has its shapes."""
        if not self.outputs:
            return []
        if truth is None or not truth.values:
            note = f"Not compared with the truth: {truth.problem}." if truth and truth.problem else ""
            blank = [None] * (len(self.components) - 2)
            return [gr.Markdown(plain(note), visible=bool(note)), gr.Column(visible=False), *blank]
        task, outputs = self.subject.task, done.prediction.outputs
        notes = [f"Compared with the truth {truth.source}."]
        found: dict[str, Summary] = {}
        try:
            found, missing = measure_one(task, outputs, truth.values, self.subject.requirements)
            notes += [f"{name} was not computed: {reason}." for name, reason in missing.items()]
        except Exception as problem:  # of a plugin's metric
            notes.append(f"The metrics were not computed: {_told(problem)}.")
        about = {item.name: item for item in task.metrics}
        named = {item.curve: getattr(self.subject.requirements, item.named, ()) for item in task.metrics}
        rows = [
            (f"{name} {ARROWS[about[name].better]}", f"{item.value:.6g}", about[name].description)
            for name, item in found.items()
        ]
        curves = [
            _curves(axis, {name: item.curve for name, item in found.items() if about[name].curve == axis}, named[axis])
            for axis in self.axes
        ]
        shown: list[Any] = []
        for item, truths, _ in self.places:
            try:
                shown += self._place(item, truths, done, truth, folder)
            except Exception as problem:  # of a plugin's field
                notes.append(f"The truth of {item.field.name} is not shown: {_told(problem)}.")
                shown += [*(None for _ in truths), gr.Image(visible=False)]
        note = gr.Markdown(plain(" ".join(notes)), visible=True)
        return [note, gr.Column(visible=True), _table(rows), *curves, *shown]

    def _place(self, item: Widget, parts: Sequence[Any], done: Done, truth: Truth, folder: Path) -> list[Any]:
        """The truth of an output, and where the prediction is wrong."""
        name, before = item.field.name, self.subject.followed(item)
        if name not in truth.values or name not in done.prediction:
            return [*(None for _ in parts), gr.Image(visible=False)]
        given = None if before is None else done.prediction.inputs[before.field.name]
        error = item.field.error(done.prediction[name], truth.values[name])
        image = gr.Image(visible=False) if error is None else gr.Image(enlarged(error), visible=True)
        return [*item.show(truth.values[name], folder / "truth", given), image]


def plain(text: str) -> str:
    """Words in Markdown, none of which is markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|~$" else sign for sign in text)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(map(plain, row)) for row in rows]
    return "\n".join(["metric | value | what it is", "---|---:|---", *lines]) if rows else ""


def _curves(axis: str, found: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, Any] | None:
    """What ``assets/series.js`` draws: one metric at a time, for their scales differ; ``names``: of what the curves are over."""
    curves = {name: curve for name, curve in found.items() if curve}
    lengths = {len(curve) for curve in curves.values()}
    if len(lengths) != 1:
        return None
    values = [[item if math.isfinite(item) else None for item in curve] for curve in curves.values()]
    part = {"label": axis, "names": list(curves), "at": list(range(lengths.pop())), "values": values}
    return {"parts": [part], "timed": False, "hidden": 0, "thinned": False, "single": True, "places": list(names)}
