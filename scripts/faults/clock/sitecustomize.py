"""Read by Python at its start where this folder is in PYTHONPATH: a clock that can be moved.

The file that CLOCK_OFFSET names says by how many seconds. Monotonic clocks are left alone, as where
an administrator sets the clock.
"""

import os
import time
from pathlib import Path

SECONDS, NANOSECONDS = time.time, time.time_ns
OFFSET = Path(os.environ["CLOCK_OFFSET"])


def offset() -> int:
    return int(OFFSET.read_text())


time.time = lambda: SECONDS() + offset()
time.time_ns = lambda: NANOSECONDS() + offset() * 10**9
