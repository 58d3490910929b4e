"""Chat turns, and the requests that they are."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.chat import (
    ANSWER,
    ASK,
    DELEGATE,
    ERRORS,
    FEATURES,
    IN_FLIGHT,
    KNOCK,
    LOOK,
    NOBODY,
    QUEUED,
    REFUSED,
    REQUESTS,
    TURNS,
    VERTICALS,
    Points,
    Resumable,
    answer_with,
    gate,
    listen,
    own_vertical,
    point,
    response,
    resume,
    seen,
    service,
    spawner,
    team,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step
from victor_otel.victor.supported import release

PROVIDER = {("component", "provider"), ("error_type", "unknown")}


def turns(
    status: str,
    value: float = 1,
    *,
    requests: float | None = None,
    streams: float = 0,
    **labels: str,
) -> Points:
    """What `value` turns leave behind, `requests` of them outermost; errors not included."""
    context = {"interface": "sdk", "vertical": "none", "mode": "build", **labels}
    interface, vertical, mode = (context[name] for name in ("interface", "vertical", "mode"))
    outermost = value if requests is None else requests
    expected = {
        **point(TURNS, value, interface=interface, vertical=vertical, status=status),
        **point(VERTICALS, value, vertical=vertical, mode=mode),
        **point(REQUESTS, outermost, interface=interface, status=status),
        **point(FEATURES, streams, feature="streaming"),
    }
    return {key: count for key, count in expected.items() if count}


def error(component: str, kind: str, value: float = 1) -> Points:
    return point(ERRORS, value, component=component, error_type=kind)


def in_flight(recorded: Recorded) -> Points:
    return recorded.points(IN_FLIGHT, zeros=True)


# A chat service whose inside is the test's own: what it answers, raises or waits for.


def stream_with(created: Any, *chunks: Any) -> Any:
    """A chat service that streams the chunks; an exception among them is raised there."""

    async def handler(_message: str, **_: Any) -> AsyncIterator[Any]:
        for chunk in chunks:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    own = service(created)
    own._stream_chat_handler = handler
    return own


def chunk(content: str = "", **options: Any) -> Any:
    from victor.providers.base import StreamChunk

    return StreamChunk(content=content, **options)


def pause() -> BaseException:
    from victor.framework.approval_pause import ApprovalPause

    return ApprovalPause(SimpleNamespace(title="may I?"))


# Real turns.


async def test_a_run_is_one_turn_and_one_request() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert "complete" in (await created.run(ASK)).content
        assert seen(recorded) == turns("success")
        assert recorded.points("victor.error_rate", zeros=True) == {("victor.error_rate",): 0}
        assert in_flight(recorded) == NOBODY


async def test_a_stream_is_one_turn_and_one_request_to_its_end() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert (await listen(created))[-1] == "stream_end"
        assert seen(recorded) == turns("success", streams=1)
        assert in_flight(recorded) == NOBODY


async def test_orchestrator_and_client_take_turns_like_an_agent() -> None:
    from victor.framework.client import VictorClient
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            await created.get_orchestrator().chat(ASK)
        assert seen(recorded) == turns("success")
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        client = VictorClient(SessionConfig(provider_override=override))
        try:
            await client.initialize()
            client._agent.get_orchestrator().console.quiet = True
            await client.chat("Say hi.")
        finally:
            await client.close()
        assert seen(recorded) == turns("success", 2)


async def test_a_stream_that_chat_gathers_is_one_turn() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await stream_with(created, chunk("hi")).chat("Say hi.", stream=True)
        assert seen(recorded) == turns("success")


async def test_an_apology_for_a_failed_provider_is_a_failure_and_no_error_of_the_chat() -> None:
    """Victor asks three more times, without tools; here the provider refuses those as well."""
    scripts = {"m": Script([REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert (await created.run(ASK)).success
        refusals = len(served.answers)
        assert seen(recorded) == turns("failure") | error("provider", "unknown", refusals)
        assert recorded.points("victor.error_rate") == {("victor.error_rate",): 1}
        assert in_flight(recorded) == NOBODY


async def test_a_provider_that_fails_and_recovers_for_the_apology_is_no_error_of_the_chat() -> None:
    with model(m=[REFUSED]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            await created.run(ASK)
        assert seen(recorded) == turns("failure") | error("provider", "unknown")


async def test_an_apology_after_a_tool_turn_is_a_failure() -> None:
    scripts = {"m": Script([LOOK, REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert (await created.run(ASK)).success
        refusals = sum(answer.status == 400 for answer in served.answers)
        assert seen(recorded) == turns("failure") | error("provider", "unknown", refusals)


async def test_a_stream_whose_provider_fails_is_a_failure() -> None:
    with model(m=[REFUSED]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert "error" in await listen(created)
        assert seen(recorded) == turns("failure", streams=1) | error("provider", "unknown")
        assert in_flight(recorded) == NOBODY


async def test_a_stream_whose_provider_fails_after_a_tool_turn_is_a_failure() -> None:
    with model(m=[LOOK, REFUSED]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert "error" in await listen(created)
        assert seen(recorded) == turns("failure", streams=1) | error("provider", "unknown")


# Endings that only the chat service itself can bring about.


async def test_an_exception_of_the_chat_itself_is_an_error_of_the_chat() -> None:
    async def stumble(_message: str) -> Any:
        raise LookupError("where was I?")

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            with pytest.raises(LookupError):
                await answer_with(created, stumble).chat(ASK)
            assert seen(recorded) == turns("failure") | error("chat", "LookupError")
            own = stream_with(created, chunk("a"), LookupError())
            with pytest.raises(LookupError):
                [one async for one in own.stream_chat(ASK)]
        assert seen(recorded) == turns("failure", 2, streams=1) | error("chat", "LookupError", 2)
        assert in_flight(recorded) == NOBODY


async def test_a_loop_that_gives_up_by_itself_is_an_error_of_the_chat() -> None:
    async def give_up(_message: str) -> Any:
        return response(agentic_loop_success=False)

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await answer_with(created, give_up).chat(ASK)
            last = chunk("sorry", metadata={"agentic_loop_success": False}, is_final=True)
            own = stream_with(created, last)
            [one async for one in own.stream_chat(ASK)]
        assert seen(recorded) == turns("failure", 2, streams=1) | error("chat", "agentic_loop", 2)


async def test_a_turn_that_times_out_is_a_timeout() -> None:
    from victor.core.errors import ProviderTimeoutError

    async def wait(_message: str) -> Any:
        raise TimeoutError

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            with pytest.raises(TimeoutError):
                await answer_with(created, wait).chat(ASK)
            own = stream_with(created, ProviderTimeoutError("slow", provider="openai"))
            with pytest.raises(ProviderTimeoutError):
                [one async for one in own.stream_chat(ASK)]
        assert seen(recorded) == {
            **turns("timeout", 2, streams=1),
            **error("chat", "TimeoutError"),
            **error("chat", "ProviderTimeoutError"),
        }
        assert recorded.points("victor.error_rate") == {("victor.error_rate",): 1}


async def test_a_cancelled_run_is_in_flight_until_then_and_in_no_ratio() -> None:
    with model(m=[Step(silent=True)]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            running = asyncio.ensure_future(created.run(ASK))
            assert await asyncio.to_thread(served.wait_for_request, "m", 1)
            assert in_flight(recorded) == point(IN_FLIGHT, 1, interface="sdk")
            running.cancel()
            await asyncio.wait([running])
        assert seen(recorded) == turns("cancelled")
        assert recorded.points("victor.error_rate", zeros=True) == {}
        assert in_flight(recorded) == NOBODY


async def test_a_stream_left_early_is_cancelled() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            async with aclosing(created.stream(ASK)) as events:
                async for event in events:
                    if event.type.value == "tool_result":
                        assert in_flight(recorded) == point(IN_FLIGHT, 1, interface="sdk")
                        break
            del events
            # Victor's inner generators are closed by the event loop, later.
            await asyncio.sleep(0.1)
        assert seen(recorded) == turns("cancelled", streams=1)
        assert recorded.points("victor.error_rate", zeros=True) == {}
        assert in_flight(recorded) == NOBODY


async def test_a_stream_dropped_or_cancelled_in_the_middle_is_cancelled() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            stream = stream_with(created, chunk("a"), chunk("b")).stream_chat(ASK)
            await anext(stream)
            del stream
            for _ in range(2):  # the event loop closes it: one step asks, the next one does
                await asyncio.sleep(0)
            assert seen(recorded) == turns("cancelled", streams=1)
            stream = stream_with(created, chunk("a"), asyncio.CancelledError()).stream_chat(ASK)
            await anext(stream)
            with pytest.raises(asyncio.CancelledError):
                await anext(stream)
        assert seen(recorded) == turns("cancelled", 2, streams=2)
        assert in_flight(recorded) == NOBODY


async def test_a_stream_closed_after_its_final_chunk_is_a_success() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            own = stream_with(created, chunk("a", is_final=True), chunk("never"))
            async with aclosing(own.stream_chat(ASK)) as stream:
                assert (await anext(stream)).is_final
        assert seen(recorded) == turns("success", streams=1)


async def test_a_turn_that_its_user_cancelled_is_cancelled() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            own = stream_with(created, chunk("\n[Cancelled by user]\n", is_final=True))
            [one async for one in own.stream_chat(ASK)]
        assert seen(recorded) == turns("cancelled", streams=1)


async def test_a_stream_that_is_never_read_is_no_turn() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await stream_with(created, chunk("a")).stream_chat(ASK).aclose()
        assert seen(recorded) == {}
        assert in_flight(recorded) == NOBODY


# Pauses.


@contextmanager
def governed(*waiting: str) -> Iterator[Any]:
    """A session with policies, whose tools of these names wait for a human."""
    from victor.core.feature_flags import FeatureFlag, disable_feature, is_feature_enabled
    from victor.framework.session_config import ToolApprovalConfig

    before = is_feature_enabled(FeatureFlag.USE_POLICY_ENGINE)
    try:
        yield ToolApprovalConfig(enabled=True, ask_on_tools=waiting, durable=True)
    finally:
        if not before:
            disable_feature(FeatureFlag.USE_POLICY_ENGINE)


async def test_a_turn_that_waits_for_an_approval_is_paused_and_in_no_ratio() -> None:
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    with model(m=[LOOK, ANSWER]) as served, recording() as recorded, governed("ls") as approval:
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        created = await Agent.create(
            session_config=SessionConfig(provider_override=override, tool_approval=approval)
        )
        created.get_orchestrator().console.quiet = True
        try:
            result = await created.run(ASK)
            assert result.status == "awaiting_approval"
        finally:
            await created.close()
        assert seen(recorded) == turns("paused")
        assert recorded.points("victor.error_rate", zeros=True) == {}
        assert recorded.points("victor.tool.executions") == {}
        assert in_flight(recorded) == NOBODY


async def test_a_paused_stream_is_paused() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            own = stream_with(created, chunk("a"), pause())
            with pytest.raises(type(pause())):
                [one async for one in own.stream_chat(ASK)]
        assert seen(recorded) == turns("paused", streams=1)
        assert recorded.points("victor.error_rate", zeros=True) == {}


async def test_a_resumed_turn_is_a_turn_of_its_own() -> None:
    async def execute_turn(_message: str) -> Any:
        return SimpleNamespace(response=response(), has_tool_calls=False)

    with recording() as recorded:
        assert (await resume(Resumable(execute_turn))).final_content == "hi"
        assert seen(recorded) == turns("success", vertical="coding", mode="plan")
        assert in_flight(recorded) == NOBODY


async def test_a_resumed_turn_may_pause_again_and_is_paused_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import victor.agent.paused_run_store as store

    async def execute_turn(_message: str) -> Any:
        raise pause()

    async def stored(*_: Any, **__: Any) -> tuple[str, dict[str, Any]]:
        return "r2", {}

    if hasattr(store, "record_pause_from_approval_async"):
        monkeypatch.setattr(store, "record_pause_from_approval_async", stored)
    monkeypatch.setattr(store, "record_pause_from_approval", lambda *_, **__: ("r2", {}))
    with recording() as recorded:
        assert (await resume(Resumable(execute_turn))).awaiting_run_id == "r2"
        assert seen(recorded) == turns("paused", vertical="coding", mode="plan")
        assert recorded.points("victor.error_rate", zeros=True) == {}


async def test_a_resumption_that_fails_is_a_failure_of_the_chat() -> None:
    """What every real one does on 0.9.5: Victor passes too few arguments to its own method."""

    def add_tool_result(_call_id: str, _name: str, _result: str) -> None: ...

    async def execute_turn(_message: str) -> Any: ...

    with recording() as recorded:
        with pytest.raises(TypeError):
            await resume(Resumable(execute_turn, add_tool_result))
        assert seen(recorded) == {
            **turns("failure", vertical="coding", mode="plan"),
            **error("chat", "TypeError"),
        }


async def test_a_resumption_inside_another_request_is_part_of_it() -> None:
    """As when a turn's own tool resumes what had been parked."""

    async def execute_turn(_message: str) -> Any:
        return SimpleNamespace(response=response(), has_tool_calls=False)

    async def answer(_message: str) -> Any:
        await resume(Resumable(execute_turn))
        return response()

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await answer_with(created, answer).chat(ASK)
        assert recorded.points(REQUESTS) == point(REQUESTS, interface="sdk", status="success")
        assert sum(recorded.points(TURNS).values()) == 2


# Policies.


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_message_that_policies_block_is_a_turn_that_did_what_it_should(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from victor.framework.client import VictorClient
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    class Guarded(SessionConfig):
        def apply_to_settings(self, settings: Any) -> None:
            super().apply_to_settings(settings)
            settings.governance.block_request_patterns = ["secret"]

    with model(m=[LOOK, ANSWER]) as served, recording() as recorded, governed() as governance:
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        client = VictorClient(Guarded(provider_override=override, tool_approval=governance))
        if streamed:
            assert [event async for event in client.stream("Read the secret.")]
        else:
            await client.chat("Read the secret.")
        await client.close()
        assert seen(recorded) == turns("success", streams=int(streamed))
        # Victor 0.9.5 makes its gate and then forgets it.
        blocks = release(importlib.metadata.version("victor-ai")) >= (0, 10)
        assert bool(served.answers) is not blocks
        events = "victor.security.events"
        assert recorded.points(events) == (point(events, kind="message_blocked") if blocks else {})


# Planning.


async def test_chat_with_planning_is_a_turn_that_fails_with_its_plan() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            own = service(created)
            for success in (True, False):

                async def plan(_message: str, success: bool = success) -> Any:
                    return response(planning={"success": success})

                own._planning_handler = plan
                await own.chat_with_planning(ASK, use_planning=True)
                await own.chat(ASK, use_planning=True)
        assert seen(recorded) == {
            **turns("success", 2),
            **turns("failure", 2),
            **point(VERTICALS, 4, vertical="none", mode="build"),
            **error("chat", "agentic_loop", 2),
        }


async def test_chat_with_planning_that_only_chats_is_one_turn() -> None:
    async def answer(_message: str) -> Any:
        return response()

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await answer_with(created, answer).chat_with_planning(ASK, use_planning=False)
        assert seen(recorded) == turns("success")


async def test_a_streamed_plan_that_failed_is_a_failure() -> None:
    async def plan(_message: str) -> Any:
        return response(planning={"success": False})

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            own = service(created)
            own._planning_handler = plan
            [one async for one in own.stream_chat(ASK, use_planning=True)]
        assert seen(recorded) == turns("failure", streams=1) | error("chat", "agentic_loop")


# Labels.


async def test_the_vertical_is_the_one_that_the_agent_has() -> None:
    from victor.core.bootstrap import ensure_bootstrapped

    ensure_bootstrapped()
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m", vertical=own_vertical()) as created:
            await created.run(ASK)
        assert seen(recorded) == turns("success", vertical="gardening")


async def test_a_mode_switched_inside_a_turn_counts_from_the_next_one() -> None:
    from victor.agent.mode_controller import AgentMode

    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            modes = created.get_orchestrator().mode_controller

            async def switch(_message: str) -> Any:
                modes.switch_mode(AgentMode.PLAN)
                return response()

            own = answer_with(created, switch)
            try:
                await own.chat(ASK)
                await own.chat(ASK)
            finally:
                modes.switch_mode(AgentMode.BUILD)
        assert recorded.points(VERTICALS) == {
            **point(VERTICALS, vertical="none", mode="build"),
            **point(VERTICALS, vertical="none", mode="plan"),
        }


# Many at once.


async def test_twenty_agents_at_once_are_twenty_of_everything() -> None:
    script = Script([LOOK, ANSWER, REFUSED], side=REFUSED)
    scripts = {f"m{number}": script for number in range(20)}
    with ScriptedModel(scripts) as served, recording() as recorded:

        async def live(name: str) -> None:
            async with agent(served, name) as created:
                orchestrator = created.get_orchestrator()
                await orchestrator.chat(ASK)
                await orchestrator.chat(ASK)
                stream = stream_with(created, chunk("a"), chunk("b")).stream_chat(ASK)
                await anext(stream)
                await asyncio.sleep(0)
                await stream.aclose()

        await asyncio.gather(*(live(name) for name in scripts))
        refusals = sum(answer.status == 400 for answer in served.answers)
        assert seen(recorded) == {
            **turns("success", 20),
            **turns("failure", 20),
            **turns("cancelled", 20, streams=20),
            **point(VERTICALS, 60, vertical="none", mode="build"),
            **error("provider", "unknown", refusals),
        }
        assert recorded.points("victor.error_rate") == {("victor.error_rate",): 0.5}
        for of_agents in ("victor.user.sessions", "victor.session.duration"):
            assert recorded.points(of_agents) == point(of_agents, 20, interface="sdk")
        assert in_flight(recorded) == NOBODY


async def queued(recorded: Recorded, number: int) -> None:
    """Until so many turns wait; nothing tells when a task has come to a lock."""
    expected = point(QUEUED, number, queue="turn")
    async with asyncio.timeout(10):
        while recorded.points(QUEUED, zeros=True) != expected:
            await asyncio.sleep(0.01)


STREAMS_ONLY = release(importlib.metadata.version("victor-ai")) < (0, 10)
"""Before 0.10 other turns of an agent did not wait for each other."""


@pytest.mark.parametrize("streamed", [True] if STREAMS_ONLY else [True, False])
async def test_turns_that_wait_for_an_earlier_one_of_their_agent_are_queued(streamed: bool) -> None:
    knock, entered, let_in = gate()
    with model(m=[KNOCK, ANSWER] * 3) as served, recording() as recorded:
        assert recorded.points(QUEUED, zeros=True) == {}
        async with agent(served, "m", knock) as created:
            assert recorded.points(QUEUED, zeros=True) == point(QUEUED, 0, queue="turn")
            ask = listen if streamed else created.get_orchestrator().chat
            asked = [asyncio.create_task(ask(created if streamed else ASK)) for _ in range(3)]
            for left in (2, 1, 0):
                await entered.acquire()
                await queued(recorded, left)
                let_in.release()
            await asyncio.gather(*asked)
        assert recorded.points(TURNS) == point(
            TURNS, 3, interface="sdk", vertical="none", status="success"
        )


async def test_a_turn_that_is_cancelled_while_it_waits_is_in_no_queue() -> None:
    knock, entered, let_in = gate()
    with model(m=[KNOCK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m", knock) as created:
            first, second = (asyncio.create_task(listen(created)) for _ in range(2))
            await entered.acquire()
            await queued(recorded, 1)
            second.cancel()
            await asyncio.wait([second])
            assert recorded.points(QUEUED, zeros=True) == point(QUEUED, 0, queue="turn")
            let_in.release()
            await first


# Turns that a turn causes.


async def test_a_sub_agent_takes_a_turn_of_its_own_inside_the_one_request() -> None:
    steps = [DELEGATE, LOOK, ANSWER, ANSWER]
    with model(m=steps) as served, recording() as recorded:
        async with agent(served, "m") as created:
            created.get_orchestrator().tools.register(spawner(created))
            await created.run(ASK)
        assert seen(recorded) == {
            **turns("success", 2, requests=1),
            **point(FEATURES, feature="subagent"),
        }
        initializations = "victor.initialization.duration"
        assert recorded.points(initializations) == point(initializations, status="success")
        assert recorded.points("victor.requests_per_user") == point(
            "victor.requests_per_user", interface="sdk"
        )
        assert in_flight(recorded) == NOBODY


async def test_a_failed_sub_agent_does_not_fail_the_turn_that_got_over_it() -> None:
    steps = [DELEGATE, REFUSED, ANSWER]
    with ScriptedModel({"m": Script(steps, side=REFUSED)}) as served, recording() as recorded:
        async with agent(served, "m") as created:
            created.get_orchestrator().tools.register(spawner(created))
            await created.run(ASK)
        assert recorded.points(REQUESTS) == point(REQUESTS, interface="sdk", status="success")
        by_status = {dict(key[1:])["status"]: n for key, n in recorded.points(TURNS).items()}
        assert by_status == {"success": 1, "failure": 1}
        components = {dict(key[1:])["component"] for key in recorded.points(ERRORS)}
        assert components == {"provider"}


async def test_a_team_is_one_request_in_which_each_member_takes_turns() -> None:
    with model(m=[LOOK, ANSWER, LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            result = await (await team(created, "researcher", "planner")).run()
            assert result.success
        points = seen(recorded)
        assert points == {
            **turns("success", 2, requests=1),
            **point(FEATURES, feature="team"),
            **point(FEATURES, 2, feature="subagent"),
        }
        assert in_flight(recorded) == NOBODY


async def test_a_team_that_its_coordinator_runs_is_one_request_too() -> None:
    """As plans and workflows have it, and applications that Victor tells to."""
    from victor.teams import UnifiedTeamCoordinator

    with model(m=[LOOK, ANSWER, LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            one = await team(created, "researcher", "planner")
            coordinator = UnifiedTeamCoordinator(created.get_orchestrator())
            assert (await coordinator.execute_team_config(one.config)).success
        assert seen(recorded) == {
            **turns("success", 2, requests=1),
            **point(FEATURES, feature="team"),
            **point(FEATURES, 2, feature="subagent"),
        }
        assert recorded.points("victor.requests_per_user") == point(
            "victor.requests_per_user", interface="sdk"
        )
        assert in_flight(recorded) == NOBODY


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_team_whose_member_waits_for_an_approval_is_a_paused_request(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from victor.agent.subagents import SubAgentOrchestrator
    from victor.framework.graph import MemoryCheckpointer

    async def spawn(*_: Any, **__: Any) -> Any:
        waits = {"awaiting_approval": True, "approval_request": {"id": "a"}}
        return SimpleNamespace(success=False, summary="", details=waits)

    monkeypatch.setattr(SubAgentOrchestrator, "spawn", spawn)
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            one = await team(created, "researcher")
            one.config.shared_context["thread_id"] = "t"
            one._coordinator.with_checkpointer(MemoryCheckpointer())
            if streamed:
                [event async for event in one.stream()]
            else:
                await one.run()
            assert not one.result.success
        # Victor 0.9 does not tell the team that its member waits.
        status = "paused" if hasattr(one.result, "status") else "failure"
        assert recorded.points(REQUESTS) == point(REQUESTS, interface="sdk", status=status)


async def test_a_streamed_team_counts_like_one_that_runs() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            events = [event async for event in (await team(created, "researcher")).stream()]
            assert events[-1].metadata["success"]
        assert seen(recorded) == {
            **turns("success"),
            **point(FEATURES, feature="team"),
            **point(FEATURES, feature="subagent"),
        }


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_team_that_failed_is_a_failed_request(streamed: bool) -> None:
    scripts = {"m": Script([REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served, recording() as recorded:
        async with agent(served, "m") as created:
            one = await team(created, "researcher")
            if streamed:
                [event async for event in one.stream()]
            else:
                await one.run()
            assert not one.result.success
        assert recorded.points(REQUESTS) == point(REQUESTS, interface="sdk", status="failure")
