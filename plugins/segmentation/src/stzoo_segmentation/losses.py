"""Losses of segmentation, by name, and the border weights of U-Net.

They take logits (B, K, H, W), in any precision, and classes (B, H, W); with K = 1, class 1 against the rest through a sigmoid,
else a softmax. Pixels of class 255 are left out. All give a scalar in float32. MONAI 1.6, which installs without torchvision,
leaves pixels out in Dice alone, counts classes that are not there as lost, and has no Lovász loss: hence these few lines.

Sums over classes are those of segmentation_models.pytorch (https://github.com/qubvel-org/segmentation_models.pytorch, MIT):
over all pixels of the batch, for each class, and the mean over classes, those that are not there counting nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stzoo.errors import ConfigError, InputError
from stzoo.media.masks import IGNORE

EPSILON = 1e-7


def checked(logits: Tensor, target: Tensor) -> Tensor:
    """The classes as int64. Raises InputError for another shape than the logits', and for classes beyond theirs."""
    if logits.ndim != 4 or target.shape != (len(logits), *logits.shape[2:]):
        raise InputError(
            f"classes of shape {tuple(target.shape)} for logits of shape {tuple(logits.shape)}",
            "Give logits (batch, classes, height, width) and classes (batch, height, width)",
        )
    target, known = target.long(), max(2, logits.shape[1])
    if (wrong := target[(target >= known) & (target != IGNORE)]).numel() or (target < 0).any():
        found = int(wrong.max()) if wrong.numel() else int(target.min())
        raise InputError(
            f"the mask has class {found}, the network tells {known} apart (0 to {known - 1})",
            f"Map its classes to these, mark pixels to leave out with {IGNORE}, or give the network more classes",
        )
    return target


def _planes(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, truth (0 or 1) and what counts (0 or 1), each (B, K, H*W), float32."""
    target = checked(logits, target)
    counts = (target != IGNORE)[:, None]
    if logits.shape[1] == 1:
        truth = (target == 1)[:, None]
    else:
        truth = F.one_hot(target.masked_fill(~counts[:, 0], 0), logits.shape[1]).movedim(-1, 1) * counts
    return logits.flatten(2).float(), truth.flatten(2).float(), counts.flatten(2).float()


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over axis 1, or the sigmoid of a single channel, in float32."""
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(1)


def _sums(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class over the batch: what probabilities and truth share, and what each is; (K,)."""
    flat, truth, counts = _planes(logits, target)
    found = probabilities(flat) * counts
    return (found * truth).sum((0, 2)), found.sum((0, 2)), truth.sum((0, 2))


def tversky(
    logits: Tensor, target: Tensor, alpha: float = 0.3, beta: float = 0.7, gamma: float = 1.0, smooth: float = 0.0
) -> Tensor:
    """1 less what is right, over that and ``alpha`` false positives and ``beta`` false negatives; to the power ``gamma``.

    Salehi et al., 2017 (arXiv:1706.05721). Halves give Dice (Milletari et al., 3DV 2016), ones the Jaccard index.
    ``smooth`` is added above and below.
    """
    shared, found, truth = _sums(logits, target)
    below = shared + alpha * (found - shared) + beta * (truth - shared)
    score = (shared + smooth) / (below + smooth).clamp_min(EPSILON)
    return ((1 - score) * (truth > 0)).mean() ** gamma


dice = partial(tversky, alpha=0.5, beta=0.5)
jaccard = partial(tversky, alpha=1.0, beta=1.0)


def batch_dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice of all pixels, classes and pictures in one sum.

    As mateuszbuda's brain-seg (a sigmoid, ``smooth=1``); with ``smooth=1e-6`` as milesial's U-Net, background included.
    """
    shared, found, truth = (item.sum() for item in _sums(logits, target))
    return 1 - (2 * shared + smooth) / (found + truth + smooth)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Cross-entropy of each class against the rest, less of it where it is small (Lin et al., ICCV 2017).

    ``alpha``: weight of a class's own pixels, 1 - alpha of the others.
    """
    flat, truth, counts = _planes(logits, target)
    entropy = F.binary_cross_entropy_with_logits(flat, truth, reduction="none")
    loss = (1 - (-entropy).exp()) ** gamma * entropy * counts
    if alpha is not None:
        loss = loss * (truth * alpha + (1 - truth) * (1 - alpha))
    return loss.sum() / (counts.sum() * flat.shape[1]).clamp_min(1)


def soft_bce(logits: Tensor, target: Tensor, smooth: float = 0.0) -> Tensor:
    """Binary cross-entropy of each class against the rest; ``smooth`` moves 0 and 1 as far towards each other."""
    flat, truth, counts = _planes(logits, target)
    truth = truth * (1 - smooth) + (1 - truth) * smooth
    loss = F.binary_cross_entropy_with_logits(flat, truth, reduction="none") * counts
    return loss.sum() / (counts.sum() * flat.shape[1]).clamp_min(1)


def lovasz(logits: Tensor, target: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss (Berman et al., CVPR 2018): its hinge for one channel, else its softmax.

    Classes that are not in the batch are left out.
    """
    target = checked(logits, target)
    counts = (target != IGNORE).flatten()
    classes = target.flatten()[counts]
    scores = logits.float().movedim(1, -1).flatten(0, 2)[counts]
    if not len(classes):
        return scores.sum()
    if scores.shape[1] == 1:
        truth = (classes == 1).float()
        return _lovasz(F.relu(1 - scores[:, 0] * (2 * truth - 1)), truth)
    scores, parts = scores.softmax(1), []
    for number in torch.unique(classes):
        truth = (classes == number).float()
        parts.append(_lovasz((truth - scores[:, number]).abs(), truth))
    return torch.stack(parts).mean()


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """The sorted errors times the gradient of the Jaccard loss (paper, algorithm 1)."""
    errors, order = errors.sort(descending=True)
    truth = truth[order]
    total = truth.sum()
    loss = 1 - (total - truth.cumsum(0)) / (total + (1 - truth).cumsum(0))
    return errors @ torch.cat((loss[:1], loss.diff()))


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    classes: Tensor | None = None,
    border: Tensor | None = None,
    *,
    normalise: bool = False,
) -> Tensor:
    """The mean over pixels that count; of one channel, binary.

    Args:
        logits, target: see the module.
        classes: weights of the classes (K,), or (2,) for one channel.
        border: what is added to them for each pixel (B, H, W): U-Net's equation 2 is the sum of both.
        normalise: divide by the sum of the weights instead of the number of pixels.
    """
    target = checked(logits, target)
    counts = target != IGNORE
    target = target.masked_fill(~counts, 0)
    if logits.shape[1] == 1:
        loss = F.binary_cross_entropy_with_logits(logits[:, 0].float(), target.float(), reduction="none")
    else:
        loss = F.cross_entropy(logits.float(), target, reduction="none")
    weights = counts.float()
    if classes is not None:
        weights = weights * classes.to(loss)[target]
    if border is not None:
        weights = weights + border * counts
    total = weights.sum() if normalise else counts.sum()
    return (loss * weights).sum() / total.clamp_min(EPSILON)


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross-entropy": cross_entropy,
    "dice": dice,
    "batch-dice": batch_dice,
    "milesial-dice": partial(batch_dice, smooth=1e-6),
    "jaccard": jaccard,
    "tversky": tversky,
    "focal": focal,
    "lovasz": lovasz,
    "soft-bce": soft_bce,
}
"""By name, each with its defaults. ``cross-entropy`` alone takes weights."""


def parse(text: str) -> dict[str, float]:
    """``"cross-entropy+0.5*dice"`` to the weight of each loss. Raises ConfigError naming what is not one."""
    found: dict[str, float] = {}
    for part in text.split("+"):
        factor, star, name = part.strip().rpartition("*")
        name = name.strip()
        try:
            weight = float(factor) if star else 1.0
        except ValueError:
            weight = math.nan
        if name not in LOSSES or not 0 < weight < math.inf:
            what = f"there is no loss {name!r}" if name not in LOSSES else f"{factor.strip()!r} is no weight of a loss"
            raise ConfigError(
                f"loss={text!r}: {what}", f"Losses, joined by +, each perhaps with 0.5* before: {', '.join(LOSSES)}"
            )
        found[name] = found.get(name, 0.0) + weight
    return found


# --- weights ----------------------------------------------------------------------------------------------------------


def border_distances(instances: np.ndarray, within: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    """From each pixel to the nearest and to the second nearest object, in pixels, float64 (H, W); 0 inside an object.

    ``instances``: (H, W), the number of each pixel's object; 0 for none. Infinite where no such object is near enough:
    distances up to ``within`` are looked for.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    nearest, second = (np.full(instances.shape, np.inf) for _ in range(2))
    for number, box in enumerate(find_objects(instances.astype(np.int32)), start=1):
        if box is None:
            continue
        if within < math.inf:
            border = math.ceil(within)
            box = tuple(slice(max(0, side.start - border), side.stop + border) for side in box)
        else:
            box = (slice(None), slice(None))
        distance = distance_transform_edt(instances[box] != number)
        second[box] = np.minimum(second[box], np.maximum(nearest[box], distance))
        nearest[box] = np.minimum(nearest[box], distance)
    return nearest, second


def border_weights(instances: np.ndarray, weight: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """What is added to a pixel's weight between objects, float32 (H, W): U-Net's equation 2 without the balance of classes.

    ``weight * exp(-(d1 + d2)^2 / (2 sigma^2))`` with the distances of :func:`border_distances`; 0 inside objects, and where
    the second one is further away than 6 ``sigma``, which is less than 1e-7 of ``weight``.
    """
    nearest, second = border_distances(instances, 6 * sigma)
    border = weight * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(instances == 0, border, 0).astype(np.float32)


def inverse_frequency(counts: np.ndarray) -> np.ndarray:
    """Weights of classes from their numbers of pixels: 1 over them, that of the most frequent class being 1; 0 for absent ones."""
    return np.where(counts > 0, counts.max() / np.maximum(counts, 1), 0.0)


def median_frequency(pixels: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Weights of classes: the median of their frequencies over each one's (Eigen and Fergus, ICCV 2015, section 3.3.2).

    ``pixels``: of each class; ``around``: of all pictures in which it is. Classes that are nowhere get 0.
    """
    frequency = pixels / np.maximum(around, 1)
    known = frequency > 0
    median = np.median(frequency[known]) if known.any() else 0.0
    return np.where(known, median / np.where(known, frequency, 1), 0.0)
