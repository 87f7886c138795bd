"""A model's page: made from fields, with endpoints that give exactly what ``predict`` gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from commandline import TOY, Install, plugin  # noqa: F401 (a fixture)
from demos import READY, client, clip, gradio_client, handler, own_folders, serve  # noqa: F401 (fixtures)
from PIL import Image

import stzoo
from stzoo import errors, media, registry
from stzoo.requirements import Requirements
from stzoo.spec import Model

NAMES = ("tau-mmnist", "simvp-mmnist")

FIELD = (
    TOY.replace(
        "@hookimpl\ndef stzoo_tasks",
        '''
import dataclasses
from typing import ClassVar
from stzoo.fields import Field

@dataclasses.dataclass(frozen=True)
class Level(Field):
    """A number between two marks, on a dial of its own."""
    ui: ClassVar[str] = "toy.dial:Dial"

    def read(self, value, requirements, **options):
        import numpy
        return numpy.float32(value)

    def sample(self, requirements):
        return 0.5

@dataclasses.dataclass(frozen=True)
class Lost(Level):
    ui: ClassVar[str] = "toy.nowhere:Widget"

@hookimpl
def stzoo_tasks''',
        1,
    )
    + """

@hookimpl(specname="stzoo_tasks")
def more_tasks():
    yield Task("dialling", inputs=(Level("level", "How much"),), outputs=(Number("double"),), pipeline="toy:Double")
    yield Task("losing", inputs=(Lost("level"),), outputs=(Number("double"),))

@hookimpl(specname="stzoo_architectures")
def more_architectures():
    yield Architecture("dial", "dialling", "toy:build")
    yield Architecture("lost", "losing", "toy:build")

@hookimpl(specname="stzoo_models")
def more_models():
    yield Model("dial-one", "dial")
    yield Model("lost-one", "lost")

class Double(Pipeline):
    def forward(self, module, batch, options):
        return {"double": batch["level"] * 2}

    def postprocess(self, outputs, values):
        return dict(outputs)
"""
)

DIAL = """
import gradio as gr
from stzoo.ui.components import Widget

class Dial(Widget):
    looks = False

    def ask(self):
        return gr.Slider(0, 1, value=0.5, label=self.label)

    def read(self, value):
        return value

    def example(self, value, folder):
        return value
"""


# --- endpoints --------------------------------------------------------------------------------------------------------


def test_endpoints_give_bit_for_bit_what_predict_gives(tmp_path: Path, serve: Any) -> None:  # noqa: F811
    source, visitor = clip(tmp_path), client(serve(stzoo.demo(*NAMES)), tmp_path)
    for name in NAMES:
        predictor = stzoo.load(name, device="cpu")
        for options in ({}, {"horizon": 12}):
            endpoint = f"/predict_{name.replace('-', '_')}"
            answer = visitor.predict(gradio_client.handle_file(source), api_name=endpoint, **options)
            with np.load(answer) as stored:
                assert np.array_equal(stored["video"], predictor.predict(source, **options).video)


def test_endpoints_are_documented_with_the_tasks_names_types_and_defaults(tmp_path: Path, serve: Any) -> None:  # noqa: F811
    described = client(serve(stzoo.demo("tau-mmnist")), tmp_path).view_api(return_format="dict", print_info=False)
    (endpoint,) = described["named_endpoints"].values()
    video, horizon = endpoint["parameters"]
    assert (video["parameter_name"], video["python_type"]["type"]) == ("video", "filepath")
    assert (horizon["parameter_name"], horizon["parameter_has_default"]) == ("horizon", True)
    assert horizon["type"]["type"] == "integer"
    assert list(described["named_endpoints"]) == ["/predict_tau_mmnist"]


REFUSED = (
    ("clip.npz", {"horizon": -1}, "must be a whole number from 1 to 10000"),
    ("clip.npz", {"horizon": "many"}, "must be a whole number"),
    ("text.mp4", {}, "cannot be decoded as a video"),
    ("short.npz", {}, "4 frames, the model needs 10"),
    ("long.npz", {}, "this demo takes 20"),
    ("large.npz", {}, "million pixels, this demo takes 0.1"),
    ("large.gif", {}, "million pixels, this demo takes 0.1"),
)
"""Files, options, and what is said of them."""


def test_what_is_wrong_is_told_in_a_sentence(tmp_path: Path, serve: Any) -> None:  # noqa: F811
    clip(tmp_path, 4).rename(tmp_path / "short.npz")
    clip(tmp_path, 21).rename(tmp_path / "long.npz")
    np.savez(tmp_path / "large.npz", np.zeros((10, 200, 200), np.uint8))
    media.write_video(np.random.default_rng(0).random((10, 1, 200, 200), np.float32), tmp_path / "large.gif")
    clip(tmp_path)
    (tmp_path / "text.mp4").write_text("no film")
    visitor = client(serve(stzoo.demo("tau-mmnist", max_frames=20, max_pixels=0.1)), tmp_path)
    for name, options, said in REFUSED:
        file = gradio_client.handle_file(tmp_path / name)
        with pytest.raises(Exception, match=said) as told:
            visitor.predict(file, api_name="/predict_tau_mmnist", **options)
        assert "Traceback" not in str(told.value)
        assert str(tmp_path) not in str(told.value)


def test_a_prediction_that_takes_too_long_or_is_stopped_ends(tmp_path: Path) -> None:
    from stzoo.ui.limits import limits
    from stzoo.ui.running import Runner, Stopped

    source = clip(tmp_path)
    with pytest.raises(Stopped, match=r"longer than 0\.2 s"):
        Runner(limits({"time_limit": 0.2})).predict("tau-mmnist", [source], {"horizon": 10_000})
    runner, ended = Runner(limits({})), []

    def wait() -> None:
        try:
            runner.predict("tau-mmnist", [source], {"horizon": 10_000}, session="a")
        except Stopped as problem:
            ended.append(problem)

    started = threading.Event()
    thread = threading.Thread(target=lambda: (started.set(), wait()))
    thread.start()
    started.wait()
    while not ended and thread.is_alive():
        runner.stop("b")  # somebody else
        runner.stop("a")
        thread.join(0.05)
    assert str(ended[0]) == "Stopped"


def test_who_leaves_stops_what_they_run(tmp_path: Path, serve: Any) -> None:  # noqa: F811
    blocks = stzoo.demo("tau-mmnist")
    url = serve(blocks) + "gradio_api"
    number = next(index for index, item in blocks.fns.items() if item.name == "predict")
    with httpx.Client(trust_env=False, timeout=60) as http, http.stream("GET", f"{url}/heartbeat/me"):
        (path,) = http.post(f"{url}/upload", files={"files": ("clip.npz", clip(tmp_path).read_bytes())}).json()
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, "10000", None, None, None]
        body = {"data": data, "fn_index": number, "session_hash": "me"}
        assert http.post(f"{url}/queue/join", json=body).status_code == 200
        until(lambda: "me" in blocks.runner._jobs)
        (job,) = blocks.runner._jobs["me"]
    until(lambda: job.asked)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_more_models_are_kept_than_allowed() -> None:
    from stzoo.ui.running import Predictors

    kept = Predictors(1)
    first = kept.get("tau-mmnist")
    assert kept.get("tau-mmnist") is first
    kept.get("simvp-mmnist")
    assert len(kept) == 1
    assert kept.get("tau-mmnist") is not first


def test_limits_come_from_keywords_then_the_environment_then_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    from stzoo.ui.limits import LIMITS, limits

    monkeypatch.setenv("STZOO_DEMO_QUEUE", "7")
    monkeypatch.setenv("STZOO_DEMO_MODELS", "3")
    found = limits({"models": 2})
    assert (found["queue"], found["models"], found["max_frames"]) == (7, 2, LIMITS["max_frames"].default)
    with pytest.raises(errors.InputError, match="max_file_size"):
        stzoo.demo("tau-mmnist", max_file_size=-1)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_predicts_its_examples_and_gives_the_code_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio as gr

    blocks = stzoo.demo("tau-mmnist")
    example, *memory = handler(blocks, "fill")()
    expected = stzoo.dataset("moving-mnist", "test")[0]["video"][:10]
    assert np.array_equal(media.read_video(example, "example", 1), media.read_video(expected, "example", 1))
    request = gr.Request(session_hash="a")
    predict = handler(blocks, "predict")
    clips, strip, files, facts, *_, code = predict(request, lambda *_: None, example, "12", None, *memory)
    assert [panel["label"] for panel in clips["panels"]] == ["given", "prediction"]
    assert strip.height == 64
    assert {Path(file).suffix for file in files} == set(stzoo.fields.Video.suffixes)
    assert "s** on c" in facts
    monkeypatch.chdir(Path(example).parent)
    names: dict[str, Any] = {}
    exec(code, names)
    exact = next(file for file in files if file.endswith(".npz"))
    with np.load(exact) as stored:
        assert np.array_equal(stored["video"], names["prediction"].video)
    assert {file.name for file in Path().iterdir()} == {Path(example).name, "predicted-video.mp4"}  # none written over


@pytest.mark.parametrize("model", [item for item in READY if item.weights], ids=lambda item: item.name)
def test_a_bundled_model_has_an_example_of_its_own_with_a_licence(model: Model) -> None:
    """Real data that the plugin ships; only where none may be given on, a pattern."""
    from stzoo.ui.limits import limits
    from stzoo.ui.subject import Subject

    subject = Subject(model, limits({}), model.name)
    needed = [item.field.name for item in subject.inputs if not item.field.optional]
    if not needed or model.name in ("stunet-davis", "unet-camvid"):
        return
    first = next(subject.examples())
    assert "first test example (" in first.label
    assert set(needed) <= first.values().keys()
    assert first.truth is not None
    if subject.task.metrics:
        assert first.truth({})


def test_a_scene_is_shown_without_asking_for_it() -> None:
    """On its page; programs get what the task's declaration says."""
    (entry,) = stzoo.demo("splat-cow").entries
    from stzoo.ui.limits import limits
    from stzoo.ui.page import _option
    from stzoo.ui.subject import Subject

    subject = Subject(entry.model, limits({}), entry.name)
    held = [_option(subject, item).value for item in subject.options]
    chosen = {item.field.name: value for item, value in zip(subject.options, held, strict=True)}
    assert chosen["scene"] == "True" and chosen["depth"] == "False"
    code = subject.code(entry.name, [*(None for _ in subject.inputs), *held])
    assert "predict(scene=True)" in code
    assert 'save("predicted-scene.ply", "scene")' in code
    assert "depth" not in code


def compared(values: list[Any]) -> tuple[str, dict[str, str], list[dict[str, Any]]]:
    """What a prediction's page says of the truth, its table of metrics, and its curves."""
    import gradio as gr

    note = next(item.value for item in values if isinstance(item, gr.Markdown))
    lines = [
        line.replace("\\", "") for item in values if str(item).startswith("metric |") for line in item.splitlines()[2:]
    ]
    curves = [item for item in values if isinstance(item, dict) and "parts" in item]
    return note, {line.split(" | ")[0][:-2]: line.split(" | ")[1] for line in lines}, curves


@pytest.mark.parametrize("horizon", ["", "4"])
def test_an_example_is_compared_with_its_truth_in_the_numbers_of_an_evaluation(horizon: str) -> None:
    import gradio as gr

    blocks, options = stzoo.demo("tau-mmnist"), {"horizon": int(horizon)} if horizon else {}
    example, *memory = handler(blocks, "fill")()
    values = handler(blocks, "predict")(gr.Request(), lambda *_: None, example, horizon, None, *memory)
    note, table, (curves,) = compared(values)
    assert "truth of moving-mnist, first test example" in note
    found = stzoo.evaluate("tau-mmnist", "moving-mnist", split="test", limit=1, options=options, device="cpu")
    expected = found.models[0].metrics
    assert table == {name: f"{item.value:.6g}" for name, item in expected.items()}
    (part,) = curves["parts"]
    assert part["names"] == list(found.axes)
    for name, curve in zip(part["names"], part["values"], strict=True):
        assert curve == pytest.approx(expected[name].curve, rel=1e-5)
    panels = {panel["label"].partition(",")[0]: panel for panel in values[0]["panels"]}
    assert list(panels) == ["given", "prediction", "truth", "absolute error"]
    frames = int(horizon or 10)
    truth = media.read_video(stzoo.dataset("moving-mnist", "test")[0]["video"], "video", 1)[10 : 10 + frames]
    sheet = np.asarray(Image.open(panels["truth"]["sheet"]["file"]["path"]))
    assert (sheet[:64, :64, 0] == media.to_uint8(truth)[0, 0]).all()
    assert [panel["numbers"][-1] for panel in panels.values()] == [10, frames, frames, frames]


def test_a_truth_is_forgotten_with_its_input_and_one_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    import gradio as gr

    blocks = stzoo.demo("tau-mmnist")
    example, *memory = handler(blocks, "fill")()
    predict, forget = handler(blocks, "predict"), handler(blocks, "forget")

    def note(source: Any, horizon: str, given: Any, *memory: Any) -> tuple[str, bool]:
        said, table, curves = compared(predict(gr.Request(), lambda *_: None, source, horizon, given, *memory))
        return said, bool(table or curves)

    other = str(clip(tmp_path))
    assert note(other, "", None, *memory) == ("", False)
    said, shown = note(example, "11", None, *memory)
    assert "10 to see and 11 to predict" in said and not shown
    kept = forget(example, memory[0])
    assert all("__type__" in item for item in kept), "an example's own input made it forget the truth"
    cleared, digest = forget(other, memory[0])
    changed = [digest, memory[1]]
    assert cleared is None
    assert note(other, "", None, *changed) == ("", False)
    assert note(example, "", None, *changed)[1], "what is said late of former inputs made it forget the example"

    truth = tmp_path / "truth.npz"
    media.write_video(stzoo.load("tau-mmnist", device="cpu").predict(other).video, truth)
    said, table, _ = compared(predict(gr.Request(), lambda *_: None, other, "", str(truth), *changed))
    assert "as given" in said
    assert (table["mse"], table["psnr_torchmetrics"]) == ("0", "inf")
    said, shown = note(other, "9", str(truth), *changed)
    assert "video should be 10x1x64x64, and the prediction is 9x1x64x64" in said.replace("\\", "") and not shown
    said, shown = note(example, "", str(truth), *changed)
    assert "belongs to another input" in said and not shown


def test_two_models_are_compared_on_one_input(tmp_path: Path) -> None:
    import gradio as gr

    blocks = stzoo.demo("tau-mmnist")
    values = handler(blocks, "compare")(
        gr.Request(), lambda *_: None, "simvp-mmnist", str(clip(tmp_path)), "", None, None, None
    )
    own, its = (item for item in values if isinstance(item, list))
    for name, files in (("tau-mmnist", own), ("simvp-mmnist", its)):
        with np.load(next(file for file in files if file.endswith(".npz"))) as stored:
            assert np.array_equal(stored["video"], stzoo.load(name, device="cpu").predict(clip(tmp_path)).video)
    assert "simvp-mmnist" in values[-1]


def test_a_page_shows_the_licence_the_numbers_and_the_card(plugin: Install) -> None:  # noqa: F811
    plugin("toy", TOY)
    shown = str(stzoo.demo("subtraction-pairs").get_config_file()["components"])
    assert "cc-by-nc-4.0: no commercial use" in shown
    assert "12.5" in shown
    assert "Ein schönes Modell" in shown
    assert "no commercial use" not in str(stzoo.demo("tau-mmnist").get_config_file()["components"])


def test_pictures_that_become_pictures_are_compared_with_a_slider(
    plugin: Install,  # noqa: F811
    tmp_path: Path,
) -> None:
    plugin("toy", TOY)
    kinds = [item["type"] for item in stzoo.demo("subtraction-pairs").get_config_file()["components"]]
    assert kinds.count("imageslider") == 2 * 3  # difference and map, once alone and twice to compare models
    assert "imageslider" not in [item["type"] for item in stzoo.demo("tau-mmnist").get_config_file()["components"]]

    from stzoo.ui.components import ImageWidget
    from stzoo.ui.limits import limits

    widget = ImageWidget(stzoo.fields.Image("picture"), Requirements(), limits({}))
    before, after = np.zeros((3, 4, 4), np.float32), np.ones((3, 8, 8), np.float32)
    ((left, right),) = widget.show(after, tmp_path, before)
    assert left.size == right.size == (256, 256)
    Image.new("1", (5000, 5000)).save(tmp_path / "bomb.png")
    with pytest.raises(errors.InputError, match=r"25\.0 million pixels"):
        widget.read(str(tmp_path / "bomb.png"))


def test_a_third_partys_field_gets_a_page_and_a_broken_one_keeps_its_error_to_itself(
    plugin: Install,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Any,  # noqa: F811
) -> None:
    from torch import nn

    (plugin("toy", FIELD) / "toy" / "dial.py").write_text(DIAL)
    registered = registry.registry()
    from stzoo.predictor import LoadReport, Predictor

    def load(name: str, **_: Any) -> Predictor:
        model = stzoo.info(name)
        task = registered.get(stzoo.Task, model.task)
        return Predictor(nn.Linear(1, 1), registered.architecture_of(model), task, {}, LoadReport(name, "none"), model)

    monkeypatch.setattr("stzoo.api.load", load)
    url = serve(stzoo.demo("dial-one", "lost-one", "subtraction-empty"))
    visitor = client(url, tmp_path)
    assert visitor.predict(0.25, api_name="/predict_dial_one") == 0.5
    pages = {
        name: httpx.get(url + name, trust_env=False).text for name in ("dial_one", "lost_one", "subtraction_empty")
    }
    assert ["cannot be shown" in page for page in pages.values()] == [False, True, False]
    assert "toy.nowhere" in pages["lost_one"]
    assert "Traceback" not in pages["lost_one"]


def test_a_page_says_nothing_of_an_input_that_may_be_anything() -> None:
    texts = [str(getattr(item, "value", "")) for item in stzoo.demo("visionts-mae-tiny").blocks.values()]
    assert any("visionts-mae-tiny" in text for text in texts) and not any("Input:" in text for text in texts)
    assert any(
        "Input: 3 channels" in str(getattr(item, "value", "")) for item in stzoo.demo("mae-tiny").blocks.values()
    )
