"""Isolation: every kind of bad plugin, as a real distribution that pip installed, beside good ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wheels
from wheels import Environment

from stzoo.registry import catalogue

IMPORTS = "from stzoo import Architecture, Dataset, Model, Task, hookimpl\n"
ARCHITECTURE = '@hookimpl\ndef stzoo_architectures():\n    yield Architecture("{0}", "video-prediction", "{1}:Net")\n'
MODELS = "@hookimpl\ndef stzoo_models():\n"


def simple(architecture: str, *models: str, before: str = "", module: str = "network") -> str:
    """The source of a plugin with one architecture and these models."""
    lines = "".join(f"    yield Model({name!r}, {architecture!r})\n" for name in models)
    return IMPORTS + before + ARCHITECTURE.format(architecture, module) + (MODELS + lines if models else "")


PLUGINS: dict[str, str] = {
    "acme-good": IMPORTS
    + ARCHITECTURE.format("good", "network")
    + MODELS
    + """\
    yield Model("good-small", "good", license="mit", trained_on="rain radar", tags=("weather",), parameters=10)
    yield Model("good-large", "good", license="cc-by-nc-4.0", parameters=1000, aliases=("good-default",))
""",
    "acme-raises": simple("raises", "raises-1") + "raise RuntimeError('boom at import')\n",
    "acme-exits": simple("exits", "exits-1") + "import sys\nsys.exit(3)\n",
    "acme-slow": "import os, time\ntime.sleep(float(os.environ.get('ACME_SLEEP', '60')))\n" + simple("slow", "slow-1"),
    "acme-types": simple("types", "types-1") + "    yield 'a string'\n",
    "acme-nothing": simple("nothing") + MODELS + "    return 7\n",
    "acme-halfway": simple("halfway", "halfway-1") + "    raise KeyError('lost half-way')\n",
    "acme-twice": simple("twice", "twice-1", "twice-1"),
    "acme-alias": simple("alias", "alias-1") + "    yield Model('alias-2', 'alias', aliases=('alias-1',))\n",
    "acme-signature": simple("signature") + "@hookimpl\ndef stzoo_models(config):\n    return ()\n",
    "acme-typo": simple("typo") + "@hookimpl\ndef stzoo_modles():\n    return ()\n",
    "acme-future": "PLUGIN_API = 99\n" + simple("future", "future-1"),
    "acme-orphan": simple("orphan-net") + MODELS + "    yield Model('orphan', 'no-such-net')\n",
    "acme-dependent": IMPORTS + MODELS + "    yield Model('dependent', 'orphan-net')\n",
    "acme-task": simple("task").replace('"video-prediction"', '"no-such-task"'),
    "acme-spec": IMPORTS + MODELS + "    yield Model('spec-1', 'good', description=None)\n",
    "acme-asks": "import stzoo\nstzoo.models()\n" + simple("asks"),
    "acme-silent": simple("silent", "silent-1").replace("@hookimpl\n", ""),
    "acme-heavy": "import gradio\n" + simple("heavy", "heavy-1"),
    "acme-redeclares": simple("redeclares", "redeclares-1")
    + "@hookimpl\ndef stzoo_tasks():\n    yield Task('video-prediction', 'something else')\n",
    "acme-one": simple("one", "shared", "one-1"),
    "acme-two": simple("two", "shared", "two-1"),
    "acme-thief": simple("simvp", "thief-1"),
}

FAILED = {
    "acme-raises": "RuntimeError: boom at import",
    "acme-exits": "SystemExit: 3",
    "acme-types": "stzoo_models yielded 'a string', which is not a Model",
    "acme-nothing": "stzoo_models returned 7, it must yield Model specs",
    "acme-halfway": "KeyError: 'lost half-way'",
    "acme-twice": "stzoo_models declares 'twice-1' twice",
    "acme-alias": "stzoo_models declares 'alias-1' twice",
    "acme-signature": "Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
    "acme-typo": "unknown hook 'stzoo_modles'",
    "acme-future": "was written for plugin API 99, this stzoo speaks 1",
    "acme-orphan": "model 'orphan' names the unknown architecture 'no-such-net'",
    "acme-dependent": "model 'dependent' names the unknown architecture 'orphan-net'",
    "acme-task": "architecture 'task' names the unknown task 'no-such-task'",
    "acme-spec": "Model 'spec-1': description=None is not str",
    "acme-asks": "a plugin asked for the registry while it was being imported",
    "acme-missing": "ModuleNotFoundError: No module named 'acme_no_such_module'",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with all of them installed."""
    folder = tmp_path_factory.mktemp("plugins")
    built = [wheels.plugin(folder, name, source) for name, source in PLUGINS.items()]
    built += [
        wheels.build(folder, "acme-missing", {"acme_present.py": ""}, {"acme-missing": "acme_no_such_module"}),
        wheels.build(folder, "fake-gradio", {"gradio.py": "", "unrelated.py": ""}),
        wheels.plugin(folder, "zeta-clash", simple("zeta", "zeta-1"), plugin_name="acme-good"),
        wheels.plugin(folder, "zeta-impostor", simple("impostor", "impostor-1"), plugin_name="video-prediction"),
    ]
    made = Environment(folder / "environment")
    made.variables["STZOO_PLUGIN_TIMEOUT"] = "1"
    made.install(*built)
    return made


@pytest.fixture(scope="module")
def seen(environment: Environment) -> dict[str, Any]:
    """What one process sees of all plugins."""
    found: dict[str, Any] = environment.ask(
        """
        import time
        start = time.perf_counter()
        import stzoo
        from stzoo.registry import registry
        models = [model.qualified_name for model in stzoo.models()]
        answer = {
            "seconds": time.perf_counter() - start,
            "models": models,
            "architectures": [f"{item.plugin}:{item.name}" for item in stzoo.architectures()],
            "plugins": [
                {key: getattr(plugin, key) for key in ("name", "distribution", "version", "status", "reason", "traceback", "warnings")}
                for plugin in registry().plugins
            ],
        }
        """
    )
    return found


def record(seen: dict[str, Any], distribution: str) -> dict[str, Any]:
    return next(plugin for plugin in seen["plugins"] if plugin["distribution"] == distribution)


@pytest.mark.parametrize("name", FAILED)
def test_a_bad_plugin_is_named_with_the_reason(seen: dict[str, Any], name: str) -> None:
    plugin = record(seen, name)
    assert plugin["status"] == "failed"
    assert FAILED[name] in plugin["reason"]
    assert "\n" not in plugin["reason"]
    assert plugin["version"] == "1.0"
    assert plugin["traceback"].startswith("Traceback"), "what stzoo doctor shows"


def test_a_bad_plugin_registers_nothing_at_all(seen: dict[str, Any]) -> None:
    for kind in ("models", "architectures"):
        assert not [name for name in seen[kind] if name.partition(":")[0] in FAILED]
    assert "acme-orphan:orphan-net" not in seen["architectures"], "its good half is taken back too"


def test_everything_else_works(seen: dict[str, Any]) -> None:
    wanted = [
        "acme-good:good-large",
        "acme-good:good-small",
        "acme-one:shared",
        "acme-two:shared",
        "acme-thief:thief-1",
    ]
    assert set(wanted) <= set(seen["models"])
    assert {"video-prediction:simvp", "video-prediction:tau"} <= set(seen["architectures"])
    assert record(seen, "acme-good")["status"] == "ok"
    assert record(seen, "stzoo-video-prediction")["status"] == "ok"


def test_a_slow_plugin_is_not_waited_for(seen: dict[str, Any]) -> None:
    plugin = record(seen, "acme-slow")
    assert plugin["status"] == "slow"
    assert "took more than 1 s" in plugin["reason"]
    assert not [name for name in seen["models"] if "slow" in name]
    assert seen["seconds"] < 30, "the plugin sleeps for a minute, and is given a second"


def test_a_slow_plugin_is_waited_for_when_its_model_is_asked_for(environment: Environment) -> None:
    before, unknown, name, after, models = environment.ask(
        """
        import stzoo, stzoo.registry
        def status():
            return next(plugin.status for plugin in stzoo.registry.registry().plugins if plugin.name == "acme-slow")
        before = status()
        stzoo.registry.PATIENCE = 0.1
        try:
            stzoo.info("slow-1")
        except stzoo.errors.UnknownModel as error:
            unknown = str(error)
        stzoo.registry.PATIENCE = 60
        answer = before, unknown, stzoo.info("slow-1").qualified_name, status(), [model.name for model in stzoo.models()]
        """,
        STZOO_PLUGINS="video-prediction,acme-slow",
        STZOO_PLUGIN_TIMEOUT="0.1",
        ACME_SLEEP="2",
    )
    assert before == "slow"
    assert "acme-slow (slow)" in unknown, "patience has an end, and then the error names the plugin"
    assert name == "acme-slow:slow-1"
    assert after == "ok"
    assert "slow-1" in models


def test_a_slow_plugin_that_has_finished_is_listed(environment: Environment) -> None:
    early, late = environment.ask(
        """
        import stzoo, time
        early = [model.name for model in stzoo.models(plugin="acme-slow")]
        while not (late := [model.name for model in stzoo.models(plugin="acme-slow")]):
            time.sleep(0.05)
        answer = early, late
        """,
        STZOO_PLUGINS="video-prediction acme-slow",
        STZOO_PLUGIN_TIMEOUT="0.1",
        ACME_SLEEP="1.5",
    )
    assert (early, late) == ([], ["slow-1"])


def test_names_that_clash(environment: Environment, seen: dict[str, Any]) -> None:
    assert "taken by the distribution 'acme-good'" in record(seen, "zeta-clash")["reason"]
    assert "taken by the distribution 'stzoo-video-prediction'" in record(seen, "zeta-impostor")["reason"]
    assert "'acme-two'" in record(seen, "acme-one")["reason"]
    assert "say 'acme-two:shared'" in record(seen, "acme-two")["reason"]
    assert record(seen, "acme-thief")["status"] == "conflict"
    assert "also declared by 'video-prediction'" in record(seen, "acme-thief")["reason"]


def test_looking_up_names_that_clash(environment: Environment) -> None:
    answer = environment.ask(
        """
        import stzoo
        from stzoo.registry import registry
        def attempt(name, kind=stzoo.Model):
            try:
                found = registry().get(kind, name)
                return f"{found.plugin}:{found.name}"
            except stzoo.errors.StzooError as error:
                return f"{type(error).__name__}: {error}"
        answer = {name: attempt(name) for name in (
            "shared", "acme-two:shared", "good-default", "acme-good:good-default", "good-smal", "GOOD-SMALL",
            "acme-goood:good-small", "raises-1", "thief-1")}
        answer["simvp"] = attempt("simvp", stzoo.Architecture)
        answer["own"] = registry().architecture_of(stzoo.info("thief-1")).plugin
        """,
        ACME_SLEEP="0",
    )
    assert answer["shared"].startswith("AmbiguousName: 2 plugins have the model 'shared'")
    assert answer["shared"].endswith("Say one of: acme-one:shared, acme-two:shared")
    assert answer["acme-two:shared"] == "acme-two:shared"
    assert answer["good-default"] == answer["acme-good:good-default"] == "acme-good:good-large"
    assert answer["good-smal"].startswith("UnknownModel: no model is called 'good-smal'. Did you mean 'good-small'")
    assert "Did you mean 'good-small'" in answer["GOOD-SMALL"]
    assert "'acme-good:good-small'" in answer["acme-goood:good-small"]
    assert "acme-raises (failed)" in answer["raises-1"], "the model may be in a plugin that did not load"
    assert answer["simvp"] == "video-prediction:simvp", "a built-in plugin keeps its names"
    assert answer["own"] == "acme-thief", "a plugin's models mean its own architecture"


def test_filters_and_search(environment: Environment) -> None:
    answer = environment.ask(
        """
        import stzoo
        def names(**filters):
            try:
                return [model.name for model in stzoo.models(**filters) if model.plugin in ("acme-good", "acme-thief")]
            except stzoo.errors.StzooError as error:
                return f"{type(error).__name__}: {error}"
        answer = [
            names(plugin="acme-good"), names(query="RADAR good"), names(query="weather"), names(query="good snow"),
            names(license="MIT"), names(commercial=True, plugin="acme-good"), names(max_parameters=100),
            names(architecture="good"), names(architecture="simvp"), names(task="video-prediction", plugin="acme-good"),
            names(task="video-predicton"), names(plugin="acme-goood"),
        ]
        """,
        ACME_SLEEP="0",
    )
    both = ["good-large", "good-small"]
    assert answer[:10] == [
        both,
        ["good-small"],
        ["good-small"],
        [],
        ["good-small"],
        ["good-small"],
        ["good-small"],
        both,
        [],
        both,
    ]
    assert answer[10].startswith("UnknownTask") and "'video-prediction'" in answer[10]
    assert answer[11].startswith("UnknownPlugin") and "'acme-good'" in answer[11]


def test_warnings(seen: dict[str, Any]) -> None:
    assert record(seen, "acme-heavy")["status"] == "ok"
    assert record(seen, "acme-heavy")["warnings"] == [
        "imports gradio when it is listed: import inside functions instead"
    ]
    assert "are its hooks marked" in record(seen, "acme-silent")["warnings"][0]
    assert "declares the task 'video-prediction' otherwise" in record(seen, "acme-redeclares")["warnings"][0]


IMPORTED = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")  # as importing it leaves things, in less time
"""


def test_importing_torch_too_early_is_noticed(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(wheels.plugin(tmp_path, "acme-torch", IMPORTED + simple("torch", "torch-1")))
    code = "from stzoo.registry import registry\nanswer = [[plugin.status, plugin.warnings] for plugin in registry().plugins[-1:]]"
    patient = environment.ask(code, STZOO_PLUGIN_TIMEOUT="60")
    assert patient == [["ok", ["imports torch when it is listed: import inside functions instead"]]]


def test_which_plugins_are_let_in(environment: Environment) -> None:
    code = "import stzoo\nfrom stzoo.registry import registry\nanswer = [plugin.distribution for plugin in registry().plugins]"
    own = sorted(entry["distribution"] for entry in catalogue().values())
    assert environment.ask(code, STZOO_PLUGINS="") == own
    assert environment.ask(code, STZOO_PLUGINS="acme-two, acme-raises") == ["acme-raises", "acme-two"]


def test_the_command_line_goes_on_and_says_so(environment: Environment) -> None:
    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return environment.run("-m", "stzoo", command, COLUMNS="400", **variables)

    listing = run("list", ACME_SLEEP="2")
    assert listing.returncode == 0
    assert "good-small" in listing.stdout
    assert "failed: run stzoo doctor" in listing.stderr
    plugins = run("plugins", ACME_SLEEP="2")
    assert plugins.returncode == 0
    doctor = run("doctor", ACME_SLEEP="2")
    assert doctor.returncode == 1
    assert "Traceback (most recent call last)" in doctor.stdout
    for name, reason in FAILED.items():
        for text in (" ".join(plugins.stdout.split()), " ".join(doctor.stdout.split())):
            assert name in text
            assert reason in text
    assert run("doctor", STZOO_PLUGINS="").returncode == 0
    assert run("doctor", STZOO_PLUGINS="video-prediction,acme-good").returncode == 1, (
        "zeta-clash has the name acme-good too"
    )


def test_unreadable_metadata(tmp_path: Path) -> None:
    """An interrupted installation leaves a distribution that importlib.metadata cannot read."""
    environment = Environment(tmp_path / "environment")
    broken, bare = (wheels.plugin(tmp_path, name, simple(name, f"{name}-1")) for name in ("acme-broken", "acme-bare"))
    environment.install(broken, bare)
    (environment.site / "acme_broken-1.0.dist-info" / "entry_points.txt").write_text("[stzoo]\nrubbish\n")
    (environment.site / "acme_bare-1.0.dist-info" / "METADATA").unlink()
    models, plugins = environment.ask(
        """
        import stzoo
        from stzoo.registry import registry
        answer = [model.name for model in stzoo.models()], [[plugin.name, plugin.status, plugin.reason] for plugin in registry().plugins]
        """
    )
    assert "acme-bare-1" in models
    name, _, reason = next(plugin for plugin in plugins if plugin[1] == "failed")
    assert "acme_broken-1.0.dist-info" in name
    assert "entry_points.txt cannot be read" in reason


# --- what it costs ----------------------------------------------------------------------------------------------------

HEAVY = ("torch", "gradio", "datasets", "accelerate", "transformers")


@pytest.mark.parametrize(
    "code",
    [
        "import stzoo",
        "import stzoo; stzoo.models(); stzoo.tasks(); stzoo.info('good-small')",
        "import stzoo.testing",
    ],
)
def test_nothing_heavy_is_imported(environment: Environment, code: str) -> None:
    question = f"{code}\nimport sys\nanswer = [name for name in {HEAVY} if name in sys.modules]"
    assert environment.ask(question, STZOO_PLUGINS="video-prediction,acme-good") == []


def test_import_is_quick(tmp_path: Path) -> None:
    """Measured inside the interpreter, so that its own start does not count, in time of the processor: it may be busy."""
    environment = Environment(tmp_path / "environment")
    code = "import time; start = time.process_time(); import stzoo; answer = time.process_time() - start"
    assert min(environment.ask(code) for _ in range(3)) < 0.04


def test_two_thousand_models_of_fifty_plugins(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    environment.install(
        *(
            wheels.plugin(
                tmp_path, f"many-{index}", simple(f"many-{index}", *(f"many-{index}-{model}" for model in range(40)))
            )
            for index in range(50)
        )
    )

    def seconds(**variables: str) -> float:
        start = sum(os.times()[2:4])  # processor time of children: other tests run at the same time
        done = environment.run("-m", "stzoo", "list", "--json", **variables)
        assert done.stdout.count('"many-') >= (0 if variables else 2000)
        return sum(os.times()[2:4]) - start

    few, many = (min(seconds(**variables) for _ in range(3)) for variables in ({"STZOO_PLUGINS": ""}, {}))
    assert many - few < 0.5
