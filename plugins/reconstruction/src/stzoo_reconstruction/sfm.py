"""Structure from motion: cameras of photographs without any, by COLMAP (pycolmap), on the CPU.

``python -m stzoo_reconstruction.sfm PHOTOS OUTPUT`` writes a folder that is a capture: the photographs in ``images/`` (links where
the file system has them) and COLMAP's model in ``sparse/0``. World axes and units are whatever COLMAP found; see
:mod:`stzoo_reconstruction.colmap` for its conventions.

pycolmap runs in a process of its own: imported before Numba compiles for the first time, it aborts the process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from stzoo.errors import DependencyMissing, InputError, StzooError
from stzoo_reconstruction.frames import pictures_in

FEWEST = 3
"""Photographs below which nothing is tried."""

_WORK = """
import json, sys
from pathlib import Path
import pycolmap
photos, work, mode, camera = sys.argv[1:]
work = Path(work)
pycolmap.logging.minloglevel = 2
database = work / "database.db"
reading = pycolmap.ImageReaderOptions()
reading.camera_model = camera
pycolmap.set_random_seed(0)
pycolmap.extract_features(database, photos, camera_mode=getattr(pycolmap.CameraMode, mode), reader_options=reading)
pycolmap.match_exhaustive(database)
(work / "sparse").mkdir()
models = pycolmap.incremental_mapping(database, photos, work / "sparse")
found = {}
for number, model in models.items():
    place = work / "sparse" / str(number)
    place.mkdir(exist_ok=True)
    model.write(place)
    found[number] = [model.num_reg_images(), model.num_points3D(), model.compute_mean_reprojection_error()]
(work / "models.json").write_text(json.dumps(found))
"""


def run(photos: Path | str, output: Path | str, *, one_camera: bool = True, lens: str = "SIMPLE_RADIAL") -> str:
    """Find the cameras of the photographs in a folder, and write a capture with the largest of COLMAP's models.

    Args:
        photos: a folder of photographs (jpg, png …) of one scene that does not move.
        output: a folder to make; it must not be there yet, or be empty.
        one_camera: whether all were taken by one camera with one focal length.
        lens: COLMAP's model of the lens: SIMPLE_PINHOLE, SIMPLE_RADIAL, OPENCV …

    Returns:
        A sentence: how many photographs are registered, with how many points.

    Raises:
        DependencyMissing: pycolmap is not installed.
        InputError: fewer than 3 photographs, or COLMAP finds no two that belong together.
    """
    photos, output = Path(photos).expanduser(), Path(output).expanduser()
    if not photos.is_dir():
        raise InputError(f"there is no folder {photos}", "Give a folder of photographs")
    files = pictures_in(photos)
    if len(files) < FEWEST:
        raise InputError(f"{photos} has {len(files)} photographs", f"Give at least {FEWEST}; 20 to 100 are good")
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} is not empty", "Give a folder that is not there yet")
    if importlib.util.find_spec("pycolmap") is None:
        raise DependencyMissing(
            "structure from motion needs pycolmap",
            "Run: pip install 'stzoo-reconstruction[sfm]' (or pip install pycolmap)",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".sfm-") as temporary:
        work = Path(temporary)
        images = work / "images"
        images.mkdir()
        for file in files:
            _linked(file, images / file.name)
        done = subprocess.run(
            [sys.executable, "-c", _WORK, str(images), str(work), "SINGLE" if one_camera else "AUTO", lens],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise InputError(f"COLMAP failed on {photos} ({lines[-1][:200]})", "Are the photographs complete?")
        models = json.loads((work / "models.json").read_text())
        if not models:
            raise InputError(
                f"COLMAP finds no cameras for the {len(files)} photographs in {photos}: too little in them is seen again",
                "Take more photographs from places nearer to each other, larger and sharper, of something with texture",
            )
        best = max(models, key=lambda number: models[number][0])
        made = work / "capture"
        (made / "sparse").mkdir(parents=True)
        images.rename(made / "images")
        (work / "sparse" / best).rename(made / "sparse" / "0")
        if output.exists():
            output.rmdir()
        made.rename(output)
    count, points, error = models[best]
    largest = f", in the largest of {len(models)} models" if len(models) > 1 else ""
    return f"{count} of {len(files)} photographs are registered{largest}; {points:,} points, off by {error:.2f} pixels"


def _linked(source: Path, target: Path) -> None:
    """A second name for a file, which needs no room; a copy where the file system cannot."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0, or 2 after an error that is printed in one line."""
    parser = argparse.ArgumentParser(
        prog="python -m stzoo_reconstruction.sfm", description=(run.__doc__ or "").splitlines()[0]
    )
    parser.add_argument("photos", type=Path, help="a folder of photographs")
    parser.add_argument("output", type=Path, help="the capture to write")
    parser.add_argument("--several-cameras", action="store_true", help="the photographs are not of one camera")
    parser.add_argument("--lens", default="SIMPLE_RADIAL", help="COLMAP's camera model")
    options = parser.parse_args(arguments)
    try:
        print(run(options.photos, options.output, one_camera=not options.several_cameras, lens=options.lens))
    except StzooError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
