"""Short-lived runs, 16 at once, and long-lived replicas, with a book on what was acknowledged."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from victor_otel.victor.areas.chat import DURATION
from victor_otel.victor.shared import REQUESTS

AT_ONCE = 16
# Each of the runs at once pauses so long before the next one.
PAUSE = 1.0
SHORT = f'{REQUESTS.prometheus_name}{{job="victor",status="success"}}'
SHORT_COUNT = f'{DURATION.prometheus_name}_count{{job="victor",status="success"}}'

_DELTAS: dict[type, AggregationTemporality] = {
    Counter: AggregationTemporality.DELTA,
    Histogram: AggregationTemporality.DELTA,
}


@dataclass(frozen=True, kw_only=True)
class Push:
    """What one short-lived run knows of its one push."""

    started: float
    ended: float
    acknowledged: bool


@dataclass(frozen=True)
class Sample:
    """A value and its time in seconds, to the millisecond."""

    time: float
    value: float


class _Exporter(OTLPMetricExporter):
    """Remembers which values of the counter were acknowledged."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(f"{url}/v1/metrics", **options)
        self.acknowledged: list[tuple[Sample, float]] = []

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        if result is MetricExportResult.SUCCESS:
            point: Any = (
                metrics_data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
            )
            sample = Sample(point.time_unix_nano // 1_000_000 / 1000, point.value)
            self.acknowledged.append((sample, time.time()))
        return result


def _provider(exporter: _Exporter, seconds: float, **resource: str) -> MeterProvider:
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=seconds * 1000)
    return MeterProvider(
        [reader],
        resource=Resource({name.replace("_", "."): value for name, value in resource.items()}),
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOffExemplarFilter(),
    )


def push(url: str, pod: str, *statuses: str) -> Push:
    """One short-lived run with a pipeline of its own and one push.

    For each status, or one success, it counts a request and the duration of a chat turn.
    """
    started = time.time()
    exporter = _Exporter(url, timeout=5, preferred_temporality=_DELTAS)
    provider = _provider(
        exporter,
        math.inf,
        service_name="victor",
        victor_process_lifetime="short",
        k8s_pod_name=pod,
    )
    meter = provider.get_meter("victor_otel")
    requests = meter.create_counter(REQUESTS.name)
    durations = meter.create_histogram(
        DURATION.name,
        unit=DURATION.unit,
        explicit_bucket_boundaries_advisory=DURATION.buckets,
    )
    for status in statuses or ("success",):
        labels = {"interface": "cli", "status": status}
        requests.add(1, labels)
        durations.record(0.25, {**labels, "vertical": "none"})
    provider.force_flush()
    provider.shutdown()
    return Push(started=started, ended=time.time(), acknowledged=bool(exporter.acknowledged))


def push_total(url: str, instance: str, when: int, value: int = 7) -> None:
    """The total of a long-lived process at the time `when`, in nanoseconds."""
    point = NumberDataPoint(
        attributes={}, start_time_unix_nano=when - 10**9, time_unix_nano=when, value=value
    )
    total = Sum(
        data_points=[point],
        aggregation_temporality=AggregationTemporality.CUMULATIVE,
        is_monotonic=True,
    )
    metric = Metric(name=REQUESTS.name, description="", unit="", data=total)
    scope = ScopeMetrics(InstrumentationScope("victor_otel"), [metric], schema_url="")
    resource = Resource({"service.name": "replica", "service.instance.id": instance})
    data = MetricsData([ResourceMetrics(resource, [scope], schema_url="")])
    if _Exporter(url).export(data) is not MetricExportResult.SUCCESS:
        raise RuntimeError("the Collector did not take the total")


@dataclass(frozen=True)
class Replica:
    """A long-lived process that counts and pushes its total every `seconds`."""

    instance: str
    seconds: float
    exporter: _Exporter

    @property
    def series(self) -> str:
        return f'{REQUESTS.prometheus_name}{{instance="{self.instance}"}}'


@dataclass(frozen=True)
class Load:
    """What the short-lived runs and the replicas did."""

    url: str
    pushes: list[Push] = field(default_factory=list[Push])
    replicas: list[Replica] = field(default_factory=list[Replica])
    totals: dict[str, int] = field(default_factory=dict[str, int])
    work: list[Future[None]] = field(default_factory=list["Future[None]"])
    ended: threading.Event = field(default_factory=threading.Event)

    def acknowledged(self, *, since: float = 0, before: float = math.inf) -> int:
        """The runs that began at `since` or later, and were acknowledged `before`."""
        return sum(
            each.acknowledged and since <= each.started and each.ended < before
            for each in self.pushes
        )

    def finish(self) -> None:
        """Let the last runs and both replicas make their last push."""
        self.ended.set()
        for each in self.work:
            each.result()

    def run(self, lane: int) -> None:
        """One of the runs at once, and the next, and the next."""
        number = 0
        while not self.ended.wait(PAUSE):
            self.pushes.append(push(self.url, f"pod-{lane}-{number}"))
            number += 1

    def live(self, instance: str, seconds: float) -> None:
        """One long-lived process until the load ends, with its last push at the exit."""
        exporter = _Exporter(self.url)
        self.replicas.append(Replica(instance, seconds, exporter))
        provider = _provider(
            exporter, seconds, service_name="replica", service_instance_id=instance
        )
        counter = provider.get_meter("victor_otel").create_counter(REQUESTS.name)
        total = 0
        while not self.ended.wait(0.02):
            counter.add(1, {"interface": "api", "status": "success"})
            total += 1
        provider.shutdown()
        self.totals[instance] = total


@contextmanager
def loading(url: str) -> Iterator[Load]:
    """Short-lived runs, 16 at once, beside a replica that pushes each second and one each 15 s."""
    load = Load(url)
    with ThreadPoolExecutor(AT_ONCE + 2) as threads:
        load.work.extend(threads.submit(load.run, lane) for lane in range(AT_ONCE))
        load.work.extend(threads.submit(load.live, f"each-{n}-s", n) for n in (1, 15))
        try:
            yield load
        finally:
            load.ended.set()
