"""Every scenario in one process, seen by two readers: the endpoint and a Collector.

`python -m tests.stack.scenarios PORT COLLECTOR` prints where a scenario's own count and the
numbers of the endpoint differ, then serves /metrics on PORT until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

import victor_otel
from tests.scenarios import SCENARIOS
from tests.scenarios.scenario import Count, Scenario, Series, end_tasks, exported, of, played
from victor_otel.demo import sandbox
from victor_otel.spec import Kind


def main(port: str, collector: str) -> None:
    registry = CollectorRegistry()
    start_http_server(int(port), "127.0.0.1", registry)
    push = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{collector}/v1/metrics"), export_interval_millis=1000
    )
    provider = MeterProvider(
        [PrometheusMetricReader(registry=registry, scope_info_enabled=False), push],
        resource=Resource.create({"service.name": "scenarios", "service.instance.id": port}),
        exemplar_filter=AlwaysOffExemplarFilter(),
    )
    chosen = [one for one in SCENARIOS if one.applies() and not one.alone]
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
