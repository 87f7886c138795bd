"""Which sample comes when. The n-th sample of a run is a function of the seed and n alone.

So the order does not depend on workers, processes or interruptions, nothing is drawn twice or left out, and going on
from anywhere takes no more than the number of samples drawn so far.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from stzoo import errors

if TYPE_CHECKING:
    from stzoo.data import Examples
    from stzoo.recipe import Recipe
    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Share:
    """The part of the samples that this process takes: ``batch_size`` of every ``processes * batch_size``."""

    batch_size: int
    rank: int = 0
    processes: int = 1

    def batches(self, start: int) -> Iterator[range]:
        """Positions of this process's batches, from position ``start`` of all processes on, without end."""
        while True:
            first = start + self.rank * self.batch_size
            yield range(first, first + self.batch_size)
            start += self.processes * self.batch_size

    def owns(self, position: int, start: int) -> bool:
        return (position - start) // self.batch_size % self.processes == self.rank


@dataclass(frozen=True)
class Source:
    """One data set as a recipe draws from it."""

    items: Sequence[Any]
    recipe: Recipe
    requirements: Requirements
    seed: int

    def __len__(self) -> int:
        return len(self.items)

    def index(self, position: int) -> int:
        """Which item is at this position: every item once in each epoch, in an order of the epoch's own."""
        epoch, place = divmod(position, len(self.items))
        return int(_order(self.seed, epoch, len(self.items))[place])

    def sample(self, item: Any, position: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, 1, position])
        return dict(self.recipe.sample(item, self.requirements, rng))


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


class _Samples(Dataset[dict[str, Any]]):
    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def __getitem__(self, position: int) -> dict[str, Any]:
        found = {
            role: source.sample(source.items[source.index(position)], position) for role, source in self.sources.items()
        }
        return found if len(found) > 1 else next(iter(found.values()))


class _Stream(IterableDataset[Any]):
    """Batches of a stream of examples; every process reads all of it and decodes its own share."""

    def __init__(self, examples: Examples, source: Source, share: Share, start: int, buffer: int) -> None:
        self.examples, self.source, self.share, self.start, self.buffer = examples, source, share, start, buffer

    def __iter__(self) -> Iterator[Any]:
        batch: list[Any] = []
        position = epoch = 0
        while True:
            before = position
            for place in self.examples.shuffled(self.source.seed, epoch, self.buffer):
                if position >= self.start and self.share.owns(position, self.start):
                    batch.append(self.source.sample(self.examples.read(place), position))
                    if len(batch) == self.share.batch_size:
                        yield batch
                        batch = []
                position += 1
            if position == before:
                raise errors.DatasetError(f"{self.examples.name} has no examples")
            epoch += 1


def loader(
    sources: Mapping[str, Source],
    share: Share,
    start: int,
    *,
    workers: int,
    pin_memory: bool,
    stream: Examples | None = None,
    buffer: int = 0,
) -> DataLoader[Any]:
    """This process's batches, from the ``start``-th sample of all processes on, without end."""
    options: dict[str, Any] = {"pin_memory": pin_memory}
    if stream is not None:
        [source] = sources.values()
        data = _Stream(stream, source, share, start, buffer)
        return DataLoader(data, batch_size=None, collate_fn=collate, num_workers=min(workers, 1), **options)
    if workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "datasets", __name__])  # imported once, not by each of them
        options |= {"num_workers": workers, "prefetch_factor": 2, "multiprocessing_context": context}
    return DataLoader(_Samples(sources), batch_sampler=share.batches(start), collate_fn=collate, **options)  # type: ignore[arg-type]


def collate(samples: list[Any]) -> Any:
    """Samples to a batch of tensors. Raises DatasetError if they do not have one shape."""
    try:
        return default_collate(samples)
    except RuntimeError as problem:
        first = samples[0]
        for name, value in first.items():
            shapes = {tuple(np.shape(item[name])) for item in samples if not isinstance(value, Mapping)}
            if len(shapes) > 1:
                raise errors.DatasetError(
                    f"the samples of one batch differ: {name} is {' and '.join(map(str, sorted(shapes)))}",
                    "Crop them to one size (recipe.crop), resize them, or train with batch_size=1",
                ) from problem
        raise


def seed_everything(seed: int, *numbers: int) -> None:
    """Seed torch for one pass: what is random in the network depends on the seed and these numbers alone."""
    state = np.random.SeedSequence([seed, 2, *numbers]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]) >> 1)
