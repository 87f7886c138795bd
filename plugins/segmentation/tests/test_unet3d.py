"""3-D U-Net: its geometry, the brain network against its frozen graph, volumes in, data sets, learning, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import stzoo
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, FormatError, InputError
from stzoo.media.volumes import Grid
from stzoo.recipe import Recipe
from stzoo.registry import registry
from stzoo.requirements import Requirements
from stzoo.spec import Task
from stzoo_segmentation import frozen_graph, volumes
from stzoo_segmentation.unet3d import UNet3d, receptive_field
from stzoo_segmentation.volume_recipe import VolumeRecipe

GOLDEN = Path(__file__).parent / "goldens/deepbrain-graph.safetensors"
SMALL = {"width": 4, "levels": 2, "classes": ("air", "ball")}


def head() -> np.ndarray:
    """A skull around something brain-like, 128x128x128, from formulas alone."""
    at = (np.arange(128) + 0.5) / 128 - 0.5
    x, y, z = np.meshgrid(at, at, at, indexing="ij")
    radius = np.sqrt(x**2 + (y / 1.2) ** 2 + z**2)
    shade = np.where(radius < 0.42, 0.25, 0.0) + np.where(radius < 0.40, -0.2, 0) + np.where(radius < 0.34, 0.45, 0)
    return (shade * (1 + 0.2 * np.sin(40 * x) * np.sin(37 * y) * np.cos(31 * z))).astype(np.float32)


def ball(seed: int, side: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball somewhere in noise, and where it is."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0.35, 0.65, 3) * side
    inside = sum((axis - at) ** 2 for axis, at in zip(np.ogrid[:side, :side, :side], middle, strict=True)) < 30
    return (100 + 20 * rng.standard_normal((side,) * 3) + 150 * inside).astype(np.float32), inside.astype(np.uint8)


def stored(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-2.0, 2, 2, 1])), path)


def balls(root: Path, count: int = 4, ending: str = ".nii.gz") -> Path:
    for number in range(count):
        volume, mask = ball(number)
        stored(root / f"images/b{number}{ending}", volume)
        stored(root / f"labels/b{number}{ending}", mask)
    return root


# --- the network ------------------------------------------------------------------------------------------------------


def test_the_published_network_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        module = UNet3d(3, 3, width=32, levels=4)
    assert sum(parameter.numel() for parameter in module.parameters()) == 19_069_955  # MICCAI 2016, section 2
    shapes = [tuple(layer.weight.shape[:2]) for layer in module.modules() if isinstance(layer, torch.nn.Conv3d)]
    assert shapes == [
        (32, 3), (64, 32), (64, 64), (128, 64), (128, 128), (256, 128), (256, 256), (512, 256),
        (256, 768), (256, 256), (128, 384), (128, 128), (64, 192), (64, 64), (3, 64),
    ]  # fmt: skip


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("up", ["transposed", "trilinear"])
@pytest.mark.parametrize("form", ["paper", "compact"])
def test_every_variant_keeps_the_size(form: str, up: str, norm: str) -> None:
    module = UNet3d(2, 3, width=2, levels=3, form=form, up=up, norm=norm, classes=("a", "b", "c"))
    assert module(torch.rand(2, 2, 16, 8, 24)).shape == (2, 3, 16, 8, 24)
    assert module.requirements.multiple == (8 if form == "compact" else 4)
    assert (module.requirements.reach is None) == (norm == "instance")


@pytest.mark.parametrize("up", ["transposed", "trilinear"])
@pytest.mark.parametrize("form", ["paper", "compact"])
def test_nothing_further_away_than_the_reach_changes_a_voxel(form: str, up: str) -> None:
    module = UNet3d(width=2, levels=2, form=form, up=up).eval()
    reach, side = module.requirements.reach, 48
    assert reach
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_().add_(0.01)  # so that nothing cancels out, and no ReLU stops it
    furthest = 0
    for place in range(24, 24 + module.multiple):
        for slope in (-1, 1):  # which of two voxels pooling takes
            ramp = side + slope * torch.arange(float(side))[:, None, None]
            volume = (ramp + torch.rand(1, 1, side, 8, 8)).requires_grad_()
            module(volume)[0, 0, place].sum().backward()
            seen = volume.grad[0, 0].abs().amax((1, 2)).nonzero().flatten()  # type: ignore[index]
            furthest = max(furthest, place - int(seen.min()), int(seen.max()) - place)
    assert furthest == reach == receptive_field(2, compact=form == "compact", trilinear=up == "trilinear")


# --- deepbrain --------------------------------------------------------------------------------------------------------


def test_the_brain_network_gives_what_its_frozen_graph_gives() -> None:
    module = stzoo.load("unet3d-brain", device="cpu").module
    assert sum(parameter.numel() for parameter in module.parameters()) == 171_465
    with torch.inference_mode():
        found = module(torch.from_numpy(head())[None, None]).sigmoid()[0, 0, 4::8, 4::8, 4::8]
    torch.testing.assert_close(found, load_file(GOLDEN)["probabilities"], rtol=1e-4, atol=1e-5)


def varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content, value = content + bytes([value & 127 | 128]), value >> 7
    return content + bytes([value])


def part(number: int, content: bytes | int) -> bytes:
    """One part of a protocol buffer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(name: str, array: np.ndarray) -> bytes:
    """A node of a frozen graph that holds a tensor: one number as a field of its own, more as bytes."""
    dims = b"".join(part(2, part(1, length)) for length in array.shape)
    numbers = part(4, array.tobytes()) if array.size > 1 else part(5, array.tobytes())
    tensor = part(1, 1) + part(2, dims) + numbers
    value = part(1, b"value") + part(2, part(8, tensor))
    return part(1, part(1, name.encode()) + part(2, b"Const") + part(5, value))


def graph_of(state: dict[str, torch.Tensor]) -> bytes:
    """The weights as deepbrain's graph holds them."""
    nodes = []
    for key, tensor in state.items():
        place, what = key.rsplit(".", 1)
        block, _, rest = place.partition(".")
        first, _, second = rest.partition(".")
        number = {"head": 9, "down": 2 * int(first or 0) + int(second or 0) // 2, "up": 6 + int(first or 0)}.get(block)
        name = (
            f"conv3d_transpose{f'_{first}' * (first != '0')}"
            if number is None
            else f"conv3d{f'_{number}' * bool(number)}"
        )
        moved = tensor.permute(2, 3, 4, 1, 0) if what == "weight" else tensor
        nodes.append(constant(f"{name}/{'kernel' if what == 'weight' else 'bias'}", moved.contiguous().numpy()))
    nodes.append(constant("dropout/cond/dropout/keep_prob", np.full((), 0.7, np.float32)))
    nodes.append(part(1, part(1, b"prob") + part(2, b"Sigmoid") + part(3, b"conv3d_9/BiasAdd")))
    return b"".join(nodes) + part(4, part(1, 27))


def test_a_frozen_graph_is_imported(tmp_path: Path) -> None:
    module = stzoo.load("unet3d-brain", device="cpu").module
    (path := tmp_path / "graph.pb").write_bytes(graph_of(module.state_dict()))
    imported = stzoo.import_checkpoint(path, device="cpu")
    assert imported.architecture.name == "unet3d"
    assert imported.config["side"] == 128
    for name, tensor in imported.module.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name]), name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff" * 40, "not a readable frozen graph"),
        (part(4, part(1, 27)), "no constants of type float32"),
        (constant("conv3d/kernel", np.zeros((2, 2), np.float32))[:-3], "an entry is cut off"),
        (constant("other/kernel", np.zeros((2, 2), np.float32)), "was not recognised"),
        (
            constant("conv3d/kernel", np.zeros((3, 3, 3, 1, 8), np.float32))
            + constant("conv3d_transpose_2/kernel", np.zeros((3, 3, 3, 8, 16), np.float32)),
            "of deepbrain, but 21 of its tensors are missing",
        ),
    ],
)
def test_what_is_no_graph_of_a_brain_network_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    (path := tmp_path / "graph.pb").write_bytes(content)
    with pytest.raises(FormatError, match=said):
        stzoo.import_checkpoint(path, device="cpu")
    with pytest.raises(FormatError, match="not a readable frozen graph"):
        frozen_graph.read_graph(tmp_path / "nothing.pb")


# --- volumes in, masks out --------------------------------------------------------------------------------------------


def test_resizing_is_that_of_scikit_image() -> None:
    from skimage.transform import resize

    volume = np.random.default_rng(0).random((30, 41, 23)).astype(np.float32)
    for size in ((16, 16, 16), (11, 20, 9), (44, 50, 30)):
        wanted = resize(volume, size, order=1, mode="constant", anti_aliasing=True)  # type: ignore[no-untyped-call]
        found = volumes.resized(torch.from_numpy(volume)[None], size)[0]
        torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=0, atol=1e-6)


def test_a_volume_in_blocks_is_that_volume_and_a_mask_is_where_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = stzoo.create("unet3d", device="cpu", **SMALL)
    volume, _ = ball(0, 41)
    stored(tmp_path / "v.nii.gz", volume)
    whole = predictor.predict(tmp_path / "v.nii.gz", tile=0)
    assert np.array_equal(predictor.predict(tmp_path / "v.nii.gz", tile=48 // 2 + 24, overlap=24).mask, whole.mask)
    parts = predictor.predict(tmp_path / "v.nii.gz", tile=32, overlap=16).mask
    assert np.asarray(parts != whole.mask).mean() < 0.01, "an overlap smaller than the reach costs little"
    assert 0 < whole.mask.mean() < 1
    whole.save(tmp_path / "m.nii.gz")
    image = nibabel.load(tmp_path / "m.nii.gz")
    assert image.shape == volume.shape
    assert np.allclose(image.affine, np.diag([-2.0, 2, 2, 1]))
    assert np.array_equal(np.asarray(image.dataobj), np.asarray(whole.mask)[::-1])


def test_a_network_that_sees_cubes_gives_a_mask_of_the_volumes_size() -> None:
    torch.manual_seed(0)
    for channels, names in ((1, ("air", "ball")), (3, ("a", "b", "c"))):
        options: dict[str, Any] = {"out_channels": channels, "classes": names, "side": 16}
        predictor = stzoo.create("unet3d", device="cpu", form="compact", width=2, levels=2, **options)
        mask = predictor.predict(ball(1, 23)[0][:, :19]).mask
        assert mask.shape == (23, 19, 23)
        assert mask.max() < len(names)


def test_classes_of_a_resized_volume_are_those_of_the_largest_probability() -> None:
    scores = torch.rand(4, 5, 6, 7, generator=torch.Generator().manual_seed(0)).softmax(0)
    wanted = volumes.resized(scores, (9, 10, 11)).argmax(0)
    assert torch.equal(volumes.enlarged(scores, (9, 10, 11), 0.5).long(), wanted)


@pytest.mark.parametrize(("how", "said"), [("zscore", "all numbers are the same"), ("maximum", "no number is above 0")])
def test_volumes_without_contrast_are_refused(how: str, said: str) -> None:
    predictor = stzoo.create("unet3d", device="cpu", normalise=how, **SMALL)
    with pytest.raises(InputError, match=f"{said}, so that there is nothing to see"):
        predictor.predict(np.zeros((8, 8, 8), np.float32))


def test_what_a_network_cannot_be_or_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 names of classes for 2 channel"):
        stzoo.create("unet3d", classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match="levels=1 must be a whole number from 2 to 8"):
        stzoo.create("unet3d", levels=1)
    predictor = stzoo.create("unet3d", device="cpu", **SMALL)
    with pytest.raises(InputError, match="every side a multiple of 2"):
        predictor.module(torch.zeros(1, 1, 8, 8, 7))
    with pytest.raises(InputError, match="2 channels, the model takes 1"):
        predictor.predict(np.zeros((2, 8, 8, 8), np.float32))
    with pytest.raises(InputError, match="tile=8 is too small with an overlap of"):
        predictor.predict(ball(0)[0], tile=8)
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8, 5), np.int16), np.eye(4))
    with pytest.raises(InputError, match="8x8x8x5 are 5 volumes, over time or otherwise"):
        predictor.predict(image)


# --- data sets --------------------------------------------------------------------------------------------------------


def test_layouts_of_folders(tmp_path: Path) -> None:
    balls(tmp_path / "one")
    found = volumes.folder("train", str(tmp_path / "one"))
    assert [Path(row["mask"]).name for row in found] == [f"b{number}.nii.gz" for number in range(4)]
    (tmp_path / "nnunet/imagesTr").mkdir(parents=True)
    (tmp_path / "nnunet/labelsTr").mkdir()
    for row in found:
        name = Path(row["volume"]).name
        Path(row["volume"]).rename(tmp_path / "nnunet/imagesTr" / name.replace(".nii", "_0000.nii"))
        Path(row["mask"]).rename(tmp_path / "nnunet/labelsTr" / name)
    assert len(volumes.folder("train", str(tmp_path / "nnunet"))) == 4
    pairs = [
        {"image": f"./imagesTr/b{number}_0000.nii.gz", "label": f"./labelsTr/b{number}.nii.gz"} for number in range(4)
    ]
    (tmp_path / "nnunet/dataset.json").write_text(json.dumps({"training": pairs[:3], "validation": pairs[3:]}))
    assert [len(volumes.folder(split, str(tmp_path / "nnunet"))) for split in ("train", "validation")] == [3, 1]
    beside = tmp_path / "beside"
    for number in range(2):
        stored(beside / f"train/s{number}_T1.nii", ball(number)[0])
        stored(beside / f"train/s{number}_mask.nii", ball(number)[1])
    found = volumes.folder("train", str(beside))
    assert [Path(row["volume"]).name for row in found] == ["s0_T1.nii", "s1_T1.nii"]
    examples = open_data(f"volumes?root={beside}", registry().get(Task, "volume-segmentation"), "train")
    assert examples[0]["volume"].shape == (1, 20, 20, 20)


def broken(what: str, root: Path) -> str:
    if what == "nothing":
        return str(root / "nowhere")
    balls(root, 2)
    if what == "partner":
        (root / "labels/b1.nii.gz").unlink()
    elif what == "labels":
        (root / "labels").rename(root / "other")
    elif what == "empty":
        for path in root.glob("images/*"):
            path.unlink()
    elif what == "listed":
        (root / "dataset.json").write_text('{"training": [{"image": "images/b9.nii.gz", "label": "labels/b9.nii.gz"}]}')
    elif what == "json":
        (root / "dataset.json").write_text('{"training": ["images/b0.nii.gz"]}')
    else:
        for path in root.glob("images/*"):
            path.rename(root / path.name)
        for folder in ("images", "labels"):
            for path in (root / folder).glob("*"):
                path.unlink()
            (root / folder).rmdir()
    return str(root)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nothing", "there is no folder"),
        ("partner", r"b1\.nii\.gz has no mask"),
        ("labels", "has images/ and no labels/"),
        ("empty", "holds no volumes"),
        ("listed", "lists images/b9.nii.gz, which is not there"),
        ("json", "lists no pairs of image and label"),
        ("beside", "has its mask beside it"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(what: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=said):
        volumes.folder("train", broken(what, tmp_path))


def test_a_volume_whose_mask_is_elsewhere_is_refused(tmp_path: Path) -> None:
    balls(tmp_path, 2)
    moved = np.diag([-2.0, 2, 2, 1])
    moved[0, 3] = 7
    nibabel.save(nibabel.Nifti1Image(ball(0)[1], moved), tmp_path / "labels/b0.nii.gz")
    nibabel.save(nibabel.Nifti1Image(ball(0)[1][1:], moved), tmp_path / "labels/b1.nii.gz")
    predictor = stzoo.create("unet3d", device="cpu", **SMALL)
    with pytest.raises(DatasetError, match="no example .* the volume and its mask are up to 7 mm apart"):
        stzoo.evaluate(predictor, f"volumes?root={tmp_path}")


# --- learning ---------------------------------------------------------------------------------------------------------


def example(seed: int = 0, side: int = 20) -> dict[str, Any]:
    volume, mask = ball(seed, side)
    return {"volume": Grid(volume[None]), "mask": Grid(mask)}


def test_blocks_are_of_one_place_and_around_what_is_to_be_found() -> None:
    recipe = VolumeRecipe(crop=(8, 8, 8), foreground=1.0, flips="xyz", brightness=0)
    needs = Requirements(multiple=4)
    for seed in range(10):
        item = example()
        item["volume"] = Grid(np.asarray(item["mask"], np.float32)[None] + 1)
        found = recipe.sample(item, needs, np.random.default_rng(seed))
        assert found["volume"].shape == (1, 8, 8, 8)
        assert np.array_equal(found["volume"][0] - 1, found["mask"])
        assert found["mask"].any()


def test_small_volumes_are_padded_and_the_padding_is_ignored() -> None:
    recipe = VolumeRecipe(crop=(32, 16, 0), foreground=0, flips="none", brightness=0)
    found = recipe.sample(example(side=18), Requirements(multiple=4), np.random.default_rng(0))
    assert found["volume"].shape == (1, 32, 16, 20)
    assert (found["mask"][18:] == 255).all() and (found["mask"][..., 18:] == 255).all()
    assert (found["mask"][:18, :, :18] < 2).all()


def test_blocks_are_normalised_as_their_whole_volume_is() -> None:
    item = example()
    seen: list[torch.Tensor] = []
    module = UNet3d(width=2, levels=2)
    module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    recipe = VolumeRecipe(crop=(8, 8, 8), flips="none", brightness=0)
    found = recipe.sample(item, module.requirements, np.random.default_rng(0))
    recipe.losses(module, {name: torch.from_numpy(value)[None] for name, value in found.items()}, 0)
    whole = volumes.normalised(torch.from_numpy(np.asarray(item["volume"])), "zscore")
    blocks = whole[0].unfold(0, 8, 1).unfold(1, 8, 1).unfold(2, 8, 1)
    assert (blocks - seen[0][0, 0]).abs().amax((-1, -2, -3)).min() < 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"crop": (8, 8)},
        {"crop": (8, -8, 8)},
        {"flips": "xw"},
        {"flips": ""},
        {"foreground": 2.0},
        {"brightness": 1.0},
        {"loss": "nothing"},
        {"lr": 0.0},
    ],
)
def test_recipes_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        VolumeRecipe.from_options(options)


def test_a_class_that_the_network_does_not_know_is_refused() -> None:
    recipe: Recipe = VolumeRecipe()
    batch = {"volume": torch.rand(1, 1, 8, 8, 8), "mask": torch.full((1, 8, 8, 8), 4, dtype=torch.uint8)}
    batch["statistics"] = volumes.statistics(batch["volume"][0])[None]
    with pytest.raises(InputError, match="the mask has class 4, the network tells 2 apart"):
        recipe.losses(UNet3d(width=2, levels=2), batch, 0)


def test_a_folder_of_volumes_is_learnt_stopped_resumed_measured_and_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = f"volumes?root={balls(tmp_path / 'data')}"
    given: dict[str, Any] = {"steps": 24, "batch_size": 2, "seed": 3, "evaluate_every": 24, "holdout": 0.25}
    given |= {"checkpoint_every": 10, "pictures": 1, "trackers": [], "recipe.crop": [16, 16, 16], "recipe.lr": 1e-2}
    given |= {f"model_config.{key}": value for key, value in SMALL.items()}
    whole = stzoo.finetune("unet3d", data, tmp_path / "whole", **given)

    def interrupt(recipe: VolumeRecipe, module: torch.nn.Module, step: int) -> None:
        if step == 12:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(VolumeRecipe, "after_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stzoo.finetune("unet3d", data, tmp_path / "parts", **given)
    parts = stzoo.finetune(output=tmp_path / "parts", resume=True)
    one, two = (run.load("last", device="cpu") for run in (whole, parts))
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, two.module.state_dict()[name]), name
    measured = stzoo.evaluate(one, data)
    learnt, trivial = (model.metrics["dice_foreground"].value for model in measured.models)
    assert trivial < 0.1
    assert learnt > 0.7
    saved = stzoo.load(one.save(tmp_path / "saved"), device="cpu")
    again = saved.predict(tmp_path / "data/images/b0.nii.gz").mask
    assert np.array_equal(again, one.predict(tmp_path / "data/images/b0.nii.gz").mask)
