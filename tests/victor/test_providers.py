"""Calls to providers of every shape, and to Victor's own transport to a scripted model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.agents import Recorded, model
from tests.kit.processes import free_port
from tests.kit.providers import (
    Behaviour,
    ask,
    chunk,
    chunks,
    openai,
    own,
    plain_chat,
    plain_stream,
    provider_class,
    read,
    refused_key,
    resilient,
    response,
)
from victor_otel.demo.script import Step, ToolCall, Usage
from victor_otel.runtime import RUNTIME
from victor_otel.signals.recording import Recording
from victor_otel.victor.areas.providers import tokens

REQUESTS = "victor.provider.requests"
LATENCY = "victor.provider.latency"
FIRST_TOKEN = "victor.provider.time_to_first_token"
TOKENS = "victor.provider.tokens"
RETRIES = "victor.provider.retries"
RATE_LIMITS = "victor.provider.rate_limits"
RATE = "victor.provider.success_rate"
UP = "victor.provider.up"
ERRORS = "victor.errors"
ALL = (REQUESTS, LATENCY, FIRST_TOKEN, TOKENS, RETRIES, RATE_LIMITS, RATE, UP, ERRORS)

Points = dict[tuple[Any, ...], float]


def key(name: str, **labels: str) -> tuple[Any, ...]:
    return (name, *sorted(labels.items()))


def called(
    provider: str = "own",
    status: str = "success",
    *,
    name: str = "m",
    tool_calls: str = "false",
    first: bool = False,
    errors: str = "",
    count: int = 1,
    **tokens: int,
) -> Points:
    """The points of calls that all ended alike."""
    who = {"provider": provider, "model": name}
    points = {
        key(REQUESTS, **who, status=status, tool_calls=tool_calls): count,
        key(LATENCY, **who, status=status): count,
    }
    if status == "success":
        points |= {key(RATE, **who): 1.0, key(UP, provider=provider): 1.0}
    if first:
        points[key(FIRST_TOKEN, **who)] = count
    if errors:
        points[key(ERRORS, component="provider", error_type=errors)] = count
    return points | {key(TOKENS, **who, type=kind): number for kind, number in tokens.items()}


# Shapes


async def test_a_chat_is_one_call_of_the_model_that_was_asked_for(recorded: Recorded) -> None:
    assert (await own().chat([], model="m")).model == "as-the-provider-calls-it"
    assert recorded.points(*ALL) == called()


async def test_a_stream_is_one_call_with_a_first_token(recorded: Recorded) -> None:
    assert len(await read(own().stream([], model="m"))) == 3
    assert recorded.points(*ALL) == called(first=True)


async def test_a_class_defined_before_us_counts_as_one_defined_after(recorded: Recorded) -> None:
    RUNTIME.deactivate()
    early = own()
    RUNTIME.activate(recorded.provider)
    await early.chat([], model="m")
    await read(early.stream([], model="m"))
    assert recorded.points(*ALL) == {
        **called(first=True, count=2),
        key(FIRST_TOKEN, provider="own", model="m"): 1,
    }


@pytest.mark.parametrize("early", [True, False])
async def test_a_mixin_that_is_no_provider_itself_counts_through_the_provider(
    recorded: Recorded, early: bool
) -> None:
    if early:
        RUNTIME.deactivate()

    class Transport:
        chat = plain_chat
        stream = plain_stream

    provider = provider_class(Transport)()
    if early:
        RUNTIME.activate(recorded.provider)
    provider.behaviour = Behaviour()
    await provider.chat([], model="m")
    assert recorded.points(*ALL) == called()


async def test_stream_chat_is_the_stream_it_calls(recorded: Recorded) -> None:
    await read(own().stream_chat([], model="m"))
    assert recorded.points(*ALL) == called(first=True)


async def test_an_ordinary_function_that_returns_an_iterator_streams(recorded: Recorded) -> None:
    class OneByOne:
        def __init__(self) -> None:
            self._items = chunks("a")

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            return await anext(self._items)

    def stream(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return OneByOne()

    assert len(await read(own(stream=stream).stream([], model="m"))) == 2
    assert recorded.points(*ALL) == called(first=True)


async def test_a_coroutine_that_returns_an_iterator_streams(recorded: Recorded) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        await asyncio.sleep(0.02)
        return chunks("a")

    assert len(await read(own(stream=stream).stream([], model="m"))) == 2
    assert recorded.points(*ALL) == called(first=True)
    assert seconds(recorded, LATENCY) >= 0.02
    assert seconds(recorded, FIRST_TOKEN) >= 0.02


async def test_a_coroutine_that_fails_to_return_an_iterator_is_one_failed_call(
    recorded: Recorded,
) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        raise ValueError

    with pytest.raises(ValueError):
        await read(own(stream=stream).stream([], model="m"))
    assert recorded.points(*ALL) == called(status="failure", errors="ValueError")


async def test_super_in_a_stream_counts_once(recorded: Recorded) -> None:
    base = provider_class()

    class Wider(base):  # type: ignore[misc, valid-type]
        async def stream(self, messages: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async for item in super().stream(messages, **kwargs):
                yield item

    provider = Wider()
    provider.behaviour = Behaviour()
    await read(provider.stream([], model="m"))
    assert recorded.points(*ALL) == called(first=True)


async def test_two_providers_in_one_call_are_two_calls(recorded: Recorded) -> None:
    inner = own(name="inner")

    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return await inner.chat(messages, model=model)

    await own(name="outer", chat=chat).chat([], model="m")
    assert recorded.points(*ALL) == {**called("inner"), **called("outer")}


# Wrappers around providers


async def test_a_resilient_provider_counts_each_attempt_and_its_retries(
    recorded: Recorded,
) -> None:
    from victor.core.errors import ProviderConnectionError

    lost = ProviderConnectionError("connection error", provider="own")
    await resilient(own(lost, lost)).chat([], model="m")
    assert recorded.points(*ALL) == {
        **called(),
        **called(status="failure", errors="provider_connection", count=2),
        key(RETRIES, provider="own"): 2,
        key(RATE, provider="own", model="m"): pytest.approx(1 / 3),
    }


async def test_a_fallback_is_a_call_of_the_other_provider(recorded: Recorded) -> None:
    await resilient(own(refused_key()), own(name="spare")).chat([], model="m")
    assert recorded.points(*ALL) == {
        **called(status="failure", errors="provider_auth"),
        **called("spare"),
    }


async def test_a_stream_through_a_resilient_provider_counts_once(recorded: Recorded) -> None:
    await read(resilient(own()).stream([], model="m"))
    assert recorded.points(*ALL) == called(first=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_routed_call_counts_once_for_the_chosen_provider(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    from victor.providers.smart_router import (
        RoutingDecision,
        SmartRoutingConfig,
        SmartRoutingProvider,
    )

    async def decide(**_: Any) -> RoutingDecision:
        return RoutingDecision(
            selected_provider="own", fallback_chain=["spare"], rationale="", confidence=1.0
        )

    routed = SmartRoutingProvider([own(), own(name="spare")], SmartRoutingConfig(enabled=True))
    monkeypatch.setattr(routed.engine, "decide", decide)
    if stream:
        await read(routed.stream([], model="m"))
    else:
        await routed.chat([], model="m")
    assert recorded.points(*ALL) == called(first=stream)


@pytest.mark.parametrize("wrap", [None, resilient])
async def test_a_managed_provider_counts_its_base_once(
    recorded: Recorded, wrap: Callable[[Any], Any] | None
) -> None:
    from victor.providers.factory import ManagedProvider

    base = own()
    managed = ManagedProvider(base, resilient_provider=wrap(base) if wrap else None)
    await managed.chat([], model="m")
    assert recorded.points(*ALL) == called()


async def test_a_managed_stream_counts_once(recorded: Recorded) -> None:
    from victor.providers.factory import ManagedProvider

    await read(ManagedProvider(own()).stream_chat([], model="m"))
    assert recorded.points(*ALL) == called(first=True)


async def test_calls_through_a_queue_of_requests_count_once_each(recorded: Recorded) -> None:
    from victor.providers.concurrency import RequestQueue
    from victor.providers.factory import ManagedProvider

    queue = RequestQueue()
    managed = ManagedProvider(own(), request_manager=queue)
    try:
        await asyncio.gather(*(managed.chat([], model="m") for _ in range(3)))
    finally:
        await queue.shutdown()
    assert recorded.points(*ALL) == called(count=3)


# What is recorded of a call


async def test_all_siblings_exist_with_the_first_call(recorded: Recorded) -> None:
    await own().chat([], model="m")
    points = recorded.points(REQUESTS, RETRIES, RATE_LIMITS, zeros=True)
    siblings = {
        (dict(labels[1:])["status"], dict(labels[1:])["tool_calls"]): value
        for labels, value in points.items()
        if labels[0] == REQUESTS
    }
    assert siblings == {
        (status, tools): float((status, tools) == ("success", "false"))
        for status in ("success", "failure", "timeout", "cancelled")
        for tools in ("true", "false")
    }
    assert points[key(RETRIES, provider="own")] == 0
    assert points[key(RATE_LIMITS, provider="own")] == 0


async def test_all_kinds_of_tokens_exist_with_the_first(recorded: Recorded) -> None:
    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "total_tokens": 15,
        }
        return response(usage=usage)

    await own(chat=chat).chat([], model="m")
    assert recorded.points(*ALL) == called(input=10, output=5, cache_read=3, cache_write=2)
    kinds = {dict(labels[1:])["type"] for labels in recorded.points(TOKENS, zeros=True)}
    assert kinds == {"input", "output", "reasoning", "cache_read", "cache_write"}


async def test_a_call_without_usage_has_no_tokens_at_all(recorded: Recorded) -> None:
    await own().chat([], model="m")
    assert recorded.points(TOKENS, zeros=True) == {}


async def test_answers_with_tool_calls_are_told_apart(recorded: Recorded) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> AsyncIterator[Any]:
        yield chunk(tool_calls=[{"id": "1", "name": "x", "arguments": {}}])
        yield chunk(is_final=True, usage={"prompt_tokens": 4, "completion_tokens": 2})

    await read(own(stream=stream).stream([], model="m"))
    assert recorded.points(*ALL) == called(tool_calls="true", input=4, output=2)


async def test_latency_and_first_token_leave_the_consumers_time_out(recorded: Recorded) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(0.02)
        yield chunk(content="a")
        await asyncio.sleep(0.02)
        yield chunk(is_final=True)

    shown = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, shown.set)
    async for _ in own(stream=stream).stream([], model="m"):
        await shown.wait()
    assert recorded.points(*ALL) == called(first=True)
    assert 0.04 <= seconds(recorded, LATENCY) < 0.4
    assert 0.02 <= seconds(recorded, FIRST_TOKEN) < 0.4


def seconds(recorded: Recorded, name: str) -> float:
    """The sum of a histogram's only point that holds anything."""
    data = recorded.reader.get_metrics_data()
    assert data is not None
    (only,) = (
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    )
    return float(only.sum)  # type: ignore[union-attr]


async def test_a_cancelled_chat_is_in_no_ratio_and_no_error(recorded: Recorded) -> None:
    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        await asyncio.sleep(30)

    call = asyncio.ensure_future(own(chat=chat).chat([], model="m"))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert recorded.points(*ALL) == called(status="cancelled")
    assert recorded.points(RATE, UP, zeros=True) == {}


async def test_a_stream_cancelled_while_it_waits_keeps_its_first_token(recorded: Recorded) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> AsyncIterator[Any]:
        yield chunk(content="a")
        await asyncio.sleep(30)

    call = asyncio.ensure_future(read(own(stream=stream).stream([], model="m")))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert recorded.points(*ALL) == called(status="cancelled", first=True)


async def test_a_stream_that_breaks_after_content_has_failed(recorded: Recorded) -> None:
    async def stream(self: Any, messages: Any, *, model: str, **_: Any) -> AsyncIterator[Any]:
        yield chunk(content="a")
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await read(own(stream=stream).stream([], model="m"))
    assert recorded.points(*ALL) == called(
        status="failure", first=True, errors="ConnectionResetError"
    )


async def test_up_is_told_by_the_last_call_that_was_not_cancelled(recorded: Recorded) -> None:
    provider = own(None, ValueError(), asyncio.CancelledError(), None)

    async def up() -> Points:
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            await provider.chat([], model="m")
        return recorded.points(UP, zeros=True)

    assert recorded.points(UP, zeros=True) == {}
    assert [await up() for _ in range(4)] == [
        {key(UP, provider="own"): value} for value in (1.0, 0.0, 0.0, 1.0)
    ]
    assert recorded.points(RATE) == {key(RATE, provider="own", model="m"): pytest.approx(2 / 3)}


@pytest.mark.parametrize("kind", [TimeoutError, asyncio.TimeoutError])
async def test_pythons_timeouts_are_timeouts(recorded: Recorded, kind: type[BaseException]) -> None:
    with pytest.raises(TimeoutError):
        await own(kind()).chat([], model="m")
    assert recorded.points(*ALL) == called(status="timeout", errors="TimeoutError")


# Victor's own transport


@pytest.mark.parametrize("stream", [False, True])
async def test_victors_transport_tells_tokens_and_content(recorded: Recorded, stream: bool) -> None:
    with model(m=[Step("Hi.", usage=Usage(prompt=20, completion=5, cached=8))]) as served:
        await ask(openai(served.url), "m", stream=stream)
    assert recorded.points(*ALL) == called("openai", first=stream, input=20, output=5, cache_read=8)


# What the interfaces of three vendors answer, of one and the same call: 33 tokens in, of which 8
# were cached before; 319 out, of which 310 are reasoning. Anthropic reports no reasoning.
WIRES = {
    "anthropic": {
        "id": "1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 20,
            "cache_read_input_tokens": 8,
            "cache_creation_input_tokens": 5,
            "output_tokens": 319,
        },
    },
    "google": {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hi."}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {
            "promptTokenCount": 33,
            "cachedContentTokenCount": 8,
            "candidatesTokenCount": 9,
            "thoughtsTokenCount": 310,
            "totalTokenCount": 352,
        },
    },
    "openai": {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi."},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 33,
            "prompt_tokens_details": {"cached_tokens": 8},
            "completion_tokens": 319,
            "completion_tokens_details": {"reasoning_tokens": 310},
            "total_tokens": 352,
        },
    },
}


@contextlib.contextmanager
def answering(document: Any) -> Iterator[str]:
    """A server that answers every request with one document."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("vendor", "parts"),
    [
        ("anthropic", {"cache_read": 8, "cache_write": 5}),
        ("google", {"cache_read": 8, "reasoning": 310}),
        ("openai", {"cache_read": 8, "reasoning": 310}),
    ],
)
async def test_input_and_output_are_all_tokens_whichever_vendor_counts_them(
    recorded: Recorded, vendor: str, parts: dict[str, int]
) -> None:
    from victor.providers.base import Message
    from victor.providers.registry import ProviderRegistry

    with answering(WIRES[vendor]) as url:
        base = f"{url}/v1" if vendor == "openai" else url
        provider = ProviderRegistry.create(vendor, api_key="none", base_url=base, max_retries=0)
        await provider.chat([Message(role="user", content="Hi.")], model="m")
    assert recorded.points(*ALL) == called(vendor, input=33, output=319, **parts)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": st.integers(0, 9),
            "completion_tokens": st.integers(0, 9),
            "reasoning_tokens": st.integers(0, 9),
            "reasoning_included": st.booleans(),
        },
    )
)
def test_output_is_what_victor_bills(usage: dict[str, int]) -> None:
    from victor.providers.usage_accounting import billable_completion_tokens

    assert dict(tokens(usage, cached_apart=False))["output"] == billable_completion_tokens(usage)


@pytest.mark.parametrize("stream", [False, True])
async def test_victors_transport_tells_tool_calls(recorded: Recorded, stream: bool) -> None:
    with model(m=[Step(calls=(ToolCall("x"),), usage=Usage(9, 4))]) as served:
        await ask(openai(served.url), "m", stream=stream)
    assert recorded.points(*ALL) == called("openai", tool_calls="true", input=9, output=4)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "category"),
    [(401, "provider_auth"), (429, "provider_rate_limit"), (500, None)],
)
async def test_an_error_status_is_a_failed_call_that_says_why(
    recorded: Recorded, status: int, category: str | None, stream: bool
) -> None:
    from victor.core.errors import ProviderError

    with model(m=[Step(status=status)]) as served, pytest.raises(ProviderError) as raised:
        await ask(openai(served.url), "m", stream=stream)
    expected = called("openai", "failure", errors=category or raised.value.category.value)
    if status == 429:
        expected[key(RATE_LIMITS, provider="openai")] = 1
    assert recorded.points(*ALL) == expected
    assert recorded.points(RATE, UP, zeros=True) == {
        key(RATE, provider="openai", model="m"): 0.0,
        key(UP, provider="openai"): 0.0,
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_hidden_retries_of_a_call_that_succeeds_are_counted(
    recorded: Recorded, stream: bool
) -> None:
    with model(m=[Step(status=500), Step(status=500), Step("Hi.")]) as served:
        await ask(openai(served.url, max_retries=2), "m", stream=stream)
        assert served.requests("m") == 3
    assert recorded.points(*ALL) == {
        **called("openai", first=stream, input=11, output=7),
        key(RETRIES, provider="openai"): 2,
    }


async def test_a_refused_connection_is_a_failure(recorded: Recorded) -> None:
    from victor.core.errors import ProviderConnectionError

    with pytest.raises(ProviderConnectionError):
        await ask(openai(f"http://127.0.0.1:{free_port()}/v1"), "m")
    assert recorded.points(*ALL) == called("openai", "failure", errors="provider_connection")


async def test_a_slow_answer_is_a_timeout_though_victor_calls_it_a_lost_connection(
    recorded: Recorded,
) -> None:
    from victor.core.errors import ProviderTimeoutError

    with model(m=[Step("Late.", delay=5)]) as served, pytest.raises(ProviderTimeoutError):
        await ask(openai(served.url, timeout=1), "m")
    assert recorded.points(*ALL) == called("openai", "timeout", errors="ProviderTimeoutError")


async def test_cancelling_victors_transport_is_a_cancelled_call(recorded: Recorded) -> None:
    with model(m=[Step(silent=True)]) as served:
        call = asyncio.ensure_future(ask(openai(served.url), "m"))
        await asyncio.to_thread(served.wait_for_request, "m", 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert recorded.points(*ALL) == called("openai", "cancelled")


async def test_a_label_that_is_replaced_is_counted_each_time_and_looked_up_once(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound: list[object] = []
    bind = Recording._bind

    def noted(recording: Recording, key: Any, operation: Any) -> Any:
        bound.append(key)
        return bind(recording, key, operation)

    monkeypatch.setattr(Recording, "_bind", noted)
    RUNTIME.health.restart()
    provider = own()
    for _ in range(3):
        await provider.chat([], model="x" * 1000)
    assert len(bound) == 1
    assert RUNTIME.health.capped["victor_provider_requests_total"] == 3
    requests = recorded.points("victor.provider.requests")
    assert [(dict(key[1:])["model"], value) for key, value in requests.items()] == [("other", 3)]
