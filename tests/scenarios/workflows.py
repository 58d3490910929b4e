"""Workflow runs through each of Victor's engines, in every way they can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.scenarios.scenario import Count, Scenario
from victor_otel.victor import shared
from victor_otel.victor.areas import workflows

RUNS, FEATURES, ERRORS = (
    "victor_workflow_executions_total",
    "victor_feature_usage_total",
    "victor_errors_total",
)


async def _write(state: Any) -> Any:
    return {**state, "written": True}


async def _stumble(_state: Any) -> Any:
    raise ValueError


async def _dawdle(state: Any) -> Any:
    await asyncio.sleep(30)
    return state


def _graph(nodes: Sequence[Callable[[Any], Any]]) -> Any:
    from victor.framework.graph import END, StateGraph

    drawn = StateGraph(dict)
    names = [f"{place}-{node.__name__}" for place, node in enumerate(nodes)]
    for name, node, following in zip(names, nodes, [*names[1:], END], strict=True):
        drawn.add_node(name, node)
        drawn.add_edge(name, following)
    drawn.set_entry_point(names[0])
    return drawn.compile()


def _named(name: str, *nodes: Callable[[Any], Any], **options: Any) -> Any:
    from victor.workflows.unified_compiler import CachedCompiledGraph

    return CachedCompiledGraph(compiled_graph=_graph(nodes), workflow_name=name, **options)


def _definition(name: str, transform: Callable[[Any], Any]) -> Any:
    from victor.workflows.definition import WorkflowBuilder

    return WorkflowBuilder(name).add_transform("work", transform).build()


def _ran(count: Count, workflow: str, status: str) -> None:
    count.add(RUNS, workflow=workflow, status=status)
    count.add(FEATURES, feature="workflow")
    if status in {"failure", "timeout"}:
        count.add(ERRORS, component="workflow", error_type="node_error")


async def endings(count: Count) -> None:
    """Victor raises for none of these, except where it is cancelled."""
    for workflow, nodes, status, options in (
        ("report", (_write, _write), "success", {}),
        ("report", (_write, _stumble), "failure", {}),
        ("report", (_dawdle,), "timeout", {"max_execution_timeout_seconds": 0.05}),
        ("letter", (_stumble,), "failure", {}),
    ):
        outcome = await _named(workflow, *nodes, **options).invoke({"subject": "x"})
        assert outcome.success is (status == "success")
        _ran(count, workflow, status)
    begun = asyncio.Event()

    async def begin(state: Any) -> Any:
        begun.set()
        return await _dawdle(state)

    running = asyncio.create_task(_named("report", begin).invoke({"subject": "x"}))
    await begun.wait()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    _ran(count, "report", "cancelled")


async def engines(count: Count) -> None:
    """A graph without a name, definitions, streams, and workflows inside workflows."""
    from victor.workflows.unified_executor import StateGraphExecutor

    assert (await _graph([_write]).invoke({"subject": "x"})).success
    _ran(count, "unnamed", "success")
    assert (await StateGraphExecutor().execute(_definition("summary", dict))).success
    _ran(count, "summary", "success")
    assert [step async for step in StateGraphExecutor().stream(_definition("summary", dict))]
    _ran(count, "summary", "success")
    assert len([step async for step in _named("report", _write, _write).stream({"n": 1})]) == 2
    _ran(count, "report", "success")
    async with contextlib.aclosing(_named("report", _write, _write).stream({"n": 1})) as steps:
        await anext(steps)
    _ran(count, "report", "cancelled")

    async def nest(state: Any) -> Any:
        assert not (await _named("inner", _stumble).invoke(dict(state))).success
        return (await _graph([_write]).invoke(dict(state))).state

    assert (await _named("outer", nest, nest).invoke({"n": 1})).success
    _ran(count, "outer", "success")


async def many_at_once(count: Count) -> None:
    """Runs side by side whose nodes count themselves."""
    meet = asyncio.Barrier(20)

    def node(number: int) -> Callable[[Any], Any]:
        async def work(state: Any) -> Any:
            await meet.wait()
            _ran(count, f"report-{number % 4}", "failure" if number % 5 == 0 else "success")
            return await (_stumble if number % 5 == 0 else _write)(state)

        return work

    await asyncio.gather(
        *(_named(f"report-{n % 4}", node(n)).invoke({"n": n}) for n in range(meet.parties))
    )


_PROVES = (workflows.EXECUTIONS, shared.FEATURES, shared.ERRORS)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=endings, proves=_PROVES),
    Scenario(run=engines, proves=(workflows.EXECUTIONS, shared.FEATURES)),
    Scenario(run=many_at_once, proves=_PROVES),
)
