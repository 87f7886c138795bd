"""PLY files: points, meshes of triangles, and Gaussians in the attributes that 3D Gaussian splatting writes.

The format has no colour ranges and no axes of its own; attributes are found by their usual names.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import InputError, MediaError
from stzoo.media.decoding import File

HEADER = 65536
"""Bytes within which a header must end."""
_KINDS = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


@dataclass
class Element:
    """One table of a file, as the header declares it."""

    name: str
    count: int
    columns: dict[str, str] = field(default_factory=dict)
    """NumPy types by name; ``"list KIND KIND"`` for lists."""

    @property
    def lists(self) -> list[str]:
        return [name for name, kind in self.columns.items() if kind.startswith("list")]

    def row(self, order: str) -> np.dtype:
        """A row in a binary file, if its lists hold three items each."""
        parts: list[Any] = []
        for name, kind in self.columns.items():
            if kind.startswith("list"):
                _, length, item = kind.split()
                parts += [(f"{name} length", order + length), (name, order + item, 3)]
            else:
                parts.append((name, order + kind))
        return np.dtype(parts)


@dataclass
class Header:
    order: str
    """``<`` or ``>``; empty for text."""
    elements: list[Element]
    end: int
    """Where the data start."""


def read_header(file: File, name: str) -> Header:
    """The tables that a PLY file declares; raises MediaError if it is none, or if it cannot hold them."""
    if file.data is None:
        size = file.path.stat().st_size
        with file.path.open("rb") as opened:
            start = opened.read(HEADER)
    else:
        start, size = file.data[:HEADER], len(file.data)
    found = re.match(rb"ply\r?\n.*?^end_header[ \t]*\r?\n", start, re.DOTALL | re.MULTILINE)
    if not found:
        raise MediaError(f"{name}: {file} is no PLY file", "Is the file complete?")
    order, elements = None, []
    for line in found[0].decode("latin-1").splitlines()[1:-1]:
        words = line.split()
        try:
            if words[:1] == ["format"]:
                order = _ORDERS[words[1]]
            elif words[:1] == ["element"]:
                if not re.fullmatch(r"\d{1,12}", words[2]):
                    raise ValueError
                elements.append(Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                elements[-1].columns[words[4]] = f"list {_KINDS[words[2]]} {_KINDS[words[3]]}"
            elif words[:1] == ["property"]:
                elements[-1].columns[words[2]] = _KINDS[words[1]]
        except (IndexError, KeyError, ValueError):
            raise MediaError(f"{name}: {file} has a header with {line[:60]!r}") from None
    if order is None:
        raise MediaError(f"{name}: the header of {file} names no format")
    least = sum(item.count * _least(item, bool(order)) for item in elements)
    if least > size - found.end() + 1:
        counts = ", ".join(f"{item.count:,} {item.name[:20]}" for item in elements)
        raise MediaError(f"{name}: {file} promises {counts} and holds {size:,} bytes", "Is the file complete?")
    return Header(order, elements, found.end())


def _least(element: Element, binary: bool) -> int:
    """Bytes that a row takes at least."""
    if not binary:
        return 2 * len(element.columns)
    return sum(
        np.dtype(kind.split()[1] if kind.startswith("list") else kind).itemsize for kind in element.columns.values()
    )


def read_ply(file: File, name: str) -> dict[str, np.ndarray]:
    """Arrays of a scene, by the names that :class:`stzoo.media.geometry.Geometry` uses. Raises InputError or MediaError."""
    header = read_header(file, name)
    known = {item.name for item in header.elements}
    if "chunk" in known:
        raise InputError(f"{name}: {file} holds compressed Gaussians", "Export it as plain .ply")
    data = (file.path.read_bytes() if file.data is None else file.data)[header.end :]
    tables: dict[str, Mapping[str, np.ndarray]] = {}
    text = io.StringIO(data.decode("latin-1")) if not header.order else None
    start = 0
    for element in header.elements:
        wanted = element.name in ("vertex", "face") and element.count
        if not (wanted and element.columns) and not tables and element.count and element.lists:
            raise InputError(f"{name}: {file} starts with lists of {element.name[:20]}", "Export points and faces only")
        if element.name == "vertex" and element.lists:
            raise InputError(f"{name}: points of {file} hold lists", "Export plain attributes")
        if not element.count or not element.columns:
            continue
        try:
            if text is not None:
                tables[element.name] = _from_text(text, element)
            else:
                tables[element.name] = _from_bytes(data, start, element, header.order)
                start += element.count * element.row(header.order).itemsize
        except ValueError as problem:
            raise MediaError(f"{name}: the {element.name[:20]} table of {file} cannot be read ({problem})") from problem
        if {"vertex", "face"} & known <= tables.keys():
            break  # what else there is, nobody needs
    return _scene(tables, file, name)


def _from_text(text: io.StringIO, element: Element) -> Mapping[str, np.ndarray]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no rows at all: told below
        rows = np.loadtxt(text, np.float64, max_rows=element.count, ndmin=2, comments=None)
    found, column = {}, 0
    if len(rows) != element.count:
        raise ValueError(f"{len(rows)} rows of {element.count}")
    for name, kind in element.columns.items():
        width = 4 if kind.startswith("list") else 1
        part = rows[:, column : column + width]
        if part.shape[1] != width or (width == 4 and (part[:, 0] != 3).any()):
            raise ValueError("faces that are no triangles" if width == 4 else "too few columns")
        found[name] = part[:, 1:] if width == 4 else part[:, 0]
        column += width
    return found


def _from_bytes(data: bytes, start: int, element: Element, order: str) -> Mapping[str, np.ndarray]:
    row = element.row(order)
    if start + element.count * row.itemsize > len(data):
        raise ValueError(
            "faces that are no triangles, or the file is not complete" if element.lists else "it ends before"
        )
    table = np.frombuffer(data, row, element.count, start)
    if any((table[f"{name} length"] != 3).any() for name in element.lists):
        raise ValueError("faces that are no triangles")
    return {name: table[name] for name in element.columns}


def _scene(tables: Mapping[str, Mapping[str, np.ndarray]], file: File, name: str) -> dict[str, np.ndarray]:
    points = tables.get("vertex", {})
    if not {"x", "y", "z"} <= points.keys():
        raise InputError(f"{name}: {file} holds no points", "A PLY file needs vertices with x, y and z")

    def columns(*names: str) -> np.ndarray:
        return np.stack([points[item].astype(np.float32) for item in names], axis=1)

    scene = {"positions": columns("x", "y", "z")}
    for names in (("red", "green", "blue"), ("r", "g", "b")):
        if set(names) <= points.keys():
            kind = points[names[0]].dtype.kind
            colours = columns(*names)
            eight = kind in "ui" or colours.max(initial=0) > 1  # a text file does not tell
            scene["colours"] = colours / np.float32(255) if eight else colours
            break
    if {"scale_0", "rot_0", "opacity", "f_dc_0"} <= points.keys():
        scene.pop("colours", None)
        rest = sorted((item for item in points if re.fullmatch(r"f_rest_\d+", item)), key=lambda item: int(item[7:]))
        try:
            scene["scales"] = columns("scale_0", "scale_1", "scale_2")
            scene["rotations"] = columns("rot_0", "rot_1", "rot_2", "rot_3")
            scene["opacities"] = points["opacity"].astype(np.float32)
            sh = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
        except KeyError as problem:
            raise InputError(f"{name}: Gaussians of {file} have no {problem}") from None
        if len(rest) % 3:
            raise InputError(f"{name}: {len(rest)} values f_rest in {file}", "There are 0, 9, 24 or 45")
        if rest:  # all of red, then green, then blue
            sh = np.concatenate([sh, columns(*rest).reshape(len(sh), 3, -1).transpose(0, 2, 1)], axis=1)
        scene["sh"] = np.ascontiguousarray(sh)
    faces = next(
        (item for key, item in tables.get("face", {}).items() if key in ("vertex_indices", "vertex_index")), None
    )
    if faces is not None:
        scene["faces"] = faces.astype(np.int64)
    return scene


def write_ply(scene: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a scene as binary PLY: Gaussians as 3D Gaussian splatting does (with normals, all zero), else points and faces."""
    columns: dict[str, np.ndarray] = dict(zip("xyz", scene["positions"].T, strict=True))
    kinds = dict.fromkeys("xyz", "float")
    if "sh" in scene:
        sh = scene["sh"]
        columns |= dict.fromkeys(("nx", "ny", "nz"), np.zeros(len(sh), np.float32))
        columns |= {f"f_dc_{index}": sh[:, 0, index] for index in range(3)}
        rest = sh[:, 1:].transpose(0, 2, 1).reshape(len(sh), -1)
        columns |= {f"f_rest_{index}": item for index, item in enumerate(rest.T)}
        columns["opacity"] = scene["opacities"]
        columns |= {f"scale_{index}": item for index, item in enumerate(scene["scales"].T)}
        columns |= {f"rot_{index}": item for index, item in enumerate(scene["rotations"].T)}
        kinds = dict.fromkeys(columns, "float")
    elif "colours" in scene:
        pixels = np.rint(scene["colours"] * 255).astype(np.uint8)
        columns |= dict(zip(("red", "green", "blue"), pixels.T, strict=True))
        kinds |= dict.fromkeys(("red", "green", "blue"), "uchar")
    table = np.empty(len(scene["positions"]), [(name, "<" + _KINDS[kinds[name]]) for name in columns])
    for name, column in columns.items():
        table[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(table)}"]
    lines += [f"property {kinds[name]} {name}" for name in columns]
    faces = scene.get("faces")
    triangles = np.empty(0 if faces is None else len(faces), [("length", "u1"), ("points", "<i4", 3)])
    if faces is not None:
        lines += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
        triangles["length"], triangles["points"] = 3, faces
    head = "\n".join([*lines, "end_header", ""]).encode()
    path.write_bytes(head + table.tobytes() + triangles.tobytes())
