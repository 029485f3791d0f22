"""Call records of a gateway in this process."""

from __future__ import annotations

import time

from proxy import runtime
from proxy.record import recorder

LONGEST = 1.0
"""Seconds; a stream that the test holds open is not waited for any longer."""


def write_records() -> None:
    """Write the records of all calls that were answered. A call is recorded just after its answer has gone out."""
    ends = time.monotonic() + LONGEST
    while any(len(one.in_flight) for one in list(runtime._runtimes.values())) and time.monotonic() < ends:
        time.sleep(0.002)  # the pace of asking
    recorder.flush()
