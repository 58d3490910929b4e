"""What a call costs when there are many series, threads or agents.

    python -m benchmarks.growth [--rounds N] [--quick]

Model calls to ever more models, from ever more threads, and tool calls of ever more agents that
are all in the middle of one at once. CPU time for each call beyond what Victor takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider

from benchmarks.calls import repeated, switched_on
from benchmarks.interleaved import Spread, State, Work, measure, number
from benchmarks.report import Asked, Table, asked, parser
from tests.kit.agents import Recorded, sandboxed
from tests.kit.providers import own
from tests.kit.tools import Bench, own_tool
from tests.kit.tools import asked as tool_call

SERIES = ((1, 1), (4, 4), (20, 20), (45, 30))
"""Providers, and models of each: their series are counted."""
THREADS = (1, 2, 4, 8, 16)
AGENTS = (1, 10, 100, 1_000)
CALLS = 1_500


def series(recorded: Recorded) -> int:
    """As many as Prometheus would have: a histogram has one for each bucket, and two more."""
    data = recorded.reader.get_metrics_data()
    points = [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return sum(_series_of(point) for point in points)


def _series_of(point: Any) -> int:
    buckets = getattr(point, "bucket_counts", None)
    return 1 if buckets is None else len(buckets) + 2


def among(providers: int, models: int) -> Work:
    """Calls of all these models, one after the other."""
    made = [own(name=f"provider{one}") for one in range(providers)]
    pairs = itertools.cycle(itertools.product(made, [f"model{one}" for one in range(models)]))

    async def call() -> None:
        provider, model = next(pairs)
        await provider.chat([], model=model)

    return repeated(call)


def threaded(threads: int, pool: ThreadPoolExecutor) -> Work:
    """Calls that are shared by threads, each with an event loop of its own."""
    provider = own()
    call = repeated(lambda: provider.chat([], model="m"))

    async def work(times: int) -> None:
        def part() -> None:
            asyncio.run(call(max(1, times // threads)))

        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, part) for _ in range(threads)))

    return work


def at_once(agents: int) -> Work:
    """Tool calls of pipelines of their own; none ends before all have begun."""

    class Meeting:
        arrived = 0
        complete = asyncio.Event()

    async def meet(_: Any, number: int) -> int:
        Meeting.arrived += 1
        if Meeting.arrived == agents:
            Meeting.complete.set()
        await Meeting.complete.wait()
        return number

    benches = [Bench(own_tool(meet)) for _ in range(agents)]
    numbers = iter(range(10**9))

    async def work(times: int) -> None:
        for _ in range(max(1, times // agents)):
            Meeting.arrived, Meeting.complete = 0, asyncio.Event()
            calls = (bench.batch(tool_call("own_tool", number=next(numbers))) for bench in benches)
            await asyncio.gather(*map(asyncio.create_task, calls))

    return work


async def cost(
    work: Work, provider: MeterProvider, times: int, rounds: int, warm: int = 0
) -> Spread:
    states = {
        "off": State(contextlib.nullcontext, work),
        "on": State(lambda: switched_on(provider), work),
    }
    found = await measure(states, rounds=rounds, times=times, warm=warm)
    return found.beyond("on", "off")


async def main(asked: Asked) -> None:
    table = Table(
        "growth",
        "What a call costs with many series, threads and agents, in CPU time beyond what Victor "
        f"takes: median (quartiles) of {asked.rounds} rounds, microseconds.",
        ("With", "a call", "x the first"),
    )
    for rows in (_by_series(asked), _by_threads(asked), _by_agents(asked)):
        first: float | None = None
        async for title, found in rows:
            first = first or found.middle
            table.add(title, found, number(found.middle / first))
    table.keep(asked)


async def _by_series(asked: Asked) -> Any:
    for providers, models in SERIES:
        recorded, work, each = Recorded(), among(providers, models), providers * models
        # What a label set costs when it is first met is no part of what many of them cost.
        found = await cost(work, recorded.provider, asked.times(CALLS), asked.rounds, each)
        with switched_on(recorded.provider):
            yield f"model call, {series(recorded):,} series", found


async def _by_threads(asked: Asked) -> Any:
    for threads in THREADS:
        with ThreadPoolExecutor(threads) as pool:
            work = threaded(threads, pool)
            found = await cost(work, Recorded().provider, asked.times(CALLS), asked.rounds)
        yield f"model call, {threads} threads", found


async def _by_agents(asked: Asked) -> Any:
    for agents in AGENTS[:2] if asked.quick else AGENTS:
        times = max(agents, asked.times(200))
        found = await cost(at_once(agents), Recorded().provider, times, asked.rounds)
        yield f"tool call, {agents:,} agents at once", found


if __name__ == "__main__":
    given = asked(parser(__doc__, rounds=15).parse_args())
    logging.disable(logging.CRITICAL)
    with sandboxed():
        asyncio.run(main(given))
