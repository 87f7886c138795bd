"""How an architecture learns. A recipe owns the science; the loop (:mod:`stzoo.training`) owns the machinery."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

from stzoo.errors import ConfigError
from stzoo.fields import complete_values

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from stzoo import Predictor
    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Stage:
    """A part of the training with optimizers of its own: coarse then fine, branches then joint."""

    name: str
    share: float = 1.0
    """Its part of all steps."""


class Recipe:
    """Base class of recipes: subclass it and take the hyper-parameters, each with a default, in ``__init__``.

    :meth:`losses` and :meth:`optimizers` are all that a plain loop needs; the other methods are for what does not fit one.
    """

    stages: tuple[Stage, ...] = (Stage("train"),)
    roles: tuple[str, ...] = ("train",)
    """Names of the data sets it learns from. With several, a batch holds one mapping for each."""
    defaults: Mapping[str, Any] = {}
    """Options of a run, such as ``batch_size`` and ``steps``, that are otherwise than usual where nobody chooses them."""
    closed_form = False
    """Whether it learns by :meth:`fit` instead of by steps."""
    without_gradient: tuple[str, ...] = ()
    """Names (with ``*`` for anything) of trainable parameters that the losses rightly leave alone."""
    grows = False
    """Whether parameters change their sizes on the way, as the config that :meth:`config` gives then says."""
    stage = "train"
    """The stage that is running; set by the loop."""
    lr_scale: Mapping[str, float] = {}
    """Factors of the learning rate by name of the parameter (with ``*``); set by the loop."""
    samples_per_step = 1
    """Samples of one optimizer step, of all processes together; set by the loop."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Make one from options by name, checked against the constructor's. Raises ConfigError naming the option."""
        return cls(**complete_values(cls.options(), options, f"recipe {cls.__name__}"))

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The constructor's arguments with their defaults."""
        return {name: item.default for name, item in inspect.signature(cls).parameters.items()}

    # --- what to learn from -------------------------------------------------------------------------------------------

    def samples(self, examples: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """What one epoch draws from, given a data set's examples: these, kept in memory (:class:`Kept`) or not, or episodes,
        pairs, rays made of them."""
        return examples

    def sample(self, item: Any, requirements: Requirements, rng: np.random.Generator) -> Mapping[str, Any]:
        """Arrays of one training sample, cropped and augmented; a batch stacks them under the same names.

        ``rng`` is the only source of randomness: it depends on the run's seed and on how many samples were drawn before.
        """
        return dict(item)

    # --- how to learn -------------------------------------------------------------------------------------------------

    def start(self, module: nn.Module, trained: bool) -> None:
        """Runs once before the first step, not where a run goes on: set an untrained network up from what :meth:`samples` saw.

        ``trained``: whether the weights are those of a model, which is to be kept.
        """

    def config(self, module: nn.Module) -> dict[str, Any]:
        """Keys of the config that learning has set or changed; they are saved with the weights, which fit them."""
        return {}

    def companions(self, module: nn.Module) -> dict[str, nn.Module]:
        """Networks that take part in training and are not published: a teacher, a discriminator. Called once."""
        return {}

    def losses(self, module: nn.Module, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Named scalar losses of one batch; their sum is what is minimised.

        ``batch`` holds the samples' tensors, batch dimension first; ``step`` counts optimizer steps from 0. If
        :meth:`optimizers` gives several, each step asks for the losses of every one in turn: a fourth argument, ``turn``,
        counts them, and only the parameters of that optimizer get gradients.
        """
        raise TypeError(f"{type(self).__name__} must define losses()")

    def optimizers(self, module: nn.Module, total_steps: int) -> list[tuple[Optimizer, LRScheduler]]:
        """Optimizers with their schedules for one stage; every schedule is stepped once per optimizer step."""
        raise TypeError(f"{type(self).__name__} must define optimizers()")

    def lr_factor(self, name: str) -> float:
        """The factor of the learning rate of the parameter of this name: what the run says of it, or 1."""
        return factor_of(name, self.lr_scale)

    def groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """The trainable parameters as an optimizer takes them: one group for each learning rate (:meth:`lr_factor`).

        Raises ConfigError if nothing is left to train.
        """
        groups: dict[float, list[Any]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self.lr_factor(name), []).append(parameter)
        if not groups:
            raise ConfigError("every parameter is frozen", "Freeze fewer of them")
        return [{"params": parameters, "lr": lr * scale} for scale, parameters in groups.items()]

    def after_step(self, module: nn.Module, step: int) -> None:
        """Runs after each optimizer step, under ``no_grad``: move a teacher's weights, densify and prune.

        A recipe that ``grows`` gives a parameter its new values by ``parameter.data``, and does the same with what the
        optimizer that it made keeps for it. No graph of the step may be kept: it remembers the sizes.
        """

    def calibrate(self, predictor: Predictor, held_out: Sequence[Mapping[str, Any]]) -> None:
        """Runs on every process before each evaluation: choose by the held-out examples what is not learnt, such as a threshold.

        ``predictor`` has the weights that are evaluated. What is chosen is set in its module, and told by :meth:`config`.
        """

    def fit(self, module: nn.Module, samples: Sequence[Any]) -> Mapping[str, float]:
        """Learn in one go (``closed_form``), in place and on one process; returns numbers for the log.

        The random number generators are seeded by the run. Tensors keep their shapes: they follow from the config.
        """
        raise TypeError(f"{type(self).__name__} must define fit()")

    def state_dict(self) -> dict[str, Any]:
        """What exact resume needs beyond the networks: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""

    # --- for tests ----------------------------------------------------------------------------------------------------

    def sample_batch(self, module: nn.Module) -> Any:
        """A tiny deterministic batch as :meth:`losses` takes it: the conformance kit trains a few steps on it.

        For a ``closed_form`` recipe, a few samples as :meth:`fit` takes them.
        """
        raise TypeError(f"{type(self).__name__} must define sample_batch()")


def factor_of(name: str, factors: Mapping[str, float], default: float = 1.0) -> float:
    """The first of the factors whose pattern (with ``*``) is that of a parameter's name."""
    return next((factor for pattern, factor in factors.items() if fnmatchcase(name, pattern)), default)


def lr_schedule(schedule: str, total_steps: int, warmup: float = 0.0) -> Callable[[int], float]:
    """The factor of the learning rate by step, for ``LambdaLR``.

    It rises linearly over the share ``warmup`` of all steps, and is times 1 ("constant"), half a cosine to nothing ("cosine")
    or the 0.9th power of what is left of the steps ("poly").
    """
    warm = round(warmup * total_steps)

    def rate(step: int) -> float:
        rising, done = min(1.0, (step + 1) / (warm + 1)), min(1.0, step / max(total_steps, 1))
        if schedule == "cosine":
            return rising * (1 + math.cos(math.pi * done)) / 2
        return rising * (1 - done) ** 0.9 if schedule == "poly" else rising

    return rate


class Kept(Sequence[Any]):
    """Examples that are read once, as many as fit into ``memory`` bytes; the others are read whenever they come up.

    ``prepare`` changes each one when it is read.
    """

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
        memory: int = 2_000_000_000,
    ) -> None:
        self.examples, self.prepare, self.room = examples, prepare, memory
        self.kept: dict[int, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: Any) -> Any:
        if index not in self.kept:
            example = self.prepare(self.examples[index])
            size = sum(map(_bytes, example.values()))
            if size > self.room:
                return example
            self.room -= size
            self.kept[index] = example
        return self.kept[index]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


def _bytes(value: Any) -> int:
    """Of an array, or of arrays in a sequence."""
    return sum(map(_bytes, value)) if isinstance(value, (tuple, list)) else getattr(value, "nbytes", 0)
