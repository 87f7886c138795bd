"""imresize against MATLAB's and BasicSR's numbers."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stzoo.errors import InputError
from stzoo_super_resolution.resize import imresize, imresize_uint8

GOLDENS = Path(__file__).parent / "goldens"
FLOATS = load_file(GOLDENS / "metrics-imresize-matlab.safetensors")
BYTES = load_file(GOLDENS / "metrics-imresize-matlab-u8.safetensors")


def first(image: np.ndarray) -> np.ndarray:
    """Channels first."""
    return image.transpose(2, 0, 1) if image.ndim == 3 else image


def cases(tensors: dict[str, np.ndarray], prefix: str) -> list[tuple[str, float]]:
    found = []
    for key in tensors:
        if key.startswith(prefix):
            text = key.rpartition("x")[2].removesuffix("_noaa")
            found.append((key, float(Fraction(text.replace("_", "/")))))
    return found


@pytest.mark.parametrize(("key", "scale"), cases(FLOATS, "output_"))
def test_floats_are_resized_as_basicsr_does(key: str, scale: float) -> None:
    image = first(FLOATS["input_" + key.split("_")[1]])
    antialias = not key.endswith("noaa")
    found = imresize(image.astype(np.float64), scale, antialias=antialias)
    np.testing.assert_allclose(found, first(FLOATS[key]), atol=5e-6)
    tensor = imresize(torch.from_numpy(np.ascontiguousarray(image)), scale, antialias=antialias)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), found, atol=1e-6)


@pytest.mark.parametrize(("key", "scale"), cases(BYTES, "output_u8"))
def test_bytes_are_rounded_as_matlab_does(key: str, scale: float) -> None:
    np.testing.assert_array_equal(imresize_uint8(first(BYTES["input_u8"]), scale), first(BYTES[key]))


def test_matlab_floats_are_not_rounded() -> None:
    found = imresize(first(BYTES["input_u8"]) / 255, 1 / 3)
    np.testing.assert_allclose(found, first(BYTES["output_double_x1_3"]), atol=1e-12)


def test_sizes_are_rounded_up_but_not_by_floating_point() -> None:
    image = np.zeros((1, 513, 100), np.float32)
    assert imresize(image, 1 / 3).shape == (1, 171, 34)
    assert imresize(image, 2, size=(1000, 201)).shape == (1, 1000, 201)


def test_one_pixel_and_a_constant_stay_what_they_are() -> None:
    assert np.allclose(imresize(np.full((3, 1, 1), 0.25), 8), 0.25)
    assert np.allclose(imresize(np.full((2, 7, 5), 0.5), 0.3), 0.5)


def test_half_precision_is_computed_in_single() -> None:
    image = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = imresize(image, 2)
    torch.testing.assert_close(found, imresize(image.float(), 2).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="cannot be resized"):
        imresize(np.zeros((1, 4, 4)), scale)
