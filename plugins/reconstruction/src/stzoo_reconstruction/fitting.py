"""Scenes made while one waits: the recipe of an architecture, run on a capture, with views of the scene as it grows."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

import stzoo
from stzoo import Pipeline
from stzoo.errors import InputError
from stzoo.learning import learn
from stzoo.predictor import Partial
from stzoo_reconstruction.metrics import psnr
from stzoo_reconstruction.pipeline import path, rendered, scene_of

if TYPE_CHECKING:
    from stzoo.predictor import Predictor
    from stzoo_reconstruction.captures import Capture

FEWEST, MOST = 40, 3000
"""Steps, at least and at most, where their number is not given."""
EVERY = 1.0
"""Seconds from one word about progress to the next; pictures take at most a fifth of the time."""
SCENES = 4
"""Parts of the way after each of which the scene itself is given."""


class SceneFit(nn.Module):
    """Makes a scene of a capture. It has no tensors of its own: each time a new network learns from nothing.

    Args:
        method: the architecture of that network, of the task ``novel-view``.
        config, recipe: its config and the options of its recipe, where they are not the defaults.
        passes: how often each pixel is looked at where the number of steps is not given.

    Raises:
        ConfigError: one of these is not accepted.
    """

    def __init__(
        self,
        method: str = "gaussian-splatting",
        config: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        passes: float = 40.0,
    ) -> None:
        super().__init__()
        self.method, self.config, self.recipe, self.passes = method, dict(config or {}), dict(recipe or {}), passes
        self.register_buffer("place", torch.empty(0), persistent=False)  # says on which device to learn
        self.create().recipe(**self.recipe)

    def create(self) -> Predictor:
        """A network that has learnt nothing."""
        with torch.inference_mode(False):
            return stzoo.create(self.method, device=self.get_buffer("place").device, **self.config)

    def steps(self, recipe: Any, pixels: int, views: int) -> int:
        """How many steps look at each pixel of so many views as often as they should, within :data:`FEWEST` and :data:`MOST`."""
        each = getattr(recipe, "rays", None) or pixels / views
        return max(FEWEST, min(MOST, math.ceil(self.passes * pixels / each)))

    def forward(
        self, capture: Capture, train: Sequence[int], options: Mapping[str, Any]
    ) -> Iterator[tuple[int, int, Predictor]]:
        """Learn from these views of a capture; after each step: its number, of how many, and the network so far.

        ``options`` are the task's: steps, points, seed. Raises what the recipe raises.
        """
        torch.manual_seed(options["seed"])  # as a run does
        made = self.create()
        recipe = made.recipe(**self.recipe)
        if "cap" in inspect.signature(type(recipe)).parameters:
            recipe = made.recipe(**{"cap": options["points"]} | self.recipe)
        rows = [
            {"cameras": capture.cameras[index], "image": capture.image(index), "capture": capture} for index in train
        ]
        steps = options["steps"] or self.steps(recipe, sum(row["image"][0].size for row in rows), len(rows))
        learning = learn(made.module, recipe, rows, steps, requirements=made.requirements, seed=options["seed"])
        for step, _ in learning:
            yield step, steps, made


class Reconstruction(Pipeline):
    """A capture to a scene. One view is held out, and compared with what the scene looks like from there."""

    raw = True

    def forward(  # type: ignore[override]
        self, module: nn.Module, batch: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Iterator[Partial]:
        """``batch["views"]``: captures. Early outputs are given of a single one. Raises InputError."""
        wholes: list[Mapping[str, Any]] = []
        for capture in batch["views"]:
            last = None
            for last in self.fit(module, capture, options):
                if len(batch["views"]) == 1:
                    yield Partial({name: [value] for name, value in last.outputs.items()}, last.share, last.note)
            assert last is not None
            wholes.append(last.outputs)
        if len(wholes) > 1:
            yield Partial({name: [whole[name] for whole in wholes] for name in wholes[0]})

    def fit(self, module: Any, capture: Capture, options: Mapping[str, Any]) -> Iterator[Partial]:
        """Outputs of one capture, the last being complete; they are not in lists."""
        if options["poses"] == "sfm" and not capture.posed:
            yield Partial({}, 0.0, f"Structure from motion of {len(capture)} photographs")
            capture = capture.with_poses()
        capture.learnable()
        if options["size"]:
            capture = capture.reduced(options["size"])
        train, held = split(capture)
        truth = capture.image(held)
        camera = capture.cameras[held].array[0]
        yield Partial(
            {}, 0.0, f"Getting ready to learn from {len(train)} photographs; the first time, code is compiled"
        )
        start = told = first = time.perf_counter()
        quality, spent, scenes = math.nan, 0.0, 1
        for step, steps, made in module(capture, train, options):
            now = time.perf_counter()
            if step == steps:
                break
            first = now if step == 1 else first
            if now - told < EVERY:
                continue
            told, outputs = now, {}
            if spent <= 0.2 * (now - start):
                outputs["image"], quality = compared(made.module, camera, truth)
                if step / steps >= scenes / SCENES:
                    scenes = int(SCENES * step / steps) + 1
                    with suppress(InputError):  # nothing is solid yet
                        outputs["scene"] = scene_of(made.module)
                spent += time.perf_counter() - now
            left = (now - first) / max(step - 1, 1) * (steps - step)
            soon = f", {left:.0f} s left" if step > 1 else ""  # compiling counts as the first step
            yield Partial(outputs, 0.99 * step / steps, f"step {step} of {steps}, {quality:.1f} dB{soon}")
        image, quality = compared(made.module, camera, truth)
        outputs = {"scene": scene_of(made.module), "image": image}
        seen = "held out" if held not in train else "learnt from, as there are too few"
        note = f"{steps} steps in {time.perf_counter() - start:.0f} s; {quality:.2f} dB at a view that was {seen}"
        if options["frames"]:
            turntable = path(made.module.home, None, TURNTABLE | {"frames": options["frames"]})
            views = []
            for index, item in enumerate(turntable.array):
                views.append(rendered(made.module, item).image.float().clamp(0, 1).cpu().numpy())
                if index % 8 == 7:
                    yield Partial({"image": image}, 0.99, f"view {index + 1} of {len(turntable)}")
            outputs["video"] = np.stack(views)
        yield Partial(outputs, 1.0, ". ".join([*capture.notes, note]))


TURNTABLE = {"azimuth": 0.0, "elevation": 0.0, "zoom": 1.0, "size": 0}


def split(capture: Capture) -> tuple[list[int], int]:
    """Which views to learn from, and one to compare with; that is one of them where there are too few."""
    train, test = (list(map(int, capture.splits.get(name, ()))) for name in ("train", "test"))
    if not train:
        raise InputError(
            "no view of the capture is for training", "Its lists of views, or transforms_train.json, say which"
        )
    return train, test[0] if test else train[len(train) // 2]


def compared(module: Any, camera: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """A photograph and beside it what a network sees from there, (3, H, 2W + 4); and how near that is, PSNR in dB."""
    image = rendered(module, camera).image.float().clamp(0, 1).cpu().numpy()
    gap = np.ones((*truth.shape[:2], 4), np.float32)
    return np.concatenate([truth, gap, image], axis=2), psnr(image, truth)
