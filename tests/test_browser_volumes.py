"""Volumes in a real Chromium: slices in three planes, a mask over them, by mouse and keyboard.

Skipped where Chromium or playwright is not installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import volumetoy
from browser import Demo, Open, chromium, screenshots, visit  # noqa: F401 (fixtures)

from stzoo.media import masks


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The page of one model."""
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'stzoo[demo]'")
    volumetoy.TOY.write(site := tmp_path_factory.mktemp("site"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])))
        with Demo(tmp_path_factory.mktemp("demo"), "finding-one") as running:
            yield running


def pixels(canvas: Any) -> np.ndarray:
    """What a canvas shows, (height, width, 4)."""
    found = canvas.evaluate(
        "canvas => [canvas.height, canvas.width, "
        "Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)]"
    )
    return np.array(found[2], np.uint8).reshape(found[0], found[1], 4)


def test_slices_of_a_mask_lie_over_those_of_its_volume(visit: Open) -> None:  # noqa: F811
    tab = visit()
    tab.open("/")
    tab.page.get_by_role("button", name="Predict", exact=True).wait_for()
    tab.page.get_by_role("button", name="test pattern").click()
    tab.page.locator(".stzoo-volume[data-ready]").first.wait_for()
    tab.page.get_by_role("button", name="Predict", exact=True).click()
    tab.page.get_by_text("sha256").first.wait_for(timeout=60_000)
    shown = tab.page.locator(".stzoo-volume[data-ready]", has=tab.page.locator(".legend label"))
    shown.wait_for()
    names = [text.split("\n")[0] for text in shown.locator(".legend label").all_inner_texts()]
    assert names == ["air", "<b>tissue</b>", "kernel"]
    canvases = [shown.locator("canvas").nth(index) for index in range(3)]
    assert [pixels(canvas).shape for canvas in canvases] == [(32, 32, 4)] * 3
    shown.get_by_label("Opacity").fill("100")
    colours = {tuple(colour) for colour in pixels(canvases[0])[..., :3].reshape(-1, 3).tolist()}
    assert colours <= {tuple(masks.colours()[number].tolist()) for number in range(3)}
    slider = shown.get_by_role("slider", name="Axial slice")
    slider.focus()
    before, other = pixels(canvases[0]), pixels(canvases[1])
    for _ in range(6):
        tab.page.keyboard.press("ArrowRight")
    assert slider.input_value() == "22"
    assert (pixels(canvases[0]) != before).any() and (pixels(canvases[1]) == other).all()
    box = canvases[0].bounding_box()
    assert box
    canvases[0].click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.75})
    assert [shown.get_by_role("slider", name=f"{name} slice").input_value() for name in ("Sagittal", "Coronal")] == [
        "8",
        "8",
    ]
    tab.screenshot("volume", whole=True)
    assert tab.problems == []
    assert tab.strangers == []
