"""A convolution that a recurrent network repeats at every time step, with the same weight.

On the CPU oneDNN brings the weight into an order of its own at every call, and makes its gradient from a few frames at a
time, slowly. Here the weight is put into that order once for a sequence, and its gradient is made of many steps at once: the
same sums. Everywhere else this is `torch.nn.functional.conv2d`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from stzoo.linear import uses_onednn

_CONVOLVE = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_REORDER = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
"""None where PyTorch was built without oneDNN, as on a Mac."""
_TOGETHER = 16
"""Maps of which the gradient of a weight is made at once: more are hardly faster, and have to be kept."""


class Repeated:
    """A layer for one sequence: a convolution of odd width without bias that keeps the size, and perhaps a normalisation.

    Args:
        layer: the convolution, or a sequence of it and what follows.
        like: maps of the size, type and place of those that it will see, (N,*,h,w).
    """

    def __init__(self, layer: nn.Module, like: Tensor) -> None:
        conv, *norm = layer if isinstance(layer, nn.Sequential) else (layer,)
        weight: Tensor = conv.weight  # type: ignore[assignment]
        self.weight, self.norm = weight, norm[0] if norm else None
        self.packed = None not in (_CONVOLVE, _REORDER) and uses_onednn(like, weight)
        if not self.packed:
            return
        learns = torch.is_grad_enabled()
        fixed = weight.detach()
        self.there = _packed(fixed, like.shape[-2:])
        self.back = _packed(fixed.flip(2, 3).transpose(0, 1), like.shape[-2:]) if learns else None
        self.sums = _Sums(weight.shape)
        self.token = _Shared.apply(weight, self.sums) if learns else None  # type: ignore[no-untyped-call]

    def __call__(self, x: Tensor) -> Tensor:
        """(N,C,h,w) to (N,D,h,w)."""
        if not self.packed:
            x = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        elif self.token is None:
            x = _convolve(x, self.there)
        else:
            x = _Step.apply(x, self.token, self.there, self.back, self.sums)  # type: ignore[no-untyped-call]
        return x if self.norm is None else self.norm(x)

    def at_rest(self) -> Tensor | float:
        """What it makes of zeros."""
        return 0.0 if self.norm is None else self.norm.bias  # type: ignore[return-value]


def _packed(weight: Tensor, size: torch.Size) -> Tensor:
    """The weight in the order that oneDNN wants for maps of this size."""
    around, once = [weight.shape[-1] // 2] * 2, [1, 1]
    shape = [1, weight.shape[1], *size]
    return _REORDER(weight.to_mkldnn(), around, once, once, 1, shape)  # type: ignore[no-any-return, misc]


def _convolve(x: Tensor, packed: Tensor) -> Tensor:
    around, once = [packed.shape[-1] // 2] * 2, [1, 1]
    return _CONVOLVE(x, packed, None, around, once, once, 1, "none", [], "")  # type: ignore[no-any-return, misc]


def _flops(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Two per multiply-add, from shapes; PyTorch's counter does not know this operation."""
    return int(2 * math.prod(out_shape) * math.prod(weight[1:]))


if _CONVOLVE is not None:
    register_flop_formula(_CONVOLVE)(_flops)


class _Sums:
    """The gradient of a weight, made of what the backward passes of the steps leave."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.inputs: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.total: Tensor | None = None

    def add(self, x: Tensor, gradient: Tensor) -> None:
        self.inputs.append(x)
        self.gradients.append(gradient)
        if sum(map(len, self.inputs)) >= _TOGETHER:
            self._sum()

    def take(self) -> Tensor | None:
        """The whole gradient; from then on another backward pass may begin."""
        if self.inputs:
            self._sum()
        total, self.total = self.total, None
        return total

    def _sum(self) -> None:
        x, gradient = torch.cat(self.inputs), torch.cat(self.gradients)
        self.inputs, self.gradients = [], []
        part = torch.nn.grad.conv2d_weight(x, self.shape, gradient, padding=self.shape[-1] // 2)  # type: ignore[no-untyped-call]
        self.total = part if self.total is None else self.total.add_(part)


class _Shared(torch.autograd.Function):
    """What every step depends on: its backward pass comes after theirs."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, sums: _Sums) -> Tensor:
        ctx.sums = sums
        return weight.new_zeros(())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, None]:
        return ctx.sums.take(), None


class _Step(torch.autograd.Function):
    """One convolution; its backward pass gives the gradient of its input, and leaves that of the weight to `_Shared`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, there: Tensor, back: Tensor, sums: _Sums) -> Tensor:
        ctx.save_for_backward(x, token)
        ctx.back, ctx.sums = back, sums
        return _convolve(x, there)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, token = ctx.saved_tensors
        need_x, need_weight = ctx.needs_input_grad[:2]
        if need_weight:
            ctx.sums.add(x, gradient)
        return _convolve(gradient, ctx.back) if need_x else None, token if need_weight else None, None, None, None
