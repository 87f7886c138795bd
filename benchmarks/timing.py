"""How the benchmarks time."""

from __future__ import annotations

import time
from collections.abc import Callable


def alternate(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of every run, of the wall's clock and of the processor, taken in turn so that a busy moment hits all."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):  # the first round warms up
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            if repeat:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return seconds
