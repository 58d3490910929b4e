"""A real agent on the demo's scripted model, for tests of single calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)

from victor_otel import instrumentation
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step

Points = Mapping[tuple[str, frozenset[tuple[str, Any]]], float]


class Recorded:
    """An application's own MeterProvider, and what it holds."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            [self.reader], shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
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
def recording() -> Iterator[Recorded]:
    """Instrumented into a provider of the test's own."""
    instrumentation.deactivate()
    recorded = Recorded()
    instrumentation.activate(recorded.provider).open()
    try:
        yield recorded
    finally:
        instrumentation.deactivate()


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
