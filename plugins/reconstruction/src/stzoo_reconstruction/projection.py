"""From Gaussians in the world to ellipses in a picture (EWA splatting, Zwicker et al. 2001; Kerbl et al. 2023, section 4).

A camera is a matrix (4, 4) from the world to OpenCV's axes (x right, y down, z forwards) and an intrinsic matrix (3, 3) in
pixels, whose top-left corner is (0, 0): the first pixel's centre is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stzoo_reconstruction import spherical

TILE = 8
"""Height and width in pixels of the squares that pictures are rendered in."""
BLUR = 0.3
"""Variance in square pixels that is added to every ellipse, so that none is smaller than a pixel."""
FAINT = 1 / 255
"""What covers less of a pixel than this is not drawn."""
MARGIN = 0.3
"""Half pictures beyond the border from which on the projection's slope is no longer followed: it grows without bound."""
FAR = 1e10
SIGMAS = 3.33
"""Standard deviations beyond which even an opaque Gaussian is faint."""
LARGEST = 1e8
"""Pixels. What has a larger standard deviation, or its centre farther away, is left out: its numbers would overflow."""
COARSE = 16
"""Pixels of the original's tiles."""


@dataclass(frozen=True)
class Rules:
    """Where implementations of Gaussian splatting differ."""

    opaque: float
    """The most that one Gaussian covers of a pixel."""
    cut: bool
    """Whether Gaussians end where the original's do: at the border of the 16-pixel tiles that a circle of three standard
    deviations touches. Otherwise they are drawn as far as they are not faint."""


RULES = {"gsplat": Rules(0.999, cut=False), "inria": Rules(0.99, cut=True)}
"""gsplat 1.5.3 and the original (diff-gaussian-rasterization)."""


@dataclass(frozen=True)
class View:
    """One picture to render, and how."""

    world_to_camera: Tensor
    """(4, 4)."""
    intrinsics: Tensor
    """(3, 3)."""
    width: int
    height: int
    degree: int = 3
    """Of the spherical harmonics that are used."""
    near: float = 0.01
    """What is not deeper than this is left out."""
    antialiased: bool = False
    """Whether what ``BLUR`` adds to an ellipse is taken from its opacity (Yu et al. 2024, Mip-Splatting)."""
    rules: Rules = RULES["gsplat"]

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-self.height // TILE), -(-self.width // TILE)


class Ellipses(NamedTuple):
    """N Gaussians as a camera sees them. Of those that it does not see, the boxes are empty and the other values mean nothing."""

    centres: Tensor
    """(N, 2), x and y in pixels."""
    conics: Tensor
    """(N, 3): a, b, c of the density exp(-(a x² + 2 b x y + c y²) / 2)."""
    opacities: Tensor
    """(N,), in [0, 1]."""
    colours: Tensor
    """(N, 3), not negative."""
    depths: Tensor
    """(N,), along the optical axis."""
    boxes: Tensor
    """int32 (N, 4): first column, first row, the column and the row after the last of the tiles it may be seen in."""
    radii: Tensor
    """int32 (N, 2): pixels to the left and right, and above and below, of the centre that it reaches; 0 if it is not seen."""


def rotations(quaternions: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4), w, x, y, z, of any length but 0."""
    w, x, y, z = F.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).view(-1, 3, 3)


def covariances(scales: Tensor, quaternions: Tensor) -> Tensor:
    """Covariance matrices (N, 3, 3) of Gaussians with logarithms of standard deviations (N, 3) and quaternions (N, 4)."""
    axes = rotations(quaternions) * scales.exp()[:, None]
    return axes @ axes.mT


def project(
    means: Tensor, scales: Tensor, quats: Tensor, opacities: Tensor, sh0: Tensor, shn: Tensor, view: View
) -> Ellipses:
    """The ellipses of Gaussians: parameters as :class:`stzoo_reconstruction.gaussians.GaussianSplatting` has them.

    Differentiable, on any device and in any precision: what :mod:`stzoo_reconstruction.rasterise` is compared with.
    """
    turn, shift = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    points = means @ turn.mT + shift
    depths = points[:, 2]
    fx, fy = view.intrinsics[0, 0], view.intrinsics[1, 1]
    cx, cy = view.intrinsics[0, 2], view.intrinsics[1, 2]
    with torch.no_grad():
        reach = torch.cat((scales.exp(), points[:, :2].abs()), 1).amax(1)
        sane = (depths > view.near) & (depths < FAR) & (reach * torch.maximum(fx, fy) < LARGEST * depths)
    x, y, z = torch.where(sane[:, None], points, torch.ones_like(points)).unbind(-1)
    scales = torch.where(sane[:, None], scales, torch.zeros_like(scales))
    centres = torch.stack((fx * x / z + cx, fy * y / z + cy), -1)

    axes = turn @ (rotations(quats) * scales.exp()[:, None])
    slope_x = _limited(x / z, cx / fx, view.width / fx)
    slope_y = _limited(y / z, cy / fy, view.height / fy)
    one = (fx / z)[:, None] * (axes[:, 0] - slope_x[:, None] * axes[:, 2])
    two = (fy / z)[:, None] * (axes[:, 1] - slope_y[:, None] * axes[:, 2])
    a, b, c = (one * one).sum(-1), (one * two).sum(-1), (two * two).sum(-1)
    area = torch.linalg.cross(one, two).square().sum(-1)  # a c - b², without the cancellation
    blurred = area + BLUR * (a + c) + BLUR**2
    a, c = a + BLUR, c + BLUR
    conics = torch.stack((c / blurred, -b / blurred, a / blurred), -1)
    opacities = opacities.sigmoid()
    if view.antialiased:
        opacities = opacities * (area / blurred).clamp_min(1e-20).sqrt()

    camera = -turn.mT @ shift
    colours = spherical.colours(F.normalize(means - camera, dim=-1), torch.cat((sh0, shn), 1), view.degree)
    with torch.no_grad():
        boxes, radii = _boxes(centres, a, b, c, opacities, sane, view)
    return Ellipses(centres, conics, opacities, colours, depths, boxes, radii)


def _limited(slope: Tensor, centre: Tensor, picture: Tensor) -> Tensor:
    """x / z, at most the margin outside the picture. ``picture``: its width, ``centre``: the principal point, at z = 1."""
    margin = MARGIN * 0.5 * picture
    return slope.clamp(-centre - margin, picture - centre + margin)


def _boxes(
    centres: Tensor, a: Tensor, b: Tensor, c: Tensor, opacities: Tensor, sane: Tensor, view: View
) -> tuple[Tensor, Tensor]:
    """Boxes and radii of ellipses with covariances [[a, b], [b, c]]."""
    deviations = torch.stack((a, c), -1).sqrt()
    size = torch.tensor((view.width, view.height), device=a.device)
    if view.rules.cut:
        middle = 0.5 * (a + c)
        largest = middle + (middle * middle - (a * c - b * b)).clamp_min(0.1).sqrt()
        radii = (3 * largest.sqrt()).ceil()[:, None].expand(-1, 2)
        corner = centres - 0.5  # the original counts from the first pixel's centre
        low = ((corner - radii) / COARSE).trunc() * COARSE
        high = ((corner + radii + (COARSE - 1)) / COARSE).trunc() * COARSE
    else:
        radii = (SIGMAS * deviations).ceil()
        reach = deviations * (2 * (opacities / FAINT).clamp_min(1e-20).log()).clamp_min(0).sqrt()[:, None]
        low, high = centres - reach, centres + reach
    limits = torch.tensor(view.tiles[::-1], device=a.device)
    first = (low / TILE).floor().nan_to_num(0).clamp_min(0).minimum(limits)
    last = (high / TILE).ceil().nan_to_num(0).clamp_min(0).minimum(limits)
    seen = sane & ((centres + radii > 0) & (centres - radii < size)).all(1)
    drawn = seen & (last > first).all(1) & (opacities >= FAINT)
    boxes = torch.where(drawn[:, None], torch.cat((first, last), -1), 0)
    return boxes.int(), torch.where(seen[:, None], radii, 0).clamp(max=2**30).int()
