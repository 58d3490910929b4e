"""Backends behind the Collector: two vendors', a stand-in for a third, and one that takes notes."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate, count
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from tests.kit import otlp
from tests.stack.processes import (
    DIRECT,
    HOST,
    Labels,
    free_ports,
    program,
    prometheus_in,
    running,
    series,
)
from tools.paths import DEPLOY
from victor_otel.victor import catalog

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
    {"source_labels": ["service_name"], "regex": "(.+)", "target_label": "job"},
    {"action": "labeldrop", "regex": "service_.+"},
]


@contextmanager
def victoria_metrics(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run VictoriaMetrics on `folder`; its URL answers queries as Prometheus does."""
    port = port or free_ports(1)[0]
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


Key = tuple[str, Labels]


def identified(found: Mapping[Labels, float]) -> dict[Key, float]:
    """By name and all labels, job and instance too; `le` as the number that it is."""
    result: dict[Key, float] = {}
    for labels, value in found.items():
        pairs = dict(labels)
        name = pairs.pop("__name__")
        if "le" in pairs:
            pairs["le"] = str(float(pairs["le"]))
        result[name, frozenset(pairs.items())] = value
    return result


_looks = count()


def flush(victoria_metrics_url: str) -> None:
    """Has VictoriaMetrics show what it still holds in memory."""
    assert DIRECT.open(f"{victoria_metrics_url}/internal/force_flush").status == 200


def anew() -> str:
    """A matcher that leaves nothing out, and is another one each time.

    VictoriaMetrics keeps for a while which series a selector has matched.
    """
    return f'look!="{next(_looks)}"'


def stored(victoria_metrics_url: str) -> dict[Key, float]:
    """What VictoriaMetrics has of Victor's series."""
    flush(victoria_metrics_url)
    ours = f'{{__name__=~"victor_.+",__name__!="victor_total_requests",{anew()}}}'
    return identified(series(victoria_metrics_url, ours))


_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_PROMETHEUS_NAME = {metric.name: metric.prometheus_name for metric in catalog.METRICS}


@dataclass
class DeltaVendor:
    """Stands in for a vendor that counts by deltas, by what Datadog says of its intake.

    It refuses a request with a total in it. Of a resource it keeps the name of the service, and of
    the points of one series and second the last one.
    """

    url: str = ""
    http: otlp.Backend = field(default_factory=lambda: otlp.Backend(200))
    points: dict[tuple[Key, int], float] = field(default_factory=dict["tuple[Key, int]", float])
    refused: int = 0

    def answer(self, body: bytes) -> int:
        request = ExportMetricsServiceRequest.FromString(body)
        found = [
            (metric, point)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in (*metric.sum.data_points, *metric.histogram.data_points)
        ]
        if any(_is_total(metric) for metric, _ in found):
            self.refused += 1
            return 400
        for metric, point in found:
            labels = frozenset(
                (each.key.replace(".", "_"), each.value.string_value) for each in point.attributes
            )
            for key, value in _counted(metric, point, labels):
                self.points[key, point.time_unix_nano // 10**9] = value
        return 200

    def counted(self, *without: str) -> dict[Key, float]:
        """All deltas added up, by Prometheus's names, less some labels."""
        total: defaultdict[Key, float] = defaultdict(float)
        for ((name, labels), _), value in list(self.points.items()):
            kept = frozenset(pair for pair in labels if pair[0] not in without)
            total[name, kept] += value
        return dict(total)


def _is_total(metric: Any) -> bool:
    if metric.HasField("histogram"):
        return metric.histogram.aggregation_temporality == _CUMULATIVE
    return metric.sum.is_monotonic and metric.sum.aggregation_temporality == _CUMULATIVE


def _counted(metric: Any, point: Any, labels: Labels) -> Iterator[tuple[Key, float]]:
    name: str = _PROMETHEUS_NAME.get(metric.name, metric.name)
    if metric.HasField("sum"):
        yield (name, labels), point.as_int or point.as_double
        return
    yield (f"{name}_count", labels), point.count
    yield (f"{name}_sum", labels), point.sum
    bounds = (*point.explicit_bounds, float("inf"))
    counts: Sequence[int] = point.bucket_counts
    for bound, value in zip(bounds, accumulate(counts), strict=True):
        yield (f"{name}_bucket", labels | {("le", str(bound))}), value


@contextmanager
def delta_vendor() -> Iterator[DeltaVendor]:
    vendor = DeltaVendor()
    with otlp.http(vendor.answer) as vendor.http:
        vendor.url = f"http://{HOST}:{vendor.http.port}"
        yield vendor
