"""The second of two pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stzoo.fields import Image

if TYPE_CHECKING:
    import numpy as np

    from stzoo.requirements import Requirements


@dataclass(frozen=True)
class OtherImage(Image):
    """A picture that is compared with another: its sample is not the same."""

    def sample(self, requirements: Requirements) -> np.ndarray:
        """The sample of pictures upside down, and darker."""
        return super().sample(requirements)[:, ::-1].copy() * 0.75
