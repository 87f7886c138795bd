"""How BayeSR learns: the variational posteriors of the precisions, every term of the loss, and the recipe.

Paper: Gao and Zhuang, TPAMI 2022, sections 3.2 (posteriors) and 3.4 (loss); the numbers are those of the official code.

Left out are the adversaries of the official unsupervised and pseudo-supervised strategies, which learn from low-resolution
pictures without their truth: this is the supervised strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, StepLR

from stzoo.errors import ConfigError
from stzoo.recipe import Stage
from stzoo_super_resolution.bayesr import BayeSR, Posterior
from stzoo_super_resolution.pipeline import to_luma
from stzoo_super_resolution.recipe import PatchRecipe


class Prior(NamedTuple):
    """Gamma priors of the precisions of x's gradient, z and n: shapes and inverse scales; and the precision of m."""

    gammax: float = 2.0
    phix: float = 1e-3
    gammaz: float = 2.0
    phiz: float = 1e-3
    gamman: float = 2.0
    phin: float = 1e-3
    sigma0: float = 1e6


def squared_gradient(x: Tensor) -> Tensor:
    """``|grad x|^2`` of (B,C,H,W): squared differences from the next pixel, to the right and below; 0 at the last."""
    across = F.pad((x[..., :-1] - x[..., 1:]) ** 2, (0, 1))
    return across + F.pad((x[..., :-1, :] - x[..., 1:, :]) ** 2, (0, 0, 0, 1))


def precisions(found: Posterior, error: Tensor, prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
    """The means of the precisions' posteriors, in closed form, without gradients: of x's gradient, of z, and of the noise.

    ``error``: ``y - A x - A z - m``, (B,C,H,W).
    """
    with torch.no_grad():
        rough = squared_gradient(found.mean_x) + 4 * found.log_var_x.exp() + 2 * prior.phix
        detail = found.mean_z**2 + found.log_var_z.exp() + 2 * prior.phiz
        noise = error**2 + 2 * prior.phin
        gammas = (prior.gammax, prior.gammaz, prior.gamman)
        one, two, three = ((2 * gamma + 1) / part for gamma, part in zip(gammas, (rough, detail, noise), strict=True))
        return one, two, three


def variational_terms(found: Posterior, error: Tensor, prior: Prior) -> dict[str, Tensor]:
    """The terms of the negative evidence bound, over the sum of the noise's precision: one scalar for y, x, m and z."""
    of_x, of_z, of_noise = precisions(found, error, prior)
    rough = squared_gradient(found.mean_x) + 4 * found.log_var_x.exp()
    terms = {
        "likelihood": error**2 * of_noise,
        "smooth": of_x * rough - found.log_var_x,
        "noise": prior.sigma0 * (found.mean_m**2 + found.log_var_m.exp()) - found.log_var_m,
        "detail": of_z * (found.mean_z**2 + found.log_var_z.exp()) - found.log_var_z,
    }
    return {name: term.sum() / of_noise.sum() for name, term in terms.items()}


class BayeSRRecipe(PatchRecipe):
    """First the downsampler, from what pictures became when they were made smaller; then, with that fixed, the networks.

    The official supervised strategy: the bound on the evidence of the small picture, and the distance of what was drawn from
    the true one. In official trainings the downsampler comes out of a run of its own. Adam (0.9, 0.999), whose rate is halved
    after each fifth of a stage.

    Args:
        lr: the highest learning rate of the networks.
        patch: height and width in pixels of the patches that the network is given.
        downsampler: share of the steps in which the downsampler learns; 0 leaves it as it is.
        downsampler_lr: the highest learning rate there.
        tau: weight of the distance: absolute differences, or squared ones at scale 1, as officially for denoising.
        gammax, phix, gammaz, phiz, gamman, phin: Gamma priors, shapes and inverse scales, of the precisions of x's gradient,
            of z and of the noise. Official are 8 for ``gamman`` where kernels are random, and 1e-5 for ``phin`` without truth.
        sigma0: precision of the prior of m.
        augment: mirror half of the patches, and turn half of them by 90 degrees.

    Raises:
        ConfigError: a value is out of range.
    """

    without_gradient = ("Generator.*",)

    def __init__(
        self,
        lr: float = 1e-4,
        patch: int = 32,
        downsampler: float = 0.1,
        downsampler_lr: float = 1e-3,
        tau: float = 1.0,
        gammax: float = 2.0,
        phix: float = 1e-3,
        gammaz: float = 2.0,
        phiz: float = 1e-3,
        gamman: float = 2.0,
        phin: float = 1e-3,
        sigma0: float = 1e6,
        augment: bool = True,
    ) -> None:
        super().__init__(lr=lr, patch=patch, augment=augment)
        self.prior = Prior(gammax, phix, gammaz, phiz, gamman, phin, sigma0)
        if not 0 <= downsampler < 1 or downsampler_lr <= 0 or tau < 0:
            raise ConfigError(
                f"downsampler must be at least 0 and below 1, its lr positive and tau at least 0, got {downsampler}, "
                f"{downsampler_lr} and {tau}"
            )
        if min(self.prior) <= 0:
            raise ConfigError(f"priors must be positive, got {self.prior}")
        self.downsampler_lr, self.tau = downsampler_lr, tau
        if downsampler:
            self.stages = (Stage("downsampler", downsampler), Stage("train", 1 - downsampler))

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """``{"downsampling"}``; then ``{"likelihood", "smooth", "noise", "detail", "distance"}``.

        Of ``batch["low"]`` (B,C,h,w) and ``batch["high"]`` (B,C,h*scale,w*scale); a network of one channel learns from luma.
        """
        network: Any = module
        low, high = batch["low"], batch["high"]
        if network.channels == 1:
            low, high = to_luma(low), to_luma(high)
        if self._downsampling(network):
            made, border = network.downsample_inside(high)
            if low.shape[-1] <= 2 * border:
                made, border = network.downsample(high), 0
            inside = (..., slice(border, low.shape[-2] - border), slice(border, low.shape[-1] - border))
            return {"downsampling": F.mse_loss(made[inside], low[inside])}
        found = network.infer(low)
        error = low - network.downsample(found.x) - found.down_z - found.m
        distance = F.mse_loss if network.scale == 1 else F.l1_loss
        drawn = (found.x + found.z).clamp(0, 1)
        return {**variational_terms(found, error, self.prior), "distance": self.tau * distance(drawn, high)}

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[torch.optim.Optimizer, LRScheduler]]:
        """Adam and its schedule; the downsampler gets gradients in its own stage alone."""
        network: Any = module
        own = self._downsampling(network)
        if network.Generator is not None:
            network.Generator.requires_grad_(own)
        rate = self.downsampler_lr if own else self.lr
        adam = torch.optim.Adam(self.groups(module, rate), lr=rate, fused=True)
        return [(adam, StepLR(adam, max(1, total_steps // 5), 0.5))]

    def _downsampling(self, network: BayeSR) -> bool:
        return self.stage == "downsampler" and network.Generator is not None
