"""A plugin with masks and prompts, as a third party would write it, with weights of its own.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

from toyplugin import Toy

SOURCE = """
from stzoo import Architecture, Model, Requirements, Task, Weights, hookimpl
from stzoo.fields import Image, Mask, Prompts, Video, VideoMask

CLASSES = ("road", "<img src=x onerror=alert(1)>", "car", "sky & 'clouds'")

@hookimpl
def stzoo_tasks():
    yield Task("parting", "Part a picture", (Image("picture"),), (Mask("mask", "Classes", over="picture"),),
               pipeline="acme_masks.net:Part")
    yield Task("pointing", "Follow what is pointed at",
               (Video("video"), Prompts("prompts", "Points, boxes, masks", on="video")),
               (VideoMask("masks", "Objects", over="video"),), pipeline="acme_masks.net:Point")
    yield Task("showing", "Find what a mask shows",
               (Image("support"), Mask("support_mask", "What to find", over="support"), Video("video")),
               (VideoMask("masks", "Where it is", over="video"),), pipeline="acme_masks.net:Show")

@hookimpl
def stzoo_architectures():
    for task in ("parting", "pointing", "showing"):
        yield Architecture(f"{task}-net", task, "acme_masks.net:Net")

@hookimpl
def stzoo_models():
    weights = Weights("toy/net", sha256="SHA256", size=SIZE, bundled="weights/net.safetensors")
    for task in ("parting", "pointing", "showing"):
        requirements = Requirements(channels=3, native_size=(48, 64), classes=CLASSES if task == "parting" else ())
        yield Model(f"{task}-one", f"{task}-net", weights=weights, requirements=requirements, license="apache-2.0")
"""

NET = """
import numpy as np
import torch
from stzoo import Pipeline

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

class Part(Pipeline):
    def forward(self, module, batch, options):
        shade = batch["picture"].mean(1) * module.gain
        return {"mask": ((shade - shade.amin()) / (shade.amax() - shade.amin() + 1e-6) * 4).floor().clamp(0, 3)}

    def postprocess(self, outputs, values):
        return {name: output.astype(np.uint8) for name, output in outputs.items()}

class Point(Part):
    def preprocess(self, values):
        video, prompts = values["video"], values["prompts"]
        frames, _, height, width = video.shape
        self.task.inputs[1].check(prompts, frames, height, width)
        seeds, (y, x) = np.zeros((frames, height, width), np.uint8), np.ogrid[:height, :width]
        for prompt in prompts:
            where = np.zeros((height, width), bool) if prompt.mask is None else prompt.mask
            for column, row, label in prompt.points:
                near = (x - column) ** 2 + (y - row) ** 2 <= 64
                where = where | near if label else where & ~near
            if prompt.box:
                x0, y0, x1, y1 = prompt.box
                where = where | ((x >= x0) & (x < x1) & (y >= y0) & (y < y1))
            seeds[prompt.frame :, where] = prompt.object
        return {"video": video, "prompts": seeds}

    def forward(self, module, batch, options):
        return {"masks": batch["prompts"] * module.gain}

class Show(Part):
    def forward(self, module, batch, options):
        inside = batch["support_mask"] == 1
        level = (batch["support"].mean(1) * inside).sum() / inside.sum()
        return {"masks": ((batch["video"].mean(2) - level).abs() < 0.1) * module.gain}
"""

TOY = Toy("acme_masks", SOURCE, NET)
