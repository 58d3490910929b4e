"""The doors: HTTP API, its WebSocket, the MCP server, the terminal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.interfaces import (
    ASK,
    CHAT,
    Points,
    call,
    client,
    connect,
    mcp_server,
    message,
    own_tools,
    point,
    server,
    websocket,
)
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall

pytest.importorskip("fastapi")
ClientDisconnect = pytest.importorskip("starlette.requests").ClientDisconnect

LOOK = Step(calls=(ToolCall("ls", {"path": "."}),))
ANSWER = Step("That is all. Task complete.")
REFUSED = Step(status=400)

HTTP, REQUESTS = "victor.request.duration", "victor.requests"
TURNS, VERTICALS = "victor.chat.request.duration", "victor.vertical.usage"
ERRORS, FEATURES = "victor.errors", "victor.feature.usage"
USERS, SESSIONS = "victor.active_users", "victor.user.sessions"
IN_FLIGHT = "victor.requests_in_flight"


def http(endpoint: str, status: int, method: str = "POST", value: float = 1) -> Points:
    return point(HTTP, value, endpoint=endpoint, status=str(status), method=method)


def request(status: str, value: float = 1, interface: str = "api") -> Points:
    return point(REQUESTS, value, interface=interface, status=status)


def turn(status: str, value: float = 1) -> Points:
    return point(TURNS, value, interface="api", vertical="none", status=status)


def seen(recorded: Recorded, *more: str) -> Points:
    return recorded.points(HTTP, REQUESTS, TURNS, ERRORS, *more)


# Requests that run a chat turn.


async def test_a_chat_over_http_is_one_request_with_the_status_of_its_turn() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with client(server(served)) as api:
            answer = await api.post("/chat", json=CHAT)
            assert "complete" in answer.json()["content"]
        assert seen(recorded) == {**http("/chat", 200), **request("success"), **turn("success")}
        assert recorded.points("victor.error_rate", zeros=True) == {("victor.error_rate",): 0}
        in_flight = recorded.points(IN_FLIGHT, zeros=True)
        assert in_flight == {
            **point(IN_FLIGHT, 0, interface="api"),
            **point(IN_FLIGHT, 0, interface="sdk"),
        }


async def test_a_chat_that_answers_200_although_its_provider_failed_is_a_failure() -> None:
    scripts = {"m": Script([REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served, recording() as recorded:
        async with client(server(served)) as api:
            assert (await api.post("/chat", json=CHAT)).status_code == 200
            events = (await api.post("/chat/stream", json=CHAT)).text
            assert events.rstrip().endswith("[DONE]")
        points = seen(recorded)
        refusals = len(served.answers)
        assert points == {
            **http("/chat", 200),
            **http("/chat/stream", 200),
            **request("failure", 2),
            **turn("failure", 2),
            **point(ERRORS, refusals, component="provider", error_type="unknown"),
        }
        assert recorded.points("victor.error_rate") == {("victor.error_rate",): 1}


async def test_a_streamed_chat_lasts_until_its_end() -> None:
    with model(m=[LOOK, Step("All done.", delay=0.3)]) as served, recording() as recorded:
        api = server(served)
        async with client(api):
            sent = await connect(api.app, "/chat/stream")
        assert b"[DONE]" in sent.body
        assert seen(recorded, FEATURES) == {
            **http("/chat/stream", 200),
            **request("success"),
            **turn("success"),
            **point(FEATURES, feature="streaming"),
        }
        data = recorded.reader.get_metrics_data()
        duration = next(
            point.sum
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == HTTP
            for point in metric.data.data_points
        )
        assert duration > 0.3


async def test_a_chat_of_an_agent_that_cannot_be_made_is_one_failure_and_one_error() -> None:
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig

    with recording() as recorded:
        api = server()
        override = ProviderOverrideConfig(provider="no-such-provider", model="m")
        await api.update_session_config(SessionConfig(provider_override=override))
        async with client(api) as connected:
            assert (await connected.post("/chat", json=CHAT)).status_code == 500
        points = seen(recorded)
        errors = {key: n for key, n in points.items() if key[0] == ERRORS}
        assert {**http("/chat", 500), **request("failure"), **errors} == points
        assert [(dict(key[1:])["component"], n) for key, n in errors.items()] == [("agent", 1)]


# A client that leaves, which httpx's transport cannot do.


async def test_a_client_that_leaves_a_stream_is_499_and_cancels_its_turn() -> None:
    with model(m=[LOOK, Step("All done.", delay=0.4)]) as served, recording() as recorded:
        api = server(served)
        async with client(api):
            sent = await connect(api.app, "/chat/stream", leave_after=b"request_id")
            assert b"[DONE]" not in sent.body
            await asyncio.sleep(0.1)
        assert seen(recorded) == {
            **http("/chat/stream", 499),
            **request("cancelled"),
            **turn("cancelled"),
        }
        assert recorded.points("victor.error_rate", zeros=True) == {}
        assert not any(recorded.points(IN_FLIGHT, zeros=True).values())


async def test_a_client_whose_leaving_only_sending_tells_is_499() -> None:
    """Servers that speak ASGI 2.4 raise it from `send`; Starlette makes its own exception of it."""
    from starlette.responses import StreamingResponse

    async def words() -> AsyncIterator[str]:
        for word in ("one", "two", "three"):
            yield word

    with recording() as recorded:
        api = server()

        @api.app.get("/words")
        async def spoken() -> StreamingResponse:
            return StreamingResponse(words())

        async with client(api):
            with pytest.raises(ClientDisconnect):
                await connect(
                    api.app, "/words", method="GET", leave_after=b"one", spec_version="2.4"
                )
        assert seen(recorded) == {**http("/words", 499, "GET"), **request("cancelled")}


async def test_a_client_that_leaves_after_the_end_has_had_its_answer() -> None:
    with recording() as recorded:
        api = server()
        async with client(api):
            await connect(api.app, "/modes", method="GET", leave_after=b"}")
        assert seen(recorded) == {**http("/modes", 200, "GET"), **request("success")}


async def test_a_client_whose_request_is_cancelled_by_its_server_is_499() -> None:
    with model(m=[Step(silent=True)]) as served, recording() as recorded:
        api = server(served)
        async with client(api):
            running = asyncio.ensure_future(connect(api.app, "/chat"))
            assert await asyncio.to_thread(served.wait_for_request, "m", 1)
            flying = recorded.points(IN_FLIGHT)
            running.cancel()
            await asyncio.wait([running])
        assert flying == point(IN_FLIGHT, 1, interface="api")
        assert seen(recorded) == {**http("/chat", 499), **request("cancelled"), **turn("cancelled")}
        assert not any(recorded.points(IN_FLIGHT, zeros=True).values())


# Requests that run none.


async def test_a_page_that_does_not_exist_is_unmatched_and_rejected() -> None:
    from victor.integrations.api.fastapi_server import create_fastapi_app

    with recording() as recorded:
        api = SimpleNamespace(app=create_fastapi_app(), _victor_client=None)
        async with client(api) as connected:
            for path in ("/wp-login.php", "/no/such/page"):
                assert (await connected.get(path)).status_code == 404
        assert seen(recorded) == {**http("unmatched", 404, "GET", 2), **request("rejected", 2)}
        assert recorded.points("victor.error_rate", zeros=True) == {}


async def test_probes_documentation_and_options_are_no_requests_but_are_timed() -> None:
    with model(m=[ANSWER]) as served, recording() as recorded:
        async with client(server(served)) as api:
            for path in ("/health", "/status", "/docs", "/redoc", "/openapi.json"):
                assert (await api.get(path)).status_code == 200, path
            await api.options("/chat")
        assert seen(recorded, USERS, SESSIONS) == {
            **http("/chat", 405, "OPTIONS"),
            **http("/health", 200, "GET"),
            **http("/status", 200, "GET"),
            **http("/docs", 200, "GET"),
            **http("/redoc", 200, "GET"),
            **http("/openapi.json", 200, "GET"),
        }


async def test_the_endpoint_is_the_template_of_the_route_and_not_its_path() -> None:
    with recording() as recorded:
        async with client(server()) as api:
            for plan in ("secret-plan", "another"):
                await api.get(f"/plans/{plan}")
        endpoints = {dict(key[1:])["endpoint"]: n for key, n in recorded.points(HTTP).items()}
        assert endpoints == {"/plans/{plan_id}": 2}


async def test_a_handler_that_raises_is_a_failure_and_an_error_of_the_api() -> None:
    with recording() as recorded:
        api = server()

        @api.app.get("/boom/{name}")
        async def boom(name: str) -> None:
            raise LookupError(name)

        @api.app.get("/sorry")
        async def sorry() -> Any:
            from fastapi.responses import JSONResponse

            return JSONResponse({}, status_code=503)

        async with client(api) as connected:
            assert (await connected.get("/boom/x")).status_code == 500
            assert (await connected.get("/sorry")).status_code == 503
        assert seen(recorded) == {
            **http("/boom/{name}", 500, "GET"),
            **http("/sorry", 503, "GET"),
            **request("failure", 2),
            **point(ERRORS, component="api", error_type="LookupError"),
            **point(ERRORS, component="api", error_type="503"),
        }


async def test_an_unknown_method_is_other() -> None:
    with recording() as recorded:
        async with client(server()) as api:
            await api.request("BREW", "/chat")
        assert seen(recorded) == {**http("/chat", 405, "other"), **request("rejected")}


async def test_a_request_that_is_not_valid_is_rejected() -> None:
    with recording() as recorded:
        async with client(server()) as api:
            assert (await api.post("/chat", json={"messages": []})).status_code == 400
            assert (await api.post("/chat", json={"nonsense": 1})).status_code == 422
        assert seen(recorded) == {
            **http("/chat", 400),
            **http("/chat", 422),
            **request("rejected", 2),
        }


# Authentication.


async def test_a_request_without_a_valid_key_is_rejected_and_nobodys() -> None:
    with recording() as recorded:
        api = server(api_keys={"key": "someone"})
        async with client(api, "wrong") as connected:
            assert (await connected.post("/chat", json=CHAT)).status_code == 401
            assert (await connected.post("/chat/stream", json=CHAT)).status_code == 401
        assert seen(recorded, USERS, SESSIONS) == {
            **http("/chat", 401),
            **http("/chat/stream", 401),
            **request("rejected", 2),
        }


async def test_users_and_sessions_of_the_api_are_its_authenticated_clients() -> None:
    with model(m=[LOOK, ANSWER, LOOK, ANSWER, LOOK, ANSWER]) as served, recording() as recorded:
        api = server(served, api_keys={"k1": "ann", "k2": "bob"})
        async with client(api, "k1") as ann:
            await ann.post("/chat", json=CHAT)
            await ann.post("/chat/stream", json=CHAT)
            headers = {"Authorization": "Bearer k2"}
            await ann.post("/chat", json=CHAT, headers=headers)
            assert recorded.points(REQUESTS, USERS, SESSIONS) == {
                **request("success", 3),
                **point(USERS, 2, interface="api"),
                **point(SESSIONS, 2, interface="api"),
            }
        # The server's own agent is nobody's session.
        assert recorded.points("victor.session.duration") == {}


async def test_without_authentication_the_api_has_neither_users_nor_sessions() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with client(server(served)) as api:
            await api.post("/chat", json=CHAT)
        assert recorded.points(USERS, SESSIONS, "victor.session.duration", zeros=False) == {}


# WebSockets.


async def test_a_chat_over_a_websocket_is_a_request_through_the_api() -> None:
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        api = server(served, api_keys={"k1": "ann"})
        async with client(api):
            answers = await websocket(
                api.app,
                {"type": "auth", "api_key": "k1"},
                {"type": "chat", "messages": CHAT["messages"]},
                {"type": "ping"},
            )
        assert answers[-2:] == [{"type": "done"}, {"type": "pong"}]
        assert seen(recorded, USERS, SESSIONS) == {
            **request("success"),
            **turn("success"),
            **point(USERS, 1, interface="api"),
            **point(SESSIONS, 1, interface="api"),
        }


async def test_a_turn_that_a_request_started_in_the_background_came_through_the_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It outlives its request, and is still nobody's on a server without authentication."""
    with recording() as recorded, model() as served:
        async with agent(served, "m") as created:
            from victor.providers.base import StreamChunk

            async def answer(_message: str, **_: Any) -> AsyncIterator[Any]:
                yield StreamChunk(content="hi")

            own = created.get_orchestrator()._chat_service
            own._stream_chat_handler = answer
            api = server()
            started: list[asyncio.Task[Any]] = []

            async def work() -> None:
                await asyncio.sleep(0.05)  # the request is over by then
                [chunk async for chunk in own.stream_chat(ASK)]

            @api.app.post("/later")
            async def later() -> None:
                started.append(asyncio.create_task(work()))

            async with client(api) as connected:
                await connected.post("/later")
                await asyncio.gather(*started)
            assert recorded.points(TURNS, USERS) == turn("success")


# MCP.


async def test_a_tool_call_over_mcp_is_a_request_that_succeeds_or_fails_with_its_tool() -> None:
    with recording() as recorded:
        served = mcp_server(*own_tools(), initialized=False)
        await served.handle_message(message("initialize"))
        await served.handle_message(message("tools/list"))
        await served.handle_message(message("ping"))
        assert recorded.points(REQUESTS, FEATURES) == {}
        assert not (await served.handle_message(call("water", plant="fern")))["result"]["isError"]
        assert (await served.handle_message(call("dig", place="here")))["result"]["isError"]
        assert (await served.handle_message(call("no_such_tool")))["result"]["isError"]
        assert recorded.points(REQUESTS, FEATURES, USERS, SESSIONS) == {
            **request("success", interface="mcp"),
            **request("failure", 2, interface="mcp"),
            **point(FEATURES, 3, feature="mcp"),
            **point(USERS, 1, interface="mcp"),
            **point(SESSIONS, 1, interface="mcp"),
        }
        components = {dict(key[1:])["component"] for key in recorded.points(ERRORS)}
        assert components == {"tool"}
        executions = recorded.points("victor.tool.executions")
        assert {(dict(k[1:])["tool"], dict(k[1:])["status"]): n for k, n in executions.items()} == {
            ("water", "success"): 1,
            ("dig", "failure"): 1,
        }
        in_flight = recorded.points(IN_FLIGHT, zeros=True)
        assert in_flight[IN_FLIGHT, ("interface", "mcp")] == 0


async def test_a_tool_call_that_the_caller_got_wrong_is_rejected() -> None:
    with recording() as recorded:
        served = mcp_server(*own_tools(), initialized=False)
        assert "error" in await served.handle_message(call("water", plant="fern"))
        served.initialized = True
        assert "error" in await served.handle_message(call(None))
        assert recorded.points(REQUESTS, ERRORS) == request("rejected", 2, interface="mcp")
        assert recorded.points("victor.error_rate", zeros=True) == {}


async def test_a_tool_call_that_the_server_cannot_make_is_an_error_of_mcp() -> None:
    with recording() as recorded:
        served = mcp_server(*own_tools())
        answer = await served.handle_message(call("water", name="fern"))
        assert answer["error"]["code"] == -32603
        assert recorded.points(REQUESTS, ERRORS) == {
            **request("failure", interface="mcp"),
            **point(ERRORS, component="mcp", error_type="-32603"),
        }


async def test_a_chat_turn_behind_an_mcp_tool_decides_its_request() -> None:
    from victor.tools.decorators import tool

    scripts = {"m": Script([REFUSED], side=REFUSED)}
    with ScriptedModel(scripts) as served, recording() as recorded:
        async with agent(served, "m") as created:

            @tool
            async def ask(question: str) -> str:
                """Asks an agent.

                Args:
                    question: What to ask.
                """
                return (await created.run(question)).content

            await mcp_server(ask).handle_message(call("ask", question=ASK))
        assert recorded.points(REQUESTS, TURNS) == {
            **request("failure", interface="mcp"),
            **point(TURNS, interface="mcp", vertical="none", status="failure"),
        }


async def test_a_call_to_another_mcp_server_is_a_use_of_mcp() -> None:
    from victor.integrations.mcp.client import MCPClient

    with recording() as recorded:
        answer = await MCPClient().call_tool("water", plant="fern")
        assert not answer.success
        assert recorded.points(FEATURES) == point(FEATURES, feature="mcp")


# The terminal.


async def test_a_turn_in_the_terminal_interface_is_the_tuis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    textual = pytest.importorskip("textual.app")
    from victor.ui.tui.app import VictorTUIApp

    with model(m=[LOOK, ANSWER]) as served:

        async def run_async(self: Any) -> None:
            await asyncio.create_task(self._agent.run(ASK))  # as its workers do

        monkeypatch.setattr(textual.App, "run_async", run_async)
        with recording() as recorded:
            async with agent(served, "m") as created:
                await VictorTUIApp(client=None, agent=created, settings=None).run_async()
                await created.get_orchestrator().chat("Say hi.")
            interfaces = {dict(k[1:])["interface"]: n for k, n in recorded.points(TURNS).items()}
            assert interfaces == {"tui": 1, "sdk": 1}


async def test_a_turn_in_victors_own_program_is_the_clis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/victor", "chat"])
    with model(m=[LOOK, ANSWER]) as served, recording() as recorded:
        async with agent(served, "m") as created:
            await created.run(ASK)
        assert recorded.points(REQUESTS, SESSIONS, USERS, "victor.requests_per_user") == {
            **request("success", interface="cli"),
            **point(SESSIONS, interface="cli"),
            **point(USERS, interface="cli"),
            **point("victor.requests_per_user", interface="cli"),
        }
