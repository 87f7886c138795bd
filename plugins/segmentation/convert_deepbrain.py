"""Take the network that finds brains from the package deepbrain (MIT) into this plugin.

    pip download --no-deps deepbrain==0.1
    python plugins/segmentation/convert_deepbrain.py deepbrain-0.1-py3-none-any.whl
    stzoo evaluate unet3d-brain --data "volumes?root=colin27" --output results/colin27
    stzoo record results/colin27 --into plugins/segmentation/src/stzoo_segmentation/weights

Nothing of the package is installed or run: its frozen graph is read as `stzoo import` reads it
(stzoo_segmentation.frozen_graph). `colin27` has the head in `images/` and the skull-stripped head in `labels/` under the same
name, `ch2.nii.gz` and `ch2bet.nii.gz` of Debian's package mricron-data 1.2.20211006, the latter as a mask:
`python plugins/segmentation/convert_deepbrain.py --colin27 usr/share/mricron/templates colin27` makes it. With `--every 3`
behind it the voxels are means of 3x3x3: the example that the plugin ships.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from pathlib import Path
from zipfile import ZipFile

import numpy as np

import stzoo
from stzoo.bundles import bundle
from stzoo.media.volumes import Grid, read_volume, write_volume

TARGET = Path(__file__).parent / "src/stzoo_segmentation/weights/unet3d-brain"
GRAPH = "deepbrain/models/graph.pb"
SHA256 = "6be50752ff151808dc7f8059fef39852759de8502d831949b40e991502225a2a"
"""Of the graph in deepbrain 0.1."""


def convert(source: Path) -> None:
    """The graph in a wheel, or by itself, to weights and a record. Raises SystemExit if it is another one."""
    if source.suffix == ".whl":
        with ZipFile(source) as archive:
            content = archive.read(GRAPH)
    else:
        content = source.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise SystemExit(f"{source}: the graph has the sha256 {found}, that of deepbrain 0.1 is {SHA256}")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.pb"
        graph.write_bytes(content)
        saved = stzoo.import_checkpoint(graph, device="cpu").save(Path(folder) / "saved")
        command = "python plugins/segmentation/convert_deepbrain.py deepbrain-0.1-py3-none-any.whl"
        print(bundle(saved, TARGET, dtype="float32", command=command))


def colin27(templates: Path, target: Path, every: int) -> None:
    """The head of Colin27, and which of its voxels are brain, as a folder of the data set ``volumes``; voxels are means of
    ``every`` along each axis."""
    for name in ("images", "labels"):
        (target / name).mkdir(parents=True, exist_ok=True)
    head, brain = (read_volume(templates / f"{name}.nii.gz", name)[0] for name in ("ch2", "ch2bet"))
    affine = head.affine @ np.diag([every, every, every, 1.0])
    affine[:3, 3] += head.affine[:3, :3] @ np.full(3, (every - 1) / 2)
    for values, place in ((head, "images"), (brain > 0, "labels")):
        cut = np.asarray(values, np.float32)[tuple(slice(size // every * every) for size in values.shape)]
        blocks = cut.reshape([part for size in cut.shape for part in (size // every, every)])
        mean = np.rint(blocks.mean((1, 3, 5))).astype(np.uint8)
        write_volume(Grid(mean, affine, head.axes), target / place / "colin27.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="the wheel, or the graph; with --colin27 the folder of templates")
    parser.add_argument("target", type=Path, nargs="?", help="with --colin27: the folder to make")
    parser.add_argument("--colin27", action="store_true", help="make the data that it is measured on")
    parser.add_argument("--every", type=int, default=1, help="with --colin27: voxels that are one along each axis")
    options = parser.parse_args()
    if options.colin27:
        if options.target is None:
            parser.error("--colin27 needs a folder to make")
        colin27(options.source, options.target, options.every)
    else:
        convert(options.source)


if __name__ == "__main__":
    main()
