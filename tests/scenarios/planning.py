"""Plans that a real agent carries out, in every way that this can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from tests.kit.agents import agent, model
from tests.kit.tools import own_tool
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.script import Step, ToolCall
from victor_otel.victor import shared
from victor_otel.victor.areas import planning

RATE, FEATURES, ERRORS = (
    "victor_planning_success_rate",
    "victor_feature_usage_total",
    "victor_errors_total",
)

_WATER = Step(calls=(ToolCall("water", {"number": 2}),))
_ANSWER = Step("Watered with 2 litres. Task complete.")


@contextlib.asynccontextmanager
async def gardener(*steps: Step, **options: Any) -> AsyncGenerator[Any]:
    """The orchestrator of an agent that can do one thing."""

    def water(_tool: Any, number: int) -> str:
        return f"{number} litres"

    with model(gardener=steps) as served:
        async with agent(served, "gardener", own_tool(water, name="water"), **options) as created:
            yield created.get_orchestrator()


def carried_out(count: Count, whole: bool, error: str = "", vertical: str = "none") -> None:
    count.ratio(RATE, whole, 1, vertical=vertical)
    count.add(FEATURES, feature="planning")
    if error:
        count.add(ERRORS, component="planning", error_type=error)


def plan(*steps: Any) -> Any:
    from victor.agent.planning.base import ExecutionPlan

    return ExecutionPlan("p", "A green garden", list(steps))


def step(number: str, what: str = "Water the garden", **options: Any) -> Any:
    from victor.agent.planning.base import PlanStep

    return PlanStep(number, what, **options)


def readable(kind: str, complexity: str = "simple") -> Any:
    """A plan of one step, as a model writes it."""
    from victor.agent.planning.readable_schema import ReadableTaskPlan

    steps = [[1, kind, "Water the garden", "water"]]
    written = {"name": "Garden", "complexity": complexity, "desc": "Green", "steps": steps}
    return ReadableTaskPlan.model_validate(written)


async def planners(count: Count) -> None:
    """A planner by itself: all steps, one nobody approves, one given up, a model that is gone."""
    from victor.agent.planning.autonomous import AutonomousPlanner

    async with gardener(_WATER, _ANSWER, _WATER, _ANSWER) as own:
        two = plan(step("1"), step("2", depends_on=["1"]))
        result = await AutonomousPlanner(own).execute_plan(two, auto_approve=True)
        assert (result.success, result.steps_completed) == (True, 2)
        carried_out(count, whole=True)
        blocked = plan(step("1", "Dig the garden over", requires_approval=True))
        result = await AutonomousPlanner(own).execute_plan(blocked)
        assert (result.success, result.steps_failed) == (False, 0)
        carried_out(count, whole=False, error="blocked")
        await _give_up(own)
        count.add(FEATURES, feature="planning")  # neither whole nor a failure
    async with gardener(Step(status=400)) as own:
        result = await AutonomousPlanner(own).execute_plan(plan(step("1")), auto_approve=True)
        assert (result.success, result.steps_failed) == (False, 1)
        carried_out(count, whole=False)  # the error is the provider's


async def _give_up(own: Any) -> None:
    """Begins a plan and cancels it in its first step."""
    from victor.agent.planning.autonomous import AutonomousPlanner

    begun = asyncio.Event()

    async def dawdle(*_: Any, **__: Any) -> None:
        begun.set()
        await asyncio.sleep(30)

    own.chat = dawdle
    running = asyncio.create_task(AutonomousPlanner(own).execute_plan(plan(step("1"))))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    del own.chat


async def services(count: Count) -> None:
    """The planner inside of Victor's service, which overrules it where evidence is missing."""
    from victor.agent.services.planning_runtime import PlanningRuntimeService

    async with gardener(*(_WATER, _ANSWER) * 2) as own:
        for kind, whole, error in (("feature", True, ""), ("research", False, "step_failed")):
            result = await PlanningRuntimeService(own)._execute_plan(readable(kind))
            assert result.success is whole
            assert result.step_results["1"].output == _ANSWER.text  # it was carried out
            carried_out(count, whole=whole, error=error)


_PROVES = (planning.SUCCESS_RATE, shared.FEATURES)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=planners, proves=_PROVES),
    Scenario(run=services, proves=_PROVES),
)
