"""Vectors: what is read and written, what is refused, and how they look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stzoo.errors import InputError, MediaError
from stzoo.fields import Vector
from stzoo.requirements import Requirements

ANY = Requirements()
VECTOR = Vector("features")


@pytest.mark.parametrize("suffix", Vector.suffixes)
def test_what_is_written_is_read_again(suffix: str, tmp_path: Path) -> None:
    numbers = np.array([1, -2.5, 1e-8, 0.1], np.float32)
    VECTOR.write(numbers, tmp_path / f"v{suffix}")
    again = VECTOR.read(str(tmp_path / f"v{suffix}"), ANY)
    assert again.dtype == np.float32 and np.array_equal(again, numbers)


def test_rows_columns_and_lists_are_vectors(tmp_path: Path) -> None:
    (tmp_path / "column.csv").write_text("1\n2\n3\n")
    np.savez(tmp_path / "v.npz", features=np.arange(1, 4)[None])
    for value in (tmp_path / "column.csv", tmp_path / "v.npz", [1, 2, 3], np.array([[1], [2], [3]])):
        assert VECTOR.read(value, ANY).tolist() == [1, 2, 3]
    assert np.isfinite(VECTOR.sample(ANY)).all()


def test_what_is_no_vector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("one,two\n")
    (tmp_path / "broken.json").write_text("[1, 2")
    refused: list[tuple[Any, type[Exception], str]] = [
        (["a", "b"], InputError, "features: these are no numbers"),
        (np.ones((2, 3)), InputError, r"features: numbers of shape \(2, 3\). Give one row"),
        ([], InputError, r"features: numbers of shape \(0,\)"),
        ([1, np.nan, np.inf], InputError, "features: 2 of its numbers are not finite"),
        (tmp_path / "words.csv", MediaError, "features: .*words.csv cannot be read"),
        (tmp_path / "broken.json", MediaError, "features: .*broken.json cannot be read"),
        (tmp_path / "none.csv", MediaError, "features: there is no file .*none.csv"),
    ]
    for value, problem, message in refused:
        with pytest.raises(problem, match=message):
            VECTOR.read(value, ANY)


def test_bars_point_up_and_down() -> None:
    pixels = np.asarray(VECTOR.preview(np.array([1.0, -1.0, 0.0, 0.5], np.float32))).astype(int)
    bars = (pixels != 255).any(-1)
    height, width = bars.shape
    quarter = width // 4
    assert (
        bars[: height // 2, 0].all() and not bars[: height // 2, quarter].any() and bars[height // 2 :, quarter].all()
    )
    assert bars[:, 2 * quarter].sum() == 1 and bars[:, 3 * quarter].sum() == 31
    assert VECTOR.preview(np.arange(5000, dtype=np.float32)).size == (512, 121)
