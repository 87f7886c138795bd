"""Time the video-prediction networks, side by side with the official ones if a checkout is at hand.

    python benchmarks/inference.py [--batch 1] [--repeats 5] [--threads 2] [--openstl DIR]

Forward pass (eval, inference mode) and training step (forward, MSE, backward, the Adam each code base uses) of
SimVP-gSTA, SimVP-IncepU and TAU at the published Moving MNIST configuration, on the CPU. DIR is a checkout of
https://github.com/chengtan9907/OpenSTL with its dependencies installed (timm, einops, scipy); both implementations then
get the same weights and are timed alternately in one run.

A batch of clips needs large buffers, which glibc maps and unmaps at every step; where page faults are slow, set
MALLOC_MMAP_THRESHOLD_=8589934592 and MALLOC_TRIM_THRESHOLD_=17179869184 in the environment, for both alike.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.simvp import SimVP
from stzoo_video_prediction.tau import TAU

SHAPE = (10, 1, 64, 64)
MMNIST: dict[str, Any] = {"in_shape": SHAPE, "hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 8}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "gSTA": lambda: SimVP(**MMNIST, model_type="gsta"),
    "IncepU": lambda: SimVP(**MMNIST, model_type="incepu"),
    "TAU": lambda: TAU(**MMNIST),
}


def official_network(checkout: Path, model_type: str) -> nn.Module:
    """The same network from an OpenSTL checkout."""
    if "openstl.models" not in sys.modules:
        sys.path.insert(0, str(checkout))
        # An empty package: OpenSTL's own imports all its networks with all their dependencies.
        package = types.ModuleType("openstl.models")
        package.__path__ = [str(checkout / "openstl" / "models")]
        sys.modules["openstl.models"] = package
    module = importlib.import_module("openstl.models.simvp_model")
    return module.SimVP_Model(**MMNIST, model_type=model_type)


def forward(network: nn.Module, x: Tensor) -> Callable[[], object]:
    network.eval()

    @torch.inference_mode()
    def run() -> None:
        network(x)

    return run


def training_step(network: nn.Module, x: Tensor) -> Callable[[], object]:
    network.train()
    if isinstance(network, SimVP):
        [(optimizer, _)] = VideoPredictionRecipe(lr=1e-4).optimizers(network, total_steps=1000)
    else:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    target = torch.rand_like(x)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(x), target).backward()
        optimizer.step()

    return run


def alternate(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every run, taken in turn so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):  # the first round warms up
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--openstl", type=Path, metavar="DIR", help="an OpenSTL checkout")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x = torch.rand(options.batch, *SHAPE)

    print(f"torch {torch.__version__}, {options.threads} threads, batch {options.batch}, seconds")
    print(f"{'network':8} {'pass':9} {'code':9} {'min':>8} {'median':>8} {'min ratio':>10}")
    for name, build in NETWORKS.items():
        networks = {"stzoo": build()}
        if options.openstl:
            networks["official"] = official_network(options.openstl, name)
            networks["official"].load_state_dict(networks["stzoo"].state_dict())
        for label, make in (("forward", forward), ("training", training_step)):
            runs = {code: make(network, x) for code, network in networks.items()}
            seconds = alternate(runs, options.repeats)
            best = min(seconds["stzoo"])
            for code, samples in seconds.items():
                print(
                    f"{name:8} {label:9} {code:9} {min(samples):8.4f} "
                    f"{statistics.median(samples):8.4f} {min(samples) / best:10.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
