"""How PhyDNet learns: every step's error, teacher forcing, and the moments that hold PhyCell's filters to derivatives (K2M).

Paper, official codes and licences: see `phydnet`.

OpenSTL's training has a known bug, which made its published weights: its network returns the loss, and its method then
minimises the squared difference between that number and the target frames. Here the loss itself is minimised.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from stzoo.errors import ConfigError
from stzoo_video_prediction.recipe import VideoPredictionRecipe

# --- moments ----------------------------------------------------------------------------------------------------------


@functools.cache
def moment_matrix(size: int) -> Tensor:
    """(size,size), float64: row i holds the i-th power of the distances from the centre, over i!."""
    offsets, orders = torch.arange(size) - (size - 1) // 2, torch.arange(size)
    return offsets.double() ** orders[:, None] / torch.lgamma(orders[:, None] + 1.0).double().exp().round()


def kernel_to_moments(kernel: Tensor) -> Tensor:
    """K2M (paper, section 3.2.1): convolution kernels (...,h,w) to their moments (...,h,w), in float64.

    The moment (i,j) is the sum of kernel[u,v] (u-u0)^i (v-v0)^j / (i! j!): the weight that the filter gives to the partial
    derivative of order i down and j across.
    """
    down, across = (moment_matrix(size).to(kernel.device) for size in kernel.shape[-2:])
    return down @ kernel.double() @ across.mT


def moment_loss(weight: Tensor) -> Tensor:
    """How far PhyCell's filters (k^2,dim,k,k) are from partial derivatives: filter n = k i + j ought to be the one of order (i,j).

    Per input channel the mean squared error of the moments, which ought to be 1 at (i,j) and 0 elsewhere; summed over the
    channels. A scalar in the dtype of the weight.
    """
    size = weight.shape[-1]
    wanted = torch.eye(size**2, dtype=weight.dtype, device=weight.device).view(-1, 1, size, size)
    difference = kernel_to_moments(weight).to(weight.dtype) - wanted
    return difference.square().sum() / size**4


# --- recipe -----------------------------------------------------------------------------------------------------------


class PhyDNetRecipe(VideoPredictionRecipe):
    """Mean squared errors of every step, reconstructed or predicted, summed over the steps, plus the moment loss.

    With teacher forcing the network is fed the true frames instead of its own predictions. It is drawn for a whole batch, with
    a probability that falls linearly from 1 to 0.

    The original training (2001 epochs) is ``lr=1e-3, schedule="constant", forcing=1/6``; it also divided the rate by 10
    when the test error did not fall for 20 epochs, which no schedule that is stepped without an error can do.

    Args:
        lr, schedule, warmup, crop, flip: as in `VideoPredictionRecipe`.
        forcing: the share of the steps after which teacher forcing has ended; 0: none. Officially the probability falls by
            0.003 in each epoch, so the share is 333 over the number of epochs, and may be above 1.
        moments: weight of the moment loss, at least 0.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        schedule: str = "onecycle",
        warmup: float = 0.0,
        crop: int = 0,
        flip: bool = False,
        forcing: float = 1 / 6,
        moments: float = 1.0,
    ) -> None:
        super().__init__(lr, schedule, warmup, crop, flip)
        if forcing < 0 or moments < 0:
            raise ConfigError(f"forcing and moments must be at least 0, got {forcing} and {moments}")
        self.forcing, self.moments = forcing, moments
        self.forced_steps = 0.0

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """As for every recipe of video prediction; the end of teacher forcing follows from the number of steps."""
        self.forced_steps = self.forcing * total_steps
        return super().optimizers(module, total_steps)

    def forcing_at(self, step: int) -> float:
        """Probability of teacher forcing; 0 before `optimizers` was called."""
        return max(0.0, 1.0 - step / self.forced_steps) if self.forced_steps else 0.0

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"mse", "moments"}`` of ``batch["frames"]`` (B,T,C,H,W) and ``batch["target"]`` (B,T_out,C,H,W)."""
        frames, target = batch["frames"], batch["target"]
        forced = float(torch.rand(())) < self.forcing_at(
            step
        )  # the loop seeds each step, so a resumed run draws the same
        outputs = module.unroll(frames, target.shape[1], target if forced else None)  # type: ignore[operator]
        expected = torch.cat((frames[:, 1:], target), dim=1)
        filters = [cell.F.conv1.weight for cell in module.phycell.cell_list]  # type: ignore[union-attr]
        return {
            "mse": outputs.shape[1] * F.mse_loss(outputs, expected),
            "moments": self.moments * torch.stack([moment_loss(weight) for weight in filters]).sum(),
        }
