"""How long a process needs to end, and what it says was not delivered."""

from __future__ import annotations

import re

from tests.kit.processes import AGENT

TIMED = (
    AGENT
    + """
import atexit, time
marks = []
atexit.register(lambda: print("exit took", round(time.perf_counter() - marks[0], 2), file=sys.stderr))
work()
marks.append(time.perf_counter())
"""
)


def exit_seconds(stderr: str) -> float:
    found = re.search(r"exit took ([\d.]+)", stderr)
    assert found is not None, stderr
    return float(found[1])


def undelivered(stderr: str) -> list[str]:
    """The lines about exports, whoever wrote them."""
    return [line for line in stderr.splitlines() if "deliver" in line or "opentelemetry." in line]
