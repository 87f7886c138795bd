"""Many clients at once against one demo: errors, waiting times, fairness and memory.

    python benchmarks/demo.py [--clients 20] [--seconds 120] [--model tau-mmnist]

Starts `stzoo demo` with its default limits in a process of its own. Every client uploads a clip of its own, and predicts
with it over and over through gradio_client; every answer is compared, bit by bit, with what ``predict`` gives in this process.

    python benchmarks/demo.py --gallery 2000 [--repeat 5]

How long a gallery of so many models takes: from the start of the process to its first answer, and from opening the page
in Chromium (with an empty cache) to its first cards on the screen.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gradio_client import Client, handle_file

import stzoo

PATIENT = {"timeout": 60}


def memory(process: psutil.Process) -> float:
    """Megabytes in memory, with children."""
    return sum(item.memory_info().rss for item in (process, *process.children(recursive=True))) / 1e6


PLUGIN = """\
from stzoo import Architecture, Model, Task, hookimpl
from stzoo.fields import Image

@hookimpl
def stzoo_tasks():
    yield Task("task-of-many", "One of many", (Image("image"),), (Image("result"),))

@hookimpl
def stzoo_architectures():
    yield Architecture("net-of-many", "task-of-many", "torch.nn:Identity")

@hookimpl
def stzoo_models():
    for number in range(MODELS):
        yield Model(f"one-of-many-{number}", "net-of-many", description="one of many")
"""


class Visitor(threading.Thread):
    """One client."""

    def __init__(self, url: str, endpoint: str, clip: Path, expected: np.ndarray, until: float) -> None:
        super().__init__(daemon=True)
        self.url, self.endpoint, self.clip, self.expected, self.until = url, endpoint, clip, expected, until
        self.seconds: list[float] = []
        self.errors: Counter[str] = Counter()

    def run(self) -> None:
        client = None
        while time.monotonic() < self.until:
            try:
                client = client or Client(self.url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT)
                start = time.monotonic()
                answer: Any = client.predict(handle_file(self.clip), api_name=self.endpoint)
                self.seconds.append(time.monotonic() - start)
                with np.load(answer) as loaded:
                    same = np.array_equal(loaded[loaded.files[0]], self.expected)
                if not same:
                    self.errors["another prediction than predict() gives"] += 1
            except Exception as problem:
                self.errors[f"{type(problem).__name__}: {problem}"[:200]] += 1
                time.sleep(0.5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--model", default="tau-mmnist")
    parser.add_argument("--gallery", type=int, metavar="MODELS")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    if options.gallery:
        return gallery(options.gallery, options.repeat)
    endpoint = "/predict_" + re.sub(r"[^0-9a-z]+", "_", options.model.lower())

    with tempfile.TemporaryDirectory(prefix="stzoo-demo-") as folder:
        predictor = stzoo.load(options.model)
        dataset = stzoo.dataset(str(predictor.spec.trained_on), "test")
        clips = []
        for index in range(options.clients):
            path = Path(folder, f"{index}.npz")
            np.savez_compressed(path, video=dataset[index]["video"][:10])
            clips.append((path, np.asarray(predictor.predict(path).video)))

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "stzoo", "demo", "--port", str(port), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            page = f"http://127.0.0.1:{port}/model/{endpoint.removeprefix('/predict_')}/"
            return measure(server, port, page, endpoint, clips, options.seconds)
        finally:
            server.terminate()
            server.wait(30)


def measure(
    server: subprocess.Popen[bytes],
    port: int,
    url: str,
    endpoint: str,
    clips: list[tuple[Path, np.ndarray]],
    seconds: float,
) -> int:
    """Run all clients for ``seconds`` and print what happened; 1 if anything went wrong, else 0.

    ``url``: of the model's page, which in a gallery as large as the whole zoo is an app of its own.
    """
    process = psutil.Process(server.pid)
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    Client(url, verbose=False, analytics_enabled=False, httpx_kwargs=PATIENT).predict(
        handle_file(clips[0][0]), api_name=endpoint
    )  # loads it
    begin = time.monotonic()
    visitors = [Visitor(url, endpoint, path, expected, begin + seconds) for path, expected in clips]
    print(f"{len(visitors)} clients, {seconds:g} s, {endpoint}; {memory(process):.0f} MB after the first prediction")
    for visitor in random.sample(visitors, len(visitors)):
        visitor.start()
    samples: list[float] = []
    while time.monotonic() < begin + seconds:
        time.sleep(max(0.5, seconds / 240))
        samples.append(memory(process))
        if len(samples) % 24 == 0:
            done = sum(len(visitor.seconds) for visitor in visitors)
            print(f"{time.monotonic() - begin:6.0f} s  {done:6} predictions  {samples[-1]:6.0f} MB", flush=True)
    for visitor in visitors:
        visitor.join(120)

    times = np.array([second for visitor in visitors for second in visitor.seconds])
    counts = sorted(len(visitor.seconds) for visitor in visitors)
    errors = sum((visitor.errors for visitor in visitors), Counter[str]())
    if len(times):
        p50, p90, p99 = np.percentile(times, [50, 90, 99])
        print(f"predictions  {len(times)}, {len(times) / seconds:.2f} a second, every one compared bit by bit")
        print(f"latency      median {p50:.2f} s, 90 % {p90:.2f} s, 99 % {p99:.2f} s, longest {times.max():.2f} s")
    print(f"fairness     {counts[0]} to {counts[-1]} predictions a client (Jain's index {jain(counts):.4f})")
    third = max(1, len(samples) // 3)
    print(
        f"memory       peak {max(samples):.0f} MB; mean of the first third {np.mean(samples[:third]):.0f} MB,"
        f" of the last {np.mean(samples[-third:]):.0f} MB"
    )
    print(f"errors       {sum(errors.values())}")
    for text, count in errors.most_common(5):
        print(f"  {count} x {text}")
    return int(bool(errors) or not len(times) or server.poll() is not None)


def gallery(models: int, repeat: int) -> int:
    """Print medians of several fresh processes and browsers."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from browser import CHROMIUM, FLAGS, Demo
    from playwright.sync_api import sync_playwright

    rows: dict[str, list[float]] = {"first answer": [], "cards on the screen": [], "memory": []}
    with tempfile.TemporaryDirectory(prefix="stzoo-demo-") as folder, sync_playwright() as playwright:
        info = Path(folder, "site", "many-1.0.dist-info")
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: many\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[stzoo]\nmany = many\n")
        (info.parent / "many.py").write_text(PLUGIN.replace("MODELS", str(models)))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(info.parent), *sys.path])
        for turn in range(repeat):
            start = time.monotonic()
            with Demo(Path(folder, str(turn)), "--task", "task-of-many") as demo:
                rows["first answer"].append(time.monotonic() - start)
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
                page = browser.new_page()
                start = time.monotonic()
                page.goto(demo.url, wait_until="commit")
                page.locator(".stzoo-cards li").first.wait_for(timeout=120_000)
                rows["cards on the screen"].append(time.monotonic() - start)
                said = page.get_by_role("status").first.inner_text()
                rows["memory"].append(demo.memory() / 1e6)
                browser.close()
    print(f"{said}; {repeat} times, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for name, found in rows.items():
        unit = "MB" if name == "memory" else "s"
        print(f"{name:20} median {statistics.median(found):.2f} {unit}, {min(found):.2f} to {max(found):.2f}")
    return 0


def jain(counts: list[int]) -> float:
    """1 if all clients got the same number, 1/n if one got all (Jain, Chiu & Hawe 1984)."""
    squares = len(counts) * sum(count * count for count in counts)
    return sum(counts) ** 2 / squares if squares else 0.0


if __name__ == "__main__":
    sys.exit(main())
