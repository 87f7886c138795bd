"""TAU: temporal attention unit.

Paper: Tan et al., "Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning", CVPR 2023
(arXiv:2206.12126).
Official code: https://github.com/chengtan9907/OpenSTL (Apache-2.0), whose state-dict keys, configuration
names and numerics are kept here.

SimVP with another translator: attention over space (static) and over channels, that is time (dynamic).
Its loss adds the divergence between the differences of successive frames, predicted and true.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stzoo_video_prediction.simvp import Attention, SimVP


class TemporalAttentionUnit(nn.Module):
    """Static attention (large depthwise kernels) times dynamic attention (squeeze-excitation) times the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
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

    attentions = {"tau": tau_attention}


def tau_regulariser(
    prediction: Tensor, target: Tensor, tau: float = 0.1, eps: float = 1e-12
) -> Tensor:
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
