"""Many agents, each with an instance, a MeterProvider and instruments of its own, in few processes.

`python -m tests.stack.fleet URL FIRST COUNT` is one of the processes. For each line on its standard
input all of its agents work a little and push their totals, and it answers with a line.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from tests.kit.processes import environment
from tests.stack.processes import Labels, stop
from tests.stack.short_runs import expected, recorded
from victor_otel.engine.health import Health
from victor_otel.signals.recorder import Recorder

AGENTS_EACH = 250
AT_ONCE = 8
# All label sets that there are.
RUNS = 6


def totals(rounds: int) -> Mapping[tuple[str, Labels], float]:
    """What one agent has counted after so many rounds."""
    return {key: rounds * value for key, value in expected(RUNS).items()}


def size() -> tuple[int, int]:
    """How many points an agent pushes, and how many series these are: a histogram is one point."""
    reader = InMemoryMetricReader()
    _work(Recorder(MeterProvider([reader], shutdown_on_exit=False), Health()))
    data = reader.get_metrics_data()
    assert data is not None
    pushed = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    # With its count and its sum.
    buckets = [len(p.bucket_counts) + 2 if isinstance(p, HistogramDataPoint) else 1 for p in pushed]
    return len(pushed), sum(buckets)


@dataclass(frozen=True)
class Fleet:
    """Agents that work and push when they are told to."""

    processes: Sequence[subprocess.Popen[str]]

    def begin(self) -> None:
        """All agents work and push once; `end` waits for them."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def end(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            answered = process.stdout.readline()
            if answered != "pushed\n":
                raise RuntimeError(f"a process of agents has answered {answered!r}")

    def push(self) -> None:
        self.begin()
        self.end()


@contextmanager
def fleet(urls: Sequence[str], agents: int, *, each: int = AGENTS_EACH) -> Generator[Fleet]:
    """Run so many agents, which push to the Collectors in turn, one process to one."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for number, first in enumerate(range(0, agents, each)):
            count = min(each, agents - first)
            url = urls[number % len(urls)]
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.stack.fleet", url, str(first), str(count)],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(process)
        yield Fleet(processes)
    finally:
        for process in processes:
            process.communicate()
            stop(process)


def _agent(url: str, number: int) -> Callable[[], None]:
    """What one agent does in a round."""
    # On a busy machine; a push that is late is not what is tested.
    exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=60)
    # It pushes when it is told to.
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    resource = Resource({"service.name": "victor", "service.instance.id": f"agent-{number}"})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    record = Recorder(provider, Health())

    def work() -> None:
        _work(record)
        provider.force_flush(60_000)

    return work


def _work(record: Recorder) -> None:
    for run in range(RUNS):
        for metric, value, labels in recorded(run):
            record(metric, value, **labels)


def main(url: str, first: str, count: str) -> None:
    agents = [_agent(url, number) for number in range(int(first), int(first) + int(count))]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in sys.stdin:
            for working in [threads.submit(agent) for agent in agents]:
                working.result()
            print("pushed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
