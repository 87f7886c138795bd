"""Gaussians in the files of viewers: .splat, .spz, .ksplat, .sog, and compressed .ply, through the library GaussForge.

Positions, scales and rotations are in the axes of the scene, as in a plain .ply, whatever a format stores. Except in a plain .ply,
numbers are rounded: .splat keeps 8 bits of colours, opacities and rotations, and no colour that changes with direction.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from stzoo.errors import DependencyMissing, InputError, MediaError
from stzoo.files import atomic_path
from stzoo.media.decoding import File
from stzoo.media.geometry import BAND, Geometry, as_geometry, colours_of, read_geometry
from stzoo.media.ply import HEADER, read_header, write_ply

SPLATS = (".splat", ".spz", ".ksplat", ".sog")
COMPRESSED = ".compressed.ply"
"""A .ply whose name ends with this is written with quantised Gaussians in chunks, as PlayCanvas does; it is read whatever its name."""
SOLID = 4.6
"""Logit of an opacity of 0.99: that of Gaussians made of plain points."""


def kind_of(path: Path) -> str:
    """What the library calls the format that a file's name stands for; empty for any other."""
    if path.name.lower().endswith(COMPRESSED):
        return COMPRESSED[1:]
    return path.suffix.lower()[1:] if path.suffix.lower() in SPLATS else ""


def read_splats(file: File, name: str) -> Geometry | None:
    """The Gaussians in a file of such a format; None if it is of another. Raises MediaError, InputError, DependencyMissing."""
    kind = kind_of(file.path)
    if (
        not kind
        and _starts(file).startswith(b"ply")
        and any(item.name == "chunk" for item in read_header(file, name).elements)
    ):
        kind = COMPRESSED[1:]
    if not kind:
        return None
    data = file.path.read_bytes() if file.data is None else file.data
    return read_geometry(_converted(data, kind, "ply", f"{name}: {file}"), name)


def write_splats(scene: Geometry, path: Path) -> None:
    """Write a scene in the format of the path's ending; points, and those of a mesh, as small round Gaussians.

    Raises MediaError, DependencyMissing."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.ply"
        write_ply(as_gaussians(scene), plain)
        made = _converted(plain.read_bytes(), "ply", kind_of(path), path.name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(made)


def as_gaussians(scene: Geometry) -> Geometry:
    """The scene, if it is of Gaussians, else round and solid ones at its points, as large as their neighbours are far."""
    if scene.gaussian:
        return scene
    from stzoo_reconstruction.initialisation import log_scales

    count = len(scene["positions"])
    made = {
        "positions": scene["positions"],
        "scales": np.repeat(log_scales(scene["positions"])[:, None] - np.log(2), 3, axis=1),
        "rotations": np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        "opacities": np.full(count, SOLID),
        "sh": ((colours_of(scene) - 0.5) / BAND)[:, None],
    }
    return as_geometry(made)


def _starts(file: File) -> bytes:
    if file.data is not None:
        return file.data[:HEADER]
    with file.path.open("rb") as opened:
        return opened.read(HEADER)


def _converted(data: bytes, before: str, after: str, what: str) -> bytes:
    try:
        from gaussforge import GaussForge
    except ImportError as problem:
        raise DependencyMissing(f"{what} needs GaussForge", "Run: pip install gaussforge") from problem
    try:
        found = GaussForge().convert(data, before, after)
    except Exception as problem:  # the library is C++
        found = {"error": str(problem)}
    if not found.get("data"):
        reason = str(found.get("error") or "it is damaged, or of a version that GaussForge does not know")
        if after == "ply":
            raise MediaError(f"{what} cannot be read as .{before} ({reason[:200]})", "Is the file complete?")
        raise InputError(f"{what} cannot be written ({reason[:200]})", "Write a .ply")
    made: bytes = found["data"]
    return made
