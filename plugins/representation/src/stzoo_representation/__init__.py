"""The stzoo plugin for representations: a table of contents. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from stzoo import Architecture, Dataset, Model, Task, hookimpl

__version__ = "0.1.0"
PLUGIN_API = 1


@hookimpl
def stzoo_tasks() -> Iterator[Task]:
    from stzoo_representation.catalogue import TASKS

    yield from TASKS


@hookimpl
def stzoo_architectures() -> Iterator[Architecture]:
    from stzoo_representation.catalogue import ARCHITECTURES

    yield from ARCHITECTURES


@hookimpl
def stzoo_models() -> Iterator[Model]:
    from stzoo_representation.models import MODELS

    yield from MODELS


@hookimpl
def stzoo_datasets() -> Iterator[Dataset]:
    from stzoo_representation.catalogue import DATASETS

    yield from DATASETS
