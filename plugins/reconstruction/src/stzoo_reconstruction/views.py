"""Posed photographs as both recipes learn from them: decoded once, as far as memory allows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stzoo.errors import DatasetError
from stzoo_reconstruction.cameras import Cameras

log = logging.getLogger("stzoo")

FEW = 3
"""Photographs, below which a scene is not seen from enough places."""


class Views(NamedTuple):
    """What there is to learn from."""

    items: Sequence[Mapping[str, Any]]
    """:func:`prepared` views or, where these do not fit, the examples as they came."""
    whole: bool
    """Whether they are prepared."""
    cameras: Cameras
    capture: Any
    """What the first example that has one calls its capture; None where none does."""


def decoded(examples: Sequence[Mapping[str, Any]], memory: float) -> Views:
    """All views of a data set, decoded if they take at most ``memory`` megabytes. Raises what :func:`prepared` raises."""
    items: list[Mapping[str, Any]] = []
    cameras, capture, size = [], None, 0
    for index in range(len(examples)):
        view = examples[index]
        capture = capture or view.get("capture")
        items.append(prepared(view, index))
        cameras.append(Cameras.from_array(np.asarray(view["cameras"])))
        size += items[-1]["image"].nbytes
        if size > memory * 1e6:
            items.clear()
    if len(cameras) < FEW:
        which = "one photograph shows" if len(cameras) == 1 else f"{len(cameras)} photographs show"
        log.warning("%s too little of a scene to see it from anywhere else", which)
    whole = size <= memory * 1e6
    return Views(items if whole else examples, whole, Cameras.joined(cameras), capture)


def prepared(view: Mapping[str, Any], index: int | None = None) -> dict[str, np.ndarray]:
    """``{"camera": (24,) float32, "image": (3,H,W) uint8}`` of an example, the ``index``-th; as it is if it is prepared.

    Raises:
        DatasetError: the picture is not as large as its camera says.
    """
    if "camera" in view:
        return dict(view)
    camera, image = np.asarray(view["cameras"], dtype=np.float32).reshape(-1), np.asarray(view["image"])
    height, width = (int(item) for item in camera[20:22])
    if image.shape[-2:] != (height, width):
        which = "a view" if index is None else f"view {index}"
        raise DatasetError(
            f"{which} has {image.shape[-2]}x{image.shape[-1]} pixels and a camera for {height}x{width}",
            "Give intrinsics and sizes of the pictures that are there",
        )
    return {"camera": camera, "image": np.rint(image * 255).astype(np.uint8)}
