"""Providers: every call to a model, its tokens, and whether the provider is up.

A call is the outermost `chat` or `stream` of one provider object: neither `super()`, nor
a `chat` that calls `stream`, nor a routing wrapper in front counts twice.
"""

from __future__ import annotations

from typing import Any

from victor_otel import labels
from victor_otel.classes import PROVIDER_RATE_LIMIT_ERROR, is_a
from victor_otel.scope import CURRENT, active
from victor_otel.shared import CHAT_TURN, ERRORS, PROVIDER_CALL, error_type, record_error
from victor_otel.spec import UNSET, Area, Call, Hook, Kind, Metric, Record, Scope, mapping

LATENCY = Metric(
    name="victor.provider.latency",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Time of one provider call; for streams the time spent in the iterator",
    labels=(labels.PROVIDER, labels.MODEL, labels.STATUS),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
)
TIME_TO_FIRST_TOKEN = Metric(
    name="victor.provider.time_to_first_token",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Time from a stream's first read to its first content",
    labels=(labels.PROVIDER, labels.MODEL),
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
REQUESTS = Metric(
    name="victor.provider.requests",
    kind=Kind.COUNTER,
    meaning="Provider calls",
    labels=(labels.PROVIDER, labels.MODEL, labels.STATUS, labels.TOOL_CALLS),
    siblings=(labels.STATUS, labels.TOOL_CALLS),
    guide=True,
)
SUCCESS_RATE = Metric(
    name="victor.provider.success_rate",
    kind=Kind.RATIO,
    meaning="Share of provider calls that succeeded over the last 5 minutes of this process",
    labels=(labels.PROVIDER, labels.MODEL),
    guide=True,
)
UP = Metric(
    name="victor.provider.up",
    kind=Kind.LATEST,
    meaning="1 if the last call that ended in the last 5 minutes succeeded, else 0",
    labels=(labels.PROVIDER,),
)
TOKENS = Metric(
    name="victor.provider.tokens",
    kind=Kind.COUNTER,
    meaning="Tokens as the provider reported them",
    labels=(labels.PROVIDER, labels.MODEL, labels.TOKEN_TYPE),
    siblings=(labels.TOKEN_TYPE,),
)
RETRIES = Metric(
    name="victor.provider.retries",
    kind=Kind.COUNTER,
    meaning="Attempts after the first of calls whose transport says that it retried",
    labels=(labels.PROVIDER,),
)
RATE_LIMITS = Metric(
    name="victor.provider.rate_limits",
    kind=Kind.COUNTER,
    meaning="Calls that a provider answered with a rate limit",
    labels=(labels.PROVIDER,),
)

_USAGE = (
    ("input", ("prompt_tokens", "input_tokens")),
    ("output", ("completion_tokens", "output_tokens")),
    ("cache_read", ("cache_read_input_tokens", "cached_tokens", "cache_read_tokens")),
    ("cache_write", ("cache_creation_input_tokens", "cache_write_tokens")),
)


class Answer:
    """What a streamed answer held, without its content."""

    __slots__ = ("attempts", "complete", "started", "tool_calls", "usage")

    def __init__(self) -> None:
        self.started = self.complete = self.tool_calls = False
        self.usage: Any = None
        self.attempts = 1

    def add(self, chunk: Any) -> None:
        if getattr(chunk, "tool_calls", None):
            self.tool_calls = True
        if getattr(chunk, "content", None):
            self.started = True
        if getattr(chunk, "usage", None):
            self.usage = chunk.usage
        if getattr(chunk, "is_final", False):
            self.complete = True
            self.attempts = _attempts(chunk)


def observe_call(call: Call, record: Record) -> None:
    provider = str(getattr(call.instance, "name", "other"))
    model = call.argument("model", 1) or getattr(call.instance, "model", None)
    status = call.status
    answer = call.stream.facts if call.stream is not None else _whole(call.result)
    elapsed = call.stream.inside if call.stream is not None else call.elapsed
    record(LATENCY, elapsed, provider=provider, model=model, status=status)
    record(
        REQUESTS,
        provider=provider,
        model=model,
        status=status,
        tool_calls="true" if answer.tool_calls else "false",
    )
    if status != "cancelled":
        record(SUCCESS_RATE, status == "success", provider=provider, model=model)
        record(UP, status == "success", provider=provider)
    if call.stream is not None and call.stream.first_content is not None:
        record(TIME_TO_FIRST_TOKEN, call.stream.first_content, provider=provider, model=model)
    for kind, names in _USAGE:
        usage = mapping(answer.usage)
        tokens = next((usage[name] for name in names if name in usage), None)
        if isinstance(tokens, int) and tokens > 0:
            record(TOKENS, tokens, provider=provider, model=model, type=kind)
    record(RETRIES, max(0, answer.attempts - 1), provider=provider)
    limited = is_a(call.error, PROVIDER_RATE_LIMIT_ERROR)
    record(RATE_LIMITS, int(limited), provider=provider)
    if call.error is not None and status != "cancelled":
        record_error(record, "provider", error_type(call.error))


def _whole(response: Any) -> Answer:
    answer = Answer()
    if response is not UNSET:
        answer.add(response)
        answer.attempts = _attempts(response)
    return answer


def _attempts(answer: Any) -> int:
    """Sandhi, Victor's transport, tells how often it tried, but only when it retried."""
    metadata = mapping(getattr(answer, "metadata", None))
    attempts = mapping(metadata.get("sandhi_usage")).get("attempts")
    return attempts if isinstance(attempts, int) else 1


RESILIENT_CALL = Scope(name="resilient_call")
"""A provider behind Victor's retry strategy: it is named when the error is not."""

REISSUED_STREAM = Scope(name="reissued_stream")
"""A stream that the chat asks for again after a rate limit or a lost connection."""


def observe_delay(call: Call, record: Record) -> None:
    """Victor's own retry strategy works out how long to wait, once before each retry."""
    around = (f for f in active(CURRENT.get()) if f.scope in {PROVIDER_CALL, RESILIENT_CALL})
    named = getattr(call.argument("error", 1), "provider", None)
    asked = getattr(next(around, None), "instance", None)
    record(RETRIES, provider=named or getattr(asked, "name", "unknown"))


def observe_reissued(call: Call, record: Record) -> None:
    again = len(call.parts.get("attempt", ())) - 1
    if again > 0:
        provider = getattr(call.owner, "provider", None)
        record(RETRIES, again, provider=getattr(provider, "name", "unknown"))


def failed(call: Call) -> bool:
    """What a chat turn keeps of its provider calls."""
    return call.status in {"failure", "timeout"}


_STREAMS = "victor.agent.services.chat_stream_helpers:ChatStreamHelperMixin"
_FEEDS = (
    LATENCY,
    TIME_TO_FIRST_TOKEN,
    REQUESTS,
    SUCCESS_RATE,
    UP,
    TOKENS,
    RETRIES,
    RATE_LIMITS,
    ERRORS,
)

AREA = Area(
    name="providers",
    metrics=_FEEDS[:-1],
    hooks=(
        *(
            Hook(
                target=f"victor.providers.base:BaseProvider.{method}",
                scope=PROVIDER_CALL,
                part="provider",
                of=CHAT_TURN,
                digest=failed,
                stream=Answer,
                overrides=True,
                observe=observe_call,
                feeds=_FEEDS,
            )
            for method in ("chat", "stream")
        ),
        *(
            Hook(
                target=f"victor.providers.resilience:ResilientProvider.{method}",
                scope=RESILIENT_CALL,
                stream=stream,
            )
            for method, stream in (("chat", None), ("stream", Answer))
        ),
        Hook(
            target=f"{_STREAMS}._stream_with_rate_limit_retry",
            scope=REISSUED_STREAM,
            observe=observe_reissued,
            feeds=(RETRIES,),
        ),
        Hook(
            target=f"{_STREAMS}._stream_provider_response_inner",
            part="attempt",
            of=REISSUED_STREAM,
        ),
        Hook(
            target="victor.providers.resilience:ProviderRetryStrategy._get_delay",
            observe=observe_delay,
            feeds=(RETRIES,),
        ),
    ),
)
