"""Plain values as outputs: in words, and as a picture."""

from __future__ import annotations

import numpy as np
import pytest

from stzoo.fields import Choice, Number

SAME = Choice("same", choices=(True, False), words=("the same", "different"))


def test_choices_are_told_and_taken_in_words() -> None:
    assert [SAME.told(value) for value in (True, False)] == ["the same", "different"]
    assert [SAME.parse(value) for value in ("The same", "different", "true", False)] == [True, False, True, False]
    with pytest.raises(ValueError, match="one of True, False, 'the same', 'different'"):
        SAME.parse("maybe")
    assert Choice("size", choices=("big",)).told("big") == "big"


def test_numbers_are_told_in_six_digits() -> None:
    distance = Number("distance")
    assert distance.told(0.123456789) == "0.123457" == distance.told(np.float64(0.123456789))
    assert distance.told(3) == "3"


def test_what_is_no_whole_number_is_told() -> None:
    for value in (2.5, float("inf"), float("nan"), True, "2.5", [2]):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            Number("count", minimum=1, integer=True).parse(value)


def test_values_can_be_looked_at() -> None:
    """Other words are another picture; long ones are not cut off."""
    pictures = [np.asarray(SAME.preview(value)) for value in (True, False)]
    assert pictures[0].shape == pictures[1].shape and (pictures[0] != pictures[1]).any()
    long = Choice("long", choices=(1,), words=("many words " * 20,))
    assert long.preview(1).width > 1000 and (np.asarray(long.preview(1))[:, -200:] < 100).any()
