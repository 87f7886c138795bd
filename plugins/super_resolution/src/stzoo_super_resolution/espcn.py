"""ESPCN: the efficient sub-pixel convolutional neural network.

Paper: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network",
CVPR 2016 (arXiv:1609.05158). There are no official weights; names are those of https://github.com/yjn870/ESPCN-pytorch.

Two convolutions at the low resolution, and one that gives each pixel's square of new pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError
from stzoo_super_resolution.recipe import PatchRecipe

if TYPE_CHECKING:
    from stzoo.requirements import Requirements


class ESPCN(nn.Module):
    """Convolutions 5x5, 3x3 and 3x3 with an activation in between, then a pixel shuffle.

    Args:
        scale: how many times the picture is enlarged.
        filters: channels of the two inner layers.
        channels: of the picture: 1 for the luma, 3 for RGB.
        activation: "tanh" (the paper) or "relu".

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self, scale: int = 3, filters: tuple[int, int] = (64, 32), channels: int = 1, activation: str = "tanh"
    ) -> None:
        for wrong, problem in (
            (scale < 1, f"scale must be at least 1, got {scale}"),
            (min(filters) < 1, f"filters must be at least 1, got {filters}"),
            (channels not in (1, 3), f"channels must be 1 or 3, got {channels}"),
            (activation not in ("tanh", "relu"), f"activation must be tanh or relu, got {activation!r}"),
        ):
            if wrong:
                raise ConfigError(problem)
        super().__init__()
        self.scale, self.channels = scale, channels
        activated = nn.Tanh if activation == "tanh" else nn.ReLU
        first, second = filters
        self.first_part = nn.Sequential(
            nn.Conv2d(channels, first, 5, padding=2), activated(), nn.Conv2d(first, second, 3, padding=1), activated()
        )
        last = nn.Conv2d(second, channels * scale**2, 3, padding=1)
        # Near nothing: larger ones start with chequered pictures.
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.last_part = nn.Sequential(last, nn.PixelShuffle(scale))

    @property
    def requirements(self) -> Requirements:
        """How many times the picture is enlarged; any size will do."""
        from stzoo.requirements import Requirements

        return Requirements(scale=self.scale, reach=4)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge a picture.

        Args:
            x: (B,channels,H,W), values in [0,1].

        Returns:
            (B,channels,H*scale,W*scale), not clipped.

        Raises:
            InputError: the channels do not fit.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InputError(f"expected (batch, {self.channels} channels, height, width), got {tuple(x.shape)}")
        return self.last_part(self.first_part(x))  # type: ignore[no-any-return]


# --- how it learns ----------------------------------------------------------------------------------------------------


class ESPCNRecipe(PatchRecipe):
    """The paper's squared error on the luma of 17x17 patches; Adam.

    Arguments as those of :class:`PatchRecipe`, and ``last``, a factor of the last layer's learning rate: 0.1 in the paper.
    """

    def __init__(
        self,
        lr: float = 5e-4,
        patch: int = 17,
        loss: str = "mse",
        optimizer: str = "adam",
        schedule: str = "cosine",
        warmup: float = 0.0,
        margin: int = 0,
        noise: float = 0.0,
        augment: bool = True,
        last: float = 1.0,
    ) -> None:
        super().__init__(lr, patch, loss, optimizer, schedule, warmup, margin, noise, augment)
        self.layers = {"last_part.*": last}


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class TorchESPCN:
    """State dicts of yjn870/ESPCN-pytorch: ``first_part.0``, ``first_part.2``, ``last_part.0``."""

    name = "pytorch-espcn"
    description = "PyTorch ESPCN with first_part and last_part (yjn870/ESPCN-pytorch)"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture."""
        names = ("first_part.0", "first_part.2", "last_part.0")
        if {f"{name}.{kind}" for name in names for kind in ("weight", "bias")} != state.keys():
            return None
        first, second, last = (state[f"{name}.weight"] for name in names)
        if [tuple(weight.shape[2:]) for weight in (first, second, last)] != [(5, 5), (3, 3), (3, 3)]:
            return None
        scale = math.isqrt(last.shape[0] // first.shape[1])
        if scale**2 * first.shape[1] != last.shape[0]:
            return None
        return {
            "scale": scale,
            "filters": (first.shape[0], second.shape[0]),
            "channels": first.shape[1],
            "activation": "tanh",
        }

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The tensors as they are."""
        return dict(state)

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        return ("activation: tanh is assumed, as in the paper.",)
