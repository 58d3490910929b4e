"""OTLP backends behind the Collector: two vendors', and one that only notes what it is sent."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from tests.stack.processes import HOST, free_ports, program, prometheus_in, running
from tools.paths import DEPLOY

# What VictoriaMetrics must be told to show the series that Prometheus shows: names by the same
# rule, no label from the scope (it holds our version), and of the resource job and instance.
_PROMETHEUS_NAMES = (
    "-opentelemetry.usePrometheusNaming",
    "-opentelemetry.promoteScopeMetadata=false",
    "-opentelemetry.promoteAllResourceAttributes=false",
    "-opentelemetry.promoteResourceAttributes=service.name,service.instance.id",
)
_JOB_AND_INSTANCE = [
    {"action": "labelmap", "regex": "service_(instance)_id"},
    {"source_labels": ["service_name"], "target_label": "job"},
    {"action": "labeldrop", "regex": "service_.+"},
]


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[str]:
    """Run VictoriaMetrics on `folder`; its URL answers queries as Prometheus does."""
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    relabel = folder / "relabel.yml"
    # JSON is YAML.
    relabel.write_text(json.dumps(_JOB_AND_INSTANCE), encoding="utf-8")
    command = [
        program("victoria-metrics"),
        f"-httpListenAddr={HOST}:{port}",
        f"-storageDataPath={folder / 'data'}",
        f"-relabelConfig={relabel}",
        # By default it hides the last 30 s.
        "-search.latencyOffset=0s",
        # And a series soon after its last point, where Prometheus waits for 5 minutes.
        "-search.minStalenessInterval=5m",
        *_PROMETHEUS_NAMES,
    ]
    with running(command, folder, f"{url}/health", 30):
        yield url


@contextmanager
def prometheus_backend(folder: Path, port: int) -> Iterator[str]:
    """Run the shipped Prometheus with nobody to scrape; what it has in `folder` stays there."""
    shutil.copytree(DEPLOY / "prometheus", folder, dirs_exist_ok=True)
    for targets in (folder / "targets").iterdir():
        targets.write_text("[]\n", encoding="utf-8")
    with prometheus_in(folder, port) as running_there:
        yield running_there.url


def sending_to(url: str, **variables: str) -> dict[str, str]:
    """The environment of a Collector that also sends to an OTLP backend."""
    return {
        "VICTOR_COLLECTOR_BACKEND": "otlp_http",
        "VICTOR_COLLECTOR_BACKEND_HTTP": url,
        **variables,
    }


def spans_to(url: str, **variables: str) -> dict[str, str]:
    """The environment of a Collector that sends spans to an OTLP backend."""
    return {
        "VICTOR_COLLECTOR_TRACES_BACKEND": "otlp_http",
        "VICTOR_COLLECTOR_TRACES_BACKEND_HTTP": url,
        **variables,
    }


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one request held of one series: `series` is told apart as a backend does."""

    series: tuple[str, frozenset[tuple[str, str]]]
    value: float
    start: int
    time: int


@contextmanager
def note_taker(port: int = 0) -> Iterator[tuple[str, Sequence[Sequence[Point]]]]:
    """An OTLP backend that notes the sums in each request of metrics; its URL, and the notes."""
    requests: list[Sequence[Point]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path.endswith("/v1/metrics"):
                requests.append(list(_points(ExportMetricsServiceRequest.FromString(body))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Nothing: requests are the notes."""

    with ThreadingHTTPServer((HOST, port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}", requests
        server.shutdown()


def _points(request: ExportMetricsServiceRequest) -> Iterable[Point]:
    for resource in request.resource_metrics:
        shared = [(each.key, each.value.string_value) for each in resource.resource.attributes]
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.sum.data_points:
                    own = [(each.key, each.value.string_value) for each in point.attributes]
                    yield Point(
                        series=(metric.name, frozenset(shared + own)),
                        value=point.as_int or point.as_double,
                        start=point.start_time_unix_nano,
                        time=point.time_unix_nano,
                    )
