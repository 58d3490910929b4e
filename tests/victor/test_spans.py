"""Spans: the tree of what an agent did, in the application's own TracerProvider."""

from __future__ import annotations

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.chat import ANSWER, ASK, DELEGATE, LOOK, REFUSED, answer_with, seen, spawner, team
from tests.kit.interfaces import CHAT as API_CHAT
from tests.kit.interfaces import call, client, mcp_server, message, own_tools, server
from tests.kit.processes import MCP_SERVER, run
from tests.kit.providers import chunk, own, response
from tests.kit.spans import SECRET, tracing
from tests.kit.tools import Bench, double, own_tool
from tests.kit.tools import asked as tool_call
from tests.kit.traced import Traced
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall
from victor_otel.engine import failsafe
from victor_otel.instrumentor import VictorInstrumentor
from victor_otel.runtime import RUNTIME

TURN, CHAT, LS = "invoke_agent victor", "chat m", "execute_tool ls"


def ending(span: ReadableSpan) -> object:
    return (span.attributes or {}).get("victor.operation.status")


def error(span: ReadableSpan) -> object:
    """The type of the error; a status that does not fit is shown instead."""
    kind = (span.attributes or {}).get("error.type")
    failed = span.status.status_code is trace.StatusCode.ERROR
    return kind if failed == (kind is not None) else span.status


async def test_a_turn_is_an_agent_that_calls_models_and_tools() -> None:
    with tracing() as traced, model(m=[LOOK, ANSWER]) as served:
        async with agent(served, "m") as created:
            await created.run(ASK)
            session = created.get_orchestrator().active_session_id or (
                created.get_orchestrator()._memory_session_id
            )
    assert traced.tree() == [(TURN, [CHAT, LS, CHAT])]
    turn, chat, tool, _ = (dict(span.attributes or {}) for span in traced.ours)
    tool.pop("victor.tool.cached", None)  # another test may have listed the same folder
    every = {
        "gen_ai.agent.name": "victor",
        "gen_ai.conversation.id": session,
        "victor.operation.status": "success",
    }
    assert turn == {"gen_ai.operation.name": "invoke_agent", **every}
    assert chat == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.request.temperature": 0.7,
        "gen_ai.response.finish_reasons": ("tool_call",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        **every,
    }
    assert tool == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "ls",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call_0",
        **every,
    }
    kinds = [span.kind for span in traced.ours]
    inside, client = trace.SpanKind.INTERNAL, trace.SpanKind.CLIENT
    assert kinds == [inside, client, inside, client]


async def test_a_call_to_a_model_says_what_was_asked_and_why_it_ended() -> None:
    with tracing() as traced:
        for reason in ("stop", "tool_use", "MAX_TOKENS", "because of my secret", None):
            answer = response(content="hi", stop_reason=reason)

            async def chat(*_: Any, answer: Any = answer, **__: Any) -> Any:
                return answer

            await own(chat=chat).chat([], model="m", max_tokens=7, temperature=0)
        await own(chat=chat).chat([], model="m", max_tokens="7")
    names = ("gen_ai.request.max_tokens", "gen_ai.request.temperature", FINISHES)
    assert [told(span, *names) for span in traced.ours] == [
        (7, 0.0, ("stop",)),
        (7, 0.0, ("tool_call",)),
        (7, 0.0, ("length",)),
        (7, 0.0, None),
        (7, 0.0, None),
        (None, None, None),
    ]


async def test_the_last_chunk_of_a_stream_says_why_it_ended() -> None:
    async def stream(*_: Any, **__: Any) -> Any:
        yield chunk(content="hi")
        yield chunk(is_final=True, stop_reason="stop")

    with tracing() as traced:
        async for _ in own(stream=stream).stream([], model="m"):
            pass
    (span,) = traced.ours
    assert told(span, FINISHES) == (("stop",),)


@pytest.mark.parametrize(("asked", "shown"), [("", None), ("true", "reader")])
async def test_the_client_of_the_api_is_on_spans_where_that_is_asked_for(
    asked: str, shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VICTOR_OTEL_USER_IDS", asked)
    traced = Traced()
    with recording(traced=traced), model(m=[ANSWER]) as served:
        async with client(server(served, api_keys={"a key": "reader"}), "a key") as api:
            assert (await api.post("/chat", json=API_CHAT)).status_code == 200
    assert {told(span, "user.id") for span in traced.ours} == {(shown,)}
    assert traced.ours


FINISHES = "gen_ai.response.finish_reasons"


async def test_a_streamed_turn_has_the_same_tree_and_is_current_only_inside_of_victor() -> None:
    with tracing() as traced, model(m=[LOOK, ANSWER]) as served:
        async with agent(served, "m") as created:
            async for _ in created.stream(ASK):
                assert trace.get_current_span() is trace.INVALID_SPAN
    assert traced.tree() == [(TURN, [CHAT, LS, CHAT])]
    for span in traced.named(CHAT):
        attributes = span.attributes or {}
        assert attributes["gen_ai.request.stream"] is True
        assert attributes["gen_ai.response.time_to_first_chunk"] > 0  # type: ignore[operator]


async def test_a_sub_agent_is_below_the_tool_that_spawned_it_under_its_own_name() -> None:
    with tracing() as traced, model(m=[DELEGATE, LOOK, ANSWER, ANSWER]) as served:
        async with agent(served, "m") as created:
            created.get_orchestrator().tools.register(spawner(created))
            await created.run(ASK)
    helper = ("invoke_agent researcher", [CHAT, LS, CHAT])
    assert traced.tree() == [(TURN, [CHAT, ("execute_tool delegate", [helper]), CHAT])]
    names = [(span.attributes or {})["gen_ai.agent.name"] for span in traced.ours]
    assert names == [*["victor"] * 3, *["researcher"] * 4, "victor"]


async def test_the_members_of_a_team_are_below_it() -> None:
    with tracing() as traced, model(m=[LOOK, ANSWER, LOOK, ANSWER]) as served:
        async with agent(served, "m") as created:
            await (await team(created, "researcher", "planner")).run()
    members = [(f"invoke_agent {role}", [CHAT, LS, CHAT]) for role in ("researcher", "planner")]
    assert traced.tree() == [("invoke_workflow team", members)]


async def test_a_tool_that_fails_and_one_that_is_invented_are_seen() -> None:
    fail = own_tool(_raising)
    invented = ToolCall("no_such_tool", {})
    steps = [Step(calls=(ToolCall("own_tool", {"number": 1}), invented)), ANSWER]
    with tracing() as traced, model(m=steps) as served:
        async with agent(served, "m", fail) as created:
            await created.run(ASK)
    (failed,) = traced.named("execute_tool own_tool")
    assert (ending(failed), error(failed)) == ("failure", "validation_error")
    (unknown,) = traced.named("execute_tool unknown")
    assert (ending(unknown), error(unknown)) == ("rejected", None)
    assert (unknown.attributes or {})["victor.tool.rejection"] == "tool_unavailable"
    assert [ending(span) for span in traced.named(TURN)] == ["success"]


def _raising(*_: Any, **__: Any) -> Any:
    raise ValueError("a secret")


async def test_what_victor_leaves_out_of_a_batch_is_seen_with_its_reason() -> None:
    bench = Bench(own_tool(double), tool_budget=2)
    one, other, late = (tool_call("own_tool", number=n) for n in (1, 2, 3))
    calls = [{**call, "id": name} for call, name in ((one, "a"), (one, "b"), (other, "c"))]
    with tracing() as traced:
        await bench.batch(*calls, {**late, "id": "d"})
    left_out = [span for span in traced.ours if ending(span) == "rejected"]
    known = [span.attributes or {} for span in left_out]
    assert {span.name for span in left_out} == {"execute_tool own_tool"}
    assert {one["gen_ai.tool.call.id"]: one["victor.tool.rejection"] for one in known} == {
        "b": "duplicate_in_batch",
        "d": "budget_exhausted",
    }
    assert [error(span) for span in left_out] == [None, None]
    assert [span.end_time for span in left_out] == [span.start_time for span in left_out]
    assert len(traced.ours) == 4


async def test_a_duplicate_in_a_turn_is_below_the_agent() -> None:
    twice = ToolCall("own_tool", {"number": 1})
    steps = [Step(calls=(twice, twice)), ANSWER]
    with tracing() as traced, model(m=steps) as served:
        async with agent(served, "m", own_tool(double)) as created:
            await created.run(ASK)
    names = [CHAT, "execute_tool own_tool", "execute_tool own_tool", CHAT]
    assert traced.tree() == [(TURN, names)]


async def test_a_failed_provider_is_an_error_of_its_call_and_of_the_turn() -> None:
    with tracing() as traced, ScriptedModel({"m": Script([REFUSED], side=REFUSED)}) as served:
        async with agent(served, "m") as created:
            await created.run(ASK)
    (turn,) = traced.named(TURN)
    assert (ending(turn), error(turn)) == ("failure", "_OTHER")
    calls = traced.named(CHAT)
    assert {(ending(call), error(call)) for call in calls} == {("failure", "unknown")}


async def test_a_cancelled_turn_ends_without_an_error() -> None:
    with tracing() as traced, model(m=[]) as served:
        async with agent(served, "m") as created:
            begun = asyncio.Event()

            async def wait(_: Any) -> None:
                begun.set()
                await asyncio.Event().wait()

            running = asyncio.create_task(answer_with(created, wait).chat(ASK))
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
    (turn,) = traced.ours
    assert (turn.name, ending(turn), error(turn)) == (TURN, "cancelled", None)


async def test_a_stream_that_is_left_or_dropped_ends_its_spans_once() -> None:
    async def items(*_: Any, **__: Any) -> Any:
        while True:
            yield chunk(content="a")

    with tracing() as traced:
        left, dropped = (own(stream=items).stream([], model="m") for _ in range(2))
        await anext(left)
        await left.aclose()
        await anext(dropped)
        del dropped
        gc.collect()
        while len(traced.ended) < 2:  # the event loop closes what nobody holds
            await asyncio.sleep(0)
            failsafe.drain(RUNTIME.health)
    assert [(span.name, ending(span)) for span in traced.ours] == [(CHAT, "cancelled")] * 2


async def test_a_stream_closed_in_another_context_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def items(*_: Any, **__: Any) -> Any:
        yield chunk(content="a")
        yield chunk(content="b")

    with tracing() as traced:
        stream = own(stream=items).stream([], model="m")
        await asyncio.create_task(anext(stream))
        await asyncio.create_task(stream.aclose())
        failsafe.drain(RUNTIME.health)
    assert [ending(span) for span in traced.ours] == ["cancelled"]
    assert caplog.text == ""


async def test_spans_of_the_application_are_parents_and_children() -> None:
    traced = Traced()
    tracer = traced.provider.get_tracer("app")

    def work(_: Any, number: int) -> int:
        with tracer.start_as_current_span("own work"):
            return number

    with tracing(traced), tracer.start_as_current_span("own request"):
        await own_tool(work).execute({}, number=1)
    below = ("execute_tool own_tool", ["own work"])
    assert traced.tree() == [("own request", [below])]


async def test_work_in_an_executor_of_threads_is_below_the_tool() -> None:
    traced = Traced()
    tracer = traced.provider.get_tracer("app")

    def in_thread() -> None:
        with tracer.start_as_current_span("in a thread"):
            pass

    with ThreadPoolExecutor(1) as pool:

        async def work(*_: Any, **__: Any) -> None:
            await asyncio.get_running_loop().run_in_executor(pool, in_thread)

        with tracing(traced):
            await own_tool(work).execute({}, number=1)
            await asyncio.get_running_loop().run_in_executor(pool, in_thread)
    assert traced.tree() == [("execute_tool own_tool", ["in a thread"]), "in a thread"]


async def test_levels_of_one_call_are_one_span() -> None:
    bench = Bench(own_tool(lambda _, number: number))
    with tracing() as traced:
        await bench.batch(tool_call("own_tool", number=1))
    assert traced.tree() == ["execute_tool own_tool"]


async def test_the_span_is_as_long_as_the_metric() -> None:
    recorded, traced = Recorded(), Traced()
    with recording(recorded, traced):
        await own_tool(lambda _, number: number).execute({}, number=1)
    (span,) = traced.ours
    taken = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
    data = recorded.reader.get_metrics_data()
    sums = [
        point.sum
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "victor.tool.execution.duration"
        for point in metric.data.data_points
    ]
    assert sums == [pytest.approx(taken, abs=1e-8)]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
async def test_sampling_changes_no_metric(share: float) -> None:
    recorded, traced = Recorded(), Traced(ParentBased(TraceIdRatioBased(share)))
    with recording(recorded, traced), model(m=[LOOK, ANSWER]) as served:
        async with agent(served, "m") as created:
            await created.run(ASK)
    with recording() as plain, model(m=[LOOK, ANSWER]) as served:
        async with agent(served, "m") as created:
            await created.run(ASK)
    assert seen(recorded) == seen(plain)


async def test_what_is_not_sampled_still_carries_its_context() -> None:
    told: list[bool] = []

    def work(*_: Any, **__: Any) -> None:
        told.append(trace.get_current_span().get_span_context().is_valid)

    with recording(traced=Traced(ALWAYS_OFF)):
        await own_tool(work).execute({}, number=1)
    assert told == [True]


async def test_without_a_tracer_provider_nothing_is_attached() -> None:
    told: list[context.Context] = []

    def work(*_: Any, **__: Any) -> None:
        told.append(context.get_current())

    with recording():
        await own_tool(work).execute({}, number=1)
    assert told == [{}]


async def test_only_spans_are_wanted_where_nobody_wants_metrics() -> None:
    traced = Traced()
    RUNTIME.deactivate()
    VictorInstrumentor().instrument(tracer_provider=traced.provider)
    try:
        await own_tool(lambda _, number: number).execute({}, number=1)
    finally:
        VictorInstrumentor().uninstrument()
    assert traced.tree() == ["execute_tool own_tool"]


async def test_a_provider_that_comes_later_gets_what_begins_then() -> None:
    traced = Traced()
    tool = own_tool(lambda _, number: number)
    with recording():
        await tool.execute({}, number=1)
        RUNTIME.activate(tracer_provider=traced.provider)
        await tool.execute({}, number=2)
    assert traced.tree() == ["execute_tool own_tool"]
    assert traced.problems() == []


async def test_switching_off_in_the_middle_leaves_no_span_open() -> None:
    with recording(traced=(traced := Traced())):
        await own_tool(lambda *_, **__: RUNTIME.deactivate()).execute({}, number=1)
    assert [span.name for span in traced.ours] == ["execute_tool own_tool"]
    assert traced.problems() == []


LATE = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.kit.traced import Traced
from tests.kit.tools import own_tool
from victor_otel.instrumentor import VictorInstrumentor

VictorInstrumentor().instrument()
tool = own_tool(lambda _, number: number)
asyncio.run(tool.execute({}, number=1))
traced = Traced()
trace.set_tracer_provider(traced.provider)
asyncio.run(tool.execute({}, number=2))
print(traced.tree(), traced.problems())
"""


def test_the_global_provider_is_used_as_soon_as_it_is_set() -> None:
    assert run(LATE).stdout == "['execute_tool own_tool'] []\n"


async def test_what_is_no_name_is_other() -> None:
    with tracing() as traced:
        await own().chat([], model="x" * 1000)
        await own().chat([], model="\ud800")
    assert [span.name for span in traced.ours] == ["chat other"] * 2


async def test_a_histogram_names_the_span_of_the_call() -> None:
    reader, traced = InMemoryMetricReader(), Traced()
    RUNTIME.deactivate()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    RUNTIME.activate(provider, traced.provider).open()
    await own_tool(lambda _, number: number).execute({}, number=1)
    RUNTIME.deactivate()
    (span,) = traced.ours
    data = reader.get_metrics_data()
    exemplars = [
        exemplar
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "victor.tool.execution.duration"
        for point in metric.data.data_points
        for exemplar in point.exemplars
    ]
    named = [(exemplar.trace_id, exemplar.span_id) for exemplar in exemplars]
    assert named == [(span.context.trace_id, span.context.span_id)]
    assert trace.get_current_span() is trace.INVALID_SPAN


class _Raising(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if span.name.endswith("starting"):
            raise RuntimeError

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError


@pytest.mark.parametrize("name", ["starting", "ending"])
async def test_a_processor_that_raises_harms_no_call_and_no_count(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    recorded, provider = Recorded(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(_Raising())
    RUNTIME.deactivate()
    RUNTIME.activate(recorded.provider, provider).open()
    result = await own_tool(lambda _, number: number, name=name).execute({}, number=1)
    RUNTIME.deactivate()
    assert result.output == 1
    assert list(recorded.points("victor.tool.executions").values()) == [1]
    assert trace.get_current_span() is trace.INVALID_SPAN


# MCP


def told(span: ReadableSpan, *names: str) -> tuple[object, ...]:
    return tuple((span.attributes or {}).get(name) for name in names)


CODE = "rpc.response.status_code"


async def test_messages_to_the_server_are_spans_with_the_tool_below_its_call() -> None:
    served = mcp_server(*own_tools())
    with tracing() as traced:
        for sent in (message("ping"), message(SECRET), call("water", plant="fern"), call("dig")):
            await served.handle_message(sent)
        await served.handle_message(call(SECRET))
    below = ["execute_tool water"], ["execute_tool dig"]
    assert traced.tree() == [
        "ping",
        "other",
        ("tools/call water", below[0]),
        ("tools/call dig", below[1]),
        ("tools/call unknown", ["execute_tool unknown"]),
    ]
    outer = [span for span in traced.ours if span.kind is trace.SpanKind.SERVER]
    shown = [(ending(span), error(span), *told(span, CODE)) for span in outer]
    assert shown == [
        ("success", None, None),
        ("rejected", None, "-32700"),  # a client's mistake is no failure of the server
        ("success", None, None),
        ("failure", "tool_error", None),
        ("failure", "tool_error", None),
    ]
    assert told(outer[2], "mcp.method.name", "gen_ai.operation.name", "gen_ai.tool.name") == (
        "tools/call",
        "execute_tool",
        "water",
    )


async def test_a_call_to_a_server_is_a_span_of_the_client() -> None:
    from victor.integrations.mcp.client import MCPClient

    caller = MCPClient()
    with tracing() as traced:
        assert await caller.connect([sys.executable, "-c", MCP_SERVER])
        assert (await caller.call_tool("water", plant="fern")).success
        assert not (await caller.call_tool(SECRET)).success
        caller.disconnect()
    calls = [span for span in traced.ours if span.name.startswith("tools/call")]
    shown = [(span.name, span.kind, ending(span), error(span)) for span in calls]
    client = trace.SpanKind.CLIENT
    assert shown[0] == ("tools/call water", client, "success", None)
    assert shown[1][:3] == ("tools/call unknown", client, "failure")
    assert "initialize" in {span.name for span in traced.ours}


# Plans


async def test_the_making_of_a_plan_is_above_the_model_that_makes_it() -> None:
    from victor.agent.planning.autonomous import AutonomousPlanner

    steps = '[{"id": "1", "description": "Water the garden"}]'
    with tracing() as traced, model(m=[Step(steps)]) as served:
        async with agent(served, "m") as created:
            plan = await AutonomousPlanner(created.get_orchestrator()).plan_for_goal("Green.")
    assert [step.description for step in plan.steps] == ["Water the garden"]
    (made,) = traced.tree()
    assert made[0] == "plan victor"
    assert CHAT in str(made[1])
