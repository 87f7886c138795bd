"""The conformance kit passes on every installed plugin, and finds what is wrong with a plugin full of defects."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
import wheels
from wheels import Environment

from stzoo.testing.conformance import *  # noqa: F403 - collects the kit's tests here

# --- a plugin full of defects -----------------------------------------------------------------------------------------

SPECS = """\
from stzoo import Architecture, Measurement, Metric, Model, Requirements, Task, Weights, hookimpl
from stzoo.fields import Image, Video

@hookimpl
def stzoo_tasks():
    yield Task("enhancement", "Make it better", (Image("image"),), (Image("result"),), metrics=(Metric("mse", "acme_network:mse"),))
    yield Task("restoring", "Make it good again", (Video("video"),), (Video("result"),), dense=True)

@hookimpl
def stzoo_architectures():
    def named(name, network="Network", recipe=None, formats=(), **more):
        recipe, formats = recipe and f"acme_network:{recipe}", tuple(f"acme_network:{item}" for item in formats)
        return Architecture(name, "enhancement", f"acme_network:{network}", {"width": 2}, recipe, formats, **more)
    yield named("sound", recipe="Recipe", formats=["Format"])
    yield named("missing", network="NoSuchNetwork")
    yield named("noisy", network="Noisy")
    yield named("mixing", network="Mixing")
    yield named("drawn", network="Drawn")
    yield named("drawn-honestly", network="Drawn", skip_init=False)
    yield named("tight", network="Tight")
    yield named("shrinking", network="Shrinking")
    yield named("touchy", network="Touchy")
    yield named("tied", network="Tied")
    yield named("shared", network="Shared")
    yield named("forgetful", network="Extended", formats=["Forgetful"])
    yield Architecture("seamless", "restoring", "acme_network:Seamless", {"width": 2})
    yield Architecture("seams", "restoring", "acme_network:Seams", {"width": 2})
    yield named("leaky", recipe="Leaky")
    yield named("stuck", recipe="Stuck")
"""

MODELS = """
FACTS = {"requirements": Requirements(minimum=3, native_size=(16, 16), channels=3), "parameters": 113, "flops": 27648}
WEIGHTS = {"repo": "acme/sound", "sha256": "SHA256", "size": SIZE, "bundled": "weights/sound.safetensors"}

@hookimpl
def stzoo_models():
    def named(name, file={}, **more):
        facts = {"license": "mit", "trained_on": "rain", "fingerprint": FINGERPRINT, **FACTS, **more}
        return Model(name, "sound", weights=Weights(**{**WEIGHTS, **file}), **facts)
    yield named("fine", dtypes=("float32", "bfloat16"), metrics=(Measurement("rain", "mse", 0.5, command="stzoo evaluate"),))
    wrong = {"result": {**FINGERPRINT["result"], "mean": 9.0}}
    yield named("wrong-1", {"size": 1}, parameters=1, metrics=(Measurement("rain", "speed", 1.0, command="x"),), fingerprint=None)
    yield named("wrong-2", {"dtype": "float16"}, flops=1, metrics=(Measurement("rain", "mse", 1.0),), fingerprint=wrong)
    yield named("wrong-3", requirements=Requirements(minimum=4))
    yield Model("wrong-config", "sound", config={"widht": 3})
    yield Model("coarse", "touchy", dtypes=("float32", "bfloat16"))
"""

NETWORK = """\
import torch
from torch import nn
from stzoo import Recipe as Base, Requirements

def mse(prediction, target):
    return 0.0

class Network(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.requirements = Requirements(minimum=3, native_size=(16, 16), channels=3)
        self.enter, self.leave = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
    def forward(self, image):
        return self.leave(self.enter(image).relu())

class Noisy(Network):
    def forward(self, image):
        return super().forward(image) + torch.rand(())

class Mixing(Network):
    def forward(self, image):
        return super().forward(image) - image.mean()

class Drawn(Network):
    def __init__(self, width):
        super().__init__(width)
        self.register_buffer("grid", torch.empty(5).uniform_(1, 2), persistent=False)

class Tight(Network):
    def forward(self, image):
        return image + nn.functional.avg_pool2d(super().forward(image), 7).mean((1, 2, 3), keepdim=True)

class Shrinking(Network):
    def forward(self, image):
        return super().forward(image)[..., : image.shape[-1] // 2 * 2]

class Seamless(Network):
    def __init__(self, width):
        super().__init__(width)
        self.requirements = Requirements(channels=3, reach=2, reach_frames=1)
    def forward(self, video):
        frames = torch.cat((video[:, :1], video, video[:, -1:]), 1)
        means = (frames[:, :-2] + frames[:, 1:-1] + frames[:, 2:]) / 3
        return torch.stack([super(Seamless, self).forward(frame) for frame in means.unbind(1)], 1)

class Seams(Seamless):
    def __init__(self, width):
        super().__init__(width)
        self.requirements = Requirements(channels=3, reach=0, reach_frames=1)

class Touchy(Network):
    def forward(self, image):
        return torch.sin(100 * super().forward(image))

class Tied(Network):
    def __init__(self, width):
        super().__init__(width)
        self.twin = nn.Conv2d(3, width, 3)
        self.twin.weight = self.enter.weight

class Shared(Network):
    def __init__(self, width):
        super().__init__(width)
        self.alike = nn.Parameter(self.enter.bias.detach()[:1])  # a part of another one's memory

class Extended(Network):
    def __init__(self, width):
        super().__init__(width)
        self.extra = nn.Parameter(torch.zeros(width))

class Recipe(Base):
    def sample_batch(self, module):
        image = torch.linspace(0, 1, 3 * 64).reshape(1, 3, 8, 8)
        return {"image": image, "target": 1 - image}
    def losses(self, module, batch, step):
        return {"mse": (module(batch["image"]) - batch["target"]).square().mean()}
    def optimizers(self, module, total_steps):
        adam = torch.optim.Adam(module.parameters(), 0.01)
        return [(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0))]

class Leaky(Recipe):
    def losses(self, module, batch, step):
        return {"mse": (module.enter(batch["image"]) - 1).square().mean()}

class Stuck(Recipe):
    def losses(self, module, batch, step):
        return {"mse": 1 + 0 * super().losses(module, batch, step)["mse"]}

class Format:
    name = "the same names"
    def detect(self, state):
        return {"width": len(state["enter.bias"])} if set(state) == set(Network(2).state_dict()) else None
    def convert(self, state, config):
        return dict(state)
    def unknown(self, config):
        return ()

class Forgetful(Format):
    def detect(self, state):
        return {"width": 3} if "extra" in state else None
"""

HEAVY = """\
import torch
from stzoo import Dataset, hookimpl

@hookimpl
def stzoo_datasets():
    yield Dataset("rain", "enhancement", "acme_network:mse")
"""

EXPECTED = {
    "acme": {"references"},
    "acme-heavy": {"import_budget", "plugin_loads"},
    "noisy (untrained)": {"predictions_are_deterministic", "save_and_load", "batch_equals_singles"},
    "mixing (untrained)": {"batch_equals_singles"},
    "drawn (untrained)": {"loading_without_initialisation", "save_and_load"},
    "tight (untrained)": {"minimum_size"},
    "shrinking (untrained)": {"any_size_comes_back"},
    "seams (untrained)": {"no_seams"},
    "shared (untrained)": {"tied_tensors"},
    "forgetful (untrained)-Forgetful": {"official_format"},
    "leaky": {"recipe_trains"},
    "stuck": {"recipe_trains"},
    "wrong-1": {"weights_are_pinned", "recorded_facts", "metrics_are_well_formed", "fingerprint"},
    "wrong-2": {"strict_load", "recorded_facts", "metrics_are_well_formed", "fingerprint"},
    "wrong-3": {"recorded_facts"},
    "coarse": {"precisions"},
}
"""By subject: the tests that must fail on it. On every other subject all must pass."""

UNUSABLE = {"missing (untrained)": "NoSuchNetwork", "wrong-config": "widht"}
"""Subjects of which nothing can be built, and what every message then says."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says when the kit runs on the plugin of defects."""
    folder = tmp_path_factory.mktemp("defects")
    environment = Environment(folder / "environment")
    files: dict[str, str | bytes] = {"acme/__init__.py": SPECS, "acme_network.py": NETWORK}
    heavy = wheels.plugin(folder, "acme-heavy", HEAVY)
    environment.install(wheels.build(folder, "acme", files, {"acme": "acme"}), heavy)
    fingerprint, sha256, size = environment.ask(
        """
        import hashlib, stzoo, sys, torch
        from pathlib import Path
        torch.manual_seed(0)
        predictor = stzoo.create("sound")
        file = predictor.save(sys.prefix) / "model.safetensors"
        answer = predictor.fingerprint(), hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
        """
    )
    models = MODELS.replace("FINGERPRINT", repr(fingerprint)).replace("SHA256", sha256).replace("SIZE", str(size))
    files["acme/__init__.py"] = SPECS + models
    files["acme/weights/sound.safetensors"] = (folder / "environment" / "model.safetensors").read_bytes()
    environment.install(wheels.build(folder, "acme", files, {"acme": "acme"}, version="2.0"))
    (folder / "empty").mkdir()
    arguments = (
        "-m",
        "pytest",
        "--rootdir",
        folder,
        "--stzoo",
        "acme",
        "--stzoo",
        "acme-heavy",
        "-rfE",
        "--tb=no",
        "-p",
        "no:cacheprovider",
    )
    return environment.run(*arguments, COLUMNS="1000", folder=folder / "empty").stdout


def test_the_kit_finds_every_defect_and_nothing_else(report: str) -> None:
    failed: dict[str, set[str]] = defaultdict(set)
    for line in report.splitlines():
        if found := re.match(r"(?:FAILED|ERROR) \S*::test_(\w+)\[(.*?)\](?: - (.*))?$", line):
            test, subject, message = found.groups()
            unusable = next((word for name, word in UNUSABLE.items() if subject.startswith(name)), None)
            if unusable:
                assert unusable in message, line
            else:
                failed[subject].add(test)
    assert failed == EXPECTED, report
    passed = re.search(r"(\d+) passed", report)
    assert passed
    assert int(passed[1]) > 150


def test_a_plugin_that_is_not_installed(tmp_path: Path) -> None:
    done = Environment(tmp_path / "environment").run("-m", "pytest", "--stzoo", "video-predction", folder=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no such plugin is installed here. Did you mean 'video-prediction'?" in done.stderr
