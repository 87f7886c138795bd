"""The conformance kit: a pytest plugin that checks every model and architecture of a stzoo plugin alike.

``pytest --stzoo acme`` runs it on the installed plugin ``acme``, beside the tests that are collected anyhow. In a plugin's
pyproject.toml ``addopts = "--stzoo acme"`` does so for good. The checks are in :mod:`stzoo.testing.conformance`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stzoo.errors import HubOffline, HubUnavailable, StzooError

if TYPE_CHECKING:
    from stzoo.hooks import Plugin
    from stzoo.prediction import Prediction
    from stzoo.predictor import Predictor
    from stzoo.spec import Architecture, Model

pytest.register_assert_rewrite("stzoo.testing.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run stzoo's conformance tests on this installed plugin (repeatable); not where test files are named"
    parser.getgroup("stzoo").addoption(
        "--stzoo", action="append", default=[], metavar="PLUGIN", dest="stzoo", help=text
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("stzoo") and config.args_source is not pytest.Config.ArgsSource.ARGS:
        _plugins(config)  # a name that is not there is told before anything is collected
        config.args.append(str(Path(__file__).parent / "conformance.py"))


# --- what is checked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A model, or an architecture at its defaults: something that predicts."""

    architecture: Architecture
    model: Model | None = None

    def __str__(self) -> str:
        return self.model.name if self.model else f"{self.architecture.name} (untrained)"

    @property
    def is_plain(self) -> bool:
        """Whether it is a model without weights that is its architecture at the defaults."""
        defaults = {key: getattr(value, "default", value) for key, value in self.architecture.defaults.items()}
        return bool(self.model and not self.model.weights and defaults | dict(self.model.config) == defaults)

    def predictor(self) -> Predictor:
        """On the CPU; with its weights if it has any, otherwise initialised from seed 0."""
        import torch

        import stzoo

        torch.manual_seed(0)
        if self.model and self.model.weights:
            return stzoo.load(self.model.qualified_name, device="cpu")
        name = f"{self.architecture.plugin}:{self.architecture.name}"
        predictor = stzoo.create(name, device="cpu", **(self.model.config if self.model else {}))
        return replace(predictor, spec=self.model)


def _plugins(config: pytest.Config) -> list[Plugin]:
    """The selected plugins; all installed ones where a test suite uses the kit without ``--stzoo``."""
    from stzoo.fields import suggestion
    from stzoo.registry import registry

    known = {plugin.name: plugin for plugin in registry().plugins}
    for name in config.getoption("stzoo"):
        if name not in known:
            raise pytest.UsageError(
                f"--stzoo {name}: no such plugin is installed here. {suggestion(name, list(known))}"
            )
    return [known[name] for name in config.getoption("stzoo") or known]


def _cases(config: pytest.Config) -> dict[str, list[tuple[str, Any]]]:
    """By fixture: what it is parametrised with, each with an id."""
    from stzoo.registry import registry
    from stzoo.spec import Architecture, Model

    plugins = _plugins(config)
    names = [plugin.name for plugin in plugins]
    models = [model for model in registry().all(Model) if model.plugin in names]
    architectures = [architecture for architecture in registry().all(Architecture) if architecture.plugin in names]
    subjects = [Subject(registry().architecture_of(model), model) for model in models if not model.source]
    plain = [subject.architecture for subject in subjects if subject.is_plain]
    subjects = [Subject(architecture) for architecture in architectures if architecture not in plain] + subjects
    return {
        "stzoo_plugin": [(plugin.name, plugin) for plugin in plugins],
        "stzoo_architecture": [(architecture.name, architecture) for architecture in architectures],
        "stzoo_model": [(model.name, model) for model in models],
        "stzoo_trained": [(model.name, model) for model in models if model.weights],
        "stzoo_foreign": [(model.name, model) for model in models if model.source],
        "stzoo_learner": [(architecture.name, architecture) for architecture in architectures if architecture.recipe],
        "stzoo_predictor": [(str(subject), subject) for subject in subjects],
        "stzoo_format": [
            (f"{subject}-{reference.rpartition(':')[2]}", (subject, reference))
            for subject in subjects
            for reference in subject.architecture.formats
        ],
    }


_ABSENT = {
    "stzoo_architecture": "the plugin has no architecture",
    "stzoo_model": "the plugin has no model",
    "stzoo_trained": "no model of the plugin has weights",
    "stzoo_foreign": "no model of the plugin is published by others",
    "stzoo_learner": "no architecture of the plugin has a recipe",
    "stzoo_predictor": "the plugin has neither models nor architectures",
    "stzoo_format": "no architecture of the plugin reads foreign checkpoints",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture in {"stzoo_plugin", *_ABSENT}.intersection(metafunc.fixturenames):
        cases = [pytest.param(value, id=name) for name, value in _cases(metafunc.config)[fixture]]
        absent = pytest.param(None, id="none", marks=pytest.mark.skip(reason=_ABSENT.get(fixture, "")))
        metafunc.parametrize(fixture, cases or [absent], indirect=fixture == "stzoo_predictor", scope="session")


# --- fixtures: one network at a time, loaded once ---------------------------------------------------------------------


def loaded(subject: Subject) -> Predictor:
    """The subject's predictor; where its weights are only on a Hub that cannot be reached, the test is skipped."""
    try:
        return subject.predictor()
    except (HubOffline, HubUnavailable) as problem:
        pytest.skip(f"the weights of {subject} cannot be had now: {problem}")
    except StzooError as problem:
        pytest.fail(f"{subject} cannot be loaded: {problem}", pytrace=False)


@pytest.fixture(scope="session")
def stzoo_predictor(request: pytest.FixtureRequest) -> Predictor:
    """The predictor under test; tests leave it as it is."""
    return loaded(request.param)


@pytest.fixture(scope="session")
def stzoo_prediction(stzoo_predictor: Predictor) -> Prediction:
    """Its prediction from the task's deterministic sample."""
    return stzoo_predictor.predict(*samples(stzoo_predictor))


@pytest.fixture(scope="session")
def stzoo_saved(stzoo_predictor: Predictor) -> Iterator[Predictor]:
    """The predictor under test, saved to a folder and loaded from there."""
    import torch

    import stzoo

    with tempfile.TemporaryDirectory() as folder:
        stzoo_predictor.save(folder)
        torch.manual_seed(0)
        yield stzoo.load(folder, device="cpu")


def samples(predictor: Predictor, size: tuple[int, ...] | None = None) -> tuple[Any, ...]:
    """The task's deterministic inputs, at another height and width (of volumes: three sides) where given."""
    needs = predictor.requirements
    return predictor.task.sample(replace(needs, native_size=size) if size else needs)  # type: ignore[arg-type]
