"""Spans of operations: begun with them, current while Victor's code runs, ended once."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from time import time_ns
from typing import Any

import opentelemetry.metrics._internal as _meters
from opentelemetry import context, trace

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model import semconv
from victor_otel.model.operation import Live, Operation
from victor_otel.model.span import Attributes, AttributeValue, Span, SpanKind
from victor_otel.version import __version__

_SCOPE = "victor_otel"
_KINDS = {SpanKind.INTERNAL: trace.SpanKind.INTERNAL, SpanKind.CLIENT: trace.SpanKind.CLIENT}

STATUS = "victor.operation.status"
"""How an operation ended; `success`, `failure`, `timeout`, `cancelled`, `paused` among others."""


def nobody_listens() -> bool:
    """Whether no application has set a provider. Each call of an idle process asks, so briefly.

    The public functions look at the environment as well.
    """
    return _meters._METER_PROVIDER is None and trace._TRACER_PROVIDER is None  # noqa: SLF001


class Spans:
    """Makes spans with the tracer of a provider, or with that of the application.

    `belongs` gives the attributes that every span has: to whose work it belongs.
    """

    def __init__(
        self,
        provider: trace.TracerProvider | None,
        health: Health,
        belongs: Callable[[Operation], Attributes],
    ) -> None:
        self._given = provider is not None
        self._tracer = trace.get_tracer(_SCOPE, __version__, provider)
        self._health = health
        self._belongs = belongs

    def is_unheard(self) -> bool:
        """Whether nobody listens: no application has set a TracerProvider."""
        return not self._given and trace._TRACER_PROVIDER is None  # noqa: SLF001

    def of(self, row: Span) -> Callable[[Operation], Live | None]:
        """What begins the span of an operation of a type; nothing while nobody listens."""

        def begin(operation: Operation) -> Live | None:
            if not self._given and trace._TRACER_PROVIDER is None:  # noqa: SLF001
                return None
            attributes = {semconv.OPERATION_NAME: row.operation, **self._belongs(operation)}
            if row.expect is not None:
                attributes |= row.expect(operation)
            named = attributes.get(row.named)
            span = self._tracer.start_span(
                f"{row.operation} {named}" if named else row.operation,
                kind=_KINDS[row.kind],
                attributes=_known(attributes),
                start_time=(began := time_ns()),
            )
            return _Live(span, row, began, self._health)

        return begin


class _Live:
    """A span that is under way."""

    __slots__ = ("_began", "_context", "_health", "_row", "_span")

    def __init__(self, span: trace.Span, row: Span, began: int, health: Health) -> None:
        self._span = span
        self._row = row
        self._began = began
        self._health = health
        self._context = trace.set_span_in_context(span)

    def attach(self) -> object:
        return context.attach(self._context)

    def detach(self, token: object) -> None:
        """Silent where a stream is closed in another context than the one it was read in."""
        if isinstance(token, Token):
            try:
                token.var.reset(token)
            except ValueError:
                return
        else:  # an application has another kind of context
            context.detach(token)  # pyright: ignore[reportArgumentType]

    def end(self, operation: Operation) -> None:
        """Ends it when the operation ended, by the operation's own clock."""
        try:
            if self._span.is_recording():
                self._describe(operation)
        except Exception as error:
            failsafe.caught(self._health, f"span.{self._row.operation}", error)
        finally:
            self._span.end(self._began + round(operation.elapsed * 1e9))

    def _describe(self, operation: Operation) -> None:
        facts: Any = operation.facts
        read = {name: getattr(facts, fact, None) for fact, name in self._row.facts.items()}
        failed_with = operation.failed_with
        told = {STATUS: operation.outcome, semconv.ERROR_TYPE: failed_with}
        self._span.set_attributes(_known({**told, **read}))
        if failed_with:
            self._span.set_status(trace.StatusCode.ERROR)


def _known(attributes: Attributes) -> dict[str, AttributeValue]:
    return {
        name: value
        for name, value in attributes.items()
        if value is not None and value is not False and value != ""
    }
