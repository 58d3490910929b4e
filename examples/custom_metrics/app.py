"""An application with numbers of its own, beside Victor's."""

from __future__ import annotations

import asyncio
from time import perf_counter

import prometheus_client
from victor.framework import Agent

from victor_otel import custom
from victor_otel.guide import MetricsCollector

# On every route: /metrics, OTLP, or the application's own SDK.
REVIEWS = custom.counter(
    "acme.reviews", "Reviews that ended", labels={"outcome": ("accepted", "declined")}
)
WAIT = custom.histogram(
    "acme.review.wait", "Time until a review is there", unit="s", buckets=(1, 10, 60, 300)
)
OPEN = custom.gauge("acme.open_reviews", "Reviews that wait for an answer")

# On /metrics alone, as what a library brings that knows Prometheus only.
CACHE = prometheus_client.Gauge("acme_cache_entries", "Entries in the cache", ["cache"])
MetricsCollector.register_metric(CACHE)


async def review(agent: Agent) -> None:
    """Asks for one review."""
    OPEN.set(1)
    asked = perf_counter()
    result = await agent.run("List the files here and tell me whether they are in order.")
    WAIT.record(perf_counter() - asked)
    REVIEWS.add(outcome="accepted" if "42" in result.content else "declined")
    OPEN.set(0)
    CACHE.labels(cache="reviews").inc()


async def main() -> None:
    agent = await Agent.create()
    while True:
        await review(agent)
        print("reviewed")
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
