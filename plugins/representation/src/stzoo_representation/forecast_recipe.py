"""How VisionTS learns: the layer norms alone, on windows of series, by the squared error over the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, InputError
from stzoo.recipe import lr_schedule
from stzoo_representation.periods import period_of

if TYPE_CHECKING:
    from torch.optim import Optimizer

PARTS = {"norm": "norm", "bias": "bias", "mlp": ".mlp.", "attn": ".attn.", "all": ""}
"""What may be trained: parameters with this in their names (the official ``finetune_type``)."""


class VisionTSRecipe(Recipe):
    """The mean squared error of the forecast (VisionTS), or the pinball loss of all quantiles (VisionTS++).

    Examples with a forecast of their own are used as they are; of others, a window is drawn. Errors are of the values as
    they come, so variables should be on one scale, as standardised data sets have them.

    Args:
        lr: the learning rate of Adam (1e-4 as published).
        parts: which parameters are trained: "norm" (as published), "bias", "mlp", "attn" or "all".
        schedule: "constant" (as published), or "cosine", to nothing.
        horizon: steps after a window that are to be predicted.
        context: steps of a window; 0: all that come before the horizon.
        period: in steps; 0: what the times of the series say.

    Raises:
        ConfigError: a value is none of these, or out of range.
    """

    def __init__(
        self,
        lr: float = 1e-4,
        parts: str = "norm",
        schedule: str = "constant",
        horizon: int = 96,
        context: int = 0,
        period: int = 0,
    ) -> None:
        if parts not in PARTS or schedule not in ("constant", "cosine"):
            raise ConfigError(
                f"parts must be one of {', '.join(PARTS)}, schedule 'constant' or 'cosine', got {parts!r} and {schedule!r}"
            )
        if lr <= 0 or horizon < 1 or context < 0 or period < 0:
            raise ConfigError(
                "lr must be positive, horizon at least 1, context and period at least 0, "
                f"got {lr:g}, {horizon}, {context} and {period}"
            )
        self.lr, self.parts, self.schedule = lr, parts, schedule
        self.horizon, self.context, self.period = horizon, context, period

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``{"past": float32 (T,V), "future": float32 (horizon,V), "period": int64 ()}``. Raises InputError."""
        past, future = item["series"], item.get("forecast")
        if future is None:
            steps = (self.context or len(past) - self.horizon) + self.horizon
            if len(past) < steps or steps <= self.horizon:
                raise InputError(
                    f"a series of {len(past)} steps is too short for {self.context or 1} and {self.horizon} after them",
                    "Set recipe.context or recipe.horizon, or leave it out",
                )
            first = int(rng.integers(len(past) - steps + 1))
            window = past[first : first + steps]
            past, future = window[: -self.horizon], window[-self.horizon :]
        period = np.array(period_of(past, self.period))
        return {"past": past.values.astype("f4"), "future": future.values.astype("f4"), "period": period}

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The loss of a batch; windows of one period go through the network together."""
        network: Any = module
        past, future = batch["past"], batch["future"]
        total = past.new_zeros(())
        for period in sorted(set(batch["period"].tolist())):
            chosen = batch["period"] == period
            if hasattr(network, "answers"):
                errors = pinball(network.answers(past[chosen], future.shape[1], period), future[chosen])
            else:
                errors = (network(past[chosen], future.shape[1], period) - future[chosen]).square()
            total = total + errors.mean() * chosen.float().mean()
        return {"pinball" if hasattr(network, "answers") else "mse": total}

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Adam; parameters that are not to be trained are frozen."""
        for name, parameter in module.named_parameters():
            if PARTS[self.parts] not in name:
                parameter.requires_grad_(False)
        optimizer = torch.optim.Adam(self.groups(module, self.lr))
        return [(optimizer, LambdaLR(optimizer, lr_schedule(self.schedule, total_steps)))]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two windows of two daily curves."""
        hours = torch.arange(120.0)[:, None]
        curves = torch.sin(hours * torch.pi / 12 + torch.tensor([0.0, 1.0])) + 0.01 * hours
        windows = torch.stack([curves, curves.flip(1) * 2])
        return {"past": windows[:, :96], "future": windows[:, 96:], "period": torch.full((2,), 24)}


def pinball(answers: Tensor, future: Tensor) -> Tensor:
    """The quantile losses of (9,B,T,V), the median first, against the truth (B,T,V)."""
    from stzoo_representation.visionts_pp import LEVELS

    levels = torch.tensor((0.5, *LEVELS), device=future.device).view(-1, 1, 1, 1)
    apart = future - answers
    return torch.maximum(levels * apart, (levels - 1) * apart)
