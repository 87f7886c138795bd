"""A series as a picture, and back (VisionTS, arXiv:2408.17253, section 3): periods side by side as columns, phases as rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stzoo.errors import InputError

INTERPOLATIONS = ("bilinear", "nearest", "bicubic")


@dataclass(frozen=True)
class Plan:
    """Where things are in a square picture: what is known on the left, what is to be completed on the right."""

    context: int
    """Steps that are known."""
    horizon: int
    """Steps to predict."""
    period: int
    size: int
    """Height and width of the picture, in pixels."""
    patch: int
    """Height and width of a patch."""
    known: int
    """Columns of patches that are visible."""

    @classmethod
    def of(cls, context: int, horizon: int, period: int, size: int, patch: int, align: float = 0.4) -> Plan:
        """The published rule: the visible part is ``align`` times its share in time, rounded down, at least one column.

        Raises InputError if the columns that are completed do not reach the horizon.
        """
        for name, value in (("context", context), ("horizon", horizon), ("period", period)):
            if value < 1:
                raise InputError(f"the {name} must be at least 1, got {value}")
        patches = size // patch
        before, after = (-(-steps // period) for steps in (context, horizon))
        plan = cls(context, horizon, period, size, patch, max(1, int(before / (before + after) * patches * align)))
        if plan.reach < horizon:
            raise InputError(
                f"{context} steps are too few to predict {horizon}: at a period of {period}, {plan.reach} can be predicted",
                "Give a longer series, a shorter horizon, or a longer period",
            )
        return plan

    @property
    def padding(self) -> int:
        """Steps that the first value is repeated for, so that the context is made of whole periods."""
        return -self.context % self.period

    @property
    def columns(self) -> int:
        """Pixels that the visible part is wide."""
        return self.known * self.patch

    @property
    def periods(self) -> int:
        """Periods that the whole picture shows."""
        return round(self.size * ((self.context + self.padding) // self.period / self.columns))

    @property
    def reach(self) -> int:
        """How many steps after the context the picture shows."""
        return self.periods * self.period - self.padding - self.context

    def hidden(self, device: torch.device | None = None) -> Tensor:
        """Which patches are to be completed, in rows: 1.0 or 0.0, (patches)."""
        count = self.size // self.patch
        return (torch.arange(count, device=device) >= self.known).float().repeat(count)


def normalised(x: Tensor, norm: float = 0.4) -> tuple[Tensor, Tensor, Tensor]:
    """A series (B,T,V) less its mean over time and divided by its standard deviation over ``norm``; both of them (B,1,V)."""
    mean = x.mean(1, keepdim=True)
    deviation = torch.sqrt((x - mean).var(1, keepdim=True, unbiased=False) + 1e-5) / norm
    return (x - mean) / deviation, mean, deviation


def folded(x: Tensor, plan: Plan) -> Tensor:
    """A series (B,V,T) to periods side by side, (B,V,period,periods), the first value repeated in front of it."""
    whole = F.pad(x, (plan.padding, 0), mode="replicate")
    return whole.reshape(*whole.shape[:-1], -1, plan.period).transpose(-1, -2)


def drawn(x: Tensor, plan: Plan, height: int, interpolation: str = "bilinear") -> Tensor:
    """A normalised series (B,V,T) to pictures (B,V,height,size): the periods resized, zeros where they are to be completed."""
    return F.pad(resized(folded(x, plan), (height, plan.columns), interpolation), (0, plan.size - plan.columns))


def read(pictures: Tensor, plan: Plan, interpolation: str = "bilinear") -> Tensor:
    """Pictures (B,V,h,size) to the series (B,V,T) that they show from the context's start on."""
    series = resized(pictures, (plan.period, plan.periods), interpolation).transpose(-1, -2).flatten(-2)
    return series[..., plan.padding :]


def resized(pictures: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Pictures (B,C,h,w) at another height and width, as published: not antialiased."""
    corners = None if interpolation == "nearest" else False
    return F.interpolate(pictures, size, mode=interpolation, align_corners=corners)
