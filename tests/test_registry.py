"""Records that check themselves, names that are not there, and what of it all can become JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from wheels import Environment

import stzoo
from stzoo import errors
from stzoo.fields import Number, Video, suggestion
from stzoo.registry import as_plain, registry
from stzoo.requirements import Requirements
from stzoo.spec import Architecture, Measurement, Metric, Model, Task, Weights, load_reference


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Model("Tau", "tau"), "name='Tau' is not a name (lower-case letters"),
        (lambda: Model("a--b", "tau"), "name='a--b' is not a name"),
        (lambda: Model("x", "tau", aliases=("A b",)), "Model 'x': aliases=('A b',) is not a name"),
        (lambda: Model("x", "two words"), "architecture='two words' is not the name of an architecture"),
        (lambda: Model("x", "tau", description=None), "description=None is not str"),
        (lambda: Model("x", "tau", tags="rain"), "tags='rain' is not tuple[str, ...]"),
        (lambda: Model("x", "tau", tags=("rain", 1)), "tags=('rain', 1) is not tuple[str, ...]"),
        (lambda: Model("x", "tau", parameters=1.5), "parameters=1.5 is not int | None"),
        (lambda: Model("x", "tau", parameters=True), "parameters=True is not int | None"),
        (lambda: Model("x", "tau", config=[1]), "config=[1] is not Mapping"),
        (lambda: Model("x", "tau", weights="file"), "weights='file' is not Weights | None"),
        (lambda: Model("x", "tau", weights=Weights("a/b")), "license='' is not the licence of the weights"),
        (lambda: Model("x", "tau", metrics=({"mse": 1},)), "is not tuple[Measurement, ...]"),
        (lambda: Weights("just-a-name"), "Weights 'just-a-name': repo='just-a-name' is not a Hub repo id"),
        (lambda: Weights("a/b", revision="main"), "revision='main' is not a full commit hash"),
        (lambda: Weights("a/b", sha256="0" * 63), "is not a sha256"),
        (lambda: Weights("a/b", bundled="../x"), "bundled='../x' is not a path inside the plugin's package"),
        (lambda: Measurement("rain", "mse", "0.5"), "value='0.5' is not float"),
        (lambda: Requirements(minimum=None), "minimum=None is not int"),
        (lambda: Architecture("x", "video-prediction", "no reference"), "build='no reference' is not an import string"),
        (
            lambda: Architecture("x", "video-prediction", "a:b", formats=("c",)),
            "formats=('c',) is not an import string",
        ),
        (lambda: Architecture("x", None, "a:b"), "task=None is not str"),
        (lambda: Task("x", inputs=("video",)), "inputs=('video',) is not tuple[Field, ...]"),
        (lambda: Task("x", inputs=Video("video")), "is not tuple[Field, ...]"),
        (lambda: Task("x", metrics=(Metric("m", 3),)), "Metric 'm': compute=3 is not str"),
    ],
)
def test_records_check_themselves(make: Any, message: str) -> None:
    with pytest.raises(errors.SpecError) as raised:
        make()
    assert message in str(raised.value)


def test_records_cannot_be_changed() -> None:
    config = {"width": 3}
    model = Model("x", "tau", config=config, tags=["rain"])
    config["width"] = 4
    assert model.config["width"] == 3
    assert model.tags == ("rain",)
    with pytest.raises(TypeError):
        model.config["width"] = 5  # type: ignore[index]


def test_licences_that_forbid_commercial_use() -> None:
    forbidding = ("cc-by-nc-4.0", "CC-BY-NC-SA-4.0", "non-commercial", "NonCommercial research")
    assert all(Model("x", "tau", license=license).non_commercial for license in forbidding)
    assert not any(Model("x", "tau", license=license).non_commercial for license in ("mit", "cc-by-4.0", "ncsa", ""))


def test_suggestions() -> None:
    assert suggestion("TAU-mnist", ["tau-mmnist", "simvp"]) == "Did you mean 'tau-mmnist'?"
    assert suggestion("hid_s", ["hid_S", "N_S"]).startswith("Did you mean 'hid_S'")
    assert suggestion("zzz", ["b", "a"]) == "Known: a, b"
    assert suggestion("zzz", [str(number) for number in range(2000)]).endswith(" and 1980 more")
    assert suggestion("zzz", []) == "There are none"


def test_references() -> None:
    assert load_reference("stzoo.spec:Model") is Model
    with pytest.raises(errors.PluginError, match="ModuleNotFoundError: No module named 'no_such_module'"):
        load_reference("no_such_module:Net")
    with pytest.raises(errors.PluginError, match="AttributeError"):
        load_reference("stzoo.spec:Modle")


@pytest.mark.parametrize(
    ("kind", "name", "error", "message"),
    [
        (Architecture, "taau", errors.UnknownArchitecture, "no architecture is called 'taau'. Did you mean 'tau'?"),
        (Architecture, "video-prediction:taau", errors.UnknownArchitecture, "'video-prediction:tau'"),
        (Task, "video_prediction", errors.UnknownTask, "Did you mean 'video-prediction'?"),
        (stzoo.Dataset, "moving-mnits", errors.UnknownDataset, "Did you mean 'moving-mnist'"),
        (Model, "", errors.UnknownModel, "no model is called ''"),
        (Model, ":", errors.UnknownModel, "no model is called ':'"),
        (Model, "video-prediction:", errors.UnknownModel, "no model is called 'video-prediction:'"),
    ],
)
def test_unknown_names(kind: Any, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        registry().get(kind, name)
    assert message in str(raised.value)


def test_qualified_names() -> None:
    for architecture in stzoo.architectures():
        assert registry().get(Architecture, f"{architecture.plugin}:{architecture.name}") is architecture


def test_everything_becomes_json() -> None:
    records = [*stzoo.tasks(), *stzoo.architectures(), *stzoo.models(), *stzoo.datasets()]
    plain = json.loads(json.dumps(as_plain(records), allow_nan=False))
    assert [record["name"] for record in plain] == [record.name for record in records]
    assert as_plain(Number("x"))["maximum"] is None, "JSON knows no infinity"
    assert as_plain(Number("x"))["type"] == "Number"


def test_a_known_model_whose_plugin_is_absent(tmp_path: Path) -> None:
    """The catalogue says which plugin brings it, and how that is installed."""
    missing, unknown = Environment(tmp_path / "environment").ask(
        """
        import stzoo
        from stzoo.registry import catalogue
        catalogue()["acme-sr"] = {"distribution": "stzoo-acme-sr", "install": "pip install stzoo-acme-sr", "models": [
            {"name": "acme-sr-x2", "task": "super-resolution", "description": "", "license": "mit"}]}
        answer = []
        for name in ("acme-sr-x2", "acme-sr-x3"):
            try:
                stzoo.info(name)
            except stzoo.errors.StzooError as error:
                answer.append([type(error).__name__, str(error)])
        """
    )
    assert missing[0] == "PluginMissing"
    assert "belongs to the plugin 'acme-sr', which is not installed. Run: pip install stzoo-acme-sr" in missing[1]
    assert unknown[0] == "UnknownModel"
    assert "Did you mean 'acme-sr-x2'" in unknown[1]
