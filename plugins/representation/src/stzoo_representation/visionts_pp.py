"""VisionTS++ (Shen et al. 2025, arXiv:2508.04379): the variables of a series in one picture, and quantiles.

Each variable has a band of rows and one of the three colours. Besides the median, further heads paint the quantiles that are
10 % apart. Source: https://github.com/Keytoyze/VisionTS (MIT), https://huggingface.co/Lefei/VisionTSpp.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stzoo.errors import InputError
from stzoo_representation.mae import unpatchify
from stzoo_representation.series_images import Plan, drawn, normalised, read
from stzoo_representation.visionts import VisionTS

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9)
"""Quantiles that the further heads paint, in the order of the heads."""
BRIGHTEST = 5.0
"""Pixels are clipped to this and to its negative."""


class VisionTSpp(VisionTS):
    """A masked autoencoder with nine heads, ``decoder_pred`` for the median; arguments as :class:`VisionTS`."""

    def __init__(self, norm: float = 0.4, align: float = 0.4, interpolation: str = "bilinear", **network: Any) -> None:
        super().__init__(norm, align, interpolation, **network)
        head = self.vision_model.decoder_pred
        heads = nn.ModuleList(nn.Linear(head.in_features, head.out_features) for _ in LEVELS)
        self.vision_model.decoder_pred_quantile_list = heads

    def forward(self, x: Tensor, horizon: int, period: int = 1) -> dict[str, Tensor]:  # type: ignore[override]
        """A series (B,T,V) to the steps after it, each (B,horizon,V): ``forecast`` is the median, ``lower`` and ``upper`` are
        the quantiles at 10 % and 90 %.

        Raises InputError if T is too short for the horizon, or if there are more variables than rows of pixels.
        """
        found = self.answers(x, horizon, period)
        return {"forecast": found[0], "lower": found[1], "upper": found[-1]}

    def answers(self, x: Tensor, horizon: int, period: int = 1) -> Tensor:
        """The median, then the quantiles :data:`LEVELS`: (9,B,horizon,V)."""
        plan, variables = self.plan(x.shape[1], horizon, period), x.shape[2]
        if variables > plan.size:
            raise InputError(
                f"{variables} variables, a picture has {plan.size} rows of pixels", "Predict fewer of them at once"
            )
        scaled, mean, deviation = normalised(x, self.norm)
        known = self.decoded(self.draw(scaled, plan), plan)
        network: Any = self.vision_model
        found = []
        for head in (network.decoder_pred, *network.decoder_pred_quantile_list):
            painted = unpatchify(head(known), network.patch_size).to(x.dtype)
            future = read(bands(painted, variables), plan, self.interpolation)[..., plan.context :][..., :horizon]
            found.append(future.transpose(1, 2) * deviation + mean)
        return torch.stack(found)

    def draw(self, scaled: Tensor, plan: Plan) -> Tensor:
        """A normalised series (B,T,V) as pictures (B,3,size,size); what is left of the rows at the bottom is 0."""
        variables = scaled.shape[2]
        height = plan.size // variables
        gray = drawn(scaled.transpose(1, 2), plan, height, self.interpolation).clamp(-BRIGHTEST, BRIGHTEST)
        pictures = gray.new_zeros(len(scaled), 3, plan.size, plan.size)
        for index in range(variables):
            pictures[:, index % 3, index * height : (index + 1) * height] = gray[:, index]
        return pictures


def bands(pictures: Tensor, variables: int) -> Tensor:
    """Of pictures (B,3,H,W) the band of each variable, in its colour: (B,V,H // V,W)."""
    height = pictures.shape[2] // variables
    found = (pictures[:, index % 3, index * height : (index + 1) * height] for index in range(variables))
    return torch.stack(list(found), dim=1)
