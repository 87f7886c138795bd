"""Turn the RGB-D frames of slambook2 into depth maps to train and to test on.

    git clone https://github.com/gaoxiang12/slambook2
    python plugins/super_resolution/slambook_depth.py slambook2 slambook2-depth
    stzoo finetune deep-depth-sr --data ./slambook2-depth --output runs/depth

SOURCE holds `ch5` (a Kinect, 1000 numbers a metre, a third of the pixels unknown) and `ch12` (rendered, 5000 a metre), five
frames each, in folders `depth` and `color`. OUTPUT gets the layout that `stzoo info --task depth-super-resolution` shows,
with depth in metres as .npy. Of each recording the frame that shows what the others do not is test data.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from stzoo.media.depths import read_depth

RECORDINGS = {"ch5": (1000, 1), "ch12": (5000, 3)}
"""Folder -> numbers a metre, and the frame to test on."""
CARD = """---
license: mit
---

Ten depth maps with pictures from slambook2 (https://github.com/gaoxiang12/slambook2, MIT): `depth/NAME.npy` in metres, NaN
where nothing is known, and `guide/NAME.png`.
"""


def convert(source: Path, output: Path) -> None:
    """Write the maps and pictures of both splits."""
    for name, (per_metre, tested) in RECORDINGS.items():
        for number in range(1, 6):
            folder = output / ("test" if number == tested else "train")
            for column in ("depth", "guide"):
                (folder / column).mkdir(parents=True, exist_ok=True)
            path = next(path for path in (source / name / "depth").iterdir() if path.stem == str(number))
            np.save(folder / "depth" / f"{name}-{number}.npy", read_depth(path, "depth", "m", per_metre))
            shutil.copyfile(source / name / "color" / f"{number}.png", folder / "guide" / f"{name}-{number}.png")
    (output / "README.md").write_text(CARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="a copy of slambook2")
    parser.add_argument("output", type=Path, help="the folder to make")
    options = parser.parse_args()
    convert(options.source.expanduser(), options.output.expanduser())


if __name__ == "__main__":
    main()
