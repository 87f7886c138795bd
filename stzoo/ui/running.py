"""Predictions for many visitors: a few models in memory, a few predictions at a time, stopped when asked or too slow."""

from __future__ import annotations

import html
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from stzoo import api
from stzoo.errors import InputError, StzooError
from stzoo.lineage import portable
from stzoo.prediction import Prediction
from stzoo.predictor import LoadReport, Predictor
from stzoo.processes import trim_memory
from stzoo.ui.gpu import BORROWED, borrows_gpu
from stzoo.ui.limits import LIMITS, Limits
from stzoo.ui.web import gr

log = logging.getLogger("stzoo")

T = TypeVar("T")


@contextmanager
def told(name: str) -> Iterator[None]:
    """What goes wrong inside, as a sentence for the visitor; what nobody foresaw goes to the log, not to them."""
    try:
        yield
    except gr.Error:
        raise
    except StzooError as problem:
        text = str(problem)
    except Exception as problem:
        if isinstance(problem, MemoryError) or "out of memory" in str(problem) or "allocate memory" in str(problem):
            text = "This input is too large for the memory of this machine. Give a smaller one"
        else:
            log.exception("the demo of %s failed", name)
            text = "Something failed inside this model; the details are in the server's log"
    else:
        return
    # Raised out here, so that the visitor's exception does not drag the other one along.
    raise gr.Error(html.escape(portable(text), quote=False), title=name, print_exception=False)


class Stopped(StzooError):
    """The visitor or the clock stopped a prediction."""


class _Job:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = float("inf")  # waiting for a turn does not count
        self.asked = False

    def check(self) -> None:
        if self.asked:
            raise Stopped("Stopped")
        if time.monotonic() > self.deadline:
            raise Stopped(f"This takes longer than {self.seconds:g} s", "Ask for less, or give a smaller input")


_here = threading.local()


def _before_forward(module: Any, inputs: Any) -> None:
    job = getattr(_here, "job", None)
    if job is not None:
        job.check()


@cache
def _watch_forward() -> None:
    """Check before each layer whether to go on. The hook is torch's global one: hooks on modules would switch off fused
    attention, and with it the very numbers that ``predict`` gives elsewhere."""
    from torch.nn.modules.module import register_module_forward_pre_hook

    register_module_forward_pre_hook(_before_forward)


class Predictors:
    """Models in memory, the least recently used ones dropped; each is loaded once, by whoever asks first."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Predictor:
        """The model, loaded if need be; errors are those of :func:`stzoo.load`."""
        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= self.count:  # before loading: never more than ``count`` at once
                    self._loaded.popitem(last=False)
                self._loaded[name] = api.load(name, device="cpu" if BORROWED else None)
                trim_memory()  # of those that were dropped, and of loading
            self._loaded.move_to_end(name)
            return self._loaded[name]

    def __len__(self) -> int:
        return len(self._loaded)


PREDICTORS = Predictors(LIMITS["models"].default)
"""Of this process: memory is shared by all demos in it."""


@borrows_gpu
def _predicted(
    name: str, inputs: Sequence[Any], options: Mapping[str, Any]
) -> Iterator[tuple[Prediction, LoadReport, str]]:
    predictor = PREDICTORS.get(name)
    if BORROWED:
        api.move(predictor, None)
    for prediction in predictor.watch(*inputs, **options):
        yield prediction, predictor.report, f"{predictor.device} ({str(predictor.dtype).removeprefix('torch.')})"


@dataclass(frozen=True)
class Done:
    """A prediction and how it was made."""

    name: str
    prediction: Prediction
    report: LoadReport
    device: str


class Runner:
    """Runs predictions for all pages of one demo."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        PREDICTORS.count = limits["models"]
        self.slots = threading.BoundedSemaphore(limits["concurrency"])
        self._jobs: dict[str, list[_Job]] = {}
        self._lock = threading.Lock()

    def predict(self, name: str, inputs: Sequence[Any], options: Mapping[str, Any], session: str = "") -> Done:
        """Exactly what ``stzoo.load(name).predict(*inputs, **options)`` gives. Raises Stopped besides."""
        *_, done = self.watch(name, inputs, options, session)
        return done

    def watch(
        self,
        name: str,
        inputs: Sequence[Any],
        options: Mapping[str, Any],
        session: str = "",
        say: Callable[[str], object] = lambda text: None,
    ) -> Iterator[Done]:
        """What ``stzoo.load(name).watch(*inputs, **options)`` gives: the prediction, and early ones before. Raises Stopped
        besides. Whoever takes them may do so in another thread each time."""
        _watch_forward()
        job = _Job(self.limits["time_limit"])
        with self._lock:
            self._jobs.setdefault(session, []).append(job)
        try:
            with self.slots:
                job.check()
                say(f"Loading {name}")
                PREDICTORS.get(name)
                say("Predicting")
                job.deadline = time.monotonic() + job.seconds
                stages = _predicted(name, inputs, options)
                while (found := self._next(stages, job)) is not None:
                    if found[0].share < 1:
                        job.check()
                    yield Done(name, *found)
        finally:
            with self._lock:
                self._jobs[session].remove(job)
                if not self._jobs[session]:
                    del self._jobs[session]

    @staticmethod
    def _next(stages: Iterator[T], job: _Job) -> T | None:
        _here.job = job
        try:
            return next(stages, None)
        finally:
            _here.job = None

    def stop(self, session: str) -> None:
        """Stop what a session is running, before its next layer."""
        with self._lock:
            for job in self._jobs.get(session, ()):
                job.asked = True

    def stop_visitor(self, request: gr.Request) -> None:
        """Stop what a visitor is running, who asks for it or has left."""
        self.stop(request.session_hash or "")


def given_file(value: Any, name: str) -> str:
    """The path of an uploaded file; raises InputError if there is none."""
    if not value:
        raise InputError(f"{name} is missing", "Give a file, or choose an example")
    if not isinstance(value, str):
        raise InputError(f"{name} is a {type(value).__name__}, not a file", "Give one file")
    return value
