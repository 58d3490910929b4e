"""The guide's integration points with the real Victor: one truth, whichever door is used."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry

from tests.kit.agents import Recorded, agent, model
from victor_otel import custom, intake
from victor_otel.demo.script import Step, ToolCall
from victor_otel.engine import failsafe
from victor_otel.guide import MetricsCollector, MetricsMiddleware
from victor_otel.runtime import RUNTIME
from victor_otel.signals import pipeline

EXECUTIONS, EVENTS = "victor.tool.executions", "victor.bus_events"


@pytest.fixture
def _guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_guests", [])
    monkeypatch.setattr(intake, "REGISTERED", {"target_info"})


def ran(tool: str, status: str, mode: str = "none") -> tuple[Any, ...]:
    return (EXECUTIONS, ("mode", mode), ("status", status), ("tool", tool), ("vertical", "none"))


async def one_turn(*, bus: bool = False, middleware: bool = False) -> list[str]:
    """One turn with one tool call of a real agent; the topics that its bus delivered."""
    from victor.tools.decorators import tool

    @tool
    async def greet() -> str:
        """Greets."""
        return "hello"

    topics: list[str] = []
    collector = MetricsCollector()
    steps = (Step(calls=(ToolCall("greet"),)), Step(text="Done."))
    with model(one=steps) as served:
        async with agent(served, "one", greet.Tool) as made:
            orchestrator = made.get_orchestrator()
            if middleware:
                orchestrator.get_middleware_chain().add(MetricsMiddleware(collector))
            if bus:
                ended = asyncio.Event()

                async def note(event: Any) -> None:
                    topics.append(event.topic)
                    if event.topic == "tool.end":
                        ended.set()

                subscribed = [
                    await made.event_bus.subscribe(f"{family}.*", each)
                    for family, handler in (
                        ("tool", collector.handle_tool_event),
                        ("agent", collector.handle_agent_event),
                        ("error", collector.handle_error_event),
                    )
                    for each in (handler, note)
                ]
            await made.run("Greet me with the tool.")
            if bus:
                await asyncio.wait_for(ended.wait(), 10)
                for handle in subscribed:  # the bus is that of the whole process
                    await made.event_bus.unsubscribe(handle)
    return topics


async def test_collector_counts_events_and_wrappers_count_the_call(recorded: Recorded) -> None:
    topics = await one_turn(bus=True)
    assert "tool.end" in topics
    assert recorded.points(EXECUTIONS) == {ran("greet", "success", "build"): 1}
    events = recorded.points(EVENTS)
    assert events == {(EVENTS, ("family", "tool")): len(topics)}


async def test_middleware_in_victors_own_pipeline_counts_nothing_again(recorded: Recorded) -> None:
    await one_turn(middleware=True)
    assert recorded.points(EXECUTIONS) == {ran("greet", "success", "build"): 1}


async def test_collector_is_a_door_of_its_own() -> None:
    made = Recorded()
    MetricsCollector(made.provider)
    assert RUNTIME.instrumentation is not None
    await one_turn()
    assert made.points(EXECUTIONS) == {ran("greet", "success", "build"): 1}


async def test_every_family_of_events_is_counted(recorded: Recorded) -> None:
    from victor.core.events import MessagingEvent, ObservabilityBus

    collector = MetricsCollector()
    bus = ObservabilityBus()
    await bus.connect()
    handlers = {
        "tool": collector.handle_tool_event,
        "agent": collector.handle_agent_event,
        "error": collector.handle_error_event,
    }
    seen = asyncio.Semaphore(0)

    async def note(_event: Any) -> None:
        seen.release()

    for family, handler in handlers.items():
        await bus.subscribe(f"{family}.*", handler)
        await bus.subscribe(f"{family}.*", note)
    for topic in ("tool.end", "agent.broadcast", "agent.done", "error.raised"):
        await bus.backend.publish(MessagingEvent(topic=topic, data={"secret": "x"}))
    for _ in range(4):
        await asyncio.wait_for(seen.acquire(), 10)
    await bus.disconnect()
    assert recorded.points(EVENTS) == {
        (EVENTS, ("family", "tool")): 1,
        (EVENTS, ("family", "agent")): 2,
        (EVENTS, ("family", "error")): 1,
    }


def chain() -> Any:
    from victor.agent.middleware_chain import MiddlewareChain

    made = MiddlewareChain()
    made.add(MetricsMiddleware(MetricsCollector()))
    return made


async def test_middleware_counts_what_no_wrapper_sees(recorded: Recorded) -> None:
    async def answer(**_: Any) -> str:
        return "42"

    async def fail(**_: Any) -> str:
        raise ValueError("no")

    async def hang(**_: Any) -> str:
        raise TimeoutError

    mine = chain()
    assert await mine.process_tool_call("answer", {"q": "secret"}, answer) == "42"
    with pytest.raises(ValueError, match="no"):
        await mine.process_tool_call("fail", {}, fail)
    with pytest.raises(TimeoutError):
        await mine.process_tool_call("hang", {}, hang)
    assert recorded.points(EXECUTIONS, "victor.tool.success_rate", "victor.errors") == {
        ran("answer", "success"): 1,
        ran("fail", "failure"): 1,
        ran("hang", "timeout"): 1,
        ("victor.tool.success_rate", ("tool", "answer"), ("vertical", "none")): 1,
        ("victor.errors", ("component", "tool"), ("error_type", "ValueError")): 1,
        ("victor.errors", ("component", "tool"), ("error_type", "TimeoutError")): 1,
    }


async def test_middleware_calls_a_cancelled_call_cancelled(recorded: Recorded) -> None:
    begun = asyncio.Event()

    async def wait(**_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(chain().process_tool_call("wait", {}, wait))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert recorded.points(EXECUTIONS) == {ran("wait", "cancelled"): 1}


async def test_middleware_counts_nested_calls_each_once(recorded: Recorded) -> None:
    mine = chain()

    async def inner(**_: Any) -> str:
        return "in"

    async def outer(**_: Any) -> str:
        await mine.process_tool_call("inner", {}, inner)
        return "out"

    await mine.process_tool_call("outer", {}, outer)
    assert recorded.points(EXECUTIONS) == {
        ran("inner", "success"): 1,
        ran("outer", "success"): 1,
    }


async def test_off_again_the_integration_points_are_silent(recorded: Recorded) -> None:
    mine, collector = chain(), MetricsCollector()
    RUNTIME.deactivate()

    async def answer(**_: Any) -> str:
        return "42"

    await mine.process_tool_call("answer", {}, answer)
    await collector.handle_tool_event(object())
    assert recorded.points(EXECUTIONS, EVENTS) == {}


# Health


async def report(collector: MetricsCollector) -> Any:
    from victor.core.health import CallableHealthCheck, HealthChecker

    checker = HealthChecker()
    checker.add_check(CallableHealthCheck("metrics", collector.health_check, critical=False))
    return (await checker.check_health(use_cache=False)).components["metrics"]


async def test_health_check_tells_what_is_wrong_with_the_numbers(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUNTIME, "health", type(RUNTIME.health)())
    monkeypatch.setattr(failsafe, "STRICT", False)
    collector = MetricsCollector()
    healthy = await report(collector)
    assert (healthy.status.value, healthy.message) == ("healthy", "every number is recorded")
    RUNTIME.health.hooks["victor.x:Y.z"] = "missing"
    RUNTIME.health.add_dropped_export()
    degraded = await report(collector)
    assert (degraded.status.value, degraded.message) == (
        "degraded",
        "hooks missing; exports dropped",
    )
    assert degraded.details["hooks_missing"] == 1
    RUNTIME.deactivate()
    assert (await report(collector)).status.value == "unhealthy"


async def test_health_check_says_that_nobody_receives_the_numbers() -> None:
    from opentelemetry.metrics import get_meter_provider

    collector = MetricsCollector(get_meter_provider())
    assert "not exported" in (await report(collector)).message


# Metrics of prometheus_client


def scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.usefixtures("_guests")
@pytest.mark.parametrize("when", ["before", "after"])
def test_registered_prometheus_metric_is_on_the_endpoint(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = prometheus_client.Counter(
        "acme_own_total", "Own", ["label1"], registry=CollectorRegistry()
    )
    mine.labels(label1="value1").inc(3)
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
    monkeypatch.setattr(RUNTIME, "_private", None)
    monkeypatch.setattr(RUNTIME, "health", type(RUNTIME.health)())
    if when == "before":
        MetricsCollector.register_metric(mine)
    collector = MetricsCollector()
    if when == "after":
        collector.register_metric(mine)
    collector.register_metric(mine)
    on = RUNTIME.instrumentation
    assert on is not None
    assert on.pipeline is not None
    assert on.pipeline.endpoint is not None
    text = scraped(on.pipeline.endpoint)
    on.pipeline.server.close()
    assert text.count('acme_own_total{label1="value1"} 3.0') == 1
    assert "victor_otel_build_info" in text


@pytest.mark.usefixtures("_guests")
def test_what_is_no_prometheus_metric_is_refused() -> None:
    with pytest.raises(TypeError, match="no metric of prometheus_client"):
        MetricsCollector.register_metric("my_custom_metric_total")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"victor_otel\.custom"):
        MetricsCollector.register_metric(custom.counter("acme.registered", "m"))  # type: ignore[arg-type]
    custom.counter("acme.here", "m")
    for name in ("acme_here_total", "target_info"):
        there = prometheus_client.Counter(name, "m", registry=CollectorRegistry())
        with pytest.raises(ValueError, match="on /metrics already"):
            MetricsCollector.register_metric(there)
    mine = prometheus_client.Counter("acme_there_total", "m", registry=CollectorRegistry())
    MetricsCollector.register_metric(mine)
    with pytest.raises(ValueError, match="has this name on /metrics"):
        custom.counter("acme.there", "m")
    taken = prometheus_client.Gauge("victor_error_rate", "m", registry=CollectorRegistry())
    with pytest.raises(ValueError, match="Victor's own"):
        MetricsCollector.register_metric(taken)
