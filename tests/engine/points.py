"""What a reader of the SDK sees, as plain values."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from victor_otel.engine.health import Health
from victor_otel.model.metric import Metric
from victor_otel.signals.recorder import Recorder

BY_KIND = {kind.kind: kind for kind in Metric.__subclasses__()}
"""The class of metrics of each kind."""

Labels = frozenset[tuple[str, str]]


class Store:
    """A provider with a recorder on it, collected on demand."""

    def __init__(self, *, gauges: bool = True) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.health = Health()
        self.record = Recorder(self.provider, self.health, gauges=gauges)

    def collected(self) -> dict[str, Any]:
        """The metrics that have points, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.data.data_points
        }

    def raw(self, metric: Metric) -> list[Any]:
        found = self.collected().get(metric.name)
        return [] if found is None else list(found.data.data_points)

    def values(self, metric: Metric) -> dict[Labels, float]:
        return {frozenset(point.attributes.items()): point.value for point in self.raw(metric)}


def labelled(**labels: str) -> Labels:
    return frozenset(labels.items())
