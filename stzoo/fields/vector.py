"""Vectors of numbers, such as the features of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError, MediaError
from stzoo.fields.base import Field
from stzoo.files import ARRAYS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage

    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Vector(Field):
    """A row of numbers: float32 array (D,), all finite."""

    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".csv", ".json")
    reads: ClassVar[tuple[str, ...]] = (".csv", ".json", *ARRAYS)

    def read(self, value: Any, requirements: Requirements, **options: Any) -> np.ndarray:
        """From numbers, an array, or a file of one (a csv in one row or one column). Raises InputError, MediaError."""
        import numpy as np

        given = _opened(value, self.name)
        try:
            found = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError) as problem:
            raise InputError(f"{self.name}: these are no numbers ({problem})", "Give a row of numbers") from None
        if found.size != max(found.shape, default=0) or not found.size:
            raise InputError(f"{self.name}: numbers of shape {found.shape}", "Give one row, or one column")
        if not np.isfinite(found).all():
            raise InputError(f"{self.name}: {int((~np.isfinite(found)).sum())} of its numbers are not finite")
        return found.ravel()

    def sample(self, requirements: Requirements) -> np.ndarray:
        import numpy as np

        return np.sin(np.arange(64, dtype=np.float32))

    def preview(self, value: np.ndarray) -> PILImage:
        """A bar for each number, upwards or downwards from the middle; of more than 512, the largest of each stretch."""
        import numpy as np
        from PIL import Image

        stretches = np.array_split(value, min(len(value), 512))
        bars = np.array([stretch[np.abs(stretch).argmax()] for stretch in stretches])
        half, wide = 60, max(1, 512 // len(bars))
        heights = np.rint(bars / max(float(np.abs(bars).max()), 1e-12) * half).astype(int).repeat(wide)
        rows = half - np.arange(2 * half + 1)[:, None]  # from half down to -half
        up, down = (rows > 0) & (rows <= heights), (rows < 0) & (rows >= heights)
        picture = np.full((*up.shape, 3), 255, np.uint8)
        picture[rows[:, 0] == 0] = (120, 120, 120)
        picture[up], picture[down] = (38, 98, 176), (196, 78, 40)
        return Image.fromarray(picture)

    def write(self, value: np.ndarray, path: Path, **options: Any) -> None:
        """``.csv``: one row."""
        import json

        import numpy as np

        from stzoo.files import atomic_path

        suffix = path.suffix.lower()
        numbers = [float(number) for number in value]
        with atomic_path(path) as temporary:
            if suffix == ".npy":
                np.save(temporary, value)
            else:
                text = json.dumps(numbers) if suffix == ".json" else ",".join(map(repr, numbers))
                temporary.write_text(text + "\n")


def _opened(value: Any, name: str) -> Any:
    """The numbers in a file, if it is one."""
    import json

    import numpy as np

    from stzoo.media.decoding import file_of, load_array

    if not (file := file_of(value, name)):
        return value.detach().cpu() if hasattr(value, "detach") else value
    if file.suffix in ARRAYS:
        return load_array(file, name)
    try:
        text = file.path.read_text() if file.data is None else file.data.decode()
        return json.loads(text) if file.suffix == ".json" else np.loadtxt(text.splitlines(), delimiter=",")
    except (OSError, ValueError) as problem:
        raise MediaError(f"{name}: {file} cannot be read ({problem})", f"Endings: {', '.join(Vector.reads)}") from None
