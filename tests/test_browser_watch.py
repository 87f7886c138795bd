"""A model that learns while it predicts, in a real Chromium: early predictions are shown as they come, and it can be stopped."""

from __future__ import annotations

import pytest
from browser import Open, Visit, chromium, demo, screenshots, visit  # noqa: F401 (fixtures)
from test_browser import open_page, shown, take_example

import stzoo

NAMES = [model.name for model in stzoo.models() if not model.weights and not model.source]


def start(tab: Visit, steps: int) -> None:
    tab.page.get_by_label("Steps", exact=True).fill(str(steps))
    tab.page.get_by_label("Frames", exact=True).fill("4")
    tab.page.get_by_role("button", name="Predict", exact=True).click()


@pytest.mark.skipif("splat" not in NAMES, reason="the plugin for reconstruction is not installed")
def test_a_scene_appears_while_it_is_learnt(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_page(tab, "splat")
    tab.page.get_by_role("button", name="test pattern").wait_for()
    take_example(tab)
    tab.page.get_by_text("48 photographs").wait_for()
    start(tab, 100_000)
    tab.page.get_by_text("step 1 of 100000").or_(tab.page.get_by_text("of 100000, ")).first.wait_for(timeout=90_000)
    picture = tab.page.locator(".stzoo-pixels img").last
    picture.wait_for()
    tab.screenshot("splat-learning", whole=True)
    tab.page.get_by_role("button", name="Stop", exact=True).click()
    tab.page.wait_for_timeout(1500)
    start(tab, 30)  # what was stopped is in nobody's way
    tab.page.get_by_text("30 steps in").wait_for(timeout=90_000)
    found = shown(tab)
    assert found["model3d"] == 1 and found["image"] >= 2
    tab.screenshot("splat-done", whole=True)
    assert not tab.problems and not tab.strangers
