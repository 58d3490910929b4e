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
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

from tests.processes import environment
from tests.stack.processes import Labels
from victor_otel.model.metric import Kind, Metric
from victor_otel.runtime import RUNTIME
from victor_otel.signals import recorder
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
