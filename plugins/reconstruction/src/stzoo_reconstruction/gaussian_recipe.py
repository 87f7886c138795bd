"""How a scene of Gaussians is learnt from posed photographs: views, loss, learning rates, densification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError
from stzoo_reconstruction import densify, initialisation
from stzoo_reconstruction.cameras import Cameras, home_of
from stzoo_reconstruction.loss import photometric_loss
from stzoo_reconstruction.views import decoded, prepared

if TYPE_CHECKING:
    from torch.optim import Optimizer

RATES = {"means": 1.6e-4, "scales": 5e-3, "quats": 1e-3, "opacities": 5e-2, "sh0": 2.5e-3, "shN": 2.5e-3 / 20}
"""The paper's learning rates; that of means counts in units of the scene's extent."""
MEANS_DECAY = 0.01
"""What is left of the rate of means at the end."""
PRESETS: dict[str, dict[str, float | int]] = {
    "paper": {
        "lr": 1.0,
        "points": 100_000,
        "cap": 5_000_000,
        "threshold": 2e-4,
        "grow_from": 500,
        "grow_until": 0.5,
        "reset_every": 3000,
        "degree_every": 1 / 30,
    },
    "quick": {
        "lr": 2.0,
        "points": 3000,
        "cap": 20_000,
        "threshold": 4e-4,
        "grow_from": 200,
        "grow_until": 0.6,
        "reset_every": 0,
        "degree_every": 0.2,
    },
}
"""Values of the options that are left out."""
MINIMUM_OPACITY = 0.005
DENSE, LARGE = 0.01, 0.1
"""Of the scene's extent: larger Gaussians are split instead of cloned; still larger ones are removed."""


class GaussianRecipe(Recipe):
    """3D Gaussian splatting (Kerbl 2023): Adam on views, one by one, while Gaussians are cloned, split and removed.

    It starts at the points of the capture, if there are any, otherwise at random ones that the cameras see; a model's own
    Gaussians are kept when it is trained further.

    Args:
        preset: "quick": thousands of steps on small pictures, minutes on a CPU; "paper": its values, for 30,000 steps on a
            GPU. Options that are None are as :data:`PRESETS` has them.
        lr: by which the paper's learning rates (:data:`RATES`) are multiplied.
        points: Gaussians to start with where the capture has no points of its own.
        cap: at most so many Gaussians. Training takes about a kilobyte for each of them, apart from the pictures.
        threshold: of the mean length of the gradient with respect to a Gaussian's place in a view (in normalised device
            coordinates, from -1 to 1 over the picture): above it, it is cloned or split.
        grow_from, grow_every: the step after which, and in how many steps, Gaussians are cloned, split and removed.
        grow_until: the share of all steps after which their number stays.
        reset_every: steps between resets of opacity to 0.01 while Gaussians grow; after the first of them, Gaussians that are
            larger than a tenth of the scene's extent are removed. 0: never.
        degree_every: share of all steps after which the degree of the spherical harmonics rises by one, from 0; 0: all at
            once, as where a model is trained further.
        dissimilarity: weight of 1 - SSIM in the loss; L1 has the rest.
        memory: megabytes of pictures that are kept decoded; if they are more, each is read when it is its turn.

    Raises:
        ConfigError: the preset is neither, a value is out of range.
    """

    grows = True
    defaults = MappingProxyType({"batch_size": 1, "steps": 3000})
    without_gradient = ("shN",)  # until its degree is reached

    def __init__(
        self,
        preset: str = "quick",
        lr: float | None = None,
        points: int | None = None,
        cap: int | None = None,
        threshold: float | None = None,
        grow_from: int | None = None,
        grow_every: int = 100,
        grow_until: float | None = None,
        reset_every: int | None = None,
        degree_every: float | None = None,
        dissimilarity: float = 0.2,
        memory: int = 2000,
    ) -> None:
        if preset not in PRESETS:
            raise ConfigError(f"preset must be {' or '.join(map(repr, PRESETS))}, got {preset!r}")
        given = {
            "lr": lr,
            "points": points,
            "cap": cap,
            "threshold": threshold,
            "grow_from": grow_from,
            "grow_until": grow_until,
            "reset_every": reset_every,
            "degree_every": degree_every,
        }
        values = {name: _number(name, PRESETS[preset][name], value) for name, value in given.items()}
        self.preset, self.lr, self.threshold = preset, values["lr"], values["threshold"]
        self.points, self.cap = int(values["points"]), int(values["cap"])
        self.grow_from, self.grow_every, self.grow_until = int(values["grow_from"]), grow_every, values["grow_until"]
        self.reset_every, self.degree_every = int(values["reset_every"]), values["degree_every"]
        self.dissimilarity, self.memory = dissimilarity, memory
        if self.lr <= 0 or self.points < 1 or self.cap < 1 or grow_every < 1 or not 0 <= dissimilarity <= 1:
            raise ConfigError(
                "lr, points, cap and grow_every must be positive and dissimilarity from 0 to 1, "
                f"got {self.lr:g}, {self.points}, {self.cap}, {grow_every} and {dissimilarity:g}"
            )
        if not 0 <= self.grow_until <= 1 or not 0 <= self.degree_every <= 1 or self.threshold <= 0 or memory < 0:
            raise ConfigError(
                "grow_until and degree_every must be from 0 to 1, threshold positive and memory at least 0, "
                f"got {self.grow_until:g}, {self.degree_every:g}, {self.threshold:g} and {memory}"
            )
        self._cameras: Cameras | None = None
        self._views: Sequence[Mapping[str, Any]] = ()
        self._optimizer: Optimizer | None = None
        self._extent, self._total, self._new = 1.0, 1, True
        self._screens: list[tuple[Tensor, Tensor]] = []
        self._gradients, self._counts = torch.zeros(0), torch.zeros(0)

    # --- what to learn from -------------------------------------------------------------------------------------------

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """The views; decoded once if they fit into ``memory``. Raises DatasetError if a picture is not as large as its camera says."""
        views = decoded(examples, self.memory)
        self._views, self._cameras, self._capture = views.items, views.cameras, views.capture
        self._extent = initialisation.extent_of(self._cameras)
        return self._views

    def sample(self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator) -> dict[str, Any]:
        """``{"camera": (24,) float32, "image": (3,H,W) uint8}``."""
        return prepared(item)

    # --- how to learn -------------------------------------------------------------------------------------------------

    def start(self, module: nn.Module, trained: bool) -> None:
        """Place the Gaussians; random ones by torch's seed. Raises DatasetError if the cameras see nothing."""
        self._new = not trained
        if trained or self._cameras is None:
            return
        rng = np.random.default_rng(torch.initial_seed() % 2**63)
        found = _points_of(self._capture) if self._capture else None
        if found is None:
            count = min(self.points, self.cap)
            positions = initialisation.random_points(self._cameras, count, rng)
            colours = None
        else:
            positions, colours = found
            kept = np.sort(rng.permutation(len(positions))[: self.cap])
            positions, colours = positions[kept], None if colours is None else colours[kept]
        if colours is None:
            pictures = (self.sample(view, Requirements(), rng)["image"] for view in self._views)
            colours = initialisation.mean_colours(self._cameras, pictures, positions)
        initialisation.set_gaussians(module, positions, colours)
        network: Any = module
        network.home = home_of(self._cameras)

    def config(self, module: nn.Module) -> dict[str, Any]:
        """How many Gaussians there are now, and the view that shows them."""
        network: Any = module
        home = {"home": home_of(self._cameras)} if self._cameras is not None else {}
        return {"points": len(network.means)} | home

    def losses(self, module: nn.Module, batch: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """L1 and dissimilarity, means over the views of a batch."""
        network: Any = module
        rising = self._new and self.degree_every > 0
        degree = int(step / max(1.0, self.degree_every * self._total)) if rising else None
        images = []
        for camera in batch["camera"]:
            images.append(network.render(camera, degree=degree).image)
            if network.screen is not None:
                self._screens.append((network.screen, camera[20:22].flip(0) / 2))
        return photometric_loss(torch.stack(images), batch["image"].float() / 255, self.dissimilarity)

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Adam with a rate for each parameter; that of means falls exponentially to a hundredth."""
        self._total = total_steps
        groups = []
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                rate = self.lr * RATES[name] * self.lr_factor(name) * (self._extent if name == "means" else 1.0)
                groups.append({"params": [parameter], "lr": rate, "name": name})
        if not groups:
            raise ConfigError("every parameter is frozen", "Freeze fewer of them")
        self._optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
        schedules = [decay(total_steps) if group["name"] == "means" else _constant for group in groups]
        return [(self._optimizer, LambdaLR(self._optimizer, schedules))]

    def after_step(self, module: nn.Module, step: int) -> None:
        """Remember how far Gaussians were pulled in the views of this step; every now and then, change their number."""
        done, last = step + 1, self.grow_until * self._total
        if done > last:
            self._screens.clear()
            return
        self._watch(module)
        assert self._optimizer is not None
        if done > self.grow_from and done % self.grow_every == 0:
            self._grow(module, self._optimizer, done)
            self._gradients, self._counts = torch.zeros(0), torch.zeros(0)
        if self.reset_every and done % self.reset_every == 0 and done < last:
            densify.reset_opacity(module, self._optimizer)

    def _watch(self, module: nn.Module) -> None:
        network: Any = module
        if not len(self._counts):
            self._gradients, self._counts = torch.zeros(2, len(network.opacities))
        device = network.opacities.device
        self._gradients, self._counts = self._gradients.to(device), self._counts.to(device)
        for screen, half in self._screens:
            if screen.grad is not None:  # None: no Gaussian was seen
                pull = (screen.grad * half * len(self._screens)).norm(dim=1)  # the loss is a mean over views
                self._gradients += pull
                self._counts += pull > 0
        self._screens.clear()

    def _grow(self, module: nn.Module, optimizer: Optimizer, done: int) -> None:
        network: Any = module
        pull = self._gradients / self._counts.clamp(min=1)
        chosen, room = pull >= self.threshold, self.cap - len(pull)
        if int(chosen.sum()) > room:
            chosen = torch.zeros_like(chosen)
            chosen[pull.topk(max(room, 0)).indices] = True
        densify.grow(module, optimizer, chosen, DENSE * self._extent)
        keep = network.opacities.sigmoid() >= MINIMUM_OPACITY
        if self.reset_every and done > self.reset_every:  # before, Gaussians may have to be large
            keep &= network.scales.amax(1).exp() <= LARGE * self._extent
        if keep.any():
            densify.prune(module, optimizer, keep)

    def state_dict(self) -> dict[str, Any]:
        return {"gradients": self._gradients, "counts": self._counts, "new": self._new}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gradients, self._counts, self._new = state["gradients"], state["counts"], state["new"]

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two views from opposite sides of a red disc on white."""
        from stzoo_reconstruction.cameras import orbit

        y, x = np.mgrid[-1:1:64j, -1:1:64j]
        disc = np.where(x * x + y * y < 0.25, np.array([200, 30, 30])[:, None, None], 255).astype(np.uint8)
        cameras = orbit((), 2).array.astype(np.float32)
        return {"camera": torch.from_numpy(cameras), "image": torch.from_numpy(np.stack([disc, disc]))}


def decay(total_steps: int) -> Any:
    """The factor of the rate of means after so many steps: exponential, from 1 to a hundredth."""
    return lambda step: MEANS_DECAY ** min(1.0, step / max(total_steps, 1))


def _points_of(capture: Any) -> Any:
    from stzoo_reconstruction.captures import points_of

    return points_of(capture)


def _constant(step: int) -> float:
    return 1.0


def _number(name: str, default: float, value: Any) -> float:
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or (isinstance(default, int) and value != int(value))
    ):
        raise ConfigError(f"{name} must be a {'whole ' * isinstance(default, int)}number, got {value!r}")
    return value
