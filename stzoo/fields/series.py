"""Time series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.errors import InputError
from stzoo.fields.base import Field, Value
from stzoo.fields.values import Choice
from stzoo.files import ARRAYS

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from stzoo.media.series import TimeSeries
    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class Series(Field):
    """A time series with one or several variables: a :class:`stzoo.media.series.TimeSeries`, whose array is float64 (T, V).

    A longer one is cut to the last steps that a network takes. Where values are expected, an array (T, V) will do.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".npz")
    reads: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".parquet", *ARRAYS)
    loading: ClassVar[tuple[Value, ...]] = (
        Choice(
            "gaps",
            "What becomes of missing values: the previous one, a line between neighbours",
            default="refuse",
            choices=("refuse", "previous", "linear"),
        ),
    )
    ui: ClassVar[str] = "stzoo.ui.series:SeriesWidget"

    def read(self, value: Any, requirements: Requirements, **options: Any) -> TimeSeries:
        from stzoo.media import series

        found = series.filled(series.read_series(value, self.name), self.name, options.get("gaps") or "refuse")
        steps, variables = found.shape
        if requirements.channels and variables != requirements.channels:
            raise InputError(f"{self.name}: {variables} variables, the model takes {requirements.channels}")
        wanted = requirements.frames_in or 1
        if steps < wanted:
            raise InputError(f"{self.name}: {steps} steps, the model needs {wanted}", "Give a longer series")
        return found[steps - wanted :] if requirements.frames_in else found

    def sample(self, requirements: Requirements) -> TimeSeries:
        from stzoo.media import series

        return series.sample_series(requirements.frames_in or 96, requirements.channels or 2)

    def preview(self, value: Any) -> PILImage:
        from stzoo.media import series

        return series.picture(series.as_series(value))

    def write(self, value: Any, path: Path, **options: Any) -> None:
        from stzoo.media import series

        series.write_series(series.as_series(value), path)
