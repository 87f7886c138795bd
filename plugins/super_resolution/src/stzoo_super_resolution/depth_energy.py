"""The energy of deep depth super-resolution (Song, Dai and Qin, ACCV 2016), and its minimum.

    E(D) = 1/2 |D - D*|^2 + modulation |A D - b|^2 + variation |P D|_1

D* is what the networks gave. A = I - alpha ties a pixel to the mean of its neighbours, weighted by how alike they look in a
picture of the scene (colour modulation); P takes differences between neighbours, to the right and below (total variation).

The minimum is found by iteratively reweighted least squares: |x| becomes x^2 / (2 max(|x_k|, eps)), which leaves

    (I + 2 modulation A'A + variation P'W P) D = D* + 2 modulation A'b

to solve in each step, from the solution of the step before. No matrix is ever made: A and P are stencils, applied where the
tensors are, and the conjugate gradients are preconditioned by a multigrid cycle on all of it but A'A.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stzoo.errors import ConfigError

_Operator = Callable[[Tensor], Tensor]
WINDOW = 7
"""Side of the neighbourhood of colour modulation in pixels."""
BAND = 2**18
"""Pixels that are worked on at once on a CPU: what they need stays in its caches."""
UNSURE = 0.01
"""Weight of the data term inside holes. With 0 they would be filled from their borders alone, in many times the time."""


# --- colour modulation ------------------------------------------------------------------------------------------------


def colour_weights(guide: Tensor, window: int = WINDOW, floor: float = 1e-6) -> Tensor:
    """How much each neighbour in the window counts: alpha as (window^2 - 1, H, W), neighbours row by row without the centre.

    Proportional to exp(-(g_u - g_v)^2 / (2 s_u^2)), s_u^2 the variance of the guide in u's window and at least ``floor``; they
    sum to one over the neighbours inside the picture. (The paper leaves the form open; this is the one of Levin et al.,
    Colorization using optimization, 2004.)

    Args:
        guide: (H, W), values in [0, 1]; their precision is that of the weights.
        window: odd.

    Raises:
        ConfigError: the window is even or smaller than 3.
    """
    if window < 3 or window % 2 == 0:
        raise ConfigError(f"window must be odd and at least 3, got {window}")
    reach = window // 2
    height, width = guide.shape
    padded = F.pad(guide, (reach,) * 4, value=math.nan)
    weights = guide.new_empty(window**2 - 1, height, width)
    total, squares, count = (torch.zeros_like(guide) for _ in range(3))
    for place, (down, right) in enumerate(_neighbours(window)):
        difference = padded[reach + down :, reach + right :][:height, :width] - guide
        weights[place] = difference
        inside = ~difference.isnan()
        difference = difference.nan_to_num_()
        total += difference
        squares.addcmul_(difference, difference)
        count += inside
    count += 1  # the centre, which differs from itself by nothing
    variance = (squares / count - (total / count).square()).clamp_(min=floor)
    weights.square_().div_(variance.mul_(-2)).exp_().nan_to_num_(nan=0.0)
    return weights.div_(weights.sum(0).clamp_(min=torch.finfo(weights.dtype).tiny))


def modulated(depth: Tensor, weights: Tensor) -> Tensor:
    """A D = D - alpha D: how far a map (H, W) is from the mean of its neighbours."""
    reach, width = _reach(weights), depth.shape[1]
    padded = F.pad(depth, (reach,) * 4)
    result = torch.zeros_like(depth) if depth.numel() == 1 else depth.clone()  # a single pixel has no neighbours
    for top, bottom in _bands(depth):
        for weight, (down, right) in zip(weights, _neighbours(2 * reach + 1), strict=True):
            moved = padded[reach + down + top : reach + down + bottom, reach + right : reach + right + width]
            result[top:bottom].addcmul_(weight[top:bottom], moved, value=-1)
    return result


def modulated_adjoint(residual: Tensor, weights: Tensor) -> Tensor:
    """A' R of a map (H, W): the adjoint of :func:`modulated`."""
    reach, (height, width) = _reach(weights), residual.shape
    padded = F.pad(torch.zeros_like(residual) if residual.numel() == 1 else residual, (reach,) * 4)
    for top, bottom in _bands(residual):
        for weight, (down, right) in zip(weights, _neighbours(2 * reach + 1), strict=True):
            moved = padded[reach + down + top : reach + down + bottom, reach + right : reach + right + width]
            moved.addcmul_(weight[top:bottom], residual[top:bottom], value=-1)
    return padded[reach : reach + height, reach : reach + width]


def _neighbours(window: int) -> list[tuple[int, int]]:
    steps = range(-(window // 2), window // 2 + 1)
    return [step for step in itertools.product(steps, steps) if step != (0, 0)]


def _reach(weights: Tensor) -> int:
    return math.isqrt(len(weights) + 1) // 2


def _bands(depth: Tensor) -> Iterator[tuple[int, int]]:
    height, width = depth.shape
    rows = max(1, BAND // width) if depth.device.type == "cpu" else height
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


# --- the energy -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Energy:
    """The energy of one map, and the way to its minimum. All tensors are (H, W), of one precision and on one device.

    Raises ConfigError where shapes differ or a weight is negative.
    """

    target: Tensor
    """D*: what the networks gave."""
    modulation: float = 0.0
    """Weight of colour modulation (lambda 1); 0.7 in the paper, for maps of 8 bits."""
    variation: float = 0.0
    """Weight of total variation (lambda 2); 0.7 in the paper, for maps of 8 bits."""
    alike: Tensor | None = None
    """Colour modulation as :func:`colour_weights` gives it; None: there is none."""
    shift: Tensor | None = None
    """b: what A D should be; None: 0."""
    sure: Tensor | None = None
    """Weights of the data term at each pixel, 0 to 1; None: 1. 0 where nothing is known."""

    def __post_init__(self) -> None:
        if min(self.modulation, self.variation) < 0:
            raise ConfigError(
                f"modulation and variation must not be negative, got {self.modulation} and {self.variation}"
            )
        for name in ("alike", "shift", "sure"):
            given = getattr(self, name)
            if given is not None and given.shape[-2:] != self.target.shape:
                raise ConfigError(f"{name} is {tuple(given.shape)}, the map {tuple(self.target.shape)}")

    def __call__(self, depth: Tensor) -> Tensor:
        """E(D), a scalar."""
        data = (depth - self.target).square()
        total = 0.5 * (data if self.sure is None else self.sure * data).sum()
        if self._coloured is not None:
            apart = modulated(depth, self._coloured)
            total = total + self.modulation * (apart if self.shift is None else apart - self.shift).square().sum()
        return total + self.variation * sum(item.abs().sum() for item in differences(depth))

    @property
    def _coloured(self) -> Tensor | None:
        return self.alike if self.modulation else None

    def iterates(
        self, eps: float = 1e-4, tolerance: float = 1e-6, limit: int = 500, start: Tensor | None = None
    ) -> Iterator[Tensor]:
        """The maps after one, two, … steps of reweighted least squares, without end; each has no more energy than the last.

        Args:
            eps: differences below this count as this, in the unit of the map: what |x| is rounded by at 0.
            tolerance: how small the residual of a linear system must get, relative to its right-hand side.
            limit: the most steps of conjugate gradients for one system.
            start: where to start; default: the target.

        Raises:
            ConfigError: eps is not positive.
        """
        if eps <= 0:
            raise ConfigError(f"eps must be positive, got {eps}")
        depth = self.target if start is None else start
        wanted = self._wanted()
        while True:
            links = [self.variation / item.abs().clamp_(min=eps) for item in differences(depth)]
            system, precondition = self._system(*links)
            depth = _conjugate_gradients(system, wanted, depth, precondition, tolerance, limit)
            yield depth

    def split_iterates(self, rho: float = 1.0, tolerance: float = 1e-9, limit: int = 500) -> Iterator[Tensor]:
        """The maps after one, two, … steps of the alternating direction method of multipliers, without end.

        Its limit is the minimum itself, with nothing rounded off, which takes hundreds of steps: a reference to compare with
        (Boyd et al., Foundations and Trends in Machine Learning 3, 2011). ``rho``: the weight of the split. Raises ConfigError.
        """
        if rho <= 0:
            raise ConfigError(f"rho must be positive, got {rho}")
        depth, wanted = self.target, self._wanted()
        split = list(differences(depth))
        scaled = [torch.zeros_like(item) for item in split]
        system, precondition = self._system(*(torch.full_like(item, rho) for item in split))
        while True:
            pulled = [rho * (one - two) for one, two in zip(split, scaled, strict=True)]
            depth = _conjugate_gradients(
                system, wanted + _differences_adjoint(*pulled), depth, precondition, tolerance, limit
            )
            yield depth
            for place, item in enumerate(differences(depth)):
                split[place] = F.softshrink(item + scaled[place], self.variation / rho)
                scaled[place] = scaled[place] + item - split[place]

    def _wanted(self) -> Tensor:
        """The right-hand side that all linear systems share."""
        wanted = self.target if self.sure is None else self.sure * self.target
        if self._coloured is None or self.shift is None:
            return wanted
        return wanted + 2 * self.modulation * modulated_adjoint(self.shift, self._coloured)

    def _system(self, right: Tensor, down: Tensor) -> tuple[_Operator, _Operator]:
        """I + 2 modulation A'A + P' diag(right, down) P, and what preconditions it."""
        sure = torch.ones_like(self.target) if self.sure is None else self.sure
        alike = self._coloured

        def system(x: Tensor) -> Tensor:
            result = _linked(x, sure, right, down)
            if alike is None:
                return result
            return result.add_(modulated_adjoint(modulated(x, alike), alike), alpha=2 * self.modulation)

        return system, _Multigrid(sure, right, down)


def differences(depth: Tensor) -> tuple[Tensor, Tensor]:
    """P D of a map (H, W): to the right neighbour (H, W-1), and to the one below (H-1, W)."""
    return depth[:, 1:] - depth[:, :-1], depth[1:] - depth[:-1]


def _differences_adjoint(across: Tensor, along: Tensor, result: Tensor | None = None) -> Tensor:
    """P' of what :func:`differences` gives, added to ``result``."""
    if result is None:
        result = across.new_zeros(across.shape[0], along.shape[1])
    result[:, 1:] += across
    result[:, :-1] -= across
    result[1:] += along
    result[:-1] -= along
    return result


def refined(
    depth: Tensor,
    guide: Tensor | None,
    sure: Tensor,
    *,
    modulation: float,
    variation: float,
    iterations: int,
    eps: float = 0.1,
) -> Tensor:
    """The map with the least energy, after so many steps.

    Args:
        depth: (H, W), in levels of 0 to 255.
        guide: brightness (H, W) in [0, 1]; None: no colour modulation.
        sure: (H, W), 1 where depth is known, 0 where it was made up, which then counts :data:`UNSURE`.
        modulation, variation, eps: as in :class:`Energy`; differences are rounded off at a tenth of a level.
        iterations: steps of reweighted least squares.
    """
    alike = colour_weights(guide) if guide is not None and modulation else None
    if alike is None and not variation:
        return depth
    energy = Energy(depth, modulation, variation, alike, sure=sure.clamp(min=UNSURE))
    return next(itertools.islice(energy.iterates(eps, tolerance=1e-5, limit=200), iterations - 1, None))


# --- linear systems ---------------------------------------------------------------------------------------------------


def _conjugate_gradients(
    system: _Operator, wanted: Tensor, start: Tensor, precondition: _Operator, tolerance: float, limit: int
) -> Tensor:
    """x with ``system(x)`` = ``wanted``; the system and the preconditioner are symmetric and positive definite."""
    x = start.clone()
    residual = wanted - system(x)
    enough = tolerance * wanted.norm()
    direction, before = torch.zeros_like(x), torch.ones((), dtype=x.dtype, device=x.device)
    for step in range(limit):
        if residual.norm() <= enough:
            break
        better = precondition(residual)
        now = (residual * better).sum()
        direction = better if step == 0 else better.add_(direction * (now / before))
        moved = system(direction)
        length = now / (direction * moved).sum()
        x.addcmul_(length, direction)
        residual.addcmul_(-length, moved)
        before = now
    return x


def _linked(x: Tensor, own: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """own x + P' diag(right, down) P x."""
    across, along = differences(x)
    return _differences_adjoint(right * across, down * along, own * x)


class _Multigrid:
    """One V-cycle on ``_linked``: an approximate, symmetric inverse.

    Squares of 2x2 pixels are one on the next grid. The links between squares add up, halved: over twice the distance half as
    much flows. Two damped Jacobi steps before and after.
    """

    def __init__(self, own: Tensor, right: Tensor, down: Tensor) -> None:
        self.levels = [(own, right, down, self._inverse(own, right, down))]
        while own.numel() > 64:
            own, right, down = (
                _squares(own),
                0.5 * _squares(right[:, 1::2], columns=1),
                0.5 * _squares(down[1::2], rows=1),
            )
            self.levels.append((own, right, down, self._inverse(own, right, down)))
        units = torch.eye(own.numel(), dtype=own.dtype, device=own.device).reshape(-1, *own.shape)
        matrix = torch.stack([_linked(unit, own, right, down).ravel() for unit in units])
        self.coarsest = torch.linalg.cholesky(matrix)

    @staticmethod
    def _inverse(own: Tensor, right: Tensor, down: Tensor) -> Tensor:
        """Two thirds of the inverse of the diagonal: a damped Jacobi step."""
        diagonal = own.clone()
        diagonal[:, 1:] += right
        diagonal[:, :-1] += right
        diagonal[1:] += down
        diagonal[:-1] += down
        return diagonal.reciprocal_().mul_(2 / 3)

    def __call__(self, residual: Tensor, level: int = 0) -> Tensor:
        if level == len(self.levels) - 1:
            return torch.cholesky_solve(residual.reshape(-1, 1), self.coarsest).reshape(residual.shape)
        *grid, inverse = self.levels[level]
        x = inverse * residual
        x.addcmul_(inverse, residual - _linked(x, *grid))
        coarse = self(_squares(residual - _linked(x, *grid)), level + 1)
        x += coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)[: x.shape[0], : x.shape[1]]
        for _ in range(2):
            x.addcmul_(inverse, residual - _linked(x, *grid))
        return x


def _squares(values: Tensor, rows: int = 2, columns: int = 2) -> Tensor:
    """Sums over rectangles of (rows, columns); what is missing at the far ends counts as 0."""
    height, width = values.shape
    values = F.pad(values, (0, -width % columns, 0, -height % rows))
    return values.reshape(values.shape[0] // rows, rows, values.shape[1] // columns, columns).sum((1, 3))
