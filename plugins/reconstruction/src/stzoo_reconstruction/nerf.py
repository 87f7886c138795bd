"""NeRF: a network that knows the density and the colour of every point, integrated along the rays of a camera.

Paper: Mildenhall et al., ECCV 2020 (arXiv:2003.08934). Built from the facts of the authors' release (bmild/nerf, MIT) and of
its PyTorch version (yenchenlin/nerf-pytorch, MIT), where they differ from the paper: the encoding has no factor pi and keeps
the point itself, the feature has no ReLU, no ray is normalised. Tensors have the PyTorch version's names.

Points and directions are in the axes of the world, distances along a ray in its own units, which are depths along the optical
axis (:mod:`stzoo_reconstruction.rays`); densities are per unit of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError
from stzoo_reconstruction.background import background_of
from stzoo_reconstruction.cameras import Rendered, checked_home, standard_home
from stzoo_reconstruction.rays import camera_rays, ndc_depth, ndc_points, ndc_rays

LAST = 1e10
"""Length of the last interval of a ray: what is behind the far bound counts as filled with what is there."""
MEMORY = 256e6
"""Bytes that a rendering may take for its samples."""
EMPTY = 0.01
"""A cell counts as empty if what is in it hides less than this of what is behind, over one interval between samples."""
UNSEEN = 0.025
"""What a cell of the grid starts with: enough to count until the densities of some rounds have been looked at."""
FADING = 0.9
"""What is left of a cell's maximum one round later."""


# --- pieces -----------------------------------------------------------------------------------------------------------


def encode(x: Tensor, frequencies: int) -> Tensor:
    """Points (..., 3) as x, sin(x), cos(x), sin(2x), cos(2x), ... up to 2^(frequencies-1) x: (..., 3 + 6 * frequencies)."""
    scaled = x[..., None, :] * 2.0 ** torch.arange(frequencies, device=x.device, dtype=x.dtype)[:, None]
    waves = torch.stack((scaled.sin(), scaled.cos()), -2)
    return torch.cat((x, waves.flatten(-3)), -1)


class RadianceField(nn.Module):
    """Encoded points, and directions, to colour and density before their activations.

    Args:
        layers, width: of the trunk.
        skips: after these layers, counted from 0, the encoded point is given again; those that have no layer after them do
            nothing.
        frequencies: of the encodings of points and directions.
        viewdirs: whether the colour depends on the direction.
        activations: "nerf": ReLU after every layer but the feature (official); "flexible": after every layer but the first,
            as krrish94's FlexibleNeRFModel has it.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        layers: int = 8,
        width: int = 256,
        skips: Sequence[int] = (4,),
        frequencies: Sequence[int] = (10, 4),
        viewdirs: bool = True,
        activations: str = "nerf",
    ) -> None:
        super().__init__()
        if any(not isinstance(skip, int) or skip < 0 for skip in skips):
            raise ConfigError(f"skips={tuple(skips)!r}", "Give numbers of layers, counted from 0")
        self.frequencies, self.width = tuple(frequencies), width
        self.points, self.directions = (3 + 6 * number for number in frequencies)
        self.skips = tuple(skip for skip in skips if skip < layers - 1)
        self.viewdirs, self.activations = viewdirs, activations
        wide = (width + self.points if index in self.skips else width for index in range(layers - 1))
        self.pts_linears = nn.ModuleList(nn.Linear(size, width) for size in (self.points, *wide))
        if viewdirs:
            self.views_linears = nn.ModuleList([nn.Linear(width + self.directions, width // 2)])
            self.feature_linear = nn.Linear(width, width)
            self.alpha_linear = nn.Linear(width, 1)
            self.rgb_linear = nn.Linear(width // 2, 3)
        else:
            self.output_linear = nn.Linear(width, 4)

    def trunk(self, points: Tensor) -> Tensor:
        """Encoded points to (..., width)."""
        hidden = points
        for index, layer in enumerate(self.pts_linears):
            hidden = layer(hidden)
            if index or self.activations == "nerf":
                hidden = F.relu(hidden)
            if index in self.skips:
                hidden = torch.cat((points, hidden), -1)
        return hidden

    def density(self, points: Tensor) -> Tensor:
        """Encoded points to densities (...) before ReLU."""
        hidden = self.trunk(points)
        found: Tensor = self.alpha_linear(hidden)[..., 0] if self.viewdirs else self.output_linear(hidden)[..., 3]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Encoded points and directions side by side (..., 63 + 27) to red, green, blue before sigmoid and density before ReLU
        (..., 4), as the official code has it. Without ``viewdirs`` the directions are left out, or nothing looks at them."""
        hidden = self.trunk(x[..., : self.points])
        if not self.viewdirs:
            whole: Tensor = self.output_linear(hidden)
            return whole
        feature = self.feature_linear(hidden)
        if self.activations == "flexible":
            feature = F.relu(feature)
        seen = F.relu(self.views_linears[0](torch.cat((feature, x[..., self.points :]), -1)))
        return torch.cat((self.rgb_linear(seen), self.alpha_linear(hidden)), -1)


class Composite(NamedTuple):
    """What is seen along R rays of S samples."""

    rgb: Tensor
    """(R, 3), over the background."""
    disparity: Tensor
    """(R,), one over the depth; 0 where nothing is seen."""
    opacity: Tensor
    """(R,) in [0, 1]."""
    weights: Tensor
    """(R, S): how much each sample adds."""
    depth: Tensor
    """(R,): the sum of the samples' distances, each with its weight; the mean distance is this over the opacity."""


def composite(raw: Tensor, z: Tensor, directions: Tensor, background: Tensor | None = None) -> Composite:
    """Volume rendering by quadrature (paper, equation 3).

    Args:
        raw: (R, S, 4), colours before sigmoid and densities before ReLU.
        z: (R, S), increasing distances along the rays.
        directions: (R, 3); their lengths turn distances into units of the world.
        background: (3,), colour behind everything; default: black.
    """
    lengths = torch.cat((z[:, 1:] - z[:, :-1], torch.full_like(z[:, :1], LAST)), 1) * directions.norm(dim=-1)[:, None]
    alpha = 1 - torch.exp(-F.relu(raw[..., 3]) * lengths)
    clear = torch.cumprod(1 - alpha + 1e-10, 1)
    weights = alpha * torch.cat((torch.ones_like(clear[:, :1]), clear[:, :-1]), 1)
    rgb = (weights[..., None] * torch.sigmoid(raw[..., :3])).sum(1)
    opacity, depth = weights.sum(1), (weights * z).sum(1)
    seen = opacity > 0
    mean = depth / torch.where(seen, opacity, 1)
    disparity = torch.where(seen, 1 / mean.clamp(min=1e-10), 0)
    if background is not None:
        rgb = rgb + (1 - opacity[:, None]) * background
    return Composite(rgb, disparity, opacity, weights, depth)


def stratified(
    near: float, far: float, rays: int, samples: int, random: bool, like: Tensor, spacing: str = "depth"
) -> Tensor:
    """Distances (R, S) from ``near`` to ``far``, evenly spaced or, if ``random``, one anywhere in the interval around each.

    ``spacing="disparity"``: evenly spaced in one over the distance.
    """
    z = torch.linspace(0, 1, samples, device=like.device, dtype=like.dtype)
    z = near * (1 - z) + far * z if spacing == "depth" else 1 / ((1 - z) / near + z / far)
    z = z.expand(rays, samples)
    if not random or samples == 1:
        return z
    middles = (z[:, 1:] + z[:, :-1]) / 2
    low, high = torch.cat((z[:, :1], middles), 1), torch.cat((middles, z[:, -1:]), 1)
    return low + (high - low) * torch.rand_like(z)


def sample_pdf(bins: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Distances (R, N) drawn where the weights (R, S - 1) of the intervals between ``bins`` (R, S) are (paper, section 5.2).

    ``u`` (R, N) in [0, 1): what share of all weight is before each.
    """
    pdf = weights + 1e-5
    pdf = pdf / pdf.sum(-1, keepdim=True)
    cdf = torch.cat((torch.zeros_like(pdf[:, :1]), pdf.cumsum(-1)), -1)
    found = torch.searchsorted(cdf, u.contiguous(), right=True)
    below, above = (found - 1).clamp(min=0), found.clamp(max=cdf.shape[1] - 1)
    low, high = cdf.gather(1, below), cdf.gather(1, above)
    share = (u - low) / torch.where(high - low < 1e-5, 1, high - low)
    start = bins.gather(1, below)
    return start + share * (bins.gather(1, above) - start)


# --- network ----------------------------------------------------------------------------------------------------------


class NeRF(nn.Module):
    """A coarse network and, if there are ``fine_samples``, a fine one that looks again where the coarse one found something.

    A grid of ``cells`` remembers where space is empty, so that nothing is computed there; a cell holds a fading maximum of
    what :meth:`look_around` met in it (the idea is Instant-NGP's, Mueller et al. 2022, section 5.1). Outside of
    its box, and in a network without cells, every sample counts.

    Args:
        layers, width, skips, frequencies, viewdirs, activations: of both networks (:class:`RadianceField`).
        samples: of a ray, for the coarse network.
        fine_samples: further ones for the fine network, which is given all; 0: there is none.
        near, far: depths at which rays start and end; with ``ndc`` they go from 0 to 1.
        spacing: "depth": samples are evenly spaced along the ray; "disparity": in one over the depth.
        background: ``white``, ``black`` or ``r,g,b`` in [0, 1].
        frame: the similarity (4, 4), row by row, from the axes of the world to those in which the networks count: positional
            encodings expect a scene a few units wide about the origin; none: the world's.
        ndc: whether points are then put into normalised device coordinates, for scenes before cameras that look along -z.
        pixel_centre: 0.5 or, as the official code, 0.0.
        cells: along each side of the grid, which is a cube about the centre of the home view, ``far`` - ``near`` wide; 0: none.
        home: the home view (30), :func:`stzoo_reconstruction.cameras.home_of`; none: that of Blender's synthetic scenes.

    Raises:
        ConfigError: a value is out of range, or they do not fit each other.
    """

    cells: Tensor | None

    def __init__(
        self,
        layers: int = 8,
        width: int = 256,
        skips: Sequence[int] = (4,),
        frequencies: Sequence[int] = (10, 4),
        viewdirs: bool = True,
        activations: str = "nerf",
        samples: int = 64,
        fine_samples: int = 128,
        near: float = 2.0,
        far: float = 6.0,
        spacing: str = "depth",
        background: str = "white",
        frame: Sequence[float] = (),
        ndc: bool = False,
        pixel_centre: float = 0.5,
        cells: int = 0,
        home: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if not 0 <= near < far or (spacing == "disparity" and not near):
            raise ConfigError(
                f"near={near:g} and far={far:g}", "0 <= near < far, and near > 0 with spacing='disparity'"
            )
        if fine_samples and samples < 3:
            raise ConfigError(
                f"samples={samples} say nothing about where to look again", "At least 3, or fine_samples=0"
            )
        if cells and ndc:
            raise ConfigError("cells and ndc do not go together", "Leave one of them out")
        self.samples, self.fine_samples, self.spacing = samples, fine_samples, spacing
        self.near, self.far, self.ndc, self.pixel_centre = near, far, ndc, pixel_centre
        self.background = background_of(background)
        self.set_home(home, frame)
        field = (layers, width, skips, frequencies, viewdirs, activations)
        self.coarse = RadianceField(*field)
        self.fine = RadianceField(*field) if fine_samples else None
        self.register_buffer("cells", torch.full((cells,) * 3, UNSEEN) if cells else None)

    def set_home(self, home: Sequence[float], frame: Sequence[float]) -> None:
        """Look at the scene from another home view, in another frame. Raises ConfigError if one of them is none."""
        matrix = np.asarray(frame if len(frame) else np.eye(4).ravel(), dtype=np.float64)
        scales = np.linalg.norm(matrix.reshape(4, 4)[:3, :3], axis=0) if matrix.shape == (16,) else np.zeros(1)
        if not np.isfinite(scales).all() or scales.min() <= 0 or np.ptp(scales) > 1e-3 * scales.max():
            raise ConfigError("frame is no similarity", "Give 16 numbers, a 4x4 matrix row by row, or none")
        self.home = tuple(home) or standard_home()
        self.frame = matrix.reshape(4, 4)
        try:
            self._camera, self._centre, _ = checked_home(self.home)
        except InputError as problem:
            raise ConfigError(f"home: {problem.problem}", problem.remedy) from problem

    @property
    def final(self) -> RadianceField:
        """The network whose picture counts."""
        return self.coarse if self.fine is None else self.fine

    def forward(self, x: Tensor) -> Tensor:
        """What the final network says of encoded points and directions: :meth:`RadianceField.forward`."""
        found: Tensor = self.final(x)
        return found

    def density(self, points: Tensor) -> Tensor:
        """Points (N, 3) of the world to densities (N,), at least 0, per unit of the networks' frame."""
        field, points = self.final, self._placed(points)
        found = F.relu(field.density(encode(points, field.frequencies[0])))
        return torch.where(points[:, 2].abs() <= 1, found, 0) if self.ndc else found  # nothing is behind the near plane

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """Points (N, 3) of the world and the directions (N, 3), of any length, along which they are looked at, to colours
        (N, 3) in [0, 1]."""
        field = self.final
        seen = encode(self._views(directions), field.frequencies[1])
        return torch.sigmoid(field(torch.cat((encode(self._placed(points), field.frequencies[0]), seen), -1))[:, :3])

    def _placed(self, points: Tensor) -> Tensor:
        """Points (N, 3) of the world where the networks have them."""
        motion = torch.from_numpy(self.frame).to(points)
        points = points @ motion[:3, :3].T + motion[:3, 3]
        return ndc_points(points, self._lens(points)) if self.ndc else points

    def _views(self, directions: Tensor) -> Tensor:
        return F.normalize(directions @ torch.from_numpy(self.frame[:3, :3]).to(directions).T, dim=-1)

    def _lens(self, like: Tensor) -> Tensor:
        """Twice the focal lengths (2,) in units of the home view's width and height."""
        camera = self._camera
        return torch.from_numpy(2 * camera.intrinsics[0, :2] / camera.sizes[0, ::-1]).to(like)

    # --- along rays ---------------------------------------------------------------------------------------------------

    def trace(
        self, origins: Tensor, directions: Tensor, *, random: bool = False, noise: float = 0.0
    ) -> tuple[list[Composite], Tensor]:
        """What is seen along rays (R, 3) of the world, by the coarse and then by the fine network, and mean depths (R,).

        Args:
            random: whether samples are anywhere in their intervals, as in training, or at fixed places.
            noise: standard deviation of what is added to densities before ReLU (paper, appendix A).
        """
        motion, views = torch.from_numpy(self.frame).to(origins), self._views(directions)
        start = origins @ motion[:3, :3].T + motion[:3, 3]
        along = directions @ motion[:3, :3].T
        near, far, spacing = self.near, self.far, self.spacing
        if self.ndc:
            world = start, along
            start, along = ndc_rays(start, along, self._lens(start))
            near, far, spacing = 0.0, 1.0, "depth"
        z = stratified(near, far, len(start), self.samples, random, start, spacing)
        background = start.new_tensor(self.background)
        rays, kept = (start, along, views), self._occupied(origins, directions, z)
        found = [composite(self._raw(self.coarse, rays, z, noise, kept), z, along, background)]
        if self.fine is not None:
            with torch.no_grad():
                shape = (len(start), self.fine_samples)
                u = torch.rand(shape, device=z.device) if random else torch.linspace(0, 1, shape[1], device=z.device)
                more = sample_pdf((z[:, 1:] + z[:, :-1]) / 2, found[0].weights[:, 1:-1], u.to(z).expand(shape))
                z = torch.cat((z, more), 1).sort(1).values
            kept = self._occupied(origins, directions, z)
            found.append(composite(self._raw(self.fine, rays, z, noise, kept), z, along, background))
        last = found[-1]
        mean = last.depth / last.opacity.clamp(min=1e-10)
        if self.ndc:  # the place of the mean, since the mean of places would be infinitely far
            mean = ndc_depth(mean[:, None], *world)[:, 0]
        return found, torch.where(last.opacity > 0, mean, 0)

    def _raw(
        self,
        field: RadianceField,
        rays: tuple[Tensor, Tensor, Tensor],
        z: Tensor,
        noise: float,
        kept: Tensor | None,
    ) -> Tensor:
        """Colours and densities (R, S, 4) before their activations, of ``kept`` samples; nothing is at the others.

        ``rays``: origins, directions and, of length 1, what the network is told of directions, (R, 3) each.
        """
        start, along, views = rays
        seen = encode(views, field.frequencies[1]) if field.viewdirs else views[:, :0]
        if kept is None:
            points = (start[:, None] + along[:, None] * z[..., None]).flatten(0, 1)
            seen = seen.repeat_interleave(z.shape[1], 0)
        else:
            ray = kept // z.shape[1]
            points, seen = start[ray] + along[ray] * z.flatten()[kept, None], seen[ray]
        raw: Tensor = field(torch.cat((encode(points, field.frequencies[0]), seen), -1))
        if noise:
            raw = torch.cat((raw[:, :3], raw[:, 3:] + noise * torch.randn_like(raw[:, 3:])), 1)
        if kept is not None:
            raw = raw.new_zeros(z.numel(), 4).index_copy(0, kept, raw)
        return raw.view(*z.shape, 4)

    # --- where space is empty -----------------------------------------------------------------------------------------

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper corner (3,), in the world, of the cube that matters: about the centre of the home view, as
        wide as rays are long."""
        half = (self.far - self.near) / 2
        return self._centre - half, self._centre + half

    def _occupied(self, origins: Tensor, directions: Tensor, z: Tensor) -> Tensor | None:
        """Which samples (R * S) of rays of the world are not known to be in empty space, as indices; None: all."""
        if self.cells is None:
            return None
        side, low = len(self.cells), origins.new_tensor(self.box()[0])
        scale = side / (self.far - self.near)
        places = ((origins - low)[:, None] * scale + (directions * scale)[:, None] * z[..., None]).floor().long()
        outside = ((places < 0) | (places >= side)).any(-1)
        first, second, third = places.clamp(0, side - 1).unbind(-1)
        full = self.cells.flatten() > EMPTY
        return (full[(first * side + second) * side + third] | outside).flatten().nonzero()[:, 0]

    def look_around(self) -> None:
        """Bring the grid up to date: in each cell what was there fades, and the density at one random point counts, times the
        length of an interval between samples."""
        if self.cells is None:
            return
        side, low = len(self.cells), self.cells.new_tensor(self.box()[0])
        line = torch.arange(side, device=low.device)
        places = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(-1, 3)
        points = low + (places + torch.rand(places.shape, device=low.device)) * ((self.far - self.near) / side)
        interval = (self.far - self.near) / self.samples * float(np.cbrt(np.linalg.det(self.frame[:3, :3])))
        found = interval * torch.cat([self.density(part) for part in torch.split(points, 32768)])
        self.cells.copy_(torch.maximum(FADING * self.cells, found.view_as(self.cells)))

    # --- pictures and scenes ------------------------------------------------------------------------------------------

    def render(self, camera: Tensor, memory: float = MEMORY) -> Rendered:
        """The scene as a camera (24,) sees it (:class:`stzoo_reconstruction.cameras.Rendered`).

        ``memory``: bytes that samples computed at once may take, more or less; at least one ray is.
        """
        weight = next(self.parameters())
        camera = camera.to(weight)
        height, width = (int(number) for number in camera[20:22])
        origins, directions = (rays.view(-1, 3) for rays in camera_rays(camera, self.pixel_centre))
        sample = 4 * weight.element_size() * (self.coarse.points + 2 * self.coarse.width)
        rays = max(1, int(memory / sample / (self.samples + self.fine_samples)))
        parts = []
        for o, d in zip(torch.split(origins, rays), torch.split(directions, rays), strict=True):
            found, depth = self.trace(o, d)
            parts.append(torch.cat((found[-1].rgb, depth[:, None], found[-1].opacity[:, None]), 1))
        seen = torch.cat(parts).view(height, width, 5)
        return Rendered(seen[..., :3].permute(2, 0, 1).clamp(0, 1), seen[..., 3], seen[..., 4].clamp(0, 1))

    def scene(self) -> dict[str, np.ndarray]:
        """A mesh of the surface (:func:`stzoo_reconstruction.mesh.mesh_of`)."""
        from stzoo_reconstruction.mesh import mesh_of

        return mesh_of(self)
