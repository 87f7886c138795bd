"""Super-resolution forests (Schulter, Leistner, Bischof: Fast and Accurate Image Upscaling with Super-Resolution Forests, CVPR 2015).

The bicubic enlargement of the luma is cut into overlapping patches. Gradients of each patch, projected by a PCA, go down the
trees; the leaf they end in holds a linear map from these features to what is missing: high resolution minus bicubic. The
maps' mean over the trees, averaged where patches overlap, is added to the enlargement. How trees are grown is in
:mod:`stzoo_super_resolution.forest_fit`.

Vectors of a patch, and the grid of patches, are column-major as in the official MATLAB code. Its model files (MATLAB v7.3,
``srforestStore`` and ``Tmats``) are not read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stzoo import Requirements
from stzoo.errors import ConfigError
from stzoo_super_resolution.resize import imresize

PATCH = 3
"""Side of a patch in low-resolution pixels; neighbouring patches are one such pixel apart."""
BORDER = 1
"""Low-resolution pixels along the border that no patch covers: there the result is the bicubic enlargement."""

CHUNK = 2**17
"""Patches that go through the trees together: what this needs of memory does not grow with the picture."""


# --- features ---------------------------------------------------------------------------------------------------------


def gradients(image: Tensor, scale: int) -> Tensor:
    """First and second derivatives ``scale`` pixels apart: (B,1,H,W) to (B,4,H,W).

    In order: first along rows, first along columns, second along rows, second along columns. MATLAB's
    ``conv2(image, filter, 'same')``: a true convolution of the image with zeros around it.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (scale, scale, scale, scale))

    def shifted(down: int, right: int) -> Tensor:
        return padded[..., scale + down :, scale + right :][..., :height, :width]

    ahead = (scale + 1) // 2
    behind = ahead - scale
    first = (shifted(0, ahead) - shifted(0, behind), shifted(ahead, 0) - shifted(behind, 0))
    second = (shifted(0, scale) + shifted(0, -scale), shifted(scale, 0) + shifted(-scale, 0))
    return torch.cat((*first, *(item / 2 - image for item in second)), dim=1)


def patches(image: Tensor, scale: int) -> Tensor:
    """All patches of (B,C,H,W) inside the border: (B,n,C*(3*scale)^2), column-major."""
    border = BORDER * scale
    inner = image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
    return F.unfold(inner.mT, PATCH * scale, stride=scale).mT


def overlap_add(values: Tensor, height: int, width: int, scale: int) -> Tensor:
    """The mean of overlapping patches (B,n,(3*scale)^2) as an image (B,1,height,width), zero where there is none."""
    border, side = BORDER * scale, PATCH * scale
    inner = (height - 2 * border, width - 2 * border)
    total = F.fold(values.mT, inner[::-1], side, stride=scale).mT
    rows, columns = (_covered(length // scale).repeat_interleave(scale).to(values) for length in inner)
    return F.pad(total / (rows[:, None] * columns), (border, border, border, border))


def _covered(cells: int) -> Tensor:
    """How many patches cover each of a row of cells."""
    place = torch.arange(cells)
    return torch.stack((place + 1, cells - place, torch.tensor(PATCH).expand(cells))).amin(0)


def _reach(scale: int) -> int:
    """The side of what a patch is predicted from, in high-resolution pixels: itself, and as far as its gradients look."""
    return (PATCH + 2 * BORDER) * scale


def principal_components(gram: Tensor, dropped: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Eigenvalues (F,), ascending, and the kept eigenvectors (F,K), largest first, of features' sums of products (F,F).

    The features are not centred. The smallest eigenvectors, which together carry less than the share ``dropped`` of the
    energy, are left out.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values.cumsum(0) / values.sum() >= dropped
    return values, vectors[:, kept].flip(1)


def design(features: Tensor, leaf: str) -> Tensor:
    """What a leaf's map is applied to: [x, 1] (``linear``), [x, 1, x^2] (``polynomial``) or [1] (``constant``); (n,D)."""
    one = features.new_ones(len(features), 1)
    if leaf == "constant":
        return one
    return torch.cat((features, one, features.square()) if leaf == "polynomial" else (features, one), dim=1)


# --- the network ------------------------------------------------------------------------------------------------------


class Forest(nn.Module):
    """Regression trees of fixed capacity: binary, at most ``leaves`` leaves each, so the sizes follow from the config.

    A node compares two features: ``x[pair[0]] - x[pair[1]] < threshold`` goes to ``child``, everything else to the node
    after it. A leaf is its own child and compares with infinity. Untrained, every tree is one leaf that predicts zeros.

    Args:
        features: K, the length of a feature vector.
        targets: P, the length of what is predicted.
        trees: their number.
        leaves: the most leaves a tree may have.
        leaf: ``linear``, ``polynomial`` or ``constant``, see :func:`design`.
    """

    def __init__(self, features: int, targets: int, trees: int, leaves: int, leaf: str) -> None:
        super().__init__()
        self.leaf = leaf
        nodes, width = 2 * leaves - 1, {"constant": 1, "linear": features + 1, "polynomial": 2 * features + 1}[leaf]
        self.pair: Tensor
        self.child: Tensor
        self.slot: Tensor
        self.register_buffer("pair", torch.zeros(trees, nodes, 2, dtype=torch.int32))
        self.register_buffer("child", torch.arange(nodes, dtype=torch.int32).repeat(trees, 1))
        self.register_buffer("slot", torch.zeros(trees, nodes, dtype=torch.int32))  # a leaf's place in `maps`
        self.threshold = _learnt(torch.full((trees, nodes), torch.finfo(torch.float16).max))
        self.maps = _learnt(torch.zeros(trees, leaves, width, targets))

    def leaves(self, features: Tensor) -> Tensor:
        """The leaf (its place in ``maps``) that each row of (n,K) ends in, for every tree: (trees,n)."""
        (trees, nodes), (count, width) = self.child.shape, features.shape
        values, device = features.reshape(-1), features.device
        root = torch.arange(0, trees * nodes, nodes, device=device)
        row = torch.arange(0, count * width, width, device=device).repeat(trees)
        first, second = self.pair.long().view(-1, 2).T.contiguous()
        child = (self.child.long() + root[:, None]).view(-1)
        threshold, node = self.threshold.view(-1), root.repeat_interleave(count)
        for _ in range(nodes):  # one level at a time, all rows and trees at once; no file can make it run for ever
            one, other = (values.index_select(0, place.index_select(0, node).add_(row)) for place in (first, second))
            below = child.index_select(0, node).add_(one.sub_(other) >= threshold.index_select(0, node))
            if torch.equal(below, node):
                break
            node = below
        return self.slot.long().view(-1)[node].view(trees, count)

    def forward(self, features: Tensor) -> Tensor:
        """Features (n,K) to the mean of the trees' predictions (n,P)."""
        return torch.cat([self._mean(part) for part in torch.split(features, CHUNK)])

    def _mean(self, features: Tensor) -> Tensor:
        result = features.new_zeros(len(features), self.maps.shape[-1])
        rows = design(features, self.leaf)
        for maps, ends in zip(self.maps, self.leaves(features), strict=True):
            ends, order = ends.sort()  # rows of one leaf side by side: one product for each leaf
            counts = torch.bincount(ends, minlength=len(maps)).tolist()
            parts = torch.split(rows[order], [count for count in counts if count])
            used = (item for item, count in zip(maps, counts, strict=True) if count)
            result.index_add_(0, order, torch.cat([part @ item for part, item in zip(parts, used, strict=True)]))
        return result / len(self.maps)


def _learnt(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


class SRForest(nn.Module):
    """A forest that upscales luma. See the architecture's defaults for the config.

    Args:
        scale: how many times larger the result is.
        components: the most principal components of a patch's gradients; where the energy needs fewer, the rest are zero.
        trees, leaves, leaf: see :class:`Forest`.
    """

    def __init__(self, scale: int, components: int, trees: int, leaves: int, leaf: str) -> None:
        super().__init__()
        pixels = (PATCH * scale) ** 2
        if components > 4 * pixels:
            raise ConfigError(f"components={components}: at scale {scale} a patch has {4 * pixels} gradients")
        self.scale = scale
        self.channels = 1
        # A patch of three pixels, one more for its gradients, two for the cubic. Rounding can send a patch to another leaf.
        self.requirements = Requirements(scale=scale, reach=5, seam=5e-3)
        self.projection = _learnt(torch.zeros(components, 4 * pixels))
        self.forest = Forest(components, pixels, trees, leaves, leaf)

    def features(self, image: Tensor) -> Tensor:
        """Projected gradients of every patch of an enlargement (B,1,H,W): (B*n,components)."""
        side = _reach(self.scale)
        pixels = torch.eye(side * side, dtype=image.dtype, device=image.device).view(-1, 1, side, side)
        kernel = self.projection @ patches(gradients(pixels, self.scale), self.scale)[:, 0].T  # both steps are linear
        found = F.conv2d(image, kernel.view(-1, 1, side, side), stride=self.scale)
        return found.permute(0, 3, 2, 1).flatten(0, 2)

    def forward(self, image: Tensor) -> Tensor:
        """Luma (B,1,h,w) in [0,1] to (B,1,scale*h,scale*w)."""
        mid = imresize(image, self.scale)
        height, width = mid.shape[-2:]
        if min(height, width) < _reach(self.scale):  # not even one patch: nothing is known better than bicubic
            return mid
        predicted = self.forest(self.features(mid))
        return mid + overlap_add(predicted.view(len(mid), -1, predicted.shape[-1]), height, width, self.scale)
