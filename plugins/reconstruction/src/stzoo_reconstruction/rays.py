"""Rays of a pinhole camera, as NeRF marches along them, and normalised device coordinates for forward-facing scenes.

Axes are those of :mod:`stzoo_reconstruction.cameras`: x right, y up, the camera looks along -z. A ray's direction is not
normalised: it is one unit long along the optical axis, so that a distance along it, in its own units, is a depth.
"""

from __future__ import annotations

import torch
from torch import Tensor


def camera_rays(camera: Tensor, pixel_centre: float = 0.5) -> tuple[Tensor, Tensor]:
    """Origins and directions (H, W, 3), in the axes of the world, of the rays through all pixels of a camera (24,).

    ``pixel_centre``: where a pixel is, counted from its top-left corner: 0.5, its middle, or 0.0 as the official NeRF has it.
    """
    height, width = (int(number) for number in camera[20:22])
    rows = torch.arange(height, device=camera.device)
    columns = torch.arange(width, device=camera.device)
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    return pixel_rays(camera.expand(height, width, -1), pixels, pixel_centre)


def pixel_rays(cameras: Tensor, pixels: Tensor, pixel_centre: float = 0.5) -> tuple[Tensor, Tensor]:
    """Origins and directions (..., 3) of the rays through pixels (..., 2), column and row, of a camera (..., 24) each."""
    poses = cameras[..., :16].reshape(*cameras.shape[:-1], 4, 4)
    across = (pixels + pixel_centre - cameras[..., 18:20]) / cameras[..., 16:18]
    local = torch.cat([across, torch.ones_like(across[..., :1])], -1) * across.new_tensor([1.0, -1.0, -1.0])
    directions = (poses[..., :3, :3] @ local[..., None])[..., 0]
    return poses[..., :3, 3].expand_as(directions), directions


def ndc_rays(origins: Tensor, directions: Tensor, lens: Tensor, near: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rays (..., 3) in normalised device coordinates (paper, appendix C): from 0 at the plane z = -``near`` to 1 at infinity.

    They are those of a camera at the origin that looks along -z; ``lens`` (2,): twice its focal lengths in units of its
    picture's width and height. Rays must go towards -z.
    """
    origins = origins - (near + origins[..., 2:]) / directions[..., 2:] * directions
    slope, depth = origins[..., :2] / origins[..., 2:], 2 * near / origins[..., 2:]
    along = torch.cat([lens * (slope - directions[..., :2] / directions[..., 2:]), -depth], -1)
    return ndc_points(origins, lens, near), along


def ndc_points(points: Tensor, lens: Tensor, near: float = 1.0) -> Tensor:
    """Points (..., 3) with z < 0 in normalised device coordinates: what is seen is from -1 to 1 in x and y; z is -1 at
    ``near`` and 1 infinitely far away."""
    return torch.cat([-lens * points[..., :2] / points[..., 2:], 1 + 2 * near / points[..., 2:]], -1)


def ndc_depth(z: Tensor, origins: Tensor, directions: Tensor, near: float = 1.0) -> Tensor:
    """How far samples (R, S) at distances ``z`` in [0, 1] along rays in normalised device coordinates are along the rays
    (R, 3) that these were made of. What is infinitely far is put at 1e10 ``near``."""
    height = -near / (1 - z).clamp(min=1e-10)  # their z
    return (height - origins[:, 2:]) / directions[:, 2:]
