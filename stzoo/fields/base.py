"""What every field has; no array library is imported when this module is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError, SpecError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements


def suggestion(name: str, known: Sequence[str]) -> str:
    """``"Did you mean 'x'?"``, or what there is, for an unknown name."""
    import difflib

    lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    if close:
        likeness = [difflib.SequenceMatcher(None, item, name.lower()).ratio() for item in close]
        meant = [lower[item] for item, ratio in zip(close, likeness, strict=True) if ratio > likeness[0] - 0.25]
        return "Did you mean " + " or ".join(map(repr, meant)) + "?"
    shown = sorted(known)[:20]
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"Known: {', '.join(shown)}{more}" if known else "There are none"


@dataclass(frozen=True)
class Field:
    """A named, documented value. Subclasses say what it is."""

    name: str
    description: str = ""
    optional: bool = field(default=False, kw_only=True)
    """Whether a task's input, or a column, may be missing; whether an output is only there where an option asks for it. Optional
    inputs come after all others."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """File endings :meth:`write` understands."""
    streamed: ClassVar[tuple[str, ...]] = ()
    """Those of them for which :meth:`write` also takes an iterator over the frames of a clip, and holds few at once."""
    writing: ClassVar[tuple[Value, ...]] = ()
    """Options of :meth:`write`."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Endings of the files :meth:`read` understands; none for a plain value."""
    frames: ClassVar[tuple[str, ...]] = ()
    """Endings of the files in a folder that is one value; none where a folder is no value."""
    features: ClassVar[tuple[str, ...]] = ()
    """What a column of such values is called in the library ``datasets``: ``"Image"``, ``"List(Image)"``."""
    spatial: ClassVar[int] = 2
    """How many axes at the end of its arrays are places, which a dense task's tiles cut: 3 for volumes."""
    loading: ClassVar[tuple[Value, ...]] = ()
    """Options of :meth:`read` and :meth:`starts` for data sets."""
    ui: ClassVar[str] = "stzoo.ui.components:Widget"
    """``"module:class"`` of how it is asked for and shown in a browser (:class:`stzoo.ui.components.Widget`)."""

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Any:
        """The value in this field's layout; raises InputError naming what is wrong and what is accepted.

        ``options`` are those declared in :attr:`loading`, and ``start`` if :meth:`starts` gave one.
        """
        raise InputError(f"{self.name}: {type(self).__name__} cannot be read")

    def starts(self, value: Any, **options: Any) -> Sequence[int] | None:
        """Where the examples start that a long value is cut into; None where ``options`` ask for no cutting.

        Headers are looked at, nothing is decoded.
        """
        return None

    def sample(self, requirements: Requirements) -> Any:
        """A deterministic value that fits ``requirements``: fingerprints and conformance checks run on it."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no sample()")

    def preview(self, value: Any) -> PILImage:
        """One picture that shows the value."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no preview()")

    def told(self, value: Any) -> str:
        """The value in one line of text, where it is shown as such."""
        plain = value.tolist() if hasattr(value, "tolist") else value
        return f"{plain:.6g}" if isinstance(plain, float) else str(plain)

    def error(self, value: Any, truth: Any) -> PILImage | None:
        """One picture that shows where a prediction differs from the truth; None where that makes no sense."""
        return None

    def numbers(self, value: Any) -> np.ndarray:
        """All numbers of the value in one row, float64, always in the same order: fingerprints and conformance checks
        compare them, and they must be finite. Where the layout says "not known", a 0 stands for that."""
        import numpy as np

        return np.asarray(value, dtype=np.float64).ravel()

    def write(self, value: Any, path: Path, **options: Any) -> None:
        """Write the value in the format that ``path``'s ending names; raises MediaError."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no write()")


@dataclass(frozen=True)
class Value(Field):
    """A plain value with a default; ``parse`` checks it."""

    default: Any = None
    ui: ClassVar[str] = "stzoo.ui.components:TextWidget"

    def accepted(self) -> str:
        """What is accepted, in words that follow "must be"."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no accepted()")

    def parse(self, value: Any) -> Any:
        """The checked value; raises ValueError saying what is accepted. Text is converted, as it comes from a shell."""
        raise SpecError(f"{type(self).__name__} {self.name!r} has no parse()")

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Any:
        return self.parse(value)

    def preview(self, value: Any) -> PILImage:
        """Its text, on white."""
        from PIL import Image, ImageDraw, ImageFont

        text, font = self.told(value), ImageFont.load_default(size=20)
        picture = Image.new("RGB", (max(320, int(font.getlength(text)) + 24), 40), (255, 255, 255))
        ImageDraw.Draw(picture).text((12, 20), text, fill=(20, 20, 20), font=font, anchor="lm")
        return picture
