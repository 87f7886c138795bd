"""What ``load`` returns: a network with the steps of its predictions."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from stzoo import errors
from stzoo.fields import WINDOW, Field, Image, complete_values
from stzoo.lineage import portable
from stzoo.origins import CONFIG_FILE, FORMAT_VERSION, WEIGHTS_FILE
from stzoo.prediction import Prediction
from stzoo.requirements import Requirements
from stzoo.spec import Architecture, Model, Task, load_reference

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from stzoo import Published, Recipe

T = TypeVar("T")
Values = dict[str, Any]

SHARD_SIZE = "5GB"
"""The size above which weights are split into several files."""


def _left_out(item: Field, values: Mapping[str, Any]) -> bool:
    """Whether an optional value is not given."""
    return item.optional and values.get(item.name) is None


class Pipeline:
    """The steps of ``predict``: preprocess an item, batch, forward, postprocess; and what an example of a data set asks.

    This default calls ``module(*inputs)`` with the task's inputs in order; a task or an architecture names a subclass that
    refines single steps.
    """

    raw = False
    """Whether :meth:`forward` gets what :meth:`preprocess` gave as it is, a list with one value for each item; otherwise as tensors."""
    padded = True
    """Whether pictures are padded up to the multiple that the network asks for before, and outputs cut back after; not if ``raw``."""

    def __init__(self, task: Task, requirements: Requirements) -> None:
        self.task = task
        self.requirements = requirements

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[Values, Values]:
        """The inputs, and the true outputs, of one example (the task's columns, as their fields read them).

        Raises InputError if the example cannot be used with these options.
        """
        inputs = {item.name: row[item.name] for item in self.task.inputs if not _left_out(item, row)}
        known = {item.name for item in self.task.columns} - inputs.keys()
        truth = (item for item in self.task.outputs if item.name in known and not _left_out(item, row))
        return inputs, {item.name: row[item.name] for item in truth}

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays of one item as the network takes them (``padded``). What is neither array nor number reaches :meth:`forward`
        as a list with one value for each item."""
        if self.raw or not self.padded:
            return dict(values)
        from stzoo.media import pad_to_multiple

        needs = self.requirements
        return {name: pad_to_multiple(value, needs.multiple, needs.padding) for name, value in values.items()}

    def forward(
        self, module: nn.Module, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Batched outputs by name; what is no tensor is a list with one value for each item.

        Where this takes long it is a generator of :class:`Partial`, the last of which is the whole. A generator runs outside
        of ``inference_mode``.
        """
        inputs = batch.values()
        outputs = self.run(module, *inputs, options=options) if self.task.dense else module(*inputs)
        if not isinstance(outputs, (tuple, list)):
            outputs = (outputs,)
        return dict(zip((output.name for output in self.task.outputs), outputs, strict=True))

    def run(
        self,
        module: nn.Module,
        *inputs: torch.Tensor,
        options: Mapping[str, Any],
        function: Callable[..., Any] | None = None,
    ) -> Any:
        """``function(*inputs)``, by default ``module(*inputs)``, of pictures or clips that are on the CPU and may be large.

        They go to the module's device and precision, in tiles and windows as the requirements and the ``options`` of a dense
        task say, and what comes of them is put together on the CPU, in float32: see :func:`stzoo.tiling.tiled`. Tiles are
        padded to the requirements' multiple, outputs cropped to match the inputs. Raises InputError.
        """
        from stzoo import tiling

        place = tensor_of(module)
        axes = max((item.spatial for item in self.task.inputs), default=2)
        return tiling.run(function or module, inputs, self.requirements, options, place.device, place.dtype, axes)

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs of one item, the padding cut off again (scaled, where a network enlarges)."""
        if self.raw or not self.padded:
            return dict(outputs)
        from stzoo.media import crop_like

        reference = next(iter(values.values()))
        return {name: crop_like(output, reference, self.requirements.multiple) for name, output in outputs.items()}


@dataclass(frozen=True)
class LoadReport:
    """Where a predictor's weights came from."""

    name: str
    source: str
    """``bundled``, ``hub cache``, ``hub``, ``path``, ``folder``, ``imported``, ``checkpoint`` or ``none`` (untrained)."""
    path: str = ""
    revision: str | None = None
    sha256: str = ""
    dtype: str = ""
    tensors: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What could not be known, in sentences (imported checkpoints)."""


class Partial(NamedTuple):
    """Batched outputs that are known before all are."""

    outputs: Mapping[str, Any]
    share: float = 1.0
    """How much of the work is done, from 0 to 1."""
    note: str = ""
    """One line about that for people."""


@dataclass
class Predictor:
    """A network ready for use, with everything known about it. Made by ``stzoo.load``, ``create`` or ``import_checkpoint``."""

    module: nn.Module
    """The plain network, in eval mode."""
    architecture: Architecture
    task: Task
    config: dict[str, Any]
    report: LoadReport
    spec: Model | None = None
    """The zoo's entry, if it is one."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """Further entries of the config file it was loaded from (licence, lineage …), kept when it is saved again."""

    def __post_init__(self) -> None:
        requirements = getattr(self.module, "requirements", None) or (self.spec and self.spec.requirements)
        self.requirements: Requirements = requirements or Requirements()
        self.pipeline: Pipeline = load_reference(self.architecture.pipeline or self.task.pipeline)(
            self.task, self.requirements
        )

    @property
    def device(self) -> torch.device:
        return tensor_of(self.module).device

    @property
    def dtype(self) -> torch.dtype:
        return tensor_of(self.module).dtype

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert the module, as ``nn.Module.to``."""
        self.module.to(*args, **kwargs)
        return self

    def recipe(self, **options: Any) -> Recipe:
        """How this architecture learns: losses, optimizers, schedules. Raises ConfigError if it brings no recipe."""
        if not self.architecture.recipe:
            raise errors.ConfigError(f"architecture {self.architecture.name!r} brings no recipe")
        made: Recipe = load_reference(self.architecture.recipe).from_options(options)
        return made

    # --- predict ------------------------------------------------------------------------------------------------------

    def predict(self, *inputs: Any, **keywords: Any) -> Prediction:
        """Predict from the task's inputs, given in order or by name; options by name.

        Each input may be a path, a PIL image, an array, a tensor or a list of frames. Raises InputError saying what does
        not fit and what would.
        """
        return next(self.predict_batch([inputs], batch_size=1, **keywords))

    def watch(self, *inputs: Any, **keywords: Any) -> Iterator[Prediction]:
        """Predict as :meth:`predict`, and yield early predictions, where the model makes some, before that.

        Early ones may lack outputs; ``share`` and ``note`` of each say how far it is. Whoever stops taking them stops the work.
        """
        [(chunk, options)] = self._chunks([inputs], 1, keywords)
        for [prediction] in self._run(chunk, options):
            yield prediction

    def predict_batch(self, items: Iterable[Any], *, batch_size: int = 8, **options: Any) -> Iterator[Prediction]:
        """Predict many items lazily, ``batch_size`` at a time where their shapes agree; yields them in order.

        An item is one input, or a tuple of the task's inputs.
        """
        for chunk, values in self._chunks(items, batch_size, options):
            *_, made = self._run(chunk, values)
            yield from made

    def _chunks(
        self, items: Iterable[Any], batch_size: int, keywords: Mapping[str, Any]
    ) -> Iterator[tuple[list[Values], Values]]:
        """The items as their fields read them, as many as fit together, and all options."""
        fields = {item.name: item for item in self.task.inputs}
        named = {name: value for name, value in keywords.items() if name in fields}
        values = self._options({name: value for name, value in keywords.items() if name not in fields})
        read = ((self._read(item, named, fields)) for item in items)
        for _, group in itertools.groupby(
            read, key=lambda item: [getattr(value, "shape", None) for value in item.values()]
        ):
            for chunk in batched(group, batch_size):
                yield chunk, values

    def stream(self, frames: Any, **options: Any) -> Iterator[np.ndarray]:
        """Predict a clip that comes frame by frame: frames of the first output, in order, as soon as they are known.

        ``frames``: an iterable of pictures, each as ``predict`` takes them, or a clip that can be read bit by bit (a video
        file, a folder). Only as many frames as two windows have are held at once. A model of single pictures takes each
        frame by itself. Raises InputError.
        """
        from stzoo import media, tiling
        from stzoo.media.decoding import stacked

        name, output = self.task.inputs[0].name, self.task.outputs[0].name
        if not self.streams(options):
            raise errors.InputError(
                "this model does not take frames one by one", "Use predict, which takes whole clips"
            )
        alone = isinstance(self.task.inputs[0], Image)
        window, shared = (1, 0) if alone else tiling.frames_at_once(self.requirements, self._options(options))

        def some(clip: list[np.ndarray]) -> dict[str, Any]:
            import torch

            if alone:
                return {output: [self.predict(clip[0], **options)[output]]}
            done = self.predict(stacked(clip, name), **options | {WINDOW.name: 0})
            return {output: torch.from_numpy(done[output])}

        pictures = media.frames_of(frames, name, self.requirements.channels)
        found = (frame[output] for frame in tiling.windows(some, pictures, window, shared))
        return found if alone else (frame.numpy() for frame in found)

    def streams(self, options: Mapping[str, Any]) -> bool:
        """Whether :meth:`stream` can be used with these options. Raises InputError if they are wrong."""
        from stzoo import tiling

        values, first = self._options(options), self.task.inputs[0]
        if not all(item.optional for item in self.task.inputs[1:]):
            return False
        if isinstance(first, Image):
            return True
        if WINDOW.name not in values:
            return False
        return self.task.dense and bool(tiling.frames_at_once(self.requirements, values)[0])

    def _options(self, given: Mapping[str, Any]) -> Values:
        """All options of the task. Raises InputError."""
        declared = {option.name: option for option in self.task.options}
        return complete_values(declared, given, f"task {self.task.name!r}", errors.InputError)

    def _read(self, item: Any, named: Mapping[str, Any], fields: Mapping[str, Field]) -> Values:
        item = item if isinstance(item, tuple) else (item,)
        given: Values = {**dict(zip(fields, item, strict=False)), **named}
        if len(item) > len(fields):
            taken = f"{len(fields)}: {', '.join(fields)}" if fields else "none"
            raise errors.InputError(f"{len(item)} inputs, task {self.task.name!r} takes {taken}")
        given = {name: given[name] for name in fields if name in given and not _left_out(fields[name], given)}
        if missing := [name for name in fields if name not in given and not fields[name].optional]:
            raise errors.InputError(
                f"the input {missing[0]!r} is missing", f"Task {self.task.name!r} takes {', '.join(fields)}"
            )
        return {name: self._read_field(fields[name], value) for name, value in given.items()}

    def _read_field(self, item: Field, value: Any) -> Any:
        try:
            return item.read(value, self.requirements)
        except errors.InputError as problem:  # among many files, say which one
            if isinstance(value, (str, Path)) and str(value) not in problem.problem:
                raise type(problem)(f"{problem.problem} ({value})", problem.remedy) from problem
            raise

    def _run(self, items: list[Values], options: Mapping[str, Any]) -> Iterator[list[Prediction]]:
        """Predictions of the items; several times, if there are early ones."""
        import numpy as np
        import torch

        ready = [self.pipeline.preprocess(item) for item in items]
        batch: dict[str, Any] = {}
        for name, first in ready[0].items():
            if self.pipeline.raw:
                batch[name] = [item[name] for item in ready]
                continue
            if self.task.dense and len(ready) == 1:  # may be large: no copy
                batch[name] = torch.from_numpy(np.require(first, requirements=["C", "W"])[None])
                continue
            tensor = torch.from_numpy(np.stack([item[name] for item in ready]))
            batch[name] = tensor if self.task.dense else tensor.to(self.device, self.dtype)
        start = time.perf_counter()
        with torch.inference_mode():
            found: Any = self.pipeline.forward(self.module, batch, options)
        for outputs, *stage in found if isinstance(found, Generator) else (Partial(found),):
            arrays = {name: _taken_out(output) for name, output in outputs.items()}
            seconds = (time.perf_counter() - start) / len(items)
            made = []
            for index, item in enumerate(items):
                single = {name: array[index] for name, array in arrays.items()}
                made.append(Prediction(self.task, item, self.pipeline.postprocess(single, item), seconds, *stage))
            yield made

    def fingerprint(self) -> dict[str, Any]:
        """Statistics and samples of the outputs for the deterministic input; the same on any machine to about 1e-4."""
        import numpy as np

        prediction = self.predict(*self.task.sample(self.requirements))
        result: dict[str, Any] = {}
        for item in self.task.outputs:
            if item.name not in prediction:
                continue
            flat = item.numbers(prediction[item.name])
            picks = np.linspace(0, flat.size - 1, 16).round().astype(int)
            result[item.name] = {
                "shape": list(np.shape(prediction[item.name])),
                "mean": round(float(flat.mean()), 6),
                "std": round(float(flat.std()), 6),
                "samples": [round(float(number), 5) for number in flat[picks]],
            }
        return result

    # --- keep ---------------------------------------------------------------------------------------------------------

    def save(
        self, folder: str | Path, dtype: torch.dtype | None = None, *, max_shard_size: int | str = SHARD_SIZE
    ) -> Path:
        """Write ``model.safetensors``, ``config.json`` and a card; ``stzoo.load(folder)`` reads them. Returns the folder.

        Weights of more than ``max_shard_size`` (bytes, or as ``"200MB"``) go to several files and an index. A card somebody
        wrote is kept.
        """
        from stzoo import cards, files, weights

        largest = files.byte_count(max_shard_size, "max_shard_size")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        notes = {"stzoo": self.architecture.name}
        stored = weights.save_tensors(self.module, folder / WEIGHTS_FILE, notes, dtype, largest)
        entry = self.extra | {
            "format_version": FORMAT_VERSION,
            "name": self.spec.name if self.spec else portable(self.report.name),
            "architecture": self.architecture.name,
            "plugin": self.architecture.plugin,
            "task": self.task.name,
            "config": self.config,
            "weights": stored.path.name,
            "sha256": stored.sha256,
            "fingerprint": self.fingerprint(),
        }
        if self.spec:
            own, others = self.spec.weights, self.spec.source
            base = own.repo if own else self.spec.name if others else None
            entry |= {"license": self.spec.license, "base_model": base}
        files.write_atomically(folder / CONFIG_FILE, (json.dumps({"stzoo": entry}, indent=2) + "\n").encode())
        card = folder / cards.CARD
        if not card.exists() or cards.is_ours(card.read_text()):
            files.write_atomically(card, cards.saved_card(self, entry, "path/to/this/folder").encode())
        return folder

    def publish(self, repo_id: str, **options: Any) -> Published:
        """Publish to the Hugging Face Hub; options and errors are those of :func:`stzoo.publish`."""
        import stzoo

        return stzoo.publish(self, repo_id, **options)

    def __repr__(self) -> str:
        report = {key: value for key, value in asdict(self.report).items() if value and key != "name"}
        return f"Predictor({self.report.name!r}, task={self.task.name!r}, {report})"


def _taken_out(output: Any) -> Any:
    """A batched output as an array, or the list that it is."""
    return output if isinstance(output, list) else output.float().cpu().numpy()


def tensor_of(module: nn.Module) -> torch.Tensor:
    """One that stands for all: a parameter, or where there is none a buffer."""
    import torch

    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((item for item in tensors if item.is_floating_point()), torch.empty(0))


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """``itertools.batched``, which Python 3.11 lacks."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
