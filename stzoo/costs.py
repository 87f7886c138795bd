"""What predicting costs: parameters, multiply-adds, memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, UntypedStorage, strided
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from stzoo.predictor import Predictor


@dataclass(frozen=True)
class Costs:
    """Of one prediction at batch size 1, for the task's deterministic sample at the model's native size."""

    parameters: int
    multiply_adds: int
    """Of convolutions, matrix products and attention, as PyTorch counts them."""
    memory: int
    """Bytes of the network's tensors, plus the most bytes of other tensors that lived at once. What kernels need inside,
    and what allocators keep, is not in it."""


def costs(predictor: Predictor) -> Costs:
    """Measure them with one prediction."""
    given = predictor.task.sample(predictor.requirements)
    module, counter, memory = predictor.module, FlopCounterMode(display=False), _Memory()
    with counter, memory:
        predictor.predict(*given)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    own = {
        item.untyped_storage()._cdata: item.untyped_storage().nbytes()
        for item in (*module.parameters(), *module.buffers())
    }
    return Costs(parameters, int(counter.get_total_flops()) // 2, sum(own.values()) + memory.peak)


class _Memory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operators make, from their making to their end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in self._alive | before:
                self._alive.add(storage._cdata)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self._now)
        return result

    def _gone(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self._now -= size


def _storages(tree: Any) -> Iterator[UntypedStorage]:
    """Of the tensors in a tree, but those that oneDNN has put into an order of its own."""
    for item in tree_iter(tree):
        if isinstance(item, Tensor) and item.layout == strided:
            yield item.untyped_storage()
