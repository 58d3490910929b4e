"""Every scenario in one process, which stands for several replicas before several Collectors.

Each argument of `python -m tests.stack.scenarios` is JSON, [["HOST:PORT", ...], COLLECTOR]: so
many replicas, each of which serves /metrics there and pushes to the Collector besides. They are
one process that was played in once, so their numbers are the same. It prints where a scenario's
own count and the numbers of the endpoints differ, then goes on until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

import victor_otel
from tests.scenarios import SCENARIOS
from tests.scenarios.scenario import Count, Scenario, Series, end_tasks, exported, of, played
from victor_otel.demo import sandbox
from victor_otel.model.metric import Kind


class Replicas(MetricExporter):
    """Sends what one process has recorded as what several have, named by their endpoints."""

    def __init__(self, replicas: Sequence[tuple[Sequence[str], str]]) -> None:
        super().__init__()
        self._exporters = [
            (endpoint, OTLPMetricExporter(f"{collector}/v1/metrics"))
            for endpoints, collector in replicas
            for endpoint in endpoints
        ]

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        results = {
            exporter.export(_of_instance(metrics_data, endpoint), timeout_millis, **kwargs)
            for endpoint, exporter in self._exporters
        }
        failed = MetricExportResult.FAILURE
        return failed if failed in results else MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return all(exporter.force_flush(timeout_millis) for _, exporter in self._exporters)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        for _, exporter in self._exporters:
            exporter.shutdown(timeout_millis, **kwargs)


def _of_instance(data: MetricsData, instance: str) -> MetricsData:
    own = Resource({"service.instance.id": instance})
    return MetricsData(
        [replace(each, resource=each.resource.merge(own)) for each in data.resource_metrics]
    )


def serve(endpoints: Iterable[str], registry: CollectorRegistry) -> None:
    """Serves one page at all endpoints, made once a second: to make it for each takes too long."""
    made, page, lock = 0.0, b"", threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal made, page
            with lock:
                if time.monotonic() - made > 0.9:
                    made, page = time.monotonic(), generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing."""

    for host, _, port in (endpoint.partition(":") for endpoint in endpoints):
        server = ThreadingHTTPServer((host, int(port)), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main(*arguments: str) -> None:
    replicas = [json.loads(argument) for argument in arguments]
    registry = CollectorRegistry()
    serve([endpoint for endpoints, _ in replicas for endpoint in endpoints], registry)
    push = PeriodicExportingMetricReader(Replicas(replicas), export_interval_millis=5000)
    provider = MeterProvider(
        [PrometheusMetricReader(registry=registry, scope_info_enabled=False), push],
        resource=Resource.create(
            {
                "service.name": "scenarios",
                "host.name": socket.gethostname(),
                "process.pid": os.getpid(),
            }
        ),
        exemplar_filter=AlwaysOffExemplarFilter(),
    )
    chosen = [one for one in SCENARIOS if one.applies() and not one.alone]
    os.environ["VICTOR_OTEL_GENAI"] = "0.1,1.41"
    with sandbox(), contextlib.redirect_stdout(sys.stderr):
        victor_otel.start(provider)
        problems = asyncio.run(play_all(chosen, registry))
    provider.force_flush()
    print(json.dumps({"played": len(chosen), "problems": problems}), flush=True)
    sys.stdin.read()


async def play_all(scenarios: Sequence[Scenario], registry: CollectorRegistry) -> dict[str, object]:
    """What scenarios, played one after the other, counted otherwise than the endpoint did."""
    problems: dict[str, object] = {}
    for scenario in scenarios:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            before = exported(registry)
            async with played(scenario, Path(folder)) as count:
                after = exported(registry)
        if wrong := differences(scenario, count, before, after):
            problems[scenario.name] = wrong
    await end_tasks()
    return problems


def differences(
    scenario: Scenario, count: Count, before: Series, after: Series
) -> dict[str, tuple[float, float]]:
    """What grew otherwise than counted; gauges hold what other scenarios did as well."""
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    summed = {metric for metric in scenario.proves if metric.kind in {Kind.COUNTER, Kind.HISTOGRAM}}
    expected = count.sums
    observed = of(grown, summed, expected)
    return {
        f"{name}{dict(labels)}": (observed.get((name, labels), 0), expected.get((name, labels), 0))
        for name, labels in {*observed, *expected}
        if abs(observed.get((name, labels), 0) - expected.get((name, labels), 0))
        > count.tolerances.get((name, labels), 1e-6)
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
