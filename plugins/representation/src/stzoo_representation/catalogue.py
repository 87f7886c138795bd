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
DATASETS: tuple[Dataset, ...] = (*forecasting.DATASETS, *verification.DATASETS)
