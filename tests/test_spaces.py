"""Spaces: what is exported is valid and up to date, runs where only its requirements are, and is uploaded with care."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commandline import TOY, Cli, Install, cli, plugin, run_python  # noqa: F401
from gradio_client import Client, handle_file
from hubserver import HubServer
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement
from wheels import Environment

import stzoo
from stzoo import cards, errors
from stzoo.ui import space

ROOT = Path(__file__).parent.parent
SPACES = ROOT / "spaces"
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
FILES = {"app.py", "README.md", "requirements.txt"}
EDITED = "---\ntitle: Mine\nsdk: gradio\n---\n\n# My own words\n"
SCHEDULER = """\
import multiprocessing, os, threading, torch

really = torch.cuda.is_available
torch.cuda.is_available = lambda: True  # what uses it outside of marked functions fails

def GPU(function):
    def borrow(*given):
        def run():
            torch.cuda.is_available = really
            os.environ["GPU"] = "borrowed"
            try:
                for value in function(*given):
                    queue.put((True, value))
                queue.put((None, None))
            except Exception as problem:
                queue.put((False, type(problem).__name__))

        def start():
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

        fork = multiprocessing.get_context("fork")
        queue = fork.SimpleQueue()
        fork.Process(target=start).start()
        while (answer := queue.get())[0]:
            yield answer[1]
        if answer[0] is False:
            raise RuntimeError(answer[1])

    return borrow
"""
NEW = """\
---
title: Demo
sdk: gradio
app_file: app.py
---

Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference
"""
"""The README that the Hub writes into a new Space."""


def front_matter(text: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return data


# --- exporting --------------------------------------------------------------------------------------------------------


def test_spaces_are_what_the_registry_renders(tmp_path: Path) -> None:
    expected = {path.name: path for path in space.export_all(tmp_path)}
    written = {path.name: path for path in SPACES.iterdir()}
    assert expected.keys() == written.keys() and expected, "run: make spaces"
    for task, folder in expected.items():
        for name in FILES:
            assert (written[task] / name).read_text() == (folder / name).read_text(), (
                f"spaces/{task}/{name} is out of date: run make spaces"
            )


@pytest.mark.parametrize("folder", sorted(SPACES.iterdir()), ids=lambda path: path.name)
def test_front_matter_is_what_the_hub_takes(folder: Path) -> None:
    data = front_matter((folder / "README.md").read_text())
    assert f"gradio=={data['sdk_version']}" in (ROOT / "constraints.txt").read_text().splitlines()
    assert (data["sdk"], data["python_version"], data["app_file"]) == ("gradio", "3.12", "app.py")
    assert {data["colorFrom"], data["colorTo"]} <= COLORS
    assert data["suggested_hardware"] in [item.value for item in SpaceHardware]
    assert 0 < len(data["short_description"]) <= 60
    assert data.get("models", []) == [item.weights.repo for item in stzoo.models(task=folder.name) if item.weights]
    licences = {item.license for item in stzoo.models(task=folder.name) if item.weights}
    expected = {"license": licences.pop() if len(licences) == 1 else "other"} if licences else {}
    assert {key: data[key] for key in ("license",) if key in data} == expected
    assert data["tags"] == ["stzoo", folder.name]
    assert "preload_from_hub" not in data, "these models' weights are in the plugin"
    for name in FILES:
        text = (folder / name).read_text()
        assert not any(place in text for place in ("/home", "/root", "/tmp", "../", "file://", str(ROOT)))
    assert len((folder / "app.py").read_text().splitlines()) < 12


def test_a_third_partys_models(plugin: Install) -> None:  # noqa: F811
    """What has to be downloaded is, while the Space is built; the licence is the models'; heavy networks get a GPU."""
    pinned = f'Weights("toy/pairs", size=2_500_000, revision="{"a" * 40}"), flops=10**12'
    plugin("toy", TOY.replace('Weights("toy/pairs", size=2_500_000)', pinned))
    files = space.render(["subtraction-pairs"])
    data = front_matter(files["README.md"])
    assert data["preload_from_hub"] == [f"toy/pairs model.safetensors {'a' * 40}"]
    assert (data["models"], data["license"]) == (["toy/pairs"], "cc-by-nc-4.0")
    assert (data["title"], data["short_description"]) == ("subtraction-pairs", "Ein schönes Modell")
    assert (data["tags"], data["suggested_hardware"]) == (["stzoo", "comparison"], "zero-a10g")
    assert "thumbnail" not in data, "whether strangers publish a picture is not known"
    lines = files["requirements.txt"].splitlines()
    assert {f"stzoo[demo]=={stzoo.__version__}", "toy==1.0"} <= set(lines)
    assert not any("whl/cpu" in line or line.startswith("torch==") for line in lines)
    assert "stzoo-video-prediction" not in files["requirements.txt"]
    assert 'stzoo.demo("subtraction-pairs")' in files["app.py"]

    both = space.render(["comparison", "tau-mmnist"], hardware="cpu-upgrade")
    data = front_matter(both["README.md"])
    assert (data["title"], data["license"]) == ("Comparison, tau-mmnist", "other")
    assert data["tags"] == ["stzoo", "comparison", "video-prediction"]
    assert "| subtraction-empty |  | not known |" in both["README.md"]
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in both["requirements.txt"]
    assert "stzoo-video-prediction==" in both["requirements.txt"]
    assert 'stzoo.demo("comparison", "tau-mmnist")' in both["app.py"]


def test_a_published_model_has_its_picture_as_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from stzoo.registry import registry

    model = registry().get(stzoo.Model, "tau-mmnist")
    assert model.weights
    published = replace(model, weights=replace(model.weights, revision="b" * 40))
    monkeypatch.setattr(space, "chosen", lambda names: [published])
    data = front_matter(space.render(["tau-mmnist"])["README.md"])
    assert data["thumbnail"] == f"https://huggingface.co/stzoo/tau-mmnist/resolve/{'b' * 40}/prediction.png"


def test_exporting_again_changes_nothing_and_keeps_what_was_added(tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    folder = tmp_path / "deep" / "space"
    assert cli("space", "export", "tau-mmnist", folder) == (0, f"{folder}\n", "")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert first.keys() == FILES
    (folder / "example.npz").write_bytes(b"mine")
    (folder / "app.py").unlink()  # as if the first time had been interrupted
    assert cli("space", "export", "tau-mmnist", folder)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first | {"example.npz": b"mine"}
    code, out, _ = cli("space", "export", "--all", tmp_path / "all")
    assert (code, sorted(out.split())) == (0, sorted(str(tmp_path / "all" / path.name) for path in SPACES.iterdir()))


def test_what_stzoo_did_not_write_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.InputError, match="is not empty and is no Space"):
        space.export(["tau-mmnist"], tmp_path)
    (tmp_path / "app.py").write_text("print('mine')")
    with pytest.raises(errors.InputError, match="holds app.py that stzoo did not write"):
        space.export(["tau-mmnist"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "app.py"}
    with pytest.raises(errors.InputError, match="is a file"):
        space.export(["tau-mmnist"], tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("space", "export", "x"), "say which models or tasks"),
        (("space", "export", "--all", "tau-mmnist", "x"), "say which models or tasks"),
        (("space", "export", "tau-mnist", "x"), "no model is called 'tau-mnist'. Did you mean 'tau-mmnist'"),
        (("space", "export", "video-predicton", "x"), "Did you mean 'video-prediction'?"),
        (("space", "export", "tau-mmnist", "x", "--hardware", "zero-a10"), "Did you mean 'zero-a10g'"),
        (("space", "push", ".", "alice/demo"), "holds no Space. Run: stzoo space export"),
        (("space",), "required: ACTION"),
    ],
)
def test_the_command_refuses(
    cli: Cli,  # noqa: F811
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert not any(tmp_path.iterdir())


def test_without_gradio_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(space, "version", absent)
    with pytest.raises(errors.DependencyMissing, match=re.escape('pip install "stzoo[demo]"')):
        space.render(["tau-mmnist"])


def test_exporting_imports_neither_torch_nor_gradio(tmp_path: Path) -> None:
    code = f"""
import sys
from stzoo.ui import space
space.export(["tau-mmnist"], {str(tmp_path / "space")!r})
assert not {{"torch", "gradio"}} & sys.modules.keys()
"""
    done = run_python(["-c", code])
    assert done.returncode == 0, done.stderr


def test_a_gpu_is_borrowed_where_there_is_one_to_borrow(tmp_path: Path) -> None:
    """On ZeroGPU a marked function runs in a process of its own, from which only what can be pickled comes back; everywhere
    else torch says that there is a GPU, and fails when it is used. The real package needs the Hub's scheduler."""
    (tmp_path / "spaces.py").write_text(SCHEDULER)
    code = """
import os
from stzoo.errors import InputError
from stzoo.ui.gpu import borrows_gpu
from stzoo.ui.limits import limits
from stzoo.ui.running import Runner

@borrows_gpu
def half(number):
    if number % 2:
        raise InputError(f"{number} is odd", "Give an even one")
    if number < 0:
        raise KeyError("some detail")
    yield number // 2, os.environ.get("GPU")

print(*half(42), half.__name__)
for number in (7, -2):
    try:
        list(half(number))
    except Exception as problem:
        print(isinstance(problem, InputError), problem)
done = Runner(limits({})).predict("espcn-x2", [__import__("numpy").zeros((3, 8, 8), "float32")], {})
print(done.device, done.prediction.image.shape)
"""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = run_python(["-c", code], PYTHONPATH=path, SPACES_ZERO_GPU="true")
    lines = ["(21, 'borrowed') half", "True 7 is odd. Give an even one", "False 'some detail'"]
    assert done.stdout.splitlines() == [*lines, "cpu (float32) (3, 16, 16)"], done.stderr


# --- uploading --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = space.export(["tau-mmnist"], tmp_path_factory.mktemp("exported") / "space")
    for litter in (".gradio/cached", "__pycache__/app.pyc"):
        (folder / litter).parent.mkdir()
        (folder / litter).write_text("litter")
    return folder


def push(hub: HubServer, home: Path, *words: object, token: str = "hf_alice") -> subprocess.CompletedProcess[str]:
    environment = hub.env(home, token) | {"STZOO_HUB_RETRIES": "0"}
    return run_python(["-m", "stzoo", "space", "push", *words], **environment)


def test_a_space_is_made_uploaded_in_one_commit_and_verified(hub: HubServer, exported: Path, tmp_path: Path) -> None:
    done = push(hub, tmp_path, exported, "alice/tau", "--private", "--hardware", "cpu-upgrade")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{hub.endpoint}/spaces/alice/tau\nalice/tau: uploaded and verified\n"
    repo = hub.repo("alice/tau", "space")
    assert (repo.space["sdk"], repo.space["hardware"], repo.private) == ("gradio", "cpu-upgrade", True)
    assert set(repo.files("main")) == FILES | {".gitattributes"}
    for name in FILES:
        assert hub.read("alice/tau", name, "space") == (exported / name).read_bytes()
        assert hub.seen(f"/spaces/alice/tau/resolve/.*/{name}", "GET"), "it is downloaded again"
    assert len(hub.seen("/commit/", "POST")) == 1
    assert not hub.seen("/api/models/|/api/spaces/.*/hardware"), "a Space, with the hardware from the beginning"

    hub.requests.clear()
    again = push(hub, tmp_path, exported, "alice/tau", "--hardware", "t4-small", "--json")
    assert again.returncode == 2 and "was written for a CPU and would not use t4-small" in again.stderr
    again = push(hub, tmp_path, exported, "alice/tau", "--hardware", "cpu-basic")
    assert "nothing changed, no commit made" in again.stdout
    assert not hub.seen("/commit/", "POST") and repo.space["hardware"] == "cpu-basic"


def test_what_others_wrote_is_kept(hub: HubServer, exported: Path, tmp_path: Path) -> None:
    """The Hub's own first README is replaced, one that somebody edited is not, and neither is another's app."""
    hub.put("alice/new", {"README.md": NEW.encode()}, "space")
    assert push(hub, tmp_path, exported, "alice/new").returncode == 0
    assert hub.read("alice/new", "README.md", "space") == (exported / "README.md").read_bytes()

    hub.put("alice/new", {"README.md": EDITED.encode(), "requirements.txt": b"old", "extra.txt": b"theirs"}, "space")
    done = push(hub, tmp_path, exported, "alice/new")
    assert done.returncode == 0 and "README.md of alice/new was edited there and is kept" in done.stderr
    assert hub.read("alice/new", "README.md", "space") == EDITED.encode()
    assert hub.read("alice/new", "requirements.txt", "space") == (exported / "requirements.txt").read_bytes()
    assert hub.read("alice/new", "extra.txt", "space") == b"theirs"

    hub.put("alice/other", {"app.py": b"print('mine')"}, "space")
    done = push(hub, tmp_path, exported, "alice/other")
    assert done.returncode == 2 and "it has app.py, which stzoo did not write" in done.stderr
    assert hub.read("alice/other", "app.py", "space") == b"print('mine')"


def test_refusals_are_explained(hub: HubServer, exported: Path, tmp_path: Path) -> None:
    hub.fault("status", "/api/repos/create", "POST", status=402)
    done = push(hub, tmp_path, exported, "alice/paid")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the account's plan or credits do not allow it" in done.stderr
    assert "Spaces that run an app need a paid plan" in done.stderr and "/settings/billing" in done.stderr
    assert ("space", "alice/paid") not in hub.store.repos

    assert push(hub, tmp_path, exported, "alice/free").returncode == 0
    hub.fault("status", "/api/spaces/alice/free/hardware", "POST", status=402)
    done = push(hub, tmp_path, exported, "alice/free", "--hardware", "cpu-upgrade")
    assert done.returncode == 2 and "paid hardware needs credits" in done.stderr

    done = push(hub, tmp_path, exported, "alice/free", "--private")
    assert done.returncode == 2 and "exists and is public" in done.stderr
    done = push(hub, tmp_path, exported, "alice/free", token="hf_alice_read")
    assert done.returncode == 2 and "the token of alice may only read" in done.stderr

    hub.put("alice/free", {"app.py": f"# {cards.MARK_TEXT}\nold".encode()}, "space")
    hub.fault("flip", "/app.py", times=None, after=3)
    done = push(hub, tmp_path / "other", exported, "alice/free")
    assert done.returncode == 2 and "app.py of alice/free" in done.stderr


# --- running ----------------------------------------------------------------------------------------------------------


GROUPS: dict[str, list[str]] = {}
"""The Spaces by what they require."""
for _folder in sorted(SPACES.iterdir()):
    GROUPS.setdefault((_folder / "requirements.txt").read_text(), []).append(_folder.name)


FORKS = """
import os, runpy, sys
import stzoo.ui.gallery, torch  # what every app imports

for folder in sys.argv[1:]:
    if not os.fork():
        os.chdir(folder)
        log = os.open("../app.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        sys.argv, sys.path[0] = ["app.py"], folder
        runpy.run_path("app.py", run_name="__main__")
        os._exit(0)
os.wait()
"""
"""Each app runs in its folder, in a process of its own that is spared the imports; this one ends with the first of them."""


@contextmanager
def started(environment: Environment, folders: Sequence[Path]) -> Iterator[Callable[[Path], str]]:
    """The apps, run as Spaces run them; gives what waits for the address of one."""
    variables = environment.variables | {"SYSTEM": "spaces", "SPACE_ID": "me/demo"}  # by which Gradio knows where it is
    variables |= {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    command = [str(environment.python), "-c", FORKS, *map(str, folders)]
    process = subprocess.Popen(command, cwd=folders[0], env=variables, start_new_session=True)

    def address(folder: Path) -> str:
        log, deadline = folder.with_name("app.log"), time.monotonic() + 600
        while not (found := log.exists() and re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.exists() and log.read_text()
            time.sleep(0.1)
        return found[0]

    try:
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("tasks", GROUPS.values(), ids=",".join)
def test_spaces_run_where_only_their_requirements_are(tasks: list[str], built: Path, tmp_path: Path) -> None:
    """Wheels of this repository stand in for the index; torch, gradio and what else there is come from the tests' own
    environment, if their versions are those that the Spaces ask for. Those with the same requirements run side by side."""
    folders = [Path(shutil.copytree(SPACES / task, tmp_path / task / "space")) for task in tasks]
    environment = Environment(tmp_path / "environment", editable=False)
    lines = (folders[0] / "requirements.txt").read_text().splitlines()
    wanted = [Requirement(line).name.replace("-", "_") for line in lines if line and line[0] not in "#-"]
    found = [wheel for name in wanted for wheel in built.glob(f"{name}-[0-9]*.whl")]
    environment.pip("install", "--no-index", "--no-compile", *found, "--requirement", folders[0] / "requirements.txt")
    with started(environment, folders) as address:
        code = "import stzoo; from importlib.metadata import version; answer = stzoo.__file__, version('gradio')"
        place, gradio = environment.ask(code, folder=folders[0])
        assert place.startswith(str(tmp_path))
        for task, folder in zip(tasks, folders, strict=True):
            assert gradio == front_matter((folder / "README.md").read_text())["sdk_version"]
            predicts(task, address(folder), folder.parent)


def predicts(task: str, address: str, folder: Path) -> None:
    """A running Space gives the predictions of ``predict``, bit by bit, of each of its models."""
    client = Client(address, verbose=False, download_files=str(folder / "downloads"), analytics_enabled=False)
    assert client.config["analytics_enabled"] is False
    for model in filter(lambda item: not item.source, stzoo.models(task=task)):
        predictor = stzoo.load(model.name, device="cpu")
        given = []
        for field in (item for item in predictor.task.inputs if not item.optional):
            ending = ".npz" if ".npz" in field.suffixes else field.suffixes[0]
            given.append(folder / f"{model.name}-{field.name}{ending}")
            field.write(field.sample(predictor.requirements), given[-1])
        endpoint = "/predict_" + re.sub("[-.]", "_", model.name)
        files = [[handle_file(path)] if path.suffix == ".zip" else handle_file(path) for path in given]
        received = client.predict(*files, api_name=endpoint)
        received = [received] if len(predictor.task.outputs) == 1 else received
        expected = predictor.predict(*given)
        for field, path in zip(predictor.task.outputs, received, strict=True):
            if field.name not in expected:
                assert path is None, f"{field.name} of {model.name} was not asked for"
                continue
            if not field.suffixes:  # a plain value
                assert np.array_equal(field.read(path, predictor.requirements), expected[field.name])
                continue
            with np.load(path) if Path(path).suffix == ".npz" else nullcontext({}) as arrays:
                alone = list(arrays.values()) if len(arrays) == 1 else ()
            array = alone[0] if alone else np.asarray(field.read(path, predictor.requirements))
            np.testing.assert_array_equal(array, np.asarray(expected[field.name]), f"{field.name} of {model.name}")
            assert array.std() > 0 or predictor.requirements.classes  # there may be nothing in a picture
