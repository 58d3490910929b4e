"""Tool calls of a real Victor: what counts as an execution, as a rejection, and as neither."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model
from tests.kit.tools import Bench, asked, double, human, own_tool, shell
from victor_otel.demo.script import Step, ToolCall
from victor_otel.engine.nesting import CURRENT
from victor_otel.model.operation import innermost
from victor_otel.victor.operations import TOOL_CALL

EXECUTIONS = "victor.tool.executions"
DURATION = "victor.tool.execution.duration"
RATE = "victor.tool.success_rate"
REJECTED = "victor.tool_calls_rejected"
ERRORS = "victor.errors"
CACHE = "victor.cache.requests"
ALL = (EXECUTIONS, DURATION, RATE, REJECTED, ERRORS, CACHE)

ANSWER = Step("That is all. Task complete.")


@contextlib.asynccontextmanager
async def living(*tools: Any, steps: Sequence[Step] = (ANSWER,)) -> AsyncIterator[Any]:
    """A real agent.

    Victor's event bus must not outlive the loop that it began in, nor be stopped while an event
    is on its way: it would spin for ever.
    """
    from victor.core.container import reset_container

    reset_container()
    with model(m=steps) as served:
        async with agent(served, "m", *tools) as created:
            yield created
        await asyncio.sleep(0.1)
    reset_container()


@contextlib.asynccontextmanager
async def working(*tools: Any) -> AsyncIterator[Any]:
    """The orchestrator of a real agent."""
    async with living(*tools) as created:
        yield created.get_orchestrator()


def executed(
    tool: str, status: str, *, mode: str = "none", errors: str = "", counted: int = 1
) -> dict[tuple[Any, ...], float]:
    """The points of one execution: counted once, timed once, in the ratio unless cancelled."""
    vertical = ("vertical", "none")
    points: dict[tuple[Any, ...], float] = {
        (EXECUTIONS, ("mode", mode), ("status", status), ("tool", tool), vertical): counted,
        (DURATION, ("status", status), ("tool", tool), vertical): counted,
    }
    if status == "success":
        points[RATE, ("tool", tool), vertical] = 1.0
    if errors:
        points[ERRORS, ("component", "tool"), ("error_type", errors)] = counted
    return points


def rejected(tool: str, reason: str, count: int = 1) -> dict[tuple[Any, ...], float]:
    return {(REJECTED, ("reason", reason), ("tool", tool)): count}


def cache(result: str, name: str = "tool", count: int = 1) -> dict[tuple[Any, ...], float]:
    return {(CACHE, ("cache", name), ("result", result)): count}


def seconds(recorded: Recorded) -> list[float]:
    """The sums of all duration points."""
    data = recorded.reader.get_metrics_data()
    assert data is not None
    return [
        point.sum  # type: ignore[union-attr]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == DURATION
        for point in metric.data.data_points
    ]


# What ran


async def test_a_tool_that_ran_is_one_execution_in_its_mode(recorded: Recorded) -> None:
    async with working(own_tool(double)) as orchestrator:
        pipeline = orchestrator._tool_pipeline
        result = await pipeline.execute_tool_calls([asked("own_tool", number=2)], {})
        assert result.results[0].result == "4"
    assert recorded.points(*ALL) == executed("own_tool", "success", mode="build")


async def test_an_aliased_name_counts_under_the_registered_one(recorded: Recorded) -> None:
    Path("alias").mkdir()
    async with working() as orchestrator:
        executor = orchestrator.tool_executor
        assert (await executor.execute("list_directory", {"path": "alias"})).success
    assert recorded.points(EXECUTIONS) == {
        key: value
        for key, value in executed("ls", "success", mode="build").items()
        if key[0] == EXECUTIONS
    }


async def test_all_statuses_of_a_tool_exist_with_its_first_call(recorded: Recorded) -> None:
    await Bench(own_tool(double)).call("own_tool", number=1)
    points = recorded.points(EXECUTIONS, zeros=True)
    assert {dict(key[1:])["status"]: value for key, value in points.items()} == {
        "success": 1,
        "failure": 0,
        "timeout": 0,
        "cancelled": 0,
    }


async def test_a_raising_tool_is_retried_inside_one_execution_timed_as_a_whole(
    recorded: Recorded,
) -> None:
    entered: list[float] = []

    async def fail(_tool: Any, number: int) -> None:
        entered.append(perf_counter())
        await asyncio.sleep(0.01)
        if len(entered) == 3:
            entered.append(perf_counter())
        raise ValueError(number)

    from victor.tools.enums import AccessMode

    # Victor repeats since 0.10 only what cannot have had an effect.
    tool = own_tool(fail, access_mode=property(lambda _: AccessMode.READONLY))
    result = await Bench(tool).call("own_tool", number=1)
    assert not result.success
    assert len(entered) == 4
    expected = executed("own_tool", "failure", errors="tool_execution")
    points = recorded.points(*ALL)
    assert {key for key in points if key[0] == ERRORS} == {
        (ERRORS, ("component", "tool"), ("error_type", result.error_info.category.value))
    }
    assert drop(points, ERRORS) == drop(expected, ERRORS)
    assert recorded.points(RATE, zeros=True) == {
        (RATE, ("tool", "own_tool"), ("vertical", "none")): 0.0
    }
    assert seconds(recorded)[0] == pytest.approx(entered[-1] - entered[0], abs=0.01)


async def test_a_raising_tool_that_may_have_had_an_effect_is_one_failure(
    recorded: Recorded,
) -> None:
    """However often Victor enters it: once since 0.10, as often as it likes before."""
    entered: list[int] = []

    def fail(_tool: Any, number: int) -> None:
        entered.append(number)
        raise ValueError(number)

    await Bench(own_tool(fail)).call("own_tool", number=1)
    assert entered
    points = recorded.points(*ALL)
    expected = executed("own_tool", "failure", errors="tool_execution")
    assert drop(points, ERRORS) == drop(expected, ERRORS)
    assert sum(value for key, value in points.items() if key[0] == ERRORS) == 1


def drop(points: dict[tuple[Any, ...], float], name: str) -> dict[tuple[Any, ...], float]:
    return {key: value for key, value in points.items() if key[0] != name}


async def test_a_tool_that_reports_failure_has_failed(recorded: Recorded) -> None:
    from victor.tools.base import ToolResult

    refused = own_tool(lambda _tool, number: ToolResult(success=False, output=None, error="no"))
    await Bench(refused).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "failure", errors="tool_execution")


async def test_text_that_begins_with_victors_error_mark_is_a_failure(recorded: Recorded) -> None:
    bench = Bench(own_tool(lambda _tool, number: "\n### ❌ Nothing worked"))
    assert (await bench.call("own_tool", number=1)).success
    assert recorded.points(*ALL) == executed("own_tool", "failure", errors="tool_execution")


async def test_text_that_begins_with_victors_warning_mark_is_a_success(recorded: Recorded) -> None:
    await Bench(own_tool(lambda _tool, number: "### ⚠️ Mind this")).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")


async def test_a_tool_slower_than_the_pipeline_allows_timed_out(recorded: Recorded) -> None:
    async def sleep(_tool: Any, number: int) -> None:
        await asyncio.sleep(30)

    bench = Bench(own_tool(sleep), per_tool_timeout_seconds=0.05)
    assert not (await bench.call("own_tool", number=1)).success
    assert recorded.points(*ALL) == executed("own_tool", "timeout", errors="tool_timeout")
    assert 0.03 < seconds(recorded)[0] < 5


async def test_a_tool_that_raises_a_timeout_timed_out(recorded: Recorded) -> None:
    def give_up(_tool: Any, number: int) -> None:
        raise TimeoutError

    await Bench(own_tool(give_up)).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "timeout", errors="tool_timeout")


async def test_a_decorated_function_that_raises_a_timeout_failed_in_victors_word(
    recorded: Recorded,
) -> None:
    from victor.tools.decorators import tool

    @tool
    async def give_up(number: int) -> str:
        """Gives up.

        Args:
            number: After how many attempts.
        """
        raise TimeoutError(number)

    await Bench(give_up).call("give_up", number=1)
    assert recorded.points(*ALL) == executed("give_up", "failure", errors="tool_execution")


async def test_a_cancelled_tool_is_in_no_ratio_and_no_error(recorded: Recorded) -> None:
    running = asyncio.Event()

    async def wait(_tool: Any, number: int) -> None:
        running.set()
        await asyncio.sleep(30)

    call = asyncio.ensure_future(Bench(own_tool(wait)).call("own_tool", number=1))
    await running.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert recorded.points(*ALL) == executed("own_tool", "cancelled")
    assert recorded.points(RATE, zeros=True) == {}


async def test_reading_a_missing_file_is_one_failed_call(recorded: Recorded) -> None:
    from victor.config.settings import reset_project_paths

    reset_project_paths()  # `read` is confined to the first folder that the process saw
    async with working() as orchestrator:
        pipeline = orchestrator._tool_pipeline
        result = await pipeline.execute_tool_calls([asked("read", path="no-such.txt")], {})
        assert not result.results[0].success
        category = result.results[0].error_info.category.value
    expected = executed("read", "failure", mode="build", errors=category)
    assert recorded.points(*ALL) == {**expected, **cache("miss")}


async def test_a_whole_turn_counts_what_its_calls_did(recorded: Recorded) -> None:
    calls = (
        ToolCall("own_tool", {"number": 1}),
        ToolCall("own_tool", {"number": 1}),
        ToolCall("invented", {}),
    )
    async with living(own_tool(double), steps=[Step(calls=calls), ANSWER]) as created:
        await created.run("Read the number 1 and double it.")
    points = recorded.points(EXECUTIONS, REJECTED)
    assert {key: value for key, value in points.items() if key[0] == EXECUTIONS} == {
        key: value
        for key, value in executed("own_tool", "success", mode="build").items()
        if key[0] == EXECUTIONS
    }
    assert {dict(key[1:])["tool"] for key in points if key[0] == REJECTED} <= {
        "unknown",
        "own_tool",
    }


async def test_a_tool_without_any_agent_has_neither_vertical_nor_mode(recorded: Recorded) -> None:
    await own_tool(double).execute({}, number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")


async def test_a_raising_tool_without_any_agent_counts_by_its_class(recorded: Recorded) -> None:
    def fail(_tool: Any, number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError):
        await own_tool(fail).execute({}, number=1)
    assert recorded.points(*ALL) == executed("own_tool", "failure", errors="KeyError")


async def test_a_subclass_that_calls_super_counts_once(recorded: Recorded) -> None:
    base = type(own_tool(double))

    class Wider(base):  # type: ignore[misc, valid-type]
        async def execute(self, _exec_ctx: Any, **kwargs: Any) -> Any:
            first = await super().execute(_exec_ctx, **kwargs)
            await asyncio.sleep(0.02)
            return first

    await Bench(Wider()).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")
    assert seconds(recorded)[0] >= 0.02


async def test_tools_defined_before_us_count_as_well(recorded: Recorded) -> None:
    from victor_otel.runtime import RUNTIME

    RUNTIME.deactivate()
    early = own_tool(double)
    RUNTIME.activate(recorded.provider)
    await Bench(early).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")


async def test_a_tool_of_an_mcp_server_counts_under_its_registered_name(
    recorded: Recorded,
) -> None:
    from victor.integrations.mcp.protocol import MCPTool, MCPToolCallResult
    from victor.tools.mcp_adapter_tool import MCPAdapterTool

    class Servers:
        async def call_tool(self, name: str, **arguments: Any) -> MCPToolCallResult:
            return MCPToolCallResult(tool_name=name, success=not arguments, error="no")

    tool = MCPAdapterTool(MCPTool(name="look", description="Looks."), Servers(), "far")  # type: ignore[arg-type]
    await Bench(tool).call(tool.name)
    assert recorded.points(*ALL) == executed(tool.name, "success")


async def test_a_tool_called_by_a_tool_through_the_registry_is_a_call_of_its_own(
    recorded: Recorded,
) -> None:
    bench = Bench(own_tool(double, name="inner_tool"))

    async def ask(_tool: Any, number: int) -> Any:
        return (await bench.registry.execute("inner_tool", {}, number=number)).output

    bench.registry.register(own_tool(ask, name="outer_tool"))
    assert (await bench.call("outer_tool", number=3)).result == "6"
    assert recorded.points(*ALL) == {
        **executed("inner_tool", "success"),
        **executed("outer_tool", "success"),
    }


async def test_a_nested_call_that_fails_is_no_failure_of_the_outer_one(recorded: Recorded) -> None:
    bench = Bench()

    async def ask(_tool: Any, number: int) -> str:
        return str(await bench.executor.execute("inner_tool", {}))

    bench.registry.register(own_tool(double, name="inner_tool"))
    bench.registry.register(own_tool(ask, name="outer_tool"))
    assert (await bench.call("outer_tool", number=3)).success
    assert recorded.points(*ALL) == {
        **rejected("inner_tool", "invalid_arguments"),
        **executed("outer_tool", "success"),
    }


async def test_waiting_for_a_human_between_two_attempts_is_no_tool_time(
    recorded: Recorded,
) -> None:
    from victor.framework.hitl import HITLController

    async def decide(_request: Any) -> Any:
        from victor.framework.hitl import ApprovalStatus

        await asyncio.sleep(0.3)
        return ApprovalStatus.APPROVED, "", "human"

    controller = HITLController(decide)

    async def ask(_tool: Any, number: int) -> str:
        await asyncio.sleep(0.02)
        request = controller.request_approval(title="May I?", description="May I?")
        await controller.process_approval(request.id)
        return "done"

    await Bench(own_tool(ask)).call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")
    assert 0.015 < seconds(recorded)[0] < 0.2


async def test_waiting_for_a_human_before_the_tool_is_no_tool_time(recorded: Recorded) -> None:
    bench = Bench(shell(), safety_checker=human(True, after=0.3))
    assert (await bench.call("shell", cmd="rm -rf build")).success
    assert recorded.points(*ALL) == executed("shell", "success")
    assert seconds(recorded)[0] < 0.2


# What was rejected


async def test_a_name_that_the_model_invented_is_unavailable_and_unknown(
    recorded: Recorded,
) -> None:
    bench = Bench(own_tool(double))
    await bench.batch(asked("invented_1"), asked("invented_2"))
    assert recorded.points(*ALL) == rejected("unknown", "tool_unavailable", 2)


@pytest.mark.parametrize("level", ["executor", "registry"])
async def test_below_the_pipeline_an_unknown_tool_is_unavailable_too(
    recorded: Recorded, level: str
) -> None:
    await below(Bench(own_tool(double)), level, "invented")
    assert recorded.points(*ALL) == rejected("unknown", "tool_unavailable")


async def below(bench: Bench, level: str, name: str, **arguments: Any) -> Any:
    if level == "executor":
        return await bench.executor.execute(name, arguments)
    return await bench.registry.execute(name, {}, **arguments)


@pytest.mark.parametrize("level", ["pipeline", "executor", "registry"])
async def test_a_disabled_tool_is_unavailable_under_its_name(
    recorded: Recorded, level: str
) -> None:
    bench = Bench(own_tool(double))
    bench.registry.disable_tool("own_tool")
    if level == "pipeline":
        await bench.call("own_tool", number=1)
    else:
        await below(bench, level, "own_tool", number=1)
    assert recorded.points(*ALL) == rejected("own_tool", "tool_unavailable")


async def test_duplicates_in_a_batch_are_rejected_and_the_first_one_runs(
    recorded: Recorded,
) -> None:
    call = asked("own_tool", number=1)
    await Bench(own_tool(double)).batch(call, dict(call), dict(call))
    assert recorded.points(*ALL) == {
        **executed("own_tool", "success"),
        **rejected("own_tool", "duplicate_in_batch", 2),
    }


async def test_the_tail_over_budget_is_rejected(recorded: Recorded) -> None:
    bench = Bench(own_tool(double), tool_budget=2)
    await bench.batch(*(asked("own_tool", number=n) for n in range(5)))
    assert recorded.points(*ALL) == {
        **executed("own_tool", "success", counted=2),
        **rejected("own_tool", "budget_exhausted", 3),
    }


async def test_a_budget_that_an_earlier_turn_used_up_rejects_all(recorded: Recorded) -> None:
    bench = Bench(own_tool(double), tool_budget=1)
    await bench.call("own_tool", number=0)
    await bench.batch(asked("own_tool", number=1), asked("own_tool", number=2))
    assert recorded.points(*ALL) == {
        **executed("own_tool", "success"),
        **rejected("own_tool", "budget_exhausted", 2),
    }


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"name": "own_tol", "_invalid": True, "_error": "Unknown tool"}, "invalid_tool_name"),
        ({"arguments": {}}, "missing_tool_name"),
        ({"name": "not a name!", "arguments": {}}, "invalid_tool_name"),
        ("own_tool", "invalid_tool_call"),
    ],
)
async def test_malformed_calls_are_rejected_as_such(
    recorded: Recorded, call: Any, reason: str
) -> None:
    await Bench(own_tool(double)).batch(call)
    assert recorded.points(*ALL) == rejected("unknown", reason)


async def test_a_call_that_failed_before_is_rejected_as_repeated(recorded: Recorded) -> None:
    from victor.tools.base import ToolResult

    refused = own_tool(lambda _tool, number: ToolResult(success=False, output=None, error="no"))
    bench = Bench(refused)
    await bench.call("own_tool", number=1)
    await bench.call("own_tool", number=1)
    assert recorded.points(*ALL) == {
        **executed("own_tool", "failure", errors="tool_execution"),
        **rejected("own_tool", "repeated_failure"),
    }


async def test_a_second_read_of_an_unchanged_file_is_rejected_as_duplicate(
    recorded: Recorded,
) -> None:
    Path("twice.txt").write_text("Once is enough.\n", encoding="utf-8")
    async with working() as orchestrator:
        pipeline = orchestrator._tool_pipeline
        await pipeline.execute_tool_calls([asked("read", path="twice.txt")], {})
        pipeline.config.enable_idempotent_caching = False
        second = await pipeline.execute_tool_calls([asked("read", path="twice.txt")], {})
        assert second.results[0].outcome_kind == "duplicate_read"
    assert recorded.points(*ALL) == {
        **executed("read", "success", mode="build"),
        **rejected("read", "duplicate_read"),
        **cache("miss"),
    }


async def test_a_broad_read_of_code_is_rejected_where_victor_wants_structure_first(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(own_tool(lambda _tool, path: path, name="read", parameters=PATH))
    monkeypatch.setattr(bench.pipeline, "_should_steer_broad_code_read", lambda **_: True)
    monkeypatch.setattr(bench.pipeline, "_select_broad_code_read_rewrite", lambda *_, **__: None)
    assert (await bench.call("read", path="code.py")).success
    assert recorded.points(*ALL) == {**rejected("read", "broad_code_read"), **cache("miss")}


PATH = property(lambda _: {"type": "object", "properties": {"path": {"type": "string"}}})


async def test_a_redundant_call_is_rejected(recorded: Recorded) -> None:
    tracker = SimpleNamespace(is_redundant=lambda *_: True, add_call=lambda *_: None)
    bench = Bench(own_tool(double), deduplication_tracker=tracker)
    assert (await bench.call("own_tool", number=1)).success
    assert recorded.points(*ALL) == rejected("own_tool", "redundant_call")


async def test_what_the_permission_policy_denies_is_rejected(recorded: Recorded) -> None:
    from victor.security.permissions import PermissionMode, PermissionPolicy

    policy = PermissionPolicy(active_mode=PermissionMode.READ_ONLY)
    bench = Bench(own_tool(double, name="write"), permission_policy=policy)
    assert policy.authorize("write", {"number": 1}).needs_prompt is False
    await bench.call("write", number=1)
    assert recorded.points(*ALL) == rejected("write", "permission_denied")


def chain(*, before: Callable[[], Any], after: Callable[[], Any]) -> Any:
    """Victor's chain with one middleware, of what `before` and `after` answer."""
    from victor.agent.middleware_chain import MiddlewareChain
    from victor.core.vertical_types import MiddlewarePriority

    class Guard:
        async def before_tool_call(self, _name: str, _arguments: Any) -> Any:
            return before()

        async def after_tool_call(self, *_: Any) -> Any:
            return after()

        def get_priority(self) -> MiddlewarePriority:
            return MiddlewarePriority.NORMAL

        def get_applicable_tools(self) -> None:
            return None

    made = MiddlewareChain()
    made.add(Guard())  # type: ignore[arg-type]
    return made


async def test_what_a_middleware_blocks_is_rejected(recorded: Recorded) -> None:
    from victor.core.vertical_types import MiddlewareResult

    refusal = MiddlewareResult(proceed=False, error_message="not today")
    guards = chain(before=lambda: refusal, after=lambda: None)
    await Bench(own_tool(double), middleware_chain=guards).call("own_tool", number=1)
    assert recorded.points(*ALL) == rejected("own_tool", "middleware_blocked")


@pytest.mark.parametrize(("succeeds", "status"), [(True, "success"), (False, "failure")])
async def test_what_is_withheld_after_it_ran_counts_as_it_ran(
    recorded: Recorded, succeeds: bool, status: str
) -> None:
    from victor.agent.tool_pipeline import ToolPipeline
    from victor.core.vertical_types import MiddlewareResult
    from victor.tools.base import ToolResult

    def run(_tool: Any, number: int) -> Any:
        return ToolResult(success=succeeds, output=number, error=None if succeeds else "broken")

    def refuse() -> None:
        raise PermissionError("kept back")

    guards = chain(before=MiddlewareResult, after=refuse)
    result = await Bench(own_tool(run), middleware_chain=guards).call("own_tool", number=1)
    withholds = hasattr(ToolPipeline, "_process_tool_result")  # 0.9.5 hands it on all the same
    assert (result.outcome_kind == "result_withheld") is withholds
    errors = "" if succeeds else "tool_execution"
    assert recorded.points(*ALL) == executed("own_tool", status, errors=errors)
    event = ("victor.security.events", ("kind", "result_withheld"))
    assert recorded.points(event[0]) == ({event: 1} if withholds else {})


async def test_what_the_user_declines_is_rejected(recorded: Recorded) -> None:
    runs: list[str] = []
    bench = Bench(shell(runs), safety_checker=human(False))
    assert not (await bench.call("shell", cmd="rm -rf /")).success
    assert runs == []
    assert recorded.points(*ALL) == rejected("shell", "user_declined")


async def test_what_rbac_denies_is_rejected(recorded: Recorded) -> None:
    from victor.security.auth.rbac import RBACManager
    from victor.tools.enums import AccessMode

    writer = own_tool(double, access_mode=AccessMode.WRITE)
    bench = Bench(writer, rbac_manager=RBACManager(), current_user="guest")
    result = await bench.executor.execute("own_tool", {"number": 1})
    assert "RBAC" in str(result.error)
    assert recorded.points(*ALL) == rejected("own_tool", "rbac")


@pytest.mark.parametrize("level", ["pipeline", "executor", "registry"])
async def test_missing_arguments_are_invalid(recorded: Recorded, level: str) -> None:
    bench = Bench(own_tool(double))
    if level == "pipeline":
        assert not (await bench.call("own_tool")).success
    else:
        await below(bench, level, "own_tool")
    assert recorded.points(*ALL) == rejected("own_tool", "invalid_arguments")


@pytest.mark.parametrize("level", ["executor", "registry"])
async def test_arguments_of_the_wrong_type_are_invalid(recorded: Recorded, level: str) -> None:
    from victor.tools.enums import AccessMode

    bench = Bench(own_tool(double, access_mode=AccessMode.WRITE))
    assert not (await below(bench, level, "own_tool", number=["no"])).success
    assert recorded.points(*ALL) == rejected("own_tool", "invalid_arguments")


async def test_arguments_that_victor_only_warns_about_run(recorded: Recorded) -> None:
    bench = Bench(own_tool(lambda _tool, number: str(number)))
    assert (await bench.call("own_tool", number=["odd"])).success
    assert recorded.points(*ALL) == executed("own_tool", "success")


async def test_a_hook_that_forbids_the_call_is_another_reason(recorded: Recorded) -> None:
    from victor.tools.registry import Hook

    def forbid(*_: Any) -> None:
        raise PermissionError

    bench = Bench(own_tool(double))
    bench.registry.register_before_hook(Hook(forbid, name="guard", critical=True))
    assert not (await bench.call("own_tool", number=1)).success
    assert recorded.points(*ALL) == rejected("own_tool", "other")


async def test_a_timeout_while_a_human_is_asked_is_another_reason(recorded: Recorded) -> None:
    bench = Bench(shell(), safety_checker=human(True, after=30), per_tool_timeout_seconds=0.05)
    assert not (await bench.call("shell", cmd="rm -rf /")).success
    assert recorded.points(*ALL) == rejected("shell", "other")


async def test_a_call_cancelled_before_its_tool_ran_is_neither(recorded: Recorded) -> None:
    call = asyncio.ensure_future(
        Bench(shell(), safety_checker=human(True, after=30)).call("shell", cmd="rm -rf /")
    )
    await asyncio.sleep(0.05)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert recorded.points(*ALL) == {}


# What a cache answered


@contextlib.asynccontextmanager
async def cached_bench() -> AsyncIterator[Bench]:
    from victor.storage.cache.config import CacheConfig
    from victor.storage.cache.tool_cache import ToolCache

    held = ToolCache(60, ["diff"], CacheConfig(enable_disk=False))
    yield Bench(own_tool(double, name="diff"), own_tool(double), tool_cache=held)


async def test_a_call_that_the_executors_cache_answered_is_a_hit_and_no_execution(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached_bench() as bench:
        monkeypatch.setattr(bench.executor, "is_cacheable_tool", lambda _: True)
        assert (await bench.call("diff", number=1)).result == "2"
        assert recorded.points(*ALL) == {**executed("diff", "success"), **cache("miss")}
        again = await bench.call("diff", number=1)
        assert again.success
        assert again.result == "2"
        assert recorded.points(*ALL) == {
            **executed("diff", "success"),
            **cache("miss"),
            **cache("hit"),
        }


async def test_a_tool_outside_the_caches_allow_list_is_no_miss(recorded: Recorded) -> None:
    async with cached_bench() as bench:
        await bench.call("own_tool", number=1)
    assert recorded.points(*ALL) == executed("own_tool", "success")


async def test_an_idempotent_call_answered_by_the_pipeline_is_a_hit_and_no_execution(
    recorded: Recorded,
) -> None:
    bench = Bench(own_tool(lambda _tool, path: path, name="ls", parameters=PATH))
    for _ in range(3):
        assert (await bench.call("ls", path=".")).result == "."
    assert recorded.points(*ALL) == {
        **executed("ls", "success"),
        **cache("miss"),
        **cache("hit", count=2),
    }


async def test_a_call_that_asks_two_caches_asks_once(recorded: Recorded) -> None:
    Path("asked.txt").write_text("Asked.\n", encoding="utf-8")
    async with working() as orchestrator:
        assert "read" in orchestrator.tool_executor.cache.allowlist
        call = asked("read", path="asked.txt")
        await orchestrator._tool_pipeline.execute_tool_calls([call], {})
        assert recorded.points(CACHE) == cache("miss")
        await orchestrator._tool_pipeline.execute_tool_calls([call], {})
        assert recorded.points(CACHE) == {**cache("miss"), **cache("hit")}
    assert recorded.points(EXECUTIONS, REJECTED) == {
        key: value
        for key, value in executed("read", "success", mode="build").items()
        if key[0] == EXECUTIONS
    }


async def test_what_a_tool_runs_through_victors_bridge_into_a_thread_is_inside_its_call(
    recorded: Recorded,
) -> None:
    """Victor calls what is asynchronous so, from functions that are not."""
    from victor.core.async_utils import run_sync_in_thread

    async def chain() -> bool:
        return innermost(CURRENT.get(), TOOL_CALL) is not None

    bench = Bench(own_tool(lambda _tool, number: run_sync_in_thread(chain(), 30)))
    assert (await bench.call("own_tool", number=1)).result is True
    assert recorded.points(*ALL) == executed("own_tool", "success")
