"""Sessions and users: whose life counts, from when to when, and what is in it."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model, process_ends, recording
from victor_otel.demo.script import Step, ToolCall
from victor_otel.engine.asgi import Response
from victor_otel.model.operation import Context, Operation
from victor_otel.runtime import RUNTIME
from victor_otel.victor.areas import interfaces, sessions
from victor_otel.victor.operations import REQUEST, Turn

ASK = "Read the file and tell me what it says."
LOOK = Step(calls=(ToolCall("ls", {"path": "."}),))
ANSWER = Step("That is all. Task complete.")

STARTED, DURATION = "victor.user.sessions", "victor.session.duration"
SERVED = "mcp.server.session.duration"
PER_USER, USERS = "victor.requests_per_user", "victor.active_users"
CREATIONS, ERRORS = "victor.initialization.duration", "victor.errors"

Points = dict[tuple[Any, ...], float]


def point(name: str, value: float = 1, **labels: str) -> Points:
    return {(name, *sorted(labels.items())): value}


def started(value: float = 1, interface: str = "sdk") -> Points:
    return point(STARTED, value, interface=interface)


def ended(value: float = 1, interface: str = "sdk") -> Points:
    return {
        **point(DURATION, value, interface=interface),
        **point(PER_USER, value, interface=interface),
    }


def seen(recorded: Recorded) -> Points:
    return recorded.points(STARTED, DURATION, PER_USER)


def total(recorded: Recorded, name: str) -> float:
    """The sum of a histogram, all labels together."""
    data = recorded.reader.get_metrics_data()
    return sum(
        point.sum
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time that sessions see."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(sessions, "perf_counter", lambda: now.seconds)
    return now


# Agents.


async def test_an_agents_life_is_a_session_and_ends_once() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            assert seen(recorded) == started()
            orchestrator = created.get_orchestrator()
            await created.run(ASK)
            await orchestrator.chat("Say hi.")
            await created.close()
            assert seen(recorded) == started() | ended()
        await orchestrator.shutdown()
        await orchestrator.graceful_shutdown()
        assert seen(recorded) == started() | ended()
        assert total(recorded, PER_USER) == 2
        assert 0 < total(recorded, DURATION) < 60


async def test_a_session_without_a_request_has_none() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m"):
            pass
        assert seen(recorded) == started() | ended()
        assert total(recorded, PER_USER) == 0
        assert recorded.points(USERS) == {}


async def test_a_graceful_shutdown_ends_a_session_as_well() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m") as created:
            await created.get_orchestrator().graceful_shutdown()
            assert seen(recorded) == started() | ended()
        assert seen(recorded) == started() | ended()


async def test_an_agent_that_is_dropped_without_being_closed_ends_its_session() -> None:
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    with model() as served, recording() as recorded:
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        created = await Agent.create(session_config=SessionConfig(provider_override=override))
        orchestrator: Any = created.get_orchestrator()
        assert seen(recorded) == started()
        del created
        gc.collect()
        assert seen(recorded) == started() | ended()
        await orchestrator.shutdown()
        assert seen(recorded) == started() | ended()


async def test_what_the_process_leaves_open_ends_with_it() -> None:
    with model() as served, recording() as recorded:
        async with agent(served, "m"):
            process_ends()
            assert seen(recorded) == started() | ended()
        assert seen(recorded) == started() | ended()


async def test_sessions_of_several_agents_do_not_mix() -> None:
    scripts = {f"m{number}": [LOOK, ANSWER] for number in range(3)}
    with model(**scripts) as served, recording() as recorded:

        async def live(number: int) -> None:
            async with agent(served, f"m{number}") as created:
                for _ in range(number):
                    await created.get_orchestrator().chat(ASK)

        await asyncio.gather(*(live(number) for number in range(3)))
        assert seen(recorded) == started(3) | ended(3)
        assert total(recorded, PER_USER) == 3
        assert recorded.points(USERS) == point(USERS, 1, interface="sdk")


async def test_a_sub_agent_begins_no_session_and_no_initialization() -> None:
    from victor.agent.subagents import SubAgentOrchestrator, SubAgentRole

    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            helpers = SubAgentOrchestrator(created.get_orchestrator())
            assert (await helpers.spawn(SubAgentRole.RESEARCHER, ASK)).success
            assert seen(recorded) == started()
        assert seen(recorded) == started() | ended()
        assert recorded.points(CREATIONS) == point(CREATIONS, status="success")


async def test_a_team_is_a_request_in_the_session_of_the_agent_that_it_belongs_to() -> None:
    from victor.framework.teams import AgentTeam, TeamMemberSpec

    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            team = await AgentTeam.create(
                orchestrator=created.get_orchestrator(),
                name="garden",
                goal=ASK,
                members=[TeamMemberSpec(role="researcher", goal=ASK)],
            )
            await team.run()
        assert seen(recorded) == started() | ended()
        assert total(recorded, PER_USER) == 1


async def test_an_agent_that_cannot_be_made_is_a_failed_initialization_and_no_session() -> None:
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    with recording() as recorded:
        override = ProviderOverrideConfig(provider="no-such-provider", model="m")
        with pytest.raises(Exception, match="no-such-provider"):
            await Agent.create(session_config=SessionConfig(provider_override=override))
        assert seen(recorded) == {}
        assert recorded.points(CREATIONS) == point(CREATIONS, status="failure")
        errors = recorded.points(ERRORS)
        assert [(dict(key[1:])["component"], n) for key, n in errors.items()] == [("agent", 1)]


async def test_an_agent_whose_making_is_cancelled_is_a_cancelled_initialization(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from victor.framework import Agent
    from victor.framework.agent_factory import AgentFactory

    async def create(self: Any) -> Any:
        await asyncio.sleep(30)

    monkeypatch.setattr(AgentFactory, "create", create)
    with recording() as recorded:
        running = asyncio.ensure_future(Agent.create())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.wait([running])
        assert recorded.points(CREATIONS, ERRORS) == point(CREATIONS, status="cancelled")


async def test_a_session_in_the_terminal_interface_is_the_tuis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Victor makes the agent first and chooses the surface afterwards."""
    textual = pytest.importorskip("textual.app")
    from victor.ui.tui.app import VictorTUIApp

    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/victor", "chat"])
    with model(m=[LOOK, ANSWER]) as served:

        async def run_async(self: Any) -> None:
            await self._agent.run(ASK)

        monkeypatch.setattr(textual.App, "run_async", run_async)
        with recording() as recorded:
            async with agent(served, "m") as created:
                await VictorTUIApp(client=None, agent=created, settings=None).run_async()
            assert seen(recorded) == started(interface="tui") | ended(interface="tui")
            assert recorded.points(USERS) == point(USERS, 1, interface="tui")


async def test_a_session_that_begins_on_the_screen_is_the_tuis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Newer versions show the screen first; the agent is made there, in a task of its own."""
    pytest.importorskip("textual")
    from victor.framework.client import VictorClient
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    from victor.ui.tui.app import VictorTUIApp

    if "bootstrap" not in inspect.signature(VictorTUIApp.__init__).parameters:
        return
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/victor", "chat"])
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        client = VictorClient(SessionConfig(provider_override=override))
        ready = asyncio.Event()

        async def bootstrap() -> Any:
            created = await client.initialize()
            await created.run(ASK)
            ready.set()
            return created

        async def leave(pilot: Any) -> None:
            await ready.wait()
            pilot.app.exit()

        app = VictorTUIApp(client=client, settings=None, bootstrap=bootstrap)
        async with asyncio.timeout(60):
            await app.run_async(headless=True, auto_pilot=leave)
        await client.close()
        assert seen(recorded) == started(interface="tui") | ended(interface="tui")
        assert recorded.points(USERS) == point(USERS, 1, interface="tui")


async def test_the_web_chat_has_a_session_for_each_browser_and_no_number_of_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`victor ui` has Chainlit run its application, with a client for each browser."""
    from victor.framework.client import VictorClient
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    from victor.ui.commands.ui import _APP_PATH

    monkeypatch.setattr(sys, "argv", ["/lib/chainlit/__main__.py", "run", str(_APP_PATH)])
    with model(m=[LOOK, ANSWER, LOOK, ANSWER]) as served, recording() as recorded:
        override = ProviderOverrideConfig(provider="openai", model="m", endpoint=served.url)
        for _ in range(2):
            browser = VictorClient(SessionConfig(provider_override=override))
            assert [event async for event in browser.stream(ASK)]
            await browser.close()
        assert seen(recorded) == started(2, interface="web") | ended(2, interface="web")
        assert recorded.points(USERS, zeros=True) == {}


# MCP servers.


def mcp_server() -> Any:
    from victor.integrations.mcp.server import MCPServer
    from victor.tools.registry import ToolRegistry

    return MCPServer(tool_registry=ToolRegistry())


def message(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}


async def test_an_mcp_session_lasts_from_the_first_message_to_the_servers_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with recording() as recorded:
        served = mcp_server()
        assert seen(recorded) == {}
        lines = [b'{"jsonrpc": "2.0", "id": "1", "method": "initialize", "params": {}}\n', b""]
        during: list[Points] = []

        async def readline() -> bytes:
            during.append(seen(recorded))
            return lines.pop(0)

        async def setup(_self: Any) -> Any:
            return SimpleNamespace(readline=readline), None

        async def write(_self: Any, _writer: Any, _response: Any) -> None: ...

        monkeypatch.setattr(type(served), "_setup_async_stdio", setup)
        monkeypatch.setattr(type(served), "_write_response", write)
        await served.start_stdio_server()
        assert during == [{}, started(interface="mcp")]
        assert seen(recorded) == started(interface="mcp") | ended(interface="mcp")
        assert total(recorded, PER_USER) == 0
        assert recorded.points(SERVED) == point(SERVED)
        assert total(recorded, SERVED) == total(recorded, DURATION)


async def test_an_mcp_session_that_is_still_open_ends_with_the_process() -> None:
    with recording() as recorded:
        served = mcp_server()
        for _ in range(2):
            await served.handle_message(message("initialize"))
            await served.handle_message(message("tools/call", name="no-such-tool", arguments={}))
        assert seen(recorded) == started(interface="mcp")
        process_ends()
        assert seen(recorded) == started(interface="mcp") | ended(interface="mcp")
        assert total(recorded, PER_USER) == 2


async def test_a_first_message_that_is_a_request_counts_in_its_session() -> None:
    with recording() as recorded:
        served = mcp_server()
        await served.handle_message(message("tools/call", name="x", arguments={}))
        process_ends()
        assert total(recorded, PER_USER) == 1


# Clients of the API, as requests that ended at a moment.


@pytest.fixture
def api() -> Iterator[Any]:
    """`api(client, moment)` has a request of a client end; None is an unauthenticated one."""
    with recording() as recorded:
        running = RUNTIME.instrumentation
        assert running is not None
        state: sessions.Sessions = running._states["sessions"]

        def request(client: str | None, ended_at: float, *, through: str = "key") -> None:
            one = Operation(REQUEST, None, 1, object(), ended_at - 1)
            one.context, one.ended = Context(interface="api"), ended_at
            if through == "key":
                one.tell("client", client)
            else:
                one.tell("turn", Turn(status="success", seconds=1.0, user=client))
            one.result = Response(status=200, finished=True)
            one.facts = interfaces.read_api_request(one)
            state.observe_request(one, running.record)

        request.recorded = recorded  # type: ignore[attr-defined]
        request.close = running.close  # type: ignore[attr-defined]
        yield request


def test_gaps_of_less_than_half_an_hour_are_one_session(api: Any, clock: Any) -> None:
    for moment in (1000, 1000 + 29 * 60, 1000 + 58 * 60):
        api("ann", moment)
    assert seen(api.recorded) == started(interface="api")
    api("ann", 1000 + 89 * 60)
    assert seen(api.recorded) == started(2, "api") | ended(1, "api")
    assert total(api.recorded, DURATION) == 58 * 60 + 1
    assert total(api.recorded, PER_USER) == 3


def test_each_client_has_a_session_of_its_own(api: Any, clock: Any) -> None:
    api("ann", 1000)
    api("bob", 1000)
    api("ann", 1100, through="turn")  # a WebSocket has no key, but an attributed turn
    api.close()
    assert seen(api.recorded) == started(2, "api") | ended(2, "api")
    assert total(api.recorded, DURATION) == 101 + 1
    assert total(api.recorded, PER_USER) == 3


def test_the_session_of_a_client_that_stays_away_ends_with_anothers_request(
    api: Any, clock: Any
) -> None:
    api("ann", 1000)
    api("bob", 1000 + 31 * 60)
    assert seen(api.recorded) == started(2, "api") | ended(1, "api")


def test_sessions_of_the_api_are_bounded_and_the_idlest_ends_first(
    api: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_CLIENTS", 2)
    api("ann", 1000)
    api("bob", 1001)
    api("ann", 1002)
    api("cid", 1003)
    api("dan", 1004)  # by now one has to go: bob was seen longest ago
    assert total(api.recorded, PER_USER) == 1
    assert total(api.recorded, DURATION) == 1
    api("ann", 1005)
    assert recorded_users(api) <= 2


def recorded_users(api: Any) -> float:
    return api.recorded.points(USERS)[USERS, ("interface", "api")]


def test_requests_of_nobody_are_in_no_session_and_no_user(api: Any, clock: Any) -> None:
    api(None, 1000)
    api(None, 1000, through="turn")
    api.close()
    assert api.recorded.points(STARTED, DURATION, PER_USER, USERS, zeros=False) == {}


def test_a_user_is_active_for_a_quarter_of_an_hour(api: Any, clock: Any) -> None:
    clock.seconds = 1000
    api("ann", 1000)
    api("bob", 1000)
    api("bob", 1000 + 10 * 60)
    assert recorded_users(api) == 2
    clock.seconds = 1000 + 16 * 60
    assert recorded_users(api) == 1
    clock.seconds = 1000 + 26 * 60
    assert api.recorded.points(USERS, zeros=True) == point(USERS, 0, interface="api")


def test_no_label_tells_who_a_user_is(api: Any, clock: Any) -> None:
    api("ann-the-secret-client", 1000)
    api.close()
    assert "secret" not in str(api.recorded.points(zeros=True))
