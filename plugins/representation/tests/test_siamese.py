"""Siamese networks against their references, their checkpoints, losses and mining, and how they learn."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from goldens import Golden
from torch import Tensor

import stzoo
from stzoo import Requirements
from stzoo.errors import ConfigError, DatasetError, FormatError
from stzoo_representation import siamese_losses as losses
from stzoo_representation.dlib_face import ByteConv2d, DlibFace, read_manifest
from stzoo_representation.inception_resnet import InceptionResnetV1
from stzoo_representation.siamese import ATTNet, EmbeddingNet, KochNet
from stzoo_representation.siamese_recipe import SiameseRecipe
from stzoo_representation.verification import choose_threshold, pair_distances

GOLDENS = Path(__file__).parent / "goldens"
PUBLISHED = Golden(GOLDENS / "siamese-losses-and-lfw-metrics").tensors
SMALL_KOCH: dict[str, Any] = {"size": (65, 65), "widths": (2, 3, 3, 4), "dimensions": 6}


# --- checkpoints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("l2", [False, True])
def test_siamese_triplets_network_gives_the_reference_outputs(l2: bool, tmp_path: Path) -> None:
    reference = Golden(GOLDENS / ("siamese-A-embeddingnet" + "-l2" * l2))
    torch.save({"state_dict": reference.state}, path := tmp_path / "siamese.pth")
    with pytest.raises(FormatError, match=r"cannot tell l2.*EmbeddingNetL2"):
        stzoo.import_checkpoint(path, device="cpu")
    imported = stzoo.import_checkpoint(path, device="cpu", l2=l2)
    assert imported.architecture.name == "siamese" and imported.config["size"] == (28, 28)
    assert sum(item.numel() for item in imported.module.parameters()) == 380_806
    assert {note.partition(":")[0] for note in imported.report.notes} == {"l2", "size", "mean", "std", "threshold"}
    golden, network = reference.tensors, imported.module
    assert isinstance(network, EmbeddingNet)
    one, two = network.features(golden["input_x1"]), network.features(golden["input_x2"])
    torch.testing.assert_close(one, golden["output_e1"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two, golden["output_e2"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.compare(one, two), golden["output_sqdist"], rtol=1e-4, atol=1e-5)


def test_facenet_pytorchs_network_gives_the_reference_outputs(tmp_path: Path) -> None:
    reference = Golden(GOLDENS / "facenet-A-embed-96")
    state = reference.state
    torch.save(state | {"logits.weight": torch.zeros(3, 512), "logits.bias": torch.zeros(3)}, path := tmp_path / "a.pt")
    imported = stzoo.import_checkpoint(path, device="cpu")
    assert imported.architecture.name == "inception-resnet-v1"
    network, golden = imported.module, reference.tensors
    assert isinstance(network, InceptionResnetV1)
    with torch.inference_mode():
        torch.testing.assert_close(network.features(golden["input"]), golden["output"], rtol=1e-4, atol=1e-5)
    del state["block8.conv2d.bias"]
    torch.save(state, path)
    with pytest.raises(FormatError, match=r"1 of its tensors are missing: block8\.conv2d\.bias"):
        stzoo.import_checkpoint(path, device="cpu")


def test_published_sizes_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        networks = {"koch": KochNet(), "att": ATTNet(), "inception": InceptionResnetV1(), "dlib": DlibFace()}
    found = {name: sum(item.numel() for item in network.parameters()) for name, network in networks.items()}
    assert found["koch"] == 38_951_745 and found["att"] == 40_254_465 and found["inception"] == 23_482_624
    filters = sum(item.filters.numel() for item in networks["dlib"].modules() if isinstance(item, ByteConv2d))
    assert found["dlib"] + filters == 5_614_592


def test_koch_and_att_are_recognised_and_keep_their_outputs(tmp_path: Path) -> None:
    for network in (KochNet(**SMALL_KOCH), ATTNet((20, 20), hidden=7)):
        network.eval()
        torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, path := tmp_path / "a.pth")
        imported = stzoo.import_checkpoint(path, device="cpu")
        assert type(imported.module) is type(network)
        size = imported.config["size"]
        assert size == (65, 65) if isinstance(network, KochNet) else size == (20, 20)
        pictures = torch.rand(2, 2, 1, *size)
        torch.testing.assert_close(imported.module(*pictures), network(*pictures))


def test_att_with_a_size_that_is_no_square_asks_for_it(tmp_path: Path) -> None:
    torch.save(ATTNet((20, 30), hidden=7).state_dict(), path := tmp_path / "a.pth")
    with pytest.raises(FormatError, match="cannot tell size"):
        stzoo.import_checkpoint(path)
    assert stzoo.import_checkpoint(path, size=(20, 30)).config["size"] == (20, 30)
    with pytest.raises(FormatError, match=r"of the wrong shape: fc1\.0\.weight"):
        stzoo.import_checkpoint(path, size=(20, 31))


def test_the_quantised_shards_of_face_api(tmp_path: Path) -> None:
    """Bytes with a scale and a minimum; what is computed with them is what the numbers they stand for give."""
    content, entries = b"", []
    rng = np.random.default_rng(0)
    for name, shape, packed in (("a/filters", [3, 3, 2, 4], True), ("b", [5], False)):
        values = rng.integers(256, size=shape, dtype=np.uint8) if packed else rng.random(shape).astype("<f4")
        content += values.tobytes()
        quantization = {"quantization": {"dtype": "uint8", "scale": 0.5, "min": -3.0}} if packed else {}
        entries.append({"name": name, "shape": shape, "dtype": "float32", **quantization})
    (tmp_path / "x.bin").write_bytes(content)
    manifest = tmp_path / "x-weights_manifest.json"
    manifest.write_text(json.dumps([{"paths": ["x.bin"], "weights": entries}]))
    found = read_manifest(manifest)
    assert found["a/filters"].dtype == torch.uint8 and found["a/filters/scale"] == 0.5 and found["b"].shape == (5,)
    layer = ByteConv2d(2, 4, 3, 1, 1)
    layer.filters.copy_(found["a/filters"].permute(3, 2, 0, 1))
    layer.scale.fill_(0.5)
    layer.minimum.fill_(-3.0)
    x, numbers = torch.rand(1, 2, 6, 6), layer.filters.float() * 0.5 - 3
    torch.testing.assert_close(layer(x), torch.nn.functional.conv2d(x, numbers, padding=1))
    with pytest.raises(FormatError, match="was not recognised"):
        stzoo.import_checkpoint(manifest)
    (tmp_path / "x.bin").write_bytes(content[:-4])
    with pytest.raises(FormatError, match=r"not a readable manifest.*\.bin files"):
        read_manifest(manifest)


def test_the_bundled_embedding_is_what_face_api_computes() -> None:
    """Of a picture that follows from a formula: the first eight of the 128 numbers that version 1.7.15 gives in JavaScript."""
    place = np.arange(150 * 150 * 3)
    picture = ((place * 37 + place // 450 * 11) % 256).astype(np.float32).reshape(1, 150, 150, 3).transpose(0, 3, 1, 2)
    mean = torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1)
    network = stzoo.load("siamese-dlib-face", device="cpu").module
    assert isinstance(network, DlibFace)
    with torch.inference_mode():
        found = network.features((torch.from_numpy(picture.copy()) - mean) / 255)[0]  # face-api's; dlib divides by 256
    expected = [-0.074308, 0.065995, 0.061005, -0.012314, -0.164411, -0.058132, -0.061162, -0.086079]
    torch.testing.assert_close(found[:8], torch.tensor(expected), rtol=1e-3, atol=1e-5)


# --- losses and mining ------------------------------------------------------------------------------------------------


def test_losses_are_siamese_triplets() -> None:
    vectors, people = PUBLISHED["input_embeddings"], PUBLISHED["input_labels"]
    given = losses.contrastive((vectors[:6] - vectors[6:]).square().sum(1), PUBLISHED["input_pair_target"].float())
    torch.testing.assert_close(given.mean(), PUBLISHED["output_contrastive_m1_mean"][0])
    torch.testing.assert_close(given.sum(), PUBLISHED["output_contrastive_m1_sum"][0])
    squared = losses.squared_distances(vectors)
    torch.testing.assert_close(squared, torch.cdist(vectors, vectors).square(), rtol=1e-4, atol=1e-5)
    positive, negative = losses.hard_pairs(squared, people)
    assert _rows(positive) == _rows(PUBLISHED["output_hard_pos_pairs"])
    assert _rows(negative) == _rows(PUBLISHED["output_hard_neg_pairs"])
    chosen, same = torch.cat((positive, negative)), torch.tensor([1.0] * 18 + [0.0] * 18)
    online = losses.contrastive(squared[chosen[:, 0], chosen[:, 1]], same).mean()
    torch.testing.assert_close(2 * online, PUBLISHED["output_online_contrastive_hard_m1"][0])
    everything = losses.all_triplets(people)
    assert _rows(everything) == _rows(PUBLISHED["output_all_triplets"])
    hardest = losses.mined_triplets(squared, people, 1.0, "hardest")
    for name, chosen in (("all", everything), ("hardest", hardest)):
        anchor, close, far = chosen.unbind(1)
        loss = losses.triplet(squared[anchor, close], squared[anchor, far], 1.0).mean()
        torch.testing.assert_close(loss, PUBLISHED[f"output_online_triplet_{name}_m1"][0])


def _rows(pairs: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in pairs.tolist()}


def test_semi_hard_negatives_are_farther_than_the_positive_and_within_the_margin() -> None:
    """On a line: 0 and 1 are one person's; of the others at 0.5, 1.5 and 3, only 1.5 is semi-hard for 0 and margin 2."""
    at, people = torch.tensor([[0.0], [1.0], [0.5], [1.5], [3.0]]), torch.tensor([0, 0, 1, 2, 3])
    squared = losses.squared_distances(at)
    assert losses.mined_triplets(squared, people, 2.0, "semi-hard").tolist() == [[0, 1, 3]]
    assert losses.mined_triplets(squared, people, 2.0, "hardest").tolist() == [[0, 1, 2]]
    assert losses.mined_triplets(squared, people, 1.0, "semi-hard").tolist() == [], "1.5 squared is more than 1 + 1"
    alone = torch.tensor([0, 1, 2, 3, 4])
    assert not len(losses.mined_triplets(squared, alone, 2.0, "semi-hard")), "nobody twice: no triplets"


# --- learning ---------------------------------------------------------------------------------------------------------


def pairs_of_stripes(count: int, people: bool = True) -> list[dict[str, Any]]:
    """Pairs of noisy stripes; whose they are says how wide they are."""
    rng, found = np.random.default_rng(0), []
    for index in range(count):
        first, second = index % 4, (index % 4 + (index % 3 == 0)) % 4
        pictures = [(np.arange(28) // (who + 2) % 2 + rng.random((28, 28))) / 2 for who in (first, second)]
        row: dict[str, Any] = {"first": pictures[0].astype(np.float32), "second": pictures[1].astype(np.float32)}
        row["same"] = first == second
        found.append(row | ({"first_person": first, "second_person": second} if people else {}))
    return found


def test_a_run_learns_and_chooses_its_threshold_on_held_out_pairs(tmp_path: Path) -> None:
    data = {"train": pairs_of_stripes(24), "validation": pairs_of_stripes(12)}
    run = stzoo.finetune(
        "siamese",
        data,
        tmp_path / "run",
        steps=12,
        evaluate_every=12,
        batch_size=8,
        trackers=[],
        pictures=0,
        model_config={"widths": [4, 4], "hidden": [8], "dimensions": 4},
        recipe={"far": 0.1},
    )
    assert run.record["best"]["auc"] > 0.7
    trained = run.load("last")
    threshold = trained.config["threshold"]
    assert threshold != 0.25 and trained.module.threshold == threshold, "it was chosen, and saved with the weights"
    rows = [
        {key: value[None] if key in ("first", "second") else value for key, value in row.items()}
        for row in data["validation"]
    ]
    assert threshold == pytest.approx(choose_threshold(*pair_distances(trained, rows), 0.1), rel=1e-4)
    assert stzoo.load(tmp_path / "run/last", threshold=0.5).module.threshold == 0.5, "anybody may choose another"


def test_triplets_need_people_and_contrastive_pairs_do_not() -> None:
    recipe, needs = SiameseRecipe(), Requirements(channels=1, native_size=(28, 28))
    network = EmbeddingNet(widths=(2,), hidden=())
    rng = np.random.default_rng(0)
    rows = [
        {**row, "first": row["first"][None], "second": row["second"][None]} for row in pairs_of_stripes(3, people=False)
    ]
    samples = [recipe.sample(row, needs, rng) for row in rows]
    batch = {name: torch.as_tensor(np.stack([item[name] for item in samples])) for name in samples[0]}
    assert batch["pictures"].shape == (3, 2, 1, 28, 28)
    with pytest.raises(DatasetError, match="triplets need to know who is in the pictures"):
        recipe.losses(network, batch, 0)
    assert SiameseRecipe(loss="contrastive").losses(network, batch, 0)["contrastive"] > 0


def test_pictures_are_changed_within_bounds_and_not_at_all_where_asked() -> None:
    picture, rng = torch.rand(1, 3, 30, 20), np.random.default_rng(0)
    still = SiameseRecipe(flip=False, turn=0, zoom=0, shift=0, light=0)
    torch.testing.assert_close(still.changed(picture, rng), picture, rtol=0, atol=1e-5)
    moved = SiameseRecipe(turn=10).changed(picture, rng)
    assert moved.shape == picture.shape and moved.min() >= 0 and moved.max() <= 1
    mirrored = SiameseRecipe(flip=True, turn=0, zoom=0, shift=0, light=0)
    found = [mirrored.changed(picture, rng) for _ in range(8)]
    assert any(torch.allclose(item, picture.flip(-1), atol=1e-5) for item in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "arcface"}, "loss must be one of triplet, contrastive"),
        ({"mining": "soft"}, "mining must be one of semi-hard, hardest, all"),
        ({"margin": 0.0}, "margin and lr must be above 0"),
        ({"far": 2.0}, "far must be from 0 to 1"),
    ],
)
def test_wrong_recipe_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SiameseRecipe(**options)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": (12, 12)}, "too small for 2 convolutions"),
        ({"threshold": 0.0}, "threshold"),
        ({"mean": (0.1, 0.2)}, "mean has 2 numbers for 1 channels"),
        ({"std": (0.0,)}, "std must be above 0"),
    ],
)
def test_wrong_configurations_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stzoo.create("siamese", **config)


def test_every_pair_of_a_batch_is_compared_in_order() -> None:
    network = EmbeddingNet(widths=(2,), hidden=()).eval()
    pictures = torch.rand(4, 1, 28, 28)
    for (one, two), _ in zip(itertools.permutations(range(4), 2), range(6), strict=False):
        alone = network(pictures[one][None], pictures[two][None])
        torch.testing.assert_close(network(pictures[[one, 0]], pictures[[two, 1]])[:1], alone, rtol=1e-4, atol=1e-6)
