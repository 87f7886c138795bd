"""The gallery: it loads nothing before it is used, makes pages when they are visited, and shows real predictions."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from browser import Demo
from commandline import Cli, cli, run_python  # noqa: F401 (a fixture)
from demos import READY, client, clip, gradio_client, handler, own_folders, serve  # noqa: F401 (fixtures)
from hubserver import HubServer
from PIL import Image

import stzoo
from stzoo import errors, media, registry
from stzoo.spec import Model


@pytest.fixture
def crowd() -> Iterator[None]:
    """2,000 more models."""
    registry._registry.cache_clear()
    registered, model = registry.registry(), stzoo.info("tau-mmnist")
    owner = next(item for item in registered.plugins if item.name == model.plugin)
    more = [dataclasses.replace(model, name=f"many-{index}", license="cc-by-nc-4.0") for index in range(2000)]
    owner.specs["models"] = [*owner.specs["models"], *more]
    registered._register()
    yield
    registry._registry.cache_clear()


def test_a_gallery_of_2000_models_makes_pages_when_they_are_visited_and_loads_nothing(
    crowd: None,
    tmp_path: Path,
    serve: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stzoo.ui import gallery, running

    made: list[str] = []
    loaded, original = running.Predictors(4), gallery.page
    monkeypatch.setattr(running, "PREDICTORS", loaded)
    monkeypatch.setattr(gallery, "page", lambda *args: made.append(args[0].name) or original(*args))
    url = serve(stzoo.demo())
    front = httpx.get(url, trust_env=False, timeout=60)
    assert front.status_code == 200
    assert f"{2000 + len(READY)} models" in front.text
    places = client(url, tmp_path).predict(api_name="/models")
    assert {
        "model": "many-7",
        "task": "video-prediction",
        "at": "model/many_7/",
        "endpoint": "/predict_many_7",
    } in places
    assert (made, len(loaded)) == ([], 0)
    page = httpx.get(f"{url}model/many_1999/", trust_env=False, timeout=60)
    assert page.status_code == 200
    assert made == ["many-1999"]
    answer = client(f"{url}model/many_1999/", tmp_path).predict(
        gradio_client.handle_file(clip(tmp_path)), api_name="/predict_many_1999"
    )
    with np.load(answer) as stored:
        assert np.array_equal(stored["video"], stzoo.load("tau-mmnist", device="cpu").predict(clip(tmp_path)).video)
    for path in ("model/nothing/", "model/many_1999/gradio_api/file=/etc/passwd", "model/..%2f..%2fetc/passwd"):
        assert httpx.get(url + path, trust_env=False).status_code in (403, 404)


def test_pages_that_nobody_visited_for_longest_are_given_up_and_made_anew(
    crowd: None,
    tmp_path: Path,
    serve: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stzoo.ui import gallery

    made: list[str] = []
    original = gallery.page
    monkeypatch.setattr(gallery, "KEPT", 2)
    monkeypatch.setattr(gallery, "page", lambda *args: made.append(args[0].name) or original(*args))
    blocks = stzoo.demo()
    url = serve(blocks)
    pages = blocks.app.router.routes[0].app
    queues: list[Any] = []
    sent: list[str] = []
    for number in (1, 2, 1, 3, 1, 2):
        assert httpx.get(f"{url}model/many_{number}/", trust_env=False, timeout=60).status_code == 200
        page = pages.made[f"many_{number}"][0]
        queues.append(page._queue)
        assert page.state_holder.capacity == gallery.SESSIONS
        assert page.limiter.total_tokens > blocks.limits["concurrency"], "pages could wait for each other forever"
        if number == 2:
            files = {"files": (f"{len(queues)}.mp4", bytes(len(queues)))}
            sent += httpx.post(f"{url}model/many_2/gradio_api/upload", files=files, trust_env=False, timeout=60).json()
    assert made == ["many-1", "many-2", "many-3", "many-2"]
    assert sorted(route.path for route in pages.router.routes) == ["/many_1", "/many_2"]
    assert [queue.stopped for queue in queues] == [False, True, False, True, False, False], "a queue still runs"
    assert [Path(path).is_file() for path in sent] == [False, True], "what visitors sent outlives the page"
    answer = client(f"{url}model/many_2/", tmp_path).predict(
        gradio_client.handle_file(clip(tmp_path)), api_name="/predict_many_2"
    )
    with np.load(answer) as stored:
        assert stored["video"].shape == (10, 1, 64, 64)


def test_the_gallery_is_filtered(crowd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stzoo.ui.gallery.Thumbnails.of", lambda *_: ({}, False))  # no predictions in the background
    show = handler(stzoo.demo(), "narrow")

    def names(*filters: str) -> str:
        return str(show(*filters)[0])

    assert f"{2000 + len(READY)} models, the first 48" in names("", "any", "any", "any")
    free = [item for item in READY if "-nc-" not in item.license and item.license not in ("", "unknown", "other")]
    assert 0 < len(free) < len(READY)
    assert f">{len(free)} models" in names("", "any", "any", "commercial use allowed")
    assert f">{2000 + sum(item.license == 'cc-by-nc-4.0' for item in READY)} models" in names(
        "", "any", "any", "cc-by-nc-4.0"
    )
    assert "1 model<" in names("many-1999 mnist", "video-prediction", "video-prediction", "any").replace(
        "1 model</p", "1 model<"
    )
    assert "0 models" in names("nothing like it", "any", "any", "any")


def test_thumbnails_are_real_predictions_kept_under_the_hash_of_the_weights(tmp_path: Path) -> None:
    from stzoo.ui.gallery import THUMBNAIL, Thumbnails
    from stzoo.ui.limits import limits
    from stzoo.ui.running import Runner

    model: Model = stzoo.info("tau-mmnist")
    assert model.weights is not None
    thumbnails = Thumbnails(Runner(limits({})))
    path = thumbnails.make(model)
    assert path.name == f"{model.weights.sha256}.png"
    example = stzoo.dataset("moving-mnist", "test")[0]["video"][:10]
    strip = media.strip(stzoo.load("tau-mmnist", device="cpu").predict(example).video)
    strip.thumbnail(THUMBNAIL)
    assert Image.open(path).tobytes() == strip.tobytes()
    pictures, pending = thumbnails.of([model])
    assert pictures[model.qualified_name].startswith("data:image/png;base64,")
    assert not pending


def test_names_and_tasks_choose_what_is_shown() -> None:
    from stzoo.ui.gallery import _chosen

    bundled = [model.name for model in stzoo.models(task="video-prediction") if model.weights and model.weights.bundled]
    assert [model.name for model in _chosen(["video-prediction"], None)] == bundled
    assert [model.name for model in _chosen(["tau-mmnist"], None)] == ["tau-mmnist"]
    assert [model.name for model in _chosen([], "video-prediction")] == bundled
    with pytest.raises(errors.UnknownModel, match="Did you mean"):
        stzoo.demo("tau-mnist")


def test_saved_folders_and_hub_repos_get_pages_and_what_is_wrong_with_one_is_said_there(
    hub: HubServer,
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from stzoo.ui.gallery import _stored

    original = stzoo.load("tau-mmnist", device="cpu")
    saved = original.save(tmp_path / "saved")
    hub.put("me/tau-clips", {path.name: path for path in saved.iterdir()})
    hub.put("me/no-model", {"README.md": b"nothing"})
    for name, value in hub.env(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    with Demo(tmp_path / "demo", "me/tau-clips", str(saved), "me/no-model", "simvp-mmnist") as running:
        visitor = client(running.url, tmp_path)
        endpoints = visitor.view_api(return_format="dict", print_info=False)["named_endpoints"]
        assert len(endpoints) == 3 and "/predict_me_tau_clips" in endpoints
        expected = original.predict(clip(tmp_path)).video
        for endpoint in endpoints.keys() - {"/predict_simvp_mmnist"}:
            with np.load(visitor.predict(gradio_client.handle_file(clip(tmp_path)), api_name=endpoint)) as stored:
                assert np.array_equal(stored["video"], expected)
        pages = {
            name: httpx.get(f"{running.url}/{name}", trust_env=False).text for name in ("me_tau_clips", "me_no_model")
        }
    assert f"{running.url}/" in running.log.read_text().splitlines()
    assert 'stzoo.load(\\"me/tau-clips\\")' in pages["me_tau_clips"]
    assert "licence: apache-2.0" in pages["me_tau_clips"]
    assert "This model cannot be shown" in pages["me_no_model"] and "config.json" in pages["me_no_model"]

    code, _, said = cli("demo", str(tmp_path / "nowhere"), "--no-browser")
    assert (code, said.count("\n")) == (2, 1)
    assert "there is no folder" in said
    with pytest.raises(errors.UnknownModel):
        _stored("./nowhere", alone=True)


def test_gradio_is_imported_only_for_demos_and_its_absence_is_told(tmp_path: Path) -> None:
    quiet = run_python(["-c", "import sys, stzoo, stzoo.cli; stzoo.models(); print('gradio' in sys.modules)"])
    assert quiet.stdout == "False\n", quiet.stderr
    (tmp_path / "gradio.py").write_text("raise ImportError('not here')")
    absent = run_python(["-m", "stzoo", "demo"], PYTHONPATH=f"{tmp_path}:{os.pathsep.join(sys.path)}")
    assert absent.returncode == 2
    assert "pip install 'stzoo[demo]'" in absent.stderr
