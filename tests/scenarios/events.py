"""The guide's collector on the bus of a real agent."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.agents import agent, model
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.script import Step, ToolCall
from victor_otel.guide import MetricsCollector
from victor_otel.victor.areas import events


async def subscribed_collector(count: Count) -> None:
    """A subscriber of our own beside the collector's counts what the bus delivers to both."""
    collector, ended = MetricsCollector(), asyncio.Event()
    handlers = {
        "tool": collector.handle_tool_event,
        "agent": collector.handle_agent_event,
        "error": collector.handle_error_event,
    }

    async def note(event: Any) -> None:
        count.add("victor_bus_events_total", family=event.topic.partition(".")[0])
        if event.topic == "tool.end":
            ended.set()

    steps = (Step(calls=(ToolCall("ls", {"path": "."}),)), Step("That is all. Task complete."))
    with model(one=steps) as served:
        async with agent(served, "one") as made:
            subscribed = [
                await made.event_bus.subscribe(f"{family}.*", each)
                for family, handler in handlers.items()
                for each in (handler, note)
            ]
            await made.run("List the files in this folder.")
            await asyncio.wait_for(ended.wait(), 10)
            for handle in subscribed:  # the bus is that of the whole process
                await made.event_bus.unsubscribe(handle)


SCENARIOS: tuple[Scenario, ...] = (Scenario(run=subscribed_collector, proves=(events.BUS_EVENTS,)),)
