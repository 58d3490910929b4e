"""A real agent on the demo's scripted model, for tests of single calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.view import View

from tests.kit.traced import Traced
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.sandbox import sandbox
from victor_otel.demo.script import Script, Step
from victor_otel.runtime import RUNTIME

Points = Mapping[tuple[str, frozenset[tuple[str, Any]]], float]


class Recorded:
    """An application's own MeterProvider, and what it holds."""

    def __init__(self, *others: MetricReader, views: Sequence[View] = ()) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            [self.reader, *others],
            shutdown_on_exit=False,
            exemplar_filter=AlwaysOffExemplarFilter(),
            views=views,
        )

    def points(self, *names: str, zeros: bool = False) -> dict[tuple[Any, ...], float]:
        """`{(name, *sorted label pairs): value}`, counts for histograms, without zeros."""
        found: dict[tuple[Any, ...], float] = {}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if names and metric.name not in names:
                        continue
                    for point in metric.data.data_points:
                        value = _value(point)
                        if value or zeros:
                            found[metric.name, *sorted((point.attributes or {}).items())] = value
        return found


def _value(point: Any) -> float:
    if isinstance(point, HistogramDataPoint):
        return point.count
    assert isinstance(point, NumberDataPoint)
    return point.value


@contextmanager
def recording(recorded: Recorded | None = None, traced: Traced | None = None) -> Iterator[Recorded]:
    """Instrumented into providers of the test's own."""
    RUNTIME.deactivate()
    recorded = recorded or Recorded()
    RUNTIME.activate(recorded.provider, None if traced is None else traced.provider).open()
    try:
        yield recorded
    finally:
        RUNTIME.deactivate()


def process_ends() -> None:
    """What is recorded at the exit of the process."""
    running = RUNTIME.instrumentation
    assert running is not None
    running.close()


@contextmanager
def sandboxed() -> Iterator[None]:
    """Victor with a state of its own, whose event bus works in every test's event loop.

    The bus lives as long as the process, and its queue belongs to the loop that first waited on
    it: in any other, Victor asks it again and again without a pause and logs that it failed.
    """
    with sandbox(), pytest.MonkeyPatch.context() as patch:
        from victor.core.events.backends import InMemoryEventBackend

        connect = InMemoryEventBackend.connect

        async def with_a_new_queue(bus: Any) -> None:
            if not bus._is_connected:
                bus._event_queue = asyncio.Queue(bus._event_queue.maxsize)
            await connect(bus)

        patch.setattr(InMemoryEventBackend, "connect", with_a_new_queue)
        yield


@contextmanager
def model(**scripts: Sequence[Step]) -> Iterator[ScriptedModel]:
    with ScriptedModel({name: Script(steps) for name, steps in scripts.items()}) as served:
        yield served


@asynccontextmanager
async def agent(
    served: ScriptedModel, name: str, *tools: Any, **options: Any
) -> AsyncIterator[Any]:
    """An agent whose model follows the script `name`, with tools of the test's own."""
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    override = ProviderOverrideConfig(provider="openai", model=name, endpoint=served.url)
    created = await Agent.create(
        session_config=SessionConfig(provider_override=override), **options
    )
    orchestrator: Any = created.get_orchestrator()
    orchestrator.console.quiet = True
    for tool in tools:
        orchestrator.tools.register(tool)
    try:
        yield created
    finally:
        await created.close()
