"""What a forked child finds of an application's SDK."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from tests.engine.metrics import metric
from victor_otel.engine.health import Health
from victor_otel.model.metric import Kind
from victor_otel.signals import forks
from victor_otel.signals.recorder import Recorder

DELTA = dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA)


def values(reader: InMemoryMetricReader) -> dict[str, float]:
    """Each metric's sum, or the count of a histogram."""
    data = reader.get_metrics_data()
    return {
        one.name: sum(getattr(p, "count", getattr(p, "value", 0)) for p in one.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for one in scope.metrics
    }


@pytest.mark.parametrize("temporality", [{}, DELTA], ids=["cumulative", "delta"])
def test_our_totals_begin_at_zero_and_those_of_others_go_on(temporality: dict[type, Any]) -> None:
    reader = InMemoryMetricReader(preferred_temporality=temporality)
    provider = MeterProvider([reader])
    record = Recorder(provider, Health())
    counter, histogram = metric(), metric(Kind.HISTOGRAM)
    others = provider.get_meter("application").create_up_down_counter("others")
    record(counter, 5)
    record(histogram, 0.5)
    others.add(3)
    assert values(reader) == {counter.name: 5, histogram.name: 1, "others": 3}
    record.restart()
    assert values(reader) == {"others": 3}
    record.declare([counter])
    record(counter, 2)
    record(histogram, 0.5)
    assert values(reader) == {counter.name: 2, histogram.name: 1, "others": 3}


def test_a_provider_that_is_not_the_sdk_gets_nothing_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader = InMemoryMetricReader()
    behind = MeterProvider([reader]).get_meter("behind")

    class Meter:
        """Of a vendor, who does not show what is behind it."""

        __slots__ = ()

        def __getattr__(self, name: str) -> Any:
            if name.startswith("create_"):
                return getattr(behind, name)
            raise AttributeError(name)

    class Provider:
        def get_meter(self, *_: Any) -> Any:
            return Meter()

    record = Recorder(Provider(), Health())  # pyright: ignore[reportArgumentType]
    counter, histogram = metric(), metric(Kind.HISTOGRAM)
    record(counter)
    record(histogram, 0.5)
    with caplog.at_level(logging.WARNING):
        record.restart()
    assert "records nothing" in caplog.text
    record(counter)
    record(histogram, 0.5)
    assert values(reader) == {histogram.name: 1}


def test_a_meter_of_the_api_is_looked_through() -> None:
    from opentelemetry.metrics._internal import _ProxyMeter

    proxy = _ProxyMeter("victor_otel")
    assert not forks.renew(proxy, "victor_otel")
    proxy.on_set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    assert forks.renew(proxy, "victor_otel")
