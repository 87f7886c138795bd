"""Volumes through a network: preparation, blocks, the class that is most likely; and data sets of volumes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stzoo import Pipeline
from stzoo.errors import DatasetError, InputError
from stzoo.fields import Volume
from stzoo.files import ending, files_in
from stzoo.layout import existing
from stzoo.media.volumes import Grid, check_same_place
from stzoo_segmentation.data import split_folder

if TYPE_CHECKING:
    from torch import Tensor, nn


class VolumeSegmentation(Pipeline):
    """Logits (B, K, X, Y, Z) to the class of each place, where and how the volume is.

    A network says with ``normalise`` and ``side`` what it wants done first (:class:`stzoo_segmentation.unet3d.UNet3d`). One
    with ``side`` sees the whole volume as a cube; what it says is enlarged again before classes are told apart.
    """

    def example(self, row: Mapping[str, Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Volume and mask. Raises InputError where they are not of the same place."""
        check_same_place(row["volume"], row["mask"], "the volume and its mask")
        return super().example(row, options)

    def preprocess(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The numbers as they are: what is padded are the blocks."""
        return {name: np.asarray(value) for name, value in values.items()}

    def forward(self, module: nn.Module, batch: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        import torch

        volume, threshold = batch["volume"], options["threshold"]
        side, how = getattr(module, "side", 0), getattr(module, "normalise", "none")
        if not side:
            ready = torch.stack([normalised(item, how) for item in volume])

            def function(part: Tensor) -> Tensor:
                return decided(module(part), threshold)

            return {"mask": self.run(module, ready, options=options, function=function)}
        size = (side,) * 3
        ready = torch.stack([normalised(resized(item, size), how) for item in volume])
        logits = self.run(module, ready, options=options)
        scores = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
        return {"mask": torch.stack([enlarged(item, volume.shape[2:], threshold) for item in scores])}

    def postprocess(self, outputs: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
        given = values["volume"]
        return {
            name: Grid(output.astype(np.uint8), getattr(given, "affine", None), getattr(given, "axes", "RAS"))
            for name, output in outputs.items()
        }


def decided(logits: Tensor, threshold: float) -> Tensor:
    """The class of each place (B, X, Y, Z), uint8, from logits (B, K, X, Y, Z); of K = 1, whether its sigmoid is above that."""
    import torch

    found = logits[:, 0].sigmoid() > threshold if logits.shape[1] == 1 else logits.argmax(1)
    return found.to(torch.uint8)


def enlarged(scores: Tensor, size: Sequence[int], threshold: float) -> Tensor:
    """The class of each place (X, Y, Z), uint8, from probabilities (K, x, y, z) of a resized volume, one class at a time."""
    import torch

    first = resized(scores[:1], size)[0]
    if len(scores) == 1:
        return (first > threshold).to(torch.uint8)
    best = torch.zeros(first.shape, dtype=torch.uint8)
    for number in range(1, len(scores)):
        other = resized(scores[number : number + 1], size)[0]
        best[other > first] = number
        torch.maximum(first, other, out=first)
    return best


# --- preparation ------------------------------------------------------------------------------------------------------


def statistics(volume: Tensor) -> Tensor:
    """Of each channel of a volume (C, X, Y, Z): mean and deviation of the voxels that are not 0, and the largest; (C, 3)."""
    import torch

    found = []
    for channel in volume:
        inside = channel[channel != 0]
        deviation = inside.std() if inside.numel() > 1 else inside.new_zeros(())
        found.append(torch.stack((inside.sum() / max(1, inside.numel()), deviation, channel.max())))
    return torch.stack(found)


def normalised(volume: Tensor, how: str, known: Tensor | None = None) -> Tensor:
    """A volume (C, X, Y, Z) as a network takes it: see :class:`stzoo_segmentation.unet3d.UNet3d`. Channels each by themselves.

    ``known``: :func:`statistics` of the whole, where this is a part of it. Raises InputError for one without any contrast.
    """
    if how == "none":
        return volume
    mean, deviation, most = (statistics(volume) if known is None else known).T[..., None, None, None]
    if float((most if how == "maximum" else deviation).min()) <= 0:
        what = "no number is above 0" if how == "maximum" else "all numbers are the same"
        raise InputError(f"volume: {what}, so that there is nothing to see", "Give another volume")
    found: Tensor = volume / most if how == "maximum" else (volume - mean) / deviation
    return found


def resized(volume: Tensor, size: Sequence[int]) -> Tensor:
    """A volume (C, X, Y, Z), float32, at another size: linear, smoothed before where it shrinks, 0 outside.

    As ``skimage.transform.resize(volume, size, order=1, mode="constant", anti_aliasing=True)``: the smoothing is Gaussian with
    a standard deviation of half of what an axis shrinks by less one. Linear along each axis, it is a product of matrices.
    """
    import torch

    for axis, new in enumerate(size, 1):
        if volume.shape[axis] != new:
            weights = torch.from_numpy(_weights(volume.shape[axis], new))
            volume = torch.movedim(torch.tensordot(weights, volume, ([1], [axis])), 0, axis)
    return volume.contiguous()


@lru_cache(maxsize=16)
def _weights(old: int, new: int) -> np.ndarray:
    """How much each of ``old`` places gives to each of ``new``, (new, old)."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))
    sigma = max(0.0, (old / new - 1) / 2)
    if radius := math.floor(4 * sigma + 0.5):
        kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        places = np.arange(old)
        away = places[:, None] - places + radius
        blur = np.where((away >= 0) & (away <= 2 * radius), kernel[np.clip(away, 0, 2 * radius)] / kernel.sum(), 0)
        weights = weights @ blur
    found: np.ndarray = weights.astype(np.float32)
    return found


# --- data sets --------------------------------------------------------------------------------------------------------


def folder(split: str, root: str = "", images: str = "", labels: str = "", mark: str = "") -> list[dict[str, Any]]:
    """Volumes with masks as people have them.

    Args:
        split: "train", "validation" or "test": a sub-folder of that name (also ``val``, ``valid``), if there are such.
        root: a folder of the Medical Segmentation Decathlon (``dataset.json``, which lists pairs to train on); one with
            ``images/`` and ``labels/`` (also ``imagesTr``/``labelsTr``, ``imagesTs``/``labelsTs``, ``masks``, as nnU-Net
            also with ``_0000`` behind the names of volumes); or one in which masks lie beside, ``NAME_mask.nii.gz`` (also
            ``_label``, ``_seg``, ``_brainmask``) to ``NAME.nii.gz`` or ``NAME_T1.nii.gz``.
        images, labels: these sub-folders instead.
        mark: what masks beside volumes have behind their names, instead.

    Raises:
        DatasetError: there is no such folder, no volume, or a volume without its mask.
    """
    base = existing(root, "volumes?root=FOLDER")
    if (listed := base / "dataset.json").is_file() and not (images or labels):
        return _listed(listed, split)
    base = split_folder(base, split)
    short = "Ts" if split == "test" else "Tr"
    for one, two in (
        ((images or "images", labels or "labels"),)
        if images or labels
        else (("images", "labels"), (f"images{short}", f"labels{short}"), ("images", "masks"), ("volume", "mask"))
    ):
        if (base / one).is_dir():
            if not (base / two).is_dir():
                raise DatasetError(
                    f"{base} has {one}/ and no {two}/", "Put the masks there, or name it: &labels=FOLDER"
                )
            return _paired(base / one, base / two)
    return _beside(base, (mark,) if mark else ("_mask", "_label", "_labels", "_seg", "_brainmask"))


def colin27(split: str) -> list[dict[str, Any]]:
    """A head and its brain (Holmes et al., J. Comput. Assist. Tomogr. 22, 1998), 60x72x60 voxels of 3 mm."""
    own = Path(__file__).parent / "data"
    return [{"volume": str(own / "colin27.nii.gz"), "mask": str(own / "colin27-brain.nii.gz")}]


def _files(folder: Path) -> dict[str, Path]:
    """The volumes in a folder by name, in natural order."""
    found = {path.name[: -len(ending(path))]: path for path in files_in(folder, Volume.reads)}
    if not found:
        raise DatasetError(f"{folder} holds no volumes", f"Endings: {', '.join(Volume.reads)}")
    return found


def _paired(images: Path, labels: Path) -> list[dict[str, Any]]:
    volumes, masks = _files(images), _files(labels)
    rows = []
    for name, path in volumes.items():
        own = name if name in masks else name.removesuffix("_0000")
        if own not in masks:
            raise DatasetError(f"{path} has no mask {labels / name}.nii.gz", "Add the mask, or take the volume away")
        rows.append({"volume": str(path), "mask": str(masks[own])})
    return rows


def _beside(base: Path, marks: Sequence[str]) -> list[dict[str, Any]]:
    found = _files(base)
    rows = []
    for mark in marks:
        for name in [name for name in found if name.endswith(mark)]:
            stem = name.removesuffix(mark)
            volume = next((found[item] for item in (stem, f"{stem}_T1", f"{stem}_T1w") if item in found), None)
            if volume is None:
                raise DatasetError(f"{found[name]} is the mask of no volume {base / stem}.nii.gz", "Add the volume")
            rows.append({"volume": str(volume), "mask": str(found[name])})
    if not rows:
        raise DatasetError(
            f"no volume in {base} has its mask beside it ({', '.join(f'NAME{mark}' for mark in marks)})",
            "Put volumes and masks into images/ and labels/, or say how masks are called: &mark=_ENDING",
        )
    used = {row[key] for row in rows for key in row}
    if lone := [path for path in found.values() if str(path) not in used]:
        raise DatasetError(f"{lone[0]} has no mask beside it", "Add the mask, or take the volume away")
    return rows


def _listed(listed: Path, split: str) -> list[dict[str, Any]]:
    """The pairs that a ``dataset.json`` lists under ``training`` (the tests of the Decathlon have no masks)."""
    try:
        found = json.loads(listed.read_text())
        pairs = found["validation" if split == "validation" else "training"]
        rows = [{"volume": pair["image"], "mask": pair["label"]} for pair in pairs]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DatasetError(
            f"{listed} lists no pairs of image and label for {split} ({type(problem).__name__}: {problem})",
            "It needs training: [{image, label}, ...], as in the Medical Segmentation Decathlon",
        ) from problem
    if split == "test":
        raise DatasetError(f"{listed}: its test volumes have no masks", "Ask for the split train or validation")
    for row in rows:
        for name, value in row.items():
            row[name] = str(listed.parent / value)
            if not Path(row[name]).is_file():
                raise DatasetError(f"{listed} lists {value}, which is not there", "Is the download complete?")
    return rows
