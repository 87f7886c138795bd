"""The demo in a real Chromium: the gallery, a page of each task, early predictions, a phone, a keyboard, the dark.

Skipped where Chromium or playwright is not installed.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import pytest
from browser import PALE, PATIENCE, Open, Visit, chromium, demo, visit  # noqa: F401 (fixtures)

import stzoo
from stzoo.fields import Video
from stzoo.imported import usable
from stzoo.registry import registry

BUNDLED = [model.name for model in stzoo.models() if model.weights and model.weights.bundled]
PAGES = list({stzoo.info(name).task: name for name in reversed(BUNDLED)}.values())[::-1]
"""A bundled model of each task: what is on a page follows from its fields."""
CLIPS = next(name for name in PAGES if stzoo.info(name).task == "video-prediction")
LEARNING = [model.name for model in stzoo.models() if not model.weights and not model.source]
CARDS = ".stzoo-cards li"


def choose(tab: Visit, name: str) -> None:
    """From the gallery to the page of a model."""
    tab.page.locator(CARDS).filter(has=tab.page.get_by_role("heading", name=name, exact=True)).locator("a").click()
    tab.page.get_by_role("heading", name=name, exact=True, level=1).wait_for()


def open_page(tab: Visit, name: str) -> None:
    tab.open(f"/model/{name.replace('-', '_')}/")
    tab.button("Predict").wait_for()


EVENT = """() => {
    const own = new Set(gradio_config.page[gradio_config.current_page].components)
    const parts = gradio_config.components.filter(item => own.has(item.id))
    const button = parts.find(item => item.type === "button" && item.props.value === "Predict").id
    const event = gradio_config.dependencies.find(item => item.targets.some(target => target[0] === button))
    return ["inputs", "outputs"].map(side => event[side].map(id => [id, parts.find(item => item.id === id).type]))
}"""
"""Of the event of pressing Predict: components, by number and type, that go in and come out."""

COLOURS = """image => image.decode().then(() => {
    const canvas = Object.assign(document.createElement("canvas"), {width: image.naturalWidth, height: image.naturalHeight})
    const context = canvas.getContext("2d")
    context.drawImage(image, 0, 0)
    return new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size
})"""


def shown(tab: Visit) -> Counter[str]:
    """How many components of each type came out of a prediction, each of which shows something, whatever a field's widget
    made of it: pictures of more than one colour, films that play, texts, drawings."""
    found: Counter[str] = Counter()
    for number, kind in tab.page.evaluate(EVENT)[1]:
        place = tab.page.locator(f"#stzoo-{number}")
        if not place.count() or not place.is_visible():  # what this prediction has not
            continue
        if kind in ("image", "imageslider", "annotatedimage"):
            picture = place.locator("img").last
            picture.wait_for()
            assert picture.evaluate(COLOURS) > 1, "the prediction is one flat colour"
        elif kind == "video":
            place.locator("video").wait_for()
            ready = "film => new Promise(ok => film.readyState > 1 ? ok(film.videoWidth) : film.onloadeddata = () => ok(film.videoWidth))"
            assert place.locator("video").evaluate(ready) > 0
        elif kind in ("model3d", "plot", "lineplot"):
            place.locator("canvas, svg, img").first.wait_for()
        elif kind == "textbox":
            assert place.locator("input, textarea").first.input_value()
        else:
            assert place.inner_text().strip(), f"a {kind} shows nothing"
        found[kind] += 1
    return found


def task_of(name: str) -> stzoo.Task:
    return registry().get(stzoo.Task, stzoo.info(name).task)


def test_the_gallery_opens_and_its_filters_narrow_it(visit: Open) -> None:  # noqa: F811
    tab = visit()
    tab.open()
    cards = tab.page.locator(CARDS)
    cards.first.wait_for()
    assert cards.count() == len(list(filter(usable, stzoo.models())))
    tab.screenshot("gallery")
    tab.page.get_by_label("Search").fill(CLIPS.replace("-", " ").upper())
    tab.page.get_by_role("status").filter(has_text="1 model").wait_for()
    assert cards.count() == 1
    assert CLIPS in cards.inner_text()
    tab.page.get_by_label("Search").fill("no such model")
    tab.page.get_by_role("status").filter(has_text="0 models").wait_for()
    tab.page.get_by_label("Search").fill("")
    tab.page.get_by_label("Task").click()
    tab.page.get_by_role("option", name=stzoo.info(CLIPS).task, exact=True).click()
    count = len(list(filter(usable, stzoo.models(task=stzoo.info(CLIPS).task))))
    tab.page.get_by_role("status").filter(has_text=f"{count} model").wait_for()


@pytest.mark.parametrize("name", PAGES)
def test_the_first_example_of_a_model_runs_and_is_compared_with_its_truth(name: str, visit: Open) -> None:  # noqa: F811
    """Outputs; metrics in a table, a curve for each that has one, and frames that a slider, keys and a button move."""
    tab = visit()
    open_page(tab, name)
    model = stzoo.info(name)
    assert model.license in tab.page.locator(".stzoo-tags").inner_text()
    if tab.examples.count():
        tab.examples.first.click()
    said = tab.predict().inner_text()
    assert " s on " in said and model.weights and str(model.weights.sha256)[:12] in said
    assert shown(tab).total() >= 3  # outputs, files, facts
    assert f'stzoo.load("{name}")' in tab.page.locator(".cm-content").first.inner_text()
    metrics = [item for item in task_of(name).metrics if not item.optional]
    if metrics and tab.page.get_by_role("button", name="test example").count():
        is_compared(tab, name)
    tab.screenshot(name, whole=True)


def is_compared(tab: Visit, name: str) -> None:
    """What the page of an example shows of its truth, until there is another input."""
    tab.page.get_by_text("Compared with the truth of").first.wait_for()
    table = tab.page.locator("table").filter(has_text="what it is").first.inner_text()
    # Some, such as the area under a curve, need more than one example.
    metrics = [item for item in task_of(name).metrics if not item.optional and item.name in table]
    assert metrics
    plots = tab.page.locator(".stzoo-series").filter(has=tab.page.get_by_role("radio"))
    if curves := [item.name for item in metrics if item.curve]:
        plot = plots.first.locator(".plot")
        first = plot.evaluate("canvas => canvas.toDataURL()")
        plots.first.get_by_role("radio").nth(len(curves) - 1).check()
        assert (plot.evaluate("canvas => canvas.toDataURL()") != first) == (len(curves) > 1)
        plot.focus()
        tab.page.keyboard.press("ArrowRight")
        plots.first.get_by_role("status").filter(has_text=f"{curves[-1]}: ").wait_for()
    moving = [item for item in task_of(name).outputs if isinstance(item, Video)]
    for clips in tab.page.locator(".stzoo-clips[data-ready]").all() if moving else ():
        if not clips.is_visible():
            continue
        seen = "root => [...root.querySelectorAll('canvas')].map(canvas => canvas.toDataURL())"
        before = clips.evaluate(seen)
        slider = clips.get_by_role("slider", name="Frame")
        last = int(slider.get_attribute("max") or 0)
        slider.fill(str(last))
        assert clips.get_attribute("data-frame") == str(last)
        assert all(one != two for one, two in zip(before, clips.evaluate(seen), strict=True))
        clips.locator(".panels").focus()
        tab.page.keyboard.press("Home")
        assert clips.evaluate(seen) == before
        tab.page.keyboard.press("ArrowRight")
        assert clips.get_attribute("data-frame") == "1"
        clips.get_by_role("button", name="Play").click()
        clips.locator(":scope:not([data-frame='1'])").wait_for()
        clips.get_by_role("button", name="Pause").click()
        grown = "canvas => [canvas.getBoundingClientRect().width * devicePixelRatio / canvas.width, getComputedStyle(canvas).imageRendering]"
        factor, rendering = clips.locator("canvas").first.evaluate(grown)
        assert factor < 1 or (factor == pytest.approx(round(factor), abs=1e-3) and rendering == "pixelated")
    if tab.examples.count() > 1:
        tab.screenshot(f"{name}-truth", whole=True)
        tab.examples.last.click()
        tab.button("Predict").click()
        tab.page.get_by_text("Compared with the truth of").first.wait_for(state="hidden")


def test_who_is_quick_predicts_from_the_example_that_was_pressed_last(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, CLIPS)
    tab.page.get_by_role("button", name="Compare with another model").click()
    tab.button("Compare").wait_for()
    held: list[Any] = []
    tab.page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    tab.examples.last.click()
    while not held:
        tab.page.wait_for_timeout(20)
    for button in (tab.examples.first, tab.button("Predict"), tab.button("Compare")):
        assert button.is_disabled()
    held[0].continue_()
    tab.examples.first.click()
    tab.predict()
    tab.page.get_by_text("Compared with the truth of").first.wait_for()


def test_what_goes_wrong_is_said_on_the_page(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, CLIPS)
    tab.page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "The queue is full"}))
    tab.examples.first.click()
    told = tab.page.get_by_test_id("toast-body")
    told.first.wait_for()
    tab.page.unroute_all()
    tab.problems.clear()  # that answer of 503
    tab.button("Predict").click()  # no example: it is not switched off for ever
    told.filter(has_text="video is missing").wait_for()
    tab.screenshot("error")
    assert "Traceback" not in tab.page.content()
    told.evaluate_all("toasts => toasts.forEach(toast => toast.remove())")
    assert "Error" not in tab.page.locator(".gradio-container").inner_text()


def test_leaving_at_once_says_nothing_of_lost_connections(visit: Open) -> None:  # noqa: F811
    """From the gallery while it loads, and from a page in the middle of a prediction."""
    tab = visit()
    tab.open()
    for _ in range(2):
        choose(tab, CLIPS)
        tab.examples.first.click()
        tab.page.get_by_label("Horizon").fill("10000")
        tab.button("Predict").click()
        tab.page.locator("[data-testid=status-tracker] .progress-text").first.wait_for()
        tab.page.get_by_role("link", name="All models").click()
        tab.page.locator(CARDS).first.wait_for()


@pytest.mark.skipif("splat" not in LEARNING, reason="the plugin for reconstruction is not installed")
def test_a_scene_appears_while_it_is_learnt_and_that_can_be_stopped(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, "splat")
    tab.examples.first.click()
    tab.page.get_by_label("Frames", exact=True).fill("4")
    steps = tab.page.get_by_label("Steps", exact=True)
    steps.fill("100000")
    tab.button("Predict").click()
    tab.page.get_by_text(re.compile("step 1 of 100000|of 100000, ")).first.wait_for()
    tab.page.locator(".stzoo-pixels img").last.wait_for()
    tab.screenshot("splat-learning", whole=True)
    tab.button("Stop").click()
    steps.fill("30")
    done, until = tab.page.get_by_text("30 steps in").first, time.monotonic() + PATIENCE
    while not done.is_visible() and time.monotonic() < until:
        tab.button("Predict").click()  # does nothing until the other has stopped
        tab.page.wait_for_timeout(200)
    done.wait_for()
    found = shown(tab)
    assert found["model3d"] == 1 and found["image"] >= 2
    tab.screenshot("splat-done", whole=True)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_every_text_stands_out(dark: bool, visit: Open) -> None:  # noqa: F811
    tab = visit(width=360, height=780, dark=dark)
    tab.open()
    tab.page.locator(CARDS).first.wait_for()
    hue = "dark" if dark else "light"
    for place in ("gallery", CLIPS):
        if place != "gallery":
            open_page(tab, place)
            tab.examples.first.click()
        tab.screenshot(f"phone-{place}-{hue}", whole=True)
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{place}: {wide} pixels wide"
        assert tab.page.evaluate(PALE) == [], f"{place}: pale texts"
    paper, ink = (
        tab.page.evaluate(
            f"getComputedStyle(document.querySelector('{where}')).{what}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
        )
        for where, what in (("body", "backgroundColor"), ("h1", "color"))
    )
    assert (sum(paper) < sum(ink)) == dark
    assert abs(sum(paper) - sum(ink)) > 3 * 125


def test_the_keyboard_is_enough(visit: Open) -> None:  # noqa: F811
    """From the gallery into a page, through an example to a prediction, with Tab and Enter only."""
    tab = visit()
    tab.open()
    tab.page.locator(CARDS).first.wait_for()

    def go_to(found: str) -> None:
        for _ in range(40):
            tab.page.keyboard.press("Tab")
            if found in tab.page.evaluate("document.activeElement.innerText || ''"):
                return
        raise AssertionError(f"{found} is not reached by Tab")

    go_to(CLIPS)
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    tab.page.keyboard.press("Enter")
    tab.examples.first.wait_for()
    go_to("example")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".stzoo-strip img").first.wait_for()
    tab.button("Predict").and_(tab.page.locator(":enabled")).wait_for()
    go_to("Predict")
    tab.screenshot("keyboard")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("sha256").first.wait_for()
