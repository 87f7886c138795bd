"""How a clip becomes its future: every network of this task has ``rollout(frames, horizon)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stzoo import Pipeline

if TYPE_CHECKING:
    from torch import Tensor, nn


class VideoPrediction(Pipeline):
    """The default steps, but forward rolls the network out to the horizon."""

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["video"]`` (B, T, C, H, W) to the next ``horizon`` frames; None is what the network was trained for."""
        horizon = options["horizon"] or self.requirements.frames_out
        return {"video": module.rollout(batch["video"], horizon)}  # type: ignore[operator]
