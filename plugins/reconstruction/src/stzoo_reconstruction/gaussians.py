"""3D Gaussian splatting for real-time radiance field rendering: a scene of Gaussians.

Paper: Kerbl, Kopanas, Leimkühler and Drettakis, SIGGRAPH 2023 (arXiv:2308.04079). Written from the facts of the paper and of
gsplat (Apache-2.0), whose names and conventions the parameters have; nothing of the authors' release, which is not for
commercial use, is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stzoo.errors import ConfigError, InputError
from stzoo.requirements import Requirements
from stzoo_reconstruction import spherical
from stzoo_reconstruction.backends import Drawn, Gaussians, draw
from stzoo_reconstruction.background import background_of
from stzoo_reconstruction.cameras import NUMBERS, Cameras, Rendered, checked_home
from stzoo_reconstruction.projection import RULES, View

OPACITY = -2.1972246
"""Of new Gaussians: the logit of 0.1."""
SPREAD = 1.3
"""New Gaussians are in a cube from minus this to this, in which Blender's synthetic scenes are."""
LONGEST = 16384
"""Pixels of a picture's longest side that are rendered."""

ARRAYS = {"means": "positions", "scales": "scales", "quats": "rotations", "opacities": "opacities"}
"""Parameters and the arrays of :class:`stzoo.media.geometry.Geometry` that they are; ``sh0`` and ``shN`` are ``sh``."""


class GaussianSplatting(nn.Module):
    """A scene of Gaussians, each an ellipsoid with an opacity and a colour that changes with the direction it is seen from.

    Args:
        points: how many Gaussians. Learning may change their number, and the parameters' shapes with it.
        degree: of the spherical harmonics that colours are made of, 0 to 3.
        background: ``white``, ``black`` or ``r,g,b`` in [0, 1].
        antialiased: whether Gaussians smaller than a pixel are made fainter instead of larger only (Mip-Splatting).
        near: what is not deeper than this, in the world's units, is not drawn.
        rules: ``gsplat``, or ``inria`` to draw exactly as the original does (its own near is 0.2).
        home: a home view, 30 numbers (:func:`stzoo_reconstruction.cameras.home_of`); none: as in Blender's synthetic scenes.

    Parameters: ``means`` (N, 3), in the axes and units of the cameras' world; ``scales`` (N, 3), natural logarithms of
    standard deviations; ``quats`` (N, 4), quaternions w, x, y, z of any length; ``opacities`` (N,), logits; ``sh0`` (N, 1, 3)
    and ``shN`` (N, K - 1, 3), spherical harmonics: a colour is 0.5 + their sum, not below 0.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        points: int = 1000,
        degree: int = 3,
        background: str = "white",
        antialiased: bool = False,
        near: float = 0.01,
        rules: str = "gsplat",
        home: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if points < 1 or degree not in spherical.DEGREES or rules not in RULES or not near >= 0:
            raise ConfigError(
                f"at least one point, degree 0 to 3, rules {' or '.join(RULES)} and near of at least 0 are needed, got "
                f"{points}, {degree}, {rules!r} and {near:g}"
            )
        try:
            camera, centre, up = checked_home(home)
        except InputError as problem:
            raise ConfigError(f"home: {problem.problem}", problem.remedy) from problem
        self.home: tuple[float, ...] = (*camera.array[0].tolist(), *centre.tolist(), *up.tolist())
        self.degree, self.antialiased, self.near, self.rules = degree, antialiased, near, RULES[rules]
        self.background = background_of(background)
        self.means = nn.Parameter(torch.empty(points, 3))
        self.scales = nn.Parameter(torch.empty(points, 3))
        self.quats = nn.Parameter(torch.empty(points, 4))
        self.opacities = nn.Parameter(torch.empty(points))
        self.sh0 = nn.Parameter(torch.empty(points, 1, 3))
        self.shN = nn.Parameter(torch.empty(points, spherical.count(degree) - 1, 3))
        nn.init.uniform_(self.means, -SPREAD, SPREAD)
        nn.init.constant_(self.scales, float(np.log(SPREAD * points ** (-1 / 3))))
        nn.init.normal_(self.quats)
        nn.init.constant_(self.opacities, OPACITY)
        nn.init.normal_(self.sh0)
        nn.init.zeros_(self.shN)
        self._checked: list[Any] = []
        self.screen: Tensor | None = None
        """(N, 2), where the Gaussians are in the picture that was rendered last, x and y in pixels, while it trains. After
        the backward pass its ``grad`` is that of the loss with respect to these (0 for what is not seen)."""

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    def gaussians(self) -> Gaussians:
        """The parameters as they are rendered: half precision as float32."""
        values = (self.means, self.scales, self.quats, self.opacities, self.sh0, self.shN)
        return Gaussians(*(item if item.dtype == torch.float64 else item.float() for item in values))

    def forward(
        self, viewmats: Tensor, Ks: Tensor, width: int, height: int, *, degree: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pictures of C cameras, as ``gsplat.rasterization`` gives them.

        Args:
            viewmats: (C, 4, 4), from the world to each camera's axes: x right, y down, z forwards (OpenCV).
            Ks: (C, 3, 3), intrinsics in pixels; the top-left corner of the picture is (0, 0).
            width, height: of the pictures, in pixels.
            degree: of the spherical harmonics that are used; default: all.

        Returns:
            Colours (C, H, W, 3) over the background, not limited to 1, and opacities (C, H, W, 1).
        """
        gaussians = self.gaussians()
        drawn = [
            self._draw(gaussians, self._view(matrix, intrinsics, width, height, degree))
            for matrix, intrinsics in zip(viewmats, Ks, strict=True)
        ]
        colours = torch.stack([self._over_background(item) for item in drawn])
        return colours, torch.stack([1 - item.left for item in drawn])[..., None]

    def render(self, camera: Tensor, *, degree: int | None = None) -> Rendered:
        """What a camera sees.

        Args:
            camera: (24,), a row of :attr:`stzoo_reconstruction.cameras.Cameras.array`.
            degree: of the spherical harmonics that are used; default: all.

        While the network trains, colours above 1 stay, so that they have gradients.

        Raises:
            InputError: the camera is none, its picture is larger than ``LONGEST``, or a parameter is not finite.
        """
        if camera.shape != (NUMBERS,):
            raise InputError(f"a camera of shape {tuple(camera.shape)}", f"Give one, ({NUMBERS},)")
        if not self.training:
            self._check_finite()
        given = Cameras.from_array(camera)
        height, width = (int(side) for side in given.sizes[0])
        if max(height, width) > LONGEST:
            raise InputError(f"a picture of {width}x{height} pixels", f"At most {LONGEST} on a side are rendered")
        matrix, intrinsics = (torch.from_numpy(item[0]) for item in (given.world_to_camera(), given.matrices()))
        gaussians = self.gaussians()
        drawn = self._draw(gaussians, self._view(matrix, intrinsics, width, height, degree), depths=True)
        image = self._over_background(drawn).permute(2, 0, 1)
        opacity = 1 - drawn.left
        assert drawn.depths is not None
        depth = drawn.depths / opacity.clamp_min(1e-10)
        return Rendered(image if self.training else image.clamp(0, 1), depth, opacity)

    def scene(self) -> dict[str, np.ndarray]:
        """The Gaussians as arrays, named as in :class:`stzoo.media.geometry.Geometry`, in the axes of the cameras' world."""
        *rest, sh0, shn = (np.array(item.detach().cpu().numpy(), np.float32) for item in self.gaussians())
        return dict(zip(ARRAYS.values(), rest, strict=True)) | {"sh": np.concatenate((sh0, shn), 1)}

    def _check_finite(self) -> None:
        """Look once, and again where values have changed. Raises InputError naming the parameter."""
        state = [(item.data_ptr(), 0 if item.is_inference() else item._version) for item in self.parameters()]
        if state != self._checked:
            for name, item in self.named_parameters():
                if wrong := int((~item.detach().isfinite()).sum()):
                    raise InputError(
                        f"{wrong} of {item.numel()} numbers in {name} are not finite", "Did training diverge?"
                    )
            self._checked = state

    def _view(self, matrix: Tensor, intrinsics: Tensor, width: int, height: int, degree: int | None) -> View:
        like = self.means if self.means.dtype == torch.float64 else self.means.new_empty(0, dtype=torch.float32)
        degree = self.degree if degree is None else min(degree, self.degree)
        return View(
            matrix.to(like), intrinsics.to(like), width, height, degree, self.near, self.antialiased, self.rules
        )

    def _draw(self, gaussians: Gaussians, view: View, *, depths: bool = False) -> Drawn:
        with torch.autocast(self.means.device.type, enabled=False):
            drawn = draw(gaussians, view, depths=depths)
        if self.training and drawn.centres.requires_grad:
            screen = drawn.centres.detach().view(-1, 2)

            def keep(gradient: Tensor) -> None:
                screen.grad = gradient.view(-1, 2)

            drawn.centres.register_hook(keep)  # type: ignore[no-untyped-call]
            self.screen = screen
        return drawn

    def _over_background(self, drawn: Drawn) -> Tensor:
        return drawn.colours + drawn.left[..., None] * drawn.colours.new_tensor(self.background)


def parameters_of(scene: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parameters of a network whose :meth:`GaussianSplatting.scene` has these arrays, or tensors."""
    own = {name: torch.as_tensor(scene[key]) for name, key in ARRAYS.items()}
    sh = torch.as_tensor(scene["sh"])
    return {**own, "sh0": sh[:, :1].contiguous(), "shN": sh[:, 1:].contiguous()}
