"""Providers: each call to a model, its tokens, and whether the provider is up.

A call is the outermost `chat` or `stream` of one provider object: calls through `super()`, from
`chat` to `stream`, or through a routing wrapper count once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Histogram, Latest, Ratio, Record
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Area, Begins, Feeds, Observes, Target, Tells
from victor_otel.model.span import Attributes, Span, SpanKind
from victor_otel.victor import content, labels
from victor_otel.victor.classes import PROVIDER_RATE_LIMIT_ERROR, is_a
from victor_otel.victor.operations import CHAT_TURN, PROVIDER_CALL, ProviderCall, conventional
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.values import attribute, mapping

LATENCY = Histogram(
    "victor.provider.latency",
    "Duration of a provider call; of a stream, the time spent in its iterator, not in its consumer",
    unit="s",
    labels=(labels.PROVIDER, labels.MODEL, labels.STATUS),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
    of=PROVIDER_CALL,
    value="seconds",
)
TIME_TO_FIRST_TOKEN = Histogram(
    "victor.provider.time_to_first_token",
    "Time from the first read of a stream to its first content",
    unit="s",
    labels=(labels.PROVIDER, labels.MODEL),
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    of=PROVIDER_CALL,
    value="first_token",
)
REQUESTS = Counter(
    "victor.provider.requests",
    "Provider calls that ended",
    labels=(labels.PROVIDER, labels.MODEL, labels.STATUS, labels.TOOL_CALLS),
    siblings=(labels.STATUS, labels.TOOL_CALLS),
    guide=True,
    of=PROVIDER_CALL,
)
SUCCESS_RATE = Ratio(
    "victor.provider.success_rate",
    "Share of provider calls that succeeded, over the last 5 minutes of this process",
    labels=(labels.PROVIDER, labels.MODEL),
    guide=True,
    of=PROVIDER_CALL,
    when="judged",
    value="succeeded",
)
UP = Latest(
    "victor.provider.up",
    "1 if the most recent provider call of the last 5 minutes succeeded, else 0",
    labels=(labels.PROVIDER,),
    of=PROVIDER_CALL,
    when="judged",
    value="succeeded",
)
TOKENS = Counter(
    "victor.provider.tokens",
    "Tokens that providers reported; the types input and output together are all tokens",
    labels=(labels.PROVIDER, labels.MODEL, labels.TOKEN_TYPE),
    siblings=(labels.TOKEN_TYPE,),
)
RETRIES = Counter(
    "victor.provider.retries",
    "Retries of provider calls, made by Victor or reported by the transport of the call",
    labels=(labels.PROVIDER,),
    of=PROVIDER_CALL,
    value="retries",
)
RATE_LIMITS = Counter(
    "victor.provider.rate_limits",
    "Provider calls that were answered with a rate limit",
    labels=(labels.PROVIDER,),
    of=PROVIDER_CALL,
    value="rate_limited",
)

_PROMPT = ("prompt_tokens", "input_tokens")
_COMPLETION = ("completion_tokens", "output_tokens")
_CACHE_READ = ("cache_read_input_tokens", "cached_tokens", "cache_read_tokens")
_CACHE_WRITE = ("cache_creation_input_tokens", "cache_write_tokens")
_REASONING = ("reasoning_tokens",)

TOKEN_TYPES = labels.TOKEN_TYPE.values

CACHED_APART = frozenset({"anthropic"})
"""Providers whose prompt leaves cached tokens out (`victor.providers.usage_parsing`)."""


class Answer:
    """What a streamed answer held, without its content."""

    __slots__ = ("attempts", "complete", "started", "stopped", "tool_calls", "usage")

    def __init__(self) -> None:
        self.started = self.complete = self.tool_calls = False
        self.usage: Any = None
        self.stopped: Any = None
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
            self.stopped = getattr(chunk, "stop_reason", None)
            self.attempts = _attempts(chunk)


class KeptAnswer(Answer):
    """The same, with its content."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        super().__init__()
        self.said = content.Said()

    def add(self, chunk: Any) -> None:
        super().add(chunk)
        self.said.add(chunk)


def read_call(call: Operation) -> ProviderCall:
    provider = str(getattr(call.instance, "name", "other"))
    stream = call.stream
    answer = stream.facts if stream is not None else _whole(call.result)
    usage = mapping(answer.usage)
    counts = dict(tokens(usage, cached_apart=provider in CACHED_APART)) if usage else {}
    status = call.status
    failed = None if status == "cancelled" else call.error
    return ProviderCall(
        provider=provider,
        model=call.argument("model") or getattr(call.instance, "model", None),
        status=status,
        seconds=call.elapsed if stream is None else stream.inside,
        tool_calls="true" if answer.tool_calls else "false",
        judged=status != "cancelled",
        succeeded=status == "success",
        first_token=None if stream is None else stream.first_content,
        first_chunk=None if stream is None else stream.first_item,
        retries=max(0, answer.attempts - 1),
        rate_limited=int(is_a(call.error, PROVIDER_RATE_LIMIT_ERROR)),
        streamed=stream is not None,
        error_type="" if failed is None else error_type(failed),
        stopped=answer.stopped,
        **{kind: counts.get(kind) or None for kind in TOKEN_TYPES},
    )


def expect_call(call: Operation) -> Attributes:
    provider = str(getattr(call.instance, "name", "other"))
    model = call.argument("model") or getattr(call.instance, "model", None)
    limit, heat = call.argument("max_tokens"), call.argument("temperature")
    return {
        semconv.PROVIDER_NAME: conventional(provider),
        semconv.REQUEST_MODEL: model if isinstance(model, str) else None,
        semconv.REQUEST_MAX_TOKENS: limit if type(limit) is int else None,
        semconv.REQUEST_TEMPERATURE: float(heat) if type(heat) in {int, float} else None,
    }


def tokens(usage: Mapping[str, Any], *, cached_apart: bool) -> Iterator[tuple[str, int]]:
    """How many of each type. `input` and `output` mean the same for every provider.

    `input` holds what was read from a cache and written to it, `output` what is billed as such:
    the reasoning as well, which some providers report beside it. Which ones, Victor says in
    `reasoning_included`; where it does not, its own rule is that more reasoning than completion
    cannot be a part of it (`victor.providers.usage_accounting`).
    """
    prompt, completion = _reported(usage, _PROMPT), _reported(usage, _COMPLETION)
    read, written = _reported(usage, _CACHE_READ), _reported(usage, _CACHE_WRITE)
    reasoning = _reported(usage, _REASONING)
    included = usage.get("reasoning_included")
    beside = included is False or (included is None and reasoning > completion)
    yield "input", prompt + (read + written if cached_apart else 0)
    yield "output", completion + (reasoning if beside else 0)
    yield "reasoning", reasoning
    yield "cache_read", read
    yield "cache_write", written


def _reported(usage: Mapping[str, Any], names: Sequence[str]) -> int:
    for name in names:
        if name in usage:
            number = usage[name]
            return number if type(number) is int else 0
    return 0


def _whole(response: Any) -> Answer:
    answer = Answer()
    if response is not UNSET:
        answer.tool_calls = bool(attribute(response, "tool_calls"))
        answer.usage = attribute(response, "usage")
        answer.stopped = attribute(response, "stop_reason")
        answer.attempts = _attempts(response)
    return answer


def _attempts(answer: Any) -> int:
    """Sandhi, Victor's transport, tells how often it tried, but only when it retried."""
    metadata = mapping(attribute(answer, "metadata"))
    attempts = mapping(metadata.get("sandhi_usage")).get("attempts")
    return attempts if isinstance(attempts, int) else 1


RESILIENT_CALL = OperationType[object]("resilient_call")
"""A provider behind Victor's retry strategy: it is named when the error is not."""

REISSUED_STREAM = OperationType[object]("reissued_stream")
"""A stream that the chat asks for again after a rate limit or a lost connection."""


def observe_delay(delay: Operation, record: Record) -> None:
    """Victor's own retry strategy works out how long to wait, once before each retry."""
    named = getattr(delay.argument("error"), "provider", None)
    around = delay.around(PROVIDER_CALL, RESILIENT_CALL)
    asked = None if around is None else around.instance
    record(RETRIES, provider=named or getattr(asked, "name", "unknown"))


def observe_reissued(stream: Operation, record: Record) -> None:
    again = len(stream.told("attempt")) - 1
    if again > 0:
        provider = getattr(stream.owner, "provider", None)
        record(RETRIES, again, provider=getattr(provider, "name", "unknown"))


_STREAMS = "victor.agent.services.chat_stream_helpers:ChatStreamHelperMixin"
_PROVIDER = "victor.providers.base:BaseProvider"
_RESILIENT = "victor.providers.resilience:ResilientProvider"

AREA = Area(
    name="providers",
    metrics=(
        LATENCY,
        TIME_TO_FIRST_TOKEN,
        REQUESTS,
        SUCCESS_RATE,
        UP,
        TOKENS,
        RETRIES,
        RATE_LIMITS,
    ),
    spans=(
        Span(
            PROVIDER_CALL,
            "chat",
            named=(semconv.REQUEST_MODEL,),
            kind=SpanKind.CLIENT,
            expect=expect_call,
            facts={
                "streamed": semconv.REQUEST_STREAM,
                "first_chunk": semconv.TIME_TO_FIRST_CHUNK,
                "input": semconv.INPUT_TOKENS,
                "output": semconv.OUTPUT_TOKENS,
                "reasoning": semconv.REASONING_TOKENS,
                "cache_read": semconv.CACHE_READ_TOKENS,
                "cache_write": semconv.CACHE_WRITE_TOKENS,
                "finish_reasons": semconv.FINISH_REASONS,
            },
            content=content.inference,
        ),
    ),
    rows=(
        *(
            Begins(
                PROVIDER_CALL,
                Target(
                    f"{_PROVIDER}.{method}",
                    arguments=("model", "messages", "tools", "max_tokens", "temperature"),
                    overrides=True,
                    stream=Answer,
                    keeping=KeptAnswer,
                ),
                read=read_call,
            )
            for method in ("chat", "stream")
        ),
        Tells(CHAT_TURN, "provider", PROVIDER_CALL, read=lambda call: call.failed),
        *(Feeds(PROVIDER_CALL, TOKENS, value=kind, labels={"type": kind}) for kind in TOKEN_TYPES),
        Begins(RESILIENT_CALL, Target(f"{_RESILIENT}.chat")),
        Begins(RESILIENT_CALL, Target(f"{_RESILIENT}.stream", stream=Answer)),
        Begins(REISSUED_STREAM, Target(f"{_STREAMS}._stream_with_rate_limit_retry")),
        Tells(REISSUED_STREAM, "attempt", Target(f"{_STREAMS}._stream_provider_response_inner")),
        Observes(REISSUED_STREAM, observe_reissued, feeds=(RETRIES,)),
        Observes(
            Target(
                "victor.providers.resilience:ProviderRetryStrategy._get_delay",
                arguments=("error",),
            ),
            observe_delay,
            feeds=(RETRIES,),
        ),
    ),
)
