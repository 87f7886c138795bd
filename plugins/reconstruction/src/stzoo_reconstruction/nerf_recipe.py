"""How a NeRF is learnt from posed photographs: rays, losses, the learning rate, and a word about how long it takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo_reconstruction.cameras import FAR, Cameras, home_of, standard_home
from stzoo_reconstruction.poses import recentring
from stzoo_reconstruction.rays import pixel_rays
from stzoo_reconstruction.views import decoded, prepared

if TYPE_CHECKING:
    from torch.optim import Optimizer

log = logging.getLogger("stzoo")

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"lr": 2e-3, "decay": 0, "rays": 1024, "views": "all", "precrop": 0, "noise": 0.5, "frame": "centred"},
    "blender": {"lr": 5e-4, "decay": 500_000, "rays": 1024, "views": "one", "precrop": 500, "noise": 0.0, "frame": "capture"},
    "llff": {"lr": 5e-4, "decay": 250_000, "rays": 4096, "views": "all", "precrop": 0, "noise": 1.0, "frame": "recentred"},
}  # fmt: skip
"""Values of the options that are left out."""
CENTRED = 4.0
"""How far from the origin cameras are in the frame "centred": as in Blender's synthetic scenes."""
NEAREST = 0.75
"""Where the nearest of what is seen is in the frame "recentred", as 1 over it: LLFF's ``bd_factor``."""
SLOW = 3600.0
"""Seconds from which on the time that learning takes on a CPU is worth a warning."""
TRIED = 4096
"""Samples on which that time is measured."""


class NeRFRecipe(Recipe):
    """Adam on squared errors of colours along random rays, of the coarse and of the fine network (Mildenhall et al. 2020).

    The paper's own configuration is ``preset=blender`` (or ``llff``, with ``model_config.ndc=true``) with a network of 8 layers
    of 256, ``samples=64`` and ``fine_samples=128``, 200,000 steps or more: for a GPU. On a CPU, a warning tells how long a run
    will take if that is more than an hour.

    Args:
        preset: "small": minutes on a CPU; "blender": the official configuration for synthetic scenes; "llff": the paper's for
            scenes photographed from the front. Options that are None are as :data:`PRESETS` has them.
        lr: the learning rate at first.
        decay: steps in which it falls to a tenth; 0: all that there are.
        rays: of one sample; the official code takes one sample a step (``batch_size=1``).
        views: "one": all rays of a sample belong to one photograph; "all": to any.
        precrop: steps at first that only look at the middle of pictures, half as high and wide, so that a scene on a white
            ground does not get lost.
        noise: standard deviation of what is added to densities.
        frame: in which axes the networks count: "capture": the capture's own; "centred": the origin is what the cameras look
            at, 4 units from them; "recentred": the average camera is at the origin and looks along -z, what is nearest is at
            4/3 units (LLFF).
        bounds: where rays start and end: "cameras": as far as cameras know, otherwise at a half and three halves of their
            distance to what they look at; "config": as the network's config says.
        look_every: steps from one look round for empty space to the next, in networks with ``cells``.
        memory: megabytes of pictures that are kept decoded; if they are more, each is read when it is its turn.

    Raises:
        ConfigError: an option is none of these, or out of range.
    """

    defaults = MappingProxyType({"batch_size": 1, "steps": 2500})

    def __init__(
        self,
        preset: str = "small",
        lr: float | None = None,
        decay: int | None = None,
        rays: int | None = None,
        views: str | None = None,
        precrop: int | None = None,
        noise: float | None = None,
        frame: str | None = None,
        bounds: str = "cameras",
        look_every: int = 4,
        memory: int = 2000,
    ) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(map(repr, PRESETS))}, got {preset!r}")
        given = {
            "lr": lr,
            "decay": decay,
            "rays": rays,
            "views": views,
            "precrop": precrop,
            "noise": noise,
            "frame": frame,
        }
        values = PRESETS[preset] | {name: value for name, value in given.items() if value is not None}
        for name, value, known in (
            ("views", values["views"], ("one", "all")),
            ("frame", values["frame"], ("capture", "centred", "recentred")),
            ("bounds", bounds, ("cameras", "config")),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        for name, least in (("lr", 1e-12), ("decay", 0), ("rays", 1), ("precrop", 0), ("noise", 0)):
            value, whole = values[name], isinstance(PRESETS[preset][name], int)
            if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool) or not value >= least:
                raise ConfigError(f"{name} must be a {'whole ' * whole}number of at least {least:g}, got {value!r}")
        if look_every < 1 or memory < 0:
            raise ConfigError(f"look_every must be positive and memory at least 0, got {look_every} and {memory}")
        self.preset, self.bounds, self.look_every, self.memory = preset, bounds, look_every, memory
        self.lr, self.decay, self.rays, self.noise = values["lr"], values["decay"], values["rays"], values["noise"]
        self.views, self.precrop, self.frame = values["views"], values["precrop"], values["frame"]
        self._views: Sequence[Mapping[str, Any]] = ()
        self._cameras: Cameras | None = None

    # --- what to learn from -------------------------------------------------------------------------------------------

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The views; decoded once if they fit into ``memory``.

        Raises:
            DatasetError: a picture is not as large as its camera says.
            ConfigError: rays are to come from all views, which do not fit.
        """
        views = decoded(examples, self.memory)
        if self.views == "all" and not views.whole:
            raise ConfigError(
                f"the pictures take more than {self.memory} MB, and each sample has rays of all",
                "Raise recipe.memory, reduce the pictures, or set recipe.views=one",
            )
        self._views, self._cameras = views.items, views.cameras
        return self._views

    def sample(self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator) -> dict[str, Any]:
        """``{"camera": (S,R,24), "pixels": (S,R,2) columns and rows, "colour": (S,R,3) in [0, 1]}``, float32.

        S is 1 or, if there is a ``precrop``, 2: rays through anywhere, and through the middle of the pictures.
        """
        shares = ((0.0, 1.0), (0.25, 0.75)) if self.precrop else ((0.0, 1.0),)
        found: dict[str, list[np.ndarray]] = {"camera": [], "pixels": [], "colour": []}
        for low, high in shares:
            if self.views == "all":
                chosen, counts = np.unique(rng.integers(len(self._views), size=self.rays), return_counts=True)
                views = [self._views[index] for index in chosen]
            else:
                views, counts = [prepared(item)], np.array([self.rays])
            parts = [_drawn(view, int(count), low, high, rng) for view, count in zip(views, counts, strict=True)]
            for name, values in zip(found, zip(*parts, strict=True), strict=True):
                found[name].append(np.concatenate(values))
        return {name: np.stack(values) for name, values in found.items()}

    # --- how to learn -------------------------------------------------------------------------------------------------

    def start(self, module: nn.Module, trained: bool) -> None:
        """Tell an untrained network where the scene is: its frame, its bounds and its home view."""
        network: Any = module
        if trained or self._cameras is None:
            return
        home = home_of(self._cameras)
        near, far = self._cameras.bounds[:, 0].min(), self._cameras.bounds[:, 1].max()
        distance = np.linalg.norm(self._cameras.positions - np.array(home[24:27]), axis=1)
        if not near > 0 or not far < FAR:
            near, far = 0.5 * distance.min(), 1.5 * distance.max()
        if self.bounds == "config":
            near, far = network.near, network.far
        frame = np.eye(4)
        if self.frame == "centred":
            frame[:3] *= CENTRED / distance.mean()
            frame[:3, 3] = -frame[0, 0] * np.array(home[24:27])
        elif self.frame == "recentred":
            frame = np.diag([*[1 / (NEAREST * near)] * 3, 1.0]) @ recentring(self._cameras.poses)
        network.near, network.far = float(near), float(far)
        network.set_home(home, frame.ravel().tolist())

    def config(self, module: nn.Module) -> dict[str, Any]:
        """Where the scene is."""
        network: Any = module
        frame = tuple(network.frame.ravel().tolist())
        return {"near": network.near, "far": network.far, "frame": frame, "home": network.home}

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Mean squared errors of the colours: ``coarse`` and, of a network that has one, ``fine``."""
        network: Any = module
        part = -1 if step < self.precrop else 0
        camera, pixels, colour = (batch[name][:, part].flatten(0, 1) for name in ("camera", "pixels", "colour"))
        origins, directions = pixel_rays(camera, pixels, network.pixel_centre)
        found, _ = network.trace(origins, directions, random=True, noise=self.noise)
        return {name: F.mse_loss(item.rgb, colour) for name, item in zip(("coarse", "fine"), found, strict=False)}

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Adam, whose rate falls exponentially. Warns, on a CPU, of what will take more than an hour."""
        optimizer = torch.optim.Adam(self.groups(module, self.lr), fused=True)
        if next(module.parameters()).device.type == "cpu":
            self._warn(module, total_steps)
        return [(optimizer, LambdaLR(optimizer, lambda step: 0.1 ** (step / max(self.decay or total_steps, 1))))]

    def after_step(self, module: nn.Module, step: int) -> None:
        """Look round for empty space, now and then."""
        network: Any = module
        if step % self.look_every == 0:
            network.look_around()

    def _warn(self, module: nn.Module, total_steps: int) -> None:
        network: Any = module
        samples = 2 * network.samples + network.fine_samples if network.fine else network.samples
        rays = max(1, min(self.rays, TRIED // samples))
        camera = torch.tensor(network.home[:24], dtype=torch.float32).expand(rays, 24)
        origins, directions = pixel_rays(camera, camera[:, 20:22].flip(1) / 2)
        started = time.perf_counter()
        with torch.enable_grad():
            found, _ = network.trace(origins, directions)
            torch.stack([item.rgb.mean() for item in found]).sum().backward()  # type: ignore[no-untyped-call]
        together = self.rays * self.samples_per_step
        seconds = (time.perf_counter() - started) * together / rays
        module.zero_grad()
        if total_steps * seconds > SLOW:
            log.warning(
                "nerf: on this CPU a step of %d rays with %d samples each takes about %.2g s, %d steps take "
                "%s: use a GPU, a smaller network (layers=4, width=64, samples=48, fine_samples=0), or fewer steps",
                together,
                samples,
                seconds,
                total_steps,
                duration(total_steps * seconds),
            )

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Rays of the standard home view, which see a red disc on white."""
        camera = torch.tensor(standard_home()[:24])
        y, x = torch.meshgrid(torch.arange(0.0, 64, 4), torch.arange(0.0, 64, 4), indexing="ij")
        pixels = torch.stack([x, y], -1).view(1, 1, -1, 2)
        disc = (pixels - 31.5).norm(dim=-1, keepdim=True) < 16
        colour = torch.where(disc, torch.tensor([0.8, 0.1, 0.1]), 1.0)
        return {"camera": camera.expand(1, 1, pixels.shape[2], 24), "pixels": pixels, "colour": colour}


def duration(seconds: float) -> str:
    """In words: ``"90 minutes"``, ``"5 hours"``, ``"30 days"``."""
    for length, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"about {seconds / length:.0f} {name}"
    return f"about {seconds:.0f} seconds"


def _drawn(
    view: Mapping[str, np.ndarray], count: int, low: float, high: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Camera (R, 24), pixels (R, 2) and colours (R, 3) at random places between these shares of a picture's sides."""
    height, width = view["image"].shape[1:]
    rows, columns = (
        rng.integers(int(low * side), max(int(high * side), int(low * side) + 1), count) for side in (height, width)
    )
    colours = view["image"][:, rows, columns].T.astype(np.float32) / 255
    return np.tile(view["camera"], (count, 1)), np.stack([columns, rows], 1).astype(np.float32), colours
