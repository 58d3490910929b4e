"""Tool calls as the model makes them: those that ran, those that did not, those a cache answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from tests.kit.agents import agent, model
from tests.kit.tools import Bench, asked, double, human, own_tool, shell
from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor import shared
from victor_otel.victor.areas import tools


def _ran(count: Count, tool: str, status: str, *, times: int = 1, error: str = "") -> None:
    """A tool ran outside of any agent."""
    labels = {"tool": tool, "status": status, "vertical": "none"}
    count.add("victor_tool_executions_total", times, mode="none", **labels)
    count.add("victor_tool_execution_duration_seconds_count", times, **labels)
    if status != "cancelled":
        good = times * (status == "success")
        count.ratio("victor_tool_success_rate", good, times, tool=tool, vertical="none")
    if error:
        count.add("victor_errors_total", times, component="tool", error_type=error)


async def endings(count: Count) -> None:
    """Tools that note when they begin and end; Victor tries one of them three times."""
    from victor.tools.base import ToolResult
    from victor.tools.enums import AccessMode

    entered: Counter[str] = Counter()
    marks: list[float] = []
    running = asyncio.Event()

    async def work(_tool: Any, number: int) -> str:
        entered["work"] += 1
        return str(number)

    async def fail(_tool: Any, number: int) -> None:
        entered["fail"] += 1
        marks.append(perf_counter())
        await asyncio.sleep(0.05)
        marks.append(perf_counter())
        raise OSError(number)

    async def refuse(_tool: Any, number: int) -> ToolResult:
        entered["refuse"] += 1
        return ToolResult(success=False, output=None, error=str(number))

    async def hang(_tool: Any, number: int) -> None:
        entered["hang"] += 1
        running.set()
        await asyncio.sleep(30)

    runs = (work, fail, refuse, hang)
    # Since 0.10 Victor repeats only what cannot have had an effect.
    only_reads = property(lambda _: AccessMode.READONLY)
    bench = Bench(*(own_tool(run, name=run.__name__, access_mode=only_reads) for run in runs))
    for number in range(3):
        assert (await bench.call("work", number=number)).success
    _ran(count, "work", "success", times=3)
    for name in ("fail", "refuse"):
        failed = await bench.call(name, number=1)
        _ran(count, name, "failure", error=failed.error_info.category.value)
    took = {"tool": "fail", "status": "failure", "vertical": "none"}
    whole = marks[-1] - marks[0]
    count.add("victor_tool_execution_duration_seconds_sum", whole, within=0.1, **took)
    hurried = Bench(own_tool(hang, name="hang"), per_tool_timeout_seconds=0.1)
    assert not (await hurried.call("hang", number=1)).success
    _ran(count, "hang", "timeout", error="tool_timeout")
    running.clear()
    cancelled = asyncio.create_task(bench.call("hang", number=2))
    await running.wait()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    _ran(count, "hang", "cancelled")
    assert entered == {"work": 3, "fail": 3, "refuse": 1, "hang": 2}


async def rejections(count: Count) -> None:
    """Every reason for which Victor by itself does not run a call."""
    from victor.security.auth.rbac import RBACManager
    from victor.security.permissions import PermissionMode, PermissionPolicy
    from victor.tools.base import ToolResult
    from victor.tools.enums import AccessMode
    from victor.tools.registry import Hook

    def rejected(tool: str, reason: str, times: int = 1) -> None:
        count.add("victor_tool_calls_rejected_total", times, tool=tool, reason=reason)

    def fail(_tool: Any, number: int) -> ToolResult:
        return ToolResult(success=False, output=None, error=str(number))

    def forbid(*_: Any) -> None:
        raise PermissionError

    bench = Bench(own_tool(double, name="dig"), own_tool(fail, name="fail"))
    dig = asked("dig", number=1)
    await bench.batch(dig, dict(dig), dict(dig), asked("invented"), asked("dig"))
    rejected("dig", "duplicate_in_batch", 2)
    rejected("unknown", "tool_unavailable")
    rejected("dig", "invalid_arguments")
    await bench.batch({"arguments": {}}, asked("not a name!"), "dig")
    rejected("unknown", "missing_tool_name")
    rejected("unknown", "invalid_tool_name")
    rejected("unknown", "invalid_tool_call")
    for _ in range(2):
        await bench.call("fail", number=1)
    rejected("fail", "repeated_failure")
    frugal = Bench(own_tool(double, name="dig"), tool_budget=2)
    for numbers in (range(3), range(3, 6)):
        await frugal.batch(*(asked("dig", number=n) for n in numbers))
    rejected("dig", "budget_exhausted", 4)
    policy = PermissionPolicy(active_mode=PermissionMode.READ_ONLY)
    await Bench(own_tool(double, name="write"), permission_policy=policy).call("write", number=1)
    rejected("write", "permission_denied")
    tracker = SimpleNamespace(is_redundant=lambda *_: True, add_call=lambda *_: None)
    await Bench(own_tool(double), deduplication_tracker=tracker).call("own_tool", number=1)
    rejected("own_tool", "redundant_call")
    commands: list[str] = []
    await Bench(shell(commands), safety_checker=human(False)).call("shell", cmd="rm -rf /")
    rejected("shell", "user_declined")
    assert commands == []
    writer = own_tool(double, access_mode=AccessMode.WRITE)
    guest = Bench(writer, rbac_manager=RBACManager(), current_user="guest")
    await guest.executor.execute("own_tool", {"number": 1})
    rejected("own_tool", "rbac")
    guarded = Bench(own_tool(double))
    guarded.registry.register_before_hook(Hook(forbid, name="guard", critical=True))
    await guarded.call("own_tool", number=1)
    rejected("own_tool", "other")


async def caches(count: Count) -> None:
    """The same calls once more; two caches that one call asks are one question."""
    from victor.storage.cache.config import CacheConfig
    from victor.storage.cache.tiered_cache import TieredCache

    def answered(cache: str, result: str, times: int = 1) -> None:
        count.add("victor_cache_requests_total", times, cache=cache, result=result)

    Path("asked.txt").write_text("Asked.\n", encoding="utf-8")
    with model() as served:
        async with agent(served, "nobody") as created:
            pipeline = created.get_orchestrator()._tool_pipeline
            for _ in range(3):
                done = await pipeline.execute_tool_calls([asked("read", path="asked.txt")], {})
                assert "Asked." in str(done.results[0].result), done.results
    answered("tool", "miss")
    answered("tool", "hit", 2)
    ran = {"tool": "read", "status": "success", "vertical": "none", "mode": "build"}
    count.add("victor_tool_executions_total", **ran)
    tiered = TieredCache(CacheConfig(enable_disk=False))
    keys = [str(number) for number in range(5)]
    await asyncio.gather(*(asyncio.to_thread(tiered.get, key) for key in keys))
    answered("tiered", "miss", len(keys))
    for key in keys:
        tiered.set(key, key)
        assert tiered.get(key) == key
    answered("tiered", "hit", len(keys))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=endings,
        proves=(tools.EXECUTIONS, tools.DURATION, tools.SUCCESS_RATE, shared.ERRORS),
    ),
    Scenario(run=rejections, proves=(tools.REJECTED,)),
    Scenario(run=caches, proves=(shared.CACHE_REQUESTS, tools.EXECUTIONS)),
)
