"""The task: two pictures to a decision; pairs divided by people; metrics of pairs; and a search among many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import stzoo
from stzoo.cli import main
from stzoo.data import open_data
from stzoo.errors import ConfigError, DatasetError, InputError, StzooError
from stzoo_representation import faces
from stzoo_representation import verification_metrics as metrics
from stzoo_representation.verification import Gallery, choose_threshold

GOLDENS = Path(__file__).parent / "goldens"
SMALL: dict[str, Any] = {"widths": (4, 4), "hidden": (8,), "dimensions": 4}


@pytest.fixture(scope="module")
def predictor() -> Any:
    torch.manual_seed(0)
    return stzoo.create("siamese", device="cpu", **SMALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fifteen people, three pictures of each: grey, in colour, and of another size."""
    for person in range(15):
        (own := tmp_path / "faces" / f"person{person}").mkdir(parents=True)
        for index, (mode, size) in enumerate((("L", (40, 50)), ("RGB", (40, 50)), ("L", (33, 35)))):
            Image.fromarray(stripes(person, size[::-1])).convert(mode).save(own / f"{index}.png")
    return tmp_path / "faces"


def stripes(person: int, size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] / size[0]
    return (127 + 120 * np.sin(20 * (rows * np.cos(person) + columns * np.sin(person)))).astype(np.uint8)


# --- predicting -------------------------------------------------------------------------------------------------------


def test_pictures_of_any_sizes_and_colours_are_compared(predictor: Any, folder: Path) -> None:
    grey, colour, other = (folder / f"person0/{index}.png" for index in range(3))
    found = predictor.predict(grey, other)
    threshold = predictor.module.threshold
    assert found.same is (found.distance < threshold) and found.margin == pytest.approx(threshold - found.distance)
    identical = predictor.predict(grey, grey)
    assert identical.same is True and identical.distance == 0 and identical.margin == threshold
    assert predictor.predict(grey, colour).distance == pytest.approx(0, abs=1e-4), "the same picture, in colour"
    assert predictor.predict(other, grey).distance == pytest.approx(found.distance, abs=1e-5), "in either order"
    many = list(predictor.predict_batch([(grey, other), (grey, grey), (other, other)]))
    assert [item.same for item in many] == [found.same, True, True]
    assert min(found.figure().size) > 0


def test_the_command_line_says_it_in_words(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stzoo.create("siamese", device="cpu", **SMALL).save(tmp_path / "model")
    first, second = (str(folder / f"person{person}/0.png") for person in (0, 3))
    assert main(["predict", str(tmp_path / "model"), first, "--second", first]) == 0
    out = capsys.readouterr().out
    assert "same the same" in out and "distance 0 " in out and "margin 0.25" in out
    assert main(["predict", str(tmp_path / "model"), first, "--second", second, "--json"]) == 0
    outputs = json.loads(capsys.readouterr().out)["predictions"][0]["outputs"]
    assert isinstance(outputs["same"]["value"], bool) and outputs["distance"]["value"] > 0
    assert main(["predict", str(tmp_path / "model"), first]) == 2
    assert "second" in capsys.readouterr().err


def test_wrong_pictures_are_refused(predictor: Any, folder: Path, tmp_path: Path) -> None:
    (broken := tmp_path / "broken.png").write_bytes(b"\x89PNG")
    picture = folder / "person0/0.png"
    with pytest.raises(InputError, match="the input 'second' is missing"):
        predictor.predict(picture)
    with pytest.raises(InputError, match="3 inputs"):
        predictor.predict(picture, picture, picture)
    with pytest.raises(StzooError, match=r"second.*broken\.png"):
        predictor.predict(picture, broken)
    with pytest.raises(StzooError, match=r"first.*nowhere\.png"):
        predictor.predict(tmp_path / "nowhere.png", picture)


def test_page_asks_for_two_pictures_and_shows_words(predictor: Any) -> None:
    pytest.importorskip("gradio")
    from stzoo.ui.components import widget
    from stzoo.ui.limits import limits

    shown = {item.name: widget(item, predictor.requirements, limits({})) for item in predictor.task.outputs}
    assert shown["same"].show(True, Path()) == ["the same"] and shown["same"].show(False, Path()) == ["different"]
    assert shown["distance"].show(0.123456789, Path()) == ["0.123457"]
    assert shown["same"].ask().choices == [("the same", "True"), ("different", "False")]
    assert shown["same"].ask().value is None, "nothing is chosen before"
    first, second = predictor.task.sample(predictor.requirements)
    assert not np.allclose(first, second), "two samples that differ: their distance says something of the weights"


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_nobody_is_in_two_splits(folder: Path, predictor: Any) -> None:
    seen: dict[str, set[int]] = {}
    for split in ("train", "validation", "test"):
        examples = open_data(str(folder), predictor.task, split, requirements=predictor.requirements)
        rows = list(examples)
        assert {row["same"] for row in rows} == {True, False}
        assert all(row["same"] == (row["first_person"] == row["second_person"]) for row in rows)
        assert sum(row["same"] for row in rows) * 2 == len(rows), "as many pairs of two people as of one"
        seen[split] = {row[f"{name}_person"] for row in rows for name in ("first", "second")}
    assert [len(people) for people in seen.values()] == [10, 2, 3]
    assert not seen["train"] & seen["test"] and not (seen["train"] | seen["test"]) & seen["validation"]
    other = faces.read_people(folder, seed=1)
    assert other and set(other["test"].pictures) != set((faces.read_people(folder) or {})["test"].pictures)


def test_a_person_in_two_folders_is_found_out(folder: Path) -> None:
    for split, people in {"train": range(5), "validation": range(4, 8)}.items():
        (folder / split).mkdir()
        for person in people:
            (folder / split / f"person{person}").mkdir()
            (folder / split / f"person{person}" / "0.png").write_bytes((folder / "person0/0.png").read_bytes())
    with pytest.raises(DatasetError, match="person4 is in train and in validation"):
        faces.read_people(folder)


def test_folders_of_splits_are_taken_as_they_are(folder: Path) -> None:
    for split, people in {"train": range(5), "val": range(5, 8)}.items():
        (folder / split).mkdir()
        for person in people:
            (folder / f"person{person}").rename(folder / split / f"person{person}")
    found = faces.read_people(folder)
    assert found and list(found) == ["train", "validation"] and len(found["train"]) == 30
    (folder / "val").rename(folder / "test")
    with pytest.raises(DatasetError, match="has train/ and no validation/"):
        faces.read_people(folder)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"ann": 2}, "has pictures of ann alone"),
        ({"ann": 1, "bob": 1}, "has one picture of each person"),
        ({}, "has pictures of nobody alone"),
    ],
)
def test_people_who_make_no_pairs(people: dict[str, int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        faces.pairs({name: list(range(count)) for name, count in people.items()}, 0, 1.0, "here")


def test_too_few_people_to_divide(folder: Path) -> None:
    with pytest.raises(DatasetError, match="has 3 people, too few to divide so that nobody is in two splits"):
        faces.divided({"a": [1], "b": [1], "c": [1]}, 0, "here")


def test_pairs_that_are_listed_in_a_table(folder: Path, tmp_path: Path, predictor: Any) -> None:
    for name in ("first", "second"):
        (tmp_path / "table" / name).mkdir(parents=True)
        for person in range(3):
            (tmp_path / "table" / name / f"{person}.png").write_bytes((folder / f"person{person}/0.png").read_bytes())
    lines = ["first_file_name,second_file_name,same"] + [f"first/{i}.png,second/{i}.png,the same" for i in range(3)]
    (tmp_path / "table/metadata.csv").write_text("\n".join(lines))
    examples = open_data(str(tmp_path / "table"), predictor.task, requirements=predictor.requirements)
    assert [row["same"] for row in examples] == [True] * 3 and examples[0]["first_person"] is None
    (tmp_path / "table/metadata.csv").write_text("\n".join(lines).replace("the same", "maybe"))
    broken = open_data(str(tmp_path / "table"), predictor.task, requirements=predictor.requirements)
    with pytest.raises(DatasetError, match="same must be one of True, False, 'the same', 'different'"):
        broken[0]


def test_orl_as_folders_and_as_an_archive(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(256, size=(28, 112, 92), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        (own := tmp_path / f"s{index // 2 + 1}").mkdir(exist_ok=True)
        Image.fromarray(picture).save(own / f"{index % 2 + 1}.pgm")
    np.savez(tmp_path / "orl.npz", x=pictures, y=np.arange(28) // 2)
    for split in ("train", "test"):
        one, two = (faces.orl(split, str(root)) for root in (tmp_path, tmp_path / "orl.npz"))
        assert len(one) == len(two) and all(one[i]["same"] == two[i]["same"] for i in range(len(one)))
        np.testing.assert_array_equal(np.asarray(one[0]["first"]), np.asarray(two[0]["first"]))
    assert faces.orl("test", str(tmp_path / "orl.npz"), top=28)[0]["first"].size == (92, 84)
    with pytest.raises(DatasetError, match="there are no faces at 'nowhere'"):
        faces.orl("test", "nowhere")
    np.savez(tmp_path / "other.npz", z=pictures)
    with pytest.raises(DatasetError, match="is no archive of x and y"):
        faces.orl("test", str(tmp_path / "other.npz"))


def test_the_pairs_of_lfw(tmp_path: Path) -> None:
    for name in ("Ann", "Bob"):
        (tmp_path / name).mkdir()
        for index in (1, 2):
            Image.new("L", (4, 4)).save(tmp_path / name / f"{name}_{index:04}.jpg")
    (tmp_path / "pairs.txt").write_text("10\t300\nAnn\t1\t2\nAnn\t1\tBob\t2\n")
    found = faces.lfw("test", str(tmp_path))
    assert [found[index]["same"] for index in range(2)] == [True, False]
    assert found[1]["second"].endswith("Bob_0002.jpg") and found[1]["second_person"] == 1
    (tmp_path / "pairs.txt").write_text("Ann\t1\t3\n")
    with pytest.raises(DatasetError, match=r"names .*Ann_0003\.jpg, which is not there"):
        faces.lfw("test", str(tmp_path))
    (tmp_path / "pairs.txt").write_text("Ann 1 two\n")
    with pytest.raises(DatasetError, match="'Ann 1 two' is no pair"):
        faces.lfw("test", str(tmp_path))
    with pytest.raises(DatasetError, match=r"there is no pairs\.txt in no folder"):
        faces.lfw("test")


# --- metrics ----------------------------------------------------------------------------------------------------------

DISTANCES, SAME = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1, 1, 0, 1, 0, 0]
"""Of the nine comparisons of one that is the same with one that is not, eight are in order."""


def test_metrics_by_hand() -> None:
    pairs = [metrics.scored(distance, same) for distance, same in zip(DISTANCES, SAME, strict=True)]
    assert metrics.auc(pairs) == pytest.approx(8 / 9)
    assert metrics.eer(pairs) == pytest.approx(1 / 3)
    for far, wanted in ((0.0, 2 / 3), (1 / 3, 1.0), (1.0, 1.0)):
        given = [metrics.scored_at(distance, same, far) for distance, same in zip(DISTANCES, SAME, strict=True)]
        assert metrics.true_accepts(given) == pytest.approx(wanted)
    given = [metrics.scored_at(distance, same, 0.0) for distance, same in zip(DISTANCES, SAME, strict=True)]
    assert metrics.accuracy_at(given) == pytest.approx(5 / 6)
    decided = [metrics.decided(distance < 0.35, same) for distance, same in zip(DISTANCES, SAME, strict=True)]
    assert metrics.false_accepts(decided) == pytest.approx(1 / 3) == metrics.false_rejects(decided)
    curve = np.stack([metrics.curve(distance, same) for distance, same in zip(DISTANCES, SAME, strict=True)])
    places = [metrics.curve_value(list(curve[:, place])) for place in range(metrics.PLACES)]
    assert (
        places[0] == pytest.approx(2 / 3) and places[7] == 1 and metrics.curve_value(list(curve)) == metrics.auc(pairs)
    )
    with pytest.raises(ConfigError, match="far must be from 0 to 1"):
        metrics.scored_at(0.1, 1, 2.0)


def test_equal_distances_are_accepted_together() -> None:
    assert metrics.area([1, 1, 1, 1], [1, 0, 1, 0]) == 0.5, "no better than chance, whatever the order"
    false, true, thresholds = metrics.roc([2, 1, 2], [1, 1, 0])
    assert false.tolist() == [0, 0, 1] and true.tolist() == [0, 0.5, 1] and (np.diff(thresholds) > 0).all()
    assert np.isnan(metrics.area([1, 2], [1, 1])), "pairs of one kind have no curve"


def test_the_protocol_of_lfw_is_the_references() -> None:
    golden = load_file(GOLDENS / "siamese-losses-and-lfw-metrics.safetensors")
    distances = (golden["input_lfw_e1"] - golden["input_lfw_e2"]).square().sum(1).numpy()
    same = golden["input_lfw_same"].numpy().astype(bool)
    np.testing.assert_allclose(metrics.fold_accuracy(distances, same), golden["output_lfw_acc_folds"].numpy())
    false, true, thresholds = metrics.roc(distances, same)
    for step, threshold in enumerate(np.arange(0, 4, 0.01)):
        accepted = distances < threshold
        assert accepted[~same].mean() in false and accepted[same].mean() in true
        place = int(np.searchsorted(thresholds, threshold))
        assert place == 0 or thresholds[place - 1] <= threshold
        assert step or not accepted.any()


def test_thresholds() -> None:
    distances, same = np.array(DISTANCES), np.array(SAME, bool)
    found = choose_threshold(distances, same)
    assert (distances < found)[~same].mean() == pytest.approx((distances >= found)[same].mean())
    strict = choose_threshold(distances, same, far=0.0)
    assert not (distances < strict)[~same].any() and (distances < strict)[same].sum() == 2
    with pytest.raises(DatasetError, match="all 3 pairs are the same: no threshold can be chosen"):
        choose_threshold(distances[same], same[same])


def test_evaluation_reports_them_beside_the_pixels(predictor: Any, folder: Path) -> None:
    found = stzoo.evaluate(predictor, str(folder), split="test", metrics=["auc", "eer", "tar_at_far?far=0.1", "roc"])
    model, pixels = found.models
    assert pixels.baseline and 0 <= model.metrics["auc"].value <= 1
    assert model.metrics["roc"].value == pytest.approx(model.metrics["auc"].value)
    assert len(model.metrics["roc"].curve) == metrics.PLACES and model.metrics["roc"].curve[-1] == 1


# --- one against many -------------------------------------------------------------------------------------------------


def test_a_gallery_names_the_closest(predictor: Any, folder: Path, tmp_path: Path) -> None:
    gallery = Gallery(predictor, folder)
    assert len(gallery.paths) == 45
    matches = gallery.search(folder / "person7/0.png", top=3)
    assert matches[0].name == "person7" and matches[0].distance == pytest.approx(0, abs=1e-6) and matches[0].margin > 0
    assert [item.distance for item in matches] == sorted(item.distance for item in matches)
    assert len({item.name for item in matches}) == 3
    Image.fromarray(stripes(1, (30, 30))).save(tmp_path / "Ann.png")
    assert "Ann" in Gallery(predictor, tmp_path).names
    (tmp_path / "empty").mkdir()
    for wrong, message in (("empty", "has no pictures"), ("nowhere", "there is no folder")):
        with pytest.raises(InputError, match=message):
            Gallery(predictor, tmp_path / wrong)
