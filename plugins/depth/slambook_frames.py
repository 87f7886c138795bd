"""Turn the RGB-D frames of slambook2 into pictures and depth maps to train and to test on.

    git clone https://github.com/gaoxiang12/slambook2
    python plugins/depth/slambook_frames.py slambook2 slambook2-frames
    stzoo finetune eigen --data ./slambook2-frames --output runs/depth

SOURCE holds `ch5` (a Kinect, 1000 numbers a metre, a third of the pixels unknown) and `ch12` (rendered, 5000 a metre), five
frames each, in folders `depth` and `color`. OUTPUT gets the layout that `stzoo info --task depth` shows, at half the size,
with depth in metres as .npy. The last frame of each recording is test data.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from stzoo.media.depths import read_depth

RECORDINGS = {"ch5": 1000, "ch12": 5000}
"""Folder -> numbers a metre."""
TESTED = 5
"""The frame of each that is test data."""
SIZE = (240, 320)
CARD = """---
license: mit
---

Ten frames of slambook2 (https://github.com/gaoxiang12/slambook2, MIT): `image/NAME.png`, and `depth/NAME.npy` in metres, NaN
where nothing is known.
"""


def convert(source: Path, output: Path) -> None:
    """Write the pictures and maps of both splits."""
    for name, per_metre in RECORDINGS.items():
        for number in range(1, 6):
            folder = output / ("test" if number == TESTED else "train")
            for column in ("depth", "image"):
                (folder / column).mkdir(parents=True, exist_ok=True)
            path = next(path for path in (source / name / "depth").iterdir() if path.stem == str(number))
            depth = read_depth(path, "depth", "m", per_metre, size=SIZE)
            np.save(folder / "depth" / f"{name}-{number}.npy", depth)
            with Image.open(source / name / "color" / f"{number}.png") as picture:
                picture.resize(SIZE[::-1], Image.Resampling.BILINEAR).save(folder / "image" / f"{name}-{number}.png")
    (output / "README.md").write_text(CARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="a copy of slambook2")
    parser.add_argument("output", type=Path, help="the folder to make")
    options = parser.parse_args()
    convert(options.source, options.output)


if __name__ == "__main__":
    main()
