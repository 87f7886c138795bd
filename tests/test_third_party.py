"""A third party's whole route: a plugin in a wheel of its own, weights on the Hub, installed, used, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wheels
from hubserver import HubServer
from wheels import Environment

from stzoo import weights

SPECS = """\
from stzoo import Architecture, Model, Requirements, Weights, hookimpl
from stzoo.fields import Number

PLUGIN_API = 1

@hookimpl
def stzoo_architectures():
    yield Architecture("acme-net", "video-prediction", "acme_rain.network:Network", {"width": Number("width", default=4, minimum=1, integer=True)})

@hookimpl
def stzoo_models():
    yield Model(
        "acme-rain-small", "acme-net", weights=Weights("acme/rain", revision="REVISION", sha256="SHA256"), license="mit",
        trained_on="rain radar", requirements=Requirements(channels=1, native_size=(16, 16)), aliases=("acme-rain-default",),
    )
"""

NETWORK = """\
from stzoo import Requirements
from torch import nn

class Network(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.requirements = Requirements(channels=1, native_size=(16, 16))
        self.body = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, video):
        return video + self.body(video.flatten(0, 1)).reshape(video.shape)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        yield server


def test_a_third_partys_plugin_is_installed_used_and_removed(tmp_path: Path, hub: HubServer) -> None:
    namespace: dict[str, Any] = {}
    exec(NETWORK, namespace)
    torch.manual_seed(0)
    network = namespace["Network"](4)
    sha256 = weights.save_tensors(network, tmp_path / "model.safetensors", {}).sha256
    revision = hub.put("acme/rain", {"model.safetensors": tmp_path / "model.safetensors"})
    clip = torch.linspace(0, 1, 3 * 9 * 9).reshape(1, 3, 1, 9, 9)
    expected = network(clip)[0].tolist()

    environment = Environment(tmp_path / "environment")
    client = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    environment.variables |= client
    specs = SPECS.replace("REVISION", revision).replace("SHA256", sha256)
    files = {"acme_rain/__init__.py": specs, "acme_rain/network.py": NETWORK}
    wheel = wheels.build(tmp_path, "stzoo-acme-rain", files, {"acme-rain": "acme_rain"}, version="3.1")
    before = environment.run("-m", "stzoo", "info", "acme-rain-small")
    assert before.returncode == 2
    environment.pip("install", "--no-index", "--no-deps", wheel)

    listed = environment.run("-m", "stzoo", "list", "--query", "radar", COLUMNS="200")
    assert listed.returncode == 0, listed.stderr
    assert "acme-rain-small" in listed.stdout
    assert "stzoo-acme-rain 3.1" in environment.run("-m", "stzoo", "plugins", COLUMNS="200").stdout
    assert "acme/rain" in environment.run("-m", "stzoo", "info", "acme-rain-default", COLUMNS="200").stdout
    assert not hub.requests, "looking around asks nobody"

    use = f"""
        import stzoo, torch
        predictor = stzoo.load("acme-rain-small", device="cpu")
        prediction = predictor.predict(torch.linspace(0, 1, 3 * 9 * 9).reshape(3, 1, 9, 9))
        predictor.save({str(tmp_path / "saved")!r})
        report = predictor.report
        answer = report.source, report.revision, report.sha256, prediction.video.tolist(), stzoo.load({str(tmp_path / "saved")!r}).report.source
    """
    source, *rest, video, again = environment.ask(use)
    assert (source, rest, again) == ("hub", [revision, sha256], "folder")
    assert torch.allclose(torch.tensor(video), torch.tensor(expected), atol=1e-6)
    asked = len(hub.requests)
    assert environment.ask(use)[0] == "hub cache"
    assert len(hub.requests) == asked, "pinned and cached weights need no request"

    environment.pip("uninstall", "--yes", "stzoo-acme-rain")
    assert "acme-rain" not in environment.run("-m", "stzoo", "list", "--task", "video-prediction", COLUMNS="200").stdout
    gone = environment.run("-m", "stzoo", "info", "acme-rain-small")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "no model is called 'acme-rain-small'" in gone.stderr
    orphan = environment.run("-c", f"import stzoo; stzoo.load({str(tmp_path / 'saved')!r})")
    assert "PluginMissing" in orphan.stderr
    assert "needs the architecture 'acme-net' of the plugin 'acme-rain', which is not installed" in orphan.stderr
