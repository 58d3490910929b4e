"""Exports that say what was not delivered, where, why and what is lost: once for each outage."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, ClassVar

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.causes import Cause, watch
from victor_otel.signals.settings import EXIT_TIMEOUT, shown_url

logger = logging.getLogger("victor_otel")

_SDK = (
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
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


class Followed:
    """What becomes of the exports of one exporter: counted, and said once for each outage.

    Silent in a forked child, where it is the parent's. `where` is its address, without secrets.
    """

    what: ClassVar[str]
    """What it exports, and one piece of that."""
    piece: ClassVar[str]

    def __init__(self, exporter: Any, where: str, health: Health) -> None:
        self.delivered = True
        """Whether the last export was. One that has only begun says nothing of it."""
        self._exporter = exporter
        self._where = where
        self._health = health
        self._tries = watch(exporter)
        self._pid = os.getpid()
        self._outage: _Outage | None = None
        self._data: Any = None
        self._is_last = False

    def pieces(self, data: Any) -> int:
        """How many there are in what is exported."""
        raise NotImplementedError

    def unrepeated(self, data: Any) -> int:
        """How many of them do not come again with the next export."""
        raise NotImplementedError

    def advice(self, cause: Cause) -> str:  # noqa: ARG002 - asked of each kind of export
        """What to know of a cause."""
        return ""

    def waiting(self) -> int:
        """How many are to be exported and not in an export yet."""
        return 0

    def attempt(self, data: Any, export: Callable[[], Any]) -> bool:
        """Makes an export; whether it arrived."""
        if os.getpid() != self._pid:
            return True
        self._tries.begin()
        self._data = data
        raised = None
        try:
            with quiet():
                succeeded = export().name == "SUCCESS"
        except BaseException as error:  # SystemExit would end the thread that exports
            succeeded, raised = False, error
        # The SDK takes a redirect for a success, and follows none.
        self.delivered = succeeded and self._tries.cause is None
        if self.delivered:
            self._succeed()
        else:
            self._fail(data, raised)
        return self.delivered

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
                "victor-otel: could not deliver the last %s to %s: %s; %s.",
                self.what,
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
                f"{_number(outage.lost, self.piece)} lost" if outage.lost else "nothing is lost",
            )
        else:  # what was cut off went on by itself
            logger.warning(
                "victor-otel: the last %s have reached %s after all.", self.what, self._where
            )

    def _fail(self, data: Any, raised: BaseException | None) -> None:
        self._health.add_dropped_export()
        is_new = self._outage is None
        outage = self._outage = self._outage or _Outage()
        lost = self.unrepeated(data)
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
        counted = 0 if cut_off else self.unrepeated(self._data)
        return self._lost(outage.lost - counted + self.pieces(self._data) + self.waiting())

    def _lost(self, points: int) -> str:
        cause = self._tries.cause
        is_sure = cause is not None and cause.lost
        lost = f"{_number(points, self.piece)} {'' if is_sure else 'may be '}lost"
        return lost if cause is None else lost + self.advice(cause)


class Outlet:
    """One way out of this process, and the thread that makes the last export on it.

    The thread exists beforehand: CPython 3.12.0 to 3.12.2 starts none once the interpreter shuts
    down, and that is when the last export is made.
    """

    def __init__(
        self,
        export: Callable[[], object],
        followed: Followed | None = None,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self.followed = followed
        """The exporter, if it is one of ours."""
        self.abandon = abandon
        """Lets go of it in a forked child."""
        self.export = export
        self._asked: SimpleQueue[threading.Event] = SimpleQueue()
        threading.Thread(target=self._serve, name="victor-otel-flush", daemon=True).start()

    def begin(self) -> threading.Event:
        """Begins the last export; what is given is set when it has ended, well or not."""
        if self.followed is not None:
            self.followed.expect_the_last()
        ended = threading.Event()
        self._asked.put(ended)
        return ended

    def _serve(self) -> None:
        while True:
            ended = self._asked.get()
            try:
                self.export()
            except Exception as error:
                logger.error("victor-otel: an export failed.\n%s", failsafe.shown(error))
            ended.set()


class Delivering(Followed, MetricExporter):
    """An exporter of metrics whose failures are counted and said."""

    what, piece = "metrics", "data point"

    def __init__(self, exporter: Any, where: str, health: Health) -> None:
        MetricExporter.__init__(
            self,
            preferred_temporality=dict(exporter._preferred_temporality or {}),  # noqa: SLF001
            preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001
        )
        Followed.__init__(self, exporter, where, health)

    def pieces(self, data: MetricsData | None) -> int:
        return _points(data)

    def unrepeated(self, data: MetricsData | None) -> int:
        return _points(data, deltas_only=True)

    def advice(self, cause: Cause) -> str:
        if not cause.data or not _points(self._data, deltas_only=True):
            return ""
        return (
            ". Deltas need a Collector that accumulates (ours, collector/config.yaml): "
            "Prometheus's own OTLP receiver stores none"
        )

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        arrived = self.attempt(
            metrics_data,
            lambda: self._exporter.export(metrics_data, timeout_millis=timeout_millis, **kwargs),
        )
        return MetricExportResult.SUCCESS if arrived else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._exporter.shutdown(timeout_millis, **kwargs)


def place(name: str, url: str) -> str:
    """Where an exporter of a name exports to, without secrets."""
    return shown_url(url) if name == "otlp" else f"the exporter {name}"


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
