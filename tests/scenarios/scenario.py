"""What a scenario is: real work of Victor's, and an own count of what must come out."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry

from victor_otel.model.metric import Kind, Metric
from victor_otel.victor.supported import applies

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""`{(Prometheus name, labels): value}`."""


class Count:
    """The own count of a scenario, by Prometheus names, kept without the instrumentation."""

    def __init__(self) -> None:
        self.began = perf_counter()
        """When the scenario could begin: a moment after the instrumentation was switched on."""
        self._sums: dict[tuple[str, frozenset[tuple[str, str]]], float] = defaultdict(float)
        self._ratios: dict[tuple[str, frozenset[tuple[str, str]]], tuple[float, float]] = {}
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], Callable[[], float]] = {}
        self.tolerances: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        """By how much a measured series may differ, as its `within` says; others are exact."""
        self.lasting = contextlib.AsyncExitStack()
        """What must last until the numbers are read: requests under way, living children."""

    def add(self, name: str, value: float = 1, *, within: float = 0, **labels: str) -> None:
        """Adds to a counter, or to a `_count`, `_sum` or `_bucket` of a histogram."""
        self._sums[name, frozenset(labels.items())] += value
        self._allow(name, within, labels)

    def ratio(self, name: str, good: float, total: float, **labels: str) -> None:
        """Adds `good` of `total` events to a ratio."""
        key = name, frozenset(labels.items())
        before = self._ratios.get(key, (0, 0))
        self._ratios[key] = before[0] + good, before[1] + total

    def set(self, name: str, value: float, *, within: float = 0, **labels: str) -> None:
        """Says what a gauge must show at the end."""
        self.set_by(name, lambda: float(value), within=within, **labels)

    def set_by(
        self, name: str, value: Callable[[], float], *, within: float = 0, **labels: str
    ) -> None:
        """The same of a gauge that goes on changing: `value` is asked when the gauge is read."""
        self._values[name, frozenset(labels.items())] = value
        self._allow(name, within, labels)

    def _allow(self, name: str, within: float, labels: Mapping[str, str]) -> None:
        if within:
            key = name, frozenset(labels.items())
            self.tolerances[key] = self.tolerances.get(key, 0) + within

    @property
    def sums(self) -> Series:
        """Counters and parts of histograms."""
        return dict(self._sums)

    @property
    def gauges(self) -> Series:
        """Everything else."""
        ratios = {key: good / total for key, (good, total) in self._ratios.items()}
        return {**ratios, **{key: value() for key, value in self._values.items()}}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`run` works in an empty folder of its own, which is the current directory."""

    run: Callable[[Count], Coroutine[Any, Any, None]]
    proves: tuple[Metric, ...]
    """Every non-zero series of these metrics is in the count, and nothing else is."""
    needs: tuple[str, ...] = ()
    """Packages beyond victor-ai."""
    since: str = ""
    until: str = ""
    """Versions of Victor in which the work exists: from `since`, before `until`."""
    alone: bool = False
    """Its numbers are those of a whole process, which no other scenario may share."""

    @property
    def name(self) -> str:
        return f"{self.module}.{self.run.__name__}"

    @property
    def module(self) -> str:
        return self.run.__module__.rpartition(".")[2]

    def applies(self, version: str = "") -> bool:
        """Whether a version of Victor, the installed one by default, can do the work."""
        version = version or importlib.metadata.version("victor-ai")
        return applies(version, self.since, self.until)


@contextlib.asynccontextmanager
async def played(scenario: Scenario, folder: Path) -> AsyncIterator[Count]:
    """The own count of a scenario that ran in `folder`, while what must last still does.

    All scenarios of a process belong into one event loop, to which Victor's event bus is bound;
    before that loop ends, `end_tasks` must be called.
    """
    from victor.config.settings import get_project_paths, reset_project_paths

    count = Count()
    with contextlib.chdir(folder):
        reset_project_paths()  # Victor keeps the first folder that it saw as its project,
        # and what its tools said of relative paths, wherever they led.
        shutil.rmtree(get_project_paths().global_cache_dir, ignore_errors=True)
        async with count.lasting:
            await asyncio.create_task(scenario.run(count))  # with context variables of its own
            yield count


async def end_tasks() -> None:
    """Cancels what still runs until it ends: Victor's event bus may miss a cancellation."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=1)


def exported(registry: CollectorRegistry) -> Series:
    """What the in-process endpoint shows."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def names(metric: Metric) -> tuple[str, ...]:
    """The series of a metric that every scenario must account for."""
    suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
    return (metric.prometheus_name + suffix,)


def of(
    series: Series,
    metrics: Iterable[Metric],
    also: Iterable[tuple[str, frozenset[tuple[str, str]]]] = (),
) -> Series:
    """The series of `metrics` that are not 0, and those named in `also`."""
    wanted = {name for metric in metrics for name in names(metric)}
    asked = set(also)
    return {
        key: value for key, value in series.items() if key in asked or (key[0] in wanted and value)
    }
