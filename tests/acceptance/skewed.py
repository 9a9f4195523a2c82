"""`zizq` on a machine with a wrong clock: `python skewed.py SECONDS serve ...`.

The clock is wrong by so many seconds for all that runs in this process; the monotonic clock is right, as such a one is.
"""

from __future__ import annotations

import sys
import time

skew = float(sys.argv.pop(1))
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + skew
time.time_ns = lambda: right_ns() + int(skew * 1e9)

from zizq.cli.main import main  # noqa: E402 - after the clock is set

main()
