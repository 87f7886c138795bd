"""What predicting costs: parameters, multiply-adds, memory."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
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
        before = {item.untyped_storage()._cdata for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)}
        result = func(*args, **(kwargs or {}))
        for item in tree_iter(result):
            if isinstance(item, Tensor) and (storage := item.untyped_storage())._cdata not in self._alive | before:
                self._alive.add(storage._cdata)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self._now)
        return result

    def _gone(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self._now -= size
