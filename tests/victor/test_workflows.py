"""Workflow runs; and what Victor says of its features, health and queues."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.kit.workflows import graph, named

RUNS, FEATURES, ERRORS = "victor.workflow.executions", "victor.feature.usage", "victor.errors"
HEALTH, QUEUE = "victor.component_health", "victor.queue_depth"

Points = dict[tuple[Any, ...], float]


def point(name: str, value: float = 1, **labels: str) -> Points:
    return {(name, *sorted(labels.items())): value}


def run(status: str, workflow: str = "unnamed", value: float = 1) -> Points:
    """A run and the error that it is, if it failed."""
    return {
        **point(RUNS, value, workflow=workflow, status=status),
        **point(FEATURES, value, feature="workflow"),
    }


def error(kind: str = "node_error", value: float = 1) -> Points:
    return point(ERRORS, value, component="workflow", error_type=kind)


def seen(recorded: Recorded) -> Points:
    return recorded.points(RUNS, FEATURES, ERRORS)


async def write(state: Any) -> Any:
    return {**state, "written": True}


async def stumble(_state: Any) -> Any:
    raise ValueError("nothing to write")


async def dawdle(state: Any) -> Any:
    await asyncio.sleep(30)
    return state


def definition(transform: Any) -> Any:
    from victor.workflows.definition import WorkflowBuilder

    return WorkflowBuilder("summary").add_transform("work", transform).build()


def executor() -> Any:
    from victor.workflows.unified_executor import StateGraphExecutor

    return StateGraphExecutor()


# Runs.


async def test_a_run_succeeds_or_fails_with_its_nodes_although_victor_does_not_raise() -> None:
    with recording() as recorded:
        assert (await graph(write).invoke({"subject": "x"})).success
        assert seen(recorded) == run("success")
        assert not (await graph(stumble).invoke({"subject": "x"})).success
        assert seen(recorded) == {
            **run("success"),
            **run("failure"),
            **point(FEATURES, 2, feature="workflow"),
            **error(),
        }
        statuses = {dict(key[1:])["status"] for key in recorded.points(RUNS, zeros=True)}
        assert statuses == {"success", "failure", "timeout", "cancelled"}


async def test_a_named_workflow_is_one_run_under_its_name() -> None:
    with recording() as recorded:
        await named(write).invoke({"subject": "x"})
        [step async for step in named(write).stream({"subject": "x"})]
        assert seen(recorded) == run("success", "report", 2)


async def test_a_definition_is_one_run_under_its_name() -> None:
    with recording() as recorded:
        assert (await executor().execute(definition(lambda state: state))).success
        [step async for step in executor().stream(definition(lambda state: state))]
        assert seen(recorded) == run("success", "summary", 2)


async def test_a_workflow_inside_a_workflow_is_part_of_it() -> None:
    inner = graph(write)

    async def nest(state: Any) -> Any:
        return (await inner.invoke(dict(state))).state

    with recording() as recorded:
        await named(nest, nest).invoke({"subject": "x"})
        assert seen(recorded) == run("success", "report")


async def test_a_workflow_that_got_over_a_failed_one_inside_of_it_is_a_success() -> None:
    inner = graph(stumble)

    async def nest(state: Any) -> Any:
        assert not (await inner.invoke(dict(state))).success
        return state

    with recording() as recorded:
        assert (await named(nest).invoke({"subject": "x"})).success
        [step async for step in named(nest).stream({"subject": "x"})]
        assert seen(recorded) == run("success", "report", 2)


async def test_a_run_that_raises_is_a_failure_of_that_class() -> None:
    """As a broken checkpoint store makes it."""
    from victor.framework.graph import GraphConfig

    class Broken:
        async def load(self, _thread: str) -> Any:
            raise ConnectionError

    config = GraphConfig.from_legacy(checkpointer=Broken())
    with recording() as recorded:
        with pytest.raises(ConnectionError):
            await graph(write).invoke({"subject": "x"}, config=config, thread_id="t")
        assert seen(recorded) == run("failure") | error("ConnectionError")


async def test_a_cancelled_run_is_cancelled_and_no_error() -> None:
    with recording() as recorded:
        running = asyncio.ensure_future(graph(dawdle).invoke({"subject": "x"}))
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running])
        assert seen(recorded) == run("cancelled")


async def test_two_runs_at_once_are_two() -> None:
    with recording() as recorded:
        await asyncio.gather(*(named(write).invoke({"subject": "x"}) for _ in range(2)))
        assert seen(recorded) == run("success", "report", 2)


async def test_an_error_that_victor_leaves_in_the_state_is_a_failure() -> None:
    def fail(_state: Any) -> Any:
        raise ValueError("nothing to transform")

    with recording() as recorded:
        await executor().execute(definition(fail))
        assert seen(recorded) == run("failure", "summary") | error()


async def test_a_state_may_have_an_error_of_its_own() -> None:
    async def note(state: Any) -> Any:
        return {**state, "_error": "in the report, not of it"}

    with recording() as recorded:
        assert (await graph(note).invoke({"subject": "x"})).success
        assert seen(recorded) == run("success")


async def test_the_executor_for_definitions_and_graphs_counts_each_run() -> None:
    from victor.workflows import WorkflowExecutor

    host = SimpleNamespace(settings=SimpleNamespace())
    with recording() as recorded:
        assert (await WorkflowExecutor(host).execute(definition(lambda state: state))).success
        assert seen(recorded) == run("success", "summary")


# Streams.


async def test_a_streamed_run_to_its_end_is_a_success() -> None:
    with recording() as recorded:
        steps = [node async for node, _ in graph(write, write).stream({"subject": "x"})]
        assert steps == ["0", "1"]
        assert seen(recorded) == run("success")


async def drained(stream: Any) -> None:
    with pytest.raises(RuntimeError):
        [step async for step in stream]


async def test_a_streamed_run_whose_node_fails_is_a_failure() -> None:
    with recording() as recorded:
        await drained(graph(write, stumble).stream({"subject": "x"}))
        await drained(named(stumble).stream({"subject": "x"}))
        counted = recorded.points(RUNS)
        assert counted == {
            **point(RUNS, workflow="unnamed", status="failure"),
            **point(RUNS, workflow="report", status="failure"),
        }
        assert sum(recorded.points(ERRORS).values()) == 2


async def test_a_streamed_run_left_early_is_cancelled() -> None:
    with recording() as recorded:
        async with contextlib.aclosing(graph(write, write).stream({"subject": "x"})) as steps:
            await anext(steps)
        assert seen(recorded) == run("cancelled")


# Timeouts.


async def test_a_workflow_over_its_own_time_is_a_timeout() -> None:
    with recording() as recorded:
        late = named(dawdle, max_execution_timeout_seconds=0.05)
        assert "timed out" in (await late.invoke({"subject": "x"})).error
        assert recorded.points(RUNS) == point(RUNS, workflow="report", status="timeout")
        assert sum(recorded.points(ERRORS).values()) == 1


def hurried() -> Any:
    from victor.framework.graph import GraphConfig

    return GraphConfig.from_legacy(timeout=0.1)


async def test_a_graph_whose_time_ends_between_two_nodes_is_a_timeout() -> None:
    async def block(state: Any) -> Any:
        import time

        time.sleep(0.15)
        return state

    with recording() as recorded:
        result = await graph(block, write).invoke({"subject": "x"}, config=hurried())
        assert not result.success
        assert recorded.points(RUNS) == point(RUNS, workflow="unnamed", status="timeout")


async def test_a_graph_whose_time_ends_inside_a_node_is_a_timeout() -> None:
    with recording() as recorded:
        result = await graph(dawdle).invoke({"subject": "x"}, config=hurried())
        assert not result.success
        assert recorded.points(RUNS) == point(RUNS, workflow="unnamed", status="timeout")


async def test_a_streamed_graph_over_its_time_is_a_timeout() -> None:
    with recording() as recorded:
        await drained(graph(dawdle).stream({"subject": "x"}, config=hurried()))
        assert recorded.points(RUNS) == point(RUNS, workflow="unnamed", status="timeout")


# Features.


def slash() -> Any:
    from rich.console import Console
    from victor.ui.slash.handler import SlashCommandHandler

    return SlashCommandHandler(Console(quiet=True), SimpleNamespace(), None)


async def test_a_slash_command_counts_if_victor_knows_it() -> None:
    with recording() as recorded:
        handler = slash()
        assert await handler.execute("/help")
        assert await handler.execute("/no-such-command")
        await handler.execute("")
        assert seen(recorded) == point(FEATURES, feature="slash_command")


async def test_planning_counts_when_a_plan_is_carried_out() -> None:
    from victor.agent.services.planning_runtime import PlanningRuntimeService

    with recording() as recorded:
        # Enough of a service for the plan to begin; what comes of it does not matter here.
        service = object.__new__(PlanningRuntimeService)
        with pytest.raises(Exception, match=r"."):
            await service._execute_plan(SimpleNamespace())
        assert recorded.points(FEATURES) == point(FEATURES, feature="planning")


# Health and queues.


async def test_component_health_is_victors_word_as_a_number() -> None:
    from victor.core.health import CallableHealthCheck, ComponentHealth, HealthChecker, HealthStatus

    now = dict.fromkeys(("fine", "slow", "dead", "mute"), HealthStatus.HEALTHY)

    def check(name: str) -> Any:
        async def ask() -> Any:
            return ComponentHealth(name=name, status=now[name])

        return CallableHealthCheck(name, ask)

    with recording() as recorded:
        checker = HealthChecker(cache_ttl=0)
        for name in now:
            checker.add_check(check(name))
        assert recorded.points(HEALTH) == {}
        now |= {
            "slow": HealthStatus.DEGRADED,
            "dead": HealthStatus.UNHEALTHY,
            "mute": HealthStatus.UNKNOWN,
        }
        await checker.check_health()
        assert recorded.points(HEALTH, zeros=True) == {
            **point(HEALTH, 1, component="fine"),
            **point(HEALTH, 0.5, component="slow"),
            **point(HEALTH, 0, component="dead"),
        }
        now["dead"] = HealthStatus.HEALTHY
        await checker.check_health()
        assert recorded.points(HEALTH)[HEALTH, ("component", "dead")] == 1


async def test_queue_depth_is_what_waits_and_absent_without_a_queue() -> None:
    from victor.providers.concurrency import RequestQueue

    done = asyncio.Event()

    async def ask() -> str:
        await done.wait()
        return "hi"

    with recording() as recorded:
        queue = RequestQueue(num_workers=1)
        assert recorded.points(QUEUE, zeros=True) == point(QUEUE, 0, queue="provider")
        asked = [asyncio.ensure_future(queue.submit(ask())) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert len(queue._pending_requests) == 2
        assert recorded.points(QUEUE) == point(QUEUE, 2, queue="provider")
        done.set()
        assert await asyncio.gather(*asked) == ["hi"] * 3
        assert recorded.points(QUEUE, zeros=True) == point(QUEUE, 0, queue="provider")
        await queue.shutdown()
    with recording() as recorded:
        assert recorded.points(QUEUE, zeros=True) == {}
