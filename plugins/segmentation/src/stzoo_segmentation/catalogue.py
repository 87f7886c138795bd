"""The metrics and the named data sets of segmentation: pure data."""

from __future__ import annotations

from stzoo import Dataset, Metric
from stzoo_segmentation.classes import CAMVID

_HERE = "stzoo_segmentation"

_PIXELS: tuple[Metric, ...] = (
    Metric(
        "iou",
        f"{_HERE}.metrics:counts",
        "higher",
        "Intersection over union, mean over the classes, of all pixels of the data set together",
        summary=f"{_HERE}.metrics:mean_iou",
        curve="class",
        named="classes",
    ),
    Metric(
        "dice",
        f"{_HERE}.metrics:counts",
        "higher",
        "Dice coefficient (F1), mean over the classes, of all pixels of the data set together",
        summary=f"{_HERE}.metrics:mean_dice",
        curve="class",
        named="classes",
    ),
    Metric(
        "dice_foreground",
        f"{_HERE}.metrics:foreground_counts",
        "higher",
        "Dice coefficient of all classes but 0 as one",
        summary=f"{_HERE}.metrics:mean_dice",
    ),
    Metric(
        "accuracy",
        f"{_HERE}.metrics:right",
        "higher",
        "Share of the pixels whose class is right",
        summary=f"{_HERE}.metrics:share",
    ),
)

IMAGE_METRICS: tuple[Metric, ...] = (
    *_PIXELS,
    Metric(
        "boundary_f",
        f"{_HERE}.metrics:boundary_f",
        "higher",
        "F-measure of the borders, mean over the classes of an image; within 0.8 % of the diagonal; option tolerance",
    ),
    Metric(
        "dice_image",
        f"{_HERE}.metrics:dice_image",
        "higher",
        "Dice coefficient of all classes but 0 as one, of each image, then the mean",
        optional=True,
    ),
)

OBJECT_METRICS: tuple[Metric, ...] = (
    Metric(
        "ap50",
        f"{_HERE}.metrics:precision_50",
        "higher",
        "Objects found over those found, wrong and missed, at an overlap above 0.5, mean over images; needs instances=watershed "
        "or components",
        output="instances",
        optional=True,
    ),
    Metric(
        "ap",
        f"{_HERE}.metrics:precision",
        "higher",
        "ap50, mean over overlaps from 0.5 to 0.95: the number of the 2018 Data Science Bowl",
        output="instances",
        optional=True,
    ),
)

VOLUME_METRICS: tuple[Metric, ...] = (
    *_PIXELS,
    Metric(
        "dice_volume",
        f"{_HERE}.metrics:dice_image",
        "higher",
        "Dice coefficient of all classes but 0 as one, of each volume, then the mean",
        optional=True,
    ),
)

VIDEO_METRICS: tuple[Metric, ...] = (
    Metric(
        "j_and_f",
        f"{_HERE}.metrics:j_and_f",
        "higher",
        "Mean of J, intersection over union, and F, of borders, over the objects of a clip, without its first and last frame",
    ),
    Metric("j", f"{_HERE}.metrics:j_mean", "higher", "Intersection over union, over frames and objects as in j_and_f"),
    Metric("f", f"{_HERE}.metrics:f_mean", "higher", "F-measure of the borders, over frames and objects as in j_and_f"),
    *_PIXELS,
)

_SPLITS = ("train", "validation", "test")

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "volumes",
        "volume-segmentation",
        f"{_HERE}.volumes:folder",
        splits=_SPLITS,
        description="NIfTI volumes with masks: ?root=FOLDER with images/ and labels/ (or imagesTr/ and labelsTr/), in train/, val/ "
        "and test/ or not; or of the Medical Segmentation Decathlon (dataset.json); or with NAME_mask beside NAME or NAME_T1",
        homepage="http://medicaldecathlon.com",
    ),
    Dataset(
        "colin27",
        "volume-segmentation",
        f"{_HERE}.volumes:colin27",
        splits=("test",),
        description="Colin27, a head of which 27 scans were averaged, at 3 mm, and its brain as the program BET finds it",
        shipped=True,
        license="credit: Louis Collins, McConnell Brain Imaging Centre, McGill University",
        homepage="https://www.mcgill.ca/bic/software/tools-data-analysis/anatomical-mri/atlases/colin-27",
    ),
    Dataset(
        "image-masks",
        "segmentation",
        f"{_HERE}.data:folder",
        splits=_SPLITS,
        description="Pictures with masks in two folders: ?root=FOLDER with images/ and masks/, in train/, val/ and test/ or not; "
        "&images=imgs&masks=labels if they are called otherwise, &colours=FILE.csv (name,r,g,b) for masks in colours, "
        "&ending=_mask, &classes=2",
    ),
    Dataset(
        "camvid",
        "segmentation",
        f"{_HERE}.data:camvid",
        splits=_SPLITS,
        description=f"CamVid, streets: {', '.join(CAMVID)}; ?root=FOLDER as SegNet's authors made it (train.txt …), or with "
        "train/images/ and train/masks/",
        homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    ),
    Dataset(
        "cityscapes",
        "segmentation",
        f"{_HERE}.data:cityscapes",
        splits=("train", "validation"),
        description="Cityscapes, streets in 19 classes: ?root=FOLDER with leftImg8bit/ and gtFine/",
        homepage="https://www.cityscapes-dataset.com/",
    ),
    Dataset(
        "voc",
        "segmentation",
        f"{_HERE}.data:voc",
        splits=("train", "validation"),
        description="Pascal VOC, background and 20 classes: ?root=VOCdevkit/VOC2012",
        homepage="http://host.robots.ox.ac.uk/pascal/VOC/",
    ),
    Dataset(
        "coco",
        "segmentation",
        f"{_HERE}.coco:coco",
        splits=("train", "validation"),
        description="COCO's instances as background and a class for each category, and sets in its format: ?root=FOLDER with "
        "annotations/instances_train2017.json and train2017/; &annotations=FILE&images=FOLDER if they are called otherwise",
        homepage="https://cocodataset.org",
    ),
    Dataset(
        "dsb2018",
        "segmentation",
        f"{_HERE}.data:nuclei",
        splits=_SPLITS,
        description="Nuclei of the 2018 Data Science Bowl: ?root=FOLDER with images/ and labels/ (16 bits, a number for each "
        "nucleus), or ID/images/ and ID/masks/; &classes=3 makes borders between nuclei a class; without a folder one picture "
        "to test on",
        shipped=True,
        license="cc0-1.0",
        homepage="https://bbbc.broadinstitute.org/BBBC038",
    ),
    Dataset(
        "davis",
        "video-segmentation",
        f"{_HERE}.davis:davis",
        splits=("train", "test"),
        description="DAVIS, one moving thing against the rest: ?root=FOLDER with JPEGImages/, Annotations/ and ImageSets/, or "
        "with NAME/frames/ and NAME/masks/ (&held=NAME,NAME to test on)",
        homepage="https://davischallenge.org",
    ),
)
