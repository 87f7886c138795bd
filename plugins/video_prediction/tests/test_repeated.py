"""Convolutions that are repeated at every step: the same numbers and gradients as PyTorch's own."""

from __future__ import annotations

import gc
import runpy
import weakref
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stzoo_video_prediction import repeated
from stzoo_video_prediction.repeated import _TOGETHER, Repeated


def layer(norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 3, 5, padding=2, bias=False)
    return nn.Sequential(conv, nn.LayerNorm((3, 6, 8))) if norm else nn.Sequential(conv)


def chain(apply: object, x: Tensor, steps: int) -> Tensor:
    """Each step sees what the one before made, so every gradient goes through all."""
    for _ in range(steps):
        x = torch.tanh(apply(x))  # type: ignore[operator]
    return x.square().sum()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("steps", [1, 3, _TOGETHER + 1])
def test_gradients_are_those_of_a_plain_convolution(norm: bool, steps: int) -> None:
    conv = layer(norm)
    x = torch.randn(2, 3, 6, 8)
    found, expected = ([], [])
    for apply, kept in ((Repeated(conv, x), found), (conv, expected)):
        start = x.clone().requires_grad_()
        loss = chain(apply, start, steps)
        for _ in range(2):  # a second pass over the same graph adds the same once more
            loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
        kept += [loss.detach(), start.grad, *(p.grad for p in conv.parameters())]
        conv.zero_grad()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_gradients_and_with_a_frozen_weight() -> None:
    conv, x = layer(), torch.randn(2, 3, 6, 8)
    with torch.inference_mode():
        torch.testing.assert_close(Repeated(conv, x)(x), conv(x), rtol=1e-5, atol=1e-6)
    conv.requires_grad_(False)
    start = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Repeated(conv, x)(start).square().sum(), start)
    (expected,) = torch.autograd.grad(conv(start).square().sum(), start)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    assert conv[0].weight.grad is None


def test_double_precision_and_autocast_are_left_to_pytorch() -> None:
    conv, x = layer(), torch.randn(2, 3, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert Repeated(conv, x)(x).dtype == torch.bfloat16
    x = x.double()
    assert torch.equal(Repeated(conv.double(), x)(x), conv(x))


def test_without_onednn_it_is_a_plain_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of PyTorch without oneDNN, those for the Mac, have not even the names of its operations."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    conv, x = layer(), torch.randn(2, 3, 6, 8)
    assert torch.equal(runpy.run_path(repeated.__file__)["Repeated"](conv, x)(x), conv(x))


def test_multiply_adds_are_counted() -> None:
    conv, x = layer(), torch.randn(2, 3, 6, 8)
    counts = []
    for apply in (lambda: Repeated(conv, x)(x), lambda: F.conv2d(x, conv[0].weight, padding=2)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            apply()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_nothing_is_kept_after_the_backward_pass() -> None:
    conv, x = layer(), torch.randn(1, 3, 6, 8)
    repeated = Repeated(conv, x)
    chain(repeated, x, 3).backward()  # type: ignore[no-untyped-call]
    gone = weakref.ref(repeated.sums)
    assert not repeated.sums.inputs and repeated.sums.total is None
    gc.disable()
    try:
        del repeated
        assert gone() is None, "a cycle keeps the tensors of a sequence until the garbage collector comes"
    finally:
        gc.enable()
