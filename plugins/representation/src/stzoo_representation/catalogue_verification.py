"""Verification: its task, metrics, architectures and data sets. Pure data."""

from __future__ import annotations

from stzoo import Architecture, Baseline, Dataset, Metric, Task
from stzoo.fields import Choice, Image, Number, Size
from stzoo_representation.verification_fields import OtherImage

_HERE = "stzoo_representation"
_METRICS = f"{_HERE}.verification_metrics"

METRICS: tuple[Metric, ...] = (
    Metric(
        "auc",
        f"{_METRICS}:scored",
        "higher",
        "Area under the ROC curve: how often a pair of one person is closer than a pair of two",
        output="distance",
        summary=f"{_METRICS}:auc",
    ),
    Metric(
        "eer",
        f"{_METRICS}:scored",
        description="Error rate where as many pairs are wrongly accepted as wrongly rejected",
        output="distance",
        summary=f"{_METRICS}:eer",
    ),
    Metric(
        "tar_at_far",
        f"{_METRICS}:scored_at",
        "higher",
        "Share of the pairs of one person that is accepted where no more than far of the others is; option far=0.01",
        output="distance",
        summary=f"{_METRICS}:true_accepts",
    ),
    Metric("accuracy", f"{_METRICS}:accuracy", "higher", "Share of decisions at the model's threshold that are right"),
    Metric(
        "accuracy_at_far",
        f"{_METRICS}:scored_at",
        "higher",
        "Share of all pairs that is right at the threshold of this data where no more than far of the others is accepted; option far=0.01",
        output="distance",
        summary=f"{_METRICS}:accuracy_at",
        optional=True,
    ),
    Metric(
        "far",
        f"{_METRICS}:decided",
        description="Share of the pairs of two people that the model's threshold accepts",
        summary=f"{_METRICS}:false_accepts",
        optional=True,
    ),
    Metric(
        "frr",
        f"{_METRICS}:decided",
        description="Share of the pairs of one person that the model's threshold rejects",
        summary=f"{_METRICS}:false_rejects",
        optional=True,
    ),
    Metric(
        "lfw_accuracy",
        f"{_METRICS}:scored",
        "higher",
        "Mean accuracy of ten consecutive folds, each at the best threshold of the other nine (LFW; vectors of length 1)",
        output="distance",
        summary=f"{_METRICS}:folds",
        optional=True,
    ),
    Metric(
        "roc",
        f"{_METRICS}:curve",
        "higher",
        "The ROC curve: true-accept rates at the false-accept rates 0, 0.05 ... 1; as one number, the area under it",
        output="distance",
        summary=f"{_METRICS}:curve_value",
        curve="false-accept rate, in twentieths",
        optional=True,
    ),
)

_SAME = Choice("same", "Whether they show the same", choices=(True, False), words=("the same", "different"))
_INPUTS = (Image("first", "One picture, of one face"), OtherImage("second", "Another one"))

TASKS: tuple[Task, ...] = (
    Task(
        name="verification",
        description="Whether two pictures show the same person, or sign",
        inputs=_INPUTS,
        outputs=(
            _SAME,
            Number(
                "distance",
                "Squared Euclidean distance of their vectors, or the one that the network brings",
                minimum=0,
            ),
            Number("margin", "Threshold minus distance: above 0, they are the same"),
        ),
        columns=(
            *_INPUTS,
            _SAME,
            Number("first_person", "Number of the person in the first picture", integer=True, optional=True),
            Number("second_person", "Number of the person in the second", integer=True, optional=True),
        ),
        metrics=METRICS,
        baselines=(
            Baseline(
                "pixels",
                f"{_HERE}.verification:pixels",
                "Mean squared difference of the pictures, grey and at 28x23 pixels; it has no threshold, and never says the same",
            ),
        ),
        pipeline=f"{_HERE}.verification:Verification",
        reader=f"{_HERE}.faces:read_people",
    ),
)

_RECIPE = f"{_HERE}.siamese_recipe:SiameseRecipe"


def _size(height: int, width: int) -> Size:
    return Size("size", "Height and width that pictures are resized to", (height, width))


def _channels() -> Choice:
    return Choice("channels", "Colours of a picture", 1, choices=(1, 3))


def _threshold(default: float) -> Number:
    return Number("threshold", "The distance below which two are the same", default, minimum=1e-30)


def _dimensions(default: int) -> Number:
    return Number("dimensions", "Of the vector", default, minimum=1, integer=True)


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="siamese",
        task="verification",
        build=f"{_HERE}.siamese:EmbeddingNet",
        defaults={
            "size": _size(28, 28),
            "channels": _channels(),
            "mean": (0.1307,),
            "std": (0.3081,),
            "threshold": _threshold(0.25),
            "widths": (32, 64),
            "kernel": Number("kernel", "Height and width of the filters", 5, minimum=1, integer=True),
            "hidden": (256, 256),
            "dimensions": _dimensions(2),
            "l2": False,
        },
        recipe=_RECIPE,
        formats=(f"{_HERE}.siamese_checkpoints:EmbeddingFormat",),
        description="A few convolutions and full layers; at the defaults, the common network for digits",
        paper="https://proceedings.neurips.cc/paper/1993/hash/288cc0ff022877bd3df94bc9360b9c5d-Abstract.html",
    ),
    Architecture(
        name="siamese-att",
        task="verification",
        build=f"{_HERE}.siamese:ATTNet",
        defaults={
            "size": _size(100, 100),
            "channels": _channels(),
            "threshold": _threshold(1.0),
            "widths": (4, 8, 8),
            "hidden": Number("hidden", "Units of the full layers", 500, minimum=1, integer=True),
            "dimensions": _dimensions(5),
        },
        recipe=_RECIPE,
        formats=(f"{_HERE}.siamese_checkpoints:ATTFormat",),
        description="Three convolutions without pooling and full layers: the common network for the AT&T faces",
    ),
    Architecture(
        name="siamese-koch",
        task="verification",
        build=f"{_HERE}.siamese:KochNet",
        defaults={
            "size": _size(105, 105),
            "channels": _channels(),
            "threshold": _threshold(0.5),
            "widths": (64, 128, 128, 256),
            "dimensions": _dimensions(4096),
        },
        recipe=f"{_HERE}.siamese_recipe:KochRecipe",
        formats=(f"{_HERE}.siamese_checkpoints:KochFormat",),
        description="Koch's one-shot network: a weighted L1 distance that becomes a probability",
        paper="https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf",
    ),
    Architecture(
        name="inception-resnet-v1",
        task="verification",
        build=f"{_HERE}.inception_resnet:InceptionResnetV1",
        defaults={"size": _size(160, 160), "threshold": _threshold(1.1)},
        recipe=_RECIPE,
        formats=(f"{_HERE}.inception_resnet:InceptionResnetFormat",),
        description="Inception-ResNet-v1 for faces, 512 numbers of length 1",
        paper="https://arxiv.org/abs/1503.03832",
    ),
    Architecture(
        name="dlib-face",
        task="verification",
        build=f"{_HERE}.dlib_face:DlibFace",
        defaults={"threshold": _threshold(0.36)},
        recipe=_RECIPE,
        formats=(f"{_HERE}.dlib_face:FaceApi",),
        description="dlib's residual network for aligned faces, 128 numbers",
    ),
)

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "orl-faces",
        "verification",
        f"{_HERE}.faces:orl",
        splits=("train", "validation", "test"),
        description="Faces of the Olivetti Research Laboratory (AT&T), pairs of them divided by people: ?root=FOLDER with s1/1.pgm ... "
        "or a .npz; &seed=0&different=1; without a folder one pair to test on",
        shipped=True,
        license="credit: Olivetti Research Laboratory",
        homepage="https://cam-orl.co.uk/facedatabase.html",
    ),
    Dataset(
        "lfw-pairs",
        "verification",
        f"{_HERE}.faces:lfw",
        splits=("test",),
        description="Labeled Faces in the Wild, the 6000 pairs of view 2: ?root=FOLDER&pairs=FILE",
        homepage="https://vis-www.cs.umass.edu/lfw/",
    ),
)
