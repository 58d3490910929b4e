"""The private TracerProvider, where the environment asks for spans and no application has one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.causes import Cause
from victor_otel.signals.cautions import SPANS, provided, provides_spans
from victor_otel.signals.delivery import Followed, Outlet, place
from victor_otel.signals.settings import OTEL_TRACES_EXPORTER, Settings

logger = logging.getLogger("victor_otel")


class DeliveringSpans(Followed, SpanExporter):
    """An exporter of spans whose failures are counted and said."""

    what, piece = "spans", "span"

    def pieces(self, data: Sequence[ReadableSpan] | None) -> int:
        return len(data or ())

    unrepeated = pieces

    def advice(self, cause: Cause) -> str:
        none = f"{OTEL_TRACES_EXPORTER.name}=none"
        return f". If it takes no spans, set {none}" if cause.absent else ""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        arrived = self.attempt(spans, lambda: self._exporter.export(spans))
        if not arrived:
            self._health.add_dropped_spans(len(spans))
        return SpanExportResult.SUCCESS if arrived else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Batches(BatchSpanProcessor):
    """Spans by the batch, as OpenTelemetry's variables say; what finds no place is counted."""

    def __init__(self, exporter: DeliveringSpans, health: Health) -> None:
        super().__init__(exporter)
        self._health = health
        self._kept: Any = self._batch_processor
        exporter.waiting = self._waiting

    def on_end(self, span: ReadableSpan) -> None:
        if self._waiting() >= self._kept._max_queue_size:  # noqa: SLF001
            self._health.add_dropped_spans(1)
        super().on_end(span)

    def _waiting(self) -> int:
        return len(self._kept._queue)  # noqa: SLF001

    def abandon(self) -> None:
        """In a forked child, which has a pipeline of its own: this one's thread ends at once."""
        self._kept._shutdown = True  # noqa: SLF001


def connect(
    settings: Settings, resource: Any, health: Health
) -> tuple[TracerProvider, Sequence[Outlet]]:
    """A TracerProvider with the exporters that are asked for, and by which ways it exports.

    Its sampler is as `OTEL_TRACES_SAMPLER` says; by default what a sampled span calls is sampled.
    """
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    outlets: list[Outlet] = []
    for name in filter(provides_spans, settings.trace_exporters):
        try:
            followed = DeliveringSpans(
                exporter(name, settings), place(name, settings.otlp_traces_url), health
            )
            batches = Batches(followed, health)
        except Exception as error:
            logger.error(
                "victor-otel: the exporter of spans %s cannot be made.\n%s",
                name,
                failsafe.shown(error),
            )
            continue
        provider.add_span_processor(batches)
        outlets.append(Outlet(batches.force_flush, followed, batches.abandon))
    return provider, outlets


def exporter(name: str, settings: Settings) -> Any:
    """The exporter of a name, as the environment configures it."""
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    return provided(name, SPANS, settings.otlp_traces_protocol)()
