"""A model with everything its page needs: widgets, examples, the code of a prediction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.data import first_example
from stzoo.fields import Field, Value
from stzoo.measuring import checksum
from stzoo.registry import registry
from stzoo.requirements import Requirements
from stzoo.sources import parse_source
from stzoo.spec import Architecture, Dataset, Model, load_reference
from stzoo.ui.components import Widget, widget
from stzoo.ui.limits import Limits

LITERAL = 1000
"""Characters up to which a list is spelled out in the code."""


@dataclass(frozen=True)
class Example:
    """Inputs that belong to a model, made when they are asked for."""

    label: str
    values: Callable[[], dict[str, Any]]
    """Inputs by name, in their fields' layout."""
    truth: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """True outputs by name, from the task's options; raises InputError where they do not fit. None: nobody knows them."""


@dataclass
class Subject:
    """A model with everything its page needs; making one checks that the page can be made."""

    model: Model
    limits: Limits
    name: str
    """What ``stzoo.load`` takes."""

    def __post_init__(self) -> None:
        self.architecture: Architecture = registry().architecture_of(self.model)
        self.task = registry().task_of(self.architecture)
        self.requirements = self.model.requirements or Requirements()
        self.inputs = self._widgets(self.task.inputs)
        self.options = self._widgets(self.task.options)
        self.outputs = self._widgets(self.task.outputs)

    def _widgets(self, fields: Sequence[Field]) -> list[Widget]:
        return [widget(item, self.requirements, self.limits) for item in fields]

    def before(self, output: Widget) -> Widget | None:
        """The input that an output is shown with: the one it follows, else the first where it is of the same type."""
        if output.follows:
            return self.followed(output)
        first = self.inputs[0] if self.inputs else None
        return first if first and type(first.field) is type(output.field) else None

    def followed(self, item: Widget) -> Widget | None:
        """The input that this one follows."""
        return next((other for other in self.inputs if other is not item and other.field.name == item.follows), None)

    def held(self, item: Widget, value: Any) -> Any:
        """The value of an input in its field's layout; None if there is none, or none that can be used."""
        if not value:
            return None
        try:
            return item.field.read(item.read(value), self.requirements)
        except errors.StzooError:  # said where it is given
            return None

    def examples(self) -> Iterator[Example]:
        """From the data it was trained on, where a plugin ships some of that (of a model without weights: what its plugin ships
        for the task); and what its fields make themselves."""
        source = self.model.example or self.model.trained_on
        if not (self.model.weights or self.model.source or source):
            own = (item for item in registry().all(Dataset) if item.shipped and item.plugin == self.model.plugin)
            source = next((item.name for item in own if item.task == self.task.name), "")
        try:
            data = registry().get(Dataset, parse_source(source)[0]) if source else None
        except errors.StzooError:
            data = None
        if data and data.shipped and data.task == self.task.name and "test" in data.splits:
            label = f"{data.name}, first test example" + (f" ({data.license})" if data.license else "")
            yield Example(label, lambda: self._first(source)[0], lambda options: self._truth(source, options))
        needed = [item.field for item in self.inputs if not item.field.optional]
        if needed and all(type(item).sample is not Field.sample for item in needed):
            yield Example("Synthetic test pattern", self._sample)

    def _first(self, source: str, options: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and truth of a data set's first test example; ``options``: else their defaults."""
        row = first_example(source, self.task, "test", requirements=self.requirements)
        pipeline = load_reference(self.architecture.pipeline or self.task.pipeline)(self.task, self.requirements)
        defaults = {item.name: getattr(item, "default", None) for item in self.task.options}
        found: tuple[dict[str, Any], dict[str, Any]] = pipeline.example(row, defaults | dict(options or {}))
        return found

    def _truth(self, source: str, options: Mapping[str, Any]) -> dict[str, Any]:
        inputs, truth = self._first(source, options)
        if options and checksum(inputs) != checksum(self._first(source)[0]):
            raise errors.InputError("with these options the example has other inputs")
        return truth

    def _sample(self) -> dict[str, Any]:
        needed = [item.field for item in self.inputs if not item.field.optional]
        return {item.name: item.sample(self.requirements) for item in needed}

    def given(self, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What ``predict`` takes, from what the components hold."""
        count = len(self.inputs)
        held = zip(self.inputs, values[:count], strict=True)
        inputs = [None if _left_out(item, value) else item.read(value) for item, value in held]
        options = {item.field.name: item.read(value) for item, value in zip(self.options, values[count:], strict=True)}
        return inputs, options

    def code(self, name: str, values: Sequence[Any]) -> str:
        """Python that makes the prediction of these values."""
        count = len(self.inputs)
        held = zip(self.inputs, values[:count], strict=True)
        inputs = [
            f"{item.field.name}=" * item.field.optional + _literal(item, value)
            for item, value in held
            if not _left_out(item, value)
        ]
        chosen = []
        for item, value in zip(self.options, values[count:], strict=True):
            try:
                read = item.read(value)
            except errors.StzooError:
                continue
            if read != getattr(item.field, "default", None):
                chosen.append(f"{item.field.name}={_python(read)}")
        lines = ["import stzoo", "", f"predictor = stzoo.load({_python(name)})"]
        lines.append(f"prediction = predictor.predict({', '.join([*inputs, *chosen])})")
        for index, item in enumerate(self.outputs):
            if item.field.optional and f"{item.field.name}=True" not in chosen:
                continue
            which = f', "{item.field.name}"' if index else ""
            if item.field.suffixes:
                lines.append(f'prediction.save("predicted-{item.field.name}{item.field.suffixes[0]}"{which})')
            else:
                lines.append(f'print(prediction["{item.field.name}"])')
        return "\n".join(lines) + "\n"


def _left_out(item: Widget, value: Any) -> bool:
    """Whether the component of an optional input holds nothing."""
    return item.field.optional and value in (None, "", [])


def _python(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _literal(item: Widget, value: Any) -> str:
    if item.field.reads and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        names = [Path(one).name for one in value]  # several files
        return repr(names) if len(names) > 1 else _python(names[0])
    if isinstance(item.field, Value) or (isinstance(value, (list, dict)) and len(repr(value)) < LITERAL):
        return _python(value)
    return _python(Path(value).name if isinstance(value, str) and value else f"{item.field.name}{item.exact}")
