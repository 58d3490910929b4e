"""This process, by the system's own files instead of psutil, which the instrumentation asks."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, perf_counter

from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor.areas import process

PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
CHILD = "kept = bytearray(b'x' * 50_000_000); print('up', flush=True); input()"
BUSY_SECONDS = 5.2
"""CPU shares are means over some seconds; a process that is younger has none yet."""


async def memory_and_cpu(count: Count) -> None:
    """Computes for some seconds beside a child that holds 50 MB, and reads /proc before and after."""
    before = _clocks()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = count.lasting.enter_context(subprocess.Popen([sys.executable, "-c", CHILD], **pipes))
    count.lasting.callback(child.communicate, b"\n")
    await asyncio.to_thread(child.stdout.readline)
    await asyncio.to_thread(_compute)
    elapsed, worked, waited = map(operator.sub, _clocks(), before)
    cpus, allowed = os.cpu_count() or 1, _cpus()
    # Less than a second passed between our first sample and `before`.
    count.set("victor_cpu_usage_percent", 100 * worked / elapsed / allowed, within=15 / allowed)
    count.set("victor_io_wait_percent", 100 * waited / elapsed / cpus, within=5)
    own, children = _resident(os.getpid()), sum(map(_resident, _descendants(os.getpid())))
    assert children > 50_000_000
    name = "victor_memory_usage_bytes"
    count.set(name, own, within=0.05 * own, component="process")
    count.set(name, children, within=0.02 * children, component="children")
    count.set("victor_memory_limit_bytes", _memory_limit())


def _compute() -> None:
    until = perf_counter() + BUSY_SECONDS
    while perf_counter() < until:
        sum(range(10_000))


def _stat(process: int | str) -> list[str]:
    """The fields after the program's name, which may hold spaces: the state is the first."""
    return (PROC / str(process) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _clocks() -> tuple[float, float, float]:
    """Seconds: the time, this process's CPU time, and the machine's waiting for I/O."""
    user, system = _stat("self")[11:13]
    waited = (PROC / "stat").read_text(encoding="ascii").split()[5]
    return monotonic(), (int(user) + int(system)) / TICK, int(waited) / TICK


def _resident(process: int) -> int:
    return int((PROC / str(process) / "statm").read_text(encoding="ascii").split()[1]) * PAGE


def _descendants(of: int) -> Iterator[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended since
                children[int(_stat(folder.name)[1])].append(int(folder.name))
    found = [of]
    for ancestor in found:
        found += children[ancestor]
    yield from found[1:]


def _memory_limit() -> int:
    """The least that a control group around this process allows, else the machine's memory."""
    line = (PROC / "meminfo").read_text(encoding="ascii").splitlines()[0]
    told = [*_told_by_groups("memory.max"), *_told_by_groups("memory.limit_in_bytes")]
    return min(int(line.split()[1]) * 1024, *map(int, filter(str.isdecimal, told)))


def _cpus() -> float:
    shares = [told.split() for told in _told_by_groups("cpu.max") if told[0] != "m"]
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, *(int(quota) / int(period) for quota, period in shares), allowed)


def _told_by_groups(file: str) -> Iterator[str]:
    for line in (PROC / "self" / "cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, group = line.split(":", 2)
        root = GROUPS / controllers
        own = root / group.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root) and (folder / file).exists():
                yield (folder / file).read_text(encoding="ascii").strip()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=memory_and_cpu,
        proves=(
            process.MEMORY_USAGE,
            process.MEMORY_LIMIT,
            process.CPU_USAGE,
            process.IO_WAIT,
        ),
    ),
)
