"""The demo in a real Chromium: the gallery, every model's page, a phone, a keyboard, the dark.

Skipped where Chromium or playwright is not installed.
"""

from __future__ import annotations

from typing import Any

import pytest
from browser import Open, Visit, chromium, demo, screenshots, visit  # noqa: F401 (fixtures)

import stzoo
from stzoo.imports import usable

BUNDLED = [model.name for model in stzoo.models() if model.weights and model.weights.bundled]
CARDS = ".stzoo-cards li"


def open_page(tab: Visit, name: str) -> None:
    """From the gallery to the page of a model, as a visitor goes."""
    tab.open()
    tab.page.locator(CARDS).filter(has=tab.page.get_by_role("heading", name=name, exact=True)).locator("a").click()
    tab.page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
    tab.page.get_by_role("button", name="Predict", exact=True).wait_for()


def take_example(tab: Visit) -> None:
    """Press the button of the first example, and wait until its file is there."""
    tab.page.get_by_role("button", name="test example").or_(
        tab.page.get_by_role("button", name="test pattern")
    ).first.click()
    tab.page.locator(".stzoo-strip img").first.wait_for()


def predict(tab: Visit) -> Any:
    """Press Predict, and wait for what it says under the outputs."""
    tab.page.get_by_role("button", name="Predict", exact=True).click()
    facts = tab.page.get_by_text("sha256").first
    facts.wait_for(timeout=60_000)
    return facts


def clean(tab: Visit) -> None:
    """Nothing went wrong, and no other host was asked: not by the page, and not by the server."""
    assert tab.requests
    assert tab.strangers == []
    assert tab.problems == []
    assert tab.demo.outside == []


def test_the_gallery_opens_and_its_filters_narrow_it(visit: Open) -> None:  # noqa: F811
    tab = visit()
    tab.open()
    cards = tab.page.locator(CARDS)
    cards.first.wait_for()
    assert cards.count() == len(list(filter(usable, stzoo.models())))
    tab.screenshot("gallery")
    tab.page.get_by_label("Search").fill(BUNDLED[0].replace("-", " ").upper())
    tab.page.get_by_role("status").filter(has_text="1 model").wait_for()
    assert cards.count() == 1
    assert BUNDLED[0] in cards.inner_text()
    tab.page.get_by_label("Search").fill("no such model")
    tab.page.get_by_role("status").filter(has_text="0 models").wait_for()
    tab.page.get_by_label("Search").fill("")
    tab.page.get_by_label("Task").click()
    tab.page.get_by_role("option", name=stzoo.info(BUNDLED[0]).task).click()
    tab.page.get_by_role("status").filter(
        has_text=f"{len(list(filter(usable, stzoo.models(task=stzoo.info(BUNDLED[0]).task))))} model"
    ).wait_for()
    clean(tab)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_first_example_of_a_model_runs(name: str, visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, name)
    assert stzoo.info(name).license in tab.page.locator(".stzoo-tags").inner_text()
    take_example(tab)
    said = predict(tab).inner_text()
    assert " s on " in said and str(stzoo.info(name).weights.sha256)[:12] in said
    film = tab.page.locator("video").last
    assert (
        film.evaluate(
            "film => new Promise(ok => film.readyState > 1 ? ok(film.videoWidth) : film.onloadeddata = () => ok(film.videoWidth))"
        )
        > 0
    )
    strip = tab.page.locator(".stzoo-strip img").last
    strip.wait_for()
    lit = """image => image.decode().then(() => {
        const canvas = Object.assign(document.createElement("canvas"), {width: image.naturalWidth, height: image.naturalHeight})
        const context = canvas.getContext("2d")
        context.drawImage(image, 0, 0)
        return new Set(context.getImageData(0, 0, canvas.width, canvas.height).data).size
    })"""
    assert strip.evaluate(lit) > 50, "the prediction is one flat colour"
    assert f'stzoo.load("{name}")' in tab.page.locator(".cm-content").first.inner_text()
    tab.screenshot(name, whole=True)
    clean(tab)


def test_what_goes_wrong_is_said_on_the_page(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, BUNDLED[0])
    tab.page.get_by_role("button", name="Predict", exact=True).click()
    told = tab.page.get_by_test_id("toast-body")
    told.wait_for()
    assert "video is missing" in told.inner_text()
    assert "Traceback" not in tab.page.content()
    tab.screenshot("error")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(dark: bool, visit: Open) -> None:  # noqa: F811
    tab = visit(width=390, height=844, dark=dark)
    tab.open()
    tab.page.locator(CARDS).first.wait_for()
    hue = "dark" if dark else "light"
    for place in ("gallery", BUNDLED[0]):
        if place != "gallery":
            open_page(tab, place)
            take_example(tab)
        tab.screenshot(f"phone-{place}-{hue}", whole=True)
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{place}: {wide} pixels wide"
    paper, ink = (
        tab.page.evaluate(
            f"getComputedStyle(document.querySelector('{where}')).{what}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
        )
        for where, what in (("body", "backgroundColor"), ("h1", "color"))
    )
    assert (sum(paper) < sum(ink)) == dark
    assert abs(sum(paper) - sum(ink)) > 3 * 125
    clean(tab)


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

    go_to(BUNDLED[0])
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("button", name="Predict", exact=True).wait_for()
    go_to("example")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".stzoo-strip img").first.wait_for()
    go_to("Predict")
    tab.screenshot("keyboard")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_text("sha256").first.wait_for(timeout=60_000)
    clean(tab)
