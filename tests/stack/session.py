"""A Victor session that an application sends along all three routes at once.

`python -m tests.stack.session PORT COLLECTOR PROMETHEUS AGENTS` prints what was counted
independently, then serves /metrics on PORT until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, start_http_server

import victor_otel
from victor_otel.demo import Ledger, Scenario, ScriptedModel, run_session, sandbox


def main(port: str, collector: str, prometheus: str, agents: str) -> None:
    registry = CollectorRegistry()
    start_http_server(int(port), "127.0.0.1", registry)
    pushes = [
        PeriodicExportingMetricReader(OTLPMetricExporter(url), export_interval_millis=1000)
        for url in (f"{collector}/v1/metrics", prometheus)
    ]
    provider = MeterProvider(
        [PrometheusMetricReader(registry=registry, scope_info_enabled=False), *pushes],
        resource=Resource.create({"service.name": "three", "service.instance.id": "one"}),
        exemplar_filter=AlwaysOffExemplarFilter(),
    )
    scenario = Scenario(int(agents))
    with sandbox(), ScriptedModel(scenario.scripts) as model:
        victor_otel.start(provider)
        ledger = Ledger(model)
        with contextlib.redirect_stdout(sys.stderr):
            asyncio.run(run_session(model.url, ledger, scenario))
    provider.force_flush()
    expected = [[name, dict(labels), value] for (name, labels), value in ledger.expected().items()]
    print(json.dumps({"expected": expected, "problems": ledger.problems()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
