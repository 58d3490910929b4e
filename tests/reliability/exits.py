"""How long the end of a process may take."""

from __future__ import annotations

from tests.reliability.lifecycles import WORK

BOUND = 0.5
"""Seconds that the environment gives the last export."""

GENEROUS = 10
"""Seconds after which the exit hangs, on the busiest machine. The plain SDK takes 7 to 40."""

TIMED = (
    """
import atexit
marks = []
atexit.register(lambda: print("exit took", round(time.perf_counter() - marks[0], 2), file=sys.stderr))
"""
    + WORK
    + """
work(5)
time.sleep(float(sys.argv[1]))
work(5)
marks.append(time.perf_counter())
"""
)
