"""How a Siamese network learns: from pairs, or from the triplets that a batch of pairs holds; and how its threshold is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stzoo import Recipe, Requirements
from stzoo.errors import ConfigError, DatasetError
from stzoo.recipe import lr_schedule
from stzoo_representation import siamese_losses as losses
from stzoo_representation.verification import PAIR, choose_threshold, pair_distances, resized

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from stzoo.predictor import Predictor

LOSSES = ("triplet", "contrastive")
MINING = ("semi-hard", "hardest", "all")
UNKNOWN = -1
"""The number of a person that is not known."""


class SiameseRecipe(Recipe):
    """Triplet or contrastive loss, Adam, and a threshold chosen on the held-out pairs.

    A batch of B pairs has 2B pictures. Where it is known whose they are, the triplet loss is taken over the triplets among all of
    them, the contrastive loss over all pairs of one person and as many of the closest others; else, and where a batch is a single
    pair, the contrastive loss is taken over the pairs that were given.

    Args:
        loss: "triplet" (squared distances) or "contrastive".
        mining: of the triplet loss: "semi-hard", "hardest" or "all" triplets.
        margin: of the loss.
        far: the threshold accepts no more than this share of the held-out pairs that are different; None: it is where both kinds
            of errors are equally frequent.
        lr: of Adam; it falls to 0 along a cosine.
        weight_decay: of AdamW.
        flip: mirror every second picture.
        turn, zoom, shift: pictures are turned by up to so many degrees, enlarged or reduced by up to this factor's share, and moved
            by up to this share of their size.
        light: brightness and contrast change by up to this share.

    Raises:
        ConfigError: an option is none of those there are, or out of range.
    """

    def __init__(
        self,
        loss: str = "triplet",
        mining: str = "semi-hard",
        margin: float = 0.2,
        far: float | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        flip: bool = True,
        turn: float = 5.0,
        zoom: float = 0.05,
        shift: float = 0.03,
        light: float = 0.2,
    ) -> None:
        for name, value, known in (("loss", loss, LOSSES), ("mining", mining, MINING)):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if margin <= 0 or lr <= 0 or not 0 <= zoom < 1 or not 0 <= light < 1:
            raise ConfigError("margin and lr must be above 0, zoom and light from 0 to below 1")
        if far is not None and not 0 <= far <= 1:
            raise ConfigError(f"far must be from 0 to 1, got {far:g}")
        self.loss, self.mining, self.margin, self.far = loss, mining, margin, far
        self.lr, self.weight_decay = lr, weight_decay
        self.flip, self.turn, self.zoom, self.shift, self.light = flip, turn, zoom, shift, light
        self.threshold: float | None = None

    # --- what to learn from -------------------------------------------------------------------------------------------

    def sample(
        self, item: Mapping[str, Any], requirements: Requirements, rng: np.random.Generator
    ) -> Mapping[str, np.ndarray]:
        """``pictures`` (2,C,H,W) at the network's size, whether they are the ``same``, and the ``people`` (2,) in them."""
        pictures = [resized(torch.from_numpy(item[name])[None], requirements) for name in PAIR]
        people = [item.get(f"{name}_person") for name in PAIR]
        known = None not in people
        return {
            "pictures": torch.cat([self.changed(picture, rng) for picture in pictures]).numpy(),
            "same": np.float32(item["same"]),  # type: ignore[dict-item]
            "people": np.array(people if known else [UNKNOWN, UNKNOWN]),
        }

    def changed(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """A picture (1,C,H,W), mirrored, turned, enlarged, moved and relit at random."""
        height, width = picture.shape[-2:]
        angle, zoom = math.radians(self.turn * rng.uniform(-1, 1)), 1 + self.zoom * rng.uniform(-1, 1)
        move, mirror = 2 * self.shift * rng.uniform(-1, 1, 2), -1 if self.flip and rng.random() < 0.5 else 1
        contrast, brightness = 1 + self.light * rng.uniform(-1, 1), self.light * rng.uniform(-1, 1) / 2
        cos, sin, ratio = math.cos(angle) / zoom, math.sin(angle) / zoom, height / width
        matrix = [[mirror * cos, -mirror * sin * ratio, move[0]], [sin / ratio, cos, move[1]]]
        grid = F.affine_grid(torch.tensor([matrix], dtype=torch.float32), [1, 1, height, width], align_corners=False)
        found = F.grid_sample(picture, grid, padding_mode="border", align_corners=False)
        mean = found.mean()
        return ((found - mean) * contrast + mean + brightness).clamp(0, 1)

    # --- how to learn -------------------------------------------------------------------------------------------------

    def losses(self, module: nn.Module, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """The one loss of the options. Raises DatasetError: triplets need to know the people."""
        network: Any = module
        vectors, people = network.embed(batch["pictures"].flatten(0, 1)), batch["people"].flatten()
        known = bool((people != UNKNOWN).all())
        if self.loss == "triplet" and len(people) > 2:
            if not known:
                raise DatasetError(
                    "triplets need to know who is in the pictures: the data has no first_person and second_person",
                    "Add these columns, or set recipe.loss=contrastive",
                )
            return {"triplet": self.triplet(vectors, people)}
        if not known or len(people) == 2:
            distances = (vectors[::2] - vectors[1::2]).square().sum(-1)
            return {"contrastive": losses.contrastive(distances, batch["same"], self.margin).mean()}
        squared = losses.squared_distances(vectors)
        positive, negative = losses.hard_pairs(squared.detach(), people)
        same = torch.cat((squared.new_ones(len(positive)), squared.new_zeros(len(negative))))
        chosen = torch.cat((positive, negative))
        found = losses.contrastive(squared[chosen[:, 0], chosen[:, 1]], same, self.margin)
        return {"contrastive": found.sum() / max(1, len(chosen))}

    def triplet(self, vectors: Tensor, people: Tensor) -> Tensor:
        """The mean loss of the mined triplets; 0 where there are none."""
        squared = losses.squared_distances(vectors)
        if self.mining == "all":
            chosen = losses.all_triplets(people)
        else:
            chosen = losses.mined_triplets(squared.detach(), people, self.margin, self.mining)
        anchor, positive, negative = chosen.unbind(1)
        return losses.triplet(squared[anchor, positive], squared[anchor, negative], self.margin).sum() / max(
            1, len(chosen)
        )

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """AdamW, its rate falling to 0 along a cosine."""
        chosen = torch.optim.AdamW(self.groups(module, self.lr), weight_decay=self.weight_decay)
        return [(chosen, LambdaLR(chosen, lr_schedule("cosine", total_steps)))]

    # --- the threshold ------------------------------------------------------------------------------------------------

    def calibrate(self, predictor: Predictor, held_out: Sequence[Mapping[str, Any]]) -> None:
        """Choose the threshold on the held-out pairs: see :func:`stzoo_representation.verification.choose_threshold`."""
        network: Any = predictor.module
        network.threshold = self.threshold = choose_threshold(*pair_distances(predictor, held_out), self.far)

    def config(self, module: nn.Module) -> dict[str, Any]:
        """The threshold that was chosen."""
        return {} if self.threshold is None else {"threshold": self.threshold}

    def state_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.threshold = state["threshold"]

    # --- for tests ----------------------------------------------------------------------------------------------------

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two pairs of stripes, up and across, with noise."""
        network: Any = module
        generator = torch.Generator().manual_seed(0)
        height, width = (80, 80) if network.averages else network.size
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        stripes = torch.stack([(axis // 6 % 2).float() for axis in (rows, columns)])[:, None, None]
        noise = torch.rand(2, 2, network.channels, height, width, generator=generator)
        pictures = (stripes + noise) / 2
        return {"pictures": pictures, "same": torch.ones(2), "people": torch.tensor([[0, 0], [1, 1]])}


class KochRecipe(SiameseRecipe):
    """Cross-entropy of the probability of being the same, over the pairs that are given, with Adam.

    Args:
        far, lr, weight_decay, flip, turn, zoom, shift, light: see :class:`SiameseRecipe`.
    """

    def __init__(
        self,
        far: float | None = None,
        lr: float = 6e-5,
        weight_decay: float = 0.0,
        flip: bool = False,
        turn: float = 10.0,
        zoom: float = 0.2,
        shift: float = 0.02,
        light: float = 0.0,
    ) -> None:
        super().__init__(
            far=far, lr=lr, weight_decay=weight_decay, flip=flip, turn=turn, zoom=zoom, shift=shift, light=light
        )

    def losses(self, module: nn.Module, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """The cross-entropy."""
        network: Any = module
        vectors = network.embed(batch["pictures"].flatten(0, 1))
        logits = network.similarity(vectors[::2], vectors[1::2])
        return {"cross_entropy": F.binary_cross_entropy_with_logits(logits, batch["same"])}

    def sample_batch(self, module: nn.Module) -> dict[str, Tensor]:
        """Two pairs of stripes, one of which is up and across."""
        batch = super().sample_batch(module)
        batch["pictures"][1, 1] = batch["pictures"][0, 1]
        return batch | {"same": torch.tensor([1.0, 0.0]), "people": torch.tensor([[0, 0], [1, 0]])}
