"""Super-resolution forests: seconds per megapixel of the enlarged picture, to learn and to enlarge, beside bicubic interpolation.

    python benchmarks/super_resolution_forest.py [--forest TREES,LEAVES ...] [--repeats N] [--threads N]

Forests (x2, linear leaves) learn from three of scikit-image's photographs and enlarge a fourth, repeated to ``--size``. Every way
is measured ``--repeats`` times, in turns, and the smallest time counts. Learning is measured once.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from stzoo_super_resolution.data import degraded
from stzoo_super_resolution.forest import SRForest
from stzoo_super_resolution.forest_fit import SRForestRecipe
from stzoo_super_resolution.pipeline import to_luma
from stzoo_super_resolution.resize import imresize

SCALE = 2


def photographs() -> list[np.ndarray]:
    """RGB, (3,H,W) in [0,1]; the last one is to be enlarged."""
    from skimage import data

    whole = (data.astronaut(), data.coffee(), data.rocket(), data.chelsea())
    return [np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255 for image in whole]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--forest", nargs="+", default=["1,64", "1,1024", "3,1150", "10,1024"], metavar="TREES,LEAVES")
    parser.add_argument("--size", type=int, default=1024, help="height and width of the enlarged picture")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    *learn, other = photographs()
    samples = [{"image": degraded(image, SCALE)} for image in learn]
    learnt = sum(image.shape[1] * image.shape[2] for image in learn) / 1e6
    high = np.pad(other, ((0, 0), *((0, max(0, options.size - side)) for side in other.shape[1:])), mode="symmetric")
    low = to_luma(torch.from_numpy(degraded(high[:, : options.size, : options.size], SCALE).low)[None])
    enlarged = low.numel() * SCALE**2 / 1e6

    ways = {"bicubic": lambda image: imresize(image, SCALE)}
    fits = {"bicubic": 0.0}
    for text in options.forest:
        trees, leaves = map(int, text.split(","))
        torch.manual_seed(0)
        network = SRForest(SCALE, 29, trees, leaves, "linear")
        started = time.perf_counter()
        SRForestRecipe(threads=options.threads).fit(network, samples)
        name = f"trees: {trees}, leaves: {int(network.forest.slot.amax(1).add(1).sum())}"
        fits[name] = time.perf_counter() - started
        ways[name] = network
    best = dict.fromkeys(ways, float("inf"))
    with torch.inference_mode():
        for _ in range(options.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way(low)
                best[name] = min(best[name], time.perf_counter() - started)
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {learnt:.2f} MP learnt, {enlarged:.2f} MP enlarged\n"
    )
    print("| way | to learn, s/MP | to enlarge, s/MP |")
    print("|---|---:|---:|")
    for name, seconds in best.items():
        print(f"| {name} | {fits[name] / learnt:.2f} | {seconds / enlarged:.3f} |")


if __name__ == "__main__":
    main()
