"""Work of a process of its own, and what of it was pushed."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kit.processes import environment
from tests.stack.backends import Point

Requests = Sequence[Sequence[Point]]


def pushed(requests: Requests, name: str) -> dict[str, float]:
    """The last total of a counter in each process, by its instance."""
    totals = {point.series: point.value for request in requests for point in request}
    found: dict[str, float] = {}
    for (metric, attributes), value in totals.items():
        if metric == name:
            instance = dict(attributes)["service.instance.id"]
            found[instance] = found.get(instance, 0) + value
    return found


def pushing(url: str, **variables: str) -> dict[str, str]:
    return environment(OTEL_EXPORTER_OTLP_ENDPOINT=url, VICTOR_OTEL_EXIT_TIMEOUT="20", **variables)


WORK = """
import asyncio, json, os, sys, time
import victor_otel
from tests.kit.providers import own

victor_otel.start()
provider = own()

async def ask(calls):
    for _ in range(calls):
        await provider.chat([], model="m")

def work(calls):
    asyncio.run(ask(calls))
"""
