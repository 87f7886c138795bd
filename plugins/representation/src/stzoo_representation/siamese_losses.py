"""Losses over distances, and which pairs and triplets of a batch they are taken over.

Contrastive: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, 2006, equation 4. Triplet and
semi-hard mining: Schroff, Kalenichenko and Philbin, FaceNet, https://arxiv.org/abs/1503.03832, section 3. Choosing within a
batch as in https://github.com/adambielski/siamese-triplet (commit 0c719f9).
"""

from __future__ import annotations

import torch
from torch import Tensor


def contrastive(squared: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    """``(same * d^2 + (1 - same) * max(margin - d, 0)^2) / 2`` of each pair, from squared distances d^2 (N,)."""
    apart = (margin - (squared + 1e-9).sqrt()).clamp(min=0).square()
    return (same * squared + (1 - same) * apart) / 2


def triplet(positive: Tensor, negative: Tensor, margin: float = 0.2) -> Tensor:
    """``max(d(a,p)^2 - d(a,n)^2 + margin, 0)`` of each triplet, from squared distances (N,)."""
    return (positive - negative + margin).clamp(min=0)


def squared_distances(vectors: Tensor) -> Tensor:
    """Squared Euclidean distances (N,N) of vectors (N,D); gradients stay finite where two are equal."""
    lengths = vectors.square().sum(-1)
    return (lengths[:, None] + lengths - 2 * vectors @ vectors.T).clamp(min=0)


def positive_pairs(people: Tensor) -> Tensor:
    """All pairs (P,2), the lower number first, of the pictures whose ``people`` (N,) are the same."""
    return (people[:, None] == people).triu(1).nonzero()


def hard_pairs(squared: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """All positive pairs (P,2), and as many negative ones (P or fewer, 2): the closest, by squared distances (N,N)."""
    positive, negative = positive_pairs(people), (people[:, None] != people).triu(1).nonzero()
    closest = squared[negative[:, 0], negative[:, 1]].argsort(stable=True)[: len(positive)]
    return positive, negative[closest]


def all_triplets(people: Tensor) -> Tensor:
    """For each positive pair every negative: (T,3) of anchor, positive, negative."""
    pairs = positive_pairs(people)
    chosen, negative = (people[pairs[:, 0], None] != people).nonzero().unbind(1)
    return torch.cat((pairs[chosen], negative[:, None]), 1)


def mined_triplets(squared: Tensor, people: Tensor, margin: float, mining: str) -> Tensor:
    """For each positive pair at most one negative whose loss is above 0: (T,3) of anchor, positive, negative.

    ``mining``: "hardest", the closest to the anchor; "semi-hard", the closest of those that are farther than the positive.
    """
    pairs = positive_pairs(people)
    anchor, positive = pairs.unbind(1)
    reach = squared[anchor, positive][:, None]
    allowed = people[anchor, None] != people
    if mining == "semi-hard":
        allowed &= squared[anchor] > reach
    found = squared[anchor].masked_fill(~allowed, float("inf"))
    value, negative = found.min(1)
    kept = value < reach[:, 0] + margin
    return torch.cat((pairs[kept], negative[kept, None]), 1)
