"""Memory and CPU usage of this process, as the operating system reports them.

Nothing runs in the background. Samples are taken at a collection, at most one every five seconds;
child processes are looked up at most once a minute.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psutil

SAMPLE_EVERY = 5.0
CHILDREN_EVERY = 60.0
MEAN_OVER_AT_LEAST = 15.0

Points = Iterator[tuple[float, Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Sample:
    moment: float
    cpu: float
    io_wait: float | None


class Usage:
    """A small ring of samples that serves every reader alike."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque(maxlen=16)
        self._children: list[psutil.Process] = []
        self._children_since = -CHILDREN_EVERY
        self._cpus = available_cpus()
        self._sample()

    def read_memory(self) -> Points:
        yield self._process.memory_info().rss, {"component": "process"}
        yield self._children_memory(), {"component": "children"}

    def read_memory_limit(self) -> Points:
        yield memory_limit(), {}

    def read_cpu(self) -> Points:
        base, now = self._span()
        if base is not None:
            yield 100 * (now.cpu - base.cpu) / (now.moment - base.moment) / self._cpus, {}

    def read_io_wait(self) -> Points:
        base, now = self._span()
        if base is not None and base.io_wait is not None and now.io_wait is not None:
            cpus = psutil.cpu_count() or 1
            yield 100 * (now.io_wait - base.io_wait) / (now.moment - base.moment) / cpus, {}

    def _span(self) -> tuple[Sample | None, Sample]:
        """The newest sample that is old enough to average over, and the newest of all.

        A process younger than that averages over its life, once that is some seconds.
        """
        now = self._sample()
        with self._lock:
            old = [s for s in self._samples if now.moment - s.moment >= MEAN_OVER_AT_LEAST]
            first = self._samples[0]
        if not old and now.moment - first.moment >= SAMPLE_EVERY:
            return first, now
        return (old[-1] if old else None), now

    def _sample(self) -> Sample:
        moment = monotonic()
        with self._lock:
            if self._samples and moment - self._samples[-1].moment < SAMPLE_EVERY:
                return self._samples[-1]
            times = self._process.cpu_times()
            io_wait = getattr(psutil.cpu_times(), "iowait", None)
            self._samples.append(Sample(moment, times.user + times.system, io_wait))
            return self._samples[-1]

    def _children_memory(self) -> int:
        now = monotonic()
        with self._lock:
            if now - self._children_since >= CHILDREN_EVERY:
                self._children = self._process.children(recursive=True)
                self._children_since = now
            children = list(self._children)
        return sum(map(_resident, children))


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss if process.is_running() else 0
    except psutil.Error:
        return 0


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int:
    """The tightest limit of the cgroup this process is in, else the machine's memory."""
    total = psutil.virtual_memory().total
    limits = [_number(root / "memory" / "memory.limit_in_bytes")]
    limits += [_number(group / "memory.max") for group in _groups(root)]
    return min([limit for limit in limits if limit is not None and limit < total], default=total)


def available_cpus(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPUs that affinity and cgroup quota leave to this process."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = float(len(affinity(0)) if affinity is not None else psutil.cpu_count() or 1)
    for group in _groups(root):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdecimal() and period.strip().isdecimal():
            cpus = min(cpus, int(quota) / int(period))
    quota, period = (_number(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota is not None and period:
        cpus = min(cpus, quota / period)
    return cpus


def _groups(root: Path) -> Iterator[Path]:
    """The cgroup (version 2) of this process and those around it, the innermost first."""
    unified = next(
        (line[3:] for line in _text(Path("/proc/self/cgroup")).splitlines() if line[:3] == "0::"),
        "/",
    )
    group = root / unified.strip().lstrip("/")
    while group != root and root in group.parents:
        yield group
        group = group.parent
    yield root


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
