"""What the tests of evaluations share: clips and pictures, and the source of a plugin with a task of its own.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def random_clips(count: int, frames: int = 8) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"video": rng.random((frames, 1, 16, 16), dtype=np.float32)} for _ in range(count)]


def pictures(count: int = 6) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    found = [rng.random((1, 8, 8), dtype=np.float32) for _ in range(count)]
    return [{"picture": item, "mask": (item > 0.6).astype(np.float32)} for item in found]


MARKING = """
from stzoo import Architecture, Baseline, Metric, Pipeline, Task, hookimpl
from stzoo.errors import InputError
from stzoo.fields import Image, Number

@hookimpl
def stzoo_tasks():
    yield Task(
        name="marking",
        inputs=(Image("picture"),),
        outputs=(Image("mask"), Image("edge")),
        columns=(Image("picture"), Image("mask")),
        options=(Number("level", "What is bright", default=0.5, minimum=0, maximum=1),),
        metrics=(
            Metric("iou", "marking:counts", "higher", summary="marking:ratio"),
            Metric("wrong", "marking:wrong", output="mask"),
            Metric("rows", "marking:row_counts", "higher", summary="marking:ratio_of_rows", curve="row", optional=True),
        ),
        baselines=(Baseline("everything", "marking:everything"),),
        pipeline="marking:Mark",
    )

@hookimpl
def stzoo_architectures():
    yield Architecture("threshold", "marking", "marking:build", defaults={"bias": 0.0})

class Mark(Pipeline):
    def example(self, row, options):
        return {"picture": row["picture"]}, {"mask": row["mask"]}

    def forward(self, module, batch, options):
        if (batch["picture"] == 0).flatten(1).all(1).any():
            raise InputError("a black picture", "Switch on the light")
        mask = (batch["picture"] + module.bias > options["level"]).float()
        return {"mask": mask, "edge": mask}

def counts(prediction, target):
    return float((prediction * target).sum()), float(((prediction + target) > 0).sum())

def ratio(values):
    intersections, unions = map(sum, zip(*values))
    return intersections / unions

def row_counts(prediction, target, scale=1.0):
    import numpy as np
    parts = [item.sum((0, 2)) for item in (scale * prediction * target, (prediction + target > 0) * 1.0)]
    return np.stack(parts, axis=1)

def ratio_of_rows(values):
    import numpy as np
    hits, every = np.concatenate([np.atleast_2d(item) for item in values]).sum(0)
    return hits / every

def wrong(prediction, target):
    if target.max() > 0.9 and target.min() > 0.9:
        raise ValueError("nothing to find")
    return abs(prediction - target).mean()

def everything(inputs, truth):
    return {"mask": 0 * truth["mask"] + 1}

def build(bias):
    import torch
    module = torch.nn.Linear(1, 1)
    module.bias = torch.nn.Parameter(torch.tensor(bias))
    return module
"""
