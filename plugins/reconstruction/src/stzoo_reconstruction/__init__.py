"""The stzoo plugin for 3D reconstruction: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Dataset, Model, Task, hookimpl

__version__ = "0.1.0"
PLUGIN_API = 1


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_reconstruction.catalogue import NOVEL_VIEW, RECONSTRUCTION

    yield from (NOVEL_VIEW, RECONSTRUCTION)


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    from stzoo_reconstruction.catalogue import GAUSSIAN_SPLATTING, NERF, SCENE_FIT

    yield from (GAUSSIAN_SPLATTING, NERF, SCENE_FIT)


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_reconstruction.models import MODELS

    yield from MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_reconstruction.catalogue import DATASETS

    yield from DATASETS
