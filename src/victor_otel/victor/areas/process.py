"""This process: its memory and CPU usage, as the operating system reports them (usage.py)."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING

from victor_otel.model.metric import Gauge, Reading
from victor_otel.model.rows import Area
from victor_otel.victor import labels

if TYPE_CHECKING:
    from victor_otel.victor.usage import Usage

MEMORY_USAGE = Gauge(
    "victor.memory.usage",
    "Resident memory of this process, and of its living descendants",
    unit="By",
    labels=(labels.MEMORY_COMPONENT,),
    guide=True,
)
MEMORY_LIMIT = Gauge(
    "victor.memory.limit",
    "Memory limit of this process's cgroup, or the machine's memory if there is no limit",
    unit="By",
)
CPU_USAGE = Gauge(
    "victor.cpu.usage",
    "Share of the CPUs this process may use that it uses (100 is all of them), averaged "
    "over the last 15 to 60 s",
    unit="%",
    guide=True,
)
IO_WAIT = Gauge(
    "victor.io_wait",
    "Share of time that the system's CPUs waited for I/O, averaged over the last 15 to 60 s",
    unit="%",
)


def _usage() -> Usage:
    # psutil is imported when something is measured, not at each start of Victor.
    from victor_otel.victor.usage import Usage

    return Usage()


AREA = Area(
    name="process",
    metrics=(MEMORY_USAGE, MEMORY_LIMIT, CPU_USAGE, IO_WAIT),
    readings=(
        Reading(metric=MEMORY_USAGE, read=methodcaller("read_memory")),
        Reading(metric=MEMORY_LIMIT, read=methodcaller("read_memory_limit")),
        Reading(metric=CPU_USAGE, read=methodcaller("read_cpu")),
        Reading(metric=IO_WAIT, read=methodcaller("read_io_wait")),
    ),
    state=_usage,
)
