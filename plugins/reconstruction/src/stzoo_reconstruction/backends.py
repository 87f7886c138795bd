"""Who renders: gsplat's CUDA kernels, our compiled rasteriser on a CPU, or PyTorch alone."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from stzoo_reconstruction.projection import View


class Gaussians(NamedTuple):
    """N Gaussians, in one floating-point precision of at least 32 bits and on one device."""

    means: Tensor
    """(N, 3), in the world."""
    scales: Tensor
    """(N, 3), natural logarithms of standard deviations."""
    quats: Tensor
    """(N, 4): w, x, y, z, of any length."""
    opacities: Tensor
    """(N,), logits."""
    sh0: Tensor
    """(N, 1, 3), the constant spherical harmonics of red, green and blue."""
    shn: Tensor
    """(N, K - 1, 3), the others."""


class Drawn(NamedTuple):
    """Sums over the Gaussians in front of each pixel, without a background."""

    colours: Tensor
    """(H, W, 3)."""
    depths: Tensor | None
    """(H, W), if asked for: depths along the optical axis, as colours are summed."""
    left: Tensor
    """(H, W): how much of the background can be seen."""
    centres: Tensor
    """(N, 2) or (1, N, 2): where the Gaussians are in the picture, in pixels; part of the gradient's graph."""


def backend(like: Tensor, view: View) -> str:
    """``gsplat``, ``numba`` or ``torch``: the quickest that there is for Gaussians on this device in this precision.

    gsplat knows its own rules only, and 32 bits only; so does our own on a CPU.
    """
    if like.dtype == torch.float32 and like.device.type == "cuda" and not view.rules.cut and find_spec("gsplat"):
        return "gsplat"
    if like.dtype == torch.float32 and like.device.type == "cpu" and find_spec("numba"):
        return "numba"
    return "torch"


def draw(gaussians: Gaussians, view: View, *, depths: bool = False, chosen: str = "") -> Drawn:
    """Render, with the backend that is chosen or, if none is, with the quickest. Differentiable by all values of the Gaussians."""
    chosen = chosen or backend(gaussians.means, view)
    if chosen == "gsplat":
        return _draw_gsplat(gaussians, view, depths)
    if chosen == "numba":
        from stzoo_reconstruction.projection_compiled import project
        from stzoo_reconstruction.rasterise import rasterise
    else:
        from stzoo_reconstruction.projection import project
        from stzoo_reconstruction.rasterise_torch import rasterise
    seen = project(*gaussians, view)
    values = torch.cat((seen.colours, seen.depths[:, None]), 1) if depths else seen.colours
    picture, left = rasterise(seen, values, view)
    return Drawn(picture[..., :3], picture[..., 3] if depths else None, left, seen.centres)


def _draw_gsplat(gaussians: Gaussians, view: View, depths: bool) -> Drawn:
    import gsplat

    picture, opacity, meta = gsplat.rasterization(
        gaussians.means,
        gaussians.quats,
        gaussians.scales.exp(),
        gaussians.opacities.sigmoid(),
        torch.cat((gaussians.sh0, gaussians.shn), 1),
        view.world_to_camera[None],
        view.intrinsics[None],
        view.width,
        view.height,
        near_plane=view.near,
        sh_degree=view.degree,
        packed=False,  # so that positions in the picture are there for all Gaussians
        render_mode="RGB+D" if depths else "RGB",
        rasterize_mode="antialiased" if view.antialiased else "classic",
    )
    picture, left = picture[0], 1 - opacity[0, ..., 0]
    return Drawn(picture[..., :3], picture[..., 3] if depths else None, left, meta["means2d"])
