"""The models this plugin brings: pure data, with the numbers that were recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Measurement, Model
from stzoo.bundles import bundled, read_record

_WEIGHTS = Path(__file__).parent / "weights"

_CARD = """\
## Intended use

{use}

## Training data

{data}. Hardware: {{hardware}}. Time: {{minutes:g}} minutes.

## Limitations

{limits}
"""
_KITCHEN = (
    "200 RGB-D frames of one kitchen, every fifth of a recording of 7-Scenes (Kinect, 120x160, for non-commercial research), "
    "split in time: the first 135 to train on, then 15 to choose the best weights, the last 40 to test on, with five between "
    "that belong to none"
)
_SLAMBOOK = (
    "Ten RGB-D frames of slambook2 (MIT): five of a Kinect in a dining room, five rendered of a living room, made into a "
    "folder by `plugins/depth/slambook_frames.py`. The last of each is test data; of the eight "
    "others the last was held out too, and seven were learnt from"
)
_NETWORK_USE = (
    "A small network to try the task with, to test with and to fine-tune from. It gives metres, as a camera would see them that "
    "has the field of view of the camera it learnt from (a Kinect's: 57 degrees from left to right). Depth of a picture of "
    "anything else is a guess in which the scale means nothing: compare with `scale=median`."
)
_MEAN_USE = "What a network has to beat: the same map for every picture."
_MEAN_LIMITS = "It does not look at the picture."


def _mean_map(name: str) -> tuple[Measurement, ...]:
    """What the mean map of the same training set measured, as the baseline of a network."""
    changed = {"source": "baseline", "note": f"{name}: the mean depth map of the training set"}
    return tuple(Measurement(**item | changed) for item in read_record(_WEIGHTS / name)["measurements"])


MODELS: tuple[Model, ...] = (
    bundled(
        _WEIGHTS / "eigen-kitchen",
        metrics=_mean_map("mean-kitchen"),
        description="A small coarse and fine network that knows one kitchen",
        license="cc-by-nc-4.0",
        trained_on="7-Scenes: 135 frames of a kitchen (non-commercial)",
        example="slambook2",
        card=_CARD.format(
            use=_NETWORK_USE,
            data=_KITCHEN,
            limits="It knows one room, and the frames it is tested on show that room from places it was near to. Of another room, such "
            "as that of the example on its page, it makes nothing of use. The widths are "
            "a half and an eighth of the paper's, the input half as high, and there was no ImageNet to start from. "
            "The data may be used for non-commercial research alone, and so may the weights.",
        ),
        dtypes=("float32", "bfloat16"),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "eigen-small",
        metrics=_mean_map("mean-slambook2"),
        description="A very small coarse and fine network that knows two rooms",
        license="apache-2.0",
        trained_on="slambook2",
        card=_CARD.format(
            use=_NETWORK_USE,
            data=_SLAMBOOK,
            limits="It saw seven frames of two rooms for less than three minutes, and gives little more than a smooth map for each of "
            "them: what it is good for is to show that everything works. These are the weights of the last step; on the one frame "
            "held out, those of the first stage's end were better, when the fine network had learnt nothing yet; the choice was made when the "
            "test numbers were known.",
        ),
        dtypes=("float32", "bfloat16"),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "mean-kitchen",
        description="The mean of the depth maps that eigen-kitchen learnt from, whatever the picture shows",
        license="cc-by-nc-4.0",
        trained_on="7-Scenes: 135 frames of a kitchen (non-commercial)",
        example="slambook2",
        card=_CARD.format(use=_MEAN_USE, data=_KITCHEN, limits=_MEAN_LIMITS),
        tags=("small", "baseline"),
    ),
    bundled(
        _WEIGHTS / "mean-slambook2",
        description="The mean of the depth maps that eigen-small learnt from, whatever the picture shows",
        license="apache-2.0",
        trained_on="slambook2",
        card=_CARD.format(use=_MEAN_USE, data=_SLAMBOOK, limits=_MEAN_LIMITS),
        tags=("small", "baseline"),
    ),
)
