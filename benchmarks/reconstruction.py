"""Splatting and NeRF: pictures per second of the rasterisers, and PSNR of held-out views against seconds of learning.

    python benchmarks/reconstruction.py [--cases 1000x64 20000x256 ...] [--repeats N] [--threads N] [--device cuda]
    python benchmarks/reconstruction.py --scene CAPTURE [--seconds 60] [--threads N] [--device cuda]

Without a scene: random Gaussians with colours of degree 3, as many as the first number of a case, on square pictures of the
second, by the compiled rasteriser, by the one that is PyTorch alone (8-pixel tiles), by one without tiles (every Gaussian at
every pixel; small cases only), and with `--device cuda` by gsplat's kernels where they are. All are timed alternately in one run,
the picture alone and with the gradients of all parameters; numbers are pictures per second of the processor's time (of the
wall's on a GPU), by the best of the repeats. The pictures' largest difference from the first one's is printed.

With a scene (a folder of posed photographs): each system learns from the training views by its default recipe for so many
seconds of the processor, which compiling and evaluation are not part of; mean PSNR of the test views on the way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import alternate
from torch import Tensor

import stzoo
from stzoo.learning import learn
from stzoo_reconstruction import projection
from stzoo_reconstruction.backends import draw
from stzoo_reconstruction.cameras import Cameras, standard_home
from stzoo_reconstruction.captures import read_capture
from stzoo_reconstruction.gaussians import GaussianSplatting
from stzoo_reconstruction.metrics import psnr
from stzoo_reconstruction.projection import Ellipses, View
from stzoo_reconstruction.rasterise_torch import LEAST

CASES = ("1000x64", "5000x128", "20000x128", "20000x256", "50000x256", "100000x512")
DENSE = 2**24
"""Pairs of a Gaussian and a pixel up to which the rasteriser without tiles is run."""
SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the seconds, after which a scene is looked at."""


# --- rasterisers ------------------------------------------------------------------------------------------------------


def dense(seen: Ellipses, colours: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """Every Gaussian at every pixel."""
    order = torch.argsort(seen.depths.detach())
    order = order[(seen.boxes[order, 2] > seen.boxes[order, 0])]
    y, x = torch.meshgrid(torch.arange(view.height) + 0.5, torch.arange(view.width) + 0.5, indexing="ij")
    dx, dy = x.flatten() - seen.centres[order, :1], y.flatten() - seen.centres[order, 1:]
    a, b, c = seen.conics[order].T[..., None]
    cover = seen.opacities[order, None] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)
    cover = cover.clamp_max(view.rules.opaque)
    cover = cover * (cover >= projection.FAINT)
    cover = cover * (torch.cumprod(1 - cover, 0) > LEAST)
    left = torch.cumprod(1 - cover, 0)
    before = torch.cat((torch.ones_like(left[:1]), left[:-1]))
    picture = (cover * before).T @ colours[order]
    return picture.unflatten(0, (view.height, view.width)), left[-1].view(view.height, view.width)


def gaussians(points: int, device: str) -> GaussianSplatting:
    torch.manual_seed(0)
    module = GaussianSplatting(points)
    with torch.no_grad():
        module.scales.add_(0.5 * torch.randn_like(module.scales) - 0.3)
        module.opacities.normal_(std=1.5)
        module.shN.normal_(std=0.1)
    return module.to(device).train()


def picture(module: GaussianSplatting, view: View, chosen: str) -> Tensor:
    if chosen == "dense":
        seen = projection.project(*module.gaussians(), view)
        return dense(seen, seen.colours, view)[0]
    return draw(module.gaussians(), view, chosen=chosen).colours


def forward(module: GaussianSplatting, view: View, chosen: str, device: str) -> Tensor:
    with torch.inference_mode():
        made = picture(module, view, chosen)
    if device == "cuda":
        torch.cuda.synchronize()
    return made


def both(module: GaussianSplatting, view: View, chosen: str, device: str) -> None:
    module.zero_grad(set_to_none=True)
    picture(module, view, chosen).sum().backward()  # type: ignore[no-untyped-call]
    if device == "cuda":
        torch.cuda.synchronize()


def rasterisers(options: argparse.Namespace) -> None:
    names = ("gsplat", "torch") if options.device == "cuda" else ("numba", "torch")
    print(f"{torch.get_num_threads()} threads; pictures per second, and with gradients")
    print(
        f"{'Gaussians':>9} {'pixels':>9}  "
        + "".join(f"{name:>20}" for name in (*names, "dense"))
        + f"{'difference':>12}"
    )
    for case in options.cases:
        points, side = (int(number) for number in case.split("x"))
        module = gaussians(points, options.device)
        camera = Cameras.from_array(standard_home(side, side)[:24])
        matrices = (
            torch.from_numpy(item[0]).to(module.means) for item in (camera.world_to_camera(), camera.matrices())
        )
        view = View(*matrices, side, side)
        shown = [*names, *(["dense"] if points * side**2 <= DENSE and options.device == "cpu" else [])]
        runs: dict[str, Callable[[], object]] = {}
        for name in shown:
            runs[name] = partial(forward, module, view, name, options.device)
            runs[f"{name} gradients"] = partial(both, module, view, name, options.device)
        seconds = alternate(runs, options.repeats)
        clock = 0 if options.device == "cuda" else 1
        rates = {name: 1 / min(times[clock] for times in found) for name, found in seconds.items()}
        pictures = [forward(module, view, name, options.device) for name in shown]
        apart = max(float((item - pictures[0]).abs().max()) for item in pictures)
        cells = [f"{rates[name]:10.1f}{rates[f'{name} gradients']:10.1f}" for name in shown]
        print(f"{points:9} {f'{side}x{side}':>9}  {''.join(cells):60}{apart:12.1e}", flush=True)


# --- learning ---------------------------------------------------------------------------------------------------------


def learning(options: argparse.Namespace) -> None:
    """PSNR of the test views after shares of the time."""
    capture = read_capture(options.scene)
    rows, tests = (
        [
            {"cameras": capture.cameras[index], "image": capture.image(index), "capture": capture}
            for index in capture.splits[name]
        ]
        for name in ("train", "test")
    )
    height, width = rows[0]["image"].shape[1:]
    print(f"{options.scene}: {len(rows)} views of {width}x{height} to learn from, {len(tests)} to test")
    print(f"{'system':20}" + "".join(f"{share * options.seconds:8.0f} s" for share in SHARES) + f"{'at the end':>15}")
    for name in ("gaussian-splatting", "nerf"):
        torch.manual_seed(0)
        warm = stzoo.create(name, device=options.device)
        for _ in learn(warm.module, warm.recipe(), rows, 2, requirements=warm.requirements):  # compiles
            pass
        steps = options.steps[name]
        made = stzoo.create(name, device=options.device)
        found: list[float] = []
        spent, start = 0.0, time.process_time()
        done = 0
        for step, _ in learn(made.module, made.recipe(), rows, steps, requirements=made.requirements):
            done, now = step, time.process_time()
            while len(found) < len(SHARES) and spent + now - start >= SHARES[len(found)] * options.seconds:
                found.append(quality(made.module, tests, options.device))
            spent, start = spent + now - start, time.process_time()
            if len(found) == len(SHARES):
                break
        last = quality(made.module, tests, options.device)
        cells = [f"{value:7.2f} dB" for value in found] + [" " * 10] * (len(SHARES) - len(found))
        print(f"{name:20}{''.join(cells)}{last:12.2f} dB after {done} steps, {spent:.0f} s", flush=True)


def quality(module: Any, tests: list[dict[str, Any]], device: str) -> float:
    """Mean PSNR of views."""
    with torch.inference_mode():
        seen = [
            module.render(torch.from_numpy(row["cameras"].array[0]).to(device)).image.cpu().numpy() for row in tests
        ]
    return float(np.mean([psnr(image, row["image"]) for image, row in zip(seen, tests, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(1500, 2500), help="of splatting and of NeRF, for the schedules"
    )
    options = parser.parse_args()
    options.steps = dict(zip(("gaussian-splatting", "nerf"), options.steps, strict=True))
    torch.set_num_threads(options.threads)
    (learning if options.scene else rasterisers)(options)


if __name__ == "__main__":
    main()
