"""What one instrumentation of the `openai` client adds to a chat completion, where it is alone.

    python -m benchmarks.peer NAME ROUNDS TIMES

Prints one line of JSON for `benchmarks.peers`. Here is no Victor and no victor-otel. The answer
comes from memory, contents are not captured, and spans and metrics end in memory; where a peer can
be told to make metrics only, that is measured as well.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from time import perf_counter
from typing import Any
from unittest import mock

import httpx
from openai import AsyncOpenAI
from openai.resources.chat.completions import AsyncCompletions
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.counting import steps
from benchmarks.interleaved import State, Work, measure

Call = Callable[[], Awaitable[Any]]
Peer = Callable[[trace.TracerProvider, MeterProvider], AbstractContextManager[Any]]

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "That is all."},
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
ASKED: Any = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hi."}]}


def client() -> AsyncOpenAI:
    body = json.dumps(ANSWER).encode()
    head = {"content-type": "application/json"}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=head, content=body)

    transport = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return AsyncOpenAI(api_key="none", base_url="http://model/v1", http_client=transport)


# The peers, as their documentation switches them on


@contextmanager
def _instrumented(instrumentor: Any, **options: Any) -> Iterator[None]:
    instrumentor.instrument(skip_dep_check=True, **options)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def genai(tracers: trace.TracerProvider, meters: MeterProvider) -> Any:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    return _instrumented(OpenAIInstrumentor(), tracer_provider=tracers, meter_provider=meters)


def openinference(tracers: trace.TracerProvider, _: MeterProvider) -> Any:
    from openinference.instrumentation import TraceConfig
    from openinference.instrumentation.openai import OpenAIInstrumentor

    config = TraceConfig(hide_inputs=True, hide_outputs=True)
    return _instrumented(OpenAIInstrumentor(), tracer_provider=tracers, config=config)


def traceloop(tracers: trace.TracerProvider, meters: MeterProvider) -> Any:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    return _instrumented(OpenAIInstrumentor(), tracer_provider=tracers, meter_provider=meters)


@contextmanager
def util_genai(tracers: trace.TracerProvider, meters: MeterProvider) -> Iterator[None]:
    """The library with which instrumentations are made, called as its users do."""
    from opentelemetry.util.genai.handler import TelemetryHandler

    handler = TelemetryHandler(tracer_provider=tracers, meter_provider=meters)
    create = AsyncCompletions.create

    async def measured(self: Any, **asked: Any) -> Any:
        with handler.inference("openai", request_model=asked["model"]) as invocation:
            answer = await create(self, **asked)
            invocation.response_model_name = answer.model
            invocation.response_id = answer.id
            invocation.finish_reasons = [answer.choices[0].finish_reason]
            invocation.input_tokens = answer.usage.prompt_tokens
            invocation.output_tokens = answer.usage.completion_tokens
            return answer

    with mock.patch.object(AsyncCompletions, "create", measured):
        yield


@contextmanager
def by_hand(_: trace.TracerProvider, meters: MeterProvider) -> Iterator[None]:
    """A clock, a histogram and a counter of the SDK: the unit that is the same everywhere."""
    meter = meters.get_meter("by_hand")
    duration = meter.create_histogram("duration", unit="s")
    calls = meter.create_counter("calls")
    create = AsyncCompletions.create

    async def measured(self: Any, **asked: Any) -> Any:
        began = perf_counter()
        answer = await create(self, **asked)
        labels = {"name": "own", "status": "success"}
        duration.record(perf_counter() - began, labels)
        calls.add(1, labels)
        return answer

    with mock.patch.object(AsyncCompletions, "create", measured):
        yield


def logfire(_: trace.TracerProvider, __: MeterProvider) -> Any:
    """It builds providers of its own."""
    import logfire

    logfire.configure(
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        metrics=logfire.MetricsOptions(additional_readers=[InMemoryMetricReader()]),
        additional_span_processors=[BatchSpanProcessor(InMemorySpanExporter())],
    )
    return logfire.instrument_openai(AsyncOpenAI)


def openlit(tracers: trace.TracerProvider, meters: MeterProvider) -> Any:
    """It cannot be switched off: what it has wrapped is exchanged."""
    return mock.patch.object(AsyncCompletions, "create", _wrapped_by_openlit(tracers, meters))


@cache
def _wrapped_by_openlit(tracers: trace.TracerProvider, meters: MeterProvider) -> Any:
    import openlit

    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as prices:
        prices.write('{"chat": {"gpt-4o-mini": {"promptPrice": 0.1, "completionPrice": 0.2}}}')
        prices.flush()
        original = AsyncCompletions.create
        openlit.init(
            capture_message_content=False,
            disable_events=True,
            pricing_json=prices.name,
            disabled_instrumentors=["httpx", "asyncio", "threading", "urllib3", "requests"],
        )
    wrapped, AsyncCompletions.create = AsyncCompletions.create, original
    return wrapped


PEERS: dict[str, tuple[Peer, bool]] = {
    "genai": (genai, True),
    "util-genai": (util_genai, True),
    "openinference": (openinference, False),
    "traceloop": (traceloop, False),
    "logfire": (logfire, False),
    "openlit": (openlit, False),
}
"""By their names: how each is switched on, and whether it can make metrics only."""


def repeated(call: Call) -> Work:
    async def work(times: int) -> None:
        for _ in range(times):
            await call()

    return work


async def measured(name: str, rounds: int, times: int) -> dict[str, Any]:
    peer, metrics_only = PEERS[name]
    made = client()
    memory = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(memory))
    meters = MeterProvider(
        [InMemoryMetricReader()],
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOffExemplarFilter(),
    )
    work = repeated(lambda: made.chat.completions.create(**ASKED))

    def on() -> Any:
        memory.clear()
        return peer(tracers, meters)

    states = {
        "off": State(nullcontext, work),
        "hand": State(lambda: by_hand(tracers, meters), work),
        "on": State(on, work),
    }
    if metrics_only:
        nothing = trace.NoOpTracerProvider()
        states["metrics"] = State(lambda: peer(nothing, meters), work)
    found = await measure(states, rounds=rounds, times=times)
    taken = {state: await steps(played) for state, played in states.items()}
    return {
        "steps": f"{taken['on'] - taken['off']:,.0f}",
        "on": str(found.beyond("on", "off")),
        "metrics": str(found.beyond("metrics", "off")) if metrics_only else "-",
        "metrics_steps": f"{taken['metrics'] - taken['off']:,.0f}" if metrics_only else "-",
        "hand": str(found.beyond("hand", "off")),
    }


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    os.environ["TRACELOOP_TRACE_CONTENT"] = "false"
    print(json.dumps(asyncio.run(measured(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
