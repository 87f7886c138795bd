"""VisionTS (Chen et al. 2024, arXiv:2408.17253): a masked autoencoder completes the picture of a series.

A series is cut into periods that become the columns of a picture; its right part, the future, is masked. What the network
paints there is resized back and read column by column. Source: https://github.com/Keytoyze/VisionTS (MIT).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError
from stzoo_representation.mae import MaskedAutoencoder, masking, unpatchify
from stzoo_representation.series_images import INTERPOLATIONS, Plan, drawn, normalised, read


class VisionTS(nn.Module):
    """A masked autoencoder, ``vision_model``, that forecasts; each variable is a picture of its own.

    Args:
        norm: what a series' standard deviation becomes in the units of the network's pixels (the paper's r, 0.4).
        align: how much of its share the visible part takes (the paper's c, 0.4).
        interpolation: "bilinear", "nearest" or "bicubic".
        network: of :class:`stzoo_representation.mae.MaskedAutoencoder`.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(self, norm: float = 0.4, align: float = 0.4, interpolation: str = "bilinear", **network: Any) -> None:
        super().__init__()
        if norm <= 0 or not 0 < align <= 1 or interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f"norm must be positive, align above 0 and at most 1, interpolation one of {', '.join(INTERPOLATIONS)}, "
                f"got {norm:g}, {align:g} and {interpolation!r}"
            )
        self.norm, self.align, self.interpolation = norm, align, interpolation
        self.vision_model = MaskedAutoencoder(**network)

    @property
    def requirements(self) -> Requirements:
        """Any series will do; how long it has to be follows from horizon and period."""
        return Requirements()

    def plan(self, context: int, horizon: int, period: int) -> Plan:
        """Where things are in the picture. Raises InputError."""
        size = (self.vision_model.requirements.native_size or (0,))[0]
        return Plan.of(context, horizon, period, size, self.vision_model.patch_size, self.align)

    def forward(self, x: Tensor, horizon: int, period: int = 1) -> Tensor:
        """A series (B,T,V), of any floating type, to the steps after it, (B,horizon,V) of the same type.

        Raises InputError if T is too short for the horizon.
        """
        plan = self.plan(x.shape[1], horizon, period)
        scaled, mean, deviation = normalised(x, self.norm)
        painted = self.paint(self.draw(scaled, plan), plan).mean(1)
        found = read(painted.view(len(x), -1, plan.size, plan.size).to(x.dtype), plan, self.interpolation)
        future = found[..., plan.context : plan.context + horizon]
        return future.transpose(1, 2) * deviation + mean

    def draw(self, scaled: Tensor, plan: Plan) -> Tensor:
        """A normalised series (B,T,V) as grey pictures (B*V,3,size,size), zeros where the future is."""
        gray = drawn(scaled.transpose(1, 2), plan, plan.size, self.interpolation)
        return gray.flatten(0, 1)[:, None].expand(-1, 3, -1, -1)

    def paint(self, pictures: Tensor, plan: Plan) -> Tensor:
        """Pictures (N,3,size,size) as the network paints all of them, from the plan's visible patches."""
        return unpatchify(self.vision_model.decoder_pred(self.decoded(pictures, plan)), self.vision_model.patch_size)

    def decoded(self, pictures: Tensor, plan: Plan) -> Tensor:
        """What the decoder knows of each patch of such pictures, (N,patches,D)."""
        network = self.vision_model
        noise = plan.hidden(pictures.device).expand(len(pictures), -1)
        kept, restore, _ = masking(noise, plan.known * (plan.size // plan.patch))
        return network.decoded(network.encode(pictures.to(network.cls_token.dtype), kept), restore)
