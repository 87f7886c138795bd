"""Trainings with FSDP2 on CPUs, in one start of two processes: ``sharded.py DATA OUTPUT OPTIONS REFUSED...``.

Accelerate takes FSDP for accelerators alone, PyTorch shards over gloo as well: so only that choice of Accelerate is changed.
PYTEST_DONT_REWRITE: there are no assertions here.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

from stzoo import errors
from stzoo.training.loop import finetune
from stzoo.training.watch import Watch

begin = state.AcceleratorState.__init__
os.environ["FSDP_VERSION"] = "2"


def begin_with_fsdp(self: Any, *words: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    fresh = not self.initialized
    begin(self, *words, fsdp_plugin=fsdp_plugin, **options)
    if fresh and fsdp_plugin is not None:
        self.distributed_type = state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


def torn(self: Watch, *words: Any) -> float:
    if self.progress.step == 4:
        raise KeyboardInterrupt
    return log(self, *words)


def refused(name: str, **options: Any) -> None:
    try:
        finetune(name, data, output / name, steps=1, trackers=[], pictures=0, **options)
    except errors.ConfigError as problem:
        refusals[name] = str(problem)


data, output, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
refusals: dict[str, str] = {}
finetune("wide", data, output / "ddp", **options)

state.AcceleratorState.__init__ = begin_with_fsdp  # type: ignore[method-assign]
os.environ |= {
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "7",
}  # the latter changes nothing
finetune("wide", data, output / "whole", **options)
log, Watch.log = Watch.log, torn  # type: ignore[method-assign]
try:
    finetune("wide", data, output / "torn", **options)
except KeyboardInterrupt:
    Watch.log = log  # type: ignore[method-assign]
finetune(output=output / "torn", resume=True)
for name in sys.argv[4:]:
    refused(name)
if os.environ["RANK"] == "0":
    (output / "refusals.json").write_text(json.dumps(refusals))
