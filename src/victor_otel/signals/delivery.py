"""Exports that say what was not delivered, where, why and what is lost: once for each outage."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.causes import watch
from victor_otel.signals.settings import EXIT_TIMEOUT

logger = logging.getLogger("victor_otel")

_SDK = (
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
)
_REPEATED = ("Failed to export", "Transient error", "Shutdown in progress")
"""How the SDK's exporters begin what is said here, where it is said once."""

_exporting = threading.local()


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Lets through what exporters of the application say, which share these loggers with ours."""
    return not (getattr(_exporting, "on", False) and str(record.msg).startswith(_REPEATED))


@contextmanager
def quiet() -> Generator[None]:
    """In this thread the SDK's exporters leave it to us to say how an export goes."""
    for name in _SDK:
        sdk = logging.getLogger(name)
        if _is_not_ours not in sdk.filters:
            # Before the SDK's own, which remembers what it sees and drops the like of it.
            sdk.filters.insert(0, _is_not_ours)
    _exporting.on = True
    try:
        yield
    finally:
        _exporting.on = False


class _Outage:
    """From the first export that fails to the next one that arrives."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.exports = 0
        self.lost = 0
        self.is_told = False
        """Whether the end of the process has been said to be part of it."""


class Delivering(MetricExporter):
    """An exporter whose failures are counted and said.

    Silent in a forked child, where it is the parent's. `where` is its address, without secrets.
    """

    def __init__(self, exporter: Any, where: str, health: Health) -> None:
        super().__init__(
            preferred_temporality=dict(exporter._preferred_temporality or {}),  # noqa: SLF001
            preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001
        )
        self.delivered = True
        """Whether the last export was. One that has only begun says nothing of it."""
        self._exporter = exporter
        self._where = where
        self._health = health
        self._tries = watch(exporter)
        self._pid = os.getpid()
        self._outage: _Outage | None = None
        self._data: MetricsData | None = None
        self._is_last = False

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        if os.getpid() != self._pid:
            return MetricExportResult.SUCCESS
        self._tries.begin()
        self._data = metrics_data
        raised = None
        try:
            with quiet():
                result = self._exporter.export(
                    metrics_data, timeout_millis=timeout_millis, **kwargs
                )
        except BaseException as error:  # SystemExit would end the thread that exports
            result, raised = MetricExportResult.FAILURE, error
        # The SDK takes a redirect for a success, and follows none.
        self.delivered = result is MetricExportResult.SUCCESS and self._tries.cause is None
        if self.delivered:
            self._succeed()
            return MetricExportResult.SUCCESS
        self._fail(metrics_data, raised)
        return MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)

    def expect_the_last(self) -> None:
        """The export that follows is the last one: `end` will say what became of it."""
        self._is_last = True

    def end(self, *, finished: bool) -> bool:
        """Whether the last export arrived; says so if not. One not `finished` was cut off."""
        self._is_last = False
        if finished and self.delivered:
            return True
        outage = self._outage = self._outage or _Outage()
        if not outage.is_told:
            outage.is_told = True
            logger.error(
                "victor-otel: could not deliver the last metrics to %s: %s; %s.",
                self._where,
                self._why(cut_off=not finished),
                self._lost_for_good(outage, cut_off=not finished),
            )
        return False

    def _succeed(self) -> None:
        outage, self._outage = self._outage, None
        if outage is None:
            return
        if outage.exports:
            logger.warning(
                "victor-otel: delivers to %s again after %s in %s; %s.",
                self._where,
                _number(outage.exports, "failed export"),
                _seconds(time.monotonic() - outage.began),
                f"{_number(outage.lost, 'data point')} lost" if outage.lost else "nothing is lost",
            )
        else:  # what was cut off went on by itself
            logger.warning("victor-otel: the last metrics have reached %s after all.", self._where)

    def _fail(self, data: MetricsData, raised: BaseException | None) -> None:
        self._health.add_dropped_export()
        is_new = self._outage is None
        outage = self._outage = self._outage or _Outage()
        lost = _points(data, deltas_only=True)
        outage.exports += 1
        outage.lost += lost
        if is_new and not self._is_last:
            logger.error(
                "victor-otel: could not deliver to %s: %s; %s. Further failures are only counted "
                "(victor_otel_exports_dropped_total).%s",
                self._where,
                self._why(raised=raised),
                self._lost(lost) if lost else "nothing is lost, totals follow with the next export",
                f"\n{failsafe.shown(raised)}" if raised is not None else "",
            )

    def _why(self, *, raised: BaseException | None = None, cut_off: bool = False) -> str:
        """The reason, how often and how long it was tried, and the setting that decides."""
        tries = self._tries
        if raised is not None:
            said = "the exporter raised an error"
        elif tries.cause is not None:
            said = tries.cause.what
        elif not tries.known:
            said = "the exporter does not say why"
        else:
            said = "no answer" if tries.count else "it was not tried in time"
        times = f"{_number(tries.count, 'try', 'tries')} in " if tries.count else ""
        setting = EXIT_TIMEOUT if cut_off else tries.cause and tries.cause.setting
        decides = f", {setting.name}" if setting else ""
        return f"{said} ({times}{_seconds(tries.seconds)}{decides})"

    def _lost_for_good(self, outage: _Outage, *, cut_off: bool) -> str:
        if self._data is None:
            return "what was recorded since the start is lost"
        counted = 0 if cut_off else _points(self._data, deltas_only=True)
        return self._lost(outage.lost - counted + _points(self._data))

    def _lost(self, points: int) -> str:
        cause = self._tries.cause
        is_sure = cause is not None and cause.lost
        lost = f"{_number(points, 'data point')} {'' if is_sure else 'may be '}lost"
        if cause is not None and cause.data and _points(self._data, deltas_only=True):
            lost += (
                ". Deltas need a Collector that accumulates (ours, collector/config.yaml): "
                "Prometheus's own OTLP receiver stores none"
            )
        return lost


def _points(data: MetricsData | None, *, deltas_only: bool = False) -> int:
    """How many data points there are. Those of totals come again with the next export."""
    metrics = (
        metric
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
    return sum(
        len(metric.data.data_points)
        for metric in metrics
        if not deltas_only
        or getattr(metric.data, "aggregation_temporality", None) is AggregationTemporality.DELTA
    )


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 9.5 else f"{seconds:.0f} s"  # noqa: PLR2004
