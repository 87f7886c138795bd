"""Fields in a real Chromium: toy models of a third party, whose pages are made from their fields alone.

Skipped where Chromium or playwright is not installed.
"""

from __future__ import annotations

import ast
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fieldtoy
import masktoy
import numpy as np
import pytest
import volumetoy
from browser import PALE, Demo, Open, Visit, chromium, visit  # noqa: F401 (fixtures)

import stzoo
from stzoo.media import geometry, masks, series
from stzoo.media.colours import CURVES
from stzoo.requirements import Requirements

PLUGINS = (fieldtoy.TOY, masktoy.TOY, volumetoy.TOY)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The gallery of those plugins."""
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'stzoo[demo]'")
    site = tmp_path_factory.mktemp("site")
    for plugin in PLUGINS:
        plugin.write(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])))
        patch.setenv("STZOO_PLUGINS", "acme_fields,acme_masks,acme_volumes")
        with Demo(tmp_path_factory.mktemp("demo")) as running:
            yield running


def open_model(tab: Visit, name: str, example: bool = True) -> None:
    tab.open(f"/{name.replace('-', '_')}")
    if example:
        tab.examples.click()


def pixels(canvas: Any) -> np.ndarray:
    """What a canvas shows, (height, width, 4)."""
    found = canvas.evaluate(
        "canvas => [canvas.height, canvas.width, "
        "Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)]"
    )
    return np.array(found[2], np.uint8).reshape(found[0], found[1], 4)


# --- masks and prompts ------------------------------------------------------------------------------------------------


def test_a_mask_lies_over_its_picture_and_its_classes_are_switched(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "parting-one")
    tab.predict()
    overlay = tab.page.locator(".stzoo-overlay[data-ready]").first
    overlay.wait_for()
    legend = overlay.locator(".legend label")
    assert [text.split("\n")[0] for text in legend.all_inner_texts()] == [
        "road",
        "<img src=x onerror=alert(1)>",
        "car",
        "sky & 'clouds'",
    ]
    canvas = overlay.locator("canvas")
    overlay.get_by_label("Opacity").fill("100")
    shown = pixels(canvas)
    table = masks.colours()
    assert {tuple(colour) for colour in shown[..., :3].reshape(-1, 3)} == {tuple(table[number]) for number in range(4)}
    tab.screenshot("mask", whole=True)
    legend.nth(2).locator("input").uncheck()
    less = pixels(canvas)
    changed = (shown != less).any(-1)
    assert changed.any()
    assert (changed <= (shown[..., :3] == table[2]).all(-1)).all(), "other classes changed too"
    overlay.get_by_label("Opacity").fill("50")
    assert (pixels(canvas) != less).any()


def click(tab: Visit, x: float, y: float, **options: Any) -> None:
    """On the picture that prompts are made on; x and y are parts of its width and height."""
    stage = tab.page.locator(".stzoo-prompts .above")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    stage.click(position={"x": x * box["width"], "y": y * box["height"]}, **options)


def drag(tab: Visit, start: tuple[float, float], end: tuple[float, float]) -> None:
    stage = tab.page.locator(".stzoo-prompts .above")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    tab.page.mouse.move(x0, y0)
    tab.page.mouse.down()
    tab.page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    tab.page.mouse.move(x1, y1)
    tab.page.mouse.up()


def prompts(tab: Visit) -> list[dict[str, Any]]:
    """What the page's code gives to ``predict``."""
    found = re.search(r"predict\(.*?, (\[.*\])\)", tab.page.locator(".cm-content").first.inner_text())
    assert found
    made: list[dict[str, Any]] = ast.literal_eval(found[1])
    return made


def test_what_is_clicked_dragged_and_painted_is_predicted_from(
    visit: Open,  # noqa: F811
) -> None:
    tab = visit()
    open_model(tab, "pointing-one")
    asked = tab.page.locator(".stzoo-prompts[data-ready]")
    asked.wait_for()
    said = asked.get_by_role("status")
    said.filter(has_text="2 prompts").wait_for()  # the example's
    asked.get_by_role("button", name="Clear").click()
    said.filter(has_text="0 prompts").wait_for()
    click(tab, 0.5, 0.5)
    click(tab, 0.9, 0.1, button="right")
    asked.get_by_role("button", name="Box").click()
    asked.get_by_role("spinbutton", name="Object").fill("2")
    asked.get_by_role("slider", name="Frame").fill("2")
    drag(tab, (0.1, 0.25), (0.4, 0.75))
    asked.get_by_role("button", name="Brush").click()
    asked.get_by_role("spinbutton", name="Object").fill("3")
    asked.get_by_role("slider", name="Frame").fill("0")
    drag(tab, (0.7, 0.8), (0.9, 0.8))
    said.filter(has_text="3 prompts, on frame 1, 3").wait_for()
    tab.screenshot("prompts", whole=True)
    tab.predict()
    overlay = tab.page.locator(".stzoo-overlay[data-ready]").first
    overlay.wait_for()
    names = [text.split("\n")[0] for text in overlay.locator(".legend label").all_inner_texts()]
    assert names == ["background", "object 1", "object 2", "object 3"]
    overlay.get_by_label("Opacity").fill("100")
    first = pixels(overlay.locator("canvas"))[..., :3]
    table = masks.colours()
    assert (first[24, 32] == table[1]).all()
    assert (first[38, 51] == table[3]).all()
    assert not (first == table[2]).all(-1).any()
    overlay.get_by_role("slider", name="Frame").fill("2")
    third = pixels(overlay.locator("canvas"))[..., :3]
    assert (third[24, 16] == table[2]).all()
    tab.screenshot("prompts-predicted", whole=True)
    made = prompts(tab)
    assert made[0] == {"frame": 0, "object": 1, "points": [[32, 24, 1], [57, 4, 0]]}
    assert made[1] == {"frame": 2, "object": 2, "box": [6, 12, 26, 37]}
    assert made[2]["mask"]["size"] == [48, 64]
    asked.get_by_role("button", name="Undo").click()
    said.filter(has_text="2 prompts").wait_for()


def test_a_mask_that_is_given_is_shown_over_its_picture(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "showing-one")
    overlay = tab.page.locator(".stzoo-overlay[data-ready]").first
    overlay.wait_for()
    assert "object 1" in overlay.locator(".legend").inner_text()
    tab.predict()
    tab.page.locator(".stzoo-overlay[data-ready]").nth(1).wait_for()
    tab.screenshot("mask-given", whole=True)


def test_a_truth_that_is_given_is_shown_with_where_the_prediction_is_wrong(visit: Open, tmp_path: Path) -> None:  # noqa: F811
    from PIL import Image

    tab = visit()
    open_model(tab, "parting-one")
    tab.page.locator(".stzoo-pixels img").first.wait_for()
    truth = tmp_path / "truth.png"
    masks.write_mask(np.zeros((48, 64), np.uint8), truth)
    fold = tab.page.get_by_role("button", name="Compare with the truth")
    fold.click()
    fold.locator("..").locator("input[type=file]").set_input_files(truth)
    given = tab.page.locator(".file-preview").filter(has_text="truth")
    while not given.count():  # `wait_for` looks when a frame is drawn: on a busy machine that may be never
        tab.page.wait_for_timeout(50)
    tab.predict()
    tab.page.get_by_text("Compared with the truth as given.").first.wait_for()
    overlays = tab.page.locator(".stzoo-overlay[data-ready]")
    overlays.nth(1).wait_for()
    legends = [text.split("\n")[0] for text in overlays.nth(1).locator(".legend label").all_inner_texts()]
    assert legends == ["road"]
    tab.page.get_by_text("Truth: Mask").first.wait_for()
    picture = tab.page.get_by_alt_text("Mask: error").first
    picture.wait_for()
    found = np.asarray(Image.open(io.BytesIO(tab.page.request.get(picture.get_attribute("src")).body())).convert("RGB"))
    assert {tuple(colour) for colour in found.reshape(-1, 3).tolist()} == {(0, 0, 0), (230, 51, 38)}
    tab.screenshot("mask-truth", whole=True)
    tab.examples.click()
    given.first.wait_for(state="hidden")
    tab.button("Predict").click()
    tab.page.get_by_text("Compared with the truth as given.").first.wait_for(state="hidden")


def test_prompts_are_made_by_keyboard(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "pointing-one")
    asked = tab.page.locator(".stzoo-prompts[data-ready]")
    said = asked.get_by_role("status")
    said.filter(has_text="2 prompts").wait_for()
    asked.get_by_role("button", name="+ Point").focus()
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    assert asked.get_by_role("button", name="Box").get_attribute("aria-pressed") == "true"
    asked.get_by_role("button", name="Clear").focus()
    tab.page.keyboard.press("Enter")
    said.filter(has_text="0 prompts").wait_for()


# --- depth, scenes and series -----------------------------------------------------------------------------------------


def hover(canvas: Any, x: float, y: float) -> None:
    """Point at a part of a canvas's width and height."""
    box = canvas.bounding_box()
    canvas.hover(position={"x": x * box["width"], "y": y * box["height"]})


def test_depth_shows_its_value_under_the_cursor(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "measuring-one")
    tab.predict()
    shown = tab.page.locator(".stzoo-depth").first
    canvas, said = shown.locator(".map"), shown.get_by_role("status")
    said.filter(has_text="Point at a pixel").wait_for()
    picture = stzoo.fields.Image("picture").sample(Requirements(channels=3, native_size=(48, 64)))
    expected = np.rint(picture * 255).mean(0) / 255 * 4 + 1.5  # the example is a PNG
    for x, y in ((40, 30), (63, 47), (20, 5)):
        hover(canvas, (x + 0.5) / 64, (y + 0.5) / 48)
        said.filter(has_text=f"x {x}, y {y}").wait_for()
        assert float(said.inner_text().split()[0]) == pytest.approx(expected[y, x], abs=1e-5)
        assert " m at " in said.inner_text()
    hover(canvas, 0.05, 0.05)
    said.filter(has_text="not known at x 3, y 2").wait_for()
    assert "chequered: not known (4.2 %)" in shown.inner_text()
    tab.screenshot("depth", whole=True)
    before = pixels(canvas)
    assert len({tuple(item) for item in before[..., :3].reshape(-1, 3)}) > 50
    assert {tuple(item) for item in before[:8, :16, :3].reshape(-1, 3)} == {(150,) * 3, (190,) * 3}
    shown.get_by_label("Colour map").select_option("grey")
    grey = pixels(canvas)[..., :3]
    assert (grey == grey[..., :1]).all()
    shown.get_by_label("Highest value").fill("2")
    assert (pixels(canvas)[20:, :, :3] == 255).all(-1).mean() > 0.5, "the range has no effect"
    shown.get_by_role("button", name="Reset range").click()
    assert (pixels(canvas)[..., :3] == grey).all()
    canvas.focus()
    tab.page.keyboard.press("ArrowRight")
    said.filter(has_text="x 4, y 2").wait_for()


def test_depth_that_is_given_is_shown_too(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "refining-one")
    maps = tab.page.locator(".stzoo-depth .map")
    maps.first.wait_for()
    tab.predict()
    said = tab.page.locator(".stzoo-depth").get_by_role("status")
    said.nth(1).wait_for()
    for index, wanted in enumerate((5.936508, 11.873016)):
        hover(maps.nth(index), 0.5 / 64, 1.5 / 64)
        said.nth(index).filter(has_text="x 0, y 1").wait_for()
        assert float(said.nth(index).inner_text().split()[0]) == pytest.approx(wanted, abs=2e-3)


def colours_drawn(tab: Visit, place: Any) -> int:
    """How many greys are on the screen in the middle of an element, where no label lies over it: what WebGL has drawn cannot
    be read back later."""
    from PIL import Image

    box = place.bounding_box()
    clip = {"x": box["x"] + box["width"] / 4, "width": box["width"] / 2}
    clip |= {"y": box["y"] + box["height"] / 4, "height": box["height"] / 2}
    return len(np.unique(np.asarray(Image.open(io.BytesIO(tab.page.screenshot(clip=clip))).convert("L"))))


@pytest.mark.parametrize("kind", ["points", "gaussians", "mesh"])
def test_a_scene_is_drawn_in_an_orbit_viewer(kind: str, visit: Open, tmp_path: Path) -> None:  # noqa: F811
    scene = geometry.sample_geometry()
    if kind == "gaussians":
        positions, colours = (scene[name][::5] for name in ("positions", "colours"))
        scene = geometry.as_geometry(
            {
                "positions": positions * 50,
                "scales": np.full(positions.shape, np.log(3.0)),
                "rotations": np.tile([1.0, 0, 0, 0], (len(positions), 1)),
                "opacities": np.full(len(positions), 4.0),
                "sh": (colours[:, None] - 0.5) / geometry.BAND,
            }
        )
    elif kind == "mesh":
        corners = np.array([[0, 0, 0], [9, 0, 0], [0, -9, 0], [0, 0, 9]], float)
        scene = geometry.as_geometry({"positions": corners, "faces": [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]})
    path = tmp_path / "scene.ply"
    geometry.write_geometry(scene, path)
    tab = visit()
    tab.page.set_default_timeout(60_000)  # without a graphics card
    open_model(tab, "shifting-one", example=False)
    tab.page.locator("input[type=file]").first.set_input_files(path)
    viewers = tab.page.locator(".stzoo-scene canvas")
    viewers.first.wait_for()
    until = time.monotonic() + 60
    while time.monotonic() < until and colours_drawn(tab, viewers.first) < 20:
        tab.page.wait_for_timeout(500)  # loading and drawing happen in workers, which tell nobody when they are done
    tab.screenshot(f"scene-{kind}")
    assert colours_drawn(tab, viewers.first) >= 20, "nothing is drawn"


def test_what_was_given_and_what_was_predicted_are_curves_of_one_plot(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "foretelling-one")
    tab.predict()
    shown = tab.page.locator(".stzoo-series").nth(1)
    canvas, said = shown.locator(".plot"), shown.get_by_role("status")
    said.filter(has_text="Point at the plot").wait_for()
    names = shown.locator(".legend label").all_inner_texts()
    assert [name.strip() for name in names] == ["variable 1", "variable 2"]
    both = pixels(canvas)
    curve = np.array([int(CURVES[0][index : index + 2], 16) for index in (1, 3, 5)])
    assert ((both[..., :3] == curve) & (both[..., 3:] == 255)).all(-1).sum() > 200
    given = series.sample_series(96, 2)
    hover(canvas, 0.999, 0.5)
    said.filter(has_text="(future)").wait_for()
    assert "2026-01-05 23:00" in said.inner_text()
    assert f"{given.values[95, 0]:.5g}"[:5] in said.inner_text()
    hover(canvas, 0.2, 0.5)
    said.filter(has_text="(given)").wait_for()
    tab.screenshot("series", whole=True)
    shown.locator(".legend input").first.uncheck()
    one = pixels(canvas)
    assert not ((one[..., :3] == curve) & (one[..., 3:] == 255)).all(-1).any()
    with tab.page.expect_download() as download:
        tab.page.locator("a[download$='.csv']").first.click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 25


def test_slices_of_a_mask_lie_over_those_of_its_volume(visit: Open) -> None:  # noqa: F811
    tab = visit()
    open_model(tab, "finding-one")
    tab.predict()
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
    others = [shown.get_by_role("slider", name=f"{name} slice") for name in ("Sagittal", "Coronal")]
    assert [slider.input_value() for slider in others] == ["8", "8"]
    tab.screenshot("volume", whole=True)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parting-one", "pointing-one", "measuring-one", "foretelling-one", "finding-one"])
def test_a_page_fits_a_phone_and_every_text_stands_out(name: str, visit: Open) -> None:  # noqa: F811
    tab = visit(width=390, height=844, dark=True)
    open_model(tab, name)
    tab.predict()
    tab.page.locator("canvas").last.wait_for()
    for hue in ("dark", "light"):
        tab.page.emulate_media(color_scheme=hue)
        tab.page.locator(f"body{'.dark' if hue == 'dark' else ':not(.dark)'}").wait_for()
        tab.screenshot(f"phone-{name}-{hue}", whole=True)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert tab.page.evaluate(PALE) == [], f"{hue}: pale texts"


def test_a_licence_without_commercial_use_is_marked(visit: Open) -> None:  # noqa: F811
    tab = visit()
    tab.open()
    marked = tab.page.locator(".stzoo-cards li:has(.forbidden)")
    marked.wait_for()
    assert "finding-one" in marked.inner_text()
    tab.screenshot("licence-gallery")
    marked.locator("a").click()
    tab.page.locator("h1").filter(has_text="finding-one").wait_for()
    assert tab.page.locator(".forbidden").inner_text() == "cc-by-nc-4.0: no commercial use"
