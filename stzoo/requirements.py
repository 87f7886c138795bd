"""What networks ask of their inputs, and what checks it: records whose attributes have the types that are written there.

Standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from stzoo.errors import SpecError


@cache
def _declared(record: Any) -> tuple[tuple[str, str, tuple[type, ...], bool], ...]:
    """Attribute, annotation, accepted types, and whether it is a tuple of them, for the attributes that can be checked."""
    known: dict[str, tuple[type, ...]] = {kind.__name__: (kind,) for kind in (str, int, bool)}
    known |= {"float": (int, float), "Mapping[str, Any]": (Mapping,)}
    found = []
    for item in fields(record):
        annotation, module = str(item.type), sys.modules[record.__module__]
        single, several = annotation.removesuffix(" | None"), annotation.startswith("tuple[")
        kind = single.removeprefix("tuple[").removesuffix(", ...]")
        own = getattr(module, kind, None)
        if (accepted := known.get(kind, (own,) if isinstance(own, type) and own is not Any else None)) is not None:
            found.append((item.name, annotation, accepted + ((type(None),) if single != annotation else ()), several))
    return tuple(found)


class Record:
    """Checks the types of its attributes, so that whoever reads a record may rely on them."""

    def _fail(self, attribute: str, wanted: str) -> None:
        value, name = getattr(self, attribute), getattr(self, "name", None) or getattr(self, "repo", "")
        raise SpecError(f"{type(self).__name__} {name!r}: {attribute}={value!r:.80} is not {wanted}")

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, annotation, accepted, several in _declared(kind):
            value = getattr(self, name)
            if value is None and type(None) in accepted:
                continue
            if several and isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, name, value)
            if several and not isinstance(value, tuple):
                self._fail(name, annotation)
            for item in value if several else (value,):
                if not isinstance(item, accepted) or (type(item) is bool and bool not in accepted):
                    self._fail(name, annotation)
            if type(value) is dict:
                object.__setattr__(self, name, MappingProxyType(dict(value)))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


@dataclass(frozen=True)
class Requirements(Record):
    """What a network asks of its input and promises of its output. ``None`` means any."""

    frames_in: int | None = None
    """Frames the network takes; a longer clip is cut to its last ``frames_in``."""
    frames_out: int | None = None
    """Frames one forward pass returns; more come from rolling out."""
    channels: int | None = None
    minimum: int = 1
    """Smallest height and width (of a volume: side), in pixels."""
    multiple: int = 1
    """Height and width (every side of a volume) are padded up to a multiple of this and the output is cropped back."""
    native_size: tuple[int, int] | tuple[int, int, int] | None = None
    """Height and width, or the three sides of a volume, it was made for, in pixels."""
    classes: tuple[str, ...] = ()
    """Names of the classes in its masks, by number from 0; empty where masks hold numbers of objects, or there are none."""
    padding: Literal["edge", "reflect"] = "edge"
    """What is beyond the border where it is padded: the last pixel again and again, or the picture mirrored at it."""
    scale: int = 1
    """How many times higher and wider the output is than the input."""
    reach: int | None = None
    """How far away, in pixels of the input, anything can be that an output pixel depends on: the radius of the receptive
    field, or from where on nothing changes by more than ``seam``. Large pictures are cut into tiles that overlap accordingly.
    None: the network needs whole pictures."""
    seam: float = 1e-5
    """How far outputs computed in tiles may be from those of the whole picture, as a part of their largest magnitude."""
    tile: int = 1024
    """Pictures of up to this, squared (volumes: cubed), pixels are computed as a whole, larger ones in tiles of at most this
    height and width."""
    reach_frames: int | None = None
    """Frames before, and frames after, that a frame of its output depends on. None: the network needs whole clips."""
    window: int = 16
    """Frames of a longer clip that are computed at once, if ``reach_frames`` is not None."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.native_size, list):  # as JSON has it
            object.__setattr__(self, "native_size", tuple(self.native_size))

    @property
    def native(self) -> str:
        """``native_size`` for people: width x height, the sides of a volume as they are; empty where there is none."""
        size = self.native_size or ()
        if len(size) > 2:
            return "x".join(map(str, size)) + " voxels"
        return "x".join(map(str, size[::-1])) + " pixels" * bool(size)

    def describe(self) -> str:
        """The requirements as one line for people; empty where nothing is asked for, as of a series or a number."""
        if self == Requirements():
            return ""
        parts = [
            _count(self.frames_in, "frame") if self.frames_in else "",
            _count(self.channels, "channel") if self.channels else "",
            f"knows {len(self.classes)} classes" if self.classes else "",
        ]
        if self.native_size:
            parts.append(f"made for {self.native}")
        parts.append(
            f"any size from {_count(self.minimum, 'voxel' if len(self.native_size or ()) > 2 else 'pixel')}"
            + (f", padded to multiples of {self.multiple}" if self.multiple > 1 else "")
        )
        parts.append(f"which becomes {self.scale} times larger" if self.scale > 1 else "")
        return ", ".join(part for part in parts if part)
