"""Real spherical harmonics to degree 3: how the colour of a Gaussian changes with the direction it is seen from.

Constants, signs and order are those of 3D Gaussian splatting (Kerbl et al. 2023) and of Plenoxels before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stzoo.media.geometry import BAND

DEGREES = (0, 1, 2, 3)
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def count(degree: int) -> int:
    """How many functions there are up to a degree: 1, 4, 9 or 16."""
    return (degree + 1) ** 2


def basis(directions: Tensor, degree: int) -> Tensor:
    """The functions (..., K) at unit vectors (..., 3)."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, BAND)]
    if degree > 0:
        values += [-C1 * y, C1 * z, -C1 * x]
    if degree > 1:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        values += [C2[0] * xy, -C2[0] * yz, C2[1] * (2 * zz - xx - yy), -C2[0] * xz, C2[2] * (xx - yy)]
    if degree > 2:
        values += [
            -C3[0] * y * (3 * xx - yy),
            C3[1] * xy * z,
            -C3[2] * y * (4 * zz - xx - yy),
            C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -C3[2] * x * (4 * zz - xx - yy),
            C3[4] * z * (xx - yy),
            -C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(values, -1)


def colours(directions: Tensor, sh: Tensor, degree: int) -> Tensor:
    """Red, green and blue (N, 3), not negative, of coefficients (N, K, 3) seen along unit vectors (N, 3).

    Coefficients of degrees above ``degree`` are left out.
    """
    values = basis(directions, degree)
    return ((values[..., None] * sh[:, : values.shape[-1]]).sum(-2) + 0.5).clamp_min(0)
