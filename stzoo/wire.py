"""The wire format of protocol buffers, read without their library: https://protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def message(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: whole numbers, or the bytes of texts, numbers and messages.

    Raises ValueError, IndexError or KeyError where ``data`` is none, or is cut off.
    """
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = varint(data, place)
            yield tag >> 3, value
            continue
        length, place = varint(data, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        if place + length > len(data):
            raise ValueError("an entry is cut off")
        yield tag >> 3, data[place : place + length]
        place += length


def varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in groups of 7 bits, lowest first, and the place behind it. Raises ValueError or IndexError."""
    value = shift = 0
    while True:
        byte = data[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError("a number has too many digits")
