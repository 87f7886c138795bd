"""How super-resolution forests learn: in one go, without gradients. See :mod:`stzoo_super_resolution.forest`.

Trees grow level by level, all at once, each in a thread of its own. A node draws pairs of features and thresholds,
judges the splits on some of its samples and keeps the best (Schulter et al., CVPR 2015, section 3.2); a leaf's map is a
ridge regression. Alternating forests (Schulter et al., Alternating Regression Forests, CVPR 2013) learn at each level
what the forest does not predict yet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from stzoo import Recipe
from stzoo.errors import ConfigError, DatasetError
from stzoo_super_resolution.data import Pair
from stzoo_super_resolution.forest import (
    BORDER,
    PATCH,
    Forest,
    SRForest,
    design,
    gradients,
    patches,
    principal_components,
)
from stzoo_super_resolution.pipeline import to_luma
from stzoo_super_resolution.resize import imresize

CHUNK = 65536
"""Rows that are converted to float64 at a time."""
SPLITS = ("variance", "reconstruction", "balanced", "random")


# --- a node -----------------------------------------------------------------------------------------------------------


def ridge(features: Tensor, targets: Tensor, leaf: str = "linear", lam: float = 0.01) -> Tensor:
    """The map (D,P) from :func:`design` of features (n,K) to targets (n,P): least squares plus ``lam`` times its square.

    The bias is regularised like the rest, and ``lam`` does not grow with n, as in the official code; ``constant`` is the
    plain mean. Computed in float64.
    """
    if leaf == "constant":
        return targets.double().mean(0, keepdim=True).to(targets.dtype)
    width = design(features[:0], leaf).shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64)
    moment = torch.zeros(width, targets.shape[1], dtype=torch.float64)
    for x, y in zip(torch.split(features, CHUNK), torch.split(targets, CHUNK), strict=True):
        rows = design(x.double(), leaf)
        gram.addmm_(rows.T, rows)
        moment.addmm_(rows.T, y.double())
    gram.diagonal().add_(lam)
    solved: Tensor = torch.linalg.solve(gram, moment)
    return solved.to(targets.dtype)


def split_quality(
    features: Tensor, targets: Tensor, left: Tensor, kind: str = "variance", kappa: float = 1.0, lam: float = 0.01
) -> Tensor:
    """How bad splits of a node are, (C,): the mean error of both sides, weighted by their samples.

    Args:
        features: (n,K).
        targets: (n,P).
        left: (C,n), which samples go to the left, for C candidates.
        kind: the error of a side. ``variance``: the mean variance of the targets; ``reconstruction``: the root of the mean
            squared residual of a ridge regression; ``balanced``: the squared difference of the sides' sizes, whatever
            they hold.
        kappa: above 0, the features count too: (error + kappa * mean variance of the features) / 2.
        lam: of the ridge regression.
    """
    counts = torch.stack((left.sum(1), (~left).sum(1)), dim=1).double()
    if kind == "balanced":
        return (counts[:, 0] - counts[:, 1]).square()
    x, y = features.double(), targets.double()
    sides = torch.stack((left, ~left), dim=1).double()  # (C,2,n)
    error = _variance(y, sides, counts) if kind == "variance" else _residual(x, y, sides, counts, lam)
    if kappa > 0:
        error = (error + kappa * _variance(x, sides, counts)) / 2
    return (counts * error).sum(1) / counts.sum(1)


def _variance(values: Tensor, sides: Tensor, counts: Tensor) -> Tensor:
    """The unbiased variance of each side, (C,2), averaged over the columns of (n,P)."""
    centred = values - values.mean(0)  # so that the difference below loses no digits
    total = sides @ centred
    squares = sides @ centred.square().sum(1)
    return (squares - total.square().sum(2) / counts) / ((counts - 1).clamp(min=1) * values.shape[1])


def _residual(x: Tensor, y: Tensor, sides: Tensor, counts: Tensor, lam: float) -> Tensor:
    """sqrt(sum of squared residuals / n) of a ridge regression with bias on each side, (C,2)."""
    rows = design(x, "linear")
    outer = (rows[:, :, None] * torch.cat((rows, y), dim=1)[:, None, :]).flatten(1)  # every sample's part of the sums
    width = rows.shape[1]
    sums = (sides.flatten(0, 1) @ outer).view(-1, width, width + y.shape[1])
    gram, moment = sums[..., :width], sums[..., width:]
    gram = gram + lam * torch.eye(width, dtype=gram.dtype)
    maps: Tensor = torch.linalg.solve(gram, moment).view(*sides.shape[:2], width, -1)
    squared = (rows @ maps - y).square().sum(-1)  # (C,2,n)
    return ((squared * sides).sum(-1) / counts).sqrt()


@dataclass(frozen=True)
class Search:
    """How a node looks for its split; the defaults are the official demo's.

    Args of the constructor are the recipe's, see :class:`SRForestRecipe`.
    """

    split: str = "variance"
    kappa: float = 1.0
    lam: float = 0.01
    min_child: int = 64
    node_samples: int = 512
    thresholds: int = 5

    def __call__(
        self, features: Tensor, targets: Tensor, rows: Tensor, generator: torch.Generator
    ) -> tuple[int, int, float] | None:
        """The best of some random splits of the samples ``rows``: two features and a threshold; None if none is valid.

        As many pairs are drawn as the root of the number of features; each is tried with the median and with random
        thresholds in the lower 95 % of its range. A split is valid if both sides keep ``min_child`` samples.
        """
        some = rows[torch.randint(len(rows), (min(self.node_samples, len(rows)),), generator=generator)]
        width = features.shape[1]
        drawn = max(1, round(width**0.5))
        pairs = torch.randint(width, (drawn, 2), generator=generator)
        x = features[some]
        differences = x[:, pairs[:, 0]] - x[:, pairs[:, 1]]  # (n,F)
        low, high = differences.aminmax(dim=0)
        share = 0.95 * torch.rand(self.thresholds, drawn, generator=generator, dtype=low.dtype)
        thresholds = torch.cat((low + share * (high - low), differences.median(0).values[None]))  # (S,F)
        left = (differences[:, None] < thresholds).flatten(1).T  # (S*F,n)
        useful = (left.any(1) & ~left.all(1)).nonzero()[:, 0]
        if not len(useful):
            return None
        if self.split == "random":
            quality = torch.rand(len(useful), generator=generator)
        else:
            quality = split_quality(x, targets[some], left[useful], self.split, self.kappa, self.lam)
        for candidate in useful[quality.argsort()].tolist():
            first, second = pairs[candidate % drawn].tolist()
            threshold = float(thresholds.flatten()[candidate])
            fewer = int((features[rows, first] - features[rows, second] < threshold).sum())
            if min(fewer, len(rows) - fewer) >= self.min_child:
                return first, second, threshold
        return None


# --- the trees --------------------------------------------------------------------------------------------------------

Choose = Callable[[int, int, Tensor, Tensor], "tuple[int, int, float] | None"]
"""From tree, node, samples (rows) and current targets (n,P) to the node's split, or None to leave it a leaf."""


@dataclass
class Tree:
    """A tree while it grows; node 0 is the root, two children have consecutive numbers."""

    members: dict[int, Tensor]
    """The rows in each node of the newest level, and in each leaf."""
    pair: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    threshold: list[float] = field(default_factory=lambda: [0.0])
    child: list[int] = field(default_factory=lambda: [0])
    maps: dict[int, Tensor] = field(default_factory=dict)
    newest: list[int] = field(default_factory=lambda: [0])

    @property
    def leaves(self) -> int:
        return (len(self.child) + 1) // 2

    def divide(self, node: int, split: tuple[int, int, float], features: Tensor) -> None:
        """Give a leaf two children."""
        first, second, threshold = split
        rows, child = self.members.pop(node), len(self.child)
        left = features[rows, first] - features[rows, second] < threshold
        self.pair[node], self.threshold[node], self.child[node] = (first, second), threshold, child
        for offset, part in enumerate((rows[left], rows[~left])):
            self.pair.append((0, 0))
            self.threshold.append(0.0)
            self.child.append(child + offset)
            self.members[child + offset] = part
            self.newest.append(child + offset)


@dataclass(frozen=True)
class Growth:
    """How far trees grow, and what their leaves hold. See :class:`SRForestRecipe`."""

    leaf: str = "linear"
    leaves: int = 2**15
    depth: int = 15
    lam: float = 0.01
    min_samples: int = 128
    alternating: bool = False
    shrinkage: float = 1.0


def grow(
    features: Tensor, targets: Tensor, trees: int, choose: Choose, growth: Growth, threads: int = 1
) -> Iterator[tuple[list[Tree], Tensor]]:
    """Grow trees on features (n,K) and targets (n,P); yields them with the forest's prediction (n,P) as it learns.

    An alternating forest yields after each level, any other one only at the end. Where ``leaves`` allows fewer splits than
    a level has nodes, those with most samples are split.
    """
    grown = [Tree({0: torch.arange(len(features))}) for _ in range(trees)]
    prediction, residual = torch.zeros_like(targets), targets
    with ThreadPoolExecutor(threads) as pool:
        if growth.alternating:
            root = ridge(features, targets, growth.leaf, growth.lam)
            for tree in grown:
                tree.maps[0] = root
            prediction = design(features, growth.leaf) @ root
            yield grown, prediction
        for _ in range(growth.depth):
            if growth.alternating:
                residual = targets - prediction

            def level(number: int, residual: Tensor = residual) -> None:
                _level(grown[number], number, features, residual, choose, growth)

            list(pool.map(level, range(trees)))
            if not any(tree.newest for tree in grown):
                break
            if growth.alternating:
                for tree in grown:
                    _add_correction(prediction, tree, features, growth, trees)
                yield grown, prediction
        if not growth.alternating:

            def finish(tree: Tree) -> None:
                tree.maps = {
                    node: ridge(features[rows], targets[rows], growth.leaf, growth.lam)
                    for node, rows in tree.members.items()
                }

            list(pool.map(finish, grown))
            for tree in grown:
                for node, rows in tree.members.items():
                    prediction[rows] += design(features[rows], growth.leaf) @ tree.maps[node] / trees
            yield grown, prediction


def _level(tree: Tree, number: int, features: Tensor, residual: Tensor, choose: Choose, growth: Growth) -> None:
    """Split the newest nodes; in an alternating forest each child adds to its parent's map what it finds left over."""
    nodes, tree.newest = tree.newest, []
    splits: dict[int, tuple[int, int, float]] = {}
    for node in sorted(nodes, key=lambda node: -len(tree.members[node])):
        if tree.leaves + len(splits) >= growth.leaves or len(tree.members[node]) <= growth.min_samples:
            break
        if (split := choose(number, node, tree.members[node], residual)) is not None:
            splits[node] = split
    for node in sorted(splits):
        tree.divide(node, splits[node], features)
        if growth.alternating:
            for child in tree.newest[-2:]:
                rows = tree.members[child]
                found = ridge(features[rows], residual[rows], growth.leaf, growth.lam)
                tree.maps[child] = growth.shrinkage * tree.maps[node] + found


def _add_correction(prediction: Tensor, tree: Tree, features: Tensor, growth: Growth, trees: int) -> None:
    """Take over into the forest's prediction (n,P) by how much the newest leaves differ from their parents."""
    parents = {tree.child[node] + side: node for node in tree.maps for side in (0, 1) if tree.child[node] != node}
    for node in tree.newest:
        rows = tree.members[node]
        change = (tree.maps[node] - tree.maps[parents[node]]) / trees
        prediction[rows] += design(features[rows], growth.leaf) @ change


def store(grown: Sequence[Tree], forest: Forest) -> None:
    """Put grown trees into a network, in place."""
    trees, leaves = forest.maps.shape[:2]
    untouched = Forest(1, 1, trees, leaves, "constant")
    forest.child.copy_(untouched.child)
    forest.threshold.copy_(untouched.threshold)
    for tensor in (forest.pair, forest.slot, forest.maps):
        tensor.zero_()
    for number, tree in enumerate(grown):
        count = len(tree.child)
        child = torch.tensor(tree.child, dtype=torch.int32)
        forest.pair[number, :count] = torch.tensor(tree.pair, dtype=torch.int32)
        forest.child[number, :count] = child
        inner = child != torch.arange(count)
        forest.threshold[number, :count][inner] = torch.tensor(tree.threshold)[inner].to(forest.threshold.dtype)
        for place, node in enumerate(sorted(tree.members)):
            forest.slot[number, node] = place
            forest.maps[number, place] = tree.maps[node].to(forest.maps.dtype)


# --- the recipe -------------------------------------------------------------------------------------------------------


class SRForestRecipe(Recipe):
    """Grow a super-resolution forest on pictures. The defaults are the official demo's, unless said otherwise.

    Args:
        split: how a split is judged: ``variance``, ``reconstruction``, ``balanced`` or ``random``, see :func:`split_quality`.
        kappa: the weight of the features' variance in it.
        lam: of the ridge regressions in leaves (and in ``reconstruction``).
        min_samples: a node with no more samples stays a leaf.
        min_child: the fewest samples in a node.
        node_samples: on how many of its samples a node judges splits.
        thresholds: random thresholds tried for each pair of features, besides the median.
        depth: the most levels of a tree, besides the root. The config's ``leaves`` limits it too (the official code has no
            such limit).
        alternating: learn at each level what the forest does not predict yet (ARF).
        shrinkage: of the parent's map in a child's, in an alternating forest.
        patches: the most patches to learn from, drawn evenly from the pictures.
        threads: trees that grow at the same time; 0: as many as torch uses threads.

    Raises:
        ConfigError: a value out of range.
    """

    closed_form = True

    def __init__(
        self,
        split: str = "variance",
        kappa: float = 1.0,
        lam: float = 0.01,
        min_samples: int = 128,
        min_child: int = 64,
        node_samples: int = 512,
        thresholds: int = 5,
        depth: int = 15,
        alternating: bool = False,
        shrinkage: float = 1.0,
        patches: int = 2_000_000,
        threads: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split must be {', '.join(SPLITS)}, got {split!r}")
        if kappa < 0 or lam <= 0:
            raise ConfigError(f"kappa must be at least 0 and lam above 0, got {kappa} and {lam}")
        counts = {"min_samples": min_samples, "min_child": min_child, "node_samples": node_samples, "patches": patches}
        if wrong := [f"{name}={value}" for name, value in counts.items() if value < 1]:
            raise ConfigError(f"{wrong[0]}: it must be at least 1")
        if min(thresholds, depth, threads) < 0:
            raise ConfigError("thresholds, depth and threads must be at least 0")
        self.search = Search(split, kappa, lam, min_child, node_samples, thresholds)
        self.growth = Growth("", 0, depth, lam, min_samples, alternating, shrinkage)
        self.patches, self.threads = patches, threads

    def fit(self, module: SRForest, samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:  # type: ignore[override]
        """Learn projection and trees, on the CPU, from the luma of pairs of pictures, ``sample["image"]``.

        Random numbers come from torch's generator. Returns numbers of patches, components and leaves, and the root mean
        squared error of the patches learnt from: bicubic, and the forest's.

        Raises:
            DatasetError: no picture has room for a patch.
        """
        network, module = module, copy.deepcopy(module).cpu()
        seed, scale = torch.initial_seed(), module.scale
        gram, total = torch.zeros(module.projection.shape[1], module.projection.shape[1], dtype=torch.float64), 0
        for mid, _ in _pictures(samples, scale):
            found = patches(gradients(mid, scale), scale)[0]
            gram.addmm_(found.T.double(), found.double())
            total += len(found)
        if not total:
            raise DatasetError(f"no picture has {(PATCH + 2 * BORDER) * scale} pixels a side", "Give larger pictures")
        basis = principal_components(gram)[1][:, : len(module.projection)]
        module.projection.zero_()[: basis.shape[1]] = basis.T
        generator, share = torch.Generator().manual_seed(seed), min(1.0, self.patches / total)
        drawn: list[tuple[Tensor, Tensor]] = []
        for mid, missing in _pictures(samples, scale):
            features, targets = module.features(mid), patches(missing, scale)[0]
            chosen = torch.randperm(len(targets), generator=generator)[: round(share * len(targets))]
            drawn.append((features[chosen], targets[chosen]))
        features, targets = (torch.cat(items) for items in zip(*drawn, strict=True))
        drawn.clear()
        before = targets.square().mean().sqrt()
        forest = module.forest
        number, leaves = forest.maps.shape[:2]
        generators = [torch.Generator().manual_seed(seed + tree) for tree in range(number)]

        def choose(tree: int, node: int, rows: Tensor, residual: Tensor) -> tuple[int, int, float] | None:
            return self.search(features, residual, rows, generators[tree])

        growth = replace(self.growth, leaf=forest.leaf, leaves=leaves)
        threads = self.threads or torch.get_num_threads()
        *_, (grown, prediction) = grow(features, targets, number, choose, growth, threads)
        store(grown, forest)
        network.load_state_dict(module.state_dict())
        return {
            "patches": len(targets),
            "components": basis.shape[1],
            "leaves": sum(tree.leaves for tree in grown),
            "rmse_bicubic": float(before),
            "rmse": float((targets - prediction).square().mean().sqrt()),
        }

    def sample_batch(self, module: SRForest) -> list[dict[str, Any]]:  # type: ignore[override]
        """Two pictures of smooth noise, as :meth:`fit` takes them."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(2, 1, 12, 12, generator=generator).numpy()
        high = [imresize(image, 4 * module.scale).clip(0, 1) for image in noise]
        return [{"image": Pair(imresize(image, 1 / module.scale), image)} for image in high]


def _pictures(samples: Sequence[Mapping[str, Any]], scale: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Luma of low-resolution pictures, enlarged (1,1,H,W), and what it lacks; those too small for a patch are left out."""
    for sample in samples:
        low, high = (to_luma(torch.from_numpy(image)[None]) for image in sample["image"])
        if min(high.shape[-2:]) >= (PATCH + 2 * BORDER) * scale:
            mid = imresize(low, scale)
            yield mid, high - mid
