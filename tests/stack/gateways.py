"""A gateway and agents before it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.stack.backends import Key
from tests.stack.collectors import AGENT, GATEWAY
from tests.stack.processes import COLLECTOR_CONFIG, Collector, collector

NAMES = ("gateway-0", "gateway-1", "gateway-2")


def gateway(
    name: str,
    *switches: Path,
    settings: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> AbstractContextManager[Collector]:
    return collector(
        COLLECTOR_CONFIG,
        GATEWAY,
        *switches,
        environment={"VICTOR_COLLECTOR_GATEWAY_NAME": name, **(environment or {})},
        settings=settings,
    )


def agent(
    gateways: Iterable[Collector], settings: Iterable[str] = (), **variables: str
) -> AbstractContextManager[Collector]:
    """An agent that knows the gateways by their addresses."""
    static = {"hostnames": [address(each) for each in gateways]}
    resolver = json.dumps({"static": static})
    return collector(
        COLLECTOR_CONFIG,
        AGENT,
        environment={"VICTOR_COLLECTOR_GATEWAYS": resolver, **variables},
        settings=settings,
    )


def address(each: Collector) -> str:
    return each.otlp_grpc.removeprefix("http://")


@contextmanager
def agents(gateways: Sequence[Collector], count: int = 2) -> Generator[list[Collector]]:
    with ExitStack() as stack:
        yield [stack.enter_context(agent(gateways)) for _ in range(count)]


def times(factor: int, counted: Mapping[Key, float]) -> dict[Key, float]:
    return {key: factor * value for key, value in counted.items()}
