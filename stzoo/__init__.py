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
    "stzoo.requirements": "Requirements",
    "stzoo.spec": "PLUGIN_API Task Architecture Model Weights Source Dataset Metric Baseline Measurement",
    "stzoo.hooks": "hookimpl",
    "stzoo.recipe": "Recipe",
    "stzoo.api": "load pull create models architectures tasks datasets info dataset verify lock",
    "stzoo.imports": "import_checkpoint",
    "stzoo.predictor": "Predictor Pipeline",
    "stzoo.prediction": "Prediction",
    "stzoo.publishing": "publish publish_all Published",
    "stzoo.training.loop": "finetune",
    "stzoo.training.run": "Run",
    "stzoo.evaluation": "evaluate",
    "stzoo.results": "Evaluation",
    "stzoo.bulk": "predict_data BulkReport",
    "stzoo.bundles": "bundle bundled",
    "stzoo.mapping": "map_batches BatchPredictor",
    "stzoo.ui.gallery": "demo",
}
_MODULES = ("errors", "fields", "media")
_HOME = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = sorted([*_HOME, *_MODULES, "__version__"])

if TYPE_CHECKING:
    from stzoo import errors as errors
    from stzoo import fields as fields
    from stzoo import media as media
    from stzoo.api import architectures as architectures
    from stzoo.api import create as create
    from stzoo.api import dataset as dataset
    from stzoo.api import datasets as datasets
    from stzoo.api import info as info
    from stzoo.api import load as load
    from stzoo.api import lock as lock
    from stzoo.api import models as models
    from stzoo.api import pull as pull
    from stzoo.api import tasks as tasks
    from stzoo.api import verify as verify
    from stzoo.bulk import BulkReport as BulkReport
    from stzoo.bulk import predict_data as predict_data
    from stzoo.bundles import bundle as bundle
    from stzoo.bundles import bundled as bundled
    from stzoo.evaluation import evaluate as evaluate
    from stzoo.hooks import hookimpl as hookimpl
    from stzoo.imports import import_checkpoint as import_checkpoint
    from stzoo.mapping import BatchPredictor as BatchPredictor
    from stzoo.mapping import map_batches as map_batches
    from stzoo.prediction import Prediction as Prediction
    from stzoo.predictor import Pipeline as Pipeline
    from stzoo.predictor import Predictor as Predictor
    from stzoo.publishing import Published as Published
    from stzoo.publishing import publish as publish
    from stzoo.publishing import publish_all as publish_all
    from stzoo.recipe import Recipe as Recipe
    from stzoo.requirements import Requirements as Requirements
    from stzoo.results import Evaluation as Evaluation
    from stzoo.spec import PLUGIN_API as PLUGIN_API
    from stzoo.spec import Architecture as Architecture
    from stzoo.spec import Baseline as Baseline
    from stzoo.spec import Dataset as Dataset
    from stzoo.spec import Measurement as Measurement
    from stzoo.spec import Metric as Metric
    from stzoo.spec import Model as Model
    from stzoo.spec import Source as Source
    from stzoo.spec import Task as Task
    from stzoo.spec import Weights as Weights
    from stzoo.training.loop import finetune as finetune
    from stzoo.training.run import Run as Run
    from stzoo.ui.gallery import demo as demo


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"stzoo.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'stzoo' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
