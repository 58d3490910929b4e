"""The three integration points of Victor's monitoring guide."""

from __future__ import annotations

import asyncio

from victor.agent.middleware_chain import MiddlewareChain
from victor.core.health import CallableHealthCheck, HealthChecker
from victor.framework import Agent

from victor_otel.guide import MetricsCollector, MetricsMiddleware


async def subscribe(agent: Agent, collector: MetricsCollector) -> None:
    """1. Event bus: how many events of each family are delivered."""
    bus = agent.event_bus
    await bus.subscribe("tool.*", collector.handle_tool_event)
    await bus.subscribe("agent.*", collector.handle_agent_event)
    await bus.subscribe("error.*", collector.handle_error_event)


async def look_up(chain: MiddlewareChain, word: str) -> str:
    """2. Middleware: a tool call that the application runs through a chain of its own."""

    async def in_the_dictionary(word: str) -> str:
        return f"{word}: one who wins"

    return await chain.process_tool_call("look_up", {"word": word}, in_the_dictionary)


def checker(collector: MetricsCollector) -> HealthChecker:
    """3. Health: whether the numbers can be trusted. Victor itself works without them."""
    made = HealthChecker()
    made.add_check(CallableHealthCheck("metrics", collector.health_check, critical=False))
    return made


async def main() -> None:
    collector = MetricsCollector()
    agent = await Agent.create()
    await subscribe(agent, collector)
    # The calls of the agent's own tools are counted already, and not twice.
    agent.get_orchestrator().get_middleware_chain().add(MetricsMiddleware(collector))

    print((await agent.run("List the files here and tell me what is new.")).content)

    chain = MiddlewareChain()
    chain.add(MetricsMiddleware(collector))
    print(await look_up(chain, "victor"))

    health = (await checker(collector).check_health()).components["metrics"]
    print(f"metrics: {health.status.value}, {health.message}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
