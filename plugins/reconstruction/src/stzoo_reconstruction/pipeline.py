"""Scenes seen from cameras: one view, a path, a turntable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import InputError
from stzoo.media.geometry import Geometry, as_geometry, upright
from stzoo.predictor import Partial, tensor_of
from stzoo_reconstruction.cameras import Cameras, Rendered, checked_home, interpolated, look_at, orbit

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST = 64e6
"""Pixels of all views of one prediction."""


class NovelView(Pipeline):
    """The scene from each camera of a path; without cameras, from the network's own home view, turned as the options say.

    A network of this task has ``render(camera (24,)) -> Rendered``, ``scene() -> arrays of a Geometry`` and ``home``, 30 numbers
    (:mod:`stzoo_reconstruction.cameras`).
    """

    raw = True

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The cameras as they are; None where there are none."""
        return {"cameras": values.get("cameras")}

    def forward(self, module: nn.Module, batch: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Partial]:  # type: ignore[override]
        """``batch["cameras"]``: for each item Cameras, or None. Raises InputError for options that do not go together."""
        scene: Any = module
        paths = [path(scene.home, item, options) for item in batch["cameras"]]
        made: list[dict[str, Any]] = []
        total, done = sum(map(len, paths)), 0
        for cameras in paths:
            views: list[Rendered] = []
            for camera in cameras.array:
                views.append(rendered(scene, camera))
                done += 1
                if done < total:
                    yield Partial({}, done / total, f"view {done} of {total}")
            made.append(self.outputs(scene, views, options))
        yield Partial({name: [item[name] for item in made] for name in made[0]})

    def outputs(self, module: Any, views: list[Rendered], options: Mapping[str, Any]) -> dict[str, Any]:
        """What is given of one item, by name."""
        pictures = [view.image.float().clamp(0, 1).cpu().numpy() for view in views]
        found: dict[str, Any] = {"image": pictures[0]}
        if len(pictures) > 1 or options["frames"]:
            found["video"] = np.stack(pictures)
        if options["depth"]:
            depth = views[0].depth.float().cpu().numpy()
            found["depth"] = np.where(depth > 0, depth, np.float32(np.nan))
        if options["scene"]:
            found["scene"] = scene_of(module)
        return found


def path(home: Any, given: Cameras | None, options: Mapping[str, Any]) -> Cameras:
    """The cameras that the options ask for, of one size.

    Args:
        home: 30 numbers, the view that is taken where no camera is given.
        given: cameras, of which one takes the place of the home view, and several are a path.
        options: of the task.

    Raises:
        InputError: the options do not go together, or ask for too many pixels.
    """
    turned = {name: options[name] for name in ("azimuth", "elevation", "zoom")}
    frames = options["frames"]
    if given is not None and len(given) > 1:
        if turned != {"azimuth": 0, "elevation": 0, "zoom": 1}:
            raise InputError(
                f"{len(given)} cameras, and azimuth, elevation or zoom", "These turn one view: leave them out"
            )
        cameras = interpolated(given, frames) if frames else alike(given)
    else:
        start = home if given is None else (*given.array[0], *np.concatenate(checked_home(home)[1:]))
        cameras = orbit(start, frames or 1, **turned)
    if options["size"]:
        cameras = cameras.resized(options["size"] / cameras.sizes[0].max())
    if (pixels := cameras.sizes.prod(1).sum()) > MOST:
        height, width = cameras.sizes[0].astype(int)
        raise InputError(
            f"{len(cameras)} views of {width}x{height} are {pixels / 1e6:.0f} million pixels, at most {MOST / 1e6:.0f} are drawn",
            "Give a smaller size, or fewer frames",
        )
    return cameras


def alike(cameras: Cameras) -> Cameras:
    """Cameras whose pictures have the size of the first: scaled to its height, and cut or widened at both sides."""
    height, width = cameras.sizes[0]
    scale = height / cameras.sizes[:, 0]
    focal, centre = cameras.intrinsics[:, :2] * scale[:, None], cameras.intrinsics[:, 2:] * scale[:, None]
    centre[:, 0] += (width - cameras.sizes[:, 1] * scale) / 2
    return Cameras.of(cameras.poses, np.concatenate([focal, centre], axis=1), cameras.sizes[0], cameras.bounds)


def rendered(module: Any, camera: np.ndarray) -> Rendered:
    """What a network sees from a camera (24 numbers)."""
    import torch

    place: Tensor = tensor_of(module)
    with torch.inference_mode():
        found: Rendered = module.render(torch.as_tensor(camera, dtype=torch.float32, device=place.device))
        return found


def scene_of(module: Any) -> Geometry:
    """The scene of a network, with where it is looked at from."""
    import torch

    with torch.inference_mode():
        made = as_geometry(module.scene())
    made.frame = frame_of(module.home)
    return made


def frame_of(home: Any) -> np.ndarray:
    """The similarity (4, 4) from a scene's axes to those in which it stands upright (:attr:`Geometry.frame`): y up, its
    centre at the origin, the camera of the home view before it, and what that sees at the centre's distance within 1."""
    camera, centre, up = checked_home(home)
    offset = camera.positions[0] - centre
    back = offset - (offset @ up) * up
    if np.linalg.norm(back) < 1e-6 * np.linalg.norm(offset):  # it looks straight down
        back = -camera.poses[0, :3, 1]
        back -= (back @ up) * up
    back /= np.linalg.norm(back)
    rotation = np.stack([np.cross(up, back), up, back])
    seen = (camera.sizes[0] / 2 / camera.intrinsics[0, 1::-1]).max() * max(float(np.linalg.norm(offset)), 1e-9)
    frame = np.eye(4)
    frame[:3, :3] = rotation / seen
    frame[:3, 3] = -frame[:3, :3] @ centre
    return frame


def looked_at(scene: Any, up: str, height: int = 360, width: int = 480) -> np.ndarray | None:
    """Gaussians from before them and obliquely above, (3, H, W) in [0, 1], on white; None of a scene of other things."""
    import torch

    from stzoo_reconstruction.gaussians import GaussianSplatting, parameters_of

    geometry = as_geometry(scene)
    if not geometry.gaussian:
        return None
    turn, middle, reach = upright(geometry, up)
    count, bands = geometry["sh"].shape[:2]
    with torch.inference_mode(False), torch.no_grad():
        network = GaussianSplatting(count, round(bands**0.5) - 1).eval()
        network.load_state_dict(parameters_of(geometry))
        camera = viewer(turn, middle, reach, height, width)
        return network.render(torch.from_numpy(camera.array[0]).float()).image.numpy()


def viewer(
    turn: np.ndarray, middle: np.ndarray, reach: float, height: int, width: int, focal: float | None = None
) -> Cameras:
    """A camera before a scene that stands upright as :func:`stzoo.media.geometry.upright` says: in the direction of z and half a
    radian above it, five times ``reach`` away, where the viewer of Gaussians in a browser starts too. ``focal``, in pixels: by
    default such that the picture is 2 ``reach`` high."""
    direction = np.array([0.0, np.sin(0.5), np.cos(0.5)]) @ turn
    pose = look_at(middle + 5 * reach * direction, middle, turn[1])
    focal = focal or 2.5 * height
    return Cameras.of(pose[None], (focal, focal, width / 2, height / 2), (height, width))
