"""What stzoo asks of the process that it runs in."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
from stzoo.processes import keep_memory
keep_memory()
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = b"x" * 2**25
    del buffer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
@pytest.mark.parametrize(("tuned", "faults"), [({}, (0, 100)), ({"MALLOC_MMAP_THRESHOLD_": "65536"}, (1000, 10**5))])
def test_freed_memory_is_kept_unless_the_environment_says_how(tuned: dict[str, str], faults: tuple[int, int]) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], env=own | tuned, capture_output=True, text=True, check=True)
    assert faults[0] <= int(done.stdout) < faults[1]
