"""Looking at a run: its log, its evaluations and pictures, and keeping what is best."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stzoo import __version__, errors, files
from stzoo.curves import draw_curves
from stzoo.registry import as_plain
from stzoo.training import checkpoints, pictures
from stzoo.training.job import Job, Plan, Progress
from stzoo.training.request import as_text
from stzoo.training.run import ENVIRONMENT, Run, command_line, environment, hardware, now

if TYPE_CHECKING:
    from accelerate import Accelerator

    from stzoo.predictor import Predictor

log = logging.getLogger("stzoo")

_CURVES_EVERY = 30
"""Seconds between pictures of the curves: drawing one takes as long as evaluating a few examples."""


class Watch:
    """Writes what a run folder holds besides checkpoints. All processes call it; the main one writes."""

    def __init__(self, job: Job, plan: Plan, run: Run, accelerator: Accelerator) -> None:
        self.job, self.plan, self.run, self.accelerator = job, plan, run, accelerator
        self.options, self.main = job.options, accelerator.is_main_process
        self.progress = Progress()
        self._sums: dict[str, Tensor] = {}
        self._since = (0.0, 0)
        self._drawn = time.monotonic()

    # --- the record ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Write what a new run is."""
        job, run = self.job, self.run
        request, predictor, held = job.request, job.predictor, job.validation
        processes, kind = self.accelerator.num_processes, self.accelerator.device.type
        run.write_config({"model": request.model, "data": as_text(request.data), **self.options})
        found = environment(processes, kind)
        files.write_atomically(run.folder / ENVIRONMENT, (json.dumps(found, indent=2) + "\n").encode())
        run.update(
            status="running",
            model=request.model,
            base_model=predictor.extra.get("base_model"),
            license=predictor.extra.get("license"),
            data=as_text(request.data),
            data_license=job.data_license,
            task=predictor.task.name,
            architecture=predictor.architecture.name,
            plugin=predictor.architecture.plugin,
            command=command_line(),
            started=now(),
            hardware=hardware(processes, kind),
            processes=processes,
            versions={"stzoo": __version__, "torch": torch.__version__, "python": found["python"]},
            steps=self.plan.total,
            step=0,
            seconds=0.0,
            config=self.options,
            recipe={"name": type(job.recipe).__name__} | _plain(vars(job.recipe)),
            monitor=job.monitor and job.monitor.name,
            validation={"data": held.name, "split": held.split, "examples": len(held)},
        )

    def record(self, **values: Any) -> None:
        """Bring ``run.json`` up to date."""
        progress = self.progress
        if self.main:
            self.run.update(
                step=progress.step,
                epochs=self.job.epoch(progress.drawn),
                seconds=round(progress.seconds, 2),
                start=progress.start,
                best=progress.best,
                **values,
            )
            if values.get("status") in ("finished", "interrupted"):
                self._draw_curves()

    # --- the log ------------------------------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """Rates are counted from here."""
        self._since = (time.perf_counter(), self.progress.drawn)

    def add(self, losses: Mapping[str, Tensor], share: float) -> None:
        """Add the losses of a pass that is this share of a step; waits for nothing."""
        for name, loss in losses.items():
            value = loss.detach().float() * share
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def log(self, steps: int, rates: Mapping[str, float]) -> float:
        """Write the mean of the losses of the last ``steps``; returns it. Raises TrainingFailed if it is not finite."""
        progress, names = self.progress, list(self._sums)
        means = self.accelerator.reduce(torch.stack([self._sums[name] for name in names]) / steps, "mean").tolist()
        self._sums = {}
        seconds = max(time.perf_counter() - self._since[0], 1e-9)
        loss = float(sum(means))
        if not math.isfinite(loss):
            raise errors.TrainingFailed(
                f"the loss is {loss} within the {steps} steps before step {progress.step}",
                "Lower recipe.lr, set clip, or look for bad values in the data; the last checkpoint is from before",
            )
        values = {
            "step": progress.step,
            "epoch": self.job.epoch(progress.drawn),
            "loss": loss,
            **(dict(zip(names, means, strict=True)) if len(names) > 1 else {}),
            **rates,
            "samples_per_second": round((progress.drawn - self._since[1]) / seconds, 3),
            "seconds": round(progress.seconds, 3),
        }
        self.write(values)
        self.start_clock()
        return loss

    def write(self, values: dict[str, Any]) -> None:
        """One entry for ``metrics.jsonl`` and the trackers."""
        if self.main:
            self.run.append(values)
        flat = values | {f"validation/{key}": value for key, value in values.get("evaluation", {}).items()}
        numbers = {key: value for key, value in flat.items() if isinstance(value, (int, float))}
        self.accelerator.log(numbers, values["step"])

    # --- evaluations --------------------------------------------------------------------------------------------------

    def evaluate(self, predictor: Predictor | None, *, sharded: bool) -> dict[str, float]:
        """Measure on the held-out data, draw, and keep the weights if they are the best so far.

        ``predictor`` has the weights that count now; where weights are sharded, only the main process has it.
        """
        progress = self.progress
        with self._eager():
            found = self._measured(predictor, sharded)
        again, progress.evaluated = progress.evaluated == progress.step, progress.step
        if found and not again:
            self.write({"step": progress.step, "epoch": self.job.epoch(progress.drawn), "evaluation": found})
        if self.main:
            with self._eager():
                self._draw(predictor)
        if self._is_better(found):
            progress.best, progress.since_best = {"step": progress.step, **found}, 0
            self.keep("best", predictor)
        else:
            progress.since_best += 1
        self.record()
        return found

    def _measured(self, predictor: Predictor | None, sharded: bool) -> dict[str, float]:
        from accelerate.utils import gather_object

        from stzoo.measuring import measure, summarise

        job, accelerator = self.job, self.accelerator
        if not job.predictor.task.metrics:
            return {}
        shard = (0, 1) if sharded else (accelerator.process_index, accelerator.num_processes)
        rows: list[Any] = []
        if predictor is not None:
            predictor.module.eval()
            size = self.options["batch_size"]
            rows = measure(predictor, job.validation, batch_size=size, options=job.task_options, shard=shard)
        rows = sorted(gather_object(rows), key=lambda row: row.index)
        failed = [row for row in rows if row.error]
        if len(failed) == len(rows):
            raise errors.DatasetError(f"nothing can be evaluated: {failed[0].key}: {failed[0].error}")
        for row in failed if self.main and self.progress.evaluated < 0 else ():
            log.warning("%s cannot be evaluated: %s", row.key, row.error)
        return {name: item.value for name, item in summarise(rows, job.predictor.task, resamples=0).items()}

    def _eager(self) -> Any:
        """Look without ``torch.compile``: examples of other sizes would each be compiled anew."""
        return torch.compiler.set_stance("force_eager") if self.options["compile"] else nullcontext()

    def _is_better(self, found: Mapping[str, float]) -> bool:
        best, monitor = self.progress.best, self.job.monitor
        if best is None or monitor is None or not found:
            return True
        value, before = found[monitor.name], best[monitor.name]
        return value < before if monitor.better == "lower" else value > before

    def _draw(self, predictor: Predictor | None) -> None:
        held, step, count = self.job.validation, self.progress.step, self.options["pictures"]
        if time.monotonic() - self._drawn > _CURVES_EVERY:
            self._draw_curves()
        if predictor is None or not count:
            return
        rows = [held[index] for index in range(min(count, len(held)))]
        path = self.run.folder / "pictures" / f"step-{step:09d}.png"
        sheet = pictures.draw_predictions(predictor, rows, self.job.task_options, path)
        picture = np.asarray(sheet)
        for tracker in self.accelerator.trackers if sheet is not None else ():
            if tracker.name == "tensorboard":
                tracker.log_images({"predictions": picture[None]}, step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):  # Aim and ClearML take one, the others a list
                one = tracker.name in ("aim", "clearml")
                tracker.log_images({"predictions": picture if one else [picture]}, step)

    def _draw_curves(self) -> None:
        draw_curves(self.run.metrics, self.run.folder / "curves.png")
        self._drawn = time.monotonic()

    def keep(self, name: str, predictor: Predictor | None) -> None:
        """Save the weights as the model folder ``name``."""
        if self.main and predictor is not None:
            predictor.module.eval()
            with self._eager():
                checkpoints.replace_folder(self.run.folder / name, predictor.save)
        self.accelerator.wait_for_everyone()


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (int, float, str, bool, list, tuple)
    public = {key: value for key, value in values.items() if not key.startswith("_")}
    return {key: as_plain(value) for key, value in public.items() if isinstance(value, kinds)}
