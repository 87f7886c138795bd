"""What recipes draw from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stzoo.recipe import Kept


class Counted(list[Mapping[str, Any]]):
    asked = 0

    def __getitem__(self, index: Any) -> Any:
        self.asked += 1
        return super().__getitem__(index)


def test_examples_are_read_once_as_far_as_memory_goes() -> None:
    """A pair of pictures of 8 bytes each fills 16 of 20 bytes: the next is read again and again, and a small one is kept."""
    picture = np.zeros(8, np.uint8)
    counted = Counted([{"image": (picture, picture), "class": 3}, {"image": picture}, {"image": picture[:4]}])
    kept = Kept(counted, lambda example: {**example, "seen": True}, memory=20)
    assert len(kept) == 3
    for _ in range(3):
        assert [item["seen"] for item in kept] == [True] * 3
    assert counted.asked == 1 + 3 + 1
