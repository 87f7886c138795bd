"""The checks of the conformance kit, each its own test. Parametrised by the registry: see :mod:`stzoo.testing`."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import stzoo
from stzoo import tensorfile, tiling
from stzoo.cards import model_card
from stzoo.costs import costs
from stzoo.errors import DependencyMissing, InputError, StzooError
from stzoo.files import sha256_of
from stzoo.hooks import HEAVY, Plugin
from stzoo.registry import as_plain, registry
from stzoo.spec import Architecture, Model, Task, load_reference
from stzoo.testing import Subject, loaded, samples
from stzoo.weights import bundled_path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stzoo.fields import Field
    from stzoo.prediction import Prediction
    from stzoo.predictor import Predictor
    from stzoo.recipe import Recipe

# --- the plugin -------------------------------------------------------------------------------------------------------


def test_plugin_loads(stzoo_plugin: Plugin) -> None:
    """It loads without a warning, and in time."""
    assert stzoo_plugin.status != "failed", f"{stzoo_plugin.reason}\n{stzoo_plugin.traceback}"
    assert stzoo_plugin.status != "slow", stzoo_plugin.reason
    assert not stzoo_plugin.warnings, "; ".join(stzoo_plugin.warnings)


def test_import_budget(stzoo_plugin: Plugin) -> None:
    """Listing what the plugin brings imports no torch, gradio, datasets, accelerate or transformers."""
    code = f"import sys; from stzoo.registry import registry; registry(); print([name for name in {HEAVY} if name in sys.modules])"
    variables = os.environ | {"STZOO_PLUGINS": stzoo_plugin.name, "STZOO_PLUGIN_TIMEOUT": "60"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]", (
        f"listing imports {done.stdout}: import inside functions instead"
    )


def test_references(stzoo_plugin: Plugin) -> None:
    """Every import string leads somewhere."""
    references: dict[str, str] = {}
    for task in stzoo_plugin.specs["tasks"]:
        references |= {f"task {task.name}, pipeline": task.pipeline}
        for metric in task.metrics:
            references |= {f"metric {metric.name}": metric.compute}
            references |= {f"metric {metric.name}, summary": metric.summary} if metric.summary else {}
        for baseline in task.baselines:
            references |= {f"{'optional ' * baseline.optional}baseline {baseline.name}": baseline.compute}
    for architecture in stzoo_plugin.specs["architectures"]:
        given = {"build": architecture.build, "recipe": architecture.recipe, "pipeline": architecture.pipeline}
        given |= {f"format {index}": reference for index, reference in enumerate(architecture.formats)}
        references |= {
            f"architecture {architecture.name}, {what}": reference for what, reference in given.items() if reference
        }
    references |= {f"dataset {dataset.name}": dataset.load for dataset in stzoo_plugin.specs["datasets"]}
    problems = []
    for what, reference in references.items():
        try:
            assert callable(load_reference(reference)), "it is not callable"
        except DependencyMissing:  # which says what package it needs
            may = what.startswith(("metric ", "optional baseline "))
            assert may, f"{what}: only metrics and optional baselines may need packages that are not there"
        except Exception as problem:
            problems.append(f"{what}: {reference!r}: {problem}")
    assert not problems, "; ".join(problems)


# --- the record -------------------------------------------------------------------------------------------------------


def test_config_is_accepted(stzoo_model: Model) -> None:
    """The architecture accepts the model's config, and it survives JSON."""
    architecture = registry().architecture_of(stzoo_model)
    config = architecture.validate(stzoo_model.config)
    assert architecture.validate(json.loads(json.dumps(as_plain(config)))) == config, (
        "the config changes when it is saved as JSON"
    )
    assert json.loads(json.dumps(as_plain(stzoo_model)))["name"] == stzoo_model.name


def test_licences(stzoo_model: Model) -> None:
    """The licences of code and weights are stated."""
    assert stzoo_model.code_license, "code_license is empty"
    assert stzoo_model.license or not (stzoo_model.weights or stzoo_model.source), "license is empty"


def test_metrics_are_well_formed(stzoo_model: Model) -> None:
    """Every number is finite, of a metric the task has, and says where it comes from."""
    known = {metric.name for metric in registry().get(Task, stzoo_model.task).metrics}
    for item in stzoo_model.metrics:
        what = f"{item.metric} on {item.dataset!r}"
        assert item.metric.partition("?")[0] in known, f"{what}: the task's metrics are {', '.join(sorted(known))}"
        assert item.dataset, f"{what}: no data set is named"
        assert math.isfinite(item.value), f"{what} is {item.value}"
        assert item.source in ("measured", "baseline", "published"), f"{what}: source={item.source!r}"
        assert item.command or item.source == "published", f"{what} names no command that measured it"
        assert item.note or item.source == "measured", f"{what}: the note must say which {item.source} it is"


def test_recorded_facts(stzoo_predictor: Predictor) -> None:
    """Requirements, parameters and multiply-adds in the record are the network's own."""
    model, module = stzoo_predictor.spec, stzoo_predictor.module
    if model is None:
        return
    own = getattr(module, "requirements", None)
    facts: dict[str, tuple[Any, Callable[[], Any]]] = {
        "requirements": (model.requirements, lambda: own or model.requirements),
        "parameters": (model.parameters, lambda: sum(parameter.numel() for parameter in module.parameters())),
        "flops": (model.flops, lambda: costs(stzoo_predictor).multiply_adds),
    }
    for what, (recorded, computed) in facts.items():
        if recorded is None:
            assert not model.weights, f"{what} is not recorded; it is {computed()!r}"
        else:
            assert recorded == computed(), f"{what}: recorded {recorded!r}, the network has {computed()!r}"


def test_card(stzoo_model: Model) -> None:
    """The model's card renders, and states licence, training data and every data set it was measured on."""
    text = model_card(stzoo_model)
    for fact in {stzoo_model.license, stzoo_model.trained_on, *(item.dataset for item in stzoo_model.metrics)} - {""}:
        assert fact in text, f"the card does not mention {fact!r}"


# --- the weights ------------------------------------------------------------------------------------------------------


def test_weights_are_pinned(stzoo_trained: Model) -> None:
    """The record has hash and size, and a commit on the Hub or a copy in the plugin's package, which is that very file."""
    weights = stzoo_trained.weights
    assert weights and weights.sha256 and weights.size, "sha256 and size of the weights must be recorded"
    assert weights.revision or weights.bundled, "the weights have neither a revision on the Hub nor a bundled copy"
    if weights.bundled:
        plugin = next(plugin for plugin in registry().plugins if plugin.name == stzoo_trained.plugin)
        path = bundled_path(weights, plugin.module.partition(":")[0])
        assert path, f"the plugin's package lacks {weights.bundled}: is it in its package data?"
        assert path.stat().st_size == weights.size, (
            f"{path} has {path.stat().st_size} bytes, {weights.size} are recorded"
        )
        assert sha256_of(path, remember=False) == weights.sha256, f"{path} has another sha256 than is recorded"


def test_strict_load(stzoo_trained: Model) -> None:
    """Every tensor of the network comes from the file, is finite, and is stored in the recorded precision."""
    predictor = loaded(Subject(registry().architecture_of(stzoo_trained), stzoo_trained))
    assert predictor.report.tensors == len(predictor.module.state_dict())
    assert stzoo_trained.weights
    stored = {
        str(tensor.dtype)
        for tensor in tensorfile.read(Path(predictor.report.path))[0].values()
        if tensor.is_floating_point()
    }
    assert stored == {f"torch.{stzoo_trained.weights.dtype}"}, f"stored as {stored}"
    wrong = [name for name, tensor in predictor.module.state_dict().items() if not torch.isfinite(tensor).all()]
    assert not wrong, f"not finite: {', '.join(wrong)}"


def test_what_others_publish_fits_the_record(stzoo_foreign: Model) -> None:
    """The architecture reads foreign checkpoints, and what the config builds (without memory) is what the record says."""
    architecture = registry().architecture_of(stzoo_foreign)
    assert architecture.formats, f"{architecture.name} reads no foreign checkpoints: nothing could be imported"
    with torch.device("meta"):
        module = load_reference(architecture.build)(**architecture.validate(stzoo_foreign.config))
    found = sum(parameter.numel() for parameter in module.parameters())
    assert stzoo_foreign.parameters == found, (
        f"parameters: {stzoo_foreign.parameters} recorded, the network has {found}"
    )
    own = getattr(module, "requirements", None)
    assert stzoo_foreign.requirements == (own or stzoo_foreign.requirements), f"requirements: the network's are {own}"


def test_fingerprint(stzoo_trained: Model) -> None:
    """The outputs recorded when the weights were made are the outputs now."""
    assert stzoo_trained.fingerprint, "no fingerprint is recorded; Predictor.fingerprint() gives it"
    try:
        checks = stzoo.verify(stzoo_trained.qualified_name).checks
    except StzooError as problem:
        pytest.skip(f"the weights are not on this machine: {problem}")
    assert set(checks.values()) == {"ok"}, f"{checks}"


def test_save_and_load(stzoo_predictor: Predictor, stzoo_prediction: Prediction, stzoo_saved: Predictor) -> None:
    """A saved folder gives the same config, the same tensors and, bit for bit, the same outputs."""
    assert stzoo_saved.config == stzoo_predictor.config
    assert not (wrong := differing(stzoo_predictor.module, stzoo_saved.module)), (
        f"changed by saving and loading: {wrong}"
    )
    again = stzoo_saved.predict(*samples(stzoo_saved))
    assert difference(again, stzoo_prediction) == 0, "the outputs change when the model is saved and loaded"


def test_loading_without_initialisation(stzoo_predictor: Predictor, stzoo_saved: Predictor) -> None:
    """A network built without initialising its parameters equals one built as usual, buffers that are not saved included."""
    torch.manual_seed(0)
    plain = load_reference(stzoo_predictor.architecture.build)(**stzoo_predictor.config).eval()
    plain.load_state_dict(stzoo_predictor.module.state_dict())
    wrong = differing(plain, stzoo_saved.module)
    assert not wrong, f"{wrong}: does the constructor compute them with torch.nn.init? Then set skip_init=False"


def test_tied_tensors(stzoo_predictor: Predictor, stzoo_saved: Predictor) -> None:
    """Tensors that share memory in a network built as usual share it again after loading."""
    plain = load_reference(stzoo_predictor.architecture.build)(**stzoo_predictor.config)
    for what, module in (("loaded", stzoo_predictor.module), ("saved and loaded", stzoo_saved.module)):
        assert tied(module) == tied(plain), f"when {what}, other tensors are tied than when built: {tied(plain)}"


def test_official_format(stzoo_format: tuple[Subject, str], tmp_path: Path) -> None:
    """Tensors in the official layout, plain or as training scripts wrap them, give the same config and outputs."""
    subject, reference = stzoo_format
    predictor = loaded(subject)
    known = load_reference(reference)()
    state = predictor.module.state_dict()
    if known.detect(state) is None:
        pytest.skip(f"{known.name} has other names than the network: it needs a test with an official file")
    unknown = {note.partition(":")[0] for note in known.unknown(predictor.config)}
    stated = {key: value for key, value in predictor.config.items() if key in unknown}
    prefixed = {"epoch": 3, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
    for layout, content in {"plain": state, "wrapped": prefixed}.items():
        torch.save(content, path := tmp_path / f"{layout}.pth")
        imported = stzoo.import_checkpoint(path, device="cpu", **stated)
        assert imported.architecture == predictor.architecture, (
            f"taken for the architecture {imported.architecture.name!r}"
        )
        wrong = {key: value for key, value in imported.config.items() if predictor.config[key] != value}
        assert not wrong, f"recovered from the {layout} tensors as {wrong}; if they cannot tell, unknown() must say so"
        if imported.config != predictor.config or differing(imported.module, predictor.module):  # the same may come out
            result, expected = (item.predict(*samples(item)) for item in (imported, predictor))
            assert difference(result, expected) == 0, f"other outputs when imported from {layout} tensors"


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and all buffers, also those which are not saved."""
    both = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    return {name: tensor for named in both for name, tensor in named}


def differing(first: nn.Module, second: nn.Module) -> list[str]:
    """Names of tensors that only one has or that are not equal bit for bit."""
    one, two = tensors(first), tensors(second)
    return [name for name in {**one, **two} if name not in one or name not in two or not _same(one[name], two[name])]


def _same(one: Tensor, two: Tensor) -> bool:
    return one.dtype == two.dtype and one.shape == two.shape and torch.equal(one.nan_to_num(), two.nan_to_num())


def tied(module: nn.Module) -> set[frozenset[str]]:
    """Groups of names whose tensors start at one place in memory."""
    places: dict[int, set[str]] = {}
    for name, tensor in tensors(module).items():
        if tensor.numel():
            places.setdefault(tensor.data_ptr(), set()).add(name)
    return {frozenset(names) for names in places.values() if len(names) > 1}


# --- predicting -------------------------------------------------------------------------------------------------------


def test_prediction(stzoo_predictor: Predictor, stzoo_prediction: Prediction, tmp_path: Path) -> None:
    """The declared outputs come out, finite; they can be looked at and written."""
    outputs = _given(stzoo_prediction)
    assert list(stzoo_prediction) == [output.name for output in outputs]
    for output in outputs:
        numbers = output.numbers(stzoo_prediction[output.name])
        assert np.isfinite(numbers).all(), f"{output.name} is not finite"
    assert min(stzoo_prediction.figure().size) > 0
    for output in outputs:
        for suffix in output.suffixes:
            assert stzoo_prediction.save(tmp_path / f"{output.name}{suffix}", output.name).stat().st_size


def _given(prediction: Prediction) -> list[Field]:
    """The outputs that are there; optional ones are only where an option asks for them."""
    return [output for output in prediction.task.outputs if not output.optional or output.name in prediction]


def test_predictions_are_deterministic(stzoo_predictor: Predictor, stzoo_prediction: Prediction) -> None:
    """The same input gives the same output, whatever the state of the random number generator."""
    torch.manual_seed(20)
    found = difference(stzoo_predictor.predict(*samples(stzoo_predictor)), stzoo_prediction)
    assert found == 0, f"outputs differ by {found:.2g} of their largest magnitude from one time to the next"


def test_batch_equals_singles(stzoo_predictor: Predictor, stzoo_prediction: Prediction) -> None:
    """Two different items predicted together give what each gives alone, to 1e-5."""
    first = samples(stzoo_predictor)
    second = tuple(_dimmed(value, 0.5) for value in first)
    together = stzoo_predictor.predict_batch([first, second], batch_size=2)
    for prediction, alone in zip(together, (stzoo_prediction, stzoo_predictor.predict(*second)), strict=True):
        assert difference(prediction, alone) <= 1e-5, "an item's output depends on its batch"


def _dimmed(value: Any, factor: float) -> Any:
    return value * np.float32(factor) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def test_minimum_size(stzoo_predictor: Predictor) -> None:
    """The smallest size that the requirements allow works; one pixel less is refused with an InputError."""
    minimum = stzoo_predictor.requirements.minimum
    smallest = samples(stzoo_predictor, (minimum, minimum))
    if not any(np.shape(value)[-2:] == (minimum, minimum) for value in smallest):
        pytest.skip("no input has a height and a width")
    prediction = stzoo_predictor.predict(*smallest)
    for output in _given(prediction):
        numbers = output.numbers(prediction[output.name])
        assert np.isfinite(numbers).all(), f"{output.name} is not finite at {minimum}x{minimum}"
    if minimum > 1:
        with pytest.raises(InputError):
            stzoo_predictor.predict(*samples(stzoo_predictor, (minimum - 1, minimum)))


def test_any_size_comes_back(stzoo_predictor: Predictor) -> None:
    """Sizes that are no multiples of what the network asks for are padded, and the outputs cropped to match the input."""
    needs = stzoo_predictor.requirements
    base = needs.multiple * math.ceil(max(needs.minimum, 8) / needs.multiple)
    fitting, odd = (base, base), (base + 1, base + max(1, needs.multiple - 1))
    if not any(np.shape(value)[-2:] == odd for value in samples(stzoo_predictor, odd)):
        pytest.skip("no input has a height and a width")
    at_base, at_odd = (stzoo_predictor.predict(*samples(stzoo_predictor, size)) for size in (fitting, odd))
    at_double = stzoo_predictor.predict(*samples(stzoo_predictor, (2 * base, 2 * base)))
    for name, value in at_odd.items():
        if np.shape(at_base[name]) == np.shape(at_double[name]):
            continue  # not an output whose size follows the input's
        scales = [Fraction(out, size) for out, size in zip(np.shape(at_base[name])[-2:], fitting, strict=True)]
        wanted = tuple(int(size * scale) for size, scale in zip(odd, scales, strict=True))
        assert value.shape[-2:] == wanted, f"{name} of an input of {odd} is {value.shape[-2:]}, not {wanted}"


def test_no_seams(stzoo_predictor: Predictor) -> None:
    """A picture in tiles gives what it gives as a whole, up to what the requirements state; and a clip in windows."""
    options = {item.name for item in stzoo_predictor.task.options} if stzoo_predictor.task.dense else set()
    needs, checked = stzoo_predictor.requirements, False
    if "tile" in options and needs.reach is not None:
        _, overlap = tiling.settings(needs, {"tile": 0}, 0, 0)
        tile = needs.multiple * math.ceil(max(needs.minimum, 2 * overlap, 16) / needs.multiple)
        narrow, axes = max(needs.minimum, 16) + 1, max(item.spatial for item in stzoo_predictor.task.inputs)
        for axis in range(axes):  # long in one direction at a time: as good as a large one, and cheap
            size = tuple(tile + 1 if axis == other else narrow for other in range(axes))
            given = tuple(map(_textured, samples(stzoo_predictor, size)))
            _check_seams(stzoo_predictor, given, {"tile": tile}, {"tile": 0}, "reach")
        checked = True
    if "window" in options and needs.reach_frames is not None:
        window = max(2 * tiling.overlap_for(needs.reach_frames), 2)
        given = tuple(_textured(_longer(value, window + 1)) for value in samples(stzoo_predictor))
        checked = True
        _check_seams(stzoo_predictor, given, {"window": window}, {"window": 0}, "reach_frames")
    if not checked:
        pytest.skip("it needs its input as a whole")


def _check_seams(
    predictor: Predictor, given: tuple[Any, ...], parts: dict[str, int], whole: dict[str, int], reach: str
) -> None:
    found = difference(predictor.predict(*given, **parts), predictor.predict(*given, **whole))
    seam, needs = predictor.requirements.seam, getattr(predictor.requirements, reach)
    assert found <= seam, (
        f"with {parts}, outputs are off by {found:.2g} of their largest magnitude, seam={seam:g} is stated: "
        f"does an output depend on what is further away than {reach}={needs}?"
    )


def _textured(value: Any) -> Any:
    """Pictures with detail everywhere, which smooth ones lack."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim < 3:
        return value
    return value * np.random.default_rng(0).uniform(0.5, 1, np.shape(value)).astype(value.dtype)


def _longer(value: Any, frames: int) -> Any:
    """A clip, forth and back until it is long enough; anything else as it is."""
    if not isinstance(value, np.ndarray) or value.ndim != 4:
        return value
    return np.concatenate([value, value[::-1]] * frames)[:frames]


TOLERANCES = {"float32": 0.0, "float16": 0.01, "bfloat16": 0.05}
"""Largest difference from the float32 outputs, as a part of their largest magnitude."""


def test_precisions(stzoo_predictor: Predictor, stzoo_prediction: Prediction) -> None:
    """In every precision that the record declares, outputs are close to those in float32."""
    for dtype in stzoo_predictor.spec.dtypes if stzoo_predictor.spec else ("float32",):
        assert dtype in TOLERANCES, f"dtypes names {dtype!r}, known are {', '.join(TOLERANCES)}"
        if dtype != "float32":
            module = copy.deepcopy(stzoo_predictor.module).to(getattr(torch, dtype))
            result = replace(stzoo_predictor, module=module).predict(*samples(stzoo_predictor))
            found = difference(result, stzoo_prediction)
            assert found <= TOLERANCES[dtype], f"outputs in {dtype} are off by {found:.2g} of their largest magnitude"


def difference(one: Prediction, two: Prediction) -> float:
    """Largest difference of any output, as a part of its largest magnitude (at least 1)."""
    assert list(one) == list(two)
    worst = 0.0
    for output in _given(one):
        shapes = [np.shape(item[output.name]) for item in (one, two)]
        assert shapes[0] == shapes[1], f"{output.name}: shapes {shapes[0]} and {shapes[1]}"
        first, second = (output.numbers(item[output.name]) for item in (one, two))
        worst = max(worst, float(np.abs(first - second).max(initial=0) / max(1.0, np.abs(second).max(initial=0))))
    return worst


# --- learning ---------------------------------------------------------------------------------------------------------

STEPS = 10
"""Optimizer steps in which the loss on one batch must fall."""


def test_recipe_trains(stzoo_learner: Architecture) -> None:
    """Losses are finite, every trainable parameter gets a gradient, and the loss on one batch falls within ten steps.

    A closed-form recipe changes the network, keeps its shapes and numbers finite, and learns the same when it learns again.
    """
    predictor = Subject(stzoo_learner).predictor()
    assert stzoo_learner.recipe
    recipe, module = load_reference(stzoo_learner.recipe)(), predictor.module.train()
    batch = recipe.sample_batch(module)
    if recipe.closed_form:
        _check_fit(recipe, module, batch)
        return
    schedules = recipe.optimizers(module, STEPS)
    totals: list[float] = []
    for step in range(STEPS):
        torch.manual_seed(0)  # dropout and the like are the same at every step
        losses = recipe.losses(module, batch, step)
        for name, loss in losses.items():
            assert loss.ndim == 0 and torch.isfinite(loss), f"the loss {name!r} is {loss} at step {step}"
        total = torch.stack(list(losses.values())).sum()
        totals.append(total.item())
        if totals[-1] < totals[0]:
            return
        total.backward()  # type: ignore[no-untyped-call]
        if step == 0:
            _check_gradients(module, recipe.without_gradient)
        for optimizer, schedule in schedules:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    raise AssertionError(f"the loss does not fall within {STEPS} steps on one batch: {totals}")


def _check_fit(recipe: Recipe, module: nn.Module, samples: Any) -> None:
    untrained, results = copy.deepcopy(module.state_dict()), []
    for _ in range(2):
        torch.manual_seed(0)
        numbers = recipe.fit(module, samples)
        wrong = [name for name, number in numbers.items() if not math.isfinite(number)]
        wrong += [name for name, tensor in module.state_dict().items() if not torch.isfinite(tensor).all()]
        assert not wrong, f"not finite: {', '.join(wrong)}"
        results.append(copy.deepcopy(module.state_dict()))
    first, second = results
    other = [name for name in untrained if first[name].shape != untrained[name].shape]
    assert not other, f"other shapes than the config says: {', '.join(other)}"
    assert any(not torch.equal(first[name], untrained[name]) for name in untrained), "fit() changes nothing"
    other = [name for name in first if not torch.equal(first[name], second[name])]
    assert not other, f"from the same data and seed, fit() learns other {', '.join(other)}"


def _check_gradients(module: nn.Module, exempt: tuple[str, ...]) -> None:
    trainable = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.requires_grad}
    missing = [
        name
        for name, gradient in trainable.items()
        if gradient is None and not any(fnmatch(name, item) for item in exempt)
    ]
    assert not missing, (
        f"no gradient for {', '.join(missing)}; if that is right, name them in the recipe's without_gradient"
    )
    wrong = [
        name for name, gradient in trainable.items() if gradient is not None and not torch.isfinite(gradient).all()
    ]
    assert not wrong, f"gradients of {', '.join(wrong)} are not finite"
