"""Victor's health checks and queues."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.agents import agent, model
from tests.kit.chat import ANSWER, KNOCK, gate, listen
from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor.areas import components

HEALTH, DEPTH = "victor_component_health", "victor_queue_depth"


class Service:
    """A provider or cache that may be down."""

    name = "service"

    def __init__(self) -> None:
        self.up = False
        self.kept: Any = None

    async def chat(self) -> None: ...

    async def health_check(self) -> bool:
        if not self.up:
            raise ConnectionError
        return self.up

    def set(self, _key: str, value: str, ttl: int) -> None:
        self.kept = value if self.up else None

    def get(self, _key: str) -> Any:
        return self.kept


async def health(count: Count) -> None:
    """Victor's own checks of things whose state is known; one of them recovers."""
    from victor.core.health import (
        CacheHealthCheck,
        HealthChecker,
        MemoryHealthCheck,
        ProviderHealthCheck,
        ToolHealthCheck,
    )
    from victor.storage.cache.config import CacheConfig
    from victor.storage.cache.tiered_cache import TieredCache

    provider = Service()
    checker = HealthChecker(cache_ttl=0)
    for check in (
        CacheHealthCheck("real", TieredCache(CacheConfig(enable_disk=False))),
        CacheHealthCheck("forgetful", Service()),
        ProviderHealthCheck("down", Service()),
        ProviderHealthCheck("recovering", provider),
        ToolHealthCheck("without-parameters", Service()),
        MemoryHealthCheck(warning_threshold_mb=0, critical_threshold_mb=1_000_000),
    ):
        checker.add_check(check)
    await checker.check_health()
    provider.up = True
    await checker.check_health()
    for component, value in (
        ("cache.real", 1),
        ("cache.forgetful", 0.5),
        ("provider.down", 0),
        ("provider.recovering", 1),
        ("tool.without-parameters", 0.5),
        ("system.memory", 0.5),
    ):
        count.set(HEALTH, value, component=component)


async def queues(count: Count) -> None:
    """Two queues with one worker each; five requests wait behind two that do not end."""
    from victor.providers.concurrency import RequestQueue

    begun, done = asyncio.Semaphore(0), asyncio.Event()

    async def ask() -> None:
        begun.release()
        await done.wait()

    sizes = (3, 4)
    asked: list[asyncio.Task[Any]] = []
    for size in sizes:
        queue = RequestQueue(num_workers=1)
        count.lasting.push_async_callback(queue.shutdown)
        asked += [asyncio.create_task(queue.submit(ask())) for _ in range(size)]
    for _ in sizes:
        await begun.acquire()

    async def finish() -> None:
        done.set()
        await asyncio.gather(*asked)

    count.lasting.push_async_callback(finish)
    count.set(DEPTH, sum(sizes) - len(sizes), queue="provider")


async def turns(count: Count) -> None:
    """Two agents: at one, two turns wait for the one that goes on, at the other nobody does."""
    knock, entered, let_in = gate()
    served = count.lasting.enter_context(model(porter=[KNOCK, ANSWER] * 3, idler=[]))
    await count.lasting.enter_async_context(agent(served, "idler"))
    created = await count.lasting.enter_async_context(agent(served, "porter", knock))
    asked = [asyncio.create_task(listen(created)) for _ in range(3)]
    await entered.acquire()
    lock = created.get_orchestrator()._session_accessor.stream_turn_lock
    async with asyncio.timeout(10):
        while len(lock._waiters or ()) < len(asked) - 1:  # nothing tells
            await asyncio.sleep(0.01)

    async def finish() -> None:
        for _ in asked:
            let_in.release()
        await asyncio.gather(*asked)

    count.lasting.push_async_callback(finish)
    count.set(DEPTH, len(asked) - 1, queue="turn")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=health, proves=(components.COMPONENT_HEALTH,)),
    Scenario(run=queues, proves=(components.QUEUE_DEPTH,)),
    Scenario(run=turns, proves=(components.QUEUE_DEPTH,)),
)
