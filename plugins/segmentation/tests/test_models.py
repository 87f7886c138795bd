"""What the trained models of this plugin make of pictures that they did not see.

``nuclei/``: two pictures of the 2018 Data Science Bowl (BBBC038, CC0), one fluorescent and one of stained tissue, of the part held out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stzoo
from stzoo_segmentation.metrics import foreground_counts, mean_dice, precision_50

NUCLEI = Path(__file__).parent / "nuclei"


@pytest.mark.parametrize(("name", "objects"), [("0139", 0.6), ("0369", 0.3)])
def test_nuclei_are_found(name: str, objects: float) -> None:
    """Dice on each picture, and nuclei as objects of their own, which crowded tissue makes harder."""
    predictor = stzoo.load("unet-dsb2018", device="cpu")
    labels = np.asarray(Image.open(NUCLEI / "labels" / f"{name}.png"))
    found = predictor.predict(NUCLEI / "images" / f"{name}.jpg", instances="watershed")
    assert predictor.requirements.classes == ("background", "nucleus")
    assert mean_dice([foreground_counts(found.mask, (labels > 0).astype(np.uint8))]) > 0.85
    assert precision_50(found.instances, labels) > objects
