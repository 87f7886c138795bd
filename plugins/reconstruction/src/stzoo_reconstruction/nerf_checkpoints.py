"""Checkpoints of the well-known NeRFs: which networks they hold, and their tensors under stzoo's names.

A checkpoint holds a coarse network and most often a fine one. It does not hold where rays start and end, how many samples they
have, the background, or a camera: the official values for synthetic scenes are assumed, and said in the load report's notes.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from stzoo.errors import FormatError
from stzoo.formats import check_tensors
from stzoo_reconstruction.nerf import NeRF

ASSUMED: dict[str, Any] = {
    "samples": 64,
    "fine_samples": 128,
    "near": 2.0,
    "far": 6.0,
    "spacing": "depth",
    "background": "white",
    "ndc": False,
    "frame": (),
    "home": (),
}
"""What no tensor tells: the official values for Blender's synthetic scenes."""


class _TwoNetworks:
    """What the formats share: parts of a checkpoint by prefix, the names of layers in them, and the proof that they fit."""

    name: ClassVar[str]
    mark: ClassVar[str]
    """The tensor of each part by which the format is known: the first layer's weight."""
    parts: ClassVar[tuple[str, str]]
    """Prefixes of the coarse and the fine network."""
    activations: ClassVar[str]

    def layer(self, name: str) -> str:
        """stzoo's name of a layer."""
        return name

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the tensors are of something else.

        Raises:
            FormatError: they are of this format, but not whole, or do not fit each other.
        """
        if self.mark not in state and not any(f"{part}.{self.mark}" in state for part in self.parts):
            return None
        networks = self._networks(state)
        if "coarse" not in networks:
            raise FormatError(
                f"this looks like a checkpoint of {self.name}, but the coarse network is missing",
                f"Found {', '.join(sorted({key.partition('.')[0] for key in state})[:4])}",
            )
        config = _described(networks["coarse"], self.name)
        config |= {"activations": self.activations, "cells": 0, "pixel_centre": 0.0, **ASSUMED}
        config["fine_samples"] = ASSUMED["fine_samples"] if "fine" in networks else 0
        check_tensors(self.convert(state, config), lambda: NeRF(**config), self.name)
        return config

    def convert(self, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The same tensors under stzoo's names. What no picture depends on is left out: of a network that does not look at
        directions, its layer for them and a fifth output."""
        found = {}
        for part, network in self._networks(state).items():
            for key, tensor in network.items():
                if config["viewdirs"] or not key.startswith("views_linears"):
                    found[f"{part}.{key}"] = tensor[:4] if key.startswith("output_linear") else tensor
        return found

    def unknown(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """What the tensors cannot tell, with what was assumed."""
        told = {"fine_samples"} if not config["fine_samples"] else set()
        told |= {"frequencies"} if config["viewdirs"] else set()
        notes = {name: f"{name}: {config[name]!r} is assumed" for name in ASSUMED}
        notes["frame"] = "frame: the networks are taken to count in the axes of the world"
        notes["home"] = "home: there is no camera in it; that of Blender's synthetic scenes is taken"
        notes["frequencies"] = f"frequencies: {config['frequencies'][1]} of directions, which do not matter"
        notes["pixel_centre"] = f"pixel_centre: {config['pixel_centre']:g}, as in the code that made it"
        return tuple(f"{note}." for name, note in notes.items() if name not in told)

    def _networks(self, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The tensors of ``coarse`` and ``fine``, layers under stzoo's names; a single network is the coarse one."""
        if self.mark in state:
            state = {f"{self.parts[0]}.{key}": tensor for key, tensor in state.items()}
        networks: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            for part, prefix in zip(("coarse", "fine"), self.parts, strict=True):
                if key.startswith(f"{prefix}."):
                    layer, _, leaf = key.removeprefix(f"{prefix}.").removeprefix("module.").rpartition(".")
                    networks.setdefault(part, {})[f"{self.layer(layer)}.{leaf}"] = tensor
        return networks


class NeRFPytorch(_TwoNetworks):
    """yenchenlin/nerf-pytorch's ``.tar`` files and state dicts, and bmild/nerf's ``.npy`` files of Keras' weights.

    bmild's files come in pairs, ``model_200000.npy`` and ``model_fine_200000.npy``: given either, both are read if both are
    there. They are pickled lists of arrays, and are read by an unpickler that knows arrays and nothing else.
    """

    name = "nerf-pytorch"
    mark = "pts_linears.0.weight"
    parts = ("network_fn_state_dict", "network_fine_state_dict")
    activations = "nerf"
    endings: ClassVar[tuple[str, ...]] = (".npy",)

    def read(self, path: Path) -> dict[str, Tensor]:
        """Keras' weights under nerf-pytorch's names. Raises FormatError."""
        coarse = path.with_name(path.name.replace("_fine", ""))
        fine = coarse.with_name(re.sub(r"^model_?", "model_fine_", coarse.name))
        files = [file for file in dict.fromkeys((coarse, fine)) if file.is_file()]
        files = files if path in files else [path]
        parts = self.parts if len(files) > 1 else self.parts[:1]
        found = {}
        for part, file in zip(parts, files, strict=True):
            for name, array in zip(_keras_names(arrays := read_arrays(file), file), arrays, strict=True):
                values = torch.from_numpy(np.ascontiguousarray(array.T, dtype=np.float32))
                found[f"{part}.{name}"] = values
        return found


class FlexibleNeRF(_TwoNetworks):
    """krrish94/nerf-pytorch's ``.ckpt`` files of its FlexibleNeRFModel: no ReLU after the first layer, one after the feature.

    Its skip connections raise an error when they are run, so that no checkpoint has any.
    """

    name = "krrish94's FlexibleNeRFModel"
    mark = "layer1.weight"
    parts = ("model_coarse_state_dict", "model_fine_state_dict")
    activations = "flexible"
    names: ClassVar[Mapping[str, str]] = {
        "layer1": "pts_linears.0",
        "fc_feat": "feature_linear",
        "fc_alpha": "alpha_linear",
        "fc_rgb": "rgb_linear",
        "fc_out": "output_linear",
        "layers_dir.0": "views_linears.0",
    }

    def layer(self, name: str) -> str:
        if match := re.fullmatch(r"layers_xyz\.(\d+)", name):
            return f"pts_linears.{int(match[1]) + 1}"
        return self.names.get(name, name)

    def detect(self, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The configuration; None if the tensors are of something else, even of another code's ``layer1``."""
        known = any(re.search(r"(^|\.)(fc_alpha|fc_out)\.weight$", key) for key in state)
        return super().detect(state) if known else None


def _described(network: Mapping[str, Tensor], what: str) -> dict[str, Any]:
    """The configuration of one network. Raises FormatError if its tensors contradict each other."""
    try:
        widths = {
            int(match[1]): network[key].shape
            for key in network
            if (match := re.match(r"pts_linears\.(\d+)\.weight", key))
        }
        width, points = widths[0]
        viewdirs = "alpha_linear.weight" in network
        directions = network["views_linears.0.weight"].shape[1] - width if viewdirs else 3 + 6 * 4
    except (KeyError, ValueError, IndexError) as problem:
        raise FormatError(f"this looks like a checkpoint of {what}, but it is not whole ({problem})") from problem
    for name, size in (("points", points), ("directions", directions)):
        if size < 3 or (size - 3) % 6:
            raise FormatError(
                f"this looks like a checkpoint of {what}, but encoded {name} of {size} numbers are no x, sin and cos",
                "Encodings without the point itself are not supported",
            )
    return {
        "layers": len(widths),
        "width": width,
        "skips": tuple(index - 1 for index in sorted(widths) if index and widths[index][1] == width + points),
        "frequencies": ((points - 3) // 6, (directions - 3) // 6),
        "viewdirs": viewdirs,
    }


# --- Keras' weights ---------------------------------------------------------------------------------------------------


class _Arrays(pickle.Unpickler):
    """Makes NumPy's arrays and refuses all else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}  # type: ignore[attr-defined]
        if module.partition(".")[0] == "numpy" and name in allowed:
            return allowed[name]
        if (module, name) == ("_codecs", "encode"):  # how Python 2 and old protocols keep bytes
            import codecs

            return codecs.encode
        raise FormatError(f"it holds more than arrays: it asks for {module}.{name}")


def read_arrays(path: Path) -> list[np.ndarray]:
    """A list of arrays of numbers that ``numpy.save`` has pickled. Executes nothing; raises FormatError."""
    try:
        with path.open("rb") as file:
            _skip_header(file)
            found = _Arrays(file, encoding="latin1").load()
            arrays = [np.asarray(item) for item in found]
    except FormatError as problem:
        raise FormatError(f"{path}: {problem.problem}", "stzoo does not execute pickles") from None
    except Exception as problem:  # a damaged pickle can fail in any way
        raise FormatError(
            f"{path} is not a readable list of arrays ({problem})", "Is it one of bmild/nerf's model_*.npy?"
        ) from problem
    if not arrays or any(item.dtype.kind != "f" for item in arrays):
        raise FormatError(f"{path} holds other things than arrays of numbers", "Is it one of bmild/nerf's model_*.npy?")
    return arrays


def _skip_header(file: BinaryIO) -> None:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = reader(file)
    if not dtype.hasobject:
        raise ValueError("it holds one array")


def _keras_names(arrays: list[np.ndarray], path: Path) -> list[str]:
    """Names of Keras' arrays, weights and biases in turn: the trunk, then feature, direction, colour, density; or the output."""
    single = arrays[-1].shape != (1,)  # the last is the bias of the density, or of the one output
    last = ["output_linear"] if single else ["feature_linear", "views_linears.0", "rgb_linear", "alpha_linear"]
    depth, odd = divmod(len(arrays), 2)
    depth -= len(last)
    if odd or depth < 1:
        raise FormatError(f"{path} holds {len(arrays)} arrays, which are no layers of a NeRF", "Is the file complete?")
    layers = [*(f"pts_linears.{index}" for index in range(depth)), *last]
    return [f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")]
