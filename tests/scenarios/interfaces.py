"""The doors through which users come: Victor's HTTP API, MCP server, terminal, and its teams."""

from __future__ import annotations

import asyncio
import io
import sys
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.kit.agents import agent, model
from tests.kit.processes import MCP_SERVER
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall
from victor_otel.victor import shared
from victor_otel.victor.areas import chat, interfaces, sessions
from victor_otel.victor.areas import mcp as mcp_area

ASK = "Read the file and tell me what it says."
LOOK = Step(calls=(ToolCall("ls", {"path": "."}),))
ANSWER = Step("That is all. Task complete.")
REFUSED = Step(status=400)
CHAT = {"messages": [{"role": "user", "content": ASK}]}


def _requested(count: Count, interface: str, status: str, times: int = 1) -> None:
    count.add("victor_requests_total", times, interface=interface, status=status)
    if status in {"success", "failure", "timeout"}:
        count.ratio("victor_error_rate", times * (status != "success"), times)


def _turned(count: Count, interface: str, status: str, times: int = 1) -> None:
    labels = {"interface": interface, "vertical": "none", "status": status}
    count.add("victor_chat_request_duration_seconds_count", times, **labels)


def _messaged(
    count: Count, side: str, method: str, tool: str = "", *, code: str = "", error: str = ""
) -> None:
    count.add(
        f"mcp_{side}_operation_duration_seconds_count",
        mcp_method_name=method,
        gen_ai_operation_name="execute_tool" if tool else "",
        gen_ai_tool_name=tool,
        rpc_response_status_code=code,
        error_type=error,
    )


async def api(count: Count) -> None:
    """Two authenticated clients, a stranger, and a handler that fails."""
    from tests.kit.interfaces import client, server

    scripts = {"m": Script([LOOK, ANSWER, LOOK, ANSWER, REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served:
        victor = server(served, api_keys={"key-1": "ann", "key-2": "bob"})

        @victor.app.get("/gates/{gate}")
        async def knock(gate: str) -> str:
            raise LookupError(gate)

        async with client(victor) as connected:

            async def send(
                method: str, path: str, key: str, template: str = "", **body: Any
            ) -> Any:
                headers = {"Authorization": f"Bearer {key}"}
                began = perf_counter()
                answer = await connected.request(method, path, headers=headers, **body)
                took = perf_counter() - began
                duration = "victor_request_duration_seconds"
                labels = {"method": method, "endpoint": template or path}
                labels["status"] = str(answer.status_code)
                count.add(f"{duration}_count", **labels)
                count.add(f"{duration}_sum", took, within=0.15, **labels)
                return answer

            whole = await send("POST", "/chat", "key-1", json=CHAT)
            assert whole.json()["content"] == ANSWER.text
            assert "[DONE]" in (await send("POST", "/chat/stream", "key-2", json=CHAT)).text
            refused = await send("POST", "/chat", "key-1", json=CHAT)
            assert refused.json()["content"] != ANSWER.text
            for status, times in (("success", 2), ("failure", 1)):
                _requested(count, "api", status, times)
                _turned(count, "api", status, times)
            count.add("victor_feature_usage_total", feature="streaming")
            refusals = sum(answer.status == REFUSED.status for answer in served.answers)
            error = {"component": "provider", "error_type": "unknown"}
            count.add("victor_errors_total", refusals, **error)

            assert (await send("POST", "/chat", "wrong", json=CHAT)).status_code == 401
            assert (await send("GET", "/nowhere", "key-1", "unmatched")).status_code == 404
            assert (await send("POST", "/chat", "key-2", json={"no": 1})).status_code == 422
            _requested(count, "api", "rejected", 3)
            assert (await send("GET", "/modes", "key-2")).status_code == 200
            _requested(count, "api", "success")
            gate = await send("GET", "/gates/secret", "key-2", "/gates/{gate}")
            assert gate.status_code == 500
            _requested(count, "api", "failure")
            count.add("victor_errors_total", component="api", error_type="LookupError")
            assert (await send("GET", "/health", "")).status_code == 200  # no request of a user
    count.set("victor_active_users", 2, interface="api")
    count.add("victor_user_sessions_total", 2, interface="api")
    count.set("victor_requests_in_flight", 0, interface="api")


async def in_flight(count: Count) -> None:
    """Two HTTP requests and a chat turn that have not ended when the numbers are read."""
    from tests.kit.interfaces import client, server

    begun, done = asyncio.Semaphore(0), asyncio.Event()
    served = count.lasting.enter_context(model(m=[Step(silent=True)]))
    victor = server()

    @victor.app.get("/wait")
    async def wait() -> None:
        begun.release()
        await done.wait()

    connected = await count.lasting.enter_async_context(client(victor))
    created = await count.lasting.enter_async_context(agent(served, "m"))
    requests = [asyncio.create_task(connected.get("/wait")) for _ in range(2)]
    turn = asyncio.create_task(created.run(ASK))

    async def finish() -> None:
        done.set()
        turn.cancel()
        await asyncio.wait([turn, *requests])

    count.lasting.push_async_callback(finish)
    for _ in requests:
        await begun.acquire()
    assert await asyncio.to_thread(served.wait_for_request, "m", 1)
    count.set("victor_requests_in_flight", 2, interface="api")
    count.set("victor_requests_in_flight", 1, interface="sdk")


async def mcp(count: Count) -> None:
    """A client of Victor's MCP server, whose tools note that they ran."""
    from victor.tools.decorators import tool

    from tests.kit.interfaces import call, mcp_server, message

    ran: list[str] = []

    @tool
    async def water(plant: str) -> str:
        """Waters.

        Args:
            plant: What to water.
        """
        ran.append(plant)
        if plant == "cactus":
            raise LookupError(plant)
        return f"{plant} is wet"

    served = mcp_server(water, initialized=False)
    assert "error" in await served.handle_message(call("water", plant="fern"))
    _requested(count, "mcp", "rejected")
    _messaged(count, "server", "tools/call", "water", code="-32002")
    for method in ("initialize", "tools/list", "ping"):
        assert "result" in await served.handle_message(message(method))
        _messaged(count, "server", method)
    for tool_name, plant, failed in (
        ("water", "fern", False),
        ("water", "moss", False),
        ("water", "cactus", True),
        ("no_such_tool", "fern", True),
    ):
        answer = await served.handle_message(call(tool_name, plant=plant))
        assert answer["result"]["isError"] is failed
        _requested(count, "mcp", "failure" if failed else "success")
        named = tool_name if tool_name == "water" else "unknown"
        _messaged(count, "server", "tools/call", named, error="tool_error" if failed else "")
    assert set(ran) == {"fern", "moss", "cactus"}
    count.add("victor_feature_usage_total", 5, feature="mcp")
    count.add("victor_user_sessions_total", interface="mcp")
    count.set("victor_active_users", 1, interface="mcp")
    with mock.patch("sys.stdin", io.StringIO()):  # its client has nothing more to say
        await served.start_stdio_server()
    count.add("victor_session_duration_seconds_count", interface="mcp")
    count.add("victor_requests_per_user_count", interface="mcp")
    count.add("victor_requests_per_user_sum", 5, interface="mcp")
    count.add("mcp_server_session_duration_seconds_count")


async def mcp_client(count: Count) -> None:
    """Victor's client, and a real server in a process of its own."""
    from victor.integrations.mcp.client import MCPClient

    client = MCPClient()
    assert await client.connect([sys.executable, "-c", MCP_SERVER])
    assert {tool.name for tool in client.tools} == {"water", "dig"}
    for method in ("initialize", "tools/list", "resources/list"):
        _messaged(count, "client", method)
    assert (await client.call_tool("water", plant="fern")).success
    _messaged(count, "client", "tools/call", "water")
    for tool, named in (("dig", "dig"), ("no_such_tool", "unknown")):
        assert not (await client.call_tool(tool, place="here")).success
        _messaged(count, "client", "tools/call", named, error="tool_error")
    assert await client.read_resource("file:///nowhere") is None
    _messaged(count, "client", "resources/read", code="-32001", error="-32001")
    assert await client.ping()
    _messaged(count, "client", "ping")
    count.add("victor_feature_usage_total", 3, feature="mcp")
    await client.close()
    count.add("mcp_client_session_duration_seconds_count")


async def request_rate(count: Count) -> None:
    """Pings and calls of an MCP server; only the calls are requests."""
    from tests.kit.interfaces import call, mcp_server, message

    served = mcp_server()
    requests = 30
    for _ in range(requests):
        await served.handle_message(message("ping"))
        await served.handle_message(call("no_such_tool"))

    def rate() -> float:
        return requests / max(1.0, perf_counter() - count.began)

    count.set_by("victor_request_rate", rate, within=0.1 * requests)


async def terminal(count: Count) -> None:
    """Victor's own program, with and without its full screen, and its slash commands."""
    from rich.console import Console
    from victor.ui.slash.handler import SlashCommandHandler
    from victor.ui.tui.app import VictorTUIApp

    program = mock.patch.object(sys, "argv", ["/usr/local/bin/victor", "chat"])
    with program, model(m=[LOOK, ANSWER] * 2) as served:
        for interface in ("cli", "tui"):
            async with agent(served, "m") as created:
                if interface == "cli":
                    await created.run(ASK)
                else:
                    screen = VictorTUIApp(client=None, agent=created, settings=None)

                    async def use(
                        _pilot: Any, screen: Any = screen, created: Any = created
                    ) -> None:
                        await created.run(ASK)
                        screen.exit()

                    await screen.run_async(headless=True, auto_pilot=use)
            _requested(count, interface, "success")
            _turned(count, interface, "success")
            count.add("victor_user_sessions_total", interface=interface)
            count.add("victor_session_duration_seconds_count", interface=interface)
            count.add("victor_requests_per_user_count", interface=interface)
            count.add("victor_requests_per_user_sum", interface=interface)
            count.set("victor_active_users", 1, interface=interface)
    handler = SlashCommandHandler(Console(quiet=True), SimpleNamespace(), None)
    for command in ("/help", "/help", "/no-such-command"):
        assert await handler.execute(command)
    count.add("victor_feature_usage_total", 2, feature="slash_command")


async def teams(count: Count) -> None:
    """A team of two, and a turn whose model calls a sub-agent: one request each."""
    from tests.kit.chat import DELEGATE, spawner, team

    scripts = {"leader": [LOOK, ANSWER] * 2, "chief": [DELEGATE, LOOK, ANSWER, ANSWER]}
    with model(**scripts) as served:
        async with agent(served, "leader") as created:
            assert (await (await team(created, "researcher", "planner")).run()).success
        async with agent(served, "chief") as created:
            created.get_orchestrator().tools.register(spawner(created))
            assert (await created.run(ASK)).content == ANSWER.text
        assert all(served.requests(name) == len(steps) for name, steps in scripts.items())
    _requested(count, "sdk", "success", 2)
    _turned(count, "sdk", "success", 4)
    count.add("victor_vertical_usage_total", 4, vertical="none", mode="build")
    count.add("victor_feature_usage_total", feature="team")
    count.add("victor_feature_usage_total", 3, feature="subagent")
    count.add("victor_user_sessions_total", 2, interface="sdk")
    count.add("victor_requests_per_user_count", 2, interface="sdk")
    count.add("victor_requests_per_user_sum", 2, interface="sdk")


_REQUESTS = (shared.REQUESTS, shared.ERROR_RATE)
_SESSIONS = (sessions.STARTED, sessions.ACTIVE_USERS)
_SERVER = ("fastapi", "httpx")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=api,
        needs=_SERVER,
        proves=(
            *_REQUESTS,
            *_SESSIONS,
            chat.DURATION,
            interfaces.REQUEST_DURATION,
            shared.ERRORS,
            shared.FEATURES,
        ),
    ),
    Scenario(run=in_flight, needs=_SERVER, proves=(shared.REQUESTS_IN_FLIGHT,)),
    Scenario(
        run=mcp,
        needs=_SERVER,
        proves=(
            *_REQUESTS,
            *_SESSIONS,
            *(sessions.DURATION, sessions.REQUESTS_PER_USER, sessions.MCP_SERVER_SESSION),
            *(shared.FEATURES, mcp_area.SERVER_DURATION),
        ),
    ),
    Scenario(
        run=mcp_client, proves=(shared.FEATURES, mcp_area.CLIENT_DURATION, mcp_area.CLIENT_SESSION)
    ),
    Scenario(run=request_rate, needs=_SERVER, proves=(shared.REQUEST_RATE,), alone=True),
    Scenario(
        run=terminal,
        needs=("textual",),
        proves=(
            *_REQUESTS,
            *_SESSIONS,
            chat.DURATION,
            sessions.DURATION,
            sessions.REQUESTS_PER_USER,
            shared.FEATURES,
        ),
    ),
    Scenario(
        run=teams,
        proves=(
            *_REQUESTS,
            chat.DURATION,
            chat.VERTICAL_USAGE,
            sessions.STARTED,
            sessions.REQUESTS_PER_USER,
            shared.FEATURES,
        ),
    ),
)
