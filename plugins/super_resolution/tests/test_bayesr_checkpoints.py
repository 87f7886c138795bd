"""TensorFlow bundles, and the official checkpoints of BayeSR in them."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import stzoo
from stzoo.errors import FormatError
from stzoo_super_resolution.bayesr import BayeSR
from stzoo_super_resolution.bayesr_checkpoints import OfficialBayeSR, _snappy, read_bundle

GOLDENS = Path(__file__).parent / "goldens"
TINY: dict[str, Any] = {"scale": 4, "filters": 16, "d_cnnx": 3, "d_cnnz": 2, "d_cnnm": 1}


def official(network: BayeSR) -> dict[str, Tensor]:
    """The state dict of a network under TensorFlow's names, in its layouts."""
    return {
        "SmSpNet/" + key.replace(".", "/").replace("weight", "kernel"): (
            tensor.permute(2, 3, 1, 0).contiguous() if tensor.ndim == 4 else tensor
        )
        for key, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def network() -> BayeSR:
    torch.manual_seed(0)
    return BayeSR(**TINY).eval()


# --- a writer of bundles ----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def message(**parts: int | bytes) -> bytes:
    """A protocol buffer: ``f1=3`` is a number in field 1, bytes are a message."""
    out = b""
    for name, value in parts.items():
        number = int(name[1:]) << 3
        out += (
            varint(number) + varint(value)
            if isinstance(value, int)
            else varint(number | 2) + varint(len(value)) + value
        )
    return out


def literal(data: bytes) -> bytes:
    """Snappy without any compression."""
    return varint(len(data)) + bytes([61 << 2]) + struct.pack("<H", len(data) - 1) + data


def block(entries: Mapping[bytes, bytes], compressed: bool) -> bytes:
    out, before = b"", b""
    for key, value in entries.items():
        shared = next(
            (i for i, (one, two) in enumerate(zip(key, before, strict=False)) if one != two), min(len(key), len(before))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    out += struct.pack("<II", 0, 1)
    return (literal(out) + b"\1" if compressed else out + b"\0") + bytes(4)


def write_bundle(tensors: Mapping[str, Tensor], prefix: Path, *, compressed: bool = False, per_block: int = 5) -> Path:
    """A bundle of float32 tensors, two of whose data files and several of whose blocks are used; returns its index."""
    shards = [b"", b""]
    entries = {b"": message(f1=2, f3=message(f1=1))}
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        data, shard = tensor.contiguous().numpy().tobytes(), number % 2
        shape = b"".join(message(f2=message(f1=size)) for size in tensor.shape)
        entries[name.encode()] = (
            message(f1=1, f2=shape, f3=shard, f4=len(shards[shard]), f5=len(data)) + b"\x35" + bytes(4)
        )
        shards[shard] += data
    for number, shard_data in enumerate(shards):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-00002").write_bytes(shard_data)
    table, index, keys = b"", {}, list(entries)
    for start in range(0, len(keys), per_block):
        part = {key: entries[key] for key in keys[start : start + per_block]}
        made = block(part, compressed)
        index[keys[min(start + per_block, len(keys)) - 1]] = varint(len(table)) + varint(len(made) - 5)
        table += made
    handles = b""
    for made in (block({}, False), block(index, compressed)):
        handles += varint(len(table)) + varint(len(made) - 5)
        table += made
    path = prefix.with_name(prefix.name + ".index")
    path.write_bytes(table + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    return path


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_that_tensorflow_wrote() -> None:
    """TensorFlow 2.21's ``tf.compat.v1.train.Saver`` (V2) of five small variables."""
    found = read_bundle(GOLDENS / "tensorflow-bundle.index")
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in found.items()} == {
        "a": (torch.float32, (2, 3)),
        "empty": (torch.float32, (0, 3)),
        "flag": (torch.bool, (2,)),
        "half": (torch.float16, (4,)),
        "step": (torch.int64, ()),
    }
    assert found["half"].tolist() == [0, 1, 2, 3]
    assert (found["flag"].tolist(), found["step"].item()) == ([True, False], 7)
    expected = [[0.62680, -0.44154, 0.25897], [0.62961, -1.36991, -1.30828]]
    np.testing.assert_allclose(found["a"], expected, atol=1e-4)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("per_block", [1, 3, 1000])
def test_blocks_and_data_files(tmp_path: Path, compressed: bool, per_block: int) -> None:
    tensors = {f"net/layer{i}/kernel": torch.arange(6.0).view(1, 2, 3) + i for i in range(20)} | {
        "step": torch.tensor(3.0)
    }
    found = read_bundle(write_bundle(tensors, tmp_path / "model-7", compressed=compressed, per_block=per_block))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"\x05\x10abcde", b"abcde"),
        (b"\x14\x00a\x4a\x01\x00", b"a" * 20),  # a copy that overlaps what it makes
        (b"\x0a\x08abc\x05\x03\x00z", b"abcabcabz"[:8] + b"az"[:0] + b"z"),
        (b"\x08\x0cabcd\x0f\x04\x00\x00\x00", b"abcdabcd"),
    ],
)
def test_snappy(packed: bytes, expected: bytes) -> None:
    packed = varint(len(expected)) + packed[1:]
    assert _snappy(packed) == expected


@pytest.mark.parametrize("packed", [b"\x08\x0cabcd", b"\x08\x0cabcd\x0f\x09\x00\x00\x00", b"\x02\x00a\x02\x00\x00"])
def test_damaged_snappy(packed: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        _snappy(packed)


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.write_bytes(index.read_bytes()[:-1]), "does not end as one does"),
        (lambda index: index.write_bytes(b"x" * 20), "does not end as one does"),
        (lambda index: index.write_bytes(index.read_bytes()[40:]), "not a readable TensorFlow bundle"),
        (lambda index: index.with_suffix(".data-00001-of-00002").unlink(), "data-00001-of-00002 is not beside"),
        (lambda index: index.with_suffix(".data-00000-of-00002").write_bytes(b""), "beyond the end"),
    ],
)
def test_damaged_bundles(tmp_path: Path, change: Change, message: str) -> None:
    index = write_bundle({"a": torch.ones(3), "b": torch.ones(2)}, tmp_path / "model")
    change(index)
    with pytest.raises(FormatError, match=message):
        read_bundle(index)


def test_any_cut_is_noticed(tmp_path: Path) -> None:
    """No byte of the index is left out without an error that says so."""
    index = write_bundle({"a": torch.ones(3)}, tmp_path / "model", per_block=1)
    whole = index.read_bytes()
    for place in range(len(whole)):
        index.write_bytes(whole[:place] + whole[place + 1 :])
        try:
            found = read_bundle(index)
        except FormatError:
            continue
        assert torch.equal(found["a"], torch.ones(3))  # a checksum, or what is never read


def test_what_is_no_plain_tensor(tmp_path: Path) -> None:
    index = write_bundle({"a": torch.ones(3)}, tmp_path / "model")
    parts = index.read_bytes()
    text = parts.replace(message(f1=1, f2=message(f2=message(f1=3))), message(f1=7, f2=message(f2=message(f1=3))))
    index.write_bytes(text)
    assert read_bundle(index) == {}  # a tensor of strings


# --- BayeSR -----------------------------------------------------------------------------------------------------------


def test_import_of_a_bundle(network: BayeSR, tmp_path: Path) -> None:
    companions = {
        "SmSpNet/Discriminator/HR/conv0/kernel": torch.ones(4, 4, 3, 64),
        "SmSpNet/cnnx/input/kernel/Adam_1": torch.ones(3, 3, 3, 16),
        "SmSpNet/cnnx/input/kernel/RMSProp": torch.ones(3, 3, 3, 16),
    }
    index = write_bundle(official(network) | companions, tmp_path / "bestmodel", compressed=True)
    imported = stzoo.import_checkpoint(index, device="cpu")
    assert imported.architecture.name == "bayesr"
    assert {key: imported.config[key] for key in TINY} == TINY
    own = imported.module.state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in network.state_dict().items())
    assert any("training data" in note for note in imported.report.notes)


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_import_of_tensorflows_names_in_other_files(network: BayeSR, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"model{ending}"
    save_file(official(network), path) if ending == ".safetensors" else torch.save(official(network), path)
    assert stzoo.import_checkpoint(path, device="cpu").config["d_cnnx"] == 3


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"scale": 1},
        {"scale": 2, "up_type": "subpixel", "use_CA": False, "in_channel": 1},
        {"scale": 3, "filter_size": 5},
        {"scale": 3, "up_type": "subpixel"},
        {"scale": 8, "filters": 32},
        {"scale": 4, "up_type": "interpolation"},
    ],
)
def test_configs_are_recovered(config: dict[str, Any]) -> None:
    made, known = BayeSR(**TINY | config), OfficialBayeSR()
    state = official(made)
    found = known.detect(state)
    assert found is not None
    assert found == {**{"in_channel": 3, "filter_size": 3, "up_type": "transpose", "use_CA": True}, **TINY, **config}
    BayeSR(**found).load_state_dict(known.convert(state, found))
    assert any(note.startswith("scale:") for note in known.unknown(found)) == (config.get("up_type") == "interpolation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("SmSpNet/upz/output1/bias"), "missing: upz.output1.bias"),
        (lambda state: state.update({"SmSpNet/cnnx/down_layer0/conv0/kernel": torch.ones(3, 3, 16, 16)}), "unexpected"),
        (lambda state: state.update({"SmSpNet/upm/output2/bias": torch.ones(5)}), "of the wrong shape"),
        (lambda state: state.update({"SmSpNet/cnnx/input/kernel": torch.ones(5)}), "malformed"),
    ],
)
def test_other_networks_are_refused(
    network: BayeSR, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = official(network)
    change(state)
    with pytest.raises(FormatError, match=message):
        OfficialBayeSR().detect(state)


def test_what_is_not_bayesr_is_left_to_others(tmp_path: Path) -> None:
    assert OfficialBayeSR().detect({"conv1.weight": torch.ones(3)}) is None
    for part in GOLDENS.glob("tensorflow-bundle.*"):
        shutil.copy(part, tmp_path)
    with pytest.raises(FormatError, match="was not recognised"):
        stzoo.import_checkpoint(tmp_path / "tensorflow-bundle.index")
