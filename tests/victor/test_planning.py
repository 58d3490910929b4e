"""Plans that Victor carries out: which count, once, and as what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded
from tests.kit.chat import own_vertical, response
from tests.scenarios.planning import gardener, plan, readable, step

RATE, FEATURES, ERRORS = "victor.planning.success_rate", "victor.feature.usage", "victor.errors"

Points = dict[tuple[Any, ...], float]


def rate(value: float, vertical: str = "none") -> Points:
    return {(RATE, ("vertical", vertical)): value}


def error(kind: str, value: float = 1, component: str = "planning") -> Points:
    return {(ERRORS, ("component", component), ("error_type", kind)): value}


def seen(recorded: Recorded) -> Points:
    """The rate, 0 included, and the errors."""
    return {**recorded.points(RATE, zeros=True), **recorded.points(ERRORS)}


def used(recorded: Recorded) -> float:
    return recorded.points(FEATURES).get((FEATURES, ("feature", "planning")), 0)


async def agree(_prompt: str, **_: Any) -> Any:
    return SimpleNamespace(content="Done.", metadata={})


def refuse(_question: str) -> bool:
    return False


def host(chat: Callable[..., Awaitable[Any]] = agree) -> Any:
    """What a planner needs of an orchestrator."""
    return SimpleNamespace(chat=chat, tool_calls_used=0)


def planner(chat: Callable[..., Awaitable[Any]] = agree, **options: Any) -> Any:
    from victor.agent.planning.autonomous import AutonomousPlanner

    return AutonomousPlanner(host(chat), **options)


def service(chat: Callable[..., Awaitable[Any]] = agree) -> Any:
    from victor.agent.services.planning_runtime import PlanningRuntimeService

    return PlanningRuntimeService(host(chat))


async def test_before_a_plan_there_is_no_rate(recorded: Recorded) -> None:
    assert seen(recorded) == {}


async def test_a_plan_is_whole_when_each_step_is(recorded: Recorded) -> None:
    assert (await planner().execute_plan(plan(step("1"), step("2")), True)).success
    assert seen(recorded) == rate(1)
    assert used(recorded) == 1


async def test_a_failed_step_fails_the_plan_once(recorded: Recorded) -> None:
    async def stumble(_prompt: str, **_: Any) -> Any:
        raise ValueError

    steps = step("1"), step("2", depends_on=["1"]), step("3", depends_on=["1"])
    result = await planner(stumble).execute_plan(plan(*steps), auto_approve=True)
    assert not result.success
    assert seen(recorded) == {**rate(0), **error("step_failed")}


async def test_a_blocked_plan_failed_although_no_step_did(recorded: Recorded) -> None:
    refused = step("1", requires_approval=True)
    result = await planner(approval_callback=refuse).execute_plan(plan(refused))
    assert (result.success, result.steps_failed) == (False, 0)
    circle = step("1", depends_on=["2"]), step("2", depends_on=["1"])
    result = await planner().execute_plan(plan(*circle), auto_approve=True)
    assert (result.success, result.steps_failed) == (False, 0)
    assert seen(recorded) == {**rate(0), **error("blocked", 2)}


async def test_the_service_counts_once_with_its_planner(recorded: Recorded) -> None:
    assert (await service()._execute_plan(readable("feature"))).success
    assert seen(recorded) == rate(1)
    assert used(recorded) == 1


async def test_the_services_word_stands_above_its_planners(recorded: Recorded) -> None:
    """The planner calls both whole; the service wants evidence for a research."""
    assert (await service()._execute_plan(readable("feature"))).success
    assert not (await service()._execute_plan(readable("research"))).success
    assert seen(recorded) == {**rate(0.5), **error("step_failed")}
    assert used(recorded) == 2


@pytest.mark.parametrize("success", [True, False])
async def test_a_plan_of_a_team_counts_without_a_planner(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, success: bool
) -> None:
    from victor.agent.planning.base import StepResult
    from victor.agent.planning.team_execution import PlanningTeamExecutionAdapter

    async def execute_step(*_: Any, **__: Any) -> Any:
        return StepResult(success=success, output="Watered.")

    monkeypatch.setattr(PlanningTeamExecutionAdapter, "execute_step", execute_step)
    result = await service()._execute_plan(readable("feature", "complex"))
    assert result.success is success
    assert seen(recorded) == (rate(1) if success else {**rate(0), **error("step_failed")})
    assert used(recorded) == 1


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError(), {**rate(0), **error("ValueError")}),
        (TimeoutError(), {**rate(0), **error("TimeoutError")}),
        (asyncio.CancelledError(), {}),
        (KeyboardInterrupt(), {}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_service_raises_decides_and_is_raised(
    recorded: Recorded, raised: BaseException, expected: Points
) -> None:
    def broken() -> None:
        raise raised

    plan = SimpleNamespace(complexity="simple", steps=[], to_execution_plan=broken)
    with pytest.raises(type(raised)) as caught:
        await service()._execute_plan(plan)
    assert caught.value is raised
    assert seen(recorded) == expected
    assert used(recorded) == 1


async def test_a_plan_that_waits_for_an_approval_is_in_no_rate(recorded: Recorded) -> None:
    from victor.framework.approval_pause import ApprovalPause

    def pause() -> None:
        raise ApprovalPause.__new__(ApprovalPause)

    plan = SimpleNamespace(complexity="simple", steps=[], to_execution_plan=pause)
    with pytest.raises(ApprovalPause):
        await service()._execute_plan(plan)
    assert seen(recorded) == {}


async def test_a_cancelled_plan_is_in_no_rate(recorded: Recorded) -> None:
    begun = asyncio.Event()

    async def dawdle(_prompt: str, **_: Any) -> Any:
        begun.set()
        await asyncio.sleep(30)

    running = asyncio.create_task(service(dawdle)._execute_plan(readable("feature")))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen(recorded) == {}
    assert used(recorded) == 1


async def test_a_plan_inside_a_plan_is_part_of_it(recorded: Recorded) -> None:
    async def delegate(_prompt: str, **_: Any) -> Any:
        inner = planner(approval_callback=refuse)
        assert not (await inner.execute_plan(plan(step("1", requires_approval=True)))).success
        return await agree("")

    assert (await planner(delegate).execute_plan(plan(step("1")), auto_approve=True)).success
    assert seen(recorded) == rate(1)
    assert used(recorded) == 1


async def test_plans_side_by_side_are_plans_of_their_own(recorded: Recorded) -> None:
    meet = asyncio.Barrier(10)

    async def wait(_prompt: str, **_: Any) -> Any:
        await meet.wait()
        return await agree("")

    shared = planner(wait)
    await asyncio.gather(*(shared.execute_plan(plan(step("1")), True) for _ in range(10)))
    assert seen(recorded) == rate(1)
    assert used(recorded) == 10


async def test_a_failure_that_was_counted_inside_is_not_counted_again(recorded: Recorded) -> None:
    from victor.framework.graph import StateGraph

    async def stumble(_state: Any) -> Any:
        raise ValueError

    async def run(_prompt: str, **_: Any) -> Any:
        graph: Any = StateGraph(dict)
        graph.add_node("work", stumble)
        graph.set_entry_point("work")
        graph.set_finish_point("work")
        assert not (await graph.compile().invoke({})).success
        return SimpleNamespace(content="", metadata={"agentic_loop_success": False})

    await planner(run).execute_plan(plan(step("1")), auto_approve=True)
    assert seen(recorded) == {**rate(0), **error("node_error", component="workflow")}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_plan_is_no_second_failure_of_its_turn(
    recorded: Recorded, stream: bool
) -> None:
    async def answer(_prompt: str) -> Any:
        result = await service()._execute_plan(readable("research"))
        return response(planning={"success": result.success})

    async with gardener() as own:
        chat = own._chat_service
        chat._planning_handler = answer
        if stream:
            [one async for one in chat.stream_chat("Plan it.", use_planning=True)]
        else:
            await chat.chat_with_planning("Plan it.", use_planning=True)
    assert seen(recorded) == {**rate(0), **error("step_failed")}


async def test_the_vertical_is_the_orchestrators(recorded: Recorded) -> None:
    from victor.core.bootstrap import ensure_bootstrapped

    ensure_bootstrapped()
    async with gardener(vertical=own_vertical()) as own:
        own.chat = agree
        for of in (own, SimpleNamespace(_orchestrator=own, chat=agree)):
            used = planner()
            used.orchestrator = of
            await used.execute_plan(plan(step("secret-name")), auto_approve=True)
            runtime = service()
            runtime.orchestrator = of
            await runtime._execute_plan(readable("feature"))
        del own.chat
    assert seen(recorded) == rate(1, "gardening")
    assert "secret-name" not in str(recorded.points())
