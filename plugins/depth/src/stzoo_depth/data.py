"""Depth data sets as they are published: RGB-D recordings, NYU Depth v2, KITTI. Pictures and maps are read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stzoo.errors import DatasetError, DependencyMissing
from stzoo.fields import Depth
from stzoo.files import IMAGES, files_in, natural
from stzoo.layout import existing
from stzoo.media.depths import read_depth

PICTURES = ("rgb", "color", "colour", "image", "images")
MAPS = ("depth", "depth_mm", "depths")
"""Names of sub-folders that are tried, in this order."""


class Frames(Sequence[dict[str, Any]]):
    """``{"image": a path, "depth": (H, W) in metres}``, read when asked for."""

    def __init__(self, files: Sequence[tuple[Path, Path]], per_unit: float) -> None:
        self.files, self.per_unit = files, per_unit

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        image, depth = self.files[index]
        return {"image": str(image), "depth": read_depth(depth, "depth", "m", self.per_unit)}


def slambook2(split: str) -> Frames:
    """A frame of a Kinect in a dining room, 320x240, with holes."""
    folder = Path(__file__).parent / "data"
    return Frames([(folder / "slambook2-picture.png", folder / "slambook2-depth.png")], 1000)


def sequence(
    split: str,
    root: str = "",
    rgb: str = "",
    depth: str = "",
    per_unit: float = 1000.0,
    validation: float = 0.1,
    test: float = 0.2,
    gap: int = 5,
) -> Frames:
    """Recordings of an RGB-D camera, each split in time: the last frames are test data, those before validation data.

    Neighbouring frames show almost the same, so that frames drawn at random would be known already.

    Args:
        root: a recording, or a folder of recordings. A recording has a folder of pictures and one of maps, of which those
            of the same name belong together; where names differ (TUM's are times), those at the same place in order.
        rgb, depth: names of these folders; by default the first there is of rgb, color, colour, image, images, and of
            depth, depth_mm, depths.
        per_unit: how many of a 16-bit picture's numbers are one metre (TUM: 5000; 0 in a picture means not known).
        validation, test: shares of each recording.
        gap: frames between the splits that belong to none.

    Raises:
        DatasetError: there is no such folder, a picture has no map, or a recording is too short.
    """
    folder = existing(root, "rgbd-sequence?root=kitchen")
    if per_unit <= 0 or gap < 0 or validation <= 0 or test <= 0 or validation + test >= 1:
        raise DatasetError(
            "per_unit must be positive, gap at least 0, validation and test positive and together below 1, "
            f"got {per_unit:g}, {gap}, {validation:g} and {test:g}"
        )
    files: list[tuple[Path, Path]] = []
    for place in _recordings(folder, rgb, depth):
        frames = _paired(place, rgb, depth)
        last = round(len(frames) * (1 - test))
        middle = round(len(frames) * (1 - test - validation))
        parts = {
            "train": frames[: max(middle - gap, 0)],
            "validation": frames[middle : max(last - gap, middle)],
            "test": frames[last:],
        }
        if not all(parts.values()):
            raise DatasetError(
                f"{place} has {len(frames)} frames, too few for three splits with a gap of {gap} between them",
                "Lower gap, or give other shares: &gap=0&validation=0.2&test=0.2",
            )
        files += parts[split]
    return Frames(files, per_unit)


def _recordings(folder: Path, rgb: str, depth: str) -> Iterator[Path]:
    def is_one(place: Path) -> bool:
        return all(_inside(place, name, usual) is not None for name, usual in ((rgb, PICTURES), (depth, MAPS)))

    found = [folder] if is_one(folder) else [item for item in folder.iterdir() if item.is_dir() and is_one(item)]
    if not found:
        wanted = " and ".join(f"{name or ', '.join(usual)}" for name, usual in ((rgb, PICTURES), (depth, MAPS)))
        raise DatasetError(
            f"{folder} has no folders of pictures and of depth maps, nor has a folder in it (looked for: {wanted})",
            "Name them: &rgb=NAME&depth=NAME",
        )
    yield from sorted(found, key=lambda item: natural(item.name))


def _inside(place: Path, name: str, usual: Sequence[str]) -> Path | None:
    return next((place / item for item in ([name] if name else usual) if (place / item).is_dir()), None)


def _paired(place: Path, rgb: str, depth: str) -> list[tuple[Path, Path]]:
    """Pictures with their maps, in natural order. Raises DatasetError naming the first that has none."""
    folders = [_inside(place, name, usual) for name, usual in ((rgb, PICTURES), (depth, MAPS))]
    pictures, maps = (
        _files(item, endings) for item, endings in zip(folders, (IMAGES, Depth.reads), strict=True) if item
    )
    by_name = {path.stem: path for path in maps}
    if not {path.stem for path in pictures} & by_name.keys() and len(pictures) == len(maps):
        return list(zip(pictures, maps, strict=True))
    for path in pictures:
        if path.stem not in by_name:
            raise DatasetError(f"the picture {path} has no depth map: there is no {folders[1]}/{path.stem}.png")
    if others := by_name.keys() - {path.stem for path in pictures}:
        raise DatasetError(f"the depth map {by_name[min(others)]} has no picture in {folders[0]}")
    return [(path, by_name[path.stem]) for path in pictures]


def _files(folder: Path, endings: Sequence[str]) -> list[Path]:
    found = files_in(folder, endings)
    if not found:
        raise DatasetError(f"{folder} has no files that can be read", f"Endings: {', '.join(endings)}")
    return found


# --- NYU Depth v2 -----------------------------------------------------------------------------------------------------


class Labelled(Sequence[dict[str, Any]]):
    """Images of ``nyu_depth_v2_labeled.mat``: ``{"image": uint8 (3,480,640), "depth": (480,640) in metres}``."""

    def __init__(self, path: Path, indices: Sequence[int]) -> None:
        self.path, self.indices = path, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        with _h5py().File(self.path) as file:  # MATLAB counts columns first
            place = self.indices[index]
            image = np.asarray(file["images"][place]).transpose(0, 2, 1)
            depth = np.asarray(file["depths"][place], np.float32).T
        return {"image": np.ascontiguousarray(image), "depth": np.ascontiguousarray(depth)}


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise DependencyMissing(
            "nyu_depth_v2_labeled.mat is read with h5py", "Run: pip install 'stzoo-depth[nyu]'"
        ) from None
    return h5py


def nyu(split: str, root: str = "", list: str = "", per_unit: float = 1000.0) -> Sequence[dict[str, Any]]:
    """NYU Depth v2 (Silberman et al., ECCV 2012).

    Args:
        split: "train" (795 images of the labelled set) or "test" (654).
        root: folder with ``nyu_depth_v2_labeled.mat`` and ``splits.mat`` (``trainNdxs``, ``testNdxs``); or that the paths in
            ``list`` start at.
        list: a text file of the frames instead: on each line a picture, its map as a 16-bit PNG, and whatever else
            (BTS's ``nyudepthv2_train_files_with_gt.txt`` of the synchronised frames).
        per_unit: how many numbers of such a PNG are one metre.

    Raises:
        DatasetError: a file is missing, or is no such list.
        DependencyMissing: h5py or SciPy, for the labelled set.
    """
    folder = existing(root, "nyu-depth-v2?root=NYU")
    if list:
        return Frames([*_listed(folder, _given(list))], per_unit)
    labelled, splits = folder / "nyu_depth_v2_labeled.mat", folder / "splits.mat"
    for path in (labelled, splits):
        if not path.is_file():
            raise DatasetError(f"there is no {path}", "Put both files there, or name a list of frames: &list=FILE")
    _h5py()
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DependencyMissing("splits.mat is read with SciPy", "Run: pip install 'stzoo-depth[nyu]'") from None
    numbers = loadmat(splits)[f"{split}Ndxs"].ravel()
    return Labelled(labelled, [int(number) - 1 for number in numbers])


def _listed(folder: Path, file: Path) -> Iterator[tuple[Path, Path]]:
    """Pictures and maps on the lines of a list; lines whose map is called None are left out. Raises DatasetError."""
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        words = line.split()
        if not words or (len(words) > 1 and words[1] == "None"):
            continue
        if len(words) < 2:
            raise DatasetError(f"{file}, line {number}: {line[:60]!r} names no picture and depth map")
        yield _there(folder, words[0], file, number), _there(folder, words[1], file, number)


def _there(folder: Path, name: str, file: Path, number: int) -> Path:
    path = folder / name.lstrip("/")
    if not path.is_file():
        raise DatasetError(f"{file}, line {number}: there is no {path}", "root=FOLDER is where its paths start")
    return path


# --- KITTI ------------------------------------------------------------------------------------------------------------


def kitti(split: str, root: str = "", list: str = "", depth: str = "", per_unit: float = 256.0) -> Frames:
    """KITTI's raw drives (Geiger et al., IJRR 2013) with the annotated maps (Uhrig et al., 3DV 2017).

    Args:
        split: for whoever asks; what belongs to it is in ``list``.
        root: folder of the raw drives, ``2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png`` ….
        list: a text file of frames: a picture and its map on each line (BTS's ``eigen_test_files_with_gt.txt``); or a drive,
            a frame's number and l or r (monodepth2's ``splits/eigen/test_files.txt``). ``{split}`` stands for the split.
        depth: folder of the maps, with ``train/`` and ``val/`` or without; default: ``data_depth_annotated`` beside or in
            ``root``.
        per_unit: how many numbers of a map's PNG are one metre.

    Frames that have no annotated map (KITTI annotates neither the first nor the last five of a drive) are left out.

    Raises:
        DatasetError: a folder or a picture is missing, no frame has a map, or the file is no such list.
    """
    folder = existing(root, "kitti-depth?root=KITTI&list=eigen_test_files_with_gt.txt")
    if not list:
        raise DatasetError(
            "the list of frames is not given", "kitti-depth?root=KITTI&list=eigen_test_files_with_gt.txt"
        )
    maps = existing(depth, "&depth=FOLDER") if depth else _annotated(folder)
    file, found, missing = _given(list.replace("{split}", split)), [], 0
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) >= 2 and words[1] == "None":
            missing += 1
            continue
        if len(words) == 3 and words[2] in ("l", "r"):
            camera, drive = {"l": "image_02", "r": "image_03"}[words[2]], Path(words[0])
            name = f"{int(words[1]):010d}.png"
            image = drive / camera / "data" / name
            true = Path(drive.name) / "proj_depth" / "groundtruth" / camera / name
        elif len(words) >= 2:
            image, true = Path(words[0]), Path(words[1])
        else:
            raise DatasetError(f"{file}, line {number}: {line[:60]!r} names no frame")
        picture = _picture(folder, image, file, number)
        place = next((path for part in ("", "train", "val") if (path := maps / part / true).is_file()), None)
        if place is None:
            missing += 1
        else:
            found.append((picture, place))
    if not found:
        raise DatasetError(
            f"none of the {missing} frames in {file} has a depth map in {maps}", "Say where: &depth=FOLDER"
        )
    return Frames(found, per_unit)


def _annotated(folder: Path) -> Path:
    places = (folder / "data_depth_annotated", folder.parent / "data_depth_annotated", folder)
    return next(path for path in places if path.is_dir())


def _picture(folder: Path, image: Path, file: Path, number: int) -> Path:
    for path in (folder / image, (folder / image).with_suffix(".jpg")):
        if path.is_file():
            return path
    raise DatasetError(f"{file}, line {number}: there is no {folder / image}", "root=FOLDER is where its paths start")


# --- shared -----------------------------------------------------------------------------------------------------------


def _given(name: str) -> Path:
    file = Path(name).expanduser()
    if not file.is_file():
        raise DatasetError(f"there is no list {name}")
    return file
