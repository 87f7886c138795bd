"""How a clip becomes its future, to any horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stzoo import Pipeline
from stzoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class VideoPrediction(Pipeline):
    """The default steps, but forward goes on to the horizon.

    A network of this task maps a clip (B, T, C, H, W) to its next frames. One that has ``rollout(frames, horizon)`` is asked
    for the whole horizon; otherwise its output is appended to the clip and it is called again.
    """

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first frames of ``row["video"]`` are given, the next ``horizon`` are the truth."""
        clip, given = row["video"], self.requirements.frames_in or 1
        wanted = options.get("horizon") or self.requirements.frames_out or 1
        if len(clip) < given + wanted:
            raise InputError(f"a clip of {len(clip)} frames, {given} to see and {wanted} to predict are needed")
        return {"video": clip[:given]}, {"video": clip[given : given + wanted]}

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


def last_frame(inputs: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline of the task: nothing moves. The last given frame, as often as there are frames to predict."""
    return {"video": inputs["video"][-1:].repeat(len(truth["video"]), axis=0)}
