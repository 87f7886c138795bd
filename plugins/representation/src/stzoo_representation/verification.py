"""From two pictures of any size to a decision, its distance, and the margin to the threshold; and a search among many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline, Requirements, media
from stzoo.errors import DatasetError, InputError
from stzoo.files import IMAGES, natural

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stzoo.predictor import Predictor

PAIR = ("first", "second")
"""The task's inputs."""


class Verification(Pipeline):
    """Both pictures, resized to what the network was made for, through it; the same if their distance is below its threshold.

    A network of this task is a :class:`stzoo_representation.siamese.Siamese`.
    """

    padded = False

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pictures; whether they are the same, by which the decision is judged, and the distance too."""
        return {name: row[name] for name in PAIR}, {"same": row["same"], "distance": float(row["same"])}

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Pictures ``first`` and ``second`` (B,C,H,W) in [0, 1] to the three outputs, (B,) each."""
        network: Any = module
        distance = network(*(resized(batch[name], self.requirements) for name in PAIR)).float()
        return {"same": distance < network.threshold, "distance": distance, "margin": network.threshold - distance}

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values."""
        found = {name: float(value) for name, value in outputs.items()}
        return found | {"same": bool(found["same"])}


def resized(pictures: Tensor, requirements: Requirements) -> Tensor:
    """Pictures (B,C,H,W) at the network's size, stretched if it is of other proportions; antialiased where they shrink."""
    import torch.nn.functional as F

    size = requirements.native_size
    if size is None or tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    found = F.interpolate(pictures.float(), tuple(size), mode="bilinear", align_corners=False, antialias=True)
    return found.to(pictures.dtype)


def embed(predictor: Predictor, pictures: Sequence[np.ndarray], batch_size: int = 32) -> Tensor:
    """Vectors (N,D) of pictures as the task's fields read them, (C,H,W) in [0, 1], of any sizes."""
    import torch

    network: Any = predictor.module
    found = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            part = [torch.from_numpy(item)[None] for item in pictures[start : start + batch_size]]
            batch = torch.cat([resized(item, predictor.requirements) for item in part])
            found.append(network.embed(batch.to(predictor.device, predictor.dtype)))
    return torch.cat(found)


def pair_distances(predictor: Predictor, examples: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Distances (N,) of the pairs of a data set, and whether they are the same (N,)."""
    import torch

    network: Any = predictor.module
    distances, same = [], []
    for start in range(0, len(examples), 32):
        part = [examples[index] for index in range(start, min(start + 32, len(examples)))]
        vectors = embed(predictor, [row[name] for row in part for name in PAIR])
        with torch.inference_mode():
            distances.append(network.compare(vectors[::2], vectors[1::2]).float().cpu().numpy())
        same += [bool(row["same"]) for row in part]
    return np.concatenate(distances), np.array(same)


def choose_threshold(distances: np.ndarray, same: np.ndarray, far: float | None = None) -> float:
    """The threshold where both kinds of errors are equally frequent; with ``far``, the largest that accepts no more than that
    share of the pairs that are different.

    Raises:
        DatasetError: the pairs are not of both kinds.
    """
    from stzoo_representation.verification_metrics import at_false_accepts, equal_error

    if not 0 < np.sum(same) < len(same):
        kind = "the same" if np.any(same) else "different"
        raise DatasetError(f"all {len(same)} pairs are {kind}: no threshold can be chosen", "Give pairs of both kinds")
    found = equal_error(distances, same)[1] if far is None else at_false_accepts(distances, same, far)[1]
    return max(found, float(np.finfo(np.float32).tiny))


def pixels(inputs: Mapping[str, np.ndarray], truth: Mapping[str, Any]) -> dict[str, Any]:
    """The mean squared difference of two pictures, grey and at 28x23 pixels, as a distance; the decision is always no."""
    import torch

    size = Requirements(native_size=(28, 23))
    first, second = (resized(torch.from_numpy(inputs[name])[None].mean(1, keepdim=True), size) for name in PAIR)
    distance = float((first - second).square().mean())
    return {"same": False, "distance": distance, "margin": -distance}


# --- one against many -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """One name of a gallery."""

    name: str
    distance: float
    """Of its closest picture."""
    margin: float
    """Threshold minus distance: above 0, it is the same."""
    path: Path
    """The closest picture."""


class Gallery:
    """Named pictures to search among: ``NAME.jpg``, or ``NAME/`` with one or several each.

    Args:
        predictor: a model of the task.
        folder: where the pictures are.

    Raises:
        InputError: there is no such folder, it has no pictures, or one cannot be read.
    """

    def __init__(self, predictor: Predictor, folder: str | Path) -> None:
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise InputError(f"there is no folder {root}", "Give one with pictures, NAME.jpg or NAME/1.jpg")
        found = sorted((*root.glob("*.*"), *root.glob("*/*.*")), key=lambda path: natural(str(path)))
        self.paths = [path for path in found if path.suffix.lower() in IMAGES]
        if not self.paths:
            raise InputError(f"the gallery {root} has no pictures", f"Endings: {', '.join(IMAGES)}")
        self.names = [path.stem if path.parent == root else path.parent.name for path in self.paths]
        self.predictor = predictor
        self.vectors = embed(predictor, [self._read(path) for path in self.paths])

    def _read(self, picture: Any) -> np.ndarray:
        found: np.ndarray = media.read_image(picture, "picture", self.predictor.requirements.channels)
        return found

    def search(self, picture: Any, top: int = 5) -> list[Match]:
        """The names that are closest to a picture (as ``predict`` takes it), the closest first. Raises InputError."""
        network: Any = self.predictor.module
        vector = embed(self.predictor, [self._read(picture)])
        distances = network.compare(self.vectors, vector.expand_as(self.vectors)).tolist()
        best: dict[str, Match] = {}
        for index in np.argsort(distances, kind="stable"):
            name, distance = self.names[index], distances[index]
            best.setdefault(name, Match(name, distance, network.threshold - distance, self.paths[index]))
        return list(best.values())[:top]
