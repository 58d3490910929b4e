"""An application's own TracerProvider, and every span that it saw begin and end."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

SCOPE = "victor_otel"


class Traced(SpanProcessor):
    """Keeps the spans in the order of their endings; one that ends twice stands there twice."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self)
        self.begun: list[ReadableSpan] = []
        self.ended: list[ReadableSpan] = []
        self._lock = threading.Lock()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        with self._lock:
            self.begun.append(span)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self.ended.append(span)

    @property
    def ours(self) -> list[ReadableSpan]:
        """What victor-otel made, in the order of the beginnings."""
        return sorted(
            (span for span in self.ended if span.instrumentation_scope.name == SCOPE),  # pyright: ignore[reportOptionalMemberAccess]
            key=lambda span: span.start_time or 0,
        )

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ours if span.name == name]

    def problems(self) -> list[str]:
        """What is wrong whatever was traced: not ended once, an orphan, outside of its parent."""
        found = [f"{s.name} ended {n} times" for s, n in self._endings().items() if n != 1]
        known = {span.context.span_id: span for span in self.ended}
        for span in self.ended:
            if span.parent is None:
                continue
            around = known.get(span.parent.span_id)
            if around is None:
                found.append(f"{span.name} has a parent that is nowhere")
            elif (span.start_time or 0) < (around.start_time or 0):
                found.append(f"{span.name} began before {around.name}")
        if trace.get_current_span() is not trace.INVALID_SPAN:
            found.append(f"{trace.get_current_span()} is current")
        return found

    def _endings(self) -> Counter[ReadableSpan]:
        by_id = {span.context.span_id: span for span in self.begun}
        endings = Counter(dict.fromkeys(by_id.values(), 0))
        endings.update(by_id[span.context.span_id] for span in self.ended)
        return endings

    def tree(self) -> list[Any]:
        """The names of all spans: `name` or `(name, [what is below it])`, by beginning."""
        below: dict[int | None, list[ReadableSpan]] = {}
        for span in sorted(self.ended, key=lambda span: span.start_time or 0):
            below.setdefault(span.parent.span_id if span.parent else None, []).append(span)

        def drawn(span: ReadableSpan) -> Any:
            children = [drawn(child) for child in below.get(span.context.span_id, ())]
            return (span.name, children) if children else span.name

        return [drawn(span) for span in below.get(None, ())]
