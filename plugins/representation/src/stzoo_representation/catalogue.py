"""What the plugin declares, put together: pure data."""

from __future__ import annotations

from stzoo import Architecture, Dataset, Task
from stzoo_representation import catalogue_forecasting as forecasting
from stzoo_representation import catalogue_mae as mae
from stzoo_representation import catalogue_verification as verification

TASKS: tuple[Task, ...] = (
    *mae.TASKS,
    *forecasting.TASKS,
    *verification.TASKS,
)
ARCHITECTURES: tuple[Architecture, ...] = (
    *mae.ARCHITECTURES,
    *forecasting.ARCHITECTURES,
    *verification.ARCHITECTURES,
)
DATASETS: tuple[Dataset, ...] = (
    *(
        Dataset(
            name,
            task,
            "stzoo_representation.examples:parrots",
            splits=("test",),
            shipped=True,
            description="The middle of the 23rd of Kodak's photographs, made smaller",
            license="released by Kodak for unrestricted use",
            homepage="https://r0k.us/graphics/kodak/",
        )
        for name, task in (("parrots", "masked-autoencoding"), ("parrots-features", "image-features"))
    ),
    *forecasting.DATASETS,
    *verification.DATASETS,
)
