"""Make the folder that mae-tiny learns from, out of the 24 photographs of the Kodak suite (768x512, free to use).

    python plugins/representation/kodak_squares.py kodak24 kodak-squares

The photographs 01 to 18 are halved: random crops of them are trained on. 19 and 20 are cut into squares of 256 pixels to choose
the best weights by, 21 to 24 likewise to test on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

SPLITS = {"train": range(1, 19), "validation": range(19, 21), "test": range(21, 25)}
SIDE = 256


def convert(source: Path, output: Path) -> None:
    """Write ``SPLIT/NAME.png``."""
    for split, numbers in SPLITS.items():
        (output / split).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            with Image.open(source / f"{number:02d}.png") as picture:
                if split == "train":
                    picture.reduce(2).save(output / split / f"{number:02d}.png")
                    continue
                for top in range(0, picture.height - SIDE + 1, SIDE):
                    for left in range(0, picture.width - SIDE + 1, SIDE):
                        square = picture.crop((left, top, left + SIDE, top + SIDE))
                        square.save(output / split / f"{number:02d}-{top}-{left}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="a folder with 01.png to 24.png")
    parser.add_argument("output", type=Path, help="the folder to make")
    options = parser.parse_args()
    convert(options.source, options.output)


if __name__ == "__main__":
    main()
