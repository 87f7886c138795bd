"""A linear layer that runs on oneDNN's kernels on the CPU.

PyTorch sends float32 matrix products to MKL, which takes a slow path on processors that are not Intel's; oneDNN, which
PyTorch brings too, does the same sums there about twice as fast. Everywhere else this is `torch.nn.functional.linear`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula


@register_flop_formula(torch.ops.aten.mkldnn_convolution)
def _flops(x: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Two per multiply-add, from shapes; PyTorch's counter does not know this operation."""
    return int(2 * math.prod(out_shape) * math.prod(weight[1:]))


def uses_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether what is asked of oneDNN itself is there, and does the same sums as PyTorch: for float32 on the CPU."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N,in) and (out,in) to (N,out), as a 1x1 convolution of an image of one row."""
    image = x.unsqueeze(0).unsqueeze(0).permute(0, 3, 1, 2)
    out = torch.mkldnn_convolution(image, weight[:, :, None, None], bias, (0, 0), (1, 1), (1, 1), 1)
    return out.permute(0, 2, 3, 1).reshape(len(x), len(weight))


class _Linear(torch.autograd.Function):
    """The three products of forward and backward; oneDNN's own backward of a convolution is slow here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        for_weight = None
        if need_weight:  # the second factor is copied, so it is the narrower one
            wide = weight.shape[0] >= weight.shape[1]
            for_weight = _product(gradient.t(), x.t()) if wide else _product(x.t(), gradient.t()).t()
        return (
            _product(gradient, weight.t()) if need_x else None,
            for_weight,
            gradient.sum(0) if need_bias and ctx.biased else None,
        )


class Linear(nn.Linear):
    """`torch.nn.Linear`, with oneDNN's kernels for float32 on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not uses_onednn(x, self.weight):
            return F.linear(x, self.weight, self.bias)
        out: Tensor = _Linear.apply(x.flatten(0, -2), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out.view(*x.shape[:-1], -1)
