"""Names to predictors: folders, imported checkpoints, configs, locks, verification."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

import stzoo
from stzoo import errors, formats

TINY = {"in_shape": (4, 1, 16, 16), "hid_S": 4, "hid_T": 8, "N_S": 2, "N_T": 2}
CLIP = np.random.default_rng(0).random((4, 1, 16, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return stzoo.create("tau", **TINY).save(tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "tiny")


def test_a_saved_model_loads_and_predicts_the_same(saved: Path) -> None:
    first, second = stzoo.load(saved), stzoo.load(saved)
    assert np.array_equal(first.predict(CLIP).video, second.predict(CLIP).video)
    report = first.report
    assert (report.source, report.dtype, report.tensors) == ("folder", "torch.float32", len(first.module.state_dict()))
    assert report.path == str(saved / "model.safetensors")
    assert report.seconds > 0
    assert sorted(item.name for item in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_saving_again_keeps_what_somebody_wrote(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    stzoo.load(folder).save(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert stzoo.verify(folder).ok


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"hid_s": 4}, errors.ConfigError, "no 'hid_s'. Did you mean"),
        ({"hid_S": "many"}, errors.ConfigError, "hid_S='many' must be a whole number of at least 2"),
        ({"N_S": 3}, errors.ConfigError, "N_S"),
        ({"in_shape": (4, 16, 16)}, errors.ConfigError, "must be 4 positive whole numbers"),
        ({"drop": 1.5}, errors.ConfigError, "drop=1.5 must be a number from 0 to 0.99"),
    ],
)
def test_configs_are_checked_before_anything_is_built(change: dict, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message.replace("(", r"\(")):
        stzoo.create("tau", **{**TINY, **change})


def test_names_that_are_not_there() -> None:
    with pytest.raises(errors.UnknownModel, match="no model is called 'tau-mnst'"):
        stzoo.load("tau-mnst")
    with pytest.raises(errors.UnknownArchitecture, match="Did you mean 'tau'"):
        stzoo.create("taw")
    with pytest.raises(errors.UnknownModel, match="there is no folder"):
        stzoo.load("./nowhere")
    with pytest.raises(errors.UnknownDataset, match="moving-mnist"):
        stzoo.dataset("moving-mnst")
    with pytest.raises(errors.DatasetError, match="has no split 'dev'"):
        stzoo.dataset("moving-mnist", "dev")


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["stzoo"].update(changes)
    (folder / "config.json").write_text(json.dumps(config))


def test_a_damaged_folder_never_loads(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-7] ^= 1
    weights.write_bytes(content)
    with pytest.raises(errors.WeightsCorrupted, match="config.json says"):
        stzoo.load(folder)
    assert not stzoo.verify(folder).ok
    weights.unlink()
    with pytest.raises(errors.WeightsUnavailable):
        stzoo.load(folder)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"architecture": "acme", "plugin": "acme"}, errors.PluginMissing, "only if you trust them"),
        ({"config": 3}, errors.ConfigError, "lacks the architecture or its config"),
        ({"format_version": 99}, errors.ConfigError, "newer stzoo"),
        ({"config": {**TINY, "hid_T": 16}}, errors.WeightsMismatch, "tensors .* do not fit"),
        ({"config": {**TINY, "__class__": "os.system"}}, errors.ConfigError, "no '__class__'"),
    ],
)
def test_strange_configs(folder: Path, changes: dict, kind: type[Exception], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(kind, match=message):
        stzoo.load(folder)


def test_verify_notices_other_outputs(folder: Path) -> None:
    assert stzoo.verify(folder).checks == {"sha256": "ok", "tensors": "ok", "fingerprint": "ok"}
    entry = json.loads((folder / "config.json").read_text())["stzoo"]
    entry["fingerprint"]["video"]["samples"][3] += 0.1
    edit_config(folder, fingerprint=entry["fingerprint"])
    assert "sample 3" in stzoo.verify(folder).checks["fingerprint"]


def test_a_lock_allows_only_what_it_lists(folder: Path, tmp_path: Path) -> None:
    lock = stzoo.lock([str(folder)], tmp_path / "stzoo.lock")
    assert stzoo.load(folder, lock=lock).report.sha256 == json.loads(lock.read_text())["models"][str(folder)]["sha256"]
    with pytest.raises(errors.LockError, match="is not in"):
        stzoo.load("tau-mmnist", lock=lock)
    with torch.no_grad():
        other = stzoo.load(folder)
        other.module.dec.readout.bias.add_(1)
    other.save(folder)
    with pytest.raises(errors.LockError, match="the lock file says"):
        stzoo.load(folder, lock=lock)
    lock.write_text("{}")
    with pytest.raises(errors.LockError, match="is not a lock file"):
        stzoo.load(folder, lock=lock)


def test_dtypes_and_devices(saved: Path) -> None:
    half = stzoo.load(saved, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    exact = stzoo.load(saved).predict(CLIP).video
    assert np.abs(half.predict(CLIP).video - exact).max() < 0.05 * np.abs(exact).max() + 0.05
    with pytest.raises(errors.ConfigError, match="dtype='int8' is not a floating-point type"):
        stzoo.load(saved, dtype="int8")
    with pytest.raises(errors.ConfigError, match="device='cuda:9' cannot be used here"):
        stzoo.load(saved, device="cuda:9")


# --- predict ----------------------------------------------------------------------------------------------------------


def test_any_horizon(saved: Path) -> None:
    predictor = stzoo.load(saved)
    whole = predictor.predict(CLIP, horizon=10).video
    assert whole.shape == (10, 1, 16, 16)
    np.testing.assert_array_equal(predictor.predict(CLIP, horizon=3).video, whole[:3])
    np.testing.assert_allclose(predictor.predict(whole[:4]).video, whole[4:8], atol=1e-6)
    with pytest.raises(errors.InputError, match="horizon=0 must be a whole number from 1"):
        predictor.predict(CLIP, horizon=0)
    with pytest.raises(errors.InputError, match="has no 'horizont'. Did you mean 'horizon'"):
        predictor.predict(CLIP, horizont=3)


def test_batches_keep_order_and_mix_sizes(saved: Path) -> None:
    predictor = stzoo.load(saved)
    clips = [
        np.random.default_rng(seed).random((4, 1, 16 + 4 * (seed // 2), 18), dtype=np.float32) for seed in range(5)
    ]
    for clip, prediction in zip(clips, predictor.predict_batch(iter(clips), batch_size=2), strict=True):
        assert prediction.video.shape == clip.shape
        np.testing.assert_allclose(prediction.video, predictor.predict(clip).video, atol=1e-5)


def test_the_last_frames_of_a_longer_clip_are_used(saved: Path) -> None:
    predictor = stzoo.load(saved)
    longer = np.concatenate([np.zeros_like(CLIP), CLIP])
    np.testing.assert_array_equal(predictor.predict(longer).video, predictor.predict(CLIP).video)


def test_predictions_save_and_show_themselves(saved: Path, tmp_path: Path) -> None:
    from PIL import Image

    prediction = stzoo.load(saved).predict(CLIP)
    for name in ("a.mp4", "a.gif", "a.png", "a.npy", "a.npz"):
        assert prediction.save(tmp_path / name).stat().st_size > 0
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["video"], prediction.video)
    assert prediction._repr_png_().startswith(b"\x89PNG")
    with Image.open(prediction.save(tmp_path / "big.gif", scale=3)) as image:
        assert image.size == (48, 48)
    plain, full = prediction.figure(), prediction.figure(truth={"video": CLIP})
    assert full.height > 1.8 * plain.height, "truth and error are two more rows"
    with pytest.raises(errors.MediaError, match="Endings: .mp4"):
        prediction.save(tmp_path / "a.doc")
    with pytest.raises(errors.MediaError, match="there is no folder"):
        prediction.save(tmp_path / "no" / "a.gif")
    with pytest.raises(AttributeError, match="has no 'film', it has video"):
        _ = prediction.film


def test_inputs_by_name_and_wrong_numbers_of_them(saved: Path) -> None:
    predictor = stzoo.load(saved)
    np.testing.assert_array_equal(predictor.predict(video=CLIP).video, predictor.predict(CLIP).video)
    with pytest.raises(errors.InputError, match="2 inputs, task 'video-prediction' takes 1"):
        predictor.predict(CLIP, CLIP)
    with pytest.raises(errors.InputError, match="the input 'video' is missing"):
        predictor.predict()


# --- official checkpoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {
            "state_dict": {f"model.{key}": value for key, value in state.items()},
            "pytorch-lightning_version": "2.0",
        },
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"model": state, "args": Namespace(lr=0.1)},
        lambda state: {"state_dict": {f"method.model._orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {
            "state_dict": {
                **{f"model.{key}": torch.zeros_like(value) for key, value in state.items()},
                "ema_model.n_averaged": torch.tensor(3),
                **{f"ema_model.module.{key}": value for key, value in state.items()},
            },
        },
    ],
    ids=["bare", "training", "lightning", "ddp", "namespace", "compiled", "averaged"],
)
def test_checkpoints_in_every_wrapping(saved: Path, tmp_path: Path, wrap) -> None:
    original = stzoo.load(saved)
    torch.save(wrap(original.module.state_dict()), tmp_path / "official.pth")
    imported = stzoo.import_checkpoint(tmp_path / "official.pth")
    assert imported.architecture.name == "tau"
    assert {**imported.config, "in_shape": None} == {**original.config, "in_shape": None}
    np.testing.assert_array_equal(imported.predict(CLIP).video, original.predict(CLIP).video)
    assert imported.report.notes, "what the tensors cannot tell is said"


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_plain_values_among_tensors_are_left_out() -> None:
    """Some codes store numbers and lists beside the tensors; where a mapping is among them, it is no state dict."""
    tensors = {"a.weight": torch.zeros(1), "b.weight": torch.ones(2)}
    found = formats.unwrap({**tensors, "mask_values": [0, 255], "epoch": 3}, Path("x.pth"))
    assert list(found) == list(tensors)
    for content in ({**tensors, "settings": {}}, {"epoch": 3}):
        with pytest.raises(errors.FormatError, match="holds no state dict"):
            formats.unwrap(content, Path("x.pth"))


def test_several_networks_side_by_side() -> None:
    """Their tensors come out under the names of both; an optimizer and numbers are left out."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    content = {"step": 3, "one": {"a.weight": torch.zeros(1)}, "two": {"a.weight": torch.ones(2)}, "none": None}
    found = formats.unwrap(content | {"optimizer": optimizer.state_dict(), "loss": torch.ones(())}, Path("x.tar"))
    assert {key: len(value) for key, value in found.items()} == {"one.a.weight": 1, "two.a.weight": 2}


def test_checkpoints_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": Evil()}, path)
    with pytest.raises(errors.FormatError, match="does not execute pickles"):
        stzoo.import_checkpoint(path)
    assert "executed" not in capsys.readouterr().out
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(errors.FormatError, match="was not recognised: 1 tensors"):
        stzoo.import_checkpoint(path)
    torch.save({"settings": {"lr": 0.1}}, path)
    with pytest.raises(errors.FormatError, match="holds no state dict: found keys settings"):
        stzoo.import_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(errors.FormatError, match="is empty"):
        stzoo.import_checkpoint(path)
    path.write_text("text")
    with pytest.raises(errors.FormatError, match="x.pth"):
        stzoo.import_checkpoint(path)
    with pytest.raises(errors.FormatError, match="there is no checkpoint file"):
        stzoo.import_checkpoint(tmp_path / "absent.pth")
