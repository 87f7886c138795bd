"""stzoo: a plugin-based model zoo for spatio-temporal vision.

>>> import stzoo
>>> predictor = stzoo.load("tau-mmnist")
>>> predictor.predict("clip.mp4").save("future.gif")

Everything here is imported when it is first used, so ``import stzoo`` costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "stzoo.spec": "PLUGIN_API Task Architecture Model Weights Dataset Metric Measurement Requirements",
    "stzoo.hooks": "hookimpl",
    "stzoo.recipe": "Recipe",
    "stzoo.api": "load create import_checkpoint models architectures tasks datasets info dataset verify lock",
    "stzoo.predictor": "Predictor Prediction Pipeline",
}
_HOME = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from stzoo.api import (
        architectures,
        create,
        dataset,
        datasets,
        import_checkpoint,
        info,
        load,
        lock,
        models,
        tasks,
        verify,
    )
    from stzoo.hooks import hookimpl
    from stzoo.predictor import Pipeline, Prediction, Predictor
    from stzoo.recipe import Recipe
    from stzoo.spec import (
        PLUGIN_API,
        Architecture,
        Dataset,
        Measurement,
        Metric,
        Model,
        Requirements,
        Task,
        Weights,
    )


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'stzoo' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
