"""A recipe by itself: what a model runs that learns when it predicts. No checkpoints, no evaluation, one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from stzoo.training import batches

if TYPE_CHECKING:
    from torch import nn

    from stzoo.recipe import Recipe
    from stzoo.requirements import Requirements


def learn(
    module: nn.Module,
    recipe: Recipe,
    examples: Sequence[Mapping[str, Any]],
    steps: int,
    *,
    requirements: Requirements,
    seed: int = 0,
    batch_size: int = 1,
) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Train an untrained ``module`` in place, where it is; after each step, how many there were and its losses.

    Samples and random numbers are those of a run of :func:`stzoo.finetune` with this seed. For recipes with one stage and
    one optimizer. Between steps the caller may do with the module what it likes, or stop. May be called from within
    ``torch.inference_mode``, as predictions are; ``module`` must have been built outside of it.
    """
    device = next(module.parameters()).device
    source = batches.Source(recipe.samples(examples), recipe, requirements, seed)
    with torch.inference_mode(False), torch.no_grad():
        recipe.companions(module)
        batches.seed_everything(seed)
        recipe.start(module, False)
        [(optimizer, schedule)] = recipe.optimizers(module, steps)
    for step, positions in zip(range(steps), batches.Share(batch_size).batches(0), strict=False):
        with torch.inference_mode(False):
            batch = batches.collate([source.sample(source.items[source.index(item)], item) for item in positions])
            batch = {name: value.to(device) for name, value in batch.items()}
            batches.seed_everything(seed, step, 0, 0, 0)
            module.train()
            with torch.enable_grad():
                losses = recipe.losses(module, batch, step)
                torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            losses = {name: loss.detach() for name, loss in losses.items()}  # a graph remembers the parameters' sizes
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            with torch.no_grad():
                recipe.after_step(module, step)
            module.eval()
        yield step + 1, losses
