"""A plugin with depth, scenes and series, as a third party would write it, with weights of its own.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

from toyplugin import Toy

SOURCE = """
from stzoo import Architecture, Model, Requirements, Task, Weights, hookimpl
from stzoo.fields import Depth, Image, Number, Scene, Series

@hookimpl
def stzoo_tasks():
    yield Task("measuring", "How far everything is", (Image("picture"),), (Depth("depth", "In metres"),),
               pipeline="acme_fields.net:Measure")
    yield Task("refining", "Depth made better", (Depth("depth"),), (Depth("refined"),), pipeline="acme_fields.net:Refine")
    yield Task("shifting", "Move a scene", (Scene("scene"),), (Scene("moved"),), pipeline="acme_fields.net:Shift")
    yield Task("foretelling", "What comes next", (Series("past"),), (Series("future"),),
               options=(Number("horizon", "Steps", default=24, minimum=1, maximum=500, integer=True),),
               pipeline="acme_fields.net:Foretell")

@hookimpl
def stzoo_architectures():
    for task in ("measuring", "refining", "shifting", "foretelling"):
        yield Architecture(f"{task}-net", task, "acme_fields.net:Net")

@hookimpl
def stzoo_models():
    weights = Weights("toy/fields", sha256="SHA256", size=SIZE, bundled="weights/net.safetensors")
    for task in ("measuring", "refining", "shifting", "foretelling"):
        needs = Requirements(channels=3, native_size=(48, 64)) if task == "measuring" else Requirements()
        yield Model(f"{task}-one", f"{task}-net", weights=weights, requirements=needs, license="apache-2.0")
"""

NET = """
import torch
from stzoo import Pipeline
from stzoo.media.geometry import as_geometry

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

class Plain(Pipeline):
    def postprocess(self, outputs, values):
        return dict(outputs)

class Measure(Plain):
    def forward(self, module, batch, options):
        depth = 1.5 + 4 * batch["picture"].mean(1) * module.gain
        depth[:, :8, :16] = float("nan")
        return {"depth": depth}

class Refine(Plain):
    def forward(self, module, batch, options):
        return {"refined": batch["depth"] * 2}

class Shift(Pipeline):
    def preprocess(self, values):
        return {"positions": values["scene"]["positions"]}

    def forward(self, module, batch, options):
        return {"positions": batch["positions"] + module.gain}

    def postprocess(self, outputs, values):
        return {"moved": as_geometry({**values["scene"], **outputs})}

class Foretell(Plain):
    def forward(self, module, batch, options):
        day = batch["past"][:, -24:]
        times = -(-options["horizon"] // day.shape[1])
        return {"future": day.repeat(1, times, 1)[:, : options["horizon"]]}
"""

TOY = Toy("acme_fields", SOURCE, NET)
