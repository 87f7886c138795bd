"""The page of one model: made from its task's fields, its spec and its card."""

from __future__ import annotations

import html
import inspect
import itertools
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stzoo import errors
from stzoo.cards import model_card
from stzoo.spec import Model
from stzoo.ui.components import Widget
from stzoo.ui.running import Done, Runner, told
from stzoo.ui.subject import Example, Subject
from stzoo.ui.truth import Asked, Compared, Truth, plain
from stzoo.ui.web import gr, in_browser

KEEP = 3600
"""Seconds that files of predictions are kept for download."""


def new_folder() -> Path:
    """A folder for the files of one prediction, in the only place that is served; old ones are removed."""
    from gradio.utils import get_upload_folder

    base = Path(get_upload_folder()) / "stzoo"
    base.mkdir(parents=True, exist_ok=True)
    for old in base.iterdir():
        if old.stat().st_mtime < time.time() - KEEP:
            shutil.rmtree(old, ignore_errors=True)
    folder = base / secrets.token_hex(16)
    folder.mkdir()
    return folder


@dataclass
class _Shown:
    """The components that one prediction is shown with."""

    subject: Subject
    prefix: str = ""

    def __post_init__(self) -> None:
        self.displays = []
        for item in self.subject.outputs:
            with gr.Column(visible=not item.field.optional) as box:  # what was not asked for takes no place
                displays = item.display(before=bool(self.subject.before(item)))
            self.displays.append([*([box] if item.field.optional else []), *displays])
        written = any(item.field.suffixes for item in self.subject.outputs)  # plain values are no files
        self.files = gr.File(
            label=f"{self.prefix}Download",
            file_count="multiple",
            interactive=False,
            visible=written,
            elem_classes="stzoo-files",
        )
        self.facts = gr.Markdown()

    def compare(self) -> _Shown:
        """Make the components that it is compared with the truth in: here, that is at another place than the others."""
        self.compared = Compared(self.subject)
        return self

    @property
    def components(self) -> list[Any]:
        return [*itertools.chain(*self.displays), self.files, self.facts, *self.compared.components]

    def values(self, done: Done, folder: Path, truth: Truth | None = None) -> list[Any]:
        """What the components hold for a prediction, and for its truth where that is known."""
        shown, files = [], []
        truth = truth and truth.of(done.prediction)
        for item, displays in zip(self.subject.outputs, self.displays, strict=True):
            name, before = item.field.name, self.subject.before(item)
            if item.field.optional:
                shown.append(gr.Column(visible=name in done.prediction))
            if name not in done.prediction:
                shown += [None] * (len(displays) - 1)
                continue
            value, given = done.prediction[name], before and done.prediction.inputs.get(before.field.name)
            beside = {"truth": truth.values[name]} if truth and item.takes_truth and name in truth.values else {}
            shown += item.show(value, folder, given, **beside)
            files += item.files(value, folder, f"{_file_name(done.name)}-{name}", **done.prediction.view(item.field))
        return [*shown, files, _facts(done), *self.compared.values(done, truth, folder)]

    def early(self, done: Done, folder: Path) -> list[Any]:
        """The same for an early prediction, with how far it is: what it lacks stays as it is."""
        shown = []
        for item, displays in zip(self.subject.outputs, self.displays, strict=True):
            if item.field.name not in done.prediction:
                shown += [gr.skip() for _ in displays]
                continue
            shown += [gr.Column(visible=True)] if item.field.optional else []
            shown += item.show(done.prediction[item.field.name], folder)
        facts = f"**{done.prediction.share:.0%}** · {plain(done.prediction.note)}"
        return [*shown, gr.skip(), facts, *(gr.skip() for _ in self.compared.components)]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")


def _facts(done: Done) -> str:
    report = done.report
    parts = [plain(done.prediction.note)] if done.prediction.note else []
    parts += [f"**{done.prediction.seconds:.3f} s** on {done.device}", f"weights: {report.source}"]
    parts += [f"sha256 `{report.sha256[:12]}`"] if report.sha256 else []
    return " · ".join([*parts, f"loaded in {report.seconds:.2f} s"])


def page(subject: Subject, runner: Runner, endpoint: str, others: Mapping[str, Model], back: str = "") -> Any:
    """The page of a model, as Blocks.

    Args:
        subject: the model.
        runner: runs its predictions.
        endpoint: name of its endpoint: the task's inputs and options in, its outputs (files, or plain values) out.
        others: models of the same task that it may be compared with, by name.
        back: address of the gallery; empty if there is none.
    """
    with gr.Blocks(title=f"{subject.name} · stzoo", analytics_enabled=False) as blocks:
        _head(subject, back)
        with gr.Row():
            with gr.Column(min_width=300):
                asked = [item.ask() for item in subject.inputs]
                looks = [(item, component) for item, component in zip(subject.inputs, asked, strict=True) if item.looks]
                buttons = [(example, gr.Button(example.label, size="sm")) for example in subject.examples()]
                asked += [_option(subject, item) for item in subject.options]
                truth = Asked(subject, asked, [example for example, _ in buttons])
                with gr.Row():
                    start = gr.Button("Predict", variant="primary", min_width=120)
                    stop = gr.Button("Stop", variant="stop", min_width=80)
                for item, component in looks:
                    _looking(subject, item, component, asked)
                for item, component in zip(subject.inputs, asked, strict=False):
                    if not item.looks and (other := subject.followed(item)):
                        _following(subject, item, component, other, asked[subject.inputs.index(other)])
            with gr.Column(min_width=300):
                shown = _Shown(subject)
        shown.compare()
        with gr.Accordion("Use it in code", open=True):
            code = gr.Code(
                subject.code(subject.name, [getattr(item, "value", None) for item in asked]),
                language="python",
                label="Python: the same prediction",
                interactive=False,
                show_line_numbers=False,
            )
        running = [_predicting(subject, runner, start, truth, shown, code)]
        predicting = [start]
        if others:
            compare, event = _comparing(subject, runner, others, truth)
            running.append(event)
            predicting.append(compare)
        for index, (example, button) in enumerate(buttons):
            rest = [other for _, other in buttons if other is not button]
            _filling(subject, index, example, button, truth, [*predicting, *rest])
        truth.watch()
        _stopping(runner, stop, running)
        _about(subject)
        _endpoint(subject, runner, endpoint, asked)
    return blocks


def _option(subject: Subject, item: Widget) -> Any:
    """The component of an option. One that asks for an output which a person would want to see does so at first."""
    made = item.ask()
    if _shown_at_first(subject, item):
        made.value = str(True)
    return made


def _shown_at_first(subject: Subject, option: Widget) -> bool:
    return any(item.wanted and item.field.name == option.field.name for item in subject.outputs)


def _head(subject: Subject, back: str) -> None:
    model = subject.model
    tags = "".join(f"<span>{html.escape(text)}</span>" for text in (model.task, f"plugin: {model.plugin}"))
    if model.license:
        mark = f"{model.license}: no commercial use" if model.non_commercial else f"licence: {model.license}"
        tags += f'<span class="{"forbidden" if model.non_commercial else "licence"}">{html.escape(mark)}</span>'
    needs = model.requirements.describe() if model.requirements else ""
    link = f'<p class="stzoo-back"><a href="{back}" target="_self">← All models</a></p>' if back else ""
    gr.HTML(
        f"{link}<h1>{html.escape(subject.name)}</h1><p>{html.escape(model.description)}</p>"
        f'<p class="stzoo-tags">{tags}</p>' + (f"<p>Input: {html.escape(needs)}.</p>" if needs else "")
    )


def _predicting(subject: Subject, runner: Runner, button: Any, asked: Asked, shown: _Shown, code: Any) -> Any:
    def predict(
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        *values: Any,
    ) -> Iterator[list[Any]]:
        with told(subject.name):
            progress(0, "Waiting")
            own = values[: len(asked.asked)]
            inputs, options = subject.given(own)
            truth = asked.truth(values, options)
            say = lambda text: progress(0.5, text)  # noqa: E731
            for done in runner.watch(subject.name, inputs, options, request.session_hash or "", say):
                if done.prediction.share < 1:  # no progress from here on: it would cover what is shown
                    yield [*shown.early(done, new_folder()), gr.skip()]
                else:
                    yield [*shown.values(done, new_folder(), truth), subject.code(subject.name, own)]

    given = [*asked.asked, *asked.components]
    for item in (*given, *shown.components, code):  # Gradio gives elements no id of their own
        item.elem_id = item.elem_id or f"stzoo-{item._id}"
    return button.click(predict, given, [*shown.components, code], api_visibility="private", **_queue(runner))


def _queue(runner: Runner) -> dict[str, Any]:
    """All predictions of a demo wait in one line."""
    return {"concurrency_limit": runner.limits["concurrency"], "concurrency_id": "predict"}


def _looking(subject: Subject, item: Widget, component: Any, asked: Sequence[Any]) -> None:
    """Show what was given, where its own component cannot; with the input that it follows."""
    other = subject.followed(item)
    given = [component, *([asked[subject.inputs.index(other)]] if other else [])]
    with gr.Column(visible=False) as box:
        displays = item.display(before=other is not None)

    def look(value: Any, followed: Any = None) -> list[Any]:
        if not value:
            return [gr.Column(visible=False), *(None for _ in displays)]
        with told(subject.name):
            held = item.field.read(item.read(value), subject.requirements)
            before = subject.held(other, followed) if other else None
            return [gr.Column(visible=True), *item.show(held, new_folder(), before)]

    gr.on(
        [held.change for held in given],
        look,
        given,
        [box, *displays],
        api_visibility="private",
        show_progress="minimal",
    )


def _following(subject: Subject, item: Widget, component: Any, other: Widget, followed: Any) -> None:
    """Keep a component in step with the input that it follows."""

    def follow(value: Any) -> Any:
        with told(subject.name):
            return item.follow(subject.held(other, value), new_folder())

    followed.change(follow, followed, component, api_visibility="private", show_progress="hidden")


def _filling(subject: Subject, index: int, example: Example, button: Any, asked: Asked, others: Sequence[Any]) -> None:
    """Let a button fill in an example. Until that is there, the ``others`` are off: who is quick would predict from what was
    there before, or get the values of two examples in the wrong order."""

    def fill() -> Any:
        with told(subject.name):
            values, folder = example.values(), new_folder()
            given = [(item, values.get(item.field.name)) for item in subject.inputs]
            held = [None if value is None else item.example(value, folder) for item, value in given]
            found = [*held, *asked.chosen(index, held)]
            return found if len(found) > 1 else found[0]

    def switch(on: str) -> dict[str, Any]:
        return in_browser(others, f"{{__type__: 'update', interactive: {on}}}")

    asked.forgets(button)
    button.click(**switch("false"))
    event = button.click(fill, None, [*asked.inputs, *asked.memory], api_visibility="private", show_progress="minimal")
    event.then(**switch("true"))
    event.failure(**switch("true"))  # for Gradio's pages, "then" is only after a success


def _stopping(runner: Runner, button: Any, running: list[Any]) -> None:
    # Outside the queue: it must not wait behind what it stops. Events still waiting are taken out of the line.
    button.click(runner.stop_visitor, None, None, queue=False, api_visibility="private")
    button.click(None, None, None, cancels=running, api_visibility="private")


def _comparing(subject: Subject, runner: Runner, others: Mapping[str, Model], asked: Asked) -> tuple[Any, Any]:
    """Returns the button and its event."""
    first = next(iter(others))
    with gr.Accordion("Compare with another model", open=False):
        other = gr.Dropdown(list(others), value=first, label="Model", info="It gets the same input and options")
        button = gr.Button("Compare")
        with gr.Row():
            with gr.Column(min_width=280):
                gr.Markdown(f"### {subject.name}")
                own = _Shown(subject).compare()
            with gr.Column(min_width=280):
                title = gr.Markdown(f"### {first}")
                its = _Shown(subject).compare()
        code = gr.Code(
            label="Python: the other prediction", language="python", interactive=False, show_line_numbers=False
        )

    def compare(
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        name: str = "",
        *values: Any,
    ) -> list[Any]:
        with told(subject.name):
            if name not in others:
                raise errors.InputError(f"{name!r:.80} cannot be compared with this model")
            second = Subject(others[name], subject.limits, name)
            shown: list[Any] = []
            own_values = values[: len(asked.asked)]
            truth = asked.truth(values, subject.given(own_values)[1])
            for item, place in ((subject, own), (second, its)):
                progress(0.5, f"Predicting with {item.name}")
                inputs, options = item.given(own_values)
                done = runner.predict(item.name, inputs, options, request.session_hash or "")
                shown += place.values(done, new_folder(), truth)
            return [*shown, f"### {name}", subject.code(name, own_values)]

    event = button.click(
        compare,
        [other, *asked.asked, *asked.components],
        [*own.components, *its.components, title, code],
        api_visibility="private",
        **_queue(runner),
    )
    return button, event


def _about(subject: Subject) -> None:
    model = subject.model
    if model.metrics:
        with gr.Accordion("Measured and published numbers", open=False):
            gr.Dataframe(
                [[item.dataset, item.metric, f"{item.value:.6g}", item.source, item.note] for item in model.metrics],
                headers=["data", "metric", "value", "source", "note"],
                interactive=False,
                wrap=True,
            )
    with gr.Accordion("Model card", open=False):
        gr.Markdown(model_card(model, load=subject.name).split("---\n", 2)[-1])


def _endpoint(subject: Subject, runner: Runner, name: str, asked: list[Any]) -> None:
    """The page for programs: the same inputs and options in; of each output a file that keeps every bit."""
    outputs: list[Any] = [
        gr.File(visible=False, label=item.label) if item.exact else gr.JSON(visible=False, label=item.label)
        for item in subject.outputs
    ]
    asked = list(asked)
    for index, item in enumerate(subject.options, len(subject.inputs)):
        if _shown_at_first(subject, item):  # to programs, the default is what the component holds: here, the task's own
            asked[index] = item.ask()
            asked[index].visible = False

    def predict(*values: Any) -> Any:
        with told(subject.name):
            inputs, options = subject.given(values)
            done, folder = runner.predict(subject.name, inputs, options), new_folder()
            made: list[Any] = []
            for item in subject.outputs:
                if item.field.name not in done.prediction:  # not asked for
                    made.append(None)
                    continue
                value = done.prediction[item.field.name]
                plain = value.tolist() if hasattr(value, "tolist") and not item.exact else value
                made.append(item.write(value, folder / f"{item.field.name}{item.exact}") if item.exact else plain)
            return made if len(made) > 1 else made[0]

    predict.__signature__ = _signature(subject)  # type: ignore[attr-defined]
    about = [f"{item.field.name}: {item.field.description}" for item in (*subject.inputs, *subject.options)]
    gr.Button(visible=False).click(
        predict,
        asked,
        outputs,
        api_name=name,
        api_description=f"{subject.task.description} with {subject.name}. " + "; ".join(about),
        **_queue(runner),
    )


def _signature(subject: Subject) -> inspect.Signature:
    """What the endpoint's documentation says: the task's inputs, then its options with their defaults."""
    parameters: dict[str, inspect.Parameter] = {}
    for item in (*subject.inputs, *subject.options):
        name = item.field.name if item.field.name not in parameters else f"{item.field.name}_option"
        free = item in subject.options or item.field.optional
        default = getattr(item.field, "default", None) if free else inspect.Parameter.empty
        parameters[name] = inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
    return inspect.Signature(list(parameters.values()))
