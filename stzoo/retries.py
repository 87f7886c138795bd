"""Trying again what can succeed the next time: a bounded number of times, with growing pauses."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from stzoo import errors

log = logging.getLogger("stzoo")
T = TypeVar("T")

BACKOFF = 1.0
"""Seconds before the first retry, doubled before each further one up to eight times this."""
LONGEST_WAIT = 60.0
"""Seconds; a longer ``Retry-After`` is cut to this."""
PROGRESS = 1 << 20
"""Bytes; an attempt that received more does not count as a failed one."""
_CAN_PASS = (errors.HubUnavailable, errors.RateLimited, errors.ServerUnavailable, errors.DownloadTruncated)


def retrying(
    work: Callable[[], T],
    error_for: Callable[[Exception], errors.StzooError | None],
    retries: int | None = None,
    received: Callable[[], int] = lambda: 0,
) -> T:
    """Do ``work``, again after failures that can pass (default: ``STZOO_HUB_RETRIES`` times, or 4).

    What it raises is stzoo's: ``error_for`` says which exception stands for a foreign one, which is its ``__cause__``;
    None leaves it as it is. An attempt after which ``received`` has grown by a good part does not count.
    """
    if retries is None:
        text = os.environ.get("STZOO_HUB_RETRIES", "4")
        if not text.isdecimal():
            raise errors.ConfigError(f"STZOO_HUB_RETRIES={text!r} is not a number", "Set it to 0 or more, or unset it")
        retries = int(text)
    failures, mark = 0, received()
    while True:
        try:
            return work()
        except Exception as problem:
            error = problem if isinstance(problem, errors.StzooError) else error_for(problem)
            if error is None:
                raise
            failures, mark = (1, received()) if received() - mark > PROGRESS else (failures + 1, mark)
            if not isinstance(error, _CAN_PASS) or failures > retries:
                raise error from problem.__cause__ if error is problem else problem
            wait = BACKOFF * min(2 ** (failures - 1), 8) * random.uniform(0.5, 1)
            answer = getattr(problem, "response", None)
            if answer is not None and (asked := answer.headers.get("Retry-After", "")).isdecimal():
                wait = min(float(asked), LONGEST_WAIT)
            log.warning("%s. Trying again in %.1f s (%d of %d)", error.problem, wait, failures, retries)
            time.sleep(wait)
