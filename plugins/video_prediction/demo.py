"""Ten future frames of real handwritten digits, predicted with no network: pictures, and the error measured.

python plugins/video_prediction/demo.py [--model tau-mmnist] [--output demo]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import stzoo
from stzoo import media
from stzoo_video_prediction.metrics import mse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tau-mmnist")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--sequence", type=int, default=0, help="which test sequence")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    started = time.perf_counter()
    predictor = stzoo.load(args.model, offline=True)
    loaded = time.perf_counter() - started
    clip = media.read_video(stzoo.dataset("moving-mnist", "test")[args.sequence]["video"], "clip")
    past, future = clip[:10], clip[10:]
    prediction = predictor.predict(past)

    name = args.output / args.model
    strip, gif, mp4 = (name.with_suffix(ending) for ending in (".png", ".gif", ".mp4"))
    prediction.figure(truth={"video": future}).save(strip)
    beside = np.concatenate([future, prediction.video, abs(future - prediction.video)], axis=-1)
    for path in (gif, mp4):
        media.write_video(beside, path, fps=5, scale=4)

    print(f"input, truth, prediction, error:  {strip}")
    print(f"truth | prediction | error:       {gif}")
    print(f"                                  {mp4}")
    error, baseline = mse(prediction.video, future), mse(np.repeat(past[-1:], 10, axis=0), future)
    print(f"squared error per frame:          {error:.1f}, copying the last frame {baseline:.1f}")
    print(f"time:                             {loaded:.2f} s to load, {prediction.seconds:.2f} s to predict")
    print(f"weights:                          {predictor.report.source}, sha256 {predictor.report.sha256[:12]}")


if __name__ == "__main__":
    main()
