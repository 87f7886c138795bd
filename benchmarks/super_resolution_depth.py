"""The energy of depth super-resolution: seconds a megapixel, how they grow, and the same with SciPy's sparse matrices, in one run.

    python benchmarks/super_resolution_depth.py [--megapixels N ...] [--steps N] [--threads N] [--device cuda]

A made-up scene of each size, blurred as a network of scale 4 would leave it, is refined with its picture as the guide
(modulation 0.3, variation 0.7, differences rounded off at a tenth of 255 levels), and without. The peer makes the matrices of
the same energy and solves the same systems to the same tolerance with scipy.sparse.linalg.cg and the diagonal as the
preconditioner; up to one megapixel, as its matrix A'A holds 169 numbers a pixel. Each measurement is the best of two; memory
is what the weights of the guide take.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from stzoo.media.depths import sample_depth
from stzoo.requirements import Requirements
from stzoo_super_resolution.depth_data import enlarged, reduced
from stzoo_super_resolution.depth_energy import WINDOW, Energy, colour_weights

MODULATION, VARIATION, EPS, TOLERANCE = 0.3, 0.7, 0.1, 1e-5


def scene(megapixels: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A blurred map (H, W) in 0..255 and its picture in 0..1, of 4:3, sides multiples of 4."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4) / 4) * 4
    depth = sample_depth(Requirements(native_size=(height, height // 3 * 4)))
    width = depth.shape[1]
    rng = np.random.default_rng(0)
    blurred = enlarged(reduced(depth, 4), 4)
    stretched = (blurred - blurred.min()) / (blurred.max() - blurred.min()) * 255
    texture = 0.05 * rng.standard_normal((height, width)) + 0.1 * np.sin(np.arange(width) / 7)
    guide = np.clip(0.15 * depth + texture, 0, 1)
    return torch.from_numpy(stretched), torch.from_numpy(guide.astype(np.float32))


def ours(depth: torch.Tensor, guide: torch.Tensor | None, steps: int) -> torch.Tensor:
    weights = None if guide is None else colour_weights(guide)
    energy = Energy(depth, MODULATION, VARIATION, weights)
    found = next(itertools.islice(energy.iterates(EPS, TOLERANCE), steps - 1, None))
    float(found.sum())  # waits for an accelerator
    return found


def scipys(depth: torch.Tensor, guide: torch.Tensor | None, steps: int) -> torch.Tensor:
    """The same with explicit matrices."""
    import scipy.sparse as sparse  # type: ignore[import-untyped]
    from scipy.sparse.linalg import cg  # type: ignore[import-untyped]

    height, width = depth.shape
    number = np.arange(height * width).reshape(height, width)
    forward = [_step(number[:, :-1], number[:, 1:], depth.numel()), _step(number[:-1], number[1:], depth.numel())]
    gradient = sparse.vstack(forward).tocsr()
    fixed = sparse.identity(depth.numel(), format="csr")
    if guide is not None:
        apart = fixed - _alpha(colour_weights(guide).numpy(), number)
        fixed = fixed + 2 * MODULATION * (apart.T @ apart)
    target = depth.numpy().ravel()
    found = target
    for _ in range(steps):
        links = VARIATION / np.maximum(np.abs(gradient @ found), EPS)
        system = fixed + gradient.T @ sparse.diags(links) @ gradient
        found, _ = cg(system, target, found, rtol=TOLERANCE, M=sparse.diags(1 / system.diagonal()))
    return torch.from_numpy(found.reshape(height, width))


def _step(first: np.ndarray, second: np.ndarray, size: int) -> Any:
    import scipy.sparse as sparse

    count = first.size
    rows = np.arange(count).repeat(2)
    columns = np.stack([second.ravel(), first.ravel()], 1).ravel()
    return sparse.csr_matrix((np.tile(np.array([1, -1], np.float32), count), (rows, columns)), (count, size))


def _alpha(weights: np.ndarray, number: np.ndarray) -> Any:
    import scipy.sparse as sparse

    reach, (height, width) = WINDOW // 2, number.shape
    padded = np.pad(number, reach, constant_values=0)
    moves = [item for item in itertools.product(range(-reach, reach + 1), repeat=2) if item != (0, 0)]
    columns = [padded[reach + y : reach + y + height, reach + x : reach + x + width].ravel() for y, x in moves]
    rows = np.tile(number.ravel(), len(moves))
    return sparse.csr_matrix((weights.reshape(-1), (rows, np.concatenate(columns))), (number.size, number.size))


def timed(work: Callable[..., torch.Tensor], *given: Any) -> tuple[float, torch.Tensor]:
    best, found = math.inf, torch.empty(0)
    for _ in range(2):
        start = time.perf_counter()
        found = work(*given)
        best = min(best, time.perf_counter() - start)
    return best, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.25, 1, 4])
    parser.add_argument("--steps", type=int, default=3, help="of reweighted least squares")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peer = importlib.util.find_spec("scipy") is not None
    print(f"{options.steps} steps, {options.device}, {options.threads} thread(s), torch {torch.__version__}\n")
    print("| size | guide | s | s per megapixel | SciPy s | largest difference of 255 | weights of the guide |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for megapixels in options.megapixels:
        depth, guide = (item.to(options.device) for item in scene(megapixels))
        for name, given in (("no", None), ("yes", guide)):
            seconds, found = timed(ours, depth, given, options.steps)
            theirs = apart = "-"
            if peer and megapixels <= 1:
                plain = None if given is None else given.cpu()
                start = time.perf_counter()
                other = scipys(depth.cpu(), plain, options.steps)
                theirs = f"{time.perf_counter() - start:.2f}"
                apart = f"{float((other - found.cpu()).abs().max()):.2g}"
            size = f"{depth.shape[1]}x{depth.shape[0]}"
            memory = "-" if given is None else f"{(WINDOW**2 - 1) * 4 * depth.numel() / 2**20:.0f} MiB"
            each = seconds / depth.numel() * 1e6
            print(f"| {size} | {name} | {seconds:.2f} | {each:.2f} | {theirs} | {apart} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
