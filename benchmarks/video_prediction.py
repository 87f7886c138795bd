"""Time the video-prediction networks, side by side with the official ones if their checkouts are at hand.

    python benchmarks/video_prediction.py [NAME ...] [--batch 1] [--repeats 5] [--threads 2]
        [--openstl DIR] [--a4bio DIR] [--swinlstm DIR]

Forward pass (eval, inference mode) and training step (loss of each code base, backward, the Adam it uses) at the
published Moving MNIST configuration, on the CPU, ten frames to ten frames. `--openstl` is a checkout of
https://github.com/chengtan9907/OpenSTL with its dependencies installed (timm, einops, scipy), `--a4bio` one of
https://github.com/A4Bio/SimVP, and `--swinlstm` one of https://github.com/SongTang-x/SwinLSTM (OpenSTL's SwinLSTM runs with
no released timm); the networks then get the same weights, their predictions are compared, and they are timed alternately
in one run.

Both profit alike from freed memory being kept, as stzoo keeps it when it trains and predicts on the command line.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from timing import alternate
from torch import Tensor, nn

import stzoo
from stzoo.processes import keep_memory
from stzoo.spec import load_reference
from stzoo_video_prediction.recurrent import from_patches, to_patches

SHAPE = (10, 1, 64, 64)
SIMVP: dict[str, Any] = {"in_shape": SHAPE, "hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 8}
SWIN = {"in_shape": SHAPE, "patch_size": 2, "embed_dim": 128, "window_size": 4}


@dataclass(frozen=True)
class Peer:
    """A network of an official code base, and how it is called."""

    build: Callable[[], nn.Module]
    predict: Callable[[nn.Module, Tensor, Tensor], Tensor]
    """(network, given frames, target) to predicted frames."""
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]


def official(name: str, options: argparse.Namespace) -> Peer | None:
    """The peer of a system, from the checkouts that were given."""
    if name == "simvp-v1":
        if not options.a4bio:
            return None
        sys.path.insert(0, str(options.a4bio))
        network = importlib.import_module("model").SimVP
        return Peer(partial(network, SHAPE, hid_S=64, hid_T=256, N_S=4, N_T=8), call, mse)
    if name.startswith("swinlstm"):
        if not options.swinlstm:
            return None
        sys.path.insert(0, str(options.swinlstm))
        kind = name[-1].upper()
        network = importlib.import_module(f"SwinLSTM_{kind}").SwinLSTM
        layers = {"D": ([2, 6], [6, 2], [4, 8], 4), "B": ([12], [4], 4, 0.0, 0.0, 0.1)}[kind]
        return Peer(partial(network, 64, 2, 1, 128, *layers), swinlstm, swinlstm_loss)
    if not options.openstl:
        return None
    if "openstl.models" not in sys.modules:
        sys.path.insert(0, str(options.openstl))
        # An empty package: OpenSTL's own imports all its networks with all their dependencies.
        package = types.ModuleType("openstl.models")
        package.__path__ = [str(options.openstl / "openstl" / "models")]
        sys.modules["openstl.models"] = package
    models = partial(importlib.import_module, package="openstl.models")
    frames = {"in_shape": SHAPE, "pre_seq_length": 10, "aft_seq_length": 10}
    if name in ("simvp-gsta", "simvp-incepu", "tau"):
        kind = name.removeprefix("simvp-")
        return Peer(partial(models(".simvp_model").SimVP_Model, **SIMVP, model_type=kind), call, mse)
    if name in ("convlstm", "predrnn"):
        kind = {"convlstm": "ConvLSTM_Model", "predrnn": "PredRNN_Model"}[name]
        settings = {"patch_size": 4, "filter_size": 5, "stride": 1, "layer_norm": 0, "reverse_scheduled_sampling": 0}
        settings |= {"decouple_beta": 0.1} | frames
        build = partial(getattr(models(f".{name}_model"), kind), 4, [128] * 4, SimpleNamespace(**settings))
        return Peer(build, partial(recurrent, part=0), partial(recurrent, part=1))
    settings = {"patch_size": 4, "device": "cpu"} | frames
    build = partial(models(".phydnet_model").PhyDNet_Model, SimpleNamespace(**settings))
    return Peer(build, phydnet, phydnet_loss)


def call(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return network(x)  # type: ignore[no-any-return]


def mse(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(network(x), y)


def recurrent(network: nn.Module, x: Tensor, y: Tensor, part: int) -> Tensor:
    """OpenSTL's frames come as patches, channels last; true frames are never fed in after the given ones."""
    frames = to_patches(torch.cat((x, y), dim=1), 4).permute(1, 0, 3, 4, 2).contiguous()
    mask = torch.zeros(len(x), 9, *frames.shape[2:])
    result = network(frames, mask, return_loss=bool(part))[part]
    return result if part else from_patches(result.permute(1, 0, 4, 2, 3), 4)[:, -10:]


def phydnet(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return network.inference(x, y, None, return_loss=False)[0]  # type: ignore[no-any-return, operator]


def phydnet_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    constraints = torch.eye(49).reshape(49, 7, 7)
    return network(x, y, constraints)  # type: ignore[no-any-return]


def swinlstm(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return swinlstm_steps(network, x)[:, -10:]


def swinlstm_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(swinlstm_steps(network, x), torch.cat((x[:, 1:], y), dim=1))


def swinlstm_steps(network: nn.Module, x: Tensor) -> Tensor:
    """The loop of its training script: every output, each fed back once the given frames are used up."""
    cells = [[None] * len(part.layers) for part in network.children()]
    outputs: list[Tensor] = []
    for step in range(19):
        output, *cells = network(x[:, step] if step < 10 else outputs[-1], *cells)
        outputs.append(output)
    return torch.stack(outputs, dim=1)


SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "simvp-gsta": ("simvp", SIMVP | {"model_type": "gsta"}),
    "simvp-incepu": ("simvp", SIMVP | {"model_type": "incepu"}),
    "tau": ("tau", SIMVP),
    "simvp-v1": ("simvp-v1", SIMVP | {"hid_T": 256}),
    "convlstm": ("convlstm", {"in_shape": SHAPE, "patch_size": 4, "num_hidden": (128,) * 4}),
    "predrnn": ("predrnn", {"in_shape": SHAPE, "patch_size": 4, "num_hidden": (128,) * 4}),
    "phydnet": ("phydnet", {"in_shape": SHAPE, "patch_size": 4}),
    "swinlstm-b": ("swinlstm", SWIN | {"model_type": "b", "depths": (12,), "heads": (4,)}),
    "swinlstm-d": (
        "swinlstm",
        SWIN | {"model_type": "d", "depths_down": (2, 6), "depths_up": (6, 2), "heads": (4, 8)},
    ),
}
"""Architecture and configuration."""


def forward(predict: Callable[[], Any], network: nn.Module) -> Callable[[], object]:
    def run() -> None:
        network.eval()
        with torch.inference_mode():
            predict()

    return run


def training_step(loss: Callable[[], Tensor], network: nn.Module, adam: torch.optim.Optimizer) -> Callable[[], object]:
    def run() -> None:
        network.train()
        adam.zero_grad()
        loss().backward()
        adam.step()

    return run


def measure(name: str, options: argparse.Namespace) -> None:
    architecture, config = SYSTEMS[name]
    peer = official(name, options)
    x, y = torch.rand(2, options.batch, *SHAPE)
    if peer:  # the official weights, through their own format
        theirs = peer.build()
        with tempfile.TemporaryDirectory() as folder:
            torch.save(theirs.state_dict(), Path(folder) / "official.pth")
            stated = {key: config[key] for key in ("in_shape", "patch_size") if key in config}
            stated |= {"cell": "standard"} if name == "convlstm" else {}
            predictor = stzoo.import_checkpoint(Path(folder) / "official.pth", architecture, **stated)
    else:
        predictor = stzoo.create(architecture, **config)
    network = predictor.module
    recipe = load_reference(predictor.architecture.recipe).from_options({"lr": 1e-4})
    [(adam, _)] = recipe.optimizers(network, total_steps=1000)
    batch = {"frames": x, "target": y}
    forwards = {"stzoo": forward(lambda: network(x), network)}
    steps = {"stzoo": training_step(lambda: sum(recipe.losses(network, batch, 10**9).values()), network, adam)}
    if peer:
        other = torch.optim.Adam(theirs.parameters(), lr=1e-4)
        forwards["official"] = forward(lambda: peer.predict(theirs, x, y), theirs)
        steps["official"] = training_step(lambda: peer.loss(theirs, x, y), theirs, other)
        with torch.inference_mode():
            difference = (network.eval()(x) - peer.predict(theirs.eval(), x, y)).abs().max().item()
        print(f"{name}: largest difference of the predictions {difference:.1e}", flush=True)
    for label, runs in (("forward", forwards), ("training", steps)):
        seconds = {code: [wall for wall, _ in taken] for code, taken in alternate(runs, options.repeats).items()}
        best = min(seconds["stzoo"])
        for code, samples in seconds.items():
            print(
                f"{name:12} {label:9} {code:9} {min(samples):8.4f} {statistics.median(samples):8.4f} "
                f"{min(samples) / best:10.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(SYSTEMS)}")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--openstl", type=Path, metavar="DIR", help="an OpenSTL checkout")
    parser.add_argument("--a4bio", type=Path, metavar="DIR", help="a checkout of the first SimVP code")
    parser.add_argument("--swinlstm", type=Path, metavar="DIR", help="a checkout of the SwinLSTM code")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_memory()
    print(f"torch {torch.__version__}, {options.threads} threads, batch {options.batch}, seconds")
    print(f"{'network':12} {'pass':9} {'code':9} {'min':>8} {'median':>8} {'min ratio':>10}")
    for name in options.names or SYSTEMS:
        measure(name, options)


if __name__ == "__main__":
    main()
