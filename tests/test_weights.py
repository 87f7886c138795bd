"""Bytes, hashes and tensors: what is loaded is what was published."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from stzoo import errors, files, tensorfile, weights
from stzoo.spec import Weights


class Net(nn.Module):
    """Initialised in several ways, with a tied weight and buffers that are and are not saved."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.Linear(width, width))
        self.head = nn.Linear(width, 5, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.empty(width))
        nn.init.trunc_normal_(self.scale)
        nn.init.orthogonal_(self.body[2].weight)
        self.body[0].bias.data.zero_()
        self.register_buffer("ramp", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("mask", torch.tril(torch.ones(width, width)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(self.embed(x) * self.scale + self.ramp)
        return self.head(y @ self.mask)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Net, Path]:
    torch.manual_seed(0)
    net = Net().eval()
    weights.save_tensors(net, tmp_path / "net.safetensors", {})
    return net, tmp_path / "net.safetensors"


def test_load_without_initialisers_equals_plain_load(saved: tuple[Net, Path]) -> None:
    net, path = saved
    state = torch.get_rng_state()
    other = weights.build(Net, {}, skip_init=True).eval()
    assert torch.equal(state, torch.get_rng_state()), "no random number was drawn"
    weights.assign(other, path, "net")
    x = torch.arange(5)
    assert torch.equal(net(x), other(x))
    assert torch.equal(net.ramp, other.ramp)
    assert other.head.weight is other.embed.weight, "tied weights are tied again"
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_building_elsewhere_is_not_affected(saved: tuple[Net, Path]) -> None:
    """The initialisers are off in one thread only."""
    inside, done = threading.Event(), threading.Event()
    found: list[bool] = []

    class Slow(Net):
        def __init__(self) -> None:
            super().__init__()
            inside.set()
            done.wait(60)

    def elsewhere() -> None:
        inside.wait(60)
        found.append(bool(nn.Linear(50, 50).weight.std() > 0.05))
        done.set()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    weights.build(Slow, {}, skip_init=True)
    thread.join()
    assert found == [True]


def test_training_does_not_change_the_mapped_file(saved: tuple[Net, Path]) -> None:
    _, path = saved
    before = path.read_bytes()
    net = weights.build(Net, {}, skip_init=True)
    weights.assign(net, path, "net")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before


def test_loaded_weights_can_be_saved_by_anything(saved: tuple[Net, Path], tmp_path: Path) -> None:
    """Every tensor has a storage of its own, though all are views of one mapping."""
    from safetensors.torch import load_file, save_file, save_model

    net, path = saved
    other = weights.build(Net, {}, skip_init=True)
    weights.assign(other, path, "net")
    torch.save(other.state_dict(), tmp_path / "net.pth")
    assert (tmp_path / "net.pth").stat().st_size < 3 * path.stat().st_size
    save_model(other, str(tmp_path / "again.safetensors"))
    save_file(
        {key: value for key, value in other.state_dict().items() if key != "head.weight"},
        tmp_path / "plain.safetensors",
    )
    for key, value in load_file(tmp_path / "plain.safetensors").items():
        assert torch.equal(value, net.state_dict()[key])


def test_large_tensors_are_aligned_as_torch_allocates_them(tmp_path: Path) -> None:
    """So kernels take the same paths on mapped weights. Odd sizes in between must not shift the others."""
    net = nn.Sequential(nn.Linear(256, 301), nn.Linear(301, 256), nn.BatchNorm1d(3))
    weights.save_tensors(net, tmp_path / "net.safetensors", {})
    read, _ = tensorfile.read(tmp_path / "net.safetensors")
    assert {tensor.data_ptr() % 64 for tensor in read.values()} == {0}
    for key, tensor in net.state_dict().items():
        assert torch.equal(read[key], tensor)


def test_the_same_tensors_and_notes_make_the_same_bytes(tmp_path: Path) -> None:
    """Also when they were read from a file: what is split anew for publishing has the same hash every time."""
    first, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    tensorfile.write({"x": torch.zeros(3)}, first, {f"note {number}": "" for number in range(9)})
    tensors, notes = tensorfile.read(first)
    tensorfile.write(tensors, again, notes)
    assert first.read_bytes() == again.read_bytes()


def test_every_tensor_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {key: value.contiguous().clone() for key, value in Net().state_dict().items() if key != "head.weight"}
    del state["scale"]
    state["extra"] = torch.zeros(1)
    state["body.0.weight"] = torch.zeros(3, 3)
    state["body.0.bias"] = torch.zeros(6, dtype=torch.int64)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(errors.WeightsMismatch) as caught:
        weights.assign(Net(), tmp_path / "bad.safetensors", "net")
    for part in (
        "missing scale",
        "unexpected extra",
        "body.0.weight has shape (3, 3), not (6, 6)",
        "body.0.bias has dtype torch.int64",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_file_that_is_no_safetensors(saved: tuple[Net, Path], damage: str) -> None:
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": content[: len(content) // 2], "text": b"version https://git-lfs.github.com/spec/v1\n"}[
            damage
        ]
    )
    with pytest.raises(errors.WeightsCorrupted, match=r"net\.safetensors is not an intact safetensors file"):
        weights.assign(Net(), path, "net")


def test_half_precision_file_loads_as_float32(saved: tuple[Net, Path], tmp_path: Path) -> None:
    net, _ = saved
    weights.save_tensors(net, tmp_path / "half.safetensors", {}, torch.float16)
    other = weights.build(Net, {}, skip_init=True)
    weights.assign(other, tmp_path / "half.safetensors", "net")
    assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}
    torch.testing.assert_close(other.scale, net.scale, rtol=1e-3, atol=1e-3)
    assert other.head.weight is other.embed.weight
    half = weights.build(Net, {}, skip_init=True)
    weights.assign(half, tmp_path / "half.safetensors", "net", torch.float16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(saved: tuple[Net, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Weights, Path]:
    """A plugin's package with bundled weights, and their record."""
    content = saved[1].read_bytes()
    copy = tmp_path / "site" / "stzoo_bundle" / "weights" / "net.safetensors"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)
    (copy.parent.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "site")
    digest = hashlib.sha256(content).hexdigest()
    return Weights("acme/net", sha256=digest, size=len(content), bundled="weights/net.safetensors"), copy


def test_the_nearest_place_with_the_right_hash_is_used(package: tuple[Weights, Path], tmp_path: Path) -> None:
    record, copy = package
    assert weights.locate(record, "net", "stzoo_bundle", offline=True).source == "bundled"
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(copy.read_bytes())
    found = weights.locate(record, "net", "stzoo_bundle", path=mine, offline=True)
    assert (found.source, found.path) == ("path", mine)


def test_other_bytes_never_load(package: tuple[Weights, Path], tmp_path: Path) -> None:
    record, copy = package
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(errors.WeightsCorrupted, match="are damaged .* and the Hub could not help"):
        weights.locate(record, "net", "stzoo_bundle", offline=True)
    with pytest.raises(errors.WeightsCorrupted, match="model 'net' has"):
        weights.locate(record, "net", "stzoo_bundle", path=copy, offline=True)
    copy.unlink()
    with pytest.raises(errors.HubOffline):
        weights.locate(record, "net", "stzoo_bundle", offline=True)
    with pytest.raises(errors.WeightsUnavailable, match="there is no weights file"):
        weights.locate(record, "net", "stzoo_bundle", path=tmp_path / "absent")


# --- hashes -----------------------------------------------------------------------------------------------------------


def test_the_hash_is_remembered_and_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"a" * 1000)
    expected = hashlib.sha256(b"a" * 1000).hexdigest()
    assert files.sha256_of(file) == expected
    notes = list((tmp_path / "cache" / "sha256").iterdir())
    assert len(notes) == 1
    notes[0].write_text("0" * 64)
    assert files.sha256_of(file) == "0" * 64, "the note is used"
    assert files.sha256_of(file, remember=False) == expected, "verify reads the bytes"
    status = file.stat()
    with file.open("r+b") as handle:
        handle.write(b"b")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert files.sha256_of(file) == hashlib.sha256(b"b" + b"a" * 999).hexdigest(), "same size and time, other bytes"


def test_the_hash_works_with_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("STZOO_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"x")
    assert files.sha256_of(file) == hashlib.sha256(b"x").hexdigest()


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("good")
    with pytest.raises(KeyError), files.atomic_path(good) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert good.read_text() == "good"
    assert list(tmp_path.iterdir()) == [good]
