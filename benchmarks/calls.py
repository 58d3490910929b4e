"""What one call costs at each level of Victor, against the same metrics recorded by hand.

    python -m benchmarks.calls [--rounds N] [--quick]

CPU time of the whole process, in one process and one event loop: without us, with us, with
nobody listening to us, and with a clock, a histogram and a counter around the call, of the SDK or
of prometheus_client. The cost is what Victor alone has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any

import prometheus_client
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.interleaved import State, Work, measure
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import sandboxed
from tests.kit.providers import chunk, own
from tests.kit.tools import Bench, own_tool
from tests.kit.tools import asked as tool_call
from victor_otel.runtime import RUNTIME

ITEMS = 200
"""Of the stream that is read."""

Call = Callable[[], Awaitable[object]]


def provider() -> MeterProvider:
    return MeterProvider(
        [InMemoryMetricReader()],
        shutdown_on_exit=False,
        exemplar_filter=AlwaysOffExemplarFilter(),
    )


@contextlib.contextmanager
def switched_on(meters: MeterProvider | None) -> Iterator[None]:
    """The instrumentation, into a provider or with nobody listening."""
    RUNTIME.activate(meters).open()
    try:
        yield
    finally:
        RUNTIME.deactivate()


def repeated(call: Call) -> Work:
    async def work(times: int) -> None:
        for _ in range(times):
            await call()

    return work


def by_sdk(call: Call) -> Call:
    """The call, measured by hand with OpenTelemetry's SDK."""
    meter = provider().get_meter("by_hand")
    duration = meter.create_histogram("duration", unit="s")
    calls = meter.create_counter("calls")

    async def measured() -> None:
        began = perf_counter()
        await call()
        labels = {"name": "own", "status": "success"}
        duration.record(perf_counter() - began, labels)
        calls.add(1, labels)

    return measured


def by_prometheus(call: Call) -> Call:
    """The same with prometheus_client, whose children are looked up as its users do."""
    registry, names = prometheus_client.CollectorRegistry(), ("name", "status")
    duration = prometheus_client.Histogram("duration", "Seconds", names, registry=registry)
    calls = prometheus_client.Counter("calls", "Calls", names, registry=registry)

    async def measured() -> None:
        began = perf_counter()
        await call()
        duration.labels("own", "success").observe(perf_counter() - began)
        calls.labels("own", "success").inc()

    return measured


def states(call: Call) -> dict[str, State]:
    """The same call without us, by hand, with us, and with nobody listening to us."""
    ours = provider()
    return {
        "off": State(contextlib.nullcontext, repeated(call)),
        "sdk": State(contextlib.nullcontext, repeated(by_sdk(call))),
        "prometheus": State(contextlib.nullcontext, repeated(by_prometheus(call))),
        "on": State(lambda: switched_on(ours), repeated(call)),
        "nobody": State(lambda: switched_on(None), repeated(call)),
    }


def kinds() -> dict[str, Call]:
    """By what is called. The pipeline gets another number each time: it answers no call twice."""
    tool = own_tool(lambda _, number: number)
    bench = Bench(tool)
    numbers = iter(range(10**9))
    piece = chunk(content="a")

    async def items(*_: Any, **__: Any) -> AsyncIterator[Any]:
        for _ in range(ITEMS):
            yield piece

    model = own(stream=items)

    async def read() -> None:
        async for _ in model.stream([], model="m"):
            pass

    return {
        "tool": lambda: tool.execute({}, number=1),
        "registry": lambda: bench.registry.execute("own_tool", {}, number=1),
        "executor": lambda: bench.executor.execute("own_tool", {"number": 1}),
        "pipeline": lambda: bench.batch(tool_call("own_tool", number=next(numbers))),
        "model": lambda: model.chat([], model="m"),
        "stream": read,
    }


TITLES = {
    "tool": "tool call, the tool alone",
    "registry": "tool call, through the registry",
    "executor": "tool call, through the executor",
    "pipeline": "tool call, through the pipeline",
    "model": "model call",
    "stream": f"stream item, of {ITEMS}",
}


def share(name: str) -> float:
    """The part of a call that is shown: of a stream one item."""
    return 1 / ITEMS if name == "stream" else 1


TIMES = {"pipeline": 25, "executor": 50, "stream": 10}
"""How often a round repeats what takes longer."""


async def main(asked: Asked) -> None:
    table = Table(
        "calls",
        "What a call costs in CPU time beyond what Victor takes: median (quartiles) of "
        f"{asked.rounds} rounds, microseconds.",
        (
            "Call",
            "with us",
            "by hand, SDK",
            "by hand, prometheus_client",
            "us / by hand, SDK",
            "nobody listens",
        ),
    )
    for name, call in kinds().items():
        times = asked.times(TIMES.get(name, 100))
        found = await measure(states(call), rounds=asked.rounds, times=times)
        ours, sdk, prometheus, nobody = (
            found.beyond(state, "off").scaled(share(name))
            for state in ("on", "sdk", "prometheus", "nobody")
        )
        table.add(TITLES[name], ours, sdk, prometheus, found.ratio("on", "sdk", "off"), nobody)
    table.keep(asked)


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=31).parse_args())
    logging.disable(logging.CRITICAL)
    with sandboxed():
        asyncio.run(main(given))
