"""Whether the last export was delivered, which decides what is said at the exit."""

from __future__ import annotations

import threading
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from victor_otel.engine.health import Health
from victor_otel.signals.delivery import Delivering

NOTHING = MetricsData(resource_metrics=[])


class Backend:
    """An exporter that answers as it is told, and waits while `open` is not set."""

    _preferred_temporality = None
    _preferred_aggregation = None

    def __init__(self, answer: MetricExportResult | Exception) -> None:
        self.answer = answer
        self.asked, self.open = threading.Event(), threading.Event()
        self.open.set()

    def export(self, *_: Any, **__: Any) -> MetricExportResult:
        self.asked.set()
        assert self.open.wait(10)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_an_export_that_has_only_begun_says_nothing_of_the_last_one() -> None:
    backend = Backend(MetricExportResult.SUCCESS)
    exporter = Delivering(backend, "there", Health())
    exporter.export(NOTHING)
    backend.asked.clear()
    backend.open.clear()
    following = threading.Thread(target=exporter.export, args=(NOTHING,))
    following.start()
    assert backend.asked.wait(10)
    assert exporter.delivered
    backend.open.set()
    following.join(10)
    assert exporter.delivered


def test_a_refused_export_was_not_delivered_until_one_is() -> None:
    backend = Backend(MetricExportResult.FAILURE)
    exporter = Delivering(backend, "there", Health())
    exporter.export(NOTHING)
    assert not exporter.delivered
    backend.answer = MetricExportResult.SUCCESS
    exporter.export(NOTHING)
    assert exporter.delivered


def test_an_export_that_raises_is_a_failed_one_and_the_error_goes_no_further() -> None:
    health = Health()
    exporter = Delivering(Backend(OSError("gone")), "there", health)
    assert exporter.export(NOTHING) is MetricExportResult.FAILURE
    assert not exporter.delivered
    assert health.exports_dropped == 1
