"""Every kind of field through a page's endpoint: what a program gets is bit for bit what ``predict`` gives."""

from __future__ import annotations

import socket
from pathlib import Path

import fieldtoy
import masktoy
import numpy as np
import pytest

import stzoo
from stzoo.fields import Prompts
from stzoo.media import masks
from stzoo.requirements import Requirements

NAMES = [
    "parting-one",
    "pointing-one",
    "showing-one",
    "measuring-one",
    "refining-one",
    "shifting-one",
    "foretelling-one",
]


def test_endpoints_give_bit_for_bit_what_predict_gives(tmp_path: Path) -> None:
    client = pytest.importorskip("gradio_client", reason="demos need gradio: pip install 'stzoo[demo]'")
    from stzoo.ui.gallery import launch

    with masktoy.TOY.installed(tmp_path / "masks"), fieldtoy.TOY.installed(tmp_path / "fields"):
        blocks = stzoo.demo(*NAMES)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = launch(blocks, prevent_thread_lock=True, quiet=True, server_port=port)[1]
        try:
            visitor = client.Client(url, verbose=False, download_files=str(tmp_path), analytics_enabled=False)
            endpoints = visitor.view_api(return_format="dict", print_info=False)["named_endpoints"]
            assert endpoints["/predict_pointing_one"]["parameters"][1]["type"]["type"] == "array"
            for name in NAMES:
                predictor = stzoo.load(name, device="cpu")
                given, sent = [], []
                for item in predictor.task.inputs:
                    value = item.sample(predictor.requirements)
                    if isinstance(item, Prompts):
                        drawn = masks.runs(masks.sample_masks(1, predictor.requirements)[0] == 3)
                        sent.append([*(entry.plain() for entry in value), {"frame": 2, "object": 9, "mask": drawn}])
                        given.append(sent[-1])
                    else:
                        suffix = [ending for ending in item.suffixes if ending in item.reads][-1]
                        given.append(tmp_path / f"{name}-{item.name}{suffix}")
                        item.write(value, given[-1])
                        sent.append(client.handle_file(given[-1]))
                answer = visitor.predict(*sent, api_name=f"/predict_{name.replace('-', '_')}")
                (output,), (expected,) = predictor.task.outputs, predictor.predict(*given).values()
                assert Path(answer).suffix == ".npz"
                found = np.asarray(output.read(answer, Requirements()))
                assert np.nanmax(found) > 0
                assert np.array_equal(found, np.asarray(expected, found.dtype), equal_nan=found.dtype.kind == "f")
            video = client.handle_file(tmp_path / "pointing-one-video.npz")
            for wrong, said in (
                ("/etc/passwd", "not valid JSON"),
                ([{"frame": 9, "box": [0, 0, 1, 1]}], "video has 4"),
            ):
                with pytest.raises(Exception, match=said):
                    visitor.predict(video, wrong, api_name="/predict_pointing_one")
        finally:
            blocks.close(verbose=False)
