"""The metrics and the named data sets of depth estimation: pure data."""

from __future__ import annotations

from stzoo import Dataset, Metric

_HERE = "stzoo_depth"


def _metric(
    name: str, description: str, better: str = "lower", summary: str = "mean", *, optional: bool = False
) -> Metric:
    return Metric(
        name,
        f"{_HERE}.metrics:{name}",
        "higher" if better == "higher" else "lower",
        description,
        summary=f"{_HERE}.metrics:{summary}",
        optional=optional,
    )


METRICS: tuple[Metric, ...] = (
    _metric("abs_rel", "Mean of |predicted - true| / true; options crop, minimum, maximum, scale, average"),
    _metric("sq_rel", "Mean of (predicted - true)^2 / true in metres, as Eigen"),
    _metric("rmse", "Root of the mean squared error in metres", summary="root"),
    _metric("rmse_log", "Root of the mean squared error of natural logarithms", summary="root"),
    _metric("log10", "Mean absolute error of decimal logarithms"),
    _metric("silog", "100 times the standard deviation of the logarithms' errors (KITTI's SILog)", summary="deviation"),
    *(
        _metric(f"delta{power}", f"Share of pixels that are wrong by a factor below {1.25**power:g}", "higher")
        for power in (1, 2, 3)
    ),
    _metric("mae", "Mean absolute error in metres", optional=True),
    _metric("sq_rel_kitti", "Mean of (predicted - true)^2 / true^2, as KITTI's development kit", optional=True),
    _metric("irmse", "Root of the mean squared error of 1 / depth, per kilometre", summary="root", optional=True),
    _metric("imae", "Mean absolute error of 1 / depth, per kilometre", optional=True),
    _metric("coverage", "Share of the true pixels that the prediction knows", "higher", optional=True),
)

DATASETS: tuple[Dataset, ...] = (
    Dataset(
        "slambook2",
        "depth",
        f"{_HERE}.data:slambook2",
        splits=("test",),
        shipped=True,
        description="A Kinect's frame of a room, from the sources of the book slambook2",
        license="mit",
        homepage="https://github.com/gaoxiang12/slambook2",
    ),
    Dataset(
        "rgbd-sequence",
        "depth",
        f"{_HERE}.data:sequence",
        splits=("train", "validation", "test"),
        description="Recordings of an RGB-D camera, split in time: ?root=FOLDER with rgb/ and depth/ (also color/, "
        "depth_mm/ …); &per_unit=5000 for TUM",
    ),
    Dataset(
        "nyu-depth-v2",
        "depth",
        f"{_HERE}.data:nyu",
        description="NYU Depth v2: ?root=FOLDER with nyu_depth_v2_labeled.mat and splits.mat, or &list=FILE of pictures and "
        "their maps (sync)",
        homepage="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
    ),
    Dataset(
        "kitti-depth",
        "depth",
        f"{_HERE}.data:kitti",
        splits=("train", "validation", "test"),
        description="KITTI's raw drives with the annotated depth maps: ?root=FOLDER&list=FILE of Eigen's split",
        license="cc-by-nc-sa-3.0",
        homepage="https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
    ),
)
