"""Eigen's network: seconds of a prediction and of training steps, beside the same network of PyTorch's layers, in one run.

    python benchmarks/depth.py [--size 228 304] [--small] [--batch N] [--repeats N] [--threads N] [--device cuda] [--channels-last]

The peer is a plain restatement: nn.Conv2d, nn.MaxPool2d, nn.LocalResponseNorm, nn.Linear, with the same weights; outputs are
compared first. A training step is the loss, its gradient and one of SGD: of the coarse network, and of the fine one with the
coarse network frozen. Each number is the best of the repeats. --small: the widths of the model eigen-kitchen.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo_depth.eigen import CENTRE, FINE_MEAN, FINE_STD, Eigen2014
from stzoo_depth.recipe import EigenRecipe, scale_invariant_loss

KITCHEN: dict[str, Any] = {"widths": (48, 128, 192, 192, 128), "hidden": 512}


class Plain(nn.Module):
    """The network of PyTorch's own layers."""

    def __init__(self, ours: Eigen2014) -> None:
        super().__init__()
        convs = [getattr(ours, f"imnet_conv{index}") for index in range(1, 6)]
        shapes = [conv.W.shape for conv in convs]
        one, two, three, four, five = (
            nn.Conv2d(shape[1], shape[0], shape[2], 4 if place == 0 else 1, 2 if place == 0 else shape[2] // 2)
            for place, shape in enumerate(shapes)
        )
        for conv, layer in zip(convs, (one, two, three, four, five), strict=True):
            layer.load_state_dict({"weight": conv.W, "bias": conv.b})
        norm, pool = nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0), nn.MaxPool2d(3, 2)
        self.coarse_features = nn.Sequential(
            *(one, pool, nn.ReLU(), norm, two, pool, nn.ReLU(), norm),
            *(three, nn.ReLU(), four, nn.ReLU(), five, pool, nn.ReLU(), nn.Flatten()),
        )
        self.full1, self.full2 = (nn.Linear(*layer.W.shape) for layer in (ours.full1, ours.full2))
        for layer, full in ((self.full1, ours.full1), (self.full2, ours.full2)):
            layer.load_state_dict({"weight": full.W.t(), "bias": full.bias})
        fine = ours.conv_s2_1.W.shape[0]
        self.fine1 = nn.Conv2d(3, fine, 9, 2, 1)
        self.fine2 = nn.Conv2d(fine, fine, 5, 1, 2)
        self.fine3 = nn.ConvTranspose2d(fine, 1, 5, 1, 2)
        for layer, unit in ((self.fine1, ours.conv_s2_1), (self.fine2, ours.conv_s2_2), (self.fine3, ours.conv_s2_3)):
            layer.load_state_dict({"weight": unit.W, "bias": unit.b})
        self.output = ours.output

    def coarse(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.full1(0.01 * self.coarse_features(x - CENTRE)))
        hidden = hidden * (torch.rand_like(hidden) < 0.5).float() if self.training else 0.5 * hidden
        found: Tensor = self.full2(hidden).view(-1, 1, *self.output)
        return found

    def refined(self, x: Tensor, coarse: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.fine1((x - FINE_MEAN) / FINE_STD)), 3, 2)
        found: Tensor = self.fine3(F.relu(self.fine2(torch.cat((coarse, x[:, 1:]), 1))))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.refined(x, self.coarse(x))


def best(function: Callable[[], Any], repeats: int, device: str) -> float:
    """Seconds of the fastest call, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def plain_step(network: Plain, batch: dict[str, Tensor], ours: Eigen2014, stage: str) -> Tensor:
    """The loss as a plain script has it."""
    x, true = 255 * batch["image"], ours.targets(batch["depth"])
    valid = torch.isfinite(true)
    logarithms = torch.where(valid, true, 1).log() / ours.log_std
    if stage == "coarse":
        return scale_invariant_loss(network.coarse(x)[:, 0], logarithms, valid)
    with torch.no_grad():
        coarse = network.coarse(x)
    return scale_invariant_loss(network.refined(x, coarse)[:, 0], logarithms, valid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(228, 304))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = (options.size[0], options.size[1])
    ours = Eigen2014(frame=size, size=size, **(KITCHEN if options.small else {})).to(options.device)
    plain = Plain(ours).to(options.device)
    image = torch.rand(options.batch, 3, *size, device=options.device)
    if options.channels_last:
        for network in (ours, plain):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.contiguous(memory_format=torch.channels_last)
    batch = {"image": image, "depth": 1 + 4 * torch.rand(options.batch, *size, device=options.device)}
    recipe = EigenRecipe()
    with torch.inference_mode():
        one, two = (network.eval()(255 * image) for network in (ours, plain))
    print(
        f"{sum(item.numel() for item in ours.parameters()) / 1e6:.2f} million parameters, {size[1]}x{size[0]}, batch {options.batch}"
    )
    print(f"largest difference of the outputs: {(one - two).abs().max().item():.2g}, of {two.abs().max().item():.2g}")
    print(f"{'':12}{'here':>10}{'plain':>10}  seconds")

    def predicting(network: nn.Module) -> Callable[[], Any]:
        def run() -> None:
            with torch.inference_mode():
                network(255 * image)

        return run

    found = [best(predicting(network), options.repeats, options.device) for network in (ours, plain)]
    print(f"{'prediction':12}{found[0]:10.4f}{found[1]:10.4f}")
    for stage in ("coarse", "fine"):
        recipe.stage = stage
        [(optimizer, _)] = recipe.optimizers(ours.train(), 100)
        chosen = [
            item for name, item in plain.train().named_parameters() if name.startswith("fine") == (stage == "fine")
        ]
        other = torch.optim.SGD(chosen, 1e-3, momentum=0.9, weight_decay=1e-4)

        def ours_step(optimizer: Any = optimizer) -> None:
            sum(recipe.losses(ours, batch, 0).values()).backward()  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()

        def other_step(optimizer: Any = other, stage: str = stage) -> None:
            plain_step(plain, batch, ours, stage).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

        found = [best(step, options.repeats, options.device) for step in (ours_step, other_step)]
        print(f"{f'{stage} step':12}{found[0]:10.4f}{found[1]:10.4f}")


if __name__ == "__main__":
    main()
