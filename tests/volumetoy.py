"""A plugin with volumes, as a third party would write it, with weights of its own.

PYTEST_DONT_REWRITE: there are no assertions here.
"""

from __future__ import annotations

from toyplugin import Toy

SOURCE = """
from stzoo import Architecture, Model, Requirements, Task, Weights, hookimpl
from stzoo.fields import Volume, VolumeMask

@hookimpl
def stzoo_tasks():
    yield Task("finding", "Find what is bright", (Volume("scan"),), (VolumeMask("mask", "Where it is", over="scan"),),
               pipeline="acme_volumes.net:Find", dense=True)

@hookimpl
def stzoo_architectures():
    yield Architecture("finding-net", "finding", "acme_volumes.net:Net")

@hookimpl
def stzoo_models():
    weights = Weights("toy/volumes", sha256="SHA256", size=SIZE, bundled="weights/net.safetensors")
    needs = Requirements(channels=1, classes=("air", "<b>tissue</b>", "kernel"), reach=1, tile=64)
    yield Model("finding-one", "finding-net", weights=weights, requirements=needs, license="cc-by-nc-4.0")
"""

NET = """
import numpy as np
import torch
from stzoo import Pipeline
from stzoo.media.volumes import Grid

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, scan):
        return ((scan[:, 0] * self.gain > 0.3).to(torch.uint8) + (scan[:, 0] > 0.7).to(torch.uint8))

class Find(Pipeline):
    def preprocess(self, values):
        return {name: np.asarray(value) for name, value in values.items()}

    def postprocess(self, outputs, values):
        scan = values["scan"]
        return {name: Grid(output.astype(np.uint8), scan.affine, scan.axes) for name, output in outputs.items()}
"""

TOY = Toy("acme_volumes", SOURCE, NET)
