"""A large picture and a long clip through a small convolutional network: as a whole and in parts, in one run.

    python benchmarks/tiling.py [--size WIDTHxHEIGHT] [--frames N ...] [--tiles SIDE ...] [--threads N]
    python benchmarks/tiling.py --model NAME [--size WIDTHxHEIGHT] [--tiles SIDE ...] [--device cuda]

The network is three convolutions (5x5, 3x3, 3x3; 16 channels) that enlarge twice; or ``--model`` is one of a dense task. Each
way runs in its own process. Memory is that process's peak above its size just before predicting, the output included, which is
kept whole for pictures and thrown away frame by frame for clips; with ``--device cuda`` also the peak of the device's allocator.
The difference is the largest between tiled and whole outputs, as a part of the whole's largest magnitude.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NETWORK = """
import torch
from stzoo import Architecture, Requirements, Task
from stzoo.fields import Image, Video
from stzoo.predictor import LoadReport, Predictor

class Net(torch.nn.Sequential):
    requirements = Requirements(channels=3, reach=4, reach_frames=0)

    def __init__(self):
        torch.manual_seed(0)
        convolutions = [torch.nn.Conv2d(a, b, side, padding=side // 2) for a, b, side in ((3, 16, 5), (16, 16, 3), (16, 12, 3))]
        first, second, third = convolutions
        super().__init__(first, torch.nn.ReLU(), second, torch.nn.ReLU(), third, torch.nn.PixelShuffle(2))

    def forward(self, given):
        return super().forward(given.flatten(0, -4)).unflatten(0, given.shape[:-3])

def predictor(field):
    task = Task("enlarging", "", (field("given"),), (field("made"),), dense=True)
    return Predictor(Net().eval(), Architecture("net", "enlarging", "x:Net"), task, {}, LoadReport("net", "none"))
"""


def way(task: dict[str, Any]) -> dict[str, Any]:
    """Run one way here, and say what it took."""
    import numpy as np
    import torch

    import stzoo
    from stzoo.fields import Image, Video

    torch.set_num_threads(task["threads"])
    width, height = task["size"]
    made: dict[str, Any] = {}
    exec(NETWORK, made)
    rng = np.random.default_rng(0)
    row = rng.random((3, 1, width), np.float32)

    if task["frames"]:
        predictor = made["predictor"](Video)

        def frames() -> Iterator[np.ndarray]:
            for index in range(task["frames"]):
                yield np.broadcast_to(np.roll(row, index, -1), (3, height, width))

        before, start = _peak(), time.perf_counter()
        if task["stream"]:
            count = sum(1 for _ in predictor.stream(frames(), tile=0))
        else:
            count = len(predictor.predict(np.stack(list(frames())), tile=0, window=0).made)
        return {"memory": _peak() - before, "seconds": time.perf_counter() - start, "made": count}
    predictor = stzoo.load(task["model"]) if task["model"] else made["predictor"](Image)
    predictor.to(task["device"])
    picture = row * rng.random((3, height, 1), np.float32)
    given = picture[: predictor.requirements.channels or 3]
    predictor.predict(given[..., :96, :96])  # what the first call sets up is not counted
    before, start = _peak(), time.perf_counter()
    prediction = predictor.predict(given, tile=task["tile"])
    found = {"memory": _peak() - before, "seconds": time.perf_counter() - start}
    if task["device"] != "cpu":
        found["device"] = torch.cuda.max_memory_allocated()
    output = prediction[predictor.task.outputs[0].name]
    kept = Path(task["folder"], "whole.npy")
    if task["tile"] == 0:
        np.save(kept, output)
    elif kept.exists():
        whole = np.load(kept, mmap_mode="r")
        largest = max(float(np.abs(plane).max()) for plane in whole)
        found["difference"] = max(float(np.abs(a - b).max()) for a, b in zip(whole, output, strict=True)) / largest
    return found | {"output": output.nbytes}


def _peak() -> int:
    """Bytes that this process had at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4000x3000")
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--clip-size", default="160x120")
    parser.add_argument("--tiles", type=int, nargs="+", default=[0, 2048, 1024, 512, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(way(json.loads(args.way))))
        return 0

    def run(**task: Any) -> dict[str, Any]:
        task = {"threads": args.threads, "frames": 0, "model": args.model, "device": args.device, **task}
        command = [sys.executable, __file__, "--way", json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return {"problem": lines[-1] if lines else f"ended by signal {-done.returncode}"}
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def size(text: str) -> list[int]:
        return [int(part) for part in text.split("x")]

    with tempfile.TemporaryDirectory() as folder:
        print(f"picture of {args.size}, {args.model or 'small network'}, {args.threads} thread(s), {args.device}")
        for tile in args.tiles:
            found = run(size=size(args.size), tile=tile, folder=folder)
            what = f"{'whole' if tile == 0 else f'tiles of {tile}':>14}"
            if "problem" in found:
                print(f"{what}: {found['problem']}")
                continue
            more = f", off by {found['difference']:.1e}" if "difference" in found else ""
            more += f", device {found['device'] / 1e9:.2f} GB" if "device" in found else ""
            print(
                f"{what}: {found['memory'] / 1e9:6.2f} GB, of which the output {found['output'] / 1e9:.2f} GB, "
                f"{found['seconds']:6.1f} s{more}"
            )
    if args.model is None:
        print(f"clips of {args.clip_size}")
        for frames in args.frames:
            for stream in (False, True):
                found = run(size=size(args.clip_size), frames=frames, stream=stream)
                print(
                    f"{frames:>6} frames {'as a stream' if stream else 'as a whole':>11}: "
                    + (found.get("problem") or f"{found['memory'] / 1e9:6.3f} GB, {found['seconds']:6.1f} s")
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
