"""From name to ready module: stzoo against the two usual ways, in one run, each in its own process.

    python benchmarks/load.py [--repeats N] [--threads N]

Ways, on the same file: ``copy`` builds the network, initialises it and copies the tensors in (timm, the Hub's mixin);
``meta`` builds on the meta device and assigns the mapped tensors; ``stzoo`` is ``stzoo.load`` of a saved folder, hash
check included (remembered after the first time). Networks: a TAU of 45 million parameters and a ViT-like one of 100 million.
Time is the best of the repeats after torch is imported; memory is the process's peak above its size just before, after
every tensor has been read once, over the size of the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TAU = {"hid_S": 64, "hid_T": 512, "N_S": 4, "N_T": 8}
PLUGIN = """
from stzoo import Architecture, Task, hookimpl
from stzoo.fields import Image

@hookimpl
def stzoo_tasks():
    yield Task("vit-features", inputs=(Image("image"),), outputs=(Image("features"),))

@hookimpl
def stzoo_architectures():
    yield Architecture("vit-like", "vit-features", "stzoo_bench_vit:ViT", {"dim": 768, "depth": 14})

def __getattr__(name):
    if name != "ViT":
        raise AttributeError(name)
    import torch
    from torch import nn
    from stzoo import Requirements

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.norm1, self.qkv, self.proj = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
            self.norm2, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

        def forward(self, x):
            b, n, d = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, d // 64, 64).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
            x = x + self.proj(y)
            return x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))

    class ViT(nn.Module):
        requirements = Requirements(channels=3, minimum=224, native_size=(224, 224))

        def __init__(self, dim, depth):
            super().__init__()
            self.patch = nn.Conv2d(3, dim, 16, 16)
            self.position = nn.Parameter(torch.empty(1, 196, dim))
            nn.init.trunc_normal_(self.position, std=0.02)
            self.blocks = nn.Sequential(*[Block(dim) for _ in range(depth)])
            self.register_buffer("scale", torch.linspace(0, 1, dim), persistent=False)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2) + self.position
            return (self.blocks(x) * self.scale).unsqueeze(1)

    return ViT
"""
NETWORKS = {"tau-45M": ("tau", TAU, (1, 10, 1, 64, 64)), "vit-100M": ("vit-like", {}, (1, 3, 224, 224))}


def one_way(way: str, network: str, folder: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Time and memory of one way; runs in a process of its own."""
    import gc
    import resource

    import torch
    from safetensors.torch import load_file

    import stzoo
    from stzoo.spec import load_reference

    torch.set_num_threads(threads)
    architecture, config, shape = NETWORKS[network]
    spec = next(item for item in stzoo.architectures() if item.name == architecture)
    constructor, full = load_reference(spec.build), spec.validate(config)
    file = folder / "model.safetensors"

    def load() -> torch.nn.Module:
        if way == "stzoo":
            return stzoo.load(folder).module
        if way == "meta":
            with torch.device("meta"):
                module = constructor(**full)
            module.load_state_dict(load_file(file), assign=True)
        else:
            module = constructor(**full)
            module.load_state_dict(load_file(file))
        return module.eval()

    load_reference("stzoo.predictor:Predictor")
    if way == "stzoo":  # the hash is checked once and remembered: not part of the comparison of the ways
        load()
    gc.collect()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        module = load()
        times.append(time.perf_counter() - start)
        del module
        gc.collect()
    for line in (Path("/proc/self/clear_refs").exists() and ["5"]) or []:  # reset the peak
        Path("/proc/self/clear_refs").write_text(line)
    before = _status("VmRSS")
    module = load()
    total = sum(float(tensor.sum()) for tensor in module.state_dict().values())  # touch every page
    peak = _status("VmHWM") - before
    output = None
    if way != "meta" or network != "vit-100M":  # its non-persistent buffer stays on the meta device
        with torch.inference_mode():
            output = module(torch.linspace(0, 1, int(torch.tensor(shape).prod())).view(shape)).double().sum().item()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": min(times),
        "peak": peak / (file.stat().st_size / 1024),
        "output": output,
        "sum": total,
        "rss": rss,
    }


def _status(key: str) -> int:
    """A memory figure of this process in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "NETWORK", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_way(args.one[0], args.one[1], Path(args.one[2]), args.repeats, args.threads)))
        return
    import os

    with tempfile.TemporaryDirectory() as scratch:
        site = Path(scratch) / "site"
        (site / "stzoo_bench_vit-1.dist-info").mkdir(parents=True)
        (site / "stzoo_bench_vit.py").write_text(PLUGIN)
        (site / "stzoo_bench_vit-1.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: stzoo-bench-vit\nVersion: 1\n"
        )
        (site / "stzoo_bench_vit-1.dist-info" / "entry_points.txt").write_text("[stzoo]\nbench-vit = stzoo_bench_vit\n")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
            "STZOO_CACHE": scratch + "/cache",
        }
        print(f"{'network':10} {'way':6} {'ms':>8} {'times stzoo':>12} {'peak / file':>12}  output")
        for network, (architecture, config, _) in NETWORKS.items():
            folder = Path(scratch) / network
            save = f"import stzoo, torch; torch.manual_seed(0); p = stzoo.create({architecture!r}, **{config!r}); p.fingerprint = dict; p.save({str(folder)!r})"
            subprocess.run([sys.executable, "-c", save], env=environment, check=True)
            results = {}
            for way in ("copy", "meta", "stzoo"):
                command = [
                    sys.executable,
                    __file__,
                    "--one",
                    way,
                    network,
                    str(folder),
                    "--repeats",
                    str(args.repeats),
                    "--threads",
                    str(args.threads),
                ]
                results[way] = json.loads(
                    subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
                )
            for way, result in results.items():
                ratio = result["seconds"] / results["stzoo"]["seconds"]
                print(
                    f"{network:10} {way:6} {result['seconds'] * 1e3:8.1f} {ratio:12.1f} {result['peak']:12.2f}  {result['output']!r}"
                )


if __name__ == "__main__":
    main()
