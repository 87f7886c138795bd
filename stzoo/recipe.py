"""How an architecture learns. A recipe owns the science; whatever loop runs it owns the machinery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class Recipe:
    """Base class of recipes; subclass it, set the hyper-parameters in ``__init__``."""

    without_gradient: tuple[str, ...] = ()
    """Names (with ``*`` for anything) of trainable parameters that the losses rightly leave alone."""

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Named scalar losses of one batch; their sum is what is minimised.

        ``batch`` holds the task's training tensors, batch dimension first; ``step`` counts optimizer steps from 0.
        """
        raise TypeError(f"{type(self).__name__} must define losses()")

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Optimizers with their schedules; every schedule is stepped once per optimizer step."""
        raise TypeError(f"{type(self).__name__} must define optimizers()")

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """A tiny deterministic batch as :meth:`losses` takes it: the conformance kit trains a few steps on it."""
        raise TypeError(f"{type(self).__name__} must define sample_batch()")
