"""Scenes of Gaussians that others trained: the original's .ply and its training checkpoints, gsplat's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stzoo.errors import FormatError, StzooError
from stzoo.formats import check_tensors
from stzoo.media.decoding import File
from stzoo.media.geometry import extent, read_geometry
from stzoo.media.ply import read_header
from stzoo_reconstruction import spherical
from stzoo_reconstruction.cameras import Cameras, look_at
from stzoo_reconstruction.gaussians import ARRAYS, GaussianSplatting, parameters_of

NEEDED = (
    *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""Attributes that each Gaussian in a .ply has; normals and spherical harmonics above degree 0 may be missing."""
CAPTURE = ("means", "sh0", "shN", "scales", "quats", "opacities")
"""What the original's ``capture()`` has from its second place on."""
PICTURE = (360, 480)
"""Height and width of the home view of a scene whose cameras are not known."""


def home_before(means: Tensor) -> tuple[float, ...]:
    """A home view (30 numbers) for Gaussians whose cameras nobody knows: before most of them, y down as COLMAP has it."""
    middle, reach = extent(means.detach().float().cpu().numpy())
    height, width = PICTURE
    centre = middle.astype(np.float64)
    pose = look_at(centre - (0, 0, 3 * reach), centre, (0, -1, 0))
    camera = Cameras.of(pose[None], (height, height, width / 2, height / 2), PICTURE, (0.1 * reach, 10 * reach))
    return (*camera.array[0].tolist(), *centre.tolist(), 0.0, -1.0, 0.0)


def _config(state: Mapping[str, Tensor], what: str, **known: Any) -> dict[str, Any]:
    """The config of these parameters. Raises FormatError if they do not fit each other, or are not finite."""
    try:
        count, functions = state["means"].shape[0], state["shN"].shape[1] + 1
    except (KeyError, IndexError) as problem:
        raise FormatError(f"this looks like {what}, but it is not whole ({problem})", "Is the file complete?") from None
    degree = next((item for item in spherical.DEGREES if spherical.count(item) == functions), None)
    if degree is None or not count:
        raise FormatError(
            f"this looks like {what}, but it has {count} Gaussians with {functions} spherical harmonics",
            "There are 1, 4, 9 or 16 of them",
        )
    config = {"points": count, "degree": degree, **known}
    check_tensors(state, lambda: GaussianSplatting(**config), what)
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            wrong = int((~tensor.isfinite().reshape(count, -1).all(1)).sum()) if tensor.numel() else 0
            raise FormatError(
                f"this looks like {what}, but {name} of {wrong} Gaussians is not finite (NaN or infinite)",
                "Did training diverge? Remove these Gaussians",
            )
    return {**config, "home": home_before(state["means"])}


class _Scene:
    """What the formats have in common: the tensors cannot tell how they are meant to be looked at."""

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        return (
            f"background: {config['background']}, which is what is behind the scene.",
            f"rules: {config['rules']}; gsplat and the original (inria) differ a little in what they leave out.",
            f"near: {config['near']:g}; what is nearer to the camera is not drawn.",
            f"antialiased: {config['antialiased']}, whether it was trained so (Mip-Splatting).",
            "home: in front of most Gaussians, y taken to point down.",
        )


class GsplatCheckpoint(_Scene):
    """gsplat's ``ckpt_*.pt``, ``{"step": ..., "splats": {...}}``, and parameters of these names alone.

    What training refined the cameras with (``pose_adjust``) is left out.
    """

    name = "gsplat"
    description = "gsplat's training checkpoint"

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The config; None if it is something else. Raises FormatError: some tensors are not there, or do not fit."""
        own = _splats(state)
        if not {"means", "quats", "scales"} <= own.keys():
            return None
        return _config(own, "a gsplat checkpoint")

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        return _splats(state)


def _splats(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept = {key: tensor for key, tensor in state.items() if not key.startswith("pose_adjust.")}
    return {key.removeprefix("splats."): tensor for key, tensor in kept.items()}


class OriginalCheckpoint(_Scene):
    """The original's ``chkpnt*.pth``: a tuple of what its ``capture()`` gives, and the iteration."""

    name = "gaussian-splatting"
    description = "The original's training checkpoint"

    def unpack(self, loaded: Any) -> dict[str, Tensor] | None:
        """The parameters in the tuple, under the names that they have here with ``captured.`` before them."""
        captured = loaded[0] if isinstance(loaded, tuple | list) and len(loaded) == 2 else None
        if not isinstance(captured, tuple | list) or len(captured) <= len(CAPTURE):
            return None
        tensors = captured[1 : 1 + len(CAPTURE)]
        if not all(isinstance(item, Tensor) for item in tensors):
            return None
        return {f"captured.{name}": tensor for name, tensor in zip(CAPTURE, tensors, strict=True)}

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The config; None if it is something else. Raises FormatError: the tensors do not fit each other."""
        if "captured.means" not in state:
            return None
        return _config(self.convert(state, {}), "the original's checkpoint", rules="inria", near=0.2)

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        own = {key.removeprefix("captured."): tensor.detach() for key, tensor in state.items()}
        return {**own, "opacities": own["opacities"].flatten()}


class SplatPly(_Scene):
    """Gaussians in a .ply as 3D Gaussian splatting writes them: with or without normals, degree 0 to 3."""

    name = "splat-ply"
    description = "A .ply of Gaussians"
    endings = (".ply",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """The arrays of the scene. Raises FormatError naming attributes that are missing, and numbers that are not finite."""
        file = File(path)
        try:
            columns = {
                key for item in read_header(file, path.name).elements if item.name == "vertex" for key in item.columns
            }
            if missing := [key for key in NEEDED if key not in columns]:
                raise FormatError(
                    f"{path} holds no Gaussians: its points have no {', '.join(missing)}",
                    "Export it as the .ply of 3D Gaussian splatting; meshes and plain points are no scene that can be rendered",
                )
            geometry = read_geometry(path, path.name)
        except FormatError:
            raise
        except StzooError as problem:
            raise FormatError(problem.problem, problem.remedy) from problem
        return {key: torch.from_numpy(np.ascontiguousarray(geometry[key])) for key in (*ARRAYS.values(), "sh")}

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The config; None if it is something else."""
        if not {*ARRAYS.values(), "sh"} <= state.keys():
            return None
        return _config(self.convert(state, {}), "a .ply of Gaussians")

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        return parameters_of(state)
