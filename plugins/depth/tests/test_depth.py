"""The task: metrics against their reference, data sets as they are published, the life of a prediction, and what is refused."""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from goldens import Golden
from PIL import Image

import stzoo
from stzoo import Requirements
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, InputError, MediaError
from stzoo.measuring import measure, metric_functions, summarise
from stzoo.media.geometry import read_geometry
from stzoo.registry import registry
from stzoo.spec import Task
from stzoo_depth import metrics
from stzoo_depth.data import kitti, nyu, sequence

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {
    "frame": (64, 96),
    "size": (64, 96),
    "widths": (4, 5, 6, 6, 5),
    "hidden": 8,
    "fine": 4,
}


def task() -> Task:
    return registry().get(Task, "depth")


def network(**changed: Any) -> stzoo.predictor.Predictor:
    return stzoo.create("eigen", device="cpu", **SMALL | changed)


def scene(index: int = 0, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A picture (3,H,W) and its depth (H,W) in metres, with a hole."""
    depth = stzoo.fields.Depth("depth").sample(Requirements(native_size=(height, width))) + 0.1 * index
    image = np.stack([depth / 8, 1 - depth / 9, depth / 7]).astype(np.float32)
    depth[:4, :6] = np.nan
    return image, depth


def as_png(depth: np.ndarray, path: Path, per_unit: float = 1000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(np.nan_to_num(depth) * per_unit).astype(np.uint16)).save(path)


def as_picture(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)).save(path)


def folder(root: Path, count: int = 3, image: str = "image", depth: str = "depth") -> Path:
    for index in range(count):
        picture, true = scene(index)
        as_picture(picture, root / image / f"{index:03}.png")
        as_png(true, root / depth / f"{index:03}.png")
    return root


# --- metrics ----------------------------------------------------------------------------------------------------------

REFERENCE = {
    "abs_rel": "abs_rel",
    "sq_rel": "sq_rel",
    "sq_rel_kitti": "sq_rel_normalised_g2 (KITTI devkit)",
    "rmse": "rmse",
    "rmse_log": "rmse_log",
    "log10": "log10",
    "silog": "silog_kitti_x100",
    "delta1": "delta_1",
    "delta2": "delta_2",
    "delta3": "delta_3",
    "irmse": "irmse_1_per_m",
    "imae": "imae_1_per_m",
    "mae": "mae",
}


@pytest.mark.parametrize("name", REFERENCE)
def test_metrics_against_the_reference(name: str) -> None:
    golden = Golden(GOLDENS / "metrics-depth")
    wanted = golden.facts["scalars"][REFERENCE[name]]
    maps = [golden.tensors[f"input_{item}"][:, 0].numpy() for item in ("pred", "gt")]
    [metric] = [item for item in task().metrics if item.name == name]
    assert metric.summary
    summary, compute = (getattr(metrics, item.partition(":")[2]) for item in (metric.summary, metric.compute))
    found = summary([compute(*pair, minimum=1e-6, average="pixels") for pair in zip(*maps, strict=True)])
    unit = 1000 if name in ("irmse", "imae") else 1  # per kilometre
    assert found / unit == pytest.approx(wanted, rel=1e-6)
    by_image = [summary([compute(*pair, minimum=1e-6, average="pixels")]) for pair in zip(*maps, strict=True)]
    averaged = summary([compute(*pair, minimum=1e-6) for pair in zip(*maps, strict=True)])
    assert averaged == pytest.approx(np.mean(by_image), rel=1e-9)


def test_crops_caps_and_scale() -> None:
    true = np.full((480, 640), 2.0, np.float32)
    found = true.copy()
    found[:45] = found[471:] = found[:, :41] = found[:, 601:] = 9
    assert metrics.abs_rel(found, true, crop="nyu") == (0.0, 1.0) and metrics.abs_rel(found, true)[0] > 0.5
    kitti = np.full((375, 1242), 10.0, np.float32)
    for crop, rows in (("garg", (153, 372)), ("eigen", (125, 343))):
        inside = np.full(kitti.shape, 20, np.float32)
        inside[rows[0] : rows[1], 45:1197] = 10
        assert metrics.rmse(inside, kitti, crop=crop)[0] == 0
        inside[rows[0], 45] = 20
        assert metrics.rmse(inside, kitti, crop=crop)[0] > 0
    true[:240] = 90
    assert metrics.abs_rel(np.full_like(true, 100), true, maximum=80)[0] == pytest.approx(39), "it is clipped to 80"
    assert metrics.abs_rel(7 * true, true, scale="median")[0] == pytest.approx(0, abs=1e-6)
    assert metrics.silog(7 * true, true)[0] == pytest.approx(0, abs=1e-3), "SILog does not look at the scale"
    assert metrics.mean([metrics.coverage(np.where(true > 50, np.nan, true), true)]) == 0.5


@pytest.mark.parametrize(
    ("prediction", "target", "options", "error", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 2)), {}, InputError, "the prediction has"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), {}, InputError, "no true depth is known"),
        (np.ones((2, 3)), np.zeros((2, 3)), {}, InputError, "no true depth is known"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), {}, InputError, "the prediction knows no pixel"),
        (np.ones((2, 3)), np.full((2, 3), 90), {"maximum": 80.0}, InputError, "no true depth is known between"),
        (np.ones((2, 3)), np.ones((2, 3)), {"crop": "kitti"}, ConfigError, "crop must be none, nyu"),
        (np.ones((2, 3)), np.ones((2, 3)), {"scale": "mean"}, ConfigError, "scale must be none or median"),
        (np.ones((2, 3)), np.ones((2, 3)), {"average": "all"}, ConfigError, "average must be images or pixels"),
        (np.ones((2, 3)), np.ones((2, 3)), {"minimum": 5.0, "maximum": 2.0}, ConfigError, "below maximum"),
    ],
)
def test_what_cannot_be_measured_says_why(
    prediction: np.ndarray, target: np.ndarray, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.abs_rel(prediction, target, **options)


def test_shares_of_processes_give_the_whole(tmp_path: Path) -> None:
    data = open_data(str(folder(tmp_path, 5)), task(), requirements=network().requirements)
    made, names = network(), ["abs_rel", "rmse?average=pixels", "silog?average=pixels&crop=garg&scale=median"]
    whole = measure(made, data, metrics=names)
    parts = [row for rank in range(3) for row in measure(made, data, metrics=names, shard=(rank, 3), batch_size=2)]
    one, other = (summarise(rows, task()) for rows in (whole, parts))
    assert one.keys() == other.keys() == set(names)
    for name in names:
        assert one[name].value == pytest.approx(other[name].value, rel=1e-6)
    functions, missing = metric_functions(task())
    assert not missing and next(iter(functions)) == "abs_rel"


# --- the task ---------------------------------------------------------------------------------------------------------


def test_the_life_of_a_prediction(tmp_path: Path) -> None:
    image, _ = scene()
    as_picture(image, tmp_path / "room.png")
    prediction = network().predict(tmp_path / "room.png")
    depth = prediction.depth
    assert depth.shape == (48, 64) and np.isfinite(depth).all()
    for ending in (".png", ".npy", ".pfm"):
        saved = prediction.save(tmp_path / f"depth{ending}")
        again = stzoo.fields.Depth("depth").read(saved, Requirements())
        np.testing.assert_allclose(again, depth, atol=0.00051 if ending == ".png" else 0)
    points = read_geometry(prediction.save(tmp_path / "room.ply", fov=90), "room")
    np.testing.assert_allclose(points["positions"][:, 2], depth.ravel(), rtol=1e-6)
    np.testing.assert_allclose(points["positions"][0, 0], -31.5 / 32 * depth[0, 0], rtol=1e-5)
    given = prediction.inputs["image"].transpose(1, 2, 0).reshape(-1, 3)
    np.testing.assert_allclose(points["colours"], given, atol=0.003, err_msg="points are not of the picture's colours")
    with Image.open(prediction.save(tmp_path / "room.jpg")) as shown:
        assert shown.width == 448 and shown.height > 336
    assert prediction.figure().width > 400
    with pytest.raises(MediaError, match="cannot write depth as 'room.exr'"):
        prediction.save(tmp_path / "room.exr")
    with pytest.raises(InputError, match="fov=200"):
        prediction.save(tmp_path / "room.ply", fov=200)


def test_training_and_evaluation_on_a_folder(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 6)
    run = stzoo.finetune(
        "eigen",
        str(data),
        tmp_path / "run",
        steps=4,
        batch_size=2,
        trackers=[],
        model_config={**SMALL, "frame": [64, 96], "size": [64, 96]},
        recipe={"optimizer": "adam", "layers": "equal"},
    )
    assert run.record["status"] == "finished"
    stzoo.finetune("mean-depth", str(data), tmp_path / "mean", trackers=[], model_config={"frame": [24, 32]})
    found = stzoo.evaluate([tmp_path / "run", tmp_path / "mean"], str(data), output=tmp_path / "out")
    values = [model.metrics["abs_rel"].value for model in found.models]
    assert all(np.isfinite(values)) and values[1] < 0.1, "the mean of almost equal maps is far from them"
    assert (tmp_path / "out" / "samples.parquet").exists()


def test_pictures_and_depths_of_a_table() -> None:
    datasets = pytest.importorskip("datasets", reason="pip install 'stzoo[train]'")
    rows: dict[str, list[Any]] = {"photo": [], "depth": []}
    for index in range(2):
        image, depth = scene(index)
        for name, picture in (
            ("photo", Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))),
            ("depth", Image.fromarray(np.rint(np.nan_to_num(depth) * 1000).astype(np.uint16))),
        ):
            buffer = io.BytesIO()
            picture.save(buffer, "png")
            rows[name].append({"bytes": buffer.getvalue(), "path": None})
    made = (
        datasets.Dataset.from_dict(rows).cast_column("photo", datasets.Image()).cast_column("depth", datasets.Image())
    )
    examples = open_data(made, task())
    np.testing.assert_allclose(examples[1]["depth"], scene(1)[1], atol=0.00051)
    assert examples[1]["image"].shape == (3, 48, 64)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((4, 32, 32), np.float32), "4 channels, the model takes 3"),
        (np.zeros((3, 8, 40), np.float32), "40x8 pixels, the model needs at least 16x16"),
        (np.full((3, 32, 32), np.nan, np.float32), "not finite"),
        (np.zeros((2, 3, 32, 32), np.float32), "is not a picture"),
        ("no-such.png", "no-such.png"),
    ],
)
def test_what_is_no_picture_is_refused(value: Any, message: str) -> None:
    with pytest.raises((InputError, MediaError), match=message):
        network().predict(value)


def test_options_that_there_are_not() -> None:
    image, _ = scene()
    for options, message in (({"border": "crop"}, "one of 'extend', 'unknown'"), ({"upscaling": 1}, "upsampling")):
        with pytest.raises(InputError, match=message):
            network().predict(image, **options)


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.zeros((48, 64), np.float32), "no depth is known at any pixel"),
        (np.full((48, 64), np.nan, np.float32), "no depth is known at any pixel"),
        (np.where(np.eye(48, 64) > 0, np.inf, 1).astype(np.float32), "48 values.* are infinite"),
        (np.where(np.eye(48, 64) > 0, -1, 1).astype(np.float32), "48 values.* are negative"),
        (np.ones((3, 48, 64), np.float32), r"shape \(3, 48, 64\).* is not a depth map"),
    ],
)
def test_maps_that_cannot_be_true_are_refused_by_name(depth: np.ndarray, message: str, tmp_path: Path) -> None:
    image, _ = scene()
    as_picture(image, tmp_path / "image" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", depth)
    examples = open_data(str(tmp_path), task())
    with pytest.raises(DatasetError, match=rf"example image/a.png: .*{message}"):
        examples[0]


def test_colours_are_no_depth(tmp_path: Path) -> None:
    image, _ = scene()
    for column in ("image", "depth"):
        as_picture(image, tmp_path / column / "a.png")
    with pytest.raises(DatasetError, match="are a picture of depth, not depth"):
        open_data(str(tmp_path), task())[0]


def test_depth_of_another_size_is_refused_and_can_be_resized(tmp_path: Path) -> None:
    image, depth = scene()
    as_picture(image, tmp_path / "image" / "a.png")
    as_png(depth[::2, ::2], tmp_path / "depth" / "a.png")
    made = network()
    with pytest.raises(DatasetError, match="the picture is 64x48, its depth 32x24"):
        stzoo.evaluate(made, str(tmp_path))
    with pytest.raises(InputError, match="Add size=HEIGHTxWIDTH"):
        made.recipe().sample(open_data(str(tmp_path), task())[0], made.requirements, np.random.default_rng(0))
    assert stzoo.evaluate(made, f"{tmp_path}?size=24x32").examples == 1


def test_millimetres_taken_for_metres_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image, depth = scene()
    as_picture(image, tmp_path / "image" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", 1000 * depth)
    with caplog.at_level(logging.WARNING, "stzoo"):
        stzoo.evaluate(network(), str(tmp_path))
    assert "are these millimetres" in caplog.text
    caplog.clear()
    np.save(tmp_path / "depth" / "a.npy", depth)
    with caplog.at_level(logging.WARNING, "stzoo"):
        stzoo.evaluate(network(), str(tmp_path))
    assert "millimetres" not in caplog.text


def test_folders_with_something_missing(tmp_path: Path) -> None:
    folder(tmp_path / "pair", 2)
    (tmp_path / "pair" / "depth" / "001.png").unlink()
    with pytest.raises(DatasetError, match=r"001\.png"):
        open_data(str(tmp_path / "pair"), task())
    folder(tmp_path / "alone", 2)
    for path in (tmp_path / "alone" / "depth").iterdir():
        path.unlink()
    (tmp_path / "alone" / "depth").rmdir()
    with pytest.raises(DatasetError, match="depth"):
        open_data(str(tmp_path / "alone"), task())


# --- published layouts ------------------------------------------------------------------------------------------------


def numbers(rows: Any) -> list[int]:
    return [int(Path(row["image"]).stem) for row in rows]


def test_a_recording_is_split_in_time_with_gaps(tmp_path: Path) -> None:
    folder(tmp_path / "one", 30, "rgb", "depth_mm")
    found = {split: numbers(sequence(split, str(tmp_path / "one"), gap=2)) for split in ("train", "validation", "test")}
    assert found == {"train": [*range(19)], "validation": [21], "test": [*range(24, 30)]}
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert len(sequence("test", str(tmp_path), gap=2)) == 12, "each recording is split by itself"
    examples = open_data(f"rgbd-sequence?root={tmp_path}&gap=2", task(), "test")
    np.testing.assert_allclose(examples[0]["depth"], scene(24)[1], atol=0.00051)


def test_tum_pairs_by_order_where_names_are_times(tmp_path: Path) -> None:
    for index in range(9):
        image, depth = scene(index)
        as_picture(image, tmp_path / "rgb" / f"10{index}.25.png")
        as_png(depth, tmp_path / "depth" / f"10{index}.31.png", per_unit=5000)
    rows = sequence("test", str(tmp_path), per_unit=5000, gap=0)
    assert rows[0]["image"].endswith("107.25.png")
    np.testing.assert_allclose(rows[0]["depth"], scene(7)[1], atol=0.00011)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("", {"root": "nowhere"}, "there is no folder nowhere"),
        ("", {}, "the folder is not given"),
        ("", {"depth": "z"}, "no folders of pictures and of depth maps, .*looked for: rgb, .* and z"),
        ("", {"gap": 30}, "too few for three splits"),
        ("", {"test": 1.0}, "together below 1"),
        ("", {"per_unit": 0.0}, "per_unit must be positive"),
        ("rgb/003.png", {}, "depth map .*003.png has no picture"),
        ("depth/003.png", {}, "picture .*003.png has no depth map"),
    ],
)
def test_recordings_that_are_refused(change: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    root = folder(tmp_path, 20, "rgb")
    if change:
        (root / change).unlink()
    given = options if "root" in options or message == "the folder is not given" else {"root": str(root)} | options
    with pytest.raises(DatasetError, match=message):
        sequence("train", **given)


def test_nyu_labelled(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="pip install 'stzoo-depth[nyu]'")
    scipy_io = pytest.importorskip("scipy.io", reason="pip install 'stzoo-depth[nyu]'")
    image, depth = scene(0, 48, 64)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        pixels = (image.clip(0, 1) * 255).astype(np.uint8)
        file["images"] = np.stack([0 * pixels, pixels]).transpose(0, 1, 3, 2)
        file["depths"] = np.stack([depth + 1, depth]).transpose(0, 2, 1)
    with pytest.raises(DatasetError, match="there is no .*splits.mat"):
        nyu("test", str(tmp_path))
    scipy_io.savemat(tmp_path / "splits.mat", {"trainNdxs": [[1]], "testNdxs": [[2]]})
    [example] = open_data(f"nyu-depth-v2?root={tmp_path}", task(), "test")
    np.testing.assert_array_equal(example["depth"], depth)
    np.testing.assert_allclose(example["image"], image.clip(0, 1), atol=1 / 255)


def test_nyu_synchronised_frames(tmp_path: Path) -> None:
    image, depth = scene()
    as_picture(image, tmp_path / "kitchen_0028b" / "rgb_00045.png")
    as_png(depth, tmp_path / "kitchen_0028b" / "sync_depth_00045.png")
    line = "/kitchen_0028b/rgb_00045.png /kitchen_0028b/sync_depth_00045.png 518.8579\n"
    (tmp_path / "list.txt").write_text(line)
    rows = nyu("train", str(tmp_path), str(tmp_path / "list.txt"))
    np.testing.assert_allclose(rows[0]["depth"], depth, atol=0.00051)
    for text, message in (
        ("one_word\n", "line 1: 'one_word' names no"),
        (line + "a.png b.png\n", "line 2: there is no"),
    ):
        (tmp_path / "list.txt").write_text(text)
        with pytest.raises(DatasetError, match=message):
            nyu("train", str(tmp_path), str(tmp_path / "list.txt"))
    with pytest.raises(DatasetError, match="there is no list"):
        nyu("train", str(tmp_path), "none.txt")


def test_kitti_lists(tmp_path: Path) -> None:
    image, depth = scene()
    drive = "2011_09_26/2011_09_26_drive_0002_sync"
    true = "2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png"
    for number in (3, 69):
        as_picture(image, tmp_path / drive / "image_02/data" / f"{number:010d}.png")
    as_png(depth, tmp_path / "data_depth_annotated" / "val" / true, per_unit=256)
    for text in (
        f"{drive}/image_02/data/0000000069.png {true} 721.5377\n{drive}/image_02/data/0000000003.png None 721.5377\n",
        f"{drive} 69 l\n{drive} 3 l\n",
    ):
        (tmp_path / "test.txt").write_text(text)
        rows = kitti("test", str(tmp_path), str(tmp_path / "{split}.txt"))
        assert len(rows) == 1, "a frame without a map is not left out"
        np.testing.assert_allclose(rows[0]["depth"], depth, atol=0.0021)
    for text, message in (
        (f"{drive} 3 l\n", "none of the 1 frames"),
        (f"{drive} 70 l\n", "line 1: there is no .*0000000070.png"),
        ("word\n", "line 1: 'word' names no frame"),
    ):
        (tmp_path / "test.txt").write_text(text)
        with pytest.raises(DatasetError, match=message):
            kitti("test", str(tmp_path), str(tmp_path / "test.txt"))
    with pytest.raises(DatasetError, match="the list of frames is not given"):
        kitti("test", str(tmp_path))
