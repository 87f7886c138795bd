"""How the number of Gaussians follows the scene: clone, split, prune, reset opacity (Kerbl 2023, section 5.2).

Parameters change their sizes in place, by ``parameter.data``, and so does what the optimizer keeps for them: Gaussians that
stay keep their moments, new ones start with none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stzoo_reconstruction.projection import rotations

SHRINK = 1.6
"""The parts of a split Gaussian are this many times smaller."""


def grow(
    module: nn.Module, optimizer: Optimizer, chosen: Tensor, size: float, noise: Tensor | None = None
) -> tuple[int, int]:
    """Clone the chosen Gaussians that are small, and split those that are large in two; how many of each.

    A clone stays where its original is. The parts of a Gaussian that is split lie where its own normal distribution puts
    them, and take its place. Afterwards come, in this order: those not split, clones, first parts, second parts.

    Args:
        module: has ``means`` (N,3), ``scales`` (N,3; logarithms), ``quats`` (N,4; w, x, y, z) and whatever else has N rows.
        chosen: (N,), which of them grow.
        size: the largest standard deviation, in units of the world, of what counts as small.
        noise: (2,S,3), standard normal, for the S that are split; default: drawn from torch's generator.
    """
    network: Any = module
    scales = network.scales.detach()
    small = scales.amax(1).exp() <= size
    clones, split = chosen & small, chosen & ~small
    every = torch.arange(len(chosen), device=chosen.device)
    stay, parts = every[~split], every[split].repeat(2)
    parents = torch.cat((stay, every[clones], parts))
    count = len(parts) // 2
    if noise is None:
        noise = torch.randn(2, count, 3, device=scales.device)
    axes = rotations(network.quats.detach()[split])
    offsets = torch.einsum("nij,pnj->pni", axes, noise * scales[split].exp()).flatten(0, 1)
    resize(module, optimizer, parents, fresh=len(parents) - len(stay))
    if count:
        network.means.data[-2 * count :] += offsets
        network.scales.data[-2 * count :] -= math.log(SHRINK)
    return int(clones.sum()), count


def prune(module: nn.Module, optimizer: Optimizer, keep: Tensor) -> None:
    """Remove the Gaussians that are not in ``keep`` (N,)."""
    resize(module, optimizer, keep.nonzero()[:, 0])


def reset_opacity(module: nn.Module, optimizer: Optimizer, largest: float = 0.01) -> None:
    """Make no Gaussian more opaque than ``largest``; the optimizer forgets what it knew of opacities."""
    opacities: Any = module.opacities
    opacities.data = opacities.data.clamp(max=math.log(largest / (1 - largest)))
    for moment in _moments(optimizer, opacities).values():
        moment.zero_()


def resize(module: nn.Module, optimizer: Optimizer, parents: Tensor, fresh: int = 0) -> None:
    """Let every parameter and every moment consist of these rows of what it was; the last ``fresh`` get moments of zero."""
    for parameter in module.parameters():
        parameter.data, parameter.grad = parameter.data[parents], None
        for name, moment in _moments(optimizer, parameter).items():
            optimizer.state[parameter][name] = moment = moment[parents]
            moment[len(parents) - fresh :] = 0


def _moments(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimizer keeps for each number of a parameter, not its count of steps; empty before the first step."""
    state = optimizer.state.get(parameter, {})
    return {name: value for name, value in state.items() if torch.is_tensor(value) and value.ndim}
