"""Runs that are over at once, and what they add up to.

`python -m tests.stack.short_runs RUNS` plays runs, 16 at once, each with a process, a pod, an
instance and a pipeline of its own, which pushes once, at exit. A run is forked: what Python
takes to start and to import is no part of what is counted.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

from tests.kit.processes import environment
from tests.stack.processes import Collector, Labels, query, series
from tests.stack.routes import Series, normalized
from victor_otel.demo.view import differences
from victor_otel.model.metric import Kind, Metric
from victor_otel.runtime import RUNTIME
from victor_otel.signals import recorder
from victor_otel.victor import catalog
from victor_otel.victor.areas import chat, process, providers, tools
from victor_otel.victor.shared import REQUESTS

AT_ONCE = 16
VERSIONS = ("0.9.5", "0.17.0")
# Powers of two, so that sums are exact in whatever order they are added.
DURATIONS = (0.25, 0.5, 8.0)


def recorded(run: int) -> Iterator[tuple[Metric, float, Mapping[str, str]]]:
    """What a run records; labels and amounts differ from run to run."""
    status = ("success", "success", "failure")[run % 3]
    vertical = ("coding", "none")[run % 2]
    labels = {"tool": ("read", "write", "ls")[run % 3], "vertical": vertical, "status": status}
    for duration in DURATIONS:
        yield tools.EXECUTIONS, 1, {**labels, "mode": "build"}
        yield tools.DURATION, duration, labels
    model = {"provider": "openai", "model": "m", "type": "input"}
    yield providers.TOKENS, run % 7, model
    turn = {"interface": "cli", "vertical": vertical, "status": status}
    yield chat.DURATION, DURATIONS[run % 3], turn
    yield REQUESTS, 1, {"interface": "cli", "status": status}
    yield process.MEMORY_USAGE, run, {"component": "process"}


def expected(runs: int) -> Mapping[tuple[str, Labels], float]:
    """What all runs add up to: counters and histograms, nothing of a gauge."""
    totals: defaultdict[tuple[str, Labels], float] = defaultdict(float)
    for run in range(runs):
        for metric, value, labels in recorded(run):
            name, pairs = metric.prometheus_name, frozenset(labels.items())
            if metric.kind is Kind.COUNTER:
                totals[name, pairs] += value
            elif metric.kind is Kind.HISTOGRAM:
                totals[f"{name}_count", pairs] += 1
                totals[f"{name}_sum", pairs] += value
                for bound in (*metric.buckets, float("inf")):
                    if value <= bound:
                        totals[f"{name}_bucket", pairs | {("le", str(bound))}] += 1
    return totals


def play(endpoint: str, runs: int) -> None:
    """Plays the runs to their end, in processes below one that has imported everything."""
    subprocess.run(
        [sys.executable, "-m", "tests.stack.short_runs", str(runs)],
        env=environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            VICTOR_OTEL_LIFETIME="short",
            # On a busy machine; a run that is late is not what is tested.
            VICTOR_OTEL_EXIT_TIMEOUT="30",
        ),
        check=True,
    )


def _run_all(runs: int) -> None:
    RUNTIME.activate()
    # Imports, for all runs at once, what a pipeline is made of.
    OTLPMetricExporter()
    running = 0
    for run in range(runs):
        if running == AT_ONCE:
            _wait_for_one()
            running -= 1
        if os.fork() == 0:
            _run(run)
            # The last export is here. Taking modules apart would cost more than the run.
            atexit._run_exitfuncs()
            os._exit(0)
        running += 1
    for _ in range(running):
        _wait_for_one()


def _wait_for_one() -> None:
    pid, status = os.wait()
    if status:
        raise RuntimeError(f"run {pid} ended with status {status}")


def _run(run: int) -> None:
    os.environ["OTEL_RESOURCE_ATTRIBUTES"] = ",".join(
        (
            f"k8s.pod.name=pod-{run}",
            f"service.instance.id={uuid.uuid4()}",
            f"service.version={VERSIONS[run % 2]}",
        )
    )
    # The version of the instrumentation is that of the scope.
    recorder.__version__ = VERSIONS[run % 2]
    record = RUNTIME.activate().record
    for metric, value, labels in recorded(run):
        record(metric, value, **labels)


if __name__ == "__main__":
    _run_all(int(sys.argv[1]))

NO_MODEL = "http://127.0.0.1:9/v1"

GAUGES = {
    metric.prometheus_name
    for metric in catalog.METRICS
    if metric.kind not in {Kind.COUNTER, Kind.HISTOGRAM}
}


def pushing(instance: str, gateway: Collector, seconds: int) -> dict[str, str]:
    """Variables of a process that pushes to the Collector, every so many seconds."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.otlp_http,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance},k8s.pod.name={instance}",
        "OTEL_METRIC_EXPORT_INTERVAL": str(1000 * seconds),
    }


def served(prometheus_url: str) -> dict[str, float]:
    """The requests that each replica served, as it last said, be it alive or not."""
    last = 'last_over_time(victor_requests_total{interface="api",status="success"}[1h]) > 0'
    return {labels["instance"]: value for labels, value in query(prometheus_url, last)}


def alive(prometheus_url: str) -> set[str]:
    """The instances that have any gauge now."""
    named = "|".join(sorted(GAUGES))
    return {labels["instance"] for labels, _ in query(prometheus_url, f'{{__name__=~"{named}"}}')}


def missed(prometheus_url: str, instance: str, target: str, since: float) -> float:
    """In how many scrapes that succeeded since then (`time.monotonic`) it had no gauges."""
    window = f"[{int(time.monotonic() - since)}s]"
    scrapes = f'up{{instance="{target}"}}'
    gauge = f'victor_memory_usage_bytes{{instance="{instance}",component="process"}}'
    both = f"sum_over_time({scrapes}{window}) - on () count_over_time({gauge}{window})"
    ((_, missing),) = query(prometheus_url, both)
    return missing


def short_side(prometheus_url: str, gateway: Collector, job: str = "victor") -> Series:
    """What Prometheus has of short runs, one series for each label set.

    They have no instance of their own, so Prometheus gives them that of the page.
    """
    page = urlsplit(gateway.short_metrics).netloc
    found = series(prometheus_url, f'{{job="{job}",instance="{page}",__name__=~"victor_.+"}}')
    assert not GAUGES & {dict(labels)["__name__"] for labels in found}
    return normalized(found)


def added_up(prometheus_url: str, gateway: Collector, runs: int) -> bool:
    """Whether all is there, label set by label set, to the last bucket."""
    found = short_side(prometheus_url, gateway)
    assert differences(found, expected(runs)) == []
    return True
