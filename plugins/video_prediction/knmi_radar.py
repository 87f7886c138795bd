"""Turn a series of radar rain fields into a data set for video prediction.

    python plugins/video_prediction/knmi_radar.py knmi_radar_72x128x128.npz data/radar
    stzoo finetune tau-mmnist --data "data/radar?frames=20&stride=1" --output runs/radar

SOURCE is a NumPy file with one array (frames, height, width): rain in mm per 5 minutes, five minutes apart, as in the
radar composites of KNMI (CC BY 4.0). OUTPUT gets the layout that `stzoo info --task video-prediction` shows:

    OUTPUT/README.md               licence, transform, layout
    OUTPUT/train/000-031.npz       "video" (frames, 1, height, width) uint8
    OUTPUT/validation/032-051.npz
    OUTPUT/test/052-071.npz

Each split is one piece of time, in this order, and no frame is in two: neighbouring radar frames are nearly alike, so
frames that were drawn at random would be learned by heart. `--tiles 64` cuts each piece into square tiles, one a file.

Pixels are the logarithm of the rain rate, see `stzoo_video_prediction.radar`.
"""

from __future__ import annotations

import argparse
import filecmp
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stzoo.errors import DatasetError, StzooError
from stzoo_video_prediction.radar import DRY, WET, scaled

SHORTEST = 20
"""Frames that every split needs: 10 to see and 10 to predict."""

CARD = """---
license: cc-by-4.0
task_categories:
- image-to-video
---
# Radar rain fields, {frames} frames

Rain seen by weather radar, one frame every 5 minutes. Data: KNMI (Royal Netherlands Meteorological Institute), CC BY 4.0.
Changed: rain rates were transformed and stored with 8 bits, and the frames divided into splits{tiled}.

Each split is one piece of time; no frame is in two: {splits}.

Pixel p stands for the rain rate 10^(3 p / 255 - 1) mm/h, so 0 is {dry:g} mm/h or less and 255 is {wet:g} mm/h or more.

Read it as `FOLDER?frames=20&stride=1`: examples of 20 frames, starting at every frame.
"""


def read(source: Path) -> np.ndarray:
    """The rain fields (frames, height, width) in a NumPy file. Raises DatasetError."""
    try:
        loaded = np.load(source, allow_pickle=False)
        rain: np.ndarray = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    except Exception as problem:  # NumPy raises many kinds for files that are none of its own
        raise DatasetError(f"{source} cannot be read as a NumPy file ({problem})") from problem
    if rain.ndim != 3:
        raise DatasetError(f"{source} holds an array of shape {rain.shape}", "Needed: (frames, height, width)")
    if not np.isfinite(rain).all() or rain.min() < 0:
        raise DatasetError(f"{source} has values that are negative or not finite", "Fill missing rain with 0 first")
    return rain


def pieces(frames: int, train: int | None) -> dict[str, range]:
    """The frames of each split; what is not for training is shared equally. Raises DatasetError if one is too short."""
    train = frames - 2 * SHORTEST if train is None else train
    middle = train + (frames - train) // 2
    splits = {"train": range(train), "validation": range(train, middle), "test": range(middle, frames)}
    for split, piece in splits.items():
        if len(piece) < SHORTEST:
            raise DatasetError(
                f"{split} would have {len(piece)} of {frames} frames, each split needs {SHORTEST}",
                f"Give at least {3 * SHORTEST} frames, and at most {frames - 2 * SHORTEST} to --train-frames",
            )
    return splits


def write(rain: np.ndarray, folder: Path, train: int | None, tiles: int | None) -> None:
    """Write the data set into an empty folder."""
    _, height, width = rain.shape
    side = tiles or 0
    if side > min(height, width):
        raise DatasetError(f"tiles of {side} pixels do not fit into {width}x{height}")
    corners = (
        [(y, x) for y in range(0, height - side + 1, side) for x in range(0, width - side + 1, side)] if side else []
    )
    video, splits = scaled(rain)[:, None], pieces(len(rain), train)
    for split, piece in splits.items():
        (folder / split).mkdir()
        clip, stem = video[piece.start : piece.stop], f"{piece.start:03}-{piece.stop - 1:03}"
        parts = {f"{stem}-y{y:03}-x{x:03}": clip[..., y : y + side, x : x + side] for y, x in corners} or {stem: clip}
        for part, pixels in parts.items():
            np.savez_compressed(folder / split / f"{part}.npz", video=pixels)
    listed = ", ".join(f"{split} {piece.start}-{piece.stop - 1}" for split, piece in splits.items())
    tiled = f" and into tiles of {side}x{side} pixels" if side else ""
    card = CARD.format(frames=len(rain), splits=listed, tiled=tiled, dry=DRY, wet=WET)
    (folder / "README.md").write_text(card)


def convert(source: Path, output: Path, train: int | None = None, tiles: int | None = None) -> None:
    """Write `output` as a whole or not at all; one that is there already must be the same. Raises DatasetError."""
    rain = read(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as temporary:
        made = Path(temporary) / output.name
        made.mkdir()
        write(rain, made, train, tiles)
        if not output.exists() or not any(output.iterdir()):
            made.replace(output)
            return
        files = {path.relative_to(made) for path in made.rglob("*") if path.is_file()}
        there = {path.relative_to(output) for path in output.rglob("*") if path.is_file()}
        for path in sorted(files | there):
            if path not in files & there or not filecmp.cmp(made / path, output / path, shallow=False):
                what = "is missing from" if path not in there else "is not of this data set in"
                raise DatasetError(f"{path} {what} {output}, which is not empty", "Give another folder")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--train-frames", type=int, help=f"frames for training; default: all but {2 * SHORTEST}")
    parser.add_argument("--tiles", type=int, help="cut each piece into square tiles of this many pixels")
    args = parser.parse_args(arguments)
    if args.tiles is not None and args.tiles < 1:
        parser.error("--tiles must be positive")
    try:
        convert(args.source, args.output, args.train_frames, args.tiles)
    except StzooError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
