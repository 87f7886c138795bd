"""What ``predict`` returns: values that know how to save, show and plot themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stzoo import errors
from stzoo.fields import Field, complete_values
from stzoo.files import ending
from stzoo.spec import Task

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage


@dataclass(eq=False, repr=False)
class Prediction(Mapping[str, Any]):
    """Named outputs of one item: ``prediction["video"]`` or ``prediction.video``; NumPy arrays."""

    task: Task
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    seconds: float
    """Wall time of the forward pass, divided by the batch size."""
    share: float = 1.0
    """How much of the work was done when it was made; less than 1 for all but the last of :meth:`Predictor.watch`."""
    note: str = ""
    """One line about that for people."""

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["outputs"][name]
        except KeyError:
            raise AttributeError(
                f"this prediction has no {name!r}, it has {', '.join(self.__dict__.get('outputs', ()))}"
            ) from None

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {getattr(value, 'shape', value)}" for name, value in self.outputs.items())
        return f"Prediction({shapes}; {self.seconds:.3f} s)"

    def save(self, path: str | Path, output: str | None = None, **options: Any) -> Path:
        """Write one output (default: the first) in the format that the ending names; returns the path.

        ``.png`` of a clip is a strip of its frames. ``options`` go to the field's ``write`` (``fps``, ``scale`` …).
        Raises MediaError for an ending the field does not know, listing those it does.
        """
        path = Path(path)
        written = next((item for item in self.task.outputs if output in (None, item.name)), None)
        if written is None:
            raise errors.InputError(f"this prediction has no output {output!r}", f"It has {', '.join(self.outputs)}")
        if written.name not in self.outputs:
            raise errors.InputError(f"{written.name} was not asked for", "Set the option that asks for it")
        check_target(written, path)
        declared = {option.name: option for option in written.writing}
        settings = complete_values(declared, options, f"output {written.name!r}", errors.InputError)
        written.write(self.outputs[written.name], path, **settings, **self.view(written))
        return path

    def view(self, written: Field) -> dict[str, Any]:
        """The input that shows the same view as an output, as its ``write`` takes it; empty where the output names none."""
        name = getattr(written, "picture", "")
        return {"picture": self.inputs[name]} if name in self.inputs else {}

    def figure(self, truth: Mapping[str, Any] | None = None) -> PILImage:
        """Inputs and outputs as labelled rows of pictures; with ``truth``, that and where it differs below."""
        from stzoo import media

        rows = [
            (f"input {item.name}" if truth is None else "input", item.preview(self.inputs[item.name]))
            for item in self.task.inputs
            if item.name in self.inputs
        ]
        for item in self.task.outputs:
            if item.name not in self.outputs:
                continue
            if truth is not None and item.name in truth:
                rows.append(("truth", item.preview(truth[item.name])))
            rows.append(("prediction", item.preview(self.outputs[item.name])))
            if truth is not None and item.name in truth:
                error = item.error(self.outputs[item.name], truth[item.name])
                rows += [("error", error)] if error else []
        return media.labelled_rows(rows)

    def show(self) -> None:
        """Open the picture in the system's viewer."""
        self.figure().show()

    def _repr_png_(self) -> bytes:
        from stzoo import media

        return media.png_bytes(self.figure())


def check_target(field: Field, path: Path) -> None:
    """Raise MediaError if an output of this kind cannot be written to ``path``: its ending, its folder."""
    if ending(path) not in field.suffixes:
        raise errors.MediaError(f"cannot write {field.name} as {path.name!r}", f"Endings: {', '.join(field.suffixes)}")
    if not path.parent.is_dir():
        raise errors.MediaError(f"there is no folder {path.parent} to write {path.name} into", "Create it first")
