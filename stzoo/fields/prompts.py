"""Prompts: what a person points at, in a picture or in the frames of a clip."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError
from stzoo.fields.base import Field

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements

MOST = 1000
"""Prompts of one value, and points of one prompt."""
SIDE = 65535
"""Largest height, width and coordinate, in pixels; also the last frame."""
_PIXELS = 2**27
_KINDS = ("points", "box", "mask")
_LAYOUT = (
    'A prompt is {"frame": 0, "object": 1} with one of "points": [[x, y, 1 or 0], …], "box": [x0, y0, x1, y1] or '
    '"mask": {"size": [height, width], "counts": [runs]}'
)


@dataclass(frozen=True, eq=False)
class Prompt:
    """One gesture: points, or a box, or a mask, at one object in one frame.

    x goes right and y down, in pixels of the picture; the pixel in column c and row r covers c to c + 1 and r to r + 1.
    """

    frame: int = 0
    """Counted from 0 in the clip as the model takes it; 0 in a picture."""
    object: int = 1
    """1 to 254, the number that the object gets in masks."""
    points: tuple[tuple[float, float, int], ...] = ()
    """(x, y, label): label 1 lies on the object, 0 does not."""
    box: tuple[float, float, float, float] | None = None
    """x0, y0, x1, y1: left, upper, right and lower edge."""
    mask: np.ndarray | None = None
    """Boolean (H, W): pixels of the object."""

    def plain(self) -> dict[str, Any]:
        """As JSON holds it: the layout that :meth:`Prompts.read` takes. A mask is run lengths, as in COCO."""
        entry: dict[str, Any] = {"frame": self.frame, "object": self.object}
        if self.mask is not None:
            from stzoo.media.masks import runs

            return {**entry, "mask": runs(self.mask)}
        return {
            **entry,
            **({"box": list(self.box)} if self.box else {"points": [list(point) for point in self.points]}),
        }


@dataclass(frozen=True)
class Prompts(Field):
    """What was pointed at: a tuple of :class:`Prompt`.

    Read from a JSON file, JSON text, or a list of dicts (also ``{"prompts": […]}``), each
    ``{"frame": 0, "object": 1, "points": [[x, y, label], …]}``, or with ``"box": [x0, y0, x1, y1]``, or with
    ``"mask": {"size": [height, width], "counts": […]}`` (run lengths down the columns, starting with those of 0, as COCO
    writes them uncompressed; from Python also a boolean array). ``frame`` is 0 and ``object`` 1 where they are left out.
    """

    on: str = ""
    """Name of the input that is pointed at."""
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    reads: ClassVar[tuple[str, ...]] = (".json",)
    ui: ClassVar[str] = "stzoo.ui.prompts:PromptsWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> tuple[Prompt, ...]:
        if isinstance(value, (str, bytes, Path)) or (isinstance(value, Mapping) and value.keys() & {"path", "bytes"}):
            value = self._parsed(value)
        if isinstance(value, Mapping):
            value = value["prompts"] if set(value) == {"prompts"} else [value]
        if isinstance(value, Prompt) or not isinstance(value, Sequence):
            raise self._wrong(f"a {type(value).__name__} is no list of prompts")
        if not value:
            raise InputError(f"{self.name}: there are no prompts", "Point at something: give at least one")
        if len(value) > MOST:
            raise self._wrong(f"{len(value)} prompts, the most is {MOST}")
        entries = [item.plain() | {"mask": item.mask} if isinstance(item, Prompt) else item for item in value]
        room, made = _PIXELS, []
        for index, entry in enumerate(entries):
            made.append(self._prompt(entry, f"prompt {index}", room))
            room -= 0 if made[-1].mask is None else made[-1].mask.size
        return tuple(made)

    def _parsed(self, value: Any) -> Any:
        from stzoo.media.decoding import file_of

        text = value
        if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
            file = file_of(value, self.name)
            assert file is not None  # a path or bytes
            text = file.path.read_bytes() if file.data is None else file.data
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise self._wrong(f"not valid JSON ({problem})") from None

    def _prompt(self, entry: Any, which: str, room: int) -> Prompt:
        if not isinstance(entry, Mapping):
            raise self._wrong(f"{which} is a {type(entry).__name__}")
        if unknown := sorted(map(str, entry.keys() - {"frame", "object", *_KINDS})):
            raise self._wrong(f"{which} has {unknown[0]!r:.40}")
        given = [kind for kind in _KINDS if entry.get(kind) is not None]
        if len(given) != 1:
            raise self._wrong(f"{which} has {' and '.join(given) or 'no points, box or mask'}")
        frame, number = entry.get("frame", 0), entry.get("object", 1)
        if not _whole(frame, 0, SIDE):
            raise self._wrong(f"{which}: frame {frame!r:.40} is not a whole number from 0 to {SIDE}")
        if not _whole(number, 1, 254):
            raise self._wrong(f"{which}: object {number!r:.40} is not a whole number from 1 to 254")
        prompt, kind = Prompt(int(frame), int(number)), given[0]
        if kind == "points":
            return replace(prompt, points=self._points(entry["points"], which))
        if kind == "box":
            return replace(prompt, box=self._box(entry["box"], which))
        return replace(prompt, mask=self._mask(entry["mask"], which, room))

    def _points(self, points: Any, which: str) -> tuple[tuple[float, float, int], ...]:
        if not isinstance(points, Sequence) or not 1 <= len(points) <= MOST:
            raise self._wrong(f"{which}: points are no list of 1 to {MOST} points")
        for point in points:
            fits = isinstance(point, Sequence) and len(point) == 3 and all(map(_pixel, point[:2]))
            if not fits or not _whole(point[2], 0, 1):
                raise self._wrong(f"{which}: {point!r:.60} is no point [x, y, 1 or 0]")
        return tuple((point[0], point[1], int(point[2])) for point in points)

    def _box(self, box: Any, which: str) -> tuple[float, float, float, float]:
        if not isinstance(box, Sequence) or len(box) != 4 or not all(map(_pixel, box)):
            raise self._wrong(f"{which}: {box!r:.80} is no box [x0, y0, x1, y1]")
        x0, y0, x1, y1 = box
        if x0 >= x1 or y0 >= y1:
            raise self._wrong(f"{which}: the box {[x0, y0, x1, y1]} is empty; x0 < x1 and y0 < y1")
        return x0, y0, x1, y1

    def _mask(self, mask: Any, which: str, room: int) -> np.ndarray:
        import numpy as np

        from stzoo.media.masks import from_runs

        if isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.size and mask.dtype.kind in "uib":
            found = mask.astype(bool)
        else:
            size, counts = (mask.get("size"), mask.get("counts")) if isinstance(mask, Mapping) else (None, None)
            sized = isinstance(size, Sequence) and len(size) == 2 and all(_whole(item, 1, SIDE) for item in size)
            if not sized or not isinstance(counts, Sequence) or isinstance(counts, str):
                raise self._wrong(f'{which}: its mask is no {{"size": [height, width], "counts": [runs]}}')
            if math.prod(size) > room:  # type: ignore[arg-type]
                raise self._wrong(f"{which}: masks of more than {_PIXELS / 1e6:.0f} million pixels")
            whole = all(_whole(item, 0, _PIXELS) for item in counts)
            if not whole or sum(counts) != math.prod(size):  # type: ignore[arg-type]
                raise self._wrong(f"{which}: the runs of its mask do not add up to its pixels")
            found = from_runs(size, counts)  # type: ignore[arg-type]
        if not found.any():
            raise self._wrong(f"{which}: its mask is empty")
        return found

    def _wrong(self, problem: str) -> InputError:
        return InputError(f"{self.name}: {problem}", _LAYOUT)

    def check(self, prompts: Sequence[Prompt], frames: int, height: int, width: int) -> None:
        """Raise InputError where a prompt lies outside a clip (1 frame: a picture) of this size."""
        for index, prompt in enumerate(prompts):
            if prompt.frame >= frames:
                raise InputError(
                    f"{self.name}: prompt {index} is on frame {prompt.frame}, {self.on or 'the input'} has {frames}",
                    "Frames are counted from 0",
                )
            beside = [point for point in prompt.points if point[0] >= width or point[1] >= height]
            edges = prompt.box and (prompt.box[2] > width or prompt.box[3] > height)
            if beside or edges or (prompt.mask is not None and prompt.mask.shape != (height, width)):
                what = f"point {list(beside[0][:2])}" if beside else "box" if edges else "mask"
                raise InputError(
                    f"{self.name}: the {what} of prompt {index} does not fit {width}x{height} pixels",
                    "Coordinates are pixels of the input, x before y",
                )

    def sample(self, requirements: Requirements) -> tuple[Prompt, ...]:
        """A point on one of the blobs of :meth:`Video.sample`, beside it one off the object, and a box around another."""
        height, width = (requirements.native_size or (max(64, requirements.minimum),) * 2)[-2:]
        on, off = (int(0.25 * width), int(0.7 * height), 1), (int(0.9 * width), int(0.9 * height), 0)
        edges = (int(0.33 * width), int(0.38 * height), int(0.57 * width) + 1, int(0.62 * height) + 1)
        return Prompt(object=1, points=(on, off)), Prompt(object=2, box=edges)

    def preview(self, value: Sequence[Prompt]) -> PILImage:
        """All of them on black, in the colours that their objects have in masks."""
        from PIL import Image, ImageDraw

        from stzoo.media.masks import colours

        table, width, height = colours(), 64.0, 64.0
        for item in value:
            corners = [*(point[:2] for point in item.points), *([item.box[2:]] if item.box else [])]
            corners += [item.mask.shape[::-1]] if item.mask is not None else []
            width, height = (max(most, *found) for most, found in zip((width, height), zip(*corners), strict=True))  # noqa: B905
        image = Image.new("RGB", (math.ceil(width) + 1, math.ceil(height) + 1))
        draw, radius = ImageDraw.Draw(image), max(2.0, width / 80)
        for item in value:
            colour = tuple(table[item.object].tolist())
            if item.mask is not None:
                image.paste(colour, (0, 0), Image.fromarray(item.mask))
            if item.box:
                draw.rectangle(item.box, outline=colour)
            for x, y, label in item.points:
                place = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(place, fill=colour if label else None, outline=colour)
        return image

    def write(self, value: Sequence[Prompt], path: Path, **options: Any) -> None:
        from stzoo.files import write_atomically

        text = ",\n  ".join(json.dumps(item.plain()) for item in value)
        write_atomically(path, f"[\n  {text}\n]\n".encode())


def _whole(value: Any, low: int, high: int) -> bool:
    """Whether it is a whole number in the range; 1.0 is, as JSON knows only numbers."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return not isinstance(value, (bool, str)) and value == int(value) and low <= value <= high
    return False


def _pixel(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= SIDE
