"""What an example of super-resolution is: a picture as it should come out, and what a network is given instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stzoo.fields import Choice, Image, Number, Value, as_value

if TYPE_CHECKING:
    from stzoo.requirements import Requirements
    from stzoo_super_resolution.data import Pair


@dataclass(frozen=True)
class Original(Image):
    """A picture as it should come out, read as a :class:`stzoo_super_resolution.data.Pair`: what a network is given is made from it, or lies beside it.

    It is cut at the right and below to a multiple of the network's scale, and its transparency is left out.
    """

    loading: ClassVar[tuple[Value, ...]] = (
        *Image.loading,
        Choice(
            "down",
            "How it is made smaller: MATLAB's bicubic, Pillow's bicubic, or by leaving pixels out",
            default="bicubic",
            choices=("bicubic", "pillow", "subsample"),
        ),
        Number("blur", "Standard deviation of a Gaussian blur before that, in its own pixels", 0.0, minimum=0),
        Number("noise", "Standard deviation of Gaussian noise after that, of 255", 0.0, minimum=0, maximum=255),
        Number("jpeg", "Quality of a JPEG compression at last", minimum=1, maximum=100, integer=True),
        Number("seed", "Of the noise", 0, minimum=0, integer=True),
        as_value("low", ""),
    )

    def read(self, value: Any, requirements: Requirements, **options: Any) -> Pair:  # type: ignore[override]
        """``value``: as :class:`stzoo.fields.Image` takes it; or ``{"high": PATH, "low": PATH}``, where ``{scale}`` stands for
        the network's scale and ``low`` may be left out. The option ``low`` names a folder of files with the same names
        (also with ``x2`` and so on behind them).

        Raises InputError if a picture cannot be read or is too small, or if the sizes of the two do not fit the scale.
        """
        from stzoo import media
        from stzoo_super_resolution import data

        scale, low = requirements.scale, None
        if isinstance(value, Mapping) and "high" in value:
            value, low = (path and path.replace("{scale}", str(scale)) for path in (value["high"], value.get("low")))
        if folder := options.pop("low", ""):
            low = data.partner(Path(folder), value, scale)
        size = options.pop("size", None)
        high = data.colours(media.read_image(value, self.name, requirements.channels, size=size))
        if low:
            given = data.colours(media.read_image(low, self.name, requirements.channels))
            pair = data.fitted(given, high, scale, low)
        else:
            pair = data.degraded(high, scale, **{key: options[key] for key in data.MAKING if key in options})
        media.check_size(pair.low, self.name, requirements)
        return pair
