"""Time SwinIR's forward pass, side by side with the official one if its checkout is at hand.

    python benchmarks/super_resolution.py [NAME ...] [--sizes 48x48 37x50] [--repeats 5] [--threads 1] [--swinir DIR]

NAME is a published configuration (`stzoo_super_resolution.swinir_published`). Eval, inference mode, on the CPU, one image
of each size (HEIGHTxWIDTH); 37x50 and 29x42 are no multiples of the window. `--swinir` is a checkout of
https://github.com/JingyunLiang/SwinIR; its network then gets the same weights, through stzoo's import of its checkpoint, the
outputs are compared, and both are timed alternately in one run. Of timm it needs three functions, which are given to it here
where timm is not installed. Besides wall time there is the processor's, which other processes disturb less.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import alternate
from torch import nn

import stzoo
from stzoo_super_resolution.swinir_published import CONFIGS

NAMES = ("classical-x2", "lightweight-x2", "real-large-x4", "color-denoise", "gray-jpeg")
SIZES = ("48x48", "37x50", "29x42", "128x128")


def official(checkout: Path, config: dict[str, Any]) -> nn.Module:
    """The official network of a configuration."""
    if "timm" not in sys.modules and importlib.util.find_spec("timm") is None:
        layers = types.ModuleType("timm.models.layers")
        vars(layers).update(
            DropPath=lambda rate: nn.Identity(),
            to_2tuple=lambda value: value if isinstance(value, tuple) else (value, value),
            trunc_normal_=nn.init.trunc_normal_,
        )
        sys.modules |= {"timm": types.ModuleType("timm"), "timm.models": types.ModuleType("timm.models")}
        sys.modules["timm.models.layers"] = layers
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    build = importlib.import_module("models.network_swinir").SwinIR
    own = {key: value for key, value in config.items() if key != "scale"}
    return build(**own, upscale=config["scale"]).eval()  # type: ignore[no-any-return]


def stzoos(theirs: nn.Module | None, config: dict[str, Any]) -> nn.Module:
    """The same network here, with the official one's weights."""
    if theirs is None:
        return stzoo.create("swinir", device="cpu", **config).module
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"params": theirs.state_dict()}, Path(folder) / "official.pth")
        return stzoo.import_checkpoint(Path(folder) / "official.pth", "swinir", device="cpu").module


def measure(name: str, options: argparse.Namespace) -> None:
    config = CONFIGS[name]
    torch.manual_seed(0)
    theirs = official(options.swinir, config) if options.swinir else None
    networks = {"stzoo": stzoos(theirs, config)} | ({"official": theirs} if theirs is not None else {})
    for size in options.sizes:
        height, width = map(int, size.split("x"))
        image = torch.rand(1, config["in_chans"], height, width)
        with torch.inference_mode():
            if theirs is not None:
                difference = (networks["stzoo"](image) - theirs(image)).abs().max().item()
                assert difference < 1e-3, f"{name} {size}: outputs differ by {difference}"
            runs: dict[str, Callable[[], object]] = {code: partial(item, image) for code, item in networks.items()}
            seconds = alternate(runs, options.repeats)
        best = min(busy for _, busy in seconds["stzoo"])
        for code, samples in seconds.items():
            walls, busy = zip(*samples, strict=True)
            numbers = f"{min(walls):9.4f} {statistics.median(walls):9.4f} {min(busy):9.4f} {min(busy) / best:7.2f}"
            print(f"{name:18} {size:9} {code:9} {numbers}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(NAMES)}")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HxW")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--swinir", type=Path, metavar="DIR", help="a checkout of the official code")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", "torch.meshgrid")
    print(f"torch {torch.__version__}, {options.threads} threads, batch 1, seconds")
    print(f"{'network':18} {'size':9} {'code':9} {'min':>9} {'median':>9} {'busy min':>9} {'ratio':>7}")
    for name in options.names or NAMES:
        measure(name, options)


if __name__ == "__main__":
    main()
