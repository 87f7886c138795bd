"""Volumes: what is read and written, in which orientation, what is refused, and blocks of them through a network."""

from __future__ import annotations

import gzip
import itertools
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
import volumetoy
from torch import nn

import stzoo
from stzoo import layout, tiling
from stzoo.errors import DatasetError, DependencyMissing, InputError, MediaError
from stzoo.fields import Volume, VolumeMask
from stzoo.files import atomic_path, ending
from stzoo.media import volumes
from stzoo.media.volumes import Grid
from stzoo.requirements import Requirements
from stzoo.spec import Task
from stzoo.ui.limits import limits

ANY = Requirements()
VOLUME, MASK = Volume("scan"), VolumeMask("mask", over="scan")
TILTED = np.array([[0, -2, 0, 10], [0, 0, 3, 5], [-1.5, 0, 0, 4], [0, 0, 0, 1]])
"""Axes to the feet, the left and the front; voxels of 1.5, 2 and 3 mm."""


def stored(path: Path, array: np.ndarray, affine: np.ndarray = TILTED) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(np.int16)


# --- reading and writing ----------------------------------------------------------------------------------------------


def test_a_volume_is_turned_to_one_orientation_and_written_in_its_own(tmp_path: Path) -> None:
    given = numbers(5, 6, 7)
    grid = VOLUME.read(stored(tmp_path / "v.nii.gz", given), ANY)
    assert grid.dtype == np.float32
    assert grid.shape == (1, 6, 7, 5)
    assert grid.axes == "ILA"
    assert grid.spacing == (2, 3, 1.5)
    assert np.array_equal(np.asarray(grid[0]), given.transpose(1, 2, 0)[::-1, :, ::-1])
    canonical = nibabel.as_closest_canonical(nibabel.load(tmp_path / "v.nii.gz"))
    assert np.allclose(grid.affine, canonical.affine)
    for name in ("w.nii.gz", "w.nii"):
        VOLUME.write(grid, tmp_path / name)
        again = nibabel.load(tmp_path / name)
        assert np.allclose(again.affine, TILTED)
        assert np.array_equal(again.get_fdata(), given)
    mask = Grid((np.asarray(grid[0]) > 100).astype(np.uint8), grid.affine, grid.axes)
    MASK.write(mask, tmp_path / "m.nii.gz")
    again = nibabel.load(tmp_path / "m.nii.gz")
    assert again.get_data_dtype() == np.uint8
    assert np.allclose(again.affine, TILTED)
    assert np.array_equal(np.asarray(again.dataobj), given > 100)


def test_every_orientation_comes_back(tmp_path: Path) -> None:
    given = numbers(3, 4, 5)
    for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, list(order)] * signs
        affine[:3, 3] = (1, 2, 3)
        grid = VOLUME.read(nibabel.Nifti1Image(given, affine), ANY)
        assert np.allclose(grid.affine[:3, :3], np.eye(3))
        VOLUME.write(grid, tmp_path / "w.nii")
        again = nibabel.load(tmp_path / "w.nii")
        assert np.allclose(again.affine, affine)
        assert np.array_equal(again.get_fdata(), given)


def test_the_same_volume_comes_as_path_bytes_image_array_and_tensor(tmp_path: Path) -> None:
    given = numbers(4, 5, 6).astype(np.float32)
    path = stored(tmp_path / "v.nii.gz", given, np.eye(4))
    np.save(tmp_path / "v.npy", given)
    values: list[Any] = [path, str(path), path.read_bytes(), gzip.decompress(path.read_bytes()), given, given[None]]
    values += [{"path": None, "bytes": path.read_bytes()}, nibabel.load(path), torch.from_numpy(given)]
    values += [tmp_path / "v.npy", stored(tmp_path / "n2.nii", given, np.eye(4))]
    nibabel.save(nibabel.Nifti2Image(given, np.eye(4)), tmp_path / "second.nii")
    for value in [*values, tmp_path / "second.nii", (tmp_path / "second.nii").read_bytes()]:
        assert np.array_equal(np.asarray(VOLUME.read(value, ANY)), given[None])


def test_the_scale_of_a_header_counts_and_labels_may_be_decimal_numbers(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(numbers(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "v.nii")
    scaled = nibabel.load(tmp_path / "v.nii").get_fdata()
    assert np.allclose(VOLUME.read(tmp_path / "v.nii", ANY)[0], scaled)
    labels = np.array([[[0.0, 2.0, 255.0]]])
    assert MASK.read(stored(tmp_path / "l.nii", labels, np.eye(4)), ANY).dtype == np.uint8
    assert np.array_equal(MASK.read(tmp_path / "l.nii", ANY), labels)


def test_a_fourth_axis_is_the_channels_that_a_model_takes(tmp_path: Path) -> None:
    given = numbers(3, 4, 5, 2)
    path = stored(tmp_path / "v.nii.gz", given, np.eye(4))
    grid = VOLUME.read(path, Requirements(channels=2))
    assert np.array_equal(np.asarray(grid), given.transpose(3, 0, 1, 2))
    VOLUME.write(grid, tmp_path / "w.nii.gz")
    assert np.array_equal(nibabel.load(tmp_path / "w.nii.gz").get_fdata(), given)
    single = stored(tmp_path / "s.nii", given[..., :1], np.eye(4))
    assert VOLUME.read(single, Requirements(channels=1)).shape == (1, 3, 4, 5)


@pytest.mark.parametrize("suffix", Volume.suffixes)
def test_every_format_is_written(suffix: str, tmp_path: Path) -> None:
    for field in (VOLUME, MASK):
        value = field.sample(Requirements(native_size=(9, 10, 11)))
        field.write(value, tmp_path / f"{field.name}{suffix}")
        if suffix in field.reads:
            assert np.array_equal(field.read(tmp_path / f"{field.name}{suffix}", ANY), value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"mask{suffix}", f"scan{suffix}"]


def test_where_a_grid_is_survives_arithmetic_slices_and_processes() -> None:
    grid = Grid(np.ones((1, 2, 3, 4), np.float32), TILTED, "ILA")
    others: list[Any] = [grid * 2, grid[0], grid.astype(np.uint8), pickle.loads(pickle.dumps(grid))]
    for other in others:
        assert np.array_equal(other.affine, TILTED)
        assert other.axes == "ILA"


def test_numbers_that_are_not_known_are_taken_as_0_with_a_warning(tmp_path: Path) -> None:
    given = np.array([[[np.nan, 2.0]]], np.float32)
    with pytest.warns(UserWarning, match="1 values in .* are NaN and taken as 0"):
        grid = VOLUME.read(stored(tmp_path / "v.nii", given, np.eye(4)), ANY)
    assert np.array_equal(np.asarray(grid), [[[[0, 2]]]])


# --- refusing ---------------------------------------------------------------------------------------------------------


def flawed(what: str, folder: Path) -> Any:
    """Something that is no volume."""
    if what == "text":
        (folder / "v.nii").write_text("this is not a volume")
    elif what == "gzip":
        (folder / "v.nii.gz").write_bytes(b"\x1f\x8b" + b"no gzip" * 9)
        return folder / "v.nii.gz"
    elif what == "cut":
        whole = stored(folder / "v.nii", numbers(8, 8, 8)).read_bytes()
        (folder / "v.nii").write_bytes(whole[:600])
    elif what == "cut gzip":
        whole = stored(folder / "v.nii.gz", numbers(8, 8, 8)).read_bytes()
        (folder / "v.nii.gz").write_bytes(whole[:300])
        return folder / "v.nii.gz"
    elif what == "huge":
        image = nibabel.Nifti1Image(numbers(2, 2, 2), np.eye(4))
        content = bytearray(image.to_bytes())
        content[42:48] = np.array([30000, 30000, 30000], "<i2").tobytes()
        (folder / "v.nii").write_bytes(bytes(content))
    elif what == "flat":
        image = nibabel.Nifti1Image(numbers(2, 2, 2), np.eye(4))
        image.header["sform_code"], image.header["srow_x"] = 1, (0, 0, 0, 0)
        content = bytearray(image.to_bytes())
        content[280:296] = bytes(16)
        (folder / "v.nii").write_bytes(bytes(content))
    elif what == "colours":
        kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        stored(folder / "v.nii", np.zeros((2, 2, 2), kind))
    else:
        (folder / "v.mgz").write_bytes(b"1234")
        return folder / "v.mgz"
    return folder / "v.nii"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("text", "cannot be read as NIfTI"),
        ("gzip", "cannot be read as NIfTI"),
        ("cut", "cannot be read as NIfTI"),
        ("cut gzip", "cannot be read as NIfTI"),
        ("huge", "cannot be read as NIfTI|memory does not suffice"),
        ("flat", "affine .* cannot be inverted"),
        ("colours", "are no volume"),
        ("mgz", r"not a volume stzoo reads\. Endings: \.nii\.gz"),
    ],
)
def test_files_that_hold_no_volume_are_refused_with_the_reason(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        VOLUME.read(flawed(what, tmp_path), ANY)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nibabel.Nifti1Image(np.zeros((4, 4, 4, 20), np.int16), np.eye(4)), "4x4x4x20 are 20 volumes.*four_to_three"),
        (nibabel.Nifti1Image(np.zeros((4, 4, 1, 1, 3), np.int16), np.eye(4)), "5 axes, not three"),
        (nibabel.Nifti1Image(np.zeros((4, 0, 4), np.int16), np.eye(4)), "the volume is empty"),
        (np.zeros((4, 4)), r"shape \(4, 4\) is not a volume"),
        (np.zeros((0, 4, 4)), "is empty"),
        (np.full((2, 2, 2), np.nan), "all are NaN"),
        (np.full((2, 2, 2), np.inf), "8 values are infinite"),
        (np.zeros((3, 4, 4, 4)), "3 channels, the model takes 1"),
        ([["a"]], "is a list"),
    ],
)
def test_values_that_are_no_volume_are_refused_with_the_reason(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        VOLUME.read(value, Requirements(channels=1))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([[[0, 3]]]), r"class 3, the model knows 2 \(0 to 1\)"),
        (np.array([[[0.2, 0.7]]]), "look like probabilities"),
        (np.array([[[-1]]]), "the number -1 is not between 0 and 255"),
        (np.zeros((2, 3, 3, 3), int), "is not a mask of a volume"),
    ],
)
def test_masks_with_wrong_numbers_are_refused(value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        MASK.read(value, Requirements(classes=("one", "two")))


def test_small_volumes_and_those_of_another_place_are_refused() -> None:
    with pytest.raises(InputError, match="4x4x3 voxels, the model needs at least 4x4x4"):
        VOLUME.read(np.zeros((4, 4, 3)), Requirements(minimum=4))
    one, moved = Grid(np.zeros((4, 4, 4)), np.diag([2, 2, 2, 1])), np.diag([2.0, 2, 2, 1])
    moved[0, 3] = 5
    with pytest.raises(InputError, match="up to 5 mm apart"):
        volumes.check_same_place(one, Grid(one, moved), "these")
    with pytest.raises(InputError, match="of 4x4x4 and 4x4x3 voxels"):
        volumes.check_same_place(one, one[..., 1:], "these")
    volumes.check_same_place(one, np.zeros((4, 4, 4)), "an array, of which nobody knows where it is")


def test_without_nibabel_arrays_are_read_and_files_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = stored(tmp_path / "v.nii", numbers(2, 2, 2))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'stzoo\[volumes\]'"):
        VOLUME.read(path, ANY)
    assert VOLUME.read(np.ones((2, 2, 2)), ANY).shape == (1, 2, 2, 2)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_slices_are_shown_with_the_head_up_and_right_on_the_right() -> None:
    array = np.zeros((1, 10, 12, 14), np.float32)
    array[0, 9], array[0, :, 11], array[0, :, :, 13] = 1, 2, 3
    shown = np.asarray(volumes.planes(Grid(array)))[..., 0].astype(int)
    axial, coronal, sagittal = shown[:12, :10], shown[:, 14:24], shown[:, 28:]
    assert (axial[0] > axial[5:, :-1].max()).all(), "the front is on top"
    assert (axial[1:, -1] > axial[5, 0]).all(), "right is on the right"
    assert (coronal[0] > coronal[1:].max()).all(), "the head is on top"
    assert (sagittal[1:, -1] > sagittal[5, 0]).all(), "the front is on the right"
    wide = volumes.planes(Grid(array, np.diag([1.0, 1, 3, 1])))
    assert wide.size == (10 + 4 + 10 + 4 + 12, 42), "voxels are as large as the header says"


def test_where_masks_differ_is_red() -> None:
    truth = np.zeros((8, 8, 8), np.uint8)
    mask = truth.copy()
    mask[4, 4, 4] = 1
    picture = MASK.error(mask, truth)
    assert picture is not None
    assert (np.asarray(picture) == (230, 51, 38)).all(-1).sum() == 3, "the place is in all three planes"
    assert MASK.error(mask, truth[1:]) is None


# --- names of files ---------------------------------------------------------------------------------------------------


def test_an_ending_may_have_two_parts(tmp_path: Path) -> None:
    assert [ending(Path(name)) for name in ("a.PNG", "a.b.nii.gz", "a.nii", "a", "a.tar.gz", ".gz")] == [
        ".png", ".nii.gz", ".nii", "", ".tar.gz", "",
    ]  # fmt: skip
    with atomic_path(tmp_path / "a.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_volumes_and_masks_in_folders_are_partners_whatever_their_endings(tmp_path: Path) -> None:
    task = Task("t", inputs=(Volume("scan"),), outputs=(VolumeMask("mask"),))
    for name in ("scan", "mask"):
        (tmp_path / name).mkdir()
    stored(tmp_path / "scan/a.b.nii.gz", numbers(2, 2, 2))
    stored(tmp_path / "mask/a.b.nii", numbers(2, 2, 2))
    found = layout.find(str(tmp_path), task, None)
    assert [Path(path).name for path in found.columns["mask"]] == ["a.b.nii"]
    stored(tmp_path / "scan/c.nii.gz", numbers(2, 2, 2))
    with pytest.raises(DatasetError, match=r"c\.nii\.gz has no partner mask/c\.\*"):
        layout.find(str(tmp_path), task, None)


# --- blocks -----------------------------------------------------------------------------------------------------------

REACH = 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 2, 3, padding=1)).eval()


@torch.inference_mode()
def test_a_volume_in_blocks_gives_what_the_whole_gives() -> None:
    module, volume = network(), torch.rand(1, 1, 37, 41, 30, generator=torch.Generator().manual_seed(1))
    whole = module(volume)
    seen: list[torch.Size] = []

    def function(block: torch.Tensor) -> Any:
        seen.append(block.shape[2:])
        return module(block), module(block).argmax(1)

    found, classes = tiling.tiled(function, volume, tile=20, overlap=tiling.overlap_for(REACH), axes=3)
    assert len(seen) == 18 and max(map(max, seen)) <= 20
    assert torch.allclose(found, whole, atol=1e-6)
    assert torch.equal(classes, whole.argmax(1))
    for padding in ("edge", "reflect"):
        padded = tiling.tiled(module, volume, tile=24, overlap=8, multiple=8, padding=padding, axes=3)
        assert padded.shape == whole.shape
        assert torch.allclose(padded[..., :32, :32, :24], whole[..., :32, :32, :24], atol=1e-6)


@torch.inference_mode()
def test_a_block_that_memory_does_not_suffice_for_is_halved_along_each_axis() -> None:
    module, volume = network(), torch.rand(1, 1, 24, 24, 24)

    def function(block: torch.Tensor) -> torch.Tensor:
        if block[0, 0].numel() > 16**3:
            raise RuntimeError("out of memory")
        return module(block)  # type: ignore[no-any-return]

    assert torch.allclose(tiling.tiled(function, volume, overlap=6, axes=3), module(volume), atol=1e-6)
    with pytest.raises(InputError, match="memory does not suffice for 24x24x24 pixels"):
        tiling.tiled(function, volume, overlap=6, axes=3, halve=False)


def test_volumes_are_cut_where_they_are_larger_than_the_tile_cubed() -> None:
    needs = Requirements(reach=REACH, tile=32)
    assert tiling.settings(needs, {}, 32, 32, 32)[0] == 0
    assert tiling.settings(needs, {}, 32, 32, 33)[0] == 32
    assert tiling.settings(needs, {}, 32, 32)[0] == 0


# --- a task with volumes ----------------------------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with volumetoy.TOY.installed(tmp_path):
        yield


@pytest.mark.usefixtures("toy")
def test_a_mask_is_predicted_and_saved_where_the_volume_is(tmp_path: Path) -> None:
    given = np.zeros((20, 21, 22), np.float32)
    given[4:9, 10:, 3:7] = 0.5
    path = stored(tmp_path / "v.nii.gz", given)
    predictor = stzoo.load("finding-one")
    prediction = predictor.predict(path, tile=8)
    assert np.array_equal(prediction.mask, predictor.predict(path, tile=0).mask)
    assert prediction.mask.shape == (21, 22, 20)
    prediction.save(tmp_path / "m.nii.gz")
    saved = nibabel.load(tmp_path / "m.nii.gz")
    assert np.allclose(saved.affine, TILTED)
    assert np.array_equal(np.asarray(saved.dataobj), given > 0.3)
    assert prediction.figure().width > 900
    with pytest.raises(MediaError, match=r"cannot write mask as 'm\.mgz'.*\.nii\.gz"):
        prediction.save(tmp_path / "m.mgz")


@pytest.mark.usefixtures("toy")
def test_what_a_page_sends_to_the_browser_is_every_voxel(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'stzoo[demo]'")
    from PIL import Image

    from stzoo.ui.volumes import VolumeMaskWidget, VolumeWidget

    needs = Requirements(classes=("air", "tissue", "kernel"))
    scan = VOLUME.sample(Requirements(native_size=(12, 10, 8)))
    mask = MASK.sample(Requirements(native_size=(12, 10, 8), classes=needs.classes))
    sent = VolumeMaskWidget(MASK, needs, limits({})).show(mask, tmp_path, scan)[0]
    assert sent["shape"] == [12, 10, 8]
    sheet = np.asarray(Image.open(sent["mask"]["file"]["path"]))
    columns = sent["mask"]["columns"]
    for z in range(8):
        top, left = z // columns * 10, z % columns * 12
        assert np.array_equal(sheet[top : top + 10, left : left + 12], np.asarray(mask)[:, :, z].T)
    assert [entry["name"] for entry in sent["classes"]] == ["air", "tissue", "kernel"]
    alone = VolumeMaskWidget(MASK, needs, limits({})).show(mask, tmp_path, None)[0]
    assert alone["volume"] is None and alone["mask"]
    path = stored(tmp_path / "v.nii.gz", numbers(30, 30, 30))
    assert VolumeWidget(VOLUME, ANY, limits({})).read(str(path)).shape == (1, 30, 30, 30)
    with pytest.raises(InputError, match=r"0\.027 million voxels, this demo takes 0\.02"):
        VolumeWidget(VOLUME, ANY, limits({"max_pixels": 0.02})).read(str(path))
    with pytest.raises(InputError, match="million voxels"):
        VolumeMaskWidget(MASK, ANY, limits({"max_pixels": 0.02})).read(str(path))


def test_shades_ignore_a_few_bright_voxels() -> None:
    grid = Grid(np.linspace(0, 100, 4096, dtype=np.float32).reshape(1, 16, 16, 16))
    grid[0, 0, 0, 0] = 1e6
    grey = volumes.shades(grid)
    assert 120 < np.median(grey) < 135
