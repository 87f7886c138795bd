"""Time U-Net's forward pass and training step, side by side with the official code of those whose checkpoints it reads.

    python benchmarks/segmentation.py [--milesial DIR] [--jvanvugt DIR] [--brain DIR] [--size 256x256] [--width 32] [--threads 1]

DIR are checkouts of https://github.com/milesial/Pytorch-UNet (which has one width, 64), https://github.com/jvanvugt/pytorch-unet
and https://github.com/mateuszbuda/brain-segmentation-pytorch. Their networks' weights are brought in through stzoo's import of
their checkpoints, outputs are compared, and both are timed alternately in one run, on the CPU or with `--device cuda`: the
forward pass in eval and inference mode, then a step of training (cross-entropy, or Dice after a sigmoid, backward, SGD). Without
any DIR stzoo's network is timed alone. `stzoo, channels last` is the same network in the layout of `--channels-last true`.
Besides wall time there is the processor's, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timing import alternate
from torch import Tensor, nn

import stzoo

PEERS = ("milesial", "jvanvugt", "brain")


def peer(name: str, checkout: Path, width: int) -> tuple[nn.Module, dict[str, Any]]:
    """The official network, and what its checkpoint does not tell."""
    file = checkout / {"milesial": "unet/unet_model.py"}.get(name, "unet.py")
    package = {"milesial": "unet"}.get(name)
    if package:  # a package that imports its own parts
        sys.path.insert(0, str(checkout))
        build = importlib.import_module("unet.unet_model").UNet
        sys.path.remove(str(checkout))
        return build(3, 2), {}
    spec = importlib.util.spec_from_file_location(f"peer_{name}", file)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name == "jvanvugt":
        wf = width.bit_length() - 1
        return module.UNet(1, 2, depth=5, wf=wf, padding=True, batch_norm=True, up_mode="upconv"), {"padding": "same"}
    return module.UNet(3, 1, width), {}


def networks(name: str, options: argparse.Namespace) -> tuple[dict[str, nn.Module], int]:
    """What is compared, with the same weights, and the channels of the pictures."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {}
    if name == "stzoo":
        own: Any = stzoo.create("unet", device="cpu", width=options.width).module
    else:
        theirs, stated = peer(name, getattr(options, name), options.width)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(theirs.state_dict(), Path(folder) / "official.pth")
            own = stzoo.import_checkpoint(Path(folder) / "official.pth", device="cpu", **stated).module
        found["official"] = theirs
    last: Any = copy.deepcopy(own)
    found |= {"stzoo": own, "stzoo, channels last": last.to(memory_format=torch.channels_last)}
    return {code: network.to(options.device) for code, network in found.items()}, own.requirements.channels


def train(network: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, mask: Tensor) -> None:
    """One step."""
    out = network(image)
    if out.shape[1] == 1:
        flat, truth = out.flatten(), mask.flatten().float()
        loss = 1 - (2 * (flat * truth).sum() + 1) / (flat.sum() + truth.sum() + 1)
    else:
        loss = F.cross_entropy(out, mask)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if image.is_cuda:
        torch.cuda.synchronize()


def forward(network: nn.Module, image: Tensor) -> None:
    """One pass."""
    with torch.inference_mode():
        network(image)
    if image.is_cuda:
        torch.cuda.synchronize()


def measure(name: str, options: argparse.Namespace) -> None:
    compared, channels = networks(name, options)
    height, width = map(int, options.size.split("x"))
    image = torch.rand(options.batch, channels, height, width, device=options.device)
    mask = (torch.rand(options.batch, height, width, device=options.device) > 0.5).long()
    if "official" in compared:
        with torch.inference_mode():
            outputs = {code: network.eval()(image) for code, network in compared.items()}
        scale = outputs["official"].abs().max().item()
        for code, output in outputs.items():
            difference = (output - outputs["official"]).abs().max().item() / scale
            assert difference < 1e-4, f"{name}, {code}: outputs differ by {difference:.2g} of the largest"
    laid = {code: image.to(memory_format=torch.channels_last) if "last" in code else image for code in compared}
    for what in ("forward", "training"):
        runs: dict[str, Callable[[], object]] = {}
        for code, network in compared.items():
            if what == "forward":
                runs[code] = partial(forward, network.eval(), laid[code])
            else:
                optimizer = torch.optim.SGD(network.train().parameters(), 1e-4)
                runs[code] = partial(train, network, optimizer, laid[code], mask)
        seconds = alternate(runs, options.repeats)
        best = min(busy for _, busy in seconds["stzoo"])
        for code, samples in seconds.items():
            walls, busy = zip(*samples, strict=True)
            numbers = f"{min(walls):9.4f} {statistics.median(walls):9.4f} {min(busy):9.4f} {min(busy) / best:7.2f}"
            print(f"{name:10} {what:9} {code:21} {numbers}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help="a checkout of the official code")
    parser.add_argument("--size", default="256x256", metavar="HxW")
    parser.add_argument("--width", type=int, default=32, help="channels of the first level, a power of two")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.device}, {options.threads} threads, {options.batch}x{options.size}, seconds"
    )
    print(f"{'network':10} {'what':9} {'code':21} {'min':>9} {'median':>9} {'busy min':>9} {'ratio':>7}")
    for name in [name for name in PEERS if getattr(options, name)] or ["stzoo"]:
        measure(name, options)


if __name__ == "__main__":
    main()
