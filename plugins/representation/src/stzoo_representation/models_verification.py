"""Models of verification: what is bundled, and what others publish. Pure data, with the numbers recorded beside the weights."""

from __future__ import annotations

from pathlib import Path

from stzoo import Measurement, Model, Requirements, Source
from stzoo.bundles import bundled

_WEIGHTS = Path(__file__).parent / "weights"
_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"

NOT_FOR = """\
## What it must not be used for

It must not be used to identify, watch, track or sort people, nor without the consent of everybody in the pictures, nor for any
decision about a person: access, policing, borders, hiring, credit, insurance, legal or medical matters. It is not a lock: it can
be fooled by a photograph. Its errors were not measured for people of different ages, sexes, skin colours or disabilities, and are
known to differ between them for networks like this. In many places processing faces needs a lawful basis: biometric data are
personal data.
"""
"""In the card of every model that compares faces."""
_CARD = """\
## Intended use

{use}

{not_for}
## Training data

{data}

## Limitations

{limits}
"""
_SHORT = "not for identifying people or deciding about them"
_ALIGNED = (
    "Neither faces are found nor turned: pictures are stretched to {size} as they are. What is expected is one upright face, cut "
    "out as in training, and every deviation costs accuracy, most of all at the stated threshold. "
)


def _card(use: str, data: str, limits: str) -> str:
    return _CARD.format(use=use, not_for=NOT_FOR, data=data, limits=limits)


def _facenet(name: str, file: str, people: int, data: str, terms: str, lfw: float) -> Model:
    return Model(
        name=f"facenet-{name}.official",
        architecture="inception-resnet-v1",
        source=Source(f"{_FACENET}/{file}"),
        license="mit",
        trained_on=data,
        description=f"Inception-ResNet-v1 that learnt {data} (facenet-pytorch's weights); {_SHORT}",
        paper="https://arxiv.org/abs/1503.03832",
        metrics=(
            Measurement("LFW", "lfw_accuracy", lfw, "published", "facenet-pytorch's README; faces found by MTCNN"),
        ),
        requirements=Requirements(channels=3, native_size=(160, 160)),
        parameters=23_482_624,
        card=_card(
            "Research on how faces are compared, and fine-tuning to other pictures.",
            f"{data}, {people} people; {terms}. The weights are those of David Sandberg's facenet (MIT), converted by "
            "facenet-pytorch (MIT).",
            _ALIGNED.format(size="160x160")
            + "The threshold 1.1 is the one FaceNet's authors show in a figure, not one that was chosen for these weights: choose your "
            "own on validation data.",
        ),
        tags=("official",),
    )


MODELS: tuple[Model, ...] = (
    _facenet(
        "vggface2",
        "20180402-114759-vggface2.pt",
        8631,
        "VGGFace2",
        "its terms are its own and its authors have withdrawn it",
        0.9965,
    ),
    _facenet(
        "casia-webface",
        "20180408-102900-casia-webface.pt",
        10575,
        "CASIA-WebFace",
        "for non-commercial research",
        0.9905,
    ),
    bundled(
        _WEIGHTS / "siamese-orl",
        description=f"A small network that compares faces at 28x24 grey pixels, learnt from 20 people; {_SHORT}",
        license="other",
        trained_on="orl-faces: 20 people of the Olivetti Research Laboratory (credit: Olivetti Research Laboratory)",
        example="orl-faces",
        paper="https://arxiv.org/abs/1503.03832",
        card=_card(
            "A small network to try the task with, to test with and to fine-tune from. Its pictures are upright faces before a plain "
            "background, cut out as in the data.",
            "The database of faces of the Olivetti Research Laboratory in Cambridge (AT&T), 1992 to 1994: 30 of its 40 people, ten "
            "pictures of each. 20 people were learnt from, four others chose the weights and the threshold (where both kinds of errors "
            "are equally frequent), six others were the test. Its terms: 'please give credit to Olivetti Research Laboratory'. "
            "Hardware: {hardware}. Time: {minutes:g} minutes.",
            "The same command with people divided otherwise (`&seed=1` to 4) gave an AUC of 0.989, 0.988, 0.977 and 0.976 on the six people "
            "of each test, and 0.83, 0.91, 0.88 and 0.90 right decisions at the threshold; the settings were chosen when test numbers of the "
            "divisions 0 and 1 were known. Twenty people are very few, four to choose a threshold on fewer still: at the threshold, rates on other people are not "
            "those on these four. The pictures were taken in one place in one light; on any others expect chance. "
            + _ALIGNED.format(size="28x24"),
        ),
        dtypes=("float32", "bfloat16"),
        tags=("small",),
    ),
    bundled(
        _WEIGHTS / "siamese-dlib-face",
        description=f"dlib's face embedding, 128 numbers, as npm's @vladmandic/face-api carries it; {_SHORT}",
        license="mit",
        trained_on="about 3 million faces of 7485 people: half FaceScrub and VGG Face, half from the web",
        example="orl-faces?top=28",
        paper="https://github.com/davisking/dlib-models",
        metrics=(
            Measurement(
                "LFW",
                "lfw_accuracy",
                0.993833,
                "published",
                "dlib-models' README, of the original; faces aligned by dlib",
            ),
        ),
        card=_card(
            "Comparing faces that were cut out as dlib does it: aligned by the corners of the eyes and the nose, 150x150 pixels, with a "
            "quarter of the face's size around it. Two are of one person if their vectors are less than 0.6 apart, as the network's "
            "author gives it: distances here are squared, and the threshold is 0.36.",
            "About 3 million faces of 7485 people, half of them from FaceScrub and VGG Face, the others from the web: all have terms of "
            "their own. Nobody in LFW was among them (dlib-models' README).\n\n## Terms\n\nThe package's licence is MIT. Davis King says "
            'of the network (README of https://github.com/davisking/dlib-models): "anyone can do whatever they want with these model '
            "files as I've released them into the public domain\".",
            _ALIGNED.format(size="150x150")
            + "The numbers above show it: on ORL's pictures as they are, the threshold accepts 66 % of the pairs of two people (`--metrics far`); with the top "
            "28 of 112 rows left off (`&top=28`), which puts eyes and mouth about where dlib's alignment has them, 9 %. "
            "The 28 rows were chosen on half of these very people. Filters of 128 channels and more are bytes, as in the package, and "
            "are not trained further by fine-tuning.",
        ),
        tags=("small",),
    ),
)
