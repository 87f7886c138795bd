"""How a clip becomes its future, to any horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stzoo import Pipeline

if TYPE_CHECKING:
    from torch import Tensor, nn


class VideoPrediction(Pipeline):
    """The default steps, but forward goes on to the horizon.

    A network of this task maps a clip (B, T, C, H, W) to its next frames. One that has ``rollout(frames, horizon)`` is asked
    for the whole horizon; otherwise its output is appended to the clip and it is called again.
    """

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """``batch["video"]`` (B, T, C, H, W) to the next ``horizon`` frames; None is what the network was trained for."""
        import torch

        clip, horizon = batch["video"], options["horizon"] or self.requirements.frames_out
        if horizon and hasattr(module, "rollout"):
            return {"video": module.rollout(clip, horizon)}  # type: ignore[operator]
        predicted = module(clip)
        while horizon and predicted.shape[1] < horizon:
            latest = torch.cat((clip, predicted), dim=1)[:, -clip.shape[1] :]
            predicted = torch.cat((predicted, module(latest)), dim=1)
        return {"video": predicted[:, :horizon]}
