"""The README's publishing section, against a local Hub: publish, load elsewhere by repo id, pin it with a lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hubserver import HubServer

SETUP = """
import json, sys, stzoo, torch
from stzoo import errors
torch.manual_seed(0)
tiny = dict(in_shape=(4, 1, 16, 16), hid_S=4, hid_T=8, N_S=2, N_T=2)
clip = torch.linspace(0, 1, 4 * 256).view(4, 1, 16, 16)
"""
PUBLISH = (
    "p = stzoo.create('tau', **tiny); url = p.publish('alice/tiny'); answer = [url, p.predict(clip).video.sum().item()]"
)
LOAD = """
p = stzoo.load('alice/tiny', **options)
answer = [p.report.source, p.report.revision, p.predict(clip).video.sum().item(), stzoo.verify('alice/tiny').ok]
"""
LOCK = "answer = str(stzoo.lock(['alice/tiny'], 'stzoo.lock'))"
AGAIN = """
p = stzoo.load('alice/tiny')
with torch.no_grad():
    p.module.dec.readout.bias.add_(1)
p.publish('alice/tiny')
pinned = stzoo.load('alice/tiny', lock='stzoo.lock').predict(clip).video.sum().item()
answer = [pinned, stzoo.load('alice/tiny').predict(clip).video.sum().item()]
"""


@pytest.mark.parametrize("transfer", ["lfs", "xet"])
def test_publish_load_and_pin(tmp_path: Path, transfer: str) -> None:
    with HubServer(tmp_path / "hub", xet=tmp_path / "xet" if transfer == "xet" else None) as hub:

        def run(code: str, home: str, token: str | None = None, **options: Any) -> Any:
            program = f"{SETUP}options = {options!r}\n{code}\nprint('answer:' + json.dumps(answer))"
            environment = os.environ | hub.env(tmp_path / home, token)
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout.rpartition("answer:")[2])

        url, total = run(PUBLISH, "author", "hf_alice")
        assert "alice/tiny" in url
        source, revision, loaded, verified = run(LOAD, "reader")
        assert (source, loaded, verified) == ("hub", total, True)
        assert revision in url
        assert run(LOCK, "reader") == "stzoo.lock"
        again = run(LOAD, "reader", revision=revision, offline=True)
        assert again == ["hub cache", revision, total, True]
        pinned, newest = run(AGAIN, "author", "hf_alice")
        assert pinned == total
        assert newest != total
