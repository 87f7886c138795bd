"""TAU: temporal attention unit.

Paper: Tan et al., "Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning", CVPR 2023
(arXiv:2206.12126).
Official code: https://github.com/chengtan9907/OpenSTL (Apache-2.0), whose state-dict keys, configuration
names and numerics are kept here.

SimVP with another translator: attention over space (static) and over channels, that is time (dynamic).
Its loss adds the divergence between the differences of successive frames, predicted and true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stzoo.errors import ConfigError
from stzoo_video_prediction.openstl import OpenSTLFormat, openstl_config, openstl_translator
from stzoo_video_prediction.recipe import VideoPredictionRecipe
from stzoo_video_prediction.simvp import MNIST, SMALL, Attention, DilatedDepthwise, SimVP

# --- network ----------------------------------------------------------------------------------------------------------


class TemporalAttentionUnit(nn.Module):
    """Static attention (large depthwise kernels) times dynamic attention (squeeze-excitation) times the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = DilatedDepthwise(dim)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        hidden = dim // max(dim // 16, 4)
        self.fc = nn.Sequential(
            nn.Linear(dim, hidden, bias=False),
            nn.ReLU(),
            nn.Linear(hidden, dim, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        static = self.conv1(self.conv_spatial(self.conv0(x)))
        dynamic = self.fc(x.mean(dim=(2, 3)))
        return dynamic[:, :, None, None] * static * x


def tau_attention(dim: int) -> nn.Module:
    """Unlike gSTA's, the official TAU attention keeps PyTorch's default initialisation."""
    return Attention(dim, TemporalAttentionUnit)


class TAU(SimVP):
    """TAU: frames in, the same number of following frames out.

    Arguments, methods and errors are those of `SimVP`, without `model_type`.
    """

    attentions: ClassVar[dict[str, Callable[[int], nn.Module]]] = {"tau": tau_attention}

    def __init__(
        self,
        in_shape: tuple[int, int, int, int] = (10, 1, 64, 64),
        hid_S: int = 16,
        hid_T: int = 256,
        N_S: int = 4,
        N_T: int = 4,
        mlp_ratio: float = 8.0,
        drop: float = 0.0,
        drop_path: float = 0.0,
        spatio_kernel_enc: int = 3,
        spatio_kernel_dec: int = 3,
    ) -> None:
        super().__init__(
            in_shape,
            hid_S,
            hid_T,
            N_S,
            N_T,
            "tau",
            mlp_ratio,
            drop,
            drop_path,
            spatio_kernel_enc,
            spatio_kernel_dec,
        )


# --- recipe -----------------------------------------------------------------------------------------------------------


def tau_regulariser(prediction: Tensor, target: Tensor, tau: float = 0.1, eps: float = 1e-12) -> Tensor:
    """Differential divergence regularisation (paper, section 3.4), as the official code computes it.

    Args:
        prediction, target: (B,T,C,H,W).
        tau: temperature of the softmax over the C*H*W differences of successive frames.
        eps: keeps divisor and logarithm off zero.

    Returns:
        A scalar: the divergence averaged over batch, time and pixels; 0 for T <= 2.
    """
    if prediction.shape[1] <= 2:
        return prediction.new_zeros(())
    p = torch.softmax(prediction.diff(dim=1).flatten(2) / tau, dim=-1)
    q = torch.softmax(target.diff(dim=1).flatten(2) / tau, dim=-1)
    return (p * torch.log(p / (q + eps) + eps)).mean()


class TAURecipe(VideoPredictionRecipe):
    """Mean squared error plus `alpha` times the differential divergence (paper, section 3.4).

    Args:
        alpha: weight of the divergence, at least 0.
        lr, schedule, warmup, crop, flip, mae, brightness: as in `VideoPredictionRecipe`.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        schedule: str = "onecycle",
        warmup: float = 0.0,
        crop: int = 0,
        flip: bool = False,
        alpha: float = 0.1,
        mae: float = 0.0,
        brightness: float = 0.0,
    ) -> None:
        super().__init__(lr, schedule, warmup, crop, flip, mae, brightness)
        if alpha < 0:
            raise ConfigError(f"alpha must be at least 0, got {alpha}")
        self.alpha = alpha

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """The errors of `VideoPredictionRecipe`, and ``"divergence"``, of ``batch["frames"]`` (B,T,C,H,W) against
        ``batch["target"]`` (B,T_out,C,H,W)."""
        prediction, target = self.predict(module, batch), batch["target"]
        return self.errors(prediction, target) | {"divergence": self.alpha * tau_regulariser(prediction, target)}


# --- foreign checkpoints ----------------------------------------------------------------------------------------------


class OpenSTLTAU(OpenSTLFormat):
    """SimVP with the TAU translator."""

    name = "openstl-tau"
    description = "OpenSTL SimVP_Model with model_type tau"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The full configuration; None if the state dict is of another architecture.

        Raises:
            FormatError: it is TAU's, but incomplete or modified.
        """
        return openstl_config(state, TAU, "tau") if openstl_translator(state) == "tau" else None


# --- published configurations -----------------------------------------------------------------------------------------

_KTH = {"hid_S": 64, "hid_T": 256, "N_S": 2, "N_T": 6, "drop_path": 0.1}
_HUMAN = MNIST | {"drop_path": 0.1}

PUBLISHED: dict[str, dict[str, Any]] = {
    data: {"config": {"in_shape": in_shape, **network}, "recipe": recipe, "epochs": epochs}
    for data, in_shape, network, recipe, epochs in (
        ("mmnist", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mfmnist", (10, 1, 64, 64), MNIST, {"lr": 1e-3}, 200),
        ("mmnist-cifar", (10, 3, 64, 64), MNIST, {"lr": 5e-3}, 200),
        ("taxibj", (4, 2, 32, 32), SMALL, {"lr": 5e-4, "schedule": "cosine", "warmup": 0.1}, 50),
        ("kth", (10, 1, 128, 128), _KTH, {"lr": 1e-3}, 100),
        ("kitticaltech", (10, 3, 128, 160), _KTH, {"lr": 1e-2}, 100),
        ("human", (4, 3, 256, 256), _HUMAN, {"lr": 1e-3, "schedule": "cosine"}, 50),
        ("bair", (4, 3, 64, 64), _KTH | {"N_T": 8}, {}, None),
        ("kinetics", (4, 3, 256, 256), _HUMAN, {}, None),
        ("weather-t2m", (12, 1, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-r", (12, 1, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-uv10", (12, 2, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine"}, 50),
        ("weather-tcc", (12, 1, 32, 64), SMALL, {"lr": 5e-4, "schedule": "cosine"}, 50),
        ("weather-mv", (4, 12, 32, 64), SMALL, {"lr": 5e-3, "schedule": "cosine", "warmup": 0.1}, None),
    )
}
"""Settings of the official model zoo: arguments of `TAU` and `TAURecipe`, epochs; the total batch size is 16."""
