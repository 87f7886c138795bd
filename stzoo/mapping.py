"""A model as the callable that ``map`` of ``datasets`` and ``map_batches`` of Ray Data take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stzoo import api, errors
from stzoo.fields import complete_values, suggestion
from stzoo.registry import registry

if TYPE_CHECKING:
    import torch

    from stzoo.predictor import Predictor


class BatchPredictor:
    """Adds a model's predictions to batches: ``{column: values}`` in, the same with ``predicted_NAME`` columns out.

    >>> rows.map(stzoo.map_batches("tau-mmnist"), batched=True, batch_size=8)                    # datasets
    >>> ds.map_batches(stzoo.map_batches("tau-mmnist"), batch_size=8)                            # Ray, tasks
    >>> ds.map_batches(stzoo.BatchPredictor, fn_constructor_args=["tau-mmnist"], concurrency=4)  # Ray, actors

    A batch has a column for each input of the task, by its name (an optional one may be missing); values are what
    ``predict`` takes: paths, arrays, nested lists. Weights are found and hashed now, and loaded when a process sees its
    first batch. Pickling is cheap, and two of the same model and options pickle alike, so that ``datasets`` knows from its
    cache what was computed before; other weights under the same name are computed again.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        outputs: Sequence[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        offline: bool | None = None,
        **options: Any,
    ) -> None:
        """``outputs``: names of the task's outputs that are wanted; default: all but optional ones. ``options``: the task's.

        The others, and errors, are those of :func:`stzoo.load`; InputError for what the task does not have.
        """
        if not isinstance(model, (str, os.PathLike)):
            raise errors.InputError(
                f"the model is a {type(model).__name__}",
                "Give a name, a repo id, or a folder that Predictor.save wrote",
            )
        self.model, self.loading = os.fspath(model), dict[str, Any](revision=revision, offline=offline)
        self.device, self.dtype = None if device is None else str(device), None if dtype is None else str(dtype)
        task = registry().task_of(api.architecture_of(self.model, **self.loading))
        self.inputs, known = {item.name: item.optional for item in task.inputs}, [item.name for item in task.outputs]
        self.outputs = [item.name for item in task.outputs if not item.optional] if outputs is None else list(outputs)
        for name in self.outputs:
            if name not in known:
                raise errors.InputError(f"task {task.name!r} has no output {name!r}", suggestion(name, known))
        self.options = complete_values(
            {item.name: item for item in task.options}, options, f"task {task.name!r}", errors.InputError
        )
        self.sha256 = api.pull(self.model, **self.loading).sha256
        self._predictor: Predictor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_predictor": None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with predictions; raises InputError if one of its values cannot be used."""
        import numpy as np

        if missing := [name for name, optional in self.inputs.items() if name not in batch and not optional]:
            raise errors.InputError(
                f"the batch has no column {missing[0]!r}", f"It has {', '.join(batch)}; rename one of them"
            )
        size = len(batch[next(iter(self.inputs))])
        items = list(zip(*(batch.get(name, [None] * size) for name in self.inputs), strict=True))
        predictions = list(self.predictor.predict_batch(items, batch_size=max(len(items), 1), **self.options))
        added = {}
        for name in self.outputs:
            values = [np.asarray(prediction[name]) for prediction in predictions]
            same = len({value.shape for value in values}) == 1
            added[f"predicted_{name}"] = np.stack(values) if same else values
        return {**batch, **added}

    @property
    def predictor(self) -> Predictor:
        """The model, loaded in this process. Raises WeightsCorrupted if it is another than where this was made."""
        if self._predictor is None:
            found = api.load(self.model, device=self.device, dtype=self.dtype, **self.loading)
            if found.report.sha256 != self.sha256:
                raise errors.WeightsCorrupted(
                    f"{self.model} has sha256 {found.report.sha256} here, and had {self.sha256} when this was asked for",
                    "Name a revision that does not change, or ask again",
                )
            self._predictor = found
        return self._predictor

    def __repr__(self) -> str:
        return (
            f"BatchPredictor({self.model!r}, {', '.join(self.inputs)} -> predicted_{', predicted_'.join(self.outputs)})"
        )


def map_batches(
    model: str | os.PathLike[str], *, outputs: Sequence[str] | None = None, **options: Any
) -> BatchPredictor:
    """The callable with which ``datasets`` (``map(..., batched=True)``) and Ray Data (``map_batches``) add predictions.

    Arguments and errors are those of :class:`BatchPredictor`.
    """
    return BatchPredictor(model, outputs=outputs, **options)
