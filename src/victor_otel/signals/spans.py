"""Spans of operations: begun with them, current while Victor's code runs, ended once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import Token
from time import time_ns
from typing import Any, NamedTuple

import opentelemetry.metrics._internal as _meters
from opentelemetry import context, trace

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model import semconv
from victor_otel.model.operation import Live, Operation
from victor_otel.model.span import Attributes, AttributeValue, Span, SpanKind
from victor_otel.signals.contents import Contents
from victor_otel.signals.labelsets import as_name
from victor_otel.version import __version__

_SCOPE = "victor_otel"
_KINDS = {kind: trace.SpanKind[kind.name] for kind in SpanKind}

STATUS = "victor.operation.status"
"""How an operation ended; `success`, `failure`, `timeout`, `cancelled`, `paused` among others."""


def nobody_listens() -> bool:
    """Whether no application has set a provider. Each call of an idle process asks, so briefly.

    The public functions look at the environment as well.
    """
    return _meters._METER_PROVIDER is None and trace._TRACER_PROVIDER is None  # noqa: SLF001


class Spans:
    """Makes spans with the tracer of a provider, or with that of the application.

    `belongs` gives the attributes that every span has: to whose work it belongs. `caller` gives
    what another process sent of its trace. `contents` is what becomes of what was said.
    """

    def __init__(
        self,
        provider: trace.TracerProvider | None,
        health: Health,
        belongs: Callable[[Operation], Attributes],
        caller: Callable[[Operation], Mapping[str, str]],
        contents: Contents | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, __version__, provider)
        self._health = health
        self._belongs = belongs
        self._caller = caller
        self._contents = contents
        self._is_heard = provider is not None or contents is not None

    def is_unheard(self) -> bool:
        """Whether nobody listens: no application has set a TracerProvider."""
        return not self._is_heard and trace._TRACER_PROVIDER is None  # noqa: SLF001

    def of(self, row: Span) -> Callable[[Operation], Live | None]:
        """What begins the span of an operation of a type; nothing while nobody listens."""
        beneath = _BELOW.get(row.operation)
        kind, answers = _KINDS[row.kind], row.kind is SpanKind.SERVER

        def begin(operation: Operation) -> Live | None:
            if not self._is_heard and trace._TRACER_PROVIDER is None:  # noqa: SLF001
                return None
            if row.when is not None and not row.when(operation):
                return None
            told: dict[str, Any] = {semconv.OPERATION_NAME: row.operation}
            told.update(self._belongs(operation))
            if row.expect is not None:
                told.update(row.expect(operation))
            attributes = _known(told)
            around, links = context.get_current(), ()
            parent, current = around, trace.get_current_span(around)
            if answers or current is trace.INVALID_SPAN:
                parent, links = _called(self._caller(operation), around, current)
            named = [str(attributes[name]) for name in row.named if name in attributes]
            span = self._tracer.start_span(
                " ".join([row.operation, *named] if row.operation else named),
                context=parent,
                kind=kind,
                attributes=attributes,
                links=links,
                start_time=(began := time_ns()),
            )
            below: Any = None
            inside = trace.set_span_in_context(span, around)
            if beneath is not None and (below := _below(beneath.name)) is not None:
                inside = context.set_value(beneath.key, below, inside)
            if self._contents is None or row.content is None:
                return _Live(span, row, began, self._health, inside, below=below)
            telling = _Telling(span, row, began, self._health, inside, below=below)
            telling.contents, telling.attributes = self._contents, attributes
            return telling

        return begin

    def fields(self) -> Mapping[str, str]:
        """What tells another process of the current span, as the application's propagator says it.

        Of that only which trace it is.
        """
        if self.is_unheard():
            return {}
        from opentelemetry import propagate  # reads entry points, which few processes need

        fields: dict[str, str] = {}
        propagate.inject(fields)
        return {name: fields[name] for name in _TRACE_CONTEXT if name in fields}


_TRACE_CONTEXT = ("traceparent", "tracestate")


def _called(
    sent: Mapping[str, str], around: context.Context, current: trace.Span
) -> tuple[context.Context, tuple[trace.Link, ...]]:
    """The context that a caller's span is the parent in, with a link to what was current."""
    if not sent:
        return around, ()
    from opentelemetry import propagate

    remote = propagate.extract(sent, around)
    known = current.get_span_context()
    if trace.get_current_span(remote).get_span_context() == known or not known.is_valid:
        return remote, ()
    return remote, (trace.Link(known),)


class _Live:
    """A span that is under way."""

    __slots__ = ("_began", "_below", "_context", "_health", "_row", "_span")

    def __init__(
        self,
        span: trace.Span,
        row: Span,
        began: int,
        health: Health,
        inside: context.Context,
        *,
        below: Any,
    ) -> None:
        self._span = span
        self._row = row
        self._began = began
        self._health = health
        self._context = inside
        self._below = below

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
            self._finish(operation)
        except Exception as error:
            self._caught(error)
        try:
            self._span.end(self._began + round(operation.elapsed * 1e9))
        except Exception as error:  # of a processor of the application's
            self._caught(error)

    def _caught(self, error: Exception) -> None:
        failsafe.caught(self._health, f"span.{self._row.of.name}", error)

    def _finish(self, operation: Operation) -> None:
        if self._span.is_recording():
            self._describe(self._read(operation))

    def _describe(self, known: Mapping[str, AttributeValue]) -> None:
        self._span.set_attributes(known)
        if semconv.ERROR_TYPE in known:
            self._span.set_status(trace.StatusCode.ERROR)

    def _read(self, operation: Operation) -> dict[str, AttributeValue]:
        """What is known at the end."""
        facts: Any = operation.facts
        read: dict[str, Any] = {
            STATUS: operation.outcome,
            semconv.ERROR_TYPE: operation.failed_with,
        }
        for fact, name in self._row.facts.items():
            read[name] = getattr(facts, fact, None)
        if self._below is not None:
            for each, name in _FROM_BELOW.items():
                read[name] = getattr(self._below, each, None)
        return _known(read)


class _Telling(_Live):
    """A span whose operation also tells what was said, sampled or not."""

    __slots__ = ("attributes", "contents")

    attributes: dict[str, AttributeValue]
    """Those of its start."""
    contents: Contents

    def _finish(self, operation: Operation) -> None:
        known = self._read(operation)
        if self._span.is_recording():
            self._describe(known)
        if self._row.content is not None:
            said = dict(self._row.content(operation))
            is_chat = self._row.operation == "chat"
            self.contents.tell(self._span, self.attributes | known, said, chat=is_chat)


_GENAI = "opentelemetry.util.genai.invocation"


class _Beneath(NamedTuple):
    """By which key an instrumentation below finds what it is to fill, and the class of that."""

    key: str
    name: str


_BELOW = {
    "chat": _Beneath("opentelemetry.genai.client.inference.context", "InferenceData"),
    "embeddings": _Beneath("opentelemetry.genai.client.embedding.context", "EmbeddingData"),
}
_FROM_BELOW = {
    "response_id": semconv.RESPONSE_ID,
    "response_model": semconv.RESPONSE_MODEL,
    "server_address": semconv.SERVER_ADDRESS,
    "server_port": semconv.SERVER_PORT,
}
"""What an instrumentation below knows of a call, and Victor does not."""


def _below(name: str) -> Any:
    """What OpenTelemetry's own instrumentations of providers write into, instead of a second span.

    They look for it in the context, by this key. Without them, as nearly always, there is none.
    """
    genai = sys.modules.get(_GENAI)
    return None if genai is None else getattr(genai, name)()


def _known(attributes: Attributes) -> dict[str, AttributeValue]:
    """What is known, as an exporter can bear it: as with labels, what is too long is no name."""
    known: dict[str, AttributeValue] = {}
    for name, value in attributes.items():
        if value or type(value) is float:
            known[name] = as_name(value) if isinstance(value, str) else value
    return known
