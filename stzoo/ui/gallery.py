"""The demo as an app: the page of one model, or a gallery with a page for each."""

from __future__ import annotations

import asyncio
import atexit
import base64
import html
import logging
import os
import queue
import re
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stzoo import api, errors, files, media
from stzoo.console import shown_name
from stzoo.imported import record_of, usable
from stzoo.processes import keep_memory
from stzoo.registry import registry
from stzoo.spec import Model, Task
from stzoo.ui.gpu import BORROWED
from stzoo.ui.guard import Guard
from stzoo.ui.limits import Limits, limits
from stzoo.ui.page import page
from stzoo.ui.running import Runner
from stzoo.ui.space import chosen
from stzoo.ui.subject import Subject
from stzoo.ui.web import CSS, gr, theme

# These come with Gradio, whose absence the line above reports.
from fastapi import FastAPI  # isort: skip
from starlette.concurrency import run_in_threadpool  # isort: skip
from starlette.middleware import Middleware  # isort: skip
from starlette.routing import Mount, Router  # isort: skip

log = logging.getLogger("stzoo")

EAGER = 24
"""Models up to which all pages are made at once, and all endpoints are those of one app. With more, the page of a model is
an app of its own, at ``model/<page>``, made when it is first visited."""
KEPT = 50
"""Such apps that are kept, some 6 MB each; those that nobody visited for longest are made anew."""
SESSIONS = 40
"""Sessions that an app remembers at least; what the others chose is forgotten."""
REMEMBERED = 150_000
"""Components of all sessions of an app that are remembered, if that is more. Gradio describes each anew for every session (some
1.7 KB), and every request to ``/call`` is one; by default it remembers 10,000 sessions."""
STORED = (600, 3600)
"""Seconds between two looks at the files of visitors, and how old those are that are removed."""
SHOWN = 48
"""Cards that are shown at a time."""
THUMBNAIL = (320, 128)
"""Largest width and height of a thumbnail."""
PLACES = "The models of this gallery; each has its endpoint, with its description, at an address of its own: here, and then `at`"
ANY, COMMERCIAL = "any", "commercial use allowed"


@dataclass(frozen=True)
class Entry:
    """A model of the gallery."""

    model: Model
    name: str
    """What ``stzoo.load`` takes."""
    problem: errors.StzooError | None = None
    """Why it cannot be shown, where that is known already."""
    slug: str = ""
    """In addresses and names of endpoints."""
    address: str = ""
    """Of its page, seen from the gallery."""


def demo(*names: str, task: str | None = None, **settings: Any) -> Demo:
    """A browser demo of models and tasks given by name, of one ``task``, or of everything installed.

    A model is anything that ``stzoo.load`` takes, also a saved folder or a Hub repo; what is wrong with one of several is
    said on its own page.

    Of one model it is its page, else a gallery with a page for each. ``launch()`` serves it. Each page has an endpoint
    ``/predict_<model>`` (``-``, ``.`` and ``:`` as ``_``) for ``gradio_client``: up to 24 models have theirs at the demo's own
    address, more at the page's, ``<address>/model/<model>/``, as ``/models`` at the demo's own says. No model is loaded before it is used.

    ``settings`` are limits: ``max_file_size``, ``max_upload``, ``upload_time``, ``connections``, ``max_pixels``,
    ``max_frames``, ``time_limit``, ``queue``, ``concurrency``, ``models``; see :mod:`stzoo.ui.limits`. Raises UnknownModel, UnknownTask, DependencyMissing, or InputError.
    """
    return Demo(_chosen(names, task), limits(settings))


def launch(blocks: gr.Blocks, **options: Any) -> Any:
    """``blocks.launch``, with what :class:`Demo` sets."""
    return blocks.launch(**options)


def _chosen(names: Sequence[str], task: str | None) -> list[Entry]:
    """The models in the order of their names, each once."""
    if task is not None:
        names = (*names, registry().get(Task, task).name)
    found: dict[str, Entry] = {}
    for name in names:
        if "/" in name or os.sep in name or any((Path(name) / item).is_file() for item in ("config.json", "run.json")):
            found[name] = _stored(name, alone=len(names) == 1)
        else:
            found |= {shown_name(model): Entry(model, shown_name(model)) for model in chosen([name], usable)}
    if not names:
        found = {shown_name(model): Entry(model, shown_name(model)) for model in registry().models() if usable(model)}
    made: dict[str, Entry] = {}
    for entry in found.values():
        slug = re.sub(r"[^0-9a-z]+", "_", entry.name.lower()).strip("_") or "model"
        while slug in made:
            slug += "_"
        made[slug] = replace(entry, slug=slug, address=slug if len(found) <= EAGER else f"model/{slug}/")
    if not made:
        raise errors.InputError("there is no model to show", "Install a plugin; see: stzoo plugins")
    return list(made.values())


def _stored(name: str, alone: bool) -> Entry:
    """A saved folder or a Hub repo. What is wrong with one of several is kept for its page."""
    try:
        return Entry(api.describe(name), name)
    except errors.StzooError as problem:
        if alone:
            raise
        return Entry(Model("missing", "missing", description=str(problem)), name, problem)


class Demo(gr.Blocks):  # type: ignore[misc]
    """The Blocks that :func:`demo` returns: they launch with stzoo's looks and limits."""

    def __init__(self, entries: Sequence[Entry], given: Limits) -> None:
        super().__init__(title="stzoo", analytics_enabled=False, delete_cache=STORED)
        self.limits = given
        self.runner = Runner(given)
        self.entries = entries
        if len(self.entries) == 1:
            own = self.page_of(self.entries[0])
            with self:
                own.render()
        else:
            with self:
                _gallery(self.entries, Thumbnails(self.runner))
            for entry in self.entries if len(self.entries) <= EAGER else ():
                own = self.page_of(entry, back="./")  # outside of any other Blocks, whose part it would become
                with self.route(entry.name, entry.slug, show_in_navbar=False):
                    own.render()
        with self:
            self.unload(self.runner.stop_visitor)
            if len(self.entries) > EAGER:
                gr.api(self._places, api_name="models", api_description=PLACES)
        self.queue(max_size=given["queue"], default_concurrency_limit=None, api_open=False)

    def _places(self) -> list[dict[str, str]]:
        return [
            {"model": entry.name, "task": entry.model.task, "at": entry.address, "endpoint": f"/predict_{entry.slug}"}
            for entry in self.entries
        ]

    def page_of(self, entry: Entry, back: str = "") -> gr.Blocks:
        """The page of a model; where that cannot be made, one that says why."""
        try:
            if entry.problem:
                raise entry.problem
            subject = Subject(entry.model, self.limits, entry.name)
            same = [item for item in self.entries if item is not entry and item.model.task == entry.model.task]
            others = {item.name: item.model for item in same}
            if not others:
                models = registry().models(task=entry.model.task)
                others = {shown_name(item): item for item in models if item != entry.model and usable(item)}
            return page(subject, self.runner, f"predict_{entry.slug}", others, back)
        except Exception as problem:  # a plugin's field may do anything
            log.exception("no page for %s", entry.name)
            reason = str(problem) if isinstance(problem, errors.StzooError) else type(problem).__name__
            with gr.Blocks(title=f"{entry.name} · stzoo", analytics_enabled=False) as broken:
                link = f'<p class="stzoo-back"><a href="{back}" target="_self">← All models</a></p>' if back else ""
                gr.HTML(
                    f"{link}<h1>{html.escape(entry.name)}</h1><p role='alert'>This model cannot be shown: "
                    f"{html.escape(reason)}</p>"
                )
            return broken

    def launch(self, **options: Any) -> Any:
        """As ``gr.Blocks.launch``, which see for ``options``."""
        keep_memory(shared=True)
        given = {
            "app_kwargs": {"middleware": [Middleware(Guard, self.limits)]},
            "max_file_size": int(self.limits["max_file_size"] * 1e6),
            "state_session_capacity": max(SESSIONS, REMEMBERED // len(self.blocks)),
            "theme": theme(),
            "css": CSS,
            "ssr_mode": False,
            "show_error": False,
            "enable_monitoring": False,
            "run_history": False,
            "footer_links": ["api", "settings"],
            "_frontend": False,  # no refusal to start where the first page takes over 3 s
        } | options
        if len(self.entries) > EAGER:
            given["app_kwargs"] = given["app_kwargs"] | {"lifespan": _Pages(self).served}
        return super().launch(**given)


class _Pages:
    """The pages of a large gallery, each an app that is made when it is first asked for (ASGI)."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.entries = {entry.slug: entry for entry in demo.entries}
        self.made: OrderedDict[str, tuple[gr.Blocks, AsyncExitStack]] = OrderedDict()
        self.lock = asyncio.Lock()
        self.router = Router()

    @asynccontextmanager
    async def served(self, app: FastAPI) -> AsyncIterator[None]:
        """While the gallery's own app runs, its pages do."""
        app.router.routes.insert(0, Mount("/model", app=self))
        yield
        while self.made:
            await self._give_up()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        inside = scope["path"].removeprefix(scope.get("root_path", ""))
        slug = inside.strip("/").partition("/")[0]
        if slug in self.entries and slug not in self.made:
            async with self.lock:
                if slug not in self.made:  # another request may have come first
                    while len(self.made) >= KEPT:
                        await self._give_up()
                    blocks, app = await run_in_threadpool(self._make, slug)
                    running = AsyncExitStack()
                    await running.enter_async_context(app.router.lifespan_context(app))
                    self.router.mount(f"/{slug}", app)
                    self.made[slug] = blocks, running
        if slug in self.made:
            self.made.move_to_end(slug)
        await self.router(scope, receive, send)

    def _make(self, slug: str) -> tuple[gr.Blocks, FastAPI]:
        blocks = self.demo.page_of(self.entries[slug], back="../../")
        with blocks:
            blocks.unload(self.demo.runner.stop_visitor)
        blocks.queue(max_size=self.demo.limits["queue"], default_concurrency_limit=None, api_open=False)
        blocks.delete_cache, blocks.state_session_capacity = STORED, SESSIONS
        # Threads of its own: predictions that wait for other pages' could take all shared ones, also that which goes on with
        # the one they wait for. Odd, for by 40 Gradio means the shared ones.
        blocks.max_threads = 2 * self.demo.limits["concurrency"] + 9
        app = gr.mount_gradio_app(
            FastAPI(),
            blocks,
            path="",
            theme=theme(),
            css=CSS,
            max_file_size=int(self.demo.limits["max_file_size"] * 1e6),
            ssr_mode=False,
            show_error=False,
            run_history=False,
            enable_monitoring=False,
            footer_links=["api", "settings"],
        )
        return blocks, app

    async def _give_up(self) -> None:
        """Stop the page that nobody visited for longest, and remove the files of its visitors."""
        slug, (blocks, running) = self.made.popitem(last=False)
        self.router.routes[:] = [item for item in self.router.routes if item.path != f"/{slug}"]  # type: ignore[attr-defined]
        blocks._queue.close()  # nothing else does, for an app that is mounted
        await running.aclose()


# --- the gallery ------------------------------------------------------------------------------------------------------


def _gallery(entries: Sequence[Entry], thumbnails: Thumbnails) -> None:
    gr.HTML("<h1>Models to try</h1>")
    tasks = sorted({entry.model.task for entry in entries} - {""})
    plugins = sorted({entry.model.plugin for entry in entries} - {""})
    licenses = sorted({entry.model.license for entry in entries} - {""})
    with gr.Row():
        text = gr.Textbox(label="Search", placeholder="name, data, licence", scale=2)
        task = gr.Dropdown([ANY, *tasks], value=ANY, label="Task", min_width=140)
        plugin = gr.Dropdown([ANY, *plugins], value=ANY, label="Plugin", min_width=140)
        license = gr.Dropdown([ANY, COMMERCIAL, *licenses], value=ANY, label="Licence", min_width=140)
    cards = gr.HTML(_cards(entries[:SHOWN], len(entries), {}))
    more = gr.Button("Show more", visible=len(entries) > SHOWN)
    count = gr.State(SHOWN)
    timer = gr.Timer(3, active=False)
    failed = [plugin.name for plugin in registry().plugins if plugin.status == "failed"]
    if failed:
        gr.Markdown(f"Plugins that did not load: {', '.join(failed)}. See `stzoo doctor`.")
    filters = [text, task, plugin, license]

    def show(*values: Any) -> list[Any]:
        words, task, plugin, license, count = values
        wanted = (words or "")[:200].lower().split()
        kept = [
            entry
            for entry in entries
            if task in (ANY, entry.model.task)
            and plugin in (ANY, entry.model.plugin)
            and (license in (ANY, entry.model.license) or (license == COMMERCIAL and _commercial(entry.model)))
            and all(word in " ".join((entry.name, *entry.model.words())).lower() for word in wanted)
        ]
        seen = kept[:count]
        pictures, pending = thumbnails.of([entry.model for entry in seen])
        return [
            _cards(seen, len(kept), pictures),
            gr.Button(visible=len(kept) > len(seen)),
            count,
            gr.Timer(active=pending),
        ]

    def narrow(*values: Any) -> list[Any]:
        return show(*values, SHOWN)

    def widen(*values: Any) -> list[Any]:
        return show(*values[:-1], values[-1] + SHOWN)

    shown = [cards, more, count, timer]
    # Outside the queue: these need not wait in line, nor does a full one refuse them.
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    gr.on([item.change for item in filters], narrow, filters, shown, trigger_mode="always_last", **quiet)
    more.click(widen, [*filters, count], shown, **quiet)
    timer.tick(show, [*filters, count], shown, **quiet)
    blocks = gr.context.Context.root_block
    blocks.load(narrow, filters, shown, **quiet)


def _commercial(model: Model) -> bool:
    """Whether the licence of the weights is known to allow commercial use."""
    return model.license not in ("", "unknown", "other") and not model.non_commercial


def _cards(entries: Sequence[Entry], total: int, pictures: Mapping[str, str]) -> str:
    items = []
    for entry in entries:
        model, picture = entry.model, pictures.get(entry.model.qualified_name)
        shown = (
            f'<img src="{picture}" alt="A prediction of {html.escape(entry.name)}">' if picture else "no picture yet"
        )
        mark = f"{model.license}: no commercial use" if model.non_commercial else model.license
        licence = (
            f'<span class="{"forbidden" if model.non_commercial else "licence"}">{html.escape(mark)}</span>'
            if mark
            else ""
        )
        task = f"<span>{html.escape(model.task)}</span>" if model.task else ""
        items.append(
            f'<li><a href="{entry.address}" target="_self"><div class="picture">{shown}</div><div class="text">'
            f"<h3>{html.escape(entry.name)}</h3><p>{html.escape(model.description)}</p>"
            f'<p class="stzoo-tags">{task}{licence}</p></div></a></li>'
        )
    count = f"{total} model{'s' * (total != 1)}" + (f", the first {len(entries)}" if total > len(entries) else "")
    return f'<p role="status">{count}</p><ul class="stzoo-cards">{"".join(items)}</ul>'


class Thumbnails:
    """Pictures of real predictions: made one by one in the background, kept on disk under the sha256 of the weights.

    Only models whose weights are on this machine get one.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.folder = files.cache_folder() / "thumbnails"
        self._wanted: queue.Queue[Model | None] = queue.Queue()
        self._asked: dict[str, bool] = {}
        """Qualified name -> whether it is still to be made."""
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def of(self, models: Sequence[Model]) -> tuple[dict[str, str], bool]:
        """The pictures there are, as data addresses by qualified name; and whether some are still being made."""
        pictures = {}
        for model in models:
            digest = model.weights.sha256 if model.weights else (record_of(model) or {}).get("sha256")
            if digest is None:
                continue
            path = self.folder / f"{digest}.png"
            if path.is_file():
                pictures[model.qualified_name] = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
            else:
                self._ask(model)
        return pictures, any(self._asked.get(model.qualified_name, False) for model in models)

    def _ask(self, model: Model) -> None:
        with self._lock:
            if model.qualified_name in self._asked:
                return
            self._asked[model.qualified_name] = True
            self._wanted.put(model)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="thumbnails", daemon=True)
                self._worker.start()
                atexit.register(self._stop)

    def _work(self) -> None:
        while (model := self._wanted.get()) is not None:
            try:
                self.make(model)
            except Exception as problem:  # no picture is no reason to stop
                log.info("no thumbnail of %s: %s", model.name, problem)
            self._asked[model.qualified_name] = False

    def _stop(self) -> None:
        """Make no more. A thread that predicts while the interpreter shuts down would abort the process."""
        assert self._worker
        with self._wanted.mutex:
            self._wanted.queue.clear()
        self._wanted.put(None)
        self._worker.join(10)

    def make(self, model: Model) -> Path:
        """Predict from the model's first example, and keep the picture of the first output."""
        subject = Subject(model, self.runner.limits, shown_name(model))
        values = next((example.values() for example in subject.examples()), {})
        with self.runner.slots:  # in line with the visitors' own
            predictor = api.load(model.qualified_name, device="cpu" if BORROWED else None, offline=True)
            prediction = predictor.predict(*values.values())
        picture = subject.task.outputs[0].preview(prediction[subject.task.outputs[0].name]).convert("RGB")
        picture.thumbnail(THUMBNAIL)
        path = self.folder / f"{predictor.report.sha256}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, media.png_bytes(picture))
        return path
